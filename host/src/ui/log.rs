//! The log file: what is typed and shown, as plain UTF-8 text, whatever stdout shows.

use super::console::Text;
use kd_sdk::output::Event;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// An open log.
pub struct Log {
    path: PathBuf,
    file: BufWriter<File>,
    text: Text,
    error: Option<io::Error>,
}

impl Log {
    /// Makes or empties the file, or goes on at its end.
    pub fn open(path: &Path, append: bool) -> io::Result<Log> {
        let mut options = OpenOptions::new();
        options.create(true);
        let file =
            if append { options.append(true) } else { options.write(true).truncate(true) }.open(path)?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        Ok(Log { path, file: BufWriter::new(file), text: Text::new(false), error: None })
    }

    /// The file, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes an event.
    pub fn event(&mut self, event: &Event<'_>) {
        let written = self.text.event(event, &mut self.file);
        self.note(written);
    }

    /// Writes a whole line, after ending the one that is open.
    pub fn line(&mut self, line: &str) {
        let written = self.text.end_line(&mut self.file).and_then(|()| writeln!(self.file, "{line}"));
        self.note(written);
    }

    /// Ends the line and writes everything out.
    pub fn flush(&mut self) {
        let written = self.text.end_line(&mut self.file).and_then(|()| self.file.flush());
        self.note(written);
    }

    /// Why the file could not be written, once.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn note(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.error.get_or_insert(error);
        }
    }
}
