//! The generations of Windows the laboratory can build, and where their structures keep things.
//!
//! Two sources, in this order: the [`table`]s, which hold whole structures of every generation, and the short list
//! [`FIELDS`] of what the systems made without a compiler put into their symbols. Tests hold the two together.
//!
//! To add a field to that list, add a row; to add a generation, add a table, and a column if it is to have made symbols.
//!
//! Facts: public symbols of the kernels named in the columns. The x86 columns come from XP SP3 (uniprocessor, PAE),
//! 7 SP1 and 10 2004. Fields of the arm64 column that its debugger data block does not tell are moved from the x64
//! kernel of the same build by the distance that the told ones show.

pub mod table;

use kd_sdk::address::Va;
use std::sync::OnceLock;
use table::Table;

/// Instruction set of a system, and with it its context records and image files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machine {
    /// 32-bit Intel.
    X86,
    /// 64-bit Intel.
    X64,
    /// 64-bit ARM.
    Arm64,
}

impl Machine {
    /// `IMAGE_FILE_MACHINE_*`.
    pub fn image_type(self) -> u16 {
        match self {
            Machine::X86 => 0x14c,
            Machine::X64 => 0x8664,
            Machine::Arm64 => 0xaa64,
        }
    }

    /// Bytes of a pointer.
    pub fn pointer_size(self) -> usize {
        if self == Machine::X86 { 4 } else { 8 }
    }
}

/// One release of Windows on one machine.
#[derive(Debug)]
pub struct Generation {
    /// Machine and build, as in `x64-19041`.
    pub name: &'static str,
    /// The instruction set.
    pub machine: Machine,
    /// The base build number.
    pub build: u32,
    /// Major and minor version of NT.
    pub version: (u16, u16),
    /// The text behind `NtBuildLab`.
    pub build_lab: &'static str,
    /// Size of its `KDDEBUGGER_DATA64`.
    pub kdbg_size: u16,
    /// Where the kernel is loaded.
    pub kernel_base: u64,
    /// Where page tables see themselves.
    pub pte_base: u64,
    column: usize,
    table: &'static str,
    parsed: OnceLock<Table>,
}

/// The text of a layout table.
macro_rules! table {
    ($name:literal) => {
        include_str!(concat!("../../kernels/layouts/", $name, ".txt"))
    };
}

#[rustfmt::skip]
static ALL: [Generation; 9] = [
    Generation { name: "x86-2600", machine: Machine::X86, build: 2600, version: (5, 1), build_lab: "2600.xpsp.080413-2111", kdbg_size: 0x290, kernel_base: 0x804d_7000, pte_base: 0xc000_0000, column: 0, table: table!("x86-2600"), parsed: OnceLock::new() },
    Generation { name: "x86-7601", machine: Machine::X86, build: 7601, version: (6, 1), build_lab: "7601.win7sp1_rtm.101119-1850", kdbg_size: 0x340, kernel_base: 0x8284_0000, pte_base: 0xc000_0000, column: 1, table: table!("x86-7601"), parsed: OnceLock::new() },
    Generation { name: "x86-19041", machine: Machine::X86, build: 19041, version: (10, 0), build_lab: "19041.vb_release.191206-1406", kdbg_size: 0x380, kernel_base: 0x8180_0000, pte_base: 0xc000_0000, column: 2, table: table!("x86-19041"), parsed: OnceLock::new() },
    Generation { name: "x64-7601", machine: Machine::X64, build: 7601, version: (6, 1), build_lab: "7601.win7sp1_ldr.190904-1802", kdbg_size: 0x340, kernel_base: 0xffff_f800_0284_e000, pte_base: 0xffff_f680_0000_0000, column: 3, table: table!("x64-7601"), parsed: OnceLock::new() },
    Generation { name: "x64-9600", machine: Machine::X64, build: 9600, version: (6, 3), build_lab: "9600.winblue_ltsb.170613-0600", kdbg_size: 0x360, kernel_base: 0xffff_f800_7ca1_0000, pte_base: 0xffff_f680_0000_0000, column: 4, table: table!("x64-9600"), parsed: OnceLock::new() },
    Generation { name: "x64-19041", machine: Machine::X64, build: 19041, version: (10, 0), build_lab: "19041.vb_release.191206-1406", kdbg_size: 0x380, kernel_base: 0xffff_f804_6b20_0000, pte_base: 0xffff_bf80_0000_0000, column: 5, table: table!("x64-19041"), parsed: OnceLock::new() },
    Generation { name: "x64-22000", machine: Machine::X64, build: 22000, version: (10, 0), build_lab: "22000.co_release.210604-1628", kdbg_size: 0x380, kernel_base: 0xffff_f802_3da0_0000, pte_base: 0xffff_9d80_0000_0000, column: 6, table: table!("x64-22000"), parsed: OnceLock::new() },
    Generation { name: "x64-26100", machine: Machine::X64, build: 26100, version: (10, 0), build_lab: "26100.ge_release.240331-1435", kdbg_size: 0x380, kernel_base: 0xffff_f807_5a00_0000, pte_base: 0xffff_8c00_0000_0000, column: 6, table: table!("x64-26100"), parsed: OnceLock::new() },
    Generation { name: "arm64-22000", machine: Machine::Arm64, build: 22000, version: (10, 0), build_lab: "22000.co_release.210604-1628", kdbg_size: 0x380, kernel_base: 0xffff_f803_51e0_0000, pte_base: 0xffff_a880_0000_0000, column: 7, table: table!("arm64-22000"), parsed: OnceLock::new() },
];

/// Every generation.
pub static GENERATIONS: &[Generation] = &ALL;

/// Not in this generation.
const N: u32 = u32::MAX;

/// Structure, field (empty: the size of the structure), type, and the offset in each generation.
///
/// Types: `u8` to `u64`, `uptr` (integer of pointer size), `ptr` or `ptr TYPE`, `[N]TYPE`, or a structure's name.
type Row = (&'static str, &'static str, &'static str, [u32; 8]);

#[rustfmt::skip]
/// The table. Columns: x86 2600, x86 7601, x86 19041, x64 7601, x64 9600, x64 19041, x64 22000, arm64 22000.
static FIELDS: &[Row] = &[
    ("_LIST_ENTRY", "", "", [8, 8, 8, 0x10, 0x10, 0x10, 0x10, 0x10]),
    ("_LIST_ENTRY", "Flink", "ptr _LIST_ENTRY", [0, 0, 0, 0, 0, 0, 0, 0]),
    ("_LIST_ENTRY", "Blink", "ptr _LIST_ENTRY", [4, 4, 4, 8, 8, 8, 8, 8]),
    ("_UNICODE_STRING", "", "", [8, 8, 8, 0x10, 0x10, 0x10, 0x10, 0x10]),
    ("_UNICODE_STRING", "Length", "u16", [0, 0, 0, 0, 0, 0, 0, 0]),
    ("_UNICODE_STRING", "MaximumLength", "u16", [2, 2, 2, 2, 2, 2, 2, 2]),
    ("_UNICODE_STRING", "Buffer", "ptr u16", [4, 4, 4, 8, 8, 8, 8, 8]),
    ("_CLIENT_ID", "", "", [8, 8, 8, 0x10, 0x10, 0x10, 0x10, 0x10]),
    ("_CLIENT_ID", "UniqueProcess", "ptr", [0, 0, 0, 0, 0, 0, 0, 0]),
    ("_CLIENT_ID", "UniqueThread", "ptr", [4, 4, 4, 8, 8, 8, 8, 8]),
    ("_KAPC_STATE", "", "", [0x18, 0x18, 0x18, 0x30, 0x30, 0x30, 0x30, 0x30]),
    ("_KAPC_STATE", "Process", "ptr _KPROCESS", [0x10, 0x10, 0x10, 0x20, 0x20, 0x20, 0x20, 0x20]),
    ("_KPROCESS", "", "", [0x6c, 0x98, 0xe0, 0x160, 0x2c8, 0x438, 0x438, 0x3f0]),
    ("_KPROCESS", "DirectoryTableBase", "uptr", [0x18, 0x18, 0x18, 0x28, 0x28, 0x28, 0x28, 0x28]),
    ("_KPROCESS", "ThreadListHead", "_LIST_ENTRY", [0x50, 0x2c, 0x2c, 0x30, 0x30, 0x30, 0x30, 0x38]),
    ("_EPROCESS", "", "", [0x260, 0x2c0, 0x4c0, 0x4f8, 0x708, 0xa40, 0xb80, 0xc80]),
    ("_EPROCESS", "Pcb", "_KPROCESS", [0, 0, 0, 0, 0, 0, 0, 0]),
    ("_EPROCESS", "UniqueProcessId", "ptr", [0x84, 0xb4, 0xe4, 0x180, 0x2e0, 0x440, 0x440, 0x3f8]),
    ("_EPROCESS", "ActiveProcessLinks", "_LIST_ENTRY", [0x88, 0xb8, 0xe8, 0x188, 0x2e8, 0x448, 0x448, 0x400]),
    ("_EPROCESS", "CreateTime", "u64", [0x70, 0xa0, 0x100, 0x168, 0x2d0, 0x468, 0x468, 0x420]),
    ("_EPROCESS", "InheritedFromUniqueProcessId", "ptr", [0x14c, 0x140, 0x170, 0x290, 0x3d0, 0x540, 0x540, 0x4f8]),
    ("_EPROCESS", "Peb", "ptr _PEB", [0x1b0, 0x1a8, 0x17c, 0x338, 0x3e8, 0x550, 0x550, 0x508]),
    ("_EPROCESS", "ObjectTable", "ptr _HANDLE_TABLE", [0xc4, 0xf4, 0x18c, 0x200, 0x408, 0x570, 0x570, 0x528]),
    ("_EPROCESS", "ImageFileName", "[15]u8", [0x174, 0x16c, 0x1ac, 0x2e0, 0x438, 0x5a8, 0x5a8, 0x560]),
    ("_EPROCESS", "ThreadListHead", "_LIST_ENTRY", [0x190, 0x188, 0x1d0, 0x308, 0x470, 0x5e0, 0x5e0, 0x598]),
    ("_EPROCESS", "ActiveThreads", "u32", [0x1a0, 0x198, 0x1d8, 0x328, 0x480, 0x5f0, 0x5f0, 0x5a8]),
    ("_KTHREAD", "", "", [0x1c0, 0x200, 0x280, 0x368, 0x5d0, 0x430, 0x480, 0x4a0]),
    ("_KTHREAD", "InitialStack", "ptr", [0x18, 0x28, 0x20, 0x28, 0x28, 0x28, 0x28, 0x28]),
    ("_KTHREAD", "StackLimit", "ptr", [0x1c, 0x2c, 0x24, 0x30, 0x30, 0x30, 0x30, 0x30]),
    ("_KTHREAD", "StackBase", "ptr", [0x168, 0x190, 0x28, 0x278, 0x38, 0x38, 0x38, 0x38]),
    ("_KTHREAD", "KernelStack", "ptr", [0x28, 0x30, 0x48, 0x38, 0x58, 0x58, 0x58, 0x58]),
    ("_KTHREAD", "TrapFrame", "ptr _KTRAP_FRAME", [0x134, 0x128, 0x6c, 0x1d8, 0x90, 0x90, 0x90, 0x88]),
    ("_KTHREAD", "ApcState", "_KAPC_STATE", [0x34, 0x40, 0x70, 0x50, 0x98, 0x98, 0x98, 0x90]),
    ("_KTHREAD", "Priority", "u8", [0x33, 0x57, 0x87, 0x7b, 0xc3, 0xc3, 0xc3, 0xbb]),
    ("_KTHREAD", "State", "u8", [0x2d, 0x68, 0x90, 0x164, 0x184, 0x184, 0x184, 0x17c]),
    ("_KTHREAD", "WaitIrql", "u8", [0x58, 0x6a, 0x92, 0x166, 0x186, 0x186, 0x186, 0x17e]),
    ("_KTHREAD", "WaitReason", "u8", [N, N, N, 0x26b, 0x283, 0x283, 0x283, 0x2a3]),
    ("_KTHREAD", "Teb", "ptr _TEB", [0x20, 0x88, 0xa8, 0xb8, 0xf0, 0xf0, 0xf0, 0xe8]),
    ("_KTHREAD", "NextProcessor", "u8", [0x12b, 0x58, 0x148, 0x7c, 0x218, 0x218, 0x218, 0x238]),
    ("_KTHREAD", "Process", "ptr _KPROCESS", [N, 0x150, 0x150, 0x210, 0x220, 0x220, 0x220, 0x240]),
    ("_KTHREAD", "PreviousMode", "u8", [0x140, 0x13a, 0x15a, 0x1f6, 0x232, 0x232, 0x232, 0x252]),
    ("_KTHREAD", "ThreadListEntry", "_LIST_ENTRY", [0x1b0, 0x1e0, 0x1d4, 0x2f8, 0x2f8, 0x2f8, 0x2f8, 0x318]),
    ("_ETHREAD", "", "", [0x258, 0x2b8, 0x4e0, 0x4a8, 0x778, 0x898, 0x8f0, 0x910]),
    ("_ETHREAD", "Tcb", "_KTHREAD", [0, 0, 0, 0, 0, 0, 0, 0]),
    ("_ETHREAD", "CreateTime", "u64", [0x1c0, 0x200, 0x280, 0x368, 0x5d0, 0x430, 0x480, 0x4a0]),
    ("_ETHREAD", "StartAddress", "ptr", [0x224, 0x218, 0x298, 0x390, 0x5f8, 0x450, 0x4a0, 0x4c0]),
    ("_ETHREAD", "Cid", "_CLIENT_ID", [0x1ec, 0x22c, 0x2ac, 0x3b8, 0x620, 0x478, 0x4c8, 0x4e8]),
    ("_ETHREAD", "IrpList", "_LIST_ENTRY", [N, N, N, 0x3f0, 0x658, 0x4b0, 0x500, 0x520]),
    ("_ETHREAD", "ThreadListEntry", "_LIST_ENTRY", [0x22c, 0x268, 0x2e4, 0x428, 0x688, 0x4e8, 0x538, 0x558]),
    ("_KSPECIAL_REGISTERS", "", "", [0x54, 0x54, 0x54, 0xd8, 0xe0, 0xf0, 0xf0, 0xa0]),
    ("_KSPECIAL_REGISTERS", "Cr0", "uptr", [0, 0, 0, 0, 0, 0, 0, N]),
    ("_KSPECIAL_REGISTERS", "Cr2", "uptr", [4, 4, 4, 8, 8, 8, 8, N]),
    ("_KSPECIAL_REGISTERS", "Cr3", "uptr", [8, 8, 8, 0x10, 0x10, 0x10, 0x10, N]),
    ("_KSPECIAL_REGISTERS", "Cr4", "uptr", [0xc, 0xc, 0xc, 0x18, 0x18, 0x18, 0x18, N]),
    ("_KSPECIAL_REGISTERS", "Cr8", "u64", [N, N, N, 0xa0, 0xa0, 0xa0, 0xa0, N]),
    ("_KPROCESSOR_STATE", "", "", [0x320, 0x320, 0x320, 0x5b0, 0x5b0, 0x5c0, 0x5c0, 0x6b0]),
    ("_KPROCESSOR_STATE", "SpecialRegisters", "_KSPECIAL_REGISTERS", [0x2cc, 0x2cc, 0x2cc, 0, 0, 0, 0, 0]),
    ("_KPROCESSOR_STATE", "ContextFrame", "_CONTEXT", [0, 0, 0, 0xe0, 0xe0, 0xf0, 0xf0, 0x320]),
    ("_KPRCB", "", "", [0xc50, 0x3628, 0x5f00, 0x6f00, 0x7ec0, 0xaf00, 0xbf00, 0x9680]),
    ("_KPRCB", "CurrentThread", "ptr _KTHREAD", [4, 4, 4, 8, 8, 8, 8, 8]),
    ("_KPRCB", "NextThread", "ptr _KTHREAD", [8, 8, 8, 0x10, 0x10, 0x10, 0x10, 0x10]),
    ("_KPRCB", "IdleThread", "ptr _KTHREAD", [0xc, 0xc, 0xc, 0x18, 0x18, 0x18, 0x18, 0x18]),
    ("_KPRCB", "Number", "u32", [0x10, 0x3cc, 0x3cc, 0x24, 0x24, 0x24, 0x24, 0x24]),
    ("_KPRCB", "ProcessorState", "_KPROCESSOR_STATE", [0x1c, 0x18, 0x18, 0x40, 0x40, 0x100, 0x100, 0x40]),
    ("_KPRCB", "CpuType", "u8", [0x18, 0x14, 0x14, 0x5f0, 0x5f0, 0x40, 0x40, N]),
    ("_KPRCB", "MHz", "u32", [0x910, 0x3c0, 0x3c0, 0x5f4, 0x5f4, 0x44, 0x44, 0x6f4]),
    ("_KPRCB", "DpcStack", "ptr", [N, N, N, 0x21c0, 0x2dd0, 0x3110, 0x33a0, 0xaf8]),
    ("_KPRCB", "DpcRoutineActive", "u8", [0x874, 0x1932, 0x223a, 0x21da, 0x2dea, 0x312a, 0x33ba, 0xb1a]),
    ("_KPRCB", "VendorString", "[13]u8", [0x900, 0x336c, 0x3d3c, 0x53b8, 0x6158, 0x8590, 0x8990, N]),
    ("_KPRCB", "Context", "ptr _CONTEXT", [N, 0x3618, 0x4168, 0x53e0, 0x6180, 0x85c0, 0x89c0, 0x8a0]),
    ("_KPCR", "", "", [0xd70, 0x3748, 0x6020, 0x7080, 0x8040, 0xb080, 0xc080, 0xa000]),
    ("_KPCR", "SelfPcr", "ptr _KPCR", [0x1c, 0x1c, 0x1c, N, N, N, N, N]),
    ("_KPCR", "Self", "ptr _KPCR", [N, N, N, 0x18, 0x18, 0x18, 0x18, 0x18]),
    ("_KPCR", "Prcb", "ptr _KPRCB", [0x20, 0x20, 0x20, N, N, N, N, N]),
    ("_KPCR", "CurrentPrcb", "ptr _KPRCB", [N, N, N, 0x20, 0x20, 0x20, 0x20, N]),
    ("_KPCR", "KdVersionBlock", "ptr", [0x34, 0x34, 0x34, N, N, N, N, N]),
    ("_KPCR", "Irql", "u8", [0x24, 0x24, 0x24, 0x50, 0x50, 0x50, 0x50, N]),
    ("_KPCR", "PrcbData", "_KPRCB", [0x120, 0x120, 0x120, N, N, N, N, N]),
    ("_KPCR", "Prcb", "_KPRCB", [N, N, N, 0x180, 0x180, 0x180, 0x180, 0x980]),
    ("_KLDR_DATA_TABLE_ENTRY", "", "", [0x50, 0x50, 0x5c, 0xa0, 0xa0, 0xa0, 0xa0, 0xa0]),
    ("_KLDR_DATA_TABLE_ENTRY", "InLoadOrderLinks", "_LIST_ENTRY", [0, 0, 0, 0, 0, 0, 0, 0]),
    ("_KLDR_DATA_TABLE_ENTRY", "ExceptionTable", "ptr", [8, 8, 8, 0x10, 0x10, 0x10, 0x10, 0x10]),
    ("_KLDR_DATA_TABLE_ENTRY", "ExceptionTableSize", "u32", [0xc, 0xc, 0xc, 0x18, 0x18, 0x18, 0x18, 0x18]),
    ("_KLDR_DATA_TABLE_ENTRY", "DllBase", "ptr", [0x18, 0x18, 0x18, 0x30, 0x30, 0x30, 0x30, 0x30]),
    ("_KLDR_DATA_TABLE_ENTRY", "EntryPoint", "ptr", [0x1c, 0x1c, 0x1c, 0x38, 0x38, 0x38, 0x38, 0x38]),
    ("_KLDR_DATA_TABLE_ENTRY", "SizeOfImage", "u32", [0x20, 0x20, 0x20, 0x40, 0x40, 0x40, 0x40, 0x40]),
    ("_KLDR_DATA_TABLE_ENTRY", "FullDllName", "_UNICODE_STRING", [0x24, 0x24, 0x24, 0x48, 0x48, 0x48, 0x48, 0x48]),
    ("_KLDR_DATA_TABLE_ENTRY", "BaseDllName", "_UNICODE_STRING", [0x2c, 0x2c, 0x2c, 0x58, 0x58, 0x58, 0x58, 0x58]),
    ("_KLDR_DATA_TABLE_ENTRY", "Flags", "u32", [0x34, 0x34, 0x34, 0x68, 0x68, 0x68, 0x68, 0x68]),
    ("_KLDR_DATA_TABLE_ENTRY", "LoadCount", "u16", [0x38, 0x38, 0x38, 0x6c, 0x6c, 0x6c, 0x6c, 0x6c]),
    ("_KLDR_DATA_TABLE_ENTRY", "CheckSum", "u32", [0x40, 0x40, 0x40, 0x78, 0x78, 0x78, 0x78, 0x78]),
    ("_KLDR_DATA_TABLE_ENTRY", "TimeDateStamp", "u32", [N, N, N, N, N, 0x9c, 0x9c, 0x9c]),
    ("_UNLOADED_DRIVERS", "", "", [0x18, 0x18, 0x18, 0x28, 0x28, 0x28, 0x28, 0x28]),
    ("_UNLOADED_DRIVERS", "Name", "_UNICODE_STRING", [0, 0, 0, 0, 0, 0, 0, 0]),
    ("_UNLOADED_DRIVERS", "StartAddress", "ptr", [8, 8, 8, 0x10, 0x10, 0x10, 0x10, 0x10]),
    ("_UNLOADED_DRIVERS", "EndAddress", "ptr", [0xc, 0xc, 0xc, 0x18, 0x18, 0x18, 0x18, 0x18]),
    ("_UNLOADED_DRIVERS", "CurrentTime", "u64", [0x10, 0x10, 0x10, 0x20, 0x20, 0x20, 0x20, 0x20]),
];

/// A structure of one generation: its name, size and fields `(name, type, offset)`.
pub struct Structure {
    /// Name, as in `_EPROCESS`.
    pub name: &'static str,
    /// Size in bytes.
    pub size: u32,
    /// Fields in ascending order.
    pub fields: Vec<(&'static str, &'static str, u32)>,
}

impl Generation {
    /// The generation of this name; panics if there is none.
    pub fn named(name: &str) -> &'static Generation {
        GENERATIONS.iter().find(|g| g.name == name).unwrap_or_else(|| panic!("no generation {name}"))
    }

    /// The layout table.
    pub fn table(&self) -> &Table {
        self.parsed.get_or_init(|| Table::parse(self.table, self.machine.pointer_size() as u64))
    }

    /// The offset of a field (`_EPROCESS.Peb`) or size of a structure (`_EPROCESS`); `None` if this generation has none.
    pub fn find(&self, path: &str) -> Option<u64> {
        let table = self.table();
        if table.size(path.split('.').next().unwrap_or(path)).is_none() {
            return self.listed(path);
        }
        if path.contains('.') { table.field(path).map(|f| f.offset) } else { table.size(path) }
    }

    /// Whether this generation's symbols tell a field that it has: `_KPRCB.DispatcherReadyListHead`.
    pub fn tells(&self, path: &str) -> bool {
        path.split_once('.').is_some_and(|(structure, field)| self.table().tells(structure, field))
    }

    /// As [`Self::find`], by the short list only.
    pub fn listed(&self, path: &str) -> Option<u64> {
        let (structure, field) = path.split_once('.').unwrap_or((path, ""));
        let values = FIELDS.iter().filter(|r| r.0 == structure && r.1 == field).map(|r| r.3[self.column]);
        values.filter(|&v| v != N).map(u64::from).next()
    }

    /// The offset in `KPCR` of the `KPRCB` itself, and of the pointer to it.
    pub fn prcb(&self) -> (u64, Option<u64>) {
        match self.machine {
            Machine::X86 => (self.at("_KPCR.PrcbData"), self.find("_KPCR.Prcb")),
            _ => (self.at("_KPCR.Prcb"), self.find("_KPCR.CurrentPrcb")),
        }
    }

    /// Every path of the short list.
    pub fn listed_paths() -> impl Iterator<Item = String> {
        FIELDS.iter().map(|r| if r.1.is_empty() { r.0.to_owned() } else { format!("{}.{}", r.0, r.1) })
    }

    /// How many bytes a field of an integer or pointer type takes, and which of its bits.
    pub fn place(&self, path: &str) -> (usize, Option<(u32, u32)>) {
        if let Some(field) = self.table().field(path) {
            return (self.table().width(field.kind) as usize, field.bits);
        }
        let (structure, field) = path.split_once('.').expect("STRUCTURE.FIELD");
        let kind = FIELDS.iter().find(|r| r.0 == structure && r.1 == field).expect("the field has a row").2;
        let width = match kind {
            "u8" => 1,
            "u16" => 2,
            "u32" => 4,
            "u64" => 8,
            _ => self.machine.pointer_size(),
        };
        (width, None)
    }

    /// As [`Self::find`], for what every generation has.
    pub fn at(&self, path: &str) -> u64 {
        self.find(path).unwrap_or_else(|| panic!("{} has no {path}", self.name))
    }

    /// The structures of this generation, in table order.
    pub fn structures(&self) -> Vec<Structure> {
        let mut all: Vec<Structure> = Vec::new();
        for &(name, field, kind, _) in FIELDS.iter().filter(|r| r.3[self.column] != N) {
            let path = if field.is_empty() { name.to_owned() } else { format!("{name}.{field}") };
            match (field, self.find(&path)) {
                (_, None) => {}
                ("", Some(size)) => all.push(Structure { name, size: size as u32, fields: Vec::new() }),
                (_, Some(offset)) => {
                    let last = all.last_mut().expect("a size row comes first");
                    last.fields.push((field, kind, offset as u32));
                }
            }
        }
        for structure in &mut all {
            structure.fields.sort_by_key(|f| f.2);
        }
        all
    }

    /// The first address of the system's half.
    pub fn system_start(&self) -> Va {
        Va(if self.machine == Machine::X86 { 0x8000_0000 } else { 0xffff_8000_0000_0000 })
    }

    /// Where `KUSER_SHARED_DATA` is mapped for the kernel.
    pub fn shared_user_data(&self) -> Va {
        Va(if self.machine == Machine::X86 { 0xffdf_0000 } else { 0xffff_f780_0000_0000 })
    }
}
