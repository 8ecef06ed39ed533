//! Page tables: what a virtual address means in an address space.
//!
//! Sources: the Intel and Arm architecture manuals for valid entries; for invalid ones the `_MMPTE_*` unions in the
//! public symbols of Windows. Every level is decoded the same way: a table page may itself be in transition.
//!
//! Software entries (valid bit clear), on x64, PAE and arm64 alike:
//!
//! | bits | meaning |
//! |---|---|
//! | prototype (10) set | the data is described by a prototype PTE at bits 16.. (PAE: 32..) |
//! | prototype clear, transition (11) set | the frame at bits 12.. still holds the page |
//! | both clear, page offset (32..) not zero | in the page file of bits 12..16 (arm64: 6..10; PAE before Windows 10: 1..5) |
//! | both clear, page offset zero | demand zero |
//!
//! Builds for x64 with the L1TF mitigation set high bits of invalid entries unless the swizzle bit (4) is set; arm64 has
//! its protection there. The bits are a
//! kernel variable (`MiState.Hardware.InvalidPteMask`), which a layer with symbols can hand in. Without it, a frame
//! above the end of memory has its bits above that end cleared, and a prototype address that cannot be read is tried
//! with each single bit of 35 to 51 cleared.

use kd_sdk::address::{PAGE_SIZE, Pa, Pfn, Va};

use super::fault::{Absent, Detail, Level, ReadFault};
use crate::dump::{Header, Machine, PhysicalMemory};

/// How a machine translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PagingMode {
    /// x64 with four levels.
    X64L4,
    /// x64 with five levels (LA57).
    X64L5,
    /// x86 with two levels of 32-bit entries.
    X86,
    /// x86 with three levels of 64-bit entries.
    X86Pae,
    /// arm64 with four levels of the 4 KiB granule.
    Arm64,
}

/// The page tables of one address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct PageTables {
    /// How to read them.
    pub mode: PagingMode,
    /// The root: CR3, or `TTBR0` (the lower half) on arm64. Flag bits are ignored.
    pub root: Pa,
    /// The root of the upper half: `TTBR1` on arm64, elsewhere the same as `root`.
    pub upper_root: Pa,
    /// The bits that the mitigation against L1TF sets in invalid entries; `None` when they are not known.
    pub invalid_pte_mask: Option<u64>,
}

/// Where the entry stands that a walk read, and its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageEntry {
    /// The level.
    pub level: Level,
    /// The physical address of the entry; for a prototype PTE its virtual address.
    pub at: u64,
    /// The entry.
    pub value: u64,
}

/// The entries of a walk, top level first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entries {
    entries: [Option<PageEntry>; 6],
    len: usize,
}

impl Entries {
    fn push(&mut self, entry: PageEntry) {
        if let Some(slot) = self.entries.get_mut(self.len) {
            *slot = Some(entry);
            self.len += 1;
        }
    }

    /// The entries, top level first.
    pub fn iter(&self) -> impl Iterator<Item = PageEntry> + '_ {
        self.entries.iter().flatten().copied()
    }

    /// The entry of a level, if the walk reached it.
    pub fn get(&self, level: Level) -> Option<PageEntry> {
        self.iter().find(|entry| entry.level == level)
    }
}

/// What a translated page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TranslationKind {
    /// Every entry is valid.
    Valid,
    /// An entry is in transition: on the standby or modified list, still in memory.
    Transition,
    /// The page was found through a prototype PTE.
    Prototype,
}

/// A virtual address in physical memory. The frame may still be absent from the dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The physical address.
    pub pa: Pa,
    /// Bytes of the page: 4 KiB, 2 MiB, 4 MiB or 1 GiB.
    pub page_size: u64,
    /// The entries that led there.
    pub entries: Entries,
    /// What the page is.
    pub kind: TranslationKind,
}

/// A walk that did not end at a page, and the entries it read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalkFault {
    /// Why.
    pub fault: ReadFault,
    /// The entries read before it.
    pub entries: Box<Entries>,
}

impl PageTables {
    /// The tables that the header names. Five levels are told from four by which of the two maps
    /// `PsLoadedModuleList`; four when neither or both do. `None` without a directory table base.
    pub fn from_header(header: &Header, physical: &dyn PhysicalMemory) -> Option<PageTables> {
        let root = header.directory_table_base?;
        let mode = match header.machine {
            Machine::X64 => PagingMode::X64L4,
            Machine::Arm64 => PagingMode::Arm64,
            Machine::X86 if header.pae_enabled == Some(true) => PagingMode::X86Pae,
            Machine::X86 => PagingMode::X86,
        };
        let tables = PageTables { mode, root, upper_root: root, invalid_pte_mask: None };
        let other = match mode {
            PagingMode::X64L4 => PagingMode::X64L5,
            // Old headers leave PaeEnabled unwritten.
            PagingMode::X86 if header.pae_enabled.is_none() => PagingMode::X86Pae,
            _ => return Some(tables),
        };
        let Some(probe) = header.ps_loaded_module_list else { return Some(tables) };
        let maps = |tables: &PageTables| {
            tables.translate(physical, probe).is_ok_and(|found| physical.page(found.pa.pfn()).is_ok())
        };
        let five = PageTables { mode: other, ..tables };
        Some(if !maps(&tables) && maps(&five) { five } else { tables })
    }

    /// The tables of another process of the same target: same mode, and on arm64 the same upper half.
    pub fn with_root(&self, root: Pa) -> PageTables {
        let upper_root = if self.mode == PagingMode::Arm64 { self.upper_root } else { root };
        PageTables { root, upper_root, ..*self }
    }

    /// True for targets with 64-bit addresses.
    pub fn is_64_bit(&self) -> bool {
        !matches!(self.mode, PagingMode::X86 | PagingMode::X86Pae)
    }

    /// Translates `va`; the fault says why not.
    pub fn translate(&self, physical: &dyn PhysicalMemory, va: Va) -> Result<Translation, ReadFault> {
        Walk::new(self, physical, va).run(true)
    }

    /// Translates `va` and keeps the entries also when it fails.
    pub fn walk(&self, physical: &dyn PhysicalMemory, va: Va) -> Result<Translation, WalkFault> {
        let mut walk = Walk::new(self, physical, va);
        walk.run(true).map_err(|fault| WalkFault { fault, entries: Box::new(walk.entries) })
    }

    /// The lowest address above `va` that the walk of `va` did not rule out: the end of the hole or page that the
    /// deepest entry covers. `None` at the end of the address space.
    pub fn end_of_hole(&self, va: Va, fault: &WalkFault) -> Option<Va> {
        let step = match fault.fault.detail {
            Detail::NotCanonical => {
                let upper = Va(!0u64 << (self.address_bits() - 1));
                return (self.is_64_bit() && va < upper).then_some(upper);
            }
            Detail::Table(level, _) | Detail::TableBroken(level, _) => self.table_size(level),
            Detail::Zero(level)
            | Detail::DemandZero(level, _)
            | Detail::PageFile(level, ..)
            | Detail::Unknown(level, _) => self.coverage(level),
            _ => PAGE_SIZE,
        };
        let next = (va.0 & !(step.max(PAGE_SIZE) - 1)).checked_add(step.max(PAGE_SIZE))?;
        (self.is_64_bit() || next <= u64::from(u32::MAX)).then_some(Va(next))
    }

    /// Significant bits of a virtual address, with the sign.
    pub(crate) fn address_bits(&self) -> u32 {
        match self.mode {
            PagingMode::X64L5 => 57,
            PagingMode::X64L4 => 48,
            // One more than the 48 that each half has: bit 48 and above select the half.
            PagingMode::Arm64 => 49,
            PagingMode::X86 | PagingMode::X86Pae => 32,
        }
    }

    /// The addresses that belong to the kernel: the first and the last.
    pub fn kernel_half(&self) -> (Va, Va) {
        match self.is_64_bit() {
            true => (Va(!0 << (self.address_bits() - 1)), Va(u64::MAX)),
            false => (Va(0x8000_0000), Va(u32::MAX.into())),
        }
    }

    /// Those that belong to programs.
    pub fn user_half(&self) -> (Va, Va) {
        match self.is_64_bit() {
            true => (Va(0), Va((1 << (self.address_bits() - 1)) - 1)),
            false => (Va(0), Va(0x7fff_ffff)),
        }
    }

    fn levels(&self) -> &'static [(Level, u32, u64)] {
        // (level, lowest address bit, count of entries)
        match self.mode {
            PagingMode::X64L5 => &[
                (Level::Pml5, 48, 512),
                (Level::Pxe, 39, 512),
                (Level::Ppe, 30, 512),
                (Level::Pde, 21, 512),
                (Level::Pte, 12, 512),
            ],
            PagingMode::X64L4 | PagingMode::Arm64 => {
                &[(Level::Pxe, 39, 512), (Level::Ppe, 30, 512), (Level::Pde, 21, 512), (Level::Pte, 12, 512)]
            }
            PagingMode::X86Pae => &[(Level::Ppe, 30, 4), (Level::Pde, 21, 512), (Level::Pte, 12, 512)],
            PagingMode::X86 => &[(Level::Pde, 22, 1024), (Level::Pte, 12, 1024)],
        }
    }

    /// Bytes of address space that one entry of a level covers.
    fn coverage(&self, level: Level) -> u64 {
        self.levels().iter().find(|row| row.0 == level).map_or(PAGE_SIZE, |row| 1 << row.1)
    }

    /// Bytes of address space that a table of a level covers.
    pub(super) fn table_size(&self, level: Level) -> u64 {
        self.coverage(level).saturating_mul(self.entries_of(level))
    }

    fn entries_of(&self, level: Level) -> u64 {
        self.levels().iter().find(|row| row.0 == level).map_or(1, |row| row.2)
    }

    /// True when `va` can exist.
    pub fn is_canonical(&self, va: Va) -> bool {
        match self.mode {
            PagingMode::X86 | PagingMode::X86Pae => va.0 <= u64::from(u32::MAX),
            _ => {
                let shift = 64 - self.address_bits();
                ((va.0 << shift) as i64 >> shift) as u64 == va.0
            }
        }
    }
}

/// What an invalid entry says.
enum Software {
    /// Continue with this frame.
    Transition(Pfn),
    /// Ask the prototype PTE at this address.
    Prototype(Va),
    /// The end, and why.
    End(Absent, Detail),
}

/// The bit that says an invalid entry of x64 was left as it is.
const SWIZZLE: u64 = 0x10;

struct Walk<'a> {
    tables: &'a PageTables,
    physical: &'a dyn PhysicalMemory,
    va: Va,
    entries: Entries,
    kind: TranslationKind,
}

impl<'a> Walk<'a> {
    fn new(tables: &'a PageTables, physical: &'a dyn PhysicalMemory, va: Va) -> Walk<'a> {
        Walk { tables, physical, va, entries: Entries::default(), kind: TranslationKind::Valid }
    }

    fn fault(&self, why: Absent, detail: Detail) -> ReadFault {
        ReadFault { at: self.va, why, detail }
    }

    /// Walks down. The number of levels bounds it, so tables that refer to themselves cannot make it loop;
    /// `follow` allows one more walk for a prototype PTE, which may not ask for another.
    fn run(&mut self, follow: bool) -> Result<Translation, ReadFault> {
        let tables = self.tables;
        if !tables.is_canonical(self.va) {
            return Err(self.fault(Absent::NotMapped, Detail::NotCanonical));
        }
        let arm = tables.mode == PagingMode::Arm64;
        let upper = tables.is_64_bit() && self.va.0 >> 63 == 1;
        let root = if upper { tables.upper_root } else { tables.root };
        // CR3 has flags in the low bits and TTBR an ASID in the high ones; a PAE root is aligned to 32 bytes.
        let mut table = match tables.mode {
            PagingMode::X86Pae => Pa(root.0 & 0xffff_ffe0),
            PagingMode::X86 => Pa(root.0 & 0xffff_f000),
            PagingMode::Arm64 => Pa(root.0 & 0x0000_ffff_ffff_f000),
            _ => Pa(root.0 & 0x000f_ffff_ffff_f000),
        };
        let width: u64 = if tables.mode == PagingMode::X86 { 4 } else { 8 };
        for &(level, shift, count) in tables.levels() {
            let index = (self.va.0 >> shift) & (count - 1);
            let at = table.add(index * width);
            let value = self.entry(level, at, width)?;
            let offset_in = |size: u64| self.va.0 & (size - 1);
            if value & 1 == 0 {
                let pfn = match self.software(level, value) {
                    // The four top entries of PAE have no software form.
                    _ if tables.mode == PagingMode::X86Pae && level == Level::Ppe => {
                        return Err(self.fault(Absent::NotMapped, Detail::Zero(level)));
                    }
                    Software::Transition(pfn) => pfn,
                    Software::Prototype(_) if !follow => {
                        return Err(self.fault(Absent::PagedOut, Detail::Prototype(value, Va::NULL)));
                    }
                    Software::Prototype(at) => return self.prototype(value, at),
                    Software::End(why, detail) => return Err(self.fault(why, detail)),
                };
                self.kind = TranslationKind::Transition;
                table = pfn.pa();
                continue;
            }
            // A large page: on x86 bit 7 of a PDE or PPE; on arm64 a descriptor whose bit 1 is clear.
            let large = match level {
                Level::Ppe if tables.mode == PagingMode::X86Pae => false,
                Level::Ppe | Level::Pde if arm => value & 2 == 0,
                Level::Ppe | Level::Pde => value & 0x80 != 0,
                _ => false,
            };
            if large {
                let size = 1u64 << shift;
                let base = if tables.mode == PagingMode::X86 {
                    // PSE-36: bits 13..21 are address bits 32..40.
                    (value & 0xffc0_0000) | ((value >> 13 & 0xff) << 32)
                } else {
                    value & self.frame_mask() & !(size - 1)
                };
                return Ok(self.found(Pa(base | offset_in(size)), size));
            }
            table = Pa(value & self.frame_mask());
        }
        let offset = self.va.page_offset();
        Ok(self.found(table.add(offset), PAGE_SIZE))
    }

    fn found(&self, pa: Pa, page_size: u64) -> Translation {
        Translation { pa, page_size, entries: self.entries, kind: self.kind }
    }

    /// The bits of a valid entry that are a frame's address.
    fn frame_mask(&self) -> u64 {
        match self.tables.mode {
            PagingMode::X86 => 0xffff_f000,
            PagingMode::Arm64 => 0x0000_ffff_ffff_f000,
            _ => 0x000f_ffff_ffff_f000,
        }
    }

    fn entry(&mut self, level: Level, at: Pa, width: u64) -> Result<u64, ReadFault> {
        let page = self.physical.page(at.pfn()).map_err(|why| match why {
            Absent::Broken => self.fault(why, Detail::TableBroken(level, at.pfn())),
            _ => self.fault(Absent::NotCaptured, Detail::Table(level, at.pfn())),
        })?;
        let start = at.page_offset() as usize;
        let mut bytes = [0u8; 8];
        let width = width as usize;
        if let (Some(to), Some(from)) = (bytes.get_mut(..width), page.get(start..start + width)) {
            to.copy_from_slice(from);
        }
        let value = u64::from_le_bytes(bytes);
        self.entries.push(PageEntry { level, at: at.0, value });
        Ok(value)
    }

    fn software(&self, level: Level, value: u64) -> Software {
        if value == 0 {
            return Software::End(Absent::NotMapped, Detail::Zero(level));
        }
        let value = match self.tables.invalid_pte_mask {
            Some(mask) if self.may_hide(value) => value & !mask,
            _ => value,
        };
        let mode = self.tables.mode;
        let (prototype, transition) = (value & 0x400 != 0, value & 0x800 != 0);
        if prototype {
            return match mode {
                // 30 scattered bits relative to a kernel variable: only symbols can tell.
                PagingMode::X86 => Software::End(Absent::PagedOut, Detail::Prototype(value, Va::NULL)),
                PagingMode::X86Pae => self.prototype_at(value, value >> 32, 0xffff_ffff),
                _ => self.prototype_at(value, (value as i64 >> 16) as u64, 0xffff_ffff_0000),
            };
        }
        if transition {
            let frame = match mode {
                PagingMode::X86 => value & 0xffff_f000,
                PagingMode::X86Pae => value & 0x0000_000f_ffff_f000,
                _ => value & 0x000f_ffff_ffff_f000,
            };
            return Software::Transition(self.unswizzle(Pa(frame).pfn(), value));
        }
        let (offset, number) = match mode {
            PagingMode::X86 => (value >> 12, value >> 1 & 0xf),
            PagingMode::Arm64 => (value >> 32, value >> 6 & 0xf),
            // Windows 10 moved the number from bits 1..5 to 12..16.
            _ if value >> 12 & 0xf != 0 => (value >> 32, value >> 12 & 0xf),
            PagingMode::X86Pae => (value >> 32, value >> 1 & 0xf),
            _ => (value >> 32, 0),
        };
        if offset == 0 {
            return Software::End(Absent::NotMapped, Detail::DemandZero(level, value));
        }
        Software::End(Absent::PagedOut, Detail::PageFile(level, value, number as u32, offset))
    }

    /// A prototype address; the one with all bits set (on 64 bits, but the low 16) says "look at the descriptors".
    fn prototype_at(&self, value: u64, at: u64, descriptors: u64) -> Software {
        let low = if self.tables.is_64_bit() { at & 0xffff_ffff_ffff } else { at };
        if low == descriptors || at == 0 {
            return Software::End(Absent::PagedOut, Detail::Prototype(value, Va::NULL));
        }
        Software::Prototype(Va(at))
    }

    /// True for an invalid entry in which bits may be set against L1TF.
    fn may_hide(&self, value: u64) -> bool {
        matches!(self.tables.mode, PagingMode::X64L4 | PagingMode::X64L5) && value & SWIZZLE == 0
    }

    /// Takes the L1TF mitigation off a frame number, see the head of this file.
    fn unswizzle(&self, pfn: Pfn, value: u64) -> Pfn {
        let end = self.physical.end();
        if !self.may_hide(value) || pfn < end || end.0 == 0 {
            return pfn;
        }
        Pfn(pfn.0 & (end.0.checked_next_power_of_two().unwrap_or(u64::MAX).wrapping_sub(1)))
    }

    fn read_prototype(&self, at: Va) -> Result<[u8; 8], Absent> {
        let found = Walk::new(self.tables, self.physical, at).run(false).map_err(|fault| fault.why)?;
        let mut bytes = [0u8; 8];
        self.physical.read(found.pa, &mut bytes).map_err(|(_, why)| why)?;
        Ok(bytes)
    }

    /// The prototype PTE behind an address with the mitigation's bit in it, if exactly one bit makes sense.
    fn guess_prototype(&self, value: u64, at: Va) -> Option<(Va, [u8; 8])> {
        if !self.may_hide(value) || self.tables.invalid_pte_mask.is_some() {
            return None;
        }
        let mut readable = (35..52).filter(|bit| value >> bit & 1 == 1).filter_map(|bit| {
            let at = Va(at.0 & !(1 << (bit - 16)));
            self.read_prototype(at).ok().map(|bytes| (at, bytes))
        });
        let first = readable.next()?;
        readable.next().is_none().then_some(first)
    }

    /// Follows a prototype PTE: one read through the same tables.
    fn prototype(&mut self, value: u64, at: Va) -> Result<Translation, ReadFault> {
        let unreadable = Detail::Prototype(value, at);
        let (at, bytes) = match self.read_prototype(at) {
            Ok(bytes) => (at, bytes),
            Err(why) => self.guess_prototype(value, at).ok_or_else(|| self.fault(why, unreadable))?,
        };
        let entry = u64::from_le_bytes(bytes);
        self.entries.push(PageEntry { level: Level::Prototype, at: at.0, value: entry });
        let offset = self.va.page_offset();
        let pa = if entry & 1 != 0 {
            Pa(entry & self.frame_mask())
        } else if entry & 0x400 != 0 {
            // Here the bit means a subsection: the page is in the mapped file.
            return Err(self.fault(Absent::PagedOut, Detail::MappedFile(entry)));
        } else {
            match self.software(Level::Prototype, entry) {
                Software::Transition(pfn) => pfn.pa(),
                Software::End(why, detail) => return Err(self.fault(why, detail)),
                Software::Prototype(_) => return Err(self.fault(Absent::PagedOut, unreadable)),
            }
        };
        self.kind = TranslationKind::Prototype;
        Ok(self.found(pa.add(offset), PAGE_SIZE))
    }
}
