//! What is true of a system, for tests to compare with.

use super::{COMMENT, SYSTEM_TIME, UP_TIME, World};
use serde_json::{Value, json};

impl World {
    /// Everything a reader of any dump of this system may be asked, as JSON. Addresses are numbers.
    pub fn truth(&self) -> Value {
        let g = self.options.generation;
        let modules = self.images.iter().map(|i| {
            json!({
                "name": i.name, "path": i.path, "base": i.base, "size": i.size,
                "time_date_stamp": i.time_date_stamp, "check_sum": i.check_sum,
                "pdb": i.pdb, "symbol_key": i.symbol_key(),
            })
        });
        let unloaded = self.unloaded.iter().map(|u| json!({ "name": u.0, "start": u.1, "end": u.2 }));
        let processors = self.processors.iter().map(|p| {
            json!({ "number": p.number, "prcb": p.prcb.0, "context": p.context.0, "registers": p.registers })
        });
        let processes = self.processes.iter().map(|p| {
            let root = p.directory_table_base.0;
            json!({ "eprocess": p.eprocess.0, "id": p.id, "name": p.name, "directory_table_base": root })
        });
        let stack = self.crash.stack.iter().map(|f| json!({ "pc": f.pc, "sp": f.sp, "symbol": f.symbol }));
        let physical = |va| {
            let found =
                self.user.translate(&self.memory, va).or_else(|| self.system.translate(&self.memory, va));
            found.map(|pa| pa.0)
        };
        let probes = self
            .probes
            .iter()
            .map(|p| json!({ "va": p.va.0, "state": p.state, "text": p.text, "physical": physical(p.va) }));
        json!({
            "generation": g.name, "machine": g.machine.image_type(), "build": g.build, "build_lab": g.build_lab,
            "kernel_base": g.kernel_base, "comment": COMMENT, "system_time": SYSTEM_TIME, "up_time": UP_TIME,
            "directory_table_base": self.user.root.0, "system_root": self.system.root.0,
            "page_tables": { "base": g.pte_base, "entry_size": self.user.scheme.entry_size() },
            "ps_loaded_module_list": self.nt("PsLoadedModuleList").0,
            "ps_active_process_head": self.nt("PsActiveProcessHead").0,
            "debugger_data_block": self.nt("KdDebuggerDataBlock").0,
            "bug_check": { "code": self.crash.code, "parameters": self.crash.parameters },
            "registers": self.crash.registers,
            "thread": self.thread.0,
            "modules": modules.collect::<Value>(),
            "unloaded": unloaded.collect::<Value>(),
            "processors": processors.collect::<Value>(),
            "processes": processes.collect::<Value>(),
            "stack": stack.collect::<Value>(),
            "threads": self.threads.iter().map(super::Thread::truth).collect::<Value>(),
            "facts": self.facts,
            "probes": probes.collect::<Value>(),
        })
    }
}
