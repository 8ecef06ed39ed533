//! Floating-point numbers as Microsoft's C library of old writes them: three digits of exponent, `-1.#IND`.

use super::bytes::{u16_at, u64_at};

/// A number like `%.{precision}g`: shortest of fixed and scientific, no trailing zeros.
pub fn general(value: f64, precision: usize) -> String {
    if let Some(text) = not_a_number(value) {
        return text.to_owned();
    }
    let precision = precision.max(1);
    let scientific = format!("{:.*e}", precision - 1, value);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= precision as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:03}", trimmed(mantissa), exponent.unsigned_abs());
    }
    let decimals = usize::try_from(precision as i32 - 1 - exponent).unwrap_or(0);
    trimmed(&format!("{value:.decimals$}")).to_owned()
}

fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

fn not_a_number(value: f64) -> Option<&'static str> {
    let quiet = value.to_bits() >> 51 & 1 == 1;
    match (value.is_nan(), value.is_infinite(), value.is_sign_negative()) {
        (true, _, true) => Some("-1.#IND"),
        (true, _, false) if quiet => Some("1.#QNAN"),
        (true, _, false) => Some("1.#SNAN"),
        (_, true, true) => Some("-1.#INF"),
        (_, true, false) => Some("1.#INF"),
        _ => None,
    }
}

/// Digits after the point of an 80-bit number.
const DECIMALS: usize = 21;

/// An 80-bit number (ten bytes) as `r` shows `st0`: a blank or a minus, one digit, 21 decimals, four digits of
/// exponent: ` 0.000000000000000000000e+0000`.
pub fn extended(bytes: &[u8]) -> String {
    let (Some(mantissa), Some(top)) = (u64_at(bytes, 0), u16_at(bytes, 8)) else { return "?".to_owned() };
    let sign = if top & 0x8000 == 0 { ' ' } else { '-' };
    let exponent = i32::from(top & 0x7fff);
    if exponent == 0x7fff {
        let kind = match mantissa << 1 {
            0 => "1.#INF",
            fraction if fraction >> 63 == 0 => "1.#SNAN",
            0x8000_0000_0000_0000 if sign == '-' => "1.#IND",
            _ => "1.#QNAN",
        };
        return format!("{sign}{kind}");
    }
    if mantissa == 0 {
        return format!("{sign}0.{:0<DECIMALS$}e+0000", "");
    }
    // value = mantissa * 2^binary, exactly, as a decimal of up to 5000 digits.
    let binary = exponent.max(1) - 0x3fff - 63;
    let (digits, tens) = decimal(mantissa, binary);
    let (head, power) = rounded(&digits, DECIMALS + 1);
    let exponent = tens + digits.len() as i32 - 1 + power;
    let (first, rest) = head.split_at_checked(1).unwrap_or(("0", ""));
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{first}.{rest:0<DECIMALS$}e{exponent_sign}{:04}", exponent.unsigned_abs())
}

/// `mantissa * 2^binary` as (decimal digits, power of ten).
fn decimal(mantissa: u64, binary: i32) -> (String, i32) {
    const BASE: u64 = 1_000_000_000;
    // Limbs in base 10^9, lowest first.
    let mut limbs = vec![mantissa % BASE, mantissa / BASE % BASE, mantissa / BASE / BASE];
    // 2^-n is 5^n / 10^n, so only multiplications are needed. Many at once: 5^13 and 2^30 keep a product of a limb
    // inside 64 bits.
    let (factor, at_once) = if binary < 0 { (5u64, 13) } else { (2, 30) };
    let mut left = binary.unsigned_abs();
    while left > 0 {
        let power = left.min(at_once);
        let multiplier = factor.pow(power);
        left -= power;
        let mut carry = 0;
        for limb in &mut limbs {
            let product = *limb * multiplier + carry;
            *limb = product % BASE;
            carry = product / BASE;
        }
        while carry > 0 {
            limbs.push(carry % BASE);
            carry /= BASE;
        }
    }
    let text: String = limbs.iter().rev().map(|limb| format!("{limb:09}")).collect();
    (text.trim_start_matches('0').to_owned(), binary.min(0))
}

/// The first `count` digits, rounded half up; the second value is 1 when rounding made a digit more.
fn rounded(digits: &str, count: usize) -> (String, i32) {
    let mut head: Vec<u8> = digits.bytes().take(count).collect();
    if digits.as_bytes().get(count).is_some_and(|&digit| digit >= b'5') {
        for digit in head.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return (String::from_utf8(head).unwrap_or_default(), 0);
            }
            *digit = b'0';
        }
        head.insert(0, b'1');
        head.truncate(count);
        return (String::from_utf8(head).unwrap_or_default(), 1);
    }
    (String::from_utf8(head).unwrap_or_default(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn general_numbers() {
        let cases = [
            (0.0, 6, "0"),
            (1.0, 6, "1"),
            (100000.0, 6, "100000"),
            (1e6, 6, "1e+006"),
            (0.0001, 6, "0.0001"),
            (0.00001234, 6, "1.234e-005"),
            (123.456789, 6, "123.457"),
            (-2.5, 6, "-2.5"),
            (999999.9, 6, "1e+006"),
            (f64::from(f32::from_bits(0x7bdf_5a80)), 6, "2.31944e+036"),
            (f64::from_bits(0x0000_0000_1c40_7e62), 6, "2.34182e-315"),
            (f64::from_bits(0x0000_0001_0000_0000), 12, "2.12199579097e-314"),
            (f64::from_bits(0xfff8_0000_0000_0000), 6, "-1.#IND"),
            (f64::INFINITY, 6, "1.#INF"),
            (f64::from_bits(0x7ff8_0000_0000_0000), 6, "1.#QNAN"),
        ];
        for (value, precision, text) in cases {
            assert_eq!(general(value, precision), text);
        }
    }

    #[test]
    fn extended_numbers() {
        let number = |top: u16, mantissa: u64| {
            let mut bytes = mantissa.to_le_bytes().to_vec();
            bytes.extend(top.to_le_bytes());
            extended(&bytes)
        };
        assert_eq!(number(0, 0), " 0.000000000000000000000e+0000");
        assert_eq!(number(0x3fff, 1 << 63), " 1.000000000000000000000e+0000");
        assert_eq!(number(0xc000, 0xc90f_daa2_2168_c235), "-3.141592653589793238513e+0000");
        assert_eq!(number(0x3ffb, 0xcccc_cccc_cccc_cccd), " 1.000000000000000000014e-0001");
        assert_eq!(number(0x7ffe, u64::MAX), " 1.189731495357231765021e+4932");
        assert_eq!(number(0, 1), " 3.645199531882474602528e-4951");
        assert_eq!(number(0x7fff, 1 << 63), " 1.#INF");
        assert_eq!(number(0xffff, 3 << 62), "-1.#IND");
        assert_eq!(extended(&[]), "?");
    }
}
