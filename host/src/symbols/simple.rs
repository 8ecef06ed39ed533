//! CodeView's simple types: those that need no record, because their number says all.
//!
//! The numbers are from the published cvinfo.h; the names are those KD's `dt` prints.

use super::type_table::Shape;
use super::types::{Kind, TypeId};

/// A simple type: its number in the low byte of an index, its size and names.
pub(super) struct Simple {
    number: u32,
    /// Bytes.
    pub size: u64,
    pub kind: Kind,
    /// KD's name for it.
    pub name: &'static str,
    /// Its name in C.
    pub c_name: &'static str,
}

const fn row(number: u32, size: u64, kind: Kind, name: &'static str, c_name: &'static str) -> Simple {
    Simple { number, size, kind, name, c_name }
}

/// CodeView's simple types with KD's names for them.
static SIMPLE: &[Simple] = &[
    row(0x00, 0, Kind::Other, "<NoType>", "<NoType>"),
    row(0x03, 0, Kind::Other, "Void", "void"),
    row(0x08, 4, Kind::Int, "HRESULT", "HRESULT"),
    row(0x10, 1, Kind::Int, "Char", "char"),
    row(0x11, 2, Kind::Int, "Int2B", "short"),
    row(0x12, 4, Kind::Int, "Int4B", "long"),
    row(0x13, 8, Kind::Int, "Int8B", "int64"),
    row(0x14, 16, Kind::Int, "Int16B", "int128"),
    row(0x20, 1, Kind::Uint, "UChar", "unsigned char"),
    row(0x21, 2, Kind::Uint, "Uint2B", "unsigned short"),
    row(0x22, 4, Kind::Uint, "Uint4B", "unsigned long"),
    row(0x23, 8, Kind::Uint, "Uint8B", "unsigned int64"),
    row(0x24, 16, Kind::Uint, "Uint16B", "unsigned int128"),
    row(0x30, 1, Kind::Uint, "Bool", "bool"),
    row(0x31, 2, Kind::Uint, "Bool2B", "bool16"),
    row(0x32, 4, Kind::Uint, "Bool4B", "bool32"),
    row(0x33, 8, Kind::Uint, "Bool8B", "bool64"),
    row(0x40, 4, Kind::Float, "Float", "float"),
    row(0x41, 8, Kind::Float, "Double", "double"),
    row(0x42, 10, Kind::Float, "Float10B", "long double"),
    row(0x43, 16, Kind::Float, "Float16B", "float128"),
    row(0x46, 2, Kind::Float, "Float2B", "float16"),
    row(0x68, 1, Kind::Int, "Char", "char"),
    row(0x69, 1, Kind::Uint, "UChar", "unsigned char"),
    row(0x70, 1, Kind::Int, "Char", "char"),
    row(0x71, 2, Kind::Uint, "Wchar", "wchar_t"),
    row(0x72, 2, Kind::Int, "Int2B", "short"),
    row(0x73, 2, Kind::Uint, "Uint2B", "unsigned short"),
    row(0x74, 4, Kind::Int, "Int4B", "int"),
    row(0x75, 4, Kind::Uint, "Uint4B", "unsigned int"),
    row(0x76, 8, Kind::Int, "Int8B", "int64"),
    row(0x77, 8, Kind::Uint, "Uint8B", "unsigned int64"),
    row(0x78, 16, Kind::Int, "Int16B", "int128"),
    row(0x79, 16, Kind::Uint, "Uint16B", "unsigned int128"),
    row(0x7a, 2, Kind::Uint, "Char16", "char16_t"),
    row(0x7b, 4, Kind::Uint, "Char32", "char32_t"),
    row(0x7c, 1, Kind::Uint, "Char8", "char8_t"),
];
static UNKNOWN: Simple = row(u32::MAX, 0, Kind::Other, "<unknown type>", "<unknown type>");

/// Bits 8 to 11 of a simple type's index tell the width of a pointer to it.
pub(super) fn simple(id: TypeId) -> Shape<'static> {
    let pointer = match id.0 >> 8 {
        0 => {
            let found = SIMPLE.iter().find(|row| row.number == id.0);
            return Shape::Simple(found.unwrap_or(&UNKNOWN));
        }
        1..=3 => 2,
        4 | 5 => 4,
        6 => 8,
        7 => 16,
        _ => return Shape::Simple(&UNKNOWN),
    };
    Shape::SimplePointer(TypeId(id.0 & 0xff), pointer)
}
