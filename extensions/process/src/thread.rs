//! `!thread`: one thread.

use crate::page::Page;
use crate::process::summary;
use crate::select;
use crate::thread_block;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::process::Process;
use kd_sdk::prelude::*;

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
    let thread = select::thread(&page, word, by_id)?;
    if owner {
        match thread.process().and_then(|at| Process::read(&page.kernel, at)) {
            Ok(process) => summary(&page, &process),
            Err(error) => page.refuse(error, "the owning process")?,
        }
    }
    page.out.list("threads", |_| thread_block::show(&page, &thread, flags, 0))
}
