//! Kinds 8, 9, 0xA: an `RDMP` header, ranges of frames, then their pages. Debuggers and live dumps write these.
//!
//! Facts: public readers (kdmp-parser). The ranges end before the first page; a range that starts at frame 0 ends them.

use super::super::bytes::Bytes;
use super::super::layout::Machine;
use super::super::world::World;
use super::header::{header, header_size};
use super::{Kind, page_count, write_pages};
use kd_sdk::address::PAGE_SIZE;
use std::fs::File;
use std::io::{self, ErrorKind, Write};

pub(super) fn write(world: &World, kind: Kind, file: &mut File) -> io::Result<()> {
    if world.options.generation.machine == Machine::X86 {
        return Err(io::Error::new(ErrorKind::Unsupported, "range dumps are 64-bit"));
    }
    let runs = kind.frames(world);
    let start = header_size(world);
    let ranges_at = start + 0x30;
    let first_page = (ranges_at + 16 * (runs.len() as u64 + 1)).next_multiple_of(PAGE_SIZE);

    let mut head = header(world, kind, first_page + page_count(&runs) * PAGE_SIZE);
    head.u32(0x40);
    head.extend(b"RDMPDUMP");
    head.u32(0);
    head.u64(first_page - start - 0x20); // from the counts below to the first page
    head.u64(first_page);
    head.u64(runs.len() as u64);
    head.u64(page_count(&runs));
    for run in &runs {
        head.u64(run.base);
        head.u64(run.count);
    }
    head.align(PAGE_SIZE as usize);
    file.write_all(&head)?;
    write_pages(world, file, first_page, &runs).map(drop)
}
