//! What a dump tells of the machine itself: the firmware's tables, what the processors say of themselves, what the
//! registry had of them.
//!
//! Windows puts these into the secondary data of its dumps, small ones too, each under a GUID (found in real dumps of
//! Windows 8.1 and 10):
//!
//! | GUID | contents |
//! |---|---|
//! | BC5C008F-1E3A-44D7-988D-86F6884C6758 | SMBIOS: calling method, major, minor and DMI version, length, structures |
//! | D03DC06F-D88E-44C5-BA2A-FAE035172D19 | `cpuid`: 0 or 1 (a model specific register), the leaf, twice the registers a to d |
//! | 6C7AC389-4313-47DC-9F34-A8800A0FB56C | values of `CentralProcessor\0` in the registry: name, type, data |
//!
//! A dump with physical memory may hold the SMBIOS structures where the firmware put them. Their layout: the DMTF's
//! specification DSP0134.

use super::string;
use crate::address::Pa;
use crate::error::{Error, Result};
use crate::session::Session;

const SMBIOS: u128 = 0xbc5c008f_1e3a_44d7_988d_86f6884c6758;
const CPUID: u128 = 0xd03dc06f_d88e_44c5_ba2a_fae035172d19;
const REGISTRY: u128 = 0x6c7ac389_4313_47dc_9f34_a8800a0fb56c;
/// The most bytes of SMBIOS structures in physical memory.
const MOST_TABLE: u64 = 1 << 20;
/// The most SMBIOS structures.
const MOST_STRUCTURES: usize = 1 << 14;
/// Bytes of an entry of `cpuid`.
const LEAF: usize = 40;

/// A GUID as it stands in a file.
fn guid(value: u128) -> [u8; 16] {
    let mut bytes = value.to_be_bytes();
    if let Some(first) = bytes.get_mut(..4) {
        first.reverse();
    }
    for at in [4, 6] {
        bytes.swap(at, at + 1);
    }
    bytes
}

fn tagged(session: &Session<'_>, wanted: u128) -> Option<Vec<u8>> {
    let wanted = guid(wanted);
    session
        .target()
        .tagged_data()
        .find(|(tag, bytes)| *tag == wanted && !bytes.is_empty())
        .map(|found| found.1)
}

/// The firmware's tables of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smbios {
    /// Major and minor version.
    pub version: (u8, u8),
    /// The version as the firmware tells it, in BCD.
    pub dmi: u8,
    /// Bytes of the structures.
    pub size: usize,
    /// The structures in their order.
    pub structures: Vec<Structure>,
}

/// A structure of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// What it tells of: 0 firmware, 1 system, 2 board, 3 case, 4 processor, 16 and 17 memory, …
    pub kind: u8,
    /// Its name for others.
    pub handle: u16,
    /// Its bytes, the four of its head included.
    pub bytes: Vec<u8>,
    /// Its texts.
    pub texts: Vec<String>,
}

impl Structure {
    /// A byte.
    pub fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// Two bytes.
    pub fn word(&self, at: usize) -> Option<u16> {
        self.bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes)
    }

    /// The text whose number stands at `at`.
    pub fn text(&self, at: usize) -> Option<&str> {
        let number = usize::from(self.byte(at)?);
        self.texts.get(number.checked_sub(1)?).map(String::as_str)
    }
}

impl Smbios {
    /// Finds the tables: in the dump's secondary data, else in physical memory.
    ///
    /// # Errors
    /// Where the dump has neither; the text says what was looked for.
    pub fn read(session: &Session<'_>) -> Result<Smbios> {
        if let Some(bytes) = tagged(session, SMBIOS) {
            return Smbios::parse(&bytes)
                .ok_or_else(|| Error::Other("the SMBIOS data of this dump are cut short".to_owned()));
        }
        let find = |name| super::variable(session, name, None).ok();
        let places = find("WmipSMBiosTablePhysicalAddress").zip(find("WmipSMBiosTableLength"));
        let Some((address, length)) = places else {
            return Err(Error::NotFound(
                "the machine's SMBIOS tables are not captured in this dump: no secondary data hold them, and \
                 nt!WmipSMBiosTablePhysicalAddress is not in the kernel's symbols"
                    .to_owned(),
            ));
        };
        let memory = session.memory();
        let absent = |error| match error {
            Error::Unreadable { why, .. } => Error::NotFound(format!("the machine's SMBIOS tables: {why}")),
            other => other,
        };
        let address = memory.u64(address).map_err(absent)?;
        let length = u64::from(memory.u32(length).map_err(absent)?);
        if address == 0 || length == 0 || length > MOST_TABLE {
            return Err(Error::NotFound("the kernel found no SMBIOS tables".to_owned()));
        }
        let version = find("WmipSMBiosVersionInfo").and_then(|va| memory.bytes(va, 4).ok());
        let mut bytes = version.unwrap_or_else(|| vec![0; 4]);
        bytes.extend((length as u32).to_le_bytes());
        let start = bytes.len();
        bytes.resize(start + length as usize, 0);
        memory.read_physical(Pa(address), bytes.get_mut(start..).unwrap_or_default()).map_err(absent)?;
        Smbios::parse(&bytes).ok_or_else(|| Error::Other("the SMBIOS tables are none".to_owned()))
    }

    /// From their head and structures; what is cut short at the end is left out.
    pub fn parse(bytes: &[u8]) -> Option<Smbios> {
        let (head, rest) = bytes.split_at_checked(8)?;
        let mut rest = rest;
        let mut structures = Vec::new();
        while let Some(length) = rest.get(1).map(|&length| usize::from(length)) {
            let (Some(body), Some(after)) = (rest.get(..length), rest.get(length..)) else { break };
            let Some(end) = after.windows(2).position(|pair| pair == [0, 0]) else { break };
            if length < 4 || structures.len() >= MOST_STRUCTURES {
                break;
            }
            let texts = after.get(..end).unwrap_or_default().split(|&byte| byte == 0);
            let texts = texts.map(|text| {
                let text: String = text.iter().map(|&byte| char::from(byte)).collect();
                string::one_line(&text)
            });
            structures.push(Structure {
                kind: *body.first()?,
                handle: u16::from_le_bytes([*body.get(2)?, *body.get(3)?]),
                bytes: body.to_vec(),
                texts: texts.collect(),
            });
            rest = after.get(end + 2..).unwrap_or_default();
        }
        let version = (*head.get(1)?, *head.get(2)?);
        Some(Smbios { version, dmi: *head.get(3)?, size: bytes.len() - 8, structures })
    }

    /// The first structure of a kind.
    pub fn first(&self, kind: u8) -> Option<&Structure> {
        self.structures.iter().find(|structure| structure.kind == kind)
    }
}

/// What a processor says of itself to one question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// The question is a model specific register, not a leaf of `cpuid`.
    pub register: bool,
    /// The question.
    pub leaf: u32,
    /// Two answers: eax, ebx, ecx, edx. Windows asks twice; they are of two processors, or from without and from within
    /// a hypervisor. Which is which is not documented.
    pub answers: [[u32; 4]; 2],
}

/// What `cpuid` told when the machine stopped.
///
/// # Errors
/// Where the dump does not hold it.
pub fn cpuid(session: &Session<'_>) -> Result<Vec<Leaf>> {
    let bytes = tagged(session, CPUID).ok_or_else(|| {
        Error::NotFound(
            "what the processors say of themselves (cpuid) is not captured in this dump".to_owned(),
        )
    })?;
    Ok(leaves(&bytes))
}

fn leaves(bytes: &[u8]) -> Vec<Leaf> {
    let entry = |bytes: &[u8]| {
        let mut words = [0; LEAF / 4];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = bytes.try_into().map_or(0, u32::from_le_bytes);
        }
        let [kind, leaf, a, b, c, d, e, f, g, h] = words;
        Leaf { register: kind == 1, leaf, answers: [[a, b, c, d], [e, f, g, h]] }
    };
    bytes.chunks_exact(LEAF).map(entry).collect()
}

/// The name that a processor gives itself; `None` where it was not asked.
pub fn brand(leaves: &[Leaf]) -> Option<String> {
    let mut name = Vec::new();
    for wanted in 0x8000_0002..=0x8000_0004 {
        let found = leaves.iter().find(|leaf| leaf.leaf == wanted)?;
        name.extend(found.answers[0].iter().flat_map(|word| word.to_le_bytes()));
    }
    let name: String = name.into_iter().take_while(|&byte| byte != 0).map(char::from).collect();
    Some(string::one_line(name.trim())).filter(|name| !name.is_empty())
}

/// A value of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryValue {
    /// Its name.
    pub name: String,
    /// `REG_SZ` 1, `REG_BINARY` 3, `REG_DWORD` 4, …
    pub kind: u32,
    /// Its data.
    pub data: Vec<u8>,
}

impl RegistryValue {
    /// The name of its type.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            1 => "REG_SZ",
            2 => "REG_EXPAND_SZ",
            3 => "REG_BINARY",
            4 => "REG_DWORD",
            7 => "REG_MULTI_SZ",
            9 => "REG_FULL_RESOURCE_DESCRIPTOR",
            11 => "REG_QWORD",
            _ => "REG_NONE",
        }
    }

    /// Its data as text.
    pub fn show(&self) -> String {
        match (self.kind, self.data.as_slice()) {
            (1 | 2, text) => string::one_line(string::from_utf16(text).trim_end_matches('\0')),
            (4, &[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]).to_string(),
            (11, &[a, b, c, d, e, f, g, h]) => format!("{:#x}", u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            (_, bytes) => bytes.iter().map(|byte| format!("{byte:x}")).collect::<Vec<_>>().join(","),
        }
    }
}

/// What the registry had of the first processor.
///
/// # Errors
/// Where the dump does not hold it.
pub fn processor_values(session: &Session<'_>) -> Result<Vec<RegistryValue>> {
    let bytes = tagged(session, REGISTRY).ok_or_else(|| {
        Error::NotFound("what the registry had of the processors is not captured in this dump".to_owned())
    })?;
    Ok(values(&bytes))
}

fn values(mut rest: &[u8]) -> Vec<RegistryValue> {
    let mut found = Vec::new();
    let mut one = || {
        let mut take = |size: usize| {
            let (taken, after) = rest.split_at_checked(size)?;
            rest = after;
            Some(taken)
        };
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
        let length = number(take(4)?) as usize;
        let name = string::from_utf16(take(length)?);
        let kind = number(take(4)?);
        let size = number(take(4)?) as usize;
        let data = take(size)?.to_vec();
        Some(RegistryValue { name: string::one_line(name.trim_end_matches('\0')), kind, data })
    };
    while let Some(value) = one() {
        found.push(value);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_stand_in_files_half_turned() {
        assert_eq!(guid(SMBIOS)[..8], [0x8f, 0x00, 0x5c, 0xbc, 0x3a, 0x1e, 0xd7, 0x44]);
        assert_eq!(guid(SMBIOS)[8..10], [0x98, 0x8d]);
    }

    #[test]
    fn structures_have_their_texts() {
        let mut bytes = vec![0, 2, 7, 0x27, 0, 0, 0, 0];
        bytes.extend([0, 6, 5, 0, 1, 2]);
        bytes.extend(b"Maker\0V1\x07\0\0");
        bytes.extend([127, 4, 6, 0, 0, 0]);
        let tables = Smbios::parse(&bytes).unwrap();
        assert_eq!((tables.version, tables.dmi, tables.size), ((2, 7), 0x27, bytes.len() - 8));
        let first = tables.first(0).unwrap();
        assert_eq!((first.handle, first.text(4), first.byte(9)), (5, Some("Maker"), None));
        assert!(first.text(5).unwrap().starts_with("V1"));
        assert_eq!(tables.structures.len(), 2);
        // Cut anywhere it ends; it does not go astray.
        for end in 0..bytes.len() {
            Smbios::parse(&bytes[..end]);
        }
        assert!(Smbios::parse(&[0, 2, 7, 0x27, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]).unwrap().structures.is_empty());
    }

    #[test]
    fn leaves_tell_the_brand() {
        let mut bytes = Vec::new();
        for (leaf, text) in [
            (0x8000_0002u32, b"  Some processor"),
            (0x8000_0003, b" of a laboratory"),
            (0x8000_0004, b" CPU\0\0\0\0\0\0\0\0\0\0\0\0"),
        ] {
            bytes.extend([0; 4]);
            bytes.extend(leaf.to_le_bytes());
            bytes.extend(text);
            bytes.extend(text);
        }
        let found = leaves(&bytes[..bytes.len() - 1]);
        assert_eq!((found.len(), brand(&found)), (2, None));
        assert_eq!(brand(&leaves(&bytes)).unwrap(), "Some processor of a laboratory CPU");
    }

    #[test]
    fn values_have_names_types_and_data() {
        let mut bytes = vec![10, 0, 0, 0];
        bytes.extend("~MHz\0".encode_utf16().flat_map(u16::to_le_bytes));
        bytes.extend([
            4, 0, 0, 0, 4, 0, 0, 0, 0x22, 0x0a, 0, 0, 4, 0, 0, 0, b'A', 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0,
            0xff, 1,
        ]);
        let found = values(&bytes);
        let shown: Vec<_> =
            found.iter().map(|one| (one.name.as_str(), one.kind_name(), one.show())).collect();
        assert_eq!(shown, [("~MHz", "REG_DWORD", "2594".to_owned()), ("A", "REG_BINARY", "ff,1".to_owned())]);
        assert!(values(&[0xff, 0xff, 0xff, 0xff, 1]).is_empty());
    }
}
