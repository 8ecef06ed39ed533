//! `!pcr`, `!prcb`, `!irql`: control region, control block, interrupt level.

use kd_sdk::args::Args;
use kd_sdk::nt::kernel::Record;
use kd_sdk::nt::processor::{Processor, check, irql_name};
use kd_sdk::nt::timer::Timers;
use kd_sdk::prelude::*;

/// A line: label, name for programs, the field under its names.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// What a region of x86 begins with; on x64 the same bytes are something else.
const TIB: [Row; 7] = [
    ("NtTib.ExceptionList", "exception_list", &["NtTib.ExceptionList"]),
    ("NtTib.StackBase", "stack_base", &["NtTib.StackBase"]),
    ("NtTib.StackLimit", "stack_limit", &["NtTib.StackLimit"]),
    ("NtTib.SubSystemTib", "sub_system_tib", &["NtTib.SubSystemTib"]),
    ("NtTib.Version", "version", &["NtTib.Version", "NtTib.FiberData"]),
    ("NtTib.UserPointer", "user_pointer", &["NtTib.ArbitraryUserPointer"]),
    ("NtTib.SelfTib", "self_tib", &["NtTib.Self"]),
];
const REGION: [Row; 10] = [
    ("SelfPcr", "self_pcr", &["SelfPcr", "Self"]),
    ("Prcb", "current_prcb", &["CurrentPrcb"]),
    ("Irql", "irql", &["Irql"]),
    ("IRR", "irr", &["IRR"]),
    ("IDR", "idr", &["IDR"]),
    ("InterruptMode", "interrupt_mode", &["InterruptMode"]),
    ("IDT", "idt", &["IDT", "IdtBase"]),
    ("GDT", "gdt", &["GDT", "GdtBase"]),
    ("TSS", "tss", &["TSS", "TssBase"]),
    ("UserRsp", "user_rsp", &["UserRsp"]),
];
const THREADS: [Row; 3] = [
    ("CurrentThread", "current_thread", &["CurrentThread"]),
    ("NextThread", "next_thread", &["NextThread"]),
    ("IdleThread", "idle_thread", &["IdleThread"]),
];

/// The processor that an argument names: its number, `otherwise` without one.
pub fn number(session: &Session<'_>, args: &str, otherwise: u32) -> Result<u32> {
    let mut args = Args::new(args);
    let number = args.word().map_or(Ok(u64::from(otherwise)), |text| session.evaluate(text))?;
    args.finish()?;
    check(session, number)
}

/// An address or number in as many digits as a pointer has.
fn digits(session: &Session<'_>, value: u64) -> String {
    if session.target().pointer_size() == 4 { format!("{value:08x}") } else { format!("{value:016x}") }
}

/// Lines of fields that this kernel has; those that cannot be read say why.
fn rows(session: &Session<'_>, out: &Out<'_>, record: &Record<'_>, rows: &[Row]) -> Result<()> {
    for &(label, key, paths) in rows {
        if !paths.iter().any(|path| record.has(path)) {
            continue;
        }
        out.text(&format!("{label:>25}: "));
        match record.first(paths) {
            Ok(value) => out.field(key, Value::Hex(value), &digits(session, value)),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => out.field(key, Value::Null, &format!("({error})")),
        }
        out.end_line();
    }
    Ok(())
}

/// Runs `!pcr`.
pub fn pcr(session: &Session<'_>, args: &str) -> Result<()> {
    let number = number(session, args, session.target().info().current_processor)?;
    let processor = Processor::new(session, number)?;
    let out = session.out();
    out.data("processor", Value::UInt(number.into()));
    let at = processor.pcr.map_or_else(|| "?".to_owned(), |at| digits(session, at.0));
    out.text(&format!("KPCR for Processor {number:x} at "));
    out.field("pcr", processor.pcr.map_or(Value::Null, |at| Value::Hex(at.0)), &at);
    out.line(":");
    match processor.region() {
        Ok(region) => {
            if let (Ok(major), Ok(minor)) = (region.u64("MajorVersion"), region.u64("MinorVersion")) {
                out.field("major", Value::UInt(major), &format!("    Major {major}"));
                out.field("minor", Value::UInt(minor), &format!(" Minor {minor}"));
                out.end_line();
            }
            if session.target().pointer_size() == 4 {
                rows(session, &out, &region, &TIB)?;
                out.end_line();
            }
            rows(session, &out, &region, &REGION)?;
        }
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => out.warning(&format!("the control region: {error}")),
    }
    out.data("prcb", Value::Hex(processor.prcb.0));
    out.end_line();
    match processor.block() {
        Ok(block) => rows(session, &out, &block, &THREADS)?,
        Err(error) => told(session, &out, number, error)?,
    }
    out.end_line();
    calls(session, &out, processor.prcb)
}

/// What the debugger data block tells where the kernel's types are not known.
fn told(session: &Session<'_>, out: &Out<'_>, number: u32, error: Error) -> Result<()> {
    let thread = session.target().processor(number).map_or(0, |processor| processor.current_thread);
    if error == Error::Interrupted || thread == 0 {
        return Err(error);
    }
    out.text(&format!("{:>25}: ", "CurrentThread"));
    out.field("current_thread", Value::Hex(thread), &digits(session, thread));
    out.end_line();
    out.warning(&format!("no more of the control block: {error}"));
    Ok(())
}

fn calls(session: &Session<'_>, out: &Out<'_>, prcb: Va) -> Result<()> {
    let queued = Timers::new(session).and_then(|timers| timers.queued(prcb));
    let label = format!("{:>25}: ", "DpcQueue");
    let (found, wrong) = match queued {
        Ok(queued) => queued,
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => {
            out.line(&format!("{label}({error})"));
            return Ok(());
        }
    };
    if found.is_empty() && wrong.is_empty() {
        out.line(label.trim_end());
    }
    out.list("dpc_queue", |out| {
        for (index, call) in found.iter().enumerate() {
            out.record("", |out| {
                out.text(if index == 0 { &label } else { "                           " });
                out.field("dpc", Value::Hex(call.at.0), &format!("0x{} ", digits(session, call.at.0)));
                out.field(
                    "routine",
                    Value::Hex(call.routine.0),
                    &format!("0x{} ", digits(session, call.routine.0)),
                );
                if let Some(name) = session.symbols().name(call.routine) {
                    out.name("symbol", &name);
                }
                out.end_line();
            });
        }
    });
    wrong.iter().for_each(|wrong| out.warning(&format!("the queue of deferred calls: {wrong}")));
    Ok(())
}

/// Runs `!prcb`.
pub fn prcb(session: &Session<'_>, args: &str) -> Result<()> {
    let number = number(session, args, 0)?;
    let processor = Processor::new(session, number)?;
    let out = session.out();
    out.data("processor", Value::UInt(number.into()));
    out.text(&format!("PRCB for Processor {number:x} at "));
    out.field("prcb", Value::Hex(processor.prcb.0), &digits(session, processor.prcb.0));
    out.line(":");
    let block = match processor.block() {
        Ok(block) => block,
        Err(error) => return told(session, &out, number, error),
    };
    let mut absent = None;
    let mut field = |label: &str, key: &str, paths: &[&str], show: &dyn Fn(u64) -> String| {
        if !paths.iter().any(|path| block.has(path)) {
            return;
        }
        match block.first(paths) {
            Ok(value) => out.field(key, Value::Hex(value), &format!("{label} {}", show(value))),
            Err(error) => {
                out.field(key, Value::Null, &format!("{label} ????????"));
                absent.get_or_insert(error);
            }
        }
    };
    let pointer = |value: u64| digits(session, value);
    let long = |value: u64| format!("{value:08x}");
    field("Threads--  Current", "current_thread", &["CurrentThread"], &pointer);
    field(" Next", "next_thread", &["NextThread"], &pointer);
    field(" Idle", "idle_thread", &["IdleThread"], &pointer);
    out.end_line();
    field("Number", "number", &["Number"], &|value| format!("{value:x}"));
    field(" SetMember", "set_member", &["SetMember", "GroupSetMember"], &long);
    out.end_line();
    field("Interrupt Count --", "interrupt_count", &["InterruptCount"], &long);
    out.end_line();
    field("Times -- Dpc   ", "dpc_time", &["DpcTime"], &long);
    field(" Interrupt", "interrupt_time", &["InterruptTime"], &long);
    out.end_line();
    field("         Kernel", "kernel_time", &["KernelTime"], &long);
    field(" User     ", "user_time", &["UserTime"], &long);
    out.end_line();
    match absent {
        Some(Error::Interrupted) => Err(Error::Interrupted),
        Some(error) => {
            out.warning(&format!("????????: {error}"));
            Ok(())
        }
        None => Ok(()),
    }
}

/// Runs `!irql`.
pub fn irql(session: &Session<'_>, args: &str) -> Result<()> {
    let number = number(session, args, session.target().info().current_processor)?;
    let processor = Processor::new(session, number)?;
    let block = processor.block()?;
    let out = session.out();
    let saved = block.has("DebuggerSavedIRQL");
    let (irql, what) = if saved {
        (block.u64("DebuggerSavedIRQL")?, "Debugger saved IRQL for processor")
    } else {
        // Before Windows Server 2003 only the level of the moment is kept.
        let region = processor.region()?;
        if !region.has("Irql") {
            return Err(Error::Unsupported(
                "this kernel's symbols tell of no place where the level was kept".to_owned(),
            ));
        }
        (region.u64("Irql")?, "IRQL when the dump was made, on processor")
    };
    let name = irql_name(session.target().machine(), irql);
    out.data("processor", Value::UInt(number.into()));
    out.data("saved", Value::Bool(saved));
    out.text(&format!("{what} {number:#x} -- "));
    out.field("irql", Value::UInt(irql), &irql.to_string());
    out.field("name", Value::Text(name), &format!(" ({name})"));
    out.end_line();
    Ok(())
}
