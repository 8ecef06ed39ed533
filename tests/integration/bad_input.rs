//! Files and arguments that cannot work: one clear line and exit status 2. Damaged dumps: answers, never a panic.

use super::program::{Run, arg, kd, sample};
use kd::cli::{self, Environment, Request};
use kd::session::Session;
use kd::ui::{Ui, UiOptions};
use kd_tests::lab::world::{Options, World};
use kd_tests::lab::writer::{self, Kind};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One line on stderr that holds `says`, nothing on stdout, exit status 2.
fn assert_refused(run: &Run, what: &str, says: &str) {
    assert_eq!((run.status, run.stdout.as_str()), (2, ""), "{what}: {}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{what}: {}", run.stderr);
    assert!(run.stderr.starts_with("kd: ") && run.stderr.ends_with('\n'), "{what}: {}", run.stderr);
    assert!(run.stderr.contains(says), "{what}: {says:?} is not in {}", run.stderr);
}

/// Arguments, and what the message must hold.
const ARGUMENTS: &[(&[&str], &str)] = &[
    (&["-z", "no-such.dmp"], "cannot open no-such.dmp: "),
    (&["-z", "."], ". is not a regular file"),
    (&["-z", "TEXT"], "it is a text file"),
    (&["-z", ""], "-z is given an empty name"),
    (&["-z"], "-z wants FILE"),
    (&["/z"], "-z wants FILE"),
    (&["-zz"], "unknown option -zz"),
    (&["-bogus"], "unknown option -bogus"),
    (&["--bogus"], "unknown option --bogus"),
    (&["SAMPLE"], "to open a dump, type -z "),
    (&["-z", "SAMPLE", "more"], "\"more\" is not an option"),
    (&["-k", "com:port=1"], "-k cannot be used: it is for live targets"),
    (&["-z", "SAMPLE", "-kl"], "-kl cannot be used: it is for live targets"),
    (&["-remote", "npipe:pipe=x"], "-remote cannot be used: "),
    (&["-z", "SAMPLE", "-ee", "bogus"], "the evaluators are masm and c++"),
    (&["-z", "SAMPLE", "-sflags", "xyz"], "-sflags xyz: a number of 32 bits is wanted"),
    (&["-z", "SAMPLE", "-y"], "-y wants PATH"),
    (&["-z", "SAMPLE", "-c"], "-c wants "),
    (&["-z", "SAMPLE", "-cf"], "-cf wants FILE"),
    (&["-z", "SAMPLE", "-logo", "no-such-folder/x.log", "-c", "q"], "cannot open the log no-such-folder"),
    (&["-z", "SAMPLE", "-logo", "a.log", "-loga", "b.log"], "there is one log"),
    (&["-z", "SAMPLE", "--json=3"], "unknown option --json=3"),
];

#[test]
fn bad_arguments_get_one_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("TEXT"), "This is a text, not a dump.\n").unwrap();
    for (arguments, says) in ARGUMENTS {
        let arguments = arguments.iter().map(|text| text.replace("SAMPLE", &sample()));
        let run = kd(arguments.clone()).in_folder(folder.path()).run();
        assert_refused(&run, &arguments.collect::<Vec<_>>().join(" "), says);
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["TEXT"], "a refused run writes nothing");
}

#[test]
fn every_bad_dump_gets_a_line() {
    let run = kd(["-z", "no-such-1", "-z", "no-such-2", "-c", "q"]).run();
    assert_eq!((run.status, run.stdout.as_str()), (2, ""));
    let lines: Vec<_> = run.stderr.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("no-such-1") && lines[1].contains("no-such-2"), "{lines:?}");

    // The good one is opened all the same.
    let run = kd(["-z", "no-such-1", "-z", &sample(), "-c", ".bugcheck; q"]).run();
    assert_eq!((run.status, run.stderr.lines().count()), (2, 1));
    assert!(run.stdout.contains("Bugcheck code 000000D1"));
}

#[test]
fn json_gets_a_record_too() {
    let run = kd(["--json", "-z", "no-such.dmp"]).run();
    assert_eq!((run.status, run.stderr.lines().count()), (2, 1));
    let records = run.records();
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0]["status"], &records[0]["seq"]), (&"error".into(), &0.into()));
    let text = records[0]["messages"][0]["text"].as_str().unwrap();
    assert_eq!(run.stderr, format!("kd: {text}\n"));
}

/// Files that are not dumps, written here.
#[test]
fn files_that_are_no_dump_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let files: &[(&str, Vec<u8>, &str)] = &[
        ("empty.dmp", Vec::new(), "is empty (0 bytes)"),
        ("zero.dmp", vec![0; 0x3000], "are zero"),
        ("short.dmp", b"PAGEDU64".to_vec(), ""),
        ("noise.dmp", noise(0x4000), ""),
        ("user.dmp", [b"MDMP\x93\xa7\0\0".as_slice(), &[0; 64]].concat(), "user-mode minidump"),
        ("cut.cab", b"MSCF\0\0\0\0\x40\0\0\0".to_vec(), "cabinet"),
    ];
    for (name, bytes, says) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert_refused(&kd(["-z", &arg(&path), "-c", "q"]).run(), name, says);
    }
}

/// What the message about each bad file of the shared folder holds.
const FILES: &[(&str, &str)] = &[
    ("corrupt/empty.dmp", "is empty"),
    ("corrupt/zeroed-signature.dmp", "are zero"),
    ("corrupt/truncated-header.dmp", "the file ends at 0x2328"),
    ("corrupt/truncated-blocks.dmp", "the file ends at 0xaae60"),
    ("corrupt/full-cut-at-16k.dmp", "the file ends at 0x4000"),
    ("usermode/minidump-x86.dmp", "user-mode minidump"),
    ("usermode/truncated.dmp", "user-mode minidump"),
    ("cab/no-dump.cab", "holds no dump"),
    ("cab/cut.cab", "the cabinet is cut at 0x4e20"),
];

/// Cabinets that open, with the member that is the dump.
const CABINETS: &[(&str, &str)] = &[
    ("cab/one-dump.cab", "111317-27812-01.dmp"),
    ("cab/stored.cab", "111317-27812-01.dmp"),
    ("cab/two-dumps.cab", "111317-27812-01.dmp"),
];

#[test]
fn bad_files_get_one_line() {
    let Some(shared) = kd_tests::shared() else { return };
    let mut seen = Vec::new();
    for folder in ["corrupt", "usermode", "cab"] {
        for entry in std::fs::read_dir(shared.join("dumps").join(folder)).unwrap() {
            seen.push((format!("{folder}/{}", arg(entry.unwrap().file_name().as_ref())), folder));
        }
    }
    assert!(seen.len() >= FILES.len() + CABINETS.len());
    for (file, _) in &seen {
        let run = kd(["-z", &arg(&shared.join("dumps").join(file)), "-c", "q"]).run();
        if let Some((_, member)) = CABINETS.iter().find(|(cabinet, _)| cabinet == file) {
            assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{file}");
            assert!(run.stdout.contains(member), "{file}: {}", run.stdout);
        } else {
            let says = FILES.iter().find(|(name, _)| name == file).map_or("", |(_, says)| says);
            assert_refused(&run, file, says);
        }
    }
}

#[test]
fn cut_dumps_open_when_asked_to() {
    let Some(shared) = kd_tests::shared() else { return };
    for (file, _) in FILES.iter().filter(|(_, says)| says.starts_with("the file ends")) {
        let path = arg(&shared.join("dumps").join(file));
        let commands = ".bugcheck; lm; r; .dumpdebug; !analyze -v; !drivers; q";
        let run = kd(["--partial", "-z", &path, "-c", commands]).run();
        // A command may fail for what is lost; the program may not.
        assert!((0..=1).contains(&run.status), "{file}: {} {}", run.status, run.stderr);
        assert_eq!(run.stderr, "", "{file}");
        assert!(run.stdout.contains("Bugcheck code "), "{file}: {}", run.stdout);
    }
}

/// A fixed sequence of numbers (xorshift): the same damage on every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

fn noise(size: usize) -> Vec<u8> {
    let mut numbers = Numbers(1);
    (0..size).map(|_| numbers.next() as u8).collect()
}

/// Damages a dump: cuts it, or overwrites up to eight fields, most of them in its headers and tables.
fn damage(bytes: &mut Vec<u8>, numbers: &mut Numbers, turn: usize) {
    const VALUES: [u64; 8] =
        [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX - 7, u64::MAX];
    if turn.is_multiple_of(5) {
        // Half of the cuts near the start, where the structures are.
        let limit = if turn.is_multiple_of(2) { bytes.len() } else { bytes.len().min(0x4000) };
        return bytes.truncate(numbers.below(limit));
    }
    for _ in 0..=numbers.below(8) {
        let zone = match numbers.below(4) {
            0 => 0..bytes.len(),
            1 => 0x2000..0x4000,
            _ => 0..0x1100,
        };
        let at = ((zone.start + numbers.below(zone.len())) & !3).min(bytes.len().saturating_sub(8));
        let width = [1, 4, 8][numbers.below(3)];
        let old = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let new = match numbers.below(4) {
            0 => numbers.next(),
            1 => old ^ 1 << numbers.below(64),
            2 => old.wrapping_add(numbers.next() % 0x2001).wrapping_sub(0x1000),
            _ => VALUES[numbers.below(VALUES.len())],
        };
        // The signature stays: a file without one is refused at once.
        let at = at.max(8);
        bytes[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
    }
}

/// Systems and kinds that are damaged.
const VICTIMS: &[(&str, Kind)] = &[
    ("x64-19041", Kind::BitmapKernel),
    ("x64-19041", Kind::Triage),
    ("x64-19041", Kind::RangeComplete),
    ("x86-7601", Kind::Triage),
    ("x86-7601", Kind::Full),
    ("arm64-22000", Kind::Triage),
];

/// Damaged copies of a dump of each kind, `turns` of each, handed to `look` one after the other.
fn damaged(turns: usize, mut look: impl FnMut(&Path, &str)) {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.dmp");
    for (index, (generation, kind)) in VICTIMS.iter().enumerate() {
        writer::write(&World::build(Options::new(generation)), *kind, &whole).unwrap();
        let bytes = std::fs::read(&whole).unwrap();
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 + index as u64);
        for turn in 0..turns {
            let mut bytes = bytes.clone();
            damage(&mut bytes, &mut numbers, turn);
            let path = folder.path().join(format!("{index}-{turn}.dmp"));
            std::fs::write(&path, bytes).unwrap();
            look(&path, &format!("{generation} {kind:?}, damage {turn}"));
        }
    }
}

/// Where an in-process session writes to.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const LOOKS: &str = ".bugcheck; vertarget; lm; lmv; r; rM 0xff; ~; ~1s; .dumpdebug; .enumtag; .lastevent; db nt L100; \
                     dps @$csp L40; dd 0 L4; ? poi(nt+3c)";

/// Opens a dump with this build of the library and runs every command that looks at something.
fn look_at(path: &Path) -> String {
    let arguments = ["--json", "--partial"].map(Into::into);
    let Ok(Request::Run(options)) = cli::parse(arguments) else { panic!("the arguments are good") };
    let sink = Sink::default();
    let ui_options = UiOptions { json: true, ..UiOptions::default() };
    let ui = Arc::new(Ui::with_streams(ui_options, false, Box::new(sink.clone()), Box::new(io::sink())));
    let mut session = Session::new(ui, &options, &Environment::from(|_| None));
    if let Ok(dump) = session.open_dump(path, None) {
        session.attach(dump);
        session.execute_line(LOOKS);
    }
    drop(session);
    let bytes = std::mem::take(&mut *sink.0.lock().unwrap());
    String::from_utf8(bytes).expect("kd writes UTF-8")
}

#[test]
fn damaged_dumps_never_panic_or_hang() {
    // More for a long run: KD_DAMAGE=5000 cargo test -p kd-tests damaged
    let turns = std::env::var("KD_DAMAGE").map_or(50, |text| text.parse().expect("KD_DAMAGE is a number"));
    let (mut opened, mut files) = (0, 0);
    damaged(turns, |path, what| {
        let start = Instant::now();
        let text = look_at(path);
        let took = start.elapsed();
        std::fs::remove_file(path).unwrap();
        assert!(!text.contains("panicked"), "{what}: {text}");
        assert!(took < Duration::from_secs(20), "{what}: {took:?}");
        for line in text.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{what}: {line}");
        }
        files += 1;
        opened += usize::from(!text.is_empty());
    });
    // Damage that only makes files unreadable would prove little.
    assert!(files == turns * VICTIMS.len() && opened * 2 > files, "{opened} of {files} opened");
}

/// The extensions see damaged dumps too; several in one process, as `-z` repeated allows.
#[test]
fn damaged_dumps_are_analyzed() {
    let mut paths: Vec<PathBuf> = Vec::new();
    let kept = tempfile::tempdir().unwrap();
    damaged(12, |path, _| {
        let copy = kept.path().join(path.file_name().unwrap());
        std::fs::rename(path, &copy).unwrap();
        paths.push(copy);
    });
    for group in paths.chunks(12) {
        let mut arguments = vec!["--partial".to_owned()];
        for path in group {
            arguments.extend(["-z".to_owned(), arg(path)]);
        }
        let looks: String = (0..group.len()).map(|n| format!("||{n}s; !analyze -v; !drivers; ")).collect();
        let run = kd(arguments.into_iter().chain(["-c".to_owned(), looks + "q"])).run();
        assert!((0..=2).contains(&run.status), "{group:?}: {}", run.status);
        assert!(
            !run.stdout.contains("panicked") && !run.stderr.contains("panicked"),
            "{group:?}: {}",
            run.stdout
        );
    }
}
