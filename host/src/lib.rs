//! kd, the engine: opens Windows kernel crash dumps and runs commands on them.
pub mod disasm;
pub mod dump;
pub mod memory;
pub mod target;
