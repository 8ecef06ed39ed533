//! kd, the engine: opens Windows kernel crash dumps and runs commands on them.

pub mod cli;
pub mod dump;
pub mod expr;
pub mod extension;
pub mod memory;
pub mod pattern;
pub mod symbols;
pub mod target;
pub mod ui;
