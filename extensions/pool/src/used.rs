//! `!poolused`: arguments and output.

use crate::tags;
use core::cmp::Reverse;
use kd_sdk::nt::pool::{self, Pattern, Tracked, Use};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

const VERBOSE: u64 = 1;
const BY_NONPAGED: u64 = 2;
const BY_PAGED: u64 = 4;
const SESSION: u64 = 8;

/// Runs the command.
pub fn poolused(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let flags = args.word().map_or(Ok(0), |word| session.evaluate(word))?;
    let pattern = args.word().map(Pattern::parse).transpose()?;
    args.finish()?;
    if flags & !0xf != 0 {
        return Err(Error::Usage(format!("flags {flags:#x}: only bits 1, 2, 4 and 8 have a meaning")));
    }
    if flags & BY_NONPAGED != 0 && flags & BY_PAGED != 0 {
        return Err(Error::Usage("sorted by nonpaged (2) or by paged (4), not both".to_owned()));
    }
    let (mut rows, missing) = pool::trackers(session, flags & SESSION != 0)?;
    if rows.is_empty() {
        return Err(missing.into_iter().next().unwrap_or(Error::NotFound("no tag is counted".to_owned())));
    }
    rows.retain(|row| pattern.is_none_or(|pattern| pattern.matches(row.tag)));
    // Tags that differ in the mark of protected blocks only are the same to people, and stand together.
    rows.sort_by_key(|row| (row.tag.to_string(), row.tag));
    let (sort, shown) = match flags & (BY_NONPAGED | BY_PAGED) {
        BY_NONPAGED => ("nonpaged", "NonPaged Pool Consumed"),
        BY_PAGED => ("paged", "Paged Pool Consumed"),
        _ => ("tag", "Tag"),
    };
    match sort {
        "nonpaged" => rows.sort_by_key(|row| Reverse(row.nonpaged.bytes)),
        "paged" => rows.sort_by_key(|row| Reverse(row.paged.bytes)),
        _ => {}
    }
    let out = session.out();
    out.field("sort", Value::Text(sort), &format!("   Sorting by {shown}"));
    out.end_line();
    out.end_line();
    header(&out, flags);
    out.list("tags", |out| -> Result<()> {
        for row in &rows {
            session.check_interrupt()?;
            out.record("", |out| show(out, row, flags));
        }
        Ok(())
    })?;
    total(&out, &rows, flags);
    for error in missing {
        out.warning(&format!("a part of the tables is missing: {error}"));
    }
    Ok(())
}

fn header(out: &Out<'_>, flags: u64) {
    let (group, single) = match flags & VERBOSE {
        0 => (format!("{:>8} {:>14}", "Allocs", "Used"), 23),
        _ => (format!("{:>10} {:>10} {:>8} {:>14}", "Allocs", "Frees", "Diff", "Used"), 45),
    };
    out.styled(Style::Heading, &format!("      {:^single$} {:^single$}", "NonPaged", "Paged"));
    out.end_line();
    out.styled(Style::Heading, &format!(" Tag  {group} {group}"));
    out.end_line();
}

/// Names of the fields of a pool's counters.
type Keys = [&'static str; 4];
const NONPAGED: Keys = ["nonpaged_allocs", "nonpaged_frees", "nonpaged_outstanding", "nonpaged_bytes"];
const PAGED: Keys = ["paged_allocs", "paged_frees", "paged_outstanding", "paged_bytes"];

fn numbers(out: &Out<'_>, keys: Keys, counted: &Use, outstanding: u64, flags: u64) {
    let verbose = flags & VERBOSE != 0;
    let [made, freed, difference, bytes] = keys;
    let only_verbose = |text: String| if verbose { text } else { String::new() };
    out.field(made, Value::UInt(counted.allocations), &only_verbose(format!(" {:>10}", counted.allocations)));
    out.field(freed, Value::UInt(counted.frees), &only_verbose(format!(" {:>10}", counted.frees)));
    out.field(difference, Value::UInt(outstanding), &format!(" {outstanding:>8}"));
    out.field(bytes, Value::UInt(counted.bytes), &format!(" {:>14}", counted.bytes));
}

fn show(out: &Out<'_>, row: &Tracked, flags: u64) {
    let tag = row.tag.to_string();
    out.data("tag", Value::Text(&tag));
    out.text(" ");
    // Where most of it is.
    let kind = if row.paged.bytes > row.nonpaged.bytes { 1 } else { 0 };
    let kind = if flags & SESSION != 0 { 4 } else { kind };
    out.link(&tag, &format!("!poolfind {:#x} {kind}", row.tag.0));
    numbers(out, NONPAGED, &row.nonpaged, row.nonpaged.outstanding(), flags);
    numbers(out, PAGED, &row.paged, row.paged.outstanding(), flags);
    match tags::known(row.tag) {
        Some(known) => {
            out.field("owner", Value::Text(known.what), &format!("  {}", known.what));
            out.field("binary", Value::Text(known.binary), &format!(", Binary: {}", known.binary));
        }
        None => out.field("owner", Value::Null, &format!("  UNKNOWN pooltag '{tag}'")),
    }
    out.end_line();
}

fn total(out: &Out<'_>, rows: &[Tracked], flags: u64) {
    let sum = |of: fn(&Tracked) -> &Use| {
        rows.iter().map(of).fold((Use::default(), 0u64), |(sum, outstanding), one| {
            let sum = Use {
                allocations: sum.allocations.wrapping_add(one.allocations),
                frees: sum.frees.wrapping_add(one.frees),
                bytes: sum.bytes.wrapping_add(one.bytes),
            };
            (sum, outstanding.wrapping_add(one.outstanding()))
        })
    };
    let ((nonpaged, used), (paged, paged_used)) = (sum(|row| &row.nonpaged), sum(|row| &row.paged));
    out.record("total", |out| {
        out.styled(Style::Emphasis, "TOTAL");
        numbers(out, NONPAGED, &nonpaged, used, flags);
        numbers(out, PAGED, &paged, paged_used, flags);
        out.end_line();
    });
}
