//! What commands look at: one target, one processor, one register context. A cheap copy of it goes to the thread of
//! every extension command, so that nothing a command reads can change under it.

use crate::expr;
use crate::memory::ReadOutcome;
use crate::symbols::Symbols;
use crate::target::{Registers, Target};
use kd_sdk::address::Va;
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

/// A name for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Module name.
    pub module: String,
    /// Symbol name; empty without symbols.
    pub name: String,
    /// Address of the symbol or of the module.
    pub address: Va,
    /// Bytes from there.
    pub displacement: u64,
}
