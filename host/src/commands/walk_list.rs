//! `!list`: commands for each element of a linked list.
//!
//! A command of KD's ext.dll that runs commands, and so one of the session's own here. `$extret` is the element.

use super::{Builtin, Call, Needs};
use crate::scope::Scope;
use crate::session::Session;
use crate::symbols::Kind;
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};
use std::collections::HashSet;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[Builtin {
    names: &["!list"],
    usage: "-t [MODULE!]TYPE.LINK [-x \"COMMANDS\"] [-a \"ARGUMENTS\"] [-m MAX] [-e] START",
    summary: "Run commands for each element of a linked list",
    help: "LINK is the field that leads to the next element: -t nt!_LIST_ENTRY.Flink, or through a list entry inside a\n\
           structure, -t nt!_EPROCESS.ActiveProcessLinks.Flink, where START is a structure. @$extret in COMMANDS is the\n\
           element; where it is not named, the element and ARGUMENTS are put behind them. Without -x: dp. -e shows every\n\
           command before it runs, -m ends after so many. The list ends at a null link or where it comes back to itself.",
    needs: Needs::Target,
    run: list,
}];

/// Elements of a list.
const ELEMENTS: u64 = 1 << 20;

/// What was asked for.
struct Options {
    link: String,
    commands: String,
    arguments: String,
    most: u64,
    echo: bool,
    start: String,
}

impl Options {
    fn parse(text: &str) -> Result<Options> {
        let mut options = Options {
            link: String::new(),
            commands: "dp".to_owned(),
            arguments: String::new(),
            most: ELEMENTS,
            echo: false,
            start: String::new(),
        };
        // All may stand in quotes, with escaped ones inside.
        let text = text.trim();
        let whole = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let unescaped = whole.map(|inside| inside.replace("\\\"", "\""));
        let mut rest = unescaped.as_deref().unwrap_or(text).trim();
        let missing = |letter| Error::Usage(format!("!list: -{letter} takes a value; see .help !list"));
        while let Some(after) = rest.strip_prefix('-') {
            let letter = after.chars().next().unwrap_or(' ');
            rest = after.get(letter.len_utf8()..).unwrap_or_default().trim_start();
            if letter == 'e' {
                options.echo = true;
                continue;
            }
            let (value, behind) = operand(rest).ok_or_else(|| missing(letter))?;
            rest = behind;
            match letter {
                't' => options.link = value.to_owned(),
                'x' => options.commands = value.to_owned(),
                'a' => options.arguments = value.to_owned(),
                'm' => {
                    options.most = value.parse().map_err(|_| missing(letter))?;
                }
                other => return Err(Error::Usage(format!("!list has no option -{other}; see .help !list"))),
            }
        }
        options.start = rest.to_owned();
        if options.link.is_empty() || options.start.is_empty() {
            return Err(Error::Usage("!list -t [MODULE!]TYPE.LINK [-x \"COMMANDS\"] START".to_owned()));
        }
        Ok(options)
    }

    /// What is run for an element.
    fn line(&self, element: Va, pointer: u32) -> String {
        let commands = self.commands.trim();
        let mut line = commands.to_owned();
        if !commands.to_ascii_lowercase().contains("$extret") {
            line = format!("{commands} {}", element.show(pointer).to_string().replace('`', ""));
        }
        if !self.arguments.is_empty() {
            line = format!("{line} {}", self.arguments);
        }
        line
    }
}

/// A word, or what stands in quotes; and what follows.
fn operand(text: &str) -> Option<(&str, &str)> {
    let (value, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => text.split_once(char::is_whitespace).unwrap_or((text, "")),
    };
    (!value.is_empty()).then(|| (value, rest.trim_start()))
}

/// Where the link of an element is, and what is taken from it to arrive at the next element.
struct Link {
    offset: u64,
    inside: u64,
}

fn find_link(scope: &Scope, link: &str) -> Result<Link> {
    let open = scope.open()?;
    let wrong = || Error::Usage(format!("!list: '{link}' is not TYPE.LINK"));
    let (name, path) = link.split_once('.').ok_or_else(wrong)?;
    let (types, id) = open.symbols.find_type(&open.target, name).map_err(super::symbols::error_of)?;
    let field =
        types.field(id, path).ok_or_else(|| Error::NotFound(format!("{name} has no field {path}")))?;
    if field.size != types.pointer_size() {
        return Err(Error::Usage(format!("!list: {path} of {name} is no pointer")));
    }
    // A pointer to the structure itself leads to its start; one to a list entry inside leads there.
    let to_itself = types.kind(field.id) == Kind::Pointer && types.name(field.element) == types.name(id);
    let entry = path.rsplit_once('.').and_then(|(entry, _)| types.field(id, entry));
    let inside = entry.filter(|_| !to_itself).map_or(0, |entry| entry.offset);
    Ok(Link { offset: field.offset, inside })
}

fn list(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let options = Options::parse(call.args)?;
    let scope = session.scope(call.processor)?;
    let pointer = scope.pointer_size();
    let link = find_link(&scope, &options.link)?;
    let mut at = Va(scope.evaluate(&options.start)?);
    let before = session.variables.extret;
    let mut seen = HashSet::new();
    let outcome = out.list("elements", |out| {
        while !at.is_null() && seen.len() < options.most.min(ELEMENTS) as usize && seen.insert(at) {
            if session.interrupted() {
                return Err(Error::Interrupted);
            }
            session.variables.extret = at.0;
            let line = options.line(at, pointer);
            out.record("", |out| {
                out.data("element", Value::Hex(at.0));
                if options.echo {
                    out.styled_field("command", Value::Text(&line), Style::Dim, &line);
                    out.end_line();
                }
                session.run_block(&line, out)
            })?;
            out.end_line();
            let scope = session.scope(call.processor)?;
            let next = scope.read_pointer(at.add(link.offset))?;
            at = if next.is_null() { next } else { Va(next.0.wrapping_sub(link.inside)) };
        }
        Ok(())
    });
    session.variables.extret = before;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_apart() {
        let options = Options::parse("-t nt!_A.L.Flink -x \"dd\" -a \"l4\" -e -m 5 poi(x) + 8").unwrap();
        assert_eq!((options.link.as_str(), options.start.as_str()), ("nt!_A.L.Flink", "poi(x) + 8"));
        assert!(options.echo && options.most == 5);
        assert_eq!(options.line(Va(0x1000), 8), "dd 0000000000001000 l4");
        let options = Options::parse(r#""-t T.N -x \"dt T @$extret; r $t0\" 0x10""#).unwrap();
        assert_eq!(options.line(Va(0), 8), "dt T @$extret; r $t0");
        assert_eq!(options.start, "0x10");
        for wrong in ["", "-t", "-t T.N", "-q 1 2", "-t T.N -m x 5", "-t \"T.N 5"] {
            assert!(Options::parse(wrong).is_err(), "{wrong}");
        }
    }
}
