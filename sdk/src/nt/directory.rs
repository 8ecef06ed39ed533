//! The namespace of objects: directories and the way from a path to an object.
//!
//! A directory is a table of buckets (`HashBuckets`), each a chain of entries. Every walk is bounded.

use super::object::{Object, Objects};
use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::types::Type;
use std::collections::HashSet;

/// Offset of the variable that points to the root, in KDDEBUGGER_DATA64.
const KD_ROOT: u32 = 0x98;
/// Entries of one directory that are believed.
const MOST_ENTRIES: usize = 0x1_0000;

/// Reads directories; keep one for a command.
pub struct Directories<'a> {
    session: &'a Session<'a>,
    entry: Type<'a>,
    buckets: u64,
}

/// What a directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Bucket and object of each entry, in order of the table.
    pub entries: Vec<(u64, Va)>,
    /// What was not followed, and why.
    pub problems: Vec<String>,
}

impl<'a> Directories<'a> {
    /// Finds out how this kernel's directories are made.
    ///
    /// # Errors
    /// Without the kernel's types.
    pub fn new(session: &'a Session<'a>) -> Result<Directories<'a>> {
        let directory = session.types().find("nt!_OBJECT_DIRECTORY")?;
        let table = directory.require("HashBuckets")?;
        let pointer = u64::from(session.target().pointer_size());
        Ok(Directories {
            session,
            entry: session.types().find("nt!_OBJECT_DIRECTORY_ENTRY")?,
            buckets: (table.size / pointer).min(64),
        })
    }

    /// The root of the namespace.
    ///
    /// # Errors
    /// Where it is not known or not readable.
    pub fn root(&self) -> Result<Va> {
        super::pointer_variable(self.session, "ObpRootDirectoryObject", Some(KD_ROOT))
    }

    /// What the directory at `directory` holds.
    ///
    /// # Errors
    /// Where its table cannot be read, and when the user interrupts.
    pub fn contents(&self, directory: Va) -> Result<Contents> {
        let memory = self.session.memory();
        let pointer = u64::from(self.session.target().pointer_size());
        let (mut found, mut seen) = (Contents::default(), HashSet::new());
        for bucket in 0..self.buckets {
            // The table is the first thing in a directory.
            let mut at = memory.pointer(directory.add(bucket * pointer))?;
            while !at.is_null() {
                self.session.check_interrupt()?;
                if !seen.insert(at) || seen.len() > MOST_ENTRIES {
                    found.problems.push(format!("the chain of bucket {bucket} comes back to {at}"));
                    break;
                }
                let next = || {
                    Ok::<_, Error>((
                        self.entry.at(at).pointer("Object")?,
                        self.entry.at(at).pointer("ChainLink")?,
                    ))
                };
                match next() {
                    Ok((object, next)) => {
                        found.entries.push((bucket, object));
                        at = next;
                    }
                    Err(Error::Interrupted) => return Err(Error::Interrupted),
                    Err(error) => {
                        found.problems.push(format!("bucket {bucket}: {error}"));
                        break;
                    }
                }
            }
        }
        Ok(found)
    }

    /// The object of a path, `\Device\Harddisk0`; case does not matter.
    ///
    /// # Errors
    /// Where a part of the path does not exist; the text says which.
    pub fn find(&self, objects: &Objects<'_>, path: &str) -> Result<Object> {
        let mut object = objects.at(self.root()?)?;
        let mut done = String::new();
        for part in path.split('\\').filter(|part| !part.is_empty()) {
            if &*object.kind_name != "Directory" {
                return Err(Error::NotFound(format!("{done} is a {}, no directory", object.kind_name)));
            }
            let contents = self.contents(object.body)?;
            let (mut unread, mut wanted) = (0u64, None);
            for &(_, body) in &contents.entries {
                let name = objects.at(body).and_then(|object| Ok((objects.name(&object)?, object)));
                match name {
                    Ok((Some(name), object)) if name.text.to_lowercase() == part.to_lowercase() => {
                        wanted = Some(object);
                        break;
                    }
                    Ok(_) => {}
                    Err(_) => unread += 1,
                }
            }
            object = wanted.ok_or_else(|| {
                let wrong = match (contents.problems.first(), unread) {
                    (Some(problem), _) => format!(" ({problem})"),
                    (None, 0) => String::new(),
                    (None, unread) => format!(" ({unread} of its entries cannot be read)"),
                };
                let place = if done.is_empty() { "the root" } else { &done };
                Error::NotFound(format!("{place} holds no object called {part}{wrong}"))
            })?;
            done = format!("{done}\\{part}");
        }
        Ok(object)
    }
}
