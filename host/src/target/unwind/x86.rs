//! x86: frame data of the PDB where there are any, trap frames, the chain of `ebp`, and what the instructions of a
//! prologue or an epilogue tell about an interrupted function.

use super::tables::Tables;
use super::{
    Caller, CodeView, FrameSource, Missing, frame_data, leaf, pointer_at, scan, set_ip, set_sp, trap,
};
use crate::dump::Machine;
use crate::target::Registers;
use kd_sdk::address::Va;

/// `DbgArgMark` of a trap frame, and where it is.
const TRAP_MARK: u64 = 0xbadb_0d00;
const TRAP_MARK_AT: u64 = 8;

/// The caller of the frame that `registers` are of.
///
/// # Errors
/// Why it is not known.
pub fn step(
    code: &dyn CodeView,
    tables: &mut Tables,
    registers: &Registers,
    exact: bool,
) -> Result<Caller, Missing> {
    let inside = if exact { registers.ip() } else { Va(registers.ip().0.wrapping_sub(1)) };
    if is_trap_frame(code, registers.fp()) {
        return out_of_trap(code, registers);
    }
    if exact && let Some(caller) = epilogue(code, registers) {
        return Ok(caller);
    }
    let data = code.frame_data(inside);
    // The row of a function describes its body: in the prologue the instructions that ran tell.
    let in_prologue = |data: &frame_data::FrameData| data.is_start && data.offset < data.prologue.max(1);
    let start = match &data {
        Some(data) if exact && in_prologue(data) => Some(Va(inside.0.wrapping_sub(data.offset.into()))),
        None if exact => code.function_start(inside),
        _ => None,
    };
    if let Some(caller) = start.and_then(|start| prologue(code, registers, start)) {
        return Ok(caller);
    }
    if let Some(data) = data
        && let Some((ip, sp, fp, arguments)) = frame_data::undo(code, registers, &data)
        && (code.module_at(ip).is_some() || super::is_user(code, ip) && super::is_user(code, inside))
    {
        let mut new = registers.clone();
        set_ip(&mut new, ip);
        set_sp(&mut new, sp);
        new.set("ebp", fp.0);
        return Ok(Caller {
            registers: new,
            source: FrameSource::FrameData,
            exact: false,
            arguments,
            trap_frame: None,
            frame_pointer: Some(Va(arguments.0.wrapping_sub(8) & 0xffff_ffff)),
        });
    }
    if !exact && let Some(caller) = returns_at_once(code, tables, registers) {
        return Ok(caller);
    }
    by_frame_pointer(code, registers)
}

/// Behind its call the function only returns, as the stubs of system calls do: then the return address is on top, if
/// the stack pointer is known at all.
fn returns_at_once(code: &dyn CodeView, tables: &mut Tables, registers: &Registers) -> Option<Caller> {
    let mut byte = [0];
    let next = image_bytes(code, registers.ip(), &mut byte).map(|()| byte)?;
    if !matches!(next, [0xc2 | 0xc3]) {
        return None;
    }
    let caller = leaf(code, registers, 4).ok()?;
    let module = code.module_at(caller.registers.ip())?;
    scan::is_return_address(code, tables, &module, caller.registers.ip()).then_some(caller)
}

/// Fills `into` with code: of a module also from its image file.
fn image_bytes(code: &dyn CodeView, at: Va, into: &mut [u8]) -> Option<()> {
    let Some(module) = code.module_at(at) else { return code.read(at, into).then_some(()) };
    let rva = u32::try_from(at.0.wrapping_sub(module.base.0)).ok()?;
    code.read_image(&module, rva, into).map(drop)
}

fn is_trap_frame(code: &dyn CodeView, at: Va) -> bool {
    pointer_at(code, at.add(TRAP_MARK_AT)).is_ok_and(|mark| mark.0 == TRAP_MARK)
}

/// In the kernel's trap handlers `ebp` points to the trap frame.
fn out_of_trap(code: &dyn CodeView, registers: &Registers) -> Result<Caller, Missing> {
    let at = registers.fp();
    let read = |va: Va, into: &mut [u8]| code.read(va, into);
    let found = trap::registers(Machine::X86, &read, at, registers, &|_| None);
    Ok(Caller {
        registers: found.ok_or(Missing::Stack(at))?,
        source: FrameSource::Trap,
        exact: true,
        arguments: at.add(8),
        trap_frame: Some(at),
        frame_pointer: Some(at),
    })
}

/// Follows what is left of an epilogue, `add esp`, `lea esp`, `mov esp,ebp`, `leave` and pops, to its return.
fn epilogue(code: &dyn CodeView, registers: &Registers) -> Option<Caller> {
    let mut new = registers.clone();
    let mut text = Instructions::at(code, registers.ip());
    for _ in 0..MOST_INSTRUCTIONS {
        let sp = new.sp();
        match text.next()? {
            Step::Move(distance) => set_sp(&mut new, Va(sp.0.wrapping_add_signed(distance) & 0xffff_ffff)),
            Step::FromFrame(distance) => {
                let fp = new.fp();
                set_sp(&mut new, Va(fp.0.wrapping_add_signed(distance) & 0xffff_ffff));
            }
            Step::Leave => {
                let fp = new.fp();
                new.set("ebp", pointer_at(code, fp).ok()?.0);
                set_sp(&mut new, fp.add(4));
            }
            Step::Pop(number) => {
                let value = pointer_at(code, sp).ok()?;
                new.set(INTEGERS.get(usize::from(number))?, value.0);
                set_sp(&mut new, sp.add(4));
            }
            Step::Return => return into_caller(code, &new),
            Step::Nothing => {}
            Step::Push(_) | Step::Frame => return None,
        }
    }
    None
}

/// Undoes what ran of a prologue that begins at `start`.
fn prologue(code: &dyn CodeView, registers: &Registers, start: Va) -> Option<Caller> {
    let ip = registers.ip();
    let mut text = Instructions::at(code, start);
    let (mut taken, mut saved) = (0i64, None);
    let mut count = 0;
    while text.at < ip {
        count += 1;
        match text.next().filter(|_| count < MOST_INSTRUCTIONS)? {
            Step::Push(number) => {
                taken += 4;
                saved = saved.or((number == Some(5)).then_some(taken));
            }
            Step::Move(distance) if distance < 0 => taken -= distance,
            Step::Frame | Step::Nothing => {}
            _ => return None,
        }
    }
    let mut new = registers.clone();
    let entry = registers.sp().0.wrapping_add_signed(taken) & 0xffff_ffff;
    if let Some(saved) = saved {
        new.set("ebp", pointer_at(code, Va(entry.wrapping_add_signed(-saved))).ok()?.0);
    }
    set_sp(&mut new, Va(entry));
    (text.at == ip).then(|| into_caller(code, &new)).flatten()
}

/// The caller whose return address is on top of the stack, if that leads to code.
fn into_caller(code: &dyn CodeView, registers: &Registers) -> Option<Caller> {
    let caller = leaf(code, registers, 4).ok()?;
    let to = caller.registers.ip();
    let user = || super::is_user(code, to) && super::is_user(code, registers.ip()) && !to.is_null();
    (code.module_at(to).is_some() || user()).then_some(caller)
}

/// Registers in the order of their numbers.
const INTEGERS: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
/// Instructions of a prologue or an epilogue that are followed.
const MOST_INSTRUCTIONS: u32 = 24;

/// What an instruction of a prologue or epilogue does.
enum Step {
    /// A register is pushed, by its number, or something else.
    Push(Option<u8>),
    /// A register is taken from the stack.
    Pop(u8),
    /// The stack pointer moves.
    Move(i64),
    /// The stack pointer is set from the frame pointer.
    FromFrame(i64),
    /// The frame pointer is set from the stack pointer.
    Frame,
    /// `leave`.
    Leave,
    /// `ret`.
    Return,
    /// Room for a patch.
    Nothing,
}

/// The instructions of prologues and epilogues from an address on.
struct Instructions<'a> {
    code: &'a dyn CodeView,
    at: Va,
}

impl Instructions<'_> {
    fn at(code: &dyn CodeView, at: Va) -> Instructions<'_> {
        Instructions { code, at }
    }

    /// `None` for any other instruction.
    fn next(&mut self) -> Option<Step> {
        let mut bytes = [0; 6];
        let all = bytes.len();
        let length = (1..=all).rev().find(|&length| {
            bytes.get_mut(..length).is_some_and(|place| image_bytes(self.code, self.at, place).is_some())
        })?;
        bytes.get_mut(length..)?.fill(0xcc);
        let [_, _, b2, b3, b4, b5] = bytes;
        let near = i64::from(b2 as i8);
        let far = i64::from(i32::from_le_bytes([b2, b3, b4, b5]));
        let (step, size) = match bytes {
            [push @ 0x50..=0x57, ..] => (Step::Push(Some(push & 7)), 1),
            [0x6a, ..] => (Step::Push(None), 2),
            [0x68, ..] => (Step::Push(None), 5),
            [pop @ 0x58..=0x5f, ..] => (Step::Pop(pop & 7), 1),
            [0x83, 0xc4, ..] => (Step::Move(near), 3),
            [0x83, 0xec, ..] => (Step::Move(-near), 3),
            [0x81, 0xc4, ..] => (Step::Move(far), 6),
            [0x81, 0xec, ..] => (Step::Move(-far), 6),
            [0x8d, 0x65, ..] => (Step::FromFrame(near), 3),
            [0x8d, 0xa5, ..] => (Step::FromFrame(far), 6),
            [0x8b, 0xe5, ..] | [0x89, 0xec, ..] => (Step::FromFrame(0), 2),
            [0x8b, 0xec, ..] | [0x89, 0xe5, ..] => (Step::Frame, 2),
            [0x8b, 0xff, ..] => (Step::Nothing, 2),
            [0xc9, ..] => (Step::Leave, 1),
            [0xc3, ..] | [0xc2, ..] => (Step::Return, 1),
            _ => return None,
        };
        self.at = self.at.add(size);
        Some(step)
    }
}

fn by_frame_pointer(code: &dyn CodeView, registers: &Registers) -> Result<Caller, Missing> {
    let fp = registers.fp();
    let outer = pointer_at(code, fp)?;
    let ip = pointer_at(code, fp.add(4))?;
    if fp < registers.sp() && !registers.sp().is_null() || fp.0 & 3 != 0 {
        return Err(Missing::FramePointer);
    }
    let mut new = registers.clone();
    set_ip(&mut new, ip);
    set_sp(&mut new, fp.add(8));
    new.set("ebp", outer.0);
    Ok(Caller {
        registers: new,
        source: FrameSource::FramePointer,
        exact: false,
        arguments: fp.add(8),
        trap_frame: None,
        frame_pointer: Some(fp),
    })
}
