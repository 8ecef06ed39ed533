//! Extensions: finding, loading and running the dynamic libraries that hold the `!` commands.
//!
//! ```text
//! path ─► loader ─► chain          which library answers to a word
//!                    └► worker ─► bridge    its command on a thread of its own, the host's services behind a table
//! ```

mod bridge;
pub mod chain;
mod elf;
pub mod events;
pub mod loader;
pub mod path;
pub mod worker;
