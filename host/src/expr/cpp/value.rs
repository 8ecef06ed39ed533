//! Typed values: where they live, what number they are, and the constants of C.

use super::{Outcome, Parser};
use crate::expr::{Context, ExprError};
use crate::symbols::Kind;
use crate::typed::{self, Scalar, Type};
use kd_sdk::address::Va;

/// Where a value lives.
#[derive(Clone, PartialEq, Debug)]
pub enum Home {
    /// Nowhere: the bits of the number itself.
    Number(u64),
    /// In the target's memory; for a bit field, its first bit and how many.
    Memory {
        /// The address.
        va: Va,
        /// Position and length.
        bits: Option<(u32, u32)>,
    },
    /// In a register.
    Register {
        /// Its name, in lower case, without `@`.
        name: String,
        /// What it holds.
        value: u64,
    },
}

/// A value and its type.
#[derive(Clone, PartialEq, Debug)]
pub struct TypedValue {
    /// The type; of a bit field, that of the storage unit.
    pub ty: Type,
    /// Where it lives.
    pub home: Home,
}

/// What came of an expression.
#[derive(Clone, PartialEq, Debug)]
pub struct Evaluated {
    /// The value.
    pub value: TypedValue,
    /// The user's pseudo-registers that the expression sets, in order.
    pub assigned: Vec<(String, u64)>,
}

impl Evaluated {
    /// The value as a 64-bit number: signed ones sign-extended, arrays as their address, fractions cut off.
    pub fn number(&self, context: &dyn Context) -> Outcome<u64> {
        self.value.number_in(context)
    }
}

impl TypedValue {
    /// A number of a built-in type.
    pub(super) fn number_of(ty: &'static Scalar, value: u64) -> TypedValue {
        TypedValue { ty: Type::Scalar(ty), home: Home::Number(value) }
    }

    pub(super) fn truth_value(value: bool) -> TypedValue {
        TypedValue::number_of(&typed::BOOL, u64::from(value))
    }

    /// The bits of the value; of an array, its address.
    pub(super) fn raw(&self, parser: &Parser<'_, '_>) -> Outcome<u64> {
        self.raw_by(&|va, size| parser.load(va, size))
    }

    /// The bits of the value outside of an evaluation.
    pub fn raw_in(&self, context: &dyn Context) -> Outcome<u64> {
        self.raw_by(&|va, size| context.read(va, size as u32).map_err(|why| ExprError::Memory { va, why }))
    }

    fn raw_by(&self, load: &dyn Fn(Va, u64) -> Outcome<u64>) -> Outcome<u64> {
        let conflict = || Err(ExprError::Conflict { what: format!("{} is no number", self.ty.name()) });
        match (&self.home, &self.ty) {
            (Home::Number(value) | Home::Register { value, .. }, _) => Ok(*value),
            (Home::Memory { va, .. }, Type::Array(..)) => Ok(va.0),
            (Home::Memory { va, .. }, Type::Scalar(scalar)) if *scalar == &typed::NO_TYPE => {
                Err(ExprError::NoType { name: va.to_string() })
            }
            (Home::Memory { va, bits }, ty) => {
                let size = ty.size();
                if ty.is_struct() || !(1..=8).contains(&size) {
                    return conflict();
                }
                let value = load(*va, size)?;
                Ok(bits.map_or(value, |(position, length)| typed::bits(value, position, length)))
            }
        }
    }

    /// The value as a 64-bit number, signed ones sign-extended, fractions cut off.
    pub(super) fn number(&self, parser: &Parser<'_, '_>) -> Outcome<u64> {
        Ok(self.widened(self.raw(parser)?))
    }

    fn number_in(&self, context: &dyn Context) -> Outcome<u64> {
        Ok(self.widened(self.raw_in(context)?))
    }

    /// The bits of this type as a 64-bit number.
    fn widened(&self, raw: u64) -> u64 {
        let bit_field = matches!(self.home, Home::Memory { bits: Some(_), .. });
        match self.ty.arithmetic() {
            Some(scalar) if scalar.kind == Kind::Float => float_of(scalar, raw) as i64 as u64,
            Some(scalar) if scalar.is_signed() && !bit_field => typed::signed(raw, scalar.size) as u64,
            _ => raw,
        }
    }

    /// The value as a floating-point number.
    pub(super) fn float(&self, parser: &Parser<'_, '_>) -> Outcome<f64> {
        let raw = self.raw(parser)?;
        Ok(match self.ty.arithmetic() {
            Some(scalar) if scalar.kind == Kind::Float => float_of(scalar, raw),
            Some(scalar) if scalar.is_signed() => self.widened(raw) as i64 as f64,
            _ => raw as f64,
        })
    }

    /// C's truth: not zero.
    pub(super) fn truth(&self, parser: &Parser<'_, '_>) -> Outcome<bool> {
        match self.ty.arithmetic() {
            Some(scalar) if scalar.kind == Kind::Float => Ok(self.float(parser)? != 0.0),
            _ => Ok(self.raw(parser)? != 0),
        }
    }
}

fn float_of(scalar: &Scalar, raw: u64) -> f64 {
    if scalar.size == 4 { f64::from(f32::from_bits(raw as u32)) } else { f64::from_bits(raw) }
}

/// The bits of `value` in a floating-point type.
pub(super) fn float_bits(scalar: &Scalar, value: f64) -> u64 {
    if scalar.size == 4 { u64::from((value as f32).to_bits()) } else { value.to_bits() }
}

/// A constant in C's spelling; `None` if it is none.
pub(super) fn constant(text: &str) -> Option<Outcome<TypedValue>> {
    let lower = text.to_ascii_lowercase();
    let hex = lower.starts_with("0x");
    if !hex && (lower.contains('.') || lower.contains('e')) {
        let (digits, ty) = match lower.strip_suffix('f') {
            Some(digits) => (digits, &typed::FLOAT),
            None => (lower.as_str(), &typed::DOUBLE),
        };
        let value: f64 = digits.strip_suffix('l').unwrap_or(digits).parse().ok()?;
        return Some(Ok(TypedValue::number_of(ty, float_bits(ty, value))));
    }
    let (body, suffix) = SUFFIXES
        .iter()
        .find_map(|(suffix, ty)| Some((lower.strip_suffix(suffix)?, Some(*ty))))
        .unwrap_or((lower.as_str(), None));
    let (digits, radix) = match (body.strip_prefix("0x"), body.strip_prefix("0n"), body.strip_prefix('0')) {
        (Some(digits), ..) => (digits, 16),
        (_, Some(digits), _) => (digits, 10),
        (_, _, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (body, 10),
    };
    let digits: String = digits.chars().filter(|c| *c != '`').collect();
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let Ok(value) = u64::from_str_radix(&digits, radix) else {
        return Some(Err(ExprError::Overflow { at: text.to_owned() }));
    };
    let fits = |ty: &Scalar| {
        let bits = ty.size * 8 - u64::from(ty.is_signed());
        value.checked_shr(bits as u32).unwrap_or(0) == 0
    };
    // Decimal constants without `u` stay signed as long as they can.
    let wider: &[&'static Scalar] = if radix == 10 {
        &[&typed::INT, &typed::INT64, &typed::UINT64]
    } else {
        &[&typed::INT, &typed::UINT, &typed::INT64, &typed::UINT64]
    };
    let ty = match suffix {
        Some(ty) if fits(ty) => ty,
        Some(ty) if !ty.is_signed() => &typed::UINT64,
        _ => wider.iter().copied().find(|ty| fits(ty)).unwrap_or(&typed::UINT64),
    };
    Some(Ok(TypedValue::number_of(ty, value)))
}

/// Suffixes of integer constants, longer ones first.
static SUFFIXES: &[(&str, &Scalar)] = &[
    ("ui64", &typed::UINT64),
    ("i64", &typed::INT64),
    ("ull", &typed::UINT64),
    ("ll", &typed::INT64),
    ("ul", &typed::ULONG),
    ("lu", &typed::ULONG),
    ("u", &typed::UINT),
    ("l", &typed::LONG),
];
