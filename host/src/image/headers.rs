//! The headers of an image: what machine, which build, which sections, where the directories are.

use super::debug::ImageError;
use super::{ImageBytes, u16_at, u32_at};

/// The loader takes no more.
const MOST_SECTIONS: u16 = 96;
/// Bit of `Characteristics`: the section holds code that may run.
const EXECUTE: u32 = 0x2000_0000;

/// A place in an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Directory {
    /// Bytes from the image's start.
    pub rva: u32,
    /// Bytes in it.
    pub size: u32,
}

/// A section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Section {
    /// The first bytes of its name, NUL-padded.
    pub name: [u8; 8],
    /// Bytes from the image's start.
    pub rva: u32,
    /// Bytes in memory.
    pub size: u32,
    /// Bytes in the file.
    pub raw_size: u32,
    /// Where they are in the file.
    pub raw: u32,
    /// `Characteristics`.
    pub characteristics: u32,
}

impl Section {
    /// True where the section, in memory or in the file, holds the RVA.
    pub fn holds(&self, rva: u32) -> bool {
        rva.checked_sub(self.rva).is_some_and(|inside| inside < self.size.max(self.raw_size))
    }

    /// True where its contents may run.
    pub fn is_code(&self) -> bool {
        self.characteristics & EXECUTE != 0
    }
}

/// The headers that matter to a debugger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Headers {
    /// `Machine`.
    pub machine: u16,
    /// `TimeDateStamp`.
    pub time_stamp: u32,
    /// `SizeOfImage`.
    pub size: u32,
    /// `SizeOfHeaders`.
    pub headers_size: u32,
    /// `CheckSum`.
    pub check_sum: u32,
    /// `AddressOfEntryPoint`.
    pub entry_point: u32,
    /// True for PE32+.
    pub is_64_bit: bool,
    /// The sections, in the file's order.
    pub sections: Vec<Section>,
    directories: [Directory; 16],
}

impl Headers {
    /// Reads the headers, which stand at RVA 0.
    ///
    /// # Errors
    /// What of them is missing, or why this is no image. Sections that cannot be read are left out.
    pub fn parse(image: &dyn ImageBytes) -> Result<Headers, ImageError> {
        Headers::from(&|at, into| u32::try_from(at).is_ok_and(|rva| image.read(rva, into)))
    }

    /// The headers of a file.
    ///
    /// # Errors
    /// As [`Headers::parse`].
    pub fn parse_file(bytes: &[u8]) -> Result<Headers, ImageError> {
        Headers::from(&|at, into| super::file::copy(bytes, at, into))
    }

    fn from(read: &dyn Fn(u64, &mut [u8]) -> bool) -> Result<Headers, ImageError> {
        let header = |what, at: u64, into: &mut [u8]| {
            if read(at, into) { Ok(()) } else { Err(ImageError::Unreadable { what, rva: at }) }
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
        let (first, is_64_bit) = match u16_at(&optional, 0) {
            0x10b => (96, false),
            0x20b => (112, true),
            _ => return Err(ImageError::NotAnImage { why: "its optional header is of no known form" }),
        };
        // The count of directories stands just before the first.
        let count = u32_at(&optional, first - 4);
        let mut directories = [Directory::default(); 16];
        for (place, n) in directories.iter_mut().zip(0..count.min(16) as usize) {
            *place = Directory {
                rva: u32_at(&optional, first + n * 8),
                size: u32_at(&optional, first + n * 8 + 4),
            };
        }
        Ok(Headers {
            machine: u16_at(&pe, 4),
            time_stamp: u32_at(&pe, 8),
            size: u32_at(&optional, 56),
            headers_size: u32_at(&optional, 60),
            check_sum: u32_at(&optional, 64),
            entry_point: u32_at(&optional, 16),
            is_64_bit,
            sections: sections(read, optional_at.saturating_add(optional_size as u64), u16_at(&pe, 6)),
            directories,
        })
    }

    fn directory(&self, index: usize, least: u32) -> Option<Directory> {
        self.directories.get(index).copied().filter(|found| found.rva != 0 && found.size >= least)
    }

    /// The export directory.
    pub fn export_directory(&self) -> Option<Directory> {
        self.directory(0, 40)
    }

    /// The function table: `.pdata`.
    pub fn exception_directory(&self) -> Option<Directory> {
        self.directory(3, 8)
    }

    /// The debug directory.
    pub fn debug_directory(&self) -> Option<Directory> {
        self.directory(6, 28)
    }

    /// The section that holds an RVA.
    pub fn section_at(&self, rva: u32) -> Option<&Section> {
        self.sections.iter().find(|section| section.holds(rva))
    }
}

fn sections(read: &dyn Fn(u64, &mut [u8]) -> bool, at: u64, count: u16) -> Vec<Section> {
    (0..u64::from(count.min(MOST_SECTIONS)))
        .map_while(|n| {
            let mut row = [0; 40];
            read(at.saturating_add(n * 40), &mut row).then(|| Section {
                name: row.first_chunk().copied().unwrap_or_default(),
                size: u32_at(&row, 8),
                rva: u32_at(&row, 12),
                raw_size: u32_at(&row, 16),
                raw: u32_at(&row, 20),
                characteristics: u32_at(&row, 36),
            })
        })
        .collect()
}
