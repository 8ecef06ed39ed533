//! Strings and characters with C's escapes.

/// The text up to `end`, which is read too, and the bytes read. `None` without `end`.
pub(crate) fn quoted(text: &str, end: char, escapes: bool) -> Option<(String, usize)> {
    let mut found = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == end {
            return Some((found, at + c.len_utf8()));
        }
        if c != '\\' || !escapes {
            found.push(c);
            continue;
        }
        let (_, escape) = chars.next()?;
        found.push(match escape {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            'x' => {
                let mut code = 0u32;
                for _ in 0..4 {
                    let Some(digit) = chars.peek().and_then(|(_, c)| c.to_digit(16)) else { break };
                    code = code << 4 | digit;
                    chars.next();
                }
                char::from_u32(code).unwrap_or('\u{fffd}')
            }
            '0'..='7' => {
                let mut code = escape.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = chars.peek().and_then(|(_, c)| c.to_digit(8)) else { break };
                    code = code << 3 | digit;
                    chars.next();
                }
                char::from_u32(code).unwrap_or('\u{fffd}')
            }
            other => other,
        });
    }
    None
}
