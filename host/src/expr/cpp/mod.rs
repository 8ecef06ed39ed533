//! The C++ evaluator: typed values, C's operators and conversions, members of structures, casts, `sizeof`, and the
//! debugger's own macros.
//!
//! Text is evaluated while it is read. What C does not evaluate (the other side of `&&`, `||`, `?:`, the operand of
//! `sizeof`) is read with memory switched off: types come out right, values do not matter. Nothing can be changed
//! but the user's pseudo-registers, and those only by whoever asked ([`Evaluated::assigned`]).

mod macros;
mod names;
mod operators;
mod value;

pub use value::{Evaluated, Home, TypedValue};

use super::cursor::Cursor;
use super::{Context, Evaluator, ExprError, MAX_DEPTH, literal, number_of, switch};
use crate::symbols::Kind;
use crate::typed::{self, Type};
use kd_sdk::address::Va;
use operators::{ASSIGNMENTS, OPERATORS};

type Outcome<T> = Result<T, ExprError>;

/// The typed value of `text`, all of it.
pub fn evaluate_typed(text: &str, context: &dyn Context) -> Outcome<Evaluated> {
    match evaluate_inside(text, context, 0)? {
        (value, "") => Ok(value),
        (_, rest) => Err(ExprError::Extra { rest: rest.to_owned() }),
    }
}

/// The longest expression at the start of `text`, commas left to the command, and what follows it.
pub(super) fn evaluate_first<'t>(
    text: &'t str,
    context: &dyn Context,
    depth: usize,
) -> Outcome<(Evaluated, &'t str)> {
    let mut parser = Parser { cursor: Cursor::new(text), context, depth, skipping: 0, assigned: Vec::new() };
    let value = parser.assignment()?;
    let rest = parser.cursor.skip_blanks();
    Ok((Evaluated { value, assigned: parser.assigned }, rest))
}

/// The same with commas as operators.
fn evaluate_inside<'t>(text: &'t str, context: &dyn Context, depth: usize) -> Outcome<(Evaluated, &'t str)> {
    let mut parser = Parser { cursor: Cursor::new(text), context, depth, skipping: 0, assigned: Vec::new() };
    let value = parser.expression()?;
    let rest = parser.cursor.skip_blanks();
    Ok((Evaluated { value, assigned: parser.assigned }, rest))
}

/// An evaluation under way.
struct Parser<'t, 'c> {
    cursor: Cursor<'t>,
    context: &'c dyn Context,
    depth: usize,
    /// Above 0: memory is not read, and nothing is assigned.
    skipping: usize,
    /// Pseudo-registers set so far, the latest last.
    assigned: Vec<(String, u64)>,
}

impl<'t> Parser<'t, '_> {
    /// Everything, commas too.
    fn expression(&mut self) -> Outcome<TypedValue> {
        loop {
            let value = self.assignment()?;
            if !self.cursor.eat(",") {
                return Ok(value);
            }
        }
    }

    /// One argument: no commas.
    fn assignment(&mut self) -> Outcome<TypedValue> {
        let left = self.conditional()?;
        let rest = self.cursor.skip_blanks();
        let Some(operator) = ASSIGNMENTS.iter().find(|operator| rest.starts_with(**operator)) else {
            return Ok(left);
        };
        if *operator == "=" && rest.starts_with("==") {
            return Ok(left);
        }
        self.cursor.advance(operator.len());
        self.deeper(|parser| {
            let right = parser.assignment()?;
            let right = match operator.strip_suffix('=') {
                Some("") | None => right,
                Some(operator) => parser.apply(operator, &left, right)?,
            };
            parser.assign(left, right)
        })
    }

    /// Sets a pseudo-register of the user's.
    fn assign(&mut self, left: TypedValue, right: TypedValue) -> Outcome<TypedValue> {
        let Home::Register { name, .. } = &left.home else {
            return Err(ExprError::Unsupported { what: "memory of a dump cannot be changed".to_owned() });
        };
        if !(name == "$exp" || super::is_user_register(name)) {
            return Err(ExprError::Unsupported { what: format!("@{name} of a dump cannot be changed") });
        }
        let number = self.convert(&right, &left.ty)?.number(self)?;
        if self.skipping == 0 {
            self.assigned.push((name.clone(), number));
        }
        Ok(TypedValue { home: Home::Register { name: name.clone(), value: number }, ty: left.ty })
    }

    fn conditional(&mut self) -> Outcome<TypedValue> {
        let condition = self.binary(0)?;
        if !self.cursor.eat("?") {
            return Ok(condition);
        }
        let chosen = condition.truth(self)?;
        self.deeper(|parser| {
            let yes = parser.skipping_if(!chosen, Parser::expression)?;
            if !parser.cursor.eat(":") {
                return Err(parser.syntax());
            }
            let no = parser.skipping_if(chosen, Parser::conditional)?;
            Ok(if chosen { yes } else { no })
        })
    }

    /// An operand and the operators after it that bind as tight as `level` or tighter.
    fn binary(&mut self, level: u8) -> Outcome<TypedValue> {
        let mut left = self.unary()?;
        while let Some((operator, found)) = self.operator().filter(|(_, found)| *found >= level) {
            self.cursor.advance(operator.len());
            if matches!(operator, "&&" | "||") {
                let truth = left.truth(self)?;
                let decided = truth == (operator == "||");
                let right = self.skipping_if(decided, |parser| parser.binary(found + 1)?.truth(parser))?;
                left = TypedValue::truth_value(if decided { truth } else { right });
                continue;
            }
            let right = self.binary(found + 1)?;
            left = self.apply(operator, &left, right)?;
        }
        Ok(left)
    }

    fn operator(&mut self) -> Option<(&'static str, u8)> {
        let rest = self.cursor.skip_blanks();
        let (operator, level) = OPERATORS.into_iter().find(|(known, _)| rest.starts_with(known))?;
        // `a += b` is no addition.
        let assigns = rest.get(operator.len()..).is_some_and(|rest| rest.starts_with('='));
        (!assigns || level == operators::COMPARE || level == operators::EQUALITY).then_some((operator, level))
    }

    fn deeper<T>(&mut self, body: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExprError::TooDeep);
        }
        let outcome = body(self);
        self.depth -= 1;
        outcome
    }

    /// Runs `body`, with memory off if `skip`.
    fn skipping_if<T>(&mut self, skip: bool, body: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.skipping += usize::from(skip);
        let outcome = body(self);
        self.skipping -= usize::from(skip);
        outcome
    }

    fn syntax(&mut self) -> ExprError {
        match self.cursor.skip_blanks() {
            "" => ExprError::Missing,
            rest => ExprError::Syntax { rest: rest.to_owned() },
        }
    }

    fn unary(&mut self) -> Outcome<TypedValue> {
        self.deeper(Parser::unary_here)
    }

    fn unary_here(&mut self) -> Outcome<TypedValue> {
        let rest = self.cursor.skip_blanks();
        if rest.starts_with("++") || rest.starts_with("--") {
            self.cursor.advance(2);
            let operand = self.unary()?;
            return self.step(operand, rest.starts_with("++"), true);
        }
        let Some(operator) = rest.chars().next().filter(|c| "+-!~*&".contains(*c)) else {
            if rest.starts_with('(')
                && let Some(ty) = self.cast_type()?
            {
                let operand = self.unary()?;
                return self.convert(&operand, &ty);
            }
            let value = self.primary()?;
            return self.postfix(value);
        };
        self.cursor.advance(1);
        let operand = self.unary()?;
        self.prefix(operator, operand)
    }

    /// `(type)` at the cursor; `None`, and nothing read, where the bracket holds something else.
    fn cast_type(&mut self) -> Outcome<Option<Type>> {
        let start = self.cursor;
        self.cursor.eat("(");
        if let Some(ty) = self.type_name()?
            && self.cursor.eat(")")
        {
            return Ok(Some(ty));
        }
        self.cursor = start;
        Ok(None)
    }

    /// `->member`, `.member`, `[index]`, `++`, `--`.
    fn postfix(&mut self, mut value: TypedValue) -> Outcome<TypedValue> {
        loop {
            let rest = self.cursor.skip_blanks();
            if rest.starts_with("->") {
                self.cursor.advance(2);
                value = self.prefix('*', value)?;
                value = self.member(value)?;
            } else if rest.starts_with('.') && !rest.starts_with("..") {
                self.cursor.advance(1);
                value = self.member(value)?;
            } else if rest.starts_with('[') {
                self.cursor.advance(1);
                let index = self.deeper(Parser::expression)?;
                if !self.cursor.eat("]") {
                    return Err(self.syntax());
                }
                let place = self.apply("+", &value, index)?;
                value = self.prefix('*', place)?;
            } else if rest.starts_with("++") || rest.starts_with("--") {
                self.cursor.advance(2);
                value = self.step(value, rest.starts_with("++"), false)?;
            } else if rest.starts_with('(') {
                return Err(ExprError::Unsupported {
                    what: "functions cannot be called: nothing runs in a dump".to_owned(),
                });
            } else {
                return Ok(value);
            }
        }
    }

    /// `++` and `--`.
    fn step(&mut self, operand: TypedValue, up: bool, new: bool) -> Outcome<TypedValue> {
        let one = TypedValue::number_of(&typed::INT, 1);
        let before = TypedValue { ty: operand.ty.clone(), home: Home::Number(operand.number(self)?) };
        let after = self.apply(if up { "+" } else { "-" }, &operand, one)?;
        let after = self.assign(operand, after)?;
        Ok(if new { after } else { before })
    }

    /// The member named at the cursor.
    fn member(&mut self, value: TypedValue) -> Outcome<TypedValue> {
        self.cursor.skip_blanks();
        let name = self.cursor.take_while(|c, _| c.is_alphanumeric() || c == '_' || c == '$');
        if name.is_empty() {
            return Err(self.syntax());
        }
        let (Type::Named(types, id), Home::Memory { va, .. }) = (&value.ty, &value.home) else {
            return Err(ExprError::Conflict { what: format!("{} has no members", value.ty.name()) });
        };
        let Some(field) = types.field(*id, name) else {
            return Err(ExprError::Member { of: value.ty.name(), name: name.to_owned() });
        };
        let bits = (field.kind == Kind::Bits).then_some((field.bit_position, field.bit_length));
        Ok(TypedValue {
            ty: Type::of(types, field.id),
            home: Home::Memory { va: va.add(field.offset), bits },
        })
    }

    fn primary(&mut self) -> Outcome<TypedValue> {
        let rest = self.cursor.skip_blanks();
        match rest.chars().next() {
            None => Err(ExprError::Missing),
            Some('(') => {
                self.cursor.advance(1);
                let value = self.expression()?;
                if self.cursor.eat(")") { Ok(value) } else { Err(self.syntax()) }
            }
            Some('@') => self.at_sign(rest),
            Some('#') => self.macro_call(),
            Some('\'') => {
                self.cursor.advance(1);
                self.character(&typed::CHAR)
            }
            Some('L') if rest.starts_with("L'") => {
                self.cursor.advance(2);
                self.character(&typed::WCHAR)
            }
            Some('"') => {
                Err(ExprError::Unsupported { what: "a string stands nowhere in the target".to_owned() })
            }
            Some(c) if c.is_ascii_digit() => self.constant(),
            Some(_) => self.name(),
        }
    }

    fn character(&mut self, ty: &'static typed::Scalar) -> Outcome<TypedValue> {
        let (text, bytes) = literal::quoted(self.cursor.rest(), '\'', true).ok_or_else(|| self.syntax())?;
        let mut chars = text.chars();
        let (Some(c), None) = (chars.next(), chars.next()) else { return Err(self.syntax()) };
        self.cursor.advance(bytes);
        Ok(TypedValue::number_of(ty, u64::from(u32::from(c))))
    }

    /// `@register`, `@@masm(…)`.
    fn at_sign(&mut self, rest: &'t str) -> Outcome<TypedValue> {
        if let Some((evaluator, bytes)) = switch(rest, Evaluator::Cpp) {
            self.cursor.advance(bytes);
            let Some(inside) = self.cursor.bracketed() else { return Err(self.syntax()) };
            let (value, rest) = match evaluator {
                Evaluator::Masm => {
                    let (value, rest) = number_of(inside, self.context, evaluator, self.depth + 1)?;
                    (TypedValue::number_of(&typed::UINT64, value), rest)
                }
                Evaluator::Cpp => {
                    let (evaluated, rest) = evaluate_first(inside, self.context, self.depth + 1)?;
                    (evaluated.value, rest)
                }
            };
            return if rest.is_empty() { Ok(value) } else { Err(ExprError::Extra { rest: rest.to_owned() }) };
        }
        self.cursor.advance(1);
        let name = self.cursor.take_while(|c, _| c.is_alphanumeric() || "_$.".contains(c));
        // `@$t0.x` is a member of the value, `@.` the instruction pointer.
        let name = match name.split_once('.') {
            Some((before, _)) if !before.is_empty() => {
                self.cursor = Cursor::new(rest);
                self.cursor.advance(1 + before.len());
                before
            }
            Some(_) => "$ip",
            None => name,
        };
        self.register(&name.to_ascii_lowercase())
    }

    fn constant(&mut self) -> Outcome<TypedValue> {
        let start = self.cursor.rest();
        let mut previous = ' ';
        let hex = start.get(..2).is_some_and(|prefix| prefix.eq_ignore_ascii_case("0x"));
        let end = start
            .find(|c: char| {
                let exponent = !hex && matches!(previous, 'e' | 'E') && (c == '+' || c == '-');
                previous = c;
                !(c.is_ascii_alphanumeric() || c == '.' || c == '`' || exponent)
            })
            .unwrap_or(start.len());
        let text = start.get(..end).unwrap_or_default();
        self.cursor.advance(end);
        value::constant(text).unwrap_or_else(|| Err(ExprError::Syntax { rest: start.to_owned() }))
    }

    /// Reads what a value stands for, unless memory is off.
    fn load(&self, va: Va, size: u64) -> Outcome<u64> {
        if self.skipping > 0 {
            return Ok(0);
        }
        let size = u32::try_from(size).ok().filter(|size| (1..=8).contains(size));
        let size = size.ok_or_else(|| ExprError::Conflict { what: "the value is no number".to_owned() })?;
        self.context.read(va, size).map_err(|why| ExprError::Memory { va, why })
    }
}
