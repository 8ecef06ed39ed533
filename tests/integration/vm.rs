//! `!vm`: counters, page files, processes, warnings and what flags add, of every kind of dump; run by
//! [`super::memory_reports`].

use super::every_kind::{Case, list, number};
use super::memory_reports::says_it_is_not_captured;
use crate::program::{arg, kd};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use serde_json::Value;

pub fn commands() -> Vec<String> {
    ["!vm", "!vm 1", "!vm 3f"].map(String::from).to_vec()
}

pub fn check(case: &Case<'_>) {
    match case.kind {
        Kind::HeaderOnly => {
            return commands().iter().for_each(|command| says_it_is_not_captured(case, command));
        }
        Kind::Triage => return commands().iter().for_each(|command| small(case, command)),
        _ => {}
    }
    for command in commands() {
        counters(case, &command);
        page_files(case, &command);
        warnings(case, &command);
        let data = case.data(&command);
        assert_eq!(data.get("processes").is_some(), command == "!vm", "{} {command}", case.what);
        // Kernels without session spaces have nothing to list.
        let sessions = command == "!vm 3f" && case.generation.find("_MM_SESSION_SPACE").is_some();
        assert_eq!(data.get("sessions").is_some(), sessions, "{} {command}", case.what);
    }
    processes(case);
    sessions(case);
    page_file_writes(case);
    kernel_addresses(case);
    threads(case);
}

/// Counters of the facts, and the rows that show them.
const ROWS: [(&str, &str); 20] = [
    ("MmAvailablePages", "available_pages"),
    ("MmResidentAvailablePages", "resident_available_pages"),
    ("MmTotalCommitLimit", "commit_limit"),
    ("MmTotalCommitLimitMaximum", "commit_limit_maximum"),
    ("MmTotalCommittedPages", "committed_pages"),
    ("MmPeakCommitment", "peak_commitment"),
    ("MmTotalPagesForPagingFile", "modified_page_file_pages"),
    ("MmSharedCommit", "shared_commit"),
    ("MmDriverCommit", "driver_commit"),
    ("MmProcessCommit", "shared_process"),
    ("MmPagedPoolCommit", "paged_pool_commit"),
    ("MmSystemLockPagesCount", "locked_io_pages"),
    ("MmMdlPagesAllocated", "locked_io_pages"),
    ("MaximumNonPagedPoolInPages", "nonpaged_pool_maximum"),
    ("MmAllocatedNonPagedPool", "nonpaged_pool_usage"),
    ("NonPagedPoolCommit", "nonpaged_pool_commit"),
    ("MmSizeOfPagedPoolInPages", "paged_pool_maximum"),
    ("SystemPageTableCommit", "system_page_tables"),
    ("PfnDatabaseCommit", "pfn_array_commit"),
    ("AllocatedPagedPool", "paged_pool_usage"),
];

/// A small dump has a block with seven counters; of every other one is said that it is not captured.
fn small(case: &Case<'_>, command: &str) {
    let (data, facts, what) = (case.data(command), &case.truth["facts"]["counters"], &case.what);
    let held = [
        ("MaximumNonPagedPoolInPages", "nonpaged_pool_maximum"),
        ("MmAllocatedNonPagedPool", "nonpaged_pool_usage"),
        ("MmSizeOfPagedPoolInPages", "paged_pool_maximum"),
        ("AllocatedPagedPool", "paged_pool_usage"),
        ("MmTotalCommittedPages", "committed_pages"),
        ("MmPeakCommitment", "peak_commitment"),
        ("MmTotalCommitLimitMaximum", "commit_limit_maximum"),
    ];
    let mut keys: Vec<&str> =
        held.iter().filter(|(fact, _)| facts.get(*fact).is_some()).map(|held| held.1).collect();
    for (fact, key) in held {
        if let Some(wanted) = facts.get(fact) {
            assert_eq!(data[key]["pages"], *wanted, "{what} {command} {key}");
        }
    }
    let told = data
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, row)| row.get("pages").is_some_and(|pages| !pages.is_null()));
    let mut told: Vec<&str> = told.map(|(key, _)| key.as_str()).collect();
    told.sort_unstable();
    keys.sort_unstable();
    assert_eq!(told, keys, "{what} {command}");
    for key in ["available_pages", "resident_available_pages", "commit_limit"] {
        assert_eq!(data[key], Value::Null, "{what} {command} {key}");
    }
    for key in ["page_files", "processes", "sessions", "threads", "page_file_writes", "kernel_va"] {
        assert_eq!(list(&data[key]).len(), 0, "{what} {command} {key}");
    }
}

/// What a row says, and whether it is there where the fact is.
fn counters(case: &Case<'_>, command: &str) {
    let (data, facts, what) = (case.data(command), &case.truth["facts"]["counters"], &case.what);
    let mut compared = 0;
    for (fact, key) in ROWS {
        let Some(wanted) = facts.get(fact) else { continue };
        assert_eq!(data[key]["pages"], *wanted, "{what} {command} {key}");
        assert_eq!(number(&data[key]["kb"]), number(wanted) * 4, "{what} {command} {key}");
        compared += 1;
    }
    assert!(compared >= 15, "{what}: {compared} counters");
    for fact in ["MmTotalFreeSystemPtes", "TotalFreeSystemPtes"] {
        if let Some(wanted) = facts.get(fact) {
            assert_eq!(data["free_system_ptes"], *wanted, "{what} {command}");
        }
    }
    let pages = &case.truth["facts"]["pages"];
    for (state, key) in [
        ("Modified", "modified_pages"),
        ("ModifiedNoWrite", "modified_no_write_pages"),
        ("Standby", "standby_pages"),
        ("Free", "free_pages"),
        ("Zeroed", "zeroed_pages"),
    ] {
        assert_eq!(data[key]["pages"], pages[state], "{what} {command} {key}");
    }
}

fn page_files(case: &Case<'_>, command: &str) {
    let found = list(&case.data(command)["page_files"]);
    let wanted = list(&case.truth["facts"]["page_files"]);
    assert_eq!(found.len(), wanted.len(), "{} {command}", case.what);
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(found["name"], wanted["name"], "{}", case.what);
        assert_eq!(found["swap"], wanted["swap"], "{}", case.what);
        assert_eq!(number(&found["address"]), number(&wanted["address"]), "{}", case.what);
        for (key, fact) in [
            ("current_kb", "size"),
            ("minimum_kb", "minimum"),
            ("maximum_kb", "maximum"),
            ("free_kb", "free"),
            ("peak_kb", "peak"),
        ] {
            assert_eq!(number(&found[key]), number(&wanted[fact]) * 4, "{} {key}", case.what);
        }
    }
}

fn warnings(case: &Case<'_>, command: &str) {
    let about: Vec<&str> =
        list(&case.data(command)["warnings"]).iter().map(|w| w["about"].as_str().unwrap()).collect();
    let wanted: &[&str] = match case.story {
        Story::Leak => &["nonpaged_pool_usage"],
        Story::MemoryPressure => &[
            "available_pages",
            "resident_available_pages",
            "committed_pages",
            "page_files",
            "free_system_ptes",
        ],
        _ => &[],
    };
    assert_eq!(about, wanted, "{} {command}", case.what);
}

/// Every process of the list with its commitment, largest first.
fn processes(case: &Case<'_>) {
    let (data, what) = (case.data("!vm"), &case.what);
    let rows = list(&data["processes"]);
    let mut found: Vec<u64> = rows.iter().map(|row| number(&row["process"])).collect();
    let listed = list(&case.truth["processes"]).iter().filter(|process| number(&process["id"]) != 0);
    let mut wanted: Vec<u64> = listed.map(|process| number(&process["eprocess"])).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{what}");
    for row in rows {
        let same = |fact: &&Value| fact["process"].as_u64() == Some(number(&row["process"]));
        let Some(fact) = list(&case.truth["facts"]["quota"]).iter().find(same) else { continue };
        assert_eq!(row["pages"], fact["commit"], "{what}: {row}");
    }
    let told = case.generation.find("_EPROCESS.CommitCharge").is_some();
    let pages: Vec<Option<u64>> = rows.iter().map(|row| row["pages"].as_u64()).collect();
    assert!(pages.iter().all(|pages| pages.is_some() == told), "{what}: {pages:?}");
    assert!(pages.is_sorted_by(|a, b| a >= b), "{what}: {pages:?}");
    let total = &data["total_private"]["pages"];
    let sum: u64 = pages.iter().flatten().sum();
    assert_eq!(*total, if told { sum.into() } else { Value::Null }, "{what}");
}

/// Flag 4: each session space that a process belongs to.
fn sessions(case: &Case<'_>) {
    let what = &case.what;
    let found = list(&case.data("!vm 3f")["sessions"]);
    let facts = list(&case.truth["facts"]["sessions"]);
    assert_eq!(found.len(), facts.len(), "{what}");
    for fact in facts {
        let mut found = found.iter().filter(|one| number(&one["address"]) == fact["space"]);
        let found = found.next().unwrap_or_else(|| panic!("{what}: no {fact}"));
        let fields = &fact["fields"];
        assert_eq!(found["session"], fields.get("SessionId").cloned().unwrap_or(Value::Null), "{what}");
        assert_eq!(found["processes"], list(&fact["processes"]).len(), "{what}");
        for (key, fields_of_it) in [
            ("paged_pool", &["PagedPoolInfo.AllocatedPagedPool", "AllocatedPagedPool"][..]),
            ("paged_pool_commit", &["PagedPoolInfo.PagedPoolCommit"]),
            ("nonpaged", &["NonPagablePages"]),
            ("commit", &["CommittedPages"]),
        ] {
            let wanted = fields_of_it.iter().find_map(|name| fields.get(name));
            assert_eq!(found.get(key).map(|row| &row["pages"]), wanted, "{what} {key}: {found}");
        }
    }
}

/// Flag 8: the ring of writes, newest first; kernels without one say so.
fn page_file_writes(case: &Case<'_>) {
    let (data, what) = (case.data("!vm 3f"), &case.what);
    let Some(wanted) = case.truth["facts"].get("page_file_writes") else {
        return assert_eq!(list(&data["page_file_writes"]).len(), 0, "{what}");
    };
    let found = list(&data["page_file_writes"]);
    assert_eq!(found.len(), list(wanted).len(), "{what}");
    for (found, wanted) in found.iter().zip(list(wanted)) {
        for (key, field) in [
            ("time", "CurrentTime"),
            ("status", "Status"),
            ("priority", "Priority"),
            ("available", "AvailablePages"),
            ("modified", "ModifiedPagesTotal"),
            ("page_file", "ModifiedPagefilePages"),
            ("no_write", "ModifiedNoWritePages"),
        ] {
            if key == "time" {
                let seconds = 29 - number(&wanted["ModifiedNoWritePages"]);
                assert_eq!(found[key], format!("2024-05-17T10:20:{seconds:02}.000Z"), "{what}");
            } else {
                assert_eq!(number(&found[key]), number(&wanted[field]), "{what} {key}: {found}");
            }
        }
    }
}

/// Flag 0x20: how many units each type of addresses has, and which are assigned for good.
fn kernel_addresses(case: &Case<'_>) {
    let (data, facts, what) = (case.data("!vm 3f"), &case.truth["facts"], &case.what);
    let pairs = |rows: &Value| -> Vec<(String, u64)> {
        list(rows)
            .iter()
            .map(|row| (row["type"].as_str().unwrap().to_owned(), number(&row["count"])))
            .collect()
    };
    assert_eq!(pairs(&data["kernel_va"]), pairs(&facts["kernel_va"]), "{what}");
    let places = |rows: &Value| -> Vec<(u64, u64)> {
        list(rows).iter().map(|row| (number(&row["base"]), number(&row["size"]))).collect()
    };
    assert_eq!(places(&data["regions"]), places(&facts["assigned_regions"]), "{what}");
}

/// Flags 2 and 0x10: the threads that serve the memory manager wait in every system; nobody owns a working set.
fn threads(case: &Case<'_>) {
    let why = list(&case.data("!vm 3f")["threads"]).iter().map(|thread| thread["why"].as_str().unwrap());
    let mut found: Vec<&str> = why.map(|why| why.split(':').next().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, ["KeBalanceSetManager", "MiModifiedPageWriter"], "{}", case.what);
}

/// The debugger data block tells where old kernels keep their counters; what needs symbols says so.
#[test]
fn counters_are_found_without_symbols() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    for (generation, counted) in [("x64-7601", true), ("x64-19041", false)] {
        let world = World::build(Options::of(generation, Story::Idle));
        writer::write(&world, Kind::BitmapKernel, &path).unwrap();
        let run = kd(["--json", "-z", &arg(&path), "-c", "!vm; !memusage; !poolused; q"]).run();
        let records = run.records();
        let record = |command: &str| records.iter().find(|record| record["command"] == command).unwrap();
        let facts = &world.truth()["facts"]["counters"];
        if counted {
            for (fact, key) in
                [("MmAvailablePages", "available_pages"), ("MmTotalCommittedPages", "committed_pages")]
            {
                assert_eq!(record("!vm")["data"][key]["pages"], facts[fact], "{generation}");
            }
        } else {
            assert_eq!(
                number(&record("!vm")["data"]["physical_memory"]["pages"]),
                number(&facts["MmTotalCommitLimit"]) / 2
            );
        }
        for command in ["!memusage", "!poolused"] {
            let text = record(command).to_string();
            assert!(text.contains("symbol") && text.contains(".sympath"), "{generation} {command}: {text}");
        }
    }
}

/// What people see, line by line.
#[test]
fn rows_read_as_kd_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    let (path, store) = (folder.path().join("dump"), folder.path().join("symbols"));
    let world = World::build(Options::of("x64-7601", Story::MemoryPressure));
    writer::write(&world, Kind::BitmapKernel, &path).unwrap();
    world.write_symbols(&store).unwrap();
    let run = kd(["-z", &arg(&path), "-y", &arg(&store), "-c", "!vm; !memusage 8; q"]).run();
    let facts = &world.truth()["facts"];
    let row = |label: &str, pages: u64| format!("\t{label:<23} {pages:>11} ({:>11} Kb)\n", pages * 4);
    let (counters, pages) = (&facts["counters"], &facts["pages"]);
    for line in [
        "*** Virtual Memory Usage ***\n".to_owned(),
        "\tPage File: \\??\\C:\\pagefile.sys\n".to_owned(),
        row("Available Pages:", number(&counters["MmAvailablePages"])),
        row("Committed pages:", number(&counters["MmTotalCommittedPages"])),
        format!("\t{:<23} {:>11}\n", "Free System PTEs:", number(&counters["TotalFreeSystemPtes"])),
        "\t***** 12 resident available pages: memory cannot be locked any more: see !memusage 8\n".to_owned(),
        " loading PFN database\nloading (100% complete)\n".to_owned(),
        format!(
            "{:>20}: {:>8} ({:>9} kb)\n",
            "Active/Valid",
            number(&pages["Active"]),
            number(&pages["Active"]) * 4
        ),
    ] {
        assert!(run.stdout.contains(&line), "{line:?} is not in\n{}", run.stdout);
    }
}
