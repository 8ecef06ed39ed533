//! `!timer` and `!dpcs`: every timer with what happens then, every call that waited; [`super::kdexts`] asks them in every
//! kind of dump.

use super::every_kind::{Case, list, number, numbers};
use super::one_dump::Lab;
use kd_tests::lab::world::Story;
use kd_tests::lab::writer::Kind;
use serde_json::Value;

pub fn commands() -> Vec<String> {
    ["!timer", "!dpcs", "!dpcs 1", "!dpcs ffffffff", "!dpcs 0n3"].map(String::from).to_vec()
}

pub fn check(case: &Case<'_>) {
    let facts = &case.truth["facts"];
    timers(case, list(&facts["timers"]));
    for command in ["!dpcs ffffffff", "!dpcs 0n3"] {
        let text = case.said(command);
        assert!(text.contains("no such processor: this dump knows 3"), "{}: {text}", case.what);
    }
    calls(case, list(&facts["dpcs"]));
}

/// The timers with their deferred calls, hidden ones too, and the threads that wait for them.
fn timers(case: &Case<'_>, truth: &[Value]) {
    let (data, what) = (case.data("!timer"), &case.what);
    assert_eq!(
        (number(&data["interrupt_time"]), &data["overdue"]),
        (number(&case.truth["up_time"]), &0.into()),
        "{what}"
    );
    assert_eq!(data["system_time"], "2024-05-17T10:20:30.000Z", "{what}");
    assert_eq!(
        (&data["count"], &data["complete"]),
        (&truth.len().into(), &true.into()),
        "{what}: {}",
        data["problems"]
    );
    let found = list(&data["timers"]);
    assert!(found.len() == truth.len() && truth.len() > 5, "{what}: {} of {}", found.len(), truth.len());
    let routine = &case.truth["facts"]["timer_routine"];
    for wanted in truth {
        let found = found.iter().find(|t| number(&t["timer"]) == wanted["timer"]);
        let found = found.unwrap_or_else(|| panic!("{what}: {wanted}"));
        assert_eq!((&found["due"], &found["slot"]), (&wanted["due"], &wanted["slot"]), "{what}: {found}");
        assert_eq!(found["period"], wanted["period"], "{what}: {found}");
        // The system's one table is no processor's.
        assert_eq!(found["processor"], wanted["table_of"], "{what}: {found}");
        let past = number(&wanted["due_system_time"]) - number(&case.truth["system_time"]);
        assert_eq!(found["fire_time"], clock(past), "{what}: {found}");
        let call = if found["dpc"].is_null() { Value::Null } else { number(&found["dpc"]).into() };
        assert_eq!(call, wanted["dpc"], "{what}: {found}");
        if !call.is_null() {
            assert_eq!(number(&found["routine"]), *routine, "{what}: {found}");
            assert_eq!(found["symbol"], "faultdrv!TimerDpc", "{what}: {found}");
        }
        assert_eq!(numbers(&found["threads"]), waiters(case, &wanted["timer"]), "{what}: {found}");
    }
    assert_eq!(list(&data["problems"]).len(), 0, "{what}: {}", data["problems"]);
}

/// The time of day so many units of 100 ns after the crash, at 10:20:30.
fn clock(past: u64) -> String {
    let (seconds, milliseconds) = (30 + past / 10_000_000, past / 10_000 % 1000);
    format!("2024-05-17T10:{:02}:{:02}.{milliseconds:03}Z", 20 + seconds / 60, seconds % 60)
}

/// The threads that wait for a timer, in the order in which they came: for one that they set themselves, or for an object.
fn waiters(case: &Case<'_>, timer: &Value) -> Vec<u64> {
    let waits = list(&case.truth["facts"]["waits"]).iter();
    let own = case.generation.at("_KTHREAD.Timer");
    let waits = waits.filter(|wait| {
        let sleeps = !wait["due"].is_null() && number(&wait["thread"]) + own == *timer;
        sleeps || list(&wait["objects"]).iter().any(|o| o["object"] == *timer)
    });
    waits.map(|wait| number(&wait["thread"])).collect()
}

/// The deferred calls of every processor.
fn calls(case: &Case<'_>, truth: &[Value]) {
    let (data, what) = (case.data("!dpcs"), &case.what);
    let processors = list(&data["processors"]);
    let prcbs: Vec<u64> = processors.iter().map(|p| number(&p["prcb"])).collect();
    let wanted: Vec<u64> = list(&case.truth["processors"]).iter().map(|p| number(&p["prcb"])).collect();
    assert_eq!(prcbs, wanted, "{what}");
    assert_eq!((&data["count"], &data["complete"]), (&truth.len().into(), &true.into()), "{what}: {data}");
    assert!(truth.len() > 2, "{what}: the laboratory has calls");
    for processor in processors {
        let wanted: Vec<&Value> = truth.iter().filter(|c| c["processor"] == processor["processor"]).collect();
        let queued = list(&processor["queued"]);
        assert_eq!(queued.len(), wanted.len(), "{what}: {processor}");
        assert_eq!(processor["active"], !wanted.is_empty(), "{what}: {processor}");
        for (found, wanted) in queued.iter().zip(&wanted) {
            let kind = if wanted["threaded"] == true { "Threaded" } else { "Normal" };
            for name in ["dpc", "routine", "context"] {
                assert_eq!(number(&found[name]), wanted[name], "{what}: {found}");
            }
            assert_eq!(
                (&found["symbol"], &found["type"]),
                (&"faultdrv!TimerDpc".into(), &kind.into()),
                "{what}: {found}"
            );
        }
        if processor["processor"] == 1 {
            let one = case.data("!dpcs 1");
            assert_eq!(
                (list(&one["processors"]), &one["count"]),
                (&[processor.clone()][..], &queued.len().into()),
                "{what}"
            );
        }
    }
}

/// Of what a small dump lacks the whole is said in few lines.
#[test]
fn absent_tables_are_told_by_the_processor() {
    let lab = Lab::new("x64-19041", Story::CrashInDriver);
    let run = lab.run(Kind::Triage, "!timer; !dpcs; !dpcs 0", false);
    for line in [
        "*** processor 1, 512 of 512 slots cannot be read: not captured in this dump",
        "No timer could be read.",
        "No deferred calls wait in what could be read of the queues.",
        "No deferred calls wait.",
    ] {
        assert!(run.stdout.lines().any(|l| l == line), "{line}:\n{}", run.stdout);
    }
}
