//! What kernels of the last years do in another way than all before, where readers were wrong or the symbols no longer tell:
//! fast resources, type indices hidden with a cookie of 0, sessions and processor blocks of 11 24H2.

use super::every_kind::{Case, list, number};
use super::program::{arg, kd};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::Kind;
use kd_tests::shared;
use serde_json::Value;

fn ask(options: Options, commands: impl Fn(&Value) -> Vec<String>, check: impl Fn(&Case<'_>)) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("symbols");
    let world = World::build(options);
    world.write_symbols(&store).unwrap();
    let truth = world.truth();
    check(&Case::ask(&world, &truth, Kind::BitmapKernel, folder.path(), &store, &commands(&truth)));
}

/// A fast resource has its owners in a ring of entries; what an owner acquired again hangs in its entry.
#[test]
fn fast_resources_have_owners() {
    for generation in ["x64-19041", "x86-19041"] {
        let locks = |truth: &Value| {
            let resource = number(&truth["facts"]["fast_resource"]["resource"]);
            vec![format!("!locks {resource:#x}"), "!locks".into()]
        };
        ask(Options { unusual: true, ..Options::of(generation, Story::Deadlock) }, locks, |case| {
            let fact = &case.truth["facts"]["fast_resource"];
            let one = case.data(&format!("!locks {:#x}", number(&fact["resource"])));
            let resource = &list(&one["resources"])[0];
            assert_eq!(resource["state"], "exclusive", "{generation}: {one}");
            let owners = list(&resource["owners"]);
            assert_eq!(owners.len(), 1, "{generation}: {one}");
            assert_eq!(number(&owners[0]["thread"]), number(&fact["owner"]), "{generation}: {one}");
            assert_eq!((&owners[0]["is_thread"], &owners[0]["count"]), (&true.into(), &2.into()));
            assert_eq!(list(&resource["problems"]).len(), 0, "{generation}: {one}");
            let all = list(&case.data("!locks")["resources"]);
            assert!(all.iter().any(|r| number(&r["resource"]) == number(&fact["resource"])), "{generation}");
        });
    }
}

/// The address of a header hides its type index too: a cookie of 0 is no reason to take the index as it stands.
#[test]
fn a_cookie_may_be_zero() {
    let command = r"!object \Device";
    let options = Options { unusual: true, ..Options::of("x64-22000", Story::Deadlock) };
    ask(
        options,
        |_| vec![command.into()],
        |case| {
            let data = case.data(command);
            assert_eq!(data["type"], "Directory", "{data}");
            let kinds: Vec<_> = list(&data["contents"]).iter().map(|entry| &entry["type"]).collect();
            assert!(!kinds.is_empty() && kinds.iter().all(|&kind| kind == "Device"), "{data}");
        },
    );
}

/// The number of the type of a threaded deferred call changed in 8.
#[test]
fn threaded_calls_are_told_from_others() {
    for generation in ["x86-7601", "x64-7601", "x64-9600", "x64-26100"] {
        let options = Options { unusual: true, ..Options::of(generation, Story::Idle) };
        ask(
            options,
            |_| vec!["!dpcs".into()],
            |case| {
                let processors = list(&case.data("!dpcs")["processors"]);
                let calls = processors.iter().flat_map(|processor| list(&processor["queued"]));
                let mut found: Vec<_> =
                    calls.map(|call| (number(&call["dpc"]), call["type"] == "Threaded")).collect();
                let facts = list(&case.truth["facts"]["dpcs"]).iter();
                let mut wanted: Vec<_> =
                    facts.map(|call| (number(&call["dpc"]), call["threaded"] == true)).collect();
                found.sort_unstable();
                wanted.sort_unstable();
                assert_eq!(found, wanted, "{generation}");
                assert_eq!(found.iter().filter(|call| call.1).count(), 1, "{generation}");
            },
        );
    }
}

/// Public symbols of 11 24H2 tell neither where a session has its number nor what the scheduler keeps for a processor.
#[test]
fn what_symbols_no_longer_tell() {
    let commands = ["!session", "!ready 0", "!timer", "!dpcs", "dt nt!_KPRCB", "dt nt!_MM_SESSION_SPACE"];
    let options = Options::of("x64-26100", Story::Deadlock);
    ask(
        options,
        |_| commands.map(str::to_owned).to_vec(),
        |case| {
            let facts = &case.truth["facts"];
            assert!(!case.record("dt nt!_KPRCB").to_string().contains("TimerTable"));
            assert_eq!(case.record("dt nt!_MM_SESSION_SPACE")["status"], "failed");
            let count = |name: &str| list(&facts[name]).len();
            assert_eq!(list(&case.data("!session")["list"]).len(), count("sessions"));
            let queues = list(&case.data("!ready 0")["queues"]);
            assert_eq!((queues.len(), &queues[0]["by_state"]), (1, &true.into()));
            assert_eq!(list(&queues[0]["threads"]).len(), count("ready"));
            assert_eq!(list(&case.data("!timer")["timers"]).len(), count("timers"));
            let processors = list(&case.data("!dpcs")["processors"]);
            let calls: Vec<_> = processors.iter().flat_map(|p| list(&p["queued"])).collect();
            assert_eq!(calls.len(), count("dpcs"));
            assert!(count("sessions") * count("ready") * count("timers") * count("dpcs") != 0);
        },
    );
}

/// On a real machine: every processor has a timer right behind its own deferred call, so what the hidden calls have in common
/// tells whether they are hidden as kd believes. The keys are not in a small dump; they cancel out, all but the rotation.
#[test]
fn real_timers_hide_their_calls_as_believed() {
    let Some(shared) = shared() else { return };
    let (dump, store) = (shared.join("dumps/real/x64-19041-7e.dmp"), shared.join("symbols/symstore"));
    let run = |commands: &[String]| -> Vec<Value> {
        let line = format!("{}; q", commands.join("; "));
        let records = kd(["--json", "-z", &arg(&dump), "-y", &arg(&store), "-c", &line]).run().records();
        let answer =
            |wanted: &String| records.iter().find(|r| r["command"] == *wanted).unwrap()["data"].clone();
        commands.iter().map(answer).collect()
    };
    let listed = &run(&["!timer".to_owned()])[0];
    let periodic = list(&listed["timers"]).iter().filter(|timer| timer["period"] != 0);
    let timers: Vec<u64> = periodic.map(|timer| number(&timer["timer"])).collect();
    assert_eq!(timers.len(), 16, "{listed}");
    let calls: Vec<String> = timers.iter().map(|timer| format!("? poi({timer:#x}+30)")).collect();
    let hidden: Vec<u64> = run(&calls).iter().map(|value| number(&value["hex"])).collect();
    let plain = |index: usize| (timers[index] - 0x40).swap_bytes() ^ timers[index];
    let fits = |turn: u32| {
        (1..timers.len())
            .all(|index| hidden[0] ^ hidden[index] == (plain(0) ^ plain(index)).rotate_right(turn))
    };
    assert_eq!((0..64).filter(|&turn| fits(turn)).count(), 1);
}
