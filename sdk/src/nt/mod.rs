//! What extensions know of the kernel, one file a subsystem. Everything here reads through a [`Session`] and asks the
//! kernel's symbols where things are; nothing prints.
//!
//! Memory of a dump is not to be believed: walks are bounded, find loops, poll the interrupt, and end with an error
//! that says what was refused.
//!
//! [`Session`]: crate::session::Session

pub mod heap;
pub mod list;
pub mod memory;
pub mod object;
pub mod pagefile;
pub mod pfn;
pub mod pool;
pub mod section;
pub mod string;
pub mod time;
pub mod tree;

use crate::address::Va;

/// The pointer in an `_EX_FAST_REF`: its low bits count references.
pub fn fast_ref(value: u64, pointer_size: u32) -> Va {
    Va(value & if pointer_size == 4 { !7 } else { !0xf })
}
