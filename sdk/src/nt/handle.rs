//! Handle tables: up to three levels of pages, and entries that name object headers.
//!
//! The two low bits of `TableCode` are the level. Up to Windows 7 an entry is a pointer with attribute bits and an
//! access mask; since Windows 8 both are packed into bit fields.

use super::kernel::{Kernel, Record};
use super::process::Process;
use crate::address::{PAGE_SIZE, Va};
use crate::error::{Error, Result};
use std::collections::HashSet;
use std::ops::Range;

/// The most handles of one table: what three levels of pages on 32 bits can name.
const MOST_HANDLES: u64 = 1 << 24;
/// Handles count in fours.
const STEP: u64 = 4;
/// What marks the first entry of a page, which is no handle.
const PAGE_MARK: u64 = 0xffff_fffe;
/// Bits of an access mask that are rights.
const ACCESS: u64 = 0x01ff_ffff;

/// A handle table.
pub struct Table<'a> {
    /// The `_HANDLE_TABLE`.
    pub at: Va,
    record: Record<'a>,
}

/// An entry of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The handle.
    pub handle: u64,
    /// The entry.
    pub at: Va,
    /// What it names: an object header (in `PspCidTable` the object itself); null in free entries.
    pub object: Va,
    /// Rights.
    pub access: u64,
    /// Inherited by child processes.
    pub inherit: bool,
    /// Cannot be closed.
    pub protect: bool,
    /// Its closing is audited.
    pub audit: bool,
}

impl Entry {
    /// True where the entry names nothing.
    pub fn is_free(&self) -> bool {
        self.object.is_null()
    }
}

/// Where the parts of an entry are, resolved once.
struct Shape {
    size: u64,
    packed: bool,
    wide: bool,
}

impl<'a> Table<'a> {
    /// The handle table at an address.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(kernel: &Kernel<'a>, at: Va) -> Result<Table<'a>> {
        Ok(Table { at, record: kernel.read("_HANDLE_TABLE", at)? })
    }

    /// The table of a process; `None` once it is gone.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn of(kernel: &Kernel<'a>, process: &Process<'a>) -> Result<Option<Table<'a>>> {
        let at = process.object_table()?;
        if at.is_null() { Ok(None) } else { Table::read(kernel, at).map(Some) }
    }

    /// Handles in use, as the kernel counts them.
    pub fn count(&self) -> Result<u64> {
        self.record.first(&["HandleCount", "FreeLists[0].HandleCount"])
    }

    /// The first handle that the table has no room for.
    pub fn end(&self) -> Result<u64> {
        Ok(self.record.u64("NextHandleNeedingPool")?.min(MOST_HANDLES * STEP))
    }

    /// Visits the entries from `first` on until `visit` says false; also free ones.
    ///
    /// # Errors
    /// Where the table cannot be one or the user interrupts. Pages in a row that cannot be read are told to `lost`
    /// with their handles and why the first could not, and the walk goes on behind them.
    pub fn each(
        &self,
        kernel: &Kernel<'_>,
        first: u64,
        visit: &mut dyn FnMut(Entry) -> Result<bool>,
        lost: &mut dyn FnMut(Range<u64>, Error) -> Result<()>,
    ) -> Result<()> {
        let code = self.record.u64("TableCode")?;
        let (level, root) = (code & 3, Va(code & !3));
        if level > 2 {
            return Err(Error::Other(format!(
                "the handle table at {} has level {level}, which no Windows makes",
                kernel.session().target().show(self.at)
            )));
        }
        let entry = kernel.structure("_HANDLE_TABLE_ENTRY")?;
        let shape = Shape {
            size: entry.size().max(1),
            packed: entry.field("ObjectPointerBits").is_some(),
            wide: kernel.pointer_size() == 8,
        };
        let per_page = PAGE_SIZE / shape.size.min(PAGE_SIZE);
        let pointers = PAGE_SIZE / kernel.pointer_size();
        let end = self.end()?;
        let mut handle = first / STEP;
        let mut page = vec![0; PAGE_SIZE as usize];
        let mut seen = HashSet::new();
        let mut missing: Option<(u64, Error)> = None;
        while handle.saturating_mul(STEP) < end {
            kernel.session().check_interrupt()?;
            let number = handle / per_page;
            let start = number * per_page;
            let base = leaf(kernel, level, root, number, pointers).and_then(|base| match seen.insert(base) {
                true => Ok(base),
                false => Err(Error::Other(format!(
                    "the page of handles at {} stands in the table twice",
                    kernel.session().target().show(base)
                ))),
            });
            let read = base.and_then(|base| kernel.session().memory().read(base, &mut page).map(|()| base));
            match read {
                Ok(base) => {
                    if let Some((first, error)) = missing.take() {
                        lost(first * STEP..start * STEP, error)?;
                    }
                    for index in handle - start..per_page {
                        let handle = (start + index) * STEP;
                        let at = base.add(index * shape.size);
                        let bytes = page.get((index * shape.size) as usize..).unwrap_or_default();
                        let entry = shape.entry(handle, at, bytes);
                        // The first entry of a page belongs to the table itself.
                        if handle >= end
                            || index == 0 && (entry.is_free() || entry.access == PAGE_MARK & ACCESS)
                        {
                            continue;
                        }
                        if !visit(entry)? {
                            return Ok(());
                        }
                    }
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => {
                    missing.get_or_insert((start, error));
                }
            }
            handle = start + per_page;
        }
        missing.map_or(Ok(()), |(first, error)| lost(first * STEP..end, error))
    }

    /// The entry of one handle.
    ///
    /// # Errors
    /// Where it cannot be read, or the table is not that long.
    pub fn entry(&self, kernel: &Kernel<'_>, handle: u64) -> Result<Entry> {
        let (mut found, mut why) = (None, None);
        self.each(
            kernel,
            handle,
            &mut |entry| {
                found = Some(entry);
                Ok(false)
            },
            &mut |_, error| {
                why.get_or_insert(error);
                Ok(())
            },
        )?;
        match (found.filter(|entry| entry.handle == handle & !(STEP - 1)), why) {
            (Some(entry), _) => Ok(entry),
            (None, Some(error)) => Err(error),
            (None, None) => Err(Error::NotFound(format!("the table has no handle {handle:#x}"))),
        }
    }
}

/// The address of a page of entries.
fn leaf(kernel: &Kernel<'_>, level: u64, root: Va, number: u64, pointers: u64) -> Result<Va> {
    let memory = kernel.session().memory();
    let step = kernel.pointer_size();
    let follow = |table: Va, index: u64| match memory.pointer(table.add(index * step))? {
        page if page.is_null() => Err(Error::NotFound("a page of the handle table is missing".to_owned())),
        page => Ok(page),
    };
    let page = match level {
        0 if number == 0 => root,
        0 => return Err(Error::NotFound("a handle table of one page has no more".to_owned())),
        1 if number < pointers => follow(root, number)?,
        1 => return Err(Error::NotFound("a handle table of two levels has no more pages".to_owned())),
        _ => follow(follow(root, number / pointers)?, number % pointers)?,
    };
    let target = kernel.session().target();
    if page.0 % PAGE_SIZE != 0 || !target.is_kernel(page) {
        return Err(Error::Other(format!("{} is no page of handles", target.show(page))));
    }
    Ok(page)
}

impl Shape {
    fn entry(&self, handle: u64, at: Va, bytes: &[u8]) -> Entry {
        let word = |at: usize, len: usize| {
            bytes
                .get(at..at + len)
                .map_or(0, |bytes| bytes.iter().rev().fold(0u64, |sum, &b| sum << 8 | u64::from(b)))
        };
        let (low, high) = if self.wide { (word(0, 8), word(8, 4)) } else { (word(0, 4), word(4, 4)) };
        let object = match (self.packed, self.wide) {
            (true, true) if low >> 20 == 0 => 0,
            // The pointer's bits 4 to 47; the kernel's addresses have all bits above them set.
            (true, true) => low >> 20 << 4 | 0xffff << 48,
            _ => low & !7,
        };
        let attributes = match (self.packed, self.wide) {
            (true, true) => low >> 17 & 7,
            (true, false) => low >> 1 & 3,
            (false, _) => low & 7,
        };
        let protect = match (self.packed, self.wide) {
            (true, true) => attributes & 1 != 0,
            (true, false) => high >> 25 & 1 != 0,
            (false, _) => high >> 25 & 1 != 0,
        };
        let (inherit, audit) = match (self.packed, self.wide) {
            (true, false) => (attributes & 1 != 0, attributes & 2 != 0),
            _ => (attributes & 2 != 0, attributes & 4 != 0),
        };
        Entry { handle, at, object: Va(object), access: high & ACCESS, inherit, protect, audit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_all_shapes() {
        let entry = |packed, wide, low: u64, high: u32| {
            let mut bytes = Vec::new();
            match wide {
                true => bytes.extend(low.to_le_bytes()),
                false => bytes.extend((low as u32).to_le_bytes()),
            }
            bytes.extend(high.to_le_bytes());
            let size = if wide { 16 } else { 8 };
            Shape { size, packed, wide }.entry(8, Va(0x1000), &bytes)
        };
        let object = 0xffff_ac0f_1240_3390u64;
        let packed = entry(true, true, (object >> 4) << 20 | 2 << 17 | 1, 0x1f_0003);
        assert_eq!((packed.object, packed.access), (Va(object), 0x1f_0003));
        assert_eq!((packed.inherit, packed.protect, packed.audit), (true, false, false));
        let old = entry(false, true, object | 1, 0x021f_ffff);
        assert_eq!((old.object, old.access, old.protect, old.inherit), (Va(object), 0x1f_ffff, true, false));
        let narrow = entry(true, false, 0x8512_3458 | 1, 0x21);
        assert_eq!((narrow.object, narrow.access), (Va(0x8512_3458), 0x21));
        assert!(entry(true, true, 1, 0).is_free());
    }
}
