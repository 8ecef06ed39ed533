//! The verbose form of `!analyze`: KD's fields in KD's order.

use crate::findings::{Findings, Who, exception_access, image};
use crate::model::{Context, Crash, From};
use crate::print::{banner, culprit_data, followup, heading, key_value, place};
use crate::roles::{Nature, nature};
use crate::stack::{Bytes, Candidate};
use crate::status;
use kd_sdk::output::Style;
use kd_sdk::prelude::*;
use kd_sdk::target::Machine;

/// Candidates of scanned stacks shown.
const SHOWN: usize = 40;

/// The verbose form.
pub fn verbose(session: &Session<'_>, crash: &Crash, findings: &Findings) {
    let out = session.out();
    let show = |va: Va| va.show(crash.pointer_size).to_string();
    let name = |va: Va| place(session, crash, va);
    banner(&out);
    heading(&out, crash.bug_check, 4, crash.pointer_size);
    out.end_line();
    out.line("Debugging Details:");
    out.line("------------------");
    out.end_line();
    for text in &crash.missing {
        out.line(&format!("Not used: {text}"));
    }
    if !crash.missing.is_empty() {
        out.end_line();
    }
    out.list("missing", |out| {
        for text in &crash.missing {
            out.data("", Value::Text(text));
        }
    });

    if let Some((kind, va)) = findings.access {
        let place = match crash.module_at(va) {
            Some(_) => format!("{} {}", show(va), name(va)),
            None => show(va),
        };
        out.record("access", |out| {
            out.data("kind", Value::Text(kind.word()));
            out.data("address", Value::Hex(va.0));
        });
        key_value(&out, kind.label(), &place);
    }
    match &crash.irql {
        Some((level, source)) => {
            out.text("CURRENT_IRQL:  ");
            out.field("irql", Value::UInt(*level), &format!("{level:x}"));
            out.line(&format!(" ({source})"));
            out.end_line();
        }
        None => out.data("irql", Value::Null),
    }
    match &findings.faulting_ip {
        Some((ip, source)) => {
            out.line(&format!("FAULTING_IP: ({source})"));
            out.line(&name(*ip));
            out.field("faulting_ip", Value::Hex(ip.0), "");
            out.line(&instruction(session, crash, *ip));
            out.end_line();
            if crash.module_at(*ip).is_none() {
                key_value(&out, "FAILED_INSTRUCTION_ADDRESS", &show(*ip));
            }
        }
        None => out.data("faulting_ip", Value::Null),
    }
    exception(&out, crash, &name);
    if let Some(context) = crash.context.as_ref().filter(|context| context.at.is_some()) {
        let frame = crash.trap_frame.as_ref() == Some(context);
        let (label, command) = if frame { ("TRAP_FRAME", ".trap") } else { ("CONTEXT", ".cxr") };
        registers(&out, crash, context, label, command, &name);
    }
    if let Some(frame) = crash.trap_frame.as_ref().filter(|frame| crash.context.as_ref() != Some(frame)) {
        let of = |context: &Context| (context.registers.ip, context.registers.sp);
        match frame.at {
            // The same moment: its registers are above already.
            Some(at) if crash.context.as_ref().map(of) == Some(of(frame)) => {
                key_value(&out, "TRAP_FRAME", &format!("{} -- (.trap 0x{:x})  same place", show(at), at.0));
            }
            _ => registers(&out, crash, frame, "TRAP_FRAME", ".trap", &name),
        }
    }
    if let Some(context) = crash.context.as_ref().filter(|context| context.at.is_none()) {
        registers(&out, crash, context, "REGISTERS", "", &name);
    }
    key_value(&out, "BUGCHECK_STR", &format!("0x{:X}", crash.bug_check.code()));
    key_value(&out, "DEFAULT_BUCKET_ID", default_bucket(crash.build));
    process(&out, crash, &show);
    stack(&out, crash, &show, &name);
    if let Some((context, at)) = crash.context.as_ref().and_then(|context| Some((context, context.at?))) {
        let command = if crash.trap_frame.as_ref() == Some(context) { ".trap" } else { ".cxr" };
        key_value(&out, "STACK_COMMAND", &format!("{command} 0x{:x} ; kb", at.0));
    }
    blame(session, &out, crash, findings);
    culprit_data(&out, crash, findings, true);
    out.text("FAILURE_BUCKET_ID:  ");
    out.name("bucket", &findings.bucket);
    out.end_line();
    out.end_line();
    followup(&out, crash, findings);
}

/// The family of buckets, by the age of the system.
fn default_bucket(build: u32) -> &'static str {
    match build {
        9200.. => "WIN8_DRIVER_FAULT",
        7600.. => "WIN7_DRIVER_FAULT",
        6000.. => "VISTA_DRIVER_FAULT",
        _ => "DRIVER_FAULT",
    }
}

/// One instruction as `u` shows it, or its bytes, or why neither is there.
fn instruction(session: &Session<'_>, crash: &Crash, ip: Va) -> String {
    let shown = ip.show(crash.pointer_size);
    let memory = session.memory();
    if let Err(error) = memory.u8(ip) {
        return match error {
            Error::Unreadable { why, .. } => format!("{shown} {:16}({why})", "??"),
            other => format!("{shown} {:16}({other})", "??"),
        };
    }
    if let Ok(instruction) = memory.instruction(ip) {
        return instruction.line;
    }
    let bytes = memory.gather(ip, 8);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{shown} {hex}")
}

/// The exception record, or the code that an argument gives.
fn exception(out: &Out<'_>, crash: &Crash, name: &dyn Fn(Va) -> String) {
    let stated = crash.argument(crate::roles::Role::Status).map(|(_, value)| value as u32);
    let Some(raised) = &crash.raised else {
        match stated {
            Some(code) => out.record("exception", |out| {
                let (symbol, meaning) = status::describe(code).unwrap_or(("", "no name known"));
                out.text("EXCEPTION_CODE: (NTSTATUS) ");
                out.field("code", Value::Hex(code.into()), &format!("0x{code:x}"));
                out.data("name", if symbol.is_empty() { Value::Null } else { Value::Text(symbol) });
                out.line(&format!(" {symbol} - {meaning}"));
                out.end_line();
            }),
            None => out.data("exception", Value::Null),
        }
        return;
    };
    let exception = &raised.exception;
    let show = |va: Va| va.show(crash.pointer_size).to_string();
    out.record("exception", |out| {
        match raised.at {
            Some(at) if raised.from == From::Stack => out.line(&format!(
                "EXCEPTION_RECORD:  {} -- (.exr 0x{:x})  found on the stack by its shape",
                show(at),
                at.0
            )),
            Some(at) => out.line(&format!("EXCEPTION_RECORD:  {} -- (.exr 0x{:x})", show(at), at.0)),
            None => out.line("EXCEPTION_RECORD:  in the dump's header -- (.exr -1)"),
        }
        out.text("ExceptionAddress: ");
        out.field("address", Value::Hex(exception.address.0), &show(exception.address));
        out.line(&format!(" ({})", name(exception.address)));
        let (symbol, meaning) = status::describe(exception.code).unwrap_or(("", "no name known"));
        out.text("   ExceptionCode: ");
        out.field("code", Value::Hex(exception.code.into()), &format!("{:08x}", exception.code));
        out.data("name", if symbol.is_empty() { Value::Null } else { Value::Text(symbol) });
        out.line(&format!(" ({symbol}: {meaning})"));
        out.text("  ExceptionFlags: ");
        out.field("flags", Value::Hex(exception.flags.into()), &format!("{:08x}", exception.flags));
        out.end_line();
        out.line(&format!("NumberParameters: {}", exception.parameters.len()));
        out.list("parameters", |out| {
            for (index, &value) in exception.parameters.iter().enumerate() {
                out.text(&format!("   Parameter[{index}]: "));
                let shown = Va(value).show(crash.pointer_size).to_string().replace('`', "");
                out.field("", Value::Hex(value), &shown);
                out.end_line();
            }
        });
        if let Some((kind, va)) = exception_access(exception) {
            out.line(&format!("Attempt to {} address {}", kind.word(), show(va).replace('`', "")));
        }
        out.end_line();
    });
}

/// A register set.
fn registers(
    out: &Out<'_>,
    crash: &Crash,
    context: &Context,
    label: &str,
    command: &str,
    name: &dyn Fn(Va) -> String,
) {
    let origin = match context.from {
        From::Argument(index) => format!("from Arg{}", index + 1),
        From::Processor(index) => format!("saved by the processor in Arg{}, the one that hangs", index + 1),
        From::Stack => "found on the stack by its shape".to_owned(),
        From::Header => "from the dump's header".to_owned(),
        From::Saved => "as the crashing processor saved them when it stopped".to_owned(),
    };
    match context.at {
        Some(at) => {
            let shown = at.show(crash.pointer_size);
            out.line(&format!("{label}:  {shown} -- ({command} 0x{:x})  {origin}", at.0));
        }
        None => out.line(&format!("{label}:  {origin}")),
    }
    let key = match label {
        "TRAP_FRAME" => "trap_frame",
        "CONTEXT" => "context",
        _ => "registers",
    };
    let digits = crash.pointer_size as usize * 2;
    let columns = match crash.machine {
        Machine::X86 => 6,
        Machine::X64 => 3,
        Machine::Arm64 => 4,
    };
    out.record(key, |out| {
        out.data("record", context.at.map_or(Value::Null, |at| Value::Hex(at.0)));
        for (index, &(register, value)) in context.registers.values.iter().enumerate() {
            let width = if matches!(register, "efl" | "psr") { 8 } else { digits };
            let pad = if register.len() < 3 { " " } else { "" };
            out.field(register, Value::Hex(value), &format!("{pad}{register}={value:0width$x}"));
            let last = index + 1 == context.registers.values.len();
            out.text(if last || index % columns == columns - 1 { "\n" } else { " " });
        }
        out.line(&name(context.registers.ip));
    });
    if context.from == From::Stack || label == "TRAP_FRAME" {
        out.line("A trap frame keeps the volatile registers only; the others may be stale.");
    }
    out.end_line();
}

/// The process and the thread.
fn process(out: &Out<'_>, crash: &Crash, show: &dyn Fn(Va) -> String) {
    match &crash.process {
        Some(process) => {
            out.record("process", |out| {
                out.text("PROCESS_NAME:  ");
                match process.name.as_str() {
                    "" => {
                        out.field("name", Value::Null, "(not readable)");
                    }
                    name => out.name("name", name),
                }
                out.data("address", Value::Hex(process.address.0));
                out.text(&format!("  (EPROCESS {}", show(process.address)));
                out.line(if process.by_shape && !process.name.is_empty() {
                    "; recognised in its bytes by shape, without types)"
                } else {
                    ")"
                });
                out.data("by_shape", Value::Bool(process.by_shape));
            });
            out.end_line();
        }
        None => out.data("process", Value::Null),
    }
    if let Some(thread) = crash.thread {
        out.text("FAULTING_THREAD:  ");
        out.field("thread", Value::Hex(thread.0), &show(thread));
        out.end_line();
        out.end_line();
    }
}

/// The stack: frames, and candidates where unwinding ends.
fn stack(out: &Out<'_>, crash: &Crash, show: &dyn Fn(Va) -> String, name: &dyn Fn(Va) -> String) {
    if crash.stack_starts.is_empty() && crash.walked.is_empty() {
        out.line("STACK_TEXT:  the stack is not captured in this dump");
    } else if crash.walked.is_empty() {
        out.line("STACK_TEXT:  candidates found by scanning, not unwound frames");
    } else {
        out.line("STACK_TEXT:  ");
        frames(out, crash, show);
    }
    if !crash.stack_starts.is_empty() {
        if let Some(last) = crash.walked.last() {
            let why = if last.missing.is_empty() { "its caller cannot be one" } else { &last.missing };
            out.line(&format!(
                "Unwinding ends here: {why}. What follows are candidates found by scanning, not frames."
            ));
        }
        for (sp, bytes) in &crash.stack_starts {
            out.line(&format!("({bytes:#x} bytes from {})", show(*sp)));
        }
        out.line("(* follows a call instruction; blank: could not be checked; ? aligned like a function or variable)");
    }
    let scanned: Vec<&Candidate> = crash.stack.iter().filter(|slot| slot.frame.is_none()).collect();
    out.list("stack", |out| {
        for slot in scanned.iter().take(SHOWN) {
            out.record("", |out| {
                out.field("at", Value::Hex(slot.at.0), &show(slot.at));
                out.text(" ");
                out.field("value", Value::Hex(slot.value.0), &show(slot.value));
                let mark = match slot {
                    Candidate { checked: true, .. } => " * ",
                    Candidate { weak: true, .. } => " ? ",
                    _ => "   ",
                };
                out.field("checked", Value::Bool(slot.checked), mark);
                out.data("weak", Value::Bool(slot.weak));
                let symbol = name(slot.value);
                out.styled_field("symbol", Value::Text(&symbol), Style::Symbol, &symbol);
                out.end_line();
            });
        }
    });
    if let Some(more) = scanned.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        out.line(&format!("({more} more)"));
    }
    out.end_line();
    for frame in crash.frames.iter().take(4) {
        if crash.trap_frame.as_ref().and_then(|known| known.at) != Some(frame.at) {
            let ip = name(frame.registers.ip);
            let stack = if frame.linked { "on another stack" } else { "on this stack" };
            out.line(&format!("Trap frame {stack}, by its shape: {} interrupted at {ip}", show(frame.at)));
        }
    }
    if crash.frames.len() > 1 {
        out.end_line();
    }
}

/// The columns of a call in line, which has no frame of its own.
const INLINE: &str = "(Inline Function) --------`-------- : --------`-------- --------`-------- --------`-------- --------`-------- : ";
const INLINE_X86: &str = "(Inline) -------- -------- -------- -------- ";

/// The unwound frames, in the columns of `kb` but with both addresses, as KD has them here. In JSON `frames`, as of `k`.
fn frames(out: &Out<'_>, crash: &Crash, show: &dyn Fn(Va) -> String) {
    let wide = crash.pointer_size == 8;
    let unknown = if wide { "????????`????????" } else { "????????" };
    out.list("frames", |out| {
        for (number, frame) in crash.walked.iter().enumerate() {
            out.record("", |out| {
                let at = if wide { frame.sp } else { frame.fp };
                out.data("number", Value::UInt(number as u64));
                out.data("inlined", Value::Bool(frame.inline));
                out.data("ip", Value::Hex(frame.ip.0));
                if frame.inline {
                    out.text(if wide { INLINE } else { INLINE_X86 });
                    out.styled_field("symbol", Value::Text(&frame.site), Style::Symbol, &frame.site);
                    out.end_line();
                    return;
                }
                out.field("child_sp", Value::Hex(at.0), &show(at));
                out.text(" ");
                out.field("return_address", Value::Hex(frame.return_address.0), &show(frame.return_address));
                out.text(if wide { " : " } else { " " });
                out.list("arguments", |out| {
                    for argument in frame.arguments.iter().take(if wide { 4 } else { 3 }) {
                        match argument {
                            Some(value) => out.field("", Value::Hex(*value), &show(Va(*value))),
                            None => out.field("", Value::Null, unknown),
                        }
                        out.text(" ");
                    }
                });
                out.text(if wide { ": " } else { "" });
                out.styled_field("symbol", Value::Text(&frame.site), Style::Symbol, &frame.site);
                out.end_line();
            });
        }
    });
}

/// The fields that name the module.
fn blame(session: &Session<'_>, out: &Out<'_>, crash: &Crash, findings: &Findings) {
    let Some(culprit) = &findings.culprit else { return };
    if let Some(at) = culprit.at {
        key_value(out, "SYMBOL_NAME", &place(session, crash, at));
    }
    match culprit.who {
        Who::Loaded(index) => {
            let Some(module) = crash.modules.get(index) else { return };
            out.line(&format!("MODULE_NAME: {}", module.name));
            out.end_line();
            key_value(out, "IMAGE_NAME", &module.image);
            key_value(out, "DEBUG_FLR_IMAGE_TIMESTAMP", &format!("{:x}", module.time_stamp));
        }
        Who::Unloaded(_) => {
            key_value(out, "IMAGE_NAME", &format!("{} (unloaded)", image(crash, culprit.who)));
        }
    }
    if nature(crash.bug_check.code()) == Nature::Corruption {
        out.line("The stack shows who met the damage, not who did it.");
        out.end_line();
    }
}
