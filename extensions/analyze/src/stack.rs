//! The raw stack: which of its words may be return addresses, and the trap frames that stand on it.

use crate::machine::{Call, RECORD_BYTES, Registers, follows_call, number, parse_trap_frame};
use kd_sdk::address::Va;
use kd_sdk::target::{Machine, Module};

/// Bytes of stack that are looked at, from the stack pointer up.
pub const STACK_BYTES: usize = 0x3000;

/// Bytes of the target. A read gives what is there up to the first hole.
pub trait Bytes {
    /// Fills `buffer` from `va` as far as possible; how many bytes are good.
    fn read(&self, va: Va, buffer: &mut [u8]) -> usize;

    /// At most `len` bytes from `va`.
    fn gather(&self, va: Va, len: usize) -> Vec<u8> {
        let mut buffer = vec![0; len];
        let done = self.read(va, &mut buffer).min(len);
        buffer.truncate(done);
        buffer
    }
}

/// A word of the stack that lies in a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it stands.
    pub at: Va,
    /// What it holds.
    pub value: Va,
    /// Index of the module.
    pub module: usize,
    /// True if the instruction before it is a call; false if that could not be checked.
    pub checked: bool,
}

/// The module that holds an address; `modules` are ordered by base.
pub fn module_at(modules: &[Module], va: Va) -> Option<usize> {
    let index = modules.partition_point(|module| module.base <= va).checked_sub(1)?;
    let module = modules.get(index)?;
    (va.0.wrapping_sub(module.base.0) < module.size).then_some(index)
}

/// Words of `stack`, which begins at `sp`, that may be return addresses.
pub fn candidates(
    memory: &dyn Bytes,
    machine: Machine,
    pointer_size: u32,
    modules: &[Module],
    sp: Va,
    stack: &[u8],
) -> Vec<Candidate> {
    let width = pointer_size as usize;
    let mut found = Vec::new();
    for (index, word) in stack.chunks_exact(width).enumerate() {
        let Some(value) = number(word, 0, width).map(Va) else { continue };
        let Some(module) = module_at(modules, value) else { continue };
        // A module's header is no code.
        if modules.get(module).is_some_and(|m| value.0.wrapping_sub(m.base.0) < 0x400) {
            continue;
        }
        let before = memory.gather(Va(value.0.wrapping_sub(8)), 8);
        let call = if machine == Machine::Arm64 && value.0 & 3 != 0 {
            Call::No
        } else {
            follows_call(machine, &before)
        };
        if call != Call::No {
            let at = sp.add((index * width) as u64);
            found.push(Candidate { at, value, module, checked: call == Call::Yes });
        }
    }
    found
}

/// A trap frame found on the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFrame {
    /// Where it stands.
    pub at: Va,
    /// What it holds.
    pub registers: Registers,
}

/// Trap frames that stand in `stack`, known by their selectors and by a stack pointer that leads back into it.
pub fn trap_frames(machine: Machine, sp: Va, stack: &[u8]) -> Vec<FoundFrame> {
    let mut found = Vec::new();
    if machine != Machine::X64 {
        return found;
    }
    let end = sp.add(stack.len() as u64);
    for offset in (0..stack.len()).step_by(8) {
        let Some(bytes) = stack.get(offset..(offset + RECORD_BYTES).min(stack.len())) else { break };
        if bytes.len() < 0x190 {
            break;
        }
        let at = sp.add(offset as u64);
        let Some(registers) = parse_trap_frame(machine, at, bytes) else { continue };
        let kernel = number(bytes, 0x170, 2) == Some(0x10);
        // What was interrupted in the kernel ran on this stack above the frame, or on another one close to it.
        let above = registers.sp > at && registers.sp <= end.add(0x1_0000);
        if kernel && above && registers.sp.0 & 7 == 0 && registers.ip.0 >> 47 == 0x1_ffff {
            found.push(FoundFrame { at, registers });
        }
    }
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Memory made of blocks.
    #[derive(Default)]
    pub struct Blocks(pub Vec<(u64, Vec<u8>)>);

    impl Bytes for Blocks {
        fn read(&self, va: Va, buffer: &mut [u8]) -> usize {
            for (base, bytes) in &self.0 {
                if let Some(offset) = va.0.checked_sub(*base).filter(|&o| o < bytes.len() as u64) {
                    let source = &bytes[offset as usize..];
                    let len = source.len().min(buffer.len());
                    buffer[..len].copy_from_slice(&source[..len]);
                    return len;
                }
            }
            0
        }
    }

    pub fn module(name: &str, base: u64, size: u64) -> Module {
        Module {
            base: Va(base),
            size,
            time_stamp: 0x5f00_0000,
            check_sum: 0,
            is_kernel: name == "nt",
            name: name.to_owned(),
            image: if name == "nt" { "ntoskrnl.exe".to_owned() } else { format!("{name}.sys") },
            path: String::new(),
            loader_entry: Va(0),
        }
    }

    #[test]
    fn a_word_that_does_not_follow_a_call_is_no_return_address() {
        let modules = [module("nt", 0x1000, 0x1000), module("bad", 0x8000, 0x1000)];
        let mut code = vec![0x90; 0x20];
        code[0x13] = 0xe8;
        let memory = Blocks(vec![(0x8700, code)]);
        let words = [0x8718u64, 0x8710, 0x1800, 0x5000, 0x8010];
        let stack: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let found = candidates(&memory, Machine::X64, 8, &modules, Va(0x100), &stack);
        let summary: Vec<_> = found.iter().map(|c| (c.at.0, c.value.0, c.module, c.checked)).collect();
        assert_eq!(summary, [(0x100, 0x8718, 1, true), (0x110, 0x1800, 0, false)]);
    }

    #[test]
    fn module_ranges() {
        let modules = [module("nt", 0x1000, 0x1000), module("bad", 0x8000, 0x1000)];
        assert_eq!(module_at(&modules, Va(0xfff)), None);
        assert_eq!(module_at(&modules, Va(0x1000)), Some(0));
        assert_eq!(module_at(&modules, Va(0x2000)), None);
        assert_eq!(module_at(&modules, Va(0x8fff)), Some(1));
        assert_eq!(module_at(&[], Va(0)), None);
    }
}
