//! What happens in each story, on top of the system that all have.

use super::story::{SYSTEM, WAITS};
use super::user::PROGRAM;
use super::{Story, World};
use crate::lab::layout::Machine;
use crate::lab::stack::{Call, Place};
use kd_sdk::address::Va;
use serde_json::json;

/// The file system's threads of the deadlock: who takes what, in which function.
const READS: [&str; 3] = ["NtfsFsdRead", "NtfsCommonRead", "NtfsAcquireExclusiveFcb"];

impl World {
    pub(super) fn happen(&mut self) {
        let program = self.process_at("faultapp.exe", PROGRAM, 0x258, self.user.root);
        let devices = self.devices();
        self.resources();
        let story = self.options.story;
        if story == Story::Deadlock {
            self.deadlock();
        }
        if story == Story::ErrorLog {
            self.error_log(devices);
        }
        if story == Story::Leak {
            for _ in 0..3000 {
                self.pool_block(b"Leak", 0x200);
            }
        }
        self.varied_pool();
        self.page_files();
        self.fill_memory();
        match story {
            Story::Idle | Story::Deadlock | Story::ErrorLog => self.asked_for(program),
            _ => self.fault(program, devices),
        }
        if story == Story::Wow64 {
            self.narrow(program);
        }
        self.start_queues();
        self.society();
        self.waiting_threads();
        self.requests(devices);
        self.open_handles();
        self.lock_driver_page();
        self.finish_threads();
        self.tell_fields();
        if story == Story::Hostile {
            self.vandalise();
        }
    }

    /// `\Driver\faultdrv` with two devices, the second on top of the first. Returns driver and devices.
    fn devices(&mut self) -> [Va; 3] {
        let generation = self.options.generation;
        let driver = self.named_object(r"\Driver\faultdrv", "Driver", "_DRIVER_OBJECT", 0);
        let image = self.image("faultdrv.sys");
        let (base, size) = (image.base, image.size);
        let [control, read] = ["DispatchDeviceControl", "DispatchRead"].map(|n| image.address_of(n));
        let invalid = self.nt("IofCallDriver").0;
        for (path, value) in [
            ("_DRIVER_OBJECT.Type", 4),
            ("_DRIVER_OBJECT.Size", generation.at("_DRIVER_OBJECT")),
            ("_DRIVER_OBJECT.DriverStart", base),
            ("_DRIVER_OBJECT.DriverSize", u64::from(size)),
        ] {
            self.set(driver, path, value);
        }
        self.write_string(driver.add(generation.at("_DRIVER_OBJECT.DriverName")), r"\Driver\faultdrv");
        let table = driver.add(generation.at("_DRIVER_OBJECT.MajorFunction"));
        let step = generation.machine.pointer_size() as u64;
        for major in 0..28 {
            let routine = match major {
                3 => read,
                14 => control,
                _ => invalid,
            };
            self.write_pointer(table.add(major * step), routine);
        }
        let devices = [r"\Device\Sensor0", r"\Device\Sensor1"]
            .map(|path| self.named_object(path, "Device", "_DEVICE_OBJECT", 0x80));
        for (index, device) in devices.into_iter().enumerate() {
            let extension = device.add(generation.at("_DEVICE_OBJECT"));
            for (path, value) in [
                ("_DEVICE_OBJECT.Type", 3),
                ("_DEVICE_OBJECT.Size", generation.at("_DEVICE_OBJECT") + 0x80),
                ("_DEVICE_OBJECT.ReferenceCount", 1),
                ("_DEVICE_OBJECT.DriverObject", driver.0),
                ("_DEVICE_OBJECT.DeviceExtension", extension.0),
                ("_DEVICE_OBJECT.DeviceType", 0x22),
                ("_DEVICE_OBJECT.StackSize", 1 + index as u64),
                ("_DEVICE_OBJECT.NextDevice", if index == 0 { 0 } else { devices[0].0 }),
            ] {
                self.set(device, path, value);
            }
        }
        self.set(devices[0], "_DEVICE_OBJECT.AttachedDevice", devices[1].0);
        self.set(driver, "_DRIVER_OBJECT.DeviceObject", devices[1].0);
        let listed = json!({ "driver": driver.0, "devices": devices.map(|d| d.0) });
        self.facts.insert("driver".into(), listed);
        [driver, devices[0], devices[1]]
    }

    /// Resources that nobody waits for: one free, one held by a thread, one shared by two.
    fn resources(&mut self) {
        let [first, second] = [0, 1].map(|i| self.threads[self.processors.len() + i].ethread);
        for name in ["PsLoadedModuleResource", "IopDatabaseResource", "CmpRegistryLock"] {
            let at = self.nt(name);
            let owners: &[Va] = match name {
                "PsLoadedModuleResource" => &[],
                "IopDatabaseResource" => &[first],
                _ => &[first, second],
            };
            self.resource(at, owners, owners.len() == 1, (0, 0), 2 * owners.len() as u64);
        }
    }

    /// Fills a resource: its owners, whether one has it exclusively, how many wait (shared, exclusive).
    fn resource(&mut self, at: Va, owners: &[Va], exclusive: bool, waiters: (u64, u64), contention: u64) {
        let generation = self.options.generation;
        self.append(
            self.nt("ExpSystemResourcesList"),
            at.add(generation.at("_ERESOURCE.SystemResourcesList")),
        );
        self.set(at, "_ERESOURCE.ActiveCount", owners.len() as u64);
        self.set(at, "_ERESOURCE.ActiveEntries", owners.len() as u64);
        self.set(at, "_ERESOURCE.Flag", if exclusive { 0x80 } else { 0 });
        self.set(at, "_ERESOURCE.ContentionCount", contention);
        self.set(at, "_ERESOURCE.NumberOfSharedWaiters", waiters.0);
        self.set(at, "_ERESOURCE.NumberOfExclusiveWaiters", waiters.1);
        let entry = generation.at("_OWNER_ENTRY");
        let own = generation.find("_ERESOURCE.OwnerEntry");
        let threads = generation.find("_ERESOURCE.OwnerThreads"); // XP: exclusive, then shared
        let place = own.or(threads).expect("a resource has owners");
        let mut owners_left = owners;
        if let [only] = owners {
            let at = at.add(place + if own.is_none() && !exclusive { entry } else { 0 });
            self.own(at, *only, 1);
            owners_left = &[];
        }
        if !owners_left.is_empty() {
            // A table: its first entry holds the size.
            let table = self.pool_block(b"ReTa", entry * (owners_left.len() as u64 + 2));
            self.set(table, "_OWNER_ENTRY.TableSize", owners_left.len() as u64 + 1);
            for (index, owner) in owners_left.iter().enumerate() {
                self.own(table.add((index as u64 + 1) * entry), *owner, 1 + index as u64);
            }
            self.set(at, "_ERESOURCE.OwnerTable", table.0);
        }
        let text = json!({
            "resource": at.0, "owners": owners.iter().map(|o| o.0).collect::<Vec<_>>(), "exclusive": exclusive,
            "counts": (1..=owners.len()).collect::<Vec<_>>(), "shared_waiters": waiters.0, "exclusive_waiters": waiters.1, "contention": contention,
        });
        let list = self.facts.entry("resources").or_insert_with(|| json!([]));
        list.as_array_mut().expect("a list").push(text);
    }

    fn own(&mut self, entry: Va, thread: Va, count: u64) {
        self.set(entry, "_OWNER_ENTRY.OwnerThread", thread.0);
        self.set(entry, "_OWNER_ENTRY.OwnerCount", count);
    }

    /// Thread A has the file and waits for the volume; B has the volume and waits for the file; C waits for the file too.
    fn deadlock(&mut self) {
        let generation = self.options.generation;
        let size = generation.at("_ERESOURCE");
        let [file, volume] = [b"Ntff", b"Ntfv"].map(|tag| self.pool_block(tag, size));
        let acquire = |outer: &[&'static str], function: &'static str| -> Vec<Call> {
            let mut chain = SYSTEM.to_vec();
            chain.push(("nt", "ExpWorkerThread", Place::Calls));
            chain.extend([("nt", "IofCallDriver", Place::Calls)]);
            chain.extend(outer.iter().map(|&f| ("Ntfs.sys", f, Place::Calls)));
            chain.push(("nt", function, Place::Calls));
            chain.push(("nt", "ExpWaitForResource", Place::Calls));
            chain.push(("nt", "KeWaitForSingleObject", Place::Calls));
            chain.extend(WAITS);
            chain
        };
        let exclusive = "ExAcquireResourceExclusiveLite";
        let writes = ["NtfsFsdWrite", "NtfsCommonWrite", "NtfsAcquireExclusiveVcb"];
        // ExpWorkerThread calls its item's routine; that stands for the request's way to the file system.
        let drop_call = |mut chain: Vec<Call>| {
            chain.retain(|c| c.1 != "IofCallDriver");
            chain
        };
        let writers = drop_call(acquire(&writes, exclusive));
        let readers = drop_call(acquire(&READS, exclusive));
        let [a] = self.resource_waiters(volume, "ExclusiveWaiters", &writers);
        let [b, c] = self.resource_waiters(file, "ExclusiveWaiters", &readers);
        self.resource(file, &[a], true, (0, 2), 3);
        self.resource(volume, &[b], true, (0, 1), 1);
        self.fast_resource(b);
        self.crowded_resource(&drop_call(acquire(&READS, "ExAcquireResourceSharedLite")), [a, c]);
        let text = json!({ "file": file.0, "volume": volume.0, "threads": [a.0, b.0, c.0] });
        self.facts.insert("deadlock".into(), text);
    }

    /// A resource that threads share, one of them twice, with one waiting to have it alone and two more to share it.
    fn crowded_resource(&mut self, chain: &[Call], owners: [Va; 2]) {
        let generation = self.options.generation;
        let resource = self.pool_block(b"Ntfs", generation.at("_ERESOURCE"));
        let [alone] = self.resource_waiters(resource, "ExclusiveWaiters", chain);
        let sharing: [Va; 2] = self.resource_waiters(resource, "SharedWaiters", chain);
        self.resource(resource, &owners, false, (2, 1), 7);
        let text = json!({
            "resource": resource.0, "owners": owners.map(|o| o.0), "exclusive_waiting": [alone.0],
            "shared_waiting": sharing.map(|t| t.0),
        });
        self.facts.insert("crowded_resource".into(), text);
    }

    /// Threads of the system that wait for a resource. Since 10 each has an entry with an event on its stack, and the
    /// entries are a ring without a head; before, all wait for an event or a semaphore of the resource.
    fn resource_waiters<const N: usize>(&mut self, resource: Va, field: &str, chain: &[Call]) -> [Va; N] {
        let generation = self.options.generation;
        let system = self.processes[0].eprocess;
        let (kind, structure) = if field == "SharedWaiters" { (5, "_KSEMAPHORE") } else { (1, "_KEVENT") };
        let object = self.pool_block(b"ReEv", generation.at(structure));
        self.start_object(object, kind, 0);
        if kind == 5 {
            self.set(object, "_KSEMAPHORE.Limit", 0x7fff_ffff);
        }
        let threads = [(); N].map(|()| self.waiter(system, 4, chain, object, 27));
        let place = format!("_ERESOURCE.{field}");
        if generation.find("_KWAIT_CHAIN_ENTRY").is_none() {
            self.set(resource, &place, object.0);
            return threads;
        }
        let entries = threads.map(|thread| {
            let index = self.threads.iter().position(|t| t.ethread == thread).expect("a thread");
            let entry = self.stack_limits[index].0.add(0x40);
            self.set(entry, "_KWAIT_CHAIN_ENTRY.Thread", thread.0);
            let event = entry.add(generation.at("_KWAIT_CHAIN_ENTRY.Event"));
            self.start_object(event, 1, 0);
            self.wait_blocks(thread, &[event], false, None);
            self.thread_record(thread).waits_for = Some(event);
            entry
        });
        for (index, entry) in entries.iter().enumerate() {
            self.set(*entry, "_KWAIT_CHAIN_ENTRY.ListEntry.Flink", entries[(index + 1) % N].0);
            self.set(*entry, "_KWAIT_CHAIN_ENTRY.ListEntry.Blink", entries[(index + N - 1) % N].0);
        }
        self.set(resource, &place, entries[0].0);
        threads
    }

    /// A fast resource, where there are such, that its owner acquired twice.
    fn fast_resource(&mut self, owner: Va) {
        let generation = self.options.generation;
        let size = generation.find("_FAST_ERESOURCE_INTERNAL").filter(|_| self.options.unusual);
        let Some(size) = size else { return };
        let resource = self.pool_block(b"Fast", size);
        self.resource(resource, &[owner], true, (0, 0), 2);
        self.set(resource, "_ERESOURCE.Flag", 0x81);
        let head = resource.add(generation.at("_FAST_ERESOURCE_INTERNAL.OwnerEntryListHead"));
        self.start_list(head);
        let entries = [(); 2].map(|()| {
            let entry =
                self.structure(b"Fown", "_FAST_OWNER_ENTRY_INTERNAL").expect("fast resources have owners");
            let fields = [("ThreadAddress", owner.0), ("LockAddress", resource.0), ("CallerExclusive", 1)];
            self.fill(entry, "_FAST_OWNER_ENTRY_INTERNAL", &fields);
            entry
        });
        // The first hangs in the resource, the second in the first.
        let again = entries[0].add(generation.at("_FAST_OWNER_ENTRY_INTERNAL.SublistHead"));
        self.start_list(again);
        self.append(again, entries[1].add(generation.at("_FAST_OWNER_ENTRY_INTERNAL.ListEntry")));
        self.append(head, entries[0].add(generation.at("_FAST_OWNER_ENTRY_INTERNAL.LockListEntry")));
        self.facts
            .insert("fast_resource".into(), json!({ "resource": resource.0, "owner": owner.0, "count": 2 }));
    }

    /// A debugger asked for the dump while the program was in its request: no fault.
    fn asked_for(&mut self, program: Va) {
        let mut chain = self.program();
        chain.extend(["NtDeviceIoControlFile", "IopXxxControlFile"].map(|f| ("nt", f, Place::Calls)));
        chain.push(("nt", "IopSynchronousServiceTail", Place::Calls));
        chain.push(("nt", "IofCallDriver", Place::Calls));
        chain.push(("faultdrv.sys", "DispatchDeviceControl", Place::Calls));
        chain.push(("faultdrv.sys", "ReadSensor", Place::Body));
        let thread = self.add_thread(program, 0x1a8c, 0x1a90, "KeBugCheckEx");
        let cpu = self.give_stack(thread, 0x1a90, &chain);
        self.set(thread, "_KTHREAD.TrapFrame", cpu.trap_frame);
        self.program_environment(program, thread);
        self.thread = thread;
        self.stack = *self.stack_limits.last().expect("the stack just made");
        self.crash.code = 0x161; // LIVE_SYSTEM_DUMP
        self.crash.parameters = [0, 0, 0, 0];
        self.crash.exception_address = cpu.pc;
        self.crash.registers = self.registers(&cpu);
        self.crash.stack = self.threads.last().map(|t| t.stack.clone()).unwrap_or_default();
        let saved = self.crash.registers.clone();
        self.runs(0, thread, &cpu);
        self.save_state(saved);
    }

    /// The driver reads freed memory: trap, bug check.
    fn fault(&mut self, program: Va, _devices: [Va; 3]) {
        let machine = self.options.generation.machine;
        let trap = match machine {
            Machine::X64 => "KiPageFault",
            Machine::X86 => "KiTrap0E",
            Machine::Arm64 => "KiKernelFault",
        };
        let mut chain = self.program();
        chain.extend(["NtDeviceIoControlFile", "IopXxxControlFile"].map(|f| ("nt", f, Place::Calls)));
        chain.push(("nt", "IopSynchronousServiceTail", Place::Calls));
        chain.push(("nt", "IofCallDriver", Place::Calls));
        chain.push(("faultdrv.sys", "DispatchDeviceControl", Place::Calls));
        chain.push(("faultdrv.sys", "ReadSensor", Place::Faults));
        let thread = self.add_thread(program, 0x1a8c, 0x1a90, "KeBugCheckEx");
        let mut cpu = self.give_stack(thread, 0x1a90, &chain);
        self.set(thread, "_KTHREAD.TrapFrame", cpu.trap_frame);
        self.program_environment(program, thread);
        let freed = if machine == Machine::X86 { 0x9c66_3010 } else { 0xffff_ac0f_6661_3010 };
        cpu.registers[cpu.fault_base] = freed - 4; // `Value` of the sensor
        let fault = cpu.clone();
        let rest = [
            ("nt", trap, Place::Calls),
            ("nt", "KiBugCheckDispatch", Place::Calls),
            ("nt", "KeBugCheckEx", Place::Start),
        ];
        let mut stack = self.run(&mut cpu, &rest);
        let record = self.threads.last_mut().expect("the thread just added");
        stack.append(&mut record.stack);
        record.stack = stack.clone();
        self.thread = thread;
        self.stack = *self.stack_limits.last().expect("the stack just made");
        self.crash.code = 0xd1; // DRIVER_IRQL_NOT_LESS_OR_EQUAL
        self.crash.parameters = [freed, 2, 0, fault.pc];
        self.crash.exception_address = fault.pc;
        self.crash.exception_information = [0, freed];
        self.crash.registers = self.registers(&fault);
        self.crash.stack = stack;
        let saved = self.registers(&cpu);
        self.runs(0, thread, &cpu);
        self.save_state(saved);
    }

    /// Breaks what readers follow: each damage is of its own kind.
    fn vandalise(&mut self) {
        let generation = self.options.generation;
        let wild = if generation.machine == Machine::X86 { 0xdead_beec } else { 0xdead_beef_dead_beec };
        // Processes: the list comes back to its second member, never to its head.
        let links = generation.at("_EPROCESS.ActiveProcessLinks");
        let [second, last] = [1, self.processes.len() - 1].map(|i| self.processes[i].eprocess.add(links));
        self.write_pointer(last, second.0);
        // Threads of the system: a pointer to nowhere.
        let threads = generation.at("_EPROCESS.ThreadListHead");
        self.write_pointer(self.processes[0].eprocess.add(threads), wild);
        // Resources: a member that is its own next.
        let resource = self.nt("IopDatabaseResource");
        self.write_pointer(resource, resource.0);
        // Error log: into the list of modules.
        let modules = self.nt("PsLoadedModuleList");
        self.write_pointer(self.nt("IopErrorLogListHead"), modules.0);
        // Unloaded drivers: a count that cannot be.
        self.write(self.nt("MmLastUnloadedDriver"), &u32::MAX.to_le_bytes());
        self.odd_drivers();
        // Handles: a table of a level that does not exist.
        let table = self.read_pointer(self.processes[0].eprocess.add(generation.at("_EPROCESS.ObjectTable")));
        self.set(table, "_HANDLE_TABLE.TableCode", 3);
        // A stack whose frame pointers run in a circle.
        let victim = self.processors.len();
        let (low, _) = self.stack_limits[victim];
        for at in (0..0x800).step_by(0x10) {
            let place = Va(low.0 + at);
            self.write_pointer(place, low.0);
        }
        self.set(self.threads[victim].ethread, "_KTHREAD.KernelStack", low.0);
        // Unwind data that ends in the middle of its codes.
        let image = self.image("faultdrv.sys");
        let (table, size) = image.exception_table;
        if size != 0 {
            let at = Va(image.base + u64::from(table) + 4);
            self.write(at, &u32::MAX.to_le_bytes());
        }
        let damage = json!([
            "processes loop",
            "thread list wild",
            "resource loops",
            "error log crosses modules",
            "unloaded count",
            "handle table level",
            "stack loops",
            "function table",
            "page tables fold"
        ]);
        self.facts.insert("damage".into(), damage);
    }

    /// The page tables of the last program lead to themselves. Done when nothing walks them any more to build.
    pub(super) fn fold_tables(&mut self) {
        let Some(space) = self.spaces.last().filter(|_| self.options.story == Story::Hostile) else { return };
        let wide = self.options.generation.machine != Machine::X86;
        let (at, count) = if wide { (Va(0x1000_0000_0000), 8) } else { (Va(0x4000_0000), 1) };
        let at = space.fold(&mut self.memory, at, count);
        let owner = self.processes.iter().find(|p| p.directory_table_base == space.root);
        let process = owner.expect("every space has a process").eprocess.0;
        self.facts.insert("folded".into(), json!({ "process": process, "va": at.0 }));
    }
}
