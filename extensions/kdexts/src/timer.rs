//! `!timer` and `!dpcs`.

use crate::locks::{plain, problems, symbol};
use kd_sdk::nt::kernel::Kernel;
use kd_sdk::nt::timer::{Call, Set, Timer, Timers, Times};
use kd_sdk::nt::{time, wait};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// Threads that are shown of one timer.
const MOST_THREADS: usize = 8;

/// Runs `!timer`.
pub fn timer(session: &Session<'_>, args: &str) -> Result<()> {
    Args::new(args).finish()?;
    let timers = Timers::new(session)?;
    let out = session.out();
    let Set { timers: mut list, problems: mut wrong } = timers.timers()?;
    list.sort_by_key(|timer| (timer.processor, timer.slot));
    let times = timers.times().ok();
    out.styled(Style::Heading, "Dump system timers");
    out.end_line();
    out.end_line();
    match times {
        Some(times) => {
            let (high, low) = (times.interrupt >> 32, times.interrupt as u32);
            out.field(
                "interrupt_time",
                Value::UInt(times.interrupt),
                &format!("Interrupt time: {low:08x} {high:08x}"),
            );
            out.field(
                "system_time",
                Value::Time(times.system),
                &format!(" [{}]", time::session_time(times.system)),
            );
            out.end_line();
        }
        None => {
            out.data("interrupt_time", Value::Null);
            out.line("Interrupt time: KUSER_SHARED_DATA is not in this dump");
        }
    }
    let width = if session.target().pointer_size() == 4 { 8 } else { 16 };
    let (mut shown, mut overdue) = (None, 0u64);
    out.list("timers", |_| {
        for timer in &list {
            session.check_interrupt()?;
            if shown != Some(timer.processor) {
                shown = Some(timer.processor);
                out.end_line();
                out.line(
                    &timer
                        .processor
                        .map_or("All processors".to_owned(), |number| format!("PROCESSOR {number}")),
                );
                out.line(&format!(
                    "List {:width$}   Interrupt Low/High  Fire Time                 DPC/thread",
                    "Timer"
                ));
            }
            overdue += u64::from(show_timer(session, times, timer, &mut wrong));
        }
        Ok::<(), Error>(())
    })?;
    out.end_line();
    let complete = wrong.is_empty();
    let counted = match (list.len(), complete) {
        (0, false) => ("No timer could be read.".to_owned(), String::new()),
        (count, true) => (format!("Total Timers: {count}"), format!(", overdue: {overdue}")),
        (count, false) => (
            format!("Total Timers: {count}"),
            format!(", overdue: {overdue} (not all of them could be read)"),
        ),
    };
    out.field("count", Value::UInt(list.len() as u64), &counted.0);
    out.field("overdue", Value::UInt(overdue), &counted.1);
    out.data("complete", Value::Bool(complete));
    out.end_line();
    problems(&out, "", &wrong);
    Ok(())
}

/// A timer's line; true where it is overdue.
fn show_timer(session: &Session<'_>, times: Option<Times>, timer: &Timer, wrong: &mut Vec<String>) -> bool {
    let late = times.is_some_and(|times| timer.due < times.interrupt);
    session.out().record("", |out| {
        out.data("processor", timer.processor.map_or(Value::Null, |number| Value::UInt(number.into())));
        out.field("slot", Value::UInt(timer.slot), &format!("{:4} ", timer.slot));
        out.data("timer", Value::Hex(timer.at.0));
        let at = plain(session, timer.at);
        out.link(&at, &format!("dt nt!_KTIMER {at}"));
        out.field("period", Value::UInt(timer.period), if timer.period == 0 { "   " } else { " P " });
        let due = format!("{:08x} {:08x}", timer.due as u32, timer.due >> 32);
        out.field("due", Value::UInt(timer.due), &due);
        let moment = times.and_then(|times| times.moment(timer.due));
        let text = moment.map_or("-".to_owned(), |moment| {
            let civil = time::Civil::from_file_time(moment);
            format!(
                "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03}",
                civil.year, civil.month, civil.day, civil.hour, civil.minute, civil.second, civil.millisecond
            )
        });
        out.field("fire_time", moment.map_or(Value::Null, Value::Time), &format!("  [{text:23}]  "));
        match &timer.call {
            Some(call) => show_call(session, out, call),
            None => {
                for key in ["dpc", "routine", "symbol"] {
                    out.data(key, Value::Null);
                }
            }
        }
        let mut threads = Vec::new();
        if let Err(error) = wait::waiters(&Kernel::new(session), timer.at, &mut threads) {
            let what = format!("threads that wait for {}", plain(session, timer.at));
            wrong.push(format!("{what}: {}", session.explain(&error)));
        }
        out.list("threads", |out| {
            for (index, thread) in threads.iter().enumerate() {
                out.data("", Value::Hex(thread.0));
                if index < MOST_THREADS {
                    out.text(" thread ");
                    out.link(&plain(session, *thread), &format!("!thread {}", plain(session, *thread)));
                }
            }
        });
        out.styled_field("overdue", Value::Bool(late), Style::Bad, if late { "  overdue" } else { "" });
        out.end_line();
    });
    late
}

/// `faultdrv!TimerDpc (DPC @ ffff…)`.
fn show_call(session: &Session<'_>, out: &Out<'_>, call: &Call) {
    let name = symbol(session, call.routine);
    out.data("dpc", Value::Hex(call.at.0));
    out.data("routine", Value::Hex(call.routine.0));
    out.data("symbol", name.as_deref().map_or(Value::Null, Value::Text));
    match name {
        Some(name) => out.link(&name, &format!("u {}", plain(session, call.routine))),
        None => out.styled(Style::Bad, &format!("{} in no loaded module", plain(session, call.routine))),
    }
    out.text(&format!(" (DPC @ {})", plain(session, call.at)));
}

/// Runs `!dpcs`.
pub fn dpcs(session: &Session<'_>, args: &str) -> Result<()> {
    let timers = Timers::new(session)?;
    let mut processors = timers.processors();
    let known = processors.len();
    if !args.trim().is_empty() {
        // The expression's 32-bit values are extended by their sign.
        let one = session.evaluate(args)?;
        let one = u32::try_from(one).or_else(|_| i32::try_from(one as i64).map(|one| one as u32));
        processors.retain(|(number, _)| one == Ok(*number));
    }
    if processors.is_empty() {
        return Err(Error::NotFound(format!("no such processor: this dump knows {known}")));
    }
    let out = session.out();
    let width = if session.target().pointer_size() == 4 { 8 } else { 16 };
    out.styled(Style::Heading, &format!("CPU Type      {:width$}  Function", "KDPC"));
    out.end_line();
    let (mut count, mut complete) = (0u64, true);
    out.list("processors", |out| {
        for (number, prcb) in processors {
            out.record("", |out| {
                out.data("processor", Value::UInt(number.into()));
                out.data("prcb", Value::Hex(prcb.0));
                let active = timers.runs_calls(prcb);
                out.data("active", active.map_or(Value::Null, Value::Bool));
                let (calls, wrong) = match timers.queued(prcb) {
                    Ok(found) => found,
                    Err(error @ (Error::Interrupted | Error::NoSymbols(_))) => return Err(error),
                    Err(error) => (Vec::new(), vec![session.explain(&error)]),
                };
                count += calls.len() as u64;
                complete &= wrong.is_empty();
                out.list("queued", |out| calls.iter().for_each(|call| queued(session, out, number, call)));
                if active == Some(true) {
                    out.line(&format!("{number:3}: runs deferred calls"));
                }
                problems(out, &format!("{number:3}: "), &wrong);
                Ok(())
            })?;
        }
        Ok::<(), Error>(())
    })?;
    let text = match (count, complete) {
        (0, true) => "No deferred calls wait.".to_owned(),
        (0, false) => "No deferred calls wait in what could be read of the queues.".to_owned(),
        (1, _) => "1 deferred call waits".to_owned(),
        (count, _) => format!("{count} deferred calls wait"),
    };
    out.field("count", Value::UInt(count), &text);
    out.data("complete", Value::Bool(complete));
    if !complete && count > 0 {
        out.styled(Style::Bad, " (not all of the queues could be read)");
    }
    out.end_line();
    Ok(())
}

fn queued(session: &Session<'_>, out: &Out<'_>, processor: u32, call: &Call) {
    out.record("", |out| {
        let kind = if call.threaded { "Threaded" } else { "Normal" };
        out.field("type", Value::Text(kind), &format!("{processor:3}: {kind:8}: "));
        let at = plain(session, call.at);
        out.data("dpc", Value::Hex(call.at.0));
        out.link(&at, &format!("dt nt!_KDPC {at}"));
        let name = symbol(session, call.routine);
        out.data("routine", Value::Hex(call.routine.0));
        out.data("context", Value::Hex(call.context.0));
        out.data("symbol", name.as_deref().map_or(Value::Null, Value::Text));
        out.text(&format!("  {}  ", plain(session, call.routine)));
        match name {
            Some(name) => out.link(&name, &format!("u {}", plain(session, call.routine))),
            None => out.styled(Style::Bad, "in no loaded module"),
        }
        out.end_line();
    });
}
