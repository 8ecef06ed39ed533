//! The terminal: the only place in the host that writes to it or reads from it.
//!
//! [`Ui`] takes the event stream of commands and makes console text ([`console`]) or JSON ([`json`]) of it, keeps the
//! log file, shows progress ([`progress`]) and asks for the next line ([`repl`]). [`Capture`] takes the same events as
//! plain text, for callers that want a command's text in hand. [`interrupt`] is Ctrl+C.

pub mod capture;
pub mod console;
pub mod interrupt;
pub mod json;
pub mod log;
pub mod progress;
pub mod repl;
#[cfg(test)]
mod tests;

pub use capture::Capture;
pub use repl::{Input, Repeat};

use kd_sdk::output::{Event, Out, Severity, Sink};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// When text has colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Color {
    /// On a terminal that shows them, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Not at all.
    Never,
}

/// How a [`Ui`] speaks.
#[derive(Clone, Copy, Debug)]
pub struct UiOptions {
    /// JSON, one object a command, in place of text.
    pub json: bool,
    /// Colours of console text.
    pub color: Color,
    /// Verbose messages are shown.
    pub verbose: bool,
    /// Lines the history keeps.
    pub history_size: usize,
}

impl Default for UiOptions {
    fn default() -> UiOptions {
        UiOptions { json: false, color: Color::Auto, verbose: false, history_size: 1000 }
    }
}

/// What is known of a command before it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandHead<'a> {
    /// Counts the commands of a session, from 1; 0 is what happens before the first.
    pub seq: u64,
    /// The ordinal of the current target, where there is one.
    pub target: Option<u32>,
    /// The command as it was typed.
    pub line: &'a str,
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It did what it says.
    Ok,
    /// It said why not.
    Failed,
    /// Ctrl+C stopped it.
    Interrupted,
    /// There is no such command.
    Unknown,
}

impl Status {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Failed => "failed",
            Status::Interrupted => "interrupted",
            Status::Unknown => "unknown",
        }
    }
}

/// The sorts of output, as `.outmask` numbers them.
pub mod mask {
    /// What commands show.
    pub const NORMAL: u32 = 1;
    /// Errors.
    pub const ERROR: u32 = 2;
    /// Warnings.
    pub const WARNING: u32 = 4;
    /// Verbose messages.
    pub const VERBOSE: u32 = 8;
    /// The prompt.
    pub const PROMPT: u32 = 0x10;
    /// What is on at first.
    pub const DEFAULT: u32 = 0x3f7;
}

/// What a terminal is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control<'a> {
    /// Clear the screen.
    Clear,
    /// Beep.
    Beep,
    /// Change the title of the window.
    Title(&'a str),
}

type Writer = Box<dyn Write + Send>;

/// What events become on stdout.
enum Renderer {
    Console(console::Text),
    Json(Box<json::Json>),
}

struct State {
    out: Writer,
    err: Writer,
    renderer: Renderer,
    /// Text appears at once, line by line.
    live: bool,
    /// The sorts of output that are shown, and those that are logged.
    mask: u32,
    log_mask: u32,
    /// Nobody reads stdout any more.
    broken: bool,
    log: Option<log::Log>,
    progress: progress::Progress,
}

/// The terminal, the log and the prompt. Shared by reference; every method may be called from any thread.
pub struct Ui {
    state: Mutex<State>,
    input: Mutex<repl::Reader>,
    /// Lines are edited: stdin and stdout are both terminals.
    edits: bool,
    /// Typed lines do not appear by themselves: stdin is a file or a pipe.
    echoes: bool,
}

impl Ui {
    /// A face on stdin, stdout and stderr.
    pub fn new(options: UiOptions) -> Ui {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let typed = io::stdin().is_terminal();
        let color = !options.json
            && options.color == Color::Auto
            && anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        let out: Writer = if color {
            Box::new(io::BufWriter::new(anstream::AutoStream::new(stdout, anstream::ColorChoice::Auto)))
        } else {
            Box::new(io::BufWriter::with_capacity(1 << 16, stdout))
        };
        let mut ui = Ui::with_streams(options, color, out, Box::new(io::stderr()));
        ui.edits = typed && terminal && !options.json;
        ui.echoes = !typed;
        let state = ui.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.live = terminal;
        state.progress = progress::Progress::new(!options.json && io::stderr().is_terminal());
        ui
    }

    /// A face on other streams, without a line editor and without progress.
    pub fn with_streams(options: UiOptions, color: bool, out: Writer, err: Writer) -> Ui {
        let renderer = if options.json {
            Renderer::Json(Box::default())
        } else {
            Renderer::Console(console::Text::new(color))
        };
        Ui {
            state: Mutex::new(State {
                out,
                err,
                renderer,
                live: false,
                mask: mask::DEFAULT | if options.verbose { mask::VERBOSE } else { 0 },
                log_mask: mask::DEFAULT | if options.verbose { mask::VERBOSE } else { 0 },
                broken: false,
                log: None,
                progress: progress::Progress::new(false),
            }),
            input: Mutex::new(repl::Reader::new(options.history_size)),
            edits: false,
            echoes: true,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream commands write to.
    pub fn out(&self) -> Out<'_> {
        Out::new(self)
    }

    /// Opens the object of a command. Events outside of a command belong to one with an empty line and number 0.
    pub fn begin_command(&self, head: &CommandHead<'_>) {
        let mut state = self.state();
        let state = &mut *state;
        if let Renderer::Json(json) = &mut state.renderer {
            let written = json.begin(head, &mut state.out);
            check(written, &mut state.broken, &mut state.err);
            if let Some(log) = &mut state.log {
                log.line(&format!("kd> {}", head.line));
            }
            state.check_log();
        }
    }

    /// Closes it, and lets out everything it said.
    pub fn end_command(&self, status: Status) {
        let mut state = self.state();
        let state = &mut *state;
        state.progress.clear();
        let written = match &mut state.renderer {
            Renderer::Console(text) => text.end_line(&mut state.out),
            Renderer::Json(json) => json.end(status, &mut state.out),
        };
        check(written.and_then(|()| state.out.flush()), &mut state.broken, &mut state.err);
        if let Some(log) = &mut state.log {
            log.flush();
        }
        state.check_log();
    }

    /// Shows how far a long step is; `total` 0 is "unknown". Never appears in the output or the log.
    pub fn progress(&self, done: u64, total: u64, label: &str) {
        self.state().progress.show(done, total, label);
    }

    /// Takes the progress line away.
    pub fn clear_progress(&self) {
        self.state().progress.clear();
    }

    /// Writes from now on everything that is typed and shown to a file too, as plain UTF-8 text. Closes the former log.
    ///
    /// # Errors
    /// The file cannot be made or opened; the former log stays.
    pub fn open_log(&self, path: &Path, append: bool) -> io::Result<()> {
        let log = log::Log::open(path, append)?;
        let mut state = self.state();
        if let Some(old) = &mut state.log {
            old.flush();
        }
        state.log = Some(log);
        Ok(())
    }

    /// Ends the log and says which file it was.
    pub fn close_log(&self) -> Option<PathBuf> {
        let mut log = self.state().log.take()?;
        log.flush();
        Some(log.path().to_path_buf())
    }

    /// The file of the open log.
    pub fn log_path(&self) -> Option<PathBuf> {
        self.state().log.as_ref().map(|log| log.path().to_path_buf())
    }

    /// Whether verbose messages are shown.
    pub fn is_verbose(&self) -> bool {
        self.mask() & mask::VERBOSE != 0
    }

    /// The sorts of output that are shown.
    pub fn mask(&self) -> u32 {
        self.state().mask
    }

    /// Sets them, and with `log` also those that are logged.
    pub fn set_mask(&self, mask: u32, log: bool) {
        let mut state = self.state();
        state.mask = mask;
        if log {
            state.log_mask = mask;
        }
    }

    /// Asks the terminal for something; nothing happens where there is none.
    pub fn control(&self, control: Control<'_>) {
        let mut state = self.state();
        let state = &mut *state;
        if !state.live || !matches!(state.renderer, Renderer::Console(_)) {
            return;
        }
        state.progress.clear();
        let written = match control {
            Control::Clear => state.out.write_all(b"\x1b[2J\x1b[H"),
            Control::Beep => state.out.write_all(b"\x07"),
            Control::Title(title) => {
                let title = console::sanitized(title).replace('\n', " ");
                write!(state.out, "\x1b]0;{title}\x07")
            }
        };
        check(written.and_then(|()| state.out.flush()), &mut state.broken, &mut state.err);
    }

    /// A person types: stdin and stdout are both terminals, and the output is text.
    pub fn is_interactive(&self) -> bool {
        self.edits
    }

    /// Lets out everything said so far, in the middle of a command.
    pub fn flush_text(&self) {
        let mut state = self.state();
        let state = &mut *state;
        state.progress.clear();
        check(state.out.flush(), &mut state.broken, &mut state.err);
    }

    /// Output is JSON.
    pub fn is_json(&self) -> bool {
        matches!(self.state().renderer, Renderer::Json(_))
    }

    /// Nobody reads the output any more (`kd … | head`): end the session quietly.
    pub fn is_broken(&self) -> bool {
        self.state().broken
    }

    /// Lets out everything said so far; closes an object that is still open. For the way out of the program.
    pub fn flush(&self) {
        let mut state = self.state();
        state.finish();
    }

    /// The one message of a program that gives up (exit status 2).
    pub fn fatal(&self, text: &str) {
        let mut state = self.state();
        state.finish();
        let state = &mut *state;
        let text = console::sanitized(text.trim_end());
        let _ = writeln!(state.err, "kd: {text}").and_then(|()| state.err.flush());
        if let Some(log) = &mut state.log {
            log.line(&format!("kd: {text}"));
            log.flush();
        }
        if let Renderer::Json(_) = &state.renderer {
            let written = json::write_fatal(&text, &mut state.out).and_then(|()| state.out.flush());
            check(written, &mut state.broken, &mut state.err);
        }
    }

    /// Asks for a line. `complete` is given the line and the cursor and answers with every name that may stand there
    /// (`.meta`, `!extension`, `nt!symbol`); the ones that do not fit what is typed are left out here. With `--json` the
    /// prompt is not shown.
    pub fn prompt(&self, prompt: &str, complete: &dyn Fn(&str, usize) -> Vec<String>) -> Input {
        {
            let mut state = self.state();
            let state = &mut *state;
            state.progress.clear();
            let written = match &mut state.renderer {
                Renderer::Console(text) => text.end_line(&mut state.out).and_then(|()| match self.edits {
                    true => Ok(()),
                    false if state.mask & mask::PROMPT == 0 => Ok(()),
                    false => state.out.write_all(prompt.as_bytes()),
                }),
                Renderer::Json(_) => Ok(()),
            };
            check(written.and_then(|()| state.out.flush()), &mut state.broken, &mut state.err);
        }
        let mut reader = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let input = if self.edits { reader.edit(prompt, complete) } else { reader.read() };
        drop(reader);

        let mut state = self.state();
        let state = &mut *state;
        let shown = match &input {
            Input::Line(line) => console::sanitized(line).into_owned(),
            Input::Eof | Input::Interrupted => String::new(),
        };
        if let Renderer::Console(_) = &state.renderer {
            if let Some(log) = &mut state.log {
                log.line(&format!("{prompt}{shown}"));
            }
            let echo = self.echoes || matches!(input, Input::Eof) && !self.edits;
            if echo {
                let written = writeln!(state.out, "{shown}").and_then(|()| state.out.flush());
                check(written, &mut state.broken, &mut state.err);
            }
        }
        state.check_log();
        input
    }
}

impl Sink for Ui {
    fn emit(&self, event: &Event<'_>) {
        let mut state = self.state();
        let state = &mut *state;
        let sort = sort_of(event);
        // A record is shown whole or not at all: of JSON only messages are left out.
        let is_whole = sort == mask::NORMAL && matches!(state.renderer, Renderer::Json(_));
        if !state.broken && (is_whole || sort & state.mask != 0) {
            if state.live {
                state.progress.clear();
            }
            let written = match &mut state.renderer {
                Renderer::Console(text) => text.event(event, &mut state.out),
                Renderer::Json(json) => json.event(event, &mut state.out),
            };
            let written = match state.live && ends_line(event) {
                true => written.and_then(|()| state.out.flush()),
                false => written,
            };
            check(written, &mut state.broken, &mut state.err);
        }
        if sort & state.log_mask == 0 {
            return;
        }
        if let Some(log) = &mut state.log {
            log.event(event);
            state.check_log();
        }
    }
}

/// The sort of output that an event is.
fn sort_of(event: &Event<'_>) -> u32 {
    match event {
        Event::Message { severity: Severity::Verbose, .. } => mask::VERBOSE,
        Event::Message { severity: Severity::Warning, .. } => mask::WARNING,
        Event::Message { severity: Severity::Error, .. } => mask::ERROR,
        _ => mask::NORMAL,
    }
}

impl Drop for Ui {
    fn drop(&mut self) {
        self.flush();
    }
}

impl State {
    fn finish(&mut self) {
        self.progress.clear();
        let written = match &mut self.renderer {
            Renderer::Console(text) => text.end_line(&mut self.out),
            Renderer::Json(json) => json.end(Status::Ok, &mut self.out),
        };
        check(written.and_then(|()| self.out.flush()), &mut self.broken, &mut self.err);
        if let Some(log) = &mut self.log {
            log.flush();
        }
        self.check_log();
    }

    /// Says once that the log cannot be written, and goes on without it.
    fn check_log(&mut self) {
        let Some(error) = self.log.as_mut().and_then(log::Log::take_error) else { return };
        let Some(log) = self.log.take() else { return };
        let text = format!("log closed: {}: {error}", log.path().display());
        let event = Event::Message { severity: Severity::Warning, text: &text };
        let written = match &mut self.renderer {
            Renderer::Console(text) => text.event(&event, &mut self.out),
            Renderer::Json(json) => json.event(&event, &mut self.out),
        };
        check(written, &mut self.broken, &mut self.err);
    }
}

/// Notes that stdout is gone, and stops the command that writes to it.
fn check(written: io::Result<()>, broken: &mut bool, err: &mut Writer) {
    let Err(error) = written else { return };
    if *broken {
        return;
    }
    *broken = true;
    interrupt::request();
    if error.kind() != io::ErrorKind::BrokenPipe {
        let _ = writeln!(err, "kd: cannot write the output: {error}");
    }
}

fn ends_line(event: &Event<'_>) -> bool {
    match event {
        Event::Text { text, .. } | Event::Field { shown: text, .. } | Event::Link { text, .. } => {
            text.ends_with('\n')
        }
        Event::Message { .. } => true,
        Event::Begin { .. } | Event::End => false,
    }
}
