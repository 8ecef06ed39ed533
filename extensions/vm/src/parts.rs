//! The blocks that flags ask for: sessions, writes to page files, kernel addresses, threads.

use crate::command::pages;
use kd_sdk::nt::memory::{self, Charge};
use kd_sdk::nt::process::SESSION_ID;
use kd_sdk::nt::{self, list, time, va_space};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;
use kd_sdk::stacks::Context;
use kd_sdk::types::kind;

/// The most threads that are looked at.
const MOST_THREADS: usize = 1 << 20;
/// Frames of a stack that are shown.
const MOST_FRAMES: u32 = 32;
/// The most entries of an array that a field holds.
const MOST_ENTRIES: u32 = 1024;

/// Functions on the stacks of threads that serve the memory manager, and what such a thread does.
static SERVANTS: &[(&str, &str)] = &[
    ("MiModifiedPageWriter", "writes modified pages to page files"),
    ("MiMappedPageWriter", "writes modified pages to mapped files"),
    ("MiDereferenceSegmentThread", "dereferences segments and extends page files"),
    ("MiZeroPageThread", "zeroes pages"),
    ("MiZeroLargePageThread", "zeroes large pages"),
    ("MmZeroPageThread", "zeroes pages"),
    ("MiStoreEvictThread", "evicts pages from the store"),
    ("MiWorkingSetManager", "trims working sets"),
    ("MmWorkingSetManager", "trims working sets"),
    ("KeBalanceSetManager", "trims working sets and swaps stacks"),
    ("KeSwapProcessOrStack", "swaps processes and stacks"),
    ("MiRebuildLargePagesThread", "builds large pages"),
    ("SmKmStoreHelperWorker", "serves the memory store"),
];

/// Flag 4: what each session has.
pub fn sessions(session: &Session<'_>) -> Result<()> {
    let out = session.out();
    out.end_line();
    out.styled(Style::Heading, "\tTerminal Server Memory Usage By Session:");
    out.end_line();
    let (charges, _) = memory::charges(session)?;
    let mut spaces: Vec<Va> =
        charges.iter().map(|charge| charge.session).filter(|va| !va.is_null()).collect();
    spaces.sort_unstable();
    spaces.dedup();
    if spaces.is_empty() {
        out.line("\tno process belongs to a session");
    }
    let of = session.types().find("nt!_MM_SESSION_SPACE");
    out.list("sessions", |out| {
        for space in spaces {
            let count = charges.iter().filter(|charge| charge.session == space).count();
            out.record("", |out| match &of {
                Ok(of) => one_session(session, out, of, space, count),
                // Since 11 24H2 the public symbols tell no more of it.
                Err(_) => {
                    let id = session.memory().u32(space.add(SESSION_ID)).map(u64::from).ok();
                    heading(session, out, space, id, count);
                }
            });
        }
    });
    Ok(())
}

fn heading(session: &Session<'_>, out: &Out<'_>, space: Va, id: Option<u64>, count: usize) {
    out.data("address", Value::Hex(space.0));
    out.field("session", id.map_or(Value::Null, Value::UInt), "");
    let shown = id.map_or("?".to_owned(), |id| id.to_string());
    out.line(&format!("\tSession ID {shown} @ {}:", session.target().show(space)));
    out.field("processes", Value::UInt(count as u64), &format!("\t   Processes: {count}"));
    out.end_line();
}

fn one_session(session: &Session<'_>, out: &Out<'_>, of: &kd_sdk::types::Type<'_>, space: Va, count: usize) {
    let read = match of.at(space).snapshot() {
        Ok(read) => read,
        Err(error) => {
            out.data("address", Value::Hex(space.0));
            return out.line(&format!("\tSession at {}: {error}", session.target().show(space)));
        }
    };
    let number = |path: &str| read.get(path).ok().flatten();
    heading(session, out, space, number("SessionId"), count);
    for (key, label, paths) in [
        ("paged_pool", "Paged Pool Usage:", &["PagedPoolInfo.AllocatedPagedPool", "AllocatedPagedPool"][..]),
        ("paged_pool_commit", "PagedPool Commit:", &["PagedPoolInfo.PagedPoolCommit"]),
        ("nonpaged", "NonPaged Usage:", &["NonPagablePages", "NonPageablePages"]),
        ("commit", "Commit Usage:", &["CommittedPages"]),
    ] {
        if let Some(value) = paths.iter().find_map(|path| number(path)) {
            pages(out, key, label, value, false);
        }
    }
}

/// Flag 8: the ring of the last writes to page files.
pub fn page_file_writes(session: &Session<'_>) -> Result<()> {
    let out = session.out();
    out.end_line();
    out.styled(Style::Heading, "\tPage File Write Log:");
    out.end_line();
    let of = match memory::kernel_type(session, "_MI_PAGEFILE_TRACES") {
        Ok(of) => of,
        Err(error) => {
            out.line(&format!("\tthis kernel keeps no log: {error}"));
            return Ok(());
        }
    };
    let (ring, count, newest) = match write_log(session, of.size()) {
        Ok(found) => found,
        Err(error) => {
            out.line(&format!("\tno log: {error}"));
            return Ok(());
        }
    };
    let columns = [
        Column::left("time", "Time", 28),
        Column::right("status", "Status", 8),
        Column::right("priority", "Priority", 8),
        Column::right("available", "Available", 10),
        Column::right("modified", "Modified", 10),
        Column::right("page_file", "For PF", 10),
        Column::right("no_write", "NoWrite", 10),
    ];
    out.indented(8, |out| {
        out.table("page_file_writes", &columns, |table| -> Result<()> {
            for step in 0..count {
                session.check_interrupt()?;
                // Newest first.
                let index = (newest + count - step % count) % count;
                let read = match of.at(ring.add(index * of.size())).snapshot() {
                    Ok(read) => read,
                    Err(error) => {
                        table.out().line(&format!("entry {index}: {error}"));
                        continue;
                    }
                };
                let number = |path: &str| read.get(path).ok().flatten().unwrap_or(0);
                // Windows 11 24H2 has a plain number.
                let time = number("CurrentTime.QuadPart").max(number("CurrentTime"));
                if time == 0 {
                    continue;
                }
                let status = number("Status") as u32;
                let plain = |value: u64| (Value::UInt(value), value.to_string());
                let cells = [
                    (Value::Time(time), time_text(time)),
                    (Value::Hex(status.into()), format!("{status:x}")),
                    plain(number("Priority")),
                    plain(number("AvailablePages")),
                    plain(number("ModifiedPagesTotal")),
                    plain(number("ModifiedPagefilePages")),
                    plain(number("ModifiedNoWritePages")),
                ];
                let cells: Vec<(Value<'_>, &str)> =
                    cells.iter().map(|(value, text)| (*value, text.as_str())).collect();
                table.row(&cells);
            }
            Ok(())
        })
    })
}

/// As the session's time is written, without the distance to Greenwich.
fn time_text(time: u64) -> String {
    time::session_time(time).split(" (").next().unwrap_or_default().to_owned()
}

/// Where the log stands, its entries, and the newest.
fn write_log(session: &Session<'_>, size: u64) -> Result<(Va, u64, u64)> {
    let memory = session.memory();
    if let Ok(ring) = nt::variable(session, "MiPageFileTraces", None) {
        // The array's length is not in public symbols; the index wraps at a power of two.
        let newest = nt::variable(session, "MiPageFileTraceIndex", None).ok();
        let newest = newest.map(|va| memory.u32(va)).transpose()?;
        let count = 32;
        return Ok((ring, count, u64::from(newest.unwrap_or(0)) % count));
    }
    let partition = nt::variable(session, "MiSystemPartition", None)?;
    let of = memory::kernel_type(session, "_MI_PARTITION")?;
    let ring = of.require("Vp.PageFileTraces")?;
    let count = u64::from(ring.count.clamp(1, MOST_ENTRIES)).min(ring.size / size.max(1));
    let newest = of.at(partition).u64("Vp.PageFileTraceIndex")? & 0xffff_ffff;
    Ok((partition.add(ring.offset), count.max(1), newest % count.max(1)))
}

/// Flag 0x20: what the kernel's half of the address space is used for.
pub fn kernel_va(session: &Session<'_>) -> Result<()> {
    let out = session.out();
    out.end_line();
    let narrow = session.target().pointer_size() == 4;
    let unit = if narrow { "page directory entries" } else { "units" };
    out.styled(Style::Heading, &format!("\tSystem VA Usage (in {unit}):"));
    out.end_line();
    let state = nt::variable(session, "MiState", None).ok();
    let of = session.types().find("nt!_MI_SYSTEM_INFORMATION").ok();
    let field = of.as_ref().and_then(|of| of.field("Vs.SystemVaTypeCount"));
    let (counts, entries) = match (state, field, nt::variable(session, "MiSystemVaTypeCount", None).ok()) {
        (Some(state), Some(field), _) => (state.add(field.offset), field.count.clamp(1, 64)),
        (_, _, Some(counts)) => (counts, 16),
        _ => {
            out.line("\tthis kernel does not count it: neither nt!MiState nor nt!MiSystemVaTypeCount (Vista and later) is known");
            return Ok(());
        }
    };
    let step = u64::from(session.target().pointer_size());
    out.list("kernel_va", |out| {
        for index in 0..u64::from(entries) {
            let Ok(count) = session.memory().pointer(counts.add(index * step)) else { break };
            if count.0 == 0 {
                continue;
            }
            let name = va_space::type_name(session, index).unwrap_or_else(|| format!("type {index}"));
            out.record("", |out| {
                out.field("type", Value::Text(&name), &format!("\t{name:<28}"));
                out.field("count", Value::UInt(count.0), &format!(" {:>11}", count.0));
                out.end_line();
            });
        }
    });
    regions(session, state, of.as_ref());
    Ok(())
}

/// Stretches of addresses that are assigned for good.
fn regions(session: &Session<'_>, state: Option<Va>, of: Option<&kd_sdk::types::Type<'_>>) {
    let out = session.out();
    let (Some(state), Some(field)) = (state, of.and_then(|of| of.field("Vs.SystemVaRegions"))) else {
        return;
    };
    let Ok(one) = session.types().find("nt!_MI_SYSTEM_VA_ASSIGNMENT") else { return };
    if field.kind != kind::ARRAY {
        return;
    }
    let names = session.types().find("nt!_MI_ASSIGNED_REGION_TYPES").ok();
    out.end_line();
    out.styled(
        Style::Heading,
        &format!("\t{:<28} {:<17} {:>16}", "System Region", "Base Address", "NumberOfBytes"),
    );
    out.end_line();
    out.list("regions", |out| {
        for index in 0..u64::from(field.count.min(64)) {
            let at = one.at(state.add(field.offset + index * one.size()));
            let (Ok(base), Ok(size)) = (at.pointer("BaseAddress"), at.u64("NumberOfBytes")) else { break };
            if base.is_null() && size == 0 {
                continue;
            }
            let name = names.as_ref().and_then(|of| of.enum_name(index as i64));
            let name = name.map_or(format!("region {index}"), |name| {
                name.trim_start_matches("AssignedRegion").to_owned()
            });
            out.record("", |out| {
                out.field("region", Value::Text(&name), &format!("\t{name:<28}"));
                out.field("base", Value::Hex(base.0), &format!(" {}", session.target().show(base)));
                out.field("size", Value::Hex(size), &format!(" {size:>16x}"));
                out.end_line();
            });
        }
    });
}

/// Flags 2 and 0x10: stacks of threads that serve the memory manager, and of those that own a working set's lock.
pub fn threads(session: &Session<'_>, servants: bool, owners: bool) -> Result<()> {
    let out = session.out();
    let (charges, _) = memory::charges(session)?;
    let mut shown = 0;
    out.list("threads", |out| -> Result<()> {
        if servants {
            out.end_line();
            out.styled(Style::Heading, "\tMemory Management Thread Stacks:");
            out.end_line();
            for charge in charges.iter().filter(|charge| charge.id == 4) {
                each_thread(session, charge, &mut |thread| {
                    let Some(why) = serves(session, thread)? else { return Ok(()) };
                    shown += 1;
                    show(session, out, thread, charge, &why)
                })?;
            }
            if shown == 0 {
                out.line(
                    "\tno thread of the System process has a function of the memory manager on its stack",
                );
            }
        }
        if owners {
            out.end_line();
            out.styled(Style::Heading, "\tWorking Set Owner Thread Stacks:");
            out.end_line();
            shown = 0;
            let of = memory::kernel_type(session, "_ETHREAD")?;
            let locks: Vec<String> = of
                .fields()?
                .into_iter()
                .map(|(name, _)| name)
                .filter(|name| name.starts_with("Owns"))
                .collect();
            let locks: Vec<&String> = locks.iter().filter(|name| name.contains("WorkingSet")).collect();
            if locks.is_empty() {
                out.line("\tthreads of this kernel do not tell which working set they own");
            }
            for charge in charges.iter().filter(|_| !locks.is_empty()) {
                each_thread(session, charge, &mut |thread| {
                    let at = of.at(thread);
                    let held = locks.iter().find(|lock| at.u64(lock.as_str()).is_ok_and(|bit| bit != 0));
                    let Some(held) = held else { return Ok(()) };
                    shown += 1;
                    show(session, out, thread, charge, held)
                })?;
            }
            if shown == 0 && !locks.is_empty() {
                out.line("\tno thread owns the lock of a working set");
            }
        }
        Ok(())
    })
}

/// The threads of a process; a list that goes wild is told and left.
fn each_thread(
    session: &Session<'_>,
    charge: &Charge,
    visit: &mut dyn FnMut(Va) -> Result<()>,
) -> Result<()> {
    let process = memory::kernel_type(session, "_EPROCESS")?;
    let thread = memory::kernel_type(session, "_ETHREAD")?;
    let head = process.at(charge.process).address("ThreadListHead")?;
    for found in
        list::ring(session.memory(), head).of(thread.offset("ThreadListEntry")?).at_most(MOST_THREADS)
    {
        match found {
            Ok(va) => visit(va)?,
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                session.out().warning(&format!("threads of process {:x}: {error}", charge.id));
                break;
            }
        }
    }
    Ok(())
}

/// What a thread does for the memory manager, as its stack tells.
fn serves(session: &Session<'_>, thread: Va) -> Result<Option<String>> {
    let frames = match session.stack(Context::Thread(thread)).frames(MOST_FRAMES) {
        Ok(frames) => frames,
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        // A stack that is not in the dump tells nothing.
        Err(_) => return Ok(None),
    };
    let named = frames.iter().filter(|frame| frame.source.is_certain()).find_map(|frame| {
        let name = frame.site.rsplit('!').next()?;
        let name = name.split('+').next()?;
        SERVANTS.iter().find(|(function, _)| *function == name)
    });
    Ok(named.map(|(function, what)| format!("{function}: {what}")))
}

fn show(session: &Session<'_>, out: &Out<'_>, thread: Va, charge: &Charge, why: &str) -> Result<()> {
    out.record("", |out| {
        out.data("process", Value::Hex(charge.process.0));
        out.data("thread", Value::Hex(thread.0));
        out.text("\tTHREAD ");
        let address = session.target().show(thread);
        out.link(&address, &format!("!thread {:x}", thread.0));
        out.field("why", Value::Text(why), &format!("  {} ({why})", charge.name));
        out.end_line();
        match session.stack(Context::Thread(thread)).show(MOST_FRAMES, 0, 16) {
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                out.line(&format!("\t\t{error}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    })
}
