//! `!locks` in all its forms: what is true of every resource, owner and waiter of a system; [`super::kdexts`] asks it in
//! every kind of dump.

use super::every_kind::{Case, list, number, numbers};
use super::one_dump::Lab;
use kd_tests::lab::layout::{GENERATIONS, Machine};
use kd_tests::lab::world::Story;
use kd_tests::lab::writer::Kind;
use serde_json::Value;
use std::time::{Duration, Instant};

fn one(truth: &Value) -> String {
    format!("!locks {:#x}", number(&truth["facts"]["deadlock"]["file"]))
}

fn one_in_detail(truth: &Value) -> String {
    format!("!kdext*.locks -v {:#x}", number(&truth["facts"]["crowded_resource"]["resource"]))
}

pub fn commands(truth: &Value) -> Vec<String> {
    let all = ["!locks", "!locks -d", "!locks -v", "!locks -p", "!locks -deadlock"].map(String::from);
    [&all[..], &[one(truth), one_in_detail(truth)]].concat()
}

pub fn check(case: &Case<'_>) {
    let facts = &case.truth["facts"];
    let truth = list(&facts["resources"]);
    let held = |r: &&Value| !list(&r["owners"]).is_empty();
    let wanted: Vec<&Value> = truth.iter().collect();
    compare(case, "!locks -d", &wanted, truth);
    compare(case, "!locks -p", &wanted, truth);
    // Nobody waits for what nobody has.
    let wanted: Vec<&Value> = truth.iter().filter(held).collect();
    compare(case, "!locks", &wanted, truth);
    compare(case, "!locks -v", &wanted, truth);
    for resource in list(&case.data("!locks -v")["resources"]) {
        threads(case, resource);
    }
    most_contended(case, truth);
    for (command, address) in [
        (one(case.truth), &facts["deadlock"]["file"]),
        (one_in_detail(case.truth), &facts["crowded_resource"]["resource"]),
    ] {
        let wanted: Vec<&Value> = truth.iter().filter(|r| r["resource"] == *address).collect();
        let only = [wanted[0].clone()];
        compare(case, &command, &wanted, &only);
    }
    threads(case, &case.data(&one_in_detail(case.truth))["resources"][0]);
    crowd(case, "!locks -d", &facts["crowded_resource"]);
    circle(case.data("!locks -deadlock"), facts, &case.what);
}

/// Each resource that is shown, and the totals of all that there are.
fn compare(case: &Case<'_>, command: &str, wanted: &[&Value], all: &[Value]) {
    let (data, what) = (case.data(command), format!("{} {command}", case.what));
    let found = list(&data["resources"]);
    assert_eq!(found.len(), wanted.len(), "{what}");
    let held = all.iter().filter(|r| !list(&r["owners"]).is_empty()).count();
    assert_eq!((&data["total"], &data["held"]), (&all.len().into(), &held.into()), "{what}");
    assert_eq!((&data["complete"], list(&data["problems"]).len()), (&true.into(), 0), "{what}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(number(&found["resource"]), wanted["resource"], "{what}");
        let owners = list(&found["owners"]);
        let threads: Vec<u64> = owners.iter().map(|o| number(&o["thread"])).collect();
        assert_eq!(threads, numbers(&wanted["owners"]), "{what}");
        let counts: Vec<u64> = owners.iter().map(|o| number(&o["count"])).collect();
        assert_eq!(counts, numbers(&wanted["counts"]), "{what}");
        assert!(
            owners.iter().all(|o| o["is_thread"] == true && o["owner"] == o["thread"]),
            "{what}: {found}"
        );
        let state = match (owners.is_empty(), wanted["exclusive"] == true) {
            (true, _) => "free",
            (false, true) => "exclusive",
            (false, false) => "shared",
        };
        assert_eq!(found["state"], state, "{what}");
        for name in ["contention", "shared_waiters", "exclusive_waiters"] {
            assert_eq!(found[name], wanted[name], "{what} {name}");
        }
        for name in ["shared", "exclusive"] {
            let threads = list(&found[format!("waiting_{name}")]).len();
            assert_eq!(threads, wanted[format!("{name}_waiters")], "{what} {name}");
        }
        assert_eq!(list(&found["problems"]).len(), 0, "{what}: {found}");
    }
}

/// Every owner and waiter of a resource with ids, state, what it waits for and its stack.
fn threads(case: &Case<'_>, resource: &Value) {
    let what = &case.what;
    let mut wanted: Vec<u64> = Vec::new();
    let owners = list(&resource["owners"]).iter().map(|o| number(&o["thread"]));
    let waiting = ["waiting_shared", "waiting_exclusive"].map(|name| numbers(&resource[name])).concat();
    for thread in owners.chain(waiting) {
        if !wanted.contains(&thread) {
            wanted.push(thread);
        }
    }
    let found = list(&resource["threads"]);
    assert_eq!(found.iter().map(|t| number(&t["thread"])).collect::<Vec<_>>(), wanted, "{what}");
    for found in found {
        let truth =
            list(&case.truth["threads"]).iter().find(|t| t["ethread"] == number(&found["thread"])).unwrap();
        assert_eq!(
            (number(&found["process_id"]), number(&found["thread_id"])),
            (number(&truth["process"]), number(&truth["id"])),
            "{what}"
        );
        assert_eq!(
            (&found["image"], &found["state"]),
            (&"System".into(), &"Waiting".into()),
            "{what}: {found}"
        );
        assert_eq!(numbers(&found["waits_for"]), [number(&truth["waits_for"])], "{what}: {found}");
        let frames = list(&found["frames"]);
        for (index, frame) in list(&truth["stack"]).iter().enumerate() {
            assert_eq!(number(&frames[index]["ip"]), frame["pc"], "{what}: frame {index} of {found}");
            // x86 walks by frame pointers: there only the program counter is exact.
            if case.generation.machine != Machine::X86 {
                assert_eq!(
                    number(&frames[index]["child_sp"]),
                    frame["sp"],
                    "{what}: frame {index} of {found}"
                );
            }
        }
    }
}

fn most_contended(case: &Case<'_>, truth: &[Value]) {
    let mut wanted: Vec<(u64, u64)> =
        truth.iter().map(|r| (u64::MAX - number(&r["contention"]), number(&r["resource"]))).collect();
    wanted.retain(|(count, _)| *count != u64::MAX);
    wanted.sort_unstable();
    let wanted: Vec<u64> = wanted.into_iter().map(|(_, resource)| resource).collect();
    assert_eq!(numbers(&case.data("!locks -p")["most_contended"]), wanted, "{}", case.what);
}

/// The threads that wait to share a resource and to have it alone.
fn crowd(case: &Case<'_>, command: &str, truth: &Value) {
    let mut all = list(&case.data(command)["resources"]).iter();
    let found = all.find(|r| number(&r["resource"]) == truth["resource"]).unwrap();
    for name in ["shared", "exclusive"] {
        let waiting = numbers(&found[format!("waiting_{name}")]);
        assert_eq!(waiting, numbers(&truth[format!("{name}_waiting")]), "{} {name}", case.what);
    }
}

/// Two threads in a circle, others behind them.
fn circle(data: &Value, facts: &Value, what: &str) {
    let truth = &facts["deadlock"];
    let [a, b, c] = numbers(&truth["threads"])[..3] else { panic!("three threads") };
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
    let mut behind =
        [vec![c], numbers(&crowd["exclusive_waiting"]), numbers(&crowd["shared_waiting"])].concat();
    behind.sort_unstable();
    assert_eq!(numbers(&deadlocks[0]["behind"]), behind, "{what}");
}

#[test]
fn no_circle_where_there_is_none() {
    let lab = Lab::new("x64-19041", Story::Idle);
    let records = lab.run(Kind::BitmapKernel, "!locks -d; !locks -deadlock", true).records();
    let data = |name: &str| &records.iter().find(|r| r["command"] == name).unwrap()["data"];
    assert_eq!(data("!locks -d")["total"], list(&lab.facts["resources"]).len());
    let data = data("!locks -deadlock");
    assert_eq!(list(&data["deadlocks"]).len(), 0);
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
fn without_symbols_it_is_said_how_to_get_them() {
    let lab = Lab::new("x64-19041", Story::Idle);
    let run = lab.run_bare(Kind::BitmapKernel, "!locks");
    assert!(run.stdout.contains("needs the kernel's types: no symbols for nt"), "{}", run.stdout);
}
