//! What commands look at: one target, one processor. A cheap copy of it goes to the thread of every extension
//! command, so that nothing a command reads can change under it.

use crate::expr::{self, ExprError};
use crate::memory::ReadOutcome;
use crate::symbols::{self, Hit, KernelHints, ModuleSource, Symbols};
use crate::target::{Registers, Target};
use crate::typed;
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use std::sync::Arc;

/// A target with its symbols and its number in `||`.
pub struct OpenTarget {
    /// Ordinal; never used twice.
    pub number: u32,
    /// The machine.
    pub target: Target,
    /// Its symbols.
    pub symbols: Symbols,
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

    /// 4 or 8; 8 without a target.
    pub fn pointer_size(&self) -> u32 {
        self.open.as_ref().map_or(8, |open| open.target.pointer_size())
    }

    /// Reads virtual memory of the target.
    pub fn read(&self, va: Va, buffer: &mut [u8]) -> ReadOutcome {
        match &self.open {
            Some(open) => open.target.read(va, buffer),
            None => ReadOutcome { done: 0, fault: None },
        }
    }

    /// The registers of the current processor.
    pub fn registers(&self) -> Result<Registers> {
        match self.target()?.registers(self.processor) {
            Ok(found) => Ok(found.registers),
            Err(error) => Err(Error::NotFound(crate::chained(&error))),
        }
    }

    /// A register or pseudo-register by name, without `@`.
    pub fn register(&self, name: &str) -> Option<u64> {
        let open = self.open.as_ref()?;
        let target = &open.target;
        match name.strip_prefix('$') {
            None => self.registers().ok()?.get(name),
            Some("ip") => Some(self.registers().ok()?.ip().0),
            Some("csp") => Some(self.registers().ok()?.sp().0),
            Some("proc") => target.processors().get(self.processor as usize)?.current_process.map(|va| va.0),
            Some("thread") => target.processors().get(self.processor as usize)?.current_thread.map(|va| va.0),
            Some("pcrb" | "prcb") => target.processors().get(self.processor as usize)?.prcb.map(|va| va.0),
            Some("ptrsize") => Some(target.pointer_size().into()),
            Some("pagesize") => Some(0x1000),
            Some("bug_code") => target.header().bug_check.map(|check| check.code.into()),
            Some(other) => {
                let index: usize = other.strip_prefix("bug_param")?.parse().ok()?;
                target.header().bug_check?.parameters.get(index.checked_sub(1)?).copied()
            }
        }
    }

    /// What stands at an address.
    pub fn name_of(&self, va: Va) -> Option<Hit> {
        let open = self.open.as_ref()?;
        open.symbols.at(&open.target, va)
    }

    /// The value of an expression.
    pub fn evaluate(&self, text: &str) -> Result<u64> {
        expr::evaluate(text, self).map_err(expression_error)
    }

    /// The value of the expression at the start of `text`, and what follows.
    pub fn evaluate_first<'t>(&self, text: &'t str) -> Result<(u64, &'t str)> {
        expr::evaluate_first(text, self).map_err(expression_error)
    }
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
            None => open.symbols.find(&open.target, name).ok().map(|va| va.0),
        }
    }

    fn read(&self, va: Va, size: u32) -> std::result::Result<u64, String> {
        let mut bytes = [0; 8];
        let Some(place) = bytes.get_mut(..size as usize) else { return Err("bad size".to_owned()) };
        let outcome = Scope::read(self, va, place);
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
        Target::read(self, va, into).fault.is_none()
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
