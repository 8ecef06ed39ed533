//! The host's callbacks as safe functions: what the rest of the SDK calls. Each gives the status of the call; a
//! service that this host does not have answers [`status::UNSUPPORTED`].

use super::{
    CodeService, CodeV1, ContextRef, ControlService, ControlV1, ExceptionInfo, ExpressionService,
    ExpressionV1, FieldInfo, FieldSink, FieldValue, FrameInfo, FrameSink, Host, InstructionInfo,
    InstructionSink, MAJOR, MemoryService, MemoryV1, ModuleInfo, OutputService, OutputV1, ProcessorInfo,
    RStr, ReadFault, RunSink, StackService, StackV1, SymbolInfo, SymbolService, SymbolSink, SymbolV1,
    TaggedInfo, TargetInfo, TargetService, TargetV1, TextSink, TypeRef, TypeService, TypeV1, TypedInfo,
    UnloadedInfo, service, shape, status,
};
use crate::output::{Event, Severity, Shape, Value};
use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The host during one call of an extension.
pub struct Calls<'a> {
    host: &'a Host,
    memory: Option<&'a MemoryV1>,
    target: Option<&'a TargetV1>,
    symbols: Option<&'a SymbolV1>,
    types: Option<&'a TypeV1>,
    expressions: Option<&'a ExpressionV1>,
    output: Option<&'a OutputV1>,
    control: Option<&'a ControlV1>,
    stacks: Option<&'a StackV1>,
    code: Option<&'a CodeV1>,
}

/// Calls a function of a service that may not be there.
macro_rules! call {
    ($self:ident.$service:ident.$function:ident($($argument:expr),*)) => {
        match $self.$service {
            // SAFETY: the table is valid for `'a` (see `Calls::new`); every pointer among the arguments comes from a
            // reference that outlives the call.
            Some(table) => unsafe { (table.$function)($self.host.ctx, $($argument),*) },
            None => status::UNSUPPORTED,
        }
    };
}

impl<'a> Calls<'a> {
    /// Wraps a host's table; `None` where it is not one this SDK can use.
    ///
    /// # Safety
    /// `host` is null or points to a host table that is valid for `'a`.
    pub unsafe fn new(host: *const Host) -> Option<Calls<'a>> {
        // SAFETY: the caller's promise.
        let host: &'a Host = unsafe { host.as_ref() }?;
        if host.major != MAJOR || (host.size as usize) < size_of::<Host>() {
            return None;
        }
        macro_rules! service {
            ($id:ident, $table:ty) => {{
                let size = size_of::<$table>() as u32;
                // SAFETY: the host answers with null or a table of at least `size` bytes that lives as long as `host`.
                let table = unsafe { (host.v1.query)(host.ctx, service::$id, size).cast::<$table>().as_ref() };
                table.map(|table| &table.v1)
            }};
        }
        Some(Calls {
            memory: service!(MEMORY, MemoryService),
            target: service!(TARGET, TargetService),
            symbols: service!(SYMBOLS, SymbolService),
            types: service!(TYPES, TypeService),
            expressions: service!(EXPRESSIONS, ExpressionService),
            output: service!(OUTPUT, OutputService),
            control: service!(CONTROL, ControlService),
            stacks: service!(STACKS, StackService),
            code: service!(CODE, CodeService),
            host,
        })
    }

    /// True once the user has pressed Ctrl+C.
    pub(crate) fn interrupted(&self) -> bool {
        // SAFETY: the host keeps the flag alive for the call; both sides use it atomically.
        let flag = unsafe { self.host.interrupt.cast::<AtomicU32>().as_ref() };
        flag.is_some_and(|flag| flag.load(Ordering::Relaxed) != 0)
    }

    /// The text of the last failure.
    pub(crate) fn last_error(&self) -> String {
        let mut text = String::new();
        // SAFETY: the sink is valid for the call.
        unsafe { (self.host.v1.last_error)(self.host.ctx, sink_into(&mut text)) };
        text
    }

    /// [`MemoryV1::read_virtual`].
    pub(crate) fn read_virtual(&self, space: u64, va: u64, buffer: &mut [u8], fault: &mut ReadFault) -> i32 {
        call!(self.memory.read_virtual(space, va, buffer.as_mut_ptr(), buffer.len() as u64, fault))
    }

    /// [`MemoryV1::read_physical`].
    pub(crate) fn read_physical(&self, pa: u64, buffer: &mut [u8], fault: &mut ReadFault) -> i32 {
        call!(self.memory.read_physical(pa, buffer.as_mut_ptr(), buffer.len() as u64, fault))
    }

    /// [`MemoryV1::translate`].
    pub(crate) fn translate(&self, space: u64, va: u64, pa: &mut u64, fault: &mut ReadFault) -> i32 {
        call!(self.memory.translate(space, va, pa, fault))
    }

    /// [`MemoryV1::next_readable`].
    pub(crate) fn next_readable(&self, space: u64, va: u64, found: &mut u64) -> i32 {
        call!(self.memory.next_readable(space, va, found))
    }

    /// [`MemoryV1::physical_runs`]; `visit` says whether to go on.
    pub(crate) fn physical_runs(&self, visit: &mut dyn FnMut(u64, u64) -> bool) -> i32 {
        let mut visitor = Visitor::new(visit);
        let code = call!(self.memory.physical_runs(run_sink(&mut visitor)));
        visitor.finish(code)
    }

    /// [`MemoryV1::space_of_process`].
    pub(crate) fn space_of_process(&self, process: u64, space: &mut u64) -> i32 {
        call!(self.memory.space_of_process(process, space))
    }

    /// [`TargetV1::info`].
    pub(crate) fn info(&self, info: &mut TargetInfo) -> i32 {
        call!(self.target.info(info))
    }

    /// [`TargetV1::text`].
    pub(crate) fn text(&self, id: u32, text: &mut String) -> i32 {
        call!(self.target.text(id, sink_into(text)))
    }

    /// [`TargetV1::module`]; its texts are valid until the command ends.
    pub(crate) fn module(&self, index: u64, module: &mut ModuleInfo<'static>) -> i32 {
        call!(self.target.module(index, module))
    }

    /// [`TargetV1::module_at`].
    pub(crate) fn module_at(&self, va: u64, index: &mut u64) -> i32 {
        call!(self.target.module_at(va, index))
    }

    /// [`TargetV1::unloaded`]; its text is valid until the command ends.
    pub(crate) fn unloaded(&self, index: u64, module: &mut UnloadedInfo<'static>) -> i32 {
        call!(self.target.unloaded(index, module))
    }

    /// [`TargetV1::register`].
    pub(crate) fn register(&self, set: u32, name: &str, value: &mut u64) -> i32 {
        call!(self.target.register(set, RStr::from_str(name), value))
    }

    /// [`TargetV1::exception`].
    pub(crate) fn exception(&self, exception: &mut ExceptionInfo) -> i32 {
        call!(self.target.exception(exception))
    }

    /// [`TargetV1::processor`].
    pub(crate) fn processor(&self, number: u32, processor: &mut ProcessorInfo) -> i32 {
        call!(self.target.processor(number, processor))
    }

    /// [`TargetV1::kd_data`].
    pub(crate) fn kd_data(&self, offset: u32, size: u32, value: &mut u64) -> i32 {
        call!(self.target.kd_data(offset, size, value))
    }

    /// [`TargetV1::tagged`].
    pub(crate) fn tagged(&self, index: u64, tagged: &mut TaggedInfo) -> i32 {
        call!(self.target.tagged(index, tagged))
    }

    /// [`TargetV1::read_tagged`].
    pub(crate) fn read_tagged(&self, index: u64, offset: u64, buffer: &mut [u8], done: &mut u64) -> i32 {
        call!(self.target.read_tagged(index, offset, buffer.as_mut_ptr(), buffer.len() as u64, done))
    }

    /// [`SymbolV1::at`].
    pub(crate) fn symbol_at(&self, va: u64, visit: &mut dyn FnMut(&SymbolInfo<'_>) -> bool) -> i32 {
        let mut visitor = Visitor::new(visit);
        let code = call!(self.symbols.at(va, symbol_sink(&mut visitor)));
        visitor.finish(code)
    }

    /// [`SymbolV1::by_name`].
    pub(crate) fn symbol_by_name(&self, name: &str, va: &mut u64) -> i32 {
        call!(self.symbols.by_name(RStr::from_str(name), va))
    }

    /// [`SymbolV1::each`]; `visit` says whether to go on.
    pub(crate) fn each_symbol(&self, pattern: &str, visit: &mut dyn FnMut(&SymbolInfo<'_>) -> bool) -> i32 {
        let mut visitor = Visitor::new(visit);
        let code = call!(self.symbols.each(RStr::from_str(pattern), symbol_sink(&mut visitor)));
        visitor.finish(code)
    }

    /// [`TypeV1::lookup`].
    pub(crate) fn type_by_name(&self, name: &str, found: &mut TypeRef) -> i32 {
        call!(self.types.lookup(RStr::from_str(name), found))
    }

    /// [`TypeV1::field`].
    pub(crate) fn field(&self, id: u64, path: &str, field: &mut FieldInfo) -> i32 {
        call!(self.types.field(id, RStr::from_str(path), field))
    }

    /// [`TypeV1::fields`]; `visit` says whether to go on.
    pub(crate) fn each_field(&self, id: u64, visit: &mut dyn FnMut(&str, &FieldInfo) -> bool) -> i32 {
        let mut visitor = Visitor::new(visit);
        let code = call!(self.types.fields(id, field_sink(&mut visitor)));
        visitor.finish(code)
    }

    /// [`TypeV1::name`].
    pub(crate) fn type_name(&self, id: u64, name: &mut String) -> i32 {
        call!(self.types.name(id, sink_into(name)))
    }

    /// [`TypeV1::enum_name`].
    pub(crate) fn enum_name(&self, id: u64, value: i64, name: &mut String) -> i32 {
        call!(self.types.enum_name(id, value, sink_into(name)))
    }

    /// [`ExpressionV1::evaluate`].
    pub(crate) fn evaluate(&self, text: &str, value: &mut u64) -> i32 {
        call!(self.expressions.evaluate(RStr::from_str(text), value))
    }

    /// [`ExpressionV1::typed`].
    pub(crate) fn evaluate_typed(&self, text: &str, value: &mut TypedInfo) -> i32 {
        call!(self.expressions.typed(RStr::from_str(text), value))
    }

    /// [`StackV1::walk`]; `visit` says whether to go on.
    pub(crate) fn walk_stack(
        &self,
        from: &ContextRef,
        most: u32,
        visit: &mut dyn FnMut(&FrameInfo<'_>) -> bool,
    ) -> i32 {
        let mut visitor = Visitor::new(visit);
        let code = call!(self.stacks.walk(from, most, frame_sink(&mut visitor)));
        visitor.finish(code)
    }

    /// [`StackV1::show`].
    pub(crate) fn show_stack(&self, from: &ContextRef, most: u32, look: u32, indent: u32) -> i32 {
        call!(self.stacks.show(from, most, look, indent))
    }

    /// [`StackV1::register`].
    pub(crate) fn register_of(&self, from: &ContextRef, name: &str, value: &mut u64) -> i32 {
        call!(self.stacks.register(from, RStr::from_str(name), value))
    }

    /// [`CodeV1::forward`], or `backward`; `visit` says whether to go on.
    pub(crate) fn instructions(
        &self,
        backward: bool,
        (space, va): (u64, u64),
        most: u32,
        visit: &mut dyn FnMut(&InstructionInfo<'_>) -> bool,
        fault: &mut ReadFault,
    ) -> i32 {
        let mut visitor = Visitor::new(visit);
        let sink = instruction_sink(&mut visitor);
        let code = if backward {
            call!(self.code.backward(space, va, most, sink, fault))
        } else {
            call!(self.code.forward(space, va, most, sink, fault))
        };
        visitor.finish(code)
    }

    /// [`ControlV1::progress`].
    pub(crate) fn progress(&self, done: u64, total: u64, label: &str) {
        if let Some(control) = self.control {
            // SAFETY: the text is valid for the call.
            unsafe { (control.progress)(self.host.ctx, done, total, RStr::from_str(label)) }
        }
    }

    /// [`ControlV1::execute`].
    pub(crate) fn execute(&self, line: &str, output: &mut String) -> i32 {
        call!(self.control.execute(RStr::from_str(line), sink_into(output)))
    }

    /// Sends an event of [`OutputV1`].
    pub(crate) fn emit(&self, event: &Event<'_>) {
        let Some(output) = self.output else { return };
        let ctx = self.host.ctx;
        // SAFETY: every text is valid for its call.
        unsafe {
            match *event {
                Event::Begin { shape, key } => {
                    let shape = match shape {
                        Shape::Record => shape::RECORD,
                        Shape::List => shape::LIST,
                    };
                    (output.begin)(ctx, shape, RStr::from_str(key));
                }
                Event::End => (output.end)(ctx),
                Event::Text { style, text } => (output.text)(ctx, style.to_abi(), RStr::from_str(text)),
                Event::Field { key, value, style, shown } => {
                    let (tag, number) = value.to_abi();
                    let text = if let Value::Text(text) = value { text } else { "" };
                    let value = FieldValue { tag, reserved: 0, number, text: RStr::from_str(text) };
                    (output.field)(ctx, RStr::from_str(key), &value, style.to_abi(), RStr::from_str(shown));
                }
                Event::Link { text, command } => {
                    (output.link)(ctx, RStr::from_str(text), RStr::from_str(command));
                }
                Event::Message { severity, text } => {
                    let severity = match severity {
                        Severity::Verbose => super::severity::VERBOSE,
                        Severity::Warning => super::severity::WARNING,
                        Severity::Error => super::severity::ERROR,
                    };
                    (output.message)(ctx, severity, RStr::from_str(text));
                }
            }
        }
    }
}

/// A sink that appends to `text`; for one call.
fn sink_into(text: &mut String) -> TextSink {
    unsafe extern "C" fn write(ctx: *mut c_void, piece: RStr<'_>) {
        // SAFETY: `ctx` is the string of the enclosing call, used by nobody else meanwhile.
        if let Some(text) = unsafe { ctx.cast::<String>().as_mut() } {
            text.push_str(piece.as_str());
        }
    }
    TextSink { ctx: (&raw mut *text).cast(), write }
}

/// A closure on its way through the host. A panic in it waits here until the host has returned.
struct Visitor<F> {
    visit: F,
    panic: Option<Box<dyn Any + Send>>,
}

impl<F> Visitor<F> {
    fn new(visit: F) -> Visitor<F> {
        Visitor { visit, panic: None }
    }

    /// Runs `body` on the closure: 0 to go on, as the ABI has it.
    ///
    /// # Safety
    /// `ctx` is a visitor of this type, of the enclosing call, used by nobody else meanwhile.
    unsafe fn call(ctx: *mut c_void, body: impl FnOnce(&mut F) -> bool) -> i32 {
        // SAFETY: the caller's promise.
        let Some(visitor) = (unsafe { ctx.cast::<Visitor<F>>().as_mut() }) else { return status::INVALID };
        match catch_unwind(AssertUnwindSafe(|| body(&mut visitor.visit))) {
            Ok(go_on) => i32::from(!go_on),
            Err(panic) => {
                visitor.panic = Some(panic);
                status::PANICKED
            }
        }
    }

    /// The status of the host's call, unless the closure panicked.
    fn finish(self, code: i32) -> i32 {
        match self.panic {
            Some(panic) => resume_unwind(panic),
            None => code,
        }
    }
}

type VisitSymbol<'v> = &'v mut dyn FnMut(&SymbolInfo<'_>) -> bool;

/// A sink that calls the visitor; for one call.
fn symbol_sink(visitor: &mut Visitor<VisitSymbol<'_>>) -> SymbolSink {
    unsafe extern "C" fn visit(ctx: *mut c_void, symbol: &SymbolInfo<'_>) -> i32 {
        // SAFETY: `ctx` is the visitor below.
        unsafe { Visitor::<VisitSymbol<'_>>::call(ctx, |visit| visit(symbol)) }
    }
    SymbolSink { ctx: (&raw mut *visitor).cast(), visit }
}

type VisitField<'v> = &'v mut dyn FnMut(&str, &FieldInfo) -> bool;

/// A sink that calls the visitor; for one call.
fn field_sink(visitor: &mut Visitor<VisitField<'_>>) -> FieldSink {
    unsafe extern "C" fn visit(ctx: *mut c_void, name: RStr<'_>, field: &FieldInfo) -> i32 {
        // SAFETY: `ctx` is the visitor below.
        unsafe { Visitor::<VisitField<'_>>::call(ctx, |visit| visit(name.as_str(), field)) }
    }
    FieldSink { ctx: (&raw mut *visitor).cast(), visit }
}

type VisitRun<'v> = &'v mut dyn FnMut(u64, u64) -> bool;

/// A sink that calls the visitor; for one call.
fn run_sink(visitor: &mut Visitor<VisitRun<'_>>) -> RunSink {
    unsafe extern "C" fn visit(ctx: *mut c_void, first: u64, pages: u64) -> i32 {
        // SAFETY: `ctx` is the visitor below.
        unsafe { Visitor::<VisitRun<'_>>::call(ctx, |visit| visit(first, pages)) }
    }
    RunSink { ctx: (&raw mut *visitor).cast(), visit }
}

type VisitFrame<'v> = &'v mut dyn FnMut(&FrameInfo<'_>) -> bool;

/// A sink that calls the visitor; for one call.
fn frame_sink(visitor: &mut Visitor<VisitFrame<'_>>) -> FrameSink {
    unsafe extern "C" fn visit(ctx: *mut c_void, frame: &FrameInfo<'_>) -> i32 {
        // SAFETY: `ctx` is the visitor below.
        unsafe { Visitor::<VisitFrame<'_>>::call(ctx, |visit| visit(frame)) }
    }
    FrameSink { ctx: (&raw mut *visitor).cast(), visit }
}

type VisitInstruction<'v> = &'v mut dyn FnMut(&InstructionInfo<'_>) -> bool;

/// A sink that calls the visitor; for one call.
fn instruction_sink(visitor: &mut Visitor<VisitInstruction<'_>>) -> InstructionSink {
    unsafe extern "C" fn visit(ctx: *mut c_void, instruction: &InstructionInfo<'_>) -> i32 {
        // SAFETY: `ctx` is the visitor below.
        unsafe { Visitor::<VisitInstruction<'_>>::call(ctx, |visit| visit(instruction)) }
    }
    InstructionSink { ctx: (&raw mut *visitor).cast(), visit }
}
