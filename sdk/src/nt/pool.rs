//! Pool: headers of blocks, pages of blocks, the table of big allocations, the trackers of tags.
//!
//! Before every block of less than a page stands a `_POOL_HEADER`; sizes in it count units of the header's own size.
//! Up to Windows 10 1809 blocks stand one after the other in pages and each tells the size of the one before it. Later
//! a segment heap holds the blocks, see [`super::heap`]: the header stays, the size of the block before does not.

use super::{memory, va_space};
use crate::address::{PAGE_SIZE, Va};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::types::Type;
use std::collections::HashMap;

/// Where KDDEBUGGER_DATA64 holds addresses of variables.
const KD_POOL_TRACK_TABLE: u32 = 0x1b8;
const KD_NON_PAGED_POOL_START: u32 = 0x110;
const KD_NON_PAGED_POOL_END: u32 = 0x118;
const KD_PAGED_POOL_START: u32 = 0x120;
const KD_PAGED_POOL_END: u32 = 0x128;
/// The most entries of a tracker table or of the table of big allocations.
const MOST_ENTRIES: u64 = 1 << 22;
/// Bytes of tables that are read at once.
const CHUNK: usize = 1 << 20;
/// The most processors with a tracker table of their own.
const MOST_PROCESSORS: u64 = 2048;

/// A pool tag: four bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u32);

impl Tag {
    /// The highest bit of a tag marks a block that only its owner may free.
    pub const PROTECTED: u32 = 0x8000_0000;

    /// From text: shorter tags end in blanks.
    pub fn from_text(text: &str) -> Tag {
        let mut bytes = [b' '; 4];
        for (to, from) in bytes.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        Tag(u32::from_le_bytes(bytes))
    }

    /// Without the mark of protected blocks.
    pub fn plain(self) -> Tag {
        Tag(self.0 & !Tag::PROTECTED)
    }

    /// True where all four bytes can be printed, as those of nearly every tag can.
    pub fn is_text(self) -> bool {
        self.plain().bytes().iter().all(|byte| (0x20..0x7f).contains(byte))
    }

    /// The four bytes.
    pub fn bytes(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }
}

impl core::fmt::Display for Tag {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for byte in self.plain().bytes() {
            let shown = if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' };
            write!(f, "{shown}")?;
        }
        Ok(())
    }
}

impl core::fmt::Debug for Tag {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Tag({self})")
    }
}

/// A pattern of a tag: `?` stands for any byte, `*` for any rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pattern {
    bits: u32,
    mask: u32,
}

impl Pattern {
    /// Of `Irp`, `Nt*`, `?o?k`; case matters.
    ///
    /// # Errors
    /// For more than four characters.
    pub fn parse(text: &str) -> Result<Pattern> {
        let bytes = text.as_bytes();
        let star = bytes.iter().position(|&byte| byte == b'*');
        let used = star.unwrap_or(bytes.len());
        if used > 4 || used == 0 && star.is_none() {
            return Err(Error::Usage(format!("'{text}' is no tag: a tag has four characters")));
        }
        let (mut bits, mut mask) = ([b' '; 4], [0xff; 4]);
        for (index, (bit, mask)) in bits.iter_mut().zip(mask.iter_mut()).enumerate() {
            match bytes.get(index).filter(|_| index < used) {
                Some(b'?') => (*bit, *mask) = (0, 0),
                Some(&byte) => *bit = byte,
                None if star.is_some() => (*bit, *mask) = (0, 0),
                None => {}
            }
        }
        let mask = u32::from_le_bytes(mask) & !Tag::PROTECTED;
        Ok(Pattern { bits: u32::from_le_bytes(bits) & mask, mask })
    }

    /// Exactly this tag.
    pub fn of(tag: Tag) -> Pattern {
        Pattern { bits: tag.plain().0, mask: !Tag::PROTECTED }
    }

    /// True for a tag that it describes.
    #[inline]
    pub fn matches(self, tag: Tag) -> bool {
        tag.0 & self.mask == self.bits
    }
}

/// A kind of pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Kind {
    /// Never paged out.
    NonPaged,
    /// May be paged out.
    Paged,
    /// Paged, one for each session.
    Session,
    /// For finding overruns: a block in a page.
    Special,
}

impl Kind {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Kind::NonPaged => "Nonpaged pool",
            Kind::Paged => "Paged pool",
            Kind::Session => "Paged session pool",
            Kind::Special => "Special pool",
        }
    }

    /// For programs.
    pub fn key(self) -> &'static str {
        match self {
            Kind::NonPaged => "nonpaged",
            Kind::Paged => "paged",
            Kind::Session => "session",
            Kind::Special => "special",
        }
    }

    /// From the bits of a `POOL_TYPE`.
    pub fn of_type(kind: u64) -> Kind {
        match (kind & 0x20 != 0, kind & 1 != 0) {
            (true, _) => Kind::Session,
            (false, true) => Kind::Paged,
            (false, false) => Kind::NonPaged,
        }
    }
}

/// Where the fields of a header are. Works on bytes alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderLayout {
    /// Bytes of a header: the unit of sizes.
    pub unit: u64,
    /// Bits of a size; the other half of 16 is the index, or the type.
    size_bits: u32,
    /// The bit of the type that says in use; the type counts from one where it is 4.
    in_use: u64,
}

/// A header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Bytes, the header included.
    pub size: u64,
    /// Bytes of the block before; 0 for the first of a page.
    pub previous: u64,
    /// Which pool of its kind.
    pub index: u64,
    /// The type as it is stored.
    pub raw_type: u64,
    /// In use.
    pub allocated: bool,
    /// Its kind, where it is in use.
    pub kind: Option<Kind>,
    /// Its tag.
    pub tag: Tag,
}

impl HeaderLayout {
    /// The layout of a target. Headers have looked the same since Windows XP, one way on 32 bits and one on 64; types
    /// are asked where there are any.
    pub fn of(session: &Session<'_>) -> HeaderLayout {
        let narrow = session.target().pointer_size() == 4;
        let mut layout = HeaderLayout {
            unit: if narrow { 8 } else { 16 },
            size_bits: if narrow { 9 } else { 8 },
            in_use: 2,
        };
        if let Ok(of) = session.types().find("nt!_POOL_HEADER") {
            layout.unit = of.size().clamp(8, 32);
            if let Some(size) = of.field("BlockSize") {
                layout.size_bits = size.bit_length.clamp(1, 15);
            }
        }
        // The mark of blocks in use moved when frames got priorities.
        if let Ok(of) = session.types().find("nt!_MMPFN") {
            let newer = of.has("u3.e1.Priority") || of.has("u3.e3.Priority");
            layout.in_use = if newer { 2 } else { 4 };
        }
        layout
    }

    /// Of 64-bit systems since Windows Vista.
    #[cfg(test)]
    pub(super) fn wide() -> HeaderLayout {
        HeaderLayout { unit: 16, size_bits: 8, in_use: 2 }
    }

    /// A header from the first 8 bytes of it.
    #[inline]
    pub fn parse(&self, bytes: &[u8]) -> Option<Header> {
        let word = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let mask = (1u64 << self.size_bits) - 1;
        let raw_type = (word >> 16 & 0xffff) >> self.size_bits;
        let allocated = raw_type & self.in_use != 0;
        let kind = if self.in_use == 4 { (raw_type & !4).wrapping_sub(1) } else { raw_type };
        Some(Header {
            previous: (word & mask) * self.unit,
            index: (word & 0xffff) >> self.size_bits,
            size: (word >> 16 & mask) * self.unit,
            raw_type,
            allocated,
            kind: allocated.then(|| Kind::of_type(kind)),
            tag: Tag((word >> 32) as u32),
        })
    }
}

/// A block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Its header; of a big allocation its memory.
    pub at: Va,
    /// Bytes, the header included.
    pub size: u64,
    /// As its header tells; 0 where nothing tells.
    pub previous: u64,
    /// In use.
    pub allocated: bool,
    /// Its tag.
    pub tag: Tag,
    /// Where it stands.
    pub place: Place,
}

/// In what a block stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A page of blocks.
    Page,
    /// A chunk of variable size in a segment heap.
    Chunk,
    /// A slot of the low-fragmentation part of a segment heap.
    Slot,
    /// Pages of its own.
    Big,
    /// The end of a page of special pool; `at` is its memory.
    Special,
}

impl Place {
    /// For programs.
    pub fn key(self) -> &'static str {
        match self {
            Place::Page => "page",
            Place::Chunk => "chunk",
            Place::Slot => "slot",
            Place::Big => "big",
            Place::Special => "special",
        }
    }
}

/// What is wrong with a page of blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Corruption {
    /// The header that shows it.
    pub at: Va,
    /// What is wrong, in words.
    pub what: String,
}

/// True for a page that begins as one of blocks does: what is asked where others may lie beside pool.
pub fn begins_page(layout: &HeaderLayout, bytes: &[u8]) -> bool {
    layout.parse(bytes).is_some_and(|header| {
        let text = header.tag.plain().bytes().iter().all(|byte| (0x20..0x7f).contains(byte));
        header.previous == 0 && (1..=PAGE_SIZE).contains(&header.size) && text
    })
}

/// Hands the blocks of a page, from its start, to `visit`; ends with what is wrong, if anything is. `bytes` may be
/// shorter than a page: what follows is then not known.
pub fn walk_page(
    layout: &HeaderLayout,
    page: Va,
    bytes: &[u8],
    visit: &mut dyn FnMut(Block),
) -> Option<Corruption> {
    let (mut at, mut before) = (0u64, 0u64);
    let wrong = |at: u64, what: String| Some(Corruption { at: page.add(at), what });
    while at < PAGE_SIZE {
        let rest = bytes.get(at as usize..).unwrap_or_default();
        let header = layout.parse(rest)?;
        if header.previous != before {
            return wrong(
                at,
                format!(
                    "it says the block before it has {:#x} bytes, that one says {before:#x}",
                    header.previous
                ),
            );
        }
        if header.size == 0 {
            return wrong(at, "its size is zero".to_owned());
        }
        if at + header.size > PAGE_SIZE {
            return wrong(at, format!("its size {:#x} goes beyond the end of the page", header.size));
        }
        visit(Block {
            at: page.add(at),
            size: header.size,
            previous: header.previous,
            allocated: header.allocated,
            tag: header.tag,
            place: Place::Page,
        });
        before = header.size;
        at += header.size;
    }
    None
}

/// A big allocation: pages of its own, without a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Big {
    /// Its memory.
    pub at: Va,
    /// Bytes.
    pub size: u64,
    /// Its tag.
    pub tag: Tag,
    /// Its kind, where the table tells.
    pub kind: Option<Kind>,
    /// Given back; the entry is about to be used again.
    pub freed: bool,
}

/// The table of big allocations, sorted by address, and what of it is missing.
///
/// # Errors
/// Where it is not known where it is.
pub fn big_allocations(session: &Session<'_>) -> Result<(Vec<Big>, Option<Error>)> {
    let of = memory::kernel_type(session, "_POOL_TRACKER_BIG_PAGES")?;
    let table = super::pointer_variable(session, "PoolBigPageTable", None)?;
    let count = super::pointer_variable(session, "PoolBigPageTableSize", None)?.0;
    let (va, key) = (of.require("Va")?, of.require("Key")?);
    let (bytes, pages, kind) = (of.field("NumberOfBytes"), of.field("NumberOfPages"), of.field("PoolType"));
    let number =
        |entry: &[u8], field: &crate::abi::FieldInfo| crate::types::field_number(field, entry).unwrap_or(0);
    let mut list = Vec::new();
    let missing = each_entry(session, &of, table, count, &mut |entry| {
        let address = number(entry, &va);
        // The lowest bit marks what was given back.
        let at = Va(address & !1);
        if !session.target().is_kernel(at) || at.page_offset() != 0 {
            return;
        }
        let size = match (&bytes, &pages) {
            (Some(field), _) => number(entry, field),
            (None, Some(field)) => number(entry, field).saturating_mul(PAGE_SIZE),
            (None, None) => 0,
        };
        list.push(Big {
            at,
            size,
            tag: Tag(number(entry, &key) as u32),
            kind: kind.as_ref().map(|field| Kind::of_type(number(entry, field))),
            freed: address & 1 != 0,
        });
    })?;
    list.sort_by_key(|big| big.at);
    Ok((list, missing))
}

/// The big allocation that holds `va`; one in use before one given back.
pub fn big_at(list: &[Big], va: Va) -> Option<&Big> {
    let after = list.partition_point(|big| big.at <= va);
    let before = list.get(..after)?.iter().rev();
    // Allocations do not overlap, except with what was given back before: a few steps are enough.
    let holds = |big: &&Big| va.0 - big.at.0 < big.size;
    let found: Vec<&Big> = before.take(16).filter(holds).collect();
    found.iter().find(|big| !big.freed).or(found.first()).copied()
}

/// Reads a table of structures in large pieces; what of it is missing.
fn each_entry(
    session: &Session<'_>,
    of: &Type<'_>,
    table: Va,
    count: u64,
    visit: &mut dyn FnMut(&[u8]),
) -> Result<Option<Error>> {
    let size = usize::try_from(of.size()).unwrap_or(0);
    if size == 0 || !session.target().is_kernel(table) {
        return Err(Error::Other(format!("no table of {} stands at {table}", of.name())));
    }
    let mut missing = None;
    let refused = count > MOST_ENTRIES;
    let count = count.min(MOST_ENTRIES);
    let mut buffer = vec![0; CHUNK / size * size];
    let mut at = 0;
    while at < count {
        session.check_interrupt()?;
        let bytes = ((count - at) * size as u64).min(buffer.len() as u64) as usize;
        let piece = buffer.get_mut(..bytes).unwrap_or_default();
        let (done, fault) = session.memory().read_some(table.add(at * size as u64), piece)?;
        piece.get(..done).unwrap_or_default().chunks_exact(size).for_each(&mut *visit);
        at += (done / size) as u64;
        if let Some(fault) = fault {
            // To the page after the hole.
            let next = (table.0.wrapping_add(at * size as u64) | (PAGE_SIZE - 1)).wrapping_add(1);
            missing = missing.or(Some(fault));
            at = next.saturating_sub(table.0).div_ceil(size as u64).max(at + 1);
        }
    }
    if refused {
        missing = Some(Error::Other(format!(
            "the table at {table} claims more than {MOST_ENTRIES} entries; the rest is not read"
        )));
    }
    Ok(missing)
}

/// What is counted of a tag in one pool.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Use {
    /// Allocations made.
    pub allocations: u64,
    /// Given back.
    pub frees: u64,
    /// Bytes in use.
    pub bytes: u64,
}

impl Use {
    /// Allocations in use. Counters of old systems have 32 bits and wrap together.
    pub fn outstanding(&self) -> u64 {
        let wide = self.allocations > u64::from(u32::MAX) || self.frees > u64::from(u32::MAX);
        let difference = self.allocations.wrapping_sub(self.frees);
        if wide { difference } else { difference & 0xffff_ffff }
    }

    /// True where nothing was ever counted.
    pub fn is_nothing(&self) -> bool {
        *self == Use::default()
    }
}

/// What is counted of a tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tracked {
    /// The tag.
    pub tag: Tag,
    /// In nonpaged pool.
    pub nonpaged: Use,
    /// In paged pool.
    pub paged: Use,
}

/// What the kernel counts of each tag, in no order, and what is missing. `of_session`: of session pool.
///
/// # Errors
/// Where it is not known where the tables are.
pub fn trackers(session: &Session<'_>, of_session: bool) -> Result<(Vec<Tracked>, Vec<Error>)> {
    let of = memory::kernel_type(session, "_POOL_TRACKER_TABLE")?;
    let pointer = |name, kd| super::pointer_variable(session, name, kd);
    let mut tables = Vec::new();
    if of_session {
        let size = pointer("ExpSessionPoolTrackTableSize", None)?.0;
        let names = ["ExpSessionPoolTrackTable", "MiSessionPoolTrackTable"];
        let named = names.into_iter().find(|name| super::variable(session, name, None).is_ok());
        let named = named.ok_or_else(|| {
            let gone =
                "this kernel counts no session pool by tag: its symbols have no nt!ExpSessionPoolTrackTable";
            Error::NotFound(gone.to_owned())
        });
        let named = named.and_then(|name| pointer(name, None));
        // The current session's, which another process does not see.
        let seen = |table: &Va| session.target().is_kernel(*table) && session.memory().u32(*table).is_ok();
        match named.as_ref().ok().filter(|table| seen(table)) {
            Some(&table) => tables.push((table, size)),
            None => {
                let all = session_tables(session).into_iter().filter(seen);
                tables.extend(all.map(|table| (table, size)));
                if tables.is_empty() {
                    tables.push((named?, size));
                }
            }
        }
    } else {
        let size = pointer("PoolTrackTableSize", None)?.0;
        let first = pointer("PoolTrackTable", Some(KD_POOL_TRACK_TABLE))?;
        tables.push((first, size));
        for table in processor_tables(session, first) {
            tables.push((table, size));
        }
        if let Ok(more) = pointer("PoolTrackTableExpansion", None)
            && !more.is_null()
        {
            tables.push((more, pointer("PoolTrackTableExpansionSize", None)?.0));
        }
    }
    let key = of.require("Key")?;
    let fields =
        ["NonPagedAllocs", "NonPagedFrees", "NonPagedBytes", "PagedAllocs", "PagedFrees", "PagedBytes"];
    let fields: Vec<_> = fields.iter().map(|path| of.require(path)).collect::<Result<_>>()?;
    let widths: Vec<u64> =
        fields.iter().map(|field| if field.size >= 8 { u64::MAX } else { 0xffff_ffff }).collect();
    let mut sums: HashMap<Tag, [u64; 6]> = HashMap::new();
    let mut missing = Vec::new();
    for (table, count) in tables {
        let result = each_entry(session, &of, table, count, &mut |entry| {
            let number = |field| crate::types::field_number(field, entry).unwrap_or(0);
            let tag = Tag(number(&key) as u32);
            if tag.0 == 0 {
                return;
            }
            let sum = sums.entry(tag).or_default();
            for ((sum, field), width) in sum.iter_mut().zip(&fields).zip(&widths) {
                // One processor allocates, another gives back: parts may be below zero.
                *sum = sum.wrapping_add(number(field)) & width;
            }
        });
        match result {
            Ok(None) => {}
            Ok(Some(error)) => missing.push(error),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => missing.push(error),
        }
    }
    let tracked = sums.into_iter().map(|(tag, [a, f, b, pa, pf, pb])| Tracked {
        tag,
        nonpaged: Use { allocations: a, frees: f, bytes: b },
        paged: Use { allocations: pa, frees: pf, bytes: pb },
    });
    Ok((tracked.collect(), missing))
}

/// Each session's own table, in its `_MM_SESSION_SPACE` or behind it.
fn session_tables(session: &Session<'_>) -> Vec<Va> {
    let of = session.types().find("nt!_MM_SESSION_SPACE").ok();
    let Some(field) = of.and_then(|of| of.field("PoolTags")) else { return Vec::new() };
    let charges = memory::charges(session).map(|(charges, _)| charges).unwrap_or_default();
    let mut spaces: Vec<Va> = charges.into_iter().map(|charge| charge.session).collect();
    spaces.retain(|space| session.target().is_kernel(*space));
    spaces.sort_unstable();
    spaces.dedup();
    let table = |space: Va| {
        let at = space.add(field.offset);
        if field.count > 0 { Some(at) } else { session.memory().pointer(at).ok() }
    };
    spaces.into_iter().filter_map(table).collect()
}

/// The tables of the processors besides the first, whose table is known: each processor counts for itself.
fn processor_tables(session: &Session<'_>, first: Va) -> Vec<Va> {
    let (memory, step) = (session.memory(), u64::from(session.target().pointer_size()));
    let Ok(named) = super::variable(session, "ExPoolTagTables", None) else { return Vec::new() };
    // An array, or a pointer to one: it begins with the first processor's table.
    let begins = |at: Va| memory.pointer(at).is_ok_and(|table| table == first);
    let arrays = [Some(named), memory.pointer(named).ok()];
    let Some(array) = arrays.into_iter().flatten().find(|at| begins(*at)) else { return Vec::new() };
    let mut found: Vec<Va> = Vec::new();
    for processor in 1..u64::from(session.target().info().processors).min(MOST_PROCESSORS) {
        let table = memory.pointer(array.add(processor * step)).unwrap_or(Va::NULL);
        if session.target().is_kernel(table) && table != first && !found.contains(&table) {
            found.push(table);
        }
    }
    found
}

/// A stretch of addresses that pool of a kind lies in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// First byte.
    pub start: Va,
    /// Byte after the last.
    pub end: Va,
    /// What lies there.
    pub kind: Kind,
    /// Whether only that lies there.
    pub bounds: Bounds,
}

/// How it is known where a pool lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bounds {
    /// The kernel tells.
    Told,
    /// The kernel does not tell. These are all addresses of the top-level entries that known allocations lie in; no
    /// driver lies there.
    Around,
    /// The same, and others lie there too.
    Shared,
}

/// What a top-level entry of 64-bit page tables maps.
const TOP_LEVEL: u64 = 1 << 39;

/// Where pools lie: as the types of addresses tell, or the kernel's variables, or else where allocations are known to
/// lie. Empty where nothing tells.
pub fn ranges(session: &Session<'_>) -> Vec<Range> {
    let read = |names: &[&str], kd: u32| {
        let read = names.iter().find_map(|name| super::pointer_variable(session, name, None).ok());
        let read = read.or_else(|| session.memory().pointer(super::told(session, kd)?).ok());
        read.filter(|va| session.target().is_kernel(*va))
    };
    let notes = va_space::stretches(session);
    let mut found = Vec::new();
    let mut add = |kind, name, start: Option<Va>, end: Option<Va>| {
        let told = |(start, end): (Va, Va)| Range { start: start.page(), end, kind, bounds: Bounds::Told };
        let noted = notes.iter().filter(|stretch| stretch.name == name);
        let typed: Vec<_> = noted.map(|s| (s.start, Va(s.last.0.saturating_add(1)))).collect();
        match (start, end) {
            _ if !typed.is_empty() => found.extend(typed.into_iter().map(told)),
            (Some(start), Some(end)) if start < end => found.push(told((start, end))),
            _ => found.extend(around(session, kind).into_iter().filter_map(|range| {
                let start = start.map_or(range.start, |start| start.max(range.start));
                let end = end.map_or(range.end, |end| end.min(range.end));
                (start < end).then_some(Range { start, end, ..range })
            })),
        }
    };
    let start = read(&["MmNonPagedPoolStart"], KD_NON_PAGED_POOL_START);
    let end = read(&["MmNonPagedPoolEnd", "MiNonPagedPoolEnd"], KD_NON_PAGED_POOL_END);
    add(Kind::NonPaged, "NonPagedPool", start, end);
    let start = read(&["MmPagedPoolStart", "MiPagedPoolStart"], KD_PAGED_POOL_START);
    // The end of paged pool is its last byte.
    let end = read(&["MmPagedPoolEnd"], KD_PAGED_POOL_END).map(|end| Va(end.0.saturating_add(1)));
    add(Kind::Paged, "PagedPool", start, end);
    found
}

/// The top-level entries in which allocations of a pool are known to lie. On 32 bits they say too little.
fn around(session: &Session<'_>, kind: Kind) -> Vec<Range> {
    if session.target().pointer_size() == 4 {
        return Vec::new();
    }
    let mut known: Vec<Va> = match big_allocations(session) {
        Ok((list, _)) => {
            list.iter().filter(|big| big.kind == Some(kind) && !big.freed).map(|big| big.at).collect()
        }
        Err(_) => Vec::new(),
    };
    if kind == Kind::NonPaged {
        // The pool manager's own tables, and the first process.
        let tables = [
            ("PoolTrackTable", Some(KD_POOL_TRACK_TABLE)),
            ("PoolBigPageTable", None),
            ("PsInitialSystemProcess", None),
        ];
        let read = |(name, kd)| super::pointer_variable(session, name, kd).ok();
        known.extend(tables.into_iter().filter_map(read).filter(|va| session.target().is_kernel(*va)));
    }
    let mut entries: Vec<u64> = known.iter().map(|va| va.0 / TOP_LEVEL).collect();
    entries.sort_unstable();
    entries.dedup();
    let drivers: Vec<u64> = session.target().modules().map(|module| module.base.0 / TOP_LEVEL).collect();
    let range = |entry: u64| Range {
        start: Va(entry * TOP_LEVEL),
        end: Va((entry * TOP_LEVEL).saturating_add(TOP_LEVEL)),
        kind,
        bounds: if drivers.contains(&entry) { Bounds::Shared } else { Bounds::Around },
    };
    entries.into_iter().map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: HeaderLayout = HeaderLayout { unit: 16, size_bits: 8, in_use: 2 };
    const OLD: HeaderLayout = HeaderLayout { unit: 8, size_bits: 9, in_use: 4 };

    fn header(previous: u16, size: u16, kind: u16, bits: u32, tag: &[u8; 4]) -> Vec<u8> {
        let mut bytes = previous.to_le_bytes().to_vec();
        bytes.extend((size | kind << bits).to_le_bytes());
        bytes.extend(tag);
        bytes
    }

    #[test]
    fn headers_of_32_and_64_bits() {
        let found = WIDE.parse(&header(4, 0x20, 3, 8, b"NtfF")).unwrap();
        assert_eq!((found.previous, found.size, found.kind), (0x40, 0x200, Some(Kind::Paged)));
        assert_eq!(found.tag.to_string(), "NtfF");
        let found = OLD.parse(&header(0x101, 2, 5, 9, b"Irp\xa0")).unwrap();
        assert_eq!((found.previous, found.size, found.kind), (0x808, 0x10, Some(Kind::NonPaged)));
        assert_eq!(found.tag.to_string(), "Irp ");
        assert!(!OLD.parse(&header(0, 2, 0, 9, b"Free")).unwrap().allocated);
        assert_eq!(WIDE.parse(&[0; 7]), None);
    }

    #[test]
    fn a_page_is_walked_and_damage_is_named() {
        let mut page = vec![0; 0x1000];
        page[..8].copy_from_slice(&header(0, 0x10, 2, 8, b"aaaa"));
        page[0x100..0x108].copy_from_slice(&header(0x10, 0xf0, 2, 8, b"bbbb"));
        let mut sizes = Vec::new();
        assert_eq!(walk_page(&WIDE, Va(0x1000), &page, &mut |block| sizes.push(block.size)), None);
        assert_eq!(sizes, [0x100, 0xf00]);
        page[0x100] = 0x11;
        let wrong = walk_page(&WIDE, Va(0x1000), &page, &mut |_| ()).unwrap();
        assert_eq!(wrong.at, Va(0x1100));
        assert!(wrong.what.contains("0x110") && wrong.what.contains("0x100"), "{wrong:?}");
        page[0x100..0x108].copy_from_slice(&header(0x10, 0xf1, 2, 8, b"bbbb"));
        assert!(walk_page(&WIDE, Va(0x1000), &page, &mut |_| ()).unwrap().what.contains("beyond the end"));
    }

    #[test]
    fn patterns_of_tags() {
        let matches =
            |pattern: &str, tag: &str| Pattern::parse(pattern).unwrap().matches(Tag::from_text(tag));
        assert!(
            matches("Irp", "Irp ")
                && matches("Nt*", "NtfF")
                && matches("?o?k", "Wo1k")
                && matches("*", "abcd")
        );
        assert!(!matches("irp", "Irp ") && !matches("Nt", "NtfF"));
        assert!(Pattern::parse("Irp").unwrap().matches(Tag(Tag::from_text("Irp").0 | Tag::PROTECTED)));
        assert!(Pattern::parse("toolong").is_err() && Pattern::parse("").is_err());
    }

    #[test]
    fn counters_wrap() {
        let narrow = Use { allocations: 3, frees: 0xffff_fffe, bytes: 0 };
        assert_eq!(narrow.outstanding(), 5);
        assert_eq!(Use { allocations: 1 << 33, frees: 1, bytes: 0 }.outstanding(), (1 << 33) - 1);
    }

    #[test]
    fn big_allocations_are_found_by_any_address() {
        let big = |at: u64, size, freed| Big { at: Va(at), size, tag: Tag(1), kind: None, freed };
        let list = [big(0x1000, 0x3000, true), big(0x2000, 0x1000, false), big(0x8000, 0x1000, false)];
        assert_eq!(big_at(&list, Va(0x2800)), Some(&list[1]));
        assert_eq!(big_at(&list, Va(0x3800)), Some(&list[0]));
        assert_eq!(big_at(&list, Va(0x9000)), None);
        assert_eq!(big_at(&list, Va(0)), None);
    }
}
