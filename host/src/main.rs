//! The console program: arguments in, commands run, an exit status out.
//!
//! Exit status: 0 everything worked, 1 a command failed, 2 a dump could not be opened or the arguments are wrong.

use kd::cli::{self, Environment, Options, Request};
use kd::commands;
use kd::session::Session;
use kd::ui::{Color, Input, Repeat, Ui, UiOptions, interrupt};
use std::process::ExitCode;
use std::sync::Arc;

const FAILED: u8 = 1;
const NOT_OPENED: u8 = 2;

fn main() -> ExitCode {
    // A panic is a bug of ours; it must cost one command, not the terminal's contents.
    std::panic::set_hook(Box::new(|info| log::error!("{info}")));
    let options = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Request::Run(options)) => options,
        Ok(Request::Print(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("kd: {error}");
            return ExitCode::from(NOT_OPENED);
        }
    };
    ExitCode::from(run(&options, &Environment::from_env()))
}

fn run(options: &Options, environment: &Environment) -> u8 {
    let ui = Arc::new(Ui::new(UiOptions {
        json: options.json,
        color: if options.no_color || environment.no_color { Color::Never } else { Color::Auto },
        verbose: options.verbose,
        history_size: environment.history_size.unwrap_or(1000),
    }));
    if let Err(error) = interrupt::install() {
        ui.out().warning(&format!("Ctrl+C ends the program: {error}"));
    }
    let mut session = Session::new(Arc::clone(&ui), options, environment);
    let mut status = open_dumps(&mut session, options, environment);
    if status == NOT_OPENED && session.targets().is_empty() {
        return status;
    }
    start(&mut session, options);
    if !session.wants_to_quit() {
        prompt(&mut session);
    }
    if session.has_failed() && status == 0 {
        status = FAILED;
    }
    status
}

/// Opens every `-z`; one message for each that cannot be opened, and the others are opened all the same.
fn open_dumps(session: &mut Session, options: &Options, environment: &Environment) -> u8 {
    let ui = Arc::clone(session.ui());
    let mut dumps = Vec::new();
    let mut status = 0;
    for path in &options.dumps {
        match session.open_dump(path, None) {
            Ok(dump) => dumps.push(dump),
            Err(error) => {
                ui.fatal(&error.to_string());
                status = NOT_OPENED;
            }
        }
    }
    if dumps.is_empty() && status == NOT_OPENED {
        return status;
    }
    if let Some(log) = options.log.as_ref().or(environment.log.as_ref())
        && let Err(error) = ui.open_log(&log.path, log.append)
    {
        ui.fatal(&format!("cannot open the log {}: {error}", log.path.display()));
        return NOT_OPENED;
    }
    if !ui.is_json() {
        ui.out().line(&cli::version());
    }
    for note in options.notes.iter().chain(&environment.notes) {
        ui.out().warning(note);
    }
    for dump in dumps {
        session.attach(dump);
    }
    status
}

/// `-r`, `-aEXT`, `-cf` and `-c`, in that order.
fn start(session: &mut Session, options: &Options) {
    if let Some(name) = &options.default_extension {
        session.execute_line(&format!(".setdll {name}"));
    }
    if options.registers && session.current_target().is_some() {
        session.execute_line("r");
    }
    let scripts: Vec<_> =
        if options.scripts.is_empty() { vec!["ntsd.ini".into()] } else { options.scripts.clone() };
    for script in &scripts {
        // As documented, a start-up script that does not exist is no error.
        let Ok(text) = std::fs::read_to_string(script) else { continue };
        for line in text.lines() {
            if session.wants_to_quit() {
                return;
            }
            session.execute_line(line);
        }
    }
    for line in &options.commands {
        if session.wants_to_quit() {
            return;
        }
        if !session.ui().is_json() {
            session.ui().out().line(&format!("kd: Reading initial command '{line}'"));
        }
        session.execute_line(line);
    }
}

fn prompt(session: &mut Session) {
    let mut repeat = Repeat::new();
    while !session.wants_to_quit() {
        let prompt = session.prompt();
        let ui = Arc::clone(session.ui());
        session.prepare_completion();
        let names = commands::completions(session);
        match ui.prompt(&prompt, &|_, _| names.clone()) {
            Input::Line(line) => {
                if let Some(line) = repeat.resolve(&line) {
                    session.execute_line(&line);
                }
            }
            Input::Interrupted => {}
            Input::Eof => return,
        }
    }
}
