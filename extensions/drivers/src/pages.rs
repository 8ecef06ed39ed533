//! Where the pages of an image are, by the PFN database: in use, on the standby or a modified list, locked.

use kd_sdk::address::{PAGE_SIZE, Va};
use kd_sdk::error::Result;
use kd_sdk::nt::pfn::{Database, State};
use kd_sdk::session::Session;

/// Pages that are asked about for one image at most: 256 MiB.
const MOST_PAGES: u64 = 0x1_0000;

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

/// Counts the pages of an image. A database that lacks one of them is as good as none.
pub fn count(session: &Session<'_>, database: Option<&Database<'_>>, base: Va, size: u64) -> Result<Pages> {
    let memory = session.memory();
    let (mut translated, mut counted) = (0, Pages { resident: 0, standby: Some(0), locked: Some(0) });
    let mut known = database.is_some();
    for page in 0..size.div_ceil(PAGE_SIZE).min(MOST_PAGES) {
        if page % 0x100 == 0 {
            session.check_interrupt()?;
        }
        let Ok(pa) = memory.translate(base.add(page * PAGE_SIZE)) else { continue };
        translated += 1;
        match database.filter(|_| known).map(|database| database.frame(pa.pfn())) {
            Some(Ok(frame)) => counted.add(frame.state, frame.references),
            _ => known = false,
        }
    }
    Ok(if known { counted } else { Pages { resident: translated, standby: None, locked: None } })
}

impl Pages {
    fn add(&mut self, state: Option<State>, references: u64) {
        match state {
            Some(State::Standby | State::Modified | State::ModifiedNoWrite) => {
                self.standby = self.standby.map(|count| count + 1);
            }
            Some(State::Active) => {
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
        use State::{Active, Free, Modified, ModifiedNoWrite, Standby, Transition};
        let mut pages = Pages { resident: 0, standby: Some(0), locked: Some(0) };
        let places = [
            (Active, 1),
            (Active, 2),
            (Standby, 0),
            (Modified, 0),
            (ModifiedNoWrite, 0),
            (Free, 0),
            (Transition, 1),
        ];
        for (place, references) in places {
            pages.add(Some(place), references);
        }
        assert_eq!(pages, Pages { resident: 2, standby: Some(3), locked: Some(1) });
    }
}
