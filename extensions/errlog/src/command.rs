//! `!errlog`: output.

use crate::model::Names;
use kd_sdk::nt::error_log::{self, Entry};
use kd_sdk::nt::{io, status, string, time};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// Width of the labels.
const LABEL: usize = 14;
/// Major functions whose requests carry an I/O control code.
const CONTROL: [u8; 3] = [13, 14, 15];

/// Runs the command.
pub fn errlog(session: &Session<'_>, args: &str) -> Result<()> {
    let out = session.out();
    let mut page = Page { session, out, names: Names::new(session) };
    if !args.trim().is_empty() {
        let at = Va(session.evaluate(args)?);
        let entry = error_log::read(session, at)?;
        out.list("entries", |_| page.entry(at, &entry));
        return Ok(());
    }
    let found = error_log::entries(session).map_err(|error| match error {
        Error::Unreadable { .. } => {
            Error::Other(format!("the list of error log entries: {}", session.explain(&error)))
        }
        other => other,
    })?;
    let mut wrong = found.problems.clone();
    if !found.entries.is_empty() {
        out.styled(Style::Heading, "I/O errors not yet in the event log, oldest first:");
        out.end_line();
        out.end_line();
    }
    out.list("entries", |_| {
        for &at in &found.entries {
            session.check_interrupt()?;
            match error_log::read(session, at) {
                Ok(entry) => page.entry(at, &entry),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => wrong.push(format!("entry {}: {}", page.show(at), session.explain(&error))),
            }
        }
        Ok(())
    })?;
    let count = found.entries.len();
    let text = match (count, wrong.is_empty()) {
        (0, true) => "No entries: every logged I/O error had been written to the event log.".to_owned(),
        (0, false) => "No entry could be reached.".to_owned(),
        (1, _) => "1 entry".to_owned(),
        (count, _) => format!("{count} entries"),
    };
    out.field("count", Value::UInt(count as u64), &text);
    out.end_line();
    out.data("complete", Value::Bool(wrong.is_empty()));
    problems(&out, "", &wrong);
    Ok(())
}

fn problems(out: &Out<'_>, indent: &str, list: &[String]) {
    out.list("problems", |out| {
        for problem in list {
            out.styled_field("", Value::Text(problem), Style::Bad, &format!("{indent}*** {problem}"));
            out.end_line();
        }
    });
}

struct Page<'a> {
    session: &'a Session<'a>,
    out: Out<'a>,
    names: Names<'a>,
}

impl Page<'_> {
    fn show(&self, va: Va) -> String {
        self.session.target().show(va)
    }

    fn label(&self, label: &str) {
        self.out.text(&format!("    {label:LABEL$}"));
    }

    fn entry(&mut self, at: Va, entry: &Entry) {
        let out = self.out;
        out.record("", |out| {
            out.text("Entry ");
            out.styled_field("entry", Value::Hex(at.0), Style::Address, &self.show(at));
            let when = if entry.time == 0 { "no time".to_owned() } else { time::session_time(entry.time) };
            let value = if entry.time == 0 { Value::Null } else { Value::Time(entry.time) };
            out.field("time", value, &format!("  {when}"));
            out.end_line();
            self.driver(entry);
            self.device(entry);
            self.error(entry);
            self.request(entry);
            self.extras(entry);
            problems(out, "    ", &entry.problems);
            out.end_line();
        });
    }

    fn driver(&mut self, entry: &Entry) {
        let out = self.out;
        let of_device = if entry.driver.is_null() { self.names.driver_of(entry.device) } else { None };
        let at = of_device.unwrap_or(entry.driver);
        self.label("Driver");
        if at.is_null() {
            for key in ["driver", "driver_name", "image"] {
                out.data(key, Value::Null);
            }
            out.line("not said");
            return;
        }
        let driver = self.names.driver(at);
        out.data("driver", Value::Hex(at.0));
        out.data("driver_name", driver.name.name().map_or(Value::Null, Value::Text));
        out.data("image", driver.image.as_deref().map_or(Value::Null, Value::Text));
        out.link(&self.show(at), &format!("!drvobj {:x}", at.0));
        out.text("  ");
        out.styled(
            if driver.name.name().is_some() { Style::Symbol } else { Style::Bad },
            &driver.name.show(),
        );
        if let Some(image) = &driver.image {
            out.text(&format!("  ({image})"));
        }
        out.end_line();
    }

    fn device(&mut self, entry: &Entry) {
        let out = self.out;
        self.label("Device");
        if entry.device.is_null() {
            out.data("device", Value::Null);
            out.data("device_name", Value::Null);
            out.line("none: the driver logged for itself");
            return;
        }
        let name = self.names.device(entry.device);
        out.data("device", Value::Hex(entry.device.0));
        out.data("device_name", name.name().map_or(Value::Null, Value::Text));
        out.link(&self.show(entry.device), &format!("!devobj {:x}", entry.device.0));
        out.line(&format!("  {}", name.show()));
    }

    fn error(&self, entry: &Entry) {
        let out = self.out;
        let event = status::describe_event(entry.error_code);
        self.label("Error");
        out.styled_field(
            "error_code",
            Value::Hex(entry.error_code.into()),
            Style::Bad,
            &format!("{:08x}", entry.error_code),
        );
        out.field(
            "event_id",
            Value::UInt((entry.error_code & 0xffff).into()),
            &format!("  event {}", entry.error_code & 0xffff),
        );
        self.named("error_name", event.or_else(|| status::describe(entry.error_code)));
        self.label("Final status");
        let code = entry.final_status;
        out.field("final_status", Value::Hex(code.into()), &format!("{code:08x}"));
        self.named("status_name", status::describe(code));
    }

    /// Name and meaning, if known, and the end of the line.
    fn named(&self, key: &str, known: Option<(&str, &str)>) {
        match known {
            Some((name, meaning)) => {
                self.out.field(key, Value::Text(name), &format!("  {name}: {meaning}"));
            }
            None => self.out.data(key, Value::Null),
        }
        self.out.end_line();
    }

    fn request(&self, entry: &Entry) {
        let out = self.out;
        let major = entry.major_function;
        let name = io::major_name(major);
        self.label("Request");
        out.data("major_name", name.map_or(Value::Null, Value::Text));
        let shown = name.map_or(format!("major function {major:x}"), |name| format!("{name} ({major:x})"));
        out.field("major_function", Value::UInt(major.into()), &shown);
        out.field(
            "retry_count",
            Value::UInt(entry.retry_count.into()),
            &format!(", {} retries", entry.retry_count),
        );
        out.field("sequence", Value::UInt(entry.sequence.into()), &format!(", sequence {}", entry.sequence));
        out.field(
            "unique_error",
            Value::Hex(entry.unique_error.into()),
            &format!(", unique value {:x}", entry.unique_error),
        );
        out.data("category", Value::UInt(entry.category.into()));
        out.end_line();
        out.data("device_offset", Value::Hex(entry.device_offset));
        if entry.device_offset != 0 {
            self.label("Device offset");
            out.line(&format!("{:x}", entry.device_offset));
        }
        out.data("io_control_code", Value::Hex(entry.io_control.into()));
        if entry.io_control != 0 {
            self.label("IOCTL");
            let parts = if CONTROL.contains(&major) {
                io::control_code(entry.io_control)
            } else {
                "(the request carries none)".to_owned()
            };
            out.line(&format!("{:x}  {parts}", entry.io_control));
        }
    }

    fn extras(&self, entry: &Entry) {
        let out = self.out;
        out.list("dump_data", |out| {
            for (index, word) in entry.dump_data.iter().enumerate() {
                if index % 8 == 0 {
                    self.label(if index == 0 { "Data" } else { "" });
                }
                out.field("", Value::Hex((*word).into()), &format!("{word:08x} "));
                if index % 8 == 7 || index + 1 == entry.dump_data.len() {
                    out.end_line();
                }
            }
        });
        out.list("strings", |out| {
            for (index, text) in entry.strings.iter().enumerate() {
                self.label(if index == 0 { "Strings" } else { "" });
                out.field("", Value::Text(text), &format!("\"{}\"", string::one_line(text)));
                out.end_line();
            }
        });
    }
}
