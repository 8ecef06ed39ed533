//! `dt` against another reader of the same PDB: every structure, every member, by name, offset, size and bits.

use super::*;
use crate::dump::{Dump, OpenOptions};
use crate::symbols::{SymbolPath, Symbols};
use crate::target::Target;
use kd_sdk::output::{Event, Sink};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Default)]
struct Recorder(RefCell<String>);

impl Sink for Recorder {
    fn emit(&self, event: &Event<'_>) {
        if let Event::Text { text, .. } | Event::Field { shown: text, .. } = event {
            self.0.borrow_mut().push_str(text);
        }
    }
}

struct Nothing;

impl Memory for Nothing {
    fn read(&self, _: Va, _: &mut [u8]) -> std::result::Result<(), String> {
        Err("no memory".to_owned())
    }
    fn name_of(&self, _: Va) -> Option<String> {
        None
    }
}

/// What `dt ARGUMENTS` shows of a type, without values.
fn shown(types: &ModuleTypes, text: &str, id: Option<TypeId>) -> String {
    let recorder = Recorder::default();
    let out = Out::new(&recorder);
    let arguments = Arguments::parse(text).unwrap();
    let tree = Tree { out: &out, types, memory: &Nothing, arguments: &arguments, interrupted: &|| false };
    let id = id.unwrap_or_else(|| types.find(arguments.name).unwrap());
    if arguments.verbose {
        out.line(&types.verbose_name(id));
    }
    let asked: Vec<Asked<'_>> =
        arguments.rest.iter().map(|(naming, word)| Asked::parse(word, *naming == Naming::Start)).collect();
    show(&tree, id, None, &asked, arguments.name).unwrap();
    recorder.0.into_inner()
}

fn shared() -> Option<PathBuf> {
    crate::shared("symbols/symstore").and_then(|_| crate::shared(""))
}

/// The kernel's types of a real dump, and the PDB they come from.
fn kernel_types(shared: &Path, dump: &str) -> (Arc<ModuleTypes>, PathBuf) {
    let dump = Dump::open(&shared.join("dumps/real").join(dump), &OpenOptions::default()).unwrap();
    let target = Target::open(dump);
    let symbols = Symbols::new(SymbolPath::parse(&shared.join("symbols/symstore").to_string_lossy()));
    let types = symbols.types(&target, "nt").unwrap();
    let nt = symbols.module_named(&target, "nt").unwrap();
    let crate::symbols::ModuleState::Loaded { pdb, .. } = symbols.state(&target, nt) else {
        panic!("no symbols")
    };
    (types, pdb)
}

/// A structure as the other reader tells it: its size, and (name, offset, bits) of each member.
type Layout = (u64, Vec<(String, u64, Option<(u32, u32)>)>);

/// Reads what `llvm-pdbutil dump -types` prints.
fn layouts(text: &str) -> Vec<(TypeId, String, Layout)> {
    let between = |line: &str, from: &str, to: &str| -> Option<String> {
        let (_, rest) = line.split_once(from)?;
        Some(rest.split(to).next().unwrap_or(rest).trim().to_owned())
    };
    let index = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let (mut lists, mut bits, mut found) = (HashMap::new(), HashMap::new(), Vec::new());
    let mut record = (0, "", "");
    let mut fields = None;
    for line in text.lines() {
        let head = line.trim().split_once(" | ").and_then(|(number, rest)| Some((index(number)?, rest)));
        if let Some((number, rest)) = head {
            record = (number, rest.split(' ').next().unwrap(), rest);
            continue;
        }
        let (number, leaf, title) = record;
        match leaf {
            "LF_FIELDLIST" if line.contains("LF_MEMBER") => {
                let of = index(between(line, "Type = ", ",").unwrap().split(' ').next().unwrap()).unwrap();
                let offset = between(line, "offset = ", ",").unwrap().parse::<u64>().unwrap();
                let list: &mut Vec<_> = lists.entry(number).or_default();
                list.push((between(line, "name = `", "`").unwrap(), offset, of));
            }
            "LF_BITFIELD" if line.contains("# bits") => {
                let at = between(line, "bit offset = ", ",").unwrap().parse::<u32>().unwrap();
                bits.insert(number, (at, between(line, "# bits = ", ",").unwrap().parse::<u32>().unwrap()));
            }
            "LF_STRUCTURE" | "LF_UNION" | "LF_CLASS" => {
                if let Some(list) = between(line, "field list: ", ",") {
                    fields = index(&list);
                }
                if let Some(size) = between(line, "sizeof ", ",")
                    && !line.contains("forward ref")
                {
                    let name = between(title, "`", "`").unwrap();
                    found.push((number, name, size.parse::<u64>().unwrap(), fields.take()));
                }
            }
            _ => {}
        }
    }
    let members = |list: Option<u32>| {
        let list: Vec<(String, u64, u32)> =
            list.and_then(|list| lists.get(&list).cloned()).unwrap_or_default();
        list.into_iter().map(|(name, offset, of)| (name, offset, bits.get(&of).copied())).collect()
    };
    found
        .into_iter()
        .map(|(number, name, size, list)| (TypeId(number), name, (size, members(list))))
        .collect()
}

#[test]
fn every_structure_is_what_another_reader_finds() {
    let Some(shared) = shared() else { return };
    for dump in ["x64-19041-7e.dmp", "x64-19041-50-nx.dmp"] {
        let (types, pdb) = kernel_types(&shared, dump);
        let reader = ["llvm-pdbutil", "llvm-pdbutil-19", "llvm-pdbutil-14"]
            .iter()
            .find_map(|name| Command::new(name).args(["dump", "-types"]).arg(&pdb).output().ok());
        let Some(output) = reader.filter(|output| output.status.success()) else {
            println!("skipped: llvm-pdbutil is not installed, so dt is not compared with another reader");
            return;
        };
        let expected = layouts(&String::from_utf8_lossy(&output.stdout));
        let (mut compared, mut members, mut wrong) = (0, 0, Vec::new());
        for (id, name, (size, fields)) in &expected {
            compared += 1;
            let text = shown(&types, "-v x", Some(*id));
            let name = name.rsplit("::").next().filter(|last| last.starts_with('<')).unwrap_or(name);
            let mut lines = text.lines();
            let head = lines.next().unwrap();
            if !head.ends_with(&format!(" {name}, {} elements, {size:#x} bytes", fields.len())) {
                wrong.push(format!("{name}: {head}, not {size:#x} bytes"));
            }
            let mut lines = lines.peekable();
            for (field, offset, bits) in fields {
                members += 1;
                let bits = match bits {
                    Some((at, 1)) => format!("Bitfield Pos {at}, 1 Bit"),
                    Some((at, count)) => format!("Bitfield Pos {at}, {count} Bits"),
                    None => String::new(),
                };
                let line = lines.next().unwrap_or_default();
                let start = format!("   +0x{offset:03x} {field:<16} : {bits}");
                if !line.starts_with(&start) || (bits.is_empty() && line.contains(" : Bitfield")) {
                    wrong.push(format!("{name}: {line}, not {start}"));
                }
            }
            if let Some(line) = lines.next() {
                wrong.push(format!("{name}: {line}, which the other reader does not have"));
            }
        }
        println!("{dump}: {compared} structures with {members} members, {} differ", wrong.len());
        assert!(compared > 1600 && wrong.is_empty(), "{compared} compared, {wrong:#?}");
    }
}

#[test]
fn the_looks_are_kd_s() {
    let Some(shared) = shared() else { return };
    let (types, _) = kernel_types(&shared, "x64-19041-7e.dmp");
    // What KD itself printed for this dump.
    let Ok(said) = std::fs::read_to_string(shared.join("reference/kd-output/x64-19041-7e-symbols.txt"))
    else {
        println!("skipped: the transcript of KD is not there");
        return;
    };
    let mut compared = 0;
    for block in said.split(">>> dt ").skip(1) {
        let (line, rest) = block.split_once('\n').unwrap();
        if line.contains('@') {
            continue;
        }
        let expected = rest.split(">>>").next().unwrap().trim_end();
        let got = shown(&types, &line.replace("nt!", ""), None);
        // Members of a union stand in another order there, as the transcript says.
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&got), sorted(expected), "dt {line}");
        compared += 1;
    }
    assert!(compared >= 7, "{compared}");
}
