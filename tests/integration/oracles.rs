//! The built images as LLVM's tools and the `object` crate read them, against what kd reads: instructions, unwind
//! data, exports, public symbols. Skipped aloud where a tool is not installed.

use kd::disasm;
use kd::dump::Machine as Processor;
use kd::image::{Headers, ImageBytes, exports};
use kd::target::unwind::arm64_codes::{self, Op};
use kd::target::unwind::x64::{self, Code};
use kd_sdk::address::Va;
use kd_tests::lab::image::{self, Image};
use kd_tests::lab::kernels;
use kd_tests::lab::layout::{GENERATIONS, Generation, Machine};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use object::read::{ExportTarget, NameOrOrdinal};
use object::{Object, ObjectSection};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// A tool of LLVM, with or without its version in the name; `None` and a word about it where there is none.
fn tool(name: &str) -> Option<String> {
    let names = [format!("{name}-19"), name.to_owned()];
    let found = names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok());
    if found.is_none() {
        eprintln!("skipped: there is no {name}");
    }
    found
}

fn ask(tool: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(tool).args(arguments).arg(file).output().unwrap();
    assert!(
        output.status.success(),
        "{tool} {}: {}",
        file.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A generation of each machine; the code of the others differs in offsets.
fn chosen() -> impl Iterator<Item = &'static Generation> {
    GENERATIONS.iter().filter(|g| ["x86-2600", "x64-26100", "arm64-22000"].contains(&g.name))
}

fn processor(machine: Machine) -> Processor {
    match machine {
        Machine::X64 => Processor::X64,
        Machine::X86 => Processor::X86,
        Machine::Arm64 => Processor::Arm64,
    }
}

/// Where kd, which follows KD, and LLVM write the same instruction in different ways. The comparison takes theirs to
/// ours by these rows and nothing else: a regular look at the line, what is done to it, why.
#[rustfmt::skip]
const SPELLINGS: &[(&[Machine], Spelling, &str)] = &[
    (INTEL, Spelling::Mnemonic("int3", "int 3"), "KD writes the short form of the breakpoint like any other interrupt"),
    (INTEL, Spelling::Padding, "LLVM calls the two bytes 66 90 nop, KD the exchange that they are"),
    (INTEL, Spelling::ShiftByOne, "LLVM leaves out the 1 of shifts and rotations by one"),
    (INTEL, Spelling::Segment("cs:"), "LLVM shows prefixes of long nops, which the processor ignores in 64-bit code"),
    (INTEL, Spelling::OurSegment("ds:"), "KD names the segment of an address without registers"),
    (ARM, Spelling::Condition, "KD writes beq for b.eq"),
    (ARM, Spelling::Register("x29", "fp"), "KD's name of the frame pointer"),
    (ARM, Spelling::Register("x30", "lr"), "KD's name of the link register"),
];
const INTEL: &[Machine] = &[Machine::X86, Machine::X64];
const ARM: &[Machine] = &[Machine::Arm64];

/// A difference in writing.
#[derive(Clone, Copy)]
enum Spelling {
    /// Another word for the instruction, with operands.
    Mnemonic(&'static str, &'static str),
    /// A no-operation of two bytes.
    Padding,
    /// The count 1 of shifts.
    ShiftByOne,
    /// A segment that only they write.
    Segment(&'static str),
    /// A segment that only we write.
    OurSegment(&'static str),
    /// A dot in conditional branches.
    Condition,
    /// Another name of a register.
    Register(&'static str, &'static str),
}

/// Takes their mnemonic and operands, and our operands, to one spelling.
fn respell(machine: Machine, mnemonic: &mut String, operands: &mut String, ours: &mut String) {
    for (_, spelling, _) in SPELLINGS.iter().filter(|s| s.0.contains(&machine)) {
        match *spelling {
            Spelling::Mnemonic(theirs, other) if mnemonic == theirs => {
                let (word, operand) = other.split_once(' ').unwrap_or((other, ""));
                (*mnemonic, *operands) = (word.to_owned(), operand.to_owned());
            }
            Spelling::Padding if mnemonic == "nop" && ours == "ax,ax" => {
                (*mnemonic, *operands) = ("xchg".to_owned(), ours.clone());
            }
            Spelling::ShiftByOne
                if ["shl", "shr", "sar", "rol", "ror", "rcl", "rcr"].contains(&mnemonic.as_str())
                    && !operands.contains(',') =>
            {
                operands.push_str(", 1");
            }
            Spelling::Segment(name) => *operands = operands.replace(name, ""),
            Spelling::OurSegment(name) => *ours = ours.replace(name, ""),
            Spelling::Condition => *mnemonic = mnemonic.replacen("b.", "b", 1),
            Spelling::Register(theirs, other) => {
                let words = operands.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
                *operands = words
                    .map(|word| match word.strip_prefix(theirs) {
                        Some(rest) if rest.len() <= 1 && !rest.starts_with(|c: char| c.is_ascii_digit()) => {
                            format!("{other}{rest}")
                        }
                        _ => word.to_owned(),
                    })
                    .collect();
            }
            _ => {}
        }
    }
}

/// A piece of an operand.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Piece {
    Word(String),
    Number(i128),
}

/// Operands in pieces, whatever their spelling: numbers by value, sums in memory operands in one order.
fn pieces(text: &str, number: &dyn Fn(&str) -> Option<i128>) -> Vec<Piece> {
    let mut result = Vec::new();
    let mut rest = text;
    let mut inside = None;
    let mut minus = false;
    while let Some(c) = rest.chars().next() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"_`.".contains(c)).unwrap_or(rest.len());
        if end > 0 {
            let word = &rest[..end];
            result.push(match number(word) {
                Some(value) => Piece::Number(if minus { -value } else { value }),
                None => Piece::Word(word.to_lowercase()),
            });
            minus = false;
            rest = &rest[end..];
            continue;
        }
        match c {
            '[' => {
                inside = Some(result.len() + 1);
                result.push(Piece::Word("[".into()));
            }
            ']' => {
                // Of a sum, the order does not matter; nor does the side of a factor.
                let mut sum = result.split_off(inside.take().unwrap_or(result.len()));
                sum.sort();
                result.extend(sum);
                result.push(Piece::Word("]".into()));
            }
            '-' => minus = true,
            ' ' | ',' | '+' | '#' | '*' => {}
            c => result.push(Piece::Word(c.to_string())),
        }
        rest = &rest[c.len_utf8()..];
    }
    result
}

/// The same number: LLVM writes constants with a sign where the operand is narrow.
fn same(ours: &Piece, theirs: &Piece) -> bool {
    match (ours, theirs) {
        (Piece::Number(a), Piece::Number(b)) => {
            a == b || (*b < 0 || *a < 0) && [8, 16, 32, 64].iter().any(|n| (a - b) % (1i128 << n) == 0)
        }
        (a, b) => a == b,
    }
}

/// Numbers in LLVM's text: decimal, or hexadecimal after `0x`.
fn their_number(word: &str) -> Option<i128> {
    match word.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// Numbers in ours: MASM's for Intel, `0x` for arm64, addresses in full.
fn our_number(machine: Machine, word: &str) -> Option<i128> {
    if word.contains('`') || machine == Machine::X86 && word.len() == 8 {
        return i128::from_str_radix(&word.replace('`', ""), 16).ok();
    }
    if machine == Machine::Arm64 {
        return their_number(word);
    }
    match word.strip_suffix(['h', 'H']) {
        Some(digits) if word.starts_with(|c: char| c.is_ascii_digit()) => {
            i128::from_str_radix(digits, 16).ok()
        }
        _ => word.parse().ok(),
    }
}

/// Mnemonic and operands of one of LLVM's lines, without what it adds for people.
fn theirs(text: &str) -> (String, String) {
    let (text, comment) = text.split_once(" # ").unwrap_or((text, ""));
    let text = text.split_once("// =").map_or(text, |(text, _)| text);
    let text = text.split_once(" <").map_or(text, |(text, _)| text).trim();
    let (mnemonic, operands) = text.split_once(['\t', ' ']).unwrap_or((text, ""));
    let mut operands = operands.to_owned();
    if let (Some(from), Some(end)) = (operands.find("[rip"), operands.find(']')) {
        operands.replace_range(from..end, &format!("[{}", comment.split(' ').next().unwrap_or("")));
    }
    (mnemonic.to_owned(), operands)
}

#[test]
fn disassembly_is_that_of_llvm() {
    let Some(objdump) = tool("llvm-objdump") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = BTreeMap::new();
    let mut compared = 0;
    for g in chosen() {
        for (name, file) in kernels::load(g).unwrap().iter().filter(|f| !f.0.ends_with(".pdb")) {
            let path = folder.path().join(name);
            std::fs::write(&path, file).unwrap();
            let options: &[&str] = match g.machine {
                Machine::Arm64 => &["-d", "--no-show-raw-insn"],
                _ => &["-d", "--no-show-raw-insn", "-M", "intel"],
            };
            let parsed = object::File::parse(&file[..]).unwrap();
            for line in ask(&objdump, options, &path).lines() {
                let Some((address, text)) = line.split_once(':') else { continue };
                let Ok(address) = u64::from_str_radix(address.trim(), 16) else { continue };
                let text = text.trim();
                if text.is_empty() {
                    continue;
                }
                let section =
                    parsed.sections().find(|s| (s.address()..s.address() + s.size()).contains(&address));
                let section = section.unwrap();
                let bytes = &section.data().unwrap()[(address - section.address()) as usize..];
                let bytes = &bytes[..bytes.len().min(disasm::LONGEST)];
                let ours = disasm::decode(processor(g.machine), Va(address), bytes, &|_| None).unwrap();
                let (mut mnemonic, mut operands) = theirs(text);
                let mut our_operands = ours.operands.clone();
                respell(g.machine, &mut mnemonic, &mut operands, &mut our_operands);
                let found = pieces(&our_operands, &|word| our_number(g.machine, word));
                let wanted = pieces(&operands, &their_number);
                let equal = ours.mnemonic == mnemonic
                    && found.len() == wanted.len()
                    && found.iter().zip(&wanted).all(|(a, b)| same(a, b));
                compared += 1;
                if !equal {
                    let line = format!("{address:#x} ours {} | theirs {text}", ours.text());
                    wrong.entry((g.machine.image_type(), mnemonic)).or_insert_with(Vec::new).push(line);
                }
            }
        }
    }
    let list: Vec<String> =
        wrong.values().map(|lines| format!("{} like {}", lines.len(), lines[0])).collect();
    assert!(compared > 4000, "{compared}");
    assert!(wrong.is_empty(), "of {compared}:\n{}", list.join("\n"));
}

/// An image as it lies in memory.
struct Loaded(Image);

impl ImageBytes for Loaded {
    fn read(&self, rva: u32, into: &mut [u8]) -> bool {
        let bytes = self.0.bytes.get(rva as usize..rva as usize + into.len());
        bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
    }
}

/// The images of a generation, with their files.
fn images(g: &Generation) -> Vec<(Loaded, Vec<u8>)> {
    let files = kernels::load(g).unwrap();
    let images = files.iter().filter(|f| !f.0.ends_with(".pdb"));
    images
        .map(|(name, file)| {
            let symbols = files.iter().find(|f| f.0.starts_with("ntkr")).unwrap().1.clone();
            (Loaded(image::built(g.machine, 0, name, name.clone(), file, symbols)), file.clone())
        })
        .collect()
}

/// The number behind a name in a line.
fn value(text: &str, name: &str) -> Option<u64> {
    let rest = text.split(name).nth(1)?.trim_start_matches([':', ' ', '(', '=', '#', '-']);
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    their_number(&rest[..end]).and_then(|n| u64::try_from(n).ok())
}

#[test]
fn unwind_data_of_x64_are_those_of_llvm() {
    let Some(readobj) = tool("llvm-readobj") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut functions = 0;
    for g in GENERATIONS.iter().filter(|g| g.machine == Machine::X64) {
        for (image, file) in images(g) {
            let path = folder.path().join("image");
            std::fs::write(&path, &file).unwrap();
            let base = 0x1_4000_0000u64;
            for block in ask(&readobj, &["--unwind"], &path).split("RuntimeFunction {").skip(1) {
                let what = format!("{} {} {block}", g.name, image.0.name);
                let base =
                    if value(block, "StartAddress").unwrap() >= 0x1_8000_0000 { 0x1_8000_0000 } else { base };
                let info = (value(block, "UnwindInfoAddress").unwrap() - base) as u32;
                let ours = x64::read_info(&image, info).unwrap();
                assert_eq!(Some(u64::from(ours.prologue)), value(block, "PrologSize"), "{what}");
                assert_eq!(Some(u64::from(ours.flags)), value(block, "Flags [ "), "{what}");
                let register = |name: &str| {
                    let all = "RAX RCX RDX RBX RSP RBP RSI RDI R8 R9 R10 R11 R12 R13 R14 R15";
                    all.split(' ').position(|n| n == name).unwrap() as u8
                };
                let words = |line: &str| line.split([' ', ',', '=']).map(str::to_owned).collect::<Vec<_>>();
                let codes = block.split("UnwindCodes [").nth(1).unwrap().split(']').next().unwrap();
                let codes: Vec<(u8, Code)> = codes
                    .lines()
                    .filter_map(|line| line.trim().split_once(": "))
                    .map(|(at, code)| {
                        let words = words(code);
                        let number = |name: &str| value(code, name).unwrap() as u32;
                        let named = || register(&words[2]);
                        let code = match words[0].as_str() {
                            "PUSH_NONVOL" => Code::Push(named()),
                            "ALLOC_SMALL" | "ALLOC_LARGE" => Code::Allocate(number("size")),
                            "SET_FPREG" => {
                                assert_eq!(ours.frame_register, named(), "{what}");
                                assert_eq!(ours.frame_offset, number("offset"), "{what}");
                                Code::SetFrame
                            }
                            "SAVE_NONVOL" | "SAVE_NONVOL_FAR" => Code::Save(named(), number("offset")),
                            "SAVE_XMM128" | "SAVE_XMM128_FAR" => {
                                Code::SaveXmm(words[2][3..].parse().unwrap(), number("offset"))
                            }
                            "PUSH_MACHFRAME" => Code::MachineFrame(code.contains("yes")),
                            other => panic!("{other}: {what}"),
                        };
                        (their_number(at).unwrap() as u8, code)
                    })
                    .collect();
                assert_eq!(ours.codes, codes, "{what}");
                let chained = block.split("Chained {").nth(1).map(|c| {
                    let at = |name| (value(c, name).unwrap() - base) as u32;
                    (at("StartAddress"), at("EndAddress"), at("UnwindInfoAddress"))
                });
                assert_eq!(ours.chained.map(|c| (c.begin, c.end, c.unwind_info)), chained, "{what}");
                functions += 1;
            }
        }
    }
    assert!(functions > 200, "{functions}");
}

/// LLVM's words for an operation of arm64, without registers that kd does not follow.
fn operation(text: &str) -> Op {
    let text = text.replace("lr", "x30").replace("fp", "x29");
    let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
    let offset = text.rsplit('#').next().and_then(|n| n.trim_end_matches(['!', ']']).parse::<i64>().ok());
    let offset = offset.unwrap_or(0);
    match word {
        "stp" | "ldp" | "str" | "ldr" => {
            let moves = text.contains(']') && (text.ends_with('!') || text.contains("],"));
            let (at, before) = if moves { (0, offset.unsigned_abs()) } else { (offset as u64, 0) };
            if rest.starts_with('d') {
                return Op::SaveFloat { before };
            }
            let mut registers =
                rest.split(',').map(str::trim).filter_map(|r| r.strip_prefix('x')?.parse().ok());
            Op::Save { first: registers.next().unwrap(), second: registers.next(), offset: at, before }
        }
        "save" | "restore" => Op::SaveNext,
        "mov" => Op::SetFp,
        "add" | "sub" if rest.starts_with("x29") || rest.starts_with("sp, x29") => Op::AddFp(offset as u64),
        "add" | "sub" => Op::Allocate(offset as u64),
        "pacibsp" | "autibsp" => Op::SignLr,
        "trap" => Op::TrapFrame,
        "end" => Op::End,
        other => panic!("{other}: {text}"),
    }
}

#[test]
fn unwind_data_of_arm64_are_those_of_llvm() {
    let Some(readobj) = tool("llvm-readobj") else { return };
    let folder = tempfile::tempdir().unwrap();
    let g = Generation::named("arm64-22000");
    let (mut packed, mut full) = (0, 0);
    for (image, file) in images(g) {
        let path = folder.path().join("image");
        std::fs::write(&path, &file).unwrap();
        let (table, size) = image.0.exception_table;
        let entry =
            |at: u32| arm64_codes::Function::parse(image.0.bytes[at as usize..][..8].try_into().unwrap());
        let entries: Vec<_> = (table..table + size).step_by(8).map(entry).collect();
        let text = ask(&readobj, &["--unwind"], &path);
        let blocks: Vec<&str> = text.split("RuntimeFunction {").skip(1).collect();
        assert_eq!(blocks.len(), entries.len(), "{}", image.0.name);
        for (block, entry) in blocks.into_iter().zip(entries) {
            let what = format!("{} {block}", image.0.name);
            let ours = arm64_codes::read(&image, entry.word).unwrap();
            assert_eq!(Some(u64::from(ours.length)), value(block, "FunctionLength"), "{what}");
            let list = |text: &str| -> Vec<Op> {
                let lines = text.split('[').nth(1).map_or("", |_| &text[text.find('[').unwrap() + 1..]);
                let lines = lines.lines().map(str::trim).take_while(|line| *line != "]");
                lines
                    .filter(|line| !line.is_empty())
                    .map(|line| operation(line.split_once("; ").map_or(line, |(_, text)| text)))
                    .collect()
            };
            let prologue = list(block.split("Prologue").nth(1).unwrap());
            assert_eq!(ours.prologue, prologue, "{what}");
            let epilogues: Vec<Vec<Op>> = match block.split("EpilogueScopes [").nth(1) {
                Some(scopes) => scopes.split("Opcodes").skip(1).map(list).collect(),
                // LLVM does not repeat codes that both share.
                None if block.contains("EpilogueOffset: 0\n") => vec![prologue],
                None => block.split("Epilogue [").skip(1).map(|part| list(&format!("[{part}"))).collect(),
            };
            if block.contains("ExceptionRecord") {
                let found: Vec<Vec<Op>> = ours.epilogues.iter().map(|e| e.1.clone()).collect();
                assert_eq!(found, epilogues, "{what}");
                full += 1;
            } else {
                packed += 1;
            }
        }
    }
    assert!(full > 40 && packed > 5, "{full} {packed}");
}

#[test]
fn exports_and_public_symbols_are_those_others_read() {
    let pdbutil = tool("llvm-pdbutil");
    let folder = tempfile::tempdir().unwrap();
    for g in chosen() {
        for (image, file) in images(g) {
            let parsed = object::File::parse(&file[..]).unwrap();
            let mut wanted: Vec<(String, u32)> = parsed
                .exports()
                .unwrap()
                .map(Result::unwrap)
                .filter_map(|e| match (e.name(), e.target()) {
                    (NameOrOrdinal::Name(name), ExportTarget::Address { address }) => {
                        let rva = address - parsed.relative_address_base();
                        Some((String::from_utf8_lossy(name).into_owned(), rva as u32))
                    }
                    _ => None,
                })
                .collect();
            let headers = Headers::parse(&image).unwrap();
            let mut found: Vec<(String, u32)> =
                exports(&image, &headers).into_iter().map(|e| (e.name, e.rva)).collect();
            wanted.sort();
            found.sort();
            assert_eq!(found, wanted, "{} {}", g.name, image.0.name);
        }
        let Some(pdbutil) = &pdbutil else { continue };
        // Every public symbol of LLVM's list is found by its name at its place.
        let world = World::build(Options::of(g.name, Story::Idle));
        let path = folder.path().join("dump");
        writer::write(&world, Kind::Full, &path).unwrap();
        let store = folder.path().join(g.name);
        world.write_symbols(&store).unwrap();
        let session = super::stories::session(&path, &store);
        let scope = session.scope(None).unwrap();
        let mut count = 0;
        for image in &world.images {
            let file = folder.path().join("pdb");
            std::fs::write(&file, image.symbols_file.as_ref().unwrap()).unwrap();
            let text = ask(pdbutil, &["dump", "-publics"], &file);
            let mut name = None;
            for line in text.lines() {
                if line.contains("S_PUB32") {
                    name = line.split('`').nth(1);
                }
                let (Some(name), Some(at)) = (name, line.split("addr = ").nth(1)) else { continue };
                let (section, offset) = at.split_once(':').unwrap();
                let Some(section) = image.sections.get(section.parse::<usize>().unwrap() - 1) else {
                    continue;
                };
                let wanted = image.base + u64::from(section.rva) + offset.trim().parse::<u64>().unwrap();
                let module =
                    if image.name == "ntoskrnl.exe" { "nt" } else { image.name.split('.').next().unwrap() };
                // Names as written in C; decoration is x86's.
                let plain = if g.machine == Machine::X86 { undecorated(name) } else { name };
                // An expression has no place for the signs in the middle of `__imp_@Name@8`.
                if !plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                    continue;
                }
                let found = scope.evaluate(&format!("{module}!{plain}"));
                assert_eq!(found.ok(), Some(wanted), "{} {module}!{plain}", g.name);
                count += 1;
            }
        }
        assert!(count > 150, "{}: {count} public symbols", g.name);
    }
}

/// `_Name@4` and `@Name@8` without what the calling convention adds.
fn undecorated(name: &str) -> &str {
    let name = name.strip_prefix(['_', '@']).unwrap_or(name);
    match name.rsplit_once('@') {
        Some((stem, digits)) if digits.parse::<u32>().is_ok() => stem,
        _ => name,
    }
}
