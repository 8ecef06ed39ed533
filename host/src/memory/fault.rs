//! Why a read failed: one of four answers, the address, and the fact behind it.

use std::fmt;

use kd_sdk::address::{Pfn, Va};

pub use crate::dump::Absent;

/// A level of page tables, named as Windows names its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Level {
    /// The fifth level of x64 (`PML5E`).
    Pml5,
    /// The top of four levels (`PXE`).
    Pxe,
    /// The third level (`PPE`).
    Ppe,
    /// The second level (`PDE`).
    Pde,
    /// The last level (`PTE`).
    Pte,
    /// A prototype PTE, which stands in virtual memory.
    Prototype,
}

impl Level {
    /// `PXE`, `PPE`, `PDE`, `PTE`, …
    pub fn name(self) -> &'static str {
        match self {
            Level::Pml5 => "PML5E",
            Level::Pxe => "PXE",
            Level::Ppe => "PPE",
            Level::Pde => "PDE",
            Level::Pte => "PTE",
            Level::Prototype => "prototype PTE",
        }
    }
}

/// The fact behind a [`ReadFault`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Detail {
    /// The dump holds no memory at all.
    NoMemory,
    /// No block of this small dump holds the address.
    NoBlock,
    /// The block should be in the file, and the file is cut.
    BlockCut,
    /// No page tables are known: the header has no directory table base.
    NoPageTables,
    /// The address cannot exist on this machine.
    NotCanonical,
    /// The page is valid, its frame is not in the dump.
    Frame(Pfn),
    /// The frame should be in the file, and the file is cut or damaged.
    FrameBroken(Pfn),
    /// A page table on the way is not in the dump.
    Table(Level, Pfn),
    /// A page table on the way should be in the file, and the file is cut or damaged.
    TableBroken(Level, Pfn),
    /// An entry is zero.
    Zero(Level),
    /// An entry says the page has no contents yet (demand zero).
    DemandZero(Level, u64),
    /// An entry names a place in a page file: (level, entry, page file number, page offset in it).
    PageFile(Level, u64, u32, u64),
    /// An entry leads to a prototype PTE that cannot be followed: (entry, address of the prototype PTE or null).
    Prototype(u64, Va),
    /// The prototype PTE says the page is in a mapped file.
    MappedFile(u64),
    /// An entry has a form that no version of Windows writes.
    Unknown(Level, u64),
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Detail::NoMemory => f.write_str("the dump holds no memory, only a header"),
            Detail::NoBlock => f.write_str("no block of this small dump holds the address"),
            Detail::BlockCut => f.write_str("the file ends before this block"),
            Detail::NoPageTables => f.write_str("the header has no directory table base"),
            Detail::NotCanonical => f.write_str("not a canonical address"),
            Detail::Frame(pfn) => write!(f, "page {pfn} not present in the dump file"),
            Detail::FrameBroken(pfn) => write!(f, "the file is cut or damaged at page {pfn}"),
            Detail::Table(level, pfn) => {
                write!(f, "page table page {pfn} with the {} not present in the dump file", level.name())
            }
            Detail::TableBroken(level, pfn) => {
                write!(f, "the file is cut or damaged at page table page {pfn} with the {}", level.name())
            }
            Detail::Zero(level) => write!(f, "{} is zero", level.name()),
            Detail::DemandZero(level, entry) => write!(f, "{} {entry:x} is demand zero", level.name()),
            Detail::PageFile(level, entry, number, offset) => {
                write!(f, "{} {entry:x} is in page file {number} at page {offset:x}", level.name())
            }
            Detail::Prototype(entry, at) if at.is_null() => {
                write!(f, "PTE {entry:x} is a prototype that only the address descriptors resolve")
            }
            Detail::Prototype(entry, at) => {
                write!(f, "PTE {entry:x} leads to the prototype PTE at {at}, which cannot be read")
            }
            Detail::MappedFile(entry) => {
                write!(f, "prototype PTE {entry:x} says the page is in a mapped file")
            }
            Detail::Unknown(level, entry) => write!(f, "{} {entry:x} has no known form", level.name()),
        }
    }
}

/// A read that could not be done at `at`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{at}: {why} ({detail})")]
pub struct ReadFault {
    /// The first address that cannot be read.
    pub at: Va,
    /// Which of the four answers.
    pub why: Absent,
    /// The fact behind it.
    pub detail: Detail,
}
