//! The layer on files built here byte by byte, one per kind and width, and on damaged ones.

use std::io::Write;
use std::path::Path;

use kd_sdk::address::{Pa, Pfn, Va};
use proptest::prelude::*;

use super::*;

/// A file built field by field.
pub(crate) struct Builder {
    pub(crate) bytes: Vec<u8>,
}

impl Builder {
    /// A header full of filler with the fields every dump has.
    pub(crate) fn new(wide: bool, kind: u32) -> Builder {
        let size = if wide { 0x2000 } else { 0x1000 };
        let mut built = Builder { bytes: b"PAGE".repeat(size / 4) };
        built.put(4, if wide { b"DU64" } else { b"DUMP" });
        built.u32(8, 0xf).u32(0xc, 19041);
        if wide {
            built.u64(0x10, 0x1ad002).u32(0x30, 0x8664).u32(0x34, 4).u32(0x38, 0x50).u32(0xf98, kind);
            for index in 0..4 {
                built.u64(0x40 + index * 8, 0xffff_8000_0000_0000 + index as u64);
            }
        } else {
            built.u32(0x10, 0x39000).u32(0x20, 0x14c).u32(0x24, 1).u32(0x28, 0x50).u32(0xf88, kind);
            for index in 0..4 {
                built.u32(0x2c + index * 4, 0x8000_0000 + index as u32);
            }
        }
        built
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Builder {
        if self.bytes.len() < at + bytes.len() {
            self.bytes.resize(at + bytes.len(), 0);
        }
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn u32(&mut self, at: usize, value: u32) -> &mut Builder {
        self.put(at, &value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, at: usize, value: u64) -> &mut Builder {
        self.put(at, &value.to_le_bytes())
    }

    /// Appends `count` pages, each filled with its ordinal.
    pub(crate) fn pages(&mut self, count: u8) -> &mut Builder {
        for page in 0..count {
            self.bytes.extend_from_slice(&[page; 0x1000]);
        }
        self
    }

    pub(crate) fn open_with(&self, no_mmap: bool) -> Result<Dump, DumpError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&self.bytes).unwrap();
        let file = MappedFile::new(file, no_mmap).unwrap();
        Dump::from_file(Path::new("built.dmp"), file, None)
    }

    pub(crate) fn open(&self) -> Dump {
        self.open_with(false).unwrap()
    }
}

/// A full dump with unsorted runs: frames 0x100, 0x101 first, then 2.
fn full(wide: bool) -> Builder {
    let mut built = Builder::new(wide, 1);
    let runs = [(0x100u64, 2u64), (2, 1)];
    if wide {
        built.u32(0x88, 2).u64(0x90, 3);
        for (index, run) in runs.iter().enumerate() {
            built.u64(0x98 + index * 16, run.0).u64(0xa0 + index * 16, run.1);
        }
    } else {
        built.u32(0x64, 2).u32(0x68, 3);
        for (index, run) in runs.iter().enumerate() {
            built.u32(0x6c + index * 8, run.0 as u32).u32(0x70 + index * 8, run.1 as u32);
        }
    }
    built.pages(3);
    built
}

/// A bitmap dump of frames 1, 2 and 9.
fn bitmap(wide: bool, new: bool, kind: u32) -> Builder {
    let mut built = Builder::new(wide, kind);
    let at = built.bytes.len();
    built.put(at, if kind == 5 { b"FDMPDUMP" } else { b"SDMPDUMP" });
    if new {
        built.u64(at + 0x20, at as u64 + 0x1000).u64(at + 0x28, 3).u64(at + 0x30, 10).put(at + 0x38, &[6, 2]);
    } else {
        built.u32(at + 0xc, at as u32 + 0x1000).u32(at + 0x10, 10).u32(at + 0x14, 3).u32(at + 0x18, 10);
        built.put(at + if wide { 0x28 } else { 0x20 }, &[6, 2]);
    }
    built.bytes.resize(at + 0x1000, 0);
    built.pages(3);
    built
}

/// A range dump of frames 4 and 5, then 1.
fn ranges(wide: bool, kind: u32) -> Builder {
    let mut built = Builder::new(wide, kind);
    let at = built.bytes.len();
    built.u32(at, 0x40).put(at + 4, b"RDMPDUMP").u64(at + 0x10, 0xfe0).u64(at + 0x18, at as u64 + 0x1000);
    built.u32(at + 0x20, 2).u64(at + 0x28, if kind == 0xa { 3 } else { 0 });
    built.u64(at + 0x30, 4).u64(at + 0x38, 2).u64(at + 0x40, 1).u64(at + 0x48, 1);
    built.bytes.resize(at + 0x1000, 0);
    built.pages(3);
    built
}

/// A small dump with one driver, one unloaded driver, two blocks, a stack and a blob.
fn triage(wide: bool) -> Builder {
    let mut built = Builder::new(wide, 4);
    let at = built.bytes.len();
    let base = at as u32;
    built.bytes.resize(at + 0x1000, 0);
    let fields: [u32; 18] = [
        0,
        base + 0xffc + 4, // SizeOfDump
        base + 0xffc,     // ValidOffset
        if wide { 0x348 } else { 0x320 },
        if wide { 0xf00 } else { 0x7d0 },
        base + 0x100, // MmOffset
        base + 0x180, // UnloadedDriversOffset
        base + 0x280, // PrcbOffset
        base + 0x300, // ProcessOffset
        base + 0x380, // ThreadOffset
        base + 0x400, // CallStackOffset
        0x80,
        base + 0x500, // DriverListOffset
        1,
        base + 0x600, // StringPoolOffset
        0x80,
        base + 0x600, // BrokenDriverOffset
        0xffff_ffff,
    ];
    for (index, field) in fields.iter().enumerate() {
        built.u32(at + index * 4, *field);
    }
    // DataPage, DebuggerData, DataBlocks.
    let tail: [u32; 6] = [base + 0x700, 0x10, base + 0x800, 0x20, base + 0x900, 2];
    let (stack, page, entry) = if wide {
        built.u64(at + 0x48, 0xffff_8000_0000_1000).u64(at + 0x60, 0xffff_8000_0000_2000);
        (0xffff_8000_0000_1000u64, 0x68, 0x10)
    } else {
        built.u32(at + 0x48, 0x8000_1000).u32(at + 0x4c, 0x8000_2000);
        (0x8000_1000, 0x50, 0xc)
    };
    for (index, field) in tail.iter().enumerate() {
        built.u32(at + page + index * 4, *field);
    }
    // Two data blocks: the second overlaps the end of the stack.
    for (index, (va, offset)) in [(stack + 0x5000, 0xa00), (stack + 0x70, 0xa80)].into_iter().enumerate() {
        let row = at + 0x900 + index * entry;
        if wide {
            built.u64(row, va).u32(row + 8, base + offset).u32(row + 12, 0x20);
        } else {
            built.u32(row, va as u32).u32(row + 4, base + offset).u32(row + 8, 0x20);
        }
    }
    built.put(at + 0x400, &[0x11; 0x80]).put(at + 0xa00, &[0x22; 0x20]).put(at + 0xa80, &[0x33; 0x20]);
    // The driver and its name.
    built.u32(at + 0x500, base + 0x600).u32(at + 0x600, 2).put(at + 0x604, b"n\0t\0\0\0");
    if wide {
        built.u64(at + 0x508 + 0x30, 0xffff_f800_0000_0000).u32(at + 0x508 + 0x40, 0x1046000);
        built.u32(at + 0x508 + 0x80, 0xd8333e6);
        built.u64(at + 0x180, 1).u32(at + 0x188, 0xa000a).put(at + 0x198, b"x\0.\0s\0y\0s\0junk");
        built.u64(at + 0x1b0, 0x1000).u64(at + 0x1b8, 0x2000);
    } else {
        built.u32(at + 0x504 + 0x18, 0x8080_0000).u32(at + 0x504 + 0x20, 0x1046000);
        built.u32(at + 0x504 + 0x44, 0xd8333e6);
        built.u32(at + 0x180, 1).u32(at + 0x184, 0xa000a).put(at + 0x18c, b"x\0.\0s\0y\0s\0junk");
        built.u32(at + 0x1a4, 0x1000).u32(at + 0x1a8, 0x2000);
    }
    built.put(at + 0xffc, b"TRGD");
    let blob = at + 0x1000;
    built.put(blob, b"DumpBlob").u32(blob + 8, 16).u32(blob + 12, 19041);
    built.u32(blob + 16, 32).put(blob + 20, &[7; 16]).u32(blob + 36, 5).u32(blob + 40, 8).u32(blob + 44, 3);
    built.put(blob + 56, b"hello\0\0\0");
    built
}

#[test]
fn headers_of_both_widths() {
    for wide in [false, true] {
        let dump = Builder::new(wide, 3).open();
        let header = dump.header();
        assert_eq!(header.is_64_bit, wide);
        assert_eq!(header.minor_version, Some(19041));
        assert_eq!(header.pointer_size(), dump.machine().pointer_size());
        let bug_check = header.bug_check.unwrap();
        assert_eq!(bug_check.code, 0x50);
        assert_eq!(bug_check.parameters[3], if wide { 0xffff_8000_0000_0003 } else { 0x8000_0003 });
        assert_eq!((header.comment.as_deref(), header.version_user.as_deref()), (None, None));
        assert_eq!((header.pfn_database, header.system_time, header.system_up_time), (None, None, None));
        assert_eq!((header.pae_enabled, header.suite_mask, header.boot_id), (None, None, None));
        assert!(header.physical_memory.is_none() && header.context.is_none() && header.exception.is_none());
        assert!(dump.physical().is_none() && dump.virtual_blocks().is_none() && dump.problems().is_empty());
    }
}

#[test]
fn text_fields_stop_at_nul_and_filler() {
    let mut built = Builder::new(true, 3);
    built.put(0xfb0, b"a comment\0").put(0x60, b"lab").u64(0x1030, 77).u32(0xfa8, 5);
    let dump = built.open();
    assert_eq!(dump.header().comment.as_deref(), Some("a comment"));
    assert_eq!(dump.header().system_up_time, Some(77));
    assert_eq!(dump.header().system_time, Some(5));
}

#[test]
fn full_dumps_follow_the_order_of_the_file() {
    for wide in [false, true] {
        for no_mmap in [false, true] {
            let dump = full(wide).open_with(no_mmap).unwrap();
            let memory = dump.physical().unwrap();
            assert_eq!(memory.page_count(), 3);
            assert_eq!(memory.page(Pfn(0x101)).unwrap()[0], 1);
            assert_eq!(memory.page(Pfn(2)).unwrap()[7], 2);
            assert_eq!(memory.page(Pfn(3)).unwrap_err(), Absent::NotCaptured);
            assert_eq!(memory.pages(Pfn(0x100), 9).unwrap().len(), 0x2000);
            let mut buffer = [9; 4];
            assert_eq!(memory.read(Pa(0x10_0ffe), &mut buffer), Ok(()));
            assert_eq!(buffer, [0, 0, 1, 1]);
            assert_eq!(memory.read(Pa(0x10_1ffe), &mut buffer), Err((2, Absent::NotCaptured)));
            assert_eq!(memory.runs().map(|run| run.first).collect::<Vec<_>>(), [Pfn(2), Pfn(0x100)]);
            assert!(dump.problems().is_empty());
        }
    }
}

#[test]
fn bitmap_dumps_of_every_header() {
    for (wide, new) in [(false, false), (false, true), (true, false), (true, true)] {
        for kind in [2, 5, 6, 7] {
            let dump = bitmap(wide, new, kind).open();
            let memory = dump.physical().unwrap();
            assert_eq!(memory.page(Pfn(1)).unwrap()[0], 0, "{wide} {new} {kind}");
            assert_eq!(memory.page(Pfn(9)).unwrap()[0], 2);
            assert_eq!(memory.page(Pfn(0)).unwrap_err(), Absent::NotCaptured);
            assert_eq!(memory.page(Pfn(10)).unwrap_err(), Absent::NotCaptured);
            assert_eq!(memory.page(Pfn(u64::MAX)).unwrap_err(), Absent::NotCaptured);
            assert_eq!((memory.page_count(), memory.end()), (3, Pfn(10)));
        }
    }
}

#[test]
fn range_dumps() {
    for kind in [8, 9, 0xa] {
        let dump = ranges(true, kind).open();
        let memory = dump.physical().unwrap();
        assert_eq!(memory.page(Pfn(5)).unwrap()[0], 1);
        assert_eq!(memory.page(Pfn(1)).unwrap()[0], 2);
        assert_eq!(memory.page_count(), 3);
    }
}

#[test]
fn a_cut_file_has_broken_pages_and_says_so() {
    for mut built in [full(true), bitmap(true, true, 6), ranges(true, 8)] {
        built.bytes.truncate(built.bytes.len() - 0x1800);
        let dump = built.open();
        assert!(matches!(dump.problems(), [Problem::Truncated { .. }]), "{:?}", dump.problems());
        assert!(dump.problems()[0].to_string().contains("2 of 3 pages"), "{}", dump.problems()[0]);
        let memory = dump.physical().unwrap();
        let present = memory.runs().flat_map(|run| (0..run.pages).map(move |n| Pfn(run.first.0 + n)));
        let broken = present.filter(|&pfn| memory.page(pfn) == Err(Absent::Broken)).count();
        assert_eq!(broken, 2);
    }
}

#[test]
fn triage_of_both_widths() {
    for wide in [false, true] {
        let dump = triage(wide).open();
        assert_eq!(dump.problems(), []);
        let triage = dump.triage().unwrap();
        assert!(triage.valid);
        assert_eq!(triage.drivers.len(), 1);
        assert_eq!(triage.drivers[0].name, "nt");
        assert_eq!(triage.drivers[0].size, 0x1046000);
        assert_eq!(triage.drivers[0].time_date_stamp, 0xd8333e6);
        assert_eq!(triage.broken_driver.as_deref(), Some("nt"));
        assert_eq!(triage.unloaded_drivers.len(), 1);
        assert_eq!(triage.unloaded_drivers[0].name, "x.sys");
        assert_eq!(triage.unloaded_drivers[0].end, Va(0x2000));
        assert_eq!(triage.prcb.map(|prcb| prcb.size), Some(0x80));
        let blocks = dump.virtual_blocks().unwrap();
        assert_eq!(blocks.bytes(triage.top_of_stack.add(0x7f), 1).unwrap()[0], 0x11);
        assert_eq!(blocks.bytes(triage.top_of_stack.add(0x80), 1).unwrap()[0], 0x33);
        assert_eq!(blocks.bytes(triage.top_of_stack.add(0x5000), 1).unwrap()[0], 0x22);
        let [blob] = dump.tagged_data() else { panic!("one blob") };
        assert_eq!(dump.tagged_bytes(blob).unwrap().as_ref(), b"hello");
        assert!(dump.layout().len() > 10);
    }
}

#[test]
fn a_cut_triage_dump_reads_what_is_left() {
    let mut built = triage(true);
    built.bytes.truncate(0x2000 + 0xa10);
    let dump = built.open();
    let text = dump.problems()[0].to_string();
    assert!(text.contains("2 of 4 blocks"), "{text}");
    let blocks = dump.virtual_blocks().unwrap();
    let block = Va(0xffff_8000_0000_6000);
    assert!(blocks.bytes(block, 1).is_ok());
    assert_eq!(blocks.bytes(block.add(0x10), 1).unwrap_err(), Absent::Broken);
}

#[test]
fn other_machines_and_kinds_are_named() {
    let mut built = Builder::new(true, 1);
    built.u32(0x30, 0x200);
    let text = built.open_with(false).err().unwrap().to_string();
    assert!(text.contains("IA64") && text.contains("0x30"), "{text}");
    let text = Builder::new(true, 99).open_with(false).err().unwrap().to_string();
    assert!(text.contains("0x63") && text.contains("0xf98"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever is done to a file, it opens or fails; every byte it then offers can be asked for.
    #[test]
    fn damaged_files_never_panic(
        which in 0usize..10,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            Just(0u32), Just(u32::MAX), Just(0x7fff_ffff), Just(0x1000), any::<u32>()
        ], prop_oneof![Just(0usize), Just(0x2000), Just(0x1000), Just(0x88)]), 0..6),
        cut in any::<prop::sample::Index>(),
        cuts: bool,
        no_mmap: bool,
    ) {
        let mut built = match which {
            0 => full(true), 1 => full(false), 2 => bitmap(true, true, 5), 3 => bitmap(true, false, 2),
            4 => bitmap(false, false, 2), 5 => ranges(true, 8), 6 => ranges(true, 0xa), 7 => triage(true),
            8 => triage(false), _ => Builder::new(true, 3),
        };
        for (index, value, base) in edits {
            // Most damage goes where the tables are.
            let at = (base + index.index(0x100)).min(built.bytes.len() - 4) & !3;
            built.u32(at, value);
        }
        if cuts {
            let length = cut.index(built.bytes.len());
            built.bytes.truncate(length);
        }
        if let Ok(dump) = built.open_with(no_mmap) {
            dump.layout();
            for blob in dump.tagged_data() {
                dump.tagged_bytes(blob);
            }
            let dump = std::sync::Arc::new(dump);
            let view = crate::memory::View::new(dump.clone());
            let mut buffer = [0; 64];
            for va in [dump.header().ps_loaded_module_list, dump.header().kd_debugger_data_block] {
                view.read(va.unwrap_or(Va(0xffff_f800_0000_0000)), &mut buffer);
            }
            if let Some(memory) = dump.physical() {
                for run in memory.runs().take(100) {
                    let _ = memory.page(run.first);
                    let _ = memory.pages(run.first, u64::MAX).map(|bytes| bytes.len());
                }
                memory.page_count();
            }
            for block in dump.virtual_blocks().iter().flat_map(|blocks| blocks.source()) {
                let _ = dump.virtual_blocks().unwrap().bytes(block.va, 64);
            }
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 1..300)) {
        let text = Builder { bytes }.open_with(false).err().map(|error| error.to_string());
        prop_assert!(text.is_some());
    }
}

/// A cabinet with a text and a dump, made by the `cab` crate's writer.
fn built_cabinet(dump: &[u8], compression: cab::CompressionType) -> Vec<u8> {
    let mut builder = cab::CabinetBuilder::new();
    let folder = builder.add_folder(compression);
    folder.add_file("notes\\read.txt");
    folder.add_file("dumps\\memory.dmp");
    let mut writer = builder.build(std::io::Cursor::new(Vec::new())).unwrap();
    while let Some(mut file) = writer.next_file().unwrap() {
        let bytes = if file.file_name().ends_with("dmp") { dump } else { b"text".as_slice() };
        file.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn open_bytes(bytes: &[u8], options: &OpenOptions<'_>) -> Result<Dump, DumpError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Dump::open(file.path(), options)
}

#[test]
fn a_member_is_found_by_its_name_without_folders() {
    for compression in [cab::CompressionType::None, cab::CompressionType::MsZip] {
        let bytes = built_cabinet(&triage(true).bytes, compression);
        let calls = std::cell::Cell::new(0);
        let progress = |done: u64, all: u64| {
            calls.set(calls.get() + 1);
            done <= all
        };
        for member in [None, Some("memory.dmp"), Some("MEMORY.DMP"), Some("dumps\\memory.dmp")] {
            let options = OpenOptions {
                member: member.map(str::to_owned),
                progress: Some(&progress),
                ..OpenOptions::default()
            };
            let dump = open_bytes(&bytes, &options).unwrap();
            assert_eq!(dump.archive_member(), Some("dumps\\memory.dmp"));
            assert_eq!(dump.triage().unwrap().drivers[0].name, "nt");
        }
        assert_eq!(calls.get(), 8);
    }
}

#[test]
fn parts_and_quantum_are_refused_plainly() {
    let bytes = built_cabinet(&triage(true).bytes, cab::CompressionType::MsZip);
    let mut part = bytes.clone();
    part[30] |= 2;
    let text = open_bytes(&part, &OpenOptions::default()).err().unwrap().to_string();
    assert!(text.contains("part 1 of a multi-part cabinet"), "{text}");
    // The first folder entry stands at 36; its compression at 42.
    let mut quantum = bytes;
    quantum[42..44].copy_from_slice(&(2u16 | 1 << 4 | 10 << 8).to_le_bytes());
    let text = open_bytes(&quantum, &OpenOptions::default()).err().unwrap().to_string();
    assert!(text.contains("Quantum"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damaged_cabinets_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..8),
        cut in any::<prop::sample::Index>(),
        cuts: bool,
        compression in prop_oneof![Just(0u16), Just(1), Just(2), Just(0x1503), Just(0x0f03)],
    ) {
        let mut bytes = built_cabinet(&triage(false).bytes, cab::CompressionType::MsZip);
        bytes[42..44].copy_from_slice(&compression.to_le_bytes());
        for (index, value, early) in edits {
            let at = if early { 4 + index.index(120) } else { 4 + index.index(bytes.len() - 4) };
            bytes[at] = value;
        }
        if cuts {
            bytes.truncate(4 + cut.index(bytes.len() - 4));
        }
        let _ = open_bytes(&bytes, &OpenOptions::default()).map_err(|error| error.to_string());
    }
}
