//! Events as JSON: one object a command, on a line of its own (NDJSON), written while the command runs.
//!
//! ```text
//! {"v":1,"seq":3,"target":0,"command":".bugcheck","data":{"code":"0x7e","args":["0x1","0x2"]},
//!  "messages":[{"severity":"warning","text":"…"}],"status":"ok"}                      (all on one line)
//! ```
//! | key | value |
//! | --- | --- |
//! | `v` | 1; grows when the meaning of a key changes, not when keys are added |
//! | `seq` | number of the command in the session, from 1; 0: what happened before the first, or between two |
//! | `target` | ordinal of the target it ran on, or null |
//! | `command` | the command as it was typed |
//! | `data` | object with the values; `{}` if the command has none |
//! | `text` | only if the command has no values: its text |
//! | `messages` | list of `{"severity":"verbose"\|"warning"\|"error","text":"…"}` in order |
//! | `status` | `ok`, `failed`, `interrupted`, `unknown` (no such command); `error` in the one record of a program that gives up |
//!
//! Values: addresses and codes are strings `"0x7e"`; times are ISO 8601 in UTC with milliseconds; durations are seconds;
//! counts are numbers, beyond ±2^53 strings of digits; what is unknown or not captured is null. A key that comes twice in
//! one record gets `_2`, `_3` …; a value without a key in a record is called `value`. Strings are escaped so that the
//! line is safe to print.

#[cfg(test)]
mod tests;

use super::{CommandHead, Status};
use kd_sdk::output::{Event, Severity, Shape, Value};
use std::collections::HashMap;
use std::io::{self, Write};

/// Records and lists in each other; what lies deeper is left out, with a warning.
pub const MAX_DEPTH: usize = 64;
/// Bytes of text kept for a command without values.
pub const MAX_TEXT: usize = 64 << 20;
/// Messages kept for one command.
pub const MAX_MESSAGES: usize = 10_000;

/// The greatest whole number every JSON reader keeps exact.
const EXACT: u64 = 1 << 53;

/// A renderer of JSON.
#[derive(Debug, Default)]
pub struct Json {
    command: Option<Command>,
}

/// The object that is open.
#[derive(Debug, Default)]
struct Command {
    /// What is open inside of `data`; the first is `data` itself. Empty until the first value.
    open: Vec<Group>,
    /// Groups that were not written because they lie too deep.
    too_deep: usize,
    text: String,
    text_cut: bool,
    messages: Vec<(Severity, String)>,
    messages_cut: usize,
    nested_too_deep: bool,
}

/// A record or a list that is open.
#[derive(Debug)]
enum Group {
    /// With how often each key came.
    Record(HashMap<String, u32>),
    /// With whether it has an item.
    List(bool),
}

impl Json {
    /// Opens the object of a command, after closing the one that is open.
    ///
    /// # Errors
    /// Those of `out`, here and below.
    pub fn begin(&mut self, head: &CommandHead<'_>, out: &mut dyn Write) -> io::Result<()> {
        self.end(Status::Ok, out)?;
        self.command = Some(Command::default());
        write_head(head, out)
    }

    /// Takes an event.
    pub fn event(&mut self, event: &Event<'_>, out: &mut dyn Write) -> io::Result<()> {
        if self.command.is_none() {
            self.begin(&CommandHead { seq: 0, target: None, line: "" }, out)?;
        }
        match &mut self.command {
            Some(command) => command.event(event, out),
            None => Ok(()),
        }
    }

    /// Closes the object if one is open.
    pub fn end(&mut self, status: Status, out: &mut dyn Write) -> io::Result<()> {
        match self.command.take() {
            Some(command) => command.end(status.name(), out),
            None => Ok(()),
        }
    }
}

/// Writes the one record of a program that gives up.
///
/// # Errors
/// Those of `out`.
pub fn write_fatal(text: &str, out: &mut dyn Write) -> io::Result<()> {
    write_head(&CommandHead { seq: 0, target: None, line: "" }, out)?;
    let command = Command { messages: vec![(Severity::Error, text.to_owned())], ..Command::default() };
    command.end("error", out)
}

fn write_head(head: &CommandHead<'_>, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{{\"v\":1,\"seq\":{},\"target\":", head.seq)?;
    match head.target {
        Some(target) => write!(out, "{target}")?,
        None => out.write_all(b"null")?,
    }
    out.write_all(b",\"command\":")?;
    write_string(head.line, out)
}

impl Command {
    fn event(&mut self, event: &Event<'_>, out: &mut dyn Write) -> io::Result<()> {
        match *event {
            Event::Begin { shape, key } => self.open_group(shape, key, out),
            Event::End => self.close_group(out),
            Event::Text { text, .. } | Event::Link { text, .. } => {
                self.keep_text(text);
                Ok(())
            }
            Event::Field { key, value, .. } => {
                if self.too_deep > 0 {
                    return Ok(());
                }
                self.start_item(key, out)?;
                write_value(value, out)
            }
            Event::Message { severity, text } => {
                if self.messages.len() < MAX_MESSAGES {
                    self.messages.push((severity, text.trim_end().to_owned()));
                } else {
                    self.messages_cut = self.messages_cut.saturating_add(1);
                }
                Ok(())
            }
        }
    }

    fn open_group(&mut self, shape: Shape, key: &str, out: &mut dyn Write) -> io::Result<()> {
        if self.too_deep > 0 || self.open.len() > MAX_DEPTH {
            self.too_deep = self.too_deep.saturating_add(1);
            self.nested_too_deep = true;
            return Ok(());
        }
        self.start_item(key, out)?;
        match shape {
            Shape::Record => {
                self.open.push(Group::Record(HashMap::new()));
                out.write_all(b"{")
            }
            Shape::List => {
                self.open.push(Group::List(false));
                out.write_all(b"[")
            }
        }
    }

    fn close_group(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.too_deep > 0 {
            self.too_deep = self.too_deep.saturating_sub(1);
            return Ok(());
        }
        // The first is `data`, which only the end of the command closes.
        if self.open.len() > 1 { self.close_last(out) } else { Ok(()) }
    }

    fn close_last(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.open.pop() {
            Some(Group::Record(_)) => out.write_all(b"}"),
            Some(Group::List(_)) => out.write_all(b"]"),
            None => Ok(()),
        }
    }

    /// Writes what stands before a value: `data` itself, the comma, the key.
    fn start_item(&mut self, key: &str, out: &mut dyn Write) -> io::Result<()> {
        if self.open.is_empty() {
            out.write_all(b",\"data\":{")?;
            self.open.push(Group::Record(HashMap::new()));
            self.text = String::new();
        }
        match self.open.last_mut() {
            Some(Group::List(has_item)) => {
                if std::mem::replace(has_item, true) {
                    out.write_all(b",")?;
                }
                Ok(())
            }
            Some(Group::Record(keys)) => {
                if !keys.is_empty() {
                    out.write_all(b",")?;
                }
                write_string(&unique(keys, if key.is_empty() { "value" } else { key }), out)?;
                out.write_all(b":")
            }
            None => Ok(()),
        }
    }

    fn keep_text(&mut self, text: &str) {
        if !self.open.is_empty() || self.text_cut {
            return;
        }
        if self.text.len().saturating_add(text.len()) > MAX_TEXT {
            self.text_cut = true;
        } else {
            self.text.push_str(text);
        }
    }

    fn end(mut self, status: &str, out: &mut dyn Write) -> io::Result<()> {
        if self.open.is_empty() {
            out.write_all(b",\"data\":{},\"text\":")?;
            write_string(&self.text, out)?;
            if self.text_cut {
                self.late_warning(format!("the text is cut after {} MB", MAX_TEXT >> 20));
            }
        }
        while !self.open.is_empty() {
            self.close_last(out)?;
        }
        if self.nested_too_deep {
            self.late_warning(format!("values nested deeper than {MAX_DEPTH} levels are left out"));
        }
        if self.messages_cut > 0 {
            self.late_warning(format!("{} more messages are left out", self.messages_cut));
        }
        out.write_all(b",\"messages\":[")?;
        for (index, (severity, text)) in self.messages.iter().enumerate() {
            let severity = match severity {
                Severity::Verbose => "verbose",
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            let comma = if index == 0 { "" } else { "," };
            write!(out, "{comma}{{\"severity\":\"{severity}\",\"text\":")?;
            write_string(text, out)?;
            out.write_all(b"}")?;
        }
        writeln!(out, "],\"status\":\"{status}\"}}")
    }

    fn late_warning(&mut self, text: String) {
        self.messages.push((Severity::Warning, text));
    }
}

/// The key, or the key with a number if the record has it already.
fn unique(keys: &mut HashMap<String, u32>, key: &str) -> String {
    let Some(count) = keys.get_mut(key) else {
        keys.insert(key.to_owned(), 1);
        return key.to_owned();
    };
    let mut number = *count;
    let mut name;
    loop {
        number = number.saturating_add(1);
        name = format!("{key}_{number}");
        if !keys.contains_key(&name) {
            break;
        }
    }
    keys.insert(key.to_owned(), number);
    keys.insert(name.clone(), 1);
    name
}

fn write_value(value: Value<'_>, out: &mut dyn Write) -> io::Result<()> {
    match value {
        Value::Null => out.write_all(b"null"),
        Value::Bool(yes) => write!(out, "{yes}"),
        Value::UInt(number) if number <= EXACT => write!(out, "{number}"),
        Value::UInt(number) => write!(out, "\"{number}\""),
        Value::Int(number) if number.unsigned_abs() <= EXACT => write!(out, "{number}"),
        Value::Int(number) => write!(out, "\"{number}\""),
        Value::Hex(number) => write!(out, "\"{number:#x}\""),
        Value::Time(filetime) => write!(out, "\"{}\"", iso_8601(filetime)),
        Value::Duration(ticks) => {
            let (seconds, fraction) = (ticks / 10_000_000, ticks % 10_000_000);
            if fraction == 0 {
                return write!(out, "{seconds}");
            }
            let digits = format!("{fraction:07}");
            write!(out, "{seconds}.{}", digits.trim_end_matches('0'))
        }
        Value::Text(text) => write_string(text, out),
    }
}

/// A string of JSON; besides what JSON demands, DEL, C1 and characters that reorder a line are escaped.
fn write_string(text: &str, out: &mut dyn Write) -> io::Result<()> {
    let quoted = serde_json::to_string(text)?;
    if quoted.is_ascii() && !quoted.as_bytes().contains(&0x7f) {
        return out.write_all(quoted.as_bytes());
    }
    let risky = |c: char| {
        matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{feff}')
    };
    let mut rest = quoted.as_str();
    while let Some((at, c)) = rest.char_indices().find(|&(_, c)| risky(c)) {
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
        write!(out, "{before}\\u{:04x}", u32::from(c))?;
        rest = after.get(c.len_utf8()..).unwrap_or_default();
    }
    out.write_all(rest.as_bytes())
}

/// A FILETIME (100 ns since 1601, UTC) as `2021-02-21T01:38:22.987Z`; years beyond 9999 as `+12345-…`.
pub fn iso_8601(filetime: u64) -> String {
    let milliseconds = filetime / 10_000;
    let (days, rest) = (milliseconds / 86_400_000, milliseconds % 86_400_000);
    let (year, month, day) = civil(days);
    let sign = if year > 9999 { "+" } else { "" };
    let (hour, minute, second, fraction) =
        (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60, rest % 1000);
    format!("{sign}{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z")
}

/// Year, month and day of a day counted from 1 January 1601, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Count from 1 March 1600, the first day of a 400-year cycle whose leap days stand at the ends of years.
    let days = days + 306;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let century = (day / 36_524).min(3);
    let day = day - century * 36_524;
    let fourth = day / 1461;
    let day = day - fourth * 1461;
    let year = (day / 365).min(3);
    let day = day - year * 365;
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let year = 1600 + cycle * 400 + century * 100 + fourth * 4 + year;
    if month < 10 { (year, month + 3, day_of_month) } else { (year + 1, month - 9, day_of_month) }
}
