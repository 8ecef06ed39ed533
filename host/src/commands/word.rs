//! Takes a line apart into commands, and a command into its word and its arguments. KD's grammar, not a shell's: the
//! blank after a command is often optional (`lmvmnt`, `r@rip`), a number before a letter names a processor (`3r`).

use super::rows;

/// The parts of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// A comment or nothing.
    Nothing,
    /// `!word arguments`.
    Extension {
        /// The word without `!`.
        word: &'a str,
        /// The rest, trimmed.
        args: &'a str,
    },
    /// A built-in.
    Builtin {
        /// The name as in the table.
        name: &'static str,
        /// The rest, trimmed.
        args: &'a str,
        /// The processor prefix.
        processor: Option<u32>,
    },
    /// No command of ours.
    Unknown {
        /// The word.
        word: &'a str,
    },
}

/// Splits a line at its semicolons, which do not count inside quotes and braces. `*` at the start of a command makes
/// the rest of the line a comment.
pub fn split_commands(line: &str) -> Vec<&str> {
    let mut commands = Vec::new();
    let (mut start, mut quoted, mut depth, mut parens) = (0, false, 0usize, 0usize);
    for (at, c) in line.char_indices() {
        match c {
            '*' if line.get(start..at).is_some_and(|before| before.trim().is_empty()) && !quoted => {
                start = line.len();
                break;
            }
            '(' if !quoted && depth == 0 && is_counted_loop(line.get(start..at).unwrap_or_default()) => {
                parens += 1;
            }
            ')' if !quoted && depth == 0 => parens = parens.saturating_sub(1),
            '"' => quoted = !quoted,
            '{' if !quoted => depth += 1,
            '}' if !quoted => depth = depth.saturating_sub(1),
            ';' if takes_line(line.get(start..at).unwrap_or_default()) => break,
            ';' if !quoted && depth == 0 && parens == 0 => {
                commands.push(line.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    commands.push(line.get(start..).unwrap_or_default());
    commands.retain(|command| !command.trim().is_empty());
    commands.iter().map(|command| command.trim()).collect()
}

/// `$$ text`, but not `$$<file`, `$$><file`, `$$>a<file`.
fn is_comment(command: &str) -> bool {
    command
        .strip_prefix("$$")
        .is_some_and(|rest| !["<", "><", ">a<"].iter().any(|head| rest.starts_with(head)))
}

/// Commands to which the rest of the line belongs, semicolons too.
fn takes_line(command: &str) -> bool {
    let command = command.trim_start();
    ["as ", "as\t", "j ", "j(", "$<", "$><", ".shell ", ".shell\t"]
        .iter()
        .any(|head| command.starts_with(head))
}

/// `.for` has semicolons between its brackets.
fn is_counted_loop(command: &str) -> bool {
    command.trim_start().strip_prefix(".for").is_some_and(|rest| !rest.starts_with(char::is_alphabetic))
}

impl<'a> Word<'a> {
    /// Takes one command apart.
    pub fn parse(command: &'a str) -> Word<'a> {
        let command = command.trim();
        if command.is_empty() || command.starts_with('*') || is_comment(command) {
            return Word::Nothing;
        }
        if let Some(rest) = command.strip_prefix('!') {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (word, args) = rest.split_at_checked(end).unwrap_or((rest, ""));
            let args = args.trim();
            // Commands of KD's extensions that are the session's own matter.
            let own =
                |name: &&str| name.strip_prefix('!').is_some_and(|name| name.eq_ignore_ascii_case(word));
            return match rows().flat_map(|row| row.names.iter().copied()).find(own) {
                Some(name) => Word::Builtin { name, args, processor: None },
                None => Word::Extension { word, args },
            };
        }
        let digits = command.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        let (prefix, rest) = command.split_at_checked(digits).unwrap_or(("", command));
        if let (Ok(processor), true) = (prefix.parse(), rest.starts_with(|c: char| c.is_ascii_alphabetic())) {
            return builtin(rest, Some(processor));
        }
        builtin(command, None)
    }
}

/// The longest name of the table that the command begins with. After a name that ends in a letter something else
/// than a letter must follow, unless the family takes its arguments glued.
fn builtin(command: &str, processor: Option<u32>) -> Word<'_> {
    let best = rows()
        .flat_map(|row| row.names.iter().copied())
        .filter(|name| !name.starts_with('!') && begins_with(command, name))
        .max_by_key(|name| name.len());
    match best {
        Some(name) => {
            let args = command.get(name.len()..).unwrap_or_default();
            // The letters after k are options only without a blank: in `k b` the b is a number.
            let args = if name == "k" { args.trim_end() } else { args.trim() };
            Word::Builtin { name, args, processor }
        }
        None => {
            let end = command
                .find(|c: char| !(c.is_ascii_alphanumeric() || "._?|~#".contains(c)))
                .unwrap_or(command.len());
            let word = command.get(..end).filter(|word| !word.is_empty()).unwrap_or(command);
            Word::Unknown { word }
        }
    }
}

/// Names whose options or operands may follow without a blank: `lmvmnt`, `rrax`, `||1s`, `~3s`.
const GLUED: [&str; 3] = ["lm", "r", "rM"];

fn begins_with(command: &str, name: &str) -> bool {
    // `a*`, `d*`, `k*` and `r*` have forms that differ only in case; everything else does not care.
    let exact = name.starts_with(['a', 'd', 'k', 'r']);
    let Some(head) = command.get(..name.len()) else { return false };
    if !(head == name || (!exact && head.eq_ignore_ascii_case(name))) {
        return false;
    }
    let next = command.get(name.len()..).and_then(|rest| rest.chars().next());
    match next {
        Some(c) if name.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_') => match name {
            "r" => !c.is_ascii_alphanumeric() || glued_register(command),
            "k" => {
                let end = command.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(command.len());
                command.get(1..end).is_some_and(|letters| letters.chars().all(|c| "bcdfLMnpPv".contains(c)))
            }
            _ if GLUED.contains(&name) => true,
            // `.echo` must not swallow `.echotimestamps`; `dd/c`, `db@rip`, `.time;` are fine.
            _ => !(c.is_ascii_alphanumeric() || c == '_'),
        },
        _ => true,
    }
}

/// `rrax`, `recx`: a register right after the `r`.
fn glued_register(command: &str) -> bool {
    let name: String = command.chars().skip(1).take_while(char::is_ascii_alphanumeric).collect();
    super::registers::is_register_name(&name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(command: &str, name: &str, args: &str) {
        match Word::parse(command) {
            Word::Builtin { name: found, args: rest, .. } => {
                assert_eq!((found, rest), (name, args), "{command}")
            }
            other => panic!("{command}: {other:?}"),
        }
    }

    #[test]
    fn words_and_arguments() {
        is("lmvmnt", "lm", "vmnt");
        is("lm t n", "lm", "t n");
        is("r @rip", "r", "@rip");
        is("rrip", "r", "rip");
        is("recx", "r", "ecx");
        is("rM 0xff", "rM", "0xff");
        is("rF", "rF", "");
        is("dps rsp L4", "dps", "rsp L4");
        is("||1s", "||", "1s");
        is("~3s", "~", "3s");
        is("? 1+1", "?", "1+1");
        is(".ECHO a", ".echo", "a");
        is(".time", ".time", "");
        is("dd", "dd", "");
        is("3r rip", "r", "rip");
        assert_eq!(Word::parse("version"), Word::Builtin { name: "version", args: "", processor: None });
        assert!(matches!(Word::parse("versions"), Word::Unknown { word: "versions" }));
        is(".echotimestamps", ".echotimestamps", "");
        is(".asm-no_code_bytes", ".asm-", "no_code_bytes");
        is(".outmask- 8", ".outmask-", "8");
        assert!(matches!(Word::parse(".echoes"), Word::Unknown { .. }));
        assert!(matches!(Word::parse("rdmsr 10"), Word::Unknown { word: "rdmsr" }));
        assert!(matches!(Word::parse("3r"), Word::Builtin { processor: Some(3), .. }));
        assert_eq!(Word::parse("* x"), Word::Nothing);
        is("!LIST -t a", "!list", "-t a");
        assert!(matches!(Word::parse("!lists"), Word::Extension { word: "lists", .. }));
        assert_eq!(Word::parse("!a.b  c"), Word::Extension { word: "a.b", args: "c" });
    }

    #[test]
    fn lines() {
        assert_eq!(split_commands("a; b ;; c"), ["a", "b", "c"]);
        assert_eq!(split_commands(".echo \"x;y\"; q"), [".echo \"x;y\"", "q"]);
        assert_eq!(split_commands("r; * a; b"), ["r"]);
        assert_eq!(split_commands(".if (1) { a; b }; c"), [".if (1) { a; b }", "c"]);
        assert_eq!(split_commands(".for (a; b; c) { d; e }; f"), [".for (a; b; c) { d; e }", "f"]);
        assert_eq!(split_commands("as x a; b"), ["as x a; b"]);
        assert_eq!(split_commands("aS x a; b"), ["aS x a", "b"]);
        assert_eq!(split_commands("r; .shell a; b"), ["r", ".shell a; b"]);
        assert_eq!(split_commands("j 1 'a;b' ; 'c'"), ["j 1 'a;b' ; 'c'"]);
    }
}
