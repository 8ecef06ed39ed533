//! C types and typed values in a target's memory, and how KD writes them.
//!
//! [`Type`] puts the types of PDBs and those that expressions make (`unsigned char *`, casts) under one roof.
//! `print` turns a type and an address into text; it only reads, through [`Memory`], and writes nothing.

mod print;
mod scalar;

pub use print::{
    FieldRow, TextStyle, bits, field_rows, field_text, number_at, scalar_text, signed, text_at, value_text,
};
pub use scalar::{
    BOOL, CHAR, DOUBLE, FLOAT, INT, INT64, LONG, NO_TYPE, SHORT, Scalar, UCHAR, UINT, UINT64, ULONG,
};
pub use scalar::{USHORT, VOID, WCHAR, named as scalar_named};

use crate::look::Look;
use crate::symbols::{Kind, ModuleTypes, TypeId};
use kd_sdk::address::Va;
use std::sync::Arc;

/// Pointers to pointers to pointers …: where it ends.
const DEPTH: u32 = 16;

/// What values are read from.
pub trait Memory {
    /// Fills `into`, or says why a byte of it cannot be had.
    fn read(&self, va: Va, into: &mut [u8]) -> Result<(), String>;
    /// The name of what stands at an address.
    fn name_of(&self, va: Va) -> Option<String>;
    /// How the user wants to see it.
    fn look(&self) -> Look {
        Look::default()
    }
}

/// A C type.
#[derive(Clone)]
pub enum Type {
    /// A built-in type.
    Scalar(&'static Scalar),
    /// A structure, union or enumeration of a module; or a function or anything else its PDB describes.
    Named(Arc<ModuleTypes>, TypeId),
    /// A pointer: what to, and its bytes.
    Pointer(Arc<Type>, u64),
    /// An array: of what, and how many.
    Array(Arc<Type>, u64),
}

impl Type {
    /// A module's type.
    pub fn of(types: &Arc<ModuleTypes>, id: TypeId) -> Type {
        Type::of_bounded(types, id, DEPTH)
    }

    fn of_bounded(types: &Arc<ModuleTypes>, id: TypeId, depth: u32) -> Type {
        let named = || Type::Named(Arc::clone(types), id);
        let Some(depth) = depth.checked_sub(1) else { return named() };
        let element = || types.element(id).map(|of| Arc::new(Type::of_bounded(types, of, depth)));
        match types.kind(id) {
            Kind::Pointer => element().map_or_else(named, |to| Type::Pointer(to, types.size(id))),
            Kind::Array => element().map_or_else(named, |of| Type::Array(of, types.count(id))),
            Kind::Bits => element().map_or_else(named, Arc::unwrap_or_clone),
            Kind::Uint | Kind::Int | Kind::Float => {
                scalar::of_pdb(types, id).map_or_else(named, Type::Scalar)
            }
            Kind::Other if types.name(id) == "Void" => Type::Scalar(&VOID),
            Kind::Struct | Kind::Enum | Kind::Other => named(),
        }
    }

    /// A pointer of `bytes` to this.
    pub fn pointer(self, bytes: u64) -> Type {
        Type::Pointer(Arc::new(self), bytes)
    }

    /// Bytes; 0 for void, functions and what a PDB does not tell.
    pub fn size(&self) -> u64 {
        match self {
            Type::Scalar(scalar) => scalar.size,
            Type::Named(types, id) => types.size(*id),
            Type::Pointer(_, size) => *size,
            Type::Array(of, count) => of.size().saturating_mul(*count),
        }
    }

    /// What a pointer points to or an array is of.
    pub fn element(&self) -> Option<&Type> {
        match self {
            Type::Pointer(of, _) | Type::Array(of, _) => Some(of),
            _ => None,
        }
    }

    /// True for structures and unions.
    pub fn is_struct(&self) -> bool {
        matches!(self, Type::Named(types, id) if types.kind(*id) == Kind::Struct)
    }

    /// True for enumerations.
    pub fn is_enum(&self) -> bool {
        matches!(self, Type::Named(types, id) if types.kind(*id) == Kind::Enum)
    }

    /// The integer that calculations take this type for: of an enumeration, the one under it.
    pub fn arithmetic(&self) -> Option<&'static Scalar> {
        match self {
            Type::Scalar(scalar) if scalar.kind != Kind::Other => Some(scalar),
            Type::Named(types, id) if types.kind(*id) == Kind::Enum => {
                let under = types.element(*id)?;
                Some(scalar::of_pdb(types, under).unwrap_or(&INT))
            }
            _ => None,
        }
    }

    /// The name as `??` shows it: `unsigned int64`, `struct _EPROCESS *`, `unsigned char [15]`.
    pub fn name(&self) -> String {
        match self {
            Type::Scalar(scalar) => scalar.name.to_owned(),
            Type::Named(types, id) => {
                let name = types.name(*id);
                match types.kind(*id) {
                    Kind::Struct if types.is_union(*id) => format!("union {name}"),
                    Kind::Struct => format!("struct {name}"),
                    Kind::Other => "<function>".to_owned(),
                    _ => name,
                }
            }
            Type::Pointer(to, _) => match &**to {
                Type::Named(types, id) if types.kind(*id) == Kind::Other => {
                    format!("{} * ", types.name(*id).trim()).trim_end().to_owned()
                }
                to => {
                    let name = to.name();
                    if name.ends_with('*') { format!("{name}*") } else { format!("{name} *") }
                }
            },
            Type::Array(of, count) => format!("{} [{count}]", of.name()),
        }
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Scalar(a), Type::Scalar(b)) => a == b,
            (Type::Named(a, i), Type::Named(b, j)) => Arc::ptr_eq(a, b) && i == j,
            (Type::Pointer(a, _), Type::Pointer(b, _)) => a == b,
            (Type::Array(a, m), Type::Array(b, n)) => a == b && m == n,
            _ => false,
        }
    }
}

impl std::fmt::Debug for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}
