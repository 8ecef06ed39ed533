//! Expressions: text in, a number or a typed value out.
//!
//! Two evaluators, as in KD: `masm` (64-bit unsigned numbers) and `cpp` (C types and values), each able to call the
//! other with `@@masm()` and `@@c++()`. Neither knows a target: what a name means and what memory holds is asked of
//! a [`Context`].

mod cpp;
mod cursor;
mod functions;
mod literal;
mod masm;
mod number;
#[cfg(test)]
mod tests;

pub use cpp::{Evaluated, Home, TypedValue, evaluate_typed};
pub(crate) use literal::quoted;
pub use number::{Number, number};

use crate::symbols::{ModuleTypes, TypeId};
use crate::typed::Type;
use kd_sdk::address::{Pa, Va};
use std::sync::Arc;

/// Nesting that no sane expression reaches; deeper ones would eat the stack.
const MAX_DEPTH: usize = 100;

/// The two syntaxes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Evaluator {
    /// Microsoft macro assembler expressions.
    #[default]
    Masm,
    /// C++ source expressions.
    Cpp,
}

impl Evaluator {
    /// The name in `.expr /s`.
    pub fn name(self) -> &'static str {
        match self {
            Evaluator::Masm => "masm",
            Evaluator::Cpp => "c++",
        }
    }

    /// What `.expr` calls it.
    pub fn title(self) -> &'static str {
        match self {
            Evaluator::Masm => "Microsoft Assembler expressions",
            Evaluator::Cpp => "C++ source expressions",
        }
    }

    /// By name.
    pub fn named(name: &str) -> Option<Evaluator> {
        [Evaluator::Masm, Evaluator::Cpp].into_iter().find(|known| known.name().eq_ignore_ascii_case(name))
    }

    fn other(self) -> Evaluator {
        match self {
            Evaluator::Masm => Evaluator::Cpp,
            Evaluator::Cpp => Evaluator::Masm,
        }
    }
}

/// What an expression may refer to.
pub trait Context {
    /// A register or pseudo-register by name, in lower case, without `@`.
    fn register(&self, name: &str) -> Option<u64>;
    /// A symbol or module by name.
    fn symbol(&self, name: &str) -> Option<u64>;
    /// `size` (1, 2, 4, 8) bytes of target memory as a number; the error is the reason.
    fn read(&self, va: Va, size: u32) -> Result<u64, String>;
    /// 4 or 8.
    fn pointer_size(&self) -> u32;
    /// 8, 10 or 16.
    fn radix(&self) -> u32;

    /// `size` bytes of physical memory as a number; the error is the reason.
    fn read_physical(&self, _pa: Pa, _size: u32) -> Result<u64, String> {
        Err("this dump has no physical memory".to_owned())
    }
    /// True where every byte of a range can be read.
    fn is_readable(&self, va: Va, bytes: u64) -> bool {
        // Whoever asks about more than this does not want an answer.
        (0..bytes.min(1 << 20)).all(|n| self.read(va.add(n), 1).is_ok())
    }
    /// A structure, union or enumeration by name; the error is the reason.
    fn find_type(&self, name: &str) -> Result<(Arc<ModuleTypes>, TypeId), String> {
        Err(format!("there are no types here to look for {name} in"))
    }
    /// The type that the user gave a pseudo-register.
    fn register_type(&self, _name: &str) -> Option<Type> {
        None
    }
    /// The first code of a source line, or of the next line that has some; the error is the reason.
    fn source_line(&self, _module: Option<&str>, _file: &str, _line: u32) -> Result<u64, String> {
        Err("there are no source lines here".to_owned())
    }
    /// The evaluator of expressions that do not say which.
    fn evaluator(&self) -> Evaluator {
        Evaluator::Masm
    }
}

/// What is wrong with an expression, in KD's words where it has them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExprError {
    /// A character or a word that does not fit.
    #[error("syntax error at '{rest}'")]
    Syntax {
        /// The text from there on.
        rest: String,
    },
    /// The text ends too early.
    #[error("numeric expression missing from '<EOL>'")]
    Missing,
    /// More text than the expression has.
    #[error("extra character error in '{rest}'")]
    Extra {
        /// The text that is too much.
        rest: String,
    },
    /// A name that is neither number, register nor symbol.
    #[error("couldn't resolve error at '{name}'")]
    Unresolved {
        /// The name.
        name: String,
    },
    /// A register that does not exist or that this dump does not hold.
    #[error("bad register error at '@{name}'")]
    Register {
        /// The name.
        name: String,
    },
    /// A number of more than 64 bits.
    #[error("overflow error at '{at}': more than 64 bits")]
    Overflow {
        /// The number.
        at: String,
    },
    /// Division by zero.
    #[error("operand error: division by zero")]
    DivideByZero,
    /// A memory operator on memory that is not there.
    #[error("memory access error at {va}: {why}")]
    Memory {
        /// The address.
        va: Va,
        /// The reason.
        why: String,
    },
    /// Physical memory that is not there.
    #[error("memory access error at physical {pa}: {why}")]
    Physical {
        /// The address.
        pa: Pa,
        /// The reason.
        why: String,
    },
    /// An operator on types that it does not take.
    #[error("type conflict error: {what}")]
    Conflict {
        /// Operator and types.
        what: String,
    },
    /// A symbol of which only the address is known.
    #[error(
        "type information missing error for '{name}': only its address is known; write &{name} or cast it"
    )]
    NoType {
        /// The symbol.
        name: String,
    },
    /// A name that no type has.
    #[error("couldn't resolve type error at '{name}': {why}")]
    Type {
        /// The name.
        name: String,
        /// The reason.
        why: String,
    },
    /// A structure has no such member.
    #[error("{of} has no member '{name}'")]
    Member {
        /// The type.
        of: String,
        /// The name.
        name: String,
    },
    /// A source line of which no code is known.
    #[error("couldn't resolve error at '`{line}`': {why}")]
    SourceLine {
        /// The line as it was written.
        line: String,
        /// The reason.
        why: String,
    },
    /// Something KD can do and kd cannot, or that a dump does not allow.
    #[error("{what}")]
    Unsupported {
        /// What.
        what: String,
    },
    /// Too many parentheses.
    #[error("expression is nested too deeply")]
    TooDeep,
}

/// The value of `text`, all of it, as a 64-bit number.
pub fn evaluate(text: &str, context: &dyn Context) -> Result<u64, ExprError> {
    match evaluate_first(text, context)? {
        (value, "") => Ok(value),
        (_, rest) => Err(ExprError::Extra { rest: rest.to_owned() }),
    }
}

/// The value of the longest expression at the start of `text`, and what follows it.
pub fn evaluate_first<'t>(text: &'t str, context: &dyn Context) -> Result<(u64, &'t str), ExprError> {
    number_of(text, context, context.evaluator(), 0)
}

/// The number at the start of `text` in one syntax.
fn number_of<'t>(
    text: &'t str,
    context: &dyn Context,
    evaluator: Evaluator,
    depth: usize,
) -> Result<(u64, &'t str), ExprError> {
    match evaluator {
        Evaluator::Masm => masm::evaluate_first(text, context, depth),
        Evaluator::Cpp => {
            let (evaluated, rest) = cpp::evaluate_first(text, context, depth)?;
            Ok((evaluated.number(context)?, rest))
        }
    }
}

/// `@@c++`, `@@masm`, `@@` at the start of `text`: the evaluator and the bytes of it.
fn switch(text: &str, from: Evaluator) -> Option<(Evaluator, usize)> {
    let rest = text.strip_prefix("@@")?;
    let lower = rest.get(..4).map(str::to_ascii_lowercase);
    if lower.as_deref() == Some("masm") {
        return Some((Evaluator::Masm, 6));
    }
    if rest.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("c++")) {
        return Some((Evaluator::Cpp, 5));
    }
    Some((from.other(), 2))
}

/// True for `$t0` to `$t19`.
pub fn is_user_register(name: &str) -> bool {
    user_register(name).is_some()
}

/// The number of `$t0` to `$t19`.
pub fn user_register(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("$t")?;
    let index: usize = digits.parse().ok().filter(|_| digits.starts_with(|c: char| c.is_ascii_digit()))?;
    (index < USER_REGISTERS && (digits.len() == 1 || !digits.starts_with('0'))).then_some(index)
}

/// How many `$t` registers there are.
pub const USER_REGISTERS: usize = 20;
