//! Output as one stream of events. A command says each thing once, as text for people and as a value for programs;
//! the host's renderers make console text or JSON of it. The same face serves extensions and kd's own commands.
//!
//! ```text
//! out.text("Bugcheck code ");
//! out.field("code", Value::Hex(0x7e), "0000007E");
//! out.end_line();
//! ```
//! prints `Bugcheck code 0000007E`, or `{"code":"0x7e"}` with `--json`.

use crate::abi;
use core::cell::Cell;
use core::fmt;

/// How text looks where colours are shown. Never carries meaning of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Style {
    /// Plain.
    #[default]
    Normal,
    /// A title.
    Heading,
    /// An address.
    Address,
    /// A symbol or a module.
    Symbol,
    /// Something wrong.
    Bad,
    /// Something to look at first.
    Emphasis,
    /// Less important.
    Dim,
}

impl Style {
    /// Every style, by its ABI number.
    pub const ALL: [Style; 7] = [
        Style::Normal,
        Style::Heading,
        Style::Address,
        Style::Symbol,
        Style::Bad,
        Style::Emphasis,
        Style::Dim,
    ];

    /// The number that crosses the ABI.
    pub fn to_abi(self) -> u32 {
        self as u32
    }

    /// From the number that crosses the ABI; unknown ones are plain.
    pub fn from_abi(code: u32) -> Style {
        Style::ALL.get(code as usize).copied().unwrap_or_default()
    }
}

/// How serious a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Shown with `-v` only.
    Verbose,
    /// The command goes on.
    Warning,
    /// The command fails.
    Error,
}

/// A value for programs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value<'a> {
    /// Unknown or not captured.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A count.
    UInt(u64),
    /// A signed count.
    Int(i64),
    /// An address or a code: `"0x7e"` in JSON.
    Hex(u64),
    /// A FILETIME: `"2021-02-21T01:38:22.987Z"` in JSON.
    Time(u64),
    /// 100 ns units: seconds in JSON.
    Duration(u64),
    /// Text.
    Text(&'a str),
}

/// What [`Event::Begin`] opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Named values.
    Record,
    /// Items in order.
    List,
}

/// One thing a command says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Event<'a> {
    /// Opens a record or a list called `key` (ignored inside a list).
    Begin {
        /// What is opened.
        shape: Shape,
        /// Its name.
        key: &'a str,
    },
    /// Closes what was opened last.
    End,
    /// Text for people only.
    Text {
        /// How it looks.
        style: Style,
        /// The text.
        text: &'a str,
    },
    /// A value.
    Field {
        /// Its name (ignored inside a list).
        key: &'a str,
        /// For programs.
        value: Value<'a>,
        /// How `shown` looks.
        style: Style,
        /// For people; may be empty.
        shown: &'a str,
    },
    /// Text that runs a command when it is clicked.
    Link {
        /// The text.
        text: &'a str,
        /// The command.
        command: &'a str,
    },
    /// A warning or an error, on a line of its own.
    Message {
        /// How serious.
        severity: Severity,
        /// One line.
        text: &'a str,
    },
}

/// Takes events.
pub trait Sink {
    /// Takes one event.
    fn emit(&self, event: &Event<'_>);
}

/// The face of the stream.
#[derive(Clone, Copy)]
pub struct Out<'a> {
    sink: &'a dyn Sink,
}

impl<'a> Out<'a> {
    /// A face for a sink.
    pub fn new(sink: &'a dyn Sink) -> Out<'a> {
        Out { sink }
    }

    /// The sink behind this face.
    pub fn sink(&self) -> &'a dyn Sink {
        self.sink
    }

    /// Plain text, for people only.
    pub fn text(&self, text: &str) {
        self.styled(Style::Normal, text);
    }

    /// Text in a style.
    pub fn styled(&self, style: Style, text: &str) {
        if !text.is_empty() {
            self.sink.emit(&Event::Text { style, text });
        }
    }

    /// Text and the end of the line.
    pub fn line(&self, text: &str) {
        self.text(text);
        self.end_line();
    }

    /// Ends the line.
    pub fn end_line(&self) {
        self.sink.emit(&Event::Text { style: Style::Normal, text: "\n" });
    }

    /// Formatted text: `out.print(format_args!("{va}"))`.
    pub fn print(&self, text: fmt::Arguments<'_>) {
        match text.as_str() {
            Some(text) => self.text(text),
            None => self.text(&text.to_string()),
        }
    }

    /// A value under `key` for programs, `shown` for people.
    pub fn field(&self, key: &str, value: Value<'_>, shown: &str) {
        self.styled_field(key, value, Style::Normal, shown);
    }

    /// A value in a style.
    pub fn styled_field(&self, key: &str, value: Value<'_>, style: Style, shown: &str) {
        self.sink.emit(&Event::Field { key, value, style, shown });
    }

    /// A value for programs only.
    pub fn data(&self, key: &str, value: Value<'_>) {
        self.field(key, value, "");
    }

    /// A text value, shown as it is.
    pub fn name(&self, key: &str, text: &str) {
        self.field(key, Value::Text(text), text);
    }

    /// Values that belong together, under `key` (ignored inside a list).
    pub fn record<T>(&self, key: &str, body: impl FnOnce(&Out<'a>) -> T) -> T {
        self.group(Shape::Record, key, body)
    }

    /// A list of records or values, under `key`.
    pub fn list<T>(&self, key: &str, body: impl FnOnce(&Out<'a>) -> T) -> T {
        self.group(Shape::List, key, body)
    }

    fn group<T>(&self, shape: Shape, key: &str, body: impl FnOnce(&Out<'a>) -> T) -> T {
        self.sink.emit(&Event::Begin { shape, key });
        let result = body(self);
        self.sink.emit(&Event::End);
        result
    }

    /// What `body` says, each line after so many blanks.
    pub fn indented<T>(&self, blanks: usize, body: impl FnOnce(&Out<'_>) -> T) -> T {
        let sink = Indented { inner: self.sink, blanks, at_start: Cell::new(true) };
        body(&Out::new(&sink))
    }

    /// Text that runs `command` where the console can do that.
    pub fn link(&self, text: &str, command: &str) {
        self.sink.emit(&Event::Link { text, command });
    }

    /// Something the user should know; the command goes on.
    pub fn warning(&self, text: &str) {
        self.sink.emit(&Event::Message { severity: Severity::Warning, text });
    }

    /// Why the command fails.
    pub fn error(&self, text: &str) {
        self.sink.emit(&Event::Message { severity: Severity::Error, text });
    }

    /// Shown with `-v` only.
    pub fn verbose(&self, text: &str) {
        self.sink.emit(&Event::Message { severity: Severity::Verbose, text });
    }

    /// A table: a header line, then a row a record in the list `key`. Rows stream; widths come from the columns.
    pub fn table<T>(&self, key: &str, columns: &[Column], body: impl FnOnce(&Table<'a, '_>) -> T) -> T {
        let mut header = String::new();
        for (index, column) in columns.iter().enumerate() {
            column.pad(&mut header, column.title, index + 1 == columns.len());
        }
        let header = header.trim_end();
        if !header.is_empty() {
            self.styled(Style::Heading, header);
            self.end_line();
        }
        self.list(key, |out| body(&Table { out: *out, columns }))
    }
}

/// Puts blanks in front of every line that is not empty.
struct Indented<'a> {
    inner: &'a dyn Sink,
    blanks: usize,
    at_start: Cell<bool>,
}

impl Indented<'_> {
    fn shift(&self, text: &str) -> String {
        let mut shifted = String::with_capacity(text.len() + self.blanks);
        for piece in text.split_inclusive('\n') {
            if self.at_start.get() && piece != "\n" {
                shifted.extend(core::iter::repeat_n(' ', self.blanks));
            }
            shifted.push_str(piece);
            self.at_start.set(piece.ends_with('\n'));
        }
        shifted
    }
}

impl Sink for Indented<'_> {
    fn emit(&self, event: &Event<'_>) {
        match *event {
            Event::Text { style, text } => self.inner.emit(&Event::Text { style, text: &self.shift(text) }),
            Event::Field { key, value, style, shown } => {
                self.inner.emit(&Event::Field { key, value, style, shown: &self.shift(shown) });
            }
            Event::Link { text, command } => {
                // The blanks are no part of what can be clicked.
                let shifted = self.shift(text);
                let blanks = shifted.len() - text.len();
                Out::new(self.inner).text(shifted.get(..blanks).unwrap_or_default());
                self.inner.emit(&Event::Link { text, command });
            }
            Event::Begin { .. } | Event::End | Event::Message { .. } => self.inner.emit(event),
        }
    }
}

/// A column of a [`Out::table`].
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Name for programs.
    pub key: &'static str,
    /// Heading for people.
    pub title: &'static str,
    /// Characters; longer cells push the rest of their row.
    pub width: usize,
    /// Numbers stand on the right.
    pub right: bool,
}

impl Column {
    /// A column whose text stands on the left.
    pub const fn left(key: &'static str, title: &'static str, width: usize) -> Column {
        Column { key, title, width, right: false }
    }

    /// A column whose text stands on the right.
    pub const fn right(key: &'static str, title: &'static str, width: usize) -> Column {
        Column { key, title, width, right: true }
    }

    /// `text` at this column's width with the blank that parts it from the next column.
    fn pad(&self, line: &mut String, text: &str, last: bool) {
        let padding = self.width.saturating_sub(text.chars().count());
        if self.right {
            line.extend(core::iter::repeat_n(' ', padding));
            line.push_str(text);
        } else {
            line.push_str(text);
            if !last {
                line.extend(core::iter::repeat_n(' ', padding));
            }
        }
        if !last {
            line.push(' ');
        }
    }
}

/// Takes the rows of a table.
pub struct Table<'a, 't> {
    out: Out<'a>,
    columns: &'t [Column],
}

impl Table<'_, '_> {
    /// One row: a value and its text for each column, in order.
    pub fn row(&self, cells: &[(Value<'_>, &str)]) {
        self.styled_row(Style::Normal, cells);
    }

    /// One row in a style.
    pub fn styled_row(&self, style: Style, cells: &[(Value<'_>, &str)]) {
        self.out.record("", |out| {
            for (index, (column, (value, shown))) in self.columns.iter().zip(cells).enumerate() {
                let mut padded = String::new();
                column.pad(&mut padded, shown, index + 1 == self.columns.len());
                out.styled_field(column.key, *value, style, &padded);
            }
            out.end_line();
        });
    }

    /// The stream, for lines between the rows.
    pub fn out(&self) -> &Out<'_> {
        &self.out
    }
}

impl Value<'_> {
    /// As it crosses the ABI.
    pub(crate) fn to_abi(self) -> (u32, u64) {
        match self {
            Value::Null => (abi::value::NULL, 0),
            Value::Bool(yes) => (abi::value::BOOL, u64::from(yes)),
            Value::UInt(number) => (abi::value::UINT, number),
            Value::Int(number) => (abi::value::INT, number as u64),
            Value::Hex(number) => (abi::value::HEX, number),
            Value::Time(number) => (abi::value::TIME, number),
            Value::Duration(number) => (abi::value::DURATION, number),
            Value::Text(_) => (abi::value::TEXT, 0),
        }
    }

    /// From the parts of an [`abi::FieldValue`], its text checked; unknown tags are [`Value::Null`].
    pub fn from_abi(tag: u32, number: u64, text: &str) -> Value<'_> {
        match tag {
            abi::value::BOOL => Value::Bool(number != 0),
            abi::value::UINT => Value::UInt(number),
            abi::value::INT => Value::Int(number as i64),
            abi::value::HEX => Value::Hex(number),
            abi::value::TIME => Value::Time(number),
            abi::value::DURATION => Value::Duration(number),
            abi::value::TEXT => Value::Text(text),
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn lines_move_right() {
        let log = Recorder::default();
        Out::new(&log).indented(4, |out| {
            out.text("a ");
            out.name("b", "b\nc");
            out.end_line();
            out.end_line();
            out.link("d", "x");
            out.text("e");
        });
        // The recorder leaves out what can be clicked.
        assert_eq!(log.0.into_inner(), "    a b\n    c\n\n    e");
    }

    #[derive(Default)]
    struct Recorder(RefCell<String>);

    impl Sink for Recorder {
        fn emit(&self, event: &Event<'_>) {
            let mut log = self.0.borrow_mut();
            match event {
                Event::Text { text, .. } | Event::Field { shown: text, .. } => log.push_str(text),
                _ => {}
            }
        }
    }

    #[test]
    fn a_table_lines_up() {
        let recorder = Recorder::default();
        let columns = [
            Column::left("name", "Name", 6),
            Column::right("size", "Size", 5),
            Column::left("path", "Path", 9),
        ];
        Out::new(&recorder).table("modules", &columns, |table| {
            table.row(&[(Value::Text("nt"), "nt"), (Value::UInt(10), "10"), (Value::Text("p"), "p")]);
            table.row(&[
                (Value::Text("longname"), "longname"),
                (Value::UInt(7), "7"),
                (Value::Text("q"), "q"),
            ]);
        });
        assert_eq!(recorder.0.into_inner(), "Name    Size Path\nnt        10 p\nlongname     7 q\n");
    }
}
