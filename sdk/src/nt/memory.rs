//! The memory manager's counters, wherever a version of Windows keeps them, and what processes are charged.
//!
//! Up to Windows 8.1 every counter is a variable (`MmAvailablePages`). Since Windows 10 they are fields of
//! `MiSystemPartition` and `MiState`. Which one it is follows from the symbols and fields that exist. Without symbols
//! the debugger data block tells the addresses of the old variables. Page files are in [`super::pagefile`], frames in
//! [`super::pfn`].

use super::kernel::Kernel;
use super::{how_to_get_symbols, process, string, told};
use crate::address::{PAGE_SIZE, Pa, Va};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::types::{Snapshot, Type};

/// A counter of the memory manager.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs)] // the names are the kernel's
pub enum Counter {
    AvailablePages,
    ResidentAvailablePages,
    NumberOfPhysicalPages,
    LowestPhysicalPage,
    HighestPhysicalPage,
    TotalCommittedPages,
    TotalCommitLimit,
    TotalCommitLimitMaximum,
    PeakCommitment,
    SharedCommit,
    DriverCommit,
    ProcessCommit,
    PagedPoolCommit,
    NonPagedPoolCommit,
    SystemPageTableCommit,
    PfnDatabaseCommit,
    BootCommit,
    LockedIoPages,
    FreeSystemPtes,
    NonPagedFreePtes,
    SpecialFreePtes,
    NonPagedPoolPages,
    NonPagedPoolBytes,
    NonPagedPoolMaximumPages,
    NonPagedPoolMaximumBytes,
    PagedPoolPages,
    PagedPoolMaximumPages,
    PagedPoolMaximumBytes,
    SpecialPoolPages,
    ModifiedPages,
    ModifiedNoWritePages,
    ModifiedPageFilePages,
    StandbyPages,
    FreePages,
    ZeroedPages,
    BadPages,
    KernelStackPages,
    NumberOfPagingFiles,
    SlabAllocatorPages,
    CommitFailures,
}

/// Where a counter may be.
enum Place {
    /// An array of numbers as wide as a pointer, usually of one, and the place in it.
    Variable(&'static str, u64),
    /// A variable of 32 bits.
    Narrow(&'static str),
    /// A field of a structure that is a variable: the variable, its type, the field.
    Field(&'static str, &'static str, &'static str),
    /// A variable as wide as a pointer whose address stands in the debugger data block.
    DebuggerData(u32),
    /// The same, 32 bits wide.
    DebuggerData32(u32),
}

use Place::{DebuggerData, DebuggerData32, Field, Narrow, Variable};

const PARTITION: &str = "_MI_PARTITION";
const SYSTEM: &str = "_MI_SYSTEM_INFORMATION";

/// A field of the partition that all programs are in.
const fn partition(path: &'static str) -> Place {
    Field("MiSystemPartition", PARTITION, path)
}

/// A field of the memory manager's state.
const fn state(path: &'static str) -> Place {
    Field("MiState", SYSTEM, path)
}

impl Counter {
    #[rustfmt::skip]
    fn places(self) -> &'static [Place] {
        use Counter as C;
        match self {
            C::AvailablePages => &const { [Variable("MmAvailablePages", 0), partition("Vp.AvailablePages"), DebuggerData(0x1a8)] },
            C::ResidentAvailablePages => &const { [Variable("MmResidentAvailablePages", 0), partition("Vp.ResidentAvailablePages"), DebuggerData(0x1b0)] },
            C::NumberOfPhysicalPages => &const { [Variable("MmNumberOfPhysicalPages", 0), partition("Vp.NumberOfPhysicalPages"), DebuggerData(0xf8)] },
            C::LowestPhysicalPage => &const { [Variable("MmLowestPhysicalPage", 0), partition("Vp.LowestPhysicalPage"), DebuggerData(0xe8)] },
            C::HighestPhysicalPage => &const { [Variable("MmHighestPhysicalPage", 0), partition("Vp.HighestPhysicalPage"), DebuggerData(0xf0)] },
            C::TotalCommittedPages => &const { [Variable("MmTotalCommittedPages", 0), partition("Vp.TotalCommittedPages"), DebuggerData(0x150)] },
            C::TotalCommitLimit => &const { [Variable("MmTotalCommitLimit", 0), partition("Vp.TotalCommitLimit"), DebuggerData(0x148)] },
            C::TotalCommitLimitMaximum => &const { [Variable("MmTotalCommitLimitMaximum", 0), partition("Commit.TotalCommitLimitMaximum"), DebuggerData(0x260)] },
            C::PeakCommitment => &const { [Variable("MmPeakCommitment", 0), partition("Commit.PeakCommitment"), DebuggerData(0x258)] },
            C::SharedCommit => &const { [Variable("MmSharedCommit", 0), partition("Vp.SharedCommit"), state("Vs.SharedCommit"), DebuggerData(0x158)] },
            C::DriverCommit => &const { [Variable("MmDriverCommit", 0), state("Vs.DriverCommit"), DebuggerData(0x160)] },
            C::ProcessCommit => &const { [Variable("MmProcessCommit", 0), state("Vs.ProcessCommit"), DebuggerData(0x168)] },
            C::PagedPoolCommit => &const { [Variable("MmPagedPoolCommit", 0), Field("MmPagedPoolInfo", "_MM_PAGED_POOL_INFO", "PagedPoolCommit")] },
            C::NonPagedPoolCommit => &const { [state("Vs.NonPagedPoolCommit")] },
            C::SystemPageTableCommit => &const { [state("Vs.SystemPageTableCommit")] },
            C::PfnDatabaseCommit => &const { [state("Vs.PfnDatabaseCommit")] },
            C::BootCommit => &const { [state("Vs.BootCommit")] },
            C::LockedIoPages => &const { [Variable("MmSystemLockPagesCount", 0), Variable("MmMdlPagesAllocated", 0), state("Vs.MdlPagesAllocated"), partition("Vp.MdlPagesAllocated")] },
            C::FreeSystemPtes => &const { [Variable("MmTotalFreeSystemPtes", 0), Field("MiSystemPteInfo", "_MI_SYSTEM_PTE_TYPE", "TotalFreeSystemPtes"), state("Vs.SystemPteInfo.TotalFreeSystemPtes")] },
            // Kinds of free PTEs in one array: XP's system PTEs, then those for expansion of nonpaged pool.
            C::NonPagedFreePtes => &const { [Variable("MmTotalFreeSystemPtes", 1)] },
            C::SpecialFreePtes => &const { [Variable("MmSpecialPoolFreePtes", 0)] },
            C::NonPagedPoolPages => &const { [Variable("MmAllocatedNonPagedPool", 0), state("Pools.AllocatedNonPagedPool"), DebuggerData(0x250)] },
            C::NonPagedPoolBytes => &const { [Variable("MmSizeOfNonPagedPoolInBytes", 0)] },
            C::NonPagedPoolMaximumPages => &const { [Variable("MmMaximumNonPagedPoolInPages", 0), state("Vs.MaximumNonPagedPoolInPages")] },
            C::NonPagedPoolMaximumBytes => &const { [Variable("MmMaximumNonPagedPoolInBytes", 0), DebuggerData(0x100)] },
            C::PagedPoolPages => &const { [Field("MmPagedPoolInfo", "_MM_PAGED_POOL_INFO", "AllocatedPagedPool"), state("Vs.PagedPoolInfo.AllocatedPagedPool")] },
            C::PagedPoolMaximumPages => &const { [Variable("MmSizeOfPagedPoolInPages", 0), state("Vs.SizeOfPagedPoolInPages")] },
            C::PagedPoolMaximumBytes => &const { [Variable("MmSizeOfPagedPoolInBytes", 0), DebuggerData(0x140)] },
            C::SpecialPoolPages => &const { [Variable("MmSpecialPagesInUse", 0), Narrow("MiSpecialPagesNonPaged"), state("Vs.SpecialPagesInUse")] },
            C::ModifiedPages => &const { [Field("MmModifiedPageListHead", "_MMPFNLIST", "Total"), partition("Vp.ModifiedPageListHead.Total"), partition("Vp.ModifiedPageListHead.Core.Total"), DebuggerData(0x198)] },
            C::ModifiedNoWritePages => &const { [Field("MmModifiedNoWritePageListHead", "_MMPFNLIST", "Total"), partition("Vp.ModifiedNoWritePageListHead.Total"), partition("Vp.ModifiedNoWritePageListHead.Core.Total"), DebuggerData(0x1a0)] },
            C::ModifiedPageFilePages => &const { [Variable("MmTotalPagesForPagingFile", 0), partition("Vp.TotalPagesForPagingFile")] },
            C::StandbyPages => &const { [Field("MmStandbyPageListHead", "_MMPFNLIST", "Total"), partition("PageLists.StandbyPageListHead.Total"), partition("PageLists.StandbyPageListHead.Core.Total"), DebuggerData(0x190)] },
            C::FreePages => &const { [Field("MmFreePageListHead", "_MMPFNLIST", "Total"), partition("PageLists.FreePageListHead.Total"), partition("PageLists.FreePageListHead.Core.Total"), DebuggerData(0x188)] },
            C::ZeroedPages => &const { [Field("MmZeroedPageListHead", "_MMPFNLIST", "Total"), partition("PageLists.ZeroedPageListHead.Total"), partition("PageLists.ZeroedPageListHead.Core.Total"), DebuggerData(0x180)] },
            C::BadPages => &const { [Field("MmBadPageListHead", "_MMPFNLIST", "Total"), partition("PageLists.BadPageListHead.Total"), partition("PageLists.BadPageListHead.Core.Total")] },
            C::KernelStackPages => &const { [Variable("MmKernelStackPages", 0), Variable("MiKernelStackPages", 0)] },
            C::NumberOfPagingFiles => &const { [Narrow("MmNumberOfPagingFiles"), partition("Vp.NumberOfPagingFiles"), DebuggerData32(0xe0)] },
            C::SlabAllocatorPages => &const { [partition("Vp.SlabAllocatorPages")] },
            C::CommitFailures => &const { [Narrow("MmChargeCommitmentFailures"), partition("Vp.ChargeCommitmentFailures[0]")] },
        }
    }

    /// Where this version of Windows keeps the counter, in words: for messages about its absence.
    pub fn sought(self) -> String {
        let name = |place: &Place| match place {
            Variable(name, _) | Narrow(name) => format!("nt!{name}"),
            Field(variable, _, path) => format!("nt!{variable}.{path}"),
            DebuggerData(offset) | DebuggerData32(offset) => {
                format!("offset {offset:#x} of the debugger data block")
            }
        };
        self.places().iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// Its value as the block of a small dump tells, `DUMP_MM_STORAGE`: six numbers of 32 bits, then these, in pages and
    /// as wide as a pointer. Versions of Windows leave zero what they do not fill.
    fn of_small_dump(self, session: &Session<'_>) -> Option<u64> {
        const HEAD: usize = 6 * 4;
        let told = [
            Counter::NonPagedPoolMaximumPages,
            Counter::NonPagedPoolPages,
            Counter::PagedPoolMaximumPages,
            Counter::PagedPoolPages,
            Counter::TotalCommittedPages,
            Counter::PeakCommitment,
            Counter::TotalCommitLimitMaximum,
        ];
        let index = told.iter().position(|counter| *counter == self)?;
        let small = |(tag, _): &([u8; 16], Vec<u8>)| *tag == crate::abi::SMALL_DUMP_COUNTERS;
        let (_, bytes) = session.target().tagged_data().find(small)?;
        let width = session.target().pointer_size() as usize;
        let number = bytes.get(HEAD + index * width..)?.get(..width)?;
        let value = number.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        (value != 0).then_some(value)
    }

    /// Its value; `None` where this version of Windows does not have it or no symbols tell where it is.
    ///
    /// # Errors
    /// Where it is known to be somewhere that cannot be read.
    pub fn read(self, session: &Session<'_>) -> Result<Option<u64>> {
        if let Some(value) = self.of_small_dump(session) {
            return Ok(Some(value));
        }
        let memory = session.memory();
        let variable = |name| super::variable(session, name, None).ok();
        for place in self.places() {
            let found = match *place {
                Variable(name, index) => {
                    let at = index * u64::from(session.target().pointer_size());
                    variable(name).map(|va| memory.pointer(va.add(at)).map(|value| value.0))
                }
                Narrow(name) => variable(name).map(|va| memory.u32(va).map(u64::from)),
                Field(name, of, path) => {
                    let of = session.types().find(&format!("nt!{of}")).ok().filter(|of| of.has(path));
                    of.and_then(|of| variable(name).map(|va| of.at(va).u64(path)))
                }
                DebuggerData(offset) => {
                    told(session, offset).map(|va| memory.pointer(va).map(|value| value.0))
                }
                DebuggerData32(offset) => told(session, offset).map(|va| memory.u32(va).map(u64::from)),
            };
            if let Some(value) = found {
                return value.map(Some);
            }
        }
        Ok(None)
    }
}

/// The bits that the kernel sets in page table entries that are not valid, against L1TF; 0 for none, or where nothing
/// tells. An entry whose `SwizzleBit` is set is left as it is.
pub fn invalid_pte_mask(session: &Session<'_>) -> u64 {
    let memory = session.memory();
    if let Ok(va) = super::variable(session, "MiInvalidPteMask", None) {
        return memory.u64(va).unwrap_or(0);
    }
    let read = || {
        let of = kernel_type(session, SYSTEM)?;
        of.at(super::variable(session, "MiState", None)?).u64("Hardware.InvalidPteMask")
    };
    read().unwrap_or(0)
}

/// A type of the kernel.
///
/// # Errors
/// Where it is missing, which one and how to get it.
pub fn kernel_type<'a>(session: &'a Session<'a>, name: &str) -> Result<Type<'a>> {
    session.types().find(&format!("nt!{name}")).map_err(|error| match error {
        Error::NoSymbols(why) => {
            let how = how_to_get_symbols(session);
            Error::NoSymbols(format!("the type nt!{name} is needed: {why}; {how}"))
        }
        Error::NotFound(why) => Error::NoSymbols(format!("this kernel's symbols have no nt!{name}: {why}")),
        other => other,
    })
}

/// What a process is charged, in pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Its EPROCESS.
    pub process: Va,
    /// Process id.
    pub id: u64,
    /// Name of its image, as long as the kernel keeps it.
    pub name: String,
    /// Commitment, where this kernel counts it.
    pub commit: Option<u64>,
    /// Frames in its working set, where this kernel counts them.
    pub working_set: Option<u64>,
    /// Private pages.
    pub private: Option<u64>,
    /// The roots of its page tables as the kernel holds them: low bits are flags, or a place in a page.
    pub roots: Vec<Pa>,
    /// Its `_MM_SESSION_SPACE`; null for none.
    pub session: Va,
    /// Already exited; only references keep the object.
    pub exited: bool,
}

/// Every process with its charges, and what of the list was refused.
///
/// # Errors
/// Where the head of the list or the types are unknown.
pub fn charges(session: &Session<'_>) -> Result<(Vec<Charge>, Vec<String>)> {
    let of = kernel_type(session, "_EPROCESS")?;
    let listed = process::processes(&Kernel::new(session))?;
    let (mut found, mut problems) = (Vec::new(), listed.problems);
    for process in listed.entries {
        session.check_interrupt()?;
        match charge(&of, process) {
            Ok(charge) => found.push(charge),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => problems.push(format!("the process at {process}: {error}")),
        }
    }
    Ok((found, problems))
}

fn charge(of: &Type<'_>, process: Va) -> Result<Charge> {
    let read = of.at(process).snapshot()?;
    let first = |paths: &[&str]| of.any(paths).and_then(|path| read.u64(path).ok());
    let roots = ["Pcb.DirectoryTableBase", "Pcb.DirectoryTableBase[0]", "Pcb.UserDirectoryTableBase"];
    let roots = roots.iter().filter_map(|path| read.u64(path).ok());
    let name = string::one_line(&read.ansi("ImageFileName")?);
    Ok(Charge {
        process,
        id: read.u64("UniqueProcessId")?,
        name: name.chars().take(15).collect(),
        commit: first(&["CommitCharge"]),
        working_set: first(&[
            "Vm.Instance.WorkingSetSize",
            "Vm.WorkingSetSize",
            "Vm.Instance.WorkingSetLeafSize",
        ]),
        private: first(&["NumberOfPrivatePages", "PrivatePageCount"]),
        roots: roots.map(|root| Pa(root & 0x000f_ffff_ffff_ffe0)).filter(|root| root.0 != 0).collect(),
        session: session_of(&read),
        exited: first(&["ExitTime.QuadPart", "ExitTime"]).is_some_and(|time| time != 0),
    })
}

fn session_of(read: &Snapshot<'_, '_>) -> Va {
    read.pointer("Session").unwrap_or(Va::NULL)
}

/// The address where the page tables appear in virtual memory, and what is seen from there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableWindow {
    /// The entry of page 0.
    pub base: Va,
    /// Bytes of an entry.
    pub entry: u64,
    /// Bits of an address that are translated.
    pub bits: u32,
}

impl TableWindow {
    /// The address that the entry at `pte` maps.
    pub fn address(&self, pte: Va) -> Option<Va> {
        let index = pte.0.checked_sub(self.base.0)? / self.entry;
        if index >> (self.bits - 12) != 0 {
            return None;
        }
        let va = index * PAGE_SIZE;
        let sign = self.bits < 64 && self.bits > 32 && va >> (self.bits - 1) != 0;
        Some(Va(if sign { va | u64::MAX << self.bits } else { va }))
    }

    /// The address of the entry that maps `va`.
    pub fn entry_of(&self, va: Va) -> Va {
        let mask = u64::MAX >> (64 - self.bits.clamp(12, 64));
        self.base.add((va.0 & mask) / PAGE_SIZE * self.entry)
    }

    /// True for an address inside the window: what is mapped there is a page table.
    pub fn holds(&self, va: Va) -> bool {
        self.address(va).is_some()
    }
}
