//! `!drivers`: images with their sections, pages and dates, the unloaded ones, and what is odd; [`super::kdexts`] asks it
//! in every kind of dump.

use super::every_kind::{Case, list, number};
use super::one_dump::Lab;
use kd_tests::lab::world::Story;
use kd_tests::lab::writer::Kind;
use serde_json::Value;

/// IMAGE_SCN_CNT_CODE and IMAGE_SCN_MEM_EXECUTE.
const CODE: u64 = 0x2000_0020;

pub fn commands() -> Vec<String> {
    ["!drivers", "!drivers 1", "!drivers 2", "!drivers 6"].map(String::from).to_vec()
}

pub fn check(case: &Case<'_>) {
    if case.kind == Kind::HeaderOnly {
        return;
    }
    let mut truth: Vec<(&Value, &Value)> =
        list(&case.truth["modules"]).iter().zip(list(&case.truth["facts"]["drivers"])).collect();
    truth.sort_by_key(|(module, _)| number(&module["base"]));
    for command in commands() {
        let (data, what) = (case.data(&command), format!("{} {command}", case.what));
        let found = list(&data["drivers"]);
        assert_eq!(found.len(), truth.len(), "{what}");
        for (found, (module, facts)) in found.iter().zip(&truth) {
            row(case, found, module, &what);
            sizes(case, found, facts, &what);
            pages(case, &command, found, facts, &what);
        }
        totals(&data["totals"], found, &what);
        unloaded(case, list(&data["unloaded"]), &what);
        assert_eq!(list(&data["suspicious"]).len(), 0, "{what}: {}", data["suspicious"]);
    }
}

fn row(case: &Case<'_>, found: &Value, module: &Value, what: &str) {
    for (key, other) in [("base", "base"), ("size", "size"), ("time_stamp", "time_date_stamp")] {
        assert_eq!(number(&found[key]), module[other], "{what}: {found}");
    }
    assert_eq!(found["image"], module["name"], "{what}: {found}");
    assert_eq!(found["created"], date(number(&module["time_date_stamp"])), "{what}: {found}");
    // Small dumps hold names without folders.
    if case.has_kernel() {
        assert_eq!(found["path"], module["path"], "{what}: {found}");
    }
}

/// Sizes are those of the sections, where the dump holds the headers; small dumps of the laboratory hold one image's.
fn sizes(case: &Case<'_>, found: &Value, facts: &Value, what: &str) {
    let captured = case.has_kernel() || found["image"] == "faultdrv.sys";
    assert_eq!(found["headers"], captured, "{what}: {found}");
    let sections = list(&facts["sections"]);
    for (key, code) in [("code_size", true), ("data_size", false)] {
        let of_kind = |s: &&Value| (number(&s["characteristics"]) & CODE != 0) == code;
        let sum: u64 = sections.iter().filter(of_kind).map(|s| number(&s["size"])).sum();
        match captured {
            true => assert_eq!(number(&found[key]), sum, "{what}: {found}"),
            false => assert!(found[key].is_null(), "{what}: {found}"),
        }
    }
    if what.ends_with('6') && captured {
        let shown = list(&found["sections"]);
        assert_eq!(shown.len(), sections.len(), "{what}: {found}");
        for (found, wanted) in shown.iter().zip(sections) {
            assert_eq!(found["name"], wanted["name"], "{what}");
            for key in ["start", "size", "characteristics"] {
                assert_eq!(number(&found[key]), wanted[key], "{what}: {found}");
            }
        }
    }
}

/// Pages as the page tables and lists have them; small dumps hold neither.
fn pages(case: &Case<'_>, command: &str, found: &Value, facts: &Value, what: &str) {
    let keys: &[&str] = match command {
        "!drivers 1" => &["resident", "standby"],
        "!drivers 2" => &["resident", "standby", "locked", "loader_entry"],
        _ => &[],
    };
    for key in ["resident", "standby", "locked", "loader_entry"] {
        match found.get(key) {
            Some(value) if !case.has_kernel() => assert!(value.is_null(), "{what}: {found}"),
            Some(value) => assert_eq!(number(value), facts[key], "{what} {key}: {found}"),
            None => assert!(!keys.contains(&key), "{what}: no {key} in {found}"),
        }
    }
    if facts["name"] == "faultdrv.sys" {
        assert_eq!(facts["locked"], 1, "{what}: the laboratory locks a page");
    }
}

fn totals(found: &Value, drivers: &[Value], what: &str) {
    let sum =
        |key: &str| -> u64 { drivers.iter().filter(|d| !d[key].is_null()).map(|d| number(&d[key])).sum() };
    assert_eq!(found["drivers"], drivers.len(), "{what}");
    for key in ["code_size", "data_size"] {
        assert_eq!(number(&found[key]), sum(key), "{what}");
    }
    let bare = drivers.iter().filter(|d| d["code_size"].is_null()).map(|d| number(&d["size"])).sum::<u64>();
    assert_eq!(number(&found["size_without_headers"]), bare, "{what}");
}

/// Newest first, and in small dumps as they stand there: without times.
fn unloaded(case: &Case<'_>, found: &[Value], what: &str) {
    let mut wanted: Vec<&Value> = list(&case.truth["unloaded"]).iter().collect();
    if case.has_kernel() {
        wanted.reverse();
    }
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(found["name"], wanted["name"], "{what}");
        assert_eq!(
            (number(&found["start"]), number(&found["end"])),
            (number(&wanted["start"]), number(&wanted["end"])),
            "{what}"
        );
        // Half of the time since the start.
        let time = if case.has_kernel() { "2024-05-17T08:37:37.161Z".into() } else { Value::Null };
        assert_eq!(found["unloaded"], time, "{what}: {found}");
    }
}

/// A link stamp as JSON has it, by counting days.
fn date(stamp: u64) -> String {
    let (mut days, rest) = (stamp / 86_400, stamp % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut month) = (1970, 0);
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hours, minutes, seconds) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year}-{:02}-{:02}T{hours:02}:{minutes:02}:{seconds:02}.000Z", month + 1, days + 1)
}

/// Images that overlap, headers that contradict the list, a stamp that is no date, a user's folder.
#[test]
fn odd_drivers_are_named() {
    for name in ["x64-26100", "x86-19041", "arm64-22000"] {
        let lab = Lab::new(name, Story::Hostile);
        let answer = lab.answer(Kind::BitmapKernel, "!drivers");
        let odd = &lab.facts["odd_drivers"];
        let next = lab.world.image("faultdrv.sys").base;
        let next = match name {
            "x86-19041" => format!("{next:08x}"),
            _ => format!("{:08x}`{:08x}", next >> 32, next as u32),
        };
        let hal = lab.world.image("hal.dll").size;
        let wanted = [
            format!("Ntfs.sys and faultdrv.sys overlap at {next}"),
            format!(
                "hal.dll: its header says {:x} bytes, the module list {hal:x}",
                number(&odd["header"][1])
            ),
            format!("Ntfs.sys: loaded from {}", odd["folder"].as_str().unwrap()),
        ];
        let found: Vec<&str> =
            list(&answer["data"]["suspicious"]).iter().map(|t| t.as_str().unwrap()).collect();
        assert_eq!(found, wanted, "{name}");
        let drivers = list(&answer["data"]["drivers"]);
        let ntfs = drivers.iter().find(|d| d["image"] == "Ntfs.sys").unwrap();
        assert_eq!(number(&ntfs["time_stamp"]), odd["stamp"], "{name}");
        assert!(ntfs["created"].is_null(), "{name}: a hash is no date");
        let text = lab.run(Kind::BitmapKernel, "!drivers", false).stdout;
        assert!(text.contains("***** Invalid (C9C03000)"), "{text}");
    }
}
