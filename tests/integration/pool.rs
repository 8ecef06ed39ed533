//! `!pool`, `!poolused`, `!poolfind`: tags and blocks in pages and in segment heaps, of every kind of dump; run by
//! [`super::memory_reports`].

use super::every_kind::{Case, list, number};
use super::memory_reports::{samples, says_it_is_not_captured};
use crate::program::{arg, kd};
use kd_sdk::address::Va;
use kd_tests::lab::world::{Options, PoolPlace, Story, World};
use kd_tests::lab::writer::{self, Kind};
use serde_json::Value;
use std::collections::BTreeMap;

/// The flags of `!poolused` that show the system's pools.
const USED: [&str; 8] = ["", " 0", " 1", " 2", " 3", " 4", " 5", " 3 Ir*"];
/// Of each kind of pool: how `!poolfind` is told, and the facts' names of what was made and given back.
const KINDS: [(&str, &str, &str, &str); 3] = [
    ("nonpaged", "!poolfind *", "allocations", "frees"),
    ("paged", "!poolfind * 1", "paged_allocations", "paged_frees"),
    ("session", "!poolfind * 4", "session_allocations", "session_frees"),
];

pub fn commands(truth: &Value) -> Vec<String> {
    let mut all: Vec<String> = USED.map(|flags| format!("!poolused{flags}")).to_vec();
    all.extend(KINDS.map(|kind| kind.1.to_owned()));
    let more = ["!poolused 8", "!poolused 6", "!poolfind Irp", "!poolfind 0x20707249 0", "!poolfind None 1"];
    all.extend(more.map(String::from));
    all.extend(["!poolfind Nothere", "!poolfind Irp 3", "!poolfind * 2"].map(String::from));
    let blocks = samples(&truth["facts"]["pool_blocks"]);
    all.extend(
        blocks.zip([0u64, 1, 2, 3, 0x8000_0000].iter().cycle()).map(|(block, flags)| pool(block, *flags)),
    );
    all
}

/// Asked by an address inside of the block.
fn pool(block: &Value, flags: u64) -> String {
    format!("!pool {:#x} {flags:x}", number(&block["start"]) + 5)
}

pub fn check(case: &Case<'_>) {
    for command in ["!poolused 6", "!poolfind Nothere", "!poolfind Irp 3"] {
        let record = case.record(command);
        assert_eq!(record["status"], "failed", "{} {command}: {record}", case.what);
    }
    if case.has_kernel() {
        used(case);
        used_by_session(case);
        found(case);
        return blocks(case);
    }
    let counted = case.truth["facts"]["session_pool_is_counted"] == true;
    for command in commands(case.truth) {
        match command.as_str() {
            "!poolused 6" | "!poolfind Nothere" | "!poolfind Irp 3" => {}
            // That the kernel has no such table is known from its symbols.
            "!poolused 8" if !counted && case.kind == Kind::Triage => used_by_session(case),
            command => says_it_is_not_captured(case, command),
        }
    }
}

/// Every tag with every count, however it is sorted.
fn used(case: &Case<'_>) {
    let what = &case.what;
    let facts = list(&case.truth["facts"]["pool"]);
    for flags in USED {
        let data = case.data(&format!("!poolused{flags}"));
        let rows = list(&data["tags"]);
        let wanted = |fact: &&Value| {
            let tag = fact["tag"].as_str().unwrap();
            !flags.ends_with('*') || tag.starts_with("Ir")
        };
        let wanted: Vec<&Value> = facts.iter().filter(wanted).collect();
        assert_eq!(rows.len(), wanted.len(), "{what}{flags}");
        for wanted in wanted {
            let row = rows.iter().find(|row| row["tag"] == wanted["tag"]);
            let row = row.unwrap_or_else(|| panic!("{what}{flags}: no {wanted}"));
            same_counts(row, wanted, &format!("{what}{flags}"));
        }
        let bytes = |key: &str| -> Vec<u64> { rows.iter().map(|row| number(&row[key])).collect() };
        match flags.trim().chars().next() {
            Some('2' | '3') => assert!(bytes("nonpaged_bytes").is_sorted_by(|a, b| a >= b), "{what}{flags}"),
            Some('4' | '5') => assert!(bytes("paged_bytes").is_sorted_by(|a, b| a >= b), "{what}{flags}"),
            _ => assert!(rows.is_sorted_by_key(|row| row["tag"].as_str().unwrap()), "{what}{flags}"),
        }
        for key in ["nonpaged_bytes", "nonpaged_allocs", "nonpaged_frees", "paged_bytes", "paged_outstanding"]
        {
            assert_eq!(number(&data["total"][key]), bytes(key).iter().sum::<u64>(), "{what}{flags} {key}");
        }
    }
}

fn same_counts(row: &Value, fact: &Value, what: &str) {
    for (pool, allocations, frees, bytes) in [
        ("nonpaged", "allocations", "frees", "bytes"),
        ("paged", "paged_allocations", "paged_frees", "paged_bytes"),
    ] {
        let same = |key: &str, wanted: u64| {
            assert_eq!(
                number(&row[format!("{pool}_{key}").as_str()]),
                wanted,
                "{what} {pool} {key}: {row} {fact}"
            );
        };
        let (made, freed) = (number(&fact[allocations]), number(&fact[frees]));
        same("allocs", made);
        same("frees", freed);
        same("outstanding", made - freed);
        same("bytes", number(&fact[bytes]));
    }
}

/// Flag 8 shows the session's table where this kernel has one, and else says which variable is missing.
fn used_by_session(case: &Case<'_>) {
    let what = &case.what;
    if case.truth["facts"]["session_pool_is_counted"] == false {
        let record = case.record("!poolused 8");
        assert_eq!(record["status"], "failed", "{what}: {record}");
        assert!(record["messages"].to_string().contains("SessionPoolTrackTable"), "{what}: {record}");
        return;
    }
    let rows = list(&case.data("!poolused 8")["tags"]);
    let counted = |fact: &&Value| fact["session_allocations"] != 0;
    let facts: Vec<&Value> = list(&case.truth["facts"]["pool"]).iter().filter(counted).collect();
    assert_eq!(rows.len(), facts.len(), "{what}: {rows:?}");
    for fact in facts {
        let row =
            rows.iter().find(|row| row["tag"] == fact["tag"]).unwrap_or_else(|| panic!("{what}: {fact}"));
        for (key, wanted) in [
            ("paged_allocs", "session_allocations"),
            ("paged_frees", "session_frees"),
            ("paged_bytes", "session_bytes"),
        ] {
            assert_eq!(row[key], fact[wanted], "{what} {key}: {row}");
        }
        assert_eq!(row["nonpaged_allocs"], 0, "{what}: {row}");
    }
}

/// Every allocation of every tag and kind of pool is found, once.
fn found(case: &Case<'_>) {
    let (facts, what) = (&case.truth["facts"], &case.what);
    for (kind, command, made, freed) in KINDS {
        let data = case.data(command);
        for key in ["corrupt", "refused"] {
            assert_eq!(list(&data[key]).len(), 0, "{what} {command}: {}", data[key]);
        }
        let mut blocks = BTreeMap::new();
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for block in list(&data["blocks"]) {
            // What was given back may stand where something else stood before.
            let free = block["allocated"] == false;
            let again = blocks.insert((number(&block["address"]), free), block);
            assert!(again.is_none() || free, "{what} {command}: {block} twice");
            *counts.entry(block["tag"].as_str().unwrap()).or_default() += u64::from(!free);
        }
        let wanted: BTreeMap<&str, u64> = list(&facts["pool"])
            .iter()
            .map(|fact| (fact["tag"].as_str().unwrap(), number(&fact[made]) - number(&fact[freed])))
            .filter(|(_, count)| *count != 0)
            .collect();
        counts.retain(|_, count| *count != 0);
        assert_eq!(counts, wanted, "{what} {command}");
        assert_eq!(number(&data["found"]), list(&data["blocks"]).len() as u64, "{what} {command}");
        for fact in
            list(&facts["pool_blocks"]).iter().filter(|fact| fact["pool"] == kind && fact["free"] == false)
        {
            let block = blocks.get(&(number(&fact["start"]), false));
            let block = block.unwrap_or_else(|| panic!("{what} {command}: no {fact}"));
            assert_eq!(number(&block["size"]), number(&fact["size"]), "{what}: {block} {fact}");
            assert_eq!((&block["tag"], &block["place"]), (&fact["tag"], &fact["place"]), "{what}");
        }
        // Where the kernel does not tell where a pool lies, that is said.
        let told = list(&data["ranges"]).iter().all(|range| range["told"] == true);
        assert_eq!(told, kind == "session" || facts["pool_is_placed"][kind] == true, "{what} {command}");
    }
    let irps = |command: &str| case.data(command)["blocks"].clone();
    assert_ne!(list(&irps("!poolfind Irp")).len(), 0, "{what}");
    assert_eq!(irps("!poolfind Irp"), irps("!poolfind 0x20707249 0"), "{what}");
    assert_eq!(number(&case.data("!poolfind None 1")["found"]), 0, "{what}");
    // Nobody has special pool, and nothing says that it was searched.
    let special = case.record("!poolfind * 2");
    assert_eq!(special["status"], "failed", "{what}: {special}");
    assert!(
        special["messages"].to_string().contains("Special pool could not be searched"),
        "{what}: {special}"
    );
}

fn blocks(case: &Case<'_>) {
    let flags = [0u64, 1, 2, 3, 0x8000_0000];
    for (wanted, flags) in samples(&case.truth["facts"]["pool_blocks"]).zip(flags.iter().cycle()) {
        let data = case.data(&pool(wanted, *flags));
        let blocks = list(&data["blocks"]);
        let hit = blocks.iter().find(|block| block["hit"] == true);
        let hit = hit.unwrap_or_else(|| panic!("{}: {wanted} is not found: {data}", case.what));
        let what = format!("{}: {hit} {wanted}", case.what);
        assert_eq!(number(&hit["address"]), number(&wanted["start"]), "{what}");
        assert_eq!(number(&hit["size"]), number(&wanted["size"]), "{what}");
        assert_eq!(hit["allocated"], wanted["free"] == false, "{what}");
        assert_eq!(hit["place"], wanted["place"], "{what}");
        if wanted["free"] == false {
            assert_eq!(hit["tag"], wanted["tag"], "{what}");
            assert_eq!(data["region"]["kind"], wanted["pool"], "{what}");
        }
        assert!(data.get("corrupt").is_none(), "{what}: {data}");
        assert!(flags & 2 == 0 || blocks.len() == 1, "{what}: flag 2 shows one block");
        assert_eq!(hit.get("owner").is_some(), flags & 0x8000_0000 == 0, "{what}");
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
            list(&found["corrupt"]).iter().any(|wrong| number(&wrong["address"]) == at.0),
            "{generation}: {found}"
        );
    }
}
