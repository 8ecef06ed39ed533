//! The small dump (`DumpType` 4): `TRIAGE_DUMP64` and `TRIAGE_DUMP32` after the header.
//!
//! Field order as in public readers (rizin), checked on real dumps of builds 9600 to 22000. All offsets are file
//! offsets. There is no physical memory; every byte stands in a block of virtual memory ([`super::VirtualBlocks`]).
//! The addresses of the saved KPRCB, EPROCESS and ETHREAD are not in the file's tables: the target layer deduces
//! them from the debugger data and adds the blocks with [`super::VirtualBlocks::with`].

use kd_sdk::address::Va;

use super::LayoutEntry;
use super::blocks::{Block, BlockKind};
use super::bytes::{u16_at, u32_at, u64_at, utf16};
use super::error::Problem;
use super::header::{FileRange, Header};
use super::kind::DumpKind;
use super::mapped::MappedFile;

/// The most drivers, unloaded drivers or data blocks that are read; real files have some thousands of blocks.
const MOST_ENTRIES: u64 = 1 << 20;

/// A loaded driver, from the list of `KLDR_DATA_TABLE_ENTRY` copies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Driver {
    /// The name from the string pool: a path, or a bare name. Empty when the pool does not hold it.
    pub name: String,
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
    /// `Flags`.
    pub flags: u32,
    /// The copied `KLDR_DATA_TABLE_ENTRY` in the file.
    pub entry: FileRange,
}

/// A driver that had been unloaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnloadedDriver {
    /// The name, at most 12 characters.
    pub name: String,
    /// The first address it had.
    pub start: Va,
    /// The address after its last.
    pub end: Va,
}

/// What a small dump says besides its header. A range that the file does not have is `None`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Triage {
    /// `ServicePackBuild`.
    pub service_pack_build: u32,
    /// `SizeOfDump`: where the triage data ends and tagged data begins.
    pub size_of_dump: u64,
    /// True when `TRGD` stands at `ValidOffset`.
    pub valid: bool,
    /// `TriageOptions`.
    pub options: u32,
    /// The context record.
    pub context: Option<FileRange>,
    /// The exception record.
    pub exception: Option<FileRange>,
    /// The block of memory-manager counters.
    pub mm: Option<FileRange>,
    /// The table of unloaded drivers.
    pub unloaded_drivers_table: Option<FileRange>,
    /// The saved `KPRCB` of the current processor. As the following two, its size is what fits before the next
    /// table of the file.
    pub prcb: Option<FileRange>,
    /// The saved `EPROCESS`.
    pub process: Option<FileRange>,
    /// The saved `ETHREAD`.
    pub thread: Option<FileRange>,
    /// The saved stack.
    pub call_stack: Option<FileRange>,
    /// `TopOfStack`: the lowest address of the saved stack.
    pub top_of_stack: Va,
    /// The list of drivers.
    pub driver_list: Option<FileRange>,
    /// `DriverCount` as stored.
    pub driver_count: u32,
    /// The string pool.
    pub string_pool: Option<FileRange>,
    /// The name at `BrokenDriverOffset`: the driver Windows blamed, if any.
    pub broken_driver: Option<String>,
    /// `DataPageAddress`.
    pub data_page_address: Va,
    /// The data page.
    pub data_page: Option<FileRange>,
    /// The copied `KDDEBUGGER_DATA64`.
    pub debugger_data: Option<FileRange>,
    /// The table of data blocks.
    pub data_blocks: Option<FileRange>,
    /// `DataBlocksCount` as stored.
    pub data_blocks_count: u32,
    /// The loaded drivers, in load order; the kernel is the first.
    pub drivers: Vec<Driver>,
    /// The unloaded drivers, in the file's order.
    pub unloaded_drivers: Vec<UnloadedDriver>,
}

/// Numbers that differ between the two widths.
pub(super) struct Shape {
    pub(super) wide: bool,
    /// From `TopOfStack` on.
    pub(super) top_of_stack: usize,
    data_page_address: usize,
    pub(super) data_page_offset: usize,
    /// Bytes of the whole structure.
    pub(super) size: usize,
    pub(super) driver_stride: u64,
    /// Where the loader entry stands in a driver entry.
    pub(super) driver_entry: usize,
    pub(super) dll_base: usize,
    pub(super) entry_point: usize,
    pub(super) size_of_image: usize,
    flags: usize,
    pub(super) check_sum: usize,
    pub(super) time_date_stamp: usize,
    unloaded_count: u64,
    pub(super) unloaded_stride: u64,
    pub(super) unloaded_name: usize,
    pub(super) unloaded_start: usize,
    pub(super) data_block_stride: u64,
}

pub(super) static SHAPE_64: Shape = Shape {
    wide: true,
    top_of_stack: 0x48,
    data_page_address: 0x60,
    data_page_offset: 0x68,
    size: 0x80,
    driver_stride: 0x90,
    driver_entry: 8,
    dll_base: 0x30,
    entry_point: 0x38,
    size_of_image: 0x40,
    flags: 0x68,
    check_sum: 0x78,
    time_date_stamp: 0x80,
    unloaded_count: 8,
    unloaded_stride: 0x38,
    unloaded_name: 0x10,
    unloaded_start: 0x28,
    data_block_stride: 0x10,
};

pub(super) static SHAPE_32: Shape = Shape {
    wide: false,
    top_of_stack: 0x48,
    data_page_address: 0x4c,
    data_page_offset: 0x50,
    size: 0x68,
    driver_stride: 0x4c,
    driver_entry: 4,
    dll_base: 0x18,
    entry_point: 0x1c,
    size_of_image: 0x20,
    flags: 0x34,
    check_sum: 0x40,
    time_date_stamp: 0x44,
    unloaded_count: 4,
    unloaded_stride: 0x28,
    unloaded_name: 8,
    unloaded_start: 0x20,
    data_block_stride: 0xc,
};

/// A parsed small dump: its description, its blocks in the file's order, and what is wrong with it.
pub(crate) struct Parsed {
    pub(crate) triage: Triage,
    pub(crate) blocks: Vec<Block>,
    pub(crate) problems: Vec<Problem>,
}

/// Parses what follows the header. `None` when the file is too short for the structure itself.
pub(crate) fn parse(file: &MappedFile, header: &Header) -> Option<Parsed> {
    let shape = if header.is_64_bit { &SHAPE_64 } else { &SHAPE_32 };
    let bytes = file.get(header.size, shape.size)?;
    let field = |index: usize| u32_at(&bytes, index * 4).unwrap_or(0);
    let pointer = |at: usize| {
        Va(if shape.wide { u64_at(&bytes, at) } else { u32_at(&bytes, at).map(u64::from) }.unwrap_or(0))
    };
    // From DataPageOffset on both widths are alike.
    let tail = |index: usize| u32_at(&bytes, shape.data_page_offset + index * 4).unwrap_or(0);

    // Offsets of everything, to bound the structures whose size is not stored.
    let starts = [
        field(1),
        field(2),
        field(3),
        field(4),
        field(5),
        field(6),
        field(7),
        field(8),
        field(9),
        field(10),
        field(12),
        field(14),
        tail(0),
        tail(2),
        tail(4),
    ];
    let lowest = header.size + shape.size as u64;
    let range = |offset: u32, size: u64| {
        (u64::from(offset) >= lowest && size > 0).then_some(FileRange { offset: u64::from(offset), size })
    };
    let unsized_range = |offset: u32| {
        let next = starts.iter().copied().filter(|&start| start > offset).min().unwrap_or(offset);
        range(offset, u64::from(next - offset))
    };
    let in_header = |offset: u32, size: u64| {
        (offset != 0 && size > 0).then_some(FileRange { offset: u64::from(offset), size })
    };

    let driver_count = field(13);
    let data_blocks_count = tail(5);
    let size_of_dump = u64::from(field(1));
    let mut triage = Triage {
        service_pack_build: field(0),
        size_of_dump,
        valid: file.get(u64::from(field(2)), 4).is_some_and(|tag| tag.as_ref() == b"TRGD"),
        options: field(17),
        context: in_header(field(3), header.context.map_or(0, |context| context.size)),
        exception: in_header(field(4), if shape.wide { 0x98 } else { 0x50 }),
        mm: unsized_range(field(5)),
        unloaded_drivers_table: unsized_range(field(6)),
        prcb: unsized_range(field(7)),
        process: unsized_range(field(8)),
        thread: unsized_range(field(9)),
        call_stack: range(field(10), u64::from(field(11))),
        top_of_stack: pointer(shape.top_of_stack),
        driver_list: range(field(12), u64::from(driver_count).saturating_mul(shape.driver_stride)),
        driver_count,
        string_pool: range(field(14), u64::from(field(15))),
        broken_driver: None,
        data_page_address: pointer(shape.data_page_address),
        data_page: range(tail(0), u64::from(tail(1))),
        debugger_data: range(tail(2), u64::from(tail(3))),
        data_blocks: range(tail(4), u64::from(data_blocks_count).saturating_mul(shape.data_block_stride)),
        data_blocks_count,
        drivers: Vec::new(),
        unloaded_drivers: Vec::new(),
    };
    triage.broken_driver = pool_name(file, &triage, field(16)).filter(|name| !name.is_empty());

    let mut problems = Vec::new();
    read_drivers(file, shape, &mut triage, &mut problems);
    read_unloaded(file, shape, &mut triage, &mut problems);
    let blocks = read_blocks(file, header, shape, &triage, &mut problems);
    check(file, &triage, &blocks, field(2), &mut problems);
    Some(Parsed { triage, blocks, problems })
}

/// A name in the string pool: a length in characters, then UTF-16.
fn pool_name(file: &MappedFile, triage: &Triage, offset: u32) -> Option<String> {
    let pool = triage.string_pool?;
    let offset = u64::from(offset);
    if offset < pool.offset || offset.saturating_add(4) > pool.end() {
        return None;
    }
    let count = u64::from(u32_at(&file.get(offset, 4)?, 0)?);
    let bytes = count.saturating_mul(2).min(pool.end().saturating_sub(offset + 4)).min(0x2000);
    Some(utf16(&file.get(offset + 4, usize::try_from(bytes).ok()?)?))
}

fn read_drivers(file: &MappedFile, shape: &Shape, triage: &mut Triage, problems: &mut Vec<Problem>) {
    let Some(list) = triage.driver_list else { return };
    let count = u64::from(triage.driver_count).min(MOST_ENTRIES);
    for index in 0..count {
        let offset = list.offset.saturating_add(index * shape.driver_stride);
        let Some(bytes) = file.get(offset, shape.driver_stride as usize) else {
            problems.push(Problem::Damaged {
                what: "the driver list".into(),
                offset: list.offset,
                why: format!("{index} of {} drivers are in the file", triage.driver_count),
            });
            return;
        };
        let entry = bytes.get(shape.driver_entry..).unwrap_or_default();
        let number = |at: usize| u32_at(entry, at).unwrap_or(0);
        let pointer = |at: usize| {
            Va(if shape.wide { u64_at(entry, at) } else { u32_at(entry, at).map(u64::from) }.unwrap_or(0))
        };
        triage.drivers.push(Driver {
            name: pool_name(file, triage, u32_at(&bytes, 0).unwrap_or(0)).unwrap_or_default(),
            base: pointer(shape.dll_base),
            entry_point: pointer(shape.entry_point),
            size: number(shape.size_of_image),
            check_sum: number(shape.check_sum),
            time_date_stamp: number(shape.time_date_stamp),
            flags: number(shape.flags),
            entry: FileRange {
                offset: offset + shape.driver_entry as u64,
                size: shape.driver_stride - shape.driver_entry as u64,
            },
        });
    }
}

fn read_unloaded(file: &MappedFile, shape: &Shape, triage: &mut Triage, problems: &mut Vec<Problem>) {
    let Some(table) = triage.unloaded_drivers_table else { return };
    let Some(count) = file.get(table.offset, 4).and_then(|bytes| u32_at(&bytes, 0)) else { return };
    let room = table.size.saturating_sub(shape.unloaded_count) / shape.unloaded_stride;
    if u64::from(count) > room {
        problems.push(Problem::Damaged {
            what: "the list of unloaded drivers".into(),
            offset: table.offset,
            why: format!("it counts {count} entries and has room for {room}"),
        });
    }
    for index in 0..u64::from(count).min(room).min(MOST_ENTRIES) {
        let offset = table.offset + shape.unloaded_count + index * shape.unloaded_stride;
        let Some(bytes) = file.get(offset, shape.unloaded_stride as usize) else { return };
        // UNICODE_STRING.Length counts bytes; the text itself stands behind it, cut to 12 characters.
        let length = usize::from(u16_at(&bytes, 0).unwrap_or(0)).min(24);
        let name = bytes.get(shape.unloaded_name..shape.unloaded_name + length).unwrap_or_default();
        let at = shape.unloaded_start;
        let (start, end) = if shape.wide {
            (u64_at(&bytes, at), u64_at(&bytes, at + 8))
        } else {
            (u32_at(&bytes, at).map(u64::from), u32_at(&bytes, at + 4).map(u64::from))
        };
        triage.unloaded_drivers.push(UnloadedDriver {
            name: utf16(name),
            start: Va(start.unwrap_or(0)),
            end: Va(end.unwrap_or(0)),
        });
    }
}

fn read_blocks(
    file: &MappedFile,
    header: &Header,
    shape: &Shape,
    triage: &Triage,
    problems: &mut Vec<Problem>,
) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut add = |va: Va, file: Option<FileRange>, kind| {
        if let Some(file) = file.filter(|_| !va.is_null()) {
            blocks.push(Block { va, file, kind });
        }
    };
    add(triage.top_of_stack, triage.call_stack, BlockKind::CallStack);
    if let Some(va) = header.kd_debugger_data_block {
        add(va, triage.debugger_data, BlockKind::DebuggerData);
    }
    add(triage.data_page_address, triage.data_page, BlockKind::DataPage);
    let Some(table) = triage.data_blocks else { return blocks };
    for index in 0..u64::from(triage.data_blocks_count).min(MOST_ENTRIES) {
        let offset = table.offset.saturating_add(index * shape.data_block_stride);
        let Some(entry) = file.get(offset, shape.data_block_stride as usize) else {
            problems.push(Problem::Damaged {
                what: "the table of data blocks".into(),
                offset: table.offset,
                why: format!("{index} of {} entries are in the file", triage.data_blocks_count),
            });
            break;
        };
        let (va, at) =
            if shape.wide { (u64_at(&entry, 0), 8) } else { (u32_at(&entry, 0).map(u64::from), 4) };
        let range = FileRange {
            offset: u32_at(&entry, at).map_or(0, u64::from),
            size: u32_at(&entry, at + 4).map_or(0, u64::from),
        };
        blocks.push(Block { va: Va(va.unwrap_or(0)), file: range, kind: BlockKind::Data });
    }
    blocks
}

/// Judges truncation by what the tables claim, not by `RequiredDumpSpace`, which healthy files undercut.
fn check(file: &MappedFile, triage: &Triage, blocks: &[Block], valid: u32, problems: &mut Vec<Problem>) {
    let cut: Vec<&Block> = blocks.iter().filter(|block| block.file.end() > file.size()).collect();
    let end = blocks.iter().map(|block| block.file.end()).max().unwrap_or(0).max(triage.size_of_dump);
    if end > file.size() {
        let lost = if cut.is_empty() {
            "the end of the triage data is".to_owned()
        } else {
            format!("{} of {} blocks of memory are wholly or partly", cut.len(), blocks.len())
        };
        problems.push(Problem::Truncated { kind: DumpKind::Triage, size: file.size(), expected: end, lost });
    } else if !triage.valid {
        problems.push(Problem::Damaged {
            what: "the mark of completion".into(),
            offset: u64::from(valid),
            why: "TRGD is not there: Windows did not finish writing this dump".into(),
        });
    }
}

/// The tables of a small dump, for the list of everything in the file.
pub(crate) fn layout(triage: &Triage, header: &Header, layout: &mut Vec<LayoutEntry>) {
    let size = if header.is_64_bit { SHAPE_64.size } else { SHAPE_32.size } as u64;
    let mut add = |name: &str, range: Option<FileRange>, note: String| {
        if let Some(range) = range {
            layout.push(LayoutEntry { name: name.into(), offset: range.offset, size: range.size, note });
        }
    };
    add(
        "triage header",
        Some(FileRange { offset: header.size, size }),
        format!("options {:#x}, {}", triage.options, if triage.valid { "complete" } else { "not complete" }),
    );
    add("memory manager data", triage.mm, String::new());
    add(
        "unloaded drivers",
        triage.unloaded_drivers_table,
        format!("{} drivers", triage.unloaded_drivers.len()),
    );
    add("processor control block", triage.prcb, String::new());
    add("process", triage.process, String::new());
    add("thread", triage.thread, String::new());
    add("call stack", triage.call_stack, format!("at {}", triage.top_of_stack));
    add("driver list", triage.driver_list, format!("{} drivers", triage.driver_count));
    add("string pool", triage.string_pool, String::new());
    add("data page", triage.data_page, format!("at {}", triage.data_page_address));
    let at = header.kd_debugger_data_block.map(|va| format!("at {va}"));
    add("debugger data", triage.debugger_data, at.unwrap_or_default());
    add("table of data blocks", triage.data_blocks, format!("{} blocks", triage.data_blocks_count));
}
