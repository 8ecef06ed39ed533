//! Writes a system as a dump file: one file a family of formats.
//!
//! Every field that a reader may check is filled; the rest holds the filler text that Windows leaves there.

mod bitmap;
pub mod cabinet;
mod full;
pub mod header;
mod range;
mod secondary;
mod triage;

pub use bitmap::huge_sparse;
pub use full::huge_full;

use super::memory::Run;
use super::world::World;
use kd_sdk::address::{PAGE_SIZE, Pfn};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// `DumpType` of the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// All of RAM.
    Full = 1,
    /// Kernel memory with a bitmap, Windows 7 and earlier.
    Summary = 2,
    /// Nothing but the header.
    HeaderOnly = 3,
    /// Small memory dump: chosen virtual ranges.
    Triage = 4,
    /// All used memory with a bitmap.
    BitmapFull = 5,
    /// Kernel memory with a bitmap.
    BitmapKernel = 6,
    /// As [`Kind::BitmapKernel`], chosen by the system.
    Automatic = 7,
    /// Kernel memory as ranges, written by a debugger. 64-bit only, as are the next two.
    RangeKernel = 8,
    /// Kernel and user memory as ranges.
    RangeKernelUser = 9,
    /// All of RAM as ranges.
    RangeComplete = 10,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 10] = [
        Kind::Full,
        Kind::Summary,
        Kind::HeaderOnly,
        Kind::Triage,
        Kind::BitmapFull,
        Kind::BitmapKernel,
        Kind::Automatic,
        Kind::RangeKernel,
        Kind::RangeKernelUser,
        Kind::RangeComplete,
    ];

    /// User memory is left out.
    pub fn kernel_only(self) -> bool {
        matches!(self, Kind::Summary | Kind::BitmapKernel | Kind::Automatic | Kind::RangeKernel)
    }

    /// Frames without contents are in the file too, as zeros.
    pub fn whole_ram(self) -> bool {
        matches!(self, Kind::Full | Kind::RangeComplete)
    }

    /// The runs of frames that a dump of this kind holds.
    pub fn frames(self, world: &World) -> Vec<Run> {
        if self.whole_ram() {
            return world.memory.ram().to_vec();
        }
        let mut runs: Vec<Run> = Vec::new();
        for (Pfn(pfn), _) in world.memory.captured(self.kernel_only()) {
            match runs.last_mut() {
                Some(run) if run.base + run.count == pfn => run.count += 1,
                _ => runs.push(Run { base: pfn, count: 1 }),
            }
        }
        runs
    }
}

/// Writes a dump of the system. Pages without contents become holes of the file.
pub fn write(world: &World, kind: Kind, path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    match kind {
        Kind::Full => full::write(world, &mut file)?,
        Kind::HeaderOnly => file.write_all(&header::header(world, kind, 0))?,
        Kind::Triage => file.write_all(&triage::triage(world))?,
        Kind::Summary | Kind::BitmapFull | Kind::BitmapKernel | Kind::Automatic => {
            bitmap::write(world, kind, &mut file)?;
        }
        Kind::RangeKernel | Kind::RangeKernelUser | Kind::RangeComplete => {
            range::write(world, kind, &mut file)?
        }
    }
    file.flush()
}

/// Writes the pages of `runs` one after the other from `start` and returns the end of the file.
fn write_pages(world: &World, file: &mut File, start: u64, runs: &[Run]) -> io::Result<u64> {
    let mut at = start;
    for run in runs {
        for (pfn, frame) in world.memory.frames(*run) {
            file.seek(SeekFrom::Start(at + (pfn.0 - run.base) * PAGE_SIZE))?;
            file.write_all(frame)?;
        }
        at += run.count * PAGE_SIZE;
    }
    file.set_len(at)?;
    file.seek(SeekFrom::Start(at))?;
    Ok(at)
}

/// How many pages the runs have.
fn page_count(runs: &[Run]) -> u64 {
    runs.iter().map(|r| r.count).sum()
}
