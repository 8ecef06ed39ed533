//! A debugging session: the open targets, the chain of extensions, the settings; runs one line after another.

use crate::cli::{Environment, Options};
use crate::commands::{self, Aliases, Call, LastDisplay, Needs, Program, Shelf, Word};
use crate::dump::{Dump, DumpError, OpenOptions, Problem};
use crate::extension::chain::{Chain, CommandName};
use crate::extension::loader::{CommandRow, Loaded};
use crate::extension::path::ExtensionPath;
use crate::extension::worker::{self, Ended, Main, Work};
use crate::look::Look;
use crate::scope::{OpenTarget, Scope, Variables};
use crate::stack::{Contexts, ExplicitContext};
use crate::symbols::{Patience, Servers, SymbolPath, Symbols, Watch};
use crate::target::{Module, Target, UserSpace};
use crate::ui::{Capture, CommandHead, Status, Ui, interrupt};
use kd_sdk::abi::{event, needs, status};
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Event, Out, Severity};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Commands that run commands that run commands …: where it ends.
const MAX_NESTING: usize = 16;

/// Settings that commands change.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Default radix: 8, 10 or 16.
    pub radix: u32,
    /// `.ignore_missing_pages`.
    pub ignore_missing_pages: bool,
    /// Read dumps without mapping them.
    pub no_mmap: bool,
    /// Open dumps that are cut short.
    pub partial: bool,
    /// Where symbols are looked for.
    pub symbol_path: String,
    /// Where images are looked for.
    pub image_path: String,
    /// Where source files are looked for.
    pub source_path: String,
    /// `.symopt`.
    pub symbol_options: u32,
    /// `!sym noisy`.
    pub noisy: bool,
    /// The short analysis at load.
    pub analyze_at_load: bool,
    /// `.kframes`: frames that `k` shows.
    pub stack_frames: usize,
    /// What `rm`, `so`, `sq` set.
    pub kept: commands::Kept,
    /// How things are shown.
    pub look: Look,
    /// `.shell` is forbidden, for good.
    pub no_shell: bool,
    /// No command starts a program or writes a file, for good.
    pub secure: bool,
}

impl Settings {
    /// Whether `k` and `ln` show source lines.
    pub fn shows_lines(&self) -> bool {
        self.symbol_options & commands::LOAD_LINES != 0
    }
}

/// Everything there is while kd runs.
pub struct Session {
    ui: Arc<Ui>,
    targets: Vec<Arc<OpenTarget>>,
    next_number: u32,
    /// Index into `targets`.
    current: usize,
    /// Dumps opened with `.opendump`, waiting for `g`.
    pub pending: Vec<Dump>,
    /// The archive that `.opendump /c` reuses.
    pub last_archive: Option<PathBuf>,
    processor: u32,
    /// The symbol servers of this run.
    servers: Arc<Servers>,
    /// Extensions.
    pub chain: Chain,
    /// Settings.
    pub settings: Settings,
    /// Names for texts.
    pub aliases: Aliases,
    /// Where a command program is.
    pub program: Program,
    /// What expressions read: `$t0`, `$exp`, the evaluator.
    pub variables: Variables,
    /// Where `d` goes on.
    pub last_display: LastDisplay,
    /// Where `u` goes on.
    pub last_code: Option<Va>,
    /// What `s` kept (flag s), in order of addresses.
    pub last_hits: Vec<Va>,
    /// The source file that `ls` goes on in.
    pub last_source: Option<commands::SourceFile>,
    /// What `#` looked for.
    pub last_instruction: Option<String>,
    /// What the user chose to look at in place of the processor's own.
    pub contexts: Contexts,
    /// What lies put away.
    pub shelf: Shelf,
    sequence: u64,
    nesting: usize,
    quit: bool,
    failed: bool,
}

impl Session {
    /// A session without a target.
    pub fn new(ui: Arc<Ui>, options: &Options, environment: &Environment) -> Session {
        let executable = std::env::current_exe().ok();
        let path = ExtensionPath::new(environment.extensions.as_deref(), executable.as_deref());
        let watcher = Arc::new(Watcher(Arc::clone(&ui)));
        Session {
            ui,
            servers: Arc::new(Servers::new(Some(watcher), Patience::default())),
            targets: Vec::new(),
            next_number: 0,
            current: 0,
            pending: Vec::new(),
            last_archive: None,
            processor: 0,
            chain: Chain::new(path),
            settings: Settings {
                radix: 16,
                ignore_missing_pages: false,
                no_mmap: options.no_mmap,
                partial: options.partial,
                symbol_path: options.symbol_path(environment),
                image_path: options.image_path(environment),
                source_path: options.source_path(environment),
                symbol_options: options.symbol_options,
                noisy: options.symbol_options & commands::NOISY != 0,
                analyze_at_load: !environment.no_bugcheck_analysis,
                stack_frames: crate::target::unwind::DEFAULT_FRAMES,
                kept: commands::Kept::default(),
                look: Look::default(),
                no_shell: options.no_shell,
                secure: options.secure,
            },
            aliases: Aliases::default(),
            program: Program::default(),
            variables: Variables {
                evaluator: options.evaluator.or(environment.evaluator).unwrap_or_default(),
                ..Variables::default()
            },
            last_display: LastDisplay::default(),
            last_code: None,
            last_hits: Vec::new(),
            last_source: None,
            last_instruction: None,
            contexts: Contexts::default(),
            shelf: Shelf::default(),
            sequence: 0,
            nesting: 0,
            quit: false,
            failed: false,
        }
    }

    /// The terminal.
    pub fn ui(&self) -> &Arc<Ui> {
        &self.ui
    }

    // ----- targets ---------------------------------------------------------------------------------------------

    /// Opens a dump file or the dump in a cabinet.
    pub fn open_dump(&mut self, path: &Path, member: Option<&str>) -> std::result::Result<Dump, DumpError> {
        let ui = Arc::clone(&self.ui);
        let progress = |done, total| {
            ui.progress(done, total, "unpacking the cabinet");
            !interrupt::take_interrupt()
        };
        let options = OpenOptions {
            member: member.map(str::to_owned),
            no_mmap: self.settings.no_mmap,
            progress: Some(&progress),
        };
        let dump = Dump::open(path, &options);
        self.ui.clear_progress();
        let dump = dump?;
        if dump.archive_member().is_some() {
            self.last_archive = Some(path.to_owned());
        }
        // Answers from half a dump are easily taken for whole ones: the user must ask for it.
        let cut = dump.problems().iter().find(|problem| matches!(problem, Problem::Truncated { .. }));
        match cut.filter(|_| !self.settings.partial) {
            Some(problem) => Err(DumpError::Truncated { path: path.to_owned(), problem: problem.clone() }),
            None => Ok(dump),
        }
    }

    /// Makes a dump a target, the current one, and shows its banner as a command record of its own.
    pub fn attach(&mut self, dump: Dump) {
        let line = format!(".opendump {}", dump.path().display());
        self.record(&line, |session, out| {
            session.attach_into(dump, out);
            Ok(())
        });
        let ui = Arc::clone(&self.ui);
        self.analyze_at_load(&ui.out());
        ui.end_command(Status::Ok);
    }

    /// The image path, with the servers that this run asks.
    pub fn parsed_image_path(&self) -> SymbolPath {
        SymbolPath::parse(&self.settings.image_path).asking(&self.servers)
    }

    /// Makes a dump a target and prints its banner to `out`.
    pub fn attach_into(&mut self, dump: Dump, out: &Out<'_>) {
        let target = Target::open(dump);
        let open = Arc::new(OpenTarget {
            number: self.next_number,
            target,
            symbols: Arc::new(Symbols::new(self.parsed_symbol_path())),
        });
        open.symbols.set_image_path(self.parsed_image_path());
        open.symbols.set_options(self.settings.symbol_options);
        open.symbols.set_voice(self.voice());
        self.next_number += 1;
        self.targets.push(Arc::clone(&open));
        self.make_current(self.targets.len() - 1);
        commands::print_banner(self, &open, out);
        // `-s`: symbols at once, not when they are needed.
        if self.settings.symbol_options & commands::DEFERRED == 0 {
            for index in 0..open.target.modules().len() {
                if self.interrupted() {
                    out.warning("interrupted: the other modules' symbols are loaded when they are needed");
                    break;
                }
                open.symbols.load(&open.target, index);
            }
        }
    }

    /// Gives the current target other modules beside the kernel's; those of a process are seen through `user`.
    pub fn put_modules(&mut self, others: Vec<Module>, user: Option<UserSpace>) {
        let Some(open) = self.current_target() else { return };
        let open = open.with_modules(others, user);
        if let Some(place) = self.targets.get_mut(self.current) {
            *place = Arc::new(open);
        }
        self.notify(event::SYMBOLS_CHANGED);
    }

    /// The symbol path, with the servers that this run asks.
    pub fn parsed_symbol_path(&self) -> SymbolPath {
        SymbolPath::parse(&self.settings.symbol_path).asking(&self.servers)
    }

    /// Whether every place that is looked at for symbols is told.
    pub fn set_noisy(&mut self, noisy: bool) {
        self.settings.noisy = noisy;
        for open in &self.targets {
            open.symbols.set_voice(self.voice());
        }
    }

    fn voice(&self) -> Option<Arc<dyn Watch>> {
        self.settings.noisy.then(|| Arc::new(Watcher(Arc::clone(&self.ui))) as Arc<dyn Watch>)
    }

    /// The short analysis that KD prints at load; with JSON there is none, `!analyze` is asked for there. Its
    /// absence is not an error: the extension may not be there.
    pub fn analyze_at_load(&mut self, out: &Out<'_>) {
        let open = self.current_target().filter(|open| open.target.header().bug_check.is_some()).cloned();
        let Some(open) = open.filter(|_| !self.ui.is_json()) else { return };
        if !self.settings.analyze_at_load {
            return commands::show_bug_check_line(&open, out);
        }
        self.load_own_for("analyze");
        match self.chain.find(CommandName::parse("analyze")) {
            Ok(_) => {
                let _ = self.run_extension("analyze", "", out);
            }
            Err(error) => {
                commands::show_bug_check_line(&open, out);
                out.line(&format!("No analysis at load: {error}"));
            }
        }
    }

    /// Open targets in order of opening.
    pub fn targets(&self) -> &[Arc<OpenTarget>] {
        &self.targets
    }

    /// The current target.
    pub fn current_target(&self) -> Option<&Arc<OpenTarget>> {
        self.targets.get(self.current)
    }

    /// Makes a target current; its crashing processor becomes the current one.
    pub fn make_current(&mut self, index: usize) {
        self.current = index;
        self.last_display = LastDisplay::default();
        self.last_code = None;
        self.contexts = Contexts::default();
        self.processor = self.current_target().map_or(0, |open| open.target.current_processor());
        self.notify(event::TARGET_CHANGED);
    }

    /// Closes the current target; the latest of the others becomes current.
    pub fn detach(&mut self) -> Option<u32> {
        if self.current >= self.targets.len() {
            return None;
        }
        self.notify(event::TARGET_CLOSED);
        let closed = self.targets.remove(self.current);
        self.make_current(self.targets.len().saturating_sub(1));
        Some(closed.number)
    }

    /// The processor that commands look at.
    pub fn processor(&self) -> u32 {
        self.processor
    }

    /// Makes a processor current.
    pub fn set_processor(&mut self, processor: u32) {
        self.processor = processor;
        self.last_display = LastDisplay::default();
        self.contexts.machine = None;
        self.set_registers(None);
    }

    /// Makes registers the ones that commands look at; `None` for the processor's own.
    pub fn set_registers(&mut self, context: Option<ExplicitContext>) {
        self.contexts.registers = context.map(Arc::new);
        (self.contexts.frame, self.contexts.local) = (0, None);
        self.last_code = None;
    }

    /// What commands look at now, or at the processor of a prefix such as `3r`.
    pub fn scope(&self, processor: Option<u32>) -> Result<Scope> {
        let scope = Scope {
            open: self.current_target().cloned(),
            processor: processor.unwrap_or(self.processor),
            radix: self.settings.radix,
            look: Look { radix: self.settings.radix, ..self.settings.look },
            variables: self.variables.clone(),
            // A processor prefix asks for what ran on it, even on the current one.
            contexts: Contexts {
                registers: self.contexts.registers.clone().filter(|_| processor.is_none()),
                local: self.contexts.local.clone().filter(|_| processor.is_none()),
                ..self.contexts.clone()
            },
        };
        if let (Some(open), Some(processor)) = (&scope.open, processor) {
            let count = open.target.processors().len() as u32;
            if processor >= count {
                return Err(Error::Usage(format!(
                    "processor {processor} does not exist; this target has {count}"
                )));
            }
        }
        Ok(scope)
    }

    /// The prompt: `kd>`, `3: kd>`, `||1:3: kd>`.
    pub fn prompt(&self) -> String {
        let Some(open) = self.current_target() else { return "kd> ".to_owned() };
        let system = if self.targets.len() > 1 { format!("||{}:", open.number) } else { String::new() };
        let machine = self.contexts.machine.map_or(String::new(), |machine| format!(":{machine}"));
        if open.target.processors().len() as u32 > 1 {
            format!("{system}{}: kd{machine}> ", self.processor)
        } else {
            format!("{system}{}kd{machine}> ", if system.is_empty() { "" } else { " " })
        }
    }

    // ----- running ---------------------------------------------------------------------------------------------

    /// True after `q`.
    pub fn wants_to_quit(&self) -> bool {
        self.quit || self.ui.is_broken()
    }

    /// Ends the session after this command.
    pub fn quit(&mut self) {
        self.quit = true;
    }

    /// True if any command failed.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Makes the names of extension commands known to completion.
    pub fn prepare_completion(&mut self) {
        self.load_own_extensions();
    }

    /// True once for each Ctrl+C.
    pub fn interrupted(&self) -> bool {
        interrupt::take_interrupt()
    }

    /// Runs every command of a line, each with a record of its own; Ctrl+C drops the rest of the line.
    pub fn execute_line(&mut self, line: &str) {
        interrupt::take_interrupt();
        self.program = Program::default();
        self.shelf.remember(line);
        let line = self.aliases.expand(line);
        let commands = commands::split_commands(&line);
        let mut next = 0;
        while let Some(command) = commands.get(next) {
            next += 1;
            if self.wants_to_quit() {
                return;
            }
            if matches!(Word::parse(command), Word::Nothing) {
                continue;
            }
            let status = self.record(command, |session, out| session.run(command, out));
            if status == Status::Interrupted {
                return;
            }
            if self.program.take_again() {
                next = 0;
            }
        }
    }

    /// Runs the commands of a block, aliases replaced, up to the first that fails.
    pub fn run_block(&mut self, text: &str, out: &Out<'_>) -> Result<()> {
        if self.nesting >= MAX_NESTING {
            return Err(Error::Other(format!("commands are nested more than {MAX_NESTING} deep")));
        }
        let text = self.aliases.expand(text);
        let commands = commands::split_commands(&text);
        let mut next = 0;
        while let Some(command) = commands.get(next) {
            next += 1;
            if self.wants_to_quit() {
                break;
            }
            self.nesting += 1;
            let outcome = self.run(command, out);
            self.nesting = self.nesting.saturating_sub(1);
            outcome?;
            if self.program.take_again() {
                next = 0;
            }
        }
        Ok(())
    }

    /// Runs the commands of a block; the text they show.
    pub fn run_captured(&mut self, text: &str) -> Result<String> {
        let capture = Capture::new();
        self.run_block(text, &Out::new(&capture))?;
        Ok(capture.into_text())
    }

    /// Runs `body` inside a command record and notes its failure.
    fn record(&mut self, line: &str, body: impl FnOnce(&mut Session, &Out<'_>) -> Result<()>) -> Status {
        self.sequence += 1;
        let ui = Arc::clone(&self.ui);
        let target = self.current_target().map(|open| open.number);
        ui.begin_command(&CommandHead { seq: self.sequence, target, line });
        let out = ui.out();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(self, &out)));
        let status = match result {
            Ok(Ok(())) => Status::Ok,
            Ok(Err(error)) => self.report(&error, &out),
            Err(_) => {
                self.nesting = 0;
                out.error("internal error: the command panicked; the session goes on. Please report this");
                Status::Failed
            }
        };
        self.failed |= status != Status::Ok;
        ui.end_command(status);
        status
    }

    fn report(&self, error: &Error, out: &Out<'_>) -> Status {
        match error {
            Error::Interrupted => {
                out.warning("interrupted");
                Status::Interrupted
            }
            Error::ContinueSearch => Status::Unknown,
            // An extension has said it already.
            Error::Other(text) if text.is_empty() => Status::Failed,
            error => {
                out.error(&error.to_string());
                Status::Failed
            }
        }
    }

    /// Runs one command; its text goes to `out`.
    pub fn run(&mut self, command: &str, out: &Out<'_>) -> Result<()> {
        match Word::parse(command) {
            Word::Nothing => Ok(()),
            Word::Extension { word, args } => self.run_extension(word, args, out),
            Word::Builtin { name, args, processor } => {
                let row = commands::rows().find(|row| row.names.contains(&name));
                let row = row.ok_or_else(|| Error::NotFound(format!("no command '{name}'")))?;
                if row.needs == Needs::Target {
                    self.need_target(name)?;
                }
                (row.run)(self, out, &Call { name, args, processor })
            }
            Word::Unknown { word } => {
                let why = commands::why_not(word);
                out.error(&why.unwrap_or_else(|| {
                    format!("no command '{word}'; .help lists commands, .chain extensions")
                }));
                Err(Error::ContinueSearch)
            }
        }
    }

    fn need_target(&self, name: &str) -> Result<()> {
        if self.current_target().is_some() {
            return Ok(());
        }
        let next = if self.pending.is_empty() {
            "no dump is open: .opendump FILE, then g"
        } else {
            "the dump is not loaded yet: type g"
        };
        Err(Error::Unsupported(format!("{name}: {next}")))
    }

    /// Loads what answers to a command: its own extension alone where it has one, else all of kd's own.
    fn load_own_for(&mut self, command: &str) {
        if !self.chain.load_own_for(command) {
            self.load_own_extensions();
        }
    }

    /// Loads kd's own extensions once, and says what could not be loaded.
    pub fn load_own_extensions(&mut self) {
        for error in self.chain.load_own() {
            self.ui.out().warning(&error.to_string());
        }
    }

    /// Runs `!word args`. Extensions that decline (`CONTINUE_SEARCH`) pass the command on to the next one.
    pub fn run_extension(&mut self, word: &str, args: &str, out: &Out<'_>) -> Result<()> {
        let name = CommandName::parse(word);
        if name.command.eq_ignore_ascii_case("help") {
            self.load_own_extensions();
            return commands::extension_help(self, name.extension, args, out);
        }
        match name.extension {
            None => self.load_own_for(&name.command.to_lowercase()),
            Some(_) => self.load_own_extensions(),
        }
        let found = self.chain.find(name).map_err(|error| {
            out.error(&error.to_string());
            Error::ContinueSearch
        })?;
        for (extension, row) in found {
            if row.needs & (needs::TARGET | needs::KERNEL_TYPES | needs::PHYSICAL) != 0 {
                self.need_target(&format!("!{word}"))?;
            }
            self.check_needs(&row)?;
            match self.call(&extension, &row, args, out)? {
                status::CONTINUE_SEARCH => {}
                status::OK => return Ok(()),
                status::INTERRUPTED => return Err(Error::Interrupted),
                // The extension has said why.
                _ => return Err(Error::Other(String::new())),
            }
        }
        if !self.chain.has_loaded_own() {
            self.load_own_extensions();
            return self.run_extension(word, args, out);
        }
        Err(Error::NotFound(format!("!{word}: every extension passed this on")))
    }

    fn check_needs(&self, row: &CommandRow) -> Result<()> {
        let Some(open) = self.current_target() else { return Ok(()) };
        if row.needs & needs::PHYSICAL != 0 && open.target.dump().physical().is_none() {
            return Err(Error::Unsupported(format!(
                "!{} needs physical memory, which a {} dump does not hold",
                row.name,
                open.target.dump().kind()
            )));
        }
        if row.needs & needs::KERNEL_TYPES != 0 {
            let dump = open.target.dump();
            if dump.physical().is_none() && dump.virtual_blocks().is_none() {
                return Err(Error::Unsupported(format!(
                    "!{} needs the kernel: its memory is not captured in this dump ({})",
                    row.name,
                    dump.kind()
                )));
            }
            open.symbols.types(&open.target, "nt").map_err(|error| {
                Error::NoSymbols(format!("!{} needs the kernel's types: {error}", row.name))
            })?;
        }
        Ok(())
    }

    fn call(&mut self, extension: &Arc<Loaded>, row: &CommandRow, args: &str, out: &Out<'_>) -> Result<i32> {
        if self.nesting >= MAX_NESTING {
            return Err(Error::Other(format!("commands are nested more than {MAX_NESTING} deep")));
        }
        let scope = self.scope(None)?;
        self.nesting += 1;
        let mut main = CommandServer { session: self, out, complained: false };
        let ended = worker::run(extension, Work::Command(row.index, args.to_owned()), scope, &mut main);
        let complained = main.complained;
        self.nesting -= 1;
        match ended {
            Ok(Ended::Status(code)) => {
                let failed = !matches!(code, status::OK | status::INTERRUPTED | status::CONTINUE_SEARCH);
                if failed && !complained {
                    out.error(&format!("!{} failed: {}", row.name, status::meaning(code)));
                }
                Ok(code)
            }
            Ok(Ended::Abandoned) => {
                out.warning(&format!(
                    "!{} did not stop and was left behind; {} stays in memory",
                    row.name, extension.name
                ));
                Ok(status::INTERRUPTED)
            }
            Err(error) => Err(Error::Other(format!("cannot start a thread for !{}: {error}", row.name))),
        }
    }

    /// Tells the extensions that keep something between commands of a change (see [`kd_sdk::abi::event`]).
    pub fn notify(&mut self, event: u32) {
        let Some(number) = self.current_target().map(|open| open.number) else { return };
        let curious: Vec<_> =
            self.chain.loaded().iter().filter(|extension| extension.wants_notes()).cloned().collect();
        let ui = Arc::clone(&self.ui);
        let out = ui.out();
        for extension in curious {
            let Ok(scope) = self.scope(None) else { return };
            let mut main = CommandServer { session: self, out: &out, complained: false };
            let _ = worker::run(&extension, Work::Note(event, number.into()), scope, &mut main);
        }
    }

    /// Runs every command of a line and returns the text.
    fn execute_captured(&mut self, line: &str) -> (i32, String) {
        let capture = Capture::new();
        let mut code = status::OK;
        for command in commands::split_commands(line) {
            if self.nesting >= MAX_NESTING {
                return (status::FAILED, format!("commands are nested more than {MAX_NESTING} deep"));
            }
            let out = Out::new(&capture);
            self.nesting += 1;
            let result = self.run(command, &out);
            self.nesting -= 1;
            if let Err(error) = result {
                self.report(&error, &out);
                code = if error == Error::Interrupted { status::INTERRUPTED } else { status::FAILED };
                break;
            }
        }
        (code, capture.into_text())
    }
}

/// Watches symbols being looked for.
struct Watcher(Arc<Ui>);

impl Watch for Watcher {
    fn progress(&self, done: u64, total: u64, label: &str) {
        self.0.progress(done, total, label);
    }

    fn finished(&self) {
        self.0.clear_progress();
    }

    fn interrupted(&self) -> bool {
        interrupt::interrupt_flag().load(Ordering::Relaxed) != 0
    }

    fn say(&self, line: &str) {
        self.0.out().line(line);
    }
}

/// What a running extension command is served by.
struct CommandServer<'a> {
    session: &'a mut Session,
    out: &'a Out<'a>,
    /// The command has said what is wrong.
    complained: bool,
}

impl Main for CommandServer<'_> {
    fn emit(&mut self, event: &Event<'_>) {
        self.complained |= matches!(event, Event::Message { severity: Severity::Error, .. });
        self.out.sink().emit(event);
    }

    fn progress(&mut self, done: u64, total: u64, label: &str) {
        self.session.ui.progress(done, total, label);
    }

    fn execute(&mut self, line: &str) -> (i32, String) {
        self.session.execute_captured(line)
    }

    fn take_interrupt(&mut self) -> bool {
        interrupt::take_interrupt()
    }
}
