//! Threads in every state, and what they wait for.
//!
//! Facts: the structures in the layout tables; kinds of dispatcher objects (`KOBJECTS`), states (`KTHREAD_STATE`), reasons
//! (`KWAIT_REASON`) and the use of the fourth wait block for the timeout from public descriptions of the scheduler.

use super::security::User;
use super::society::{ENDING, ZOMBIE};
use super::{SYSTEM_TIME, UP_TIME, World};
use crate::lab::memory::Owner;
use crate::lab::paging::Leaf;
use crate::lab::stack::{Call, Place};
use kd_sdk::address::{PAGE_SIZE, Va};
use serde_json::json;

/// Kinds of dispatcher objects, by `DISPATCHER_HEADER.Type`.
const KINDS: [&str; 10] = [
    "notification event",
    "synchronization event",
    "mutant",
    "process",
    "queue",
    "semaphore",
    "thread",
    "gate",
    "notification timer",
    "synchronization timer",
];

impl World {
    /// The threads of a story that wait for each kind of object, and those that do something else.
    pub(super) fn waiting_threads(&mut self) {
        let objects = self.dispatcher_objects();
        // The owner of the mutant, which itself waits with a timeout.
        let owner = self.waits(0x8f4, &objects[..1], false, Some(SYSTEM_TIME + 100_000_000));
        let mutant = objects[2];
        self.set(mutant, "_KMUTANT.OwnerThread", owner.0);
        if let Some(head) = self.field(owner, "_KTHREAD.MutantListHead") {
            self.need_list(head);
            self.append(head, mutant.add(self.options.generation.at("_KMUTANT.MutantListEntry")));
        }
        for &object in &objects[1..] {
            self.waits(0x3a4, &[object], false, None);
        }
        for object in [owner, self.process(0x910)] {
            self.waits(0x3a4, &[object], false, None);
        }
        self.waits(0x8f4, &objects[3..6], false, Some(SYSTEM_TIME + 3_000_000_000));
        let all = [objects[0], objects[1], objects[3], mutant, self.process(0x924)];
        self.waits(0x8f4, &all, true, None);
        self.special_threads();
    }

    /// One of each kind that can be waited for: two events, mutant, semaphore, two timers, queue, gate.
    fn dispatcher_objects(&mut self) -> Vec<Va> {
        let kinds: [(&str, &str, &str, u64, u64); 8] = [
            ("SensorReady", "Event", "_KEVENT", 0, 0),
            ("SensorPulse", "Event", "_KEVENT", 1, 0),
            ("SensorLock", "Mutant", "_KMUTANT", 2, 0),
            ("SensorSlots", "Semaphore", "_KSEMAPHORE", 5, 0),
            ("SensorTick", "Timer", "_ETIMER", 8, 0),
            ("SensorOnce", "Timer", "_ETIMER", 9, 0),
            ("", "IoCompletion", "_KQUEUE", 4, 0),
            ("", "", "_KGATE", 7, 0),
        ];
        let generation = self.options.generation;
        let mut objects = Vec::new();
        for (name, kind, structure, number, signal) in kinds {
            let Some(size) = generation.find(structure) else { continue };
            let object = match (name, kind) {
                ("", "") => self.pool_block(b"Gate", size),
                ("", _) => self.new_object(kind, size, None),
                _ => self.named_object(&format!(r"\BaseNamedObjects\{name}"), kind, structure, 0),
            };
            self.start_object(object, number, signal);
            let words = if structure == "_ETIMER" { generation.at("_KTIMER") / 4 } else { size / 4 };
            self.set(object, "_DISPATCHER_HEADER.Size", words);
            match structure {
                "_KSEMAPHORE" => self.set(object, "_KSEMAPHORE.Limit", 4),
                "_KQUEUE" => {
                    for list in ["EntryListHead", "ThreadListHead"] {
                        self.start_list(object.add(generation.at(&format!("_KQUEUE.{list}"))));
                    }
                    self.set(object, "_KQUEUE.MaximumCount", 2);
                }
                _ => {}
            }
            self.fact("dispatcher_objects", json!({
                "object": object.0, "type": number, "kind": KINDS[number as usize], "signal": signal, "name": name,
            }));
            objects.push(object);
        }
        objects
    }

    /// Adds a thread that waits for one of the objects or for all of them, for ever or until a system time.
    pub(super) fn waits(&mut self, process_id: u64, objects: &[Va], all: bool, until: Option<u64>) -> Va {
        let process = self.process(process_id);
        let several = objects.len() > 1 && self.variable("NtWaitForMultipleObjects").is_some();
        let chain = if several {
            self.in_program("NtWaitForMultipleObjects", &["KeWaitForMultipleObjects"])
        } else {
            self.in_program("NtWaitForSingleObject", &["KeWaitForSingleObject"])
        };
        let thread = self.waiter(process, process_id, &chain, objects[0], 6);
        self.set(thread, "_KTHREAD.WaitMode", 1);
        self.set(thread, "_KTHREAD.WaitTime", UP_TIME / 156_250 - process_id % 1000);
        self.wait_blocks(thread, objects, all, until);
        thread
    }

    /// Makes the wait blocks of a thread that [`World::waiter`] put on the first object.
    pub(super) fn wait_blocks(&mut self, thread: Va, objects: &[Va], all: bool, until: Option<u64>) {
        let generation = self.options.generation;
        let size = generation.at("_KWAIT_BLOCK");
        let own = thread.add(generation.at("_KTHREAD.WaitBlock"));
        self.unlink(own);
        // Three of the thread's own blocks are for objects; more come from the pool.
        let first =
            if objects.len() > 3 { self.pool_block(b"Wait", size * objects.len() as u64) } else { own };
        let timeout = own.add(3 * size);
        let mut blocks: Vec<Va> = (0..objects.len() as u64).map(|i| first.add(i * size)).collect();
        for (index, (&block, &object)) in blocks.iter().zip(objects).enumerate() {
            let fields = [
                ("Thread", thread.0),
                ("Object", object.0),
                ("WaitKey", index as u64),
                ("WaitType", u64::from(!all)),
                ("BlockState", 4),
            ];
            self.fill(block, "_KWAIT_BLOCK", &fields);
            self.append(object.add(generation.at("_DISPATCHER_HEADER.WaitListHead")), block);
        }
        self.set(thread, "_KTHREAD.WaitBlockList", first.0);
        self.set(thread, "_KTHREAD.WaitBlockCount", objects.len() as u64);
        if let Some(due) = until {
            let timer = thread.add(generation.at("_KTHREAD.Timer"));
            self.start_object(timer, 8, 0);
            self.set(timer, "_DISPATCHER_HEADER.Size", generation.at("_KTIMER") / 4);
            let fields = [("Thread", thread.0), ("WaitKey", 0x102), ("WaitType", 1), ("BlockState", 4)];
            self.fill(timeout, "_KWAIT_BLOCK", &fields);
            // Where blocks stand in a row, other fields of the thread begin there.
            if generation.find("_KWAIT_BLOCK.NextWaitBlock").is_some() {
                self.set(timeout, "_KWAIT_BLOCK.Object", timer.0);
            }
            self.append(timer.add(generation.at("_DISPATCHER_HEADER.WaitListHead")), timeout);
            self.set(thread, "_KTHREAD.TimerActive", 1);
            self.insert_timer(0, timer, due, 0, None);
            blocks.push(timeout);
        }
        for (index, &block) in blocks.iter().enumerate() {
            self.set(block, "_KWAIT_BLOCK.NextWaitBlock", blocks[(index + 1) % blocks.len()].0);
        }
        let listed: Vec<_> = objects
            .iter()
            .zip(&blocks)
            .map(|(object, block)| {
                let kind = self.get(*object, "_DISPATCHER_HEADER.Type").unwrap_or(0);
                json!({ "object": object.0, "block": block.0, "type": kind, "kind": KINDS[kind as usize % 10] })
            })
            .collect();
        self.fact(
            "waits",
            json!({
                "thread": thread.0, "all": all, "objects": listed, "blocks": first.0, "due": until,
                "timer_block": until.map(|_| timeout.0),
            }),
        );
    }

    /// Threads that are not simply waiting, or are special in another way.
    fn special_threads(&mut self) {
        let event = self.event;
        let wait = self.in_program("NtWaitForSingleObject", &["KeWaitForSingleObject"]);
        let plain = |world: &mut World, id: u64| world.waiter(world.process(id), id, &wait, event, 6);

        let suspended = plain(self, 0x924);
        self.suspend(suspended);
        let swapped = plain(self, 0x3a4);
        self.swap_out(swapped);
        let attached = plain(self, 0x258);
        self.attach(attached, self.process(0x8f4));
        let large = plain(self, 0x8f4);
        self.large_stack(large);
        let acting = plain(self, 0x258);
        self.impersonate(acting, User::Person, 1);
        let ended = plain(self, 0x910);
        self.end_thread(ended, false);
        let last = plain(self, ENDING);
        self.end_thread(last, true);
        self.facts["ended"]["thread"] = last.0.into();
        let ready = [(0x924, 4, 0), (0x938, 4, 0), (0x938, 10, 0)].map(|(id, priority, processor)| {
            let thread = plain(self, id);
            self.make_ready(thread, priority, processor);
            thread
        });
        let shared = plain(self, 0x910);
        let shares = self.make_ready_shared(shared, 6);
        let standby = plain(self, 0x938);
        self.make_standby(standby, 1);
        let text = json!({
            "suspended": suspended.0, "swapped": swapped.0, "attached": attached.0, "large_stack": large.0,
            "impersonating": acting.0, "terminated": ended.0, "ending": last.0, "ready": ready.map(|t| t.0),
            "ready_shared": shares.then_some(shared.0), "standby": standby.0, "attached_to": self.process(0x8f4).0,
        });
        self.facts.insert("special_threads".into(), text);
    }

    /// Suspended: it waits for its own semaphore or, since 8, event.
    fn suspend(&mut self, thread: Va) {
        let own = self.field(thread, "_KTHREAD.SuspendEvent").map(|at| (at, 1));
        let object = own.or_else(|| self.field(thread, "_KTHREAD.SuspendSemaphore").map(|at| (at, 5)));
        self.fill(thread, "_KTHREAD", &[("SuspendCount", 1), ("WaitReason", 5)]);
        let Some((object, kind)) = object else { return };
        self.start_object(object, kind, 0);
        if kind == 5 {
            self.set(object, "_KSEMAPHORE.Limit", 2);
        }
        self.wait_blocks(thread, &[object], false, None);
        self.thread_record(thread).waits_for = Some(object);
    }

    /// Its kernel stack is in the page file.
    fn swap_out(&mut self, thread: Va) {
        let index = self.threads.iter().position(|t| t.ethread == thread).expect("a thread");
        let (low, high) = self.stack_limits[index];
        for page in (low.0..high.0).step_by(PAGE_SIZE as usize) {
            let at = Va(page);
            if let Some(pa) = self.system.translate(&self.memory, at) {
                self.memory.release(pa.pfn());
            }
            let leaf = Leaf::PageFile { file: 0, page: 0x900 + (page >> 12 & 0xff) };
            self.system.set(&mut self.memory, at, leaf, Owner::Kernel);
        }
        self.set(thread, "_KTHREAD.KernelStackResident", 0);
        self.threads[index].stack.clear();
    }

    /// Works in another process' address space.
    fn attach(&mut self, thread: Va, process: Va) {
        let own = self.get(thread, "_KTHREAD.ApcState.Process").unwrap_or(0);
        self.set(thread, "_KTHREAD.ApcState.Process", process.0);
        self.set(thread, "_KTHREAD.SavedApcState.Process", own);
        self.set(thread, "_KTHREAD.ApcStateIndex", 1);
    }

    /// A large stack, as threads with windows have.
    fn large_stack(&mut self, thread: Va) {
        let index = self.threads.iter().position(|t| t.ethread == thread).expect("a thread");
        let (low, high) = self.stack_limits[index];
        let limit = Va(low.0 - 4 * PAGE_SIZE);
        self.map_range(limit, 4 * PAGE_SIZE);
        self.stack_limits[index] = (limit, high);
        let window = self.pool_block(b"Ustx", 0x100);
        let fields =
            [("StackLimit", limit.0), ("LargeStack", 1), ("Win32Thread", window.0), ("GuiThread", 1)];
        self.fill(thread, "_KTHREAD", &fields);
    }

    /// Ended, its stack given back; or about to, if it still waits.
    fn end_thread(&mut self, thread: Va, still_waits: bool) {
        let generation = self.options.generation;
        self.set(thread, "_ETHREAD.Terminated", 1);
        let process = Va(self.get(thread, "_KTHREAD.ApcState.Process").unwrap_or(0));
        if still_waits {
            return;
        }
        let count = self.get(process, "_EPROCESS.ActiveThreads").unwrap_or(1);
        self.set(process, "_EPROCESS.ActiveThreads", count - 1);
        self.unlink(thread.add(generation.at("_KTHREAD.WaitBlock")));
        self.unlink(thread.add(generation.at("_KTHREAD.ThreadListEntry")));
        let fields = [("State", 4), ("InitialStack", 0), ("KernelStack", 0), ("WaitBlockList", 0)];
        self.fill(thread, "_KTHREAD", &fields);
        self.set(thread, "_KTHREAD.Header.SignalState", 1);
        self.fill(thread, "_ETHREAD", &[("ExitTime", SYSTEM_TIME - 50_000_000), ("ExitStatus", 0x2a)]);
        let record = self.thread_record(thread);
        record.state = 4;
        record.waits_for = None;
        record.stack.clear();
    }

    /// Takes a thread out of its wait.
    pub(super) fn wake(&mut self, thread: Va, state: u8, priority: u64) {
        self.unlink(thread.add(self.options.generation.at("_KTHREAD.WaitBlock")));
        self.fill(
            thread,
            "_KTHREAD",
            &[("State", u64::from(state)), ("Priority", priority), ("BasePriority", priority)],
        );
        let record = self.thread_record(thread);
        record.state = state;
        record.waits_for = None;
    }

    pub(super) fn thread_record(&mut self, thread: Va) -> &mut super::Thread {
        self.threads.iter_mut().find(|t| t.ethread == thread).expect("a thread")
    }

    /// What every thread has: lists, times, a start address in its program, a TEB, a name for some.
    pub(super) fn finish_threads(&mut self) {
        let generation = self.options.generation;
        let all: Vec<(Va, u64, u64)> = self.threads.iter().map(|t| (t.ethread, t.process, t.id)).collect();
        let mut numbers = std::collections::BTreeMap::new();
        let program = self.image("faultapp.exe").address_of("WinMainCRTStartup");
        for (index, (thread, process, id)) in all.into_iter().enumerate() {
            if process >= 0x1_0000 || id == 0 {
                continue;
            }
            for list in ["MutantListHead", "ApcState.ApcListHead", "SavedApcState.ApcListHead"] {
                if let Some(head) = self.field(thread, &format!("_KTHREAD.{list}")) {
                    self.need_list(head);
                    if list != "MutantListHead" {
                        self.need_list(head.add(generation.at("_LIST_ENTRY")));
                    }
                }
            }
            let (kernel, user) = (3 + index as u64, if process == 4 { 0 } else { 5 + index as u64 });
            let number = index as u64;
            let fields = [
                ("KernelTime", kernel),
                ("UserTime", user),
                ("Alertable", number & 1),
                ("IdealProcessor", number % 3),
                ("EnableStackSwap", u64::from(!number.is_multiple_of(4))),
                ("UnusualBoost", number % 3),
                ("ForegroundBoost", number % 2),
                ("PriorityDecrement", number % 5),
                ("DecrementCount", 16),
            ];
            self.fill(thread, "_KTHREAD", &fields);
            self.fill(thread, "_ETHREAD", &[("ThreadIoPriority", 2), ("ThreadPagePriority", 5)]);
            let swapped = self.facts.get("special_threads").is_some_and(|s| s["swapped"] == thread.0);
            self.set(thread, "_KTHREAD.KernelStackResident", u64::from(!swapped));
            let system = process == 4;
            self.fill(
                thread,
                "_KTHREAD",
                &[("SystemThread", u64::from(system)), ("PreviousMode", u64::from(!system))],
            );
            self.set(thread, "_ETHREAD.SystemThread", u64::from(system));
            let start = if system { self.get(thread, "_ETHREAD.StartAddress").unwrap_or(0) } else { program };
            self.set(thread, "_ETHREAD.Win32StartAddress", start);
            let mut name = None;
            if index % 3 == 0 && generation.find("_ETHREAD.ThreadName").is_some() {
                let text = format!("lab thread {index}");
                let at = self.pool_block(b"ThNm", generation.at("_UNICODE_STRING"));
                self.write_string(at, &text);
                self.set(thread, "_ETHREAD.ThreadName", at.0);
                name = Some(text);
            }
            if !system && process != ZOMBIE {
                let root = self.root_of(self.process(process));
                let number = numbers.entry(process).or_insert(0);
                if self.get(thread, "_KTHREAD.Teb").unwrap_or(0) == 0 && *number < 4 {
                    let place = *number;
                    self.inside(root, |world| world.teb(thread, place));
                }
                *number += 1;
            }
            self.fact("thread_details", json!({
                "thread": thread.0, "process": process, "id": id, "kernel_time": kernel, "user_time": user, "name": name,
                "win32_start": start, "teb": self.get(thread, "_KTHREAD.Teb"), "system": system, "resident": !swapped,
                "wait_reason": self.get(thread, "_KTHREAD.WaitReason"), "state": self.get(thread, "_KTHREAD.State"),
                "priority": self.get(thread, "_KTHREAD.Priority"), "wait_time": self.get(thread, "_KTHREAD.WaitTime"),
                "irp_list": self.field(thread, "_ETHREAD.IrpList").map(|v| v.0),
            }));
        }
    }
}

/// The chain of a thread that waits inside a driver's read, as [`World::in_program`] makes others.
pub(super) fn reads(entry: &'static str) -> Vec<Call> {
    let mut chain = vec![("nt", entry, Place::Calls)];
    chain.extend(
        ["NtReadFile", "IopSynchronousServiceTail", "IofCallDriver"].map(|f| ("nt", f, Place::Calls)),
    );
    chain.push(("faultdrv.sys", "DispatchRead", Place::Calls));
    chain.push(("nt", "KeWaitForSingleObject", Place::Calls));
    chain.extend(super::story::WAITS);
    chain
}
