//! Kind 4: the small dump. Copies of a few structures, a list of drivers, and chosen ranges of virtual memory.
//!
//! Facts: `TRIAGE_DUMP64` and `TRIAGE_DUMP32` in public readers and real dumps.

use super::super::bytes::{Bytes, utf16};
use super::super::layout::Machine;
use super::super::world::World;
use super::header::header;
use super::{Kind, secondary};
use kd_sdk::address::{PAGE_SIZE, Va};

/// Offsets in `TRIAGE_DUMP` of its fields, all of them 32-bit unless the pointer size says otherwise.
const SIZE_OF_DUMP: usize = 0x4;
const FIELDS: [(usize, &str); 14] = [
    (0x14, "mm"),
    (0x18, "unloaded"),
    (0x1c, "prcb"),
    (0x20, "process"),
    (0x24, "thread"),
    (0x28, "stack"),
    (0x2c, "stack size"),
    (0x30, "drivers"),
    (0x34, "driver count"),
    (0x38, "strings"),
    (0x3c, "strings size"),
    (0x08, "valid"),
    (0x0c, "context"),
    (0x10, "exception"),
];

/// A range of memory as a small dump keeps it.
struct Block {
    va: Va,
    size: usize,
}

pub(super) fn triage(world: &World) -> Vec<u8> {
    let generation = world.options.generation;
    let wide = generation.machine != Machine::X86;
    let start = if wide { 0x2000 } else { 0x1000 };
    let at = |name: &str| start + FIELDS.iter().find(|f| f.1 == name).expect("a field of the table").0;
    let word = |d: &mut Vec<u8>, value: u64| if wide { d.u64(value) } else { d.u32(value as u32) };

    let mut d = header(world, Kind::Triage, 0);
    d.resize(start + 0x80, 0);
    d.put_u32(at("context"), if wide { 0x348 } else { 0x320 });
    d.put_u32(at("exception"), if wide { 0xf00 } else { 0x7d0 });
    d.put_u32(start + 0x44, 0xffff_ffff); // TriageOptions

    let offset = d.len() as u32;
    d.put_u32(at("mm"), offset);
    let counted = |name: &str| world.facts.get("counters").and_then(|counters| counters.get(name)?.as_u64());
    // Special pool's tag, what happened, the verifier's two flags; then counters in pages.
    let size = 6 * 4 + 7 * if wide { 8 } else { 4 };
    [1, size, 0, 0, 0, 0].into_iter().for_each(|value| d.u32(value));
    for name in [
        "MaximumNonPagedPoolInPages",
        "MmAllocatedNonPagedPool",
        "MmSizeOfPagedPoolInPages",
        "AllocatedPagedPool",
        "MmTotalCommittedPages",
        "MmPeakCommitment",
        "MmTotalCommitLimitMaximum",
    ] {
        word(&mut d, counted(name).unwrap_or(0));
    }

    let offset = d.len() as u32;
    d.put_u32(at("unloaded"), offset);
    word(&mut d, world.unloaded.len() as u64);
    for &(name, from, to) in &world.unloaded {
        let characters = utf16(&name[..name.len().min(12)]);
        d.u16(characters.len() as u16);
        d.u16(characters.len() as u16);
        if wide {
            d.u32(0);
        }
        word(&mut d, 0); // the name's address, not in the dump
        let end = d.len() + 24;
        d.extend(characters);
        d.resize(end, 0);
        word(&mut d, from);
        word(&mut d, to);
    }

    let mut processes = world.processes.iter();
    let process =
        processes.find(|p| p.directory_table_base == world.user.root).expect("the crashing process");
    let copies = [
        ("prcb", world.processors[0].prcb, generation.at("_KPRCB")),
        ("process", process.eprocess, generation.at("_EPROCESS")),
        ("thread", world.thread, generation.at("_ETHREAD")),
        ("stack", Va(world.crash.stack[0].sp), world.stack.1.0 - world.crash.stack[0].sp),
    ];
    for (name, va, size) in copies {
        d.align(8);
        let offset = d.len() as u32;
        d.put_u32(at(name), offset);
        d.extend(world.read(va, size as usize).expect("the structure is mapped"));
    }
    d.put_u32(at("stack size"), copies[3].2 as u32);
    if wide {
        d.put_u64(start + 0x48, copies[3].1.0);
    } else {
        d.put_u32(start + 0x48, copies[3].1.0 as u32);
    }

    let debugger_data_field = start + if wide { 0x70 } else { 0x58 };
    d.align(8);
    let offset = d.len() as u32;
    d.put_u32(debugger_data_field, offset);
    d.put_u32(debugger_data_field + 4, world.debugger_data.len() as u32);
    d.extend(&world.debugger_data);

    let (entry_size, image_at) = if wide { (0x90, 8) } else { (0x4c, 4) };
    let drivers = d.len();
    d.put_u32(at("drivers"), drivers as u32);
    d.put_u32(at("driver count"), world.images.len() as u32);
    d.resize(drivers + world.images.len() * entry_size, 0);
    d.align(8);
    let strings = d.len();
    d.put_u32(at("strings"), strings as u32);
    for (index, image) in world.images.iter().enumerate() {
        let entry = drivers + index * entry_size;
        let name = d.len() as u32;
        d.put_u32(entry, name);
        d.u32(image.name.encode_utf16().count() as u32);
        d.extend(utf16(&image.name));
        d.u16(0);
        d.align(8);
        let fields: [(usize, u64, usize); 5] = if wide {
            [
                (0x30, image.base, 8),
                (0x38, image.base + u64::from(image.entry_point), 8),
                (0x40, image.size.into(), 4),
                (0x78, image.check_sum.into(), 4),
                (0x80, image.time_date_stamp.into(), 4),
            ]
        } else {
            [
                (0x18, image.base, 4),
                (0x1c, image.base + u64::from(image.entry_point), 4),
                (0x20, image.size.into(), 4),
                (0x40, image.check_sum.into(), 4),
                (0x44, image.time_date_stamp.into(), 4),
            ]
        };
        for (offset, value, size) in fields {
            d.put(entry + image_at + offset, &value.to_le_bytes()[..size]);
        }
    }
    let size = (d.len() - strings) as u32;
    d.put_u32(at("strings size"), size);

    let blocks = blocks(world);
    let blocks_field = start + if wide { 0x78 } else { 0x60 };
    d.align(8);
    let table = d.len();
    d.put_u32(blocks_field, table as u32);
    d.put_u32(blocks_field + 4, blocks.len() as u32);
    d.resize(table + blocks.len() * if wide { 16 } else { 12 }, 0);
    for (index, block) in blocks.iter().enumerate() {
        d.align(8);
        let mut entry = Vec::new();
        word(&mut entry, block.va.0);
        entry.u32(d.len() as u32);
        entry.u32(block.size as u32);
        d.put(table + index * entry.len(), &entry);
        d.extend(world.read(block.va, block.size).expect("the block is mapped"));
    }

    d.align(8);
    d.u32(0);
    let valid = d.len() as u32;
    d.put_u32(at("valid"), valid);
    d.extend(b"TRGD");
    let end = d.len() as u32;
    d.put_u32(start + SIZE_OF_DUMP, end);
    d.extend(secondary::blobs(world, u64::from(end)));
    let length = d.len() as u64;
    d.put_u64(0xfa0, length); // RequiredDumpSpace, at the same offset in both headers
    d
}

/// The memory worth keeping: saved contexts, list heads, code at the fault, what the kernel shares with programs.
fn blocks(world: &World) -> Vec<Block> {
    let context = match world.options.generation.machine {
        Machine::X86 => 0x2cc,
        Machine::X64 => 0x4d0,
        Machine::Arm64 => 0x390,
    };
    let mut blocks = vec![
        Block { va: world.processors[0].context, size: context },
        Block { va: world.nt("KiProcessorBlock"), size: 32 * 8 },
        Block { va: world.nt("KiBugCheckData"), size: 40 },
        Block { va: world.nt("PsLoadedModuleList"), size: 16 },
        Block { va: world.nt("PsActiveProcessHead"), size: 16 },
        Block { va: world.nt("NtBuildLab"), size: 64 },
        Block { va: world.options.generation.shared_user_data(), size: PAGE_SIZE as usize },
    ];
    for name in ["nt", "faultdrv.sys"] {
        blocks.push(Block { va: Va(world.image(name).base + 0x1000), size: PAGE_SIZE as usize });
    }
    blocks.push(Block { va: Va(world.image("faultdrv.sys").base), size: 0x400 });
    blocks
}
