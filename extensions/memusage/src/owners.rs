//! Whose a frame is: a file's, by the subsection its entry names; a process's, by the page tables that lead to it; a
//! driver's or a pool's, by the address it is mapped at.

use kd_sdk::nt::memory::{self, TableWindow};
use kd_sdk::nt::pfn::{Database, Layout};
use kd_sdk::nt::pool::{self, Bounds, Kind};
use kd_sdk::nt::region::Regions;
use kd_sdk::nt::section::Sections;
use kd_sdk::prelude::*;
use kd_sdk::target::Machine;
use std::collections::HashMap;

/// The most page tables whose owner is remembered: 16 bytes and a bit each.
const MOST_TABLES: usize = 4 << 20;
/// The most subsections that are remembered.
const MOST_SUBSECTIONS: usize = 1 << 20;
/// Levels of page tables.
const MOST_LEVELS: usize = 6;
/// The most reasons for refusing something that are kept.
const MOST_REFUSED: usize = 64;

/// Whose a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Owner {
    /// A control area's.
    Area(Va),
    /// A section's that page files back.
    PageFileSection,
    /// A process's, by its place in [`Owners::processes`].
    Process(u32),
    /// A driver's, by its place in [`Owners::drivers`].
    Driver(u32),
    /// A pool's.
    Pool(Kind),
    /// A program's that manages it itself.
    Window,
    /// Allocated or locked by a driver: no page table holds it.
    Dangling,
    /// The kernel's, for what this type of its addresses is for.
    Region(u8),
    /// The kernel's, for something else.
    System,
    /// Not to be found out.
    Unknown,
}

/// A process whose page tables are known.
pub struct Program {
    pub process: Va,
    pub id: u64,
    pub name: String,
}

/// Finds owners; keeps what it learned.
pub struct Owners<'a> {
    session: &'a Session<'a>,
    database: &'a Database<'a>,
    sections: Option<Sections<'a>>,
    window: Option<TableWindow>,
    pub processes: Vec<Program>,
    /// Names of drivers.
    pub drivers: Vec<String>,
    /// First and last byte of each driver, ascending.
    images: Vec<(u64, u64)>,
    pools: Vec<pool::Range>,
    /// What the kernel uses its addresses for, where an array tells.
    regions: Option<Regions>,
    /// The process that a page table belongs to.
    tables: HashMap<u64, Option<u32>>,
    /// The control area of a subsection.
    subsections: HashMap<Va, Option<Va>>,
    last_subsection: (u64, Owner),
    last_table: (u64, Option<u32>),
    /// What was refused.
    pub refused: Vec<String>,
}

/// The frames at the top of a process's page tables. With PAE these are the four page directories, whose own table is
/// smaller than a frame.
fn tops(session: &Session<'_>, root: Pa) -> Vec<Pfn> {
    let mut found = vec![root.pfn()];
    let mut table = [0; 32];
    let pae = session.types().find("nt!_MMPTE").is_ok_and(|of| of.size() == 8);
    if session.target().machine() == Machine::X86
        && pae
        && session.memory().read_physical(root, &mut table).is_ok()
    {
        let entries = table.as_chunks::<8>().0.iter().map(|entry| u64::from_le_bytes(*entry));
        found.extend(
            entries.filter(|entry| entry & 1 != 0).map(|entry| Pa(entry & 0x000f_ffff_ffff_f000).pfn()),
        );
    }
    found
}

impl<'a> Owners<'a> {
    /// Learns of processes, drivers and pools.
    ///
    /// # Errors
    /// Ctrl+C.
    pub fn new(session: &'a Session<'a>, database: &'a Database<'a>) -> Result<Owners<'a>> {
        let mut refused = Vec::new();
        let (mut processes, mut tables) = (Vec::new(), HashMap::new());
        match memory::charges(session) {
            Ok((charges, problems)) => {
                for charge in charges {
                    let number = processes.len() as u32;
                    // The first of those that share page tables has them: Idle after System.
                    for root in charge.roots.iter().flat_map(|&root| tops(session, root)) {
                        tables.entry(root.0).or_insert(Some(number));
                    }
                    processes.push(Program { process: charge.process, id: charge.id, name: charge.name });
                }
                refused.extend(problems.into_iter().map(|problem| format!("processes: {problem}")));
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => refused.push(format!("processes: {error}")),
        }
        let sections =
            Sections::new(session).inspect_err(|error| refused.push(format!("files: {error}"))).ok();
        let root = Pfn(session.target().directory_table_base().0 / kd_sdk::address::PAGE_SIZE);
        let window =
            database.window(root).inspect_err(|error| refused.push(format!("page tables: {error}"))).ok();
        let mut modules: Vec<_> = session.target().modules().filter(|module| module.size != 0).collect();
        modules.sort_by_key(|module| module.base);
        Ok(Owners {
            session,
            database,
            sections,
            window,
            processes,
            drivers: modules.iter().map(|module| module.image.clone()).collect(),
            images: modules.iter().map(|m| (m.base.0, m.base.0.saturating_add(m.size - 1))).collect(),
            // Where others lie beside a pool, an address does not tell whose it is.
            pools: pool::ranges(session).into_iter().filter(|range| range.bounds != Bounds::Shared).collect(),
            // What units an array of five-level systems counts is not known.
            regions: window.filter(|window| window.bits <= 48).and_then(|_| Regions::read(session).ok()),
            tables,
            subsections: HashMap::new(),
            last_subsection: (0, Owner::Unknown),
            last_table: (u64::MAX, None),
            refused,
        })
    }

    fn refuse(&mut self, text: String) {
        if self.refused.len() < MOST_REFUSED {
            self.refused.push(text);
        }
    }

    /// The owner of a frame, and whether the frame is a page table. `twin` is the entry of the frame whose number
    /// differs in the lowest bit.
    ///
    /// # Errors
    /// Ctrl+C.
    pub fn of<'b>(
        &mut self,
        layout: &Layout,
        pfn: Pfn,
        entry: &[u8],
        twin: impl FnOnce() -> Option<&'b [u8]>,
    ) -> Result<(Owner, bool)> {
        if layout.prototype.get(entry) != 0 {
            return Ok((self.of_prototype(layout.original.get(entry)), false));
        }
        if layout.window.is_some_and(|slot| slot.get(entry) != 0) {
            return Ok((Owner::Window, false));
        }
        let containing = layout.containing.get(entry);
        // Frames that drivers allocated name a frame that does not exist.
        if !self.database.has(Pfn(containing)) {
            return Ok((Owner::Dangling, false));
        }
        let pte = layout.pte_of(entry);
        let Some(window) = self.window else { return Ok((Owner::Unknown, false)) };
        let Some(va) = window.address(pte) else {
            let private = self.table_owner(Pfn(containing))?;
            return Ok((private.map_or(Owner::Unknown, Owner::Process), false));
        };
        let table = window.holds(va);
        // The entry of a large page stands where those of page tables do, but all of its frames have the same one.
        if table
            && let Some(va) = window.address(va)
            && twin()
                .is_some_and(|twin| layout.pte_of(twin) == pte && layout.containing.get(twin) == containing)
        {
            let kernel = self.session.target().is_kernel(va);
            let owner = if kernel { None } else { self.table_owner(Pfn(containing))? };
            return Ok((owner.map_or_else(|| self.of_kernel(va), Owner::Process), false));
        }
        if !table && self.session.target().is_kernel(va) {
            return Ok((self.of_kernel(va), false));
        }
        let owner = self.table_owner(if table { pfn } else { Pfn(containing) })?;
        Ok((owner.map_or(if table { Owner::System } else { Owner::Unknown }, Owner::Process), table))
    }

    fn of_prototype(&mut self, original: u64) -> Owner {
        if self.last_subsection.0 == original && original != 0 {
            return self.last_subsection.1;
        }
        let owner = match self.sections.as_ref().and_then(|sections| sections.subsection_of(original)) {
            None => Owner::PageFileSection,
            Some(subsection) => self.area_of(subsection).map_or(Owner::Unknown, Owner::Area),
        };
        self.last_subsection = (original, owner);
        owner
    }

    fn area_of(&mut self, subsection: Va) -> Option<Va> {
        if let Some(known) = self.subsections.get(&subsection) {
            return *known;
        }
        let found = self.sections.as_ref()?.area_of(subsection);
        let area = match found {
            Ok(area) => Some(area),
            Err(error) => {
                self.refuse(format!("a subsection at {subsection}: {error}"));
                None
            }
        };
        if self.subsections.len() < MOST_SUBSECTIONS {
            self.subsections.insert(subsection, area);
        }
        area
    }

    /// Whose page tables a table belongs to: up to the root.
    fn table_owner(&mut self, table: Pfn) -> Result<Option<u32>> {
        if self.last_table.0 == table.0 {
            return Ok(self.last_table.1);
        }
        let mut way = Vec::new();
        let mut at = table.0;
        let owner = loop {
            if let Some(known) = self.tables.get(&at) {
                break *known;
            }
            if way.len() >= MOST_LEVELS || way.contains(&at) {
                break None;
            }
            way.push(at);
            self.session.check_interrupt()?;
            match self.database.frame(Pfn(at)) {
                Ok(frame) => at = frame.containing.0,
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(_) => break None,
            }
        };
        if self.tables.len() < MOST_TABLES {
            self.tables.extend(way.into_iter().map(|table| (table, owner)));
        }
        self.last_table = (table.0, owner);
        Ok(owner)
    }

    fn of_kernel(&self, va: Va) -> Owner {
        let after = self.images.partition_point(|image| image.0 <= va.0);
        if let Some(index) = after.checked_sub(1)
            && self.images.get(index).is_some_and(|image| va.0 <= image.1)
        {
            return Owner::Driver(index as u32);
        }
        match self.pools.iter().find(|range| range.start <= va && va < range.end) {
            Some(range) => Owner::Pool(range.kind),
            None => match self.regions.as_ref().and_then(|regions| regions.at(va)) {
                Some((region, _)) => Owner::Region(region),
                None => Owner::System,
            },
        }
    }

    /// What a type of kernel addresses is called.
    pub fn region_name(&self, region: u8) -> &str {
        self.regions.as_ref().and_then(|regions| regions.name(region)).unwrap_or("?")
    }

    /// The sections, where their types are known.
    pub fn sections(&self) -> Option<&Sections<'a>> {
        self.sections.as_ref()
    }
}
