//! A whole image file, read by RVA as the loader would lay it out (without relocations).

use super::debug::ImageError;
use super::{Headers, ImageBytes};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes around an address that are looked at to tell code from filler.
const PAGE: usize = 0x1000;

/// An image file.
pub struct ImageFile {
    path: PathBuf,
    headers: Headers,
    bytes: Arc<Vec<u8>>,
}

impl std::fmt::Debug for ImageFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImageFile({}, {} bytes)", self.path.display(), self.bytes.len())
    }
}

impl ImageFile {
    /// Takes the bytes of a file; `path` is where they came from.
    ///
    /// # Errors
    /// When they are no image.
    pub fn new(path: &Path, bytes: Arc<Vec<u8>>) -> Result<ImageFile, ImageError> {
        Ok(ImageFile { path: path.to_owned(), headers: Headers::parse_file(&bytes)?, bytes })
    }

    /// Where it is (a compressed one: the compressed file).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its headers.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// True where the file has no code around the RVA: some stores hold images whose contents were taken out and
    /// whose sections are zeros. Nothing from there may be taken for code.
    fn is_hollow(&self, rva: u32) -> bool {
        let Some(section) = self.headers.section_at(rva).filter(|section| section.is_code()) else {
            return false;
        };
        let inside = (rva.saturating_sub(section.rva) as usize) & !(PAGE - 1);
        let start = (section.raw as usize).saturating_add(inside);
        let length = PAGE.min((section.raw_size as usize).saturating_sub(inside));
        let page = self.bytes.get(start..).unwrap_or_default();
        page.get(..length).unwrap_or(page).iter().all(|byte| *byte == 0)
    }
}

impl ImageBytes for ImageFile {
    fn read(&self, rva: u32, into: &mut [u8]) -> bool {
        copy_rva(&self.bytes, &self.headers, rva, into) && !self.is_hollow(rva)
    }

    fn read_file(&self, offset: u32, into: &mut [u8]) -> bool {
        copy(&self.bytes, offset.into(), into)
    }
}

/// Fills `into` from an offset in the file.
pub(super) fn copy(bytes: &[u8], at: u64, into: &mut [u8]) -> bool {
    let from = usize::try_from(at).ok().and_then(|at| bytes.get(at..)?.get(..into.len()));
    from.is_some_and(|from| {
        into.copy_from_slice(from);
        true
    })
}

/// Fills `into` from an RVA: headers, the sections' bytes, and zeros where a section is longer in memory.
pub(super) fn copy_rva(bytes: &[u8], headers: &Headers, rva: u32, into: &mut [u8]) -> bool {
    let Some(section) = headers.section_at(rva) else {
        let end = u64::from(rva).saturating_add(into.len() as u64);
        return end <= u64::from(headers.headers_size) && copy(bytes, rva.into(), into);
    };
    let inside = rva.saturating_sub(section.rva);
    let size = section.size.max(section.raw_size);
    if u64::from(inside).saturating_add(into.len() as u64) > u64::from(size) {
        return false;
    }
    let stored = section.raw_size.saturating_sub(inside) as usize;
    let (from_file, zeros) = into.split_at_mut(stored.min(into.len()));
    zeros.fill(0);
    from_file.is_empty() || copy(bytes, u64::from(section.raw).saturating_add(inside.into()), from_file)
}
