//! The PFN database with its lists, and the tables that count pool.
//!
//! Facts: `_MMPFN`, `_MMPFNLIST` and the pool trackers in the layout tables; page locations from `_MMLISTS`.

use super::{Story, World};
use crate::lab::layout::Machine;
use kd_sdk::address::{PAGE_SIZE, Pfn, Va};
use serde_json::json;

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
        let location = if generation.find("_MMPFN.u3.e1.PageLocation").is_some() {
            "_MMPFN.u3.e1.PageLocation"
        } else {
            "_MMPFN.u3.PageLocation"
        };
        let (shift, entry) = (12, self.system.scheme.entry_size());
        let end = self.described();
        let runs: Vec<(u64, u64)> = self.memory.ram().iter().map(|r| (r.base, r.base + r.count)).collect();
        let all: Vec<u64> = runs.iter().flat_map(|r| r.0..r.1.min(end)).collect();
        let mut spare = Vec::new();
        let mut active = 0u64;
        for pfn in all {
            let at = base.add(pfn * size);
            if self.memory.frame(Pfn(pfn)).is_none() {
                spare.push(pfn);
                continue;
            }
            active += 1;
            if self.options.story != Story::Huge {
                self.set(at, location, 6);
                self.set(at, "_MMPFN.u2.ShareCount", 1);
                self.set(at, "_MMPFN.u3.ReferenceCount", 1);
                self.set(at, "_MMPFN.u3.e2.ReferenceCount", 1);
                if let Some(va) = self.mapped.get(&pfn) {
                    let mask = if generation.machine == Machine::X86 { 0xffff_ffff } else { 0xffff_ffff_ffff };
                    let pte = generation.pte_base + ((va.0 & mask) >> shift) * entry;
                    self.set(at, "_MMPFN.PteAddress", pte);
                }
            }
        }
        let mut rest = &spare[..];
        let mut counts = serde_json::Map::new();
        counts.insert("Active".into(), active.into());
        for (index, (name, eighths)) in LISTS.into_iter().enumerate() {
            let mut take = spare.len() as u64 * eighths / 8;
            if self.options.story == Story::MemoryPressure {
                take = if name == "Modified" { rest.len() as u64 } else { take / 64 };
            }
            let (members, others) = rest.split_at((take as usize).min(rest.len()));
            rest = others;
            if self.options.story != Story::Huge {
                self.chain_pages(base, location, index as u64, members);
            }
            self.list_head(name, index as u64, members);
            counts.insert(name.into(), members.len().into());
        }
        counts.insert("Unlisted".into(), rest.len().into());
        self.facts.insert("pages".into(), counts.into());
    }

    /// Links frames into a list, by frame number both ways.
    fn chain_pages(&mut self, base: Va, location: &str, place: u64, members: &[u64]) {
        let size = self.options.generation.at("_MMPFN");
        let none = u64::MAX >> (64 - self.link_bits());
        for (index, &pfn) in members.iter().enumerate() {
            let at = base.add(pfn * size);
            let next = members.get(index + 1).copied().unwrap_or(none);
            let previous = if index == 0 { none } else { members[index - 1] };
            self.set(at, location, place);
            self.set(at, "_MMPFN.u1.Flink", next);
            self.set(at, "_MMPFN.u2.Blink", previous);
        }
    }

    fn link_bits(&self) -> u32 {
        let table = self.options.generation.table();
        let field = table.field("_MMPFN.u1.Flink");
        field.map_or(64, |f| f.bits.map_or(table.width(f.kind) as u32 * 8, |b| b.1))
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
