//! Pool in segment heaps, as Windows has it since 10 2004 (19041): segments of page ranges, which are chunks of variable
//! size, low-fragmentation slots or allocations by themselves; larger ones in a tree.
//!
//! Facts: the `_SEGMENT_HEAP` family in the layout tables; public descriptions of the segment heap for the constants, the
//! keys and what they hide. Lists and trees are kept plain, as `Encoded` in their heads says.

use super::World;
use super::pool::{PoolKind, PoolPlace};
use crate::lab::layout::Machine;
use kd_sdk::address::{PAGE_SIZE, Va};
use serde_json::json;
use std::collections::BTreeMap;

/// Hides headers of chunks and signatures of segments.
const HEAP_KEY: u64 = 0x5e3c_91d7_0b64_a2f8;
/// Hides the sizes of low-fragmentation subsegments.
const LFH_KEY: u64 = 0x1f9a_6c05_d3b8_47e2;
const SEGMENT_SIGNATURE: u64 = 0xa2e6_4ead_a2e6_4ead;
const DESCRIPTOR_SIGNATURE: u64 = 0xccdd_ccdd;
const HEAP_SIGNATURE: u64 = 0xddee_ddee;
const CHUNKS_SIGNATURE: u64 = 0x2bed;

/// What a page range is: bit 0 in use, bit 1 its first unit, bits 2 to 4 for what.
#[derive(Clone, Copy)]
enum Range {
    Free = 0x2,
    Pages = 0x3,
    Slots = 0xb,
    Chunks = 0xf,
}

/// Pages of a subsegment of chunks, and of one of slots. The range of the former has one page more.
const CHUNK_PAGES: u64 = 16;
const SLOT_PAGES: u64 = 4;
/// How many blocks of a size are chunks before the low-fragmentation part takes over.
const SLOTS_AFTER: u64 = 17;
/// The largest slot.
const LARGEST_SLOT: u64 = 0x200;
/// Bytes of pages between heap structures.
const ROOM: u64 = 0x1_0000;

/// A subsegment of slots that has room.
#[derive(Clone, Copy)]
struct Slots {
    at: Va,
    first: u64,
    /// The first slot never used.
    next: u64,
    /// How many can be used, and how many of them still are free.
    count: u64,
    left: u64,
}

/// One heap, as far as it is built.
#[derive(Default)]
pub struct Heap {
    /// Its `_SEGMENT_HEAP`.
    pub at: u64,
    /// Segments of each context: start, first free unit.
    segments: [Vec<(u64, u64)>; 2],
    /// The open subsegment of chunks: start, next chunk, end, size of the last chunk.
    chunks: Option<(u64, u64, u64, u64)>,
    slots: BTreeMap<u64, Slots>,
    full: BTreeMap<u64, Vec<Va>>,
    asked: BTreeMap<u64, u64>,
    large: Vec<(u64, u64)>,
    free_chunks: Vec<u64>,
    /// The block that was freed last and waits on a list for reuse.
    cached: u64,
    free_ranges: Vec<u64>,
    room: u64,
}

impl World {
    fn heap(&mut self, kind: PoolKind) -> &mut Heap {
        &mut self.pools.heaps[kind as usize]
    }

    fn narrow_key(&self, key: u64) -> u64 {
        if self.options.generation.machine == Machine::X86 { key & 0xffff_ffff } else { key }
    }

    /// Memory for what a heap keeps besides its segments.
    fn heap_room(&mut self, kind: PoolKind, size: u64) -> Va {
        let at = self.heap(kind).room;
        self.heap(kind).room += size.next_multiple_of(0x40);
        Va(at)
    }

    /// Makes a heap without segments and shows it where the pool manager looks for it.
    pub(super) fn start_heap(&mut self, kind: PoolKind) {
        let generation = self.options.generation;
        let base = self.pools.areas[kind as usize].next;
        self.pools.areas[kind as usize].next = base + (1 << 20);
        self.map_range(Va(base), ROOM);
        self.pools.areas[kind as usize].pages += ROOM / PAGE_SIZE;
        self.heap(kind).room = base;
        let heap = self.heap_room(kind, generation.at("_SEGMENT_HEAP"));
        self.heap(kind).at = heap.0;
        self.set(heap, "_SEGMENT_HEAP.Signature", HEAP_SIGNATURE);
        let [lfh, vs] =
            ["LfhContext", "VsContext"].map(|f| heap.add(generation.at(&format!("_SEGMENT_HEAP.{f}"))));
        for index in 0..2 {
            let context = self.heap_context(kind, index);
            let (unit, size) = [(12, 1u64 << 20), (16, 1 << 24)][index as usize];
            let header = generation.at("_HEAP_PAGE_SEGMENT");
            for (field, value) in [
                ("SegmentMask", !(size - 1)),
                ("UnitShift", unit),
                ("PagesPerUnitShift", unit - 12),
                ("FirstDescriptorIndex", header.div_ceil(1 << unit)),
                ("MaxAllocationSize", [0x7_f000, 0x7f_0000][index as usize]),
                ("LfhContext", if index == 0 { lfh.0 } else { 0 }),
                ("VsContext", if index == 0 { vs.0 } else { 0 }),
                ("Heap", heap.0),
            ] {
                self.set(context, &format!("_HEAP_SEG_CONTEXT.{field}"), value);
            }
            self.start_list(context.add(generation.at("_HEAP_SEG_CONTEXT.SegmentListHead")));
        }
        self.set(vs, "_HEAP_VS_CONTEXT.Config.Flags.PageAlignLargeAllocs", 1);
        self.set(vs, "_HEAP_VS_CONTEXT.BackendCtx", self.heap_context(kind, 0).0);
        self.start_list(vs.add(generation.at("_HEAP_VS_CONTEXT.SubsegmentList")));
        self.set(lfh, "_HEAP_LFH_CONTEXT.Config.WitholdPageCrossingBlocks", 1);
        self.set(lfh, "_HEAP_LFH_CONTEXT.BackendCtx", self.heap_context(kind, 0).0);
        let step = generation.machine.pointer_size() as u64;
        let buckets = generation.table().field("_HEAP_LFH_CONTEXT.Buckets").expect("the table has it");
        for bucket in 0..generation.table().width(buckets.kind) / step {
            // Not in use yet: an odd pointer.
            self.write_pointer(lfh.add(buckets.offset + bucket * step), 1);
        }
        let globals = self.nt("RtlpHpHeapGlobals");
        for (field, key) in [("HeapKey", HEAP_KEY), ("LfhKey", LFH_KEY)] {
            self.set(globals, &format!("_RTLP_HP_HEAP_GLOBALS.{field}"), self.narrow_key(key));
        }
        let state = self.nt("ExPoolState");
        self.set(state, "_EX_POOL_HEAP_MANAGER_STATE.HeapManager.Globals", globals.0);
        self.set(state, "_EX_POOL_HEAP_MANAGER_STATE.NumberOfPools", 1);
        let node = state.add(generation.at("_EX_POOL_HEAP_MANAGER_STATE.PoolNode"));
        let heaps = node.add(generation.at("_EX_HEAP_POOL_NODE.Heaps"));
        match kind {
            // One that may execute and one that may not; the kernel's own drivers use the latter.
            PoolKind::NonPaged => {
                let empty = self.empty_heap(kind);
                self.write_pointer(heaps, empty.0);
                self.write_pointer(heaps.add(step), heap.0);
            }
            PoolKind::Paged => self.write_pointer(heaps.add(2 * step), heap.0),
            PoolKind::Session => {} // found through the session spaces
        }
    }

    /// The heap of a kind.
    pub(super) fn heap_of(&self, kind: PoolKind) -> Va {
        Va(self.pools.heaps[kind as usize].at)
    }

    /// A heap that nothing was taken from.
    pub(super) fn empty_heap(&mut self, kind: PoolKind) -> Va {
        let generation = self.options.generation;
        let empty = self.heap_room(kind, generation.at("_SEGMENT_HEAP"));
        self.set(empty, "_SEGMENT_HEAP.Signature", HEAP_SIGNATURE);
        let contexts = empty.add(generation.at("_SEGMENT_HEAP.SegContexts"));
        for index in 0..2 {
            let context = contexts.add(index * generation.at("_HEAP_SEG_CONTEXT"));
            self.set(context, "_HEAP_SEG_CONTEXT.Heap", empty.0);
            self.start_list(context.add(generation.at("_HEAP_SEG_CONTEXT.SegmentListHead")));
        }
        empty
    }

    fn heap_context(&self, kind: PoolKind, index: u64) -> Va {
        let generation = self.options.generation;
        let contexts = generation.at("_SEGMENT_HEAP.SegContexts");
        self.heap_of(kind).add(contexts + index * generation.at("_HEAP_SEG_CONTEXT"))
    }

    fn add_segment(&mut self, kind: PoolKind, index: u64) {
        let generation = self.options.generation;
        let size = [1u64 << 20, 1 << 24][index as usize];
        let unit = [12, 16][index as usize];
        let at = Va(self.pools.areas[kind as usize].next.next_multiple_of(size));
        self.pools.areas[kind as usize].next = at.0 + size;
        let header = generation.at("_HEAP_PAGE_SEGMENT");
        self.map_range(at, header);
        self.pools.areas[kind as usize].pages += header / PAGE_SIZE;
        let context = self.heap_context(kind, index);
        // 24H2 hides nothing but the addresses.
        let constant = if generation.build >= 26100 { 0 } else { SEGMENT_SIGNATURE };
        let signature = at.0 ^ context.0 ^ self.narrow_key(HEAP_KEY ^ constant);
        self.set(at, "_HEAP_PAGE_SEGMENT.Signature", signature);
        self.append(context.add(generation.at("_HEAP_SEG_CONTEXT.SegmentListHead")), at);
        self.heap(kind).segments[index as usize].push((at.0, header.div_ceil(1 << unit)));
        let count = self.heap(kind).segments[index as usize].len() as u64;
        self.set(context, "_HEAP_SEG_CONTEXT.SegmentCount", count);
    }

    /// Takes units of a segment and describes them.
    fn page_range(&mut self, kind: PoolKind, index: u64, bytes: u64, what: Range) -> Va {
        let unit = [12, 16][index as usize];
        let units = bytes.div_ceil(1 << unit);
        let room = self.heap(kind).segments[index as usize].last().map_or(0, |s| 256 - s.1);
        if room < units {
            self.close_segment(kind, index);
            self.add_segment(kind, index);
        }
        let &(segment, first) = self.heap(kind).segments[index as usize].last().expect("a segment");
        self.describe_range(segment, first, units, what, units * (1 << unit) - bytes);
        self.heap(kind).segments[index as usize].last_mut().expect("a segment").1 += units;
        let at = Va(segment + (first << unit));
        self.map_range(at, bytes);
        self.pools.areas[kind as usize].pages += bytes.div_ceil(PAGE_SIZE);
        at
    }

    fn describe_range(&mut self, segment: u64, first: u64, units: u64, what: Range, unused: u64) {
        let generation = self.options.generation;
        let size = generation.at("_HEAP_PAGE_RANGE_DESCRIPTOR");
        let flags = what as u64;
        let bits =
            generation.table().field("_HEAP_PAGE_RANGE_DESCRIPTOR.CommittedPageCount").and_then(|f| f.bits);
        for number in 0..units {
            let at = Va(segment + (first + number) * size);
            if number == 0 {
                if !matches!(what, Range::Free) {
                    self.set(at, "_HEAP_PAGE_RANGE_DESCRIPTOR.TreeSignature", DESCRIPTOR_SIGNATURE);
                    self.set(at, "_HEAP_PAGE_RANGE_DESCRIPTOR.UnusedBytes", unused);
                }
                self.set(at, "_HEAP_PAGE_RANGE_DESCRIPTOR.RangeFlags", flags);
                self.set(at, "_HEAP_PAGE_RANGE_DESCRIPTOR.UnitSize", units);
            } else {
                self.set(at, "_HEAP_PAGE_RANGE_DESCRIPTOR.RangeFlags", flags & !2);
                self.set(at, "_HEAP_PAGE_RANGE_DESCRIPTOR.UnitOffset", number);
            }
            if bits.is_none() && !matches!(what, Range::Free) {
                self.set(at, "_HEAP_PAGE_RANGE_DESCRIPTOR.CommittedPageCount", 1);
            }
        }
    }

    /// What is left of the last segment is one free range.
    fn close_segment(&mut self, kind: PoolKind, index: u64) {
        let Some(&(segment, first)) = self.heap(kind).segments[index as usize].last() else { return };
        if first < 256 {
            self.describe_range(segment, first, 256 - first, Range::Free, 0);
            self.heap(kind).segments[index as usize].last_mut().expect("a segment").1 = 256;
            let size = self.options.generation.at("_HEAP_PAGE_RANGE_DESCRIPTOR");
            if index == 0 {
                self.heap(kind).free_ranges.push(segment + first * size);
            }
        }
    }

    /// An allocation of whole pages: a range of its own, or outside of the segments.
    pub(super) fn heap_pages(&mut self, kind: PoolKind, size: u64) -> Va {
        let bytes = size.next_multiple_of(PAGE_SIZE);
        match bytes {
            0..=0x7_f000 => self.page_range(kind, 0, bytes, Range::Pages),
            0x7_f001..=0x7f_0000 => self.page_range(kind, 1, bytes, Range::Pages),
            _ => {
                let at = self.heap_large(kind, bytes);
                self.map_range(at, bytes);
                at
            }
        }
    }

    /// Addresses outside of the segments, known to the heap; nothing is mapped there yet.
    pub(super) fn heap_large(&mut self, kind: PoolKind, bytes: u64) -> Va {
        let area = &mut self.pools.areas[kind as usize];
        let at = area.next.next_multiple_of(ROOM);
        area.next = at + bytes;
        area.pages += bytes / PAGE_SIZE;
        self.heap(kind).large.push((at, bytes / PAGE_SIZE));
        Va(at)
    }

    /// Room for a block with its header: the first ones of a size are chunks, the others slots.
    pub(super) fn heap_block(&mut self, kind: PoolKind, total: u64) -> (Va, PoolPlace) {
        let asked = self.heap(kind).asked.entry(total).or_default();
        *asked += 1;
        if *asked > SLOTS_AFTER && total <= LARGEST_SLOT {
            self.take_slot(kind, total)
        } else {
            self.chunk(kind, total)
        }
    }

    /// An allocation without a header of pool: whole pages, or a chunk that begins a page.
    pub(super) fn heap_big(&mut self, kind: PoolKind, size: u64) -> (Va, u64) {
        let unit = self.options.generation.at("_POOL_HEADER");
        let bytes = size.next_multiple_of(unit);
        if bytes >= 0x1_0000 || bytes & 0xff0 > 0xfc0 || bytes.is_multiple_of(PAGE_SIZE) {
            return (self.heap_pages(kind, size), size.next_multiple_of(PAGE_SIZE));
        }
        (self.chunk(kind, bytes).0, bytes)
    }

    /// Where a chunk for a block of `total` bytes goes that may begin at `next`, and its size. Its block must not cross a
    /// page: it may begin one, behind a header two units before it.
    fn chunk_place(&self, next: u64, total: u64) -> (u64, u64) {
        let header = self.options.generation.at("_HEAP_VS_CHUNK_HEADER");
        let edge = PAGE_SIZE - 2 * header;
        let within = next % PAGE_SIZE;
        if within + header + total <= PAGE_SIZE {
            return (next, total + header);
        }
        let mut at = next - within + edge;
        // What is left out must have room for a free chunk.
        while at < next || (at != next && at - next < 3 * header) {
            at += PAGE_SIZE;
        }
        (at, total + 2 * header)
    }

    fn chunk(&mut self, kind: PoolKind, total: u64) -> (Va, PoolPlace) {
        let generation = self.options.generation;
        let header = generation.at("_HEAP_VS_CHUNK_HEADER");
        let fits = self.heap(kind).chunks.is_some_and(|(_, next, end, _)| {
            let (at, need) = self.chunk_place(next, total);
            at + need <= end
        });
        if !fits {
            self.close_chunks(kind);
            let pages = if total > CHUNK_PAGES * PAGE_SIZE / 2 { 2 * CHUNK_PAGES } else { CHUNK_PAGES };
            let bytes = pages * PAGE_SIZE;
            let at = self.page_range(kind, 0, bytes + PAGE_SIZE, Range::Chunks);
            let first = generation.at("_HEAP_VS_SUBSEGMENT").next_multiple_of(header);
            let units = (bytes - first) / header;
            self.set(at, "_HEAP_VS_SUBSEGMENT.Size", units);
            self.set(at, "_HEAP_VS_SUBSEGMENT.Signature", (units ^ CHUNKS_SIGNATURE) & 0x7fff);
            self.set(at, "_HEAP_VS_SUBSEGMENT.FullCommit", 1);
            self.set(at, "_HEAP_VS_SUBSEGMENT.CommitBitmap", (1 << pages) - 1);
            let vs = Va(self.heap(kind).at).add(generation.at("_SEGMENT_HEAP.VsContext"));
            self.append(vs.add(generation.at("_HEAP_VS_CONTEXT.SubsegmentList")), at);
            self.heap(kind).chunks = Some((at.0, at.0 + first, at.0 + bytes, 0));
        }
        let (start, next, end, mut previous) = self.heap(kind).chunks.expect("a subsegment");
        let (at, need) = self.chunk_place(next, total);
        if at != next {
            self.chunk_header(start, next, at - next, previous, false);
            self.heap(kind).free_chunks.push(next);
            previous = at - next;
        }
        // A rest too small for a free chunk belongs to the last one.
        let size = if end - at - need < 3 * header { end - at } else { need };
        self.chunk_header(start, at, size, previous, true);
        self.heap(kind).chunks = Some((start, at + size, end, size));
        (Va(at + need - total), PoolPlace::Chunk)
    }

    fn chunk_header(&mut self, subsegment: u64, at: u64, size: u64, previous: u64, used: bool) {
        let generation = self.options.generation;
        let unit = generation.at("_HEAP_VS_CHUNK_HEADER");
        let key = self.narrow_key(HEAP_KEY);
        let va = Va(at);
        self.set(va, "_HEAP_VS_CHUNK_HEADER.Sizes.HeaderBits", 0);
        self.set(va, "_HEAP_VS_CHUNK_HEADER.Sizes.UnsafeSize", size / unit);
        self.set(va, "_HEAP_VS_CHUNK_HEADER.Sizes.UnsafePrevSize", previous / unit);
        self.set(va, "_HEAP_VS_CHUNK_HEADER.Sizes.Allocated", u64::from(used));
        let width = generation.place("_HEAP_VS_CHUNK_HEADER.Sizes.HeaderBits").0;
        let plain = self.read(va, width).expect("just written");
        let hidden: Vec<u8> = plain.iter().zip((at ^ key).to_le_bytes()).map(|(a, b)| a ^ b).collect();
        self.write(va, &hidden);
        let page = (at - subsegment) >> 12;
        self.set(va, "_HEAP_VS_CHUNK_HEADER.EncodedSegmentPageOffset", (page ^ at ^ key) & 0xff);
    }

    /// What is left of the open subsegment is one free chunk.
    fn close_chunks(&mut self, kind: PoolKind) {
        let Some((start, next, end, previous)) = self.heap(kind).chunks.take() else { return };
        if next < end {
            self.chunk_header(start, next, end - next, previous, false);
            self.heap(kind).free_chunks.push(next);
        }
    }

    /// Gives a chunk back; `block` is the header of the block in it. One of middle size stays on a list for reuse,
    /// whose link takes the place of the pool header.
    pub(super) fn free_chunk(&mut self, kind: PoolKind, block: Va, size: u64) {
        if (0x201..=0xf80).contains(&size) {
            let next = std::mem::replace(&mut self.heap(kind).cached, block.0);
            return self.write_pointer(block, next);
        }
        let header = self.options.generation.at("_HEAP_VS_CHUNK_HEADER");
        let at = Va(block.0 - if block.page_offset() == 0 { 2 * header } else { header });
        let width = self.options.generation.place("_HEAP_VS_CHUNK_HEADER.Sizes.HeaderBits").0;
        let key = self.narrow_key(HEAP_KEY) ^ at.0;
        let flip = |world: &mut World| {
            let bytes = world.read(at, width).expect("a chunk");
            let turned: Vec<u8> = bytes.iter().zip(key.to_le_bytes()).map(|(a, b)| a ^ b).collect();
            world.write(at, &turned);
        };
        flip(self);
        self.set(at, "_HEAP_VS_CHUNK_HEADER.Sizes.Allocated", 0);
        flip(self);
        self.heap(kind).free_chunks.push(at.0);
    }

    fn take_slot(&mut self, kind: PoolKind, total: u64) -> (Va, PoolPlace) {
        let full = self.heap(kind).slots.get(&total).is_some_and(|s| s.left == 0);
        if full {
            let gone = self.heap(kind).slots.remove(&total).expect("it is there");
            self.heap(kind).full.entry(total).or_default().push(gone.at);
        }
        if !self.heap(kind).slots.contains_key(&total) {
            let slots = self.add_slots(kind, total);
            self.heap(kind).slots.insert(total, slots);
        }
        let Slots { at, first, next, left, .. } = self.heap(kind).slots[&total];
        let index = if crosses(first, total, next) { next + 1 } else { next };
        let slots = self.heap(kind).slots.get_mut(&total).expect("a subsegment");
        (slots.next, slots.left) = (index + 1, left - 1);
        self.set(at, "_HEAP_LFH_SUBSEGMENT.FreeCount", left - 1);
        self.mark_slot(at, index, true);
        (at.add(first + index * total), PoolPlace::Slot(at, index))
    }

    /// A subsegment of slots: those that would cross a page are marked and not counted.
    fn add_slots(&mut self, kind: PoolKind, total: u64) -> Slots {
        let generation = self.options.generation;
        let bytes = SLOT_PAGES * PAGE_SIZE;
        let at = self.page_range(kind, 0, bytes, Range::Slots);
        // Two bits a slot, then the slots.
        let bitmap = generation.at("_HEAP_LFH_SUBSEGMENT.BlockBitmap");
        let most = (bytes - bitmap) / total;
        let first = (bitmap + (most * 2).div_ceil(64) * 8).next_multiple_of(0x10);
        let first = if total.is_power_of_two() { first.next_multiple_of(total) } else { first };
        let all = (bytes - first) / total;
        let withheld: Vec<u64> = (0..all).filter(|&index| crosses(first, total, index)).collect();
        withheld.iter().for_each(|&index| self.mark_slot(at, index, true));
        // Behind the last slot all bits are set.
        for bit in all * 2..(all * 2).next_multiple_of(64) {
            let at = at.add(bitmap + bit / 8);
            let byte = self.read(at, 1).expect("a bitmap")[0];
            self.write(at, &[byte | 1 << (bit % 8)]);
        }
        let count = all - withheld.len() as u64;
        self.set(at, "_HEAP_LFH_SUBSEGMENT.BlockCount", count);
        self.set(at, "_HEAP_LFH_SUBSEGMENT.FreeCount", count);
        self.set(at, "_HEAP_LFH_SUBSEGMENT.WitheldBlockCount", withheld.len() as u64);
        // Older ones take the lower half of the address only.
        let page = if generation.build >= 26100 { at.0 >> 12 } else { (at.0 & 0xffff_ffff) >> 12 };
        let hidden = ((total | first << 16) ^ LFH_KEY ^ page) & 0xffff_ffff;
        self.set(at, "_HEAP_LFH_SUBSEGMENT.BlockOffsets.EncodedData", hidden);
        Slots { at, first, next: 0, count, left: count }
    }

    fn mark_slot(&mut self, subsegment: Va, index: u64, used: bool) {
        let bitmap = self.options.generation.at("_HEAP_LFH_SUBSEGMENT.BlockBitmap");
        let at = subsegment.add(bitmap + index / 4);
        let byte = self.read(at, 1).expect("a bitmap")[0];
        let bit = 1 << (index % 4 * 2);
        self.write(at, &[if used { byte | bit } else { byte & !bit }]);
    }

    pub(super) fn free_slot(&mut self, subsegment: Va, index: u64) {
        self.mark_slot(subsegment, index, false);
        let generation = self.options.generation;
        let at = subsegment.add(generation.at("_HEAP_LFH_SUBSEGMENT.FreeCount"));
        let bytes = self.read(at, 2).expect("a subsegment");
        let count = u16::from_le_bytes([bytes[0], bytes[1]]) + 1;
        self.write(at, &count.to_le_bytes());
    }

    /// Closes what is open, and writes buckets, trees, large allocations and totals.
    pub(super) fn close_heaps(&mut self) {
        let generation = self.options.generation;
        let mut told = Vec::new();
        for kind in PoolKind::ALL {
            if self.heap(kind).at == 0 {
                continue;
            }
            self.close_chunks(kind);
            self.close_segment(kind, 0);
            self.close_segment(kind, 1);
            let heap = Va(self.heap(kind).at);
            self.write_buckets(kind);
            let large = std::mem::take(&mut self.heap(kind).large);
            let pages = large.iter().map(|l| l.1).sum();
            let mut nodes = Vec::new();
            for (at, pages) in large {
                let node = self.heap_room(kind, generation.at("_HEAP_LARGE_ALLOC_DATA"));
                self.set(node, "_HEAP_LARGE_ALLOC_DATA.VirtualAddress", at);
                self.set(node, "_HEAP_LARGE_ALLOC_DATA.AllocatedPages", pages);
                nodes.push(node.0);
            }
            self.red_black(heap.add(generation.at("_SEGMENT_HEAP.LargeAllocMetadata")), &nodes, 0);
            let context = self.heap_context(kind, 0);
            let ranges = std::mem::take(&mut self.heap(kind).free_ranges);
            self.red_black(context.add(generation.at("_HEAP_SEG_CONTEXT.FreePageRanges")), &ranges, 0);
            let mut chunks = std::mem::take(&mut self.heap(kind).free_chunks);
            chunks.sort_unstable();
            let tree =
                generation.at("_SEGMENT_HEAP.VsContext") + generation.at("_HEAP_VS_CONTEXT.FreeChunkTree");
            self.red_black(heap.add(tree), &chunks, generation.at("_HEAP_VS_CHUNK_FREE_HEADER.Node"));
            let area = self.pools.areas[kind as usize].pages;
            for (field, value) in [
                ("LargeReservedPages", pages),
                ("LargeCommittedPages", pages),
                ("MemStats.TotalReservedPages", area),
                ("MemStats.TotalCommittedPages", area),
            ] {
                self.set(heap, &format!("_SEGMENT_HEAP.{field}"), value);
            }
            let segments = &self.pools.heaps[kind as usize].segments;
            let segments: Vec<u64> = segments.iter().flatten().map(|s| s.0).collect();
            told.push(json!({ "pool": kind.name(), "heap": heap.0, "segments": segments }));
        }
        self.facts.insert("heaps".into(), told.into());
    }

    /// A bucket for each size that has slots. Its one affinity slot holds the subsegments; since Windows 11 24H2 the
    /// bucket itself does.
    fn write_buckets(&mut self, kind: PoolKind) {
        let generation = self.options.generation;
        let step = generation.machine.pointer_size() as u64;
        let heap = Va(self.heap(kind).at);
        let buckets = generation.at("_SEGMENT_HEAP.LfhContext") + generation.at("_HEAP_LFH_CONTEXT.Buckets");
        let open: Vec<(u64, Slots)> = self.heap(kind).slots.iter().map(|(&s, &o)| (s, o)).collect();
        for (size, slots) in open {
            let index = size / (2 * step);
            let bucket = self.heap_room(kind, generation.at("_HEAP_LFH_BUCKET"));
            let slot = generation.find("_HEAP_LFH_AFFINITY_SLOT").map(|size| self.heap_room(kind, size));
            self.write_pointer(heap.add(buckets + index * step), bucket.0);
            let full = self.heap(kind).full.get(&size).cloned().unwrap_or_default();
            let subsegments = 1 + full.len() as u64;
            for (field, value) in [
                ("State.IsBucket", 1),
                ("State.BucketIndex", index),
                ("State.SlotCount", 1),
                ("TotalBlockCount", slots.count * subsegments),
                ("TotalSubsegmentCount", subsegments),
            ] {
                self.set(bucket, &format!("_HEAP_LFH_BUCKET.{field}"), value);
            }
            for owner in [Some(bucket), slot].into_iter().flatten() {
                for list in ["AvailableSubsegmentList", "FullSubsegmentList"] {
                    self.start_list(owner.add(generation.at(&format!("_HEAP_LFH_SUBSEGMENT_OWNER.{list}"))));
                }
            }
            let owner = slot.unwrap_or(bucket);
            let list = |name: &str| owner.add(generation.at(&format!("_HEAP_LFH_SUBSEGMENT_OWNER.{name}")));
            if let Some(slot) = slot {
                let array = self.heap_room(kind, step);
                self.write_pointer(array, slot.0);
                self.set(bucket, "_HEAP_LFH_BUCKET.AffinitySlots", array.0);
                self.set(slot, "_HEAP_LFH_AFFINITY_SLOT.State.BucketIndex", index);
                self.set(slot, "_HEAP_LFH_AFFINITY_SLOT.ActiveSubsegment", slots.at.0);
            } else {
                self.append(list("AvailableSubsegmentList"), slots.at);
            }
            self.set(slots.at, "_HEAP_LFH_SUBSEGMENT.Owner", owner.0);
            for subsegment in full {
                self.set(subsegment, "_HEAP_LFH_SUBSEGMENT.Owner", owner.0);
                self.append(list("FullSubsegmentList"), subsegment);
            }
        }
    }

    /// Makes a red-black tree of structures in ascending order, whose nodes are `inside` them.
    fn red_black(&mut self, head: Va, members: &[u64], inside: u64) {
        let levels = usize::BITS - members.len().leading_zeros();
        let root = self.subtree(members, inside, 0, levels);
        self.set(head, "_RTL_RB_TREE.Root", root);
        self.set(head, "_RTL_RB_TREE.Min", members.first().map_or(0, |m| m + inside));
    }

    /// Returns the node in the middle. Nodes of the last level are red, all others black.
    fn subtree(&mut self, members: &[u64], inside: u64, parent: u64, levels: u32) -> u64 {
        let Some(&member) = members.get(members.len() / 2) else { return 0 };
        let node = member + inside;
        let left = self.subtree(&members[..members.len() / 2], inside, node, levels - 1);
        let right = self.subtree(&members[members.len() / 2 + 1..], inside, node, levels - 1);
        let at = Va(node);
        self.set(at, "_RTL_BALANCED_NODE.Left", left);
        self.set(at, "_RTL_BALANCED_NODE.Right", right);
        self.set(at, "_RTL_BALANCED_NODE.ParentValue", parent | u64::from(parent != 0 && levels == 1));
        node
    }
}

/// Whether a slot lies in two pages.
fn crosses(first: u64, each: u64, index: u64) -> bool {
    let at = first + index * each;
    at / PAGE_SIZE != (at + each - 1) / PAGE_SIZE
}
