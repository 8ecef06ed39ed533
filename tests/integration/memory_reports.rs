//! What the memory commands say of every kind of dump of every generation, in one run of kd a dump. The modules
//! [`super::vm`], [`super::memusage`] and [`super::pool`] name the commands and compare the answers with what is true.

use super::every_kind::{Case, every_kind, list};
use super::{memusage, pool, vm};
use kd_tests::lab::world::Story;
use serde_json::Value;

const STORIES: [Story; 3] = [Story::Leak, Story::MemoryPressure, Story::Idle];

/// Blocks and frames that are asked for one by one, of each dump.
const SAMPLES: usize = 12;

#[test]
fn memory_is_what_it_is() {
    let commands =
        |truth: &Value| [vm::commands(), memusage::commands(truth), pool::commands(truth)].concat();
    every_kind(
        |number| STORIES[number % STORIES.len()],
        commands,
        |case| {
            vm::check(case);
            memusage::check(case);
            pool::check(case);
        },
    );
}

/// Some of a list, from all over it.
pub fn samples(of: &Value) -> impl Iterator<Item = &Value> {
    let of = list(of);
    of.iter().step_by((of.len() / SAMPLES).max(1))
}

/// The dump holds neither the kernel's memory nor anything these commands read: each fails, and says which of the four
/// reasons it is.
pub fn says_it_is_not_captured(case: &Case<'_>, command: &str) {
    let record = case.record(command);
    assert_ne!(record["status"], "ok", "{} {command}: {record}", case.what);
    let text = record["messages"].to_string();
    assert!(text.contains("captured in this dump"), "{} {command}: {text}", case.what);
}
