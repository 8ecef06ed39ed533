//! The commands of `kdexts` and `!drivers` on every kind of dump of every generation, one run a dump: what is true of
//! each command stands in its own file.

use super::every_kind::{Case, every_kind};
use super::{drivers, io_objects, locks, timers};
use kd_tests::lab::world::Story;
use kd_tests::lab::writer::Kind;
use serde_json::Value;

const NO_ERRORS: &str = "!errlog";
const CODE: &str = "!error c0000005";

fn commands(truth: &Value) -> Vec<String> {
    let others = [NO_ERRORS, CODE].map(String::from).to_vec();
    [locks::commands(truth), io_objects::commands(truth), timers::commands(), drivers::commands(), others]
        .concat()
}

#[test]
fn every_command_in_every_kind_of_dump() {
    every_kind(|_| Story::Deadlock, commands, check);
}

fn check(case: &Case<'_>) {
    drivers::check(case);
    // Codes are in no dump.
    assert_eq!(case.data(CODE)["name"], "STATUS_ACCESS_VIOLATION", "{}", case.what);
    if case.has_kernel() {
        locks::check(case);
        io_objects::check(case);
        timers::check(case);
        let log = case.data(NO_ERRORS);
        assert_eq!((&log["count"], &log["complete"]), (&0.into(), &true.into()), "{}", case.what);
        return;
    }
    for command in commands(case.truth) {
        // What the dump holds of drivers is shown. The head of the error log can be there, and lead to itself.
        let held = command.starts_with("!drivers") && case.kind == Kind::Triage;
        let empty = command == NO_ERRORS && case.record(&command)["data"]["complete"] == true;
        if !held && !empty && command != CODE {
            absent(case, &command);
        }
    }
}

/// A command that says that what it needs is not captured, and claims nothing.
fn absent(case: &Case<'_>, command: &str) {
    let answer = case.record(command);
    let (what, text) = (format!("{} {command}", case.what), answer.to_string());
    // Numbers of processors are known without their queues.
    if text.contains("no such processor") {
        return;
    }
    assert!(answer["status"] == "failed" || answer["data"]["complete"] == false, "{what}: {text}");
    assert!(text.contains("not captured"), "{what}: {text}");
    assert!(case.kind == Kind::Triage || answer["status"] == "failed", "{what}: {text}");
}
