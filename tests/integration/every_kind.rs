//! The table command × generation × kind of dump: each system is built once, written as every kind of dump its machine has,
//! asked by one run of kd a dump, and what was said is compared with what is true. Rows that fail are told together.

use crate::program::{arg, kd};
use kd_tests::lab::layout::{GENERATIONS, Generation, Machine};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use serde_json::Value;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One dump and what kd said of it.
pub struct Case<'a> {
    pub generation: &'static Generation,
    pub story: Story,
    pub kind: Kind,
    /// Generation, story and kind, for messages.
    pub what: String,
    /// What is true.
    pub truth: &'a Value,
    records: BTreeMap<String, Value>,
}

impl<'a> Case<'a> {
    /// Writes a dump, asks `commands` and keeps the answers.
    pub fn ask(
        world: &World,
        truth: &'a Value,
        kind: Kind,
        folder: &Path,
        store: &Path,
        commands: &[String],
    ) -> Case<'a> {
        let path = folder.join("dump");
        writer::write(world, kind, &path).unwrap();
        let line = format!("{}; q", commands.join("; "));
        let run = kd(["--json", "-z", &arg(&path), "-y", &arg(store), "-c", &line]).run();
        let generation = world.options.generation;
        let what = format!("{} {:?} {kind:?}", generation.name, world.options.story);
        let one = |record: Value| (record["command"].as_str().unwrap_or_default().to_owned(), record);
        Case {
            generation,
            story: world.options.story,
            kind,
            what,
            truth,
            records: run.records().into_iter().map(one).collect(),
        }
    }

    /// The record of a command.
    pub fn record(&self, command: &str) -> &Value {
        self.records.get(command).unwrap_or_else(|| panic!("{}: no record of {command}", self.what))
    }

    /// What a command found; it must have succeeded.
    pub fn data(&self, command: &str) -> &Value {
        let record = self.record(command);
        assert_eq!(record["status"], "ok", "{} {command}: {record}", self.what);
        &record["data"]
    }

    /// What a command said beside its data, as one text.
    pub fn said(&self, command: &str) -> String {
        self.record(command)["messages"].to_string()
    }

    /// The dump holds the kernel's memory.
    pub fn has_kernel(&self) -> bool {
        !matches!(self.kind, Kind::Triage | Kind::HeaderOnly)
    }

    /// The dump holds the memory of programs.
    pub fn has_user(&self) -> bool {
        self.has_kernel() && !self.kind.kernel_only()
    }
}

/// The kinds of dump that a machine has.
pub fn kinds(machine: Machine) -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(move |&kind| machine != Machine::X86 || (kind as u32) < 8)
}

/// Runs `commands` of what is true on every kind of dump of every generation, and `check` on what was said. `story` is
/// told the number of the generation.
pub fn every_kind(
    story: impl Fn(usize) -> Story + Sync,
    commands: impl Fn(&Value) -> Vec<String> + Sync,
    check: impl Fn(&Case<'_>) + Sync,
) {
    let wanted = GENERATIONS.iter().map(|g| kinds(g.machine).count()).sum();
    Rows::run(GENERATIONS.len(), wanted, |rows, number, folder| {
        let generation = &GENERATIONS[number];
        let world = World::build(Options::of(generation.name, story(number)));
        let store = folder.join(generation.name);
        world.write_symbols(&store).unwrap();
        let truth = world.truth();
        let commands = commands(&truth);
        for kind in kinds(generation.machine) {
            let what = format!("{} {kind:?}", generation.name);
            rows.row(what, || check(&Case::ask(&world, &truth, kind, folder, &store, &commands)));
        }
    });
}

/// The rows of a table: how many were run, and which failed.
#[derive(Default)]
pub struct Rows {
    count: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Rows {
    /// Works on so many systems, on every processor; each is given its number and a folder, and runs its rows by
    /// [`Rows::row`]. There must be `wanted` rows, and those that fail are told together.
    pub fn run(systems: usize, wanted: usize, work: impl Fn(&Rows, usize, &Path) + Sync) {
        let (rows, next) = (Rows::default(), AtomicUsize::new(0));
        let run = || {
            let folder = tempfile::tempdir().unwrap();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= systems {
                    return;
                }
                work(&rows, number, folder.path());
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
                scope.spawn(run);
            }
        });
        let (count, failed) = (rows.count.into_inner(), rows.failed.into_inner().unwrap());
        assert!(failed.is_empty(), "{} of {count} rows:\n{}", failed.len(), failed.join("\n"));
        assert_eq!(count, wanted);
    }

    /// Runs a row and keeps its name if it fails.
    pub fn row(&self, what: String, row: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(row)).is_err() {
            self.failed.lock().unwrap().push(what);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// A number of the truth, or an address or number of kd's JSON.
pub fn number(value: &Value) -> u64 {
    let hexadecimal = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let found = value.as_u64().or_else(|| value.as_str().and_then(hexadecimal));
    found.unwrap_or_else(|| panic!("no number: {value}"))
}

/// The members of a list; of what is no list none.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The numbers of a list.
pub fn numbers(value: &Value) -> Vec<u64> {
    list(value).iter().map(number).collect()
}
