//! The names that belong to an entry: driver, image, device, request.

use kd_sdk::address::Va;
use kd_sdk::nt::object::Objects;
use kd_sdk::nt::string;
use kd_sdk::session::Session;
use std::collections::HashMap;

/// Type words of the I/O manager's objects.
const DEVICE: u16 = 3;
const DRIVER: u16 = 4;

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

    fn is(&self, at: Va, kind: u16) -> Result<(), String> {
        match self.session.memory().u16(at) {
            Ok(found) if found == kind => Ok(()),
            Ok(found) => {
                let what = if kind == DRIVER { "driver" } else { "device" };
                Err(format!("no {what} object stands there: type {found:x}"))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// The driver object at `at`. Its offsets have not changed since NT.
    pub fn driver(&mut self, at: Va) -> Driver {
        if let Some(known) = self.drivers.get(&at) {
            return known.clone();
        }
        let found = self.read_driver(at);
        self.drivers.insert(at, found.clone());
        found
    }

    fn read_driver(&self, at: Va) -> Driver {
        if let Err(why) = self.is(at, DRIVER) {
            return Driver { name: Named::Without(why), image: None };
        }
        let (start, name) =
            if self.session.target().pointer_size() == 4 { (0xc, 0x1c) } else { (0x18, 0x38) };
        let memory = self.session.memory();
        let start = memory.pointer(at.add(start)).ok();
        let image = start.and_then(|va| self.session.target().module_at(va)).map(|module| module.image);
        let name = match string::unicode(memory, at.add(name)) {
            Ok(name) if name.is_empty() => Named::default(),
            Ok(name) => Named::Name(string::one_line(&name)),
            Err(error) => Named::Without(error.to_string()),
        };
        Driver { name, image }
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
        if let Err(why) = self.is(at, DEVICE) {
            return Named::Without(why);
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
        self.is(device, DEVICE).ok()?;
        self.session.memory().pointer(device.add(8)).ok().filter(|driver| !driver.is_null())
    }
}

/// `IRP_MJ_READ`.
pub fn major_name(code: u8) -> Option<&'static str> {
    const NAMES: [&str; 28] = [
        "IRP_MJ_CREATE",
        "IRP_MJ_CREATE_NAMED_PIPE",
        "IRP_MJ_CLOSE",
        "IRP_MJ_READ",
        "IRP_MJ_WRITE",
        "IRP_MJ_QUERY_INFORMATION",
        "IRP_MJ_SET_INFORMATION",
        "IRP_MJ_QUERY_EA",
        "IRP_MJ_SET_EA",
        "IRP_MJ_FLUSH_BUFFERS",
        "IRP_MJ_QUERY_VOLUME_INFORMATION",
        "IRP_MJ_SET_VOLUME_INFORMATION",
        "IRP_MJ_DIRECTORY_CONTROL",
        "IRP_MJ_FILE_SYSTEM_CONTROL",
        "IRP_MJ_DEVICE_CONTROL",
        "IRP_MJ_INTERNAL_DEVICE_CONTROL",
        "IRP_MJ_SHUTDOWN",
        "IRP_MJ_LOCK_CONTROL",
        "IRP_MJ_CLEANUP",
        "IRP_MJ_CREATE_MAILSLOT",
        "IRP_MJ_QUERY_SECURITY",
        "IRP_MJ_SET_SECURITY",
        "IRP_MJ_POWER",
        "IRP_MJ_SYSTEM_CONTROL",
        "IRP_MJ_DEVICE_CHANGE",
        "IRP_MJ_QUERY_QUOTA",
        "IRP_MJ_SET_QUOTA",
        "IRP_MJ_PNP",
    ];
    NAMES.get(usize::from(code)).copied()
}

/// The parts of an I/O control code: `device 22, function 801, METHOD_BUFFERED, FILE_ANY_ACCESS`.
pub fn control_code(code: u32) -> String {
    let method = ["METHOD_BUFFERED", "METHOD_IN_DIRECT", "METHOD_OUT_DIRECT", "METHOD_NEITHER"];
    let access = ["FILE_ANY_ACCESS", "FILE_READ_ACCESS", "FILE_WRITE_ACCESS", "FILE_READ_WRITE_ACCESS"];
    let pick = |names: [&'static str; 4], at: u32| names.get(at as usize & 3).copied().unwrap_or("");
    format!(
        "device {:x}, function {:x}, {}, {}",
        code >> 16,
        code >> 2 & 0xfff,
        pick(method, code),
        pick(access, code >> 14)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_names() {
        assert_eq!(major_name(14), Some("IRP_MJ_DEVICE_CONTROL"));
        assert_eq!(major_name(27), Some("IRP_MJ_PNP"));
        assert_eq!(major_name(28), None);
        assert_eq!(control_code(0x0022_2004), "device 22, function 801, METHOD_BUFFERED, FILE_ANY_ACCESS");
        assert_eq!(
            control_code(u32::MAX),
            "device ffff, function fff, METHOD_NEITHER, FILE_READ_WRITE_ACCESS"
        );
    }
}
