//! `!memusage`: arguments and output.

use crate::owners::{Owner, Owners};
use crate::usage::{self, Counted, States, Usage};
use kd_sdk::address::PAGE_SIZE;
use kd_sdk::nt::pfn::{Database, State};
use kd_sdk::nt::section::ControlArea;
use kd_sdk::output::Style;
use kd_sdk::prelude::*;
use std::collections::HashMap;

const KB: u64 = PAGE_SIZE / 1024;

/// Runs the command.
pub fn memusage(session: &Session<'_>, args: &str) -> Result<()> {
    let args = args.trim();
    let flags = if args.is_empty() { 0 } else { session.evaluate(args)? };
    if !matches!(flags, 0 | 1 | 2 | 8) {
        return Err(Error::Usage(format!("flags {flags:#x}: 0, 1, 2 and 8 have a meaning, one at a time")));
    }
    let database = Database::open(session)?;
    let out = session.out();
    out.line(" loading PFN database");
    let mut owners = if flags == 8 { None } else { Some(Owners::new(session, &database)?) };
    let counted = usage::scan(session, &database, owners.as_mut(), matches!(flags, 1 | 2))?;
    if counted.states.total() == 0 && counted.interrupted.is_none() {
        return Err(Error::NotFound(format!(
            "none of the PFN database at {} is captured in this dump: it needs a kernel or a complete dump",
            session.target().show(database.base)
        )));
    }
    out.line(if counted.interrupted.is_some() { "loading (interrupted)" } else { "loading (100% complete)" });
    states(&out, &counted, flags != 8);
    if let Some(mut owners) = owners {
        match flags {
            1 => no_write_summary(session, &mut owners, &counted)?,
            2 => no_write_frames(session, &mut owners, &counted)?,
            _ => table(session, &mut owners, &counted.usage)?,
        }
        out.list("refused", |out| {
            for text in &owners.refused {
                out.styled_field("", Value::Text(text), Style::Bad, &format!("refused: {text}"));
                out.end_line();
            }
        });
    }
    match counted.interrupted {
        Some(done) => {
            out.warning(&format!(
                "interrupted after {done} of {} frames: the numbers are partial",
                database.frames()
            ));
            Err(Error::Interrupted)
        }
        None => Ok(()),
    }
}

fn states(out: &Out<'_>, counted: &Counted, owned: bool) {
    let states = &counted.states;
    let of = |state: State| states.by_state.get(state as usize).copied().unwrap_or(0);
    let row = |out: &Out<'_>, label: &str, key: &str, pages: u64| {
        out.data("state", Value::Text(key));
        out.field("pages", Value::UInt(pages), &format!("{label:>20}: {pages:>8}"));
        out.field("kb", Value::UInt(pages * KB), &format!(" ({:>9} kb)", pages * KB));
        out.end_line();
    };
    let States { temporary, unknown, missing, dangling, .. } = *states;
    out.list("states", |out| {
        for (label, key, pages) in [
            ("Zeroed", "Zeroed", of(State::Zeroed)),
            ("Free", "Free", of(State::Free)),
            ("Standby", "Standby", of(State::Standby)),
            ("Modified", "Modified", of(State::Modified)),
            ("ModifiedNoWrite", "ModifiedNoWrite", of(State::ModifiedNoWrite)),
            ("Active/Valid", "Active", of(State::Active)),
            ("Transition", "Transition", of(State::Transition)),
            ("SLIST/Temp", "Temporary", temporary),
            ("Bad", "Bad", of(State::Bad)),
            ("Unknown", "Unknown", unknown),
        ] {
            out.record("", |out| row(out, label, key, pages));
        }
        if missing != 0 {
            out.record("", |out| row(out, "Not captured", "NotCaptured", missing));
        }
    });
    out.record("total", |out| {
        out.styled(Style::Emphasis, "");
        row(out, "TOTAL", "total", states.total());
    });
    if owned {
        out.end_line();
        out.record("dangling_yes_commit", |out| row(out, "Dangling Yes Commit", "dangling", dangling[0]));
        out.record("dangling_no_commit", |out| row(out, "Dangling No Commit", "dangling", dangling[1]));
    }
    out.data("complete", Value::Bool(counted.interrupted.is_none()));
}

/// What a row shows of its owner.
struct Name {
    kind: &'static str,
    shown: String,
    name: String,
    path: Option<String>,
}

/// Names of control areas, read once each.
#[derive(Default)]
struct Names(HashMap<Va, Name>);

impl Names {
    fn of(&mut self, session: &Session<'_>, owners: &Owners<'_>, owner: Owner) -> Name {
        let plain = |kind, shown: String, name: &str| Name { kind, shown, name: name.to_owned(), path: None };
        match owner {
            Owner::Area(area) => {
                let name = self.0.entry(area).or_insert_with(|| area_name(session, owners, area));
                Name {
                    kind: name.kind,
                    shown: name.shown.clone(),
                    name: name.name.clone(),
                    path: name.path.clone(),
                }
            }
            Owner::PageFileSection => plain("page_file_section", "Page File Section".to_owned(), ""),
            Owner::Process(number) => {
                let name = owners.processes.get(number as usize).map_or("?", |program| &program.name);
                plain("process", format!("Process ( {name} )"), name)
            }
            Owner::Driver(number) => {
                let name = owners.drivers.get(number as usize).map_or("?", String::as_str);
                plain("driver", format!("driver ( {name} )"), name)
            }
            Owner::Pool(kind) => plain("pool", kind.name().to_owned(), kind.key()),
            Owner::Window => plain("awe", "AWE".to_owned(), ""),
            Owner::Dangling => plain("driver_locked", "Driver Locked Pages".to_owned(), ""),
            Owner::Region(region) => {
                let name = owners.region_name(region);
                plain("system", format!("System ( {name} )"), name)
            }
            Owner::System => plain("system", "System".to_owned(), ""),
            Owner::Unknown => plain("unknown", "Unknown".to_owned(), ""),
        }
    }
}

/// As KD names a control area.
fn area_name(session: &Session<'_>, owners: &Owners<'_>, area: Va) -> Name {
    let none = |shown: String| Name { kind: "mapped_file", shown, name: String::new(), path: None };
    let Some(sections) = owners.sections() else { return none("No Name for File".to_owned()) };
    let read: Result<ControlArea> = sections.area(area);
    let read = match read {
        Ok(read) => read,
        Err(error) => return none(format!("No Name for File ({error})")),
    };
    match sections.file_name(&read) {
        Ok(None) => Name { kind: "page_file_section", ..none("Page File Section".to_owned()) },
        Ok(Some(path)) if path.is_empty() => none("No Name for File".to_owned()),
        Ok(Some(path)) => {
            let name = path.rsplit('\\').next().unwrap_or_default().to_owned();
            Name { kind: "mapped_file", shown: format!("mapped_file( {name} )"), name, path: Some(path) }
        }
        Err(error) => {
            let buffer = session.target().show(sections.file_name_buffer(&read));
            let why = match error {
                Error::Unreadable { why, .. } => format!(" ({why})"),
                _ => String::new(),
            };
            none(format!("mapped_file( Can't read file name buffer at {buffer} ){why}"))
        }
    }
}

fn table(session: &Session<'_>, owners: &mut Owners<'_>, usage: &HashMap<Owner, Usage>) -> Result<()> {
    let out = session.out();
    out.end_line();
    out.styled(Style::Heading, "  Usage Summary (in Kb):");
    out.end_line();
    let width = if session.target().pointer_size() == 4 { 8 } else { 17 };
    let header = format!("{:width$}  Valid Standby  Dirty Shared Locked PageTables  name", "Control");
    out.styled(Style::Heading, &header);
    out.end_line();
    let mut rows: Vec<(&Owner, &Usage)> = usage.iter().collect();
    rows.sort_by_key(|(owner, usage)| (core::cmp::Reverse(usage.sum()), **owner));
    let mut names = Names::default();
    out.list("usage", |out| -> Result<()> {
        for (owner, usage) in rows {
            session.check_interrupt()?;
            let name = names.of(session, owners, *owner);
            out.record("", |out| row(session, out, owners, *owner, usage, &name, width));
        }
        Ok(())
    })
}

fn row(
    session: &Session<'_>,
    out: &Out<'_>,
    owners: &Owners<'_>,
    owner: Owner,
    usage: &Usage,
    name: &Name,
    width: usize,
) {
    match owner {
        Owner::Area(area) => {
            out.data("control_area", Value::Hex(area.0));
            out.link(&session.target().show(area), &format!("!ca {:x}", area.0));
        }
        _ => out.text(&"-".repeat(8)),
    }
    let pad = if matches!(owner, Owner::Area(_)) { 0 } else { width - 8 };
    out.text(&" ".repeat(pad));
    let is_area = matches!(owner, Owner::Area(_) | Owner::PageFileSection);
    let table = usage.page_tables;
    for (key, pages, width, shown) in [
        ("valid_kb", usage.valid, 7, true),
        ("standby_kb", usage.standby, 8, true),
        ("dirty_kb", usage.dirty, 7, true),
        ("shared_kb", usage.shared, 7, is_area),
        ("locked_kb", usage.locked, 7, is_area || usage.locked != 0),
        ("page_tables_kb", table, 11, matches!(owner, Owner::Process(_)) || table != 0),
    ] {
        let text = if shown { (pages * KB).to_string() } else { "-----".to_owned() };
        out.field(key, Value::UInt(pages * KB), &format!("{text:>width$}"));
    }
    out.data("kind", Value::Text(name.kind));
    out.data("name", Value::Text(&name.name));
    if let Some(path) = &name.path {
        out.data("path", Value::Text(path));
    }
    out.text("  ");
    match owner {
        Owner::Process(number) => {
            let program = owners.processes.get(number as usize);
            if let Some(program) = program {
                out.data("process", Value::Hex(program.process.0));
                out.data("pid", Value::Hex(program.id));
                out.link(&name.shown, &format!("!process {:x} 1", program.process.0));
            }
        }
        _ => out.styled(Style::Symbol, &name.shown),
    }
    out.end_line();
}

/// Flag 1: which files hold how much back.
fn no_write_summary(session: &Session<'_>, owners: &mut Owners<'_>, counted: &Counted) -> Result<()> {
    let out = session.out();
    out.end_line();
    if counted.usage.is_empty() {
        out.line("  No frame is modified and not to be written.");
        return Ok(());
    }
    out.line("  Modified pages that file systems do not let be written yet, by file:");
    table(session, owners, &counted.usage)
}

/// Flag 2: the frames.
fn no_write_frames(session: &Session<'_>, owners: &mut Owners<'_>, counted: &Counted) -> Result<()> {
    let out = session.out();
    out.end_line();
    if counted.held.is_empty() {
        out.line("  No frame is modified and not to be written.");
        return Ok(());
    }
    let width = if session.target().pointer_size() == 4 { 8 } else { 17 };
    out.styled(Style::Heading, &format!("{:>10}  {:width$}  {:width$}  name", "Pfn", "Pte", "Control"));
    out.end_line();
    let mut names = Names::default();
    out.list("no_write", |out| -> Result<()> {
        for held in &counted.held {
            session.check_interrupt()?;
            let name = names.of(session, owners, held.owner);
            out.record("", |out| {
                out.data("pfn", Value::Hex(held.pfn.0));
                out.text(&" ".repeat(10usize.saturating_sub(format!("{}", held.pfn).len())));
                out.link(&held.pfn.to_string(), &format!("!pfn {}", held.pfn));
                out.field("pte", Value::Hex(held.pte.0), &format!("  {}  ", session.target().show(held.pte)));
                match held.owner {
                    Owner::Area(area) => {
                        out.data("control_area", Value::Hex(area.0));
                        out.link(&session.target().show(area), &format!("!ca {:x}", area.0));
                    }
                    _ => out.text(&format!("{:width$}", "-")),
                }
                if let Some(path) = &name.path {
                    out.data("path", Value::Text(path));
                }
                out.text(&format!("  {}", name.shown));
                out.end_line();
            });
        }
        Ok(())
    })
}
