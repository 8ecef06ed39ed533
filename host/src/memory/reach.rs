//! What an address range is mapped to, table by table.
//!
//! The same table may be reached at many addresses: through the entry by which page tables map themselves, and in dumps
//! that were made to mislead, through tables that fold into each other. What lies below a table is the same each time, so
//! it is visited once for each level that the table is used at. That bounds the walk by the dump's size.

use std::collections::HashMap;

use kd_sdk::address::{PAGE_SIZE, Pa, Pfn, Va};

use super::fault::Level;
use super::paging::{Entries, PageTables, Translation};
use crate::dump::{Frames, PhysicalMemory};

/// Walks between two questions whether to go on.
const STRIDE: u64 = 0x400;

/// Gives every page that is mapped from `first` to `last` to `page`, and the entries that lead to each page and to each
/// hole to `entries`. False if `go_on` or `page` said so.
fn each_mapped(
    tables: &PageTables,
    physical: &dyn PhysicalMemory,
    (first, last): (Va, Va),
    entries: &mut dyn FnMut(&Entries),
    page: &mut dyn FnMut(Va, &Translation) -> bool,
    go_on: &mut dyn FnMut() -> bool,
) -> bool {
    let mut seen: HashMap<(Level, Pfn), u64> = HashMap::new();
    // Where a table was met before, the address behind all that it covers here.
    let mut behind = |at: Va, walked: &Entries| {
        let own = walked.iter().filter(|entry| entry.level != Level::Prototype);
        for entry in own {
            let size = tables.table_size(entry.level);
            let start = at.0 & !(size - 1);
            if *seen.entry((entry.level, Pa(entry.at).pfn())).or_insert(start) != start {
                return Some(start.checked_add(size).map(Va));
            }
        }
        None
    };
    let mut at = first;
    for walks in 0u64.. {
        if walks % STRIDE == 0 && !go_on() {
            return false;
        }
        let next = match tables.walk(physical, at) {
            Ok(found) => match behind(at, &found.entries) {
                Some(next) => next,
                None => {
                    entries(&found.entries);
                    if !page(at, &found) {
                        return false;
                    }
                    let size = found.page_size.max(PAGE_SIZE);
                    (at.0 & !(size - 1)).checked_add(size).map(Va)
                }
            },
            Err(fault) => match behind(at, &fault.entries) {
                Some(next) => next,
                None => {
                    entries(&fault.entries);
                    tables.end_of_hole(at, &fault)
                }
            },
        };
        match next.filter(|next| at < *next && *next <= last) {
            Some(next) => at = next,
            None => return true,
        }
    }
    true
}

/// Gives the pages of 4 KiB from `first` to `last` that are mapped and in the dump to `visit`: the address and the bytes.
/// False if `go_on` or `visit` said so.
pub fn each_page(
    tables: &PageTables,
    physical: &dyn PhysicalMemory,
    range: (Va, Va),
    visit: &mut dyn FnMut(Va, &[u8]) -> bool,
    go_on: &mut dyn FnMut() -> bool,
) -> bool {
    let mut page = |at: Va, found: &Translation| {
        // A large page is many; the first may not be the first of the range.
        let size = found.page_size.max(PAGE_SIZE);
        let left = (size - (at.0 & (size - 1))).div_ceil(PAGE_SIZE);
        (0..left).all(|index| {
            let (va, frame) = (at.0.checked_add(index * PAGE_SIZE), found.pa.pfn().0 + index);
            match (va.filter(|va| *va <= range.1.0), physical.page(Pfn(frame))) {
                (Some(va), Ok(bytes)) => visit(Va(va & !(PAGE_SIZE - 1)), &bytes),
                _ => true,
            }
        })
    };
    each_mapped(tables, physical, range, &mut |_| {}, &mut page, go_on)
}

/// Adds the frames of the dump that a range is mapped to, and the tables that map it. False if `go_on`, which is told
/// how many there are, said so.
pub fn reach(
    tables: &PageTables,
    physical: &dyn PhysicalMemory,
    range: (Va, Va),
    frames: &mut Frames,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> bool {
    let frames = std::cell::RefCell::new(frames);
    let add = |frame: Pfn| {
        let mut frames = frames.borrow_mut();
        if !frames.contains(frame) && physical.page(frame).is_ok() {
            frames.insert(frame);
        }
    };
    // A prototype stands at a virtual address, which is mapped itself.
    let mut entries = |walked: &Entries| {
        let own = walked.iter().filter(|entry| entry.level != Level::Prototype);
        own.for_each(|entry| add(Pa(entry.at).pfn()));
    };
    let mut page = |_: Va, found: &Translation| {
        let size = found.page_size.max(PAGE_SIZE);
        let first = Pa(found.pa.0 & !(size - 1)).pfn().0;
        (first..first.saturating_add(size / PAGE_SIZE)).for_each(|frame| add(Pfn(frame)));
        true
    };
    each_mapped(tables, physical, range, &mut entries, &mut page, &mut || go_on(frames.borrow().count()))
}
