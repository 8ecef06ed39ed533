//! Command programs: `.if .for .while .do .foreach .block .catch` and what leaves them, `j`, `z`, script files.
//!
//! A block is text in braces. It is run command by command by the session, its aliases replaced when it is entered.
//! `.break`, `.continue` and `.leave` travel up as errors without a text, with the way out noted in [`Program`].
//! Every loop polls the interrupt and has a bound.

use super::{Builtin, Call, Needs};
use crate::session::Session;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::Out;
use std::io::Read;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    row(
        &[".if"],
        "(CONDITION) {COMMANDS} [.elsif (CONDITION) {COMMANDS}] [.else {COMMANDS}]",
        "Run commands if a condition holds",
        conditional,
    ),
    row(&[".for"], "(INIT; CONDITION; INCREMENTS) {COMMANDS}", "Run commands while a counter runs", counted),
    row(&[".while"], "(CONDITION) {COMMANDS}", "Run commands while a condition holds", repeated),
    row(
        &[".do"],
        "{COMMANDS} (CONDITION)",
        "Run commands, then again while a condition holds",
        repeated_once,
    ),
    row(
        &[".foreach"],
        "[/pS N] [/ps N] (NAME {COMMANDS}) | /s (NAME \"TEXT\") | /f (NAME \"FILE\") {COMMANDS}",
        "Run commands for each word of a text",
        each,
    ),
    row(&[".block"], "{COMMANDS}", "Run commands, with aliases replaced anew", block),
    row(&[".catch"], "{COMMANDS}", "Run commands; an error ends only these", caught),
    row(&[".break", ".continue", ".leave"], "", "Leave a loop, go on with it, leave a .catch", leave),
    row(&[".elsif", ".else"], "", "Parts of .if", misplaced),
    row(&["j"], "EXPRESSION ['COMMANDS'] ; ['COMMANDS']", "Run one or the other", either),
    row(&["z"], "(EXPRESSION)", "Run what stands to the left again while a condition holds", again),
    row(
        &["$<", "$><", "$$<", "$$><", "$$>a<"],
        "FILE",
        "Run a file of commands; with > as one block; $$>a<FILE ARGUMENTS",
        script,
    ),
];

type Run = fn(&mut Session, &Out<'_>, &Call<'_>) -> Result<()>;

const fn row(
    names: &'static [&'static str],
    usage: &'static str,
    summary: &'static str,
    run: Run,
) -> Builtin {
    Builtin { names, usage, summary, help: "", needs: Needs::Nothing, run }
}

/// Turns of one loop.
const MOST_TURNS: u64 = 100_000_000;
/// Bytes of a script.
const SCRIPT: u64 = 16 << 20;

/// How a block is being left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// `.break`.
    Break,
    /// `.continue`.
    Continue,
    /// `.leave`.
    Leave,
}

/// Where a program is.
#[derive(Clone, Copy, Default, Debug)]
pub struct Program {
    way: Option<Way>,
    loops: u32,
    catches: u32,
    /// `z` wants what stands to its left to run again.
    again: bool,
}

impl Program {
    /// True once after a `z` whose condition held.
    pub fn take_again(&mut self) -> bool {
        std::mem::take(&mut self.again)
    }
}

/// The text inside the bracket that opens `text`, and what follows the one that closes it.
fn bracketed(text: &str, open: char, close: char) -> Result<(&str, &str)> {
    let text = text.trim_start();
    let missing = |what| Error::Usage(format!("syntax error: '{what}' expected at '{}'", head(text)));
    if !text.starts_with(open) {
        return Err(missing(open));
    }
    let (mut depth, mut quoted) = (0usize, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            c if c == open && !quoted => depth += 1,
            c if c == close && !quoted => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    let inside = text.get(1..at).unwrap_or_default();
                    return Ok((inside, text.get(at + 1..).unwrap_or_default().trim_start()));
                }
            }
            _ => {}
        }
    }
    Err(missing(close))
}

fn head(text: &str) -> String {
    text.chars().take(40).collect()
}

/// A condition, up to the block that follows it, and the rest.
fn condition(text: &str) -> Result<(&str, &str)> {
    let at = text
        .find('{')
        .ok_or_else(|| Error::Usage(format!("syntax error: '{{' expected at '{}'", head(text))))?;
    Ok(text.split_at_checked(at).unwrap_or((text, "")))
}

fn holds(session: &Session, condition: &str) -> Result<bool> {
    let condition = session.aliases.expand(condition);
    Ok(session.scope(None)?.evaluate(condition.trim())? != 0)
}

/// What follows a block on the same line.
fn go_on(session: &mut Session, out: &Out<'_>, rest: &str) -> Result<()> {
    match rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';') {
        "" => Ok(()),
        rest => session.run_block(rest, out),
    }
}

fn conditional(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let mut rest = call.args;
    let mut done = false;
    loop {
        let (test, after) = condition(rest)?;
        let (body, after) = bracketed(after, '{', '}')?;
        if !done && holds(session, test)? {
            session.run_block(body, out)?;
            done = true;
        }
        rest = after;
        if let Some(after) = rest.strip_prefix(".elsif") {
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix(".else") {
            let (body, after) = bracketed(after, '{', '}')?;
            if !done {
                session.run_block(body, out)?;
            }
            rest = after;
        }
        return go_on(session, out, rest);
    }
}

/// One turn of a loop; false where it is to end.
fn turn(session: &mut Session, out: &Out<'_>, body: &str) -> Result<bool> {
    session.program.loops += 1;
    let outcome = session.run_block(body, out);
    session.program.loops = session.program.loops.saturating_sub(1);
    match (outcome, session.program.way) {
        (Ok(()), _) => Ok(true),
        (Err(_), Some(way @ (Way::Break | Way::Continue))) => {
            session.program.way = None;
            Ok(way == Way::Continue)
        }
        (Err(error), _) => Err(error),
    }
}

/// Turns as long as `test` holds, then `after` each turn.
fn turns(session: &mut Session, out: &Out<'_>, test: &str, body: &str, after: &str) -> Result<()> {
    for _ in 0..MOST_TURNS {
        if session.interrupted() {
            return Err(Error::Interrupted);
        }
        if !holds(session, test)? || !turn(session, out, body)? {
            return Ok(());
        }
        if !after.is_empty() {
            session.run_block(after, out)?;
        }
    }
    Err(Error::Other(format!("the loop did not end within {MOST_TURNS} turns")))
}

fn counted(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (head, rest) = bracketed(call.args, '(', ')')?;
    let (body, rest) = bracketed(rest, '{', '}')?;
    let mut parts = head.splitn(3, ';');
    let (init, test) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Some(increment) = parts.next().filter(|_| !test.trim().is_empty()) else {
        return Err(Error::Usage("syntax error: .for takes (INIT; CONDITION; INCREMENT)".to_owned()));
    };
    session.run_block(init, out)?;
    turns(session, out, test, body, increment)?;
    go_on(session, out, rest)
}

fn repeated(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (test, rest) = condition(call.args)?;
    let (body, rest) = bracketed(rest, '{', '}')?;
    turns(session, out, test, body, "")?;
    go_on(session, out, rest)
}

fn repeated_once(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (body, rest) = bracketed(call.args, '{', '}')?;
    let (test, rest) = bracketed(rest, '(', ')')?;
    if turn(session, out, body)? {
        turns(session, out, test, body, "")?;
    }
    go_on(session, out, rest)
}

fn block(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (body, rest) = bracketed(call.args, '{', '}')?;
    session.run_block(body, out)?;
    go_on(session, out, rest)
}

fn caught(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (body, rest) = bracketed(call.args, '{', '}')?;
    session.program.catches += 1;
    let outcome = session.run_block(body, out);
    session.program.catches = session.program.catches.saturating_sub(1);
    match (outcome, session.program.way) {
        (Ok(()), _) => {}
        (Err(_), Some(Way::Leave)) => session.program.way = None,
        (Err(error), Some(_)) | (Err(error @ Error::Interrupted), _) => return Err(error),
        (Err(error), None) => {
            let text = error.to_string();
            if !text.is_empty() {
                out.warning(&text);
            }
        }
    }
    go_on(session, out, rest)
}

fn leave(session: &mut Session, _: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (way, inside) = match call.name {
        ".break" => (Way::Break, session.program.loops > 0),
        ".continue" => (Way::Continue, session.program.loops > 0),
        _ => (Way::Leave, session.program.catches > 0),
    };
    if !inside {
        let of = if way == Way::Leave { ".catch" } else { "a loop" };
        return Err(Error::Usage(format!("{} stands outside of {of}", call.name)));
    }
    session.program.way = Some(way);
    Err(Error::Other(String::new()))
}

fn misplaced(_: &mut Session, _: &Out<'_>, call: &Call<'_>) -> Result<()> {
    Err(Error::Usage(format!("{} stands outside of .if", call.name)))
}

fn each(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (mut first, mut skip, mut source) = (0, 0, ' ');
    let mut rest = call.args;
    while let Some(option) = rest.strip_prefix('/') {
        let (word, after) = option.split_once([' ', '\t', '(']).unwrap_or((option, ""));
        let number = |text| session.scope(None)?.evaluate_first(text);
        (rest, _) = match word {
            "pS" | "ps" => {
                let digits = after.trim_start();
                let end = digits.find([' ', '(']).unwrap_or(digits.len());
                let (digits, after) = digits.split_at_checked(end).unwrap_or((digits, ""));
                let value = number(digits)?.0;
                if word == "pS" {
                    first = value
                } else {
                    skip = value
                }
                (after.trim_start(), ())
            }
            "s" | "f" => {
                source = if word == "s" { 's' } else { 'f' };
                (option.get(1..).unwrap_or_default().trim_start(), ())
            }
            other => return Err(Error::Usage(format!(".foreach has no option /{other}"))),
        };
    }
    let (head, rest) = bracketed(rest, '(', ')')?;
    let (body, rest) = bracketed(rest, '{', '}')?;
    let head = head.trim();
    let end = head.find(|c: char| c.is_whitespace() || c == '{' || c == '"').unwrap_or(head.len());
    let (name, from) = head.split_at_checked(end).unwrap_or((head, ""));
    if name.is_empty() {
        return Err(Error::Usage("syntax error: .foreach needs a name".to_owned()));
    }
    let from = from.trim();
    let quoted = from.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(from);
    let text = match source {
        's' => quoted.to_owned(),
        'f' => read_script(quoted)?,
        _ => {
            let (commands, _) = bracketed(from, '{', '}')?;
            session.run_captured(commands)?
        }
    };
    let skip = usize::try_from(skip).unwrap_or(usize::MAX).saturating_add(1);
    let first = usize::try_from(first).unwrap_or(usize::MAX);
    for token in text.split_whitespace().skip(first).step_by(skip) {
        if session.interrupted() {
            return Err(Error::Interrupted);
        }
        let before = session.aliases.set(name, Some(token.to_owned()));
        let more = turn(session, out, body);
        session.aliases.set(name, before);
        if !more? {
            break;
        }
    }
    go_on(session, out, rest)
}

fn either(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (value, rest) = session.scope(None)?.evaluate_first(call.args)?;
    let part = |text: &'_ str| -> (String, String) {
        let text = text.trim_start();
        let (own, rest) = match text.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap_or((quoted, "")),
            None => text.split_at_checked(text.find(';').unwrap_or(text.len())).unwrap_or((text, "")),
        };
        (own.to_owned(), rest.trim_start().trim_start_matches(';').to_owned())
    };
    let (yes, rest) = part(rest);
    let (no, _) = part(&rest);
    session.run_block(if value != 0 { &yes } else { &no }, out)
}

fn again(session: &mut Session, _: &Out<'_>, call: &Call<'_>) -> Result<()> {
    if session.interrupted() {
        return Err(Error::Interrupted);
    }
    session.program.again = session.scope(None)?.evaluate(call.args)? != 0;
    Ok(())
}

/// A text file, whole.
pub fn read_script(path: &str) -> Result<String> {
    let path = path.trim().trim_matches('"');
    let failed = |error: std::io::Error| Error::NotFound(format!("cannot read {path}: {error}"));
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(SCRIPT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > SCRIPT {
        return Err(Error::Usage(format!("{path} has more than {SCRIPT} bytes; no script is that long")));
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())
}

fn script(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (path, arguments) = match call.name {
        "$$>a<" => call.args.split_once(char::is_whitespace).unwrap_or((call.args, "")),
        _ => (call.args, ""),
    };
    let mut text = read_script(path)?;
    if call.name == "$$>a<" {
        for (number, argument) in words(arguments).iter().enumerate().take(64) {
            let name = format!("${{$arg{}}}", number + 1);
            if text.matches(&name).count().saturating_mul(argument.len()) as u64 <= SCRIPT {
                text = text.replace(&name, argument);
            }
        }
    }
    if call.name.contains('>') {
        let joined: Vec<&str> = text.lines().map(str::trim).collect();
        return session.run_block(&joined.join(";"), out);
    }
    let mut failed = false;
    for line in text.lines() {
        if session.interrupted() {
            return Err(Error::Interrupted);
        }
        out.line(&format!("{}{line}", session.prompt()));
        match session.run_block(line, out) {
            Ok(()) => {}
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                failed = true;
                let text = error.to_string();
                if session.program.way.is_some() {
                    return Err(error);
                }
                if !text.is_empty() {
                    out.error(&text);
                }
            }
        }
    }
    if failed { Err(Error::Other(String::new())) } else { Ok(()) }
}

/// Words, with those in quotes whole.
fn words(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"').and_then(|quoted| quoted.split_once('"')) {
            Some(found) => found,
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        found.push(word);
        rest = after.trim_start();
    }
    found
}
