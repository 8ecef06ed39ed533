//! `!process`, `!sprocess`: one process, all, or those of a name, a session, a module.

use crate::page::{Page, is_current, matches};
use crate::process_block;
use crate::select;
use crate::thread_block;
use crate::user;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::bare;
use kd_sdk::nt::process::{Process, current};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// Times, sizes, priority.
const DETAILS: u64 = 1;
/// Threads.
const THREADS: u64 = thread_block::WAITS | thread_block::STACK;

/// What the arguments ask for.
struct Wanted<'t> {
    session: Option<u64>,
    module: Option<&'t str>,
    image: Option<&'t str>,
    flags: u64,
}

/// `!process [/s SESSION] [/m MODULE] [PROCESS [FLAGS [IMAGE]]]`.
pub fn process(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let mut args = Args::new(args);
    let (mut of_session, mut module) = (None, None);
    while let Some(option) = args.option() {
        match option.to_ascii_lowercase().as_str() {
            "s" => of_session = Some(page.number(args.word().ok_or_else(|| missing("/s needs a session"))?)?),
            "m" => module = Some(args.word().ok_or_else(|| missing("/m needs a module"))?),
            _ => return Err(Error::Usage(format!("!process has no option /{option}"))),
        }
    }
    let (word, flags, image) = (args.word(), args.word(), args.word());
    args.finish()?;
    let listing = (of_session.is_some() || module.is_some()) && word.is_none();
    let value = if is_current(word) { None } else { Some(page.number(word.unwrap_or_default())?) };
    let all = listing || value == Some(0);
    let default = if all || value.is_none() { 3 } else { 0xf };
    let flags = page.flags(flags, default)?;
    if image.is_some() && !all {
        return Err(missing("an image name needs 0 for PROCESS: !process 0 FLAGS IMAGE"));
    }
    let wanted = Wanted { session: of_session, module, image, flags };
    match page.kernel.structure("_EPROCESS") {
        Err(reason @ Error::NoSymbols(_)) => return without_symbols(&page, all, reason),
        Err(reason) => return Err(reason),
        Ok(_) => {}
    }
    if all {
        return several(&page, &wanted);
    }
    if let Some(id) = value.filter(|&value| !select::is_address(&page, value)) {
        page.out.line(&format!("Searching for Process with Cid == {id:x}"));
    }
    let found = select::process(&page, word)?;
    page.out.list("processes", |_| one(&page, &found, flags))
}

/// `!sprocess SESSION [FLAGS [IMAGE]]`.
pub fn of_session(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let page = Page::new(session);
    let number = match args.word() {
        None | Some("-1") => {
            let current = Process::read(&page.kernel, current(&page.kernel)?)?;
            let number = current.session_id(&page.kernel)?;
            number.ok_or_else(|| Error::NotFound("the current process is in no session".to_owned()))?
        }
        Some(word) => page.number(word)?,
    };
    let flags = page.flags(args.word(), 3)?;
    let image = args.word();
    args.finish()?;
    several(&page, &Wanted { session: Some(number), module: None, image, flags })
}

fn missing(text: &str) -> Error {
    Error::Usage(text.to_owned())
}

/// All processes that are wanted.
fn several(page: &Page<'_>, wanted: &Wanted<'_>) -> Result<()> {
    let out = page.out;
    if wanted.image.is_none() {
        out.styled(Style::Heading, "**** NT ACTIVE PROCESS DUMP ****");
        out.end_line();
    }
    let (mut shown, mut untold) = (0, Untold::default());
    let walked = out.list("processes", |_| {
        select::each_process(page, &mut |process| {
            if untold.unless(&process, wanted.fits(page, &process))? {
                shown += 1;
                one(page, &process, wanted.flags)?;
            }
            Ok(())
        })
    })?;
    out.data("complete", Value::Bool(walked.complete && untold.count == 0));
    if walked.count == 0 {
        return Err(Error::NotFound("no process can be read".to_owned()));
    }
    if let Some((first, error)) = untold.first {
        let what = if wanted.module.is_some() { "modules" } else { "session" };
        let which = match untold.count {
            1 => page.ptr(first),
            count => format!("{count} processes, the first of them {},", page.ptr(first)),
        };
        out.warning(&format!("the {what} of {which} cannot be told: {}", page.session().explain(&error)));
    }
    if shown == 0 {
        let what = match (wanted.image, wanted.session, wanted.module) {
            (Some(image), ..) => format!("is called {image}"),
            (_, Some(session), _) => format!("is in session {session}"),
            _ => format!("has the module {}", wanted.module.unwrap_or_default()),
        };
        return Err(Error::NotFound(match walked.count - untold.count {
            0 if untold.count != 0 => format!("of no process can be told whether it {what}"),
            count if walked.complete && untold.count == 0 => format!("none of {count} processes {what}"),
            count => format!("none of the {count} processes that can be told {what}"),
        }));
    }
    Ok(())
}

/// Processes of which cannot be told whether they are wanted: how many, and the first with the reason.
#[derive(Default)]
struct Untold {
    count: u64,
    first: Option<(Va, Error)>,
}

impl Untold {
    /// The answer; a process that has none is kept, and is not wanted.
    fn unless(&mut self, process: &Process<'_>, answer: Result<bool>) -> Result<bool> {
        match answer {
            Err(error) if error != Error::Interrupted => {
                self.count += 1;
                self.first.get_or_insert((process.at, error));
                Ok(false)
            }
            answer => answer,
        }
    }
}

impl Wanted<'_> {
    fn fits(&self, page: &Page<'_>, process: &Process<'_>) -> Result<bool> {
        if let Some(image) = self.image {
            // The kernel keeps 15 characters.
            let cut: String = image.chars().take(15).collect();
            if !process.name().is_ok_and(|name| matches(&cut, &name)) {
                return Ok(false);
            }
        }
        if self.session.is_some() && process.session_id(&page.kernel)? != self.session {
            return Ok(false);
        }
        match self.module {
            Some(module) => user::has_module(page, process, module),
            None => Ok(true),
        }
    }
}

/// One process as a record, with the blank line behind it.
fn one(page: &Page<'_>, process: &Process<'_>, flags: u64) -> Result<()> {
    let out = page.out;
    out.record("", |_| {
        process_block::header(page, process);
        if flags & DETAILS != 0 {
            process_block::details(page, process);
        }
        out.end_line();
        if flags & THREADS == 0 {
            return Ok(());
        }
        // Bit 0x10 counts only with bit 1.
        let flags = if flags & DETAILS == 0 { flags & !thread_block::CONTEXT } else { flags };
        let walked = out.list("threads", |_| {
            select::each_thread(page, process, &mut |thread| {
                thread_block::show(page, &thread, flags, 8)?;
                if flags & THREADS == thread_block::WAITS {
                    out.end_line();
                }
                Ok(())
            })
        })?;
        if walked.count == 0 && walked.complete {
            out.line("        No active threads");
        }
        out.end_line();
        Ok(())
    })
}

/// The process line alone, for `!thread -p` and the like.
pub fn summary(page: &Page<'_>, process: &Process<'_>) {
    page.out.record("owner", |_| process_block::header(page, process));
    page.out.end_line();
}

/// What the debugger data block tells where the kernel's types are missing.
fn without_symbols(page: &Page<'_>, all: bool, reason: Error) -> Result<()> {
    let (session, out) = (page.session(), page.out);
    out.warning(&format!("{reason}. This is what the debugger data block tells by itself"));
    let current = current(&page.kernel).ok();
    match bare::processes(session) {
        Ok((list, problems)) => {
            out.list("processes", |_| {
                for process in list.iter().filter(|process| all || Some(process.at) == current) {
                    bare_process(page, process);
                }
            });
            for problem in problems {
                out.warning(&format!("the list of processes: {problem}"));
            }
            Ok(())
        }
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(error) => {
            out.warning(&error.to_string());
            let Some(at) = current else { return Err(reason) };
            out.list("processes", |_| bare_process(page, &bare::process(session, at)));
            Ok(())
        }
    }
}

fn bare_process(page: &Page<'_>, process: &bare::BareProcess) {
    let out = page.out;
    out.record("", |_| {
        out.text("PROCESS ");
        page.link("address", process.at, "!process {}");
        out.end_line();
        let parts = [
            ("    Cid: ", "id", &process.id, 4),
            ("    Peb: ", "peb", &process.peb, 8),
            ("  ParentCid: ", "parent", &process.parent, 4),
            ("    DirBase: ", "directory_table_base", &process.directory_table_base, 8),
        ];
        for (label, key, value, width) in parts {
            if key == "directory_table_base" {
                out.end_line();
            }
            out.text(label);
            page.hex(key, value, |value| format!("{value:0width$x}"));
        }
        out.end_line();
        out.end_line();
    });
}
