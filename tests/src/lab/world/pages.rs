//! The PFN database with its lists, and the tables that count pool.
//!
//! Facts: `_MMPFN`, `_MMPFNLIST` and the pool trackers in the layout tables; page locations from `_MMLISTS`.

use super::{Story, World};
use crate::lab::layout::Machine;
use kd_sdk::address::{PAGE_SIZE, Pfn, Va};
use serde_json::json;

/// Where a field is in an entry; of no width if the generation has none.
struct Slot {
    offset: usize,
    width: usize,
    bits: Option<(u32, u32)>,
}

impl Slot {
    fn put(&self, entry: &mut [u8], value: u64) {
        let place = &mut entry[self.offset..self.offset + self.width];
        let mut bytes = [0; 8];
        bytes[..self.width].copy_from_slice(place);
        let (first, count) = self.bits.unwrap_or((0, 64));
        let mask = (u64::MAX >> (64 - count)) << first;
        let merged = u64::from_le_bytes(bytes) & !mask | (value << first) & mask;
        place.copy_from_slice(&merged.to_le_bytes()[..self.width]);
    }
}

/// Names of the lists by page location, with what part of the free frames each has (of 8).
const LISTS: [(&str, u64); 4] = [("Zeroed", 2), ("Free", 2), ("Standby", 3), ("Modified", 1)];

impl World {
    fn pfn_base(&self) -> Va {
        self.read_pointer(self.nt("MmPfnDatabase"))
    }

    /// The frames that the database describes: all of RAM, or its start where RAM is huge.
    fn described(&self) -> u64 {
        let end = self.memory.ram().last().map_or(0, |r| r.base + r.count);
        if self.options.story == Story::Huge { 1 << 20 } else { end }
    }

    /// Maps the database. Its contents come last, when all frames are known.
    pub(super) fn map_pfn_database(&mut self) {
        let size = self.described() * self.options.generation.at("_MMPFN");
        let base = self.pfn_base();
        self.map_range(base, size);
    }

    pub(super) fn fill_pfn_database(&mut self) {
        let generation = self.options.generation;
        let (base, size) = (self.pfn_base(), generation.at("_MMPFN"));
        let entry = self.system.scheme.entry_size();
        let end = self.described();
        let ram: Vec<u64> =
            self.memory.ram().iter().flat_map(|r| r.base..(r.base + r.count).min(end)).collect();
        let (used, spare): (Vec<u64>, Vec<u64>) =
            ram.iter().partition(|p| self.memory.frame(Pfn(**p)).is_some());
        let mut database = vec![0; (end * size) as usize];
        let location = self.slot(&["_MMPFN.u3.e1.PageLocation"]);
        let share = self.slot(&["_MMPFN.u2.ShareCount"]);
        let references = self.slot(&["_MMPFN.u3.ReferenceCount", "_MMPFN.u3.e2.ReferenceCount"]);
        let pte = self.slot(&["_MMPFN.PteAddress"]);
        let mask = if generation.machine == Machine::X86 { 0xffff_ffff } else { 0xffff_ffff_ffff };
        for &pfn in &used {
            let at = &mut database[(pfn * size) as usize..];
            location.put(at, 6);
            share.put(at, 1);
            references.put(at, 1);
            if let Some(va) = self.mapped.get(&pfn) {
                pte.put(at, generation.pte_base + ((va.0 & mask) >> 12) * entry);
            }
        }
        let mut rest = &spare[..];
        let mut counts = serde_json::Map::new();
        counts.insert("Active".into(), used.len().into());
        let (next, previous) = (self.slot(&["_MMPFN.u1.Flink"]), self.slot(&["_MMPFN.u2.Blink"]));
        let none = if self.system.scheme.entry_size() == 4 { 0xffff_ffff } else { u64::MAX };
        for (index, (name, eighths)) in LISTS.into_iter().enumerate() {
            let mut take = spare.len() as u64 * eighths / 8;
            if self.options.story == Story::MemoryPressure {
                take = if name == "Modified" { rest.len() as u64 } else { take / 64 };
            }
            let (members, others) = rest.split_at((take as usize).min(rest.len()));
            rest = others;
            for (place, &pfn) in members.iter().enumerate() {
                let at = &mut database[(pfn * size) as usize..];
                location.put(at, index as u64);
                next.put(at, members.get(place + 1).copied().unwrap_or(none));
                previous.put(at, if place == 0 { none } else { members[place - 1] });
            }
            self.list_head(name, index as u64, members);
            counts.insert(name.into(), members.len().into());
        }
        counts.insert("Unlisted".into(), rest.len().into());
        self.facts.insert("pages".into(), counts.into());
        self.write(base, &database);
    }

    /// A field of the database, looked up once; the first of the paths that this generation has.
    fn slot(&self, paths: &[&str]) -> Slot {
        let generation = self.options.generation;
        let found = paths.iter().find_map(|p| generation.find(p).map(|offset| (offset, generation.place(p))));
        let (offset, (width, bits)) = found.unwrap_or((0, (0, None)));
        Slot { offset: offset as usize, width: width.min(8), bits }
    }

    /// Writes the head of a list where this generation keeps it.
    fn list_head(&mut self, name: &str, place: u64, members: &[u64]) {
        if self.options.generation.build >= 19041 {
            return; // in a partition, which the layouts reach by pointers not made here
        }
        let head = self.nt(&format!("Mm{name}PageListHead"));
        let none = u64::MAX;
        self.set(head, "_MMPFNLIST.Total", members.len() as u64);
        self.set(head, "_MMPFNLIST.ListName", place);
        self.set(head, "_MMPFNLIST.Flink", members.first().copied().unwrap_or(none));
        self.set(head, "_MMPFNLIST.Blink", members.last().copied().unwrap_or(none));
    }

    /// Writes the tracker table and the table of big allocations.
    pub(super) fn write_pool_tables(&mut self) {
        let generation = self.options.generation;
        let size = generation.at("_POOL_TRACKER_TABLE");
        let slots = (self.objects.tags.len() as u64 + 3).next_power_of_two();
        let tracker = self.pool_block(b"Pool", (slots * size).max(PAGE_SIZE));
        let big_size = generation.find("_POOL_TRACKER_BIG_PAGES").unwrap_or(0x18);
        let big_slots = (self.objects.big.len() as u64 + 2).next_power_of_two();
        let table = self.pool_block(b"Pool", (big_slots * big_size).max(PAGE_SIZE));
        let tags = self.objects.tags.clone();
        for (index, (tag, (count, bytes))) in tags.iter().enumerate() {
            let at = tracker.add(index as u64 * size);
            self.set(at, "_POOL_TRACKER_TABLE.Key", u64::from(u32::from_le_bytes(*tag)));
            self.set(at, "_POOL_TRACKER_TABLE.NonPagedAllocs", *count);
            self.set(at, "_POOL_TRACKER_TABLE.NonPagedBytes", *bytes);
        }
        for (index, (va, tag, bytes)) in self.objects.big.clone().into_iter().enumerate() {
            let at = table.add(index as u64 * big_size);
            self.set(at, "_POOL_TRACKER_BIG_PAGES.Va", va.0);
            self.set(at, "_POOL_TRACKER_BIG_PAGES.Key", u64::from(u32::from_le_bytes(tag)));
            self.set(at, "_POOL_TRACKER_BIG_PAGES.NumberOfBytes", bytes);
            self.set(at, "_POOL_TRACKER_BIG_PAGES.NumberOfPages", bytes / PAGE_SIZE);
        }
        for (name, value) in [
            ("PoolTrackTable", tracker.0),
            ("PoolTrackTableSize", slots),
            ("PoolBigPageTable", table.0),
            ("PoolBigPageTableSize", big_slots),
        ] {
            self.write_pointer(self.nt(name), value);
        }
        let listed = tags.iter().map(|(tag, (count, bytes))| {
            json!({ "tag": String::from_utf8_lossy(tag), "allocations": count, "bytes": bytes })
        });
        let listed = listed.collect();
        self.facts.insert("pool".into(), listed);
    }
}
