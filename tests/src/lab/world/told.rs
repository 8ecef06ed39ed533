//! What stands in the fields of every process and thread that debuggers show, by the layout tables.
//!
//! A field that a generation does not have is null. Systems that are only made large are left out.

use super::World;
use serde_json::{Map, Value, json};

#[rustfmt::skip]
/// Fields of a process; `Vm.` stands for `Vm.Instance.` too, where the counters moved to.
const PROCESS: [&str; 24] = [
    "UniqueProcessId", "InheritedFromUniqueProcessId", "Peb", "ObjectTable", "NumberOfPrivatePages",
    "ModifiedPageCount", "NumberOfLockedPages", "CloneRoot", "VirtualSize", "PeakVirtualSize", "CommitCharge", "Job",
    "ExitStatus", "ActiveThreads", "Pcb.BasePriority", "Pcb.UserTime", "Pcb.KernelTime", "Vm.WorkingSetSize",
    "Vm.MinimumWorkingSetSize", "Vm.MaximumWorkingSetSize", "Vm.PeakWorkingSetSize", "Vm.PageFaultCount",
    "Vm.Flags.MemoryPriority", "Session",
];

#[rustfmt::skip]
/// Fields of a thread.
const THREAD: [&str; 29] = [
    "Tcb.Teb", "Tcb.Win32Thread", "Tcb.State", "Tcb.WaitReason", "Tcb.WaitMode", "Tcb.Alertable", "Tcb.SuspendCount",
    "Tcb.FreezeCount", "Tcb.WaitTime", "Tcb.ContextSwitches", "Tcb.IdealProcessor", "Tcb.LargeStack",
    "Tcb.EnableStackSwap", "Tcb.UserTime", "Tcb.KernelTime", "Tcb.InitialStack", "Tcb.KernelStack", "Tcb.StackBase",
    "Tcb.StackLimit", "Tcb.CallbackStack", "Tcb.Priority", "Tcb.BasePriority", "Tcb.UnusualBoost",
    "Tcb.ForegroundBoost", "Tcb.PriorityDecrement", "Tcb.DecrementCount", "ThreadIoPriority", "ThreadPagePriority",
    "Tcb.ApcState.Process",
];

impl World {
    /// Tells them; nothing changes them afterwards.
    pub(super) fn tell_fields(&mut self) {
        if self.options.crowd.0 != 0 {
            return;
        }
        for process in self.processes.iter().map(|p| p.eprocess).collect::<Vec<_>>() {
            let value = |field: &&str| {
                let moved = field.strip_prefix("Vm.").map(|field| format!("_EPROCESS.Vm.Instance.{field}"));
                let own = match field.strip_prefix("Pcb.") {
                    Some(field) => format!("_KPROCESS.{field}"),
                    None => format!("_EPROCESS.{field}"),
                };
                moved.and_then(|path| self.get(process, &path)).or_else(|| self.get(process, &own))
            };
            let fields: Map<String, Value> =
                PROCESS.iter().map(|field| ((*field).to_owned(), value(field).into())).collect();
            self.fact("process_fields", json!({ "process": process.0, "fields": fields }));
        }
        for (thread, process) in self.threads.iter().map(|t| (t.ethread, t.process)).collect::<Vec<_>>() {
            let value = |field: &&str| match field.strip_prefix("Tcb.") {
                Some(field) => self.get(thread, &format!("_KTHREAD.{field}")),
                None => self.get(thread, &format!("_ETHREAD.{field}")),
            };
            let fields: Map<String, Value> =
                THREAD.iter().map(|field| ((*field).to_owned(), value(field).into())).collect();
            self.fact("thread_fields", json!({ "thread": thread.0, "process": process, "fields": fields }));
        }
    }
}
