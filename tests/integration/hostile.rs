//! Every command of every extension where it is hard: on systems whose lists loop and whose pointers lead nowhere, on
//! systems whose pointers were exchanged for each other, and on dumps that hold next to nothing. Each answers in bounded
//! time, space and text, without a panic, and says what it could not read.
//!
//! By default a few generations; `KD_LAB=all` takes every one, and more seeds.

use super::program::{arg, sample};
use kd_tests::kd_exe;
use kd_tests::lab::layout::{GENERATIONS, Machine};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is asked. `{irps.irp}` stands for addresses that the truth of a world has under this name, one line each;
/// `{wild}` leads nowhere, `{wrong}` to what is something else. A line whose name the truth does not have is left out.
#[rustfmt::skip]
const FORMS: &[&str] = &[
    "!address", "!address {wild}", "!address {wrong}", "!address {people.process}", "!address 10000",
    "!analyze", "!analyze -v", "!analyze -hang", "!analyze -show 7e {wild} {wrong}",
    "!ca", "!ca 0", "!ca -1", "!ca {control_areas.control_area}", "!ca {sections.control_area}", "!ca {wild}", "!ca {wrong}",
    "!cpuid", "!cpuid 0", "!cpuinfo", "!cpuinfo ffffffff",
    "!devobj {driver.devices}", "!devobj {volume.device}", "!devobj {wild}", "!devobj {wrong}", "!devobj faultdrv",
    "!devstack {driver.devices}", "!devstack {volume.device}", "!devstack {wild}", "!devstack {wrong}",
    "!dpcs", "!dpcs 0", "!dpcs ffffffff",
    "!drivers", "!drivers 1", "!drivers 2", "!drivers 4", "!drivers 6",
    "!drvobj {driver.driver} 7", "!drvobj {wild}", "!drvobj {wrong} 7", "!drvobj faultdrv 7",
    "!errlog", "!errlog {error_log.entry}", "!errlog {wild}", "!errlog {wrong}",
    "!error c0000005", "!error 5", "!error {wild} 1",
    "!filetime", "!filetime {wild}",
    "!for_each_process", "!for_each_process \"!handle 0 3 @#Process; .echo @#Process\"",
    "!for_each_thread", "!for_each_thread \"!thread @#Thread 16\"",
    "!gflag", "!gflag -?", "!gflag 1",
    "!handle", "!handle 0 7", "!handle 0 3 0", "!handle 0 13", "!handle 0 23", "!handle 4 f", "!handle 0 3 0 File",
    "!handle 0 3 {people.process}", "!handle 0 3 {wild}", "!handle ffffffff 3 {wrong}",
    "!idt", "!idt -a", "!idt e", "!idt {wild}",
    "!irp {irps.irp} 1", "!irp {wild} 1", "!irp {wrong} 1",
    "!irql", "!irql 1", "!irql {wild}",
    "!job", "!job {job.job} 3", "!job {wild}", "!job {wrong} 3",
    "!kuser",
    "!locks", "!locks -v", "!locks -p", "!locks -d", "!locks -deadlock", "!locks {resources.resource}", "!locks -v {wild}",
    "!locks -v {wrong}",
    "!memusage", "!memusage 1", "!memusage 2", "!memusage 8",
    "!object \\", "!object \\Device", "!object \\Driver 1f", "!object \\No\\Such", "!object 0 Event",
    "!object {objects.object} 1f", "!object {wild} 1f", "!object {wrong} 1f",
    "!pcr", "!pcr 1", "!pcr {wild}", "!prcb", "!prcb 2", "!prcb {wild}",
    "!pte", "!pte {people.process}", "!pte {wild}", "!pte {wrong}", "!pte {wrong} 1", "!pte {wild} 1",
    "!pte 0 ffffffffffffffff", "!pte {wrong} {wild}", "!pte2va {wild}", "!pte2va {wrong}",
    "!ptov @cr3", "!ptov {wild}", "!ptov 0", "!vtop {wrong}", "!vtop 0 {wild}", "!vtop {wild} {wrong}", "!vtop 1 {people.process}",
    "!peb", "!peb -p {environments.process}", "!peb {wild}", "!peb {wrong}",
    "!pfn 0", "!pfn {frames.pfn}", "!pfn ffffffffffffffff", "!pfn {wild}",
    "!pool {pool_blocks.start} 1", "!pool {wild}", "!pool {wrong} 1", "!pool 0",
    "!poolfind Irp?", "!poolfind * 1", "!poolfind None 4", "!poolfind 0xffffffff 2",
    "!poolused", "!poolused 3", "!poolused 4 I*", "!poolused 8",
    "!process", "!process -1 1f", "!process 0 0", "!process 0 7", "!process 0 1f", "!process 4 f", "!process /s 0 0 7",
    "!process /m nt 0", "!process 0 3 s*", "!process {people.process} 1f", "!process {ended.zombie} 1f",
    "!process {wild}", "!process {wrong} 1f",
    "!qlocks",
    "!ready", "!ready 16",
    "!search {people.process}", "!search -p ffffffff 10", "!search {wild} {wrong} 0 ffffffffffffffff",
    "!running", "!running -i", "!running -i -t",
    "!session",
    "!sprocess", "!sprocess 0 7", "!sprocess ffffffff",
    "!stacks", "!stacks 1", "!stacks 2", "!stacks 2 nt!*",
    "!sysinfo", "!sysinfo machineid", "!sysinfo smbios", "!sysinfo cpuinfo", "!sysinfo cpuspeed",
    "!teb", "!teb -p {tebs.process} {tebs.teb}", "!teb {wild}", "!teb {wrong}",
    "!thread", "!thread -p -1 1f", "!thread -t 4", "!thread {thread_details.thread} 1f", "!thread {special_threads.ending} 1f",
    "!thread {wild} 1f", "!thread -p {wrong} 1f",
    "!timer",
    "!token", "!token {tokens.token}", "!token {wild}", "!token {wrong}",
    "!vad", "!vad 0 1", "!vad {vads.process}", "!vad {vads.root}", "!vad {wild} 1", "!vad {wrong}",
    "!vm", "!vm 3f",
    "!whattime", "!whattime {wild}",
];

/// What one answer may take; debug builds on a busy machine.
const MOST_TIME: Duration = Duration::from_secs(10);
/// Bytes of one answer, as JSON.
const MOST_TEXT: usize = 1 << 20;
/// What the whole session may have had in memory.
const MOST_MEMORY: u64 = 300 << 20;

/// The truth of what is asked about; for real dumps there is none.
struct Subject {
    what: String,
    facts: Value,
    wild: u64,
    wrong: u64,
}

impl Subject {
    fn of(world: &World, what: String) -> Subject {
        let narrow = world.options.generation.machine == Machine::X86;
        Subject {
            what,
            facts: world.truth()["facts"].clone(),
            wild: if narrow { 0xdead_beec } else { 0xffff_dead_beef_dee8 },
            wrong: world.nt("PsLoadedModuleList").0,
        }
    }

    /// The first, the middle and the last address under a name.
    fn addresses(&self, name: &str) -> Vec<u64> {
        match name {
            "wild" => return vec![self.wild],
            "wrong" => return vec![self.wrong],
            _ => {}
        }
        let mut all = vec![&self.facts];
        for part in name.split('.') {
            all = all.into_iter().flat_map(inside).filter_map(|value: &Value| value.get(part)).collect();
        }
        let all = all.into_iter().flat_map(inside);
        let all: Vec<u64> = all.filter_map(Value::as_u64).collect();
        let chosen = BTreeSet::from([0, all.len() / 2, all.len().saturating_sub(1)]);
        chosen.into_iter().filter_map(|index| all.get(index).copied()).collect()
    }

    /// The lines of a form.
    fn lines(&self, form: &str) -> Vec<String> {
        let Some((before, rest)) = form.split_once('{') else { return vec![form.to_owned()] };
        let (name, after) = rest.split_once('}').expect("a brace is closed");
        let with = |address: u64| self.lines(&format!("{before}{address:#x}{after}"));
        self.addresses(name).into_iter().flat_map(with).collect()
    }

    /// Every command on a dump, checked.
    fn check(&self, dump: &Path, store: &str) {
        let what = &self.what;
        let lines: Vec<_> = FORMS.iter().flat_map(|form| self.lines(form)).collect();
        let arguments = ["--json", "-y", store, "-z", &arg(dump)].map(str::to_owned);
        let mut kd = Command::new(kd_exe())
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("SystemRoot").map(|root| ("SystemRoot", root)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("kd starts");
        let mut input = kd.stdin.take().expect("a pipe");
        let mut output = BufReader::new(kd.stdout.take().expect("a pipe"));
        let mut hear = |command: &str| {
            let (start, mut line) = (Instant::now(), String::new());
            output.read_line(&mut line).expect("kd writes UTF-8");
            let took = start.elapsed();
            assert!(!line.is_empty(), "{what}: {command}: kd ended");
            assert!(took < MOST_TIME, "{what}: {command} took {took:?}");
            assert!(line.len() < MOST_TEXT, "{what}: {command} answers with {} bytes", line.len());
            assert!(!line.contains("panicked"), "{what}: {command}: {line}");
            serde_json::from_str::<Value>(&line).unwrap_or_else(|e| panic!("{what}: {command}: {e}: {line}"))
        };
        hear("the banner");
        for line in &lines {
            writeln!(input, "{line}").expect("kd reads");
            let record = hear(line);
            assert_eq!(record["command"], line.as_str(), "{what}");
            let says_why = record["messages"].as_array().is_some_and(|all| !all.is_empty());
            let answers =
                has_data(&record["data"]) || record["text"].as_str().is_some_and(|text| !text.is_empty());
            match record["status"].as_str() {
                Some("ok") if answers || says_why => {}
                Some("failed") if says_why => {}
                _ => panic!("{what}: {line}: {record}"),
            }
        }
        #[cfg(target_os = "linux")]
        {
            let status = std::fs::read_to_string(format!("/proc/{}/status", kd.id())).unwrap();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
            let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
            assert!(peak << 10 < MOST_MEMORY, "{what}: {peak} kB of memory");
        }
        drop(input);
        assert!(kd.wait().expect("kd ends").code().is_some(), "{what}: kd was killed");
    }
}

/// True where a record has values, a table with rows.
fn has_data(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(list) => list.iter().any(has_data),
        Value::Object(fields) => fields.values().any(has_data),
        _ => true,
    }
}

/// True if every generation is wanted.
fn all() -> bool {
    std::env::var("KD_LAB").is_ok_and(|value| value == "all")
}

/// The generations of a run: all, or these.
fn generations<'a>(few: &'a [&'a str]) -> Vec<&'a str> {
    if all() { GENERATIONS.iter().map(|g| g.name).collect() } else { few.to_vec() }
}

#[test]
fn every_command_has_forms() {
    let run = super::program::kd(["--json", "-z", &sample(), "-c", "!help; q"]).run();
    let help = run.records().into_iter().find(|record| record["command"] == "!help").unwrap();
    let extensions = help["data"]["extensions"].as_array().unwrap();
    let commands: BTreeSet<_> = extensions
        .iter()
        .filter(|extension| extension["name"] != "testbed")
        .flat_map(|extension| extension["commands"].as_array().unwrap())
        .map(|command| format!("!{}", command["name"].as_str().unwrap()))
        .collect();
    let asked: BTreeSet<_> = FORMS.iter().map(|form| form.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(asked, commands);
}

#[test]
fn commands_survive_hostile_systems() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    for name in generations(&["x86-7601", "x64-19041"]) {
        let world = World::build(Options::of(name, Story::Hostile));
        let store = folder.path().join(name);
        world.write_symbols(&store).unwrap();
        writer::write(&world, Kind::BitmapFull, &path)
            .or_else(|_| writer::write(&world, Kind::Full, &path))
            .unwrap();
        Subject::of(&world, format!("{name} hostile")).check(&path, &arg(&store));
    }
}

/// Pointers of the kernel exchanged for each other, one in `every`: circles, wrong types, lists that run into lists.
fn exchange(path: &Path, machine: Machine, every: usize, mut seed: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    let mut random = move || {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (seed >> 33) as usize
    };
    let width = if machine == Machine::X86 { 4 } else { 8 };
    // What stands before the first page of memory stays, so that the dump opens.
    let start = bytes.len() / 16;
    let is_pointer = |word: &[u8]| match width {
        4 => (0x8000_0000..0xff00_0000).contains(&u32::from_le_bytes(word.try_into().unwrap())),
        _ => word[6..] == [0xff, 0xff] && word[2..6] != [0xff; 4],
    };
    let mut places: Vec<usize> = (start / 8 * 8..bytes.len() - width).step_by(width).collect();
    places.retain(|&at| is_pointer(&bytes[at..at + width]));
    for _ in 0..places.len() / every {
        let (a, b) = (places[random() % places.len()], places[random() % places.len()]);
        let (one, other) = (bytes[a..a + width].to_vec(), bytes[b..b + width].to_vec());
        bytes[a..a + width].copy_from_slice(&other);
        bytes[b..b + width].copy_from_slice(&one);
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn commands_survive_exchanged_pointers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    let rounds = if all() { 1..=4 } else { 1..=1 };
    for name in generations(&["x64-9600"]) {
        let world = World::build(Options::of(name, Story::MemoryPressure));
        let store = folder.path().join(name);
        world.write_symbols(&store).unwrap();
        let machine = world.options.generation.machine;
        for round in rounds.clone() {
            writer::write(&world, Kind::Full, &path).unwrap();
            exchange(&path, machine, [300, 100, 30, 1000][round as usize % 4], round);
            Subject::of(&world, format!("{name} exchanged {round}")).check(&path, &arg(&store));
        }
    }
}

#[test]
fn commands_answer_on_dumps_that_hold_little() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    for name in generations(&["x64-22000"]) {
        let world = World::build(Options::of(name, Story::CrashInDriver));
        let store = folder.path().join(name);
        world.write_symbols(&store).unwrap();
        let empty = folder.path().join("none");
        for (kind, store) in [(Kind::Triage, &store), (Kind::Triage, &empty), (Kind::HeaderOnly, &store)] {
            writer::write(&world, kind, &path).unwrap();
            let symbols = if *store == empty { " without symbols" } else { "" };
            Subject::of(&world, format!("{name} {kind:?}{symbols}")).check(&path, &arg(store));
        }
    }
}

#[test]
fn commands_answer_on_real_dumps() {
    let Some(shared) = kd_tests::shared() else { return };
    let store = arg(&shared.join("symbols/symstore"));
    for entry in std::fs::read_dir(shared.join("dumps/real")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if all() || matches!(name, "x64-19041-7e.dmp" | "x64-19041-50-nx.dmp" | "arm64-22000-1c8.dmp") {
            let (wild, wrong) = (0xffff_dead_beef_dee8, 0xffff_f780_0000_0000);
            Subject { what: name.to_owned(), facts: Value::Null, wild, wrong }.check(&path, &store);
        }
    }
}

/// The members of a list, or the value itself.
fn inside(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        value => vec![value],
    }
}
