//! The table of options, and the help made of it. Facts: Microsoft's public pages on KD's options and symbol options.

use std::fmt::Write as _;

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
    (Group::Remote, "Remote sessions (kd has none)"),
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
        own(Target, "partial", Now, "Open dumps that are cut short, with what is left of them"),
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
        kd(Symbols, "lines", None, Now, "Show source lines (k, ln), as .lines -e does"),
        kd(Symbols, "n", None, Now, "Say what symbol loading does (noisy)"),
        kd(Symbols, "s", None, Now, "Load symbols at once, not when they are needed"),
        kd(
            Symbols,
            "sflags",
            Next("0xN"),
            Later("of its bits 4, 40, 1000 and 80000000 have an effect"),
            "Replace all symbol options",
        ),
        kd(
            Symbols,
            "failinc",
            None,
            Ignored("kd uses no symbols that do not match, unless .symopt+ 40 asks for it"),
            "Distrust questionable symbols and images",
        ),
        kd(
            Symbols,
            "ses",
            None,
            Ignored("kd uses no symbols that do not match, unless .symopt+ 40 asks for it"),
            "Use symbols that match exactly only",
        ),
        kd(
            Symbols,
            "sicv",
            None,
            Later("the CodeView record of an image is always read first"),
            "Ignore the CodeView record of images",
        ),
        kd(Symbols, "sins", None, Now, "Ignore the path variables of the environment"),
        kd(Symbols, "snc", None, Later("names are always translated"), "No C++ translation of names"),
        kd(
            Symbols,
            "snul",
            None,
            Ignored("names without a module are looked for in the kernel and in loaded symbols only"),
            "Load no symbols for names without a module",
        ),
        kd(
            Symbols,
            "sup",
            None,
            Ignored("public symbols are always searched"),
            "Search public symbols in every search",
        ),
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
        kd(Session, "secure", None, Now, "Secure mode: no command starts a program or writes a file"),
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
pub(super) const SYMBOL_BITS: &[(&str, u32, u32)] = &[
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
                    let _ = write!(text, " [{why}]");
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
    pub(super) fn is_called(&self, name: &str) -> bool {
        match self.name {
            "remote" | "server" => self.name == name,
            own => own.eq_ignore_ascii_case(name),
        }
    }
}
