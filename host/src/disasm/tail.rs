//! What the current registers make of an instruction: the tail of `r`'s last line.
//!
//! KD appends the address and contents of the operand in memory, ` ss:0018:ffff8504`29890ef0=000000000000007e`, with
//! question marks when it is not readable, the target in braces for an indirect call or jump, and ` [br=1]` to a
//! conditional jump that will be taken. arm64 has no tail.

use kd_sdk::address::Va;

use super::{Condition, Flow, Instruction, MemoryForm, Resolve, named};
use crate::dump::Machine;
use crate::target::Registers;

/// The largest operand whose contents are shown.
const LARGEST: usize = 32;

/// An operand in memory, with its address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryOperand {
    /// `ss`, `ds`, `gs` …
    pub segment: &'static str,
    /// The value of the segment register.
    pub selector: u16,
    /// The address inside the segment; in all but `fs` and `gs` the address itself.
    pub offset: Va,
    /// The address.
    pub va: Va,
    /// Bytes of the operand.
    pub size: usize,
    /// The contents, when readable.
    pub bytes: Option<Vec<u8>>,
}

/// The tail of a line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tail {
    /// The operand in memory.
    pub operand: Option<MemoryOperand>,
    /// Whether a conditional jump will be taken.
    pub taken: Option<bool>,
    /// KD's text with the blank before it; empty when there is nothing to say.
    pub text: String,
}

impl Instruction {
    /// The tail for these registers. `read` fills a buffer from memory, or says false.
    pub fn tail(
        &self,
        registers: &Registers,
        read: &dyn Fn(Va, &mut [u8]) -> bool,
        resolve: Resolve<'_>,
    ) -> Tail {
        let taken = match (self.flow, self.condition) {
            (Flow::Branch(_), Some(condition)) => Some(holds(condition, registers)),
            _ => None,
        };
        let operand = self.memory.as_ref().and_then(|form| locate(form, self.machine, registers, read));
        let mut text = String::new();
        if let (Some(operand), Some(form)) = (&operand, &self.memory) {
            let pointer = self.machine.pointer_size();
            text = format!(" {}:{:04x}:{}=", operand.segment, operand.selector, operand.offset.show(pointer));
            match &operand.bytes {
                Some(bytes) if form.is_target => {
                    let mut target = [0; 8];
                    for (to, from) in target.iter_mut().zip(bytes) {
                        *to = *from;
                    }
                    let target = Va(u64::from_le_bytes(target));
                    text.push_str(&format!("{{{}}}", named(self.machine, target, resolve)));
                }
                Some(bytes) => text.extend(bytes.iter().rev().map(|byte| format!("{byte:02x}"))),
                None => text.extend(std::iter::repeat_n('?', operand.size * 2)),
            }
        }
        if let Some(taken) = taken {
            text.push_str(if taken { " [br=1]" } else { " [br=0]" });
        }
        Tail { operand, taken, text }
    }
}

fn holds(condition: Condition, registers: &Registers) -> bool {
    let flag = |name| registers.get(name) == Some(1);
    match condition {
        Condition::O => flag("of"),
        Condition::B => flag("cf"),
        Condition::E => flag("zf"),
        Condition::Be => flag("cf") || flag("zf"),
        Condition::S => flag("sf"),
        Condition::P => flag("pf"),
        Condition::L => flag("sf") != flag("of"),
        Condition::Le => flag("zf") || flag("sf") != flag("of"),
        Condition::Not(other) => !holds(*other, registers),
    }
}

fn locate(
    form: &MemoryForm,
    machine: Machine,
    registers: &Registers,
    read: &dyn Fn(Va, &mut [u8]) -> bool,
) -> Option<MemoryOperand> {
    if form.size == 0 || form.size > LARGEST {
        return None;
    }
    let value = |name: &Option<String>| match name {
        Some(name) => registers.get(name),
        None => Some(0),
    };
    let narrow = |va: u64| if machine == Machine::X86 { va & 0xffff_ffff } else { va };
    let scaled = value(&form.index)?.wrapping_mul(u64::from(form.scale));
    let offset = narrow(value(&form.base)?.wrapping_add(scaled).wrapping_add(form.displacement));
    let selector = registers.get(form.segment).unwrap_or(0) as u16;
    let base = match (machine, form.segment) {
        (Machine::X64, "gs") => registers.get("gsbase"),
        (Machine::X86, "fs" | "gs") => descriptor_base(selector, registers, read),
        (Machine::X64, "fs") => None,
        _ => Some(0),
    };
    let va = base.map(|base| Va(narrow(base.wrapping_add(offset))));
    let mut bytes = vec![0; form.size];
    let readable = va.is_some_and(|va| read(va, &mut bytes));
    Some(MemoryOperand {
        segment: form.segment,
        selector,
        offset: Va(offset),
        va: va.unwrap_or(Va(offset)),
        size: form.size,
        bytes: readable.then_some(bytes),
    })
}

/// The base in a segment's descriptor.
fn descriptor_base(
    selector: u16,
    registers: &Registers,
    read: &dyn Fn(Va, &mut [u8]) -> bool,
) -> Option<u64> {
    // Bit 2 asks for the local table, which Windows does not use for its own segments.
    if selector & 4 != 0 || selector < 8 {
        return None;
    }
    let at = Va(registers.get("gdtr")?.wrapping_add(u64::from(selector & !7)));
    let mut bytes = [0; 8];
    if !read(at, &mut bytes) {
        return None;
    }
    let descriptor = u64::from_le_bytes(bytes);
    Some(descriptor >> 16 & 0xff_ffff | descriptor >> 56 << 24)
}
