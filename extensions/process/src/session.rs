//! `!session`: the sessions that processes are in.

use crate::page::Page;
use crate::select;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::process::{self, Process};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;
use std::collections::BTreeMap;

/// `!session [-s SESSION]`.
pub fn session(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let mut args = Args::new(args);
    let mut wanted = None;
    while let Some(option) = args.option() {
        if option != "s" {
            return Err(Error::Usage(format!("!session has no option -{option}")));
        }
        let word = args.word().ok_or_else(|| Error::Usage("-s needs a session".to_owned()))?;
        wanted = Some(page.number(word)?);
    }
    args.finish()?;
    // Session: processes in it, and one that leads into its memory.
    let mut found: BTreeMap<u64, (u64, Va)> = BTreeMap::new();
    let (mut outside, mut untold) = (0u64, false);
    let walked = select::each_process(&page, &mut |process| {
        match process.session_id(&page.kernel) {
            Ok(Some(id)) => found.entry(id).or_insert((0, process.at)).0 += 1,
            Ok(None) => outside += 1,
            Err(error) => {
                untold = true;
                page.refuse(error, &format!("the session of {}", page.ptr(process.at)))?;
            }
        }
        Ok(())
    })?;
    if let Some(wanted) = wanted {
        let Some((_, first)) = found.get(&wanted) else {
            return Err(Error::NotFound(format!("no process that can be read is in session {wanted}")));
        };
        session.execute(&format!(".process /p {:#x}", first.0))?;
        page.out.field("using", Value::UInt(wanted), &format!("Using session {wanted}, by process "));
        page.link("process", *first, "!process {} 0");
        page.out.end_line();
        return Ok(());
    }
    let complete = walked.complete && !untold;
    let current = process::current(&page.kernel).and_then(|at| Process::read(&page.kernel, at));
    list(&page, &found, complete, &current.and_then(|process| process.session_id(&page.kernel)));
    if complete {
        page.out.field("outside", Value::UInt(outside), &format!("   none  {outside:9}"));
        page.out.end_line();
    }
    Ok(())
}

fn list(page: &Page<'_>, found: &BTreeMap<u64, (u64, Va)>, complete: bool, current: &Result<Option<u64>>) {
    let out = page.out;
    out.data("complete", Value::Bool(complete));
    match (found.len() as u64, complete) {
        (0, false) => {
            out.field("sessions", Value::Null, "Sessions on machine: not to be told from this dump")
        }
        (count, true) => out.field("sessions", Value::UInt(count), &format!("Sessions on machine: {count}")),
        (count, false) => {
            out.field("sessions", Value::UInt(count), &format!("Sessions on machine: {count} or more"));
        }
    }
    out.end_line();
    let valid: Vec<_> = found.keys().map(ToString::to_string).collect();
    if !valid.is_empty() {
        out.line(&format!("Valid Sessions: {}", valid.join(" ")));
    }
    out.text("Current Session");
    match current {
        Ok(Some(id)) => out.field("current", Value::UInt(*id), &format!(" {id}")),
        Ok(None) => out.field("current", Value::Null, ": none"),
        Err(error) => {
            out.text(": ");
            page.absent("current", error);
        }
    }
    out.end_line();
    if found.is_empty() {
        return;
    }
    out.end_line();
    out.styled(Style::Heading, "Session  Processes  First process");
    out.end_line();
    out.list("list", |_| {
        for (id, (count, first)) in found {
            out.record("", |_| {
                out.data("session", Value::UInt(*id));
                out.link(&format!("{id:7}"), &format!("!sprocess {id:x} 0"));
                out.field("processes", Value::UInt(*count), &format!("  {count:9}  "));
                page.link("first", *first, "!process {} 0");
                out.end_line();
            });
        }
    });
}
