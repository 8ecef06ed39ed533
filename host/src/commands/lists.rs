//! `ds`, `dS`: counted strings; `dl`: linked lists.

use super::{Builtin, Call, Needs};
use crate::expr;
use crate::range;
use crate::scope::Scope;
use crate::session::Session;
use crate::typed::{self, TextStyle};
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};
use std::collections::HashSet;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &["ds", "dS"],
        usage: "ADDRESS [LCOUNT]",
        summary: "Display STRING and UNICODE_STRING structures",
        help: "ds: STRING, ANSI_STRING; dS: UNICODE_STRING. Shows the address of the text and the text.",
        needs: Needs::Target,
        run: strings,
    },
    Builtin {
        names: &["dl", "dlb"],
        usage: "ADDRESS [MAXCOUNT [SIZE]]",
        summary: "Display a linked list",
        help: "Shows SIZE pointers (2) of each of at most MAXCOUNT elements (20). The link to the next element is the\n\
               first pointer, for dlb the second. Ends at a null pointer and where the list comes back to itself.",
        needs: Needs::Target,
        run: list,
    },
];

/// Characters of a counted string: its length is 16 bits.
const TEXT: usize = 0x8000;
/// Elements of a list, and pointers of an element.
const ELEMENTS: u64 = 1 << 20;
const POINTERS: u64 = 0x200;

fn strings(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let pointer = u64::from(scope.pointer_size());
    let unit = if call.name == "dS" { 2 } else { 1 };
    if call.args.is_empty() {
        return Err(Error::Usage(format!("{} needs the address of a string", call.name)));
    }
    let range = range::parse(call.args, &scope, Va::default, 1, pointer * 2)?;
    out.list("strings", |out| {
        for index in 0..range.items {
            if session.interrupted() {
                return Err(Error::Interrupted);
            }
            let at = range.start.add(index.wrapping_mul(pointer * 2));
            let length = number(&scope, at, 2)?;
            let buffer = Va(number(&scope, at.add(pointer), pointer)?);
            let limit = usize::try_from(length / unit).unwrap_or(TEXT).min(TEXT);
            let (text, why) = match (limit, typed::text_at(buffer, unit, limit, TextStyle::Counted, &scope)) {
                (0, _) => (String::new(), None),
                (_, Some(text)) => (text, None),
                (_, None) => (String::new(), typed::number_at(buffer, unit, &scope).err()),
            };
            out.record("", |out| {
                let shown = buffer.show(scope.pointer_size()).to_string();
                out.styled_field("address", Value::Hex(buffer.0), Style::Address, &shown);
                out.text("  ");
                match why {
                    Some(why) => out.field("unreadable", Value::Text(&why), &format!("?? ({why})")),
                    None => out.field("text", Value::Text(&text), &format!("\"{text}\"")),
                }
                out.end_line();
            });
        }
        Ok(())
    })
}

fn number(scope: &Scope, at: Va, size: u64) -> Result<u64> {
    expr::Context::read(scope, at, size as u32)
        .map_err(|why| Error::Usage(format!("memory access error at {at}: {why}")))
}

fn list(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let pointer = u64::from(scope.pointer_size());
    if call.args.is_empty() {
        return Err(Error::Usage("dl needs the address of a list".to_owned()));
    }
    let (start, rest) = scope.evaluate_first(call.args)?;
    let (most, rest) = if rest.is_empty() { (0x20, rest) } else { scope.evaluate_first(rest)? };
    let (size, rest) = if rest.is_empty() { (2, rest) } else { scope.evaluate_first(rest)? };
    if !rest.is_empty() {
        return Err(Error::Usage(format!("extra character error in '{rest}'")));
    }
    let size = size.clamp(1, POINTERS);
    let link = if call.name == "dlb" { pointer } else { 0 };
    let mut at = Va(start);
    let mut seen = HashSet::new();
    out.list("elements", |out| {
        for _ in 0..most.min(ELEMENTS) {
            if session.interrupted() {
                return Err(Error::Interrupted);
            }
            if at.is_null() || !seen.insert(at) {
                break;
            }
            let next = out.record("", |out| element(&scope, out, at, size, link))?;
            at = Va(next);
        }
        Ok(())
    })
}

/// Shows an element; returns its link.
fn element(scope: &Scope, out: &Out<'_>, at: Va, size: u64, link: u64) -> Result<u64> {
    let pointer = u64::from(scope.pointer_size());
    let next = number(scope, at.add(link), pointer);
    out.data("element", Value::Hex(at.0));
    out.list("values", |out| {
        for index in 0..size {
            let place = at.add(index * pointer);
            // Two pointers of 64 bits or four of 32 in a line, as dp has them.
            if index % (16 / pointer) == 0 {
                if index > 0 {
                    out.end_line();
                }
                out.styled(Style::Address, &place.show(scope.pointer_size()).to_string());
                out.text(" ");
            }
            out.text(" ");
            match number(scope, place, pointer) {
                Ok(value) => {
                    out.field("", Value::Hex(value), &Va(value).show(scope.pointer_size()).to_string())
                }
                Err(_) if pointer == 8 => out.field("", Value::Null, "????????`????????"),
                Err(_) => out.field("", Value::Null, "????????"),
            }
        }
    });
    out.end_line();
    next
}
