//! From registers to callers: one frame after another, and how each was found.
//!
//! [`walk`] follows what the compiler left: unwind codes on x64 ([`x64`]) and arm64 ([`arm64`]), frame data of the
//! PDB and the chain of frame pointers on x86 ([`x86`]). Small dumps often lack them; then return addresses are looked
//! for on the stack ([`scan`]) and the frame says so: what was found that way may be stale. [`trap`] reads trap
//! frames. Names are not this layer's matter: it asks its caller through [`CodeView`].

pub mod arm64;
pub mod arm64_codes;
pub mod frame_data;
mod scan;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod trap;
pub mod x64;
pub mod x86;

use super::Registers;
use crate::dump::Machine;
use kd_sdk::address::Va;

/// The frames KD shows when nobody asks for more or fewer.
pub const DEFAULT_FRAMES: usize = 256;
/// The most frames that are ever walked.
pub const MOST_FRAMES: usize = 0xffff;
/// How often a stack may lead to a lower address: interrupt, DPC and double fault stacks, and back.
const MOST_SWITCHES: usize = 16;

/// Whose bytes were used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Origin {
    /// All came from the dump.
    #[default]
    Dump,
    /// Some came from an image file.
    ImageFile,
}

/// A module as unwinding sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModuleRange {
    /// The first address.
    pub base: Va,
    /// Bytes.
    pub size: u64,
    /// A number that means something to the [`CodeView`].
    pub index: usize,
}

/// What unwinding asks of its surroundings.
pub trait CodeView {
    /// The machine whose code it is.
    fn machine(&self) -> Machine;
    /// Fills `into` with memory of the dump, or says false.
    fn read(&self, va: Va, into: &mut [u8]) -> bool;
    /// The module that holds `va`.
    fn module_at(&self, va: Va) -> Option<ModuleRange>;
    /// Fills `into` with a module's bytes: from the dump, else from its image file.
    fn read_image(&self, module: &ModuleRange, rva: u32, into: &mut [u8]) -> Option<Origin>;
    /// What the module's symbols say about the frame of the function at `va` (x86).
    fn frame_data(&self, va: Va) -> Option<frame_data::FrameData> {
        let _ = va;
        None
    }
    /// Where the function that holds `va` begins, as far as symbols know.
    fn function_start(&self, va: Va) -> Option<Va> {
        let _ = va;
        None
    }
    /// True once the user has had enough.
    fn interrupted(&self) -> bool {
        false
    }
}

/// How a frame was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameSource {
    /// Its registers were given: a processor, a context record, a trap frame, a thread.
    Context,
    /// By the unwind data of the function it called.
    Unwind(Origin),
    /// By the frame data in the symbols of the function it called (x86).
    FrameData,
    /// By the frame pointer of the function it called.
    FramePointer,
    /// The function it called has no frame: the return address was on top of the stack or in the link register.
    Leaf,
    /// It was interrupted: its registers were in the trap or machine frame of what it "called".
    Trap,
    /// A return address found on the stack. It may be stale.
    Scan,
}

impl FrameSource {
    /// One word for programs.
    pub fn name(self) -> &'static str {
        match self {
            FrameSource::Context => "context",
            FrameSource::Unwind(Origin::Dump) => "unwind",
            FrameSource::Unwind(Origin::ImageFile) => "unwind-image-file",
            FrameSource::FrameData => "frame-data",
            FrameSource::FramePointer => "frame-pointer",
            FrameSource::Leaf => "leaf",
            FrameSource::Trap => "trap",
            FrameSource::Scan => "scan",
        }
    }

    /// False where the frame may never have been.
    pub fn is_certain(self) -> bool {
        self != FrameSource::Scan
    }
}

/// Why the caller of a frame is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Missing {
    /// The code is in no module.
    #[error("its code is in no module")]
    NoModule,
    /// The module's headers are neither in the dump nor in an image file.
    #[error("the headers of its module are neither in the dump nor in an image file")]
    Headers,
    /// The module's function table is missing, as [`Missing::Headers`].
    #[error("the function table of its module is neither in the dump nor in an image file")]
    Table,
    /// The module's unwind data are missing, as [`Missing::Headers`].
    #[error("its unwind data are neither in the dump nor in an image file")]
    Data,
    /// The unwind data make no sense.
    #[error("its unwind data make no sense: {0}")]
    Bad(&'static str),
    /// x86 without frame data: the frame pointer does not point up the stack.
    #[error("it has no frame data, and its frame pointer does not point up the stack")]
    FramePointer,
    /// Part of the stack is not in the dump.
    #[error("the stack at {0} cannot be read")]
    Stack(Va),
}

/// One frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The registers in this frame: those that calls preserve, the instruction pointer, the stack pointer. Others are
    /// what they were in an inner frame, unless a trap frame told.
    pub registers: Registers,
    /// Where it stands: of callers the return address.
    pub ip: Va,
    /// The stack pointer: KD's Child-SP.
    pub sp: Va,
    /// The frame pointer; on x86 KD's ChildEBP.
    pub fp: Va,
    /// Where it returns to; null at the end and where that is not known.
    pub return_address: Va,
    /// Where its first argument's place on the stack is.
    pub arguments: Va,
    /// How it was found.
    pub source: FrameSource,
    /// True where `ip` is the instruction that was running, not the one after a call.
    pub exact: bool,
    /// The trap frame it made, if it was entered by an interrupt, a fault or a system call.
    pub trap_frame: Option<Va>,
    /// Why its caller was not found from unwind data.
    pub missing: Option<Missing>,
}

/// What one step gave.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The caller's registers.
    pub registers: Registers,
    /// How it was found.
    pub source: FrameSource,
    /// True where its instruction pointer is that of an interrupted instruction.
    pub exact: bool,
    /// The place of the first argument of the frame that was left.
    pub arguments: Va,
    /// The trap frame that was left.
    pub trap_frame: Option<Va>,
    /// x86: what KD shows as ChildEBP of the frame that was left.
    pub frame_pointer: Option<Va>,
}

/// Walks the stack from `start`, at most `most` frames. The first frame is always there.
pub fn walk(code: &dyn CodeView, start: Registers, most: usize) -> Vec<Frame> {
    let mut tables = tables::Tables::default();
    let mut frames: Vec<Frame> = Vec::new();
    let (mut registers, mut source, mut exact) = (start, FrameSource::Context, true);
    let mut switches = 0;
    let most = most.min(MOST_FRAMES);
    while frames.len() < most && !code.interrupted() {
        let (ip, sp) = (registers.ip(), registers.sp());
        let step = match code.machine() {
            Machine::X64 => x64::step(code, &mut tables, &registers, exact),
            Machine::Arm64 => arm64::step(code, &mut tables, &registers, exact),
            Machine::X86 => x86::step(code, &mut tables, &registers, exact),
        };
        let (step, missing) = match step {
            Ok(caller) if is_plausible(code, &registers, &caller, source) => (Some(caller), None),
            Ok(_) => (None, None),
            Err(missing) => (None, Some(missing)),
        };
        let entry = || exact.then(|| at_entry(code, &registers)).flatten();
        let step = match step {
            Some(step) => Some(step),
            None if is_user(code, ip) && !ip.is_null() => entry(),
            None => entry().or_else(|| scan::step(code, &mut tables, &registers, exact)),
        };
        let frame = Frame {
            ip,
            sp,
            fp: step.as_ref().and_then(|step| step.frame_pointer).unwrap_or(registers.fp()),
            return_address: step.as_ref().map_or(Va::NULL, |step| step.registers.ip()),
            arguments: step.as_ref().map_or(sp, |step| step.arguments),
            source,
            exact,
            trap_frame: step.as_ref().and_then(|step| step.trap_frame),
            missing,
            registers: registers.clone(),
        };
        frames.push(frame);
        let Some(step) = step else { break };
        if step.registers.ip().is_null() {
            break;
        }
        // A stack grows down, so callers are further up. Only switching stacks goes down, and that ends.
        let up = step.registers.sp() > sp || step.source == FrameSource::Leaf && step.registers.ip() != ip;
        if !up {
            switches += 1;
            if switches > MOST_SWITCHES {
                break;
            }
        }
        (registers, source, exact) = (step.registers, step.source, step.exact);
    }
    frames
}

/// True where a caller may be believed. What unwind data say of code that itself was only found by scanning must lead
/// into a module; else the scan was wrong and goes on.
fn is_plausible(code: &dyn CodeView, from: &Registers, caller: &Caller, source: FrameSource) -> bool {
    let (ip, sp) = (caller.registers.ip(), caller.registers.sp());
    if ip.is_null() {
        return caller.source != FrameSource::Leaf || source.is_certain();
    }
    if sp.is_null() || ip == from.ip() && sp == from.sp() {
        return false;
    }
    let known = code.module_at(ip).is_some();
    match caller.source {
        FrameSource::Trap => true,
        FrameSource::Unwind(_) | FrameSource::FrameData => known || source.is_certain(),
        _ => known || is_user(code, ip) && is_user(code, from.ip()),
    }
}

/// At the first instruction of a function the return address has not moved yet.
fn at_entry(code: &dyn CodeView, registers: &Registers) -> Option<Caller> {
    let ip = registers.ip();
    if code.function_start(ip) != Some(ip) {
        return None;
    }
    let caller = match code.machine() {
        Machine::Arm64 => arm64::leaf(registers),
        machine => leaf(code, registers, u64::from(machine.pointer_size())).ok()?,
    };
    code.module_at(caller.registers.ip()).map(|_| caller)
}

/// Takes the return address from the top of the stack (x86, x64).
fn leaf(code: &dyn CodeView, registers: &Registers, pointer: u64) -> Result<Caller, Missing> {
    let sp = registers.sp();
    let ip = pointer_at(code, sp)?;
    let mut caller = registers.clone();
    set_ip(&mut caller, ip);
    set_sp(&mut caller, sp.add(pointer));
    Ok(Caller {
        registers: caller,
        source: FrameSource::Leaf,
        exact: false,
        arguments: sp.add(pointer),
        trap_frame: None,
        frame_pointer: (pointer == 4).then(|| Va(sp.0.wrapping_sub(4) & 0xffff_ffff)),
    })
}

fn pointer_at(code: &dyn CodeView, va: Va) -> Result<Va, Missing> {
    let mut bytes = [0; 8];
    let size = code.machine().pointer_size() as usize;
    let read = bytes.get_mut(..size).is_some_and(|place| code.read(va, place));
    if read { Ok(Va(u64::from_le_bytes(bytes))) } else { Err(Missing::Stack(va)) }
}

fn set_ip(registers: &mut Registers, ip: Va) {
    let name = super::context::layout(registers.machine()).ip;
    registers.set(name, ip.0);
}

fn set_sp(registers: &mut Registers, sp: Va) {
    let name = super::context::layout(registers.machine()).sp;
    registers.set(name, sp.0);
}

/// True for an address of a user-mode program.
pub fn is_user(code: &dyn CodeView, va: Va) -> bool {
    code.machine().is_user(va)
}
