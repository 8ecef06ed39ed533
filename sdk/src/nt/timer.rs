//! Timers and deferred procedure calls: what processors were to run, and when.
//!
//! Timers hang in slots: since 7 in a table of each processor (`_KPRCB.TimerTable`, or by its shape where the symbols
//! do not tell it), before in one of the system (`KiTimerTableListHead`). 64-bit systems hide the deferred call of a timer: XORed with two keys and the timer's
//! address, rotated and with its bytes reversed, as public descriptions of it say. Calls wait in lists of each
//! processor: one of normal, one of threaded ones.

use super::prcb::Block;
use super::{clock, list};
use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::target::Machine;
use crate::types::Type;
use std::collections::{BTreeMap, HashSet};

/// Timers in one slot, and calls in one queue, that are believed.
const MOST_TIMERS: usize = 0x1_0000;
const MOST_CALLS: usize = 0x1_0000;
/// Processors that are asked for.
const MOST_PROCESSORS: u32 = 0x800;
/// Slots of the system's table, where the symbols do not say.
const SLOTS: u64 = 256;
/// Types of deferred calls: normal, and threaded since 8. Up to 7 a threaded one is `THREADED_OLD`.
const NORMAL: u64 = 0x13;
const THREADED: u64 = 0x1a;
const THREADED_OLD: u64 = 0x18;
/// Times of `KUSER_SHARED_DATA`.
const INTERRUPT_TIME: u64 = 8;
const SYSTEM_TIME: u64 = 0x14;

/// Reads timers and calls; keep one for a command.
pub struct Timers<'a> {
    session: &'a Session<'a>,
    prcb: Type<'a>,
    timer: Type<'a>,
    call: Type<'a>,
    /// `KiWaitNever` and `KiWaitAlways`, where the kernel has them.
    keys: Option<(u64, u64)>,
    /// The type of a threaded call.
    threaded: u64,
}

/// A timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timer {
    /// Its `_KTIMER`.
    pub at: Va,
    /// Processor whose table it hangs in; `None` for the system's.
    pub processor: Option<u32>,
    /// Slot of the table.
    pub slot: u64,
    /// When it is due, in interrupt time: units of 100 ns since the start.
    pub due: u64,
    /// Milliseconds from one time to the next; 0 for once.
    pub period: u64,
    /// Its deferred call.
    pub call: Option<Call>,
}

/// Timers, and what was not followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// In the order of their tables.
    pub timers: Vec<Timer>,
    /// What could not be read, and why.
    pub problems: Vec<String>,
}

/// A deferred procedure call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// Its `_KDPC`.
    pub at: Va,
    /// True for one that runs in a thread where it can.
    pub threaded: bool,
    /// What it calls.
    pub routine: Va,
    /// With what.
    pub context: Va,
}

/// The times of the crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// Units of 100 ns since the start.
    pub interrupt: u64,
    /// A FILETIME.
    pub system: u64,
}

impl Times {
    /// The FILETIME of a moment in interrupt time; `None` where there is none.
    pub fn moment(&self, due: u64) -> Option<u64> {
        i64::try_from(i128::from(self.system) + i128::from(due) - i128::from(self.interrupt))
            .ok()?
            .try_into()
            .ok()
    }
}

impl<'a> Timers<'a> {
    /// Finds out how this kernel's timers are made.
    ///
    /// # Errors
    /// Without the kernel's types.
    pub fn new(session: &'a Session<'a>) -> Result<Timers<'a>> {
        let key = |name: &str| session.memory().u64(session.symbols().find(name).ok()?).ok();
        let keys = match session.target().pointer_size() {
            8 => key("nt!KiWaitNever").zip(key("nt!KiWaitAlways")),
            _ => None,
        };
        // KOBJECTS grew in 8, which also made the queue of calls a chain of single links.
        let threaded = match session.types().find("nt!_KDPC")?.field("DpcListEntry.Blink") {
            Some(_) => THREADED_OLD,
            None => THREADED,
        };
        Ok(Timers {
            session,
            prcb: session.types().find("nt!_KPRCB")?,
            timer: session.types().find("nt!_KTIMER")?,
            call: session.types().find("nt!_KDPC")?,
            keys,
            threaded,
        })
    }

    /// Interrupt and system time when the machine stopped.
    ///
    /// # Errors
    /// Where the page that all programs share is not in the dump.
    pub fn times(&self) -> Result<Times> {
        let shared = clock::shared_data(self.session);
        let memory = self.session.memory();
        let time = |at: u64| {
            let low = memory.u32(shared.add(at))?;
            Ok::<_, Error>(u64::from(memory.u32(shared.add(at + 4))?) << 32 | u64::from(low))
        };
        Ok(Times { interrupt: time(INTERRUPT_TIME)?, system: time(SYSTEM_TIME)? })
    }

    /// Number and `_KPRCB` of every processor.
    pub fn processors(&self) -> Vec<(u32, Va)> {
        let numbers = (0..MOST_PROCESSORS).map_while(|number| self.session.target().processor(number));
        numbers.filter(|processor| processor.prcb != 0).map(|p| (p.number, Va(p.prcb))).collect()
    }

    /// Every timer, with what was not followed.
    ///
    /// # Errors
    /// Where no table is known, and when the user interrupts.
    pub fn timers(&self) -> Result<Set> {
        let mut set = Set::default();
        let types = self.session.types();
        if let Some(field) = self.prcb.field("TimerTable.TimerEntries") {
            let entry = types.find("nt!_KTIMER_TABLE_ENTRY")?;
            let (size, head) = (entry.size().max(1), entry.offset("Entry")?);
            for (number, prcb) in self.processors() {
                self.table(prcb.add(field.offset + head), size, field.size / size, Some(number), &mut set)?;
            }
            return Ok(set);
        }
        let Ok(table) = self.session.symbols().find("nt!KiTimerTableListHead") else {
            for (number, prcb) in self.processors() {
                self.session.check_interrupt()?;
                match Block::read(self.session, prcb).map(|block| block.timer_slots()) {
                    Ok(Some((first, slots))) => {
                        let heads = first.add(Block::SLOT_HEAD);
                        self.table(heads, Block::SLOT, slots, Some(number), &mut set)?;
                    }
                    Ok(None) => {
                        set.problems.push(format!("processor {number}: no table of timers in its block"));
                    }
                    Err(Error::NoSymbols(_)) => {
                        return Err(Error::NoSymbols(
                            "neither _KPRCB.TimerTable nor nt!KiTimerTableListHead is in the kernel's symbols"
                                .to_owned(),
                        ));
                    }
                    Err(error) => {
                        set.problems.push(format!("processor {number}: {}", self.session.explain(&error)));
                    }
                }
            }
            return Ok(set);
        };
        let (size, head) = match types.find("nt!_KTIMER_TABLE_ENTRY") {
            Ok(entry) => (entry.size(), entry.offset("Entry")?),
            Err(_) => (2 * u64::from(self.session.target().pointer_size()), 0),
        };
        self.table(table.add(head), size, SLOTS, None, &mut set)?;
        Ok(set)
    }

    /// Reads the slots of one table, whose list heads stand `size` bytes apart.
    fn table(&self, heads: Va, size: u64, slots: u64, processor: Option<u32>, set: &mut Set) -> Result<()> {
        let whose = processor.map_or(String::new(), |number| format!("processor {number}, "));
        // Slots that cannot be read, by the reason: small dumps lack whole tables.
        let mut absent: BTreeMap<String, u64> = BTreeMap::new();
        for slot in 0..slots {
            let head = heads.add(slot * size);
            match self.session.memory().pointer(head) {
                // The slots of a processor that was never started hold nothing at all.
                Ok(first) if first.is_null() => {}
                Ok(_) => self.slot(head, processor, slot, &whose, set)?,
                Err(Error::Unreadable { why, .. }) => *absent.entry(why.to_string()).or_default() += 1,
                Err(error) => return Err(error),
            }
        }
        for (why, count) in absent {
            set.problems.push(format!("{whose}{count} of {slots} slots cannot be read: {why}"));
        }
        Ok(())
    }

    fn slot(&self, head: Va, processor: Option<u32>, slot: u64, whose: &str, set: &mut Set) -> Result<()> {
        let link = self.timer.offset("TimerListEntry")?;
        for timer in list::ring(self.session.memory(), head).of(link).at_most(MOST_TIMERS) {
            match timer.and_then(|at| self.timer_at(at, processor, slot)) {
                Ok(timer) => set.timers.push(timer),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => {
                    set.problems.push(format!("{whose}slot {slot}: {}", self.session.explain(&error)));
                    break;
                }
            }
        }
        Ok(())
    }

    fn timer_at(&self, at: Va, processor: Option<u32>, slot: u64) -> Result<Timer> {
        let read = self.timer.at(at).snapshot()?;
        Ok(Timer {
            at,
            processor,
            slot,
            due: read.u64("DueTime")?,
            period: read.u64("Period")?,
            call: self.call_of(at, read.u64("Dpc")?),
        })
    }

    /// The call that a timer's field stands for: as it is, or hidden.
    fn call_of(&self, timer: Va, stored: u64) -> Option<Call> {
        let hidden = self.keys.map(|keys| reveal(timer, stored, keys));
        [Some(stored), hidden].into_iter().flatten().find_map(|at| self.call_at(Va(at)).ok())
    }

    /// The deferred call at `at`.
    ///
    /// # Errors
    /// Where none stands there.
    pub fn call_at(&self, at: Va) -> Result<Call> {
        if !self.session.target().is_kernel(at) {
            return Err(Error::NotFound(format!("no deferred call can stand at {at}")));
        }
        let read = self.call.at(at).snapshot()?;
        let kind = read.u64("Type")? & 0xff;
        if ![NORMAL, self.threaded].contains(&kind) {
            return Err(Error::NotFound(format!("no deferred call stands at {at}: type {kind:x}")));
        }
        let [routine, context] = ["DeferredRoutine", "DeferredContext"].map(|field| read.u64(field));
        Ok(Call { at, threaded: kind == self.threaded, routine: Va(routine?), context: Va(context?) })
    }

    /// Whether a processor was running deferred calls; `None` where that is not captured or not known.
    pub fn runs_calls(&self, prcb: Va) -> Option<bool> {
        if self.prcb.field("DpcRoutineActive").is_some() {
            return self.prcb.at(prcb).u64("DpcRoutineActive").ok().map(|value| value != 0);
        }
        let known = self.session.target().machine() == Machine::X64;
        Block::read(self.session, prcb).ok().filter(|_| known)?.runs_calls()
    }

    /// The calls that wait on a processor, in order, with what was not followed.
    ///
    /// # Errors
    /// Where the queue is not known, and when the user interrupts.
    pub fn queued(&self, prcb: Va) -> Result<(Vec<Call>, Vec<String>)> {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        let memory = self.session.memory();
        let link = self.call.offset("DpcListEntry")?;
        let mut seen = HashSet::new();
        for (head, single) in self.queues(prcb)? {
            let links = if single { list::chain(memory, head) } else { list::ring(memory, head) };
            for call in links.of(link).at_most(MOST_CALLS) {
                match call.and_then(|at| self.call_at(at)) {
                    Ok(call) if seen.insert(call.at) => found.push(call),
                    Ok(_) => {}
                    Err(Error::Interrupted) => return Err(Error::Interrupted),
                    Err(error) => {
                        wrong.push(self.session.explain(&error));
                        break;
                    }
                }
            }
        }
        Ok((found, wrong))
    }

    /// Heads of a processor's queues, and whether they are chains of single links.
    fn queues(&self, prcb: Va) -> Result<Vec<(Va, bool)>> {
        if let Some(field) = self.prcb.field("DpcListHead") {
            return Ok(vec![(prcb.add(field.offset), false)]);
        }
        let Some(field) = self.prcb.field("DpcData") else {
            let link = self.call.offset("DpcListEntry")?;
            let found = Block::read(self.session, prcb)?.call_queues(link, |call| self.call_at(call).is_ok());
            let queues =
                found.ok_or_else(|| Error::NotFound("no queues of calls in its block".to_owned()))?;
            return Ok(queues.map(|head| (head, true)).to_vec());
        };
        let queue = self.session.types().find("nt!_KDPC_DATA")?;
        let (offset, single) = match queue.field("DpcList.ListHead") {
            Some(head) => (head.offset, true),
            None => (queue.offset("DpcListHead")?, false),
        };
        let count = field.size / queue.size().max(1);
        Ok((0..count.min(8))
            .map(|index| (prcb.add(field.offset + index * queue.size() + offset), single))
            .collect())
    }
}

/// The address behind the hidden call of a timer.
fn reveal(timer: Va, stored: u64, (never, always): (u64, u64)) -> u64 {
    ((stored ^ never).rotate_left((never & 0xff) as u32 & 63) ^ timer.0).swap_bytes() ^ always
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_calls_are_revealed() {
        let keys = (0x8642_0975_31fe_dcba, 0x0f1e_2d3c_4b5a_6978);
        let (timer, call) = (0xffff_ac0f_1240_0040u64, 0xffff_ac0f_1241_0080u64);
        let hidden =
            ((call ^ keys.1).swap_bytes() ^ timer).rotate_right((keys.0 & 0xff) as u32 & 63) ^ keys.0;
        assert_eq!(reveal(Va(timer), hidden, keys), call);
    }

    #[test]
    fn moments_are_bounded() {
        let times = Times { interrupt: 100, system: 1000 };
        assert_eq!(times.moment(150), Some(1050));
        assert_eq!(times.moment(0), Some(900));
        assert_eq!(times.moment(u64::MAX), None);
    }
}
