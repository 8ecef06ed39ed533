//! One scan over the PFN database: states, and what frames are used for.

use crate::owners::{Owner, Owners};
use kd_sdk::nt::pfn::{Database, Part, State};
use kd_sdk::prelude::*;
use std::collections::HashMap;

/// Frames in one state or another that are shown as a row.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct States {
    /// By [`State`].
    pub by_state: [u64; 8],
    /// In transition, without a reference.
    pub temporary: u64,
    /// The entry says no state.
    pub unknown: u64,
    /// The entry is not in the dump.
    pub missing: u64,
    /// In use and in no page table, charged and not.
    pub dangling: [u64; 2],
}

impl States {
    /// Frames whose entry was read.
    pub fn total(&self) -> u64 {
        self.by_state.iter().sum::<u64>() + self.temporary + self.unknown
    }
}

/// Frames of one owner, by use.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Usage {
    pub valid: u64,
    pub standby: u64,
    pub dirty: u64,
    pub shared: u64,
    pub locked: u64,
    pub page_tables: u64,
}

impl Usage {
    /// All frames: what rows are sorted by.
    pub fn sum(&self) -> u64 {
        self.valid + self.standby + self.dirty + self.page_tables
    }
}

/// A frame that waits for its file system.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub pfn: Pfn,
    pub pte: Va,
    pub owner: Owner,
}

/// The most frames that flag 2 lists.
const MOST_HELD: usize = 1 << 20;

/// What a scan found.
#[derive(Default)]
pub struct Counted {
    pub states: States,
    pub usage: HashMap<Owner, Usage>,
    pub held: Vec<Held>,
    /// Frames done when Ctrl+C came; `None` where it did not.
    pub interrupted: Option<u64>,
}

/// Scans the database. Without `owners` only states are counted; with `only_held` only frames that may not be written.
pub fn scan(
    session: &Session<'_>,
    database: &Database<'_>,
    mut owners: Option<&mut Owners<'_>>,
    only_held: bool,
) -> Result<Counted> {
    let mut counted = Counted::default();
    let total = database.frames();
    let mut done = 0;
    let layout = database.layout;
    let result = database.scan(&mut |part| {
        session.check_interrupt()?;
        match part {
            Part::Missing(_, count, _) => {
                counted.states.missing += count;
                done += count;
            }
            Part::Entries(first, bytes) => {
                let entries = bytes.chunks_exact(layout.size);
                done += entries.len() as u64;
                match owners.as_deref_mut() {
                    None => entries.for_each(|entry| {
                        count_state(&layout, entry, &mut counted.states);
                    }),
                    Some(owners) => {
                        // Neighbours often belong together: one look-up for a run of them.
                        let mut last: Option<(Owner, Usage)> = None;
                        for (entry, pfn) in entries.zip(first.0..) {
                            if pfn & 0x3fff == 0 {
                                session.check_interrupt()?;
                            }
                            let state = count_state(&layout, entry, &mut counted.states);
                            let Some(state) = state
                                .filter(|state| !matches!(state, State::Zeroed | State::Free | State::Bad))
                            else {
                                continue;
                            };
                            if only_held && state != State::ModifiedNoWrite {
                                continue;
                            }
                            let twin = || {
                                let at = usize::try_from((pfn ^ 1).checked_sub(first.0)?).ok()?;
                                bytes.chunks_exact(layout.size).nth(at)
                            };
                            let (owner, table) = owners.of(&layout, Pfn(pfn), entry, twin)?;
                            let used = matches!(state, State::Active | State::Transition);
                            let owner =
                                if owner == Owner::Dangling && !used { Owner::Unknown } else { owner };
                            if owner == Owner::Dangling {
                                let charged = layout.charged.is_some_and(|slot| slot.get(entry) != 0);
                                counted.states.dangling[usize::from(!charged)] += 1;
                            }
                            if state == State::ModifiedNoWrite && counted.held.len() < MOST_HELD {
                                counted.held.push(Held { pfn: Pfn(pfn), pte: layout.pte_of(entry), owner });
                            }
                            let usage = match &mut last {
                                Some((known, usage)) if *known == owner => usage,
                                _ => {
                                    if let Some((known, usage)) = last.take() {
                                        add(counted.usage.entry(known).or_default(), &usage);
                                    }
                                    &mut last.insert((owner, Usage::default())).1
                                }
                            };
                            count_use(&layout, entry, state, table, usage);
                        }
                        if let Some((known, usage)) = last {
                            add(counted.usage.entry(known).or_default(), &usage);
                        }
                    }
                }
            }
        }
        session.progress(done, total, "Scanning PFN database");
        Ok(())
    });
    match result {
        Err(Error::Interrupted) => counted.interrupted = Some(done),
        other => other?,
    }
    Ok(counted)
}

fn add(sum: &mut Usage, more: &Usage) {
    sum.valid += more.valid;
    sum.standby += more.standby;
    sum.dirty += more.dirty;
    sum.shared += more.shared;
    sum.locked += more.locked;
    sum.page_tables += more.page_tables;
}

/// Counts a frame by its state, and tells it.
#[inline]
fn count_state(layout: &kd_sdk::nt::pfn::Layout, entry: &[u8], states: &mut States) -> Option<State> {
    let state = layout.state(entry);
    match state {
        // Frames on their way between lists: nothing maps them, nothing refers to them.
        Some(State::Transition) if layout.references.get(entry) == 0 && layout.pte.get(entry) == 0 => {
            states.temporary += 1;
        }
        Some(state) => {
            if let Some(count) = states.by_state.get_mut(state as usize) {
                *count += 1;
            }
        }
        None => states.unknown += 1,
    }
    state
}

#[inline]
fn count_use(layout: &kd_sdk::nt::pfn::Layout, entry: &[u8], state: State, table: bool, usage: &mut Usage) {
    match state {
        State::Standby => usage.standby += 1,
        State::Modified | State::ModifiedNoWrite => usage.dirty += 1,
        State::Active | State::Transition if table => usage.page_tables += 1,
        State::Active | State::Transition => {
            usage.valid += 1;
            usage.shared += u64::from(layout.share.get(entry) > 1);
            usage.locked += u64::from(layout.references.get(entry) > 1);
        }
        State::Zeroed | State::Free | State::Bad => {}
    }
}
