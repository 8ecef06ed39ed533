//! `!drvobj`, `!devobj`, `!devstack`.

use crate::locks::{plain, problems, symbol};
use kd_sdk::nt::directory::Directories;
use kd_sdk::nt::object::Objects;
use kd_sdk::nt::{io, string};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;
use kd_sdk::types::Type;
use std::collections::HashSet;

/// Devices of a driver, and of a stack.
const MOST_DEVICES: usize = 0x1000;
const MOST_STACK: usize = 64;
/// Flags of `!drvobj`.
const DEVICES: u64 = 1;
const ROUTINES: u64 = 2;
const DETAILS: u64 = 4;

/// `_DEVICE_OBJECT.Flags`, by the names of wdm.h.
#[rustfmt::skip]
const FLAGS: [(u32, &str); 20] = [
    (0x1, "DO_VERIFY_VOLUME"), (0x2, "DO_UNLOAD_PENDING"), (0x4, "DO_BUFFERED_IO"), (0x8, "DO_EXCLUSIVE"),
    (0x10, "DO_DIRECT_IO"), (0x20, "DO_MAP_IO_BUFFER"), (0x40, "DO_DEVICE_HAS_NAME"), (0x80, "DO_DEVICE_INITIALIZING"),
    (0x100, "DO_SYSTEM_BOOT_PARTITION"), (0x200, "DO_LONG_TERM_REQUESTS"), (0x400, "DO_NEVER_LAST_DEVICE"),
    (0x800, "DO_SHUTDOWN_REGISTERED"), (0x1000, "DO_BUS_ENUMERATED_DEVICE"), (0x2000, "DO_POWER_PAGABLE"),
    (0x4000, "DO_POWER_INRUSH"), (0x8000, "DO_POWER_NOOP"), (0x1_0000, "DO_LOW_PRIORITY_FILESYSTEM"),
    (0x2_0000, "DO_XIP"), (0x8_0000, "DO_DEVICE_TO_BE_RESET"), (0x1000_0000, "DO_DAX_VOLUME"),
];

struct View<'a> {
    session: &'a Session<'a>,
    out: Out<'a>,
    objects: Objects<'a>,
    directories: Directories<'a>,
    driver: Type<'a>,
    device: Type<'a>,
    extension: Type<'a>,
}

impl<'a> View<'a> {
    fn new(session: &'a Session<'a>) -> Result<View<'a>> {
        let find = |name: &str| session.types().find(name);
        Ok(View {
            session,
            out: session.out(),
            objects: Objects::new(session)?,
            directories: Directories::new(session)?,
            driver: find("nt!_DRIVER_OBJECT")?,
            device: find("nt!_DEVICE_OBJECT")?,
            extension: find("nt!_DEVOBJ_EXTENSION")?,
        })
    }

    fn plain(&self, va: Va) -> String {
        plain(self.session, va)
    }

    /// The object that a word means: by path or name first, as KD does, then as an expression.
    fn resolve(&self, word: &str, folders: &[&str], kind: &str) -> Result<Va> {
        let folders = if word.starts_with('\\') { &[""] } else { folders };
        for folder in folders {
            if let Ok(object) = self.directories.find(&self.objects, &format!("{folder}{word}"))
                && *object.kind_name == *kind
            {
                return Ok(object.body);
            }
        }
        if word.starts_with('\\') {
            return Err(Error::NotFound(format!("there is no {} called {word}", kind.to_lowercase())));
        }
        self.session.evaluate(word).map(Va).map_err(|error| match error {
            Error::Interrupted => error,
            error => Error::NotFound(format!("no {} is called {word}, and {error}", kind.to_lowercase())),
        })
    }

    /// The name of an object, or nothing.
    fn name(&self, at: Va) -> String {
        let name = self.objects.at(at).and_then(|object| self.objects.name(&object));
        name.ok().flatten().map_or(String::new(), |name| string::one_line(&name.text))
    }

    fn driver_name(&self, at: Va) -> String {
        if at.is_null() {
            return String::new();
        }
        io::driver(self.session, at).map_or_else(|error| format!("({error})"), |driver| driver.name)
    }

    fn link(&self, key: &str, at: Va, command: &str) {
        self.out.data(key, Value::Hex(at.0));
        self.out.link(&self.plain(at), &format!("{command} {}", self.plain(at)));
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
                    if details && index < MOST_STACK {
                        out.end_line();
                        return self.show_device(device);
                    }
                    self.link("device", device, "!devobj");
                    let name = self.name(device);
                    out.field("name", Value::Text(&name), &format!("  {name}"));
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

    fn show_device(&self, at: Va) -> Result<()> {
        let out = self.out;
        io::check_device(self.session, at)?;
        let read = self.device.at(at);
        out.text("Device object (");
        self.link("device", at, "!object");
        out.line(") is for:");
        let name = self.name(at);
        out.field(
            "name",
            if name.is_empty() { Value::Null } else { Value::Text(&name) },
            &format!(" {name}"),
        );
        let driver = read.pointer("DriverObject")?;
        let driver_name = self.driver_name(driver);
        out.field("driver_name", Value::Text(&driver_name), &format!(" {driver_name} DriverObject "));
        self.link("driver", driver, "!drvobj");
        out.end_line();
        let irp = read.pointer("CurrentIrp")?;
        out.text("Current Irp ");
        if irp.is_null() {
            out.field("current_irp", Value::Null, "00000000");
        } else {
            self.link("current_irp", irp, "!irp");
        }
        let references = read.i64("ReferenceCount")?;
        out.field("references", Value::Int(references), &format!(" RefCount {references}"));
        let kind = read.u64("DeviceType")?;
        out.field("type", Value::Hex(kind), &format!(" Type {kind:08x}"));
        let flags = read.u64("Flags")?;
        out.field("flags", Value::Hex(flags), &format!(" Flags {flags:08x}"));
        out.list("flag_names", |out| {
            for (_, name) in FLAGS.iter().filter(|(bit, _)| flags & u64::from(*bit) != 0) {
                out.field("", Value::Text(name), &format!(" {name}"));
            }
        });
        out.end_line();
        let extension = read.pointer("DeviceExtension")?;
        out.field("extension", Value::Hex(extension.0), &format!("DevExt {}", self.plain(extension)));
        let more = read.pointer("DeviceObjectExtension")?;
        out.text(&format!(
            "  DevObjExt {}  SecurityDescriptor {}",
            self.plain(more),
            self.plain(read.pointer("SecurityDescriptor")?)
        ));
        out.end_line();
        let characteristics = read.u64("Characteristics")?;
        out.field(
            "characteristics",
            Value::Hex(characteristics),
            &format!("Characteristics ({characteristics:08x})"),
        );
        out.end_line();
        let below = if more.is_null() {
            Va::NULL
        } else {
            self.extension.at(more).pointer("AttachedTo").unwrap_or(Va::NULL)
        };
        for (key, label, other) in [
            ("attached_device", "AttachedDevice (Upper) ", read.pointer("AttachedDevice")?),
            ("attached_to", "AttachedTo (Lower) ", below),
        ] {
            if other.is_null() {
                out.data(key, Value::Null);
                continue;
            }
            out.text(label);
            self.link(key, other, "!devobj");
            let driver =
                io::driver_of(self.session, other).map_or(String::new(), |driver| self.driver_name(driver));
            out.line(&format!(" {driver}"));
        }
        let busy = read.u64("DeviceQueue.Busy")? != 0;
        out.field(
            "queue_busy",
            Value::Bool(busy),
            if busy { "Device queue is busy." } else { "Device queue is not busy." },
        );
        out.end_line();
        Ok(())
    }

    /// The stack that a device is in, topmost first, and what is wrong with its links.
    fn stack(&self, at: Va) -> Result<(Vec<Va>, Vec<String>)> {
        let (mut list, mut wrong) = (vec![at], Vec::new());
        let mut seen = HashSet::from([at]);
        let above = |device: Va| self.device.at(device).pointer("AttachedDevice");
        let below = |device: Va| match self.device.at(device).pointer("DeviceObjectExtension")? {
            Va::NULL => Ok(Va::NULL),
            more => self.extension.at(more).pointer("AttachedTo"),
        };
        for up in [true, false] {
            let mut device = at;
            loop {
                self.session.check_interrupt()?;
                let next = if up { above(device) } else { below(device) };
                let next = next.and_then(|next| match next {
                    Va::NULL => Ok(next),
                    next => io::check_device(self.session, next).map(|()| next),
                });
                device = match next {
                    Ok(Va::NULL) => break,
                    Ok(next) => next,
                    Err(Error::Interrupted) => return Err(Error::Interrupted),
                    Err(error) => {
                        wrong.push(format!(
                            "{} {}: {error}",
                            if up { "above" } else { "below" },
                            self.plain(device)
                        ));
                        break;
                    }
                };
                if !seen.insert(device) || list.len() >= MOST_STACK {
                    wrong.push(format!("the stack comes back to {}", self.plain(device)));
                    break;
                }
                if up {
                    list.insert(0, device);
                } else {
                    list.push(device);
                }
            }
        }
        Ok((list, wrong))
    }

    fn show_stack(&self, at: Va) -> Result<()> {
        let out = self.out;
        io::check_device(self.session, at)?;
        let (list, wrong) = self.stack(at)?;
        let width = if self.session.target().pointer_size() == 4 { 8 } else { 16 };
        out.styled(
            Style::Heading,
            &format!("  {:width$}  {:18} {:width$}  ObjectName", "!DevObj", "!DrvObj", "!DevExt"),
        );
        out.end_line();
        out.list("devices", |out| {
            for &device in &list {
                out.record("", |out| {
                    out.field("asked", Value::Bool(device == at), if device == at { "> " } else { "  " });
                    self.link("device", device, "!devobj");
                    let driver = io::driver_of(self.session, device).unwrap_or(Va::NULL);
                    let driver_name = self.driver_name(driver);
                    out.data("driver", Value::Hex(driver.0));
                    out.data("driver_name", Value::Text(&driver_name));
                    out.text("  ");
                    out.link(&format!("{driver_name:18}"), &format!("!drvobj {}", self.plain(driver)));
                    let extension = self.device.at(device).pointer("DeviceExtension")?;
                    out.field("extension", Value::Hex(extension.0), &format!(" {}", self.plain(extension)));
                    let name = self.name(device);
                    out.field("name", Value::Text(&name), &format!("  {name}"));
                    out.end_line();
                    Ok::<(), Error>(())
                })?;
            }
            Ok::<(), Error>(())
        })?;
        problems(&out, "", &wrong);
        match list.last() {
            Some(&bottom) => self.device_node(bottom),
            None => Ok(()),
        }
    }

    /// The device node of the lowest device.
    fn device_node(&self, bottom: Va) -> Result<()> {
        let out = self.out;
        let more = self.device.at(bottom).pointer("DeviceObjectExtension")?;
        if more.is_null() {
            return Ok(());
        }
        let node = self.extension.at(more).pointer("DeviceNode")?;
        if node.is_null() {
            return Ok(());
        }
        let kind = self.session.types().find("nt!_DEVICE_NODE")?;
        let text = |field: &str| {
            let text = kind.at(node).address(field).and_then(|at| string::unicode(self.session.memory(), at));
            text.map_or_else(|error| format!("({error})"), |text| string::one_line(&text))
        };
        out.record("device_node", |out| {
            out.field("node", Value::Hex(node.0), &format!("!DevNode {} :", self.plain(node)));
            out.end_line();
            let (instance, service) = (text("InstancePath"), text("ServiceName"));
            out.field("instance", Value::Text(&instance), &format!("  DeviceInst is \"{instance}\""));
            out.end_line();
            out.field("service", Value::Text(&service), &format!("  ServiceName is \"{service}\""));
            out.end_line();
        });
        Ok(())
    }
}

/// The word that a command needs.
fn word<'t>(args: &mut Args<'t>, command: &str) -> Result<&'t str> {
    args.word().ok_or_else(|| Error::Usage(format!("{command} needs an ADDRESS or a NAME")))
}

/// Runs `!drvobj`.
pub fn drvobj(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let what = word(&mut args, "!drvobj")?;
    let flags = if args.is_empty() { DEVICES } else { session.evaluate(args.rest())? };
    let view = View::new(session)?;
    view.show_driver(view.resolve(what, &["\\Driver\\", "\\FileSystem\\"], "Driver")?, flags)
}

/// Runs `!devobj`.
pub fn devobj(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let what = word(&mut args, "!devobj")?;
    args.finish()?;
    let view = View::new(session)?;
    view.show_device(view.resolve(what, &["\\Device\\"], "Device")?)
}

/// Runs `!devstack`.
pub fn devstack(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let what = word(&mut args, "!devstack")?;
    args.finish()?;
    let view = View::new(session)?;
    view.show_stack(view.resolve(what, &["\\Device\\"], "Device")?)
}
