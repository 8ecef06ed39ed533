//! What extensions know of the kernel, one file a subsystem. Everything here reads through a [`Session`] and asks the
//! kernel's symbols where things are; nothing prints.
//!
//! Memory of a dump is not to be believed: walks are bounded, find loops, poll the interrupt, and end with an error
//! that says what was refused.
//!
//! [`Session`]: crate::session::Session

pub mod bare;
pub mod clock;
pub mod handle;
pub mod irp;
pub mod job;
pub mod kernel;
pub mod list;
pub mod object;
pub mod process;
pub mod ready;
pub mod string;
pub mod thread;
pub mod time;
pub mod token;
pub mod tree;
pub mod vad;
pub mod wait;

use crate::address::Va;

/// The pointer in an `_EX_FAST_REF`: its low bits count references.
pub fn fast_ref(value: u64, pointer_size: u32) -> Va {
    Va(value & if pointer_size == 4 { !7 } else { !0xf })
}
