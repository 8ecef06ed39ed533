//! Brings KD's spellings into the one form that clap parses: `/z FILE`, `-rnv` and `-aEXT` become `--z=FILE`,
//! `--r --n --v` and `--a=EXT`. What is no option ends here, with a hint.

use super::UsageError;
use super::table::{Argument, Effect, ROWS, Row};
use std::ffi::{OsStr, OsString};
use std::path::Path;

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
pub(super) fn normalize(args: Vec<OsString>) -> Result<Vec<OsString>, UsageError> {
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
