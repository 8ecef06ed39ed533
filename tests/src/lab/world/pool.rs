//! Pool: blocks with headers in pages, big allocations, and the tables that count them.
//!
//! Up to Windows 8.1 blocks stand one after the other in pages, with descriptors that list the free ones; later a segment
//! heap holds them, see [`super::heap`]. Facts: the structures in the layout tables; public descriptions of the allocator
//! for the values of `PoolType` and the mark of a free big entry.

use super::heap::Heap;
use super::{Story, World};
use crate::lab::layout::Machine;
use crate::lab::memory::Owner;
use crate::lab::paging::Leaf;
use kd_sdk::address::{PAGE_SIZE, Va};
use serde_json::json;
use std::collections::BTreeMap;

/// A kind of pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PoolKind {
    /// Never paged out.
    NonPaged,
    /// May be paged out.
    Paged,
    /// Paged, one for each session.
    Session,
}

impl PoolKind {
    /// Every kind.
    pub const ALL: [PoolKind; 3] = [PoolKind::NonPaged, PoolKind::Paged, PoolKind::Session];

    /// As the facts name it.
    pub fn name(self) -> &'static str {
        ["nonpaged", "paged", "session"][self as usize]
    }

    /// Where it begins.
    pub(super) fn base(self, machine: Machine) -> Va {
        Va(match (self, machine == Machine::X86) {
            (PoolKind::NonPaged, true) => 0x8b00_0000,
            (PoolKind::Paged, true) => 0xe100_0000,
            (PoolKind::Session, true) => 0xbc00_0000,
            (PoolKind::NonPaged, false) => 0xffff_ac0f_1240_0000,
            (PoolKind::Paged, false) => 0xffff_b40f_4000_0000,
            (PoolKind::Session, false) => 0xffff_f900_c000_0000,
        })
    }
}

/// In what a block stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PoolPlace {
    /// A page of blocks.
    Page,
    /// Pages of its own, without a header.
    Big,
    /// A chunk of variable size of a segment heap; its header stands before the block's.
    Chunk,
    /// A slot of a low-fragmentation subsegment: the subsegment, and the slot's number.
    Slot(Va, u64),
}

/// A block of pool, as a reader should find it.
#[derive(Clone, Copy, Debug)]
pub struct PoolBlock {
    /// Its header; of a big one its memory.
    pub start: Va,
    /// Bytes, the header included.
    pub size: u64,
    /// Its tag.
    pub tag: [u8; 4],
    /// Whose it is.
    pub kind: PoolKind,
    /// Given back.
    pub free: bool,
    /// In what it stands.
    pub place: PoolPlace,
}

/// Allocations, frees and bytes in use of a tag in one kind of pool.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct PoolCount {
    /// Allocations.
    pub allocations: u64,
    /// How many were given back.
    pub frees: u64,
    /// Bytes in use.
    pub bytes: u64,
}

/// One stretch of addresses that pool grows over.
#[derive(Default)]
pub(super) struct Area {
    /// Where it grows; zero before its first block.
    pub next: u64,
    /// Size of the block before the next one, zero at the start of a page.
    previous: u64,
    pub pages: u64,
    pub(super) big_pages: u64,
}

/// What the builder remembers of pool.
#[derive(Default)]
pub struct Pools {
    pub(super) areas: [Area; 3],
    pub(super) heaps: [Heap; 3],
    /// Every block made, in this order.
    pub blocks: Vec<PoolBlock>,
    /// What the trackers tell of each tag, by kind.
    pub tags: BTreeMap<[u8; 4], [PoolCount; 3]>,
}

impl World {
    /// Takes a zeroed block of nonpaged pool with a header; a page and more without.
    pub(super) fn pool_block(&mut self, tag: &[u8; 4], size: u64) -> Va {
        self.pool_of(PoolKind::NonPaged, tag, size)
    }

    /// As [`Self::pool_block`], from pool of a kind.
    pub(super) fn pool_of(&mut self, kind: PoolKind, tag: &[u8; 4], size: u64) -> Va {
        let generation = self.options.generation;
        let header = generation.at("_POOL_HEADER");
        let total = (size.max(1) + header).next_multiple_of(header);
        let heap = generation.build >= 19041;
        if self.pools.areas[kind as usize].next == 0 {
            self.pools.areas[kind as usize].next = kind.base(generation.machine).0;
            if heap {
                self.start_heap(kind);
            }
        }
        let (start, size, place) = match (total > PAGE_SIZE - header, heap) {
            (true, false) => (self.big_block(kind, size), size.next_multiple_of(PAGE_SIZE), PoolPlace::Big),
            (true, true) => {
                let (start, size) = self.heap_big(kind, size);
                (start, size, PoolPlace::Big)
            }
            (false, false) => {
                let (start, total) = self.page_block(kind, tag, total);
                (start, total, PoolPlace::Page)
            }
            (false, true) => {
                let (start, place) = self.heap_block(kind, total);
                self.write_pool_header(kind, start, *tag, 0, total, true);
                (start, total, place)
            }
        };
        self.pools.blocks.push(PoolBlock { start, size, tag: *tag, kind, free: false, place });
        let count = &mut self.pools.tags.entry(*tag).or_default()[kind as usize];
        count.allocations += 1;
        count.bytes += size;
        if place == PoolPlace::Big { start } else { start.add(header) }
    }

    /// Pages of their own.
    fn big_block(&mut self, kind: PoolKind, size: u64) -> Va {
        let bytes = size.next_multiple_of(PAGE_SIZE);
        let va = self.big_addresses(kind, bytes);
        self.map_range(va, bytes);
        va
    }

    fn big_addresses(&mut self, kind: PoolKind, bytes: u64) -> Va {
        self.end_pool_page(kind);
        let area = &mut self.pools.areas[kind as usize];
        let va = Va(area.next);
        area.next += bytes;
        area.big_pages += bytes / PAGE_SIZE;
        area.pages += bytes / PAGE_SIZE;
        va
    }

    /// A big block of nonpaged pool that the caller maps.
    pub(super) fn pool_addresses(&mut self, tag: &[u8; 4], size: u64) -> Va {
        let kind = PoolKind::NonPaged;
        let heap = self.options.generation.build >= 19041;
        let start = if heap { self.heap_large(kind, size) } else { self.big_addresses(kind, size) };
        let place = PoolPlace::Big;
        self.pools.blocks.push(PoolBlock { start, size, tag: *tag, kind, free: false, place });
        let count = &mut self.pools.tags.entry(*tag).or_default()[kind as usize];
        count.allocations += 1;
        count.bytes += size;
        start
    }

    /// A block in a page with others; it takes what would be too small for a free block.
    fn page_block(&mut self, kind: PoolKind, tag: &[u8; 4], total: u64) -> (Va, u64) {
        let least = 2 * self.options.generation.at("_POOL_HEADER");
        let next = self.pools.areas[kind as usize].next;
        if next.next_multiple_of(PAGE_SIZE) - next < total {
            self.end_pool_page(kind);
        }
        let va = Va(self.pools.areas[kind as usize].next);
        if va.page_offset() == 0 {
            self.map_range(va, PAGE_SIZE);
            self.pools.areas[kind as usize].pages += 1;
        }
        let room = PAGE_SIZE - va.page_offset();
        let total = if room - total < least { room } else { total };
        self.write_pool_header(kind, va, *tag, self.pools.areas[kind as usize].previous, total, true);
        let area = &mut self.pools.areas[kind as usize];
        area.previous = if total == room { 0 } else { total };
        area.next += total;
        (va, total)
    }

    /// Fills what is left of the page with a free block.
    fn end_pool_page(&mut self, kind: PoolKind) {
        let Area { next, previous, .. } = self.pools.areas[kind as usize];
        let start = Va(next);
        let size = next.next_multiple_of(PAGE_SIZE) - next;
        if size != 0 {
            self.write_pool_header(kind, start, *b"Free", previous, size, false);
            let (tag, place) = (*b"Free", PoolPlace::Page);
            self.pools.blocks.push(PoolBlock { start, size, tag, kind, free: true, place });
            self.pools.areas[kind as usize].next += size;
        }
        self.pools.areas[kind as usize].previous = 0;
    }

    fn write_pool_header(
        &mut self,
        kind: PoolKind,
        va: Va,
        tag: [u8; 4],
        previous: u64,
        size: u64,
        used: bool,
    ) {
        let generation = self.options.generation;
        let unit = generation.at("_POOL_HEADER");
        // In use: XP counts types from one and marks with 4; later ones mark with 2.
        let base = [0, 1, 0x21][kind as usize];
        let kind_byte = match (used, generation.build < 6000) {
            (false, _) => 0,
            (true, true) => (base + 1) | 4,
            (true, false) => base | 2,
        };
        let index = u64::from(kind == PoolKind::Paged && generation.build < 19041);
        for (field, value) in [
            ("_POOL_HEADER.PreviousSize", previous / unit),
            ("_POOL_HEADER.PoolIndex", index),
            ("_POOL_HEADER.BlockSize", size / unit),
            ("_POOL_HEADER.PoolType", kind_byte),
            ("_POOL_HEADER.PoolTag", u64::from(u32::from_le_bytes(tag))),
        ] {
            self.set(va, field, value);
        }
    }

    /// Writes where no owner may, as a driver does that writes beyond the end of its block.
    pub fn overrun(&mut self, at: Va, bytes: &[u8]) {
        self.write(at, bytes);
    }

    /// Gives a block back. No block beside it may be free: neighbours would be joined.
    pub(super) fn free_pool(&mut self, body: Va) {
        let header = self.options.generation.at("_POOL_HEADER");
        let place = self.pools.blocks.iter().rposition(|b| match b.place {
            PoolPlace::Big => b.start == body,
            _ => b.start.0 + header == body.0,
        });
        let block = &mut self.pools.blocks[place.expect("a block of pool")];
        block.free = true;
        let block = *block;
        let count = self.pools.tags.get_mut(&block.tag).expect("its tag is counted");
        let count = &mut count[block.kind as usize];
        count.frees += 1;
        count.bytes -= block.size;
        match block.place {
            PoolPlace::Page => self.set(block.start, "_POOL_HEADER.PoolType", 0),
            PoolPlace::Big => {}
            PoolPlace::Chunk => self.free_chunk(block.kind, block.start, block.size),
            PoolPlace::Slot(subsegment, index) => self.free_slot(subsegment, index),
        }
    }

    /// Bytes of pages that nonpaged and paged pool take.
    pub(super) fn pool_bytes(&self) -> (u64, u64) {
        let pages = |kind: PoolKind| self.pools.areas[kind as usize].pages * PAGE_SIZE;
        (pages(PoolKind::NonPaged), pages(PoolKind::Paged))
    }

    /// Blocks of every kind and state that a story need not have by itself.
    pub(super) fn varied_pool(&mut self) {
        let wanted: [(PoolKind, &[u8; 4], u64, u64); 7] = [
            (PoolKind::Paged, b"CM31", 0xe00, 6),
            (PoolKind::Paged, b"NtfF", 0x1c0, 40),
            (PoolKind::Paged, b"ObNm", 0x60, 60),
            (PoolKind::NonPaged, b"Irp ", 0x118, 40),
            (PoolKind::NonPaged, b"Ntfr", 0x48, 50),
            (PoolKind::Session, b"Gdev", 0x2a0, 8),
            (PoolKind::Session, b"Usqu", 0x40, 20),
        ];
        for (kind, tag, size, count) in wanted {
            if kind == PoolKind::Session && !self.sessions_told() {
                continue;
            }
            let made: Vec<Va> = (0..count).map(|i| self.pool_of(kind, tag, size + 0x20 * (i % 3))).collect();
            // Every third is given back: none beside another.
            for body in made.into_iter().skip(1).step_by(3) {
                self.free_pool(body);
            }
        }
        for (kind, tag, size) in [
            (PoolKind::Paged, b"CMA1", 0x3000),
            (PoolKind::Paged, b"MmSt", 0x1_8000),
            (PoolKind::NonPaged, b"NDnd", 0x2000),
            (PoolKind::NonPaged, b"Cont", 0x9_0000),
        ] {
            self.pool_of(kind, tag, size);
            let second = self.pool_of(kind, tag, size + 0x1000);
            if tag == b"CMA1" || tag == b"NDnd" {
                self.free_pool(second);
            }
        }
        match self.options.story {
            Story::Leak => {
                // Most of it in big blocks, whose contents no dump has.
                for _ in 0..600 {
                    let start = self.pool_addresses(b"Leak", 0x8000);
                    for page in 0..8 {
                        let (va, frame) = (start.add(page * PAGE_SIZE), self.memory.reserve(1, 1));
                        self.system.set(&mut self.memory, va, Leaf::Valid(frame), Owner::Kernel);
                    }
                }
            }
            Story::Huge => {
                for number in 0..self.options.pool_bytes / 0x200 {
                    let tag = [b'H', b'u', b'g', b'0' + (number % 10) as u8];
                    let kind = if number % 3 == 0 { PoolKind::Paged } else { PoolKind::NonPaged };
                    self.pool_of(kind, &tag, 0x80 + number % 7 * 0x80);
                }
            }
            _ => {}
        }
    }

    /// Writes the tracker tables, the table of big allocations, and what describes each pool.
    pub(super) fn write_pool_tables(&mut self) {
        let generation = self.options.generation;
        let size = generation.at("_POOL_TRACKER_TABLE");
        let big_size = generation.at("_POOL_TRACKER_BIG_PAGES");
        // The tables are pool themselves: room first, contents last. The second tracker takes what found no place.
        let slots = (self.pools.tags.len() as u64 + 8).next_power_of_two();
        let tracker = self.pool_block(b"Pool", (slots * size).max(PAGE_SIZE));
        let more = self.pool_block(b"Pool", (4 * size).max(PAGE_SIZE));
        let of_sessions = if self.sessions_told() { PoolKind::Session } else { PoolKind::Paged };
        let session_tracker = self.pool_of(of_sessions, b"Pool", (16 * size).max(PAGE_SIZE));
        let big = self.pools.blocks.iter().filter(|b| b.place == PoolPlace::Big).count() as u64;
        let big_slots = (big + 4).next_power_of_two();
        let table = self.pool_block(b"Pool", (big_slots * big_size).max(PAGE_SIZE));
        if generation.build < 19041 {
            self.describe_pools();
            for kind in PoolKind::ALL {
                self.end_pool_page(kind);
            }
            self.list_free_blocks();
        } else {
            self.close_heaps();
        }
        self.close_sessions();
        let tags: Vec<_> = self.pools.tags.clone().into_iter().collect();
        let none = PoolCount::default();
        for (index, (tag, [nonpaged, paged, _])) in tags.iter().enumerate() {
            let (index, rest) = (index as u64, (tags.len() - index) as u64);
            let at = if rest <= 3 {
                more.add((3 - rest) * size)
            } else {
                tracker.add((index * 5 + 1) % slots * size)
            };
            self.track(at, *tag, nonpaged, paged);
        }
        let session: Vec<_> = tags.iter().filter(|t| t.1[PoolKind::Session as usize] != none).collect();
        if self.variable("ExpSessionPoolTrackTable").is_some() {
            for (index, (tag, counts)) in session.iter().enumerate() {
                self.track(session_tracker.add(index as u64 * size), *tag, &none, &counts[2]);
            }
            self.count("ExpSessionPoolTrackTable", session_tracker.0);
            self.count("ExpSessionPoolTrackTableSize", 16);
        }
        let big: Vec<_> = self.pools.blocks.iter().filter(|b| b.place == PoolPlace::Big).copied().collect();
        for (index, block) in big.iter().enumerate() {
            let at = table.add((index as u64 * 3 + 1) % big_slots * big_size);
            let kind = [if generation.build >= 9600 { 0x200 } else { 0 }, 1, 0x21][block.kind as usize];
            for (field, value) in [
                ("Va", block.start.0 | u64::from(block.free)),
                ("Key", u64::from(u32::from_le_bytes(block.tag))),
                ("PoolType", kind),
                ("NumberOfBytes", block.size),
                ("NumberOfPages", block.size / PAGE_SIZE),
            ] {
                self.set(at, &format!("_POOL_TRACKER_BIG_PAGES.{field}"), value);
            }
        }
        let used = big.iter().filter(|b| !b.free).count() as u64;
        for (name, value) in [
            ("PoolTrackTable", tracker.0),
            ("PoolTrackTableSize", slots),
            ("PoolTrackTableMask", slots - 1),
            ("PoolTrackTableExpansion", more.0),
            ("PoolTrackTableExpansionSize", 4),
            ("PoolBigPageTable", table.0),
            ("PoolBigPageTableSize", big_slots),
            ("ExpPoolBigEntriesInUse", used),
        ] {
            self.count(name, value);
        }
        self.tell_pool();
    }

    fn track(&mut self, at: Va, tag: [u8; 4], nonpaged: &PoolCount, paged: &PoolCount) {
        for (field, value) in [
            ("Key", u64::from(u32::from_le_bytes(tag))),
            ("NonPagedAllocs", nonpaged.allocations),
            ("NonPagedFrees", nonpaged.frees),
            ("NonPagedBytes", nonpaged.bytes),
            ("PagedAllocs", paged.allocations),
            ("PagedFrees", paged.frees),
            ("PagedBytes", paged.bytes),
        ] {
            self.set(at, &format!("_POOL_TRACKER_TABLE.{field}"), value);
        }
    }

    /// Fills the descriptors of nonpaged and paged pool.
    fn describe_pools(&mut self) {
        let generation = self.options.generation;
        let step = generation.machine.pointer_size() as u64;
        let nonpaged = self.nt("NonPagedPoolDescriptor");
        // The first serves allocations that name no pool, the second the others; they lie one after the other.
        let size = generation.at("_POOL_DESCRIPTOR");
        let paged = self.pool_block(b"Pool", 2 * size);
        let vector = self.nt("PoolVector");
        self.write_pointer(vector, nonpaged.0);
        self.write_pointer(vector.add(step), paged.0);
        for index in 0..2 {
            self.write_pointer(self.nt("ExpPagedPoolDescriptor").add(index * step), paged.0 + index * size);
        }
        self.count("ExpNumberOfPagedPools", 1);
        let heads =
            generation.table().field("_POOL_DESCRIPTOR.ListHeads").expect("descriptors have lists").kind;
        let heads = generation.table().width(heads) / (2 * step);
        for (descriptor, kind, index) in [
            (nonpaged, Some(PoolKind::NonPaged), 0),
            (paged, None, 0),
            (paged.add(size), Some(PoolKind::Paged), 1),
        ] {
            let area = kind.map(|k| &self.pools.areas[k as usize]);
            let (pages, big) = area.map_or((0, 0), |a| (a.pages, a.big_pages));
            let of = |b: &&PoolBlock| Some(b.kind) == kind && b.tag != *b"Free";
            let made = self.pools.blocks.iter().filter(of).count() as u64;
            let freed = self.pools.blocks.iter().filter(of).filter(|b| b.free).count() as u64;
            let bytes = self.pools.blocks.iter().filter(of).filter(|b| !b.free).map(|b| b.size).sum();
            for (field, value) in [
                ("PoolType", u64::from(index != 0 || kind.is_none())),
                ("PoolIndex", index),
                ("RunningAllocs", made),
                ("RunningDeAllocs", freed),
                ("TotalPages", pages - big),
                ("TotalBigPages", big),
                ("TotalBytes", bytes),
            ] {
                self.set(descriptor, &format!("_POOL_DESCRIPTOR.{field}"), value);
            }
            let lists = descriptor.add(generation.at("_POOL_DESCRIPTOR.ListHeads"));
            for list in 0..heads {
                self.start_list(lists.add(list * 2 * step));
            }
        }
    }

    /// Puts every free block into the list of its size.
    fn list_free_blocks(&mut self) {
        let generation = self.options.generation;
        let (header, step) = (generation.at("_POOL_HEADER"), generation.machine.pointer_size() as u64);
        let second = self.read_pointer(self.nt("ExpPagedPoolDescriptor").add(step));
        let descriptors = [Some(self.nt("NonPagedPoolDescriptor")), Some(second), None];
        let free: Vec<_> =
            self.pools.blocks.iter().filter(|b| b.free && b.place == PoolPlace::Page).copied().collect();
        for block in free {
            let Some(descriptor) = descriptors[block.kind as usize] else { continue };
            if block.size == PAGE_SIZE {
                continue;
            }
            let list = (block.size / header - 1) * 2 * step;
            let head = descriptor.add(generation.at("_POOL_DESCRIPTOR.ListHeads") + list);
            self.append(head, block.start.add(header));
        }
    }

    /// Puts what is true of pool into the facts: every tag, big and free blocks, some of the others.
    fn tell_pool(&mut self) {
        let tags = self.pools.tags.iter().map(|(tag, [nonpaged, paged, session])| {
            json!({
                "tag": String::from_utf8_lossy(tag), "allocations": nonpaged.allocations, "frees": nonpaged.frees,
                "bytes": nonpaged.bytes, "paged_allocations": paged.allocations, "paged_frees": paged.frees,
                "paged_bytes": paged.bytes, "session_allocations": session.allocations, "session_frees": session.frees,
                "session_bytes": session.bytes,
            })
        });
        let tags: serde_json::Value = tags.collect();
        let step = (self.pools.blocks.len() / 400).max(1);
        let blocks = self.pools.blocks.iter().enumerate();
        let told =
            blocks.filter(|(i, b)| i % step == 0 || (b.free && step < 50) || b.place == PoolPlace::Big);
        let told = told.take(4000).map(|(_, b)| {
            json!({
                "start": b.start.0, "size": b.size, "tag": String::from_utf8_lossy(&b.tag), "pool": b.kind.name(),
                "free": b.free, "place": match b.place {
                    PoolPlace::Page => "page",
                    PoolPlace::Big => "big",
                    PoolPlace::Chunk => "chunk",
                    PoolPlace::Slot(..) => "slot",
                },
            })
        });
        let told: serde_json::Value = told.collect();
        let (nonpaged, paged) = self.pool_bytes();
        self.facts.insert("pool".into(), tags);
        self.facts.insert("pool_blocks".into(), told);
        let counted = self.variable("ExpSessionPoolTrackTable").is_some();
        self.facts.insert("session_pool_is_counted".into(), counted.into());
        self.facts.insert("pool_bytes".into(), json!({ "nonpaged": nonpaged, "paged": paged }));
    }
}
