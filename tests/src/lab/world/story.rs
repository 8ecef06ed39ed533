//! A system on built kernels, up to the point where a story begins, and what closes it.

use super::{Process, StackFrame, Thread, World};
use crate::lab::cpu::{Registers, context};
use crate::lab::image;
use crate::lab::kernels;
use crate::lab::layout::Machine;
use crate::lab::memory::Owner;
use crate::lab::paging::{AddressSpace, Leaf};
use crate::lab::stack::{Call, Cpu, Place};
use kd_sdk::address::{PAGE_SIZE, Pa, Va};
use serde_json::json;

/// What happened to a system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Story {
    /// The small system that ships as a sample, on made images: a driver read freed memory.
    Sample,
    /// Nothing: a debugger asked for a dump of a healthy system.
    Idle,
    /// A third-party driver reads freed pool in a request of a program.
    CrashInDriver,
    /// Three threads, two resources.
    Deadlock,
    /// One tag has nearly all of nonpaged pool.
    Leak,
    /// No memory left to hand out.
    MemoryPressure,
    /// A dozen error-log entries not yet written.
    ErrorLog,
    /// A 32-bit program on a 64-bit system.
    Wow64,
    /// Lists that loop, pointers that lead nowhere, counts that cannot be.
    Hostile,
    /// Very many processes and threads.
    Huge,
}

impl Story {
    /// The stories small enough for every test run, with the names they go by.
    pub const ALL: [(Story, &'static str); 8] = [
        (Story::Idle, "idle"),
        (Story::CrashInDriver, "crash-in-driver"),
        (Story::Deadlock, "deadlock"),
        (Story::Leak, "leak"),
        (Story::MemoryPressure, "memory-pressure"),
        (Story::ErrorLog, "errlog"),
        (Story::Wow64, "wow64"),
        (Story::Hostile, "hostile"),
    ];
}

/// The way down of every thread that waits.
pub(super) const WAITS: [Call; 4] = [
    ("nt", "KiCommitThreadWait", Place::Calls),
    ("nt", "KiSwapThread", Place::Calls),
    ("nt", "KiSwapContext", Place::Calls),
    ("nt", "SwapContext", Place::Body),
];

/// The way down of every system thread.
pub(super) const SYSTEM: [Call; 2] =
    [("nt", "KiStartSystemThread", Place::Calls), ("nt", "PspSystemThreadStartup", Place::Calls)];

impl World {
    pub(super) fn tell(&mut self) {
        self.load_built_images();
        self.fill_kernel_variables();
        for head in ["HandleTableListHead", "KiProcessListHead", "MmLoadedUserImageList"] {
            self.start_list(self.nt(head));
        }
        self.make_kinds();
        self.list_modules();
        self.map_pfn_database();
        self.pool_limits();
        self.map_color_lists();
        self.start_processors();
        self.people();
        self.share_user_data();
        self.happen();
        self.lay_probes();
        self.fit_machine();
        self.write_cid_table();
        self.count_kinds();
        self.write_pool_tables();
        self.write_debugger_data();
        self.fill_pfn_database();
        self.tell_drivers();
        self.tell_devices();
        self.kernel_regions();
        self.page_file_writes();
        self.tell_owners();
        self.close_tables();
        self.fold_tables();
    }

    fn load_built_images(&mut self) {
        let generation = self.options.generation;
        let files =
            kernels::load(generation).unwrap_or_else(|e| panic!("kernel of {}: {e}", generation.name));
        let kernel_pdb = if generation.machine == Machine::X86 { "ntkrpamp.pdb" } else { "ntkrnlmp.pdb" };
        let all = [
            ("ntoskrnl.exe", kernel_pdb, r"\SystemRoot\system32\ntoskrnl.exe"),
            ("hal.dll", "hal.pdb", r"\SystemRoot\system32\hal.dll"),
            ("Ntfs.sys", "ntfs.pdb", r"\SystemRoot\System32\drivers\Ntfs.sys"),
            ("faultdrv.sys", "faultdrv.pdb", r"\SystemRoot\System32\drivers\faultdrv.sys"),
        ];
        for (index, (name, pdb, path)) in all.into_iter().enumerate() {
            let base = match index {
                0 => generation.kernel_base,
                1 => (generation.kernel_base & !0x3f_ffff) - 0x40_0000,
                _ => generation.kernel_base + 0x100_0000 + 0x4_0000 * index as u64,
            };
            let image =
                image::built(generation.machine, base, name, path.into(), &files[name], files[pdb].clone());
            self.map_image(&image);
            self.images.push(image);
        }
        for (name, pdb) in [("ntdll.dll", "ntdll.pdb"), ("faultapp.exe", "faultapp.pdb")] {
            let wide = generation.machine != Machine::X86;
            let base = match (name, wide) {
                ("ntdll.dll", true) => 0x7ffb_1230_0000,
                ("ntdll.dll", false) => 0x77a0_0000,
                (_, true) => 0x7ff6_5550_0000,
                (_, false) => 0x0040_0000,
            };
            let folder =
                if name == "ntdll.dll" { r"C:\Windows\System32" } else { r"C:\Program Files\Example" };
            let path = format!(r"{folder}\{name}");
            let image = image::built(generation.machine, base, name, path, &files[name], files[pdb].clone());
            self.map_user(Va(base), u64::from(image.size));
            self.write(Va(base), &image.bytes);
            self.user_images.push(image);
        }
    }

    /// Maps an image in parts: what is thrown away after start is gone, resources of drivers are in the page file.
    fn map_image(&mut self, image: &image::Image) {
        let mut page = 0;
        while page < image.size {
            let va = Va(image.base + u64::from(page));
            let section = image.sections.iter().find(|s| (s.rva..s.rva + s.size).contains(&page));
            match section.map(|s| s.name.as_str()) {
                Some("INIT") => {}
                Some(".rsrc" | ".reloc") if image.name != "ntoskrnl.exe" => {
                    let leaf = Leaf::PageFile { file: 0, page: 0x100 + u64::from(page >> 12) };
                    self.system.set(&mut self.memory, va, leaf, Owner::Kernel);
                }
                part => {
                    self.map_range(va, PAGE_SIZE);
                    let end = (page + PAGE_SIZE as u32).min(image.size) as usize;
                    self.write(va, &image.bytes[page as usize..end]);
                    if part == Some("PAGE") {
                        // Taken from the working set, still in memory.
                        let frame = self.system.translate(&self.memory, va).expect("just mapped").pfn();
                        self.system.set(&mut self.memory, va, Leaf::Transition(frame), Owner::Kernel);
                    }
                }
            }
            page += PAGE_SIZE as u32;
        }
    }

    /// The processes and threads of every story.
    fn people(&mut self) {
        self.event = self.new_object("Event", self.options.generation.at("_KEVENT"), None);
        let event = self.event;
        self.start_object(event, 1, 0);
        let idle = self.add_process("Idle", 0, 0, self.system.root.0);
        self.start_object(idle, 3, 0);
        let system = self.person("System", 4, 0, None);
        for (name, process) in [("PsIdleProcess", idle), ("PsInitialSystemProcess", system)] {
            self.write_pointer(self.nt(name), process.0);
        }
        for index in 0..self.processors.len() {
            let idles = [("nt", "KiIdleLoop", Place::Calls), ("nt", "PoIdle", Place::Calls)];
            // The second processor was interrupted and runs a deferred call; the third is in a function without frame.
            let then: &[Call] = match index {
                1 => &[
                    ("nt", "PpmIdleExecuteTransition", Place::Body),
                    ("nt", "KiDpcInterrupt", Place::Calls),
                    ("nt", "KiDispatchInterrupt", Place::Calls),
                    ("nt", "KiRetireDpcList", Place::Calls),
                    ("nt", "KiExecuteAllDpcs", Place::Calls),
                    ("faultdrv.sys", "TimerDpc", Place::Body),
                ],
                2 => &[("nt", "PpmIdleExecuteTransition", Place::Calls), ("nt", "KiLeaf", Place::Start)],
                _ => &[("nt", "PpmIdleExecuteTransition", Place::Body)],
            };
            let chain = [&idles[..], then].concat();
            let thread = self.add_thread(idle, 0, 0, "KiIdleLoop");
            let cpu = self.give_stack(thread, 0, &chain);
            let prcb = self.processors[index].prcb;
            self.set(prcb, "_KPRCB.IdleThread", thread.0);
            self.runs(index, thread, &cpu);
        }
        let worker = [
            &SYSTEM[..],
            &[("nt", "ExpWorkerThread", Place::Calls), ("nt", "KeRemoveQueueEx", Place::Calls)],
            &WAITS[..],
        ];
        for _ in 0..4 {
            self.waiter(system, 4, &worker.concat(), self.nt("ExpDelayedQueue"), 15);
        }
        let balance = [
            &SYSTEM[..],
            &[("nt", "KeBalanceSetManager", Place::Calls), ("nt", "KeWaitForMultipleObjects", Place::Calls)],
            &WAITS[..],
        ];
        self.waiter(system, 4, &balance.concat(), self.nt("ExpWorkerEvent"), 0);
        let writer = [
            &SYSTEM[..],
            &[("nt", "MiModifiedPageWriter", Place::Calls), ("nt", "KeWaitForSingleObject", Place::Calls)],
            &WAITS[..],
        ];
        self.waiter(system, 4, &writer.concat(), self.nt("ExpWorkerEvent"), 18);
        let key = [
            &SYSTEM[..],
            &[
                ("nt", "ExpWorkerThread", Place::Calls),
                ("nt", "NtOpenKey", Place::Calls),
                ("nt", "CmpParseKey", Place::Calls),
                ("nt", "KeWaitForSingleObject", Place::Calls),
            ],
            &WAITS[..],
        ];
        self.waiter(system, 4, &key.concat(), event, 3);
        for (name, id) in
            [("smss.exe", 0x15c), ("csrss.exe", 0x1c8), ("services.exe", 0x258), ("svchost.exe", 0x3a4)]
        {
            let space = self.new_space();
            let process = self.person(name, id, 4, Some(space));
            self.waiter(
                process,
                id,
                &self.in_program("NtWaitForSingleObject", &["KeWaitForSingleObject"]),
                event,
                6,
            );
        }
        self.crowd(event);
    }

    fn new_space(&mut self) -> AddressSpace {
        AddressSpace {
            swizzle: self.system.swizzle,
            file_bit: self.system.file_bit,
            ..AddressSpace::new(self.system.scheme, &mut self.memory)
        }
    }

    /// Processes and threads that only make the system large.
    fn crowd(&mut self, event: Va) {
        let (processes, threads) = self.options.crowd;
        let chain = self.in_program("NtDelayExecution", &["KeDelayExecutionThread"]);
        for number in 0..processes {
            let id = 0x1_0000 + number * 4;
            let space = self.new_space();
            let process = self.person(&format!("app{number:04}.exe"), id, 0x258, Some(space));
            for _ in 0..threads / processes {
                self.waiter(process, id, &chain, event, 4);
            }
        }
    }

    /// Frames of the kernel only, of a thread that came from a program whose pages are not in memory.
    pub(super) fn in_program(&self, service: &'static str, calls: &[&'static str]) -> Vec<Call> {
        let mut chain = vec![("nt", self.entry(), Place::Calls), ("nt", service, Place::Calls)];
        chain.extend(calls.iter().map(|&c| ("nt", c, Place::Calls)));
        chain.extend(WAITS);
        chain
    }

    /// The function that a system call enters.
    pub(super) fn entry(&self) -> &'static str {
        match self.options.generation.machine {
            Machine::X64 => "KiSystemCall64",
            Machine::X86 => "KiFastCallEntry",
            Machine::Arm64 => "KiSystemService",
        }
    }

    /// Adds a process with all that is known of it. Without a space of its own it lives in the system's.
    pub(super) fn person(&mut self, name: &str, id: u64, parent: u64, space: Option<AddressSpace>) -> Va {
        let root = space.as_ref().map_or(self.system.root, |s| s.root);
        self.spaces.extend(space);
        self.process_at(name, id, parent, root)
    }

    /// As [`Self::person`], with page tables that exist already.
    pub(super) fn process_at(&mut self, name: &str, id: u64, parent: u64, root: Pa) -> Va {
        let generation = self.options.generation;
        let process = self.add_process(name, id, parent, root.0);
        self.start_object(process, 3, 0);
        let number = self.processes.len() as u64;
        let token = self.new_object("Token", generation.find("_TOKEN").unwrap_or(0x200), None);
        let values = [
            ("_EPROCESS.Token", token.0 | 7),
            ("_EPROCESS.VirtualSize", 0x400_0000 + number * 0x1_0000),
            ("_EPROCESS.PeakVirtualSize", 0x480_0000 + number * 0x1_0000),
            ("_EPROCESS.CommitCharge", 0x120 + number),
            ("_EPROCESS.PriorityClass", 2),
            ("_KPROCESS.BasePriority", 8),
            ("_KPROCESS.KernelTime", 17 + number),
            ("_KPROCESS.UserTime", 29 + number),
            ("_EPROCESS.Vm.Instance.WorkingSetSize", 0x200 + number),
            ("_EPROCESS.Vm.WorkingSetSize", 0x200 + number),
            ("_EPROCESS.Vm.Instance.PeakWorkingSetSize", 0x280 + number),
            ("_EPROCESS.Vm.PeakWorkingSetSize", 0x280 + number),
            ("_EPROCESS.Vm.Instance.MinimumWorkingSetSize", 50),
            ("_EPROCESS.Vm.MinimumWorkingSetSize", 50),
            ("_EPROCESS.Vm.Instance.MaximumWorkingSetSize", 345),
            ("_EPROCESS.Vm.MaximumWorkingSetSize", 345),
            ("_EPROCESS.Vm.Instance.PageFaultCount", 1000 + number),
            ("_EPROCESS.Vm.PageFaultCount", 1000 + number),
        ];
        for (path, value) in values {
            self.set(process, path, value);
        }
        self.open(process, id, &[(4, process, 0x1f_ffff), (8, self.event, 0x1f_0003)]);
        process
    }

    /// Adds a thread that waits at the end of a chain.
    pub(super) fn waiter(
        &mut self,
        process: Va,
        process_id: u64,
        chain: &[Call],
        object: Va,
        reason: u64,
    ) -> Va {
        let id = self.next_thread_id();
        let start =
            chain.get(2).filter(|_| chain[0].1 == "KiStartSystemThread").map_or("KeBugCheckEx", |c| c.1);
        let thread = self.add_thread(process, process_id, id, start);
        let cpu = self.give_stack(thread, id, chain);
        let generation = self.options.generation;
        self.set(thread, "_KTHREAD.KernelStack", cpu.sp);
        // On arm64 the switch itself saves into the thread: where its caller goes on, and its frame.
        self.set(thread, "_KTHREAD.SwitchFrame.Fp", cpu.registers[29]);
        self.set(thread, "_KTHREAD.SwitchFrame.Return", cpu.registers[30]);
        self.set(thread, "_KTHREAD.State", 5);
        self.set(thread, "_KTHREAD.WaitReason", reason);
        self.set(thread, "_KTHREAD.WaitTime", 0x1234);
        self.set(thread, "_KTHREAD.ContextSwitches", 100 + id);
        if cpu.trap_frame != 0 {
            self.set(thread, "_KTHREAD.TrapFrame", cpu.trap_frame);
        }
        // One wait block, in the thread and in the object's list.
        if let Some(block) = generation.find("_KTHREAD.WaitBlock").map(|o| thread.add(o)) {
            self.set(thread, "_KTHREAD.WaitBlockList", block.0);
            self.set(block, "_KWAIT_BLOCK.Thread", thread.0);
            self.set(block, "_KWAIT_BLOCK.Object", object.0);
            self.set(block, "_KWAIT_BLOCK.NextWaitBlock", block.0);
            self.set(block, "_KWAIT_BLOCK.WaitType", 1);
            self.set(block, "_KWAIT_BLOCK.BlockState", 4);
            self.set(thread, "_KTHREAD.WaitBlockCount", 1);
            let head = object.add(generation.at("_DISPATCHER_HEADER.WaitListHead"));
            if self.read_pointer(head).0 == 0 {
                self.start_object(object, if reason == 15 { 4 } else { 1 }, 0);
            }
            self.append(head, block);
        }
        let record = self.threads.last_mut().expect("the thread was just added");
        record.state = 5;
        record.waits_for = Some(object);
        record.stack.remove(0); // the switch itself; the debugger starts with its caller
        thread
    }

    /// Fills a dispatcher header.
    pub(super) fn start_object(&mut self, object: Va, kind: u64, signal: u64) {
        self.set(object, "_DISPATCHER_HEADER.Type", kind);
        self.set(object, "_DISPATCHER_HEADER.Size", 6);
        self.set(object, "_DISPATCHER_HEADER.SignalState", signal);
        self.start_list(object.add(self.options.generation.at("_DISPATCHER_HEADER.WaitListHead")));
    }

    /// Gives a thread a kernel stack and runs it to the end of a chain.
    pub(super) fn give_stack(&mut self, thread: Va, id: u64, chain: &[Call]) -> Cpu {
        let wide = self.options.generation.machine != Machine::X86;
        let number = self.threads.len() as u64;
        let size = if self.options.crowd.0 > 0 { PAGE_SIZE } else { 0x3000 };
        let first = if wide { 0xffff_fb88_0d00_0000 } else { 0x9a00_0000 };
        let top = first + 0x8000 * (number + 1);
        self.map_range(Va(top - size), size);
        for (path, value) in
            [("_KTHREAD.InitialStack", top), ("_KTHREAD.StackBase", top), ("_KTHREAD.StackLimit", top - size)]
        {
            self.set(thread, path, value);
        }
        self.set(thread, "_KTHREAD.BasePriority", 8);
        self.start_object(thread, 6, 0);
        let entered = chain.iter().any(|c| c.1 == self.entry());
        let mut cpu = Cpu::new(top, number & 0xff);
        if entered {
            // From a program: the stack pointer there is known, its pages need not be.
            let user = self.user_sp(chain);
            cpu = Cpu::new(user, number & 0xff);
            cpu.kernel_stack = top;
            if chain[0].1 == self.entry() {
                cpu.pc = if wide { 0x7ffb_1230_1010 } else { 0x77a0_1010 };
                if self.options.generation.machine == Machine::Arm64 {
                    cpu.registers[30] = 0; // nobody called it
                }
            }
        }
        let stack = self.run(&mut cpu, chain);
        let process = self.read_pointer(thread.add(
            self.options.generation.at("_ETHREAD.Cid")
                + self.options.generation.at("_CLIENT_ID.UniqueProcess"),
        ));
        self.threads.push(Thread {
            ethread: thread,
            process: process.0,
            id,
            state: 2,
            stack,
            waits_for: None,
        });
        self.stack_limits.push((Va(top - size), Va(top)));
        cpu
    }

    fn next_thread_id(&self) -> u64 {
        let (processes, _) = self.options.crowd;
        0x1_0000 + processes * 4 + 4 * self.threads.len() as u64
    }

    /// Puts a thread on a processor with the registers it has there.
    pub(super) fn runs(&mut self, index: usize, thread: Va, cpu: &Cpu) {
        let generation = self.options.generation;
        let registers = self.registers(cpu);
        let record = context(generation.machine, &registers);
        let (prcb, saved) = (self.processors[index].prcb, self.processors[index].context);
        self.write(saved, &record);
        let state = prcb.add(generation.at("_KPRCB.ProcessorState"));
        self.write(state.add(generation.at("_KPROCESSOR_STATE.ContextFrame")), &record);
        self.set(prcb, "_KPRCB.CurrentThread", thread.0);
        self.set(thread, "_KTHREAD.NextProcessor", index as u64);
        self.set(thread, "_KTHREAD.KernelStack", cpu.sp);
        self.processors[index].registers = registers;
    }

    /// The registers as context records name them.
    pub(super) fn registers(&self, cpu: &Cpu) -> Registers {
        let machine = self.options.generation.machine;
        let mut registers = machine.kernel_registers();
        let [pc, sp, fp] = machine.frame_registers();
        registers.insert(pc, cpu.pc);
        registers.insert(sp, cpu.sp);
        registers.insert(fp, cpu.fp(machine));
        let named: &[(&str, usize)] = match machine {
            Machine::X64 => {
                &[("rbx", 3), ("rsi", 6), ("rdi", 7), ("r12", 12), ("r13", 13), ("r14", 14), ("r15", 15)]
            }
            Machine::X86 => &[("ebx", 3), ("esi", 6), ("edi", 7)],
            Machine::Arm64 => &[
                ("x19", 19),
                ("x20", 20),
                ("x21", 21),
                ("x22", 22),
                ("x23", 23),
                ("x24", 24),
                ("x25", 25),
                ("x26", 26),
                ("x27", 27),
                ("x28", 28),
                ("lr", 30),
            ],
        };
        registers.extend(named.iter().map(|&(name, at)| (name, cpu.registers[at])));
        registers
    }

    fn write_cid_table(&mut self) {
        let mut entries: Vec<(u64, Va, u32)> =
            self.processes.iter().map(|p: &Process| (p.id, p.eprocess, 0)).collect();
        entries.extend(self.threads.iter().filter(|t| t.id != 0).map(|t| (t.id, t.ethread, 0)));
        let table = self.handle_table(Va(0), 0, &entries);
        self.write_pointer(self.nt("PspCidTable"), table.0);
    }
}

impl Thread {
    /// What is true of it.
    pub fn truth(&self) -> serde_json::Value {
        let frame = |f: &StackFrame| json!({ "pc": f.pc, "sp": f.sp, "symbol": f.symbol });
        json!({
            "ethread": self.ethread.0, "process": self.process, "id": self.id, "state": self.state,
            "waits_for": self.waits_for.map(|w| w.0), "stack": self.stack.iter().map(frame).collect::<Vec<_>>(),
        })
    }
}
