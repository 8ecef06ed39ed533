//! The block that holds an address.

use kd_sdk::address::PAGE_SIZE;
use kd_sdk::nt::heap::{Heaps, What};
use kd_sdk::nt::heap_blocks::RangeBytes;
use kd_sdk::nt::pool::{self, Block, Corruption, HeaderLayout, Kind, Place};
use kd_sdk::prelude::*;

/// Where an address was found.
pub struct Located {
    /// The kind of pool, where anything tells.
    pub kind: Option<Kind>,
    /// First byte of what holds the blocks.
    pub start: Va,
    /// Bytes of it.
    pub size: u64,
    /// The heap it belongs to.
    pub heap: Option<Va>,
    /// In what blocks stand.
    pub place: Place,
    /// Blocks of the page, or the allocation.
    pub blocks: Vec<Block>,
    /// What is wrong.
    pub corrupt: Option<Corruption>,
    /// What could not be asked, and so may be missing here.
    pub notes: Vec<String>,
}

/// Finds what holds `va`.
///
/// # Errors
/// Where its page cannot be read, or is no pool.
pub fn locate(session: &Session<'_>, va: Va) -> Result<Located> {
    let mut notes = Vec::new();
    let big = match pool::big_allocations(session) {
        Ok((list, missing)) => {
            notes.extend(missing.map(|error| format!("a part of the table of big allocations: {error}")));
            list
        }
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => {
            notes.push(format!("big allocations: {error}"));
            Vec::new()
        }
    };
    let mut unread = None;
    match Heaps::open(session) {
        Ok(Some(heaps)) => {
            if let Some(mut found) = in_heap(&heaps, &big, va)? {
                found.notes.extend(notes);
                return Ok(found);
            }
            notes.extend(heaps.refused);
        }
        Ok(None) => {}
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => {
            notes.push(format!("segment heaps: {error}"));
            unread = Some(error).filter(|error| matches!(error, Error::Unreadable { .. }));
        }
    }
    if let Some(found) = pool::big_at(&big, va) {
        // Old tables do not tell the kind: where it lies does.
        let lies = || pool::ranges(session).into_iter().find(|range| range.start <= va && va < range.end);
        let kind = found.kind.or_else(|| lies().map(|range| range.kind));
        return Ok(Located { notes, kind, ..whole(found) });
    }
    // A kernel that has segment heaps has no pages of blocks: read as one, a sound page would look corrupt.
    unread.map_or_else(|| in_page(session, va, notes), Err)
}

/// An allocation with pages of its own.
fn whole(big: &pool::Big) -> Located {
    let block = Block {
        at: big.at,
        size: big.size,
        previous: 0,
        allocated: !big.freed,
        tag: big.tag,
        place: Place::Big,
    };
    Located {
        kind: big.kind,
        start: big.at,
        size: big.size,
        heap: None,
        place: Place::Big,
        blocks: vec![block],
        corrupt: None,
        notes: Vec::new(),
    }
}

fn in_heap(heaps: &Heaps<'_>, big: &[pool::Big], va: Va) -> Result<Option<Located>> {
    let Some((context, range)) = heaps.range_at(va)? else { return Ok(None) };
    if matches!(range.what, What::Pages | What::Free) {
        let Some(found) = pool::big_at(big, va) else {
            let block = Block {
                at: range.start,
                size: range.size - range.unused,
                previous: 0,
                allocated: range.what == What::Pages,
                tag: pool::Tag(0),
                place: Place::Big,
            };
            let blocks = vec![block];
            let found = Located {
                kind: Some(context.kind),
                start: range.start,
                size: range.size,
                heap: Some(context.heap),
                place: Place::Big,
                blocks,
                corrupt: None,
                notes: Vec::new(),
            };
            return Ok(Some(found));
        };
        return Ok(Some(Located { kind: Some(context.kind), heap: Some(context.heap), ..whole(found) }));
    }
    let page = va.page();
    let near = |block: &Block| {
        block.at.0 < page.0.saturating_add(PAGE_SIZE) && block.at.0.saturating_add(block.size) > page.0
    };
    let mut blocks = Vec::new();
    let walked = heaps.blocks(&range, &mut RangeBytes::default(), &mut |block| {
        if near(&block) {
            blocks.push(told(big, block));
        }
    })?;
    let notes = match walked.missing {
        0 => Vec::new(),
        pages => vec![format!("{pages} pages of the subsegment: they cannot be read")],
    };
    Ok(Some(Located {
        kind: Some(context.kind),
        start: range.start,
        size: range.size,
        heap: Some(context.heap),
        place: match range.what {
            What::Chunks => Place::Chunk,
            What::Special => Place::Special,
            _ => Place::Slot,
        },
        blocks,
        corrupt: walked.corrupt,
        notes,
    }))
}

/// A block as the table of big allocations tells it, where it is one: a chunk has no header for it.
fn told(big: &[pool::Big], block: Block) -> Block {
    let found = pool::big_at(big, block.at).filter(|found| block.place == Place::Big && found.at == block.at);
    found.map_or(block, |found| Block { size: found.size, tag: found.tag, ..block })
}

fn in_page(session: &Session<'_>, va: Va, notes: Vec<String>) -> Result<Located> {
    let page = va.page();
    let layout = HeaderLayout::of(session);
    let mut bytes = vec![0; PAGE_SIZE as usize];
    let (done, fault) = session.memory().read_some(page, &mut bytes)?;
    bytes.truncate(done);
    if let (0, Some(error)) = (done, fault) {
        return Err(error);
    }
    let mut blocks = Vec::new();
    let corrupt = pool::walk_page(&layout, page, &bytes, &mut |block| blocks.push(block));
    if blocks.is_empty() {
        let what = corrupt.map_or_else(String::new, |corrupt| format!(" ({})", corrupt.what));
        return Err(Error::NotFound(format!(
            "{} is not in pool: no block begins at its page{what}",
            session.target().show(va)
        )));
    }
    let range = pool::ranges(session).into_iter().find(|range| range.start <= va && va < range.end);
    let header = layout.parse(&bytes);
    let kind = range.map(|range| range.kind).or(header.and_then(|header| header.kind));
    let place = Place::Page;
    Ok(Located { kind, start: page, size: PAGE_SIZE, heap: None, place, blocks, corrupt, notes })
}
