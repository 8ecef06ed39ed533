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

#[cfg(test)]
mod tests {
    use super::*;
    use kd_sdk::output::Style;
    use proptest::prelude::*;
    use serde_json::json;

    fn render(events: &[Event<'_>]) -> String {
        let mut json = Json::default();
        let mut out = Vec::new();
        json.begin(&CommandHead { seq: 3, target: Some(0), line: "!x \"y\"" }, &mut out).unwrap();
        for event in events {
            json.event(event, &mut out).unwrap();
        }
        json.end(Status::Ok, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn parsed(events: &[Event<'_>]) -> serde_json::Value {
        let line = render(events);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    fn field<'a>(key: &'a str, value: Value<'a>) -> Event<'a> {
        Event::Field { key, value, style: Style::Normal, shown: "shown" }
    }

    fn text(text: &str) -> Event<'_> {
        Event::Text { style: Style::Normal, text }
    }

    const LIST: Event<'_> = Event::Begin { shape: Shape::List, key: "list" };
    const RECORD: Event<'_> = Event::Begin { shape: Shape::Record, key: "record" };

    #[test]
    fn writes_the_documented_object() {
        let line = render(&[
            text("Bugcheck code "),
            field("code", Value::Hex(0x7e)),
            text("\n"),
            Event::Message { severity: Severity::Warning, text: "careful\n" },
        ]);
        assert_eq!(
            line,
            "{\"v\":1,\"seq\":3,\"target\":0,\"command\":\"!x \\\"y\\\"\",\"data\":{\"code\":\"0x7e\"},\
             \"messages\":[{\"severity\":\"warning\",\"text\":\"careful\"}],\"status\":\"ok\"}\n"
        );
    }

    #[test]
    fn text_stands_in_where_there_is_no_data() {
        let value = parsed(&[text("a\n"), Event::Link { text: "b", command: "c" }]);
        assert_eq!(value["text"], "a\nb");
        assert_eq!(value["data"], json!({}));
        assert_eq!(parsed(&[])["text"], "");
        assert!(parsed(&[text("a"), field("k", Value::Null)]).get("text").is_none());
    }

    #[test]
    fn maps_values() {
        let value = parsed(&[
            field("hex", Value::Hex(u64::MAX)),
            field("small", Value::UInt(1 << 53)),
            field("large", Value::UInt((1 << 53) + 1)),
            field("negative", Value::Int(-5)),
            field("least", Value::Int(i64::MIN)),
            field("time", Value::Time(132_583_451_029_871_234)),
            field("seconds", Value::Duration(15_000_000)),
            field("whole", Value::Duration(20_000_000)),
            field("tick", Value::Duration(1)),
            field("text", Value::Text("a\u{1b}\u{9b}\"\\\n")),
            field("yes", Value::Bool(true)),
            field("null", Value::Null),
        ]);
        assert_eq!(
            value["data"],
            json!({
                "hex": "0xffffffffffffffff", "small": 9007199254740992u64, "large": "9007199254740993",
                "negative": -5, "least": "-9223372036854775808", "time": "2021-02-21T01:38:22.987Z",
                "seconds": 1.5, "whole": 2, "tick": 1e-7, "text": "a\u{1b}\u{9b}\"\\\n", "yes": true, "null": null,
            })
        );
    }

    #[test]
    fn nests_and_ignores_keys_in_lists() {
        let value = parsed(&[
            LIST,
            RECORD,
            field("a", Value::UInt(1)),
            Event::End,
            field("ignored", Value::UInt(2)),
            Event::End,
            RECORD,
            Event::End,
        ]);
        assert_eq!(value["data"], json!({"list": [{"a": 1}, 2], "record": {}}));
    }

    #[test]
    fn keys_stay_unique() {
        let value = parsed(&[
            field("a", Value::UInt(1)),
            field("a_2", Value::UInt(2)),
            field("a", Value::UInt(3)),
            field("a", Value::UInt(4)),
            field("a_2", Value::UInt(5)),
            field("", Value::UInt(6)),
        ]);
        assert_eq!(value["data"], json!({"a": 1, "a_2": 2, "a_3": 3, "a_4": 4, "a_2_2": 5, "value": 6}));
    }

    #[test]
    fn closes_what_is_open_and_ignores_surplus_ends() {
        let value = parsed(&[
            Event::End,
            LIST,
            Event::End,
            Event::End,
            field("a", Value::UInt(1)),
            LIST,
            RECORD,
            field("b", Value::UInt(1)),
        ]);
        assert_eq!(value["data"], json!({"list": [], "a": 1, "list_2": [{"b": 1}]}));
    }

    #[test]
    fn depth_is_bounded() {
        let mut events = vec![LIST; 500];
        events.push(field("", Value::UInt(1)));
        events.extend(vec![Event::End; 500]);
        events.push(field("after", Value::UInt(2)));
        let value = parsed(&events);
        assert_eq!(value["data"]["after"], 2);
        let mut depth = 0;
        let mut inner = &value["data"]["list"];
        while inner.is_array() {
            depth += 1;
            inner = &inner[0];
        }
        assert_eq!(depth, MAX_DEPTH);
        assert!(value["messages"][0]["text"].as_str().unwrap().contains("64 levels"));
    }

    #[test]
    fn text_and_messages_are_bounded() {
        let block = "x".repeat(MAX_TEXT / 2);
        let value = parsed(&[text(&block), text(&block), text("one more")]);
        assert_eq!(value["text"].as_str().unwrap().len(), MAX_TEXT);
        assert!(value["messages"][0]["text"].as_str().unwrap().contains("cut"));
        let message = Event::Message { severity: Severity::Error, text: "no" };
        let value = parsed(&vec![message; MAX_MESSAGES + 5]);
        assert_eq!(value["messages"].as_array().unwrap().len(), MAX_MESSAGES + 1);
        assert_eq!(value["messages"][MAX_MESSAGES]["text"], "5 more messages are left out");
    }

    #[test]
    fn events_between_commands_are_a_command_of_their_own() {
        let mut json = Json::default();
        let mut out = Vec::new();
        json.event(&text("banner"), &mut out).unwrap();
        json.begin(&CommandHead { seq: 1, target: None, line: "q" }, &mut out).unwrap();
        json.end(Status::Unknown, &mut out).unwrap();
        json.end(Status::Ok, &mut out).unwrap();
        write_fatal("no dump", &mut out).unwrap();
        let lines: Vec<serde_json::Value> =
            String::from_utf8(out).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!((&lines[0]["seq"], &lines[0]["text"]), (&json!(0), &json!("banner")));
        assert_eq!((&lines[1]["target"], &lines[1]["status"]), (&json!(null), &json!("unknown")));
        assert_eq!(
            (&lines[2]["messages"][0]["text"], &lines[2]["status"]),
            (&json!("no dump"), &json!("error"))
        );
    }

    #[test]
    fn the_calendar_holds() {
        assert_eq!(iso_8601(0), "1601-01-01T00:00:00.000Z");
        assert_eq!(iso_8601(116_444_736_000_000_000), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso_8601(125_963_423_990_000_000), "2000-02-29T23:59:59.000Z");
        assert_eq!(iso_8601(u64::MAX), "+60056-05-28T05:36:10.955Z");
        // Every day of 800 years follows the one before.
        let mut before = civil(0);
        for day in 1..292_194 {
            let now = civil(day);
            let (y, m, d) = before;
            let leap = y % 4 == 0 && y % 100 != 0 || y % 400 == 0;
            let length = match m {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let next = match (m, d == length) {
                (_, false) => (y, m, d + 1),
                (12, true) => (y + 1, 1, 1),
                (_, true) => (y, m + 1, 1),
            };
            assert_eq!(now, next);
            before = now;
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Begin(Shape, String),
        End,
        Text(String),
        Field(String, u8, u64),
        Link(String),
        Message(String),
    }

    impl Step {
        fn event(&self) -> Event<'_> {
            match self {
                Step::Begin(shape, key) => Event::Begin { shape: *shape, key },
                Step::End => Event::End,
                Step::Text(text) => Event::Text { style: Style::Dim, text },
                Step::Field(key, kind, number) => Event::Field {
                    key,
                    value: match kind % 8 {
                        0 => Value::Null,
                        1 => Value::Bool(*number != 0),
                        2 => Value::UInt(*number),
                        3 => Value::Int(*number as i64),
                        4 => Value::Hex(*number),
                        5 => Value::Time(*number),
                        6 => Value::Duration(*number),
                        _ => Value::Text(key),
                    },
                    style: Style::Normal,
                    shown: "",
                },
                Step::Link(text) => Event::Link { text, command: text },
                Step::Message(text) => Event::Message { severity: Severity::Error, text },
            }
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = prop_oneof!["[ab]?(_2)?", any::<String>()];
        prop_oneof![
            (any::<bool>(), key.clone())
                .prop_map(|(list, key)| Step::Begin(if list { Shape::List } else { Shape::Record }, key)),
            Just(Step::End),
            any::<String>().prop_map(Step::Text),
            (key, any::<u8>(), any::<u64>()).prop_map(|(k, v, n)| Step::Field(k, v, n)),
            any::<String>().prop_map(Step::Link),
            any::<String>().prop_map(Step::Message),
        ]
    }

    proptest! {
        #[test]
        fn any_events_make_one_valid_line(steps in proptest::collection::vec(step(), 0..200)) {
            let events: Vec<Event<'_>> = steps.iter().map(Step::event).collect();
            let line = render(&events);
            prop_assert!(line.ends_with('\n') && line.matches('\n').count() == 1);
            prop_assert!(!line.trim_end_matches('\n').chars().any(char::is_control));
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&value["status"], "ok");
            let fields = steps.iter().any(|s| matches!(s, Step::Field(..) | Step::Begin(..)));
            prop_assert_eq!(value.get("text").is_none(), fields);
        }
    }
}
