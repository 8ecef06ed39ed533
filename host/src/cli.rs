//! The command line: the options of Microsoft's KD in KD's spelling, and a few of kd's own.
//!
//! [`ROWS`] is the whole truth about options: spelling, argument, what becomes of it, help. Arguments are brought into one
//! form by that table, clap parses that form, and [`Options`] holds the result. An option that does nothing here is parsed
//! all the same and says so in [`Options::notes`]; one that cannot be meant for a dump is an error. [`Environment`] holds
//! the variables.

mod environment;
mod normal;
mod table;
#[cfg(test)]
mod tests;

pub use environment::Environment;
pub use table::{
    Argument, DEFAULT_SYMBOL_OPTIONS, Effect, Group, IGNORE_ENVIRONMENT, ROWS, Row, help, version,
};

pub use crate::expr::Evaluator;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::path::PathBuf;
use table::SYMBOL_BITS;

/// A log file to open at the start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFile {
    /// The file.
    pub path: PathBuf,
    /// At the end of what it has.
    pub append: bool,
}

/// What the command line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Dumps to open, in order.
    pub dumps: Vec<PathBuf>,
    /// Page files.
    pub page_files: Vec<PathBuf>,
    /// Open dumps that are cut short.
    pub partial: bool,
    /// Dumps are read with file reads.
    pub no_mmap: bool,
    /// `-y`, several joined with `;`. See [`Options::symbol_path`].
    pub symbols: Option<String>,
    /// `-i`, likewise.
    pub images: Option<String>,
    /// `-srcpath`, likewise.
    pub sources: Option<String>,
    /// The symbol options in force.
    pub symbol_options: u32,
    /// `-failinc`.
    pub fail_incomplete: bool,
    /// Commands to run at the start, each argument verbatim, in order.
    pub commands: Vec<String>,
    /// Scripts to run before them; a missing one is no error.
    pub scripts: Vec<PathBuf>,
    /// The extension that `!command` is looked for in first.
    pub default_extension: Option<String>,
    /// The evaluator, if it was said.
    pub evaluator: Option<Evaluator>,
    /// JSON output.
    pub json: bool,
    /// No colours.
    pub no_color: bool,
    /// Verbose.
    pub verbose: bool,
    /// Registers are shown at every stop.
    pub registers: bool,
    /// The log.
    pub log: Option<LogFile>,
    /// `.shell` is forbidden, for good.
    pub no_shell: bool,
    /// Secure mode, for good.
    pub secure: bool,
    /// What the user must know about options that do nothing here.
    pub notes: Vec<String>,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Run a session.
    Run(Box<Options>),
    /// Print this and end well.
    Print(String),
}

/// Why the arguments make no sense: what, where, what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Reads the arguments that follow the program's name.
///
/// # Errors
/// [`UsageError`] says all there is to say in one message; the exit status is 2.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, UsageError> {
    let normal = normal::normalize(args.into_iter().collect())?;
    let matches = command().try_get_matches_from(&normal).map_err(|e| UsageError(explain(&e)))?;
    if matches.get_count("?") + matches.get_count("help") > 0 {
        return Ok(Request::Print(help()));
    }
    if matches.get_count("version") > 0 {
        return Ok(Request::Print(version()));
    }
    options(&matches).map(|options| Request::Run(Box::new(options)))
}

/// The table as clap knows it.
fn command() -> Command {
    let mut command = Command::new("kd")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(false)
        .no_binary_name(false);
    let mut seen = Vec::new();
    for row in ROWS {
        if seen.contains(&row.name) {
            continue;
        }
        seen.push(row.name);
        let arg = Arg::new(row.name).long(row.name);
        command = command.arg(match row.argument {
            Argument::None => arg.action(ArgAction::Count),
            Argument::Next(value) | Argument::Glued(value) => {
                let arg = arg
                    .value_name(value)
                    .action(if row.repeats { ArgAction::Append } else { ArgAction::Set })
                    .require_equals(true)
                    .allow_hyphen_values(true);
                match row.name {
                    "sflags" => arg.value_parser(parse_flags),
                    "ee" => arg.value_parser(parse_evaluator),
                    "t" | "clines" => arg.value_parser(parse_count),
                    _ => arg.value_parser(clap::value_parser!(OsString)),
                }
            }
        });
    }
    command
}

fn parse_flags(text: &str) -> Result<u32, String> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "a number of 32 bits is wanted, best as 0x and hex digits".to_owned())
}

fn parse_evaluator(text: &str) -> Result<Evaluator, String> {
    evaluator(text).ok_or_else(|| "the evaluators are masm and c++".to_owned())
}

fn parse_count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "a number is wanted".to_owned())
}

fn evaluator(text: &str) -> Option<Evaluator> {
    match text.trim().to_ascii_lowercase().as_str() {
        "masm" => Some(Evaluator::Masm),
        "c++" => Some(Evaluator::Cpp),
        _ => None,
    }
}

/// clap's error in our words and KD's spelling.
fn explain(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let named = context(ContextKind::InvalidArg);
    let name = named.trim_start_matches('-').split([' ', '=', '<', '[']).next().unwrap_or_default();
    let name = ROWS
        .iter()
        .find(|row| row.name == name)
        .map_or_else(|| named.to_owned(), |row| format!("{}{}", row.dashes, row.name));
    match error.kind() {
        ErrorKind::ArgumentConflict => format!("{name} is given twice"),
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("{name} {}: {why}", context(ContextKind::InvalidValue))
        }
        ErrorKind::TooManyValues => format!("{name} takes no value"),
        ErrorKind::InvalidUtf8 => "an argument is not valid Unicode".to_owned(),
        kind => format!("{name}: {kind}"),
    }
}

/// The typed result of a parse.
fn options(matches: &ArgMatches) -> Result<Options, UsageError> {
    let flag = |name: &str| matches.get_count(name) > 0;
    let values = |name: &str| matches.get_many::<OsString>(name).into_iter().flatten();
    let paths = |name: &str| values(name).map(PathBuf::from).collect::<Vec<_>>();
    let texts = |name: &str| {
        values(name)
            .map(|value| match value.to_str() {
                Some(text) => Ok(text.to_owned()),
                None => Err(UsageError(format!("-{name} {}: not valid Unicode", value.display()))),
            })
            .collect::<Result<Vec<_>, _>>()
    };
    let joined = |name: &str| texts(name).map(|texts| (!texts.is_empty()).then(|| texts.join(";")));

    let mut symbol_options = matches.get_one::<u32>("sflags").copied().unwrap_or(DEFAULT_SYMBOL_OPTIONS);
    for &(name, set, clear) in SYMBOL_BITS {
        if flag(name) {
            symbol_options = symbol_options & !clear | set;
        }
    }
    let logs: Vec<(&str, LogFile)> = [("logo", false), ("loga", true), ("logou", false), ("logau", true)]
        .into_iter()
        .flat_map(|(name, append)| paths(name).into_iter().map(move |path| (name, LogFile { path, append })))
        .collect();
    if let [(first, _), (second, _), ..] = logs.as_slice() {
        return Err(UsageError(format!("-{first} and -{second} are both given: there is one log")));
    }
    let mut notes = Vec::new();
    for row in ROWS {
        let used = match row.argument {
            Argument::None => flag(row.name),
            _ => matches.contains_id(row.name),
        };
        if let (true, Effect::Later(why) | Effect::Ignored(why)) = (used, row.effect) {
            notes.push(format!("-{}: {why}", row.name));
        }
    }
    let mut scripts = paths("cf");
    scripts.extend(paths("cfr"));
    for name in ["z", "zp", "cf", "cfr", "logo", "loga", "logou", "logau"] {
        if values(name).any(|value| value.is_empty()) {
            return Err(UsageError(format!("-{name} is given an empty name")));
        }
    }
    Ok(Options {
        dumps: paths("z"),
        page_files: paths("zp"),
        partial: flag("partial"),
        no_mmap: flag("no-mmap"),
        symbols: joined("y")?,
        images: joined("i")?,
        sources: joined("srcpath")?,
        symbol_options,
        fail_incomplete: flag("failinc"),
        commands: texts("c")?,
        scripts,
        default_extension: texts("a")?.pop(),
        evaluator: matches.get_one("ee").copied(),
        json: flag("json"),
        no_color: flag("no-color"),
        verbose: flag("v"),
        registers: flag("r"),
        log: logs.into_iter().map(|(_, log)| log).next(),
        no_shell: flag("noshell") || flag("secure"),
        secure: flag("secure"),
        notes,
    })
}

impl Options {
    /// The symbol path in force: `-y`, then the environment's unless `-sins`. Empty if there is none.
    pub fn symbol_path(&self, environment: &Environment) -> String {
        self.path(&self.symbols, &environment.symbols)
    }

    /// The executable image path, likewise.
    pub fn image_path(&self, environment: &Environment) -> String {
        self.path(&self.images, &environment.images)
    }

    /// The source path: `-srcpath`, then the environment's.
    pub fn source_path(&self, environment: &Environment) -> String {
        join([&self.sources, &environment.sources].into_iter().flatten())
    }

    fn path(&self, own: &Option<String>, environment: &Option<String>) -> String {
        let environment = environment.as_ref().filter(|_| self.symbol_options & IGNORE_ENVIRONMENT == 0);
        join(own.as_ref().into_iter().chain(environment))
    }
}

/// Parts of a path that are not empty, in order.
fn join<'a>(parts: impl Iterator<Item = &'a String>) -> String {
    let parts: Vec<&str> = parts.map(|part| part.trim_matches(';')).filter(|part| !part.is_empty()).collect();
    parts.join(";")
}
