//! `!stacks`: where every thread stands, a line each.

use crate::page::{Page, matches, why};
use crate::select::{self, Walked};
use crate::trace;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::process::Process;
use kd_sdk::nt::thread::{RUNNING, Thread, WAITING};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;
use kd_sdk::stacks::Frame;

/// Frames looked at of one thread.
const MOST_FRAMES: u32 = 64;

#[rustfmt::skip]
/// How the kernel puts a thread to sleep: what called these is what blocks.
const SLEEP: [&str; 22] = [
    "KiSwapContext", "SwapContext", "KiSwapThread", "KiCommitThreadWait", "KeWaitForSingleObject",
    "KeWaitForMultipleObjects", "KeWaitForMutexObject", "KeWaitForGate", "KeRemoveQueueEx", "KeRemoveQueue",
    "KeRemovePriQueue", "KeDelayExecutionThread", "KeWaitForAlertByThreadId", "KiSchedulerApcTerminate",
    "KiSchedulerApc", "KiExitDispatcher", "KiDispatchInterrupt", "KiCheckForKernelApcDelivery", "KiDpcInterrupt",
    "KeTerminateThread", "KiExecuteSwap", "KiSwapContextExit",
];

/// `!stacks [0|1|2 [FILTER]]`.
pub fn stacks(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let mut args = Args::new(args);
    let level = page.flags(args.word(), 0)?;
    if level > 2 {
        return Err(Error::Usage(format!("{level:x} is no level of detail: 0, 1 or 2")));
    }
    let filter = args.word();
    args.finish()?;
    page.kernel.structure("_EPROCESS")?;
    let out = page.out;
    let width = 2 * page.kernel.pointer_size() as usize;
    out.styled(
        Style::Heading,
        &format!("Proc.Thread  {:width$}  {:>8}  {:11} {}", ".Thread", "Ticks", "ThreadState", "Blocker"),
    );
    out.end_line();
    let mut counts = Counts::default();
    let mut complete = true;
    let walked = out.list("processes", |_| {
        select::each_process(&page, &mut |process| {
            complete &= one(&page, &process, level, filter, &mut counts)?.complete;
            Ok(())
        })
    })?;
    out.data("complete", Value::Bool(walked.complete && complete));
    out.end_line();
    out.field("threads", Value::UInt(counts.seen), &format!("Threads processed: {}", counts.seen));
    out.field("shown", Value::UInt(counts.shown), &format!(", shown: {}", counts.shown));
    let text = match counts.not_resident {
        0 => String::new(),
        count => format!(", stacks not resident: {count}{}", if level == 0 { " (1 shows them)" } else { "" }),
    };
    out.field("not_resident", Value::UInt(counts.not_resident), &text);
    out.end_line();
    Ok(())
}

#[derive(Default)]
struct Counts {
    seen: u64,
    shown: u64,
    not_resident: u64,
}

fn one(
    page: &Page<'_>,
    process: &Process<'_>,
    level: u64,
    filter: Option<&str>,
    counts: &mut Counts,
) -> Result<Walked> {
    let out = page.out;
    out.record("", |_| {
        out.data("address", Value::Hex(process.at.0));
        let name = process.name().unwrap_or_else(|error| why(&error));
        out.data("image", Value::Text(&name));
        let mut headed = false;
        out.list("threads", |_| {
            select::each_thread(page, process, &mut |thread| {
                counts.seen += 1;
                let resident = trace::stack(page, &thread, 0);
                if matches!(resident, Ok(None)) {
                    counts.not_resident += 1;
                    if level == 0 || filter.is_some() {
                        return Ok(());
                    }
                }
                let frames = match resident {
                    Ok(Some(stack)) => match stack.frames(MOST_FRAMES) {
                        Err(Error::Interrupted) => return Err(Error::Interrupted),
                        frames => frames.map(Some),
                    },
                    Ok(None) => Ok(None),
                    Err(Error::Interrupted) => return Err(Error::Interrupted),
                    Err(error) => Err(error),
                };
                if let Some(filter) = filter {
                    let found = frames
                        .as_ref()
                        .is_ok_and(|frames| frames.iter().flatten().any(|frame| has(frame, filter)));
                    if !found {
                        return Ok(());
                    }
                }
                if !std::mem::replace(&mut headed, true) {
                    out.end_line();
                    out.text(&" ".repeat(28));
                    out.text("[");
                    out.link(&page.ptr(process.at), &format!("!process {:#x} f", process.at.0));
                    out.styled(Style::Symbol, &format!(" {name}"));
                    out.line("]");
                }
                counts.shown += 1;
                row(page, &thread, &frames, level)
            })
        })
    })
}

/// True if the place of a frame has the text in it, or matches it as a pattern.
fn has(frame: &Frame, filter: &str) -> bool {
    matches(&format!("*{filter}*"), &frame.site)
}

/// The frame that is not the kernel's way of waiting.
fn blocker(frames: &[Frame]) -> Option<&Frame> {
    let sleeps = |frame: &Frame| {
        let name = frame.site.strip_prefix("nt!").map(|name| name.split('+').next().unwrap_or(name));
        name.is_some_and(|name| SLEEP.contains(&name))
    };
    frames.iter().find(|frame| !sleeps(frame)).or(frames.last())
}

fn row(page: &Page<'_>, thread: &Thread<'_>, frames: &Result<Option<Vec<Frame>>>, level: u64) -> Result<()> {
    let out = page.out;
    out.record("", |_| {
        match thread.ids() {
            Ok((process, id)) => {
                out.field("process_id", Value::Hex(process), &format!("{process:4x}."));
                out.field("id", Value::Hex(id), &format!("{id:06x}  "));
            }
            Err(_) => {
                out.field("process_id", Value::Null, &format!("{:>4}.", "?"));
                out.field("id", Value::Null, &format!("{:6}  ", "?"));
            }
        }
        page.link("address", thread.at, "!thread {}");
        let ticks = thread.record.u64("Tcb.WaitTime").ok().and_then(|start| page.clock.ticks_since(start));
        match ticks {
            Some(ticks) => out.field("ticks", Value::UInt(ticks), &format!("  {ticks:8x}")),
            None => out.field("ticks", Value::Null, &format!("  {:>8}", "?")),
        }
        let state = thread.state();
        let name = match state {
            Ok(RUNNING) => "RUNNING",
            Ok(WAITING | 8 | 9) => "Blocked",
            Ok(1 | 7) => "READY",
            Ok(3) => "STANDBY",
            Ok(4) => "TERMINATED",
            Ok(6) => "TRANSITION",
            Ok(0) => "INITIALIZED",
            _ => "?",
        };
        out.field("state", Value::Text(name), &format!("  {name:11} "));
        match frames {
            Ok(Some(frames)) => {
                let site = blocker(frames).map_or("", |frame| frame.site.as_str());
                let certain = blocker(frames).is_none_or(|frame| frame.source.is_certain());
                out.styled_field("blocker", Value::Text(site), Style::Symbol, site);
                if !certain {
                    out.text(" [scan]");
                }
                out.data("certain", Value::Bool(certain));
            }
            Ok(None) if matches!(state, Ok(4)) => out.field("blocker", Value::Null, ""),
            Ok(None) => out.field("blocker", Value::Null, "Stack paged out"),
            Err(error) => page.absent("blocker", error),
        }
        out.end_line();
        if level == 2 && matches!(frames, Ok(Some(_))) {
            trace::show(page, thread, 0, "        ")?;
        }
        Ok(())
    })
}
