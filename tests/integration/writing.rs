//! What kd writes: dumps out of dumps, cabinets, memory in files; and the programs it starts.
//!
//! A dump that was written is read back by kd, which must say the same of it as of the larger one, and kinds 5 and 6 of x64
//! by kdmp-parser, page by page. `KD_LAB=all` takes every generation.

use super::program::{Run, arg, kd, sample};
use kd_tests::lab::layout::{GENERATIONS, Machine};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use kdmp_parser::gxa::Gpa;
use kdmp_parser::parse::KernelDumpParser;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The data of the commands of a run; null of those that failed.
fn answers(dump: &Path, store: &Path, commands: &[&str]) -> Vec<Value> {
    let line = format!("{}; q", commands.join("; "));
    let run = kd(["--json", "-z", &arg(dump), "-y", &arg(store), "-c", &line]).run();
    let records = run.records();
    commands
        .iter()
        .map(|command| {
            let record = records.iter().find(|record| record["command"] == *command);
            let record = record.unwrap_or_else(|| panic!("no record of {command}: {}", run.stdout));
            if record["status"] == "ok" { record["data"].clone() } else { Value::Null }
        })
        .collect()
}

/// The rows of a list that are the kernel's, by the key of their address.
fn of_kernel(data: &Value, list: &str, key: &str, machine: Machine) -> Vec<Value> {
    let limit = if machine == Machine::X86 { 0x8000_0000 } else { 1 << 47 };
    let is_kernel = |row: &&Value| super::every_kind::number(&row[key]) >= limit;
    data[list]
        .as_array()
        .unwrap_or_else(|| panic!("no {list}: {data}"))
        .iter()
        .filter(is_kernel)
        .cloned()
        .collect()
}

/// A row without where its symbols came from, which both say in their own time.
fn without(row: &Value, keys: &[&str]) -> Value {
    let mut row = row.clone();
    keys.iter().for_each(|key| {
        row.as_object_mut().map(|row| row.remove(*key));
    });
    row
}

const ASKED: &[&str] =
    &[".bugcheck", ".time", "vertarget", "r", "k", "lm", ".lastevent", "r $thread", "r $proc"];

#[test]
fn dumps_become_smaller_ones() {
    let folder = tempfile::tempdir().unwrap();
    let all = std::env::var("KD_LAB").is_ok_and(|value| value == "all");
    let wanted = |name: &str| all || matches!(name, "x64-19041" | "x86-7601" | "arm64-22000");
    for generation in GENERATIONS.iter().filter(|generation| wanted(generation.name)) {
        let world = World::build(Options::of(generation.name, Story::CrashInDriver));
        let (path, store) = (folder.path().join("large"), folder.path().join(generation.name));
        world.write_symbols(&store).unwrap();
        writer::write(&world, Kind::Full, &path).unwrap();
        let name = |end: &str| folder.path().join(format!("{}-{end}", generation.name));
        let write =
            |options: &str, end: &str| format!(".dump {options} /c \"a {end} one\" \"{}\"", arg(&name(end)));
        let commands =
            [write("", "small"), write("/k", "kernel"), write("/ka", "active"), write("/f", "complete")];
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let written = answers(&path, &store, &commands);
        for (end, data) in ["small", "kernel", "active", "complete"].iter().zip(&written) {
            assert_eq!(data["bytes"], fs::metadata(name(end)).unwrap().len(), "{end}");
        }
        let pages = |index: usize| written[index]["pages"].as_u64().unwrap();
        assert!(pages(1) < pages(2) && pages(2) <= pages(3), "{written:?}");

        let large = answers(&path, &store, ASKED);
        for (end, kind) in [("small", 4), ("kernel", 6), ("active", 5), ("complete", 5)] {
            let what = format!("{} {end}", generation.name);
            let found = answers(&name(end), &store, ASKED);
            let (machine, full) = (generation.machine, kind == 5);
            for (command, (found, large)) in ASKED.iter().zip(found.iter().zip(&large)) {
                // The oldest kernels do not tell which process runs.
                if large.is_null() {
                    assert_eq!(*command, "r $proc", "{what}");
                    continue;
                }
                match *command {
                    // The user's part is not in the file.
                    "k" => {
                        let frames = |data| of_kernel(data, "frames", "ip", machine);
                        assert_eq!(frames(found), frames(large), "{what}");
                        assert!(frames(found).len() > 5, "{what}");
                    }
                    "lm" => {
                        let modules = |data: &Value| -> Vec<Value> {
                            let rows = of_kernel(data, "modules", "start", machine);
                            rows.iter().map(|row| without(row, &["symbols", "pdb", "symbol_file"])).collect()
                        };
                        assert_eq!(modules(found), modules(large), "{what}");
                        let unloaded = |data: &Value| -> Vec<Value> {
                            data["unloaded"]
                                .as_array()
                                .into_iter()
                                .flatten()
                                .map(|row| without(row, &["time"]))
                                .collect()
                        };
                        assert_eq!(unloaded(found).len(), unloaded(large).len(), "{what}");
                    }
                    _ => assert_eq!(found, large, "{what} {command}"),
                }
            }
            let open = Dump::open(&name(end));
            assert_eq!(open.header().kind.number(), kind, "{what}");
            assert_eq!(open.header().comment.as_deref(), Some(format!("a {end} one").as_str()), "{what}");
            assert_eq!(open.problems(), [], "{what}");
            if full || kind == 6 {
                compare_pages(&world, &open, &what);
                if machine == Machine::X64 {
                    with_kdmp_parser(&world, &name(end), kind, &open);
                }
            }
        }
    }
}

/// kd's reader.
struct Dump;

impl Dump {
    fn open(path: &Path) -> kd::dump::Dump {
        kd::dump::Dump::open(path, &kd::dump::OpenOptions::default()).unwrap()
    }
}

fn frames(dump: &kd::dump::Dump) -> Vec<u64> {
    dump.physical().unwrap().runs().flat_map(|run| run.first.0..run.first.0 + run.pages).collect()
}

fn truth(world: &World, frame: u64) -> [u8; 4096] {
    world.memory.frame(kd_sdk::address::Pfn(frame)).copied().unwrap_or([0; 4096])
}

fn compare_pages(world: &World, dump: &kd::dump::Dump, what: &str) {
    for frame in frames(dump) {
        let page = dump.physical().unwrap().page(kd_sdk::address::Pfn(frame)).unwrap();
        assert!(*page == truth(world, frame), "{what}: frame {frame:#x}");
    }
}

fn with_kdmp_parser(world: &World, path: &Path, kind: u32, open: &kd::dump::Dump) {
    let dump = KernelDumpParser::new(path).unwrap();
    assert_eq!(dump.headers().dump_type, kind);
    assert_eq!(dump.headers().bug_check_code, world.crash.code);
    assert_eq!(dump.physmem().map(|(gpa, _)| gpa.pfn()).collect::<Vec<_>>(), frames(open));
    let reader = kdmp_parser::phys::Reader::new(&dump);
    for frame in frames(open) {
        let mut page = [0; 4096];
        reader.read_exact(Gpa::new(frame << 12), &mut page).unwrap();
        assert_eq!(page, truth(world, frame), "frame {frame:#x}");
    }
    assert_eq!(dump.kernel_modules().len(), world.images.len());
}

/// Runs commands on the sample in a folder.
fn run_in(folder: &Path, commands: &str) -> Run {
    kd(["-z", &sample()]).in_folder(folder).input(commands).run()
}

#[test]
fn other_processors_and_refusals() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::build(Options::of("x64-19041", Story::CrashInDriver));
    let (path, store) = (folder.path().join("large"), folder.path().join("store"));
    world.write_symbols(&store).unwrap();
    writer::write(&world, Kind::BitmapKernel, &path).unwrap();
    let small = folder.path().join("small");
    let command = format!(".dump \"{}\"", arg(&small));
    let run = kd(["-z", &arg(&path), "-y", &arg(&store), "-c", &format!("~1s; {command}; q")]).run();
    assert!(run.stdout.contains("Dump successfully written"), "{}", run.stdout);
    let (large, found) = (answers(&path, &store, &["1r"]), answers(&small, &store, &["r", "~"]));
    assert_eq!(found[0]["rip"], large[0]["rip"]);
    assert_eq!(found[0]["rsp"], large[0]["rsp"]);
    assert_eq!(found[1]["processors"][1]["current"], true);

    let refused = |dump: &Path, command: &str, says: &str| {
        let run = kd(["-z", &arg(dump), "-c", &format!("{command}; q")]).in_folder(folder.path()).run();
        assert!(run.stdout.contains(says), "{command}: {}", run.stdout);
        assert!(!folder.path().join("no").exists(), "{command}");
    };
    refused(&path, ".dump /f no", "the kernel's memory only");
    refused(&path, ".dump /ka no", "the kernel's memory only");
    refused(&small, ".dump /m no", "is small already");
    refused(&small, ".dump /k no", "no pages");
    refused(&path, ".dump /j 5 no", "/j is for dumps of programs");
    refused(&path, ".dump", "the name of a file is missing");
    refused(&path, ".dump no-such-folder/no", "cannot write to no-such-folder");
    refused(&path, &command, "is there already; /o replaces it");
    refused(&path, &format!(".dump /o \"{}\"", arg(&path)), "is the file of a dump that is open");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "no half file is left");
}

#[test]
fn cabinets_hold_the_dump_and_its_symbols() {
    let folder = tempfile::tempdir().unwrap();
    let cabinet = folder.path().join("all.cab");
    let run = run_in(folder.path(), ".dumpcab all.cab\n.dumpcab all.cab\n.dump /b /u /m small.dmp\n");
    assert!(run.stdout.contains("all.cab is there already"), "{}", run.stdout);
    let opened = Dump::open(&cabinet);
    assert_eq!(opened.archive_member(), Some("sample.dmp"));
    let original = Dump::open(Path::new(&sample()));
    assert_eq!(frames(&opened), frames(&original));
    let names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "all.cab")
        .collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].starts_with("small_") && names[0].ends_with(".dmp.cab"), "{names:?}");
    assert_eq!(Dump::open(&folder.path().join(&names[0])).header().kind.number(), 4);
    // What is in a cabinet can be packed again.
    let again = kd(["-z", &arg(&cabinet), "-c", ".dumpcab again.cab; q"]).in_folder(folder.path()).run();
    assert!(again.stdout.contains("sample.dmp"), "{}", again.stdout);
    assert_eq!(frames(&Dump::open(&folder.path().join("again.cab"))), frames(&original));
}

#[test]
fn memory_is_written_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::build(Options::of("x64-19041", Story::Idle));
    let path = folder.path().join("dump");
    writer::write(&world, Kind::BitmapFull, &path).unwrap();
    let base = world.image("nt").base;
    let size = u64::from(world.image("nt").size) & !0xfff;
    let commands = format!(
        ".writemem a {base:#x} L200\n.writemem a {base:#x} L100\n.writemem b {base:#x} L?{:#x}\n.writemem c 0 L10\n\
         .writemem dump {base:#x} L10\n.writemem\n.writemem d\n.writemem d 1 x\n.writemem d {base:#x} L0\n\
         .writemem d {base:#x} L?ffffffffffffffff\n",
        size * 4
    );
    let run = kd(["-z", &arg(&path)]).in_folder(folder.path()).input(&commands).run();
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert_eq!(read("a"), world.read(kd_sdk::address::Va(base), 0x100).unwrap());
    assert!(run.stdout.contains("which was there already"), "{}", run.stdout);
    let whole = read("b");
    assert_eq!(Some(whole.clone()), world.read(kd_sdk::address::Va(base), whole.len()));
    assert!(run.stdout.contains(&format!("b is incomplete, {:#x} of", whole.len())), "{}", run.stdout);
    assert!(!folder.path().join("c").exists(), "where nothing can be read no file is made");
    assert!(run.stdout.contains("dump is the file of a dump that is open"));
    assert!(
        run.stdout.contains("the name of a file is missing") && run.stdout.contains("the range has no bytes")
    );
}

#[test]
fn secure_mode_writes_and_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let commands =
        ".writemem x nt L1\n.dump x\n.dumpcab x\n.logopen x\n.logappend x\n.write_cmd_hist x\n.secure 0\n";
    for arguments in [vec!["-secure"], vec!["-c", ".secure 1"]] {
        let run =
            kd(["-z", &sample()].into_iter().chain(arguments)).in_folder(folder.path()).input(commands).run();
        assert_eq!(run.stdout.matches("is forbidden in secure mode").count(), 6, "{}", run.stdout);
        assert!(run.stdout.contains("secure mode lasts until kd ends"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    for arguments in [vec!["-secure"], vec!["-noshell"], vec!["-c", ".noshell"]] {
        let run = kd(["-z", &sample()].into_iter().chain(arguments)).input(".shell echo seen\n").run();
        assert!(
            run.stdout.contains(".shell is forbidden") && !run.stdout.contains("\nseen"),
            "{}",
            run.stdout
        );
    }
}

#[test]
fn logs_and_histories_have_names() {
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("crash.dmp");
    fs::copy(sample(), &dump).unwrap();
    let commands =
        ".logopen /t my.log\n.echo a\n.logopen /d\n.logopen crash.dmp\n.logclose\n.write_cmd_hist h\n";
    let run = kd(["-z", "crash.dmp"]).in_folder(folder.path()).input(commands).run();
    assert!(run.stdout.contains("crash.dmp is the file of a dump that is open"), "{}", run.stdout);
    assert_eq!(fs::read(&dump).unwrap(), fs::read(sample()).unwrap());
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names[0] == "crash.dmp" && names[2] == "h", "{names:?}");
    let is_stamped = |name: &str, start: &str| name.starts_with(start) && name.ends_with(".log");
    assert!(is_stamped(&names[1], "crash_") && is_stamped(&names[3], "my_"), "{names:?}");
    let history = fs::read_to_string(folder.path().join("h")).unwrap();
    assert_eq!(history, commands);
}

#[cfg(unix)]
#[test]
fn programs_run_in_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    let commands = ".shell echo one; echo two >&2\n.shell -o out -e - echo three; echo lost >&2\n.shell -i out cat\n\
                    .shell -ci \".echo a;.echo b\" wc -l\n.shell exit 3\n.shell kill -9 $$\n.shell cat\n\
                    .if (1) { .shell echo inside }\n";
    let run = run_in(folder.path(), commands);
    let shown = &run.stdout;
    assert!(shown.contains("\none\ntwo\n.shell: Process exited\n"), "{shown}");
    assert_eq!(fs::read_to_string(folder.path().join("out")).unwrap(), "three\n");
    assert!(shown.contains("\nthree\n") && !shown.contains("\nlost"), "{shown}");
    assert!(shown.lines().any(|line| line.trim() == "2"), "{shown}");
    assert!(shown.contains("Process exited with 3") && shown.contains("Process ended: signal: 9"), "{shown}");
    let run = kd(["--json", "-z", &sample(), "-c", ".shell echo x; echo y"]).run();
    let record =
        run.records().into_iter().find(|record| record["command"] == ".shell echo x; echo y").unwrap();
    assert_eq!(record["data"]["output"], serde_json::json!(["x", "y"]));
    assert_eq!(record["data"]["exit_code"], 0);
}

/// Ctrl+C in the middle of a long write, and of a program.
#[cfg(unix)]
#[test]
fn interrupts_leave_nothing() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let world = World::build(Options::new("x64-19041"));
    let path = folder.path().join("huge");
    writer::huge_sparse(&world, &path, 4).unwrap();
    let mut child = Command::new(kd_tests::kd_exe())
        .args(["-z", &arg(&path)])
        .current_dir(folder.path())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut hear = |mark: &str| {
        let mut text = String::new();
        while !text.contains(mark) {
            assert!(output.read_line(&mut text).unwrap() > 0, "kd ended: {text}");
        }
        text
    };
    for command in [".dump /f new.dmp", ".shell echo started; sleep 60"] {
        writeln!(input, ".echo now\n{command}\n.echo the-end").unwrap();
        hear("now");
        std::thread::sleep(std::time::Duration::from_millis(150));
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let text = hear("the-end");
        assert!(text.contains("interrupted"), "{command}: {text}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{command} leaves no file");
    }
    drop(input);
    child.wait().unwrap();
}

/// Systems whose lists loop, whose pointers lead nowhere and whose page tables fold into themselves: bounded answers.
#[test]
fn hostile_systems_are_written_too() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["x64-19041", "x86-7601"] {
        let world = World::build(Options::of(name, Story::Hostile));
        let (path, store) = (folder.path().join(name), folder.path().join("store"));
        world.write_symbols(&store).unwrap();
        writer::write(&world, Kind::Full, &path).unwrap();
        let size = fs::metadata(&path).unwrap().len();
        for command in [
            ".dump /o m",
            ".dump /o /k k",
            ".dump /o /ka ka",
            ".imgscan",
            ".imgscan /v /r 0 ffffffffffffffff",
            ".holdmem -a nt L?4000001",
            ".writemem w 0 ffffffffffffffff",
            ".writemem w nt L?ffffffffffffffff",
            ".exptr nt",
            ".f+; .f+; .f-",
            "s -[l8]sa nt L10000",
            "s -su nt L10000",
        ] {
            let start = std::time::Instant::now();
            let run =
                kd(["-z", &arg(&path), "-y", &arg(&store)]).in_folder(folder.path()).input(command).run();
            assert!(!run.stdout.contains("panicked"), "{name} {command}: {}", run.stdout);
            assert!(start.elapsed().as_secs() < 40, "{name} {command} took {:?}", start.elapsed());
            assert!(run.stdout.len() < 1 << 20, "{name} {command}: {} bytes", run.stdout.len());
        }
        for file in ["m", "k", "ka"] {
            let written = folder.path().join(file);
            assert!(fs::metadata(&written).unwrap().len() < size + (16 << 20), "{name} {file}");
            Dump::open(&written);
            fs::remove_file(written).unwrap();
        }
    }
}
