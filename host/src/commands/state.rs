//! What a session puts away and takes back: `.push`, `.pop`, `.pcmd`, `.quit_lock`, `.sleep`.

use super::{Builtin, Call, LastDisplay, Needs, hold::Held};
use crate::expr::{Evaluator, USER_REGISTERS};
use crate::session::Session;
use crate::stack::Contexts;
use crate::typed::Type;
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Value};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &[".push"],
        usage: "[/r] [/q]",
        summary: "Save what is looked at, for .pop",
        help: "The target, the processor, the registers, process and frame that were chosen, the radix, the evaluator,\n\
               where d and u go on; /r: $t0 to $t19 too. /q says nothing.",
        needs: Needs::Nothing,
        run: push,
    },
    Builtin {
        names: &[".pop"],
        usage: "[/r] [/q]",
        summary: "Look at what the last .push saved",
        help: "/r brings $t0 to $t19 back, if .push had it too. /q says nothing.",
        needs: Needs::Nothing,
        run: pop,
    },
    Builtin {
        names: &[".pcmd"],
        usage: "[-s \"COMMANDS\" | -c]",
        summary: "Run commands whenever another processor or dump is looked at",
        help: "KD runs them when the target stops. A dump stops when it is loaded (g) and when ~Ns or ||Ns make another\n\
               processor or dump current. -c runs nothing any more.",
        needs: Needs::Nothing,
        run: prompt_command,
    },
    Builtin {
        names: &[".quit_lock"],
        usage: "[/s PASSWORD | /q PASSWORD]",
        summary: "Guard against q",
        help: "/s: q does nothing until /q has said the same password.",
        needs: Needs::Nothing,
        run: quit_lock,
    },
    Builtin {
        names: &[".sleep"],
        usage: "MILLISECONDS",
        summary: "Wait",
        help: "At most an hour; Ctrl+C ends it.",
        needs: Needs::Nothing,
        run: sleep,
    },
];

/// States that are kept at most.
const DEEPEST: usize = 256;
/// Lines of commands that are remembered.
const HISTORY: usize = 10_000;
/// The longest `.sleep`.
const LONGEST: Duration = Duration::from_secs(3600);

/// What lies put away.
#[derive(Default)]
pub struct Shelf {
    saved: Vec<Saved>,
    /// `.holdmem`.
    pub held: Vec<Held>,
    /// The lines that were run, the latest last.
    pub history: VecDeque<String>,
    prompt_command: Option<String>,
    password: Option<String>,
}

impl Shelf {
    /// Remembers a line.
    pub fn remember(&mut self, line: &str) {
        if self.history.len() >= HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(line.to_owned());
    }

    /// Whether `q` waits for a password.
    pub fn is_locked(&self) -> bool {
        self.password.is_some()
    }
}

/// What `.push` saves.
struct Saved {
    target: Option<u32>,
    processor: u32,
    contexts: Contexts,
    radix: u32,
    evaluator: Evaluator,
    display: LastDisplay,
    code: Option<Va>,
    registers: Option<([u64; USER_REGISTERS], [Option<Type>; USER_REGISTERS])>,
}

/// `/r` and `/q`.
fn flags(call: &Call<'_>) -> Result<(bool, bool)> {
    let (mut registers, mut quiet) = (false, false);
    for word in call.args.split_whitespace() {
        match word {
            "/r" | "-r" => registers = true,
            "/q" | "-q" => quiet = true,
            other => return Err(Error::Usage(format!("{} takes /r and /q, not '{other}'", call.name))),
        }
    }
    Ok((registers, quiet))
}

fn push(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (registers, quiet) = flags(call)?;
    if session.shelf.saved.len() >= DEEPEST {
        return Err(Error::Usage(format!("{DEEPEST} states are saved already; .pop takes the last one")));
    }
    let variables = &session.variables;
    let saved = Saved {
        target: session.current_target().map(|open| open.number),
        processor: session.processor(),
        contexts: session.contexts.clone(),
        radix: session.settings.radix,
        evaluator: variables.evaluator,
        display: session.last_display,
        code: session.last_code,
        registers: registers.then(|| (variables.t, variables.types.clone())),
    };
    session.shelf.saved.push(saved);
    if !quiet {
        show_depth(session, out, "Saved the debugger's state");
    }
    Ok(())
}

fn pop(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (registers, quiet) = flags(call)?;
    let nothing = || Error::NotFound("no state is saved; .push saves one".to_owned());
    let saved = session.shelf.saved.pop().ok_or_else(nothing)?;
    let is_now = |target| session.current_target().map(|open| open.number) == Some(target);
    if let Some(target) = saved.target.filter(|target| !is_now(*target)) {
        let index = session.targets().iter().position(|open| open.number == target);
        let index =
            index.ok_or_else(|| Error::NotFound(format!("target {target} of the saved state is closed")))?;
        session.make_current(index);
    }
    if saved.target.is_some() {
        session.set_processor(saved.processor);
        session.contexts = saved.contexts;
    }
    session.settings.radix = saved.radix;
    session.variables.evaluator = saved.evaluator;
    (session.last_display, session.last_code) = (saved.display, saved.code);
    match saved.registers {
        Some((values, types)) if registers => {
            (session.variables.t, session.variables.types) = (values, types);
        }
        None if registers => out.warning("$t0 to $t19 were not saved: .push /r saves them"),
        _ => {}
    }
    if !quiet {
        show_depth(session, out, "Brought the debugger's state back");
    }
    Ok(())
}

fn show_depth(session: &Session, out: &Out<'_>, what: &str) {
    let left = session.shelf.saved.len();
    out.text(what);
    out.field("saved", Value::UInt(left as u64), &format!("; saved states: {left}"));
    out.end_line();
}

fn prompt_command(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (option, rest) = call.args.split_once(char::is_whitespace).unwrap_or((call.args, ""));
    let rest = rest.trim();
    match option {
        "" => {}
        "-c" if rest.is_empty() => session.shelf.prompt_command = None,
        "-s" if !rest.is_empty() => {
            let text = rest.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(rest);
            session.shelf.prompt_command = Some(text.to_owned());
        }
        _ => return Err(Error::Usage(".pcmd takes -s \"COMMANDS\" or -c".to_owned())),
    }
    match &session.shelf.prompt_command {
        Some(text) => {
            out.field("commands", Value::Text(text), &format!("Per-prompt command is '{text}'"));
        }
        None => out.field("commands", Value::Null, "No per-prompt command"),
    }
    out.end_line();
    Ok(())
}

/// Runs the commands of `.pcmd`; for commands that make another processor or dump current.
pub fn run_prompt_command(session: &mut Session, out: &Out<'_>) -> Result<()> {
    match session.shelf.prompt_command.clone() {
        Some(text) => session.run_block(&text, out),
        None => Ok(()),
    }
}

fn quit_lock(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (option, password) = call.args.split_once(char::is_whitespace).unwrap_or((call.args, ""));
    let password = password.trim().trim_matches('"');
    let given = &mut session.shelf.password;
    match option {
        "" => {}
        "/s" | "-s" if !password.is_empty() && given.is_none() => *given = Some(password.to_owned()),
        "/s" | "-s" if given.is_some() => {
            return Err(Error::Usage("there is a password already; .quit_lock /q takes it away".to_owned()));
        }
        "/q" | "-q" if given.as_deref() == Some(password) => *given = None,
        "/q" | "-q" if given.is_some() => return Err(Error::Usage("that is not the password".to_owned())),
        "/q" | "-q" => {}
        _ => return Err(Error::Usage(".quit_lock takes /s PASSWORD or /q PASSWORD".to_owned())),
    }
    let locked = session.shelf.is_locked();
    let text = if locked { "q needs .quit_lock /q PASSWORD first" } else { "No quit lock" };
    out.field("locked", Value::Bool(locked), text);
    out.end_line();
    Ok(())
}

fn sleep(session: &mut Session, _: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let wanted = Duration::from_millis(session.scope(None)?.evaluate(call.args)?);
    if wanted > LONGEST {
        return Err(Error::Usage(format!(".sleep waits an hour at most, {:#x} ms", LONGEST.as_millis())));
    }
    let start = Instant::now();
    while let Some(left) = wanted.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        if session.interrupted() {
            return Err(Error::Interrupted);
        }
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
    Ok(())
}
