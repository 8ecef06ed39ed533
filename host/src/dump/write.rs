//! Writes dumps out of dumps: complete ones (kind 5) and kernel ones (kind 6), with the page bitmap that Windows 8 and
//! later write; `write_small` beside this file makes small ones. What is worth keeping is for the caller to say.
//!
//! The header is that of the dump at hand, with the fields changed that tell of the new file. Pages are streamed;
//! what is held in memory is the bitmap, a bit for every frame. Facts as in [`super::bitmap`], which reads the result.

use std::io::{self, Seek, SeekFrom, Write};

use kd_sdk::address::{PAGE_SIZE, Pfn};
use thiserror::Error;

use super::header::{COMMENT_SIZE, FileRange, Layout, layout_of};
use super::{Dump, DumpKind, PhysicalMemory};

/// Frames that a new dump may have room for (4 TiB): it bounds the bitmap.
const MOST_FRAMES: u64 = 1 << 30;
/// Pages that are copied at once.
const PIECE: u64 = 256;
/// Bytes of secondary data that are copied.
const MOST_TAGGED: u64 = 64 << 20;

/// Why a dump was not written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The caller did.
    #[error("interrupted")]
    Interrupted,
    /// This dump cannot become such a dump.
    #[error("{0}")]
    Impossible(String),
}

/// A set of frames.
pub struct Frames {
    words: Vec<u64>,
    count: u64,
}

impl Frames {
    /// An empty one with room for all frames of a memory.
    ///
    /// # Errors
    /// A memory of more than 4 TiB.
    pub fn new(physical: &dyn PhysicalMemory) -> Result<Frames, WriteError> {
        // Whole words of 32 bits, as the kernel's bitmaps have.
        let bits = physical.end().0.checked_next_multiple_of(64).filter(|bits| *bits <= MOST_FRAMES);
        let bits = bits.ok_or_else(|| {
            let end = physical.end();
            WriteError::Impossible(format!(
                "the dump has frames up to {end:?}; up to {MOST_FRAMES:#x} can be kept"
            ))
        })?;
        Ok(Frames { words: vec![0; (bits / 64) as usize], count: 0 })
    }

    /// All frames that a dump has.
    ///
    /// # Errors
    /// As [`Frames::new`], and `step` said false.
    pub fn all(physical: &dyn PhysicalMemory, step: Step<'_>) -> Result<Frames, WriteError> {
        let mut frames = Frames::new(physical)?;
        for run in physical.runs() {
            if !step(0, 0) {
                return Err(WriteError::Interrupted);
            }
            // The end of the last run may lie behind the end of a file that was cut.
            let held = |pages: u64| pages == 0 || physical.page(Pfn(run.first.0 + (pages - 1))).is_ok();
            let (mut least, mut most) = (0, run.pages);
            while !held(most) && least < most {
                let middle = least + (most - least) / 2;
                if held(middle + 1) { least = middle + 1 } else { most = middle }
            }
            for frame in run.first.0..run.first.0.saturating_add(most) {
                frames.insert(Pfn(frame));
            }
        }
        Ok(frames)
    }

    /// Adds a frame; one beyond the end is none. True if it is new.
    pub fn insert(&mut self, frame: Pfn) -> bool {
        let place = usize::try_from(frame.0 / 64).ok().and_then(|index| self.words.get_mut(index));
        let Some(word) = place else { return false };
        let bit = 1 << (frame.0 % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        self.count += u64::from(is_new);
        is_new
    }

    /// True if it is in the set.
    pub fn contains(&self, frame: Pfn) -> bool {
        let word = usize::try_from(frame.0 / 64).ok().and_then(|index| self.words.get(index));
        word.is_some_and(|word| word >> (frame.0 % 64) & 1 != 0)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Those that follow one another: the first, and how many.
    fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let end = self.words.len() as u64 * 64;
        let mut at = 0;
        std::iter::from_fn(move || {
            while at < end && !self.contains(Pfn(at)) {
                let empty = at % 64 == 0 && self.words.get((at / 64) as usize) == Some(&0);
                at += if empty { 64 } else { 1 };
            }
            let first = at;
            while at < end && self.contains(Pfn(at)) {
                let full = at % 64 == 0 && self.words.get((at / 64) as usize) == Some(&u64::MAX);
                at += if full { 64 } else { 1 };
            }
            (first < at).then_some((first, at - first))
        })
    }
}

/// Told (done, total) of the way; false stops it.
pub type Step<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// What differs from the dump at hand.
#[derive(Clone, Copy, Default, Debug)]
pub struct Change<'a> {
    /// The comment, at most 127 bytes of it.
    pub comment: Option<&'a str>,
    /// The record of registers.
    pub context: Option<&'a [u8]>,
}

/// The header of a dump for a new file of another kind, and where its fields are.
pub(super) fn new_header(
    dump: &Dump,
    kind: DumpKind,
    change: &Change<'_>,
) -> Result<(Vec<u8>, &'static Layout), WriteError> {
    let range = FileRange { offset: 0, size: dump.header().size };
    let bytes = dump.read_range(range).map(std::borrow::Cow::into_owned);
    let found = bytes.and_then(|bytes| layout_of(&bytes).map(|layout| (bytes, layout)));
    let (mut bytes, layout) =
        found.ok_or_else(|| WriteError::Impossible("the dump's header cannot be read".to_owned()))?;
    put(&mut bytes, layout.dump_type, &kind.number().to_le_bytes());
    if let Some(comment) = change.comment {
        let mut text = comment.as_bytes().to_vec();
        text.resize(COMMENT_SIZE - 1, 0);
        text.push(0);
        put(&mut bytes, layout.comment, &text);
    }
    if let Some(context) = change.context {
        let room = usize::try_from(layout.context.size).unwrap_or(0).min(context.len());
        put(&mut bytes, layout.context.offset as usize, context.get(..room).unwrap_or_default());
    }
    Ok((bytes, layout))
}

/// Puts bytes at an offset that has room for them.
pub(super) fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = at.checked_add(bytes.len()).and_then(|end| to.get_mut(at..end)) {
        place.copy_from_slice(bytes);
    }
}

/// Writes frames of a dump as a dump of kind 5 or 6; its size.
///
/// # Errors
/// See [`WriteError`].
pub fn write_bitmap(
    dump: &Dump,
    kind: DumpKind,
    frames: &Frames,
    change: &Change<'_>,
    to: &mut (impl Write + Seek),
    step: Step<'_>,
) -> Result<u64, WriteError> {
    let physical = dump
        .physical()
        .ok_or_else(|| WriteError::Impossible(format!("a {} dump holds no pages to write", dump.kind())))?;
    let (mut head, layout) = new_header(dump, kind, change)?;
    let bitmap_at = head.len() as u64 + 0x38;
    let first_page = (bitmap_at + frames.words.len() as u64 * 8).next_multiple_of(PAGE_SIZE);
    let end = first_page + frames.count * PAGE_SIZE;
    put(&mut head, layout.required_dump_space, &end.to_le_bytes());
    head.extend(if kind == DumpKind::BitmapFull { b"FDMPDUMP" } else { b"SDMPDUMP" });
    head.resize(head.len() + 0x18, 0);
    for value in [first_page, frames.count, frames.words.len() as u64 * 64] {
        head.extend(value.to_le_bytes());
    }
    to.write_all(&head)?;
    for words in frames.words.chunks(0x2000) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        to.write_all(&bytes)?;
    }
    to.seek(SeekFrom::Start(first_page))?;
    let mut done = 0;
    for (first, count) in frames.runs() {
        let mut at = 0;
        while at < count {
            if !step(done, frames.count) {
                return Err(WriteError::Interrupted);
            }
            let wanted = (count - at).min(PIECE);
            let broken =
                |why| WriteError::Impossible(format!("frame {:#x} cannot be read: {why}", first + at));
            let bytes = physical.pages(Pfn(first + at), wanted).map_err(broken)?;
            let pages = (bytes.len() as u64 / PAGE_SIZE).min(wanted);
            let bytes = bytes.get(..(pages * PAGE_SIZE) as usize).filter(|bytes| !bytes.is_empty());
            to.write_all(bytes.ok_or_else(|| broken(super::Absent::Broken))?)?;
            (at, done) = (at + pages, done + pages);
        }
    }
    Ok(end + write_tagged(dump, to, step)?)
}

/// Writes the secondary data; its size.
pub(super) fn write_tagged(dump: &Dump, to: &mut impl Write, step: Step<'_>) -> Result<u64, WriteError> {
    const FILE_HEADER: u32 = 16;
    const BLOB_HEADER: u32 = 32;
    let mut size = 0;
    for blob in dump.tagged_data() {
        if !step(0, 0) {
            return Err(WriteError::Interrupted);
        }
        let Some(bytes) = dump.tagged_bytes(blob).filter(|bytes| size + bytes.len() as u64 <= MOST_TAGGED)
        else {
            continue;
        };
        if size == 0 {
            to.write_all(b"DumpBlob")?;
            to.write_all(&FILE_HEADER.to_le_bytes())?;
            to.write_all(&dump.header().minor_version.unwrap_or(0).to_le_bytes())?;
            size += u64::from(FILE_HEADER);
        }
        let padding = bytes.len().next_multiple_of(8) - bytes.len();
        to.write_all(&BLOB_HEADER.to_le_bytes())?;
        to.write_all(&blob.guid)?;
        for value in [bytes.len() as u32, 0, padding as u32] {
            to.write_all(&value.to_le_bytes())?;
        }
        to.write_all(&bytes)?;
        to.write_all(&[0; 8][..padding])?;
        size += u64::from(BLOB_HEADER) + (bytes.len() + padding) as u64;
    }
    Ok(size)
}
