"""Generations whose symbols we do not have, made from a neighbour of the same or the next build.

A structure that moved is given as {"size", "put": {field: offset or (offset, type)}, "shift": [(from, to, distance)]}: fields of
the neighbour in a shifted range move, those told by "put" are placed, all others are left out: better absent than wrong.
`None` leaves out the whole structure. "told" is how far the public symbols tell a structure that the system has whole.

Facts: arm64-22000 from the debugger data block of real arm64 dumps of that build (the distance between told fields
holds for those in between), `CONTEXT` of the SDK, and public listings of the symbols of arm64 kernels for the trap frame
and the switch frame, which lies in the thread; x64-26100 from public listings of its symbols.
"""

ARM64 = {
    "_KPROCESS": {"size": 0x3F0, "shift": [(0, 0x48, 0)]},
    "_EPROCESS": {"size": 0xC80, "shift": [(0, 8, 0), (0x438, 0x600, -0x48)]},
    "_KTHREAD": {
        "size": 0x4A0,
        "shift": [(0, 0x60, 0), (0x90, 0x190, -8), (0x218, 0x380, 0x20)],
        "put": {"SwitchFrame": (0x210, "_KSWITCH_FRAME")},
    },
    "_ETHREAD": {"size": 0x910, "shift": [(0, 8, 0), (0x480, 0x600, 0x20)]},
    "_KSPECIAL_REGISTERS": {"size": 0x320, "put": {"Elr_El1": (0, "u64")}},
    "_KPROCESSOR_STATE": {"size": 0x6B0, "put": {"SpecialRegisters": 0, "ContextFrame": 0x320}},
    "_KPRCB": {
        "size": 0x9680,
        "put": {
            "CurrentThread": 8, "NextThread": 0x10, "IdleThread": 0x18, "Number": 0x24, "ProcessorState": 0x40,
            "CpuType": 0x6F0, "MHz": 0x6F4, "DpcRoutineActive": 0xB1A, "VendorString": 0x890, "Context": 0x8A0,
        },
    },
    "_KPCR": {"size": 0xA000, "put": {"Self": 0x18, "Prcb": 0x980}},
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
        "shift": [(0, 0x50, 0)],
        "put": {
            "ReadyListHead": 0x68, "SwapListEntry": 0x78, "ProcessFlags": 0x88, "BasePriority": 0x90, "QuantumReset": 0x91,
            "Visited": 0x92, "Flags": 0x93, "StackCount": 0x108, "ProcessListEntry": 0x110, "CycleTime": 0x120,
            "ContextSwitches": 0x128, "SchedulingGroup": 0x130, "KernelTime": (0x138, "u64"), "UserTime": (0x140, "u64"),
            "ReadyTime": (0x148, "u64"), "FreezeCount": 0x150, "UserDirectoryTableBase": 0x158, "AddressPolicy": 0x160,
            "InstrumentationCallback": 0x168, "SecureState": 0x170, "KernelWaitTime": 0x178, "UserWaitTime": 0x180,
            "LastRebalanceQpc": 0x188, "PerProcessorCycleTimes": 0x190, "PrimaryGroup": 0x1A0,
        },
    },
    "_EPROCESS": {
        "size": 0x840,
        "shift": [(0, 8, 0), (0x438, 0x658, -0x270), (0x680, 0x880, -0x280)],
        "put": {"Session": (0x2E8, "*_PSP_SESSION_SPACE"), "DeviceMap": (0x318, "_EX_FAST_REF")},
    },
    "_KTHREAD": {"size": 0x4C0, "shift": [(0, 0x228, 0), (0x230, 0x240, 0), (0x248, 0x3B0, 0)]},
    "_ETHREAD": {"size": 0x788, "shift": [(0, 8, 0), (0x480, 0x670, 0x40)], "put": {"OwnerEntryListHead": 0x6B8}},
    "_EWOW64PROCESS": {"size": 0x10, "put": {"Peb": 0, "NtdllType": 8}},
    "_KWAIT_CHAIN_ENTRY": {"size": 0x38, "shift": [(0, 0x30, 0)], "put": {"AbLockHandle": (0x30, "*void")}},
    "_FAST_ERESOURCE_INTERNAL": None,
    "_FAST_OWNER_ENTRY_INTERNAL": None,
    # Public symbols tell no more of these; what lies behind is the neighbour's.
    "_MM_SESSION_SPACE": {"told": 0},
    "_KPRCB": {"told": 0x700},
    "_KPCR": {"told": 0x880},
}

OVERLAYS = {"arm64-22000": ("x64-22000", ARM64), "x64-26100": ("x64-22000", X64_26100)}
