//! The PFN database and the lists of frames.
//!
//! What a frame is follows from a census of the page tables, and from a plan of which frames that no table maps as valid
//! stand on which list. Facts: `_MMPFN`, `_MMPFNLIST` and what is inside them in the layout tables; page locations from
//! `_MMLISTS`; which list heads link frames and which only count them, from public symbols of each generation.

use super::{Story, World};
use crate::lab::memory::Owner;
use crate::lab::paging::{AddressSpace, Leaf, Mapping};
use kd_sdk::address::{PAGE_SIZE, Pfn, Va};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Where a frame is, in the order of `_MMLISTS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FrameState {
    /// Nobody's, zeros.
    Zeroed,
    /// Nobody's.
    Free,
    /// In nobody's working set, the contents are also on disk.
    Standby,
    /// In nobody's working set, to be written.
    Modified,
    /// As `Modified`, but its file system does not let it be written yet.
    ModifiedNoWrite,
    /// The hardware reported errors.
    Bad,
    /// Mapped.
    Active,
    /// Not mapped, but held by a transfer.
    Transition,
}

impl FrameState {
    /// As the facts name it.
    pub fn name(self) -> &'static str {
        ["Zeroed", "Free", "Standby", "Modified", "ModifiedNoWrite", "Bad", "Active", "Transition"]
            [self as usize]
    }
}

/// What is true of a frame that is neither free nor zeroed.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Its number.
    pub pfn: u64,
    /// Where it is.
    pub state: FrameState,
    /// The entry that describes it: in the page tables, or the prototype.
    pub pte: Va,
    /// The frame that this entry lies in.
    pub containing: u64,
    /// How many entries map it; of a page table, also how many of its entries are in use.
    pub share: u64,
    /// Its reference count.
    pub references: u64,
    /// Its priority, up to seven.
    pub priority: u64,
    /// What the entry will be when the frame is taken.
    pub original: u64,
    /// Written to since it was read.
    pub modified: bool,
    /// A page table.
    pub table: bool,
    /// Part of a large page.
    pub large: bool,
    /// Described by a prototype entry.
    pub prototype: bool,
    /// The section it belongs to, by its place in [`World::sections`].
    pub section: Option<usize>,
}

/// What the page tables do not tell of a frame.
#[derive(Default)]
pub(super) struct Plan {
    /// On which list, with which priority.
    pub on: BTreeMap<u64, (FrameState, u64)>,
    /// Frames behind prototype entries: the entry, what it will be, the section.
    pub prototypes: BTreeMap<u64, (Va, u64, Option<usize>)>,
    /// Private frames with a copy in a page file: what their entries will be.
    pub copies: BTreeMap<u64, u64>,
    /// Frames that something locked besides their working set.
    pub locked: BTreeSet<u64>,
    /// Frames that a program manages by itself.
    pub windows: BTreeSet<u64>,
}

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

/// How many colours free and zeroed frames have.
const COLORS: u64 = 64;

impl World {
    fn pfn_base(&self) -> Va {
        self.read_pointer(self.nt("MmPfnDatabase"))
    }

    /// The frames that the database describes: all of RAM, or its start where RAM is huge.
    pub(super) fn described(&self) -> u64 {
        let end = self.memory.ram().last().map_or(0, |r| r.base + r.count);
        end.min(self.options.described)
    }

    /// Maps the database. Its contents come last, when all frames are known.
    pub(super) fn map_pfn_database(&mut self) {
        let size = self.described() * self.options.generation.at("_MMPFN");
        let base = self.pfn_base();
        self.map_range(base, size);
    }

    /// How many frames of the database are still free.
    pub(super) fn frames_left(&self) -> u64 {
        let end = self.described();
        self.memory
            .ram()
            .iter()
            .map(|r| (r.base + r.count).min(end).saturating_sub(self.memory.next().max(r.base)))
            .sum()
    }

    /// A program takes all frames but a few.
    fn take_the_rest(&mut self) {
        let wide = self.options.generation.machine.pointer_size() == 8;
        let mut at = Va(if wide { 0x0200_0000_0000 } else { 0x2000_0000 });
        while self.frames_left() > 45 {
            let frame = self.memory.reserve(1, 1);
            self.user.set(&mut self.memory, at, Leaf::Valid(frame), Owner::User);
            at = at.add(PAGE_SIZE);
        }
    }

    /// Writes the database, the list heads and the counters that follow from them.
    pub(super) fn fill_pfn_database(&mut self) {
        if self.options.story == Story::MemoryPressure {
            self.take_the_rest();
        }
        self.count_frames();
        let end = self.described();
        let taken: BTreeSet<u64> = self.frames.iter().map(|f| f.pfn).collect();
        let ram = self.memory.ram().to_vec();
        let spare: Vec<u64> = ram
            .iter()
            .flat_map(|r| r.base..(r.base + r.count).min(end))
            .filter(|p| !taken.contains(p))
            .collect();
        // Zeroed and free ones by turns of a thousand, with two bad ones at the end.
        let (good, bad) = spare.split_at(spare.len().saturating_sub(2));
        let (zeroed, free): (Vec<u64>, Vec<u64>) = good.iter().partition(|&&p| p / 1024 % 2 == 0);
        let mut lists: BTreeMap<(FrameState, u64), Vec<u64>> = BTreeMap::new();
        lists.insert((FrameState::Zeroed, 0), zeroed);
        lists.insert((FrameState::Free, 0), free);
        lists.insert((FrameState::Bad, 0), bad.to_vec());
        let by_priority = self.variable("MmStandbyPageListByPriority").is_some();
        for frame in self.frames.iter().filter(|f| f.state < FrameState::Active) {
            // Modified frames: those for page files (0) apart from those for files (1).
            let part = match frame.state {
                FrameState::Standby if by_priority => frame.priority,
                FrameState::Modified => {
                    u64::from(frame.section.is_some_and(|s| self.sections[s].file.is_some()))
                }
                _ => 0,
            };
            lists.entry((frame.state, part)).or_default().push(frame.pfn);
        }
        let database = self.database(&lists);
        self.write(self.pfn_base(), &database);
        self.write_lists(&lists);
        let counted = |state: FrameState| {
            lists.iter().filter(|l| l.0.0 == state).map(|l| l.1.len() as u64).sum::<u64>()
        };
        let mut counts = serde_json::Map::new();
        for state in [FrameState::Active, FrameState::Transition] {
            let number = self.frames.iter().filter(|f| f.state == state).count();
            counts.insert(state.name().into(), number.into());
        }
        use FrameState::{Bad, Free, Modified, ModifiedNoWrite, Standby, Zeroed};
        for state in [Zeroed, Free, Standby, Modified, ModifiedNoWrite, Bad] {
            counts.insert(state.name().into(), counted(state).into());
        }
        let standby: Vec<_> = (0..8).map(|p| lists.get(&(Standby, p)).map_or(0, Vec::len)).collect();
        counts.insert("standby_by_priority".into(), json!(standby));
        self.facts.insert("pages".into(), counts.into());
        let tables = self.frames.iter().filter(|f| f.table).count() as u64;
        let for_page_files = lists.get(&(Modified, 0)).map_or(0, Vec::len) as u64;
        self.write_counters(counted(Zeroed) + counted(Free) + counted(Standby), for_page_files, tables);
        self.tell_frames();
    }

    /// Finds every frame in use and what is true of it.
    fn count_frames(&mut self) {
        let generation = self.options.generation;
        let end = self.described();
        let pte_base = Va(generation.pte_base);
        let mut seen: BTreeMap<u64, (Mapping, u64)> = BTreeMap::new();
        let mut tables = BTreeSet::new();
        let spaces: Vec<AddressSpace> =
            [self.system, self.user].into_iter().chain(self.spaces.iter().copied()).collect();
        for space in spaces {
            space.census(&self.memory, pte_base, &mut tables, &mut |mapping| {
                seen.entry(mapping.pfn.0).or_insert((mapping, 0)).1 += mapping.share;
            });
        }
        let untold = self.memory.captured(false).map(|(pfn, _)| pfn.0).filter(|p| !seen.contains_key(p));
        let others: Vec<u64> =
            untold.chain(self.plan.prototypes.keys().copied().filter(|p| !seen.contains_key(p))).collect();
        let nothing = |pfn| {
            (
                Mapping {
                    pfn: Pfn(pfn),
                    pte: Va(0),
                    containing: Pfn(0),
                    share: 0,
                    table: false,
                    large: false,
                    transition: true,
                },
                0,
            )
        };
        let all = seen.into_iter().chain(others.into_iter().map(|pfn| (pfn, nothing(pfn))));
        let demand_zero = self.system.leaf(Leaf::DemandZero, Owner::Kernel);
        let mut frames: BTreeMap<u64, Frame> = BTreeMap::new();
        for (pfn, (mapping, share)) in all.filter(|f| f.0 < end) {
            let mut frame = Frame {
                pfn,
                state: FrameState::Active,
                pte: mapping.pte,
                containing: mapping.containing.0,
                share,
                references: 1,
                priority: 5,
                original: demand_zero,
                modified: !mapping.table,
                table: mapping.table,
                large: mapping.large,
                prototype: false,
                section: None,
            };
            if let Some(&(pte, original, section)) = self.plan.prototypes.get(&pfn) {
                (frame.pte, frame.original, frame.section) = (pte, original, section);
                (frame.prototype, frame.modified) = (true, false);
                let holder = self.system.translate(&self.memory, pte).expect("prototypes are in pool").pfn();
                frame.containing = holder.0;
            }
            if mapping.transition {
                let (state, priority) = self.plan.on.get(&pfn).copied().unwrap_or((FrameState::Standby, 5));
                (frame.state, frame.priority, frame.share) = (state, priority, 0);
                frame.references = u64::from(state == FrameState::Transition);
                frame.modified = matches!(state, FrameState::Modified | FrameState::ModifiedNoWrite);
            }
            if frame.large && generation.find("_MMPFN.u4.ResidentPage").is_some() {
                // Only the first frame of a large page tells what maps it: the entry that its first 4 KB would have.
                let count = if self.system.scheme.entry_size() == 4 { 1024 } else { 512 };
                let first = pfn & !(count - 1) == pfn;
                let leaf = self.leaf_entry(frame.pte);
                (frame.pte, frame.containing) = if first { (leaf, frame.containing) } else { (Va(0), 0) };
            }
            if let Some(&copy) = self.plan.copies.get(&pfn) {
                (frame.original, frame.modified) = (copy, false);
            }
            frame.references += u64::from(self.plan.locked.contains(&pfn));
            frames.insert(pfn, frame);
        }
        self.frames = frames.into_values().collect();
    }

    /// The entry that the first page of a large page would have, which the entry at `directory` maps.
    fn leaf_entry(&self, directory: Va) -> Va {
        let window = Va(self.options.generation.pte_base);
        // The window shows the table's entry as a page; that page's place in the window is the table's entry's.
        let size = self.system.scheme.entry_size();
        let index = (directory.0 - window.0) / size;
        let page = index << 12;
        let wide = size == 8 && self.options.generation.machine != crate::lab::layout::Machine::X86;
        Va(if wide && page >> 47 != 0 { page | 0xffff << 48 } else { page })
    }

    /// The contents of the database.
    fn database(&self, lists: &BTreeMap<(FrameState, u64), Vec<u64>>) -> Vec<u8> {
        let generation = self.options.generation;
        let size = generation.at("_MMPFN");
        let mut database = vec![0; (self.described() * size) as usize];
        let slot = |paths: &[&str]| self.slot(paths);
        let location = slot(&["_MMPFN.u3.e1.PageLocation"]);
        let cached = slot(&["_MMPFN.u3.e1.CacheAttribute"]);
        let modified = slot(&["_MMPFN.u3.e1.Modified"]);
        let priority = slot(&["_MMPFN.u3.e3.Priority", "_MMPFN.u3.e1.Priority"]);
        let prototype = slot(&["_MMPFN.u4.PrototypePte", "_MMPFN.u3.e1.PrototypePte"]);
        let share = slot(&["_MMPFN.u2.ShareCount"]);
        let references = slot(&["_MMPFN.u3.ReferenceCount", "_MMPFN.u3.e2.ReferenceCount"]);
        let pte = slot(&["_MMPFN.PteAddress"]);
        let original = slot(&["_MMPFN.OriginalPte"]);
        let containing = slot(&["_MMPFN.u4.PteFrame"]);
        let exists = slot(&["_MMPFN.u4.PfnExists"]);
        let resident = slot(&["_MMPFN.u4.ResidentPage"]);
        let window = slot(&["_MMPFN.u4.AweAllocation"]);
        let identity = slot(&["_MMPFN.u4.PageIdentity"]);
        let (next, before) = (slot(&["_MMPFN.u1.Flink"]), slot(&["_MMPFN.u2.Blink"]));
        for frame in &self.frames {
            let at = &mut database[(frame.pfn * size) as usize..];
            location.put(at, frame.state as u64);
            cached.put(at, 1);
            exists.put(at, 1);
            modified.put(at, u64::from(frame.modified));
            priority.put(at, frame.priority);
            prototype.put(at, u64::from(frame.prototype));
            references.put(at, frame.references);
            pte.put(at, frame.pte.0);
            original.put(at, frame.original);
            containing.put(at, frame.containing);
            if frame.state >= FrameState::Active {
                share.put(at, frame.share);
                resident.put(at, u64::from(frame.large));
            }
            if self.plan.windows.contains(&frame.pfn) {
                window.put(at, 1);
                identity.put(at, 1);
            }
        }
        for (&(state, _), members) in lists {
            let colored = self.colors() && matches!(state, FrameState::Zeroed | FrameState::Free);
            let step = if colored { COLORS } else { 1 };
            let mut chains: Vec<Vec<u64>> = vec![Vec::new(); step as usize];
            for &pfn in members {
                chains[(pfn % step) as usize].push(pfn);
            }
            for chain in chains {
                for (place, &pfn) in chain.iter().enumerate() {
                    let at = &mut database[(pfn * size) as usize..];
                    location.put(at, state as u64);
                    cached.put(at, 1);
                    exists.put(at, 1);
                    next.put(at, chain.get(place + 1).copied().unwrap_or(u64::MAX));
                    before.put(at, if place == 0 { u64::MAX } else { chain[place - 1] });
                }
            }
        }
        database
    }

    /// Whether free and zeroed frames are linked by colour; XP keeps colours beside its lists.
    fn colors(&self) -> bool {
        self.options.generation.build >= 6000 && self.variable("MmFreePagesByColor").is_some()
    }

    /// A field of the database, looked up once; the first of the paths that this generation has.
    fn slot(&self, paths: &[&str]) -> Slot {
        let generation = self.options.generation;
        let found = paths.iter().find_map(|p| generation.find(p).map(|offset| (offset, generation.place(p))));
        let (offset, (width, bits)) = found.unwrap_or((0, (0, None)));
        Slot { offset: offset as usize, width: width.min(8), bits }
    }

    /// Writes the heads of all lists where this generation keeps them.
    fn write_lists(&mut self, lists: &BTreeMap<(FrameState, u64), Vec<u64>>) {
        use FrameState::{Bad, Free, Modified, ModifiedNoWrite, Standby, Zeroed};
        let generation = self.options.generation;
        let size = generation.at("_MMPFNLIST");
        let none: Vec<u64> = Vec::new();
        let of = |state, part| lists.get(&(state, part)).unwrap_or(&none).as_slice();
        let standby: Vec<u64> = (0..8).flat_map(|p| of(Standby, p)).copied().collect();
        let modified: Vec<u64> = (0..2).flat_map(|p| of(Modified, p)).copied().collect();
        let mut told = Vec::new();
        let mut write =
            |world: &mut World, name: &str, index: u64, state: FrameState, total: usize, linked: &[u64]| {
                let Some(head) = world.variable(name).map(|v| v.add(index * size)) else { return false };
                world.list_head(head, state, total as u64, linked);
                told.push(json!({
                    "list": name, "index": index, "head": head.0, "total": total, "linked": linked.len(),
                    "first": linked.first(), "last": linked.last(),
                }));
                true
            };
        let colors = self.colors();
        for (name, state) in [("MmZeroedPageListHead", Zeroed), ("MmFreePageListHead", Free)] {
            let members = of(state, 0);
            write(self, name, 0, state, members.len(), if colors { &[] } else { members });
        }
        let mut by_priority = true;
        for priority in 0..8 {
            let members = of(Standby, priority);
            by_priority =
                write(self, "MmStandbyPageListByPriority", priority, Standby, members.len(), members);
        }
        write(
            self,
            "MmStandbyPageListHead",
            0,
            Standby,
            standby.len(),
            if by_priority { &[] } else { &standby },
        );
        // Modified frames for page files have a list of their own, those for files another.
        let own = ["MmModifiedPageListByColor", "MiModifiedPageListNoReservation"]
            .into_iter()
            .any(|name| write(self, name, 0, Modified, of(Modified, 0).len(), of(Modified, 0)));
        let mapped = write(self, "MappedPageListHead", 0, Modified, of(Modified, 1).len(), of(Modified, 1));
        let linked = match (own, mapped) {
            (true, true) => &[],
            (true, false) => of(Modified, 1),
            _ => &modified[..],
        };
        write(self, "MmModifiedPageListHead", 0, Modified, modified.len(), linked);
        write(
            self,
            "MmModifiedNoWritePageListHead",
            0,
            ModifiedNoWrite,
            of(ModifiedNoWrite, 0).len(),
            of(ModifiedNoWrite, 0),
        );
        write(self, "MmBadPageListHead", 0, Bad, of(Bad, 0).len(), of(Bad, 0));
        self.facts.insert("lists".into(), told.into());
        if colors {
            self.color_lists(&[of(Zeroed, 0), of(Free, 0)]);
        }
        if generation.build < 9600 {
            return;
        }
        // Lists without members are empty, not zero: frame 0 is a frame.
        for name in ["ModifiedPageListByReservation", "MappedPageListHead"] {
            let Some(field) = generation.table().field(&format!("_MI_PARTITION.PageLists.{name}")) else {
                continue;
            };
            let Some(head) = self.variable("MiSystemPartition").map(|p| p.add(field.offset)) else {
                continue;
            };
            for index in u64::from(name == "MappedPageListHead")..generation.table().width(field.kind) / size
            {
                self.list_head(head.add(index * size), Modified, 0, &[]);
            }
        }
        if let Some(head) = self.variable("MiModifiedPageListByReservation") {
            (0..16).for_each(|index| self.list_head(head.add(index * size), Modified, 0, &[]));
        }
    }

    /// Heads by colour, zeroed and free.
    fn color_lists(&mut self, lists: &[&[u64]; 2]) {
        let size = self.options.generation.at("_MMPFNLIST");
        let step = self.options.generation.machine.pointer_size() as u64;
        let heads = self.nt("MmFreePagesByColor");
        for (index, members) in lists.iter().enumerate() {
            let table = self.read_pointer(heads.add(index as u64 * step));
            for color in 0..COLORS {
                let chain: Vec<u64> = members.iter().copied().filter(|p| p % COLORS == color).collect();
                let state = [FrameState::Zeroed, FrameState::Free][index];
                self.list_head(table.add(color * size), state, chain.len() as u64, &chain);
            }
        }
    }

    /// Makes room for the heads by colour; what they hold is known last.
    pub(super) fn map_color_lists(&mut self) {
        self.count("MmSecondaryColors", COLORS);
        if !self.colors() {
            return;
        }
        let step = self.options.generation.machine.pointer_size() as u64;
        let size = COLORS * self.options.generation.at("_MMPFNLIST");
        for index in 0..2 {
            let table = self.pool_block(b"MmCl", size);
            let head = self.nt("MmFreePagesByColor").add(index * step);
            self.write_pointer(head, table.0);
        }
    }

    fn list_head(&mut self, head: Va, state: FrameState, total: u64, members: &[u64]) {
        self.set(head, "_MMPFNLIST.Total", total);
        self.set(head, "_MMPFNLIST.ListName", state as u64);
        self.set(head, "_MMPFNLIST.Flink", members.first().copied().unwrap_or(u64::MAX));
        self.set(head, "_MMPFNLIST.Blink", members.last().copied().unwrap_or(u64::MAX));
    }

    /// Puts some frames of every sort into the facts.
    fn tell_frames(&mut self) {
        let mut met: BTreeMap<_, usize> = BTreeMap::new();
        let mut told = Vec::new();
        for f in &self.frames {
            let sort = (f.state, f.table, f.large, f.prototype, f.modified, f.section);
            let number = met.entry(sort).or_default();
            *number += 1;
            if *number <= 4 {
                told.push(json!({
                    "pfn": f.pfn, "state": f.state.name(), "pte": f.pte.0, "containing": f.containing, "share": f.share,
                    "references": f.references, "priority": f.priority, "original": f.original, "modified": f.modified,
                    "table": f.table, "large": f.large, "prototype": f.prototype, "section": f.section,
                }));
            }
        }
        self.facts.insert("frames".into(), told.into());
    }
}
