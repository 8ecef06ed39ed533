//! `.shell` runs programs of the machine that kd runs on, `.noshell` and `.secure` forbid it for good.
//!
//! JSON: `command`, `output` (a list of lines), `exit_code` (null if a signal ended the program), `process` with `-x`.

use super::files::{file_name, may_write};
use super::{Builtin, Call, Needs};
use crate::process::{self, Ended};
use crate::session::Session;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Value};
use std::fs::File;
use std::process::Stdio;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &[".shell"],
        usage: "[-ci \"COMMANDS\"] [-x] [-i FILE] [-o FILE] [-e FILE] COMMAND",
        summary: "Run a program through the system's shell",
        help: "The rest of the line, semicolons too, is the shell's. What the program writes is shown line by line; Ctrl+C\n\
               ends it. It reads nothing unless -i names a file or -ci gives commands of kd, whose output it is to read.\n\
               -o and -e send its output and its errors to files (made anew); a hyphen in place of a file drops them.\n\
               -x starts the program and does not wait. Without COMMAND a shell takes over the terminal until it ends.\n\
               Forbidden by -noshell, -secure, .noshell and .secure 1.",
        needs: Needs::Nothing,
        run: shell,
    },
    Builtin {
        names: &[".noshell"],
        usage: "",
        summary: "Forbid .shell until kd ends",
        help: "",
        needs: Needs::Nothing,
        run: |session, out, _| {
            session.settings.no_shell = true;
            out.line("Shell commands are forbidden from now on.");
            Ok(())
        },
    },
    Builtin {
        names: &[".secure"],
        usage: "[1]",
        summary: "Show whether kd is in secure mode, or enter it",
        help: "In secure mode no command starts a program or writes a file (.shell, .writemem, .dump, .dumpcab, .logopen,\n\
               .logappend, .write_cmd_hist). It lasts until kd ends; -secure begins with it.",
        needs: Needs::Nothing,
        run: secure,
    },
];

fn secure(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    match call.args {
        "" => {}
        "1" => session.settings.secure = true,
        "0" if !session.settings.secure => {}
        "0" => return Err(Error::Unsupported("secure mode lasts until kd ends".to_owned())),
        other => return Err(Error::Usage(format!(".secure takes 1 or nothing, not '{other}'"))),
    }
    let on = session.settings.secure;
    out.field("secure", Value::Bool(on), &format!("Secure mode is {}", if on { "ON" } else { "OFF" }));
    out.end_line();
    Ok(())
}

/// Where a stream of the program goes or comes from.
#[derive(Default, PartialEq, Eq)]
enum Place {
    /// As if nothing had been said.
    #[default]
    Usual,
    /// Nowhere.
    Nowhere,
    /// A file.
    File(String),
}

#[derive(Default)]
struct Options<'a> {
    commands: Option<String>,
    detached: bool,
    input: Place,
    output: Place,
    errors: Place,
    line: &'a str,
}

impl<'a> Options<'a> {
    fn parse(args: &'a str) -> Result<Options<'a>> {
        let mut options = Options { line: args, ..Options::default() };
        loop {
            let (word, rest) = options.line.split_once(char::is_whitespace).unwrap_or((options.line, ""));
            let mut rest = rest.trim_start();
            let mut place = |word: &str| -> Result<Place> {
                let (name, after) = file_name(rest).map_err(|_| {
                    Error::Usage(format!("option {word} of .shell needs a file, or a hyphen"))
                })?;
                rest = after;
                Ok(if name == "-" { Place::Nowhere } else { Place::File(name.to_owned()) })
            };
            match word {
                "-x" => options.detached = true,
                "-i" => options.input = place(word)?,
                "-o" => options.output = place(word)?,
                "-e" => options.errors = place(word)?,
                "-ci" => {
                    let quoted = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
                    let (commands, after) = quoted
                        .ok_or_else(|| Error::Usage("option -ci of .shell needs \"COMMANDS\"".to_owned()))?;
                    options.commands = Some(commands.to_owned());
                    rest = after.trim_start();
                }
                word if word.starts_with('-') => {
                    return Err(Error::Usage(format!(".shell has no option {word}: -ci -x -i -o -e")));
                }
                _ => break,
            }
            options.line = rest;
        }
        match options.commands.is_some() && options.input != Place::Usual {
            true => Err(Error::Usage("-ci and -i both say what the program reads".to_owned())),
            false => Ok(options),
        }
    }
}

fn shell(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    if session.settings.no_shell {
        return Err(Error::Unsupported(
            ".shell is forbidden in this session (by -noshell, -secure or .noshell)".to_owned(),
        ));
    }
    let options = Options::parse(call.args)?;
    may_write(session, ".shell")?;
    if options.line.is_empty() {
        return take_over(session, out);
    }
    let opened = |outcome: std::io::Result<File>, name: &str| {
        outcome.map(Stdio::from).map_err(|error| Error::Other(format!("cannot open {name}: {error}")))
    };
    let cannot = |error| Error::Other(format!("cannot start the shell: {error}"));
    let mut program = process::shell(options.line).map_err(cannot)?;
    out.data("command", Value::Text(options.line));
    if options.detached {
        let process = program.start().map_err(cannot)?;
        out.text("Started process ");
        out.field("process", Value::UInt(process.into()), &process.to_string());
        out.end_line();
        return Ok(());
    }
    if let Place::File(name) = &options.input {
        program.command().stdin(opened(File::open(name), name)?);
    }
    if let Some(commands) = &options.commands {
        program.reads(session.run_captured(commands)?.into_bytes());
    }
    match &options.output {
        Place::Usual => {}
        Place::Nowhere => drop(program.command().stdout(Stdio::null())),
        Place::File(name) => drop(program.command().stdout(opened(File::create(name), name)?)),
    }
    match &options.errors {
        Place::Usual => {}
        Place::Nowhere => drop(program.command().stderr(Stdio::null())),
        Place::File(name) => drop(program.command().stderr(opened(File::create(name), name)?)),
    }
    let ended = out.list("output", |out| {
        let mut line = |text: &str| {
            out.field("", Value::Text(text), text);
            out.end_line();
        };
        program.run(&mut line, &mut || session.interrupted())
    });
    match ended.map_err(cannot)? {
        Ended::Stopped => Err(Error::Interrupted),
        Ended::With(status) => {
            let code = status.code();
            out.data("exit_code", code.map_or(Value::Null, |code| Value::Int(code.into())));
            out.line(&match code {
                Some(0) => ".shell: Process exited".to_owned(),
                Some(code) => format!(".shell: Process exited with {code}"),
                None => format!(".shell: Process ended: {status}"),
            });
            Ok(())
        }
    }
}

/// Gives the terminal to a shell.
fn take_over(session: &Session, out: &Out<'_>) -> Result<()> {
    if !session.ui().is_interactive() {
        return Err(Error::Usage(
            ".shell needs a command: a shell to type in needs a terminal, and this is none".to_owned(),
        ));
    }
    out.line("The shell has the terminal until it ends: exit");
    session.ui().flush_text();
    let status = process::interactive_shell().status();
    // Ctrl+C was the shell's.
    session.interrupted();
    status.map_err(|error| Error::Other(format!("cannot start a shell: {error}")))?;
    out.line(".shell: Process exited");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_where_the_command_begins() {
        let options = Options::parse("-o \"a b\" -e - -ci \"lm; r\" grep -i nt; wc -l").unwrap();
        assert_eq!(options.line, "grep -i nt; wc -l");
        assert!(options.output == Place::File("a b".to_owned()) && options.errors == Place::Nowhere);
        assert_eq!(options.commands.as_deref(), Some("lm; r"));
        assert!(!options.detached && options.input == Place::Usual);
        assert_eq!(
            Options::parse("-x ls").map(|options| (options.detached, options.line)).unwrap(),
            (true, "ls")
        );
        for wrong in ["-o", "-ci lm cat", "-z ls", "-i a -ci \"r\" cat"] {
            assert!(Options::parse(wrong).is_err(), "{wrong}");
        }
    }
}
