//! Objects, searches that build on others, and source lines: `dx`, `r?`, `s` with its flags, `lsa`, `$p`; on the kernel that
//! a compiler built.

use super::code::{crashed, lines_with};
use super::program::kd;
use super::stacks::run;
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use std::path::Path;

#[test]
fn objects_are_opened_level_by_level() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut session) = crashed("x64-19041", folder.path(), &[]);
    let process = session.scope(None).unwrap().register("$proc").unwrap();
    let text = run(&mut session, "dx @$proc");
    let head = format!("@$proc                 : {process:#x} [Type: _EPROCESS *]");
    assert_eq!(text.lines().next(), Some(head.as_str()), "{text}");
    for line in [
        "    [+0x000] Pcb              [Type: _KPROCESS]",
        "    [+0x448] ActiveProcessLinks [Type: _LIST_ENTRY]",
        "    [+0x5a8] ImageFileName    : \"faultapp.exe\" [Type: unsigned char [15]]",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
    let id = lines_with(&text, "] UniqueProcessId ");
    assert!(id.len() == 1 && id[0].contains(" : 0x") && id[0].ends_with(" [Type: void *]"), "{id:?}");
    let bit = lines_with(&text, "[+0x460 ( 0: 0)] JobNotReallyActive : 0x");
    assert!(bit.len() == 1 && bit[0].ends_with("[Type: unsigned long]"), "{text}");
    assert!(lines_with(&text, "CreateTime       : {").len() == 1, "{text}");

    // No level, two levels, a scalar, an array, an enumeration.
    assert_eq!(run(&mut session, "dx -r0 @$proc"), format!("{head}\n"));
    let two = run(&mut session, "dx -r2 @$proc->ActiveProcessLinks");
    assert!(two.starts_with("@$proc->ActiveProcessLinks                 [Type: _LIST_ENTRY]\n"), "{two}");
    assert_eq!(lines_with(&two, "        [+0x008] Blink            : 0x").len(), 2, "{two}");
    assert_eq!(run(&mut session, "dx 1 + 2"), "1 + 2                 : 3 [Type: int]\n");
    assert_eq!(run(&mut session, "dx -1"), "-1                 : -1 [Type: int]\n");
    let name = run(&mut session, "dx @$proc->ImageFileName");
    assert!(name.contains("\n    [0]              : 0x66 [Type: unsigned char]\n"), "{name}");
    assert_eq!(name.lines().count(), 16, "{name}");
    let reason = run(&mut session, "dx (nt!_KWAIT_REASON)5");
    assert!(reason.contains(" : Suspended (5) [Type: _KWAIT_REASON]"), "{reason}");

    // What is not there has its reason; what is not in kd is said.
    let nowhere = run(&mut session, "dx (nt!_LIST_ENTRY*)0x10");
    assert!(nowhere.contains("Flink            : ?? (memory access error at"), "{nowhere}");
    for line in ["dx Debugger.Sessions", "dx @$curprocess.Threads", "dx -g @$proc"] {
        assert!(run(&mut session, line).contains("not in kd"), "{line}");
    }
    assert!(run(&mut session, "dx -r77 @$proc").contains("0 to 9 levels"));
    // Pointers in a circle, nine deep: it ends by itself.
    let deep = run(&mut session, "dx -r9 @$proc");
    assert!(deep.lines().count() <= (1 << 16) + 2, "{}", deep.lines().count());
}

#[test]
fn objects_are_records_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::build(Options::of("x64-19041", Story::CrashInDriver));
    let (dump, store) = (folder.path().join("dump"), folder.path().join("store"));
    writer::write(&world, Kind::BitmapFull, &dump).unwrap();
    world.write_symbols(&store).unwrap();
    let line = "dx @$proc->ActiveProcessLinks; q";
    let played =
        kd(["--json", "-z", dump.to_str().unwrap(), "-y", store.to_str().unwrap(), "-c", line]).run();
    let records = played.records();
    let record = records.iter().find(|record| record["command"] == "dx @$proc->ActiveProcessLinks").unwrap();
    let object = &record["data"]["object"];
    assert_eq!(object["type"], "_LIST_ENTRY", "{record}");
    assert_eq!(object["members"][1]["name"], "Blink", "{record}");
    assert_eq!(object["members"][1]["offset"], "0x8", "{record}");
    assert!(object["members"][1]["value"].as_str().unwrap().starts_with("0x"), "{record}");
}

#[test]
fn pseudo_registers_take_types() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut session) = crashed("x64-19041", folder.path(), &[]);
    assert_eq!(run(&mut session, "r? $t3 = @$proc"), "");
    let own = run(&mut session, "?? @$proc->UniqueProcessId");
    assert_eq!(run(&mut session, "?? @$t3->UniqueProcessId"), own);
    assert!(run(&mut session, "dx -r0 @$t3").contains("[Type: _EPROCESS *]"));
    // MASM sees the number, an array becomes a pointer, `r` takes the type away again.
    assert_eq!(run(&mut session, "? @$t3 - @$proc"), "Evaluate expression: 0 = 00000000`00000000\n");
    run(&mut session, "r? $t4 = @$proc->ImageFileName");
    assert!(run(&mut session, "?? @$t4").contains("unsigned char * 0x"));
    assert!(run(&mut session, "?? @$t4").contains("\"faultapp.exe\""));
    run(&mut session, "r $t3 = 5");
    assert_eq!(run(&mut session, "?? @$t3"), "unsigned int64 5\n");
    assert!(run(&mut session, "r? $t3 = *@$proc").contains("take the address with &"));
    assert!(run(&mut session, "r? rax = 5").contains("$t0 to $t19"));

    // The last value that d showed.
    run(&mut session, "dd nt!PsLoadedModuleList L2");
    let shown = run(&mut session, "? @$p == dwo(nt!PsLoadedModuleList+4)");
    assert_eq!(shown, "Evaluate expression: 1 = 00000000`00000001\n");
}

#[test]
fn searches_build_on_searches() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut session) = crashed("x64-19041", folder.path(), &[]);
    // Text in the program's name, then what of it goes on as wanted.
    let all = run(&mut session, "s -[s]a @$proc L800 \"f\"");
    let hits = all.lines().count();
    assert!(hits >= 1, "{all}");
    let narrowed = run(&mut session, "s -[r]a @$proc L800 \"faultapp\"");
    assert_eq!(narrowed.lines().count(), 1, "{narrowed}");
    assert!(all.contains(&narrowed), "{all}\n{narrowed}");
    // The kept hits are those of the flag s, and only those in the range.
    assert_eq!(run(&mut session, "s -[r]a @$proc L800 \"faultapp\""), narrowed);
    assert_eq!(run(&mut session, "s -[r]a @$proc L100 \"faultapp\""), "");
    let texts = run(&mut session, "s -[rl8]sa @$proc L800");
    assert!(texts.contains("\"faultapp.exe\""), "{texts}");
    assert!(run(&mut session, "s -[sr]a @$proc L800 \"x\"").contains("exclude each other"));

    // Whatever begins with the same pointer as an object is of its class.
    let objects = run(&mut session, "s -[1]v nt!PsLoadedModuleList L8 nt!PsLoadedModuleList");
    let pointers = run(&mut session, "s -[1]q nt!PsLoadedModuleList L8 poi(nt!PsLoadedModuleList)");
    assert!(!objects.is_empty() && objects == pointers, "{objects}\n{pointers}");
    assert!(run(&mut session, "s -v nt!PsLoadedModuleList L8 0x10").contains("error"));
}

#[test]
fn source_lines_lead_to_code_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    for generation in ["x64-19041", "x86-7601", "arm64-22000"] {
        let (_, mut session) = crashed(generation, folder.path(), &[]);
        run(&mut session, ".lines -e");
        // The code of a line is at a line of that number.
        run(&mut session, "ld faultdrv");
        for line in ["`faultdrv!faultdrv.c:17`", "`faultdrv.c:17`", "`kernels\\faultdrv.c:17+`"] {
            let place = run(&mut session, &format!("ln {line}"));
            assert!(
                place.contains("faultdrv.c(17)") || place.contains("faultdrv.c @ 17"),
                "{generation} {line}: {place}"
            );
        }
        assert!(
            run(&mut session, "? `faultdrv!nosuch.c:1`")
                .contains("couldn't resolve error at '`faultdrv!nosuch.c:1`'")
        );
        assert!(run(&mut session, "? `faultdrv.c:60000`").contains("couldn't resolve"));

        let none = run(&mut session, "lsa `faultdrv!faultdrv.c:17`");
        assert!(none.contains("the source path is empty"), "{none}");
        run(&mut session, &format!(".srcpath {}", sources.display()));
        let shown = run(&mut session, "lsa `faultdrv!faultdrv.c:17`");
        let text = std::fs::read_to_string(sources.join("faultdrv.c")).unwrap();
        let wanted = format!(">   17: {}", text.lines().nth(16).unwrap());
        assert!(shown.lines().any(|line| line == wanted) && shown.lines().count() == 10, "{shown}");
        assert!(run(&mut session, "ls").starts_with("    22: "));
        assert!(run(&mut session, "ls 1, 1") == format!("     1: {}\n", text.lines().next().unwrap()));
        assert!(run(&mut session, "lsa nt!KeBugCheckEx + 100000").contains("private symbol file"));
    }
}
