//! A command's text in hand: a [`Sink`] that keeps plain text, for extensions that run a command and read what it says.

use super::console::Text;
use kd_sdk::output::{Event, Severity, Sink};
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// Bytes a capture keeps; what comes later is dropped and [`Capture::is_truncated`] says so.
pub const CAPTURE_LIMIT: usize = 64 << 20;

/// Keeps what people would see, without styles; verbose messages are left out.
#[derive(Debug, Default)]
pub struct Capture {
    state: Mutex<(Text, Bounded)>,
}

impl Capture {
    /// An empty one.
    pub fn new() -> Capture {
        Capture::default()
    }

    /// The text so far.
    pub fn into_text(self) -> String {
        let (_, kept) = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8(kept.bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }

    /// Text was dropped.
    pub fn is_truncated(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.truncated
    }
}

impl Sink for Capture {
    fn emit(&self, event: &Event<'_>) {
        if let Event::Message { severity: Severity::Verbose, .. } = event {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, kept) = &mut *state;
        // Writing to memory does not fail.
        let _ = text.event(event, kept);
    }
}

#[derive(Debug, Default)]
struct Bounded {
    bytes: Vec<u8>,
    truncated: bool,
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.truncated || self.bytes.len().saturating_add(data.len()) > CAPTURE_LIMIT {
            self.truncated = true;
        } else {
            self.bytes.extend_from_slice(data);
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kd_sdk::output::{Out, Value};

    #[test]
    fn keeps_text_without_styles() {
        let capture = Capture::new();
        let out = Out::new(&capture);
        out.field("a", Value::Hex(1), "1");
        out.verbose("quiet");
        out.error("no");
        assert!(!capture.is_truncated());
        assert_eq!(capture.into_text(), "1\nerror: no\n");
    }

    #[test]
    fn is_bounded() {
        let capture = Capture::new();
        let block = "x".repeat(CAPTURE_LIMIT / 2);
        for _ in 0..3 {
            Out::new(&capture).text(&block);
        }
        assert!(capture.is_truncated());
        assert_eq!(capture.into_text().len(), CAPTURE_LIMIT);
    }
}
