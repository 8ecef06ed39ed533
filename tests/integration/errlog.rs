//! `!errlog` on every generation: what was logged and not yet written. Broken lists are tried with those of `!locks`.

use super::every_kind::{Case, every_kind, list, number, numbers};
use super::one_dump::{Lab, shown};
use kd_tests::lab::world::Story;
use kd_tests::lab::writer::Kind;
use serde_json::Value;

/// A number of the truth, or null for zero.
fn same(found: &Value, wanted: &Value) -> bool {
    if wanted == 0 { found.is_null() } else { number(found) == wanted.as_u64().unwrap() }
}

#[test]
fn entries_are_those_that_were_logged() {
    every_kind(|_| Story::ErrorLog, |truth| vec!["!errlog".into(), last(truth)], check);
}

/// One entry by its address.
fn last(truth: &Value) -> String {
    format!("!errlog {:#x}", number(&list(&truth["facts"]["error_log"]).last().unwrap()["entry"]))
}

fn check(case: &Case<'_>) {
    let what = &case.what;
    let wanted = list(&case.truth["facts"]["error_log"]);
    if !case.has_kernel() {
        // The head of the list may be there without the rest.
        let answer = case.record("!errlog");
        assert!(answer["status"] == "failed" || answer["data"]["complete"] == false, "{what}: {answer}");
        let text = answer.to_string();
        assert!(text.contains("not captured"), "{what}: {text}");
        return;
    }
    let data = case.data("!errlog");
    let found = list(&data["entries"]);
    assert_eq!(found.len(), wanted.len(), "{what}");
    assert_eq!((&data["count"], &data["complete"]), (&wanted.len().into(), &true.into()), "{what}");
    for (found, wanted) in found.iter().zip(wanted) {
        compare(found, wanted, what);
    }
    assert_eq!(list(&case.data(&last(case.truth))["entries"]), &found[found.len() - 1..], "{what}");
}

fn compare(found: &Value, wanted: &Value, what: &str) {
    assert_eq!(number(&found["entry"]), wanted["entry"], "{what}");
    assert!(same(&found["device"], &wanted["device"]), "{what}: {found}");
    if wanted["device"] != 0 {
        assert_eq!(found["device_name"], r"\Device\Sensor0", "{what}");
    }
    assert_eq!(found["driver_name"], wanted["driver_name"], "{what}: {found}");
    assert!(same(&found["driver"], &wanted["driver"]), "{what}: {found}");
    let ours = wanted["driver_name"] == r"\Driver\faultdrv";
    assert_eq!(found["image"], if ours { "faultdrv.sys".into() } else { Value::Null }, "{what}: {found}");
    assert_eq!(number(&found["error_code"]), wanted["code"], "{what}");
    assert_eq!(found["event_id"], wanted["code"].as_u64().unwrap() & 0xffff, "{what}");
    assert_eq!(number(&found["final_status"]), wanted["status"], "{what}");
    assert_eq!(found["status_name"], "STATUS_IO_DEVICE_ERROR", "{what}");
    assert_eq!(found["sequence"], wanted["sequence"], "{what}");
    assert_eq!(found["major_function"], wanted["major"], "{what}");
    assert_eq!(
        (&found["retry_count"], &found["category"]),
        (&wanted["retries"], &wanted["category"]),
        "{what}"
    );
    assert_eq!(number(&found["io_control_code"]), wanted["io_control_code"], "{what}");
    assert_eq!(number(&found["device_offset"]), wanted["device_offset"], "{what}");
    assert_eq!(number(&found["unique_error"]), wanted["unique"], "{what}");
    assert_eq!(found["strings"], wanted["strings"], "{what}");
    let words: Vec<u64> = wanted["data"].as_array().unwrap().iter().map(|w| w.as_u64().unwrap()).collect();
    assert_eq!(numbers(&found["dump_data"]), words, "{what}");
    assert!(found["time"].as_str().unwrap().starts_with("2024-05-17T10:20:"), "{what}: {found}");
    assert_eq!(found["problems"].as_array().unwrap().len(), 0, "{what}: {found}");
}

#[test]
fn what_people_see() {
    let lab = Lab::new("x64-19041", Story::ErrorLog);
    let text = lab.run(Kind::BitmapKernel, "!errlog", false).stdout;
    let wanted = r#"
Entry E  Fri May 17 10:20:20.000 2024 (UTC + 0:00)
    Driver        B  \Driver\faultdrv  (faultdrv.sys)
    Device        C  \Device\Sensor0
    Error         c0040002  event 2  IO_ERR_INSUFFICIENT_RESOURCES: the driver got no memory or other resource it needs
    Final status  c0000185  STATUS_IO_DEVICE_ERROR: the device reported an I/O error
    Request       IRP_MJ_WRITE (4), 2 retries, sequence 3, unique value 20
    Device offset 400
    Data          d00d0000 d00d0001
    Strings       "\Device\Sensor0"
                  "channel 7"
"#;
    let found = shown(&text, "I/O errors");
    assert!(found.starts_with("I/O errors not yet in the event log, oldest first:\n\nEntry A"), "{found}");
    assert!(found.contains(wanted), "{found}");
    assert!(found.ends_with("\n12 entries\n"), "{found}");
}

#[test]
fn no_entries_are_said_plainly() {
    let lab = Lab::new("x64-9600", Story::Idle);
    let run = lab.run(Kind::BitmapKernel, "!errlog", false);
    assert_eq!(run.status, 0);
    assert!(run.stdout.contains("No entries: every logged I/O error"), "{}", run.stdout);
}
