//! The section table of an image, cut out of the bytes at its base. The bytes may end anywhere.

/// Sections a header may name: Windows loads no more than 96.
const MOST_SECTIONS: usize = 96;

/// IMAGE_SCN_CNT_CODE and IMAGE_SCN_MEM_EXECUTE.
const CODE: u32 = 0x2000_0020;

/// A section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Name, unprintable bytes as `?`.
    pub name: String,
    /// Offset from the base.
    pub start: u32,
    /// Bytes in memory.
    pub size: u32,
    /// IMAGE_SCN bits.
    pub characteristics: u32,
}

impl Section {
    /// True if it holds code.
    pub fn is_code(&self) -> bool {
        self.characteristics & CODE != 0
    }
}

/// What the headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// PE machine number.
    pub machine: u16,
    /// Link time stamp.
    pub time_stamp: u32,
    /// Offset of the entry point.
    pub entry_point: u32,
    /// Bytes of the image in memory.
    pub size_of_image: u32,
    /// Check sum.
    pub check_sum: u32,
    /// Sections, as many as the bytes hold.
    pub sections: Vec<Section>,
    /// False if the bytes end before the section table does.
    pub complete: bool,
}

/// What stands at an image's base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// Headers.
    Headers(Headers),
    /// Too few bytes to tell.
    Cut,
    /// Bytes that are no image header.
    Foreign,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(word.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

/// Reads the headers at the start of an image.
pub fn parse_headers(bytes: &[u8]) -> Image {
    let Some(magic) = u16_at(bytes, 0) else { return Image::Cut };
    if magic != 0x5a4d {
        return Image::Foreign;
    }
    let Some(nt) = u32_at(bytes, 0x3c).map(|at| at as usize) else { return Image::Cut };
    if nt > 0x1_0000 {
        return Image::Foreign;
    }
    match u32_at(bytes, nt) {
        None => return Image::Cut,
        Some(0x4550) => {}
        Some(_) => return Image::Foreign,
    }
    parse_nt(bytes, nt).map_or(Image::Cut, Image::Headers)
}

fn parse_nt(bytes: &[u8], nt: usize) -> Option<Headers> {
    let optional = nt + 0x18;
    let count = usize::from(u16_at(bytes, nt + 6)?).min(MOST_SECTIONS);
    let table = optional + usize::from(u16_at(bytes, nt + 0x14)?);
    let mut sections = Vec::new();
    for index in 0..count {
        let at = table + index * 0x28;
        let Some(header) = bytes.get(at..at + 0x28) else { break };
        let name = header.iter().take(8).take_while(|&&byte| byte != 0);
        let name = name.map(|&byte| if byte.is_ascii_graphic() { char::from(byte) } else { '?' }).collect();
        let (size, raw) = (u32_at(header, 8)?, u32_at(header, 0x10)?);
        sections.push(Section {
            name,
            start: u32_at(header, 0xc)?,
            size: if size == 0 { raw } else { size },
            characteristics: u32_at(header, 0x24)?,
        });
    }
    Some(Headers {
        machine: u16_at(bytes, nt + 4)?,
        time_stamp: u32_at(bytes, nt + 8)?,
        entry_point: u32_at(bytes, optional + 0x10)?,
        size_of_image: u32_at(bytes, optional + 0x38)?,
        check_sum: u32_at(bytes, optional + 0x40)?,
        complete: sections.len() == count,
        sections,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small image's headers with a code and a data section.
    pub fn sample() -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x80;
        bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
        bytes[0x84..0x86].copy_from_slice(&0x8664u16.to_le_bytes());
        bytes[0x86] = 2;
        bytes[0x88..0x8c].copy_from_slice(&0x5928_45ecu32.to_le_bytes());
        bytes[0x94..0x96].copy_from_slice(&0xf0u16.to_le_bytes());
        bytes[0x98 + 0x38..0x98 + 0x3c].copy_from_slice(&0x4000u32.to_le_bytes());
        let table = 0x98 + 0xf0;
        for (index, (name, start, size, bits)) in
            [("PAGE", 0x1000u32, 0x1800u32, 0x6000_0020u32), (".data", 0x3000, 0x200, 0xc800_0040)]
                .into_iter()
                .enumerate()
        {
            let at = table + index * 0x28;
            bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
            bytes[at + 8..at + 0xc].copy_from_slice(&size.to_le_bytes());
            bytes[at + 0xc..at + 0x10].copy_from_slice(&start.to_le_bytes());
            bytes[at + 0x24..at + 0x28].copy_from_slice(&bits.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn sections_are_code_or_data() {
        let Image::Headers(headers) = parse_headers(&sample()) else { panic!("no headers") };
        assert!(headers.complete);
        let summary: Vec<_> =
            headers.sections.iter().map(|s| (s.name.as_str(), s.size, s.is_code())).collect();
        assert_eq!(summary, [("PAGE", 0x1800, true), (".data", 0x200, false)]);
        assert_eq!(headers.size_of_image, 0x4000);
    }

    #[test]
    fn every_cut_is_survived() {
        let bytes = sample();
        for len in 0..bytes.len() {
            match parse_headers(&bytes[..len]) {
                Image::Headers(headers) => assert!(len >= 0x98 + 0x44 && headers.sections.len() <= 2),
                Image::Cut => assert!(len < 0x98 + 0x44),
                Image::Foreign => panic!("{len}"),
            }
        }
        assert_eq!(parse_headers(&[0xff; 0x1000]), Image::Foreign);
        let mut wild = bytes.clone();
        wild[0x3c..0x40].copy_from_slice(&[0xff; 4]);
        assert_eq!(parse_headers(&wild), Image::Foreign);
    }
}
