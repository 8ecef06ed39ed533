//! Files: a volume, file objects on it, and the sections that map them.
//!
//! Facts: the structures in the layout tables; `_SECTION_OBJECT_POINTERS` and the kinds of I/O objects from the WDK.

use super::World;
use super::sections::ControlArea;
use kd_sdk::address::Va;
use serde_json::json;
use std::collections::BTreeMap;

/// What the builder remembers of files.
#[derive(Default)]
pub(super) struct Files {
    volume: Option<[Va; 2]>,
    objects: BTreeMap<String, Va>,
    sections: BTreeMap<String, Section>,
}

/// A file that is mapped.
#[derive(Clone, Copy)]
pub(super) struct Section {
    pub control_area: Va,
    pub subsection: Va,
    pub prototypes: Va,
    pub file: Va,
    pub pages: u64,
}

impl Files {
    /// The section of a file, if it is mapped.
    pub(super) fn mapped(&self, path: &str) -> Option<Section> {
        self.sections.get(path).copied()
    }
}

/// `IO_TYPE_*`.
const IO_TYPE_FILE: u64 = 5;
const IO_TYPE_VPB: u64 = 10;

impl World {
    /// The device of the volume and its VPB.
    pub(super) fn volume(&mut self) -> [Va; 2] {
        if let Some(known) = self.files.volume {
            return known;
        }
        let generation = self.options.generation;
        let driver = self.named_object(r"\Driver\PnpManager", "Driver", "_DRIVER_OBJECT", 0);
        let size = generation.at("_DRIVER_OBJECT");
        self.fill(driver, "_DRIVER_OBJECT", &[("Type", 4), ("Size", size)]);
        self.write_string(driver.add(generation.at("_DRIVER_OBJECT.DriverName")), r"\Driver\PnpManager");
        let device = self.named_object(r"\Device\HarddiskVolume1", "Device", "_DEVICE_OBJECT", 0);
        let vpb = self.pool_block(b"Vpb ", generation.at("_VPB"));
        let size = generation.at("_DEVICE_OBJECT");
        let fields = [
            ("Type", 3),
            ("Size", size),
            ("ReferenceCount", 0x21),
            ("DriverObject", driver.0),
            ("Vpb", vpb.0),
            ("DeviceType", 7),
            ("Flags", 0x1050),
            ("StackSize", 1),
            ("SectorSize", 512),
        ];
        self.fill(device, "_DEVICE_OBJECT", &fields);
        self.set(driver, "_DRIVER_OBJECT.DeviceObject", device.0);
        let size = generation.at("_VPB");
        let fields = [
            ("Type", IO_TYPE_VPB),
            ("Size", size),
            ("Flags", 1),
            ("RealDevice", device.0),
            ("DeviceObject", device.0),
            ("SerialNumber", 0x1a2b_3c4d),
            ("ReferenceCount", 0x22),
            ("VolumeLabelLength", 12),
        ];
        self.fill(vpb, "_VPB", &fields);
        self.write(vpb.add(generation.at("_VPB.VolumeLabel")), &crate::lab::bytes::utf16("System"));
        let text = json!({ "device": device.0, "vpb": vpb.0, "driver": driver.0, "label": "System" });
        self.facts.insert("volume".into(), text);
        self.files.volume = Some([device, vpb]);
        [device, vpb]
    }

    /// A driver object that no image belongs to.
    pub(super) fn volume_driver(&mut self) -> Va {
        let [device, _] = self.volume();
        Va(self.get(device, "_DEVICE_OBJECT.DriverObject").unwrap_or(0))
    }

    /// The volume is mounted by a file system's device.
    pub(super) fn volume_of(&mut self, device: Va) {
        let [_, vpb] = self.volume();
        self.set(vpb, "_VPB.DeviceObject", device.0);
        self.set(device, "_DEVICE_OBJECT.Vpb", 0);
    }

    /// The file object of a path on the volume, as in `\Windows\System32\ntdll.dll`.
    pub(super) fn file(&mut self, path: &str) -> Va {
        if let Some(&known) = self.files.objects.get(path) {
            return known;
        }
        let [device, vpb] = self.volume();
        let file = self.file_on(device, path);
        self.set(file, "_FILE_OBJECT.Vpb", vpb.0);
        self.files.objects.insert(path.into(), file);
        file
    }

    /// A new file object of a device; the name may be empty, as it is of an opened device.
    pub(super) fn file_on(&mut self, device: Va, path: &str) -> Va {
        let generation = self.options.generation;
        let size = generation.at("_FILE_OBJECT");
        let file = self.new_object("File", size, None);
        let fields = [
            ("Type", IO_TYPE_FILE),
            ("Size", size),
            ("DeviceObject", device.0),
            ("ReadAccess", 1),
            ("SharedRead", 1),
            ("Flags", 0x4_4042),
            ("CurrentByteOffset.LowPart", 0x400),
        ];
        self.fill(file, "_FILE_OBJECT", &fields);
        if !path.is_empty() {
            self.write_string(file.add(generation.at("_FILE_OBJECT.FileName")), path);
        }
        for (event, kind) in [("Lock", 1), ("Event", 0)] {
            self.start_object(file.add(generation.at(&format!("_FILE_OBJECT.{event}"))), kind, 0);
        }
        if let Some(list) = self.field(file, "_FILE_OBJECT.IrpList") {
            self.start_list(list);
        }
        let text = json!({ "file": file.0, "device": device.0, "name": path });
        self.fact("files", text);
        file
    }

    /// The section of a file: one subsection, of whose pages none is in memory.
    pub(super) fn mapped_file(&mut self, path: &str, pages: u64, image: bool) -> Section {
        if let Some(known) = self.files.sections.get(path) {
            return *known;
        }
        let file = self.file(path);
        let ControlArea { at: control_area, segment, table: prototypes, subsections, entries, .. } =
            self.control_area(Some(file), image, &[pages]);
        self.write_entries(prototypes, &entries);
        let counts = [("NumberOfMappedViews", 1), ("NumberOfUserReferences", 2)];
        self.fill(control_area, "_CONTROL_AREA", &counts);
        let subsection = subsections[0].0;
        let section = Section { control_area, subsection, prototypes, file, pages };
        self.files.sections.insert(path.into(), section);
        let text = json!({
            "control_area": control_area.0, "segment": segment.0, "subsection": subsection.0, "file": file.0,
            "name": path, "image": image, "pages": pages, "prototypes": prototypes.0,
        });
        self.fact("control_areas", text);
        section
    }
}
