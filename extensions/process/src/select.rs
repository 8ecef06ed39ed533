//! Which process or thread an argument means.

use crate::page::{Page, is_current};
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::handle::Table;
use kd_sdk::nt::process::{self, Process};
use kd_sdk::nt::thread::{self, Thread};
use kd_sdk::prelude::*;

/// Visits every process in the order of the kernel's list, and says how many there were. What cannot be read is told
/// and left out; a list that goes wrong ends with a warning.
pub fn each_process<'a>(page: &Page<'a>, visit: &mut dyn FnMut(Process<'a>) -> Result<()>) -> Result<u64> {
    let mut count = 0;
    for at in process::processes(&page.kernel)? {
        let process = match at {
            Ok(at) => Process::read(&page.kernel, at),
            Err(error) => {
                page.refuse(error, "the list of processes is not followed further")?;
                break;
            }
        };
        match process {
            Ok(process) => {
                count += 1;
                visit(process)?;
            }
            Err(error) => page.refuse(error, "a process is left out")?,
        }
    }
    Ok(count)
}

/// Visits every thread of a process, as [`each_process`] does.
pub fn each_thread<'a>(
    page: &Page<'a>,
    process: &Process<'a>,
    visit: &mut dyn FnMut(Thread<'a>) -> Result<()>,
) -> Result<u64> {
    let mut count = 0;
    for at in thread::threads(&page.kernel, process)? {
        let thread = match at {
            Ok(at) => Thread::read(&page.kernel, at),
            Err(error) => {
                page.refuse(
                    error,
                    &format!("the threads of {} are not followed further", page.ptr(process.at)),
                )?;
                break;
            }
        };
        match thread {
            Ok(thread) => {
                count += 1;
                visit(thread)?;
            }
            Err(error) => page.refuse(error, "a thread is left out")?,
        }
    }
    Ok(count)
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
    for at in process::processes(&page.kernel)? {
        match at {
            Ok(at) if ids.at(at).u64("UniqueProcessId").is_ok_and(|found| found == id) => {
                return Process::read(&page.kernel, at);
            }
            Ok(_) => {}
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(_) => break,
        }
    }
    let found = object_of_id(page, id).and_then(|at| Process::read(&page.kernel, at));
    found.map_err(|error| match error {
        Error::Interrupted => error,
        _ => Error::NotFound(format!("no process has Cid {id:x}")),
    })
}

/// What `PspCidTable` has for an id.
fn object_of_id(page: &Page<'_>, id: u64) -> Result<Va> {
    let table = page.session().memory().pointer(page.kernel.variable("PspCidTable")?)?;
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
    let mut found = None;
    each_process(page, &mut |process| {
        each_thread(page, &process, &mut |thread| {
            if found.is_none() && thread.ids().is_ok_and(|ids| ids.1 == value) {
                found = Some(thread);
            }
            Ok(())
        })?;
        Ok(())
    })?;
    found.ok_or_else(|| Error::NotFound(format!("no thread has the id {value:x}")))
}
