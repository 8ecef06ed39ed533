//! Objects: the header before every object, its type, its name and the way to it in the namespace.
//!
//! The header stands right before the body. Its type is a pointer (up to Vista) or an index into `ObTypeIndexTable`,
//! which Windows 10 hides: XORed with `ObHeaderCookie` and with a byte of the header's own address. What stands before
//! the header is said by offsets in it (up to Vista) or by `InfoMask`: bit 0 creator, bit 1 name, nearest first.

use super::string;
use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::types::Type;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// Bits of `InfoMask`.
const CREATOR_INFO: u64 = 1;
const NAME_INFO: u64 = 2;
/// The most directories on the way to an object.
const MOST_DIRECTORIES: usize = 64;

/// Reads objects; keep one for a command.
pub struct Objects<'a> {
    session: &'a Session<'a>,
    header: Type<'a>,
    type_index_table: Option<Va>,
    /// What type indices are XORed with, where the kernel hides them.
    cookie: OnceCell<Option<u64>>,
    type_names: RefCell<HashMap<Va, Rc<str>>>,
}

/// An object's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The object itself: EPROCESS, FILE_OBJECT…
    pub body: Va,
    /// Its `_OBJECT_HEADER`.
    pub header: Va,
    /// Its `_OBJECT_TYPE`.
    pub kind: Va,
    /// `Process`, `File`…
    pub kind_name: Rc<str>,
    /// References by pointers, as the kernel counts them.
    pub pointer_count: i64,
    /// Open handles.
    pub handle_count: i64,
    /// Its `_OBJECT_HEADER_NAME_INFO`, if it has one.
    pub name_info: Option<Va>,
}

/// An object's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The `_OBJECT_DIRECTORY` it is in; null for none.
    pub directory: Va,
    /// The last part of its path.
    pub text: String,
}

impl<'a> Objects<'a> {
    /// Finds out how this kernel's objects are made.
    ///
    /// # Errors
    /// Without the kernel's types.
    pub fn new(session: &'a Session<'a>) -> Result<Objects<'a>> {
        let header = session.types().find("nt!_OBJECT_HEADER")?;
        Ok(Objects {
            session,
            header,
            type_index_table: session.symbols().find("nt!ObTypeIndexTable").ok(),
            cookie: OnceCell::new(),
            type_names: RefCell::default(),
        })
    }

    /// The object whose body stands at `body`.
    ///
    /// # Errors
    /// Where its header cannot be read, or its type is none.
    pub fn at(&self, body: Va) -> Result<Object> {
        let header = Va(body.0.wrapping_sub(self.header.offset("Body")?));
        self.at_header(header)
    }

    /// The object whose header stands at `header`.
    ///
    /// # Errors
    /// As [`Objects::at`].
    pub fn at_header(&self, header: Va) -> Result<Object> {
        let read = self.header.at(header).snapshot()?;
        let kind = if self.header.field("TypeIndex").is_some() {
            self.type_of_index(self.decode(header, read.u64("TypeIndex")?)?)?
        } else {
            read.pointer("Type")?
        };
        let name_info = if self.header.field("InfoMask").is_some() {
            let mask = read.u64("InfoMask")?;
            let types = self.session.types();
            let creator = match mask & CREATOR_INFO {
                0 => 0,
                _ => types.find("nt!_OBJECT_HEADER_CREATOR_INFO")?.size(),
            };
            match mask & NAME_INFO {
                0 => None,
                _ => Some(creator + types.find("nt!_OBJECT_HEADER_NAME_INFO")?.size()),
            }
        } else {
            Some(read.u64("NameInfoOffset")?).filter(|offset| *offset != 0)
        };
        Ok(Object {
            body: header.add(self.header.offset("Body")?),
            header,
            kind,
            kind_name: self.type_name(kind)?,
            pointer_count: read.i64("PointerCount")?,
            handle_count: read.i64("HandleCount")?,
            name_info: name_info.map(|offset| Va(header.0.wrapping_sub(offset))),
        })
    }

    /// The index in the table of types that a header's byte stands for.
    fn decode(&self, header: Va, stored: u64) -> Result<u64> {
        let cookie = match self.cookie.get() {
            Some(&known) => known,
            None => {
                let at = self.session.symbols().find("nt!ObHeaderCookie").ok();
                let read = at.map(|at| self.session.memory().u8(at)).transpose()?.map(u64::from);
                *self.cookie.get_or_init(|| read)
            }
        };
        // A cookie may be 0; the address is in it all the same.
        Ok(cookie.map_or(stored, |cookie| stored ^ cookie ^ (header.0 >> 8 & 0xff)))
    }

    /// The `_OBJECT_TYPE` of an index (as [`Object`] headers have it, decoded).
    ///
    /// # Errors
    /// Where there is none of this index.
    pub fn type_of_index(&self, index: u64) -> Result<Va> {
        let table = self.type_index_table.ok_or_else(|| {
            Error::NoSymbols("nt!ObTypeIndexTable is not in the kernel's symbols".to_owned())
        })?;
        let pointer = u64::from(self.session.target().pointer_size());
        let kind = self.session.memory().pointer(table.add(index * pointer))?;
        // The first entries are null and a number that is no address.
        if index < 2 || !self.session.target().is_kernel(kind) {
            return Err(Error::NotFound(format!("{index:#x} is no type of objects")));
        }
        Ok(kind)
    }

    /// The name of an `_OBJECT_TYPE`, `Process`.
    ///
    /// # Errors
    /// Where it cannot be read, or is not text.
    pub fn type_name(&self, kind: Va) -> Result<Rc<str>> {
        if let Some(known) = self.type_names.borrow().get(&kind) {
            return Ok(known.clone());
        }
        let object_type = self.session.types().find("nt!_OBJECT_TYPE")?;
        let name = string::unicode(self.session.memory(), object_type.at(kind).address("Name")?)?;
        if name.is_empty() || name.len() > 64 || name.contains(char::is_control) {
            return Err(Error::NotFound(format!("no type of objects at {kind}")));
        }
        let name: Rc<str> = name.into();
        self.type_names.borrow_mut().insert(kind, name.clone());
        Ok(name)
    }

    /// The object's name, if it has one.
    ///
    /// # Errors
    /// Where it has one that cannot be read.
    pub fn name(&self, object: &Object) -> Result<Option<Name>> {
        let Some(info) = object.name_info else { return Ok(None) };
        let types = self.session.types().find("nt!_OBJECT_HEADER_NAME_INFO")?;
        let info = types.at(info);
        let text = string::unicode(self.session.memory(), info.address("Name")?)?;
        if text.is_empty() {
            return Ok(None);
        }
        Ok(Some(Name { directory: info.pointer("Directory")?, text }))
    }

    /// The whole path, `\Device\HarddiskVolume3`; just the name of an object in no directory; `None` for no name.
    ///
    /// # Errors
    /// Where a part cannot be read, or the way to the root has no end.
    pub fn path(&self, object: &Object) -> Result<Option<String>> {
        let Some(Name { mut directory, text }) = self.name(object)? else { return Ok(None) };
        if directory.is_null() {
            return Ok(Some(text));
        }
        let mut parts = vec![text];
        while !directory.is_null() {
            let Some(name) = self.name(&self.at(directory)?)? else { break };
            if name.directory.is_null() && name.text == "\\" {
                break;
            }
            if parts.len() > MOST_DIRECTORIES {
                return Err(Error::Other(format!("the path of the object at {} has no end", object.body)));
            }
            parts.push(name.text);
            directory = name.directory;
        }
        parts.push(String::new());
        parts.reverse();
        Ok(Some(parts.join("\\")))
    }
}
