//! The debugger's name patterns: `*` any text, `?` one character, `[a-z]` one of a set, `#` any number of the
//! character before, `+` one or more of it, `\` takes the next as it is. Case does not matter.

/// True if `text` holds a pattern character.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '#', '+'])
}

/// True if all of `name` matches `pattern`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let tokens = parse(pattern);
    let name: Vec<char> = name.chars().map(fold).collect();
    // Positions in the pattern that are alive after each character: linear in time, whatever the pattern.
    let mut alive = vec![false; tokens.len() + 1];
    if let Some(first) = alive.first_mut() {
        *first = true;
    }
    close(&tokens, &mut alive);
    for &c in &name {
        let mut next = vec![false; tokens.len() + 1];
        for (index, token) in tokens.iter().enumerate() {
            if !alive.get(index).copied().unwrap_or(false) || !token.set.holds(c) {
                continue;
            }
            if token.repeats {
                set(&mut next, index);
            }
            set(&mut next, index + 1);
        }
        close(&tokens, &mut next);
        alive = next;
    }
    alive.last().copied().unwrap_or(false)
}

fn set(flags: &mut [bool], index: usize) {
    if let Some(flag) = flags.get_mut(index) {
        *flag = true;
    }
}

/// Steps over tokens that may match nothing.
fn close(tokens: &[Token], alive: &mut [bool]) {
    for (index, token) in tokens.iter().enumerate() {
        if token.optional && alive.get(index).copied().unwrap_or(false) {
            set(alive, index + 1);
        }
    }
}

struct Token {
    set: Set,
    repeats: bool,
    optional: bool,
}

enum Set {
    Any,
    One(char),
    Of(Vec<(char, char)>),
}

impl Set {
    fn holds(&self, c: char) -> bool {
        match self {
            Set::Any => true,
            Set::One(one) => *one == c,
            Set::Of(ranges) => ranges.iter().any(|&(low, high)| low <= c && c <= high),
        }
    }
}

fn fold(c: char) -> char {
    c.to_ascii_lowercase()
}

fn parse(pattern: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = pattern.chars().map(fold).peekable();
    while let Some(c) = rest.next() {
        let set = match c {
            '*' => {
                tokens.push(Token { set: Set::Any, repeats: true, optional: true });
                continue;
            }
            '#' | '+' if !tokens.is_empty() => {
                if let Some(last) = tokens.last_mut() {
                    last.repeats = true;
                    last.optional = c == '#';
                }
                continue;
            }
            '?' => Set::Any,
            '[' => {
                let mut ranges = Vec::new();
                while let Some(low) = rest.next().filter(|&c| c != ']') {
                    if rest.peek() == Some(&'-') {
                        rest.next();
                        let high = rest.next().filter(|&c| c != ']').unwrap_or(low);
                        ranges.push((low, high));
                    } else {
                        ranges.push((low, low));
                    }
                }
                Set::Of(ranges)
            }
            '\\' => Set::One(rest.next().unwrap_or('\\')),
            c => Set::One(c),
        };
        tokens.push(Token { set, repeats: false, optional: false });
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name) in [
            ("nt", "NT"),
            ("kdext*", "kdext_analyze"),
            ("*", ""),
            ("a?c", "abc"),
            ("[a-c]x", "bX"),
            ("ab#c", "ac"),
            ("ab#c", "abbbc"),
            ("ab+c", "abc"),
            ("a\\*", "a*"),
            ("*sys*drv*", "mysysxdrv"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("nt", "ntfs"), ("a?c", "ac"), ("ab+c", "ac"), ("[a-c]x", "dx"), ("", "a")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_linear_time() {
        let pattern = "*a".repeat(200);
        assert!(!matches(&pattern, &"a".repeat(199)));
        assert!(matches(&pattern, &"a".repeat(2000)));
    }
}
