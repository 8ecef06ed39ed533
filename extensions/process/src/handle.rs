//! `!handle`: handles and the objects that they stand for.

use crate::page::{Page, is_current, why};
use crate::process_block;
use crate::select;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::object::{Object, Objects};
use kd_sdk::nt::process::Process;
use kd_sdk::nt::thread::Thread;
use kd_sdk::nt::{
    self,
    handle::{Entry, Table},
};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

const OBJECTS: u64 = 2;
const FREE: u64 = 4;
const KERNEL: u64 = 0x10;
const IDS: u64 = 0x20;

/// What is wanted of a table.
struct Wanted<'t, 'a> {
    handle: Option<u64>,
    flags: u64,
    kind: Option<&'t str>,
    objects: Result<Objects<'a>>,
}

/// `!handle [HANDLE [FLAGS [PROCESS [TYPE]]]]`.
pub fn handle(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let mut args = Args::new(args);
    let (handle, flags, process, kind) = (args.word(), args.word(), args.word(), args.word());
    args.finish()?;
    page.kernel.structure("_HANDLE_TABLE")?;
    let number = match is_current(handle) {
        true => None,
        false => Some(page.number(handle.unwrap_or_default())?).filter(|&handle| handle != 0),
    };
    let wanted =
        Wanted { handle: number, flags: page.flags(flags, 3)?, kind, objects: Objects::new(session) };
    if wanted.flags & (KERNEL | IDS) != 0 {
        let name = if wanted.flags & KERNEL != 0 { "ObpKernelHandleTable" } else { "PspCidTable" };
        let at = nt::pointer_variable(session, name, None)?;
        let table = Table::read(&page.kernel, at)?;
        return page.out.list("tables", |out| {
            out.record("", |_| {
                page.out.field("name", Value::Text(name), &format!("nt!{name}: "));
                show_table(&page, &table, &wanted)
            })
        });
    }
    let all = process.is_some() && !is_current(process) && page.number(process.unwrap_or_default())? == 0;
    page.out.list("tables", |_| match all {
        true => select::each_process(&page, &mut |process| of_process(&page, &process, &wanted)).map(|_| ()),
        false => of_process(&page, &select::process(&page, process)?, &wanted),
    })
}

fn of_process(page: &Page<'_>, process: &Process<'_>, wanted: &Wanted<'_, '_>) -> Result<()> {
    let out = page.out;
    out.record("", |_| {
        out.record("process", |_| process_block::header(page, process));
        out.end_line();
        match Table::of(&page.kernel, process) {
            Ok(Some(table)) => show_table(page, &table, wanted)?,
            Ok(None) => out.line("This process has no handle table any more."),
            Err(error) => page.refuse(error, "the handle table")?,
        }
        out.end_line();
        Ok(())
    })
}

fn show_table(page: &Page<'_>, table: &Table<'_>, wanted: &Wanted<'_, '_>) -> Result<()> {
    let out = page.out;
    let count = table.count();
    out.field("table", Value::Hex(table.at.0), &format!("Handle table at {} with ", page.ptr(table.at)));
    page.count("count", &count, |count| count.to_string());
    out.line(" entries in use");
    out.end_line();
    let mut shown = 0u64;
    let walked = out.list("handles", |_| match wanted.handle {
        Some(handle) => {
            shown = 1;
            match table.entry(&page.kernel, handle) {
                Ok(entry) if entry.is_free() => {
                    out.line(&format!("{handle:04x}: free handle, Entry address {}", page.ptr(entry.at)));
                    Ok(())
                }
                Ok(entry) => row(page, &entry, wanted).map(|_| ()),
                Err(error) => Err(error),
            }
        }
        None => table.each(
            &page.kernel,
            0,
            &mut |entry| {
                if entry.is_free() {
                    if wanted.flags & FREE != 0 {
                        out.line(&format!(
                            "{:04x}: free handle, Entry address {}",
                            entry.handle,
                            page.ptr(entry.at)
                        ));
                    }
                } else {
                    shown += u64::from(row(page, &entry, wanted)?);
                }
                Ok(true)
            },
            &mut |lost, error| {
                let last = lost.end.saturating_sub(4);
                page.refuse(error, &format!("the handles {:x} to {last:x} are left out", lost.start))
            },
        ),
    });
    match walked {
        Err(error @ (Error::NoSymbols(_) | Error::Interrupted)) => return Err(error),
        Err(error) if wanted.handle.is_some() => return Err(error),
        Err(error) => page.refuse(error, "the handle table is not followed further")?,
        Ok(()) => {}
    }
    if let (None, Some(kind)) = (wanted.handle, wanted.kind) {
        out.field("shown", Value::UInt(shown), &format!("{shown} handles to objects of type {kind}"));
        out.end_line();
    }
    Ok(())
}

/// One handle; false if it is of another type than wanted.
fn row(page: &Page<'_>, entry: &Entry, wanted: &Wanted<'_, '_>) -> Result<bool> {
    page.session().check_interrupt()?;
    // The table of ids names objects, others name their headers.
    let object = wanted.objects.as_ref().map_err(Error::clone).and_then(|objects| match wanted.flags & IDS {
        0 => objects.at_header(entry.object),
        _ => objects.at(entry.object),
    });
    if let Some(kind) = wanted.kind
        && !object.as_ref().is_ok_and(|object| &*object.kind_name == kind)
    {
        return Ok(false);
    }
    let out = page.out;
    out.record("", |_| {
        out.field("handle", Value::Hex(entry.handle), &format!("{:04x}: ", entry.handle));
        // Behind the header, which is all that the table tells.
        let behind = match wanted.flags & IDS {
            0 => page.kernel.offset("_OBJECT_HEADER", "Body").unwrap_or(0),
            _ => 0,
        };
        let body = object.as_ref().map_or(entry.object.add(behind), |object| object.body);
        out.text("Object: ");
        let command = match object.as_ref().map(|object| &*object.kind_name) {
            Ok("Process") => "!process {} 1",
            Ok("Thread") => "!thread {}",
            Ok("Token") => "!token {}",
            Ok("Job") => "!job {}",
            Ok("Device") => "!devobj {}",
            Ok("Driver") => "!drvobj {}",
            Ok("File") => "dt nt!_FILE_OBJECT {}",
            _ => "!object {}",
        };
        page.link("object", body, command);
        out.field("access", Value::Hex(entry.access), &format!("  GrantedAccess: {:08x}", entry.access));
        for (key, is, text) in [
            ("protected", entry.protect, " (Protected)"),
            ("inherit", entry.inherit, " (Inherit)"),
            ("audit", entry.audit, " (Audit)"),
        ] {
            out.field(key, Value::Bool(is), if is { text } else { "" });
        }
        out.field("entry", Value::Hex(entry.at.0), &format!(" Entry: {}", page.ptr(entry.at)));
        out.end_line();
        if wanted.flags & OBJECTS != 0 {
            match (&object, &wanted.objects) {
                (Ok(object), Ok(objects)) => describe(page, objects, object),
                (Err(error), _) | (_, Err(error)) => {
                    out.line(&format!("Object: {} {}", page.ptr(entry.object), why(error)))
                }
            }
            out.end_line();
        }
    });
    Ok(true)
}

/// The object as `!object` shows it.
fn describe(page: &Page<'_>, objects: &Objects<'_>, object: &Object) {
    let out = page.out;
    out.field(
        "type_object",
        Value::Hex(object.kind.0),
        &format!("Object: {}  Type: ({}) ", page.ptr(object.body), page.ptr(object.kind)),
    );
    out.styled_field("type", Value::Text(&object.kind_name), Style::Symbol, &object.kind_name);
    out.end_line();
    let version = if page.kernel.offset("_OBJECT_HEADER", "TypeIndex").is_some() { "new" } else { "old" };
    out.field(
        "header",
        Value::Hex(object.header.0),
        &format!("    ObjectHeader: {} ({version} version)", page.ptr(object.header)),
    );
    out.end_line();
    out.field(
        "handle_count",
        Value::Int(object.handle_count),
        &format!("        HandleCount: {}", object.handle_count),
    );
    out.field(
        "pointer_count",
        Value::Int(object.pointer_count),
        &format!("  PointerCount: {}", object.pointer_count),
    );
    out.end_line();
    match objects.name(object) {
        Ok(Some(name)) => {
            out.text(&format!("        Directory Object: {}  Name: ", page.ptr(name.directory)));
            page.name("name", &objects.path(object).map(|path| path.unwrap_or(name.text)));
            out.end_line();
        }
        Ok(None) => {
            if let Some((text, shown)) = known_as(page, object) {
                out.styled_field("name", Value::Text(&text), Style::Symbol, &format!("        {shown}"));
                out.end_line();
            }
        }
        Err(error) => {
            out.text("        Name: ");
            page.absent("name", &error);
            out.end_line();
        }
    }
}

/// What says which one it is where objects of a kind have no names.
fn known_as(page: &Page<'_>, object: &Object) -> Option<(String, String)> {
    let kernel = &page.kernel;
    match &*object.kind_name {
        "File" => {
            let file = kernel.read("_FILE_OBJECT", object.body).ok()?;
            let name = file.unicode("FileName").ok().filter(|name| !name.is_empty())?;
            Some((name.clone(), format!("Name: {name}")))
        }
        "Process" => {
            let process = Process::read(kernel, object.body).ok()?;
            let (name, id) = (process.name().ok()?, process.id().ok()?);
            Some((name.clone(), format!("Image: {name}  Cid: {id:04x}")))
        }
        "Thread" => {
            let thread = Thread::read(kernel, object.body).ok()?;
            let (process, id) = thread.ids().ok()?;
            let owner =
                thread.process().and_then(|at| Process::read(kernel, at)).and_then(|process| process.name());
            let owner = owner.unwrap_or_default();
            Some((format!("{process:x}.{id:x}"), format!("Cid: {process:04x}.{id:04x}  Image: {owner}")))
        }
        _ => None,
    }
}
