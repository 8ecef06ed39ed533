//! What pool tags are for.

use kd_sdk::nt::pool::Tag;
use kd_sdk::prelude::*;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Bytes of images that are searched for a tag at most.
const MOST_IMAGE_BYTES: u64 = 256 << 20;
/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// What a tag is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// The file whose tag it is.
    pub binary: &'static str,
    /// In a few words.
    pub what: &'static str,
}

/// Tags by their bytes; a dot in a tag is any character.
static TAGS: LazyLock<HashMap<[u8; 4], Known>> = LazyLock::new(|| {
    let rows = include_str!("tags.tsv").lines().filter(|line| !line.starts_with('#'));
    let row = |line: &'static str| {
        let mut cells = line.split('\t');
        let (tag, binary, what) = (cells.next()?, cells.next()?, cells.next()?);
        Some((Tag::from_text(tag).bytes(), Known { binary, what }))
    };
    rows.filter_map(row).collect()
});

/// What a tag is for; families (`Wmi.`) after single tags.
pub fn known(tag: Tag) -> Option<Known> {
    let [a, b, c, _] = tag.plain().bytes();
    let tries = [tag.plain().bytes(), [a, b, c, b'.'], [a, b, b'.', b'.']];
    tries.iter().find_map(|bytes| TAGS.get(bytes).copied())
}

/// The loaded drivers whose images contain the tag, the kernel left out.
///
/// # Errors
/// Ctrl+C.
pub fn drivers_with(session: &Session<'_>, tag: Tag) -> Result<Vec<String>> {
    let needle = tag.bytes();
    let mut found = Vec::new();
    let mut budget = MOST_IMAGE_BYTES;
    let mut buffer = vec![0; CHUNK];
    for module in session.target().modules().filter(|module| !module.is_kernel) {
        let size = module.size.min(budget);
        budget -= size;
        let (mut at, end) = (module.base, module.base.add(size));
        while at < end {
            session.check_interrupt()?;
            let len = ((end.0 - at.0) as usize).min(CHUNK);
            let Some(piece) = buffer.get_mut(..len) else { break };
            let (done, fault) = session.memory().read_some(at, piece)?;
            if piece.get(..done).unwrap_or_default().windows(4).any(|bytes| bytes == needle) {
                found.push(module.image.clone());
                break;
            }
            // Pieces overlap by three bytes, so that no tag falls between.
            at = match fault {
                Some(_) => at.add(done as u64).page().add(kd_sdk::address::PAGE_SIZE),
                None if at.add(done as u64) >= end => end,
                None => at.add(done as u64 - 3),
            };
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_tags_are_known() {
        assert!(TAGS.len() > 300, "{}", TAGS.len());
        assert_eq!(known(Tag::from_text("Irp")).map(|k| k.binary), Some("ntoskrnl.exe"));
        assert_eq!(
            known(Tag(Tag::from_text("Proc").0 | Tag::PROTECTED)).map(|k| k.what),
            Some("process objects")
        );
        assert_eq!(
            known(Tag::from_text("Wmi7")).map(|k| k.what),
            known(Tag::from_text("Wmi.")).map(|k| k.what)
        );
        assert_eq!(known(Tag::from_text("zz#q")), None);
    }

    #[test]
    fn the_table_is_well_formed() {
        let mut seen = std::collections::HashSet::new();
        for line in include_str!("tags.tsv").lines().filter(|line| !line.starts_with('#')) {
            let cells: Vec<&str> = line.split('\t').collect();
            assert_eq!(cells.len(), 3, "{line}");
            assert!((1..=4).contains(&cells[0].len()) && !cells[2].is_empty(), "{line}");
            assert!(seen.insert(Tag::from_text(cells[0]).bytes()), "{line} comes twice");
        }
    }
}
