//! The formats of `.printf`.

use crate::expr::quoted;
use crate::scope::Scope;
use crate::target::float;
use crate::typed::{self, TextStyle};
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};

/// Characters of a text of the target.
const TEXT: usize = 4096;
/// Blanks that a width may ask for.
const WIDTH: usize = 1024;

/// `"FORMAT", EXPRESSION, …` as text.
pub fn format(args: &str, scope: &Scope) -> Result<String> {
    let quoted = args.strip_prefix('"').and_then(|rest| Some((quoted(rest, '"', true)?, rest)));
    let Some(((format, read), rest)) = quoted else {
        return Err(Error::Usage("the format must stand in quotes".to_owned()));
    };
    let mut arguments = rest.get(read..).unwrap_or_default();
    let mut text = String::new();
    let mut rest = format.as_str();
    while let Some((before, spec)) = rest.split_once('%') {
        text.push_str(before);
        if let Some(after) = spec.strip_prefix('%') {
            text.push('%');
            rest = after;
            continue;
        }
        let (spec, after) = Spec::parse(spec).ok_or_else(|| {
            Error::Usage(format!("'%{}' is no format", spec.chars().take(8).collect::<String>()))
        })?;
        let value = next(&mut arguments, scope)?;
        text.push_str(&spec.pad(spec.text(value, scope)));
        rest = after;
    }
    text.push_str(rest);
    match arguments.trim() {
        "" => Ok(text),
        more => Err(Error::Usage(format!("extra character error in '{more}'"))),
    }
}

fn next(arguments: &mut &str, scope: &Scope) -> Result<u64> {
    let Some(rest) = arguments.trim_start().strip_prefix(',') else {
        return Err(Error::Usage("the format asks for more values than there are".to_owned()));
    };
    let (value, rest) = scope.evaluate_first(rest.trim_start())?;
    *arguments = rest;
    Ok(value)
}

/// One `%…`.
struct Spec<'f> {
    flags: &'f str,
    width: usize,
    precision: Option<usize>,
    /// 64 bits wide.
    wide: bool,
    kind: &'f str,
}

impl<'f> Spec<'f> {
    /// Takes the text after a `%` apart: the format and what follows.
    fn parse(text: &'f str) -> Option<(Spec<'f>, &'f str)> {
        let split = |text: &'f str, belongs: &dyn Fn(char) -> bool| {
            text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
        };
        let (flags, rest) = split(text, &|c| "-+ #0".contains(c));
        let (width, mut rest) = split(rest, &|c| c.is_ascii_digit());
        let mut precision = None;
        if let Some(after) = rest.strip_prefix('.') {
            let (digits, after) = split(after, &|c| c.is_ascii_digit());
            precision = Some(digits.parse().unwrap_or(0).min(WIDTH));
            rest = after;
        }
        let sizes = ["I64", "i64", "ll", "I32", "hh", "h", "w"];
        let size = sizes.into_iter().find(|size| rest.starts_with(size)).unwrap_or("");
        rest = rest.get(size.len()..)?;
        let kinds = ["msa", "msu", "ma", "mu", "ly"];
        let kind = match kinds.into_iter().find(|kind| rest.starts_with(kind)) {
            Some(kind) => rest.get(..kind.len())?,
            None => {
                rest = if size.is_empty() { rest.strip_prefix('l').unwrap_or(rest) } else { rest };
                rest.get(..1).filter(|kind| "diuxXocCsSpNeEfFgGy".contains(kind))?
            }
        };
        let spec = Spec {
            flags,
            width: width.parse().unwrap_or(0).min(WIDTH),
            precision,
            wide: matches!(size, "I64" | "i64" | "ll"),
            kind,
        };
        Some((spec, rest.get(kind.len()..)?))
    }

    fn text(&self, value: u64, scope: &Scope) -> String {
        let pointer_size = scope.pointer_size() as u64;
        let unsigned = if self.wide { value } else { u64::from(value as u32) };
        let signed = if self.wide { value as i64 } else { i64::from(value as u32 as i32) };
        let alternate = |prefix: &str, digits: String| {
            let digits = format!("{digits:0>width$}", width = self.precision.unwrap_or(1));
            if self.flags.contains('#') && unsigned != 0 { format!("{prefix}{digits}") } else { digits }
        };
        let double = f64::from_bits(value);
        match self.kind {
            "d" | "i" => {
                let digits =
                    format!("{:0>width$}", signed.unsigned_abs(), width = self.precision.unwrap_or(1));
                match (signed < 0, self.flags.contains('+'), self.flags.contains(' ')) {
                    (true, ..) => format!("-{digits}"),
                    (_, true, _) => format!("+{digits}"),
                    (_, _, true) => format!(" {digits}"),
                    _ => digits,
                }
            }
            "u" => alternate("", unsigned.to_string()),
            "x" => alternate("0x", format!("{unsigned:x}")),
            "X" => alternate("0X", format!("{unsigned:X}")),
            "o" => alternate("0", format!("{unsigned:o}")),
            "c" | "C" => u32::try_from(value & 0xffff)
                .ok()
                .and_then(char::from_u32)
                .map_or(String::new(), String::from),
            "p" | "N" if pointer_size == 4 && self.kind == "p" => format!("{:08x}", value as u32),
            "p" | "N" => format!("{value:016x}"),
            "f" | "F" => format!("{double:.*}", self.precision.unwrap_or(6).min(64)),
            "e" | "E" => format!("{double:.*e}", self.precision.unwrap_or(6).min(64)),
            "g" | "G" => float::general(double, self.precision.unwrap_or(6).min(64)),
            "y" | "ly" => symbol(Va(value), scope),
            "mu" | "S" => self.target_text(Va(value), 2, TEXT, scope),
            "msa" | "msu" => {
                let unit = if self.kind == "msu" { 2 } else { 1 };
                let length = typed::number_at(Va(value), 2, scope);
                let buffer = typed::number_at(Va(value).add(pointer_size), pointer_size, scope);
                match (length, buffer) {
                    (Ok(length), Ok(buffer)) => {
                        let limit = usize::try_from(length / unit).unwrap_or(TEXT).min(TEXT);
                        self.target_text(Va(buffer), unit, limit, scope)
                    }
                    (Err(why), _) | (_, Err(why)) => format!("?? ({why})"),
                }
            }
            _ => self.target_text(Va(value), 1, TEXT, scope),
        }
    }

    fn target_text(&self, va: Va, unit: u64, limit: usize, scope: &Scope) -> String {
        let limit = self.precision.unwrap_or(limit).min(limit);
        if limit == 0 {
            return String::new();
        }
        match typed::text_at(va, unit, limit, TextStyle::Whole, scope) {
            Some(text) => text,
            None => {
                let why = typed::number_at(va, unit, scope).err().unwrap_or_default();
                format!("?? ({why})")
            }
        }
    }

    fn pad(&self, text: String) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if missing == 0 {
            return text;
        }
        let number = "diuxXopNeEfFgG".contains(self.kind);
        if self.flags.contains('-') {
            format!("{text}{}", " ".repeat(missing))
        } else if self.flags.contains('0') && number {
            let signs = text.len() - text.trim_start_matches(['-', '+', ' ']).len();
            let (sign, digits) = text.split_at_checked(signs).unwrap_or(("", &text));
            format!("{sign}{}{digits}", "0".repeat(missing))
        } else {
            format!("{}{text}", " ".repeat(missing))
        }
    }
}

/// `nt!name+0x20 (fffff804`7bdf5aa0)`, or the bare address.
fn symbol(va: Va, scope: &Scope) -> String {
    let shown = va.show(scope.pointer_size());
    match scope.name_of(va) {
        Some(name) => format!("{name} ({shown})"),
        None => shown.to_string(),
    }
}
