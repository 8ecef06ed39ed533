//! Runs of text in memory: printable ASCII characters in a row, of one or of two bytes each.
//!
//! Most memory is no text. Sixty-four characters at once are asked, in a way compilers make vectors of, whether three
//! printable ones stand in a row anywhere among them; only where they do they are looked at one by one.

use kd_sdk::address::Va;

/// Characters that are judged at once.
const BLOCK: usize = 64;
/// What must stand in a row for a block to be looked at closely.
const ROW: usize = 3;

/// Finds runs in pieces of memory that are fed in order of addresses; a run goes on from a piece into the next one.
pub struct TextRuns {
    unit: u64,
    least: u64,
    /// The run that reaches the end of the last piece: its start and its characters.
    open: Option<(Va, u64)>,
}

impl TextRuns {
    /// Runs of at least `least` characters of `unit` (1 or 2) bytes.
    pub fn new(unit: u64, least: u64) -> TextRuns {
        TextRuns { unit, least: least.max(1), open: None }
    }

    /// Takes the bytes at an address. `found` is given the start of a run and its characters, and ends the search with
    /// false, which is then handed back.
    pub fn feed(&mut self, at: Va, bytes: &[u8], found: &mut dyn FnMut(Va, u64) -> bool) -> bool {
        match self.unit {
            1 => self.feed_items(at, bytes, &|byte| is_printable(u16::from(*byte)), found),
            _ => {
                let (pairs, _) = bytes.as_chunks::<2>();
                self.feed_items(at, pairs, &|pair| is_printable(u16::from_le_bytes(*pair)), found)
            }
        }
    }

    /// Ends the memory: a run that reaches its end is one.
    pub fn finish(&mut self, found: &mut dyn FnMut(Va, u64) -> bool) {
        if let Some((first, length)) = self.open.take().filter(|(_, length)| *length >= self.least) {
            found(first, length);
        }
    }

    fn feed_items<T>(
        &mut self,
        at: Va,
        items: &[T],
        is_text: &impl Fn(&T) -> bool,
        found: &mut dyn FnMut(Va, u64) -> bool,
    ) -> bool {
        // A run that ended where the last piece did, for this one is elsewhere.
        if self.open.is_some_and(|(first, length)| first.add(length.wrapping_mul(self.unit)) != at) {
            let mut more = true;
            self.finish(&mut |first, length| {
                more = found(first, length);
                more
            });
            if !more {
                return false;
            }
        }
        // Short runs are wanted too: then every block with a printable character is looked at.
        let row = if self.least >= ROW as u64 { ROW } else { 1 };
        let mut index = 0;
        while index < items.len() {
            let block = items.get(index..index + BLOCK + row - 1);
            if self.open.is_none() && block.is_some_and(|block| !has_row(block, row, is_text)) {
                index += BLOCK;
                continue;
            }
            let block = items.get(index..items.len().min(index + BLOCK)).unwrap_or_default();
            let text =
                block.iter().enumerate().fold(0, |bits, (n, item)| bits | u64::from(is_text(item)) << n);
            if !self.take_block(at.add((index as u64).wrapping_mul(self.unit)), text, block.len(), found) {
                return false;
            }
            index += BLOCK;
        }
        true
    }

    /// A block of `count` characters, as bits.
    fn take_block(
        &mut self,
        at: Va,
        text: u64,
        count: usize,
        found: &mut dyn FnMut(Va, u64) -> bool,
    ) -> bool {
        let count = count as u32;
        let mut next = 0;
        if let Some((first, length)) = self.open {
            next = text.trailing_ones();
            let length = length + u64::from(next);
            self.open = (next == count).then_some((first, length));
            if next < count && length >= self.least && !found(first, length) {
                return false;
            }
        }
        // Where runs begin; of those that are too short only the ones that may go on in the next block.
        let rows = if self.least >= ROW as u64 { text & text >> 1 & text >> 2 } else { text };
        let last = u64::MAX.checked_shl(count.saturating_sub(ROW as u32)).unwrap_or(0);
        let mut starts = text & !(text << 1) & (rows | last) & u64::MAX.checked_shl(next).unwrap_or(0);
        while starts != 0 {
            let start = starts.trailing_zeros();
            starts &= starts - 1;
            let length = text.checked_shr(start).unwrap_or(0).trailing_ones();
            let first = at.add(u64::from(start).wrapping_mul(self.unit));
            if start + length == count {
                self.open = Some((first, length.into()));
            } else if u64::from(length) >= self.least && !found(first, length.into()) {
                return false;
            }
        }
        true
    }
}

fn is_printable(code: u16) -> bool {
    code.wrapping_sub(0x20) < 0x5f
}

/// True where `row` (1 or 3) items of text stand in a row. No early end: that is what makes it fast.
fn has_row<T>(block: &[T], row: usize, is_text: &impl Fn(&T) -> bool) -> bool {
    if row == 1 {
        return block.iter().fold(0, |any, item| any | u8::from(is_text(item))) != 0;
    }
    let (second, third) = (block.get(1..).unwrap_or_default(), block.get(2..).unwrap_or_default());
    let rows = block.iter().zip(second).zip(third);
    rows.fold(0, |any, ((a, b), c)| any | u8::from(is_text(a) & is_text(b) & is_text(c))) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, one item after the other.
    fn simple(bytes: &[u8], unit: usize, least: u64) -> Vec<(u64, u64)> {
        let text: Vec<bool> = bytes
            .chunks_exact(unit)
            .map(|item| (b' '..=b'~').contains(&item[0]) && item.get(1).is_none_or(|high| *high == 0))
            .collect();
        let mut found = Vec::new();
        let mut start = 0;
        for (index, is_text) in text.iter().copied().chain([false]).enumerate() {
            if !is_text {
                if (index - start) as u64 >= least {
                    found.push(((start * unit) as u64, (index - start) as u64));
                }
                start = index + 1;
            }
        }
        found
    }

    fn pieced(bytes: &[u8], unit: u64, least: u64, piece: usize) -> Vec<(u64, u64)> {
        let mut runs = TextRuns::new(unit, least);
        let mut found = Vec::new();
        let mut note = |va: Va, length| {
            found.push((va.0, length));
            true
        };
        for (index, bytes) in bytes.chunks(piece).enumerate() {
            assert!(runs.feed(Va((index * piece) as u64), bytes, &mut note));
        }
        runs.finish(&mut note);
        found
    }

    proptest! {
        #[test]
        fn finds_what_the_simple_way_finds(
            noise in proptest::collection::vec(prop_oneof![4 => Just(0u8), 3 => Just(b'x'), 1 => any::<u8>()], 0..1200),
            least in 1u64..6,
            piece in 1usize..400,
        ) {
            prop_assert_eq!(pieced(&noise, 1, least, piece), simple(&noise, 1, least));
            prop_assert_eq!(pieced(&noise, 2, least, piece * 2), simple(&noise, 2, least));
        }
    }

    #[test]
    fn ends_when_told_and_parts_at_holes() {
        let mut runs = TextRuns::new(1, 3);
        let mut count = 0;
        assert!(!runs.feed(Va(0), b"abc\0def\0ghi\0", &mut |_, _| {
            count += 1;
            count < 2
        }));
        assert_eq!(count, 2);
        let mut runs = TextRuns::new(1, 3);
        let mut found = Vec::new();
        let mut note = |va: Va, length| {
            found.push((va.0, length));
            true
        };
        runs.feed(Va(0), b"\0\0ab", &mut note);
        runs.feed(Va(0x1000), b"cde", &mut note);
        runs.finish(&mut note);
        assert_eq!(found, [(0x1000, 3)], "two bytes before a hole are no text of three");
    }
}
