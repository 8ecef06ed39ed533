//! What commands ask of code and stacks: walking the stack of the current context, bytes of code wherever they are, and
//! the contexts that a user set instead of the processor's.

use crate::dump::Machine;
use crate::image::{ImageBytes, InMemory, debug_record};
use crate::memory::{ReadFault, View};
use crate::scope::{OpenTarget, Scope};
use crate::target::unwind::{self, CodeView, Frame, ModuleRange, Origin, frame_data::FrameData};
use crate::target::{Registers, Target};
use kd_sdk::address::{Pa, Va};
use kd_sdk::error::Result;
use std::cell::RefCell;
use std::sync::Arc;

/// Where registers that a user chose came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContextKind {
    /// A `CONTEXT` record: `.cxr`.
    Record,
    /// A trap frame: `.trap`.
    Trap,
    /// A thread that is not running: `.thread`.
    Thread,
    /// A task state segment: `.tss`.
    Task,
    /// A frame of the stack: `.frame /c`.
    Frame,
}

/// Registers that a user chose.
#[derive(Clone, Debug)]
pub struct ExplicitContext {
    /// The registers.
    pub registers: Registers,
    /// What they are of.
    pub kind: ContextKind,
    /// Where they were read.
    pub at: Va,
}

/// An address space that a user chose.
#[derive(Clone, Debug)]
pub struct AddressSpace {
    /// Memory through its page tables.
    pub view: View,
    /// The root of its page tables.
    pub root: Pa,
    /// Its process, where it was chosen by one.
    pub process: Option<Va>,
}

/// What a user chose to look at in place of the processor's own.
#[derive(Clone, Debug, Default)]
pub struct Contexts {
    /// Registers.
    pub registers: Option<Arc<ExplicitContext>>,
    /// An address space.
    pub space: Option<Arc<AddressSpace>>,
    /// The number of the current frame.
    pub frame: usize,
    /// The frame whose variables are looked at, where `.frame` chose one.
    pub local: Option<Arc<LocalFrame>>,
    /// The machine whose code is looked at, where `.effmach` chose another than the target's.
    pub machine: Option<Machine>,
}

/// What variables are looked up in.
#[derive(Clone, Debug)]
pub struct LocalFrame {
    /// The registers in the frame.
    pub registers: Registers,
    /// The instruction that was running.
    pub at: Va,
    /// How many calls in line deep; more than there are means the innermost.
    pub level: usize,
    /// False for a caller, whose volatile registers are lost.
    pub exact: bool,
    /// Where its first argument's place on the stack is, where the stack was walked.
    pub arguments: Option<Va>,
}

/// Code of one place: how many bytes, whose they are, and what stopped the reading in the dump.
#[derive(Clone, Copy, Debug)]
pub struct CodeBytes {
    /// Bytes that were read.
    pub done: usize,
    /// Whether some came from an image file.
    pub origin: Origin,
    /// Why the dump had no more.
    pub fault: Option<ReadFault>,
}

impl Scope {
    /// The stack of the current context, innermost frame first, at most `most` frames.
    ///
    /// # Errors
    /// When there are no registers to begin with.
    pub fn stack(&self, most: usize) -> Result<Vec<Frame>> {
        self.stack_from(self.registers()?, most, &|| false)
    }

    /// The stack from other registers; ends early once `stop` says so.
    ///
    /// # Errors
    /// When no dump is open.
    pub fn stack_from(&self, start: Registers, most: usize, stop: &dyn Fn() -> bool) -> Result<Vec<Frame>> {
        let code = ScopeCode { scope: self, open: self.open()?, stop };
        Ok(unwind::walk(&code, start, most))
    }

    /// What variables are looked up in: the frame that the user chose, else the current context.
    ///
    /// # Errors
    /// When there are no registers.
    pub fn local_frame(&self) -> Result<Arc<LocalFrame>> {
        if let Some(local) = &self.contexts.local {
            return Ok(Arc::clone(local));
        }
        let registers = self.registers()?;
        let (at, exact) = (registers.ip(), true);
        let arguments =
            self.stack_from(registers.clone(), 1, &|| false)?.first().map(|frame| frame.arguments);
        Ok(Arc::new(LocalFrame { at, registers, level: usize::MAX, exact, arguments }))
    }

    /// Runs `work` with what unwinding sees.
    ///
    /// # Errors
    /// When no dump is open.
    pub fn with_code<T>(&self, work: impl FnOnce(&dyn CodeView) -> T) -> Result<T> {
        Ok(work(&ScopeCode { scope: self, open: self.open()?, stop: &|| false }))
    }

    /// The memory that a walk of the stack reads, and the images' headers that lead to the symbols of its frames: for
    /// a dump in which the same walk is to be possible.
    ///
    /// # Errors
    /// When no dump is open.
    pub fn read_by_walk(&self, start: Registers, most: usize) -> Result<Vec<(Va, u64)>> {
        let open = self.open()?;
        let recording = Recording {
            code: &ScopeCode { scope: self, open, stop: &|| false },
            read: RefCell::new(Vec::new()),
        };
        let frames = unwind::walk(&recording, start, most);
        let mut bases: Vec<Va> = frames
            .iter()
            .filter_map(|frame| Some(open.target.modules().get(open.target.module_index_at(frame.ip)?)?.base))
            .chain(open.target.modules().iter().filter(|module| module.is_kernel).map(|module| module.base))
            .collect();
        bases.sort_unstable();
        bases.dedup();
        for base in bases {
            let image = InMemory(|at, into: &mut [u8]| {
                base.0.checked_add(at).is_some_and(|va| recording.read(Va(va), into))
            });
            // What it says does not matter here, only where it stands.
            let _ = debug_record(&image, None);
        }
        Ok(recording.read.into_inner())
    }

    /// What 32-bit symbols say about the frame of the function at an address.
    pub fn frame_data(&self, va: Va) -> Option<FrameData> {
        let open = self.open.as_ref()?;
        open.symbols.frame_data(&open.target, va)
    }

    /// Reads code: from the dump, and where it ends from the module's image file.
    pub fn read_code(&self, va: Va, into: &mut [u8]) -> CodeBytes {
        let outcome = self.read(va, into);
        let mut found = CodeBytes { done: outcome.done, origin: Origin::Dump, fault: outcome.fault };
        if outcome.fault.is_none() {
            return found;
        }
        let Some(open) = self.open.as_ref() else { return found };
        while found.done < into.len() {
            let Some(place) = into.get_mut(found.done..found.done + 1) else { break };
            let at = va.add(found.done as u64);
            if self.read(at, place).fault.is_none() {
                found.done += 1;
                continue;
            }
            let byte = open.target.module_index_at(at).and_then(|index| {
                let module = open.target.modules().get(index)?;
                let rva = u32::try_from(at.0.wrapping_sub(module.base.0)).ok()?;
                open.symbols.image(&open.target, index).ok()?.read(rva, place).then_some(())
            });
            if byte.is_none() {
                break;
            }
            found.done += 1;
            found.origin = Origin::ImageFile;
        }
        found
    }
}

/// Notes what is read from the dump.
struct Recording<'a> {
    code: &'a dyn CodeView,
    read: RefCell<Vec<(Va, u64)>>,
}

impl Recording<'_> {
    fn note(&self, va: Va, bytes: usize) {
        self.read.borrow_mut().push((va, bytes as u64));
    }
}

impl CodeView for Recording<'_> {
    fn machine(&self) -> Machine {
        self.code.machine()
    }

    fn read(&self, va: Va, into: &mut [u8]) -> bool {
        let done = self.code.read(va, into);
        if done {
            self.note(va, into.len());
        }
        done
    }

    fn module_at(&self, va: Va) -> Option<ModuleRange> {
        self.code.module_at(va)
    }

    fn read_image(&self, module: &ModuleRange, rva: u32, into: &mut [u8]) -> Option<Origin> {
        let origin = self.code.read_image(module, rva, into);
        if origin == Some(Origin::Dump) {
            self.note(module.base.add(rva.into()), into.len());
        }
        origin
    }

    fn frame_data(&self, va: Va) -> Option<FrameData> {
        self.code.frame_data(va)
    }

    fn function_start(&self, va: Va) -> Option<Va> {
        self.code.function_start(va)
    }
}

struct ScopeCode<'a> {
    scope: &'a Scope,
    open: &'a OpenTarget,
    stop: &'a dyn Fn() -> bool,
}

impl ScopeCode<'_> {
    fn target(&self) -> &Target {
        &self.open.target
    }
}

impl CodeView for ScopeCode<'_> {
    fn machine(&self) -> Machine {
        self.scope.machine()
    }

    fn read(&self, va: Va, into: &mut [u8]) -> bool {
        self.scope.read(va, into).fault.is_none()
    }

    fn module_at(&self, va: Va) -> Option<ModuleRange> {
        let index = self.target().module_index_at(va)?;
        let module = self.target().modules().get(index)?;
        // The images of one process mean nothing in the address space of another.
        if module.origin == crate::target::Origin::Process {
            let crashed = self.target().user_process();
            let seen = self.scope.contexts.space.as_ref().map_or(crashed, |space| space.process);
            let listed = self.target().user_space().map_or(crashed, |user| user.process);
            if seen != listed {
                return None;
            }
        }
        Some(ModuleRange { base: module.base, size: module.size, index })
    }

    fn read_image(&self, module: &ModuleRange, rva: u32, into: &mut [u8]) -> Option<Origin> {
        if self.read(module.base.add(rva.into()), into) {
            return Some(Origin::Dump);
        }
        let file = self.open.symbols.image(self.target(), module.index).ok()?;
        file.read(rva, into).then_some(Origin::ImageFile)
    }

    fn frame_data(&self, va: Va) -> Option<FrameData> {
        self.open.symbols.frame_data(self.target(), va)
    }

    fn function_start(&self, va: Va) -> Option<Va> {
        self.scope.name_of(va).filter(|hit| !hit.name.is_empty()).map(|hit| hit.address)
    }

    fn interrupted(&self) -> bool {
        (self.stop)()
    }
}
