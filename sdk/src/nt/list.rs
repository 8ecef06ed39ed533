//! Lists of the kernel: `LIST_ENTRY` rings and `SINGLE_LIST_ENTRY` chains.
//!
//! A walk yields each link once. It ends with an error where a link cannot be read, cannot be one (null, odd, not in
//! the half of the address space where the list is), was seen before without being the head, or where there are more
//! than a list can have.

use crate::address::Va;
use crate::error::{Error, Result};
use crate::memory::Memory;
use std::collections::HashSet;

/// The most links of one list, unless [`Links::at_most`] says otherwise.
pub const MOST_LINKS: usize = 1 << 20;

/// A walk along a list.
pub struct Links<'a> {
    memory: Memory<'a>,
    head: Va,
    ring: bool,
    /// Offset of the pointer that is followed, in the link.
    pointer: u64,
    /// Offset of the link in what it links.
    field: u64,
    most: usize,
    seen: HashSet<Va>,
    at: Option<Va>,
}

/// The entries of the ring whose `LIST_ENTRY` head stands at `head`. Yields the addresses of the links; see
/// [`Links::of`].
pub fn ring<'a>(memory: Memory<'a>, head: Va) -> Links<'a> {
    Links {
        memory,
        head,
        ring: true,
        pointer: 0,
        field: 0,
        most: MOST_LINKS,
        seen: HashSet::new(),
        at: Some(head),
    }
}

/// The links of the chain whose first pointer stands at `head`; it ends with null.
pub fn chain<'a>(memory: Memory<'a>, head: Va) -> Links<'a> {
    Links { ring: false, ..ring(memory, head) }
}

impl Links<'_> {
    /// Yields the structures: `offset` is that of the link in them.
    #[must_use]
    pub fn of(self, offset: u64) -> Self {
        Links { field: offset, ..self }
    }

    /// From the last to the first: follows `Blink`.
    #[must_use]
    pub fn backward(self) -> Self {
        let pointer = self.memory.session.target().pointer_size().into();
        Links { pointer, ..self }
    }

    /// Follows a pointer at another place in the link.
    #[must_use]
    pub fn next_at(self, offset: u64) -> Self {
        Links { pointer: offset, ..self }
    }

    /// Refuses lists with more links.
    #[must_use]
    pub fn at_most(self, most: usize) -> Self {
        Links { most, ..self }
    }

    fn step(&mut self, at: Va) -> Result<Option<Va>> {
        self.memory.session.check_interrupt()?;
        // The first pointer of a chain is the head itself.
        let first = !self.ring && at == self.head;
        let next = self.memory.pointer(if first { at } else { at.add(self.pointer) })?;
        if next == self.head && self.ring || next.is_null() && !self.ring {
            return Ok(None);
        }
        if let Some(fault) = wild(&self.memory, self.head, next) {
            return Err(Error::Other(format!(
                "the list at {} goes wild: the link at {at} leads to {next}, {fault}",
                self.head
            )));
        }
        if !self.seen.insert(next) {
            return Err(Error::Other(format!(
                "the list at {} is a loop: the link at {at} leads back to {next}",
                self.head
            )));
        }
        if self.seen.len() > self.most {
            return Err(Error::Other(format!(
                "the list at {} has more than {} entries",
                self.head, self.most
            )));
        }
        Ok(Some(next))
    }
}

impl Iterator for Links<'_> {
    type Item = Result<Va>;

    fn next(&mut self) -> Option<Result<Va>> {
        let at = self.at.take()?;
        match self.step(at) {
            Ok(next) => {
                self.at = next;
                next.map(|link| Ok(Va(link.0.wrapping_sub(self.field))))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// Why an address cannot be a link of what `from` belongs to.
pub(super) fn wild(memory: &Memory<'_>, from: Va, to: Va) -> Option<&'static str> {
    let target = memory.session.target();
    let pointer = u64::from(target.pointer_size());
    if to.is_null() {
        return Some("nowhere");
    }
    if !to.0.is_multiple_of(pointer) {
        return Some("which is not aligned as a pointer is");
    }
    (target.is_kernel(from) && !target.is_kernel(to)).then_some("which is not in the kernel's half of memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::fake::Fake;

    const HEAD: u64 = 0xffff_8000_0000_1000;
    const A: u64 = 0xffff_8000_0000_2000;
    const B: u64 = 0xffff_8000_0000_3000;

    fn walk(fake: &Fake, set: fn(Links<'_>) -> Links<'_>) -> (Vec<u64>, String) {
        fake.run(|session| {
            let (mut found, mut error) = (Vec::new(), String::new());
            for link in set(ring(session.memory(), Va(HEAD))) {
                match link {
                    Ok(va) => found.push(va.0),
                    Err(refused) => error.push_str(&refused.to_string()),
                }
            }
            (found, error)
        })
    }

    fn sound() -> Fake {
        Fake::default().words(HEAD, &[A, B]).words(A, &[B, HEAD]).words(B, &[HEAD, A])
    }

    #[test]
    fn a_ring_goes_both_ways() {
        assert_eq!(walk(&sound(), |list| list), (vec![A, B], String::new()));
        assert_eq!(
            walk(&sound(), |list| list.backward().of(0x10)),
            (vec![B - 0x10, A - 0x10], String::new())
        );
        assert_eq!(walk(&Fake::default().words(HEAD, &[HEAD, HEAD]), |list| list).0, []);
    }

    #[test]
    fn a_chain_ends_with_null() {
        let fake = Fake::default().words(HEAD, &[A]).words(A, &[1, B]).words(B, &[1, 0]);
        assert_eq!(walk(&fake, |list| Links { ring: false, ..list }.next_at(8)), (vec![A, B], String::new()));
    }

    #[test]
    fn what_cannot_be_a_list_is_refused() {
        let (found, error) =
            walk(&Fake::default().words(HEAD, &[A, 0]).words(A, &[B, 0]).words(B, &[A]), |l| l);
        assert_eq!(found, [A, B]);
        assert!(error.ends_with("is a loop: the link at ffff8000`00003000 leads back to ffff8000`00002000"));
        for (link, why) in [
            (0, "nowhere"),
            (B + 1, "which is not aligned as a pointer is"),
            (0x1000, "which is not in the kernel's half of memory"),
        ] {
            let (found, error) = walk(&Fake::default().words(HEAD, &[A, 0]).words(A, &[link]), |list| list);
            assert_eq!(found, [A]);
            assert!(error.contains("goes wild") && error.ends_with(why), "{error}");
        }
        let (found, error) = walk(&Fake::default().words(HEAD, &[A, 0]), |list| list);
        assert_eq!((found, error.as_str()), (vec![A], "cannot read ffff8000`00002000: paged out"));
        let (found, error) = walk(&sound(), |list| list.at_most(1));
        assert_eq!(found, [A]);
        assert!(error.ends_with("has more than 1 entries"), "{error}");
    }

    #[test]
    fn ctrl_c_ends_a_walk() {
        let fake = sound();
        fake.interrupt.store(1, core::sync::atomic::Ordering::Relaxed);
        assert_eq!(walk(&fake, |list| list), (vec![], "interrupted".to_owned()));
    }
}
