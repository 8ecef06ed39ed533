//! The error log: entries that drivers wrote and nobody took yet.
//!
//! Facts: `IO_ERROR_LOG_PACKET` of the WDK; in front of it stand type (0xb), size, list entry, device object, driver object
//! and time, as public descriptions of `ERROR_LOG_ENTRY` tell. The strings stand where `StringOffset` says.

use super::{SYSTEM_TIME, World};
use crate::lab::bytes::utf16;
use crate::lab::layout::Machine;
use kd_sdk::address::Va;
use serde_json::json;

/// `IO_TYPE_ERROR_LOG`.
const ERROR_LOG: u16 = 0xb;
/// Where the packet's dump data begin.
const DUMP_DATA: u64 = 0x28;

/// What the twelve entries are made from: words of data, strings, retries, major function, whether a device, which driver.
type Shape = (u32, &'static [&'static str], u8, u8, bool, Driver);

#[derive(Clone, Copy, PartialEq)]
enum Driver {
    /// The one of the devices.
    Ours,
    /// One without an image.
    Imageless,
    /// None at all.
    Nobody,
}

const SENSOR: &str = r"\Device\Sensor0";

#[rustfmt::skip]
static SHAPES: [Shape; 12] = [
    (0, &[], 0, 0, true, Driver::Ours),
    (1, &[SENSOR], 1, 3, true, Driver::Ours),
    (2, &[SENSOR, "channel 7"], 2, 4, true, Driver::Ours),
    (3, &[], 0, 14, true, Driver::Ours),
    (0, &[SENSOR], 0, 27, false, Driver::Ours),
    (1, &[SENSOR, "channel 7"], 8, 22, true, Driver::Ours),
    (10, &[], 0, 3, true, Driver::Ours),
    (3, &["", "after an empty one"], 0, 3, true, Driver::Ours),
    (0, &["a string of its own, longer than others, with a name: \\Device\\HarddiskVolume1"], 255, 4, true, Driver::Ours),
    (1, &[], 0, 14, false, Driver::Nobody),
    (2, &[SENSOR], 0, 14, false, Driver::Imageless),
    (3, &[SENSOR, "channel 7", "third"], 3, 15, true, Driver::Ours),
];

impl World {
    /// Writes a dozen entries of all shapes.
    pub(super) fn error_log(&mut self, [driver, device, _]: [Va; 3]) {
        let step = self.options.generation.machine.pointer_size() as u64;
        let imageless = self.volume_driver();
        let mut list = Vec::new();
        for (number, &(words, strings, retries, major, has_device, whose)) in SHAPES.iter().enumerate() {
            let number = number as u32;
            let text: Vec<u8> = strings.iter().flat_map(|s| utf16(&format!("{s}\0"))).collect();
            let links = if self.options.generation.machine == Machine::X86 { 4 } else { 8 };
            let time_at = (links + 4 * step).next_multiple_of(8);
            let packet = time_at + 8;
            let strings_at = DUMP_DATA + 4 * u64::from(words.max(1));
            let size = packet + strings_at + text.len() as u64;
            let entry = self.pool_block(b"IoEr", size);
            let (status, code) = (0xc000_0185u32, 0xc004_0000 | number);
            let device = if has_device { device.0 } else { 0 };
            let driver = match whose {
                Driver::Ours => driver.0,
                Driver::Imageless => imageless.0,
                Driver::Nobody => 0,
            };
            let time = SYSTEM_TIME - 10_000_000 * u64::from(12 - number);
            self.write(entry, &ERROR_LOG.to_le_bytes());
            self.write(entry.add(2), &(size as u16).to_le_bytes());
            self.write_pointer(entry.add(links + 2 * step), device);
            self.write_pointer(entry.add(links + 3 * step), driver);
            self.write(entry.add(time_at), &time.to_le_bytes());
            let at = entry.add(packet);
            self.write(at, &[major, retries]);
            let shorts = [(2, words * 4), (4, strings.len() as u32), (6, strings_at as u32), (8, number % 3)];
            for (offset, value) in shorts {
                self.write(at.add(offset), &(value as u16).to_le_bytes());
            }
            let control = if major == 14 { 0x0022_2004 } else { 0 };
            let offset = u64::from(number) * 0x200;
            let longs =
                [(0xc, code), (0x10, number * 0x10), (0x14, status), (0x18, number + 1), (0x1c, control)];
            for (place, value) in longs {
                self.write(at.add(place), &value.to_le_bytes());
            }
            self.write(at.add(0x20), &offset.to_le_bytes());
            let data: Vec<u32> = (0..words).map(|word| 0xd00d_0000 + word).collect();
            let bytes: Vec<u8> = data.iter().flat_map(|w| w.to_le_bytes()).collect();
            self.write(at.add(DUMP_DATA), &bytes);
            self.write(at.add(strings_at), &text);
            self.append(self.nt("IopErrorLogListHead"), entry.add(links));
            list.push(json!({
                "entry": entry.0, "packet": at.0, "size": size, "device": device, "driver": driver, "time": time,
                "code": code, "status": status, "sequence": number + 1, "unique": number * 0x10, "strings": strings,
                "data": data, "major": major, "retries": retries, "category": number % 3, "io_control_code": control,
                "device_offset": offset, "driver_name": match whose {
                    Driver::Ours => Some(r"\Driver\faultdrv"),
                    Driver::Imageless => Some(r"\Driver\PnpManager"),
                    Driver::Nobody => None,
                },
            }));
        }
        self.facts.insert("error_log".into(), list.into());
    }
}
