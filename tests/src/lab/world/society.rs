//! Processes as a system has them: sessions, a job, a zombie, one that is ending; what is known of each.
//!
//! Facts: the structures in the layout tables; priorities, flags and life of processes from public descriptions.

use super::security::User;
use super::user::PROGRAM;
use super::vads::{Backing, EXECUTE_WRITE_COPY, READ_ONLY, READ_WRITE, Range};
use super::{SYSTEM_TIME, UP_TIME, World};
use crate::lab::layout::Machine;
use crate::lab::paging::AddressSpace;
use kd_sdk::address::{PAGE_SIZE, Va};
use serde_json::json;

/// What a process is.
struct Person {
    id: u64,
    /// Path on the volume; empty for the system.
    path: &'static str,
    user: User,
    session: Option<u64>,
    /// `PROCESS_PRIORITY_CLASS_*` and the base priority that goes with it.
    priority: (u64, u64),
    arguments: &'static str,
}

const NORMAL: (u64, u64) = (2, 8);
const HIGH: (u64, u64) = (3, 13);
/// The one-off processes: created after the others, by name and parent.
const LATER: [(&str, u64, u64); 6] = [
    ("explorer.exe", 0x8f4, 0x6b0),
    ("jobhost.exe", 0x910, 0x8f4),
    ("worker.exe", 0x924, 0x910),
    ("worker.exe", 0x938, 0x910),
    ("notepad.exe", 0x9a0, 0x8f4),
    ("stuck.exe", 0xa14, 0x8f4),
];
/// The zombie and the one that is ending.
pub(super) const ZOMBIE: u64 = 0x9a0;
pub(super) const ENDING: u64 = 0xa14;
/// Members of the job.
const JOB: [u64; 3] = [0x910, 0x924, 0x938];

#[rustfmt::skip]
static PEOPLE: &[Person] = &[
    Person { id: 4, path: "", user: User::System, session: None, priority: NORMAL, arguments: "" },
    Person { id: 0x15c, path: r"\Windows\System32\smss.exe", user: User::System, session: None, priority: (2, 11), arguments: "" },
    Person { id: 0x1c8, path: r"\Windows\System32\csrss.exe", user: User::System, session: Some(0), priority: HIGH, arguments: "ObjectDirectory=\\Windows SharedSection=1024,20480,768" },
    Person { id: 0x258, path: r"\Windows\System32\services.exe", user: User::System, session: Some(0), priority: (2, 9), arguments: "" },
    Person { id: 0x3a4, path: r"\Windows\System32\svchost.exe", user: User::LocalService, session: Some(0), priority: NORMAL, arguments: "-k LocalService -p" },
    Person { id: 0x8f4, path: r"\Windows\explorer.exe", user: User::Person, session: Some(1), priority: NORMAL, arguments: "" },
    Person { id: 0x910, path: r"\Program Files\Example\jobhost.exe", user: User::Person, session: Some(1), priority: (5, 6), arguments: "--workers 2" },
    Person { id: 0x924, path: r"\Program Files\Example\worker.exe", user: User::Person, session: Some(1), priority: (1, 4), arguments: "--number 1" },
    Person { id: 0x938, path: r"\Program Files\Example\worker.exe", user: User::Person, session: Some(1), priority: (1, 4), arguments: "--number 2" },
    Person { id: ZOMBIE, path: r"\Windows\System32\notepad.exe", user: User::Person, session: Some(1), priority: NORMAL, arguments: r"C:\notes.txt" },
    Person { id: ENDING, path: r"\Program Files\Example\stuck.exe", user: User::Person, session: Some(1), priority: NORMAL, arguments: "" },
    Person { id: PROGRAM, path: r"\Program Files\Example\faultapp.exe", user: User::Person, session: Some(1), priority: NORMAL, arguments: "/device 0" },
];

impl World {
    /// Adds the processes that come late and tells all there is to know of everyone.
    pub(super) fn society(&mut self) {
        for (name, id, parent) in LATER {
            let space = AddressSpace::new(self.system.scheme, &mut self.memory);
            self.person(name, id, parent, Some(space));
        }
        for id in 0..2 {
            let members = PEOPLE.iter().filter(|p| p.session == Some(id));
            let members: Vec<Va> = members.map(|p| self.process(p.id)).collect();
            self.session(id, &members);
        }
        let quota = self.quota_blocks();
        for person in PEOPLE {
            let process = self.process(person.id);
            self.describe(process, person);
            self.charge(process, person, quota);
        }
        self.job();
        self.end_processes();
    }

    /// The process of an id.
    pub(super) fn process(&self, id: u64) -> Va {
        self.processes.iter().find(|p| p.id == id).expect("a process of the story").eprocess
    }

    fn describe(&mut self, process: Va, person: &Person) {
        let generation = self.options.generation;
        let session = person.session.unwrap_or(0);
        self.primary_token(process, person.user, session);
        let created = SYSTEM_TIME - UP_TIME + 10_000_000 * person.id;
        let fields = [
            ("CreateTime", created),
            ("PriorityClass", person.priority.0),
            ("ReadOperationCount", 0x100 + person.id),
            ("WriteOperationCount", 0x40 + person.id),
            ("OtherOperationCount", 0x300 + person.id),
            ("ReadTransferCount", 0x1_0000 + person.id),
            ("WriteTransferCount", 0x8000 + person.id),
            ("OtherTransferCount", 0x2000 + person.id),
            ("Cookie", 0x5eed_0000 + person.id),
            ("HighestUserAddress", self.read_pointer(self.nt("MmHighestUserAddress")).0),
            ("ExitStatus", 0x103), // STATUS_PENDING: it lives
            ("NumberOfPrivatePages", 0x90 + person.id % 0x40),
            ("ModifiedPageCount", 0x11 + person.id % 0x10),
            ("NumberOfLockedPages", person.id >> 2 & 7),
            ("Vm.Flags.MemoryPriority", 2 * u64::from(person.session == Some(1))),
            ("Vm.Instance.Flags.MemoryPriority", 2 * u64::from(person.session == Some(1))),
        ];
        self.fill(process, "_EPROCESS", &fields);
        self.set(process, "_KPROCESS.BasePriority", person.priority.1);
        let mut told = json!({
            "process": process.0, "id": person.id, "create_time": created, "priority_class": person.priority.0,
            "base_priority": person.priority.1, "session": person.session, "path": person.path,
        });
        // The name that audit sees: UNICODE_STRING, then its characters.
        let device = if person.path.is_empty() {
            String::new()
        } else {
            format!(r"\Device\HarddiskVolume1{}", person.path)
        };
        let name = self.pool_block(b"SeOn", generation.at("_UNICODE_STRING"));
        if !device.is_empty() {
            self.write_string(name, &device);
        }
        self.set(process, "_EPROCESS.SeAuditProcessCreationInfo.ImageFileName", name.0);
        told["audit_name"] = device.into();
        if !person.path.is_empty() {
            let wide = generation.machine != Machine::X86;
            let base = if wide { 0x7ff6_5550_0000 } else { 0x0040_0000 };
            let file = self.file(person.path);
            self.fill(process, "_EPROCESS", &[("SectionBaseAddress", base), ("ImageFilePointer", file.0)]);
            told["section_base"] = base.into();
            told["section_object"] = self.origin(process, person.path).0.into();
            told["file_object"] = file.0.into();
            if person.id != ZOMBIE {
                self.describe_memory(process, person, base);
            }
        } else {
            self.map_ranges(process, Vec::new());
        }
        self.fact("people", told);
    }

    /// What a program has mapped, and its PEB. The crashing program has the latter already.
    fn describe_memory(&mut self, process: Va, person: &Person, base: u64) {
        let places = self.user_places();
        let wide = self.options.generation.machine != Machine::X86;
        let [ntdll, own] = [0, 1].map(|i| (self.user_images[i].base, u64::from(self.user_images[i].size)));
        let mut ranges = vec![
            Range {
                start: 0x7ffe_0000,
                size: PAGE_SIZE,
                protection: READ_ONLY,
                commit: 1,
                backing: Backing::Private,
            },
            Range {
                start: places.stack - 0x10_0000,
                size: 0x10_0000,
                protection: READ_WRITE,
                commit: 3,
                backing: Backing::Private,
            },
            Range {
                start: places.peb & !0xffff,
                size: 0x1_0000,
                protection: READ_WRITE,
                commit: 11,
                backing: Backing::Private,
            },
            Range {
                start: places.data,
                size: 0x1_0000,
                protection: READ_WRITE,
                commit: 5,
                backing: Backing::Private,
            },
            Range {
                start: if wide { 0x01f0_1040_0000 } else { 0x0029_0000 },
                size: 0x4_0000,
                protection: READ_WRITE,
                commit: 17,
                backing: Backing::Private,
            },
            Range {
                start: if wide { 0x01f0_0fe0_0000 } else { 0x0021_0000 },
                size: 0x6000,
                protection: READ_ONLY,
                commit: 0,
                backing: Backing::Data(r"\Windows\System32\locale.nls".into()),
            },
            Range {
                start: ntdll.0,
                size: ntdll.1.next_multiple_of(PAGE_SIZE),
                protection: EXECUTE_WRITE_COPY,
                commit: 6,
                backing: Backing::Image(r"\Windows\System32\ntdll.dll".into()),
            },
            Range {
                start: base,
                size: own.1.next_multiple_of(PAGE_SIZE),
                protection: EXECUTE_WRITE_COPY,
                commit: 2,
                backing: Backing::Image(person.path.into()),
            },
        ];
        for number in 1..4 {
            let start = self.stack_top(number) - 0x10_0000;
            ranges.push(Range {
                start,
                size: 0x10_0000,
                protection: READ_WRITE,
                commit: 3,
                backing: Backing::Private,
            });
        }
        // Some have more: trees of different shapes.
        for number in 0..person.id % 9 {
            let start = (if wide { 0x01f0_2000_0000 } else { 0x0500_0000 }) + number * 0x2_0000;
            let size = PAGE_SIZE * (number + 1);
            ranges.push(Range {
                start,
                size,
                protection: READ_WRITE,
                commit: number,
                backing: Backing::Private,
            });
        }
        if person.id == PROGRAM {
            ranges.extend(self.narrow_ranges());
            return self.map_ranges(process, ranges);
        }
        self.map_ranges(process, ranges);
        let path = format!("C:{}", person.path);
        let root = self.root_of(process);
        let session = person.session.unwrap_or(0);
        self.inside(root, |world| {
            world.share_library();
            world.environment(process, &path, person.arguments, session);
        });
    }

    /// The section object that the process was made from.
    fn origin(&mut self, process: Va, path: &str) -> Va {
        let generation = self.options.generation;
        let pages = u64::from(self.user_images[1].size).div_ceil(PAGE_SIZE);
        let section = self.mapped_file(path, pages, true);
        let structure = if generation.find("_SECTION").is_some() { "_SECTION" } else { "_SECTION_OBJECT" };
        let object = self.new_object("Section", generation.at(structure), None);
        let segment = self.get(section.control_area, "_CONTROL_AREA.Segment").unwrap_or(0);
        self.set(object, "_SECTION_OBJECT.Segment", segment);
        let fields = [
            ("u1.ControlArea", section.control_area.0),
            ("SizeOfSection", pages << 12),
            ("u.Flags.Image", 1),
        ];
        self.fill(object, "_SECTION", &fields);
        self.set(process, "_EPROCESS.SectionObject", object.0);
        object
    }

    /// One quota block for the system and one for everybody else. Only XP's symbols tell what is inside.
    fn quota_blocks(&mut self) -> [Va; 2] {
        let size = self.options.generation.find("_EPROCESS_QUOTA_BLOCK").unwrap_or(0x200);
        [(); 2].map(|()| self.pool_block(b"PsQb", size))
    }

    fn charge(&mut self, process: Va, person: &Person, [system, shared]: [Va; 2]) {
        let generation = self.options.generation;
        let block = if person.id == 4 { system } else { shared };
        let usage: [u64; 3] = [0x800 + person.id, 0x1_2000 + person.id, 0x100 + person.id];
        let word = generation.machine.pointer_size();
        self.set(process, "_EPROCESS.QuotaBlock", block.0);
        for (usages, peaks) in [("QuotaUsage", "QuotaPeak"), ("ProcessQuotaUsage", "ProcessQuotaPeak")] {
            for (field, add) in [(usages, 0), (peaks, 0x40)] {
                let Some(at) = self.field(process, &format!("_EPROCESS.{field}")) else { continue };
                // Nonpaged, paged and, on XP, page file.
                let count = if usages == "QuotaUsage" { 3 } else { 2 };
                for (index, value) in usage.iter().take(count).enumerate() {
                    self.write_pointer(at.add((index * word) as u64), value + add);
                }
            }
        }
        for (index, value) in usage.iter().enumerate() {
            let Some(entry) = self.field(block, "_EPROCESS_QUOTA_BLOCK.QuotaEntry") else { break };
            let entry = entry.add(index as u64 * generation.at("_EPROCESS_QUOTA_ENTRY"));
            let sum = self.get(entry, "_EPROCESS_QUOTA_ENTRY.Usage").unwrap_or(0) + value;
            let fields = [("Usage", sum), ("Limit", 0x2000_0000), ("Peak", sum + 0x40)];
            self.fill(entry, "_EPROCESS_QUOTA_ENTRY", &fields);
        }
        self.fact(
            "quota",
            json!({
                "process": process.0, "block": block.0, "nonpaged": usage[0], "paged": usage[1],
                "nonpaged_peak": usage[0] + 0x40, "paged_peak": usage[1] + 0x40,
                "commit": self.get(process, "_EPROCESS.CommitCharge"),
            }),
        );
    }

    /// A job with three processes, with limits.
    fn job(&mut self) {
        let generation = self.options.generation;
        let job = self.named_object(r"\BaseNamedObjects\ExampleJob", "Job", "_EJOB", 0);
        self.start_object(job, 0, 0);
        let head = job.add(generation.at("_EJOB.ProcessListHead"));
        self.start_list(head);
        let members = JOB.map(|id| self.process(id));
        for process in members {
            self.set(process, "_EPROCESS.Job", job.0);
            self.append(head, process.add(generation.at("_EPROCESS.JobLinks")));
        }
        let fields = [
            ("TotalProcesses", 5),
            ("ActiveProcesses", 3),
            ("TotalTerminatedProcesses", 1),
            ("LimitFlags", 0x2508), // process count, job memory, kill on close, die on unhandled exception
            ("ActiveProcessLimit", 4),
            ("JobMemoryLimit", 0x4000),
            ("PriorityClass", 5),
            ("SessionId", 1),
            ("TotalUserTime", 31_250_000),
            ("TotalKernelTime", 15_625_000),
            ("PeakJobMemoryUsed", 0x1234),
            ("PeakProcessMemoryUsed", 0x456),
            ("CurrentJobMemoryUsed", 0x1111),
            ("UIRestrictionsClass", 1),
        ];
        self.fill(job, "_EJOB", &fields);
        if let Some(list) = self.variable("PspJobList") {
            self.need_list(list);
            self.append(list, job.add(generation.at("_EJOB.JobLinks")));
        } else {
            self.start_list(job.add(generation.at("_EJOB.JobLinks")));
        }
        let fields: serde_json::Map<_, _> = fields.iter().map(|&(n, v)| (n.into(), v.into())).collect();
        let text = json!({
            "job": job.0, "name": r"\BaseNamedObjects\ExampleJob", "processes": members.map(|p| p.0), "fields": fields,
        });
        self.facts.insert("job".into(), text);
    }

    /// One process has ended and is held by a handle; another waits for its last request.
    fn end_processes(&mut self) {
        let zombie = self.process(ZOMBIE);
        let ended = SYSTEM_TIME - 600_000_000;
        self.drop_handles(zombie);
        let fields = [
            ("ExitTime", ended),
            ("ExitStatus", 0xc000_013a),
            ("ProcessExiting", 1),
            ("ProcessDelete", 1),
            ("VmDeleted", 1),
            ("ActiveThreads", 0),
            ("LastThreadExitStatus", 0xc000_013a),
        ];
        self.fill(zombie, "_EPROCESS", &fields);
        self.map_ranges(zombie, Vec::new());
        self.set(zombie, "_KPROCESS.Header.SignalState", 1);
        let ending = self.process(ENDING);
        self.fill(ending, "_EPROCESS", &[("ProcessDelete", 1), ("ExitTime", 0)]);
        let holder = self.process(0x8f4);
        let text = json!({
            "zombie": zombie.0, "exit_time": ended, "exit_status": 0xc000_013au32, "held_by": holder.0,
            "ending": ending.0,
        });
        self.facts.insert("ended".into(), text);
    }
}
