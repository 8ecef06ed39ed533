//! The host as one command sees it. Everything here is valid until the command returns.

#![allow(unsafe_code)]

use crate::abi::{self, Host, RStr, TextSink, status};
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::output::{Event, Out, Severity, Shape, Sink, Value};
use crate::symbols::Symbols;
use crate::target::Target;
use crate::types::Types;
use core::cell::OnceCell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};

/// The host during one call.
pub struct Session<'a> {
    pub(crate) host: &'a Host,
    pub(crate) memory: Option<&'a abi::MemoryV1>,
    pub(crate) target: Option<&'a abi::TargetV1>,
    pub(crate) symbols: Option<&'a abi::SymbolV1>,
    pub(crate) types: Option<&'a abi::TypeV1>,
    expressions: Option<&'a abi::ExpressionV1>,
    control: Option<&'a abi::ControlV1>,
    sink: AbiSink<'a>,
    info: OnceCell<abi::TargetInfo>,
}

/// Sends output events across the border.
struct AbiSink<'a> {
    ctx: *mut c_void,
    output: Option<&'a abi::OutputV1>,
}

impl<'a> Session<'a> {
    /// Wraps the host's table. `None` where the table is not one this SDK can use.
    ///
    /// # Safety
    /// `host` is null or points to a host table that is valid for `'a`.
    pub unsafe fn from_host(host: *const Host) -> Option<Session<'a>> {
        // SAFETY: the caller's promise.
        let host: &'a Host = unsafe { host.as_ref() }?;
        if host.major != abi::MAJOR || (host.size as usize) < size_of::<Host>() {
            return None;
        }
        macro_rules! service {
            ($id:ident, $table:ty) => {{
                let size = size_of::<$table>() as u32;
                // SAFETY: the host answers with a table of at least `size` bytes that lives as long as `host`.
                let table = unsafe { (host.v1.query)(host.ctx, abi::service::$id, size).cast::<$table>().as_ref() };
                table.map(|table| &table.v1)
            }};
        }
        Some(Session {
            memory: service!(MEMORY, abi::MemoryService),
            target: service!(TARGET, abi::TargetService),
            symbols: service!(SYMBOLS, abi::SymbolService),
            types: service!(TYPES, abi::TypeService),
            expressions: service!(EXPRESSIONS, abi::ExpressionService),
            control: service!(CONTROL, abi::ControlService),
            sink: AbiSink { ctx: host.ctx, output: service!(OUTPUT, abi::OutputService) },
            info: OnceCell::new(),
            host,
        })
    }

    /// The output stream.
    pub fn out(&self) -> Out<'_> {
        Out::new(&self.sink)
    }

    pub(crate) fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    /// The target's memory.
    pub fn memory(&self) -> Memory<'_> {
        Memory { session: self, space: 0 }
    }

    /// The machine that crashed.
    pub fn target(&self) -> Target<'_> {
        Target { session: self }
    }

    /// Names and addresses.
    pub fn symbols(&self) -> Symbols<'_> {
        Symbols { session: self }
    }

    /// Types.
    pub fn types(&self) -> Types<'_> {
        Types { session: self }
    }

    pub(crate) fn info(&self) -> &abi::TargetInfo {
        self.info.get_or_init(|| {
            let mut info =
                abi::TargetInfo { size: size_of::<abi::TargetInfo>() as u32, ..Default::default() };
            if let Some(target) = self.target {
                // SAFETY: `info` is a valid place for the call.
                let _ = unsafe { (target.info)(self.host.ctx, &mut info) };
            }
            info
        })
    }

    /// Evaluates an expression as the prompt would.
    pub fn evaluate(&self, text: &str) -> Result<u64> {
        let service = self.expressions.ok_or_else(|| missing("expressions"))?;
        let mut value = 0;
        // SAFETY: the text and the place are valid for the call.
        self.check(unsafe { (service.evaluate)(self.host.ctx, RStr::from_str(text), &mut value) })?;
        Ok(value)
    }

    /// True once the user has pressed Ctrl+C. One relaxed load: ask often.
    pub fn interrupted(&self) -> bool {
        // SAFETY: the host keeps the flag alive for the session; both sides use it atomically.
        let flag = unsafe { self.host.interrupt.cast::<AtomicU32>().as_ref() };
        flag.is_some_and(|flag| flag.load(Ordering::Relaxed) != 0)
    }

    /// `Err(Interrupted)` once the user has pressed Ctrl+C; for `?` in loops.
    pub fn check_interrupt(&self) -> Result<()> {
        if self.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Shows how far a long operation is: `done` of `total` (0: unknown).
    pub fn progress(&self, done: u64, total: u64, label: &str) {
        if let Some(control) = self.control {
            // SAFETY: the text is valid for the call.
            unsafe { (control.progress)(self.host.ctx, done, total, RStr::from_str(label)) }
        }
    }

    /// Runs a command line and returns its plain text.
    pub fn execute(&self, line: &str) -> Result<String> {
        let control = self.control.ok_or_else(|| missing("control"))?;
        let mut text = String::new();
        // SAFETY: the sink is valid for the call.
        let code = unsafe { (control.execute)(self.host.ctx, RStr::from_str(line), sink_into(&mut text)) };
        if code == status::OK { Ok(text) } else { Err(self.failure(code)) }
    }

    /// Turns a callback's status into a result.
    pub(crate) fn check(&self, code: i32) -> Result<()> {
        if code == status::OK { Ok(()) } else { Err(self.failure(code)) }
    }

    pub(crate) fn failure(&self, code: i32) -> Error {
        let mut text = String::new();
        // SAFETY: the sink is valid for the call.
        unsafe { (self.host.v1.last_error)(self.host.ctx, sink_into(&mut text)) };
        Error::from_host(code, text)
    }
}

pub(crate) fn missing(service: &str) -> Error {
    Error::Unsupported(format!("this kd has no service for {service}"))
}

/// A [`TextSink`] that appends to `text`; for one call.
pub(crate) fn sink_into(text: &mut String) -> TextSink {
    unsafe extern "C" fn write(ctx: *mut c_void, piece: RStr<'_>) {
        // SAFETY: `ctx` is the string of the enclosing call, used by nobody else meanwhile.
        if let Some(text) = unsafe { ctx.cast::<String>().as_mut() } {
            text.push_str(piece.as_str());
        }
    }
    TextSink { ctx: (&raw mut *text).cast(), write }
}

impl Sink for AbiSink<'_> {
    fn emit(&self, event: &Event<'_>) {
        let Some(output) = self.output else { return };
        // SAFETY: every text is valid for its call.
        unsafe {
            match *event {
                Event::Begin { shape, key } => {
                    let shape = match shape {
                        Shape::Record => abi::shape::RECORD,
                        Shape::List => abi::shape::LIST,
                    };
                    (output.begin)(self.ctx, shape, RStr::from_str(key));
                }
                Event::End => (output.end)(self.ctx),
                Event::Text { style, text } => (output.text)(self.ctx, style.to_abi(), RStr::from_str(text)),
                Event::Field { key, value, style, shown } => {
                    let (tag, number) = value.to_abi();
                    let text = if let Value::Text(text) = value { text } else { "" };
                    let value = abi::FieldValue { tag, reserved: 0, number, text: RStr::from_str(text) };
                    (output.field)(
                        self.ctx,
                        RStr::from_str(key),
                        &value,
                        style.to_abi(),
                        RStr::from_str(shown),
                    );
                }
                Event::Link { text, command } => {
                    (output.link)(self.ctx, RStr::from_str(text), RStr::from_str(command));
                }
                Event::Message { severity, text } => {
                    let severity = match severity {
                        Severity::Verbose => abi::severity::VERBOSE,
                        Severity::Warning => abi::severity::WARNING,
                        Severity::Error => abi::severity::ERROR,
                    };
                    (output.message)(self.ctx, severity, RStr::from_str(text));
                }
            }
        }
    }
}
