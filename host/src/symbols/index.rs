//! The names of one module, sorted for both questions: what stands at an address, where a name is.
//!
//! All names lie in one text; an entry is sixteen bytes. The order by name is made when a name is first asked for.

use super::decorate::undecorate;
use super::{Hit, Module, Pattern, SymbolKind, TypeId};
use std::ops::{ControlFlow, Range};
use std::sync::OnceLock;

/// A module's names.
#[derive(Default)]
pub(super) struct Index {
    names: String,
    /// Sorted by RVA; the one to show first stands first among those at one RVA.
    slots: Vec<Slot>,
    /// Hash of the name without case in the upper half, slot in the lower; sorted.
    by_name: OnceLock<Vec<u64>>,
}

#[derive(Clone, Copy)]
struct Slot {
    rva: u32,
    start: u32,
    length: u16,
    kind: SymbolKind,
    /// 0: not known.
    of: u32,
}

/// A name and its place in the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// Bytes from the module's base.
    pub rva: u32,
    /// As KD shows it.
    pub name: &'a str,
    pub kind: SymbolKind,
    /// The type of a variable or a function, where the symbols tell.
    pub of: Option<TypeId>,
}

impl Entry<'_> {
    /// This name as the answer for an address `rva` bytes into the module.
    pub(super) fn hit(&self, number: usize, module: &Module<'_>, rva: u64) -> Hit {
        Hit {
            module: number,
            module_name: module.name.to_owned(),
            name: self.name.to_owned(),
            address: module.base.add(u64::from(self.rva)),
            displacement: rva.wrapping_sub(u64::from(self.rva)),
        }
    }
}

/// Collects names for an [`Index`].
#[derive(Default)]
pub(super) struct Builder {
    names: String,
    slots: Vec<Slot>,
}

impl Builder {
    /// Adds the decorated name of a public symbol.
    pub(super) fn public(&mut self, rva: u32, raw: &[u8], code: bool) {
        let kind = if code { SymbolKind::PublicFunction } else { SymbolKind::PublicData };
        self.add(rva, &undecorate(&String::from_utf8_lossy(raw)), kind, 0);
    }

    /// Adds a name that is not decorated.
    pub(super) fn plain(&mut self, rva: u32, name: &[u8], kind: SymbolKind, of: u32) {
        self.add(rva, &String::from_utf8_lossy(name), kind, of);
    }

    fn add(&mut self, rva: u32, name: &str, kind: SymbolKind, of: u32) {
        // Names past 4 GiB of text have nowhere to stand; no real file comes near.
        if let (Ok(start), Ok(length)) = (u32::try_from(self.names.len()), u16::try_from(name.len()))
            && length > 0
            && start.checked_add(length.into()).is_some()
        {
            self.names.push_str(name);
            self.slots.push(Slot { rva, start, length, kind, of });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Sorts what was collected; a name given twice for one place stays once.
    pub(super) fn build(self) -> Index {
        let Builder { names, mut slots } = self;
        // What is shown for a place: a name in letters before a name made up by the compiler.
        let rank = |slot: &Slot| {
            let name = text(&names, slot);
            // Of one name twice, the one that tells more.
            (name.starts_with([' ', '?', '`']), name, slot.of == 0, slot.kind.is_public())
        };
        slots.sort_unstable_by_key(|slot| slot.rva);
        for same in slots.chunk_by_mut(|a, b| a.rva == b.rva).filter(|same| same.len() > 1) {
            same.sort_unstable_by(|a, b| rank(a).cmp(&rank(b)));
        }
        slots.dedup_by(|a, b| a.rva == b.rva && text(&names, a) == text(&names, b));
        slots.shrink_to_fit();
        Index { names, slots, by_name: OnceLock::new() }
    }
}

fn text<'a>(names: &'a str, slot: &Slot) -> &'a str {
    let start = slot.start as usize;
    names.get(start..start.saturating_add(slot.length.into())).unwrap_or_default()
}

/// FNV-1a over the name in lower case.
pub(super) fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    })
}

impl Index {
    fn entry(&self, slot: &Slot) -> Entry<'_> {
        Entry {
            rva: slot.rva,
            name: text(&self.names, slot),
            kind: slot.kind,
            of: (slot.of != 0).then_some(TypeId(slot.of)),
        }
    }

    fn group(&self, rva: u32) -> Range<usize> {
        self.slots.partition_point(|slot| slot.rva < rva)..self.slots.partition_point(|slot| slot.rva <= rva)
    }

    /// The last name at or before an RVA.
    pub(super) fn at_or_before(&self, rva: u32) -> Option<Entry<'_>> {
        let last = self.slots.get(self.group(rva).end.checked_sub(1)?)?;
        self.slots.get(self.group(last.rva).start).map(|slot| self.entry(slot))
    }

    /// The first name after an RVA.
    pub(super) fn after(&self, rva: u32) -> Option<Entry<'_>> {
        self.slots.get(self.group(rva).end).map(|slot| self.entry(slot))
    }

    /// Every name at an RVA.
    pub(super) fn exactly(&self, rva: u32) -> impl Iterator<Item = Entry<'_>> {
        self.slots.get(self.group(rva)).unwrap_or_default().iter().map(|slot| self.entry(slot))
    }

    /// The RVA of a name.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.find_entry(name).map(|entry| entry.rva)
    }

    /// A name: the exact spelling if there is one, else one that differs in case, else the name it has without
    /// decoration.
    pub(super) fn find_entry(&self, name: &str) -> Option<Entry<'_>> {
        self.spelled(name).or_else(|| {
            let bare = undecorate(name);
            if bare == name { None } else { self.spelled(&bare) }
        })
    }

    fn spelled(&self, name: &str) -> Option<Entry<'_>> {
        let by_name = self.by_name.get_or_init(|| {
            let numbered = self.slots.iter().zip(0u32..);
            let hashed = |slot| u64::from(hash(text(&self.names, slot).as_bytes())) << 32;
            let mut all: Vec<u64> = numbered.map(|(slot, n)| hashed(slot) | u64::from(n)).collect();
            all.sort_unstable();
            all
        });
        let wanted = u64::from(hash(name.as_bytes()));
        let first = by_name.partition_point(|pair| pair >> 32 < wanted);
        let mut folded = None;
        for n in by_name.iter().skip(first).take_while(|pair| *pair >> 32 == wanted).map(|pair| *pair as u32)
        {
            let Some(slot) = self.slots.get(n as usize) else { continue };
            let known = text(&self.names, slot);
            if known == name {
                return Some(self.entry(slot));
            }
            if folded.is_none() && known.eq_ignore_ascii_case(name) {
                folded = Some(self.entry(slot));
            }
        }
        folded
    }

    /// Gives every name that matches to the visitor, in order of names.
    pub(super) fn each(
        &self,
        pattern: &Pattern,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut found: Vec<Entry<'_>> = self
            .slots
            .iter()
            .map(|slot| self.entry(slot))
            .filter(|entry| match pattern.literal() {
                Some(literal) => entry.name.eq_ignore_ascii_case(literal),
                None => pattern.matches(entry.name),
            })
            .collect();
        found.sort_by(|a, b| a.name.cmp(b.name).then(a.rva.cmp(&b.rva)));
        for entry in found {
            visit(entry)?;
        }
        ControlFlow::Continue(())
    }

    /// Number of names.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let mut builder = Builder::default();
        builder.public(0x2000, b"_KeBugCheckEx@20", true);
        builder.public(0x1000, b"_PsActiveProcessHead", false);
        builder.plain(0x1000, b"PsActiveProcessHead", SymbolKind::GlobalData, 0x1001);
        builder.public(0x3000, b"_b", true);
        builder.public(0x3000, b"_a", true);
        builder.public(0x4000, b"A", true);
        builder.build()
    }

    #[test]
    fn by_address() {
        let index = index();
        assert_eq!(index.len(), 5);
        assert!(index.at_or_before(0xfff).is_none());
        assert_eq!(index.at_or_before(0x1fff).unwrap().name, "PsActiveProcessHead");
        assert_eq!(index.at_or_before(0x3001).unwrap().name, "a");
        assert_eq!(index.after(0x2000).unwrap().name, "a");
        assert!(index.after(0x4000).is_none());
        let head = index.find_entry("psactiveprocesshead").unwrap();
        assert_eq!((head.kind, head.of), (SymbolKind::GlobalData, Some(TypeId(0x1001))));
        assert_eq!(index.exactly(0x3000).map(|e| e.name).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn by_name_the_exact_spelling_wins() {
        let index = index();
        assert_eq!(index.find("a"), Some(0x3000));
        assert_eq!(index.find("A"), Some(0x4000));
        assert_eq!(index.find("kebugcheckex"), Some(0x2000));
        assert_eq!(index.find("_KeBugCheckEx@20"), Some(0x2000));
        assert_eq!(index.find("KeBugCheck"), None);
    }
}
