//! What `!drvobj`, `!devobj` and `!devstack` share: how a driver or a device is found and named.

use crate::locks::plain;
use kd_sdk::nt::directory::Directories;
use kd_sdk::nt::object::Objects;
use kd_sdk::nt::{io, string};
use kd_sdk::prelude::*;
use kd_sdk::types::Type;

/// Reads drivers and devices; one for a command.
pub struct View<'a> {
    pub session: &'a Session<'a>,
    pub out: Out<'a>,
    objects: Objects<'a>,
    directories: Directories<'a>,
    pub driver: Type<'a>,
    pub device: Type<'a>,
    pub extension: Type<'a>,
}

/// What a command looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Driver,
    Device,
}

impl Kind {
    /// Name of the type of objects, what to call it, and where names without a path are looked for.
    fn words(self) -> (&'static str, &'static str, &'static [&'static str]) {
        match self {
            Kind::Driver => ("Driver", "driver", &["\\Driver\\", "\\FileSystem\\"]),
            Kind::Device => ("Device", "device", &["\\Device\\"]),
        }
    }
}

impl<'a> View<'a> {
    pub fn new(session: &'a Session<'a>) -> Result<View<'a>> {
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

    pub fn plain(&self, va: Va) -> String {
        plain(self.session, va)
    }

    /// The object that a word means: by path or name first, as KD does, then as an expression.
    pub fn resolve(&self, word: &str, kind: Kind) -> Result<Va> {
        let (type_name, what, folders) = kind.words();
        let whole = word.starts_with('\\');
        let folders = if whole { &[""] } else { folders };
        // Why names cannot be looked up; without a reason the namespace has no such name.
        let mut absent = None;
        for folder in folders {
            match self.directories.find(&self.objects, &format!("{folder}{word}")) {
                Ok(object) if *object.kind_name == *type_name => return Ok(object.body),
                Ok(_) | Err(Error::NotFound(_)) => {}
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => absent = Some(error),
            }
        }
        let unnamed = match &absent {
            None => format!("no {what} is called {word}"),
            Some(error) => format!("names of {what}s cannot be looked up: {}", self.session.explain(error)),
        };
        if whole {
            return Err(Error::NotFound(unnamed));
        }
        let at = match self.session.evaluate(word) {
            Ok(at) => Va(at),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(_) if absent.is_some() => return Err(Error::NotFound(unnamed)),
            Err(error) => return Err(Error::NotFound(format!("{unnamed}, and {error}"))),
        };
        let stands = match kind {
            Kind::Driver => io::check_driver(self.session, at),
            Kind::Device => io::check_device(self.session, at),
        };
        match stands {
            // A name that means something else too, as a driver's does: its image.
            Err(Error::NotFound(why)) => {
                Err(Error::NotFound(format!("{}: {why}; {unnamed}", self.plain(at))))
            }
            other => other.map(|()| at),
        }
    }

    /// The name of an object as a field; where it cannot be read that is said.
    pub fn name(&self, at: Va, before: &str) {
        let name = self.objects.at(at).and_then(|object| self.objects.name(&object));
        match name {
            Ok(Some(name)) => {
                let name = string::one_line(&name.text);
                self.out.field("name", Value::Text(&name), &format!("{before}{name}"));
            }
            Ok(None) => self.out.data("name", Value::Null),
            Err(error) => self.out.field(
                "name",
                Value::Null,
                &format!("{before}(name: {})", self.session.explain(&error)),
            ),
        }
    }

    pub fn driver_name(&self, at: Va) -> String {
        if at.is_null() {
            return String::new();
        }
        io::driver(self.session, at)
            .map_or_else(|error| format!("({})", self.session.explain(&error)), |driver| driver.name)
    }

    pub fn link(&self, key: &str, at: Va, command: &str) {
        self.out.data(key, Value::Hex(at.0));
        self.out.link(&self.plain(at), &format!("{command} {}", self.plain(at)));
    }
}

/// The word that a command needs.
pub fn word<'t>(args: &mut Args<'t>, command: &str) -> Result<&'t str> {
    args.word().ok_or_else(|| Error::Usage(format!("{command} needs an ADDRESS or a NAME")))
}
