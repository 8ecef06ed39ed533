//! `.dump` writes a dump out of the one that is open, `.dumpcab` packs the one that is open.
//!
//! A new file comes into being under a name of its own beside the one that is wanted, and gets that name when it is
//! whole: what is interrupted leaves nothing. JSON: `file`, `kind`, `bytes`, `pages`; `cabinet` and its `members`.

use super::files::{file_name, is_there, may_write, stamped};
use super::{Builtin, Call, Needs};
use crate::dump::{self, Change, DumpKind, Frames, Packed, WriteError};
use crate::memory;
use crate::scope::Scope;
use crate::session::Session;
use crate::symbols::ModuleState;
use kd_sdk::address::{Pa, Va};
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Value};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::NamedTempFile;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &[".dump"],
        usage: "[/m | /k | /ka | /f] [/o] [/u] [/b[a]] [/c \"COMMENT\"] FILE",
        summary: "Write a smaller dump out of this one",
        help: "/m (without an option too): a small dump of the current processor, with its registers, thread, process and\n\
               stack, the lists of drivers, and what a walk of the stack reads. /k: a kernel dump, with all pages that are\n\
               mapped for the kernel and the tables that map them. /ka: those of programs too (needs the kernel's types).\n\
               /f: every page of this dump. /k, /ka and /f need a dump with pages, and write the form of Windows 8 and later.\n\
               /o replaces FILE if it is there; /u puts the process number and the time into its name; /c sets the comment\n\
               that is shown when the dump is opened. /b packs the new dump into FILE.cab and keeps that only, /ba with\n\
               the symbol files that are loaded. Ctrl+C leaves no file.",
        needs: Needs::Target,
        run: write_dump,
    },
    Builtin {
        names: &[".dumpcab"],
        usage: "[-a] CABFILE",
        summary: "Pack the dump into a cabinet",
        help: "With -a the symbol files that are loaded go into it too. A cabinet holds 2 GB. A file that is there already\n\
               is not replaced.",
        needs: Needs::Target,
        run: pack_dump,
    },
];

/// Frames of the stack whose memory a small dump keeps.
const FRAMES: usize = 64;
/// Processes of a list.
const MOST_PROCESSES: usize = 1 << 16;

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Small,
    Kernel,
    Active,
    Complete,
}

impl Kind {
    /// KD's words for it, and the kind of the file.
    fn tells(self) -> (&'static str, DumpKind) {
        match self {
            Kind::Small => ("mini kernel dump", DumpKind::Triage),
            Kind::Kernel => ("kernel dump", DumpKind::BitmapKernel),
            Kind::Active => ("active kernel and user dump", DumpKind::BitmapFull),
            Kind::Complete => ("full kernel dump", DumpKind::BitmapFull),
        }
    }
}

struct Options {
    kind: Kind,
    replace: bool,
    unique: bool,
    cabinet: Option<bool>,
    comment: Option<String>,
    file: String,
}

fn parse(args: &str) -> Result<Options> {
    let mut options = Options {
        kind: Kind::Small,
        replace: false,
        unique: false,
        cabinet: None,
        comment: None,
        file: String::new(),
    };
    let mut rest = args.trim();
    loop {
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        // A path may begin with a slash: only whole words are options.
        match word {
            "/m" | "-m" => options.kind = Kind::Small,
            "/k" | "-k" => options.kind = Kind::Kernel,
            "/ka" | "-ka" => options.kind = Kind::Active,
            "/f" | "-f" => options.kind = Kind::Complete,
            "/o" | "-o" => options.replace = true,
            "/u" | "-u" => options.unique = true,
            "/b" | "-b" => options.cabinet = Some(false),
            "/ba" | "-ba" => options.cabinet = Some(true),
            "/c" | "-c" => {
                let (comment, after) =
                    file_name(after).map_err(|_| Error::Usage("option /c needs a comment".to_owned()))?;
                options.comment = Some(comment.to_owned());
                rest = after;
                continue;
            }
            "/j" | "-j" => {
                return Err(Error::Unsupported(
                    "option /j is for dumps of programs, not of a kernel".to_owned(),
                ));
            }
            "/?" => return Err(Error::Usage("see .help .dump".to_owned())),
            _ => break,
        }
        rest = after.trim_start();
    }
    let (file, more) = file_name(rest)?;
    if !more.is_empty() {
        return Err(Error::Usage(format!(
            "'{more}' follows the name of the file; a name with blanks needs quotes"
        )));
    }
    options.file = file.to_owned();
    Ok(options)
}

/// A file under another name, until it is whole.
fn draft(path: &Path) -> Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new().prefix(".kd-").suffix(".part").tempfile_in(folder);
    file.map_err(|error| Error::Other(format!("cannot write to {}: {error}", folder.display())))
}

/// Gives a whole file its name.
fn keep(file: NamedTempFile, path: &Path, replace: bool) -> Result<()> {
    let kept = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map(drop).map_err(|error| Error::Other(format!("cannot write {}: {}", path.display(), error.error)))
}

fn failed(error: WriteError) -> Error {
    match error {
        WriteError::Interrupted => Error::Interrupted,
        WriteError::Impossible(why) => Error::Unsupported(why),
        WriteError::Io(error) => Error::Other(format!("cannot write the dump: {error}")),
    }
}

/// Refuses to write over something.
fn check_target(session: &Session, path: &Path, replace: bool) -> Result<()> {
    match is_there(session, path)? {
        true if !replace => Err(Error::Usage(format!("{} is there already; /o replaces it", path.display()))),
        _ => Ok(()),
    }
}

fn write_dump(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    may_write(session, call.name)?;
    let options = parse(call.args)?;
    let scope = session.scope(call.processor)?;
    let source = scope.target()?.dump().clone();
    check_source(options.kind, source.kind())?;
    let mut path = PathBuf::from(&options.file);
    if options.unique {
        path = stamped(&path, scope.register("$dbgtime").unwrap_or(0));
    }
    let wanted = if options.cabinet.is_some() { cabinet_name(&path) } else { path.clone() };
    check_target(session, &wanted, options.replace)?;

    let ui = Arc::clone(session.ui());
    let step = |label: &'static str| {
        let (ui, session) = (&ui, &*session);
        move |done, total| {
            ui.progress(done, total, label);
            !session.interrupted()
        }
    };
    let (title, kind) = options.kind.tells();
    out.text("Creating ");
    out.name("file", &wanted.display().to_string());
    out.text(" - ");
    out.name("kind", title);
    out.end_line();
    let mut change = Change { comment: options.comment.as_deref(), context: None };
    let file = draft(&wanted)?;
    let mut to = BufWriter::with_capacity(1 << 20, file.as_file());
    let written = if options.kind == Kind::Small {
        let registers = scope.target()?.registers(scope.processor).ok().map(|found| found.registers);
        // The header's registers are those of the processor that crashed.
        let other = registers.as_ref().filter(|_| {
            scope.processor != scope.open.as_ref().map_or(0, |open| open.target.current_processor())
        });
        change.context = other.map(|registers| registers.context());
        let mut ranges = Vec::new();
        let header = scope.target()?.header_registers();
        for start in [&registers, &header].into_iter().flatten() {
            ranges.extend(scope.read_by_walk(start.clone(), FRAMES)?);
        }
        let small = scope.target()?.small_dump(scope.processor, ranges).map_err(Error::Unsupported)?;
        dump::write_small(&source, &small, &change, &mut to, &mut step("writing the dump"))
    } else {
        let frames = frames(&scope, options.kind, &mut step("looking for pages"))?;
        out.data("pages", Value::UInt(frames.count()));
        dump::write_bitmap(&source, kind, &frames, &change, &mut to, &mut step("writing the dump"))
    };
    let flushed = to.flush();
    drop(to);
    ui.clear_progress();
    let size = written.map_err(failed)?;
    flushed.map_err(|error| failed(error.into()))?;
    match options.cabinet {
        None => keep(file, &path, options.replace)?,
        Some(symbols) => {
            let from = File::open(file.path()).map_err(|error| failed(error.into()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let dump = Packed { name, size, from: Box::new(from) };
            write_cabinet(session, out, &wanted, options.replace, dump, symbols)?;
        }
    }
    out.text("Dump successfully written, ");
    out.field("bytes", Value::UInt(size), &format!("{size:#x} bytes"));
    out.end_line();
    Ok(())
}

/// A dump can only become a smaller one.
fn check_source(wanted: Kind, source: DumpKind) -> Result<()> {
    let has = |what| {
        Err(Error::Unsupported(format!("this {source} dump holds {what}; it cannot become such a dump")))
    };
    match (wanted, source) {
        (_, DumpKind::HeaderOnly) => has("no memory"),
        (_, DumpKind::Triage) => has("no pages, and is small already"),
        (Kind::Complete | Kind::Active, _) if !source.has_user_memory() => {
            has("the kernel's memory only (/k copies that)")
        }
        _ => Ok(()),
    }
}

/// The frames that go into a dump.
fn frames(scope: &Scope, kind: Kind, step: dump::Step<'_>) -> Result<Frames> {
    let target = scope.target()?;
    let physical = target.dump().physical();
    let physical = physical.ok_or_else(|| Error::Unsupported("this dump holds no pages".to_owned()))?;
    if kind == Kind::Complete {
        return Frames::all(physical, step).map_err(failed);
    }
    let tables = target.view().tables();
    let tables = tables.ok_or_else(|| Error::NotFound("the header names no page tables".to_owned()))?;
    let mut frames = Frames::new(physical).map_err(failed)?;
    let total = physical.page_count();
    let mut go_on = |count| step(count, total);
    let stopped = || Error::Interrupted;
    if !memory::reach(tables, physical, tables.kernel_half(), &mut frames, &mut go_on) {
        return Err(stopped());
    }
    if kind == Kind::Active {
        for root in process_roots(scope)? {
            let tables = tables.with_root(root);
            if !memory::reach(&tables, physical, tables.user_half(), &mut frames, &mut go_on) {
                return Err(stopped());
            }
        }
    }
    Ok(frames)
}

/// The page tables of all processes.
fn process_roots(scope: &Scope) -> Result<Vec<Pa>> {
    let target = scope.target()?;
    let unknown =
        || Error::NoSymbols("/ka needs the kernel's types, which tell of the list of processes".to_owned());
    let offset = |field| scope.kernel_offset("_EPROCESS", field).ok_or_else(unknown);
    let links = offset("ActiveProcessLinks")?;
    let root = offset("Pcb.DirectoryTableBase")?;
    let head = target.header().ps_active_process_head.ok_or_else(unknown)?;
    let mut seen = HashSet::from([head]);
    let mut roots = Vec::new();
    let mut at = scope.read_pointer(head)?;
    while seen.insert(at) && seen.len() <= MOST_PROCESSES {
        let process = Va(at.0.wrapping_sub(links));
        // A list that breaks off is no reason to keep nothing.
        roots.extend(scope.read_pointer(process.add(root)).map(|root| Pa(root.0)));
        let Ok(next) = scope.read_pointer(at) else { break };
        at = next;
    }
    Ok(roots)
}

fn cabinet_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".cab");
    name.into()
}

fn pack_dump(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    may_write(session, call.name)?;
    let option = call.args.strip_prefix(['-', '/']).and_then(|rest| rest.strip_prefix('a'));
    let option = option.filter(|rest| rest.starts_with(char::is_whitespace));
    let (file, more) = file_name(option.unwrap_or(call.args))?;
    if !more.is_empty() {
        return Err(Error::Usage(format!(
            "'{more}' follows the name of the file; a name with blanks needs quotes"
        )));
    }
    let path = PathBuf::from(file);
    if is_there(session, &path)? {
        return Err(Error::Usage(format!("{file} is there already")));
    }
    let scope = session.scope(None)?;
    let source = scope.target()?.dump().clone();
    let name = source.archive_member().map_or_else(
        || source.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
        str::to_owned,
    );
    let dump = Packed { name, size: source.file_size(), from: Box::new(source.stream()) };
    write_cabinet(session, out, &path, false, dump, option.is_some())
}

/// Packs a dump, and the symbol files that are loaded.
fn write_cabinet(
    session: &Session,
    out: &Out<'_>,
    path: &Path,
    replace: bool,
    dump: Packed<'_>,
    symbols: bool,
) -> Result<()> {
    let scope = session.scope(None)?;
    let open = scope.open()?;
    let mut members = vec![dump];
    let modules = if symbols { open.target.modules().len() } else { 0 };
    for index in 0..modules {
        let ModuleState::Loaded { pdb, .. } = open.symbols.state(&open.target, index) else { continue };
        let name = pdb.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let opened = File::open(&pdb).and_then(|file| Ok((fs::metadata(&pdb)?.len(), file)));
        match opened {
            Ok(_) if members.iter().any(|member| member.name.eq_ignore_ascii_case(&name)) => {}
            Ok((size, file)) => members.push(Packed { name, size, from: Box::new(file) }),
            Err(error) => out.warning(&format!("{} is left out: {error}", pdb.display())),
        }
    }
    let rows: Vec<(String, u64)> = members.iter().map(|member| (member.name.clone(), member.size)).collect();
    let file = draft(path)?;
    let ui = Arc::clone(session.ui());
    let mut step = |done, total| {
        ui.progress(done, total, "packing");
        !session.interrupted()
    };
    let mut to = BufWriter::with_capacity(1 << 20, file.as_file());
    let packed = dump::pack(&mut to, members, &mut step).and_then(|()| to.flush());
    drop(to);
    ui.clear_progress();
    packed.map_err(|error| match error.kind() {
        std::io::ErrorKind::Interrupted => Error::Interrupted,
        _ => Error::Other(format!("cannot write {}: {error}", path.display())),
    })?;
    keep(file, path, replace)?;
    out.text("Cabinet ");
    out.name("cabinet", &path.display().to_string());
    out.line(" holds");
    out.list("members", |out| {
        for (name, size) in &rows {
            out.record("", |out| {
                out.text("  ");
                out.name("name", name);
                out.field("bytes", Value::UInt(*size), &format!("  {size:#x} bytes"));
                out.end_line();
            });
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_names() {
        let options = parse("/ka /o /c \"two words\" \"a file.dmp\"").unwrap();
        assert!(options.kind == Kind::Active && options.replace && !options.unique);
        assert_eq!((options.comment.as_deref(), options.file.as_str()), (Some("two words"), "a file.dmp"));
        assert!(parse("/tmp/x.dmp").is_ok_and(|options| options.file == "/tmp/x.dmp"));
        assert!(parse("/ba /u x").is_ok_and(|options| options.cabinet == Some(true) && options.unique));
        for wrong in ["", "/f", "/c", "/j 5 x", "x y"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_smaller_dumps() {
        assert!(check_source(Kind::Small, DumpKind::BitmapKernel).is_ok());
        assert!(check_source(Kind::Kernel, DumpKind::Full).is_ok());
        assert!(check_source(Kind::Complete, DumpKind::Kernel).is_err());
        assert!(check_source(Kind::Small, DumpKind::Triage).is_err());
    }
}
