//! The integration tests: one binary, one module an area.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod code;
mod drivers;
mod dump_kinds;
mod errlog;
mod every_kind;
mod extensions;
mod hostile;
#[cfg(unix)]
mod interrupts;
mod io_objects;
mod kd_dump;
mod kdexts;
mod kernels;
mod lab;
mod locks;
mod machine;
mod memory_owners;
mod memory_reports;
mod memusage;
mod microsoft;
mod newer;
mod objects;
mod one_dump;
mod oracles;
mod pool;
mod pool_layout;
mod process;
mod program;
mod real;
mod sdk;
mod session;
mod stacks;
mod stories;
mod symbols;
mod timers;
mod transcripts;
mod unwinding;
mod vm;
mod worlds;
mod worlds_memory;
mod writing;
