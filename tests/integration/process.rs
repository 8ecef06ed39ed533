//! `!process`, `!thread` and their kin on laboratory systems: what they say in JSON is what is true of the system.

use super::program::{arg, kd};
use kd_tests::lab::layout::{GENERATIONS, Machine};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// A number of the truth, or an address of kd's JSON.
fn number(value: &Value) -> u64 {
    match value {
        Value::String(text) => {
            u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_else(|e| panic!("{e}: {text}"))
        }
        value => value.as_u64().unwrap_or_else(|| panic!("no number: {value}")),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What a run said for each command.
struct Answers(BTreeMap<String, Value>);

impl Answers {
    /// Runs the commands on a dump.
    fn of(dump: &Path, store: &Path, commands: &[String]) -> Answers {
        let line = format!("{}; q", commands.join("; "));
        let run = kd(["--json", "-y", &arg(store), "-z", &arg(dump), "-c", &line]).run();
        let records = run.records();
        let one = |record: Value| (record["command"].as_str().unwrap_or_default().to_owned(), record);
        Answers(records.into_iter().map(one).collect())
    }

    fn record(&self, command: &str) -> &Value {
        self.0.get(command).unwrap_or_else(|| panic!("no answer to {command}"))
    }

    fn data(&self, command: &str) -> &Value {
        let record = self.record(command);
        assert_eq!(record["status"], "ok", "{command}: {record}");
        &record["data"]
    }
}

/// A world, its dump, and the answers to commands.
struct Case {
    what: String,
    truth: Value,
    answers: Answers,
}

impl Case {
    fn new(generation: &str, story: Story, kind: Kind, commands: impl Fn(&Value) -> Vec<String>) -> Case {
        let folder = tempfile::tempdir().unwrap();
        let (path, store) = (folder.path().join("dump.dmp"), folder.path().join("symbols"));
        let world = World::build(Options::of(generation, story));
        writer::write(&world, kind, &path).unwrap();
        world.write_symbols(&store).unwrap();
        let truth = world.truth();
        let answers = Answers::of(&path, &store, &commands(&truth));
        Case { what: format!("{generation} {story:?} {kind:?}"), truth, answers }
    }

    fn facts(&self, name: &str) -> &[Value] {
        list(&self.truth["facts"][name])
    }

    /// The processes of `!process 0 7`, by address.
    fn processes(&self) -> BTreeMap<u64, &Value> {
        let found = &self.answers.data("!process 0 7")["processes"];
        list(found).iter().map(|process| (number(&process["address"]), process)).collect()
    }

    /// Their threads, by address.
    fn threads(&self) -> BTreeMap<u64, &Value> {
        let processes = self.processes().into_values();
        let threads = processes.flat_map(|process| list(&process["threads"]));
        threads.map(|thread| (number(&thread["address"]), thread)).collect()
    }
}

/// Every command whose truth is known.
fn commands(truth: &Value) -> Vec<String> {
    let facts = &truth["facts"];
    let mut lines: Vec<String> =
        ["!process 0 7", "!ready 0", "!session", "!stacks 1", "!running -i"].map(str::to_owned).into();
    let each = |name: &str, key: &str, form: &str| -> Vec<String> {
        let values = list(&facts[name]).iter().map(|fact| number(&fact[key]));
        values.map(|value| form.replace("{}", &format!("{value:#x}"))).collect()
    };
    lines.extend(each("tokens", "token", "!token {}"));
    lines.extend(each("vads", "process", "!vad {}"));
    lines.extend(each("handles", "process", "!handle 0 3 {}"));
    lines.extend(each("environments", "process", "!peb -p {}"));
    lines.extend(each("irps", "irp", "!irp {} 1"));
    lines.extend(list(&facts["tebs"]).iter().map(teb));
    lines.push(format!("!job {:#x}", number(&facts["job"]["job"])));
    lines
}

fn teb(fact: &Value) -> String {
    format!("!teb -p {:x} {:#x}", number(&fact["process"]), number(&fact["teb"]))
}

#[test]
fn every_generation_is_read_as_it_was_made() {
    for g in GENERATIONS {
        let case = Case::new(g.name, Story::Idle, Kind::BitmapFull, commands);
        case.check_processes();
        case.check_threads(g.machine);
        case.check_waits();
        case.check_requests();
        case.check_tokens();
        case.check_vads();
        case.check_handles();
        case.check_environments();
        case.check_job_and_sessions();
        case.check_processors();
    }
}

impl Case {
    fn check_processes(&self) {
        let what = &self.what;
        let found = list(&self.answers.data("!process 0 7")["processes"]);
        let brief = |value: &Value, keys: [&str; 3]| {
            (number(&value[keys[0]]), number(&value[keys[1]]), value[keys[2]].as_str().unwrap().to_owned())
        };
        let found_brief: Vec<_> = found.iter().map(|p| brief(p, ["address", "id", "image"])).collect();
        let wanted: Vec<_> =
            list(&self.truth["processes"]).iter().map(|p| brief(p, ["eprocess", "id", "name"])).collect();
        assert_eq!(found_brief, wanted, "{what}");
        let all = self.processes();
        for fact in list(&self.truth["processes"]) {
            let process = all[&number(&fact["eprocess"])];
            assert_eq!(
                number(&process["directory_table_base"]),
                number(&fact["directory_table_base"]),
                "{what}"
            );
        }
        for person in self.facts("people") {
            let process = all[&number(&person["process"])];
            assert_eq!(process["session"], person["session"], "{what}: {person}");
            if let Some(priority) = process["base_priority"].as_u64() {
                assert_eq!(priority, number(&person["base_priority"]), "{what}: {person}");
            }
        }
        for quota in self.facts("quota") {
            let process = all[&number(&quota["process"])];
            assert_eq!(process["quota_paged_pool"], quota["paged"], "{what}: {quota}");
            assert_eq!(process["quota_nonpaged_pool"], quota["nonpaged"], "{what}: {quota}");
        }
        let ended = &self.truth["facts"]["ended"];
        let zombie = all[&number(&ended["zombie"])];
        assert_eq!(zombie["state"], "terminated", "{what}");
        assert_eq!(list(&zombie["threads"]).len(), 0, "{what}");
        assert_eq!(all[&number(&ended["ending"])]["state"], "exiting", "{what}");
        if let Some(status) = zombie.get("exit_status") {
            assert_eq!(number(status), number(&ended["exit_status"]), "{what}");
        }
        for member in list(&self.truth["facts"]["job"]["processes"]) {
            assert_eq!(
                number(&all[&number(member)]["job"]),
                number(&self.truth["facts"]["job"]["job"]),
                "{what}"
            );
        }
    }

    fn check_threads(&self, machine: Machine) {
        let what = &self.what;
        let found = self.threads();
        // Idle threads are in no list.
        let wanted: Vec<_> =
            list(&self.truth["threads"]).iter().filter(|thread| number(&thread["id"]) != 0).collect();
        assert!(found.len() >= wanted.len().min(30), "{what}: {} of {}", found.len(), wanted.len());
        for thread in self.facts("thread_details") {
            let shown = found[&number(&thread["thread"])];
            assert_eq!(number(&shown["id"]), number(&thread["id"]), "{what}: {thread}");
            assert_eq!(number(&shown["process_id"]), number(&thread["process"]), "{what}: {thread}");
            assert_eq!(number(&shown["teb"]), number(&thread["teb"]), "{what}: {thread}");
            for (key, fact) in [("user_time", "user_time"), ("kernel_time", "kernel_time")] {
                if let Some(time) = shown[key].as_f64() {
                    let ticks = number(&thread[fact]) as f64 * 0.015_625;
                    assert!((time - ticks).abs() < 1e-6, "{what}: {key} {time} {thread}");
                }
            }
            if let (Some(start), Some(told)) = (shown.get("wait_start"), thread["wait_time"].as_u64()) {
                assert_eq!(number(start), told, "{what}: {thread}");
            }
            if !thread["name"].is_null() && shown.get("name").is_some() {
                assert_eq!(shown["name"], thread["name"], "{what}: {thread}");
            }
            assert_eq!(number(&shown["start_address"]), number(&thread["win32_start"]), "{what}: {thread}");
        }
        let special = &self.truth["facts"]["special_threads"];
        let attached = found[&number(&special["attached"])];
        assert_eq!(number(&attached["attached_process"]), number(&special["attached_to"]), "{what}");
        assert!(!found[&number(&special["impersonating"])]["impersonation_token"].is_null(), "{what}");
        assert_eq!(found[&number(&special["terminated"])]["state"], "Terminated", "{what}");
        assert_eq!(found[&number(&special["standby"])]["state"], "Standby", "{what}");
        if let Some(count) = found[&number(&special["suspended"])].get("suspend_count") {
            assert!(count.as_u64() > Some(0), "{what}");
        }
        // Stacks of waiting threads begin where they were laid.
        let mut walked = 0;
        for thread in wanted.iter().filter(|thread| number(&thread["state"]) == 5) {
            let shown = found[&number(&thread["ethread"])];
            let (Some(frames), [first, ..]) = (shown["frames"].as_array(), list(&thread["stack"])) else {
                continue;
            };
            if machine == Machine::Arm64 && frames.is_empty() {
                continue;
            }
            walked += 1;
            assert_eq!(number(&frames[0]["ip"]), number(&first["pc"]), "{what}: {thread}");
        }
        assert!(walked > 20 || machine == Machine::Arm64, "{what}: {walked} stacks");
    }

    fn check_waits(&self) {
        let what = &self.what;
        let found = self.threads();
        let names = [
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
        assert!(self.facts("waits").len() >= 10, "{what}");
        for wait in self.facts("waits") {
            let shown = list(&found[&number(&wait["thread"])]["wait_objects"]);
            let wanted = list(&wait["objects"]);
            assert!(shown.len() >= wanted.len(), "{what}: {wait} {shown:?}");
            for (object, fact) in shown.iter().zip(wanted) {
                assert_eq!(number(&object["address"]), number(&fact["object"]), "{what}: {wait}");
                let kind = names.iter().find(|name| name.0 == fact["kind"]).unwrap().1;
                assert_eq!(object["type"], kind, "{what}: {wait}");
            }
            // Up to Windows 7 the ring goes on to the thread's own timer.
            let rest = &shown[wanted.len()..];
            assert!(
                rest.iter().all(|object| object["type"] == "NotificationTimer"),
                "{what}: {wait} {rest:?}"
            );
        }
    }

    fn check_requests(&self) {
        let what = &self.what;
        assert!(!self.facts("irps").is_empty(), "{what}");
        for irp in self.facts("irps") {
            let shown = self.answers.data(&format!("!irp {:#x} 1", number(&irp["irp"])));
            assert_eq!(number(&shown["stacks"]), number(&irp["stack_count"]), "{what}: {irp}");
            assert_eq!(number(&shown["current"]), number(&irp["current"]), "{what}: {irp}");
            assert_eq!(shown["cancelled"], irp["cancelled"], "{what}: {irp}");
            assert_eq!(number(&shown["thread"]), number(&irp["thread"]), "{what}: {irp}");
            assert_eq!(number(&shown["cancel_routine"]), number(&irp["cancel_routine"]), "{what}: {irp}");
            let locations = list(&shown["locations"]);
            assert_eq!(locations.len(), list(&irp["stack"]).len(), "{what}: {irp}");
            for (location, fact) in locations.iter().zip(list(&irp["stack"])) {
                for key in ["major", "minor", "control", "device", "file", "completion", "context"] {
                    assert_eq!(number(&location[key]), number(&fact[key]), "{what}: {key} {irp}");
                }
            }
        }
        let special = number(&self.truth["facts"]["requests"]["reader"]);
        let pending = number(&self.truth["facts"]["requests"]["pending"]);
        let threads = self.threads();
        let listed: Vec<_> =
            list(&threads[&special]["irps"]).iter().map(|irp| number(&irp["address"])).collect();
        assert!(listed.contains(&pending), "{what}: {listed:x?}");
    }

    fn check_tokens(&self) {
        let what = &self.what;
        for token in self.facts("tokens") {
            let shown = self.answers.data(&format!("!token {:#x}", number(&token["token"])));
            assert_eq!(shown["user"], token["user"], "{what}: {token}");
            assert_eq!(shown["primary_group"], token["primary_group"], "{what}: {token}");
            assert_eq!(
                number(&shown["authentication_id"]),
                number(&token["authentication_id"]),
                "{what}: {token}"
            );
            assert_eq!(shown["session"], token["session"], "{what}: {token}");
            let groups = |list: &[Value]| -> Vec<(String, u64)> {
                let one =
                    |group: &Value| (group["sid"].as_str().unwrap().to_owned(), number(&group["attributes"]));
                list.iter().map(one).collect()
            };
            assert_eq!(groups(list(&shown["groups"])), groups(list(&token["groups"])), "{what}");
            let privileges = |list: &[Value]| -> Vec<(u64, bool, bool)> {
                let flag = |value: &Value| value.as_bool().unwrap();
                list.iter()
                    .map(|p| (number(&p["number"]), flag(&p["enabled"]), flag(&p["default"])))
                    .collect()
            };
            assert_eq!(
                privileges(list(&shown["privileges"])),
                privileges(list(&token["privileges"])),
                "{what}"
            );
        }
    }

    fn check_vads(&self) {
        let what = &self.what;
        let mut ranges = 0;
        for fact in self.facts("vads") {
            let record = self.answers.record(&format!("!vad {:#x}", number(&fact["process"])));
            assert_eq!(record["status"], "ok", "{what}: {record}");
            let shown = list(&record["data"]["vads"]);
            assert_eq!(shown.len(), list(&fact["vads"]).len(), "{what}: {}", record["messages"]);
            for (vad, wanted) in shown.iter().zip(list(&fact["vads"])) {
                ranges += 1;
                assert_eq!(number(&vad["address"]), number(&wanted["vad"]), "{what}");
                assert_eq!(number(&vad["start"]), number(&wanted["start"]) << 12, "{what}: {wanted}");
                assert_eq!(number(&vad["end"]), number(&wanted["end"]) << 12 | 0xfff, "{what}: {wanted}");
                assert_eq!(vad["commit"], wanted["commit"], "{what}: {wanted}");
                assert_eq!(vad["file"], wanted["file"], "{what}: {wanted} {vad}");
                let kind = if wanted["kind"] == "data" { "mapped" } else { wanted["kind"].as_str().unwrap() };
                assert_eq!(vad["kind"], kind, "{what}: {wanted}");
                let protection = kd_sdk::nt::vad::protection_name(number(&wanted["protection"]));
                assert_eq!(vad["protection"], protection.as_str(), "{what}: {wanted}");
            }
        }
        assert!(ranges > 30, "{what}: {ranges}");
    }

    fn check_handles(&self) {
        let what = &self.what;
        for fact in self.facts("handles") {
            let shown = self.answers.data(&format!("!handle 0 3 {:#x}", number(&fact["process"])));
            let table = &list(&shown["tables"])[0];
            assert_eq!(table["count"], fact["count"], "{what}: {}", fact["id"]);
            let brief = |list: &[Value]| -> Vec<(u64, u64, u64)> {
                list.iter()
                    .map(|h| (number(&h["handle"]), number(&h["object"]), number(&h["access"])))
                    .collect()
            };
            assert_eq!(brief(list(&table["handles"])), brief(list(&fact["handles"])), "{what}");
        }
    }

    fn check_environments(&self) {
        let what = &self.what;
        for fact in self.facts("environments") {
            let shown = self.answers.data(&format!("!peb -p {:#x}", number(&fact["process"])));
            assert_eq!(number(&shown["address"]), number(&fact["peb"]), "{what}");
            for key in ["command_line", "current_directory", "dll_path", "window_title"] {
                assert_eq!(shown[key], fact[key], "{what}");
            }
            let modules = |list: &[Value]| -> Vec<(u64, String)> {
                list.iter().map(|m| (number(&m["base"]), m["path"].as_str().unwrap().to_owned())).collect()
            };
            assert_eq!(modules(list(&shown["modules"])), modules(list(&fact["modules"])), "{what}");
            let (found, wanted) = (list(&shown["environment"]), list(&fact["environment"]));
            assert!(wanted.iter().all(|line| found.contains(line)), "{what}: {found:?}");
        }
        for fact in self.facts("tebs") {
            let shown = self.answers.data(&teb(fact));
            assert_eq!(number(&shown["stack_base"]), number(&fact["stack_base"]), "{what}: {fact}");
            assert_eq!(number(&shown["last_error"]), number(&fact["last_error"]), "{what}: {fact}");
            assert_eq!(number(&shown["last_status"]), number(&fact["last_status"]), "{what}: {fact}");
        }
    }

    fn check_job_and_sessions(&self) {
        let what = &self.what;
        let job = &self.truth["facts"]["job"];
        let shown = self.answers.data(&format!("!job {:#x}", number(&job["job"])));
        let members: Vec<_> = list(&shown["processes"]).iter().map(|p| number(&p["address"])).collect();
        assert_eq!(members, list(&job["processes"]).iter().map(number).collect::<Vec<_>>(), "{what}");
        assert_eq!(number(&shown["limit_flags"]), number(&job["fields"]["LimitFlags"]), "{what}");
        assert_eq!(number(&shown["active_processes"]), number(&job["fields"]["ActiveProcesses"]), "{what}");
        let shown = list(&self.answers.data("!session")["list"]);
        let brief: Vec<_> = shown.iter().map(|s| (number(&s["session"]), number(&s["processes"]))).collect();
        let wanted: Vec<_> = self
            .facts("sessions")
            .iter()
            .map(|s| (number(&s["id"]), list(&s["processes"]).len() as u64))
            .collect();
        assert_eq!(brief, wanted, "{what}");
    }

    fn check_processors(&self) {
        let what = &self.what;
        let mut wanted: Vec<_> = self.facts("ready").iter().map(|ready| number(&ready["thread"])).collect();
        let queues = list(&self.answers.data("!ready 0")["queues"]);
        let threads = queues.iter().flat_map(|queue| list(&queue["threads"]));
        let mut found: Vec<_> = threads.map(|thread| number(&thread["address"])).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        assert!(!wanted.is_empty(), "{what}");
        assert_eq!(found, wanted, "{what}");
        let running = list(&self.answers.data("!running -i")["running"]);
        let prcbs: Vec<_> = running.iter().map(|row| number(&row["prcb"])).collect();
        let wanted: Vec<_> = list(&self.truth["processors"]).iter().map(|p| number(&p["prcb"])).collect();
        assert_eq!(prcbs, wanted, "{what}");
        assert_eq!(number(&running[0]["current"]), number(&self.truth["thread"]), "{what}");
        let stacks = self.answers.data("!stacks 1");
        let lines: usize = list(&stacks["processes"]).iter().map(|p| list(&p["threads"]).len()).sum();
        assert_eq!(lines, self.threads().len(), "{what}");
    }
}

/// The process that the crashing thread belongs to.
fn program(truth: &Value) -> u64 {
    let named = list(&truth["processes"]).iter().find(|process| process["name"] == "faultapp.exe");
    number(&named.expect("the program of every story")["eprocess"])
}

/// What each kind of dump holds of the processes is shown, and what it lacks is named.
#[test]
fn every_kind_of_dump_tells_what_it_has() {
    let lines = || ["!process", "!process 0 0", "!thread", "!peb"].map(str::to_owned).into();
    for (generation, kind) in [
        ("x64-19041", Kind::Triage),
        ("x64-19041", Kind::BitmapKernel),
        ("x86-7601", Kind::Triage),
        ("x64-7601", Kind::Summary),
        ("x64-26100", Kind::HeaderOnly),
    ] {
        let case = Case::new(generation, Story::CrashInDriver, kind, |_| lines());
        let what = &case.what;
        let (current, all) = (case.answers.record("!process"), case.answers.record("!process 0 0"));
        if kind == Kind::HeaderOnly {
            assert_ne!(current["status"], "ok", "{what}: {current}");
            assert_ne!(all["status"], "ok", "{what}: {all}");
            continue;
        }
        let program = program(&case.truth);
        let first = list(&current["data"]["processes"]).first();
        let first = first.unwrap_or_else(|| panic!("{what}: {current}"));
        assert_eq!(number(&first["address"]), program, "{what}: {current}");
        let thread = &list(&case.answers.data("!thread")["threads"])[0];
        assert_eq!(number(&thread["address"]), number(&case.truth["thread"]), "{what}");
        let listed: Vec<_> = list(&all["data"]["processes"]).iter().map(|p| number(&p["address"])).collect();
        assert!(listed.contains(&program), "{what}: {all}");
        // User memory is in none of these.
        let peb = case.answers.record("!peb");
        assert_ne!(peb["status"], "ok", "{what}: {peb}");
        assert!(peb["messages"].to_string().contains("not captured"), "{what}: {peb}");
    }
}

/// Broken lists end in warnings, and what can be had is shown.
#[test]
fn broken_systems_are_answered() {
    for generation in ["x64-19041", "x86-2600", "x64-7601", "arm64-22000"] {
        let lines = || {
            let all = [
                "!process 0 7",
                "!stacks 2",
                "!ready",
                "!running -it",
                "!handle 0 3 4",
                "!session",
                "!process 0 0",
            ];
            all.map(str::to_owned).into()
        };
        let case = Case::new(generation, Story::Hostile, Kind::BitmapKernel, |_| lines());
        let what = &case.what;
        let all = case.answers.data("!process 0 0");
        let found: Vec<_> = list(&all["processes"]).iter().map(|p| number(&p["address"])).collect();
        let wanted: Vec<_> = list(&case.truth["processes"]).iter().map(|p| number(&p["eprocess"])).collect();
        assert_eq!(found, wanted, "{what}");
        let messages = case.answers.record("!process 0 0")["messages"].to_string();
        assert!(messages.contains("loop"), "{what}: {messages}");
        let messages = case.answers.record("!handle 0 3 4")["messages"].to_string();
        assert!(messages.contains("level 3"), "{what}: {messages}");
        let messages = case.answers.record("!process 0 7")["messages"].to_string();
        assert!(messages.contains("threads of"), "{what}: {messages}");
    }
}

/// Without symbols the debugger data block tells what it can.
#[test]
fn without_symbols_the_data_block_answers() {
    for generation in ["x64-19041", "x86-7601", "arm64-22000"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.dmp");
        let world = World::build(Options::of(generation, Story::Idle));
        writer::write(&world, Kind::BitmapKernel, &path).unwrap();
        let answers = Answers::of(&path, folder.path(), &["!process 0 0".to_owned(), "!thread".to_owned()]);
        let all = answers.data("!process 0 0");
        let brief = |value: &Value, address: &str| (number(&value[address]), number(&value["id"]));
        let found: Vec<_> = list(&all["processes"]).iter().map(|p| brief(p, "address")).collect();
        let truth = world.truth();
        let wanted: Vec<_> = list(&truth["processes"]).iter().map(|p| brief(p, "eprocess")).collect();
        assert_eq!(found, wanted, "{generation}");
        let messages = answers.record("!process 0 0")["messages"].to_string();
        assert!(messages.contains("symbols"), "{generation}: {messages}");
        let thread = &list(&answers.data("!thread")["threads"])[0];
        assert_eq!(number(&thread["address"]), number(&truth["thread"]), "{generation}");
        assert_eq!(number(&thread["attached_process"]), program(&truth), "{generation}");
    }
}

/// The console's text on a real small dump: labels, order, widths.
#[test]
fn a_real_dump_reads_as_kd_prints_it() {
    let Some(shared) = kd_tests::shared() else { return };
    let dump = shared.join("dumps/real/x64-19041-7e.dmp");
    let store = shared.join("symbols/symstore");
    let run =
        kd(["-y", &arg(&store), "-z", &arg(&dump), "-c", "!process -1 1; !thread -1 2; !process 0 0; q"])
            .run();
    let at = run.stdout.find("PROCESS ").unwrap_or_else(|| panic!("{}", run.stdout));
    let text = &run.stdout[at..];
    let wanted = "\
PROCESS ffffc08bdce94180
    SessionId: none  Cid: 0004    Peb: 00000000  ParentCid: 0000
    DirBase: 001ad000  ObjectTable: ffffad0ec107b080  HandleCount: 234.
    Image: System
    VadRoot ffffc08bdf3ff960 Vads 30 Clone 0 Private 26. Modified 106. Locked 64.
    DeviceMap ffffad0ec1047600
    Token                             ffffad0ec1065500
    ElapsedTime                       00:00:00.917
    UserTime                          00:00:00.000
    KernelTime                        00:00:00.062
    QuotaPoolUsage[PagedPool]         0
    QuotaPoolUsage[NonPagedPool]      272
    Working Set Sizes (now,min,max)  (852, 50, 450) (3408KB, 200KB, 1800KB)
    PeakWorkingSetSize                1157
    VirtualSize                       8 Mb
    PeakVirtualSize                   12 Mb
    PageFaultCount                    1727
    MemoryPriority                    BACKGROUND
    BasePriority                      8
    CommitCharge                      52

THREAD ffffc08bde9e1640  Cid 0004.0108  Teb: 0000000000000000 Win32Thread: 0000000000000000 RUNNING on processor 0
**** NT ACTIVE PROCESS DUMP ****
";
    assert_eq!(text.get(..wanted.len()), Some(wanted), "{text}");
    let rest = &text[wanted.len()..];
    assert!(
        rest.contains("PROCESS ffffc08bdce94180\n") && rest.contains("not captured in this dump"),
        "{rest}"
    );
}
