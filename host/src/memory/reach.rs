//! The frames that an address range needs: those that are mapped, and the page tables that map them.

use kd_sdk::address::{PAGE_SIZE, Pa, Pfn, Va};

use super::fault::Level;
use super::paging::{Entries, PageTables};
use crate::dump::{Frames, PhysicalMemory};

/// Walks of one call; tables that fold into themselves have no end.
const MOST_WALKS: u64 = 1 << 28;
/// Walks between two questions whether to go on.
const STRIDE: u64 = 0x400;

/// Adds the frames of the dump that the addresses from `first` to `last` are mapped to, and their tables. False if
/// `go_on` said so or there were more than anybody can wait for.
pub fn reach(
    tables: &PageTables,
    physical: &dyn PhysicalMemory,
    (first, last): (Va, Va),
    frames: &mut Frames,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> bool {
    let mut at = first;
    for walks in 0..MOST_WALKS {
        if walks % STRIDE == 0 && !go_on(frames.count()) {
            return false;
        }
        let next = match tables.walk(physical, at) {
            Ok(found) => {
                add_tables(physical, &found.entries, frames);
                let size = found.page_size.max(PAGE_SIZE);
                let page = Pa(found.pa.0 & !(size - 1)).pfn().0;
                for frame in page..page.saturating_add(size / PAGE_SIZE) {
                    add(physical, Pfn(frame), frames);
                }
                (at.0 & !(size - 1)).checked_add(size).map(Va)
            }
            Err(fault) => {
                add_tables(physical, &fault.entries, frames);
                tables.end_of_hole(at, &fault)
            }
        };
        match next.filter(|next| *next <= last) {
            Some(next) => at = next,
            None => return true,
        }
    }
    false
}

fn add_tables(physical: &dyn PhysicalMemory, entries: &Entries, frames: &mut Frames) {
    // A prototype stands at a virtual address, which is mapped itself.
    for entry in entries.iter().filter(|entry| entry.level != Level::Prototype) {
        add(physical, Pa(entry.at).pfn(), frames);
    }
}

fn add(physical: &dyn PhysicalMemory, frame: Pfn, frames: &mut Frames) {
    if !frames.contains(frame) && physical.page(frame).is_ok() {
        frames.insert(frame);
    }
}
