//! What can go wrong in a command, with the facts in it.

use crate::abi::{absent, status};
use crate::address::Va;
use core::fmt;

/// The result of nearly everything.
pub type Result<T> = core::result::Result<T, Error>;

/// Why memory could not be read. Four different answers, never mixed up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Absent {
    /// The target had it; the dump does not hold it.
    NotCaptured,
    /// The target had it outside of physical memory: in a page file or a mapped file.
    PagedOut,
    /// The target had nothing at this address.
    NotMapped,
    /// The file should hold it, and is cut or damaged there.
    Broken,
}

impl Absent {
    /// From the number that crosses the ABI.
    pub fn from_abi(code: u32) -> Absent {
        match code {
            absent::PAGED_OUT => Absent::PagedOut,
            absent::NOT_MAPPED => Absent::NotMapped,
            absent::BROKEN => Absent::Broken,
            _ => Absent::NotCaptured,
        }
    }

    /// To the number that crosses the ABI.
    pub fn to_abi(self) -> u32 {
        match self {
            Absent::NotCaptured => absent::NOT_CAPTURED,
            Absent::PagedOut => absent::PAGED_OUT,
            Absent::NotMapped => absent::NOT_MAPPED,
            Absent::Broken => absent::BROKEN,
        }
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Absent::NotCaptured => "not captured in this dump",
            Absent::PagedOut => "paged out",
            Absent::NotMapped => "not mapped",
            Absent::Broken => "the file is broken",
        })
    }
}

/// A command's failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// Memory that could not be read.
    Unreadable {
        /// First byte that is missing.
        at: Va,
        /// Why.
        why: Absent,
    },
    /// No such name, index or item; the text says which.
    NotFound(String),
    /// Symbols or types that are not loaded; the text says which.
    NoSymbols(String),
    /// The host, the dump or the machine does not have this.
    Unsupported(String),
    /// The user pressed Ctrl+C.
    Interrupted,
    /// An argument is wrong; the text says which and what was expected.
    Usage(String),
    /// Let the next extension with a command of this name answer.
    ContinueSearch,
    /// Anything else, in one line.
    Other(String),
}

impl Error {
    /// The status code that tells the host.
    pub fn status(&self) -> i32 {
        match self {
            Error::Unreadable { .. } => status::UNREADABLE,
            Error::NotFound(_) => status::NOT_FOUND,
            Error::NoSymbols(_) => status::NO_SYMBOLS,
            Error::Unsupported(_) => status::UNSUPPORTED,
            Error::Interrupted => status::INTERRUPTED,
            Error::Usage(_) => status::INVALID,
            Error::ContinueSearch => status::CONTINUE_SEARCH,
            Error::Other(_) => status::FAILED,
        }
    }

    /// From a host callback's status and its text.
    pub(crate) fn from_host(code: i32, text: String) -> Error {
        match code {
            status::NOT_FOUND => Error::NotFound(text),
            status::NO_SYMBOLS => Error::NoSymbols(text),
            status::UNSUPPORTED => Error::Unsupported(text),
            status::INTERRUPTED => Error::Interrupted,
            status::INVALID => Error::Usage(text),
            _ => Error::Other(text),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreadable { at, why } => write!(f, "cannot read {at}: {why}"),
            Error::Interrupted => f.write_str("interrupted"),
            Error::ContinueSearch => f.write_str("not handled here"),
            Error::NotFound(text)
            | Error::NoSymbols(text)
            | Error::Unsupported(text)
            | Error::Usage(text)
            | Error::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(text: String) -> Error {
        Error::Other(text)
    }
}

impl From<&str> for Error {
    fn from(text: &str) -> Error {
        Error::Other(text.to_owned())
    }
}
