//! Numbers as the MASM evaluator reads them.

use super::ExprError;

/// A number, and whether it was written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Number {
    /// Its value as written.
    pub value: u64,
    /// True for the constants that kernel debuggers sign-extend: hexadecimal, without a grave accent.
    pub extends: bool,
}

impl Number {
    /// The value a kernel debugger uses: 80000000 to ffffffff in hexadecimal, without a grave accent, are
    /// sign-extended.
    pub fn extended(self) -> u64 {
        if self.extends && (0x8000_0000..=0xffff_ffff).contains(&self.value) {
            self.value | 0xffff_ffff_0000_0000
        } else {
            self.value
        }
    }
}

/// A number in the debugger's spelling: `0x 0n 0t 0y` before it, `h` after it, else the default radix; a lone prefix
/// is zero. `None` if it is not a number; an error if it has more than 64 bits.
pub fn number(word: &str, default_radix: u32) -> Option<Result<Number, ExprError>> {
    let lower = word.to_ascii_lowercase();
    let prefix = [("0x", 16), ("0n", 10), ("0t", 8), ("0y", 2)]
        .into_iter()
        .find_map(|(prefix, radix)| Some((lower.strip_prefix(prefix)?, radix)));
    let (digits, radix) = match prefix {
        Some(("", radix)) => return Some(Ok(Number { value: 0, extends: radix == 16 })),
        Some(found) => found,
        None => match lower.strip_suffix('h') {
            Some(digits) if !digits.is_empty() => (digits, 16),
            _ => (lower.as_str(), default_radix),
        },
    };
    let bare: String = digits.chars().filter(|&c| c != '`').collect();
    if bare.is_empty() || !bare.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let extends = radix == 16 && bare.len() == digits.len();
    let value = u64::from_str_radix(&bare, radix);
    Some(
        value.map(|value| Number { value, extends }).map_err(|_| ExprError::Overflow { at: word.to_owned() }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(word: &str, radix: u32) -> Option<u64> {
        number(word, radix).map(|number| number.unwrap().value)
    }

    #[test]
    fn spellings() {
        assert_eq!(value("7e", 16), Some(0x7e));
        assert_eq!(value("0n10", 16), Some(10));
        assert_eq!(value("0t17", 16), Some(15));
        assert_eq!(value("0y101", 16), Some(5));
        assert_eq!(value("fffff804`7ba00000", 16), Some(0xfffff804_7ba00000));
        assert_eq!(value("10h", 10), Some(16));
        assert_eq!(value("10", 10), Some(10));
        assert_eq!(value("0x", 16), Some(0));
        assert_eq!(value("0n", 16), Some(0));
        assert_eq!(value("xyz", 16), None);
        assert_eq!(value("+1", 16), None);
        assert_eq!(value("`", 16), None);
        assert!(number("10000000000000000", 16).unwrap().is_err());
    }
}
