//! One thread as `!process`, `!thread` and `!ready` show it: the line with its state, what it waits for, the detail
//! lines, its stack.
//!
//! Labels, order and units are KD's. A value that a build of Windows does not keep has no line.

use crate::page::{Page, why};
use crate::process_block::span;
use crate::trace;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::irp;
use kd_sdk::nt::process::{self, Process};
use kd_sdk::nt::thread::{RUNNING, Thread, WAITING, state_name};
use kd_sdk::nt::time;
use kd_sdk::nt::wait::{self, Kind, WaitObject};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// Wait state and wait objects.
pub const WAITS: u64 = 2;
/// The rest and the stack, together with [`WAITS`].
pub const STACK: u64 = 4;
/// Frames without arguments.
pub const SHORT: u64 = 8;
/// Frames of the program too.
pub const CONTEXT: u64 = 0x10;

/// The lines of one thread as a record; `indent` is 8 below a process.
pub fn show(page: &Page<'_>, thread: &Thread<'_>, flags: u64, indent: usize) -> Result<()> {
    let block = Block { page, thread, indent: " ".repeat(indent) };
    page.out.record("", |_| {
        block.first_line();
        if flags & WAITS == 0 {
            return Ok(());
        }
        block.wait_objects();
        if flags & STACK == 0 {
            return Ok(());
        }
        block.details()?;
        trace::show(page, thread, flags, &block.indent)
    })
}

struct Block<'p, 'a> {
    page: &'p Page<'a>,
    thread: &'p Thread<'a>,
    indent: String,
}

impl Block<'_, '_> {
    fn first_line(&self) {
        let (page, out, thread) = (self.page, self.page.out, self.thread);
        out.text(&format!("{}THREAD ", self.indent));
        page.link("address", thread.at, "!thread {}");
        out.text("  Cid ");
        match thread.ids() {
            Ok((process, id)) => {
                out.field("process_id", Value::Hex(process), &format!("{process:04x}."));
                out.field("id", Value::Hex(id), &format!("{id:04x}"));
            }
            Err(error) => {
                out.data("process_id", Value::Null);
                page.absent("id", &error);
            }
        }
        out.text("  Teb: ");
        page.hex("teb", &thread.record.u64("Tcb.Teb"), |teb| page.ptr(Va(teb)));
        match thread.record.u64("Tcb.Win32Thread") {
            Err(Error::NoSymbols(_)) => {}
            value => {
                out.text(" Win32Thread: ");
                page.hex("win32_thread", &value, |value| page.ptr(Va(value)));
            }
        }
        out.text(" ");
        self.state();
        out.end_line();
    }

    fn state(&self) {
        let (page, out, thread) = (self.page, self.page.out, self.thread);
        let state = match thread.state() {
            Ok(state) => state,
            Err(error) => return page.absent("state", &error),
        };
        let name = state_name(state);
        let running = |verb: &str| match thread.processor() {
            Ok(number) => {
                out.field("state", Value::Text(&name), &format!("{verb} on processor "));
                out.field("processor", Value::UInt(number), &format!("{number:x}"));
            }
            Err(_) => out.field("state", Value::Text(&name), verb),
        };
        match state {
            RUNNING => running("RUNNING"),
            1 => running("READY"),
            3 => running("STANDBY"),
            WAITING => {
                out.field("state", Value::Text(&name), "WAIT: ");
                match thread.wait_reason(&page.kernel) {
                    Ok(reason) => out.field("wait_reason", Value::Text(&reason), &format!("({reason})")),
                    Err(error) => page.absent("wait_reason", &error),
                }
                if let Ok(mode) = thread.record.u64("Tcb.WaitMode") {
                    let mode = if mode == 0 { "KernelMode" } else { "UserMode" };
                    out.field("wait_mode", Value::Text(mode), &format!(" {mode}"));
                }
                if let Some(alertable) = thread.alertable() {
                    let text = if alertable { " Alertable" } else { " Non-Alertable" };
                    out.field("alertable", Value::Bool(alertable), text);
                }
            }
            _ => out.field("state", Value::Text(&name), &name.to_uppercase()),
        }
        if thread.terminated() && state != 4 {
            out.styled_field("terminating", Value::Bool(true), Style::Emphasis, " (terminating)");
        }
    }

    fn wait_objects(&self) {
        let (page, out, thread) = (self.page, self.page.out, self.thread);
        for (label, key, path) in [
            ("SuspendCount", "suspend_count", "Tcb.SuspendCount"),
            ("FreezeCount", "freeze_count", "Tcb.FreezeCount"),
        ] {
            if let Ok(count @ 1..) = thread.record.u64(path) {
                out.field(key, Value::UInt(count), &format!("{}{label} {count}", self.indent));
                out.end_line();
            }
        }
        // Other states keep the blocks of a wait that is over.
        if !matches!(thread.state(), Ok(WAITING | 8 | 9)) {
            return;
        }
        let (objects, stopped) = wait::wait_objects(&page.kernel, thread);
        out.list("wait_objects", |_| objects.iter().for_each(|object| self.wait_object(object)));
        if let Some(error) = stopped {
            out.line(&format!("{}    {}", self.indent, why(&error)));
        }
    }

    fn wait_object(&self, object: &WaitObject) {
        let (page, out) = (self.page, self.page.out);
        out.record("", |_| {
            out.text(&format!("{}    ", self.indent));
            let command = match &object.kind {
                Ok(Kind::Thread) => "!thread {}",
                Ok(Kind::Process) => "!process {} 0",
                _ => "dt nt!_DISPATCHER_HEADER {}",
            };
            page.link("address", object.object, command);
            out.data("wait_block", Value::Hex(object.block.0));
            let kind = match &object.kind {
                Ok(kind) => kind,
                Err(error) => {
                    out.text("  ");
                    return page.absent("type", error);
                }
            };
            // Kernels have had more kinds than are told apart here.
            let told = match kind {
                Kind::Unknown { number } => page.kernel.enum_name("_KOBJECTS", *number),
                _ => None,
            };
            let name = told.as_deref().unwrap_or(kind.name());
            out.field("type", Value::Text(name), &format!("  {name}"));
            match kind {
                Kind::Semaphore { limit } => {
                    out.field("limit", Value::Hex(*limit), &format!(" Limit {limit:#x}"));
                }
                Kind::Mutant { owner } if !owner.is_null() => {
                    out.text(" - owning thread ");
                    page.link("owner", *owner, "!thread {}");
                }
                Kind::Unknown { number } if told.is_none() => {
                    out.field("number", Value::UInt(*number), &format!(" ({number:#x})"))
                }
                _ => {}
            }
            match object.signal {
                Some(signal) => out.data("signal_state", Value::Int(signal)),
                None => out.data("signal_state", Value::Null),
            }
        });
        out.end_line();
    }

    fn label(&self, label: &str) {
        self.page.out.text(&format!("{}{label:26}", self.indent));
    }

    fn details(&self) -> Result<()> {
        self.requests()?;
        self.impersonation();
        self.owners();
        self.wait_time();
        self.counters();
        self.start();
        self.stack_place();
        self.priorities();
        Ok(())
    }

    fn requests(&self) -> Result<()> {
        let (page, out) = (self.page, self.page.out);
        let mut first = true;
        let list = match irp::of_thread(&page.kernel, self.thread) {
            Ok(list) => list,
            Err(Error::NoSymbols(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        out.list("irps", |_| {
            let mut told = false;
            for irp in list {
                if std::mem::take(&mut first) {
                    out.line(&format!("{}IRP List:", self.indent));
                }
                match irp {
                    Ok(irp) => told = !self.request(irp),
                    Err(Error::Interrupted) => return Err(Error::Interrupted),
                    // What cannot be read of a request is told in its line.
                    Err(_) if told => {}
                    Err(error) => out.line(&format!("{}    {}", self.indent, why(&error))),
                }
            }
            Ok(())
        })
    }

    /// One request; false if it cannot be read.
    fn request(&self, at: Va) -> bool {
        let (page, out) = (self.page, self.page.out);
        out.record("", |_| {
            out.text(&format!("{}    ", self.indent));
            page.link("address", at, "!irp {}");
            out.text(": ");
            let irp = page.kernel.read("_IRP", at);
            match &irp {
                Ok(irp) => {
                    out.text("(");
                    page.hex("type", &irp.u64("Type"), |value| format!("{value:04x},"));
                    page.hex("size", &irp.u64("Size"), |value| format!("{value:04x}"));
                    out.text(") Flags: ");
                    page.hex("flags", &irp.u64("Flags"), |value| format!("{value:08x}"));
                    out.text("  Mdl: ");
                    page.hex("mdl", &irp.u64("MdlAddress"), |value| format!("{value:08x}"));
                }
                Err(error) => out.text(&why(error)),
            }
            out.end_line();
            irp.is_ok()
        })
    }

    fn impersonation(&self) {
        let (page, out) = (self.page, self.page.out);
        match self.thread.impersonation() {
            Ok(None) => {
                out.field("impersonation_token", Value::Null, &format!("{}Not impersonating", self.indent))
            }
            Ok(Some(as_whom)) => {
                let level = ["Anonymous", "Identification", "Impersonation", "Delegation"];
                let level = level.get(as_whom.level as usize).copied().unwrap_or("Unknown");
                out.text(&format!("{}Impersonation token:  ", self.indent));
                page.link("impersonation_token", as_whom.token, "!token {}");
                out.field("impersonation_level", Value::Text(level), &format!(" (Level {level})"));
            }
            Err(Error::NoSymbols(_)) => return,
            Err(error) => {
                out.text(&format!("{}Impersonation: ", self.indent));
                page.absent("impersonation_token", &error);
            }
        }
        out.end_line();
    }

    /// Device map, the process that owns the thread, the one that it is attached to.
    fn owners(&self) {
        let (page, out) = (self.page, self.page.out);
        let owner = self.thread.process();
        let process = owner.clone().and_then(|owner| Process::read(&page.kernel, owner));
        if let Ok(map) = process.clone().and_then(|process| process.record.fast_reference("DeviceMap")) {
            self.label("DeviceMap");
            out.field("device_map", Value::Hex(map.0), &page.ptr(map));
            out.end_line();
        }
        self.label("Owning Process");
        page.link_or("process", &owner, "!process {} 0");
        out.text("       Image:         ");
        page.name("process_image", &process.and_then(|process| process.name()));
        out.end_line();
        self.label("Attached Process");
        let attached = self.thread.attached();
        let elsewhere = match (&attached, &owner) {
            (Ok(attached), Ok(owner)) if attached == owner || attached.is_null() => None,
            (Ok(attached), _) => Some(*attached),
            (Err(error), _) => {
                page.absent("attached_process", error);
                return out.end_line();
            }
        };
        match elsewhere {
            None => out.field("attached_process", Value::Null, "N/A            Image:         N/A"),
            Some(attached) => {
                page.link("attached_process", attached, "!process {} 0");
                out.text("       Image:         ");
                let image = Process::read(&page.kernel, attached).and_then(|process| process.name());
                page.name("attached_image", &image);
            }
        }
        out.end_line();
    }

    fn wait_time(&self) {
        let (page, out) = (self.page, self.page.out);
        let start = match self.thread.record.u64("Tcb.WaitTime") {
            Ok(start) => start,
            Err(Error::NoSymbols(_)) => return,
            Err(error) => {
                self.label("Wait Start TickCount");
                page.absent("wait_start", &error);
                return out.end_line();
            }
        };
        self.label("Wait Start TickCount");
        out.field("wait_start", Value::UInt(start), &format!("{start:<15}"));
        match page.clock.ticks_since(start) {
            Some(ticks) => {
                let span = page.clock.span(ticks);
                out.field("ticks", Value::UInt(ticks), &format!("Ticks: {ticks}"));
                let text = if ticks == 0 { String::new() } else { format!(" {}", time::waited(span)) };
                out.field("waited", Value::Duration(span), &text);
            }
            None => out.field("ticks", Value::Null, "Ticks: <unknown>"),
        }
        out.end_line();
    }

    fn counters(&self) {
        let (page, out, record) = (self.page, self.page.out, &self.thread.record);
        match record.u64("Tcb.ContextSwitches") {
            Err(Error::NoSymbols(_)) => {}
            switches => {
                self.label("Context Switch Count");
                page.count("context_switches", &switches, |count| format!("{count:<15}"));
                if let Ok(ideal) = record.u64("Tcb.IdealProcessor") {
                    out.field("ideal_processor", Value::UInt(ideal), &format!("IdealProcessor: {ideal}"));
                }
                if record.u64("Tcb.LargeStack").is_ok_and(|large| large != 0) {
                    out.field("large_stack", Value::Bool(true), "  LargeStack");
                }
                if record.u64("Tcb.EnableStackSwap").is_ok_and(|swap| swap == 0) {
                    out.field("stack_swap", Value::Bool(false), "  NoStackSwap");
                }
                out.end_line();
            }
        }
        for (label, key, path) in
            [("UserTime", "user_time", "Tcb.UserTime"), ("KernelTime", "kernel_time", "Tcb.KernelTime")]
        {
            match record.u64(path) {
                Err(Error::NoSymbols(_)) => {}
                ticks => {
                    self.label(label);
                    span(page, key, ticks);
                    out.end_line();
                }
            }
        }
    }

    fn start(&self) {
        let (page, out, record) = (self.page, self.page.out, &self.thread.record);
        if let Some(name) = self.thread.name() {
            out.field("name", Value::Text(&name), &format!("{}Thread Name {name}", self.indent));
            out.end_line();
        }
        let win32 = record.u64("Win32StartAddress").ok().filter(|&va| va != 0);
        let (label, start) = match win32 {
            Some(start) => ("Win32 Start Address", Ok(start)),
            None => ("Start Address", record.u64("StartAddress")),
        };
        out.text(&format!("{}{label} ", self.indent));
        match start {
            Ok(start) => {
                let symbol = page.symbol(Va(start)).filter(|_| self.names(start));
                let place = page.ptr(Va(start));
                let text =
                    symbol.as_ref().map_or(format!("0x{place}"), |symbol| format!("{symbol} (0x{place})"));
                out.styled_field("start_address", Value::Hex(start), Style::Symbol, &text);
                out.data("start_symbol", symbol.as_deref().map_or(Value::Null, Value::Text));
            }
            Err(error) => page.absent("start_address", &error),
        }
        out.end_line();
    }

    /// Whether names are those of this address: of a program's only in the current process.
    fn names(&self, address: u64) -> bool {
        let kernel = &self.page.kernel;
        self.page.session().target().is_kernel(Va(address))
            || self.thread.process().is_ok_and(|own| process::current(kernel).is_ok_and(|at| at == own))
    }

    fn stack_place(&self) {
        let (page, out, record) = (self.page, self.page.out, &self.thread.record);
        let parts = [
            ("Stack Init ", "stack_init", "Tcb.InitialStack"),
            (" Current ", "stack_current", "Tcb.KernelStack"),
            ("Base ", "stack_base", "Tcb.StackBase"),
            (" Limit ", "stack_limit", "Tcb.StackLimit"),
            (" Call ", "stack_call", "Tcb.CallbackStack"),
        ];
        out.text(&self.indent);
        for (label, key, path) in parts {
            // One line on 32 bits, two on 64.
            if key == "stack_base" {
                if page.kernel.pointer_size() == 4 {
                    out.text(" ");
                } else {
                    out.end_line();
                    out.text(&self.indent);
                }
            }
            match record.u64(path) {
                Err(Error::NoSymbols(_)) if key == "stack_call" => {
                    out.text(&format!("{label}{}", page.ptr(Va::NULL)))
                }
                value => {
                    out.text(label);
                    page.hex(key, &value, |value| page.ptr(Va(value)));
                }
            }
        }
        out.end_line();
    }

    fn priorities(&self) {
        let (page, out, record) = (self.page, self.page.out, &self.thread.record);
        let boosts = record.has("Tcb.UnusualBoost");
        let parts: [(&str, &str, &str, bool); 8] = [
            ("Priority", "priority", "Tcb.Priority", true),
            ("BasePriority", "base_priority", "Tcb.BasePriority", true),
            ("UnusualBoost", "unusual_boost", "Tcb.UnusualBoost", boosts),
            ("ForegroundBoost", "foreground_boost", "Tcb.ForegroundBoost", boosts),
            ("PriorityDecrement", "priority_decrement", "Tcb.PriorityDecrement", !boosts),
            ("IoPriority", "io_priority", "ThreadIoPriority", true),
            ("PagePriority", "page_priority", "ThreadPagePriority", true),
            ("DecrementCount", "decrement_count", "Tcb.DecrementCount", true),
        ];
        out.text(&self.indent);
        let mut parted = "";
        for (label, key, path, wanted) in parts {
            match record.u64(path) {
                Err(Error::NoSymbols(_)) => {}
                _ if !wanted => {}
                value => {
                    out.text(&format!("{parted}{label} "));
                    page.count(key, &value.map(|value| value & 0xff), |value| value.to_string());
                    parted = " ";
                }
            }
        }
        out.end_line();
    }
}
