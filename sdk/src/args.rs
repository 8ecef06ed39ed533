//! The arguments of a `!` command, in the debugger's grammar: options begin with `-` or `/`, words are parted by
//! blanks, texts may stand in double quotes, and an expression may stand in parentheses to hold blanks.

use crate::error::{Error, Result};

/// A cursor over a command's arguments.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    rest: &'a str,
}

impl<'a> Args<'a> {
    /// A cursor at the start of `text`.
    pub fn new(text: &'a str) -> Args<'a> {
        Args { rest: text.trim() }
    }

    /// True when nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    /// The next word, without taking it.
    pub fn peek(&self) -> Option<&'a str> {
        Args { rest: self.rest }.word()
    }

    /// The next option without its `-` or `/`, if the next word is one.
    pub fn option(&mut self) -> Option<&'a str> {
        let name = self.peek()?.strip_prefix(['-', '/'])?;
        // A negative number or a lone dash is an argument.
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.word();
        Some(name)
    }

    /// The next word; quotes are taken off.
    pub fn word(&mut self) -> Option<&'a str> {
        let text = self.rest;
        if text.is_empty() {
            return None;
        }
        let (word, end) = if let Some(quoted) = text.strip_prefix('"') {
            match quoted.find('"') {
                Some(close) => (quoted.get(..close)?, close + 2),
                None => (quoted, text.len()),
            }
        } else {
            let end = word_end(text);
            (text.get(..end)?, end)
        };
        self.rest = text.get(end..).unwrap_or("").trim_start();
        Some(word)
    }

    /// `Err` if anything is left: for commands that take no more.
    pub fn finish(&self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Error::Usage(format!("unexpected argument '{}'", self.rest)))
        }
    }
}

/// Bytes up to the first blank outside parentheses and brackets.
fn word_end(text: &str) -> usize {
    let mut depth = 0usize;
    for (index, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            c if c.is_whitespace() && depth == 0 => return index,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_words_and_quotes() {
        let mut args = Args::new(" -v /p (rsp + 8) \"a b\" -1 tail ");
        assert_eq!(args.option(), Some("v"));
        assert_eq!(args.option(), Some("p"));
        assert_eq!(args.option(), None);
        assert_eq!(args.word(), Some("(rsp + 8)"));
        assert_eq!(args.word(), Some("a b"));
        assert_eq!(args.option(), None);
        assert_eq!(args.word(), Some("-1"));
        assert_eq!(args.rest(), "tail");
        assert!(args.finish().is_err());
    }

    #[test]
    fn an_open_quote_ends_with_the_line() {
        let mut args = Args::new("\"abc");
        assert_eq!(args.word(), Some("abc"));
        assert_eq!(args.word(), None);
        assert!(args.finish().is_ok());
    }
}
