//! The names that belong to an entry: driver, image, device.

use kd_sdk::address::Va;
use kd_sdk::nt::object::Objects;
use kd_sdk::nt::{io, string};
use kd_sdk::session::Session;
use std::collections::HashMap;

/// Finds names, each once.
pub struct Names<'a> {
    session: &'a Session<'a>,
    objects: Option<Objects<'a>>,
    drivers: HashMap<Va, Driver>,
    devices: HashMap<Va, Named>,
}

/// A driver object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// `\Driver\disk`, or why it has no name.
    pub name: Named,
    /// `disk.sys`.
    pub image: Option<String>,
}

/// A name, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// The name.
    Name(String),
    /// Why there is none.
    Without(String),
}

impl Default for Named {
    fn default() -> Named {
        Named::Without("none".to_owned())
    }
}

impl Named {
    /// The name, if there is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Named::Name(name) => Some(name),
            Named::Without(_) => None,
        }
    }

    /// Name or reason.
    pub fn show(&self) -> String {
        match self {
            Named::Name(name) => name.clone(),
            Named::Without(why) => format!("({why})"),
        }
    }
}

impl<'a> Names<'a> {
    /// Names of a target; those of devices only where the kernel's types are known.
    pub fn new(session: &'a Session<'a>) -> Names<'a> {
        let objects = Objects::new(session).ok();
        Names { session, objects, drivers: HashMap::new(), devices: HashMap::new() }
    }

    /// The driver object at `at`.
    pub fn driver(&mut self, at: Va) -> Driver {
        if let Some(known) = self.drivers.get(&at) {
            return known.clone();
        }
        let found = self.read_driver(at);
        self.drivers.insert(at, found.clone());
        found
    }

    fn read_driver(&self, at: Va) -> Driver {
        match io::driver(self.session, at) {
            Ok(driver) if driver.name.is_empty() => Driver { name: Named::default(), image: driver.image },
            Ok(driver) => Driver { name: Named::Name(driver.name), image: driver.image },
            Err(error) => Driver { name: Named::Without(error.to_string()), image: None },
        }
    }

    /// The name of the device object at `at`.
    pub fn device(&mut self, at: Va) -> Named {
        if let Some(known) = self.devices.get(&at) {
            return known.clone();
        }
        let found = self.read_device(at);
        self.devices.insert(at, found.clone());
        found
    }

    fn read_device(&self, at: Va) -> Named {
        if let Err(error) = io::check_device(self.session, at) {
            return Named::Without(error.to_string());
        }
        let Some(objects) = &self.objects else {
            return Named::Without("its name needs the kernel's symbols".to_owned());
        };
        match objects.at(at).and_then(|object| objects.path(&object)) {
            Ok(Some(path)) => Named::Name(string::one_line(&path)),
            Ok(None) => Named::Without("without a name".to_owned()),
            Err(error) => Named::Without(error.to_string()),
        }
    }

    /// The driver of a device, for entries that name none.
    pub fn driver_of(&self, device: Va) -> Option<Va> {
        io::driver_of(self.session, device).ok().filter(|driver| !driver.is_null())
    }
}
