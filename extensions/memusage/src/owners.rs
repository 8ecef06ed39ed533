//! Whose a frame is: a file's, by the subsection its entry names; a process's, by the page tables that lead to it; a
//! driver's or a pool's, by the address it is mapped at.

use kd_sdk::nt::memory::{self, TableWindow};
use kd_sdk::nt::pfn::{Database, Layout};
use kd_sdk::nt::pool::{self, Bounds, Kind};
use kd_sdk::nt::pte;
use kd_sdk::nt::section::Sections;
use kd_sdk::nt::va_space::{self, Stretch};
use kd_sdk::prelude::*;
use kd_sdk::target::Machine;
use std::collections::HashMap;

/// The most page tables whose owner is remembered: 16 bytes and a bit each.
const MOST_TABLES: usize = 4 << 20;
/// The most subsections that are remembered.
const MOST_SUBSECTIONS: usize = 1 << 20;
/// Frames of pages that are larger than one: of 64 KB, 2 MB and 1 GB.
const LARGE_PAGES: [u64; 3] = [16, 512, 1 << 18];
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
    /// The kernel's, for what this stretch of its addresses is for.
    Region(u16),
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
    /// What the kernel assigned its addresses to, ascending.
    regions: Vec<(Stretch, Owner)>,
    /// The process that a page table belongs to.
    tables: HashMap<u64, Option<u32>>,
    /// The control area of a subsection.
    subsections: HashMap<Va, Option<Va>>,
    last_subsection: (u64, Owner),
    last_table: (u64, Option<u32>),
    last_resident: (core::ops::Range<u64>, Owner),
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

/// Who has what lies in each stretch. Those with one name belong together.
fn owners_of(stretches: Vec<Stretch>) -> Vec<(Stretch, Owner)> {
    let mut named: Vec<(Stretch, Owner)> = Vec::new();
    for region in stretches.into_iter().filter(|stretch| stretch.name != va_space::UNUSED) {
        let same = named.iter().find(|(known, _)| known.name == region.name).map(|(_, owner)| *owner);
        let owner = same.unwrap_or(match region.name.as_str() {
            "NonPagedPool" => Owner::Pool(Kind::NonPaged),
            "PagedPool" => Owner::Pool(Kind::Paged),
            _ => Owner::Region(named.len() as u16),
        });
        named.push((region, owner));
    }
    named
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
        let window =
            pte::window(session).inspect_err(|error| refused.push(format!("page tables: {error}"))).ok();
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
            regions: owners_of(va_space::stretches(session)),
            tables,
            subsections: HashMap::new(),
            last_subsection: (0, Owner::Unknown),
            last_table: (u64::MAX, None),
            last_resident: (0..0, Owner::System),
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
        if layout.is_managed(entry) {
            return Ok((Owner::Window, false));
        }
        if layout.resident.is_some_and(|slot| slot.get(entry) != 0)
            && let Some(owner) = self.of_resident(pfn)?
        {
            return Ok((owner, false));
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
        if window.holds(va) {
            // The entry is one of a directory: of a page table, or of a large page, all of whose frames have the same.
            let large = twin()
                .is_some_and(|twin| layout.pte_of(twin) == pte && layout.containing.get(twin) == containing);
            return match window.address(va).filter(|_| large) {
                Some(first) => Ok((self.mapped(first, Pfn(containing))?, false)),
                None => Ok((self.table_owner(pfn)?.map_or(Owner::System, Owner::Process), true)),
            };
        }
        Ok((self.mapped(va, Pfn(containing))?, false))
    }

    /// The owner of what is mapped at `va` by an entry in the frame `containing`.
    fn mapped(&mut self, va: Va, containing: Pfn) -> Result<Owner> {
        if self.session.target().is_kernel(va) {
            return Ok(self.of_kernel(va));
        }
        Ok(self.table_owner(containing)?.map_or(Owner::Unknown, Owner::Process))
    }

    /// The owner of a frame in a large page, whose first frame tells the entry of its first 4 KB.
    fn of_resident(&mut self, pfn: Pfn) -> Result<Option<Owner>> {
        if self.last_resident.0.contains(&pfn.0) {
            return Ok(Some(self.last_resident.1));
        }
        let Some(window) = self.window else { return Ok(None) };
        for count in LARGE_PAGES {
            let first = pfn.0 & !(count - 1);
            let Ok(frame) = self.database.frame(Pfn(first)) else { continue };
            let Some(va) = window.address(frame.pte).filter(|_| frame.resident) else { continue };
            let owner = if window.holds(va) { Owner::System } else { self.mapped(va, frame.containing)? };
            self.last_resident = (first..first + count, owner);
            return Ok(Some(owner));
        }
        Ok(None)
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
            None => self.region(va),
        }
    }

    fn region(&self, va: Va) -> Owner {
        let after = self.regions.partition_point(|(region, _)| region.start <= va);
        let found = after.checked_sub(1).and_then(|index| self.regions.get(index));
        found.filter(|(region, _)| region.holds(va)).map_or(Owner::System, |(_, owner)| *owner)
    }

    /// What a stretch of kernel addresses is called.
    pub fn region_name(&self, region: u16) -> &str {
        self.regions.get(usize::from(region)).map_or("?", |(region, _)| region.name.as_str())
    }

    /// The sections, where their types are known.
    pub fn sections(&self) -> Option<&Sections<'a>> {
        self.sections.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_have_owners() {
        let region =
            |start, last, name: &str| Stretch { start: Va(start), last: Va(last), name: name.to_owned() };
        let owners = owners_of(vec![
            region(0x1000, 0x1fff, "SystemCache"),
            region(0x2000, 0x2fff, "NonPagedPool"),
            region(0x4000, 0x4fff, "SystemCache"),
        ]);
        let owners: Vec<Owner> = owners.into_iter().map(|(_, owner)| owner).collect();
        assert_eq!(owners, [Owner::Region(0), Owner::Pool(Kind::NonPaged), Owner::Region(0)]);
    }
}
