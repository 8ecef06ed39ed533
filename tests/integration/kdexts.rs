//! The commands of `kdexts` and `!drivers` on every kind of dump of every generation, one run a dump: what is true of
//! each command stands in its own file.

use super::every_kind::{Case, every_kind};
use super::{drivers, io_objects, locks, timers};
use kd_tests::lab::world::Story;
use kd_tests::lab::writer::Kind;
use serde_json::Value;

fn commands(truth: &Value) -> Vec<String> {
    let all = [locks::commands(truth), io_objects::commands(truth), timers::commands(), drivers::commands()];
    all.concat()
}

#[test]
fn every_command_in_every_kind_of_dump() {
    every_kind(|_| Story::Deadlock, commands, check);
}

fn check(case: &Case<'_>) {
    drivers::check(case);
    if case.has_kernel() {
        locks::check(case);
        io_objects::check(case);
        timers::check(case);
        return;
    }
    for command in commands(case.truth) {
        // What the dump holds of drivers is shown; codes are in no dump.
        if !command.starts_with("!drivers") || case.kind == Kind::HeaderOnly {
            absent(case, &command);
        }
    }
}

/// A command that says that what it needs is not captured, and claims nothing.
fn absent(case: &Case<'_>, command: &str) {
    let answer = case.record(command);
    let (what, text) = (format!("{} {command}", case.what), answer.to_string());
    // Numbers of processors are known without their queues.
    if text.contains("no such processor") || timers::unknown(case, command) && text.contains("symbols") {
        return;
    }
    assert!(answer["status"] == "failed" || answer["data"]["complete"] == false, "{what}: {text}");
    assert!(text.contains("not captured"), "{what}: {text}");
    assert!(case.kind == Kind::Triage || answer["status"] == "failed", "{what}: {text}");
}
