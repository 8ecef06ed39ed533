//! Small dumps and mere headers: the crashing thread and its process are shown as they are, and of all else it is said
//! that the dump does not hold it.

use super::super::every_kind::{Case, list, number};
use super::{absent, addresses, blocks, facts, hex, ids, program};
use kd_tests::lab::writer::Kind;

pub fn check(case: &Case<'_>, commands: &[String]) {
    match case.kind {
        Kind::HeaderOnly => header(case, commands),
        _ => triage(case),
    }
}

/// Nothing but the header: every command says so.
fn header(case: &Case<'_>, commands: &[String]) {
    let what = &case.what;
    for command in commands.iter().filter(|command| command.starts_with('!')) {
        let record = case.record(command);
        assert_eq!(record["status"], "failed", "{what}: {record}");
        let text = case.said(command);
        assert!(text.contains("memory is not captured"), "{what}: {command}: {text}");
        let data = record["data"].as_object().unwrap();
        assert!(data.values().all(|value| list(value).is_empty()), "{what}: {command}: {record}");
    }
}

fn triage(case: &Case<'_>) {
    let what = &case.what;
    let (own, thread) = (program(case.truth), number(&case.truth["thread"]));
    // The crashing process and thread, by every form.
    for command in
        ["!process", "!process -1 0", "!process 1a8c 1", "!process 0 0", "!process 0 17", "!for_each_process"]
    {
        assert_eq!(addresses(case, command), [own], "{what}: {command}");
    }
    let shown = &list(&case.data("!process 0 17")["processes"])[0];
    blocks::fields(case, shown);
    // Its session and its handle table are elsewhere.
    assert!(shown["session"].is_null() && shown["handle_count"].is_null(), "{what}: {shown}");
    assert_eq!(ids(&shown["threads"], "address"), [thread], "{what}");
    for command in ["!thread", "!thread -p -1 0", "!thread -t 1a90 2", "!for_each_thread"] {
        assert_eq!(ids(&case.data(command)["threads"], "address"), [thread], "{what}: {command}");
    }
    for shown in [&list(&shown["threads"])[0], &list(&case.data("!thread")["threads"])[0]] {
        blocks::thread(case, shown);
        let truth = list(&case.truth["threads"]).iter().find(|truth| truth["ethread"] == thread).unwrap();
        let frames: Vec<_> =
            list(&shown["frames"]).iter().filter(|frame| frame.get("inlined").is_none()).collect();
        // Without unwind data some frames may be missing; none is invented.
        let stack = list(&truth["stack"]);
        assert!(frames.len() >= 3, "{what}: {frames:?}");
        for frame in &frames {
            let ip = number(&frame["ip"]);
            assert!(stack.iter().any(|wanted| wanted["pc"] == ip), "{what}: {frame}");
        }
    }
    assert_eq!(number(&case.data("!thread -p -1 0")["owner"]["address"]), own, "{what}");
    // A list that is not there is never an empty one.
    for command in ["!process 0 0", "!process 0 17", "!stacks", "!stacks 1"] {
        assert_eq!(case.data(command)["complete"], false, "{what}: {command}");
        assert!(case.said(command).contains("not captured"), "{what}: {command}");
    }
    let counts = |command: &str| ["threads", "shown"].map(|key| number(&case.data(command)[key]));
    assert_eq!(counts("!stacks 1"), [1, 1], "{what}");
    let session = case.data("!session");
    assert!(session["sessions"].is_null() && session["current"].is_null(), "{what}: {session}");
    assert!(session["complete"] == false && session.get("outside").is_none(), "{what}: {session}");
    assert!(case.said("!session").contains("not captured"), "{what}");
    for (command, text) in [
        ("!process 0 0 nosuch.exe", "none of the 1 processes that can be told is called nosuch.exe"),
        ("!process 0 0 WORKER.exe", "none of the 1 processes that can be told is called WORKER.exe"),
        ("!process /s 1 0 0", "of no process can be told whether it is in session 1"),
        ("!sprocess 0 0", "of no process can be told whether it is in session 0"),
        ("!process /m ntdll 0 0", "of no process can be told whether it has the module ntdll"),
        ("!session -s 0", "no process that can be read is in session 0"),
        ("!process 9a0 0", "no process that can be read has Cid 9a0"),
        ("!thread -t fff0", "no thread that can be read has the id fff0"),
    ] {
        absent(case, command);
        assert!(case.said(command).contains(text), "{what}: {command}: {}", case.said(command));
    }
    processors(case);
    // What is elsewhere altogether.
    let mut elsewhere: Vec<String> =
        ["!token", "!peb", "!teb", "!sprocess", "!sprocess -1 0"].map(str::to_owned).into();
    for (name, key, form) in [
        ("tokens", "token", "!token {}"),
        ("irps", "irp", "!irp {} 1"),
        ("environments", "process", "!peb -p {}"),
    ] {
        elsewhere.extend(super::each(case.truth, name, key, form));
    }
    elsewhere.extend(facts(case, "tebs").iter().map(super::teb));
    elsewhere.push(format!("!job {}", hex(&case.truth["facts"]["job"]["job"])));
    elsewhere.push("!handle 0 21".into());
    for command in &elsewhere {
        absent(case, command);
    }
    // Of the process that is there: what leads out of it.
    for command in ["!handle 8 3".to_owned(), format!("!handle 0 3 {own:#x}"), "!handle 0 1 0".into()] {
        let table = &list(&case.data(&command)["tables"])[0];
        assert_eq!(number(&table["process"]["address"]), own, "{what}: {command}");
        assert!(
            table.get("handles").is_none() && case.said(&command).contains("not captured"),
            "{what}: {command}"
        );
    }
    if case.generation.find("_EPROCESS.VadRoot").is_some() {
        let command = format!("!vad {own:#x}");
        let data = case.data(&command);
        assert!(data["complete"] == false && data.get("totals").is_none(), "{what}: {data}");
        assert!(case.said(&command).contains("not captured"), "{what}");
    }
}

fn processors(case: &Case<'_>) {
    let what = &case.what;
    let data = case.data("!running -i -t");
    let all = list(&case.truth["processors"]);
    assert_eq!(number(&data["processors"]), (1 << all.len()) - 1, "{what}");
    assert_eq!(number(&data["idle_processors"]), 0, "{what}");
    assert_eq!(ids(&data["running"], "prcb"), [number(&all[0]["prcb"])], "{what}");
    assert_eq!(ids(&data["running"], "current"), [number(&case.truth["thread"])], "{what}");
    for number in 1..all.len() {
        assert!(case.said("!running -i -t").contains(&format!("processor {number}: the PRCB")), "{what}");
    }
    let ready = case.record("!ready 0").to_string();
    assert!(ready.contains("not captured"), "{what}: {ready}");
}
