//! Words, numbers and operators of the MASM-style syntax.
//!
//! Source of the rules: the documented number and symbol syntax of KD (radix prefixes `0x 0n 0t 0y`, suffix `h`,
//! grave accents inside 64-bit numbers, `@` before registers, `$` before pseudo-registers, `module!name`).

/// One piece of an expression and where it starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// Byte offset in the text.
    pub at: usize,
    /// What it is.
    pub kind: TokenKind,
}

/// What a token is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenKind {
    /// Letters, digits and whatever may stand in a name: a number, a register, a symbol or a word operator.
    Word(String),
    /// `@name`: a register for sure.
    Register(String),
    /// An operator or a parenthesis.
    Operator(&'static str),
}

/// Longer operators first.
const OPERATORS: [&str; 22] = [
    ">>>", "<<", ">>", "==", "!=", "<=", ">=", "&&", "||", "+", "-", "*", "/", "%", "&", "|", "^", "<", ">",
    "=", "(", ")",
];

/// Splits `text`. A character that fits nothing ends the list; the second value is its offset.
pub fn tokens(text: &str) -> (Vec<Token>, Option<usize>) {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = text.get(at..).unwrap_or_default();
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        if c == '@' {
            let name = word(rest.get(1..).unwrap_or_default());
            if name.is_empty() {
                return (tokens, Some(at));
            }
            tokens.push(Token { at, kind: TokenKind::Register(name.to_owned()) });
            at += 1 + name.len();
            continue;
        }
        let name = word(rest);
        if !name.is_empty() {
            tokens.push(Token { at, kind: TokenKind::Word(name.to_owned()) });
            at += name.len();
            continue;
        }
        if c == '[' || c == ']' {
            tokens.push(Token { at, kind: TokenKind::Operator(if c == '[' { "[" } else { "]" }) });
            at += 1;
            continue;
        }
        let Some(operator) = OPERATORS.iter().find(|operator| rest.starts_with(**operator)) else {
            return (tokens, Some(at));
        };
        tokens.push(Token { at, kind: TokenKind::Operator(operator) });
        at += operator.len();
    }
    (tokens, None)
}

/// The longest name at the start of `text`. `!` joins a module and a symbol; `::` and `` ` `` belong to names too.
fn word(text: &str) -> &str {
    let mut end = 0;
    let bytes = text.as_bytes();
    while let Some(&byte) = bytes.get(end) {
        let next = bytes.get(end + 1).copied().unwrap_or(0);
        let joins = match byte {
            b'_' | b'$' | b'?' | b'.' | b'`' | b'~' => true,
            b'!' => next != b'=' && end > 0,
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

/// A number in the debugger's spelling, with the default radix for plain digits. `None` if it is not one.
pub fn number(word: &str, radix: u32) -> Option<u64> {
    let lower = word.to_ascii_lowercase();
    let (digits, radix) = match lower.get(..2) {
        Some("0x") => (lower.get(2..)?, 16),
        Some("0n") => (lower.get(2..)?, 10),
        Some("0t") => (lower.get(2..)?, 8),
        Some("0y") => (lower.get(2..)?, 2),
        _ => match lower.strip_suffix('h') {
            Some(digits) if !digits.is_empty() => (digits, 16),
            _ => (lower.as_str(), radix),
        },
    };
    if digits.is_empty() {
        // KD takes a lone prefix as zero.
        return (lower.len() == 2).then_some(0);
    }
    let digits: String = digits.chars().filter(|&c| c != '`').collect();
    u64::from_str_radix(&digits, radix).ok().filter(|_| !digits.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number("7e", 16), Some(0x7e));
        assert_eq!(number("0n10", 16), Some(10));
        assert_eq!(number("0t17", 16), Some(15));
        assert_eq!(number("0y101", 16), Some(5));
        assert_eq!(number("fffff804`7ba00000", 16), Some(0xfffff804_7ba00000));
        assert_eq!(number("10h", 10), Some(16));
        assert_eq!(number("10", 10), Some(10));
        assert_eq!(number("0x", 16), Some(0));
        assert_eq!(number("xyz", 16), None);
        assert_eq!(number("+1", 16), None);
    }

    #[test]
    fn names_stay_whole() {
        let kinds =
            |text: &str| -> Vec<TokenKind> { tokens(text).0.into_iter().map(|token| token.kind).collect() };
        assert_eq!(
            kinds("nt!Ps_x+@rip"),
            [TokenKind::Word("nt!Ps_x".into()), TokenKind::Operator("+"), TokenKind::Register("rip".into())]
        );
        assert_eq!(kinds("a!=b")[1], TokenKind::Operator("!="));
        assert_eq!(tokens("1 # 2").1, Some(2));
    }
}
