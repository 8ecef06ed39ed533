//! What a target reads: virtual memory of a dump, whatever its kind.
//!
//! A small dump is read from its blocks. A dump with pages is read through page tables, with a small cache of
//! translations. A header-only dump answers "not captured" to everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kd_sdk::address::{PAGE_SIZE, Pa, Pfn, Va};

use super::fault::{Absent, Detail, ReadFault};
use super::paging::{PageTables, Translation, WalkFault};
use crate::dump::{Block, Dump, PhysicalMemory, VirtualBlocks};

/// How far a read came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadOutcome {
    /// Bytes read from the start of the buffer.
    pub done: usize,
    /// Why it ended early; `None` when the buffer is full.
    pub fault: Option<ReadFault>,
}

impl ReadOutcome {
    /// The fault as an error; for callers that need everything.
    pub fn complete(self) -> Result<(), ReadFault> {
        self.fault.map_or(Ok(()), Err)
    }
}

/// The most walks that one [`View::next_readable`] does before it gives up.
const MOST_PROBES: usize = 1 << 20;

/// An address space of a dump. Cheap to clone; may be read from many threads.
#[derive(Clone)]
pub struct View {
    dump: Arc<Dump>,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Blocks(Arc<VirtualBlocks>),
    Pages(PageTables, Arc<Cache>),
    Nothing(Detail),
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("dump", &self.dump).field("tables", &self.tables()).finish()
    }
}

impl View {
    /// The address space that the header names.
    pub fn new(dump: Arc<Dump>) -> View {
        let source = if let Some(blocks) = dump.virtual_blocks() {
            Source::Blocks(blocks.clone())
        } else if let Some(physical) = dump.physical() {
            match PageTables::from_header(dump.header(), physical) {
                Some(tables) => Source::Pages(tables, Arc::new(Cache::new())),
                None => Source::Nothing(Detail::NoPageTables),
            }
        } else {
            Source::Nothing(Detail::NoMemory)
        };
        View { dump, source }
    }

    /// The same dump through other page tables; unchanged for a dump without pages.
    pub fn with_tables(&self, tables: &PageTables) -> View {
        let source = match (&self.source, self.dump.physical()) {
            (Source::Pages(own, cache), _) if own == tables => Source::Pages(*own, cache.clone()),
            (_, Some(_)) => Source::Pages(*tables, Arc::new(Cache::new())),
            (source, None) => source.clone(),
        };
        View { dump: self.dump.clone(), source }
    }

    /// The same small dump with more blocks, whose addresses the caller found out; unchanged for other kinds.
    pub fn with_blocks(&self, more: impl IntoIterator<Item = Block>) -> View {
        let source = match &self.source {
            Source::Blocks(blocks) => Source::Blocks(Arc::new(blocks.with(more))),
            other => other.clone(),
        };
        View { dump: self.dump.clone(), source }
    }

    /// The dump.
    pub fn dump(&self) -> &Arc<Dump> {
        &self.dump
    }

    /// The page tables; `None` for a dump without pages.
    pub fn tables(&self) -> Option<&PageTables> {
        match &self.source {
            Source::Pages(tables, _) => Some(tables),
            _ => None,
        }
    }

    /// The blocks of a small dump, with those that were added.
    pub fn blocks(&self) -> Option<&VirtualBlocks> {
        match &self.source {
            Source::Blocks(blocks) => Some(blocks),
            _ => None,
        }
    }

    /// Translates `va`, with the entries of the walk. `None` for a dump without pages.
    pub fn walk(&self, va: Va) -> Option<Result<Translation, WalkFault>> {
        match (&self.source, self.dump.physical()) {
            (Source::Pages(tables, _), Some(physical)) => Some(tables.walk(physical, va)),
            _ => None,
        }
    }

    /// Reads at `va` until the buffer is full or memory is absent.
    pub fn read(&self, va: Va, buffer: &mut [u8]) -> ReadOutcome {
        let mut done = 0;
        while done < buffer.len() {
            let rest = buffer.get_mut(done..).unwrap_or_default();
            let at = match va.0.checked_add(done as u64) {
                Some(at) => Va(at),
                None => {
                    let fault =
                        ReadFault { at: Va(u64::MAX), why: Absent::NotMapped, detail: Detail::NotCanonical };
                    return ReadOutcome { done, fault: Some(fault) };
                }
            };
            match self.read_some(at, rest) {
                Ok(count) => done += count,
                Err(fault) => return ReadOutcome { done, fault: Some(fault) },
            }
        }
        ReadOutcome { done, fault: None }
    }

    /// Reads at least one byte, up to the end of a block or page.
    fn read_some(&self, at: Va, buffer: &mut [u8]) -> Result<usize, ReadFault> {
        match &self.source {
            Source::Nothing(detail) => Err(ReadFault { at, why: Absent::NotCaptured, detail: *detail }),
            Source::Blocks(blocks) => {
                let bytes = blocks.bytes(at, buffer.len()).map_err(|why| {
                    let detail = if why == Absent::Broken { Detail::BlockCut } else { Detail::NoBlock };
                    ReadFault { at, why, detail }
                })?;
                copy(buffer, &bytes).ok_or(ReadFault { at, why: Absent::Broken, detail: Detail::BlockCut })
            }
            Source::Pages(tables, cache) => {
                let Some(physical) = self.dump.physical() else {
                    return Err(ReadFault { at, why: Absent::NotCaptured, detail: Detail::NoMemory });
                };
                let canonical = tables.is_canonical(at);
                let pa = match cache.get(at).filter(|_| canonical) {
                    Some(pa) => pa,
                    None => {
                        let pa = tables.translate(physical, at)?.pa;
                        cache.put(at, pa);
                        pa
                    }
                };
                let fault = |why| ReadFault {
                    at,
                    why,
                    detail: match why {
                        Absent::Broken => Detail::FrameBroken(pa.pfn()),
                        _ => Detail::Frame(pa.pfn()),
                    },
                };
                let rest = (PAGE_SIZE - pa.page_offset()) as usize;
                if buffer.len() > rest {
                    let len = run(tables, cache, physical, at, pa, buffer.len());
                    let run = buffer.get_mut(..len).unwrap_or_default();
                    return match physical.read(pa, run) {
                        Err((0, why)) => Err(fault(why)),
                        Err((done, _)) => Ok(done),
                        Ok(()) => Ok(len),
                    };
                }
                let page = physical.page(pa.pfn()).map_err(fault)?;
                let bytes = page.get(pa.page_offset() as usize..).unwrap_or_default();
                copy(buffer, bytes).ok_or(fault(Absent::Broken))
            }
        }
    }

    /// The lowest readable address at or above `va`. In a dump with pages it skips whole unmapped tables, and gives
    /// up after a million walks.
    pub fn next_readable(&self, va: Va) -> Option<Va> {
        let (tables, physical) = match (&self.source, self.dump.physical()) {
            (Source::Blocks(blocks), _) => return blocks.next_readable(va),
            (Source::Pages(tables, _), Some(physical)) => (tables, physical),
            _ => return None,
        };
        let mut at = va;
        for _ in 0..MOST_PROBES {
            let next = match tables.walk(physical, at) {
                Ok(found) if physical.page(found.pa.pfn()).is_ok() => return Some(at),
                Ok(_) => at.page().0.checked_add(PAGE_SIZE).map(Va)?,
                Err(fault) => tables.end_of_hole(at, &fault)?,
            };
            if !tables.is_64_bit() && next.0 > u64::from(u32::MAX) {
                return None;
            }
            at = next;
        }
        None
    }

    /// The physical pages, when the dump has them.
    pub fn physical(&self) -> Option<&dyn PhysicalMemory> {
        self.dump.physical()
    }
}

/// Copies what fits; `None` when that is nothing.
/// How many bytes from `at`, which is at `pa`, follow each other in physical memory too; no more than `most`.
fn run(
    tables: &PageTables,
    cache: &Cache,
    physical: &dyn PhysicalMemory,
    at: Va,
    pa: Pa,
    most: usize,
) -> usize {
    let mut len = PAGE_SIZE - pa.page_offset();
    while let Some(va) = at.0.checked_add(len).map(Va).filter(|_| len < most as u64) {
        let (next, size) = match cache.get(va).filter(|_| tables.is_canonical(va)) {
            Some(pa) => (pa, PAGE_SIZE),
            None => match tables.translate(physical, va) {
                Ok(found) => (found.pa, found.page_size.max(PAGE_SIZE)),
                Err(_) => break,
            },
        };
        if next.0 != pa.0.wrapping_add(len) {
            break;
        }
        len += size - (next.0 & (size - 1));
    }
    most.min(usize::try_from(len).unwrap_or(usize::MAX))
}

fn copy(to: &mut [u8], from: &[u8]) -> Option<usize> {
    let count = to.len().min(from.len());
    to.get_mut(..count)?.copy_from_slice(from.get(..count)?);
    (count > 0).then_some(count)
}

/// Translations of single pages: a table of atomic words, each with the page's number, its frame and a valid bit.
///
/// A word holds 45 bits of page number (12 of them are the index) and 30 of frame number: frames above 4 TiB are not
/// cached. One word is read and written at once, so threads need no lock.
struct Cache {
    words: Box<[AtomicU64]>,
}

const CACHE_BITS: u32 = 12;
const FRAME_BITS: u32 = 30;

impl Cache {
    fn new() -> Cache {
        Cache { words: (0..1usize << CACHE_BITS).map(|_| AtomicU64::new(0)).collect() }
    }

    /// (index, tag in place) of a page. Canonical addresses differ in bits 12..57.
    fn slot(va: Va) -> (usize, u64) {
        let page = va.0 >> 12 & ((1 << 45) - 1);
        let index = page & ((1 << CACHE_BITS) - 1);
        (index as usize, (page >> CACHE_BITS) << (FRAME_BITS + 1))
    }

    fn get(&self, va: Va) -> Option<Pa> {
        let (index, tag) = Cache::slot(va);
        let word = self.words.get(index)?.load(Ordering::Relaxed);
        let known = word & 1 == 1 && word >> (FRAME_BITS + 1) == tag >> (FRAME_BITS + 1);
        known.then(|| Pfn(word >> 1 & ((1 << FRAME_BITS) - 1)).pa().add(va.page_offset()))
    }

    fn put(&self, va: Va, pa: Pa) {
        let (index, tag) = Cache::slot(va);
        let frame = pa.pfn().0;
        if let Some(word) = self.words.get(index).filter(|_| frame >> FRAME_BITS == 0) {
            word.store(tag | frame << 1 | 1, Ordering::Relaxed);
        }
    }
}
