//! Commands that misbehave, and some that show what the SDK gives, for the tests of the extension border. Nothing
//! here is for users.
#![allow(clippy::panic)] // that is what it is for

use kd_sdk::address::PAGE_SIZE;
use kd_sdk::nt::object::Objects;
use kd_sdk::nt::{list, tree};
use kd_sdk::output::Event;
use kd_sdk::prelude::*;
use kd_sdk::stacks::{Context, Look};
use std::cell::RefCell;
use std::time::Duration;

/// Tests change these bytes in a copy of the library to make a newer one.
static VERSION: [u8; 8] = *b"tb-ver-1";

fn version(session: &Session<'_>, _: &str) -> Result<()> {
    // Volatile in effect: the text must be read from the image, not folded into the code.
    let bytes = std::hint::black_box(&VERSION);
    session.out().line(&format!("this is {}", String::from_utf8_lossy(bytes)));
    Ok(())
}

fn boom(_: &Session<'_>, args: &str) -> Result<()> {
    let none: Vec<u8> = Vec::new();
    let index = args.len() + 3;
    let _ = std::hint::black_box(none[index]);
    Ok(())
}

/// A panic whose payload panics when it is dropped.
fn bomb(_: &Session<'_>, _: &str) -> Result<()> {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    std::panic::panic_any(Bomb)
}

fn thread_boom(session: &Session<'_>, _: &str) -> Result<()> {
    let ended = std::thread::spawn(|| panic!("in a thread of the extension")).join();
    session.out().line(if ended.is_err() { "the thread panicked" } else { "the thread ended" });
    Ok(())
}

/// Tells the test that the command runs.
fn started(path: &str) -> Result<()> {
    std::fs::write(path, b"").map_err(|error| Error::Other(error.to_string()))
}

fn spin(_: &Session<'_>, args: &str) -> Result<()> {
    started(args)?;
    loop {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn count(session: &Session<'_>, args: &str) -> Result<()> {
    for number in 0_u64.. {
        session.check_interrupt()?;
        session.out().line(&format!("counted {number}"));
        if number == 3 {
            started(args)?;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn flood(session: &Session<'_>, args: &str) -> Result<()> {
    let number: u64 = args.parse().map_err(|_| Error::Usage("flood NUMBER".to_owned()))?;
    session.out().list("numbers", |out| {
        for n in 0..number {
            out.field("", Value::UInt(n), "x");
        }
    });
    Ok(())
}

fn nest(session: &Session<'_>, args: &str) -> Result<()> {
    let depth: u32 = args.parse().unwrap_or(0);
    match session.execute(&format!("!testbed.nest {}", depth + 1)) {
        Ok(text) => session.out().text(&text),
        Err(error) => session.out().line(&format!("depth {depth}: {error}")),
    }
    Ok(())
}

fn run(session: &Session<'_>, args: &str) -> Result<()> {
    let text = session.execute(args)?;
    session.out().line(&format!("<{}>", text.trim_end()));
    Ok(())
}

fn unbalanced(session: &Session<'_>, _: &str) -> Result<()> {
    let out = session.out();
    for _ in 0..3 {
        out.sink().emit(&Event::End);
    }
    out.sink().emit(&Event::Begin { shape: kd_sdk::output::Shape::List, key: "open" });
    out.sink().emit(&Event::Begin { shape: kd_sdk::output::Shape::Record, key: "" });
    out.name("left", "open");
    out.end_line();
    Ok(())
}

fn tls(session: &Session<'_>, _: &str) -> Result<()> {
    struct Heavy(Vec<u8>);
    impl Drop for Heavy {
        fn drop(&mut self) {
            std::hint::black_box(&mut self.0).clear();
        }
    }
    thread_local!(static HEAVY: RefCell<Heavy> = RefCell::new(Heavy(vec![1; 100_000])));
    let sum = HEAVY.with_borrow(|heavy| heavy.0.iter().map(|&byte| u64::from(byte)).sum::<u64>());
    session.out().line(&format!("sum {sum}"));
    Ok(())
}

/// What the process has mapped: all of it, images of this library, resident kB.
fn maps(session: &Session<'_>, _: &str) -> Result<()> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let maps = read("/proc/self/maps");
    let status = read("/proc/self/status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let resident = resident.trim().trim_end_matches(" kB");
    let own = maps.lines().filter(|line| line.contains("libtestbed")).count();
    session.out().line(&format!("maps {} own {own} resident {resident}", maps.lines().count()));
    Ok(())
}

fn decline(_: &Session<'_>, _: &str) -> Result<()> {
    Err(Error::ContinueSearch)
}

fn fail(_: &Session<'_>, args: &str) -> Result<()> {
    Err(Error::Other(format!("it failed: {args}")))
}

/// Walks the stack of a context: `thread ADDRESS`, `record ADDRESS`, `trap ADDRESS`, `processor N`, `current`.
fn stack(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let what = args.word().unwrap_or("current");
    let at = if args.is_empty() { 0 } else { session.evaluate(args.rest())? };
    let context = match what {
        "thread" => Context::Thread(Va(at)),
        "record" => Context::Record(Va(at)),
        "trap" => Context::TrapFrame(Va(at)),
        "header" => Context::Header,
        "processor" => Context::Processor(u32::try_from(at).unwrap_or(u32::MAX)),
        _ => Context::Current,
    };
    let stack = session.stack(context);
    let out = session.out();
    for frame in stack.frames(100)? {
        let trap = frame.trap_frame.map_or(String::new(), |va| format!(" trap {va}"));
        out.line(&format!(
            "{} {} {} {:?} {}{trap}",
            frame.sp, frame.return_address, frame.site, frame.source, frame.exact
        ));
    }
    stack.show(100, Look::VERBOSE, 8)
}

/// Disassembles around an address.
fn code(session: &Session<'_>, args: &str) -> Result<()> {
    let va = Va(session.evaluate(args)?);
    let memory = session.memory();
    for found in memory.instructions_before(va, 2)?.into_iter().chain(memory.instructions(va, 2)?) {
        session.out().line(&format!("{} {} {:?} {}", found.va, found.length, found.flow, found.text));
    }
    Ok(())
}

/// A typed expression.
fn typed(session: &Session<'_>, args: &str) -> Result<()> {
    let found = session.evaluate_typed(args)?;
    let name = found.of.and_then(|of| of.own_name()).unwrap_or_default();
    session.out().line(&format!(
        "{:#x} at {} size {} kind {} {name}",
        found.value,
        found.address.map_or("-".to_owned(), |va| va.to_string()),
        found.size,
        found.kind
    ));
    Ok(())
}

/// Reads all physical memory of the dump, a megabyte at a time.
fn physical(session: &Session<'_>, _: &str) -> Result<()> {
    let memory = session.memory();
    let mut runs = Vec::new();
    memory.physical_runs(&mut |first, pages| {
        runs.push((first, pages));
        true
    })?;
    let mut buffer = vec![0; 1 << 20];
    let mut sum = 0_u64;
    for (first, pages) in &runs {
        let (mut at, mut left) = (first.pa(), pages * PAGE_SIZE);
        while left > 0 {
            session.check_interrupt()?;
            let count = left.min(buffer.len() as u64);
            memory.read_physical(at, &mut buffer[..count as usize])?;
            sum = buffer[..count as usize].iter().fold(sum, |sum, byte| sum + u64::from(*byte));
            (at, left) = (at.add(count), left - count);
        }
    }
    let pages: u64 = runs.iter().map(|(_, pages)| pages).sum();
    session.out().line(&format!("{} runs, {pages} pages, sum {sum:#x}", runs.len()));
    Ok(())
}

/// Processes by their list: address, id, image, type of object, address space.
fn processes(session: &Session<'_>, _: &str) -> Result<()> {
    let eprocess = session.types().find("nt!_EPROCESS")?;
    let objects = Objects::new(session)?;
    let head = session.symbols().find("nt!PsActiveProcessHead")?;
    for process in list::ring(session.memory(), head).of(eprocess.offset("ActiveProcessLinks")?) {
        let process = process?;
        let read = eprocess.at(process).snapshot()?;
        let object = objects.at(process)?;
        let peb = session.memory().of_process(process)?;
        session.out().line(&format!(
            "{process} {:#x} {} {} {} {}",
            read.u64("UniqueProcessId")?,
            read.ansi("ImageFileName")?,
            object.kind_name,
            object.handle_count,
            eprocess.at(process).within(peb).u64("Pcb.DirectoryTableBase").is_ok(),
        ));
    }
    Ok(())
}

/// An object's type and path.
fn object(session: &Session<'_>, args: &str) -> Result<()> {
    let objects = Objects::new(session)?;
    let object = objects.at(Va(session.evaluate(args)?))?;
    let path = objects.path(&object)?.unwrap_or_else(|| "no name".to_owned());
    session.out().line(&format!("{} {path}", object.kind_name));
    Ok(())
}

/// The VADs of a process, in order.
fn vads(session: &Session<'_>, args: &str) -> Result<()> {
    let eprocess = session.types().find("nt!_EPROCESS")?;
    let process = eprocess.at(Va(session.evaluate(args)?));
    let mut count = 0;
    for node in tree::avl(&process, "VadRoot")? {
        session.out().line(&node?.to_string());
        count += 1;
    }
    session.out().line(&format!("{count} nodes"));
    Ok(())
}

macro_rules! commands {
    ($($name:literal => $run:ident),+ $(,)?) => {
        $(kd_command! { name: $name, summary: "For tests", usage: "", run: $run, needs: 0 })+
    };
}

commands! {
    "tversion" => version,
    "boom" => boom,
    "bomb" => bomb,
    "threadboom" => thread_boom,
    "spin" => spin,
    "count" => count,
    "flood" => flood,
    "nest" => nest,
    "texec" => run,
    "unbalanced" => unbalanced,
    "tls" => tls,
    "tmaps" => maps,
    "decline" => decline,
    "tfail" => fail,
    "tstack" => stack,
    "tcode" => code,
    "ttyped" => typed,
    "tphysical" => physical,
    "tprocesses" => processes,
    "tobject" => object,
    "tvads" => vads,
}

export_extension! { summary: "Misbehaves on request" }
