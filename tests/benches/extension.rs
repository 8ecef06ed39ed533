//! The border to extensions: loading a library with the proof of its layouts, and what a call into the host costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test bench stops at the first surprise

mod support;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use divan::Bencher;
use divan::counter::ItemsCount;
use kd::extension::loader::Loaded;
use kd::extension::worker::{self, Ended, Main, Work};
use kd::scope::{OpenTarget, Scope};
use kd::symbols::{Images, SymbolPath, Symbols};
use kd::target::Target;
use kd_sdk::output::Event;
use kd_tests::lab::world::{Options, World};
use kd_tests::lab::writer::{self, Kind};

const READS: u64 = 100_000;

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
    reads(bencher, kind, 8, READS);
}

#[divan::bench(args = [Kind::BitmapKernel])]
fn read_4_kib(bencher: Bencher<'_, '_>, kind: Kind) {
    reads(bencher, kind, 4096, READS);
}

fn reads(bencher: Bencher<'_, '_>, kind: Kind, size: u64, count: u64) {
    let world = World::build(Options::new("x64-19041"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    writer::write(&world, kind, &file).unwrap();
    let open = OpenTarget {
        number: 0,
        target: Target::open(support::open(&file)),
        symbols: Symbols::new(SymbolPath::parse("")).into(),
        images: Images::new(SymbolPath::parse("")).into(),
    };
    let scope = Scope { open: Some(Arc::new(open)), ..Scope::default() };
    let block = world.nt("KdDebuggerDataBlock");
    let va = if size > 8 { block.page() } else { block };
    let extension = Arc::new(Loaded::open(&LIBRARY).unwrap());
    let args = format!("{} {size} {count}", va.0);
    bencher.counter(ItemsCount::new(count.max(1))).bench_local(|| {
        let ended =
            worker::run(&extension, Work::Command(0, args.clone()), scope.clone(), &mut Quiet).unwrap();
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
