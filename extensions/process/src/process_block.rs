//! One process as `!process` shows it: the header lines, and the detail lines of bit 1.
//!
//! Labels, order and units are KD's. Ours: a line for a process that is ending or has ended, and the 32-bit PEB of a
//! WOW64 process. A value that a build of Windows does not keep has no line.

use crate::page::{Page, why};
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::handle::Table;
use kd_sdk::nt::process::{Process, State};
use kd_sdk::nt::time;
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// Bytes of a page in KB.
const PAGE_KB: u64 = 4;

/// The header lines.
pub fn header(page: &Page<'_>, process: &Process<'_>) {
    let out = page.out;
    out.text("PROCESS ");
    page.link("address", process.at, "!process {} f");
    out.end_line();
    out.text("    SessionId: ");
    match process.session_id(&page.kernel) {
        Ok(Some(id)) => out.field("session", Value::UInt(id), &id.to_string()),
        Ok(None) => out.field("session", Value::Null, "none"),
        Err(error) => page.absent("session", &error),
    }
    out.text("  Cid: ");
    page.hex("id", &process.id(), |id| format!("{id:04x}"));
    out.text("    Peb: ");
    let process_text = page.ptr(process.at);
    match process.peb() {
        Ok(peb) if !peb.is_null() => {
            out.data("peb", Value::Hex(peb.0));
            out.link(&format!("{:08x}", peb.0), &format!(".process /p {process_text}; !peb {:x}", peb.0));
        }
        Ok(_) => out.field("peb", Value::Null, "00000000"),
        Err(error) => page.absent("peb", &error),
    }
    out.text("  ParentCid: ");
    page.hex("parent", &process.parent(), |id| format!("{id:04x}"));
    out.end_line();
    out.text("    DirBase: ");
    page.hex("directory_table_base", &process.directory_table_base(), |root| format!("{root:08x}"));
    out.text("  ObjectTable: ");
    page.link_or("object_table", &process.object_table(), &format!("!handle 0 3 {process_text}"));
    out.text("  HandleCount: ");
    let count = match Table::of(&page.kernel, process) {
        Ok(Some(table)) => table.count(),
        Ok(None) => Ok(0),
        Err(error) => Err(error),
    };
    match count {
        Ok(count) => out.field("handle_count", Value::UInt(count), &format!("{count:3}.")),
        Err(Error::Unreadable { .. }) => out.field("handle_count", Value::Null, "<Data Not Accessible>"),
        Err(error) => page.absent("handle_count", &error),
    }
    out.end_line();
    out.text("    Image: ");
    page.name("image", &process.name());
    out.end_line();
    ending(page, process);
}

/// The line of a process that is not simply alive.
fn ending(page: &Page<'_>, process: &Process<'_>) {
    let out = page.out;
    let state = process.state();
    let name = match state {
        State::Active => "active",
        State::Exiting => "exiting",
        State::Terminated => "terminated",
    };
    out.data("state", Value::Text(name));
    if state == State::Active {
        return;
    }
    let text = if state == State::Exiting { "    Exiting" } else { "    Terminated" };
    out.styled(Style::Emphasis, text);
    if let Ok(status) = process.record.u64("ExitStatus") {
        out.field("exit_status", Value::Hex(status), &format!("  ExitStatus: {status:08x}"));
    }
    let time = process.exit_time();
    if time != 0 {
        out.field("exit_time", Value::Time(time), &format!("  ExitTime: {}", time::session_time(time)));
    }
    if let Ok(threads) = process.record.u64("ActiveThreads") {
        out.field("active_threads", Value::UInt(threads), &format!("  ActiveThreads: {threads}"));
    }
    out.end_line();
}

/// The lines of bit 1.
pub fn details(page: &Page<'_>, process: &Process<'_>) {
    let lines = Lines { page, process };
    lines.memory();
    lines.device_map();
    page.out.text("    Token                             ");
    page.link_or("token", &process.token(), "!token {}");
    page.out.end_line();
    lines.times();
    lines.sizes();
    let job = process.job();
    if job.as_ref().is_ok_and(|job| !job.is_null()) {
        page.out.text("    Job                               ");
        page.link_or("job", &job, "!job {}");
        page.out.end_line();
    }
    if let Ok(Some(peb)) = process.wow64_peb() {
        page.out.field("wow64_peb", Value::Hex(peb.0), &format!("    {:34}{:08x}", "Wow64Peb32", peb.0));
        page.out.end_line();
    }
}

struct Lines<'p, 'a> {
    page: &'p Page<'a>,
    process: &'p Process<'a>,
}

/// The value of a field, unless this build has none.
fn kept(value: Result<u64>) -> Option<Result<u64>> {
    match value {
        Err(Error::NoSymbols(_)) => None,
        other => Some(other),
    }
}

impl Lines<'_, '_> {
    fn value(&self, paths: &[&str]) -> Option<Result<u64>> {
        kept(self.process.record.first(paths))
    }

    /// A labelled line whose value starts at column 38.
    fn line(&self, label: &str, key: &str, value: Option<Result<u64>>, show: impl Fn(u64) -> String) {
        let Some(value) = value else { return };
        self.page.out.text(&format!("    {label:34}"));
        self.page.count(key, &value, show);
        self.page.out.end_line();
    }

    fn memory(&self) {
        let (page, out) = (self.page, self.page.out);
        out.text("    VadRoot ");
        let root = kd_sdk::nt::vad::root(self.process);
        page.link_or("vad_root", &root, "!vad {}");
        let count = ["NumberOfVads", "VadCount", "VadRoot.NumberGenericTableElements"];
        let parts: [(&str, &str, &[&str], bool, &str); 5] = [
            ("vads", "Vads", &count, false, ""),
            ("clone_root", "Clone", &["CloneRoot", "CloneRoot.Root"], true, ""),
            ("private_pages", "Private", &["NumberOfPrivatePages"], false, "."),
            ("modified_pages", "Modified", &["ModifiedPageCount"], false, "."),
            ("locked_pages", "Locked", &["NumberOfLockedPages"], false, "."),
        ];
        for (key, label, paths, hex, dot) in parts {
            let value = match self.value(paths) {
                // A tree of its own in newer builds: its root.
                Some(Err(Error::Other(_))) => self.value(paths.get(1..).unwrap_or_default()),
                other => other,
            };
            let Some(value) = value else { continue };
            out.text(&format!(" {label} "));
            match hex {
                true => page.hex(key, &value, |value| format!("{value:x}{dot}")),
                false => page.count(key, &value, |value| format!("{value}{dot}")),
            }
        }
        out.end_line();
    }

    fn device_map(&self) {
        match self.process.record.fast_reference("DeviceMap") {
            Err(Error::NoSymbols(_)) => {}
            map => {
                self.page.out.text("    DeviceMap ");
                self.page.hex("device_map", &map.map(|map| map.0), |map| self.page.ptr(Va(map)));
                self.page.out.end_line();
            }
        }
    }

    fn times(&self) {
        let (page, clock, record) = (self.page, self.page.clock, &self.process.record);
        let out = page.out;
        let created = record.u64("CreateTime.QuadPart");
        match &created {
            Ok(time) if *time != 0 => out.data("create_time", Value::Time(*time)),
            _ => out.data("create_time", Value::Null),
        }
        out.text(&format!("    {:34}", "ElapsedTime"));
        match created.map(|created| clock.since(created)) {
            Ok(Some(span)) => out.field("elapsed", Value::Duration(span), &time::elapsed(span)),
            Ok(None) => out.field("elapsed", Value::Null, "<Invalid>"),
            Err(error) => page.absent("elapsed", &error),
        }
        out.end_line();
        for (label, key, path) in
            [("UserTime", "user_time", "Pcb.UserTime"), ("KernelTime", "kernel_time", "Pcb.KernelTime")]
        {
            let Some(ticks) = self.value(&[path]) else { continue };
            out.text(&format!("    {label:34}"));
            span(page, key, ticks);
            out.end_line();
        }
    }

    fn sizes(&self) {
        let out = self.page.out;
        let plain = |value: u64| value.to_string();
        let quota = |index: u64| {
            let (new, old) = (format!("ProcessQuotaUsage[{index}]"), format!("QuotaUsage[{index}]"));
            self.value(&[&new, &old])
        };
        self.line("QuotaPoolUsage[PagedPool]", "quota_paged_pool", quota(1), plain);
        self.line("QuotaPoolUsage[NonPagedPool]", "quota_nonpaged_pool", quota(0), plain);
        let set = |field: &str| {
            let (new, old) = (format!("Vm.Instance.{field}"), format!("Vm.{field}"));
            self.value(&[&new, &old])
        };
        let three = [
            ("working_set", set("WorkingSetSize")),
            ("working_set_min", set("MinimumWorkingSetSize")),
            ("working_set_max", set("MaximumWorkingSetSize")),
        ];
        if three.iter().all(|part| part.1.is_some()) {
            let text = |unit: &str, scale: u64| {
                let parts = three.iter().map(|(_, value)| match value {
                    Some(Ok(pages)) => format!("{}{unit}", pages.saturating_mul(scale)),
                    Some(Err(error)) => why(error),
                    None => String::new(),
                });
                parts.collect::<Vec<_>>().join(", ")
            };
            for (key, value) in &three {
                out.data(key, if let Some(Ok(pages)) = value { Value::UInt(*pages) } else { Value::Null });
            }
            let (pages, kilobytes) = (text("", 1), text("KB", PAGE_KB));
            out.line(&format!("    Working Set Sizes (now,min,max)  ({pages}) ({kilobytes})"));
        }
        self.line("PeakWorkingSetSize", "working_set_peak", set("PeakWorkingSetSize"), plain);
        let megabytes = |bytes: u64| format!("{} Mb", bytes >> 20);
        self.line("VirtualSize", "virtual_size", self.value(&["VirtualSize"]), megabytes);
        self.line("PeakVirtualSize", "virtual_size_peak", self.value(&["PeakVirtualSize"]), megabytes);
        self.line("PageFaultCount", "page_faults", set("PageFaultCount"), plain);
        self.line("MemoryPriority", "memory_priority", set("Flags.MemoryPriority"), |value| match value {
            0 => "BACKGROUND".to_owned(),
            2 => "FOREGROUND".to_owned(),
            other => other.to_string(),
        });
        let base = self.process.record.i64("Pcb.BasePriority");
        self.line("BasePriority", "base_priority", kept(base.map(|base| base as u64 & 0xff)), plain);
        self.line("CommitCharge", "commit_charge", self.value(&["CommitCharge"]), plain);
    }
}

/// Ticks as a time, under `key`.
pub fn span(page: &Page<'_>, key: &str, ticks: Result<u64>) {
    match ticks {
        Ok(ticks) => {
            let span = page.clock.span(ticks);
            page.out.field(key, Value::Duration(span), &time::elapsed(span));
        }
        Err(error) => page.absent(key, &error),
    }
}
