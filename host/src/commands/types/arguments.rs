//! The arguments of `dt`: letters in any order and company, a type, then fields and an address in any order.

use kd_sdk::error::{Error, Result};

/// How a field is named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Naming {
    /// Not told: a field, or an address.
    Free,
    /// After `-n`: the whole name.
    Whole,
    /// After `-y`: the start of a name.
    Start,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments<'a> {
    /// `-r[N]`: levels of structures and pointers that are opened.
    pub levels: u32,
    /// `-b`: every structure inside is opened, no pointer is.
    pub blocks: bool,
    /// `-v`.
    pub verbose: bool,
    /// `-a[N]`: array elements on lines of their own, at most so many.
    pub elements: Option<u64>,
    /// `-c`: on one line.
    pub compact: bool,
    /// `-i`: no indentation.
    pub flat: bool,
    /// `-o`: no offsets.
    pub no_offsets: bool,
    /// `-p`: the address is physical.
    pub physical: bool,
    /// `-t`: types, no symbols.
    pub types_only: bool,
    /// `-d`: every type that a pattern matches is shown, not only named.
    pub each: bool,
    /// `-e`: the name is a pattern even without a wildcard.
    pub enumerate: bool,
    /// `-s SIZE`: types of this many bytes.
    pub size: Option<&'a str>,
    /// `-l FIELD`: walk the list that this field links.
    pub link: Option<&'a str>,
    /// `-h`, `-?`.
    pub help: bool,
    /// The type.
    pub name: &'a str,
    /// Fields and the address.
    pub rest: Vec<(Naming, &'a str)>,
}

/// Levels without a number after `-r`.
const ALL_LEVELS: u32 = 9;

impl<'a> Arguments<'a> {
    /// Reads the text after `dt`.
    pub fn parse(text: &'a str) -> Result<Arguments<'a>> {
        let mut found = Arguments::default();
        let mut naming = Naming::Free;
        let mut wanted: Option<char> = None;
        let mut free: Vec<(Naming, &str)> = Vec::new();
        for word in words(text) {
            if let Some(letter) = wanted.take() {
                if letter == 's' {
                    found.size = Some(word);
                } else {
                    found.link = Some(word);
                }
                continue;
            }
            match word
                .strip_prefix(['-', '/'])
                .filter(|rest| rest.starts_with(|c: char| c.is_alphabetic() || c == '?'))
            {
                Some(letters) => found.letters(letters, &mut naming, &mut wanted)?,
                None => free.push((std::mem::replace(&mut naming, Naming::Free), word)),
            }
        }
        if let Some(letter) = wanted {
            return Err(Error::Usage(format!("dt -{letter}: what follows it is missing")));
        }
        // An address may stand before the type.
        let is_address = |(naming, word): &(Naming, &str)| {
            *naming == Naming::Free && word.starts_with(|c: char| c == '@' || c == '(' || c.is_ascii_digit())
        };
        let at = usize::from(free.len() > 1 && free.first().is_some_and(is_address));
        if at < free.len() {
            found.name = free.remove(at).1;
        }
        found.rest = free;
        Ok(found)
    }

    fn letters(&mut self, letters: &'a str, naming: &mut Naming, wanted: &mut Option<char>) -> Result<()> {
        let mut rest = letters;
        while let Some(letter) = rest.chars().next() {
            rest = rest.get(letter.len_utf8()..).unwrap_or_default();
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            match letter {
                'r' => {
                    self.levels = rest.get(..digits).and_then(|n| n.parse().ok()).unwrap_or(ALL_LEVELS);
                    rest = rest.get(digits..).unwrap_or_default();
                }
                'a' => {
                    let count = rest.get(..digits).and_then(|n| n.parse().ok());
                    self.elements = Some(count.unwrap_or(u64::MAX));
                    rest = rest.get(digits..).unwrap_or_default();
                }
                'b' => self.blocks = true,
                'c' => self.compact = true,
                'd' => self.each = true,
                'e' => self.enumerate = true,
                'i' => self.flat = true,
                'o' => self.no_offsets = true,
                'p' => self.physical = true,
                't' => self.types_only = true,
                'v' => self.verbose = true,
                'n' => *naming = Naming::Whole,
                'y' => *naming = Naming::Start,
                'h' | '?' => self.help = true,
                's' | 'l' => *wanted = Some(letter),
                other => {
                    return Err(Error::Usage(format!(
                        "dt has no option '{other}' (in -{letters}); see .help dt"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// The words of a text, at blanks and commas outside of brackets; an operator joins what stands around it.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut depth) = (None, 0u32);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let blank = depth == 0 && (c.is_whitespace() || c == ',');
        match (blank, start) {
            (true, Some(from)) if !joins(text, from, at) => {
                words.extend(text.get(from..at).map(str::trim));
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    words.extend(start.and_then(|from| text.get(from..)).map(str::trim));
    words.retain(|word| !word.is_empty());
    words
}

/// True where the blank at `at` stands beside an operator: `@rsp + 8`. A minus is an option's where no blank follows.
fn joins(text: &str, from: usize, at: usize) -> bool {
    let before = text.get(from..at).unwrap_or_default().trim_end();
    let after = text.get(at..).unwrap_or_default().trim_start();
    let operator = |c: char| matches!(c, '+' | '*' | '/');
    before.len() > 1 && before.ends_with(['+', '/'])
        || (after.starts_with(operator) && !before.is_empty())
        || after.starts_with("- ")
        || before.ends_with(" -")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_names_and_addresses() {
        let all = Arguments::parse("nt!_EPROCESS -l ActiveProcessLinks.Flink -yoi Uni @$proc").unwrap();
        assert_eq!((all.name, all.link), ("nt!_EPROCESS", Some("ActiveProcessLinks.Flink")));
        assert!(all.no_offsets && all.flat);
        assert_eq!(all.rest, [(Naming::Start, "Uni"), (Naming::Free, "@$proc")]);
        let all = Arguments::parse("-r2 -a5b nt!_X poi(@rsp + 8) A.B[2]").unwrap();
        assert_eq!((all.levels, all.elements, all.blocks), (2, Some(5), true));
        assert_eq!(all.rest, [(Naming::Free, "poi(@rsp + 8)"), (Naming::Free, "A.B[2]")]);
        let all = Arguments::parse("_X @rsp + 8 Name").unwrap();
        assert_eq!(all.rest, [(Naming::Free, "@rsp + 8"), (Naming::Free, "Name")]);
        let all = Arguments::parse("@$proc nt!_EPROCESS Name").unwrap();
        assert_eq!((all.name, all.rest.len()), ("nt!_EPROCESS", 2));
        assert_eq!(Arguments::parse("nt!_X -s 20").unwrap().size, Some("20"));
        assert!(Arguments::parse("nt!_X -l").is_err() && Arguments::parse("-q nt!_X").is_err());
    }
}
