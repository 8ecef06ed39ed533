//! Registers and the context records that hold them.
//!
//! Facts: `CONTEXT` of each machine as documented in the Windows SDK.

use super::bytes::Bytes;
use super::layout::Machine;
use std::collections::BTreeMap;

/// Registers by their debugger names. Those absent are zero.
pub type Registers = BTreeMap<&'static str, u64>;

/// Name, offset in the context record, size.
type Slot = (&'static str, usize, usize);

#[rustfmt::skip]
static X64: &[Slot] = &[
    ("cs", 0x38, 2), ("ds", 0x3a, 2), ("es", 0x3c, 2), ("fs", 0x3e, 2), ("gs", 0x40, 2), ("ss", 0x42, 2), ("efl", 0x44, 4),
    ("rax", 0x78, 8), ("rcx", 0x80, 8), ("rdx", 0x88, 8), ("rbx", 0x90, 8), ("rsp", 0x98, 8), ("rbp", 0xa0, 8), ("rsi", 0xa8, 8), ("rdi", 0xb0, 8),
    ("r8", 0xb8, 8), ("r9", 0xc0, 8), ("r10", 0xc8, 8), ("r11", 0xd0, 8), ("r12", 0xd8, 8), ("r13", 0xe0, 8), ("r14", 0xe8, 8), ("r15", 0xf0, 8),
    ("rip", 0xf8, 8),
];

#[rustfmt::skip]
static X86: &[Slot] = &[
    ("gs", 0x8c, 4), ("fs", 0x90, 4), ("es", 0x94, 4), ("ds", 0x98, 4), ("edi", 0x9c, 4), ("esi", 0xa0, 4), ("ebx", 0xa4, 4), ("edx", 0xa8, 4),
    ("ecx", 0xac, 4), ("eax", 0xb0, 4), ("ebp", 0xb4, 4), ("eip", 0xb8, 4), ("cs", 0xbc, 4), ("efl", 0xc0, 4), ("esp", 0xc4, 4), ("ss", 0xc8, 4),
];

#[rustfmt::skip]
static ARM64: &[Slot] = &[
    ("psr", 0x4, 4),
    ("x0", 0x8, 8), ("x1", 0x10, 8), ("x2", 0x18, 8), ("x3", 0x20, 8), ("x4", 0x28, 8), ("x5", 0x30, 8), ("x6", 0x38, 8), ("x7", 0x40, 8),
    ("x8", 0x48, 8), ("x9", 0x50, 8), ("x10", 0x58, 8), ("x11", 0x60, 8), ("x12", 0x68, 8), ("x13", 0x70, 8), ("x14", 0x78, 8), ("x15", 0x80, 8),
    ("x16", 0x88, 8), ("x17", 0x90, 8), ("x18", 0x98, 8), ("x19", 0xa0, 8), ("x20", 0xa8, 8), ("x21", 0xb0, 8), ("x22", 0xb8, 8), ("x23", 0xc0, 8),
    ("x24", 0xc8, 8), ("x25", 0xd0, 8), ("x26", 0xd8, 8), ("x27", 0xe0, 8), ("x28", 0xe8, 8),
    ("fp", 0xf0, 8), ("lr", 0xf8, 8), ("sp", 0x100, 8), ("pc", 0x108, 8),
];

impl Machine {
    /// Names of the program counter, stack pointer and frame pointer.
    pub fn frame_registers(self) -> [&'static str; 3] {
        match self {
            Machine::X86 => ["eip", "esp", "ebp"],
            Machine::X64 => ["rip", "rsp", "rbp"],
            Machine::Arm64 => ["pc", "sp", "fp"],
        }
    }

    /// What every kernel-mode thread has in its segment and flag registers.
    pub fn kernel_registers(self) -> Registers {
        let pairs: &[_] = match self {
            Machine::X86 => {
                &[("cs", 0x8), ("ss", 0x10), ("ds", 0x23), ("es", 0x23), ("fs", 0x30), ("efl", 0x10246)]
            }
            Machine::X64 => &[
                ("cs", 0x10),
                ("ss", 0x18),
                ("ds", 0x2b),
                ("es", 0x2b),
                ("fs", 0x53),
                ("gs", 0x2b),
                ("efl", 0x50246),
            ],
            Machine::Arm64 => &[("psr", 0x6000_0044)],
        };
        pairs.iter().copied().collect()
    }
}

/// A context record with these registers, of the machine's full size.
pub fn context(machine: Machine, registers: &Registers) -> Vec<u8> {
    let (slots, flags_at, flags, size) = match machine {
        Machine::X86 => (X86, 0, 0x1_003f, 0x2cc),
        Machine::X64 => (X64, 0x30, 0x10_001f, 0x4d0),
        Machine::Arm64 => (ARM64, 0, 0x40_001f, 0x390),
    };
    let mut bytes = vec![0; size];
    bytes.put_u32(flags_at, flags);
    for (name, value) in registers {
        let slot = slots.iter().find(|s| s.0 == *name);
        let &(_, offset, size) = slot.unwrap_or_else(|| panic!("{machine:?} has no register {name}"));
        bytes.put(offset, &value.to_le_bytes()[..size]);
    }
    if machine == Machine::X64 {
        bytes.put_u32(0x34, 0x1f80); // MxCsr
    }
    bytes
}
