//! `!memusage`, `!pfn`, `!ca`, `!search`: states, owners and frames of every generation.

use crate::memory_reports::{REPORTS, list, number, samples};
use crate::program::{arg, kd};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use serde_json::Value;
use std::time::{Duration, Instant};

/// States of the facts; those that a frame can be in.
const STATES: [&str; 8] =
    ["Zeroed", "Free", "Standby", "Modified", "ModifiedNoWrite", "Bad", "Active", "Transition"];

#[test]
fn states_are_counted() {
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        for command in ["!memusage", "!memusage 8"] {
            let data = report.data(command);
            let found = |state: &str| {
                number(&list(&data["states"]).find(|row| row["state"] == state).unwrap()["pages"])
            };
            let pages = &report.truth["facts"]["pages"];
            for state in STATES {
                assert_eq!(found(state), number(&pages[state]), "{} {command} {state}", report.what);
            }
            let sum: u64 = STATES.iter().map(|state| number(&pages[state])).sum();
            assert_eq!(number(&data["total"]["pages"]), sum, "{} {command}", report.what);
            assert_eq!(data["complete"], true, "{}", report.what);
        }
        assert!(report.data("!memusage 8").get("usage").is_none(), "{}", report.what);
    }
}

#[test]
fn files_have_their_frames() {
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        let data = report.data("!memusage");
        assert_eq!(data["refused"], Value::Array(Vec::new()), "{}", report.what);
        let rows: Vec<&Value> = list(&data["usage"]).collect();
        let kb = |row: &Value, key: &str| number(&row[key]) / 4;
        for section in list(&report.truth["facts"]["sections"]) {
            let row = match section["file"].as_str() {
                Some(file) => {
                    let area = number(&section["control_area"]);
                    let mut found = rows
                        .iter()
                        .filter(|row| row.get("control_area").is_some_and(|at| number(at) == area));
                    let row = found.next().unwrap_or_else(|| panic!("{}: no row of {file}", report.what));
                    assert_eq!(row["path"], file, "{}", report.what);
                    row
                }
                None => rows.iter().find(|row| row["kind"] == "page_file_section").unwrap(),
            };
            let what = format!("{}: {row}", report.what);
            let dirty = number(&section["modified"]) + number(&section["modified_no_write"]);
            for (key, wanted) in [
                ("valid_kb", number(&section["active"])),
                ("standby_kb", number(&section["standby"])),
                ("dirty_kb", dirty),
            ] {
                // Other shared pages may be in the row of those that no file backs.
                let found = kb(row, key);
                assert!(
                    found == wanted || section["file"].is_null() && found > wanted,
                    "{what} {key} {wanted}"
                );
            }
        }
        // Nothing is lost: all frames that are used are in a row.
        let sum: u64 = ["valid_kb", "standby_kb", "dirty_kb", "page_tables_kb"]
            .iter()
            .map(|key| rows.iter().map(|row| kb(row, key)).sum::<u64>())
            .sum();
        let pages = &report.truth["facts"]["pages"];
        let used: u64 = ["Standby", "Modified", "ModifiedNoWrite", "Active", "Transition"]
            .iter()
            .map(|s| number(&pages[s]))
            .sum();
        assert_eq!(sum, used, "{}", report.what);
        let sorted = |row: &Value| {
            ["valid_kb", "standby_kb", "dirty_kb", "page_tables_kb"].iter().map(|k| kb(row, k)).sum::<u64>()
        };
        assert!(rows.iter().map(|row| sorted(row)).is_sorted_by(|a, b| a >= b), "{}", report.what);
    }
}

/// The program's own pages, the windows it manages included, and page tables of every process that lives.
#[test]
fn processes_have_their_frames() {
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        let data = report.data("!memusage");
        let private = &report.truth["facts"]["private_pages"];
        let row = list(&data["usage"]).find(|row| row["name"] == "faultapp.exe").unwrap();
        assert!(number(&row["standby_kb"]) / 4 >= number(&private["standby"]), "{}: {row}", report.what);
        assert!(number(&row["dirty_kb"]) / 4 >= number(&private["modified"]), "{}: {row}", report.what);
        assert_ne!(number(&row["page_tables_kb"]), 0, "{}: {row}", report.what);
        if let Some(windows) = list(&data["usage"]).find(|row| row["kind"] == "awe") {
            assert_eq!(number(&windows["valid_kb"]) / 4, number(&private["windows"]), "{}", report.what);
        }
        let system = list(&data["usage"]).find(|row| row["name"] == "System").unwrap();
        assert_ne!(number(&system["page_tables_kb"]), 0, "{}", report.what);
    }
}

#[test]
fn frames_held_back_are_listed() {
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        let wanted = number(&report.truth["facts"]["pages"]["ModifiedNoWrite"]);
        let held: Vec<&Value> = list(&report.data("!memusage 2")["no_write"]).collect();
        assert_eq!(held.len() as u64, wanted, "{}", report.what);
        let sum: u64 =
            list(&report.data("!memusage 1")["usage"]).map(|row| number(&row["dirty_kb"]) / 4).sum();
        assert_eq!(sum, wanted, "{}", report.what);
        assert!(
            held.iter().all(|frame| frame["path"] == r"\Windows\Fonts\segoeui.ttf"),
            "{}: {held:?}",
            report.what
        );
    }
}

/// The thread that ran is named in its processor's block, and the search tells that address.
#[test]
fn numbers_are_found_in_physical_memory() {
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        let truth = &report.truth;
        let (thread, block) = (number(&truth["thread"]), number(&truth["processors"][0]["prcb"]));
        let found = report.data(&format!("!search {thread:#x}"));
        let hits: Vec<_> = list(&found["hits"]).collect();
        assert!(hits.iter().all(|hit| number(&hit["hit"]) == thread), "{}: {found}", report.what);
        let in_block = |hit: &Value| !hit["va"].is_null() && number(&hit["va"]).wrapping_sub(block) < 0x40;
        assert!(hits.iter().any(|hit| in_block(hit)), "{}: {block:#x} {found}", report.what);
    }
}

#[test]
fn frames_are_what_they_are() {
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        for wanted in samples(&report.truth["facts"]["frames"]) {
            let found = report.data(&format!("!pfn {:#x}", number(&wanted["pfn"])));
            let what = format!("{}: {found} {wanted}", report.what);
            for (key, fact) in [
                ("pfn", "pfn"),
                ("pte", "pte"),
                ("containing", "containing"),
                ("original", "original"),
                ("references", "references"),
            ] {
                assert_eq!(number(&found[key]), number(&wanted[fact]), "{what} {key}");
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
                let section = &report.truth["facts"]["sections"][section as usize];
                if !section["file"].is_null() {
                    assert_eq!(number(&found["control_area"]), number(&section["control_area"]), "{what}");
                }
            }
        }
    }
}

#[test]
fn control_areas_are_shown() {
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        for wanted in list(&report.truth["facts"]["sections"]) {
            let data = report.data(&format!("!ca {:#x}", number(&wanted["control_area"])));
            let found = &data["areas"][0];
            let what = format!("{}: {found}", report.what);
            assert_eq!(number(&found["segment"]), number(&wanted["segment"]), "{what}");
            assert_eq!(found.get("path").and_then(Value::as_str), wanted["file"].as_str(), "{what}");
            assert_eq!(
                list(&found["flag_names"]).any(|flag| flag == "Image"),
                wanted["image"] == true,
                "{what}"
            );
            let parts: Vec<u64> = list(&found["subsections"]).map(|one| number(&one["base"])).collect();
            let bases: Vec<u64> = list(&wanted["subsections"]).map(|one| number(&one["base"])).collect();
            assert_eq!(parts, bases, "{what}");
        }
        let files =
            list(&report.truth["facts"]["sections"]).filter(|section| !section["file"].is_null()).count();
        assert_eq!(list(&report.data("!ca 0")["areas"]).count(), files, "{}", report.what);
    }
}

#[test]
fn dumps_without_memory_say_what_is_missing() {
    for report in REPORTS.iter().filter(|report| !report.has_memory()) {
        let record = report.record("!memusage");
        assert_ne!(record["status"], "ok", "{record}");
        let text = record["messages"].to_string();
        assert!(text.contains("captured") || text.contains("symbol"), "{}: {text}", report.what);
    }
}

/// A broken system: every command ends soon, and says what it refused.
#[test]
fn hostile_systems_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    let (path, store) = (folder.path().join("dump"), folder.path().join("symbols"));
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
        assert!(
            list(&usage["data"]["refused"]).next().is_some(),
            "{generation}: {}",
            usage["data"]["refused"]
        );
    }
}
