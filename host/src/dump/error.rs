//! Why a file cannot be opened as a kernel dump, and what is wrong with one that can.

use std::fmt;
use std::path::PathBuf;

use super::kind::{DumpKind, Machine};

/// Why a file cannot be opened. Every message says what was found, where, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// The operating system refused.
    #[error("cannot open {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said. It is part of the message, so it is no `source` to print again.
        error: std::io::Error,
    },
    /// A directory, device or pipe.
    #[error("{} is not a regular file: give the path of a dump file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Zero bytes.
    #[error(
        "{} is empty (0 bytes): the dump was never written, or the copy failed; copy it again",
        path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The first bytes are those of something else.
    #[error("{} is not a kernel dump: {found}", path.display())]
    NotADump {
        /// The file.
        path: PathBuf,
        /// What it is instead and what to do, for example "it is a PE image …".
        found: String,
    },
    /// A user-mode minidump.
    #[error(
        "{} is a user-mode minidump (MDMP{}), the memory of one process: kd reads kernel dumps; \
         use a user-mode debugger for it",
        path.display(),
        machine.map(|name| format!(", {name}")).unwrap_or_default()
    )]
    UserModeMinidump {
        /// The file.
        path: PathBuf,
        /// The machine, when the file still tells.
        machine: Option<&'static str>,
    },
    /// The file ends inside its header.
    #[error(
        "{} is cut at 0x{size:x}: {what} needs 0x{needed:x} bytes; the copy is incomplete, copy it again",
        path.display()
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: &'static str,
        /// Where the file ends.
        size: u64,
        /// How many bytes the file would have to have.
        needed: u64,
    },
    /// A machine kd does not read.
    #[error(
        "{} is a kernel dump of an unsupported machine, {} (0x{number:x} at offset 0x{offset:x}): \
         kd reads x86, x64 and arm64",
        path.display(),
        Machine::name_of_number(*number).unwrap_or("unknown")
    )]
    UnsupportedMachine {
        /// The file.
        path: PathBuf,
        /// The `IMAGE_FILE_MACHINE_*` number.
        number: u32,
        /// Where it stands.
        offset: u64,
    },
    /// A `DumpType` that is unknown, or that this header cannot have.
    #[error("{} has the unknown dump type 0x{number:x} at offset 0x{offset:x}", path.display())]
    UnknownKind {
        /// The file.
        path: PathBuf,
        /// The number.
        number: u32,
        /// Where it stands.
        offset: u64,
    },
    /// A table of the file that nothing can be read without is damaged.
    #[error("{} is damaged: {what} at offset 0x{offset:x}: {why}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The table.
        what: &'static str,
        /// Where it stands.
        offset: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A cabinet that no dump can be taken from.
    #[error("{}: {why}", path.display())]
    Cabinet {
        /// The cabinet.
        path: PathBuf,
        /// What was found and what to do.
        why: String,
    },
    /// A member was asked for, and the file is no archive.
    #[error("{} is not a cabinet, so it has no member \"{member}\"", path.display())]
    NotAnArchive {
        /// The file.
        path: PathBuf,
        /// The member that was asked for.
        member: String,
    },
    /// The file ends before its data does, and the caller wants whole dumps only.
    #[error("{}: {problem}; copy it again, or open what is left with --partial", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The [`Problem::Truncated`].
        problem: Problem,
    },
    /// The progress callback asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Something that is wrong with a dump that can still be used.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Problem {
    /// The file ends before its data does.
    Truncated {
        /// The kind of dump.
        kind: DumpKind,
        /// Where the file ends.
        size: u64,
        /// Where it should end.
        expected: u64,
        /// What is lost, for example "1200 of 524288 pages".
        lost: String,
    },
    /// A table or field is damaged; what depends on it is missing.
    Damaged {
        /// The table or field.
        what: String,
        /// Its file offset.
        offset: u64,
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Truncated { kind, size, expected, lost } => write!(
                f,
                "the file ends at 0x{size:x}, this {kind} dump should reach 0x{expected:x}: {lost} lost"
            ),
            Problem::Damaged { what, offset, why } => write!(f, "{what} at offset 0x{offset:x}: {why}"),
        }
    }
}
