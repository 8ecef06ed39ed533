//! The I/O manager's objects and texts that bug check arguments point at. Offsets have not changed since NT; the
//! type word at the start of each object is checked before anything is believed.

use crate::model::{Crash, Led};
use crate::roles::Role;
use crate::stack::Bytes;
use kd_sdk::address::Va;

/// A printable text in memory: ANSI, or the UNICODE_STRING at the address.
pub fn text_at(memory: &dyn Bytes, va: Va, pointer_size: u32) -> Option<String> {
    let ansi = memory.gather(va, 64);
    let end = ansi.iter().position(|&byte| byte == 0).unwrap_or(ansi.len());
    let text = ansi.get(..end)?;
    if text.len() > 2 && text.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        return Some(text.iter().map(|&byte| char::from(byte)).collect());
    }
    memory.counted_text(va, pointer_size)
}

/// Offsets inside the I/O objects, which have not changed since NT.
struct ObjectOffsets {
    driver_start: u64,
    driver_name: u64,
    current_stack_location: u64,
    device_object: u64,
}

fn object_offsets(pointer_size: u32) -> ObjectOffsets {
    let of = |driver_start, driver_name, current_stack_location, device_object| ObjectOffsets {
        driver_start,
        driver_name,
        current_stack_location,
        device_object,
    };
    if pointer_size == 4 { of(0xc, 0x1c, 0x60, 0x14) } else { of(0x18, 0x38, 0xb8, 0x28) }
}

/// The type words of the I/O objects.
const IO_TYPE_DEVICE: u64 = 3;
const IO_TYPE_DRIVER: u64 = 4;
const IO_TYPE_IRP: u64 = 6;

/// From a device object, driver object or IRP to a driver.
pub fn lead(crash: &Crash, memory: &dyn Bytes, role: Role, index: usize, va: Va) -> Option<Led> {
    let offsets = object_offsets(crash.pointer_size);
    let pointer = |va: Va| memory.number(va, crash.pointer_size as usize).map(Va);
    let is = |va: Va, kind: u64| memory.number(va, 2) == Some(kind);
    let (mut way, mut device) = (format!("Arg{} is a device object", index + 1), va);
    if role == Role::Irp {
        if !is(va, IO_TYPE_IRP) {
            return None;
        }
        let location = pointer(va.add(offsets.current_stack_location))?;
        device = pointer(location.add(offsets.device_object))?;
        way = format!("the IRP in Arg{} waits at a device object", index + 1);
    }
    let driver = if role == Role::Driver {
        way = format!("Arg{} is the driver object", index + 1);
        va
    } else {
        // The driver object stands at the same place in every device object.
        is(device, IO_TYPE_DEVICE).then(|| pointer(device.add(8))).flatten()?
    };
    if !is(driver, IO_TYPE_DRIVER) {
        return None;
    }
    let module = pointer(driver.add(offsets.driver_start)).and_then(|base| crash.module_at(base));
    let name = memory.counted_text(driver.add(offsets.driver_name), crash.pointer_size);
    let owner = match (module.and_then(|index| crash.modules.get(index)), name) {
        (Some(module), None) => module.image.clone(),
        (Some(module), Some(name)) => format!("{name} ({})", module.image),
        (None, Some(name)) => name,
        (None, None) => return None,
    };
    Some(Led { argument: index, text: format!("{way} of {owner}"), module })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::tests::crash;
    use crate::stack::tests::Blocks;

    fn block(len: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (at, part) in parts {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        bytes
    }

    #[test]
    fn an_irp_leads_to_its_driver() {
        let crash = crash(0x9f, [3, 0, 0, 0x1000]);
        let (location, device, driver, name) = (0x2000u64, 0x3000u64, 0x4000u64, 0x5000u64);
        let base = crash.modules[1].base.0;
        let text: Vec<u8> = "\\Driver\\bad".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let memory = Blocks(vec![
            (0x1000, block(0xd0, &[(0, &[6]), (0xb8, &location.to_le_bytes())])),
            (location, block(0x48, &[(0x28, &device.to_le_bytes())])),
            (device, block(0x150, &[(0, &[3]), (8, &driver.to_le_bytes())])),
            (
                driver,
                block(
                    0x150,
                    &[(0, &[4]), (0x18, &base.to_le_bytes()), (0x38, &[22]), (0x40, &name.to_le_bytes())],
                ),
            ),
            (name, text),
        ]);
        let led = lead(&crash, &memory, Role::Irp, 3, Va(0x1000)).unwrap();
        assert_eq!(led.text, "the IRP in Arg4 waits at a device object of \\Driver\\bad (bad.sys)");
        assert_eq!(led.module, Some(1));
        assert_eq!(lead(&crash, &memory, Role::Device, 3, Va(0x1000)), None);
        assert_eq!(lead(&crash, &memory, Role::Irp, 3, Va(0x9000)), None);
    }
}
