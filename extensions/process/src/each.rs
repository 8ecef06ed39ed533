//! `!for_each_process`, `!for_each_thread`: commands for each process or thread.

use crate::page::Page;
use crate::process_block;
use crate::select;
use crate::thread_block;
use kd_sdk::error::{Error, Result};
use kd_sdk::prelude::*;

/// The text between the quotes, or all of it.
fn commands(args: &str) -> &str {
    let args = args.trim();
    args.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(args)
}

/// `!for_each_process ["COMMANDS"]`.
pub fn process(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let commands = commands(args);
    page.out.list("processes", |out| {
        select::each_process(&page, &mut |process| {
            out.record("", |_| {
                if commands.is_empty() {
                    process_block::header(&page, &process);
                    page.out.end_line();
                    return Ok(());
                }
                page.out.data("address", Value::Hex(process.at.0));
                run(&page, commands, "@#Process", process.at)
            })
        })
        .map(|_| ())
    })
}

/// `!for_each_thread ["COMMANDS"]`.
pub fn thread(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let commands = commands(args);
    page.out.list("threads", |out| {
        select::each_process(&page, &mut |process| {
            select::each_thread(&page, &process, &mut |thread| {
                if commands.is_empty() {
                    thread_block::show(&page, &thread, thread_block::WAITS, 0)?;
                    page.out.end_line();
                    return Ok(());
                }
                out.record("", |_| {
                    page.out.data("address", Value::Hex(thread.at.0));
                    run(&page, commands, "@#Thread", thread.at)
                })
            })
            .map(|_| ())
        })
        .map(|_| ())
    })
}

/// Runs the commands with the alias replaced; one that fails does not end the others.
fn run(page: &Page<'_>, commands: &str, alias: &str, at: Va) -> Result<()> {
    let line = replaced(commands, alias, &format!("0x{:x}", at.0));
    let out = page.out;
    match page.session().execute(&line) {
        Ok(text) => {
            let text = text.trim_end_matches('\n');
            out.field("output", Value::Text(text), text);
            out.data("ok", Value::Bool(true));
        }
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => {
            let text = error.to_string();
            out.field("output", Value::Text(&text), &format!("{}: {text}", page.ptr(at)));
            out.data("ok", Value::Bool(false));
        }
    }
    out.end_line();
    Ok(())
}

/// The alias in any case becomes the value.
fn replaced(commands: &str, alias: &str, value: &str) -> String {
    let (lower, alias) = (commands.to_ascii_lowercase(), alias.to_ascii_lowercase());
    let (mut line, mut from) = (String::new(), 0);
    while let Some(at) = lower.get(from..).and_then(|rest| rest.find(&alias)) {
        line.push_str(commands.get(from..from + at).unwrap_or_default());
        line.push_str(value);
        from += at + alias.len();
    }
    line.push_str(commands.get(from..).unwrap_or_default());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_replaced_in_any_case() {
        assert_eq!(
            replaced("!process @#Process 0; dt x @#process", "@#Process", "0x1"),
            "!process 0x1 0; dt x 0x1"
        );
        assert_eq!(replaced("@#Thread", "@#Process", "0x1"), "@#Thread");
        assert_eq!(
            (commands(" \".echo a\" "), commands(".echo a"), commands("")),
            (".echo a", ".echo a", "")
        );
    }
}
