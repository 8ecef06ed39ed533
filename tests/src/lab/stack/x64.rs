//! x64: unwind codes in reverse, and finding places in code.

use super::{Cpu, Place};
use crate::lab::image::Image;
use crate::lab::world::World;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use kd_sdk::address::Va;

const CHAINED: u8 = 4;

/// One unwind operation: kind, register or size bits, the number that follows.
type Operation = (u8, u8, u64);

/// The unwind data of the function table's entry for `rva`: first address, flags, prologue size, operations in the order
/// in which the prologue does them, offset of the frame pointer and its register.
struct Unwind {
    begin: u32,
    flags: u8,
    operations: Vec<Operation>,
    frame: (u8, u64),
}

fn unwind(image: &Image, rva: u32) -> Option<Unwind> {
    let word = |at: u32| -> u32 {
        let b = &image.bytes[at as usize..];
        u32::from_le_bytes([b[0], b[1], b[2], b[3]])
    };
    let (table, size) = image.exception_table;
    let entry = (table..table + size).step_by(12).find(|&e| (word(e)..word(e + 4)).contains(&rva))?;
    let info = &image.bytes[word(entry + 8) as usize..];
    let count = usize::from(info[2]);
    let half = |slot: usize| u64::from(u16::from_le_bytes([info[4 + 2 * slot], info[5 + 2 * slot]]));
    let mut operations = Vec::new();
    let mut slot = 0;
    while slot < count {
        let code = info[5 + 2 * slot];
        let (kind, bits) = (code & 0xf, code >> 4);
        let (slots, value) = match (kind, bits) {
            (0 | 3 | 10, _) => (1, 0),
            (1, 0) => (2, half(slot + 1) * 8),
            (1, _) => (3, half(slot + 1) | half(slot + 2) << 16),
            (2, _) => (1, u64::from(bits) * 8 + 8),
            (4, _) => (2, half(slot + 1) * 8),
            (8, _) => (2, half(slot + 1) * 16),
            (5 | 9, _) => (3, half(slot + 1) | half(slot + 2) << 16),
            _ => panic!("unwind code {kind}"),
        };
        operations.push((kind, bits, value));
        slot += slots;
    }
    operations.reverse();
    let frame = (info[3] & 0xf, u64::from(info[3] >> 4) * 16);
    Some(Unwind { begin: word(entry), flags: info[0] >> 3, operations, frame })
}

impl World {
    /// Calls a function, or enters it by a trap if it begins with a machine frame, and does its prologue.
    pub(super) fn enter_x64(&mut self, image: &str, start: u64, cpu: &mut Cpu) {
        let image = self.image(image);
        let rva = (start - image.base) as u32;
        let Some(unwind) = unwind(image, rva) else {
            return self.push(cpu, cpu.pc); // a leaf
        };
        assert_eq!(unwind.begin, rva, "a function's entry");
        let trap = unwind.operations.first().is_some_and(|o| o.0 == 10);
        let from_user = cpu.kernel_stack != 0;
        let interrupted = cpu.clone();
        if trap {
            let old = cpu.sp;
            cpu.sp = if from_user { cpu.kernel_stack } else { cpu.sp & !15 };
            cpu.kernel_stack = 0;
            let (cs, ss) = if from_user { (0x33, 0x2b) } else { (0x10, 0x18) };
            for value in [ss, old, 0x246, cs, cpu.pc] {
                self.push(cpu, value);
            }
        } else {
            self.push(cpu, cpu.pc);
        }
        self.prologue_x64(&unwind, cpu);
        if trap {
            let at = cpu.sp;
            self.write(Va(at + 0x28), &[u8::from(from_user), if from_user { 0 } else { 2 }]);
            for (offset, register) in
                [(0x30, 0), (0x38, 1), (0x40, 2), (0x48, 8), (0x50, 9), (0x58, 10), (0x60, 11)]
            {
                self.write_pointer(Va(at + offset), interrupted.registers[register]);
            }
            cpu.trap_frame = at;
        }
    }

    /// Does the second prologue of a function whose unwind data is in parts.
    pub(super) fn enter_part_x64(&mut self, image: &str, start: u64, cpu: &mut Cpu) {
        let image = self.image(image);
        let Some(part) = unwind(image, (cpu.pc - image.base) as u32) else { return };
        if part.flags & CHAINED != 0 && u64::from(part.begin) + image.base != start {
            self.prologue_x64(&part, cpu);
        }
    }

    fn prologue_x64(&mut self, unwind: &Unwind, cpu: &mut Cpu) {
        for &(kind, bits, value) in &unwind.operations {
            let register = usize::from(bits);
            match kind {
                0 => self.push(cpu, cpu.registers[register]),
                1 | 2 => cpu.sp -= value,
                3 => cpu.registers[usize::from(unwind.frame.0)] = cpu.sp + unwind.frame.1,
                4 | 5 => self.write_pointer(Va(cpu.sp + value), cpu.registers[register]),
                8 | 9 => {
                    let contents = [0xf0 + bits; 16];
                    self.write(Va(cpu.sp + value), &contents);
                }
                10 if bits == 1 => self.push(cpu, 2), // error code: a write
                _ => {}
            }
        }
    }
}

/// The instructions of a function, up to padding.
pub(super) fn instructions(code: &[u8], start: u64, bits: u32) -> Vec<Instruction> {
    let decoder = Decoder::with_ip(bits, code, start, DecoderOptions::NONE);
    decoder.into_iter().take_while(|i| !i.is_invalid() && i.mnemonic() != Mnemonic::Int3).collect()
}

pub(super) fn place(code: &[u8], start: u64, place: Place, next: Option<u64>) -> Option<u64> {
    let all = instructions(code, start, 64);
    let prologue = |i: &&Instruction| match i.mnemonic() {
        Mnemonic::Push => true,
        Mnemonic::Sub | Mnemonic::Lea => {
            i.op0_register() == Register::RSP || i.op0_register() == Register::RBP
        }
        Mnemonic::Mov | Mnemonic::Movaps => {
            i.op0_kind() == OpKind::Memory && i.memory_base() == Register::RSP
                || i.op0_register() == Register::RBP
        }
        _ => false,
    };
    generic_place(&all, start, place, next, prologue)
}

/// What 32 and 64-bit code share.
pub(super) fn generic_place(
    all: &[Instruction],
    start: u64,
    place: Place,
    next: Option<u64>,
    prologue: impl Fn(&&Instruction) -> bool,
) -> Option<u64> {
    match place {
        Place::Start => Some(start),
        Place::Body => all.iter().find(|i| !prologue(i)).map(Instruction::ip),
        Place::Faults => all
            .iter()
            .find(|i| {
                let stack = [Register::RSP, Register::ESP, Register::EBP, Register::RBP, Register::RIP];
                i.op1_kind() == OpKind::Memory
                    && i.mnemonic() != Mnemonic::Lea
                    && i.memory_base() != Register::None
                    && !stack.contains(&i.memory_base())
            })
            .map(Instruction::ip),
        Place::System => all
            .iter()
            .find(|i| matches!(i.mnemonic(), Mnemonic::Syscall | Mnemonic::Sysenter))
            .map(Instruction::next_ip),
        Place::Calls => {
            let direct = all
                .iter()
                .find(|i| i.flow_control() == FlowControl::Call && Some(i.near_branch_target()) == next);
            let indirect = || all.iter().find(|i| i.flow_control() == FlowControl::IndirectCall);
            direct.or_else(indirect).map(Instruction::next_ip)
        }
    }
}

/// The number of the register that the instruction at `pc` reads memory through.
pub(super) fn base(code: &[u8], start: u64, pc: u64, bits: u32) -> usize {
    let all = instructions(code, start, bits);
    all.iter().find(|i| i.ip() == pc).map_or(0, |i| i.memory_base().number())
}
