//! The target: bytes become a machine.
//!
//! [`Target`] joins a dump, its memory and the kernel's debugger data block into what a debugger asks for: modules,
//! processors, registers, the facts of the banner. Nothing here knows symbols, and nothing prints; some functions
//! give KD's texts ([`rows`], [`version`]). Lists are found when first asked for.

mod bytes;
pub mod context;
pub mod float;
pub mod kd_data;
pub mod kd_encoding;
pub mod kd_fields;
mod keep;
mod modules;
mod problem;
mod processors;
mod registers;
pub mod rows;
pub mod unwind;
mod user;
pub mod version;

#[cfg(test)]
mod real_tests;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kd_sdk::address::{Pa, Va};

pub use kd_data::{KdData, KdDataError, KdDataSource};
pub use kd_fields::Field;
pub use modules::{Module, Origin, UnloadedModule, short_name};
pub use problem::TargetProblem;
pub use processors::{Processor, ProcessorRegisters, RegisterError, RegisterSource};
pub use registers::Registers;
pub use user::{UserSpace, loader_modules};
pub use version::Version;

use crate::dump::{Absent, Dump, DumpKind, ExceptionRecord, Header, Machine};
use crate::memory::{ReadFault, ReadOutcome, Translation, View, WalkFault};
use processors::Saved;

/// A crashed machine.
pub struct Target {
    dump: Arc<Dump>,
    view: View,
    kd_data: Result<KdData, KdDataError>,
    saved: Saved,
    found_modules: OnceLock<Vec<Module>>,
    /// In place of those found: the kernel's and others.
    modules: Option<Vec<Module>>,
    /// What modules of a process other than the one that crashed are seen through.
    user: Option<UserSpace>,
    unloaded: OnceLock<Vec<UnloadedModule>>,
    processors: OnceLock<Vec<Processor>>,
    current_processor: OnceLock<u32>,
    problems: Mutex<Vec<TargetProblem>>,
}

impl Target {
    /// Takes an open dump. Cheap: reads the debugger data block and, of a small dump, the saved KPRCB.
    pub fn open(dump: Dump) -> Target {
        let dump = Arc::new(dump);
        let view = View::new(dump.clone());
        let kd_data = KdData::read(&view, dump.header(), dump.triage());
        let data = kd_data.as_ref().ok();
        let saved = Saved::find(&dump, &view, data);
        let view = view.with_blocks(saved.blocks(&dump, data));
        let problems = kd_data.as_ref().err().map(|error| TargetProblem::KdData(*error));
        Target {
            dump,
            view,
            kd_data,
            saved,
            found_modules: OnceLock::new(),
            modules: None,
            user: None,
            unloaded: OnceLock::new(),
            processors: OnceLock::new(),
            current_processor: OnceLock::new(),
            problems: Mutex::new(problems.into_iter().collect()),
        }
    }

    /// The dump.
    pub fn dump(&self) -> &Arc<Dump> {
        &self.dump
    }

    /// The dump's header.
    pub fn header(&self) -> &Header {
        self.dump.header()
    }

    /// The kind of dump.
    pub fn kind(&self) -> DumpKind {
        self.dump.kind()
    }

    /// The machine.
    pub fn machine(&self) -> Machine {
        self.dump.machine()
    }

    /// Bytes in a pointer: 4 or 8.
    pub fn pointer_size(&self) -> u32 {
        self.machine().pointer_size()
    }

    /// The kernel's address space.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The debugger data block; [`Target::problems`] says why there is none.
    pub fn kd_data(&self) -> Option<&KdData> {
        self.kd_data.as_ref().ok()
    }

    /// The loaded modules, by address. Incomplete lists are noted in [`Target::problems`].
    pub fn modules(&self) -> &[Module] {
        match &self.modules {
            Some(all) => all,
            None => self.found_modules.get_or_init(|| self.find_modules()),
        }
    }

    /// The module that holds `va`.
    pub fn module_at(&self, va: Va) -> Option<&Module> {
        self.modules().get(self.module_index_at(va)?)
    }

    /// The index in [`Target::modules`] of the module that holds `va`.
    pub fn module_index_at(&self, va: Va) -> Option<usize> {
        let modules = self.modules();
        let index = modules.partition_point(|module| module.base <= va).checked_sub(1)?;
        modules.get(index).filter(|module| module.contains(va)).map(|_| index)
    }

    /// The module of this name, in any case: KD's name or the file name.
    pub fn module_named(&self, name: &str) -> Option<&Module> {
        let find = |of: fn(&Module) -> &str| {
            self.modules().iter().find(|module| of(module).eq_ignore_ascii_case(name))
        };
        find(|module| &module.name).or_else(|| find(|module| &module.image))
    }

    /// The unloaded drivers: of a small dump in the file's order, else the newest first.
    pub fn unloaded(&self) -> &[UnloadedModule] {
        self.unloaded.get_or_init(|| self.find_unloaded())
    }

    /// The processors, by number; at least one.
    pub fn processors(&self) -> &[Processor] {
        self.processors.get_or_init(|| self.find_processors())
    }

    /// The processor that crashed, where a session begins.
    pub fn current_processor(&self) -> u32 {
        *self.current_processor.get_or_init(|| self.find_current_processor())
    }

    /// The exception record in the dump's header, KD's last event: for crashes a breakpoint in `KeBugCheckEx`. The
    /// exception that led there, if any, is what the parameters of the bug check point to.
    pub fn exception(&self) -> Option<&ExceptionRecord> {
        self.header().exception.as_ref()
    }

    /// Reads virtual memory until the buffer is full or memory is absent.
    pub fn read(&self, va: Va, buffer: &mut [u8]) -> ReadOutcome {
        self.view.read(va, buffer)
    }

    /// Reads physical memory: on a hole, how many bytes came before it and why it is one. Small dumps have none.
    pub fn read_physical(&self, pa: Pa, buffer: &mut [u8]) -> Result<(), (usize, Absent)> {
        self.view.physical().ok_or((0, Absent::NotCaptured))?.read(pa, buffer)
    }

    /// The physical address of `va` with the entries of the walk; `None` for a dump without pages.
    pub fn translate(&self, va: Va) -> Option<Result<Translation, WalkFault>> {
        self.view.walk(va)
    }

    /// The lowest readable address at or above `va`.
    pub fn next_readable(&self, va: Va) -> Option<Va> {
        self.view.next_readable(va)
    }

    /// Reads a pointer of the target's size, zero-extended.
    pub fn read_pointer(&self, va: Va) -> Result<Va, ReadFault> {
        let mut bytes = [0; 8];
        let size = self.pointer_size() as usize;
        self.read(va, bytes.get_mut(..size).unwrap_or_default()).complete()?;
        Ok(Va(u64::from_le_bytes(bytes)))
    }

    /// Reads a 32-bit number.
    pub fn read_u32(&self, va: Va) -> Result<u32, ReadFault> {
        let mut bytes = [0; 4];
        self.read(va, &mut bytes).complete()?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// What could not be found out so far. Grows as lists are asked for.
    pub fn problems(&self) -> Vec<TargetProblem> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, problem: TargetProblem) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
}
