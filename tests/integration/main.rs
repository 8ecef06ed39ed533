//! The integration tests: one binary, one module an area.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dump_kinds;
mod kd_dump;
mod kernels;
mod lab;
mod stories;
mod symbols;
