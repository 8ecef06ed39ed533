//! `!memusage`, `!pfn`, `!ca`, `!search`: states, owners and frames, of every kind of dump; run by
//! [`super::memory_reports`].

use super::every_kind::{Case, list, number};
use super::memory_reports::{samples, says_it_is_not_captured};
use crate::program::{arg, kd};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use serde_json::Value;
use std::time::{Duration, Instant};

/// States of the facts; those that a frame can be in.
const STATES: [&str; 8] =
    ["Zeroed", "Free", "Standby", "Modified", "ModifiedNoWrite", "Bad", "Active", "Transition"];

pub fn commands(truth: &Value) -> Vec<String> {
    let facts = &truth["facts"];
    let mut all: Vec<String> = [
        "!memusage",
        "!memusage 0",
        "!memusage 1",
        "!memusage 2",
        "!memusage 8",
        "!memusage 4",
        "!ca 0",
        "!ca -1 1f",
        "!ca 0 48",
        "!ca 0 28",
        "!pfn ffffffffff",
        "!search",
    ]
    .map(String::from)
    .to_vec();
    all.extend(samples(&facts["frames"]).map(|frame| format!("!pfn {:#x}", number(&frame["pfn"]))));
    all.extend(list(&facts["sections"]).iter().map(ca));
    all.extend(searches(truth));
    all
}

fn ca(section: &Value) -> String {
    format!("!ca {:#x} 7", number(&section["control_area"]))
}

/// Everywhere, within a distance, as numbers of 32 bits, and only in the page of the processor's block.
fn searches(truth: &Value) -> [String; 4] {
    let thread = number(&truth["thread"]);
    let low = thread & 0xffff_ffff;
    [
        format!("!search {thread:#x}"),
        format!("!search {:#x} 8", thread - 5),
        format!("!search -p {low:#x}"),
        format!("!search {thread:#x} 0 0 1"),
    ]
}

pub fn check(case: &Case<'_>) {
    let record = case.record("!memusage 4");
    assert_ne!(record["status"], "ok", "{}: {record}", case.what);
    if case.has_kernel() {
        states(case);
        files(case);
        owners(case);
        held_back(case);
        frames(case);
        control_areas(case);
        return searched(case);
    }
    for command in commands(case.truth) {
        // The row needs physical memory, and the host says that there is none.
        if !command.starts_with("!search") && command != "!memusage 4" {
            says_it_is_not_captured(case, &command);
        }
    }
    for command in searches(case.truth) {
        let record = case.record(&command);
        assert_ne!(record["status"], "ok", "{}: {record}", case.what);
        assert!(record["messages"].to_string().contains("physical memory"), "{}: {record}", case.what);
    }
}

fn states(case: &Case<'_>) {
    for command in ["!memusage", "!memusage 0", "!memusage 1", "!memusage 2", "!memusage 8"] {
        let (data, what) = (case.data(command), &case.what);
        let found = |state: &str| {
            number(&list(&data["states"]).iter().find(|row| row["state"] == state).unwrap()["pages"])
        };
        let pages = &case.truth["facts"]["pages"];
        for state in STATES {
            assert_eq!(found(state), number(&pages[state]), "{what} {command} {state}");
        }
        let sum: u64 = STATES.iter().map(|state| number(&pages[state])).sum();
        assert_eq!(number(&data["total"]["pages"]), sum, "{what} {command}");
        assert_eq!(data["complete"], true, "{what}");
        let table = matches!(command, "!memusage" | "!memusage 0" | "!memusage 1");
        assert_eq!(data.get("usage").is_some(), table, "{what} {command}");
    }
}

const COLUMNS: [&str; 4] = ["valid_kb", "standby_kb", "dirty_kb", "page_tables_kb"];

fn pages(row: &Value, key: &str) -> u64 {
    number(&row[key]) / 4
}

/// Every file has its row and every used frame is in one.
fn files(case: &Case<'_>) {
    let (data, what) = (case.data("!memusage"), &case.what);
    assert_eq!(data["refused"], Value::Array(Vec::new()), "{what}");
    let rows = list(&data["usage"]);
    for section in list(&case.truth["facts"]["sections"]) {
        let area = number(&section["control_area"]);
        let of_area = |row: &&Value| row.get("control_area").is_some_and(|at| number(at) == area);
        let row = match section["file"].as_str() {
            Some(file) => {
                let row = rows.iter().find(of_area).unwrap_or_else(|| panic!("{what}: no row of {file}"));
                assert_eq!(row["path"], file, "{what}");
                row
            }
            None => rows.iter().find(|row| row["kind"] == "page_file_section").unwrap(),
        };
        let dirty = number(&section["modified"]) + number(&section["modified_no_write"]);
        for (key, wanted) in [
            ("valid_kb", number(&section["active"])),
            ("standby_kb", number(&section["standby"])),
            ("dirty_kb", dirty),
        ] {
            // Other shared pages may be in the row of those that no file backs.
            let found = pages(row, key);
            let more = section["file"].is_null() && found > wanted;
            assert!(found == wanted || more, "{what}: {row} {key} {wanted}");
        }
    }
    let sum = |row: &Value| COLUMNS.iter().map(|key| pages(row, key)).sum::<u64>();
    let counts = &case.truth["facts"]["pages"];
    let used = ["Standby", "Modified", "ModifiedNoWrite", "Active", "Transition"];
    let used: u64 = used.iter().map(|state| number(&counts[state])).sum();
    assert_eq!(rows.iter().map(sum).sum::<u64>(), used, "{what}");
    assert!(rows.iter().map(sum).is_sorted_by(|a, b| a >= b), "{what}");
}

/// Processes have the frames that their page tables lead to, pools those at their addresses.
fn owners(case: &Case<'_>) {
    let (rows, what) = (list(&case.data("!memusage")["usage"]), &case.what);
    let same = |row: &Value, fact: &Value, what: &str| {
        for (key, fact_key) in COLUMNS.iter().zip(["valid", "standby", "dirty", "tables"]) {
            assert_eq!(pages(row, key), number(&fact[fact_key]), "{what} {key}: {row} {fact}");
        }
    };
    let facts = list(&case.truth["facts"]["process_frames"]);
    for fact in facts {
        let of_it = |row: &&Value| row.get("process").is_some_and(|at| number(at) == fact["process"]);
        let row = rows.iter().find(of_it).unwrap_or_else(|| panic!("{what}: no row of {fact}"));
        same(row, fact, what);
    }
    let processes = rows.iter().filter(|row| row["kind"] == "process").count();
    assert_eq!(processes, facts.len(), "{what}");
    for (name, fact) in case.truth["facts"]["pool_frames"].as_object().unwrap() {
        let row = rows.iter().find(|row| row["kind"] == "pool" && row["name"] == name.as_str());
        same(row.unwrap_or_else(|| panic!("{what}: no row of {name}")), fact, what);
    }
    let windows = rows.iter().find(|row| row["kind"] == "awe").map_or(0, |row| pages(row, "valid_kb"));
    if case.generation.find("_MMPFN.u4.AweAllocation").is_some() {
        assert_eq!(windows, number(&case.truth["facts"]["private_pages"]["windows"]), "{what}");
    }
}

fn held_back(case: &Case<'_>) {
    let wanted = number(&case.truth["facts"]["pages"]["ModifiedNoWrite"]);
    let held = list(&case.data("!memusage 2")["no_write"]);
    assert_eq!(held.len() as u64, wanted, "{}", case.what);
    let rows = list(&case.data("!memusage 1")["usage"]);
    assert_eq!(rows.iter().map(|row| pages(row, "dirty_kb")).sum::<u64>(), wanted, "{}", case.what);
    let font = |row: &Value| row["path"] == r"\Windows\Fonts\segoeui.ttf";
    assert!(held.iter().chain(rows).all(font), "{}: {held:?} {rows:?}", case.what);
}

fn frames(case: &Case<'_>) {
    for wanted in samples(&case.truth["facts"]["frames"]) {
        let found = case.data(&format!("!pfn {:#x}", number(&wanted["pfn"])));
        let what = format!("{}: {found} {wanted}", case.what);
        for key in ["pfn", "pte", "containing", "original", "references"] {
            assert_eq!(number(&found[key]), number(&wanted[key]), "{what} {key}");
        }
        for key in ["state", "modified", "prototype"] {
            assert_eq!(found[key], wanted[key], "{what} {key}");
        }
        if matches!(wanted["state"].as_str(), Some("Active" | "Transition")) {
            assert_eq!(found["share_count"], wanted["share"], "{what}");
        }
        if let Some(priority) = found.get("priority") {
            assert_eq!(*priority, wanted["priority"], "{what}");
        }
        if let Some(section) = wanted["section"].as_u64() {
            let section = &case.truth["facts"]["sections"][section as usize];
            if !section["file"].is_null() {
                assert_eq!(number(&found["control_area"]), number(&section["control_area"]), "{what}");
                assert_eq!(found["path"], section["file"], "{what}");
            }
        }
    }
    let nowhere = case.record("!pfn ffffffffff");
    assert_ne!(nowhere["status"], "ok", "{}: {nowhere}", case.what);
}

fn control_areas(case: &Case<'_>) {
    let sections = list(&case.truth["facts"]["sections"]);
    for wanted in sections {
        let found = &case.data(&ca(wanted))["areas"][0];
        same_area(found, wanted, &format!("{}: {found}", case.what));
    }
    // Frames lead to the control areas of files; what else was mapped has none in memory.
    let chosen = |command: &str, all: &dyn Fn(&Value) -> bool| {
        let areas = list(&case.data(command)["areas"]);
        let mut found: Vec<u64> = areas.iter().map(|area| number(&area["control_area"])).collect();
        let wanted = sections.iter().filter(|section| !section["file"].is_null() && all(section));
        let mut wanted: Vec<u64> = wanted.map(|section| number(&section["control_area"])).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{} {command}", case.what);
    };
    chosen("!ca 0", &|_| true);
    chosen("!ca -1 1f", &|section| section["image"] == false);
    chosen("!ca 0 48", &|section| section["image"] == true);
    chosen("!ca 0 28", &|_| false);
    for area in list(&case.data("!ca 0")["areas"]) {
        let section = sections.iter().find(|one| one["control_area"] == number(&area["control_area"]));
        assert_eq!(area["path"], section.unwrap()["file"], "{}", case.what);
    }
}

fn same_area(found: &Value, wanted: &Value, what: &str) {
    assert_eq!(number(&found["segment"]), number(&wanted["segment"]), "{what}");
    assert_eq!(found.get("path").and_then(Value::as_str), wanted["file"].as_str(), "{what}");
    let flags = list(&found["flag_names"]);
    assert_eq!(flags.iter().any(|flag| flag == "Image"), wanted["image"] == true, "{what}");
    assert_eq!(found["mapped_views"], list(&wanted["views"]).len(), "{what}");
    let states = ["active", "standby", "modified", "modified_no_write"];
    let frames: u64 = states.iter().map(|state| number(&wanted[state])).sum();
    assert_eq!(found["pfn_references"], frames, "{what}");
    let parts: Vec<[u64; 3]> = list(&found["subsections"])
        .iter()
        .map(|one| ["address", "base", "entries"].map(|key| number(&one[key])))
        .collect();
    let wanted_parts: Vec<[u64; 3]> = list(&wanted["subsections"])
        .iter()
        .map(|one| ["subsection", "base", "entries"].map(|key| number(&one[key])))
        .collect();
    assert_eq!(parts, wanted_parts, "{what}");
    let entries: u64 = wanted_parts.iter().map(|part| part[2]).sum();
    assert_eq!(
        (&found["segment_ptes"], &found["segment_size"]),
        (&entries.into(), &(entries << 12).into()),
        "{what}"
    );
}

/// The thread that ran is named in its processor's block, and the search tells that address. How much of the machine's
/// memory it did not see is told as well.
fn searched(case: &Case<'_>) {
    let what = &case.what;
    let (thread, block) = (number(&case.truth["thread"]), number(&case.truth["processors"][0]["prcb"]));
    let [all, near, narrow, nowhere] = searches(case.truth);
    for (command, least, most) in [(all, thread, thread), (near, thread - 13, thread + 3)] {
        let data = case.data(&command);
        let hits = list(&data["hits"]);
        assert!(hits.iter().all(|hit| (least..=most).contains(&number(&hit["hit"]))), "{what}: {data}");
        let in_block = |hit: &Value| !hit["va"].is_null() && number(&hit["va"]).wrapping_sub(block) < 0x40;
        assert!(hits.iter().any(in_block), "{what}: {block:#x} {data}");
        let frames: u64 = STATES.iter().map(|state| number(&case.truth["facts"]["pages"][state])).sum();
        assert_eq!(number(&data["pages"]) + number(&data["not_captured"]), frames, "{what}: {data}");
        assert_eq!(number(&data["not_captured"]) == 0, case.kind.whole_ram(), "{what}: {data}");
    }
    // A number of 32 bits is found wherever it is half of one of 64, and elsewhere.
    let found = |command: &str| number(&case.data(command)["found"]);
    assert!(found(&narrow) >= found(&searches(case.truth)[0]), "{what}");
    assert_eq!(found(&nowhere), 0, "{what}");
}

/// A broken system: every command ends soon, and says what it refused.
#[test]
fn hostile_systems_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    let (path, store) = (folder.path().join("dump"), folder.path().join("symbols"));
    kd_tests::kd_exe(); // building it takes no part of the time
    for generation in ["x86-2600", "x64-9600", "x64-26100"] {
        let world = World::build(Options::of(generation, Story::Hostile));
        writer::write(&world, Kind::BitmapKernel, &path).unwrap();
        world.write_symbols(&store.join(generation)).unwrap();
        let commands =
            ["!vm 3e", "!memusage", "!memusage 2", "!ca 0", "!poolused 2", "!poolfind * 0", "!poolfind * 1"];
        let line = commands.join("; ") + "; q";
        let start = Instant::now();
        let run = kd(["--json", "-z", &arg(&path), "-y", &arg(&store.join(generation)), "-c", &line]).run();
        assert!(start.elapsed() < Duration::from_secs(60), "{generation}: {:?}", start.elapsed());
        let records = run.records();
        for command in commands {
            let record = records.iter().find(|record| record["command"] == command).unwrap();
            assert_eq!(record["status"], "ok", "{generation} {command}: {record}");
        }
        let usage = records.iter().find(|record| record["command"] == "!memusage").unwrap();
        assert!(!list(&usage["data"]["refused"]).is_empty(), "{generation}: {}", usage["data"]["refused"]);
    }
}
