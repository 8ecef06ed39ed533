//! `.reload`, `ld`: which modules there are, and symbols loaded now, forgotten, or loaded when they are needed.

use super::dump_info::dots;
use super::{Builtin, Call, Needs};
use crate::image::Headers;
use crate::pattern;
use crate::scope::OpenTarget;
use crate::session::Session;
use crate::symbols::ModuleState;
use crate::target::{Module, Origin, UserSpace, short_name};
use kd_sdk::abi::event;
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &[".reload"],
        usage: "[/f] [/i] [/l] [/n] [/o] [/s] [/u] [/unl] [/user] [/v] [/w] [MODULE[=ADDRESS,SIZE[,STAMP]]]",
        summary: "Forget symbols or load them now; find the modules of a process",
        help: "/f loads them now, /i takes those of another build too, /l only lists the modules, /u forgets a module's\n\
               symbols, /o fetches files anew that are in a cache, /v says where was looked. Without /f symbols are\n\
               loaded when they are first needed. MODULE may hold wildcards unless /w says otherwise.\n\
               /user finds the modules of the current process (.process chooses it) in its loader's lists, those of a\n\
               32-bit program too; without MODULE, /s and /n this happens as well. MODULE=ADDRESS,SIZE puts a module\n\
               there (no blanks), /u takes it away; /unl MODULE puts an unloaded module where it was.",
        needs: Needs::Target,
        run: reload,
    },
    Builtin {
        names: &["ld"],
        usage: "MODULE [/f FILE]",
        summary: "Load a module's symbols now",
        help: "MODULE may hold wildcards. /f takes FILE as its symbol file, of whatever build it is.",
        needs: Needs::Target,
        run: load,
    },
];

/// The options of `.reload`.
#[derive(Default)]
struct Options<'a> {
    now: bool,
    list: bool,
    unload: bool,
    other_builds: bool,
    anew: bool,
    verbose: bool,
    plain: bool,
    unloaded: bool,
    user: bool,
    kernel_only: bool,
    help: bool,
    module: Option<&'a str>,
}

impl<'a> Options<'a> {
    fn parse(text: &'a str) -> Result<Options<'a>> {
        let mut options = Options::default();
        for word in text.split_whitespace() {
            let Some(letters) = word.strip_prefix(['/', '-']) else {
                options.module = Some(word);
                continue;
            };
            match letters {
                "unl" => options.unloaded = true,
                "user" => options.user = true,
                "?" => options.help = true,
                letters => letters.chars().try_for_each(|letter| options.letter(letter))?,
            }
        }
        Ok(options)
    }

    fn letter(&mut self, letter: char) -> Result<()> {
        match letter {
            'f' => self.now = true,
            'i' => (self.other_builds, self.now) = (true, true),
            'l' => self.list = true,
            'o' => self.anew = true,
            'u' => self.unload = true,
            'v' => self.verbose = true,
            'w' => self.plain = true,
            'n' | 's' => self.kernel_only = true,
            'd' => {}
            other => return Err(Error::Usage(format!(".reload has no option /{other}"))),
        }
        Ok(())
    }
}

fn opened(session: &Session) -> Result<std::sync::Arc<OpenTarget>> {
    session.current_target().cloned().ok_or_else(|| Error::Unsupported("no dump is open".to_owned()))
}

fn reload(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let options = Options::parse(call.args)?;
    if options.help {
        out.line("See .help .reload");
        return Ok(());
    }
    let mut module = options.module;
    if let Some((name, place)) = module.and_then(|module| module.split_once('=')) {
        put(session, name, place)?;
        module = Some(name);
    } else if let (Some(name), true) = (module, options.unloaded) {
        put_unloaded(session, name)?;
    }
    if options.user {
        user_modules(session, out)?;
        if module.is_none() && !options.now {
            return Ok(());
        }
    }
    let open = opened(session)?;
    if options.list {
        return list(session, out, &open);
    }
    let modules = open.target.modules();
    let wanted: Vec<usize> = match module {
        Some(name) => matching(&open, name, options.plain)?,
        None => (0..modules.len())
            .filter(|index| !options.user || modules.get(*index).is_some_and(|m| m.origin == Origin::Process))
            .collect(),
    };
    let before = open.symbols.other_builds();
    open.symbols.accept_other_builds(before || options.other_builds);
    open.symbols.fetch_anew(options.anew);
    for index in &wanted {
        open.symbols.unload(&open.target, Some(*index));
    }
    session.notify(event::SYMBOLS_CHANGED);
    let mut result = Ok(());
    if options.now && !options.unload {
        for index in &wanted {
            if session.interrupted() {
                result = Err(Error::Interrupted);
                break;
            }
            load_one(&open, out, *index, options.verbose || session.settings.noisy);
        }
    } else if options.unload {
        out.line(&format!(
            "Unloaded the symbols of {} module{}",
            wanted.len(),
            if wanted.len() == 1 { "" } else { "s" }
        ));
        take_away(session, &open, &wanted);
    } else if module.is_none() {
        out.line("Loading Kernel Symbols");
        dots(out, modules.iter().filter(|module| module.origin == Origin::Kernel).count());
        match options.kernel_only {
            true => {}
            // Most kernel dumps hold no memory of processes: that is no failure of .reload.
            false => drop(user_modules(session, out).map_err(|_| out.line("Loading User Symbols"))),
        }
        out.line("Loading unloaded module list");
        dots(out, open.target.unloaded().len());
    }
    open.symbols.fetch_anew(false);
    open.symbols.accept_other_builds(before);
    result
}

fn list(session: &Session, out: &Out<'_>, open: &OpenTarget) -> Result<()> {
    let size = session.scope(None)?.pointer_size();
    out.list("modules", |out| {
        for module in open.target.modules() {
            out.record("", |out| {
                let (start, end) = (module.base.show(size).to_string(), module.end().show(size).to_string());
                out.styled_field("start", Value::Hex(module.base.0), Style::Address, &start);
                out.text(" ");
                out.styled_field("end", Value::Hex(module.end().0), Style::Address, &end);
                out.text(" ");
                out.name("image", &module.image);
                out.end_line();
            });
        }
    });
    Ok(())
}

/// The modules that the user put somewhere.
fn given(open: &OpenTarget) -> Vec<Module> {
    open.target.modules().iter().filter(|module| module.origin == Origin::Given).cloned().collect()
}

/// Those, and the ones of the process.
fn others(open: &OpenTarget) -> Vec<Module> {
    open.target.modules().iter().filter(|module| module.origin != Origin::Kernel).cloned().collect()
}

/// Finds the modules of the current process.
///
/// # Errors
/// KD's words, where its PEB or its loader's lists cannot be read.
pub(super) fn user_modules(session: &mut Session, out: &Out<'_>) -> Result<()> {
    let scope = session.scope(None)?;
    let open = scope.open()?;
    let no_peb = |why: String| {
        Error::NotFound(format!(
            "Unable to retrieve the PEB address. This is usually caused by being in the wrong process context or by \
             paging{why}"
        ))
    };
    let peb = scope.process_peb().ok_or_else(|| no_peb(String::new()))?;
    let view = scope.view().cloned().unwrap_or_else(|| open.target.view().clone());
    let (mut modules, broken) = scope
        .loader_modules(&view, peb)
        .map_err(|fault| no_peb(format!(" (its loader's list at {}: {})", fault.at, fault.why)))?;
    let found = modules.len();
    modules.extend(given(open));
    let process = scope.register("$proc").map(Va);
    session.put_modules(modules, Some(UserSpace { view, process }));
    out.line("Loading User Symbols");
    dots(out, found);
    if let Some(fault) = broken {
        let (at, why) = (fault.at, fault.why);
        out.warning(&format!(
            "the loader's list ends at {at}, which cannot be read: {why}; found {found} modules"
        ));
    }
    Ok(())
}

/// Forgets the modules of a process that is no longer the current one; those of the one that crashed come back.
pub(super) fn leave_process(session: &mut Session) -> Result<()> {
    let scope = session.scope(None)?;
    let open = scope.open()?;
    let process = scope.register("$proc").map(Va);
    if open.target.user_process() == process {
        return Ok(());
    }
    let view = scope.view().cloned().unwrap_or_else(|| open.target.view().clone());
    let other = open.target.crashed_process() != process;
    session.put_modules(given(open), other.then_some(UserSpace { view, process }));
    Ok(())
}

/// Puts a module at `ADDRESS,SIZE[,STAMP]`.
fn put(session: &mut Session, name: &str, place: &str) -> Result<()> {
    let open = opened(session)?;
    let scope = session.scope(None)?;
    let mut numbers = place.split(',').map(|text| scope.evaluate(text));
    let usage = || Error::Usage(".reload MODULE=ADDRESS,SIZE[,STAMP]".to_owned());
    let base = Va(numbers.next().ok_or_else(usage)??);
    let size = numbers.next().transpose()?;
    let stamp = numbers.next().transpose()?.unwrap_or(0);
    // What the image in memory says of itself is better than nothing.
    let header = header(&open, base);
    let size = size.or(header.map(|(size, _)| size)).filter(|size| *size != 0).ok_or_else(usage)?;
    let time_stamp = match (stamp, header) {
        (0, Some((_, stamp))) => stamp,
        (stamp, _) => stamp as u32,
    };
    add(session, &open, name, base, size, time_stamp)
}

/// Puts an image that was found in memory among the modules.
pub(super) fn put_image(session: &mut Session, name: &str, base: Va, headers: &Headers) -> Result<()> {
    let open = opened(session)?;
    add(session, &open, name, base, headers.size.into(), headers.time_stamp)
}

/// (SizeOfImage, TimeDateStamp) of an image in memory.
fn header(open: &OpenTarget, base: Va) -> Option<(u64, u32)> {
    let mut head = vec![0; 0x1000];
    let done = open.target.read(base, &mut head).done;
    head.truncate(done);
    let number = |at: usize| head.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
    let pe = number(0x3c)? as usize;
    (head.starts_with(b"MZ") && number(pe)? == 0x4550)
        .then(|| Some((number(pe.checked_add(0x50)?)?.into(), number(pe.checked_add(8)?)?)))?
}

/// Puts an unloaded module back where it was.
fn put_unloaded(session: &mut Session, name: &str) -> Result<()> {
    let open = opened(session)?;
    let stem = |name: &str| short_name(name).to_ascii_lowercase();
    let found = open
        .target
        .unloaded()
        .iter()
        .find(|module| module.name.eq_ignore_ascii_case(name) || stem(&module.name) == stem(name));
    let found = found.ok_or_else(|| Error::NotFound(format!("no unloaded module is called {name}")))?;
    let (base, size) = (found.start, found.end.0.saturating_sub(found.start.0));
    add(session, &open, &found.name, base, size, 0)
}

fn add(session: &mut Session, open: &OpenTarget, name: &str, base: Va, size: u64, stamp: u32) -> Result<()> {
    let taken = |module: &&Module| module.base < Va(base.0.saturating_add(size)) && base < module.end();
    if let Some(other) = open.target.modules().iter().find(taken) {
        return Err(Error::Usage(format!("{} is at {} already", other.name, other.base)));
    }
    let module = Module {
        name: short_name(name),
        image: name.to_owned(),
        path: name.to_owned(),
        base,
        size,
        time_stamp: stamp,
        check_sum: 0,
        entry_point: Va::NULL,
        loader_entry: None,
        is_kernel: false,
        origin: Origin::Given,
    };
    let mut all = others(open);
    all.push(module);
    session.put_modules(all, open.target.user_space().cloned());
    Ok(())
}

/// Modules that the user put somewhere go when their symbols are unloaded.
fn take_away(session: &mut Session, open: &OpenTarget, wanted: &[usize]) {
    let gone: Vec<Va> = wanted
        .iter()
        .filter_map(|index| open.target.modules().get(*index))
        .filter(|module| module.origin == Origin::Given)
        .map(|module| module.base)
        .collect();
    if !gone.is_empty() {
        let mut left = others(open);
        left.retain(|module| !gone.contains(&module.base));
        session.put_modules(left, open.target.user_space().cloned());
    }
}

fn matching(open: &OpenTarget, name: &str, plain: bool) -> Result<Vec<usize>> {
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

fn load(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (pattern, file) = match call.args.split_once("/f") {
        Some((pattern, file)) => (pattern.trim(), Some(file.trim().trim_matches('"'))),
        None => (call.args, None),
    };
    if pattern.is_empty() || file == Some("") {
        return Err(Error::Usage("ld MODULE [/f FILE]".to_owned()));
    }
    let open = opened(session)?;
    let wanted = matching(&open, pattern, false)?;
    if let Some(file) = file {
        let &[index] = wanted.as_slice() else {
            return Err(Error::Usage(format!(
                "ld: {pattern} names {} modules; one file is for one",
                wanted.len()
            )));
        };
        open.symbols
            .load_file(&open.target, index, file.as_ref())
            .map_err(|error| Error::NoSymbols(crate::chained(&error)))?;
        session.notify(event::SYMBOLS_CHANGED);
        load_one(&open, out, index, false);
        return Ok(());
    }
    for index in wanted {
        if session.interrupted() {
            return Err(Error::Interrupted);
        }
        load_one(&open, out, index, session.settings.noisy);
    }
    Ok(())
}

fn load_one(open: &OpenTarget, out: &Out<'_>, index: usize, verbose: bool) {
    let Some(module) = open.target.modules().get(index) else { return };
    match open.symbols.load(&open.target, index) {
        ModuleState::Loaded { pdb, matched, .. } => {
            out.styled(Style::Symbol, &module.name);
            let pdb = pdb.display();
            out.line(&format!(": symbols loaded from {pdb}, {matched}"));
        }
        ModuleState::Exports { count, .. } => {
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
