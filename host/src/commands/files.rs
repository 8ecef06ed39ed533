//! `.writemem`, `.write_cmd_hist`; and what every command minds that writes files: secure mode, the files of the open
//! dumps, files that are there already.

use super::{Builtin, Call, Needs};
use crate::range;
use crate::session::Session;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::time::Civil;
use kd_sdk::output::{Out, Value};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &[".writemem"],
        usage: "FILE RANGE",
        summary: "Write memory to a file",
        help: "Stops at the first byte that cannot be read and says how many bytes the file has. A file that is there\n\
               already is written anew, and that is said; the file of an open dump is never written to. Ranges over\n\
               256 MB need L?.",
        needs: Needs::Target,
        run: write_memory,
    },
    Builtin {
        names: &[".write_cmd_hist"],
        usage: "FILE",
        summary: "Write the commands of this session to a file",
        help: "",
        needs: Needs::Nothing,
        run: write_history,
    },
];

/// Bytes read and written at once.
const PIECE: usize = 1 << 20;

/// Refuses what writes files or starts programs in secure mode.
///
/// # Errors
/// In secure mode.
pub fn may_write(session: &Session, command: &str) -> Result<()> {
    match session.settings.secure {
        true => Err(Error::Unsupported(format!("{command} is forbidden in secure mode"))),
        false => Ok(()),
    }
}

/// The name of a file, in quotes or up to a blank, and what follows it.
///
/// # Errors
/// There is none.
pub fn file_name(args: &str) -> Result<(&str, &str)> {
    let args = args.trim_start();
    let (name, rest) = match args.strip_prefix('"') {
        Some(quoted) => quoted
            .split_once('"')
            .ok_or_else(|| Error::Usage("the name of the file has no closing quote".to_owned()))?,
        None => args.split_once(char::is_whitespace).unwrap_or((args, "")),
    };
    match name.is_empty() {
        true => Err(Error::Usage("the name of a file is missing".to_owned())),
        false => Ok((name, rest.trim_start())),
    }
}

/// A name with the number of this process and the time in it: `name_1a2b_2024-05-17_10-20-30-123.dmp`.
pub fn stamped(path: &Path, now: u64) -> PathBuf {
    let t = Civil::from_file_time(now);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let end = path.extension().map_or(String::new(), |end| format!(".{}", end.to_string_lossy()));
    let process = std::process::id();
    path.with_file_name(format!(
        "{stem}_{process:04x}_{:04}-{:02}-{:02}_{:02}-{:02}-{:02}-{:03}{end}",
        t.year, t.month, t.day, t.hour, t.minute, t.second, t.millisecond
    ))
}

/// Refuses to write to the file of a dump that is open; true if there is a file already.
///
/// # Errors
/// It is the file of a dump.
pub fn is_there(session: &Session, path: &Path) -> Result<bool> {
    let Ok(real) = fs::canonicalize(path) else { return Ok(false) };
    let is_dump = |open: &Path| fs::canonicalize(open).is_ok_and(|open| open == real);
    let waiting = session.pending.iter().map(crate::dump::Dump::path);
    let mut dumps = session.targets().iter().map(|open| open.target.dump().path()).chain(waiting);
    match dumps.any(is_dump) {
        true => Err(Error::Usage(format!("{} is the file of a dump that is open", path.display()))),
        false => Ok(true),
    }
}

fn write_memory(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    may_write(session, call.name)?;
    let (name, rest) = file_name(call.args)?;
    let scope = session.scope(call.processor)?;
    let (range, rest) = range::parse_first(rest, &scope, 1)?;
    if !rest.is_empty() {
        return Err(Error::Usage(format!("syntax error at '{rest}'")));
    }
    if range.items == 0 {
        return Err(Error::Usage("range error: the range has no bytes".to_owned()));
    }
    let path = Path::new(name);
    let failed = |error: std::io::Error| Error::Other(format!("cannot write {name}: {error}"));
    let is_there = is_there(session, path)?;
    let ui = Arc::clone(session.ui());
    let mut piece = vec![0; PIECE];
    let mut file = None;
    let mut done = 0;
    let mut fault = None;
    let mut interrupted = false;
    while done < range.items && fault.is_none() {
        if session.interrupted() {
            interrupted = true;
            break;
        }
        let count = usize::try_from(range.items - done).unwrap_or(usize::MAX).min(PIECE);
        let outcome = scope.read(range.start.add(done), piece.get_mut(..count).unwrap_or_default());
        fault = outcome.fault;
        // Where nothing can be read no file is made.
        let bytes = piece.get(..outcome.done).filter(|bytes| !bytes.is_empty());
        let Some(bytes) = bytes else { break };
        if file.is_none() {
            file = Some(File::create(path).map_err(failed)?);
        }
        file.as_mut().map_or(Ok(()), |file| file.write_all(bytes)).map_err(failed)?;
        done += bytes.len() as u64;
        ui.progress(done, range.items, "writing memory");
    }
    ui.clear_progress();
    out.data("requested", Value::UInt(range.items));
    if file.is_some() {
        out.text("Wrote ");
        out.field("bytes", Value::UInt(done), &format!("{done:#x}"));
        out.text(" bytes to '");
        out.name("file", name);
        out.text("'");
        out.data("overwritten", Value::Bool(is_there));
        out.line(if is_there { ", which was there already" } else { "" });
    } else {
        out.data("bytes", Value::UInt(0));
    }
    match fault {
        _ if interrupted && file.is_some() => {
            out.warning(&format!("{name} is incomplete: {done:#x} of {:#x} bytes", range.items));
            Err(Error::Interrupted)
        }
        _ if interrupted => Err(Error::Interrupted),
        Some(fault) if file.is_some() => Err(Error::NotFound(format!(
            "{name} is incomplete, {done:#x} of {:#x} bytes: the byte at {} cannot be read: {}",
            range.items, fault.at, fault.why
        ))),
        Some(fault) => Err(Error::Unreadable { at: fault.at, why: fault.why }),
        None => Ok(()),
    }
}

fn write_history(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    may_write(session, call.name)?;
    let (name, rest) = file_name(call.args)?;
    if !rest.is_empty() {
        return Err(Error::Usage(format!("'{rest}' follows the name of the file")));
    }
    let failed = |error: std::io::Error| Error::Other(format!("cannot write {name}: {error}"));
    is_there(session, Path::new(name))?;
    let mut file = BufWriter::new(File::create(name).map_err(failed)?);
    let lines = session.shelf.history.len();
    for line in &session.shelf.history {
        writeln!(file, "{line}").map_err(failed)?;
    }
    file.flush().map_err(failed)?;
    out.text("Wrote ");
    out.field("commands", Value::UInt(lines as u64), &lines.to_string());
    out.text(" lines of commands to '");
    out.name("file", name);
    out.line("'");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        assert_eq!(file_name(" \"a b\" c").unwrap(), ("a b", "c"));
        assert_eq!(file_name("a  b c").unwrap(), ("a", "b c"));
        assert!(file_name("").is_err() && file_name("\"a").is_err() && file_name("\"\" b").is_err());
        let name = stamped(Path::new("d/x.y.dmp"), 133_604_000_300_000_000);
        let name = name.to_str().unwrap();
        assert!(name.starts_with("d/x.y_") && name.ends_with("_2024-05-17_06-13-50-000.dmp"), "{name}");
    }
}
