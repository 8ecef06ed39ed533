//! Page tables built here in every form, and what must come of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use kd_sdk::address::{Pa, Pfn, Va};
use proptest::prelude::*;

use super::*;
use crate::dump::{PhysicalMemory, PhysicalRun};

/// Sparse physical memory.
#[derive(Default)]
struct Frames {
    pages: BTreeMap<u64, Vec<u8>>,
    end: u64,
}

impl Frames {
    fn put(&mut self, pa: u64, bytes: &[u8]) {
        let page = self.pages.entry(pa >> 12).or_insert_with(|| vec![0; 0x1000]);
        let at = (pa & 0xfff) as usize;
        page[at..at + bytes.len()].copy_from_slice(bytes);
        self.end = self.end.max((pa >> 12) + 1);
    }

    fn u64(&mut self, pa: u64, value: u64) -> &mut Frames {
        self.put(pa, &value.to_le_bytes());
        self
    }

    fn u32(&mut self, pa: u64, value: u32) -> &mut Frames {
        self.put(pa, &value.to_le_bytes());
        self
    }
}

impl PhysicalMemory for Frames {
    fn pages(&self, first: Pfn, _: u64) -> Result<Cow<'_, [u8]>, Absent> {
        self.pages.get(&first.0).map(|page| Cow::Borrowed(&page[..])).ok_or(Absent::NotCaptured)
    }

    fn runs(&self) -> Box<dyn Iterator<Item = PhysicalRun> + Send + '_> {
        Box::new(self.pages.keys().map(|&pfn| PhysicalRun { first: Pfn(pfn), pages: 1, offset: 0 }))
    }

    fn page_count(&self) -> u64 {
        self.pages.len() as u64
    }

    fn end(&self) -> Pfn {
        Pfn(self.end)
    }
}

fn tables(mode: PagingMode, root: u64) -> PageTables {
    PageTables { mode, root: Pa(root), upper_root: Pa(root), invalid_pte_mask: None }
}

const KERNEL: u64 = 0xffff_f800_0000_0000;

/// Four levels: PXE at 0x1000, PPE 0x2000, PDE 0x3000, PTE 0x4000 for `KERNEL`.
fn x64() -> Frames {
    let mut frames = Frames::default();
    frames.u64(0x1000 + 0x1f0 * 8, 0x2003).u64(0x2000, 0x3003).u64(0x3000, 0x4003).u64(0x4000, 0x5003);
    frames.u64(0x5000, 0x1122);
    frames
}

fn why(frames: &Frames, tables: &PageTables, va: u64) -> (Absent, Detail) {
    let fault = tables.translate(frames, Va(va)).unwrap_err();
    assert_eq!(fault.at, Va(va));
    assert!(!fault.to_string().is_empty());
    (fault.why, fault.detail)
}

#[test]
fn x64_pages_of_every_size() {
    let mut frames = x64();
    let tables = tables(PagingMode::X64L4, 0x1002);
    let found = tables.translate(&frames, Va(KERNEL + 8)).unwrap();
    assert_eq!((found.pa, found.page_size, found.kind), (Pa(0x5008), 0x1000, TranslationKind::Valid));
    assert_eq!(found.entries.iter().count(), 4);
    assert_eq!(found.entries.get(Level::Pte).unwrap().at, 0x4000);
    frames.u64(0x3008, 0x8000_0000_0040_0083 | 0x1000).u64(0x2008, 0x4000_0083);
    assert_eq!(tables.translate(&frames, Va(KERNEL + 0x20_1234)).unwrap().pa, Pa(0x40_1234));
    let huge = tables.translate(&frames, Va(KERNEL + 0x4000_0000 + 0x1234_5678)).unwrap();
    assert_eq!((huge.pa, huge.page_size), (Pa(0x5234_5678), 1 << 30));
}

#[test]
fn x64_invalid_entries_are_told_apart() {
    let mut frames = x64();
    let tables = tables(PagingMode::X64L4, 0x1000);
    frames.u64(0x4008, 0x5880).u64(0x4010, 0x0000_0007_0000_2080).u64(0x4018, 0x80).u64(0x4020, 0x99_9003);
    frames.u64(0x4028, 0xffff_ffff_0000_0420).u64(0x3008, 0x77_7003).u64(0x4030, 0x0000_4000_0000_5880);
    frames.u64(0x4038, 0x0000_4000_0000_5890);
    let found = tables.translate(&frames, Va(KERNEL + 0x1004)).unwrap();
    assert_eq!((found.pa, found.kind), (Pa(0x5004), TranslationKind::Transition));
    let fault = |page: u64| why(&frames, &tables, KERNEL + page * 0x1000);
    assert_eq!(fault(2), (Absent::PagedOut, Detail::PageFile(Level::Pte, 0x7_0000_2080, 2, 7)));
    assert_eq!(fault(3), (Absent::NotMapped, Detail::DemandZero(Level::Pte, 0x80)));
    assert_eq!(fault(5).0, Absent::PagedOut);
    assert_eq!(fault(9), (Absent::NotMapped, Detail::Zero(Level::Pte)));
    assert_eq!(fault(512), (Absent::NotCaptured, Detail::Table(Level::Pte, Pfn(0x777))));
    // The mask against L1TF is taken off, unless the swizzle bit says that there is none.
    assert_eq!(tables.translate(&frames, Va(KERNEL + 0x6000)).unwrap().pa, Pa(0x5000));
    assert_eq!(tables.translate(&frames, Va(KERNEL + 0x7000)).unwrap().pa, Pa(0x4000_0000_5000));
    assert_eq!(why(&frames, &tables, 0x8000_0000_0000).1, Detail::NotCanonical);
    assert_eq!(why(&frames, &tables, 0x1000), (Absent::NotMapped, Detail::Zero(Level::Pxe)));
}

#[test]
fn x64_prototype_entries_are_followed_once() {
    let mut frames = x64();
    let tables = tables(PagingMode::X64L4, 0x1000);
    // Prototype PTEs in the page at 0x5000, which is mapped at KERNEL.
    let proto = |at: u64| (at << 16) | 0x400;
    frames.u64(0x4008, proto(KERNEL + 8)).u64(0x5008, 0x6003);
    frames.u64(0x4010, proto(KERNEL + 0x10)).u64(0x5010, 0x7880);
    frames.u64(0x4018, proto(KERNEL + 0x18)).u64(0x5018, 0x1234_0000_0400);
    frames.u64(0x4020, proto(KERNEL + 0x20)).u64(0x5020, 0x9_0000_0080);
    frames.u64(0x4028, proto(KERNEL + 0x5000));
    frames.u64(0x4030, proto(KERNEL + 0x9000));
    let found = tables.translate(&frames, Va(KERNEL + 0x1010)).unwrap();
    assert_eq!((found.pa, found.kind), (Pa(0x6010), TranslationKind::Prototype));
    assert_eq!(tables.translate(&frames, Va(KERNEL + 0x2000)).unwrap().pa, Pa(0x7000));
    assert!(matches!(why(&frames, &tables, KERNEL + 0x3000), (Absent::PagedOut, Detail::MappedFile(_))));
    assert!(matches!(why(&frames, &tables, KERNEL + 0x4000), (Absent::PagedOut, Detail::PageFile(..))));
    assert!(matches!(why(&frames, &tables, KERNEL + 0x5000), (Absent::PagedOut, Detail::Prototype(..))));
    assert!(matches!(why(&frames, &tables, KERNEL + 0x6000), (Absent::NotMapped, Detail::Prototype(..))));
}

#[test]
fn the_mask_against_l1tf_is_used_or_guessed() {
    let mut frames = x64();
    let mut tables = tables(PagingMode::X64L4, 0x1000);
    let mask = 1u64 << 45;
    frames.u64(0x4008, (KERNEL + 8) << 16 | mask | 0x400).u64(0x5008, 0x6003).u64(0x4010, mask | 0x80);
    assert_eq!(tables.translate(&frames, Va(KERNEL + 0x1000)).unwrap().pa, Pa(0x6000));
    assert_eq!(why(&frames, &tables, KERNEL + 0x2000).0, Absent::PagedOut);
    tables.invalid_pte_mask = Some(mask);
    assert_eq!(tables.translate(&frames, Va(KERNEL + 0x1000)).unwrap().pa, Pa(0x6000));
    assert_eq!(why(&frames, &tables, KERNEL + 0x2000).0, Absent::NotMapped);
    tables.invalid_pte_mask = Some(0);
    assert!(tables.translate(&frames, Va(KERNEL + 0x1000)).is_err());
}

#[test]
fn five_levels() {
    let mut frames = x64();
    frames.u64(0x9000 + 511 * 8, 0x1003);
    let tables = tables(PagingMode::X64L5, 0x9000);
    assert_eq!(tables.translate(&frames, Va(KERNEL + 1)).unwrap().pa, Pa(0x5001));
    assert!(!tables.is_canonical(Va(0x0100_0000_0000_0000)));
    assert!(tables.is_canonical(Va(0xff00_0000_0000_0000)));
}

#[test]
fn x86_with_and_without_pae() {
    let mut frames = Frames::default();
    frames.u32(0x1000 + 0x202 * 4, 0x2003).u32(0x2004, 0x3003).u32(0x2008, 0x3800);
    frames.u32(0x1000 + 0x203 * 4, 0x0040_0083 | 1 << 13).put(0x3000, b"x");
    let tables2 = tables(PagingMode::X86, 0x1000);
    assert_eq!(tables2.translate(&frames, Va(0x8080_1010)).unwrap().pa, Pa(0x3010));
    assert_eq!(tables2.translate(&frames, Va(0x8080_2010)).unwrap().kind, TranslationKind::Transition);
    let large = tables2.translate(&frames, Va(0x80c1_2345)).unwrap();
    assert_eq!((large.pa, large.page_size), (Pa(0x1_0041_2345), 0x40_0000));
    assert_eq!(why(&frames, &tables2, 0x1_0000_0000).1, Detail::NotCanonical);

    let mut frames = Frames::default();
    frames.u64(0x1020 + 2 * 8, 0x2001).u64(0x2000 + 4 * 8, 0x3003).u64(0x3008, 0x1_0000_5003);
    frames.u64(0x2000 + 5 * 8, 0x60_0083).u64(0x3010, 0x5_0000_0004).put(0x1_0000_5000, b"x");
    let pae = tables(PagingMode::X86Pae, 0x1020);
    assert_eq!(pae.translate(&frames, Va(0x8080_1010)).unwrap().pa, Pa(0x1_0000_5010));
    assert_eq!(pae.translate(&frames, Va(0x80a0_0010)).unwrap().pa, Pa(0x60_0010));
    assert_eq!(
        why(&frames, &pae, 0x8080_2000),
        (Absent::PagedOut, Detail::PageFile(Level::Pte, 0x5_0000_0004, 2, 5))
    );
    assert_eq!(why(&frames, &pae, 0x4000_0000).0, Absent::NotMapped);
}

#[test]
fn arm64_halves_and_blocks() {
    let mut frames = Frames::default();
    // Upper half at 0x1000, lower half at 0x8000.
    frames.u64(0x1000 + 0x1f0 * 8, 0x2003).u64(0x2000, 0x3003).u64(0x3000, 0x4003).u64(0x4000, 0x5403);
    frames.u64(0x3008, 0x0060_0000_0040_0401).u64(0x8000, 0x2003).u64(0x4008, 0x5880).put(0x5000, b"x");
    let arm = PageTables {
        mode: PagingMode::Arm64,
        root: Pa(0x0001_0000_0000_8000),
        upper_root: Pa(0x1000),
        invalid_pte_mask: None,
    };
    assert_eq!(arm.translate(&frames, Va(KERNEL + 4)).unwrap().pa, Pa(0x5004));
    assert_eq!(arm.translate(&frames, Va(4)).unwrap().pa, Pa(0x5004));
    let block = arm.translate(&frames, Va(KERNEL + 0x20_0010)).unwrap();
    assert_eq!((block.pa, block.page_size), (Pa(0x40_0010), 0x20_0000));
    // Protection has bits 1 to 5 and the page file 6 to 9: none of them is a swizzle bit.
    frames.u64(0x4010, 0x7_0000_0098).u64(0x4018, 0x0000_4000_0000_5888).u64(0x4020, 0x8);
    let page_file = Detail::PageFile(Level::Pte, 0x7_0000_0098, 2, 7);
    assert_eq!(why(&frames, &arm, KERNEL + 0x2000), (Absent::PagedOut, page_file));
    assert_eq!(arm.translate(&frames, Va(KERNEL + 0x3000)).unwrap().pa, Pa(0x4000_0000_5000));
    assert_eq!(why(&frames, &arm, KERNEL + 0x4000).1, Detail::DemandZero(Level::Pte, 0x8));
    assert_eq!(arm.translate(&frames, Va(KERNEL + 0x1000)).unwrap().kind, TranslationKind::Transition);
    assert_eq!(arm.with_root(Pa(0x7000)).upper_root, Pa(0x1000));
    assert!(!arm.is_canonical(Va(0x0001_0000_0000_0000)));
    assert!(arm.is_canonical(Va(0xffff_0000_0000_0000)));
}

#[test]
fn tables_that_refer_to_themselves_end() {
    let mut frames = Frames::default();
    for index in 0..512 {
        frames.u64(0x1000 + index * 8, 0x1003);
    }
    let tables = tables(PagingMode::X64L4, 0x1000);
    assert_eq!(tables.translate(&frames, Va(KERNEL)).unwrap().pa, Pa(0x1000));
    for index in 0..512 {
        frames.u64(0x1000 + index * 8, 0xffff_f800_0000_0000_u64 << 16 | 0x400);
    }
    assert!(tables.translate(&frames, Va(KERNEL)).is_err());
}

#[test]
fn holes_are_skipped_by_tables() {
    let frames = x64();
    let tables = tables(PagingMode::X64L4, 0x1000);
    let hole = |va: u64| {
        let fault = tables.walk(&frames, Va(va)).unwrap_err();
        tables.end_of_hole(Va(va), &fault)
    };
    assert_eq!(hole(0x1234), Some(Va(1 << 39)));
    assert_eq!(hole(KERNEL + 0x1234), Some(Va(KERNEL + 0x2000)));
    assert_eq!(hole(KERNEL + 0x20_0000), Some(Va(KERNEL + 0x40_0000)));
    assert_eq!(hole(0x8000_0000_0000), Some(Va(0xffff_8000_0000_0000)));
    assert_eq!(hole(0x7fff_ffff_f000), Some(Va(0x8000_0000_0000)));
    assert_eq!(hole(u64::MAX), None);
}

proptest! {
    #[test]
    fn random_tables_never_panic_or_loop(
        words in proptest::collection::vec((0u64..0x4000 / 8, prop_oneof![
            any::<u64>(), (0u64..4).prop_map(|frame| frame << 12 | 3), (0u64..4).prop_map(|f| f << 12 | 0x83),
            (0u64..4).prop_map(|frame| frame << 12 | 0x800), any::<u32>().prop_map(|at| u64::from(at) << 16 | 0x400)
        ]), 0..200),
        root: u64,
        small_root in 0u64..4,
        use_small: bool,
        va in prop_oneof![any::<u64>(), 0u64..0x1_0000_0000, 0xffff_8000_0000_0000u64..u64::MAX],
        mode in prop_oneof![Just(PagingMode::X64L4), Just(PagingMode::X64L5), Just(PagingMode::X86),
            Just(PagingMode::X86Pae), Just(PagingMode::Arm64)],
    ) {
        let mut frames = Frames::default();
        for (index, word) in words {
            frames.u64(index * 8, word);
        }
        let tables = tables(mode, if use_small { small_root << 12 } else { root });
        let mut at = Va(va);
        for _ in 0..40 {
            match tables.walk(&frames, at) {
                Ok(found) => {
                    prop_assert!(found.page_size >= 0x1000);
                    break;
                }
                Err(fault) => match tables.end_of_hole(at, &fault) {
                    Some(next) => {
                        prop_assert!(next > at);
                        at = next;
                    }
                    None => break,
                },
            }
        }
    }
}

/// A small 64-bit dump file of frames 0..=6 by runs, with the tables of [`x64`] in them.
fn dump_of(frames: &Frames, root: u64) -> Arc<crate::dump::Dump> {
    use std::io::Write;
    let mut header = b"PAGE".repeat(0x800);
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(4, b"DU64");
    put(0x10, &root.to_le_bytes());
    put(0x20, &KERNEL.to_le_bytes());
    put(0x30, &0x8664u32.to_le_bytes());
    put(0xf98, &1u32.to_le_bytes());
    put(0x88, &1u32.to_le_bytes());
    put(0x90, &frames.end.to_le_bytes());
    put(0x98, &0u64.to_le_bytes());
    put(0xa0, &frames.end.to_le_bytes());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&header).unwrap();
    for pfn in 0..frames.end {
        file.write_all(frames.pages.get(&pfn).map_or(&[0; 0x1000][..], |page| page)).unwrap();
    }
    Arc::new(crate::dump::Dump::open(file.path(), &crate::dump::OpenOptions::default()).unwrap())
}

#[test]
fn a_view_reads_across_pages_and_stops_at_holes() {
    let mut frames = x64();
    frames.u64(0x4008, 0x6003).u64(0x5ff8, 0x0102_0304_0506_0708).u64(0x6000, 0x1111_1111_1111_1111);
    let view = View::new(dump_of(&frames, 0x1000));
    assert_eq!(view.tables().unwrap().mode, PagingMode::X64L4);
    for _ in 0..2 {
        let mut buffer = [0; 16];
        assert_eq!(view.read(Va(KERNEL + 0xff8), &mut buffer), ReadOutcome { done: 16, fault: None });
        assert_eq!((buffer[0], buffer[8]), (8, 0x11));
        let outcome = view.read(Va(KERNEL + 0x1ff8), &mut buffer);
        assert_eq!(outcome.done, 8);
        let fault = outcome.fault.unwrap();
        assert_eq!((fault.at, fault.why), (Va(KERNEL + 0x2000), Absent::NotMapped));
        // The same page number under other high bits is no address, whatever the cache holds.
        assert_eq!(view.read(Va(KERNEL & (u64::MAX >> 7)), &mut buffer).done, 0);
    }
    assert_eq!(view.next_readable(Va(0)), Some(Va(KERNEL)));
    assert_eq!(view.next_readable(Va(KERNEL + 0x1800)), Some(Va(KERNEL + 0x1800)));
    assert_eq!(view.next_readable(Va(KERNEL + 0x2000)), None);
    let mut last = [0; 4];
    assert_eq!(view.read(Va(u64::MAX - 1), &mut last).done, 0);
    assert!(view.read(Va(u64::MAX), &mut last).complete().is_err());
}

#[test]
fn five_levels_are_found_by_what_maps_the_kernel() {
    let mut frames = x64();
    frames.u64(0x6000 + 511 * 8, 0x1003);
    let view = View::new(dump_of(&frames, 0x6000));
    assert_eq!(view.tables().unwrap().mode, PagingMode::X64L5);
    assert_eq!(view.read(Va(KERNEL), &mut [0; 8]).done, 8);
}

#[test]
fn small_and_header_only_dumps() {
    let mut frames = Frames::default();
    frames.put(0, &[0]);
    let view = View::new(dump_of(&frames, 0x1000));
    assert!(view.blocks().is_none() && view.physical().is_some());

    let Some(path) = crate::shared("dumps/real/x64-19041-7e.dmp") else { return };
    let dump = crate::dump::Dump::open(&path, &crate::dump::OpenOptions::default()).unwrap();
    let view = View::new(Arc::new(dump));
    let at = view.dump().header().kd_debugger_data_block.unwrap();
    let mut tag = [0; 4];
    assert_eq!(view.read(at.add(0x10), &mut tag).done, 4);
    assert_eq!(&tag, b"KDBG");
    let fault = view.read(Va(0x10), &mut tag).fault.unwrap();
    assert_eq!((fault.why, fault.detail), (Absent::NotCaptured, Detail::NoBlock));
    assert!(view.next_readable(Va(0)).is_some() && view.tables().is_none() && view.walk(at).is_none());
    // A block that a layer above adds becomes readable, and only in its view.
    let file = view.dump().triage().unwrap().prcb.unwrap();
    let more = crate::dump::Block { va: Va(0x10), file, kind: crate::dump::BlockKind::Prcb };
    assert_eq!(view.with_blocks([more]).read(Va(0x10), &mut tag).done, 4);
    assert_eq!(view.read(Va(0x10), &mut tag).done, 0);
}
