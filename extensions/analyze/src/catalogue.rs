//! The table of bug checks: 425 codes with the meaning of their parameters, and the subtypes of many.
//!
//! The data are text files beside this one; codes are hexadecimal there and rows are sorted by code, so a lookup is
//! a binary search over lines that are cut once. Facts come from Microsoft's bug check reference.

use std::sync::LazyLock;

const BUGCHECKS: &str = include_str!("data/bugchecks.tsv");
const VARIANTS: &str = include_str!("data/variants.tsv");
const DESCRIPTIONS: &str = include_str!("data/descriptions.tsv");

/// What the reference says about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The code.
    pub code: u32,
    /// `DRIVER_IRQL_NOT_LESS_OR_EQUAL`.
    pub name: &'static str,
    /// True if the code only ever marks a live dump.
    pub live: bool,
    /// Meaning of each parameter; empty where none is published.
    pub parameters: [&'static str; 4],
    /// What usually causes it; may be empty.
    pub hint: &'static str,
}

/// A subtype: one parameter's value that decides what the others mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    code: u32,
    selector: usize,
    value: u64,
    meaning: &'static str,
    others: [&'static str; 3],
}

static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| rows(BUGCHECKS).filter_map(entry).collect());
static SUBTYPES: LazyLock<Vec<Variant>> = LazyLock::new(|| rows(VARIANTS).filter_map(variant).collect());

/// The lines that hold data.
fn rows(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

fn code_of(line: &str) -> Option<u32> {
    u32::from_str_radix(line.split('\t').next()?, 16).ok()
}

fn entry(line: &'static str) -> Option<Entry> {
    let mut cells = line.split('\t');
    Some(Entry {
        code: u32::from_str_radix(cells.next()?, 16).ok()?,
        name: cells.next()?,
        live: cells.next()? == "live",
        parameters: [cells.next()?, cells.next()?, cells.next()?, cells.next()?],
        hint: cells.next()?,
    })
}

fn variant(line: &'static str) -> Option<Variant> {
    let mut cells = line.split('\t');
    Some(Variant {
        code: u32::from_str_radix(cells.next()?, 16).ok()?,
        selector: cells.next()?.parse::<usize>().ok()?.checked_sub(1)?,
        value: u64::from_str_radix(cells.next()?, 16).ok()?,
        meaning: cells.next()?,
        others: [cells.next()?, cells.next()?, cells.next()?],
    })
}

/// The entry of exactly this code.
pub fn find(code: u32) -> Option<&'static Entry> {
    let entries = &*ENTRIES;
    entries.binary_search_by_key(&code, |entry| entry.code).ok().and_then(|index| entries.get(index))
}

/// The code of a name, in any case.
pub fn by_name(name: &str) -> Option<u32> {
    ENTRIES.iter().find(|entry| entry.name.eq_ignore_ascii_case(name)).map(|entry| entry.code)
}

/// The name to print for a raw code: small dumps have names of their own for four codes.
pub fn name(raw: u32, code: u32) -> Option<&'static str> {
    find(raw).or_else(|| find(code)).map(|entry| entry.name)
}

/// The lines that tell what the code means.
pub fn description(code: u32) -> Vec<&'static str> {
    let row = rows(DESCRIPTIONS).find(|line| code_of(line) == Some(code));
    if let Some((_, text)) = row.and_then(|line| line.split_once('\t')) {
        return text.split(" | ").collect();
    }
    Vec::new()
}

/// What each argument means for these values, the subtype applied. Only the values that are given choose one.
pub fn arguments(code: u32, values: &[u64]) -> [String; 4] {
    let mut texts = find(code).map_or([""; 4], |entry| entry.parameters).map(str::to_owned);
    for variant in subtypes(code) {
        let Some(&value) = values.get(variant.selector) else { continue };
        if value != variant.value {
            continue;
        }
        for (text, other) in texts.iter_mut().skip(1).zip(variant.others) {
            if !other.is_empty() {
                *text = other.to_owned();
            }
        }
        if let Some(text) = texts.get_mut(variant.selector) {
            *text = match text.as_str() {
                "" => variant.meaning.to_owned(),
                own => format!("{own}: {}", variant.meaning),
            };
        }
    }
    texts
}

/// The values that choose a subtype, for the parameters that are not given: parameter (1 to 4), value, meaning.
pub fn choices(code: u32, given: usize) -> impl Iterator<Item = (usize, u64, &'static str)> {
    subtypes(code)
        .iter()
        .filter(move |variant| variant.selector >= given)
        .map(|variant| (variant.selector + 1, variant.value, variant.meaning))
}

/// The subtypes of a code.
fn subtypes(code: u32) -> &'static [Variant] {
    let all = &*SUBTYPES;
    // The live dump of a Driver Verifier violation has the same subtypes.
    let code = if code == 0x1c4 { 0xc4 } else { code };
    let start = all.partition_point(|variant| variant.code < code);
    let end = all.partition_point(|variant| variant.code <= code);
    all.get(start..end).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_loads_and_the_rows_are_sorted_and_unique() {
        assert_eq!(ENTRIES.len(), 425);
        assert_eq!(ENTRIES.len(), rows(BUGCHECKS).count());
        assert!(ENTRIES.windows(2).all(|pair| pair[0].code < pair[1].code));
        assert_eq!(SUBTYPES.len(), rows(VARIANTS).count());
        let key = |v: &Variant| (v.code, v.selector, v.value);
        assert!(SUBTYPES.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])));
        let described: Vec<u32> = rows(DESCRIPTIONS).filter_map(code_of).collect();
        assert_eq!(described.len(), rows(DESCRIPTIONS).count());
        assert_eq!(described.iter().collect::<BTreeSet<_>>().len(), described.len());
        assert!(described.iter().all(|&code| find(code).is_some()));
    }

    #[test]
    fn every_row_looks_right() {
        for entry in ENTRIES.iter() {
            assert!(!entry.name.is_empty(), "{:x}", entry.code);
            assert!(
                entry.name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'),
                "{}",
                entry.name
            );
            for text in entry.parameters.iter().chain([&entry.hint]) {
                assert_eq!(text.trim(), *text, "{}", entry.name);
                assert!(text.is_ascii() && text.len() < 120, "{}: {text}", entry.name);
            }
        }
        for variant in SUBTYPES.iter() {
            assert!(find(variant.code).is_some(), "{:x}", variant.code);
            assert!(variant.selector < 4 && !variant.meaning.is_empty(), "{variant:?}");
        }
    }

    #[test]
    fn names_and_codes() {
        assert_eq!(find(0xd1).map(|e| e.name), Some("DRIVER_IRQL_NOT_LESS_OR_EQUAL"));
        assert_eq!(name(0x1000_007e, 0x7e), Some("SYSTEM_THREAD_EXCEPTION_NOT_HANDLED_M"));
        assert_eq!(name(0x1000_00d1, 0xd1), Some("DRIVER_IRQL_NOT_LESS_OR_EQUAL"));
        assert_eq!(by_name("memory_management"), Some(0x1a));
        assert_eq!(find(0xa000_0001), None);
    }

    #[test]
    fn a_subtype_changes_the_meaning() {
        let texts = arguments(0x139, &[3, 1, 2, 0]);
        assert_eq!(texts[0], "what was damaged: list entry corrupted");
        assert_eq!(texts[1], "trap frame");
        let texts = arguments(0x50, &[0, 0x10, 7, 2]);
        assert!(texts[1].ends_with(": execute"), "{}", texts[1]);
        assert_eq!(texts[2], "instruction that referenced it, if known");
        let texts = arguments(0xa, &[0, 2, 1, 5]);
        assert_eq!(texts[3], "instruction pointer that faulted");
        assert_eq!(arguments(0x139, &[])[0], "what was damaged");
        assert!(choices(0x139, 0).any(|choice| choice == (1, 3, "list entry corrupted")));
        assert_eq!(choices(0x139, 1).count(), 0);
    }
}
