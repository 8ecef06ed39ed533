//! The documented shape, the bounds, and that any events make one valid line.

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
    let mut command = Command::default();
    for text in [&block, &block, "one more", "and another"] {
        command.keep_text(text);
    }
    assert!(command.text_cut && command.text.len() == MAX_TEXT);
    command.text = "short".to_owned();
    let mut out = Vec::new();
    command.end("ok", &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("the text is cut after 64 MB"));
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
    assert_eq!((&lines[2]["messages"][0]["text"], &lines[2]["status"]), (&json!("no dump"), &json!("error")));
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
