//! Which PDB belongs to an image: the CodeView record that the linker left in it.
//!
//! The layouts are those of the PE specification and, for the record itself, of the public description of PDB files.

use super::{Headers, ImageBytes, u32_at};
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
pub struct DebugRecord {
    /// The file's name, without the folder of the machine that built it.
    pub name: String,
    /// Its identity.
    pub id: PdbId,
}

/// Why an image, or its record, is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// A part that is not there: not captured, or the file is cut.
    #[error("its {what} at +{rva:#x} cannot be read")]
    Unreadable {
        /// Which part.
        what: &'static str,
        /// Where it should be.
        rva: u64,
    },
    /// No PE image.
    #[error("there is no image: {why}")]
    NotAnImage {
        /// What it lacks.
        why: &'static str,
    },
    /// An image of the same name, of another build.
    #[error("it is another build: time stamp {stamp:08X} and size {size:x}")]
    OtherBuild {
        /// Its time stamp.
        stamp: u32,
        /// Its size in memory.
        size: u32,
    },
    /// It has no CodeView record.
    #[error("it names no PDB")]
    NoRecord,
    /// Its record is of a form that this program does not know.
    #[error("its PDB is of the form used before 2000 (NB10)")]
    OldRecord,
    /// The name in the record could lead anywhere.
    #[error("its PDB has the unusable name {name:?}")]
    BadName {
        /// The name.
        name: String,
    },
}

/// The part of a path after its last `\` or `/`.
pub fn file_name(path: &str) -> &str {
    path.rsplit(['\\', '/']).next().unwrap_or(path)
}

/// True for a text that can be one name in a folder, and nothing else.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.contains(|c: char| {
            c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
        })
}

/// An image file's folder in a symbol store: `0D8333E61046000`.
pub fn image_key(time_stamp: u32, size: u64) -> String {
    format!("{time_stamp:08X}{size:x}")
}

/// Finds the CodeView record. `build` is the time stamp and size the image must have, where that is known.
pub fn debug_record(image: &dyn ImageBytes, build: Option<(u32, u64)>) -> Result<DebugRecord, ImageError> {
    let headers = Headers::parse(image)?;
    let (stamp, size) = (headers.time_stamp, headers.size);
    if build.is_some_and(|build| build != (stamp, u64::from(size))) {
        return Err(ImageError::OtherBuild { stamp, size });
    }
    let debug = headers.debug_directory().ok_or(ImageError::NoRecord)?;
    for n in 0..(debug.size / 28).min(32) {
        let mut entry = [0; 28];
        let rva = debug.rva.saturating_add(n * 28);
        if !image.read(rva, &mut entry) {
            return Err(ImageError::Unreadable { what: "debug directory", rva: rva.into() });
        }
        const CODE_VIEW: u32 = 2;
        if u32_at(&entry, 12) == CODE_VIEW {
            let (rva, offset) = (u32_at(&entry, 20), u32_at(&entry, 24));
            return code_view(image, rva, offset, u32_at(&entry, 16));
        }
    }
    Err(ImageError::NoRecord)
}

/// `RSDS`, GUID, age, and the path of the PDB where it was built.
fn code_view(image: &dyn ImageBytes, rva: u32, offset: u32, size: u32) -> Result<DebugRecord, ImageError> {
    let size = (size as usize).min(24 + 1024);
    let mut bytes = vec![0; size];
    if !(rva != 0 && image.read(rva, &mut bytes) || image.read_file(offset, &mut bytes)) {
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
pub(crate) mod tests {
    use super::super::{InFile, InMemory};
    use super::*;

    /// A small image in which file and memory have the same layout.
    pub(crate) fn image(pdb: &str, id: PdbId, stamp: u32, size: u32) -> Vec<u8> {
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
        let memory = InMemory(|at: u64, into: &mut [u8]| InFile(&bytes).read(at as u32, into));
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
        let hole = InMemory(|at: u64, into: &mut [u8]| at < 0x200 && InFile(&bytes).read(at as u32, into));
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
