//! What the memory commands say of a system of each generation: built once, dumped in several kinds, asked in one run of
//! kd a dump. The modules [`super::vm`], [`super::memusage`] and [`super::pool`] compare it with what is true.

use crate::program::{arg, kd};
use kd_tests::lab::layout::GENERATIONS;
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use serde_json::Value;
use std::sync::LazyLock;

/// One dump and what kd said of it.
pub struct Report {
    /// Generation, story and kind, for messages.
    pub what: String,
    pub story: Story,
    pub kind: Kind,
    /// What is true.
    pub truth: Value,
    records: Vec<Value>,
}

/// Blocks and frames that are asked for one by one, of each dump.
const SAMPLES: usize = 12;

pub static REPORTS: LazyLock<Vec<Report>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let stories = [Story::Leak, Story::MemoryPressure, Story::Idle];
    let mut reports = Vec::new();
    for (number, generation) in GENERATIONS.iter().enumerate() {
        let story = stories[number % stories.len()];
        let world = World::build(Options::of(generation.name, story));
        let store = folder.path().join(generation.name);
        world.write_symbols(&store).unwrap();
        let truth = world.truth();
        let commands = commands(&truth);
        let kinds = if number == 3 {
            &[Kind::BitmapKernel, Kind::Full, Kind::Triage, Kind::HeaderOnly][..]
        } else {
            &[Kind::BitmapKernel, Kind::Full]
        };
        for &kind in kinds {
            let path = folder.path().join("dump");
            writer::write(&world, kind, &path).unwrap();
            let run = kd(["--json", "-z", &arg(&path), "-y", &arg(&store), "-c", &commands]).run();
            reports.push(Report {
                what: format!("{} {story:?} {kind:?}", generation.name),
                story,
                kind,
                truth: truth.clone(),
                records: run.records(),
            });
        }
    }
    reports
});

/// Everything that the tests compare, as one line.
fn commands(truth: &Value) -> String {
    let mut all: Vec<String> = [
        "!vm",
        "!vm 3f",
        "!memusage",
        "!memusage 1",
        "!memusage 2",
        "!memusage 8",
        "!ca 0",
        "!poolused",
        "!poolused 3 Ir*",
    ]
    .map(String::from)
    .to_vec();
    all.extend(
        ["!poolfind Irp", "!poolfind NtfF 1", "!poolfind Nothere", "!poolfind None 1"].map(String::from),
    );
    all.extend(
        samples(&truth["facts"]["pool_blocks"])
            .map(|block| format!("!pool {:#x}", number(&block["start"]) + 5)),
    );
    all.extend(samples(&truth["facts"]["frames"]).map(|frame| format!("!pfn {:#x}", number(&frame["pfn"]))));
    all.extend(
        list(&truth["facts"]["sections"])
            .map(|section| format!("!ca {:#x}", number(&section["control_area"]))),
    );
    all.push(format!("!search {:#x}", number(&truth["thread"])));
    all.push("q".into());
    all.join("; ")
}

/// Some of a list, from all over it.
pub fn samples(of: &Value) -> impl Iterator<Item = &Value> {
    let of = of.as_array().unwrap();
    of.iter().step_by((of.len() / SAMPLES).max(1))
}

/// The members of a list.
pub fn list(of: &Value) -> impl Iterator<Item = &Value> {
    of.as_array().unwrap_or_else(|| panic!("no list: {of}")).iter()
}

/// A number, however it is written.
pub fn number(of: &Value) -> u64 {
    let hexadecimal = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    of.as_u64().or_else(|| of.as_str().and_then(hexadecimal)).unwrap_or_else(|| panic!("no number: {of}"))
}

impl Report {
    /// The record of a command.
    pub fn record(&self, command: &str) -> &Value {
        let found = self.records.iter().find(|record| record["command"] == command);
        found.unwrap_or_else(|| panic!("{}: no record of {command}", self.what))
    }

    /// What a command found; it must have succeeded.
    pub fn data(&self, command: &str) -> &Value {
        let record = self.record(command);
        assert_eq!(record["status"], "ok", "{} {command}: {record}", self.what);
        &record["data"]
    }

    /// Whether the dump holds the kernel's memory.
    pub fn has_memory(&self) -> bool {
        !matches!(self.kind, Kind::Triage | Kind::HeaderOnly)
    }
}
