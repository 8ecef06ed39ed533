//! What commands look at: one target, one processor. A cheap copy of it goes to the thread of every extension
//! command, so that nothing a command reads can change under it.

use crate::disasm;
use crate::dump::Machine;
use crate::expr::{self, Evaluator, ExprError};
use crate::look::Look;
use crate::memory::{ReadFault, ReadOutcome, View};
use crate::stack::Contexts;
use crate::symbols::{self, Hit, KernelHints, ModuleSource, ModuleTypes, Symbols, TypeId};
use crate::target::{Module, Origin, Registers, Target, UserSpace, kd_fields, loader_modules};
use crate::typed::{self, Type};
use kd_sdk::address::{PAGE_SIZE, Pa, Va};
use kd_sdk::error::{Error, Result};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A target with its symbols and its number in `||`.
pub struct OpenTarget {
    /// Ordinal; never used twice.
    pub number: u32,
    /// The machine.
    pub target: Target,
    /// Its symbols, and its modules' image files.
    pub symbols: Arc<Symbols>,
}

impl OpenTarget {
    /// The same with other modules beside the kernel's; those of a process are seen through `user`.
    pub fn with_modules(&self, others: Vec<Module>, user: Option<UserSpace>) -> OpenTarget {
        OpenTarget {
            number: self.number,
            target: self.target.with_modules(others, user),
            symbols: Arc::clone(&self.symbols),
        }
    }
}

/// What a user sets and expressions read.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// `$t0` to `$t19`.
    pub t: [u64; expr::USER_REGISTERS],
    /// The types that `r?` gave them.
    pub types: [Option<Type>; expr::USER_REGISTERS],
    /// `$p`: the last value that a `d` command showed.
    pub shown: Option<u64>,
    /// `$exp`: the value of the last expression that was shown.
    pub exp: u64,
    /// `$extret`: the element that `!list` is at.
    pub extret: u64,
    /// `ss`: what names are looked for with that are not found.
    pub suffix: Option<char>,
    /// The evaluator of expressions that do not say which.
    pub evaluator: Evaluator,
}

impl Variables {
    /// `$t0` to `$t19`, `$exp`, `$extret`, `$p`.
    pub fn get(&self, name: &str) -> Option<u64> {
        match expr::user_register(name) {
            Some(index) => self.t.get(index).copied(),
            None if name == "$extret" => Some(self.extret),
            None if name == "$p" => self.shown,
            None => (name == "$exp").then_some(self.exp),
        }
    }

    /// Sets one of them, which keeps its type; false for any other name.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        let place = match expr::user_register(name) {
            Some(index) => self.t.get_mut(index),
            None => (name == "$exp").then_some(&mut self.exp),
        };
        place.map(|place| *place = value).is_some()
    }

    /// Gives `$t0` to `$t19` a type, or takes it away; false for any other name.
    pub fn set_type(&mut self, name: &str, ty: Option<Type>) -> bool {
        let place = expr::user_register(name).and_then(|index| self.types.get_mut(index));
        place.map(|place| *place = ty).is_some()
    }
}

/// What commands look at.
#[derive(Clone)]
pub struct Scope {
    /// The open target, if there is one.
    pub open: Option<Arc<OpenTarget>>,
    /// The current processor.
    pub processor: u32,
    /// Default radix of numbers: 8, 10 or 16.
    pub radix: u32,
    /// How things are shown.
    pub look: Look,
    /// What the user has set.
    pub variables: Variables,
    /// What the user chose to look at instead.
    pub contexts: Contexts,
}

impl Default for Scope {
    /// Nothing is open; numbers are hexadecimal.
    fn default() -> Scope {
        Scope {
            open: None,
            processor: 0,
            radix: 16,
            look: Look::default(),
            variables: Variables::default(),
            contexts: Contexts::default(),
        }
    }
}

impl Scope {
    /// The open target, or what to do about its absence.
    pub fn open(&self) -> Result<&Arc<OpenTarget>> {
        self.open
            .as_ref()
            .ok_or_else(|| Error::Unsupported("no dump is open: .opendump FILE, then g".to_owned()))
    }

    /// The machine.
    pub fn target(&self) -> Result<&Target> {
        self.open().map(|open| &open.target)
    }

    /// The machine whose code, registers and stacks are looked at.
    pub fn machine(&self) -> Machine {
        let own = || self.open.as_ref().map_or(Machine::X64, |open| open.target.machine());
        self.contexts.machine.unwrap_or_else(own)
    }

    /// Bytes of a pointer of that machine: 4 or 8.
    pub fn pointer_size(&self) -> u32 {
        self.machine().pointer_size()
    }

    /// Reads virtual memory of the target.
    pub fn read(&self, va: Va, buffer: &mut [u8]) -> ReadOutcome {
        match &self.open {
            Some(open) => match &self.contexts.space {
                Some(space) => space.view.read(va, buffer),
                None => open.target.read(va, buffer),
            },
            None => ReadOutcome { done: 0, fault: None },
        }
    }

    /// The address space that reads go to.
    pub fn view(&self) -> Option<&View> {
        match &self.contexts.space {
            Some(space) => Some(&space.view),
            None => self.open.as_ref().map(|open| open.target.view()),
        }
    }

    /// The registers that the user chose, else those of the current processor.
    pub fn registers(&self) -> Result<Registers> {
        if let Some(context) = &self.contexts.registers {
            let (has, wants) = (context.registers.machine(), self.machine());
            if has != wants {
                return Err(Error::Usage(format!(
                    "the registers that were chosen are those of {has} code, and .effmach is {wants}"
                )));
            }
            return Ok(context.registers.clone());
        }
        if self.contexts.machine.is_some() {
            let thread = self.register("$thread").map(Va);
            return self.narrow_registers(thread.ok_or_else(|| {
                Error::NotFound("the dump does not tell which thread is the current one".to_owned())
            })?);
        }
        match self.target()?.registers(self.processor) {
            Ok(found) => Ok(found.registers),
            Err(error) => Err(Error::NotFound(crate::chained(&error))),
        }
    }

    /// A register or pseudo-register by name, without `@`.
    pub fn register(&self, name: &str) -> Option<u64> {
        if let Some(value) = self.variables.get(name) {
            return Some(value);
        }
        if name == "$dbgtime" {
            return SystemTime::now().duration_since(UNIX_EPOCH).ok().map(file_time);
        }
        let open = self.open.as_ref()?;
        let target = &open.target;
        match name.strip_prefix('$') {
            None => self.registers().ok()?.get(name),
            Some("ip") => Some(self.registers().ok()?.ip().0),
            Some("csp") => Some(self.registers().ok()?.sp().0),
            Some("proc") if self.contexts.space.as_ref().is_some_and(|space| space.process.is_some()) => {
                self.contexts.space.as_ref()?.process.map(|va| va.0)
            }
            Some("proc") => target.processors().get(self.processor as usize)?.current_process.map(|va| va.0),
            Some("thread") => target.processors().get(self.processor as usize)?.current_thread.map(|va| va.0),
            Some("pcrb" | "prcb") => target.processors().get(self.processor as usize)?.prcb.map(|va| va.0),
            Some("ptrsize") => Some(target.pointer_size().into()),
            Some("pagesize") => Some(PAGE_SIZE),
            Some("frame") => Some(self.contexts.frame as u64),
            Some("ra") => {
                let caller =
                    self.stack_from(self.local_frame().ok()?.registers.clone(), 1, &|| false).ok()?;
                caller.first().map(|frame| frame.return_address.0)
            }
            Some("ea") => self.effective_address(),
            // Threads are processors to a kernel debugger, and there is one process of all.
            Some("dtid") => Some(self.processor.into()),
            Some("dpid") => Some(0),
            Some("dsid") => Some(open.number.into()),
            Some("argreg") => ["rcx", "x0"].iter().find_map(|name| self.registers().ok()?.get(name)),
            Some("scopeip") => Some(self.local_frame().ok()?.registers.ip().0),
            Some("pcr") => self.processor_region(),
            Some("exentry") => self.entry_point(),
            Some("eventip") => Some(target.registers(target.current_processor()).ok()?.registers.ip().0),
            Some("retreg") => ["rax", "eax", "x0"].iter().find_map(|name| self.registers().ok()?.get(name)),
            Some("retreg64") => {
                let registers = self.registers().ok()?;
                match (registers.get("rax").or_else(|| registers.get("x0")), registers.get("edx")) {
                    (Some(value), _) => Some(value),
                    (None, Some(high)) => Some(high << 32 | registers.get("eax")?),
                    _ => None,
                }
            }
            Some("tpid") => self.kernel_field("$proc", "_EPROCESS", "UniqueProcessId"),
            Some("tid") => self.kernel_field("$thread", "_ETHREAD", "Cid.UniqueThread"),
            Some("peb") => self.kernel_field("$proc", "_EPROCESS", "Peb").filter(|peb| *peb != 0),
            Some("teb") => self.kernel_field("$thread", "_ETHREAD", "Tcb.Teb").filter(|teb| *teb != 0),
            Some("exr_code") => target.exception().map(|record| record.code.into()),
            Some("exr_numparams") => target.exception().map(|record| record.parameters.len() as u64),
            Some("bug_code") => target.header().bug_check.map(|check| check.code.into()),
            Some(other) => {
                if let Some(index) = other.strip_prefix("exr_param") {
                    return target.exception()?.parameters.get(index.parse::<usize>().ok()?).copied();
                }
                let index: usize = other.strip_prefix("bug_param")?.parse().ok()?;
                target.header().bug_check?.parameters.get(index.checked_sub(1)?).copied()
            }
        }
    }

    /// The address of the operand in memory of the instruction that comes next.
    fn effective_address(&self) -> Option<u64> {
        let registers = self.registers().ok()?;
        let mut bytes = [0; disasm::LONGEST];
        let outcome = self.read_code(registers.ip(), &mut bytes);
        let code = bytes.get(..outcome.done)?;
        let instruction = disasm::decode(registers.machine(), registers.ip(), code, &|_| None)?;
        let read = |va: Va, buffer: &mut [u8]| self.read(va, buffer).fault.is_none();
        Some(instruction.tail(&registers, &read, &|_| None).operand?.va.0)
    }

    /// The processor's control region, which holds its control block.
    fn processor_region(&self) -> Option<u64> {
        let open = self.open.as_ref()?;
        let block = open.target.processors().get(self.processor as usize)?.prcb?;
        let types = open.symbols.types(&open.target, "nt").ok();
        let typed = types.and_then(|types| {
            let region = types.find("_KPCR")?;
            ["Prcb", "PrcbData"].iter().find_map(|field| types.field(region, field))
        });
        // On x64 and x86 it has not moved since the first version.
        let known = match open.target.machine() {
            Machine::X64 => Some(0x180),
            Machine::X86 => Some(0x120),
            Machine::Arm64 => None,
        };
        Some(block.0.wrapping_sub(typed.map(|field| field.offset).or(known)?))
    }

    /// Where the program of the current process begins: the entry point in the header of its image.
    fn entry_point(&self) -> Option<u64> {
        let base = Va(self.kernel_field("$peb", "_PEB", "ImageBaseAddress")?);
        let number = |va: Va, size| expr::Context::read(self, va, size).ok();
        let headers = base.add(number(base.add(0x3c), 4)?);
        let entry = number(headers.add(0x28), 4)?;
        (number(headers, 4)? == 0x4550).then_some(base.add(entry).0)
    }

    /// A field of at most 8 bytes of the kernel structure that a pseudo-register points to.
    pub fn kernel_field(&self, base: &str, of: &str, path: &str) -> Option<u64> {
        self.field_at(self.register(base)?, of, path)
    }

    /// A field of at most 8 bytes of a structure of the kernel at an address.
    fn field_at(&self, base: u64, of: &str, path: &str) -> Option<u64> {
        let open = self.open.as_ref()?;
        let types = open.symbols.types(&open.target, "nt").ok()?;
        let field = types.field(types.find(of)?, path)?;
        expr::Context::read(self, Va(base.wrapping_add(field.offset)), u32::try_from(field.size).ok()?).ok()
    }

    /// Reads physical memory of the target, page by page, until the buffer is full or a page is absent; the bytes
    /// read and why no more.
    pub fn read_physical(&self, pa: Pa, buffer: &mut [u8]) -> (usize, Option<kd_sdk::error::Absent>) {
        let Some(open) = &self.open else { return (0, None) };
        match open.target.read_physical(pa, buffer) {
            Ok(()) => (buffer.len(), None),
            Err((done, why)) => (done, Some(why)),
        }
    }

    /// Reads a pointer of the target, also where `.effmach` is another.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn read_pointer(&self, va: Va) -> Result<Va> {
        let mut bytes = [0; 8];
        let size = self.open.as_ref().map_or(8, |open| open.target.pointer_size());
        let place = bytes.get_mut(..size as usize).unwrap_or_default();
        match self.read(va, place).fault {
            Some(fault) => Err(Error::Unreadable { at: fault.at, why: fault.why }),
            None => Ok(Va(u64::from_le_bytes(bytes))),
        }
    }

    /// The PEB of the current process.
    pub fn process_peb(&self) -> Option<Va> {
        self.register("$peb").map(Va).or_else(|| {
            let open = self.open.as_ref()?;
            let offset = open.target.kd_data()?.offset(kd_fields::OFFSET_EPROCESS_PEB)?;
            self.read_pointer(Va(self.register("$proc")?).add(offset)).ok().filter(|peb| !peb.is_null())
        })
    }

    /// The 32-bit PEB of the current process, where a 64-bit system runs a 32-bit program.
    pub fn narrow_peb(&self) -> Option<Va> {
        let field = |name| self.kernel_field("$proc", "_EPROCESS", name).filter(|value| *value != 0);
        // Since Windows 10 the process points to a record that has the PEB, before to the PEB itself.
        let told = match field("WoW64Process") {
            Some(record) => self.field_at(record, "_EWOW64PROCESS", "Peb"),
            None => field("Wow64Process"),
        };
        told.filter(|peb| *peb != 0).map(Va)
    }

    /// What the loader's lists of the current process hold, seen through `view`: the 64-bit list, then the 32-bit one of
    /// such a program, which repeats the program itself; and where a list could not be read further.
    ///
    /// # Errors
    /// When not even the head of the first can be read.
    pub fn loader_modules(
        &self,
        view: &View,
        peb: Va,
    ) -> std::result::Result<(Vec<Module>, Option<ReadFault>), ReadFault> {
        let pointer = self.open.as_ref().map_or(8, |open| open.target.pointer_size()) as usize;
        let (mut modules, mut broken) = loader_modules(view, peb, pointer)?;
        if let Some((narrow, fault)) = self.narrow_peb().and_then(|peb| loader_modules(view, peb, 4).ok()) {
            modules.extend(narrow);
            broken = broken.or(fault);
        }
        Ok((modules, broken))
    }

    /// The same target with the modules of the process whose address space is looked at; none, where they cannot be read.
    pub fn with_own_modules(&self, open: &OpenTarget) -> OpenTarget {
        let view = self.view().cloned().unwrap_or_else(|| open.target.view().clone());
        let listed = self.process_peb().and_then(|peb| self.loader_modules(&view, peb).ok());
        let given = open.target.modules().iter().filter(|module| module.origin == Origin::Given).cloned();
        let modules = listed.into_iter().flat_map(|listed| listed.0).chain(given).collect();
        let process = self.register("$proc").map(Va);
        open.with_modules(modules, Some(UserSpace { view, process }))
    }

    /// What stands at an address.
    pub fn name_of(&self, va: Va) -> Option<Hit> {
        let open = self.open.as_ref()?;
        open.symbols.at(&open.target, va)
    }

    /// The value of an expression. Addresses of a 32-bit target come zero-extended, as [`Va`] has them.
    pub fn evaluate(&self, text: &str) -> Result<u64> {
        self.evaluate_wide(text).map(|value| self.narrow(value))
    }

    /// The value of an expression as evaluators have it: addresses of a 32-bit target are sign-extended.
    pub fn evaluate_wide(&self, text: &str) -> Result<u64> {
        expr::evaluate(text, self).map_err(expression_error)
    }

    /// The value of the expression at the start of `text`, and what follows.
    pub fn evaluate_first<'t>(&self, text: &'t str) -> Result<(u64, &'t str)> {
        expr::evaluate_first(text, self)
            .map(|(value, rest)| (self.narrow(value), rest))
            .map_err(expression_error)
    }

    /// The typed value of a C++ expression.
    pub fn evaluate_typed(&self, text: &str) -> Result<expr::Evaluated> {
        expr::evaluate_typed(text, self).map_err(expression_error)
    }

    /// On a 32-bit target, the 32 bits of a sign-extended number.
    fn narrow(&self, value: u64) -> u64 {
        if self.pointer_size() == 4 && value >> 31 == 0x1_ffff_ffff { value & 0xffff_ffff } else { value }
    }
}

/// Time since 1970 as a FILETIME.
fn file_time(since: Duration) -> u64 {
    const UNIX_EPOCH: u64 = 116_444_736_000_000_000;
    u64::try_from(since.as_nanos() / 100).unwrap_or(0).saturating_add(UNIX_EPOCH)
}

fn expression_error(error: ExprError) -> Error {
    Error::Usage(error.to_string())
}

impl expr::Context for Scope {
    fn register(&self, name: &str) -> Option<u64> {
        Scope::register(self, name)
    }

    fn symbol(&self, name: &str) -> Option<u64> {
        let open = self.open.as_ref()?;
        let module =
            (!name.contains('!')).then(|| open.symbols.module_named(&open.target, name).ok()).flatten();
        match module.and_then(|index| open.target.modules().get(index)) {
            Some(module) => Some(module.base.0),
            None => {
                let find = |name: &str| open.symbols.find(&open.target, name).ok().map(|va| va.0);
                find(name).or_else(|| find(&format!("{name}{}", self.variables.suffix?)))
            }
        }
    }

    fn read(&self, va: Va, size: u32) -> std::result::Result<u64, String> {
        let mut bytes = [0; 8];
        let Some(place) = bytes.get_mut(..size as usize) else { return Err("bad size".to_owned()) };
        let outcome = Scope::read(self, Va(self.narrow(va.0)), place);
        match outcome.fault {
            None if self.open.is_some() => Ok(u64::from_le_bytes(bytes)),
            None => Err("no dump is open".to_owned()),
            Some(fault) => Err(fault.why.to_string()),
        }
    }

    fn pointer_size(&self) -> u32 {
        Scope::pointer_size(self)
    }

    fn radix(&self) -> u32 {
        self.radix
    }

    fn read_physical(&self, pa: Pa, size: u32) -> std::result::Result<u64, String> {
        let mut bytes = [0; 8];
        let Some(place) = bytes.get_mut(..size as usize) else { return Err("bad size".to_owned()) };
        let wanted = place.len();
        match Scope::read_physical(self, pa, place) {
            (done, None) if done == wanted => Ok(u64::from_le_bytes(bytes)),
            (_, None) => Err("no dump is open".to_owned()),
            (_, Some(why)) => Err(why.to_string()),
        }
    }

    fn is_readable(&self, va: Va, bytes: u64) -> bool {
        let mut at = va;
        let mut left = bytes;
        let mut buffer = vec![0; 0x10000.min(usize::try_from(bytes).unwrap_or(usize::MAX))];
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let Some(place) = buffer.get_mut(..count) else { return false };
            let outcome = Scope::read(self, Va(self.narrow(at.0)), place);
            if outcome.done < count {
                return false;
            }
            at = at.add(count as u64);
            left -= count as u64;
        }
        true
    }

    fn find_type(&self, name: &str) -> std::result::Result<(Arc<ModuleTypes>, TypeId), String> {
        let open = self.open.as_ref().ok_or("no dump is open")?;
        open.symbols.find_type(&open.target, name).map_err(|error| crate::chained(&error))
    }

    fn register_type(&self, name: &str) -> Option<Type> {
        self.variables.types.get(expr::user_register(name)?)?.clone()
    }

    fn source_line(&self, module: Option<&str>, file: &str, line: u32) -> std::result::Result<u64, String> {
        let open = self.open.as_ref().ok_or("no dump is open")?;
        match open.symbols.code_of(&open.target, module, file, line) {
            Ok(Some(va)) => Ok(va.0),
            Ok(None) => Err(format!("no loaded symbols tell of code at {file}:{line}")),
            Err(error) => Err(crate::chained(&error)),
        }
    }

    fn evaluator(&self) -> Evaluator {
        self.variables.evaluator
    }
}

impl typed::Memory for Scope {
    fn read(&self, va: Va, into: &mut [u8]) -> std::result::Result<(), String> {
        let wanted = into.len();
        let outcome = Scope::read(self, va, into);
        match outcome.fault {
            Some(fault) => Err(fault.why.to_string()),
            None if outcome.done < wanted => Err("no dump is open".to_owned()),
            None => Ok(()),
        }
    }

    fn name_of(&self, va: Va) -> Option<String> {
        Scope::name_of(self, va).map(|hit| hit.to_string())
    }

    fn look(&self) -> Look {
        self.look
    }
}

impl ModuleSource for Target {
    fn modules(&self) -> usize {
        Target::modules(self).len()
    }

    fn module(&self, index: usize) -> Option<symbols::Module<'_>> {
        Target::modules(self).get(index).map(|module| symbols::Module {
            base: module.base,
            size: module.size,
            name: &module.name,
            image: &module.image,
            time_stamp: module.time_stamp,
            is_kernel: module.is_kernel,
        })
    }

    fn module_at(&self, va: Va) -> Option<usize> {
        self.module_index_at(va)
    }

    fn read(&self, va: Va, into: &mut [u8]) -> bool {
        self.read_image(va, into)
    }

    fn kernel_hints(&self) -> KernelHints {
        let header = self.header();
        let or_null = |va: Option<Va>| va.unwrap_or(Va::NULL);
        KernelHints {
            ps_loaded_module_list: or_null(header.ps_loaded_module_list),
            ps_active_process_head: or_null(header.ps_active_process_head),
            kd_debugger_data_block: or_null(header.kd_debugger_data_block),
            pfn_database: or_null(header.pfn_database),
        }
    }
}
