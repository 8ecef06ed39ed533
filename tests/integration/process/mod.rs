//! `!process`, `!thread` and their kin on laboratory systems: what they say in JSON is what is true of the system, in
//! every kind of dump of every generation.

mod blocks;
mod objects;
mod small;
mod system;

use super::every_kind::{Case, every_kind, list, number};
use super::program::{arg, kd};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::Kind;
use serde_json::Value;
use std::collections::BTreeMap;

/// What the generations live through: nothing, a crash, a crash of a 32-bit program where there are such.
const STORIES: [Story; 3] = [Story::Idle, Story::CrashInDriver, Story::Wow64];

/// Every command in all its forms.
fn commands(truth: &Value) -> Vec<String> {
    let facts = &truth["facts"];
    #[rustfmt::skip]
    let plain = [
        "!process 0 17", "!process", "!process -1 0", "!process 1a8c 1", "!process 9a0 0", "!process 0 0",
        "!process 0 0 WORKER.exe", "!process 0 0 w*", "!process 0 0 nosuch.exe", "!process /s 1 0 0", "!process /s 0",
        "!process /m ntdll 0 0", "!process /m faultapp", "!sprocess", "!sprocess -1 0", "!sprocess 0 0", "!sprocess 1 1",
        "!sprocess 7 0", "!thread", "!thread -p -1 0", "!thread -t 1a90 2", "!thread -t fff0", "!ready", "!ready 0",
        "!running", "!running -i -t", "!stacks", "!stacks 1", "!stacks 2 nt!kewaitformultiple", "!handle 8 3",
        "!handle 0 1 0", "!handle 0 21", "!token", "!peb", "!teb", "!job", "!job 910", "!session",
        "!for_each_process", "!for_each_process \".echo @#Process\"", "!for_each_process \"!process @#process 0\"",
        "!for_each_process \"!irp @#Process\"", "!for_each_thread", "!for_each_thread \".echo @#Thread\"",
    ];
    let mut lines: Vec<String> = plain.map(str::to_owned).into();
    lines.push(chosen_by_address(truth));
    lines.extend(last_thread(truth));
    for (name, key, form) in [
        ("tokens", "token", "!token {}"),
        ("vads", "process", "!vad {}"),
        ("handles", "process", "!handle 0 3 {}"),
        ("environments", "process", "!peb -p {}"),
        ("irps", "irp", "!irp {} 1"),
    ] {
        lines.extend(each(truth, name, key, form));
    }
    let own = list(&facts["vads"]).iter().find(|fact| fact["process"] == program(truth));
    lines.extend(own.and_then(image_range).into_iter().flat_map(detail_forms));
    lines.extend(list(&facts["tebs"]).iter().map(teb));
    lines.push(format!("!job {}", hex(&facts["job"]["job"])));
    let process = program(truth);
    lines.push(format!("!handle 0 3 {process:#x} Process"));
    // Last, for it changes what is looked at.
    lines.extend(["!session -s 0", "? @$proc", "!process -1 1", "!session -s 7"].map(str::to_owned));
    lines
}

/// A form with the number of each fact.
fn each(truth: &Value, name: &str, key: &str, form: &str) -> Vec<String> {
    let values = list(&truth["facts"][name]).iter().map(|fact| hex(&fact[key]));
    values.map(|value| form.replace("{}", &value)).collect()
}

fn hex(value: &Value) -> String {
    format!("{:#x}", number(value))
}

fn chosen_by_address(truth: &Value) -> String {
    let named = list(&truth["processes"]).iter().find(|process| process["name"] == "explorer.exe");
    format!("!process {} 3", hex(&named.unwrap()["eprocess"]))
}

/// The last thread of the system by its address and by its id.
fn last_thread(truth: &Value) -> [String; 2] {
    let last = list(&truth["threads"]).last().unwrap();
    [format!("!thread {} 16", hex(&last["ethread"])), format!("!thread -t {} 0", hex(&last["id"]))]
}

/// The range of the program's own image.
fn image_range(fact: &Value) -> Option<&Value> {
    let is = |vad: &&Value| vad["file"].as_str().is_some_and(|file| file.ends_with("faultapp.exe"));
    list(&fact["vads"]).iter().find(is)
}

/// One range in full: by its descriptor, by an address in it.
fn detail_forms(vad: &Value) -> [String; 2] {
    [format!("!vad {} 1", hex(&vad["vad"])), format!("!vad {:#x}", (number(&vad["start"]) << 12) + 0x10)]
}

fn teb(fact: &Value) -> String {
    format!("!teb -p {:x} {}", number(&fact["process"]), hex(&fact["teb"]))
}

fn facts<'c>(case: &'c Case<'_>, name: &str) -> &'c [Value] {
    list(&case.truth["facts"][name])
}

/// The fact of a list whose `key` is a number; null if there is none.
fn find<'c>(case: &'c Case<'_>, name: &str, key: &str, value: u64) -> &'c Value {
    facts(case, name).iter().find(|fact| fact[key] == value).unwrap_or(&Value::Null)
}

/// One number of each member.
fn ids(members: &Value, key: &str) -> Vec<u64> {
    list(members).iter().map(|member| number(&member[key])).collect()
}

fn ids_of(members: &Value) -> Vec<u64> {
    list(members).iter().map(number).collect()
}

/// The processes that a command lists.
fn addresses(case: &Case<'_>, command: &str) -> Vec<u64> {
    ids(&case.data(command)["processes"], "address")
}

/// Image names by address; the idle process too.
fn process_names(case: &Case<'_>) -> BTreeMap<u64, String> {
    let one = |process: &Value| (number(&process["eprocess"]), process["name"].as_str().unwrap().to_owned());
    list(&case.truth["processes"]).iter().map(one).collect()
}

/// An address as the commands print it.
fn shown(case: &Case<'_>, at: u64) -> String {
    let digits = 2 * case.generation.machine.pointer_size();
    format!("{at:0digits$x}")
}

/// A command fails because the dump does not hold what it needs, and says so.
fn absent(case: &Case<'_>, command: &str) {
    let record = case.record(command);
    assert_eq!(record["status"], "failed", "{} {command}: {record}", case.what);
    assert!(case.said(command).contains("not captured"), "{} {command}: {record}", case.what);
}

#[test]
fn every_kind_of_dump_is_read_as_it_was_made() {
    every_kind(
        |number| STORIES[number % STORIES.len()],
        commands,
        |case| {
            if !case.has_kernel() {
                return small::check(case, &commands(case.truth));
            }
            blocks::check(case, "!process 0 17");
            system::chosen(case);
            system::sessions(case);
            system::ready(case);
            system::running(case);
            system::stacks(case);
            system::each(case);
            objects::requests(case);
            objects::tokens(case);
            objects::vads(case);
            objects::handles(case);
            objects::environments(case);
            objects::job(case);
        },
    );
}

/// The process that the crashing thread belongs to.
fn program(truth: &Value) -> u64 {
    let named = list(&truth["processes"]).iter().find(|process| process["name"] == "faultapp.exe");
    number(&named.expect("the program of every story")["eprocess"])
}

/// Broken lists end in warnings, and what can be had is shown.
#[test]
fn broken_systems_are_answered() {
    for generation in ["x64-19041", "x86-2600", "x64-7601", "arm64-22000"] {
        let lines = || -> Vec<String> {
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
        let options = Options::of(generation, Story::Hostile);
        let (world, folder) = (World::build(options), tempfile::tempdir().unwrap());
        let truth = world.truth();
        world.write_symbols(folder.path()).unwrap();
        let case = Case::ask(&world, &truth, Kind::BitmapKernel, folder.path(), folder.path(), &lines());
        let what = &case.what;
        let all = case.data("!process 0 0");
        let found: Vec<_> = list(&all["processes"]).iter().map(|p| number(&p["address"])).collect();
        let wanted: Vec<_> = list(&case.truth["processes"]).iter().map(|p| number(&p["eprocess"])).collect();
        assert_eq!(found, wanted, "{what}");
        let messages = case.said("!process 0 0");
        assert!(messages.contains("loop"), "{what}: {messages}");
        let messages = case.said("!handle 0 3 4");
        assert!(messages.contains("level 3"), "{what}: {messages}");
        let messages = case.said("!process 0 7");
        assert!(messages.contains("threads of"), "{what}: {messages}");
    }
}

/// Without symbols the debugger data block tells what it can.
#[test]
fn without_symbols_the_data_block_answers() {
    for generation in ["x64-19041", "x86-7601", "arm64-22000"] {
        let (world, folder) =
            (World::build(Options::of(generation, Story::Idle)), tempfile::tempdir().unwrap());
        let truth = world.truth();
        let lines = ["!process 0 0", "!thread"].map(str::to_owned);
        let case = Case::ask(&world, &truth, Kind::BitmapKernel, folder.path(), folder.path(), &lines);
        let all = case.data("!process 0 0");
        let brief = |value: &Value, address: &str| (number(&value[address]), number(&value["id"]));
        let found: Vec<_> = list(&all["processes"]).iter().map(|p| brief(p, "address")).collect();
        let wanted: Vec<_> = list(&truth["processes"]).iter().map(|p| brief(p, "eprocess")).collect();
        assert_eq!(found, wanted, "{generation}");
        let messages = case.said("!process 0 0");
        assert!(messages.contains("symbols"), "{generation}: {messages}");
        let thread = &list(&case.data("!thread")["threads"])[0];
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
