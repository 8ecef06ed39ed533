//! `!ca`: control areas.

use crate::owners::{Owner, Owners};
use crate::usage;
use kd_sdk::nt::memory;
use kd_sdk::nt::pfn::Database;
use kd_sdk::nt::section::{ControlArea, Sections};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

const SEGMENT: u64 = 1;
const SUBSECTIONS: u64 = 2;
const VIEWS: u64 = 4;
const ONE_LINE: u64 = 8;
const FILES: u64 = 0x10;
const PAGE_FILES: u64 = 0x20;
const IMAGES: u64 = 0x40;
const KNOWN: u64 = 0x7f;

/// Runs the command.
pub fn ca(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let which = args.word().map_or(Ok(u64::MAX), |word| session.evaluate(word))?;
    let flags = args.word().map_or(Ok(0), |word| session.evaluate(word))?;
    args.finish()?;
    if flags & !KNOWN != 0 {
        return Err(Error::Usage(format!("flags {flags:#x}: only the bits up to 0x40 have a meaning")));
    }
    let all = u64::MAX >> if session.target().pointer_size() == 4 { 32 } else { 0 };
    let every = which == 0 || which == u64::MAX || which == all;
    let flags = match (which, flags & !(FILES | PAGE_FILES | IMAGES)) {
        (0, 0) => flags | ONE_LINE,
        (_, 0) => flags | SEGMENT | SUBSECTIONS,
        _ => flags,
    };
    let sections = Sections::new(session)?;
    let found = if every { in_use(session)? } else { vec![Va(which & all)] };
    let out = session.out();
    if flags & ONE_LINE != 0 {
        let width = if session.target().pointer_size() == 4 { 8 } else { 17 };
        out.styled(
            Style::Heading,
            &format!("{:width$}  {:>8} {:>8} {:>6}  name", "Control", "Pfns", "Views", "Users"),
        );
        out.end_line();
    }
    out.list("areas", |out| -> Result<()> {
        for at in found {
            session.check_interrupt()?;
            match sections.area(at) {
                Ok(area) if !every || wanted(&area, flags) => {
                    out.record("", |out| show(session, out, &sections, &area, flags))?
                }
                Ok(_) => {}
                Err(error) if every => out.line(&format!("{}  {error}", session.target().show(at))),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })
}

/// Control areas that frames lead to, in ascending order.
fn in_use(session: &Session<'_>) -> Result<Vec<Va>> {
    let database = Database::open(session)?;
    let mut owners = Owners::new(session, &database)?;
    let counted = usage::scan(session, &database, Some(&mut owners), false)?;
    let areas = counted.usage.keys().filter_map(|owner| match owner {
        Owner::Area(area) => Some(*area),
        _ => None,
    });
    let mut areas: Vec<Va> = areas.collect();
    areas.sort_unstable();
    if counted.interrupted.is_some() {
        return Err(Error::Interrupted);
    }
    Ok(areas)
}

fn wanted(area: &ControlArea, flags: u64) -> bool {
    let filter = flags & (FILES | PAGE_FILES | IMAGES);
    filter == 0
        || filter & IMAGES != 0 && area.is("Image")
        || filter & FILES != 0 && !area.file.is_null() && !area.is("Image")
        || filter & PAGE_FILES != 0 && area.file.is_null()
}

fn name(out: &Out<'_>, sections: &Sections<'_>, area: &ControlArea) {
    match sections.file_name(area) {
        Ok(None) => out.text("(page files back it)"),
        Ok(Some(path)) if path.is_empty() => out.field("path", Value::Text(""), "No Name for File"),
        Ok(Some(path)) => out.field("path", Value::Text(&path), &path),
        Err(error) => out.field("path", Value::Null, &format!("No Name for File ({error})")),
    }
}

fn show(
    session: &Session<'_>,
    out: &Out<'_>,
    sections: &Sections<'_>,
    area: &ControlArea,
    flags: u64,
) -> Result<()> {
    let address = |va: Va| session.target().show(va);
    out.data("control_area", Value::Hex(area.at.0));
    if flags & ONE_LINE != 0 {
        out.link(&address(area.at), &format!("!ca {:x}", area.at.0));
        out.field(
            "pfn_references",
            Value::UInt(area.pfn_references),
            &format!("  {:>8}", area.pfn_references),
        );
        out.field("mapped_views", Value::UInt(area.mapped_views), &format!(" {:>8}", area.mapped_views));
        out.field(
            "user_references",
            Value::UInt(area.user_references),
            &format!(" {:>6}  ", area.user_references),
        );
        name(out, sections, area);
        out.end_line();
        return Ok(());
    }
    out.end_line();
    out.line(&format!("ControlArea  @ {}", address(area.at)));
    let rows: &[&[Cell]] = &[
        &[
            ("segment", "Segment", Shown::Address(area.segment)),
            ("section_references", "Section Ref", Shown::Number(area.section_references)),
            ("pfn_references", "Pfn Ref", Shown::Number(area.pfn_references)),
            ("mapped_views", "Mapped Views", Shown::Number(area.mapped_views)),
        ],
        &[
            ("user_references", "User Ref", Shown::Number(area.user_references)),
            ("waiting", "WaitForDel", Shown::Code(area.waiting.0)),
            ("flushes", "Flush Count", Shown::Number(area.flushes)),
        ],
        &[
            ("file_object", "File Object", Shown::Link(area.file, "!fileobj")),
            ("modified_writes", "ModWriteCount", Shown::Number(area.modified_writes)),
            ("system_views", "System Views", Shown::Number(area.system_views)),
        ],
    ];
    cells(session, out, rows);
    out.field(
        "flags",
        Value::Hex(area.flags),
        &format!("  Flags ({:x}) {} ", area.flags, area.flag_names.join(" ")),
    );
    out.list("flag_names", |out| area.flag_names.iter().for_each(|flag| out.data("", Value::Text(flag))));
    out.end_line();
    out.text("      ");
    name(out, sections, area);
    out.end_line();
    if flags & SEGMENT != 0 {
        segment(session, out, area);
    }
    if flags & SUBSECTIONS != 0 {
        subsections(session, out, sections, area)?;
    }
    if flags & VIEWS != 0 {
        out.line(&format!(
            "Views: {} mapped, of them {} of the cache; this kernel keeps no list of them",
            area.mapped_views, area.system_views
        ));
    }
    Ok(())
}

/// A value of a row: its name for programs, its label, and how it is shown.
type Cell = (&'static str, &'static str, Shown);

/// How a value is shown.
#[derive(Clone, Copy)]
enum Shown {
    /// A count, in hexadecimal as KD does.
    Number(u64),
    /// A code, or an address that leads nowhere.
    Code(u64),
    Address(Va),
    /// An address, and the command that shows what stands there.
    Link(Va, &'static str),
}

fn cells(session: &Session<'_>, out: &Out<'_>, rows: &[&[Cell]]) {
    for row in rows {
        for &(key, label, shown) in *row {
            let (value, text) = match shown {
                Shown::Number(number) => (Value::UInt(number), format!("{number:x}")),
                Shown::Code(code) => (Value::Hex(code), format!("{code:x}")),
                Shown::Address(va) | Shown::Link(va, _) => (Value::Hex(va.0), session.target().show(va)),
            };
            match shown {
                Shown::Link(va, command) => {
                    let pad = 17usize.saturating_sub(text.len());
                    out.field(key, value, &format!("  {label:<16}{:pad$}", ""));
                    out.link(&text, &format!("{command} {:x}", va.0));
                }
                _ => out.field(key, value, &format!("  {label:<16}{text:>17}")),
            }
        }
        out.end_line();
    }
}

fn segment(session: &Session<'_>, out: &Out<'_>, area: &ControlArea) {
    out.end_line();
    out.line(&format!("Segment @ {}", session.target().show(area.segment)));
    let read = memory::kernel_type(session, "_SEGMENT").and_then(|of| {
        let read = of.at(area.segment).snapshot()?;
        let number = |path| read.u64(path).map(Shown::Number);
        let row = [
            ("segment_ptes", "Total Ptes", number("TotalNumberOfPtes")?),
            ("segment_size", "Segment Size", number("SizeOfSegment")?),
            ("committed", "Committed", Shown::Number(read.get("NumberOfCommittedPages")?.unwrap_or(0))),
        ];
        Ok((read.pointer("ControlArea")?, row))
    });
    match read {
        Ok((back, row)) => {
            cells(session, out, &[&row]);
            if back != area.at {
                let text = format!("  it leads to the control area at {}", session.target().show(back));
                out.styled(Style::Bad, &text);
                out.end_line();
            }
        }
        Err(error) => out.line(&format!("  {error}")),
    }
}

fn subsections(
    session: &Session<'_>,
    out: &Out<'_>,
    sections: &Sections<'_>,
    area: &ControlArea,
) -> Result<()> {
    let (found, stopped) = sections.subsections(area)?;
    out.list("subsections", |out| {
        for (one, number) in found.iter().zip(1..) {
            out.record("", |out| {
                out.end_line();
                let at = session.target().show(one.at);
                out.field("address", Value::Hex(one.at.0), &format!("Subsection {number}. @ {at}"));
                out.end_line();
                let rows: &[&[Cell]] = &[
                    &[
                        ("base", "Base Pte", Shown::Address(one.base)),
                        ("entries", "Ptes In Subsect", Shown::Number(one.entries)),
                        ("protection", "Protection", Shown::Number(one.protection)),
                    ],
                    &[
                        ("start_sector", "Starting Sector", Shown::Number(one.start)),
                        ("sectors", "Number Of Sect", Shown::Number(one.sectors)),
                    ],
                ];
                cells(session, out, rows);
            });
        }
    });
    if let Some(error) = stopped {
        out.warning(&error.to_string());
    }
    Ok(())
}
