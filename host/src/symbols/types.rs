//! The types of one module.

use std::sync::Arc;

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
pub struct ModuleTypes {}

impl ModuleTypes {
    /// Bytes of a pointer in this module.
    pub fn pointer_size(&self) -> u64 {
        8
    }

    /// A structure, union or enumeration by name; the exact spelling wins over one that differs in case,
    /// and `EPROCESS` finds `_EPROCESS` where nothing else has the name.
    pub fn find(&self, _name: &str) -> Option<TypeId> {
        None
    }

    /// The name of a type as KD shows it: `_LIST_ENTRY`, `Ptr64 Void`, `[15] UChar`, `Pos 0, 1 Bit`.
    pub fn name(&self, _id: TypeId) -> String {
        String::new()
    }

    /// Bytes of a type; 0 for one that has no size.
    pub fn size(&self, _id: TypeId) -> u64 {
        0
    }

    /// The kind of a type.
    pub fn kind(&self, _id: TypeId) -> Kind {
        Kind::Other
    }

    /// True for a union.
    pub fn is_union(&self, _id: TypeId) -> bool {
        false
    }

    /// What a pointer points to, what an array is of, the storage unit of a bit field or an enumeration.
    pub fn element(&self, _id: TypeId) -> Option<TypeId> {
        None
    }

    /// Elements of an array; 0 for any other type.
    pub fn count(&self, _id: TypeId) -> u64 {
        0
    }

    /// The fields of a structure or union in order of declaration, those of base classes first; empty for any
    /// other type.
    pub fn fields(&self, _id: TypeId) -> Arc<[Field]> {
        Arc::default()
    }

    /// A field by path: `Tcb.ApcState.Process`, `Name[2]`, `Entries[1].Flink`. Names are compared without case
    /// where no exact one exists; members of unnamed members count as the structure's own. Pointers are not followed.
    pub fn field(&self, _id: TypeId, _path: &str) -> Option<Field> {
        None
    }

    /// The values of an enumeration in order of declaration; empty for any other type.
    pub fn enum_values(&self, _id: TypeId) -> Arc<[EnumValue]> {
        Arc::default()
    }

    /// The first name of an enumeration's value.
    pub fn enum_name(&self, _id: TypeId, _value: i64) -> Option<Arc<str>> {
        None
    }

    /// The value of an enumeration's name, without case.
    pub fn enum_value(&self, _id: TypeId, _name: &str) -> Option<i64> {
        None
    }
}
