//! The speed that the README promises, measured: `cargo bench -p kd-tests --bench targets` prints the README's table.
//!
//! Whole processes are release builds of kd with an empty environment, output to nowhere, files in the page cache.
//! Runs of all rows take turns, so that other work on the machine hits all alike; medians count. Pages and scans run
//! in this process, after them: on Linux a child inherits the peak memory of its parent, which must be small before.
//!
//! `KD_BENCH_RUNS` sets the count of runs (21). `KD_BENCH_NOISE=1` fills three quarters of the 4 GiB file with data:
//! slower to make, and easier on the scan, because holes of a file are zeros that memory search skips fastest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test bench stops at the first surprise

mod support;

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use kd::dump::MappedFile;
use kd_sdk::address::Pa;
use kd_tests::lab::world::{Options, World};
use kd_tests::lab::writer::{self, Kind};
use wait4::Wait4;

const REAL: &str = "dumps/real/x64-19041-7e.dmp";

fn main() {
    let args: Vec<String> = env::args().collect();
    if let [_, make, folder] = args.as_slice()
        && make == "--make"
    {
        return make_files(Path::new(folder));
    }
    let runs = env::var("KD_BENCH_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(21).max(1);
    let kd = support::build_release(&["--workspace"]).join(format!("kd{}", env::consts::EXE_SUFFIX));
    let folder = tempfile::tempdir().unwrap();
    // In a process of its own: this one stays small.
    let made = Command::new(env::current_exe().unwrap()).arg("--make").arg(folder.path()).status();
    assert!(made.is_ok_and(|status| status.success()), "the dumps could not be written");

    println!("| what | target | median | best | CPU | peak resident |\n|---|---|---|---|---|---|");
    processes(&kd, folder.path(), runs);
    fs::remove_file(folder.path().join("sparse")).unwrap();
    pages(folder.path(), runs);
    scan(&folder.path().join("full"), runs);
}

/// The files of all rows, those of 4 GiB and more sparse.
fn make_files(folder: &Path) {
    let world = World::build(Options::new("x64-19041"));
    writer::write(&world, Kind::Triage, &folder.join("triage")).unwrap();
    for kind in support::LARGE {
        support::write_large(&world, kind, 4, &folder.join(kind)).unwrap();
    }
    support::write_large(&world, "bitmap", 64, &folder.join("sparse")).unwrap();
    if env::var_os("KD_BENCH_NOISE").is_some() {
        support::fill_with_noise(&folder.join("full")).unwrap();
    }
}

// ----- whole processes ---------------------------------------------------------------------------------------------

struct Row {
    what: &'static str,
    file: PathBuf,
    command: &'static str,
    most: Duration,
    most_memory: Option<u64>,
    samples: Vec<Sample>,
}

struct Sample {
    wall: Duration,
    cpu: Duration,
    resident: u64,
}

fn processes(kd: &Path, folder: &Path, runs: usize) {
    let real = kd_tests::shared().map(|shared| shared.join(REAL)).filter(|file| file.is_file());
    let triage = real.unwrap_or_else(|| folder.join("triage"));
    let row = |what, file: &Path, command, most, most_memory| Row {
        what,
        file: file.to_owned(),
        command,
        most: Duration::from_millis(most),
        most_memory,
        samples: Vec::new(),
    };
    let (full, sparse) = (folder.join("full"), folder.join("sparse"));
    let mut rows = [
        row("small dump: open, banner, quit", &triage, "q", 15, None),
        row("small dump: `!analyze -v`, no symbols", &triage, "!analyze -v; q", 30, None),
        row("full dump of 4 GiB: open, banner, quit", &full, "q", 15, Some(30 << 20)),
        row("sparse bitmap dump of 64 GiB: open, banner, quit", &sparse, "q", 50, None),
    ];
    for turn in 0..=runs {
        for row in &mut rows {
            let sample = run(kd, row);
            // The first turn warms the page cache.
            if turn > 0 {
                row.samples.push(sample);
            }
        }
    }
    for row in &mut rows {
        let resident = row.samples.iter().map(|sample| sample.resident).max().unwrap_or(0);
        let walls = sorted(row.samples.iter().map(|sample| sample.wall));
        let cpus = sorted(row.samples.iter().map(|sample| sample.cpu));
        let memory = row.most_memory.map_or(String::new(), |most| format!(", {} MB", most >> 20));
        println!(
            "| {} ({}) | {} ms{memory} | {} | {} | {} | {:.1} MB |",
            row.what,
            size(&row.file),
            row.most.as_millis(),
            milliseconds(median(&walls)),
            milliseconds(walls[0]),
            milliseconds(median(&cpus)),
            resident as f64 / f64::from(1 << 20),
        );
    }
}

fn run(kd: &Path, row: &Row) -> Sample {
    let mut command = Command::new(kd);
    command.arg("-z").arg(&row.file).args(["-c", row.command]).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let ended = command.spawn().unwrap().wait4().unwrap();
    let wall = start.elapsed();
    assert!(ended.status.success(), "{}: {}", row.what, ended.status);
    Sample { wall, cpu: ended.rusage.utime + ended.rusage.stime, resident: ended.rusage.maxrss }
}

fn size(file: &Path) -> String {
    match fs::metadata(file).unwrap().len() {
        bytes if bytes >> 30 > 0 => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
        bytes => format!("{:.2} MB", bytes as f64 / 1e6),
    }
}

// ----- in this process ---------------------------------------------------------------------------------------------

const FRAMES: usize = 1 << 16;
/// Frames a sample reads.
const SLICE: usize = 256;

fn pages(folder: &Path, runs: usize) {
    for kind in support::LARGE {
        let file = folder.join(kind);
        let dump = support::open(&file);
        let frames = support::random_frames(&dump, FRAMES);
        let all = || frames.iter().map(|&pfn| support::first_word(&dump, pfn)).fold(0, u64::wrapping_add);
        black_box(all());
        // Short samples, most of which no other process interrupts.
        let slices = frames.chunks(SLICE).cycle().take(runs * FRAMES / SLICE);
        let times = sorted(slices.map(|slice| {
            time(|| slice.iter().map(|&pfn| support::first_word(&dump, pfn)).fold(0, u64::wrapping_add))
        }));
        let each = |time: Duration| format!("{:.0} ns", time.as_secs_f64() * 1e9 / SLICE as f64);
        println!(
            "| random physical page, first word read: {kind}, 4 GiB | 500 ns | {} | {} | | |",
            each(median(&times)),
            each(times[0])
        );
        drop(dump);
        if kind != "full" {
            fs::remove_file(file).unwrap(); // its pages leave the cache
        }
    }
}

/// The scan and the plain search take turns; the ratio is the median over the turns.
fn scan(file: &Path, runs: usize) {
    // 16 bytes that are not in the file: half of them make the search stop at frequent bytes in vain.
    let needle = *b"\0\0kdbench\xf1\0\0\0\xfe\x05\x11";
    let dump = support::open(file);
    let physical = dump.physical().unwrap();
    let plain = MappedFile::new(fs::File::open(file).unwrap(), false).unwrap();
    let whole = plain.slice(0, plain.size()).unwrap();
    let scan = || {
        let mut found = 0u32;
        kd::memory::search(physical, Pa(0)..Pa(u64::MAX), &needle, &|| false, &mut |_| {
            found += 1;
            ControlFlow::Continue(())
        });
        found
    };
    let search = || memchr::memmem::find_iter(whole, &needle).count();
    assert_eq!((scan(), search()), (0, 0));
    let mut turns: Vec<(Duration, Duration)> =
        (0..runs).map(|_| (time(|| black_box(scan())), time(|| black_box(search())))).collect();
    let mut ratios: Vec<f64> =
        turns.iter().map(|(ours, plain)| ours.as_secs_f64() / plain.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    let ours = sorted(turns.iter().map(|turn| turn.0));
    let plain = sorted(turns.drain(..).map(|turn| turn.1));
    let rate =
        |time: Duration| format!("{:.1} GiB/s", whole.len() as f64 / f64::from(1 << 30) / time.as_secs_f64());
    println!("| physical scan of 4 GiB | | {} | {} | | |", rate(median(&ours)), rate(ours[0]));
    println!("| search of the mapped file | | {} | {} | | |", rate(median(&plain)), rate(plain[0]));
    println!("| scan against search | 1.3 × | {:.2} × | {:.2} × | | |", ratios[runs / 2], ratios[0]);
}

fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    black_box(work());
    start.elapsed()
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    times
}

fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
