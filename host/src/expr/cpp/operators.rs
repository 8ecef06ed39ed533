//! C's operators and conversions.

use super::value::float_bits;
use super::{Home, Outcome, Parser, TypedValue};
use crate::expr::ExprError;
use crate::symbols::Kind;
use crate::typed::{self, Scalar, Type};
use kd_sdk::address::Va;
use std::cmp::Ordering;

pub(super) const COMPARE: u8 = 6;
pub(super) const EQUALITY: u8 = 5;

/// Binary operators and their level; the higher binds the tighter. Longer spellings first.
pub(super) const OPERATORS: [(&str, u8); 18] = [
    ("||", 0),
    ("&&", 1),
    ("==", EQUALITY),
    ("!=", EQUALITY),
    ("<<", 7),
    (">>", 7),
    ("<=", COMPARE),
    (">=", COMPARE),
    ("<", COMPARE),
    (">", COMPARE),
    ("|", 2),
    ("^", 3),
    ("&", 4),
    ("+", 8),
    ("-", 8),
    ("*", 9),
    ("/", 9),
    ("%", 9),
];

/// Assignments, longer spellings first.
pub(super) const ASSIGNMENTS: [&str; 11] =
    ["<<=", ">>=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "="];

impl Parser<'_, '_> {
    /// A prefix operator other than casts, `++` and `--`.
    pub(super) fn prefix(&mut self, operator: char, operand: TypedValue) -> Outcome<TypedValue> {
        let conflict = || ExprError::Conflict { what: format!("{operator} on {}", operand.ty.name()) };
        match operator {
            '*' => match operand.ty.element() {
                Some(of) => Ok(TypedValue {
                    ty: of.clone(),
                    home: Home::Memory { va: Va(operand.raw(self)?), bits: None },
                }),
                None => Err(conflict()),
            },
            '&' => match operand.home {
                Home::Memory { va, bits: None } => Ok(TypedValue {
                    ty: operand.ty.pointer(self.context.pointer_size().into()),
                    home: Home::Number(va.0),
                }),
                _ => Err(ExprError::Conflict { what: format!("{} has no address", operand.ty.name()) }),
            },
            '!' => Ok(TypedValue::truth_value(!operand.truth(self)?)),
            _ => {
                let ty = promoted(operand.ty.arithmetic().ok_or_else(conflict)?);
                if ty.kind == Kind::Float {
                    let value = operand.float(self)?;
                    let value = if operator == '-' { -value } else { value };
                    return match operator {
                        '~' => Err(conflict()),
                        _ => Ok(TypedValue::number_of(ty, float_bits(ty, value))),
                    };
                }
                let value = operand.number(self)?;
                Ok(cut(
                    ty,
                    match operator {
                        '-' => value.wrapping_neg(),
                        '~' => !value,
                        _ => value,
                    },
                ))
            }
        }
    }

    /// A binary operator.
    pub(super) fn apply(
        &mut self,
        operator: &str,
        left: &TypedValue,
        right: TypedValue,
    ) -> Outcome<TypedValue> {
        if left.ty.element().is_some() || right.ty.element().is_some() {
            return self.apply_to_pointers(operator, left, right);
        }
        let conflict =
            || ExprError::Conflict { what: format!("{} {operator} {}", left.ty.name(), right.ty.name()) };
        for side in [left, &right] {
            if matches!(side.ty, Type::Scalar(scalar) if scalar == &typed::NO_TYPE) {
                side.raw(self)?;
            }
        }
        let a = left.ty.arithmetic().ok_or_else(conflict)?;
        let b = right.ty.arithmetic().ok_or_else(conflict)?;
        let compare = compares(operator);
        if a.kind == Kind::Float || b.kind == Kind::Float {
            let ty = if a.size == 4 && b.size == 4 && a.kind == b.kind { a } else { &typed::DOUBLE };
            let (x, y) = (left.float(self)?, right.float(self)?);
            if compare {
                return Ok(TypedValue::truth_value(
                    x.partial_cmp(&y).map_or(operator == "!=", |order| holds(operator, order)),
                ));
            }
            let value = match operator {
                "+" => x + y,
                "-" => x - y,
                "*" => x * y,
                "/" => x / y,
                _ => return Err(conflict()),
            };
            return Ok(TypedValue::number_of(ty, float_bits(ty, value)));
        }
        if matches!(operator, "<<" | ">>") {
            let ty = promoted(a);
            let shift = u32::try_from(right.number(self)?).unwrap_or(u32::MAX);
            let value = left.number(self)?;
            let shifted = match operator {
                "<<" => value.checked_shl(shift).unwrap_or(0),
                _ if ty.is_signed() => (value as i64 >> shift.min(63)) as u64,
                _ => value.checked_shr(shift).unwrap_or(0),
            };
            return Ok(cut(ty, shifted));
        }
        let ty = common(promoted(a), promoted(b));
        let (x, y) = (as_type(ty, left.number(self)?), as_type(ty, right.number(self)?));
        if compare {
            let order = if ty.is_signed() { (x as i64).cmp(&(y as i64)) } else { x.cmp(&y) };
            return Ok(TypedValue::truth_value(holds(operator, order)));
        }
        let zero = y == 0 && matches!(operator, "/" | "%");
        if zero && self.skipping == 0 {
            return Err(ExprError::DivideByZero);
        }
        let value = match operator {
            "+" => x.wrapping_add(y),
            "-" => x.wrapping_sub(y),
            "*" => x.wrapping_mul(y),
            "/" | "%" if zero => 0,
            "/" if ty.is_signed() => (x as i64).wrapping_div(y as i64) as u64,
            "%" if ty.is_signed() => (x as i64).wrapping_rem(y as i64) as u64,
            "/" => x / y,
            "%" => x % y,
            "&" => x & y,
            "|" => x | y,
            "^" => x ^ y,
            _ => return Err(conflict()),
        };
        Ok(cut(ty, value))
    }

    /// Operators with a pointer or an array on one side.
    fn apply_to_pointers(
        &mut self,
        operator: &str,
        left: &TypedValue,
        right: TypedValue,
    ) -> Outcome<TypedValue> {
        let conflict =
            || ExprError::Conflict { what: format!("{} {operator} {}", left.ty.name(), right.ty.name()) };
        let bytes = u64::from(self.context.pointer_size());
        let mask = if bytes == 4 { u64::from(u32::MAX) } else { u64::MAX };
        let (a, b) = (left.number(self)?, right.number(self)?);
        if compares(operator) {
            return Ok(TypedValue::truth_value(holds(operator, (a & mask).cmp(&(b & mask)))));
        }
        // Elements without a size (void) count as bytes.
        let step = |of: &Type| of.size().max(1);
        let place = |of: &Type, value: u64| TypedValue {
            ty: of.clone().pointer(bytes),
            home: Home::Number(value & mask),
        };
        match (operator, left.ty.element(), right.ty.element()) {
            ("+", Some(of), None) => Ok(place(of, a.wrapping_add(b.wrapping_mul(step(of))))),
            ("+", None, Some(of)) => Ok(place(of, b.wrapping_add(a.wrapping_mul(step(of))))),
            ("-", Some(of), None) => Ok(place(of, a.wrapping_sub(b.wrapping_mul(step(of))))),
            ("-", Some(of), Some(_)) => {
                let bytes_apart = typed::signed(a.wrapping_sub(b), bytes);
                let count = bytes_apart.wrapping_div(i64::try_from(step(of)).unwrap_or(i64::MAX));
                let ty = if bytes == 8 { &typed::INT64 } else { &typed::INT };
                Ok(cut(ty, count as u64))
            }
            _ => Err(conflict()),
        }
    }

    /// A cast.
    pub(super) fn convert(&mut self, value: &TypedValue, to: &Type) -> Outcome<TypedValue> {
        let number = |home| Ok(TypedValue { ty: to.clone(), home: Home::Number(home) });
        match to {
            Type::Scalar(scalar) if scalar.kind == Kind::Float => {
                number(float_bits(scalar, value.float(self)?))
            }
            Type::Scalar(scalar) if *scalar == &typed::BOOL => number(u64::from(value.truth(self)?)),
            Type::Scalar(scalar) if scalar.size > 0 => Ok(cut(scalar, value.number(self)?)),
            Type::Pointer(_, size) => {
                let mask = if *size == 4 { u64::from(u32::MAX) } else { u64::MAX };
                number(value.number(self)? & mask)
            }
            Type::Named(..) if to.is_enum() => {
                let scalar = to.arithmetic().unwrap_or(&typed::INT);
                number(low_bytes(value.number(self)?, scalar.size))
            }
            Type::Named(..) if *to == value.ty => Ok(value.clone()),
            _ => Err(ExprError::Conflict {
                what: format!("{} cannot be cast to {}", value.ty.name(), to.name()),
            }),
        }
    }
}

fn compares(operator: &str) -> bool {
    matches!(operator, "==" | "!=" | "<" | ">" | "<=" | ">=")
}

fn holds(operator: &str, order: Ordering) -> bool {
    match operator {
        "==" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        ">" => order.is_gt(),
        "<=" => order.is_le(),
        _ => order.is_ge(),
    }
}

/// Integers narrower than int become int.
fn promoted(ty: &'static Scalar) -> &'static Scalar {
    if ty.kind != Kind::Float && ty.size < 4 { &typed::INT } else { ty }
}

/// The type of a calculation with two integers: the wider one; of two as wide, the unsigned one, and `long` before
/// `int`.
fn common(a: &'static Scalar, b: &'static Scalar) -> &'static Scalar {
    if a.size != b.size {
        return if a.size > b.size { a } else { b };
    }
    let long = |ty: &Scalar| ty.name.ends_with("long");
    match (a.is_signed() && b.is_signed(), long(a) || long(b), a.size) {
        (_, _, 8) => {
            if a.is_signed() {
                b
            } else {
                a
            }
        }
        (true, true, _) => &typed::LONG,
        (true, false, _) => &typed::INT,
        (false, true, _) => &typed::ULONG,
        (false, false, _) => &typed::UINT,
    }
}

/// A 64-bit number taken for one of `ty`, widened again.
fn as_type(ty: &Scalar, value: u64) -> u64 {
    if ty.is_signed() { typed::signed(value, ty.size) as u64 } else { low_bytes(value, ty.size) }
}

fn low_bytes(value: u64, size: u64) -> u64 {
    match size {
        0..8 => value & ((1 << (size * 8)) - 1),
        _ => value,
    }
}

/// A number cut down to its type.
fn cut(ty: &'static Scalar, value: u64) -> TypedValue {
    TypedValue::number_of(ty, low_bytes(value, ty.size))
}
