//! Page tables: every scheme Windows uses, built entry by entry, hardware and software entries alike.
//!
//! Facts: the processors' manuals for the hardware entries; `_MMPTE_TRANSITION`, `_MMPTE_SOFTWARE` and
//! `_MMPTE_PROTOTYPE` in the kernels' public symbols for what Windows keeps in an entry that is not valid.

use super::memory::{Owner, PhysicalMemory};
use kd_sdk::address::{PAGE_SIZE, Pa, Pfn, Va};
use std::collections::BTreeSet;

/// How a processor translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// 32-bit, two levels, 4-byte entries.
    X86,
    /// 32-bit with physical address extension: three levels, 8-byte entries.
    X86Pae,
    /// 64-bit, four levels.
    X64,
    /// 64-bit, five levels.
    X64Level5,
    /// 64-bit ARM with 4 KiB granule. One root page serves both halves: TTBR0 has its start, TTBR1 its middle.
    Arm64,
}

/// Size of a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// The smallest page, 4 KiB.
    Small,
    /// One level up: 2 MiB, or 4 MiB on [`Scheme::X86`].
    Large,
    /// Two levels up: 1 GiB. 64-bit schemes only.
    Huge,
}

/// What an entry of the last level says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaf {
    /// Mapped by the processor.
    Valid(Pfn),
    /// Taken from the working set, still in memory.
    Transition(Pfn),
    /// Written to page file `file` at page `page`.
    PageFile {
        /// Number of the page file, below 16.
        file: u64,
        /// Index of the page in it.
        page: u64,
    },
    /// Never touched: will be zeros.
    DemandZero,
    /// Described by the prototype entry at this address.
    Prototype(Va),
}

/// The memory manager's code for pages that may be read and written.
pub const READ_WRITE: u64 = 4;

/// What a census finds: a frame, and the entry that leads to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The frame.
    pub pfn: Pfn,
    /// Where the entry appears in the tables' own window.
    pub pte: Va,
    /// The frame that the entry lies in.
    pub containing: Pfn,
    /// One for a page; for a table, one more for each entry in use.
    pub share: u64,
    /// A table.
    pub table: bool,
    /// Part of a large page.
    pub large: bool,
    /// The entry is not valid, the page is only still there.
    pub transition: bool,
}

impl Scheme {
    /// Bit positions of the indices, the root's first, and how many bits the root's index has.
    fn levels(self) -> (&'static [u32], u32) {
        match self {
            Scheme::X86 => (&[22, 12], 10),
            Scheme::X86Pae => (&[30, 21, 12], 2),
            Scheme::X64 | Scheme::Arm64 => (&[39, 30, 21, 12], 9),
            Scheme::X64Level5 => (&[48, 39, 30, 21, 12], 9),
        }
    }

    /// Bytes of an entry.
    pub fn entry_size(self) -> u64 {
        if self == Scheme::X86 { 4 } else { 8 }
    }

    fn index(self, va: Va, level: usize) -> u64 {
        let (shifts, root_bits) = self.levels();
        let bits = match level {
            0 => root_bits,
            _ if self == Scheme::X86 => 10,
            _ => 9,
        };
        (va.0 >> shifts[level]) & ((1 << bits) - 1)
    }

    /// Hardware bits of an entry that points to a table.
    fn table_bits(self, level: usize) -> u64 {
        match self {
            Scheme::X86Pae if level == 0 => 0x1,
            Scheme::Arm64 => 0x0060_0000_0000_0003, // as Windows sets them: a table, never executed by the other half
            _ => 0x867, // valid, write, user, accessed, dirty, Windows' own write bit
        }
    }

    /// Hardware bits of an entry that maps memory.
    fn page_bits(self, owner: Owner, large: bool) -> u64 {
        let user = owner == Owner::User;
        match self {
            // Block or page, normal memory, inner shareable, accessed; Windows' write bit.
            Scheme::Arm64 => 0x0080_0000_0000_0701 | (u64::from(!large) << 1) | (u64::from(user) << 6),
            _ => 0x863 | (u64::from(user) << 2) | (u64::from(large) << 7) | (u64::from(!user) << 8),
        }
    }

    /// Protection as an entry that is not valid has it.
    pub fn protection(self, code: u64) -> u64 {
        code << if self == Scheme::Arm64 { 1 } else { 5 }
    }

    /// The value of an entry of the last level.
    fn leaf(self, leaf: Leaf, owner: Owner, swizzle: u64, low: u32) -> u64 {
        const TRANSITION: u64 = 0x800;
        const PROTOTYPE: u64 = 0x400;
        let wide = !matches!(self, Scheme::X86 | Scheme::X86Pae);
        let writable = self.protection(READ_WRITE);
        let high = if self == Scheme::X86 { 12 } else { 32 };
        match leaf {
            Leaf::Valid(pfn) => (pfn.0 << 12) | self.page_bits(owner, false),
            Leaf::Transition(pfn) => ((pfn.0 << 12) ^ swizzle) | TRANSITION | writable,
            Leaf::PageFile { file, page } => {
                ((page << high) ^ (swizzle & !0xffff_ffff)) | (file << low) | writable
            }
            Leaf::DemandZero => writable,
            Leaf::Prototype(va) if wide => (va.0 << 16) | PROTOTYPE,
            Leaf::Prototype(va) if self == Scheme::X86Pae => (va.0 << 32) | PROTOTYPE,
            // An offset from the start of paged pool, whose place only the kernel knows: 30 bits in two parts.
            Leaf::Prototype(va) => ((va.0 >> 9) & 0x1f_ffff) << 11 | ((va.0 >> 2) & 0x7f) << 1 | PROTOTYPE,
        }
    }
}

/// One address space: a root table in physical memory and how to walk from it.
#[derive(Clone, Copy)]
pub struct AddressSpace {
    /// How the processor walks it.
    pub scheme: Scheme,
    /// The root table, what CR3 or TTBR0 holds.
    pub root: Pa,
    /// Frame bits that Windows inverts in entries that are not valid, against L1TF; zero on older builds.
    pub swizzle: u64,
    /// The lowest bit of a page file's number in an entry.
    pub file_bit: u32,
}

impl AddressSpace {
    /// An empty address space.
    pub fn new(scheme: Scheme, memory: &mut PhysicalMemory) -> Self {
        let file_bit = match scheme {
            Scheme::X86 | Scheme::X86Pae => 1,
            Scheme::Arm64 => 6,
            Scheme::X64 | Scheme::X64Level5 => 12,
        };
        AddressSpace { scheme, root: memory.allocate(Owner::Kernel).pa(), swizzle: 0, file_bit }
    }

    /// An entry that is not valid as it is stored: with the bits against L1TF, or with a mark where it has some itself.
    pub fn hide(&self, entry: u64) -> u64 {
        entry | if entry & self.swizzle == 0 { self.swizzle } else { 0x10 }
    }

    /// Maps `size` bytes at `va` to the frames from `pfn` on.
    pub fn map(&self, memory: &mut PhysicalMemory, va: Va, pfn: Pfn, size: Size, owner: Owner) {
        let up = match size {
            Size::Small => return self.set(memory, va, Leaf::Valid(pfn), owner),
            Size::Large => 1,
            Size::Huge => 2,
        };
        let entry = self.entry(memory, va, up);
        self.store(memory, entry, (pfn.0 << 12) | self.scheme.page_bits(owner, true));
    }

    /// The value of an entry of the last level, as it also stands in a prototype entry.
    pub fn leaf(&self, leaf: Leaf, owner: Owner) -> u64 {
        self.scheme.leaf(leaf, owner, self.swizzle, self.file_bit)
    }

    /// Writes the entry of the last level for `va`.
    pub fn set(&self, memory: &mut PhysicalMemory, va: Va, leaf: Leaf, owner: Owner) {
        let entry = self.entry(memory, va, 0);
        self.store(memory, entry, self.leaf(leaf, owner));
    }

    /// Makes the tables visible in themselves at `base`, as Windows does: `MiGetPteAddress` works on the result.
    pub fn map_self(&self, memory: &mut PhysicalMemory, base: Va) {
        if self.scheme == Scheme::X86Pae {
            // The four page directories appear as the last four page tables of the gigabyte that `base` lies in.
            let directory = Pa(memory.read_uint(self.root.add(self.scheme.index(base, 0) * 8), 8) & !0xfff);
            for i in 0..4 {
                let table = memory.read_uint(self.root.add(i * 8), 8) & !0xfff;
                let at = directory.add((self.scheme.index(base, 1) + i) * 8);
                self.store(memory, at, table | self.scheme.table_bits(1));
            }
        } else {
            let at = self.root.add(self.scheme.index(base, 0) * self.scheme.entry_size());
            self.store(memory, at, self.root.0 | self.scheme.table_bits(0));
        }
    }

    /// Folds the tables: what `at` and `count` - 1 root entries behind it lead to is the root itself, over and over.
    /// Gives an address that every level folds.
    pub fn fold(&self, memory: &mut PhysicalMemory, at: Va, count: u64) -> Va {
        let index = self.scheme.index(at, 0);
        let first = self.root.add(index * self.scheme.entry_size());
        for index in 0..count {
            let entry = first.add(index * self.scheme.entry_size());
            self.store(memory, entry, self.root.0 | self.scheme.table_bits(0));
        }
        Va(self.scheme.levels().0.iter().map(|shift| index << shift).sum())
    }

    /// Takes over the upper (kernel) half of another space's root table.
    pub fn share_kernel(&self, memory: &mut PhysicalMemory, kernel: &AddressSpace) {
        let size = self.scheme.entry_size();
        let entries = if self.scheme == Scheme::X86Pae { 4 } else { PAGE_SIZE / size };
        for i in entries / 2..entries {
            let value = memory.read_uint(kernel.root.add(i * size), size as usize);
            self.store(memory, self.root.add(i * size), value);
        }
    }

    /// Walks as the processor does; transition pages count as present, as they do for Windows.
    pub fn translate(&self, memory: &PhysicalMemory, va: Va) -> Option<Pa> {
        let (shifts, _) = self.scheme.levels();
        let size = self.scheme.entry_size();
        let mut table = self.root;
        for (level, shift) in shifts.iter().enumerate() {
            let value = memory.read_uint(table.add(self.scheme.index(va, level) * size), size as usize);
            let frame = value & 0x000f_ffff_ffff_f000;
            let last = *shift == 12;
            let is_page = match self.scheme {
                Scheme::Arm64 => last || value & 2 == 0,
                Scheme::X86Pae if level == 0 => false,
                _ => last || value & 0x80 != 0,
            };
            if value & 1 == 0 {
                let transition = last && value & 0xc00 == 0x800;
                let found = Pa((frame ^ (self.swizzle & 0x000f_ffff_ffff_f000)) | (va.0 & 0xfff));
                return transition.then_some(found);
            }
            if is_page {
                let inside = (1u64 << shift) - 1;
                return Some(Pa((frame & !inside) | (va.0 & inside)));
            }
            table = Pa(frame);
        }
        None
    }

    /// Reports every frame that the tables lead to, and the tables. Tables in `known` are left out, new ones put in.
    pub fn census(
        &self,
        memory: &PhysicalMemory,
        window: Va,
        known: &mut BTreeSet<u64>,
        report: &mut dyn FnMut(Mapping),
    ) {
        let (shifts, root_bits) = self.scheme.levels();
        let size = self.scheme.entry_size();
        let mask = if shifts[0] < 32 { u64::from(u32::MAX) } else { 0xffff_ffff_ffff };
        // The window shows tables as pages: an entry's entry is found the same way.
        let entry_of = |va: u64, times: usize| {
            let step = |at: u64| window.0 + ((at & mask) >> 12) * size;
            Va((0..times).fold(va, |at, _| step(at)))
        };
        let root = Mapping {
            pfn: self.root.pfn(),
            pte: entry_of(0, shifts.len() + 1),
            containing: self.root.pfn(),
            share: 1,
            table: true,
            large: false,
            transition: false,
        };
        let mut level = vec![(0u64, root)];
        known.insert(root.pfn.0);
        for (depth, &shift) in shifts.iter().enumerate() {
            let mut below = Vec::new();
            for (start, mut table) in level {
                let bytes = memory.frame(table.pfn);
                let entries = if depth == 0 { 1 << root_bits } else { PAGE_SIZE / size };
                for index in 0..entries {
                    let mut wide = [0; 8];
                    let at = (index * size) as usize;
                    let Some(bytes) = bytes else { break };
                    wide[..size as usize].copy_from_slice(&bytes[at..at + size as usize]);
                    let value = u64::from_le_bytes(wide);
                    if value == 0 {
                        continue;
                    }
                    let va = start | index << shift;
                    let last = shift == 12;
                    let page = match self.scheme {
                        Scheme::Arm64 => last || value & 2 == 0,
                        Scheme::X86Pae if depth == 0 => false,
                        _ => last || value & 0x80 != 0,
                    };
                    let transition = last && value & 1 == 0 && value & 0xc00 == 0x800;
                    let in_use = value & 1 != 0 || transition;
                    table.share += u64::from(in_use);
                    if !in_use {
                        continue;
                    }
                    let frame = value & 0x000f_ffff_ffff_f000;
                    let frame =
                        if transition { frame ^ (self.swizzle & 0x000f_ffff_ffff_f000) } else { frame };
                    let pte = entry_of(va, shifts.len() - depth);
                    let found = Mapping {
                        pfn: Pfn(frame >> 12),
                        pte,
                        containing: table.pfn,
                        share: 1,
                        table: !page,
                        large: page && !last,
                        transition,
                    };
                    if page {
                        let first = if last { frame >> 12 } else { (frame >> shift) << (shift - 12) };
                        let count = 1 << (shift - 12);
                        (first..first + count).for_each(|pfn| report(Mapping { pfn: Pfn(pfn), ..found }));
                    } else if known.insert(found.pfn.0) {
                        below.push((va, found));
                    }
                }
                report(table);
            }
            level = below;
        }
    }

    /// Where the entry for `va` lies, `up` levels above the last; tables on the way are made.
    fn entry(&self, memory: &mut PhysicalMemory, va: Va, up: usize) -> Pa {
        let (shifts, _) = self.scheme.levels();
        let last = shifts.len() - 1 - up;
        let mut table = self.root;
        for level in 0..last {
            let at = table.add(self.scheme.index(va, level) * self.scheme.entry_size());
            let mut value = memory.read_uint(at, self.scheme.entry_size() as usize);
            if value & 1 == 0 {
                value = memory.allocate(Owner::Kernel).pa().0 | self.scheme.table_bits(level);
                self.store(memory, at, value);
            }
            table = Pa(value & 0x000f_ffff_ffff_f000);
        }
        table.add(self.scheme.index(va, last) * self.scheme.entry_size())
    }

    fn store(&self, memory: &mut PhysicalMemory, entry: Pa, value: u64) {
        memory.write(entry, &value.to_le_bytes()[..self.scheme.entry_size() as usize]);
    }
}
