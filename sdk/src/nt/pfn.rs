//! The PFN database: an `_MMPFN` for every frame of physical memory.
//!
//! What stands where in an entry comes from the kernel's types, bit fields included: 32-bit and PAE, 64-bit before and
//! after Windows 10, arm64. The database has holes where the machine has no memory, so it is walked along the runs of
//! `MmPhysicalMemoryBlock`.

use super::memory::{self, Counter};
use crate::abi::FieldInfo;
use crate::address::{Pfn, Va};
use crate::error::{Absent, Error, Result};
use crate::session::Session;
use crate::types::Type;

/// Bytes of the database that are read at once.
const CHUNK: usize = 1 << 20;
/// The most runs of physical memory.
const MOST_RUNS: u64 = 1024;
/// Frames that a machine can have: 52 bits of physical address.
const MOST_FRAMES: u64 = 1 << 40;
/// Where KDDEBUGGER_DATA64 holds the addresses of these variables.
const KD_PFN_DATABASE: u32 = 0xc0;
const KD_PHYSICAL_MEMORY_BLOCK: u32 = 0x270;

/// The sort of a page that a program manages itself (AWE).
pub const MANAGED: u64 = 1;

/// Where a frame is, in the order of `_MMLISTS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum State {
    /// Nobody's, filled with zeros.
    Zeroed,
    /// Nobody's.
    Free,
    /// Taken from working sets; its contents are also on disk.
    Standby,
    /// Taken from working sets; to be written.
    Modified,
    /// The same, and its file system holds the write back.
    ModifiedNoWrite,
    /// Broken memory.
    Bad,
    /// In a working set, or nonpaged.
    Active,
    /// In no working set and on no list: held by a transfer.
    Transition,
}

impl State {
    /// Every state, by its number.
    pub const ALL: [State; 8] = [
        State::Zeroed,
        State::Free,
        State::Standby,
        State::Modified,
        State::ModifiedNoWrite,
        State::Bad,
        State::Active,
        State::Transition,
    ];

    /// As `!pfn` names it.
    pub fn name(self) -> &'static str {
        match self {
            State::Zeroed => "Zeroed",
            State::Free => "Free",
            State::Standby => "Standby",
            State::Modified => "Modified",
            State::ModifiedNoWrite => "ModifiedNoWrite",
            State::Bad => "Bad",
            State::Active => "Active",
            State::Transition => "Transition",
        }
    }
}

/// Where a number stands in an entry. Works on bytes alone, so that any thread can use it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// First of the 8 bytes that hold it.
    at: usize,
    shift: u32,
    mask: u64,
}

impl Slot {
    /// The place of a field in a structure of `size` bytes, at least 8.
    fn new(field: &FieldInfo, size: usize) -> Option<Slot> {
        let offset = usize::try_from(field.offset).ok()?;
        let at = offset.min(size.checked_sub(8)?);
        let bits = match field.bit_length {
            0 => u32::try_from(field.size.checked_mul(8)?).ok()?,
            bits => bits,
        };
        let shift = u32::try_from((offset - at) * 8).ok()?.checked_add(field.bit_position)?;
        (bits > 0 && u64::from(shift) + u64::from(bits) <= 64).then(|| Slot {
            at,
            shift,
            mask: u64::MAX >> (64 - bits),
        })
    }

    /// The number in an entry; 0 where the entry is too short.
    #[inline]
    pub fn get(&self, entry: &[u8]) -> u64 {
        let bytes = entry.get(self.at..self.at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, |bytes| u64::from_le_bytes(bytes) >> self.shift & self.mask)
    }
}

/// Where the fields of an entry are. Fields that this version of Windows does not have are `None`.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Bytes of an entry.
    pub size: usize,
    /// Which list it is on: [`State`].
    pub location: Slot,
    /// Written to since it was read from disk.
    pub modified: Slot,
    /// References by transfers and the working set.
    pub references: Slot,
    /// Page table entries that map it.
    pub share: Slot,
    /// The next frame of its list.
    pub flink: Slot,
    /// The frame before it in its list.
    pub blink: Slot,
    /// The entry that describes it: of the page tables, or a prototype.
    pub pte: Slot,
    /// What that entry will be when the frame is taken.
    pub original: Slot,
    /// The frame that holds that entry.
    pub containing: Slot,
    /// The entry is a prototype.
    pub prototype: Slot,
    /// The rest is only shown.
    pub priority: Option<Slot>,
    /// 0 not cached, 1 cached, 2 write combined, 3 not mapped.
    pub cache: Option<Slot>,
    /// Its colour.
    pub color: Option<Slot>,
    /// A program manages it itself.
    pub window: Option<Slot>,
    /// What sort of page it is, since Windows 8: [`MANAGED`].
    pub identity: Option<Slot>,
    /// Part of a large page; what maps it is told in the entry of that page's first frame.
    pub resident: Option<Slot>,
    /// Being read.
    pub reading: Option<Slot>,
    /// Being written.
    pub writing: Option<Slot>,
    /// Reading it failed.
    pub page_error: Option<Slot>,
    /// Commitment for it was charged to the system.
    pub charged: Option<Slot>,
    /// Used entries of the page table that it holds.
    pub used_entries: Option<Slot>,
}

/// A frame as its entry tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the fields of [`Layout`]
pub struct Frame {
    pub pfn: Pfn,
    pub state: Option<State>,
    pub modified: bool,
    pub references: u64,
    pub share: u64,
    pub flink: u64,
    pub blink: u64,
    pub pte: Va,
    pub original: u64,
    pub containing: Pfn,
    pub prototype: bool,
    pub priority: Option<u64>,
    pub cache: Option<u64>,
    pub color: Option<u64>,
    pub reading: bool,
    pub writing: bool,
    pub page_error: bool,
    pub used_entries: Option<u64>,
    pub resident: bool,
}

impl Layout {
    /// From the kernel's types.
    ///
    /// # Errors
    /// Where they are missing, or an entry cannot be what they say.
    pub fn of(of: &Type<'_>) -> Result<Layout> {
        let size = usize::try_from(of.size()).unwrap_or(0);
        if !(16..=0x100).contains(&size) {
            return Err(Error::NoSymbols(format!(
                "{} of {size} bytes is no entry of a PFN database",
                of.name()
            )));
        }
        let find = |paths: &[&str]| paths.iter().find_map(|path| Slot::new(&of.field(path)?, size));
        let need = |paths: &[&str]| {
            find(paths)
                .ok_or_else(|| Error::NoSymbols(format!("{} has no field {}", of.name(), paths.join(" or "))))
        };
        // Links are only shown.
        let link = |paths: &[&str]| find(paths).unwrap_or(Slot { at: 0, shift: 0, mask: 0 });
        Ok(Layout {
            size,
            location: need(&["u3.e1.PageLocation"])?,
            modified: need(&["u3.e1.Modified"])?,
            references: need(&["u3.e2.ReferenceCount", "u3.ReferenceCount"])?,
            share: need(&["u2.ShareCount"])?,
            flink: link(&["u1.Flink"]),
            blink: link(&["u2.Blink"]),
            pte: need(&["PteAddress"])?,
            original: need(&["OriginalPte.u.Long", "OriginalPte"])?,
            containing: need(&["u4.PteFrame"])?,
            prototype: need(&["u4.PrototypePte", "u3.e1.PrototypePte"])?,
            priority: find(&["u3.e3.Priority", "u3.e1.Priority"]),
            cache: find(&["u3.e1.CacheAttribute"]),
            color: find(&["u4.PageColor", "u3.e1.PageColor"]),
            window: find(&["u4.AweAllocation"]),
            identity: find(&["u4.PageIdentity"]),
            resident: find(&["u4.ResidentPage"]),
            reading: find(&["u3.e1.ReadInProgress"]),
            writing: find(&["u3.e1.WriteInProgress"]),
            page_error: find(&["u3.e3.InPageError", "u3.e1.InPageError", "u4.InPageError"]),
            charged: find(&["u3.e3.SystemChargedPage", "u4.LockCharged"]),
            used_entries: find(&["UsedPageTableEntries"]),
        })
    }

    /// The state of a frame; `None` for numbers that are none.
    #[inline]
    pub fn state(&self, entry: &[u8]) -> Option<State> {
        State::ALL.get(self.location.get(entry) as usize).copied()
    }

    /// Everything an entry tells.
    pub fn parse(&self, pfn: Pfn, entry: &[u8]) -> Frame {
        let maybe = |slot: Option<Slot>| slot.map(|slot| slot.get(entry));
        let bit = |slot: Option<Slot>| maybe(slot).is_some_and(|value| value != 0);
        Frame {
            pfn,
            state: self.state(entry),
            modified: self.modified.get(entry) != 0,
            references: self.references.get(entry),
            share: self.share.get(entry),
            flink: self.flink.get(entry),
            blink: self.blink.get(entry),
            pte: self.pte_of(entry),
            original: self.original.get(entry),
            containing: Pfn(self.containing.get(entry)),
            prototype: self.prototype.get(entry) != 0,
            priority: maybe(self.priority),
            cache: maybe(self.cache),
            color: maybe(self.color),
            reading: bit(self.reading),
            writing: bit(self.writing),
            page_error: bit(self.page_error),
            used_entries: maybe(self.used_entries),
            resident: bit(self.resident),
        }
    }

    /// The address of the entry that describes the frame. Its lowest bit is a lock; its highest is a mark of the memory
    /// manager's own since Windows 10, where it always is one of the kernel's.
    #[inline]
    pub fn pte_of(&self, entry: &[u8]) -> Va {
        let stored = self.pte.get(entry) & !3;
        Va(if stored >> 48 == 0x7fff { stored | 1 << 63 } else { stored })
    }

    /// True for a frame that a program manages itself.
    #[inline]
    pub fn is_managed(&self, entry: &[u8]) -> bool {
        self.window.is_some_and(|slot| slot.get(entry) != 0)
            || self.identity.is_some_and(|slot| slot.get(entry) == MANAGED)
    }
}

/// The database of the session's target.
pub struct Database<'a> {
    session: &'a Session<'a>,
    /// The entry of frame 0.
    pub base: Va,
    /// What an entry looks like.
    pub layout: Layout,
    /// The machine's memory: first frame and number of frames, ascending.
    pub runs: Vec<(Pfn, u64)>,
}

/// A part of a scan.
pub enum Part<'b> {
    /// Entries, one after the other.
    Entries(Pfn, &'b [u8]),
    /// So many entries that could not be read, and why.
    Missing(Pfn, u64, Absent),
}

impl<'a> Database<'a> {
    /// Finds the database.
    ///
    /// # Errors
    /// Where symbols are missing, or the dump holds none of it.
    pub fn open(session: &'a Session<'a>) -> Result<Database<'a>> {
        let layout = Layout::of(&memory::kernel_type(session, "_MMPFN")?)?;
        let base = super::pointer_variable(session, "MmPfnDatabase", Some(KD_PFN_DATABASE))?;
        if !session.target().is_kernel(base) {
            return Err(Error::Other(format!("nt!MmPfnDatabase holds {base}, which is no kernel address")));
        }
        let runs = physical_memory(session).or_else(|error| {
            // Without the block: all frames up to the highest. Those that do not exist will not be readable.
            match Counter::HighestPhysicalPage.read(session) {
                Ok(Some(highest)) if highest < MOST_FRAMES => Ok(vec![(Pfn(0), highest + 1)]),
                _ => Err(error),
            }
        })?;
        Ok(Database { session, base, layout, runs })
    }

    /// Frames of the machine.
    pub fn frames(&self) -> u64 {
        self.runs.iter().map(|run| run.1).sum()
    }

    /// True for a frame that the machine has.
    pub fn has(&self, pfn: Pfn) -> bool {
        let after = self.runs.partition_point(|run| run.0 <= pfn);
        after.checked_sub(1).and_then(|at| self.runs.get(at)).is_some_and(|run| pfn.0 - run.0.0 < run.1)
    }

    /// The address of an entry.
    pub fn address(&self, pfn: Pfn) -> Va {
        self.base.add(pfn.0.wrapping_mul(self.layout.size as u64))
    }

    /// A frame.
    ///
    /// # Errors
    /// Where its entry cannot be read.
    pub fn frame(&self, pfn: Pfn) -> Result<Frame> {
        if pfn.0 >= MOST_FRAMES {
            return Err(Error::NotFound(format!("{pfn} is no frame of this machine")));
        }
        let mut entry = [0; 0x100];
        let entry = entry.get_mut(..self.layout.size).unwrap_or_default();
        self.session.memory().read(self.address(pfn), entry)?;
        Ok(self.layout.parse(pfn, entry))
    }

    /// Reads the whole database in large pieces, in ascending order.
    ///
    /// # Errors
    /// What `visit` says, and Ctrl+C.
    pub fn scan(&self, visit: &mut dyn FnMut(Part<'_>) -> Result<()>) -> Result<()> {
        let size = self.layout.size as u64;
        let memory = self.session.memory();
        let most = (CHUNK / self.layout.size) & !1;
        let mut buffer = vec![0; most * self.layout.size];
        for &(first, count) in &self.runs {
            let mut at = first.0;
            let end = first.0.saturating_add(count);
            while at < end {
                self.session.check_interrupt()?;
                // Pieces begin at even numbers, so that both frames of a pair are in the same one.
                let bytes = ((end - at).min(most as u64 - (at & 1)) * size) as usize;
                let piece = buffer.get_mut(..bytes).unwrap_or_default();
                let (done, fault) = memory.read_some(self.address(Pfn(at)), piece)?;
                let whole = done / self.layout.size;
                if whole > 0 {
                    visit(Part::Entries(Pfn(at), piece.get(..whole * self.layout.size).unwrap_or_default()))?;
                    at += whole as u64;
                }
                let Some(fault) = fault else { continue };
                let Error::Unreadable { at: hole, why } = fault else { return Err(fault) };
                let next = memory.next_readable(hole.add(1)).map_or(u64::MAX, |va| va.0);
                let resume = match next.checked_sub(self.base.0) {
                    Some(far) => far.div_ceil(size).clamp(at + 1, end),
                    None => end,
                };
                visit(Part::Missing(Pfn(at), resume - at, why))?;
                at = resume;
            }
        }
        Ok(())
    }
}

/// The machine's memory as the kernel knows it: `MmPhysicalMemoryBlock`.
///
/// # Errors
/// Where it cannot be found or read, or cannot be true.
pub fn physical_memory(session: &Session<'_>) -> Result<Vec<(Pfn, u64)>> {
    let block = super::pointer_variable(session, "MmPhysicalMemoryBlock", Some(KD_PHYSICAL_MEMORY_BLOCK))?;
    // ULONG NumberOfRuns, PFN_NUMBER NumberOfPages, then runs of PFN_NUMBER BasePage, PageCount: on every version.
    let width = session.target().pointer_size() as usize;
    let count = u64::from(session.memory().u32(block)?);
    if count == 0 || count > MOST_RUNS {
        return Err(Error::Other(format!("the physical memory block at {block} tells of {count} runs")));
    }
    let bytes = session.memory().bytes(block.add(2 * width as u64), count as usize * 2 * width)?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    let mut runs = Vec::new();
    let mut end = 0;
    for run in bytes.chunks_exact(2 * width) {
        let (first, pages) = run.split_at(width);
        let (first, pages) = (number(first), number(pages));
        if pages == 0 || first < end || first.checked_add(pages).is_none_or(|after| after > MOST_FRAMES) {
            return Err(Error::Other(format!(
                "the physical memory block at {block} has a run of {pages:#x} frames at {first:#x}"
            )));
        }
        end = first + pages;
        runs.push((Pfn(first), pages));
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::memory::TableWindow;
    use super::*;

    #[test]
    fn slots_cut_numbers_out_of_entries() {
        let mut entry = [0u8; 0x18];
        entry[0x0c] = 0x34;
        entry[0x0d] = 0b101;
        entry[0x14] = 0xff;
        entry[0x17] = 0x08;
        let bits = |offset, size, bit_position, bit_length| FieldInfo {
            offset,
            size,
            bit_position,
            bit_length,
            ..FieldInfo::default()
        };
        let get = |field: FieldInfo| Slot::new(&field, 0x18).unwrap().get(&entry);
        assert_eq!(get(bits(0xc, 2, 0, 0)), 0x534);
        assert_eq!(get(bits(0xc, 4, 8, 3)), 5);
        assert_eq!(get(bits(0x14, 4, 0, 25)), 0xff);
        assert_eq!(get(bits(0x14, 4, 27, 1)), 1);
        assert_eq!(get(bits(0x17, 1, 3, 1)), 1);
        assert!(Slot::new(&bits(0x17, 4, 0, 0), 0x18).is_none());
        assert_eq!(Slot { at: 0x40, shift: 0, mask: 1 }.get(&entry), 0);
    }

    #[test]
    fn the_window_tells_what_an_entry_maps() {
        let wide = TableWindow { base: Va(0xffff_f680_0000_0000), entry: 8, bits: 48 };
        assert_eq!(wide.address(Va(0xffff_f680_0000_0008)), Some(Va(0x1000)));
        assert_eq!(wide.entry_of(Va(0xffff_ffff_ffff_f123)), Va(0xffff_f6ff_ffff_fff8));
        assert_eq!(wide.entry_of(wide.entry_of(Va(0))), Va(0xffff_f6fb_4000_0000));
        assert_eq!(wide.address(Va(0xffff_f6ff_ffff_fff8)), Some(Va(0xffff_ffff_ffff_f000)));
        assert_eq!(wide.address(Va(0xffff_f700_0000_0000)), None);
        assert!(wide.holds(Va(0xffff_f680_0000_0000)) && !wide.holds(Va(0xffff_f67f_ffff_fff8)));
        let narrow = TableWindow { base: Va(0xc000_0000), entry: 4, bits: 32 };
        assert_eq!(narrow.address(Va(0xc020_0000)), Some(Va(0x8000_0000)));
        assert_eq!(narrow.address(Va(0xc040_0000)), None);
    }
}
