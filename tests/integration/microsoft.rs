//! kd prints what Microsoft's debugger engine printed for the same dumps, line for line.
//!
//! [`DIFFERENCES`] lists every line that differs on purpose, with the reason; a row that no longer applies fails the
//! test, so the table cannot rot. What the recordings leave out (`… (88 lines more)`) is compared by its number of lines.

use super::program::{arg, kd};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// A recording, the dump it is of, and whether the symbols of its kernel were there.
const RECORDINGS: &[(&str, &str, bool)] = &[
    ("x64-19041-7e.txt", "x64-19041-7e.dmp", false),
    ("arm64-22000-1c8.txt", "arm64-22000-1c8.dmp", false),
    ("x64-19041-7e-symbols.txt", "x64-19041-7e.dmp", true),
];

/// First words of the commands that are compared.
const COMPARED: &str = "vertarget .bugcheck .time r rF rX rM lm lmv lm1m db dw dd dq dp dps dqs dds dc da du dyb df dD ? ?? n || \
     .formats .printf .foreach .for .if s .imgscan .pcmd .prefer_dml .echotimestamps";

/// Commands that are not compared although they begin with such a word.
const LEFT_OUT: &[(&str, &str)] = &[
    ("lm v m amdppm", "they had the symbols of this driver"),
    ("r rip", "they looked at processor 3"),
    (".printf \"%p %y\\n\", rip, rip", "they looked at processor 3"),
    ("s -d rsp L1000 0x7e", "they looked at processor 3"),
    ("s -q rsp L100 fffff8047be0f4e1", "they looked at processor 3"),
];

/// A part of a line that kd writes in another way.
struct Difference {
    /// Beginning of the command.
    command: &'static str,
    /// Part of their line; empty: they have no such line.
    theirs: &'static str,
    /// What kd has in its place, or the line it adds; `None`: kd has no such line.
    ours: Option<&'static str>,
    #[allow(dead_code, reason = "for readers")]
    why: &'static str,
}

const fn differs(
    command: &'static str,
    theirs: &'static str,
    ours: Option<&'static str>,
    why: &'static str,
) -> Difference {
    Difference { command, theirs, ours, why }
}

const DIFFERENCES: &[Difference] = &[
    differs("lm", " T (no symbols)", Some("   (no symbols)"), "marks tell of a comparison kd does not make"),
    differs(
        "lm",
        " C (pdb symbols)",
        Some("   (pdb symbols)"),
        "marks tell of a comparison kd does not make",
    ),
    differs("lmv", "    Translations: ", None, "version resources are not in the dump; theirs are defaults"),
    differs("lmv", "", Some("    Symbols: "), "why there are no symbols is what the user wants to know"),
    differs(
        "dps",
        "amdppm!WriteIoMemRawEx+0x70",
        Some("amdppm+0x334c"),
        "they had the symbols of this driver",
    ),
    differs(
        "dqs",
        "amdppm!WriteIoMemRawEx+0x70",
        Some("amdppm+0x334c"),
        "they had the symbols of this driver",
    ),
    differs(
        "dps",
        "nt!VrpRegistryString <PERF> (nt+0x0)",
        Some("nt"),
        "a symbol that lies elsewhere is no name",
    ),
    differs("?? @$ip", " \"H???\"", Some(" \"H?L$\""), "ASCII after what is no ASCII is ASCII"),
    differs("du", "\".?..~\"", Some("\".\u{7be0}..~\""), "they wrote to a console that knows no Unicode"),
];

/// The commands of a recording and what they printed, each once.
fn sections(recording: &str) -> Vec<(&str, String)> {
    let mut seen = HashSet::new();
    let mut sections = Vec::new();
    for section in recording.split("\n>>> ").skip(1) {
        let (command, text) = section.split_once('\n').unwrap_or((section, ""));
        let word = command.split(' ').next().unwrap();
        let wanted = COMPARED.split(' ').any(|compared| compared == word);
        if wanted && LEFT_OUT.iter().all(|(left_out, _)| *left_out != command) && seen.insert(command) {
            sections.push((command, without_noise(text)));
        }
    }
    sections
}

/// The text without what symbol loading says in the middle of it.
fn without_noise(text: &str) -> String {
    let mut clean = String::new();
    let mut noisy = false;
    for line in text.split_inclusive('\n') {
        noisy = if let Some(at) = line.find("Unable to load image ") {
            clean.push_str(&line[..at]);
            true
        } else if !(line.starts_with("Unable to change protection ") || (noisy && line.starts_with("*** "))) {
            clean.push_str(line);
            false
        } else {
            noisy
        };
    }
    clean
}

/// Lines without blanks at their ends and without paths of the machine.
fn lines(text: &str, dump: &str) -> Vec<String> {
    let line = |line: &str| {
        let line = line.replace(dump, "<path>");
        let end = line.find("(pdb symbols)").map_or(line.len(), |at| at + "(pdb symbols)".len());
        line[..end].trim_end().to_owned()
    };
    text.trim_end_matches('\n').split('\n').map(line).collect()
}

/// How many lines a recording leaves out here.
fn left_out(line: &str) -> Option<usize> {
    line.strip_prefix("… (")?.strip_suffix(" lines more)")?.parse().ok()
}

/// Compares the lines of one command; tells what differs, and in `used` which rows of the table applied.
fn compare(command: &str, theirs: &[String], ours: &[String], used: &mut HashSet<usize>) -> Option<String> {
    let mut wanted = Vec::new();
    let mut more = None;
    let mut ours = ours.to_vec();
    let rows: Vec<_> =
        DIFFERENCES.iter().enumerate().filter(|(_, row)| command.starts_with(row.command)).collect();
    for (index, row) in rows.iter().filter(|(_, row)| row.theirs.is_empty()) {
        let before = ours.len();
        ours.retain(|line| !line.starts_with(row.ours.unwrap()));
        if ours.len() < before {
            used.insert(*index);
        }
    }
    for line in theirs {
        if let Some(count) = left_out(line) {
            more = Some(count);
            break;
        }
        match rows.iter().find(|(_, row)| !row.theirs.is_empty() && line.contains(row.theirs)) {
            None => wanted.push(line.clone()),
            Some((index, row)) => {
                used.insert(*index);
                wanted.extend(row.ours.map(|ours| line.replace(row.theirs, ours)));
            }
        }
    }
    if let Some(at) = (0..wanted.len()).find(|&at| ours.get(at) != Some(&wanted[at])) {
        let ours = ours.get(at).map_or("nothing", |line| line);
        return Some(format!("{command}, line {}:\n  theirs {}\n  ours   {ours}", at + 1, wanted[at]));
    }
    let (found, expected) = (ours.len(), wanted.len() + more.unwrap_or(0));
    (found != expected).then(|| format!("{command}: {found} lines, they have {expected}"))
}

/// What kd prints for each command.
fn outputs(commands: &[&str], dump: &str, symbols: Option<&Path>) -> HashMap<String, String> {
    const MARK: &str = "=-=-=";
    // A command may hold semicolons, so its number marks it.
    let script: String =
        commands.iter().enumerate().map(|(n, command)| format!(".echo {MARK}{n}\n{command}\n")).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script");
    std::fs::write(&file, script + ".echo =-=-=\nq\n").unwrap();
    let mut args = vec!["-z".to_owned(), dump.to_owned(), "-cf".to_owned(), arg(&file)];
    args.extend(symbols.iter().flat_map(|path| ["-y".to_owned(), arg(path)]));
    let mut run = kd(args);
    if symbols.is_none() {
        // The analysis at load would look for symbols, and `lm` would say so.
        run = run.variable("DBGENG_NO_BUGCHECK_ANALYSIS", "1");
    }
    let run = run.run();
    assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{}", run.stdout);
    run.stdout
        .split(MARK)
        .skip(1)
        .filter_map(|part| part.split_once('\n'))
        .filter_map(|(number, text)| {
            Some((commands.get(number.parse::<usize>().ok()?)?.to_string(), text.to_owned()))
        })
        .collect()
}

#[test]
fn commands_print_what_microsofts_print() {
    let Some(shared) = kd_tests::shared() else { return };
    let mut used = HashSet::new();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for &(recording, dump, with_symbols) in RECORDINGS {
        let text = std::fs::read_to_string(shared.join("reference/kd-output").join(recording)).unwrap();
        let sections = sections(&text);
        let commands: Vec<_> = sections.iter().map(|(command, _)| *command).collect();
        let dump = arg(&shared.join("dumps/real").join(dump));
        let symstore = shared.join("symbols/symstore");
        let outputs = outputs(&commands, &dump, with_symbols.then_some(&symstore));
        for (command, theirs) in sections {
            let ours = lines(&outputs[command], &dump);
            let difference = compare(command, &lines(&theirs, &dump), &ours, &mut used);
            wrong.extend(difference.map(|difference| format!("{recording}: {difference}")));
            compared += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} commands differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared >= 45, "{compared} commands compared");
    for (index, row) in DIFFERENCES.iter().enumerate() {
        assert!(
            used.contains(&index),
            "{:?} no longer differs in {}: remove its row",
            row.theirs,
            row.command
        );
    }
}
