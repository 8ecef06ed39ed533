//! Code as instructions. Bytes come from the dump, and where it has none from the module's image file.

use crate::abi::{self, flow, status};
use crate::address::Va;
use crate::error::{Absent, Error, Result};
use crate::memory::Memory;

/// How an instruction passes control on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// To the next instruction.
    Next,
    /// To the target; `None` when it is in a register or in memory.
    Jump(Option<Va>),
    /// To the target or to the next instruction.
    Branch(Va),
    /// To the target and back; `None` when it is in a register or in memory.
    Call(Option<Va>),
    /// Back to the caller, or out of an interrupt or a system call.
    Return,
    /// Nowhere that is known: no valid instruction.
    Stop,
}

/// A decoded instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// Where it stands.
    pub va: Va,
    /// Bytes.
    pub length: u32,
    /// How it passes control on.
    pub flow: Flow,
    /// Mnemonic and operands, with symbols: `call    nt!KeBugCheckEx (fffff804`7bdf5a80)`.
    pub text: String,
    /// As `u` shows it: address, bytes, text.
    pub line: String,
    /// True where some of its bytes came from an image file.
    pub from_image_file: bool,
}

impl Instruction {
    fn from_abi(found: &abi::InstructionInfo<'_>) -> Instruction {
        let to = (found.to != 0).then_some(Va(found.to));
        Instruction {
            va: Va(found.address),
            length: found.length,
            flow: match found.flow {
                flow::NEXT => Flow::Next,
                flow::JUMP => Flow::Jump(to),
                flow::BRANCH => Flow::Branch(Va(found.to)),
                flow::CALL => Flow::Call(to),
                flow::RETURN => Flow::Return,
                _ => Flow::Stop,
            },
            text: found.text.to_string(),
            line: found.line.to_string(),
            from_image_file: found.flags & 1 != 0,
        }
    }
}

impl Memory<'_> {
    /// The instruction at `va`.
    ///
    /// # Errors
    /// Where its bytes are neither in the dump nor in an image file.
    pub fn instruction(&self, va: Va) -> Result<Instruction> {
        self.instructions(va, 1)?.pop().ok_or_else(|| Error::NotFound(format!("no instruction at {va}")))
    }

    /// Instructions from `va` on, at most `most`; fewer where code ends.
    ///
    /// # Errors
    /// As for [`Memory::instruction`].
    pub fn instructions(&self, va: Va, most: u32) -> Result<Vec<Instruction>> {
        self.decode(false, va, most)
    }

    /// The instructions that lead to `va`, in order, at most `most`: what `ub` shows.
    ///
    /// # Errors
    /// As for [`Memory::instruction`].
    pub fn instructions_before(&self, va: Va, most: u32) -> Result<Vec<Instruction>> {
        self.decode(true, va, most)
    }

    fn decode(&self, backward: bool, va: Va, most: u32) -> Result<Vec<Instruction>> {
        let (mut found, mut fault) = (Vec::new(), abi::ReadFault::default());
        let mut take = |instruction: &abi::InstructionInfo<'_>| {
            found.push(Instruction::from_abi(instruction));
            true
        };
        let place = (self.space, va.0);
        match self.session.calls.instructions(backward, place, most, &mut take, &mut fault) {
            status::OK => Ok(found),
            status::UNREADABLE => {
                Err(Error::Unreadable { at: Va(fault.at), why: Absent::from_abi(fault.why) })
            }
            other => Err(self.session.failure(other)),
        }
    }
}
