//! x64: `RUNTIME_FUNCTION` and `UNWIND_INFO`, as Microsoft's x64 exception-handling document describes them.
//!
//! Of an interrupted function (a first frame, or one that trapped) only the part of the prologue that has run is
//! undone, and what is left of an epilogue is followed by its instructions. Return addresses stand after a call, so
//! neither can apply to them.

use super::tables::{ModuleBytes, Tables, find_entry, number};
use super::{Caller, CodeView, FrameSource, Missing, leaf, pointer_at, set_ip, set_sp, trap};
use crate::image::ImageBytes;
use crate::target::Registers;
use kd_sdk::address::Va;

/// Registers in the order of the unwind codes.
const INTEGERS: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];
/// `UNW_FLAG_CHAININFO`.
const CHAINED: u8 = 4;
/// Links of one chain.
const MOST_LINKS: usize = 32;
/// Bytes of code after an instruction pointer that can hold an epilogue.
const EPILOGUE: usize = 96;

/// An entry of the function table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its first RVA.
    pub begin: u32,
    /// The RVA after its last.
    pub end: u32,
    /// Its unwind data.
    pub unwind_info: u32,
}

impl Function {
    fn parse(entry: &[u8]) -> Function {
        Function { begin: number(entry, 0), end: number(entry, 4), unwind_info: number(entry, 8) }
    }

    fn holds(&self, rva: u32) -> bool {
        (self.begin..self.end).contains(&rva)
    }
}

/// `UNWIND_INFO`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnwindInfo {
    /// 1 or 2.
    pub version: u8,
    /// `UNW_FLAG_*`.
    pub flags: u8,
    /// Bytes in the prologue.
    pub prologue: u8,
    /// The frame register's number; 0 for none.
    pub frame_register: u8,
    /// What the frame register is above the stack pointer, in bytes.
    pub frame_offset: u32,
    /// The codes: (offset in the prologue, operation).
    pub codes: Vec<(u8, Code)>,
    /// The entry this one continues.
    pub chained: Option<Function>,
    /// Language handler, its RVA.
    pub handler: Option<u32>,
}

/// One operation of a prologue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// A register was pushed.
    Push(u8),
    /// The stack pointer was lowered by this many bytes.
    Allocate(u32),
    /// The frame register was set.
    SetFrame,
    /// A register was saved at this offset of the frame.
    Save(u8, u32),
    /// An XMM register was saved at this offset of the frame.
    SaveXmm(u8, u32),
    /// The processor pushed a machine frame; true with an error code.
    MachineFrame(bool),
    /// Describes an epilogue (version 2).
    Epilogue,
}

/// Reads unwind data.
///
/// # Errors
/// [`Missing::Data`] where they cannot be read, [`Missing::Bad`] where they make no sense.
pub fn read_info(bytes: &dyn ImageBytes, rva: u32) -> Result<UnwindInfo, Missing> {
    let mut head = [0; 4];
    if !bytes.read(rva, &mut head) {
        return Err(Missing::Data);
    }
    let [version_flags, prologue, count, frame] = head;
    let (version, flags) = (version_flags & 7, version_flags >> 3);
    if !(1..=2).contains(&version) {
        return Err(Missing::Bad("unknown version"));
    }
    let mut slots = vec![0; usize::from(count) * 2];
    let codes_at = rva.saturating_add(4);
    if !bytes.read(codes_at, &mut slots) {
        return Err(Missing::Data);
    }
    let slot = |index: usize| match slots.get(index * 2..index * 2 + 2) {
        Some(&[low, high]) => Some(u16::from_le_bytes([low, high])),
        _ => None,
    };
    let mut codes = Vec::new();
    let mut at = 0;
    while let Some(word) = slot(at) {
        let [offset, operation] = word.to_le_bytes();
        let (operation, info) = (operation & 0xf, operation >> 4);
        let cut = Missing::Bad("its codes are cut");
        let near = |scale: u32| slot(at + 1).map(|value| u32::from(value) * scale).ok_or(cut);
        let far = || match (slot(at + 1), slot(at + 2)) {
            (Some(low), Some(high)) => Ok(u32::from(low) | u32::from(high) << 16),
            _ => Err(cut),
        };
        let (code, size) = match operation {
            0 => (Code::Push(info), 1),
            1 if info == 0 => (Code::Allocate(near(8)?), 2),
            1 if info == 1 => (Code::Allocate(far()?), 3),
            2 => (Code::Allocate(u32::from(info) * 8 + 8), 1),
            3 => (Code::SetFrame, 1),
            4 => (Code::Save(info, near(8)?), 2),
            5 => (Code::Save(info, far()?), 3),
            6 if version == 2 => (Code::Epilogue, 1),
            8 => (Code::SaveXmm(info, near(16)?), 2),
            9 => (Code::SaveXmm(info, far()?), 3),
            10 => (Code::MachineFrame(info != 0), 1),
            _ => return Err(Missing::Bad("unknown code")),
        };
        codes.push((offset, code));
        at += size;
    }
    // The codes are padded to an even number.
    let after = codes_at.saturating_add(u32::from(count).next_multiple_of(2) * 2);
    let mut chained = None;
    let mut handler = None;
    if flags & CHAINED != 0 {
        let mut entry = [0; 12];
        if !bytes.read(after, &mut entry) {
            return Err(Missing::Data);
        }
        chained = Some(Function::parse(&entry));
    } else if flags & 3 != 0 {
        let mut word = [0; 4];
        handler = bytes.read(after, &mut word).then(|| u32::from_le_bytes(word));
    }
    Ok(UnwindInfo {
        version,
        flags,
        prologue,
        frame_register: frame & 0xf,
        frame_offset: u32::from(frame >> 4) * 16,
        codes,
        chained,
        handler,
    })
}

/// The entry of the function that holds `rva`; `Ok(None)` for code without one: functions without a frame.
///
/// # Errors
/// Where part of the table is missing.
pub fn find_function(
    bytes: &ModuleBytes<'_>,
    table: crate::image::Directory,
    rva: u32,
) -> Result<Option<Function>, Missing> {
    let found = find_entry::<12>(bytes, table, rva)?.map(|entry| Function::parse(&entry));
    let Some(mut found) = found.filter(|found| found.holds(rva)) else { return Ok(None) };
    // An odd address leads to another entry.
    if found.unwind_info & 1 != 0 {
        let mut entry = [0; 12];
        if !bytes.read(found.unwind_info & !1, &mut entry) {
            return Err(Missing::Table);
        }
        found = Function { unwind_info: number(&entry, 8), ..found };
    }
    Ok(Some(found))
}

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
    let ip = registers.ip();
    // A call may be the last instruction of a function: look at the call, not behind it.
    let inside = if exact { ip } else { Va(ip.0.wrapping_sub(1)) };
    let module = code.module_at(inside).ok_or(Missing::NoModule)?;
    let table = tables.table(code, &module)?;
    let rva = u32::try_from(inside.0.wrapping_sub(module.base.0)).map_err(|_| Missing::NoModule)?;
    let bytes = ModuleBytes::new(code, module);
    let Some(function) = find_function(&bytes, table, rva)? else { return leaf(code, registers, 8) };
    let info = read_info(&bytes, function.unwind_info)?;
    let mut unwound = match exact.then(|| epilogue(code, &bytes, registers, &function, rva)).flatten() {
        Some(unwound) => unwound,
        None => {
            let offset = if exact { rva.wrapping_sub(function.begin) } else { u32::MAX };
            undo(code, &bytes, registers, info, offset)?
        }
    };
    let sp = unwound.registers.sp();
    let (source, arguments);
    if unwound.machine {
        source = FrameSource::Trap;
        arguments = sp;
        if let Some(at) = unwound.trap {
            trap::restore_volatile_x64(code, at, &mut unwound.registers);
        }
    } else {
        let return_address = pointer_at(code, sp)?;
        set_ip(&mut unwound.registers, return_address);
        set_sp(&mut unwound.registers, sp.add(8));
        source = FrameSource::Unwind(bytes.origin());
        arguments = sp.add(8);
    }
    Ok(Caller {
        registers: unwound.registers,
        source,
        exact: unwound.machine,
        arguments,
        trap_frame: unwound.trap,
        frame_pointer: None,
    })
}

/// Registers with a prologue undone; the stack pointer is at the return address unless a machine frame was left.
struct Unwound {
    registers: Registers,
    trap: Option<Va>,
    machine: bool,
}

fn undo(
    code: &dyn CodeView,
    bytes: &ModuleBytes<'_>,
    registers: &Registers,
    info: UnwindInfo,
    offset: u32,
) -> Result<Unwound, Missing> {
    let mut new = registers.clone();
    let mut trap = None;
    let (mut info, mut offset) = (info, offset);
    for _ in 0..MOST_LINKS {
        let in_prologue = offset < u32::from(info.prologue);
        let ran = |at: u8| !in_prologue || offset >= u32::from(at);
        let register = |new: &Registers, number: u8| {
            INTEGERS.get(usize::from(number)).and_then(|name| new.get(name)).unwrap_or(0)
        };
        // Saved registers are found from the frame register as soon as it is set.
        let framed = info.frame_register != 0
            && (!in_prologue || info.codes.iter().any(|(at, code)| *code == Code::SetFrame && ran(*at)));
        let base = if framed {
            register(&new, info.frame_register).wrapping_sub(info.frame_offset.into())
        } else {
            new.sp().0
        };
        for (at, operation) in info.codes.iter().filter(|(at, _)| ran(*at)) {
            let _ = at;
            let sp = new.sp();
            match *operation {
                Code::Push(number) => {
                    let value = pointer_at(code, sp)?;
                    set_integer(&mut new, number, value.0);
                    set_sp(&mut new, sp.add(8));
                }
                Code::Allocate(size) => set_sp(&mut new, sp.add(size.into())),
                Code::SetFrame => {
                    let value = register(&new, info.frame_register).wrapping_sub(info.frame_offset.into());
                    set_sp(&mut new, Va(value));
                }
                Code::Save(number, at) => {
                    let value = pointer_at(code, Va(base).add(at.into()))?;
                    set_integer(&mut new, number, value.0);
                }
                Code::SaveXmm(..) | Code::Epilogue => {}
                Code::MachineFrame(error_code) => {
                    // RIP, CS, EFLAGS, RSP, SS, behind the error code if there is one. A trap frame holds it at its end.
                    let at = sp.add(if error_code { 8 } else { 0 });
                    let ip = pointer_at(code, at)?;
                    let outer = pointer_at(code, at.add(24))?;
                    let frame = Va(at.0.wrapping_sub(trap::X64_RIP));
                    if frame.0 == base && info.frame_register != 0 || trap::is_x64(code, frame) {
                        trap = Some(frame);
                    }
                    set_ip(&mut new, ip);
                    set_sp(&mut new, outer);
                    return Ok(Unwound { registers: new, trap, machine: true });
                }
            }
        }
        match info.chained {
            Some(next) => {
                info = read_info(bytes, next.unwind_info & !1)?;
                offset = u32::MAX;
            }
            None => return Ok(Unwound { registers: new, trap, machine: false }),
        }
    }
    Err(Missing::Bad("a chain without end"))
}

fn set_integer(registers: &mut Registers, number: u8, value: u64) {
    if let Some(name) = INTEGERS.get(usize::from(number)) {
        registers.set(name, value);
    }
}

/// Follows what is left of an epilogue: `add rsp` or `lea rsp`, pops, and a return, a return from an interrupt or a
/// jump out of the function.
/// `None` where the code is no epilogue or cannot be read.
fn epilogue(
    code: &dyn CodeView,
    bytes: &ModuleBytes<'_>,
    registers: &Registers,
    function: &Function,
    rva: u32,
) -> Option<Unwound> {
    let mut text = [0; EPILOGUE];
    let length = EPILOGUE.min(bytes_left(bytes, rva, &mut text));
    let text = text.get(..length)?;
    let mut new = registers.clone();
    let (mut at, mut moved) = (0usize, false);
    let byte = |at: usize| text.get(at).copied();
    let long = |at: usize| text.get(at..)?.first_chunk().copied().map(i32::from_le_bytes);
    if let (Some(rex), Some(operation)) = (byte(0), byte(1)) {
        match (rex, operation, byte(2)?) {
            (0x48, 0x83, 0xc4) => {
                set_sp(&mut new, registers.sp().add(byte(3)? as i8 as u64));
                (at, moved) = (4, true);
            }
            (0x48, 0x81, 0xc4) => {
                set_sp(&mut new, registers.sp().add(long(3)? as u64));
                (at, moved) = (7, true);
            }
            // lea rsp, [register + displacement]
            (0x48 | 0x49, 0x8d, form) if form & 0x38 == 0x20 && form & 7 != 4 => {
                let base = INTEGERS.get(usize::from(form & 7 | (rex & 1) << 3))?;
                let base = new.get(base)?;
                let (displacement, size) = match form >> 6 {
                    1 => (byte(3)? as i8 as u64, 4),
                    2 => (long(3)? as u64, 7),
                    _ => return None,
                };
                set_sp(&mut new, Va(base.wrapping_add(displacement)));
                (at, moved) = (size, true);
            }
            _ => {}
        }
    }
    for _ in 0..16 {
        let (number, size) = match (byte(at)?, byte(at + 1)) {
            (pop @ 0x58..=0x5f, _) => (pop & 7, 1),
            (0x41, Some(pop @ 0x58..=0x5f)) => (pop & 7 | 8, 2),
            _ => break,
        };
        let sp = new.sp();
        let value = pointer_at(code, sp).ok()?;
        set_sp(&mut new, sp.add(8));
        set_integer(&mut new, number, value.0);
        (at, moved) = (at + size, true);
    }
    let outside = |target: i64| !function.holds(u32::try_from(target).unwrap_or(u32::MAX));
    let next = |size: i64| i64::from(rva) + at as i64 + size;
    // Out of an interrupt: what the processor pushed is on top.
    if (byte(at)?, byte(at + 1)) == (0x48, Some(0xcf)) {
        let sp = new.sp();
        set_ip(&mut new, pointer_at(code, sp).ok()?);
        set_sp(&mut new, pointer_at(code, sp.add(24)).ok()?);
        return Some(Unwound { registers: new, trap: None, machine: true });
    }
    let ends = match (byte(at)?, byte(at + 1)) {
        (0xc3 | 0xc2, _) | (0xf2 | 0xf3, Some(0xc3)) => true,
        // A jump proves nothing by itself: a function may jump without leaving its frame.
        (0xe9, _) if moved => outside(next(5) + i64::from(long(at + 1)?)),
        (0xeb, Some(distance)) if moved => outside(next(2) + i64::from(distance as i8)),
        (0xff, Some(0x25)) | (0x48..=0x4f, Some(0xff)) if moved => true,
        (0xff, Some(form)) if moved && form & 0xf8 == 0xe0 => true,
        _ => false,
    };
    ends.then_some(Unwound { registers: new, trap: None, machine: false })
}

/// Fills a buffer as far as the code is there; how many bytes that is.
fn bytes_left(bytes: &ModuleBytes<'_>, rva: u32, into: &mut [u8]) -> usize {
    let mut length = into.len();
    while length > 0 {
        if into.get_mut(..length).is_some_and(|place| bytes.read(rva, place)) {
            return length;
        }
        length /= 2;
    }
    0
}
