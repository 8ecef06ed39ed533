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
    if to.0 % pointer != 0 {
        return Some("which is not aligned as a pointer is");
    }
    (target.is_kernel(from) && !target.is_kernel(to)).then_some("which is not in the kernel's half of memory")
}
