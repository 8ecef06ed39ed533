//! Fills the ABI's tables: the host's services as C functions. Each body is guarded, so that a panic in the host
//! becomes a status and the extension goes on.

#![allow(unsafe_code)]

use super::worker::Shared;
use crate::memory::{Absent, ReadFault, View};
use crate::scope::{OpenTarget, Scope};
use crate::symbols::{Field, Kind, ModuleTypes, SymbolError, TypeId};
use crate::target::{Target, version};
use kd_sdk::abi::{self, RStr, status};
use kd_sdk::address::{Pa, Va};
use kd_sdk::output::{Event, Severity, Shape, Style, Value};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What stands behind the tables during one command. Lives on the worker's stack.
pub struct Bridge {
    shared: Arc<Shared>,
    scope: Scope,
    /// The thread of the command, the only one that may call.
    thread: usize,
    last_error: RefCell<String>,
    /// Why the last read failed; made a text only if somebody asks.
    last_fault: Cell<Option<(u64, Absent)>>,
    /// Types handed out; a handle is an index plus one.
    types: RefCell<Vec<(Arc<ModuleTypes>, TypeId)>>,
}

type Ctx = *mut c_void;
type Outcome = Result<(), Failure>;

/// A status and the text for `last_error`.
struct Failure(i32, String);

impl From<SymbolError> for Failure {
    fn from(error: SymbolError) -> Failure {
        let code = match error {
            SymbolError::NotFound { .. }
            | SymbolError::NotFoundAnywhere { .. }
            | SymbolError::NoType { .. } => status::NOT_FOUND,
            _ => status::NO_SYMBOLS,
        };
        Failure(code, error.to_string())
    }
}

fn not_found(what: impl Into<String>) -> Failure {
    Failure(status::NOT_FOUND, what.into())
}

fn invalid() -> Failure {
    Failure(status::INVALID, "invalid argument".to_owned())
}

/// Runs `body` on the bridge behind `ctx`; nothing unwinds out of it.
///
/// # Safety
/// `ctx` is what [`Bridge::with_host`] put into the table, and the command still runs.
unsafe fn guard(ctx: Ctx, body: impl FnOnce(&Bridge) -> Outcome) -> i32 {
    // SAFETY: the caller's promise.
    let Some(bridge) = (unsafe { ctx.cast::<Bridge>().as_ref() }) else { return status::INVALID };
    if bridge.thread != this_thread() {
        return status::INVALID;
    }
    if bridge.shared.is_abandoned() {
        return status::INTERRUPTED;
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| body(bridge)));
    match outcome.unwrap_or_else(|_| {
        Err(Failure(status::PANICKED, "internal error in kd: a service panicked".to_owned()))
    }) {
        Ok(()) => status::OK,
        Err(Failure(code, text)) => {
            if code != status::UNREADABLE {
                bridge.last_fault.set(None);
                if let Ok(mut last) = bridge.last_error.try_borrow_mut() {
                    *last = text;
                }
            }
            code
        }
    }
}

/// A number that no other living thread has.
fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| (&raw const *mark).addr())
}

/// A text an extension gave.
///
/// # Safety
/// A pointer that is not null is valid for the text's length.
unsafe fn said<'a>(text: RStr<'a>) -> Result<Cow<'a, str>, Failure> {
    // SAFETY: the caller's promise.
    unsafe { abi::text_of(text) }
        .ok_or_else(|| Failure(status::INVALID, "a text is null or absurdly long".to_owned()))
}

/// Writes through a pointer an extension gave.
///
/// # Safety
/// `place` is null or valid for a write.
unsafe fn put<T>(place: *mut T, value: T) -> Outcome {
    if place.is_null() || !place.is_aligned() {
        return Err(invalid());
    }
    // SAFETY: checked above and the caller's promise.
    unsafe { place.write(value) };
    Ok(())
}

/// Writes as much of the numbers about the target as the extension's own struct has room for.
///
/// # Safety
/// `place` is null, or its `size` is set and it is valid for a write of that size.
unsafe fn put_sized(place: *mut abi::TargetInfo, value: abi::TargetInfo) -> Outcome {
    if place.is_null() || !place.is_aligned() {
        return Err(invalid());
    }
    // SAFETY: checked above and the caller's promise.
    let size = unsafe { (*place).size };
    let room = (size as usize).min(size_of::<abi::TargetInfo>());
    if room < size_of::<u32>() {
        return Err(Failure(status::INVALID, "the size of the target's numbers is not set".to_owned()));
    }
    let value = abi::TargetInfo { size: room as u32, ..value };
    // SAFETY: `room` bytes are valid on both sides, which do not overlap.
    unsafe { std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), place.cast::<u8>(), room) };
    Ok(())
}

/// The bytes of an extension's buffer.
///
/// # Safety
/// `buffer` is null or valid for `len` bytes.
unsafe fn buffer_of<'a>(buffer: *mut u8, len: u64) -> Result<&'a mut [u8], Failure> {
    let len = usize::try_from(len).map_err(|_| invalid())?;
    if len == 0 {
        return Ok(&mut []);
    }
    if buffer.is_null() || len > isize::MAX as usize {
        return Err(invalid());
    }
    // SAFETY: the caller's promise. The ABI asks for initialised bytes.
    Ok(unsafe { std::slice::from_raw_parts_mut(buffer, len) })
}

fn tell(sink: abi::TextSink, text: &str) {
    // SAFETY: the sink is the extension's, valid during the call that brought it.
    unsafe { (sink.write)(sink.ctx, RStr::from_str(text)) }
}

/// A text of the target that outlives the command: the bridge keeps the target alive.
fn text_for_command(text: &str) -> RStr<'static> {
    // SAFETY: points into the `Arc<OpenTarget>` that the bridge holds until the command has returned.
    unsafe { RStr::from_raw_parts(text.as_ptr(), text.len()) }
}

impl Bridge {
    /// A bridge for one command.
    pub fn new(shared: Arc<Shared>, scope: Scope) -> Bridge {
        Bridge {
            shared,
            scope,
            thread: this_thread(),
            last_error: RefCell::default(),
            last_fault: Cell::default(),
            types: RefCell::default(),
        }
    }

    /// Runs `body` with the table an extension sees.
    pub fn with_host<T>(&self, body: impl FnOnce(&abi::Host) -> T) -> T {
        body(&abi::Host {
            size: size_of::<abi::Host>() as u32,
            major: abi::MAJOR,
            minor: abi::MINOR,
            ctx: (&raw const *self).cast_mut().cast(),
            interrupt: self.shared.interrupt.as_ptr(),
            v1: abi::HostV1 { query, last_error },
        })
    }

    fn open(&self) -> Result<&Arc<OpenTarget>, Failure> {
        self.scope.open().map_err(|error| Failure(status::UNSUPPORTED, error.to_string()))
    }

    fn emit(&self, event: &Event<'_>) -> Outcome {
        self.shared.emit(event);
        Ok(())
    }

    fn keep_type(&self, types: Arc<ModuleTypes>, id: TypeId) -> abi::TypeRef {
        let size = types.size(id);
        let mut kept = self.types.borrow_mut();
        let known = kept.iter().position(|(module, known)| *known == id && Arc::ptr_eq(module, &types));
        let index = known.unwrap_or_else(|| {
            kept.push((types, id));
            kept.len() - 1
        });
        abi::TypeRef { id: index as u64 + 1, size }
    }

    fn type_of(&self, handle: u64) -> Result<(Arc<ModuleTypes>, TypeId), Failure> {
        let index = handle.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        index
            .and_then(|index| self.types.borrow().get(index).cloned())
            .ok_or_else(|| Failure(status::STALE, "stale type handle".to_owned()))
    }

    fn field_info(&self, types: &Arc<ModuleTypes>, field: &Field) -> abi::FieldInfo {
        abi::FieldInfo {
            offset: field.offset,
            size: field.size,
            kind: match field.kind {
                Kind::Uint => abi::kind::UINT,
                Kind::Int => abi::kind::INT,
                Kind::Float => abi::kind::FLOAT,
                Kind::Pointer => abi::kind::POINTER,
                Kind::Struct => abi::kind::STRUCT,
                Kind::Array => abi::kind::ARRAY,
                Kind::Enum => abi::kind::ENUM,
                Kind::Bits => abi::kind::BITS,
                Kind::Other => abi::kind::OTHER,
            },
            bit_position: field.bit_position,
            bit_length: field.bit_length,
            count: u32::try_from(field.count).unwrap_or(u32::MAX),
            element: self.keep_type(Arc::clone(types), field.element),
        }
    }
}

unsafe extern "C" fn query(_: Ctx, id: u32, min_size: u32) -> *const c_void {
    fn table<T>(table: &'static T, min_size: u32) -> *const c_void {
        if min_size as usize <= size_of::<T>() { (&raw const *table).cast() } else { std::ptr::null() }
    }
    match id {
        abi::service::MEMORY => table(&MEMORY, min_size),
        abi::service::TARGET => table(&TARGET, min_size),
        abi::service::SYMBOLS => table(&SYMBOLS, min_size),
        abi::service::TYPES => table(&TYPES, min_size),
        abi::service::EXPRESSIONS => table(&EXPRESSIONS, min_size),
        abi::service::OUTPUT => table(&OUTPUT, min_size),
        abi::service::CONTROL => table(&CONTROL, min_size),
        _ => std::ptr::null(),
    }
}

unsafe extern "C" fn last_error(ctx: Ctx, sink: abi::TextSink) {
    // SAFETY: `ctx` comes from the table.
    unsafe {
        guard(ctx, |bridge| {
            let text = match bridge.last_fault.get() {
                Some((at, why)) => format!("cannot read {}: {why}", Va(at)),
                None => bridge.last_error.borrow().clone(),
            };
            tell(sink, &text);
            Ok(())
        });
    }
}

macro_rules! table {
    ($name:ident, $table:ident, $block:ident { $($function:ident),+ $(,)? }) => {
        static $name: abi::$table = abi::$table {
            size: size_of::<abi::$table>() as u32,
            reserved: 0,
            v1: abi::$block { $($function),+ },
        };
    };
}

// ----- memory ------------------------------------------------------------------------------------------------------

table!(MEMORY, MemoryService, MemoryV1 { read_virtual, read_physical, translate, next_readable });

/// The address space with this directory table base; 0: the current one.
fn space_of(target: &Target, root: u64) -> View {
    let view = target.view();
    match view.tables().filter(|_| root != 0) {
        Some(tables) => view.with_tables(&tables.with_root(Pa(root))),
        None => view.clone(),
    }
}

/// Reports an absence; the status of the call.
unsafe fn faulted(bridge: &Bridge, place: *mut abi::ReadFault, done: u64, at: u64, why: Absent) -> Outcome {
    bridge.last_fault.set(Some((at, why)));
    let fault = abi::ReadFault { done, at, why: why.to_abi(), reserved: 0 };
    // SAFETY: the caller's place.
    let _ = unsafe { put(place, fault) };
    Err(Failure(status::UNREADABLE, String::new()))
}

unsafe extern "C" fn read_virtual(
    ctx: Ctx,
    space: u64,
    va: u64,
    buffer: *mut u8,
    len: u64,
    fault: *mut abi::ReadFault,
) -> i32 {
    // SAFETY: pointers as the ABI demands them of an extension.
    unsafe {
        guard(ctx, |bridge| {
            let buffer = buffer_of(buffer, len)?;
            let open = bridge.open()?;
            let outcome = match space {
                0 => open.target.read(Va(va), buffer),
                root => space_of(&open.target, root).read(Va(va), buffer),
            };
            match outcome.fault {
                None => Ok(()),
                Some(ReadFault { at, why, .. }) => faulted(bridge, fault, outcome.done as u64, at.0, why),
            }
        })
    }
}

unsafe extern "C" fn read_physical(
    ctx: Ctx,
    pa: u64,
    buffer: *mut u8,
    len: u64,
    fault: *mut abi::ReadFault,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let buffer = buffer_of(buffer, len)?;
            match bridge.open()?.target.read_physical(Pa(pa), buffer) {
                Ok(()) => Ok(()),
                Err((done, why)) => faulted(bridge, fault, done as u64, pa.wrapping_add(done as u64), why),
            }
        })
    }
}

unsafe extern "C" fn translate(
    ctx: Ctx,
    space: u64,
    va: u64,
    pa: *mut u64,
    fault: *mut abi::ReadFault,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let target = &bridge.open()?.target;
            let view = space_of(target, space);
            match view.walk(Va(va)) {
                None => Err(Failure(status::UNSUPPORTED, "a small dump has no page tables".to_owned())),
                Some(Ok(found)) => put(pa, found.pa.0),
                Some(Err(walk)) => faulted(bridge, fault, 0, va, walk.fault.why),
            }
        })
    }
}

unsafe extern "C" fn next_readable(ctx: Ctx, space: u64, va: u64, found: *mut u64) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let target = &bridge.open()?.target;
            let view = space_of(target, space);
            match view.next_readable(Va(va)) {
                Some(va) => put(found, va.0),
                None => Err(not_found("nothing readable from there on")),
            }
        })
    }
}

// ----- target ------------------------------------------------------------------------------------------------------

table!(
    TARGET,
    TargetService,
    TargetV1 {
        info,
        text,
        module,
        module_at,
        unloaded,
        register,
        exception,
        processor,
        kd_data,
        tagged,
        read_tagged
    }
);

unsafe extern "C" fn info(ctx: Ctx, place: *mut abi::TargetInfo) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let open = bridge.open()?;
            let (target, header) = (&open.target, open.target.dump().header());
            let check = header.bug_check.as_ref();
            let processor = target.processors().get(bridge.scope.processor as usize);
            let or_zero = |va: Option<Va>| va.map_or(0, |va| va.0);
            let present = [
                (check.is_some(), 1),
                (header.system_time.is_some(), 2),
                (header.system_up_time.is_some(), 4),
                (header.product_type.is_some(), 8),
                (target.dump().physical().is_some(), 0x10),
                (target.dump().physical().is_some() || target.dump().virtual_blocks().is_some(), 0x20),
            ];
            put_sized(
                place,
                abi::TargetInfo {
                    size: size_of::<abi::TargetInfo>() as u32,
                    machine: target.machine().number(),
                    pointer_size: target.pointer_size(),
                    dump_kind: target.dump().kind().number(),
                    target: open.number,
                    processors: target.processors().len() as u32,
                    current_processor: bridge.scope.processor,
                    build: header.minor_version.unwrap_or(0),
                    major_version: header.major_version.unwrap_or(0),
                    present: present.iter().filter(|(is, _)| *is).map(|(_, bit)| bit).sum(),
                    bug_check: check.map_or(0, |check| check.code),
                    product_type: header.product_type.unwrap_or(0),
                    parameters: check.map_or([0; 4], |check| check.parameters),
                    system_time: header.system_time.unwrap_or(0),
                    up_time: header.system_up_time.unwrap_or(0),
                    kernel_base: or_zero(target.kernel_base()),
                    ps_loaded_module_list: or_zero(header.ps_loaded_module_list),
                    ps_active_process_head: or_zero(header.ps_active_process_head),
                    kd_debugger_data: or_zero(header.kd_debugger_data_block),
                    pfn_database: or_zero(header.pfn_database),
                    directory_table_base: header.directory_table_base.map_or(0, |pa| pa.0),
                    current_process: or_zero(processor.and_then(|p| p.current_process)),
                    current_thread: or_zero(processor.and_then(|p| p.current_thread)),
                    prcb: or_zero(processor.and_then(|p| p.prcb)),
                },
            )
        })
    }
}

unsafe extern "C" fn text(ctx: Ctx, id: u32, sink: abi::TextSink) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let target = &bridge.open()?.target;
            let text = match id {
                abi::text::FILE => Some(target.dump().path().display().to_string()),
                abi::text::KIND => Some(version::kind_line(target.kind()).to_owned()),
                abi::text::VERSION => Some(target.version().windows_line()),
                abi::text::BUILD_LAB => target.version().build_lab,
                abi::text::COMMENT => target.header().comment.clone(),
                abi::text::BLAMED_DRIVER => {
                    target.dump().triage().and_then(|small| small.broken_driver.clone())
                }
                abi::text::MACHINE => Some(target.machine().name().to_owned()),
                _ => None,
            };
            let text = text.ok_or_else(|| not_found("the dump does not say"))?;
            tell(sink, &text);
            Ok(())
        })
    }
}

unsafe extern "C" fn module(ctx: Ctx, index: u64, place: *mut abi::ModuleInfo<'static>) -> i32 {
    // SAFETY: as above; the texts live as long as the bridge.
    unsafe {
        guard(ctx, |bridge| {
            let modules = bridge.open()?.target.modules();
            let module = usize::try_from(index).ok().and_then(|index| modules.get(index));
            let module = module.ok_or_else(|| not_found("no module of that index"))?;
            put(
                place,
                abi::ModuleInfo {
                    base: module.base.0,
                    size: module.size,
                    time_stamp: module.time_stamp,
                    check_sum: module.check_sum,
                    flags: u32::from(module.is_kernel),
                    reserved: 0,
                    name: text_for_command(&module.name),
                    image: text_for_command(&module.image),
                    path: text_for_command(&module.path),
                    loader_entry: module.loader_entry.map_or(0, |va| va.0),
                },
            )
        })
    }
}

unsafe extern "C" fn module_at(ctx: Ctx, va: u64, index: *mut u64) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| match bridge.open()?.target.module_index_at(Va(va)) {
            Some(found) => put(index, found as u64),
            None => Err(not_found("no module there")),
        })
    }
}

unsafe extern "C" fn unloaded(ctx: Ctx, index: u64, place: *mut abi::UnloadedInfo<'static>) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let modules = bridge.open()?.target.unloaded();
            let module = usize::try_from(index).ok().and_then(|index| modules.get(index));
            let module = module.ok_or_else(|| not_found("no unloaded module of that index"))?;
            put(
                place,
                abi::UnloadedInfo {
                    start: module.start.0,
                    end: module.end.0,
                    unload_time: module.time.unwrap_or(0),
                    name: text_for_command(&module.name),
                },
            )
        })
    }
}

unsafe extern "C" fn register(ctx: Ctx, set: u32, name: RStr<'_>, value: *mut u64) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let target = &bridge.open()?.target;
            let name = said(name)?.to_ascii_lowercase();
            let found = if set == abi::registers::HEADER {
                target.header_registers().and_then(|registers| registers.get(&name))
            } else if name.starts_with('$') {
                bridge.scope.register(&name)
            } else {
                let found = target.registers(bridge.scope.processor);
                found.map_err(|error| not_found(crate::chained(&error)))?.registers.get(&name)
            };
            match found {
                Some(found) => put(value, found),
                None => Err(not_found(format!("no register '{name}' here"))),
            }
        })
    }
}

unsafe extern "C" fn exception(ctx: Ctx, place: *mut abi::ExceptionInfo) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let exception = bridge.open()?.target.exception();
            let exception = exception.ok_or_else(|| not_found("the dump has no exception record"))?;
            let mut parameters = [0; 15];
            for (place, value) in parameters.iter_mut().zip(&exception.parameters) {
                *place = *value;
            }
            put(
                place,
                abi::ExceptionInfo {
                    code: exception.code,
                    flags: exception.flags,
                    address: exception.address.0,
                    parameter_count: exception.parameters.len().min(15) as u32,
                    reserved: 0,
                    parameters,
                },
            )
        })
    }
}

unsafe extern "C" fn processor(ctx: Ctx, number: u32, place: *mut abi::ProcessorInfo) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let target = &bridge.open()?.target;
            let found =
                target.processors().get(number as usize).ok_or_else(|| not_found("no such processor"))?;
            let or_zero = |va: Option<Va>| va.map_or(0, |va| va.0);
            put(
                place,
                abi::ProcessorInfo {
                    number,
                    flags: u32::from(target.registers(number).is_ok()),
                    prcb: or_zero(found.prcb),
                    current_thread: or_zero(found.current_thread),
                    current_process: or_zero(found.current_process),
                },
            )
        })
    }
}

unsafe extern "C" fn kd_data(ctx: Ctx, offset: u32, size: u32, value: *mut u64) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let target = &bridge.open()?.target;
            let data = target.kd_data().ok_or_else(|| not_found("the dump has no KD data block"))?;
            let start = offset as usize;
            let bytes = start.checked_add(size as usize).and_then(|end| data.bytes().get(start..end));
            let mut whole = [0; 8];
            match bytes.and_then(|bytes| whole.get_mut(..bytes.len()).map(|place| (place, bytes))) {
                Some((place, bytes)) => place.copy_from_slice(bytes),
                None => return Err(not_found("the KD data block ends before this field")),
            }
            put(value, u64::from_le_bytes(whole))
        })
    }
}

unsafe extern "C" fn tagged(ctx: Ctx, index: u64, place: *mut abi::TaggedInfo) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let blobs = bridge.open()?.target.dump().tagged_data();
            let blob = usize::try_from(index).ok().and_then(|index| blobs.get(index));
            let blob = blob.ok_or_else(|| not_found("no tagged data of that index"))?;
            put(place, abi::TaggedInfo { tag: blob.guid, size: blob.size })
        })
    }
}

unsafe extern "C" fn read_tagged(
    ctx: Ctx,
    index: u64,
    offset: u64,
    buffer: *mut u8,
    len: u64,
    done: *mut u64,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let buffer = buffer_of(buffer, len)?;
            let dump = bridge.open()?.target.dump();
            let blob = usize::try_from(index).ok().and_then(|index| dump.tagged_data().get(index));
            let blob = blob.ok_or_else(|| not_found("no tagged data of that index"))?;
            let bytes = dump.tagged_bytes(blob).ok_or_else(|| not_found("the file ends before this data"))?;
            let rest =
                usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            for (place, byte) in buffer.iter_mut().zip(rest) {
                *place = *byte;
            }
            put(done, count as u64)
        })
    }
}

// ----- symbols, types, expressions ---------------------------------------------------------------------------------

table!(SYMBOLS, SymbolService, SymbolV1 { at, by_name, each });

unsafe extern "C" fn at(ctx: Ctx, va: u64, sink: abi::SymbolSink) -> i32 {
    // SAFETY: as above; the sink is the extension's.
    unsafe {
        guard(ctx, |bridge| {
            let hit = bridge.scope.name_of(Va(va)).ok_or_else(|| not_found("no module there"))?;
            let symbol = abi::SymbolInfo {
                module: RStr::from_str(&hit.module_name),
                name: RStr::from_str(&hit.name),
                displacement: hit.displacement,
                address: hit.address.0,
            };
            (sink.visit)(sink.ctx, &symbol);
            Ok(())
        })
    }
}

unsafe extern "C" fn by_name(ctx: Ctx, name: RStr<'_>, va: *mut u64) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let open = bridge.open()?;
            put(va, open.symbols.find(&open.target, &said(name)?)?.0)
        })
    }
}

unsafe extern "C" fn each(ctx: Ctx, pattern: RStr<'_>, sink: abi::SymbolSink) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let open = bridge.open()?;
            open.symbols.each(&open.target, &said(pattern)?, &mut |named| {
                let symbol = abi::SymbolInfo {
                    module: RStr::from_str(named.module_name),
                    name: RStr::from_str(named.name),
                    displacement: 0,
                    address: named.address.0,
                };
                match (sink.visit)(sink.ctx, &symbol) {
                    0 => ControlFlow::Continue(()),
                    _ => ControlFlow::Break(()),
                }
            })?;
            Ok(())
        })
    }
}

table!(TYPES, TypeService, TypeV1 { lookup, field, fields, name, enum_name });

unsafe extern "C" fn lookup(ctx: Ctx, name: RStr<'_>, found: *mut abi::TypeRef) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let open = bridge.open()?;
            let (types, id) = open.symbols.find_type(&open.target, &said(name)?)?;
            put(found, bridge.keep_type(types, id))
        })
    }
}

unsafe extern "C" fn field(ctx: Ctx, id: u64, path: RStr<'_>, place: *mut abi::FieldInfo) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let (types, id) = bridge.type_of(id)?;
            let field = types.field(id, &said(path)?).ok_or_else(|| not_found("no such field"))?;
            put(place, bridge.field_info(&types, &field))
        })
    }
}

unsafe extern "C" fn fields(ctx: Ctx, id: u64, sink: abi::FieldSink) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let (types, id) = bridge.type_of(id)?;
            for field in types.fields(id).iter() {
                let info = bridge.field_info(&types, field);
                if (sink.visit)(sink.ctx, RStr::from_str(&field.name), &info) != 0 {
                    break;
                }
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn name(ctx: Ctx, id: u64, sink: abi::TextSink) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let (types, id) = bridge.type_of(id)?;
            tell(sink, &types.name(id));
            Ok(())
        })
    }
}

unsafe extern "C" fn enum_name(ctx: Ctx, id: u64, value: i64, sink: abi::TextSink) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let (types, id) = bridge.type_of(id)?;
            let found = types.enum_name(id, value).ok_or_else(|| not_found("no name for this value"))?;
            tell(sink, &found);
            Ok(())
        })
    }
}

table!(EXPRESSIONS, ExpressionService, ExpressionV1 { evaluate });

unsafe extern "C" fn evaluate(ctx: Ctx, text: RStr<'_>, value: *mut u64) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let found = bridge.scope.evaluate(&said(text)?);
            put(value, found.map_err(|error| Failure(status::INVALID, error.to_string()))?)
        })
    }
}

// ----- output and control ------------------------------------------------------------------------------------------

static OUTPUT: abi::OutputService = abi::OutputService {
    size: size_of::<abi::OutputService>() as u32,
    reserved: 0,
    v1: abi::OutputV1 { begin, end, text: show_text, field: show_field, link, message },
};

/// Sends the event that `make` gives.
///
/// # Safety
/// As for [`guard`].
unsafe fn send(ctx: Ctx, make: impl FnOnce(&Bridge) -> Outcome) {
    // SAFETY: the caller's promise.
    unsafe { guard(ctx, make) };
}

unsafe extern "C" fn begin(ctx: Ctx, shape: u32, key: RStr<'_>) {
    let shape = if shape == abi::shape::LIST { Shape::List } else { Shape::Record };
    // SAFETY: `ctx` comes from the table, the text from the extension.
    unsafe { send(ctx, |bridge| bridge.emit(&Event::Begin { shape, key: &said(key)? })) }
}

unsafe extern "C" fn end(ctx: Ctx) {
    // SAFETY: as above.
    unsafe { send(ctx, |bridge| bridge.emit(&Event::End)) }
}

unsafe extern "C" fn show_text(ctx: Ctx, style: u32, text: RStr<'_>) {
    let style = Style::from_abi(style);
    // SAFETY: as above.
    unsafe { send(ctx, |bridge| bridge.emit(&Event::Text { style, text: &said(text)? })) }
}

unsafe extern "C" fn show_field(
    ctx: Ctx,
    key: RStr<'_>,
    value: *const abi::FieldValue<'_>,
    style: u32,
    shown: RStr<'_>,
) {
    // SAFETY: as above; the value is checked before it is read.
    unsafe {
        send(ctx, |bridge| {
            if !value.is_aligned() {
                return Err(invalid());
            }
            let value = value.as_ref().ok_or_else(invalid)?;
            // Only a text has a text: in C the rest may be left as it is.
            let text = if value.tag == abi::value::TEXT { said(value.text)? } else { Cow::Borrowed("") };
            bridge.emit(&Event::Field {
                key: &said(key)?,
                value: Value::from_abi(value.tag, value.number, &text),
                style: Style::from_abi(style),
                shown: &said(shown)?,
            })
        });
    }
}

unsafe extern "C" fn link(ctx: Ctx, text: RStr<'_>, command: RStr<'_>) {
    // SAFETY: as above.
    unsafe { send(ctx, |bridge| bridge.emit(&Event::Link { text: &said(text)?, command: &said(command)? })) }
}

unsafe extern "C" fn message(ctx: Ctx, severity: u32, text: RStr<'_>) {
    let severity = match severity {
        abi::severity::VERBOSE => Severity::Verbose,
        abi::severity::WARNING => Severity::Warning,
        _ => Severity::Error,
    };
    // SAFETY: as above.
    unsafe { send(ctx, |bridge| bridge.emit(&Event::Message { severity, text: &said(text)? })) }
}

table!(CONTROL, ControlService, ControlV1 { progress, execute });

unsafe extern "C" fn progress(ctx: Ctx, done: u64, total: u64, label: RStr<'_>) {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            bridge.shared.progress(done, total, &said(label)?);
            Ok(())
        });
    }
}

unsafe extern "C" fn execute(ctx: Ctx, line: RStr<'_>, sink: abi::TextSink) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let (code, text) = bridge.shared.execute(&said(line)?);
            tell(sink, &text);
            // What went wrong is the last thing a command says.
            let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("the command failed");
            let last = last.strip_prefix("error: ").unwrap_or(last);
            if code == status::OK { Ok(()) } else { Err(Failure(code, last.to_owned())) }
        })
    }
}
