//! What public symbols do not tell of a processor's block: since 11 24H2 `_KPRCB` ends in them before all that the
//! scheduler keeps. The debugger data block still tells the true size and where the stack of deferred calls is; the
//! table of timers and the queues of deferred calls are found by their shape, which no other field has. 64-bit systems
//! only: the last 32-bit one has whole symbols.

use super::list;
use crate::address::Va;
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::session::Session;

/// Where KDDEBUGGER_DATA64 holds the size of the block, and the place in it of the pointer to the stack of calls.
const KD_SIZE: u32 = 0x2b0;
const KD_CALL_STACK: u32 = 0x354;
/// From the pointer to the stack of calls to the byte that is set while calls run: in all 64-bit Intel kernels whose
/// symbols tell both, 7 to 11.
const CALLS_RUN: usize = 0x1a;
/// Slots of the table, and how many in a row make it one.
const SLOTS: usize = 512;
const ENOUGH: usize = 64;
/// Sizes that a queue of deferred calls (`_KDPC_DATA`) has had and may have.
const QUEUES: [usize; 6] = [0x28, 0x30, 0x38, 0x40, 0x48, 0x50];
/// Calls of one queue that are followed to its end.
const MOST_CALLS: usize = 0x1000;

/// The bytes of a processor's block.
pub struct Block<'a> {
    at: Va,
    memory: Memory<'a>,
    bytes: Vec<u8>,
    /// Place of the pointer to the stack of calls.
    call_stack: Option<usize>,
}

impl<'a> Block<'a> {
    /// Size of a slot of the table of timers: a lock, the head of a list, the earliest time.
    pub const SLOT: u64 = 0x20;
    /// Where the head is in it.
    pub const SLOT_HEAD: u64 = 8;

    /// The block at `prcb`.
    ///
    /// # Errors
    /// Where its size is not told, or it cannot be read.
    pub fn read(session: &'a Session<'a>, prcb: Va) -> Result<Block<'a>> {
        let target = session.target();
        let size =
            target.kd_data_offset(KD_SIZE).filter(|_| target.pointer_size() == 8).ok_or_else(|| {
                Error::NoSymbols("the symbols do not tell this part of the processor's block".to_owned())
            })?;
        let memory = session.memory();
        let call_stack = target.kd_data_offset(KD_CALL_STACK).map(|at| at as usize);
        Ok(Block { at: prcb, memory, bytes: memory.bytes(prcb, size as usize)?, call_stack })
    }

    fn word(&self, at: usize) -> Option<Va> {
        let bytes = self.bytes.get(at..at.checked_add(8)?)?;
        Some(Va(u64::from_le_bytes(bytes.try_into().ok()?)))
    }

    /// True where the head of a list stands whose neighbours lead back to it, as far as they can be read: dumps leave
    /// out much of what hangs in a block.
    fn is_head(&self, at: usize) -> bool {
        let head = self.at.add(at as u64);
        let (Some(next), Some(last)) = (self.word(at), at.checked_add(8).and_then(|at| self.word(at))) else {
            return false;
        };
        if next == head || last == head {
            return next == last;
        }
        let leads_back = |link: Va, field: u64| {
            list::wild(&self.memory, head, link).is_none()
                && self.memory.pointer(link.add(field)).map_or(true, |back| back == head)
        };
        leads_back(next, 8) && leads_back(last, 0)
    }

    /// The first slot of the table of timers, and how many there are.
    pub fn timer_slots(&self) -> Option<(Va, u64)> {
        let sound = |first: usize, slot: usize| {
            let at = first + slot * Self::SLOT as usize;
            self.word(at).is_some_and(|lock| lock.0 <= 1) && self.is_head(at + Self::SLOT_HEAD as usize)
        };
        let first =
            (0..self.bytes.len()).step_by(8).find(|&first| (0..ENOUGH).all(|slot| sound(first, slot)))?;
        let last = (0..SLOTS).rev().find(|&slot| sound(first, slot))?;
        Some((self.at.add(first as u64), last as u64 + 1))
    }

    /// The heads of the two queues of deferred calls, chains of single links. `link` is where a call has its link.
    pub fn call_queues(&self, link: u64, is_call: impl Fn(Va) -> bool) -> Option<[Va; 2]> {
        let sound = |at: usize| self.is_chain(at, link, &is_call);
        let end = self.call_stack?;
        // The queues stand right before the pointer to their stack.
        let first = QUEUES.iter().find_map(|size| {
            let first = end.checked_sub(2 * size)?;
            (sound(first) && sound(first + size)).then_some([first, first + size])
        })?;
        Some(first.map(|at| self.at.add(at as u64)))
    }

    /// Whether the processor was running deferred calls.
    pub fn runs_calls(&self) -> Option<bool> {
        let at = self.call_stack?.checked_add(CALLS_RUN)?;
        self.bytes.get(at).map(|&byte| byte != 0)
    }

    /// True where a chain of calls stands: its first link, then its last one; of an empty chain that is its head.
    fn is_chain(&self, at: usize, link: u64, is_call: &impl Fn(Va) -> bool) -> bool {
        let head = self.at.add(at as u64);
        let (Some(first), Some(last)) = (self.word(at), at.checked_add(8).and_then(|at| self.word(at)))
        else {
            return false;
        };
        if first.is_null() {
            return last == head;
        }
        let mut end = Va::NULL;
        for entry in list::chain(self.memory, head).at_most(MOST_CALLS) {
            match entry {
                Ok(entry) if is_call(Va(entry.0.wrapping_sub(link))) => end = entry,
                _ => return false,
            }
        }
        end == last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::fake::Fake;

    const AT: u64 = 0xffff_8000_0000_0000;
    const TIMER: u64 = 0xffff_8000_0010_0000;
    const CALL: u64 = 0xffff_8000_0020_0000;

    fn block<'a>(session: &'a Session<'a>, words: &[u64], call_stack: Option<usize>) -> Block<'a> {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Block { at: Va(AT), memory: session.memory(), bytes, call_stack }
    }

    /// Noise, then a table with one timer in slot 3.
    fn table(slots: usize) -> Vec<u64> {
        let mut words: Vec<u64> = (0..0x40).map(|index| AT + 0x1_0000 + index * 8).collect();
        for slot in 0..slots {
            let head = AT + words.len() as u64 * 8 + 8;
            let link = if slot == 3 { TIMER } else { head };
            words.extend([0, link, link, u64::MAX]);
        }
        words.extend([0; 0x40]);
        words
    }

    #[test]
    fn a_table_of_timers_is_found_by_its_shape() {
        let head = AT + 0x200 + 3 * 0x20 + 8;
        let fake = Fake::default().words(TIMER, &[head, head]);
        let found = |words: &[u64]| fake.run(|session| block(session, words, None).timer_slots());
        assert_eq!(found(&table(512)), Some((Va(AT + 0x200), 512)));
        assert_eq!(found(&table(256)), Some((Va(AT + 0x200), 256)));
        assert_eq!(found(&table(63)), None);
        // A timer that is not in the dump.
        let without = Fake::default().run(|session| block(session, &table(512), None).timer_slots());
        assert_eq!(without, Some((Va(AT + 0x200), 512)));
        // A slot whose list is broken is a slot all the same.
        let mut broken = table(512);
        broken[0x40 + 100 * 4 + 1] = 0xdead;
        assert_eq!(found(&broken), Some((Va(AT + 0x200), 512)));
    }

    #[test]
    fn queues_of_calls_are_found_before_their_stack() {
        let link = 8;
        let found = |size: usize, last: u64| {
            let mut words = vec![0; 0x20];
            words[0..2].copy_from_slice(&[CALL + link, last]);
            words[size / 8 + 1] = AT + size as u64;
            words[2 * size / 8] = 0xffff_8000_0030_0000;
            Fake::default().words(CALL + link, &[0]).words(AT, &words).run(|session| {
                block(session, &words, Some(2 * size)).call_queues(link, |call| call == Va(CALL))
            })
        };
        assert_eq!(found(0x30, CALL + link), Some([Va(AT), Va(AT + 0x30)]));
        assert_eq!(found(0x28, CALL + link), Some([Va(AT), Va(AT + 0x28)]));
        assert_eq!(found(0x30, CALL), None);
    }
}
