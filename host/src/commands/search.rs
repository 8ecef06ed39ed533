//! `s` searches virtual memory, `c` compares two ranges.
//!
//! Memory is read in large pieces and searched there with a byte finder; holes are skipped a whole table at a time. A
//! hit must lie wholly inside the range and inside readable memory. Hits of words, double and quad words stand at
//! multiples of their size from the start of the range, as in KD.

use super::display::{self, LineForm};
use super::{Builtin, Call, Needs};
use crate::expr;
use crate::memory::TextRuns;
use crate::range::{self, Range};
use crate::scope::Scope;
use crate::session::Session;
use crate::typed;
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};
use memchr::memmem;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &["s"],
        usage: "[-[FLAGS]b|w|d|q|a|u|sa|su|v] RANGE PATTERN",
        summary: "Search memory",
        help: "-b bytes (the default), -w words, -d double words, -q quad words: PATTERN is a list of numbers or of\n\
               'text' in quotes. -a, -u: PATTERN is ASCII or Unicode text. -sa, -su: any text of at least three\n\
               characters. -v: objects of the class of the C++ object that PATTERN is the address of, or the address\n\
               of a pointer to, by its table of virtual functions. FLAGS stand in brackets before the letter:\n\
               1 addresses only, lN texts of at least N characters, nN at most N hits (0: as many as there are),\n\
               w writable memory only (every page counts as writable here), s keep the hits, r look only where the\n\
               kept hits in the range are: s -[s]d 0x1000 L100 5, then s -[r]d 0x1000 L100 6.\n\
               Ranges over 256 MB need L?.",
        needs: Needs::Target,
        run: search,
    },
    Builtin {
        names: &["c"],
        usage: "RANGE ADDRESS",
        summary: "Compare two ranges of memory",
        help: "Every byte that differs: its address and value in both ranges.",
        needs: Needs::Target,
        run: compare,
    },
];

/// Bytes read at once.
const PIECE: usize = 1 << 20;
/// Hits and differences that are shown unless another number is asked for.
const MOST_HITS: u64 = 1 << 20;
/// Bytes of a pattern.
const PATTERN: usize = 0x10000;

/// Characters of a text that are shown.
const LONGEST_TEXT: u64 = 0x400;

/// What is looked for.
enum Wanted {
    /// These bytes, at multiples of the unit.
    Bytes(Vec<u8>),
    /// Any text, of at least so many characters.
    Text(u64),
}

/// `-[flags]type`.
struct Options {
    form: LineForm,
    /// Bytes of an item.
    unit: u64,
    /// Text in the pattern, or any text.
    text: bool,
    any: bool,
    least: u64,
    most: u64,
    bare: bool,
    /// Objects by their table of virtual functions.
    objects: bool,
    /// The hits are kept.
    keep: bool,
    /// Only kept hits are looked at.
    kept: bool,
}

impl Options {
    /// Takes the options off the front of the arguments.
    fn parse(args: &str, pointer: u32) -> Result<(Options, &str)> {
        let mut options = Options {
            form: LineForm::Bytes,
            unit: 1,
            text: false,
            any: false,
            least: 3,
            most: MOST_HITS,
            bare: false,
            objects: false,
            keep: false,
            kept: false,
        };
        let Some(rest) = args.strip_prefix('-') else { return Ok((options, args)) };
        let wrong = || {
            Error::Usage("the type is one of -b -w -d -q -a -u -sa -su -v, with flags in brackets".to_owned())
        };
        let mut rest = rest.trim_start();
        if let Some((flags, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            options.flags(flags)?;
            rest = after.trim_start();
        }
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (kind, rest) = rest.split_at_checked(end).ok_or_else(wrong)?;
        (options.form, options.unit) = match kind {
            "b" | "a" | "sa" => (LineForm::Bytes, 1),
            "w" | "u" | "su" => (LineForm::Words, 2),
            "d" => (LineForm::Double, 4),
            "q" => (LineForm::Quad, 8),
            "v" if pointer == 8 => (LineForm::Quad, 8),
            "v" => (LineForm::Double, 4),
            _ => return Err(wrong()),
        };
        options.objects = kind == "v";
        options.text = matches!(kind, "a" | "u");
        options.any = matches!(kind, "sa" | "su");
        Ok((options, rest.trim_start()))
    }

    fn flags(&mut self, flags: &str) -> Result<()> {
        let mut rest = flags.trim();
        while let Some(flag) = rest.chars().next() {
            rest = rest.get(flag.len_utf8()..).unwrap_or_default();
            let end = rest.find(|c: char| !c.is_ascii_hexdigit() && c != 'x').unwrap_or(rest.len());
            match flag {
                'l' | 'n' => {
                    let (digits, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
                    let number = expr::number(digits, 16).and_then(|number| number.ok());
                    let number =
                        number.ok_or_else(|| Error::Usage(format!("flag {flag} needs a number")))?.value;
                    rest = after;
                    match flag {
                        'l' => self.least = number.max(1),
                        _ => self.most = if number == 0 { u64::MAX } else { number },
                    }
                }
                '1' => self.bare = true,
                'w' | ' ' | ',' => {}
                's' => self.keep = true,
                'r' => self.kept = true,
                other => return Err(Error::Usage(format!("'{other}' is no flag of s"))),
            }
        }
        if self.keep && self.kept {
            return Err(Error::Usage("the flags s and r exclude each other".to_owned()));
        }
        Ok(())
    }
}

fn search(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let (options, rest) = Options::parse(call.args, scope.pointer_size())?;
    let (range, rest) = range::parse_first(rest, &scope, options.unit)?;
    let wanted = match (options.any, options.text) {
        (true, _) => Wanted::Text(options.least),
        (_, true) => Wanted::Bytes(text_pattern(rest, options.unit)?),
        _ if options.objects => {
            let table = virtual_table(&scope, Va(scope.evaluate(rest)?))?;
            out.data("virtual_table", Value::Hex(table.0));
            Wanted::Bytes(table.0.to_le_bytes().iter().copied().take(options.unit as usize).collect())
        }
        _ => Wanted::Bytes(number_pattern(rest, options.unit, &scope)?),
    };
    let total = range.items.saturating_mul(options.unit);
    let mut interrupted = || session.interrupted();
    let mut kept = Vec::new();
    let result = out.list("hits", |out| {
        let mut hits = 0;
        let mut show = |va: Va, length: u64| {
            out.record("", |out| show_hit(&scope, out, &options, va, length));
            hits += 1;
            if options.keep && kept.len() < MOST_HITS as usize {
                kept.push(va);
            }
            hits < options.most
        };
        if options.kept {
            for at in &session.last_hits {
                if interrupted() {
                    return Err(Error::Interrupted);
                }
                let left = total.saturating_sub(at.0.wrapping_sub(range.start.0));
                let length = length_at(&scope, *at, left, &wanted, options.unit);
                if length.is_some_and(|length| !show(*at, length)) {
                    break;
                }
            }
            return Ok(());
        }
        match &wanted {
            Wanted::Bytes(pattern) => {
                find(&scope, range.start, total, pattern, options.unit, &mut interrupted, &mut show)
            }
            Wanted::Text(least) => {
                find_text(&scope, range.start, total, options.unit, *least, &mut interrupted, &mut show)
            }
        }
    });
    if options.keep {
        session.last_hits = kept;
    }
    result
}

/// The bytes or characters of what is wanted, if it begins at an address and ends within `left` bytes.
fn length_at(scope: &Scope, at: Va, left: u64, wanted: &Wanted, unit: u64) -> Option<u64> {
    match wanted {
        Wanted::Bytes(pattern) => {
            let mut bytes = vec![0; pattern.len()];
            let fits = pattern.len() as u64 <= left;
            let same = fits && scope.read(at, &mut bytes).fault.is_none() && bytes == *pattern;
            same.then_some(pattern.len() as u64)
        }
        Wanted::Text(least) => {
            let printable = |index: &u64| {
                let character = typed::number_at(at.add(index * unit), unit, scope);
                character.is_ok_and(|c| (0x20..0x7f).contains(&c))
            };
            let length = (0..(left / unit).min(LONGEST_TEXT)).take_while(printable).count() as u64;
            (length >= *least).then_some(length)
        }
    }
}

/// The table of virtual functions of the object at an address, or of the one that a pointer there points to.
fn virtual_table(scope: &Scope, at: Va) -> Result<Va> {
    let is_table =
        |va: Va| scope.name_of(va).is_some_and(|hit| hit.displacement == 0 && hit.name.contains("vftable"));
    let first = scope.read_pointer(at)?;
    if !is_table(first)
        && let Ok(second) = scope.read_pointer(first)
        && is_table(second)
    {
        return Ok(second);
    }
    // Symbols may not tell: then the first pointer of the object is taken for it.
    Ok(first)
}

fn show_hit(scope: &Scope, out: &Out<'_>, options: &Options, va: Va, length: u64) {
    if options.bare {
        let shown = format!("0x{}", va.show(scope.pointer_size()).to_string().replace('`', ""));
        out.styled_field("address", Value::Hex(va.0), Style::Address, &shown);
        out.end_line();
    } else if options.any {
        let limit = usize::try_from(length).unwrap_or(0).min(LONGEST_TEXT as usize);
        // All of it was read, and all of it is ASCII.
        let mut bytes = vec![0; limit * options.unit as usize];
        let done = scope.read(va, &mut bytes).done;
        let text: String =
            bytes.iter().take(done).step_by(options.unit as usize).map(|byte| char::from(*byte)).collect();
        out.styled_field(
            "address",
            Value::Hex(va.0),
            Style::Address,
            &va.show(scope.pointer_size()).to_string(),
        );
        out.text("  ");
        out.field("text", Value::Text(&text), &format!("\"{text}\""));
        out.end_line();
    } else {
        display::one_line(scope, out, options.form, va);
    }
}

/// `"text"`, or text up to the end.
fn text_pattern(text: &str, unit: u64) -> Result<Vec<u8>> {
    let text = text.trim();
    let text = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').map_or(quoted, |(inside, _)| inside),
        None => text,
    };
    let bytes: Vec<u8> = match unit {
        1 => text.bytes().collect(),
        _ => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
    };
    bounded(bytes)
}

fn bounded(bytes: Vec<u8>) -> Result<Vec<u8>> {
    match bytes.len() {
        0 => Err(Error::Usage("bad list size error: there is nothing to look for".to_owned())),
        length if length > PATTERN => {
            Err(Error::Usage(format!("bad list size error: more than {PATTERN} bytes")))
        }
        _ => Ok(bytes),
    }
}

/// Numbers and `'text'`.
fn number_pattern(text: &str, unit: u64, scope: &Scope) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() && bytes.len() <= PATTERN {
        let quote = rest.chars().next().filter(|c| *c == '\'' || *c == '"');
        if let Some(quote) = quote {
            let inside = rest.get(1..).unwrap_or_default();
            let (inside, after) = inside.split_once(quote).unwrap_or((inside, ""));
            for c in inside.bytes() {
                bytes.extend(u64::from(c).to_le_bytes().iter().take(unit as usize));
            }
            rest = after.trim_start();
            continue;
        }
        // A blank ends a number: the list is no expression, unless it stands in brackets.
        let end = rest.find(char::is_whitespace).filter(|_| !rest.starts_with('(')).unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let (value, left) = scope.evaluate_first(word)?;
        if !left.is_empty() && !rest.starts_with('(') {
            return Err(Error::Usage(format!("syntax error at '{left}'")));
        }
        let fits = unit == 8 || value >> (8 * unit) == 0 || value as i64 >> (8 * unit - 1) == -1;
        if !fits {
            return Err(Error::Usage(format!("overflow error: {value:#x} is wider than {unit} bytes")));
        }
        bytes.extend(value.to_le_bytes().iter().take(unit as usize));
        rest = if left.is_empty() { after.trim_start() } else { left.trim_start() };
    }
    bounded(bytes)
}

/// Gives every run of readable memory in a range, in pieces that overlap by `overlap` bytes, to `visit`: the address
/// of the piece and its bytes. `visit` ends the walk with false.
fn pieces(
    scope: &Scope,
    start: Va,
    total: u64,
    overlap: usize,
    interrupted: &mut dyn FnMut() -> bool,
    visit: &mut dyn FnMut(Va, &[u8]) -> bool,
) -> Result<()> {
    let view = scope.view().ok_or_else(|| Error::Unsupported("no dump is open".to_owned()))?;
    let last = start.0.saturating_add(total.saturating_sub(1));
    let mut buffer = vec![0; PIECE + overlap];
    let mut at = start.0;
    let mut kept = 0;
    if total == 0 {
        return Ok(());
    }
    loop {
        if interrupted() {
            return Err(Error::Interrupted);
        }
        let left = (last - at).saturating_add(1);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
        let Some(place) = buffer.get_mut(kept..kept + count) else { return Ok(()) };
        let outcome = view.read(Va(at), place);
        let filled = kept + outcome.done;
        let piece = buffer.get(..filled).unwrap_or_default();
        if !piece.is_empty() && !visit(Va(at.wrapping_sub(kept as u64)), piece) {
            return Ok(());
        }
        let Some(next) = at.checked_add(outcome.done as u64).filter(|next| *next <= last) else {
            return Ok(());
        };
        if outcome.fault.is_none() {
            // The end of this piece is the start of the next: a hit may cross the border.
            kept = overlap.min(filled);
            buffer.copy_within(filled - kept..filled, 0);
            at = next;
            continue;
        }
        kept = 0;
        let Some(after) = next.checked_add(1).and_then(|next| view.next_readable(Va(next))) else {
            return Ok(());
        };
        if after.0 > last {
            return Ok(());
        }
        at = after.0;
    }
}

fn find(
    scope: &Scope,
    start: Va,
    total: u64,
    pattern: &[u8],
    unit: u64,
    interrupted: &mut dyn FnMut() -> bool,
    show: &mut dyn FnMut(Va, u64) -> bool,
) -> Result<()> {
    let finder = memmem::Finder::new(pattern);
    pieces(scope, start, total, pattern.len() - 1, interrupted, &mut |at, bytes| {
        let mut from = 0;
        while let Some(found) = bytes.get(from..).and_then(|rest| finder.find(rest)) {
            let offset = from + found;
            let va = at.add(offset as u64);
            if va.0.wrapping_sub(start.0) % unit == 0 && !show(va, pattern.len() as u64) {
                return false;
            }
            from = offset + 1;
        }
        true
    })
}

/// Any text: printable characters in a row.
fn find_text(
    scope: &Scope,
    start: Va,
    total: u64,
    unit: u64,
    least: u64,
    interrupted: &mut dyn FnMut() -> bool,
    show: &mut dyn FnMut(Va, u64) -> bool,
) -> Result<()> {
    let mut runs = TextRuns::new(unit, least);
    let mut go_on = true;
    pieces(scope, start, total, 0, interrupted, &mut |at, bytes| {
        go_on = runs.feed(at, bytes, show);
        go_on
    })?;
    if go_on {
        runs.finish(show);
    }
    Ok(())
}

fn compare(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let (Range { start, items }, rest) = range::parse_first(call.args, &scope, 1)?;
    let other = Va(scope.evaluate(rest)?);
    let mut done = 0;
    let mut shown = 0;
    out.list("differences", |out| {
        let (mut a, mut b) = (vec![0; PIECE], vec![0; PIECE]);
        while done < items && shown < MOST_HITS {
            if session.interrupted() {
                return Err(Error::Interrupted);
            }
            let count = usize::try_from(items - done).unwrap_or(usize::MAX).min(PIECE);
            let (Some(x), Some(y)) = (a.get_mut(..count), b.get_mut(..count)) else { break };
            let (first, second) = (scope.read(start.add(done), x), scope.read(other.add(done), y));
            let both = first.done.min(second.done);
            for (offset, (x, y)) in a.iter().zip(&b).take(both).enumerate().filter(|(_, (x, y))| x != y) {
                let at = done + offset as u64;
                out.record("", |out| {
                    let size = scope.pointer_size();
                    let place = |key: &str, value_key: &str, va: Va, byte: u8| {
                        out.styled_field(key, Value::Hex(va.0), Style::Address, &va.show(size).to_string());
                        out.text(" ");
                        out.field(value_key, Value::Hex(byte.into()), &format!("{byte:02x}"));
                    };
                    place("address", "byte", start.add(at), *x);
                    out.text(" - ");
                    place("other_address", "other_byte", other.add(at), *y);
                    out.end_line();
                });
                shown += 1;
            }
            done += both as u64;
            if both < count {
                let fault = if first.done == both { first.fault } else { second.fault };
                if let Some(fault) = fault {
                    return Err(Error::Unreadable { at: fault.at, why: fault.why });
                }
                break;
            }
        }
        Ok(())
    })
}
