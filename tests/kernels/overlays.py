"""Generations whose symbols we do not have, made from a neighbour of the same or the next build.

A structure that differs is given as {"size", "shift": [(from, to, distance)], "put": {field: offset or (offset, type)}}: fields
of the neighbour in a shifted range move, those told by "put" are placed (None takes one away), all others are left out: better
absent than wrong. `None` leaves out the whole structure; "told" is how far the public symbols
tell a structure that the system has whole.

Facts: public listings of the symbols of arm64 kernels of the builds before and after 22000, held against processor, process
and thread in a real arm64 dump of 22000 and its debugger data block, which tell all sizes and decide where the listings differ;
`CONTEXT` of the SDK; public listings of the symbols of 26100. The memory manager's own structures of arm64, which no dump
shows, are taken for those of x64 unless the listings agree on something else.
"""


def same(*fields, at=0, type="u64", first=0):
    """Bit fields from bit `first` up: `Name` is one bit, `(Name, bits)` more."""
    placed = {}
    for field in fields:
        name, bits = field if isinstance(field, tuple) else (field, 1)
        placed[name] = (at, f"{type}:{bits}@{first}")
        first += bits
    return placed


# What the processor reads in an entry that is valid.
HARDWARE_ARM64 = same(
    "Valid", "NotLargePage", ("CacheType", 2), "OsAvailable2", "NonSecure", "Owner", "NotDirty", ("Sharability", 2), "Accessed",
    "NonGlobal", ("PageFrameNumber", 36), ("reserved1", 4), "ContiguousBit", "PrivilegedNoExecute", "UserNoExecute", "Writable",
    "CopyOnWrite",
)  # fmt: skip

ARM64 = {
    "_KPROCESS": {
        "size": 0x3F0,
        "shift": [(0, 0x30, 0), (0x30, 0x388, 8), (0x3D8, 0x408, -0x48)],
        "put": {"Asid": (0x30, "u32"), "PrimaryGroup": 0x3C0},
    },
    "_EPROCESS": {"size": 0xC80, "shift": [(0, 8, 0), (0x438, 0x680, -0x48), (0x7C0, 0xB48, 0xC0)], "put": {"Vm": 0x680}},
    "_MMSUPPORT_FULL": {"size": 0x200, "shift": [(0, 8, 0)], "put": {"Shared": 0x100}},
    "_MMSUPPORT_SHARED": {"size": 0x100, "shift": [(0, 0x40, 0), (0x40, 0x50, 0x40)]},
    "_MM_SESSION_SPACE": {"size": 0x500, "shift": [(0, 0xC0, 0), (0xC0, 0x200, 0x40), (0x200, 0x388, 0x100)]},
    "_MI_VISIBLE_STATE": {"size": 0x1200, "shift": [(0, 0x101, 0), (0x880, 0x900, 0x480), (0x900, 0xCC0, 0x500)]},
    "_MI_SYSTEM_INFORMATION": {"size": 0x5600, "shift": [(0, 0x50C0, 0)]},
    "_KTHREAD": {
        "size": 0x4A0,
        "shift": [(0, 0x60, 0), (0x68, 0x1F0, -8), (0x200, 0x218, -8), (0x218, 0x250, 0x20), (0x258, 0x408, 0x20)],
        "put": {"SwitchFrame": (0x210, "_KSWITCH_FRAME"), "SpecCtrl": None, "RunningNonRetpolineCode": None, "SpecCtrlSpare": None},
    },
    "_ETHREAD": {"size": 0x910, "shift": [(0, 8, 0), (0x480, 0x8F0, 0x20)]},
    "_MMPTE.u": {
        "size": 8,
        "shift": [(0, 8, 0)],
        "put": {"VolatileLong": None, "Flush": (0, "_HARDWARE_PTE"), "PageTableLinks": (0, "_MMPTE_ACTIVE_PAGE_TABLE_LINKS")},
    },
    "_MMPTE_HARDWARE": {"size": 8, "put": {**HARDWARE_ARM64, **same(("WsleProtection", 3), ("WsleAge", 4), first=57)}},
    "_HARDWARE_PTE": {
        "size": 8,
        "put": {
            **HARDWARE_ARM64, **same(("OsAvailable", 2), "PxnTable", "UxnTable", ("ApTable", 2), "NsTable", first=57),
        },
    },
    "_MMPTE_PROTOTYPE": {
        "size": 8,
        "put": {
            **same(
                "Valid", ("Protection", 5), "HiberVerifyConverted", "Unused1", "ReadOnly", "Combined", "Prototype",
                "DemandFillProto", ("Unused0", 4),
            ),
            "ProtoAddress": (0, "i64:48@16"),
        },
    },
    "_MMPTE_SOFTWARE": {
        "size": 8,
        "put": same(
            "Valid", ("Protection", 5), ("PageFileLow", 4), "Prototype", "Transition", "PageFileReserved", "PageFileAllocated",
            ("UsedPageTableEntries", 10), "ColdPage", "OnStandbyLookaside", ("Unused", 6), ("PageFileHigh", 32),
        ),
    },
    "_MMPTE_TIMESTAMP": {
        "size": 8,
        "put": same(
            "MustBeZero", ("Protection", 5), ("PageFileLow", 4), "Prototype", "Transition", ("Reserved", 20),
            ("GlobalTimeStamp", 32),
        ),
    },
    "_MMPTE_TRANSITION": {
        "size": 8,
        "put": same(
            "Valid", ("Protection", 5), ("Spare", 2), "OnStandbyLookaside", "IoTracker", "Prototype", "Transition",
            ("PageFrameNumber", 40), ("Unused", 12),
        ),
    },
    "_MMPTE_SUBSECTION": {
        "size": 8,
        "put": {
            **same(
                "Valid", ("Protection", 5), "OnStandbyLookaside", ("Unused0", 3), "Prototype", "ColdPage", ("Unused1", 4),
            ),
            "SubsectionAddress": (0, "i64:48@16"),
        },
    },
    "_MMPTE_LIST": {
        "size": 8,
        "put": same(
            "Valid", ("Protection", 5), "OneEntry", ("filler0", 3), "Prototype", "Transition", ("filler1", 16), ("NextEntry", 36),
        ),
    },
    "_MMPTE_ACTIVE_PAGE_TABLE_LINKS": {"size": 8, "put": same(("Flink", 36), ("BlinkHigh", 28))},
    "_MMPFN.u1": {"size": 8, "shift": [(0, 8, 0)], "put": same(("Flink", 36), ("NodeFlinkLow", 28))},
    "_MIPFNBLINK": {"size": 8, "shift": [(0, 8, 0)], "put": same(("Blink", 36), ("NodeBlinkLow", 23))},
    "_MI_PFN_ULONG5.StandbyList": {"size": 4, "put": same(("NodeBlinkHigh", 13), ("NodeFlinkMiddle", 19), type="u32")},
    "_MMPFN.u4": {
        "size": 8,
        "shift": [(0, 8, 0)],
        "put": {
            **same(
                ("PteFrame", 36), "ResidentPage", "Unused1", "Unused2", ("Partition", 10), "FileOnly", "PfnExists",
                ("PageIdentity", 3), "PrototypePte",
            ),
            "NodeFlinkHigh": None,
        },
    },
    "_KSPECIAL_REGISTERS": {
        "size": 0xA0,
        "put": {
            "Elr_El1": (0, "u64"), "Spsr_El1": (8, "u32"), "Tpidr_El0": (0x10, "u64"), "Tpidrro_El0": (0x18, "u64"),
            "Tpidr_El1": (0x20, "u64"), "KernelBvr": (0x28, "[8]u64"), "KernelBcr": (0x68, "[8]u32"),
            "KernelWvr": (0x88, "[2]u64"), "KernelWcr": (0x98, "[2]u32"),
        },
    },
    "_KARM64_ARCH_STATE": {
        "size": 0x278,
        "put": {
            "Midr_El1": (0, "u64"), "Sctlr_El1": (8, "u64"), "Actlr_El1": (0x10, "u64"), "Cpacr_El1": (0x18, "u64"),
            "Tcr_El1": (0x20, "u64"), "Ttbr0_El1": (0x28, "u64"), "Ttbr1_El1": (0x30, "u64"), "Esr_El1": (0x38, "u64"),
            "Far_El1": (0x40, "u64"), "Mair_El1": (0x268, "u64"), "Vbar_El1": (0x270, "u64"),
        },
    },
    "_KPROCESSOR_STATE": {
        "size": 0x6B0,
        "put": {"SpecialRegisters": 0, "ArchState": (0xA0, "_KARM64_ARCH_STATE"), "ContextFrame": 0x320},
    },
    "_KPRCB": {
        "size": 0x9680,
        "shift": [
            (8, 0x28, 0), (0x2D08, 0x2D40, -0x2300), (0x3340, 0x33CC, -0x28A8), (0x7EC0, 0x7ED0, -0x72C0),
            (0x8140, 0x8158, -0x7240), (0x82C0, 0x8334, -0x7140),
        ],
        "put": {
            "LegacyNumber": 0, "IdleHalt": 2, "PrcbLock": 0x28, "PriorityState": 0x30, "ProcessorState": 0x40,
            "ProcessorModel": (0x6F0, "u16"), "ProcessorRevision": (0x6F2, "u16"), "MHz": 0x6F4, "HalReserved": (0x700, "[10]u64"),
            "MinorVersion": 0x750, "MajorVersion": 0x752, "BuildType": 0x754, "CoresPerPhysicalProcessor": 0x756,
            "LogicalProcessorsPerCore": 0x757, "GroupSetMember": 0x760, "Group": 0x768, "GroupIndex": 0x769, "LockQueue": 0x780,
            "ProcessorVendorString": (0x890, "[2]u8"), "FeatureBits": (0x894, "u32"), "MaxBreakpoints": (0x898, "u32"),
            "MaxWatchpoints": (0x89C, "u32"), "Context": 0x8A0, "ContextFlagsInit": 0x8A8, "PPLookasideList": 0x900,
            "PacketBarrier": 0xA00, "Mailbox": 0xA80, "TargetCount": 0xA88, "IpiFrozen": 0xA8C, "SpBase": (0xB00, "*void"),
            **{field: at for at, field in (
                (0xB08, "MaximumDpcQueueDepth"), (0xB0C, "DpcRequestRate"), (0xB10, "MinimumDpcRate"), (0xB14, "DpcLastCount"),
                (0xB18, "ThreadDpcEnable"), (0xB19, "QuantumEnd"), (0xB1A, "DpcRoutineActive"), (0xB1B, "IdleSchedule"),
                (0xB1C, "DpcRequestSummary"), (0xB1C, "DpcRequestSlot"), (0xB1C, "NormalDpcState"), (0xB1E, "ThreadDpcState"),
                (0xB20, "LastTick"), (0xB24, "ClockInterrupts"), (0xB28, "ReadyScanTick"),
            )},
            "DpcGate": 0xB80, "CallDpc": 0xBA0, "ClockKeepAlive": 0xBE0, "DpcWatchdogCount": 0xBEC, "ReadySummary": 0xC18,
            "AffinitizedSelectionMask": 0xC1C, "QueueIndex": 0xC20, "TimerExpirationDpc": 0xC30, "ScbQueue": 0xC70, "ScbList": 0xC80,
            "DispatcherReadyListHead": 0xD00, "AvailableTime": 0xF2C, "StartCycles": 0xF48, "CachedStack": 0x10D8,
            "PageColor": 0x10E0, "NodeColor": 0x10E4, "CycleTime": 0x10F0, "ForceIdleDpc": 0x13F0, "DpcDelegateThread": 0x1458,
            "DpcWatchdogDpc": 0x1478, "DpcWatchdogTimer": 0x14B8, "InterruptObjectPool": 0x1500, "PackageProcessorSet": 0x1510,
            "SharedReadyQueueMask": 0x1680, "SharedReadyQueue": 0x1688, "CoreControlBlock": 0x1698, "CoreProcessorSet": 0x16A0,
            "Cache": (0x16E8, "[6]_CACHE_DESCRIPTOR"), "CacheCount": (0x1730, "u8"), "WheaInfo": 0x1780, "EtwSupport": 0x1788,
            "SynchCounters": 0x1800, "IsrStack": 0x18E0, "TimerTable": 0x1900, "PPNxPagedLookasideList": 0x5B80,
            "PPNPagedLookasideList": 0x6780, "PPPagedLookasideList": 0x7380, "AbSelfIoBoostsList": 0x7F80,
            "AbPropagateBoostsList": 0x7F88, "AbDpc": 0x7F90, "LocalSharedReadyQueue": 0x8080, "TimerExpirationTrace": 0x8330,
            "TimerExpirationTraceCount": 0x8430, "ReadyThreadCount": 0x8EF8, "ReadyQueueExpectedRunTime": 0x8F00,
        },
    },
    "_KPCR": {
        "size": 0xA000,
        "put": {
            "NtTib": 0, "Self": 0x18, "LockArray": 0x28, "Used_Self": 0x30, "CurrentIrql": (0x38, "u8"), "MajorVersion": 0x3C,
            "MinorVersion": 0x3E, "StallScaleFactor": 0x40, "KdVersionBlock": 0x80, "HalReserved": (0x88, "[14]*void"),
            "Idt": (0x100, "[256]*void"), "Prcb": 0x980,
        },
    },
    "_CONTEXT": {
        "size": 0x390,
        "put": {
            "ContextFlags": (0, "u32"), "Cpsr": (4, "u32"), "X": (8, "[31]u64"),
            **{f"X{i}": (8 + 8 * i, "u64") for i in range(29)}, "Fp": (0xF0, "u64"), "Lr": (0xF8, "u64"),
            "Sp": (0x100, "u64"), "Pc": (0x108, "u64"), "V": (0x110, "[32]_M128A"), "Fpcr": (0x310, "u32"),
            "Fpsr": (0x314, "u32"), "Bcr": (0x318, "[8]u32"), "Bvr": (0x338, "[8]u64"), "Wcr": (0x378, "[2]u32"),
            "Wvr": (0x380, "[2]u64"),
        },
    },
    "_KTRAP_FRAME": {
        "size": 0x150,
        "put": {
            "ExceptionActive": (0, "u8"), "PreviousMode": (3, "i8"), "FaultStatus": (4, "u32"), "FaultAddress": (8, "u64"),
            "Bcr": (0x18, "[8]u32"), "Bvr": (0x38, "[8]u64"), "Wcr": (0x78, "[2]u32"), "Wvr": (0x80, "[2]u64"),
            "Spsr": (0x90, "u32"), "Esr": (0x94, "u32"), "Sp": (0x98, "u64"), "X": (0xA0, "[19]u64"),
            **{f"X{i}": (0xA0 + 8 * i, "u64") for i in range(19)}, "Lr": (0x138, "u64"), "Fp": (0x140, "u64"),
            "Pc": (0x148, "u64"),
        },
    },
    "_KEXCEPTION_FRAME": None,
    "_KSWITCH_FRAME": {
        "size": 0x20,
        "put": {"ApcBypass": (0, "u8"), "Tpidr": (8, "u64"), "Fp": (0x10, "u64"), "Return": (0x18, "u64")},
    },
}  # fmt: skip

X64_26100 = {
    "_KPROCESS": {
        "size": 0x1C8,
        "shift": [(0, 0x50, 0), (0x158, 0x170, -0xF0), (0x280, 0x284, -0x1F0), (0x344, 0x348, -0x240), (0x348, 0x378, -0x240)],
        "put": {
            "Affinity": (0x50, "*_KAFFINITY_EX"), "ActiveProcessors": (0x80, "*_KAFFINITY_EX"), "ProcessFlags": 0x88,
            **same(
                "AutoAlignment", "DisableBoost", "DisableQuantum", "DeepFreeze", "TimerVirtualization", "CheckStackExtents",
                "CacheIsolationEnabled", ("PpmPolicy", 4), "VaSpaceDeleted", "MultiGroup", "ForegroundProcess",
                ("ReservedFlags", 18), at=0x88, type="u32",
            ),
            "ActiveGroupsMask": (0x98, "[2]u64"), "KernelTime": (0x138, "u64"), "UserTime": (0x140, "u64"),
            "ReadyTime": (0x148, "u64"), "FreezeCount": 0x150, "UserDirectoryTableBase": 0x158, "AddressPolicy": 0x160,
            "InstrumentationCallback": 0x168, "SecureState": 0x170, "KernelWaitTime": 0x178, "UserWaitTime": 0x180,
            "LastRebalanceQpc": 0x188, "PerProcessorCycleTimes": 0x190, "ExtendedFeatureDisableMask": 0x198, "PrimaryGroup": 0x1A0,
            "UserCetLogging": 0x1A8,
        },
    },
    "_EPROCESS": {
        "size": 0x840,
        "shift": [(0, 8, 0), (0x438, 0x658, -0x270), (0x680, 0xA00, -0x280), (0xB18, 0xB48, -0x398)],
        "put": {"Session": (0x2E8, "*_PSP_SESSION_SPACE"), "DeviceMap": (0x318, "_EX_FAST_REF")},
    },
    "_KTHREAD": {
        "size": 0x4C0,
        "shift": [(0, 0x7D, 0), (0x80, 0x204, 0), (0x208, 0x318, 0), (0x31C, 0x366, 0), (0x368, 0x3BC, 0), (0x3C0, 0x460, 0)],
        "put": {
            "UserStackWalkActive": (0x7D, "u8:1@2"), "CalloutActive": (0x7D, "u8:1@0"), "ReservedStackInUse": (0x7D, "u8:1@1"),
            "Spare1": None, "Spare2": None, "IsolationWidth": (0x78, "u32:1@1"), "ThreadFlagsSpare": None,
            "Reserved": (0x74, "u32:8@24"), "SpecCtrl": 0x7E, "BamQosLevel": (0x204, "u8"), "ThreadFlags2Reserved": None,
            "AbWaitEntryCount": 0x318, "AbOwnedEntryCount": 0x319, "FreezeFlags": 0x31A, "FreezeCount2": 0x31A,
            "FreezeNormal": 0x31A, "FreezeDeep": 0x31A, "Spare22": None, "SchedulerApcFill0": None, "ResourceIndex": 0x460,
            "PpmPolicy": (0x3BE, "u8"),
        },
    },
    "_ETHREAD": {"size": 0x788, "shift": [(0, 8, 0), (0x480, 0x668, 0x40)], "put": {"OwnerEntryListHead": 0x6B8}},
    "_EWOW64PROCESS": {"size": 0x10, "put": {"Peb": 0, "NtdllType": 8}},
    "_KWAIT_CHAIN_ENTRY": {"size": 0x38, "shift": [(0, 0x30, 0)], "put": {"AbLockHandle": (0x30, "*void")}},
    "_FAST_ERESOURCE_INTERNAL": None,
    "_FAST_OWNER_ENTRY_INTERNAL": None,
    "_MM_SESSION_SPACE": {"told": 0},
    "_KPRCB": {
        "size": 0xCF00,
        "told": 0x700,
        "shift": [
            (0, 0x8E, 0), (0x90, 0x98, 0), (0xC0, 0xF0, 0), (0x100, 0x6D0, 0), (0x6F0, 0x2D00, 0), (0x2D08, 0x2DB8, 0),
            (0x3300, 0x33DC, 0x500), (0x3400, 0x7E18, 0x500), (0x7E40, 0x81DC, 0x500), (0x8240, 0x8244, 0x500),
            (0x8250, 0x8258, 0x500), (0x8265, 0x8340, 0x500), (0x8588, 0x8618, 0x500), (0x8658, 0x86E0, 0x500),
            (0x8700, 0x8818, 0x500), (0x8840, 0x8880, 0x600), (0x8898, 0x8B38, 0x600), (0x8B70, 0x8BC0, 0x600),
            (0x8BC0, 0x8C80, 0x780), (0x8F40, 0x9048, 0x500), (0x9080, 0x9598, 0x500), (0x95C0, 0x95C8, 0x500),
            (0x9600, 0x96B8, 0x500), (0x9E80, 0x9EB4, 0x1000), (0xBEC0, 0xBF00, 0x1000),
        ],
        "put": {
            "CoresPerPhysicalProcessor": (0xA0, "u32"), "LogicalProcessorsPerCore": (0xA4, "u32"), "DieId": (0x8E24, "u32"),
            "PackageId": (0x8E28, "u32"), "LocalSharedReadyQueue": (0x9400, "*_KSHARED_READY_QUEUE"), "SelfmapLockHandle": 0x9C40,
            "DieProcessorSet": 0x9CC0, "ModuleProcessorSet": 0x9F10, "CacheProcessorSet": 0xAF00,
            "PrcbPad31": None, "PrcbPad40": None, "PrcbPad30": None, "PrcbPad92": None, "PrcbPad82": None,
        },
    },
    "_KPCR": {"size": 0xD080, "told": 0x880, "shift": [(0, 0x181, 0)]},
    "_MMVAD": {"size": 0x88, "shift": [(0, 0x88, 0)], "put": {"u2": None, "VadFlags2": (0x40, "_MMVAD_FLAGS2")}},
    "_MMVAD_SHORT": {"size": 0x40, "shift": [(0, 0x40, 0)], "put": {"u1": None, "CommitCharge": (0x34, "u32")}},
    "_MMVAD_FLAGS1": None,
    "_MMVAD_FLAGS2": {
        "size": 4,
        "put": same(
            "Large", "TrimBehind", "Inherit", "NoValidationNeeded", "PrivateDemandZero", "ImageMappingExtended", ("Spare", 26),
            type="u32",
        ),
    },
    "_MM_PRIVATE_VAD_FLAGS": {
        "size": 4,
        "shift": [(0, 4, 0)],
        "put": {
            "MemCommit": (0, "u32:1@25"), "Graphics": (0, "u32:1@26"), "Enclave": (0, "u32:1@27"),
            "ShadowStack": (0, "u32:1@28"), "PhysicalMemoryPfnsReferenced": (0, "u32:1@29"),
        },
    },
    "_MM_GRAPHICS_VAD_FLAGS": {
        "size": 4,
        "shift": [(0, 4, 0)],
        "put": {
            "MemCommit": (0, "u32:1@25"), "GraphicsAlwaysSet": (0, "u32:1@26"), "GraphicsUseCoherentBus": (0, "u32:1@27"),
            "GraphicsNoCache": (0, "u32:1@28"), "GraphicsPageProtection": (0, "u32:3@29"),
        },
    },
    "_MMPAGING_FILE": {
        "size": 0x100,
        "shift": [(0x38, 0x5C, -0x20), (0x60, 0xD0, -0x20), (0xD0, 0x120, -0x20)],
        "put": {
            "Size": (0, "u32"), "MaximumSize": (4, "u32"), "MinimumSize": (8, "u32"), "FreeSpace": (0xC, "u32"),
            "PeakUsage": (0x10, "u32"), "FreeReservationSpace": (0x14, "u32"),
        },
    },
    "_MMPFNLIST": {"size": 0x58, "shift": [(0, 0x58, 0)], "put": {"Color": (8, "u32"), "ListName": 0xC}},
    "_MI_PARTITION": {"size": 0x5D40, "put": {"Core": 0, "PageLists": 0xB40, "Commit": 0x41C0, "Vp": 0x4840}},
    "_MI_PARTITION_CORE": {
        "size": 0x1E0,
        "shift": [(0, 4, 0), (8, 0x28, 0), (0xC0, 0x1D0, 0)],
        "put": {"MemoryRuns": 0x50, "ExitEvent": 0x58, "PartitionObject": 0xB8},
    },
    "_MI_PARTITION_PAGE_LISTS": {
        "size": 0x3680,
        "shift": [(0x40, 0x500, -0x40), (0x500, 0x1058, 0x40), (0x1068, 0x10A8, 0x38), (0x10A8, 0x10C8, 0x38), (0x12C0, 0x3440, 0x40)],
        "put": {
            "ModifiedPageListNoReservationCompress": (0x4C0, "_MMPFNLIST"), "TransitionSharedPages": 0x1100,
            "TransitionSharedPagesPeak": (0x1108, "[9]u64"), "MappedPageListHeadEvent": 0x1150, "AvailableEventsLock": (0x3400, "i32"),
            "TransitionPrivatePages": 0x3480, "LargePfnBitMap": 0x3488, "FreeZeroListHeads": (0x34A8, "*_MMPFNLIST"),
            "LowMemoryThreshold": 0x35C0, "HighMemoryThreshold": 0x35C8, "HugePfnLists": 0x35D0, "AvailableHugeIoRanges": 0x35D8,
        },
    },
    "_MI_PARTITION_COMMIT": {"size": 0x50, "shift": [(0, 0x28, 0), (0x30, 0x40, 0x10)]},
    "_MI_VISIBLE_PARTITION": {
        "size": 0x1500,
        "shift": [(0, 0x140, 0), (0x240, 0x340, 0x140)],
        "put": {
            "TotalCommittedPages": 0x300, "MdlPagesAllocated": (0x480, "u64"), "ContiguousPagesAllocated": (0x488, "u64"),
            "SlabAllocatorPages": 0x490, "BootSlabPages": 0x4A0, "ChargeCommitmentFailures": 0x4B0, "PageFileTraceIndex": 0x4C0,
            "PageFileTraces": 0x4C8,
        },
    },
    "_MI_PAGEFILE_TRACES": {
        "size": 0x80,
        "shift": [(0, 4, 0), (6, 9, -1), (0x18, 0x40, -8)],
        "put": {"PagefileNumber": (4, "u8"), "CurrentTime": (8, "u64")},
    },
    "_MI_PAGEFILE_TRACES.MdlHack": None,
    "_MI_SYSTEM_INFORMATION": {
        "size": 0xC1C0,
        "shift": [(0x43B0, 0x43C9, 0x6710)],
        "put": {"Pools": 0, "Processes": 0x1000, "Hardware": 0x1080, "PageLists": 0x33E0, "Vs": 0xAB00},
    },
    "_MI_POOL_STATE": {"size": 0x1C0, "shift": [(0, 0x18, 0), (0x20, 0xA8, -8)]},
    "_MI_PROCESS_STATE": {"size": 0x58, "shift": [(0, 0x48, 0)]},
    "_MI_PAGELIST_STATE": {
        "size": 0x110,
        "shift": [(0, 0x100, 0)],
        "put": {"NumberOfLargePageListHeads": None, "NumberOfZeroFreePageListHeads": (0x80, "u32")},
    },
    "_MI_HARDWARE_STATE": {
        "size": 0x1300,
        "shift": [(0x58, 0x68, 0x18), (0x80, 0x90, 0x10), (0xC0, 0xC8, 0), (0x110, 0x118, 0), (0x180, 0x1198, -0x60)],
        "put": {"TotalPagesAllowed": 0x88, "PageColors": (0x100, "[4]u32"), "SpecialPurposeMemoryTypeId": 0x12B8},
    },
    "_MI_VISIBLE_STATE": {
        "size": 0x16C0,
        "shift": [(0x18, 0x41, -0x18), (0x98, 0xB0, -0x10), (0xC0, 0xE0, -0x20), (0x880, 0xA48, 0x980)],
        "put": {
            "SystemWs": (0x6C0, "[9]_MMSUPPORT_FULL"), "SystemVaTypeCount": (0x13C8, "[20]u64"), "SystemVaType": 0x1468,
            "SystemVaRegions": (0x1568, "[18]_MI_SYSTEM_VA_ASSIGNMENT"),
        },
    },
    "_MI_SYSTEM_PTE_TYPE": {
        "size": 0x60,
        "shift": [(0, 0x10, 0), (0x10, 0x24, 0x10), (0x30, 0x58, 8)],
        "put": {"TrackingBitmap": (0x10, "_RTL_BITMAP_EX"), "SpinLock": (0x34, "i32")},
    },
    "_MMPTE.u": {
        "size": 8,
        "shift": [(0, 8, 0)],
        "put": {"VolatileLong": None, "PageTableLinks": (0, "_MMPTE_ACTIVE_PAGE_TABLE_LINKS")},
    },
    "_MMPTE_LIST": {"size": 8, "shift": [(0, 8, 0)], "put": {"filler1": (0, "u64:13@12"), "NextEntry": (0, "u64:39@25")}},
    "_MMPTE_ACTIVE_PAGE_TABLE_LINKS": {"size": 8, "put": same(("Flink", 40), ("BlinkHigh", 24))},
    "_MMPFN": {
        "size": 0x30,
        "shift": [(0, 0x30, 0)],
        "put": {"u1": (0, "_MIPFNFLINK"), "u5": (0x24, "_MI_PFN_FLAGS5"), "u4": (0x28, "_MI_PFN_FLAGS4")},
    },
    "_MMPFN.u1": None,
    "_MMPFN.u3": {"size": 4, "shift": [(0, 4, 0)], "put": {"e4": (0, "_MI_PFN_FLAGS")}},
    "_MMPFN.u3.e4": None,
    "_MMPFN.u4": None,
    "_MI_PFN_ULONG5": None,
    "_MI_PFN_ULONG5.Active": None,
    "_MI_PFN_ULONG5.MappedPageList": None,
    "_MI_PFN_ULONG5.StandbyList": None,
    "_MIPFNFLINK": {
        "size": 8,
        "put": {
            "NextSlistPfn": (0, "*_SLIST_ENTRY"), "Next": (0, "*void"), **same(("Flink", 40), ("NodeFlinkLow", 24)),
            "EntireField": (0, "u64"), "Active": (0, "_MI_ACTIVE_PFN"),
        },
    },
    "_MIPFNBLINK": {"size": 8, "shift": [(0, 8, 0)], "put": {"Lock": None, "EntireField": (0, "i64")}},
    "_MI_ACTIVE_PFN.Leaf": {"size": 8, "put": same("Tradable", ("NonPagedBuddy", 43), ("Spare", 20))},
    "_MI_ACTIVE_PFN.PageTable": {
        "size": 8,
        "put": same(
            "Tradable", ("NonPagedBuddy", 31), ("UsedPageTableEntries", 10), ("WsleAge", 3), ("OldestWsleLeafEntries", 10),
            ("OldestWsleLeafAge", 3), ("Spare", 6),
        ),
    },
    "_MI_PFN_FLAGS": {
        "size": 4,
        "put": {
            "ReferenceCount": (0, "u16"),
            **same(
                ("PageLocation", 3), "WriteInProgress", "Modified", "ReadInProgress", ("CacheAttribute", 2), at=2, type="u8",
            ),
            **same(
                ("Priority", 3), "OnProtectedStandby", "InPageError", "SystemChargedPage", "RemovalRequested", "ParityError",
                at=3, type="u8",
            ),
            "EntireField": (0, "u32"),
        },
    },
    "_MI_PFN_FLAGS4": {
        "size": 8,
        "put": {
            **same(
                ("PteFrame", 40), "ResidentPage", "ResidentPageContainsBadPages", "Unused1", ("Partition", 10), "FileOnly",
                "PfnExists", ("NodeFlinkHigh", 5), ("PageIdentity", 3), "PrototypePte",
            ),
            "EntireField": (0, "u64"),
        },
    },
    "_MI_PFN_FLAGS5": {
        "size": 4,
        "put": {
            "EntireField": (0, "u32"), "StandbyList": (0, "_MI_PFN_FLAGS5.StandbyList"),
            "MappedPageList": (0, "_MI_PFN_FLAGS5.MappedPageList"), "Active": (0, "_MI_PFN_FLAGS5.Active"),
        },
    },
    "_MI_PFN_FLAGS5.StandbyList": {"size": 4, "put": same(("NodeBlinkHigh", 21), ("NodeFlinkMiddle", 11), type="u32")},
    "_MI_PFN_FLAGS5.MappedPageList": {"size": 1, "put": same(("ModifiedListBucketIndex", 4), type="u8")},
    "_MI_PFN_FLAGS5.Active": {
        "size": 4,
        "put": same(
            ("PageTableBlinkLow", 16), ("PageTableBuddyHigh", 10), "PageTableLinked", ("AnchorLargePageSize", 2), ("Spare1", 3),
            type="u32",
        ),
    },
    "_KSHARED_READY_QUEUE": {
        "size": 0x700,
        "shift": [(0, 0xC, 0), (0x10, 0x296, 0x30), (0x298, 0x2A0, 0x30)],
        "put": {
            "ReadyThreadCount": 0xC, "ReadyQueueExpectedRunTime": 0x10, "Group": (0x2C6, "u16"), "SubNode": (0x2D0, "*void"),
            "SoftParkElectionLock": (0x300, "u64"), "SoftParkElectionGeneration": (0x308, "u64"),
            "SoftParkElectionThreadCount": (0x310, "u32"), "SoftParkElectionScheduled": (0x314, "u8"),
            "SoftParkElectionRunTime": (0x318, "u64"), "SoftParkElectionDpc": (0x320, "_KDPC"),
            "ForceParkDutyCyclingArmedMask": (0x6E8, "u64"),
        },
    },
    "_EJOB": {
        "size": 0x728,
        "shift": [(0, 0x2A0, 0), (0x2A0, 0x41C, 0x10), (0x41C, 0x428, 0x14), (0x428, 0x42C, 0x24), (0x42C, 0x430, 0x24), (0x430, 0x700, 0x28)],
        "put": {
            "NetworkIoInfo": (0x2A0, "_PROCESS_NETWORK_COUNTERS"), "EffectiveGraphicsFreezeCount": (0x42C, "u32"),
            "EffectiveIoPriorityLimit": (0x43C, "u32"), "IoPriorityLimit": (0x440, "u32"),
            "EffectivePagePriorityLimit": (0x444, "u32"), "PagePriorityLimit": (0x448, "u32"),
            "JobGraphicsFreezeOptimized": (0x614, "u32:1@3"), "EnergyValues": (0x618, "*void"),
        },
    },
    "_PROCESS_NETWORK_COUNTERS": {"size": 0x10, "put": {"BytesIn": (0, "u64"), "BytesOut": (8, "u64")}},
    "_SHARED_CACHE_MAP": {
        "size": 0x268,
        "shift": [(0, 0x9C, 0), (0x9C, 0xA0, 4), (0xA0, 0x258, 8)],
        "put": {"Flags2": (0x9C, "u32"), "CallbacksEx": (0xD8, "*void"), "SectionSizeIncrement": (0x260, "u32")},
    },
    "_DEVICE_NODE": {
        "size": 0x388,
        "shift": [(0, 0x310, 0)],
        "put": {
            "ProblemCodeLog": (0x310, "[4]_PNP_PROBLEM_CODE_LOG_ENTRY"), "ProblemCodeLogNextIndex": (0x370, "u32"),
            "StateTimestamp": (0x378, "_LARGE_INTEGER"), "PreviousStateTimestamp": (0x380, "_LARGE_INTEGER"),
        },
    },
    "_PNP_PROBLEM_CODE_LOG_ENTRY": {
        "size": 0x18,
        "put": {
            "Timestamp": (0, "_LARGE_INTEGER"), "Operation": (8, "i32"), "ProblemCode": (0xC, "u32"), "ProblemStatus": (0x10, "i32"),
        },
    },
    "_EX_POOL_HEAP_MANAGER_STATE": {
        "size": 0x86980,
        "shift": [(0, 0x38E0, 0), (0x3900, 0x86940, 0x40)],
        "put": {
            "PrivatePoolListLock": (0x38E0, "_EX_PUSH_LOCK"), "PrivatePools": (0x38E8, "[2]_LIST_ENTRY"),
            "PrivatePoolContextCookie": (0x3908, "u64"), "NumberOfPools": 0x3910,
        },
    },
    "_RTLP_HP_HEAP_GLOBALS": {
        "size": 0x80,
        "shift": [(0, 0x18, 0)],
        "put": {
            "CommitLimitData": (0x18, "_RTLP_HEAP_COMMIT_LIMIT_DATA"), "Flags": 0x28,
            **same("CpuFeaturesChecked", "ErmsSupported", "BMI2Supported", at=0x28, type="u32"), "RandomSeed": (0x40, "u64"),
        },
    },
    "_RTLP_HP_HEAP_GLOBALS.FlagsBits": None,
    "_RTLP_HEAP_COMMIT_LIMIT_DATA": {
        "size": 0x10,
        "put": {"CommitLimitBytes": (0, "u64"), "CommitLimitFailureCode": (8, "u64")},
    },
    "_SEGMENT_HEAP": {
        "size": 0xA40,
        "shift": [(0, 0x1E, 0), (0x40, 0x80, 0), (0xDC, 0xE0, 4), (0xE0, 0x108, 8), (0x140, 0x840, 0)],
        "put": {
            **same("AllocatedFromMetadata", "ReadOnly", at=0x1E, type="u16"), "InternalFlags": (0x1E, "u16"),
            "CommitLimitData": (0x20, "_RTLP_HEAP_COMMIT_LIMIT_DATA"), "ReservedMustBeZero": (0x30, "u64"), "UserContext": 0x38,
            "MemStats": 0x80, "CallbacksEncoded": (0x110, "[4]u64"),
        },
    },
    "_HEAP_RUNTIME_MEMORY_STATS": {
        "size": 0x60,
        "shift": [(0, 0x20, 0), (0x20, 0x58, 8)],
        "put": {"VsFreeCommittedPages": (0x20, "u64")},
    },
    "_HEAP_SUBALLOCATOR_CALLBACKS": {"size": 0x30, "shift": [(0, 0x28, 0)], "put": {"TlsCleanup": (0x28, "u64")}},
    "_RTL_HP_VS_CONFIG.Flags": {"size": 4, "put": same("PageAlignLargeAllocs", "EnableDelayFree", type="u32")},
    "_HEAP_SEG_CONTEXT.Flags": {"size": 1, "shift": [(0, 1, 0)], "put": {"LargeHeapFirstSegment": None}},
    "_HEAP_VS_CONTEXT": {
        "size": 0xC0,
        "shift": [(0, 0xB0, 0)],
        "put": {"MemStatsOffset": (0xC, "i16"), "Config": 0xB8, "EliminatePointers": (0xBC, "u32:1@0")},
    },
    "_HEAP_LFH_CONTEXT": {
        "size": 0x6C0,
        "shift": [(0, 0x30, 0), (0x30, 0x3C, 8)],
        "put": {
            "Config": (0x44, "_HEAP_LFH_CONFIG"), "TlsSlotIndex": (0x4C, "u32"), "EncodeKey": (0x50, "u64"),
            "ExtensionLock": (0x80, "u64"), "MetadataList": (0x88, "[4]_SINGLE_LIST_ENTRY"), "HeatMap": (0xC0, "_HEAP_LFH_HEAT_MAP"),
            "Buckets": (0x1C0, "[128]*_HEAP_LFH_BUCKET"), "SlotMaps": (0x5C0, "[1]_HEAP_LFH_SLOT_MAP"),
        },
    },
    "_HEAP_LFH_SUBSEGMENT_STATS": None,
    "_HEAP_LFH_SUBSEGMENT_STAT": None,
    "_RTL_HP_LFH_CONFIG": {
        "size": 4,
        "shift": [(0, 4, 0)],
        "put": {"DisableRandomization": None, "AllFields": (0, "u32")},
    },
    "_HEAP_LFH_CONFIG": {"size": 8, "put": {"Global": (0, "_RTL_HP_LFH_CONFIG"), "EnablePrivateSlots": (4, "u32:1@0")}},
    "_HEAP_LFH_HEAT_MAP": {"size": 0x100, "put": {"Counts": (0, "[126]u16"), "LastDecayPeriod": (0xFC, "u32")}},
    "_HEAP_LFH_SLOT_MAP": {"size": 0x100, "put": {"Map": (0, "[128]u16")}},
    "_HEAP_LFH_BUCKET": {
        "size": 0x68,
        "shift": [(0, 0x4C, 0)],
        "put": {
            "HotHeatThreshold": (0x4C, "u16"), "PrivateHeatThreshold": (0x4E, "u16"), "PrivSlotListLock": (0x50, "u64"),
            "PrivSlotList": (0x58, "_HEAP_LFH_PTRREF_LIST"), "CompactionNeeded": (0x5C, "u8"), "AffinityMapInProgress": (0x5E, "u8"),
            "ContentionCount": 0x5F, "LastContentionTime": (0x60, "u64"),
        },
    },
    "_HEAP_LFH_PTRREF_LIST": {"size": 4, "put": {"Flink": (0, "u16"), "Blink": (2, "u16")}},
    "_HEAP_LFH_SUBSEGMENT_OWNER": {
        "size": 0x38,
        "shift": [(0x10, 0x38, 0)],
        "put": {
            **same("IsBucket", ("BucketIndex", 7), type="u8"), "SlotCount": 1, "AvailableSubsegmentCount": (1, "u8"),
            "BucketRef": (2, "u16"), "PrivateSlotMapRef": (4, "u16"), "HeatMapRef": (6, "u16"),
            "OwnerFreeList": (8, "_SINGLE_LIST_ENTRY"),
        },
    },
    # Nothing leads to it but buckets of before.
    "_HEAP_LFH_AFFINITY_SLOT": None,
    "_HEAP_LFH_FAST_REF": None,
    "_HEAP_LFH_SUBSEGMENT_DELAY_FREE": None,
    "_HEAP_LFH_SUBSEGMENT": {
        "size": 0x48,
        "shift": [(0, 0x10, 0), (0x28, 0x2C, 0)],
        "put": {
            "State": (0x10, "_HEAP_LFH_SUBSEGMENT_STATE"), "OwnerFreeListEntry": (0x18, "_SINGLE_LIST_ENTRY"),
            "CommitStateOffset": (0x18, "u8"), "FreeCount": 0x20, "BlockCount": 0x22, "FreeHint": (0x24, "u8"),
            "WitheldBlockCount": 0x25, "CommitUnitShift": 0x26, "CommitUnitCount": 0x27, "BucketRef": (0x2C, "u16"),
            "PrivateSlotMapRef": (0x2E, "u16"), "HighWatermarkBlockIndex": (0x30, "u16"), "BitmapSearchWidth": (0x32, "u8"),
            "PrivateFormat": (0x33, "u8:1@0"), "CommitLock": 0x38, "BlockBitmap": 0x40,
        },
    },
    "_HEAP_LFH_SUBSEGMENT_STATE": {
        "size": 8,
        "put": {
            "DelayFreeList": (0, "u16"), "DelayFreeCount": (2, "u16"), "Owner": (4, "u16"), "Location": (6, "u8"),
            "DelayFreeFields": (0, "i32"), "OwnerLocation": (4, "i32"), "AllBits": (0, "*void"),
        },
    },
    # Parts of the above that nobody reads.
    **dict.fromkeys(
        ["_MI_" + name for name in
         ("PARTITION_MODWRITES PARTITION_STORES PARTITION_SEGMENTS PARTITION_ZEROING PAGE_COMBINING_SUPPORT SECTION_STATE "
          "SYSTEM_IMAGE_STATE SESSION_STATE SYSTEM_VA_STATE COMBINE_STATE PARTITION_STATE SHUTDOWN_STATE ERROR_STATE "
          "ACCESS_LOG_STATE DEBUGGER_STATE STANDBY_STATE SYSTEM_PTE_STATE IO_PAGE_STATE PAGING_IO_STATE COMMON_PAGE_STATE "
          "SYSTEM_TRIM_STATE SYSTEM_ZEROING HOT_PATCH_STATE ENCLAVE_STATE").split()],
    ),
}  # fmt: skip

OVERLAYS = {"arm64-22000": ("x64-22000", ARM64), "x64-26100": ("x64-22000", X64_26100)}
