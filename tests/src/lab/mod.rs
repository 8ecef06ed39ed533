//! Systems made by code.
//!
//! [`layout`] is the table of Windows generations, [`memory`] and [`paging`] are the machine, [`image`] makes drivers,
//! [`world`] puts a crashed system together, [`pdb`] makes its symbols and [`writer`] its dump files.

pub mod bytes;
pub mod cpu;
pub mod image;
pub mod kdbg;
pub mod kernels;
pub mod layout;
pub mod memory;
pub mod paging;
pub mod pdb;
mod stack;
pub mod world;
pub mod writer;
