//! Commands that misbehave, for the tests of the extension border. Nothing here is for users.
#![allow(clippy::panic)] // that is what it is for

use kd_sdk::output::Event;
use kd_sdk::prelude::*;
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
}

export_extension! { summary: "Misbehaves on request" }
