//! The code of made functions, and the data that unwinds it.

use super::{CALL, FUNCTION_SIZE, Frame, Function};
use crate::lab::bytes::Bytes;
use crate::lab::layout::Machine;

/// Machine code of a function, [`FUNCTION_SIZE`] bytes. Calls go to the function's own start: only their place matters.
pub(super) fn code(machine: Machine, function: &Function) -> Vec<u8> {
    let mut code = Vec::new();
    let alloc = if let Frame::Alloc(n) = function.frame { n } else { 0x158 };
    match machine {
        Machine::X64 => {
            if !matches!(function.frame, Frame::Alloc(_)) {
                code.push(0x55); // push rbp
            }
            code.extend([0x48, 0x81, 0xec]); // sub rsp, alloc
            code.u32(alloc);
            if !matches!(function.frame, Frame::Alloc(_)) {
                code.extend([0x48, 0x8d, 0xac, 0x24]); // lea rbp, [rsp+80h]
                code.u32(0x80);
            }
            code.resize(CALL as usize, 0x90);
            call_or_fault(&mut code, function.faults);
            code.extend([0x48, 0x81, 0xc4]); // add rsp, alloc
            code.u32(alloc);
            code.push(0xc3);
            code.resize(FUNCTION_SIZE as usize, 0xcc);
        }
        Machine::X86 => {
            code.extend([0x55, 0x8b, 0xec, 0x81, 0xec]); // push ebp; mov ebp, esp; sub esp, alloc
            code.u32(alloc);
            code.resize(CALL as usize, 0x90);
            call_or_fault(&mut code, function.faults);
            code.extend([0x8b, 0xe5, 0x5d, 0xc3]); // mov esp, ebp; pop ebp; ret
            code.resize(FUNCTION_SIZE as usize, 0xcc);
        }
        Machine::Arm64 => {
            let size = arm64_frame(function.frame);
            let pair = 30 << 10 | 31 << 5 | 29;
            code.u32(0xa980_0000 | ((size / 8).wrapping_neg() & 0x7f) << 15 | pair); // stp fp, lr, [sp, #-size]!
            for word in [0x9100_03fd, 0xd503_201f, 0xd503_201f] {
                code.u32(word); // mov fp, sp; nop; nop
            }
            code.u32(if function.faults {
                0xb940_0000
            } else {
                0x9400_0000 | (CALL / 4).wrapping_neg() & 0x03ff_ffff
            });
            code.u32(0xa8c0_0000 | (size / 8) << 15 | pair); // ldp fp, lr, [sp], #size
            code.u32(0xd65f_03c0); // ret
            code.resize(FUNCTION_SIZE as usize, 0);
        }
    }
    code
}

/// `mov eax, [rcx]` (or `[ecx]`), or a call to the start of the function.
fn call_or_fault(code: &mut Vec<u8>, faults: bool) {
    if faults {
        code.extend([0x8b, 0x01, 0x90, 0x90, 0x90]);
    } else {
        code.push(0xe8);
        code.u32((CALL + 5).wrapping_neg());
    }
}

/// Offset in a function of the address its call returns to.
pub fn return_offset(machine: Machine) -> u32 {
    if machine == Machine::Arm64 { CALL + 4 } else { CALL + 5 }
}

/// Bytes of a frame on ARM64, where a trap is an ordinary frame here.
pub fn arm64_frame(frame: Frame) -> u32 {
    if let Frame::Alloc(n) = frame { n.next_multiple_of(16) } else { 0x1b0 }
}

/// Appends `UNWIND_INFO` and returns its offset (x64), or returns the packed word (arm64).
pub(super) fn unwind_data(machine: Machine, frame: Frame, unwind: &mut Vec<u8>) -> u32 {
    if machine == Machine::Arm64 {
        // Packed, whole prologue and epilogue, chained with fp and lr saved at the bottom of the frame.
        return 1 | (FUNCTION_SIZE / 4) << 2 | 3 << 21 | (arm64_frame(frame) / 16) << 23;
    }
    // Codes: offset after the instruction, then operation and its argument; the last instruction first.
    let codes: Vec<u8> = match frame {
        Frame::Alloc(n) => [vec![7, 0x01], ((n / 8) as u16).to_le_bytes().to_vec()].concat(),
        Frame::Trap => vec![8, 0x01, 0x2b, 0, 1, 0x50, 0, 0x1a],
        Frame::SystemCall => vec![8, 0x01, 0x2b, 0, 1, 0x50, 0, 0x02, 0, 0x0a],
    };
    let offset = unwind.len() as u32;
    unwind.extend([1, codes[0], (codes.len() / 2) as u8, 0]);
    unwind.extend(codes);
    unwind.align(4);
    offset
}
