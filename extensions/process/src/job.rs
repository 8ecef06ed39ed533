//! `!job`: a job object, its limits and its processes.

use crate::page::{Page, is_current};
use crate::process_block;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::job::{Job, limit_names};
use kd_sdk::nt::process::{self, Process};
use kd_sdk::nt::time;
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// `!job [ADDRESS [FLAGS]]`.
const SETTINGS: u64 = 1;
const PROCESSES: u64 = 2;

/// Accounting: label, key, field, whether it is a time.
const ACCOUNTING: [(&str, &str, &str, bool); 8] = [
    ("TotalUserTime", "total_user_time", "TotalUserTime.QuadPart", true),
    ("TotalKernelTime", "total_kernel_time", "TotalKernelTime.QuadPart", true),
    ("ThisPeriodTotalUserTime", "period_user_time", "ThisPeriodTotalUserTime.QuadPart", true),
    ("ThisPeriodTotalKernelTime", "period_kernel_time", "ThisPeriodTotalKernelTime.QuadPart", true),
    ("TotalPageFaultCount", "page_faults", "TotalPageFaultCount", false),
    ("TotalProcesses", "total_processes", "TotalProcesses", false),
    ("ActiveProcesses", "active_processes", "ActiveProcesses", false),
    ("TotalTerminatedProcesses", "terminated_processes", "TotalTerminatedProcesses", false),
];

/// Limits and peaks.
const LIMITS: [(&str, &str, &str); 10] = [
    ("ActiveProcessLimit", "active_process_limit", "ActiveProcessLimit"),
    ("MinimumWorkingSetSize", "working_set_min", "MinimumWorkingSetSize"),
    ("MaximumWorkingSetSize", "working_set_max", "MaximumWorkingSetSize"),
    ("ProcessMemoryLimit", "process_memory_limit", "ProcessMemoryLimit"),
    ("JobMemoryLimit", "job_memory_limit", "JobMemoryLimit"),
    ("JobTotalMemoryLimit", "job_total_memory_limit", "JobTotalMemoryLimit"),
    ("PeakProcessMemoryUsed", "peak_process_memory", "PeakProcessMemoryUsed"),
    ("PeakJobMemoryUsed", "peak_job_memory", "PeakJobMemoryUsed"),
    ("CurrentJobMemoryUsed", "current_job_memory", "CurrentJobMemoryUsed"),
    ("EffectiveFreezeCount", "freeze_count", "EffectiveFreezeCount"),
];

/// Runs the command.
pub fn job(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let mut args = Args::new(args);
    let (word, flags) = (args.word(), args.word());
    args.finish()?;
    let flags = page.flags(flags, SETTINGS | PROCESSES)?;
    page.kernel.structure("_EJOB")?;
    let value = if is_current(word) { 0 } else { page.number(word.unwrap_or_default())? };
    let at = match value {
        0 => process::current(&page.kernel)?,
        value if crate::select::is_address(&page, value) => page.kernel.address(value),
        id => crate::select::by_id(&page, id)?.at,
    };
    // A process stands for the job it is in.
    let at = match Process::read(&page.kernel, at) {
        Ok(process) => match process.job()? {
            job if job.is_null() => {
                page.out.line(&format!("The process {} is in no job.", page.ptr(at)));
                return Ok(());
            }
            job => job,
        },
        Err(Error::NotFound(_)) => at,
        Err(error) => return Err(error),
    };
    let job = Job::read(&page.kernel, at)?;
    page.out.field("address", Value::Hex(at.0), &format!("Job at {}", page.ptr(at)));
    page.out.end_line();
    accounting(&page, &job);
    if flags & SETTINGS != 0 {
        settings(&page, &job);
    }
    if flags & PROCESSES != 0 { processes(&page, &job) } else { Ok(()) }
}

fn accounting(page: &Page<'_>, job: &Job<'_>) {
    let out = page.out;
    out.line("  Basic Accounting Information");
    for (label, key, path, is_time) in ACCOUNTING {
        let value = job.record.u64(path);
        out.text(&format!("    {:27}", format!("{label}:")));
        match value {
            Ok(span) if is_time => out.field(key, Value::Duration(span), &time::elapsed(span)),
            value => page.count(key, &value, |value| value.to_string()),
        }
        out.end_line();
    }
}

fn settings(page: &Page<'_>, job: &Job<'_>) {
    let (out, record) = (page.out, &job.record);
    for (label, key, path) in [
        ("LimitFlags", "limit_flags", "LimitFlags"),
        ("EffectiveLimitFlags", "effective_limit_flags", "EffectiveLimitFlags"),
    ] {
        let Ok(flags) = record.u64(path) else { continue };
        out.field(key, Value::Hex(flags), &format!("  Limit Information ({label}: {flags:#x})"));
        out.end_line();
        for name in limit_names(flags) {
            out.styled(Style::Symbol, &format!("    JOB_OBJECT_LIMIT_{name}"));
            out.end_line();
        }
    }
    for (label, key, path) in LIMITS {
        match record.u64(path) {
            Err(Error::NoSymbols(_)) => {}
            value => {
                out.text(&format!("    {:27}", format!("{label}:")));
                page.hex(key, &value, |value| format!("{value:#x}"));
                out.end_line();
            }
        }
    }
    if let Ok(parent) = record.pointer("ParentJob")
        && !parent.is_null()
    {
        out.text("    ParentJob:                 ");
        page.link("parent", parent, "!job {}");
        out.end_line();
    }
}

fn processes(page: &Page<'_>, job: &Job<'_>) -> Result<()> {
    let out = page.out;
    out.line("  Processes assigned to this job:");
    out.list("processes", |_| {
        let mut count = 0;
        for at in job.processes(&page.kernel)? {
            match at.and_then(|at| Process::read(&page.kernel, at)) {
                Ok(process) => {
                    count += 1;
                    out.record("", |_| process_block::header(page, &process));
                    out.end_line();
                }
                Err(error) => page.refuse(error, "the processes of the job are not followed further")?,
            }
        }
        if count == 0 {
            out.line("    none");
        }
        Ok(())
    })
}
