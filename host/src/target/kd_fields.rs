//! The fields of `KDDEBUGGER_DATA64`: a table of names, offsets and sizes.
//!
//! Source: the public header wdbgexts.h; offsets checked on real dumps of builds 9600 to 22000. Newer Windows appends
//! fields, so a field beyond the block's own `Size` is absent. What the block is read from is [`super::KdData`]'s
//! business.

/// One field of the block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Microsoft's name.
    pub name: &'static str,
    /// Bytes from the start of the block.
    pub offset: usize,
    /// Bytes in the field: 1, 2, 4 or 8. Addresses are 8 bytes wide on every machine.
    pub size: usize,
}

macro_rules! fields {
    ($($id:ident = $name:literal, $offset:literal, $size:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`.")]
            pub const $id: Field = Field { name: $name, offset: $offset, size: $size };
        )*

        /// Every field, in order of offset.
        pub const FIELDS: &[Field] = &[$($id),*];
    };
}

fields! {
    KERN_BASE = "KernBase", 0x018, 8;
    BREAKPOINT_WITH_STATUS = "BreakpointWithStatus", 0x020, 8;
    SAVED_CONTEXT = "SavedContext", 0x028, 8;
    TH_CALLBACK_STACK = "ThCallbackStack", 0x030, 2;
    NEXT_CALLBACK = "NextCallback", 0x032, 2;
    FRAME_POINTER = "FramePointer", 0x034, 2;
    PAE_ENABLED = "PaeEnabled", 0x036, 2;
    KI_CALL_USER_MODE = "KiCallUserMode", 0x038, 8;
    KE_USER_CALLBACK_DISPATCHER = "KeUserCallbackDispatcher", 0x040, 8;
    PS_LOADED_MODULE_LIST = "PsLoadedModuleList", 0x048, 8;
    PS_ACTIVE_PROCESS_HEAD = "PsActiveProcessHead", 0x050, 8;
    PSP_CID_TABLE = "PspCidTable", 0x058, 8;
    EXP_SYSTEM_RESOURCES_LIST = "ExpSystemResourcesList", 0x060, 8;
    EXP_PAGED_POOL_DESCRIPTOR = "ExpPagedPoolDescriptor", 0x068, 8;
    EXP_NUMBER_OF_PAGED_POOLS = "ExpNumberOfPagedPools", 0x070, 8;
    KE_TIME_INCREMENT = "KeTimeIncrement", 0x078, 8;
    KE_BUG_CHECK_CALLBACK_LIST_HEAD = "KeBugCheckCallbackListHead", 0x080, 8;
    KI_BUGCHECK_DATA = "KiBugcheckData", 0x088, 8;
    IOP_ERROR_LOG_LIST_HEAD = "IopErrorLogListHead", 0x090, 8;
    OBP_ROOT_DIRECTORY_OBJECT = "ObpRootDirectoryObject", 0x098, 8;
    OBP_TYPE_OBJECT_TYPE = "ObpTypeObjectType", 0x0a0, 8;
    MM_SYSTEM_CACHE_START = "MmSystemCacheStart", 0x0a8, 8;
    MM_SYSTEM_CACHE_END = "MmSystemCacheEnd", 0x0b0, 8;
    MM_SYSTEM_CACHE_WS = "MmSystemCacheWs", 0x0b8, 8;
    MM_PFN_DATABASE = "MmPfnDatabase", 0x0c0, 8;
    MM_SYSTEM_PTES_START = "MmSystemPtesStart", 0x0c8, 8;
    MM_SYSTEM_PTES_END = "MmSystemPtesEnd", 0x0d0, 8;
    MM_SUBSECTION_BASE = "MmSubsectionBase", 0x0d8, 8;
    MM_NUMBER_OF_PAGING_FILES = "MmNumberOfPagingFiles", 0x0e0, 8;
    MM_LOWEST_PHYSICAL_PAGE = "MmLowestPhysicalPage", 0x0e8, 8;
    MM_HIGHEST_PHYSICAL_PAGE = "MmHighestPhysicalPage", 0x0f0, 8;
    MM_NUMBER_OF_PHYSICAL_PAGES = "MmNumberOfPhysicalPages", 0x0f8, 8;
    MM_MAXIMUM_NON_PAGED_POOL_IN_BYTES = "MmMaximumNonPagedPoolInBytes", 0x100, 8;
    MM_NON_PAGED_SYSTEM_START = "MmNonPagedSystemStart", 0x108, 8;
    MM_NON_PAGED_POOL_START = "MmNonPagedPoolStart", 0x110, 8;
    MM_NON_PAGED_POOL_END = "MmNonPagedPoolEnd", 0x118, 8;
    MM_PAGED_POOL_START = "MmPagedPoolStart", 0x120, 8;
    MM_PAGED_POOL_END = "MmPagedPoolEnd", 0x128, 8;
    MM_PAGED_POOL_INFORMATION = "MmPagedPoolInformation", 0x130, 8;
    MM_PAGE_SIZE = "MmPageSize", 0x138, 8;
    MM_SIZE_OF_PAGED_POOL_IN_BYTES = "MmSizeOfPagedPoolInBytes", 0x140, 8;
    MM_TOTAL_COMMIT_LIMIT = "MmTotalCommitLimit", 0x148, 8;
    MM_TOTAL_COMMITTED_PAGES = "MmTotalCommittedPages", 0x150, 8;
    MM_SHARED_COMMIT = "MmSharedCommit", 0x158, 8;
    MM_DRIVER_COMMIT = "MmDriverCommit", 0x160, 8;
    MM_PROCESS_COMMIT = "MmProcessCommit", 0x168, 8;
    MM_PAGED_POOL_COMMIT = "MmPagedPoolCommit", 0x170, 8;
    MM_EXTENDED_COMMIT = "MmExtendedCommit", 0x178, 8;
    MM_ZEROED_PAGE_LIST_HEAD = "MmZeroedPageListHead", 0x180, 8;
    MM_FREE_PAGE_LIST_HEAD = "MmFreePageListHead", 0x188, 8;
    MM_STANDBY_PAGE_LIST_HEAD = "MmStandbyPageListHead", 0x190, 8;
    MM_MODIFIED_PAGE_LIST_HEAD = "MmModifiedPageListHead", 0x198, 8;
    MM_MODIFIED_NO_WRITE_PAGE_LIST_HEAD = "MmModifiedNoWritePageListHead", 0x1a0, 8;
    MM_AVAILABLE_PAGES = "MmAvailablePages", 0x1a8, 8;
    MM_RESIDENT_AVAILABLE_PAGES = "MmResidentAvailablePages", 0x1b0, 8;
    POOL_TRACK_TABLE = "PoolTrackTable", 0x1b8, 8;
    NON_PAGED_POOL_DESCRIPTOR = "NonPagedPoolDescriptor", 0x1c0, 8;
    MM_HIGHEST_USER_ADDRESS = "MmHighestUserAddress", 0x1c8, 8;
    MM_SYSTEM_RANGE_START = "MmSystemRangeStart", 0x1d0, 8;
    MM_USER_PROBE_ADDRESS = "MmUserProbeAddress", 0x1d8, 8;
    KD_PRINT_CIRCULAR_BUFFER = "KdPrintCircularBuffer", 0x1e0, 8;
    KD_PRINT_CIRCULAR_BUFFER_END = "KdPrintCircularBufferEnd", 0x1e8, 8;
    KD_PRINT_WRITE_POINTER = "KdPrintWritePointer", 0x1f0, 8;
    KD_PRINT_ROLLOVER_COUNT = "KdPrintRolloverCount", 0x1f8, 8;
    MM_LOADED_USER_IMAGE_LIST = "MmLoadedUserImageList", 0x200, 8;
    NT_BUILD_LAB = "NtBuildLab", 0x208, 8;
    KI_NORMAL_SYSTEM_CALL = "KiNormalSystemCall", 0x210, 8;
    KI_PROCESSOR_BLOCK = "KiProcessorBlock", 0x218, 8;
    MM_UNLOADED_DRIVERS = "MmUnloadedDrivers", 0x220, 8;
    MM_LAST_UNLOADED_DRIVER = "MmLastUnloadedDriver", 0x228, 8;
    MM_TRIAGE_ACTION_TAKEN = "MmTriageActionTaken", 0x230, 8;
    MM_SPECIAL_POOL_TAG = "MmSpecialPoolTag", 0x238, 8;
    KERNEL_VERIFIER = "KernelVerifier", 0x240, 8;
    MM_VERIFIER_DATA = "MmVerifierData", 0x248, 8;
    MM_ALLOCATED_NON_PAGED_POOL = "MmAllocatedNonPagedPool", 0x250, 8;
    MM_PEAK_COMMITMENT = "MmPeakCommitment", 0x258, 8;
    MM_TOTAL_COMMIT_LIMIT_MAXIMUM = "MmTotalCommitLimitMaximum", 0x260, 8;
    CM_NT_CSD_VERSION = "CmNtCSDVersion", 0x268, 8;
    MM_PHYSICAL_MEMORY_BLOCK = "MmPhysicalMemoryBlock", 0x270, 8;
    MM_SESSION_BASE = "MmSessionBase", 0x278, 8;
    MM_SESSION_SIZE = "MmSessionSize", 0x280, 8;
    MM_SYSTEM_PARENT_TABLE_PAGE = "MmSystemParentTablePage", 0x288, 8;
    MM_VIRTUAL_TRANSLATION_BASE = "MmVirtualTranslationBase", 0x290, 8;
    OFFSET_KTHREAD_NEXT_PROCESSOR = "OffsetKThreadNextProcessor", 0x298, 2;
    OFFSET_KTHREAD_TEB = "OffsetKThreadTeb", 0x29a, 2;
    OFFSET_KTHREAD_KERNEL_STACK = "OffsetKThreadKernelStack", 0x29c, 2;
    OFFSET_KTHREAD_INITIAL_STACK = "OffsetKThreadInitialStack", 0x29e, 2;
    OFFSET_KTHREAD_APC_PROCESS = "OffsetKThreadApcProcess", 0x2a0, 2;
    OFFSET_KTHREAD_STATE = "OffsetKThreadState", 0x2a2, 2;
    OFFSET_KTHREAD_B_STORE = "OffsetKThreadBStore", 0x2a4, 2;
    OFFSET_KTHREAD_B_STORE_LIMIT = "OffsetKThreadBStoreLimit", 0x2a6, 2;
    SIZE_EPROCESS = "SizeEProcess", 0x2a8, 2;
    OFFSET_EPROCESS_PEB = "OffsetEprocessPeb", 0x2aa, 2;
    OFFSET_EPROCESS_PARENT_CID = "OffsetEprocessParentCID", 0x2ac, 2;
    OFFSET_EPROCESS_DIRECTORY_TABLE_BASE = "OffsetEprocessDirectoryTableBase", 0x2ae, 2;
    SIZE_PRCB = "SizePrcb", 0x2b0, 2;
    OFFSET_PRCB_DPC_ROUTINE = "OffsetPrcbDpcRoutine", 0x2b2, 2;
    OFFSET_PRCB_CURRENT_THREAD = "OffsetPrcbCurrentThread", 0x2b4, 2;
    OFFSET_PRCB_MHZ = "OffsetPrcbMhz", 0x2b6, 2;
    OFFSET_PRCB_CPU_TYPE = "OffsetPrcbCpuType", 0x2b8, 2;
    OFFSET_PRCB_VENDOR_STRING = "OffsetPrcbVendorString", 0x2ba, 2;
    OFFSET_PRCB_PROC_STATE_CONTEXT = "OffsetPrcbProcStateContext", 0x2bc, 2;
    OFFSET_PRCB_NUMBER = "OffsetPrcbNumber", 0x2be, 2;
    SIZE_ETHREAD = "SizeEThread", 0x2c0, 2;
    L1TF_HIGH_PHYSICAL_BIT_INDEX = "L1tfHighPhysicalBitIndex", 0x2c2, 1;
    L1TF_SWIZZLE_BIT_INDEX = "L1tfSwizzleBitIndex", 0x2c3, 1;
    KD_PRINT_CIRCULAR_BUFFER_PTR = "KdPrintCircularBufferPtr", 0x2c8, 8;
    KD_PRINT_BUFFER_SIZE = "KdPrintBufferSize", 0x2d0, 8;
    KE_LOADER_BLOCK = "KeLoaderBlock", 0x2d8, 8;
    SIZE_PCR = "SizePcr", 0x2e0, 2;
    OFFSET_PCR_SELF_PCR = "OffsetPcrSelfPcr", 0x2e2, 2;
    OFFSET_PCR_CURRENT_PRCB = "OffsetPcrCurrentPrcb", 0x2e4, 2;
    OFFSET_PCR_CONTAINED_PRCB = "OffsetPcrContainedPrcb", 0x2e6, 2;
    OFFSET_PCR_INITIAL_B_STORE = "OffsetPcrInitialBStore", 0x2e8, 2;
    OFFSET_PCR_B_STORE_LIMIT = "OffsetPcrBStoreLimit", 0x2ea, 2;
    OFFSET_PCR_INITIAL_STACK = "OffsetPcrInitialStack", 0x2ec, 2;
    OFFSET_PCR_STACK_LIMIT = "OffsetPcrStackLimit", 0x2ee, 2;
    OFFSET_PRCB_PCR_PAGE = "OffsetPrcbPcrPage", 0x2f0, 2;
    OFFSET_PRCB_PROC_STATE_SPECIAL_REG = "OffsetPrcbProcStateSpecialReg", 0x2f2, 2;
    GDT_R0_CODE = "GdtR0Code", 0x2f4, 2;
    GDT_R0_DATA = "GdtR0Data", 0x2f6, 2;
    GDT_R0_PCR = "GdtR0Pcr", 0x2f8, 2;
    GDT_R3_CODE = "GdtR3Code", 0x2fa, 2;
    GDT_R3_DATA = "GdtR3Data", 0x2fc, 2;
    GDT_R3_TEB = "GdtR3Teb", 0x2fe, 2;
    GDT_LDT = "GdtLdt", 0x300, 2;
    GDT_TSS = "GdtTss", 0x302, 2;
    GDT64_R3_CM_CODE = "Gdt64R3CmCode", 0x304, 2;
    GDT64_R3_CM_TEB = "Gdt64R3CmTeb", 0x306, 2;
    IOP_NUM_TRIAGE_DUMP_DATA_BLOCKS = "IopNumTriageDumpDataBlocks", 0x308, 8;
    IOP_TRIAGE_DUMP_DATA_BLOCKS = "IopTriageDumpDataBlocks", 0x310, 8;
    VF_CRASH_DATA_BLOCK = "VfCrashDataBlock", 0x318, 8;
    MM_BAD_PAGES_DETECTED = "MmBadPagesDetected", 0x320, 8;
    MM_ZEROED_PAGE_SINGLE_BIT_ERRORS_DETECTED = "MmZeroedPageSingleBitErrorsDetected", 0x328, 8;
    ETWP_DEBUGGER_DATA = "EtwpDebuggerData", 0x330, 8;
    OFFSET_PRCB_CONTEXT = "OffsetPrcbContext", 0x338, 2;
    OFFSET_PRCB_MAX_BREAKPOINTS = "OffsetPrcbMaxBreakpoints", 0x33a, 2;
    OFFSET_PRCB_MAX_WATCHPOINTS = "OffsetPrcbMaxWatchpoints", 0x33c, 2;
    OFFSET_KTHREAD_STACK_LIMIT = "OffsetKThreadStackLimit", 0x340, 4;
    OFFSET_KTHREAD_STACK_BASE = "OffsetKThreadStackBase", 0x344, 4;
    OFFSET_KTHREAD_QUEUE_LIST_ENTRY = "OffsetKThreadQueueListEntry", 0x348, 4;
    OFFSET_ETHREAD_IRP_LIST = "OffsetEThreadIrpList", 0x34c, 4;
    OFFSET_PRCB_IDLE_THREAD = "OffsetPrcbIdleThread", 0x350, 2;
    OFFSET_PRCB_NORMAL_DPC_STATE = "OffsetPrcbNormalDpcState", 0x352, 2;
    OFFSET_PRCB_DPC_STACK = "OffsetPrcbDpcStack", 0x354, 2;
    OFFSET_PRCB_ISR_STACK = "OffsetPrcbIsrStack", 0x356, 2;
    SIZE_KDPC_STACK_FRAME = "SizeKDPC_STACK_FRAME", 0x358, 2;
    OFFSET_KPRI_QUEUE_THREAD_LIST_HEAD = "OffsetKPriQueueThreadListHead", 0x35a, 2;
    OFFSET_KTHREAD_WAIT_REASON = "OffsetKThreadWaitReason", 0x35c, 2;
    PTE_BASE = "PteBase", 0x360, 8;
    RETPOLINE_STUB_FUNCTION_TABLE = "RetpolineStubFunctionTable", 0x368, 8;
    RETPOLINE_STUB_FUNCTION_TABLE_SIZE = "RetpolineStubFunctionTableSize", 0x370, 4;
    RETPOLINE_STUB_OFFSET = "RetpolineStubOffset", 0x374, 4;
    RETPOLINE_STUB_SIZE = "RetpolineStubSize", 0x378, 4;
    OFFSET_EPROCESS_MM_HOT_PATCH_CONTEXT = "OffsetEProcessMmHotPatchContext", 0x37c, 2;
    OFFSET_KTHREAD_SHADOW_STACK_LIMIT = "OffsetKThreadShadowStackLimit", 0x380, 4;
    OFFSET_KTHREAD_SHADOW_STACK_BASE = "OffsetKThreadShadowStackBase", 0x384, 4;
    SHADOW_STACK_ENABLED = "ShadowStackEnabled", 0x388, 8;
    POINTER_AUTH_MASK = "PointerAuthMask", 0x390, 8;
    OFFSET_PRCB_EXCEPTION_STACK = "OffsetPrcbExceptionStack", 0x398, 2;
    POINTER_IGNORE_BITS = "PointerIgnoreBits", 0x3a0, 8;
}

/// The field with this name, in any case.
pub fn find(name: &str) -> Option<Field> {
    FIELDS.iter().find(|field| field.name.eq_ignore_ascii_case(name)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_aligned_and_do_not_overlap() {
        let mut end = 0x18;
        for field in FIELDS {
            assert!(field.offset >= end, "{}", field.name);
            assert_eq!(field.offset % field.size, 0, "{}", field.name);
            end = field.offset + field.size;
        }
        assert_eq!(OFFSET_PRCB_CONTEXT.offset, 0x338);
        assert_eq!(find("kiprocessorblock"), Some(KI_PROCESSOR_BLOCK));
    }
}
