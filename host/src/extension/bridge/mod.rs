//! Fills the ABI's tables: the host's services as C functions, a service a file. Each body is guarded, so that a panic
//! in the host becomes a status and the extension goes on.

#![allow(unsafe_code)]

use super::worker::Shared;
use crate::memory::{Absent, ReadFault, View};
use crate::scope::{OpenTarget, Scope};
use crate::stack::AddressSpace;
use crate::symbols::{Field, Kind, ModuleTypes, SymbolError, TypeId};
use crate::target::version;
use kd_sdk::abi::{self, RStr, status};
use kd_sdk::address::{Pa, Va};
use kd_sdk::output::{Event, Severity, Shape, Style, Value};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A service's static table: its block holds the functions of these names.
macro_rules! table {
    ($name:ident, $table:ident, $block:ident { $($function:ident),+ $(,)? }) => {
        pub(super) static $name: abi::$table = abi::$table {
            size: size_of::<abi::$table>() as u32,
            reserved: 0,
            v1: abi::$block { $($function),+ },
        };
    };
}

mod code;
mod memory;
mod output;
mod stacks;
mod symbols;
mod target;

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
    /// The address space asked for last, by its root: its translations are kept from one read to the next.
    space: RefCell<Option<(u64, View)>>,
    /// The process whose page tables were asked for last: their root, itself.
    process: Cell<Option<(u64, Va)>>,
    /// The target with the modules of another process than the listed one, by the root of its page tables.
    elsewhere: RefCell<Option<(u64, Arc<OpenTarget>)>>,
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

impl From<kd_sdk::error::Error> for Failure {
    fn from(error: kd_sdk::error::Error) -> Failure {
        // Addresses are only said in words here; the status of a fault is for reads.
        let code = match error.status() {
            status::UNREADABLE => status::NOT_FOUND,
            code => code,
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

/// The number of a kind of type in the ABI.
fn kind_number(kind: Kind) -> u32 {
    match kind {
        Kind::Uint => abi::kind::UINT,
        Kind::Int => abi::kind::INT,
        Kind::Float => abi::kind::FLOAT,
        Kind::Pointer => abi::kind::POINTER,
        Kind::Struct => abi::kind::STRUCT,
        Kind::Array => abi::kind::ARRAY,
        Kind::Enum => abi::kind::ENUM,
        Kind::Bits => abi::kind::BITS,
        Kind::Other => abi::kind::OTHER,
    }
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
            space: RefCell::default(),
            process: Cell::default(),
            elsewhere: RefCell::default(),
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

    fn interrupted(&self) -> bool {
        self.shared.interrupt.load(Ordering::Relaxed) != 0
    }

    /// The scope with another address space, and with the modules of the process that it is known to belong to; 0: as
    /// it is.
    fn scope_in(&self, root: u64) -> Result<Cow<'_, Scope>, Failure> {
        if root == 0 {
            return Ok(Cow::Borrowed(&self.scope));
        }
        let mut scope = self.scope.clone();
        let view = memory::space_of(self, root)?;
        let process = self.process.get().filter(|known| known.0 == root).map(|known| known.1);
        scope.contexts.space = Some(Arc::new(AddressSpace { view, root: Pa(root), process }));
        let open = self.open()?;
        if process.is_some() && open.target.user_process() != process {
            let mut kept = self.elsewhere.borrow_mut();
            let known = kept.take().filter(|known| known.0 == root).map(|known| known.1);
            let own = known.unwrap_or_else(|| Arc::new(scope.with_own_modules(open)));
            scope.open = Some(Arc::clone(&own));
            *kept = Some((root, own));
        }
        Ok(Cow::Owned(scope))
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
            kind: kind_number(field.kind),
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
        abi::service::MEMORY => table(&memory::MEMORY, min_size),
        abi::service::TARGET => table(&target::TARGET, min_size),
        abi::service::SYMBOLS => table(&symbols::SYMBOLS, min_size),
        abi::service::TYPES => table(&symbols::TYPES, min_size),
        abi::service::EXPRESSIONS => table(&symbols::EXPRESSIONS, min_size),
        abi::service::OUTPUT => table(&output::OUTPUT, min_size),
        abi::service::CONTROL => table(&output::CONTROL, min_size),
        abi::service::STACKS => table(&stacks::STACKS, min_size),
        abi::service::CODE => table(&code::CODE, min_size),
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
