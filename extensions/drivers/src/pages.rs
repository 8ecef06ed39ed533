//! Where the pages of an image are, by the PFN database: in use, on the standby or a modified list, locked.

use kd_sdk::address::{PAGE_SIZE, Va};
use kd_sdk::error::{Error, Result};
use kd_sdk::nt;
use kd_sdk::session::Session;
use kd_sdk::types::Type;

/// Offset of `MmPfnDatabase` in KDDEBUGGER_DATA64.
const KD_PFN_DATABASE: u32 = 0xc0;
/// Pages that are asked about for one image at most: 256 MiB.
const MOST_PAGES: u64 = 0x1_0000;
/// `_MMPFNENTRY.PageLocation`.
const STANDBY: u64 = 2;
const MODIFIED_NO_WRITE: u64 = 4;
const ACTIVE: u64 = 6;

/// The database, where it is captured.
pub struct PfnDatabase<'a> {
    entries: Va,
    entry: Type<'a>,
    references: &'static str,
}

/// Pages of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pages {
    /// In use; without a database: with a translation.
    pub resident: u64,
    /// Taken from the working set and still in memory; `None` without a database.
    pub standby: Option<u64>,
    /// In use and referenced more than once, as pages are that an MDL locks; `None` without a database.
    pub locked: Option<u64>,
}

impl<'a> PfnDatabase<'a> {
    /// Finds the database.
    ///
    /// # Errors
    /// Where types are missing, or where it stands cannot be read.
    pub fn new(session: &'a Session<'a>) -> Result<PfnDatabase<'a>> {
        let entry = session.types().find("nt!_MMPFN")?;
        let entries = nt::pointer_variable(session, "MmPfnDatabase", Some(KD_PFN_DATABASE))?;
        let references =
            ["u3.ReferenceCount", "u3.e2.ReferenceCount"].into_iter().find(|path| entry.has(path));
        let references =
            references.ok_or_else(|| Error::NoSymbols("nt!_MMPFN has no reference count".to_owned()))?;
        entry.require("u3.e1.PageLocation")?;
        Ok(PfnDatabase { entries, entry, references })
    }

    /// Place and references of a page.
    fn page(&self, number: u64) -> Result<(u64, u64)> {
        let at = self.entries.add(number.wrapping_mul(self.entry.size()));
        let read = self.entry.at(at).snapshot()?;
        Ok((read.u64("u3.e1.PageLocation")?, read.u64(self.references)?))
    }
}

/// Counts the pages of an image. A database that lacks one of them is as good as none.
pub fn count(
    session: &Session<'_>,
    database: Option<&PfnDatabase<'_>>,
    base: Va,
    size: u64,
) -> Result<Pages> {
    let memory = session.memory();
    let (mut translated, mut counted) = (0, Pages { resident: 0, standby: Some(0), locked: Some(0) });
    let mut known = database.is_some();
    for page in 0..size.div_ceil(PAGE_SIZE).min(MOST_PAGES) {
        if page % 0x100 == 0 {
            session.check_interrupt()?;
        }
        let Ok(pa) = memory.translate(base.add(page * PAGE_SIZE)) else { continue };
        translated += 1;
        match database.filter(|_| known).map(|database| database.page(pa.pfn().0)) {
            Some(Ok((place, references))) => counted.add(place, references),
            _ => known = false,
        }
    }
    Ok(if known { counted } else { Pages { resident: translated, standby: None, locked: None } })
}

impl Pages {
    fn add(&mut self, place: u64, references: u64) {
        match place {
            STANDBY..=MODIFIED_NO_WRITE => self.standby = self.standby.map(|count| count + 1),
            ACTIVE => {
                self.resident += 1;
                self.locked = self.locked.map(|count| count + u64::from(references > 1));
            }
            // Free, bad, under way: the page table and the database do not agree, or the page is being read.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted() {
        let mut pages = Pages { resident: 0, standby: Some(0), locked: Some(0) };
        for (place, references) in [(6, 1), (6, 2), (2, 0), (3, 0), (4, 0), (1, 0), (7, 1)] {
            pages.add(place, references);
        }
        assert_eq!(pages, Pages { resident: 2, standby: Some(3), locked: Some(1) });
    }
}
