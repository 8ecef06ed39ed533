//! What concerns many: choosing processes, sessions, queues, processors, where threads stand, commands for each.

use super::super::every_kind::{Case, list, number};
use super::{addresses, facts, find, ids, process_names, program};
use kd_sdk::nt::thread::state_name;
use serde_json::Value;
use std::collections::BTreeMap;

/// Every form of choosing processes and threads.
pub fn chosen(case: &Case<'_>) {
    let what = &case.what;
    let own = program(case.truth);
    let all = ids(&case.truth["processes"], "eprocess");
    let named = |name: &str| -> Vec<u64> {
        let named = list(&case.truth["processes"]).iter().filter(|process| process["name"] == name);
        named.map(|process| number(&process["eprocess"])).collect()
    };
    for (command, wanted) in [
        ("!process".to_owned(), vec![own]),
        ("!process -1 0".into(), vec![own]),
        ("!process 1a8c 1".into(), vec![own]),
        ("!process 9a0 0".into(), named("notepad.exe")),
        (super::chosen_by_address(case.truth), named("explorer.exe")),
        ("!process 0 0".into(), all.clone()),
        ("!process 0 0 WORKER.exe".into(), named("worker.exe")),
        ("!process 0 0 w*".into(), named("worker.exe")),
    ] {
        assert_eq!(addresses(case, &command), wanted, "{what}: {command}");
    }
    let record = case.record("!process 0 0 nosuch.exe");
    assert_eq!(record["status"], "failed", "{what}");
    let wanted = format!("none of {} processes is called nosuch.exe", all.len());
    assert!(case.said("!process 0 0 nosuch.exe").contains(&wanted), "{what}: {record}");
    // As much of each as the flags ask for.
    let keys = |command: &str, keys: &[&str]| -> Vec<bool> {
        let process = &list(&case.data(command)["processes"])[0];
        keys.iter().map(|key| process.get(key).is_some()).collect()
    };
    let parts = ["token", "threads"];
    assert_eq!(keys("!process -1 0", &parts), [false, false], "{what}");
    assert_eq!(keys("!process 1a8c 1", &parts), [true, false], "{what}");
    let thread =
        &list(&list(&case.data(&super::chosen_by_address(case.truth))["processes"])[0]["threads"])[0];
    assert!(thread.get("wait_objects").is_some() && thread.get("frames").is_none(), "{what}: {thread}");
    modules(case);
    threads(case);
}

/// By module: what the loader lists in user memory, else only the image's name.
fn modules(case: &Case<'_>) {
    let what = &case.what;
    let has = |name: &str| -> Vec<u64> {
        let order = ids(&case.truth["processes"], "eprocess");
        let loaded = |at: &&u64| {
            let modules = list(&find(case, "environments", "process", **at)["modules"]);
            modules.iter().any(|module| module["name"] == name)
        };
        order.iter().filter(loaded).copied().collect()
    };
    let command = "!process /m ntdll 0 0";
    if case.has_user() {
        assert_eq!(addresses(case, command), has("ntdll.dll"), "{what}");
        assert_eq!(addresses(case, "!process /m faultapp"), [program(case.truth)], "{what}");
        assert_eq!(case.said(command), "[]", "{what}");
    } else {
        assert_eq!(case.record(command)["status"], "failed", "{what}");
        let count = has("ntdll.dll").len();
        assert!(case.said(command).contains(&format!("the modules of {count} processes")), "{what}");
        assert!(case.said(command).contains("not captured"), "{what}: {}", case.said(command));
        assert_eq!(addresses(case, "!process /m faultapp"), [program(case.truth)], "{what}");
        assert!(case.said("!process /m faultapp").contains("not captured"), "{what}");
    }
}

fn threads(case: &Case<'_>) {
    let what = &case.what;
    let own = number(&case.truth["thread"]);
    for command in ["!thread", "!thread -p -1 0", "!thread -t 1a90 2"] {
        assert_eq!(ids(&case.data(command)["threads"], "address"), [own], "{what}: {command}");
    }
    let owner = &case.data("!thread -p -1 0")["owner"];
    assert_eq!(number(&owner["address"]), program(case.truth), "{what}");
    assert!(case.data("!thread")["owner"].is_null(), "{what}");
    super::blocks::thread(case, &list(&case.data("!thread")["threads"])[0]);
    let last = list(&case.truth["threads"]).last().unwrap();
    for command in super::last_thread(case.truth) {
        let shown = &list(&case.data(&command)["threads"])[0];
        assert_eq!(
            (number(&shown["address"]), number(&shown["id"])),
            (number(&last["ethread"]), number(&last["id"])),
            "{what}"
        );
    }
    assert!(case.said("!thread -t fff0").contains("no thread has the id fff0"), "{what}");
}

pub fn sessions(case: &Case<'_>) {
    let what = &case.what;
    let order = ids(&case.truth["processes"], "eprocess");
    let of = |session: Option<u64>| -> Vec<u64> {
        let is = |at: &&u64| find(case, "people", "process", **at)["session"].as_u64() == session;
        order.iter().filter(is).copied().collect()
    };
    let data = case.data("!session");
    let brief: Vec<_> = list(&data["list"])
        .iter()
        .map(|s| (number(&s["session"]), number(&s["processes"]), number(&s["first"])))
        .collect();
    let wanted: Vec<_> = [0, 1].map(|id| (id, of(Some(id)).len() as u64, of(Some(id))[0])).into();
    assert_eq!(brief, wanted, "{what}");
    // The world's own list of them, in the order of the session space.
    for session in facts(case, "sessions") {
        let mut members = super::ids_of(&session["processes"]);
        let mut found = of(session["id"].as_u64());
        members.sort_unstable();
        found.sort_unstable();
        assert_eq!(members, found, "{what}");
    }
    let told = (&data["sessions"], &data["current"], &data["outside"], &data["complete"]);
    assert_eq!(told, (&2.into(), &1.into(), &of(None).len().into(), &true.into()), "{what}");
    for (command, wanted) in [
        ("!process /s 1 0 0", of(Some(1))),
        ("!process /s 0", of(Some(0))),
        ("!sprocess 0 0", of(Some(0))),
        ("!sprocess 1 1", of(Some(1))),
        ("!sprocess", of(Some(1))),
        ("!sprocess -1 0", of(Some(1))),
    ] {
        assert_eq!(addresses(case, command), wanted, "{what}: {command}");
    }
    assert!(case.said("!sprocess 7 0").contains("is in session 7"), "{what}: {}", case.said("!sprocess 7 0"));
    // Another session's memory is read through a process of it.
    let using = case.data("!session -s 0");
    assert_eq!((&using["using"], number(&using["process"])), (&0.into(), of(Some(0))[0]), "{what}");
    assert_eq!(address(case, number(&case.data("? @$proc")["hex"])), of(Some(0))[0], "{what}");
    assert_eq!(addresses(case, "!process -1 1"), [of(Some(0))[0]], "{what}");
    assert!(case.said("!session -s 7").contains("is in session 7"), "{what}");
}

/// An address of 32 bits without its sign.
fn address(case: &Case<'_>, value: u64) -> u64 {
    if case.generation.machine.pointer_size() == 4 { value & 0xffff_ffff } else { value }
}

/// What has to run, in the order of the queues.
pub fn ready(case: &Case<'_>) {
    let what = &case.what;
    let wanted = facts(case, "ready");
    assert!(!wanted.is_empty(), "{what}");
    let mut seen = 0;
    for queue in list(&case.data("!ready 0")["queues"]) {
        let own = |fact: &&Value| match queue["shared_queue"].is_string() {
            _ if queue["by_state"] == true => true,
            true => fact["queue"].is_u64() && number(&queue["shared_queue"]) == fact["queue"],
            false => {
                fact["processor"].is_u64()
                    && (queue["processor"].is_null() || queue["processor"] == fact["processor"])
            }
        };
        // The highest priority first; those of one priority as they came, where queues are known.
        let mut members: Vec<_> = wanted.iter().filter(own).collect();
        members.sort_by_key(|fact| std::cmp::Reverse(number(&fact["priority"])));
        let mut members: Vec<_> = members.iter().map(|fact| number(&fact["thread"])).collect();
        let mut found = ids(&queue["threads"], "address");
        if queue["by_state"] == true {
            assert!(!case.generation.tells("_KPRCB.DispatcherReadyListHead"), "{what}");
            let priority = |at: &u64| number(&find(case, "ready", "thread", *at)["priority"]);
            assert!(found.iter().map(priority).is_sorted_by(|a, b| a >= b), "{what}: {queue}");
            members.sort_unstable();
            found.sort_unstable();
        }
        assert_eq!(found, members, "{what}: {queue}");
        seen += members.len();
    }
    assert_eq!(seen, wanted.len(), "{what}");
    for queue in list(&case.data("!ready")["queues"]) {
        for shown in list(&queue["threads"]) {
            assert_eq!(shown["state"], "Ready", "{what}: {shown}");
            super::blocks::thread(case, shown);
            super::blocks::frames(case, shown, thread_truth(case, number(&shown["address"])));
        }
    }
}

fn thread_truth<'c>(case: &'c Case<'_>, at: u64) -> &'c Value {
    list(&case.truth["threads"]).iter().find(|thread| thread["ethread"] == at).unwrap()
}

pub fn running(case: &Case<'_>) {
    let what = &case.what;
    let processors = list(&case.truth["processors"]);
    let standby = &case.truth["facts"]["special_threads"]["standby"];
    for command in ["!running", "!running -i -t"] {
        let data = case.data(command);
        assert_eq!(number(&data["processors"]), (1 << processors.len()) - 1, "{what}");
        assert_eq!(number(&data["idle_processors"]), (1 << processors.len()) - 2, "{what}");
    }
    assert_eq!(ids(&case.data("!running")["running"], "current"), [number(&case.truth["thread"])], "{what}");
    let rows = list(&case.data("!running -i -t")["running"]);
    assert_eq!(
        ids(&case.data("!running -i -t")["running"], "prcb"),
        ids(&case.truth["processors"], "prcb"),
        "{what}"
    );
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row["number"], index, "{what}");
        let current = number(&row["current"]);
        let thread = thread_truth(case, current);
        assert_eq!(thread["state"], 2, "{what}: {row}");
        super::blocks::frames(case, row, thread);
        let priority = &find(case, "thread_fields", "thread", current)["fields"]["Tcb.Priority"];
        assert_eq!(&row["current_priority"], priority, "{what}");
        assert_eq!(row["image"], if index == 0 { "faultapp.exe" } else { "Idle" }, "{what}: {row}");
        let next = if index == 1 { standby.as_u64() } else { None };
        assert_eq!(row["next"].as_str().map(|_| number(&row["next"])), next, "{what}: {row}");
    }
}

/// Functions that wait in the name of others.
const SLEEP: [&str; 7] = [
    "nt!KiSwapContext",
    "nt!KiSwapThread",
    "nt!KiCommitThreadWait",
    "nt!KeWaitForSingleObject",
    "nt!KeWaitForMultipleObjects",
    "nt!KeRemoveQueueEx",
    "nt!KeDelayExecutionThread",
];

/// A line each: in whose name who waits.
pub fn stacks(case: &Case<'_>) {
    let what = &case.what;
    let truth: BTreeMap<u64, &Value> =
        list(&case.truth["threads"]).iter().map(|thread| (number(&thread["ethread"]), thread)).collect();
    let listed = truth.values().filter(|thread| number(&thread["id"]) != 0).count() as u64;
    // Threads that have ended, and one whose stack is in the page file, where the kernel tells that.
    let resident = case.generation.find("_KTHREAD.KernelStackResident").is_none();
    let away = |thread: &&&Value| list(&thread["stack"]).is_empty() && (thread["state"] == 4 || !resident);
    let without = truth.values().filter(away).count() as u64;
    for (command, shown) in [("!stacks", listed - without), ("!stacks 1", listed)] {
        let data = case.data(command);
        let counts = ["threads", "shown", "not_resident"].map(|key| number(&data[key]));
        assert_eq!(
            (counts, &data["complete"]),
            ([listed, shown, without], &true.into()),
            "{what}: {command}"
        );
        let rows: usize = list(&data["processes"]).iter().map(|p| list(&p["threads"]).len()).sum();
        assert_eq!(rows as u64, shown, "{what}: {command}");
    }
    let names = process_names(case);
    for process in list(&case.data("!stacks 1")["processes"]) {
        assert_eq!(process["image"], names[&number(&process["address"])].as_str(), "{what}");
        for row in list(&process["threads"]) {
            let thread = truth[&number(&row["address"])];
            assert_eq!(
                (number(&row["id"]), number(&row["process_id"])),
                (number(&thread["id"]), number(&thread["process"])),
                "{what}"
            );
            let state = match number(&thread["state"]) {
                5 => "Blocked".to_owned(),
                other => state_name(other).to_uppercase(),
            };
            assert_eq!(row["state"], state, "{what}: {row}");
            let Some(started) =
                find(case, "thread_fields", "thread", number(&row["address"]))["fields"]["Tcb.WaitTime"]
                    .as_u64()
            else {
                continue;
            };
            assert_eq!(row["ticks"], 123_456_780_000 / 156_250 - started, "{what}: {row}");
            blocker(row, thread, what);
        }
    }
    // By a function on the stack.
    let wanted: Vec<_> = list(&case.truth["threads"])
        .iter()
        .filter(|thread| {
            let stack = list(&thread["stack"]).iter();
            number(&thread["id"]) != 0
                && stack
                    .map(|frame| frame["symbol"].as_str().unwrap())
                    .any(|s| s.contains("!KeWaitForMultipleObjects"))
        })
        .map(|thread| number(&thread["ethread"]))
        .collect();
    let processes = list(&case.data("!stacks 2 nt!kewaitformultiple")["processes"]);
    let mut found: Vec<_> =
        processes.iter().flat_map(|process| ids(&process["threads"], "address")).collect();
    let mut sorted = wanted;
    found.sort_unstable();
    sorted.sort_unstable();
    assert_eq!(found, sorted, "{what}");
}

fn blocker(row: &Value, thread: &Value, what: &str) {
    let function = |frame: &Value| frame["symbol"].as_str().unwrap().split('+').next().unwrap().to_owned();
    let stack = list(&thread["stack"]);
    match stack.iter().map(function).find(|name| !SLEEP.contains(&name.as_str())) {
        None => assert!(row["blocker"].is_null(), "{what}: {row}"),
        Some(_) if thread["state"] == 2 => assert!(row["blocker"].is_string(), "{what}: {row}"),
        Some(name) => {
            let shown = row["blocker"].as_str().unwrap_or_else(|| panic!("{what}: {row}"));
            assert!(shown.starts_with(&name), "{what}: {shown} for {name}");
            assert_eq!(row["certain"], true, "{what}: {row}");
        }
    }
}

/// Commands for each process and thread: the alias stands for its address.
pub fn each(case: &Case<'_>) {
    let what = &case.what;
    let outputs = |command: &str, key: &str| -> Vec<(u64, String)> {
        let rows = list(&case.data(command)[key]).iter();
        rows.map(|row| (number(&row["address"]), row["output"].as_str().unwrap().to_owned())).collect()
    };
    let echoed = |addresses: Vec<u64>| -> Vec<(u64, String)> {
        addresses.into_iter().map(|at| (at, format!("{at:#x}"))).collect()
    };
    let processes = ids(&case.truth["processes"], "eprocess");
    assert_eq!(
        outputs("!for_each_process \".echo @#Process\"", "processes"),
        echoed(processes.clone()),
        "{what}"
    );
    assert_eq!(addresses(case, "!for_each_process"), processes, "{what}");
    let by_id: Vec<u64> = processes
        .iter()
        .flat_map(|at| {
            let id =
                list(&case.truth["processes"]).iter().find(|p| p["eprocess"] == *at).unwrap()["id"].clone();
            let own = list(&case.truth["threads"]).iter().filter(move |thread| thread["process"] == id);
            own.map(|thread| number(&thread["ethread"])).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(outputs("!for_each_thread \".echo @#Thread\"", "threads"), echoed(by_id.clone()), "{what}");
    assert_eq!(ids(&case.data("!for_each_thread")["threads"], "address"), by_id, "{what}");
    // A command that fails ends nothing; one of this library runs too.
    for (at, output) in outputs("!for_each_process \"!process @#process 0\"", "processes") {
        assert!(output.starts_with(&format!("PROCESS {}", super::shown(case, at))), "{what}: {output}");
    }
    let failing = list(&case.data("!for_each_process \"!irp @#Process\"")["processes"]);
    assert!(failing.len() == processes.len() && failing.iter().all(|row| row["ok"].is_boolean()), "{what}");
}
