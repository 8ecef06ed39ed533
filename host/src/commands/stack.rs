//! `k` and its family: the stack of the current context; `.kframes`.
//!
//! Columns are KD's. Ours: frames that were not unwound but found by scanning the stack end in `[scan]`, and a closing
//! line says why. In JSON each frame has `source`, `inlined` where the compiler put a call in line, `source_file`,
//! `source_line`, `parameters`.

use super::frames::{Row, rows, with_displacement};
use super::{Builtin, Call, Needs};
use crate::dump::Machine;
use crate::scope::Scope;
use crate::session::Session;
use crate::stack::ContextKind;
use crate::target::Registers;
use crate::target::context::layout;
use crate::target::unwind::frame_data::{FrameData, FrameKind};
use crate::target::unwind::{Frame, MOST_FRAMES, Missing};
use crate::ui::interrupt;
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};
use std::cell::Cell;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &["k"],
        usage: "[b|c|d|p|P|v][n][f][L][M] [COUNT] | = SP [IP] COUNT | = BP SP IP [COUNT] (x86)",
        summary: "Show the stack",
        help: "kb shows the first arguments' places, kv those, trap frames and what 32-bit symbols say about frames,\n\
               kn frame numbers, kf the bytes of each frame, kc names alone, kp and kP (a line each) parameters with\n\
               their values where a private symbol file tells them, kL no source lines (.lines shows them); letters\n\
               combine: kvn. kM makes frames links. kd [WORDS] shows the raw stack with symbols.\n\
               Calls that the compiler put in line have rows of their own, (Inline Function), and numbers.\n\
               COUNT is in the current radix; without it .kframes decides. k = SP IP COUNT walks from other registers.\n\
               Frames come from unwind data in the dump, else in the image files on the image path. Where there are\n\
               none, return addresses are looked for on the stack: such a frame ends in [scan] and may be stale.",
        needs: Needs::Target,
        run: stack,
    },
    Builtin {
        names: &[".kframes"],
        usage: "[N]",
        summary: "Show or set how many frames k shows",
        help: "",
        needs: Needs::Nothing,
        run: frames_limit,
    },
];

/// What the letters after `k` ask for.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Look {
    /// `b`: the places of the first arguments.
    pub arguments: bool,
    /// `v`: trap frames, and everything that `b` shows.
    pub verbose: bool,
    /// `c`: no addresses.
    pub names_only: bool,
    /// `n`: frame numbers.
    pub numbers: bool,
    /// `f`: bytes from frame to frame.
    pub distances: bool,
    /// `M`: frames as links.
    pub links: bool,
    /// `kd`: no frames at all.
    pub raw: bool,
    /// `L`: no source lines.
    pub no_lines: bool,
    /// `p`, `P`: parameters.
    pub parameters: Option<Parameters>,
}

/// Where `kp` and `kP` put the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameters {
    /// Behind the name.
    OneLine,
    /// On a line each.
    LineEach,
}

fn parse_look(text: &str) -> Result<(Look, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (letters, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let mut look = Look::default();
    for letter in letters.chars() {
        match letter {
            'b' => look.arguments = true,
            'v' => (look.arguments, look.verbose) = (true, true),
            'c' => look.names_only = true,
            'n' => look.numbers = true,
            'f' => look.distances = true,
            'd' => look.raw = true,
            'M' => (look.links, look.numbers) = (true, true),
            'p' => look.parameters = Some(Parameters::OneLine),
            'P' => look.parameters = Some(Parameters::LineEach),
            'L' => look.no_lines = true,
            other => return Err(Error::Usage(format!("k has no option '{other}'"))),
        }
    }
    Ok((look, rest.trim()))
}

fn stack(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let (look, rest) = parse_look(call.args)?;
    if look.raw {
        return raw(&scope, out, rest);
    }
    let mut start = scope.registers()?;
    let mut count = session.settings.stack_frames;
    if let Some(values) = rest.strip_prefix('=') {
        count = from_values(&scope, values, &mut start)?.unwrap_or(count);
    } else if !rest.is_empty() {
        count = frames(scope.evaluate(rest)?);
    }
    let interrupted = Cell::new(false);
    let stop = || {
        if !interrupted.get() && interrupt::take_interrupt() {
            interrupted.set(true);
        }
        interrupted.get()
    };
    let walked = scope.stack_from(start, count, &stop)?;
    if scope.contexts.registers.as_ref().is_some_and(|context| context.kind != ContextKind::Frame) {
        out.line("  *** Stack trace for last set context - .thread/.cxr resets it");
    }
    let lines = session.settings.shows_lines() && !look.no_lines;
    show_frames(&scope, out, look, &walked, lines, count);
    if interrupted.get() { Err(Error::Interrupted) } else { Ok(()) }
}

fn frames(count: u64) -> usize {
    usize::try_from(count).unwrap_or(MOST_FRAMES).min(MOST_FRAMES)
}

/// `SP [IP] [COUNT]`, on x86 `BP [SP IP] [COUNT]`: changes the registers; the count if there is one.
fn from_values(scope: &Scope, text: &str, start: &mut Registers) -> Result<Option<usize>> {
    let mut values = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() && values.len() < 5 {
        let (value, after) = scope.evaluate_first(rest)?;
        values.push(value);
        rest = after.trim_start();
    }
    let names = layout(start.machine());
    let x86 = start.machine() == Machine::X86;
    match (values.as_slice(), x86) {
        (&[fp], true) => set(start, &[(names.fp, fp)]),
        (&[fp, count], true) => {
            set(start, &[(names.fp, fp)]);
            return Ok(Some(frames(count)));
        }
        (&[fp, sp, ip, ref count @ ..], true) if count.len() <= 1 => {
            set(start, &[(names.fp, fp), (names.sp, sp), (names.ip, ip)]);
            return Ok(count.first().map(|count| frames(*count)));
        }
        (&[sp], false) => set(start, &[(names.sp, sp)]),
        (&[sp, count], false) => {
            set(start, &[(names.sp, sp)]);
            return Ok(Some(frames(count)));
        }
        (&[sp, ip, count], false) => {
            set(start, &[(names.sp, sp), (names.ip, ip)]);
            return Ok(Some(frames(count)));
        }
        (_, true) => return Err(Error::Usage("k = BP [SP IP] [COUNT]".to_owned())),
        (_, false) => return Err(Error::Usage("k = SP [IP] COUNT".to_owned())),
    }
    Ok(None)
}

fn set(registers: &mut Registers, values: &[(&str, u64)]) {
    for (name, value) in values {
        registers.set(name, *value);
    }
}

/// The table of a stack, in KD's columns.
/// At most `count` rows, with source lines if `lines`.
pub fn show_frames(scope: &Scope, out: &Out<'_>, look: Look, frames: &[Frame], lines: bool, count: usize) {
    Table { scope, out, look, pointer: scope.pointer_size() }.show(frames, lines, count);
}

/// One line for a frame with its number, as `.frame` prints it.
pub fn show_frame(scope: &Scope, out: &Out<'_>, number: usize, row: &Row<'_>) {
    let look = Look { numbers: true, ..Look::default() };
    let table = Table { scope, out, look, pointer: scope.pointer_size() };
    out.record("frame", |out| table.row(out, number, row, None));
}

struct Table<'a> {
    scope: &'a Scope,
    out: &'a Out<'a>,
    look: Look,
    pointer: u32,
}

impl Table<'_> {
    fn show(&self, frames: &[Frame], lines: bool, count: usize) {
        self.out.line(&self.header());
        let mut before = None;
        self.out.list("frames", |out| {
            for (number, row) in rows(self.scope, frames, lines).iter().take(count).enumerate() {
                out.record("", |out| self.row(out, number, row, before));
                if row.level == 0 {
                    before = Some(self.stack_pointer(row.frame));
                }
            }
        });
        self.notes(frames);
    }

    /// KD's first column: where the frame is on the stack.
    fn stack_pointer(&self, frame: &Frame) -> Va {
        if self.pointer == 4 { frame.fp } else { frame.sp }
    }

    fn header(&self) -> String {
        let look = self.look;
        let mut line = String::new();
        if look.numbers {
            line.push_str(" # ");
        }
        if look.names_only {
            line.push_str("Call Site");
            return line;
        }
        if look.distances {
            line.push_str("  Memory  ");
        }
        if self.pointer == 4 {
            line.push_str("ChildEBP RetAddr  ");
            if look.arguments {
                line.push_str("Args to Child              ");
            }
            return line;
        }
        if !look.arguments || look.verbose {
            line.push_str("Child-SP          ");
        }
        line.push_str("RetAddr           ");
        if look.arguments {
            line.push_str(": Args to Child                                                           : ");
        }
        line.push_str("Call Site");
        line
    }

    fn row(&self, out: &Out<'_>, number: usize, row: &Row<'_>, before: Option<Va>) {
        let (look, frame) = (self.look, row.frame);
        let address = |va: Va| va.show(self.pointer).to_string();
        out.data("number", Value::UInt(number as u64));
        if look.numbers {
            let shown = format!("{number:02x}");
            if look.links {
                out.link(&shown, &format!(".frame 0n{number}"));
            } else {
                out.text(&shown);
            }
            out.text(" ");
        }
        let at = self.stack_pointer(frame);
        if look.distances && !look.names_only {
            let distance = before.filter(|_| row.level == 0).map(|before| at.0.wrapping_sub(before.0));
            let shown = distance.map_or(" ".repeat(9), |bytes| format!("{bytes:>9x}"));
            out.field("memory", distance.map_or(Value::Null, Value::Hex), &shown);
            out.text(" ");
        }
        if row.level > 0 {
            out.data("inlined", Value::Bool(true));
            self.inlined_columns(out);
        } else {
            self.columns(out, frame, &address);
        }
        self.place(out, row);
        if row.level == 0 {
            self.frame_notes(out, frame, &address);
        }
        if let Some(line) = &row.line {
            let shown = format!(" [{} @ {}]", line.file, line.line);
            out.field("source_file", Value::Text(&line.file), &shown);
            out.data("source_line", Value::UInt(line.line.into()));
        }
        if !frame.source.is_certain() {
            out.styled(Style::Dim, " [scan]");
        }
        out.end_line();
    }

    /// Addresses and arguments of a frame.
    fn columns(&self, out: &Out<'_>, frame: &Frame, address: &dyn Fn(Va) -> String) {
        let (look, at) = (self.look, self.stack_pointer(frame));
        let wide_arguments = look.arguments && self.pointer == 8;
        if look.names_only || wide_arguments && !look.verbose {
            out.data("child_sp", Value::Hex(at.0));
        } else {
            out.styled_field("child_sp", Value::Hex(at.0), Style::Address, &address(at));
            out.text(" ");
        }
        let return_address = frame.return_address;
        if look.names_only {
            out.data("return_address", Value::Hex(return_address.0));
            return;
        }
        out.field("return_address", Value::Hex(return_address.0), &address(return_address));
        out.text(" ");
        if look.arguments {
            self.arguments(out, frame);
        }
    }

    /// The same columns for a call in line, which has no frame of its own.
    fn inlined_columns(&self, out: &Out<'_>) {
        let look = self.look;
        if look.names_only {
            return;
        }
        let dashes = if self.pointer == 8 { "--------`--------" } else { "--------" };
        if self.pointer == 4 || !look.arguments || look.verbose {
            out.styled(Style::Dim, if self.pointer == 8 { "(Inline Function)" } else { "(Inline)" });
            out.text(" ");
        }
        out.text(&format!("{dashes} "));
        if look.arguments {
            let each = format!("{dashes} ");
            out.text(&if self.pointer == 8 { format!(": {}: ", each.repeat(4)) } else { each.repeat(3) });
        }
    }

    /// The name, with the parameters between it and the displacement.
    fn place(&self, out: &Out<'_>, row: &Row<'_>) {
        let name = with_displacement(&row.name, row.displacement);
        out.data("ip", Value::Hex(row.frame.ip.0));
        let known = self.look.parameters.and_then(|layout| Some((layout, row.parameters(self.scope)?)));
        let Some((layout, parameters)) = known else {
            out.styled_field("symbol", Value::Text(&name), Style::Symbol, &name);
            return;
        };
        out.styled_field("symbol", Value::Text(&name), Style::Symbol, &row.name);
        let (first, between) = match layout {
            Parameters::LineEach => ("\n\t\t\t", ",\n\t\t\t"),
            Parameters::OneLine => ("", ", "),
        };
        out.text("(");
        out.list("parameters", |out| {
            for (index, parameter) in parameters.iter().enumerate() {
                out.text(if index == 0 { first } else { between });
                out.record("", |out| {
                    out.name("declared", &parameter.declared);
                    out.text(" = ");
                    out.name("value", &parameter.value);
                });
            }
        });
        let end = if parameters.is_empty() { "void)" } else { ")" };
        out.text(&with_displacement(end, row.displacement));
    }

    /// What `kv` adds: the trap frame, and what 32-bit symbols say about the frame.
    fn frame_notes(&self, out: &Out<'_>, frame: &Frame, address: &dyn Fn(Va) -> String) {
        let verbose = self.look.verbose;
        let data = (verbose && self.pointer == 4).then(|| self.scope.frame_data(frame.ip)).flatten();
        let sizes = data.as_ref().map(fpo_text);
        let shown = match (frame.trap_frame.map(address), &sizes) {
            _ if !verbose => String::new(),
            (Some(trap), _) if self.pointer == 8 => format!(" (TrapFrame @ {trap})"),
            (Some(trap), Some(sizes)) => format!(" (FPO: {sizes} TrapFrame @ {trap})"),
            (Some(trap), None) => format!(" (FPO: TrapFrame @ {trap})"),
            (None, Some(sizes)) => format!(" (FPO: {sizes})"),
            (None, None) => String::new(),
        };
        out.data("source", Value::Text(frame.source.name()));
        if let Some(trap) = frame.trap_frame {
            out.field("trap_frame", Value::Hex(trap.0), &shown);
        } else if let Some(sizes) = &sizes {
            out.field("fpo", Value::Text(sizes), &shown);
        }
    }

    /// The words at the places of the first arguments: four, on x86 three. Whether they are still the arguments only
    /// the code knows.
    fn arguments(&self, out: &Out<'_>, frame: &Frame) {
        let count = if self.pointer == 8 { 4 } else { 3 };
        let missing = if self.pointer == 8 { "????????`????????" } else { "????????" };
        if self.pointer == 8 {
            out.text(": ");
        }
        out.list("arguments", |out| {
            for index in 0..count {
                let mut bytes = [0; 8];
                let at = frame.arguments.add(index * u64::from(self.pointer));
                let read = bytes
                    .get_mut(..self.pointer as usize)
                    .is_some_and(|place| self.scope.read(at, place).fault.is_none());
                if read {
                    let value = u64::from_le_bytes(bytes);
                    out.field("", Value::Hex(value), &Va(value).show(self.pointer).to_string());
                } else {
                    out.field("", Value::Null, missing);
                }
                out.text(" ");
            }
        });
        if self.pointer == 8 {
            out.text(": ");
        }
    }

    /// What a reader must know about how far to trust the frames.
    fn notes(&self, frames: &[Frame]) {
        if !frames.iter().any(|frame| !frame.source.is_certain()) {
            return;
        }
        // The frame before the first recovered one says what was missing.
        let first = frames.windows(2).find_map(|pair| match pair {
            [inner, outer] if !outer.source.is_certain() => Some(inner),
            _ => None,
        });
        let why = match first.and_then(|frame| frame.missing) {
            Some(missing) => missing.to_string(),
            None => "what its unwind data say leads nowhere".to_owned(),
        };
        let module = first.and_then(|frame| {
            let open = self.scope.open.as_ref()?;
            open.target.module_at(frame.ip).map(|module| module.name.clone())
        });
        let place = module.map_or(String::new(), |module| format!(" in {module}"));
        let hint = match first.and_then(|frame| frame.missing) {
            Some(Missing::Headers | Missing::Table | Missing::Data) => {
                "; images on the image path (-i) would tell"
            }
            _ => "",
        };
        let text = format!(
            "[scan]: found on the stack, may be stale; the frame before the first has no known caller{place}: {why}{hint}"
        );
        self.out.styled_field("scan_note", Value::Text(&text), Style::Dim, &text);
        self.out.end_line();
    }
}

/// `[2,4,1]`: doublewords of parameters, locals and saved registers.
fn fpo_text(data: &FrameData) -> String {
    let sizes = format!("[{},{},{}]", data.parameters / 4, data.locals / 4, data.saved / 4);
    match data.kind {
        FrameKind::NonFpo => "[Non-Fpo]".to_owned(),
        FrameKind::Tss => "TaskGate".to_owned(),
        FrameKind::Fpo | FrameKind::Trap if data.uses_base_pointer => format!("[Uses EBP] {sizes}"),
        FrameKind::Fpo | FrameKind::Trap => sizes,
    }
}

/// `kd`: the words on the stack with symbols.
fn raw(scope: &Scope, out: &Out<'_>, text: &str) -> Result<()> {
    const DEFAULT_WORDS: u64 = 20;
    const MOST_WORDS: u64 = 1 << 16;
    let words = if text.is_empty() { DEFAULT_WORDS } else { scope.evaluate(text)?.min(MOST_WORDS) };
    let pointer = scope.pointer_size();
    let start = scope.registers()?.sp();
    out.list("words", |out| {
        for index in 0..words {
            if interrupt::take_interrupt() {
                return Err(Error::Interrupted);
            }
            let at = start.add(index * u64::from(pointer));
            let mut bytes = [0; 8];
            let place = bytes.get_mut(..pointer as usize).unwrap_or_default();
            let outcome = scope.read(at, place);
            let value = Va(u64::from_le_bytes(bytes));
            out.record("", |out| {
                out.styled_field("address", Value::Hex(at.0), Style::Address, &at.show(pointer).to_string());
                out.text("  ");
                match outcome.fault {
                    None => out.field("value", Value::Hex(value.0), &value.show(pointer).to_string()),
                    Some(fault) => {
                        let why = fault.why.to_string();
                        out.field("missing", Value::Text(&why), &format!("{} ({why})", "?".repeat(8)));
                    }
                }
                if let (Some(name), None) = (scope.name_of(value), outcome.fault) {
                    let name = name.to_string();
                    out.text(" ");
                    out.styled_field("symbol", Value::Text(&name), Style::Symbol, &name);
                }
                out.end_line();
            });
        }
        Ok(())
    })
}

fn frames_limit(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    if !call.args.is_empty() {
        let count = session.scope(None)?.evaluate(call.args)?;
        if count == 0 || count > MOST_FRAMES as u64 {
            return Err(Error::Usage(format!(".kframes takes 1 to {MOST_FRAMES:#x}")));
        }
        session.settings.stack_frames = frames(count);
    }
    let count = session.settings.stack_frames;
    let text = format!("Default stack trace depth is 0n{count} frames");
    out.field("frames", Value::UInt(count as u64), &text);
    out.end_line();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_combine() {
        let (look, rest) = parse_look("vn 5").unwrap();
        assert!(look.arguments && look.verbose && look.numbers && !look.distances);
        assert_eq!(rest, "5");
        assert_eq!(parse_look(" b").unwrap(), (Look::default(), "b"));
        assert_eq!(parse_look("5").unwrap(), (Look::default(), "5"));
        assert!(parse_look("x").is_err());
        assert!(parse_look("d 20").unwrap().0.raw);
    }
}
