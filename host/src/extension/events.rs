//! Output events on their way from the worker's thread to the renderers: kept in one text and one list, so that a
//! million small events are not a million small strings.

use kd_sdk::output::{Event, Severity, Shape, Style, Value};
use std::ops::Range;

type Piece = Range<u32>;

/// Events in order.
#[derive(Default)]
pub struct EventQueue {
    text: String,
    records: Vec<Record>,
}

enum Record {
    Begin(Shape, Piece),
    End,
    Text(Style, Piece),
    Field { key: Piece, value: Stored, style: Style, shown: Piece },
    Link(Piece, Piece),
    Message(Severity, Piece),
}

enum Stored {
    Plain(Value<'static>),
    Text(Piece),
}

impl EventQueue {
    /// Copies an event in.
    pub fn push(&mut self, event: &Event<'_>) {
        let record = match *event {
            Event::Begin { shape, key } => Record::Begin(shape, self.keep(key)),
            Event::End => Record::End,
            Event::Text { style, text } => Record::Text(style, self.keep(text)),
            Event::Field { key, value, style, shown } => {
                let key = self.keep(key);
                let shown = self.keep(shown);
                let value = match value {
                    Value::Text(text) => Stored::Text(self.keep(text)),
                    Value::Null => Stored::Plain(Value::Null),
                    Value::Bool(value) => Stored::Plain(Value::Bool(value)),
                    Value::UInt(value) => Stored::Plain(Value::UInt(value)),
                    Value::Int(value) => Stored::Plain(Value::Int(value)),
                    Value::Hex(value) => Stored::Plain(Value::Hex(value)),
                    Value::Time(value) => Stored::Plain(Value::Time(value)),
                    Value::Duration(value) => Stored::Plain(Value::Duration(value)),
                };
                Record::Field { key, value, style, shown }
            }
            Event::Link { text, command } => Record::Link(self.keep(text), self.keep(command)),
            Event::Message { severity, text } => Record::Message(severity, self.keep(text)),
        };
        self.records.push(record);
    }

    fn keep(&mut self, text: &str) -> Piece {
        // The queue is drained long before 4 GiB; an absurd single text is cut.
        let start = self.text.len() as u32;
        let room = (u32::MAX - start) as usize;
        let mut end = text.len().min(room);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.push_str(text.get(..end).unwrap_or_default());
        start..self.text.len() as u32
    }

    /// Bytes and events waiting, for back pressure.
    pub fn weight(&self) -> usize {
        self.text.len() + self.records.len() * size_of::<Record>()
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Gives every event to `take`, in order.
    pub fn replay(&self, take: &mut dyn FnMut(&Event<'_>)) {
        let piece =
            |range: &Piece| self.text.get(range.start as usize..range.end as usize).unwrap_or_default();
        for record in &self.records {
            take(&match record {
                Record::Begin(shape, key) => Event::Begin { shape: *shape, key: piece(key) },
                Record::End => Event::End,
                Record::Text(style, text) => Event::Text { style: *style, text: piece(text) },
                Record::Field { key, value, style, shown } => Event::Field {
                    key: piece(key),
                    value: match value {
                        Stored::Plain(value) => *value,
                        Stored::Text(text) => Value::Text(piece(text)),
                    },
                    style: *style,
                    shown: piece(shown),
                },
                Record::Link(text, command) => Event::Link { text: piece(text), command: piece(command) },
                Record::Message(severity, text) => Event::Message { severity: *severity, text: piece(text) },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_as_they_went_in() {
        let events = [
            Event::Begin { shape: Shape::List, key: "a" },
            Event::Field { key: "k", value: Value::Text("v"), style: Style::Bad, shown: "s" },
            Event::Field { key: "n", value: Value::Hex(7), style: Style::Normal, shown: "" },
            Event::Text { style: Style::Heading, text: "t" },
            Event::Link { text: "l", command: "c" },
            Event::Message { severity: Severity::Warning, text: "w" },
            Event::End,
        ];
        let mut queue = EventQueue::default();
        events.iter().for_each(|event| queue.push(event));
        let mut seen = 0;
        queue.replay(&mut |event| {
            assert_eq!(Some(event), events.get(seen));
            seen += 1;
        });
        assert_eq!(seen, events.len());
    }
}
