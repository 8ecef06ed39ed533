//! What the kernel's half of the address space is for, where this generation tells, and whose the frames are.
//!
//! Facts: `SystemVaType`, `SystemVaTypeCount` and `SystemVaRegions` in the layout tables and public symbols; the values
//! of `_MI_SYSTEM_VA_TYPE` and the order of `_MI_ASSIGNED_REGION_TYPES` from public symbols.

use super::pages::FrameState;
use super::pool::PoolKind;
use super::{SYSTEM_TIME, World};
use crate::lab::layout::Machine;
use kd_sdk::address::PAGE_SIZE;
use serde_json::json;
use std::collections::BTreeMap;

const NON_PAGED_POOL: u8 = 5;
const PAGED_POOL: u8 = 6;

/// Types that addresses have here, and what they are called.
const TYPES: [(u8, &str); 6] = [
    (1, "SessionSpace"),
    (4, "PfnDatabase"),
    (NON_PAGED_POOL, "NonPagedPool"),
    (PAGED_POOL, "PagedPool"),
    (8, "SystemCache"),
    (12, "DriverImages"),
];

/// Frames of somebody by what they are.
#[derive(Default)]
struct Count {
    valid: u64,
    standby: u64,
    dirty: u64,
    tables: u64,
}

impl World {
    /// First address, unit and number of units that types are told of.
    fn units(&self) -> (u64, u64, u64) {
        match (self.options.generation.machine, self.system.scheme.entry_size()) {
            (Machine::X86, 4) => (0x8000_0000, 1 << 22, 512),
            (Machine::X86, _) => (0x8000_0000, 1 << 21, 1024),
            _ => (0xffff_8000_0000_0000, 1 << 39, 256),
        }
    }

    /// What units of the kernel's addresses are for.
    fn unit_types(&self) -> Vec<u8> {
        let (start, unit, count) = self.units();
        let wide = self.options.generation.machine != Machine::X86;
        let pool = |kind: PoolKind| {
            let base = kind.base(self.options.generation.machine).0;
            (base, self.pools.areas[kind as usize].next.max(base + 1) - base)
        };
        let image = |index: usize| (self.images[index].base, u64::from(self.images[index].size));
        let database = (
            self.read_pointer(self.nt("MmPfnDatabase")).0,
            self.described() * self.options.generation.at("_MMPFN"),
        );
        let cache = (if wide { 0xffff_f980_0000_0000 } else { 0xd000_0000 }, 0x400_0000);
        // What is nearer to its end in the list wins: the pools take whole units.
        let stretches = [
            (12, image(2)),
            (4, database),
            (8, cache),
            (1, pool(PoolKind::Session)),
            (PAGED_POOL, pool(PoolKind::Paged)),
            (NON_PAGED_POOL, pool(PoolKind::NonPaged)),
        ];
        let mut types = vec![0; count as usize];
        for (kind, (base, size)) in stretches {
            for index in (base - start) / unit..=(base + size - 1 - start) / unit {
                types[index as usize] = kind;
            }
        }
        types
    }

    /// Writes what this generation tells of its addresses.
    pub(super) fn kernel_regions(&mut self) {
        let generation = self.options.generation;
        let types = self.unit_types();
        let state = self.image("nt").symbols.iter().any(|s| s.name == "MiState").then(|| self.nt("MiState"));
        let field = |name: &str| {
            let inside = generation.find(&format!("_MI_SYSTEM_INFORMATION.Vs.{name}"));
            state.zip(inside).map(|(state, offset)| state.add(offset))
        };
        if let Some(at) = field("SystemVaType").or_else(|| self.variable("MiSystemVaType")) {
            self.write(at, &types);
            let (first, unit, _) = self.units();
            for (kind, name) in
                TYPES.into_iter().filter(|(_, name)| ["SessionSpace", "SystemCache"].contains(name))
            {
                let Some(index) = types.iter().position(|&found| found == kind) else { continue };
                let start = first + index as u64 * unit;
                self.fact("va_types", json!({ "va": start + 0x12345, "start": start, "type": name }));
            }
            self.facts.insert("regions_are_told".into(), true.into());
        }
        if let Some(at) = field("SystemVaTypeCount").or_else(|| self.variable("MiSystemVaTypeCount")) {
            let step = generation.machine.pointer_size() as u64;
            let mut told = Vec::new();
            for (kind, name) in TYPES {
                let count = types.iter().filter(|&&found| found == kind).count();
                self.write_pointer(at.add(u64::from(kind) * step), count as u64);
                told.push(json!({ "type": name, "count": count }));
            }
            told.retain(|one| one["count"] != 0);
            self.facts.insert("kernel_va".into(), told.into());
        }
        if let Some(at) = field("SystemVaRegions") {
            let mut told = Vec::new();
            for (index, kind) in [(0, PoolKind::NonPaged), (1, PoolKind::Paged)] {
                let (start, unit, _) = self.units();
                let base = kind.base(generation.machine).0;
                let (base, size) = (start + (base - start) / unit * unit, 16 * unit);
                let at = at.add(index * generation.at("_MI_SYSTEM_VA_ASSIGNMENT"));
                let fields = [("BaseAddress", base), ("NumberOfBytes", size)];
                self.fill(at, "_MI_SYSTEM_VA_ASSIGNMENT", &fields);
                told.push(json!({ "index": index, "base": base, "size": size }));
            }
            self.facts.insert("assigned_regions".into(), told.into());
        }
    }

    /// The last writes to page files, where this generation logs them: fewer than the ring holds, the newest at its start.
    pub(super) fn page_file_writes(&mut self) {
        let generation = self.options.generation;
        let Some(inside) = generation.find("_MI_PARTITION.Vp.PageFileTraces") else { return };
        let partition = self.nt("MiSystemPartition");
        let entries = generation.table().width(
            generation.table().field("_MI_PARTITION.Vp.PageFileTraces").expect("the field was found").kind,
        ) / generation.at("_MI_PAGEFILE_TRACES");
        let mut told = Vec::new();
        for back in 0..5 {
            let index = (1 + entries - back) % entries;
            let at = partition.add(inside + index * generation.at("_MI_PAGEFILE_TRACES"));
            let fields = [
                ("Status", if back == 2 { 0xc000_009a } else { 0 }),
                ("Priority", 5),
                ("CurrentTime", SYSTEM_TIME - 10_000_000 * (back + 1)),
                ("AvailablePages", 0x500 + back),
                ("ModifiedPagesTotal", 0x90 + back),
                ("ModifiedPagefilePages", 0x70 + back),
                ("ModifiedNoWritePages", back),
            ];
            self.fill(at, "_MI_PAGEFILE_TRACES", &fields);
            let told_of = fields.iter().map(|&(name, value)| (name.into(), value.into()));
            told.push(told_of.collect::<serde_json::Map<_, _>>());
        }
        self.set(partition, "_MI_PARTITION.Vp.PageFileTraceIndex", entries + 1);
        self.facts.insert("page_file_writes".into(), told.into());
    }

    /// Puts into the facts whose frames are: each process by its page tables, each pool by its addresses.
    pub(super) fn tell_owners(&mut self) {
        let generation = self.options.generation;
        let (entry, wide) = (self.system.scheme.entry_size(), generation.machine != Machine::X86);
        let bits = if wide { 48 } else { 32 };
        let mapped = |va: u64| {
            let index = va.checked_sub(generation.pte_base)? / entry;
            let va = (index < 1 << (bits - 12)).then_some(index * PAGE_SIZE)?;
            Some(if wide && va >> 47 != 0 { va | 0xffff << 48 } else { va })
        };
        let above: BTreeMap<u64, u64> = self.frames.iter().map(|f| (f.pfn, f.containing)).collect();
        let root = |mut pfn: u64| {
            while let Some(&next) = above.get(&pfn).filter(|&&next| next != pfn) {
                pfn = next;
            }
            pfn
        };
        let (mut processes, mut pools): (BTreeMap<u64, Count>, [Count; 2]) = Default::default();
        let (start, unit, _) = self.units();
        let types = self.unit_types();
        let marks = ["_MMPFN.u4.AweAllocation", "_MMPFN.u4.PageIdentity"];
        let marks_windows = marks.iter().any(|mark| generation.find(mark).is_some());
        for frame in &self.frames {
            let va = mapped(frame.pte.0);
            let window = marks_windows && self.plan.windows.contains(&frame.pfn);
            if frame.prototype || window || va.is_none() {
                continue;
            }
            let va = va.unwrap_or_default();
            let kernel = va >= start && !frame.table;
            // The entry of a large page is in a page directory: its address is in the window itself.
            let count = match (kernel, frame.large) {
                (_, true) => continue,
                (false, _) => processes.entry(root(frame.pfn)).or_default(),
                (true, _) => match types[((va - start) / unit) as usize] {
                    NON_PAGED_POOL => &mut pools[0],
                    PAGED_POOL => &mut pools[1],
                    _ => continue,
                },
            };
            *match frame.state {
                _ if frame.table => &mut count.tables,
                FrameState::Standby => &mut count.standby,
                FrameState::Modified | FrameState::ModifiedNoWrite => &mut count.dirty,
                _ => &mut count.valid,
            } += 1;
        }
        let told = |count: &Count| json!({ "valid": count.valid, "standby": count.standby, "dirty": count.dirty, "tables": count.tables });
        let mut owners = Vec::new();
        for process in &self.processes {
            // The first of those that share page tables has them.
            let Some(count) = processes.remove(&process.directory_table_base.pfn().0) else { continue };
            let mut one = told(&count);
            one["process"] = process.eprocess.0.into();
            owners.push(one);
        }
        assert!(processes.is_empty(), "page tables of nobody: {:x?}", processes.keys());
        self.facts.insert("process_frames".into(), owners.into());
        self.facts
            .insert("pool_frames".into(), json!({ "nonpaged": told(&pools[0]), "paged": told(&pools[1]) }));
    }
}
