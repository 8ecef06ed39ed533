//! The sessions in `transcripts/*.md` are run and must come out as they stand there.
//!
//! A block of console text begins with `$ kd …`; what follows is what the program shows. Standard input is not a
//! terminal here, so the program shows its prompts with what it read: a session reads as it looks to a user, and the
//! lines behind the prompts are what is typed. Versions, paths of the machine and names of library files are replaced
//! before anything is compared, JSON is indented. A block whose second line is `[...]` leaves out all that comes before
//! the first prompt.
//!
//! Those in `transcripts/real` are of real dumps, which stand in `SHARED`; without them they are not played.
//! A session on `lab/crash.dmp` is played on a dump and symbols that are made for it.
//!
//! To add a command, write the prompt and the command; `KD_TRANSCRIPTS=write cargo test -p kd-tests transcripts` then
//! writes what every command shows.

use super::program::{arg, kd};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// What is typed in a line: all that stands behind a prompt, as in `0: kd> lm` or `||1:0: kd> lm`.
fn typed(line: &str) -> Option<&str> {
    let (prompt, typed) = line.split_once("kd> ").or_else(|| Some((line.strip_suffix("kd>")?, "")))?;
    prompt.chars().all(|c| c.is_ascii_digit() || "|: ".contains(c)).then_some(typed)
}

/// The words of a command line; double quotes keep blanks together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

/// Where the real dumps are, asked for once.
fn shared() -> Option<&'static str> {
    static SHARED: LazyLock<Option<String>> = LazyLock::new(|| kd_tests::shared().map(|folder| arg(&folder)));
    SHARED.as_deref()
}

/// The text without what differs between machines and versions.
fn neutral(text: &str) -> String {
    let program = kd_tests::kd_exe();
    let folder = program.parent().unwrap().display().to_string();
    let version = env!("CARGO_PKG_VERSION");
    let mut text = text.replace(&folder, "PROGRAM");
    if let Some(shared) = shared() {
        text = text.replace(shared, "SHARED");
    }
    let machine = format!("({} {})", std::env::consts::OS, std::env::consts::ARCH);
    text = text.replace(&machine, "(SYSTEM)");
    for before in ["kd ", "image ", "kd-sdk "] {
        text = text.replace(&format!("{before}{version}"), &format!("{before}VERSION"));
    }
    let library = |line: &str| {
        let prefix = format!("{}kdext_", std::env::consts::DLL_PREFIX);
        line.replace(&prefix, "kdext_").replace(std::env::consts::DLL_SUFFIX, "").replace('\\', "/")
    };
    let line = |line: &str| match line.contains("kdext_") {
        true => library(line),
        false => line.trim_end().to_owned(),
    };
    let lines: Vec<_> = text.lines().map(line).collect();
    lines.join("\n").trim_end().to_owned()
}

/// Every line of JSON, indented.
fn indented(stdout: &str) -> String {
    stdout.lines().fold(String::new(), |mut text, line| {
        match serde_json::from_str::<serde_json::Value>(line) {
            Ok(value) => writeln!(text, "{value:#}").unwrap(),
            Err(_) => writeln!(text, "{line}").unwrap(),
        }
        text
    })
}

/// A folder with `lab/crash.dmp`, the crash in a driver on the kernel that a compiler built, the same crash as
/// `lab/small.dmp`, a system that is stuck as `lab/deadlock.dmp`, the `lab/symbols` of all, and the driver's source in
/// `kernels`.
fn lab() -> &'static Path {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let world = World::build(Options::of("x64-19041", Story::CrashInDriver));
        let lab = folder.path().join("lab");
        std::fs::create_dir(&lab).unwrap();
        writer::write(&world, Kind::BitmapFull, &lab.join("crash.dmp")).unwrap();
        writer::write(&world, Kind::Triage, &lab.join("small.dmp")).unwrap();
        let stuck = World::build(Options::of("x64-19041", Story::Deadlock));
        writer::write(&stuck, Kind::BitmapKernel, &lab.join("deadlock.dmp")).unwrap();
        world.write_symbols(&lab.join("symbols")).unwrap();
        let sources = folder.path().join("kernels");
        std::fs::create_dir(&sources).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/faultdrv.c");
        std::fs::copy(source, sources.join("faultdrv.c")).unwrap();
        folder
    });
    FOLDER.path()
}

/// Runs the command line of a block and gives the block back as it should be.
fn played(block: &str, file: &Path) -> String {
    let (line, rest) = block.split_once('\n').unwrap_or((block, ""));
    let arguments = line.strip_prefix("$ kd").unwrap_or_else(|| panic!("{}: {line}", file.display()));
    let arguments: Vec<_> =
        words(arguments.trim_start()).into_iter().filter(|word| !word.is_empty()).collect();
    let folder = if line.contains(" lab/") { lab().to_owned() } else { kd_tests::fixtures() };
    let input: String = rest.lines().filter_map(typed).flat_map(|line| [line, "\n"]).collect();
    let real = |word: &String| word.replace("SHARED", shared().unwrap_or("SHARED"));
    let run = kd(arguments.iter().map(real)).in_folder(&folder).input(&input).run();
    let mut shown = run.stderr;
    shown += &if arguments.iter().any(|word| word == "--json") { indented(&run.stdout) } else { run.stdout };
    let mut shown = neutral(&shown);
    if rest.starts_with("[...]") {
        let lines = shown.lines().skip_while(|line| typed(line).is_none());
        shown = ["[...]"].into_iter().chain(lines).collect::<Vec<_>>().join("\n");
    }
    let mut block = format!("{line}\n{shown}");
    if run.status != 0 {
        write!(block, "\n[exit status {}]", run.status).unwrap();
    }
    block
}

/// The document with every block of console text replaced by what the program shows now.
fn replayed(document: &str, file: &Path) -> String {
    const FENCE: &str = "```console\n";
    let mut parts = document.split(FENCE);
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let (block, rest) = part.split_once("\n```").expect("a block ends");
        write!(text, "{FENCE}{}\n```{rest}", played(block, file)).unwrap();
    }
    text
}

/// Where two texts first differ, with the lines around.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let at = (0..old.len().max(new.len())).find(|&i| old.get(i) != new.get(i)).unwrap_or(0);
    let around = |lines: &[&str], sign: char| {
        let end = (at + 5).min(lines.len());
        lines[at.min(end)..end].iter().fold(String::new(), |text, line| text + &format!("{sign}{line}\n"))
    };
    let before = old[at.saturating_sub(3)..at.min(old.len())].iter();
    let before = before.fold(String::new(), |text, line| text + &format!(" {line}\n"));
    format!("line {}:\n{before}{}{}", at + 1, around(&old, '-'), around(&new, '+'))
}

#[test]
fn sessions_come_out_as_written() {
    play(&Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts"));
}

#[test]
fn sessions_on_real_dumps_come_out_as_written() {
    if shared().is_some() {
        play(&Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts/real"));
    }
}

/// Every document of a folder.
fn play(folder: &Path) {
    let write = std::env::var("KD_TRANSCRIPTS").is_ok_and(|what| what == "write");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.sort_unstable();
    assert!(!files.is_empty());
    let mut wrong = String::new();
    for file in &files {
        let old = std::fs::read_to_string(file).unwrap().replace("\r\n", "\n");
        let new = replayed(&old, file);
        if write && old != new {
            std::fs::write(file, &new).unwrap();
        } else if old != new {
            let name = file.file_name().unwrap().display();
            write!(wrong, "{name}, {}", difference(&old, &new)).unwrap();
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong}\nif this is meant: KD_TRANSCRIPTS=write cargo test -p kd-tests transcripts, then read the difference"
    );
}
