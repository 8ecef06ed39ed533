//! `d*`: memory as bytes, words, text, bits, or pointers with names.
//!
//! Defaults and layouts are KD's: 128 bytes (16 floats' worth for nobody here), the start of the next range is where
//! the last one ended, unreadable bytes are shown as `?`. Ours: a closing line tells which of the four reasons made
//! bytes unreadable, because `?` alone does not.

use super::{Builtin, Call, Needs};
use crate::memory::{Detail, ReadFault, ReadOutcome};
use crate::range::{self, Range};
use crate::scope::Scope;
use crate::session::Session;
use crate::target::float;
use crate::typed::{self, TextStyle};
use kd_sdk::address::{Pa, Va};
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[Builtin {
    names: &[
        "d", "db", "dw", "dW", "dd", "dq", "dp", "dc", "da", "du", "df", "dD", "dyb", "dyd", "dds", "dqs",
        "dps", "dda", "ddu", "ddp", "dqa", "dqu", "dqp", "dpa", "dpu", "dpp",
    ],
    usage: "[/cN] [/p] [RANGE]",
    summary: "Display memory",
    help: "d[b|w|W|d|q|p|c] bytes, words, words with characters, double words, quad words, pointers, double words\n\
           with characters; da, du text up to a NUL; df, dD floats and doubles; dyb, dyd bits; dds, dqs, dps values\n\
           with symbols; dda ddu ddp, dqa dqu dqp, dpa dpu dpp values and the ASCII text, the Unicode text or the\n\
           pointer with its symbol that stands where they point. d repeats the last form. /cN: N items in a line;\n\
           /p: physical addresses.\n\
           RANGE is START END (END included), START LCOUNT (items), START L-COUNT (ending there); L?COUNT lifts the\n\
           limit of 256 MB. Without START the display goes on where the last one ended, at first at the instruction\n\
           pointer. Bytes that cannot be read show as ?; the last line says why.",
    needs: Needs::Target,
    run: display,
}];

/// How one letter of the family looks.
#[derive(Clone, Copy)]
struct Form {
    name: &'static str,
    /// Bytes of an item; 0: a pointer.
    unit: usize,
    /// Items a line.
    per_line: usize,
    /// Items without an explicit range; 0: 128 bytes' worth.
    default: u64,
    look: Look,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Bytes,
    Numbers,
    NumbersAndText,
    Text,
    Bits,
    Symbols,
    Floats,
    /// The value, and what stands where it points: text of one-byte or two-byte characters, a pointer.
    Pointees(Pointee),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pointee {
    Ascii,
    Unicode,
    Pointer,
}

const fn pointees(name: &'static str, unit: usize, what: Pointee) -> Form {
    Form { name, unit, per_line: 1, default: 0, look: Look::Pointees(what) }
}

const FORMS: [Form; 25] = [
    Form { name: "db", unit: 1, per_line: 16, default: 0, look: Look::Bytes },
    Form { name: "dw", unit: 2, per_line: 8, default: 0, look: Look::Numbers },
    Form { name: "dW", unit: 2, per_line: 8, default: 0, look: Look::NumbersAndText },
    Form { name: "dd", unit: 4, per_line: 4, default: 0, look: Look::Numbers },
    Form { name: "dq", unit: 8, per_line: 2, default: 0, look: Look::Numbers },
    Form { name: "dp", unit: 0, per_line: 0, default: 0, look: Look::Numbers },
    Form { name: "dc", unit: 4, per_line: 4, default: 0, look: Look::NumbersAndText },
    Form { name: "da", unit: 1, per_line: 48, default: 0, look: Look::Text },
    Form { name: "du", unit: 2, per_line: 48, default: 0, look: Look::Text },
    Form { name: "dyb", unit: 1, per_line: 4, default: 32, look: Look::Bits },
    Form { name: "dyd", unit: 4, per_line: 1, default: 8, look: Look::Bits },
    Form { name: "dds", unit: 4, per_line: 1, default: 0, look: Look::Symbols },
    Form { name: "dqs", unit: 8, per_line: 1, default: 0, look: Look::Symbols },
    Form { name: "dps", unit: 0, per_line: 1, default: 0, look: Look::Symbols },
    Form { name: "df", unit: 4, per_line: 4, default: 16, look: Look::Floats },
    Form { name: "dD", unit: 8, per_line: 3, default: 15, look: Look::Floats },
    pointees("dda", 4, Pointee::Ascii),
    pointees("ddu", 4, Pointee::Unicode),
    pointees("ddp", 4, Pointee::Pointer),
    pointees("dqa", 8, Pointee::Ascii),
    pointees("dqu", 8, Pointee::Unicode),
    pointees("dqp", 8, Pointee::Pointer),
    pointees("dpa", 0, Pointee::Ascii),
    pointees("dpu", 0, Pointee::Unicode),
    pointees("dpp", 0, Pointee::Pointer),
];

/// How a line of another command's looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineForm {
    /// Bytes and characters.
    Bytes,
    /// Words and characters.
    Words,
    /// Double words and characters.
    Double,
    /// Quad words and characters.
    Quad,
}

/// Shows the 16 bytes at an address.
pub fn one_line(scope: &Scope, out: &Out<'_>, form: LineForm, va: Va) {
    let (name, unit) = match form {
        LineForm::Bytes => ("db", 1),
        LineForm::Words => ("dW", 2),
        LineForm::Double => ("dc", 4),
        LineForm::Quad => ("dq", 8),
    };
    let look = if unit == 1 { Look::Bytes } else { Look::NumbersAndText };
    let form = Form { name, unit, per_line: 16 / unit, default: 0, look };
    let pointer = scope.pointer_size() as usize;
    let display = Display { scope, out, form, pointer, physical: false };
    let (bytes, _) = display.read_line(va, 16);
    display.line(out, va, &bytes);
}

/// Where the last display ended and what it was.
#[derive(Clone, Copy, Default)]
pub struct LastDisplay {
    /// Index into the forms.
    form: usize,
    next: Option<Va>,
}

fn display(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let last = session.last_display;
    let index = match FORMS.iter().position(|form| form.name == call.name) {
        Some(index) => index,
        None => last.form,
    };
    let mut form = FORMS.get(index).copied().ok_or_else(|| Error::Usage("no such form of d".to_owned()))?;
    let pointer = scope.pointer_size() as usize;
    let (columns, physical, args) = options(call.args)?;
    if form.unit == 0 {
        form.unit = pointer;
        form.per_line = if form.look == Look::Numbers { 16 / pointer } else { 1 };
    }
    let items = if form.default > 0 { form.default } else { 128 / form.unit as u64 };
    let start = || last.next.or_else(|| scope.register("$ip").map(Va)).unwrap_or_default();
    if let Some(columns) = columns {
        form.per_line = columns;
    }
    let range = range::parse(args, &scope, start, items, form.unit as u64)?;
    let shown = Display { scope: &scope, out, form, pointer, physical };
    let end = shown.range(range, &mut || session.interrupted())?;
    session.variables.shown = shown.last_value(end);
    session.last_display = LastDisplay { form: index, next: Some(end) };
    Ok(())
}

/// `/cN`, `/p`: items in a line, physical addresses, and what follows.
fn options(args: &str) -> Result<(Option<usize>, bool, &str)> {
    let (mut columns, mut physical) = (None, false);
    let mut args = args.trim_start();
    while let Some(option) = args.strip_prefix('/') {
        let (word, rest) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        if word.starts_with('p') {
            // [c], [uc], [wc] tell a live machine how to map the page.
            physical = true;
        } else if let Some(count) = word.strip_prefix('c') {
            let count =
                crate::expr::number(count, 16).and_then(|number| number.ok()).map(|number| number.value);
            let count =
                count.and_then(|count| usize::try_from(count).ok()).filter(|count| (1..=256).contains(count));
            columns =
                Some(count.ok_or_else(|| Error::Usage("/c needs a number of items, 1 to 100".to_owned()))?);
        } else {
            return Err(Error::Usage(format!("d takes /cN and /p, not /{word}")));
        }
        args = rest.trim_start();
    }
    Ok((columns, physical, args))
}

struct Display<'a> {
    scope: &'a Scope,
    out: &'a Out<'a>,
    form: Form,
    pointer: usize,
    /// Addresses are physical.
    physical: bool,
}

/// One line's bytes: `None` where a byte is missing.
type Line = Vec<Option<u8>>;

impl Display<'_> {
    /// Shows a range; returns where the next display goes on.
    fn range(&self, range: Range, interrupted: &mut dyn FnMut() -> bool) -> Result<Va> {
        let total = range.items.saturating_mul(self.form.unit as u64);
        let line_bytes = self.form.unit * self.form.per_line;
        if self.form.look == Look::Bits {
            self.bit_ruler();
        }
        let mut first_fault = None;
        let mut done = 0;
        let result = self.out.list("items", |out| {
            let mut at = range.start;
            while done < total {
                if interrupted() {
                    return Err(Error::Interrupted);
                }
                let count = usize::try_from(total - done).unwrap_or(usize::MAX).min(line_bytes);
                let (bytes, fault) = self.read_line(at, count);
                first_fault = first_fault.or(fault);
                let ended = out.record("", |out| self.line(out, at, &bytes));
                done += bytes.len() as u64;
                at = range.start.add(done);
                if ended {
                    break;
                }
            }
            Ok(at)
        });
        if let Some(fault) = first_fault {
            let at = fault.at.show(self.pointer as u32);
            self.out.styled_field("unreadable_at", Value::Hex(fault.at.0), Style::Dim, &format!("{at}: "));
            let why = format!("{} ({})", fault.why, fault.detail);
            self.out.styled_field("unreadable_why", Value::Text(&why), Style::Dim, &why);
            self.out.end_line();
        }
        result
    }

    /// The last item before `end`: what `$p` is from then on.
    fn last_value(&self, end: Va) -> Option<u64> {
        let mut bytes = [0; 8];
        let place = bytes.get_mut(..self.form.unit)?;
        let outcome = self.read(Va(end.0.wrapping_sub(self.form.unit as u64)), place);
        outcome.fault.is_none().then(|| u64::from_le_bytes(bytes))
    }

    /// Reads what is there; missing bytes are skipped a readable stretch at a time.
    fn read_line(&self, at: Va, count: usize) -> (Line, Option<ReadFault>) {
        let mut line = vec![None; count];
        let mut fault = None;
        let mut done = 0;
        while done < count {
            let mut buffer = vec![0; count - done];
            let outcome = self.read(at.add(done as u64), &mut buffer);
            for (place, byte) in line.iter_mut().skip(done).zip(buffer.iter().take(outcome.done)) {
                *place = Some(*byte);
            }
            done += outcome.done;
            if let Some(found) = outcome.fault {
                fault = fault.or(Some(found));
                // Blocks of small dumps may begin and end anywhere: try the next byte.
                done += 1;
            }
        }
        (line, fault)
    }

    fn read(&self, at: Va, buffer: &mut [u8]) -> ReadOutcome {
        if !self.physical {
            return self.scope.read(at, buffer);
        }
        let (done, why) = self.scope.read_physical(Pa(at.0), buffer);
        let frame = at.add(done as u64);
        let fault = why.map(|why| ReadFault { at: frame, why, detail: Detail::Frame(Pa(frame.0).pfn()) });
        ReadOutcome { done, fault }
    }

    /// Shows one line; true where the text has ended.
    fn line(&self, out: &Out<'_>, at: Va, bytes: &Line) -> bool {
        let address = at.show(self.pointer as u32).to_string();
        out.styled_field("address", Value::Hex(at.0), Style::Address, &address);
        out.text("  ");
        let items: Vec<Option<u64>> = bytes.chunks(self.form.unit).map(number).collect();
        let ended = match self.form.look {
            Look::Text => return self.text(out, &items),
            Look::Symbols => {
                self.symbol(out, items.first().copied().flatten());
                false
            }
            Look::Bits => {
                self.bits(out, &items);
                false
            }
            Look::Floats => {
                self.floats(out, &items);
                false
            }
            Look::Pointees(what) => {
                self.pointee(out, items.first().copied().flatten(), what);
                false
            }
            Look::Bytes | Look::Numbers | Look::NumbersAndText => {
                self.numbers(out, &items);
                if self.form.look != Look::Numbers {
                    self.characters(out, bytes);
                }
                false
            }
        };
        out.end_line();
        ended
    }

    fn numbers(&self, out: &Out<'_>, items: &[Option<u64>]) {
        let width = self.shown(None).len();
        out.list("values", |out| {
            for (index, item) in items.iter().enumerate() {
                let joint = match index {
                    0 => "",
                    8 if self.form.look == Look::Bytes => "-",
                    _ => " ",
                };
                let value = item.map_or(Value::Null, Value::Hex);
                out.text(joint);
                out.field("", value, &self.shown(*item));
            }
        });
        if self.form.look != Look::Numbers {
            let missing = self.form.per_line - items.len();
            out.text(&" ".repeat(missing * (width + 1) + 2));
        }
    }

    fn shown(&self, item: Option<u64>) -> String {
        match (item, self.form.unit) {
            (Some(value), 8) => Va(value).to_string(),
            (None, 8) => "????????`????????".to_owned(),
            (Some(value), unit) => format!("{value:0width$x}", width = unit * 2),
            (None, unit) => "?".repeat(unit * 2),
        }
    }

    fn characters(&self, out: &Out<'_>, bytes: &Line) {
        let step = if self.form.name == "dW" { 2 } else { 1 };
        let text: String = bytes
            .chunks(step)
            .map(|unit| match number(unit) {
                None => '?',
                Some(value) => u8::try_from(value).map_or('.', printable),
            })
            .collect();
        out.field("text", Value::Text(&text), &text);
    }

    /// `da`, `du`: up to a NUL, which ends the display.
    fn text(&self, out: &Out<'_>, items: &[Option<u64>]) -> bool {
        let mut text = String::new();
        let mut ended = false;
        for item in items {
            match *item {
                Some(0) => {
                    ended = true;
                    break;
                }
                Some(value) if self.form.unit == 1 => {
                    text.push(u8::try_from(value).map_or('.', printable));
                }
                Some(value) => {
                    let c = u32::try_from(value).ok().and_then(char::from_u32).filter(|c| has_glyph(*c));
                    text.push(c.unwrap_or('.'));
                }
                None => {
                    text.push('?');
                    ended = true;
                    break;
                }
            }
        }
        out.field("text", Value::Text(&text), &format!("\"{text}\""));
        out.end_line();
        ended
    }

    fn symbol(&self, out: &Out<'_>, item: Option<u64>) {
        out.field("value", item.map_or(Value::Null, Value::Hex), &self.shown(item));
        if let Some(name) = item.and_then(|value| self.scope.name_of(Va(value))) {
            let name = name.to_string();
            out.text(" ");
            out.styled_field("symbol", Value::Text(&name), Style::Symbol, &name);
        }
    }

    /// `df`, `dD`.
    fn floats(&self, out: &Out<'_>, items: &[Option<u64>]) {
        let (width, precision) = if self.form.unit == 4 { (16, 8) } else { (22, 12) };
        out.list("values", |out| {
            for (index, item) in items.iter().enumerate() {
                let number = item.map(|bits| match self.form.unit {
                    4 => f64::from(f32::from_bits(bits as u32)),
                    _ => f64::from_bits(bits),
                });
                let shown = number.map_or_else(|| "?".repeat(8), |number| float::general(number, precision));
                out.text(if index == 0 { "" } else { " " });
                out.field("", item.map_or(Value::Null, Value::Hex), &format!("{shown:>width$}"));
            }
        });
    }

    /// The value, and what stands where it points.
    fn pointee(&self, out: &Out<'_>, item: Option<u64>, what: Pointee) {
        out.field("value", item.map_or(Value::Null, Value::Hex), &self.shown(item));
        let Some(at) = item.map(Va) else { return };
        let unit = match what {
            Pointee::Ascii => 1,
            Pointee::Unicode => 2,
            Pointee::Pointer => {
                let (bytes, _) = self.read_line(at, self.pointer);
                let Some(value) = number(&bytes) else { return };
                out.text(" ");
                out.field("pointee", Value::Hex(value), &Va(value).show(self.pointer as u32).to_string());
                if let Some(name) = self.scope.name_of(Va(value)) {
                    let name = name.to_string();
                    out.text(" ");
                    out.styled_field("symbol", Value::Text(&name), Style::Symbol, &name);
                }
                return;
            }
        };
        if let Some(text) = typed::text_at(at, unit, 48, TextStyle::Memory, self.scope) {
            out.text(" ");
            out.field("text", Value::Text(&text), &format!("\"{text}\""));
        }
    }

    fn bits(&self, out: &Out<'_>, items: &[Option<u64>]) {
        let bits = |item: &Option<u64>| match item {
            Some(value) => (0..self.form.unit)
                .rev()
                .map(|byte| format!("{:08b}", value >> (8 * byte) & 0xff))
                .collect::<Vec<_>>()
                .join(" "),
            None => vec!["????????"; self.form.unit].join(" "),
        };
        let pictures: Vec<String> = items.iter().map(bits).collect();
        out.text(&pictures.join(" "));
        let missing = self.form.per_line - items.len();
        out.text(&" ".repeat(missing * 9 * self.form.unit));
        out.text("  ");
        out.list("values", |out| {
            for (index, item) in items.iter().enumerate() {
                out.text(if index == 0 { "" } else { " " });
                out.field("", item.map_or(Value::Null, Value::Hex), &self.shown(*item));
            }
        });
    }

    fn bit_ruler(&self) {
        let indent = " ".repeat(if self.pointer == 8 { 19 } else { 10 });
        let digits = if self.form.unit == 1 {
            ["76543210"; 4].join(" ")
        } else {
            "10987654 32109876 54321098 76543210".to_owned()
        };
        self.out.line(&format!("{indent}{digits}"));
        self.out.line(&format!("{indent}{}", ["--------"; 4].join(" ")));
    }
}

/// Little-endian; `None` if any byte is missing.
fn number(bytes: &[Option<u8>]) -> Option<u64> {
    bytes.iter().rev().try_fold(0u64, |value, byte| Some(value << 8 | u64::from((*byte)?)))
}

fn printable(byte: u8) -> char {
    if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' }
}

/// Whether a UTF-16 unit is a character that means something: no control, private use or noncharacter.
fn has_glyph(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{fffe}'..='\u{ffff}')
}
