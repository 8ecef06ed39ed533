//! The MASM evaluator: 64-bit unsigned arithmetic, registers, symbols, and reads of target memory.
//!
//! Operators, their precedence and what a word may mean are KD's: operators of one level work from left to right,
//! memory operators bind to the next operand only, `@` makes a word a register at once, well-known registers are
//! taken before numbers, numbers before symbols, symbols before the other registers.

use super::cursor::Cursor;
use super::{Context, Evaluator, ExprError, MAX_DEPTH, functions, number, number_of, switch};
use kd_sdk::address::{Pa, Va};

/// The longest expression at the start of `text`, and what follows it.
pub(super) fn evaluate_first<'t>(
    text: &'t str,
    context: &dyn Context,
    depth: usize,
) -> Result<(u64, &'t str), ExprError> {
    let mut parser = Parser { cursor: Cursor::new(text), context, depth };
    let value = parser.binary(0)?;
    Ok((value, parser.cursor.skip_blanks()))
}

/// An evaluation under way.
pub(super) struct Parser<'t, 'c> {
    pub(super) cursor: Cursor<'t>,
    pub(super) context: &'c dyn Context,
    depth: usize,
}

/// Binary operators and their level; the higher binds the tighter. Longer spellings first.
const OPERATORS: [(&str, u8); 24] = [
    (">>>", 5),
    ("<<", 5),
    (">>", 5),
    ("==", 4),
    ("!=", 4),
    ("<=", 4),
    (">=", 4),
    ("&&", 2),
    ("||", 0),
    ("=", 4),
    ("<", 4),
    (">", 4),
    ("+", 6),
    ("-", 6),
    ("*", 7),
    ("/", 7),
    ("%", 7),
    ("&", 3),
    ("^", 1),
    ("|", 0),
    ("mod", 7),
    ("and", 3),
    ("xor", 1),
    ("or", 0),
];

/// Registers that mean themselves without `@`, whatever else their names could mean.
const COMMON: &str = " rax rbx rcx rdx rsi rdi rbp rsp rip r8 r9 r10 r11 r12 r13 r14 r15 eax ebx ecx edx esi edi ebp \
     esp eip efl ax bx cx dx si di bp sp ip cs ds es fs gs ss x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 \
     x15 x16 x17 x18 x19 x20 x21 x22 x23 x24 x25 x26 x27 x28 fp lr pc psr ";

impl<'t> Parser<'t, '_> {
    /// An operand and the operators after it that bind as tight as `level` or tighter.
    fn binary(&mut self, level: u8) -> Result<u64, ExprError> {
        let mut left = self.operand()?;
        while let Some((operator, found)) = self.operator().filter(|(_, found)| *found >= level) {
            self.cursor.advance(operator.len());
            let right = self.binary(found + 1)?;
            left = apply(operator, left, right)?;
        }
        Ok(left)
    }

    /// The binary operator at the cursor.
    fn operator(&mut self) -> Option<(&'static str, u8)> {
        let rest = self.cursor.skip_blanks();
        if rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let word = word_at(rest);
            return OPERATORS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
        }
        OPERATORS.into_iter().find(|(known, _)| rest.starts_with(known))
    }

    /// The error at the cursor.
    pub(super) fn syntax(&mut self) -> ExprError {
        match self.cursor.skip_blanks() {
            "" => ExprError::Missing,
            rest => ExprError::Syntax { rest: rest.to_owned() },
        }
    }

    /// An expression inside brackets or an argument.
    pub(super) fn inner(&mut self) -> Result<u64, ExprError> {
        self.binary(0)
    }

    fn operand(&mut self) -> Result<u64, ExprError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExprError::TooDeep);
        }
        let value = self.operand_here();
        self.depth -= 1;
        value
    }

    fn operand_here(&mut self) -> Result<u64, ExprError> {
        let rest = self.cursor.skip_blanks();
        match rest.chars().next() {
            None => Err(ExprError::Missing),
            Some('+') => {
                self.cursor.advance(1);
                self.operand()
            }
            Some('-') => {
                self.cursor.advance(1);
                Ok(self.operand()?.wrapping_neg())
            }
            Some(open @ ('(' | '[')) => {
                self.cursor.advance(1);
                let value = self.inner()?;
                if self.cursor.eat(if open == '(' { ")" } else { "]" }) {
                    Ok(value)
                } else {
                    Err(self.syntax())
                }
            }
            Some('`') => self.source_line(rest),
            Some('@') => self.at_sign(rest),
            Some(_) => {
                let word = word_at(rest);
                if word.is_empty() {
                    return Err(self.syntax());
                }
                self.cursor.advance(word.len());
                self.word(word)
            }
        }
    }

    /// `` `file.c:12` ``, `` `module!file.c:12+` ``.
    fn source_line(&mut self, rest: &'t str) -> Result<u64, ExprError> {
        let syntax = || ExprError::Syntax { rest: rest.to_owned() };
        let inside = rest.get(1..).unwrap_or_default();
        let (text, _) = inside.split_once('`').ok_or_else(syntax)?;
        self.cursor.advance(text.len() + 2);
        let place = text.trim_end_matches('+');
        let (place, line) = place.rsplit_once(':').ok_or_else(syntax)?;
        // Lines are decimal whatever the radix.
        let line = line.trim().parse().map_err(|_| syntax())?;
        let (module, file) = match place.split_once('!') {
            Some((module, file)) => (Some(module), file),
            None => (None, place),
        };
        self.context
            .source_line(module, file.trim(), line)
            .map_err(|why| ExprError::SourceLine { line: text.to_owned(), why })
    }

    /// `@register`, `@@c++(…)`, `@!"symbol"`.
    fn at_sign(&mut self, rest: &'t str) -> Result<u64, ExprError> {
        if let Some((evaluator, bytes)) = switch(rest, Evaluator::Masm) {
            self.cursor.advance(bytes);
            let Some(inside) = self.cursor.bracketed() else { return Err(self.syntax()) };
            return match number_of(inside, self.context, evaluator, self.depth + 1)? {
                (value, "") => Ok(value),
                (_, rest) => Err(ExprError::Extra { rest: rest.to_owned() }),
            };
        }
        if let Some((name, _)) = rest.strip_prefix("@!\"").and_then(|quoted| quoted.split_once('"')) {
            self.cursor.advance(name.len() + 4);
            return self.symbol(name);
        }
        self.cursor.advance(1);
        let word = word_at(self.cursor.rest());
        if word.is_empty() {
            return Err(ExprError::Syntax { rest: rest.to_owned() });
        }
        self.cursor.advance(word.len());
        let found = self.register(&word.to_ascii_lowercase());
        found.ok_or_else(|| ExprError::Register { name: word.to_owned() })
    }

    /// A register's value as the evaluator sees it: those of a 32-bit machine are sign-extended, pseudo-registers
    /// are not, except for the addresses among them.
    fn register(&self, name: &str) -> Option<u64> {
        let value = self.context.register(name)?;
        let stored = name.starts_with("$t") || name.starts_with("$bug") || matches!(name, "$exp" | "$p");
        Some(if stored { value } else { self.address(value) })
    }

    /// An address: on a 32-bit target, sign-extended.
    fn address(&self, value: u64) -> u64 {
        if self.context.pointer_size() == 4 && value >> 32 == 0 {
            i64::from(value as u32 as i32) as u64
        } else {
            value
        }
    }

    /// Word operators, functions, and what a name means.
    fn word(&mut self, word: &str) -> Result<u64, ExprError> {
        let pointer_size = self.context.pointer_size();
        let lower = word.to_ascii_lowercase();
        match lower.as_str() {
            "not" => return Ok(!self.operand()?),
            "hi" => return Ok(self.operand()? >> 16 & 0xffff),
            "low" => return Ok(self.operand()? & 0xffff),
            "by" => return self.read(1),
            "wo" => return self.read(2),
            "dwo" => return self.read(4),
            "qwo" => return self.read(8),
            "poi" => return self.read(pointer_size).map(|value| self.address(value)),
            "$pby" => return self.read_physical(1),
            "$pwo" => return self.read_physical(2),
            "$pdwo" => return self.read_physical(4),
            "$pqwo" => return self.read_physical(8),
            "$ppoi" => return self.read_physical(pointer_size).map(|value| self.address(value)),
            "." => {
                let ip = self.register("$ip");
                return ip.ok_or_else(|| ExprError::Register { name: "$ip".to_owned() });
            }
            _ => {}
        }
        if lower.starts_with('$') {
            if let Some(value) = functions::call(self, &lower)? {
                return Ok(value);
            }
            return match self.register(&lower) {
                Some(value) => Ok(value),
                None => self.symbol(word),
            };
        }
        if COMMON.split(' ').any(|known| known == lower)
            && let Some(value) = self.register(&lower)
        {
            return Ok(value);
        }
        if let Some(number) = number(word, self.context.radix()) {
            return Ok(number?.extended());
        }
        self.symbol(word).or_else(|error| self.register(&lower).ok_or(error))
    }

    fn symbol(&self, word: &str) -> Result<u64, ExprError> {
        let name = word.strip_prefix('!').unwrap_or(word);
        let found = self.context.symbol(name).map(|value| self.address(value));
        found.ok_or_else(|| ExprError::Unresolved { name: word.to_owned() })
    }

    fn read(&mut self, size: u32) -> Result<u64, ExprError> {
        let va = Va(self.operand()?);
        self.context.read(va, size).map_err(|why| ExprError::Memory { va, why })
    }

    fn read_physical(&mut self, size: u32) -> Result<u64, ExprError> {
        let pa = Pa(self.operand()?);
        self.context.read_physical(pa, size).map_err(|why| ExprError::Physical { pa, why })
    }
}

/// The longest name at the start of `text`: `!` joins a module and a symbol; `::` and `` ` `` belong to names too.
fn word_at(text: &str) -> &str {
    let bytes = text.as_bytes();
    let mut end = 0;
    while let Some(&byte) = bytes.get(end) {
        let next = bytes.get(end + 1).copied().unwrap_or(0);
        let joins = match byte {
            b'_' | b'$' | b'?' | b'.' | b'~' => true,
            b'`' => end > 0,
            // `nt!name`, `!name`, but `a!=b`.
            b'!' => next != b'=' && next != b' ',
            b':' => next == b':' || (end > 0 && bytes.get(end - 1) == Some(&b':')),
            _ => byte.is_ascii_alphanumeric() || byte >= 0x80,
        };
        if !joins {
            break;
        }
        end += 1;
    }
    text.get(..end).unwrap_or_default()
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
