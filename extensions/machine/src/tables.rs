//! `!pte`, `!pte2va`: page table entries in columns, the topmost level first.

use kd_sdk::address::PAGE_SIZE;
use kd_sdk::args::Args;
use kd_sdk::nt::pte::{self, Level, Meaning, Step, Tables, Walk};
use kd_sdk::nt::vad::protection_name;
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// Width of a column.
const COLUMN: usize = 27;
/// The most rows of a range.
const MOST_ROWS: usize = 1 << 10;

/// Runs `!pte`.
pub fn entries(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let Some(first) = args.word() else {
        return Err(Error::Usage("!pte needs an address".to_owned()));
    };
    let second = args.word().map(|text| session.evaluate(text)).transpose()?;
    args.finish()?;
    let first = Va(session.evaluate(first)?);
    let tables = Tables::current(session)?;
    match second {
        Some(end) if end > first.0 => range(session, &tables, first, Va(end)),
        Some(_) => literal(session, &tables, first),
        None => {
            // The address of an entry stands for what the entry maps.
            let entry = tables.window.and_then(|window| window.address(first));
            one(session, &tables, entry.unwrap_or(first))
        }
    }
}

/// Runs `!pte2va`.
pub fn pte2va(session: &Session<'_>, args: &str) -> Result<()> {
    if args.trim().is_empty() {
        return Err(Error::Usage("!pte2va needs the address of a page table entry".to_owned()));
    }
    let at = Va(session.evaluate(args)?);
    let window = pte::window(session)?;
    let target = session.target();
    let va = window.address(at).ok_or_else(|| {
        Error::Usage(format!(
            "{} is no page table entry: they begin at {}",
            target.show(at),
            target.show(window.base)
        ))
    })?;
    let out = session.out();
    out.data("pte", Value::Hex(at.0));
    out.styled_field("va", Value::Hex(va.0), Style::Address, &target.show(va));
    out.end_line();
    Ok(())
}

/// An address in KD's columns: upper case, no mark in the middle.
fn bare(session: &Session<'_>, va: Va) -> String {
    if session.target().pointer_size() == 4 { format!("{:08X}", va.0) } else { format!("{:016X}", va.0) }
}

fn entry_text(tables: &Tables<'_>, entry: u64) -> String {
    if tables.scheme.entry_size() == 4 { format!("{entry:08X}") } else { format!("{entry:016X}") }
}

/// What stands under an entry: frame and letters, or that it is not valid.
fn state(tables: &Tables<'_>, step: &Step) -> String {
    let pfn = match step.meaning {
        Meaning::Table(pfn) => pfn,
        Meaning::Page(pa, _) => pa.pfn(),
        _ => return "not valid".to_owned(),
    };
    format!("pfn {:<10}{}", pfn.to_string(), tables.scheme.letters(&step.level, step.entry))
}

fn one(session: &Session<'_>, tables: &Tables<'_>, va: Va) -> Result<()> {
    let walk = tables.walk(va)?;
    let out = session.out();
    out.data("va", Value::Hex(va.0));
    let mut rows: [Vec<String>; 3] = Default::default();
    let at = |level: &Level, pa: Option<Pa>| match (tables.entry_address(va, level), pa) {
        (Some(at), _) => format!("{} at {}", level.name, bare(session, at)),
        (None, Some(pa)) => format!("{} at #{pa}", level.name),
        (None, None) => format!("{} at ?", level.name),
    };
    for step in &walk.steps {
        let texts = [
            at(&step.level, Some(step.at)),
            format!("contains {}", entry_text(tables, step.entry)),
            state(tables, step),
        ];
        rows.iter_mut().zip(texts).for_each(|(row, text)| row.push(text));
    }
    if let Some((level, pfn, error)) = &walk.absent {
        let why = match error {
            Error::Unreadable { why, .. } => why.to_string(),
            other => other.to_string(),
        };
        let texts = [at(level, None), format!("in frame {pfn}"), why];
        rows.iter_mut().zip(texts).for_each(|(row, text)| row.push(text));
    }
    let large = walk.found.filter(|(_, size)| *size > PAGE_SIZE).and_then(|(pa, size)| {
        let level = tables.scheme.levels().last()?;
        Some((level, pa.add(va.0 & (size - 1)).pfn()))
    });
    if let Some((level, pfn)) = large {
        let texts = [at(level, None), String::new(), format!("LARGE PAGE pfn {pfn}")];
        rows.iter_mut().zip(texts).for_each(|(row, text)| row.push(text));
    }
    let width = rows[0].len() * COLUMN;
    let title = format!("VA {}", bare(session, va).to_lowercase());
    out.line(&format!("{:>width$}", title, width = (width + title.len()) / 2));
    for row in rows {
        let line: String = row.iter().map(|text| format!("{text:<COLUMN$}")).collect();
        out.line(line.trim_end());
    }
    details(session, tables, &walk);
    data(&out, tables, va, &walk);
    Ok(())
}

/// The lines below the columns: what an entry that is not valid says.
fn details(session: &Session<'_>, tables: &Tables<'_>, walk: &Walk) {
    let out = session.out();
    let Some(last) = walk.steps.last().filter(|step| step.entry & 1 == 0) else { return };
    for line in words(session, tables, last.entry, last.meaning) {
        out.line(&format!(" {line}"));
    }
    match &walk.prototype {
        Some(Ok((_, entry, meaning))) => {
            out.line(&format!("  contains {}", entry_text(tables, *entry)));
            for line in words(session, tables, *entry, *meaning) {
                out.line(&format!("  {line}"));
            }
        }
        Some(Err(error)) => out.line(&format!("  {error}")),
        None => {}
    }
}

/// An entry in words.
fn words(session: &Session<'_>, tables: &Tables<'_>, entry: u64, meaning: Meaning) -> Vec<String> {
    let mut lines = match meaning {
        Meaning::Zero => return Vec::new(),
        Meaning::Table(pfn) => vec![format!("Table: pfn {pfn}")],
        Meaning::Page(pa, _) => return vec![format!("Valid: pfn {}", pa.pfn())],
        Meaning::Transition(pfn) => vec![format!("Transition: pfn {pfn}")],
        Meaning::Prototype(at) => vec![format!("Proto: {}", session.target().show(at))],
        Meaning::Descriptors => vec!["Proto: VAD".to_owned()],
        Meaning::PageFile(file, page) => vec![format!("PageFile: {file:2x}"), format!("Offset: {page:x}")],
        Meaning::DemandZero => vec!["DemandZero".to_owned()],
        Meaning::MappedFile => vec!["Subsection: the page is in a mapped file".to_owned()],
    };
    if !matches!(meaning, Meaning::Prototype(_)) {
        let protection = tables.protection(entry);
        lines.push(format!("Protect: {protection:x} - {}", protection_name(protection)));
    }
    lines
}

fn data(out: &Out<'_>, tables: &Tables<'_>, va: Va, walk: &Walk) {
    out.list("levels", |out| {
        for step in &walk.steps {
            out.record("", |out| {
                out.data("level", Value::Text(step.level.name));
                let at = tables.entry_address(va, &step.level);
                out.data("at", at.map_or(Value::Null, |at| Value::Hex(at.0)));
                out.data("physical", Value::Hex(step.at.0));
                entry_data(out, tables, &step.level, step.entry, step.meaning);
            });
        }
    });
    if let Some(Ok((at, entry, meaning))) = &walk.prototype {
        out.record("prototype", |out| {
            out.data("at", Value::Hex(at.0));
            let level = tables.scheme.levels().last();
            level.into_iter().for_each(|level| entry_data(out, tables, level, *entry, *meaning));
        });
    }
    if let Some((level, pfn, error)) = &walk.absent {
        out.record("absent", |out| {
            out.data("level", Value::Text(level.name));
            out.data("pfn", Value::Hex(pfn.0));
            out.data("why", Value::Text(&error.to_string()));
        });
    }
    let found = walk.found.map(|(pa, size)| (pa.add(va.0 & (size - 1)), size));
    out.data("physical", found.map_or(Value::Null, |(pa, _)| Value::Hex(pa.0)));
    out.data("page_size", found.map_or(Value::Null, |(_, size)| Value::UInt(size)));
}

fn entry_data(out: &Out<'_>, tables: &Tables<'_>, level: &Level, entry: u64, meaning: Meaning) {
    out.data("entry", Value::Hex(entry));
    out.data("state", Value::Text(meaning.key()));
    match meaning {
        Meaning::Table(pfn) | Meaning::Transition(pfn) => out.data("pfn", Value::Hex(pfn.0)),
        Meaning::Page(pa, size) => {
            out.data("pfn", Value::Hex(pa.pfn().0));
            out.data("page_size", Value::UInt(size));
        }
        Meaning::Prototype(at) => out.data("prototype", Value::Hex(at.0)),
        Meaning::PageFile(file, page) => {
            out.data("page_file", Value::UInt(file));
            out.data("page_file_offset", Value::Hex(page));
        }
        Meaning::Zero | Meaning::Descriptors | Meaning::DemandZero | Meaning::MappedFile => {}
    }
    if entry & 1 != 0 {
        out.data("letters", Value::Text(&tables.scheme.letters(level, entry)));
    } else if meaning != Meaning::Zero {
        out.data("protection", Value::UInt(tables.protection(entry)));
    }
}

/// What stands at an address, read as an entry of the last level and of the one above.
fn literal(session: &Session<'_>, tables: &Tables<'_>, at: Va) -> Result<()> {
    let out = session.out();
    let entry = match tables.scheme.entry_size() {
        4 => u64::from(tables.memory().u32(at)?),
        _ => tables.memory().u64(at)?,
    };
    out.data("at", Value::Hex(at.0));
    out.list("levels", |out| {
        for level in tables.scheme.levels().iter().rev().take(2).rev() {
            let meaning = tables.meaning(level, entry);
            let step = Step { level: *level, index: 0, at: Pa(0), entry, meaning };
            out.record("", |out| {
                out.name("level", level.name);
                out.line(&format!(" at {}", bare(session, at)));
                out.line(&format!("contains {}", entry_text(tables, entry)));
                out.line(&state(tables, &step));
                if entry & 1 == 0 {
                    words(session, tables, entry, meaning)
                        .iter()
                        .for_each(|line| out.line(&format!(" {line}")));
                }
                entry_data(out, tables, level, entry, meaning);
            });
        }
    });
    Ok(())
}

/// A row for every page; one for what nothing is mapped in.
fn range(session: &Session<'_>, tables: &Tables<'_>, start: Va, end: Va) -> Result<()> {
    let out = session.out();
    let mut va = Va(start.0 & !(PAGE_SIZE - 1));
    let mut rows = 0;
    out.list("pages", |out| {
        while va <= end {
            session.check_interrupt()?;
            if rows == MOST_ROWS {
                out.warning(&format!("more than {MOST_ROWS} rows: go on at {}", session.target().show(va)));
                break;
            }
            rows += 1;
            let walk = tables.walk(va)?;
            let level =
                walk.absent.as_ref().map(|absent| absent.0).or(walk.steps.last().map(|step| step.level));
            let Some(level) = level else { break };
            out.record("", |out| {
                out.data("va", Value::Hex(va.0));
                let text = match (&walk.absent, walk.steps.last()) {
                    (Some((_, pfn, error)), _) => format!("frame {pfn}: {error}"),
                    (None, Some(step)) => {
                        let details = words(session, tables, step.entry, step.meaning).join(", ");
                        let details =
                            if step.entry & 1 == 0 { format!("  {details}") } else { String::new() };
                        let (entry, state) = (entry_text(tables, step.entry), state(tables, step));
                        format!("contains {entry}  {state}{details}")
                    }
                    (None, None) => String::new(),
                };
                out.line(
                    format!("VA {}  {}  {text}", bare(session, va).to_lowercase(), level.name).trim_end(),
                );
                data(out, tables, va, &walk);
            });
            // All that a table which is absent would tell of is one row.
            let table = walk.absent.as_ref().map_or(1, |absent| absent.0.count);
            let step = level.covers().saturating_mul(table);
            let Some(next) = (va.0 & !(step - 1)).checked_add(step) else { break };
            va = Va(next);
            if !tables.scheme.is_canonical(va) {
                va = Va(u64::MAX << (tables.scheme.address_bits() - 1));
            }
            if tables.scheme.address_bits() == 32 && va.0 > 0xffff_ffff {
                break;
            }
        }
        Ok(())
    })
}
