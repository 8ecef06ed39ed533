//! arm64: the caller of a frame, by unwind codes, else by the frame pointer.

use super::arm64_codes::{Function, Op, Unwind, instructions, is_instruction, read};
use super::tables::{ModuleBytes, Tables, find_entry};
use super::{Caller, CodeView, FrameSource, Missing, pointer_at, trap};
use crate::dump::Machine;
use crate::target::Registers;
use kd_sdk::address::Va;

/// Bytes of a `CONTEXT`.
const CONTEXT_SIZE: usize = 0x390;

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
    match by_codes(code, tables, registers, exact) {
        Ok(caller) => Ok(caller),
        Err(_) if exact && is_at_entry(code, registers) => Ok(leaf(registers)),
        Err(missing) => by_frame_pointer(code, registers).ok_or(missing),
    }
}

fn by_codes(
    code: &dyn CodeView,
    tables: &mut Tables,
    registers: &Registers,
    exact: bool,
) -> Result<Caller, Missing> {
    let ip = registers.ip();
    // A call may be the last instruction of a function: look at the call, not behind it.
    let inside = if exact { ip } else { Va(ip.0.wrapping_sub(4)) };
    let module = code.module_at(inside).ok_or(Missing::NoModule)?;
    let table = tables.table(code, &module)?;
    let rva = u32::try_from(inside.0.wrapping_sub(module.base.0)).map_err(|_| Missing::NoModule)?;
    let bytes = ModuleBytes::new(code, module);
    let found = find_entry::<8>(&bytes, table, rva)?.map(|entry| Function::parse(&entry));
    let Some(function) = found else { return Ok(leaf(registers)) };
    let unwind = read(&bytes, function.word)?;
    let offset = rva.saturating_sub(function.begin);
    if offset >= unwind.length {
        return Ok(leaf(registers));
    }
    let ops = to_undo(&unwind, exact.then_some(offset));
    let undone = undo(code, registers, ops)?;
    let exact = undone.exact;
    let source = match exact {
        true => FrameSource::Trap,
        false => FrameSource::Unwind(bytes.origin()),
    };
    Ok(Caller {
        registers: undone.registers,
        source,
        exact,
        arguments: registers.sp(),
        trap_frame: undone.trap,
        frame_pointer: None,
    })
}

/// The operations that still have to be undone at an offset in the function; all of them for a caller.
fn to_undo(unwind: &Unwind, offset: Option<u32>) -> &[Op] {
    let all = unwind.prologue.as_slice();
    let Some(offset) = offset else { return all };
    let ran = offset / 4;
    let prologue = instructions(all);
    if unwind.has_prologue && ran < prologue {
        return behind(all, prologue - ran);
    }
    for (start, ops) in &unwind.epilogues {
        let done = offset.checked_sub(*start).map(|bytes| bytes / 4);
        // The return itself comes after the last operation.
        if let Some(done) = done.filter(|done| *done <= instructions(ops)) {
            return behind(ops, done);
        }
    }
    all
}

/// What follows a number of instructions.
fn behind(ops: &[Op], count: u32) -> &[Op] {
    let mut left = count;
    let position = ops.iter().position(|op| {
        let here = left == 0;
        left = left.saturating_sub(u32::from(is_instruction(*op)));
        here
    });
    position.and_then(|at| ops.get(at..)).unwrap_or(&[])
}

struct Undone {
    registers: Registers,
    trap: Option<Va>,
    exact: bool,
}

fn undo(code: &dyn CodeView, registers: &Registers, ops: &[Op]) -> Result<Undone, Missing> {
    let mut new = registers.clone();
    let mut signed = false;
    // The pair that a chain of `SaveNext` goes on from.
    let mut pending = 0u8;
    for op in ops {
        let sp = new.sp();
        match *op {
            Op::Allocate(size) => set(&mut new, "sp", sp.add(size)),
            Op::SaveFloat { before } => set(&mut new, "sp", sp.add(before)),
            Op::SaveNext => {
                pending = pending.saturating_add(1);
                continue;
            }
            Op::Save { first, second, offset, before } => {
                load(code, &mut new, first, sp.add(offset))?;
                if let Some(second) = second {
                    load(code, &mut new, second, sp.add(offset).add(8))?;
                }
                // Codes stand in reverse order, so the pairs that follow this one came before it.
                for n in 1..=pending {
                    let at = sp.add(offset).add(u64::from(n) * 16);
                    load(code, &mut new, first.saturating_add(2 * n), at)?;
                    load(code, &mut new, first.saturating_add(2 * n + 1), at.add(8))?;
                }
                set(&mut new, "sp", sp.add(before));
            }
            Op::SetFp => {
                let fp = new.fp();
                set(&mut new, "sp", fp);
            }
            Op::AddFp(size) => {
                let fp = new.fp();
                set(&mut new, "sp", Va(fp.0.wrapping_sub(size)));
            }
            Op::SignLr => signed = true,
            Op::TrapFrame => {
                let read = |va: Va, into: &mut [u8]| code.read(va, into);
                let found = trap::registers(Machine::Arm64, &read, sp, &new, &|_| None);
                let registers = found.ok_or(Missing::Stack(sp))?;
                return Ok(Undone { registers, trap: Some(sp), exact: true });
            }
            Op::MachineFrame => {
                let (outer, ip) = (pointer_at(code, sp)?, pointer_at(code, sp.add(8))?);
                set(&mut new, "sp", outer);
                set(&mut new, "pc", ip);
                return Ok(Undone { registers: new, trap: None, exact: true });
            }
            Op::Context => {
                let mut record = vec![0; CONTEXT_SIZE];
                if !code.read(sp, &mut record) {
                    return Err(Missing::Stack(sp));
                }
                let registers = Registers::from_context(Machine::Arm64, &record)
                    .ok_or(Missing::Bad("its context record is short"))?;
                return Ok(Undone { registers, trap: None, exact: true });
            }
            Op::Nop | Op::ClearUnwoundToCall | Op::EndOfFragment => {}
            Op::End => break,
        }
        pending = 0;
    }
    let link = Va(new.get("lr").unwrap_or(0));
    let return_address = if signed || !is_canonical(link) { plain(link) } else { link };
    set(&mut new, "pc", return_address);
    Ok(Undone { registers: new, trap: None, exact: false })
}

/// Loads a register of the unwind codes from the stack.
fn load(code: &dyn CodeView, registers: &mut Registers, number: u8, at: Va) -> Result<(), Missing> {
    let value = pointer_at(code, at)?;
    match number {
        29 => set(registers, "fp", value),
        30 => set(registers, "lr", value),
        0..=28 => set(registers, &format!("x{number}"), value),
        _ => return Err(Missing::Bad("a register that does not exist")),
    }
    Ok(())
}

fn set(registers: &mut Registers, name: &str, value: Va) {
    registers.set(name, value.0);
}

fn is_canonical(va: Va) -> bool {
    matches!(va.0 >> 48, 0 | 0xffff)
}

/// A return address without the signature in its upper bits.
fn plain(va: Va) -> Va {
    if va.0 >> 55 & 1 != 0 { Va(va.0 | 0xffff << 48) } else { Va(va.0 & !(0xffff << 48)) }
}

/// True at an instruction that only a prologue has and that comes before the link register is saved: signing it, making
/// room on the stack, storing a first pair. The link register must then lead into a module.
fn is_at_entry(code: &dyn CodeView, registers: &Registers) -> bool {
    let ip = registers.ip();
    let mut bytes = [0; 4];
    let read = code.module_at(ip).and_then(|module| {
        let rva = u32::try_from(ip.0.wrapping_sub(module.base.0)).ok()?;
        code.read_image(&module, rva, &mut bytes)
    });
    let word = u32::from_le_bytes(bytes);
    let is_prologue = word == 0xd503_237f // pacibsp
        || word & 0xffc0_03e0 == 0xa980_03e0 // stp x, x, [sp, #-n]!
        || word & 0xff80_03ff == 0xd100_03ff; // sub sp, sp, #n
    let link = plain(Va(registers.get("lr").unwrap_or(0)));
    read.is_some() && is_prologue && code.module_at(link).is_some()
}

/// The caller of a function without a frame: the link register.
pub fn leaf(registers: &Registers) -> Caller {
    let mut new = registers.clone();
    set(&mut new, "pc", plain(Va(registers.get("lr").unwrap_or(0))));
    Caller {
        registers: new,
        source: FrameSource::Leaf,
        exact: false,
        arguments: registers.sp(),
        trap_frame: None,
        frame_pointer: None,
    }
}

/// Every function of Windows that calls others keeps the chain of frame pointers: `[fp]` the outer frame pointer,
/// `[fp+8]` the return address. Believed only if it leads up the stack and into a module.
fn by_frame_pointer(code: &dyn CodeView, registers: &Registers) -> Option<Caller> {
    let fp = registers.fp();
    if fp < registers.sp() || fp.0 & 7 != 0 {
        return None;
    }
    let outer = pointer_at(code, fp).ok()?;
    let return_address = plain(pointer_at(code, fp.add(8)).ok()?);
    let up = outer > fp || outer.is_null();
    if !up || !(return_address.is_null() && outer.is_null() || code.module_at(return_address).is_some()) {
        return None;
    }
    let mut new = registers.clone();
    set(&mut new, "fp", outer);
    set(&mut new, "lr", return_address);
    set(&mut new, "sp", fp.add(16));
    set(&mut new, "pc", return_address);
    Some(Caller {
        registers: new,
        source: FrameSource::FramePointer,
        exact: false,
        arguments: registers.sp(),
        trap_frame: None,
        frame_pointer: None,
    })
}
