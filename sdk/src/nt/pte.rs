//! Page tables: what each entry on the way to an address says, and where it stands.
//!
//! Sources: the Intel and Arm architecture manuals for valid entries, the `_MMPTE_*` structures in the kernel's public
//! symbols for those that are not. [`Memory::translate`] is the host's answer to what an address means; this is for who
//! wants to see the way. Tables are read from physical memory, so that a page of them that is absent is named.
//!
//! The tables see themselves in virtual memory ([`TableWindow`]): the entry of an address, the entry of that entry and so
//! on. Since Windows 10 1607 the place is chosen at start, and found by `MmPteBase` or by the root's entry for itself.

mod scheme;

pub use scheme::{Level, Scheme};

use super::memory::{self, TableWindow};
use super::pfn;
use crate::address::{PAGE_SIZE, Pa, Pfn, Va};
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::session::Session;
use crate::target::Machine;
use std::collections::HashSet;

/// Where KDDEBUGGER_DATA64 tells whether entries have 8 bytes (x86), and the base of the window.
const KD_PAE_ENABLED: u32 = 0x36;
const KD_PTE_BASE: u32 = 0x360;
/// Bits of an entry that is not valid.
const PROTOTYPE: u64 = 1 << 10;
const TRANSITION: u64 = 1 << 11;

/// What an entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Nothing is there.
    Zero,
    /// The table of the next level.
    Table(Pfn),
    /// A page of so many bytes.
    Page(Pa, u64),
    /// Not in a working set, still in memory: a page, or a table.
    Transition(Pfn),
    /// The entry at this address tells: one that all who share the page have in common.
    Prototype(Va),
    /// The same, and the process's address descriptors tell which entry that is.
    Descriptors,
    /// In the page file of this number, at this page.
    PageFile(u64, u64),
    /// Never written to: will be zeros.
    DemandZero,
    /// In a mapped file; only prototype entries say so.
    MappedFile,
}

impl Meaning {
    /// One word for programs.
    pub fn key(self) -> &'static str {
        match self {
            Meaning::Zero => "zero",
            Meaning::Table(_) => "table",
            Meaning::Page(..) => "page",
            Meaning::Transition(_) => "transition",
            Meaning::Prototype(_) | Meaning::Descriptors => "prototype",
            Meaning::PageFile(..) => "page_file",
            Meaning::DemandZero => "demand_zero",
            Meaning::MappedFile => "mapped_file",
        }
    }
}

/// An entry on the way to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Its level.
    pub level: Level,
    /// Its place in its table.
    pub index: u64,
    /// Where it stands in physical memory.
    pub at: Pa,
    /// The entry.
    pub entry: u64,
    /// What it says.
    pub meaning: Meaning,
}

/// The way to an address.
#[derive(Clone, Debug)]
pub struct Walk {
    /// Entries, the root's first.
    pub steps: Vec<Step>,
    /// The page and its bytes, where the way ends at one in memory.
    pub found: Option<(Pa, u64)>,
    /// The table that could not be read: its level, its frame, why.
    pub absent: Option<(Level, Pfn, Error)>,
    /// The prototype entry that the last step names: where, its value, what it says.
    pub prototype: Option<Result<(Va, u64, Meaning)>>,
}

/// A page that is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapped {
    /// Its address.
    pub va: Va,
    /// Where it is.
    pub pa: Pa,
    /// Bytes.
    pub size: u64,
}

/// A table whose mappings were not visited.
#[derive(Clone, Debug)]
pub enum Skipped {
    /// It cannot be read: the level of its entries, the first address behind it, its frame, why.
    Absent(Level, Va, Pfn, Error),
    /// It was visited before, behind another address.
    Again(Level, Va, Pfn),
}

/// How this kernel writes entries that are not valid: as its symbols tell, without them as [`Scheme::software`] has it.
#[derive(Clone, Copy, Debug)]
struct Software {
    scheme: Scheme,
    /// Where the number of a page file stands, and the page in it.
    file: u32,
    page: u32,
    /// Where the five bits of protection stand.
    protection: u32,
    /// The bit that says bits against L1TF are not set; `None` where they never are, as on arm64.
    swizzle: Option<u32>,
    /// Bits that are set in them against L1TF, where the kernel tells.
    mask: Option<u64>,
    /// The frame after the last; 0 if unknown.
    end: Pfn,
    /// What packed prototype addresses are relative to (x86 with 4-byte entries).
    base: Option<Va>,
}

impl Software {
    fn read(session: &Session<'_>, scheme: Scheme) -> Software {
        let of = memory::kernel_type(session, "_MMPTE_SOFTWARE").ok();
        let bit = |path: &str| of.as_ref()?.field(path).map(|field| field.bit_position);
        let (file, page, protection, swizzle) = scheme.software();
        let wide = scheme.entry_size() == 8 && scheme.address_bits() > 32;
        let mask = Some(memory::invalid_pte_mask(session)).filter(|mask| wide && *mask != 0);
        let runs = pfn::physical_memory(session).unwrap_or_default();
        let base = super::pointer_variable(session, "MmProtopteBase", None).ok();
        Software {
            scheme,
            file: bit("PageFileLow").unwrap_or(file),
            page: bit("PageFileHigh").unwrap_or(page),
            protection: bit("Protection").unwrap_or(protection),
            swizzle: if of.is_some() { bit("SwizzleBit") } else { swizzle },
            mask,
            end: runs.last().map_or(Pfn(0), |run| Pfn(run.0.0 + run.1)),
            base: base.filter(|base| session.target().is_kernel(*base)),
        }
    }

    /// True for an entry in which bits may be set against L1TF.
    fn may_hide(&self, value: u64) -> bool {
        self.swizzle.is_some_and(|bit| value >> bit & 1 == 0)
    }

    /// What an entry says that is not valid.
    fn meaning(&self, value: u64) -> Meaning {
        if value == 0 {
            return Meaning::Zero;
        }
        let wide = self.scheme.address_bits() > 32;
        let entry = match self.mask {
            Some(mask) if self.may_hide(value) => value & !mask,
            _ => value,
        };
        if entry & PROTOTYPE != 0 {
            return self.prototype(entry);
        }
        if entry & TRANSITION != 0 {
            let pfn = self.scheme.frame(entry) >> 12;
            // Without the kernel's word: bits above the end of memory are the mitigation's.
            let above = wide && self.may_hide(value) && self.end.0 != 0 && pfn >= self.end.0;
            let room = self.end.0.checked_next_power_of_two().unwrap_or(u64::MAX);
            return Meaning::Transition(Pfn(if above { pfn & (room - 1) } else { pfn }));
        }
        let page = entry >> self.page & if self.scheme == Scheme::X86 { 0xf_ffff } else { 0xffff_ffff };
        match page {
            0 => Meaning::DemandZero,
            page => Meaning::PageFile(entry >> self.file & 0xf, page),
        }
    }

    fn prototype(&self, entry: u64) -> Meaning {
        let (at, none) = match self.scheme {
            Scheme::X86 => {
                let far = (entry >> 11 << 9) + ((entry & 0xfe) << 1);
                match self.base {
                    Some(base) if entry >> 11 != 0x1f_ffff => (base.0.wrapping_add(far) & 0xffff_ffff, 0),
                    _ => return Meaning::Descriptors,
                }
            }
            Scheme::X86Pae => (entry >> 32, 0xffff_ffff),
            // 48 bits with a sign; all of the upper 32 set says that descriptors tell.
            _ => ((entry as i64 >> 16) as u64, 0xffff_ffff_ffff_0000),
        };
        if at == none || at == 0 { Meaning::Descriptors } else { Meaning::Prototype(Va(at)) }
    }

    /// The same of a prototype entry: there the bit means a subsection.
    fn shared(&self, entry: u64) -> Meaning {
        match () {
            () if entry & 1 != 0 => Meaning::Page(Pa(self.scheme.frame(entry)), PAGE_SIZE),
            () if entry & PROTOTYPE != 0 => Meaning::MappedFile,
            () => self.meaning(entry),
        }
    }
}

/// The page tables of an address space.
#[derive(Clone, Copy)]
pub struct Tables<'a> {
    session: &'a Session<'a>,
    memory: Memory<'a>,
    /// How they are made.
    pub scheme: Scheme,
    /// The root table.
    pub root: Pa,
    /// The root table of the upper half: another one on arm64.
    upper: Pa,
    /// Where they see themselves; `None` where nothing tells.
    pub window: Option<TableWindow>,
    software: Software,
}

impl<'a> Tables<'a> {
    /// The tables of the address space that the user looks at.
    ///
    /// # Errors
    /// Where the dump tells no root.
    pub fn current(session: &'a Session<'a>) -> Result<Tables<'a>> {
        let info = session.target().info();
        let header = info.directory_table_base;
        let root = match session.evaluate("@$proc") {
            Ok(process) if process != info.current_process && process != 0 => {
                session.memory().of_process(Va(process)).map_or(header, |memory| memory.space)
            }
            _ => header,
        };
        Tables::of(session, Pa(root))
    }

    /// The tables with this root, flags and all.
    ///
    /// # Errors
    /// Where the root is 0, or the dump holds no physical memory.
    pub fn of(session: &'a Session<'a>, root: Pa) -> Result<Tables<'a>> {
        if root.0 == 0 {
            return Err(Error::NotFound("the dump does not tell the root of the page tables".to_owned()));
        }
        if session.target().info().present & 0x10 == 0 {
            return Err(Error::Unsupported(
                "page tables are not captured in this dump: it holds no physical memory".to_owned(),
            ));
        }
        let scheme = scheme(session);
        let bare = Tables {
            session,
            memory: session.memory().space(root),
            scheme,
            root: scheme.root(root.0),
            upper: scheme.root(session.target().info().directory_table_base),
            window: None,
            software: Software::read(session, scheme),
        };
        Ok(Tables { window: bare.find_window(), ..bare })
    }

    /// The memory that they describe.
    pub fn memory(&self) -> Memory<'a> {
        self.memory
    }

    fn root_of(&self, va: Va) -> Pa {
        if self.scheme == Scheme::Arm64 && va.0 >> 63 != 0 { self.upper } else { self.root }
    }

    /// Where the tables see themselves: what the kernel says, if the root agrees or cannot be read, else what the root
    /// says.
    fn find_window(&self) -> Option<TableWindow> {
        let (scheme, session) = (self.scheme, self.session);
        let window = |base: Va| TableWindow { base, entry: scheme.entry_size(), bits: scheme.address_bits() };
        if scheme.address_bits() == 32 {
            return Some(window(Va(0xc000_0000)));
        }
        let told = super::pointer_variable(session, "MmPteBase", None).ok();
        let told = told.or_else(|| session.target().kd_data(KD_PTE_BASE).map(Va));
        let top = scheme.levels().first()?;
        // It is what one entry of the root covers.
        let fits = |base: &Va| session.target().is_kernel(*base) && base.0 & (top.covers() - 1) == 0;
        let told = told.filter(fits);
        let root = self.root_of(Va(u64::MAX));
        let mut table = vec![0; PAGE_SIZE as usize];
        if self.memory.read_physical(root, &mut table).is_err() {
            return told.map(window);
        }
        let seen = |index: usize| {
            let entry = table.get(index * 8..index * 8 + 8)?.try_into().ok().map(u64::from_le_bytes)?;
            (entry & 1 != 0 && scheme.frame(entry) == root.0)
                .then(|| scheme.extend((index as u64) << top.shift))
        };
        let by_root = (256..512).find_map(seen);
        told.filter(|base| seen((base.0 >> top.shift & 511) as usize) == Some(*base))
            .or(by_root)
            .or(told)
            .map(window)
    }

    /// The address at which the entry of `va` on a level is seen.
    pub fn entry_address(&self, va: Va, level: &Level) -> Option<Va> {
        let window = self.window?;
        // The four topmost entries of PAE are in no page table.
        if self.scheme == Scheme::X86Pae && level.name == "PPE" {
            return None;
        }
        let above = self.scheme.levels().iter().rev().position(|one| one == level)?;
        Some((0..=above).fold(va, |at, _| window.entry_of(at)))
    }

    fn entry(&self, at: Pa) -> Result<u64> {
        let mut bytes = [0; 8];
        let place = bytes.get_mut(..self.scheme.entry_size() as usize).unwrap_or_default();
        self.memory.read_physical(at, place)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The five bits of protection in an entry that is not valid, as the memory manager codes it (see
    /// [`super::vad::protection_name`]).
    pub fn protection(&self, entry: u64) -> u64 {
        entry >> self.software.protection & 0x1f
    }

    /// What an entry of a level says.
    pub fn meaning(&self, level: &Level, entry: u64) -> Meaning {
        match self.scheme.valid(level, entry) {
            Some(meaning) => meaning,
            None if self.scheme == Scheme::X86Pae && level.name == "PPE" => Meaning::Zero,
            None => self.software.meaning(entry),
        }
    }

    /// The way to an address.
    ///
    /// # Errors
    /// For addresses that cannot be.
    pub fn walk(&self, va: Va) -> Result<Walk> {
        if !self.scheme.is_canonical(va) {
            return Err(Error::Usage(format!(
                "{} is not a canonical address",
                self.session.target().show(va)
            )));
        }
        let mut walk = Walk { steps: Vec::new(), found: None, absent: None, prototype: None };
        let mut table = self.root_of(va);
        for level in self.scheme.levels() {
            let index = va.0 >> level.shift & (level.count - 1);
            let at = table.add(index * self.scheme.entry_size());
            let entry = match self.entry(at) {
                Ok(entry) => entry,
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => {
                    walk.absent = Some((*level, table.pfn(), error));
                    return Ok(walk);
                }
            };
            let meaning = self.meaning(level, entry);
            walk.steps.push(Step { level: *level, index, at, entry, meaning });
            let last = level.name == "PTE";
            match meaning {
                Meaning::Page(pa, size) => walk.found = Some((pa, size)),
                Meaning::Transition(pfn) if last => walk.found = Some((pfn.pa(), PAGE_SIZE)),
                Meaning::Table(pfn) | Meaning::Transition(pfn) => {
                    table = pfn.pa();
                    continue;
                }
                Meaning::Prototype(at) => walk.prototype = Some(self.shared(at)),
                _ => {}
            }
            break;
        }
        if let Some(Ok((_, _, meaning))) = &walk.prototype {
            walk.found = match *meaning {
                Meaning::Page(pa, size) => Some((pa, size)),
                Meaning::Transition(pfn) => Some((pfn.pa(), PAGE_SIZE)),
                _ => None,
            };
        }
        Ok(walk)
    }

    fn shared(&self, at: Va) -> Result<(Va, u64, Meaning)> {
        let entry = match self.scheme.entry_size() {
            4 => u64::from(self.memory.u32(at)?),
            _ => self.memory.u64(at)?,
        };
        Ok((at, entry, self.software.shared(entry)))
    }

    /// Calls `visit` with every page from `start` to `end` that the processor maps, in ascending order. A table that
    /// stands behind several entries of one level is visited once, so that tables that lead in circles end.
    ///
    /// # Errors
    /// What `visit` says, and Ctrl+C.
    pub fn each_page(
        &self,
        start: u64,
        end: u64,
        visit: &mut dyn FnMut(Mapped) -> Result<()>,
    ) -> Result<Vec<Skipped>> {
        let mut visit = Visit { start, end, seen: HashSet::new(), visit, skipped: Vec::new() };
        self.table(0, self.root, 0, &mut visit)?;
        Ok(visit.skipped)
    }

    fn table(&self, depth: usize, table: Pa, first: u64, to: &mut Visit<'_>) -> Result<()> {
        let Some(level) = self.scheme.levels().get(depth) else { return Ok(()) };
        self.session.check_interrupt()?;
        let width = self.scheme.entry_size() as usize;
        let mut bytes = vec![0; level.count as usize * width];
        if let Err(error) = self.memory.read_physical(table, &mut bytes) {
            to.skipped.push(Skipped::Absent(*level, self.scheme.extend(first), table.pfn(), error));
            return Ok(());
        }
        if depth == 0 && self.upper != self.root && self.scheme == Scheme::Arm64 {
            // The upper half stands in a table of its own.
            let half = bytes.len() / 2;
            let mut upper = vec![0; bytes.len()];
            match self.memory.read_physical(self.upper, &mut upper) {
                Ok(()) => bytes.splice(half.., upper.into_iter().skip(half)).for_each(drop),
                Err(error) => {
                    let va = self.scheme.extend(1 << (self.scheme.address_bits() - 1));
                    to.skipped.push(Skipped::Absent(*level, va, self.upper.pfn(), error));
                    bytes.truncate(half);
                }
            }
        }
        for (index, entry) in bytes.chunks_exact(width).enumerate() {
            if depth == 0 {
                self.session.progress(index as u64, level.count, "page tables");
            }
            let entry = entry.iter().rev().fold(0, |value: u64, &byte| value << 8 | u64::from(byte));
            let low = first | (index as u64) << level.shift;
            let va = self.scheme.extend(low);
            if va.0 > to.end || va.0 | (level.covers() - 1) < to.start {
                continue;
            }
            match self.scheme.valid(level, entry) {
                Some(Meaning::Page(pa, size)) => (to.visit)(Mapped { va, pa, size })?,
                Some(Meaning::Table(pfn)) if to.seen.insert((depth + 1, pfn)) => {
                    self.table(depth + 1, pfn.pa(), low, to)?;
                }
                Some(Meaning::Table(pfn)) => to.skipped.push(Skipped::Again(*level, va, pfn)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A visit of pages.
struct Visit<'v> {
    start: u64,
    end: u64,
    /// Levels and frames of tables that were visited.
    seen: HashSet<(usize, Pfn)>,
    visit: &'v mut dyn FnMut(Mapped) -> Result<()>,
    skipped: Vec<Skipped>,
}

/// Where page tables appear in virtual memory.
///
/// # Errors
/// Where neither the kernel nor the root of the tables tells.
pub fn window(session: &Session<'_>) -> Result<TableWindow> {
    Tables::of(session, session.target().directory_table_base())?.window.ok_or_else(|| {
        Error::NotFound(
            "where the page tables appear is not known: nt!MmPteBase does not tell, and the root has no entry for itself"
                .to_owned(),
        )
    })
}

/// How the target translates. The host knows; its answer for an address that must be mapped tells which of the ways it
/// is.
pub fn scheme(session: &Session<'_>) -> Scheme {
    let target = session.target();
    let candidates = match target.machine() {
        Machine::Arm64 => return Scheme::Arm64,
        Machine::X64 => [Scheme::X64, Scheme::X64Level5],
        Machine::X86 if target.kd_data_offset(KD_PAE_ENABLED).is_some_and(|value| value & 1 != 0) => {
            [Scheme::X86Pae, Scheme::X86]
        }
        Machine::X86 => [Scheme::X86, Scheme::X86Pae],
    };
    let root = target.directory_table_base();
    let memory = session.memory().space(root);
    let narrow = target.pointer_size() == 4;
    let info = target.info();
    let known = [info.ps_loaded_module_list, info.kernel_base]
        .map(|va| Va(if narrow { va & 0xffff_ffff } else { va }));
    let agrees = |scheme: &Scheme| {
        known
            .iter()
            .any(|&va| memory.translate(va).is_ok_and(|pa| plain(session, *scheme, root, va) == Some(pa)))
    };
    candidates.into_iter().find(agrees).unwrap_or(candidates[0])
}

/// What an address means, where every entry on the way is valid.
fn plain(session: &Session<'_>, scheme: Scheme, root: Pa, va: Va) -> Option<Pa> {
    let mut table = scheme.root(root.0);
    for level in scheme.levels() {
        let index = va.0 >> level.shift & (level.count - 1);
        let mut bytes = [0; 8];
        let place = bytes.get_mut(..scheme.entry_size() as usize)?;
        session.memory().read_physical(table.add(index * scheme.entry_size()), place).ok()?;
        match scheme.valid(level, u64::from_le_bytes(bytes))? {
            Meaning::Table(pfn) => table = pfn.pa(),
            Meaning::Page(pa, size) => return Some(pa.add(va.0 & (size - 1))),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn software(scheme: Scheme, mask: Option<u64>) -> Software {
        let (file, page, protection, swizzle) = scheme.software();
        Software {
            scheme,
            file,
            page,
            protection,
            swizzle,
            mask,
            end: Pfn(0x4_0000),
            base: Some(Va(0xe100_0000)),
        }
    }

    #[test]
    fn entries_that_are_not_valid_say_where_the_page_is() {
        let wide = software(Scheme::X64, None);
        assert_eq!(wide.meaning(0), Meaning::Zero);
        assert_eq!(wide.meaning(0x80), Meaning::DemandZero);
        assert_eq!(wide.meaning(0x1234_0000_2080), Meaning::PageFile(2, 0x1234));
        assert_eq!(wide.meaning(0x1234_5880), Meaning::Transition(Pfn(0x12345)));
        assert_eq!(wide.meaning(0xac0f_1240_0010_0400), Meaning::Prototype(Va(0xffff_ac0f_1240_0010)));
        assert_eq!(wide.meaning(0xffff_ffff_0000_0420), Meaning::Descriptors);
        // A bit above the end of memory is the mitigation's; with its mask it goes, unless the entry says it has none.
        assert_eq!(wide.meaning(0x2000_1234_5880), Meaning::Transition(Pfn(0x12345)));
        let masked = software(Scheme::X64, Some(1 << 45));
        assert_eq!(masked.meaning(0x2000_1234_5880), Meaning::Transition(Pfn(0x12345)));
        assert_eq!(masked.meaning(0x2000_1234_5890), Meaning::Transition(Pfn(0x2_0001_2345)));
        assert_eq!(masked.meaning(0x2000_0000_0080), Meaning::DemandZero);
        let narrow = software(Scheme::X86, None);
        assert_eq!(narrow.meaning(0x0123_4084), Meaning::PageFile(2, 0x1234));
        assert_eq!(
            narrow.meaning((0x1234 << 11) | (3 << 1) | 0x400),
            Meaning::Prototype(Va(0xe100_0000 + 0x24_680c))
        );
        assert_eq!(
            software(Scheme::X86Pae, None).meaning(0xe123_4568_0000_0400),
            Meaning::Prototype(Va(0xe123_4568))
        );
        let arm = software(Scheme::Arm64, Some(1 << 45));
        assert_eq!(arm.meaning(0x1234_0000_0088), Meaning::PageFile(2, 0x1234));
        assert_eq!(arm.meaning(0x2000_1234_5888), Meaning::Transition(Pfn(0x2_0001_2345)));
        assert_eq!(wide.shared(0x1234_0000_0400), Meaning::MappedFile);
        assert_eq!(wide.shared(0x1234_5867), Meaning::Page(Pa(0x1234_5000), PAGE_SIZE));
    }

    #[test]
    fn addresses_have_their_sign() {
        assert!(
            Scheme::X64.is_canonical(Va(0xffff_8000_0000_0000)) && !Scheme::X64.is_canonical(Va(1 << 47))
        );
        assert!(Scheme::X64Level5.is_canonical(Va(1 << 47)) && !Scheme::X86.is_canonical(Va(1 << 32)));
        assert_eq!(Scheme::X64.extend(0x1ed << 39), Va(0xffff_f680_0000_0000));
        assert_eq!(Scheme::X64.root(0x8000_0000_38f9_d002), Pa(0x38f9_d000));
        assert_eq!(Scheme::X86Pae.root(0x7f2a_0520), Pa(0x7f2a_0520));
    }
}
