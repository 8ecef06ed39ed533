//! The laboratory's processes, threads and requests, read back by kd: what its C++ evaluator finds in a dump by walking
//! the structures as a debugger does is what the world says of itself.

use kd::cli::{self, Environment, Request};
use kd::session::Session;
use kd::ui::{Capture, Ui, UiOptions};
use kd_sdk::output::Out;
use kd_tests::lab::layout::{Generation, Machine};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// One generation for each shape that the structures have.
const SHAPES: [&str; 5] = ["x86-2600", "x86-7601", "x64-7601", "x86-19041", "x64-22000"];

/// A story, opened by kd.
struct Lab {
    generation: &'static Generation,
    facts: Value,
    session: Session,
    _folder: tempfile::TempDir,
}

impl Lab {
    fn new(generation: &str, story: Story) -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump");
        let world = World::build(Options::of(generation, story));
        writer::write(&world, Kind::Full, &path).unwrap();
        world.write_symbols(folder.path()).unwrap();
        let arguments = ["-y".into(), folder.path().into()];
        let Ok(Request::Run(options)) = cli::parse(arguments) else { panic!("the arguments are good") };
        let ui = Ui::with_streams(UiOptions::default(), false, Box::new(io::sink()), Box::new(io::sink()));
        let environment = Environment { no_bugcheck_analysis: true, ..Environment::default() };
        let mut session = Session::new(Arc::new(ui), &options, &environment);
        let dump = session.open_dump(&path, None).unwrap();
        session.attach(dump);
        let facts = world.truth()["facts"].clone();
        Lab { generation: world.options.generation, facts, session, _folder: folder }
    }

    fn run(&mut self, line: &str) -> String {
        let capture = Capture::new();
        self.session.run(line, &Out::new(&capture)).unwrap_or_else(|e| panic!("{line}: {e}"));
        capture.into_text()
    }

    /// The value of a C++ expression.
    fn value(&self, expression: &str) -> u64 {
        let scope = self.session.scope(None).unwrap();
        let value = scope.evaluate(&format!("@@c++({expression})"));
        let value = value.unwrap_or_else(|e| panic!("{}: {expression}: {e}", self.generation.name));
        if self.generation.machine == Machine::X86 { u64::from(value as u32) } else { value }
    }

    /// A field of a structure of the kernel.
    fn field(&self, structure: &str, base: u64, path: &str) -> u64 {
        self.value(&format!("((nt!{structure}*){base:#x})->{path}"))
    }

    /// A field of 64 bits on every machine.
    fn wide(&self, structure: &str, base: u64, path: &str) -> u64 {
        let scope = self.session.scope(None).unwrap();
        scope.evaluate_wide(&format!("@@c++(((nt!{structure}*){base:#x})->{path})")).unwrap()
    }

    /// A pointer or number in a row of them, by the name of a variable.
    fn variable(&self, name: &str, index: u64) -> u64 {
        self.value(&format!(
            "((nt!_LIST_ENTRY*)((unsigned __int64)&nt!{name} + {index} * sizeof(void*)))->Flink"
        ))
    }

    /// Where a field is.
    fn place(&self, structure: &str, base: u64, path: &str) -> u64 {
        self.value(&format!("&(((nt!{structure}*){base:#x})->{path})"))
    }

    fn has(&self, path: &str) -> bool {
        self.generation.find(path).is_some()
    }

    /// The members of a list by its head.
    fn list(&self, head: u64, structure: &str, links: &str) -> Vec<u64> {
        let offset = self.place(structure, 0x1000, links) - 0x1000;
        let mut members = Vec::new();
        let mut at = self.field("_LIST_ENTRY", head, "Flink");
        while at != head {
            assert!(members.len() < 1000, "{}: the list at {head:#x} has no end", self.generation.name);
            assert_eq!(self.field("_LIST_ENTRY", self.field("_LIST_ENTRY", at, "Flink"), "Blink"), at);
            members.push(at - offset);
            at = self.field("_LIST_ENTRY", at, "Flink");
        }
        members
    }

    /// The text of a `UNICODE_STRING`.
    fn string(&mut self, at: u64) -> String {
        self.run(&format!(".printf \"%msu\", {at:#x}"))
    }
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn numbers(value: &Value) -> Vec<u64> {
    rows(value).iter().map(number).collect()
}

/// Every descriptor is reached from the root, in order, balanced, with its range, protection and file.
#[test]
fn trees_of_descriptors() {
    let idle =
        SHAPES.into_iter().chain(["x64-9600", "x64-26100"]).map(|generation| (generation, Story::Idle));
    for (generation, story) in idle.chain([("x64-19041", Story::Wow64)]) {
        let mut lab = Lab::new(generation, story);
        let facts = lab.facts["vads"].clone();
        assert!(rows(&facts).len() > 10, "{generation}");
        for tree in rows(&facts) {
            let process = number(&tree["process"]);
            let (root, left, right) = if lab.has("_EPROCESS.VadRoot.BalancedRoot") {
                let count = lab.field("_EPROCESS", process, "VadRoot.NumberGenericTableElements");
                assert_eq!(count as usize, rows(&tree["vads"]).len());
                (
                    lab.field("_EPROCESS", process, "VadRoot.BalancedRoot.RightChild"),
                    "LeftChild",
                    "RightChild",
                )
            } else if lab.has("_MMVAD_SHORT.VadNode") {
                if lab.has("_EPROCESS.VadCount") {
                    assert_eq!(
                        lab.field("_EPROCESS", process, "VadCount") as usize,
                        rows(&tree["vads"]).len()
                    );
                }
                (lab.field("_EPROCESS", process, "VadRoot.Root"), "VadNode.Left", "VadNode.Right")
            } else {
                (lab.field("_EPROCESS", process, "VadRoot"), "LeftChild", "RightChild")
            };
            assert_eq!(root, number(&tree["root"]), "{generation}");
            let mut found = Vec::new();
            walk(&lab, root, [left, right], 1, &mut found);
            assert_eq!(found.len(), rows(&tree["vads"]).len(), "{generation}");
            let mut before = 0;
            for ((vad, level), wanted) in found.into_iter().zip(rows(&tree["vads"])) {
                assert_eq!((vad, level), (number(&wanted["vad"]), number(&wanted["level"])), "{generation}");
                let range = ["Starting", "Ending"].map(|end| {
                    let high = format!("{end}VpnHigh");
                    let high = if lab.has(&format!("_MMVAD_SHORT.{high}")) {
                        lab.field("_MMVAD_SHORT", vad, &high)
                    } else {
                        0
                    };
                    high << 32 | lab.field("_MMVAD_SHORT", vad, &format!("{end}Vpn"))
                });
                assert_eq!(
                    range,
                    [number(&wanted["start"]), number(&wanted["end"])],
                    "{generation} {vad:#x}"
                );
                assert!(
                    before <= range[0] && range[0] <= range[1],
                    "{generation}: {range:x?} behind {before:#x}"
                );
                before = range[1] + 1;
                let flag = |name: &str| lab.field("_MMVAD_SHORT", vad, &format!("u.VadFlags.{name}"));
                assert_eq!(flag("Protection"), number(&wanted["protection"]), "{generation}");
                assert_eq!(flag("PrivateMemory") == 1, wanted["kind"] == "private", "{generation}");
                let Some(name) = wanted["file"].as_str() else { continue };
                let area =
                    if lab.has("_MMVAD.Subsection") { "Subsection->ControlArea" } else { "ControlArea" };
                let area = lab.field("_MMVAD", vad, area);
                assert_eq!(area, number(&wanted["control_area"]), "{generation}");
                assert_eq!(lab.field("_CONTROL_AREA", area, "u.Flags.Image") == 1, wanted["kind"] == "image");
                let counted = lab.has("_CONTROL_AREA.FilePointer.Object");
                let pointer = if counted { "FilePointer.Value" } else { "FilePointer" };
                let mask = if lab.generation.machine == Machine::X86 { !7 } else { !15 };
                let file = lab.field("_CONTROL_AREA", area, pointer) & mask;
                assert_eq!(file, number(&wanted["file_object"]), "{generation}");
                let name_at = lab.place("_FILE_OBJECT", file, "FileName");
                assert_eq!(lab.string(name_at), name, "{generation}");
            }
        }
    }
}

fn walk(lab: &Lab, node: u64, sides: [&str; 2], level: u64, found: &mut Vec<(u64, u64)>) {
    if node == 0 {
        return;
    }
    assert!(level < 40, "a loop");
    walk(lab, lab.field("_MMVAD_SHORT", node, sides[0]), sides, level + 1, found);
    found.push((node, level));
    walk(lab, lab.field("_MMVAD_SHORT", node, sides[1]), sides, level + 1, found);
}

/// Tokens, sessions, the job, what is left of a process that ended.
#[test]
fn processes_in_full() {
    for generation in SHAPES {
        let mut lab = Lab::new(generation, Story::Idle);
        let facts = lab.facts.clone();
        let mut users = BTreeMap::new();
        for token in rows(&facts["tokens"]) {
            let at = number(&token["token"]);
            if let Some(process) = token["process"].as_u64() {
                let pointer = lab.field("_EPROCESS", process, "Token.Value");
                assert_eq!(
                    pointer & !if lab.generation.machine == Machine::X86 { 7 } else { 15 },
                    at,
                    "{generation}"
                );
            }
            assert_eq!(lab.field("_TOKEN", at, "TokenId.LowPart"), number(&token["id"]));
            assert_eq!(
                lab.field("_TOKEN", at, "AuthenticationId.LowPart"),
                number(&token["authentication_id"])
            );
            assert_eq!(lab.field("_TOKEN", at, "SessionId"), number(&token["session"]));
            assert_eq!(lab.field("_TOKEN", at, "TokenType"), number(&token["type"]));
            let count = lab.field("_TOKEN", at, "UserAndGroupCount");
            assert_eq!(count as usize, 1 + rows(&token["groups"]).len());
            let wanted = [&token["user"]].into_iter().chain(rows(&token["groups"]).iter().map(|g| &g["sid"]));
            for (index, wanted) in wanted.enumerate() {
                let sid = lab.field("_TOKEN", at, &format!("UserAndGroups[{index}].Sid"));
                assert_eq!(sid_text(&lab, sid), wanted.as_str().unwrap(), "{generation}");
            }
            if lab.has("_TOKEN.Privileges.Present") {
                let rights = rows(&token["privileges"]);
                let present = rights.iter().fold(0, |bits, r| bits | 1 << number(&r["number"]));
                let on = rights.iter().filter(|r| r["enabled"] == true);
                let on = on.fold(0, |bits, r| bits | 1 << number(&r["number"]));
                assert_eq!(lab.wide("_TOKEN", at, "Privileges.Present"), present);
                assert_eq!(lab.wide("_TOKEN", at, "Privileges.Enabled"), on);
            }
            *users.entry(token["user"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
        assert!(users["S-1-5-18"] > 2 && users["S-1-5-19"] > 0 && users.len() == 3, "{users:?}");

        for session in rows(&facts["sessions"]) {
            let space = number(&session["space"]);
            assert_eq!(lab.field("_MM_SESSION_SPACE", space, "SessionId"), number(&session["id"]));
            let fields = session["fields"].as_object().unwrap();
            assert!(
                fields.len() > 10 && number(&fields["PagedPoolInfo.AllocatedPagedPool"]) > 0
                    || session["id"] != 1
            );
            for (field, value) in fields {
                // What is narrower than 64 bits is extended by its sign.
                let (found, narrow) = (lab.wide("_MM_SESSION_SPACE", space, field), field != "CreateTime");
                let found = if narrow && lab.generation.machine == Machine::X86 {
                    found & 0xffff_ffff
                } else {
                    found
                };
                assert_eq!(found, number(value), "{generation} {session}: {field}");
            }
            let head = lab.place("_MM_SESSION_SPACE", space, "ProcessList");
            assert_eq!(lab.list(head, "_EPROCESS", "SessionProcessLinks"), numbers(&session["processes"]));
        }
        assert_eq!(rows(&facts["sessions"]).len(), 2, "{generation}");
        let job = number(&facts["job"]["job"]);
        let head = lab.place("_EJOB", job, "ProcessListHead");
        assert_eq!(lab.list(head, "_EPROCESS", "JobLinks"), numbers(&facts["job"]["processes"]));
        for process in numbers(&facts["job"]["processes"]) {
            assert_eq!(lab.field("_EPROCESS", process, "Job"), job);
        }
        for (name, value) in facts["job"]["fields"].as_object().unwrap() {
            if lab.has(&format!("_EJOB.{name}")) && !name.ends_with("Time") {
                assert_eq!(lab.field("_EJOB", job, name), number(value), "{generation} {name}");
            }
        }
        let zombie = number(&facts["ended"]["zombie"]);
        assert_eq!(lab.field("_EPROCESS", zombie, "ObjectTable"), 0);
        assert_eq!(lab.field("_EPROCESS", zombie, "ActiveThreads"), 0);
        assert_eq!(
            lab.field("_EPROCESS", zombie, "ExitTime.LowPart"),
            number(&facts["ended"]["exit_time"]) & 0xffff_ffff
        );
        let head = lab.place("_EPROCESS", zombie, "ThreadListHead");
        assert!(lab.list(head, "_ETHREAD", "ThreadListEntry").is_empty(), "{generation}");
        for person in rows(&facts["people"]) {
            let process = number(&person["process"]);
            let name = lab.field("_EPROCESS", process, "SeAuditProcessCreationInfo.ImageFileName");
            let wanted = person["audit_name"].as_str().unwrap();
            if !wanted.is_empty() {
                assert_eq!(lab.string(name), wanted, "{generation}");
            }
            assert_eq!(lab.field("_EPROCESS", process, "PriorityClass"), number(&person["priority_class"]));
            let Some(section) = person["section_object"].as_u64() else { continue };
            let area = if lab.has("_SECTION") {
                lab.field("_SECTION", section, "u1.ControlArea")
            } else {
                lab.field("_SEGMENT", lab.field("_SECTION_OBJECT", section, "Segment"), "ControlArea")
            };
            let area =
                rows(&facts["control_areas"]).iter().find(|a| number(&a["control_area"]) == area).unwrap();
            assert_eq!(area["name"], person["path"], "{generation}");
        }
    }
}

fn sid_text(lab: &Lab, sid: u64) -> String {
    let count = lab.field("_SID", sid, "SubAuthorityCount");
    let authority = lab.field("_SID", sid, "IdentifierAuthority.Value[5]");
    (0..count).fold(format!("S-1-{authority}"), |text, index| {
        format!("{text}-{}", lab.field("_SID", sid, &format!("SubAuthority[{index}]")))
    })
}

/// PEBs, their modules, parameters and TEBs lie in the memory of each process.
#[test]
fn programs_in_user_memory() {
    for generation in SHAPES {
        let mut lab = Lab::new(generation, Story::Idle);
        let facts = lab.facts.clone();
        assert!(rows(&facts["environments"]).len() > 5);
        for program in rows(&facts["environments"]) {
            lab.run(&format!(".process /p {:#x}", number(&program["process"])));
            let peb = number(&program["peb"]);
            assert_eq!(lab.field("_EPROCESS", number(&program["process"]), "Peb"), peb);
            assert_eq!(lab.field("_PEB", peb, "SessionId"), number(&program["session"]));
            for (field, key) in [
                ("ImagePathName", "image"),
                ("CommandLine", "command_line"),
                ("CurrentDirectory.DosPath", "current_directory"),
                ("DllPath", "dll_path"),
            ] {
                let at = lab.place("_PEB", peb, &format!("ProcessParameters->{field}"));
                assert_eq!(lab.string(at), program[key].as_str().unwrap(), "{generation} {field}");
            }
            let head = lab.place("_PEB", peb, "Ldr->InLoadOrderModuleList");
            let modules = lab.list(head, "_LDR_DATA_TABLE_ENTRY", "InLoadOrderLinks");
            assert_eq!(modules.len(), rows(&program["modules"]).len());
            for (module, wanted) in modules.into_iter().zip(rows(&program["modules"])) {
                assert_eq!(lab.field("_LDR_DATA_TABLE_ENTRY", module, "DllBase"), number(&wanted["base"]));
                let at = lab.place("_LDR_DATA_TABLE_ENTRY", module, "FullDllName");
                assert_eq!(lab.string(at), wanted["path"].as_str().unwrap(), "{generation}");
            }
            for teb in rows(&facts["tebs"]) {
                let (thread, process) = (number(&teb["thread"]), number(&program["process"]));
                if lab.field("_EPROCESS", process, "UniqueProcessId") != number(&teb["process"]) {
                    continue;
                }
                let at = lab.field("_KTHREAD", thread, "Teb");
                assert_eq!(at, number(&teb["teb"]));
                assert_eq!(lab.field("_TEB", at, "ClientId.UniqueThread"), number(&teb["id"]));
                assert_eq!(lab.field("_TEB", at, "NtTib.StackBase"), number(&teb["stack_base"]));
                assert_eq!(lab.field("_TEB", at, "ProcessEnvironmentBlock"), peb);
            }
        }
    }
}

/// Wait blocks lead to their objects and are in the lists of these; owners, timeouts and special states are there.
#[test]
fn threads_and_what_they_wait_for() {
    for generation in SHAPES.into_iter().chain(["arm64-22000"]) {
        let lab = Lab::new(generation, Story::Idle);
        let facts = &lab.facts;
        let mut kinds = std::collections::BTreeSet::new();
        for wait in rows(&facts["waits"]) {
            let thread = number(&wait["thread"]);
            let special = &facts["special_threads"];
            if number(&special["terminated"]) == thread {
                continue;
            }
            let list = lab.field("_KTHREAD", thread, "WaitBlockList");
            assert_eq!(list, number(&wait["blocks"]), "{generation}");
            for wanted in rows(&wait["objects"]) {
                let block = number(&wanted["block"]);
                let object = lab.field("_KWAIT_BLOCK", block, "Object");
                assert_eq!(object, number(&wanted["object"]), "{generation}");
                assert_eq!(lab.field("_KWAIT_BLOCK", block, "Thread"), thread);
                assert_eq!(lab.field("_KWAIT_BLOCK", block, "WaitType") == 0, wait["all"] == true);
                let kind = lab.field("_DISPATCHER_HEADER", object, "Type") & 0x7f;
                assert_eq!(kind, number(&wanted["type"]), "{generation}");
                kinds.insert(kind);
                let head = lab.place("_DISPATCHER_HEADER", object, "WaitListHead");
                assert!(lab.list(head, "_KWAIT_BLOCK", "WaitListEntry").contains(&block), "{generation}");
            }
            if wait["due"].is_u64() {
                let block = number(&wait["timer_block"]);
                let timer = lab.place("_KTHREAD", thread, "Timer");
                if lab.has("_KWAIT_BLOCK.NextWaitBlock") {
                    assert_eq!(lab.field("_KWAIT_BLOCK", block, "Object"), timer);
                }
                assert_eq!(lab.field("_KWAIT_BLOCK", block, "WaitKey"), 0x102);
            }
        }
        // XP has no gates.
        let wanted = if lab.has("_KGATE") { 10 } else { 9 };
        assert_eq!(kinds.len(), wanted, "{generation}: {kinds:?}");
        let mutant = rows(&facts["dispatcher_objects"]).iter().find(|o| o["type"] == 2).unwrap();
        let owner = lab.field("_KMUTANT", number(&mutant["object"]), "OwnerThread");
        assert_eq!(owner, number(&facts["waits"][0]["thread"]));
        if lab.has("_KTHREAD.MutantListHead") {
            let head = lab.place("_KTHREAD", owner, "MutantListHead");
            assert_eq!(lab.list(head, "_KMUTANT", "MutantListEntry"), [number(&mutant["object"])]);
        }

        let special = |name: &str| number(&facts["special_threads"][name]);
        assert_eq!(lab.field("_KTHREAD", special("suspended"), "SuspendCount"), 1);
        assert_eq!(lab.field("_KTHREAD", special("attached"), "ApcState.Process"), special("attached_to"));
        assert_ne!(
            lab.field("_KTHREAD", special("attached"), "SavedApcState.Process"),
            special("attached_to")
        );
        assert_eq!(lab.field("_KTHREAD", special("terminated"), "State"), 4);
        assert_eq!(lab.field("_KTHREAD", special("standby"), "State"), 3);
        if lab.has("_KTHREAD.KernelStackResident") {
            assert_eq!(lab.field("_KTHREAD", special("swapped"), "KernelStackResident"), 0);
            assert_eq!(lab.field("_KTHREAD", special("attached"), "KernelStackResident"), 1);
        }
        let acting = special("impersonating");
        let token = rows(&facts["tokens"]).iter().find(|t| t["thread"] == acting).unwrap();
        let pointer = if lab.has("_ETHREAD.ClientSecurity") {
            lab.field("_ETHREAD", acting, "ClientSecurity.ImpersonationData") & !7
        } else {
            lab.value(&format!("*(unsigned long*){:#x}", lab.field("_ETHREAD", acting, "ImpersonationInfo")))
        };
        assert_eq!(pointer, number(&token["token"]), "{generation}");
        assert_eq!(token["type"], 2);
    }
}

/// Ready queues, timers by slot, deferred calls of processors.
#[test]
fn what_processors_have_to_do() {
    for generation in SHAPES {
        let lab = Lab::new(generation, Story::Idle);
        let facts = &lab.facts;
        let entry = lab.value("sizeof(nt!_LIST_ENTRY)");
        let prcb = |number: u64| lab.variable("KiProcessorBlock", number);
        assert_eq!(rows(&facts["ready"]).len(), 4, "{generation}");
        for ready in rows(&facts["ready"]) {
            let thread = number(&ready["thread"]);
            let priority = number(&ready["priority"]);
            assert_eq!(lab.field("_KTHREAD", thread, "State"), 1);
            let heads = if let Some(queue) = ready["queue"].as_u64() {
                assert_eq!(lab.field("_KPRCB", prcb(1), "SharedReadyQueue"), queue);
                lab.place("_KSHARED_READY_QUEUE", queue, "ReadyListHead")
            } else if lab.has("_KPRCB.DispatcherReadyListHead") {
                assert_ne!(lab.field("_KPRCB", prcb(0), "ReadySummary") >> priority & 1, 0);
                lab.place("_KPRCB", prcb(0), "DispatcherReadyListHead")
            } else {
                assert_ne!(lab.variable("KiReadySummary", 0) >> priority & 1, 0);
                lab.value("&nt!KiDispatcherReadyListHead")
            };
            let members = lab.list(heads + priority * entry, "_KTHREAD", "WaitListEntry");
            assert!(members.contains(&thread), "{generation}: {thread:#x} in {members:x?}");
        }
        let standby = number(&facts["special_threads"]["standby"]);
        assert_eq!(lab.field("_KPRCB", prcb(1), "NextThread"), standby);

        assert!(rows(&facts["timers"]).len() > 6, "{generation}");
        for timer in rows(&facts["timers"]) {
            let (at, slot) = (number(&timer["timer"]), number(&timer["slot"]));
            let head = if lab.has("_KPRCB.TimerTable") {
                let table = lab.place("_KPRCB", prcb(number(&timer["processor"])), "TimerTable.TimerEntries");
                let size = lab.value("sizeof(nt!_KTIMER_TABLE_ENTRY)");
                lab.place("_KTIMER_TABLE_ENTRY", table + slot * size, "Entry")
            } else {
                lab.value("&nt!KiTimerTableListHead") + slot * entry
            };
            assert!(lab.list(head, "_KTIMER", "TimerListEntry").contains(&at), "{generation} {at:#x}");
            assert_eq!(lab.field("_KTIMER", at, "DueTime.LowPart"), number(&timer["due"]) & 0xffff_ffff);
            let mut call = lab.field("_KTIMER", at, "Dpc");
            if timer["hidden"] == true {
                let [never, always] = ["KiWaitNever", "KiWaitAlways"].map(|key| lab.variable(key, 0));
                call = (call ^ never).rotate_left((never & 0xff) as u32) ^ at;
                call = call.swap_bytes() ^ always;
            }
            assert_eq!(call, timer["dpc"].as_u64().unwrap_or(0), "{generation} {at:#x}");
        }
        let wanted: Vec<u64> = rows(&facts["dpcs"]).iter().map(|d| number(&d["dpc"])).collect();
        assert_eq!(wanted.len(), 3, "{generation}");
        let link = lab.place("_KDPC", 0x1000, "DpcListEntry") - 0x1000;
        let found = if lab.has("_KPRCB.DpcData.DpcList") {
            let mut at = lab.field("_KPRCB", prcb(1), "DpcData[0].DpcList.ListHead.Next");
            let mut found = Vec::new();
            while at != 0 && found.len() < 10 {
                found.push(at - link);
                at = lab.field("_SINGLE_LIST_ENTRY", at, "Next");
            }
            found
        } else if lab.has("_KPRCB.DpcData") {
            lab.list(lab.place("_KPRCB", prcb(1), "DpcData[0].DpcListHead"), "_KDPC", "DpcListEntry")
        } else {
            lab.list(lab.place("_KPRCB", prcb(1), "DpcListHead"), "_KDPC", "DpcListEntry")
        };
        assert_eq!(found, wanted, "{generation}");
        let queue = number(&facts["work_queue"]["queue"]);
        let items = lab.list(lab.place("_KQUEUE", queue, "EntryListHead"), "_WORK_QUEUE_ITEM", "List");
        let wanted: Vec<u64> =
            rows(&facts["work_queue"]["items"]).iter().map(|i| number(&i["item"])).collect();
        assert_eq!(items, wanted, "{generation}");
        let workers = lab.list(lab.place("_KQUEUE", queue, "ThreadListHead"), "_KTHREAD", "QueueListEntry");
        assert_eq!(workers, numbers(&facts["work_queue"]["threads"]), "{generation}");
    }
}

/// Requests are in the lists of their threads and devices; their stacks say what was asked.
#[test]
fn requests_and_devices() {
    for generation in SHAPES {
        let mut lab = Lab::new(generation, Story::CrashInDriver);
        let facts = lab.facts.clone();
        assert!(rows(&facts["irps"]).len() > 5);
        for request in rows(&facts["irps"]) {
            let irp = number(&request["irp"]);
            assert_eq!(lab.field("_IRP", irp, "Type"), 6);
            let thread = lab.field("_IRP", irp, "Tail.Overlay.Thread");
            assert_eq!(thread, number(&request["thread"]));
            if thread != 0 {
                let head = lab.place("_ETHREAD", thread, "IrpList");
                assert!(lab.list(head, "_IRP", "ThreadListEntry").contains(&irp), "{generation}");
            }
            let (count, current) =
                (lab.field("_IRP", irp, "StackCount"), lab.field("_IRP", irp, "CurrentLocation"));
            assert_eq!((count, current), (number(&request["stack_count"]), number(&request["current"])));
            assert_eq!(lab.field("_IRP", irp, "Cancel") == 1, request["cancelled"] == true);
            let first = irp + lab.value("sizeof(nt!_IRP)");
            let size = lab.value("sizeof(nt!_IO_STACK_LOCATION)");
            assert_eq!(
                lab.field("_IRP", irp, "Tail.Overlay.CurrentStackLocation"),
                first + (current - 1) * size
            );
            for (index, wanted) in rows(&request["stack"]).iter().enumerate() {
                let at = first + index as u64 * size;
                let location = |field: &str| lab.field("_IO_STACK_LOCATION", at, field);
                assert_eq!(location("MajorFunction"), number(&wanted["major"]));
                assert_eq!(location("Control"), number(&wanted["control"]));
                assert_eq!(location("DeviceObject"), number(&wanted["device"]));
                assert_eq!(location("FileObject"), number(&wanted["file"]));
                assert_eq!(location("CompletionRoutine"), number(&wanted["completion"]));
                let parameter = if wanted["major"] == 14 {
                    "DeviceIoControl.IoControlCode"
                } else {
                    "Read.ByteOffset.LowPart"
                };
                assert_eq!(location(&format!("Parameters.{parameter}")), number(&wanted["parameters"][1]));
            }
        }
        let told = |key: &str| number(&facts["requests"][key]);
        let device = told("device");
        assert_eq!(lab.field("_DEVICE_OBJECT", device, "CurrentIrp"), told("current"));
        let head = lab.place("_DEVICE_OBJECT", device, "DeviceQueue.DeviceListHead");
        let queued = lab.list(head, "_IRP", "Tail.Overlay.DeviceQueueEntry.DeviceListEntry");
        assert_eq!(queued, numbers(&facts["requests"]["queued"]));
        let upper = told("upper_device");
        assert_eq!(lab.field("_DEVICE_OBJECT", upper, "DeviceObjectExtension->AttachedTo"), device);
        assert_eq!(lab.field("_DEVICE_OBJECT", device, "AttachedDevice"), upper);
        let driver = number(&facts["driver_details"]["driver"]);
        let section = lab.field("_DRIVER_OBJECT", driver, "DriverSection");
        let name = lab.place("_LDR_DATA_TABLE_ENTRY", section, "BaseDllName");
        assert_eq!(lab.string(name), "faultdrv.sys", "{generation}");
        let name = lab.field("_DRIVER_OBJECT", driver, "DriverExtension");
        let name = lab.place("_DRIVER_EXTENSION", name, "ServiceKeyName");
        assert_eq!(lab.string(name), "faultdrv", "{generation}");
    }
}

/// Tables of one, two and three levels: every handle is found, and nothing else.
#[test]
fn handle_tables_of_every_depth() {
    for generation in SHAPES {
        let lab = Lab::new(generation, Story::Idle);
        let mut levels = Vec::new();
        for table in rows(&lab.facts["handles"]) {
            let at = lab.field("_EPROCESS", number(&table["process"]), "ObjectTable");
            assert_eq!(at, number(&table["table"]), "{generation}");
            let code = lab.field("_HANDLE_TABLE", at, "TableCode");
            levels.push((code & 3) + 1);
            for handle in rows(&table["handles"]) {
                let header = lookup(&lab, code, number(&handle["handle"]) / 4);
                let body = lab.place("_OBJECT_HEADER", header, "Body");
                assert_eq!(body, number(&handle["object"]), "{generation} {handle}");
            }
            let next = rows(&table["handles"]).iter().map(|h| number(&h["handle"])).max().unwrap() + 4;
            if lab.field("_HANDLE_TABLE", at, "NextHandleNeedingPool") > next {
                assert_eq!(lookup(&lab, code, next / 4), 0, "{generation}");
            }
        }
        let cid = lab.variable("PspCidTable", 0);
        let code = lab.field("_HANDLE_TABLE", cid, "TableCode");
        assert!(rows(&lab.facts["thread_details"]).len() > 30, "{generation}");
        for thread in rows(&lab.facts["thread_details"]) {
            assert_eq!(
                lookup(&lab, code, number(&thread["id"]) / 4),
                number(&thread["thread"]),
                "{generation}"
            );
        }
        for person in rows(&lab.facts["people"]) {
            assert_eq!(
                lookup(&lab, code, number(&person["id"]) / 4),
                number(&person["process"]),
                "{generation}"
            );
        }
        levels.sort_unstable();
        levels.dedup();
        assert_eq!(levels, [1, 2, 3], "{generation}");
    }
}

/// The object header that the entry at an index of a handle table points to; 0 if it is free.
fn lookup(lab: &Lab, code: u64, index: u64) -> u64 {
    let pointer = lab.generation.machine.pointer_size() as u64;
    let size = lab.value("sizeof(nt!_HANDLE_TABLE_ENTRY)");
    let (leaf, row) = (0x1000 / size, 0x1000 / pointer);
    let read = |at: u64| lab.field("_LIST_ENTRY", at, "Flink");
    let table = code & !3;
    let page = match code & 3 {
        0 => table,
        1 => read(table + index / leaf * pointer),
        2 => read(read(table + index / leaf / row * pointer) + index / leaf % row * pointer),
        level => panic!("level {level}"),
    };
    let entry = page + index % leaf * size;
    if lab.has("_HANDLE_TABLE_ENTRY.ObjectPointerBits") {
        let bits = lab.field("_HANDLE_TABLE_ENTRY", entry, "ObjectPointerBits");
        return match lab.generation.machine {
            _ if bits == 0 => 0,
            Machine::X86 => bits << 3,
            _ => bits << 4 | 0xffff << 48,
        };
    }
    lab.field("_HANDLE_TABLE_ENTRY", entry, "Object") & !7
}

/// The error log by the public packet: every entry in order, with its strings and data.
#[test]
fn error_log_entries() {
    for generation in SHAPES {
        let mut lab = Lab::new(generation, Story::ErrorLog);
        let facts = lab.facts["error_log"].clone();
        let pointer = lab.generation.machine.pointer_size() as u64;
        let links = if pointer == 4 { 4 } else { 8 };
        let head = lab.value("&nt!IopErrorLogListHead");
        let mut at = lab.field("_LIST_ENTRY", head, "Flink");
        let number_at = |lab: &Lab, at: u64, bytes: u64| {
            let value = lab.field("_UNICODE_STRING", at, "Length")
                | lab.field("_UNICODE_STRING", at, "MaximumLength") << 16;
            value & ((1 << (8 * bytes)) - 1)
        };
        for wanted in rows(&facts) {
            let entry = at - links;
            assert_eq!(entry, number(&wanted["entry"]), "{generation}");
            assert_eq!(number_at(&lab, entry, 2), 0xb);
            assert_eq!(number_at(&lab, entry + 2, 2), number(&wanted["size"]));
            let pointers = lab.field("_LIST_ENTRY", entry + links + 2 * pointer, "Flink");
            assert_eq!(pointers, number(&wanted["device"]));
            assert_eq!(
                lab.field("_LIST_ENTRY", entry + links + 3 * pointer, "Flink"),
                number(&wanted["driver"])
            );
            let packet = number(&wanted["packet"]);
            for (offset, bytes, key) in [
                (0, 1, "major"),
                (1, 1, "retries"),
                (8, 2, "category"),
                (0xc, 4, "code"),
                (0x10, 4, "unique"),
                (0x14, 4, "status"),
                (0x18, 4, "sequence"),
                (0x1c, 4, "io_control_code"),
                (0x20, 4, "device_offset"),
            ] {
                assert_eq!(
                    number_at(&lab, packet + offset, bytes),
                    number(&wanted[key]),
                    "{generation} {key}"
                );
            }
            let data: Vec<u64> = (0..number_at(&lab, packet + 2, 2) / 4)
                .map(|i| number_at(&lab, packet + 0x28 + 4 * i, 4))
                .collect();
            assert_eq!(data, numbers(&wanted["data"]));
            let mut text = packet + number_at(&lab, packet + 6, 2);
            assert_eq!(number_at(&lab, packet + 4, 2) as usize, rows(&wanted["strings"]).len());
            for string in rows(&wanted["strings"]) {
                let string = string.as_str().unwrap();
                assert_eq!(lab.run(&format!(".printf \"%mu\", {text:#x}")), string, "{generation}");
                text += 2 * (string.encode_utf16().count() as u64 + 1);
            }
            assert!(text - entry <= number(&wanted["size"]) || rows(&wanted["strings"]).is_empty());
            at = lab.field("_LIST_ENTRY", at, "Flink");
        }
        assert_eq!(at, head, "{generation}");
        assert_eq!(rows(&facts).len(), 12);
    }
}

/// Resources: owners in the entry or in the table, waiters as wait blocks on semaphore and event.
#[test]
fn resources_with_owners_and_waiters() {
    for generation in SHAPES {
        let lab = Lab::new(generation, Story::Deadlock);
        let head = lab.value("&nt!ExpSystemResourcesList");
        let listed = lab.list(head, "_ERESOURCE", "SystemResourcesList");
        let facts = rows(&lab.facts["resources"]);
        assert_eq!(listed, facts.iter().map(|r| number(&r["resource"])).collect::<Vec<_>>(), "{generation}");
        for resource in facts {
            let at = number(&resource["resource"]);
            for (field, key) in [
                ("NumberOfSharedWaiters", "shared_waiters"),
                ("NumberOfExclusiveWaiters", "exclusive_waiters"),
                ("ContentionCount", "contention"),
            ] {
                assert_eq!(
                    lab.field("_ERESOURCE", at, field),
                    number(&resource[key]),
                    "{generation} {field}"
                );
            }
            let owners = numbers(&resource["owners"]);
            assert_eq!(lab.field("_ERESOURCE", at, "ActiveCount") as usize, owners.len());
            assert_eq!(
                lab.field("_ERESOURCE", at, "Flag") & 0x80 != 0,
                resource["exclusive"] == true && !owners.is_empty()
            );
            let mut found = Vec::new();
            let own = if lab.has("_ERESOURCE.OwnerEntry") {
                &["OwnerEntry"][..]
            } else {
                &["OwnerThreads[0]", "OwnerThreads[1]"]
            };
            found.extend(own.iter().map(|o| lab.field("_ERESOURCE", at, &format!("{o}.OwnerThread"))));
            let table = lab.field("_ERESOURCE", at, "OwnerTable");
            if table != 0 {
                let size = lab.field("_OWNER_ENTRY", table, "TableSize");
                found.extend(
                    (1..size).map(|i| lab.value(&format!("((nt!_OWNER_ENTRY*){table:#x})[{i}].OwnerThread"))),
                );
            }
            found.retain(|&owner| owner != 0);
            assert_eq!(found, owners, "{generation}");
        }
        let crowd = &lab.facts["crowded_resource"];
        let at = number(&crowd["resource"]);
        let chains = lab.has("_KWAIT_CHAIN_ENTRY.Thread");
        for (field, waiting) in
            [("ExclusiveWaiters", "exclusive_waiting"), ("SharedWaiters", "shared_waiting")]
        {
            let object = lab.field("_ERESOURCE", at, field);
            let threads: Vec<u64> = if chains {
                // A ring without a head, each entry with its own event.
                let mut entries = vec![object];
                while let next =
                    lab.field("_KWAIT_CHAIN_ENTRY", entries[entries.len() - 1], "ListEntry.Flink")
                    && next != object
                {
                    entries.push(next);
                }
                entries.into_iter().map(|entry| lab.field("_KWAIT_CHAIN_ENTRY", entry, "Thread")).collect()
            } else {
                let head = lab.place("_DISPATCHER_HEADER", object, "WaitListHead");
                let blocks = lab.list(head, "_KWAIT_BLOCK", "WaitListEntry");
                blocks.into_iter().map(|b| lab.field("_KWAIT_BLOCK", b, "Thread")).collect()
            };
            assert_eq!(threads, numbers(&crowd[waiting]), "{generation}");
        }
    }
}

/// The 32-bit half of a program: PEB, TEB, modules, saved registers, and the stack below them.
#[test]
fn programs_of_32_bits() {
    for generation in ["x64-7601", "x64-9600", "x64-19041", "x64-22000"] {
        let mut lab = Lab::new(generation, Story::Wow64);
        let facts = lab.facts["wow64"].clone();
        lab.run(&format!(".process /p {:#x}", number(&facts["process"])));
        let (peb, teb) = (number(&facts["peb32"]), number(&facts["teb32"]));
        let native = lab.field("_KTHREAD", number(&facts["thread"]), "Teb");
        assert_eq!(lab.field("_TEB", native, "NtTib.ExceptionList"), teb, "{generation}");
        assert_eq!(lab.field("_TEB32", teb, "ProcessEnvironmentBlock"), peb);
        let process = number(&facts["process"]);
        let told = if lab.has("_EPROCESS.WoW64Process") {
            lab.field("_EPROCESS", process, "WoW64Process->Peb")
        } else {
            lab.field("_EPROCESS", process, "Wow64Process")
        };
        assert_eq!(told, peb, "{generation}");
        let word = |lab: &Lab, at: u64| lab.wide("_LIST_ENTRY", at, "Flink") & 0xffff_ffff;
        // PEB_LDR_DATA and its entries with 4-byte pointers.
        let head = lab.field("_PEB32", peb, "Ldr") + 0xc;
        let mut at = word(&lab, head);
        for module in rows(&facts["environment"]["modules"]) {
            assert_eq!(word(&lab, at + 0x18), number(&module["base"]), "{generation}");
            let text = word(&lab, at + 0x24 + 4);
            assert!(
                lab.run(&format!(".printf \"%mu\", {text:#x}")).starts_with(module["path"].as_str().unwrap())
            );
            at = word(&lab, at);
        }
        assert_eq!(at, head, "{generation}");
        let area = lab.field("_TEB", native, "TlsSlots[1]");
        assert_eq!(area, number(&facts["cpu_area"]));
        let registers = &facts["registers"];
        let saved = |offset: u64| word(&lab, area + 4 + offset);
        assert_eq!(
            [saved(0xb8), saved(0xc4), saved(0xb4)],
            ["eip", "esp", "ebp"].map(|r| number(&registers[r]))
        );
        // The chain of frame pointers leads over the return addresses that were laid.
        let frames = rows(&facts["stack"]);
        assert!(frames.len() >= 5, "{generation}");
        let wanted: Vec<u64> = frames.iter().map(|f| number(&f["pc"])).collect();
        assert_eq!(saved(0xb8), wanted[0]);
        let (mut frame, mut found) = (saved(0xb4), Vec::new());
        while frame != 0 && found.len() < 10 {
            found.push(word(&lab, frame + 4));
            frame = word(&lab, frame);
        }
        found.retain(|&pc| pc != 0);
        assert!(!found.is_empty() && wanted.ends_with(&found), "{generation}: {found:x?} {wanted:x?}");
    }
}

/// Every named object is in the directory that its path says, with its name and type.
#[test]
fn directories_hold_what_they_should() {
    for generation in SHAPES {
        let mut lab = Lab::new(generation, Story::Idle);
        let pointer = lab.generation.machine.pointer_size() as u64;
        let mut waiting = vec![(lab.variable("ObpRootDirectoryObject", 0), String::new())];
        let mut found = BTreeMap::new();
        while let Some((directory, path)) = waiting.pop() {
            for bucket in 0..37 {
                let mut entry = lab.field("_LIST_ENTRY", directory + bucket * pointer, "Flink");
                while entry != 0 {
                    let object = lab.field("_OBJECT_DIRECTORY_ENTRY", entry, "Object");
                    let body = lab.place("_OBJECT_HEADER", 0x1000, "Body") - 0x1000;
                    let name = object - body - lab.value("sizeof(nt!_OBJECT_HEADER_NAME_INFO)");
                    assert_eq!(
                        lab.field("_OBJECT_HEADER_NAME_INFO", name, "Directory"),
                        directory,
                        "{generation}"
                    );
                    let name = lab.place("_OBJECT_HEADER_NAME_INFO", name, "Name");
                    let name = format!(r"{path}\{}", lab.string(name));
                    assert!(found.insert(name.clone(), object).is_none(), "{generation}: {name} twice");
                    let is_directory = |o: &Value| o["path"] == name.as_str() && o["type"] == "Directory";
                    if rows(&lab.facts["objects"]).iter().any(is_directory) {
                        waiting.push((object, name));
                    }
                    entry = lab.field("_OBJECT_DIRECTORY_ENTRY", entry, "ChainLink");
                }
            }
        }
        for object in rows(&lab.facts["objects"]) {
            let path = object["path"].as_str().unwrap();
            assert_eq!(found.remove(path), object["object"].as_u64(), "{generation}: {path}");
        }
        assert!(found.is_empty(), "{generation}: {found:x?}");
    }
}
