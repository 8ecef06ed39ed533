//! `!running`: what each processor runs, and is about to run.

use crate::page::Page;
use crate::trace;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::kernel::Record;
use kd_sdk::nt::process::Process;
use kd_sdk::nt::thread::Thread;
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// Queued spin locks that have a letter.
const LOCKS: usize = 16;

/// `!running [-i] [-t]`.
pub fn running(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let mut args = Args::new(args);
    let (mut idle, mut stacks) = (false, false);
    while let Some(option) = args.option() {
        for letter in option.chars() {
            match letter {
                'i' => idle = true,
                't' => stacks = true,
                _ => return Err(Error::Usage(format!("!running has no option -{letter}"))),
            }
        }
    }
    args.finish()?;
    let (out, count) = (page.out, session.target().info().processors);
    let mut processors = Vec::new();
    for number in 0..count {
        session.check_interrupt()?;
        let prcb = session.target().processor(number).map_or(0, |processor| processor.prcb);
        match page.kernel.read("_KPRCB", Va(prcb)) {
            Ok(record) => processors.push((number, record)),
            Err(error @ Error::Unreadable { .. }) => {
                out.warning(&format!("processor {number}: the PRCB: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    let mask = |numbers: &mut dyn Iterator<Item = u32>| {
        numbers.filter(|number| *number < 64).fold(0u64, |mask, number| mask | 1 << number)
    };
    let all = mask(&mut (0..count));
    let idle_ones = processors.iter().filter(|(_, record)| is_idle(record));
    let idles = mask(&mut idle_ones.map(|(number, _)| *number));
    let width = 2 * page.kernel.pointer_size() as usize;
    out.field("processors", Value::Hex(all), &format!("System Processors:  ({all:0width$x})"));
    out.end_line();
    out.field("idle_processors", Value::Hex(idles), &format!("  Idle Processors:  ({idles:0width$x})"));
    out.end_line();
    out.end_line();
    let columns = format!(
        "{:5}{:width$}  {:width$}  {:4}  {:width$}  {:4}",
        "", "Prcb", "Current", "Pri", "Next", "Pri"
    );
    out.styled(Style::Heading, &columns);
    out.end_line();
    out.list("running", |_| {
        for (number, record) in &processors {
            session.check_interrupt()?;
            if idle || !is_idle(record) {
                row(&page, *number, record, stacks)?;
            }
        }
        Ok::<(), Error>(())
    })?;
    if !idle && all == idles {
        out.line("All processors are idle (-i shows them).");
    }
    Ok(())
}

fn is_idle(record: &Record<'_>) -> bool {
    let thread = |path: &str| record.u64(path).ok();
    thread("CurrentThread").is_some() && thread("CurrentThread") == thread("IdleThread")
}

fn row(page: &Page<'_>, number: u32, record: &Record<'_>, stacks: bool) -> Result<()> {
    let out = page.out;
    out.record("", |_| {
        out.field("number", Value::UInt(number.into()), &format!("{number:3x}  "));
        page.link("prcb", record.va, "dt nt!_KPRCB {}");
        let mut current = None;
        for (path, keys) in
            [("CurrentThread", ("current", "current_priority")), ("NextThread", ("next", "next_priority"))]
        {
            out.text("  ");
            let at = record.pointer(path);
            match &at {
                Ok(at) if at.is_null() => {
                    let blank = " ".repeat(2 * page.kernel.pointer_size() as usize + 6);
                    out.field(keys.0, Value::Null, &blank);
                    continue;
                }
                at => page.link_or(keys.0, at, "!thread {}"),
            }
            let thread = at.and_then(|at| Thread::read(&page.kernel, at));
            let priority = thread.as_ref().ok().and_then(|thread| thread.record.u64("Tcb.Priority").ok());
            match priority {
                Some(priority) => out.field(keys.1, Value::UInt(priority), &format!(" ({priority:2}) ")),
                None => out.field(keys.1, Value::Null, " ( ?) "),
            }
            if path == "CurrentThread" {
                current = Some(thread);
            }
        }
        let locks = locks(record);
        if !locks.is_empty() {
            out.field("locks", Value::Text(&locks), &format!("  {locks}"));
        }
        if let Some(current) = &current {
            out.text("  ");
            page.name(
                "image",
                &current.as_ref().map_err(Error::clone).and_then(|thread| image(page, thread)),
            );
        }
        out.end_line();
        match current {
            Some(Ok(thread)) if stacks => {
                out.end_line();
                trace::show(page, &thread, 0, "")
            }
            _ => Ok(()),
        }
    })
}

/// The image of the process that a thread belongs to.
fn image(page: &Page<'_>, thread: &Thread<'_>) -> Result<String> {
    Process::read(&page.kernel, thread.process()?)?.name()
}

/// A letter for each queued spin lock: owned, waited for, neither.
fn locks(record: &Record<'_>) -> String {
    let letter = |index: usize| match record.u64(&format!("LockQueue[{index}].Lock")) {
        Ok(lock) if lock & 2 != 0 => Some('O'),
        Ok(lock) if lock & 1 != 0 => Some('W'),
        Ok(_) => Some('.'),
        Err(_) => None,
    };
    (0..LOCKS).map_while(letter).collect()
}
