//! Locks that threads wait for: executive resources (`_ERESOURCE`) with their owners and waiters, mutants, and what a
//! thread waits for.
//!
//! An owner's entry holds the thread and how often it acquired the resource. Up to Vista a resource has two entries of
//! its own (`OwnerThreads`: the exclusive owner, the first shared one), since then one (`OwnerEntry`); further owners
//! stand in `OwnerTable`, whose first entry holds the table's size. `ExSetResourceOwnerPointer` stores a pointer with
//! its two lowest bits set, which may be no thread.
//!
//! Waiters of systems before 10 stand in the wait lists of a semaphore (shared) and an event (exclusive). Since then each
//! waits for an event of its own, in an entry (`_KWAIT_CHAIN_ENTRY`) on its stack; the resource points to the first of
//! them. The entries are a ring without a head, in the first builds a chain that ends with null.
//!
//! Windows 10 1903 to 11 21H2 have fast resources in the same list: `Flag` says so, and their owners are a ring of entries
//! that the owners bring along (`_FAST_OWNER_ENTRY_INTERNAL`).

use super::kernel::Kernel;
use super::process::{self, Process};
use super::salvage::{self, Salvaged};
use super::thread::{self, Thread};
use super::wait::{self, Kind};
use super::{list, variable};
use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::types::Type;
use std::cell::OnceCell;
use std::collections::HashSet;

/// Offset of the list's head in KDDEBUGGER_DATA64.
const KD_RESOURCES: u32 = 0x60;
/// `_ERESOURCE.Flag`: the one owner has it alone.
const OWNED_EXCLUSIVE: u64 = 0x80;
/// `_ERESOURCE.Flag`: a fast resource, where the kernel has those.
const FAST: u64 = 1;
/// The bits that mark a pointer that a driver stored in place of a thread.
const OWNER_POINTER: u64 = 3;
/// Owners and waiters that are believed.
const MOST_OWNERS: u64 = 0x4000;
const MOST_WAITERS: usize = 0x4000;

/// Reads locks; keep one for a command.
pub struct Locks<'a> {
    session: &'a Session<'a>,
    kernel: Kernel<'a>,
    resource: Type<'a>,
    owner: Type<'a>,
    /// Offset of the thread in an entry of a chain of waiters, where entries tell it.
    chain_thread: Option<u64>,
    fast: Option<Fast>,
    threads: OnceCell<Threads>,
}

/// Offsets of fast resources and of their owners' entries.
struct Fast {
    owners: u64,
    link: u64,
    thread: u64,
    waiting: u64,
    again: u64,
}

/// An owner of a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// As the resource has it, low bits and all.
    pub raw: Va,
    /// Without the low bits.
    pub thread: Va,
    /// Times it acquired the resource; 0 for an entry that is not in use.
    pub count: u64,
    /// False where no thread object stands there.
    pub is_thread: bool,
}

impl Owner {
    /// True for a pointer that was stored in place of the thread.
    pub fn is_tagged(&self) -> bool {
        self.raw != self.thread
    }
}

/// An executive resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its `_ERESOURCE`.
    pub at: Va,
    /// `ActiveEntries`, or `ActiveCount` where there is no such field: owners.
    pub active: u64,
    /// True where one thread has it alone.
    pub exclusive: bool,
    /// Times a thread had to wait.
    pub contention: u64,
    /// Threads that wait to share it, as counted.
    pub shared_waiters: u64,
    /// Threads that wait to have it alone, as counted.
    pub exclusive_waiters: u64,
    /// Owners.
    pub owners: Vec<Owner>,
    /// Threads that were found waiting to share it.
    pub waiting_shared: Vec<Va>,
    /// Threads that were found waiting to have it alone.
    pub waiting_exclusive: Vec<Va>,
    /// What could not be read or cannot be true.
    pub problems: Vec<String>,
}

impl Resource {
    /// True if a thread has it.
    pub fn is_held(&self) -> bool {
        self.active != 0
    }

    /// True if a thread waits for it.
    pub fn is_contended(&self) -> bool {
        self.shared_waiters != 0
            || self.exclusive_waiters != 0
            || !self.waiting_shared.is_empty()
            || !self.waiting_exclusive.is_empty()
    }
}

/// What a thread waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// The objects of its wait blocks.
    pub objects: Vec<Va>,
    /// True where any one of several objects wakes it.
    pub any: bool,
}

/// A thread in a few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadFacts {
    /// Its `_ETHREAD`.
    pub at: Va,
    /// Its `_EPROCESS`.
    pub process: Va,
    /// The process' image name; empty where it is not readable.
    pub image: String,
    /// Process id.
    pub process_id: u64,
    /// Thread id.
    pub thread_id: u64,
    /// `Waiting`, `Running`…
    pub state: String,
    /// Why it waits, `WrResource`; empty for one that does not.
    pub reason: String,
}

/// Every thread, with the bounds of its kernel stack.
#[derive(Default)]
struct Threads {
    list: Vec<Va>,
    stacks: Vec<(Va, Va, Va)>,
    problems: Vec<String>,
}

impl<'a> Locks<'a> {
    /// Finds out how this kernel's locks are made.
    ///
    /// # Errors
    /// Without the kernel's types.
    pub fn new(session: &'a Session<'a>) -> Result<Locks<'a>> {
        let find = |name: &str| session.types().find(name);
        let place = |name: &str, field: &str| Some(find(name).ok()?.field(field)?.offset);
        let entry = |field: &str| place("nt!_FAST_OWNER_ENTRY_INTERNAL", field);
        let fast = || {
            Some(Fast {
                owners: place("nt!_FAST_ERESOURCE_INTERNAL", "OwnerEntryListHead")?,
                link: entry("LockListEntry")?,
                thread: entry("ThreadAddress")?,
                waiting: entry("IsWaiting")?,
                again: entry("SublistHead")?,
            })
        };
        Ok(Locks {
            session,
            kernel: Kernel::new(session),
            resource: find("nt!_ERESOURCE")?,
            owner: find("nt!_OWNER_ENTRY")?,
            chain_thread: place("nt!_KWAIT_CHAIN_ENTRY", "Thread"),
            fast: fast(),
            threads: OnceCell::new(),
        })
    }

    /// The resources of the system's list, in its order.
    ///
    /// # Errors
    /// Where the head of the list is not known or not readable.
    pub fn resources(&self) -> Result<Salvaged> {
        let head = variable(self.session, "ExpSystemResourcesList", Some(KD_RESOURCES))?;
        salvage::ring(self.session.memory(), head, self.resource.offset("SystemResourcesList")?, |_| None)
    }

    /// The resource at `at`.
    ///
    /// # Errors
    /// Where its fields cannot be read.
    pub fn resource(&self, at: Va) -> Result<Resource> {
        let read = self.resource.at(at);
        let active =
            if self.resource.field("ActiveEntries").is_some() { "ActiveEntries" } else { "ActiveCount" };
        let flag = read.u64("Flag")?;
        let mut found = Resource {
            at,
            active: read.u64(active)?,
            exclusive: flag & OWNED_EXCLUSIVE != 0,
            contention: read.u64("ContentionCount")?,
            shared_waiters: read.u64("NumberOfSharedWaiters")?,
            exclusive_waiters: read.u64("NumberOfExclusiveWaiters")?,
            owners: Vec::new(),
            waiting_shared: Vec::new(),
            waiting_exclusive: Vec::new(),
            problems: Vec::new(),
        };
        match self.fast.as_ref().filter(|_| flag & FAST != 0) {
            Some(fast) => {
                let owners = self.fast_owners(fast, at, &mut found.owners);
                self.told("owners", owners, &mut found.problems)?;
            }
            None => self.plain_owners(at, &mut found)?,
        }
        for (field, what, threads) in [
            ("SharedWaiters", "shared waiters", &mut found.waiting_shared),
            ("ExclusiveWaiters", "exclusive waiters", &mut found.waiting_exclusive),
        ] {
            let waiters = read.pointer(field).and_then(|at| self.waiters(at, threads));
            self.told(what, waiters, &mut found.problems)?;
        }
        let problems = &mut found.problems;
        for (what, counted, threads) in [
            ("shared", found.shared_waiters, &found.waiting_shared),
            ("exclusive", found.exclusive_waiters, &found.waiting_exclusive),
        ] {
            if counted != threads.len() as u64 {
                problems.push(format!("{counted} {what} waiters are counted, {} were found", threads.len()));
            }
        }
        Ok(found)
    }

    fn plain_owners(&self, at: Va, found: &mut Resource) -> Result<()> {
        let entry = self.owner.size();
        let own = match (self.resource.field("OwnerEntry"), self.resource.field("OwnerThreads")) {
            (Some(field), _) => vec![field.offset],
            (None, Some(field)) => vec![field.offset, field.offset + entry],
            (None, None) => return Err(Error::NoSymbols("nt!_ERESOURCE has no owners".to_owned())),
        };
        for offset in own {
            found.owners.extend(self.owner(at.add(offset))?);
        }
        let table = self.resource.at(at).pointer("OwnerTable")?;
        if !table.is_null() {
            let owners = self.table(table, &mut found.owners);
            self.told("owner table", owners, &mut found.problems)?;
        }
        Ok(())
    }

    /// The owners of a fast resource. Threads that wait for it stand in the same ring.
    fn fast_owners(&self, fast: &Fast, at: Va, owners: &mut Vec<Owner>) -> Result<()> {
        let memory = self.session.memory();
        for entry in list::ring(memory, at.add(fast.owners)).of(fast.link).at_most(MOST_OWNERS as usize) {
            let entry = entry?;
            if memory.u8(entry.add(fast.waiting))? != 0 {
                continue;
            }
            // What the thread acquired again hangs in its first entry.
            let again = list::ring(memory, entry.add(fast.again)).at_most(MOST_OWNERS as usize);
            let thread = memory.pointer(entry.add(fast.thread))?;
            let count = 1 + again.map_while(Result::ok).count() as u64;
            owners.push(Owner { raw: thread, thread, count, is_thread: self.is_thread(thread) });
        }
        Ok(())
    }

    /// The owner whose entry stands at `at`, if the entry is in use.
    fn owner(&self, at: Va) -> Result<Option<Owner>> {
        let raw = self.owner.at(at).pointer("OwnerThread")?;
        if raw.is_null() {
            return Ok(None);
        }
        let thread = Va(raw.0 & !OWNER_POINTER);
        let count = self.owner.at(at).u64("OwnerCount")?;
        Ok(Some(Owner { raw, thread, count, is_thread: self.is_thread(thread) }))
    }

    fn table(&self, table: Va, owners: &mut Vec<Owner>) -> Result<()> {
        let size = self.owner.at(table).u64("TableSize")?;
        if size > MOST_OWNERS {
            return Err(Error::Other(format!("{size} entries at {table} are more than there can be")));
        }
        // The first entry holds the size.
        for index in 1..size {
            self.session.check_interrupt()?;
            owners.extend(self.owner(table.add(index * self.owner.size()))?);
        }
        Ok(())
    }

    /// The threads that wait at what a resource's waiters field points to.
    fn waiters(&self, at: Va, threads: &mut Vec<Va>) -> Result<()> {
        match at {
            Va::NULL => Ok(()),
            at if self.is_waitable(at) => wait::waiters(&self.kernel, at, threads),
            at => self.chained(at, threads),
        }
    }

    /// True where a dispatcher object with a sound wait list stands.
    fn is_waitable(&self, at: Va) -> bool {
        let check = || {
            let head = wait::wait_list(&self.kernel, at)?;
            let memory = self.session.memory();
            let pointer = u64::from(self.session.target().pointer_size());
            let next = memory.pointer(head)?;
            Ok::<_, Error>(memory.pointer(next.add(pointer))? == head)
        };
        self.kind(at).is_some_and(|kind| !matches!(kind, Kind::Unknown { .. })) && check().unwrap_or(false)
    }

    /// What the dispatcher object at `at` is; `None` where none can stand there.
    pub fn kind(&self, at: Va) -> Option<Kind> {
        if !self.session.target().is_kernel(at) {
            return None;
        }
        wait::kind_of(&self.kernel, at).ok().map(|(kind, _)| kind)
    }

    /// True where a thread object stands.
    pub fn is_thread(&self, at: Va) -> bool {
        wait::is_thread(&self.kernel, at)
    }

    /// The threads of the entries of a chain.
    fn chained(&self, first: Va, threads: &mut Vec<Va>) -> Result<()> {
        let (mut at, mut seen) = (first, HashSet::new());
        loop {
            self.session.check_interrupt()?;
            if !seen.insert(at) || seen.len() > MOST_WAITERS {
                return Err(Error::Other(format!("the chain at {first} comes back to {at}")));
            }
            let told = self.chain_thread.and_then(|field| self.session.memory().pointer(at.add(field)).ok());
            let told = told.filter(|&thread| self.is_thread(thread));
            let Some(thread) = told.or_else(|| self.stack_owner(at)) else {
                return Err(Error::Other(format!(
                    "{at} is neither an object to wait for nor a waiter's entry in a chain"
                )));
            };
            threads.push(thread);
            at = self.session.memory().pointer(at)?;
            if at.is_null() || at == first {
                return Ok(());
            }
        }
    }

    /// The thread on whose kernel stack an address is.
    pub fn stack_owner(&self, at: Va) -> Option<Va> {
        let stacks = &self.all().stacks;
        let index = stacks.partition_point(|stack| stack.0 <= at).checked_sub(1)?;
        stacks.get(index).filter(|stack| at < stack.1).map(|stack| stack.2)
    }

    /// Every thread of every process, as far as the lists lead, and what was not followed.
    pub fn threads(&self) -> (&[Va], &[String]) {
        let all = self.all();
        (&all.list, &all.problems)
    }

    fn all(&self) -> &Threads {
        self.threads.get_or_init(|| {
            let mut all = Threads::default();
            if let Err(error) = self.read_threads(&mut all) {
                all.problems.push(error.to_string());
            }
            let bounds = |thread: Va| {
                let of = self.kernel.structure("_KTHREAD")?;
                let read = of.at(thread);
                Ok::<_, Error>((read.pointer("StackLimit")?, read.pointer("StackBase")?, thread))
            };
            all.stacks = all.list.iter().filter_map(|&thread| bounds(thread).ok()).collect();
            all.stacks.sort_unstable();
            all
        })
    }

    fn read_threads(&self, all: &mut Threads) -> Result<()> {
        let processes = process::processes(&self.kernel)?;
        all.problems.extend(processes.problems);
        let mut seen = HashSet::new();
        for process in processes.entries {
            let threads =
                Process::read(&self.kernel, process).and_then(|p| thread::threads(&self.kernel, &p));
            let what = format!("threads of process {}", self.session.target().show(process));
            if let Some(threads) = self.told(&what, threads, &mut all.problems)? {
                all.list.extend(threads.entries.into_iter().filter(|thread| seen.insert(*thread)));
                all.problems.extend(threads.problems);
            }
        }
        Ok(())
    }

    /// What a thread waits for; nothing where it does not wait.
    ///
    /// # Errors
    /// Where the thread or its wait blocks cannot be read, or the blocks are too many.
    pub fn wait_of(&self, thread: Va) -> Result<Wait> {
        let thread = Thread::read(&self.kernel, thread)?;
        if thread.state()? != thread::WAITING {
            return Ok(Wait::default());
        }
        let (objects, stopped) = wait::wait_objects(&self.kernel, &thread);
        if let Some(error) = stopped {
            return Err(error);
        }
        let any = match objects.first() {
            Some(first) => self.kernel.structure("_KWAIT_BLOCK")?.at(first.block).u64("WaitType")? != 0,
            None => false,
        };
        Ok(Wait { objects: objects.into_iter().map(|object| object.object).collect(), any })
    }

    /// A thread in a few words.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn describe(&self, at: Va) -> Result<ThreadFacts> {
        let thread = Thread::read(&self.kernel, at)?;
        let (process_id, thread_id) = thread.ids()?;
        let state = thread.state()?;
        let owner = [thread.process(), thread.attached()].into_iter().flatten();
        let process = owner.into_iter().find_map(|process| Process::read(&self.kernel, process).ok());
        Ok(ThreadFacts {
            at,
            image: process.as_ref().and_then(|process| process.name().ok()).unwrap_or_default(),
            process: process.map_or(Va::NULL, |process| process.at),
            process_id,
            thread_id,
            state: thread::state_name(state),
            reason: if state == thread::WAITING { thread.wait_reason(&self.kernel)? } else { String::new() },
        })
    }

    /// The value, or its error among the problems; only an interrupt goes on.
    fn told<T>(&self, what: &str, result: Result<T>, problems: &mut Vec<String>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                problems.push(format!("{what}: {}", self.session.explain(&error)));
                Ok(None)
            }
        }
    }
}
