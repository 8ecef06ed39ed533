//! Expressions: text in, a 64-bit number out.

mod lexer;
pub mod masm;

pub use masm::{Context, ExprError, evaluate, evaluate_first};
