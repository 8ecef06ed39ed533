//! Devices in full, requests to them, and who has what open.
//!
//! Facts: `_IRP`, `_IO_STACK_LOCATION`, `_DRIVER_OBJECT` and `_DEVICE_OBJECT` in the layout tables; numbers of major
//! functions and the kinds of I/O objects from the WDK.

use super::society::{ENDING, ZOMBIE};
use super::waits::reads;
use super::{SYSTEM_TIME, World};
use kd_sdk::address::{PAGE_SIZE, Va};
use serde_json::json;

/// A stack location: major and minor function, control bits, device, file, completion routine and context, parameters.
#[derive(Clone, Copy, Default)]
struct Layer {
    major: u64,
    minor: u64,
    control: u64,
    device: u64,
    file: u64,
    completion: u64,
    context: u64,
    /// Length, and offset or control code.
    parameters: [u64; 2],
}

/// What a request is besides its stack.
#[derive(Clone, Copy, Default)]
struct Request {
    thread: Option<Va>,
    /// Which location is current, from 1; one more than there are: completed.
    current: u64,
    cancelled: bool,
    cancel_routine: u64,
    mdl: u64,
    system_buffer: u64,
    user_buffer: u64,
    status: u64,
}

const READ: u64 = 3;
const DEVICE_CONTROL: u64 = 14;
/// `SL_PENDING_RETURNED`, and `SL_INVOKE_ON_*`.
const PENDING: u64 = 1;
const INVOKE: u64 = 0xe0;

impl World {
    /// Completes driver and devices, and sends requests.
    pub(super) fn requests(&mut self, [driver, lower, upper]: [Va; 3]) {
        self.complete_driver(driver, [lower, upper]);
        self.file_system();
        let routine = |world: &World, name: &str| world.image("faultdrv.sys").address_of(name);
        let cancel = routine(self, "SelectChannel");
        let completion = self.nt("IopSynchronousServiceTail").0;

        // A program reads; the upper driver passed it on, the lower one holds it.
        let chain = reads(self.entry());
        let explorer = self.process(0x8f4);
        let event = self.event;
        let reader = self.waiter(explorer, 0x8f4, &chain, event, 0);
        let file = self.file_on(upper, "");
        let mdl = self.mdl(explorer, 0x0123_4560, 0x1800);
        let read = |device: Va, control| Layer {
            major: READ,
            control,
            device: device.0,
            file: file.0,
            parameters: [0x1800, 0x400],
            ..Layer::default()
        };
        let stack = [
            read(lower, PENDING),
            Layer { completion, context: 0x5150, control: INVOKE | PENDING, ..read(upper, 0) },
        ];
        let request = Request {
            thread: Some(reader),
            current: 1,
            cancel_routine: cancel,
            mdl: mdl.0,
            user_buffer: 0x0123_4560,
            ..Request::default()
        };
        let pending = self.irp(&stack, request);

        // The one that the crashing thread is in.
        let buffer = self.pool_block(b"IoSB", 0x40);
        let own = self.file_on(lower, "");
        let control = Layer {
            major: DEVICE_CONTROL,
            device: lower.0,
            file: own.0,
            parameters: [0x40, 0x0022_2004],
            ..Layer::default()
        };
        let request =
            Request { thread: Some(self.thread), current: 1, system_buffer: buffer.0, ..Request::default() };
        let active = self.irp(&[control], request);

        // The last request of the process that is ending: cancelled, never completed.
        let ending = self.process(ENDING);
        let last = self.waiter(ending, ENDING, &chain, event, 0);
        self.set(last, "_ETHREAD.Terminated", 1);
        let request = Request { thread: Some(last), current: 1, cancelled: true, ..Request::default() };
        let stuck = self.irp(&stack, request);

        // The driver's own, completed, and those that wait for the device.
        let request = Request { current: 3, status: 0xc000_0120, ..Request::default() };
        let done = self.irp(&stack, request);
        let current = self.irp(&[read(lower, PENDING)], Request { current: 1, ..Request::default() });
        let queued =
            [0, 1].map(|_| self.irp(&[read(lower, PENDING)], Request { current: 1, ..Request::default() }));
        self.queue_requests(lower, current, &queued);
        let text = json!({
            "pending": pending.0, "active": active.0, "cancelled": stuck.0, "completed": done.0, "current": current.0,
            "queued": queued.map(|q| q.0), "reader": reader.0, "device": lower.0, "upper_device": upper.0,
        });
        self.facts.insert("requests".into(), text);
        self.timers_and_calls(lower);
        self.work_items();
    }

    /// Makes a request; the stack's last location is the first driver's.
    fn irp(&mut self, stack: &[Layer], request: Request) -> Va {
        let generation = self.options.generation;
        let (header, step) = (generation.at("_IRP"), generation.at("_IO_STACK_LOCATION"));
        let count = stack.len() as u64;
        let size = header + step * count;
        let irp = self.pool_block(b"Irp ", size);
        let place = |number: u64| irp.add(header + step * (number - 1));
        let thread = request.thread.map_or(0, |t| t.0);
        let file = stack.last().map_or(0, |l| l.file);
        let fields = [
            ("Type", 6),
            ("Size", size),
            ("StackCount", count),
            ("CurrentLocation", request.current),
            ("MdlAddress", request.mdl),
            ("Flags", 0x6_0000),
            ("RequestorMode", u64::from(thread != 0)),
            ("PendingReturned", u64::from(request.current <= count)),
            ("Cancel", u64::from(request.cancelled)),
            ("CancelRoutine", request.cancel_routine),
            ("AssociatedIrp.SystemBuffer", request.system_buffer),
            ("UserBuffer", request.user_buffer),
            ("IoStatus.Status", request.status),
            ("Tail.Overlay.Thread", thread),
            ("Tail.Overlay.OriginalFileObject", file),
            ("Tail.Overlay.CurrentStackLocation", place(request.current).0),
        ];
        self.fill(irp, "_IRP", &fields);
        let entry = irp.add(generation.at("_IRP.ThreadListEntry"));
        self.start_list(entry);
        if let Some(thread) = request.thread {
            let head = thread.add(generation.at("_ETHREAD.IrpList"));
            self.append(head, entry);
        }
        let mut told = Vec::new();
        for (index, layer) in stack.iter().enumerate() {
            let at = place(index as u64 + 1);
            let fields = [
                ("MajorFunction", layer.major),
                ("MinorFunction", layer.minor),
                ("Control", layer.control),
                ("DeviceObject", layer.device),
                ("FileObject", layer.file),
                ("CompletionRoutine", layer.completion),
                ("Context", layer.context),
            ];
            self.fill(at, "_IO_STACK_LOCATION", &fields);
            let [length, other] = layer.parameters;
            if layer.major == DEVICE_CONTROL {
                let fields =
                    [("OutputBufferLength", length), ("InputBufferLength", length), ("IoControlCode", other)];
                self.fill(at, "_IO_STACK_LOCATION.Parameters.DeviceIoControl", &fields);
            } else {
                let fields = [("Length", length), ("ByteOffset", other)];
                self.fill(at, "_IO_STACK_LOCATION.Parameters.Read", &fields);
            }
            told.push(json!({
                "location": at.0, "major": layer.major, "minor": layer.minor, "control": layer.control,
                "device": layer.device, "file": layer.file, "completion": layer.completion, "context": layer.context,
                "parameters": layer.parameters,
            }));
        }
        self.fact("irps", json!({
            "irp": irp.0, "thread": thread, "stack_count": count, "current": request.current,
            "completed": request.current > count, "cancelled": request.cancelled, "cancel_routine": request.cancel_routine,
            "mdl": request.mdl, "system_buffer": request.system_buffer, "user_buffer": request.user_buffer,
            "status": request.status, "stack": told,
        }));
        irp
    }

    /// Describes a user buffer; its pages are in memory.
    fn mdl(&mut self, process: Va, buffer: u64, size: u64) -> Va {
        let generation = self.options.generation;
        let start = buffer & !(PAGE_SIZE - 1);
        let pages = (buffer + size - start).div_ceil(PAGE_SIZE);
        let step = generation.machine.pointer_size() as u64;
        let header = generation.at("_MDL");
        let mdl = self.pool_block(b"Mdl ", header + pages * step);
        let fields = [
            ("Size", header + pages * step),
            ("MdlFlags", 0x8a), // pages locked, allocated, write operation
            ("Process", process.0),
            ("StartVa", start),
            ("ByteCount", size),
            ("ByteOffset", buffer - start),
        ];
        self.fill(mdl, "_MDL", &fields);
        let frames: Vec<u64> =
            (0..pages).map(|_| self.memory.allocate(crate::lab::memory::Owner::User).0).collect();
        for (index, frame) in frames.iter().enumerate() {
            self.write_pointer(mdl.add(header + index as u64 * step), *frame);
        }
        let text =
            json!({ "mdl": mdl.0, "process": process.0, "start": start, "size": size, "pages": frames });
        self.fact("mdls", text);
        mdl
    }

    /// Gives a device a request in work and others that wait.
    fn queue_requests(&mut self, device: Va, current: Va, queued: &[Va]) {
        let generation = self.options.generation;
        self.set(device, "_DEVICE_OBJECT.CurrentIrp", current.0);
        let queue = device.add(generation.at("_DEVICE_OBJECT.DeviceQueue"));
        let head = queue.add(generation.at("_KDEVICE_QUEUE.DeviceListHead"));
        self.start_list(head);
        let size = generation.at("_KDEVICE_QUEUE");
        self.fill(queue, "_KDEVICE_QUEUE", &[("Type", 0x14), ("Size", size), ("Busy", 1)]);
        for irp in queued {
            let entry = irp.add(generation.at("_IRP.Tail.Overlay.DeviceQueueEntry"));
            self.append(head, entry);
            self.set(entry, "_KDEVICE_QUEUE_ENTRY.Inserted", 1);
        }
    }

    /// What a driver object and a stack of devices hold besides the beginnings.
    fn complete_driver(&mut self, driver: Va, devices: [Va; 2]) {
        let generation = self.options.generation;
        let image = self.image("faultdrv.sys");
        let (entry, unload) = (image.address_of("DriverEntry"), image.address_of("SelectChannel"));
        let start_io = image.address_of("ReadSensor");
        let place = self.images.iter().position(|i| i.name == "faultdrv.sys").expect("the driver is loaded");
        let mut section = self.nt("PsLoadedModuleList");
        for _ in 0..=place {
            section = self.read_pointer(section);
        }
        let extension = self.structure(b"Driv", "_DRIVER_EXTENSION").expect("every generation has it");
        self.set(extension, "_DRIVER_EXTENSION.DriverObject", driver.0);
        self.write_string(extension.add(generation.at("_DRIVER_EXTENSION.ServiceKeyName")), "faultdrv");
        let hardware = self.pool_block(b"IoNm", generation.at("_UNICODE_STRING"));
        self.write_string(hardware, r"\REGISTRY\MACHINE\HARDWARE\DESCRIPTION\SYSTEM");
        let fields = [
            ("Flags", 0x12), // DRVO_INITIALIZED, DRVO_LEGACY_DRIVER
            ("DriverSection", section.0),
            ("DriverExtension", extension.0),
            ("HardwareDatabase", hardware.0),
            ("DriverInit", entry),
            ("DriverStartIo", start_io),
            ("DriverUnload", unload),
        ];
        self.fill(driver, "_DRIVER_OBJECT", &fields);
        let [lower, upper] = devices;
        let node = self.structure(b"Devn", "_DEVICE_NODE").expect("every generation has it");
        self.set(node, "_DEVICE_NODE.PhysicalDeviceObject", lower.0);
        self.write_string(node.add(generation.at("_DEVICE_NODE.InstancePath")), r"ROOT\SENSOR\0000");
        self.write_string(node.add(generation.at("_DEVICE_NODE.ServiceName")), "faultdrv");
        let security = self.pool_block(b"SeSd", 0x60);
        for (device, below, flags) in [(lower, Va(0), 0x44), (upper, lower, 0x2044)] {
            let (state, node) = if below.0 == 0 { (0x810, node.0) } else { (0x800, 0) };
            let more = self.structure(b"Devi", "_DEVOBJ_EXTENSION").expect("every generation has it");
            let fields = [
                ("Type", 13),
                ("DeviceObject", device.0),
                ("AttachedTo", below.0),
                ("ExtensionFlags", state),
                ("DeviceNode", node),
            ];
            self.fill(more, "_DEVOBJ_EXTENSION", &fields);
            let fields = [
                ("DeviceObjectExtension", more.0),
                ("Flags", flags),
                ("Characteristics", 0x180),
                ("SecurityDescriptor", security.0),
            ];
            self.fill(device, "_DEVICE_OBJECT", &fields);
        }
        let text = json!({
            "driver": driver.0, "name": r"\Driver\faultdrv", "extension": extension.0, "section": section.0,
            "init": entry, "start_io": start_io, "unload": unload, "service": "faultdrv",
            "stack": [{ "device": upper.0, "attached_to": lower.0 }, { "device": lower.0 }],
            "node": node.0, "instance": r"ROOT\SENSOR\0000",
        });
        self.facts.insert("driver_details".into(), text);
    }

    /// `\FileSystem\Ntfs`, `\GLOBAL??\C:`, the types in their directory, and the device map of every process.
    fn file_system(&mut self) {
        let generation = self.options.generation;
        self.named_object(r"\FileSystem", "Directory", "_OBJECT_DIRECTORY", 0);
        let driver = self.named_object(r"\FileSystem\Ntfs", "Driver", "_DRIVER_OBJECT", 0);
        let (base, size) =
            self.images.iter().find(|i| i.name == "Ntfs.sys").map_or((0, 0), |i| (i.base, i.size));
        let bytes = generation.at("_DRIVER_OBJECT");
        let fields = [("Type", 4), ("Size", bytes), ("DriverStart", base), ("DriverSize", u64::from(size))];
        self.fill(driver, "_DRIVER_OBJECT", &fields);
        self.write_string(driver.add(generation.at("_DRIVER_OBJECT.DriverName")), r"\FileSystem\Ntfs");
        let bytes = generation.at("_DEVICE_OBJECT");
        let device = self.new_object("Device", bytes, None);
        let fields =
            [("Type", 3), ("Size", bytes), ("DriverObject", driver.0), ("DeviceType", 8), ("StackSize", 9)];
        self.fill(device, "_DEVICE_OBJECT", &fields);
        self.set(driver, "_DRIVER_OBJECT.DeviceObject", device.0);
        self.volume_of(device);

        let global = self.named_object(r"\GLOBAL??", "Directory", "_OBJECT_DIRECTORY", 0);
        let link = self.named_object(r"\GLOBAL??\C:", "SymbolicLink", "_OBJECT_SYMBOLIC_LINK", 0);
        self.write_string(
            link.add(generation.at("_OBJECT_SYMBOLIC_LINK.LinkTarget")),
            r"\Device\HarddiskVolume1",
        );
        let fields = [("CreationTime", SYSTEM_TIME), ("DosDeviceDriveIndex", 3)];
        self.fill(link, "_OBJECT_SYMBOLIC_LINK", &fields);
        // DEVICE_MAP: the directory of the session, the global one.
        let map = self.pool_block(b"ObDm", 0x60);
        self.write_pointer(map, global.0);
        self.write_pointer(map.add(generation.machine.pointer_size() as u64), global.0);
        for process in self.processes.iter().map(|p| p.eprocess).collect::<Vec<_>>() {
            self.set(process, "_EPROCESS.DeviceMap", map.0);
        }
        let text = json!({
            "driver": driver.0, "device": device.0, "link": link.0, "target": r"\Device\HarddiskVolume1",
            "device_map": map.0, "global": global.0,
        });
        self.facts.insert("file_system".into(), text);
    }

    /// Opens objects of all kinds in one process, and makes tables of two and of three levels in others.
    pub(super) fn open_handles(&mut self) {
        let threads: Vec<Va> =
            self.threads.iter().filter(|t| t.process == 0x8f4).map(|t| t.ethread).take(2).collect();
        let token = self.unref(self.process(0x8f4), "_EPROCESS.Token");
        let files = self.facts["files"].as_array().cloned().unwrap_or_default();
        let files = files.iter().filter_map(|f| f["file"].as_u64()).map(Va).take(4);
        let named: Vec<Va> = self.objects.named.iter().filter(|o| o.1 != "Type").map(|o| o.2).collect();
        let processes = [ZOMBIE, 0x910].map(|id| self.process(id));
        let all: Vec<Va> =
            named.into_iter().chain(threads).chain(token).chain(files).chain(processes).collect();
        let entries = |scale: u64| -> Vec<(u64, Va, u32)> {
            all.iter()
                .enumerate()
                .map(|(i, o)| (4 + 4 * scale * i as u64, *o, 0x1f_0000 + i as u32))
                .collect()
        };
        self.reopen(0x8f4, &entries(1));
        self.reopen(0x3a4, &entries(37));
        // The last handle lies behind all that two levels reach.
        let generation = self.options.generation;
        let leaves = PAGE_SIZE / generation.machine.pointer_size() as u64;
        let reach = leaves * (PAGE_SIZE / generation.at("_HANDLE_TABLE_ENTRY")) * 4;
        let mut far = entries(1);
        far.extend([8, 12, 0x404].map(|h| (reach + h, all[0], 0x12_019f)));
        self.reopen(0x258, &far);
    }

    /// Replaces the handle table of a process.
    fn reopen(&mut self, id: u64, entries: &[(u64, Va, u32)]) {
        let process = self.process(id);
        self.drop_handles(process);
        // Index 0 of every page is not used.
        let per_page = 4 * PAGE_SIZE / self.options.generation.at("_HANDLE_TABLE_ENTRY");
        let entries: Vec<(u64, Va, u32)> = entries
            .iter()
            .map(|&(handle, object, access)| {
                (if handle % per_page == 0 { handle + 4 } else { handle }, object, access)
            })
            .collect();
        self.open(process, id, &entries);
    }

    /// Gives a process a handle table of `(handle, object, access)`.
    pub(super) fn open(&mut self, process: Va, id: u64, entries: &[(u64, Va, u32)]) {
        let headers: Vec<_> = entries.iter().map(|e| (e.0, self.header_of(e.1), e.2)).collect();
        let table = self.handle_table(process, id, &headers);
        self.set(process, "_EPROCESS.ObjectTable", table.0);
        let code = self.get(table, "_HANDLE_TABLE.TableCode").unwrap_or(0);
        let listed: Vec<_> =
            entries.iter().map(|e| json!({ "handle": e.0, "object": e.1.0, "access": e.2 })).collect();
        let text = json!({
            "process": process.0, "id": id, "table": table.0, "levels": (code & 3) + 1, "count": entries.len(),
            "handles": listed,
        });
        self.fact("handles", text);
    }

    /// Takes a process its handle table.
    pub(super) fn drop_handles(&mut self, process: Va) {
        let table = Va(self.get(process, "_EPROCESS.ObjectTable").expect("a process has a table"));
        self.unlink(table.add(self.options.generation.at("_HANDLE_TABLE.HandleTableList")));
        self.set(process, "_EPROCESS.ObjectTable", 0);
        let told = self.facts.get_mut("handles").and_then(|f| f.as_array_mut());
        told.expect("tables are told").retain(|t| t["process"] != process.0);
    }
}
