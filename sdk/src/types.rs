//! Types of the target's modules: ask by name whether a type or a field exists, never by build number.

use crate::abi::{FieldInfo, TypeRef, status};
use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::Session;
use std::cell::RefCell;
use std::collections::HashMap;

pub use crate::abi::kind;

/// The target's types.
#[derive(Clone, Copy)]
pub struct Types<'a> {
    pub(crate) session: &'a Session<'a>,
}

/// A structure with its fields as they are asked for; keep one for a command.
pub struct Type<'a> {
    session: &'a Session<'a>,
    /// As asked for.
    pub name: String,
    handle: TypeRef,
    fields: RefCell<HashMap<String, Option<FieldInfo>>>,
}

/// A structure at an address.
#[derive(Clone, Copy)]
pub struct At<'t, 'a> {
    /// The type.
    pub of: &'t Type<'a>,
    /// The address.
    pub va: Va,
}

impl<'a> Types<'a> {
    /// A type by name, `nt!_EPROCESS`.
    pub fn find(&self, name: &str) -> Result<Type<'a>> {
        let mut handle = TypeRef::default();
        let code = self.session.calls.type_by_name(name, &mut handle);
        self.session.check(code)?;
        Ok(Type { session: self.session, name: name.to_owned(), handle, fields: RefCell::default() })
    }
}

impl<'a> Type<'a> {
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.handle.size
    }

    /// The type's own name, `_EPROCESS`, however it was asked for.
    pub fn own_name(&self) -> Option<String> {
        let mut name = String::new();
        let code = self.session.calls.type_name(self.handle.id, &mut name);
        (code == status::OK).then_some(name)
    }

    /// A field by path, `Tcb.ApcState.Process`; `None` where this build has none.
    pub fn field(&self, path: &str) -> Option<FieldInfo> {
        if let Some(known) = self.fields.borrow().get(path) {
            return *known;
        }
        let mut info = FieldInfo::default();
        let code = self.session.calls.field(self.handle.id, path, &mut info);
        let info = (code == status::OK).then_some(info);
        self.fields.borrow_mut().insert(path.to_owned(), info);
        info
    }

    /// A field that must exist.
    pub fn require(&self, path: &str) -> Result<FieldInfo> {
        self.field(path).ok_or_else(|| Error::NoSymbols(format!("{} has no field {path}", self.name)))
    }

    /// Offset of a field that must exist.
    pub fn offset(&self, path: &str) -> Result<u64> {
        Ok(self.require(path)?.offset)
    }

    /// Every field in order of declaration.
    pub fn fields(&self) -> Result<Vec<(String, FieldInfo)>> {
        let mut list = Vec::new();
        let code = self.session.calls.each_field(self.handle.id, &mut |name, field| {
            list.push((name.to_owned(), *field));
            true
        });
        self.session.check(code)?;
        Ok(list)
    }

    /// The name of an enumeration's value.
    pub fn enum_name(&self, value: i64) -> Option<String> {
        let mut name = String::new();
        let code = self.session.calls.enum_name(self.handle.id, value, &mut name);
        (code == status::OK).then_some(name)
    }

    /// This structure at an address.
    pub fn at(&self, va: Va) -> At<'_, 'a> {
        At { of: self, va }
    }
}

impl At<'_, '_> {
    /// The address of a field.
    pub fn address(&self, path: &str) -> Result<Va> {
        Ok(self.va.add(self.of.offset(path)?))
    }

    /// A field of at most 8 bytes as an unsigned number; bit fields are cut out.
    pub fn u64(&self, path: &str) -> Result<u64> {
        let field = self.of.require(path)?;
        let mut bytes = [0; 8];
        let size = usize::try_from(field.size).unwrap_or(usize::MAX);
        let place = bytes
            .get_mut(..size)
            .ok_or_else(|| Error::Other(format!("{}.{path} is {size} bytes, not a number", self.of.name)))?;
        self.of.session.memory().read(self.va.add(field.offset), place)?;
        let value = u64::from_le_bytes(bytes);
        match field.bit_length {
            0 | 64.. => Ok(value),
            bits => Ok(value.wrapping_shr(field.bit_position) & ((1 << bits) - 1)),
        }
    }

    /// A pointer field.
    pub fn pointer(&self, path: &str) -> Result<Va> {
        self.u64(path).map(Va)
    }
}
