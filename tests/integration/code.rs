//! What commands tell of code: calls in line, parameters, lines, frames, modules of processes, lists, searches; on
//! kernels that a compiler built, and structures of real dumps.

use super::stacks::{open, run, session};
use kd::session::Session;
use kd_sdk::address::Va;
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use std::path::Path;

/// A session on the crash in a driver, with symbols.
pub fn crashed(generation: &str, folder: &Path, arguments: &[&str]) -> (World, Session) {
    let world = World::build(Options::of(generation, Story::CrashInDriver));
    let (dump, store) = (folder.join("dump"), folder.join("store"));
    writer::write(&world, Kind::BitmapFull, &dump).unwrap();
    world.write_symbols(&store).unwrap();
    let mut all = vec!["-y", store.to_str().unwrap()];
    all.extend(arguments);
    let mut session = session(&all);
    open(&mut session, &dump);
    (world, session)
}

pub fn lines_with<'t>(text: &'t str, what: &str) -> Vec<&'t str> {
    text.lines().filter(|line| line.contains(what)).collect()
}

#[test]
fn calls_in_line_have_rows_and_variables() {
    let folder = tempfile::tempdir().unwrap();
    for (generation, mark) in [
        ("x64-19041", "(Inline Function) --------`-------- faultdrv!SensorValue"),
        ("x86-7601", "(Inline) -------- faultdrv!SensorValue"),
        ("arm64-22000", "(Inline Function) --------`-------- faultdrv!SensorValue"),
    ] {
        let (_, mut session) = crashed(generation, folder.path(), &[]);
        let numbered = run(&mut session, "kn");
        let row = lines_with(&numbered, mark);
        assert_eq!(row.len(), 1, "{generation}: {numbered}");
        assert!(!numbered.contains(" @ "), "no lines unless asked for: {numbered}");
        let number = row[0].split(' ').next().unwrap().to_owned();
        // The frame around it comes next, with its own function.
        let next = numbered.lines().skip_while(|line| *line != row[0]).nth(1).unwrap();
        assert!(next.contains("faultdrv!ReadSensor+0x"), "{numbered}");

        run(&mut session, ".lines -e");
        let lined = run(&mut session, "kn");
        for (function, line) in [("SensorValue", "faultdrv.c @ 1"), ("ReadSensor", "faultdrv.c @ 17]")] {
            let row = lines_with(&lined, &format!("faultdrv!{function}"));
            assert!(row.len() == 1 && row[0].contains(&format!("[C:\\kernels\\{line}")), "{lined}");
        }
        assert!(!run(&mut session, "knL").contains(" @ "));
        run(&mut session, ".lines -d");

        // The variables are those of the frame that is current.
        let shown = run(&mut session, &format!(".frame {number}"));
        assert!(shown.contains("SensorValue"), "{shown}");
        let locals = run(&mut session, "dv /i /t");
        assert!(locals.contains("prv param  Ptr") && locals.contains("SENSOR from = 0x"), "{locals}");
        let outer = format!("{:x}", u32::from_str_radix(&number, 16).unwrap() + 1);
        run(&mut session, &format!(".frame {outer}"));
        let locals = run(&mut session, "dv");
        assert!(locals.contains("channel = ") && !locals.contains("from = "), "{locals}");
        let frame = run(&mut session, "? @$frame");
        assert!(
            frame.contains(&format!("expression: {}", u32::from_str_radix(&outer, 16).unwrap())),
            "{frame}"
        );
        // What it returns to is the next function.
        assert!(run(&mut session, "ln @$ra").contains("faultdrv!DispatchDeviceControl+0x"));
        run(&mut session, &format!(".frame /c {outer}"));
        let first = run(&mut session, "k 2");
        assert!(lines_with(&first, "faultdrv!").len() == 2, "{first}");
    }
}

#[test]
fn parameters_have_types_names_and_values() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut session) = crashed("x64-19041", folder.path(), &[]);
    let text = run(&mut session, "kp");
    let row = lines_with(&text, "faultdrv!ReadSensor(");
    assert!(row.len() == 1 && row[0].contains("(SENSOR* sensor = 0x"), "{text}");
    assert!(row[0].contains(", unsigned long channel = 0x") && row[0].contains(")+0x"), "{text}");
    let each = run(&mut session, "kP");
    assert!(each.contains("faultdrv!ReadSensor(\n\t\t\tSENSOR* sensor = "), "{each}");
    assert!(each.contains(",\n\t\t\tunsigned long channel = "), "{each}");
    // A volatile register of a caller is lost, and that is said.
    assert!(
        text.contains("faultdrv!DispatchDeviceControl(_DEVICE_OBJECT* device = <value unavailable>"),
        "{text}"
    );
}

#[test]
fn modules_of_processes_are_found() {
    let folder = tempfile::tempdir().unwrap();
    for generation in ["x64-19041", "x64-7601", "x86-7601", "arm64-22000"] {
        let (world, mut session) = crashed(generation, folder.path(), &[]);
        assert!(run(&mut session, "lm u").contains("ntdll"), "{generation}");
        assert!(!run(&mut session, "lm k").contains("ntdll"), "{generation}");
        // Another process has none of them; the first gets its own back.
        let own = session.scope(None).unwrap().register("$proc").unwrap();
        let other = world.processes.iter().map(|process| process.eprocess.0).find(|at| *at != own).unwrap();
        run(&mut session, &format!(".process {other:#x}"));
        assert!(!run(&mut session, "lm u").contains("ntdll"), "{generation}");
        let none = run(&mut session, ".reload /user");
        assert!(none.contains("Unable to retrieve the PEB address"), "{generation}: {none}");
        run(&mut session, &format!(".process /r /p {own:#x}"));
        assert!(run(&mut session, "lm u").contains("ntdll"), "{generation}");
        assert!(run(&mut session, "x ntdll!NtReadFile").contains("ntdll!NtReadFile"), "{generation}");
        run(&mut session, ".process");
        assert!(run(&mut session, "lm u").contains("faultapp"), "{generation}");
    }
}

#[test]
fn modules_can_be_put_at_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut session) = crashed("x64-19041", folder.path(), &[]);
    assert_eq!(run(&mut session, ".reload ghost.sys=fffff000`00010000,2000"), "");
    assert!(run(&mut session, "lm m ghost").contains("fffff000`00010000 fffff000`00012000   ghost"));
    assert!(run(&mut session, "? ghost").contains("fffff000`00010000"));
    let twice = run(&mut session, ".reload second.sys=fffff000`00011000,2000");
    assert!(twice.contains("ghost is at"), "{twice}");
    run(&mut session, ".reload /u ghost");
    assert!(!run(&mut session, "lm").contains("ghost"));
    // A driver that was unloaded, where it was.
    run(&mut session, ".reload /unl dam.sys");
    assert!(run(&mut session, "lm o").contains("dam"), "{}", run(&mut session, "lm o"));
    assert!(run(&mut session, ".reload /unl nosuch.sys").contains("no unloaded module is called nosuch.sys"));
}

#[test]
fn lists_run_commands() {
    let folder = tempfile::tempdir().unwrap();
    let (world, mut session) = crashed("x64-19041", folder.path(), &[]);
    // Every process and the head of the list, from the first process on.
    let text = run(
        &mut session,
        "!list -t nt!_EPROCESS.ActiveProcessLinks.Flink -x \"? @$extret\" poi(nt!PsInitialSystemProcess)",
    );
    for process in &world.processes {
        assert!(text.contains(&format!("{}", process.eprocess)), "{}: {text}", process.eprocess);
    }
    assert_eq!(lines_with(&text, "Evaluate").len(), world.processes.len() + 1, "{text}");
    let three = run(&mut session, "!list -t nt!_LIST_ENTRY.Flink -e -m 3 nt!PsLoadedModuleList");
    assert_eq!(lines_with(&three, "dp ").len(), 3, "{three}");
    let wrong = run(&mut session, "!list -t nt!_EPROCESS.NoSuch nt!PsLoadedModuleList");
    assert!(wrong.contains("has no field NoSuch"), "{wrong}");
}

#[test]
fn instructions_are_searched_for() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut session) = crashed("x64-19041", folder.path(), &[]);
    let first = run(&mut session, "# call nt!IofCallDriver");
    assert!(first.contains("nt!IofCallDriver+0x") && first.contains("call"), "{first}");
    let second = run(&mut session, "#");
    assert!(second.contains("call") && second != first, "{second}");
    assert!(run(&mut session, "# nosuch nt!IofCallDriver L4").contains("no instruction before"));
}

#[test]
fn symbol_options_change_what_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut session) = crashed("x64-19041", folder.path(), &[]);
    assert!(run(&mut session, "? nt!kebugcheckex").contains("Evaluate"));
    run(&mut session, ".symopt- 1");
    assert!(run(&mut session, "? nt!kebugcheckex").contains("error"));
    assert!(run(&mut session, "? nt!KeBugCheckEx").contains("Evaluate"));
    // A driver's static variable is private.
    assert!(run(&mut session, "x faultdrv!Sink").contains("faultdrv!Sink"));
    run(&mut session, ".symopt+ 4000");
    run(&mut session, ".reload /s");
    assert_eq!(run(&mut session, "x faultdrv!Sink"), "");
    // The suffix of names that are not found.
    assert!(run(&mut session, "? nt!KeBugCheckE").contains("error"));
}

#[test]
fn structures_of_real_dumps_are_where_the_processors_say() {
    let Some(shared) = kd_tests::shared() else { return };
    let store = format!("srv*{}", shared.join("symbols/symstore").display());
    for name in ["x64-19041-7e.dmp", "x64-19041-50-nx.dmp"] {
        let dump = shared.join("dumps/real").join(name);
        if !dump.is_file() {
            eprintln!("skipped: {} is not there", dump.display());
            continue;
        }
        let mut session = session(&["-y", &store]);
        open(&mut session, &dump);
        let processors: Vec<(u32, Option<u64>)> = session
            .current_target()
            .unwrap()
            .target
            .processors()
            .iter()
            .map(|processor| (processor.number, processor.prcb.map(|va| va.0)))
            .collect();
        let saved = session.current_target().unwrap().target.current_processor();
        let mut seen = 0;
        for (number, block) in processors {
            let Some(block) = block else { continue };
            let text = run(&mut session, &format!("dt nt!_KPRCB {block:#x} Number CurrentThread"));
            // A small dump keeps the block of the processor that crashed.
            if number == saved {
                let told = text.lines().find(|line| line.contains(" Number "));
                assert!(told.is_some_and(|line| line.ends_with(&format!(": {number}"))), "{name}: {text}");
            }
            seen += 1;
        }
        assert!(seen > 0, "{name}");
        for (line, wanted) in [
            ("dt nt!_EPROCESS @$proc ImageFileName UniqueProcessId", "ImageFileName"),
            ("dt nt!_ETHREAD @$thread Cid", "_CLIENT_ID"),
            ("x nt!PsInitialSystem*", "nt!PsInitialSystemProcess"),
            ("ln nt!KeBugCheckEx", "Exact matches:"),
            ("dps @$csp L8", "nt!"),
        ] {
            let text = run(&mut session, line);
            assert!(text.contains(wanted) && !text.contains("error"), "{name} {line}: {text}");
        }
    }
}

#[test]
fn programs_of_32_bits_are_looked_at_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::build(Options::of("x64-19041", Story::Wow64));
    let (dump, store) = (folder.path().join("dump"), folder.path().join("store"));
    world.write_symbols(&store).unwrap();
    writer::write(&world, Kind::Full, &dump).unwrap();
    let arguments = ["-y", store.to_str().unwrap()];
    let mut first = session(&arguments);
    open(&mut first, &dump);
    assert!(run(&mut first, ".effmach arm64").contains("it runs no code of"));
    let teb = first.scope(None).unwrap().register("$teb").unwrap();
    let peb = world.facts["wow64"]["peb32"].as_u64().unwrap();

    // The emulation keeps the registers behind slot 1 of the TEB.
    let area = peb + 0x800;
    let mut record = vec![0; 4 + 0x2cc];
    record[2..4].copy_from_slice(&0x14cu16.to_le_bytes());
    for (offset, value) in [(0xb8usize, 0x0040_1234u32), (0xc4, 0x0018_ff00), (0xb0, 0xdead), (0, 0x1_003f)] {
        record[4 + offset..][..4].copy_from_slice(&value.to_le_bytes());
    }
    for (va, bytes) in [(teb + 0x1480 + 8, area.to_le_bytes().to_vec()), (area, record)] {
        let target = &first.current_target().unwrap().target;
        let at = target.translate(Va(va)).unwrap().unwrap().pa;
        world.memory.write(at, &bytes);
    }
    writer::write(&world, Kind::Full, &dump).unwrap();

    let mut session = session(&arguments);
    open(&mut session, &dump);
    let own = session.prompt();
    assert!(run(&mut session, ".effmach x86").contains("Effective machine: x86 compatible (x86)"));
    assert_eq!(session.prompt(), own.replace("kd>", "kd:x86>"));
    let registers = run(&mut session, "r");
    assert!(
        registers.contains("eip=00401234 esp=0018ff00") && registers.contains("eax=0000dead"),
        "{registers}"
    );
    assert!(run(&mut session, "k 1").starts_with("ChildEBP RetAddr"));
    assert!(
        run(&mut session, "? @$ptrsize").contains("= 8")
            || run(&mut session, "? @$ptrsize").contains("00000008")
    );
    run(&mut session, ".effmach .");
    assert!(run(&mut session, "r rip").starts_with("rip="));
    let thread = session.scope(None).unwrap().register("$thread").unwrap();
    assert!(run(&mut session, &format!(".thread /w {thread:#x}")).contains("x86 context set"));
    assert!(run(&mut session, "r eip").contains("eip=00401234"));
    run(&mut session, ".effmach amd64");
    assert!(run(&mut session, "r").contains("the registers that were chosen are those of x86 code"));
    run(&mut session, ".thread");
    assert!(run(&mut session, "r rip").starts_with("rip="));
}
