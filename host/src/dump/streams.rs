//! Which tables a kind of dump has after its header: opens the pages and names what the file consists of.

use std::sync::Arc;

use kd_sdk::address::PAGE_SIZE;

use super::bitmap::Bitmap;
use super::error::Problem;
use super::header::Header;
use super::kind::DumpKind;
use super::mapped::MappedFile;
use super::physical::{Frames, Pages};
use super::runs::{Runs, parse_ranges};
use super::{LayoutEntry, TaggedBlob};

/// The pages of a dump and what was noticed while opening them.
pub(crate) struct OpenedPages {
    pub(crate) pages: Pages,
    pub(crate) problems: Vec<Problem>,
    /// Where the pages should end; secondary data follows.
    pub(crate) end: u64,
    pub(crate) layout: Vec<LayoutEntry>,
}

/// Opens the pages. `Err` says why the tables cannot be used; the table stands at `header.size`.
pub(crate) fn open_pages(file: &Arc<MappedFile>, header: &Header) -> Result<OpenedPages, String> {
    let signature = file.get(header.size, 12);
    let signature = signature.as_deref().unwrap_or_default();
    // The signature decides before the kind: writers have disagreed about the numbers 5 to 10.
    let bitmap = signature.starts_with(b"SDMPDUMP") || signature.starts_with(b"FDMPDUMP");
    let ranges = signature.get(4..12) == Some(b"RDMPDUMP");
    match header.kind {
        DumpKind::Full if !bitmap => Ok(open_runs(file, header)),
        DumpKind::KernelRange | DumpKind::KernelUserRange | DumpKind::CompleteRange if !bitmap => {
            open_ranges(file, header)
        }
        _ if ranges => open_ranges(file, header),
        _ => open_bitmap(file, header),
    }
}

fn entry(name: &str, offset: u64, size: u64, note: String) -> LayoutEntry {
    LayoutEntry { name: name.into(), offset, size, note }
}

fn open_runs(file: &Arc<MappedFile>, header: &Header) -> OpenedPages {
    let at = if header.is_64_bit { 0x88 } else { 0x64 };
    let mut problems = Vec::new();
    let mut damaged = |why: String| {
        problems.push(Problem::Damaged { what: "the table of memory runs".into(), offset: at, why });
    };
    let mut listed = Vec::new();
    match &header.physical_memory {
        None => damaged("it was never written, so no page can be found".into()),
        Some(memory) => {
            if memory.number_of_runs as usize > memory.runs.len() {
                damaged(format!(
                    "it counts {} runs and holds {}; the pages of the others cannot be found",
                    memory.number_of_runs,
                    memory.runs.len()
                ));
            }
            listed.clone_from(&memory.runs);
        }
    }
    let (runs, mended) = Runs::new(header.size, listed.into_iter());
    if let Some(why) = mended {
        damaged(why);
    }
    let pages = runs.pages();
    let layout =
        vec![entry("memory pages", header.size, pages.saturating_mul(PAGE_SIZE), format!("{pages} pages"))];
    finish(file, header, Frames::Runs(runs), header.size, pages, problems, layout)
}

fn open_ranges(file: &Arc<MappedFile>, header: &Header) -> Result<OpenedPages, String> {
    let ranges = parse_ranges(file, header)?;
    let mut problems = Vec::new();
    if let Some(why) = ranges.mended {
        problems.push(Problem::Damaged { what: "the range table".into(), offset: ranges.table, why });
    }
    let (pages, first) = (ranges.runs.pages(), ranges.first_page);
    let layout = vec![
        entry("range table header", header.size, ranges.table - header.size, "RDMP".into()),
        entry(
            "range table",
            ranges.table,
            first - ranges.table,
            format!("{} runs", ranges.runs.iter().count()),
        ),
        entry("memory pages", first, pages.saturating_mul(PAGE_SIZE), format!("{pages} pages")),
    ];
    Ok(finish(file, header, Frames::Runs(ranges.runs), first, pages, problems, layout))
}

fn open_bitmap(file: &Arc<MappedFile>, header: &Header) -> Result<OpenedPages, String> {
    let bitmap = Bitmap::parse(file.clone(), header)?;
    let (first, present) = (bitmap.first_page, bitmap.present);
    let layout = vec![
        entry("page bitmap header", header.size, bitmap.bits_at - header.size, String::new()),
        entry("page bitmap", bitmap.bits_at, bitmap.bits.div_ceil(8), format!("{} bits", bitmap.bits)),
        entry("memory pages", first, present.saturating_mul(PAGE_SIZE), format!("{present} pages")),
    ];
    Ok(finish(file, header, Frames::Bitmap(bitmap), first, present, Vec::new(), layout))
}

fn finish(
    file: &Arc<MappedFile>,
    header: &Header,
    frames: Frames,
    first_page: u64,
    pages: u64,
    mut problems: Vec<Problem>,
    layout: Vec<LayoutEntry>,
) -> OpenedPages {
    let end = first_page.saturating_add(pages.saturating_mul(PAGE_SIZE));
    if end > file.size() {
        let held = file.size().saturating_sub(first_page) / PAGE_SIZE;
        problems.push(Problem::Truncated {
            kind: header.kind,
            size: file.size(),
            expected: end,
            lost: format!("{} of {pages} pages are", pages.saturating_sub(held)),
        });
    }
    OpenedPages { pages: Pages { file: file.clone(), frames }, problems, end, layout }
}

/// A GUID as it is usually written.
pub(crate) fn guid(blob: &TaggedBlob) -> String {
    let g = &blob.guid;
    let short = |at: usize| u16::from_le_bytes([g[at], g[at + 1]]);
    format!(
        "{:08x}-{:04x}-{:04x}-{:02x}{:02x}-{:02x}{:02x}{:02x}{:02x}{:02x}{:02x}",
        u32::from_le_bytes([g[0], g[1], g[2], g[3]]),
        short(4),
        short(6),
        g[8],
        g[9],
        g[10],
        g[11],
        g[12],
        g[13],
        g[14],
        g[15]
    )
}
