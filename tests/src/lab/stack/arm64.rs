//! ARM64: the prologue's instructions, and finding places in code.

use super::{Cpu, Place};
use crate::lab::world::World;
use kd_sdk::address::Va;

/// Functions that begin with a trap frame on the stack.
const TRAPS: &[&str] = &["KiKernelFault", "KiDpcInterrupt", "KiSystemService"];

/// An instruction of a prologue.
enum Step {
    /// `stp` or `str` at the stack pointer plus an offset; the stack pointer moves there first if `moves`.
    Store { registers: [usize; 2], offset: i64, moves: bool },
    /// `sub sp, sp, #n`.
    Take(u64),
    /// `add fp, sp, #n`.
    Frame(u64),
}

/// Not a register that is tracked: a vector register, or none.
const OTHER: usize = 31;

fn step(word: u32) -> Option<Step> {
    let [rt, rn, rt2] = [0, 5, 10].map(|at| (word >> at & 31) as usize);
    let pair = i64::from((word as i32) << 10 >> 25) * 8;
    let store = |registers, offset, moves| (rn == 31).then_some(Step::Store { registers, offset, moves });
    match word & 0xffc0_0000 {
        0xa980_0000 => store([rt, rt2], pair, true),
        0xa900_0000 => store([rt, rt2], pair, false),
        0x6d80_0000 => store([OTHER, OTHER], pair, true),
        0x6d00_0000 => store([OTHER, OTHER], pair, false),
        0xf900_0000 => store([rt, OTHER], i64::from(word >> 10 & 0xfff) * 8, false),
        0xf800_0000 if word & 0x0020_0c00 == 0xc00 => {
            store([rt, OTHER], i64::from((word as i32) << 11 >> 23), true)
        }
        0xd100_0000 if word & 0x3ff == 0x3ff => Some(Step::Take(u64::from(word >> 10 & 0xfff))),
        0x9100_0000 if word & 0x3ff == 0x3fd => Some(Step::Frame(u64::from(word >> 10 & 0xfff))),
        _ => None,
    }
}

fn words(code: &[u8]) -> impl Iterator<Item = u32> {
    code.as_chunks::<4>().0.iter().map(|c| u32::from_le_bytes(*c))
}

impl World {
    /// Calls a function, or enters it by a trap, and does its prologue.
    pub(super) fn enter_arm64(&mut self, image: &str, start: u64, name: &str, cpu: &mut Cpu, place: Place) {
        if TRAPS.contains(&name) {
            self.trap_arm64(cpu);
        }
        cpu.registers[30] = cpu.pc;
        if place == Place::Start {
            return;
        }
        let code = super::code_of(self.image(image), start).to_vec();
        for step in words(&code).map_while(step) {
            match step {
                Step::Take(size) => cpu.sp -= size,
                Step::Frame(offset) => cpu.registers[29] = cpu.sp + offset,
                Step::Store { registers, offset, moves } => {
                    let at = cpu.sp.wrapping_add_signed(offset);
                    if moves {
                        cpu.sp = at;
                    }
                    for (index, register) in registers.into_iter().enumerate().filter(|r| r.1 != OTHER) {
                        self.write_pointer(Va(at + 8 * index as u64), cpu.registers[register]);
                    }
                }
            }
        }
    }

    /// What the vectors of the kernel do before its handlers run: a trap frame on the kernel's stack.
    fn trap_arm64(&mut self, cpu: &mut Cpu) {
        let generation = self.options.generation;
        let from_user = cpu.kernel_stack != 0;
        let top = if from_user { cpu.kernel_stack } else { cpu.sp };
        let at = Va(top - generation.at("_KTRAP_FRAME"));
        let registers = cpu.registers;
        self.set(at, "_KTRAP_FRAME.PreviousMode", u64::from(from_user));
        self.set(at, "_KTRAP_FRAME.Spsr", if from_user { 0 } else { 5 }); // EL0, or EL1 with its own stack pointer
        self.set(at, "_KTRAP_FRAME.Sp", cpu.sp);
        self.set(at, "_KTRAP_FRAME.Lr", registers[30]);
        self.set(at, "_KTRAP_FRAME.Fp", registers[29]);
        self.set(at, "_KTRAP_FRAME.Pc", cpu.pc);
        for (number, value) in registers.into_iter().take(19).enumerate() {
            self.set(at, &format!("_KTRAP_FRAME.X{number}"), value);
        }
        cpu.kernel_stack = 0;
        cpu.trap_frame = at.0;
        cpu.sp = at.0;
    }
}

pub(super) fn place(code: &[u8], start: u64, place: Place, next: Option<u64>) -> Option<u64> {
    let at = |index: usize| start + 4 * index as u64;
    let mut all = words(code).enumerate();
    match place {
        Place::Start => Some(start),
        Place::Body => all.find(|w| step(w.1).is_none()).map(|w| at(w.0)),
        // ldr w, [x, #n] with x not the stack or frame pointer
        Place::Faults => all
            .find(|w| w.1 & 0xffc0_0000 == 0xb940_0000 && !matches!(w.1 >> 5 & 31, 29 | 31 | 8))
            .map(|w| at(w.0)),
        Place::System => all.find(|w| w.1 & 0xffe0_001f == 0xd400_0001).map(|w| at(w.0 + 1)),
        Place::Calls => {
            let all: Vec<_> = all.collect();
            let direct = all.iter().find(|(index, word)| {
                let distance = i64::from((*word as i32) << 6 >> 6) * 4;
                word & 0xfc00_0000 == 0x9400_0000 && Some(at(*index).wrapping_add_signed(distance)) == next
            });
            let indirect = || all.iter().find(|w| w.1 & 0xffff_fc1f == 0xd63f_0000);
            direct.or_else(indirect).map(|w| at(w.0 + 1))
        }
    }
}

/// The number of the register that the load at an offset of the code reads memory through.
pub(super) fn base(code: &[u8], at: usize) -> usize {
    words(code).nth(at / 4).map_or(0, |word| (word >> 5 & 31) as usize)
}
