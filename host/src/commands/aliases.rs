//! `as`, `aS`, `ad`, `al`: names for texts, and how they are put in place of themselves.
//!
//! Replacement is textual and comes before anything is parsed: first the fixed names `$u0` to `$u9` wherever they
//! stand, then user names between blanks, semicolons and quotes, and `${name}` anywhere. A line that begins with one
//! of these commands is left as it is. What was put in is not looked at again.

use super::{Builtin, Call, Needs};
use crate::session::Session;
use crate::typed::{self, TextStyle};
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Value};
use std::collections::BTreeMap;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &["as", "aS"],
        usage: "[/e | /x | /f | /c | /ma | /mu | /msa | /msu] NAME TEXT",
        summary: "Give a text a name",
        help: "as takes the rest of the line, aS ends at a semicolon or takes a text in quotes. With an option the text\n\
               is the value of an environment variable (/e), of an expression (/x), of a file (/f), what commands show\n\
               (/c), or a text of the target: ASCII or Unicode (/ma, /mu), counted (/msa, /msu).\n\
               ${NAME} is replaced wherever it stands, NAME between blanks. r $.u0 = TEXT sets the fixed alias $u0.",
        needs: Needs::Nothing,
        run: set,
    },
    Builtin {
        names: &["ad"],
        usage: "[/q] NAME | *",
        summary: "Forget a name, or every name",
        help: "",
        needs: Needs::Nothing,
        run: delete,
    },
    Builtin {
        names: &["al"],
        usage: "",
        summary: "List the names that as and aS gave",
        help: "",
        needs: Needs::Nothing,
        run: list,
    },
];

/// Bytes of a line after replacement.
const LONGEST: usize = 1 << 20;

/// Names for texts.
#[derive(Clone, Default, Debug)]
pub struct Aliases {
    fixed: [Option<String>; 10],
    user: BTreeMap<String, String>,
}

impl Aliases {
    /// Sets a user's name, or takes it away; what it was.
    pub fn set(&mut self, name: &str, text: Option<String>) -> Option<String> {
        match text {
            Some(text) => self.user.insert(name.to_owned(), text),
            None => self.user.remove(name),
        }
    }

    /// Sets `$u0` to `$u9`; false for any other number.
    pub fn set_fixed(&mut self, number: usize, text: &str) -> bool {
        self.fixed.get_mut(number).map(|place| *place = Some(text.to_owned())).is_some()
    }

    /// The line with every name replaced.
    pub fn expand(&self, line: &str) -> String {
        let head = line.trim_start();
        let word = head.split(char::is_whitespace).next().unwrap_or_default();
        let untouched = matches!(word, "as" | "aS" | "ad" | "al");
        if untouched
            || (self.user.is_empty() && self.fixed.iter().all(Option::is_none) && !line.contains("${/"))
        {
            return line.to_owned();
        }
        let mut text = line.to_owned();
        for (number, value) in self.fixed.iter().enumerate() {
            let name = format!("$u{number}");
            if let Some(value) = value.as_ref().filter(|_| text.contains(&name)) {
                let grown = text.matches(&name).count().saturating_mul(value.len());
                if grown.saturating_add(text.len()) <= LONGEST {
                    text = text.replace(&name, value);
                }
            }
        }
        self.replace(&text)
    }

    fn replace(&self, line: &str) -> String {
        let parts = |c: char| c.is_whitespace() || c == ';' || c == '"';
        let mut text = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            if text.len() > LONGEST {
                text.push_str(rest);
                break;
            }
            if let Some(after) = rest.strip_prefix("${")
                && let Some((inside, after)) = after.split_once('}')
            {
                text.push_str(&self.interpreted(inside));
                rest = after;
                continue;
            }
            if parts(first) {
                text.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
                continue;
            }
            let end = rest.find(parts).unwrap_or(rest.len());
            let end = rest.find("${").map_or(end, |at| end.min(at)).max(first.len_utf8());
            let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            let alone = text.chars().next_back().is_none_or(parts) && !after.starts_with("${");
            match self.user.get(word).filter(|_| alone) {
                Some(value) => text.push_str(value),
                None => text.push_str(word),
            }
            rest = after;
        }
        text
    }

    /// What `${inside}` becomes.
    fn interpreted(&self, inside: &str) -> String {
        let as_written = || format!("${{{inside}}}");
        let known = |name: &str| self.user.get(name.trim());
        let Some((option, name)) = inside.strip_prefix('/').and_then(|rest| rest.split_once(':')) else {
            return known(inside).cloned().unwrap_or_else(as_written);
        };
        match option {
            "d" => u8::from(known(name).is_some()).to_string(),
            "f" => known(name).cloned().unwrap_or_default(),
            "n" if known(name).is_some() => name.trim().to_owned(),
            _ => as_written(),
        }
    }
}

fn set(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let usage = || Error::Usage(format!("{} needs a name and a text", call.name));
    let mut rest = call.args;
    let mut option = "";
    if let Some(after) = rest.strip_prefix('/') {
        let (word, after) = after.split_once(char::is_whitespace).ok_or_else(usage)?;
        (option, rest) = (word, after.trim_start());
    }
    let (name, text) = rest.split_once(char::is_whitespace).ok_or_else(usage)?;
    let mut text = text.trim();
    if let Some(inside) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        text = inside;
    }
    let scope = session.scope(None)?;
    let target_text = |unit: u64, counted: bool| -> Result<String> {
        let mut at = Va(scope.evaluate(text)?);
        let mut limit = 0x8000;
        let unreadable = |why| Error::Usage(format!("memory access error at {at}: {why}"));
        if counted {
            let pointer = u64::from(scope.pointer_size());
            let length = typed::number_at(at, 2, &scope).map_err(unreadable)?;
            limit = usize::try_from(length / unit).unwrap_or(0);
            at = Va(typed::number_at(at.add(pointer), pointer, &scope).map_err(unreadable)?);
        }
        if limit == 0 {
            return Ok(String::new());
        }
        typed::text_at(at, unit, limit, TextStyle::Whole, &scope)
            .ok_or_else(|| Error::Usage(format!("memory access error at {at}: nothing can be read there")))
    };
    let value = match option {
        "" => text.to_owned(),
        "e" => std::env::var(text)
            .map_err(|error| Error::NotFound(format!("environment variable {text}: {error}")))?,
        "x" => format!("{:#x}", scope.evaluate_wide(text)?),
        "f" => super::program::read_script(text)?,
        "c" => session.run_captured(text)?,
        "ma" => target_text(1, false)?,
        "mu" => target_text(2, false)?,
        "msa" => target_text(1, true)?,
        "msu" => target_text(2, true)?,
        other => return Err(Error::Usage(format!("{} has no option /{other}", call.name))),
    };
    if value.len() > LONGEST {
        return Err(Error::Usage(format!("the text has {} bytes, more than {LONGEST}", value.len())));
    }
    out.data("name", Value::Text(name));
    session.aliases.set(name, Some(value));
    Ok(())
}

fn delete(session: &mut Session, _: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (quiet, name) = match call.args.strip_prefix("/q") {
        Some(rest) => (true, rest.trim()),
        None => (false, call.args),
    };
    if name == "*" {
        session.aliases.user.clear();
        return Ok(());
    }
    match session.aliases.set(name, None) {
        None if !quiet => Err(Error::NotFound(format!("there is no alias '{name}'"))),
        _ => Ok(()),
    }
}

fn list(session: &mut Session, out: &Out<'_>, _: &Call<'_>) -> Result<()> {
    if session.aliases.user.is_empty() {
        out.line("No aliases");
        return Ok(());
    }
    out.line("  Alias            Value  ");
    out.line(" -------          ------- ");
    out.list("aliases", |out| {
        for (name, value) in &session.aliases.user {
            out.record("", |out| {
                out.text(" ");
                out.field("name", Value::Text(name), &format!("{name:<16}"));
                out.text(" ");
                out.field("value", Value::Text(value), value);
                out.end_line();
            });
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_where_they_stand_alone() {
        let mut aliases = Aliases::default();
        aliases.set("x", Some("dd rsp".to_owned()));
        aliases.set("name", Some("nt".to_owned()));
        aliases.set_fixed(3, "L4");
        for (line, expected) in [
            ("x", "dd rsp"),
            ("x $u3", "dd rsp L4"),
            ("x$u3", "xL4"),
            ("xx;x ;\"x\"", "xx;dd rsp ;\"dd rsp\""),
            ("? ${name}!Foo", "? nt!Foo"),
            ("? (name)", "? (name)"),
            ("${/d:x} ${/d:y}", "1 0"),
            ("a${/f:y}b", "ab"),
            ("${/n:x} ${/v:x} ${y}", "x ${/v:x} ${y}"),
            ("as x y", "as x y"),
            ("ad x", "ad x"),
            ("${", "${"),
            ("é x", "é dd rsp"),
        ] {
            assert_eq!(aliases.expand(line), expected, "{line}");
        }
    }
}
