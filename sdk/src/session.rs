//! The host as one command sees it. Everything here is valid until the command returns.

use crate::abi::{Calls, TargetInfo, TypedInfo, status};
use crate::address::Va;
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::output::{Event, Out, Sink};
use crate::stacks::{Context, Stack};
use crate::symbols::Symbols;
use crate::target::Target;
use crate::types::{Known, Type, Types};
use core::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// The host during one call.
pub struct Session<'a> {
    pub(crate) calls: Calls<'a>,
    info: OnceCell<TargetInfo>,
    /// Types that were asked for.
    pub(crate) types: RefCell<HashMap<String, Rc<Known>>>,
}

/// A value and its type.
pub struct Typed<'a> {
    /// The number: of a structure or an array its address.
    pub value: u64,
    /// Where it stands in memory, if it does.
    pub address: Option<Va>,
    /// Bytes.
    pub size: u64,
    /// One of [`crate::types::kind`].
    pub kind: u32,
    /// Its type (for an array or a pointer: the element's); `None` for C's own types, which are in no module.
    pub of: Option<Type<'a>>,
}

impl<'a> Session<'a> {
    /// A session on the host's callbacks.
    pub fn new(calls: Calls<'a>) -> Session<'a> {
        Session { calls, info: OnceCell::new(), types: RefCell::default() }
    }

    /// The output stream.
    pub fn out(&self) -> Out<'_> {
        Out::new(self)
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

    /// The stack and the registers of a context.
    pub fn stack(&self, context: Context) -> Stack<'_> {
        Stack::new(self, context)
    }

    pub(crate) fn info(&self) -> &TargetInfo {
        self.info.get_or_init(|| {
            let mut info = TargetInfo { size: size_of::<TargetInfo>() as u32, ..Default::default() };
            // Without a target everything stays zero, and `present` says so.
            let _ = self.calls.info(&mut info);
            info
        })
    }

    /// Evaluates an expression as the prompt would.
    pub fn evaluate(&self, text: &str) -> Result<u64> {
        let mut value = 0;
        self.check(self.calls.evaluate(text, &mut value))?;
        Ok(value)
    }

    /// Evaluates a C++ expression to a value with its type.
    pub fn evaluate_typed(&self, text: &str) -> Result<Typed<'_>> {
        let mut found = TypedInfo::default();
        self.check(self.calls.evaluate_typed(text, &mut found))?;
        Ok(Typed {
            value: found.value,
            address: (found.address != 0).then_some(Va(found.address)),
            size: found.size,
            kind: found.kind,
            of: (found.of.id != 0).then(|| Type::new(self, text, found.of)),
        })
    }

    /// An error as it is told to people: addresses as wide as the target's, and the name of what stands there.
    pub fn explain(&self, error: &Error) -> String {
        match error {
            Error::Unreadable { at, why } => {
                let name = self.symbols().name(*at).map_or(String::new(), |name| format!(" ({name})"));
                format!("cannot read {}{name}: {why}", self.target().show(*at))
            }
            _ => error.to_string(),
        }
    }

    /// True once the user has pressed Ctrl+C. One relaxed load: ask often.
    pub fn interrupted(&self) -> bool {
        self.calls.interrupted()
    }

    /// `Err(Interrupted)` once the user has pressed Ctrl+C; for `?` in loops.
    pub fn check_interrupt(&self) -> Result<()> {
        if self.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Shows how far a long operation is: `done` of `total` (0: unknown).
    pub fn progress(&self, done: u64, total: u64, label: &str) {
        self.calls.progress(done, total, label);
    }

    /// Runs a command line and returns its plain text.
    pub fn execute(&self, line: &str) -> Result<String> {
        let mut text = String::new();
        self.check(self.calls.execute(line, &mut text))?;
        Ok(text)
    }

    /// Turns a callback's status into a result.
    pub(crate) fn check(&self, code: i32) -> Result<()> {
        if code == status::OK { Ok(()) } else { Err(self.failure(code)) }
    }

    pub(crate) fn failure(&self, code: i32) -> Error {
        let text = self.calls.last_error();
        let missing = text.is_empty() && code == status::UNSUPPORTED;
        Error::from_host(code, if missing { "this kd does not have that service".to_owned() } else { text })
    }
}

impl Sink for Session<'_> {
    fn emit(&self, event: &Event<'_>) {
        self.calls.emit(event);
    }
}
