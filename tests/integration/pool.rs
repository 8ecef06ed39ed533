//! `!pool`, `!poolused`, `!poolfind`: tags and blocks of every generation, in pages and in segment heaps.

use crate::memory_reports::{REPORTS, list, number, samples};
use crate::program::{arg, kd};
use kd_sdk::address::Va;
use kd_tests::lab::world::{Options, PoolPlace, Story, World};
use kd_tests::lab::writer::{self, Kind};
use serde_json::Value;

#[test]
fn tags_are_counted() {
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        let rows: Vec<&Value> = list(&report.data("!poolused")["tags"]).collect();
        for wanted in list(&report.truth["facts"]["pool"]) {
            let tag = wanted["tag"].as_str().unwrap();
            let row = rows
                .iter()
                .find(|row| row["tag"] == tag)
                .unwrap_or_else(|| panic!("{}: no {tag}", report.what));
            for (key, fact) in [
                ("nonpaged_allocs", "allocations"),
                ("nonpaged_frees", "frees"),
                ("nonpaged_bytes", "bytes"),
                ("paged_allocs", "paged_allocations"),
                ("paged_frees", "paged_frees"),
                ("paged_bytes", "paged_bytes"),
            ] {
                assert_eq!(row[key], wanted[fact], "{} {tag} {key}", report.what);
            }
        }
        let names: Vec<&str> = rows.iter().map(|row| row["tag"].as_str().unwrap()).collect();
        assert!(names.is_sorted(), "{}: {names:?}", report.what);
        let only: Vec<&str> =
            list(&report.data("!poolused 3 Ir*")["tags"]).map(|row| row["tag"].as_str().unwrap()).collect();
        assert!(
            !only.is_empty() && only.iter().all(|tag| tag.starts_with("Ir")),
            "{}: {only:?}",
            report.what
        );
        let total = number(&report.data("!poolused")["total"]["nonpaged_bytes"]);
        let sum: u64 = rows.iter().map(|row| number(&row["nonpaged_bytes"])).sum();
        assert_eq!(total, sum, "{}", report.what);
    }
}

#[test]
fn blocks_are_found_by_any_address() {
    let mut places = std::collections::BTreeSet::new();
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        for wanted in samples(&report.truth["facts"]["pool_blocks"]) {
            let start = number(&wanted["start"]);
            let data = report.data(&format!("!pool {:#x}", start + 5));
            let hit = list(&data["blocks"]).find(|block| block["hit"] == true);
            let hit = hit.unwrap_or_else(|| panic!("{}: {wanted} is not found: {data}", report.what));
            let what = format!("{}: {hit} {wanted}", report.what);
            assert_eq!(number(&hit["address"]), start, "{what}");
            assert_eq!(number(&hit["size"]), number(&wanted["size"]), "{what}");
            assert_eq!(hit["allocated"], wanted["free"] == false, "{what}");
            assert_eq!(hit["place"], wanted["place"], "{what}");
            if wanted["free"] == false {
                assert_eq!(hit["tag"], wanted["tag"], "{what}");
                assert_eq!(data["region"]["kind"], wanted["pool"], "{what}");
            }
            assert!(data.get("corrupt").is_none(), "{what}: {data}");
            places.insert(hit["place"].as_str().unwrap());
        }
    }
    assert_eq!(places.into_iter().collect::<Vec<_>>(), ["big", "chunk", "page", "slot"]);
}

#[test]
fn blocks_are_found_by_tag() {
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        for (command, tag, made, freed) in [
            ("!poolfind Irp", "Irp ", "allocations", "frees"),
            ("!poolfind NtfF 1", "NtfF", "paged_allocations", "paged_frees"),
        ] {
            let data = report.data(command);
            let wanted = list(&report.truth["facts"]["pool"]).find(|row| row["tag"] == tag).unwrap();
            let used = list(&data["blocks"]).filter(|block| block["allocated"] == true).count() as u64;
            assert_eq!(used, number(&wanted[made]) - number(&wanted[freed]), "{} {command}", report.what);
            assert!(list(&data["blocks"]).all(|block| block["tag"] == tag), "{} {command}", report.what);
            assert_eq!(data["corrupt"], Value::Array(Vec::new()), "{} {command}", report.what);
            assert_eq!(data["refused"], Value::Array(Vec::new()), "{} {command}", report.what);
        }
        assert_eq!(number(&report.data("!poolfind None 1")["found"]), 0, "{}", report.what);
        assert_ne!(report.record("!poolfind Nothere")["status"], "ok", "{}", report.what);
    }
}

/// A block was written beyond its end: the next header is named, and the block before it.
#[test]
fn corruption_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for generation in ["x64-7601", "x86-2600", "x64-19041"] {
        let mut world = World::build(Options::of(generation, Story::Idle));
        let victim = world.pools.blocks.iter().position(|block| {
            !matches!(block.place, PoolPlace::Big | PoolPlace::Slot(..)) && block.start.page_offset() > 0x200
        });
        let block = world.pools.blocks[victim.unwrap()];
        // Chunks have a header of their own before that of pool.
        let header = if block.place == PoolPlace::Chunk { 0x10 } else { 0 };
        let at = Va(block.start.0 - header);
        world.overrun(at, &[0x41; 8]);
        let (path, store) = (folder.path().join(generation), folder.path().join("symbols").join(generation));
        world.write_symbols(&store).unwrap();
        writer::write(&world, Kind::BitmapKernel, &path).unwrap();
        let command = format!("!pool {:#x}; !poolfind Irp; q", block.start.0 + 4);
        let records = kd(["--json", "-z", &arg(&path), "-y", &arg(&store), "-c", &command]).run().records();
        let data = &records
            .iter()
            .find(|record| record["command"].as_str().is_some_and(|c| c.starts_with("!pool ")))
            .unwrap()["data"];
        assert_eq!(number(&data["corrupt"]["address"]), at.0, "{generation}: {data}");
        assert!(number(&data["corrupt"]["before"]["address"]) < at.0, "{generation}: {data}");
        let found = &records.iter().find(|record| record["command"] == "!poolfind Irp").unwrap()["data"];
        assert!(
            list(&found["corrupt"]).any(|wrong| number(&wrong["address"]) == at.0),
            "{generation}: {found}"
        );
    }
}

#[test]
fn dumps_without_memory_say_what_is_missing() {
    for report in REPORTS.iter().filter(|report| !report.has_memory()) {
        for command in ["!poolused", "!poolfind Irp"] {
            let record = report.record(command).to_string();
            assert!(
                record.contains("captured") || record.contains("symbol"),
                "{} {command}: {record}",
                report.what
            );
        }
    }
}
