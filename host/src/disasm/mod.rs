//! Machine code to text in KD's look: `fffff804`7bdf5a80 48894c2408      mov     qword ptr [rsp+8],rcx`.
//!
//! [`decode`] takes the bytes of one instruction; names of addresses come from the caller. What the instruction would
//! do with the current registers, KD's tail ` ss:0018:ffff8504`29890ef0=000000000000007e`, is [`Instruction::tail`].
//! The decoders are `iced-x86` and `yaxpeax-arm`, each named in one file.

mod arm64;
mod tail;
mod x86;

#[cfg(test)]
mod tests;

use kd_sdk::address::Va;
pub use kd_sdk::code::Flow;

pub use tail::{MemoryOperand, Tail};

use crate::dump::Machine;

/// The most bytes an instruction has on any machine.
pub const LONGEST: usize = 15;

/// Gives the name of an address, `nt+0x3f560`; `None` when no module holds it.
pub type Resolve<'a> = &'a dyn Fn(Va) -> Option<String>;

/// A decoded instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// Where it stands.
    pub va: Va,
    /// Its bytes: at least one.
    pub bytes: Vec<u8>,
    /// `mov`, `lock inc`, `rep stos`; `???` for bytes that are no instruction.
    pub mnemonic: String,
    /// `qword ptr [rsp+8],rcx`; empty when there are none.
    pub operands: String,
    /// How it passes control on.
    pub flow: Flow,
    /// Its operand in memory, as the registers would have it: see [`Instruction::tail`].
    pub memory: Option<MemoryForm>,
    /// For conditional jumps of x86 and x64: the condition on the flags.
    pub condition: Option<Condition>,
    machine: Machine,
}

/// An operand in memory before its registers are known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryForm {
    /// The segment register that applies.
    pub segment: &'static str,
    /// The base register.
    pub base: Option<String>,
    /// The index register.
    pub index: Option<String>,
    /// The factor of the index.
    pub scale: u32,
    /// The displacement; for operands relative to the instruction pointer the whole address.
    pub displacement: u64,
    /// Bytes of the operand; zero when it has no size of its own.
    pub size: usize,
    /// True when the instruction takes its target from it (`call qword ptr [...]`).
    pub is_target: bool,
}

/// The condition of a conditional jump, by the flags it asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Overflow.
    O,
    /// Carry: below.
    B,
    /// Zero: equal.
    E,
    /// Below or equal.
    Be,
    /// Sign.
    S,
    /// Parity.
    P,
    /// Less.
    L,
    /// Less or equal.
    Le,
    /// The negation of another condition.
    Not(&'static Condition),
}

/// Decodes the instruction at the start of `bytes`, which stand at `va`; 15 bytes are always enough. `None` when there
/// are no bytes (on arm64: less than four), or when they end inside an instruction.
pub fn decode(machine: Machine, va: Va, bytes: &[u8], resolve: Resolve<'_>) -> Option<Instruction> {
    match machine {
        Machine::X64 => x86::decode(64, va, bytes, resolve),
        Machine::X86 => x86::decode(32, va, bytes, resolve),
        Machine::Arm64 => arm64::decode(va, bytes, resolve),
    }
}

/// KD's line for code that cannot be read: `fffff803`f32ddff4 ?? ???`.
pub fn unreadable_line(machine: Machine, va: Va) -> String {
    let mut line = format!("{} ??", va.show(machine.pointer_size()));
    match machine {
        Machine::X64 => pad(&mut line, 34),
        Machine::X86 => pad(&mut line, 25),
        Machine::Arm64 => line.push(' '),
    }
    line.push_str("???");
    line
}

/// `name (address)`, or the bare address without a name.
fn named(machine: Machine, va: Va, resolve: Resolve<'_>) -> String {
    let address = va.show(machine.pointer_size());
    match resolve(va) {
        Some(name) => format!("{name} ({address})"),
        None => address.to_string(),
    }
}

impl Instruction {
    /// Bytes in the instruction.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// False: an instruction has bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The address after the instruction.
    pub fn next(&self) -> Va {
        self.va.add(self.len())
    }

    /// KD's column for the bytes: memory order on x86 and x64, the number on arm64.
    pub fn bytes_text(&self) -> String {
        let hex = |byte: &u8| format!("{byte:02x}");
        match self.machine {
            Machine::Arm64 => self.bytes.iter().rev().map(hex).collect(),
            _ => self.bytes.iter().map(hex).collect(),
        }
    }

    /// The whole line of `u`: address, bytes, mnemonic and operands in KD's columns.
    pub fn line(&self) -> String {
        self.line_of(true)
    }

    /// [`Instruction::line`] with the bytes or without them.
    pub fn line_of(&self, with_bytes: bool) -> String {
        let mut line = self.va.show(self.machine.pointer_size()).to_string();
        if !with_bytes {
            return format!("{line} {}", self.text());
        }
        line = format!("{line} {}", self.bytes_text());
        // Columns of the mnemonic and of the operands. Long bytes push the mnemonic, and the operands then stand one
        // column further at least.
        let (mnemonic, operands) = match self.machine {
            Machine::X64 => (34, 42),
            Machine::X86 => (25, 33),
            Machine::Arm64 => (27, 39),
        };
        let pushed = line.len() >= mnemonic;
        pad(&mut line, mnemonic);
        line.push_str(&self.mnemonic);
        if !self.operands.is_empty() {
            pad(&mut line, if pushed { operands + 1 } else { operands });
            line.push_str(&self.operands);
        }
        line
    }

    /// Mnemonic and operands in KD's columns: `mov     qword ptr [rsp+8],rcx`.
    pub fn text(&self) -> String {
        let mut text = self.mnemonic.clone();
        if !self.operands.is_empty() {
            pad(&mut text, if self.machine == Machine::Arm64 { 12 } else { 8 });
            text.push_str(&self.operands);
        }
        text
    }
}

/// Blanks up to a column, one at least.
fn pad(line: &mut String, column: usize) {
    line.push(' ');
    while line.len() < column {
        line.push(' ');
    }
}
