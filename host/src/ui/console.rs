//! Events as text: with ANSI styles for a terminal, plain for files, pipes and logs. Streams; keeps only whether a line
//! is open. This is the one place where control characters are taken out of text: names and comments come from dumps and
//! must not steer the terminal.

use anstyle::{AnsiColor, Style as Ansi};
use kd_sdk::output::{Event, Severity, Style};
use std::borrow::Cow;
use std::io::{self, Write};

/// A renderer of text.
#[derive(Debug, Default)]
pub struct Text {
    color: bool,
    /// Something stands on the current line.
    open: bool,
}

impl Text {
    /// With ANSI styles or without.
    pub fn new(color: bool) -> Text {
        Text { color, open: false }
    }

    /// Writes what an event shows to people.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn event(&mut self, event: &Event<'_>, out: &mut dyn Write) -> io::Result<()> {
        match *event {
            Event::Begin { .. } | Event::End => Ok(()),
            Event::Text { style, text } | Event::Field { style, shown: text, .. } => {
                self.styled(ansi(style), text, out)
            }
            Event::Link { text, .. } => self.styled(Ansi::new(), text, out),
            Event::Message { severity, text } => {
                self.end_line(out)?;
                let (style, label) = label(severity);
                self.styled(style, label, out)?;
                self.styled(Ansi::new(), text, out)?;
                self.end_line(out)
            }
        }
    }

    /// Ends the line if one is open.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn end_line(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if std::mem::take(&mut self.open) { out.write_all(b"\n") } else { Ok(()) }
    }

    fn styled(&mut self, style: Ansi, text: &str, out: &mut dyn Write) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.open = !text.ends_with('\n');
        let text = sanitized(text);
        if !self.color || style.is_plain() {
            return out.write_all(text.as_bytes());
        }
        // The end of a line stays outside of the style, so that no background or underline runs on.
        let body = text.trim_end_matches('\n');
        let tail = text.get(body.len()..).unwrap_or_default();
        write!(out, "{style}{body}{style:#}{tail}")
    }
}

/// Style and label of a message.
fn label(severity: Severity) -> (Ansi, &'static str) {
    match severity {
        Severity::Error => (AnsiColor::Red.on_default().bold(), "error: "),
        Severity::Warning => (AnsiColor::Yellow.on_default().bold(), "warning: "),
        Severity::Verbose => (Ansi::new(), ""),
    }
}

/// The look of a style. Colours of the terminal's own palette, so that dark and light themes both work.
fn ansi(style: Style) -> Ansi {
    match style {
        Style::Normal => Ansi::new(),
        Style::Heading => Ansi::new().bold(),
        Style::Address => AnsiColor::Cyan.on_default(),
        Style::Symbol => AnsiColor::Green.on_default(),
        Style::Bad => AnsiColor::Red.on_default().bold(),
        Style::Emphasis => AnsiColor::Yellow.on_default().bold(),
        Style::Dim => Ansi::new().dimmed(),
    }
}

/// Text that cannot steer a terminal: control characters (C0 but tab and newline, DEL, C1) and characters that reorder
/// the line become a dot, one for one, so that columns stay. `\r\n` becomes `\n`.
pub fn sanitized(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' if rest.peek() == Some(&'\n') => {}
            c if is_unsafe(c) => clean.push('.'),
            c => clean.push(c),
        }
    }
    Cow::Owned(clean)
}

fn is_unsafe(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{feff}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kd_sdk::output::{Shape, Value};

    fn render(color: bool, events: &[Event<'_>]) -> String {
        let mut text = Text::new(color);
        let mut out = Vec::new();
        for event in events {
            text.event(event, &mut out).unwrap();
        }
        text.end_line(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn plain(text: &str) -> Event<'_> {
        Event::Text { style: Style::Normal, text }
    }

    #[test]
    fn shows_text_fields_and_links() {
        let events = [
            plain("Bugcheck code "),
            Event::Begin { shape: Shape::Record, key: "bugcheck" },
            Event::Field { key: "code", value: Value::Hex(0x7e), style: Style::Bad, shown: "0000007E" },
            Event::Field { key: "hidden", value: Value::UInt(1), style: Style::Normal, shown: "" },
            Event::End,
            plain(" "),
            Event::Link { text: "!analyze -v", command: "!analyze -v" },
        ];
        assert_eq!(render(false, &events), "Bugcheck code 0000007E !analyze -v\n");
    }

    #[test]
    fn a_message_has_its_own_line() {
        let events = [
            plain("half"),
            Event::Message { severity: Severity::Warning, text: "careful" },
            Event::Message { severity: Severity::Error, text: "not captured in this dump\n" },
            Event::Message { severity: Severity::Verbose, text: "loaded" },
            plain("rest\n"),
        ];
        assert_eq!(
            render(false, &events),
            "half\nwarning: careful\nerror: not captured in this dump\nloaded\nrest\n"
        );
    }

    #[test]
    fn styles_end_before_the_line_does() {
        let text = render(true, &[Event::Text { style: Style::Heading, text: "Name\n" }]);
        assert_eq!(text, "\u{1b}[1mName\u{1b}[0m\n");
        assert_eq!(render(false, &[Event::Text { style: Style::Heading, text: "Name\n" }]), "Name\n");
    }

    #[test]
    fn a_dump_cannot_steer_the_terminal() {
        let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\r\nx\ry\u{202e}z\tt\u{7f}\u{0}";
        for color in [false, true] {
            let text = render(color, &[plain(evil)]);
            assert_eq!(text, ".]0;owned..2J\nx.y.z\tt..\n");
        }
        assert!(matches!(sanitized("plain ünïcödé\n\t"), Cow::Borrowed(_)));
    }
}
