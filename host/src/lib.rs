//! kd, the engine: opens Windows kernel crash dumps and runs commands on them.
//!
//! ```text
//! file / CAB ─► dump ─► memory ─► target ─► symbols, expr ─► session ─► commands + extensions ─► ui
//! ```
//! Arrows go one way: `dump` and `memory` know no symbols, only `ui` writes to the terminal.

pub mod cli;
pub mod commands;
pub mod contexts;
pub mod disasm;
pub mod dump;
pub mod expr;
pub mod extension;
pub mod image;
pub mod look;
pub mod memory;
pub mod pattern;
pub mod process;
pub mod range;
pub mod scope;
pub mod session;
pub mod stack;
pub mod symbols;
pub mod target;
pub mod typed;
pub mod ui;

/// An error with its causes, in one line.
pub(crate) fn chained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A file or folder of the material for tests that lies beside the project (in `KD_SHARED`, else `../shared`);
/// `None`, said aloud, where it is not there.
#[cfg(test)]
pub(crate) fn shared(wanted: &str) -> Option<std::path::PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
    let path =
        std::env::var_os("KD_SHARED").map_or_else(|| beside.into(), std::path::PathBuf::from).join(wanted);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no shared test material at {} (set KD_SHARED)", path.display());
    None
}
