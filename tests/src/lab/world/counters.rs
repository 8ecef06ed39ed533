//! Variables of the memory manager: counters of pages and commitment, page files.
//!
//! Facts: public symbols of the kernels named in `kernels/layouts.py`. Up to Windows 8.1 every counter is a variable of
//! its own; later ones stand in the parts of `MiSystemPartition` and `MiState` that are called visible (`Vp`, `Vs`).

use super::pool::PoolKind;
use super::{Story, World};
use crate::lab::layout::Machine;
use kd_sdk::address::{PAGE_SIZE, Va};
use serde_json::json;

#[rustfmt::skip]
/// Where a variable of old went: its name, the variable that holds it now, the path there.
static MOVED: &[(&str, &str, &str)] = &[
    ("MmLowestPhysicalPage", "MiSystemPartition", "_MI_PARTITION.Vp.LowestPhysicalPage"),
    ("MmHighestPhysicalPage", "MiSystemPartition", "_MI_PARTITION.Vp.HighestPhysicalPage"),
    ("MmNumberOfPhysicalPages", "MiSystemPartition", "_MI_PARTITION.Vp.NumberOfPhysicalPages"),
    ("MmAvailablePages", "MiSystemPartition", "_MI_PARTITION.Vp.AvailablePages"),
    ("MmResidentAvailablePages", "MiSystemPartition", "_MI_PARTITION.Vp.ResidentAvailablePages"),
    ("MmTotalCommittedPages", "MiSystemPartition", "_MI_PARTITION.Vp.TotalCommittedPages"),
    ("MmTotalCommitLimit", "MiSystemPartition", "_MI_PARTITION.Vp.TotalCommitLimit"),
    ("MmTotalPagesForPagingFile", "MiSystemPartition", "_MI_PARTITION.Vp.TotalPagesForPagingFile"),
    ("MmSharedCommit", "MiSystemPartition", "_MI_PARTITION.Vp.SharedCommit"),
    ("MmNumberOfPagingFiles", "MiSystemPartition", "_MI_PARTITION.Vp.NumberOfPagingFiles"),
    ("MmPagingFile", "MiSystemPartition", "_MI_PARTITION.Vp.PagingFile"),
    ("MmModifiedPageListHead", "MiSystemPartition", "_MI_PARTITION.Vp.ModifiedPageListHead"),
    ("MmModifiedNoWritePageListHead", "MiSystemPartition", "_MI_PARTITION.Vp.ModifiedNoWritePageListHead"),
    ("MmTotalCommitLimitMaximum", "MiSystemPartition", "_MI_PARTITION.Commit.TotalCommitLimitMaximum"),
    ("MmPeakCommitment", "MiSystemPartition", "_MI_PARTITION.Commit.PeakCommitment"),
    ("MmFreePagesByColor", "MiSystemPartition", "_MI_PARTITION.PageLists.FreePagesByColor"),
    ("MmZeroedPageListHead", "MiSystemPartition", "_MI_PARTITION.PageLists.ZeroedPageListHead"),
    ("MmFreePageListHead", "MiSystemPartition", "_MI_PARTITION.PageLists.FreePageListHead"),
    ("MmStandbyPageListHead", "MiSystemPartition", "_MI_PARTITION.PageLists.StandbyPageListHead"),
    ("MmStandbyPageListByPriority", "MiSystemPartition", "_MI_PARTITION.PageLists.StandbyPageListByPriority"),
    ("MiModifiedPageListNoReservation", "MiSystemPartition", "_MI_PARTITION.PageLists.ModifiedPageListNoReservation"),
    ("MappedPageListHead", "MiSystemPartition", "_MI_PARTITION.PageLists.MappedPageListHead"),
    ("MmBadPageListHead", "MiSystemPartition", "_MI_PARTITION.PageLists.BadPageListHead"),
    ("MmSecondaryColors", "MiState", "_MI_SYSTEM_INFORMATION.Hardware.SecondaryColors"),
    ("MmDriverCommit", "MiState", "_MI_SYSTEM_INFORMATION.Vs.DriverCommit"),
    ("MmProcessCommit", "MiState", "_MI_SYSTEM_INFORMATION.Vs.ProcessCommit"),
    ("MmMdlPagesAllocated", "MiState", "_MI_SYSTEM_INFORMATION.Vs.MdlPagesAllocated"),
    ("MmMdlPagesAllocated", "MiSystemPartition", "_MI_PARTITION.Vp.MdlPagesAllocated"),
    ("MmSizeOfPagedPoolInPages", "MiState", "_MI_SYSTEM_INFORMATION.Vs.SizeOfPagedPoolInPages"),
    ("MmAllocatedNonPagedPool", "MiState", "_MI_SYSTEM_INFORMATION.Pools.AllocatedNonPagedPool"),
    ("MmPagedPoolInfo", "MiState", "_MI_SYSTEM_INFORMATION.Vs.PagedPoolInfo"),
    ("MiSystemPteInfo", "MiState", "_MI_SYSTEM_INFORMATION.Vs.SystemPteInfo"),
    // No variable before: reached through the same door.
    ("MaximumNonPagedPoolInPages", "MiState", "_MI_SYSTEM_INFORMATION.Vs.MaximumNonPagedPoolInPages"),
    ("NonPagedPoolCommit", "MiState", "_MI_SYSTEM_INFORMATION.Vs.NonPagedPoolCommit"),
    ("SystemPageTableCommit", "MiState", "_MI_SYSTEM_INFORMATION.Vs.SystemPageTableCommit"),
    ("PfnDatabaseCommit", "MiState", "_MI_SYSTEM_INFORMATION.Vs.PfnDatabaseCommit"),
    ("InvalidPteMask", "MiState", "_MI_SYSTEM_INFORMATION.Hardware.InvalidPteMask"),
];

/// Variables of 32 bits.
const NARROW: [&str; 3] = ["MmNumberOfPagingFiles", "MmSecondaryColors", "ExpNumberOfPagedPools"];

impl World {
    /// The address of a kernel variable under its old name, where this generation has it.
    pub fn variable(&self, name: &str) -> Option<Va> {
        let image = self.image("nt");
        let old = image.symbols.iter().any(|s| s.name == name).then(|| Va(image.address_of(name)));
        old.or_else(|| {
            let &(_, base, path) = self.moved(name)?;
            let known = image.symbols.iter().any(|s| s.name == base);
            known.then(|| Some(Va(image.address_of(base)).add(self.options.generation.find(path)?)))?
        })
    }

    /// The place that this generation has of those a variable of old went to.
    fn moved(&self, name: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
        MOVED.iter().find(|m| m.0 == name && self.options.generation.find(m.2).is_some())
    }

    /// Writes a counter, if this generation has it.
    pub(super) fn count(&mut self, name: &str, value: u64) {
        let Some(at) = self.variable(name) else { return };
        let old = self.image("nt").symbols.iter().any(|s| s.name == name);
        let moved = self.moved(name).filter(|_| !old);
        let width = match moved {
            Some((_, _, path)) => self.options.generation.place(path).0,
            None if NARROW.contains(&name) => 4,
            None => self.options.generation.machine.pointer_size(),
        };
        self.write(at, &value.to_le_bytes()[..width]);
    }

    /// The counters that follow from the story and from what was made; `available` pages are on the lists.
    pub(super) fn write_counters(&mut self, available: u64, for_page_files: u64, tables: u64) {
        let story = self.options.story;
        let pressed = story == Story::MemoryPressure;
        let pages: u64 = self.memory.ram().iter().map(|r| r.count).sum();
        let (nonpaged, paged) = self.pool_bytes();
        let limit = pages * 2;
        let leaked = if story == Story::Leak { nonpaged / PAGE_SIZE } else { 0 };
        let committed = if pressed { limit - 1 } else { pages / 2 + leaked };
        let maximum = if story == Story::Leak { nonpaged + nonpaged / 32 } else { pages * PAGE_SIZE / 2 };
        let maximum = maximum.next_multiple_of(PAGE_SIZE);
        let free_ptes = if pressed { 412 } else { 30_000 };
        let counters = [
            ("MmAvailablePages", available),
            ("MmResidentAvailablePages", if pressed { 12 } else { pages * 3 / 4 }),
            ("MmTotalCommitLimit", limit),
            ("MmTotalCommitLimitMaximum", limit + pages),
            ("MmTotalCommittedPages", committed),
            ("MmPeakCommitment", if pressed { limit } else { committed + pages / 8 }),
            ("MmTotalPagesForPagingFile", for_page_files),
            ("MmSharedCommit", 0x123),
            ("MmDriverCommit", 0x45),
            ("MmProcessCommit", 0x67),
            ("MmPagedPoolCommit", paged / PAGE_SIZE),
            ("MmSystemLockPagesCount", 0x1b),
            ("MmMdlPagesAllocated", 0x1b),
            ("MmMaximumNonPagedPoolInBytes", maximum),
            ("MaximumNonPagedPoolInPages", maximum / PAGE_SIZE),
            ("MmSizeOfNonPagedPoolInBytes", nonpaged),
            ("MmAllocatedNonPagedPool", nonpaged / PAGE_SIZE),
            ("NonPagedPoolCommit", nonpaged / PAGE_SIZE),
            ("MmSizeOfPagedPoolInBytes", 0x1000_0000),
            ("MmSizeOfPagedPoolInPages", 0x1_0000),
            ("MmTotalFreeSystemPtes", free_ptes),
            ("SystemPageTableCommit", tables),
            ("PfnDatabaseCommit", self.described() * self.options.generation.at("_MMPFN") / PAGE_SIZE),
            ("InvalidPteMask", self.options.swizzle),
        ];
        let mut told = serde_json::Map::new();
        for (name, value) in counters {
            if self.variable(name).is_some() {
                self.count(name, value);
                told.insert(name.into(), value.into());
            }
        }
        if let Some(pool) = self.variable("MmPagedPoolInfo") {
            let commit = paged / PAGE_SIZE;
            self.set(pool, "_MM_PAGED_POOL_INFO.AllocatedPagedPool", commit);
            self.set(pool, "_MM_PAGED_POOL_INFO.PagedPoolCommit", commit);
            self.set(pool, "_MM_PAGED_POOL_INFO.MaximumSize", 0x1_0000);
            told.insert("AllocatedPagedPool".into(), commit.into());
        }
        if let Some(ptes) = self.variable("MiSystemPteInfo") {
            self.set(ptes, "_MI_SYSTEM_PTE_TYPE.TotalSystemPtes", 0x1_0000);
            self.set(ptes, "_MI_SYSTEM_PTE_TYPE.TotalFreeSystemPtes", free_ptes);
            told.insert("TotalFreeSystemPtes".into(), free_ptes.into());
        }
        self.facts.insert("counters".into(), told.into());
    }

    /// Two page files: the usual one, and a second that is the swap file of modern programs where there is one.
    pub(super) fn page_files(&mut self) {
        let generation = self.options.generation;
        let pressed = self.options.story == Story::MemoryPressure;
        let pages: u64 = self.memory.ram().iter().map(|r| r.count).sum();
        let swap = generation.find("_MMPAGING_FILE.WsSwapPagefile").is_some();
        let second = if swap { r"\??\C:\swapfile.sys" } else { r"\??\D:\pagefile.sys" };
        let files = [
            (r"\??\C:\pagefile.sys", pages, pages / 2, pages * 2, if pressed { 23 } else { pages * 3 / 4 }),
            (second, 0x400, 0x400, 0x1000, if pressed { 5 } else { 0x3ff }),
        ];
        let array = self.variable("MmPagingFile").expect("every kernel has page files");
        let step = generation.machine.pointer_size() as u64;
        let mut list = Vec::new();
        for (number, (name, size, minimum, maximum, free)) in files.into_iter().enumerate() {
            let at = self.pool_block(b"MmPf", generation.at("_MMPAGING_FILE"));
            let used = size - 1 - free; // its first page is never used
            let peak = used + (free / 8);
            for (field, value) in [
                ("Size", size),
                ("MinimumSize", minimum),
                ("MaximumSize", maximum),
                ("FreeSpace", free),
                ("CurrentUsage", used),
                ("PeakUsage", peak),
                ("HighestPage", size - 1),
                ("PageFileNumber", number as u64),
                ("WsSwapPagefile", u64::from(swap && number == 1)),
                ("BootPartition", u64::from(number == 0)),
            ] {
                self.set(at, &format!("_MMPAGING_FILE.{field}"), value);
            }
            self.write_string(at.add(generation.at("_MMPAGING_FILE.PageFileName")), name);
            let device = self.volume()[0];
            let file = self.file_on(device, &name[6..]);
            self.set(at, "_MMPAGING_FILE.File", file.0);
            self.write_pointer(array.add(number as u64 * step), at.0);
            list.push(json!({
                "address": at.0, "name": name, "size": size, "minimum": minimum, "maximum": maximum, "free": free,
                "peak": peak, "used": used, "file": file.0, "swap": swap && number == 1,
            }));
        }
        self.count("MmNumberOfPagingFiles", files.len() as u64);
        self.facts.insert("page_files".into(), list.into());
    }

    /// Where pools lie, as the variables of old kernels tell.
    pub(super) fn pool_limits(&mut self) {
        let told = |starts: &[&str], ends: &[&str]| {
            let any = |names: &[&str]| names.iter().any(|name| self.variable(name).is_some());
            // Segment heaps tell themselves, types of addresses tell of everything.
            self.options.generation.build >= 19041
                || self.variable("MiSystemVaType").is_some()
                || any(starts) && any(ends)
        };
        let placed = json!({
            "nonpaged": told(&["MmNonPagedPoolStart"], &["MmNonPagedPoolEnd", "MiNonPagedPoolEnd"]),
            "paged": told(&["MmPagedPoolStart", "MiPagedPoolStart"], &["MmPagedPoolEnd"]),
        });
        self.facts.insert("pool_is_placed".into(), placed);
        if self.options.generation.build >= 19041 {
            return;
        }
        let machine = self.options.generation.machine;
        let [nonpaged, paged] = [PoolKind::NonPaged, PoolKind::Paged].map(|kind| kind.base(machine).0);
        let most = if machine == Machine::X86 { 0x0d00_0000 } else { 64 << 30 };
        for (name, value) in [
            ("MmNonPagedPoolStart", nonpaged),
            ("MmNonPagedPoolEnd", nonpaged + most),
            ("MiNonPagedPoolEnd", nonpaged + most),
            ("MmPagedPoolStart", paged),
            ("MiPagedPoolStart", paged),
            ("MmPagedPoolEnd", paged + 0x1000_0000 - 1),
            ("MmProtopteBase", paged),
            ("MmSubsectionBase", nonpaged & !0x07ff_ffff),
        ] {
            self.count(name, value);
        }
    }
}
