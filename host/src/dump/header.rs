//! The dump header: 8 KiB in 64-bit dumps (`PAGEDU64`), 4 KiB in 32-bit dumps (`PAGEDUMP`).
//!
//! Field offsets are those of `DUMP_HEADER64` and `DUMP_HEADER32` in Microsoft's published metadata for Rust, and
//! were checked on real dumps. Windows fills the header with the text `PAGE` before it writes fields, so a field
//! that still holds filler was never written: it is `None` here.

use kd_sdk::address::{Pa, Va};

use super::bytes::{u8_at, u32_at, u64_at};
use super::kind::{DumpKind, Machine};

/// `PAGE` as a 32-bit number: the filler.
const FILLER: u32 = 0x4547_4150;

/// A range of bytes in the dump file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct FileRange {
    /// Offset of the first byte.
    pub offset: u64,
    /// Count of bytes.
    pub size: u64,
}

impl FileRange {
    /// The offset after the last byte.
    pub fn end(self) -> u64 {
        self.offset.saturating_add(self.size)
    }
}

/// A bug check: the code and its four parameters, zero-extended in 32-bit dumps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BugCheck {
    /// The code as stored, with the 0x10000000 flag of small dumps.
    pub code: u32,
    /// The parameters.
    pub parameters: [u64; 4],
}

/// `EXCEPTION_RECORD` in the header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExceptionRecord {
    /// `ExceptionCode`, an NTSTATUS.
    pub code: u32,
    /// `ExceptionFlags`.
    pub flags: u32,
    /// `ExceptionRecord`: the address of an earlier record, or null.
    pub nested: Va,
    /// `ExceptionAddress`.
    pub address: Va,
    /// `ExceptionInformation`, at most 15.
    pub parameters: Vec<u64>,
}

/// One run of `PHYSICAL_MEMORY_DESCRIPTOR`: memory the machine had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryRun {
    /// `BasePage`.
    pub base_page: u64,
    /// `PageCount`.
    pub page_count: u64,
}

/// `PHYSICAL_MEMORY_DESCRIPTOR`: the physical memory of the machine, whether the dump holds it or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryDescriptor {
    /// `NumberOfRuns` as stored; `runs` has fewer when the field's 700 bytes hold fewer.
    pub number_of_runs: u32,
    /// `NumberOfPages` as stored.
    pub number_of_pages: u64,
    /// The runs, in the file's order.
    pub runs: Vec<MemoryRun>,
}

/// The dump header. A field that still holds filler is `None`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// True for `PAGEDU64`.
    pub is_64_bit: bool,
    /// Bytes of the header: 0x2000 or 0x1000. What follows depends on the kind.
    pub size: u64,
    /// `MajorVersion`: 0xf free, 0xc checked.
    pub major_version: Option<u32>,
    /// `MinorVersion`: the base build number.
    pub minor_version: Option<u32>,
    /// `DirectoryTableBase`, with its flag bits.
    pub directory_table_base: Option<Pa>,
    /// `PfnDatabase`: the address of the variable `MmPfnDatabase`.
    pub pfn_database: Option<Va>,
    /// `PsLoadedModuleList`.
    pub ps_loaded_module_list: Option<Va>,
    /// `PsActiveProcessHead`.
    pub ps_active_process_head: Option<Va>,
    /// `MachineImageType`.
    pub machine: Machine,
    /// `NumberProcessors`.
    pub number_processors: Option<u32>,
    /// `BugCheckCode` and its parameters; `None` when no bug check was recorded.
    pub bug_check: Option<BugCheck>,
    /// `VersionUser`, up to its first NUL or filler.
    pub version_user: Option<String>,
    /// `KdDebuggerDataBlock`.
    pub kd_debugger_data_block: Option<Va>,
    /// `PaeEnabled` (32-bit dumps only).
    pub pae_enabled: Option<bool>,
    /// `PhysicalMemoryBlock`.
    pub physical_memory: Option<MemoryDescriptor>,
    /// Where the `ContextRecord` stands, when it was written.
    pub context: Option<FileRange>,
    /// `Exception`.
    pub exception: Option<ExceptionRecord>,
    /// `DumpType`.
    pub kind: DumpKind,
    /// `RequiredDumpSpace` in bytes.
    pub required_dump_space: Option<u64>,
    /// `SystemTime`, a FILETIME: 100 ns units since 1601 (UTC).
    pub system_time: Option<u64>,
    /// `SystemUpTime` in 100 ns units.
    pub system_up_time: Option<u64>,
    /// `Comment`.
    pub comment: Option<String>,
    /// `MiniDumpFields`.
    pub mini_dump_fields: Option<u32>,
    /// `SecondaryDataState`.
    pub secondary_data_state: Option<u32>,
    /// `ProductType`: 1 workstation, 2 domain controller, 3 server.
    pub product_type: Option<u32>,
    /// `SuiteMask`.
    pub suite_mask: Option<u32>,
    /// `WriterStatus`.
    pub writer_status: Option<u32>,
    /// `KdSecondaryVersion`.
    pub kd_secondary_version: Option<u8>,
    /// `Attributes`.
    pub attributes: Option<u32>,
    /// `BootId`.
    pub boot_id: Option<u32>,
}

/// Where the fields of one width stand.
pub(super) struct Layout {
    size: usize,
    pointer: usize,
    directory_table_base: usize,
    pfn_database: usize,
    ps_loaded_module_list: usize,
    ps_active_process_head: usize,
    machine: usize,
    number_processors: usize,
    bug_check_code: usize,
    bug_check_parameters: usize,
    version_user: usize,
    kd_debugger_data_block: usize,
    physical_memory: usize,
    pub(super) context: FileRange,
    pub(super) exception: usize,
    pub(super) dump_type: usize,
    pub(super) required_dump_space: usize,
    system_time: usize,
    pub(super) comment: usize,
    system_up_time: usize,
    mini_dump_fields: usize,
    secondary_data_state: usize,
    product_type: usize,
    suite_mask: usize,
    writer_status: usize,
    kd_secondary_version: usize,
    attributes: usize,
    boot_id: usize,
}

const LAYOUT_64: Layout = Layout {
    size: 0x2000,
    pointer: 8,
    directory_table_base: 0x10,
    pfn_database: 0x18,
    ps_loaded_module_list: 0x20,
    ps_active_process_head: 0x28,
    machine: 0x30,
    number_processors: 0x34,
    bug_check_code: 0x38,
    bug_check_parameters: 0x40,
    version_user: 0x60,
    kd_debugger_data_block: 0x80,
    physical_memory: 0x88,
    context: FileRange { offset: 0x348, size: 3000 },
    exception: 0xf00,
    dump_type: 0xf98,
    required_dump_space: 0xfa0,
    system_time: 0xfa8,
    comment: 0xfb0,
    system_up_time: 0x1030,
    mini_dump_fields: 0x1038,
    secondary_data_state: 0x103c,
    product_type: 0x1040,
    suite_mask: 0x1044,
    writer_status: 0x1048,
    kd_secondary_version: 0x104d,
    attributes: 0x1050,
    boot_id: 0x1054,
};

const LAYOUT_32: Layout = Layout {
    size: 0x1000,
    pointer: 4,
    directory_table_base: 0x10,
    pfn_database: 0x14,
    ps_loaded_module_list: 0x18,
    ps_active_process_head: 0x1c,
    machine: 0x20,
    number_processors: 0x24,
    bug_check_code: 0x28,
    bug_check_parameters: 0x2c,
    version_user: 0x3c,
    kd_debugger_data_block: 0x60,
    physical_memory: 0x64,
    context: FileRange { offset: 0x320, size: 1200 },
    exception: 0x7d0,
    dump_type: 0xf88,
    required_dump_space: 0xfa0,
    system_time: 0xfc0,
    comment: 0x820,
    system_up_time: 0xfb8,
    mini_dump_fields: 0xf8c,
    secondary_data_state: 0xf90,
    product_type: 0xf94,
    suite_mask: 0xf98,
    writer_status: 0xf9c,
    kd_secondary_version: 0x5d,
    attributes: 0x8a0,
    boot_id: 0x8a4,
};

/// Bytes of the field `PhysicalMemoryBlock`.
const PHYSICAL_MEMORY_BLOCK_SIZE: usize = 700;

/// Bytes of `VersionUser`.
const VERSION_USER_SIZE: usize = 32;

/// Bytes of `Comment`.
pub(super) const COMMENT_SIZE: usize = 128;

/// Why bytes are not a header that can be used. The caller adds the file's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HeaderError {
    /// The signature is not that of a kernel dump.
    Signature,
    /// Fewer bytes than the header has.
    Cut { needed: u64 },
    /// `MachineImageType` is none of ours.
    Machine { number: u32, offset: u64 },
    /// `DumpType` is unknown.
    Kind { number: u32, offset: u64 },
}

/// Where the fields of these bytes stand, if they begin as a dump does.
pub(super) fn layout_of(bytes: &[u8]) -> Option<&'static Layout> {
    match bytes.get(..8)? {
        b"PAGEDU64" => Some(&LAYOUT_64),
        b"PAGEDUMP" => Some(&LAYOUT_32),
        _ => None,
    }
}

impl Header {
    /// Parses the first bytes of a dump: 0x2000 of them suffice for either width.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        let layout = layout_of(bytes).ok_or(HeaderError::Signature)?;
        let needed = layout.size as u64;
        let bytes = bytes.get(..layout.size).ok_or(HeaderError::Cut { needed })?;
        let fields = Fields { bytes, layout };

        let number = u32_at(bytes, layout.machine).unwrap_or(0);
        let machine = Machine::from_number(number)
            .ok_or(HeaderError::Machine { number, offset: layout.machine as u64 })?;
        let number = u32_at(bytes, layout.dump_type).unwrap_or(0);
        // Windows 2000 wrote no DumpType in full dumps; the filler or zero stands for one.
        let kind = if number == FILLER || number == 0 {
            DumpKind::Full
        } else {
            DumpKind::from_number(number)
                .ok_or(HeaderError::Kind { number, offset: layout.dump_type as u64 })?
        };

        Ok(Header {
            is_64_bit: layout.pointer == 8,
            size: needed,
            major_version: fields.u32(8),
            minor_version: fields.u32(0xc),
            directory_table_base: fields.pointer(layout.directory_table_base).map(Pa),
            pfn_database: fields.pointer(layout.pfn_database).map(Va),
            ps_loaded_module_list: fields.pointer(layout.ps_loaded_module_list).map(Va),
            ps_active_process_head: fields.pointer(layout.ps_active_process_head).map(Va),
            machine,
            number_processors: fields.u32(layout.number_processors),
            bug_check: fields.bug_check(),
            version_user: fields.text(layout.version_user, VERSION_USER_SIZE),
            kd_debugger_data_block: fields.pointer(layout.kd_debugger_data_block).map(Va),
            pae_enabled: (layout.pointer == 4).then(|| fields.u8(0x5c)).flatten().map(|byte| byte != 0),
            physical_memory: fields.physical_memory(),
            context: fields.context(),
            exception: fields.exception(),
            kind,
            required_dump_space: fields.u64(layout.required_dump_space),
            system_time: fields.u64(layout.system_time),
            system_up_time: fields.u64(layout.system_up_time),
            comment: fields.text(layout.comment, COMMENT_SIZE),
            mini_dump_fields: fields.u32(layout.mini_dump_fields),
            secondary_data_state: fields.u32(layout.secondary_data_state),
            product_type: fields.u32(layout.product_type),
            suite_mask: fields.u32(layout.suite_mask),
            writer_status: fields.u32(layout.writer_status),
            kd_secondary_version: fields.u8(layout.kd_secondary_version),
            attributes: fields.u32(layout.attributes),
            boot_id: fields.u32(layout.boot_id),
        })
    }

    /// Bytes in a pointer of the target: 4 or 8.
    pub fn pointer_size(&self) -> u32 {
        if self.is_64_bit { 8 } else { 4 }
    }
}

struct Fields<'a> {
    bytes: &'a [u8],
    layout: &'a Layout,
}

impl Fields<'_> {
    /// A byte; filler is judged by the aligned word around it.
    fn u8(&self, offset: usize) -> Option<u8> {
        self.u32(offset & !3)?;
        u8_at(self.bytes, offset)
    }

    fn u32(&self, offset: usize) -> Option<u32> {
        u32_at(self.bytes, offset).filter(|&value| value != FILLER)
    }

    /// A 64-bit field, unless both halves are filler. One half alone is filler only in the high part: Windows
    /// writes some counts as 32 bits.
    fn u64(&self, offset: usize) -> Option<u64> {
        let value = u64_at(self.bytes, offset)?;
        let (low, high) = (value as u32, (value >> 32) as u32);
        match (low == FILLER, high == FILLER) {
            (true, true) => None,
            (false, true) => Some(u64::from(low)),
            _ => Some(value),
        }
    }

    fn pointer(&self, offset: usize) -> Option<u64> {
        if self.layout.pointer == 8 {
            u64_at(self.bytes, offset).filter(|&value| (value >> 32) as u32 != FILLER)
        } else {
            self.u32(offset).map(u64::from)
        }
    }

    fn bug_check(&self) -> Option<BugCheck> {
        let code = self.u32(self.layout.bug_check_code)?;
        let mut parameters = [0; 4];
        for (index, parameter) in parameters.iter_mut().enumerate() {
            let offset = self.layout.bug_check_parameters + index * self.layout.pointer;
            *parameter = self.pointer(offset).unwrap_or(0);
        }
        Some(BugCheck { code, parameters })
    }

    /// Text up to NUL or filler; `None` when nothing is left.
    fn text(&self, offset: usize, size: usize) -> Option<String> {
        let bytes = self.bytes.get(offset..offset.checked_add(size)?)?;
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        let mut text = bytes.get(..end)?;
        // Filler at the start is a field never written. A tail of filler has no NUL before it.
        if text.starts_with(b"PAGE") && (text.len() < 8 || text.starts_with(b"PAGEPAGE")) {
            return None;
        }
        if let Some(filler) = text.windows(8).position(|window| window == b"PAGEPAGE") {
            text = text.get(..filler)?;
        }
        let text = String::from_utf8_lossy(text).trim_end().to_owned();
        (!text.is_empty()).then_some(text)
    }

    fn physical_memory(&self) -> Option<MemoryDescriptor> {
        let start = self.layout.physical_memory;
        let block = self.bytes.get(start..start.checked_add(PHYSICAL_MEMORY_BLOCK_SIZE)?)?;
        let number_of_runs = self.u32(start)?;
        let wide = self.layout.pointer == 8;
        let (number_of_pages, first, stride) =
            if wide { (self.u64(start + 8)?, 0x10, 0x10) } else { (u64::from(self.u32(start + 4)?), 8, 8) };
        let held = block.len().saturating_sub(first) / stride;
        let mut runs = Vec::new();
        for index in 0..held.min(number_of_runs as usize) {
            let at = first + index * stride;
            let (base_page, page_count) = if wide {
                (u64_at(block, at)?, u64_at(block, at + 8)?)
            } else {
                (u64::from(u32_at(block, at)?), u64::from(u32_at(block, at + 4)?))
            };
            if base_page as u32 == FILLER && page_count as u32 == FILLER {
                break;
            }
            runs.push(MemoryRun { base_page, page_count });
        }
        Some(MemoryDescriptor { number_of_runs, number_of_pages, runs })
    }

    fn context(&self) -> Option<FileRange> {
        let range = self.layout.context;
        // A context has no four words of filler in a row at its start.
        let start = range.offset as usize;
        let filler = (0..4).all(|word| u32_at(self.bytes, start + word * 4) == Some(FILLER));
        (!filler).then_some(range)
    }

    fn exception(&self) -> Option<ExceptionRecord> {
        let at = self.layout.exception;
        let code = self.u32(at)?;
        let flags = self.u32(at + 4)?;
        let wide = self.layout.pointer == 8;
        let (nested, address, count, first) = if wide {
            (at + 8, at + 0x10, at + 0x18, at + 0x20)
        } else {
            (at + 8, at + 0xc, at + 0x10, at + 0x14)
        };
        let count = self.u32(count).unwrap_or(0).min(15) as usize;
        let parameters =
            (0..count).map_while(|index| self.pointer(first + index * self.layout.pointer)).collect();
        Some(ExceptionRecord {
            code,
            flags,
            nested: Va(self.pointer(nested).unwrap_or(0)),
            address: Va(self.pointer(address).unwrap_or(0)),
            parameters,
        })
    }
}
