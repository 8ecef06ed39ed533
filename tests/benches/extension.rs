//! The border to extensions: loading a library with the proof of its layouts, and what a call into the host costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test bench stops at the first surprise

mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use kd::extension::loader::Loaded;
use kd::extension::worker::{self, Ended, Main, Work};
use kd::scope::{OpenTarget, Scope};
use kd::symbols::{SymbolPath, Symbols};
use kd::target::Target;
use kd_sdk::output::Event;
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};

/// Reads of one run.
const TIMES: u64 = 100_000;

static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let release = support::build_release(&["-p", "kd-tests", "--example", "reader"]);
    support::library(&release.join("examples"), "reader")
});

fn main() {
    divan::main();
}

/// Reads the file, copies it aside, maps it, proves its layouts, lists its commands, and lets it go.
#[divan::bench]
fn load_and_unload() -> usize {
    let loaded = Loaded::open(&LIBRARY).unwrap();
    assert!(loaded.proved);
    loaded.commands.len()
}

/// A command that does nothing: its thread, its tables, its end.
#[divan::bench]
fn run_empty_command(bencher: Bencher<'_, '_>) {
    reads(bencher, Kind::BitmapKernel, 8, 0);
}

#[divan::bench(args = [Kind::BitmapKernel, Kind::Triage])]
fn read_8_bytes(bencher: Bencher<'_, '_>, kind: Kind) {
    reads(bencher, kind, 8, TIMES);
}

#[divan::bench(args = [Kind::BitmapKernel])]
fn read_4_kib(bencher: Bencher<'_, '_>, kind: Kind) {
    reads(bencher, kind, 4096, TIMES);
}

/// Which of the library's commands, in the order of their names.
const PHYSICAL: u32 = 0;
const READS: u32 = 1;
const THREADS: u32 = 2;

fn reads(bencher: Bencher<'_, '_>, kind: Kind, size: u64, count: u64) {
    let world = World::build(Options::new("x64-19041"));
    let block = world.nt("KdDebuggerDataBlock");
    let va = if size > 8 { block.page() } else { block };
    let bencher = bencher.counter(ItemsCount::new(count.max(1)));
    run(bencher, &world, kind, READS, &format!("{} {size} {count}", va.0));
}

/// All physical memory in pieces of a megabyte: 1 GiB of RAM without contents.
#[divan::bench(args = support::LARGE)]
fn read_physical_gib(bencher: Bencher<'_, '_>, kind: &str) {
    let world = World::build(Options::new("x64-19041"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    support::write_large(&world, kind, 1, &file).unwrap();
    command(bencher.counter(BytesCount::new(1_u64 << 30)), scope(&file, ""), PHYSICAL, "");
}

/// Twelve fields each of a million threads, the type looked up each time.
#[divan::bench]
fn read_threads(bencher: Bencher<'_, '_>) {
    const COUNT: u64 = 1_000_000;
    let world = World::build(Options::of("x64-19041", Story::Idle));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    writer::write(&world, Kind::BitmapKernel, &file).unwrap();
    let store = folder.path().join("symbols");
    world.write_symbols(&store).unwrap();
    let args = format!("{} {COUNT}", world.threads[0].ethread.0);
    command(bencher.counter(ItemsCount::new(COUNT)), scope(&file, store.to_str().unwrap()), THREADS, &args);
}

fn run(bencher: Bencher<'_, '_>, world: &World, kind: Kind, index: u32, args: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    writer::write(world, kind, &file).unwrap();
    command(bencher, scope(&file, ""), index, args);
}

/// What commands look at, with symbols from a store.
fn scope(file: &Path, store: &str) -> Scope {
    let open = OpenTarget {
        number: 0,
        target: Target::open(support::open(file)),
        symbols: Symbols::new(SymbolPath::parse(store)).into(),
    };
    Scope { open: Some(Arc::new(open)), ..Scope::default() }
}

fn command(bencher: Bencher<'_, '_>, scope: Scope, index: u32, args: &str) {
    let extension = Arc::new(Loaded::open(&LIBRARY).unwrap());
    bencher.bench_local(|| {
        let work = Work::Command(index, args.to_owned());
        let ended = worker::run(&extension, work, scope.clone(), &mut Quiet).unwrap();
        assert_eq!(ended, Ended::Status(0));
    });
}

/// The main thread's part, with nobody to talk to.
struct Quiet;

impl Main for Quiet {
    fn emit(&mut self, event: &Event<'_>) {
        panic!("the command said {event:?}");
    }

    fn progress(&mut self, _: u64, _: u64, _: &str) {}

    fn execute(&mut self, _: &str) -> (i32, String) {
        (0, String::new())
    }

    fn take_interrupt(&mut self) -> bool {
        false
    }
}
