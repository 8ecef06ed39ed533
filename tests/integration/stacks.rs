//! Stacks and code: what the laboratory knows is what kd finds, on every machine, from dumps with and without the
//! images' bytes; and what KD printed for real dumps.

use kd::cli::{Environment, Request};
use kd::dump::{Dump, OpenOptions};
use kd::session::Session;
use kd::target::unwind::{FrameSource, Origin};
use kd::ui::{Capture, Color, Ui, UiOptions};
use kd_sdk::output::Out;
use kd_tests::lab::layout::{GENERATIONS, Machine};
use kd_tests::lab::world::{Options, Probe, Story, World};
use kd_tests::lab::writer::{self, Kind};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub fn session(arguments: &[&str]) -> Session {
    let options = UiOptions { json: false, color: Color::Never, ..UiOptions::default() };
    let ui = Ui::with_streams(options, false, Box::new(io::sink()), Box::new(io::sink()));
    let environment = Environment { no_bugcheck_analysis: true, ..Environment::default() };
    match kd::cli::parse(arguments.iter().map(OsString::from)) {
        Ok(Request::Run(parsed)) => Session::new(Arc::new(ui), &parsed, &environment),
        other => panic!("{arguments:?}: {other:?}"),
    }
}

pub fn open(session: &mut Session, path: &Path) {
    let dump =
        Dump::open(path, &OpenOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    session.attach(dump);
}

pub fn run(session: &mut Session, line: &str) -> String {
    let capture = Capture::new();
    let result = session.run(line, &Out::new(&capture));
    let text = capture.into_text();
    // What ends in an error without words has said it in the text.
    match result.map_err(|error| error.to_string()) {
        Err(error) if !error.is_empty() => format!("{text}error: {error}\n"),
        _ => text,
    }
}

/// The ten frames of the crash in every dump with memory, with no symbols at all.
#[test]
fn stacks_of_the_laboratory_are_those_it_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    for world in super::lab::worlds() {
        for kind in [Kind::Full, Kind::BitmapFull, Kind::BitmapKernel] {
            if world.options.generation.machine == Machine::X86 && kind as u32 >= 8 {
                continue;
            }
            writer::write(&world, kind, &path).unwrap();
            let mut session = session(&[]);
            open(&mut session, &path);
            check(&world, &mut session, &format!("{} {kind:?}", world.options.generation.name));
        }
    }
}

fn check(world: &World, session: &mut Session, what: &str) {
    let x86 = world.options.generation.machine == Machine::X86;
    let frames = session.scope(None).unwrap().stack(64).unwrap();
    // Before Windows 7 the dump's header has the registers at the fault, three frames out.
    let first = world.crash.stack.iter().position(|frame| frame.pc as u32 == frames[0].ip.0 as u32);
    let truth = &world.crash.stack[first.unwrap_or_else(|| panic!("{what}: {}", frames[0].ip))..];
    assert!(truth.len() >= 7, "{what}");
    assert!(frames.len() >= truth.len(), "{what}: {} frames", frames.len());
    for (number, (found, wanted)) in frames.iter().zip(truth).enumerate() {
        let same = |a: u64, b: u64| if x86 { a as u32 == b as u32 } else { a == b };
        assert!(same(found.ip.0, wanted.pc), "{what} frame {number}: {} for {:#x}", found.ip, wanted.pc);
        assert!(found.source.is_certain(), "{what} frame {number}: {:?}", found.source);
        // The chain of ebp does not tell stack pointers to the byte.
        assert!(x86 || found.sp.0 == wanted.sp, "{what} frame {number}: {} for {:#x}", found.sp, wanted.sp);
    }
    let machine = world.options.generation.machine;
    if machine != Machine::Arm64 {
        let traps = frames.iter().filter(|frame| frame.trap_frame.is_some()).count();
        assert_eq!(traps, if truth.len() == 10 { 2 } else { 1 }, "{what}");
    }
    // Behind the crash there is at most the user's own frame.
    for frame in frames.get(truth.len()..).unwrap_or_default() {
        assert_eq!(frame.source, FrameSource::Trap, "{what}: {}", frame.ip);
    }
}

/// Small dumps hold the stack and little code: the same frames, found by looking for return addresses and for the
/// frame the processor pushed. On arm64 the chain of frame pointers needs no unwind data.
#[test]
fn stacks_of_small_dumps_are_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    for world in super::lab::worlds().filter(|world| world.options.generation.machine != Machine::X86) {
        let what = world.options.generation.name;
        writer::write(&world, Kind::Triage, &path).unwrap();
        let mut session = session(&[]);
        open(&mut session, &path);
        let frames = session.scope(None).unwrap().stack(64).unwrap();
        let found: Vec<u64> = frames.iter().map(|frame| frame.ip.0).collect();
        let wanted: Vec<u64> = world.crash.stack.iter().map(|frame| frame.pc).collect();
        assert_eq!(found, wanted, "{what}");
        if world.options.generation.machine == Machine::X64 {
            assert!(frames.iter().skip(1).all(|frame| frame.source == FrameSource::Scan), "{what}");
            assert!(frames[3].exact && frames[2].trap_frame.is_some(), "{what}");
        } else {
            assert!(frames.iter().skip(2).all(|frame| frame.source == FrameSource::FramePointer), "{what}");
        }
    }
}

/// With the images at hand on the image path nothing is recovered any more: unwind data and code come from there.
#[test]
fn image_files_give_what_small_dumps_lack() {
    let folder = tempfile::tempdir().unwrap();
    let (path, images) = (folder.path().join("dump"), folder.path().join("images"));
    for world in super::lab::worlds().filter(|world| world.options.generation.machine != Machine::X86) {
        let what = world.options.generation.name;
        writer::write(&world, Kind::Triage, &path).unwrap();
        let _ = std::fs::remove_dir_all(&images);
        // Drivers lie in a plain folder, the kernel as in a store.
        for image in &world.images {
            let place = match image.name.as_str() {
                "ntoskrnl.exe" => images
                    .join(format!("ntoskrnl.exe/{:08X}{:x}/ntoskrnl.exe", image.time_date_stamp, image.size)),
                name => images.join(name),
            };
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(place, &image.bytes).unwrap();
        }
        let mut session = session(&["-i", images.to_str().unwrap()]);
        open(&mut session, &path);
        check(&world, &mut session, what);
        let frames = session.scope(None).unwrap().stack(64).unwrap();
        let from_file = FrameSource::Unwind(Origin::ImageFile);
        assert!(frames.iter().any(|frame| frame.source == from_file), "{what}");
    }
}

/// User memory of a process, and what the other commands of contexts say.
#[test]
fn contexts_are_chosen_and_reset() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    for world in super::lab::worlds() {
        let what = world.options.generation.name;
        writer::write(&world, Kind::Full, &path).unwrap();
        let mut session = session(&[]);
        open(&mut session, &path);
        let process = |name: &str| world.processes.iter().find(|process| process.name == name).unwrap();
        let (system, own) = (process("System"), process("faultapp.exe"));
        let user = |probe: &&Probe| {
            probe.va.0 >> 40 == 0 && probe.va.0 < 0x8000_0000
                || probe.va.0 >> 47 == 0 && probe.va.0 > u64::from(u32::MAX)
        };
        let probe =
            world.probes.iter().filter(|probe| probe.state == "valid" && !probe.text.is_empty()).find(user);
        let sees = |session: &Session, probe: &Probe| {
            let mut bytes = [0; 8];
            session.scope(None).unwrap().read(probe.va, &mut bytes).fault.is_none()
        };
        let Some(probe) = probe else { continue };
        assert!(sees(&session, probe), "{what}");
        let shown = run(&mut session, &format!(".process {:#x}", system.eprocess.0));
        assert!(shown.starts_with("Implicit process is now "), "{what}: {shown}");
        assert!(!sees(&session, probe), "{what}");
        assert_eq!(
            session.scope(None).unwrap().register("$proc").map(|va| va as u32),
            Some(system.eprocess.0 as u32)
        );
        assert!(
            run(&mut session, ".context").contains(&format!("{:x}", system.directory_table_base.0)),
            "{what}"
        );
        run(&mut session, &format!(".process /p /r {:#x}", own.eprocess.0));
        assert!(sees(&session, probe), "{what}");
        run(&mut session, &format!(".context {:#x}", system.directory_table_base.0));
        assert!(!sees(&session, probe), "{what}");
        run(&mut session, ".process");
        assert!(sees(&session, probe), "{what}");

        // The trap frame of the fault leads to the registers at the fault.
        let fault = world.crash.exception_address;
        let frames = session.scope(None).unwrap().stack(64).unwrap();
        let Some(trap) = frames.iter().find_map(|frame| frame.trap_frame) else { continue };
        let shown = run(&mut session, &format!(".trap {:#x}", trap.0));
        if !shown.is_empty() && frames.len() >= 10 && world.options.generation.machine != Machine::Arm64 {
            assert_eq!(
                session.scope(None).unwrap().registers().unwrap().ip().0 as u32,
                fault as u32,
                "{what}"
            );
            assert!(run(&mut session, "r").starts_with("Last set context:\n"), "{what}");
            assert!(!run(&mut session, "0r").starts_with("Last set context:"), "{what}");
            assert!(run(&mut session, "k").starts_with("  *** Stack trace for last set context"), "{what}");
            assert!(!run(&mut session, "0k").starts_with("  ***"), "{what}");
        }
        run(&mut session, "~0s");
        assert!(!run(&mut session, "r").starts_with("Last set context:"), "{what}");
        // A thread that runs has its processor's registers.
        let thread = world.thread.0;
        if session.scope(None).unwrap().register("$thread").is_none() {
            continue;
        }
        run(&mut session, &format!(".thread {thread:#x}"));
        let scope = session.scope(None).unwrap();
        assert_eq!(scope.registers().unwrap().ip(), frames[0].ip, "{what}");
    }
}

/// Threads of the stories, run through compiled kernels: every stack is the one that was laid, the program's frames too.
#[test]
fn stacks_of_compiled_kernels_are_those_they_ran() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    let (mut right, mut wrong) = (0, Vec::new());
    for generation in GENERATIONS {
        for (story, name) in Story::ALL {
            let world = World::build(Options::of(generation.name, story));
            writer::write(&world, Kind::Full, &path).unwrap();
            let mut session = session(&[]);
            open(&mut session, &path);
            for thread in &world.threads {
                // Of Windows XP nobody tells without types which process runs, so the program's images are not known.
                let running = thread.state == 2 && session.scope(None).unwrap().register("$proc").is_none();
                // The stack pointer that the hostile system damaged: elsewhere frames are looked for, but arm64 keeps
                // the program counter in the thread, and it is good.
                let victim = world.threads[world.processors.len()].ethread == thread.ethread;
                let lost = story == Story::Hostile && generation.machine == Machine::Arm64 && victim;
                if thread.id == 0 || running || lost {
                    continue;
                }
                let shown = run(&mut session, &format!(".thread /p {:#x}", thread.ethread.0));
                // Ended, or in the page file: there is nothing to walk, and that is said.
                if thread.stack.is_empty() && generation.machine != Machine::Arm64 {
                    assert!(shown.contains("Unable to read the thread's stack"), "{name}: {shown}");
                    right += 1;
                    continue;
                }
                let frames = session.scope(None).unwrap().stack(64).unwrap_or_default();
                let wanted: Vec<_> = thread.stack.iter().collect();
                // Behind the frames of a thread whose program is not in memory there is the program's address alone.
                let whole = thread.stack.last().is_some_and(|frame| !frame.symbol.starts_with("nt!"));
                let found: Vec<_> = frames.iter().filter(|frame| frame.ip.0 != 0).collect();
                let known = if whole { found.len() } else { found.len().min(wanted.len()) };
                let found = &found[..known];
                // Windows XP keeps the registers at the fault, inside of which the bug check was raised.
                let inner =
                    if thread.state == 2 { wanted.len().saturating_sub(found.len()).min(3) } else { 0 };
                let wanted = &wanted[inner..];
                let same = wanted.len() == found.len()
                    && wanted.iter().zip(found).all(|(wanted, found)| wanted.pc as u32 == found.ip.0 as u32);
                if same {
                    right += 1;
                    continue;
                }
                let list = |frames: Vec<String>| frames.join("\n    ");
                let scope = session.scope(None).unwrap();
                wrong.push(format!(
                    "{} {name} thread {:x} state {} {}\n  wanted\n    {}\n  found\n    {}",
                    generation.name,
                    thread.id,
                    thread.state,
                    shown.trim(),
                    list(
                        wanted
                            .iter()
                            .map(|frame| format!("{:#x} {:#x} {}", frame.pc, frame.sp, frame.symbol))
                            .collect()
                    ),
                    list(
                        found
                            .iter()
                            .map(|frame| format!(
                                "{} {} {} {:?} {:?}",
                                frame.ip,
                                frame.sp,
                                scope.name_of(frame.ip).map(|hit| hit.to_string()).unwrap_or_default(),
                                frame.source,
                                frame.missing
                            ))
                            .collect()
                    ),
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{right} right, {} wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// Lines of an answer of KD's in the transcript of a dump.
fn transcript(text: &str, command: &str) -> Vec<String> {
    let start = format!(">>> {command}");
    let mut lines = text.lines().skip_while(|line| *line != start).skip(1);
    let answer = lines.by_ref().take_while(|line| !line.starts_with(">>> "));
    let mut answer: Vec<String> = answer.map(|line| line.trim_end().to_owned()).collect();
    while answer.last().is_some_and(String::is_empty) {
        answer.pop();
    }
    answer
}

/// Code of a real dump, line by line as KD shows it.
#[test]
fn code_of_real_dumps_is_shown_as_kd_does() {
    let Some(shared) = kd_tests::shared() else { return };
    for (dump, commands) in [
        ("x64-19041-7e", ["u", "u rip L8", "ub rip L4", "uf rip", ".exr -1"].as_slice()),
        ("arm64-22000-1c8", &["u pc", "ub pc", ".exr -1"]),
    ] {
        let text = std::fs::read_to_string(shared.join(format!("reference/kd-output/{dump}.txt"))).unwrap();
        let mut session = session(&[]);
        open(&mut session, &shared.join(format!("dumps/real/{dump}.dmp")));
        for command in commands {
            let wanted = transcript(&text, command);
            session.last_code = None;
            let found = run(&mut session, command);
            let mut found = found.lines().map(str::trim_end);
            for line in wanted.iter().take_while(|line| !line.starts_with('…')) {
                assert_eq!(found.next(), Some(line.as_str()), "{dump} {command}");
            }
        }
    }
}

/// KD followed the context of this crash with a driver's image at hand. Without it those frames are still found, each
/// marked; KD's own walk without unwind data (`k` at the crash) shows every word of the stack instead.
#[test]
fn frames_of_a_real_crash_are_recovered() {
    let Some(shared) = kd_tests::shared() else { return };
    let text = std::fs::read_to_string(shared.join("reference/kd-output/x64-19041-7e.txt")).unwrap();
    let wanted: Vec<(u64, u64)> = text
        .split(">>> .cxr 0xffff850429891720")
        .nth(1)
        .and_then(|rest| rest.split(">>> k\n").nth(1))
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("ffff8504`"))
        .map(|line| {
            let mut numbers =
                line.split(' ').map(|word| u64::from_str_radix(&word.replace('`', ""), 16).unwrap_or(0));
            (numbers.next().unwrap(), numbers.next().unwrap())
        })
        .take(6)
        .collect();
    assert_eq!(wanted.len(), 6);
    let mut session = session(&[]);
    open(&mut session, &shared.join("dumps/real/x64-19041-7e.dmp"));
    run(&mut session, ".cxr 0xffff850429891720");
    let frames = session.scope(None).unwrap().stack(200).unwrap();
    for (_, return_address) in &wanted {
        let frame = frames.iter().find(|frame| frame.ip.0 == *return_address);
        let frame = frame.unwrap_or_else(|| panic!("{return_address:#x} is not found"));
        assert!(!frame.source.is_certain());
    }
    let shown = run(&mut session, "k");
    assert!(
        shown.starts_with("  *** Stack trace for last set context - .thread/.cxr resets it\n"),
        "{shown}"
    );
    assert!(shown.contains("[scan]: found on the stack"), "{shown}");
    assert_eq!(run(&mut session, ".cxr"), "Resetting default scope\n");
}
