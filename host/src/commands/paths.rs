//! Where symbols, images and sources are looked for, and when: `.sympath`, `.symfix`, `.exepath`, `.srcpath`,
//! `.symopt`, `.lines`, `!sym`.
//!
//! As in KD a changed path reloads nothing that is loaded; modules whose symbols were not found are tried again when
//! they are next asked about.

use super::{Builtin, Call, Needs};
use crate::session::Session;
use crate::symbols::SymbolPath;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &[".sympath", ".sympath+"],
        usage: "[PATH[;PATH ...]]",
        summary: "Show or set where symbols are looked for",
        help: "A folder, srv*STORE, srv*CACHE*STORE, srv*CACHE*https://SERVER/PATH, cache*FOLDER (keeps what is found to\n\
               its right). .sympath+ adds to the path. No server is asked that the path does not name. A server that\n\
               wants to know who asks is told KD_SYMBOL_TOKEN, or KD_SYMBOL_USER and KD_SYMBOL_PASSWORD, or what netrc\n\
               says; never anything from the path. SSL_CERT_FILE names a file of certificates (PEM) that are trusted in\n\
               place of the public authorities, such as those of a company.",
        needs: Needs::Nothing,
        run: symbol_path,
    },
    Builtin {
        names: &[".symfix", ".symfix+"],
        usage: "[CACHE]",
        summary: "Look for symbols on Microsoft's server",
        help: "Sets the path to srv*CACHE*https://msdl.microsoft.com/download/symbols; .symfix+ adds it.",
        needs: Needs::Nothing,
        run: fix_symbol_path,
    },
    Builtin {
        names: &[".exepath", ".exepath+"],
        usage: "[PATH[;PATH ...]]",
        summary: "Show or set where image files are looked for",
        help: "",
        needs: Needs::Nothing,
        run: image_path,
    },
    Builtin {
        names: &[".srcpath", ".srcpath+", ".lsrcpath", ".lsrcpath+"],
        usage: "[PATH[;PATH ...]]",
        summary: "Show or set where source files are looked for",
        help: "",
        needs: Needs::Nothing,
        run: source_path,
    },
    Builtin {
        names: &[".symopt", ".symopt+", ".symopt-"],
        usage: "[FLAGS]",
        summary: "Show, set or clear symbol options",
        help: "What changes something: 1 names in any case, 4 symbols when they are needed and not at once (at load), 10\n\
               source lines, 40 symbols of another build are taken, 100 names without a module load nothing, 400 never\n\
               symbols of another build, 1000 no paths from the environment (at start), 4000 private and 8000 public\n\
               symbols left out of what is loaded from then on (.reload), 80000000 every place that is looked at is\n\
               told (at start; then !sym). The others are kept and have no effect.",
        needs: Needs::Nothing,
        run: options,
    },
    Builtin {
        names: &["!sym"],
        usage: "[noisy | quiet | prompts [on | off]]",
        summary: "Say what symbol loading does, or not",
        help: "There are never prompts: kd asks nobody for a password.",
        needs: Needs::Nothing,
        run: noise,
    },
    Builtin {
        names: &[".lines"],
        usage: "[-e | -d | -t]",
        summary: "Show source lines (-e), or not (-d)",
        help: "k and ln show the source lines that private symbol files tell. Without an option, and with -t, what is\n\
               off is turned on and back. Off at first, as in KD, unless kd was started with -lines.",
        needs: Needs::Nothing,
        run: lines,
    },
];

const MICROSOFT: &str = "https://msdl.microsoft.com/download/symbols";

/// Names of the symbol options, from the documentation of dbghelp.
const OPTIONS: &[(u32, &str)] = &[
    (0x1, "SYMOPT_CASE_INSENSITIVE"),
    (0x2, "SYMOPT_UNDNAME"),
    (0x4, "SYMOPT_DEFERRED_LOADS"),
    (0x8, "SYMOPT_NO_CPP"),
    (0x10, "SYMOPT_LOAD_LINES"),
    (0x20, "SYMOPT_OMAP_FIND_NEAREST"),
    (0x40, "SYMOPT_LOAD_ANYTHING"),
    (0x80, "SYMOPT_IGNORE_CVREC"),
    (0x100, "SYMOPT_NO_UNQUALIFIED_LOADS"),
    (0x200, "SYMOPT_FAIL_CRITICAL_ERRORS"),
    (0x400, "SYMOPT_EXACT_SYMBOLS"),
    (0x800, "SYMOPT_ALLOW_ABSOLUTE_SYMBOLS"),
    (0x1000, "SYMOPT_IGNORE_NT_SYMPATH"),
    (0x2000, "SYMOPT_INCLUDE_32BIT_MODULES"),
    (0x4000, "SYMOPT_PUBLICS_ONLY"),
    (0x8000, "SYMOPT_NO_PUBLICS"),
    (0x10000, "SYMOPT_AUTO_PUBLICS"),
    (0x20000, "SYMOPT_NO_IMAGE_SEARCH"),
    (0x40000, "SYMOPT_SECURE"),
    (0x80000, "SYMOPT_NO_PROMPTS"),
    (0x8000_0000, "SYMOPT_DEBUG"),
];

/// Takes what comes before what is added.
fn joined(old: &str, new: &str, add: bool) -> String {
    let new = new.trim().trim_matches('"');
    match (add, old.is_empty()) {
        (true, false) => format!("{old};{new}"),
        _ => new.to_owned(),
    }
}

fn symbol_path(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    if !call.args.is_empty() {
        let path = joined(&session.settings.symbol_path, call.args, call.name.ends_with('+'));
        set_symbol_path(session, path);
    }
    show_symbol_path(session, out);
    Ok(())
}

fn fix_symbol_path(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let cache = call.args.trim();
    let fixed =
        if cache.is_empty() { format!("srv*{MICROSOFT}") } else { format!("srv*{cache}*{MICROSOFT}") };
    let path = joined(&session.settings.symbol_path, &fixed, call.name.ends_with('+'));
    set_symbol_path(session, path);
    show_symbol_path(session, out);
    Ok(())
}

fn set_symbol_path(session: &mut Session, path: String) {
    session.settings.symbol_path = path;
    let path = session.parsed_symbol_path();
    for open in session.targets() {
        open.symbols.set_path(path.clone());
    }
}

fn show_symbol_path(session: &Session, out: &Out<'_>) {
    let path = SymbolPath::parse(&session.settings.symbol_path);
    let text = path.to_string();
    let shown = if text.is_empty() { "<empty>" } else { text.as_str() };
    out.field("symbol_path", Value::Text(&text), &format!("Symbol search path is: {shown}"));
    out.end_line();
    let expanded = path.expanded();
    out.field("expanded", Value::Text(&expanded), &format!("Expanded Symbol search path is: {expanded}"));
    out.end_line();
    for note in path.notes() {
        out.warning(&note);
    }
}

fn image_path(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    if !call.args.is_empty() {
        session.settings.image_path =
            joined(&session.settings.image_path, call.args, call.name.ends_with('+'));
        let path = session.parsed_image_path();
        for open in session.targets() {
            open.symbols.set_image_path(path.clone());
        }
    }
    show_path(out, "image_path", "Executable image search path is: ", &session.settings.image_path);
    Ok(())
}

fn source_path(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    if !call.args.is_empty() {
        session.settings.source_path =
            joined(&session.settings.source_path, call.args, call.name.ends_with('+'));
    }
    show_path(out, "source_path", "Source search path is: ", &session.settings.source_path);
    Ok(())
}

fn show_path(out: &Out<'_>, key: &str, title: &str, path: &str) {
    let path = SymbolPath::parse(path);
    let text = path.to_string();
    out.field(
        key,
        Value::Text(&text),
        &format!("{title}{}", if text.is_empty() { "<empty>" } else { &text }),
    );
    out.end_line();
    for note in path.notes() {
        out.warning(&note);
    }
}

fn options(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let options = &mut session.settings.symbol_options;
    if !call.args.is_empty() {
        let text = call.args.trim_start_matches("0x");
        let flags = u32::from_str_radix(text, 16).map_err(|_| {
            Error::Usage(format!("{} takes a hexadecimal number, not '{}'", call.name, call.args))
        })?;
        match call.name {
            ".symopt+" => *options |= flags,
            ".symopt-" => *options &= !flags,
            _ => *options = flags,
        }
    }
    let options = *options;
    for open in session.targets() {
        open.symbols.set_options(options);
    }
    out.field("options", Value::Hex(options.into()), &format!("Symbol options are 0x{options:x}:"));
    out.end_line();
    for (flag, name) in OPTIONS.iter().filter(|(flag, _)| options & flag != 0) {
        out.line(&format!("  0x{flag:08x} - {name}"));
    }
    Ok(())
}

/// `SYMOPT_DEFERRED_LOADS`.
pub(crate) const DEFERRED: u32 = 0x4;
/// `SYMOPT_DEBUG`.
pub(crate) const NOISY: u32 = 0x8000_0000;
/// `SYMOPT_LOAD_LINES`.
pub(crate) const LOAD_LINES: u32 = 0x10;

fn lines(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let options = &mut session.settings.symbol_options;
    *options = match call.args {
        "-e" => *options | LOAD_LINES,
        "-d" => *options & !LOAD_LINES,
        "-t" | "" => *options ^ LOAD_LINES,
        other => return Err(Error::Usage(format!(".lines takes -e, -d or -t, not '{other}'"))),
    };
    let lines = *options & LOAD_LINES != 0;
    let text = if lines {
        "Line number information will be loaded"
    } else {
        "Line number information will not be loaded"
    };
    out.field("lines", Value::Bool(lines), text);
    out.end_line();
    Ok(())
}

fn noise(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    match call.args {
        "" => {}
        "noisy" => session.set_noisy(true),
        "quiet" => session.set_noisy(false),
        // There never is a prompt.
        "prompts" | "prompts on" | "prompts off" => {}
        other => return Err(Error::Usage(format!("!sym takes noisy, quiet or prompts, not '{other}'"))),
    }
    let noisy = session.settings.noisy;
    out.field(
        "noisy",
        Value::Bool(noisy),
        if noisy { "noisy mode - symbol prompts off" } else { "quiet mode - symbol prompts off" },
    );
    out.end_line();
    Ok(())
}
