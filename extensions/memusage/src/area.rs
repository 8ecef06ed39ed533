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
    let number = |key, label: &str, value: u64| {
        out.field(key, Value::UInt(value), &format!("  {label:<16}{value:>17x}"));
    };
    out.field(
        "segment",
        Value::Hex(area.segment.0),
        &format!("  {:<16}{:>17}", "Segment", address(area.segment)),
    );
    out.end_line();
    number("section_references", "Section Ref", area.section_references);
    number("pfn_references", "Pfn Ref", area.pfn_references);
    number("mapped_views", "Mapped Views", area.mapped_views);
    out.end_line();
    number("user_references", "User Ref", area.user_references);
    out.field(
        "waiting",
        Value::Hex(area.waiting.0),
        &format!("  {:<16}{:>17x}", "WaitForDel", area.waiting.0),
    );
    number("flushes", "Flush Count", area.flushes);
    out.end_line();
    out.data("file_object", Value::Hex(area.file.0));
    out.text(&format!("  {:<16}", "File Object"));
    out.text(&" ".repeat(17usize.saturating_sub(address(area.file).len())));
    out.link(&address(area.file), &format!("!fileobj {:x}", area.file.0));
    number("modified_writes", "ModWriteCount", area.modified_writes);
    number("system_views", "System Views", area.system_views);
    out.end_line();
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

fn segment(session: &Session<'_>, out: &Out<'_>, area: &ControlArea) {
    out.end_line();
    out.line(&format!("Segment @ {}", session.target().show(area.segment)));
    let read = memory::kernel_type(session, "_SEGMENT").and_then(|of| {
        let read = of.at(area.segment).snapshot()?;
        Ok((
            read.pointer("ControlArea")?,
            read.u64("TotalNumberOfPtes")?,
            read.u64("SizeOfSegment")?,
            read.get("NumberOfCommittedPages")?.unwrap_or(0),
        ))
    });
    match read {
        Ok((back, entries, size, committed)) => {
            out.field("segment_ptes", Value::UInt(entries), &format!("  Total Ptes      {entries:>17x}"));
            out.field("segment_size", Value::UInt(size), &format!("  Segment Size    {size:>17x}"));
            out.field("committed", Value::UInt(committed), &format!("  Committed       {committed:>17x}"));
            out.end_line();
            if back != area.at {
                out.styled(
                    Style::Bad,
                    &format!("  it leads to the control area at {}", session.target().show(back)),
                );
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
        for (index, one) in found.iter().enumerate() {
            out.record("", |out| {
                out.end_line();
                let at = session.target().show(one.at);
                out.field("address", Value::Hex(one.at.0), &format!("Subsection {}. @ {at}", index + 1));
                out.end_line();
                out.field(
                    "base",
                    Value::Hex(one.base.0),
                    &format!("  Base Pte        {:>17}", session.target().show(one.base)),
                );
                out.field(
                    "entries",
                    Value::UInt(one.entries),
                    &format!("  Ptes In Subsect {:>17x}", one.entries),
                );
                out.field(
                    "protection",
                    Value::UInt(one.protection),
                    &format!("  Protection      {:>17x}", one.protection),
                );
                out.end_line();
                out.field(
                    "start_sector",
                    Value::UInt(one.start),
                    &format!("  Starting Sector {:>17x}", one.start),
                );
                out.field(
                    "sectors",
                    Value::UInt(one.sectors),
                    &format!("  Number Of Sect  {:>17x}", one.sectors),
                );
                out.end_line();
            });
        }
    });
    if let Some(error) = stopped {
        out.warning(&error.to_string());
    }
    Ok(())
}
