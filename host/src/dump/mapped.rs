//! The bytes of the dump file: memory-mapped, or read piece by piece.
//!
//! The map is the only `unsafe` of the layer. Its one hazard is a file that another program truncates while it is
//! mapped: touching a page past the new end raises SIGBUS (an in-page exception on Windows) and ends the process.
//! Dumps are not written to while they are read, so this is accepted for the default; `no_mmap` reads with
//! positioned reads instead, where a truncation is an ordinary error. Use it for files on unreliable shares.

use std::borrow::Cow;
use std::fs::File;
use std::io;

use memmap2::Mmap;

/// Bytes from which on a copy is read from the file even if it is mapped: the system copies faster than it maps, and a
/// scan of a dump does not make the process as large as the dump.
const BULK: usize = 64 << 10;

/// A read-only file.
#[derive(Debug)]
pub struct MappedFile {
    file: File,
    map: Option<Mmap>,
    size: u64,
}

impl MappedFile {
    /// Maps `file`. With `no_mmap`, or where the operating system cannot map it, reads it piece by piece.
    pub fn new(file: File, no_mmap: bool) -> io::Result<MappedFile> {
        let size = file.metadata()?.len();
        let map = if no_mmap || size == 0 { None } else { map(&file).ok() };
        let size = map.as_ref().map_or(size, |map| map.len() as u64);
        Ok(MappedFile { file, map, size })
    }

    /// Bytes in the file when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// True when the file is mapped, so that [`MappedFile::get`] borrows.
    pub fn is_mapped(&self) -> bool {
        self.map.is_some()
    }

    /// `len` bytes at `offset`; `None` if the file does not hold all of them. Borrowed when mapped.
    pub fn get(&self, offset: u64, len: usize) -> Option<Cow<'_, [u8]>> {
        let end = offset.checked_add(len as u64)?;
        if end > self.size {
            return None;
        }
        match &self.map {
            Some(map) => map.get(offset as usize..end as usize).map(Cow::Borrowed),
            None => {
                let mut bytes = vec![0; len];
                (self.read_at(offset, &mut bytes) == len).then_some(Cow::Owned(bytes))
            }
        }
    }

    /// The mapped bytes `offset..offset + len`; `None` when not mapped or out of range.
    pub fn slice(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let end = offset.checked_add(len)?;
        self.map.as_ref()?.get(usize::try_from(offset).ok()?..usize::try_from(end).ok()?)
    }

    /// Reads at `offset`; returns the count of bytes read, which is short at the end of the file.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let Some(buffer) = buffer.get_mut(..wanted) else { return 0 };
        if buffer.is_empty() {
            return 0;
        }
        if let Some(map) = self.map.as_ref().filter(|_| wanted < BULK) {
            let start = offset as usize;
            return match map.get(start..start.saturating_add(wanted)) {
                Some(bytes) => {
                    buffer.copy_from_slice(bytes);
                    wanted
                }
                None => 0,
            };
        }
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match read_file_at(&self.file, offset.saturating_add(done as u64), rest) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    log::warn!("reading the dump at offset 0x{offset:x}: {error}");
                    break;
                }
            }
        }
        done
    }
}

#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read only and private to this type. The file may still be truncated by others while it is
    // mapped; the head of this file says what happens then and what the alternative is.
    unsafe { Mmap::map(file) }
}

#[cfg(unix)]
fn read_file_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_file_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn mapped_and_unmapped_read_the_same() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..10_000u32).map(|n| (n * 7) as u8).collect();
        file.write_all(&bytes).unwrap();
        for no_mmap in [false, true] {
            let mapped = MappedFile::new(file.try_clone().unwrap(), no_mmap).unwrap();
            assert_eq!(mapped.is_mapped(), !no_mmap);
            assert_eq!(mapped.size(), 10_000);
            assert_eq!(mapped.get(100, 50).unwrap().as_ref(), &bytes[100..150]);
            assert!(mapped.get(9_990, 11).is_none());
            assert!(mapped.get(u64::MAX, 11).is_none());
            let mut buffer = [0; 16];
            assert_eq!(mapped.read_at(9_990, &mut buffer), 10);
            assert_eq!(mapped.read_at(u64::MAX, &mut buffer), 0);
            assert_eq!(buffer[..10], bytes[9_990..]);
            let mut whole = vec![0; BULK];
            assert_eq!(mapped.read_at(1, &mut whole), 9_999);
            assert_eq!(whole[..9_999], bytes[1..]);
        }
    }
}
