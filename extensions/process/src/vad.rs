//! `!vad`: the ranges of a process's user address space.

use crate::page::{Page, is_current, why};
use crate::select;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::process::{self, Process};
use kd_sdk::nt::vad::{self, Kind, Vad, protection_name};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// What all ranges make together.
#[derive(Default)]
struct Totals {
    count: u64,
    levels: u64,
    deepest: u64,
    private: u64,
    shared: u64,
}

/// `!vad [ROOT|PROCESS|ADDRESS [0|1]]`.
pub fn vad(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let mut args = Args::new(args);
    let (word, flag) = (args.word(), args.word());
    args.finish()?;
    page.kernel.structure("_MMVAD")?;
    let single = page.flags(flag, 0)? & 1 != 0;
    let value = if is_current(word) { 0 } else { page.number(word.unwrap_or_default())? };
    let current = || Process::read(&page.kernel, process::current(&page.kernel)?);
    if !select::is_address(&page, value) && value != 0 {
        // An address of the program: the range that holds it.
        return holding(&page, &current()?, value);
    }
    if single && value != 0 {
        return detail(&page, &vad::read(&page.kernel, page.kernel.address(value))?);
    }
    let process =
        if value == 0 { current() } else { Process::read(&page.kernel, page.kernel.address(value)) };
    let root = match process {
        Ok(process) => vad::root(&process)?,
        Err(Error::NotFound(_)) if value != 0 => page.kernel.address(value),
        Err(error) => return Err(error),
    };
    all(&page, root)
}

fn all(page: &Page<'_>, root: Va) -> Result<()> {
    let out = page.out;
    let width = 2 * page.kernel.pointer_size() as usize;
    out.styled(
        Style::Heading,
        &format!("{:width$}  Level {:>12} {:>12} {:>8}", "VAD", "Start", "End", "Commit"),
    );
    out.end_line();
    let mut totals = Totals::default();
    let walked = out.list("vads", |_| {
        vad::each(&page.kernel, root, &mut |vad| {
            totals.count += 1;
            totals.levels += vad.level as u64;
            totals.deepest = totals.deepest.max(vad.level as u64);
            *if vad.kind == Kind::Private { &mut totals.private } else { &mut totals.shared } += vad.commit;
            row(page, &vad);
            Ok(())
        })
    });
    out.data("complete", Value::Bool(walked.is_ok()));
    if let Err(error) = walked {
        page.refuse(error, "the tree is not followed further")?;
        if totals.count == 0 {
            return Ok(());
        }
    }
    out.end_line();
    let average = totals.levels.checked_div(totals.count).unwrap_or(0);
    out.record("totals", |_| {
        out.field("vads", Value::UInt(totals.count), &format!("Total VADs: {}", totals.count));
        out.field("average_level", Value::UInt(average), &format!(", average level: {average}"));
        out.field(
            "maximum_depth",
            Value::UInt(totals.deepest),
            &format!(", maximum depth: {}", totals.deepest),
        );
        out.end_line();
        for (key, label, pages) in [
            ("private_commit", "Total private commit", totals.private),
            ("shared_commit", "Total shared commit", totals.shared),
        ] {
            out.field(
                key,
                Value::UInt(pages),
                &format!("{label}: {pages:#x} pages ({} KB)", pages.saturating_mul(4)),
            );
            out.end_line();
        }
    });
    Ok(())
}

fn row(page: &Page<'_>, vad: &Vad) {
    let out = page.out;
    out.record("", |_| {
        page.link("address", vad.at, "!vad {} 1");
        out.field("level", Value::UInt(vad.level as u64), &format!("  {:5}", vad.level));
        out.field("start", Value::Hex(vad.start << 12), &format!(" {:12x}", vad.start));
        out.field("end", Value::Hex(vad.end << 12 | 0xfff), &format!(" {:12x}", vad.end));
        out.field("commit", Value::UInt(vad.commit), &format!(" {:8}", vad.commit));
        out.field("kind", Value::Text(key(vad.kind)), &format!(" {:12}", vad.kind.name()));
        let protection = protection_name(vad.protection);
        out.field("protection", Value::Text(&protection), &format!(" {protection:18}"));
        file(page, vad, " ");
        out.end_line();
    });
}

/// The kind for programs.
fn key(kind: Kind) -> &'static str {
    match kind {
        Kind::Mapped => "mapped",
        Kind::Image => "image",
        Kind::Private => "private",
        Kind::Physical => "physical",
        Kind::Awe => "awe",
        Kind::LargePages => "large_pages",
        Kind::Other(_) => "other",
    }
}

fn file(page: &Page<'_>, vad: &Vad, before: &str) {
    let out = page.out;
    match &vad.file {
        Ok(name) if !name.is_empty() => {
            out.styled_field("file", Value::Text(name), Style::Symbol, &format!("{before}{name}"));
        }
        Ok(_) if matches!(vad.kind, Kind::Mapped | Kind::Image) => {
            out.field("file", Value::Null, &format!("{before}Pagefile section"));
        }
        Ok(_) => out.data("file", Value::Null),
        Err(error) => {
            out.text(before);
            page.absent("file", error);
        }
    }
}

/// The range that holds an address of the program.
fn holding(page: &Page<'_>, process: &Process<'_>, address: u64) -> Result<()> {
    let mut found = None;
    vad::each(&page.kernel, vad::root(process)?, &mut |vad| {
        if (vad.start..=vad.end).contains(&(address >> 12)) {
            found = Some(vad);
        }
        Ok(())
    })?;
    match found {
        Some(vad) => detail(page, &vad),
        None => Err(Error::NotFound(format!("no range of {} holds {address:x}", page.ptr(process.at)))),
    }
}

/// One range in full.
fn detail(page: &Page<'_>, vad: &Vad) -> Result<()> {
    let out = page.out;
    let (start, end) = (vad.start << 12, vad.end << 12 | 0xfff);
    out.field("address", Value::Hex(vad.at.0), &format!("VAD @ {}", page.ptr(vad.at)));
    out.end_line();
    out.field("start", Value::Hex(start), &format!("  Start VPN  {:16x}", vad.start));
    out.field("end", Value::Hex(end), &format!("  End VPN  {:16x}", vad.end));
    out.field(
        "control_area",
        Value::Hex(vad.control_area.0),
        &format!("  Control Area  {}", page.ptr(vad.control_area)),
    );
    out.end_line();
    out.field("commit", Value::UInt(vad.commit), &format!("  Commit Charge  {}", vad.commit));
    out.field("kind", Value::Text(key(vad.kind)), &format!("  {}", vad.kind.name()));
    let protection = protection_name(vad.protection);
    out.field("protection", Value::Text(&protection), &format!("  Protection  {protection}"));
    out.field("mem_commit", Value::Bool(vad.mem_commit), if vad.mem_commit { "  MemCommit" } else { "" });
    out.end_line();
    file(page, vad, "  File  ");
    out.end_line();
    if vad.kind == Kind::Image {
        // What to type when the PEB is paged out.
        let name = match &vad.file {
            Ok(name) => name.rsplit('\\').next().unwrap_or(name).to_owned(),
            Err(error) => why(error),
        };
        let reload = format!(".reload /f {name}={start:x},{:x}", end - start + 1);
        out.field("reload", Value::Text(&reload), &format!("  Reload command: {reload}"));
        out.end_line();
    }
    Ok(())
}
