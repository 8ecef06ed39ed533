//! What page ranges of a segment heap hold: chunks of variable size, slots of one size, special pool. Works on bytes.
//!
//! Facts, from public decompilations and measurements of kernels from Windows 10 1903 to Server 2025:
//! - A chunk's sizes are hidden with the heap key and its own address. Its block stands behind its header; where the
//!   header is two units before the end of a page, the block begins the next page. A block with a pool header never
//!   crosses a page: larger ones are big allocations, told by their table and without a header.
//! - Of a subsegment's page range the chunks may take all pages but one.
//! - A freed block may stay an allocated chunk on a list for reuse (lookaside, delayed free); the list's link lies where
//!   its pool header was.
//! - The sizes of slots are hidden with the second key and the subsegment's page number: of the low half of its address,
//!   since Windows 11 24H2 of all of it. Slots that would cross a page are withheld: marked in use, never counted.
//! - A page of special pool begins with a pool header whose first half has the size in 13 bits; the block ends the page.

use super::pool::{Block, Corruption, HeaderLayout, Place, Tag};
use crate::abi::FieldInfo;
use crate::address::{PAGE_SIZE, Va};
use crate::types::field_number;

/// The bits of a size in the header of a page of special pool.
const SPECIAL_SIZE: u64 = 0x1fff;
/// How many slots in use are looked at to tell two ways of hiding apart.
const MOST_ASKED: usize = 16;

/// The bytes of a page range, as far as its pages can be read.
#[derive(Default)]
pub struct RangeBytes {
    /// All bytes; those of pages that cannot be read are zero.
    pub bytes: Vec<u8>,
    /// The pages that cannot be read, by their place; a bit each.
    pub missing: Vec<bool>,
}

impl RangeBytes {
    /// `len` bytes from `at` on, if all of them can be read.
    fn get(&self, at: u64, len: u64) -> Option<&[u8]> {
        let end = at.checked_add(len)?;
        let last = end.max(1) - 1;
        let absent = |page: u64| self.missing.get(page as usize).copied().unwrap_or(false);
        if (at / PAGE_SIZE..=last / PAGE_SIZE).any(absent) {
            return None;
        }
        self.bytes.get(usize::try_from(at).ok()?..usize::try_from(end).ok()?)
    }

    /// How many pages cannot be read.
    pub fn absent(&self) -> u64 {
        self.missing.iter().filter(|missing| **missing).count() as u64
    }
}

/// What a walk of a page range found besides blocks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// What is wrong, if anything is.
    pub corrupt: Option<Corruption>,
    /// Pages whose blocks are not told, or not all of them.
    pub missing: u64,
}

/// Where the fields of a subsegment of chunks and of its chunks are.
#[derive(Clone, Copy)]
pub struct ChunkFields {
    /// Bytes of the subsegment's head.
    pub head: u64,
    /// Units of all chunks.
    pub total: FieldInfo,
    /// Belongs together with `total`.
    pub signature: FieldInfo,
    /// Bytes of a chunk's header: the unit of sizes.
    pub unit: u64,
    /// What is hidden.
    pub hidden: FieldInfo,
    /// Units of the chunk.
    pub length: FieldInfo,
    /// Units of the chunk before.
    pub before: FieldInfo,
    /// In use.
    pub used: FieldInfo,
}

/// Where the fields of a subsegment of slots are.
#[derive(Clone, Copy)]
pub struct SlotFields {
    /// Slots that can be used.
    pub count: FieldInfo,
    /// Slots that are withheld.
    pub withheld: Option<FieldInfo>,
    /// The hidden size of a slot and the place of the first.
    pub hidden: FieldInfo,
    /// Two bits a slot.
    pub bitmap: u64,
}

/// How the heaps of a kernel write their blocks.
#[derive(Clone, Copy)]
pub struct Encoding {
    /// Chunks.
    pub chunk: ChunkFields,
    /// Slots.
    pub slot: SlotFields,
    /// Pool headers.
    pub header: HeaderLayout,
    /// Hides chunks.
    pub heap_key: u64,
    /// Hides slots.
    pub lfh_key: u64,
    /// 64-bit pointers.
    pub wide: bool,
}

impl Encoding {
    /// The tag of a block that a chunk holds; `None` where no pool header stands there that could be one.
    fn tag(&self, bytes: &[u8], size: u64) -> Option<Tag> {
        let header = self.header.parse(bytes)?;
        let sound = header.allocated
            && header.previous == 0
            && header.raw_type < 0x80
            && (1..=size).contains(&header.size)
            && header.tag.0 != 0
            // The upper half of a pointer into the kernel.
            && !(self.wide && header.tag.0 >> 16 == 0xffff);
        sound.then_some(header.tag)
    }

    /// Hands the blocks of a subsegment of chunks to `visit`, up to what is wrong, if anything is.
    pub fn chunks(&self, start: Va, range: &RangeBytes, visit: &mut dyn FnMut(Block)) -> Walked {
        let of = &self.chunk;
        let pages = range.bytes.len() as u64 / PAGE_SIZE;
        let wrong = |at: u64, what: String| Walked {
            corrupt: Some(Corruption { at: start.add(at), what }),
            missing: 0,
        };
        // Without its head nothing tells where chunks end.
        let Some(head) = range.get(0, of.head) else { return Walked { corrupt: None, missing: pages } };
        let total = field_number(&of.total, head).unwrap_or(0);
        let signature = field_number(&of.signature, head).unwrap_or(0);
        if (total ^ signature ^ 0x2bed) & 0x7fff != 0 {
            return wrong(
                0,
                format!(
                    "the subsegment's size {total:#x} and signature {signature:#x} do not belong together"
                ),
            );
        }
        let mut at = of.head.next_multiple_of(of.unit);
        let end = (range.bytes.len() as u64).min(at + total * of.unit);
        let mut previous = 0;
        while at + of.unit <= end {
            let Some(raw) = range.get(at, of.unit) else {
                return Walked { corrupt: None, missing: (end - at).div_ceil(PAGE_SIZE) };
            };
            let mut plain = [0u8; 32];
            let Some(plain) = plain.get_mut(..raw.len()) else { break };
            plain.copy_from_slice(raw);
            let key = (start.0.wrapping_add(at) ^ self.heap_key).to_le_bytes();
            let width = (of.hidden.size as usize).min(8);
            plain.iter_mut().zip(key).take(width).for_each(|(byte, key)| *byte ^= key);
            let number = |field| field_number(field, plain).unwrap_or(0);
            let bytes = number(&of.length) * of.unit;
            let told = number(&of.before) * of.unit;
            if bytes == 0 || at + bytes > end {
                return wrong(
                    at,
                    format!("a chunk of {bytes:#x} bytes does not fit: {:#x} are left", end - at),
                );
            }
            if told != previous {
                return wrong(
                    at,
                    format!("it says the chunk before it has {told:#x} bytes, that one says {previous:#x}"),
                );
            }
            visit(self.of_chunk(start, range, at, bytes, number(&of.used) != 0));
            previous = bytes;
            at += bytes;
        }
        Walked { corrupt: None, missing: range.absent() }
    }

    /// The block in a chunk of `bytes` at `at`.
    fn of_chunk(&self, start: Va, range: &RangeBytes, at: u64, bytes: u64, used: bool) -> Block {
        let unit = self.chunk.unit;
        let before_page = start.add(at + 2 * unit).page_offset() == 0 && bytes > 2 * unit;
        let inside = if used && before_page { 2 * unit } else { unit.min(bytes) };
        let size = bytes - inside;
        let block = |allocated, tag, place| Block {
            at: start.add(at + inside),
            size,
            previous: 0,
            allocated,
            tag,
            place,
        };
        match range.get(at + inside, self.header.unit) {
            // A free chunk's links lie where the header was.
            _ if !used => block(false, Tag(0), Place::Chunk),
            _ if size > PAGE_SIZE => block(true, Tag(0), Place::Big),
            None => block(true, Tag(0), Place::Chunk),
            Some(header) => match self.tag(header, size) {
                Some(tag) => block(true, tag, Place::Chunk),
                None => block(false, Tag(0), Place::Chunk),
            },
        }
    }

    /// Hands the blocks of a subsegment of slots to `visit`; ends with what is wrong, if anything is.
    pub fn slots(&self, start: Va, range: &RangeBytes, visit: &mut dyn FnMut(Block)) -> Walked {
        let of = &self.slot;
        let size = range.bytes.len() as u64;
        let Some(head) = range.get(0, of.bitmap) else {
            return Walked { corrupt: None, missing: size / PAGE_SIZE };
        };
        let number = |field: &FieldInfo| field_number(field, head).unwrap_or(0);
        let withheld = of.withheld.as_ref().map_or(0, number);
        let count = number(&of.count) + withheld;
        let hidden = number(&of.hidden) ^ self.lfh_key;
        let [low, all] = [(start.0 & 0xffff_ffff) >> 12, start.0 >> 12];
        let ways: Vec<(u64, u64)> = [low, all]
            .into_iter()
            .map(|page| (hidden ^ page) & 0xffff_ffff)
            .map(|plain| (plain & 0xffff, plain >> 16))
            .filter(|&(each, first)| {
                each != 0 && first >= of.bitmap + count.div_ceil(4) && first + each * count <= size
            })
            .collect();
        let best = ways.iter().rev().max_by_key(|(each, first)| self.sound(range, *each, *first, count));
        let Some(&(each, first)) = best else {
            let plain = (hidden ^ low) & 0xffff_ffff;
            let what = format!(
                "{count:#x} slots of {:#x} bytes from {:#x} on do not fit into {size:#x} bytes",
                plain & 0xffff,
                plain >> 16
            );
            return Walked { corrupt: Some(Corruption { at: start, what }), missing: 0 };
        };
        for index in 0..count {
            let at = first + index * each;
            let crosses = at / PAGE_SIZE != (at + each - 1) / PAGE_SIZE;
            let Some(used) = self.is_used(range, index).filter(|_| withheld == 0 || !crosses) else {
                continue;
            };
            let header = range.get(at, self.header.unit).and_then(|bytes| self.header.parse(bytes));
            visit(Block {
                at: start.add(at),
                size: each,
                previous: 0,
                allocated: used,
                tag: header.map_or(Tag(0), |header| header.tag),
                place: Place::Slot,
            });
        }
        Walked { corrupt: None, missing: range.absent() }
    }

    /// The first bit of a slot; `None` where it cannot be read.
    fn is_used(&self, range: &RangeBytes, index: u64) -> Option<bool> {
        let byte = range.get(self.slot.bitmap + index / 4, 1)?.first()?;
        Some(byte >> (index % 4 * 2) & 1 != 0)
    }

    /// How many of the first slots in use have a header that fits, were slots laid out like this.
    fn sound(&self, range: &RangeBytes, each: u64, first: u64, count: u64) -> usize {
        let used = (0..count).filter(|&index| self.is_used(range, index) == Some(true)).take(MOST_ASKED);
        used.filter(|index| {
            let header = range.get(first + index * each, self.header.unit);
            header.and_then(|bytes| self.tag(bytes, each)).is_some()
        })
        .count()
    }

    /// Hands the blocks of a range of special pool to `visit`.
    pub fn special(&self, start: Va, range: &RangeBytes, visit: &mut dyn FnMut(Block)) {
        for page in (0..range.bytes.len() as u64).step_by(PAGE_SIZE as usize) {
            let Some(header) = range.get(page, self.header.unit) else { continue };
            let Some((size, tag)) = self.special_page(header) else { continue };
            let inside = PAGE_SIZE - size.next_multiple_of(self.header.unit);
            visit(Block {
                at: start.add(page + inside),
                size,
                previous: 0,
                allocated: true,
                tag,
                place: Place::Special,
            });
        }
    }

    fn special_page(&self, header: &[u8]) -> Option<(u64, Tag)> {
        let word = u64::from_le_bytes(header.get(..8)?.try_into().ok()?);
        let (size, tag) = (word & SPECIAL_SIZE, Tag((word >> 32) as u32));
        let fits = size != 0 && size.next_multiple_of(self.header.unit) + self.header.unit <= PAGE_SIZE;
        (fits && tag.0 != 0).then_some((size, tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Va = Va(0xffff_ac0f_1240_3000);
    const HEAP_KEY: u64 = 0x1122_3344_5566_7788;
    const LFH_KEY: u64 = 0x8877_6655_4433_2211;

    fn field(offset: u64, size: u64) -> FieldInfo {
        FieldInfo { offset, size, ..FieldInfo::default() }
    }

    /// As on 64-bit kernels of Windows 10 2004.
    fn encoding() -> Encoding {
        Encoding {
            chunk: ChunkFields {
                head: 0x28,
                total: field(0x20, 2),
                signature: field(0x22, 2),
                unit: 0x10,
                hidden: field(0, 8),
                length: field(2, 2),
                before: field(4, 2),
                used: field(6, 1),
            },
            slot: SlotFields {
                count: field(0x22, 2),
                withheld: Some(field(0x27, 1)),
                hidden: field(0x28, 4),
                bitmap: 0x30,
            },
            header: HeaderLayout::wide(),
            heap_key: HEAP_KEY,
            lfh_key: LFH_KEY,
            wide: true,
        }
    }

    fn put(bytes: &mut [u8], at: u64, value: &[u8]) {
        bytes[at as usize..at as usize + value.len()].copy_from_slice(value);
    }

    /// A range of chunks of these sizes, each in use or not; all used ones with a pool header where it belongs.
    fn chunks(sizes: &[(u64, bool)], pages: u64) -> RangeBytes {
        let mut bytes = vec![0; (pages * PAGE_SIZE) as usize];
        let total: u64 = sizes.iter().map(|size| size.0 / 0x10).sum();
        put(&mut bytes, 0x20, &(total as u16).to_le_bytes());
        put(&mut bytes, 0x22, &((total as u16 ^ 0x2bed) & 0x7fff).to_le_bytes());
        let (mut at, mut before) = (0x30, 0);
        for &(size, used) in sizes {
            let plain = (size / 0x10) << 16 | (before / 0x10) << 32 | u64::from(used) << 48;
            put(&mut bytes, at, &(plain ^ HEAP_KEY ^ (START.0 + at)).to_le_bytes());
            let inside = if (at + 0x20) % PAGE_SIZE == 0 { 0x20 } else { 0x10 };
            if used && size - inside <= PAGE_SIZE {
                pool_header(&mut bytes, at + inside, size - inside, b"Test");
            }
            (at, before) = (at + size, size);
        }
        RangeBytes { bytes, missing: vec![false; pages as usize] }
    }

    fn pool_header(bytes: &mut [u8], at: u64, size: u64, tag: &[u8; 4]) {
        put(bytes, at, &[0, 0, (size / 0x10) as u8, 2]);
        put(bytes, at + 4, tag);
    }

    fn blocks(walk: impl FnOnce(&mut dyn FnMut(Block)) -> Walked) -> (Vec<Block>, Walked) {
        let mut found = Vec::new();
        let walked = walk(&mut |block| found.push(block));
        (found, walked)
    }

    #[test]
    fn chunks_before_a_page_have_their_blocks_in_it() {
        let range = chunks(&[(0xfb0, true), (0x1220, true), (0x80, false)], 3);
        let (found, walked) = blocks(|visit| encoding().chunks(START, &range, visit));
        assert_eq!(walked, Walked::default());
        let told: Vec<_> =
            found.iter().map(|b| (b.at.0 - START.0, b.size, b.allocated, b.place, b.tag.0)).collect();
        let test = u32::from_le_bytes(*b"Test");
        assert_eq!(
            told,
            [
                (0x40, 0xfa0, true, Place::Chunk, test),
                (0x1000, 0x1200, true, Place::Big, 0),
                (0x2210, 0x70, false, Place::Chunk, 0),
            ]
        );
    }

    #[test]
    fn blocks_kept_for_reuse_are_not_in_use() {
        let mut range = chunks(&[(0x300, true), (0x300, true), (0x300, true)], 1);
        // The link to the next block of the list, and the end of the list.
        put(&mut range.bytes, 0x30 + 0x10, &(START.0 + 0x640).to_le_bytes());
        put(&mut range.bytes, 0x330 + 0x10, &[0; 8]);
        let (found, walked) = blocks(|visit| encoding().chunks(START, &range, visit));
        assert_eq!(walked, Walked::default());
        assert_eq!(found.iter().map(|b| b.allocated).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn a_missing_page_hides_only_what_is_in_it() {
        let mut range = chunks(&[(0x800, true), (0x1800, true), (0x400, true), (0x400, true)], 4);
        range.missing[1] = true;
        let (found, walked) = blocks(|visit| encoding().chunks(START, &range, visit));
        assert_eq!((found.len(), walked), (4, Walked { corrupt: None, missing: 1 }));
        range.missing[2] = true;
        let (found, walked) = blocks(|visit| encoding().chunks(START, &range, visit));
        assert_eq!((found.len(), walked.corrupt), (2, None));
        range.missing[0] = true;
        let (found, walked) = blocks(|visit| encoding().chunks(START, &range, visit));
        assert_eq!((found.len(), walked), (0, Walked { corrupt: None, missing: 4 }));
    }

    #[test]
    fn damage_is_not_taken_for_the_page_behind_the_chunks() {
        // One page more than the chunks need.
        let range = chunks(&[(0xfd0, true)], 2);
        assert_eq!(blocks(|visit| encoding().chunks(START, &range, visit)).1, Walked::default());
        let mut range = chunks(&[(0x100, true), (0x100, true)], 1);
        range.bytes[0x132] ^= 1;
        let (found, walked) = blocks(|visit| encoding().chunks(START, &range, visit));
        assert_eq!((found.len(), walked.corrupt.map(|c| c.at)), (1, Some(START.add(0x130))));
    }

    /// Slots of 0x90 bytes in two pages, one withheld; slot 1 is in use.
    fn slots(page: u64) -> RangeBytes {
        let mut bytes = vec![0; 2 * PAGE_SIZE as usize];
        let (each, first, count) = (0x90u64, 0x60u64, 56u64);
        put(&mut bytes, 0x22, &(count as u16 - 1).to_le_bytes());
        put(&mut bytes, 0x27, &[1]);
        put(&mut bytes, 0x28, &((each | first << 16) ^ LFH_KEY ^ page).to_le_bytes()[..4]);
        let crossing = (PAGE_SIZE - first) / each;
        bytes[(0x30 + crossing / 4) as usize] |= 1 << (crossing % 4 * 2);
        bytes[0x30] |= 1 << 2;
        pool_header(&mut bytes, first + each, each, b"Slot");
        RangeBytes { bytes, missing: vec![false; 2] }
    }

    #[test]
    fn slots_are_told_whichever_way_they_are_hidden() {
        for page in [(START.0 & 0xffff_ffff) >> 12, START.0 >> 12] {
            let range = slots(page);
            let (found, walked) = blocks(|visit| encoding().slots(START, &range, visit));
            assert_eq!(walked, Walked::default());
            assert_eq!(found.len(), 55, "one is withheld");
            let used: Vec<_> = found.iter().filter(|b| b.allocated).map(|b| b.at.0 - START.0).collect();
            assert_eq!(used, [0xf0]);
            assert_eq!(found[1].tag.to_string(), "Slot");
            assert!(
                found.iter().all(|b| (b.at.0 ^ (b.at.0 + b.size - 1)) < PAGE_SIZE),
                "none crosses a page"
            );
        }
        // Addresses whose upper half hardly changes the place of the first slot: headers tell.
        let near = Va(0xffff_0001_1240_3000);
        for page in [(near.0 & 0xffff_ffff) >> 12, near.0 >> 12] {
            let range = slots(page);
            let (found, _) = blocks(|visit| encoding().slots(near, &range, visit));
            assert_eq!(found[1].at.0 - near.0, 0xf0);
        }
    }

    #[test]
    fn special_pool_stands_at_the_end_of_its_page() {
        let mut bytes = vec![0; 2 * PAGE_SIZE as usize];
        put(&mut bytes, 0, &0x4123u32.to_le_bytes());
        put(&mut bytes, 4, b"Spec");
        let range = RangeBytes { bytes, missing: vec![false, true] };
        let mut found = Vec::new();
        encoding().special(START, &range, &mut |block| found.push(block));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].at, found[0].size), (START.add(0xed0), 0x123));
        assert_eq!((found[0].tag.to_string().as_str(), found[0].place), ("Spec", Place::Special));
    }
}
