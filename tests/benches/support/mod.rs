//! What the benchmarks share: large dumps made of holes, a release build of kd, numbers without a pattern.
#![allow(dead_code)] // each benchmark uses its part

use std::env;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use kd::dump::{Dump, OpenOptions};
use kd_sdk::address::{PAGE_SIZE, Pfn};
use kd_tests::lab::world::World;
use kd_tests::lab::writer::{self, Kind};

/// Dumps of 4 GiB of RAM, by how their pages are found.
pub const LARGE: [&str; 3] = ["full", "bitmap", "range"];

/// Writes the large dump of this kind; nearly all of it is holes of the file.
pub fn write_large(world: &World, kind: &str, gib: u64, path: &Path) -> io::Result<()> {
    match kind {
        "full" => writer::huge_full(world, path, gib),
        "bitmap" => writer::huge_sparse(world, path, gib),
        _ => write_ranges(world, gib, path),
    }
}

/// A range dump in ranges of 255 pages, a missing page after each: a long table, as live dumps have.
fn write_ranges(world: &World, gib: u64, path: &Path) -> io::Result<()> {
    let count = (gib << 30) / (256 * PAGE_SIZE);
    let start = writer::header::header_size(world);
    let first_page = (start + 0x30 + 16 * (count + 1)).next_multiple_of(PAGE_SIZE);
    let end = first_page + count * 255 * PAGE_SIZE;
    let mut head = writer::header::header(world, Kind::RangeComplete, end);
    head.extend(0x40u32.to_le_bytes());
    head.extend(b"RDMPDUMP\0\0\0\0");
    for value in [first_page - start - 0x20, first_page, count, count * 255] {
        head.extend(value.to_le_bytes());
    }
    for range in 0..count {
        head.extend((range * 256 + 1).to_le_bytes());
        head.extend(255u64.to_le_bytes());
    }
    let mut file = File::create(path)?;
    file.write_all(&head)?;
    file.set_len(end)
}

/// Fills the file from 1 GiB on, where the laboratory's system has no pages, with bytes that look like data.
pub fn fill_with_noise(path: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    let size = file.metadata()?.len();
    let mut numbers = Numbers::new(1);
    let mut at = file.seek(SeekFrom::Start(1 << 30))?;
    let mut block = vec![0u8; 1 << 20];
    while at + (1 << 20) <= size {
        for word in block.chunks_exact_mut(8) {
            // Memory is a third zeros and small numbers.
            let number = numbers.next();
            word.copy_from_slice(
                &(if number.is_multiple_of(3) { number >> 56 } else { number }).to_le_bytes(),
            );
        }
        file.write_all(&block)?;
        at += 1 << 20;
    }
    file.sync_all()
}

/// Opens a dump.
pub fn open(path: &Path) -> Dump {
    Dump::open(path, &OpenOptions::default()).expect("the laboratory's dump opens")
}

/// `count` frames that the dump holds, all over it, in no order.
pub fn random_frames(dump: &Dump, count: usize) -> Vec<Pfn> {
    let physical = dump.physical().expect("a dump with pages");
    let end = physical.end().0;
    let mut numbers = Numbers::new(7);
    std::iter::repeat_with(|| Pfn(numbers.next() % end))
        .filter(|&pfn| physical.page(pfn).is_ok())
        .take(count)
        .collect()
}

/// The first eight bytes of a frame.
pub fn first_word(dump: &Dump, pfn: Pfn) -> u64 {
    let page = dump.physical().and_then(|physical| physical.page(pfn).ok());
    page.and_then(|page| page.first_chunk().map(|word| u64::from_le_bytes(*word))).unwrap_or(1)
}

/// Pseudo-random numbers (xorshift64*), the same every time.
pub struct Numbers(u64);

impl Numbers {
    /// From a seed that is not zero.
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Builds with cargo what the arguments name, for release, and returns `target/release`.
pub fn build_release(args: &[&str]) -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet"])
        .args(args)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .status()
        .expect("cargo starts");
    assert!(status.success(), "cargo build --release failed: {status}");
    let bench = env::current_exe().expect("the path of the benchmark");
    bench.parent().and_then(Path::parent).expect("a benchmark lies in target/release/deps").to_owned()
}

/// The file of a dynamic library of this name.
pub fn library(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{}{name}{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX))
}
