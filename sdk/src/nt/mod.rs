//! What extensions know of the kernel, one file a subsystem. Everything here reads through a [`Session`] and asks the
//! kernel's symbols where things are; nothing prints.
//!
//! Memory of a dump is not to be believed: walks are bounded, find loops, poll the interrupt, and end with an error
//! that says what was refused.
//!
//! [`Session`]: crate::session::Session

pub mod bare;
pub mod clock;
pub mod directory;
pub mod error_log;
pub mod handle;
pub mod hardware;
pub mod heap;
pub mod heap_blocks;
pub mod io;
pub mod irp;
pub mod job;
pub mod kernel;
pub mod list;
pub mod lock;
pub mod memory;
pub mod object;
pub mod pagefile;
pub mod pfn;
pub mod pool;
pub mod prcb;
pub mod process;
pub mod processor;
pub mod pte;
pub mod ready;
pub mod region;
pub mod salvage;
pub mod section;
pub mod shared_data;
pub mod status;
pub mod string;
pub mod thread;
pub mod time;
pub mod timer;
pub mod token;
pub mod tree;
pub mod va_space;
pub mod vad;
pub mod wait;

use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::Session;

/// What to do about missing symbols, where anything can be done.
pub fn how_to_get_symbols(session: &Session<'_>) -> &'static str {
    match session.target().module(0) {
        Some(_) => "set a symbol path (.sympath srv*CACHE*SERVER) and .reload",
        None => "the list of modules is not captured in this dump, so that no symbols can be found",
    }
}

/// The address of a variable of the kernel: by its symbol, or by the field of KDDEBUGGER_DATA64 at `kd_offset`.
///
/// # Errors
/// Where neither tells; the text says how to get symbols.
pub fn variable(session: &Session<'_>, name: &str, kd_offset: Option<u32>) -> Result<Va> {
    match session.symbols().find(&format!("nt!{name}")) {
        Ok(va) => Ok(va),
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(_) => kd_offset.and_then(|offset| told(session, offset)).ok_or_else(|| {
            if session.target().holds_no_memory() {
                return Error::Unsupported(format!(
                    "nt!{name} is not captured in this dump: it holds no memory"
                ));
            }
            let how = how_to_get_symbols(session);
            Error::NoSymbols(format!("nt!{name} is not in the kernel's symbols; {how}"))
        }),
    }
}

/// The address of a variable that stands in the debugger data block.
pub fn told(session: &Session<'_>, kd_offset: u32) -> Option<Va> {
    // The block of 32-bit systems extends addresses by their sign.
    let mask = if session.target().pointer_size() == 4 { 0xffff_ffff } else { u64::MAX };
    let va = Va(session.target().kd_data(kd_offset)? & mask);
    session.target().is_kernel(va).then_some(va)
}

/// What a variable as wide as a pointer holds.
///
/// # Errors
/// As for [`variable`], and where it cannot be read.
pub fn pointer_variable(session: &Session<'_>, name: &str, kd_offset: Option<u32>) -> Result<Va> {
    session.memory().pointer(variable(session, name, kd_offset)?)
}

/// The pointer in an `_EX_FAST_REF`: its low bits count references.
pub fn fast_ref(value: u64, pointer_size: u32) -> Va {
    Va(value & if pointer_size == 4 { !7 } else { !0xf })
}
