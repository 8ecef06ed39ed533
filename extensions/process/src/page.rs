//! What every command here prints with: the kernel, its clock, the stream, and how values and their absence look.

use kd_sdk::error::{Error, Result};
use kd_sdk::nt::clock::Clock;
use kd_sdk::nt::kernel::Kernel;
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// The page that a command writes.
pub struct Page<'a> {
    /// The kernel.
    pub kernel: Kernel<'a>,
    /// Its clock.
    pub clock: Clock,
    /// The stream.
    pub out: Out<'a>,
}

impl<'a> Page<'a> {
    /// A page of the session's target.
    pub fn new(session: &'a Session<'a>) -> Page<'a> {
        let kernel = Kernel::new(session);
        let clock = Clock::read(&kernel);
        Page { kernel, clock, out: session.out() }
    }

    /// The session.
    pub fn session(&self) -> &'a Session<'a> {
        self.kernel.session()
    }

    /// An address as these commands print it: all digits, no accent.
    pub fn ptr(&self, va: Va) -> String {
        if self.kernel.pointer_size() == 4 {
            format!("{:08x}", va.0 as u32)
        } else {
            format!("{:016x}", va.0)
        }
    }

    /// An address under `key` that leads to a command.
    pub fn link(&self, key: &str, va: Va, command: &str) {
        self.out.data(key, Value::Hex(va.0));
        let text = self.ptr(va);
        if va.is_null() {
            self.out.text(&text);
        } else {
            self.out.link(&text, &command.replace("{}", &text));
        }
    }

    /// An address that leads to a command, or why there is none.
    pub fn link_or(&self, key: &str, va: &Result<Va>, command: &str) {
        match va {
            Ok(va) => self.link(key, *va, command),
            Err(error) => self.absent(key, error),
        }
    }

    /// A number under `key`, or why there is none.
    pub fn hex(&self, key: &str, value: &Result<u64>, show: impl Fn(u64) -> String) {
        match value {
            Ok(value) => self.out.field(key, Value::Hex(*value), &show(*value)),
            Err(error) => self.absent(key, error),
        }
    }

    /// A count under `key`, or why there is none.
    pub fn count(&self, key: &str, value: &Result<u64>, show: impl Fn(u64) -> String) {
        match value {
            Ok(value) => self.out.field(key, Value::UInt(*value), &show(*value)),
            Err(error) => self.absent(key, error),
        }
    }

    /// A text under `key`, or why there is none.
    pub fn name(&self, key: &str, value: &Result<String>) {
        match value {
            Ok(text) => self.out.styled_field(key, Value::Text(text), Style::Symbol, text),
            Err(error) => self.absent(key, error),
        }
    }

    /// Null under `key`, and the reason for people.
    pub fn absent(&self, key: &str, error: &Error) {
        self.out.styled_field(key, Value::Null, Style::Dim, &why(error));
    }

    /// Ends a walk: what was refused is told, an interrupt goes on.
    pub fn refuse(&self, error: Error, what: &str) -> Result<()> {
        match error {
            Error::Interrupted => Err(error),
            other => {
                self.out.warning(&format!("{what}: {other}"));
                Ok(())
            }
        }
    }

    /// A number in an argument; addresses of 32-bit targets lose their sign.
    pub fn number(&self, text: &str) -> Result<u64> {
        self.session().evaluate(text)
    }

    /// The FLAGS argument, or what stands for it.
    pub fn flags(&self, text: Option<&str>, default: u64) -> Result<u64> {
        text.map_or(Ok(default), |text| self.number(text))
    }

    /// A symbol for code, `nt!KiIdleLoop+0x10`.
    pub fn symbol(&self, va: Va) -> Option<String> {
        self.session().symbols().name(va)
    }
}

/// The reason of an absence in angle brackets.
pub fn why(error: &Error) -> String {
    match error {
        Error::Unreadable { why, .. } => format!("<{why}>"),
        Error::NoSymbols(_) => "<not in these symbols>".to_owned(),
        other => format!("<{other}>"),
    }
}

/// True for an argument that stands for the current one.
pub fn is_current(word: Option<&str>) -> bool {
    word.is_none_or(|word| word == "-1")
}

/// True if a name matches a pattern with `*` and `?`, whatever the case.
pub fn matches(pattern: &str, name: &str) -> bool {
    let lower = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    let (pattern, name) = (lower(pattern), lower(name));
    // Greedy, with one place to come back to: the last star.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == name.get(n) => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((after, at)) => {
                    (p, n) = (after, at + 1);
                    star = Some((after, at + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_none_or(|rest| rest.iter().all(|c| *c == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_patterns() {
        assert!(
            matches("svchost.exe", "SvcHost.exe") && matches("app*.exe", "app0001.exe") && matches("*", "")
        );
        assert!(matches("a?c*e", "abcdcde") && !matches("a?c", "ac") && !matches("abc", "abcd"));
    }
}
