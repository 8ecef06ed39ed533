//! The standing parts of the system: images, kernel variables, lists, processors, processes, probes.

use super::super::bytes::Bytes;
use super::super::cpu::context;
use super::super::image::{Frame, Function, Image, Recipe, Variable};
use super::super::layout::Machine;
use super::super::memory::Owner;
use super::super::paging::{Leaf, Scheme, Size};
use super::{Probe, Process, Processor, SYSTEM_TIME, UP_TIME, World};
use kd_sdk::address::{PAGE_SIZE, Pfn, Va};

const fn function(name: &'static str, frame: Frame) -> Function {
    Function { name, frame, faults: false }
}

/// The kernel's code. Frame sizes keep the stack aligned: size + 8 is a multiple of 16.
static NT: &[Function] = &[
    function("KeBugCheckEx", Frame::Alloc(0x28)),
    function("KiBugCheckDispatch", Frame::Alloc(0x138)),
    function("KiPageFault", Frame::Trap),
    function("IofCallDriver", Frame::Alloc(0x38)),
    function("IopSynchronousServiceTail", Frame::Alloc(0x98)),
    function("IopXxxControlFile", Frame::Alloc(0x108)),
    function("NtDeviceIoControlFile", Frame::Alloc(0x68)),
    function("KiSystemServiceCopyEnd", Frame::SystemCall),
    function("KiIdleLoop", Frame::Alloc(0x58)),
    function("KiSwapContext", Frame::Alloc(0x138)),
    function("PspSystemThreadStartup", Frame::Alloc(0x58)),
    function("KiStartSystemThread", Frame::Alloc(0x28)),
];

/// The driver at fault.
static FAULTDRV: &[Function] = &[
    function("DriverEntry", Frame::Alloc(0x28)),
    function("DispatchDeviceControl", Frame::Alloc(0x48)),
    Function { name: "ReadSensor", frame: Frame::Alloc(0x28), faults: true },
];

static OTHER: &[Function] = &[function("DriverEntry", Frame::Alloc(0x28))];

#[rustfmt::skip]
/// The kernel's variables. [`super::kdbg::POINTERS`] names most of them.
static VARIABLES: &[Variable] = &[
    ("KdDebuggerDataBlock", 0x380), ("KdVersionBlock", 0x28), ("KdpDebuggerDataListHead", 16), ("KdpDataBlockEncoded", 1), ("KiWaitNever", 8), ("KiWaitAlways", 8),
    ("PsLoadedModuleList", 16), ("PsActiveProcessHead", 16), ("PsInitialSystemProcess", 8), ("PsIdleProcess", 8), ("PspCidTable", 8),
    ("KiProcessorBlock", 32 * 8), ("KeNumberProcessors", 4), ("KiBugCheckData", 40), ("KeTimeIncrement", 4), ("KeBugCheckCallbackListHead", 16),
    ("MmUnloadedDrivers", 8), ("MmLastUnloadedDriver", 4), ("MmPfnDatabase", 8), ("MmPhysicalMemoryBlock", 8), ("MmNumberOfPhysicalPages", 8),
    ("MmLowestPhysicalPage", 8), ("MmHighestPhysicalPage", 8), ("MmHighestUserAddress", 8), ("MmSystemRangeStart", 8), ("MmUserProbeAddress", 8),
    ("ExpSystemResourcesList", 16), ("IopErrorLogListHead", 16), ("ObpRootDirectoryObject", 8), ("ObpTypeObjectType", 8), ("PoolTrackTable", 8),
    ("IopNumTriageDumpDataBlocks", 4), ("IopTriageDumpDataBlocks", 64), ("NtBuildNumber", 4), ("NtBuildLab", 64), ("CmNtCSDVersion", 4),
];

impl World {
    pub(super) fn load_images(&mut self) {
        let generation = self.options.generation;
        let machine = generation.machine;
        let kernel_pdb = if machine == Machine::X86 { "ntkrpamp.pdb" } else { "ntkrnlmp.pdb" };
        let drivers: [(&str, &str, &[Function]); 5] = [
            ("ntoskrnl.exe", kernel_pdb, NT),
            ("hal.dll", "hal.pdb", OTHER),
            ("Ntfs.sys", "ntfs.pdb", OTHER),
            ("tcpip.sys", "tcpip.pdb", OTHER),
            ("faultdrv.sys", "faultdrv.pdb", FAULTDRV),
        ];
        for (index, (name, pdb, functions)) in drivers.into_iter().enumerate() {
            let folder = if index < 2 { r"\SystemRoot\system32" } else { r"\SystemRoot\System32\drivers" };
            let recipe = Recipe {
                name,
                path: format!(r"{folder}\{name}"),
                pdb,
                functions,
                variables: if index == 0 { VARIABLES } else { &[] },
                time_date_stamp: 0x6621_0000 + generation.build + 0x11 * index as u32,
                exports: index < 2,
            };
            let base = match index {
                0 => generation.kernel_base,
                1 => (generation.kernel_base & !0x3f_ffff) - 0x40_0000, // aligned for any large page
                _ => generation.kernel_base + 0x100_0000 + 0x4_0000 * index as u64,
            };
            let image = Image::new(machine, base, &recipe);
            if index == 1 {
                self.map_large(&image);
            } else {
                self.map_range(Va(base), u64::from(image.size));
            }
            self.write(Va(base), &image.bytes);
            self.images.push(image);
        }
    }

    /// Maps an image with one large page; only the frames it fills have contents.
    fn map_large(&mut self, image: &Image) {
        let frames = if self.system.scheme == Scheme::X86 { 1024 } else { 512 };
        let first = self.memory.reserve(frames, frames);
        for i in 0..u64::from(image.size) / PAGE_SIZE {
            self.memory.commit(Pfn(first.0 + i), Owner::Kernel);
        }
        self.system.map(&mut self.memory, Va(image.base), first, Size::Large, Owner::Kernel);
    }

    pub(super) fn fill_kernel_variables(&mut self) {
        let generation = self.options.generation;
        for head in ["PsLoadedModuleList", "PsActiveProcessHead", "ExpSystemResourcesList"] {
            self.start_list(self.nt(head));
        }
        for head in ["IopErrorLogListHead", "KeBugCheckCallbackListHead"] {
            self.start_list(self.nt(head));
        }
        let pages: u64 = self.memory.ram().iter().map(|r| r.count).sum();
        let last = self.memory.ram().last().map_or(0, |r| r.base + r.count - 1);
        let wide = generation.machine != Machine::X86;
        let user_end = if wide { 0x7fff_fffe_ffff } else { 0x7ffe_ffff };
        let values = [
            ("MmPfnDatabase", if wide { 0xffff_fa80_0000_0000 } else { 0x8300_0000 }),
            ("MmNumberOfPhysicalPages", pages),
            ("MmLowestPhysicalPage", 1),
            ("MmHighestPhysicalPage", last),
            ("MmHighestUserAddress", user_end),
            ("MmUserProbeAddress", user_end & !0xffff),
            ("MmSystemRangeStart", generation.system_start().0),
        ];
        for (name, value) in values {
            self.count(name, value);
        }
        let numbers = [
            ("KeNumberProcessors", self.options.processors),
            ("KeTimeIncrement", 156_250),
            ("NtBuildNumber", 0xf000_0000 | generation.build),
        ];
        for (name, value) in numbers {
            self.write(self.nt(name), &value.to_le_bytes());
        }
        self.write(self.nt("NtBuildLab"), generation.build_lab.as_bytes());

        let mut version = vec![0; 0x28];
        version.put_u16(0, 0xf);
        version.put_u16(2, generation.build as u16);
        version.put(4, &[6, 2]); // protocol
        version.put_u16(6, if wide { 7 } else { 3 }); // multiprocessor, data block present, 64-bit pointers
        version.put_u16(8, generation.machine.image_type());
        let sign = |va: u64| if wide { va } else { i64::from(va as i32) as u64 };
        version.put_u64(0x10, sign(generation.kernel_base));
        version.put_u64(0x18, sign(self.nt("PsLoadedModuleList").0));
        version.put_u64(0x20, sign(self.nt("KdpDebuggerDataListHead").0));
        self.write(self.nt("KdVersionBlock"), &version);

        let block = physical_memory_descriptor(wide, self.memory.ram().iter().map(|r| (r.base, r.count)));
        let at = self.allocate(block.len() as u64);
        self.write(at, &block);
        self.write_pointer(self.nt("MmPhysicalMemoryBlock"), at.0);
    }

    pub(super) fn list_modules(&mut self) {
        let generation = self.options.generation;
        for index in 0..self.images.len() {
            let entry = self.allocate(generation.at("_KLDR_DATA_TABLE_ENTRY"));
            let image = &self.images[index];
            let (table, table_size) = image.exception_table;
            let table = if table == 0 { 0 } else { image.base + u64::from(table) };
            let (path, name) = (image.path.clone(), image.name.clone());
            let values = [
                ("ExceptionTable", table),
                ("ExceptionTableSize", u64::from(table_size)),
                ("DllBase", image.base),
                ("EntryPoint", image.base + u64::from(image.entry_point)),
                ("SizeOfImage", u64::from(image.size)),
                ("Flags", 0x0900_4000),
                ("LoadCount", 1),
                ("CheckSum", u64::from(image.check_sum)),
                ("TimeDateStamp", u64::from(image.time_date_stamp)),
            ];
            for (field, value) in values {
                self.set(entry, &format!("_KLDR_DATA_TABLE_ENTRY.{field}"), value);
            }
            self.write_string(entry.add(generation.at("_KLDR_DATA_TABLE_ENTRY.FullDllName")), &path);
            self.write_string(entry.add(generation.at("_KLDR_DATA_TABLE_ENTRY.BaseDllName")), &name);
            self.append(self.nt("PsLoadedModuleList"), entry);
        }

        let gone = generation.kernel_base + 0x300_0000;
        self.unloaded =
            vec![("dam.sys", gone, gone + 0x1_2000), ("WdFilter.sys", gone + 0x2_0000, gone + 0x6_5000)];
        let size = generation.at("_UNLOADED_DRIVERS");
        let array = self.allocate(50 * size);
        for (index, (name, start, end)) in self.unloaded.clone().into_iter().enumerate() {
            let entry = array.add(index as u64 * size);
            self.write_string(entry, name);
            self.set(entry, "_UNLOADED_DRIVERS.StartAddress", start);
            self.set(entry, "_UNLOADED_DRIVERS.EndAddress", end);
            self.set(entry, "_UNLOADED_DRIVERS.CurrentTime", SYSTEM_TIME - UP_TIME / 2);
        }
        self.write_pointer(self.nt("MmUnloadedDrivers"), array.0);
        self.write(self.nt("MmLastUnloadedDriver"), &(self.unloaded.len() as u32).to_le_bytes());
    }

    /// Lays out `KPCR` and `KPRCB` of every processor. All but the first are idle.
    pub(super) fn start_processors(&mut self) {
        let generation = self.options.generation;
        let machine = generation.machine;
        let pointer = machine.pointer_size() as u64;
        let size = generation.at("_KPCR").next_multiple_of(PAGE_SIZE);
        let first = if machine == Machine::X86 { 0x8a00_0000 } else { generation.kernel_base + 0x80_0000 };
        for number in 0..self.options.processors {
            let pcr = Va(first + u64::from(number) * (size + PAGE_SIZE));
            let prcb = pcr.add(generation.prcb().0);
            self.map_range(pcr, size);
            for path in ["_KPCR.Self", "_KPCR.SelfPcr"] {
                self.set(pcr, path, pcr.0);
            }
            if let Some(pointer) = generation.prcb().1 {
                self.write_pointer(pcr.add(pointer), prcb.0);
            }
            self.set(pcr, "_KPCR.KdVersionBlock", self.nt("KdVersionBlock").0);
            self.set(prcb, "_KPRCB.Number", u64::from(number));
            self.set(prcb, "_KPRCB.MHz", 2400);
            self.set(prcb, "_KPRCB.CpuType", 6);
            self.set(prcb, "_KPRCB.ProcessorModel", 0x805);
            for (path, vendor) in [("VendorString", &b"GenuineIntel\0"[..]), ("ProcessorVendorString", b"Q")]
            {
                if let Some(offset) = generation.find(&format!("_KPRCB.{path}")) {
                    self.write(prcb.add(offset), vendor);
                }
            }
            let state = prcb.add(generation.at("_KPRCB.ProcessorState"));
            let special = state.add(generation.at("_KPROCESSOR_STATE.SpecialRegisters"));
            self.set(special, "_KSPECIAL_REGISTERS.Cr0", 0x8005_0033);
            self.set(special, "_KSPECIAL_REGISTERS.Cr3", self.system.root.0);
            let five_levels = u64::from(self.options.five_levels) << 12;
            self.set(special, "_KSPECIAL_REGISTERS.Cr4", 0x6f8 | five_levels);

            // An idle processor, as frozen by the one that crashed.
            let stack = self.allocate(0x400).add(0x300);
            let mut registers = machine.kernel_registers();
            let [pc, sp, fp] = machine.frame_registers();
            registers.insert(pc, self.nt("KiIdleLoop").0 + 4);
            registers.insert(sp, stack.0);
            registers.insert(fp, stack.0 + 0x40);
            let record = context(machine, &registers);
            let saved = self.allocate(record.len() as u64);
            self.write(saved, &record);
            self.write(state.add(generation.at("_KPROCESSOR_STATE.ContextFrame")), &record);
            self.set(prcb, "_KPRCB.Context", saved.0);
            self.write_pointer(self.nt("KiProcessorBlock").add(u64::from(number) * pointer), prcb.0);
            self.processors.push(Processor { number, prcb, context: saved, registers });
        }
    }

    pub(super) fn start_processes(&mut self) {
        let generation = self.options.generation;
        let idle = self.add_process("Idle", 0, 0, self.system.root.0);
        let system = self.add_process("System", 4, 0, self.system.root.0);
        let culprit = self.add_process("faultapp.exe", 0x1a8c, 0xb30, self.user.root.0);
        for (name, process) in [("PsIdleProcess", idle), ("PsInitialSystemProcess", system)] {
            self.write_pointer(self.nt(name), process.0);
        }
        for index in 0..self.processors.len() {
            let thread = self.add_thread(idle, 0, 0, "KiIdleLoop");
            let prcb = self.processors[index].prcb;
            self.set(prcb, "_KPRCB.IdleThread", thread.0);
            self.set(prcb, "_KPRCB.CurrentThread", thread.0);
        }
        let waiting = self.add_thread(system, 4, 0x38, "PspSystemThreadStartup");
        self.set(waiting, "_KTHREAD.State", 5);
        self.thread = self.add_thread(culprit, 0x1a8c, 0x1a90, "NtDeviceIoControlFile");
        self.set(self.processors[0].prcb, "_KPRCB.CurrentThread", self.thread.0);

        let top = Va(if generation.machine == Machine::X86 { 0x9a3f_6000 } else { 0xffff_fb88_0d3f_6000 });
        let limit = Va(top.0 - 0x6000);
        self.map_range(limit, 0x6000);
        self.stack = (limit, top);
        self.set(self.thread, "_KTHREAD.InitialStack", top.0);
        self.set(self.thread, "_KTHREAD.StackBase", top.0);
        self.set(self.thread, "_KTHREAD.StackLimit", limit.0);
    }

    pub(super) fn add_process(&mut self, name: &str, id: u64, parent: u64, root: u64) -> Va {
        let generation = self.options.generation;
        let process = self.new_object("Process", generation.at("_EPROCESS"), None);
        self.set(process, "_KPROCESS.DirectoryTableBase", root);
        self.set(process, "_EPROCESS.UniqueProcessId", id);
        self.set(process, "_EPROCESS.InheritedFromUniqueProcessId", parent);
        self.set(process, "_EPROCESS.CreateTime", SYSTEM_TIME - UP_TIME + id);
        self.write(
            process.add(generation.at("_EPROCESS.ImageFileName")),
            &name.as_bytes()[..name.len().min(15)],
        );
        self.start_list(process.add(generation.at("_KPROCESS.ThreadListHead")));
        self.start_list(process.add(generation.at("_EPROCESS.ThreadListHead")));
        if id != 0 {
            let links = process.add(generation.at("_EPROCESS.ActiveProcessLinks"));
            self.append(self.nt("PsActiveProcessHead"), links);
            let directory_table_base = kd_sdk::address::Pa(root);
            let name = name.to_owned();
            self.processes.push(Process { eprocess: process, id, name, directory_table_base });
        }
        process
    }

    /// Adds a running thread to a process. It has no stack yet.
    pub(super) fn add_thread(&mut self, process: Va, process_id: u64, id: u64, start: &str) -> Va {
        let generation = self.options.generation;
        let thread = self.new_object("Thread", generation.at("_ETHREAD"), None);
        let cid = thread.add(generation.at("_ETHREAD.Cid"));
        let apc = thread.add(generation.at("_KTHREAD.ApcState"));
        self.set(cid, "_CLIENT_ID.UniqueProcess", process_id);
        self.set(cid, "_CLIENT_ID.UniqueThread", id);
        self.set(apc, "_KAPC_STATE.Process", process.0);
        self.set(thread, "_KTHREAD.Process", process.0);
        self.set(thread, "_ETHREAD.ThreadsProcess", process.0); // before Vista
        self.fill(thread, "_KTHREAD", &[("State", 2), ("KernelStackResident", 1)]);
        self.set(thread, "_KTHREAD.Priority", 8);
        self.set(thread, "_ETHREAD.StartAddress", self.nt(start).0);
        self.set(thread, "_ETHREAD.CreateTime", SYSTEM_TIME - UP_TIME + id);
        if let Some(irps) = generation.find("_ETHREAD.IrpList") {
            self.start_list(thread.add(irps));
        }
        for owner in ["K", "E"] {
            let head = process.add(generation.at(&format!("_{owner}PROCESS.ThreadListHead")));
            self.append(head, thread.add(generation.at(&format!("_{owner}THREAD.ThreadListEntry"))));
        }
        let count = self.read_pointer(process.add(generation.at("_EPROCESS.ActiveThreads"))).0 as u32;
        self.set(process, "_EPROCESS.ActiveThreads", u64::from(count) + 1);
        thread
    }

    pub(super) fn share_user_data(&mut self) {
        let generation = self.options.generation;
        let mut page = vec![0; PAGE_SIZE as usize];
        let mut time = |at: usize, value: u64| {
            page.put_u64(at, value);
            page.put_u32(at + 8, (value >> 32) as u32);
        };
        time(0x08, UP_TIME);
        time(0x14, SYSTEM_TIME);
        time(0x20, 0); // time zone bias
        time(0x320, UP_TIME / 156_250); // ticks
        page.put_u32(0x4, 0x0fa0_0000); // tick count multiplier: 15.625 ms
        page.put_u16(0x2c, generation.machine.image_type());
        page.put_u16(0x2e, generation.machine.image_type());
        page.put(0x30, &super::super::bytes::utf16(r"C:\Windows"));
        page.put_u32(0x260, generation.build);
        page.put_u32(0x264, 1); // workstation
        page.put(0x268, &[1]);
        page.put_u32(0x26c, u32::from(generation.version.0));
        page.put_u32(0x270, u32::from(generation.version.1));
        page.put_u32(0x2d0, 0x110); // terminal, single user terminal
        page.put_u32(0x3c0, self.options.processors);
        let at = generation.shared_user_data();
        self.map_range(at, PAGE_SIZE);
        self.write(at, &page);
    }

    /// Lays out one page of each state that an entry can be in.
    pub(super) fn lay_probes(&mut self) {
        let wide = self.options.generation.machine != Machine::X86;
        let user = Va(if wide { 0x7ff6_1230_0000 } else { 0x0123_0000 });
        let kernel = Va(if wide { 0xffff_bf0a_0010_0000 } else { 0x9b00_0000 });
        // Two-level tables name a prototype by its distance from paged pool.
        let packed = self.user.scheme.entry_size() == 4 && self.options.story != super::Story::Sample;
        let prototype =
            if packed { self.pool_of(super::PoolKind::Paged, b"MmSt", 8) } else { self.allocate(8) };
        let base = if packed { self.read_pointer(self.nt("MmProtopteBase")).0 } else { 0 };
        let memory = &mut self.memory;
        let mut fill = |owner, text: &str| {
            let frame = memory.allocate(owner);
            memory.write(frame.pa(), text.as_bytes());
            frame
        };
        let [valid, transition, shared] =
            ["user page", "user page in transition", "shared page"].map(|t| fill(Owner::User, t));
        let kernel_transition = fill(Owner::Kernel, "kernel page in transition");
        let absent = memory.reserve(1, 1);
        let value = self.user.leaf(Leaf::Transition(shared), Owner::User);
        let size = self.user.scheme.entry_size() as usize;
        self.write(prototype, &value.to_le_bytes()[..size]);
        let absent_copy = self.user.leaf(Leaf::DemandZero, Owner::User);
        self.plan.prototypes.insert(shared.0, (prototype, absent_copy, None));

        // Two-level tables keep an offset that cannot be followed without the kernel's symbols.
        let shared_text = if size == 8 { "shared page" } else { "" };
        let page_file = Leaf::PageFile { file: 2, page: 0x1234 };
        let pages = [
            (user, Leaf::Valid(valid), Owner::User, "valid", "user page"),
            (
                user.add(0x1000),
                Leaf::Transition(transition),
                Owner::User,
                "transition",
                "user page in transition",
            ),
            (user.add(0x2000), page_file, Owner::User, "page file", ""),
            (user.add(0x3000), Leaf::DemandZero, Owner::User, "demand zero", ""),
            (
                user.add(0x4000),
                Leaf::Prototype(Va(prototype.0 - base)),
                Owner::User,
                "prototype",
                shared_text,
            ),
            (
                kernel,
                Leaf::Transition(kernel_transition),
                Owner::Kernel,
                "transition",
                "kernel page in transition",
            ),
            (kernel.add(0x1000), page_file, Owner::Kernel, "page file", ""),
            (kernel.add(0x2000), Leaf::Valid(absent), Owner::Kernel, "not captured", ""),
        ];
        for (va, leaf, owner, state, text) in pages {
            let space = if owner == Owner::User { &self.user } else { &self.system };
            space.set(&mut self.memory, va, leaf, owner);
            self.probes.push(Probe { va, state, text, owner });
        }
        for va in [user.add(0x1000_0000), kernel.add(0x100_0000)] {
            self.probes.push(Probe { va, state: "not mapped", text: "", owner: Owner::User });
        }
    }
}

/// A `PHYSICAL_MEMORY_DESCRIPTOR` of either pointer size.
pub fn physical_memory_descriptor(wide: bool, runs: impl Iterator<Item = (u64, u64)>) -> Vec<u8> {
    let runs: Vec<_> = runs.collect();
    let pages = runs.iter().map(|r| r.1).sum();
    let mut block = Vec::new();
    let mut word = |value: u64| if wide { block.u64(value) } else { block.u32(value as u32) };
    word(runs.len() as u64);
    word(pages);
    for (base, count) in runs {
        word(base);
        word(count);
    }
    block
}
