//! Trap frames: the registers the kernel saved when it was entered by an interrupt, a fault or a system call.
//!
//! The offsets here are those of public symbols: x64 the same since Windows XP x64, x86 since NT 4, arm64 since
//! Windows 10. A caller who has the kernel's types gives the offsets itself. What calls do not preserve is in them too,
//! except for system calls, which save next to nothing of it.

use super::{CodeView, pointer_at};
use crate::dump::Machine;
use crate::target::Registers;
use crate::target::bytes::number_at;
use kd_sdk::address::Va;

/// Where `Rip` is in a `KTRAP_FRAME` of x64: the start of the processor's own frame.
pub const X64_RIP: u64 = 0x168;

/// A register, the field that holds it, the field's offset and its size.
type Place = (&'static str, &'static str, u64, u64);

#[rustfmt::skip]
const X64: &[Place] = &[
    ("rax", "Rax", 0x30, 8), ("rcx", "Rcx", 0x38, 8), ("rdx", "Rdx", 0x40, 8), ("r8", "R8", 0x48, 8),
    ("r9", "R9", 0x50, 8), ("r10", "R10", 0x58, 8), ("r11", "R11", 0x60, 8), ("rbp", "Rbp", 0x158, 8),
    ("rip", "Rip", 0x168, 8), ("cs", "SegCs", 0x170, 2), ("efl", "EFlags", 0x178, 4), ("rsp", "Rsp", 0x180, 8),
    ("ss", "SegSs", 0x188, 2), ("rbx", "Rbx", 0x140, 8), ("rdi", "Rdi", 0x148, 8), ("rsi", "Rsi", 0x150, 8),
];
/// The registers of [`X64`] that calls do not preserve.
const X64_VOLATILE: usize = 7;

#[rustfmt::skip]
const X86: &[Place] = &[
    ("gs", "SegGs", 0x30, 2), ("es", "SegEs", 0x34, 2), ("ds", "SegDs", 0x38, 2), ("edx", "Edx", 0x3c, 4),
    ("ecx", "Ecx", 0x40, 4), ("eax", "Eax", 0x44, 4), ("fs", "SegFs", 0x50, 2), ("edi", "Edi", 0x54, 4),
    ("esi", "Esi", 0x58, 4), ("ebx", "Ebx", 0x5c, 4), ("ebp", "Ebp", 0x60, 4), ("eip", "Eip", 0x68, 4),
    ("cs", "SegCs", 0x6c, 2), ("efl", "EFlags", 0x70, 4),
];
/// Where the stack was, when it was another one.
const X86_ESP: u64 = 0x74;
const X86_SS: u64 = 0x78;
/// Bit of `EFlags`: virtual 8086 mode.
const VM: u64 = 1 << 17;

#[rustfmt::skip]
const ARM64: &[Place] = &[
    ("cpsr", "Spsr", 0x90, 4), ("sp", "Sp", 0x98, 8), ("lr", "Lr", 0x138, 8), ("fp", "Fp", 0x140, 8),
    ("pc", "Pc", 0x148, 8), ("x0", "X0", 0xa0, 8), ("x1", "X1", 0xa8, 8), ("x2", "X2", 0xb0, 8),
    ("x3", "X3", 0xb8, 8), ("x4", "X4", 0xc0, 8), ("x5", "X5", 0xc8, 8), ("x6", "X6", 0xd0, 8),
    ("x7", "X7", 0xd8, 8), ("x8", "X8", 0xe0, 8), ("x9", "X9", 0xe8, 8), ("x10", "X10", 0xf0, 8),
    ("x11", "X11", 0xf8, 8), ("x12", "X12", 0x100, 8), ("x13", "X13", 0x108, 8), ("x14", "X14", 0x110, 8),
    ("x15", "X15", 0x118, 8), ("x16", "X16", 0x120, 8), ("x17", "X17", 0x128, 8), ("x18", "X18", 0x130, 8),
];

/// Gives the offset of a field of `_KTRAP_FRAME`, where the kernel's types are at hand.
pub type Offsets<'a> = &'a dyn Fn(&str) -> Option<u64>;

/// Puts the registers of the trap frame at `at` over `base`, whose others stay. `None` where a part that every frame
/// has cannot be read.
pub fn registers(
    machine: Machine,
    read: &dyn Fn(Va, &mut [u8]) -> bool,
    at: Va,
    base: &Registers,
    offsets: Offsets<'_>,
) -> Option<Registers> {
    let places = match machine {
        Machine::X64 => X64,
        Machine::X86 => X86,
        Machine::Arm64 => ARM64,
    };
    let number = |field: &str, built_in: u64, size: u64| {
        let mut bytes = [0; 8];
        let from = at.add(offsets(field).unwrap_or(built_in));
        let place = bytes.get_mut(..size as usize)?;
        read(from, place).then(|| number_at(&bytes, 0, size as usize))?
    };
    let mut new = base.clone();
    for &(register, field, offset, size) in places {
        new.set(register, number(field, offset, size)?);
    }
    if machine == Machine::X86 {
        // A trap out of the kernel itself pushes no stack pointer: the stack goes on behind the frame.
        let outer = new.get("cs")? & 3 != 0 || new.get("efl")? & VM != 0;
        if outer {
            new.set("esp", number("HardwareEsp", X86_ESP, 4)?);
            new.set("ss", number("HardwareSegSs", X86_SS, 2)?);
        } else {
            let end = at.add(offsets("HardwareEsp").unwrap_or(X86_ESP));
            new.set("esp", end.0);
        }
    }
    Some(new)
}

/// True where memory looks like a trap frame of x64: code and stack selectors of Windows, user or kernel.
pub fn is_x64(code: &dyn CodeView, at: Va) -> bool {
    let selector = |offset| pointer_at(code, at.add(offset)).map(|value| value.0 & 0xffff);
    matches!((selector(0x170), selector(0x188)), (Ok(0x10), Ok(0x18 | 0)) | (Ok(0x33 | 0x23), Ok(0x2b)))
}

/// Takes what calls do not preserve from a trap frame, as far as it can be read.
pub fn restore_volatile_x64(code: &dyn CodeView, at: Va, registers: &mut Registers) {
    for &(register, _, offset, _) in X64.iter().take(X64_VOLATILE) {
        if let Ok(value) = pointer_at(code, at.add(offset)) {
            registers.set(register, value.0);
        }
    }
}
