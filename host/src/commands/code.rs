//! `u`, `ub`, `uf`, `uu`, `up`: code as instructions; `.fnent`: its entry in the function table.
//!
//! Lines are KD's. Bytes come from the dump, and where it has none from the module's image file; a closing line says so.

use super::{Builtin, Call, Needs};
use crate::disasm::{self, Flow, Instruction, LONGEST};
use crate::dump::Machine;
use crate::pattern::Pattern;
use crate::scope::Scope;
use crate::session::Session;
use crate::stack::CodeBytes;
use crate::target::unwind::tables::{ModuleBytes, Tables, find_entry};
use crate::target::unwind::{Origin, arm64_codes, x64};
use crate::ui::interrupt;
use kd_sdk::address::{Pa, Va};
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &["u", "uu", "up"],
        usage: "[ADDRESS | START END | START LCOUNT]",
        summary: "Disassemble",
        help: "Shows eight instructions or the range; without an address it goes on where the last u ended, at first at\n\
               the instruction pointer. uu goes on past bytes that cannot be read, up takes a physical address.\n\
               Code that the dump does not hold comes from the image files on the image path (-i); a line says so.",
        needs: Needs::Target,
        run: forward,
    },
    Builtin {
        names: &["ub"],
        usage: "[ADDRESS] [LCOUNT]",
        summary: "Disassemble backwards",
        help: "Shows the eight (COUNT) instructions before the address. Instructions of x86 and x64 cannot be read\n\
               backwards for certain; those shown are what leads to the address from the start of the function or from\n\
               further up.",
        needs: Needs::Target,
        run: backward,
    },
    Builtin {
        names: &["uf"],
        usage: "[ADDRESS]",
        summary: "Disassemble a function",
        help: "Follows the flow of the function that holds the address, from its entry in the function table, else\n\
               from its symbol, else from the address.",
        needs: Needs::Target,
        run: function,
    },
    Builtin {
        names: &["#"],
        usage: "[PATTERN [ADDRESS [LCOUNT]]]",
        summary: "Search for an instruction",
        help: "Shows the first line of the disassembly from ADDRESS on that holds PATTERN (in quotes if it has blanks;\n\
               wildcards: * ? [] # +). Without ADDRESS it goes on where the last u or # ended, without PATTERN with the\n\
               last one. Ends at code that cannot be read and after COUNT instructions.",
        needs: Needs::Target,
        run: find,
    },
    Builtin {
        names: &[".fnent"],
        usage: "ADDRESS",
        summary: "Show the function table entry of code",
        help: "",
        needs: Needs::Target,
        run: entry,
    },
];

/// Instructions `u` shows when nobody says how many.
const DEFAULT: u64 = 8;
/// The most instructions of one command.
const MOST: u64 = 1 << 20;
/// The most instructions of a function.
const MOST_OF_FUNCTION: usize = 1 << 15;
/// Without unwind data or symbols a jump further than this leaves the function.
const FAR: u64 = 0x1_0000;
/// Bytes before an address in which `ub` looks for a start.
const RUN_UP: u64 = 64;

/// Reads and decodes, and remembers whether an image file was needed.
pub struct Reader<'a> {
    scope: &'a Scope,
    machine: Machine,
    physical: bool,
    origin: Cell<Origin>,
}

impl<'a> Reader<'a> {
    /// Of the target's own machine.
    ///
    /// # Errors
    /// When no dump is open.
    pub fn new(scope: &'a Scope) -> Result<Reader<'a>> {
        scope.target()?;
        let machine = scope.machine();
        Ok(Reader { scope, machine, physical: false, origin: Cell::new(Origin::Dump) })
    }

    fn read(&self, va: Va, into: &mut [u8]) -> CodeBytes {
        if self.physical {
            let read = self.scope.target().map(|target| target.read_physical(Pa(va.0), into));
            let done = match read {
                Ok(Ok(())) => into.len(),
                Ok(Err((done, _))) => done,
                Err(_) => 0,
            };
            return CodeBytes { done, origin: Origin::Dump, fault: None };
        }
        self.scope.read_code(va, into)
    }

    /// Where the bytes of what was decoded last came from; forgets it.
    pub fn take_origin(&self) -> Origin {
        self.origin.take()
    }

    /// The instruction at an address, or how far its bytes went.
    ///
    /// # Errors
    /// Where they are neither in the dump nor in an image file.
    pub fn decode(&self, va: Va) -> std::result::Result<Instruction, CodeBytes> {
        let mut bytes = [0; LONGEST];
        let found = self.read(va, &mut bytes);
        let code = bytes.get(..found.done).unwrap_or_default();
        let resolve = |va: Va| self.scope.name_of(va).map(|hit| hit.to_string());
        match disasm::decode(self.machine, va, code, &resolve) {
            Some(instruction) => {
                if found.origin == Origin::ImageFile {
                    self.origin.set(Origin::ImageFile);
                }
                Ok(instruction)
            }
            None => Err(found),
        }
    }

    /// The line that names a place: `nt+0x3f5a80:`. `only_start`: just where a symbol begins.
    fn heading(&self, out: &Out<'_>, va: Va, only_start: bool) {
        if self.physical {
            return;
        }
        let Some(hit) = self.scope.name_of(va) else { return };
        if only_start && (hit.displacement != 0 || hit.name.is_empty()) {
            return;
        }
        let name = hit.to_string();
        out.styled_field("symbol", Value::Text(&name), Style::Symbol, &name);
        out.line(":");
    }

    fn line(&self, out: &Out<'_>, instruction: &Instruction) {
        let look = &self.scope.look.assembly;
        if look.source_line {
            let open = self.scope.open.as_ref().filter(|_| !self.physical);
            let found = open.and_then(|open| open.symbols.line_at(&open.target, instruction.va));
            let number = found.as_ref().map(|line| line.line);
            let shown = number.map_or(" ".repeat(6), |number| format!("{number:>5} "));
            let number = number.map_or(Value::Null, |number| Value::UInt(number.into()));
            out.styled_field("source_line", number, Style::Dim, &shown);
        }
        out.data("address", Value::Hex(instruction.va.0));
        let line = instruction.line_of(!look.no_code_bytes);
        out.field("text", Value::Text(&instruction.text()), &line);
        out.end_line();
    }

    /// Says that code came from a file.
    fn note(&self, out: &Out<'_>) {
        if self.origin.get() == Origin::ImageFile {
            let text =
                "Some of this code is not in the dump; it comes from the image file, without relocations.";
            out.styled_field("note", Value::Text(text), Style::Dim, text);
            out.end_line();
        }
    }
}

fn is_interrupted() -> Result<()> {
    if interrupt::take_interrupt() { Err(Error::Interrupted) } else { Ok(()) }
}

/// KD's error under an instruction that cannot be read: the line, and a caret at the end of what was typed.
fn unreadable(
    session: &Session,
    out: &Out<'_>,
    reader: &Reader<'_>,
    call: &Call<'_>,
    va: Va,
    why: CodeBytes,
) -> Error {
    let pointer = reader.machine.pointer_size();
    out.record("missing", |out| {
        out.data("address", Value::Hex(va.0));
        out.line(&disasm::unreadable_line(reader.machine, va));
        let typed = format!("{} {}", call.name, call.args);
        let typed = typed.trim_end();
        let column = session.prompt().chars().count() + typed.chars().count();
        out.line(&format!("{}^ Memory access error in '{typed}'", " ".repeat(column)));
        if let Some(fault) = why.fault {
            let text = format!("{}: {} ({})", fault.at.show(pointer), fault.why, fault.detail);
            out.styled_field("why", Value::Text(&text), Style::Dim, &text);
            out.end_line();
        }
    });
    Error::Other(String::new())
}

/// What `u` shows.
enum Extent {
    Count(u64),
    /// Up to and with this address.
    End(Va),
}

fn parse(scope: &Scope, text: &str, default_start: Va, default_count: u64) -> Result<(Va, Extent)> {
    let text = text.trim();
    let is_count = |text: &str| {
        text.strip_prefix(['L', 'l']).is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_ascii_hexdigit() || c.is_whitespace() || "(?@$".contains(c))
        })
    };
    let (start, rest) = if text.is_empty() || is_count(text) {
        (default_start, text)
    } else {
        let (start, rest) = scope.evaluate_first(text)?;
        (Va(start), rest.trim())
    };
    if rest.is_empty() {
        return Ok((start, Extent::Count(default_count)));
    }
    if is_count(rest) {
        let count = rest.get(1..).unwrap_or_default();
        let count = scope.evaluate(count.strip_prefix('?').unwrap_or(count))?;
        return Ok((start, Extent::Count(count.min(MOST))));
    }
    let end = Va(scope.evaluate(rest)?);
    if end < start {
        return Err(Error::Usage(format!("range error: {end} is before {start}")));
    }
    Ok((start, Extent::End(end)))
}

fn forward(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let mut reader = Reader::new(&scope)?;
    reader.physical = call.name == "up";
    let last = session.last_code;
    let start = || last.or_else(|| scope.register("$ip").map(Va)).unwrap_or_default();
    let (start, extent) = parse(&scope, call.args, start(), DEFAULT)?;
    let mut at = start;
    let mut shown = 0;
    let goes_on = |at: Va, shown: u64| match extent {
        Extent::Count(count) => shown < count,
        Extent::End(end) => at <= end && shown < MOST,
    };
    let failed = out.list("instructions", |out| -> Result<Option<CodeBytes>> {
        while goes_on(at, shown) {
            is_interrupted()?;
            let instruction = match reader.decode(at) {
                Ok(instruction) => instruction,
                Err(why) if call.name == "uu" => {
                    let _ = why;
                    out.record("", |out| {
                        if shown == 0 {
                            reader.heading(out, at, false);
                        }
                        out.data("address", Value::Hex(at.0));
                        out.field("missing", Value::Bool(true), &disasm::unreadable_line(reader.machine, at));
                        out.end_line();
                    });
                    let step = if reader.machine == Machine::Arm64 { 4 } else { 1 };
                    (at, shown) = (at.add(step), shown + 1);
                    continue;
                }
                Err(why) => return Ok(Some(why)),
            };
            out.record("", |out| {
                reader.heading(out, at, shown > 0);
                reader.line(out, &instruction);
            });
            at = instruction.next();
            shown += 1;
        }
        Ok(None)
    })?;
    session.last_code = Some(at);
    if let Some(why) = failed {
        if shown == 0 {
            reader.heading(out, at, false);
        }
        return Err(unreadable(session, out, &reader, call, at, why));
    }
    reader.note(out);
    Ok(())
}

fn find(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (given, rest) = match call.args.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
        None => call.args.split_once(char::is_whitespace).unwrap_or((call.args, "")),
    };
    if !given.is_empty() {
        session.last_instruction = Some(given.to_owned());
    }
    let wanted = session.last_instruction.clone();
    let wanted = wanted.ok_or_else(|| Error::Usage("# PATTERN: there was none before".to_owned()))?;
    let pattern = Pattern::parse(&format!("*{wanted}*")).map_err(|error| Error::Usage(error.to_string()))?;
    let scope = session.scope(call.processor)?;
    let reader = Reader::new(&scope)?;
    let last = session.last_code;
    let start = || last.or_else(|| scope.register("$ip").map(Va)).unwrap_or_default();
    let (mut at, extent) = parse(&scope, rest, start(), MOST)?;
    for count in 0..MOST {
        let goes_on = match extent {
            Extent::Count(most) => count < most,
            Extent::End(end) => at <= end,
        };
        if !goes_on {
            break;
        }
        is_interrupted()?;
        let instruction = match reader.decode(at) {
            Ok(instruction) => instruction,
            Err(why) => {
                session.last_code = Some(at);
                return Err(unreadable(session, out, &reader, call, at, why));
            }
        };
        at = instruction.next();
        if pattern.matches(&instruction.line()) {
            session.last_code = Some(at);
            out.record("instruction", |out| {
                reader.heading(out, instruction.va, false);
                reader.line(out, &instruction);
            });
            reader.note(out);
            return Ok(());
        }
    }
    session.last_code = Some(at);
    Err(Error::NotFound(format!("no instruction before {at} holds '{wanted}'")))
}

fn backward(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let reader = Reader::new(&scope)?;
    let last = session.last_code;
    let start = || last.or_else(|| scope.register("$ip").map(Va)).unwrap_or_default();
    let (end, extent) = parse(&scope, call.args, start(), DEFAULT)?;
    let Extent::Count(count) = extent else {
        return Err(Error::Usage("ub takes an address and LCOUNT".to_owned()));
    };
    let count = count.min(1 << 12);
    match before(&reader, end, count) {
        Ok(instructions) => {
            session.last_code = instructions.first().map(|first| first.va);
            out.list("instructions", |out| {
                for (index, instruction) in instructions.iter().enumerate() {
                    out.record("", |out| {
                        reader.heading(out, instruction.va, index > 0);
                        reader.line(out, instruction);
                    });
                }
            });
            reader.note(out);
            Ok(())
        }
        Err((at, why)) => {
            reader.heading(out, at, false);
            Err(unreadable(session, out, &reader, call, at, why))
        }
    }
}

/// The instructions that lead to `end`, at most `count`.
///
/// # Errors
/// Where code is missing.
pub fn before(
    reader: &Reader<'_>,
    end: Va,
    count: u64,
) -> std::result::Result<Vec<Instruction>, (Va, CodeBytes)> {
    let take = |mut found: Vec<Instruction>| {
        let skip = found.len().saturating_sub(count as usize);
        found.drain(..skip);
        found
    };
    if reader.machine == Machine::Arm64 {
        let start = Va(end.0.wrapping_sub(count.saturating_mul(4)));
        let mut found = Vec::new();
        for index in 0..count {
            let at = start.add(index * 4);
            found.push(reader.decode(at).map_err(|why| (at, why))?);
        }
        return Ok(found);
    }
    // Bytes before the address, back to the first that is missing.
    let wanted = count.saturating_mul(LONGEST as u64).saturating_add(RUN_UP).min(end.0);
    let mut back = vec![0; wanted as usize];
    let first = Va(end.0.wrapping_sub(wanted));
    let whole = reader.read(first, &mut back);
    let mut lost = if whole.done < back.len() { whole.done as u64 } else { 0 };
    if whole.done < back.len() {
        lost = (0..wanted)
            .rev()
            .find(|at| reader.read(first.add(*at), &mut [0]).done == 0)
            .map_or(0, |at| at + 1);
    }
    let lowest = first.add(lost);
    if lowest >= end {
        let at = Va(end.0.wrapping_sub(1));
        return Err((at, reader.read(at, &mut [0])));
    }
    // A function's start is the surest beginning; else any from which decoding arrives, those further away first,
    // because decoding falls into step by itself.
    let named = function_start(reader.scope, end).filter(|start| *start >= lowest && *start < end);
    let starts = named.into_iter().chain((lowest.0..end.0).map(Va));
    let mut best: Vec<Instruction> = Vec::new();
    for start in starts {
        let found = run(reader, start, end);
        if found.len() as u64 >= count {
            return Ok(take(found));
        }
        if found.len() > best.len() {
            best = found;
        }
    }
    if best.is_empty() {
        let at = Va(end.0.wrapping_sub(1));
        return Err((at, whole));
    }
    Ok(take(best))
}

/// Decodes from `start`; nothing if that does not arrive exactly at `end` by valid instructions.
fn run(reader: &Reader<'_>, start: Va, end: Va) -> Vec<Instruction> {
    let mut found = Vec::new();
    let mut at = start;
    while at < end {
        match reader.decode(at) {
            Ok(instruction) if instruction.flow != Flow::Stop || instruction.mnemonic != "???" => {
                at = instruction.next();
                found.push(instruction);
            }
            _ => return Vec::new(),
        }
    }
    if at == end { found } else { Vec::new() }
}

/// Where the function that holds the byte before an address begins.
fn function_start(scope: &Scope, va: Va) -> Option<Va> {
    let inside = Va(va.0.wrapping_sub(1));
    let by_table = find_extent(scope, inside).map(|extent| extent.start);
    by_table.or_else(|| scope.name_of(inside).filter(|hit| !hit.name.is_empty()).map(|hit| hit.address))
}

/// A function by the function table.
struct FunctionExtent {
    start: Va,
    end: Va,
}

fn find_extent(scope: &Scope, va: Va) -> Option<FunctionExtent> {
    let found = scope.with_code(|code| {
        let module = code.module_at(va)?;
        let table = Tables::default().table(code, &module).ok()?;
        let bytes = ModuleBytes::new(code, module);
        let rva = u32::try_from(va.0.wrapping_sub(module.base.0)).ok()?;
        let at = |rva: u32| module.base.add(rva.into());
        match code.machine() {
            Machine::X64 => {
                let mut found = x64::find_function(&bytes, table, rva).ok()??;
                // A fragment belongs to the function that it continues.
                for _ in 0..8 {
                    match x64::read_info(&bytes, found.unwind_info & !1).ok()?.chained {
                        Some(next) => found = next,
                        None => break,
                    }
                }
                Some(FunctionExtent { start: at(found.begin), end: at(found.end) })
            }
            Machine::Arm64 => {
                let entry = find_entry::<8>(&bytes, table, rva).ok()??;
                let entry = arm64_codes::Function::parse(&entry);
                let unwind = arm64_codes::read(&bytes, entry.word).ok()?;
                let end = entry.begin.saturating_add(unwind.length);
                (rva < end).then(|| FunctionExtent { start: at(entry.begin), end: at(end) })
            }
            Machine::X86 => None,
        }
    });
    found.ok().flatten()
}

fn function(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let reader = Reader::new(&scope)?;
    let given = match call.args {
        "" => Va(scope.register("$ip").unwrap_or_default()),
        text => Va(scope.evaluate(text)?),
    };
    let extent = find_extent(&scope, given);
    let symbol = scope.name_of(given).filter(|hit| !hit.name.is_empty());
    let start = match (&extent, &symbol) {
        (Some(extent), _) => extent.start,
        (None, Some(hit)) if hit.displacement < FAR => hit.address,
        _ => given,
    };
    // What belongs to the function: its extent, else what has its symbol, else what is near.
    let belongs = |va: Va| match (&extent, &symbol) {
        (Some(extent), _) => {
            (extent.start <= va && va < extent.end)
                || find_extent(&scope, va).is_some_and(|other| other.start == extent.start)
        }
        (None, Some(hit)) => scope.name_of(va).is_some_and(|other| other.address == hit.address),
        (None, None) => va >= start && va.0 - start.0 < FAR,
    };
    let flow = follow(&reader, start, extent.is_some(), &belongs)?;
    if flow.code.is_empty() {
        reader.heading(out, start, false);
        let why = reader.read(start, &mut [0]);
        return Err(unreadable(session, out, &reader, call, start, why));
    }
    let mut expected = None;
    out.list("instructions", |out| -> Result<()> {
        for (va, instruction) in &flow.code {
            is_interrupted()?;
            out.record("", |out| {
                if expected.is_none() || expected != Some(*va) || flow.blocks.contains(va) {
                    if expected.is_some() {
                        out.end_line();
                    }
                    reader.heading(out, *va, false);
                }
                reader.line(out, instruction);
            });
            expected = Some(instruction.next());
        }
        Ok(())
    })?;
    if flow.is_incomplete {
        out.end_line();
        out.line("Flow analysis was incomplete, some code may be missing");
    }
    reader.note(out);
    Ok(())
}

/// The code of a function in order of addresses.
struct Code {
    code: BTreeMap<Va, Instruction>,
    /// Where blocks begin.
    blocks: BTreeSet<Va>,
    is_incomplete: bool,
}

/// Follows the code from `start` as far as it `belongs`; `exact` where the end of the function is known.
fn follow(reader: &Reader<'_>, start: Va, exact: bool, belongs: &dyn Fn(Va) -> bool) -> Result<Code> {
    let mut found = Code { code: BTreeMap::new(), blocks: BTreeSet::from([start]), is_incomplete: false };
    let mut pending = vec![start];
    while let Some(mut at) = pending.pop() {
        while !found.code.contains_key(&at) {
            is_interrupted()?;
            if found.code.len() >= MOST_OF_FUNCTION {
                found.is_incomplete = true;
                return Ok(found);
            }
            let Ok(instruction) = reader.decode(at) else {
                found.is_incomplete = true;
                break;
            };
            let (flow, next) = (instruction.flow, instruction.next());
            // Padding between functions, where nothing says how far this one goes.
            let is_padding = !exact && instruction.bytes == [0xcc];
            found.code.insert(at, instruction);
            let mut block = |va: Va| {
                if belongs(va) && found.blocks.insert(va) {
                    pending.push(va);
                }
            };
            match flow {
                Flow::Next if is_padding => break,
                Flow::Next | Flow::Call(_) => {}
                Flow::Branch(target) => {
                    block(target);
                    block(next);
                    break;
                }
                Flow::Jump(target) => {
                    if let Some(target) = target {
                        block(target);
                    }
                    break;
                }
                Flow::Return | Flow::Stop => break,
            }
            if !belongs(next) {
                break;
            }
            at = next;
        }
    }
    Ok(found)
}

fn entry(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    if call.args.is_empty() {
        return Err(Error::Usage(".fnent ADDRESS".to_owned()));
    }
    let va = Va(scope.evaluate(call.args)?);
    let pointer = scope.pointer_size();
    let lines = scope.with_code(|code| describe(code, va))?;
    let none = |why: String| {
        out.line(&format!("No function entry for {}{why}", va.show(pointer)));
        Ok(())
    };
    match lines {
        Ok(lines) if lines.is_empty() => none(String::new()),
        Err(missing) => none(format!(": {missing}")),
        Ok(lines) => {
            let name = super::frames::site(&scope, va);
            out.line(&format!("Debugger function entry for: {}", va.show(pointer)));
            out.line(&format!("  ({})", name));
            for line in lines {
                out.line(&line);
            }
            Ok(())
        }
    }
}

/// The entry's contents; nothing where there is none.
fn describe(
    code: &dyn crate::target::unwind::CodeView,
    va: Va,
) -> std::result::Result<Vec<String>, crate::target::unwind::Missing> {
    use crate::target::unwind::Missing;
    let module = code.module_at(va).ok_or(Missing::NoModule)?;
    let mut tables = Tables::default();
    let bytes = ModuleBytes::new(code, module);
    let rva = u32::try_from(va.0.wrapping_sub(module.base.0)).map_err(|_| Missing::NoModule)?;
    if code.machine() == Machine::X86 {
        return Ok(code.frame_data(va).map(|data| format!("{data:x?}")).into_iter().collect());
    }
    let table = tables.table(code, &module)?;
    let mut lines = Vec::new();
    if code.machine() == Machine::Arm64 {
        if let Some(entry) = find_entry::<8>(&bytes, table, rva)? {
            let entry = arm64_codes::Function::parse(&entry);
            let unwind = arm64_codes::read(&bytes, entry.word)?;
            if rva.saturating_sub(entry.begin) < unwind.length {
                lines.push(format!("BeginAddress      = {:08x}", entry.begin));
                lines.push(format!("FunctionLength    = {:08x}", unwind.length));
                lines.push(format!("UnwindData        = {:08x}", entry.word));
                lines.extend(unwind.prologue.iter().map(|op| format!("  {op:x?}")));
            }
        }
    } else if let Some(mut found) = x64::find_function(&bytes, table, rva)? {
        for _ in 0..8 {
            lines.push(format!("BeginAddress      = {:08x}", found.begin));
            lines.push(format!("EndAddress        = {:08x}", found.end));
            lines.push(format!("UnwindInfoAddress = {:08x}", found.unwind_info));
            lines.push(String::new());
            let info = x64::read_info(&bytes, found.unwind_info & !1)?;
            lines.push(format!(
                "Unwind info at {}, {:x} bytes",
                module.base.add(found.unwind_info.into()),
                4 + info.codes.len() * 2
            ));
            lines.push(format!(
                "  version {}, flags {:x}, prolog {:x}, codes {:x}",
                info.version,
                info.flags,
                info.prologue,
                info.codes.len()
            ));
            if info.frame_register != 0 {
                lines.push(format!(
                    "  frame reg {:x}, frame offs {:x}",
                    info.frame_register, info.frame_offset
                ));
            }
            if let Some(handler) = info.handler {
                lines.push(format!("  handler routine: {}", module.base.add(handler.into())));
            }
            for (index, (offset, code)) in info.codes.iter().enumerate() {
                lines.push(format!("  {index:02x}: offs {offset:x}, {code:x?}"));
            }
            match info.chained {
                Some(next) => {
                    lines.push("Chained info:".to_owned());
                    found = next;
                }
                None => break,
            }
        }
    }
    Ok(lines)
}
