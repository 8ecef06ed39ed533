//! `!poolfind`: arguments and output.

use crate::pool::row;
use crate::search::{self, Met};
use kd_sdk::nt::pool::{Bounds, Kind, Pattern, Tag};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// The most blocks that are shown; the rest is counted.
const MOST_SHOWN: u64 = 1 << 20;

/// Runs the command.
pub fn poolfind(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let Some(tag) = args.word() else {
        return Err(Error::Usage("which tag? !poolfind TAG [TYPE]".to_owned()));
    };
    let pattern = match tag.strip_prefix("0x") {
        Some(number) => match u32::from_str_radix(number, 16) {
            Ok(number) => Pattern::of(Tag(number)),
            Err(_) => return Err(Error::Usage(format!("{tag} is no tag of 32 bits"))),
        },
        None => Pattern::parse(tag)?,
    };
    let kind = match args.word().map_or(Ok(0), |word| session.evaluate(word))? {
        0 => Kind::NonPaged,
        1 => Kind::Paged,
        2 => Kind::Special,
        4 => Kind::Session,
        other => {
            return Err(Error::Usage(format!("type {other:#x}: 0 nonpaged, 1 paged, 2 special, 4 session")));
        }
    };
    args.finish()?;
    let out = session.out();
    out.line(&format!("Searching {} for Tag: {tag}", kind.name()));
    out.end_line();
    let (mut met, mut found, mut bytes) = (Met::default(), 0u64, 0u64);
    let mut last = Va::NULL;
    let result = out.list("blocks", |out| {
        search::blocks(session, kind, &mut met, &mut |block| {
            last = block.at;
            if !pattern.matches(block.tag) {
                return;
            }
            found += 1;
            bytes = bytes.saturating_add(if block.allocated { block.size } else { 0 });
            if found <= MOST_SHOWN {
                out.record("", |out| {
                    row(session, out, block, false, true);
                    out.end_line();
                });
            }
        })
    });
    // Where nothing was read, nothing is said of how much there is.
    if met.pages == 0 && last.is_null() && result.is_ok() {
        let why = match met.refused.is_empty() {
            true => "none of its pages is captured in this dump".to_owned(),
            false => met.refused.join("; "),
        };
        return Err(Error::NotFound(format!("{} could not be searched: {why}", kind.name())));
    }
    summary(session, &met, found, bytes);
    match result {
        Err(Error::Interrupted) => {
            out.line(&format!("...terminating - searched pool to {}", session.target().show(last)));
            Err(Error::Interrupted)
        }
        other => other,
    }
}

fn summary(session: &Session<'_>, met: &Met, found: u64, bytes: u64) {
    let out = session.out();
    let show = |va: Va| session.target().show(va);
    out.end_line();
    out.list("ranges", |out| {
        for range in &met.ranges {
            out.record("", |out| {
                out.data("kind", Value::Text(range.kind.key()));
                out.field(
                    "start",
                    Value::Hex(range.start.0),
                    &format!("searched {} ({}", range.kind.name(), show(range.start)),
                );
                out.field("end", Value::Hex(range.end.0), &format!(" : {})", show(range.end)));
                let told = range.bounds == Bounds::Told;
                let how = if told { "" } else { ", the top-level entries that known allocations lie in" };
                out.field("told", Value::Bool(told), how);
                out.end_line();
            });
        }
    });
    out.field("found", Value::UInt(found), &format!("{found} blocks"));
    out.field("bytes", Value::UInt(bytes), &format!(", {bytes:#x} bytes in use"));
    out.field("pages_read", Value::UInt(met.pages), &format!("; {} pages read", met.pages));
    out.end_line();
    out.data("corrupt_count", Value::UInt(met.corrupt_count));
    out.list("corrupt", |out| {
        for wrong in &met.corrupt {
            out.record("", |out| {
                out.data("address", Value::Hex(wrong.at.0));
                out.text("corrupt: ");
                out.link(&show(wrong.at), &format!("!pool {:x}", wrong.at.0));
                out.styled_field("what", Value::Text(&wrong.what), Style::Bad, &format!(" {}", wrong.what));
                out.end_line();
            });
        }
    });
    if met.corrupt_count > met.corrupt.len() as u64 {
        out.line(&format!("corrupt: {} places in all", met.corrupt_count));
    }
    out.list("refused", |out| {
        for text in &met.refused {
            out.field("", Value::Text(text), &format!("not followed: {text}"));
            out.end_line();
        }
    });
}
