//! The command line: the options of Microsoft's KD in KD's spelling, and a few of kd's own.
//!
//! [`ROWS`] is the whole truth about options: spelling, argument, what becomes of it, help. Arguments are brought into one
//! form by that table (`/z FILE`, `-rnv` and `-aEXT` become `--z=FILE`, `--r --n --v`, `--a=EXT`), clap parses that form,
//! and [`Options`] holds the result. An option that does nothing here is parsed all the same and says so in
//! [`Options::notes`]; one that cannot be meant for a dump is an error. [`Environment`] holds the variables.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What an option takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Argument {
    /// Nothing.
    None,
    /// The next argument.
    Next(&'static str),
    /// The rest of its own argument (`-aEXT`).
    Glued(&'static str),
}

/// What an option does here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// What its help says.
    Now,
    /// Nothing yet: what is missing.
    Later(&'static str),
    /// Nothing: why it does not matter.
    Ignored(&'static str),
    /// It ends in an error: why.
    Refused(&'static str),
}

/// Where the help shows an option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// What is opened.
    Target,
    /// Where symbols come from and how they are used.
    Symbols,
    /// What runs at the start.
    Startup,
    /// What is shown, and where.
    Output,
    /// What a session may do.
    Session,
    /// Sessions over the network.
    Remote,
    /// Live targets.
    Live,
}

const GROUPS: [(Group, &str); 7] = [
    (Group::Target, "Dumps"),
    (Group::Symbols, "Symbols, images and sources"),
    (Group::Startup, "Commands"),
    (Group::Output, "Output"),
    (Group::Session, "Session"),
    (Group::Remote, "Remote sessions"),
    (Group::Live, "Live targets (kd opens dumps only)"),
];

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Spelling without the dash; lower case unless case counts.
    pub name: &'static str,
    /// One dash (or `/`), or two.
    pub dashes: &'static str,
    /// What it takes.
    pub argument: Argument,
    /// May be given more than once.
    pub repeats: bool,
    /// What it does.
    pub effect: Effect,
    /// Where it is listed.
    pub group: Group,
    /// One line of help.
    pub help: &'static str,
}

const LIVE: Effect =
    Effect::Refused("it is for live targets, and kd opens dumps only; open one with -z FILE");
const REMOTE: Effect = Effect::Refused("kd has no remote sessions; run it where the dump is");

/// An option of KD.
const fn kd(group: Group, name: &'static str, argument: Argument, effect: Effect, help: &'static str) -> Row {
    Row { name, dashes: "-", argument, repeats: false, effect, group, help }
}

/// An option of KD that may be repeated.
const fn kd_many(
    group: Group,
    name: &'static str,
    argument: Argument,
    effect: Effect,
    help: &'static str,
) -> Row {
    Row { name, dashes: "-", argument, repeats: true, effect, group, help }
}

/// A flag of our own.
const fn own(group: Group, name: &'static str, effect: Effect, help: &'static str) -> Row {
    Row { name, dashes: "--", argument: Argument::None, repeats: false, effect, group, help }
}

/// Every option.
pub const ROWS: &[Row] = {
    use Argument::{Glued, Next, None};
    use Effect::{Ignored, Later, Now};
    use Group::{Live, Output, Remote, Session, Startup, Symbols, Target};
    &[
        kd_many(
            Target,
            "z",
            Next("FILE"),
            Now,
            "Open a dump, or a CAB that holds one; repeat for more dumps",
        ),
        kd_many(
            Target,
            "zp",
            Next("FILE"),
            Later("page files are not read yet"),
            "Take paged-out memory from a page file",
        ),
        own(Target, "no-mmap", Now, "Read dumps with file reads in place of a memory map (network drives)"),
        kd_many(
            Symbols,
            "y",
            Next("PATH"),
            Now,
            "Symbol path: folders, cache* and srv* elements, parted by ;",
        ),
        kd_many(Symbols, "i", Next("PATH"), Now, "Executable image path"),
        kd_many(Symbols, "srcpath", Next("PATH"), Later("source text is not shown yet"), "Source path"),
        kd(Symbols, "lines", None, Now, "Load source line information"),
        kd(Symbols, "n", None, Now, "Say what symbol loading does (noisy)"),
        kd(Symbols, "s", None, Now, "Load symbols at once, not when they are needed"),
        kd(Symbols, "sflags", Next("0xN"), Now, "Replace all symbol options"),
        kd(Symbols, "failinc", None, Now, "Distrust questionable symbols and images"),
        kd(Symbols, "ses", None, Now, "Use symbols that match exactly only"),
        kd(Symbols, "sicv", None, Now, "Ignore the CodeView record of images"),
        kd(Symbols, "sins", None, Now, "Ignore the path variables of the environment"),
        kd(Symbols, "snc", None, Now, "No C++ translation of names"),
        kd(Symbols, "snul", None, Now, "Load no symbols for names without a module"),
        kd(Symbols, "sup", None, Now, "Search public symbols in every search"),
        kd(
            Symbols,
            "sdce",
            None,
            Ignored("kd never shows dialog boxes"),
            "Show dialog boxes for file errors",
        ),
        kd_many(Startup, "c", Next("\"CMDS\""), Now, "Run commands at the start, parted by ;"),
        kd_many(Startup, "cf", Next("FILE"), Now, "Run a script at the start; a missing file is no error"),
        kd_many(Startup, "cfr", Next("FILE"), Now, "Like -cf (a dump never restarts)"),
        kd(Startup, "a", Glued("EXT"), Now, "Default extension library: -aEXT, without a suffix"),
        kd(Startup, "ee", Next("masm|c++"), Now, "Default expression evaluator"),
        own(Output, "json", Now, "One JSON object a command, on a line of its own"),
        own(Output, "no-color", Now, "Plain text on terminals too"),
        kd(Output, "v", None, Now, "Verbose"),
        kd(Output, "r", None, Now, "Show registers at every stop"),
        kd(Output, "logo", Next("FILE"), Now, "Log to a new file"),
        kd(Output, "loga", Next("FILE"), Now, "Log to the end of a file"),
        kd(Output, "logou", Next("FILE"), Now, "Like -logo, in Unicode (every log is UTF-8)"),
        kd(Output, "logau", Next("FILE"), Now, "Like -loga, in Unicode (every log is UTF-8)"),
        kd(Session, "noshell", None, Now, "Forbid .shell for the whole session"),
        kd(
            Session,
            "secure",
            None,
            Later("only .shell is forbidden; commands may still write files"),
            "Secure mode",
        ),
        kd(
            Session,
            "myob",
            None,
            Ignored("kd does not use dbghelp"),
            "Run although dbghelp has another version",
        ),
        kd(Session, "version", None, Now, "Print the version"),
        own(Session, "version", Now, "Print the version"),
        kd(Session, "?", None, Now, "Print this help"),
        own(Session, "help", Now, "Print this help"),
        kd(
            Remote,
            "server",
            Next("TRANSPORT"),
            Later("the session is local only"),
            "Serve the session; first option",
        ),
        kd(Remote, "remote", Next("TRANSPORT"), REMOTE, "Join a session; first option"),
        kd(Remote, "QR", Next("HOST"), REMOTE, "List the sessions of a host"),
        kd(
            Remote,
            "clines",
            Next("N"),
            Later("there are no remote sessions"),
            "Lines a remote client is given",
        ),
        kd(Remote, "noio", None, Later("there are no remote sessions"), "Serve without own input and output"),
        kd(Remote, "iu", Next("KEY"), Ignored("there is no shell to register with"), "Register remote URLs"),
        kd(Live, "k", Next("TRANSPORT"), LIVE, "Connect to a kernel"),
        kd(Live, "kl", None, LIVE, "Debug the kernel of this machine"),
        kd(Live, "kx", Next("TRANSPORT"), LIVE, "Connect to a kernel through an interface"),
        kd(Live, "kqm", None, LIVE, "Connect quietly"),
        kd(Live, "b", None, LIVE, "Break in when connected"),
        kd(Live, "bonc", None, LIVE, "Break in at session start"),
        kd(Live, "d", None, LIVE, "Break in when a module loads"),
        kd(Live, "x", None, LIVE, "Break in at the initial breakpoint"),
        kd(Live, "m", None, LIVE, "The line is a modem"),
        kd(Live, "wake", Next("PID"), LIVE, "Wake a sleeping debugger"),
        kd(Live, "t", Next("N"), Ignored("it filters what a live kernel prints"), "Print level, 0 to 3"),
    ]
};

/// Symbol options KD starts with.
pub const DEFAULT_SYMBOL_OPTIONS: u32 = 0x000b_0227;
/// The symbol option that ignores the path variables.
pub const IGNORE_ENVIRONMENT: u32 = 0x1000;

/// Bits an option sets and clears in the symbol options.
const SYMBOL_BITS: &[(&str, u32, u32)] = &[
    ("n", 0x8000_0000, 0),
    ("s", 0, 0x4),
    ("lines", 0x10, 0),
    ("failinc", 0x400, 0),
    ("ses", 0x400, 0),
    ("sicv", 0x80, 0),
    ("sins", IGNORE_ENVIRONMENT, 0),
    ("snc", 0x8, 0),
    ("snul", 0x100, 0),
    ("sup", 0, 0x1_0000),
    ("sdce", 0, 0x200),
];

/// An expression evaluator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evaluator {
    /// MASM.
    Masm,
    /// C++.
    Cpp,
}

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
    let normal = normalize(args.into_iter().collect())?;
    let matches = command().try_get_matches_from(&normal).map_err(|e| UsageError(explain(&e)))?;
    if matches.get_count("?") + matches.get_count("help") > 0 {
        return Ok(Request::Print(help()));
    }
    if matches.get_count("version") > 0 {
        return Ok(Request::Print(version()));
    }
    options(&matches).map(|options| Request::Run(Box::new(options)))
}

/// `kd 0.1.0 (linux x86_64)` and the end of the line.
pub fn version() -> String {
    format!("kd {} ({} {})\n", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH)
}

/// The help: every option, by group.
pub fn help() -> String {
    let mut text = version();
    text.push_str(
        "Opens Windows kernel crash dumps and runs commands on them.\n\n\
         Usage: kd -z FILE [-z FILE ...] [-y PATH] [-i PATH] [-c \"COMMANDS\"] [OPTIONS]\n\n\
         A dash may be a slash. Options without an argument may be glued: -nv is -n -v.\n",
    );
    for (group, title) in GROUPS {
        let _ = writeln!(text, "\n{title}:");
        for row in ROWS.iter().filter(|row| row.group == group) {
            let spelling = row.spelling();
            let _ = write!(text, "  {spelling:<18} {}", row.help);
            match row.effect {
                Effect::Now | Effect::Refused(_) => {}
                Effect::Later(why) | Effect::Ignored(why) => {
                    let _ = write!(text, " [no effect: {why}]");
                }
            }
            text.push('\n');
        }
    }
    text
}

impl Row {
    /// As it is typed: `-z FILE`, `-aEXT`, `--json`.
    pub fn spelling(&self) -> String {
        let (dashes, name) = (self.dashes, self.name);
        match self.argument {
            Argument::None => format!("{dashes}{name}"),
            Argument::Next(value) => format!("{dashes}{name} {value}"),
            Argument::Glued(value) => format!("{dashes}{name}{value}"),
        }
    }

    /// Case counts in these; everything else may be typed in any case.
    fn is_called(&self, name: &str) -> bool {
        match self.name {
            "remote" | "server" => self.name == name,
            own => own.eq_ignore_ascii_case(name),
        }
    }
}

fn kd_rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| row.dashes == "-")
}

/// What one argument that may be an option is.
enum Found {
    /// One option, which may want the next argument.
    One(&'static Row),
    /// Flags that are glued together.
    Flags(Vec<&'static Row>),
    /// An option with its argument.
    Glued(&'static Row, String),
    /// No option.
    Nothing,
}

fn find(name: &str) -> Found {
    let glued = |row: &Row| matches!(row.argument, Argument::Glued(_));
    if let Some(row) = kd_rows().find(|row| row.is_called(name) && !glued(row)) {
        return Found::One(row);
    }
    let flags: Option<Vec<&Row>> = name
        .chars()
        .map(|c| {
            kd_rows().find(|row| row.is_called(c.encode_utf8(&mut [0; 4])) && row.argument == Argument::None)
        })
        .collect();
    if let Some(flags) = flags.filter(|flags| !flags.is_empty()) {
        return Found::Flags(flags);
    }
    for row in kd_rows().filter(|row| glued(row)) {
        let rest = name.get(row.name.len()..).unwrap_or_default();
        if name.get(..row.name.len()).is_some_and(|start| row.is_called(start)) && !rest.is_empty() {
            return Found::Glued(row, rest.to_owned());
        }
    }
    // Every kind of kernel connection begins so.
    match kd_rows().find(|row| row.name == "k") {
        Some(row) if name.starts_with(['k', 'K']) => Found::One(row),
        _ => Found::Nothing,
    }
}

/// Brings arguments into the form that clap parses.
fn normalize(args: Vec<OsString>) -> Result<Vec<OsString>, UsageError> {
    let mut normal = vec![OsString::from("kd")];
    let mut args = args.into_iter().enumerate().peekable();
    let mut former: Option<&Row> = None;
    while let Some((index, arg)) = args.next() {
        let Some(name) = option_name(&arg) else { return Err(misplaced(&arg, former)) };
        if let Some(long) = name.strip_prefix('-') {
            let known = ROWS.iter().any(|row| row.dashes == "--" && row.name == long);
            if !known {
                return Err(unknown(&arg));
            }
            normal.push(arg);
            former = None;
            continue;
        }
        let (rows, value) = match find(&name) {
            Found::One(row) => (vec![row], None),
            Found::Flags(rows) => (rows, None),
            Found::Glued(row, value) => (vec![row], Some(OsString::from(value))),
            Found::Nothing => return Err(unknown(&arg)),
        };
        for row in rows {
            if let Effect::Refused(why) = row.effect {
                return Err(UsageError(format!("-{name} cannot be used: {why}")));
            }
            if matches!(row.name, "server") && index != 0 {
                return Err(UsageError(format!("-{} must be the first option", row.name)));
            }
            let value = match row.argument {
                Argument::None => None,
                Argument::Glued(_) => value.clone(),
                Argument::Next(wanted) => match args.peek() {
                    Some((_, next)) if !is_option(next) => args.next().map(|(_, next)| next),
                    Some((_, next)) => {
                        return Err(UsageError(format!(
                            "-{} wants {wanted}, but the option {} follows",
                            row.name,
                            next.display()
                        )));
                    }
                    None => return Err(UsageError(format!("-{} wants {wanted} after it", row.name))),
                },
            };
            let mut long = OsString::from("--");
            long.push(row.name);
            if let Some(value) = value {
                long.push("=");
                long.push(value);
            }
            normal.push(long);
            former = Some(row);
        }
    }
    Ok(normal)
}

/// The text after the dash or the slash of an option; none for anything else. Where paths begin with a slash, a slash
/// makes an option only if a known one follows and no file has that name.
fn option_name(arg: &OsStr) -> Option<String> {
    let text = arg.to_str()?;
    if let Some(name) = text.strip_prefix('-') {
        return (!name.is_empty()).then(|| name.to_owned());
    }
    let name = text.strip_prefix('/').filter(|name| !name.is_empty())?;
    if !cfg!(windows) {
        let path = name.contains('/') || Path::new(text).exists();
        if path || matches!(find(name), Found::Nothing) {
            return None;
        }
    }
    Some(name.to_owned())
}

/// Whether an argument is an option beyond doubt; other arguments may begin with a dash.
fn is_option(arg: &OsStr) -> bool {
    arg.to_str().and_then(|text| text.strip_prefix('-')).is_some_and(|name| {
        kd_rows().any(|row| row.is_called(name))
            || ROWS.iter().any(|row| name.strip_prefix('-') == Some(row.name))
    })
}

fn unknown(arg: &OsStr) -> UsageError {
    let text = arg.to_string_lossy();
    let name = text.trim_start_matches(['-', '/']);
    let lower = name.to_ascii_lowercase();
    let hint = if let Some(row) = kd_rows().find(|row| row.name == lower) {
        match row.argument {
            Argument::Glued(wanted) => format!("{wanted} follows it without a blank: {}", row.spelling()),
            _ => format!("it is spelled -{}", row.name),
        }
    } else if let Some(row) = ROWS.iter().find(|row| row.name == lower) {
        format!("it is spelled {}{}", row.dashes, row.name)
    } else if let Some((row, rest)) = ["z", "y", "i", "c"].iter().find_map(|start| {
        let rest = name.strip_prefix(start).filter(|rest| rest.len() > 2)?;
        Some((start, rest))
    }) {
        format!("did you mean -{row} {rest}? kd -? lists the options")
    } else {
        "kd -? lists the options".to_owned()
    };
    UsageError(format!("unknown option {text}: {hint}"))
}

fn misplaced(arg: &OsStr, former: Option<&Row>) -> UsageError {
    let text = arg.display();
    UsageError(match former {
        Some(row) if row.name == "c" => {
            format!("\"{text}\" is not an option: put all the commands of -c in one pair of quotes")
        }
        _ => format!("\"{text}\" is not an option: to open a dump, type -z {text}"),
    })
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
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    digits
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| "write symbol options as 0x and up to eight hex digits".to_owned())
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
            notes.push(format!("-{} has no effect: {why}", row.name));
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

/// What the environment asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Environment {
    /// `_NT_ALT_SYMBOL_PATH`, then `_NT_SYMBOL_PATH`.
    pub symbols: Option<String>,
    /// `_NT_EXECUTABLE_IMAGE_PATH`.
    pub images: Option<String>,
    /// `_NT_SOURCE_PATH`.
    pub sources: Option<String>,
    /// `_NT_DEBUGGER_EXTENSION_PATH`.
    pub extensions: Option<String>,
    /// `_NT_DEBUG_LOG_FILE_OPEN`, or `_NT_DEBUG_LOG_FILE_APPEND`. The command line's log comes first.
    pub log: Option<LogFile>,
    /// `_NT_EXPR_EVAL`. The command line's evaluator comes first.
    pub evaluator: Option<Evaluator>,
    /// `_NT_DEBUG_HISTORY_SIZE`: lines.
    pub history_size: Option<usize>,
    /// `_NT_DEBUG_OPTIONS` holds NOEXTWARNING: no warning for unknown extension commands.
    pub no_extension_warning: bool,
    /// `_NT_DEBUG_OPTIONS` holds NOVERSIONCHECK: extensions of any version are taken.
    pub no_version_check: bool,
    /// `KDQUIET` is set: no messages for loaded extensions.
    pub quiet: bool,
    /// `DBGENG_NO_BUGCHECK_ANALYSIS` is set: no analysis when a dump is opened.
    pub no_bugcheck_analysis: bool,
    /// `NO_COLOR` is set and not empty.
    pub no_color: bool,
    /// What the user must know about variables that make no sense.
    pub notes: Vec<String>,
}

/// The most lines a history may keep.
const MAX_HISTORY: usize = 100_000;

impl Environment {
    /// The variables of this process.
    pub fn from_env() -> Environment {
        Environment::from(|name| std::env::var_os(name))
    }

    /// Variables from anywhere.
    pub fn from(get: impl Fn(&str) -> Option<OsString>) -> Environment {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let mut notes = Vec::new();
        let mut text = |name: &str| match set(name)?.into_string() {
            Ok(text) => Some(text),
            Err(_) => {
                notes.push(format!("{name} is ignored: not valid Unicode"));
                None
            }
        };
        let symbols = [text("_NT_ALT_SYMBOL_PATH"), text("_NT_SYMBOL_PATH")];
        let symbols = join(symbols.iter().flatten());
        let images = text("_NT_EXECUTABLE_IMAGE_PATH");
        let sources = text("_NT_SOURCE_PATH");
        let extensions = text("_NT_DEBUGGER_EXTENSION_PATH");
        let (evaluator_text, history_text) = (text("_NT_EXPR_EVAL"), text("_NT_DEBUG_HISTORY_SIZE"));
        let debug_options = text("_NT_DEBUG_OPTIONS").unwrap_or_default();
        let has = |word: &str| {
            debug_options
                .split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '|'))
                .any(|w| w.eq_ignore_ascii_case(word))
        };
        let log = |name: &str, append| set(name).map(|path| LogFile { path: path.into(), append });
        let evaluator = evaluator_text.as_deref().and_then(evaluator);
        if let (Some(text), None) = (&evaluator_text, evaluator) {
            notes.push(format!("_NT_EXPR_EVAL is ignored: {text} is neither masm nor c++"));
        }
        let history_size = history_text.as_deref().and_then(|text| text.trim().parse::<usize>().ok());
        if let (Some(text), None) = (&history_text, history_size) {
            notes.push(format!("_NT_DEBUG_HISTORY_SIZE is ignored: {text} is not a number"));
        }
        Environment {
            symbols: (!symbols.is_empty()).then_some(symbols),
            images,
            sources,
            extensions,
            log: log("_NT_DEBUG_LOG_FILE_OPEN", false).or_else(|| log("_NT_DEBUG_LOG_FILE_APPEND", true)),
            evaluator,
            history_size: history_size.map(|size| size.min(MAX_HISTORY)),
            no_extension_warning: has("NOEXTWARNING"),
            no_version_check: has("NOVERSIONCHECK"),
            quiet: get("KDQUIET").is_some(),
            no_bugcheck_analysis: get("DBGENG_NO_BUGCHECK_ANALYSIS").is_some(),
            no_color: set("NO_COLOR").is_some(),
            notes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(args: &[&str]) -> Result<Request, UsageError> {
        parse(args.iter().map(OsString::from))
    }

    fn run(args: &[&str]) -> Options {
        match request(args) {
            Ok(Request::Run(options)) => *options,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    fn refused(args: &[&str]) -> String {
        match request(args) {
            Err(UsageError(text)) => {
                assert!(!text.is_empty() && !text.contains('\n'), "{text}");
                text
            }
            other => panic!("{args:?}: {other:?}"),
        }
    }

    #[test]
    fn clap_accepts_the_table() {
        command().debug_assert();
    }

    #[test]
    fn every_row_parses() {
        for row in ROWS {
            let value = match row.name {
                "sflags" => "0x10",
                "ee" => "masm",
                "clines" | "t" => "2",
                _ => "some value",
            };
            let args = match row.argument {
                Argument::None => vec![format!("{}{}", row.dashes, row.name)],
                Argument::Next(_) => vec![format!("{}{}", row.dashes, row.name), value.to_owned()],
                Argument::Glued(_) => vec![format!("{}{}{value}", row.dashes, row.name)],
            };
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let answer = request(&args);
            match row.effect {
                Effect::Refused(why) => assert!(refused(&args).contains(why), "{args:?}"),
                Effect::Later(why) | Effect::Ignored(why) => {
                    assert!(run(&args).notes.iter().any(|note| note.contains(why)), "{args:?}");
                }
                Effect::Now if matches!(row.name, "?" | "help" | "version") => {
                    assert!(matches!(answer, Ok(Request::Print(_))), "{args:?}");
                }
                Effect::Now => {
                    let options = run(&args);
                    assert_ne!(options, Options { notes: vec![], ..run(&[]) }, "{args:?} changes nothing");
                    assert!(options.notes.is_empty(), "{args:?}");
                }
            }
            if row.repeats {
                run(&[&args[..], &args[..]].concat());
            }
            if let Argument::Next(wanted) = row.argument
                && !matches!(row.effect, Effect::Refused(_))
            {
                assert!(refused(&args[..1]).contains(wanted));
            }
            assert!(help().contains(&row.spelling()));
        }
    }

    #[test]
    fn no_spelling_is_taken_twice() {
        for (index, row) in ROWS.iter().enumerate() {
            let again =
                |other: &&Row| other.dashes == row.dashes && other.name.eq_ignore_ascii_case(row.name);
            assert!(ROWS.iter().skip(index + 1).find(again).is_none(), "{}", row.name);
        }
    }

    #[test]
    fn a_usual_line() {
        let options = run(&[
            "-y",
            "srv*/cache",
            "-i",
            "/images",
            "-z",
            "/a.dmp",
            "-z",
            "b c.cab",
            "-v",
            "-c",
            "!analyze -v; q",
            "-loga",
            "kd.log",
            "-akdexts",
            "--json",
        ]);
        assert_eq!(options.dumps, [PathBuf::from("/a.dmp"), PathBuf::from("b c.cab")]);
        assert_eq!(options.symbols.as_deref(), Some("srv*/cache"));
        assert_eq!(options.images.as_deref(), Some("/images"));
        assert_eq!(options.commands, ["!analyze -v; q"]);
        assert_eq!(options.log, Some(LogFile { path: "kd.log".into(), append: true }));
        assert_eq!(options.default_extension.as_deref(), Some("kdexts"));
        assert!(options.verbose && options.json && !options.registers && options.notes.is_empty());
        assert_eq!(options.symbol_options, DEFAULT_SYMBOL_OPTIONS);
    }

    #[test]
    fn flags_may_be_glued() {
        let options = run(&["-rnv", "-Z", "a.dmp", "-SV"]);
        assert!(options.registers && options.verbose);
        assert_eq!(options.symbol_options, DEFAULT_SYMBOL_OPTIONS & !4 | 0x8000_0000);
        assert!(refused(&["-rz", "a.dmp"]).contains("unknown option -rz"));
        assert!(refused(&["-vb"]).contains("live targets"));
    }

    #[test]
    fn symbol_options_add_up() {
        let of = |args: &[&str]| run(args).symbol_options;
        assert_eq!(of(&["-sflags", "0x10", "-ses"]), 0x410);
        assert_eq!(of(&["-ses", "-sflags", "0X10"]), 0x410);
        assert_eq!(of(&["-sup"]), DEFAULT_SYMBOL_OPTIONS & !0x1_0000);
        assert_eq!(of(&["-lines", "-sicv"]), DEFAULT_SYMBOL_OPTIONS | 0x90);
        assert!(refused(&["-sflags", "12"]).contains("-sflags 12"));
        assert!(refused(&["-sflags", "0x123456789"]).contains("eight hex digits"));
    }

    #[test]
    fn evaluators() {
        assert_eq!(run(&["-ee", "C++"]).evaluator, Some(Evaluator::Cpp));
        assert_eq!(refused(&["-ee", "perl"]), "-ee perl: the evaluators are masm and c++");
    }

    #[cfg(not(windows))]
    #[test]
    fn a_slash_is_a_dash_unless_it_is_a_path() {
        let options = run(&["/z", "/tmp/a.dmp", "/rnv", "/c", "/x", "/aext"]);
        assert_eq!(options.dumps, [PathBuf::from("/tmp/a.dmp")]);
        assert_eq!(options.commands, ["/x"]);
        assert_eq!(options.default_extension.as_deref(), Some("ext"));
        assert!(options.registers && options.verbose);
        assert!(matches!(request(&["/?"]), Ok(Request::Print(_))));
        assert!(refused(&["/some/memory.dmp"]).contains("type -z /some/memory.dmp"));
        assert!(refused(&["/a/memory.dmp"]).contains("type -z /a/memory.dmp"));
        assert!(refused(&["/nonsense"]).contains("type -z /nonsense"));
        assert!(refused(&["/k", "net:port=1"]).contains("live targets"));
    }

    #[test]
    fn commands_stay_verbatim() {
        let text = ".echo \"a  b\" ; !process 0 0\n-v --json";
        assert_eq!(run(&["-c", text, "-c", "q"]).commands, [text, "q"]);
        assert_eq!(run(&["-c", ""]).commands, [""]);
        assert_eq!(run(&["-c", "-5+3"]).commands, ["-5+3"]);
    }

    #[test]
    fn errors_say_what_to_do() {
        assert_eq!(refused(&["a.dmp"]), "\"a.dmp\" is not an option: to open a dump, type -z a.dmp");
        assert!(refused(&["-"]).contains("is not an option"));
        assert!(refused(&[""]).contains("is not an option"));
        assert!(refused(&["-c", "!process", "0"]).contains("quotes"));
        assert!(refused(&["-nonsense"]).contains("kd -? lists the options"));
        assert!(refused(&["-zmemory.dmp"]).contains("did you mean -z memory.dmp?"));
        assert!(refused(&["-json"]).contains("it is spelled --json"));
        assert!(refused(&["--z", "x"]).contains("it is spelled -z"));
        assert!(refused(&["--json=1"]).contains("--json=1"));
        assert!(refused(&["-Server", "npipe:x"]).contains("it is spelled -server"));
        assert!(refused(&["-a"]).contains("-aEXT"));
        assert_eq!(refused(&["-z"]), "-z wants FILE after it");
        assert_eq!(refused(&["-z", "-v"]), "-z wants FILE, but the option -v follows");
        assert_eq!(refused(&["-z", ""]), "-z is given an empty name");
        assert_eq!(refused(&["-logo", "a", "-logo", "b"]), "-logo is given twice");
        assert_eq!(
            refused(&["-logo", "a", "-loga", "b"]),
            "-logo and -loga are both given: there is one log"
        );
        assert_eq!(refused(&["-t", "many"]), "-t many: a number is wanted");
        assert!(refused(&["-v", "-server", "x"]).contains("first option"));
        assert!(refused(&["-remote", "x"]).contains("no remote sessions"));
        assert!(refused(&["-kdnet"]).contains("live targets"));
    }

    #[test]
    fn repeated_flags_are_one() {
        assert!(run(&["-v", "-v", "-vv"]).verbose);
    }

    #[test]
    fn paths_add_up() {
        let environment = Environment::from(|name| match name {
            "_NT_SYMBOL_PATH" => Some("env;".into()),
            "_NT_ALT_SYMBOL_PATH" => Some("alt".into()),
            "_NT_EXECUTABLE_IMAGE_PATH" => Some("images".into()),
            _ => None,
        });
        let path = |args: &[&str]| run(args).symbol_path(&environment);
        assert_eq!(path(&[]), "alt;env");
        assert_eq!(path(&["-y", "a;b", "-y", "c"]), "a;b;c;alt;env");
        assert_eq!(path(&["-sins"]), "");
        assert_eq!(path(&["-sins", "-y", "a"]), "a");
        assert_eq!(run(&["-i", "x"]).image_path(&environment), "x;images");
        assert_eq!(run(&["-srcpath", "x"]).source_path(&environment), "x");
    }

    #[test]
    fn the_environment_is_read() {
        let environment = Environment::from(|name| {
            let value = match name {
                "_NT_SOURCE_PATH" => "src",
                "_NT_DEBUGGER_EXTENSION_PATH" => "ext",
                "_NT_DEBUG_LOG_FILE_APPEND" => "kd.log",
                "_NT_EXPR_EVAL" => "C++",
                "_NT_DEBUG_HISTORY_SIZE" => "99999999",
                "_NT_DEBUG_OPTIONS" => "noextwarning NOVERSIONCHECK",
                "KDQUIET" | "DBGENG_NO_BUGCHECK_ANALYSIS" | "NO_COLOR" => "1",
                _ => return None,
            };
            Some(value.into())
        });
        let expected = Environment {
            symbols: None,
            images: None,
            sources: Some("src".into()),
            extensions: Some("ext".into()),
            log: Some(LogFile { path: "kd.log".into(), append: true }),
            evaluator: Some(Evaluator::Cpp),
            history_size: Some(MAX_HISTORY),
            no_extension_warning: true,
            no_version_check: true,
            quiet: true,
            no_bugcheck_analysis: true,
            no_color: true,
            notes: vec![],
        };
        assert_eq!(environment, expected);
        let strange = Environment::from(|name| match name {
            "_NT_EXPR_EVAL" => Some("perl".into()),
            "_NT_DEBUG_HISTORY_SIZE" => Some("many".into()),
            _ => None,
        });
        assert_eq!(strange.notes.len(), 2);
        assert_eq!(Environment::from(|_| None), Environment::default());
    }

    #[test]
    fn version_is_one_line() {
        assert!(version().starts_with("kd ") && version().lines().count() == 1);
        assert_eq!(request(&["-version"]), Ok(Request::Print(version())));
        assert_eq!(request(&["-?", "-z", "x"]), Ok(Request::Print(help())));
    }

    #[cfg(unix)]
    #[test]
    fn file_names_need_not_be_unicode() {
        use std::os::unix::ffi::OsStringExt;
        let name = OsString::from_vec(b"a\xff.dmp".to_vec());
        let Ok(Request::Run(options)) = parse(["-z".into(), name.clone()]) else { panic!() };
        assert_eq!(options.dumps, [PathBuf::from(name.clone())]);
        assert!(
            matches!(parse(["-c".into(), name.clone()]), Err(UsageError(text)) if text.contains("Unicode"))
        );
        assert!(parse([name]).is_err());
    }
}
