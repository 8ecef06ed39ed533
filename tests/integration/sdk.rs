//! What the SDK gives extensions, asked by the testbed extension of systems of which the truth is known: stacks, code,
//! typed expressions, physical memory, lists, objects, address spaces.

use crate::program::{Run, arg, kd, sample};
use kd_tests::kd_exe;
use kd_tests::lab::layout::Machine;
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};

/// What each command says on this system, between its own marks.
fn said(world: &World, kind: Kind, commands: &[String]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    writer::write(world, kind, &path).unwrap();
    world.write_symbols(&folder.path().join("symbols")).unwrap();
    let testbed = kd_exe().with_file_name(format!("{DLL_PREFIX}testbed{DLL_SUFFIX}"));
    let mut line = format!(".load {}", testbed.display());
    for command in commands {
        line.push_str(&format!("; .echo <<<; {command}"));
    }
    line.push_str("; q");
    let store = arg(&folder.path().join("symbols"));
    let Run { stdout, .. } = kd(["-y", &store, "-z", &arg(&path), "-c", &line]).run();
    let parts: Vec<String> = stdout.split("<<<\n").skip(1).map(str::to_owned).collect();
    assert_eq!(parts.len(), commands.len(), "{stdout}");
    parts
}

/// Lists, objects, address spaces, structures read at once, and stacks of threads, on old and new systems.
#[test]
fn extensions_read_processes_objects_and_stacks() {
    for name in ["x86-2600", "x64-7601", "x64-19041", "arm64-22000"] {
        let world = World::build(Options::of(name, Story::Deadlock));
        let machine = world.options.generation.machine;
        let wide = machine.pointer_size() == 8;
        let shown = |address: u64| match wide {
            true => format!("{:08x}`{:08x}", address >> 32, address as u32),
            false => format!("00000000`{:08x}", address as u32),
        };
        let waiting: Vec<_> = world
            .threads
            .iter()
            .filter(|thread| {
                thread.state == 5 && thread.stack.first().is_some_and(|f| is_kernel(&world, f.pc))
            })
            .collect();
        let objects = world.facts["objects"].as_array().unwrap();
        let mut commands = vec!["!tstack".to_owned(), "!tprocesses".to_owned(), "!tphysical".to_owned()];
        commands.extend(objects.iter().map(|object| format!("!tobject 0n{}", object["object"])));
        commands.extend(waiting.iter().map(|thread| format!("!tstack thread {:#x}", thread.ethread.0)));
        commands.push("!tstack".to_owned());
        let said = said(&world, Kind::BitmapFull, &commands);
        let mut said = said.iter();
        let own = said.next().unwrap();

        let list = said.next().unwrap();
        assert_eq!(list.lines().count(), world.processes.len(), "{name}: {list}");
        for (line, process) in list.lines().zip(&world.processes) {
            let wanted = format!("{} {:#x} {} Process ", shown(process.eprocess.0), process.id, process.name);
            assert!(line.starts_with(&wanted) && line.ends_with(" true"), "{name}: {line}: {wanted}");
        }
        let physical = said.next().unwrap();
        let frames = writer_frames(&world);
        assert!(physical.contains(&format!(" runs, {frames} pages, ")), "{name}: {physical} {frames}");
        for object in objects {
            let wanted =
                format!("{} {}\n", object["type"].as_str().unwrap(), object["path"].as_str().unwrap());
            assert_eq!(said.next().unwrap(), &wanted, "{name}");
        }
        for thread in &waiting {
            let walked = said.next().unwrap();
            let wanted: Vec<_> =
                thread.stack.iter().take_while(|frame| is_kernel(&world, frame.pc)).collect();
            let rows: Vec<&str> = walked.lines().take_while(|line| !line.starts_with(' ')).collect();
            // The first place, then what each frame returns to: symbols may have two names for one address.
            let returns = rows.iter().filter_map(|row| row.split_whitespace().nth(1));
            let returns: Vec<String> = returns.map(|word| word.replace('`', "")).collect();
            // What the scheduler of arm64 leaves on a stack is not public.
            if machine == Machine::Arm64 {
                assert!(!rows.is_empty(), "{name}: {walked}");
                continue;
            }
            assert_eq!(site(rows[0]), Some(wanted[0].symbol.as_str()), "{name}: {walked}");
            for (found, frame) in returns.iter().zip(&wanted[1..]) {
                assert_eq!(*found, format!("{:016x}", frame.pc), "{name} thread {:x}:\n{walked}", thread.id);
            }
            assert!(rows.len() >= wanted.len(), "{name} thread {:x}:\n{walked}", thread.id);
            // The table shows the same frames, moved right.
            let (heading, table) = walked.split_once("\n        Child").unwrap();
            let table_rows: Vec<&str> =
                table.lines().skip(1).filter(|line| !line.starts_with("        [scan]: ")).collect();
            assert_eq!(heading.lines().count(), table_rows.len(), "{name}:\n{walked}");
            assert!(table_rows.iter().all(|line| line.starts_with("        ")), "{name}:\n{walked}");
        }
        // Nobody changed what the user looks at.
        assert!(!own.starts_with("error"), "{name}: {own}");
        assert_eq!(said.next(), Some(own), "{name}");
    }
}

/// The place in a line of `!tstack`, in the laboratory's spelling.
fn site(line: &str) -> Option<&str> {
    line.split_whitespace().nth(2)
}

fn is_kernel(world: &World, pc: u64) -> bool {
    pc >= world.options.generation.system_start().0
}

fn writer_frames(world: &World) -> u64 {
    Kind::BitmapFull.frames(world).iter().map(|run| run.count).sum()
}

/// Contexts that are chosen, instructions, types, and why something cannot be had.
#[test]
fn extensions_see_what_was_chosen() {
    let testbed = kd_exe().with_file_name(format!("{DLL_PREFIX}testbed{DLL_SUFFIX}"));
    let symbols = arg(&kd_tests::fixtures().join("symbols"));
    let line = format!(
        ".load {}; .echo <<<; !tstack; .echo <<<; .trap fffffb88`0d3f5a00; .echo <<<; !tstack; .echo <<<; \
         !tstack trap fffffb88`0d3f5a00; .echo <<<; !tcode faultdrv!ReadSensor+10; .echo <<<; \
         !ttyped ((nt!_ETHREAD*)@$thread)->Cid; .echo <<<; !ttyped 6*7; .echo <<<; !tstack thread 10; .echo <<<; \
         !tstack processor 77; .echo <<<; !tcode 10; q",
        testbed.display()
    );
    let stdout = kd(["-y", &symbols, "-z", &sample(), "-c", &line]).run().stdout;
    let said: Vec<&str> = stdout.split("<<<\n").skip(1).collect();
    let [own, _, chosen, trap, code, typed, number, thread, processor, nowhere] = said[..] else {
        panic!("{stdout}")
    };
    let first = |text: &str| text.lines().next().and_then(site).unwrap_or_default().to_owned();
    assert_eq!(first(own), "nt!KeBugCheckEx");
    assert_eq!(first(chosen), "faultdrv!ReadSensor+0x10");
    assert_eq!(chosen, trap);
    let lines: Vec<&str> = code.lines().collect();
    assert!(lines[2].starts_with("fffff804`6c301090 2 Next mov     eax,dword ptr [rcx]"), "{code}");
    assert_eq!(lines.len(), 4, "{code}");
    assert!(typed.contains(" size 16 kind 4 _CLIENT_ID\n"), "{typed}");
    assert_eq!(number, "0x2a at - size 4 kind 2 \n");
    assert!(thread.starts_with("error: Unable to read thread: 00000000`00000"), "{thread}");
    assert!(processor.starts_with("error: there is no processor 119; the dump has 2"), "{processor}");
    assert!(nowhere.starts_with("error: cannot read 00000000`0000000f: not mapped"), "{nowhere}");
}
