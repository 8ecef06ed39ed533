//! `!vm`: counters, page files, processes and warnings of every generation.

use crate::memory_reports::{REPORTS, list, number};
use crate::program::{arg, kd};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use serde_json::Value;

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

#[test]
fn counters_are_what_they_are() {
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        let (data, facts) = (report.data("!vm"), &report.truth["facts"]["counters"]);
        let mut compared = 0;
        for (fact, key) in ROWS {
            let Some(wanted) = facts.get(fact) else { continue };
            assert_eq!(data[key]["pages"], *wanted, "{} {key}", report.what);
            assert_eq!(number(&data[key]["kb"]), number(wanted) * 4, "{} {key}", report.what);
            compared += 1;
        }
        assert!(compared >= 15, "{}: {compared} counters", report.what);
        for fact in ["MmTotalFreeSystemPtes", "TotalFreeSystemPtes"] {
            if let Some(wanted) = facts.get(fact) {
                assert_eq!(data["free_system_ptes"], *wanted, "{}", report.what);
            }
        }
        let pages = &report.truth["facts"]["pages"];
        for (state, key) in
            [("Modified", "modified_pages"), ("Standby", "standby_pages"), ("Free", "free_pages")]
        {
            assert_eq!(data[key]["pages"], pages[state], "{} {key}", report.what);
        }
    }
}

#[test]
fn page_files_are_what_they_are() {
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        let found: Vec<&Value> = list(&report.data("!vm")["page_files"]).collect();
        let wanted: Vec<&Value> = list(&report.truth["facts"]["page_files"]).collect();
        assert_eq!(found.len(), wanted.len(), "{}", report.what);
        for (found, wanted) in found.into_iter().zip(wanted) {
            assert_eq!(found["name"], wanted["name"], "{}", report.what);
            assert_eq!(found["swap"], wanted["swap"], "{}", report.what);
            assert_eq!(number(&found["address"]), number(&wanted["address"]), "{}", report.what);
            for (key, fact) in [
                ("current_kb", "size"),
                ("minimum_kb", "minimum"),
                ("maximum_kb", "maximum"),
                ("free_kb", "free"),
                ("peak_kb", "peak"),
            ] {
                assert_eq!(number(&found[key]), number(&wanted[fact]) * 4, "{} {key}", report.what);
            }
        }
    }
}

#[test]
fn processes_come_largest_first() {
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        let rows: Vec<&Value> = list(&report.data("!vm")["processes"]).collect();
        let pages: Vec<u64> = rows.iter().map(|row| number(&row["pages"])).collect();
        assert!(pages.is_sorted_by(|a, b| a >= b), "{}: {pages:?}", report.what);
        assert_eq!(
            number(&report.data("!vm")["total_private"]["pages"]),
            pages.iter().sum::<u64>(),
            "{}",
            report.what
        );
        let mut found: Vec<u64> = rows.iter().map(|row| number(&row["pid"])).collect();
        let listed = list(&report.truth["processes"]).filter(|process| number(&process["id"]) != 0);
        let mut wanted: Vec<u64> = listed.map(|process| number(&process["id"])).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{}", report.what);
    }
}

#[test]
fn warnings_say_which_limit_is_near() {
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        let about: Vec<&str> =
            list(&report.data("!vm")["warnings"]).map(|w| w["about"].as_str().unwrap()).collect();
        let wanted: &[&str] = match report.story {
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
        assert_eq!(about, wanted, "{}", report.what);
    }
}

/// The balance set manager waits in every system.
#[test]
fn threads_of_the_memory_manager_are_shown() {
    let mut seen = 0;
    for report in REPORTS.iter().filter(|report| report.has_memory()) {
        let data = report.data("!vm 3f");
        let why: Vec<&str> = list(&data["threads"]).map(|thread| thread["why"].as_str().unwrap()).collect();
        seen += usize::from(why.iter().any(|why| why.starts_with("KeBalanceSetManager")));
        assert!(data.get("processes").is_none(), "{}: flag 1 leaves out processes", report.what);
    }
    assert!(seen >= 8, "in {seen} dumps");
}

#[test]
fn dumps_without_memory_say_what_is_missing() {
    for report in REPORTS.iter().filter(|report| !report.has_memory()) {
        let record = report.record("!vm").to_string();
        assert!(record.contains("captured") || record.contains("symbol"), "{}: {record}", report.what);
    }
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
