//! The MASM-style evaluator: 64-bit unsigned arithmetic, registers, symbols, and reads of target memory.
//!
//! Precedence and operators as documented for KD; a hexadecimal constant from 80000000 to ffffffff is sign-extended
//! in kernel mode unless it is written with a grave accent. Casts, `@@()` and string
//! functions are not part of this version.

use super::lexer::{Token, TokenKind, number, tokens};
use kd_sdk::address::Va;

/// Nesting that no sane expression reaches; deeper ones would eat the stack.
const MAX_DEPTH: usize = 200;

/// What an expression may refer to.
pub trait Context {
    /// A register or pseudo-register by name, without `@`.
    fn register(&self, name: &str) -> Option<u64>;
    /// A symbol or module by name.
    fn symbol(&self, name: &str) -> Option<u64>;
    /// `size` (1, 2, 4, 8) bytes of target memory as a number; the error is the reason.
    fn read(&self, va: Va, size: u32) -> Result<u64, String>;
    /// 4 or 8.
    fn pointer_size(&self) -> u32;
    /// 8, 10 or 16.
    fn radix(&self) -> u32;
}

/// What is wrong with an expression, in KD's words where it has them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
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
    /// A name that is neither number, register nor symbol.
    #[error("couldn't resolve error at '{name}'")]
    Unresolved {
        /// The name.
        name: String,
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
    /// Too many parentheses.
    #[error("expression is nested too deeply")]
    TooDeep,
}

/// The value of `text`, all of it.
pub fn evaluate(text: &str, context: &dyn Context) -> Result<u64, ExprError> {
    match evaluate_first(text, context)? {
        (value, "") => Ok(value),
        (_, rest) => Err(ExprError::Syntax { rest: rest.to_owned() }),
    }
}

/// The value of the longest expression at the start of `text`, and what follows it.
pub fn evaluate_first<'t>(text: &'t str, context: &dyn Context) -> Result<(u64, &'t str), ExprError> {
    let (tokens, stopped) = tokens(text);
    let mut parser = Parser { text, tokens: &tokens, next: 0, stopped, context, depth: 0 };
    let value = parser.level(0)?;
    let end = parser.tokens.get(parser.next).map(|token| token.at).or(stopped);
    Ok((value, end.and_then(|at| text.get(at..)).unwrap_or_default()))
}

struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token],
    next: usize,
    /// Where the text stops making sense.
    stopped: Option<usize>,
    context: &'a dyn Context,
    depth: usize,
}

/// Binary operators from the loosest to the tightest, by symbol or by word.
const LEVELS: [&[&str]; 7] = [
    &["|", "or", "||"],
    &["^", "xor"],
    &["&", "and", "&&"],
    &["=", "==", "<", ">", "<=", ">=", "!="],
    &["<<", ">>", ">>>"],
    &["+", "-"],
    &["*", "/", "%", "mod"],
];

impl Parser<'_> {
    fn syntax(&self, token: &Token) -> ExprError {
        ExprError::Syntax { rest: self.text.get(token.at..).unwrap_or_default().to_owned() }
    }

    /// The error at the end of the tokens.
    fn end(&self) -> ExprError {
        match self.stopped.and_then(|at| self.text.get(at..)) {
            Some(rest) => ExprError::Syntax { rest: rest.to_owned() },
            None => ExprError::Missing,
        }
    }

    /// The operator at the cursor if it belongs to `level`.
    fn binary(&self, level: &[&'static str]) -> Option<&'static str> {
        let text = match &self.tokens.get(self.next)?.kind {
            TokenKind::Operator(operator) => *operator,
            TokenKind::Word(word) => word.as_str(),
            TokenKind::Register(_) => return None,
        };
        level.iter().copied().find(|known| known.eq_ignore_ascii_case(text))
    }

    fn level(&mut self, level: usize) -> Result<u64, ExprError> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.level(level + 1)?;
        while let Some(operator) = self.binary(operators) {
            self.next += 1;
            let right = self.level(level + 1)?;
            left = apply(operator, left, right)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<u64, ExprError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExprError::TooDeep);
        }
        let value = self.operand();
        self.depth -= 1;
        value
    }

    fn operand(&mut self) -> Result<u64, ExprError> {
        let token = self.tokens.get(self.next).ok_or_else(|| self.end())?.clone();
        self.next += 1;
        match &token.kind {
            TokenKind::Operator("+") => self.unary(),
            TokenKind::Operator("-") => Ok(self.unary()?.wrapping_neg()),
            TokenKind::Operator(open @ ("(" | "[")) => {
                let value = self.level(0)?;
                let close = if *open == "(" { ")" } else { "]" };
                match self.tokens.get(self.next) {
                    Some(Token { kind: TokenKind::Operator(found), .. }) if *found == close => {
                        self.next += 1;
                        Ok(value)
                    }
                    Some(other) => Err(self.syntax(other)),
                    None => Err(self.end()),
                }
            }
            TokenKind::Operator(_) => Err(self.syntax(&token)),
            TokenKind::Register(name) => self
                .context
                .register(&name.to_ascii_lowercase())
                .ok_or_else(|| ExprError::Unresolved { name: format!("@{name}") }),
            TokenKind::Word(word) => self.word(word),
        }
    }

    /// Word operators, then numbers, registers and symbols: KD takes a common register name before a number, and
    /// anything that reads as a number before a symbol.
    fn word(&mut self, word: &str) -> Result<u64, ExprError> {
        let pointer_size = self.context.pointer_size();
        let lower = word.to_ascii_lowercase();
        match lower.as_str() {
            "not" => return Ok(!self.unary()?),
            "hi" => return Ok(self.unary()? >> 16 & 0xffff),
            "low" => return Ok(self.unary()? & 0xffff),
            "by" => return self.read(1),
            "wo" => return self.read(2),
            "dwo" => return self.read(4),
            "qwo" => return self.read(8),
            "poi" => return self.read(pointer_size),
            "." => {
                return self.context.register("$ip").ok_or(ExprError::Unresolved { name: ".".to_owned() });
            }
            _ => {}
        }
        if let Some(value) = self.context.register(&lower) {
            return Ok(value);
        }
        if let Some(value) = number(word, self.context.radix()) {
            let hex = self.context.radix() == 16 || lower.starts_with("0x");
            let extend = hex && !word.contains('`') && (0x8000_0000..=0xffff_ffff).contains(&value);
            return Ok(if extend && pointer_size == 8 { value | 0xffff_ffff_0000_0000 } else { value });
        }
        let name = word.strip_prefix('!').unwrap_or(word);
        self.context.symbol(name).ok_or_else(|| ExprError::Unresolved { name: word.to_owned() })
    }

    fn read(&mut self, size: u32) -> Result<u64, ExprError> {
        let va = Va(self.unary()?);
        self.context.read(va, size).map_err(|why| ExprError::Memory { va, why })
    }
}

fn apply(operator: &str, a: u64, b: u64) -> Result<u64, ExprError> {
    let shift = u32::try_from(b).unwrap_or(u32::MAX);
    Ok(match operator {
        "+" => a.wrapping_add(b),
        "-" => a.wrapping_sub(b),
        "*" => a.wrapping_mul(b),
        "/" => a.checked_div(b).ok_or(ExprError::DivideByZero)?,
        "%" | "mod" => a.checked_rem(b).ok_or(ExprError::DivideByZero)?,
        "<<" => a.checked_shl(shift).unwrap_or(0),
        ">>" => a.checked_shr(shift).unwrap_or(0),
        ">>>" => (a as i64).checked_shr(shift).unwrap_or(if (a as i64) < 0 { -1 } else { 0 }) as u64,
        "=" | "==" => u64::from(a == b),
        "!=" => u64::from(a != b),
        "<" => u64::from(a < b),
        ">" => u64::from(a > b),
        "<=" => u64::from(a <= b),
        ">=" => u64::from(a >= b),
        "&" | "and" => a & b,
        "&&" => u64::from(a != 0 && b != 0),
        "^" | "xor" => a ^ b,
        "||" => u64::from(a != 0 || b != 0),
        _ => a | b,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        radix: u32,
    }

    impl Context for Fake {
        fn register(&self, name: &str) -> Option<u64> {
            match name {
                "rip" | "$ip" => Some(0xfffff804_7bdf5a80),
                "rsp" => Some(0x1000),
                _ => None,
            }
        }
        fn symbol(&self, name: &str) -> Option<u64> {
            (name == "nt").then_some(0xfffff804_7ba00000)
        }
        fn read(&self, va: Va, size: u32) -> Result<u64, String> {
            if va.0 == 0x1000 { Ok(u64::from(size)) } else { Err("not mapped".to_owned()) }
        }
        fn pointer_size(&self) -> u32 {
            8
        }
        fn radix(&self) -> u32 {
            self.radix
        }
    }

    fn value(text: &str) -> Result<u64, ExprError> {
        evaluate(text, &Fake { radix: 16 })
    }

    #[test]
    fn arithmetic_as_documented() {
        for (text, expected) in [
            ("1+2*3", 7),
            ("(1+2)*3", 9),
            ("10", 16),
            ("0n10 + 0y11", 13),
            ("@$ip - nt", 0x3f5a80),
            ("rip - nt", 0x3f5a80),
            ("poi(rsp)", 8),
            ("by rsp", 1),
            ("80000000", 0xffff_ffff_8000_0000),
            ("0`80000000", 0x8000_0000),
            ("not 0", u64::MAX),
            ("-1 == ffffffff`ffffffff", 1),
            ("1 << 4 | 1", 0x11),
            ("hi 12345678", 0x1234),
            ("5 mod 3", 2),
            (".", 0xfffff804_7bdf5a80),
            ("-8 >>> 1", (-4i64) as u64),
            ("1 << 80", 0),
        ] {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn errors_say_what_and_where() {
        assert_eq!(value("1/0"), Err(ExprError::DivideByZero));
        assert_eq!(value(""), Err(ExprError::Missing));
        assert_eq!(value("1+"), Err(ExprError::Missing));
        assert_eq!(value("nosuch"), Err(ExprError::Unresolved { name: "nosuch".into() }));
        assert_eq!(evaluate_first("rsp L40", &Fake { radix: 16 }), Ok((0x1000, "L40")));
        assert_eq!(evaluate_first("1+1 \"x\"", &Fake { radix: 16 }), Ok((2, "\"x\"")));
        assert_eq!(value("\"x\""), Err(ExprError::Syntax { rest: "\"x\"".into() }));
        assert_eq!(value("1 2"), Err(ExprError::Syntax { rest: "2".into() }));
        assert_eq!(
            value("poi(0)").unwrap_err().to_string(),
            "memory access error at 00000000`00000000: not mapped"
        );
        assert_eq!(value(&"(".repeat(10_000)), Err(ExprError::TooDeep));
        assert_eq!(value(&"-".repeat(10_000)), Err(ExprError::TooDeep));
    }
}
