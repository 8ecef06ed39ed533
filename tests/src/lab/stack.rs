//! Stacks of true call frames: what a thread leaves in memory when it runs through built images, call by call.
//!
//! A frame is laid by doing what the function's prologue does: on x64 its unwind codes in reverse, on x86 and ARM64 the
//! prologue's own instructions. The call that goes on to the next function is found in the code. So program counter and
//! stack pointer of every frame are known, and unwinding has an answer.
//!
//! Facts: the x64 exception-handling document, the processors' manuals.

mod arm64;
mod x64;
mod x86;

use super::image::Image;
use super::layout::Machine;
use super::world::{StackFrame, World};
use kd_sdk::address::Va;

/// How a function is left for the next one of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// It calls the next function: directly, or else by the first call through a pointer.
    Calls,
    /// At its first load through a pointer, which faults.
    Faults,
    /// At the first instruction behind its prologue: interrupted, or waiting there.
    Body,
    /// At its first instruction.
    Start,
    /// Behind the instruction that enters the kernel.
    System,
}

/// A function of a chain: image, name, and where the thread is in it.
pub type Call = (&'static str, &'static str, Place);

/// The registers that matter to a stack. x64 and x86 use the processor's numbers, ARM64 has `fp` as 29 and `lr` as 30.
#[derive(Clone, Debug)]
pub struct Cpu {
    /// Program counter.
    pub pc: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Everything else.
    pub registers: [u64; 32],
    /// Kernel stack to switch to when user code is left; zero while in the kernel.
    pub kernel_stack: u64,
    /// The register that holds the address at the last fault.
    pub fault_base: usize,
    /// The trap frame of the last change from user to kernel.
    pub trap_frame: u64,
}

impl Cpu {
    /// A thread that starts at `sp`, with registers that are easy to tell apart.
    pub fn new(sp: u64, seed: u64) -> Cpu {
        let registers = std::array::from_fn(|i| 0xa000 + (seed << 8) + i as u64);
        let mut cpu = Cpu { pc: 0, sp, registers, kernel_stack: 0, fault_base: 0, trap_frame: 0 };
        cpu.registers[29] = 0; // the chain of frame pointers ends
        cpu.registers[5] = 0;
        cpu
    }

    /// The frame pointer.
    pub fn fp(&self, machine: Machine) -> u64 {
        self.registers[if machine == Machine::Arm64 { 29 } else { 5 }]
    }
}

/// Functions that take part of their frame at run time; how much they took.
const DYNAMIC: &[(&str, u64)] = &[("CmpParseKey", 0x60)];

impl World {
    /// Runs a chain, outermost function first, and tells its frames, innermost first.
    pub(super) fn run(&mut self, cpu: &mut Cpu, chain: &[Call]) -> Vec<StackFrame> {
        let machine = self.options.generation.machine;
        let mut frames: Vec<StackFrame> = Vec::new();
        for (index, &(image_name, name, place)) in chain.iter().enumerate() {
            let start = self.image(image_name).address_of(name);
            match machine {
                Machine::X64 | Machine::X86 if place == Place::Start => self.push(cpu, cpu.pc),
                Machine::X64 => self.enter_x64(image_name, start, cpu),
                Machine::X86 => self.enter_x86(image_name, start, name, cpu),
                Machine::Arm64 => self.enter_arm64(image_name, start, name, cpu, place),
            }
            if place != Place::Start
                && let Some((_, size)) = DYNAMIC.iter().find(|d| d.0 == name)
            {
                cpu.sp -= size;
            }
            let next = chain.get(index + 1).map(|n| self.image(n.0).address_of(n.1));
            let code = code_of(self.image(image_name), start);
            let found = match machine {
                Machine::X64 => x64::place(code, start, place, next),
                Machine::X86 => x86::place(code, start, place, next),
                Machine::Arm64 => arm64::place(code, start, place, next),
            };
            let pc = found.unwrap_or_else(|| panic!("{image_name}!{name} does not go on to {next:x?}"));
            cpu.pc = pc;
            if place == Place::Faults {
                cpu.fault_base = match machine {
                    Machine::Arm64 => arm64::base(code, (pc - start) as usize),
                    Machine::X64 => x64::base(code, start, pc, 64),
                    Machine::X86 => x64::base(code, start, pc, 32),
                };
            }
            if machine == Machine::X64 && place != Place::Start {
                self.enter_part_x64(image_name, start, cpu);
            }
            if machine == Machine::X86 && place == Place::Calls {
                cpu.sp -= x86::arguments(code_of(self.image(image_name), start), start, pc);
            }
            let module = image_name.split('.').next().unwrap_or(image_name);
            let symbol = match pc - start {
                0 => format!("{module}!{name}"),
                offset => format!("{module}!{name}+{offset:#x}"),
            };
            frames.push(StackFrame { pc, sp: cpu.sp, symbol });
        }
        frames.reverse();
        frames
    }

    fn push(&mut self, cpu: &mut Cpu, value: u64) {
        cpu.sp -= self.options.generation.machine.pointer_size() as u64;
        self.write_pointer(Va(cpu.sp), value);
    }
}

/// The bytes of the function at `start`, up to the next one.
fn code_of(image: &Image, start: u64) -> &[u8] {
    let rva = (start - image.base) as u32;
    let section = image.sections.iter().rfind(|s| s.rva <= rva).expect("in a section");
    let inside = ["KiSystemServiceUser", "KiSystemServiceCopyEnd", "KiSystemServicePostCall"]; // labels, not functions
    let end = image
        .symbols
        .iter()
        .filter(|s| s.rva > rva && !inside.contains(&s.name.as_str()))
        .map(|s| s.rva)
        .min()
        .unwrap_or(u32::MAX)
        .min(section.rva + section.size);
    &image.bytes[rva as usize..end as usize]
}
