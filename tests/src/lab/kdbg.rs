//! The kernel's debugger data block, `KDDEBUGGER_DATA64`: pointers to globals, then offsets of fields.
//!
//! Facts: `wdbgexts.h` of the SDK up to +0x340, real triage dumps for what follows, and public descriptions of how
//! Windows 8 and later hide the block (`KdpDataBlockEncoded`).

use super::bytes::Bytes;
use super::layout::{Generation, Machine};

/// Tag of the block.
pub const TAG: u32 = u32::from_le_bytes(*b"KDBG");

#[rustfmt::skip]
/// Offset in the block of a pointer to a global of the kernel.
pub static POINTERS: &[(usize, &str)] = &[
    (0x00, "KdpDebuggerDataListHead"), (0x08, "KdpDebuggerDataListHead"),
    (0x48, "PsLoadedModuleList"), (0x50, "PsActiveProcessHead"), (0x58, "PspCidTable"), (0x60, "ExpSystemResourcesList"),
    (0x78, "KeTimeIncrement"), (0x80, "KeBugCheckCallbackListHead"), (0x88, "KiBugCheckData"), (0x90, "IopErrorLogListHead"),
    (0x98, "ObpRootDirectoryObject"), (0xa0, "ObpTypeObjectType"), (0xc0, "MmPfnDatabase"), (0xe8, "MmLowestPhysicalPage"),
    (0xf0, "MmHighestPhysicalPage"), (0xf8, "MmNumberOfPhysicalPages"), (0x1b8, "PoolTrackTable"), (0x1c8, "MmHighestUserAddress"),
    (0x1d0, "MmSystemRangeStart"), (0x1d8, "MmUserProbeAddress"), (0x208, "NtBuildLab"), (0x218, "KiProcessorBlock"),
    (0x220, "MmUnloadedDrivers"), (0x228, "MmLastUnloadedDriver"), (0x268, "CmNtCSDVersion"), (0x270, "MmPhysicalMemoryBlock"),
    (0x308, "IopNumTriageDumpDataBlocks"), (0x310, "IopTriageDumpDataBlocks"),
];

#[rustfmt::skip]
/// The same of variables that newer kernels do not have: there these fields are zero.
pub static OLD_POINTERS: &[(usize, &str)] = &[
    (0xe0, "MmNumberOfPagingFiles"), (0x100, "MmMaximumNonPagedPoolInBytes"), (0x110, "MmNonPagedPoolStart"), (0x118, "MmNonPagedPoolEnd"),
    (0x120, "MmPagedPoolStart"), (0x128, "MmPagedPoolEnd"), (0x148, "MmTotalCommitLimit"), (0x150, "MmTotalCommittedPages"),
    (0x158, "MmSharedCommit"), (0x160, "MmDriverCommit"), (0x168, "MmProcessCommit"), (0x180, "MmZeroedPageListHead"),
    (0x188, "MmFreePageListHead"), (0x190, "MmStandbyPageListHead"), (0x198, "MmModifiedPageListHead"),
    (0x1a0, "MmModifiedNoWritePageListHead"), (0x1a8, "MmAvailablePages"), (0x1b0, "MmResidentAvailablePages"),
];

#[rustfmt::skip]
/// Offset in the block of a 16-bit offset or size, by the paths that sum to it.
static OFFSETS: &[(usize, &[&str])] = &[
    (0x298, &["_KTHREAD.NextProcessor"]), (0x29a, &["_KTHREAD.Teb"]), (0x29c, &["_KTHREAD.KernelStack"]), (0x29e, &["_KTHREAD.InitialStack"]),
    (0x2a0, &["_KTHREAD.ApcState", "_KAPC_STATE.Process"]), (0x2a2, &["_KTHREAD.State"]),
    (0x2a8, &["_EPROCESS"]), (0x2aa, &["_EPROCESS.Peb"]), (0x2ac, &["_EPROCESS.InheritedFromUniqueProcessId"]), (0x2ae, &["_KPROCESS.DirectoryTableBase"]),
    (0x2b0, &["_KPRCB"]), (0x2b2, &["_KPRCB.DpcRoutineActive"]), (0x2b4, &["_KPRCB.CurrentThread"]), (0x2b6, &["_KPRCB.MHz"]),
    (0x2b8, &["_KPRCB.CpuType"]), (0x2b8, &["_KPRCB.ProcessorModel"]), (0x2ba, &["_KPRCB.VendorString"]),
    (0x2ba, &["_KPRCB.ProcessorVendorString"]), (0x2bc, &["_KPRCB.ProcessorState", "_KPROCESSOR_STATE.ContextFrame"]),
    (0x2be, &["_KPRCB.Number"]), (0x2c0, &["_ETHREAD"]),
    (0x2e0, &["_KPCR"]), (0x2e2, &["_KPCR.Self"]), (0x2e2, &["_KPCR.SelfPcr"]), (0x2f2, &["_KPRCB.ProcessorState", "_KPROCESSOR_STATE.SpecialRegisters"]),
    (0x338, &["_KPRCB.Context"]),
    (0x340, &["_KTHREAD.StackLimit"]), (0x344, &["_KTHREAD.StackBase"]), (0x34c, &["_ETHREAD.IrpList"]),
    (0x350, &["_KPRCB.IdleThread"]), (0x354, &["_KPRCB.DpcStack"]), (0x35c, &["_KTHREAD.WaitReason"]),
];

/// Segment selectors, by machine: code and data of the kernel, code and data of programs, task state, compatibility code.
static SELECTORS: &[(Machine, &[(usize, u16)])] = &[
    (
        Machine::X64,
        &[
            (0x2f4, 0x10),
            (0x2f6, 0x18),
            (0x2fa, 0x33),
            (0x2fc, 0x2b),
            (0x302, 0x40),
            (0x304, 0x23),
            (0x306, 0x53),
        ],
    ),
    (
        Machine::X86,
        &[
            (0x2f4, 0x8),
            (0x2f6, 0x10),
            (0x2f8, 0x30),
            (0x2fa, 0x1b),
            (0x2fc, 0x23),
            (0x2fe, 0x3b),
            (0x302, 0x28),
        ],
    ),
];

/// The block, plain. `global` tells the address of a kernel variable.
pub fn plain(generation: &Generation, pae: bool, global: impl Fn(&str) -> u64) -> Vec<u8> {
    let size = generation.kdbg_size as usize;
    let mut block = vec![0; size];
    let extend = |va: u64| if generation.machine == Machine::X86 { i64::from(va as i32) as u64 } else { va };
    block.put_u32(0x10, TAG);
    block.put_u32(0x14, size as u32);
    block.put_u64(0x18, extend(generation.kernel_base));
    block.put_u16(0x36, u16::from(pae));
    block.put_u64(0x138, 0x1000); // MmPageSize
    for &(at, name) in POINTERS.iter().filter(|p| p.0 + 8 <= size) {
        block.put_u64(at, extend(global(name)));
    }
    for (at, paths) in OFFSETS.iter().filter(|o| o.0 + 2 <= size) {
        if let Some(sum) = paths.iter().map(|path| generation.find(path)).sum::<Option<u64>>() {
            block.put_u16(*at, sum as u16);
        }
    }
    let (inside, pointer) = generation.prcb();
    if size > 0x2e6 {
        block.put_u16(0x2e4, pointer.unwrap_or(0) as u16);
        block.put_u16(0x2e6, inside as u16);
    }
    for (_, selectors) in SELECTORS.iter().filter(|s| s.0 == generation.machine) {
        for &(at, selector) in selectors.iter().filter(|s| s.0 + 2 <= size) {
            block.put_u16(at, selector);
        }
    }
    if size > 0x360 {
        block.put_u64(0x360, extend(generation.pte_base));
    }
    block
}

/// Hides a block as the kernel does when no debugger was enabled at boot.
///
/// `flag` is the address of `KdpDataBlockEncoded`; the keys are the values of `KiWaitNever` and `KiWaitAlways`.
pub fn encode(block: &mut [u8], never: u64, always: u64, flag: u64) {
    for word in block.chunks_exact_mut(8) {
        let plain = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        let hidden = never ^ ((plain ^ always).swap_bytes() ^ flag).rotate_right(never as u32 & 63);
        word.copy_from_slice(&hidden.to_le_bytes());
    }
}
