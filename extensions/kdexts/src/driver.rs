//! `!drvobj`: a driver with its devices and dispatch routines.

use crate::io::{Kind, View, word};
use crate::locks::{problems, symbol};
use kd_sdk::nt::io;
use kd_sdk::output::Style;
use kd_sdk::prelude::*;
use std::collections::HashSet;

/// Devices of a driver, and those that are shown in detail.
const MOST_DEVICES: usize = 0x1000;
const MOST_DETAILED: usize = 64;
/// Flags of the command.
const DEVICES: u64 = 1;
const ROUTINES: u64 = 2;
const DETAILS: u64 = 4;

/// Runs the command.
pub fn drvobj(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let what = word(&mut args, "!drvobj")?;
    let flags = if args.is_empty() { DEVICES } else { session.evaluate(args.rest())? };
    let view = View::new(session)?;
    view.show_driver(view.resolve(what, Kind::Driver)?, flags)
}

impl View<'_> {
    fn show_driver(&self, at: Va, flags: u64) -> Result<()> {
        let out = self.out;
        let facts = io::driver(self.session, at)?;
        let read = self.driver.at(at);
        out.text("Driver object (");
        self.link("driver", at, "!object");
        out.line(") is for:");
        out.field("name", Value::Text(&facts.name), &format!(" {}", facts.name));
        let image = facts.image.as_deref();
        let shown = image.map_or("  (its image is not loaded)".to_owned(), |image| format!("  ({image})"));
        out.field("image", image.map_or(Value::Null, Value::Text), &shown);
        out.end_line();
        let (start, size) = (read.pointer("DriverStart")?, read.u64("DriverSize")?);
        out.field("start", Value::Hex(start.0), &format!(" DriverStart {}", self.plain(start)));
        out.field("size", Value::Hex(size), &format!("  DriverSize {size:x}"));
        out.end_line();
        if flags & DEVICES != 0 {
            self.devices(at, flags & DETAILS != 0)?;
        }
        if flags & ROUTINES != 0 {
            self.routines(at)?;
        }
        Ok(())
    }

    fn devices(&self, driver: Va, details: bool) -> Result<()> {
        let out = self.out;
        out.end_line();
        out.line("Device Object list:");
        let (mut at, mut seen, mut list) =
            (self.driver.at(driver).pointer("DeviceObject")?, HashSet::new(), Vec::new());
        let mut wrong = None;
        while !at.is_null() {
            self.session.check_interrupt()?;
            if !seen.insert(at) || seen.len() > MOST_DEVICES {
                wrong = Some(format!("the list of devices comes back to {}", self.plain(at)));
                break;
            }
            if let Err(error) = io::check_device(self.session, at) {
                wrong = Some(format!("{}: {error}", self.plain(at)));
                break;
            }
            list.push(at);
            at = self.device.at(at).pointer("NextDevice")?;
        }
        out.list("devices", |out| {
            for (index, &device) in list.iter().enumerate() {
                out.record("", |out| {
                    if details && index < MOST_DETAILED {
                        out.end_line();
                        return self.show_device(device);
                    }
                    self.link("device", device, "!devobj");
                    self.name(device, "  ");
                    out.end_line();
                    Ok(())
                })?;
            }
            Ok::<(), Error>(())
        })?;
        if list.is_empty() {
            out.line("    none");
        }
        problems(&out, "", wrong.as_slice());
        Ok(())
    }

    fn routines(&self, at: Va) -> Result<()> {
        let out = self.out;
        let read = self.driver.at(at);
        let mut wrong = Vec::new();
        out.end_line();
        let extension = read.pointer("DriverExtension")?;
        let types = self.session.types();
        let add_device =
            types.find("nt!_DRIVER_EXTENSION").and_then(|kind| kind.at(extension).pointer("AddDevice"));
        let pointer = u64::from(self.session.target().pointer_size());
        let table = read.address("MajorFunction")?;
        out.list("routines", |out| {
            self.routine("DriverEntry:", read.pointer("DriverInit")?, &mut wrong);
            self.routine("DriverStartIo:", read.pointer("DriverStartIo")?, &mut wrong);
            self.routine("DriverUnload:", read.pointer("DriverUnload")?, &mut wrong);
            self.routine("AddDevice:", add_device.unwrap_or(Va::NULL), &mut wrong);
            out.end_line();
            out.line("Dispatch routines:");
            for major in 0..28u8 {
                let routine = self.session.memory().pointer(table.add(u64::from(major) * pointer))?;
                let name = format!("[{major:02x}] {}", io::major_name(major).unwrap_or("?"));
                self.routine(&name, routine, &mut wrong);
            }
            Ok::<(), Error>(())
        })?;
        out.list("suspicious", |out| {
            for text in &wrong {
                out.styled_field("", Value::Text(text), Style::Bad, &format!("*** {text}"));
                out.end_line();
            }
        });
        Ok(())
    }

    fn routine(&self, name: &str, at: Va, wrong: &mut Vec<String>) {
        let text = symbol(self.session, at);
        self.out.record("", |out| {
            out.field("name", Value::Text(name), &format!("{name:40}"));
            out.field("address", Value::Hex(at.0), &self.plain(at));
            out.field("symbol", text.as_deref().map_or(Value::Null, Value::Text), "");
            match &text {
                Some(text) => out.link(&format!("  {text}"), &format!("u {}", self.plain(at))),
                None if at.is_null() => {}
                None => {
                    out.styled(Style::Bad, "  in no loaded module");
                    wrong.push(format!("{name} leads to {}, which is in no loaded module", self.plain(at)));
                }
            }
            out.end_line();
        });
    }
}
