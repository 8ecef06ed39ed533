//! The I/O manager: driver and device objects by name, requests by the names of wdm.h.
//!
//! The offsets used here have not changed since NT, so that drivers have names without symbols too; the type word at
//! the start of an object is checked before anything is believed.

use super::string;
use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::Session;

/// Type words at the start of objects.
const DEVICE: u16 = 3;
const DRIVER: u16 = 4;

/// A driver object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// `\Driver\disk`.
    pub name: String,
    /// `disk.sys`, where the driver's image is loaded.
    pub image: Option<String>,
}

fn check(session: &Session<'_>, at: Va, wanted: u16, what: &str) -> Result<()> {
    match session.memory().u16(at)? {
        found if found == wanted => Ok(()),
        found => Err(Error::NotFound(format!("no {what} object stands there: type {found:x}"))),
    }
}

/// The driver object at `at`.
///
/// # Errors
/// Where none stands there or it cannot be read.
pub fn driver(session: &Session<'_>, at: Va) -> Result<Driver> {
    check_driver(session, at)?;
    let (start, name) = if session.target().pointer_size() == 4 { (0xc, 0x1c) } else { (0x18, 0x38) };
    let start = session.memory().pointer(at.add(start)).ok();
    let module = start.and_then(|va| session.target().module_at(va));
    let name = string::unicode(session.memory(), at.add(name))?;
    Ok(Driver { name: string::one_line(&name), image: module.map(|module| module.image) })
}

/// Passes where a driver object stands.
///
/// # Errors
/// Where none does, or it cannot be read.
pub fn check_driver(session: &Session<'_>, at: Va) -> Result<()> {
    check(session, at, DRIVER, "driver")
}

/// Passes where a device object stands.
///
/// # Errors
/// Where none does, or it cannot be read.
pub fn check_device(session: &Session<'_>, at: Va) -> Result<()> {
    check(session, at, DEVICE, "device")
}

/// The driver object of the device object at `at`.
///
/// # Errors
/// As [`check_device`].
pub fn driver_of(session: &Session<'_>, at: Va) -> Result<Va> {
    check_device(session, at)?;
    session.memory().pointer(at.add(8))
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
