//! The types of one module, over the records of its type stream.
//!
//! A structure's fields are read when it is first asked about, and kept. How a type prints follows KD's `dt`.

use super::lock;
use super::records::{self, Member, Record, Udt};
use super::type_table::{DEPTH, Shape, TypeTable, is_unnamed, made_up};
use crate::pattern::Pattern;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

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
    table: TypeTable,
    fields: Mutex<HashMap<TypeId, Arc<[Field]>>>,
    values: Mutex<HashMap<TypeId, Arc<[EnumValue]>>>,
}

/// Fields of one structure, base classes and continued lists included.
const FIELDS: usize = 1 << 16;
/// Base classes of one structure, direct and not.
const BASES: u32 = 1 << 10;

impl ModuleTypes {
    /// The types in `table`.
    pub(super) fn new(table: TypeTable) -> ModuleTypes {
        ModuleTypes { table, fields: Mutex::default(), values: Mutex::default() }
    }

    /// Bytes of a pointer in this module.
    pub fn pointer_size(&self) -> u64 {
        self.table.pointer_size
    }

    /// A structure, union or enumeration by name; the exact spelling wins over one that differs in case,
    /// and `EPROCESS` finds `_EPROCESS` where nothing else has the name.
    pub fn find(&self, name: &str) -> Option<TypeId> {
        let name = ["struct ", "union ", "enum ", "class "]
            .iter()
            .find_map(|word| name.strip_prefix(word))
            .unwrap_or(name)
            .trim();
        self.table
            .named(name)
            .or_else(|| if name.starts_with('_') { None } else { self.table.named(&format!("_{name}")) })
    }

    /// Gives the name of every structure, union and enumeration that matches to the visitor, in order of names.
    pub fn each(&self, pattern: &Pattern, visit: &mut dyn FnMut(&str, TypeId) -> ControlFlow<()>) {
        let mut found: Vec<(Cow<'_, str>, TypeId)> = self
            .table
            .definitions()
            .map(|(name, id)| (String::from_utf8_lossy(name), id))
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
        self.spell(id, DEPTH)
    }

    /// The name, looking `depth` functions deep into what they return.
    fn spell(&self, id: TypeId, depth: u32) -> String {
        let mut name = String::new();
        let mut at = self.table.plain(id);
        for _ in 0..DEPTH {
            let next = match self.table.record(at) {
                Shape::Simple(simple) => {
                    name.push_str(simple.name);
                    break;
                }
                Shape::SimplePointer(to, size) => {
                    let _ = write!(name, "Ptr{} ", size * 8);
                    to
                }
                Shape::Record(Record::Udt(Udt { name: text, .. }) | Record::Enum { name: text, .. }) => {
                    name.push_str(&String::from_utf8_lossy(made_up(text).unwrap_or(text)));
                    break;
                }
                Shape::Record(Record::Pointer { to, size }) => {
                    let _ = write!(name, "Ptr{} ", self.pointer_bytes(size) * 8);
                    let to = self.table.plain(TypeId(to));
                    if let Shape::Record(Record::Procedure { returns, .. }) = self.table.record(to) {
                        let _ = write!(name, "    {} ", self.c_name(TypeId(returns), depth));
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
                Shape::Record(Record::Procedure { returns, .. }) => {
                    let _ = write!(name, "{} ", self.c_name(TypeId(returns), depth));
                    break;
                }
                Shape::Record(_) => {
                    name.push_str("<unknown type>");
                    break;
                }
            };
            at = self.table.plain(next);
        }
        name
    }

    /// The name with what `dt -v` adds: `struct _LIST_ENTRY, 2 elements, 0x10 bytes`, `Ptr64 to Wchar`,
    /// `Bitfield Pos 0, 1 Bit`.
    pub fn verbose_name(&self, id: TypeId) -> String {
        let id = self.table.plain(id);
        match self.kind(id) {
            Kind::Struct => {
                let word = match self.table.record(id) {
                    Shape::Record(Record::Udt(Udt { union: true, .. })) => "union",
                    Shape::Record(Record::Udt(Udt { class: true, .. })) => "class",
                    _ => "struct",
                };
                let (count, size) = (self.fields(id).len(), self.size(id));
                format!("{word} {}, {count} elements, {size:#x} bytes", self.name(id))
            }
            Kind::Enum => format!("Enum {},  {} total enums", self.name(id), self.enum_values(id).len()),
            Kind::Bits => format!("Bitfield {}", self.name(id)),
            kind @ (Kind::Pointer | Kind::Array) => {
                let Some(to) = self.element(id) else { return self.name(id) };
                let inner = match self.kind(to) {
                    Kind::Struct | Kind::Enum => self.verbose_name(to),
                    _ => self.name(to),
                };
                match kind {
                    Kind::Pointer => format!("Ptr{} to {inner}", self.size(id) * 8),
                    _ => format!("[{}] {inner}", self.count(id)),
                }
            }
            _ => self.name(id),
        }
    }

    /// A type as if it were the first field of something.
    pub fn whole(&self, id: TypeId) -> Field {
        self.describe(id, "".into(), 0)
    }

    /// The types of a function's parameters; `None` for anything that is no function.
    pub fn parameters(&self, id: TypeId) -> Option<Vec<TypeId>> {
        match self.table.record(self.table.plain(id)) {
            Shape::Record(Record::Procedure { parameters, .. }) => {
                match self.table.record(TypeId(parameters)) {
                    Shape::Record(Record::Arguments { list }) => {
                        Some(list.chunks_exact(4).map(|four| TypeId(records::word(four))).collect())
                    }
                    _ => Some(Vec::new()),
                }
            }
            _ => None,
        }
    }

    /// The C spelling of a type, as KD writes parameters: `unsigned long`, `struct _EPROCESS *`.
    pub fn c_spelling(&self, id: TypeId) -> String {
        self.c_name(id, DEPTH)
    }

    /// The C spelling, which KD uses for what a function returns.
    fn c_name(&self, id: TypeId, depth: u32) -> String {
        let Some(depth) = depth.checked_sub(1) else { return "<unknown type>".to_owned() };
        let id = self.table.plain(id);
        match self.table.record(id) {
            Shape::Simple(simple) => simple.c_name.to_owned(),
            Shape::SimplePointer(to, _) => format!("{}*", self.c_name(to, depth)),
            Shape::Record(Record::Pointer { to, .. }) => format!("{}*", self.c_name(TypeId(to), depth)),
            _ => self.spell(id, depth),
        }
    }

    /// The name in C of a built-in type: `unsigned long`; `None` for any other type.
    pub fn built_in(&self, id: TypeId) -> Option<&'static str> {
        match self.table.record(self.table.plain(id)) {
            Shape::Simple(simple) => Some(simple.c_name),
            _ => None,
        }
    }

    /// Bytes of a type; 0 for one that has no size.
    pub fn size(&self, id: TypeId) -> u64 {
        let id = self.table.plain(id);
        match self.table.record(id) {
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
            id = match self.table.record(self.table.plain(id)) {
                Shape::Simple(simple) => return simple.size,
                Shape::Record(Record::Enum { of, .. } | Record::Bits { of, .. }) => TypeId(of),
                _ => return 0,
            };
        }
        0
    }

    /// The kind of a type.
    pub fn kind(&self, id: TypeId) -> Kind {
        match self.table.record(self.table.plain(id)) {
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
        matches!(self.table.record(self.table.plain(id)), Shape::Record(Record::Udt(Udt { union: true, .. })))
    }

    /// What a pointer points to, what an array is of, the storage unit of a bit field or an enumeration.
    pub fn element(&self, id: TypeId) -> Option<TypeId> {
        match self.table.record(self.table.plain(id)) {
            Shape::SimplePointer(to, _) => Some(to),
            Shape::Record(
                Record::Pointer { to: of, .. }
                | Record::Array { of, .. }
                | Record::Enum { of, .. }
                | Record::Bits { of, .. },
            ) => Some(self.table.plain(TypeId(of))),
            _ => None,
        }
    }

    /// Elements of an array; 0 for any other type.
    pub fn count(&self, id: TypeId) -> u64 {
        match self.table.record(self.table.plain(id)) {
            Shape::Record(Record::Array { of, bytes }) => {
                bytes.checked_div(self.size(TypeId(of))).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// The fields of a structure or union in order of declaration, those of base classes first; empty for any
    /// other type.
    pub fn fields(&self, id: TypeId) -> Arc<[Field]> {
        let id = self.table.plain(id);
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
        let Shape::Record(Record::Udt(udt)) = self.table.record(self.table.plain(id)) else { return };
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
        let mut left = self.table.length();
        while let Some(bytes) = next.take().and_then(|list| self.table.bytes(list)) {
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
        let id = self.table.plain(id);
        let (bit_position, bit_length) = match self.table.record(id) {
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
        let mut at = Field { id: self.table.plain(id), ..Field::default() };
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
        fields
            .iter()
            .filter(|field| field.kind == Kind::Struct && is_unnamed(field.name.as_bytes()))
            .find_map(|field| {
                let found = self.member(field.id, name, inner, budget)?;
                Some(Field { offset: field.offset.wrapping_add(found.offset), ..found })
            })
    }

    /// The values of an enumeration in order of declaration; empty for any other type.
    pub fn enum_values(&self, id: TypeId) -> Arc<[EnumValue]> {
        let id = self.table.plain(id);
        if let Some(known) = lock(&self.values).get(&id) {
            return Arc::clone(known);
        }
        let mut values = Vec::new();
        if let Shape::Record(Record::Enum { fields, .. }) = self.table.record(id) {
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
        if size == 0 { self.table.pointer_size } else { size }
    }
}
