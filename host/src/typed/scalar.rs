//! The built-in types of C as KD names them, and the names a user may write for them.

use crate::symbols::{Kind, ModuleTypes, TypeId};

/// A built-in type.
#[derive(PartialEq, Eq, Debug)]
pub struct Scalar {
    /// KD's name for it in `??`.
    pub name: &'static str,
    /// Bytes.
    pub size: u64,
    /// Integer of either sort, floating point, or [`Kind::Other`] for void.
    pub kind: Kind,
}

impl Scalar {
    /// Signed integers.
    pub fn is_signed(&self) -> bool {
        self.kind == Kind::Int
    }

    /// True for the character types, which show their character.
    pub fn is_character(&self) -> bool {
        self.name.ends_with("char") || self.name == "wchar_t"
    }
}

const fn scalar(name: &'static str, size: u64, kind: Kind) -> Scalar {
    Scalar { name, size, kind }
}

/// `void`.
pub static VOID: Scalar = scalar("void", 0, Kind::Other);
/// The type of a symbol whose type is not known.
pub static NO_TYPE: Scalar = scalar("<NoType>", 0, Kind::Other);
/// `bool`.
pub static BOOL: Scalar = scalar("bool", 1, Kind::Uint);
/// `char`.
pub static CHAR: Scalar = scalar("char", 1, Kind::Int);
/// `unsigned char`.
pub static UCHAR: Scalar = scalar("unsigned char", 1, Kind::Uint);
/// `wchar_t`.
pub static WCHAR: Scalar = scalar("wchar_t", 2, Kind::Uint);
/// `short`.
pub static SHORT: Scalar = scalar("short", 2, Kind::Int);
/// `unsigned short`.
pub static USHORT: Scalar = scalar("unsigned short", 2, Kind::Uint);
/// `int`.
pub static INT: Scalar = scalar("int", 4, Kind::Int);
/// `unsigned int`.
pub static UINT: Scalar = scalar("unsigned int", 4, Kind::Uint);
/// `long`, four bytes on Windows.
pub static LONG: Scalar = scalar("long", 4, Kind::Int);
/// `unsigned long`.
pub static ULONG: Scalar = scalar("unsigned long", 4, Kind::Uint);
/// `__int64`.
pub static INT64: Scalar = scalar("int64", 8, Kind::Int);
/// `unsigned __int64`.
pub static UINT64: Scalar = scalar("unsigned int64", 8, Kind::Uint);
/// `float`.
pub static FLOAT: Scalar = scalar("float", 4, Kind::Float);
/// `double`.
pub static DOUBLE: Scalar = scalar("double", 8, Kind::Float);

/// Names of PDBs' built-in types that are not those of the types here.
static OF_PDB: &[(&str, &Scalar)] = &[
    ("char8_t", &UCHAR),
    ("char16_t", &WCHAR),
    ("char32_t", &UINT),
    ("HRESULT", &LONG),
    ("bool16", &USHORT),
    ("bool32", &ULONG),
    ("bool64", &UINT64),
];

/// Those with their own names.
static ALL: &[&Scalar] = &[
    &BOOL, &CHAR, &UCHAR, &WCHAR, &SHORT, &USHORT, &INT, &UINT, &LONG, &ULONG, &INT64, &UINT64, &FLOAT,
    &DOUBLE,
];

/// The built-in type of a PDB.
pub(super) fn of_pdb(types: &ModuleTypes, id: TypeId) -> Option<&'static Scalar> {
    let name = types.built_in(id)?;
    let own = || ALL.iter().copied().find(|scalar| scalar.name == name);
    OF_PDB.iter().find(|(known, _)| *known == name).map(|(_, scalar)| *scalar).or_else(own)
}

/// C's own spellings (words in the order given, `unsigned` first) and the type names of Windows' headers, which no
/// PDB holds as types.
static NAMES: &[(&str, &Scalar)] = &[
    ("void", &VOID),
    ("bool", &BOOL),
    ("char", &CHAR),
    ("signed char", &CHAR),
    ("unsigned char", &UCHAR),
    ("wchar_t", &WCHAR),
    ("short", &SHORT),
    ("short int", &SHORT),
    ("unsigned short", &USHORT),
    ("unsigned short int", &USHORT),
    ("int", &INT),
    ("signed", &INT),
    ("signed int", &INT),
    ("unsigned", &UINT),
    ("unsigned int", &UINT),
    ("long", &LONG),
    ("long int", &LONG),
    ("unsigned long", &ULONG),
    ("unsigned long int", &ULONG),
    ("long long", &INT64),
    ("unsigned long long", &UINT64),
    ("__int8", &CHAR),
    ("unsigned __int8", &UCHAR),
    ("__int16", &SHORT),
    ("unsigned __int16", &USHORT),
    ("__int32", &INT),
    ("unsigned __int32", &UINT),
    ("__int64", &INT64),
    ("unsigned __int64", &UINT64),
    ("int64", &INT64),
    ("unsigned int64", &UINT64),
    ("float", &FLOAT),
    ("double", &DOUBLE),
    ("long double", &DOUBLE),
    ("VOID", &VOID),
    ("CHAR", &CHAR),
    ("CCHAR", &CHAR),
    ("INT8", &CHAR),
    ("UCHAR", &UCHAR),
    ("BYTE", &UCHAR),
    ("UINT8", &UCHAR),
    ("BOOLEAN", &UCHAR),
    ("WCHAR", &WCHAR),
    ("SHORT", &SHORT),
    ("CSHORT", &SHORT),
    ("INT16", &SHORT),
    ("USHORT", &USHORT),
    ("WORD", &USHORT),
    ("UINT16", &USHORT),
    ("INT", &INT),
    ("INT32", &INT),
    ("BOOL", &INT),
    ("UINT", &UINT),
    ("UINT32", &UINT),
    ("LONG", &LONG),
    ("NTSTATUS", &LONG),
    ("HRESULT", &LONG),
    ("ULONG", &ULONG),
    ("ULONG32", &ULONG),
    ("DWORD", &ULONG),
    ("DWORD32", &ULONG),
    ("LONGLONG", &INT64),
    ("LONG64", &INT64),
    ("INT64", &INT64),
    ("ULONGLONG", &UINT64),
    ("ULONG64", &UINT64),
    ("DWORDLONG", &UINT64),
    ("DWORD64", &UINT64),
    ("UINT64", &UINT64),
    ("QWORD", &UINT64),
    ("FLOAT", &FLOAT),
    ("DOUBLE", &DOUBLE),
];

/// A built-in type by what a user may write for it. Those as wide as a pointer need the pointer's size.
pub fn named(name: &str, pointer_size: u32) -> Option<&'static Scalar> {
    let (unsigned, signed) = if pointer_size == 8 { (&UINT64, &INT64) } else { (&ULONG, &LONG) };
    match name {
        "SIZE_T" | "size_t" | "ULONG_PTR" | "UINT_PTR" | "DWORD_PTR" | "KAFFINITY" => Some(unsigned),
        "SSIZE_T" | "LONG_PTR" | "INT_PTR" | "ptrdiff_t" => Some(signed),
        _ => NAMES.iter().find(|(known, _)| *known == name).map(|(_, scalar)| *scalar),
    }
}
