//! `!address`: what a kernel address lies in.

use kd_sdk::address::PAGE_SIZE;
use kd_sdk::nt::kernel::Kernel;
use kd_sdk::nt::process::{self, Process};
use kd_sdk::nt::region::{self, Owner};
use kd_sdk::nt::vad;
use kd_sdk::prelude::*;

fn row(out: &Out<'_>, label: &str, key: &str, value: Value<'_>, shown: &str) {
    out.text(&format!("{label:<24}"));
    out.field(key, value, shown);
    out.end_line();
}

fn bounds(session: &Session<'_>, out: &Out<'_>, start: Va, last: Va) {
    let target = session.target();
    // KD's end is the byte after the last.
    let end = Va(last.0.wrapping_add(1));
    let size = Va(end.0.wrapping_sub(start.0));
    row(out, "Base Address:", "start", Value::Hex(start.0), &target.show(start));
    row(out, "End Address:", "end", Value::Hex(end.0), &target.show(end));
    row(out, "Region Size:", "size", Value::Hex(size.0), &target.show(size));
}

/// Runs the command.
pub fn address(session: &Session<'_>, args: &str) -> Result<()> {
    if args.trim().is_empty() {
        return Err(Error::Usage(
            "!address needs a kernel address; all regions at once are not shown".to_owned(),
        ));
    }
    let va = Va(session.evaluate(args)?);
    let (out, target) = (session.out(), session.target());
    out.data("va", Value::Hex(va.0));
    if !target.is_kernel(va) {
        return program(session, &out, va);
    }
    let Some(found) = region::at(session, va)? else {
        return Err(Error::NotFound(format!(
            "nothing in this dump tells what {} lies in: it is in no module and on no stack that is known, and the \
             memory manager's notes of its address space are not there",
            target.show(va)
        )));
    };
    row(&out, "Usage:", "usage", Value::Text(found.usage.name()), found.usage.name());
    bounds(session, &out, found.start, found.last);
    if let Some(kind) = &found.va_type {
        row(&out, "VA Type:", "va_type", Value::Text(kind), kind);
    }
    match &found.owner {
        Owner::Nobody => {}
        Owner::Module(image, path) => {
            row(&out, "Module name:", "module", Value::Text(image), image);
            row(&out, "Module path:", "path", Value::Text(path), &format!("[{path}]"));
        }
        Owner::Thread(thread) => row(&out, "Thread:", "thread", Value::Hex(thread.0), &target.show(*thread)),
        Owner::Processor(number) => {
            row(&out, "Processor:", "processor", Value::UInt(u64::from(*number)), &number.to_string());
        }
    }
    Ok(())
}

/// An address of the program that the user looks at: what its descriptors say.
fn program(session: &Session<'_>, out: &Out<'_>, va: Va) -> Result<()> {
    let kernel = Kernel::new(session);
    let process = Process::read(&kernel, process::current(&kernel)?)?;
    let mut found = None;
    vad::each(&kernel, vad::root(&process)?, &mut |one| {
        if (one.start..=one.end).contains(&(va.0 / PAGE_SIZE)) {
            found = Some(one);
        }
        Ok(())
    })?;
    let Some(found) = found else {
        return Err(Error::NotFound(format!(
            "{} is free: the process at {} has no range there",
            session.target().show(va),
            session.target().show(process.at)
        )));
    };
    row(out, "Usage:", "usage", Value::Text("Program"), found.kind.name().trim());
    let page = |number: u64| number.saturating_mul(PAGE_SIZE);
    bounds(session, out, Va(page(found.start)), Va(page(found.end) | (PAGE_SIZE - 1)));
    row(out, "Process:", "process", Value::Hex(process.at.0), &session.target().show(process.at));
    row(out, "VAD:", "vad", Value::Hex(found.at.0), &session.target().show(found.at));
    let protection = vad::protection_name(found.protection);
    row(out, "Protect:", "protection", Value::Text(&protection), &protection);
    if let Ok(file) = found.file.as_ref()
        && !file.is_empty()
    {
        row(out, "File:", "file", Value::Text(file), file);
    }
    Ok(())
}
