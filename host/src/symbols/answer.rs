//! What symbols tell: names at addresses, kinds, source lines, locals, and what became of a module's symbol file.

use super::{Matched, PdbId, SymbolError, TypeId};
use crate::dump::Machine;
use kd_sdk::address::Va;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// What stands at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Index of the module.
    pub module: usize,
    /// The module's name, `nt`.
    pub module_name: String,
    /// The symbol's name as KD shows it; empty where the module has no symbol at or before the address.
    pub name: String,
    /// Address of the symbol, or the module's base where `name` is empty.
    pub address: Va,
    /// Bytes from `address`.
    pub displacement: u64,
}

impl fmt::Display for Hit {
    /// `nt!KeBugCheckEx+0x20`, `amdppm+0x334c`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.module_name)?;
        if !self.name.is_empty() {
            write!(f, "!{}", self.name)?;
        }
        if self.displacement != 0 {
            write!(f, "+{:#x}", self.displacement)?;
        }
        Ok(())
    }
}

/// What a symbol names, as far as the symbols tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SymbolKind {
    /// A public symbol that is not marked as code.
    PublicData,
    /// A public symbol marked as code.
    PublicFunction,
    /// A variable that other files can name.
    GlobalData,
    /// A variable of one file.
    StaticData,
    /// A function that other files can name.
    GlobalFunction,
    /// A function of one file.
    StaticFunction,
    /// A name the image exports, known without a symbol file.
    Export,
}

impl SymbolKind {
    /// True where a name and an address are all that is known.
    pub fn is_public(self) -> bool {
        matches!(self, SymbolKind::PublicData | SymbolKind::PublicFunction | SymbolKind::Export)
    }

    /// True for functions, and for what is not known to be anything else.
    pub fn is_code(self) -> bool {
        !matches!(self, SymbolKind::PublicData | SymbolKind::GlobalData | SymbolKind::StaticData)
    }
}

/// A symbol exactly at an address.
#[derive(Clone, Debug)]
pub struct Exact {
    /// Where, and its name.
    pub hit: Hit,
    /// What it names.
    pub kind: SymbolKind,
    /// Its type in the module's types, where the symbols tell.
    pub type_id: Option<TypeId>,
}

/// A place in source code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// The file, as the compiler was given it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// Bytes from the line's first instruction.
    pub displacement: u64,
}

/// A call that the compiler put in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inlined {
    /// `module!function`.
    pub name: String,
    /// Bytes from the first instruction of the call.
    pub displacement: u64,
    /// The line inside the function.
    pub line: Option<SourceLine>,
}

/// A local variable or parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its name.
    pub name: String,
    /// Its type in the module's types.
    pub type_id: TypeId,
    /// True for a parameter.
    pub parameter: bool,
    /// Where it is at the address that was asked about.
    pub place: LocalPlace,
}

/// Where a variable is. Registers have CodeView's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalPlace {
    /// In a register.
    Register(u16),
    /// In memory, so many bytes from a register.
    Relative {
        /// The register.
        register: u16,
        /// Bytes.
        offset: i64,
    },
    /// It has no place there: optimised away, or not yet alive.
    Nowhere,
}

impl LocalPlace {
    /// The name of a register of a machine by CodeView's number for it.
    pub fn register_name(number: u16, machine: Machine) -> Option<&'static str> {
        const X86: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
        const X64: [&str; 16] = [
            "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
            "r14", "r15",
        ];
        const X64_LOW: [&str; 8] = ["r8d", "r9d", "r10d", "r11d", "r12d", "r13d", "r14d", "r15d"];
        const ARM64: [&str; 32] = [
            "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
            "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28",
            "fp", "lr", "sp",
        ];
        let at = |first: u16, names: &'static [&'static str]| {
            names.get(usize::from(number.checked_sub(first)?)).copied()
        };
        match machine {
            Machine::X86 => at(17, &X86),
            Machine::X64 => at(328, &X64).or_else(|| at(360, &X64_LOW)).or_else(|| at(17, &X86)),
            // w0 is the lower half of x0; its value has 32 bits by its type.
            Machine::Arm64 => at(50, &ARM64).or_else(|| at(10, &ARM64)),
        }
    }

    /// CodeView's number for what stands for the frame in 32-bit code without a frame pointer: the place of the return
    /// address.
    pub const VIRTUAL_FRAME: u16 = 30006;
}

/// The neighbourhood of an address, for `ln`.
#[derive(Clone, Debug)]
pub struct Near {
    /// The symbol at or before the address.
    pub at: Hit,
    /// The first symbol after it.
    pub next: Option<Hit>,
    /// Every symbol exactly at the address.
    pub exact: Vec<Exact>,
}

/// A symbol given to the visitor of [`Symbols::each`](super::Symbols::each).
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Index of the module.
    pub module: usize,
    /// The module's name, `nt`.
    pub module_name: &'a str,
    /// The symbol's name as KD shows it.
    pub name: &'a str,
    /// Its address.
    pub address: Va,
    /// What it names.
    pub kind: SymbolKind,
    /// Its type in the module's types, where the symbols tell.
    pub type_id: Option<TypeId>,
}

/// What is known of a module's symbols.
#[derive(Clone, Debug)]
pub enum ModuleState {
    /// Nobody has asked yet.
    Deferred,
    /// A PDB stands behind the module.
    Loaded {
        /// The PDB, where it was found (a compressed one: the compressed file).
        pdb: PathBuf,
        /// Its identity.
        id: PdbId,
        /// How it is known to be the right one.
        matched: Matched,
        /// True for a file with everything its builders know (locals, lines), false for a published one.
        private: bool,
    },
    /// There is no PDB (its types ask for the reason); the names its image exports are known.
    Exports {
        /// How many.
        count: usize,
        /// Why there is no PDB.
        reason: Arc<SymbolError>,
    },
    /// There is none; the error says why.
    None {
        /// Why.
        reason: Arc<SymbolError>,
    },
}
