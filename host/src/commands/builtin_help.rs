//! `?` and `.help`: the table of commands as a reader sees it, and what completion offers.

use super::{Builtin, Call, Needs, evaluate, rows};
use crate::session::Session;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &["?"],
        usage: "[EXPRESSION]",
        summary: "Evaluate an expression; alone, list the commands",
        help: "Numbers are hexadecimal unless n says otherwise; 0n10 is decimal, 0t octal, 0y binary. Registers may be\n\
               written @rip or rip; modules and symbols stand for their addresses; poi(A), by, wo, dwo, qwo read\n\
               memory; + - * / % << >> >>> & | ^ and or xor not, comparisons, hi, low.",
        needs: Needs::Nothing,
        run: question,
    },
    Builtin {
        names: &[".help"],
        usage: "[COMMAND]",
        summary: "List the commands, or explain one",
        help: "!help does the same for extension commands.",
        needs: Needs::Nothing,
        run: help,
    },
];

fn question(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    if call.args.is_empty() { help(session, out, call) } else { evaluate::evaluate(session, out, call) }
}

fn help(_: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let name = call.args.trim_start_matches("/D").trim();
    if !name.is_empty() {
        let row = rows()
            .find(|row| row.names.contains(&name))
            .ok_or_else(|| Error::NotFound(super::why_not(name).unwrap_or(format!("no command '{name}'"))))?;
        out.record("help", |out| explain(out, row));
        return Ok(());
    }
    let mut all: Vec<&Builtin> = rows().collect();
    all.sort_by_key(|row| row.names.first().map(|name| (name.starts_with('.'), name.to_lowercase())));
    out.list("commands", |out| {
        for row in all {
            out.record("", |out| {
                let start = format!("{} {}", row.names.join(", "), row.usage);
                out.data("name", Value::Text(row.names.first().unwrap_or(&"")));
                out.data("usage", Value::Text(row.usage));
                let start = start.trim_end();
                if start.chars().count() > 40 {
                    out.line(start);
                    out.text(&" ".repeat(42));
                } else {
                    out.text(&format!("{start:<41} "));
                }
                out.name("summary", row.summary);
                out.end_line();
            });
        }
    });
    out.line("\n!help lists the extension commands, .help COMMAND explains one command.");
    Ok(())
}

fn explain(out: &Out<'_>, row: &Builtin) {
    out.data("name", Value::Text(row.names.first().unwrap_or(&"")));
    out.data("usage", Value::Text(row.usage));
    out.styled(Style::Heading, format!("{} {}", row.names.join(", "), row.usage).trim_end());
    out.end_line();
    out.name("summary", row.summary);
    out.end_line();
    if !row.help.is_empty() {
        out.end_line();
        out.name("text", row.help);
        out.end_line();
    }
}

/// Every name that may stand at the start of a line.
pub fn completions(session: &Session) -> Vec<String> {
    let own = rows().flat_map(|row| row.names.iter().map(|name| (*name).to_owned()));
    let extensions = session
        .chain
        .loaded()
        .iter()
        .flat_map(|loaded| loaded.commands.iter().map(|row| format!("!{}", row.name)));
    own.chain(extensions).collect()
}
