//! Return addresses found on the stack, for code whose unwind data nobody has.
//!
//! A word is taken for one if it leads into the code of a module, not to the start of a function, and stands behind a
//! call instruction as far as the bytes there can be read, at a place where a call would put it. That is much, and
//! still no proof: old calls leave their return addresses behind. One in sixteen true ones is passed over where neither
//! bytes nor symbols tell them from pointers to functions.

use super::tables::Tables;
use super::{Caller, CodeView, FrameSource, ModuleRange, pointer_at, set_ip, set_sp, trap};
use crate::dump::Machine;
use crate::target::Registers;
use kd_sdk::address::Va;

/// Bytes of stack that one search looks at.
const REACH: u64 = 0x8000;
/// Unreadable words after which a search ends.
const MOST_HOLES: u32 = 64;
/// Functions are not larger; an address further from the symbol before it lies in something without a name.
const LARGEST_FUNCTION: u64 = 0x1_0000;
/// Where the code of an image begins at the earliest.
const FIRST_CODE: u64 = 0x200;

/// The next return address on the stack above the frame. Where the frame is `exact`, the stack pointer itself may point
/// to one, whatever the alignment.
pub fn step(code: &dyn CodeView, tables: &mut Tables, registers: &Registers, exact: bool) -> Option<Caller> {
    let pointer = u64::from(code.machine().pointer_size());
    let sp = Va(registers.sp().0.checked_next_multiple_of(pointer)?);
    let mut holes = 0;
    for offset in (0..REACH).step_by(pointer as usize) {
        if code.interrupted() {
            return None;
        }
        let at = sp.add(offset);
        let Ok(value) = pointer_at(code, at) else {
            holes += 1;
            if holes > MOST_HOLES {
                return None;
            }
            continue;
        };
        let Some(module) = code.module_at(value) else { continue };
        if let Some(caller) = machine_frame(code, registers, at, value) {
            return Some(caller);
        }
        // Calls are made with the stack pointer at a multiple of 16; a store of fp and lr has the same rule.
        if !(exact && offset == 0) && pointer == 8 && at.0 & 0xf != 8 {
            continue;
        }
        if !is_return_address(code, tables, &module, value) {
            continue;
        }
        let mut new = registers.clone();
        set_ip(&mut new, value);
        set_sp(&mut new, at.add(pointer));
        if code.machine() == Machine::Arm64 {
            // The frame pointer is saved just below the link register.
            if let Ok(fp) = pointer_at(code, Va(at.0.wrapping_sub(8))) {
                new.set("fp", fp.0);
            }
        }
        return Some(Caller {
            registers: new,
            source: FrameSource::Scan,
            exact: false,
            arguments: at.add(pointer),
            trap_frame: None,
            frame_pointer: (pointer == 4).then(|| Va(at.0.wrapping_sub(4) & 0xffff_ffff)),
        });
    }
    None
}

/// The frame that the processor of x64 pushes when it is interrupted in the kernel: RIP, CS, EFLAGS, RSP, SS. Behind it
/// is not a caller but what was interrupted.
fn machine_frame(code: &dyn CodeView, registers: &Registers, at: Va, ip: Va) -> Option<Caller> {
    if code.machine() != Machine::X64 {
        return None;
    }
    let word = |offset: u64| pointer_at(code, at.add(offset)).ok();
    let (selector, flags, sp, stack_selector) = (word(8)?.0, word(16)?.0, word(24)?, word(32)?.0);
    // Bit 1 of the flags is always set, the upper half never.
    let shaped = selector == 0x10 && matches!(stack_selector, 0 | 0x18) && flags & 2 != 0 && flags >> 32 == 0;
    let up = sp.0.checked_sub(at.0).is_some_and(|distance| distance < REACH);
    if !shaped || !up {
        return None;
    }
    let mut new = registers.clone();
    set_ip(&mut new, ip);
    set_sp(&mut new, sp);
    let frame = Va(at.0.wrapping_sub(trap::X64_RIP));
    trap::restore_volatile_x64(code, frame, &mut new);
    if let Ok(rbp) = pointer_at(code, Va(at.0.wrapping_sub(16))) {
        new.set("rbp", rbp.0);
    }
    Some(Caller {
        registers: new,
        source: FrameSource::Scan,
        exact: true,
        arguments: sp,
        trap_frame: Some(frame),
        frame_pointer: None,
    })
}

/// True where `value` can be where a call returns to.
pub fn is_return_address(code: &dyn CodeView, tables: &mut Tables, module: &ModuleRange, value: Va) -> bool {
    let inside = value.0.wrapping_sub(module.base.0);
    let Ok(rva) = u32::try_from(inside) else { return false };
    if inside < FIRST_CODE {
        return false;
    }
    if let Some(headers) = tables.headers(code, module)
        && !headers.section_at(rva).is_some_and(|section| section.is_code())
    {
        return false;
    }
    match after_call(code, module, rva) {
        Some(is_call) => is_call,
        // Without the bytes: symbols know starts of functions, and how far an address is from one. Without symbols:
        // compilers put functions at multiples of 16 on x64, where few calls return to, but pointers to functions are
        // all over a stack.
        None => match code.function_start(value) {
            Some(start) => {
                let distance = value.0.wrapping_sub(start.0);
                distance != 0 && distance < LARGEST_FUNCTION
            }
            None => code.machine() != Machine::X64 || value.0 & 0xf != 0,
        },
    }
}

/// Whether a call stands before an RVA; `None` where its bytes are not at hand.
fn after_call(code: &dyn CodeView, module: &ModuleRange, rva: u32) -> Option<bool> {
    if code.machine() == Machine::Arm64 {
        let mut bytes = [0; 4];
        code.read_image(module, rva.checked_sub(4)?, &mut bytes)?;
        let word = u32::from_le_bytes(bytes);
        // bl; blr and its signed forms.
        return Some(
            word & 0xfc00_0000 == 0x9400_0000 || word & 0xfedf_f000 == 0xd61f_0000 && word >> 21 & 1 != 0,
        );
    }
    // The longest call has seven bytes with a prefix: rex ff /2 sib disp32.
    let mut all = [0; 8];
    let mut length = all.len();
    while length >= 2 {
        let place = all.get_mut(..length)?;
        if rva.checked_sub(length as u32).and_then(|at| code.read_image(module, at, place)).is_some() {
            break;
        }
        length -= 1;
    }
    if length < 2 {
        return None;
    }
    let bytes = all.get(..length)?;
    let before = |count: usize| bytes.len().checked_sub(count).and_then(|from| bytes.get(from..));
    let is_call = before(5).is_some_and(|call| call.first() == Some(&0xe8))
        || (2..=7).any(|size| before(size).is_some_and(is_indirect_call));
    // Few bytes that show no call prove nothing.
    (is_call || length >= 7).then_some(is_call)
}

/// `ff /2` that is exactly as long as the slice.
fn is_indirect_call(bytes: &[u8]) -> bool {
    let &[0xff, form, ref rest @ ..] = bytes else { return false };
    if form & 0x38 != 0x10 {
        return false;
    }
    let (mode, register) = (form >> 6, form & 7);
    let sib = mode != 3 && register == 4;
    let displacement = match mode {
        0 if register == 5 => 4,
        0 if sib && rest.first().is_some_and(|sib| sib & 7 == 5) => 4,
        1 => 1,
        2 => 4,
        _ => 0,
    };
    rest.len() == displacement + usize::from(sib)
}
