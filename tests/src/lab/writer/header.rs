//! The header page of every dump, 64-bit (8 KiB) and 32-bit (4 KiB).
//!
//! Facts: `_DUMP_HEADER64` and `_DUMP_HEADER` in public readers, and the headers of real dumps.

use super::super::bytes::Bytes;
use super::super::cpu::context;
use super::super::layout::Machine;
use super::super::world::{COMMENT, SYSTEM_TIME, UP_TIME, World};
use super::Kind;
use crate::lab::world::physical_memory_descriptor;

/// Offsets of one header format.
struct Format {
    size: usize,
    signature: &'static [u8; 8],
    /// `DirectoryTableBase`; `PfnDataBase`, `PsLoadedModuleList` and `PsActiveProcessHead` follow.
    directory_table_base: usize,
    /// `MachineImageType`; `NumberProcessors` and `BugCheckCode` follow.
    machine: usize,
    parameters: usize,
    debugger_data: usize,
    memory: usize,
    context: usize,
    exception: usize,
    dump_type: usize,
    required_space: usize,
    system_time: usize,
    comment: usize,
    up_time: usize,
    /// `MiniDumpFields`; `SecondaryDataState`, `ProductType`, `SuiteMask` and `WriterStatus` follow.
    mini_dump_fields: usize,
}

static WIDE: Format = Format {
    size: 0x2000,
    signature: b"PAGEDU64",
    directory_table_base: 0x10,
    machine: 0x30,
    parameters: 0x40,
    debugger_data: 0x80,
    memory: 0x88,
    context: 0x348,
    exception: 0xf00,
    dump_type: 0xf98,
    required_space: 0xfa0,
    system_time: 0xfa8,
    comment: 0xfb0,
    up_time: 0x1030,
    mini_dump_fields: 0x1038,
};

static NARROW: Format = Format {
    size: 0x1000,
    signature: b"PAGEDUMP",
    directory_table_base: 0x10,
    machine: 0x20,
    parameters: 0x2c,
    debugger_data: 0x60,
    memory: 0x64,
    context: 0x320,
    exception: 0x7d0,
    dump_type: 0xf88,
    required_space: 0xfa0,
    system_time: 0xfc0,
    comment: 0x820,
    up_time: 0xfb8,
    mini_dump_fields: 0xf8c,
};

/// Size of a system's dump header.
pub fn header_size(world: &World) -> u64 {
    if world.options.generation.machine == Machine::X86 { 0x1000 } else { 0x2000 }
}

/// The header for a dump of `kind` whose primary data ends at `required_space` (0: with the header).
pub fn header(world: &World, kind: Kind, required_space: u64) -> Vec<u8> {
    let generation = world.options.generation;
    let wide = generation.machine != Machine::X86;
    let f = if wide { &WIDE } else { &NARROW };
    let mut h: Vec<u8> = b"PAGE".iter().copied().cycle().take(f.size).collect();
    h.put(0, f.signature);
    h.put_u32(8, 0xf); // free build
    h.put_u32(0xc, generation.build);

    let pointer = |h: &mut Vec<u8>, at: usize, value: u64| {
        h.put(at, &value.to_le_bytes()[..if wide { 8 } else { 4 }]);
    };
    let step = generation.machine.pointer_size();
    let database = world.read_pointer(world.nt("MmPfnDatabase"));
    let lists = [world.nt("PsLoadedModuleList").0, world.nt("PsActiveProcessHead").0];
    for (i, value) in [world.user.root.0, database.0, lists[0], lists[1]].into_iter().enumerate() {
        pointer(&mut h, f.directory_table_base + i * step, value);
    }
    h.put_u32(f.machine, u32::from(generation.machine.image_type()));
    h.put_u32(f.machine + 4, world.options.processors);
    h.put_u32(f.machine + 8, world.crash.code);
    for (i, value) in world.crash.parameters.into_iter().enumerate() {
        pointer(&mut h, f.parameters + i * step, value);
    }
    h.put(f.parameters + 4 * step, &[0; 32]); // VersionUser
    if !wide {
        h.put(0x5c, &[u8::from(world.system.scheme.entry_size() == 8)]); // PaeEnabled
    }
    pointer(&mut h, f.debugger_data, world.nt("KdDebuggerDataBlock").0);
    if kind != Kind::Triage {
        let runs = world.memory.ram().iter().map(|r| (r.base, r.count));
        h.put(f.memory, &physical_memory_descriptor(wide, runs));
    }

    h.put(f.context, &context(generation.machine, &world.crash.registers));
    let mut e = Vec::new();
    e.u32(0xc000_0005);
    e.u32(0);
    let word = |e: &mut Vec<u8>, value: u64| if wide { e.u64(value) } else { e.u32(value as u32) };
    word(&mut e, 0);
    word(&mut e, world.crash.exception_address);
    e.u32(2);
    if wide {
        e.u32(0);
    }
    for i in 0..15 {
        word(&mut e, world.crash.exception_information.get(i).copied().unwrap_or(0));
    }
    h.put(f.exception, &e);

    h.put_u32(f.dump_type, kind as u32);
    let end = if required_space == 0 { f.size as u64 } else { required_space };
    h.put_u64(f.required_space, end);
    h.put_u64(f.system_time, SYSTEM_TIME);
    let mut comment = COMMENT.as_bytes().to_vec();
    comment.resize(128, 0);
    h.put(f.comment, &comment);
    h.put_u64(f.up_time, UP_TIME);
    let mini_dump_fields = if kind == Kind::Triage { 0xcff } else { 0 };
    for (i, value) in [mini_dump_fields, 0, 1, 0x110, 0].into_iter().enumerate() {
        h.put_u32(f.mini_dump_fields + 4 * i, value);
    }
    h
}
