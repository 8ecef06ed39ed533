//! What a kernel address lies in, as far as the kernel tells.
//!
//! Asked in this order: modules, the page that all programs share, processors' control regions, the window of the page
//! tables, stacks of threads, the PFN database, pools and other stretches that variables bound (Windows XP to 8.1), and
//! the memory manager's own notes of its address space, see [`super::va_space`]. Where none of these says anything,
//! nothing is guessed.

use super::clock;
use super::kernel::Kernel;
use super::memory::TableWindow;
use super::pfn::Database;
use super::process::{self, Process};
use super::processor::Processor;
use super::pte::Tables;
use super::va_space::{self, Stretch};
use super::{pool, thread};
use crate::address::{PAGE_SIZE, Va};
use crate::error::{Error, Result};
use crate::session::Session;

/// The most threads whose stacks are looked at.
const MOST_THREADS: usize = 1 << 18;

/// What a stretch of addresses is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    /// An image: of the kernel, a driver.
    Module,
    /// `KUSER_SHARED_DATA`.
    SharedData,
    /// Control region and block of a processor.
    ProcessorRegion,
    /// Where page tables see themselves.
    PageTables,
    /// The kernel stack of a thread.
    KernelStack,
    /// The PFN database.
    PfnDatabase,
    /// Nonpaged pool.
    NonPagedPool,
    /// Paged pool.
    PagedPool,
    /// Something else: its kind is in [`Region::va_type`].
    System,
}

impl Usage {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Usage::Module => "Module",
            Usage::SharedData => "SharedUserData",
            Usage::ProcessorRegion => "ProcessorControlRegion",
            Usage::PageTables => "PageTables",
            Usage::KernelStack => "KernelStack",
            Usage::PfnDatabase => "PfnDatabase",
            Usage::NonPagedPool => "NonPagedPool",
            Usage::PagedPool => "PagedPool",
            Usage::System => "System",
        }
    }
}

/// A stretch of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// What it is used for.
    pub usage: Usage,
    /// First byte.
    pub start: Va,
    /// Last byte.
    pub last: Va,
    /// What the memory manager calls the stretch: `NonPagedPool`, `SystemCache`, …
    pub va_type: Option<String>,
    /// Whose it is: a module, a thread, a processor.
    pub owner: Owner,
}

/// Whose a region is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody's in particular.
    Nobody,
    /// A module's: image, path.
    Module(String, String),
    /// A thread's.
    Thread(Va),
    /// A processor's.
    Processor(u32),
}

impl Region {
    fn new(usage: Usage, start: Va, bytes: u64, owner: Owner) -> Region {
        let last = Va(start.0.saturating_add(bytes.saturating_sub(1)));
        Region { usage, start, last, va_type: None, owner }
    }

    fn holds(&self, va: Va) -> bool {
        self.start <= va && va <= self.last
    }
}

/// Tells the region of its kind that an address may lie in.
type Finder = fn(&Session<'_>, Va) -> Result<Option<Region>>;

/// The region that a kernel address lies in; `None` where nothing tells.
///
/// # Errors
/// Ctrl+C. What cannot be read tells nothing.
pub fn at(session: &Session<'_>, va: Va) -> Result<Option<Region>> {
    let finders: [Finder; 7] = [module, shared_data, processor, page_tables, stack, frames, pools];
    let noted = noted(session, va).filter(|region| region.holds(va));
    for find in finders {
        match find(session, va) {
            Ok(Some(region)) if region.holds(va) => {
                // The notes of old places are not kept up.
                let kind = noted.and_then(|noted| noted.va_type).filter(|kind| kind != va_space::UNUSED);
                return Ok(Some(Region { va_type: kind, ..region }));
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            _ => {}
        }
    }
    Ok(noted)
}

fn module(session: &Session<'_>, va: Va) -> Result<Option<Region>> {
    Ok(session.target().module_at(va).map(|module| {
        Region::new(Usage::Module, module.base, module.size, Owner::Module(module.image, module.path))
    }))
}

fn shared_data(session: &Session<'_>, _: Va) -> Result<Option<Region>> {
    Ok(Some(Region::new(Usage::SharedData, clock::shared_data(session), PAGE_SIZE, Owner::Nobody)))
}

fn processor(session: &Session<'_>, va: Va) -> Result<Option<Region>> {
    let kernel = Kernel::new(session);
    let size = kernel.structure("_KPCR")?.size();
    for number in 0..session.target().info().processors {
        session.check_interrupt()?;
        let Ok(processor) = Processor::new(session, number) else { continue };
        let Some(pcr) = processor.pcr else { continue };
        let region = Region::new(Usage::ProcessorRegion, pcr, size, Owner::Processor(number));
        if region.holds(va) {
            return Ok(Some(region));
        }
    }
    Ok(None)
}

fn page_tables(session: &Session<'_>, _: Va) -> Result<Option<Region>> {
    let Some(TableWindow { base, entry, bits }) = Tables::current(session)?.window else { return Ok(None) };
    Ok(Some(Region::new(Usage::PageTables, base, (1 << (bits - 12)) * entry, Owner::Nobody)))
}

/// Stacks of the threads that run, then of all.
fn stack(session: &Session<'_>, va: Va) -> Result<Option<Region>> {
    let kernel = Kernel::new(session);
    let of = kernel.structure("_KTHREAD")?;
    let stack = |thread: Va| -> Option<Region> {
        let (base, limit) = (of.at(thread).pointer("StackBase"), of.at(thread).pointer("StackLimit"));
        let (base, limit) = (base.ok()?, limit.ok()?);
        let size = base.0.checked_sub(limit.0)?;
        let region = Region::new(Usage::KernelStack, limit, size, Owner::Thread(thread));
        (size < 1 << 20 && region.holds(va)).then_some(region)
    };
    for number in 0..session.target().info().processors {
        session.check_interrupt()?;
        let running =
            session.target().processor(number).map(|processor| kernel.address(processor.current_thread));
        if let Some(found) = running.and_then(stack) {
            return Ok(Some(found));
        }
    }
    let mut looked_at = 0;
    for at in process::processes(&kernel)?.entries {
        let threads = Process::read(&kernel, at).and_then(|process| thread::threads(&kernel, &process));
        for thread in threads.map(|threads| threads.entries).unwrap_or_default() {
            session.check_interrupt()?;
            looked_at += 1;
            if looked_at > MOST_THREADS {
                return Ok(None);
            }
            if let Some(found) = stack(thread) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

fn frames(session: &Session<'_>, _: Va) -> Result<Option<Region>> {
    let database = Database::open(session)?;
    let end = database.runs.last().map_or(0, |run| run.0.0.saturating_add(run.1));
    let bytes = end.saturating_mul(database.layout.size as u64);
    Ok(Some(Region::new(Usage::PfnDatabase, database.base, bytes, Owner::Nobody)))
}

fn pools(session: &Session<'_>, va: Va) -> Result<Option<Region>> {
    let ranges = pool::ranges(session);
    Ok(ranges.into_iter().find(|range| range.start <= va && va < range.end).map(|range| {
        let usage = if range.kind == pool::Kind::Paged { Usage::PagedPool } else { Usage::NonPagedPool };
        Region::new(usage, range.start, range.end.0 - range.start.0, Owner::Nobody)
    }))
}

/// What the memory manager notes of an address.
fn noted(session: &Session<'_>, va: Va) -> Option<Region> {
    let stretch = va_space::stretches(session).into_iter().find(|stretch| stretch.holds(va))?;
    let usage = match stretch.name.as_str() {
        "NonPagedPool" => Usage::NonPagedPool,
        "PagedPool" => Usage::PagedPool,
        "PfnDatabase" => Usage::PfnDatabase,
        "PageTables" => Usage::PageTables,
        _ => Usage::System,
    };
    let Stretch { start, last, name } = stretch;
    Some(Region { usage, start, last, va_type: Some(name), owner: Owner::Nobody })
}
