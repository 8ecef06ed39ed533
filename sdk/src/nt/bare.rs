//! Processes and threads without the kernel's symbols: what the debugger data block alone allows.
//!
//! KDDEBUGGER_DATA64 tells the head of the list, the size of an EPROCESS and the offsets of a few of its fields, but
//! not where the list's links are. Those follow from what is known to be a process, the current one: of all links in
//! the list exactly one lies inside of it. In every version of Windows the process id stands right before the links.

use super::salvage;
use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::Session;

const SIZE_EPROCESS: u32 = 0x2a8;
const OFFSET_PEB: u32 = 0x2aa;
const OFFSET_PARENT: u32 = 0x2ac;
const OFFSET_DIRECTORY_TABLE_BASE: u32 = 0x2ae;

const OFFSET_THREAD_PROCESSOR: u32 = 0x298;
const OFFSET_THREAD_TEB: u32 = 0x29a;
const OFFSET_THREAD_KERNEL_STACK: u32 = 0x29c;
const OFFSET_THREAD_INITIAL_STACK: u32 = 0x29e;
const OFFSET_THREAD_PROCESS: u32 = 0x2a0;
const OFFSET_THREAD_STATE: u32 = 0x2a2;

/// A thread as the debugger data block lets it be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BareThread {
    /// The ETHREAD.
    pub at: Va,
    /// The process whose address space it uses.
    pub process: Result<u64>,
    /// Its TEB.
    pub teb: Result<u64>,
    /// `_KTHREAD.State`.
    pub state: Result<u64>,
    /// The processor that it runs on, or ran on last; one byte of it.
    pub processor: Result<u64>,
    /// Where its kernel stack begins.
    pub stack_init: Result<u64>,
    /// The saved stack pointer.
    pub stack_current: Result<u64>,
}

/// A process as the debugger data block lets it be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BareProcess {
    /// The EPROCESS.
    pub at: Va,
    /// Process id.
    pub id: Result<u64>,
    /// Process id of the creator.
    pub parent: Result<u64>,
    /// Its PEB.
    pub peb: Result<u64>,
    /// The root of its page tables.
    pub directory_table_base: Result<u64>,
}

/// Offset of `ActiveProcessLinks`, found by a process that is known.
fn links_offset(links: &[Va], known: &[Va], size: u64) -> Option<u64> {
    known.iter().find_map(|process| {
        let mut inside =
            links.iter().filter_map(|link| link.0.checked_sub(process.0)).filter(|&at| at < size);
        match (inside.next(), inside.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    })
}

/// All processes, and what was not followed in their list.
///
/// # Errors
/// Where the dump holds too little of the debugger data block, of the list, or of the current process.
pub fn processes(session: &Session<'_>) -> Result<(Vec<BareProcess>, Vec<String>)> {
    let target = session.target();
    let head = target.info().ps_active_process_head;
    let size = target.kd_data_offset(SIZE_EPROCESS).filter(|_| head != 0).ok_or_else(|| {
        Error::NoSymbols("the debugger data block does not tell the size of a process either".to_owned())
    })?;
    let mask = if target.pointer_size() == 4 { 0xffff_ffff } else { u64::MAX };
    let found = salvage::ring(session.memory(), Va(head & mask), 0, |_| None)?;
    let (links, problems) = (found.entries, found.problems);
    let processors = (0..target.info().processors).filter_map(|number| target.processor(number));
    let known: Vec<Va> = processors.map(|processor| Va(processor.current_process & mask)).collect();
    let Some(offset) = links_offset(&links, &known, size) else {
        return Err(Error::NotFound(
            "no current process is in the list, so its links cannot be told from its other fields".to_owned(),
        ));
    };
    let pointer = u64::from(target.pointer_size());
    let found = links.iter().map(|link| {
        let id = session.memory().pointer(Va(link.0.wrapping_sub(pointer)));
        BareProcess { id: id.map(|id| id.0), ..process(session, Va(link.0.wrapping_sub(offset))) }
    });
    Ok((found.collect(), problems))
}

/// The thread at an address.
pub fn thread(session: &Session<'_>, at: Va) -> BareThread {
    let place = |field: u32| {
        let untold = || Error::NoSymbols("the debugger data block does not tell where".to_owned());
        session.target().kd_data_offset(field).map(|offset| at.add(offset)).ok_or_else(untold)
    };
    let pointer = |field: u32| place(field).and_then(|va| session.memory().pointer(va)).map(|value| value.0);
    let byte = |field: u32| place(field).and_then(|va| session.memory().u8(va)).map(u64::from);
    BareThread {
        at,
        process: pointer(OFFSET_THREAD_PROCESS),
        teb: pointer(OFFSET_THREAD_TEB),
        state: byte(OFFSET_THREAD_STATE),
        processor: byte(OFFSET_THREAD_PROCESSOR),
        stack_init: pointer(OFFSET_THREAD_INITIAL_STACK),
        stack_current: pointer(OFFSET_THREAD_KERNEL_STACK),
    }
}

/// The process at an address, without its id.
pub fn process(session: &Session<'_>, at: Va) -> BareProcess {
    let target = session.target();
    let untold = || Error::NoSymbols("the debugger data block does not tell where".to_owned());
    let field = |place: u32| {
        let offset = target.kd_data_offset(place).ok_or_else(untold)?;
        session.memory().pointer(at.add(offset)).map(|value| value.0)
    };
    BareProcess {
        at,
        id: Err(untold()),
        parent: field(OFFSET_PARENT),
        peb: field(OFFSET_PEB),
        directory_table_base: field(OFFSET_DIRECTORY_TABLE_BASE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_process_tells_where_links_are() {
        let links = [0x1448, 0x2448, 0x9448].map(Va);
        assert_eq!(links_offset(&links, &[Va(0x7000), Va(0x2000)], 0xa40), Some(0x448));
        // Two links inside: no telling which.
        assert_eq!(links_offset(&[Va(0x2448), Va(0x2500)], &[Va(0x2000)], 0xa40), None);
        assert_eq!(links_offset(&links, &[], 0xa40), None);
    }
}
