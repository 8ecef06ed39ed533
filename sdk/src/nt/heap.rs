//! Segment heaps as they hold pool since Windows 10 1903: segments of page ranges, which are subsegments of chunks of
//! variable size, subsegments of slots of one size, or allocations by themselves.
//!
//! Headers are hidden with keys from `RtlpHpHeapGlobals`: a segment's signature with the heap key, its own address and
//! that of its context; a chunk's sizes with the heap key and its own address; the sizes of slots with the other key and
//! the number of the subsegment's page. Structures from the kernel's symbols, keys and constants from public
//! descriptions of the segment heap.

use super::list;
use super::memory;
use super::pool::{Block, Corruption, HeaderLayout, Kind, Place};
use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::types::{Type, field_number};

/// What a segment's signature is when nothing hides it.
const SEGMENT_SIGNATURE: u64 = 0xa2e6_4ead_a2e6_4ead;
/// Page ranges of a segment.
const RANGES: u64 = 256;
/// The most pools (NUMA nodes) and heaps of one.
const MOST_POOLS: u64 = 64;
/// The most segments of one context.
const MOST_SEGMENTS: usize = 1 << 20;
/// The largest range of chunks or slots that is read at once.
const MOST_RANGE: u64 = 16 << 20;

/// The segment heaps of a kernel.
pub struct Heaps<'a> {
    session: &'a Session<'a>,
    types: HeapTypes<'a>,
    header: HeaderLayout,
    heap_key: u64,
    lfh_key: u64,
    /// Contexts that segments belong to.
    pub contexts: Vec<Context>,
    /// What could not be followed.
    pub refused: Vec<String>,
}

struct HeapTypes<'a> {
    segment: Type<'a>,
    descriptor: Type<'a>,
    chunks: Type<'a>,
    chunk: Type<'a>,
    slots: Type<'a>,
}

/// A part of a heap that has segments of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Its `_HEAP_SEG_CONTEXT`.
    pub at: Va,
    /// The `_SEGMENT_HEAP` it belongs to.
    pub heap: Va,
    /// What the heap serves.
    pub kind: Kind,
    /// Clears the offset inside a segment.
    pub mask: u64,
    /// Bits of a unit of a page range.
    pub shift: u32,
    /// The first unit behind the descriptors.
    pub first: u64,
}

/// A page range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    /// First byte.
    pub start: Va,
    /// Bytes.
    pub size: u64,
    /// Bytes at its end that were not asked for.
    pub unused: u64,
    /// What it is for.
    pub what: What,
}

/// What a page range is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Nothing.
    Free,
    /// One allocation.
    Pages,
    /// Slots of one size.
    Slots,
    /// Chunks of variable size.
    Chunks,
}

impl<'a> Heaps<'a> {
    /// Finds the heaps of pool; `None` where pool is not in segment heaps.
    ///
    /// # Errors
    /// Where the kernel has them, but types are missing or its state cannot be read.
    pub fn open(session: &'a Session<'a>) -> Result<Option<Heaps<'a>>> {
        let Ok(state) = super::variable(session, "ExPoolState", None) else { return Ok(None) };
        let find = |name| memory::kernel_type(session, name);
        let of = find("_EX_POOL_HEAP_MANAGER_STATE")?;
        let types = HeapTypes {
            segment: find("_HEAP_PAGE_SEGMENT")?,
            descriptor: find("_HEAP_PAGE_RANGE_DESCRIPTOR")?,
            chunks: find("_HEAP_VS_SUBSEGMENT")?,
            chunk: find("_HEAP_VS_CHUNK_HEADER")?,
            slots: find("_HEAP_LFH_SUBSEGMENT")?,
        };
        let globals = match super::variable(session, "RtlpHpHeapGlobals", None) {
            Ok(va) => va,
            Err(_) => of.at(state).pointer("HeapManager.Globals")?,
        };
        let keys = find("_RTLP_HP_HEAP_GLOBALS")?;
        let globals = keys.at(globals).snapshot()?;
        let mut heaps = Heaps {
            session,
            types,
            header: HeaderLayout::of(session),
            heap_key: globals.u64("HeapKey")?,
            lfh_key: globals.u64("LfhKey")?,
            contexts: Vec::new(),
            refused: Vec::new(),
        };
        heaps.find_contexts(&of, state)?;
        Ok(Some(heaps))
    }

    fn find_contexts(&mut self, of: &Type<'a>, state: Va) -> Result<()> {
        let session = self.session;
        let (memory, step) = (session.memory(), u64::from(session.target().pointer_size()));
        let node = memory::kernel_type(session, "_EX_HEAP_POOL_NODE")?;
        let heaps = node.require("Heaps")?;
        let pools = of.at(state).u64("NumberOfPools")?;
        if pools > MOST_POOLS {
            self.refused.push(format!("nt!ExPoolState claims {pools} pools; {MOST_POOLS} are read"));
        }
        let nodes = of.offset("PoolNode")?;
        for pool in 0..pools.clamp(1, MOST_POOLS) {
            let at = state.add(nodes.wrapping_add(node.size().wrapping_mul(pool)).wrapping_add(heaps.offset));
            // Nonpaged that may execute and that may not, paged; what follows differs.
            for index in 0..u64::from(heaps.count.min(8)) {
                let kind = if index < 2 { Kind::NonPaged } else { Kind::Paged };
                self.add_heap(memory.pointer(at.add(index * step)), kind)?;
            }
        }
        if let Some(special) = of.field("SpecialHeaps") {
            for index in 0..u64::from(special.count.min(8)) {
                self.add_heap(memory.pointer(state.add(special.offset + index * step)), Kind::Special)?;
            }
        }
        // Session pool: each session's heap, seen from its processes.
        if let Ok((charges, _)) = memory::charges(session) {
            let heap_state =
                session.types().find("nt!_MM_SESSION_SPACE").ok().and_then(|of| of.field("HeapState"));
            let paged =
                session.types().find("nt!_EX_HEAP_SESSION_STATE").ok().and_then(|of| of.field("PagedHeap"));
            if let (Some(heap_state), Some(paged)) = (heap_state, paged) {
                let mut sessions: Vec<Va> = charges.iter().map(|charge| charge.session).collect();
                sessions.sort_unstable();
                sessions.dedup();
                for space in sessions.into_iter().filter(|space| session.target().is_kernel(*space)) {
                    let state = memory.pointer(space.add(heap_state.offset)).unwrap_or(Va::NULL);
                    if session.target().is_kernel(state) {
                        self.add_heap(memory.pointer(state.add(paged.offset)), Kind::Session)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn add_heap(&mut self, heap: Result<Va>, kind: Kind) -> Result<()> {
        let heap = match heap {
            Ok(heap) if heap.is_null() => return Ok(()),
            Ok(heap) if !self.session.target().is_kernel(heap) => {
                self.refused.push(format!("a heap of {} at {heap}, which is no kernel address", kind.name()));
                return Ok(());
            }
            Ok(heap) => heap,
            Err(error) => {
                self.refused.push(format!("a heap of {}: {error}", kind.name()));
                return Ok(());
            }
        };
        if self.contexts.iter().any(|known| known.heap == heap) {
            return Ok(());
        }
        let of = memory::kernel_type(self.session, "_SEGMENT_HEAP")?;
        let context = memory::kernel_type(self.session, "_HEAP_SEG_CONTEXT")?;
        let contexts = of.require("SegContexts")?;
        for index in 0..u64::from(contexts.count.min(4)) {
            let at = heap.add(contexts.offset.wrapping_add(context.size().wrapping_mul(index)));
            let read = match context.at(at).snapshot() {
                Ok(read) => read,
                Err(error) => {
                    self.refused.push(format!("the heap at {heap}: {error}"));
                    continue;
                }
            };
            let (mask, shift) = (read.u64("SegmentMask")?, read.u64("UnitShift")?);
            // A context that serves nothing is empty.
            if mask == 0 {
                continue;
            }
            if !(12..=30).contains(&shift) {
                self.refused.push(format!("the heap at {heap}: a context with units of {shift} bits"));
                continue;
            }
            let first = read.u64("FirstDescriptorIndex")?;
            self.contexts.push(Context { at, heap, kind, mask, shift: shift as u32, first });
        }
        Ok(())
    }

    fn narrow(&self, value: u64) -> u64 {
        if self.session.target().pointer_size() == 4 { value & 0xffff_ffff } else { value }
    }

    /// The segment of a context that holds `va`, if there is one: its signature must be right.
    fn segment_at(&self, context: &Context, va: Va) -> Option<Va> {
        let segment = Va(self.narrow(va.0 & context.mask));
        self.is_segment(context, segment).then_some(segment)
    }

    fn is_segment(&self, context: &Context, segment: Va) -> bool {
        let expected = self.narrow(segment.0 ^ context.at.0 ^ self.heap_key ^ SEGMENT_SIGNATURE);
        self.types.segment.at(segment).u64("Signature").is_ok_and(|signature| signature == expected)
    }

    /// The page range that holds an address, and the context it belongs to; `None` for what is in no segment.
    ///
    /// # Errors
    /// Where the segment's descriptors cannot be read or contradict each other.
    pub fn range_at(&self, va: Va) -> Result<Option<(Context, PageRange)>> {
        for context in &self.contexts {
            let Some(segment) = self.segment_at(context, va) else { continue };
            let index = va.0.wrapping_sub(segment.0) >> context.shift;
            if index < context.first || index >= RANGES {
                return Ok(None);
            }
            let bytes = self.descriptors(segment)?;
            let mut first = index;
            if let Some(descriptor) = self.descriptor(&bytes, index)
                && descriptor.flags & 2 == 0
            {
                first = index.saturating_sub(descriptor.units);
            }
            let range = self.descriptor(&bytes, first).map(|d| d.range(segment, first, context.shift));
            return match range {
                Some(Some(range)) if va.0 - range.start.0 < range.size => Ok(Some((*context, range))),
                _ => Err(Error::Other(format!(
                    "the segment at {segment}: the descriptors do not tell what {va} is in"
                ))),
            };
        }
        Ok(None)
    }

    fn descriptors(&self, segment: Va) -> Result<Vec<u8>> {
        let size = self.types.descriptor.size().min(0x80);
        let mut bytes = vec![0; (RANGES * size) as usize];
        let (done, fault) = self.session.memory().read_some(segment, &mut bytes)?;
        match fault {
            Some(error) if done == 0 => Err(error),
            _ => {
                bytes.truncate(done);
                Ok(bytes)
            }
        }
    }

    fn descriptor(&self, bytes: &[u8], index: u64) -> Option<Descriptor> {
        let of = &self.types.descriptor;
        let size = of.size() as usize;
        let entry = bytes.get(index as usize * size..)?.get(..size)?;
        let number = |path: &str| of.field(path).and_then(|field| field_number(&field, entry));
        let flags = number("RangeFlagBits").or_else(|| number("RangeFlags"))?;
        Some(Descriptor { flags, units: number("UnitSize")?, unused: number("UnusedBytes").unwrap_or(0) })
    }

    /// Hands every page range in use to `visit`, heap by heap. What could not be followed is in `refused`.
    ///
    /// # Errors
    /// What `visit` says, and Ctrl+C.
    pub fn each_range(
        &mut self,
        visit: &mut dyn FnMut(&Heaps<'a>, &Context, &PageRange) -> Result<()>,
    ) -> Result<()> {
        let of = memory::kernel_type(self.session, "_HEAP_SEG_CONTEXT")?;
        let head = of.offset("SegmentListHead")?;
        let link = self.types.segment.offset("ListEntry")?;
        for context in self.contexts.clone() {
            let segments =
                list::ring(self.session.memory(), context.at.add(head)).of(link).at_most(MOST_SEGMENTS);
            for segment in segments {
                let segment = match segment {
                    Ok(segment) => segment,
                    Err(Error::Interrupted) => return Err(Error::Interrupted),
                    Err(error) => {
                        self.refused.push(format!("segments of the heap at {}: {error}", context.heap));
                        break;
                    }
                };
                if !self.is_segment(&context, segment) {
                    self.refused.push(format!(
                        "{segment} in the list of segments of {}: its signature is wrong",
                        context.heap
                    ));
                    continue;
                }
                if let Err(error) = self.ranges_of(&context, segment, visit) {
                    match absent(&error) {
                        true => self.refused.push(format!("the segment at {segment}: {error}")),
                        false => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    fn ranges_of(
        &self,
        context: &Context,
        segment: Va,
        visit: &mut dyn FnMut(&Heaps<'a>, &Context, &PageRange) -> Result<()>,
    ) -> Result<()> {
        let bytes = self.descriptors(segment)?;
        let mut index = context.first.max(1);
        while index < RANGES {
            self.session.check_interrupt()?;
            let Some(descriptor) = self.descriptor(&bytes, index) else { break };
            let range = descriptor.range(segment, index, context.shift);
            let units = if descriptor.flags & 2 != 0 { descriptor.units.max(1) } else { 1 };
            if let Some(range) = range.filter(|range| range.what != What::Free) {
                visit(self, context, &range)?;
            }
            index += units;
        }
        Ok(())
    }

    /// Hands the blocks of a page range to `visit`; ends with what is wrong in it, if anything is.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn blocks(
        &self,
        range: &PageRange,
        buffer: &mut Vec<u8>,
        visit: &mut dyn FnMut(Block),
    ) -> Result<Option<Corruption>> {
        if matches!(range.what, What::Free | What::Pages) {
            return Ok(None);
        }
        let size = range.size.min(MOST_RANGE) as usize;
        buffer.resize(size, 0);
        let (done, fault) = self.session.memory().read_some(range.start, buffer)?;
        if let (0, Some(error)) = (done, fault) {
            return Err(error);
        }
        let bytes = buffer.get(..done).unwrap_or_default();
        match range.what {
            What::Chunks => self.chunks(range.start, bytes, range.size, visit),
            _ => self.slots(range.start, bytes, range.size, visit),
        }
    }

    /// The block whose pool header is at the start of `bytes`.
    fn block(&self, at: Va, bytes: &[u8], size: u64, previous: u64, allocated: bool, place: Place) -> Block {
        let tag = self.header.parse(bytes).map(|header| header.tag);
        Block { at, size, previous, allocated, tag: tag.unwrap_or(super::pool::Tag(0)), place }
    }

    fn chunks(
        &self,
        start: Va,
        bytes: &[u8],
        size: u64,
        visit: &mut dyn FnMut(Block),
    ) -> Result<Option<Corruption>> {
        let of = &self.types.chunk;
        let unit = of.size().max(8);
        let bits = of.require("Sizes.HeaderBits")?;
        let (length, before) = (of.require("Sizes.UnsafeSize")?, of.require("Sizes.UnsafePrevSize")?);
        let used = of.require("Sizes.Allocated")?;
        let wrong = |at: u64, what: String| Ok(Some(Corruption { at: start.add(at), what }));
        let head = &self.types.chunks;
        let total = head.field("Size").and_then(|field| field_number(&field, bytes)).unwrap_or(0);
        let signature = head.field("Signature").and_then(|field| field_number(&field, bytes)).unwrap_or(0);
        if (total ^ signature ^ 0x2bed) & 0x7fff != 0 {
            return wrong(
                0,
                format!(
                    "the subsegment's size {total:#x} and signature {signature:#x} do not belong together"
                ),
            );
        }
        let mut at = head.size().next_multiple_of(unit);
        let end = size.min(at + total * unit);
        let mut previous = 0;
        while at < end {
            let Some(raw) = bytes.get(at as usize..).and_then(|rest| rest.get(..unit as usize)) else {
                break;
            };
            let mut plain = [0u8; 32];
            let Some(plain) = plain.get_mut(..unit as usize) else { break };
            plain.copy_from_slice(raw);
            let key = (start.0.wrapping_add(at) ^ self.heap_key).to_le_bytes();
            let width = (bits.size as usize).min(8);
            plain.iter_mut().zip(key).take(width).for_each(|(byte, key)| *byte ^= key);
            let number = |field| field_number(field, plain).unwrap_or(0);
            let bytes_of = number(&length) * unit;
            let told = number(&before) * unit;
            if bytes_of == 0 || at + bytes_of > size {
                return wrong(
                    at,
                    format!("a chunk of {bytes_of:#x} bytes does not fit: {:#x} are left", size - at),
                );
            }
            if told != previous {
                return wrong(
                    at,
                    format!("it says the chunk before it has {told:#x} bytes, that one says {previous:#x}"),
                );
            }
            let block = bytes.get((at + unit) as usize..).unwrap_or_default();
            let place = Place::Chunk;
            visit(self.block(start.add(at + unit), block, bytes_of - unit, 0, number(&used) != 0, place));
            previous = bytes_of;
            at += bytes_of;
        }
        Ok(None)
    }

    fn slots(
        &self,
        start: Va,
        bytes: &[u8],
        size: u64,
        visit: &mut dyn FnMut(Block),
    ) -> Result<Option<Corruption>> {
        let of = &self.types.slots;
        let number = |path: &str| of.field(path).and_then(|field| field_number(&field, bytes));
        let hidden = number("BlockOffsets.EncodedData").unwrap_or(0);
        let plain = (hidden ^ self.lfh_key ^ start.0 >> 12) & 0xffff_ffff;
        let (each, first) = (plain & 0xffff, plain >> 16);
        let count = number("BlockCount").unwrap_or(0);
        let bitmap = of.offset("BlockBitmap")?;
        if each == 0 || first < bitmap || first + each.saturating_mul(count) > size {
            let what = format!(
                "{count:#x} slots of {each:#x} bytes from {first:#x} on do not fit into {size:#x} bytes"
            );
            return Ok(Some(Corruption { at: start, what }));
        }
        for index in 0..count {
            let byte = bytes.get((bitmap + index / 4) as usize).copied().unwrap_or(0);
            let used = byte >> (index % 4 * 2) & 1 != 0;
            let at = first + index * each;
            let Some(block) = bytes.get(at as usize..) else { break };
            visit(self.block(start.add(at), block, each, 0, used, Place::Slot));
        }
        Ok(None)
    }
}

/// A page range's descriptor.
struct Descriptor {
    flags: u64,
    /// Units of the range; of those behind its first, the distance to that.
    units: u64,
    unused: u64,
}

impl Descriptor {
    /// The range that begins here; `None` behind the first unit.
    fn range(&self, segment: Va, index: u64, shift: u32) -> Option<PageRange> {
        if self.flags & 2 == 0 || self.units == 0 || index + self.units > RANGES {
            return None;
        }
        let what = match (self.flags & 1, self.flags & 0xc) {
            (0, _) => What::Free,
            (_, 0) => What::Pages,
            (_, 8) => What::Slots,
            (_, 0xc) => What::Chunks,
            _ => return None,
        };
        let size = self.units << shift;
        let unused = if what == What::Pages { self.unused.min(size) } else { 0 };
        Some(PageRange { start: segment.add(index << shift), size, unused, what })
    }
}

fn absent(error: &Error) -> bool {
    matches!(error, Error::Unreadable { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_tell_ranges() {
        let range = |flags, units| Descriptor { flags, units, unused: 0x10 }.range(Va(0x10_0000), 4, 12);
        assert_eq!(
            range(3, 2),
            Some(PageRange { start: Va(0x10_4000), size: 0x2000, unused: 0x10, what: What::Pages })
        );
        assert_eq!(range(0xb, 4).map(|r| r.what), Some(What::Slots));
        assert_eq!(range(0xf, 16).map(|r| r.what), Some(What::Chunks));
        assert_eq!(range(2, 16).map(|r| r.what), Some(What::Free));
        assert_eq!((range(1, 2), range(3, 0), range(3, 253)), (None, None, None));
    }
}
