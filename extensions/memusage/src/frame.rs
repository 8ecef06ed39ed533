//! `!pfn`: one entry of the PFN database.

use kd_sdk::nt::pfn::{Database, Frame, State};
use kd_sdk::nt::section::Sections;
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// Runs the command.
pub fn pfn(session: &Session<'_>, args: &str) -> Result<()> {
    if args.trim().is_empty() {
        return Err(Error::Usage("which frame? !pfn PFN".to_owned()));
    }
    let number = Pfn(session.evaluate(args)?);
    let database = Database::open(session)?;
    if !database.has(number) {
        session.out().warning(&format!("frame {number} is not in the physical memory that the kernel knows"));
    }
    let frame = database.frame(number)?;
    show(session, &database, &frame);
    Ok(())
}

fn show(session: &Session<'_>, database: &Database<'_>, frame: &Frame) {
    let out = session.out();
    let show = |va: Va| session.target().show(va);
    let address = database.address(frame.pfn);
    out.field("pfn", Value::Hex(frame.pfn.0), &format!("    PFN {:08X} at address ", frame.pfn.0));
    out.styled_field("address", Value::Hex(address.0), Style::Address, &show(address));
    out.end_line();

    let wide = |value: u64| format!("{value:08X}");
    out.field("flink", Value::Hex(frame.flink), &format!("    flink       {}", wide(frame.flink)));
    // Frames on lists have a link where others count.
    match frame.state {
        Some(State::Active | State::Transition) => {
            out.field(
                "share_count",
                Value::UInt(frame.share),
                &format!("  blink / share count {}", wide(frame.share)),
            );
        }
        _ => out.field(
            "blink",
            Value::Hex(frame.blink),
            &format!("  blink / share count {}", wide(frame.blink)),
        ),
    }
    out.text("  pteaddress ");
    out.data("pte", Value::Hex(frame.pte.0));
    out.link(&show(frame.pte), &format!("dp {:x} L1", frame.pte.0));
    out.end_line();

    out.field(
        "references",
        Value::UInt(frame.references),
        &format!("    reference count {:04X}", frame.references),
    );
    if let Some(used) = frame.used_entries {
        out.field("used_entries", Value::UInt(used), &format!("    used entry count  {used:04X}"));
    }
    if let Some(cache) = frame.cache {
        let name = match cache {
            0 => "NonCached",
            1 => "Cached",
            2 => "WriteComb",
            _ => "NotMapped",
        };
        out.field("cache", Value::Text(name), &format!("      {name:<9}"));
    }
    if let Some(color) = frame.color {
        out.field("color", Value::UInt(color), &format!(" color {color}"));
    }
    if let Some(priority) = frame.priority {
        out.field("priority", Value::UInt(priority), &format!("   Priority {priority}"));
    }
    out.end_line();

    out.field("original", Value::Hex(frame.original), &format!("    restore pte {:016X}", frame.original));
    out.text("  containing page ");
    out.data("containing", Value::Hex(frame.containing.0));
    out.link(&format!("{:06X}", frame.containing.0), &format!("!pfn {}", frame.containing));
    let state = frame.state.map_or("Unknown", State::name);
    out.field("state", Value::Text(state), &format!("  {state:<16}"));
    let letters = [
        ("modified", frame.modified, 'M'),
        ("prototype", frame.prototype, 'P'),
        ("reading", frame.reading, 'R'),
        ("writing", frame.writing, 'W'),
        ("page_error", frame.page_error, 'E'),
    ];
    for (key, set, letter) in letters {
        let shown = if set { letter.to_string() } else { String::new() };
        out.field(key, Value::Bool(set), &shown);
    }
    out.end_line();
    section(session, frame);
}

/// The control area of a frame of a file.
fn section(session: &Session<'_>, frame: &Frame) {
    if !frame.prototype {
        return;
    }
    let Ok(sections) = Sections::new(session) else { return };
    let Some(subsection) = sections.subsection_of(frame.original) else { return };
    let out = session.out();
    let shown = session.target().show(subsection);
    out.field("subsection", Value::Hex(subsection.0), &format!("    subsection  {shown}"));
    match sections.area_of(subsection) {
        Ok(area) => {
            out.data("control_area", Value::Hex(area.0));
            out.text("  control area ");
            out.link(&session.target().show(area), &format!("!ca {:x}", area.0));
            let name = sections.area(area).and_then(|area| sections.file_name(&area));
            if let Ok(Some(name)) = name {
                out.field("path", Value::Text(&name), &format!("  {name}"));
            }
        }
        Err(error) => out.text(&format!("  {error}")),
    }
    out.end_line();
}
