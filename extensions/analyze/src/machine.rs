//! Records that the kernel leaves in memory: CONTEXT, KTRAP_FRAME and EXCEPTION_RECORD of the three machines, cut
//! out of bytes. The offsets are those of the Windows headers and have not changed since the machines exist.

use kd_sdk::address::Va;
use kd_sdk::target::Machine;

/// Bytes of the largest record read here.
pub const RECORD_BYTES: usize = 0x200;

/// Registers of one moment.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Registers {
    /// Instruction pointer.
    pub ip: Va,
    /// Stack pointer.
    pub sp: Va,
    /// Name and value, in KD's order; instruction and stack pointer included.
    pub values: Vec<(&'static str, u64)>,
}

/// An exception.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Exception {
    /// NTSTATUS.
    pub code: u32,
    /// Flags.
    pub flags: u32,
    /// Where.
    pub address: Va,
    /// What it says about itself.
    pub parameters: Vec<u64>,
}

/// A register's name, offset and width in bytes.
type Slot = (&'static str, usize, usize);

/// A record's shape: registers, and which word must hold which bits for the bytes to be such a record.
struct Layout {
    ip: &'static str,
    sp: &'static str,
    slots: &'static [Slot],
}

pub(crate) fn number(bytes: &[u8], offset: usize, width: usize) -> Option<u64> {
    let mut value = [0; 8];
    let source = bytes.get(offset..offset.checked_add(width)?)?;
    value.get_mut(..width)?.copy_from_slice(source);
    Some(u64::from_le_bytes(value))
}

fn registers(layout: &Layout, bytes: &[u8]) -> Option<Registers> {
    let mut found = Registers::default();
    for &(name, offset, width) in layout.slots {
        let value = number(bytes, offset, width)?;
        if name == layout.ip {
            found.ip = Va(value);
        }
        if name == layout.sp {
            found.sp = Va(value);
        }
        found.values.push((name, value));
    }
    Some(found)
}

/// A CONTEXT; `None` where the bytes are not one.
pub fn parse_context(machine: Machine, bytes: &[u8]) -> Option<Registers> {
    let (flags_at, mark, layout) = match machine {
        Machine::X64 => (0x30, 0x10_0000, &X64_CONTEXT),
        Machine::Arm64 => (0, 0x40_0000, &ARM64_CONTEXT),
        Machine::X86 => (0, 0x1_0000, &X86_CONTEXT),
    };
    let flags = number(bytes, flags_at, 4)?;
    (flags & mark != 0 && flags & 1 != 0).then(|| registers(layout, bytes)).flatten()
}

/// A KTRAP_FRAME at `va`; `None` where the bytes do not look like one. There is none for arm64 here.
pub fn parse_trap_frame(machine: Machine, va: Va, bytes: &[u8]) -> Option<Registers> {
    match machine {
        Machine::X64 => {
            let found = registers(&X64_TRAP, bytes)?;
            let (cs, ss) = (number(bytes, 0x170, 2)?, number(bytes, 0x188, 2)?);
            let flags = number(bytes, 0x178, 4)?;
            let kernel = cs == 0x10 && (ss == 0x18 || ss == 0);
            let user = matches!(cs, 0x23 | 0x33) && ss == 0x2b;
            // Bit 1 of the flags is always set; bits 22 and up are always clear.
            ((kernel || user) && flags & 2 != 0 && flags >> 22 == 0).then_some(found)
        }
        Machine::X86 => {
            let mut found = registers(&X86_TRAP, bytes)?;
            let cs = number(bytes, 0x6c, 4)? & 0xffff;
            if cs == 8 {
                // The processor pushes no stack pointer when the level does not change.
                found.sp = va.add(0x74);
                found.values.iter_mut().filter(|value| value.0 == "esp").for_each(|esp| esp.1 = found.sp.0);
            }
            matches!(cs, 8 | 0x1b | 0x23).then_some(found)
        }
        Machine::Arm64 => None,
    }
}

/// An EXCEPTION_RECORD; `None` where the bytes are not one.
pub fn parse_exception(pointer_size: u32, bytes: &[u8]) -> Option<Exception> {
    let (width, address, count, first) =
        if pointer_size == 4 { (4, 0xc, 0x10, 0x14) } else { (8, 0x10, 0x18, 0x20) };
    let used = number(bytes, count, 4)?;
    if used > 15 {
        return None;
    }
    let parameters = (0..used as usize).map_while(|i| number(bytes, first + i * width, width)).collect();
    let found = Exception {
        code: number(bytes, 0, 4)? as u32,
        flags: number(bytes, 4, 4)? as u32,
        address: Va(number(bytes, address, width)?),
        parameters,
    };
    (found.code != 0).then_some(found)
}

static X64_CONTEXT: Layout = Layout {
    ip: "rip",
    sp: "rsp",
    slots: &[
        ("rax", 0x78, 8),
        ("rbx", 0x90, 8),
        ("rcx", 0x80, 8),
        ("rdx", 0x88, 8),
        ("rsi", 0xa8, 8),
        ("rdi", 0xb0, 8),
        ("rip", 0xf8, 8),
        ("rsp", 0x98, 8),
        ("rbp", 0xa0, 8),
        ("r8", 0xb8, 8),
        ("r9", 0xc0, 8),
        ("r10", 0xc8, 8),
        ("r11", 0xd0, 8),
        ("r12", 0xd8, 8),
        ("r13", 0xe0, 8),
        ("r14", 0xe8, 8),
        ("r15", 0xf0, 8),
        ("efl", 0x44, 4),
    ],
};

static X64_TRAP: Layout = Layout {
    ip: "rip",
    sp: "rsp",
    slots: &[
        ("rax", 0x30, 8),
        ("rbx", 0x140, 8),
        ("rcx", 0x38, 8),
        ("rdx", 0x40, 8),
        ("rsi", 0x150, 8),
        ("rdi", 0x148, 8),
        ("rip", 0x168, 8),
        ("rsp", 0x180, 8),
        ("rbp", 0x158, 8),
        ("r8", 0x48, 8),
        ("r9", 0x50, 8),
        ("r10", 0x58, 8),
        ("r11", 0x60, 8),
        ("efl", 0x178, 4),
    ],
};

static X86_CONTEXT: Layout = Layout {
    ip: "eip",
    sp: "esp",
    slots: &[
        ("eax", 0xb0, 4),
        ("ebx", 0xa4, 4),
        ("ecx", 0xac, 4),
        ("edx", 0xa8, 4),
        ("esi", 0xa0, 4),
        ("edi", 0x9c, 4),
        ("eip", 0xb8, 4),
        ("esp", 0xc4, 4),
        ("ebp", 0xb4, 4),
        ("efl", 0xc0, 4),
    ],
};

static X86_TRAP: Layout = Layout {
    ip: "eip",
    sp: "esp",
    slots: &[
        ("eax", 0x44, 4),
        ("ebx", 0x5c, 4),
        ("ecx", 0x40, 4),
        ("edx", 0x3c, 4),
        ("esi", 0x58, 4),
        ("edi", 0x54, 4),
        ("eip", 0x68, 4),
        ("esp", 0x74, 4),
        ("ebp", 0x60, 4),
        ("efl", 0x70, 4),
    ],
};

static ARM64_CONTEXT: Layout = Layout {
    ip: "pc",
    sp: "sp",
    slots: &[
        ("x0", 0x8, 8),
        ("x1", 0x10, 8),
        ("x2", 0x18, 8),
        ("x3", 0x20, 8),
        ("x4", 0x28, 8),
        ("x5", 0x30, 8),
        ("x6", 0x38, 8),
        ("x7", 0x40, 8),
        ("x8", 0x48, 8),
        ("x9", 0x50, 8),
        ("x10", 0x58, 8),
        ("x11", 0x60, 8),
        ("x12", 0x68, 8),
        ("x13", 0x70, 8),
        ("x14", 0x78, 8),
        ("x15", 0x80, 8),
        ("x16", 0x88, 8),
        ("x17", 0x90, 8),
        ("x18", 0x98, 8),
        ("x19", 0xa0, 8),
        ("x20", 0xa8, 8),
        ("x21", 0xb0, 8),
        ("x22", 0xb8, 8),
        ("x23", 0xc0, 8),
        ("x24", 0xc8, 8),
        ("x25", 0xd0, 8),
        ("x26", 0xd8, 8),
        ("x27", 0xe0, 8),
        ("x28", 0xe8, 8),
        ("fp", 0xf0, 8),
        ("lr", 0xf8, 8),
        ("sp", 0x100, 8),
        ("pc", 0x108, 8),
        ("psr", 0x4, 4),
    ],
};

/// The registers `r` shows first, in its order, for sets that are read by name.
pub fn register_names(machine: Machine) -> impl Iterator<Item = &'static str> {
    let layout = match machine {
        Machine::X64 => &X64_CONTEXT,
        Machine::X86 => &X86_CONTEXT,
        Machine::Arm64 => &ARM64_CONTEXT,
    };
    layout.slots.iter().map(|slot| slot.0)
}

/// Whether the instruction before a return address is a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// It is.
    Yes,
    /// It is not: the value is not a return address.
    No,
    /// Its bytes are not in the dump.
    Unknown,
}

/// Judges the `before` bytes that end at a return address.
pub fn follows_call(machine: Machine, before: &[u8]) -> Call {
    if machine == Machine::Arm64 {
        let Some(word) = before.len().checked_sub(4).and_then(|at| number(before, at, 4)) else {
            return Call::Unknown;
        };
        let (bl, blr) = (word >> 26 == 0x25, word & 0xffff_fc1f == 0xd63f_0000);
        // BLRAA, BLRAB and their forms with a zero modifier.
        let authenticated = word & 0xfeff_f800 == 0xd63f_0800;
        return if bl || blr || authenticated { Call::Yes } else { Call::No };
    }
    if before.len() < 7 {
        return Call::Unknown;
    }
    let back = |distance: usize| before.len().checked_sub(distance).and_then(|at| before.get(at)).copied();
    if back(5) == Some(0xe8) {
        return Call::Yes;
    }
    // FF /2 with every addressing form; `length` is opcode, modrm, sib and displacement.
    let indirect = (2..=7).any(|length| {
        if back(length) != Some(0xff) {
            return false;
        }
        let Some(modrm) = back(length - 1) else { return false };
        let (mode, rm) = (modrm >> 6, modrm & 7);
        let sib = usize::from(mode != 3 && rm == 4);
        let displacement = match (mode, rm) {
            (0, 5) | (2, _) => 4,
            (0, 4) if length >= 3 && back(length - 2).is_some_and(|sib| sib & 7 == 5) => 4,
            (1, _) => 1,
            _ => 0,
        };
        (modrm >> 3) & 7 == 2 && length == 2 + sib + displacement
    });
    if indirect { Call::Yes } else { Call::No }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls() {
        let x64 = |bytes: &[u8]| {
            let mut before = vec![0x90; 8];
            before.extend_from_slice(bytes);
            follows_call(Machine::X64, &before[before.len() - 8..])
        };
        assert_eq!(x64(&[0xe8, 1, 2, 3, 4]), Call::Yes);
        assert_eq!(x64(&[0xff, 0xd0]), Call::Yes);
        assert_eq!(x64(&[0x41, 0xff, 0xd2]), Call::Yes);
        assert_eq!(x64(&[0xff, 0x15, 1, 2, 3, 4]), Call::Yes);
        assert_eq!(x64(&[0xff, 0x50, 0x28]), Call::Yes);
        assert_eq!(x64(&[0xff, 0x54, 0x24, 0x28]), Call::Yes);
        assert_eq!(x64(&[0xcc, 0xcc]), Call::No);
        assert_eq!(follows_call(Machine::X64, &[]), Call::Unknown);
        assert_eq!(follows_call(Machine::Arm64, &0x9400_0010u32.to_le_bytes()), Call::Yes);
        assert_eq!(follows_call(Machine::Arm64, &0xd63f_0100u32.to_le_bytes()), Call::Yes);
        assert_eq!(follows_call(Machine::Arm64, &0xd503_201fu32.to_le_bytes()), Call::No);
    }

    #[test]
    fn a_trap_frame_is_known_by_its_selectors() {
        let mut bytes = vec![0; RECORD_BYTES];
        bytes[0x168..0x170].copy_from_slice(&0xffff_f800_1234_0000u64.to_le_bytes());
        bytes[0x170] = 0x10;
        bytes[0x178] = 0x02;
        bytes[0x188] = 0x18;
        let frame = parse_trap_frame(Machine::X64, Va(0), &bytes).unwrap();
        assert_eq!(frame.ip, Va(0xffff_f800_1234_0000));
        bytes[0x170] = 0x11;
        assert_eq!(parse_trap_frame(Machine::X64, Va(0), &bytes), None);
        assert_eq!(parse_trap_frame(Machine::X64, Va(0), &bytes[..0x100]), None);
    }

    #[test]
    fn records_cut_short_are_no_records() {
        for machine in [Machine::X64, Machine::X86, Machine::Arm64] {
            for len in 0..0x40 {
                assert_eq!(parse_context(machine, &vec![0xff; len]), None);
            }
        }
        assert_eq!(parse_exception(8, &[0xff; 0x98]), None);
        let mut bytes = vec![0; 0x98];
        bytes[..4].copy_from_slice(&0xc000_0005u32.to_le_bytes());
        bytes[0x18] = 2;
        bytes[0x20] = 1;
        assert_eq!(parse_exception(8, &bytes).map(|e| e.parameters), Some(vec![1, 0]));
    }
}
