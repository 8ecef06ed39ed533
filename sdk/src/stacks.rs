//! Stacks: frames and registers of any context of the target. What the user looks at stays what it is.
//!
//! ```
//! # use kd_sdk::prelude::*;
//! use kd_sdk::stacks::{Context, Look};
//! fn show(session: &Session<'_>, ethread: Va) -> Result<()> {
//!     let stack = session.stack(Context::Thread(ethread));
//!     for frame in stack.frames(32)? {
//!         session.out().line(&format!("{} {}", frame.sp, frame.site));
//!     }
//!     // The same as a table, with the columns and the indentation of `!thread`.
//!     stack.show(32, Look::ARGUMENTS | Look::VERBOSE, 8)
//! }
//! ```

use crate::abi::{self, frame_flag, frame_source};
use crate::address::Va;
use crate::error::Result;
use crate::memory::Memory;
use crate::session::Session;

/// What a table of frames shows, named for the letters of `k`.
pub use crate::abi::look as Look;

/// Registers that stand somewhere in the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    /// What `r` and `k` show.
    Current,
    /// Those of a processor.
    Processor(u32),
    /// The context record in the dump's header.
    Header,
    /// A CONTEXT record.
    Record(Va),
    /// A KTRAP_FRAME.
    TrapFrame(Va),
    /// A thread, by its ETHREAD: of one that is not running, what the kernel saved.
    Thread(Va),
    /// Just these; the rest is what is current.
    Values {
        /// Instruction pointer.
        ip: Va,
        /// Stack pointer.
        sp: Va,
        /// Frame pointer.
        fp: Va,
    },
}

/// How a frame was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Its registers are those that the walk began with.
    Context,
    /// By unwind data in the dump.
    Unwind,
    /// By unwind data, some of it from an image file.
    UnwindImageFile,
    /// By frame data of the symbols (x86).
    FrameData,
    /// By the chain of frame pointers.
    FramePointer,
    /// The function it called has no frame of its own.
    Leaf,
    /// It was interrupted: by a trap frame or a machine frame.
    Trap,
    /// A return address found on the stack. It may be stale.
    Scan,
}

impl Source {
    fn from_abi(code: u32) -> Source {
        match code {
            frame_source::CONTEXT => Source::Context,
            frame_source::UNWIND => Source::Unwind,
            frame_source::UNWIND_IMAGE_FILE => Source::UnwindImageFile,
            frame_source::FRAME_DATA => Source::FrameData,
            frame_source::FRAME_POINTER => Source::FramePointer,
            frame_source::LEAF => Source::Leaf,
            frame_source::TRAP => Source::Trap,
            _ => Source::Scan,
        }
    }

    /// False where the frame may never have been.
    pub fn is_certain(self) -> bool {
        self != Source::Scan
    }
}

/// A frame of a stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Where it stands; of callers the return address.
    pub ip: Va,
    /// Stack pointer: KD's Child-SP.
    pub sp: Va,
    /// Frame pointer: on x86 KD's ChildEBP.
    pub fp: Va,
    /// Where it returns to; null at the end and where that is not known.
    pub return_address: Va,
    /// The trap frame it made, if it was entered by an interrupt, a fault or a system call.
    pub trap_frame: Option<Va>,
    /// The words at the places of its first arguments, where they could be read.
    pub arguments: [Option<u64>; 4],
    /// How it was found.
    pub source: Source,
    /// True where `ip` is the instruction that ran, not the one after a call.
    pub exact: bool,
    /// True for a function that the compiler put into its caller.
    pub inline: bool,
    /// The place of `ip` as `k` names it: `nt!KeBugCheckEx+0x107`.
    pub site: String,
    /// Why its caller was not found from unwind data; empty where it was.
    pub missing: String,
}

/// The stack of a context.
#[derive(Clone, Copy)]
pub struct Stack<'a> {
    pub(crate) session: &'a Session<'a>,
    from: abi::ContextRef,
}

impl<'a> Stack<'a> {
    pub(crate) fn new(session: &'a Session<'a>, context: Context) -> Stack<'a> {
        use abi::context as kind;
        let of = |kind, at| abi::ContextRef { kind, at, ..abi::ContextRef::default() };
        let from = match context {
            Context::Current => of(kind::CURRENT, 0),
            Context::Processor(number) => of(kind::PROCESSOR, number.into()),
            Context::Header => of(kind::HEADER, 0),
            Context::Record(va) => of(kind::RECORD, va.0),
            Context::TrapFrame(va) => of(kind::TRAP, va.0),
            Context::Thread(va) => of(kind::THREAD, va.0),
            Context::Values { ip, sp, fp } => {
                abi::ContextRef { ip: ip.0, sp: sp.0, fp: fp.0, ..of(kind::VALUES, 0) }
            }
        };
        Stack { session, from }
    }

    /// The same, read through another address space: that of the thread's process, for its frames in user mode.
    #[must_use]
    pub fn within(self, memory: Memory<'_>) -> Stack<'a> {
        Stack { from: abi::ContextRef { space: memory.space, ..self.from }, ..self }
    }

    /// The frames, innermost first, at most `most`.
    ///
    /// # Errors
    /// Where there are no registers to begin with, or the user pressed Ctrl+C.
    pub fn frames(&self, most: u32) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        let code = self.session.calls.walk_stack(&self.from, most, &mut |frame| {
            frames.push(Frame::from_abi(frame));
            true
        });
        self.session.check(code)?;
        Ok(frames)
    }

    /// Shows the stack as `k` does: bits of [`Look`]; each line after `indent` blanks. In JSON a list `frames`.
    ///
    /// # Errors
    /// As for [`Stack::frames`].
    pub fn show(&self, most: u32, look: u32, indent: u32) -> Result<()> {
        self.session.check(self.session.calls.show_stack(&self.from, most, look, indent))
    }

    /// A register by its name, `rip`, `x0`.
    ///
    /// # Errors
    /// Where the context cannot be read, or has no such register.
    pub fn register(&self, name: &str) -> Result<u64> {
        let mut value = 0;
        self.session.check(self.session.calls.register_of(&self.from, name, &mut value))?;
        Ok(value)
    }
}

impl Frame {
    fn from_abi(frame: &abi::FrameInfo<'_>) -> Frame {
        let argument = |index: usize| {
            let value = frame.arguments.get(index).copied();
            value.filter(|_| frame.arguments_read >> index & 1 != 0)
        };
        Frame {
            ip: Va(frame.ip),
            sp: Va(frame.sp),
            fp: Va(frame.fp),
            return_address: Va(frame.return_address),
            trap_frame: (frame.trap_frame != 0).then_some(Va(frame.trap_frame)),
            arguments: core::array::from_fn(argument),
            source: Source::from_abi(frame.source),
            exact: frame.flags & frame_flag::EXACT != 0,
            inline: frame.flags & frame_flag::INLINE != 0,
            site: frame.site.to_string(),
            missing: frame.missing.to_string(),
        }
    }
}
