//! Frames by runs: full dumps (`DumpType` 1) and range dumps (`RDMP`, 8 to 0xa).
//!
//! A run names consecutive frames, and the runs' pages follow one another in the file. The table here is sorted, so
//! a lookup is one binary search; nothing is kept for single pages. Runs of real files may be unsorted or overlap.
//!
//! `RDMP` layout as in public readers (kdmp-parser): a marker, `RDMP`, `DUMP`, then u64 `MetadataSize` (+0x10) and
//! `FirstPageOffset` (+0x18); +0x20 u32 count of ranges and +0x28 u64 count of pages in complete dumps, other data in
//! the others; ranges {u64 frame, u64 count} from +0x30 to the first page.

use kd_sdk::address::{PAGE_SIZE, Pfn};

use super::bytes::u64_at;
use super::header::{Header, MemoryRun};
use super::kind::DumpKind;
use super::mapped::MappedFile;
use super::physical::PhysicalRun;

/// Sorted disjoint runs.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: Vec<PhysicalRun>,
    pages: u64,
}

/// The most ranges of an `RDMP` table that are read: one for every second page of 128 GiB.
const MOST_RANGES: u64 = 1 << 24;

/// The most frames a physical address of 52 bits can name.
const MOST_FRAMES: u64 = 1 << 40;

impl Runs {
    /// Lays `runs` out from `first_page` on, in their order, and sorts them. The second value tells what had to be
    /// mended, if anything.
    pub(crate) fn new(first_page: u64, runs: impl Iterator<Item = MemoryRun>) -> (Runs, Option<String>) {
        let mut offset = first_page;
        let mut laid: Vec<PhysicalRun> = Vec::new();
        let mut mended = None;
        for run in runs {
            if run.page_count == 0 {
                continue;
            }
            if run.base_page.saturating_add(run.page_count) > MOST_FRAMES {
                mended = Some(format!(
                    "a run of {:#x} pages at page {:#x} is beyond any physical memory; it and what follows is ignored",
                    run.page_count, run.base_page
                ));
                break;
            }
            let bytes = run.page_count * PAGE_SIZE;
            match laid.last_mut() {
                Some(last) if last.first.0 + last.pages == run.base_page => last.pages += run.page_count,
                _ => laid.push(PhysicalRun { first: Pfn(run.base_page), pages: run.page_count, offset }),
            }
            offset = offset.saturating_add(bytes);
        }
        let pages = offset.saturating_sub(first_page) / PAGE_SIZE;
        laid.sort_by_key(|run| run.first);
        let mut end = 0;
        let mut sorted: Vec<PhysicalRun> = Vec::with_capacity(laid.len());
        for mut run in laid {
            let skip = if sorted.is_empty() { 0 } else { u64::saturating_sub(end, run.first.0) };
            if skip > 0 {
                mended =
                    Some(format!("memory runs overlap at page {:#x}; the lower run is used", run.first.0));
            }
            if skip >= run.pages {
                continue;
            }
            run.first.0 += skip;
            run.pages -= skip;
            run.offset = run.offset.saturating_add(skip.saturating_mul(PAGE_SIZE));
            end = run.first.0 + run.pages;
            sorted.push(run);
        }
        (Runs { runs: sorted, pages }, mended)
    }

    /// The file offset of a frame, and how many frames follow it in the file, itself included.
    pub(crate) fn find(&self, pfn: Pfn) -> Option<(u64, u64)> {
        let after = self.runs.partition_point(|run| run.first <= pfn);
        let run = self.runs.get(after.checked_sub(1)?)?;
        let skip = pfn.0 - run.first.0;
        (skip < run.pages).then(|| (run.offset.saturating_add(skip * PAGE_SIZE), run.pages - skip))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = PhysicalRun> + Send + '_ {
        self.runs.iter().copied()
    }

    /// Count of pages the file should hold.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    pub(crate) fn end(&self) -> Pfn {
        self.runs.last().map_or(Pfn(0), |run| Pfn(run.first.0 + run.pages))
    }
}

/// A parsed `RDMP` table.
pub(crate) struct Ranges {
    pub(crate) runs: Runs,
    pub(crate) first_page: u64,
    /// Where the ranges stand.
    pub(crate) table: u64,
    pub(crate) mended: Option<String>,
}

/// Parses the `RDMP` header after the dump header; `Err` says why not.
pub(crate) fn parse_ranges(file: &MappedFile, header: &Header) -> Result<Ranges, String> {
    let head = file.get(header.size, 0x30).ok_or("the file ends before the range table")?;
    if head.get(4..12) != Some(b"RDMPDUMP") {
        return Err("the signature RDMP DUMP of a range table is missing".into());
    }
    let metadata_size = u64_at(&head, 0x10).unwrap_or(0);
    let first_page = u64_at(&head, 0x18).unwrap_or(0);
    let table = header.size + 0x30;
    if first_page < table || first_page > file.size() {
        return Err(format!("its first page is said to be at 0x{first_page:x}"));
    }
    // A complete dump counts its pages; the others end with a zero entry or at the first page.
    let total = match header.kind {
        DumpKind::CompleteRange => u64_at(&head, 0x28).filter(|&total| total > 0),
        _ => None,
    };
    let room = ((first_page - table) / 16).min(metadata_size / 16).min(MOST_RANGES);
    let bytes = file
        .get(table, usize::try_from(room * 16).map_err(|_| "the range table is too large".to_owned())?)
        .ok_or("the file ends inside the range table")?;
    let mut counted = 0u64;
    let ranges = bytes
        .chunks_exact(16)
        .enumerate()
        .map_while(|(index, entry)| {
            let (base_page, page_count) = (u64_at(entry, 0)?, u64_at(entry, 8)?);
            if page_count == 0 || (base_page == 0 && index > 0) || total.is_some_and(|t| counted >= t) {
                return None;
            }
            counted = counted.saturating_add(page_count);
            Some(MemoryRun { base_page, page_count })
        })
        .collect::<Vec<_>>();
    let (runs, mended) = Runs::new(first_page, ranges.into_iter());
    Ok(Ranges { runs, first_page, table, mended })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(list: &[(u64, u64)]) -> (Runs, Option<String>) {
        Runs::new(0x2000, list.iter().map(|&(base_page, page_count)| MemoryRun { base_page, page_count }))
    }

    #[test]
    fn unsorted_runs_keep_their_place_in_the_file() {
        let (runs, mended) = runs(&[(0x100, 2), (1, 3), (0, 0), (0x102, 1)]);
        assert_eq!(mended, None);
        assert_eq!(runs.find(Pfn(0x100)), Some((0x2000, 2)));
        assert_eq!(runs.find(Pfn(1)), Some((0x4000, 3)));
        assert_eq!(runs.find(Pfn(3)), Some((0x6000, 1)));
        assert_eq!(runs.find(Pfn(0x102)), Some((0x7000, 1)));
        assert_eq!(runs.find(Pfn(0)), None);
        assert_eq!(runs.find(Pfn(4)), None);
        assert_eq!(runs.find(Pfn(u64::MAX)), None);
        assert_eq!((runs.pages(), runs.end()), (6, Pfn(0x103)));
    }

    #[test]
    fn overlapping_and_absurd_runs_are_mended() {
        let (lower, mended) = runs(&[(0x10, 4), (0x12, 4)]);
        assert!(mended.is_some());
        assert_eq!(lower.find(Pfn(0x13)), Some((0x5000, 1)));
        assert_eq!(lower.find(Pfn(0x14)), Some((0x8000, 2)));
        let (none, mended) = runs(&[(u64::MAX, 2), (1, 1)]);
        assert!(mended.is_some());
        assert_eq!(none.pages(), 0);
    }
}
