//! The stack: places of unwound frames, words that may be return addresses where unwinding ends, and the trap frames
//! that stand on it.

use crate::machine::{
    Call, Exception, RECORD_BYTES, Registers, follows_call, number, parse_exception, parse_trap_frame,
};
use kd_sdk::address::Va;
use kd_sdk::stacks::Frame;
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

    /// A little-endian number of `width` bytes, at most 8.
    fn number(&self, va: Va, width: usize) -> Option<u64> {
        number(&self.gather(va, width), 0, width)
    }

    /// The text of a UNICODE_STRING, at most 0x200 bytes of it.
    fn counted_text(&self, va: Va, pointer_size: u32) -> Option<String> {
        let length = self.number(va, 2)?.min(0x200) & !1;
        let buffer = self.number(va.add(pointer_size.into()), pointer_size as usize)?;
        let bytes = self.gather(Va(buffer), length as usize);
        if length == 0 || bytes.len() as u64 != length {
            return None;
        }
        let units = bytes.chunks_exact(2).filter_map(|pair| Some(u16::from_le_bytes(pair.try_into().ok()?)));
        let text: String =
            char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        (!text.contains(char::is_control)).then_some(text)
    }
}

/// A word of the stack that lies in a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The number of the unwound frame it is the place of; `None` for words found by scanning.
    pub frame: Option<usize>,
    /// Where it stands.
    pub at: Va,
    /// What it holds.
    pub value: Va,
    /// Index of the module.
    pub module: usize,
    /// True if the instruction before it is a call; false if that could not be checked.
    pub checked: bool,
    /// True if it is aligned as functions and variables are: more likely a pointer than a return address.
    pub weak: bool,
}

/// The module that holds an address; `modules` are ordered by base.
pub fn module_at(modules: &[Module], va: Va) -> Option<usize> {
    let index = modules.partition_point(|module| module.base <= va).checked_sub(1)?;
    let module = modules.get(index)?;
    (va.0.wrapping_sub(module.base.0) < module.size).then_some(index)
}

/// How far a walk can be trusted: the frames up to the first that was only found by scanning.
pub fn certain(frames: &[Frame]) -> &[Frame] {
    let end = frames.iter().position(|frame| !frame.source.is_certain()).unwrap_or(frames.len());
    frames.get(..end).unwrap_or_default()
}

/// The number of the innermost caller: of the first frame after the fault's own. Calls in line have none.
pub fn caller(frames: &[Frame]) -> Option<usize> {
    let mut real = frames.iter().enumerate().filter(|(_, frame)| !frame.inline);
    real.nth(1).map(|(number, _)| number)
}

/// The places of the callers among unwound frames.
pub fn places(modules: &[Module], pointer_size: u32, frames: &[Frame]) -> Vec<Candidate> {
    let place = |(number, frame): (usize, &Frame)| {
        Some(Candidate {
            frame: Some(number),
            // The return address stands right below the caller's part of the stack.
            at: Va(frame.sp.0.wrapping_sub(pointer_size.into())),
            value: frame.ip,
            module: module_at(modules, frame.ip)?,
            checked: true,
            weak: false,
        })
    };
    let callers = frames.iter().enumerate().skip(caller(frames).unwrap_or(frames.len()));
    callers.filter(|(_, frame)| !frame.inline).filter_map(place).collect()
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
            let checked = call == Call::Yes;
            let weak = !checked && machine != Machine::Arm64 && value.0 & 0xf == 0;
            found.push(Candidate { frame: None, at, value, module, checked, weak });
        }
    }
    found
}

/// A trap frame found by its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFrame {
    /// Where it stands.
    pub at: Va,
    /// What it holds.
    pub registers: Registers,
    /// True if it stands on another stack and a word of this one points at it: code that was interrupted.
    pub linked: bool,
}

/// Words that are followed to other stacks at most.
const MOST_LINKS: usize = 256;

/// Trap frames that stand in `stack` or that its words point at, known by their selectors and by the stack pointer,
/// which is where the processor put the frame. Only x64 has frames of a known shape.
pub fn trap_frames(memory: &dyn Bytes, machine: Machine, sp: Va, stack: &[u8]) -> Vec<FoundFrame> {
    let mut found: Vec<FoundFrame> = Vec::new();
    if machine != Machine::X64 {
        return found;
    }
    let mut links = 0;
    for (index, word) in stack.chunks_exact(8).enumerate() {
        let at = sp.add(index as u64 * 8);
        let here = stack.get(index * 8..).unwrap_or(&[]);
        if let Some(registers) = kernel_frame(at, here) {
            found.push(FoundFrame { at, registers, linked: false });
        }
        let Some(value) = number(word, 0, 8).map(Va) else { continue };
        let inside = value.0.wrapping_sub(sp.0) < stack.len() as u64;
        let plausible = value.0 >> 47 == 0x1_ffff && value.0 & 7 == 0 && !inside;
        if !plausible || links >= MOST_LINKS || found.iter().any(|frame| frame.at == value) {
            continue;
        }
        links += 1;
        if let Some(registers) = kernel_frame(value, &memory.gather(value, FRAME_BYTES)) {
            found.push(FoundFrame { at: value, registers, linked: true });
        }
    }
    found
}

/// Bytes of an x64 trap frame.
const FRAME_BYTES: usize = 0x190;

/// A frame of code that ran in the kernel.
fn kernel_frame(at: Va, bytes: &[u8]) -> Option<Registers> {
    // Cheap first: the code selector of kernel mode.
    if number(bytes, 0x170, 2)? != 0x10 {
        return None;
    }
    let registers = parse_trap_frame(Machine::X64, at, bytes.get(..RECORD_BYTES.min(bytes.len()))?)?;
    // The processor aligns the stack to 16 bytes and pushes; the frame ends where the stack was.
    let gap = registers.sp.0.wrapping_sub(at.0);
    (0x188..=0x1a0).contains(&gap).then_some(registers).filter(|r| r.ip.0 >> 47 == 0x1_ffff)
}

/// An exception record on the stack, by its code and the address it names.
pub fn find_exception(pointer_size: u32, sp: Va, stack: &[u8], code: u32, ip: Va) -> Option<(Va, Exception)> {
    let width = pointer_size as usize;
    let back = if pointer_size == 4 { 0xc } else { 0x10 };
    (0..stack.len()).step_by(width).find_map(|offset| {
        if number(stack, offset, width)? != ip.0 {
            return None;
        }
        let start = offset.checked_sub(back)?;
        if number(stack, start, 4)? != u64::from(code) {
            return None;
        }
        Some((sp.add(start as u64), parse_exception(pointer_size, stack.get(start..)?)?))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use kd_sdk::stacks::Source;

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

    /// The bytes of a trap frame at `at` whose code ran at `ip`.
    fn frame(at: u64, ip: u64) -> Vec<u8> {
        let mut bytes = vec![0; FRAME_BYTES];
        bytes[0x168..0x170].copy_from_slice(&ip.to_le_bytes());
        bytes[0x170] = 0x10;
        bytes[0x178] = 2;
        bytes[0x180..0x188].copy_from_slice(&(at + 0x190).to_le_bytes());
        bytes[0x188] = 0x18;
        bytes
    }

    #[test]
    fn trap_frames_are_found_here_and_behind_a_pointer() {
        let (sp, other, ip) = (0xffff_d000_0000_1000u64, 0xffff_d000_1111_1000u64, 0xffff_f800_0000_1234);
        let mut stack = other.to_le_bytes().to_vec();
        stack.extend_from_slice(&frame(sp + 8, ip));
        let memory = Blocks(vec![(other, frame(other, ip + 1))]);
        let found = trap_frames(&memory, Machine::X64, Va(sp), &stack);
        let summary: Vec<_> = found.iter().map(|f| (f.at.0, f.registers.ip.0, f.linked)).collect();
        assert_eq!(summary, [(other, ip + 1, true), (sp + 8, ip, false)]);
        assert!(trap_frames(&memory, Machine::Arm64, Va(sp), &stack).is_empty());
        assert!(
            trap_frames(&memory, Machine::X64, Va(u64::MAX - 8), &stack[..0x100]).iter().all(|f| f.linked)
        );
    }

    #[test]
    fn an_exception_record_is_found_by_code_and_address() {
        let mut stack = vec![0; 0x200];
        stack[0x40..0x44].copy_from_slice(&0xc000_001du32.to_le_bytes());
        stack[0x50..0x58].copy_from_slice(&0xffff_f800_0000_1234u64.to_le_bytes());
        let (at, found) =
            find_exception(8, Va(0x1000), &stack, 0xc000_001d, Va(0xffff_f800_0000_1234)).unwrap();
        assert_eq!((at, found.code), (Va(0x1040), 0xc000_001d));
        assert_eq!(find_exception(8, Va(0x1000), &stack, 5, Va(0xffff_f800_0000_1234)), None);
    }

    #[test]
    fn a_walk_is_trusted_up_to_the_first_guess() {
        let frame = |sp, ip, source, inline| Frame {
            ip: Va(ip),
            sp: Va(sp),
            fp: Va(0),
            return_address: Va(0),
            trap_frame: None,
            arguments: [None; 4],
            source,
            exact: false,
            inline,
            site: String::new(),
            missing: String::new(),
        };
        let walked = [
            frame(0x100, 0x1100, Source::Context, true),
            frame(0x100, 0x1100, Source::Context, false),
            frame(0x140, 0x8200, Source::Unwind, true),
            frame(0x140, 0x8200, Source::Unwind, false),
            frame(0x180, 0x7fff_0000, Source::Unwind, false),
            frame(0x1c0, 0x8300, Source::Scan, false),
            frame(0x200, 0x8400, Source::Unwind, false),
        ];
        let modules = [module("nt", 0x1000, 0x1000), module("bad", 0x8000, 0x1000)];
        let found = places(&modules, 8, certain(&walked));
        let summary: Vec<_> = found.iter().map(|c| (c.frame, c.at.0, c.value.0, c.module)).collect();
        assert_eq!(summary, [(Some(3), 0x138, 0x8200, 1)]);
        assert_eq!((certain(&walked).len(), caller(&walked), caller(&walked[..2])), (5, Some(3), None));
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
