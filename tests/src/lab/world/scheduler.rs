//! What processors have to do: ready and standby threads, timers, deferred calls, work items.
//!
//! Facts: `_KPRCB`, `_KTIMER`, `_KDPC` and their tables in the layout tables; in which slot a timer hangs and how 64-bit
//! systems since 7 hide the deferred call of a timer, from public descriptions. XP has global tables instead.

use super::{SYSTEM_TIME, UP_TIME, World};
use crate::lab::layout::Machine;
use kd_sdk::address::Va;
use serde_json::json;

/// `KiWaitNever` and `KiWaitAlways`, the keys of the deferred calls of timers.
pub(super) const WAIT_KEYS: (u64, u64) = (0x8642_0975_31fe_dcba, 0x0f1e_2d3c_4b5a_6978);

impl World {
    /// Makes the lists of every processor empty, and sets the keys.
    pub(super) fn start_queues(&mut self) {
        let generation = self.options.generation;
        let step = generation.at("_LIST_ENTRY");
        self.place_shared_queues();
        let (mut heads, mut chains) = (Vec::new(), Vec::new());
        for processor in &self.processors {
            heads.extend(self.field(processor.prcb, "_KPRCB.DispatcherReadyListHead").map(|at| (at, 32)));
            let shared = self.shared_queue(processor.prcb).into_iter();
            heads.extend(
                shared.filter_map(|at| Some((self.field(at, "_KSHARED_READY_QUEUE.ReadyListHead")?, 32))),
            );
            for path in ["_KPRCB.DpcListHead", "_KPRCB.WaitListHead"] {
                heads.extend(self.field(processor.prcb, path).map(|at| (at, 1)));
            }
            // Ordinary calls and those that run in a thread.
            for data in self.call_queues(processor.prcb) {
                heads.extend(self.field(data, "_KDPC_DATA.DpcListHead").map(|at| (at, 1)));
                chains.extend(self.field(data, "_KDPC_DATA.DpcList"));
            }
        }
        heads.extend(self.variable("KiDispatcherReadyListHead").map(|at| (at, 32)));
        heads.extend(self.variable("KiTimerTableListHead").map(|at| (at, 256)));
        for (head, count) in heads {
            for index in 0..count {
                self.start_list(head.add(index * step));
            }
        }
        for chain in chains {
            let last = chain.add(generation.machine.pointer_size() as u64);
            self.write_pointer(last, chain.0); // an empty chain ends at its head
        }
        if self.hides_calls() {
            self.write(self.nt("KiWaitNever"), &WAIT_KEYS.0.to_le_bytes());
            self.write(self.nt("KiWaitAlways"), &WAIT_KEYS.1.to_le_bytes());
        }
        let Some(size) = generation.find("_KTIMER_TABLE_ENTRY") else { return };
        for index in 0..self.processors.len() {
            let Some((table, slots)) = self.timer_table(index) else { continue };
            for slot in 0..slots {
                let entry = table.add(slot * size);
                self.start_list(entry.add(generation.at("_KTIMER_TABLE_ENTRY.Entry")));
                self.set(entry, "_KTIMER_TABLE_ENTRY.Time", u64::MAX);
            }
        }
    }

    /// Gives every processor a queue to share, where `KPRCB` has but a pointer to it (Windows 11 24H2).
    fn place_shared_queues(&mut self) {
        let generation = self.options.generation;
        let field = generation.table().field("_KPRCB.LocalSharedReadyQueue");
        let Some(field) = field.filter(|field| field.kind.starts_with('*')) else { return };
        for index in 0..self.processors.len() {
            let queue = self.structure(b"KeSr", "_KSHARED_READY_QUEUE").expect("the table has it");
            self.write_pointer(self.processors[index].prcb.add(field.offset), queue.0);
        }
    }

    /// The queue that a processor may share with others.
    fn shared_queue(&self, prcb: Va) -> Option<Va> {
        let generation = self.options.generation;
        generation.find("_KSHARED_READY_QUEUE.ReadyListHead")?;
        let field = generation.table().field("_KPRCB.LocalSharedReadyQueue")?;
        let at = prcb.add(field.offset);
        Some(if field.kind.starts_with('*') { self.read_pointer(at) } else { at })
    }

    /// The two queues of deferred calls of a processor, where it has two.
    fn call_queues(&self, prcb: Va) -> Vec<Va> {
        let first = self.field(prcb, "_KPRCB.DpcData");
        let size = self.options.generation.find("_KDPC_DATA").unwrap_or(0);
        first.into_iter().flat_map(|first| [first, first.add(size)]).collect()
    }

    /// The timer table of a processor and its number of slots.
    fn timer_table(&self, processor: usize) -> Option<(Va, u64)> {
        let generation = self.options.generation;
        let table = self.field(self.processors[processor].prcb, "_KPRCB.TimerTable.TimerEntries")?;
        let kind = generation.table().field("_KTIMER_TABLE.TimerEntries")?.kind;
        Some((table, if kind.starts_with("[2]") { 512 } else { 256 }))
    }

    /// Whether the deferred call of a timer is hidden.
    fn hides_calls(&self) -> bool {
        self.options.generation.machine != Machine::X86 && self.options.generation.build >= 7601
    }

    /// Sets a timer, due at an interrupt time that belongs to a system time.
    pub(super) fn insert_timer(
        &mut self,
        processor: usize,
        timer: Va,
        at: u64,
        period: u64,
        dpc: Option<Va>,
    ) {
        let generation = self.options.generation;
        let due = at - SYSTEM_TIME + UP_TIME;
        let mut call = dpc.map_or(0, |d| d.0);
        if self.hides_calls() {
            let (never, always) = WAIT_KEYS;
            call = ((call ^ always).swap_bytes() ^ timer.0).rotate_right((never & 0xff) as u32) ^ never;
        }
        let fields = [("DueTime", due), ("Period", period), ("Dpc", call), ("Processor", processor as u64)];
        self.fill(timer, "_KTIMER", &fields);
        self.set(timer, "_DISPATCHER_HEADER.Inserted", 1);
        let entry = timer.add(generation.at("_KTIMER.TimerListEntry"));
        let slot;
        if let Some((table, _)) = self.timer_table(processor) {
            slot = due >> 18 & 0xff;
            self.set(timer, "_DISPATCHER_HEADER.Hand", slot);
            let home = table.add(slot * generation.at("_KTIMER_TABLE_ENTRY"));
            let first = self.get(home, "_KTIMER_TABLE_ENTRY.Time").unwrap_or(0);
            self.set(home, "_KTIMER_TABLE_ENTRY.Time", first.min(due));
            self.append(home.add(generation.at("_KTIMER_TABLE_ENTRY.Entry")), entry);
        } else if let Some(table) = self.variable("KiTimerTableListHead").filter(|_| generation.build < 6000)
        {
            slot = (due / 156_250) & 0xff;
            self.append(table.add(slot * generation.at("_LIST_ENTRY")), entry);
        } else {
            self.start_list(entry);
            return; // the table of this generation is not known
        }
        self.fact(
            "timers",
            json!({
                "timer": timer.0, "processor": processor, "due": due, "due_system_time": at, "period": period,
                "dpc": dpc.map(|d| d.0), "hidden": self.hides_calls(), "slot": slot,
                "table_of": self.timer_table(processor).map(|_| processor),
            }),
        );
    }

    /// A deferred call of a driver's routine.
    pub(super) fn deferred_call(&mut self, routine: u64, context: u64, importance: u64) -> Va {
        let dpc = self.structure(b"Kdpc", "_KDPC").expect("every generation has deferred calls");
        let fields = [
            ("Type", 0x13),
            ("Importance", importance),
            ("DeferredRoutine", routine),
            ("DeferredContext", context),
            ("SystemArgument1", 0x11),
            ("SystemArgument2", 0x22),
        ];
        self.fill(dpc, "_KDPC", &fields);
        dpc
    }

    /// Timers with deferred calls, and calls that wait in the queue of the second processor.
    pub(super) fn timers_and_calls(&mut self, device: Va) {
        let generation = self.options.generation;
        let routine = self.image("faultdrv.sys").address_of("TimerDpc");
        let context = self.get(device, "_DEVICE_OBJECT.DeviceExtension").unwrap_or(0);
        self.facts.insert("timer_routine".into(), routine.into());
        for number in 0..6u64 {
            let timer = self.pool_block(b"Ktim", generation.at("_KTIMER"));
            self.start_object(timer, 8 + number % 2, 0);
            self.set(timer, "_DISPATCHER_HEADER.Size", generation.at("_KTIMER") / 4);
            let dpc = (number != 3).then(|| self.deferred_call(routine, context, 1));
            let processor = number as usize % self.processors.len();
            let period = if number == 1 { 1000 } else { 0 };
            self.insert_timer(processor, timer, SYSTEM_TIME + 156_250 * (number * 7 + 1), period, dpc);
        }
        let objects = self.facts.get("dispatcher_objects").cloned().unwrap_or_default();
        for object in
            objects.as_array().into_iter().flatten().filter(|o| matches!(o["type"].as_u64(), Some(8 | 9)))
        {
            let timer = Va(object["object"].as_u64().unwrap_or(0));
            self.insert_timer(0, timer, SYSTEM_TIME + 50_000_000, 0, None);
        }
        let second = self.processors[1 % self.processors.len()].prcb;
        let calls = [0u64, 1, 2].map(|importance| {
            let dpc = self.deferred_call(routine, context, importance);
            self.set(dpc, "_KDPC.Number", if generation.build < 9600 { 0x21 } else { 0x801 });
            dpc
        });
        if self.queue_calls(second, &calls) {
            let threaded = self.threaded_call(second, routine, context);
            let all = calls.into_iter().enumerate().map(|(importance, dpc)| (importance, dpc, false));
            for (importance, dpc, threaded) in all.chain(threaded.map(|dpc| (1, dpc, true))) {
                self.fact("dpcs", json!({
                    "dpc": dpc.0, "processor": 1, "routine": routine, "context": context, "importance": importance,
                    "threaded": threaded,
                }));
            }
        }
    }

    /// A call that runs in a thread, in the second queue of a processor, where it has two: few drivers make such calls.
    fn threaded_call(&mut self, prcb: Va, routine: u64, context: u64) -> Option<Va> {
        let generation = self.options.generation;
        let queue = self.call_queues(prcb).get(1).copied().filter(|_| self.options.unusual)?;
        let dpc = self.deferred_call(routine, context, 1);
        self.set(dpc, "_KDPC.Type", if generation.build < 9200 { 0x18 } else { 0x1a });
        self.set(dpc, "_KDPC.DpcData", queue.0);
        let link = dpc.add(generation.at("_KDPC.DpcListEntry"));
        match self.field(queue, "_KDPC_DATA.DpcList") {
            Some(chain) => {
                self.write_pointer(chain, link.0);
                self.write_pointer(chain.add(generation.machine.pointer_size() as u64), link.0);
            }
            None => self.append(queue.add(generation.at("_KDPC_DATA.DpcListHead")), link),
        }
        self.set(queue, "_KDPC_DATA.DpcQueueDepth", 1);
        Some(dpc)
    }

    /// Puts calls into a processor's queue; `false` where its place is not known.
    fn queue_calls(&mut self, prcb: Va, calls: &[Va]) -> bool {
        let generation = self.options.generation;
        let count = calls.len() as u64;
        let link = generation.at("_KDPC.DpcListEntry");
        if let Some(head) = self.field(prcb, "_KPRCB.DpcData.DpcList") {
            // A chain of single links, with its last entry.
            let step = generation.machine.pointer_size() as u64;
            for (index, dpc) in calls.iter().enumerate() {
                let next = calls.get(index + 1).map_or(0, |n| n.0 + link);
                self.write_pointer(dpc.add(link), next);
            }
            self.write_pointer(head, calls[0].0 + link);
            self.write_pointer(head.add(step), calls[calls.len() - 1].0 + link);
        } else if let Some(head) =
            self.field(prcb, "_KPRCB.DpcData.DpcListHead").or(self.field(prcb, "_KPRCB.DpcListHead"))
        {
            for dpc in calls {
                self.append(head, dpc.add(link));
            }
        } else {
            return false;
        }
        for dpc in calls {
            let data = self.field(prcb, "_KPRCB.DpcData").map_or(0, |d| d.0);
            self.set(*dpc, "_KDPC.DpcData", data);
            if let Some(lock) = self.field(prcb, "_KPRCB.DpcLock") {
                self.set(*dpc, "_KDPC.Lock", lock.0);
            }
        }
        let fields = [
            ("DpcData.DpcQueueDepth", count),
            ("DpcData.DpcCount", 0x1234),
            ("DpcQueueDepth", count),
            ("DpcCount", 0x1234),
            ("DpcRoutineActive", 1),
            ("MaximumDpcQueueDepth", 4),
        ];
        self.fill(prcb, "_KPRCB", &fields);
        true
    }

    /// Puts a thread into the ready queue of a processor.
    pub(super) fn make_ready(&mut self, thread: Va, priority: u64, processor: usize) {
        let generation = self.options.generation;
        self.wake(thread, 1, priority);
        let prcb = self.processors[processor].prcb;
        let entry = thread.add(generation.at("_KTHREAD.WaitListEntry"));
        let own = self.field(prcb, "_KPRCB.DispatcherReadyListHead");
        let Some(heads) =
            own.or_else(|| self.variable("KiDispatcherReadyListHead").filter(|_| generation.build < 6000))
        else {
            self.start_list(entry);
            self.fact("ready", json!({ "thread": thread.0, "priority": priority, "processor": processor }));
            return; // the queues of this generation are not known
        };
        self.append(heads.add(priority * generation.at("_LIST_ENTRY")), entry);
        let bits = self.get(prcb, "_KPRCB.ReadySummary").unwrap_or(0) | 1 << priority;
        self.set(prcb, "_KPRCB.ReadySummary", bits);
        self.set(thread, "_KTHREAD.NextProcessor", processor as u64);
        if let Some(at) = self.variable("KiReadySummary").filter(|_| own.is_none()) {
            let old = self.read_pointer(at).0 | 1 << priority;
            self.write_pointer(at, old);
        }
        self.fact("ready", json!({ "thread": thread.0, "priority": priority, "processor": processor }));
    }

    /// Puts a thread into the queue that processors share, where there is one.
    pub(super) fn make_ready_shared(&mut self, thread: Va, priority: u64) -> bool {
        let generation = self.options.generation;
        let first = self.processors[0].prcb;
        let Some(queue) = self.shared_queue(first) else {
            self.make_ready(thread, priority, 0);
            return false;
        };
        self.wake(thread, 1, priority);
        for index in 0..self.processors.len() {
            self.set(self.processors[index].prcb, "_KPRCB.SharedReadyQueue", queue.0);
        }
        let head = queue.add(generation.at("_KSHARED_READY_QUEUE.ReadyListHead"));
        let entry = thread.add(generation.at("_KTHREAD.WaitListEntry"));
        self.append(head.add(priority * generation.at("_LIST_ENTRY")), entry);
        let processors = self.processors.len() as u64;
        let fields = [
            ("ReadySummary", 1 << priority),
            ("ProcCount", processors),
            ("Affinity", (1 << processors) - 1),
            ("ReadyThreadCount", 1),
            ("Span", processors),
        ];
        self.fill(queue, "_KSHARED_READY_QUEUE", &fields);
        self.fact("ready", json!({ "thread": thread.0, "priority": priority, "queue": queue.0 }));
        true
    }

    /// Chosen to run next on a processor.
    pub(super) fn make_standby(&mut self, thread: Va, processor: usize) {
        self.wake(thread, 3, 9);
        let processor = processor % self.processors.len();
        self.set(self.processors[processor].prcb, "_KPRCB.NextThread", thread.0);
        self.set(thread, "_KTHREAD.NextProcessor", processor as u64);
    }

    /// The work queue: its threads, and items that nobody took yet.
    pub(super) fn work_items(&mut self) {
        let generation = self.options.generation;
        let queue = self.nt("ExpDelayedQueue");
        let [entries, workers] =
            ["EntryListHead", "ThreadListHead"].map(|f| queue.add(generation.at(&format!("_KQUEUE.{f}"))));
        self.start_list(entries);
        self.start_list(workers);
        let threads: Vec<Va> =
            self.threads.iter().filter(|t| t.waits_for == Some(queue)).map(|t| t.ethread).collect();
        for &thread in &threads {
            self.set(thread, "_KTHREAD.Queue", queue.0);
            if let Some(entry) = self.field(thread, "_KTHREAD.QueueListEntry") {
                self.append(workers, entry);
            }
        }
        let routine = self.image("faultdrv.sys").address_of("LeakThread");
        let items = [0u64, 1].map(|number| {
            let item = self.pool_block(b"Work", generation.at("_WORK_QUEUE_ITEM"));
            self.append(entries, item);
            self.fill(item, "_WORK_QUEUE_ITEM", &[("WorkerRoutine", routine), ("Parameter", 0x70 + number)]);
            json!({ "item": item.0, "routine": routine, "parameter": 0x70 + number })
        });
        self.fill(queue, "_KQUEUE", &[("CurrentCount", 2), ("MaximumCount", 2)]);
        self.set(queue, "_KQUEUE.Header.SignalState", items.len() as u64);
        let text = json!({
            "queue": queue.0, "items": items, "threads": threads.iter().map(|t| t.0).collect::<Vec<_>>(),
        });
        self.facts.insert("work_queue".into(), text);
    }
}
