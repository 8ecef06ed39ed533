//! The tables that cross the border between kd and an extension: the whole ABI, and no logic.
//!
//! Every table is `#[repr(C)]`, begins with its size, and is made of *frozen blocks* (`v1`, later `v1_1`, …): a
//! block never changes once released, a new minor version appends a block. `include/kdext.h` is the same thing for
//! C and C++; a test compares the two. The only place in the project that names `abi_stable`.
//!
//! What may cross: integers, [`RStr`] and [`RSlice`] (borrowed, valid for one call), pointers to structs of this
//! module, C function pointers. Nothing owned, no Rust enum, no `bool`.

#![allow(unsafe_code)]

use abi_stable::StableAbi;
pub use abi_stable::std_types::{RSlice, RStr};
use core::ffi::c_void;

mod calls;
mod checked;
mod entry;
#[cfg(test)]
pub(crate) mod fake;
mod proof;

pub use calls::Calls;
pub use checked::{entries_of, text_of};
pub use entry::{Registry, free_registry, make_registry, run};
pub use proof::{BlockLayout, LayoutMismatch, abi_header, check_blocks, extension_blocks, host_blocks};

/// First word of an extension's table: `KDEXT` and three zero bytes, read as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"KDEXT\0\0\0");
/// ABI major version. While it is 0 the blocks may still change with every minor version.
pub const MAJOR: u16 = 0;
/// ABI minor version of this SDK.
pub const MINOR: u16 = 2;
/// The symbol an extension exports: `const kd_extension *kdext_entry(void)`.
pub const ENTRY_SYMBOL: &[u8] = b"kdext_entry\0";

/// Status codes: what every callback and every command returns.
pub mod status {
    /// Done.
    pub const OK: i32 = 0;
    /// Some or all bytes could not be read; a [`super::ReadFault`] says where and why.
    pub const UNREADABLE: i32 = -1;
    /// No such name, index or item.
    pub const NOT_FOUND: i32 = -2;
    /// The code panicked; for a command the text is in the output.
    pub const PANICKED: i32 = -3;
    /// The user pressed Ctrl+C.
    pub const INTERRUPTED: i32 = -4;
    /// The host, the dump or the machine does not have this.
    pub const UNSUPPORTED: i32 = -5;
    /// The command failed and said why in the output.
    pub const FAILED: i32 = -6;
    /// An argument is wrong.
    pub const INVALID: i32 = -7;
    /// A handle belongs to another target or an older state.
    pub const STALE: i32 = -8;
    /// Symbols or types are needed that are not loaded.
    pub const NO_SYMBOLS: i32 = -9;
    /// `help`-like commands: not mine, or let the next extension in the chain answer too.
    pub const CONTINUE_SEARCH: i32 = 1;

    /// What a status says to people.
    pub fn meaning(code: i32) -> &'static str {
        match code {
            OK => "done",
            UNREADABLE => "memory could not be read",
            NOT_FOUND => "something was not found",
            PANICKED => "it panicked",
            INTERRUPTED => "interrupted",
            UNSUPPORTED => "this kd or this dump does not have what it needs",
            INVALID => "a wrong argument",
            STALE => "a stale handle",
            NO_SYMBOLS => "symbols or types are not loaded",
            CONTINUE_SEARCH => "not handled here",
            _ => "it did not say why",
        }
    }
}

/// Why memory could not be read, in [`ReadFault::why`].
pub mod absent {
    /// The dump does not hold the page.
    pub const NOT_CAPTURED: u32 = 1;
    /// The page was in the page file when the machine stopped.
    pub const PAGED_OUT: u32 = 2;
    /// No page is mapped at the address.
    pub const NOT_MAPPED: u32 = 3;
    /// The dump file is cut or contradicts itself here.
    pub const BROKEN: u32 = 4;
}

/// What a command needs of the target before it is worth running, in [`CommandInfo::needs`].
pub mod needs {
    /// A dump is open.
    pub const TARGET: u32 = 1;
    /// The kernel's types (a PDB with type information).
    pub const KERNEL_TYPES: u32 = 2;
    /// Physical memory: any kind of dump but header-only and small ones.
    pub const PHYSICAL: u32 = 4;
}

/// Ids of the host's services, for [`HostV1::query`].
pub mod service {
    /// [`super::MemoryService`]
    pub const MEMORY: u32 = 1;
    /// [`super::TargetService`]
    pub const TARGET: u32 = 2;
    /// [`super::SymbolService`]
    pub const SYMBOLS: u32 = 3;
    /// [`super::TypeService`]
    pub const TYPES: u32 = 4;
    /// [`super::ExpressionService`]
    pub const EXPRESSIONS: u32 = 5;
    /// [`super::OutputService`]
    pub const OUTPUT: u32 = 6;
    /// [`super::ControlService`]
    pub const CONTROL: u32 = 7;
    /// [`super::StackService`]
    pub const STACKS: u32 = 8;
    /// [`super::CodeService`]
    pub const CODE: u32 = 9;
}

/// Events given to [`ExtensionV1::notify`]; the argument is the target's number.
pub mod event {
    /// A target was opened or became the current one: drop what was kept about another.
    pub const TARGET_CHANGED: u32 = 1;
    /// A target was closed.
    pub const TARGET_CLOSED: u32 = 2;
    /// Symbols were loaded or unloaded.
    pub const SYMBOLS_CHANGED: u32 = 3;
}

/// The host's own state behind the callbacks. Opaque: pass it back as it came.
pub type Ctx = *mut c_void;

/// Takes text from the host; the text is valid during the call only.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct TextSink {
    /// Passed back as the first argument of `write`.
    pub ctx: *mut c_void,
    /// Called any number of times, in order.
    pub write: unsafe extern "C" fn(ctx: *mut c_void, text: RStr<'_>),
}

// ---------------------------------------------------------------------------------------------------------------
// What an extension gives the host
// ---------------------------------------------------------------------------------------------------------------

/// What `kdext_entry` returns. Lives until [`ExtensionV1::unload`] has returned.
#[repr(C)]
#[derive(StableAbi)]
pub struct Extension {
    /// [`MAGIC`].
    pub magic: u64,
    /// Size of this table in bytes.
    pub size: u32,
    /// ABI the extension was built for.
    pub abi_major: u16,
    /// See `abi_major`.
    pub abi_minor: u16,
    /// Oldest host minor version that it can work with.
    pub min_host_minor: u16,
    /// Zero.
    pub reserved: [u16; 3],
    /// First block.
    pub v1: ExtensionV1,
}

/// First block of [`Extension`].
#[repr(C)]
#[derive(StableAbi)]
pub struct ExtensionV1 {
    /// The name used in `!NAME.command`, without `kdext_`.
    pub name: RStr<'static>,
    /// The extension's own version.
    pub version: RStr<'static>,
    /// What built it: compiler and SDK.
    pub built_by: RStr<'static>,
    /// One line for `.chain` and `!help`.
    pub summary: RStr<'static>,
    /// Its commands.
    pub commands: RSlice<'static, CommandInfo>,
    /// Runs command `index` of `commands`. Called on a thread of its own. Never null.
    pub run: Option<unsafe extern "C" fn(host: *const Host, index: u32, args: RStr<'_>) -> i32>,
    /// Something changed (see [`event`]); `host` is valid for the call. May be null.
    pub notify: Option<unsafe extern "C" fn(host: *const Host, event: u32, argument: u64) -> i32>,
    /// The last call before the library is closed; its answer is not looked at. May be null.
    pub unload: Option<unsafe extern "C" fn() -> i32>,
    /// An abi_stable header, or null in an extension not written in Rust.
    pub abi_header: *const c_void,
    /// The layout proof: one entry a block (empty where `abi_header` is null).
    pub layouts: *const c_void,
    /// Entries in `layouts`.
    pub layout_count: u64,
}

/// One command, as data.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct CommandInfo {
    /// Name without `!`, lower case.
    pub name: RStr<'static>,
    /// Other names.
    pub aliases: RSlice<'static, RStr<'static>>,
    /// One line.
    pub summary: RStr<'static>,
    /// Arguments, `[-v] [ADDRESS]`.
    pub usage: RStr<'static>,
    /// The long help text; may be empty.
    pub help: RStr<'static>,
    /// Bits of [`needs`].
    pub needs: u32,
    /// Zero.
    pub reserved: u32,
}

// ---------------------------------------------------------------------------------------------------------------
// What the host gives an extension
// ---------------------------------------------------------------------------------------------------------------

/// The host, as seen during one call.
#[repr(C)]
#[derive(StableAbi)]
pub struct Host {
    /// Size of this table in bytes.
    pub size: u32,
    /// ABI the host speaks.
    pub major: u16,
    /// See `major`.
    pub minor: u16,
    /// Passed to every callback.
    pub ctx: *mut c_void,
    /// Nonzero once the user has pressed Ctrl+C; read it with a relaxed atomic load, often.
    pub interrupt: *const u32,
    /// First block.
    pub v1: HostV1,
}

/// First block of [`Host`].
#[repr(C)]
#[derive(StableAbi)]
pub struct HostV1 {
    /// A service table by its id (see [`service`]), or null where the host has none of at least `min_size` bytes.
    pub query: unsafe extern "C" fn(ctx: *mut c_void, id: u32, min_size: u32) -> *const c_void,
    /// The text of the last failure on this thread.
    pub last_error: unsafe extern "C" fn(ctx: *mut c_void, text: TextSink),
}

macro_rules! service {
    ($(#[$doc:meta])* $table:ident, $block:ident) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(StableAbi)]
        pub struct $table {
            /// Size of this table in bytes.
            pub size: u32,
            /// Zero.
            pub reserved: u32,
            /// First block.
            pub v1: $block,
        }
    };
}

/// Where and why a read stopped.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Default)]
pub struct ReadFault {
    /// Bytes read before the fault.
    pub done: u64,
    /// Address of the first byte that could not be read.
    pub at: u64,
    /// One of [`absent`]; 0 where nothing failed.
    pub why: u32,
    /// Zero.
    pub reserved: u32,
}

service!(
    /// The target's memory.
    MemoryService,
    MemoryV1
);

/// First block of [`MemoryService`]. `space` is a directory table base (a physical address), or 0 for the current
/// address space.
#[repr(C)]
#[derive(StableAbi)]
pub struct MemoryV1 {
    /// Reads `len` bytes at `va`. On `UNREADABLE` the first `fault.done` bytes are good.
    pub read_virtual: unsafe extern "C" fn(
        ctx: *mut c_void,
        space: u64,
        va: u64,
        buffer: *mut u8,
        len: u64,
        fault: *mut ReadFault,
    ) -> i32,
    /// The same for physical memory.
    pub read_physical: unsafe extern "C" fn(
        ctx: *mut c_void,
        pa: u64,
        buffer: *mut u8,
        len: u64,
        fault: *mut ReadFault,
    ) -> i32,
    /// The physical address behind a virtual one.
    pub translate: unsafe extern "C" fn(
        ctx: *mut c_void,
        space: u64,
        va: u64,
        pa: *mut u64,
        fault: *mut ReadFault,
    ) -> i32,
    /// The first readable address at or after `va`.
    pub next_readable: unsafe extern "C" fn(ctx: *mut c_void, space: u64, va: u64, found: *mut u64) -> i32,
    /// Gives the runs of frames that the dump holds to the sink, in ascending order.
    pub physical_runs: unsafe extern "C" fn(ctx: *mut c_void, sink: RunSink) -> i32,
    /// The root of a process's page tables: the `space` to read its memory through.
    pub space_of_process: unsafe extern "C" fn(ctx: *mut c_void, process: u64, space: *mut u64) -> i32,
}

/// Takes runs of frames from the host; a nonzero answer ends the enumeration.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct RunSink {
    /// Passed back as the first argument of `visit`.
    pub ctx: *mut c_void,
    /// Called with the first frame's number and how many follow, itself included.
    pub visit: unsafe extern "C" fn(ctx: *mut c_void, first: u64, pages: u64) -> i32,
}

/// The machine and the crash, in numbers. A value the dump does not hold is 0; `present` tells it from a true 0.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Default)]
pub struct TargetInfo {
    /// Size of this struct, set by the caller; the host fills no more.
    pub size: u32,
    /// PE machine number: 0x14c, 0x8664, 0xaa64.
    pub machine: u32,
    /// 4 or 8.
    pub pointer_size: u32,
    /// Dump kind as in the header: 1 full … 4 small … 0xA.
    pub dump_kind: u32,
    /// Target number, as in `||`.
    pub target: u32,
    /// Processors.
    pub processors: u32,
    /// The processor that commands look at.
    pub current_processor: u32,
    /// Windows build (base build of the header).
    pub build: u32,
    /// 0xf free, 0xc checked.
    pub major_version: u32,
    /// Bits: 1 bug check, 2 time, 4 uptime, 8 product, 0x10 physical memory, 0x20 virtual memory.
    pub present: u32,
    /// Bug check code as stored (with 0x10000000 in small dumps).
    pub bug_check: u32,
    /// 1 workstation, 2 domain controller, 3 server.
    pub product_type: u32,
    /// Bug check parameters.
    pub parameters: [u64; 4],
    /// Time of the dump, FILETIME (100 ns since 1601, UTC).
    pub system_time: u64,
    /// Up time, in 100 ns.
    pub up_time: u64,
    /// Base of the kernel image.
    pub kernel_base: u64,
    /// Address of the module list head.
    pub ps_loaded_module_list: u64,
    /// Address of the process list head.
    pub ps_active_process_head: u64,
    /// Address of KDDEBUGGER_DATA64.
    pub kd_debugger_data: u64,
    /// Address of the PFN database variable.
    pub pfn_database: u64,
    /// Directory table base of the header.
    pub directory_table_base: u64,
    /// The process that was current on the current processor, 0 if unknown.
    pub current_process: u64,
    /// The thread that was current on the current processor, 0 if unknown.
    pub current_thread: u64,
    /// The current processor's KPRCB, 0 if unknown.
    pub prcb: u64,
}

/// One loaded module.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct ModuleInfo<'a> {
    /// First byte.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// Link time stamp of the image (UNIX seconds or a reproducible hash).
    pub time_stamp: u32,
    /// Image check sum.
    pub check_sum: u32,
    /// Bits: 1 the kernel, 2 user mode.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// Short name, `nt`, `tcpip`.
    pub name: RStr<'a>,
    /// File name, `tcpip.sys`.
    pub image: RStr<'a>,
    /// Path as Windows stores it.
    pub path: RStr<'a>,
    /// Address of its KLDR_DATA_TABLE_ENTRY, 0 if unknown.
    pub loader_entry: u64,
}

/// One unloaded module.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct UnloadedInfo<'a> {
    /// First byte.
    pub start: u64,
    /// Byte after the last.
    pub end: u64,
    /// When it was unloaded, FILETIME; 0 if unknown.
    pub unload_time: u64,
    /// Name as Windows kept it (cut at 12 characters).
    pub name: RStr<'a>,
}

/// The exception the dump was written for.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Default)]
pub struct ExceptionInfo {
    /// NTSTATUS.
    pub code: u32,
    /// Flags.
    pub flags: u32,
    /// Where.
    pub address: u64,
    /// Parameters in use.
    pub parameter_count: u32,
    /// Zero.
    pub reserved: u32,
    /// Parameters.
    pub parameters: [u64; 15],
}

/// One processor.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Default)]
pub struct ProcessorInfo {
    /// Number.
    pub number: u32,
    /// Bits: 1 its registers are in the dump.
    pub flags: u32,
    /// KPRCB, 0 if unknown.
    pub prcb: u64,
    /// ETHREAD, 0 if unknown.
    pub current_thread: u64,
    /// EPROCESS of that thread, 0 if unknown.
    pub current_process: u64,
}

/// A tagged block of secondary data.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Default)]
pub struct TaggedInfo {
    /// The GUID, in memory order.
    pub tag: [u8; 16],
    /// Bytes of data.
    pub size: u64,
}

/// Tag under which the block that a small dump has for the memory manager's counters is given: `DUMP_MM_STORAGE`.
pub const SMALL_DUMP_COUNTERS: [u8; 16] = *b"kd:triage:mm\0\0\0\0";

/// Register sets for [`TargetV1::register`].
pub mod registers {
    /// What `r` shows: what `.cxr`, `.trap` or `.thread` chose, else the current processor's.
    pub const CURRENT: u32 = 0;
    /// The context record in the dump header.
    pub const HEADER: u32 = 1;
    /// What the current processor's KPRCB saved, even where an explicit context is set.
    pub const PROCESSOR: u32 = 2;
}

/// Texts for [`TargetV1::text`].
pub mod text {
    /// Path of the dump file.
    pub const FILE: u32 = 1;
    /// The kind line of the banner.
    pub const KIND: u32 = 2;
    /// `Windows 10 Kernel Version 19041 MP (16 procs) Free x64`.
    pub const VERSION: u32 = 3;
    /// Build lab string.
    pub const BUILD_LAB: u32 = 4;
    /// Comment stored in the dump.
    pub const COMMENT: u32 = 5;
    /// `x64`, `x86`, `arm64`.
    pub const MACHINE: u32 = 6;
    /// The driver that Windows itself blamed in a small dump.
    pub const BLAMED_DRIVER: u32 = 7;
}

service!(
    /// The machine that crashed.
    TargetService,
    TargetV1
);

/// First block of [`TargetService`].
#[repr(C)]
#[derive(StableAbi)]
pub struct TargetV1 {
    /// Numbers about the target.
    pub info: unsafe extern "C" fn(ctx: *mut c_void, info: *mut TargetInfo) -> i32,
    /// A text about the target (see [`text`]).
    pub text: unsafe extern "C" fn(ctx: *mut c_void, id: u32, text: TextSink) -> i32,
    /// Loaded module by index, ordered by base. Strings are valid until the command ends.
    pub module: unsafe extern "C" fn(ctx: *mut c_void, index: u64, module: *mut ModuleInfo<'static>) -> i32,
    /// Index of the module that holds an address.
    pub module_at: unsafe extern "C" fn(ctx: *mut c_void, va: u64, index: *mut u64) -> i32,
    /// Unloaded module by index.
    pub unloaded:
        unsafe extern "C" fn(ctx: *mut c_void, index: u64, module: *mut UnloadedInfo<'static>) -> i32,
    /// A register by name (see [`registers`] for `set`).
    pub register: unsafe extern "C" fn(ctx: *mut c_void, set: u32, name: RStr<'_>, value: *mut u64) -> i32,
    /// The exception record.
    pub exception: unsafe extern "C" fn(ctx: *mut c_void, exception: *mut ExceptionInfo) -> i32,
    /// A processor by number.
    pub processor: unsafe extern "C" fn(ctx: *mut c_void, number: u32, processor: *mut ProcessorInfo) -> i32,
    /// A 2-byte or 8-byte field of KDDEBUGGER_DATA64 by its offset, decoded.
    pub kd_data: unsafe extern "C" fn(ctx: *mut c_void, offset: u32, size: u32, value: *mut u64) -> i32,
    /// Tagged data block by index.
    pub tagged: unsafe extern "C" fn(ctx: *mut c_void, index: u64, tagged: *mut TaggedInfo) -> i32,
    /// Bytes of a tagged data block; `done` gets how many were copied.
    pub read_tagged: unsafe extern "C" fn(
        ctx: *mut c_void,
        index: u64,
        offset: u64,
        buffer: *mut u8,
        len: u64,
        done: *mut u64,
    ) -> i32,
}

/// What stands at an address. Either text may be empty: no module, or no symbol in the module.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct SymbolInfo<'a> {
    /// Module name.
    pub module: RStr<'a>,
    /// Symbol name.
    pub name: RStr<'a>,
    /// Bytes from the symbol, or from the module's base where there is no symbol.
    pub displacement: u64,
    /// Address of the symbol (or of the module's base).
    pub address: u64,
}

/// Takes symbols from the host; a nonzero answer ends the enumeration.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct SymbolSink {
    /// Passed back as the first argument of `visit`.
    pub ctx: *mut c_void,
    /// Called for each symbol.
    pub visit: unsafe extern "C" fn(ctx: *mut c_void, symbol: &SymbolInfo<'_>) -> i32,
}

service!(
    /// Names and addresses.
    SymbolService,
    SymbolV1
);

/// First block of [`SymbolService`].
#[repr(C)]
#[derive(StableAbi)]
pub struct SymbolV1 {
    /// What stands at an address; the sink is called once. `NOT_FOUND` where no module holds it.
    pub at: unsafe extern "C" fn(ctx: *mut c_void, va: u64, sink: SymbolSink) -> i32,
    /// The address of `module!name` or of a module.
    pub by_name: unsafe extern "C" fn(ctx: *mut c_void, name: RStr<'_>, va: *mut u64) -> i32,
    /// Gives every symbol that matches `module!pattern` to the sink.
    pub each: unsafe extern "C" fn(ctx: *mut c_void, pattern: RStr<'_>, sink: SymbolSink) -> i32,
}

/// A type. `id` is 0 in a failed answer; handles are valid for the command that asked.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Default)]
pub struct TypeRef {
    /// Handle.
    pub id: u64,
    /// Bytes.
    pub size: u64,
}

/// Kinds of a field's type, in [`FieldInfo::kind`].
pub mod kind {
    /// Anything not below.
    pub const OTHER: u32 = 0;
    /// Unsigned integer.
    pub const UINT: u32 = 1;
    /// Signed integer.
    pub const INT: u32 = 2;
    /// Pointer; `element` is what it points to.
    pub const POINTER: u32 = 3;
    /// Structure, class or union.
    pub const STRUCT: u32 = 4;
    /// Array of `element`.
    pub const ARRAY: u32 = 5;
    /// Enumeration.
    pub const ENUM: u32 = 6;
    /// Bit field inside an integer.
    pub const BITS: u32 = 7;
    /// Floating point.
    pub const FLOAT: u32 = 8;
}

/// A field of a structure.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Default)]
pub struct FieldInfo {
    /// Bytes from the start of the structure.
    pub offset: u64,
    /// Bytes of the field (of the storage unit, for a bit field).
    pub size: u64,
    /// One of [`kind`].
    pub kind: u32,
    /// First bit, for a bit field.
    pub bit_position: u32,
    /// Bits, for a bit field; else 0.
    pub bit_length: u32,
    /// Elements, for an array; else 0.
    pub count: u32,
    /// The field's type (for an array or a pointer: the element's).
    pub element: TypeRef,
}

/// Takes fields from the host; a nonzero answer ends the enumeration.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct FieldSink {
    /// Passed back as the first argument of `visit`.
    pub ctx: *mut c_void,
    /// Called for each field.
    pub visit: unsafe extern "C" fn(ctx: *mut c_void, name: RStr<'_>, field: &FieldInfo) -> i32,
}

service!(
    /// Types of the target's modules.
    TypeService,
    TypeV1
);

/// First block of [`TypeService`].
#[repr(C)]
#[derive(StableAbi)]
pub struct TypeV1 {
    /// A type by name, `nt!_EPROCESS`.
    pub lookup: unsafe extern "C" fn(ctx: *mut c_void, name: RStr<'_>, found: *mut TypeRef) -> i32,
    /// A field by path, `Tcb.ApcState.Process`.
    pub field: unsafe extern "C" fn(ctx: *mut c_void, id: u64, path: RStr<'_>, field: *mut FieldInfo) -> i32,
    /// Gives every field to the sink, in order of declaration.
    pub fields: unsafe extern "C" fn(ctx: *mut c_void, id: u64, sink: FieldSink) -> i32,
    /// The name of a type.
    pub name: unsafe extern "C" fn(ctx: *mut c_void, id: u64, text: TextSink) -> i32,
    /// The name of an enumeration's value.
    pub enum_name: unsafe extern "C" fn(ctx: *mut c_void, id: u64, value: i64, text: TextSink) -> i32,
}

service!(
    /// Expressions.
    ExpressionService,
    ExpressionV1
);

/// First block of [`ExpressionService`].
#[repr(C)]
#[derive(StableAbi)]
pub struct ExpressionV1 {
    /// Evaluates `text` as the prompt would.
    pub evaluate: unsafe extern "C" fn(ctx: *mut c_void, text: RStr<'_>, value: *mut u64) -> i32,
    /// Evaluates a C++ expression to a value with its type.
    pub typed: unsafe extern "C" fn(ctx: *mut c_void, text: RStr<'_>, value: *mut TypedInfo) -> i32,
}

/// A value and its type.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Default)]
pub struct TypedInfo {
    /// The number: of a structure or an array its address.
    pub value: u64,
    /// Where it stands in memory; 0 where it is in a register or nowhere.
    pub address: u64,
    /// Its type (for an array or a pointer: the element's). `id` is 0 for C's own types, which are in no module.
    pub of: TypeRef,
    /// Bytes.
    pub size: u64,
    /// One of [`kind`].
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

/// Tags of [`FieldValue`].
pub mod value {
    /// No value.
    pub const NULL: u32 = 0;
    /// 0 or 1.
    pub const BOOL: u32 = 1;
    /// A count: a JSON number.
    pub const UINT: u32 = 2;
    /// A signed count: a JSON number.
    pub const INT: u32 = 3;
    /// An address or a code: the JSON string `"0x…"`.
    pub const HEX: u32 = 4;
    /// FILETIME: the JSON string of an ISO 8601 UTC time.
    pub const TIME: u32 = 5;
    /// 100 ns units: JSON seconds.
    pub const DURATION: u32 = 6;
    /// Text.
    pub const TEXT: u32 = 7;
}

/// A typed value.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct FieldValue<'a> {
    /// One of [`value`].
    pub tag: u32,
    /// Zero.
    pub reserved: u32,
    /// The number (two's complement for [`value::INT`]).
    pub number: u64,
    /// The text, for [`value::TEXT`].
    pub text: RStr<'a>,
}

/// Shapes for [`OutputV1::begin`].
pub mod shape {
    /// Named values: a JSON object.
    pub const RECORD: u32 = 1;
    /// Items in order: a JSON array.
    pub const LIST: u32 = 2;
}

/// Severities for [`OutputV1::message`].
pub mod severity {
    /// Shown with `-v` only.
    pub const VERBOSE: u32 = 0;
    /// The command goes on.
    pub const WARNING: u32 = 1;
    /// The command fails.
    pub const ERROR: u32 = 2;
}

service!(
    /// The one stream of output events.
    OutputService,
    OutputV1
);

/// First block of [`OutputService`].
#[repr(C)]
#[derive(StableAbi)]
pub struct OutputV1 {
    /// Opens a record or a list called `key` (ignored inside a list).
    pub begin: unsafe extern "C" fn(ctx: *mut c_void, shape: u32, key: RStr<'_>),
    /// Closes what was opened last.
    pub end: unsafe extern "C" fn(ctx: *mut c_void),
    /// Text for people only.
    pub text: unsafe extern "C" fn(ctx: *mut c_void, style: u32, text: RStr<'_>),
    /// A value: `value` under `key` for programs, `shown` (may be empty) for people.
    pub field: unsafe extern "C" fn(
        ctx: *mut c_void,
        key: RStr<'_>,
        value: *const FieldValue<'_>,
        style: u32,
        shown: RStr<'_>,
    ),
    /// Text that runs a command when it is clicked.
    pub link: unsafe extern "C" fn(ctx: *mut c_void, text: RStr<'_>, command: RStr<'_>),
    /// A warning or an error.
    pub message: unsafe extern "C" fn(ctx: *mut c_void, severity: u32, text: RStr<'_>),
}

service!(
    /// Progress, logging, running other commands.
    ControlService,
    ControlV1
);

/// First block of [`ControlService`].
#[repr(C)]
#[derive(StableAbi)]
pub struct ControlV1 {
    /// `done` of `total` (0: unknown) units of `label`.
    pub progress: unsafe extern "C" fn(ctx: *mut c_void, done: u64, total: u64, label: RStr<'_>),
    /// Runs a command line and gives its plain text to `output`.
    pub execute: unsafe extern "C" fn(ctx: *mut c_void, line: RStr<'_>, output: TextSink) -> i32,
}

/// Kinds of [`ContextRef`].
pub mod context {
    /// What `r` and `k` show.
    pub const CURRENT: u32 = 0;
    /// Processor `at`.
    pub const PROCESSOR: u32 = 1;
    /// The context record in the dump's header.
    pub const HEADER: u32 = 2;
    /// The CONTEXT record at the address `at`.
    pub const RECORD: u32 = 3;
    /// The KTRAP_FRAME at the address `at`.
    pub const TRAP: u32 = 4;
    /// The thread whose ETHREAD is at the address `at`.
    pub const THREAD: u32 = 5;
    /// Just an instruction pointer, a stack pointer and a frame pointer.
    pub const VALUES: u32 = 6;
}

/// Registers that stand somewhere in the target.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Default)]
pub struct ContextRef {
    /// One of [`context`].
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
    /// The processor, or the address of the record, frame or thread.
    pub at: u64,
    /// The address space to read through: a directory table base, or 0 for the current one.
    pub space: u64,
    /// Instruction pointer, for [`context::VALUES`].
    pub ip: u64,
    /// Stack pointer, for [`context::VALUES`].
    pub sp: u64,
    /// Frame pointer, for [`context::VALUES`].
    pub fp: u64,
}

/// How a frame was found, in [`FrameInfo::source`].
pub mod frame_source {
    /// Its registers are those that the walk began with.
    pub const CONTEXT: u32 = 0;
    /// By unwind data.
    pub const UNWIND: u32 = 1;
    /// By unwind data, some from an image file.
    pub const UNWIND_IMAGE_FILE: u32 = 2;
    /// By frame data of the symbols (x86).
    pub const FRAME_DATA: u32 = 3;
    /// By the chain of frame pointers.
    pub const FRAME_POINTER: u32 = 4;
    /// The function it called has no frame of its own.
    pub const LEAF: u32 = 5;
    /// It was interrupted: by a trap frame or a machine frame.
    pub const TRAP: u32 = 6;
    /// A return address found on the stack; it may be stale.
    pub const SCAN: u32 = 7;
}

/// Bits of [`FrameInfo::flags`].
pub mod frame_flag {
    /// `ip` is the instruction that ran, not the one after a call.
    pub const EXACT: u32 = 1;
    /// A function that the compiler put into its caller: no frame of its own.
    pub const INLINE: u32 = 2;
}

/// A frame of a stack.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct FrameInfo<'a> {
    /// Where it stands; of callers the return address.
    pub ip: u64,
    /// Stack pointer: KD's Child-SP.
    pub sp: u64,
    /// Frame pointer: on x86 KD's ChildEBP.
    pub fp: u64,
    /// Where it returns to; 0 at the end and where that is not known.
    pub return_address: u64,
    /// The trap frame it made; 0 if none.
    pub trap_frame: u64,
    /// The words at the places of its first arguments.
    pub arguments: [u64; 4],
    /// Bits: which of `arguments` could be read.
    pub arguments_read: u32,
    /// One of [`frame_source`].
    pub source: u32,
    /// Bits of [`frame_flag`].
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// The place of `ip` as `k` names it.
    pub site: RStr<'a>,
    /// Why its caller was not found from unwind data; empty where it was.
    pub missing: RStr<'a>,
}

/// Takes frames from the host; a nonzero answer ends the enumeration.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct FrameSink {
    /// Passed back as the first argument of `visit`.
    pub ctx: *mut c_void,
    /// Called for each frame.
    pub visit: unsafe extern "C" fn(ctx: *mut c_void, frame: &FrameInfo<'_>) -> i32,
}

/// What a table of frames shows: bits for [`StackV1::show`], named for the letters of `k`.
pub mod look {
    /// `b`: the words at the places of the first arguments.
    pub const ARGUMENTS: u32 = 1;
    /// `v`: trap frames; Child-SP beside the arguments.
    pub const VERBOSE: u32 = 2;
    /// `c`: names only.
    pub const NAMES_ONLY: u32 = 4;
    /// `n`: frame numbers.
    pub const NUMBERS: u32 = 8;
    /// `f`: bytes from frame to frame.
    pub const DISTANCES: u32 = 16;
}

service!(
    /// Stacks.
    StackService,
    StackV1
);

/// First block of [`StackService`]. What the user looks at stays what it is.
#[repr(C)]
#[derive(StableAbi)]
pub struct StackV1 {
    /// Gives the frames of a stack to the sink, innermost first, at most `most`.
    pub walk:
        unsafe extern "C" fn(ctx: *mut c_void, from: *const ContextRef, most: u32, sink: FrameSink) -> i32,
    /// Shows a stack as `k` does, in the command's own output: bits of [`look`], each line after `indent` blanks.
    pub show: unsafe extern "C" fn(
        ctx: *mut c_void,
        from: *const ContextRef,
        most: u32,
        look: u32,
        indent: u32,
    ) -> i32,
    /// A register by its name.
    pub register: unsafe extern "C" fn(
        ctx: *mut c_void,
        from: *const ContextRef,
        name: RStr<'_>,
        value: *mut u64,
    ) -> i32,
}

/// How an instruction passes control on, in [`InstructionInfo::flow`].
pub mod flow {
    /// To the next instruction.
    pub const NEXT: u32 = 0;
    /// To `to`; 0 where it is in a register or in memory.
    pub const JUMP: u32 = 1;
    /// To `to` or to the next instruction.
    pub const BRANCH: u32 = 2;
    /// To `to` and back; 0 where it is in a register or in memory.
    pub const CALL: u32 = 3;
    /// Back to the caller.
    pub const RETURN: u32 = 4;
    /// Nowhere: no valid instruction.
    pub const STOP: u32 = 5;
}

/// An instruction.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct InstructionInfo<'a> {
    /// Where it stands.
    pub address: u64,
    /// Bytes.
    pub length: u32,
    /// One of [`flow`].
    pub flow: u32,
    /// Where it leads besides the next instruction.
    pub to: u64,
    /// Bits: 1 some of its bytes came from an image file.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// `mov     qword ptr [rsp+8],rcx`
    pub text: RStr<'a>,
    /// As `u` shows it: address, bytes, text.
    pub line: RStr<'a>,
}

/// Takes instructions from the host; a nonzero answer ends the enumeration.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct InstructionSink {
    /// Passed back as the first argument of `visit`.
    pub ctx: *mut c_void,
    /// Called for each instruction.
    pub visit: unsafe extern "C" fn(ctx: *mut c_void, instruction: &InstructionInfo<'_>) -> i32,
}

service!(
    /// Code.
    CodeService,
    CodeV1
);

/// First block of [`CodeService`]. `space` is as for [`MemoryV1`].
#[repr(C)]
#[derive(StableAbi)]
pub struct CodeV1 {
    /// Gives instructions from `va` on to the sink, at most `most`.
    pub forward: unsafe extern "C" fn(
        ctx: *mut c_void,
        space: u64,
        va: u64,
        most: u32,
        sink: InstructionSink,
        fault: *mut ReadFault,
    ) -> i32,
    /// Gives the instructions that lead to `va` to the sink, in order, at most `most`.
    pub backward: unsafe extern "C" fn(
        ctx: *mut c_void,
        space: u64,
        va: u64,
        most: u32,
        sink: InstructionSink,
        fault: *mut ReadFault,
    ) -> i32,
}
