//! Names and addresses.

use crate::abi::SymbolInfo;
use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::Session;
use core::fmt;

/// The target's symbols.
#[derive(Clone, Copy)]
pub struct Symbols<'a> {
    pub(crate) session: &'a Session<'a>,
}

/// What stands at an address: `nt!KeBugCheckEx+0x20`, or `nt+0x3f5a80` without symbols.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Symbol {
    /// Module name.
    pub module: String,
    /// Symbol name; empty where the module has no symbol there.
    pub name: String,
    /// Bytes from the symbol, or from the module's base.
    pub displacement: u64,
    /// Address of the symbol, or of the module.
    pub address: Va,
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.module)?;
        if !self.name.is_empty() {
            write!(f, "!{}", self.name)?;
        }
        if self.displacement != 0 {
            write!(f, "+{:#x}", self.displacement)?;
        }
        Ok(())
    }
}

impl Symbol {
    fn from_abi(symbol: &SymbolInfo<'_>) -> Symbol {
        Symbol {
            module: symbol.module.to_string(),
            name: symbol.name.to_string(),
            displacement: symbol.displacement,
            address: Va(symbol.address),
        }
    }
}

impl Symbols<'_> {
    /// What stands at `va`; an error where no module holds it.
    pub fn at(&self, va: Va) -> Result<Symbol> {
        let mut found = None;
        let code = self.session.calls.symbol_at(va.0, &mut |symbol| {
            found = Some(Symbol::from_abi(symbol));
            false
        });
        self.session.check(code)?;
        found.ok_or_else(|| Error::NotFound(format!("no module at {va}")))
    }

    /// `nt!KeBugCheckEx+0x20`, or `None` where no module holds the address.
    pub fn name(&self, va: Va) -> Option<String> {
        self.at(va).ok().map(|symbol| symbol.to_string())
    }

    /// The address of `module!name`, or of a module.
    pub fn find(&self, name: &str) -> Result<Va> {
        let mut va = 0;
        self.session.check(self.session.calls.symbol_by_name(name, &mut va))?;
        Ok(Va(va))
    }

    /// Every symbol that matches `module!pattern`, at most `limit`.
    pub fn matching(&self, pattern: &str, limit: usize) -> Result<Vec<Symbol>> {
        let mut found = Vec::new();
        let code = self.session.calls.each_symbol(pattern, &mut |symbol| {
            found.push(Symbol::from_abi(symbol));
            found.len() < limit
        });
        self.session.check(code)?;
        Ok(found)
    }
}
