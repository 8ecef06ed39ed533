//! Memory of a dump: opening, frames, translations, reads, by kind of dump.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test bench stops at the first surprise

mod support;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use kd::memory::View;
use kd_sdk::address::Va;
use kd_tests::lab::world::{Options, World};
use kd_tests::lab::writer::{self, Kind};

const FRAMES: usize = 1 << 14;
const SMALL: [Kind; 4] = [Kind::Full, Kind::BitmapKernel, Kind::RangeComplete, Kind::Triage];

struct Files {
    folder: tempfile::TempDir,
    /// Where the kernel is.
    kernel: Va,
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let world = World::build(Options::new("x64-19041"));
    let folder = tempfile::tempdir().unwrap();
    for kind in support::LARGE {
        support::write_large(&world, kind, 4, &folder.path().join(kind)).unwrap();
    }
    for kind in SMALL {
        writer::write(&world, kind, &folder.path().join(format!("{kind:?}"))).unwrap();
    }
    Files { folder, kernel: world.nt("KdDebuggerDataBlock") }
});

fn file(name: &str) -> PathBuf {
    FILES.folder.path().join(name)
}

fn view(kind: Kind) -> View {
    View::new(Arc::new(support::open(&file(&format!("{kind:?}")))))
}

fn main() {
    divan::main();
    // A static is never dropped: the files go here.
    let _ = std::fs::remove_dir_all(FILES.folder.path());
}

#[divan::bench(args = support::LARGE)]
fn open(bencher: Bencher<'_, '_>, kind: &str) {
    let file = file(kind);
    bencher.bench(|| support::open(&file));
}

/// With the first lookup: a bitmap dump builds its index here.
#[divan::bench(args = support::LARGE)]
fn open_and_count(bencher: Bencher<'_, '_>, kind: &str) {
    let file = file(kind);
    bencher.bench(|| {
        let dump = support::open(&file);
        let physical = dump.physical().unwrap();
        (physical.page_count(), physical.page(physical.end()).is_ok())
    });
}

/// The place of a frame, nothing of it read.
#[divan::bench(args = support::LARGE)]
fn find_frame(bencher: Bencher<'_, '_>, kind: &str) {
    let dump = support::open(&file(kind));
    let frames = support::random_frames(&dump, FRAMES);
    let physical = dump.physical().unwrap();
    bencher.counter(ItemsCount::new(FRAMES)).bench(|| {
        for &pfn in &frames {
            black_box(physical.page(pfn).map(|page| page.len()).ok());
        }
    });
}

#[divan::bench(args = support::LARGE)]
fn walk_runs(bencher: Bencher<'_, '_>, kind: &str) {
    let dump = support::open(&file(kind));
    bencher.bench(|| dump.physical().unwrap().runs().count());
}

/// The full walk of the page tables, past the cache of translations.
#[divan::bench(args = [Kind::Full, Kind::BitmapKernel, Kind::RangeComplete])]
fn translate(bencher: Bencher<'_, '_>, kind: Kind) {
    let view = view(kind);
    bencher.bench(|| view.walk(black_box(FILES.kernel)).unwrap().unwrap().pa);
}

#[divan::bench(args = SMALL)]
fn read_8_bytes(bencher: Bencher<'_, '_>, kind: Kind) {
    let view = view(kind);
    let mut buffer = [0; 8];
    assert_eq!(view.read(FILES.kernel, &mut buffer).done, 8);
    bencher.bench_local(|| view.read(black_box(FILES.kernel), &mut buffer).done);
}

#[divan::bench(args = [Kind::Full, Kind::BitmapKernel, Kind::RangeComplete])]
fn read_4_kib(bencher: Bencher<'_, '_>, kind: Kind) {
    let view = view(kind);
    let mut buffer = [0; 4096];
    let page = FILES.kernel.page();
    assert_eq!(view.read(page, &mut buffer).done, 4096);
    bencher.counter(BytesCount::new(4096usize)).bench_local(|| view.read(black_box(page), &mut buffer).done);
}
