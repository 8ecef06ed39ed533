//! `!vm`: arguments and output.

use crate::parts;
use crate::summary::{self, Numbers, Row};
use kd_sdk::address::PAGE_SIZE;
use kd_sdk::nt::pagefile::{self, PageFile};
use kd_sdk::nt::{
    self,
    memory::{self, Charge},
};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// Bits of the flags.
const NO_PROCESSES: u64 = 1;
const MANAGER_STACKS: u64 = 2;
const SESSIONS: u64 = 4;
const WRITES: u64 = 8;
const OWNER_STACKS: u64 = 0x10;
const KERNEL_VA: u64 = 0x20;
const KNOWN: u64 = NO_PROCESSES | MANAGER_STACKS | SESSIONS | WRITES | OWNER_STACKS | KERNEL_VA;

/// The most paged pools that old kernels make.
const MOST_PAGED_POOLS: u64 = 64;

/// Runs the command.
pub fn vm(session: &Session<'_>, args: &str) -> Result<()> {
    let args = args.trim();
    let flags = if args.is_empty() { 0 } else { session.evaluate(args)? };
    if flags & !KNOWN != 0 {
        return Err(Error::Usage(format!(
            "flags {flags:#x}: only bits 1, 2, 4, 8, 0x10 and 0x20 have a meaning"
        )));
    }
    let out = session.out();
    out.styled(Style::Heading, "*** Virtual Memory Usage ***");
    out.end_line();
    let mut numbers = Numbers::default();
    rows(session, summary::PHYSICAL, &mut numbers);
    numbers.page_files = page_files(session)?;
    rows(session, summary::ROWS, &mut numbers);
    paged_pools(session);
    rows(session, summary::REST, &mut numbers);
    if numbers.is_empty() {
        return Err(match numbers.absent {
            0 => Error::NoSymbols(format!(
                "no symbols tell where the memory manager's counters are; {}",
                nt::how_to_get_symbols(session)
            )),
            _ => Error::NotFound(
                "none of the memory manager's counters is captured in this dump: kernel and complete dumps hold them"
                    .to_owned(),
            ),
        });
    }
    warnings(session, &numbers);
    if flags & NO_PROCESSES == 0 {
        processes(session)?;
    }
    let manager = flags & MANAGER_STACKS != 0;
    let owners = flags & OWNER_STACKS != 0;
    let blocks: [(bool, &dyn Fn() -> Result<()>); 4] = [
        (flags & SESSIONS != 0, &|| parts::sessions(session)),
        (flags & WRITES != 0, &|| parts::page_file_writes(session)),
        (flags & KERNEL_VA != 0, &|| parts::kernel_va(session)),
        (manager || owners, &|| parts::threads(session, manager, owners)),
    ];
    for (_, show) in blocks.iter().filter(|(wanted, _)| *wanted) {
        // One that the dump does not hold takes nothing from the others.
        match show() {
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => out.line(&format!("\t{error}")),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// `LABEL:   PAGES (   KB Kb)`.
pub fn pages(out: &Out<'_>, key: &str, label: &str, pages: u64, signed: bool) {
    let kb = pages.wrapping_mul(PAGE_SIZE / 1024);
    let (count, size) = if signed {
        (Value::Int(pages as i64), Value::Int(kb as i64))
    } else {
        (Value::UInt(pages), Value::UInt(kb))
    };
    let text = |value: u64| if signed { (value as i64).to_string() } else { value.to_string() };
    out.record(key, |out| {
        out.text(&format!("\t{label:<23} "));
        out.field("pages", count, &format!("{:>11}", text(pages)));
        out.field("kb", size, &format!(" ({:>11} Kb)", text(kb)));
        out.end_line();
    });
}

fn rows(session: &Session<'_>, rows: &'static [Row], numbers: &mut Numbers) {
    let out = session.out();
    let narrow = session.target().pointer_size() == 4;
    for row in rows {
        match row.read(session) {
            Ok(None) => {}
            Ok(Some(value)) => {
                // Kernels let this one fall below zero.
                let signed = row.key == "resident_available_pages";
                let value = if signed && narrow { value as u32 as i32 as u64 } else { value };
                numbers.put(row.key, value);
                if row.is_pages() {
                    pages(&out, row.key, &format!("{}:", row.label), value, signed);
                } else {
                    out.text(&format!("\t{:<23} ", format!("{}:", row.label)));
                    out.field(row.key, Value::UInt(value), &format!("{value:>11}"));
                    out.end_line();
                }
            }
            Err(error) => {
                numbers.absent += 1;
                out.text(&format!("\t{:<23} ", format!("{}:", row.label)));
                out.styled_field(row.key, Value::Null, Style::Dim, &format!("{:>11}  {error}", "-"));
                out.end_line();
            }
        }
    }
}

/// The page files; pages of all and how many of them are free.
fn page_files(session: &Session<'_>) -> Result<Option<(u64, u64)>> {
    let out = session.out();
    let files = match pagefile::page_files(session) {
        Ok(files) => files,
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => {
            out.line(&format!("\tPage File: {error}"));
            return Ok(None);
        }
    };
    if files.is_empty() {
        out.line("\tPage File: none");
    }
    let mut sum = (0u64, 0u64);
    out.list("page_files", |out| {
        for (number, file) in files.iter().enumerate() {
            match file {
                Ok(file) => {
                    sum = (sum.0.saturating_add(file.size), sum.1.saturating_add(file.free));
                    out.record("", |out| page_file(out, file));
                }
                Err(error) => out.line(&format!("\tPage File {number}: {error}")),
            }
        }
    });
    Ok(Some(sum))
}

fn page_file(out: &Out<'_>, file: &PageFile) {
    let kb = |pages: u64| pages.saturating_mul(PAGE_SIZE / 1024);
    out.data("number", Value::UInt(file.number));
    out.data("address", Value::Hex(file.at.0));
    match &file.name {
        Ok(name) => out.field("name", Value::Text(name), &format!("\tPage File: {name}")),
        Err(error) => {
            out.field("name", Value::Null, &format!("\tPage File: No Name for Paging File ({error})"))
        }
    }
    let what = match (file.swap, file.store) {
        (true, _) => "  (swap file of sleeping programs)",
        (_, true) => "  (memory compression store)",
        _ => "",
    };
    out.field("swap", Value::Bool(file.swap), what);
    out.end_line();
    out.field("current_kb", Value::UInt(kb(file.size)), &format!("\t   Current: {:>10} Kb", kb(file.size)));
    out.field("free_kb", Value::UInt(kb(file.free)), &format!("  Free Space: {:>10} Kb", kb(file.free)));
    out.end_line();
    out.field(
        "minimum_kb",
        Value::UInt(kb(file.minimum)),
        &format!("\t   Minimum: {:>10} Kb", kb(file.minimum)),
    );
    out.field(
        "maximum_kb",
        Value::UInt(kb(file.maximum)),
        &format!("  Maximum:    {:>10} Kb", kb(file.maximum)),
    );
    out.data("peak_kb", Value::UInt(kb(file.peak)));
    out.end_line();
}

/// Each paged pool of kernels that have descriptors for them.
fn paged_pools(session: &Session<'_>) {
    let out = session.out();
    let (Ok(array), Ok(of)) =
        (nt::variable(session, "ExpPagedPoolDescriptor", None), session.types().find("nt!_POOL_DESCRIPTOR"))
    else {
        return;
    };
    let count = nt::variable(session, "ExpNumberOfPagedPools", None);
    let count = count.and_then(|va| session.memory().u32(va)).map_or(0, u64::from);
    if count > MOST_PAGED_POOLS {
        out.warning(&format!("nt!ExpNumberOfPagedPools says {count}; {MOST_PAGED_POOLS} are shown"));
    }
    let step = u64::from(session.target().pointer_size());
    out.list("pools", |out| {
        // The first one serves allocations that name no pool.
        for index in 0..=count.min(MOST_PAGED_POOLS) {
            let read = session.memory().pointer(array.add(index * step)).and_then(|at| {
                let descriptor = of.at(at);
                Ok((at, descriptor.u64("TotalPages")?.saturating_add(descriptor.u64("TotalBigPages")?)))
            });
            match read {
                Ok((at, total)) => out.record("", |out| {
                    out.data("index", Value::UInt(index));
                    out.data("address", Value::Hex(at.0));
                    out.data("kind", Value::Text("paged"));
                    pages(out, "usage", &format!("PagedPool {index} Usage:"), total, false);
                }),
                Err(error) => out.line(&format!("\tPagedPool {index} Usage:     {error}")),
            }
        }
    });
}

fn warnings(session: &Session<'_>, numbers: &Numbers) {
    let out = session.out();
    out.list("warnings", |out| {
        for warning in summary::judge(numbers) {
            out.record("", |out| {
                out.data("about", Value::Text(warning.about));
                out.styled_field(
                    "text",
                    Value::Text(&warning.text),
                    Style::Bad,
                    &format!("\t***** {}: see ", warning.text),
                );
                out.link(warning.next, warning.next);
                out.end_line();
            });
        }
    });
}

fn processes(session: &Session<'_>) -> Result<()> {
    let out = session.out();
    out.end_line();
    let (mut charges, problems) = match memory::charges(session) {
        Ok(found) => found,
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => {
            out.line(&format!("\tprocesses: {error}"));
            return Ok(());
        }
    };
    // Largest first; the list's order decides between equals.
    charges.sort_by_key(|charge| core::cmp::Reverse(charge.commit));
    // A kernel counts commitment or does not: none of its processes tells then.
    let known: Vec<u64> = charges.iter().filter_map(|charge| charge.commit).collect();
    if known.is_empty() {
        out.record("total_private", |out| {
            out.text(&format!("\t{:<23} ", "Total Private:"));
            out.field(
                "pages",
                Value::Null,
                &format!("{:>11}  this kernel's types tell no commitment of processes", "-"),
            );
            out.end_line();
        });
    } else {
        let total = known.iter().fold(0u64, |sum, commit| sum.saturating_add(*commit));
        pages(&out, "total_private", "Total Private:", total, false);
    }
    out.list("processes", |out| {
        for charge in &charges {
            out.record("", |out| process(out, charge));
        }
    });
    for problem in problems {
        out.warning(&format!("processes: {problem}"));
    }
    Ok(())
}

fn process(out: &Out<'_>, charge: &Charge) {
    let kb = charge.commit.map(|commit| commit.saturating_mul(PAGE_SIZE / 1024));
    let value = |count: Option<u64>| count.map_or(Value::Null, Value::UInt);
    let text = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    out.data("process", Value::Hex(charge.process.0));
    out.field("pid", Value::Hex(charge.id), "");
    out.text("\t");
    out.link(&format!("{:04x}", charge.id), &format!("!process {:x} 1", charge.process.0));
    out.field("image", Value::Text(&charge.name), &format!(" {:<16}", charge.name));
    out.field("pages", value(charge.commit), &format!(" {:>10}", text(charge.commit)));
    out.field("kb", value(kb), &format!(" ({:>11} Kb)", text(kb)));
    out.data("working_set", value(charge.working_set));
    out.data("private", value(charge.private));
    out.field("exited", Value::Bool(charge.exited), if charge.exited { "  exited" } else { "" });
    out.end_line();
}
