//! What kernels of the last years do in another way than all before, where readers were wrong or the symbols no longer tell:
//! fast resources, type indices hidden with a cookie of 0, sessions and processor blocks of 11 24H2.

use super::every_kind::{Case, list, number};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::Kind;

fn ask(options: Options, commands: impl Fn(&serde_json::Value) -> Vec<String>, check: impl Fn(&Case<'_>)) {
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
        let locks = |truth: &serde_json::Value| {
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
            assert_eq!(calls.iter().filter(|call| call["type"] == "Threaded").count(), 1);
            assert!(count("sessions") * count("ready") * count("timers") * count("dpcs") != 0);
        },
    );
}
