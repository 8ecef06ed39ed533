//! The memory manager of the laboratory's systems, read back through kd: frames and lists, counters, page files, sections,
//! pools and segment heaps must be what the builder says they are.

use kd::cli::{self, Environment, Request};
use kd::scope::Scope;
use kd::session::Session;
use kd::ui::{Ui, UiOptions};
use kd_sdk::address::{PAGE_SIZE, Va};
use kd_tests::lab::layout::{GENERATIONS, Generation, Machine};
use kd_tests::lab::world::{FrameState, Options, PoolKind, PoolPlace, Story, World};
use kd_tests::lab::writer::{self, Kind};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

/// Offset, width and bits of a field, or that there is none.
type Place = Option<(u64, usize, u32, u32)>;

/// A system as kd sees it: memory through its page tables, fields through its symbols.
struct Reader {
    scope: Scope,
    places: RefCell<HashMap<String, Place>>,
}

impl Reader {
    fn place(&self, path: &str) -> Place {
        if let Some(&known) = self.places.borrow().get(path) {
            return known;
        }
        let (structure, field) = path.split_once('.').unwrap();
        let open = self.scope.open().unwrap();
        let found = open.symbols.find_type(&open.target, &format!("nt!{structure}")).ok();
        let place = found.and_then(|(types, id)| types.field(id, field));
        let place = place.map(|f| (f.offset, (f.size as usize).min(8), f.bit_position, f.bit_length));
        self.places.borrow_mut().insert(path.into(), place);
        place
    }

    fn size(&self, structure: &str) -> u64 {
        let open = self.scope.open().unwrap();
        let (types, id) = open.symbols.find_type(&open.target, &format!("nt!{structure}")).unwrap();
        types.size(id)
    }

    fn bytes(&self, at: u64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        let outcome = self.scope.read(Va(at), &mut bytes);
        assert_eq!(outcome.done, size, "{at:#x} for {size:#x}");
        bytes
    }

    fn uint(&self, at: u64, size: usize) -> u64 {
        let mut wide = [0; 8];
        wide[..size].copy_from_slice(&self.bytes(at, size));
        u64::from_le_bytes(wide)
    }

    fn pointer(&self, at: u64) -> u64 {
        self.uint(at, self.scope.pointer_size() as usize)
    }

    /// A field in bytes that were read already.
    fn within(&self, bytes: &[u8], path: &str) -> Option<u64> {
        part(bytes, self.place(path))
    }

    fn get(&self, base: u64, path: &str) -> Option<u64> {
        let (offset, width, first, count) = self.place(path)?;
        let value = self.uint(base + offset, width);
        Some(if count == 0 { value } else { value >> first & (u64::MAX >> (64 - count)) })
    }

    fn has(&self, base: u64, path: &str) -> u64 {
        self.get(base, path).unwrap_or_else(|| panic!("no {path}"))
    }

    fn offset(&self, path: &str) -> u64 {
        self.place(path).unwrap_or_else(|| panic!("no {path}")).0
    }

    fn symbol(&self, name: &str) -> Option<u64> {
        let narrow = self.scope.pointer_size() == 4;
        self.scope.evaluate(&format!("nt!{name}")).ok().map(|v| if narrow { v & 0xffff_ffff } else { v })
    }

    fn text(&self, at: u64) -> String {
        let length = self.has(at, "_UNICODE_STRING.Length") as usize;
        let buffer = self.has(at, "_UNICODE_STRING.Buffer");
        let units: Vec<u16> =
            self.bytes(buffer, length).chunks(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
        String::from_utf16(&units).unwrap()
    }

    /// The members of a list.
    fn list(&self, head: u64) -> Vec<u64> {
        let mut found = Vec::new();
        let mut at = self.pointer(head);
        while at != head {
            found.push(at);
            assert!(found.len() < 100_000);
            at = self.pointer(at);
        }
        found
    }
}

/// A field in bytes.
fn part(bytes: &[u8], place: Place) -> Option<u64> {
    let (offset, width, first, count) = place?;
    let mut wide = [0; 8];
    wide[..width].copy_from_slice(&bytes[offset as usize..][..width]);
    let value = u64::from_le_bytes(wide);
    Some(if count == 0 { value } else { value >> first & (u64::MAX >> (64 - count)) })
}

fn with(generation: &Generation, story: Story, check: impl FnOnce(&World, &Reader, &str)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    let world = World::build(Options::of(generation.name, story));
    writer::write(&world, Kind::BitmapFull, &path).unwrap();
    let store = folder.path().join("symbols");
    world.write_symbols(&store).unwrap();
    let arguments = ["-y".into(), store.to_str().unwrap().into()];
    let Ok(Request::Run(options)) = cli::parse(arguments) else { panic!("the arguments are good") };
    let ui = Ui::with_streams(UiOptions::default(), false, Box::new(io::sink()), Box::new(io::sink()));
    let mut session = Session::new(Arc::new(ui), &options, &Environment::from(|_| None));
    let dump = session.open_dump(&path, None).unwrap();
    session.attach(dump);
    let reader = Reader { scope: session.scope(None).unwrap(), places: RefCell::default() };
    check(&world, &reader, &format!("{} {story:?}", generation.name));
}

#[test]
fn frames_are_what_the_database_says() {
    for g in GENERATIONS {
        for story in [Story::Idle, Story::MemoryPressure] {
            with(g, story, frames);
        }
    }
}

fn frames(world: &World, kd: &Reader, what: &str) {
    let size = kd.size("_MMPFN") as usize;
    let base = kd.pointer(kd.symbol("MmPfnDatabase").unwrap());
    let end = world.memory.ram().last().map_or(0, |r| r.base + r.count) as usize;
    let database = kd.bytes(base, end * size);
    let entry = |pfn: u64| &database[pfn as usize * size..][..size];
    let first = |paths: &[&str]| paths.iter().find_map(|p| kd.place(&format!("_MMPFN.{p}")));
    let location = first(&["u3.e1.PageLocation"]);
    let fields = [
        location,
        first(&["PteAddress"]),
        first(&["u4.PteFrame"]),
        first(&["u3.ReferenceCount", "u3.e2.ReferenceCount"]),
        first(&["u3.e1.Modified"]),
        first(&["u4.PrototypePte", "u3.e1.PrototypePte"]),
        first(&["OriginalPte"]),
    ];
    let (share, priority) = (first(&["u2.ShareCount"]), first(&["u3.e3.Priority", "u3.e1.Priority"]));
    let (next, before) = (first(&["u1.Flink"]), first(&["u2.Blink"]));
    let narrow = |v: u64| if kd.scope.pointer_size() == 4 { v & 0xffff_ffff } else { v };
    for f in &world.frames {
        let bytes = entry(f.pfn);
        let found = fields.map(|place| part(bytes, place).unwrap());
        let wanted = [
            f.state as u64,
            narrow(f.pte.0),
            f.containing,
            f.references,
            u64::from(f.modified),
            u64::from(f.prototype),
            f.original,
        ];
        assert_eq!(found, wanted, "{what}: {f:x?}");
        if f.state >= FrameState::Active {
            assert_eq!(part(bytes, share), Some(f.share), "{what}: {f:x?}");
        }
        assert!(part(bytes, priority).is_none_or(|p| p == f.priority), "{what}: {f:x?}");
        if f.prototype {
            let width = if kd.size("_MMPTE") == 4 { 4 } else { 8 };
            let value = kd.uint(f.pte.0, width);
            let hidden = if value & 1 == 0 { world.options.swizzle } else { 0 };
            assert_eq!(((value ^ hidden) & 0x000f_ffff_ffff_f000) >> 12, f.pfn, "{what}: {f:x?} {value:#x}");
        }
    }
    // Every frame of RAM is counted once.
    let ram = world.memory.ram().iter().flat_map(|r| r.base..r.base + r.count);
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    for pfn in ram {
        *counts.entry(part(entry(pfn), location).unwrap()).or_default() += 1;
    }
    let pages = &world.facts["pages"];
    let names = ["Zeroed", "Free", "Standby", "Modified", "ModifiedNoWrite", "Bad", "Active", "Transition"];
    for (place, name) in names.into_iter().enumerate() {
        let found = counts.get(&(place as u64)).copied().unwrap_or(0);
        assert_eq!(Some(found), pages[name].as_u64(), "{what}: {name}");
    }
    lists(world, kd, what, &|pfn| (part(entry(pfn), next).unwrap(), part(entry(pfn), before).unwrap()));
    let available = kd.symbol("MmAvailablePages").map(|v| kd.pointer(v));
    let available = available.unwrap_or_else(|| {
        kd.has(kd.symbol("MiSystemPartition").unwrap(), "_MI_PARTITION.Vp.AvailablePages")
    });
    assert_eq!(available, counts[&0] + counts.get(&1).unwrap_or(&0) + counts[&2], "{what}");
    if world.options.story == Story::MemoryPressure {
        assert!(available * 100 < end as u64 * 3 && counts[&3] > end as u64 / 4, "{what}: {counts:?}");
    }
}

/// Follows every list from its head.
fn lists(world: &World, kd: &Reader, what: &str, links: &dyn Fn(u64) -> (u64, u64)) {
    let none = |value: u64| value >= 0x00ff_ffff; // all ones, in fields of several widths
    let mut followed = 0;
    for list in world.facts["lists"].as_array().unwrap() {
        let (name, head) = (&list["list"], list["head"].as_u64().unwrap());
        let linked = list["linked"].as_u64().unwrap();
        assert_eq!(Some(kd.has(head, "_MMPFNLIST.Total")), list["total"].as_u64(), "{what}: {name}");
        let mut at = kd.has(head, "_MMPFNLIST.Flink");
        let (mut before, mut count) = (u64::MAX, 0);
        while !none(at) {
            let (next, back) = links(at);
            assert!(if none(before) { none(back) } else { back == before }, "{what}: {name} at {at:#x}");
            (before, at, count) = (at, next, count + 1);
            assert!(count <= linked, "{what}: {name} is longer than {linked}");
        }
        assert_eq!(count, linked, "{what}: {name}");
        followed += count;
    }
    assert!(followed > 1000, "{what}: {followed}");
}

#[test]
fn page_files_and_commitment_are_told() {
    for g in GENERATIONS {
        with(g, Story::MemoryPressure, |world, kd, what| {
            let partition = kd.symbol("MiSystemPartition");
            let count = |name: &str, path: &str| match partition {
                Some(base) => kd.has(base, &format!("_MI_PARTITION.{path}")),
                None => kd.pointer(kd.symbol(name).unwrap_or_else(|| panic!("{what}: {name}"))),
            };
            let counters = &world.facts["counters"];
            let told = [
                ("MmTotalCommittedPages", "Vp.TotalCommittedPages"),
                ("MmTotalCommitLimit", "Vp.TotalCommitLimit"),
                ("MmPeakCommitment", "Commit.PeakCommitment"),
                ("MmResidentAvailablePages", "Vp.ResidentAvailablePages"),
                ("MmSharedCommit", "Vp.SharedCommit"),
            ];
            for (name, path) in told {
                assert_eq!(Some(count(name, path)), counters[name].as_u64(), "{what}: {name}");
            }
            let (used, limit) = (count(told[0].0, told[0].1), count(told[1].0, told[1].1));
            assert!(used < limit && limit - used < 10, "{what}");
            let array = match partition {
                Some(base) => base + kd.offset("_MI_PARTITION.Vp.PagingFile"),
                None => kd.symbol("MmPagingFile").unwrap(),
            };
            let files = world.facts["page_files"].as_array().unwrap();
            assert_eq!(files.len(), 2);
            for (index, file) in files.iter().enumerate() {
                let at = kd.pointer(array + index as u64 * u64::from(kd.scope.pointer_size()));
                let of = |field: &str| kd.get(at, &format!("_MMPAGING_FILE.{field}"));
                assert_eq!(kd.text(at + kd.offset("_MMPAGING_FILE.PageFileName")), file["name"], "{what}");
                for (field, key) in [
                    ("Size", "size"),
                    ("MinimumSize", "minimum"),
                    ("MaximumSize", "maximum"),
                    ("FreeSpace", "free"),
                    ("PeakUsage", "peak"),
                ] {
                    assert_eq!(of(field), file[key].as_u64(), "{what}: {field}");
                }
                assert!(of("CurrentUsage").is_none_or(|v| Some(v) == file["used"].as_u64()), "{what}");
                assert!(of("FreeSpace").unwrap() * 40 < of("Size").unwrap(), "{what}");
            }
        });
    }
}

#[test]
fn sections_own_their_frames() {
    for g in GENERATIONS {
        with(g, Story::Idle, |world, kd, what| {
            for (place, section) in world.sections.iter().enumerate() {
                let area = section.control_area.0;
                let low = if g.machine == Machine::X86 { 7 } else { 15 };
                let file = kd.has(area, "_CONTROL_AREA.FilePointer") & !low;
                match section.file {
                    Some(name) => {
                        assert_eq!(kd.text(file + kd.offset("_FILE_OBJECT.FileName")), name, "{what}");
                        let pointers = kd.has(file, "_FILE_OBJECT.SectionObjectPointer");
                        let kind = if section.image { "ImageSectionObject" } else { "DataSectionObject" };
                        let back = kd.has(pointers, &format!("_SECTION_OBJECT_POINTERS.{kind}"));
                        assert_eq!(back, area, "{what}");
                    }
                    None => assert_eq!(file, 0, "{what}"),
                }
                assert_eq!(kd.has(area, "_CONTROL_AREA.u.Flags.Image"), u64::from(section.image), "{what}");
                let segment = kd.has(area, "_CONTROL_AREA.Segment");
                assert_eq!(kd.has(segment, "_SEGMENT.ControlArea"), area, "{what}");
                // Subsections follow the control area; their entries lead to as many frames as are told.
                let width = kd.size("_MMPTE") as usize;
                let mut at = area + kd.size("_CONTROL_AREA");
                let (mut valid, mut transition, mut entries) = (0, 0, 0);
                while at != 0 {
                    assert_eq!(kd.has(at, "_SUBSECTION.ControlArea"), area, "{what}");
                    let base = kd.has(at, "_SUBSECTION.SubsectionBase");
                    let count = kd.has(at, "_SUBSECTION.PtesInSubsection");
                    for index in 0..count {
                        let value = kd.uint(base + index * width as u64, width);
                        valid += u64::from(value & 1 != 0);
                        transition += u64::from(value & 0xc01 == 0x800);
                    }
                    entries += count;
                    at = kd.has(at, "_SUBSECTION.NextSubsection");
                }
                assert_eq!(entries, kd.has(segment, "_SEGMENT.TotalNumberOfPtes"), "{what}");
                assert_eq!(valid, section.frames[FrameState::Active as usize], "{what}");
                let rest: u64 = section.frames.iter().sum();
                assert_eq!(valid + transition, rest, "{what}");
                assert_eq!(kd.has(area, "_CONTROL_AREA.NumberOfPfnReferences"), rest, "{what}");
                let counted = world.frames.iter().filter(|f| f.section == Some(place)).count() as u64;
                assert_eq!(counted, rest, "{what}");
                // The first view shows the first page.
                let text = kd.bytes(section.views[0].0.0, 9);
                assert_eq!(text, b"page 0 of", "{what}");
            }
            // Files that are only mapped: every entry leads to the subsection, and from there to the file.
            let mapped = world.facts["control_areas"].as_array().unwrap();
            assert!(mapped.len() > 8, "{what}");
            for told in mapped {
                let of = |key: &str| told[key].as_u64().unwrap();
                let segment = kd.has(of("control_area"), "_CONTROL_AREA.Segment");
                assert_eq!(segment, of("segment"), "{what}");
                assert_eq!(kd.has(segment, "_SEGMENT.TotalNumberOfPtes"), of("pages"), "{what}");
                assert_eq!(
                    kd.has(of("subsection"), "_SUBSECTION.SubsectionBase"),
                    of("prototypes"),
                    "{what}"
                );
                let width = kd.size("_MMPTE");
                for at in (0..of("pages")).map(|page| of("prototypes") + page * width) {
                    assert_eq!(kd.uint(at, width as usize) & 0x401, 0x400, "{what}: {told}");
                    if let Some(to) = kd.get(at, "_MMPTE_SUBSECTION.SubsectionAddress") {
                        // The mark says that the bits against L1TF are its own.
                        let mask = world.options.swizzle >> 16;
                        let own = kd.get(at, "_MMPTE_SUBSECTION.SwizzleBit").is_some_and(|bit| bit != 0);
                        let wanted = of("subsection") & 0xffff_ffff_ffff;
                        assert_eq!(own, mask != 0 && wanted & mask != 0, "{what}: {told}");
                        assert_eq!(if own { to } else { to & !mask }, wanted, "{what}: {told}");
                    }
                }
            }
        });
    }
}

#[test]
fn pools_hold_their_blocks() {
    for g in GENERATIONS {
        for story in [Story::Idle, Story::Leak] {
            with(g, story, |world, kd, what| {
                trackers(world, kd, what);
                if g.build < 19041 {
                    pages_of_blocks(world, kd, what)
                } else {
                    heaps(world, kd, what)
                }
                if story == Story::Leak {
                    let leak = world.pools.tags[b"Leak"][PoolKind::NonPaged as usize];
                    let all: u64 = world.pools.tags.values().map(|t| t[0].bytes).sum();
                    assert!(leak.bytes * 10 > all * 7, "{what}: {} of {all}", leak.bytes);
                }
            });
        }
    }
}

/// The trackers and the table of big allocations, summed by tag.
fn trackers(world: &World, kd: &Reader, what: &str) {
    let value = |name: &str| kd.pointer(kd.symbol(name).unwrap());
    let size = kd.size("_POOL_TRACKER_TABLE");
    let mut found: BTreeMap<u64, [u64; 6]> = BTreeMap::new();
    for (table, count) in
        [("PoolTrackTable", "PoolTrackTableSize"), ("PoolTrackTableExpansion", "PoolTrackTableExpansionSize")]
    {
        let start = value(table);
        for at in (0..value(count)).map(|i| start + i * size) {
            let of = |field: &str| kd.has(at, &format!("_POOL_TRACKER_TABLE.{field}"));
            if of("Key") != 0 {
                let row = [
                    "NonPagedAllocs",
                    "NonPagedFrees",
                    "NonPagedBytes",
                    "PagedAllocs",
                    "PagedFrees",
                    "PagedBytes",
                ]
                .map(of);
                assert!(found.insert(of("Key"), row).is_none(), "{what}: {:#x} twice", of("Key"));
            }
        }
    }
    for (tag, [n, p, _]) in &world.pools.tags {
        let row = found.get(&u64::from(u32::from_le_bytes(*tag)));
        let wanted = [n.allocations, n.frees, n.bytes, p.allocations, p.frees, p.bytes];
        assert_eq!(row, Some(&wanted), "{what}: {}", String::from_utf8_lossy(tag));
    }
    assert_eq!(found.len(), world.pools.tags.len(), "{what}");
    let size = kd.size("_POOL_TRACKER_BIG_PAGES");
    let start = value("PoolBigPageTable");
    let mut big = Vec::new();
    for at in (0..value("PoolBigPageTableSize")).map(|i| start + i * size) {
        let of = |field: &str| kd.get(at, &format!("_POOL_TRACKER_BIG_PAGES.{field}"));
        let va = of("Va").unwrap();
        if va != 0 {
            let bytes = of("NumberOfBytes").or_else(|| Some(of("NumberOfPages")? * PAGE_SIZE)).unwrap();
            big.push((va & !1, of("Key").unwrap() as u32, bytes, va & 1 != 0));
        }
    }
    big.sort_unstable();
    let blocks = world.pools.blocks.iter().filter(|b| b.place == PoolPlace::Big);
    let mut wanted: Vec<_> = blocks.map(|b| (b.start.0, u32::from_le_bytes(b.tag), b.size, b.free)).collect();
    wanted.sort_unstable();
    assert_eq!(big, wanted, "{what}");
}

/// What is found in pools: header, bytes, tag, free. A free block of a heap has no tag any more.
type Found = Vec<(u64, u64, u32, bool)>;

fn block(kd: &Reader, at: u64) -> (u64, u32) {
    let size = kd.has(at, "_POOL_HEADER.BlockSize") * kd.size("_POOL_HEADER");
    (size, kd.has(at, "_POOL_HEADER.PoolTag") as u32)
}

/// Blocks one after the other, page by page.
fn pages_of_blocks(world: &World, kd: &Reader, what: &str) {
    let in_use = if world.options.generation.build < 6000 { 4 } else { 2 };
    let mut pages: Vec<u64> =
        world.pools.blocks.iter().filter(|b| b.place == PoolPlace::Page).map(|b| b.start.page().0).collect();
    pages.dedup();
    pages.sort_unstable();
    pages.dedup();
    let mut found: Found = Vec::new();
    for page in pages {
        let (mut at, mut previous) = (page, 0);
        while at < page + PAGE_SIZE {
            let (size, tag) = block(kd, at);
            let before = kd.has(at, "_POOL_HEADER.PreviousSize") * kd.size("_POOL_HEADER");
            assert_eq!(before, previous, "{what}: {at:#x}");
            assert!(size != 0 && at + size <= page + PAGE_SIZE, "{what}: {at:#x} {size:#x}");
            found.push((at, size, tag, kd.has(at, "_POOL_HEADER.PoolType") & in_use == 0));
            (previous, at) = (size, at + size);
        }
    }
    let blocks = world.pools.blocks.iter().filter(|b| b.place == PoolPlace::Page);
    let mut wanted: Found = blocks.map(|b| (b.start.0, b.size, u32::from_le_bytes(b.tag), b.free)).collect();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{what}");
    // Free ones stand in the descriptors' lists.
    let step = u64::from(kd.scope.pointer_size());
    let header = kd.size("_POOL_HEADER");
    let second = kd.pointer(kd.symbol("ExpPagedPoolDescriptor").unwrap() + step);
    let heads = kd.offset("_POOL_DESCRIPTOR.ListHeads");
    let mut listed = Vec::new();
    for descriptor in [kd.symbol("NonPagedPoolDescriptor").unwrap(), second] {
        for list in 0..PAGE_SIZE / header - 1 {
            let members = kd.list(descriptor + heads + list * 2 * step);
            listed.extend(members.into_iter().map(|m| (m - header, (list + 1) * header)));
        }
    }
    listed.sort_unstable();
    let free = world
        .pools
        .blocks
        .iter()
        .filter(|b| b.free && b.place == PoolPlace::Page && b.kind != PoolKind::Session);
    let mut wanted: Vec<_> = free.map(|b| (b.start.0, b.size)).collect();
    wanted.sort_unstable();
    assert_eq!(listed, wanted, "{what}");
}

/// Heaps, from the pool manager's state down to the blocks.
fn heaps(world: &World, kd: &Reader, what: &str) {
    let step = u64::from(kd.scope.pointer_size());
    let mask = if step == 4 { 0xffff_ffff } else { u64::MAX };
    let newest = world.options.generation.build >= 26100;
    let globals = kd.symbol("RtlpHpHeapGlobals").unwrap();
    let key = kd.has(globals, "_RTLP_HP_HEAP_GLOBALS.HeapKey");
    let lfh_key = kd.has(globals, "_RTLP_HP_HEAP_GLOBALS.LfhKey");
    let node = kd.symbol("ExPoolState").unwrap() + kd.offset("_EX_POOL_HEAP_MANAGER_STATE.PoolNode");
    let mut found: Found = Vec::new();
    let mut alone = Vec::new();
    let mut heaps: Vec<u64> =
        (1..3).map(|i| kd.pointer(node + kd.offset("_EX_HEAP_POOL_NODE.Heaps") + i * step)).collect();
    for session in world.facts["sessions"].as_array().unwrap() {
        // Since 11 24H2 the symbols tell no pools of sessions.
        let Some(state) = kd.get(session["space"].as_u64().unwrap(), "_MM_SESSION_SPACE.HeapState") else {
            continue;
        };
        heaps.push(kd.has(state, "_EX_HEAP_SESSION_STATE.PagedHeap"));
    }
    let sessions = kd.place("_MM_SESSION_SPACE.HeapState").is_some();
    assert_eq!(heaps.len(), if sessions { 4 } else { 2 }, "{what}");
    for heap in heaps {
        assert_eq!(kd.has(heap, "_SEGMENT_HEAP.Signature"), 0xddee_ddee, "{what}");
        for number in 0..2 {
            let context =
                heap + kd.offset("_SEGMENT_HEAP.SegContexts") + number * kd.size("_HEAP_SEG_CONTEXT");
            let shift = kd.has(context, "_HEAP_SEG_CONTEXT.UnitShift");
            let first = kd.has(context, "_HEAP_SEG_CONTEXT.FirstDescriptorIndex");
            let segments = kd.list(context + kd.offset("_HEAP_SEG_CONTEXT.SegmentListHead"));
            assert_eq!(segments.len() as u64, kd.has(context, "_HEAP_SEG_CONTEXT.SegmentCount"), "{what}");
            for segment in segments {
                let sign = kd.has(segment, "_HEAP_PAGE_SEGMENT.Signature");
                let constant = if newest { 0 } else { 0xa2e6_4ead_a2e6_4ead };
                assert_eq!((sign ^ segment ^ key ^ constant) & mask, context, "{what}");
                let mut unit = first;
                while unit < 256 {
                    let at = segment + unit * kd.size("_HEAP_PAGE_RANGE_DESCRIPTOR");
                    let units = kd.has(at, "_HEAP_PAGE_RANGE_DESCRIPTOR.UnitSize");
                    let units = if units == 0 { 256 - unit } else { units };
                    let start = segment + (unit << shift);
                    match kd.has(at, "_HEAP_PAGE_RANGE_DESCRIPTOR.RangeFlags") & 0x1f {
                        0x2 => {}
                        0x3 => alone.push(start),
                        0xb => slots(kd, start, lfh_key, newest, &mut found),
                        0xf => chunks(kd, start, key, &mut found, &mut alone, what),
                        other => panic!("{what}: range of {other:#x} at {start:#x}"),
                    }
                    unit += units;
                }
            }
        }
        // Large allocations: a tree.
        let mut waiting = vec![kd.has(heap, "_SEGMENT_HEAP.LargeAllocMetadata.Root")];
        while let Some(at) = waiting.pop() {
            if at != 0 {
                alone.push(kd.has(at, "_HEAP_LARGE_ALLOC_DATA.VirtualAddress") & !0xffff);
                waiting.extend(["Left", "Right"].map(|s| kd.has(at, &format!("_RTL_BALANCED_NODE.{s}"))));
            }
        }
    }
    let small = world.pools.blocks.iter().filter(|b| b.place != PoolPlace::Big && !b.free);
    let mut wanted: Found = small.map(|b| (b.start.0, b.size, u32::from_le_bytes(b.tag), false)).collect();
    wanted.sort_unstable();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), wanted.len(), "{what}");
    assert_eq!(found, wanted, "{what}");
    alone.sort_unstable();
    let big = world.pools.blocks.iter().filter(|b| b.place == PoolPlace::Big);
    let mut wanted: Vec<u64> = big.map(|b| b.start.0).collect();
    wanted.sort_unstable();
    assert_eq!(alone, wanted, "{what}");
}

/// Slots of one size whose bits say that they are taken; those that would cross a page are marked and not counted.
fn slots(kd: &Reader, at: u64, key: u64, newest: bool, found: &mut Found) {
    let hidden = kd.has(at, "_HEAP_LFH_SUBSEGMENT.BlockOffsets.EncodedData");
    let page = if newest { at >> 12 } else { (at & 0xffff_ffff) >> 12 };
    let plain = (hidden ^ key ^ page) & 0xffff_ffff;
    let (size, first) = (plain & 0xffff, plain >> 16);
    let withheld = kd.has(at, "_HEAP_LFH_SUBSEGMENT.WitheldBlockCount");
    let count = kd.has(at, "_HEAP_LFH_SUBSEGMENT.BlockCount") + withheld;
    let bitmap = kd.bytes(at + kd.offset("_HEAP_LFH_SUBSEGMENT.BlockBitmap"), count.div_ceil(4) as usize);
    let (mut free, mut crossing) = (0, 0);
    for index in 0..count {
        let block_at = at + first + index * size;
        let taken = bitmap[(index / 4) as usize] >> (index % 4 * 2) & 1 != 0;
        if block_at / PAGE_SIZE != (block_at + size - 1) / PAGE_SIZE {
            assert!(taken, "{block_at:#x}");
            crossing += 1;
        } else if taken {
            let (total, tag) = block(kd, block_at);
            found.push((block_at, total, tag, false));
        } else {
            free += 1;
        }
    }
    assert_eq!((free, crossing), (kd.has(at, "_HEAP_LFH_SUBSEGMENT.FreeCount"), withheld));
}

/// Chunks of a subsegment that are taken; their sizes add up. Large ones have no header, those that wait for reuse a link
/// in its place.
fn chunks(kd: &Reader, start: u64, key: u64, found: &mut Found, alone: &mut Vec<u64>, what: &str) {
    let header = kd.size("_HEAP_VS_CHUNK_HEADER");
    let units = kd.has(start, "_HEAP_VS_SUBSEGMENT.Size");
    let signature = kd.has(start, "_HEAP_VS_SUBSEGMENT.Signature");
    assert_eq!((units ^ signature) & 0x7fff, 0x2bed, "{what}");
    let mut at = start + kd.size("_HEAP_VS_SUBSEGMENT").next_multiple_of(header);
    let end = at + units * header;
    let mut previous = 0;
    while at < end {
        let (offset, width, ..) = kd.place("_HEAP_VS_CHUNK_HEADER.Sizes.HeaderBits").unwrap();
        let plain = (kd.uint(at + offset, width) ^ at ^ key).to_le_bytes();
        let of = |field: &str| kd.within(&plain, &format!("_HEAP_VS_CHUNK_HEADER_SIZE.{field}")).unwrap();
        let size = of("UnsafeSize") * header;
        assert_eq!(of("UnsafePrevSize") * header, previous, "{what}: {at:#x}");
        assert!(size != 0 && at + size <= end, "{what}: {at:#x} {size:#x}");
        let begins_page = (at + 2 * header).is_multiple_of(PAGE_SIZE);
        let inside = if begins_page { 2 * header } else { header };
        if of("Allocated") & 1 != 0 && size - inside > PAGE_SIZE {
            alone.push(at + inside);
        } else if of("Allocated") & 1 != 0 {
            let (total, tag) = block(kd, at + inside);
            let kind = kd.has(at + inside, "_POOL_HEADER.PoolType");
            let before = kd.has(at + inside, "_POOL_HEADER.PreviousSize");
            if kind & 2 != 0 && before == 0 && total <= size && tag >> 16 != 0xffff {
                found.push((at + inside, total, tag, false));
            }
        }
        (previous, at) = (size, at + size);
    }
}
