//! Which PDB belongs to an image: the CodeView record that the linker left in it.
//!
//! Read from the target's memory, where anything may be missing, or from an image file. The layouts are those of
//! the PE specification. Only what is needed here is read; images in general are not this file's matter.

use std::fmt;

/// The identity of a PDB, as written into the image that belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PdbId {
    /// The GUID's 16 bytes as they are stored.
    pub guid: [u8; 16],
    /// The age.
    pub age: u32,
}

impl fmt::Display for PdbId {
    /// The name of its folder in a symbol store: `5278AFF86C341677D7D7835C85B7B8441`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a0, a1, a2, a3, b0, b1, c0, c1, tail @ ..] = self.guid;
        let (a, b) = (u32::from_le_bytes([a0, a1, a2, a3]), u16::from_le_bytes([b0, b1]));
        write!(f, "{a:08X}{b:04X}{:04X}", u16::from_le_bytes([c0, c1]))?;
        for byte in tail {
            write!(f, "{byte:02X}")?;
        }
        write!(f, "{:x}", self.age)
    }
}

/// The name and identity of an image's PDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DebugRecord {
    /// The file's name, without the folder of the machine that built it.
    pub name: String,
    pub id: PdbId,
}

/// Why an image's record is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ImageError {
    #[error("its {what} at +{rva:#x} cannot be read")]
    Unreadable { what: &'static str, rva: u64 },
    #[error("there is no image: {why}")]
    NotAnImage { why: &'static str },
    #[error("it is another build: time stamp {stamp:08X} and size {size:x}")]
    OtherBuild { stamp: u32, size: u32 },
    #[error("it names no PDB")]
    NoRecord,
    #[error("its PDB is of the form used before 2000 (NB10)")]
    OldRecord,
    #[error("its PDB has the unusable name {name:?}")]
    BadName { name: String },
}

/// The part of a path after its last `\` or `/`.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit(['\\', '/']).next().unwrap_or(path)
}

/// True for a text that can be one name in a folder, and nothing else.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.contains(|c: char| {
            c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
        })
}

/// An image file's folder in a symbol store: `0D8333E61046000`.
pub(super) fn image_key(time_stamp: u32, size: u64) -> String {
    format!("{time_stamp:08X}{size:x}")
}

/// Where an image's bytes come from.
pub(super) trait ImageBytes {
    /// Fills `into` with the headers' bytes from `at`, counted from the start of the image or file.
    fn header(&self, at: u64, into: &mut [u8]) -> bool;
    /// Fills `into` with data that the image has at `rva` and the file at `offset`.
    fn data(&self, rva: u32, offset: u32, into: &mut [u8]) -> bool;
    /// The place in the file of an RVA; 0 where there is no file.
    fn offset(&self, sections: &[Section], rva: u32) -> Option<u32>;
}

/// An image in the target's memory, read by RVA.
pub(super) struct InMemory<F>(pub F);

impl<F: Fn(u64, &mut [u8]) -> bool> ImageBytes for InMemory<F> {
    fn header(&self, at: u64, into: &mut [u8]) -> bool {
        (self.0)(at, into)
    }

    fn data(&self, rva: u32, _offset: u32, into: &mut [u8]) -> bool {
        rva != 0 && (self.0)(u64::from(rva), into)
    }

    fn offset(&self, _sections: &[Section], _rva: u32) -> Option<u32> {
        Some(0)
    }
}

/// An image file, whole.
pub(super) struct InFile<'a>(pub &'a [u8]);

impl InFile<'_> {
    fn copy(&self, at: u64, into: &mut [u8]) -> bool {
        let from = usize::try_from(at).ok().and_then(|at| self.0.get(at..)?.get(..into.len()));
        from.is_some_and(|from| {
            into.copy_from_slice(from);
            true
        })
    }
}

impl ImageBytes for InFile<'_> {
    fn header(&self, at: u64, into: &mut [u8]) -> bool {
        self.copy(at, into)
    }

    fn data(&self, _rva: u32, offset: u32, into: &mut [u8]) -> bool {
        self.copy(u64::from(offset), into)
    }

    fn offset(&self, sections: &[Section], rva: u32) -> Option<u32> {
        sections.iter().find_map(|section| {
            let inside = rva.checked_sub(section.rva)?;
            (inside < section.raw_size).then(|| section.raw.checked_add(inside))?
        })
    }
}

/// A section's place in memory and in the file.
pub(super) struct Section {
    rva: u32,
    raw_size: u32,
    raw: u32,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u32::from_le_bytes)
}

/// Finds the CodeView record. `build` is the time stamp and size the image must have, where that is known.
pub(super) fn debug_record(
    image: &dyn ImageBytes,
    build: Option<(u32, u64)>,
) -> Result<DebugRecord, ImageError> {
    let unreadable = |what, rva| ImageError::Unreadable { what, rva };
    let header = |what, at: u64, into: &mut [u8]| {
        if image.header(at, into) { Ok(()) } else { Err(unreadable(what, at)) }
    };
    let mut dos = [0; 0x40];
    header("first header", 0, &mut dos)?;
    if !dos.starts_with(b"MZ") {
        return Err(ImageError::NotAnImage { why: "it does not begin with MZ" });
    }
    let at = u64::from(u32_at(&dos, 0x3c));
    let mut pe = [0; 24];
    header("PE header", at, &mut pe)?;
    if !pe.starts_with(b"PE\0\0") {
        return Err(ImageError::NotAnImage { why: "its PE header does not begin with PE" });
    }
    let mut optional = [0; 0xf0];
    let optional_size = usize::from(u16_at(&pe, 20));
    let optional_at = at.saturating_add(24);
    let used = optional_size.min(optional.len());
    header("optional header", optional_at, optional.get_mut(..used).unwrap_or_default())?;
    let directories = match u16_at(&optional, 0) {
        0x10b => 96,
        0x20b => 112,
        _ => return Err(ImageError::NotAnImage { why: "its optional header is of no known form" }),
    };
    let (stamp, size) = (u32_at(&pe, 8), u32_at(&optional, 56));
    if build.is_some_and(|build| build != (stamp, u64::from(size))) {
        return Err(ImageError::OtherBuild { stamp, size });
    }
    // The sixth directory; its count stands just before the first.
    let (debug, debug_size) = (u32_at(&optional, directories + 48), u32_at(&optional, directories + 52));
    if u32_at(&optional, directories - 4) <= 6 || debug == 0 || debug_size < 28 {
        return Err(ImageError::NoRecord);
    }
    let sections = sections(image, optional_at.saturating_add(optional_size as u64), u16_at(&pe, 6));
    let offset = image.offset(&sections, debug).ok_or_else(|| unreadable("debug directory", debug.into()))?;
    for n in 0..(debug_size / 28).min(32) {
        let mut entry = [0; 28];
        let (rva, offset) = (debug.saturating_add(n * 28), offset.saturating_add(n * 28));
        if !image.data(rva, offset, &mut entry) {
            return Err(unreadable("debug directory", rva.into()));
        }
        const CODE_VIEW: u32 = 2;
        if u32_at(&entry, 12) == CODE_VIEW {
            let (rva, offset) = (u32_at(&entry, 20), u32_at(&entry, 24));
            return code_view(image, rva, offset, u32_at(&entry, 16));
        }
    }
    Err(ImageError::NoRecord)
}

fn sections(image: &dyn ImageBytes, at: u64, count: u16) -> Vec<Section> {
    // The loader takes no more than 96.
    (0..u64::from(count.min(96)))
        .map_while(|n| {
            let mut row = [0; 40];
            image.header(at.saturating_add(n * 40), &mut row).then(|| Section {
                rva: u32_at(&row, 12),
                raw_size: u32_at(&row, 16),
                raw: u32_at(&row, 20),
            })
        })
        .collect()
}

/// `RSDS`, GUID, age, and the path of the PDB where it was built.
fn code_view(image: &dyn ImageBytes, rva: u32, offset: u32, size: u32) -> Result<DebugRecord, ImageError> {
    let size = (size as usize).min(24 + 1024);
    let mut bytes = vec![0; size];
    if !image.data(rva, offset, &mut bytes) {
        return Err(ImageError::Unreadable { what: "CodeView record", rva: rva.into() });
    }
    if bytes.starts_with(b"NB10") {
        return Err(ImageError::OldRecord);
    }
    let (Some(guid), true) =
        (bytes.get(4..).and_then(<[u8]>::first_chunk).copied(), bytes.starts_with(b"RSDS"))
    else {
        return Err(ImageError::NoRecord);
    };
    let path = bytes.get(24..).unwrap_or_default().split(|b| *b == 0).next().unwrap_or_default();
    let path = String::from_utf8_lossy(path);
    let name = file_name(&path);
    if !is_plain_name(name) {
        return Err(ImageError::BadName { name: name.to_owned() });
    }
    Ok(DebugRecord { name: name.to_owned(), id: PdbId { guid, age: u32_at(&bytes, 20) } })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A small image in which file and memory have the same layout.
    pub(in super::super) fn image(pdb: &str, id: PdbId, stamp: u32, size: u32) -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
        put(0, b"MZ");
        put(0x3c, &0x40u32.to_le_bytes());
        put(0x40, b"PE\0\0");
        put(0x46, &1u16.to_le_bytes());
        put(0x48, &stamp.to_le_bytes());
        put(0x54, &0xf0u16.to_le_bytes());
        put(0x58, &0x20bu16.to_le_bytes());
        put(0x58 + 56, &size.to_le_bytes());
        put(0x58 + 108, &16u32.to_le_bytes());
        put(0x58 + 112 + 48, &0x200u32.to_le_bytes());
        put(0x58 + 112 + 52, &28u32.to_le_bytes());
        for (at, value) in [(8, 0x400u32), (12, 0), (16, 0x400), (20, 0)] {
            put(0x148 + at, &value.to_le_bytes());
        }
        let length = 24 + pdb.len() as u32 + 1;
        for (at, value) in [(12, 2u32), (16, length), (20, 0x240), (24, 0x240)] {
            put(0x200 + at, &value.to_le_bytes());
        }
        put(0x240, b"RSDS");
        put(0x244, &id.guid);
        put(0x254, &id.age.to_le_bytes());
        put(0x258, pdb.as_bytes());
        bytes
    }

    fn id() -> PdbId {
        PdbId { guid: *b"\xf8\xaf\x78\x52\x34\x6c\x77\x16\xd7\xd7\x83\x5c\x85\xb7\xb8\x44", age: 1 }
    }

    #[test]
    fn the_record_is_found_in_file_and_memory() {
        let bytes = image("d:\\build\\ntkrnlmp.pdb", id(), 7, 0x1000);
        let record = DebugRecord { name: "ntkrnlmp.pdb".into(), id: id() };
        assert_eq!(debug_record(&InFile(&bytes), Some((7, 0x1000))).unwrap(), record);
        let memory = InMemory(|at: u64, into: &mut [u8]| InFile(&bytes).copy(at, into));
        assert_eq!(debug_record(&memory, None).unwrap(), record);
        assert_eq!(id().to_string(), "5278AFF86C341677D7D7835C85B7B8441");
        assert_eq!(
            debug_record(&InFile(&bytes), Some((8, 0x1000))).unwrap_err(),
            ImageError::OtherBuild { stamp: 7, size: 0x1000 }
        );
    }

    #[test]
    fn holes_and_bad_names_are_told() {
        let bytes = image("a\\..", id(), 7, 0x1000);
        assert_eq!(
            debug_record(&InFile(&bytes), None).unwrap_err(),
            ImageError::BadName { name: "..".into() }
        );
        let hole = InMemory(|at: u64, into: &mut [u8]| at < 0x200 && InFile(&bytes).copy(at, into));
        assert_eq!(
            debug_record(&hole, None).unwrap_err(),
            ImageError::Unreadable { what: "debug directory", rva: 0x200 }
        );
    }

    #[test]
    fn cut_images_are_errors() {
        let bytes = image("x.pdb", id(), 7, 0x1000);
        for length in 0..0x260 {
            let _ = debug_record(&InFile(&bytes[..length]), None);
        }
    }
}
