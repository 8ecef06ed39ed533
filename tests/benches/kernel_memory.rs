//! The commands that read all of a kernel's tables, on the laboratory's `huge` systems: `!memusage` in bytes of the
//! PFN database a second, `!poolused` and `!poolfind` beside a search (`s -d`) of the same pool, and those that walk all 2,000
//! processes and 30,000 threads. `cargo bench -p kd-tests --bench kernel_memory` prints a table.
//!
//! Whole processes are release builds of kd; what opening the dump takes (the row `q`) is subtracted. `KD_BENCH_RUNS`
//! sets the count of runs (7).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test bench stops at the first surprise

mod support;

use kd_sdk::address::PAGE_SIZE;
use kd_tests::lab::world::{Options, PoolKind, Story, World};
use kd_tests::lab::writer::{self, Kind};
use std::env;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use wait4::Wait4;

/// The first argument of the process that writes a system.
const WRITE: &str = "--write-system";
const DUMP: &str = "huge.dmp";
const SYMBOLS: &str = "symbols";
/// Frames of the system's 64 GiB that its PFN database describes: 16 GiB.
const DESCRIBED: u64 = 1 << 22;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let [_, how, generation, folder] = &arguments[..]
        && how == WRITE
    {
        return write_system(generation, Path::new(folder));
    }
    let runs = env::var("KD_BENCH_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(7usize).max(1);
    let kd = support::build_release(&["--workspace"]).join(format!("kd{}", env::consts::EXE_SUFFIX));
    println!("| system | what | time | bytes | speed | peak resident |\n|---|---|---|---|---|---|");
    for generation in ["x64-7601", "x64-19041"] {
        let folder = tempfile::tempdir().unwrap();
        let (file, store) = (folder.path().join(DUMP), folder.path().join(SYMBOLS));
        // In a process of its own: what a process once held counts as its children's peak.
        let writer =
            Command::new(env::current_exe().unwrap()).arg(WRITE).arg(generation).arg(folder.path()).output();
        let told = String::from_utf8(writer.unwrap().stdout).unwrap();
        let told: Vec<u64> = told.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let [database, pool, start, span] = told[..] else { panic!("{told:?}") };

        let open = median(&kd, &file, &store, "q", runs).0;
        let search = format!("s -d {start:#x} L?{:#x} 65706f4e; q", span / 4);
        for (command, bytes) in [
            ("!memusage 8; q", database),
            ("!memusage; q", database),
            ("!poolused; q", 0),
            ("!poolfind Nope; q", pool),
            (search.as_str(), pool), // the same pages, searched for the same number and nothing else
            ("!process 0 0; q", 0),
            ("!process 0 3; q", 0),
            ("!process 0 7; q", 0),
            ("!stacks 2; q", 0),
            ("!handle 0 3 0; q", 0),
            ("!locks -deadlock; q", 0),
        ] {
            let (time, resident) = median(&kd, &file, &store, command, runs);
            let time = time.saturating_sub(open).as_secs_f64().max(1e-6);
            let speed = match bytes {
                0 => String::new(),
                bytes => format!("{:.0} MB/s", bytes as f64 / time / 1e6),
            };
            let (time, bytes, resident) = (time * 1e3, bytes >> 20, resident >> 20);
            println!("| {generation} | {command} | {time:.1} ms | {bytes} MB | {speed} | {resident} MB |");
        }
    }
}

/// Writes a system and its symbols, and tells the bytes of its PFN database and of its nonpaged pool, and where the
/// pool begins and how far it reaches.
fn write_system(generation: &str, folder: &Path) {
    let options = Options { described: DESCRIBED, ..Options::of(generation, Story::Huge) };
    let world = World::build(options);
    writer::write(&world, Kind::BitmapKernel, &folder.join(DUMP)).unwrap();
    world.write_symbols(&folder.join(SYMBOLS)).unwrap();
    let database = world.options.described * world.options.generation.at("_MMPFN");
    let blocks = world.pools.blocks.iter().filter(|block| block.kind == PoolKind::NonPaged);
    let mut pages: Vec<u64> = blocks.map(|block| block.start.0 / PAGE_SIZE).collect();
    pages.sort_unstable();
    pages.dedup();
    let (first, last) = (pages[0], pages[pages.len() - 1]);
    let (pool, span) = (pages.len() as u64 * PAGE_SIZE, (last + 1 - first) * PAGE_SIZE);
    println!("{database} {pool} {} {span}", first * PAGE_SIZE);
}

/// The median time and the most memory of so many runs of a command; the first warms the page cache.
fn median(kd: &Path, file: &Path, store: &Path, command: &str, runs: usize) -> (Duration, u64) {
    let mut samples = Vec::new();
    for _ in 0..=runs {
        let mut process = Command::new(kd);
        process.arg("-z").arg(file).arg("-y").arg(store).args(["-c", command]).env_clear();
        process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let ended = process.spawn().unwrap().wait4().unwrap();
        samples.push((start.elapsed(), ended.rusage.maxrss));
        assert!(ended.status.success(), "{command}: {:?}", ended.status);
    }
    samples.remove(0);
    samples.sort_unstable();
    (samples[samples.len() / 2].0, samples.iter().map(|sample| sample.1).max().unwrap_or(0))
}
