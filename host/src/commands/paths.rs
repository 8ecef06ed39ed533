//! Where symbols, images and sources are looked for, and when: `.sympath`, `.symfix`, `.exepath`, `.srcpath`,
//! `.symopt`, `.reload`, `.lines`, `!sym`.
//!
//! As in KD a changed path reloads nothing that is loaded; modules whose symbols were not found are tried again when
//! they are next asked about.

use super::dump_info::dots;
use super::{Builtin, Call, Needs};
use crate::pattern;
use crate::session::Session;
use crate::symbols::{ModuleState, SymbolPath};
use kd_sdk::abi::event;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &[".sympath", ".sympath+"],
        usage: "[PATH[;PATH ...]]",
        summary: "Show or set where symbols are looked for",
        help: "A folder, srv*STORE, srv*CACHE*STORE, srv*CACHE*https://SERVER/PATH, cache*FOLDER (keeps what is found to\n\
               its right). .sympath+ adds to the path. No server is asked that the path does not name. A server that\n\
               wants to know who asks is told KD_SYMBOL_TOKEN, or KD_SYMBOL_USER and KD_SYMBOL_PASSWORD, or what netrc\n\
               says; never anything from the path.",
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
        names: &[".srcpath", ".srcpath+"],
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
        help: "Of these only 0x40 (take symbols of another build) changes what kd does; the others are kept.",
        needs: Needs::Nothing,
        run: options,
    },
    Builtin {
        names: &[".reload"],
        usage: "[/f] [/i] [/l] [/n] [/o] [/s] [/u] [/unl] [/user] [/v] [/w] [MODULE]",
        summary: "Forget symbols, or load them now",
        help: "/f loads them now, /i takes those of another build too, /l only lists the modules, /u forgets a module's\n\
               symbols, /o fetches files anew that are in a cache, /v says where was looked. Without /f symbols are\n\
               loaded when they are first needed. MODULE may hold wildcards unless /w says otherwise.",
        needs: Needs::Target,
        run: reload,
    },
    Builtin {
        names: &[".lines"],
        usage: "[-e | -d | -t]",
        summary: "Show source lines (-e), or not (-d)",
        help: "",
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
    let images = session.image_search_path();
    for open in session.targets() {
        open.symbols.set_path(path.clone());
        open.images.set_path(images.clone());
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
        let path = SymbolPath::parse(&session.settings.image_path);
        let images = session.image_search_path();
        for open in session.targets() {
            open.symbols.set_image_path(path.clone());
            open.images.set_path(images.clone());
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
        open.symbols.accept_other_builds(options & LOAD_ANYTHING != 0);
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
/// `SYMOPT_LOAD_ANYTHING`.
pub(crate) const LOAD_ANYTHING: u32 = 0x40;

fn lines(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let lines = &mut session.settings.source_lines;
    *lines = match call.args {
        "-e" => true,
        "-d" => false,
        "-t" | "" => !*lines,
        other => return Err(Error::Usage(format!(".lines takes -e, -d or -t, not '{other}'"))),
    };
    let lines = *lines;
    let text = if lines {
        "Line number information will be loaded"
    } else {
        "Line number information will not be loaded"
    };
    out.field("lines", Value::Bool(lines), text);
    out.end_line();
    Ok(())
}

/// `!sym noisy | quiet | prompts [on | off]`.
pub fn noise(session: &mut Session, args: &str, out: &Out<'_>) -> Result<()> {
    match args.trim() {
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

fn reload(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (mut now, mut list, mut unload, mut other_builds, mut anew, mut verbose, mut plain, mut unloaded) =
        (false, false, false, false, false, false, false, false);
    let mut module = None;
    for word in call.args.split_whitespace() {
        let Some(letters) = word.strip_prefix(['/', '-']) else {
            module = Some(word);
            continue;
        };
        match letters {
            "unl" => unloaded = true,
            "user" => {
                return Err(Error::Unsupported(
                    ".reload /user: the modules of the process that ran at the crash are listed from the start, those of \
                     others cannot be".to_owned(),
                ));
            }
            "?" => {
                out.line("See .help .reload");
                return Ok(());
            }
            letters => {
                for letter in letters.chars() {
                    match letter {
                        'f' => now = true,
                        'i' => (other_builds, now) = (true, true),
                        'l' => list = true,
                        'o' => anew = true,
                        'u' => unload = true,
                        'v' => verbose = true,
                        'w' => plain = true,
                        'd' | 'n' | 's' => {}
                        other => return Err(Error::Usage(format!(".reload has no option /{other}"))),
                    }
                }
            }
        }
    }
    if let Some((name, place)) = module.and_then(|module| module.split_once('=')) {
        return Err(Error::Unsupported(format!(
            ".reload {name}={place}: the modules are those of the dump; one cannot be put at an address"
        )));
    }
    let open =
        session.current_target().cloned().ok_or_else(|| Error::Unsupported("no dump is open".to_owned()))?;
    if list {
        for module in open.target.modules() {
            let size = session.scope(None)?.pointer_size();
            out.line(&format!("{} {} {}", module.base.show(size), module.end().show(size), module.image));
        }
        return Ok(());
    }
    let wanted: Vec<usize> = match module {
        Some(name) => matching(&open, name, plain)?,
        None => (0..open.target.modules().len()).collect(),
    };
    let before = open.symbols.other_builds();
    open.symbols.accept_other_builds(before || other_builds);
    open.symbols.fetch_anew(anew);
    for index in &wanted {
        open.symbols.unload(&open.target, Some(*index));
    }
    session.notify(event::SYMBOLS_CHANGED);
    let mut result = Ok(());
    if now && !unload {
        for index in &wanted {
            if session.interrupted() {
                result = Err(Error::Interrupted);
                break;
            }
            load_one(&open, out, *index, verbose || session.settings.noisy);
        }
    } else if unload {
        out.line(&format!(
            "Unloaded the symbols of {} module{}",
            wanted.len(),
            if wanted.len() == 1 { "" } else { "s" }
        ));
    } else if module.is_none() {
        let user = open.target.modules().iter().filter(|module| open.target.is_user(module.base)).count();
        out.line("Loading Kernel Symbols");
        dots(out, wanted.len() - user);
        out.line("Loading User Symbols");
        dots(out, user);
        if !unloaded {
            out.line("Loading unloaded module list");
            dots(out, open.target.unloaded().len());
        }
    }
    open.symbols.fetch_anew(false);
    open.symbols.accept_other_builds(before);
    result
}

fn matching(open: &crate::scope::OpenTarget, name: &str, plain: bool) -> Result<Vec<usize>> {
    let modules = open.target.modules();
    let found: Vec<usize> = match open.symbols.module_named(&open.target, name) {
        Ok(index) => vec![index],
        Err(_) if plain => Vec::new(),
        Err(_) => (0..modules.len())
            .filter(|index| {
                modules.get(*index).is_some_and(|module| {
                    pattern::matches(name, &module.name) || pattern::matches(name, &module.image)
                })
            })
            .collect(),
    };
    if found.is_empty() {
        return Err(Error::NotFound(format!("no module is called {name}")));
    }
    Ok(found)
}

/// Loads the symbols of every module that matches, and says what came of it.
pub(super) fn load_matching(session: &mut Session, out: &Out<'_>, name: &str) -> Result<()> {
    let open =
        session.current_target().cloned().ok_or_else(|| Error::Unsupported("no dump is open".to_owned()))?;
    for index in matching(&open, name, false)? {
        if session.interrupted() {
            return Err(Error::Interrupted);
        }
        load_one(&open, out, index, session.settings.noisy);
    }
    Ok(())
}

fn load_one(open: &crate::scope::OpenTarget, out: &Out<'_>, index: usize, verbose: bool) {
    let Some(module) = open.target.modules().get(index) else { return };
    match open.symbols.load(&open.target, index) {
        ModuleState::Loaded { pdb, matched, .. } => {
            out.styled(Style::Symbol, &module.name);
            let pdb = pdb.display();
            out.line(&format!(": symbols loaded from {pdb}, {matched}"));
        }
        ModuleState::Exports { count } => {
            out.styled(Style::Symbol, &module.name);
            out.line(&format!(": {count} exported names, no symbol file"));
        }
        ModuleState::None { reason } => {
            out.warning(&reason.to_string());
            if verbose {
                for looked in reason.looked() {
                    out.line(&format!("  {looked}"));
                }
            }
        }
        ModuleState::Deferred => {}
    }
}
