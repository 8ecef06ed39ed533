//! `!ready`: the threads that wait for a processor.

use crate::page::Page;
use crate::thread_block;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::ready::{self, Owner, Queue};
use kd_sdk::nt::thread::Thread;
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// `!ready [FLAGS]`.
pub fn ready(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let mut args = Args::new(args);
    let flags = page.flags(args.word(), 6)?;
    args.finish()?;
    // Here 0x10 stands for frames without arguments.
    let flags = if flags & 0x10 != 0 { flags & !0x10 | thread_block::SHORT } else { flags };
    let queues = ready::queues(&page.kernel)?;
    page.out.list("queues", |_| queues.iter().try_for_each(|queue| show(&page, queue, flags)))
}

fn show(page: &Page<'_>, queue: &Queue, flags: u64) -> Result<()> {
    let out = page.out;
    out.record("", |_| {
        let name = match queue.owner {
            Owner::Processor(number) => {
                out.data("processor", Value::UInt(number.into()));
                format!("Processor {number:x}")
            }
            Owner::Shared(at) => {
                out.data("shared_queue", Value::Hex(at.0));
                format!("SharedReadyQueue {}", page.ptr(at))
            }
            Owner::System => "System".to_owned(),
            Owner::Untold => {
                out.data("by_state", Value::Bool(true));
                "Any processor (by state; the symbols do not tell the queues)".to_owned()
            }
            Owner::Deferred(number) => {
                out.data("processor", Value::UInt(number.into()));
                out.data("deferred", Value::Bool(true));
                format!("Processor {number:x} (deferred)")
            }
        };
        if queue.threads.is_empty() && queue.problems.is_empty() {
            out.line(&format!("{name}: No threads in READY state"));
        }
        let mut before = None;
        out.list("threads", |_| {
            for (priority, at) in &queue.threads {
                if before != Some(*priority) {
                    out.styled(Style::Heading, &format!("{name}: Ready Threads at priority {priority}"));
                    out.end_line();
                    before = Some(*priority);
                }
                match Thread::read(&page.kernel, *at) {
                    Ok(thread) => thread_block::show(page, &thread, flags, 4)?,
                    Err(Error::Interrupted) => return Err(Error::Interrupted),
                    Err(error) => out.record("", |_| {
                        out.text("    THREAD ");
                        page.link("address", *at, "!thread {}");
                        out.text("  ");
                        page.absent("state", &error);
                        out.end_line();
                    }),
                }
            }
            Ok::<(), Error>(())
        })?;
        for problem in &queue.problems {
            page.refuse(problem.clone(), &name)?;
        }
        Ok(())
    })
}
