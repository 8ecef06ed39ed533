//! A session from outside: prompts, standard input, several targets, scripts, logs, cabinets, the exit status.

use super::program::{arg, kd, sample};
use kd_tests::lab::world::{Options, World};
use kd_tests::lab::writer::{self, Kind, cabinet};
use std::path::{Path, PathBuf};

/// What follows the first prompt.
fn after_prompt<'a>(stdout: &'a str, prompt: &str) -> &'a str {
    let at = stdout.find(prompt).unwrap_or_else(|| panic!("no {prompt:?} in {stdout}"));
    &stdout[at..]
}

/// A dump of one kind of one system, with one processor more than usual.
fn dump(folder: &Path, generation: &str, kind: Kind) -> PathBuf {
    let path = folder.join(format!("{generation}.dmp"));
    writer::write(&World::build(Options { processors: 3, ..Options::new(generation) }), kind, &path).unwrap();
    path
}

#[test]
fn commands_come_from_standard_input() {
    let run =
        kd(["-z", &sample(), "-c", ".echo first"]).input(".echo second\n.echo third; .echo fourth\n").run();
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    assert!(
        run.stdout.contains("kd: Reading initial command '.echo first'\nfirst\n0: kd> "),
        "{}",
        run.stdout
    );
    let wanted = "0: kd> .echo second\nsecond\n0: kd> .echo third; .echo fourth\nthird\nfourth\n0: kd> ";
    assert_eq!(after_prompt(&run.stdout, "0: kd> ").trim_end(), wanted.trim_end());
}

#[test]
fn an_empty_line_repeats_the_last_one() {
    let run = kd(["-z", &sample()]).input("\n.echo again\n\n   \nq\n").run();
    assert_eq!(run.stdout.matches("\nagain\n").count(), 3, "{}", run.stdout);
}

#[test]
fn windows_line_ends_and_blanks_are_fine() {
    let run = kd(["-z", &sample()])
        .input("  .echo a  ;  .echo b  \r\n* a comment\r\n$$ another; .echo c\r\nq\r\n")
        .run();
    assert_eq!(run.status, 0, "{}", run.stdout);
    assert!(run.stdout.contains("\na\nb\n"), "{}", run.stdout);
}

#[test]
fn q_ends_at_once() {
    let run =
        kd(["-z", &sample(), "-c", ".echo yes; q; .echo no", "-c", ".echo no"]).input(".echo no\n").run();
    assert_eq!(run.status, 0);
    assert!(run.stdout.contains("\nyes\n") && !run.stdout.contains("\nno\n"), "{}", run.stdout);
    assert!(!run.stdout.contains("kd> "), "{}", run.stdout);
}

#[test]
fn the_status_tells_what_failed() {
    for (command, status) in [
        ("q", 0),
        (".bugcheck; lm; q", 0),
        ("no-such-command; q", 1),
        ("!no-such-command; q", 1),
        ("dx; q", 1),
        ("bp nt; q", 1),
        ("db; .bugcheck; db 0 L4; lm m [; r no; q", 1),
        ("? nt!NoSuchSymbol; .bugcheck; q", 1),
    ] {
        let run = kd(["-z", &sample(), "-c", command]).run();
        assert_eq!((run.status, run.stderr.as_str()), (status, ""), "{command}: {}", run.stdout);
    }
    // Without a dump: KD's commands say what they need.
    let run = kd(["-c", ".echo here; lm; q"]).run();
    assert_eq!(run.status, 1, "{}", run.stdout);
    assert!(run.stdout.contains("\nhere\n") && run.stdout.contains("error: "), "{}", run.stdout);
}

#[test]
fn json_is_one_record_a_command() {
    let run = kd(["--json", "-z", &sample(), "-c", ".echo a; lm; nosuch; .hh; q"]).run();
    assert_eq!((run.status, run.stderr.as_str()), (1, ""));
    let records = run.records();
    let commands: Vec<_> = records.iter().map(|r| r["command"].as_str().unwrap()).collect();
    assert_eq!(commands[1..], [".echo a", "lm", "nosuch", ".hh", "q"]);
    assert!(commands[0].starts_with(".opendump "));
    let sequence: Vec<_> = records.iter().map(|r| r["seq"].as_u64().unwrap()).collect();
    assert_eq!(sequence, [1, 2, 3, 4, 5, 6]);
    assert_eq!(records[0]["target"], serde_json::Value::Null);
    assert!(records[1..].iter().all(|r| r["target"] == 0));
    let keys = |r: &serde_json::Value| r.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&records[2]), ["command", "data", "messages", "seq", "status", "target", "v"]);
    assert_eq!(keys(&records[3]), ["command", "data", "messages", "seq", "status", "target", "text", "v"]);
    for (record, says) in [(&records[3], "nosuch"), (&records[4], "WinDbg's windows")] {
        assert_eq!(record["messages"][0]["severity"], "error");
        assert!(record["messages"][0]["text"].as_str().unwrap().contains(says), "{record}");
        assert_ne!(record["status"], "ok");
    }
}

#[test]
fn several_dumps_are_several_targets() {
    let folder = tempfile::tempdir().unwrap();
    let second = arg(&dump(folder.path(), "x64-22000", Kind::Triage));
    let third = arg(&dump(folder.path(), "x86-7601", Kind::Full));
    let input = "||\n.time\n||0s\nvertarget\n~1s\n? nt\n||2s\nr eip\n||1s\n.detach\n||\n||9s\nq\n";
    let run = kd(["-z", &sample(), "-z", &second, "-z", &third]).input(input).run();
    assert_eq!((run.status, run.stderr.as_str()), (1, ""), "{}", run.stdout);
    let prompts: Vec<_> =
        run.stdout.lines().filter_map(|line| line.split_once("kd> ")).map(|(p, _)| p).collect();
    // The newest is current at first, and again after the current one is closed.
    assert_eq!(
        prompts,
        [
            "||2:0: ", "||2:0: ", "||2:0: ", "||0:0: ", "||0:0: ", "||0:1: ", "||0:1: ", "||2:0: ",
            "||2:0: ", "||1:0: "
        ]
        .into_iter()
        .chain(["||2:0: ", "||2:0: ", "||2:0: "])
        .collect::<Vec<_>>(),
        "{}",
        run.stdout
    );
    let text = &run.stdout;
    for wanted in [
        format!("   0 64-bit Kernel bitmap dump: {}\n", sample()),
        format!("   1 64-bit Kernel triage dump: {second}\n"),
        format!(".  2 32-bit Full kernel dump: {third}\n"),
        "Windows 10 Kernel Version 19041 MP (2 procs) Free x64\n".to_owned(),
        "Closed target 1\n".to_owned(),
        "error: no target 9; || lists them\n".to_owned(),
    ] {
        assert!(text.contains(&wanted), "no {wanted:?} in {text}");
    }
}

#[test]
fn opendump_and_g_load_another_dump() {
    let folder = tempfile::tempdir().unwrap();
    let second = arg(&dump(folder.path(), "arm64-22000", Kind::Triage));
    let input = format!("g\n.opendump {second}\n||\ng\nr pc\n||0s\nr rip\n.opendump no-such.dmp\nq\n");
    let run = kd(["-z", &sample()]).input(&input).run();
    assert_eq!(run.status, 1);
    let text = after_prompt(&run.stdout, "0: kd> ");
    for wanted in [
        "0: kd> g\nerror: a dump does not run",
        &format!("Opened '{second}'\nType g to load it.\n0: kd> ||\n.  0 64-bit Kernel bitmap dump"),
        "0: kd> g\n",
        "Windows 10 Kernel Version 22000 MP (3 procs) Free ARM 64-bit (AArch64)\n",
        "||1:0: kd> r pc\npc=",
        "||0:0: kd> r rip\nrip=",
        "error: cannot open no-such.dmp: ",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in {text}");
    }
}

/// On most systems an absolute path begins as an option does.
#[test]
fn paths_may_look_like_options() {
    let folder = tempfile::tempdir().unwrap();
    let run = kd(["-z", &sample(), "-c", ".opendump /cases/1.dmp; .opendump /c; q"]).run();
    let wanted = [
        "error: cannot open /cases/1.dmp: ",
        "error: .opendump /c \"MEMBER\" [CABFILE]: the member is missing",
    ];
    assert!(wanted.iter().all(|wanted| run.stdout.contains(wanted)), "{}", run.stdout);
    for name in ["t.log", "d", "u log"] {
        let path = arg(&folder.path().join(name));
        let run =
            kd(["-z", &sample(), "-c", &format!(".logopen /u {path}; .echo logged; .logclose; q")]).run();
        assert_eq!(run.status, 0, "{}", run.stdout);
        assert!(std::fs::read_to_string(&path).unwrap().contains("logged\n"), "{path}");
    }
}

#[test]
fn cabinets_open_by_member() {
    let folder = tempfile::tempdir().unwrap();
    let first = std::fs::read(sample()).unwrap();
    let second = std::fs::read(dump(folder.path(), "x64-22000", Kind::Triage)).unwrap();
    let path = folder.path().join("two.cab");
    let members: [(&str, &[u8]); 3] =
        [("notes.txt", b"text"), ("first.dmp", &first), ("second.dmp", &second)];
    cabinet::write(&path, cab::CompressionType::MsZip, &members).unwrap();
    let cab = arg(&path);
    let input = format!(
        ".opendump {cab}\ng\n.opendump /c second.dmp {cab}\ng\n.opendump /c \"first.dmp\"\ng\n\
         .opendump /c nosuch.dmp\n.opendump /c notes.txt\n||\nq\n"
    );
    let run = kd(["-c", ".echo"]).input(&input).run();
    assert_eq!((run.status, run.stderr.as_str()), (1, ""), "{}", run.stdout);
    let text = &run.stdout;
    for wanted in [
        format!("Opened '{cab}' (first.dmp)"),
        format!("Opened '{cab}' (second.dmp)"),
        format!("   0 64-bit Kernel bitmap dump: {cab} (first.dmp)\n"),
        format!("   1 64-bit Kernel triage dump: {cab} (second.dmp)\n"),
        format!(".  2 64-bit Kernel bitmap dump: {cab} (first.dmp)\n"),
        "the cabinet has no member \"nosuch.dmp\"; it holds \"notes.txt\", \"first.dmp\", \"second.dmp\""
            .to_owned(),
    ] {
        assert!(text.contains(&wanted), "no {wanted:?} in {text}");
    }
    assert!(text.contains("notes.txt is not a kernel dump") || text.contains("not a kernel dump"), "{text}");
}

#[test]
fn a_log_holds_what_was_shown() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("kd.log");
    let one = kd(["-z", &sample(), "-logo", &arg(&log), "-c", ".bugcheck"])
        .input("lm1m\n.logclose\n.time\nq\n")
        .run();
    let text = std::fs::read_to_string(&log).unwrap();
    for wanted in ["Bugcheck code 000000D1\n", "0: kd> lm1m\nhal\nnt\n", "Kernel base = "] {
        assert!(text.contains(wanted), "no {wanted:?} in {text}");
        assert!(one.stdout.contains(wanted));
    }
    assert!(!text.contains("kd> .time"), "the log was closed: {text}");

    // -loga adds, -logo starts anew; .logopen and .logappend do the same.
    kd(["-z", &sample(), "-loga", &arg(&log), "-c", ".echo added; q"]).run();
    let added = std::fs::read_to_string(&log).unwrap();
    assert!(added.starts_with(&text) && added.contains("\nadded\n"), "{added}");
    kd(["-z", &sample(), "-c", &format!(".logopen {}; .echo anew; .logclose; q", arg(&log))]).run();
    let anew = std::fs::read_to_string(&log).unwrap();
    assert!(anew.contains("anew\n") && !anew.contains("added"), "{anew}");
}

#[test]
fn scripts_run_before_commands() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("start.txt"), ".echo script\n.bugcheck\n").unwrap();
    std::fs::write(folder.path().join("ntsd.ini"), ".echo default\n").unwrap();
    let order = |args: &[&str]| {
        let args =
            ["-z", &sample()].into_iter().chain(args.iter().copied()).map(str::to_owned).collect::<Vec<_>>();
        let run = kd(args).in_folder(folder.path()).run();
        assert_eq!(run.status, 0, "{}", run.stdout);
        let known = ["script", "default", "command", "Bugcheck code 000000D1"];
        run.stdout.lines().filter(|line| known.contains(line)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        order(&["-c", ".echo command; q", "-cf", "start.txt"]),
        ["script", "Bugcheck code 000000D1", "command"]
    );
    assert_eq!(order(&["-c", ".echo command; q"]), ["default", "command"]);
    assert_eq!(order(&["-c", ".echo command; q", "-cf", "no-such.txt"]), ["command"]);
}

#[test]
fn options_that_do_nothing_say_so() {
    let run = kd(["-z", &sample(), "-zp", "page.sys", "-srcpath", "src", "-c", "q"]).run();
    assert_eq!(run.status, 0, "{}", run.stderr);
    let shown = run.stdout + &run.stderr;
    for wanted in ["-zp: page files are not read yet", "-srcpath: source text is not shown yet"] {
        assert!(shown.contains(wanted), "no {wanted:?} in {shown}");
    }
}

#[test]
fn registers_at_the_start() {
    let run = kd(["-z", &sample(), "-r", "-c", "q"]).run();
    assert!(run.stdout.contains("\nrip=fffff8046b201000 "), "{}", run.stdout);
}

#[test]
fn version_and_help_need_no_dump() {
    for (argument, says) in
        [("-version", "kd "), ("--version", "kd "), ("-?", "Usage: kd "), ("/?", "-z FILE")]
    {
        let run = kd([argument]).run();
        assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{argument}");
        assert!(run.stdout.contains(says), "{argument}: {}", run.stdout);
    }
}
