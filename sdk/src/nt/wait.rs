//! What threads wait for: wait blocks and dispatcher objects.
//!
//! Up to Windows 7 the blocks of a wait are a ring through `NextWaitBlock`; since then they are an array of
//! `WaitBlockCount`. The kinds are `KOBJECTS`, which every version numbers alike from 0 to 9.

use super::kernel::Kernel;
use super::list;
use super::thread::Thread;
use crate::address::Va;
use crate::error::{Error, Result};

/// The most objects of one wait (`MAXIMUM_WAIT_OBJECTS`), and the timer.
const MOST_OBJECTS: u64 = 65;
/// Threads that are believed to wait for one object.
const MOST_WAITERS: usize = 0x4000;

/// A dispatcher object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An event that stays set.
    NotificationEvent,
    /// An event that lets one thread go.
    SynchronizationEvent,
    /// A mutant with the thread that owns it.
    Mutant {
        /// Null if nobody does.
        owner: Va,
    },
    /// A process.
    Process,
    /// A queue.
    Queue,
    /// A semaphore with its limit.
    Semaphore {
        /// As the kernel holds it.
        limit: u64,
    },
    /// A thread.
    Thread,
    /// A gate.
    Gate,
    /// A timer that stays set.
    NotificationTimer,
    /// A timer that lets one thread go.
    SynchronizationTimer,
    /// None of these.
    Unknown {
        /// Its number.
        number: u64,
    },
}

/// An object that a thread waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaitObject {
    /// The wait block.
    pub block: Va,
    /// The object.
    pub object: Va,
    /// What it is, or why that cannot be told.
    pub kind: Result<Kind>,
    /// Its `SignalState`.
    pub signal: Option<i64>,
}

impl Kind {
    /// As KD calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::NotificationEvent => "NotificationEvent",
            Kind::SynchronizationEvent => "SynchronizationEvent",
            Kind::Mutant { .. } => "Mutant",
            Kind::Process => "ProcessObject",
            Kind::Queue => "QueueObject",
            Kind::Semaphore { .. } => "Semaphore",
            Kind::Thread => "Thread",
            Kind::Gate => "Gate",
            Kind::NotificationTimer => "NotificationTimer",
            Kind::SynchronizationTimer => "SynchronizationTimer",
            Kind::Unknown { .. } => "Unknown",
        }
    }
}

/// What kind of dispatcher object is at an address, and its signal state.
///
/// # Errors
/// Where its header cannot be read.
pub fn kind_of(kernel: &Kernel<'_>, object: Va) -> Result<(Kind, i64)> {
    let header = kernel.read("_DISPATCHER_HEADER", object)?;
    // The top bit is a lock in some versions.
    let number = header.u64("Type")? & 0x7f;
    let kind = match number {
        0 => Kind::NotificationEvent,
        1 => Kind::SynchronizationEvent,
        2 => Kind::Mutant { owner: kernel.read("_KMUTANT", object)?.pointer("OwnerThread")? },
        3 => Kind::Process,
        4 => Kind::Queue,
        5 => Kind::Semaphore { limit: kernel.read("_KSEMAPHORE", object)?.u64("Limit")? },
        6 => Kind::Thread,
        7 => Kind::Gate,
        8 => Kind::NotificationTimer,
        9 => Kind::SynchronizationTimer,
        number => Kind::Unknown { number },
    };
    Ok((kind, header.i64("SignalState")?))
}

/// True where a thread object stands.
pub fn is_thread(kernel: &Kernel<'_>, at: Va) -> bool {
    kernel.session().target().is_kernel(at) && matches!(kind_of(kernel, at), Ok((Kind::Thread, _)))
}

/// The head of the list of those who wait for a dispatcher object.
///
/// # Errors
/// Without the kernel's types.
pub fn wait_list(kernel: &Kernel<'_>, object: Va) -> Result<Va> {
    kernel.structure("_DISPATCHER_HEADER")?.at(object).address("WaitListHead")
}

/// Finds the threads that wait for a dispatcher object, in the order of its list.
///
/// # Errors
/// Where the list is broken or not readable; those before that place were found.
pub fn waiters(kernel: &Kernel<'_>, object: Va, threads: &mut Vec<Va>) -> Result<()> {
    let block = kernel.structure("_KWAIT_BLOCK")?;
    let link = block.offset("WaitListEntry")?;
    let head = wait_list(kernel, object)?;
    for entry in list::ring(kernel.session().memory(), head).of(link).at_most(MOST_WAITERS) {
        let thread = block.at(entry?).pointer("Thread")?;
        // Queues and deferred calls can stand in a wait list too.
        if is_thread(kernel, thread) {
            threads.push(thread);
        }
    }
    Ok(())
}

/// The objects that a thread waits for, in order, and why there are no more of them if the walk was cut short.
pub fn wait_objects(kernel: &Kernel<'_>, thread: &Thread<'_>) -> (Vec<WaitObject>, Option<Error>) {
    let mut found = Vec::new();
    let stopped = follow(kernel, thread, &mut found).err();
    (found, stopped)
}

fn follow(kernel: &Kernel<'_>, thread: &Thread<'_>, found: &mut Vec<WaitObject>) -> Result<()> {
    let first = thread.record.pointer("Tcb.WaitBlockList")?;
    if first.is_null() {
        return Ok(());
    }
    let block_type = kernel.structure("_KWAIT_BLOCK")?;
    let ring = block_type.field("NextWaitBlock").is_some();
    let count = match ring {
        true => Ok(MOST_OBJECTS),
        false => thread.record.u64("Tcb.WaitBlockCount"),
    };
    let mut at = first;
    for _ in 0..count.as_ref().map_or(MOST_OBJECTS, |&count| count.min(MOST_OBJECTS)) {
        let block = kernel.read("_KWAIT_BLOCK", at)?;
        let object = block.pointer("Object")?;
        // Small dumps may lack the count: then the blocks end before one that is not in use.
        if let Err(error) = &count
            && (object.is_null() || block.pointer("Thread")? != thread.at)
        {
            return Err(error.clone());
        }
        if !object.is_null() {
            let (kind, signal) = match kind_of(kernel, object) {
                Ok((kind, signal)) => (Ok(kind), Some(signal)),
                Err(error) => (Err(error), None),
            };
            found.push(WaitObject { block: at, object, kind, signal });
        }
        at = if ring { block.pointer("NextWaitBlock")? } else { at.add(block_type.size()) };
        if at == first || at.is_null() {
            return Ok(());
        }
    }
    if ring {
        return Err(Error::Other(format!(
            "the ring of wait blocks at {first} does not come back to its start"
        )));
    }
    Ok(())
}
