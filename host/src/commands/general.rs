//! Commands about the session itself: numbers, texts, logs, the end.

use super::{Builtin, Call, Needs};
use crate::session::Session;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Value};
use std::path::{Path, PathBuf};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &["q", "qq", "qd"],
        usage: "",
        summary: "End the session",
        help: "",
        needs: Needs::Nothing,
        run: quit,
    },
    Builtin {
        names: &[".echo"],
        usage: "TEXT | \"TEXT\"",
        summary: "Show a text",
        help: "Without quotes the text ends at a semicolon.",
        needs: Needs::Nothing,
        run: echo,
    },
    Builtin {
        names: &["n"],
        usage: "[8 | 10 | 16]",
        summary: "Show or set the radix of numbers",
        help: "",
        needs: Needs::Nothing,
        run: radix,
    },
    Builtin {
        names: &[".logopen", ".logappend"],
        usage: "[/t] [/u] [FILE] | /d",
        summary: "Write everything that is shown to a file too",
        help: ".logopen starts the file anew, .logappend adds to it. The default name is Dbgeng.log. /t puts the process\n\
               number and the time into the name, /d makes a name of the dump's and those. Every log is Unicode (/u).",
        needs: Needs::Nothing,
        run: open_log,
    },
    Builtin {
        names: &[".logclose"],
        usage: "",
        summary: "Close the log file",
        help: "",
        needs: Needs::Nothing,
        run: close_log,
    },
    Builtin {
        names: &[".logfile"],
        usage: "",
        summary: "Name the log file",
        help: "",
        needs: Needs::Nothing,
        run: show_log,
    },
    Builtin {
        names: &["version"],
        usage: "",
        summary: "Show the version of the target, of kd and of every extension",
        help: "",
        needs: Needs::Nothing,
        run: version,
    },
    Builtin {
        names: &["vercommand"],
        usage: "",
        summary: "Show how kd was started",
        help: "",
        needs: Needs::Nothing,
        run: |_, out, _| {
            let words: Vec<String> = std::env::args_os().map(|word| word.display().to_string()).collect();
            let line = words.join(" ");
            out.field("command_line", Value::Text(&line), &format!("command line: '{line}'"));
            out.end_line();
            Ok(())
        },
    },
];

fn quit(session: &mut Session, _: &Out<'_>, _: &Call<'_>) -> Result<()> {
    if session.shelf.is_locked() {
        return Err(Error::Usage(".quit_lock /q PASSWORD is needed before q".to_owned()));
    }
    session.quit();
    Ok(())
}

fn echo(_: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let text = call.args;
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    out.field("text", Value::Text(text), text);
    out.end_line();
    Ok(())
}

fn radix(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    match call.args {
        "" => {}
        "8" => session.settings.radix = 8,
        "10" => session.settings.radix = 10,
        "16" => session.settings.radix = 16,
        other => return Err(Error::Usage(format!("n takes 8, 10 or 16, not '{other}'"))),
    }
    let radix = session.settings.radix;
    out.text("base is ");
    out.field("base", Value::UInt(radix.into()), &radix.to_string());
    out.end_line();
    Ok(())
}

fn open_log(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    super::files::may_write(session, call.name)?;
    let mut name = call.args;
    // A path may begin as an option does: only the whole word is one.
    let (mut with_time, mut of_dump) = (false, false);
    loop {
        let (word, rest) = name.split_once(char::is_whitespace).unwrap_or((name, ""));
        match word {
            // Every log is Unicode.
            "/u" => {}
            "/t" => with_time = true,
            "/d" => (with_time, of_dump) = (true, true),
            _ => break,
        }
        name = rest.trim_start();
    }
    let name = name.trim_matches('"');
    let mut path = PathBuf::from(if name.is_empty() { "Dbgeng.log" } else { name });
    if of_dump {
        let dump = session.current_target().and_then(|open| open.target.dump().path().file_stem());
        path = Path::new(dump.unwrap_or("Dbgeng".as_ref())).with_added_extension("log");
    }
    if with_time {
        path = super::files::stamped(&path, session.scope(None)?.register("$dbgtime").unwrap_or(0));
    }
    super::files::is_there(session, &path)?;
    let append = call.name == ".logappend";
    session
        .ui()
        .open_log(&path, append)
        .map_err(|error| Error::Other(format!("cannot open the log {}: {error}", path.display())))?;
    say_log(out, "Opened log file", Some(&path));
    Ok(())
}

fn close_log(session: &mut Session, out: &Out<'_>, _: &Call<'_>) -> Result<()> {
    let path = session.ui().log_path();
    say_log(out, "Closing open log file", path.as_deref());
    session.ui().close_log();
    Ok(())
}

fn show_log(session: &mut Session, out: &Out<'_>, _: &Call<'_>) -> Result<()> {
    say_log(out, "Log file is", session.ui().log_path().as_deref());
    Ok(())
}

fn say_log(out: &Out<'_>, what: &str, path: Option<&Path>) {
    match path {
        Some(path) => {
            let path = path.display().to_string();
            out.text(&format!("{what} '"));
            out.name("log", &path);
            out.line("'");
        }
        None => out.line("No log file open"),
    }
}

fn version(session: &mut Session, out: &Out<'_>, _: &Call<'_>) -> Result<()> {
    if let Some(open) = session.current_target().cloned() {
        super::dump_info::show_version(&open, out);
    }
    out.name("kd", &crate::cli::version());
    out.end_line();
    super::extensions::show_chain(session, out);
    Ok(())
}
