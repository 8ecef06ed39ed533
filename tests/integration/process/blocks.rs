//! The blocks of processes and threads: every field is what stands in the structure.

use super::super::every_kind::{Case, list, number};
use super::{facts, find, ids, process_names};
use kd_sdk::nt::thread::state_name;
use kd_tests::lab::layout::Machine;
use kd_tests::lab::world::SYSTEM_TIME;
use serde_json::Value;
use std::collections::BTreeMap;

/// A clock tick in seconds.
const TICK: f64 = 0.015_625;
/// Size of debugger data blocks that tell offsets in processes and threads.
const OFFSETS: u16 = 0x298;
/// States of threads.
const RUNNING: u64 = 2;
const TERMINATED: u64 = 4;
const WAITING: u64 = 5;

/// Key and field of what every process shows.
const PROCESS_KEYS: [(&str, &str); 18] = [
    ("id", "UniqueProcessId"),
    ("parent", "InheritedFromUniqueProcessId"),
    ("object_table", "ObjectTable"),
    ("private_pages", "NumberOfPrivatePages"),
    ("modified_pages", "ModifiedPageCount"),
    ("locked_pages", "NumberOfLockedPages"),
    ("clone_root", "CloneRoot"),
    ("virtual_size", "VirtualSize"),
    ("virtual_size_peak", "PeakVirtualSize"),
    ("commit_charge", "CommitCharge"),
    ("base_priority", "Pcb.BasePriority"),
    ("working_set", "Vm.WorkingSetSize"),
    ("working_set_min", "Vm.MinimumWorkingSetSize"),
    ("working_set_max", "Vm.MaximumWorkingSetSize"),
    ("working_set_peak", "Vm.PeakWorkingSetSize"),
    ("page_faults", "Vm.PageFaultCount"),
    ("memory_priority", "Vm.Flags.MemoryPriority"),
    ("job", "Job"),
];

/// Key and field of what every thread shows.
const THREAD_KEYS: [(&str, &str); 14] = [
    ("teb", "Tcb.Teb"),
    ("win32_thread", "Tcb.Win32Thread"),
    ("wait_start", "Tcb.WaitTime"),
    ("context_switches", "Tcb.ContextSwitches"),
    ("stack_init", "Tcb.InitialStack"),
    ("stack_current", "Tcb.KernelStack"),
    ("stack_base", "Tcb.StackBase"),
    ("stack_limit", "Tcb.StackLimit"),
    ("stack_call", "Tcb.CallbackStack"),
    ("priority", "Tcb.Priority"),
    ("base_priority", "Tcb.BasePriority"),
    ("decrement_count", "Tcb.DecrementCount"),
    ("io_priority", "ThreadIoPriority"),
    ("page_priority", "ThreadPagePriority"),
];

/// A key has the number, or is not there where there is none.
fn same(shown: &Value, key: &str, wanted: &Value, what: &str) {
    match wanted.as_u64() {
        Some(wanted) => assert_eq!(number(&shown[key]), wanted, "{what}: {key} {shown}"),
        None => assert!(shown.get(key).is_none(), "{what}: {key} {shown}"),
    }
}

/// A key is there only if the number is one.
fn unless_zero(shown: &Value, key: &str, wanted: &Value, what: &str) {
    same(shown, key, if wanted == 0 { &Value::Null } else { wanted }, what);
}

fn seconds(shown: &Value, key: &str, ticks: &Value, what: &str) {
    match ticks.as_u64() {
        Some(ticks) => {
            let found = shown[key].as_f64().unwrap_or(-1.0);
            assert!((found - ticks as f64 * TICK).abs() < 1e-3, "{what}: {key} {found} for {ticks} ticks");
        }
        None => assert!(shown.get(key).is_none(), "{what}: {key} {shown}"),
    }
}

/// The processes of a listing, by address.
pub fn processes<'c>(case: &'c Case<'_>, command: &str) -> BTreeMap<u64, &'c Value> {
    let found = list(&case.data(command)["processes"]);
    found.iter().map(|process| (number(&process["address"]), process)).collect()
}

/// Every process and every thread of a listing in full.
pub fn check(case: &Case<'_>, command: &str) {
    let what = &case.what;
    let all = processes(case, command);
    assert_eq!(super::addresses(case, command), ids(&case.truth["processes"], "eprocess"), "{what}");
    assert_eq!(case.data(command)["complete"], true, "{what}");
    assert_eq!(case.said(command), "[]", "{what}");
    for fact in list(&case.truth["processes"]) {
        process(case, all[&number(&fact["eprocess"])]);
        let id = number(&fact["id"]);
        let own: Vec<_> =
            list(&case.truth["threads"]).iter().filter(|t| number(&t["process"]) == id).collect();
        let wanted: Vec<_> = own.iter().map(|thread| number(&thread["ethread"])).collect();
        let shown = &all[&number(&fact["eprocess"])]["threads"];
        assert_eq!(ids(shown, "address"), wanted, "{what}: threads of {id:x}");
        for (shown, wanted) in list(shown).iter().zip(own) {
            thread(case, shown);
            frames(case, shown, wanted);
        }
    }
}

/// One process with its details.
pub fn process(case: &Case<'_>, shown: &Value) {
    fields(case, shown);
    let what = &case.what;
    let at = number(&shown["address"]);
    let person = find(case, "people", "process", at);
    assert_eq!(shown["session"], person["session"], "{what}: {person}");
    let count = find(case, "handles", "process", at)["count"].as_u64();
    assert_eq!(shown["handle_count"], count.unwrap_or(0), "{what}: {person}");
    let wow64 = &case.truth["facts"]["wow64"];
    let narrow = if wow64["process"] == at { wow64["peb32"].clone() } else { Value::Null };
    same(shown, "wow64_peb", &narrow, what);
}

/// What stands in the EPROCESS itself.
pub fn fields(case: &Case<'_>, shown: &Value) {
    let what = &case.what;
    let at = number(&shown["address"]);
    let fields = &find(case, "process_fields", "process", at)["fields"];
    for (key, field) in PROCESS_KEYS {
        match key {
            "job" => unless_zero(shown, key, &fields[field], what),
            _ => same(shown, key, &fields[field], what),
        }
    }
    assert_eq!(shown["peb"].is_null(), fields["Peb"] == 0, "{what}: {shown}");
    if fields["Peb"] != 0 {
        same(shown, "peb", &fields["Peb"], what);
    }
    for (key, field) in [("user_time", "Pcb.UserTime"), ("kernel_time", "Pcb.KernelTime")] {
        seconds(shown, key, &fields[field], what);
    }
    let truth = list(&case.truth["processes"]).iter().find(|process| process["eprocess"] == at).unwrap();
    assert_eq!(shown["image"], truth["name"], "{what}");
    assert_eq!(number(&shown["directory_table_base"]), truth["directory_table_base"], "{what}");
    let person = find(case, "people", "process", at);
    let elapsed = (SYSTEM_TIME - number(&person["create_time"])) as f64 / 1e7;
    assert!((shown["elapsed"].as_f64().unwrap() - elapsed).abs() < 1e-3, "{what}: {person} {shown}");
    let quota = find(case, "quota", "process", at);
    same(shown, "quota_paged_pool", &quota["paged"], what);
    same(shown, "quota_nonpaged_pool", &quota["nonpaged"], what);
    same(shown, "token", &find(case, "tokens", "process", at)["token"], what);
    if case.generation.find("_EPROCESS.DeviceMap").is_some() {
        same(shown, "device_map", &case.truth["facts"]["file_system"]["device_map"], what);
    }
    // A process that ended has its last, empty tree.
    let vads = facts(case, "vads").iter().rev().find(|fact| fact["process"] == at);
    if let Some(vads) = vads {
        same(shown, "vad_root", &vads["root"], what);
        let counts = ["NumberOfVads", "VadCount", "VadRoot.NumberGenericTableElements"];
        let counted =
            counts.iter().any(|field| case.generation.find(&format!("_EPROCESS.{field}")).is_some());
        let count = list(&vads["vads"]).len();
        same(shown, "vads", &if counted { count.into() } else { Value::Null }, what);
    }
    ended(case, shown, at, fields);
}

fn ended(case: &Case<'_>, shown: &Value, at: u64, fields: &Value) {
    let (what, ended) = (&case.what, &case.truth["facts"]["ended"]);
    let state = match at {
        at if ended["zombie"] == at => "terminated",
        at if ended["ending"] == at => "exiting",
        _ => "active",
    };
    assert_eq!(shown["state"], state, "{what}");
    if state == "active" {
        assert!(shown.get("exit_status").is_none() && shown.get("exit_time").is_none(), "{what}: {shown}");
        return;
    }
    same(shown, "exit_status", &fields["ExitStatus"], what);
    same(shown, "active_threads", &fields["ActiveThreads"], what);
    if case.generation.find("_EPROCESS.ExitTime").is_none() {
        assert!(shown.get("exit_time").is_none(), "{what}: {shown}");
        return;
    }
    match state {
        "terminated" => assert_eq!(shown["exit_time"], "2024-05-17T10:19:30.000Z", "{what}: {shown}"),
        _ => assert!(shown.get("exit_time").is_none(), "{what}: {shown}"),
    }
}

/// One thread in full, but for its stack.
pub fn thread(case: &Case<'_>, shown: &Value) {
    let what = &format!("{} thread {}", case.what, shown["address"]);
    let at = number(&shown["address"]);
    let fields = &find(case, "thread_fields", "thread", at)["fields"];
    let field = |name: &str| fields[name].as_u64().unwrap_or(0);
    for (key, field) in THREAD_KEYS {
        // Kernels without callback stacks show that there is none.
        if key == "stack_call" && fields[field].is_null() {
            continue;
        }
        same(shown, key, &fields[field], what);
    }
    let boosts = fields["Tcb.UnusualBoost"].is_u64();
    for (key, name, is) in [
        ("unusual_boost", "Tcb.UnusualBoost", boosts),
        ("foreground_boost", "Tcb.ForegroundBoost", boosts),
        ("priority_decrement", "Tcb.PriorityDecrement", !boosts),
    ] {
        same(shown, key, if is { &fields[name] } else { &Value::Null }, what);
    }
    for (key, name) in [("suspend_count", "Tcb.SuspendCount"), ("freeze_count", "Tcb.FreezeCount")] {
        unless_zero(shown, key, &fields[name], what);
    }
    if shown.get("context_switches").is_some() {
        same(shown, "ideal_processor", &fields["Tcb.IdealProcessor"], what);
        let flag = |key: &str| shown.get(key).and_then(Value::as_bool);
        assert_eq!(flag("large_stack"), (field("Tcb.LargeStack") != 0).then_some(true), "{what}");
        let swaps = fields["Tcb.EnableStackSwap"] == 0;
        assert_eq!(flag("stack_swap"), swaps.then_some(false), "{what}");
    }
    for (key, field) in [("user_time", "Tcb.UserTime"), ("kernel_time", "Tcb.KernelTime")] {
        seconds(shown, key, &fields[field], what);
    }
    state(shown, fields, what);
    owners(case, shown, fields, what);
    let details = find(case, "thread_details", "thread", at);
    assert_eq!(number(&shown["id"]), details["id"], "{what}");
    assert_eq!(number(&shown["process_id"]), details["process"], "{what}");
    assert_eq!(number(&shown["start_address"]), details["win32_start"], "{what}");
    assert_eq!(
        shown.get("name").unwrap_or(&Value::Null),
        if case.has_kernel() { &details["name"] } else { &Value::Null },
        "{what}"
    );
    requests(case, shown, at);
    if case.has_kernel() {
        waits(case, shown, at, what);
    }
}

fn state(shown: &Value, fields: &Value, what: &str) {
    let state = number(&fields["Tcb.State"]);
    assert_eq!(shown["state"], state_name(state).as_str(), "{what}");
    if state != WAITING {
        assert!(shown.get("wait_reason").is_none(), "{what}");
        return;
    }
    let reasons = [
        (0, "Executive"),
        (3, "PoolAllocation"),
        (5, "Suspended"),
        (6, "UserRequest"),
        (15, "WrQueue"),
        (18, "WrVirtualMemory"),
        (27, "WrResource"),
    ];
    let reason = reasons.iter().find(|reason| fields["Tcb.WaitReason"] == reason.0);
    assert_eq!(shown["wait_reason"], reason.unwrap_or_else(|| panic!("{what}: {fields}")).1, "{what}");
    let mode = if fields["Tcb.WaitMode"] == 0 { "KernelMode" } else { "UserMode" };
    assert_eq!(shown["wait_mode"], mode, "{what}");
    let alertable = fields["Tcb.Alertable"].as_u64().map(|alertable| alertable != 0);
    assert_eq!(shown.get("alertable").and_then(Value::as_bool), alertable, "{what}");
}

fn owners(case: &Case<'_>, shown: &Value, fields: &Value, what: &str) {
    let at = number(&shown["address"]);
    let names = process_names(case);
    let id = number(&shown["process_id"]);
    let owner = list(&case.truth["processes"]).iter().find(|process| process["id"] == id).unwrap();
    let owner = number(&owner["eprocess"]);
    let known = case.has_kernel() || owner == super::program(case.truth);
    let special = &case.truth["facts"]["special_threads"];
    let attached = number(&fields["Tcb.ApcState.Process"]);
    // Windows XP tells who owns it in the ETHREAD, later ones in the KTHREAD.
    assert_eq!(number(&shown["process"]), owner, "{what}");
    if known {
        assert_eq!(shown["process_image"], names[&owner].as_str(), "{what}");
    }
    if attached == owner {
        assert!(shown["attached_process"].is_null(), "{what}: {shown}");
    } else {
        assert_eq!(special["attached"], at, "{what}");
        assert_eq!(number(&shown["attached_process"]), attached, "{what}");
        assert_eq!(shown["attached_image"], names[&attached].as_str(), "{what}");
    }
    let token = find(case, "tokens", "thread", at);
    match token["token"].as_u64() {
        Some(token) => {
            assert_eq!(number(&shown["impersonation_token"]), token, "{what}");
            assert_eq!(shown["impersonation_level"], "Impersonation", "{what}");
        }
        None => assert!(shown["impersonation_token"].is_null(), "{what}: {shown}"),
    }
}

fn requests(case: &Case<'_>, shown: &Value, at: u64) {
    let what = &case.what;
    let wanted: Vec<_> = facts(case, "irps").iter().filter(|irp| irp["thread"] == at).collect();
    let found = list(&shown["irps"]);
    assert_eq!(found.len(), wanted.len(), "{what}: {shown}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(number(&found["address"]), wanted["irp"], "{what}");
        if case.has_kernel() {
            assert_eq!(number(&found["mdl"]), wanted["mdl"], "{what}");
            assert_eq!((number(&found["type"]), number(&found["flags"])), (6, 0x6_0000), "{what}");
        }
    }
}

/// Kinds of objects as the truth and as kd call them.
const KINDS: [(&str, &str); 10] = [
    ("notification event", "NotificationEvent"),
    ("synchronization event", "SynchronizationEvent"),
    ("mutant", "Mutant"),
    ("semaphore", "Semaphore"),
    ("process", "ProcessObject"),
    ("thread", "Thread"),
    ("queue", "QueueObject"),
    ("gate", "Gate"),
    ("notification timer", "NotificationTimer"),
    ("synchronization timer", "SynchronizationTimer"),
];

fn waits(case: &Case<'_>, shown: &Value, at: u64, what: &str) {
    let found = list(&shown["wait_objects"]);
    let wait = find(case, "waits", "thread", at);
    if wait.is_null() {
        // One object, or none.
        let truth = list(&case.truth["threads"]).iter().find(|thread| thread["ethread"] == at).unwrap();
        let wanted: Vec<_> = truth["waits_for"].as_u64().into_iter().collect();
        let found: Vec<_> = found.iter().map(|object| number(&object["address"])).collect();
        assert_eq!(found, wanted, "{what}");
        return;
    }
    let wanted = list(&wait["objects"]);
    assert!(found.len() >= wanted.len(), "{what}: {wait} {found:?}");
    for (object, fact) in found.iter().zip(wanted) {
        assert_eq!(number(&object["address"]), fact["object"], "{what}: {wait}");
        assert_eq!(number(&object["wait_block"]), fact["block"], "{what}: {wait}");
        let kind = KINDS.iter().find(|name| name.0 == fact["kind"]).unwrap().1;
        assert_eq!(object["type"], kind, "{what}: {wait}");
    }
    // Up to Windows 7 the ring goes on to the thread's own timer, where there is a time to wait until.
    let ring = case.generation.find("_KWAIT_BLOCK.NextWaitBlock").is_some();
    let timers = usize::from(ring && !wait["due"].is_null());
    let rest: Vec<_> = found[wanted.len()..].iter().map(|object| &object["type"]).collect();
    assert_eq!(rest, vec!["NotificationTimer"; timers], "{what}: {wait}");
}

/// The stack of a thread is what was laid, as far as the dump holds it.
pub fn frames(case: &Case<'_>, shown: &Value, truth: &Value) {
    let what = &format!("{} thread {}", case.what, shown["address"]);
    let found: Vec<_> =
        list(&shown["frames"]).iter().filter(|frame| frame.get("inlined").is_none()).collect();
    let state = number(&truth["state"]);
    let mut wanted = list(&truth["stack"]);
    if wanted.is_empty() {
        // Ended, or its stack is in the page file.
        let special = &case.truth["facts"]["special_threads"];
        assert!(state == TERMINATED || special["swapped"] == truth["ethread"], "{what}");
        let told = case.generation.find("_KTHREAD.KernelStackResident").is_some();
        assert!(found.is_empty() || state != TERMINATED && !told, "{what}: {found:?}");
        return;
    }
    let first = found.first().unwrap_or_else(|| panic!("{what}: no frames"));
    if state == RUNNING {
        // The registers of older dumps are those of the fault, further out.
        let start = wanted.iter().position(|frame| frame["pc"] == number(&first["ip"]));
        wanted = &wanted[start.unwrap_or_else(|| panic!("{what}: {first}"))..];
    }
    // The debugger data block of Windows XP does not tell which process crashed, and so whose images programs have,
    // unless a command reads a process's own (here those that show threads in full).
    let images = case.generation.kdbg_size >= OFFSETS || shown.get("id").is_some();
    if !case.has_user() || !images {
        let system = case.generation.system_start().0;
        let kernel = wanted.iter().take_while(|frame| number(&frame["pc"]) >= system).count();
        wanted = &wanted[..kernel];
    }
    assert!(found.len() >= wanted.len(), "{what}: {} of {} frames", found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(number(&found["ip"]), wanted["pc"], "{what}: {found} for {wanted}");
        // The chain of ebp does not tell stack pointers to the byte.
        if case.generation.machine != Machine::X86 {
            assert_eq!(number(&found["child_sp"]), wanted["sp"], "{what}: {found} for {wanted}");
        }
    }
    // Behind what was laid there is at most the program's own frame.
    assert!(!images || found.len() <= wanted.len() + 1, "{what}: {found:?}");
}
