//! How processors translate: levels of page tables, and what valid entries say.
//!
//! Sources: the Intel and Arm architecture manuals.

use super::Meaning;
use crate::address::{PAGE_SIZE, Pa, Va};

/// How a machine translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// x86, two levels of 4-byte entries.
    X86,
    /// x86, three levels of 8-byte entries.
    X86Pae,
    /// x64, four levels.
    X64,
    /// x64, five levels.
    X64Level5,
    /// arm64, four levels of the 4 KiB granule.
    Arm64,
}

/// A level of page tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    /// As Windows names its entries: `PXE`, `PPE`, `PDE`, `PTE`.
    pub name: &'static str,
    /// As the processor's manual names them: `PML4E`, `PDPE`, …
    pub manual: &'static str,
    /// The lowest bit of an address that selects an entry.
    pub shift: u32,
    /// Entries of a table.
    pub count: u64,
}

impl Level {
    /// Bytes of address space behind an entry.
    pub fn covers(&self) -> u64 {
        1 << self.shift
    }
}

const fn level(name: &'static str, manual: &'static str, shift: u32, count: u64) -> Level {
    Level { name, manual, shift, count }
}

const WIDE: [Level; 5] = [
    level("PX5E", "PML5E", 48, 512),
    level("PXE", "PML4E", 39, 512),
    level("PPE", "PDPE", 30, 512),
    level("PDE", "PDE", 21, 512),
    level("PTE", "PTE", 12, 512),
];
const PAE: [Level; 3] =
    [level("PPE", "PDPE", 30, 4), level("PDE", "PDE", 21, 512), level("PTE", "PTE", 12, 512)];
const NARROW: [Level; 2] = [level("PDE", "PDE", 22, 1024), level("PTE", "PTE", 12, 1024)];

impl Scheme {
    /// Its levels, the root's first.
    pub fn levels(self) -> &'static [Level] {
        match self {
            Scheme::X86 => &NARROW,
            Scheme::X86Pae => &PAE,
            Scheme::X64 | Scheme::Arm64 => WIDE.split_at(1).1,
            Scheme::X64Level5 => &WIDE,
        }
    }

    /// Bytes of an entry.
    pub fn entry_size(self) -> u64 {
        if self == Scheme::X86 { 4 } else { 8 }
    }

    /// Significant bits of an address, its sign included.
    pub fn address_bits(self) -> u32 {
        match self {
            Scheme::X86 | Scheme::X86Pae => 32,
            Scheme::X64 | Scheme::Arm64 => 48,
            Scheme::X64Level5 => 57,
        }
    }

    /// True for addresses that can be.
    pub fn is_canonical(self, va: Va) -> bool {
        self.extend(va.0) == va
    }

    /// The address of these low bits.
    pub(super) fn extend(self, low: u64) -> Va {
        let unused = 64 - self.address_bits();
        if unused == 32 {
            return Va(low & 0xffff_ffff);
        }
        Va(((low << unused) as i64 >> unused) as u64)
    }

    /// The root table in what a processor's register holds: flags and identifiers of address spaces are taken off.
    pub fn root(self, register: u64) -> Pa {
        Pa(register
            & match self {
                Scheme::X86 => 0xffff_f000,
                Scheme::X86Pae => 0xffff_ffe0,
                Scheme::Arm64 => 0x0000_ffff_ffff_f000,
                Scheme::X64 | Scheme::X64Level5 => 0x000f_ffff_ffff_f000,
            })
    }

    /// The bits of an entry that are a frame's address.
    pub(super) fn frame(self, entry: u64) -> u64 {
        entry
            & match self {
                Scheme::X86 => 0xffff_f000,
                Scheme::Arm64 => 0x0000_ffff_ffff_f000,
                _ => 0x000f_ffff_ffff_f000,
            }
    }

    /// True for an entry that maps a page above the last level.
    fn is_large(self, level: &Level, entry: u64) -> bool {
        match (self, level.name) {
            (_, "PTE" | "PXE" | "PX5E") | (Scheme::X86Pae, "PPE") => false,
            (Scheme::Arm64, _) => entry & 2 == 0,
            _ => entry & 0x80 != 0,
        }
    }

    /// What an entry says that the processor takes; `None` for others.
    pub fn valid(self, level: &Level, entry: u64) -> Option<Meaning> {
        if entry & 1 == 0 {
            return None;
        }
        let frame = self.frame(entry);
        Some(match (level.name, self.is_large(level, entry)) {
            ("PTE", _) => Meaning::Page(Pa(frame), PAGE_SIZE),
            // Bits 13 to 20 are bits 32 to 39 of the address.
            (_, true) if self == Scheme::X86 => {
                Meaning::Page(Pa(entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32), level.covers())
            }
            (_, true) => Meaning::Page(Pa(frame & !(level.covers() - 1)), level.covers()),
            _ => Meaning::Table(Pa(frame).pfn()),
        })
    }

    /// The letters of a valid entry in KD's order: copy on write, global, large, dirty, accessed, not cached, written
    /// through, user or kernel, writable or read only, executable, valid. What memory of arm64 is cached as stands in
    /// a register that no dump tells, so two letters are never shown there.
    pub fn letters(self, level: &Level, entry: u64) -> String {
        let bit = |position: u32| entry >> position & 1 != 0;
        let large = self.is_large(level, entry);
        let kernel = if self == Scheme::Arm64 { !bit(6) } else { !bit(2) };
        let [copy, global, dirty, accessed, uncached, through, writable, executable] = match self {
            Scheme::Arm64 => {
                let never = bit(if kernel { 53 } else { 54 });
                [bit(56), !bit(11), !bit(7), bit(10), false, false, bit(55), !never]
            }
            // The processor's bit is clear while a page that may be written to is clean; Windows keeps its own.
            _ => {
                let executable = self == Scheme::X86 || !bit(63);
                [bit(9), bit(8), bit(6), bit(5), bit(4), bit(3), bit(1) || bit(11), executable]
            }
        };
        let letter = |set: bool, letter: char| if set { letter } else { '-' };
        [
            letter(copy, 'C'),
            letter(global, 'G'),
            letter(large, 'L'),
            letter(dirty, 'D'),
            letter(accessed, 'A'),
            letter(uncached, 'N'),
            letter(through, 'T'),
            if kernel { 'K' } else { 'U' },
            if writable { 'W' } else { 'R' },
            letter(executable, 'E'),
            letter(bit(0), 'V'),
        ]
        .into_iter()
        .collect()
    }

    /// Where entries that are not valid have the number of a page file, the page in it, their protection and the bit
    /// that says bits against L1TF are not set, if nothing else tells.
    pub(super) fn software(self) -> (u32, u32, u32, Option<u32>) {
        match self {
            Scheme::X86 => (1, 12, 5, None),
            Scheme::X86Pae => (1, 32, 5, None),
            Scheme::X64 | Scheme::X64Level5 => (12, 32, 5, Some(4)),
            Scheme::Arm64 => (6, 32, 1, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Pfn;

    #[test]
    fn letters_are_those_of_the_documented_examples() {
        let pte = &NARROW[1];
        assert_eq!(Scheme::X86.letters(pte, 0x0015_4121), "-G--A--KREV");
        assert_eq!(Scheme::X86.letters(&NARROW[0], 0x0003_b163), "-G-DA--KWEV");
        assert_eq!(Scheme::X64.letters(&WIDE[4], 0x8000_0001_2345_6867), "---DA--UW-V");
        assert_eq!(Scheme::X64.letters(&WIDE[3], 0x0a00_0000_0020_01e3), "-GLDA--KWEV");
        // The same bit of an entry of the last level is another.
        assert_eq!(Scheme::X64.letters(&WIDE[4], 0x0a00_0000_0020_01e3), "-G-DA--KWEV");
        assert_eq!(Scheme::Arm64.letters(&WIDE[4], 0x00e0_0000_1234_5f43), "---DA--UW-V");
        assert_eq!(Scheme::Arm64.letters(&WIDE[3], 0x0080_0000_1220_0701), "-GLDA--KWEV");
    }

    #[test]
    fn valid_entries_lead_to_tables_and_pages() {
        let valid = |scheme: Scheme, level: &Level, entry| scheme.valid(level, entry);
        assert_eq!(valid(Scheme::X64, &WIDE[2], 0x1234_5867), Some(Meaning::Table(Pfn(0x12345))));
        assert_eq!(valid(Scheme::X64, &WIDE[2], 0x4000_00e3), Some(Meaning::Page(Pa(0x4000_0000), 1 << 30)));
        assert_eq!(valid(Scheme::X64, &WIDE[3], 0x0020_00e3), Some(Meaning::Page(Pa(0x20_0000), 1 << 21)));
        assert_eq!(
            valid(Scheme::X86, &NARROW[0], 0x0040_20e3),
            Some(Meaning::Page(Pa(0x1_0040_0000), 1 << 22))
        );
        assert_eq!(valid(Scheme::X86Pae, &PAE[0], 0x5081), Some(Meaning::Table(Pfn(5))));
        assert_eq!(valid(Scheme::Arm64, &WIDE[3], 0x0020_0701), Some(Meaning::Page(Pa(0x20_0000), 1 << 21)));
        assert_eq!(valid(Scheme::X64, &WIDE[4], 0x1000), None);
    }
}
