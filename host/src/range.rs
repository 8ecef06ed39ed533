//! Address ranges as KD writes them: `START END` (end included), `START LCOUNT`, `START L?COUNT`, `START L-COUNT`.

use crate::scope::Scope;
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};

/// Ranges above this need `L?`, so that a wild count is not shown for hours.
const LIMIT: u64 = 256 << 20;

/// Items from an address on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// First byte.
    pub start: Va,
    /// Items.
    pub items: u64,
}

/// Parses all of `text`. `default_start` is used where there is none, `default_items` where there is no length;
/// `unit` is the size of an item in bytes.
pub fn parse(
    text: &str,
    scope: &Scope,
    default_start: impl FnOnce() -> Va,
    default_items: u64,
    unit: u64,
) -> Result<Range> {
    let text = text.trim();
    let (start, rest) = if text.is_empty() || count_prefix(text).is_some() {
        (default_start(), text)
    } else {
        let (start, rest) = scope.evaluate_first(text)?;
        (Va(start), rest.trim_start())
    };
    if rest.is_empty() {
        return Ok(Range { start, items: default_items });
    }
    let (range, rest) = length(start, rest, scope, unit)?;
    nothing_more(rest)?;
    Ok(range)
}

/// Parses a range with an explicit start and length at the start of `text`; what follows it.
pub fn parse_first<'t>(text: &'t str, scope: &Scope, unit: u64) -> Result<(Range, &'t str)> {
    let (start, rest) = scope.evaluate_first(text.trim_start())?;
    let rest = rest.trim_start();
    if rest.is_empty() {
        return Err(Error::Usage(
            "bad range error: the range has no end; START END or START LCOUNT".to_owned(),
        ));
    }
    let (range, rest) = length(Va(start), rest, scope, unit)?;
    Ok((range, rest.trim_start()))
}

/// [`parse_first`] without the limit of `L?`, for what passes over memory quickly.
pub fn parse_first_unlimited<'t>(text: &'t str, scope: &Scope, unit: u64) -> Result<(Range, &'t str)> {
    let (start, rest) = scope.evaluate_first(text.trim_start())?;
    let (end, after) = match count_prefix(rest.trim_start()) {
        None if !rest.trim().is_empty() => scope.evaluate_first(rest.trim_start())?,
        _ => return parse_first(text, scope, unit),
    };
    match end.checked_sub(start) {
        Some(bytes) => Ok((
            Range { start: Va(start), items: bytes.saturating_add(1).div_ceil(unit) },
            after.trim_start(),
        )),
        None => Err(Error::Usage(format!("range error: {} is before {}", Va(end), Va(start)))),
    }
}

/// What follows the start of a range.
fn length<'t>(start: Va, text: &'t str, scope: &Scope, unit: u64) -> Result<(Range, &'t str)> {
    let Some((kind, count)) = count_prefix(text) else {
        let (end, rest) = scope.evaluate_first(text)?;
        if end < start.0 {
            return Err(Error::Usage(format!("range error: {} is before {start}", Va(end))));
        }
        let bytes = (end - start.0).saturating_add(1);
        return Ok((limited(Range { start, items: bytes.div_ceil(unit) }, unit, false)?, rest));
    };
    let (items, rest) = scope.evaluate_first(count)?;
    let range = match kind {
        Count::Forward => limited(Range { start, items }, unit, false),
        Count::Unlimited => limited(Range { start, items }, unit, true),
        Count::Backward => {
            let start = Va(start.0.wrapping_sub(items.wrapping_mul(unit)));
            limited(Range { start, items }, unit, false)
        }
    };
    Ok((range?, rest))
}

enum Count {
    Forward,
    Unlimited,
    Backward,
}

/// `L10`, `L?10`, `L-10`: the kind and the text of the count.
fn count_prefix(text: &str) -> Option<(Count, &str)> {
    let rest = text.strip_prefix(['L', 'l'])?;
    match rest.strip_prefix('?') {
        Some(count) => Some((Count::Unlimited, count)),
        None => match rest.strip_prefix('-') {
            Some(count) => Some((Count::Backward, count)),
            None => rest
                .starts_with(|c: char| c.is_ascii_hexdigit() || c.is_whitespace() || "(@$+".contains(c))
                .then_some((Count::Forward, rest)),
        },
    }
}

fn nothing_more(rest: &str) -> Result<()> {
    if rest.is_empty() { Ok(()) } else { Err(Error::Usage(format!("syntax error at '{rest}'"))) }
}

fn limited(range: Range, unit: u64, unlimited: bool) -> Result<Range> {
    let bytes = range.items.saturating_mul(unit);
    if bytes > LIMIT && !unlimited {
        return Err(Error::Usage(format!(
            "range error: {bytes:#x} bytes are more than 256 MB; write L?{:x} to mean it",
            range.items
        )));
    }
    Ok(range)
}
