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
    let data = code.frame_data(inside);
    // Frame data describe the body. At its first instruction a function has no frame yet, in the rest of its prologue
    // the instructions tell.
    if let Some(data) = data.as_ref().filter(|data| exact && data.offset < data.prologue.max(1)) {
        let told = match data.offset {
            0 => {
                leaf(code, registers, 4).ok().filter(|caller| code.module_at(caller.registers.ip()).is_some())
            }
            _ => by_instructions(code, registers),
        };
        if let Some(caller) = told {
            return Ok(caller);
        }
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
    if exact && let Some(caller) = by_instructions(code, registers) {
        return Ok(caller);
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

/// In the first and last instructions of a function the frame pointer is still, or again, the caller's.
fn by_instructions(code: &dyn CodeView, registers: &Registers) -> Option<Caller> {
    let (ip, sp) = (registers.ip(), registers.sp());
    let mut bytes = [0; 5];
    image_bytes(code, ip, &mut bytes)?;
    let pushed = match bytes {
        // push ebp; mov ebp,esp (either encoding) · mov edi,edi; push ebp · ret
        [0x55, 0x8b, 0xec, ..]
        | [0x55, 0x89, 0xe5, ..]
        | [0x8b, 0xff, 0x55, ..]
        | [0xc3, ..]
        | [0xc2, ..] => 0,
        // mov ebp,esp after the push · pop ebp; ret
        [0x8b, 0xec, ..] | [0x89, 0xe5, ..] | [0x5d, 0xc3, ..] | [0x5d, 0xc2, ..] => 4,
        _ => return None,
    };
    let mut inner = registers.clone();
    if pushed == 4 {
        inner.set("ebp", pointer_at(code, sp).ok()?.0);
    }
    set_sp(&mut inner, sp.add(pushed));
    let caller = leaf(code, &inner, 4).ok()?;
    let to = caller.registers.ip();
    (code.module_at(to).is_some() || super::is_user(code, to) && super::is_user(code, ip)).then_some(caller)
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
