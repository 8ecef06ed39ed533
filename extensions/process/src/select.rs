//! Which process or thread an argument means.

use crate::page::{Page, is_current};
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::process::{self, Process};
use kd_sdk::nt::salvage::Salvaged;
use kd_sdk::nt::thread::{self, Thread};
use kd_sdk::nt::{self, handle::Table};
use kd_sdk::prelude::*;

/// How far a list was followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walked {
    /// Those that were visited.
    pub count: u64,
    /// False where some are missing.
    pub complete: bool,
}

/// The list, with what runs on processors where the list is broken or not in the dump; whether it is whole.
fn with_running(
    page: &Page<'_>,
    list: Salvaged,
    of: &str,
    running: impl Iterator<Item = Va>,
) -> (Vec<Va>, bool) {
    for problem in &list.problems {
        page.out.warning(&format!("{of}: {problem}"));
    }
    let (complete, mut entries) = (list.problems.is_empty(), list.entries);
    if !complete {
        let missing: Vec<_> = running.filter(|at| !entries.contains(at)).collect();
        entries.extend(missing);
        entries.dedup();
    }
    (entries, complete)
}

/// What processors run: of each the process and the thread.
fn on_processors<'p>(page: &'p Page<'_>) -> impl Iterator<Item = (Va, Va)> + use<'p> {
    let target = page.session().target();
    let processors = (0..target.info().processors).filter_map(move |number| target.processor(number));
    processors.map(|processor| {
        (page.kernel.address(processor.current_process), page.kernel.address(processor.current_thread))
    })
}

/// Visits every process in the order of the kernel's list. What cannot be read is told and left out.
pub fn each_process<'a>(page: &Page<'a>, visit: &mut dyn FnMut(Process<'a>) -> Result<()>) -> Result<Walked> {
    let listed = match process::processes(&page.kernel) {
        Ok(listed) => listed,
        // A small dump may not even hold the head.
        Err(error @ Error::Unreadable { .. }) => broken(page, &error),
        Err(error) => return Err(error),
    };
    // Idle threads belong to a process that is in no list.
    let running = on_processors(page).map(|found| found.0).filter(|at| {
        !at.is_null()
            && Process::read(&page.kernel, *at).is_ok_and(|process| process.id().is_ok_and(|id| id != 0))
    });
    let (entries, complete) = with_running(page, listed, "the list of processes", running);
    let mut walked = Walked { count: 0, complete };
    for at in entries {
        page.session().check_interrupt()?;
        match Process::read(&page.kernel, at) {
            Ok(process) => {
                walked.count += 1;
                visit(process)?;
            }
            Err(error) => {
                walked.complete = false;
                page.refuse(error, &format!("process {} is left out", page.ptr(at)))?;
            }
        }
    }
    Ok(walked)
}

/// Visits every thread of a process, as [`each_process`] does.
pub fn each_thread<'a>(
    page: &Page<'a>,
    process: &Process<'a>,
    visit: &mut dyn FnMut(Thread<'a>) -> Result<()>,
) -> Result<Walked> {
    let listed = match thread::threads(&page.kernel, process) {
        Ok(listed) => listed,
        Err(error @ Error::Unreadable { .. }) => broken(page, &error),
        Err(error) => return Err(error),
    };
    let running = on_processors(page).map(|found| found.1).filter(|at| {
        let owner = Thread::read(&page.kernel, *at).and_then(|thread| thread.process());
        !at.is_null() && owner.is_ok_and(|owner| owner == process.at)
    });
    let (entries, complete) =
        with_running(page, listed, &format!("the threads of {}", page.ptr(process.at)), running);
    let mut walked = Walked { count: 0, complete };
    for at in entries {
        page.session().check_interrupt()?;
        match Thread::read(&page.kernel, at) {
            Ok(thread) => {
                walked.count += 1;
                visit(thread)?;
            }
            Err(error) => {
                walked.complete = false;
                page.refuse(error, &format!("thread {} is left out", page.ptr(at)))?;
            }
        }
    }
    Ok(walked)
}

/// True for a number that is an address, not an id.
pub fn is_address(page: &Page<'_>, value: u64) -> bool {
    page.session().target().is_kernel(page.kernel.address(value))
}

/// The process that an argument names: an address, an id in hex; none or -1 for the current one.
pub fn process<'a>(page: &Page<'a>, word: Option<&str>) -> Result<Process<'a>> {
    if is_current(word) {
        return Process::read(&page.kernel, process::current(&page.kernel)?);
    }
    let value = page.number(word.unwrap_or_default())?;
    if is_address(page, value) {
        Process::read(&page.kernel, page.kernel.address(value))
    } else {
        by_id(page, value)
    }
}

/// The process with an id: in the list, else in the table of ids, which also knows those that have ended.
pub fn by_id<'a>(page: &Page<'a>, id: u64) -> Result<Process<'a>> {
    let ids = page.kernel.structure("_EPROCESS")?;
    let listed = match process::processes(&page.kernel) {
        Ok(listed) => listed,
        Err(error @ Error::Unreadable { .. }) => broken(page, &error),
        Err(error) => return Err(error),
    };
    let running = on_processors(page).map(|found| found.0);
    let is = |at: &Va| ids.at(*at).u64("UniqueProcessId").is_ok_and(|found| found == id);
    if let Some(at) = listed.entries.into_iter().chain(running).find(is) {
        return Process::read(&page.kernel, at);
    }
    let found = object_of_id(page, id).and_then(|at| Process::read(&page.kernel, at));
    found.map_err(|error| match (error, listed.problems.first()) {
        (Error::Interrupted, _) => Error::Interrupted,
        (_, None) => Error::NotFound(format!("no process has Cid {id:x}")),
        (_, Some(problem)) => Error::NotFound(format!(
            "no process that can be read has Cid {id:x}; the list of processes: {problem}"
        )),
    })
}

/// A list of which nothing can be had.
fn broken(page: &Page<'_>, error: &Error) -> Salvaged {
    Salvaged { problems: vec![page.session().explain(error)], ..Salvaged::default() }
}

/// What `PspCidTable` has for an id.
fn object_of_id(page: &Page<'_>, id: u64) -> Result<Va> {
    let table = nt::pointer_variable(page.session(), "PspCidTable", None)?;
    let entry = Table::read(&page.kernel, table)?.entry(&page.kernel, id)?;
    if entry.is_free() {
        Err(Error::NotFound(format!("no object has the id {id:x}")))
    } else {
        Ok(entry.object)
    }
}

/// The thread that an argument names: an address, or with `by_id` an id in hex; none or -1 for the current one.
pub fn thread<'a>(page: &Page<'a>, word: Option<&str>, is_id: bool) -> Result<Thread<'a>> {
    if is_current(word) {
        return Thread::read(&page.kernel, thread::current(&page.kernel)?);
    }
    let value = page.number(word.unwrap_or_default())?;
    if !is_id && is_address(page, value) {
        return Thread::read(&page.kernel, page.kernel.address(value));
    }
    if !is_id {
        return Err(Error::Usage(format!(
            "{value:x} is no address of the kernel; -t takes it for a thread id"
        )));
    }
    if let Ok(found) = object_of_id(page, value).and_then(|at| Thread::read(&page.kernel, at)) {
        return Ok(found);
    }
    // Not in the table, or there is none: one by one.
    let (mut found, mut complete) = (None, true);
    let walked = each_process(page, &mut |process| {
        let walked = each_thread(page, &process, &mut |thread| {
            if found.is_none() && thread.ids().is_ok_and(|ids| ids.1 == value) {
                found = Some(thread);
            }
            Ok(())
        })?;
        complete &= walked.complete;
        Ok(())
    })?;
    let which = if walked.complete && complete { "" } else { " that can be read" };
    found.ok_or_else(|| Error::NotFound(format!("no thread{which} has the id {value:x}")))
}
