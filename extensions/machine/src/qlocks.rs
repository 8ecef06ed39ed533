//! `!qlocks`: queued spin locks.
//!
//! A processor's control block has an entry for each of these locks. The lowest bits of the entry's pointer to the lock
//! tell that the processor waits (1) or owns it (2); those who wait stand in a chain behind the owner.

use kd_sdk::nt::processor::Processor;
use kd_sdk::prelude::*;

const WAITS: u64 = 1;
const OWNS: u64 = 2;
/// Names of the locks by their number (`KSPIN_LOCK_QUEUE_NUMBER` of the driver kits).
const NAMES: [&str; 17] = [
    "KE   - Dispatcher",
    "MM   - Expansion",
    "MM   - PFN",
    "MM   - System Space",
    "CC   - Vacb",
    "CC   - Master",
    "EX   - NonPagedPool",
    "IO   - Cancel",
    "EX   - WorkQueue",
    "IO   - Vpb",
    "IO   - Database",
    "IO   - Completion",
    "NTFS - Struct",
    "AFD  - WorkQueue",
    "CC   - Bcb",
    "MM   - MM NonPagedPool",
    "KE   - Unused Spare",
];
/// Locks that kernels after Windows XP have not.
const GONE: [usize; 4] = [0, 1, 2, 3];

/// A processor's entry of a lock.
#[derive(Clone, Copy)]
struct Entry {
    at: Va,
    next: Va,
    lock: u64,
}

/// The state of a lock on a processor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Owner,
    /// Its place in the order of those who wait, from 1.
    Waits(usize),
    Corrupt,
    /// Not in the dump.
    Unknown,
}

/// Who stands how: an owner, those in the chain behind it by their order, all else as it must not be.
fn states(entries: &[Option<Entry>]) -> Vec<State> {
    let mut states: Vec<State> = entries
        .iter()
        .map(|entry| match entry {
            None => State::Unknown,
            Some(entry) => match entry.lock & (WAITS | OWNS) {
                0 if entry.next.is_null() => State::Free,
                OWNS => State::Owner,
                _ => State::Corrupt,
            },
        })
        .collect();
    let owners = states.iter().filter(|state| **state == State::Owner).count();
    let mut next =
        entries.iter().flatten().find(|entry| entry.lock & OWNS != 0).map_or(Va::NULL, |entry| entry.next);
    for order in 1..=entries.len() {
        let found =
            entries.iter().position(|entry| entry.is_some_and(|entry| entry.at == next && !next.is_null()));
        let Some(index) = found else { break };
        let Some(Some(entry)) = entries.get(index) else { break };
        // One that waits, once; anything else in the chain is a fault.
        if entry.lock & (WAITS | OWNS) != WAITS {
            break;
        }
        if let Some(state) = states.get_mut(index) {
            *state = State::Waits(order);
        }
        next = entry.next;
    }
    if owners > 1 {
        states.iter_mut().filter(|state| **state == State::Owner).for_each(|state| *state = State::Corrupt);
    }
    states
}

/// Runs the command.
pub fn qlocks(session: &Session<'_>, args: &str) -> Result<()> {
    if !args.trim().is_empty() {
        return Err(Error::Usage("!qlocks takes no arguments".to_owned()));
    }
    let block = session.types().find("nt!_KPRCB")?;
    let queue = block.require("LockQueue")?;
    let of = session.types().find("nt!_KSPIN_LOCK_QUEUE")?;
    let processors: Vec<_> =
        (0..session.target().info().processors).map(|n| Processor::new(session, n).ok()).collect();
    let mut absent = None;
    let out = session.out();
    // Windows XP has 16 of them; later ones have 17, of which the first are not used any more.
    let old = queue.count <= 16;
    out.line(
        "Key: O = Owner, 1-n = Wait order, blank = not owned/waiting, C = Corrupt, ? = not in this dump",
    );
    out.end_line();
    out.line("                       Processor Number");
    let numbers: String = (0..processors.len()).map(|number| format!("{number:3}")).collect();
    out.line(&format!("    Lock Name       {numbers}"));
    out.end_line();
    out.list("locks", |out| {
        for index in 0..queue.count as usize {
            session.check_interrupt()?;
            let entries: Vec<_> = processors
                .iter()
                .map(|processor| {
                    let at = processor.as_ref()?.prcb.add(queue.offset + index as u64 * of.size());
                    let read = || -> Result<Entry> {
                        Ok(Entry { at, next: of.at(at).pointer("Next")?, lock: of.at(at).u64("Lock")? })
                    };
                    read().map_err(|error| absent = Some(error)).ok()
                })
                .collect();
            let name = match NAMES.get(index) {
                Some(_) if !old && GONE.contains(&index) => "KE   - Unused Spare",
                Some(name) => name,
                None => "?",
            };
            out.record("", |out| {
                out.data("index", Value::UInt(index as u64));
                out.field("name", Value::Text(name), &format!("{name:<20}"));
                let lock = entries.iter().flatten().next().map_or(0, |entry| entry.lock & !3);
                out.data("lock", Value::Hex(lock));
                let shown: Vec<String> = states(&entries)
                    .into_iter()
                    .map(|state| match state {
                        State::Free => String::new(),
                        State::Owner => "O".to_owned(),
                        State::Waits(order) => order.to_string(),
                        State::Corrupt => "C".to_owned(),
                        State::Unknown => "?".to_owned(),
                    })
                    .collect();
                let line: String = shown.iter().map(|state| format!("{state:>3}")).collect();
                out.text(line.trim_end());
                out.list("states", |out| shown.iter().for_each(|state| out.data("", Value::Text(state))));
                out.end_line();
            });
        }
        Ok::<_, Error>(())
    })?;
    let missing = processors.iter().filter(|processor| processor.is_none()).count();
    if missing != 0 {
        out.warning(&format!("the control blocks of {missing} processors are not captured in this dump"));
    }
    match absent {
        Some(Error::Interrupted) => Err(Error::Interrupted),
        Some(error) => {
            out.warning(&format!("?: {error}"));
            Ok(())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(entries: &[(u64, u64, u64)]) -> String {
        let entries: Vec<_> = entries
            .iter()
            .map(|&(at, next, lock)| Some(Entry { at: Va(at), next: Va(next), lock }))
            .collect();
        let state = |state| match state {
            State::Free => '-',
            State::Owner => 'O',
            State::Waits(order) => char::from_digit(order as u32, 10).unwrap(),
            State::Corrupt => 'C',
            State::Unknown => '?',
        };
        states(&entries).into_iter().map(state).collect()
    }

    #[test]
    fn those_who_wait_stand_behind_the_owner() {
        assert_eq!(shown(&[(0x10, 0, 0x100), (0x20, 0, 0x100)]), "--");
        assert_eq!(shown(&[(0x10, 0x30, 0x102), (0x20, 0, 0x101), (0x30, 0x20, 0x101)]), "O21");
        // Waiting without an owner, two owners, a circle.
        assert_eq!(shown(&[(0x10, 0, 0x100), (0x20, 0, 0x101)]), "-C");
        assert_eq!(shown(&[(0x10, 0, 0x102), (0x20, 0, 0x102)]), "CC");
        assert_eq!(shown(&[(0x10, 0x20, 0x102), (0x20, 0x10, 0x101)]), "O1");
        assert_eq!(states(&[None]).len(), 1);
    }
}
