//! Kind 1: the header, then all of RAM, run after run.

use super::super::world::World;
use super::header::{header, header_size};
use super::{Kind, page_count, write_pages};
use crate::lab::bytes::Bytes;
use crate::lab::layout::Machine;
use crate::lab::memory::Run;
use crate::lab::world::physical_memory_descriptor;
use kd_sdk::address::PAGE_SIZE;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

pub(super) fn write(world: &World, file: &mut File) -> io::Result<()> {
    let start = header_size(world);
    let end = start + page_count(world.memory.ram()) * PAGE_SIZE;
    file.write_all(&header(world, Kind::Full, end))?;
    write_pages(world, file, start, world.memory.ram()).map(drop)
}

/// Writes a full dump of a machine with `gib` GiB of RAM, of which all but the system's own frames are holes.
pub fn huge_full(world: &World, path: &Path, gib: u64) -> io::Result<()> {
    let runs = grown(world, gib);
    let start = header_size(world);
    let end = start + page_count(&runs) * PAGE_SIZE;
    let mut head = header(world, Kind::Full, end);
    let wide = world.options.generation.machine != Machine::X86;
    let descriptor = physical_memory_descriptor(wide, runs.iter().map(|r| (r.base, r.count)));
    head.put(if wide { 0x88 } else { 0x64 }, &descriptor);
    let mut file = File::create(path)?;
    file.write_all(&head)?;
    write_pages(world, &mut file, start, &runs).map(drop)
}

/// The RAM of a system, grown to `gib` GiB at its end.
pub(super) fn grown(world: &World, gib: u64) -> Vec<Run> {
    let mut runs = world.memory.ram().to_vec();
    if let Some(last) = runs.last_mut() {
        last.count = (gib << 30) / PAGE_SIZE - last.base;
    }
    runs
}
