//! Ctrl+C on a large system: every command that takes long ends soon after it, with what it has said.
//!
//! The system takes long to make without optimisation, so this runs with `KD_LAB=all` only.

use super::program::arg;
use kd_tests::kd_exe;
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What runs long enough to be interrupted, in a debug build.
const LONG: &[&str] = &[
    "!process 0 7",
    "!stacks 2",
    "!handle 0 3 0",
    "!memusage",
    "!poolfind *",
    "!poolused",
    "!locks -deadlock",
    "!for_each_process",
    "!for_each_thread",
    "!ca 0",
    "!vm",
];
/// When Ctrl+C is pressed after a command began.
const PRESSED: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(400)];
/// How long it may take: a debug build on a busy machine. Optimised it is a tenth of this.
const PATIENCE: Duration = Duration::from_secs(1);

fn start(dump: &Path, store: &Path) -> Child {
    let mut kd = Command::new(kd_exe());
    kd.args(["--no-color", "-y", &arg(store), "-z", &arg(dump)]).env_clear();
    kd.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn long_commands_end_soon() {
    if std::env::var("KD_LAB").is_ok_and(|value| value == "all") {
        let folder = tempfile::tempdir().unwrap();
        let (path, store) = (folder.path().join("dump"), folder.path().join("symbols"));
        let world = World::build(Options::of("x64-19041", Story::Huge));
        writer::write(&world, Kind::BitmapFull, &path).unwrap();
        world.write_symbols(&store).unwrap();
        drop(world);
        for command in LONG {
            for pressed in PRESSED {
                interrupt(command, pressed, &path, &store);
            }
        }
    } else {
        eprintln!("skipped: the large system is made with KD_LAB=all only");
    }
}

fn interrupt(command: &str, pressed: Duration, dump: &Path, store: &Path) {
    let mut kd = start(dump, store);
    let mut input = kd.stdin.take().unwrap();
    let mut output = BufReader::new(kd.stdout.take().unwrap());
    let mut hear = |mark: &str| {
        let mut text = String::new();
        while !text.trim_end().ends_with(mark) {
            assert!(
                output.read_line(&mut text).unwrap() > 0,
                "{command}: kd ended after {} bytes",
                text.len()
            );
        }
        (Instant::now(), text)
    };
    writeln!(input, "!process 4 0\n.echo now-ready").unwrap();
    hear("now-ready");
    writeln!(input, "{command}\n.echo the-end").unwrap();
    let id = kd.id().to_string();
    let press = std::thread::spawn(move || {
        std::thread::sleep(pressed);
        let start = Instant::now();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        start
    });
    let (ended, text) = hear("the-end");
    let start = press.join().unwrap();
    // It may have been quicker than the finger.
    if let Some(took) = ended.checked_duration_since(start).filter(|_| text.contains("interrupted")) {
        assert!(took < PATIENCE, "{command} took {took:?} to end, {} bytes", text.len());
    }
    writeln!(input, "q").unwrap();
    assert!(kd.wait().unwrap().code().is_some(), "{command}");
}
