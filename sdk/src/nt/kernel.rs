//! The kernel's structures as one command reads them.
//!
//! A [`Record`] owns the bytes of one structure as far as they can be read in one go; a field behind a hole is read by
//! itself, so that it tells its own reason when it is absent: small dumps hold parts of structures.

use super::string;
use crate::abi::FieldInfo;
use crate::address::Va;
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::session::Session;
use crate::types::{self, Type};

/// Bytes of a structure that are read at once; what lies beyond is read field by field.
const MOST_BYTES: u64 = 0x1_0000;

/// `DumpType` of a dump that is a header alone.
const HEADER_ONLY: u32 = 3;

/// The kernel of the session's target.
#[derive(Clone, Copy)]
pub struct Kernel<'a> {
    session: &'a Session<'a>,
}

/// A structure at an address, with its bytes.
#[derive(Clone)]
pub struct Record<'a> {
    of: Type<'a>,
    /// Its address.
    pub va: Va,
    memory: Memory<'a>,
    bytes: Vec<u8>,
}

impl<'a> Kernel<'a> {
    /// The kernel of the session's target.
    pub fn new(session: &'a Session<'a>) -> Kernel<'a> {
        Kernel { session }
    }

    /// The session.
    pub fn session(&self) -> &'a Session<'a> {
        self.session
    }

    /// Bytes of a pointer.
    pub fn pointer_size(&self) -> u64 {
        self.session.target().pointer_size().into()
    }

    /// An address as the target's pointers hold it: 32 bits of a 32-bit target.
    pub fn address(&self, value: u64) -> Va {
        Va(if self.pointer_size() == 4 { value & 0xffff_ffff } else { value })
    }

    /// A type of the kernel by its own name, `_EPROCESS`.
    ///
    /// # Errors
    /// Says which symbols are missing and how to get them.
    pub fn structure(&self, name: &str) -> Result<Type<'a>> {
        self.session.types().find(&format!("nt!{name}")).map_err(|error| match error {
            Error::NotFound(_) => Error::NoSymbols(format!("the kernel's symbols have no type {name}")),
            // The list of modules is memory too.
            Error::NoSymbols(_) if self.session.target().info().dump_kind == HEADER_ONLY => {
                Error::Unsupported("this dump has nothing but its header: memory is not captured".to_owned())
            }
            Error::NoSymbols(why) => Error::NoSymbols(format!(
                "this needs the type {name} from the kernel's symbols: {why}; then .reload"
            )),
            other => other,
        })
    }

    /// The offset of a field; `None` where this build has no such type or field.
    pub fn offset(&self, name: &str, path: &str) -> Option<u64> {
        self.structure(name).ok()?.field(path).map(|field| field.offset)
    }

    /// The structure called `name` at `va`.
    ///
    /// # Errors
    /// Where the type is unknown, or not even the first byte can be read.
    pub fn read(&self, name: &str, va: Va) -> Result<Record<'a>> {
        self.read_in(self.session.memory(), name, va)
    }

    /// The same in another address space.
    ///
    /// # Errors
    /// As for [`Kernel::read`].
    pub fn read_in(&self, memory: Memory<'a>, name: &str, va: Va) -> Result<Record<'a>> {
        let of = self.structure(name)?;
        let mut bytes = vec![0; usize::try_from(of.size().min(MOST_BYTES)).unwrap_or(0)];
        let (done, fault) = memory.read_some(va, &mut bytes)?;
        match fault {
            Some(error) if done == 0 => return Err(error),
            _ => bytes.truncate(done),
        }
        Ok(Record { of, va, memory, bytes })
    }

    /// Why what stands at `at` is no dispatcher object of a type (`KOBJECTS`), where it can be read and is none.
    pub fn refuse(&self, at: Va, kind: u8, what: &str) -> Option<String> {
        // The type is the first byte in all versions; its top bit is a lock in some.
        let found = self.session.memory().u8(at).ok()? & 0x7f;
        let at = self.session.target().show(at);
        (found != kind)
            .then(|| format!("{at} is not a {what} object: its dispatcher type is {found:#x}, not {kind}"))
    }

    /// The name of an enumeration's value.
    pub fn enum_name(&self, name: &str, value: u64) -> Option<String> {
        self.structure(name).ok()?.enum_name(i64::try_from(value).ok()?)
    }
}

impl<'a> Record<'a> {
    /// True where this build has the field.
    pub fn has(&self, path: &str) -> bool {
        self.of.field(path).is_some()
    }

    /// Bytes of the structure.
    pub fn size(&self) -> u64 {
        self.of.size()
    }

    /// The memory that it was read from.
    pub fn memory(&self) -> Memory<'a> {
        self.memory
    }

    /// The address of a field.
    ///
    /// # Errors
    /// Where this build has no such field.
    pub fn address(&self, path: &str) -> Result<Va> {
        Ok(self.va.add(self.of.offset(path)?))
    }

    /// A field of at most 8 bytes; bit fields are cut out.
    ///
    /// # Errors
    /// Where this build has no such field, or it cannot be read.
    pub fn u64(&self, path: &str) -> Result<u64> {
        let field = self.of.require(path)?;
        self.number(&field).map_err(|error| match error {
            Error::Other(text) => Error::Other(format!("{}.{path} {text}", self.of.name())),
            other => other,
        })
    }

    fn number(&self, field: &FieldInfo) -> Result<u64> {
        let mut value = [0; 8];
        let size = usize::try_from(field.size).unwrap_or(usize::MAX);
        let Some(place) = value.get_mut(..size) else {
            return Err(Error::Other(format!("is {size} bytes, not a number")));
        };
        let start = usize::try_from(field.offset).unwrap_or(usize::MAX);
        match start.checked_add(size).and_then(|end| self.bytes.get(start..end)) {
            Some(bytes) => place.copy_from_slice(bytes),
            None => self.memory.read(self.va.add(field.offset), place)?,
        }
        types::number(field, place).ok_or_else(|| Error::Other("is not a number".to_owned()))
    }

    /// The first of these fields that this build has.
    ///
    /// # Errors
    /// Where it has none of them, or the first cannot be read.
    pub fn first(&self, paths: &[&str]) -> Result<u64> {
        match paths.iter().find(|path| self.has(path)) {
            Some(path) => self.u64(path),
            None => Err(Error::NoSymbols(format!("{} has no field {}", self.of.name(), paths.join(" or ")))),
        }
    }

    /// A signed field.
    ///
    /// # Errors
    /// As for [`Record::u64`].
    pub fn i64(&self, path: &str) -> Result<i64> {
        Ok(types::signed(&self.of.require(path)?, self.u64(path)?))
    }

    /// A pointer.
    ///
    /// # Errors
    /// As for [`Record::u64`].
    pub fn pointer(&self, path: &str) -> Result<Va> {
        self.u64(path).map(Va)
    }

    /// The pointer of an `EX_FAST_REF`, or of a plain pointer where this build has that.
    ///
    /// # Errors
    /// As for [`Record::u64`].
    pub fn fast_reference(&self, path: &str) -> Result<Va> {
        let inner = format!("{path}.Value");
        if !self.has(&inner) {
            return self.pointer(path);
        }
        let size = self.of.require(&inner)?.size as u32;
        Ok(super::fast_ref(self.u64(&inner)?, size))
    }

    /// Bytes of the structure from a field on.
    ///
    /// # Errors
    /// As for [`Record::u64`].
    pub fn bytes(&self, path: &str, len: usize) -> Result<Vec<u8>> {
        let start = self.of.offset(path)?;
        let at = usize::try_from(start).unwrap_or(usize::MAX);
        match at.checked_add(len).and_then(|end| self.bytes.get(at..end)) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => self.memory.bytes(self.va.add(start), len),
        }
    }

    /// A field of characters, up to its NUL; what is not printable becomes `.`.
    ///
    /// # Errors
    /// As for [`Record::u64`].
    pub fn text(&self, path: &str) -> Result<String> {
        let len = usize::try_from(self.of.require(path)?.size).unwrap_or(0).min(0x200);
        let bytes = self.bytes(path, len)?;
        let text = bytes.iter().take_while(|&&byte| byte != 0);
        Ok(text
            .map(|&byte| if matches!(byte, 0x20..0x7f | 0xa0..) { char::from(byte) } else { '.' })
            .collect())
    }

    /// The text of a `UNICODE_STRING` field, in one line.
    ///
    /// # Errors
    /// As for [`Record::u64`], and where the text cannot be read.
    pub fn unicode(&self, path: &str) -> Result<String> {
        string::unicode(self.memory, self.address(path)?).map(|text| string::one_line(&text))
    }
}
