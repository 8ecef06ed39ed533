//! Kinds 2, 5, 6, 7: a bitmap with a bit for every frame, then the pages whose bits are set.
//!
//! Two headers: kind 2 has 32-bit fields and an `RTL_BITMAP`, the others 64-bit fields with the bitmap at +0x38.

use super::super::bytes::Bytes;
use super::super::layout::Machine;
use super::super::memory::Run;
use super::super::world::World;
use super::full::grown;
use super::header::{header, header_size};
use super::{Kind, page_count, secondary, write_pages};
use kd_sdk::address::PAGE_SIZE;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

pub(super) fn write(world: &World, kind: Kind, file: &mut File) -> io::Result<()> {
    let end = write_runs(world, kind, &kind.frames(world), world.memory.ram(), file)?;
    if kind == Kind::BitmapFull {
        file.write_all(&secondary::blobs(world, end))?;
    }
    Ok(())
}

/// Writes a bitmap dump of a machine with `gib` GiB of RAM, all of it in the file, all but the system's frames holes.
pub fn huge_sparse(world: &World, path: &Path, gib: u64) -> io::Result<()> {
    let runs = grown(world, gib);
    write_runs(world, Kind::BitmapFull, &runs, &runs, &mut File::create(path)?).map(drop)
}

fn write_runs(world: &World, kind: Kind, runs: &[Run], ram: &[Run], file: &mut File) -> io::Result<u64> {
    let highest = ram.last().map_or(0, |r| r.base + r.count);
    let bits = highest.next_multiple_of(32); // whole words, as the kernel's bitmaps have
    let mut bitmap = vec![0u8; bits as usize / 8];
    for run in runs {
        let mut pfn = run.base;
        while pfn < run.base + run.count {
            if pfn % 8 == 0 && pfn + 8 <= run.base + run.count {
                bitmap[pfn as usize / 8] = 0xff;
                pfn += 8;
            } else {
                bitmap[pfn as usize / 8] |= 1 << (pfn % 8);
                pfn += 1;
            }
        }
    }

    let wide = world.options.generation.machine != Machine::X86;
    let at = header_size(world);
    let bitmap_at = at + if kind == Kind::Summary { if wide { 0x28 } else { 0x20 } } else { 0x38 };
    let first_page = (bitmap_at + bitmap.len() as u64).next_multiple_of(PAGE_SIZE);
    let pages = page_count(runs);

    let mut head = header(world, kind, first_page + pages * PAGE_SIZE);
    head.extend(if kind == Kind::BitmapFull { b"FDMPDUMP" } else { b"SDMPDUMP" });
    head.u32(0); // DumpOptions
    if kind == Kind::Summary {
        for value in [first_page, bits, pages, bits] {
            head.u32(value as u32); // HeaderSize, BitmapSize, Pages, SizeOfBitMap
        }
    } else {
        head.resize(at as usize + 0x20, 0);
        for value in [first_page, pages, bits] {
            head.u64(value);
        }
    }
    head.put(bitmap_at as usize, &bitmap);
    file.write_all(&head)?;
    write_pages(world, file, first_page, runs)
}
