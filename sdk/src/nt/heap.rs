//! Segment heaps as they hold pool since Windows 10 1903: segments of page ranges, which are subsegments of chunks of
//! variable size, subsegments of slots of one size, or allocations by themselves.
//!
//! A segment's signature is hidden with the heap key from `RtlpHpHeapGlobals`, its own address and that of its context;
//! until Windows 11 24H2 also with a constant. What a range holds is [`super::heap_blocks`]'s. Structures from the kernel's
//! symbols; keys and constants from public descriptions, decompilations and measurements of the segment heap.

use super::heap_blocks::{ChunkFields, Encoding, RangeBytes, SlotFields, Walked};
use super::list;
use super::memory;
use super::pool::{Block, HeaderLayout, Kind};
use crate::abi::FieldInfo;
use crate::address::{PAGE_SIZE, Va};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::types::{Type, field_number};

/// What a segment's signature is when nothing hides it, before Windows 11 24H2; then it is nothing.
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
    segment: Type<'a>,
    descriptor: DescriptorFields,
    encoding: Encoding,
    /// Contexts that segments belong to.
    pub contexts: Vec<Context>,
    /// What could not be followed.
    pub refused: Vec<String>,
}

/// Where the fields of a descriptor of a page range are.
struct DescriptorFields {
    size: u64,
    flags: FieldInfo,
    units: FieldInfo,
    unused: Option<FieldInfo>,
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
    /// A page of special pool, and one that is kept away.
    Special,
    /// Slots of one size.
    Slots,
    /// Chunks of variable size.
    Chunks,
}

impl<'a> Heaps<'a> {
    /// Finds the heaps of pool; `None` where pool is not in segment heaps: Windows 10 1809 has their types and their
    /// state, and does not use them.
    ///
    /// # Errors
    /// Where the kernel has them, but types are missing or its state cannot be read.
    pub fn open(session: &'a Session<'a>) -> Result<Option<Heaps<'a>>> {
        let Ok(state) = super::variable(session, "ExPoolState", None) else { return Ok(None) };
        let of = memory::kernel_type(session, "_EX_POOL_HEAP_MANAGER_STATE")?;
        let globals = match super::variable(session, "RtlpHpHeapGlobals", None) {
            Ok(va) => va,
            Err(_) => of.at(state).pointer("HeapManager.Globals")?,
        };
        let mut heaps = Heaps {
            session,
            segment: memory::kernel_type(session, "_HEAP_PAGE_SEGMENT")?,
            descriptor: descriptor_fields(session)?,
            encoding: encoding(session, globals)?,
            contexts: Vec::new(),
            refused: Vec::new(),
        };
        heaps.find_contexts(&of, state)?;
        Ok((!heaps.contexts.is_empty() || !heaps.refused.is_empty()).then_some(heaps))
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
            let of_session = session.types().find("nt!_EX_HEAP_SESSION_STATE").ok();
            let heap_field = |name| of_session.as_ref().and_then(|of| of.field(name));
            let special = heap_field("SpecialPoolHeap");
            if let (Some(heap_state), Some(paged)) = (heap_state, heap_field("PagedHeap")) {
                let mut sessions: Vec<Va> = charges.iter().map(|charge| charge.session).collect();
                sessions.sort_unstable();
                sessions.dedup();
                for space in sessions.into_iter().filter(|space| session.target().is_kernel(*space)) {
                    let state = memory.pointer(space.add(heap_state.offset)).unwrap_or(Va::NULL);
                    if session.target().is_kernel(state) {
                        self.add_heap(memory.pointer(state.add(paged.offset)), Kind::Session)?;
                        if let Some(special) = special {
                            self.add_heap(memory.pointer(state.add(special.offset)), Kind::Special)?;
                        }
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
        let plain = segment.0 ^ context.at.0 ^ self.encoding.heap_key;
        let either = [plain ^ SEGMENT_SIGNATURE, plain].map(|expected| self.narrow(expected));
        self.segment.at(segment).u64("Signature").is_ok_and(|signature| either.contains(&signature))
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
            let range = self.descriptor(&bytes, first).map(|d| d.range(segment, first, context));
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
        let mut bytes = vec![0; (RANGES * self.descriptor.size) as usize];
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
        let of = &self.descriptor;
        let size = of.size as usize;
        let entry = bytes.get(index as usize * size..)?.get(..size)?;
        let number = |field: &FieldInfo| field_number(field, entry);
        Some(Descriptor {
            flags: number(&of.flags)?,
            units: number(&of.units)?,
            unused: of.unused.as_ref().and_then(number).unwrap_or(0),
        })
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
        let link = self.segment.offset("ListEntry")?;
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
            let range = descriptor.range(segment, index, context);
            let units = if descriptor.flags & 2 != 0 { descriptor.units.max(1) } else { 1 };
            if let Some(range) = range.filter(|range| range.what != What::Free) {
                visit(self, context, &range)?;
            }
            index += units;
        }
        Ok(())
    }

    /// Hands the blocks of a page range to `visit`; tells what is wrong in it and what is missing of it.
    ///
    /// # Errors
    /// Where none of it can be read.
    pub fn blocks(
        &self,
        range: &PageRange,
        buffer: &mut RangeBytes,
        visit: &mut dyn FnMut(Block),
    ) -> Result<Walked> {
        if matches!(range.what, What::Free | What::Pages) {
            return Ok(Walked::default());
        }
        self.read(range.start, range.size.min(MOST_RANGE), buffer)?;
        Ok(match range.what {
            What::Chunks => self.encoding.chunks(range.start, buffer, visit),
            What::Special => {
                self.encoding.special(range.start, buffer, visit);
                Walked::default()
            }
            _ => self.encoding.slots(range.start, buffer, visit),
        })
    }

    /// Reads what can be read of a range: any of its pages may be paged out, not captured, or not committed.
    fn read(&self, start: Va, size: u64, into: &mut RangeBytes) -> Result<()> {
        into.bytes.clear();
        into.bytes.resize(size as usize, 0);
        into.missing.clear();
        into.missing.resize(size.div_ceil(PAGE_SIZE) as usize, false);
        let (mut at, mut first) = (0, None);
        while at < size {
            let rest = into.bytes.get_mut(at as usize..).unwrap_or_default();
            let (done, fault) = self.session.memory().read_some(start.add(at), rest)?;
            let Some(fault) = fault else { return Ok(()) };
            let hole = (at + done as u64) / PAGE_SIZE;
            into.missing.get_mut(hole as usize).into_iter().for_each(|missing| *missing = true);
            first = first.or(Some(fault));
            at = (hole + 1) * PAGE_SIZE;
        }
        match first {
            Some(error) if into.missing.iter().all(|missing| *missing) => Err(error),
            _ => Ok(()),
        }
    }
}

/// How this kernel's heaps describe page ranges.
fn descriptor_fields(session: &Session<'_>) -> Result<DescriptorFields> {
    let of = memory::kernel_type(session, "_HEAP_PAGE_RANGE_DESCRIPTOR")?;
    let size = of.size();
    if !(8..=0x80).contains(&size) {
        return Err(Error::NoSymbols(format!("{} of {size} bytes is no descriptor", of.name())));
    }
    let flags = of.field("RangeFlagBits").map_or_else(|| of.require("RangeFlags"), Ok)?;
    Ok(DescriptorFields { size, flags, units: of.require("UnitSize")?, unused: of.field("UnusedBytes") })
}

/// How this kernel's heaps write blocks; `globals` holds the keys.
fn encoding(session: &Session<'_>, globals: Va) -> Result<Encoding> {
    let find = |name| memory::kernel_type(session, name);
    let wide = session.target().pointer_size() == 8;
    let keys = match session.types().find("nt!_RTLP_HP_HEAP_GLOBALS") {
        Ok(of) => [of.offset("HeapKey")?, of.offset("LfhKey")?],
        // They have always come first.
        Err(_) => [0, if wide { 8 } else { 4 }],
    };
    let key = |offset: u64| session.memory().pointer(globals.add(offset)).map(|key| key.0);
    let (head, chunk, slots) =
        (find("_HEAP_VS_SUBSEGMENT")?, find("_HEAP_VS_CHUNK_HEADER")?, find("_HEAP_LFH_SUBSEGMENT")?);
    Ok(Encoding {
        chunk: ChunkFields {
            head: head.size(),
            total: head.require("Size")?,
            signature: head.require("Signature")?,
            unit: chunk.size().clamp(8, 32),
            hidden: chunk.require("Sizes.HeaderBits")?,
            length: chunk.require("Sizes.UnsafeSize")?,
            before: chunk.require("Sizes.UnsafePrevSize")?,
            used: chunk.require("Sizes.Allocated")?,
        },
        slot: SlotFields {
            count: slots.require("BlockCount")?,
            withheld: slots.field("WitheldBlockCount"),
            hidden: slots.require("BlockOffsets.EncodedData")?,
            bitmap: slots.offset("BlockBitmap")?,
        },
        header: HeaderLayout::of(session),
        heap_key: key(keys[0])?,
        lfh_key: key(keys[1])?,
        wide,
    })
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
    fn range(&self, segment: Va, index: u64, context: &Context) -> Option<PageRange> {
        if self.flags & 2 == 0 || self.units == 0 || index + self.units > RANGES {
            return None;
        }
        let what = match (self.flags & 1, self.flags & 0xc) {
            (0, _) => What::Free,
            (_, 0) if context.kind == Kind::Special => What::Special,
            (_, 0) => What::Pages,
            (_, 8) => What::Slots,
            (_, 0xc) => What::Chunks,
            _ => return None,
        };
        let size = self.units << context.shift;
        let unused = if what == What::Pages { self.unused.min(size) } else { 0 };
        Some(PageRange { start: segment.add(index << context.shift), size, unused, what })
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
        let mut context =
            Context { at: Va(1), heap: Va(2), kind: Kind::Paged, mask: !0xf_ffff, shift: 12, first: 2 };
        let range =
            |flags, units| Descriptor { flags, units, unused: 0x10 }.range(Va(0x10_0000), 4, &context);
        assert_eq!(
            range(3, 2),
            Some(PageRange { start: Va(0x10_4000), size: 0x2000, unused: 0x10, what: What::Pages })
        );
        assert_eq!(range(0xb, 4).map(|r| r.what), Some(What::Slots));
        assert_eq!(range(0xf, 16).map(|r| r.what), Some(What::Chunks));
        assert_eq!(range(2, 16).map(|r| r.what), Some(What::Free));
        assert_eq!((range(1, 2), range(3, 0), range(3, 253)), (None, None, None));
        context.kind = Kind::Special;
        let special = Descriptor { flags: 3, units: 2, unused: 0 }.range(Va(0x10_0000), 4, &context);
        assert_eq!(special.map(|r| (r.what, r.unused)), Some((What::Special, 0)));
    }
}
