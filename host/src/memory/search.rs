//! Finds bytes in physical memory, run by run, at the speed of a search over the mapped file.
//!
//! A match may cross from one run into the next when their frames are neighbours, wherever they stand in the file;
//! it never crosses a hole. Searches of virtual memory are not here: they follow a view.

use std::ops::{ControlFlow, Range};

use kd_sdk::address::{PAGE_SIZE, Pa, Pfn};
use memchr::memmem::Finder;

use crate::dump::PhysicalMemory;

/// Pages searched between two looks at the interrupt: 4 MiB.
const CHUNK_PAGES: u64 = 1024;

/// Matches reported between two looks at the interrupt.
const CHUNK_MATCHES: u32 = 4096;

/// How far a search came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Searched {
    /// Pages whose bytes were looked at. Frames of the range that the dump does not hold are simply not among them.
    pub pages: u64,
    /// Pages that the dump should hold, but the file does not: the end of a file that was cut.
    pub broken: u64,
    /// The search was interrupted, or `found` broke it off.
    pub stopped: bool,
}

/// Calls `found` with the address of every match of `needle` that lies in `range`, in ascending order; matches may
/// overlap. `interrupted` is asked every few MiB. An empty needle matches nothing.
///
/// Memory use is twice the needle's length; for needles much longer than a page, so is the time a short run takes.
pub fn search(
    physical: &dyn PhysicalMemory,
    range: Range<Pa>,
    needle: &[u8],
    interrupted: &dyn Fn() -> bool,
    found: &mut dyn FnMut(Pa) -> ControlFlow<()>,
) -> Searched {
    let mut searched = Searched::default();
    let Some(overlap) = needle.len().checked_sub(1) else { return searched };
    let mut matches = Matches { finder: Finder::new(needle), interrupted, found, count: 0 };
    let mut seam = Seam { bytes: Vec::new(), end: 0, overlap };
    let last_frame = range.end.0.div_ceil(PAGE_SIZE);
    for run in physical.runs() {
        if run.first.0 >= last_frame {
            break;
        }
        let end = run.first.0.saturating_add(run.pages).min(last_frame);
        let mut pfn = run.first.0.max(range.start.0 / PAGE_SIZE);
        while pfn < end {
            if interrupted() {
                return Searched { stopped: true, ..searched };
            }
            let Ok(bytes) = physical.pages(Pfn(pfn), (end - pfn).min(CHUNK_PAGES)) else {
                // Offsets only grow inside a run: what follows is missing too.
                searched.broken = searched.broken.saturating_add(end - pfn);
                break;
            };
            let pages = (bytes.len() as u64 / PAGE_SIZE).max(1);
            // The part of these pages that lies in the range.
            let base = pfn.saturating_mul(PAGE_SIZE);
            let from = clamp(range.start.0.saturating_sub(base), bytes.len());
            let to = clamp(range.end.0.saturating_sub(base), bytes.len());
            let part = bytes.get(from..to).unwrap_or_default();
            let base = base.saturating_add(from as u64);
            searched.pages = searched.pages.saturating_add(pages);
            let flow = match seam.join(base, part) {
                Some((start, joined)) => matches.all(start, joined),
                None => ControlFlow::Continue(()),
            };
            if flow.is_break() || matches.all(base, part).is_break() {
                return Searched { stopped: true, ..searched };
            }
            seam.keep(base, part);
            pfn = pfn.saturating_add(pages);
        }
    }
    searched
}

fn clamp(offset: u64, len: usize) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX).min(len)
}

/// What finds and reports.
struct Matches<'a> {
    finder: Finder<'a>,
    interrupted: &'a dyn Fn() -> bool,
    found: &'a mut dyn FnMut(Pa) -> ControlFlow<()>,
    count: u32,
}

impl Matches<'_> {
    fn all(&mut self, base: u64, bytes: &[u8]) -> ControlFlow<()> {
        let mut from = 0;
        while let Some(at) = bytes.get(from..).and_then(|rest| self.finder.find(rest)) {
            from = from.saturating_add(at);
            (self.found)(Pa(base.saturating_add(from as u64)))?;
            self.count = self.count.wrapping_add(1);
            if self.count.is_multiple_of(CHUNK_MATCHES) && (self.interrupted)() {
                return ControlFlow::Break(());
            }
            from = from.saturating_add(1);
        }
        ControlFlow::Continue(())
    }
}

/// The last bytes that were searched, less than a needle: no match lies in them alone, so none is found twice.
struct Seam {
    bytes: Vec<u8>,
    /// The address after them.
    end: u64,
    overlap: usize,
}

impl Seam {
    /// The kept bytes with the first of `part`, and their address; `None` if `part` does not follow them.
    fn join(&mut self, base: u64, part: &[u8]) -> Option<(u64, &[u8])> {
        if self.end != base {
            self.bytes.clear();
        }
        if self.bytes.is_empty() {
            return None;
        }
        let start = base.saturating_sub(self.bytes.len() as u64);
        self.bytes.extend_from_slice(part.get(..self.overlap).unwrap_or(part));
        Some((start, &self.bytes))
    }

    /// Keeps the end of `part`, and of what stood before it if it is short.
    fn keep(&mut self, base: u64, part: &[u8]) {
        match part.len().checked_sub(self.overlap) {
            Some(from) => {
                self.bytes.clear();
                self.bytes.extend_from_slice(part.get(from..).unwrap_or_default());
            }
            // A short part: `join` has put all of it behind what was kept, unless nothing was.
            None => {
                if self.bytes.is_empty() {
                    self.bytes.extend_from_slice(part);
                }
                let surplus = self.bytes.len().saturating_sub(self.overlap);
                self.bytes.drain(..surplus);
            }
        }
        self.end = base.saturating_add(part.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::{Absent, PhysicalRun};
    use proptest::prelude::*;
    use std::borrow::Cow;
    use std::cell::Cell;

    /// Frames in a "file", in the order of the list; at most `step` pages at once; the file ends after `held` pages.
    struct Fake {
        runs: Vec<PhysicalRun>,
        file: Vec<u8>,
        step: u64,
        held: u64,
    }

    impl Fake {
        fn new(runs: &[(u64, u64)], step: u64, fill: impl Fn(usize) -> u8) -> Fake {
            let mut offset = 0;
            let mut laid = Vec::new();
            for &(first, pages) in runs {
                laid.push(PhysicalRun { first: Pfn(first), pages, offset });
                offset += pages * PAGE_SIZE;
            }
            laid.sort_by_key(|run| run.first);
            let file = (0..offset as usize).map(fill).collect();
            Fake { runs: laid, file, step, held: offset / PAGE_SIZE }
        }

        fn write(&mut self, pa: u64, bytes: &[u8]) {
            for (at, byte) in (pa..).zip(bytes) {
                let run = self.runs.iter().find(|r| (r.first.0..r.first.0 + r.pages).contains(&(at >> 12)));
                let run = run.unwrap();
                self.file[(run.offset + at - run.first.0 * PAGE_SIZE) as usize] = *byte;
            }
        }

        fn find(&self, range: Range<u64>, needle: &[u8]) -> (Vec<u64>, Searched) {
            let mut found = Vec::new();
            let searched = search(self, Pa(range.start)..Pa(range.end), needle, &|| false, &mut |pa| {
                found.push(pa.0);
                ControlFlow::Continue(())
            });
            (found, searched)
        }

        /// The same by looking at every address.
        fn find_slowly(&self, range: Range<u64>, needle: &[u8]) -> Vec<u64> {
            let mut found = Vec::new();
            let (mut start, mut bytes) = (0, Vec::new());
            for pfn in 0..=self.end().0 {
                match self.page(Pfn(pfn)) {
                    Ok(page) => bytes.extend_from_slice(&page),
                    Err(_) => {
                        let here = bytes.windows(needle.len()).zip(start..);
                        found.extend(here.filter(|(window, _)| *window == needle).map(|(_, pa)| pa));
                        (start, bytes) = ((pfn + 1) * PAGE_SIZE, Vec::new());
                    }
                }
            }
            found.retain(|&pa| range.start <= pa && pa + needle.len() as u64 <= range.end);
            found
        }
    }

    impl PhysicalMemory for Fake {
        fn pages(&self, first: Pfn, max_pages: u64) -> Result<Cow<'_, [u8]>, Absent> {
            let run = self.runs.iter().find(|r| (r.first.0..r.first.0 + r.pages).contains(&first.0));
            let run = run.ok_or(Absent::NotCaptured)?;
            let skip = first.0 - run.first.0;
            let offset = run.offset / PAGE_SIZE + skip;
            let count = max_pages.min(run.pages - skip).min(self.step).min(self.held.saturating_sub(offset));
            if count == 0 {
                return Err(Absent::Broken);
            }
            let (from, to) = (offset * PAGE_SIZE, (offset + count) * PAGE_SIZE);
            Ok(Cow::Borrowed(&self.file[from as usize..to as usize]))
        }

        fn runs(&self) -> Box<dyn Iterator<Item = PhysicalRun> + Send + '_> {
            Box::new(self.runs.iter().copied())
        }

        fn page_count(&self) -> u64 {
            self.runs.iter().map(|run| run.pages).sum()
        }

        fn end(&self) -> Pfn {
            self.runs.last().map_or(Pfn(0), |run| Pfn(run.first.0 + run.pages))
        }
    }

    #[test]
    fn crosses_neighbours_and_no_holes() {
        // Frames 1, 2 stand behind 3 in the file; 5 is alone.
        let mut fake = Fake::new(&[(3, 1), (1, 2), (5, 1)], 1, |_| 0);
        for pa in [0x1000, 0x1ffe, 0x2ffd, 0x3ffc, 0x5ffc] {
            fake.write(pa, b"kdbg");
        }
        fake.write(0x3ffe, b"kd");
        fake.write(0x5000, b"bg");
        let (found, searched) = fake.find(0..u64::MAX, b"kdbg");
        assert_eq!(found, [0x1000, 0x1ffe, 0x2ffd, 0x5ffc]);
        assert_eq!(searched, Searched { pages: 4, broken: 0, stopped: false });
        assert_eq!(fake.find(0x1001..0x3001, b"kdbg").0, [0x1ffe, 0x2ffd]);
        assert_eq!(fake.find(0x1001..0x3000, b"kdbg").0, [0x1ffe]);
        assert!(fake.find(0..u64::MAX, b"").0.is_empty());
        let backwards = Range { start: 0x3000, end: 0x1000 };
        assert!(fake.find(backwards, b"kdbg").0.is_empty());
    }

    #[test]
    fn says_what_the_file_lacks() {
        let mut fake = Fake::new(&[(1, 2), (8, 100)], 2, |_| 0);
        fake.held = 5;
        assert_eq!(fake.find(0..u64::MAX, b"x").1, Searched { pages: 5, broken: 97, stopped: false });
    }

    #[test]
    fn stops_when_asked() {
        let fake = Fake::new(&[(0, 4)], 1, |_| 0);
        let asked = Cell::new(0);
        let interrupted = || asked.replace(asked.get() + 1) == 2;
        let all = Pa(0)..Pa(u64::MAX);
        let searched = search(&fake, all.clone(), b"x", &interrupted, &mut |_| ControlFlow::Continue(()));
        assert_eq!(searched, Searched { pages: 2, broken: 0, stopped: true });
        let mut first = None;
        let searched = search(&fake, all.clone(), &[0; 2], &|| false, &mut |pa| {
            first = Some(pa);
            ControlFlow::Break(())
        });
        assert_eq!((first, searched.stopped), (Some(Pa(0)), true));
        // A page full of matches is left as well.
        let mut count = 0;
        let counted = Cell::new(0);
        let interrupted = || counted.replace(counted.get() + 1) == 1;
        search(&fake, all, &[0], &interrupted, &mut |_| {
            count += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(count, CHUNK_MATCHES);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn equals_looking_everywhere(
            seed: u8,
            step in 1u64..4,
            order in 0usize..4,
            long: bool,
            at in 0u64..0x7000,
            cut in 0u64..0x2000,
        ) {
            let runs = [[(0, 1), (1, 2), (3, 1), (5, 2)], [(5, 2), (3, 1), (1, 2), (0, 1)],
                        [(1, 2), (5, 2), (0, 1), (3, 1)], [(3, 1), (0, 1), (5, 2), (1, 2)]];
            let mut fake = Fake::new(&runs[order], step, |at| ((at >> 3) as u8 ^ seed) & 1);
            // A needle of more than two pages, or a short one that overlaps itself.
            let needle = if long { vec![7; 0x2100] } else { vec![1, 1, 0, 0, 0, 0] };
            if long && at + 0x2200 < 0x4000 {
                fake.write(at, &vec![7; 0x2200]);
            }
            let range = cut..0x7000 - cut / 2;
            prop_assert_eq!(fake.find(range.clone(), &needle).0, fake.find_slowly(range, &needle));
        }
    }
}
