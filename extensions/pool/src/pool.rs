//! `!pool`: arguments and output.

use crate::locate::{self, Located};
use crate::tags;
use kd_sdk::nt::pool::{Block, Place};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

const CONTENTS: u64 = 1;
const ONLY_HIT: u64 = 2;
const NO_TAGS: u64 = 0x8000_0000;

/// Bytes of contents in a line, and lines.
const LINE: usize = 16;
const LINES: usize = 2;

/// Runs the command.
pub fn pool(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let Some(address) = args.word() else {
        return Err(Error::Usage("which address? !pool ADDRESS [FLAGS]".to_owned()));
    };
    let va = Va(session.evaluate(address)?);
    let flags = args.word().map_or(Ok(0), |word| session.evaluate(word))? & 0xffff_ffff;
    args.finish()?;
    if flags & !(CONTENTS | ONLY_HIT | NO_TAGS) != 0 {
        return Err(Error::Usage(format!("flags {flags:#x}: only bits 1, 2 and 0x80000000 have a meaning")));
    }
    let found = locate::locate(session, va)?;
    let out = session.out();
    region(session, va, &found);
    let hit = |block: &Block| va.0.wrapping_sub(block.at.0) < block.size;
    // Slots that nobody has used yet say nothing.
    let unused = |block: &Block| block.place == Place::Slot && !block.allocated && block.tag.0 == 0;
    let shown =
        |block: &&Block| if flags & ONLY_HIT == 0 { hit(block) || !unused(block) } else { hit(block) };
    out.list("blocks", |out| -> Result<()> {
        for block in found.blocks.iter().filter(shown) {
            out.record("", |out| show(session, out, block, hit(block), flags))?;
        }
        Ok(())
    })?;
    let rest = found.blocks.iter().filter(|block| unused(block) && !hit(block)).count();
    if rest != 0 && flags & ONLY_HIT == 0 {
        out.line(&format!(" {rest} more slots have never been used"));
    }
    if !found.blocks.iter().any(hit) && found.corrupt.is_none() {
        out.line(&format!("no block holds {}: it is in what manages the blocks", session.target().show(va)));
    }
    corrupt(session, &found);
    for note in &found.notes {
        out.warning(&format!("not asked: {note}"));
    }
    if let Some(block) = found.blocks.iter().find(|block| hit(block))
        && tags::known(block.tag).is_none()
        && block.tag.0 != 0
        && flags & NO_TAGS == 0
    {
        drivers(session, block)?;
    }
    Ok(())
}

fn region(session: &Session<'_>, va: Va, found: &Located) {
    let out = session.out();
    out.record("region", |out| {
        out.text(&format!("Pool page {} region is ", session.target().show(va)));
        let kind = found.kind.map_or("Unknown", |kind| kind.name());
        out.field("kind", found.kind.map_or(Value::Null, |kind| Value::Text(kind.key())), kind);
        let place = match found.place {
            Place::Page => "",
            Place::Chunk => ", a subsegment of chunks",
            Place::Slot => ", a subsegment of slots",
            Place::Big => ", pages of its own",
            Place::Special => ", the end of a page",
        };
        out.field("place", Value::Text(found.place.key()), place);
        out.data("start", Value::Hex(found.start.0));
        out.data("size", Value::Hex(found.size));
        out.data("heap", found.heap.map_or(Value::Null, |heap| Value::Hex(heap.0)));
        out.end_line();
    });
}

/// The row of a block, without its end: shared with `!poolfind`.
pub fn row(session: &Session<'_>, out: &Out<'_>, block: &Block, hit: bool, tags: bool) {
    let star = if hit { '*' } else { ' ' };
    let address = session.target().show(block.at);
    out.styled_field("address", Value::Hex(block.at.0), Style::Address, &format!("{star}{address}"));
    out.field("size", Value::Hex(block.size), &format!(" size: {:>4x}", block.size));
    out.field(
        "previous_size",
        Value::Hex(block.previous),
        &format!(" previous size: {:>4x}", block.previous),
    );
    let state = if block.allocated { "  (Allocated)" } else { "  (Free)" };
    out.field("allocated", Value::Bool(block.allocated), if tags { state } else { "" });
    let pad = if block.allocated { " " } else { "      " };
    let tag = block.tag.to_string();
    let shown = if tags { format!("{pad}{star}{tag}") } else { String::new() };
    out.styled_field("tag", Value::Text(&tag), Style::Symbol, &shown);
    out.data("place", Value::Text(block.place.key()));
    out.data("hit", Value::Bool(hit));
}

fn show(session: &Session<'_>, out: &Out<'_>, block: &Block, hit: bool, flags: u64) -> Result<()> {
    row(session, out, block, hit, flags & NO_TAGS == 0);
    out.end_line();
    if hit && flags & NO_TAGS == 0 {
        out.text("\t\tPooltag ");
        let tag = block.tag.to_string();
        out.link(&tag, &format!("!poolfind {:#x}", block.tag.0));
        match tags::known(block.tag) {
            Some(known) => {
                out.field("owner", Value::Text(known.what), &format!(" : {}", known.what));
                out.field("binary", Value::Text(known.binary), &format!(", Binary : {}", known.binary));
            }
            None => out.field("owner", Value::Null, " : owner not known"),
        }
        out.end_line();
    }
    if flags & CONTENTS != 0 {
        contents(session, out, block)?;
    }
    Ok(())
}

fn contents(session: &Session<'_>, out: &Out<'_>, block: &Block) -> Result<()> {
    let header = match block.place {
        Place::Big | Place::Special => 0,
        _ => kd_sdk::nt::pool::HeaderLayout::of(session).unit,
    };
    let at = block.at.add(header);
    let mut bytes = vec![0; (block.size.saturating_sub(header) as usize).min(LINE * LINES)];
    let (done, fault) = session.memory().read_some(at, &mut bytes)?;
    for (index, line) in bytes.get(..done).unwrap_or_default().chunks(LINE).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = line
            .iter()
            .map(|&byte| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' })
            .collect();
        let at = at.add((index * LINE) as u64);
        out.line(&format!("    {}  {:<47}  {text}", session.target().show(at), hex.join(" ")));
    }
    if let (Some(error), true) = (fault, done < bytes.len()) {
        out.line(&format!("    {error}"));
    }
    Ok(())
}

fn corrupt(session: &Session<'_>, found: &Located) {
    let Some(corrupt) = &found.corrupt else { return };
    let out = session.out();
    let before = found.blocks.iter().rev().find(|block| block.at < corrupt.at);
    out.end_line();
    out.record("corrupt", |out| {
        let at = session.target().show(corrupt.at);
        out.field("address", Value::Hex(corrupt.at.0), "");
        out.styled_field(
            "what",
            Value::Text(&corrupt.what),
            Style::Bad,
            &format!("***** the pool is corrupt at {at}: {}", corrupt.what),
        );
        out.end_line();
        if let Some(block) = before {
            out.record("before", |out| {
                let (tag, at) = (block.tag.to_string(), session.target().show(block.at));
                out.field("address", Value::Hex(block.at.0), "");
                out.field(
                    "tag",
                    Value::Text(&tag),
                    &format!(
                        "      the block before it, {tag} at {at}, may have been written beyond its end: "
                    ),
                );
                out.link(
                    &format!("db {:x}", corrupt.at.0.saturating_sub(0x40)),
                    &format!("db {:x}", corrupt.at.0.saturating_sub(0x40)),
                );
            });
            out.end_line();
        }
    });
}

/// Drivers that may be the owners of a tag that nobody knows.
fn drivers(session: &Session<'_>, block: &Block) -> Result<()> {
    let found = tags::drivers_with(session, block.tag)?;
    let out = session.out();
    out.list("drivers", |out| {
        found.iter().for_each(|name| out.data("", Value::Text(name)));
        match found.as_slice() {
            [] => out.line("\t\tno loaded driver's image, as far as it is captured, contains the tag"),
            names => out.line(&format!("\t\tdrivers whose images contain the tag: {}", names.join(" "))),
        }
    });
    Ok(())
}
