//! Physical pages of a dump: what every kind with pages offers, and why a byte can be absent.

use std::borrow::Cow;
use std::sync::Arc;

use kd_sdk::address::{PAGE_SIZE, Pa, Pfn};

pub use kd_sdk::error::Absent;

use super::bitmap::Bitmap;
use super::mapped::MappedFile;
use super::runs::Runs;

/// Frames that are present and lie one after another in the file as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhysicalRun {
    /// The first frame.
    pub first: Pfn,
    /// Count of frames.
    pub pages: u64,
    /// File offset of the first frame's bytes.
    pub offset: u64,
}

/// The physical memory a dump holds.
pub trait PhysicalMemory: Send + Sync {
    /// The bytes of up to `max_pages` consecutive frames from `first`, at least one: as many as stand together in
    /// the file. Borrowed without a copy when the file is mapped.
    fn pages(&self, first: Pfn, max_pages: u64) -> Result<Cow<'_, [u8]>, Absent>;

    /// Runs of present frames, in ascending order, found as the iterator advances. [`PhysicalMemory::pages`] gives
    /// the bytes of a run; in a cut file its end may be [`Absent::Broken`].
    fn runs(&self) -> Box<dyn Iterator<Item = PhysicalRun> + Send + '_>;

    /// Count of frames that the file should hold.
    fn page_count(&self) -> u64;

    /// One above the highest frame that can be present; zero when there is none.
    fn end(&self) -> Pfn;

    /// The 4096 bytes of one frame.
    fn page(&self, pfn: Pfn) -> Result<Cow<'_, [u8]>, Absent> {
        self.pages(pfn, 1)
    }

    /// Reads across frames; on a hole returns how many bytes were read before it, and why it is one.
    fn read(&self, pa: Pa, buffer: &mut [u8]) -> Result<(), (usize, Absent)> {
        let mut done = 0;
        while done < buffer.len() {
            let at = Pa(pa.0.checked_add(done as u64).ok_or((done, Absent::NotMapped))?);
            let skip = at.page_offset() as usize;
            let wanted = buffer.len() - done;
            let pages = (skip as u64).saturating_add(wanted as u64).div_ceil(PAGE_SIZE);
            let bytes = self.pages(at.pfn(), pages).map_err(|why| (done, why))?;
            let bytes = bytes.get(skip..).unwrap_or_default();
            let count = bytes.len().min(wanted);
            match (buffer.get_mut(done..done.saturating_add(count)), bytes.get(..count)) {
                (Some(to), Some(from)) if count > 0 => to.copy_from_slice(from),
                _ => return Err((done, Absent::Broken)),
            }
            done += count;
        }
        Ok(())
    }
}

/// The most pages read at once when the file is not mapped, so that a copy stays small.
const MOST_COPIED_PAGES: u64 = 256;

/// How a file orders its frames.
pub(crate) enum Frames {
    /// By runs.
    Runs(Runs),
    /// By a bitmap.
    Bitmap(Bitmap),
}

/// The pages of a dump file.
pub(crate) struct Pages {
    pub(crate) file: Arc<MappedFile>,
    pub(crate) frames: Frames,
}

impl Pages {
    /// Where in the file frames from `first` on are, and how many bytes of up to `max` frames are there.
    fn place(&self, first: Pfn, max: u64) -> Result<(u64, usize), Absent> {
        let found = match &self.frames {
            Frames::Runs(runs) => runs.find(first),
            Frames::Bitmap(bitmap) => bitmap.find(first, max),
        };
        let (offset, count) = found.ok_or(Absent::NotCaptured)?;
        let held = self.file.size().saturating_sub(offset) / PAGE_SIZE;
        let bytes = usize::try_from(count.min(max).min(held).saturating_mul(PAGE_SIZE));
        bytes.ok().filter(|bytes| *bytes > 0).map(|bytes| (offset, bytes)).ok_or(Absent::Broken)
    }
}

impl PhysicalMemory for Pages {
    fn pages(&self, first: Pfn, max_pages: u64) -> Result<Cow<'_, [u8]>, Absent> {
        let mut max = max_pages.max(1);
        if !self.file.is_mapped() {
            max = max.min(MOST_COPIED_PAGES);
        }
        let (offset, bytes) = self.place(first, max)?;
        self.file.get(offset, bytes).ok_or(Absent::Broken)
    }

    fn read(&self, pa: Pa, buffer: &mut [u8]) -> Result<(), (usize, Absent)> {
        let mut done = 0;
        while done < buffer.len() {
            let at = Pa(pa.0.checked_add(done as u64).ok_or((done, Absent::NotMapped))?);
            let skip = at.page_offset();
            let pages = skip.saturating_add((buffer.len() - done) as u64).div_ceil(PAGE_SIZE);
            let (offset, bytes) = self.place(at.pfn(), pages).map_err(|why| (done, why))?;
            let end = buffer.len().min(done.saturating_add(bytes - skip as usize));
            let to = buffer.get_mut(done..end).unwrap_or_default();
            let count = self.file.read_at(offset + skip, to);
            if count == 0 {
                return Err((done, Absent::Broken));
            }
            done += count;
        }
        Ok(())
    }

    fn runs(&self) -> Box<dyn Iterator<Item = PhysicalRun> + Send + '_> {
        match &self.frames {
            Frames::Runs(runs) => Box::new(runs.iter()),
            Frames::Bitmap(bitmap) => Box::new(bitmap.iter()),
        }
    }

    fn page_count(&self) -> u64 {
        match &self.frames {
            Frames::Runs(runs) => runs.pages(),
            Frames::Bitmap(bitmap) => bitmap.count(),
        }
    }

    fn end(&self) -> Pfn {
        match &self.frames {
            Frames::Runs(runs) => runs.end(),
            Frames::Bitmap(bitmap) => Pfn(bitmap.bits),
        }
    }
}
