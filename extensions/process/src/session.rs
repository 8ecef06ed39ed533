//! `!session`: the sessions that processes are in.

use crate::page::Page;
use crate::select;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::process::{self, Process};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;
use std::collections::BTreeMap;

/// `!session [-?]`.
pub fn session(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let mut args = Args::new(args);
    if let Some(option) = args.option() {
        return Err(Error::Usage(format!(
            "!session has no option -{option} here: !sprocess N shows a session, .process a process of it"
        )));
    }
    args.finish()?;
    // Session: processes in it, and one that leads into its memory.
    let mut found: BTreeMap<u64, (u64, Va)> = BTreeMap::new();
    let mut outside = 0u64;
    select::each_process(&page, &mut |process| {
        match process.session_id(&page.kernel) {
            Ok(Some(id)) => found.entry(id).or_insert((0, process.at)).0 += 1,
            Ok(None) => outside += 1,
            Err(error) => page.refuse(error, &format!("the session of {}", page.ptr(process.at)))?,
        }
        Ok(())
    })?;
    let out = page.out;
    out.field("sessions", Value::UInt(found.len() as u64), &format!("Sessions on machine: {}", found.len()));
    out.end_line();
    let valid: Vec<_> = found.keys().map(ToString::to_string).collect();
    out.line(&format!("Valid Sessions: {}", valid.join(" ")));
    let current = process::current(&page.kernel).and_then(|at| Process::read(&page.kernel, at));
    match current.and_then(|process| process.session_id(&page.kernel)) {
        Ok(Some(id)) => out.field("current", Value::UInt(id), &format!("Current Session {id}")),
        Ok(None) => out.field("current", Value::Null, "Current Session: none"),
        Err(error) => page.absent("current", &error),
    }
    out.end_line();
    out.end_line();
    out.styled(Style::Heading, "Session  Processes  First process");
    out.end_line();
    out.list("list", |_| {
        for (id, (count, first)) in &found {
            out.record("", |_| {
                out.data("session", Value::UInt(*id));
                out.link(&format!("{id:7}"), &format!("!sprocess {id:x} 0"));
                out.field("processes", Value::UInt(*count), &format!("  {count:9}  "));
                page.link("first", *first, "!process {} 0");
                out.end_line();
            });
        }
    });
    out.field("outside", Value::UInt(outside), &format!("   none  {outside:9}"));
    out.end_line();
    Ok(())
}
