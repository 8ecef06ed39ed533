//! `!vtop`, `!ptov`: from virtual to physical and back.

use kd_sdk::args::Args;
use kd_sdk::nt::pfn;
use kd_sdk::nt::pte::{Mapped, Meaning, Scheme, Skipped, Tables, scheme};
use kd_sdk::nt::vad::protection_name;
use kd_sdk::prelude::*;

/// The most tables that are named among those not visited.
const MOST_NAMED: usize = 32;

/// The name of a machine in KD's lines.
fn prefix(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::X86 | Scheme::X86Pae => "X86",
        Scheme::X64 | Scheme::X64Level5 => "Amd64",
        Scheme::Arm64 => "Arm64",
    }
}

fn wide(scheme: Scheme, value: u64) -> String {
    if scheme == Scheme::X86 { format!("{value:08x}") } else { format!("{value:016x}") }
}

/// The root that a user means: the frame of one, or its address, which is what a number is that is no frame of this
/// machine, or the root of the process that the user looks at.
fn root(session: &Session<'_>, number: u64) -> Result<Option<Pa>> {
    if number == 0 {
        return Ok(None);
    }
    let runs = pfn::physical_memory(session).unwrap_or_default();
    let end = runs.last().map_or(1 << 20, |run| run.0.0.saturating_add(run.1));
    let current = Tables::current(session)?;
    let is_root =
        current.scheme.root(number) == current.root || number == session.target().directory_table_base().0;
    Ok(Some(if number >= end || is_root { Pa(number) } else { Pfn(number).pa() }))
}

/// Runs `!vtop`.
pub fn vtop(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let (first, second) = (args.word(), args.word());
    args.finish()?;
    let (directory, va) = match (first, second) {
        (Some(directory), Some(va)) => (session.evaluate(directory)?, va),
        (Some(va), None) => (0, va),
        _ => return Err(Error::Usage("!vtop needs an address: !vtop [PFN|DIRBASE|0] VA".to_owned())),
    };
    let va = Va(session.evaluate(va)?);
    let tables = match root(session, directory)? {
        Some(root) => Tables::of(session, root)?,
        None => Tables::current(session)?,
    };
    let (out, target) = (session.out(), session.target());
    let name = format!("{}VtoP", prefix(tables.scheme));
    let digits = target.pointer_size() as usize * 2;
    out.data("directory_table_base", Value::Hex(tables.root.0));
    out.data("va", Value::Hex(va.0));
    let pae = if tables.scheme == Scheme::X86Pae { "PAE " } else { "" };
    out.line(&format!("{name}: Virt {:0digits$x}, pagedir {}", va.0, wide(tables.scheme, tables.root.0)));
    let walk = tables.walk(va)?;
    out.list("steps", |out| {
        for step in &walk.steps {
            out.record("", |out| {
                let shown = format!("{name}: {pae}{} {}", step.level.manual, wide(tables.scheme, step.at.0));
                out.data("level", Value::Text(step.level.name));
                out.data("index", Value::UInt(step.index));
                out.field("physical", Value::Hex(step.at.0), &shown);
                out.field(
                    "entry",
                    Value::Hex(step.entry),
                    &format!(" contains {}", wide(tables.scheme, step.entry)),
                );
                out.data("state", Value::Text(step.meaning.key()));
                out.end_line();
            });
        }
    });
    let result = walk.found.map(|(pa, size)| (pa.add(va.0 & (size - 1)), size));
    if let Some((pa, size)) = result {
        let kind = match walk.steps.last().map(|step| step.meaning) {
            Some(Meaning::Transition(_)) => "Transition page, mapped phys",
            Some(Meaning::Prototype(_)) => "Prototype page, mapped phys",
            _ if size > 0x1000 => "Large page mapped phys",
            _ => "Mapped phys",
        };
        out.line(&format!("{name}: {pae}{kind} {}", wide(tables.scheme, pa.0)));
        out.text(&format!("Virtual address {:x} translates to physical address ", va.0));
        out.field("physical", Value::Hex(pa.0), &pa.to_string());
        out.line(".");
        out.data("page_size", Value::UInt(size));
        return Ok(());
    }
    out.data("physical", Value::Null);
    let why = match (&walk.absent, &walk.prototype, walk.steps.last()) {
        (Some((level, pfn, error)), ..) => format!("the table of {}s in frame {pfn}: {error}", level.manual),
        (_, Some(Err(error)), _) => format!("its prototype entry: {error}"),
        (_, Some(Ok((_, entry, meaning))), _) => {
            format!("the prototype entry {} says: {}", wide(tables.scheme, *entry), in_words(*meaning))
        }
        (_, None, Some(step)) => {
            let protection = match step.meaning {
                Meaning::Zero | Meaning::Prototype(_) => String::new(),
                _ => format!(", {}", protection_name(tables.protection(step.entry))),
            };
            format!("{} not present: {}{protection}", step.level.manual, in_words(step.meaning))
        }
        (_, None, None) => "no entry could be read".to_owned(),
    };
    out.line(&format!("{name}: {why}"));
    out.data("why", Value::Text(&why));
    out.line(&format!("Virtual address {:x} translation fails.", va.0));
    Ok(())
}

fn in_words(meaning: Meaning) -> String {
    match meaning {
        Meaning::Zero => "not mapped".to_owned(),
        Meaning::Table(pfn) => format!("a table in frame {pfn}"),
        Meaning::Page(pa, _) => format!("mapped at {pa}"),
        Meaning::Transition(pfn) => format!("in transition, frame {pfn}"),
        Meaning::Prototype(at) => format!("paged out, the prototype entry at {at} tells more"),
        Meaning::Descriptors => "paged out, the address descriptors tell more (!vad)".to_owned(),
        Meaning::PageFile(file, page) => format!("paged out, page file {file} at page {page:x}"),
        Meaning::DemandZero => "never touched, demand zero".to_owned(),
        Meaning::MappedFile => "paged out, in a mapped file".to_owned(),
    }
}

/// Pages that follow each other in both memories: one record for programs, a line each for people.
struct Run {
    first: Mapped,
    pages: u64,
}

/// Runs `!ptov`.
pub fn ptov(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let Some(directory) = args.word() else {
        return Err(Error::Usage(
            "!ptov needs a directory table base, which !process shows as DirBase".to_owned(),
        ));
    };
    let bound =
        |text: Option<&str>, otherwise: u64| text.map_or(Ok(otherwise), |text| session.evaluate(text));
    let (start, end) = (bound(args.word(), 0)?, bound(args.word(), u64::MAX)?);
    args.finish()?;
    let tables = Tables::of(session, Pa(session.evaluate(directory)?))?;
    let (out, target) = (session.out(), session.target());
    let pae = if scheme(session) == Scheme::X86Pae { ", PAE enabled." } else { "" };
    out.text(&format!("{}PtoV: pagedir ", prefix(tables.scheme)));
    out.field("directory_table_base", Value::Hex(tables.root.0), &format!("{}{pae}", tables.root));
    out.end_line();
    // 64-bit numbers above 32 bits have KD's mark in the middle.
    let number = |value: u64| match value >> 32 {
        0 => format!("{value:x}"),
        _ => Va(value).to_string(),
    };
    let (mut run, mut total): (Option<Run>, u64) = (None, 0);
    let close = |run: Option<Run>| {
        let Some(Run { first, pages }) = run else { return };
        out.record("", |out| {
            out.data("physical", Value::Hex(first.pa.0));
            out.data("va", Value::Hex(first.va.0));
            out.data("page_size", Value::UInt(first.size));
            out.data("pages", Value::UInt(pages));
        });
    };
    let skipped = out.list("mappings", |_| {
        let skipped = tables.each_page(start, end, &mut |page| {
            let large = if page.size > 0x1000 {
                format!(" (large page, {} bytes)", number(page.size))
            } else {
                String::new()
            };
            out.line(&format!("{} {}{large}", number(page.pa.0), number(page.va.0)));
            total += 1;
            let extends = run.as_ref().is_some_and(|run| {
                let far = run.pages * run.first.size;
                run.first.size == page.size
                    && run.first.va.add(far) == page.va
                    && run.first.pa.add(far) == page.pa
            });
            match &mut run {
                Some(run) if extends => run.pages += 1,
                _ => close(run.replace(Run { first: page, pages: 1 })),
            }
            Ok(())
        });
        close(run.take());
        skipped
    })?;
    out.field(
        "pages",
        Value::UInt(total),
        &format!("{total} page{} mapped", if total == 1 { "" } else { "s" }),
    );
    out.end_line();
    out.list("not_shown", |out| {
        for table in skipped.iter().take(MOST_NAMED) {
            let text = match table {
                Skipped::Absent(level, va, pfn, error) => {
                    format!(
                        "from {} on: the table of {}s in frame {pfn}: {error}",
                        target.show(*va),
                        level.name
                    )
                }
                Skipped::Again(level, va, pfn) => {
                    format!(
                        "from {} on: the {} leads to frame {pfn}, a table that is shown above",
                        target.show(*va),
                        level.name
                    )
                }
            };
            out.field("", Value::Text(&text), &format!("not shown {text}"));
            out.end_line();
        }
    });
    if skipped.len() > MOST_NAMED {
        out.warning(&format!("{} more tables are not shown", skipped.len() - MOST_NAMED));
    }
    Ok(())
}
