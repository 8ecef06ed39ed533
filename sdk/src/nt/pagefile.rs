//! Page files: `_MMPAGING_FILE` behind the array `MmPagingFile`, or in the system's partition since Windows 10.

use super::memory::{self, Counter};
use super::string;
use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::Session;

/// The most page files Windows has.
pub const MOST_PAGE_FILES: u64 = 16;

/// A page file. Sizes in pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFile {
    /// Its `_MMPAGING_FILE`.
    pub at: Va,
    /// Its place in the array, as page table entries name it.
    pub number: u64,
    /// NT path, or why there is none.
    pub name: core::result::Result<String, Error>,
    /// Now.
    pub size: u64,
    /// At least.
    pub minimum: u64,
    /// It may grow to this.
    pub maximum: u64,
    /// Of `size`, not used.
    pub free: u64,
    /// The most that was used.
    pub peak: u64,
    /// For whole working sets of programs that sleep, `swapfile.sys`.
    pub swap: bool,
    /// Backs the memory compression store, not the disk.
    pub store: bool,
}

/// Every page file.
///
/// # Errors
/// Where symbols are missing or the array cannot be read. What is wrong with one file is in its place.
pub fn page_files(session: &Session<'_>) -> Result<Vec<Result<PageFile>>> {
    let of = memory::kernel_type(session, "_MMPAGING_FILE")?;
    let array = array(session)?;
    let count = Counter::NumberOfPagingFiles.read(session)?.ok_or_else(|| {
        Error::NoSymbols(format!(
            "the number of page files is not known: none of {}",
            Counter::NumberOfPagingFiles.sought()
        ))
    })?;
    if count > MOST_PAGE_FILES {
        return Err(Error::Other(format!(
            "{count} page files cannot be: Windows has at most {MOST_PAGE_FILES}"
        )));
    }
    let (memory, step) = (session.memory(), u64::from(session.target().pointer_size()));
    let one = |number: u64| -> Result<PageFile> {
        let at = memory.pointer(array.add(number * step))?;
        if !session.target().is_kernel(at) {
            return Err(Error::Other(format!("entry {number} of the page files leads to {at}")));
        }
        let read = of.at(at).snapshot()?;
        let bit = |path| read.get(path).ok().flatten().is_some_and(|bit| bit != 0);
        let name = string::unicode(memory, read.address("PageFileName")?).map(|name| string::one_line(&name));
        Ok(PageFile {
            at,
            number,
            name,
            size: read.u64("Size")?,
            minimum: read.u64("MinimumSize")?,
            maximum: read.u64("MaximumSize")?,
            free: read.u64("FreeSpace")?,
            peak: read.get("PeakUsage")?.unwrap_or(0),
            swap: bit("WsSwapPagefile"),
            store: bit("VirtualStorePagefile"),
        })
    };
    Ok((0..count).map(one).collect())
}

fn array(session: &Session<'_>) -> Result<Va> {
    if let Ok(va) = super::variable(session, "MmPagingFile", None) {
        return Ok(va);
    }
    let partition = super::variable(session, "MiSystemPartition", None).map_err(|_| {
        Error::NoSymbols(format!(
            "neither nt!MmPagingFile nor nt!MiSystemPartition is in the kernel's symbols; {}",
            super::how_to_get_symbols(session)
        ))
    })?;
    memory::kernel_type(session, "_MI_PARTITION")?.at(partition).address("Vp.PagingFile")
}
