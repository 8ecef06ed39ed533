//! Names and addresses.

#![allow(unsafe_code)]

use crate::abi::{self, RStr, SymbolInfo, SymbolSink, status};
use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::{Session, missing};
use core::ffi::c_void;
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
    fn service(&self) -> Result<&abi::SymbolV1> {
        self.session.symbols.ok_or_else(|| missing("symbols"))
    }

    /// What stands at `va`; an error where no module holds it.
    pub fn at(&self, va: Va) -> Result<Symbol> {
        let mut found = Found { symbols: Vec::new(), limit: 1 };
        // SAFETY: `found` outlives the call.
        let code = unsafe { (self.service()?.at)(self.session.host.ctx, va.0, found.sink()) };
        self.session.check(code)?;
        found.symbols.pop().ok_or_else(|| Error::NotFound(format!("no module at {va}")))
    }

    /// `nt!KeBugCheckEx+0x20`, or `None` where no module holds the address.
    pub fn name(&self, va: Va) -> Option<String> {
        self.at(va).ok().map(|symbol| symbol.to_string())
    }

    /// The address of `module!name`, or of a module.
    pub fn find(&self, name: &str) -> Result<Va> {
        let mut va = 0;
        // SAFETY: the text and the place are valid for the call.
        let code = unsafe { (self.service()?.by_name)(self.session.host.ctx, RStr::from_str(name), &mut va) };
        self.session.check(code)?;
        Ok(Va(va))
    }

    /// Every symbol that matches `module!pattern`, at most `limit`.
    pub fn matching(&self, pattern: &str, limit: usize) -> Result<Vec<Symbol>> {
        let mut found = Found { symbols: Vec::new(), limit };
        // SAFETY: the text and `found` outlive the call.
        let code =
            unsafe { (self.service()?.each)(self.session.host.ctx, RStr::from_str(pattern), found.sink()) };
        self.session.check(code)?;
        Ok(found.symbols)
    }
}

/// Collects what the host finds.
struct Found {
    symbols: Vec<Symbol>,
    limit: usize,
}

impl Found {
    /// The sink that fills this; for one call.
    fn sink(&mut self) -> SymbolSink {
        unsafe extern "C" fn visit(ctx: *mut c_void, symbol: &SymbolInfo<'_>) -> i32 {
            // SAFETY: `ctx` is the collection of the enclosing call.
            let Some(found) = (unsafe { ctx.cast::<Found>().as_mut() }) else { return status::INVALID };
            found.symbols.push(Symbol::from_abi(symbol));
            i32::from(found.symbols.len() >= found.limit)
        }
        SymbolSink { ctx: (&raw mut *self).cast(), visit }
    }
}
