//! Writes small dumps (kind 4), in the layout that [`super::triage`] reads: whose tables of offsets are used for both.
//!
//! The caller says what is in it; all of it together is some megabytes, so it is put together in memory.

use std::io::Write;

use kd_sdk::address::Va;

use super::triage::{SHAPE_32, SHAPE_64, Shape};
use super::write::{Change, Step, WriteError, new_header, put, write_tagged};
use super::{Dump, DumpKind};

/// Memory at an address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// Where it is.
    pub va: Va,
    /// What stands there.
    pub bytes: Vec<u8>,
}

/// A loaded driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadedDriver {
    /// Its path, or its name.
    pub name: String,
    /// The `KLDR_DATA_TABLE_ENTRY` of the target; empty where it is not known.
    pub entry: Vec<u8>,
    /// `DllBase`.
    pub base: Va,
    /// `EntryPoint`.
    pub entry_point: Va,
    /// `SizeOfImage`.
    pub size: u32,
    /// `CheckSum`.
    pub check_sum: u32,
    /// `TimeDateStamp`.
    pub time_date_stamp: u32,
}

/// What a small dump holds besides its header.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SmallDump {
    /// The debugger data block, as it is when it is not encoded.
    pub debugger_data: Vec<u8>,
    /// The control block of the processor.
    pub prcb: Vec<u8>,
    /// Its process.
    pub process: Vec<u8>,
    /// Its thread.
    pub thread: Vec<u8>,
    /// The stack, from the stack pointer up.
    pub stack: Memory,
    /// Drivers, the kernel first.
    pub drivers: Vec<LoadedDriver>,
    /// Drivers that were unloaded: name, first address, address after the last.
    pub unloaded: Vec<(String, Va, Va)>,
    /// Other memory.
    pub blocks: Vec<Memory>,
}

/// Offsets of fields of `TRIAGE_DUMP` that are alike on both widths.
mod at {
    pub const SIZE_OF_DUMP: usize = 0x4;
    pub const VALID: usize = 0x8;
    pub const CONTEXT: usize = 0xc;
    pub const EXCEPTION: usize = 0x10;
    pub const UNLOADED: usize = 0x18;
    pub const PRCB: usize = 0x1c;
    pub const PROCESS: usize = 0x20;
    pub const THREAD: usize = 0x24;
    pub const STACK: usize = 0x28;
    pub const STACK_SIZE: usize = 0x2c;
    pub const DRIVERS: usize = 0x30;
    pub const DRIVER_COUNT: usize = 0x34;
    pub const STRINGS: usize = 0x38;
    pub const STRINGS_SIZE: usize = 0x3c;
    pub const OPTIONS: usize = 0x44;
    /// From `DataPageOffset`.
    pub const DEBUGGER_DATA: usize = 8;
    pub const DEBUGGER_DATA_SIZE: usize = 0xc;
    pub const BLOCKS: usize = 0x10;
    pub const BLOCK_COUNT: usize = 0x14;
}

/// Bytes put together, with the place of the structure that names them.
struct Draft {
    bytes: Vec<u8>,
    start: usize,
    shape: &'static Shape,
}

impl Draft {
    fn field(&mut self, at: usize, value: usize) {
        // A small dump of 4 GiB would not be small: offsets fit.
        put(&mut self.bytes, self.start + at, &(value as u32).to_le_bytes());
    }

    fn tail(&mut self, at: usize, value: usize) {
        self.field(self.shape.data_page_offset + at, value);
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    fn word(&self, value: u64) -> Vec<u8> {
        let bytes = value.to_le_bytes();
        bytes.get(..if self.shape.wide { 8 } else { 4 }).unwrap_or_default().to_vec()
    }

    /// Appends bytes and puts their offset into a field.
    fn append(&mut self, at: usize, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.align();
            self.field(at, self.bytes.len());
            self.bytes.extend(bytes);
        }
    }
}

/// Writes a small dump; its size.
///
/// # Errors
/// See [`WriteError`].
pub fn write_small(
    dump: &Dump,
    small: &SmallDump,
    change: &Change<'_>,
    to: &mut impl Write,
    step: Step<'_>,
) -> Result<u64, WriteError> {
    let (head, layout) = new_header(dump, DumpKind::Triage, change)?;
    let shape = if dump.header().is_64_bit { &SHAPE_64 } else { &SHAPE_32 };
    let mut draft = Draft { start: head.len(), bytes: head, shape };
    // What the fields below do not name is zero: not there.
    draft.bytes.resize(draft.start + shape.size, 0);
    draft.field(at::CONTEXT, layout.context.offset as usize);
    draft.field(at::EXCEPTION, layout.exception);
    draft.field(at::OPTIONS, u32::MAX as usize);

    let mut unloaded = draft.word(small.unloaded.len() as u64);
    for (name, start, end) in &small.unloaded {
        unloaded.extend(unloaded_row(&draft, name, *start, *end));
    }
    draft.append(at::UNLOADED, &unloaded);
    draft.append(at::PRCB, &small.prcb);
    draft.append(at::PROCESS, &small.process);
    draft.append(at::THREAD, &small.thread);
    draft.append(at::STACK, &small.stack.bytes);
    draft.field(at::STACK_SIZE, small.stack.bytes.len());
    let top = draft.word(small.stack.va.0);
    put(&mut draft.bytes, draft.start + shape.top_of_stack, &top);
    draft.align();
    draft.tail(at::DEBUGGER_DATA, draft.bytes.len());
    draft.tail(at::DEBUGGER_DATA_SIZE, small.debugger_data.len());
    draft.bytes.extend(&small.debugger_data);
    put_drivers(&mut draft, &small.drivers);
    put_blocks(&mut draft, &small.blocks);

    draft.align();
    draft.field(at::VALID, draft.bytes.len() + 4);
    draft.bytes.extend(b"\0\0\0\0TRGD");
    draft.field(at::SIZE_OF_DUMP, draft.bytes.len());
    let mut tagged = Vec::new();
    write_tagged(dump, &mut tagged, step)?;
    let size = (draft.bytes.len() + tagged.len()) as u64;
    put(&mut draft.bytes, layout.required_dump_space, &size.to_le_bytes());
    to.write_all(&draft.bytes)?;
    to.write_all(&tagged)?;
    Ok(size)
}

/// A row of the table of unloaded drivers: a `UNICODE_STRING`, its first twelve characters, two addresses.
fn unloaded_row(draft: &Draft, name: &str, start: Va, end: Va) -> Vec<u8> {
    let shape = draft.shape;
    let name: Vec<u8> = name.encode_utf16().take(12).flat_map(u16::to_le_bytes).collect();
    let mut row = vec![0; shape.unloaded_stride as usize];
    put(&mut row, 0, &(name.len() as u16).to_le_bytes());
    put(&mut row, 2, &(name.len() as u16).to_le_bytes());
    put(&mut row, shape.unloaded_name, &name);
    put(&mut row, shape.unloaded_start, &draft.word(start.0));
    put(&mut row, shape.unloaded_start + draft.word(0).len(), &draft.word(end.0));
    row
}

fn put_drivers(draft: &mut Draft, drivers: &[LoadedDriver]) {
    let shape = draft.shape;
    draft.align();
    let list = draft.bytes.len();
    draft.field(at::DRIVERS, list);
    draft.field(at::DRIVER_COUNT, drivers.len());
    draft.bytes.resize(list + drivers.len() * shape.driver_stride as usize, 0);
    draft.align();
    let pool = draft.bytes.len();
    for (index, driver) in drivers.iter().enumerate() {
        let row = list + index * shape.driver_stride as usize;
        let entry = row + shape.driver_entry;
        let room = shape.driver_stride as usize - shape.driver_entry;
        let copy = driver.entry.get(..driver.entry.len().min(room)).unwrap_or_default();
        put(&mut draft.bytes, entry, copy);
        for (at, value) in [(shape.dll_base, driver.base), (shape.entry_point, driver.entry_point)] {
            let value = draft.word(value.0);
            put(&mut draft.bytes, entry + at, &value);
        }
        for (at, value) in [
            (shape.size_of_image, driver.size),
            (shape.check_sum, driver.check_sum),
            (shape.time_date_stamp, driver.time_date_stamp),
        ] {
            put(&mut draft.bytes, entry + at, &value.to_le_bytes());
        }
        let name = (draft.bytes.len() as u32).to_le_bytes();
        put(&mut draft.bytes, row, &name);
        let units: Vec<u16> = driver.name.encode_utf16().take(0x800).collect();
        draft.bytes.extend((units.len() as u32).to_le_bytes());
        draft.bytes.extend(units.into_iter().chain([0]).flat_map(u16::to_le_bytes));
        draft.align();
    }
    draft.field(at::STRINGS, pool);
    draft.field(at::STRINGS_SIZE, draft.bytes.len() - pool);
}

fn put_blocks(draft: &mut Draft, blocks: &[Memory]) {
    let stride = draft.shape.data_block_stride as usize;
    draft.align();
    let table = draft.bytes.len();
    draft.tail(at::BLOCKS, table);
    draft.tail(at::BLOCK_COUNT, blocks.len());
    draft.bytes.resize(table + blocks.len() * stride, 0);
    for (index, block) in blocks.iter().enumerate() {
        draft.align();
        let mut row = draft.word(block.va.0);
        row.extend((draft.bytes.len() as u32).to_le_bytes());
        row.extend((block.bytes.len() as u32).to_le_bytes());
        put(&mut draft.bytes, table + index * stride, &row);
        draft.bytes.extend(&block.bytes);
    }
}
