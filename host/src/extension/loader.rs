//! Opens extension libraries and closes them again: the only place that names `libloading`.
//!
//! A *private copy* of the file is loaded, so that the file can be replaced while it is in use, and so that loading
//! it again gets the new one. The copy lives in a folder that only this user can enter and goes away at once on
//! Unix (the mapping stays), at unload on Windows.

#![allow(unsafe_code)]

use kd_sdk::abi::{self, Extension, RStr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// No honest extension is larger; the private copy must not fill the disk.
const MAX_FILE: u64 = 256 << 20;

/// Why a file is not an extension that can be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read or copied.
    #[error("cannot load {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system's loader refused the file.
    #[error("cannot load {path}: not a library that this system can load ({reason})")]
    NotALibrary {
        /// The file.
        path: PathBuf,
        /// What the system's loader said, without the name of the private copy.
        reason: String,
    },
    /// A library, but not one of ours.
    #[error("cannot load {path}: a library, but no kd extension (it has no kdext_entry)")]
    NotAnExtension {
        /// The file.
        path: PathBuf,
    },
    /// The entry point returned something else than a table.
    #[error("cannot load {path}: its kdext_entry does not return an extension table")]
    BadTable {
        /// The file.
        path: PathBuf,
    },
    /// Built for another ABI.
    #[error(
        "cannot load {path}: {name} was built for extension ABI {major}.{minor}, this kd speaks {}.{}; rebuild it \
         with the SDK of this kd",
        abi::MAJOR,
        abi::MINOR
    )]
    Abi {
        /// The file.
        path: PathBuf,
        /// The extension.
        name: String,
        /// Its ABI.
        major: u16,
        /// See `major`.
        minor: u16,
    },
    /// The versions agree but the tables do not.
    #[error("cannot load {path}: its tables are not laid out as this kd's: {mismatch}; rebuild it")]
    Layout {
        /// The file.
        path: PathBuf,
        /// The first difference.
        mismatch: abi::LayoutMismatch,
    },
}

/// One command of a loaded extension, copied out of it.
#[derive(Clone, Debug)]
pub struct CommandRow {
    /// Index for the extension's `run`.
    pub index: u32,
    /// Name, lower case.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// One line.
    pub summary: String,
    /// Arguments.
    pub usage: String,
    /// The long text; may be empty.
    pub help: String,
    /// Bits of [`kd_sdk::abi::needs`].
    pub needs: u32,
}

/// A loaded extension.
pub struct Loaded {
    /// The file the user knows.
    pub path: PathBuf,
    /// The name in `!NAME.command`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What built it.
    pub built_by: String,
    /// One line.
    pub summary: String,
    /// ABI it was built for.
    pub abi: (u16, u16),
    /// Its commands.
    pub commands: Vec<CommandRow>,
    /// True if the layouts of all tables were compared and agree.
    pub proved: bool,
    /// When the file was last changed, as of loading.
    pub modified: Option<SystemTime>,
    /// A command of it was abandoned and may still be running: it must stay mapped for good.
    stuck: AtomicBool,
    table: *const Extension,
    library: Option<libloading::Library>,
    /// On Windows the copy can only be deleted after unloading.
    _copy: Option<tempfile::TempDir>,
}

// SAFETY: the table is constant data of the library plus functions that the ABI allows on any thread, and `Loaded`
// keeps the library mapped.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

impl Loaded {
    /// Loads the extension in `path`.
    pub fn open(path: &Path) -> Result<Loaded, LoadError> {
        let path = path.to_owned();
        let file_error = |source| LoadError::File { path: path.clone(), source };
        let metadata = std::fs::metadata(&path).map_err(file_error)?;
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            let kind = if metadata.is_file() { "larger than 256 MiB" } else { "not a file" };
            return Err(file_error(std::io::Error::other(kind)));
        }
        let folder = tempfile::Builder::new().prefix("kd-").tempdir().map_err(file_error)?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        let copy = folder.path().join(name);
        std::fs::copy(&path, &copy).map_err(file_error)?;
        // SAFETY: loading runs the library's initialisers: the user asked to run this extension's code.
        let library = unsafe { libloading::Library::new(&copy) }.map_err(|error| LoadError::NotALibrary {
            path: path.clone(),
            reason: system_reason(&error, &copy),
        })?;
        let copy = if cfg!(unix) {
            drop(folder);
            None
        } else {
            Some(folder)
        };
        // SAFETY: the symbol of this name has this type in every extension; the table is checked below.
        let entry = unsafe { library.get::<unsafe extern "C" fn() -> *const Extension>(abi::ENTRY_SYMBOL) };
        let Ok(entry) = entry else { return Err(LoadError::NotAnExtension { path }) };
        // SAFETY: see `entry`.
        let table = unsafe { entry() };
        Loaded::check(path, table, library, copy, metadata.modified().ok())
    }

    fn check(
        path: PathBuf,
        table: *const Extension,
        library: libloading::Library,
        copy: Option<tempfile::TempDir>,
        modified: Option<SystemTime>,
    ) -> Result<Loaded, LoadError> {
        if table.is_null() || !table.is_aligned() {
            return Err(LoadError::BadTable { path });
        }
        // The head (magic, size, versions) is frozen for all time; the rest is read only once the head fits.
        // SAFETY: not null, aligned; a library that exports `kdext_entry` returns a table with this head.
        let (magic, size, major, minor, min_host) = unsafe {
            let head = &*table;
            (head.magic, head.size, head.abi_major, head.abi_minor, head.min_host_minor)
        };
        if magic != abi::MAGIC {
            return Err(LoadError::BadTable { path });
        }
        // Major version 0: every minor version may differ.
        let same = major == abi::MAJOR && (abi::MAJOR > 0 || minor == abi::MINOR) && min_host <= abi::MINOR;
        if !same || (size as usize) < size_of::<Extension>() {
            let name = super::path::spoken_name(&path);
            return Err(LoadError::Abi { path, name, major, minor });
        }
        // SAFETY: magic, version and size are right.
        let block = unsafe { &(*table).v1 };
        // SAFETY: the pointers come from a loaded extension.
        let proved = unsafe { abi::check_blocks(block.abi_header, block.layouts, block.layout_count) }
            .map_err(|mismatch| LoadError::Layout { path: path.clone(), mismatch })?;
        let commands = block
            .commands
            .iter()
            .zip(0..)
            .map(|(row, index)| CommandRow {
                index,
                name: row.name.to_string().to_lowercase(),
                aliases: row.aliases.iter().map(|alias| alias.to_string().to_lowercase()).collect(),
                summary: row.summary.to_string(),
                usage: row.usage.to_string(),
                help: row.help.to_string(),
                needs: row.needs,
            })
            .collect();
        Ok(Loaded {
            name: block.name.to_string(),
            version: block.version.to_string(),
            built_by: block.built_by.to_string(),
            summary: block.summary.to_string(),
            abi: (major, minor),
            commands,
            proved,
            modified,
            stuck: AtomicBool::new(false),
            table,
            library: Some(library),
            _copy: copy,
            path,
        })
    }

    /// Runs a command of this extension on the calling thread.
    pub(super) fn run(&self, host: &abi::Host, index: u32, args: &str) -> i32 {
        // SAFETY: the table was checked and the library is mapped; `host` outlives the call.
        unsafe { ((*self.table).v1.run)(host, index, RStr::from_str(args)) }
    }

    /// The command of this name, ignoring case.
    pub fn command(&self, name: &str) -> Option<&CommandRow> {
        let same = |known: &String| known.eq_ignore_ascii_case(name);
        self.commands.iter().find(|row| same(&row.name) || row.aliases.iter().any(same))
    }

    /// True if the file on disk is not the one that was loaded.
    pub fn replaced(&self) -> bool {
        std::fs::metadata(&self.path).and_then(|data| data.modified()).ok() != self.modified
    }

    /// From now on the library stays mapped: a thread of it was abandoned.
    pub(super) fn pin(&self) {
        self.stuck.store(true, Ordering::Release);
    }

    /// True once a command of it was abandoned.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Acquire)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let Some(library) = self.library.take() else { return };
        if self.is_stuck() {
            std::mem::forget(library);
            return;
        }
        // SAFETY: the last call into the library; nobody holds the table any more.
        unsafe { ((*self.table).v1.unload)() };
        drop(library);
    }
}

/// The system's words without the path of the private copy.
fn system_reason(error: &libloading::Error, copy: &Path) -> String {
    use std::error::Error as _;
    let text = error.source().map_or_else(|| error.to_string(), |source| source.to_string());
    let text = text.replace(&copy.display().to_string(), "");
    text.trim_start_matches([':', ' ']).trim().to_owned()
}
