//! `!locks`, `!object`, `!drvobj` and `!devstack` on every generation, in dumps that hold what they show and in those that
//! do not.

use super::program::{Run, arg, kd};
use kd_tests::lab::layout::{GENERATIONS, Generation, Machine};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// A dump of a story with its symbols, and what is true of it.
pub struct Lab {
    folder: tempfile::TempDir,
    pub world: World,
    pub facts: Value,
}

impl Lab {
    pub fn new(generation: &str, story: Story) -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let world = World::build(Options::of(generation, story));
        world.write_symbols(&folder.path().join("symbols")).unwrap();
        let facts = world.truth()["facts"].clone();
        Lab { folder, world, facts }
    }

    /// Runs commands on a dump of one kind; with `json` one record each.
    pub fn run(&self, kind: Kind, commands: &str, json: bool) -> Run {
        let path = self.folder.path().join("dump");
        writer::write(&self.world, kind, &path).unwrap();
        self.run_on(&path, &self.folder.path().join("symbols"), commands, json)
    }

    fn run_on(&self, path: &Path, symbols: &Path, commands: &str, json: bool) -> Run {
        let mut arguments = vec!["-y".to_owned(), arg(symbols), "-z".into(), arg(path)];
        arguments.extend(["-c".into(), format!("{commands}; q")]);
        arguments.insert(0, if json { "--json" } else { "--no-color" }.into());
        kd(arguments).run()
    }

    /// The record of one command.
    pub fn answer(&self, kind: Kind, command: &str) -> Value {
        let records = self.run(kind, command, true).records();
        let found = records.into_iter().find(|r| r["command"] == command);
        found.unwrap_or_else(|| panic!("no record of {command}"))
    }
}

/// An address as JSON has it, as a number.
pub fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no address"));
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

pub fn numbers(list: &Value) -> Vec<u64> {
    list.as_array().unwrap_or_else(|| panic!("{list} is no list")).iter().map(number).collect()
}

fn plain(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
}

/// What a command shows, from its first line on, with a letter in place of each address and without thread ids: the same
/// however the laboratory grows.
pub fn shown(text: &str, first: &str) -> String {
    let mut known: Vec<String> = Vec::new();
    let mut shown = String::new();
    for line in text.lines().skip_while(|line| !line.starts_with(first)) {
        let mut rest = line.trim_end();
        while let Some(start) = rest.find("ffff") {
            let (before, from) = rest.split_at(start);
            let end = from.find(|c: char| !c.is_ascii_hexdigit() && c != '`').unwrap_or(from.len());
            let address = from[..end].replace('`', "");
            let index = known.iter().position(|a| *a == address).unwrap_or_else(|| {
                known.push(address);
                known.len() - 1
            });
            shown += &format!("{before}{}", char::from(b'A' + index as u8));
            rest = &from[end..];
        }
        shown += &format!("{rest}\n");
    }
    let words = shown.split("Cid 0004.").enumerate().map(|(index, part)| match index {
        0 => part.to_owned(),
        _ => format!("Cid 0004.N{}", part.trim_start_matches(|c: char| c.is_ascii_hexdigit())),
    });
    words.collect()
}

/// Two kinds of dump with the kernel's memory, other ones for each generation.
pub fn kinds(g: &Generation, index: usize) -> [Kind; 2] {
    let wide = [Kind::Full, Kind::BitmapKernel, Kind::RangeKernel, Kind::Automatic, Kind::RangeComplete];
    let narrow = [Kind::Full, Kind::Summary, Kind::BitmapFull, Kind::BitmapKernel, Kind::Automatic];
    let all = if g.machine == Machine::X86 { narrow } else { wide };
    [all[index % 5], all[(index + 2) % 5]]
}

#[test]
fn resources_and_circles_are_those_of_the_system() {
    for (index, g) in GENERATIONS.iter().enumerate() {
        let lab = Lab::new(g.name, Story::Deadlock);
        for kind in kinds(g, index) {
            let what = format!("{} {kind:?}", g.name);
            let commands = r"!locks -d; !locks -deadlock; !object \; !object 0 Driver; !drvobj faultdrv 3; !devstack Sensor0; !timer; !dpcs";
            let records = lab.run(kind, commands, true).records();
            let data = |name: &str| &records.iter().find(|r| r["command"] == name).unwrap()["data"];
            compare(data("!locks -d"), &lab.facts["resources"], &what);
            circle(data("!locks -deadlock"), &lab.facts, &what);
            crowd(data("!locks -d"), &lab.facts["crowded_resource"], &what);
            objects(data(r"!object \"), data("!object 0 Driver"), &lab.facts["objects"], &what);
            driver(data("!drvobj faultdrv 3"), data("!devstack Sensor0"), &lab.facts["driver"], &what);
            if !lab.facts["timers"].is_null() {
                timers(data("!timer"), &lab.facts["timers"], &what);
            }
            if !lab.facts["dpcs"].is_null() {
                calls(data("!dpcs"), &lab.facts["dpcs"], &what);
            }
        }
    }
}

fn compare(data: &Value, truth: &Value, what: &str) {
    let (found, wanted) = (data["resources"].as_array().unwrap(), truth.as_array().unwrap());
    assert_eq!(found.len(), wanted.len(), "{what}");
    assert_eq!(data["total"], wanted.len(), "{what}");
    let held = wanted.iter().filter(|r| !r["owners"].as_array().unwrap().is_empty()).count();
    assert_eq!(data["held"], held, "{what}");
    assert_eq!(data["complete"], true, "{what}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(number(&found["resource"]), wanted["resource"], "{what}");
        let owners: Vec<u64> =
            found["owners"].as_array().unwrap().iter().map(|o| number(&o["thread"])).collect();
        assert_eq!(owners, plain(&wanted["owners"]), "{what}");
        let state = match (owners.is_empty(), wanted["exclusive"].as_bool().unwrap()) {
            (true, _) => "free",
            (false, true) => "exclusive",
            (false, false) => "shared",
        };
        assert_eq!(found["state"], state, "{what}");
        for name in ["contention", "shared_waiters", "exclusive_waiters"] {
            assert_eq!(found[name], wanted[name], "{what} {name}");
        }
        for name in ["shared", "exclusive"] {
            let threads = found[format!("waiting_{name}")].as_array().unwrap().len();
            assert_eq!(threads, wanted[format!("{name}_waiters")], "{what} {name}");
        }
        assert_eq!(found["problems"].as_array().unwrap().len(), 0, "{what}: {found}");
    }
}

/// The root directory, and every named driver.
fn objects(root: &Value, drivers: &Value, truth: &Value, what: &str) {
    let all = truth.as_array().unwrap();
    let path = |o: &Value| o["path"].as_str().unwrap().to_owned();
    let mut wanted: Vec<(u64, String)> = all
        .iter()
        .filter(|o| path(o).matches('\\').count() == 1)
        .map(|o| (o["object"].as_u64().unwrap(), path(o)[1..].to_owned()))
        .collect();
    let contents = root["contents"].as_array().unwrap();
    let mut found: Vec<(u64, String)> =
        contents.iter().map(|o| (number(&o["object"]), o["name"].as_str().unwrap().to_owned())).collect();
    wanted.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, wanted, "{what}");
    let mut wanted: Vec<String> = all.iter().filter(|o| o["type"] == "Driver").map(path).collect();
    let mut found: Vec<String> = drivers["objects"].as_array().unwrap().iter().map(path).collect();
    wanted.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, wanted, "{what}");
}

/// A driver with two devices, the second on top of the first.
fn driver(driver: &Value, stack: &Value, truth: &Value, what: &str) {
    assert_eq!(number(&driver["driver"]), truth["driver"], "{what}");
    assert_eq!(
        (&driver["name"], &driver["image"]),
        (&r"\Driver\faultdrv".into(), &"faultdrv.sys".into()),
        "{what}"
    );
    let top_first: Vec<u64> = plain(&truth["devices"]).into_iter().rev().collect();
    let devices = |list: &Value| -> Vec<u64> {
        list["devices"].as_array().unwrap().iter().map(|d| number(&d["device"])).collect()
    };
    assert_eq!(devices(driver), top_first, "{what}");
    assert_eq!(devices(stack), top_first, "{what}");
    let read =
        driver["routines"].as_array().unwrap().iter().find(|r| r["name"] == "[03] IRP_MJ_READ").unwrap();
    assert_eq!(read["symbol"], "faultdrv!DispatchRead", "{what}");
    assert_eq!(driver["suspicious"].as_array().unwrap().len(), 0, "{what}: {driver}");
}

/// The timers with their deferred calls, hidden ones too.
fn timers(data: &Value, truth: &Value, what: &str) {
    let found = data["timers"].as_array().unwrap();
    let wanted = truth.as_array().unwrap();
    assert_eq!(found.len(), wanted.len(), "{what}");
    for wanted in wanted {
        let found = found.iter().find(|t| number(&t["timer"]) == wanted["timer"]);
        let found = found.unwrap_or_else(|| panic!("{what}: {wanted}"));
        assert_eq!((&found["due"], &found["slot"]), (&wanted["due"], &wanted["slot"]), "{what}: {found}");
        assert_eq!(found["period"], wanted["period"], "{what}: {found}");
        let call = if found["dpc"].is_null() { Value::Null } else { number(&found["dpc"]).into() };
        assert_eq!(call, wanted["dpc"], "{what}: {found}");
        if !call.is_null() {
            assert_eq!(found["symbol"], "faultdrv!TimerDpc", "{what}: {found}");
        }
    }
    assert_eq!(data["problems"].as_array().unwrap().len(), 0, "{what}: {}", data["problems"]);
}

/// The deferred calls of every processor.
fn calls(data: &Value, truth: &Value, what: &str) {
    let all = data["processors"].as_array().unwrap().iter();
    let mut found: Vec<(u64, u64)> = all
        .flat_map(|p| {
            let processor = p["processor"].as_u64().unwrap();
            p["queued"].as_array().unwrap().iter().map(move |c| (processor, number(&c["dpc"])))
        })
        .collect();
    let all = truth.as_array().unwrap().iter();
    let mut wanted: Vec<(u64, u64)> =
        all.map(|c| (c["processor"].as_u64().unwrap(), c["dpc"].as_u64().unwrap())).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{what}");
}

/// The threads that wait to share a resource and to have it alone.
fn crowd(data: &Value, truth: &Value, what: &str) {
    let mut all = data["resources"].as_array().unwrap().iter();
    let found = all.find(|r| number(&r["resource"]) == truth["resource"]).unwrap();
    for name in ["shared", "exclusive"] {
        let waiting = numbers(&found[format!("waiting_{name}")]);
        assert_eq!(waiting, plain(&truth[format!("{name}_waiting")]), "{what} {name}");
    }
}

/// Two threads in a circle, others behind them.
fn circle(data: &Value, facts: &Value, what: &str) {
    let truth = &facts["deadlock"];
    let [a, b, c] = plain(&truth["threads"])[..3] else { panic!("three threads") };
    let deadlocks = data["deadlocks"].as_array().unwrap();
    assert_eq!(deadlocks.len(), 1, "{what}: {data}");
    let chain = deadlocks[0]["chain"].as_array().unwrap();
    let mut links: Vec<_> = chain
        .iter()
        .map(|l| {
            assert_eq!((&l["kind"], &l["access"]), (&"resource".into(), &"exclusive".into()), "{what}");
            assert_eq!(l["image"], "System", "{what}");
            assert!(l["at"].as_str().unwrap().starts_with("Ntfs!Ntfs"), "{what}: {l}");
            (number(&l["thread"]), number(&l["lock"]), number(&l["owner"]))
        })
        .collect();
    links.sort_unstable();
    let [file, volume] = ["file", "volume"].map(|name| truth[name].as_u64().unwrap());
    assert_eq!(links, [(a, volume, b), (b, file, a)], "{what}");
    let crowd = &facts["crowded_resource"];
    let mut behind = [vec![c], plain(&crowd["exclusive_waiting"]), plain(&crowd["shared_waiting"])].concat();
    behind.sort_unstable();
    assert_eq!(numbers(&deadlocks[0]["behind"]), behind, "{what}");
}

#[test]
fn no_circle_where_there_is_none() {
    let lab = Lab::new("x64-19041", Story::Idle);
    let records = lab.run(Kind::BitmapKernel, "!locks -d; !locks -deadlock", true).records();
    let data = |name: &str| &records.iter().find(|r| r["command"] == name).unwrap()["data"];
    compare(data("!locks -d"), &lab.facts["resources"], "idle");
    let data = data("!locks -deadlock");
    assert_eq!(data["deadlocks"].as_array().unwrap().len(), 0);
    assert!(data["threads"].as_u64().unwrap() >= 10);
}

#[test]
fn one_resource_by_its_address_and_by_both_names() {
    let lab = Lab::new("x64-22000", Story::Deadlock);
    let file = lab.facts["deadlock"]["file"].as_u64().unwrap();
    let run =
        lab.run(Kind::BitmapKernel, &format!("!kdext*.locks -v {file:#x}; !kdexts.locks {file:#x}"), false);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let text = run.stdout;
    assert_eq!(text.matches(&format!("Resource @ {file:#x}    Exclusively owned")).count(), 2, "{text}");
    assert_eq!(text.matches("1 total locks, 1 locks currently held").count(), 2, "{text}");
    assert!(text.contains("Waiting: (WrResource)"), "{text}");
}

#[test]
fn what_people_see() {
    let lab = Lab::new("x64-19041", Story::Deadlock);
    let text = lab.run(Kind::BitmapKernel, "!locks; !locks -deadlock", false).stdout;
    let wanted = "\
**** DUMP OF ALL RESOURCE OBJECTS ****
KD: Scanning for held locks...

Resource @ nt!IopDatabaseResource (0xA)    Exclusively owned
    Contention Count = 2
     Threads: B-01<*>
Resource @ nt!CmpRegistryLock (0xC)    Shared 2 owning threads
    Contention Count = 4
     Threads: B-01<*>    D-02<*>
Resource @ 0xE    Exclusively owned
    Contention Count = 3
    NumberOfExclusiveWaiters = 2
     Threads: F-01<*>
     Threads Waiting On Exclusive Access:
              G    H
Resource @ 0xI    Exclusively owned
    Contention Count = 1
    NumberOfExclusiveWaiters = 1
     Threads: G-01<*>
     Threads Waiting On Exclusive Access:
              F
Resource @ 0xJ    Shared 2 owning threads
    Contention Count = 7
    NumberOfSharedWaiters = 2
    NumberOfExclusiveWaiters = 1
     Threads: F-01<*>    H-02<*>
     Threads Waiting On Shared Access:
              K    L
     Threads Waiting On Exclusive Access:
              M
6 total locks, 5 locks currently held
DEADLOCK 1: 2 threads wait for each other
  THREAD F  Cid 0004.N System  in Ntfs!NtfsAcquireExclusiveVcb+0xc
    waits for exclusive access to resource 0xI, owned by thread G
  THREAD G  Cid 0004.N System  in Ntfs!NtfsAcquireExclusiveFcb+0xc
    waits for exclusive access to resource 0xE, owned by thread F
  and so back to thread F
  4 more wait behind them:
    THREAD H  Cid 0004.N System
    THREAD M  Cid 0004.N System
    THREAD K  Cid 0004.N System
    THREAD L  Cid 0004.N System
";
    let found = shown(&text, "**** DUMP");
    assert!(found.starts_with(wanted), "{found}");
}

#[test]
fn broken_lists_are_named_and_followed_from_both_ends() {
    for g in GENERATIONS {
        let lab = Lab::new(g.name, Story::Hostile);
        let start = Instant::now();
        let run = lab.run(Kind::BitmapKernel, "!locks -d; !locks -deadlock; !locks -v 0x1000; !errlog", true);
        assert!(start.elapsed() < Duration::from_secs(20), "{}", g.name);
        let records = run.records();
        let all = records.iter().find(|r| r["command"] == "!locks -d").unwrap();
        assert_eq!(all["data"]["total"], 3, "{}: {all}", g.name);
        assert_eq!(all["data"]["complete"], false, "{}", g.name);
        assert!(all["data"]["problems"][0].as_str().unwrap().contains("loop"), "{}: {all}", g.name);
        let circles = records.iter().find(|r| r["command"] == "!locks -deadlock").unwrap();
        assert!(circles["data"]["problems"].as_array().unwrap().len() >= 2, "{}: {circles}", g.name);
        let nowhere = records.iter().find(|r| r["command"] == "!locks -v 0x1000").unwrap();
        assert_eq!(nowhere["status"], "failed", "{}: {nowhere}", g.name);
        let log = &records.iter().find(|r| r["command"] == "!errlog").unwrap()["data"];
        assert_eq!((&log["count"], &log["complete"]), (&0.into(), &false.into()), "{}: {log}", g.name);
        let problem = log["problems"][0].as_str().unwrap();
        assert!(problem.contains("where no entry stands"), "{}: {problem}", g.name);
    }
}

#[test]
fn what_is_not_captured_is_said() {
    for (name, kind) in
        [("x64-19041", Kind::Triage), ("x86-7601", Kind::Triage), ("x64-26100", Kind::HeaderOnly)]
    {
        let lab = Lab::new(name, Story::Deadlock);
        let answer = lab.answer(kind, "!locks");
        // The head of the list may be there without the rest.
        let text = answer.to_string();
        assert!(answer["status"] == "failed" || answer["data"]["complete"] == false, "{name}: {text}");
        assert!(text.contains("not captured") || text.contains("needs the kernel's types"), "{name}: {text}");
    }
    // Without symbols: which, and how to get them.
    let lab = Lab::new("x64-19041", Story::Idle);
    let path = lab.folder.path().join("dump");
    writer::write(&lab.world, Kind::BitmapKernel, &path).unwrap();
    let run = lab.run_on(&path, Path::new("/nowhere"), "!locks", false);
    assert!(run.stdout.contains("needs the kernel's types: no symbols for nt"), "{}", run.stdout);
}
