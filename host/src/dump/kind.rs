//! What a dump can be: the kind of contents and the kind of machine.
//!
//! Numbers of the kinds are those of `DumpType` in the header; machines are the `IMAGE_FILE_MACHINE_*` numbers
//! of the PE specification.

use kd_sdk::address::Va;
use std::fmt;

/// What a dump file holds (`DumpType` in the header).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum DumpKind {
    /// All physical memory, described by runs (1).
    Full,
    /// Kernel memory, described by a page bitmap (2).
    Kernel,
    /// The header alone (3).
    HeaderOnly,
    /// A small dump: registers, one stack, lists of drivers, blocks of virtual memory (4).
    Triage,
    /// All memory in use, described by a page bitmap (5): complete and active dumps since Windows 8.
    BitmapFull,
    /// Kernel memory, described by a page bitmap (6): kernel and live dumps since Windows 8.
    BitmapKernel,
    /// As [`DumpKind::BitmapKernel`], with the automatic sizing of the page file (7).
    Automatic,
    /// Kernel memory by page ranges (8).
    KernelRange,
    /// Kernel and user memory in use by page ranges (9).
    KernelUserRange,
    /// All memory by page ranges (0xa).
    CompleteRange,
}

impl DumpKind {
    /// The kind with this number in the header.
    pub fn from_number(number: u32) -> Option<DumpKind> {
        Some(match number {
            1 => DumpKind::Full,
            2 => DumpKind::Kernel,
            3 => DumpKind::HeaderOnly,
            4 => DumpKind::Triage,
            5 => DumpKind::BitmapFull,
            6 => DumpKind::BitmapKernel,
            7 => DumpKind::Automatic,
            8 => DumpKind::KernelRange,
            9 => DumpKind::KernelUserRange,
            0xa => DumpKind::CompleteRange,
            _ => return None,
        })
    }

    /// The number in the header.
    pub fn number(self) -> u32 {
        match self {
            DumpKind::Full => 1,
            DumpKind::Kernel => 2,
            DumpKind::HeaderOnly => 3,
            DumpKind::Triage => 4,
            DumpKind::BitmapFull => 5,
            DumpKind::BitmapKernel => 6,
            DumpKind::Automatic => 7,
            DumpKind::KernelRange => 8,
            DumpKind::KernelUserRange => 9,
            DumpKind::CompleteRange => 0xa,
        }
    }

    /// A short plain name: `full`, `small`, …
    pub fn name(self) -> &'static str {
        match self {
            DumpKind::Full => "full",
            DumpKind::Kernel => "kernel",
            DumpKind::HeaderOnly => "header only",
            DumpKind::Triage => "small",
            DumpKind::BitmapFull => "bitmap full",
            DumpKind::BitmapKernel => "bitmap kernel",
            DumpKind::Automatic => "automatic",
            DumpKind::KernelRange => "kernel ranges",
            DumpKind::KernelUserRange => "kernel and user ranges",
            DumpKind::CompleteRange => "complete ranges",
        }
    }

    /// True for kinds that hold physical pages (all but small and header only).
    pub fn has_physical_memory(self) -> bool {
        !matches!(self, DumpKind::Triage | DumpKind::HeaderOnly)
    }

    /// True for kinds that are meant to hold user memory as well.
    pub fn has_user_memory(self) -> bool {
        matches!(
            self,
            DumpKind::Full | DumpKind::BitmapFull | DumpKind::KernelUserRange | DumpKind::CompleteRange
        )
    }
}

impl fmt::Display for DumpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The machine a dump comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Machine {
    /// 32-bit x86 (0x14c).
    X86,
    /// x64, also called AMD64 (0x8664).
    X64,
    /// 64-bit ARM (0xaa64).
    Arm64,
}

impl Machine {
    /// The machine with this `IMAGE_FILE_MACHINE_*` number.
    pub fn from_number(number: u32) -> Option<Machine> {
        match number {
            0x14c => Some(Machine::X86),
            0x8664 => Some(Machine::X64),
            0xaa64 => Some(Machine::Arm64),
            _ => None,
        }
    }

    /// True for an address that belongs to programs.
    pub fn is_user(self, va: Va) -> bool {
        match self {
            Machine::X86 => va.0 < 0x8000_0000,
            _ => va.0 >> 47 == 0,
        }
    }

    /// The `IMAGE_FILE_MACHINE_*` number.
    pub fn number(self) -> u32 {
        match self {
            Machine::X86 => 0x14c,
            Machine::X64 => 0x8664,
            Machine::Arm64 => 0xaa64,
        }
    }

    /// Bytes in a pointer: 4 or 8.
    pub fn pointer_size(self) -> u32 {
        if self == Machine::X86 { 4 } else { 8 }
    }

    /// `x86`, `x64` or `arm64`.
    pub fn name(self) -> &'static str {
        match self {
            Machine::X86 => "x86",
            Machine::X64 => "x64",
            Machine::Arm64 => "arm64",
        }
    }

    /// The name of any machine Windows has run on, for messages.
    pub fn name_of_number(number: u32) -> Option<&'static str> {
        Some(match number {
            0x14c => "x86",
            0x8664 => "x64",
            0xaa64 => "arm64",
            0x200 => "IA64 (Itanium)",
            0x1c0 => "ARM",
            0x1c2 => "ARM Thumb",
            0x1c4 => "ARM32 (Thumb-2)",
            0x184 => "Alpha",
            0x284 => "Alpha64",
            0x162 | 0x166 | 0x168 | 0x169 => "MIPS",
            0x1f0 | 0x1f1 => "PowerPC",
            0xebc => "EFI byte code",
            0x5032 | 0x5064 => "RISC-V",
            0x6232 | 0x6264 => "LoongArch",
            _ => return None,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
