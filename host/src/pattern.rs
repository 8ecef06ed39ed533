//! KD's wildcards: `*` any text, `?` one character, `[a-z]` one of a list, `#` none or more of the character
//! before it, `+` one or more of it, `\` takes the next character as it stands. Letters match without case,
//! and an underscore that opens a pattern stands for any number of them.
//!
//! A match is linear in text times pattern: a set of positions is carried along the text, nothing is retried.

/// A pattern that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A `[` without `]`.
    #[error("the list that opens at character {at} of the pattern is not closed")]
    OpenList {
        /// Zero-based character.
        at: usize,
    },
    /// `#` or `+` with nothing before it.
    #[error("{what} at the start of the pattern has nothing to repeat")]
    NothingToRepeat {
        /// The character.
        what: char,
    },
    /// Longer than any name.
    #[error("the pattern is {length} bytes long, more than {limit}")]
    TooLong {
        /// Bytes.
        length: usize,
        /// Bytes.
        limit: usize,
    },
}

const LIMIT: usize = 1024;

/// True if `text` holds a wildcard.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '#', '+'])
}

/// True if all of `name` matches. What cannot be read as a pattern matches itself alone.
pub fn matches(pattern: &str, name: &str) -> bool {
    match Pattern::parse(pattern) {
        Ok(pattern) => pattern.matches(name),
        Err(_) => pattern.eq_ignore_ascii_case(name),
    }
}

/// A parsed pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    items: Vec<Item>,
    /// The pattern as plain text, where it has no wildcard.
    literal: Option<String>,
}

#[derive(Clone, Debug)]
struct Item {
    what: What,
    /// None or more.
    repeats: bool,
}

#[derive(Clone, Debug)]
enum What {
    Any,
    Char(char),
    List(Vec<(char, char)>),
}

impl What {
    fn accepts(&self, c: char) -> bool {
        match self {
            What::Any => true,
            What::Char(wanted) => *wanted == c,
            What::List(ranges) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)),
        }
    }
}

fn fold(c: char) -> char {
    c.to_ascii_lowercase()
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        if text.len() > LIMIT {
            return Err(PatternError::TooLong { length: text.len(), limit: LIMIT });
        }
        let mut items: Vec<Item> = Vec::new();
        let mut literal = Some(String::new());
        let mut chars = text.chars().enumerate().peekable();
        while let Some((at, c)) = chars.next() {
            let what = match c {
                '*' => {
                    literal = None;
                    items.push(Item { what: What::Any, repeats: true });
                    continue;
                }
                '#' | '+' => {
                    literal = None;
                    let Some(last) = items.last_mut() else {
                        return Err(PatternError::NothingToRepeat { what: c });
                    };
                    if c == '#' {
                        last.repeats = true;
                    } else if !last.repeats {
                        let again = Item { what: last.what.clone(), repeats: true };
                        items.push(again);
                    }
                    continue;
                }
                '?' => {
                    literal = None;
                    What::Any
                }
                '[' => {
                    literal = None;
                    let mut ranges = Vec::new();
                    loop {
                        match chars.next() {
                            None => return Err(PatternError::OpenList { at }),
                            Some((_, ']')) => break,
                            Some((_, '-')) => {
                                let last: Option<&mut (char, char)> = ranges.last_mut();
                                if let (Some(range), Some((_, end))) =
                                    (last, chars.next_if(|(_, c)| *c != ']'))
                                {
                                    range.1 = fold(end);
                                }
                            }
                            Some((_, c)) => ranges.push((fold(c), fold(c))),
                        }
                    }
                    What::List(ranges)
                }
                '\\' => What::Char(fold(chars.next().map_or('\\', |(_, c)| c))),
                c => What::Char(fold(c)),
            };
            if let (Some(text), What::Char(c)) = (&mut literal, &what) {
                text.push(*c);
            }
            items.push(Item { what, repeats: false });
        }
        if literal.is_none()
            && let Some(first) = items.first_mut()
            && matches!(first.what, What::Char('_'))
        {
            first.repeats = true;
        }
        Ok(Pattern { items, literal })
    }

    /// The text (lower case) that alone matches, where the pattern has no wildcard.
    pub fn literal(&self) -> Option<&str> {
        self.literal.as_deref()
    }

    /// True where the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        // `live[i]`: the items before `i` have eaten the text so far.
        let mut live = vec![false; self.items.len() + 1];
        if let Some(first) = live.first_mut() {
            *first = true;
        }
        self.skip_optional(&mut live);
        let mut next = vec![false; live.len()];
        for c in text.chars().map(fold) {
            next.fill(false);
            let mut any = false;
            for (i, item) in self.items.iter().enumerate() {
                if live.get(i).copied().unwrap_or(false) && item.what.accepts(c) {
                    let to = if item.repeats { i } else { i + 1 };
                    if let Some(place) = next.get_mut(to) {
                        *place = true;
                        any = true;
                    }
                }
            }
            if !any {
                return false;
            }
            self.skip_optional(&mut next);
            std::mem::swap(&mut live, &mut next);
        }
        live.last().copied().unwrap_or(false)
    }

    fn skip_optional(&self, live: &mut [bool]) {
        for (i, item) in self.items.iter().enumerate() {
            if item.repeats
                && live.get(i).copied().unwrap_or(false)
                && let Some(place) = live.get_mut(i + 1)
            {
                *place = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(text)
    }

    #[test]
    fn wildcards_mean_what_they_mean_in_kd() {
        assert!(hit("Ps*", "PsActiveProcessHead") && hit("ps*HEAD", "PsActiveProcessHead"));
        assert!(!hit("Ps*x", "PsActiveProcessHead"));
        assert!(hit("?t?", "nts") && !hit("?t?", "nt"));
        assert!(
            hit("K[ei]Bug*", "KeBugCheck") && hit("K[a-f]Bug*", "KeBugCheck") && !hit("K[f-z]B*", "KeBug")
        );
        assert!(hit("ab#c", "ac") && hit("ab#c", "abbbc") && hit("ab+c", "abbc") && !hit("ab+c", "ac"));
        assert!(hit("a\\*", "a*") && !hit("a\\*", "ab"));
        assert!(hit("_EPRO*", "EPROCESS") && hit("_EPRO*", "__EPROCESS"));
        assert!(hit("", "") && !hit("", "a") && hit("*", ""));
    }

    #[test]
    fn plain_names_are_known_as_such() {
        assert_eq!(Pattern::parse("PsGet").unwrap().literal(), Some("psget"));
        assert_eq!(Pattern::parse("Ps*").unwrap().literal(), None);
    }

    #[test]
    fn bad_patterns_say_why() {
        assert_eq!(Pattern::parse("a[b").unwrap_err(), PatternError::OpenList { at: 1 });
        assert_eq!(Pattern::parse("+a").unwrap_err(), PatternError::NothingToRepeat { what: '+' });
    }

    #[test]
    fn hostile_patterns_take_linear_time() {
        let pattern = Pattern::parse(&"*a".repeat(500)).unwrap();
        assert!(!pattern.matches(&"a".repeat(400)));
    }
}
