//! `!irp`: a request and the drivers it passes through.

use crate::page::{Page, why};
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::io::{self, major_name};
use kd_sdk::nt::irp::{Irp, Location, minor_name};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// Bits of a location's `Control`.
const CONTROL: [(u64, &str); 4] = [(0x40, "Success"), (0x80, "Error"), (0x20, "Cancel"), (1, "pending")];
/// `IRP_BUFFERED_IO`.
const BUFFERED: u64 = 0x10;

/// `!irp ADDRESS [DETAIL]`.
pub fn irp(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let mut args = Args::new(args);
    let Some(word) = args.word() else {
        return Err(Error::Usage(
            "!irp needs the address of an IRP; !thread lists those of a thread".to_owned(),
        ));
    };
    let detail = page.flags(args.word(), 0)?;
    args.finish()?;
    let irp = Irp::read(&page.kernel, page.kernel.address(page.number(word)?))?;
    let (count, current) = (irp.stack_count()?, irp.current_location()?);
    let out = page.out;
    out.data("address", Value::Hex(irp.at.0));
    if current > count {
        out.field("stacks", Value::UInt(count), &format!("Irp is completed with {count} stacks."));
    } else {
        out.field("stacks", Value::UInt(count), &format!("Irp is active with {count} stacks"));
        let at = irp.current().unwrap_or_default();
        out.text(&format!(" {current} is current (= 0x{})", page.ptr(at)));
    }
    out.data("current", Value::UInt(current));
    out.end_line();
    buffers(&page, &irp);
    out.line("     cmd  flg cl Device   File     Completion-Context");
    out.list("locations", |_| {
        let mut missing: Option<(u64, Error)> = None;
        for number in 1..=count {
            session.check_interrupt()?;
            match irp.location(&page.kernel, number) {
                Ok(location) => {
                    left_out(&page, missing.take(), number - 1);
                    show(&page, &location, number == current);
                }
                Err(error) => {
                    missing.get_or_insert((number, error));
                }
            }
        }
        left_out(&page, missing, count);
        Ok::<(), Error>(())
    })?;
    if detail != 0 {
        details(&page, &irp);
    }
    Ok(())
}

/// Locations in a row that cannot be read, in one line.
fn left_out(page: &Page<'_>, missing: Option<(u64, Error)>, last: u64) {
    let Some((first, error)) = missing else { return };
    let which =
        if first == last { format!("location {first}") } else { format!("locations {first} to {last}") };
    page.out.line(&format!(" {which}: {}", why(&error)));
}

fn buffers(page: &Page<'_>, irp: &Irp<'_>) {
    let (out, record) = (page.out, &irp.record);
    let mdl = record.u64("MdlAddress");
    match &mdl {
        Ok(0) => out.field("mdl", Value::Null, " No Mdl:"),
        mdl => {
            out.text(" Mdl=");
            page.hex("mdl", mdl, |mdl| format!("{}:", page.ptr(Va(mdl))));
        }
    }
    let buffered = record.u64("Flags").is_ok_and(|flags| flags & BUFFERED != 0);
    match record.u64("AssociatedIrp.SystemBuffer") {
        Ok(buffer) if buffered && buffer != 0 => {
            out.field(
                "system_buffer",
                Value::Hex(buffer),
                &format!(" System buffer={}:", page.ptr(Va(buffer))),
            );
        }
        _ => out.field("system_buffer", Value::Null, " No System Buffer:"),
    }
    out.text(" Thread ");
    page.link_or("thread", &irp.thread(), "!thread {}");
    out.text(":  Irp stack trace.");
    let pending = record.u64("PendingReturned").is_ok_and(|pending| pending != 0);
    out.field(
        "pending_returned",
        Value::Bool(pending),
        if pending { "  Pending has been returned" } else { "" },
    );
    let cancelled = record.u64("Cancel").is_ok_and(|cancel| cancel != 0);
    out.field("cancelled", Value::Bool(cancelled), if cancelled { "  Cancelled" } else { "" });
    out.end_line();
}

/// `IRP_MJ_READ(3)`.
fn named(name: Option<&str>, code: u64) -> String {
    format!("{}({code:x})", name.unwrap_or("N/A"))
}

fn show(page: &Page<'_>, location: &Location<'_>, current: bool) {
    let (out, record) = (page.out, &location.record);
    out.record("", |_| {
        out.data("number", Value::UInt(location.number));
        out.data("current", Value::Bool(current));
        let code = |path: &str| record.u64(path).unwrap_or(0);
        let (major, minor) = (code("MajorFunction"), code("MinorFunction"));
        let name = u8::try_from(major).ok().and_then(major_name);
        // What no driver has used yet is all zeros.
        let used = record.pointer("DeviceObject").is_ok_and(|device| !device.is_null());
        let major_text = named(name.filter(|_| used || major != 0), major);
        let minor_text = named(minor_name(major, minor).as_deref(), minor);
        let mark = if current { ">" } else { " " };
        let style = if current { Style::Emphasis } else { Style::Normal };
        out.styled(style, &format!("{mark}[{major_text}, {minor_text}]"));
        out.data("major", Value::UInt(major));
        out.data("major_name", name.map_or(Value::Null, Value::Text));
        out.data("minor", Value::UInt(minor));
        out.end_line();
        out.field("flags", Value::Hex(code("Flags")), &format!("           {:2x}", code("Flags")));
        let control = code("Control");
        out.field("control", Value::Hex(control), &format!(" {control:2x} "));
        page.link_or("device", &record.pointer("DeviceObject"), "!devobj {}");
        out.text(" ");
        page.link_or("file", &record.pointer("FileObject"), "dt nt!_FILE_OBJECT {}");
        let routine = record.u64("CompletionRoutine");
        out.text(" ");
        page.hex("completion", &routine, |routine| page.ptr(Va(routine)));
        out.text("-");
        page.hex("context", &record.u64("Context"), |context| page.ptr(Va(context)));
        let words = CONTROL.iter().filter(|(bit, _)| control & bit != 0).map(|(_, word)| *word);
        out.text(&format!(" {}", words.collect::<Vec<_>>().join(" ")));
        out.end_line();
        driver(page, location, routine.unwrap_or(0));
        out.text("                        Args: ");
        out.list("arguments", |_| {
            for index in 1..=4 {
                let value = record.u64(&format!("Parameters.Others.Argument{index}"));
                page.hex("", &value, |value| format!("{value:08x}"));
                out.text(" ");
            }
        });
        out.end_line();
        // Device and file system controls: the third parameter is the code.
        if matches!(major, 0xd..=0xf)
            && let Ok(code @ 1..) = record.u64("Parameters.Others.Argument3")
        {
            let code = code as u32;
            out.field(
                "control_code",
                Value::Hex(code.into()),
                &format!("                        Code: {code:08x} "),
            );
            out.line(&io::control_code(code));
        }
    });
}

/// The driver of the location's device, and the name of the completion routine.
fn driver(page: &Page<'_>, location: &Location<'_>, routine: u64) {
    let out = page.out;
    let Ok(device) = location.record.pointer("DeviceObject").map(|device| device.0) else { return };
    if device == 0 {
        return;
    }
    let name = page
        .kernel
        .read("_DEVICE_OBJECT", Va(device))
        .and_then(|device| page.kernel.read("_DRIVER_OBJECT", device.pointer("DriverObject")?))
        .and_then(|driver| driver.unicode("DriverName"));
    out.text("           ");
    page.name("driver", &name);
    if routine != 0 {
        let symbol = page.symbol(Va(routine)).unwrap_or_else(|| page.ptr(Va(routine)));
        out.styled_field("completion_symbol", Value::Text(&symbol), Style::Symbol, &format!("  {symbol}"));
    }
    out.end_line();
}

/// The packet's own fields.
fn details(page: &Page<'_>, irp: &Irp<'_>) {
    let out = page.out;
    out.end_line();
    for (label, key, path) in [
        ("Flags", "irp_flags", "Flags"),
        ("IoStatus.Status", "status", "IoStatus.Status"),
        ("IoStatus.Information", "information", "IoStatus.Information"),
        ("RequestorMode", "requestor_mode", "RequestorMode"),
        ("CancelIrql", "cancel_irql", "CancelIrql"),
        ("CancelRoutine", "cancel_routine", "CancelRoutine"),
        ("UserIosb", "user_iosb", "UserIosb"),
        ("UserEvent", "user_event", "UserEvent"),
        ("UserBuffer", "user_buffer", "UserBuffer"),
        ("Tail.Overlay.OriginalFileObject", "original_file", "Tail.Overlay.OriginalFileObject"),
    ] {
        out.text(&format!("{label:32}: "));
        page.hex(key, &irp.record.u64(path), |value| format!("{value:08x}"));
        if path == "CancelRoutine"
            && let Ok(routine @ 1..) = irp.record.u64(path)
            && let Some(symbol) = page.symbol(Va(routine))
        {
            out.styled(Style::Symbol, &format!(" {symbol}"));
        }
        out.end_line();
    }
}
