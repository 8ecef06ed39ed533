//! What is true of drivers' images, of drivers and devices: sections and pages, and how devices stand on each other.
//!
//! Facts: section headers of the PE format; where a page of an image is follows from the page tables and the plan that
//! the PFN database was written from, not from the database itself.

use super::{FrameState, World};
use crate::lab::image::Image;
use kd_sdk::address::{PAGE_SIZE, Va};
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl World {
    /// Locks a page of the driver's data, as an MDL does.
    pub(super) fn lock_driver_page(&mut self) {
        let image = self.image("faultdrv.sys");
        let data = image.sections.iter().find(|s| s.name == ".data").expect("a driver has data");
        let at = Va(image.base + u64::from(data.rva));
        let frame = self.system.translate(&self.memory, at).expect("data are mapped").pfn();
        self.plan.locked.insert(frame.0);
    }

    /// What is true of every driver: its sections, and how many of its pages are in use, on a list, and locked.
    pub(super) fn tell_drivers(&mut self) {
        let frames: BTreeMap<u64, (FrameState, u64)> =
            self.frames.iter().map(|f| (f.pfn, (f.state, f.references))).collect();
        let mut entry = self.nt("PsLoadedModuleList");
        let mut told = Vec::new();
        for image in &self.images {
            entry = self.read_pointer(entry);
            let (mut resident, mut standby, mut locked) = (0, 0, 0);
            for page in (0..u64::from(image.size)).step_by(PAGE_SIZE as usize) {
                let Some(pa) = self.system.translate(&self.memory, Va(image.base + page)) else { continue };
                match frames[&pa.pfn().0] {
                    (FrameState::Active, references) => {
                        resident += 1;
                        locked += u64::from(references > 1);
                    }
                    _ => standby += 1,
                }
            }
            told.push(json!({
                "name": image.name, "base": image.base, "loader_entry": entry.0, "sections": sections(image),
                "resident": resident, "standby": standby, "locked": locked,
            }));
        }
        self.facts.insert("drivers".into(), told.into());
    }

    /// What is true of every device with a name.
    pub(super) fn tell_devices(&mut self) {
        let all: Vec<(String, Va)> =
            self.objects.named.iter().filter(|o| o.1 == "Device").map(|o| (o.0.clone(), o.2)).collect();
        let mut told = Vec::new();
        for (path, device) in &all {
            let field = |name: &str| self.get(*device, &format!("_DEVICE_OBJECT.{name}")).unwrap_or(0);
            let more = Va(field("DeviceObjectExtension"));
            let inner = |name: &str| match more.0 {
                0 => 0,
                _ => self.get(more, &format!("_DEVOBJ_EXTENSION.{name}")).unwrap_or(0),
            };
            let driver = field("DriverObject");
            let owner = self.objects.named.iter().find(|o| o.2.0 == driver).expect("a device has a driver");
            told.push(json!({
                "device": device.0, "path": path, "driver": driver, "driver_name": owner.0,
                "references": field("ReferenceCount"), "type": field("DeviceType"), "flags": field("Flags"),
                "characteristics": field("Characteristics"), "current_irp": field("CurrentIrp"),
                "vpb": field("Vpb"), "security_descriptor": field("SecurityDescriptor"),
                "extension": field("DeviceExtension"), "object_extension": more.0,
                "extension_flags": inner("ExtensionFlags"), "device_node": inner("DeviceNode"),
                "attached_to": inner("AttachedTo"), "attached_device": field("AttachedDevice"),
                "queue_busy": field("DeviceQueue.Busy") != 0,
            }));
        }
        self.facts.insert("devices".into(), told.into());
    }

    /// A driver from a user's folder, whose link stamp is a hash and whose size reaches into the next image; another
    /// whose header says another size than the list.
    pub(super) fn odd_drivers(&mut self) {
        let next = self.image("faultdrv.sys").base;
        let place = self.images.iter().position(|i| i.name == "Ntfs.sys").expect("a file system");
        let entry = (0..=place).fold(self.nt("PsLoadedModuleList"), |at, _| self.read_pointer(at));
        let (size, stamp, path) =
            (next - self.images[place].base + PAGE_SIZE, 0xc9c0_3000, r"\??\C:\Users\tester\Ntfs.sys");
        let fields = [("SizeOfImage", size), ("TimeDateStamp", stamp)];
        self.fill(entry, "_KLDR_DATA_TABLE_ENTRY", &fields);
        let name = self.field(entry, "_KLDR_DATA_TABLE_ENTRY.FullDllName").expect("every generation has it");
        self.write_string(name, path);
        let image = &mut self.images[place];
        (image.size, image.time_date_stamp, image.path) = (size as u32, stamp as u32, path.into());
        let header = Va(image.base + u64::from(nt_headers(image)));
        self.write(header.add(8), &(stamp as u32).to_le_bytes());
        self.write(header.add(0x50), &(size as u32).to_le_bytes());
        let hal = self.image("hal.dll");
        let (header, other) = (Va(hal.base + u64::from(nt_headers(hal))), hal.size + 0x1000);
        self.write(header.add(0x50), &other.to_le_bytes());
        let text = json!({ "overlaps": ["Ntfs.sys", "faultdrv.sys"], "folder": path, "stamp": stamp, "header": ["hal.dll", other] });
        self.facts.insert("odd_drivers".into(), text);
    }
}

fn u32_at(bytes: &[u8], at: u32) -> u32 {
    u32::from_le_bytes(bytes[at as usize..][..4].try_into().expect("four bytes"))
}

/// Where the PE signature stands.
fn nt_headers(image: &Image) -> u32 {
    u32_at(&image.bytes, 0x3c)
}

/// The section headers.
fn sections(image: &Image) -> Value {
    let pe = nt_headers(image);
    let (count, optional) = (u32_at(&image.bytes, pe + 4) >> 16, u32_at(&image.bytes, pe + 0x14) & 0xffff);
    let header = |number: u32| {
        let at = pe + 0x18 + optional + number * 0x28;
        let name = &image.bytes[at as usize..][..8];
        let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
        let [size, start, bits] = [8, 0xc, 0x24].map(|field| u32_at(&image.bytes, at + field));
        json!({ "name": name, "start": image.base + u64::from(start), "size": size, "characteristics": bits })
    };
    (0..count).map(header).collect()
}
