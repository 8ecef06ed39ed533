//! The types of one module, over the records of its type stream.
//!
//! Opening finds where the records start and nothing else; names are sorted when the first type is looked for, and
//! a structure's fields are read when it is first asked about. How a type prints follows KD's `dt`.

use super::lock;
use super::pattern::Pattern;
use super::pdb::StreamBytes;
use super::records::{self, FIRST_RECORD, Member, Record, Udt};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, OnceLock};

/// A type of a module; means something only together with the [`ModuleTypes`] it came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct TypeId(pub u32);

/// What sort of thing a type is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// Anything not below: void, functions, unknown records.
    #[default]
    Other,
    /// Unsigned integer (characters and booleans too).
    Uint,
    /// Signed integer.
    Int,
    /// Floating point.
    Float,
    /// Pointer; `element` is what it points to.
    Pointer,
    /// Structure, class or union.
    Struct,
    /// Array of `element`.
    Array,
    /// Enumeration.
    Enum,
    /// Bit field inside an integer.
    Bits,
}

/// A field of a structure.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Field {
    /// Its name; for a field found by path, the path's last name.
    pub name: Arc<str>,
    /// Bytes from the start of the structure that was asked.
    pub offset: u64,
    /// Bytes of the field (of the storage unit, for a bit field).
    pub size: u64,
    /// Kind of its type.
    pub kind: Kind,
    /// First bit, for a bit field.
    pub bit_position: u32,
    /// Bits, for a bit field; else 0.
    pub bit_length: u32,
    /// Elements, for an array; else 0.
    pub count: u64,
    /// Its type.
    pub id: TypeId,
    /// For an array, a pointer or a bit field: the type of the element, the pointee, the storage unit. Else `id`.
    pub element: TypeId,
}

/// A named value of an enumeration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnumValue {
    /// Name.
    pub name: Arc<str>,
    /// Value, sign-extended where the enumeration is signed.
    pub value: i64,
}

/// The types of one module. Everything is read when asked for and kept.
pub struct ModuleTypes {
    stream: StreamBytes,
    pointer_size: u64,
    /// Where each record starts in the stream (its leaf, after its length), by index from [`FIRST_RECORD`].
    starts: Vec<u32>,
    /// (hash of the name without case, index), sorted; definitions only.
    by_name: OnceLock<Vec<(u32, u32)>>,
    fields: Mutex<HashMap<TypeId, Arc<[Field]>>>,
    values: Mutex<HashMap<TypeId, Arc<[EnumValue]>>>,
}

/// Chains of modifiers, arrays and base classes are never longer in a healthy file.
const DEPTH: u32 = 32;
/// Fields of one structure, base classes and continued lists included.
const FIELDS: usize = 1 << 16;
/// Base classes of one structure, direct and not.
const BASES: u32 = 1 << 10;

impl ModuleTypes {
    /// Reads the header of a type stream and finds its records. Where the pointers' size is not known, that of the
    /// first pointer is taken.
    pub(super) fn new(stream: StreamBytes, pointer_size: Option<u64>) -> Result<ModuleTypes, String> {
        let mut types = ModuleTypes {
            stream,
            pointer_size: pointer_size.unwrap_or(8),
            starts: Vec::new(),
            by_name: OnceLock::new(),
            fields: Mutex::default(),
            values: Mutex::default(),
        };
        if types.stream.is_empty() {
            return Ok(types);
        }
        let word = |at: usize| types.stream.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
        let (Some(version), Some(header), Some(first)) = (word(0), word(4), word(8)) else {
            return Err("the type stream is shorter than its header".to_owned());
        };
        // 19961031 and before number types with 16 bits.
        if version < 19_990_604 {
            return Err(format!("types of version {version} (before 1999) are not read"));
        }
        if first != FIRST_RECORD {
            return Err(format!("the first type is {first:#x}, not {FIRST_RECORD:#x}"));
        }
        let end = word(16).map_or(0, |bytes| bytes as usize).saturating_add(header as usize);
        let end = end.min(types.stream.len());
        let mut at = header as usize;
        let mut starts = Vec::new();
        while let Some(length) =
            types.stream.get(at..end).and_then(<[u8]>::first_chunk).copied().map(u16::from_le_bytes)
        {
            at = at.saturating_add(2);
            let next = at.saturating_add(usize::from(length));
            let (Ok(start), true) = (u32::try_from(at), length >= 2 && next <= end) else { break };
            starts.push(start);
            at = next;
        }
        types.starts = starts;
        if pointer_size.is_none() {
            let sizes = (FIRST_RECORD..).take(types.starts.len()).map(|index| types.record(TypeId(index)));
            let first = sizes.filter_map(|shape| match shape {
                Shape::Record(Record::Pointer { size: size @ 1.., .. }) => Some(size),
                _ => None,
            });
            types.pointer_size = { first }.next().unwrap_or(8);
        }
        Ok(types)
    }

    /// True where the stream has no records.
    pub(super) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes of a pointer in this module.
    pub fn pointer_size(&self) -> u64 {
        self.pointer_size
    }

    /// A structure, union or enumeration by name; the exact spelling wins over one that differs in case,
    /// and `EPROCESS` finds `_EPROCESS` where nothing else has the name.
    pub fn find(&self, name: &str) -> Option<TypeId> {
        let name = ["struct ", "union ", "enum ", "class "]
            .iter()
            .find_map(|word| name.strip_prefix(word))
            .unwrap_or(name)
            .trim();
        self.named(name, |_| true)
            .or_else(|| if name.starts_with('_') { None } else { self.named(&format!("_{name}"), |_| true) })
    }

    /// Gives the name of every structure, union and enumeration that matches to the visitor, in order of names.
    pub fn each(&self, pattern: &Pattern, visit: &mut dyn FnMut(&str, TypeId) -> ControlFlow<()>) {
        let mut found: Vec<(Cow<'_, str>, TypeId)> = self
            .by_name()
            .iter()
            .map(|(_, index)| {
                (String::from_utf8_lossy(self.definition(*index).unwrap_or_default()), TypeId(*index))
            })
            .filter(|(name, _)| pattern.matches(name))
            .collect();
        found.sort();
        for (name, id) in found {
            if visit(&name, id).is_break() {
                break;
            }
        }
    }

    /// The name of a type as KD shows it: `_LIST_ENTRY`, `Ptr64 Void`, `[15] UChar`, `Pos 0, 1 Bit`.
    pub fn name(&self, id: TypeId) -> String {
        let mut name = String::new();
        let mut at = self.plain(id);
        for _ in 0..DEPTH {
            let next = match self.record(at) {
                Shape::Simple(simple) => {
                    name.push_str(simple.name);
                    break;
                }
                Shape::SimplePointer(to, size) => {
                    let _ = write!(name, "Ptr{} ", size * 8);
                    to
                }
                Shape::Record(Record::Udt(Udt { name: text, .. }) | Record::Enum { name: text, .. }) => {
                    let text = String::from_utf8_lossy(text);
                    name.push_str(if is_unnamed(&text) { "<unnamed-tag>" } else { &text });
                    break;
                }
                Shape::Record(Record::Pointer { to, size }) => {
                    let _ = write!(name, "Ptr{} ", self.pointer_bytes(size) * 8);
                    let to = self.plain(TypeId(to));
                    if let Shape::Record(Record::Procedure { returns }) = self.record(to) {
                        let _ = write!(name, "    {} ", self.c_name(TypeId(returns), DEPTH));
                        break;
                    }
                    to
                }
                Shape::Record(Record::Array { of, .. }) => {
                    let _ = write!(name, "[{}] ", self.count(at));
                    TypeId(of)
                }
                Shape::Record(Record::Bits { length, position, .. }) => {
                    let _ =
                        write!(name, "Pos {position}, {length} Bit{}", if length == 1 { "" } else { "s" });
                    break;
                }
                Shape::Record(Record::Procedure { returns }) => {
                    let _ = write!(name, "{} ", self.c_name(TypeId(returns), DEPTH));
                    break;
                }
                Shape::Record(_) => {
                    name.push_str("<unknown type>");
                    break;
                }
            };
            at = self.plain(next);
        }
        name
    }

    /// The C spelling, which KD uses for what a function returns.
    fn c_name(&self, id: TypeId, depth: u32) -> String {
        let id = self.plain(id);
        match self.record(id) {
            Shape::Simple(simple) => simple.c_name.to_owned(),
            Shape::SimplePointer(to, _) => format!("{}*", self.c_name(to, depth.saturating_sub(1))),
            Shape::Record(Record::Pointer { to, .. }) if depth > 0 => {
                format!("{}*", self.c_name(TypeId(to), depth - 1))
            }
            _ => self.name(id),
        }
    }

    /// Bytes of a type; 0 for one that has no size.
    pub fn size(&self, id: TypeId) -> u64 {
        let id = self.plain(id);
        match self.record(id) {
            Shape::Simple(simple) => simple.size,
            Shape::SimplePointer(_, size) => size,
            Shape::Record(record) => match record {
                Record::Udt(udt) => udt.size,
                Record::Pointer { size, .. } => self.pointer_bytes(size),
                Record::Array { bytes, .. } => bytes,
                Record::Enum { of, .. } | Record::Bits { of, .. } => self.size_of_simple(TypeId(of)),
                _ => 0,
            },
        }
    }

    /// Bytes of an integer type; what stands under an enumeration or a bit field can be another of these.
    fn size_of_simple(&self, mut id: TypeId) -> u64 {
        for _ in 0..DEPTH {
            id = match self.record(self.plain(id)) {
                Shape::Simple(simple) => return simple.size,
                Shape::Record(Record::Enum { of, .. } | Record::Bits { of, .. }) => TypeId(of),
                _ => return 0,
            };
        }
        0
    }

    /// The kind of a type.
    pub fn kind(&self, id: TypeId) -> Kind {
        match self.record(self.plain(id)) {
            Shape::Simple(simple) => simple.kind,
            Shape::SimplePointer(..) | Shape::Record(Record::Pointer { .. }) => Kind::Pointer,
            Shape::Record(Record::Udt(_)) => Kind::Struct,
            Shape::Record(Record::Array { .. }) => Kind::Array,
            Shape::Record(Record::Enum { .. }) => Kind::Enum,
            Shape::Record(Record::Bits { .. }) => Kind::Bits,
            Shape::Record(_) => Kind::Other,
        }
    }

    /// True for a union.
    pub fn is_union(&self, id: TypeId) -> bool {
        matches!(self.record(self.plain(id)), Shape::Record(Record::Udt(Udt { union: true, .. })))
    }

    /// What a pointer points to, what an array is of, the storage unit of a bit field or an enumeration.
    pub fn element(&self, id: TypeId) -> Option<TypeId> {
        match self.record(self.plain(id)) {
            Shape::SimplePointer(to, _) => Some(to),
            Shape::Record(
                Record::Pointer { to: of, .. }
                | Record::Array { of, .. }
                | Record::Enum { of, .. }
                | Record::Bits { of, .. },
            ) => Some(self.plain(TypeId(of))),
            _ => None,
        }
    }

    /// Elements of an array; 0 for any other type.
    pub fn count(&self, id: TypeId) -> u64 {
        match self.record(self.plain(id)) {
            Shape::Record(Record::Array { of, bytes }) => {
                bytes.checked_div(self.size(TypeId(of))).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// The fields of a structure or union in order of declaration, those of base classes first; empty for any
    /// other type.
    pub fn fields(&self, id: TypeId) -> Arc<[Field]> {
        let id = self.plain(id);
        if let Some(known) = lock(&self.fields).get(&id) {
            return Arc::clone(known);
        }
        let mut fields = Vec::new();
        let mut bases = BASES;
        self.collect_fields(id, 0, DEPTH, &mut bases, &mut fields);
        let fields: Arc<[Field]> = fields.into();
        lock(&self.fields).insert(id, Arc::clone(&fields));
        fields
    }

    fn collect_fields(&self, id: TypeId, base: u64, depth: u32, bases: &mut u32, fields: &mut Vec<Field>) {
        let Shape::Record(Record::Udt(udt)) = self.record(self.plain(id)) else { return };
        self.walk_members(udt.fields, |member| {
            if fields.len() >= FIELDS {
                return ControlFlow::Break(());
            }
            match member {
                Member::Data { of, offset, name } => {
                    let name: Arc<str> = String::from_utf8_lossy(name).into();
                    fields.push(self.describe(TypeId(of), name, base.wrapping_add(offset)));
                }
                Member::Base { of, offset } => {
                    let (Some(depth), Some(left)) = (depth.checked_sub(1), bases.checked_sub(1)) else {
                        return ControlFlow::Break(());
                    };
                    *bases = left;
                    self.collect_fields(TypeId(of), base.wrapping_add(offset), depth, bases, fields);
                }
                Member::VirtualTable { of } => {
                    fields.push(self.describe(TypeId(of), "__VFN_table".into(), base));
                }
                _ => {}
            }
            ControlFlow::Continue(())
        });
    }

    /// Gives the members of a list, over its continuations, to the visitor.
    fn walk_members<'a>(&'a self, list: u32, mut visit: impl FnMut(Member<'a>) -> ControlFlow<()>) {
        let mut next = Some(list);
        // No record belongs to a list twice, so a list is not longer than the stream.
        let mut left = self.stream.len();
        while let Some(bytes) = next.take().and_then(|list| self.bytes(list)) {
            let Some(rest) = left.checked_sub(bytes.len()) else { return };
            left = rest;
            for member in records::members(bytes) {
                match member {
                    Member::More { list } => next = Some(list),
                    member => {
                        if visit(member).is_break() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// A field of type `id` at `offset`.
    fn describe(&self, id: TypeId, name: Arc<str>, offset: u64) -> Field {
        let id = self.plain(id);
        let (bit_position, bit_length) = match self.record(id) {
            Shape::Record(Record::Bits { length, position, .. }) => (u32::from(position), u32::from(length)),
            _ => (0, 0),
        };
        let kind = self.kind(id);
        Field {
            name,
            offset,
            size: self.size(id),
            kind,
            bit_position,
            bit_length,
            count: self.count(id),
            id,
            element: match kind {
                Kind::Pointer | Kind::Array | Kind::Bits => self.element(id).unwrap_or(id),
                _ => id,
            },
        }
    }

    /// A field by path: `Tcb.ApcState.Process`, `Name[2]`, `Entries[1].Flink`. Names are compared without case
    /// where no exact one exists; members of unnamed members count as the structure's own. Pointers are not followed.
    pub fn field(&self, id: TypeId, path: &str) -> Option<Field> {
        let mut at = Field { id: self.plain(id), ..Field::default() };
        for step in path.split('.') {
            let (name, subscripts) = match step.find('[') {
                Some(open) => step.split_at_checked(open)?,
                None => (step, ""),
            };
            let mut budget = FIELDS;
            let found = self.member(at.id, name.trim(), DEPTH, &mut budget)?;
            at = Field { offset: at.offset.wrapping_add(found.offset), ..found };
            let mut rest = subscripts.trim();
            while !rest.is_empty() {
                let (number, after) = rest.strip_prefix('[')?.split_once(']')?;
                let number = number.trim();
                let number: u64 = match number.strip_prefix("0x") {
                    Some(hex) => u64::from_str_radix(hex, 16).ok()?,
                    None => number.parse().ok()?,
                };
                // The last member of a structure is often declared with one element and has more.
                if at.kind != Kind::Array {
                    return None;
                }
                let offset = number.checked_mul(self.size(at.element))?.checked_add(at.offset)?;
                at = self.describe(at.element, at.name, offset);
                rest = after.trim();
            }
        }
        Some(at)
    }

    /// A member by name, looking into unnamed members.
    fn member(&self, id: TypeId, name: &str, depth: u32, budget: &mut usize) -> Option<Field> {
        let fields = self.fields(id);
        *budget = budget.checked_sub(fields.len().max(1))?;
        let found = fields
            .iter()
            .find(|field| &*field.name == name)
            .or_else(|| fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)));
        if let Some(field) = found.filter(|_| !name.is_empty()) {
            return Some(field.clone());
        }
        let inner = depth.checked_sub(1)?;
        fields.iter().filter(|field| field.kind == Kind::Struct && is_unnamed(&field.name)).find_map(
            |field| {
                let found = self.member(field.id, name, inner, budget)?;
                Some(Field { offset: field.offset.wrapping_add(found.offset), ..found })
            },
        )
    }

    /// The values of an enumeration in order of declaration; empty for any other type.
    pub fn enum_values(&self, id: TypeId) -> Arc<[EnumValue]> {
        let id = self.plain(id);
        if let Some(known) = lock(&self.values).get(&id) {
            return Arc::clone(known);
        }
        let mut values = Vec::new();
        if let Shape::Record(Record::Enum { fields, .. }) = self.record(id) {
            self.walk_members(fields, |member| {
                if let Member::Value { name, value } = member {
                    values.push(EnumValue { name: String::from_utf8_lossy(name).into(), value });
                }
                if values.len() >= FIELDS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        }
        let values: Arc<[EnumValue]> = values.into();
        lock(&self.values).insert(id, Arc::clone(&values));
        values
    }

    /// The first name of an enumeration's value.
    pub fn enum_name(&self, id: TypeId, value: i64) -> Option<Arc<str>> {
        self.enum_values(id).iter().find(|known| known.value == value).map(|known| Arc::clone(&known.name))
    }

    /// The value of an enumeration's name, without case.
    pub fn enum_value(&self, id: TypeId, name: &str) -> Option<i64> {
        self.enum_values(id)
            .iter()
            .find(|known| known.name.eq_ignore_ascii_case(name))
            .map(|known| known.value)
    }

    /// A pointer record may leave its size out.
    fn pointer_bytes(&self, size: u64) -> u64 {
        if size == 0 { self.pointer_size } else { size }
    }

    /// The bytes of a record, from its leaf on.
    fn bytes(&self, index: u32) -> Option<&[u8]> {
        let n = index.checked_sub(FIRST_RECORD)? as usize;
        let start = *self.starts.get(n)? as usize;
        let length =
            self.stream.get(start.checked_sub(2)?..)?.first_chunk().copied().map(u16::from_le_bytes)?;
        self.stream.get(start..start.checked_add(usize::from(length))?)
    }

    fn record(&self, id: TypeId) -> Shape<'_> {
        if id.0 < FIRST_RECORD {
            return simple(id);
        }
        Shape::Record(self.bytes(id.0).map_or(Record::Other, records::record))
    }

    /// The type without const and volatile, and the definition of a type that is only announced here.
    fn plain(&self, mut id: TypeId) -> TypeId {
        for _ in 0..DEPTH {
            id = match self.record(id) {
                Shape::Record(Record::Modifier { of } | Record::Alias { of }) => TypeId(of),
                Shape::Record(Record::Udt(Udt { forward: true, name, unique, .. })) => {
                    return self.defined(name, unique).unwrap_or(id);
                }
                Shape::Record(Record::Enum { forward: true, name, unique, .. }) => {
                    return self.defined(name, unique).unwrap_or(id);
                }
                _ => return id,
            };
        }
        id
    }

    /// The definition of an announced type, by the linker's name for it if there is one.
    fn defined(&self, name: &[u8], unique: &[u8]) -> Option<TypeId> {
        let text = String::from_utf8_lossy(name);
        let same = |index: u32| match self.bytes(index).map(records::record) {
            Some(Record::Udt(Udt { name: n, unique: u, .. }) | Record::Enum { name: n, unique: u, .. }) => {
                n == name && (unique.is_empty() || u.is_empty() || u == unique)
            }
            _ => false,
        };
        self.named(&text, same)
    }

    /// The name of a record that defines a type; `None` for any other and for an announcement.
    fn definition(&self, index: u32) -> Option<&[u8]> {
        match records::record(self.bytes(index)?) {
            Record::Udt(Udt { forward: false, name, .. }) | Record::Enum { forward: false, name, .. } => {
                Some(name)
            }
            _ => None,
        }
    }

    fn by_name(&self) -> &[(u32, u32)] {
        self.by_name.get_or_init(|| {
            let mut all: Vec<(u32, u32)> = (FIRST_RECORD..)
                .take(self.starts.len())
                .filter_map(|index| {
                    let name = self.definition(index).filter(|name| !unnamed_bytes(name))?;
                    Some((hash_bytes(name), index))
                })
                .collect();
            all.sort_unstable();
            all
        })
    }

    /// A definition by name that passes `fits`.
    fn named(&self, name: &str, fits: impl Fn(u32) -> bool) -> Option<TypeId> {
        let by_name = self.by_name();
        let wanted = hash_bytes(name.as_bytes());
        let first = by_name.partition_point(|(hash, _)| *hash < wanted);
        let mut folded = None;
        for (_, index) in by_name.iter().skip(first).take_while(|(hash, _)| *hash == wanted) {
            let Some(known) = self.definition(*index) else { continue };
            if known == name.as_bytes() && fits(*index) {
                return Some(TypeId(*index));
            }
            if folded.is_none() && known.eq_ignore_ascii_case(name.as_bytes()) && fits(*index) {
                folded = Some(TypeId(*index));
            }
        }
        folded
    }
}

/// A type as it is written: in its index, or in a record.
enum Shape<'a> {
    Simple(&'static Simple),
    SimplePointer(TypeId, u64),
    Record(Record<'a>),
}

/// A simple type: its number in the low byte of an index, its size and names.
struct Simple {
    number: u32,
    size: u64,
    kind: Kind,
    name: &'static str,
    c_name: &'static str,
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
fn simple(id: TypeId) -> Shape<'static> {
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

fn is_unnamed(name: &str) -> bool {
    unnamed_bytes(name.as_bytes())
}

/// Names compilers give to what has none: `<unnamed-tag>`, `<anonymous-tag>`, `__unnamed`, `A::<unnamed-type-u>`.
fn unnamed_bytes(name: &[u8]) -> bool {
    name.is_empty()
        || name == b"__unnamed"
        || name.ends_with(b">") && {
            let last =
                name.iter().rposition(|b| *b == b'<').and_then(|at| name.get(at..)).unwrap_or_default();
            last.starts_with(b"<unnamed") || last.starts_with(b"<anonymous")
        }
}

fn hash_bytes(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    })
}
