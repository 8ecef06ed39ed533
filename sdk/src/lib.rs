//! Everything the author of a kd extension sees.
//!
//! An extension is a dynamic library that exports one symbol and holds a set of `!` commands. A whole one:
//!
//! ```
//! use kd_sdk::prelude::*;
//!
//! kd_command! {
//!     name: "where",
//!     summary: "Name the module that holds an address",
//!     usage: "ADDRESS",
//!     run: where_is,
//! }
//!
//! fn where_is(session: &Session<'_>, args: &str) -> Result<()> {
//!     let va = session.evaluate(args)?;
//!     let place = session.symbols().at(Va(va))?;
//!     session.out().line(&place.to_string());
//!     Ok(())
//! }
//!
//! export_extension! { summary: "Where is it?" }
//! # fn main() {}
//! ```
//!
//! `sdk/README.md` is the author's guide: the ABI rules, lifetimes, versions, and the same tables for C.
//! [`abi`] holds the tables that cross the boundary; nothing above it is needed to write an extension.

pub mod abi;
pub mod address;
pub mod args;
pub mod code;
pub mod command;
pub mod error;
pub mod memory;
pub mod nt;
pub mod output;
pub mod session;
pub mod stacks;
pub mod symbols;
pub mod target;
pub mod types;

#[doc(hidden)]
pub use inventory;

/// The examples of the author's guide compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Guide;

/// What nearly every extension uses.
pub mod prelude {
    pub use crate::address::{Pa, Pfn, Va};
    pub use crate::args::Args;
    pub use crate::error::{Error, Result};
    pub use crate::output::{Column, Out, Style, Value};
    pub use crate::session::Session;
    pub use crate::{export_extension, kd_command};
}
