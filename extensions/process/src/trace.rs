//! The stack of a thread under its block, by kd's unwinder.

use crate::page::{Page, why};
use crate::thread_block::{CONTEXT, SHORT};
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::process::Process;
use kd_sdk::nt::thread::Thread;
use kd_sdk::output::Style;
use kd_sdk::stacks::{Context, Look, Stack};

/// Frames shown of one thread.
pub const MOST_FRAMES: u32 = 100;

/// The stack of a thread; `None` where its kernel stack is not in memory, or it has none any more.
pub fn stack<'a>(page: &Page<'a>, thread: &Thread<'a>, flags: u64) -> Result<Option<Stack<'a>>> {
    if thread.stack_resident() == Some(false) || thread.state()? == 4 {
        return Ok(None);
    }
    let stack = page.session().stack(Context::Thread(thread.at));
    if flags & CONTEXT == 0 {
        return Ok(Some(stack));
    }
    let attached = thread.attached()?;
    Ok(Some(stack.within(Process::read(&page.kernel, attached)?.memory(&page.kernel)?)))
}

/// Shows it.
pub fn show(page: &Page<'_>, thread: &Thread<'_>, flags: u64, indent: &str) -> Result<()> {
    let out = page.out;
    let shown = match stack(page, thread, flags) {
        Ok(Some(stack)) => {
            let look = if flags & SHORT != 0 { 0 } else { Look::ARGUMENTS | Look::VERBOSE };
            stack.show(MOST_FRAMES, look, indent.len() as u32)
        }
        Ok(None) if thread.stack_resident() == Some(false) => {
            out.styled(Style::Dim, &format!("{indent}Kernel stack not resident."));
            out.end_line();
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    match shown {
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => out.line(&format!("{indent}Stack: {}", why(&error))),
        Ok(()) => {}
    }
    out.end_line();
    Ok(())
}
