//! The name a reader sees for the name the linker wrote.
//!
//! Public symbols carry decorated names. KD shows them bare: one leading underscore goes (on every machine), the
//! `@N` of stdcall and the `@name@N` of fastcall go, and of a C++ name only the qualified name stays. A C++ name
//! that needs more than that (templates, operators) is shown as it stands.

use std::borrow::Cow;

/// The name to show for a public symbol.
pub(super) fn undecorate(raw: &str) -> Cow<'_, str> {
    if let Some(text) = raw.strip_prefix("??_C@") {
        return literal(text);
    }
    if let Some(text) = raw.strip_prefix('?') {
        return qualified(text).map_or(Cow::Borrowed(raw), Cow::Owned);
    }
    if let Some(bare) = raw.strip_prefix('@') {
        return Cow::Borrowed(without_argument_bytes(bare).unwrap_or(raw));
    }
    match raw.strip_prefix('_') {
        Some(bare) if !bare.is_empty() => Cow::Borrowed(without_argument_bytes(bare).unwrap_or(bare)),
        _ => Cow::Borrowed(raw),
    }
}

/// `KeBugCheckEx@20` without `@20`; `None` where there is none.
fn without_argument_bytes(name: &str) -> Option<&str> {
    let (bare, bytes) = name.rsplit_once('@')?;
    let bare = bare.strip_suffix('@').unwrap_or(bare);
    (!bare.is_empty() && !bytes.is_empty() && bytes.bytes().all(|b| b.is_ascii_digit())).then_some(bare)
}

/// A string literal, `_03GJALCMIF@COM@FNODOBFM@`: the kind of character, the length (a digit, or letters up to
/// `@`), a hash, the text, and the scope it belongs to, if any.
fn literal(text: &str) -> Cow<'_, str> {
    let scope = || {
        let length = text.strip_prefix("_0").or_else(|| text.strip_prefix("_1"))?;
        let rest = match length.strip_prefix(|c: char| c.is_ascii_digit()) {
            Some(rest) => rest,
            None => length.split_once('@')?.1,
        };
        let (_hash, rest) = rest.split_once('@')?;
        let (_text, scope) = rest.split_once('@')?;
        scope.split('@').next().filter(|scope| !scope.is_empty())
    };
    match scope() {
        Some(scope) => Cow::Owned(format!(" ?? ::{scope}::`string'")),
        None => Cow::Borrowed("`string'"),
    }
}

/// `Name@Inner@Outer@@…` as `Outer::Inner::Name`; `None` where it is more than plain names.
fn qualified(text: &str) -> Option<String> {
    #[derive(PartialEq)]
    enum First {
        Name,
        Constructor,
        Destructor,
        Special(&'static str),
    }
    let special = [
        ("?0", First::Constructor),
        ("?1", First::Destructor),
        ("?_7", First::Special("`vftable'")),
        ("?_G", First::Special("`scalar deleting destructor'")),
        ("?_E", First::Special("`vector deleting destructor'")),
        ("?2", First::Special("operator new")),
        ("?3", First::Special("operator delete")),
        ("?4", First::Special("operator=")),
    ];
    let (first, mut rest) = special
        .into_iter()
        .find_map(|(mark, first)| Some((first, text.strip_prefix(mark)?)))
        .unwrap_or((First::Name, text));
    let mut parts: Vec<&str> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    loop {
        if rest.starts_with('@') {
            break;
        }
        let mut chars = rest.chars();
        match chars.next()? {
            // A digit names one of the parts before it.
            digit @ '0'..='9' => {
                parts.push(seen.get(digit.to_digit(10)? as usize)?);
                rest = chars.as_str();
            }
            '?' => return None,
            _ => {
                let (part, after) = rest.split_once('@')?;
                if !part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '<' | '>' | '-')) {
                    return None;
                }
                parts.push(part);
                seen.push(part);
                rest = after;
            }
        }
        if parts.len() > 32 {
            return None;
        }
    }
    let class = parts.first().copied();
    let head = match first {
        First::Name => None,
        First::Constructor => Some(class?.to_owned()),
        First::Destructor => Some(format!("~{}", class?)),
        First::Special(name) => Some(name.to_owned()),
    };
    parts.reverse();
    let mut name = parts.join("::");
    if let Some(head) = head {
        if !name.is_empty() {
            name.push_str("::");
        }
        name.push_str(&head);
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::undecorate;

    #[test]
    fn names_are_shown_bare() {
        for (raw, shown) in [
            ("KeBugCheckEx", "KeBugCheckEx"),
            ("_KeBugCheckEx@20", "KeBugCheckEx"),
            ("@KfLowerIrql@4", "KfLowerIrql"),
            ("_PsActiveProcessHead", "PsActiveProcessHead"),
            ("__C_specific_handler", "_C_specific_handler"),
            ("__imp__HalX", "_imp__HalX"),
            ("_", "_"),
            ("@", "@"),
            ("??_C@_03GJALCMIF@COM@FNODOBFM@", " ?? ::FNODOBFM::`string'"),
            ("??_C@_00CNPNBAHC@@FNODOBFM@", " ?? ::FNODOBFM::`string'"),
            ("??_C@_1BO@HPPLGKKG@?$AAK?$AAe@FNODOBFM@", " ?? ::FNODOBFM::`string'"),
            ("??_C@_0M@ELLJPMKM@KfLowerIrql?$AA@", "`string'"),
            ("??_C@", "`string'"),
            ("?Allocate@Pool@Nt@@QEAAPEAX_K@Z", "Nt::Pool::Allocate"),
            ("??0Pool@@QEAA@XZ", "Pool::Pool"),
            ("??1Pool@Nt@@QEAA@XZ", "Nt::Pool::~Pool"),
            ("??_7Pool@@6B@", "Pool::`vftable'"),
            ("?f@?$T@H@@QEAAXXZ", "?f@?$T@H@@QEAAXXZ"),
            ("?", "?"),
            ("?@", "?@"),
        ] {
            assert_eq!(undecorate(raw), shown, "{raw}");
        }
    }
}
