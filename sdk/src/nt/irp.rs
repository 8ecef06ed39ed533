//! I/O request packets: the list of a thread, the packet, its stack locations. Names of functions are in [`super::io`].
//!
//! Structures from the kernel's own symbols; the locations follow the packet in memory, the first one lowest.

use super::kernel::{Kernel, Record};
use super::list::{self, Links};
use super::thread::Thread;
use crate::address::Va;
use crate::error::{Error, Result};

/// `IO_TYPE_IRP`.
const IO_TYPE_IRP: u64 = 6;
/// The most requests of one thread.
const MOST_REQUESTS: usize = 1 << 14;

#[rustfmt::skip]
/// `IRP_MN_*` of plug and play.
const PNP_MINORS: [&str; 26] = [
    "START_DEVICE", "QUERY_REMOVE_DEVICE", "REMOVE_DEVICE", "CANCEL_REMOVE_DEVICE", "STOP_DEVICE", "QUERY_STOP_DEVICE",
    "CANCEL_STOP_DEVICE", "QUERY_DEVICE_RELATIONS", "QUERY_INTERFACE", "QUERY_CAPABILITIES", "QUERY_RESOURCES",
    "QUERY_RESOURCE_REQUIREMENTS", "QUERY_DEVICE_TEXT", "FILTER_RESOURCE_REQUIREMENTS", "", "READ_CONFIG",
    "WRITE_CONFIG", "EJECT", "SET_LOCK", "QUERY_ID", "QUERY_PNP_DEVICE_STATE", "QUERY_BUS_INFORMATION",
    "DEVICE_USAGE_NOTIFICATION", "SURPRISE_REMOVAL", "QUERY_LEGACY_BUS_INFORMATION",
    "DEVICE_ENUMERATED",
];

/// `IRP_MN_*` of power.
const POWER_MINORS: [&str; 4] = ["WAIT_WAKE", "POWER_SEQUENCE", "SET_POWER", "QUERY_POWER"];

/// A request.
pub struct Irp<'a> {
    /// The packet.
    pub at: Va,
    /// Its bytes.
    pub record: Record<'a>,
}

/// A stack location.
pub struct Location<'a> {
    /// Counted from 1, the lowest driver's.
    pub number: u64,
    /// Its bytes.
    pub record: Record<'a>,
}

/// The requests that a thread has made, as the thread lists them.
///
/// # Errors
/// Where the kernel's symbols lack the list.
pub fn of_thread<'a>(kernel: &Kernel<'a>, thread: &Thread<'a>) -> Result<Links<'a>> {
    let link = kernel.structure("_IRP")?.offset("ThreadListEntry")?;
    let head = thread.record.address("IrpList")?;
    Ok(list::ring(kernel.session().memory(), head).of(link).at_most(MOST_REQUESTS))
}

impl<'a> Irp<'a> {
    /// Reads the packet at an address.
    ///
    /// # Errors
    /// Where it cannot be read, or is none.
    pub fn read(kernel: &Kernel<'a>, at: Va) -> Result<Irp<'a>> {
        let record = kernel.read("_IRP", at)?;
        let kind = record.u64("Type")?;
        if kind != IO_TYPE_IRP {
            let at = kernel.session().target().show(at);
            return Err(Error::NotFound(format!(
                "IRP signature does not match, probably not an IRP: {at} has type {kind:#x}, not 6"
            )));
        }
        Ok(Irp { at, record })
    }

    /// How many stack locations it has.
    pub fn stack_count(&self) -> Result<u64> {
        Ok(self.record.u64("StackCount")? & 0xff)
    }

    /// The number of the current location, counted from 1; one more than there are once it is completed.
    pub fn current_location(&self) -> Result<u64> {
        Ok(self.record.u64("CurrentLocation")? & 0xff)
    }

    /// The thread that it is charged to.
    pub fn thread(&self) -> Result<Va> {
        self.record.pointer("Tail.Overlay.Thread")
    }

    /// Address of the current location.
    pub fn current(&self) -> Result<Va> {
        self.record.pointer("Tail.Overlay.CurrentStackLocation")
    }

    /// A location by its number.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn location(&self, kernel: &Kernel<'a>, number: u64) -> Result<Location<'a>> {
        let size = kernel.structure("_IO_STACK_LOCATION")?.size();
        let at = self.at.add(self.record.size()).add(number.saturating_sub(1).wrapping_mul(size));
        Ok(Location { number, record: kernel.read("_IO_STACK_LOCATION", at)? })
    }
}

/// `IRP_MN_START_DEVICE`, for the majors that name their minors.
pub fn minor_name(major: u64, minor: u64) -> Option<String> {
    let minor = usize::try_from(minor).ok()?;
    let name = match major {
        0x1b => PNP_MINORS.get(minor)?,
        0x16 => POWER_MINORS.get(minor)?,
        _ => return None,
    };
    (!name.is_empty()).then(|| format!("IRP_MN_{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_names() {
        assert_eq!(minor_name(0x1b, 0x17).as_deref(), Some("IRP_MN_SURPRISE_REMOVAL"));
        assert_eq!(minor_name(0x16, 2).as_deref(), Some("IRP_MN_SET_POWER"));
        assert_eq!((minor_name(0x1b, 0xe), minor_name(3, 0)), (None, None));
    }
}
