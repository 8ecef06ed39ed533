//! `.holdmem` keeps copies of memory and compares other memory with them: two structures of one dump, or the same
//! address in two dumps.
//!
//! JSON: `held` is a list of `{start, end}`; a comparison is a list `compared` of `{start, end, equal, differences}`.

use super::{Builtin, Call, Needs};
use crate::range;
use crate::session::Session;
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[Builtin {
    names: &[".holdmem"],
    usage: "-a RANGE | -c RANGE | -d RANGE | -d ADDRESS | -D | -o",
    summary: "Keep a copy of memory, and compare memory with it",
    help: "-a keeps a copy of a range, -o lists what is kept, -d gives up what a range or an address is part of, -D gives\n\
           up all. -c compares a range with every copy, byte by byte from the start of both, and shows the first bytes\n\
           that differ; the copy may be of another dump.",
    needs: Needs::Nothing,
    run: hold,
}];

/// Bytes that are kept at most, of all ranges together.
const MOST: usize = 64 << 20;
/// Differences that are shown of one comparison.
const SHOWN: usize = 16;

/// A copy of memory.
pub struct Held {
    start: Va,
    bytes: Vec<u8>,
}

impl Held {
    fn last(&self) -> Va {
        self.start.add((self.bytes.len() as u64).saturating_sub(1))
    }
}

fn hold(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (option, rest) = call.args.split_once(char::is_whitespace).unwrap_or((call.args, ""));
    match (option, rest.trim()) {
        ("-o", "") => list(session, out),
        ("-D", "") => session.shelf.held.clear(),
        ("-a", range) if !range.is_empty() => {
            let held = read(session, range)?;
            let kept: usize = session.shelf.held.iter().map(|held| held.bytes.len()).sum();
            if kept + held.bytes.len() > MOST {
                return Err(Error::Usage(format!(
                    "{kept:#x} bytes are kept, and {MOST:#x} are the most; .holdmem -d or -D gives some up"
                )));
            }
            session.shelf.held.push(held);
        }
        ("-d", range) if !range.is_empty() => {
            let scope = session.scope(None)?;
            // An address alone is a range of one byte.
            let range = range::parse(range, &scope, || Va(0), 1, 1)?;
            let last = range.start.add(range.items.saturating_sub(1));
            session.shelf.held.retain(|held| held.last() < range.start || last < held.start);
        }
        ("-c", range) if !range.is_empty() => {
            let other = read(session, range)?;
            compare(session, out, &other)?;
        }
        _ => return Err(Error::Usage(".holdmem takes -a RANGE, -c RANGE, -d RANGE, -D or -o".to_owned())),
    }
    Ok(())
}

fn read(session: &Session, text: &str) -> Result<Held> {
    let scope = session.scope(None)?;
    scope.open()?;
    let (range, rest) = range::parse_first(text, &scope, 1)?;
    let size = usize::try_from(range.items).ok().filter(|size| (1..=MOST).contains(size));
    let size = size.filter(|_| rest.is_empty());
    let size = size.ok_or_else(|| Error::Usage(format!(".holdmem takes a range of 1 to {MOST:#x} bytes")))?;
    let mut bytes = vec![0; size];
    match scope.read(range.start, &mut bytes).fault {
        Some(fault) => Err(Error::Unreadable { at: fault.at, why: fault.why }),
        None => Ok(Held { start: range.start, bytes }),
    }
}

fn show_range(session: &Session, out: &Out<'_>, held: &Held) {
    let size = session.scope(None).map_or(8, |scope| scope.pointer_size());
    let show = |va: Va| va.show(size).to_string();
    out.styled_field("start", Value::Hex(held.start.0), Style::Address, &show(held.start));
    out.text(" - ");
    out.styled_field("end", Value::Hex(held.last().0), Style::Address, &show(held.last()));
}

fn list(session: &Session, out: &Out<'_>) {
    if session.shelf.held.is_empty() {
        out.line("No memory is held");
    }
    out.list("held", |out| {
        for held in &session.shelf.held {
            out.record("", |out| {
                show_range(session, out, held);
                out.end_line();
            });
        }
    });
}

fn compare(session: &Session, out: &Out<'_>, other: &Held) -> Result<()> {
    if session.shelf.held.is_empty() {
        return Err(Error::NotFound("no memory is held; .holdmem -a RANGE".to_owned()));
    }
    out.list("compared", |out| {
        for held in &session.shelf.held {
            if session.interrupted() {
                return Err(Error::Interrupted);
            }
            out.record("", |out| {
                show_range(session, out, held);
                let common = held.bytes.len().min(other.bytes.len());
                let pairs = held.bytes.iter().zip(&other.bytes).enumerate();
                let differ: Vec<(usize, u8, u8)> =
                    pairs.filter(|(_, (a, b))| a != b).map(|(at, (a, b))| (at, *a, *b)).collect();
                out.data("compared_bytes", Value::UInt(common as u64));
                let text = format!(": {:x} of {common:x} bytes differ", differ.len());
                let text = if differ.is_empty() { format!(": {common:x} bytes are equal") } else { text };
                out.field("equal", Value::Bool(differ.is_empty()), &text);
                out.data("differing", Value::UInt(differ.len() as u64));
                out.end_line();
                out.list("differences", |out| {
                    for (at, was, is) in differ.iter().take(SHOWN) {
                        out.record("", |out| {
                            out.field("offset", Value::Hex(*at as u64), &format!("    +{at:03x}  "));
                            out.field("held", Value::Hex((*was).into()), &format!("{was:02x}"));
                            out.field("other", Value::Hex((*is).into()), &format!(" {is:02x}"));
                            out.end_line();
                        });
                    }
                });
                if differ.len() > SHOWN {
                    out.line("    …");
                }
            });
        }
        Ok(())
    })
}
