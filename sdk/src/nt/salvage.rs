//! What can be had of a broken list: its entries from both ends, with what was refused in between.
//!
//! A `LIST_ENTRY` ring is followed forward; where that goes wrong, also backward from the head, so that one bad link
//! hides no more than it must.

use super::list;
use crate::address::Va;
use crate::error::{Error, Result};
use crate::memory::Memory;
use std::collections::HashSet;

/// The entries of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Entries in the order of the list, as far as they were reached.
    pub entries: Vec<Va>,
    /// How many of them, the last ones, were reached from the end only.
    pub from_end: usize,
    /// What was not followed, and why; empty for a list that is whole.
    pub problems: Vec<String>,
}

/// The structures in the ring at `head`, whose links stand at `field` in them. `refuse` says why something cannot be
/// an entry; the walk does not go on from there.
///
/// # Errors
/// Where the head itself cannot be read, and when the user interrupts.
pub fn ring(
    memory: Memory<'_>,
    head: Va,
    field: u64,
    refuse: impl Fn(Va) -> Option<String>,
) -> Result<Salvaged> {
    memory.pointer(head)?;
    let mut found = Salvaged::default();
    let mut seen = HashSet::new();
    for backward in [false, true] {
        let links = list::ring(memory, head).of(field);
        let links = if backward { links.backward() } else { links };
        let mut entries = Vec::new();
        let mut problem = None;
        for entry in links {
            match entry {
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                // An entry of which nothing can be read ends the walk, and is none.
                Err(Error::Unreadable { why, .. })
                    if let Some(&last) = entries.last()
                        && memory.u8(last).is_err() =>
                {
                    entries.pop();
                    problem = Some(memory.session.explain(&Error::Unreadable { at: last, why }));
                }
                Err(error) => problem = Some(memory.session.explain(&error)),
                // Backward: what the walk forward had reached already.
                Ok(entry) if !seen.insert(entry) => break,
                Ok(entry) => match refuse(entry) {
                    Some(why) => problem = Some(why),
                    None => entries.push(entry),
                },
            }
            if problem.is_some() {
                break;
            }
        }
        if backward {
            found.from_end = entries.len();
            entries.reverse();
        }
        found.entries.append(&mut entries);
        match problem {
            Some(problem) if !found.problems.contains(&problem) => found.problems.push(problem),
            Some(_) => {}
            None if !backward => break,
            None => {}
        }
    }
    Ok(found)
}
