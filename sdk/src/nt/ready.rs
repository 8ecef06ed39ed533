//! Threads that are ready to run: the ready queues of processors, those that processors share, and what a processor
//! has yet to put into one.
//!
//! Windows XP has one set of queues in `KiDispatcherReadyListHead`; since then each KPRCB has its own, and since
//! Windows 8 processors share queues too. A thread is in its queue by `WaitListEntry`. Since 11 24H2 public symbols do
//! not tell where queues are: there threads are known to be ready by their state.

use super::kernel::Kernel;
use super::list;
use super::process::{self, Process};
use super::thread::{self, READY};
use crate::address::Va;
use crate::error::{Error, Result};

/// Priorities, one list each.
const PRIORITIES: u64 = 32;
/// The most threads of one queue.
const MOST_THREADS: usize = 1 << 16;

/// Whose queue it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// A processor's.
    Processor(u32),
    /// One that processors share, at an address.
    Shared(Va),
    /// The whole system's (Windows XP).
    System,
    /// Threads that a processor has not yet put into a queue.
    Deferred(u32),
    /// Queues that the symbols do not tell; these threads are ready by their state.
    Untold,
}

/// A queue.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Whose.
    pub owner: Owner,
    /// Threads with their priority, highest priority first: addresses of ETHREADs.
    pub threads: Vec<(u64, Va)>,
    /// What was refused on the way.
    pub problems: Vec<Error>,
}

/// All ready queues.
///
/// # Errors
/// Where the kernel's symbols do not tell where queues are, and when the user interrupts.
pub fn queues(kernel: &Kernel<'_>) -> Result<Vec<Queue>> {
    let session = kernel.session();
    let mut found: Vec<Queue> = Vec::new();
    let prcb_type = kernel.structure("_KPRCB")?;
    if prcb_type.field("DispatcherReadyListHead").is_none() {
        let heads = match super::variable(session, "KiDispatcherReadyListHead", None) {
            Ok(heads) => heads,
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(_) => return Ok(vec![by_state(kernel)?]),
        };
        let summary =
            super::variable(session, "KiReadySummary", None).and_then(|va| session.memory().u32(va)).ok();
        found.push(queue(kernel, Owner::System, heads, summary)?);
        return Ok(found);
    }
    for number in 0..session.target().info().processors {
        let Some(processor) = session.target().processor(number) else { continue };
        if processor.prcb == 0 {
            continue;
        }
        let prcb = prcb_type.at(Va(processor.prcb));
        let heads = prcb.address("DispatcherReadyListHead")?;
        let summary = prcb.u64("ReadySummary").ok().map(|summary| summary as u32);
        found.push(queue(kernel, Owner::Processor(number), heads, summary)?);
        if prcb_type.field("DeferredReadyListHead").is_some() {
            let deferred = deferred(kernel, number, prcb.address("DeferredReadyListHead")?)?;
            if !deferred.threads.is_empty() || !deferred.problems.is_empty() {
                found.push(deferred);
            }
        }
        let Ok(shared) = prcb.pointer("SharedReadyQueue") else { continue };
        if shared.is_null() || found.iter().any(|queue| queue.owner == Owner::Shared(shared)) {
            continue;
        }
        let Ok(shared_type) = kernel.structure("_KSHARED_READY_QUEUE") else { continue };
        let heads = shared.add(shared_type.offset("ReadyListHead")?);
        let summary = shared_type.at(shared).u64("ReadySummary").ok().map(|summary| summary as u32);
        found.push(queue(kernel, Owner::Shared(shared), heads, summary)?);
    }
    Ok(found)
}

fn keep(problem: Error, problems: &mut Vec<Error>) -> Result<()> {
    match problem {
        Error::Interrupted => Err(problem),
        other => {
            problems.push(other);
            Ok(())
        }
    }
}

/// The 32 lists at `heads`; `summary` has a bit for each that is not empty.
fn queue(kernel: &Kernel<'_>, owner: Owner, heads: Va, summary: Option<u32>) -> Result<Queue> {
    let link = kernel.structure("_ETHREAD")?.offset("Tcb.WaitListEntry")?;
    let step = 2 * kernel.pointer_size();
    let (mut threads, mut problems) = (Vec::new(), Vec::new());
    // Where nothing of it is in the dump that is one problem, not one a list.
    if summary.is_none()
        && let Err(problem) = kernel.session().memory().pointer(heads)
    {
        keep(problem, &mut problems)?;
        return Ok(Queue { owner, threads, problems });
    }
    for priority in (0..PRIORITIES).rev() {
        if summary.is_some_and(|summary| summary >> priority & 1 == 0) {
            continue;
        }
        let head = heads.add(priority * step);
        for thread in list::ring(kernel.session().memory(), head).of(link).at_most(MOST_THREADS) {
            match thread {
                Ok(thread) => threads.push((priority, thread)),
                Err(problem) => keep(problem, &mut problems)?,
            }
        }
    }
    Ok(Queue { owner, threads, problems })
}

/// Every thread that is ready by its state, as far as the lists of processes and threads lead.
fn by_state(kernel: &Kernel<'_>) -> Result<Queue> {
    let ethread = kernel.structure("_ETHREAD")?;
    let (mut threads, mut problems) = (Vec::new(), Vec::new());
    let processes = process::processes(kernel)?;
    problems.extend(processes.problems.into_iter().map(Error::Other));
    for process in processes.entries {
        let found = Process::read(kernel, process).and_then(|process| thread::threads(kernel, &process));
        let found = match found {
            Ok(found) => found,
            Err(problem) => {
                keep(problem, &mut problems)?;
                continue;
            }
        };
        problems.extend(found.problems.into_iter().map(Error::Other));
        for at in found.entries {
            kernel.session().check_interrupt()?;
            match ethread.at(at).u64("Tcb.State") {
                Ok(READY) => threads.push((ethread.at(at).u64("Tcb.Priority").unwrap_or(0), at)),
                Ok(_) => {}
                Err(problem) => keep(problem, &mut problems)?,
            }
        }
    }
    threads.sort_by_key(|&(priority, _)| std::cmp::Reverse(priority));
    Ok(Queue { owner: Owner::Untold, threads, problems })
}

fn deferred(kernel: &Kernel<'_>, number: u32, head: Va) -> Result<Queue> {
    let ethread = kernel.structure("_ETHREAD")?;
    let link = ethread.offset("Tcb.WaitListEntry")?;
    let (mut threads, mut problems) = (Vec::new(), Vec::new());
    for thread in list::chain(kernel.session().memory(), head).of(link).at_most(MOST_THREADS) {
        match thread {
            Ok(thread) => threads.push((ethread.at(thread).u64("Tcb.Priority").unwrap_or(0), thread)),
            Err(problem) => keep(problem, &mut problems)?,
        }
    }
    Ok(Queue { owner: Owner::Deferred(number), threads, problems })
}
