//! The commands that read all of a kernel's tables, on the laboratory's `huge` systems: `!memusage` in bytes of the
//! PFN database a second, `!poolused` and `!poolfind` beside a plain read of the same pool, and those that walk all 2,000
//! processes and 30,000 threads. `cargo bench -p kd-tests --bench kernel_memory` prints a table.
//!
//! Whole processes are release builds of kd; what opening the dump takes (the row `q`) is subtracted. `KD_BENCH_RUNS`
//! sets the count of runs (7).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test bench stops at the first surprise

mod support;

use kd::memory::View;
use kd_sdk::address::{PAGE_SIZE, Va};
use kd_tests::lab::world::{Options, PoolKind, Story, World};
use kd_tests::lab::writer::{self, Kind};
use std::env;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wait4::Wait4;

/// Bytes that the plain read takes at once, as the commands do.
const CHUNK: u64 = 1 << 20;

fn main() {
    let runs = env::var("KD_BENCH_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(7usize).max(1);
    let kd = support::build_release(&["--workspace"]).join(format!("kd{}", env::consts::EXE_SUFFIX));
    println!("| system | what | time | bytes | speed | peak resident |\n|---|---|---|---|---|---|");
    for generation in ["x64-7601", "x64-19041"] {
        let folder = tempfile::tempdir().unwrap();
        let world = World::build(Options::of(generation, Story::Huge));
        let (file, store) = (folder.path().join("huge.dmp"), folder.path().join("symbols"));
        writer::write(&world, Kind::BitmapKernel, &file).unwrap();
        world.write_symbols(&store).unwrap();
        let database = world.options.described * world.options.generation.at("_MMPFN");
        let pool = world.pools.blocks.iter().filter(|block| block.kind == PoolKind::NonPaged);
        let mut pages: Vec<u64> = pool.map(|block| block.start.0 / PAGE_SIZE).collect();
        pages.sort_unstable();
        pages.dedup();
        drop(world);

        let open = median(&kd, &file, &store, "q", runs).0;
        let row = |what: &str, time: Duration, bytes: u64, resident: u64| {
            let speed = bytes as f64 / time.as_secs_f64().max(1e-6) / 1e6;
            let (time, resident) = (time.as_secs_f64() * 1e3, resident >> 20);
            println!(
                "| {generation} | {what} | {time:.1} ms | {} MB | {speed:.0} MB/s | {resident} MB |",
                bytes >> 20
            );
        };
        for (command, bytes) in [
            ("!memusage 8; q", database),
            ("!memusage; q", database),
            ("!poolused; q", 0),
            ("!poolfind Nope; q", pages.len() as u64 * PAGE_SIZE),
            ("!process 0 0; q", 0),
            ("!process 0 3; q", 0),
            ("!process 0 7; q", 0),
            ("!stacks 2; q", 0),
            ("!handle 0 3 0; q", 0),
            ("!locks -deadlock; q", 0),
        ] {
            let (time, resident) = median(&kd, &file, &store, command, runs);
            row(command, time.saturating_sub(open), bytes, resident);
        }
        // The same pages, read and nothing else.
        let view = View::new(Arc::new(support::open(&file)));
        let mut buffer = vec![0; CHUNK as usize];
        let mut times = Vec::new();
        for _ in 0..runs {
            let start = Instant::now();
            for run in pages.chunk_by(|a, b| a + 1 == *b) {
                let (mut at, end) = (run[0] * PAGE_SIZE, (run[run.len() - 1] + 1) * PAGE_SIZE);
                while at < end {
                    let size = (end - at).min(CHUNK);
                    black_box(view.read(Va(at), &mut buffer[..size as usize]));
                    at += size;
                }
            }
            times.push(start.elapsed());
        }
        times.sort_unstable();
        row("plain read of nonpaged pool", times[times.len() / 2], pages.len() as u64 * PAGE_SIZE, 0);
    }
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
