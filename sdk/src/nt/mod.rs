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

/// The address of a variable of the kernel: by its symbol, or by the field of KDDEBUGGER_DATA64 at `kd_offset`.
///
/// # Errors
/// Where neither tells; the text says how to get symbols.
pub fn variable(session: &Session<'_>, symbol: &str, kd_offset: u32) -> Result<Va> {
    match session.symbols().find(symbol) {
        Ok(va) => Ok(va),
        Err(Error::Interrupted) => Err(Error::Interrupted),
        // The block of 32-bit systems extends addresses by their sign.
        Err(_) => match session.target().kd_data(kd_offset) {
            Some(va) if session.target().pointer_size() == 4 => Ok(Va(va & 0xffff_ffff)),
            Some(va) => Ok(Va(va)),
            None if session.target().holds_no_memory() => {
                Err(Error::Unsupported(format!("{symbol} is not captured in this dump: it holds no memory")))
            }
            None => Err(Error::NoSymbols(format!(
                "neither the kernel's symbols nor the debugger data block say where {symbol} is: set .sympath, then \
                 .reload nt"
            ))),
        },
    }
}

/// The pointer in an `_EX_FAST_REF`: its low bits count references.
pub fn fast_ref(value: u64, pointer_size: u32) -> Va {
    Va(value & if pointer_size == 4 { !7 } else { !0xf })
}
