//! `!thread`: one thread.

use crate::page::{Page, is_current};
use crate::process::summary;
use crate::select;
use crate::thread_block;
use crate::trace;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::bare;
use kd_sdk::nt::process::Process;
use kd_sdk::nt::thread;
use kd_sdk::prelude::*;
use kd_sdk::stacks::Context;

/// `!thread [-p] [-t] [ADDRESS [FLAGS]]`.
pub fn thread(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let mut args = Args::new(args);
    let (mut owner, mut by_id) = (false, false);
    while let Some(option) = args.option() {
        match option {
            "p" => owner = true,
            "t" => by_id = true,
            "pt" | "tp" => (owner, by_id) = (true, true),
            _ => return Err(Error::Usage(format!("!thread has no option -{option}"))),
        }
    }
    let (word, flags) = (args.word(), args.word());
    args.finish()?;
    let flags = page.flags(flags, 6)?;
    match page.kernel.structure("_ETHREAD") {
        Err(reason @ Error::NoSymbols(_)) => return without_symbols(&page, word, by_id, reason),
        Err(reason) => return Err(reason),
        Ok(_) => {}
    }
    let thread = select::thread(&page, word, by_id)?;
    if owner {
        match thread.process().and_then(|at| Process::read(&page.kernel, at)) {
            Ok(process) => summary(&page, &process),
            Err(error) => page.refuse(error, "the owning process")?,
        }
    }
    page.out.list("threads", |_| thread_block::show(&page, &thread, flags, 0))
}

/// What the debugger data block tells of a thread where the kernel's types are missing.
fn without_symbols(page: &Page<'_>, word: Option<&str>, by_id: bool, reason: Error) -> Result<()> {
    let (session, out) = (page.session(), page.out);
    let at = match word {
        _ if by_id => return Err(reason),
        word if is_current(word) => thread::current(&page.kernel)?,
        word => page.kernel.address(page.number(word.unwrap_or_default())?),
    };
    out.warning(&format!("{reason}. This is what the debugger data block tells by itself"));
    let thread = bare::thread(session, at);
    out.list("threads", |_| {
        out.record("", |_| {
            out.text("THREAD ");
            page.link("address", at, "!thread {}");
            out.text("  Teb: ");
            page.hex("teb", &thread.teb, |teb| page.ptr(Va(teb)));
            match &thread.state {
                Ok(state) => {
                    let name = thread::state_name(*state);
                    out.field("state", Value::Text(&name), &format!("  {name}"));
                }
                Err(error) => page.absent("state", error),
            }
            page.count("processor", &thread.processor, |number| format!("  Processor {number}"));
            out.end_line();
            out.text("Attached Process          ");
            page.link_or("attached_process", &thread.process.clone().map(Va), "!process {}");
            out.end_line();
            out.text("Stack Init ");
            page.hex("stack_init", &thread.stack_init, |va| page.ptr(Va(va)));
            out.text(" Current ");
            page.hex("stack_current", &thread.stack_current, |va| page.ptr(Va(va)));
            out.end_line();
            session.stack(Context::Thread(at)).show(trace::MOST_FRAMES, 0, 0)
        })
    })
}
