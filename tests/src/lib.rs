//! The laboratory: Windows systems made by code, written as dumps of every kind, and what tests share.
//!
//! [`lab`] builds a system and writes it; the tests in `integration/` read the files back through kd and through
//! readers that are not ours. Nothing here is compiled into the program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test bench stops at the first surprise

pub mod lab;
mod outside;
mod sample;

pub use outside::{fixtures, kd_exe, shared};
pub use sample::{make_fixtures, sample_world};
