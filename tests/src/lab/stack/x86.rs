//! x86: the prologue's instructions, and what is pushed before a call.

use super::x64::{generic_place, instructions};
use super::{Cpu, Place};
use crate::lab::world::World;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use kd_sdk::address::Va;

/// Functions that are entered by a trap; whether the processor pushes an error code.
const TRAPS: &[(&str, bool)] = &[("KiTrap0E", true), ("KiDpcInterrupt", false), ("KiFastCallEntry", false)];

fn number(register: Register) -> usize {
    match register {
        Register::EBP => 5,
        Register::EBX => 3,
        Register::ESI => 6,
        Register::EDI => 7,
        Register::ESP => 4,
        _ => 0,
    }
}

/// What the prologue of a compiled or of our own function is made of.
fn is_prologue(i: &&Instruction) -> bool {
    match i.mnemonic() {
        Mnemonic::Push => true,
        Mnemonic::Sub => i.op0_register() == Register::ESP,
        Mnemonic::Mov => i.op0_register() == Register::EBP && i.op1_register() == Register::ESP,
        _ => false,
    }
}

impl World {
    /// Calls a function, or enters it by a trap, and does its prologue.
    pub(super) fn enter_x86(&mut self, image: &str, start: u64, name: &str, cpu: &mut Cpu) {
        let trap = TRAPS.iter().find(|t| t.0 == name);
        let from_user = cpu.kernel_stack != 0;
        let (old_fp, old_pc, old_sp) = (cpu.registers[5], cpu.pc, cpu.sp);
        if let Some(&(_, error_code)) = trap {
            if from_user {
                cpu.sp = cpu.kernel_stack - 0x10; // virtual-8086 segments
                cpu.kernel_stack = 0;
                self.push(cpu, 0x23);
                self.push(cpu, old_sp);
            }
            for value in [0x246, if from_user { 0x1b } else { 8 }, old_pc] {
                self.push(cpu, value);
            }
            if error_code {
                self.push(cpu, 0);
            }
        } else {
            self.push(cpu, cpu.pc);
        }
        let code = super::code_of(self.image(image), start).to_vec();
        let all = instructions(&code, start, 32);
        let mut taken = trap.is_none();
        for i in all.iter().take_while(is_prologue) {
            match i.mnemonic() {
                Mnemonic::Push if i.op0_kind() == OpKind::Register && i.op0_register() != Register::FS => {
                    self.push(cpu, cpu.registers[number(i.op0_register())]);
                }
                Mnemonic::Push if i.op0_kind() == OpKind::Register => self.push(cpu, 0x30),
                Mnemonic::Push if !taken || i.ip() == start => self.push(cpu, i.immediate(0)),
                Mnemonic::Push => break, // an argument
                Mnemonic::Mov => {
                    cpu.registers[5] = cpu.sp;
                    taken = true;
                    if trap.is_some() {
                        break;
                    }
                }
                _ => cpu.sp -= i.immediate(1),
            }
        }
        if trap.is_some() {
            let at = cpu.sp;
            for (offset, value) in [(0, old_fp), (4, old_pc), (8, 0xbadb_0d00)] {
                self.write_pointer(Va(at + offset), value);
            }
            cpu.trap_frame = at;
        }
    }
}

/// Bytes pushed between the prologue and the call that returns to `pc`.
pub(super) fn arguments(code: &[u8], start: u64, pc: u64) -> u64 {
    let all = instructions(code, start, 32);
    let mut behind = all.iter().skip_while(|i| is_prologue(i) && !is_argument(i, start)).peekable();
    let mut pushed = 0;
    while let Some(i) = behind.next_if(|i| i.next_ip() < pc) {
        match i.mnemonic() {
            Mnemonic::Push => pushed += 4,
            // The callee takes its arguments away; so do returns.
            Mnemonic::Call | Mnemonic::Ret => pushed = 0,
            _ => {}
        }
    }
    pushed
}

fn is_argument(i: &Instruction, start: u64) -> bool {
    i.mnemonic() == Mnemonic::Push && i.op0_kind() != OpKind::Register && i.ip() != start
}

pub(super) fn place(code: &[u8], start: u64, place: Place, next: Option<u64>) -> Option<u64> {
    generic_place(&instructions(code, start, 32), start, place, next, is_prologue)
}
