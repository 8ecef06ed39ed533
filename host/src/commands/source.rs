//! `lsf`, `ls`, `lsa`: lines of source files.
//!
//! Private symbol files name the files that code came from. Those names are the builder's: a file is looked for under
//! the folders of `.srcpath` only, with as many of its folders as fit, the longest first.

use super::{Builtin, Call, Needs};
use crate::scope::Scope;
use crate::session::Session;
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &["lsf"],
        usage: "[FILE]",
        summary: "Choose the source file that ls shows",
        help: "FILE is a path, or a name that is looked for under the folders of .srcpath.",
        needs: Needs::Nothing,
        run: choose,
    },
    Builtin {
        names: &["ls"],
        usage: "[FIRST] [, COUNT]",
        summary: "Show lines of the source file that lsf chose",
        help: "Ten lines unless COUNT says otherwise, from where the last ls ended unless FIRST says otherwise.",
        needs: Needs::Nothing,
        run: lines,
    },
    Builtin {
        names: &["lsc"],
        usage: "",
        summary: "Name the source file that ls shows, and its next line",
        help: "",
        needs: Needs::Nothing,
        run: current,
    },
    Builtin {
        names: &["lsa"],
        usage: "ADDRESS [, FIRST [, COUNT]]",
        summary: "Show the source lines around the code at an address",
        help: "Needs a private symbol file, and the source under a folder of .srcpath. FIRST counts from the line of the\n\
               address (-5), COUNT is the number of lines (10).",
        needs: Needs::Target,
        run: around,
    },
];

/// Bytes of a source file.
const LARGEST: u64 = 64 << 20;
/// Lines that are shown unless another number is asked for.
const COUNT: i64 = 10;

/// The source file that `ls` shows.
pub struct SourceFile {
    path: PathBuf,
    lines: Vec<String>,
    /// The line, from 1, that `ls` goes on at.
    next: i64,
}

impl SourceFile {
    /// Reads a file; `None` where there is none.
    fn open(path: &Path) -> Option<Result<SourceFile>> {
        let file = File::open(path).ok()?;
        // No device, no pipe: they may never end.
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        if let Err(error) = file.take(LARGEST).read_to_end(&mut bytes) {
            return Some(Err(Error::Other(format!("{}: {error}", path.display()))));
        }
        let lines = String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
        Some(Ok(SourceFile { path: path.to_owned(), lines, next: 1 }))
    }

    /// Looks for the file that a symbol file or a user names.
    fn find(source_path: &str, name: &str) -> Result<SourceFile> {
        let parts: Vec<&str> = name
            .split(['/', '\\'])
            .filter(|part| !matches!(*part, "" | "." | "..") && !part.ends_with(':'))
            .collect();
        let folders = source_path.split(';').map(str::trim).filter(|folder| !folder.is_empty());
        for folder in folders {
            for first in 0..parts.len() {
                let path: PathBuf = [folder]
                    .into_iter()
                    .chain(parts.get(first..).unwrap_or_default().iter().copied())
                    .collect();
                if let Some(found) = SourceFile::open(&path) {
                    return found;
                }
            }
        }
        Err(Error::NotFound(match source_path.trim() {
            "" => format!("{name} is not looked for: the source path is empty; set one with .srcpath"),
            path => format!("{name} is under no folder of the source path ({path})"),
        }))
    }

    /// Shows lines; `marked` has a mark.
    fn show(&mut self, out: &Out<'_>, first: i64, count: i64, marked: Option<i64>) {
        let first = first.max(1);
        let path = self.path.display().to_string();
        out.data("file", Value::Text(&path));
        let shown =
            usize::try_from(first - 1).unwrap_or(0)..usize::try_from(first - 1 + count.max(0)).unwrap_or(0);
        let end = shown.end.min(self.lines.len());
        out.list("lines", |out| {
            for (index, text) in self.lines.get(shown.start..end).unwrap_or_default().iter().enumerate() {
                let line = first + index as i64;
                out.record("", |out| {
                    let is_marked = marked == Some(line);
                    let number = format!("{}{line:>5}: ", if is_marked { ">" } else { " " });
                    out.styled_field("line", Value::Int(line), Style::Dim, &number);
                    if is_marked {
                        out.data("marked", Value::Bool(true));
                    }
                    out.name("text", text);
                    out.end_line();
                });
            }
        });
        self.next = end as i64 + 1;
    }
}

fn choose(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let name = call.args.trim_matches('"');
    if !name.is_empty() {
        let found = match SourceFile::open(Path::new(name)) {
            Some(found) => found,
            None => SourceFile::find(&session.settings.source_path, name),
        };
        session.last_source = Some(found?);
    }
    match &session.last_source {
        Some(source) => {
            let path = source.path.display().to_string();
            out.field("file", Value::Text(&path), &format!("Current source file: {path}"));
        }
        None => out.text("There is no current source file"),
    }
    out.end_line();
    Ok(())
}

fn current(session: &mut Session, out: &Out<'_>, _: &Call<'_>) -> Result<()> {
    match &session.last_source {
        Some(source) => {
            out.text("Current: ");
            out.name("file", &source.path.display().to_string());
            out.field("line", Value::Int(source.next), &format!("({})", source.next));
        }
        None => out.text("There is no current source file"),
    }
    out.end_line();
    Ok(())
}

/// Signed numbers with commas between them.
fn numbers(scope: &Scope, text: &str) -> Result<Vec<Option<i64>>> {
    let number = |text: &str| match text.trim() {
        "" => Ok(None),
        text => scope.evaluate_wide(text).map(|number| Some(number as i64)),
    };
    text.split(',').map(number).collect()
}

fn lines(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let numbers = numbers(&session.scope(None)?, call.args)?;
    let [first, count] = [0, 1].map(|index| numbers.get(index).copied().flatten());
    let source = session.last_source.as_mut();
    let source =
        source.ok_or_else(|| Error::NotFound("no source file is chosen: lsf FILE, or lsa".to_owned()))?;
    if first.unwrap_or(source.next) > source.lines.len() as i64 {
        return Err(Error::NotFound(format!("{} has {} lines", source.path.display(), source.lines.len())));
    }
    source.show(out, first.unwrap_or(source.next), count.unwrap_or(COUNT), None);
    Ok(())
}

fn around(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let (address, rest) = call.args.split_once(',').unwrap_or((call.args, ""));
    let va = Va(scope.evaluate(if address.trim().is_empty() { "." } else { address })?);
    let numbers = numbers(&scope, rest)?;
    let [first, count] = [0, 1].map(|index| numbers.get(index).copied().flatten());
    let open = scope.open()?;
    let line = open.symbols.line_at(&open.target, va).ok_or_else(|| {
        Error::NoSymbols(format!(
            "no symbols tell of the source line of {va}; lines need a private symbol file"
        ))
    })?;
    let path = session.settings.source_path.clone();
    let mut source = SourceFile::find(&path, &line.file)?;
    let at = i64::from(line.line);
    source.show(out, at.saturating_add(first.unwrap_or(-5)), count.unwrap_or(COUNT), Some(at));
    session.last_source = Some(source);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_are_looked_for_under_the_path_only() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("src");
        fs::create_dir_all(root.join("io/sys")).unwrap();
        fs::write(root.join("io/sys/a.c"), "deep\n").unwrap();
        fs::write(root.join("a.c"), "near\nsecond\n").unwrap();
        fs::write(folder.path().join("secret.c"), "no\n").unwrap();
        let path = format!("/nowhere;{}", root.display());
        let found =
            |name: &str| SourceFile::find(&path, name).map(|file| file.lines.first().cloned().unwrap());
        // The longest part of the builder's path that is there.
        assert_eq!(found("d:\\os\\io\\sys\\a.c").unwrap(), "deep");
        assert_eq!(found("/build/other/a.c").unwrap(), "near");
        assert!(
            found("..\\secret.c").unwrap_err().to_string().contains("under no folder of the source path")
        );
        assert!(found("io").is_err(), "a folder is no file");
        let error = SourceFile::find(" ", "a.c").map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("the source path is empty"));
    }
}
