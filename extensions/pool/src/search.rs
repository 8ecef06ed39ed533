//! All blocks of a kind of pool, as fast as memory can be read.

use kd_sdk::address::PAGE_SIZE;
use kd_sdk::nt::heap::{Heaps, What};
use kd_sdk::nt::heap_blocks::RangeBytes;
use kd_sdk::nt::kernel::Kernel;
use kd_sdk::nt::pool::{self, Big, Block, Bounds, HeaderLayout, Kind, Place, Range};
use kd_sdk::nt::{memory, process};
use kd_sdk::prelude::*;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// The most damaged pages that are told one by one.
const MOST_DAMAGE: usize = 32;

/// What a search met besides blocks.
#[derive(Default)]
pub struct Met {
    /// Stretches that were searched.
    pub ranges: Vec<Range>,
    /// Pages read.
    pub pages: u64,
    /// What is wrong, where; the first ones.
    pub corrupt: Vec<pool::Corruption>,
    /// How many pages or subsegments are wrong.
    pub corrupt_count: u64,
    /// What could not be followed.
    pub refused: Vec<String>,
}

impl Met {
    fn damage(&mut self, what: Option<pool::Corruption>) {
        let Some(what) = what else { return };
        self.corrupt_count += 1;
        if self.corrupt.len() < MOST_DAMAGE {
            self.corrupt.push(what);
        }
    }
}

/// Hands every block of a kind of pool to `visit`: big allocations first, then by address.
///
/// # Errors
/// Ctrl+C; what was met until then is in `met`.
pub fn blocks(session: &Session<'_>, kind: Kind, met: &mut Met, visit: &mut dyn FnMut(&Block)) -> Result<()> {
    let big = match pool::big_allocations(session) {
        Ok((list, missing)) => {
            met.refused.extend(missing.map(|error| format!("big allocations: {error}")));
            list
        }
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => {
            met.refused.push(format!("big allocations: {error}"));
            Vec::new()
        }
    };
    // Old tables do not tell the kind: where it lies does.
    let mut ranges = pool::ranges(session);
    ranges.extend(session_range(session));
    let lies = |big: &Big| {
        ranges.iter().find(|range| range.start <= big.at && big.at < range.end).map(|range| range.kind)
    };
    for big in big.iter().filter(|big| big.kind.or_else(|| lies(big)).is_none_or(|found| found == kind)) {
        let (at, size, tag) = (big.at, big.size, big.tag);
        visit(&Block { at, size, previous: 0, allocated: !big.freed, tag, place: Place::Big });
    }
    match Heaps::open(session) {
        Ok(Some(heaps)) => in_heaps(session, heaps, &big, kind, met, visit),
        Ok(None) => in_ranges(session, &big, &ranges, kind, met, visit),
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(error) => {
            met.refused.push(format!("segment heaps: {error}"));
            Ok(())
        }
    }
}

fn in_heaps(
    session: &Session<'_>,
    mut heaps: Heaps<'_>,
    big: &[Big],
    kind: Kind,
    met: &mut Met,
    visit: &mut dyn FnMut(&Block),
) -> Result<()> {
    let mut buffer = RangeBytes::default();
    let (mut refused, mut unread, mut missing) = (Vec::new(), 0u64, 0u64);
    // What the table tells was visited before.
    let known = |block: &Block| {
        block.place == Place::Big && pool::big_at(big, block.at).is_some_and(|found| found.at == block.at)
    };
    heaps.contexts.retain(|context| context.kind == kind);
    if heaps.contexts.is_empty() {
        refused.push(format!("no segment heap of {} is known", kind.name()));
    }
    let result = heaps.each_range(&mut |heaps, context, range| {
        session.check_interrupt()?;
        if matches!(range.what, What::Free | What::Pages) {
            return Ok(());
        }
        met.pages += range.size / PAGE_SIZE;
        let end = range.start.add(range.size);
        match met.ranges.last_mut() {
            Some(last)
                if last.kind == context.kind
                    && last.end <= range.start
                    && range.start.0 - last.end.0 < 64 << 20 =>
            {
                last.end = end
            }
            _ => met.ranges.push(Range { start: range.start, end, kind: context.kind, bounds: Bounds::Told }),
        }
        let walked = heaps.blocks(range, &mut buffer, &mut |block| {
            if !known(&block) {
                visit(&block);
            }
        });
        match walked {
            Ok(walked) => {
                met.damage(walked.corrupt);
                missing += walked.missing;
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                unread += 1;
                if refused.len() < MOST_DAMAGE {
                    refused.push(format!("{}: {error}", range.start));
                }
            }
        }
        Ok(())
    });
    if unread > refused.len() as u64 {
        refused.push(format!("{unread} ranges in all"));
    }
    if missing != 0 {
        refused.push(format!("{missing} pages of other ranges cannot be read"));
    }
    met.refused.extend(heaps.refused);
    met.refused.extend(refused);
    result
}

fn in_ranges(
    session: &Session<'_>,
    big: &[Big],
    ranges: &[Range],
    kind: Kind,
    met: &mut Met,
    visit: &mut dyn FnMut(&Block),
) -> Result<()> {
    let ranges: Vec<Range> = ranges.iter().filter(|range| range.kind == kind).copied().collect();
    if ranges.is_empty() {
        met.refused.push(format!(
            "nothing tells where {} lies: no variable for it (nt!MmNonPagedPoolStart, nt!MmPagedPoolStart, their ends), \
             no types of addresses (nt!MiSystemVaType), no allocation that is known without them",
            kind.name()
        ));
    }
    let layout = HeaderLayout::of(session);
    let memory = session.memory();
    let mut buffer = vec![0; CHUNK];
    let mut of_page: Vec<Block> = Vec::new();
    for range in ranges {
        met.ranges.push(range);
        let mut at = range.start;
        while at < range.end {
            session.check_interrupt()?;
            let len = ((range.end.0 - at.0) as usize).min(CHUNK);
            let Some(piece) = buffer.get_mut(..len) else { break };
            let (done, fault) = memory.read_some(at, piece)?;
            for (page, index) in piece.get(..done).unwrap_or_default().chunks(PAGE_SIZE as usize).zip(0u64..)
            {
                let page_at = at.add(index * PAGE_SIZE);
                met.pages += 1;
                // Pages of a big allocation hold what its owner wrote, and where others lie they hold what they want.
                let strange = range.bounds != Bounds::Told && !pool::begins_page(&layout, page);
                if strange || pool::big_at(big, page_at).is_some() {
                    continue;
                }
                of_page.clear();
                let wrong = pool::walk_page(&layout, page_at, page, &mut |block| of_page.push(block));
                // A page that does not begin like one of blocks is none: pool grows and shrinks by pages, and keeps
                // lists in those that are free.
                if wrong.is_none() || of_page.first().is_some_and(|block| block.tag.is_text()) {
                    of_page.iter().for_each(&mut *visit);
                    met.damage(wrong);
                }
            }
            session.progress(at.0 - range.start.0, range.end.0 - range.start.0, "Searching pool");
            at = at.add(done as u64);
            if fault.is_some() {
                at = match memory.next_readable(at.page().add(PAGE_SIZE)) {
                    Some(next) if next > at => next.page(),
                    _ => range.end,
                };
            }
        }
    }
    Ok(())
}

/// Session pool of old kernels lies where the current session says.
fn session_range(session: &Session<'_>) -> Option<Range> {
    let of = session.types().find("nt!_MM_SESSION_SPACE").ok()?;
    let (charges, _) = memory::charges(session).ok()?;
    let current = process::current(&Kernel::new(session)).ok();
    let members = || charges.iter().filter(|charge| session.target().is_kernel(charge.session));
    let chosen = members().find(|charge| current == Some(charge.process)).or_else(|| members().next())?;
    let space = chosen.session;
    let at = of.at(space);
    let (start, end) = (at.pointer("PagedPoolStart").ok()?, at.pointer("PagedPoolEnd").ok()?);
    (session.target().is_kernel(start) && start < end).then(|| Range {
        start,
        end: end.add(1),
        kind: Kind::Session,
        bounds: Bounds::Told,
    })
}
