//! Records of a PDB's type stream, each read where it stands.
//!
//! The layouts are CodeView's, as in the published cvinfo.h and LLVM's CodeViewTypes.def. They are read here and
//! not through the library behind `pdb`, because only what is asked for should be read, and because that library's
//! reader of nested field lists recurses as deep as a file tells it to. Leaves with `_ST` in their Microsoft name
//! are the older form, with a length byte before a name instead of a zero after it.

/// First index that is a record; those below are simple types, written in the index itself.
pub(super) const FIRST_RECORD: u32 = 0x1000;

const POINTER: u16 = 0x1002;
const FIELD_LIST: u16 = 0x1203;
const LAST_ST: u16 = 0x1500;

/// Properties of a structure: a forward reference; the unique name follows the name.
const FORWARD: u32 = 0x80;
const HAS_UNIQUE: u32 = 0x200;

/// A type record, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Record<'a> {
    /// const, volatile, unaligned.
    Modifier { of: u32 },
    /// `size` is 0 where the record does not say.
    Pointer { to: u32, size: u64 },
    /// `bytes` of the whole array.
    Array { of: u32, bytes: u64 },
    /// Structure, class, interface, union.
    Udt(Udt<'a>),
    /// Enumeration.
    Enum { forward: bool, of: u32, fields: u32, name: &'a [u8], unique: &'a [u8] },
    /// Bit field.
    Bits { of: u32, length: u8, position: u8 },
    /// Function.
    Procedure { returns: u32, parameters: u32 },
    /// The parameters of a function, four bytes each.
    Arguments { list: &'a [u8] },
    /// A typedef that is a type of its own.
    Alias { of: u32 },
    /// Anything else.
    Other,
}

/// A structure, class, interface or union.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Udt<'a> {
    pub union: bool,
    /// Declared with `class`.
    pub class: bool,
    /// Only a name; the definition is another record.
    pub forward: bool,
    /// The field list.
    pub fields: u32,
    pub size: u64,
    pub name: &'a [u8],
    /// The linker's unmistakable name, empty if there is none.
    pub unique: &'a [u8],
}

/// A member of a field list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Member<'a> {
    /// A field.
    Data { of: u32, offset: u64, name: &'a [u8] },
    /// A base class.
    Base { of: u32, offset: u64 },
    /// A pointer to the table of virtual functions; it stands at offset 0.
    VirtualTable { of: u32 },
    /// A name of an enumeration.
    Value { name: &'a [u8], value: i64 },
    /// The list goes on in another record.
    More { list: u32 },
    /// Functions, statics, nested types.
    Other,
}

/// Reads forward; a read past the end is `None` and stays there.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[b]| b)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    /// A number in CodeView's form: small ones as they are, others with their width before them.
    fn number(&mut self) -> Option<i64> {
        Some(match self.u16()? {
            small @ 0..0x8000 => i64::from(small),
            0x8000 => i64::from(self.u8()? as i8),
            0x8001 => i64::from(self.u16()? as i16),
            0x8002 => i64::from(self.u16()?),
            0x8003 => i64::from(self.u32()? as i32),
            0x8004 => i64::from(self.u32()?),
            0x8009 | 0x800a => i64::from_le_bytes(self.take()?),
            // 128 bits: the low half.
            0x8017 | 0x8018 => {
                let low = i64::from_le_bytes(self.take()?);
                self.take::<8>()?;
                low
            }
            _ => return None,
        })
    }

    fn unsigned(&mut self) -> Option<u64> {
        self.number().map(|n| n as u64)
    }

    fn name(&mut self, leaf: u16) -> Option<&'a [u8]> {
        let bytes = self.0;
        if leaf < LAST_ST {
            let length = usize::from(self.u8()?);
            let name = self.0.get(..length)?;
            self.0 = self.0.get(length..)?;
            return Some(name);
        }
        let end = bytes.iter().position(|b| *b == 0)?;
        self.0 = bytes.get(end.checked_add(1)?..)?;
        bytes.get(..end)
    }

    /// Members are aligned with bytes 0xf1..0xff that tell how many are left to skip.
    fn padding(&mut self) {
        while let Some(pad @ 0xf0..) = self.0.first().copied() {
            let skip = usize::from(pad & 0xf).max(1);
            self.0 = self.0.get(skip..).unwrap_or_default();
        }
    }
}

/// The first four bytes as a number.
pub(super) fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().copied().map_or(0, u32::from_le_bytes)
}

/// Reads a record, without its length.
pub(super) fn record(bytes: &[u8]) -> Record<'_> {
    read_record(bytes).unwrap_or(Record::Other)
}

fn unique<'a>(c: &mut Cursor<'a>, leaf: u16, properties: u32) -> &'a [u8] {
    if properties & HAS_UNIQUE == 0 { &[] } else { c.name(leaf).unwrap_or_default() }
}

fn read_record(bytes: &[u8]) -> Option<Record<'_>> {
    let mut c = Cursor(bytes);
    let leaf = c.u16()?;
    Some(match leaf {
        0x1001 | 0x1518 => Record::Modifier { of: c.u32()? },
        POINTER => {
            let to = c.u32()?;
            let attributes = c.u32()?;
            let size = match (attributes >> 13 & 0x3f, attributes & 0x1f) {
                (0, 0xa) => 4,
                (0, 0xc) => 8,
                (size, _) => u64::from(size),
            };
            Record::Pointer { to, size }
        }
        0x1003 | 0x1503 => {
            let of = c.u32()?;
            c.u32()?;
            Record::Array { of, bytes: c.unsigned()? }
        }
        0x1516 => {
            let of = c.u32()?;
            c.take::<8>()?;
            Record::Array { of, bytes: c.unsigned()? }
        }
        0x1004 | 0x1005 | 0x1504 | 0x1505 | 0x1519 | 0x1006 | 0x1506 => {
            let union = matches!(leaf, 0x1006 | 0x1506);
            let class = matches!(leaf, 0x1004 | 0x1504);
            c.u16()?;
            let properties = u32::from(c.u16()?);
            let fields = c.u32()?;
            if !union {
                c.take::<8>()?;
            }
            let size = c.unsigned()?;
            let name = c.name(leaf)?;
            let unique = unique(&mut c, leaf, properties);
            Record::Udt(Udt { union, class, forward: properties & FORWARD != 0, fields, size, name, unique })
        }
        0x1608..=0x160b => {
            let union = leaf == 0x160a;
            let class = leaf == 0x1608;
            let properties = c.u32()?;
            let fields = c.u32()?;
            if !union {
                c.take::<8>()?;
            }
            c.u16()?;
            let size = c.unsigned()?;
            let name = c.name(leaf)?;
            let unique = unique(&mut c, leaf, properties);
            Record::Udt(Udt { union, class, forward: properties & FORWARD != 0, fields, size, name, unique })
        }
        0x1007 | 0x1507 => {
            c.u16()?;
            let properties = u32::from(c.u16()?);
            let of = c.u32()?;
            let fields = c.u32()?;
            let name = c.name(leaf)?;
            let unique = unique(&mut c, leaf, properties);
            Record::Enum { forward: properties & FORWARD != 0, of, fields, name, unique }
        }
        0x1205 => Record::Bits { of: c.u32()?, length: c.u8()?, position: c.u8()? },
        // The convention and the count of parameters stand between; a member function has its class and more.
        0x1008 => {
            let returns = c.u32()?;
            c.u32()?;
            Record::Procedure { returns, parameters: c.u32().unwrap_or(0) }
        }
        0x1009 => {
            let returns = c.u32()?;
            c.take::<12>()?;
            Record::Procedure { returns, parameters: c.u32().unwrap_or(0) }
        }
        0x1201 => {
            let count = usize::try_from(c.u32()?).ok()?;
            let bytes = count.checked_mul(4)?.min(c.0.len());
            Record::Arguments { list: c.0.get(..bytes)? }
        }
        0x1010 | 0x150a => Record::Alias { of: c.u32()? },
        _ => Record::Other,
    })
}

/// The members of a field list. Stops at the first that cannot be read, because its length is not known then.
pub(super) fn members(bytes: &[u8]) -> impl Iterator<Item = Member<'_>> {
    let mut c = Cursor(bytes);
    if c.u16() != Some(FIELD_LIST) {
        c.0 = &[];
    }
    std::iter::from_fn(move || {
        c.padding();
        let member = member(&mut c);
        if member.is_none() {
            c.0 = &[];
        }
        member
    })
}

fn member<'a>(c: &mut Cursor<'a>) -> Option<Member<'a>> {
    let leaf = c.u16()?;
    Some(match leaf {
        0x1405 | 0x150d => {
            c.u16()?;
            let of = c.u32()?;
            Member::Data { of, offset: c.unsigned()?, name: c.name(leaf)? }
        }
        0x0403 | 0x1502 => {
            c.u16()?;
            let value = c.number()?;
            Member::Value { value, name: c.name(leaf)? }
        }
        0x1400 | 0x151a => {
            c.u16()?;
            let of = c.u32()?;
            Member::Base { of, offset: c.unsigned()? }
        }
        0x1401 | 0x1402 => {
            c.take::<10>()?;
            c.number()?;
            c.number()?;
            Member::Other
        }
        0x1404 => {
            c.u16()?;
            Member::More { list: c.u32()? }
        }
        0x1409 => {
            c.u16()?;
            Member::VirtualTable { of: c.u32()? }
        }
        0x140c => {
            c.take::<10>()?;
            Member::Other
        }
        0x140a => {
            c.take::<6>()?;
            Member::Other
        }
        // Statics, overloads, nested types, friends, changed accesses: attributes or a count, a type, a name.
        0x1406 | 0x150e | 0x1407 | 0x150f | 0x1408 | 0x1510 | 0x140d | 0x1512 | 0x1403 | 0x150c | 0x140e
        | 0x1513 => {
            c.take::<6>()?;
            c.name(leaf)?;
            Member::Other
        }
        // One method; a place in the table only where it opens a virtual.
        0x140b | 0x1511 => {
            let attributes = c.u16()?;
            c.u32()?;
            if matches!(attributes >> 2 & 7, 4 | 6) {
                c.u32()?;
            }
            c.name(leaf)?;
            Member::Other
        }
        _ => return None,
    })
}
