//! Types of the target's modules: ask by name whether a type or a field exists, never by build number.
//!
//! Names and paths are looked up once a command; then they cost a table look-up. For many fields of one structure read
//! it once: [`At::snapshot`].

use crate::abi::{FieldInfo, TypeRef, status};
use crate::address::Va;
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::session::Session;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

pub use crate::abi::kind;

/// The target's types.
#[derive(Clone, Copy)]
pub struct Types<'a> {
    pub(crate) session: &'a Session<'a>,
}

/// A type with its fields as they are asked for. Cheap to clone.
#[derive(Clone)]
pub struct Type<'a> {
    session: &'a Session<'a>,
    known: Rc<Known>,
}

/// What a command has learned of a type.
pub(crate) struct Known {
    name: String,
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
    /// The address space.
    space: u64,
}

/// The bytes of a structure, read at once.
#[derive(Clone)]
pub struct Snapshot<'t, 'a> {
    /// Where it was read.
    pub at: At<'t, 'a>,
    bytes: Vec<u8>,
    /// Why the rest is missing.
    fault: Option<Error>,
}

impl<'a> Types<'a> {
    /// A type by name, `nt!_EPROCESS`.
    pub fn find(&self, name: &str) -> Result<Type<'a>> {
        if let Some(known) = self.session.types.borrow().get(name) {
            return Ok(Type { session: self.session, known: Rc::clone(known) });
        }
        let mut handle = TypeRef::default();
        let code = self.session.calls.type_by_name(name, &mut handle);
        self.session.check(code)?;
        let found = Type::new(self.session, name, handle);
        self.session.types.borrow_mut().insert(name.to_owned(), Rc::clone(&found.known));
        Ok(found)
    }

    /// The first of these types that exists.
    pub fn find_any(&self, names: &[&str]) -> Result<Type<'a>> {
        let mut last = Error::NotFound("no type was named".to_owned());
        for name in names {
            match self.find(name) {
                Ok(found) => return Ok(found),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl<'a> Type<'a> {
    pub(crate) fn new(session: &'a Session<'a>, name: &str, handle: TypeRef) -> Type<'a> {
        Type { session, known: Rc::new(Known { name: name.to_owned(), handle, fields: RefCell::default() }) }
    }

    /// The session that it was asked of.
    pub fn session(&self) -> &'a Session<'a> {
        self.session
    }

    /// As asked for.
    pub fn name(&self) -> &str {
        &self.known.name
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.known.handle.size
    }

    /// The type's own name, `_EPROCESS`, however it was asked for.
    pub fn own_name(&self) -> Option<String> {
        let mut name = String::new();
        let code = self.session.calls.type_name(self.known.handle.id, &mut name);
        (code == status::OK).then_some(name)
    }

    /// A field by path, `Tcb.ApcState.Process`; `None` where this build has none.
    pub fn field(&self, path: &str) -> Option<FieldInfo> {
        if let Some(known) = self.known.fields.borrow().get(path) {
            return *known;
        }
        let mut info = FieldInfo::default();
        let code = self.session.calls.field(self.known.handle.id, path, &mut info);
        let info = (code == status::OK).then_some(info);
        self.known.fields.borrow_mut().insert(path.to_owned(), info);
        info
    }

    /// True where this build has the field.
    pub fn has(&self, path: &str) -> bool {
        self.field(path).is_some()
    }

    /// The first of these fields that this build has: for fields that were renamed or moved.
    pub fn any<'p>(&self, paths: &[&'p str]) -> Option<&'p str> {
        paths.iter().copied().find(|path| self.has(path))
    }

    /// A field that must exist.
    pub fn require(&self, path: &str) -> Result<FieldInfo> {
        self.field(path).ok_or_else(|| Error::NoSymbols(format!("{} has no field {path}", self.name())))
    }

    /// Offset of a field that must exist.
    pub fn offset(&self, path: &str) -> Result<u64> {
        Ok(self.require(path)?.offset)
    }

    /// The type of a field (for an array or a pointer: the element's): of an enumeration, for its names.
    pub fn of_field(&self, path: &str) -> Result<Type<'a>> {
        let field = self.require(path)?;
        Ok(Type::new(self.session, &format!("{}.{path}", self.name()), field.element))
    }

    /// Every field in order of declaration.
    pub fn fields(&self) -> Result<Vec<(String, FieldInfo)>> {
        let mut list = Vec::new();
        let code = self.session.calls.each_field(self.known.handle.id, &mut |name, field| {
            list.push((name.to_owned(), *field));
            true
        });
        self.session.check(code)?;
        Ok(list)
    }

    /// The name of an enumeration's value.
    pub fn enum_name(&self, value: i64) -> Option<String> {
        let mut name = String::new();
        let code = self.session.calls.enum_name(self.known.handle.id, value, &mut name);
        (code == status::OK).then_some(name)
    }

    /// This structure at an address of the current address space.
    pub fn at(&self, va: Va) -> At<'_, 'a> {
        At { of: self, va, space: 0 }
    }
}

/// The number in a field's bytes; bit fields are cut out. `None` where the field is larger than a number.
pub(crate) fn number(field: &FieldInfo, stored: &[u8]) -> Option<u64> {
    let mut bytes = [0; 8];
    bytes.get_mut(..stored.len())?.copy_from_slice(stored);
    let value = u64::from_le_bytes(bytes);
    Some(match field.bit_length {
        0 | 64.. => value,
        bits => value.wrapping_shr(field.bit_position) & ((1 << bits) - 1),
    })
}

/// The number in a field of a structure's bytes, for tables of structures that are read in large pieces. `None` where
/// the bytes end before it, or it is larger than a number.
pub fn field_number(field: &FieldInfo, bytes: &[u8]) -> Option<u64> {
    let start = usize::try_from(field.offset).ok()?;
    number(field, bytes.get(start..start.checked_add(usize::try_from(field.size).ok()?)?)?)
}

/// The same of a signed field.
pub(crate) fn signed(field: &FieldInfo, value: u64) -> i64 {
    let bits = match field.bit_length {
        0 => field.size.saturating_mul(8).min(64) as u32,
        bits => bits.min(64),
    };
    let unused = 64 - bits.max(1);
    (value << unused) as i64 >> unused
}

impl<'t, 'a> At<'t, 'a> {
    /// The same structure, read through another address space.
    #[must_use]
    pub fn within(self, memory: Memory<'_>) -> At<'t, 'a> {
        At { space: memory.space, ..self }
    }

    /// The memory it is read from.
    pub fn memory(&self) -> Memory<'a> {
        Memory { session: self.of.session, space: self.space }
    }

    /// The address of a field.
    pub fn address(&self, path: &str) -> Result<Va> {
        Ok(self.va.add(self.of.offset(path)?))
    }

    /// A field of at most 8 bytes as an unsigned number; bit fields are cut out.
    pub fn u64(&self, path: &str) -> Result<u64> {
        let field = self.of.require(path)?;
        let mut bytes = [0; 8];
        let place = usize::try_from(field.size).ok().and_then(|size| bytes.get_mut(..size));
        let place = place.ok_or_else(|| self.not_a_number(path, &field))?;
        self.memory().read(self.va.add(field.offset), place)?;
        number(&field, place).ok_or_else(|| self.not_a_number(path, &field))
    }

    /// A field of at most 8 bytes as a signed number.
    pub fn i64(&self, path: &str) -> Result<i64> {
        Ok(signed(&self.of.require(path)?, self.u64(path)?))
    }

    /// A pointer field.
    pub fn pointer(&self, path: &str) -> Result<Va> {
        self.u64(path).map(Va)
    }

    /// All of it in one read. Where memory ends inside it, the fields before can be had.
    ///
    /// # Errors
    /// Where nothing of it can be read, or it is larger than 1 MiB.
    pub fn snapshot(&self) -> Result<Snapshot<'t, 'a>> {
        let size = usize::try_from(self.of.size()).unwrap_or(usize::MAX);
        if size > 1 << 20 {
            return Err(Error::Other(format!("{} has {size:#x} bytes, too many at once", self.of.name())));
        }
        let mut bytes = vec![0; size];
        let (done, fault) = self.memory().read_some(self.va, &mut bytes)?;
        bytes.truncate(done);
        match fault {
            Some(error) if done == 0 => Err(error),
            fault => Ok(Snapshot { at: *self, bytes, fault }),
        }
    }

    fn not_a_number(&self, path: &str, field: &FieldInfo) -> Error {
        Error::Other(format!("{}.{path} is {} bytes, not a number", self.of.name(), field.size))
    }
}

impl Snapshot<'_, '_> {
    /// The address of a field.
    pub fn address(&self, path: &str) -> Result<Va> {
        self.at.address(path)
    }

    /// The bytes of a field.
    pub fn bytes(&self, path: &str) -> Result<&[u8]> {
        let field = self.at.of.require(path)?;
        self.stored(&field)
    }

    fn stored(&self, field: &FieldInfo) -> Result<&[u8]> {
        let start = usize::try_from(field.offset).ok();
        let end = field.offset.checked_add(field.size).and_then(|end| usize::try_from(end).ok());
        match start.zip(end).and_then(|(start, end)| self.bytes.get(start..end)) {
            Some(bytes) => Ok(bytes),
            None => Err(self.fault.clone().unwrap_or_else(|| {
                Error::NoSymbols(format!("a field of {} is outside of it", self.at.of.name()))
            })),
        }
    }

    /// A field of at most 8 bytes as an unsigned number; bit fields are cut out.
    pub fn u64(&self, path: &str) -> Result<u64> {
        let field = self.at.of.require(path)?;
        number(&field, self.stored(&field)?).ok_or_else(|| self.at.not_a_number(path, &field))
    }

    /// The same; `None` where this build has no such field.
    pub fn get(&self, path: &str) -> Result<Option<u64>> {
        if self.at.of.has(path) { self.u64(path).map(Some) } else { Ok(None) }
    }

    /// A field of at most 8 bytes as a signed number.
    pub fn i64(&self, path: &str) -> Result<i64> {
        Ok(signed(&self.at.of.require(path)?, self.u64(path)?))
    }

    /// A pointer field.
    pub fn pointer(&self, path: &str) -> Result<Va> {
        self.u64(path).map(Va)
    }

    /// A field of characters, up to a NUL; bytes above 0x7f are taken for Latin-1.
    pub fn ansi(&self, path: &str) -> Result<String> {
        let bytes = self.bytes(path)?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        Ok(bytes.iter().take(end).map(|&byte| char::from(byte)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_signs() {
        let byte = FieldInfo { size: 1, ..FieldInfo::default() };
        assert_eq!(number(&byte, &[0xff]), Some(0xff));
        assert_eq!(signed(&byte, 0xff), -1);
        let bits = FieldInfo { size: 4, bit_position: 14, bit_length: 3, ..FieldInfo::default() };
        let value = number(&bits, &0x1_4000u32.to_le_bytes()).unwrap();
        assert_eq!((value, signed(&bits, value)), (5, -3));
        let large = FieldInfo { size: 16, ..FieldInfo::default() };
        assert_eq!(number(&large, &[0; 16]), None);
        assert_eq!(signed(&FieldInfo { size: 8, ..FieldInfo::default() }, u64::MAX), -1);
    }
}
