//! Frames by a bitmap: kernel, automatic, active and bitmap-full dumps (`DumpType` 2, 5, 6, 7).
//!
//! Bit N says that frame N is in the file, and the pages follow one another in the order of their bits. The place of
//! a page is the count of bits before it: an index of running counts, one per 512 bits, is built on first use.
//!
//! Two headers stand before bitmaps, after the dump header. Since Windows 8 (kdmp-parser, volatility3): `SDMP` or
//! `FDMP`, `DUMP`, +0x20 u64 offset of the first page, +0x28 u64 pages present, +0x30 u64 bits, bitmap at +0x38.
//! Before: `SDMP`, `DUMP`, +8 u32 options, +0xc u32 header size (offset of the first page), +0x10 u32 bits, +0x14 u32
//! pages present, an `RTL_BITMAP`, then the bitmap at +0x20 (32-bit) or +0x28.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use kd_sdk::address::{PAGE_SIZE, Pfn};

use super::bytes::{u32_at, u64_at};
use super::header::Header;
use super::mapped::MappedFile;
use super::physical::PhysicalRun;

/// Bits that one running count covers.
const BLOCK_BITS: u64 = 512;

/// The most frames a bitmap may have: 64 TiB of memory. It bounds what a damaged file can make us build.
const MOST_BITS: u64 = 1 << 34;

/// No first page stands behind this offset (16 TiB).
const FARTHEST_PAGE: u64 = 1 << 44;

/// A page bitmap in the file.
pub(crate) struct Bitmap {
    file: Arc<MappedFile>,
    /// Where the bits stand.
    pub(crate) bits_at: u64,
    /// Count of bits.
    pub(crate) bits: u64,
    /// Where the first page stands.
    pub(crate) first_page: u64,
    /// Pages present, as the header counts them.
    pub(crate) present: u64,
    /// The bits, when the file is not mapped.
    owned: Option<Vec<u8>>,
    rank: OnceLock<Vec<u64>>,
}

impl Bitmap {
    /// Parses the bitmap header after the dump header; `Err` says why not.
    pub(crate) fn parse(file: Arc<MappedFile>, header: &Header) -> Result<Bitmap, String> {
        let head = file.get(header.size, 0x38).ok_or("the file ends before the page bitmap")?;
        if !matches!(head.get(..8), Some(b"SDMPDUMP" | b"FDMPDUMP")) {
            return Err("the signature SDMP DUMP of a page bitmap is missing".into());
        }
        let wide = |at| u64_at(&head, at).unwrap_or(0);
        let short = |at| u64::from(u32_at(&head, at).unwrap_or(0));
        let fits = |at: u64, bits: u64, first_page: u64| {
            (1..=MOST_BITS).contains(&bits)
                && first_page < FARTHEST_PAGE
                && at.saturating_add(bits.div_ceil(8)) <= first_page
        };

        // In the old header these fields are a kernel address and the bitmap itself: no aligned file offset.
        let (first_page, present, bits, at) = (wide(0x20), wide(0x28), wide(0x30), header.size + 0x38);
        let new_fits = fits(at, bits, first_page) && present <= bits;
        if new_fits && first_page % PAGE_SIZE == 0 {
            return Bitmap::new(file.clone(), at, bits, first_page, present);
        }
        let (old_first_page, old_bits, old_present) = (short(0xc), short(0x10), short(0x14));
        let mut found = None;
        // The place whose bits add up to the count of pages is right; else the one of the header's width.
        let places = if header.is_64_bit { [0x28, 0x20] } else { [0x20, 0x28] };
        for place in places {
            let at = header.size + place;
            if fits(at, old_bits, old_first_page) && old_present <= old_bits {
                let bitmap = Bitmap::new(file.clone(), at, old_bits, old_first_page, old_present)?;
                if bitmap.count() == old_present {
                    return Ok(bitmap);
                }
                found.get_or_insert(bitmap);
            }
        }
        if new_fits {
            return Bitmap::new(file.clone(), at, bits, first_page, present);
        }
        found.ok_or_else(|| "no version of Windows writes a bitmap header like this one".into())
    }

    fn new(
        file: Arc<MappedFile>,
        bits_at: u64,
        bits: u64,
        first_page: u64,
        present: u64,
    ) -> Result<Bitmap, String> {
        let size = usize::try_from(bits.div_ceil(8)).map_err(|_| "the bitmap is too large".to_owned())?;
        if bits_at.saturating_add(size as u64) > file.size() {
            return Err(format!(
                "the file ends at 0x{:x}, inside the page bitmap of 0x{size:x} bytes",
                file.size()
            ));
        }
        let owned = match file.get(bits_at, size) {
            Some(Cow::Owned(bytes)) => Some(bytes),
            Some(Cow::Borrowed(_)) => None,
            None => return Err("the page bitmap cannot be read".into()),
        };
        Ok(Bitmap { file, bits_at, bits, first_page, present, owned, rank: OnceLock::new() })
    }

    fn bytes(&self) -> &[u8] {
        match &self.owned {
            Some(bytes) => bytes,
            None => self.file.slice(self.bits_at, self.bits.div_ceil(8)).unwrap_or_default(),
        }
    }

    /// The 64 bits of word `index`, those past the end of the bitmap clear.
    fn word(&self, bytes: &[u8], index: u64) -> u64 {
        let Ok(start) = usize::try_from(index.saturating_mul(8)) else { return 0 };
        let word = match u64_at(bytes, start) {
            Some(word) => word,
            None => {
                let mut last = [0; 8];
                let rest = bytes.get(start..).unwrap_or_default();
                for (to, from) in last.iter_mut().zip(rest) {
                    *to = *from;
                }
                u64::from_le_bytes(last)
            }
        };
        let left = self.bits.saturating_sub(index.saturating_mul(64));
        if left >= 64 { word } else { word & ((1u64 << left) - 1) }
    }

    /// Running counts: the bits set before each block, and at the end those of all.
    fn rank(&self) -> &[u64] {
        self.rank.get_or_init(|| {
            let bytes = self.bytes();
            let blocks = self.bits.div_ceil(BLOCK_BITS);
            let mut counts = Vec::with_capacity(usize::try_from(blocks).unwrap_or(0) + 1);
            let mut total = 0u64;
            counts.push(0);
            // Whole blocks first, without a bound check per word.
            let whole = usize::try_from(self.bits / BLOCK_BITS).unwrap_or(0);
            for block in bytes.chunks_exact((BLOCK_BITS / 8) as usize).take(whole) {
                let (words, _) = block.as_chunks::<8>();
                total +=
                    words.iter().map(|&word| u64::from(u64::from_le_bytes(word).count_ones())).sum::<u64>();
                counts.push(total);
            }
            if counts.len() as u64 <= blocks {
                let first = whole as u64 * (BLOCK_BITS / 64);
                for index in first..first + BLOCK_BITS / 64 {
                    total += u64::from(self.word(bytes, index).count_ones());
                }
                counts.push(total);
            }
            counts
        })
    }

    /// The count of bits set before `bit`.
    fn rank_of(&self, bytes: &[u8], bit: u64) -> u64 {
        let block = bit / BLOCK_BITS;
        let before = self.rank().get(usize::try_from(block).unwrap_or(usize::MAX)).copied().unwrap_or(0);
        let (first, last) = (block * (BLOCK_BITS / 64), bit / 64);
        let mut count = before;
        for index in first..last {
            count += u64::from(self.word(bytes, index).count_ones());
        }
        count + u64::from((self.word(bytes, last) & ((1u64 << (bit % 64)) - 1)).count_ones())
    }

    fn is_set(&self, bytes: &[u8], bit: u64) -> bool {
        bit < self.bits && self.word(bytes, bit / 64) >> (bit % 64) & 1 == 1
    }

    /// The first bit at or after `from` that is set (or clear); `bits` when there is none.
    fn next(&self, bytes: &[u8], from: u64, set: bool) -> u64 {
        let flip = if set { 0 } else { u64::MAX };
        let mut index = from / 64;
        let mut word = (self.word(bytes, index) ^ flip) & (u64::MAX << (from % 64));
        loop {
            if word != 0 {
                return (index * 64 + u64::from(word.trailing_zeros())).min(self.bits);
            }
            index += 1;
            if index * 64 >= self.bits {
                return self.bits;
            }
            word = self.word(bytes, index) ^ flip;
        }
    }

    /// The file offset of a frame, and how many frames (at most `max`) follow it in the file, itself included.
    pub(crate) fn find(&self, pfn: Pfn, max: u64) -> Option<(u64, u64)> {
        let bytes = self.bytes();
        if !self.is_set(bytes, pfn.0) {
            return None;
        }
        let offset = self.rank_of(bytes, pfn.0).saturating_mul(PAGE_SIZE).saturating_add(self.first_page);
        let mut end = pfn.0 + 1;
        let limit = pfn.0.saturating_add(max).min(self.bits);
        if end < limit {
            end = self.next_clear_before(bytes, end, limit);
        }
        Some((offset, end - pfn.0))
    }

    /// The first clear bit in `from..limit`, else `limit`.
    fn next_clear_before(&self, bytes: &[u8], from: u64, limit: u64) -> u64 {
        let mut at = from;
        while at < limit {
            let clear = !self.word(bytes, at / 64) >> (at % 64);
            if clear != 0 {
                let next = at + u64::from(clear.trailing_zeros());
                if next / 64 == at / 64 {
                    return next.min(limit);
                }
            }
            at = (at / 64 + 1) * 64;
        }
        limit
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = PhysicalRun> + Send + '_ {
        let bytes = self.bytes();
        let (mut bit, mut page) = (0, 0u64);
        std::iter::from_fn(move || {
            if bit >= self.bits {
                return None;
            }
            let first = self.next(bytes, bit, true);
            if first >= self.bits {
                bit = self.bits;
                return None;
            }
            bit = self.next(bytes, first, false);
            let run = PhysicalRun {
                first: Pfn(first),
                pages: bit - first,
                offset: page.saturating_mul(PAGE_SIZE).saturating_add(self.first_page),
            };
            page += run.pages;
            Some(run)
        })
    }

    /// Count of bits set.
    pub(crate) fn count(&self) -> u64 {
        self.rank().last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn bitmap(bytes: &[u8], bits: u64, no_mmap: bool) -> Bitmap {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; 7]).unwrap();
        file.write_all(bytes).unwrap();
        file.write_all(&[0xff; 32]).unwrap();
        let file = Arc::new(MappedFile::new(file, no_mmap).unwrap());
        Bitmap::new(file, 7, bits, 0x10_0000, 0).unwrap()
    }

    proptest! {
        #[test]
        fn the_index_equals_counting(
            bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 1..300),
            cut in 0u64..8,
            max in 1u64..700,
            no_mmap: bool,
        ) {
            let bits = bytes.len() as u64 * 8 - cut;
            let map = bitmap(&bytes, bits, no_mmap);
            let is_set = |bit: u64| bit < bits && bytes[bit as usize / 8] >> (bit % 8) & 1 == 1;
            let mut page = 0;
            let mut runs: Vec<PhysicalRun> = Vec::new();
            for bit in 0..bits + 70 {
                let found = map.find(Pfn(bit), max);
                prop_assert_eq!(found.is_some(), is_set(bit));
                if let Some((offset, count)) = found {
                    prop_assert_eq!(offset, 0x10_0000 + page * PAGE_SIZE);
                    let follow = (bit..bit + max).take_while(|&b| is_set(b)).count() as u64;
                    prop_assert_eq!(count, follow);
                    match runs.last_mut() {
                        Some(run) if run.first.0 + run.pages == bit => run.pages += 1,
                        _ => runs.push(PhysicalRun { first: Pfn(bit), pages: 1, offset }),
                    }
                    page += 1;
                }
            }
            prop_assert_eq!(map.count(), page);
            prop_assert_eq!(map.iter().collect::<Vec<_>>(), runs);
        }
    }
}
