//! The function table of a module (`.pdata`): finding the entry of a function, whatever is missing around it.

use super::{CodeView, Missing, ModuleRange, Origin};
use crate::image::{Directory, Headers, ImageBytes};
use kd_sdk::address::Va;
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

/// The headers of the modules met on one walk.
#[derive(Default)]
pub struct Tables {
    headers: HashMap<Va, Option<Rc<Headers>>>,
}

/// A module's bytes by RVA; remembers whether any came from an image file.
pub struct ModuleBytes<'a> {
    code: &'a dyn CodeView,
    module: ModuleRange,
    origin: Cell<Origin>,
}

impl<'a> ModuleBytes<'a> {
    /// The bytes of a module.
    pub fn new(code: &'a dyn CodeView, module: ModuleRange) -> ModuleBytes<'a> {
        ModuleBytes { code, module, origin: Cell::new(Origin::Dump) }
    }

    /// Where the bytes that were read came from.
    pub fn origin(&self) -> Origin {
        self.origin.get()
    }
}

impl ImageBytes for ModuleBytes<'_> {
    fn read(&self, rva: u32, into: &mut [u8]) -> bool {
        // What an image points to outside itself is not its own.
        if u64::from(rva).saturating_add(into.len() as u64) > self.module.size {
            return false;
        }
        match self.code.read_image(&self.module, rva, into) {
            Some(Origin::ImageFile) => {
                self.origin.set(Origin::ImageFile);
                true
            }
            Some(Origin::Dump) => true,
            None => false,
        }
    }
}

impl Tables {
    /// The headers of a module.
    pub fn headers(&mut self, code: &dyn CodeView, module: &ModuleRange) -> Option<Rc<Headers>> {
        let find = || Headers::parse(&ModuleBytes::new(code, *module)).ok().map(Rc::new);
        self.headers.entry(module.base).or_insert_with(find).clone()
    }

    /// The function table of a module.
    pub fn table(&mut self, code: &dyn CodeView, module: &ModuleRange) -> Result<Directory, Missing> {
        let headers = self.headers(code, module).ok_or(Missing::Headers)?;
        headers.exception_directory().ok_or(Missing::Table)
    }
}

/// The last of the entries of `size` bytes whose first field is at most `rva`, by halving. `Ok(None)` where `rva` is
/// before all of them.
pub fn find_entry<const SIZE: usize>(
    bytes: &ModuleBytes<'_>,
    table: Directory,
    rva: u32,
) -> Result<Option<[u8; SIZE]>, Missing> {
    let entry = |index: u32| -> Result<[u8; SIZE], Missing> {
        let mut entry = [0; SIZE];
        let at = index.checked_mul(SIZE as u32).and_then(|at| table.rva.checked_add(at));
        match at {
            Some(at) if bytes.read(at, &mut entry) => Ok(entry),
            _ => Err(Missing::Table),
        }
    };
    let begin = |entry: &[u8; SIZE]| number(entry, 0);
    let (mut low, mut high) = (0, table.size / SIZE as u32);
    let mut found = None;
    while low < high {
        let middle = low + (high - low) / 2;
        let here = entry(middle)?;
        if begin(&here) <= rva {
            found = Some(here);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(found)
}

/// The 32-bit number at an offset; 0 past the end.
pub fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u32::from_le_bytes)
}
