//! The integration tests: one binary, one module an area.
#![allow(missing_docs)]

mod dump_kinds;
mod kd_dump;
mod lab;
mod symbols;
