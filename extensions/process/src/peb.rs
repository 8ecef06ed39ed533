//! `!peb` and `!teb`: the environment blocks of a process and of a thread, in user memory.

use crate::page::{Page, is_current, why};
use crate::user;
use kd_sdk::error::{Error, Result};
use kd_sdk::memory::Memory;
use kd_sdk::nt::kernel::Record;
use kd_sdk::nt::process::{self, Process};
use kd_sdk::nt::thread::{self, Thread};
use kd_sdk::nt::time;
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// How a line shows its value.
#[derive(Clone, Copy)]
enum Look {
    Flag,
    Hex,
    Pointer,
    Text,
}

#[rustfmt::skip]
/// The first lines of `!peb`: label, key, field.
const PEB_LINES: [(&str, &str, &str, Look); 6] = [
    ("InheritedAddressSpace:", "inherited_address_space", "InheritedAddressSpace", Look::Flag),
    ("ReadImageFileExecOptions:", "read_image_file_exec_options", "ReadImageFileExecOptions", Look::Flag),
    ("BeingDebugged:", "being_debugged", "BeingDebugged", Look::Flag),
    ("ImageBaseAddress:", "image_base", "ImageBaseAddress", Look::Pointer),
    ("NtGlobalFlag:", "nt_global_flag", "NtGlobalFlag", Look::Hex),
    ("Ldr:", "loader", "Ldr", Look::Pointer),
];

#[rustfmt::skip]
const PEB_POINTERS: [(&str, &str, &str, Look); 3] = [
    ("SubSystemData:", "subsystem_data", "SubSystemData", Look::Pointer),
    ("ProcessHeap:", "process_heap", "ProcessHeap", Look::Pointer),
    ("ProcessParameters:", "process_parameters", "ProcessParameters", Look::Pointer),
];

#[rustfmt::skip]
const PARAMETER_LINES: [(&str, &str, &str, Look); 6] = [
    ("CurrentDirectory:", "current_directory", "CurrentDirectory.DosPath", Look::Text),
    ("WindowTitle:", "window_title", "WindowTitle", Look::Text),
    ("ImageFile:", "image_file", "ImagePathName", Look::Text),
    ("CommandLine:", "command_line", "CommandLine", Look::Text),
    ("DllPath:", "dll_path", "DllPath", Look::Text),
    ("Environment:", "environment_at", "Environment", Look::Pointer),
];

#[rustfmt::skip]
const TEB_LINES: [(&str, &str, &str, Look); 17] = [
    ("ExceptionList:", "exception_list", "NtTib.ExceptionList", Look::Pointer),
    ("StackBase:", "stack_base", "NtTib.StackBase", Look::Pointer),
    ("StackLimit:", "stack_limit", "NtTib.StackLimit", Look::Pointer),
    ("SubSystemTib:", "subsystem_tib", "NtTib.SubSystemTib", Look::Pointer),
    ("FiberData:", "fiber_data", "NtTib.FiberData", Look::Pointer),
    ("ArbitraryUserPointer:", "arbitrary_user_pointer", "NtTib.ArbitraryUserPointer", Look::Pointer),
    ("Self:", "self", "NtTib.Self", Look::Pointer),
    ("EnvironmentPointer:", "environment_pointer", "EnvironmentPointer", Look::Pointer),
    ("ClientId (process):", "process_id", "ClientId.UniqueProcess", Look::Hex),
    ("ClientId (thread):", "thread_id", "ClientId.UniqueThread", Look::Hex),
    ("RpcHandle:", "rpc_handle", "ActiveRpcHandle", Look::Pointer),
    ("Tls Storage:", "tls_storage", "ThreadLocalStoragePointer", Look::Pointer),
    ("PEB Address:", "peb", "ProcessEnvironmentBlock", Look::Pointer),
    ("LastErrorValue:", "last_error", "LastErrorValue", Look::Hex),
    ("LastStatusValue:", "last_status", "LastStatusValue", Look::Hex),
    ("Count Owned Locks:", "owned_locks", "CountOfOwnedCriticalSections", Look::Hex),
    ("HardErrorMode:", "hard_error_mode", "HardErrorMode", Look::Hex),
];

/// The process whose user memory is looked at, and that memory.
fn user_memory<'a>(page: &Page<'a>, owner: Option<&str>) -> Result<(Process<'a>, Memory<'a>)> {
    let process = match owner {
        Some(word) => crate::select::process(page, Some(word))?,
        None => Process::read(&page.kernel, process::current(&page.kernel)?)?,
    };
    let memory = process.memory(&page.kernel)?;
    Ok((process, memory))
}

/// `[-p PROCESS] [ADDRESS]`.
fn arguments<'t>(args: &'t str, name: &str) -> Result<(Option<&'t str>, Option<&'t str>)> {
    let mut args = Args::new(args);
    let mut owner = None;
    while let Some(option) = args.option() {
        match option {
            "p" => owner = Some(args.word().ok_or_else(|| Error::Usage("-p needs a process".to_owned()))?),
            _ => return Err(Error::Usage(format!("{name} has no option -{option}"))),
        }
    }
    let word = args.word();
    args.finish()?;
    Ok((owner, word.filter(|_| !is_current(word))))
}

/// What an error of user memory means for a person.
fn explain(page: &Page<'_>, error: Error, what: &str) -> Error {
    match error {
        Error::Unreadable { at, why } => {
            let more = match why {
                kd_sdk::error::Absent::NotCaptured => "; kernel and small dumps hold no user memory",
                _ => "",
            };
            Error::NotFound(format!("the {what} at {} cannot be read: {why}{more}", page.ptr(at)))
        }
        other => other,
    }
}

/// `!peb [-p PROCESS] [ADDRESS]`.
pub fn peb(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let (owner, word) = arguments(args, "!peb")?;
    let (process, memory) = user_memory(&page, owner)?;
    let at = match word {
        Some(word) => page.kernel.address(page.number(word)?),
        None => process.peb()?,
    };
    let peb = user::read_peb(&page, memory, at).map_err(|error| explain(&page, error, "PEB"))?;
    let out = page.out;
    out.field("address", Value::Hex(at.0), &format!("PEB at {}", page.ptr(at)));
    out.end_line();
    lines(&page, &peb, &PEB_LINES, 25);
    modules(&page, &peb)?;
    lines(&page, &peb, &PEB_POINTERS, 18);
    let parameters = peb
        .pointer("ProcessParameters")
        .and_then(|at| page.kernel.read_in(memory, "_RTL_USER_PROCESS_PARAMETERS", at));
    match parameters {
        Ok(parameters) => {
            lines(&page, &parameters, &PARAMETER_LINES, 18);
            environment(&page, &parameters)?;
        }
        Err(error) => out.line(&format!("    the process parameters: {}", why(&error))),
    }
    if let Ok(Some(wow64)) = process.wow64_peb() {
        out.field(
            "wow64_peb",
            Value::Hex(wow64.0),
            &format!("Wow64 PEB32 at {:08x} (dt nt!_PEB32)", wow64.0),
        );
        out.end_line();
    }
    Ok(())
}

fn lines(page: &Page<'_>, record: &Record<'_>, table: &[(&str, &str, &str, Look)], width: usize) {
    let out = page.out;
    for (label, key, path, look) in table {
        if !record.has(path) {
            continue;
        }
        out.text(&format!("    {label:width$} "));
        match look {
            Look::Flag => match record.u64(path) {
                Ok(flag) => out.field(key, Value::Bool(flag != 0), if flag != 0 { "Yes" } else { "No" }),
                Err(error) => page.absent(key, &error),
            },
            Look::Hex => page.hex(key, &record.u64(path), |value| format!("{value:x}")),
            Look::Pointer => page.hex(key, &record.u64(path), |value| page.ptr(Va(value))),
            Look::Text => match record.unicode(path) {
                Ok(text) => out.field(key, Value::Text(&text), &format!("'{text}'")),
                Err(error) => page.absent(key, &error),
            },
        }
        out.end_line();
    }
}

fn modules(page: &Page<'_>, peb: &Record<'_>) -> Result<()> {
    let out = page.out;
    let width = 2 * page.kernel.pointer_size() as usize;
    out.styled(Style::Heading, &format!("    {:>width$} {:8} {:24}  Module", "Base", "Stamp", "TimeStamp"));
    out.end_line();
    let walked = out.list("modules", |_| {
        user::each_module(page, peb, &mut |module| {
            out.record("", |_| {
                out.field("base", Value::Hex(module.base), &format!("    {}", page.ptr(Va(module.base))));
                let stamp = module.time_stamp;
                let date = match stamp {
                    0 | 0x8000_0000.. => String::new(),
                    stamp => time::Civil::from_file_time(time::file_time_of_stamp(stamp)).to_string(),
                };
                out.field("time_stamp", Value::Hex(stamp.into()), &format!(" {stamp:08x} {date:24}  "));
                out.styled_field("path", Value::Text(&module.path), Style::Symbol, &module.path);
                out.end_line();
            });
            Ok(())
        })
    });
    match walked {
        Ok(()) => Ok(()),
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(error) => {
            out.line(&format!("    the list of modules: {}", why(&error)));
            Ok(())
        }
    }
}

fn environment(page: &Page<'_>, parameters: &Record<'_>) -> Result<()> {
    let out = page.out;
    match parameters.pointer("Environment").and_then(|at| user::environment(parameters.memory(), at)) {
        Ok(strings) => out.list("environment", |_| {
            for string in &strings {
                out.field("", Value::Text(string), &format!("        {string}"));
                out.end_line();
            }
        }),
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => out.line(&format!("        {}", why(&error))),
    }
    Ok(())
}

/// `!teb [-p PROCESS] [ADDRESS]`.
pub fn teb(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let (owner, word) = arguments(args, "!teb")?;
    let (at, memory) = match word {
        Some(word) => (page.kernel.address(page.number(word)?), user_memory(&page, owner)?.1),
        None => {
            let thread = Thread::read(&page.kernel, thread::current(&page.kernel)?)?;
            let process = Process::read(&page.kernel, thread.process()?)?;
            (thread.record.pointer("Tcb.Teb")?, process.memory(&page.kernel)?)
        }
    };
    if at.is_null() {
        return Err(Error::NotFound("this thread has no TEB: it runs in the kernel only".to_owned()));
    }
    let teb = page.kernel.read_in(memory, "_TEB", at).map_err(|error| explain(&page, error, "TEB"))?;
    page.out.field("address", Value::Hex(at.0), &format!("TEB at {}", page.ptr(at)));
    page.out.end_line();
    lines(&page, &teb, &TEB_LINES, 21);
    Ok(())
}
