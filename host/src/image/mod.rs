//! PE images, read by RVA from wherever their bytes are: the target's memory, where anything may be missing, or a file.
//!
//! [`Headers`] are the headers, [`debug_record`] names the PDB, [`exports()`] the exported functions, [`ImageFile`] is
//! a whole file. Sources: the PE format and the exception-handling documents of Microsoft. Where image files are
//! found is [`crate::symbols`]' matter; what the unwind data mean is `target::unwind`'s.

pub mod debug;
mod exports;
mod file;
mod headers;

pub use debug::{DebugRecord, ImageError, PdbId, debug_record, file_name, image_key, is_plain_name};
pub use exports::{Export, export_name, exports};
pub use file::ImageFile;
pub use headers::{Directory, Headers, Section};

/// Where an image's bytes come from. Every failure is a `false`; a reader never gets half of what it asked for.
pub trait ImageBytes {
    /// Fills `into` with what the image has in memory at `rva`.
    fn read(&self, rva: u32, into: &mut [u8]) -> bool;

    /// Fills `into` with what the file has at `offset`, for data that is in no section. False where there is no file.
    fn read_file(&self, offset: u32, into: &mut [u8]) -> bool {
        let _ = (offset, into);
        false
    }
}

/// An image in the target's memory.
pub struct InMemory<F>(pub F);

impl<F: Fn(u64, &mut [u8]) -> bool> ImageBytes for InMemory<F> {
    fn read(&self, rva: u32, into: &mut [u8]) -> bool {
        (self.0)(u64::from(rva), into)
    }
}

/// The bytes of an image file.
pub struct InFile<'a>(pub &'a [u8]);

impl ImageBytes for InFile<'_> {
    fn read(&self, rva: u32, into: &mut [u8]) -> bool {
        Headers::parse_file(self.0).is_ok_and(|headers| file::copy_rva(self.0, &headers, rva, into))
    }

    fn read_file(&self, offset: u32, into: &mut [u8]) -> bool {
        file::copy(self.0, offset.into(), into)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u32::from_le_bytes)
}
