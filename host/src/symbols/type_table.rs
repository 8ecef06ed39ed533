//! The records of a type stream, found by index and by name.
//!
//! Making the table finds where the records start and nothing else; names are sorted when the first is asked for.

use super::index::hash;
use super::pdb::StreamBytes;
use super::records::{self, FIRST_RECORD, Record, Udt};
use super::simple::{Simple, simple};
use super::types::TypeId;
use std::sync::OnceLock;

/// The records of one type stream.
pub(super) struct TypeTable {
    stream: StreamBytes,
    /// Bytes of a pointer.
    pub pointer_size: u64,
    /// Where each record starts in the stream (its leaf, after its length), by index from [`FIRST_RECORD`].
    starts: Vec<u32>,
    /// (hash of the key without case, index), sorted; definitions only.
    by_key: OnceLock<Vec<(u32, u32)>>,
}

/// A type as it is written: in its index, or in a record.
pub(super) enum Shape<'a> {
    Simple(&'static Simple),
    SimplePointer(TypeId, u64),
    Record(Record<'a>),
}

/// Chains of modifiers, arrays and base classes are never longer in a healthy file.
pub(super) const DEPTH: u32 = 32;

impl TypeTable {
    /// Reads the header of a type stream and finds its records. Where the pointers' size is not known, that of the
    /// first pointer is taken.
    pub(super) fn new(stream: StreamBytes, pointer_size: Option<u64>) -> Result<TypeTable, String> {
        let mut table = TypeTable {
            stream,
            pointer_size: pointer_size.unwrap_or(8),
            starts: Vec::new(),
            by_key: OnceLock::new(),
        };
        if table.stream.is_empty() {
            return Ok(table);
        }
        let word = |at: usize| table.stream.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
        let (Some(version), Some(header), Some(first)) = (word(0), word(4), word(8)) else {
            return Err("the type stream is shorter than its header".to_owned());
        };
        // 19961031 and before number types with 16 bits.
        if version < 19_990_604 {
            return Err(format!("types of version {version} (before 1999) are not read"));
        }
        if first != FIRST_RECORD {
            return Err(format!("the first type is {first:#x}, not {FIRST_RECORD:#x}"));
        }
        let end = word(16).map_or(0, |bytes| bytes as usize).saturating_add(header as usize);
        let end = end.min(table.stream.len());
        let mut at = header as usize;
        let mut starts = Vec::new();
        while let Some(length) =
            table.stream.get(at..end).and_then(<[u8]>::first_chunk).copied().map(u16::from_le_bytes)
        {
            at = at.saturating_add(2);
            let next = at.saturating_add(usize::from(length));
            let (Ok(start), true) = (u32::try_from(at), length >= 2 && next <= end) else { break };
            starts.push(start);
            at = next;
        }
        table.starts = starts;
        if pointer_size.is_none() {
            let sizes = (FIRST_RECORD..).take(table.starts.len()).map(|index| table.record(TypeId(index)));
            let first = sizes.filter_map(|shape| match shape {
                Shape::Record(Record::Pointer { size: size @ 1.., .. }) => Some(size),
                _ => None,
            });
            table.pointer_size = { first }.next().unwrap_or(8);
        }
        Ok(table)
    }

    /// True where the stream has no records.
    pub(super) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes of the whole stream: no list in it is longer.
    pub(super) fn length(&self) -> usize {
        self.stream.len()
    }

    /// The bytes of a record, from its leaf on.
    pub(super) fn bytes(&self, index: u32) -> Option<&[u8]> {
        let n = index.checked_sub(FIRST_RECORD)? as usize;
        let start = *self.starts.get(n)? as usize;
        let length =
            self.stream.get(start.checked_sub(2)?..)?.first_chunk().copied().map(u16::from_le_bytes)?;
        self.stream.get(start..start.checked_add(usize::from(length))?)
    }

    /// A type, wherever it is written.
    pub(super) fn record(&self, id: TypeId) -> Shape<'_> {
        if id.0 < FIRST_RECORD {
            return simple(id);
        }
        Shape::Record(self.bytes(id.0).map_or(Record::Other, records::record))
    }

    /// The type without const and volatile, and the definition of a type that is only announced here.
    pub(super) fn plain(&self, mut id: TypeId) -> TypeId {
        for _ in 0..DEPTH {
            id = match self.record(id) {
                Shape::Record(Record::Modifier { of } | Record::Alias { of }) => TypeId(of),
                Shape::Record(Record::Udt(Udt { forward: true, name, unique, .. })) => {
                    return self.defined(name, unique).unwrap_or(id);
                }
                Shape::Record(Record::Enum { forward: true, name, unique, .. }) => {
                    return self.defined(name, unique).unwrap_or(id);
                }
                _ => return id,
            };
        }
        id
    }

    /// The definition of an announced type, by the linker's name for it if there is one.
    fn defined(&self, name: &[u8], unique: &[u8]) -> Option<TypeId> {
        let same = |index| match self.definition(index) {
            Some((n, u)) => n == name && (unique.is_empty() || u.is_empty() || u == unique),
            None => false,
        };
        self.keyed(key(name, unique), same)
    }

    /// The name and unique name of a record that defines a type; `None` for any other and for an announcement.
    fn definition(&self, index: u32) -> Option<(&[u8], &[u8])> {
        match records::record(self.bytes(index)?) {
            Record::Udt(Udt { forward: false, name, unique, .. })
            | Record::Enum { forward: false, name, unique, .. } => Some((name, unique)),
            _ => None,
        }
    }

    fn by_key(&self) -> &[(u32, u32)] {
        self.by_key.get_or_init(|| {
            let keyed = |index| {
                let (name, unique) = self.definition(index)?;
                let key = key(name, unique);
                (!key.is_empty()).then(|| (hash(key), index))
            };
            let mut all: Vec<(u32, u32)> =
                (FIRST_RECORD..).take(self.starts.len()).filter_map(keyed).collect();
            all.sort_unstable();
            all
        })
    }

    /// The definition of a named type; the exact spelling wins over one that differs in case.
    pub(super) fn named(&self, name: &str) -> Option<TypeId> {
        let exact = |index| self.definition(index).is_some_and(|(known, _)| known == name.as_bytes());
        let folded = |index| {
            self.definition(index).is_some_and(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))
        };
        self.keyed(name.as_bytes(), exact).or_else(|| self.keyed(name.as_bytes(), folded))
    }

    /// The first definition under a key that `fits`.
    fn keyed(&self, key: &[u8], fits: impl Fn(u32) -> bool) -> Option<TypeId> {
        let by_key = self.by_key();
        let wanted = hash(key);
        let first = by_key.partition_point(|(hash, _)| *hash < wanted);
        by_key
            .iter()
            .skip(first)
            .take_while(|(hash, _)| *hash == wanted)
            // A file can give one name to any number of types; looking for one must have an end.
            .take(4096)
            .map(|(_, index)| *index)
            .find(|index| fits(*index))
            .map(TypeId)
    }

    /// Every definition that has a name of its own.
    pub(super) fn definitions(&self) -> impl Iterator<Item = (&[u8], TypeId)> {
        (FIRST_RECORD..).take(self.starts.len()).filter_map(|index| {
            let (name, _) = self.definition(index)?;
            (!is_unnamed(name)).then_some((name, TypeId(index)))
        })
    }
}

/// What a definition is found by: its name, or where many have the same one, the linker's name for it.
fn key<'a>(name: &'a [u8], unique: &'a [u8]) -> &'a [u8] {
    let shared = [&b""[..], b"<unnamed-tag>", b"<anonymous-tag>", b"__unnamed"].contains(&name);
    if shared { unique } else { name }
}

/// True for the names compilers give to what has none: `<unnamed-tag>`, `<anonymous-tag>`, `__unnamed`,
/// `A::<unnamed-type-u>`.
pub(super) fn is_unnamed(name: &[u8]) -> bool {
    name.is_empty() || name == b"__unnamed" || made_up(name).is_some()
}

/// `<unnamed-type-u>` of `A::<unnamed-type-u>`.
pub(super) fn made_up(name: &[u8]) -> Option<&[u8]> {
    let at = name.iter().rposition(|b| *b == b'<').filter(|_| name.ends_with(b">"))?;
    name.get(at..).filter(|last| last.starts_with(b"<unnamed") || last.starts_with(b"<anonymous"))
}
