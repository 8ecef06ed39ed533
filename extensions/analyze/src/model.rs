//! What was read from the dump for the analysis: one [`Crash`], and nothing decided yet.

use crate::machine::{self, Exception, RECORD_BYTES, Registers};
use crate::objects::{lead, text_at};
use crate::process::{Process, process};
use crate::roles::{Role, roles};
use crate::stack::{self, Bytes, Candidate, FoundFrame, STACK_BYTES};
use crate::status;
use kd_sdk::address::Va;
use kd_sdk::error::Error;
use kd_sdk::memory::Memory;
use kd_sdk::session::Session;
use kd_sdk::stacks::{self, Frame};
use kd_sdk::target::{BugCheck, Machine, Module, UnloadedModule, registers};

/// Offset of KDDEBUGGER_DATA64.OffsetPrcbContext: the pointer to the saved CONTEXT, since Windows 8.
const KD_PRCB_CONTEXT: u32 = 0x338;
/// Offset of KDDEBUGGER_DATA64.OffsetPrcbProcStateContext: the CONTEXT inside the KPRCB, before.
const KD_PRCB_PROC_STATE: u32 = 0x2bc;

/// Where a record or a register set comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// A bug check argument, 0 to 3, points at it.
    Argument(usize),
    /// The processor whose KPRCB is in an argument, 0 to 3, saved it.
    Processor(usize),
    /// Found on the stack by its shape.
    Stack,
    /// The dump's header.
    Header,
    /// What the crashing processor saved when it stopped.
    Saved,
}

/// A register set with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Origin.
    pub from: From,
    /// Address of the record, where there is one.
    pub at: Option<Va>,
    /// True for a KTRAP_FRAME, false for a CONTEXT.
    pub is_trap_frame: bool,
    /// The registers.
    pub registers: Registers,
}

/// An exception with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// Origin.
    pub from: From,
    /// Address of the record, where there is one.
    pub at: Option<Va>,
    /// The record.
    pub exception: Exception,
}

/// A driver that an argument leads to through objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    /// The argument, 0 to 3.
    pub argument: usize,
    /// The way: `the device object in Arg2 belongs to \Driver\x`.
    pub text: String,
    /// The driver's module.
    pub module: Option<usize>,
}

/// Everything read.
#[derive(Clone, Debug)]
pub struct Crash {
    /// Processor architecture.
    pub machine: Machine,
    /// 4 or 8.
    pub pointer_size: u32,
    /// Windows build.
    pub build: u32,
    /// The bug check; all zero where there was none.
    pub bug_check: BugCheck,
    /// Loaded modules by base.
    pub modules: Vec<Module>,
    /// Unloaded modules.
    pub unloaded: Vec<UnloadedModule>,
    /// The exception.
    pub raised: Option<Raised>,
    /// The registers at the fault.
    pub context: Option<Context>,
    /// The trap frame an argument names, or the one on the stack that holds the faulting instruction.
    pub trap_frame: Option<Context>,
    /// The interrupt level and where it comes from.
    pub irql: Option<(u64, String)>,
    /// The crashed process.
    pub process: Option<Process>,
    /// The crashed thread.
    pub thread: Option<Va>,
    /// The stack at the fault, as far as it could be unwound; empty where not even one caller was found that way.
    pub walked: Vec<Frame>,
    /// Where stacks were scanned, and how many bytes of each the dump holds.
    pub stack_starts: Vec<(Va, usize)>,
    /// Places of the unwound frames, then words of the scanned stacks that may be return addresses.
    pub stack: Vec<Candidate>,
    /// Trap frames on the stack or behind its words, in the order of the stack.
    pub frames: Vec<FoundFrame>,
    /// Drivers that arguments lead to.
    pub led: Vec<Led>,
    /// Texts that arguments point at.
    pub texts: [Option<String>; 4],
    /// What could not be read, and why.
    pub missing: Vec<String>,
}

impl Crash {
    /// The module that holds an address.
    pub fn module_at(&self, va: Va) -> Option<usize> {
        stack::module_at(&self.modules, va)
    }

    /// The role of each argument.
    pub fn roles(&self) -> [Role; 4] {
        roles(self.bug_check.code(), self.bug_check.parameters)
    }

    /// The argument with this role.
    pub fn argument(&self, role: Role) -> Option<(usize, u64)> {
        let index = self.roles().iter().position(|&own| own == role)?;
        self.bug_check.parameters.get(index).map(|&value| (index, value))
    }
}

impl Bytes for Memory<'_> {
    fn read(&self, va: Va, buffer: &mut [u8]) -> usize {
        self.read_some(va, buffer).map_or(0, |(done, _)| done)
    }
}

/// Reads the crash.
pub fn read(session: &Session<'_>, bug_check: BugCheck) -> Crash {
    let (target, memory) = (session.target(), session.memory());
    let info = target.info();
    let mut crash = Crash {
        machine: target.machine(),
        pointer_size: target.pointer_size(),
        build: info.build,
        bug_check,
        modules: target.modules().collect(),
        unloaded: target.unloaded_modules().collect(),
        raised: None,
        context: None,
        trap_frame: None,
        irql: None,
        process: None,
        thread: (info.current_thread != 0).then_some(Va(info.current_thread)),
        walked: Vec::new(),
        stack_starts: Vec::new(),
        stack: Vec::new(),
        frames: Vec::new(),
        led: Vec::new(),
        texts: [const { None }; 4],
        missing: Vec::new(),
    };
    crash.modules.sort_by_key(|module| module.base);
    read_arguments(&mut crash, session);
    read_hung_processor(&mut crash, session);
    let (saved, header) = (named(session, registers::PROCESSOR), named(session, registers::HEADER));
    read_contexts(&mut crash, &memory, saved.as_ref(), header.as_ref());
    read_stack(&mut crash, session, saved.or(header).map(|registers| registers.sp));
    read_exception(&mut crash, session);
    crash.irql = irql(&crash, session);
    crash.process = (info.current_process != 0).then(|| process(session, Va(info.current_process)));
    crash
}

/// Follows what the arguments point at.
fn read_arguments(crash: &mut Crash, session: &Session<'_>) {
    let memory = &session.memory();
    for (index, (role, value)) in crash.roles().into_iter().zip(crash.bug_check.parameters).enumerate() {
        let va = Va(value);
        if value == 0 {
            continue;
        }
        let from = From::Argument(index);
        match role {
            Role::ExceptionRecord => {
                let bytes = memory.gather(va, 0x98);
                match machine::parse_exception(crash.pointer_size, &bytes) {
                    Some(exception) => crash.raised = Some(Raised { from, at: Some(va), exception }),
                    None => missing(crash, memory, "exception record", index, va),
                }
            }
            Role::Context => match machine::parse_context(crash.machine, &memory.gather(va, RECORD_BYTES)) {
                Some(registers) => {
                    let is_trap_frame = false;
                    crash.context = Some(Context { from, at: Some(va), is_trap_frame, registers });
                }
                None => missing(crash, memory, "context record", index, va),
            },
            Role::TrapFrame => {
                match machine::parse_trap_frame(crash.machine, va, &memory.gather(va, RECORD_BYTES)) {
                    Some(registers) => {
                        let is_trap_frame = true;
                        crash.trap_frame = Some(Context { from, at: Some(va), is_trap_frame, registers });
                    }
                    None => missing(crash, memory, "trap frame", index, va),
                }
            }
            Role::Device | Role::Driver | Role::Irp => {
                let led = lead(crash, memory, role, index, va);
                crash.led.extend(led);
            }
            Role::Process => {
                let name = process(session, va).name;
                if let (false, Some(text)) = (name.is_empty(), crash.texts.get_mut(index)) {
                    *text = Some(name);
                }
            }
            Role::AnsiText | Role::DriverName => {
                if let Some(text) = crash.texts.get_mut(index) {
                    *text = text_at(memory, va, crash.pointer_size);
                }
            }
            _ => {}
        }
    }
}

/// The registers of a processor that hangs, as its KPRCB keeps them.
fn read_hung_processor(crash: &mut Crash, session: &Session<'_>) {
    let Some((index, prcb)) = crash.argument(Role::Prcb).filter(|&(_, prcb)| prcb != 0) else { return };
    let (target, memory) = (session.target(), session.memory());
    let at = match target.kd_data_offset(KD_PRCB_CONTEXT) {
        Some(offset) => memory.pointer(Va(prcb).add(offset)).ok(),
        None => target.kd_data_offset(KD_PRCB_PROC_STATE).map(|offset| Va(prcb).add(offset)),
    };
    let Some(at) = at.filter(|at| !at.is_null()) else {
        crash
            .missing
            .push(format!("registers of the processor in Arg{}: not captured in this dump", index + 1));
        return;
    };
    match machine::parse_context(crash.machine, &memory.gather(at, RECORD_BYTES)) {
        Some(registers) => {
            let (from, is_trap_frame) = (From::Processor(index), false);
            crash.context = Some(Context { from, at: Some(at), is_trap_frame, registers });
        }
        None => missing(crash, &memory, "registers of the processor", index, at),
    }
}

/// Notes that a record could not be used, and which of the four reasons it was.
fn missing(crash: &mut Crash, memory: &Memory<'_>, what: &str, index: usize, va: Va) {
    let why = match memory.u64(va) {
        Err(Error::Unreadable { why, .. }) => why.to_string(),
        Err(error) => error.to_string(),
        Ok(_) => "what stands there is not one".to_owned(),
    };
    let shown = va.show(crash.pointer_size);
    crash.missing.push(format!("{what} in Arg{} ({shown}): {why}", index + 1));
}

/// A register set the host knows by name.
fn named(session: &Session<'_>, set: u32) -> Option<Registers> {
    let target = session.target();
    let (ip, sp) = (target.instruction_pointer(set).ok()?, target.stack_pointer(set).ok()?);
    let values = machine::register_names(target.machine())
        .filter_map(|name| target.register(set, name).ok().map(|value| (name, value)))
        .collect();
    (!ip.is_null() || !sp.is_null()).then_some(Registers { ip, sp, values })
}

/// Chooses the registers at the fault.
fn read_contexts(
    crash: &mut Crash,
    memory: &dyn Bytes,
    saved: Option<&Registers>,
    header: Option<&Registers>,
) {
    // Trap frames stand above the lowest stack pointer that is known.
    let low = saved.or(header).map(|registers| registers.sp);
    let lowest = low.map(|sp| (sp, memory.gather(sp, STACK_BYTES)));
    if let Some((sp, bytes)) = &lowest {
        crash.frames = stack::trap_frames(memory, crash.machine, *sp, bytes);
    }
    let ip = crash.argument(Role::Ip).map(|(_, value)| Va(value)).filter(|ip| !ip.is_null());
    if crash.trap_frame.is_none() {
        let hit = crash.frames.iter().find(|frame| Some(frame.registers.ip) == ip);
        crash.trap_frame = hit.map(|frame| Context {
            from: From::Stack,
            at: Some(frame.at),
            is_trap_frame: true,
            registers: frame.registers.clone(),
        });
    }
    if crash.context.is_none() {
        crash.context = crash.trap_frame.clone();
    }
    if crash.context.is_none() {
        let at_fault = header.filter(|registers| ip.is_none() || ip == Some(registers.ip));
        let (from, registers) = match (at_fault, saved) {
            (Some(registers), _) => (From::Header, Some(registers)),
            (None, Some(registers)) => (From::Saved, Some(registers)),
            (None, None) => (From::Header, header),
        };
        let of = |registers: &Registers| Context {
            from,
            at: None,
            is_trap_frame: false,
            registers: registers.clone(),
        };
        crash.context = registers.map(of);
    }
    if let (None, Some((sp, bytes)), Some(ip)) = (&crash.raised, &lowest, ip) {
        let code = crash.argument(Role::Status).map_or(0, |(_, value)| value as u32);
        if let Some((at, exception)) = stack::find_exception(crash.pointer_size, *sp, bytes, code, ip) {
            crash.raised = Some(Raised { from: From::Stack, at: Some(at), exception });
        }
    }
}

/// The most frames that are walked.
const MOST_FRAMES: u32 = 256;

/// The stack at the fault: its frames as far as they can be unwound, and from there on words that may be return
/// addresses. `low` is the lowest stack pointer that is known.
fn read_stack(crash: &mut Crash, session: &Session<'_>, low: Option<Va>) {
    let memory = session.memory();
    let frames = crash.context.as_ref().and_then(|context| {
        let stack = session.stack(at_fault(context, session.target().info().current_processor));
        stack.frames(MOST_FRAMES).ok()
    });
    let frames = frames.unwrap_or_default();
    let certain = stack::certain(&frames);
    let sp = crash.context.as_ref().map(|context| context.registers.sp);
    if let Some(last) = certain.last().filter(|_| stack::caller(certain).is_some()) {
        crash.stack = stack::places(&crash.modules, crash.pointer_size, certain);
        crash.walked = certain.to_vec();
        if certain.len() == frames.len() && last.missing.is_empty() {
            return;
        }
        scan(crash, &memory, last.sp);
    } else if !sp.is_some_and(|sp| scan(crash, &memory, sp)) && low != sp {
        low.map(|sp| scan(crash, &memory, sp));
    }
    // Where the fault itself is not known, what was interrupted matters.
    let interrupted = crash.frames.iter().find(|frame| frame.linked).map(|frame| &frame.registers);
    let ip = crash.argument(Role::Ip).filter(|&(_, ip)| ip != 0);
    let known = crash.context.as_ref().is_some_and(|context| context.at.is_some()) || ip.is_some();
    let walked = |ip: Va| crash.walked.iter().any(|frame| frame.ip == ip);
    if let Some(sp) = interrupted.filter(|own| !known && !walked(own.ip)).map(|own| own.sp) {
        scan(crash, &memory, sp);
    }
}

/// A context as the host knows it.
fn at_fault(context: &Context, processor: u32) -> stacks::Context {
    match (context.from, context.at) {
        (From::Header, _) => stacks::Context::Header,
        (From::Stack, Some(at)) => stacks::Context::TrapFrame(at),
        (From::Argument(_), Some(at)) if context.is_trap_frame => stacks::Context::TrapFrame(at),
        (_, Some(at)) => stacks::Context::Record(at),
        (_, None) => stacks::Context::Processor(processor),
    }
}

/// Adds the candidates of one stack; false where the dump does not hold it.
fn scan(crash: &mut Crash, memory: &dyn Bytes, sp: Va) -> bool {
    let bytes = memory.gather(sp, STACK_BYTES);
    if bytes.len() < crash.pointer_size as usize {
        return false;
    }
    crash.stack_starts.push((sp, bytes.len()));
    let found = stack::candidates(memory, crash.machine, crash.pointer_size, &crash.modules, sp, &bytes);
    crash.stack.extend(found);
    true
}

/// The dump's own exception record, unless an argument led to one. Crash dumps carry a breakpoint at the place where
/// the machine stopped; that one says nothing.
fn read_exception(crash: &mut Crash, session: &Session<'_>) {
    if crash.raised.is_some() {
        return;
    }
    let Some(info) = session.target().exception() else { return };
    if info.code == 0 || (status::is_breakpoint(info.code) && crash.bug_check.raw_code != 0) {
        return;
    }
    let parameters = info.parameters.iter().take(info.parameter_count.min(15) as usize).copied().collect();
    let exception = Exception { code: info.code, flags: info.flags, address: Va(info.address), parameters };
    crash.raised = Some(Raised { from: From::Header, at: None, exception });
}

/// The interrupt level: an argument where the code has one, else what the processor saved.
fn irql(crash: &Crash, session: &Session<'_>) -> Option<(u64, String)> {
    if let Some((index, value)) = crash.argument(Role::Irql) {
        return (value <= 0xff).then(|| (value, format!("Arg{}", index + 1)));
    }
    if crash.machine != Machine::X64 {
        return None;
    }
    let level = session.target().register(registers::PROCESSOR, "cr8").ok()?;
    (level <= 15).then(|| (level, "cr8 as the crashing processor saved it".to_owned()))
}
