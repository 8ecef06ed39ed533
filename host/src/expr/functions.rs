//! The functions of the MASM evaluator: `$iment $scmp $sicmp $spat $vvalid $fnsucc`.

use super::ExprError;
use super::masm::Parser;
use crate::symbols::Pattern;
use kd_sdk::address::Va;
use std::cmp::Ordering;

/// Calls the function `name` with the arguments at the parser's cursor; `None` if there is no such function.
pub(super) fn call(parser: &mut Parser<'_, '_>, name: &str) -> Result<Option<u64>, ExprError> {
    if !["$iment", "$scmp", "$sicmp", "$spat", "$vvalid", "$fnsucc"].contains(&name) {
        return Ok(None);
    }
    expect(parser, "(")?;
    let value = match name {
        "$iment" => {
            let base = parser.inner()?;
            image_entry(parser, Va(base))?
        }
        "$vvalid" => {
            let va = Va(parser.inner()?);
            expect(parser, ",")?;
            let bytes = parser.inner()?;
            u64::from(parser.context.is_readable(va, bytes))
        }
        "$fnsucc" => {
            // Without the function's type a return value is a status: those below zero are failures.
            parser.inner()?;
            expect(parser, ",")?;
            let value = parser.inner()?;
            expect(parser, ",")?;
            parser.inner()?;
            u64::from(value as u32 as i32 >= 0)
        }
        _ => {
            let first = string(parser)?;
            expect(parser, ",")?;
            let second = string(parser)?;
            match name {
                "$spat" => matches(&first, &second)?,
                "$sicmp" => order(first.to_lowercase().cmp(&second.to_lowercase())),
                _ => order(first.cmp(&second)),
            }
        }
    };
    expect(parser, ")")?;
    Ok(Some(value))
}

fn expect(parser: &mut Parser<'_, '_>, text: &str) -> Result<(), ExprError> {
    if parser.cursor.eat(text) { Ok(()) } else { Err(parser.syntax()) }
}

/// -1, 0 or 1, as `strcmp` has it.
fn order(order: Ordering) -> u64 {
    order as i64 as u64
}

fn matches(text: &str, pattern: &str) -> Result<u64, ExprError> {
    let pattern =
        Pattern::parse(pattern).map_err(|error| ExprError::Unsupported { what: error.to_string() })?;
    Ok(u64::from(pattern.matches(text)))
}

/// `"text"` with C's escapes, or `@"text"` as it stands.
fn string(parser: &mut Parser<'_, '_>) -> Result<String, ExprError> {
    let verbatim = parser.cursor.eat("@\"");
    if !verbatim && !parser.cursor.eat("\"") {
        return Err(parser.syntax());
    }
    let (text, bytes) =
        super::literal::quoted(parser.cursor.rest(), '"', !verbatim).ok_or_else(|| parser.syntax())?;
    parser.cursor.advance(bytes);
    Ok(text)
}

/// The entry point of the image at `base`.
fn image_entry(parser: &Parser<'_, '_>, base: Va) -> Result<u64, ExprError> {
    let read = |va: Va, size| parser.context.read(va, size).map_err(|why| ExprError::Memory { va, why });
    let header = base.add(read(base.add(0x3c), 4)?);
    if read(base, 2)? != 0x5a4d || read(header, 4)? != 0x4550 {
        return Err(ExprError::Unsupported { what: format!("there is no image at {base}") });
    }
    Ok(match read(header.add(0x28), 4)? {
        0 => 0,
        rva => base.add(rva).0,
    })
}
