//! Systems on built kernels: every story on every generation in every kind of dump, opened by kd and compared with what
//! is true of it.

use super::every_kind::{Rows, kinds};
use kd::cli::{self, Environment, Request};
use kd::dump::{Dump, OpenOptions};
use kd::session::Session;
use kd::target::Target;
use kd::ui::{Ui, UiOptions};
use kd_sdk::address::Va;
use kd_tests::lab::layout::{GENERATIONS, Generation};
use kd_tests::lab::world::{Options, StackFrame, Story, Thread, World};
use kd_tests::lab::writer::{self, Kind};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Opens a session on a dump with the symbols of `store`.
pub fn session(path: &Path, store: &Path) -> Session {
    let arguments = ["-y".into(), store.to_str().unwrap().into()];
    let Ok(Request::Run(options)) = cli::parse(arguments) else { panic!("the arguments are good") };
    let ui = Ui::with_streams(UiOptions::default(), false, Box::new(io::sink()), Box::new(io::sink()));
    let mut session = Session::new(Arc::new(ui), &options, &Environment::from(|_| None));
    let dump = session.open_dump(path, None).unwrap();
    session.attach(dump);
    session
}

/// The table world × machine × generation × kind: every row is opened and compared; those that fail are told.
#[test]
fn every_story_of_every_generation() {
    let all: Vec<_> = GENERATIONS.iter().flat_map(|g| Story::ALL.map(|story| (g, story))).collect();
    let wanted = Story::ALL.len() * GENERATIONS.iter().map(|g| kinds(g.machine).count()).sum::<usize>();
    Rows::run(all.len(), wanted, |rows, number, folder| {
        let (g, (story, name)) = all[number];
        let path = folder.join("dump");
        let world = World::build(Options::of(g.name, story));
        for kind in kinds(g.machine) {
            let what = format!("{} {name} {kind:?}", g.name);
            rows.row(what.clone(), || {
                writer::write(&world, kind, &path).unwrap();
                check(&world, kind, &path, &what);
            });
        }
    });
}

fn check(world: &World, kind: Kind, path: &Path, what: &str) {
    let dump = Dump::open(path, &OpenOptions::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
    let target = Target::open(dump);
    let wide = target.pointer_size() == 8;
    let same = |a: u64, b: u64| if wide { a == b } else { a as u32 == b as u32 };
    let bug_check = target.header().bug_check.as_ref().unwrap();
    assert_eq!(bug_check.code, world.crash.code, "{what}");
    for (found, wanted) in bug_check.parameters.into_iter().zip(world.crash.parameters) {
        assert!(same(found, wanted), "{what}: {found:#x} {wanted:#x}");
    }
    if kind == Kind::HeaderOnly {
        return;
    }
    if world.options.story != Story::Hostile && kind != Kind::Triage {
        assert_eq!(target.problems(), [], "{what}");
    }
    let modules = target.modules();
    let mut images: Vec<_> = world.images.iter().collect();
    if sees_program(world, kind) {
        images.extend(&world.user_images);
    }
    assert_eq!(modules.len(), images.len(), "{what}");
    images.sort_by_key(|i| i.base);
    for (found, wanted) in modules.iter().zip(images) {
        assert_eq!(found.image, wanted.name, "{what}");
        assert!(same(found.base.0, wanted.base), "{what}: {}", wanted.name);
        let (stamp, sum) = (wanted.time_date_stamp, wanted.check_sum);
        assert_eq!(found.size, u64::from(wanted.size), "{what}: {}", wanted.name);
        // Lists of old systems do not hold the stamp; it is read from the headers.
        assert_eq!((found.time_stamp, found.check_sum), (stamp, sum), "{what}: {}", wanted.name);
    }
    let processors = target.processors();
    assert_eq!(processors.len(), world.processors.len(), "{what}");
    if kind != Kind::Triage {
        for (found, wanted) in processors.iter().zip(&world.processors) {
            assert!(same(found.prcb.unwrap().0, wanted.prcb.0), "{what}");
            // XP has no record of where the kernel stopped: of the processor that crashed the header's count.
            if world.options.generation.kdbg_size < 0x2c0 && found.number == target.current_processor() {
                continue;
            }
            let registers = target.registers(found.number).unwrap().registers;
            for (name, value) in &wanted.registers {
                let found = registers.get(name).unwrap_or_else(|| panic!("{what}: no {name}"));
                assert!(same(found, *value), "{what}: {name} {found:#x} {value:#x}");
            }
        }
        if let Some(thread) = processors[0].current_thread {
            assert!(same(thread.0, world.thread.0), "{what}");
        }
    }
}

/// The program's images are known: its memory is in the dump, and the debugger data block tells where its PEB is, which
/// XP's does not.
fn sees_program(world: &World, kind: Kind) -> bool {
    !kind.kernel_only() && kind != Kind::Triage && world.options.generation.kdbg_size >= 0x2c0
}

/// The stacks of running and waiting threads, walked by kd, are those that were laid, down to the program's first frame.
#[test]
fn stacks_are_walked_as_they_were_laid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    let mut wrong = Vec::new();
    let mut walked = 0;
    for g in GENERATIONS {
        let world = World::build(Options::of(g.name, Story::CrashInDriver));
        writer::write(&world, Kind::BitmapFull, &path).unwrap();
        let store = folder.path().join(g.name);
        world.write_symbols(&store).unwrap();
        let mut session = session(&path, &store);
        // On XP the processor that crashed shows the registers of the header, where the exception was.
        let first = usize::from(g.kdbg_size < 0x2c0);
        for processor in &world.processors[first..] {
            session.set_processor(processor.number);
            let [pc, sp] = [0, 1].map(|i| processor.registers[g.machine.frame_registers()[i]]);
            let runs = |t: &&Thread| t.stack.first().is_some_and(|f| (f.pc, f.sp) == (pc, sp));
            let thread = world.threads.iter().find(runs).unwrap();
            let name = format!("{} processor {}", g.name, processor.number);
            compare(g, &session, &thread.stack, &name, &mut wrong);
            walked += 1;
        }
        session.set_processor(0);
        for thread in world.threads.iter().filter(|t| t.state == 5) {
            session.execute_line(&format!(".thread {:#x}", thread.ethread.0));
            let name = format!("{} thread {:x}", g.name, thread.id);
            compare(g, &session, &thread.stack, &name, &mut wrong);
            walked += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {walked} stacks:\n{}", wrong.len(), wrong.join("\n"));
}

fn compare(g: &Generation, session: &Session, truth: &[StackFrame], name: &str, wrong: &mut Vec<String>) {
    let frames = session.scope(None).unwrap().stack(100).unwrap();
    let wide = g.machine.pointer_size() == 8;
    let mask = if wide { u64::MAX } else { u64::from(u32::MAX) };
    for (index, frame) in truth.iter().enumerate() {
        let found = frames.get(index).map(|f| (f.ip.0 & mask, f.sp.0 & mask));
        // x86 walks by frame pointers: there only the program counter is exact.
        let good = found.is_some_and(|(ip, sp)| ip == frame.pc && (!wide || sp == frame.sp));
        if !good {
            wrong.push(format!(
                "{name}: frame {index} of {}: {} at {:#x} {:#x}, found {found:x?}",
                truth.len(),
                frame.symbol,
                frame.pc,
                frame.sp
            ));
            return;
        }
        let module = frame.symbol.split('!').next().unwrap_or_default();
        let found = session.scope(None).unwrap().name_of(frames[index].ip).map(|hit| hit.to_string());
        if !found.as_ref().is_some_and(|name| name.starts_with(module))
            && (g.kdbg_size >= 0x2c0 || frame.pc >= g.system_start().0)
        {
            wrong.push(format!("{name}: frame {index} is {found:?}, not {}", frame.symbol));
        }
    }
    let behind =
        frames.get(truth.len()).filter(|_| truth.last().is_some_and(|f| f.symbol.starts_with("ntdll")));
    if let Some(frame) = behind {
        wrong.push(format!("{name}: a frame behind the last: {}", frame.ip));
    }
}

/// Broken lists, wild pointers and looped stacks end in answers.
#[test]
fn hostile_systems_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    for g in GENERATIONS {
        let world = World::build(Options::of(g.name, Story::Hostile));
        writer::write(&world, Kind::BitmapKernel, &path).unwrap();
        let store = folder.path().join(g.name);
        world.write_symbols(&store).unwrap();
        let start = std::time::Instant::now();
        let mut session = session(&path, &store);
        session.execute_line(".bugcheck; lm; r; k; ~1s; k; ~0s");
        for thread in &world.threads {
            session.execute_line(&format!(".thread {:#x}; k", thread.ethread.0));
        }
        // Tables that lead to themselves: tables are memory, and a search of it ends.
        let folded = |key: &str| world.facts["folded"][key].as_u64().unwrap();
        let (process, at) = (folded("process"), folded("va"));
        session.execute_line(&format!(".process {process:#x}"));
        let read = session.scope(None).unwrap().read_number(Va(at), 4);
        assert!(read.is_ok(), "{}: {read:?}", g.name);
        session.execute_line(&format!("dc {at:#x} L40; s -a {at:#x} L?100000 \"nowhere\"; k"));
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "{}", g.name);
    }
}
