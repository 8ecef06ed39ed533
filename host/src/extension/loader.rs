//! Opens extension libraries and closes them again: the only place that names `libloading`.
//!
//! A *private copy* of the file is loaded, so that the file can be replaced while it is in use, and so that loading
//! it again gets the new one. The copy lives in a folder that only this user can enter, in memory where the system has
//! such folders (on a disk it takes longer than all other work of a load), and goes away at once on Unix (the mapping
//! stays), at unload on Windows. Where the system runs nothing from these folders (`noexec`), the file itself is loaded.
//!
//! Every call into a library is made on a thread that ends before the library is closed: thread-local data with a
//! destructor would keep it mapped.

#![allow(unsafe_code)]

use kd_sdk::abi::{self, Extension, RStr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// No honest extension is larger; the private copy must not fill the disk.
const MAX_FILE: u64 = 256 << 20;
/// More commands, or more other names of one, are not believed.
const MAX_COMMANDS: usize = 4096;

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
    /// The entry point returned something else than a table that can be used.
    #[error("cannot load {path}: its kdext_entry does not return an extension table ({why})")]
    BadTable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
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
    /// Built for this ABI, but it cannot do without newer services.
    #[error(
        "cannot load {path}: {name} needs extension ABI {}.{minor} or newer, this kd speaks {}.{}",
        abi::MAJOR,
        abi::MAJOR,
        abi::MINOR
    )]
    NeedsNewer {
        /// The file.
        path: PathBuf,
        /// The extension.
        name: String,
        /// The oldest minor version it works with.
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
    /// The file itself is mapped, not a copy of it: it must not be overwritten.
    pub in_place: bool,
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
        on_own_thread(|| Loaded::open_here(path))
            .unwrap_or_else(|source| Err(LoadError::File { path: path.to_owned(), source }))
    }

    fn open_here(path: &Path) -> Result<Loaded, LoadError> {
        let file_error = |source| LoadError::File { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(file_error)?;
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            let kind = if metadata.is_file() { "larger than 256 MiB" } else { "not a file" };
            return Err(file_error(std::io::Error::other(kind)));
        }
        let mapped = Mapped::new(path, metadata.modified().ok())?;
        // SAFETY: the symbol of this name has this type in every extension; the table is checked below.
        let entry =
            unsafe { mapped.library.get::<unsafe extern "C" fn() -> *const Extension>(abi::ENTRY_SYMBOL) };
        let Ok(entry) = entry else { return Err(LoadError::NotAnExtension { path: path.to_owned() }) };
        // SAFETY: see `entry`.
        let table = unsafe { entry() };
        Loaded::check(path.to_owned(), table, mapped)
    }

    fn check(path: PathBuf, table: *const Extension, mapped: Mapped) -> Result<Loaded, LoadError> {
        if table.is_null() || !table.is_aligned() {
            return Err(LoadError::BadTable { path, why: "the pointer is null or crooked" });
        }
        // The head (magic, size, versions) is frozen for all time; the rest is read only once the head fits.
        // SAFETY: not null, aligned; a library that exports `kdext_entry` returns a table with this head.
        let (magic, size, major, minor, min_host) = unsafe {
            ((*table).magic, (*table).size, (*table).abi_major, (*table).abi_minor, (*table).min_host_minor)
        };
        if magic != abi::MAGIC {
            return Err(LoadError::BadTable { path, why: "it does not begin with KDEXT" });
        }
        // Major version 0: every minor version may differ.
        let same = major == abi::MAJOR && (abi::MAJOR != 0 || minor == abi::MINOR);
        if !same {
            let name = super::path::spoken_name(&path);
            return Err(LoadError::Abi { path, name, major, minor });
        }
        if min_host > abi::MINOR {
            let name = super::path::spoken_name(&path);
            return Err(LoadError::NeedsNewer { path, name, minor: min_host });
        }
        if (size as usize) < size_of::<Extension>() {
            return Err(LoadError::BadTable { path, why: "it is smaller than its version says" });
        }
        // SAFETY: magic, version and size are right.
        let block = unsafe { &(*table).v1 };
        // SAFETY: the pointers come from a loaded extension.
        let proved = unsafe { abi::check_blocks(block.abi_header, block.layouts, block.layout_count) }
            .map_err(|mismatch| LoadError::Layout { path: path.clone(), mismatch })?;
        // SAFETY: the table of a loaded extension.
        let Some((texts, commands)) = block.run.and_then(|_| unsafe { copy_out(block) }) else {
            return Err(LoadError::BadTable {
                path,
                why: "run is null, or a text or table is null or too long",
            });
        };
        let [name, version, built_by, summary] = texts;
        Ok(Loaded {
            name: if name.is_empty() { super::path::spoken_name(&path) } else { name },
            version,
            built_by,
            summary,
            abi: (major, minor),
            commands,
            proved,
            modified: mapped.modified,
            in_place: mapped.in_place,
            stuck: AtomicBool::new(false),
            table,
            library: Some(mapped.library),
            _copy: mapped.copy,
            path,
        })
    }

    /// Runs a command of this extension on the calling thread.
    pub(super) fn run(&self, host: &abi::Host, index: u32, args: &str) -> i32 {
        // SAFETY: the table was checked and the library is mapped; `host` outlives the call.
        unsafe {
            match (*self.table).v1.run {
                Some(run) => run(host, index, RStr::from_str(args)),
                None => abi::status::UNSUPPORTED,
            }
        }
    }

    /// Tells this extension of a change (see [`abi::event`]) on the calling thread.
    pub(super) fn notify(&self, host: &abi::Host, event: u32, argument: u64) -> i32 {
        // SAFETY: as above.
        unsafe {
            match (*self.table).v1.notify {
                Some(notify) => notify(host, event, argument),
                None => abi::status::OK,
            }
        }
    }

    /// True if it wants to be told of changes.
    pub fn wants_notes(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.table).v1.notify.is_some() }
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
        let table = Entry(self.table);
        // SAFETY: the last call into the library; nobody holds the table any more.
        match on_own_thread(move || unsafe { table.unload() }) {
            Ok(_) => drop(library),
            // It could not say good-bye: better kept than torn down half.
            Err(_) => std::mem::forget(library),
        }
    }
}

/// The table on its way to another thread.
struct Entry(*const Extension);

// SAFETY: see `Loaded`.
unsafe impl Send for Entry {}

impl Entry {
    /// # Safety
    /// The library is mapped, and this is the last call into it.
    unsafe fn unload(self) -> i32 {
        // SAFETY: the caller's promise.
        unsafe { (*self.0).v1.unload.map_or(abi::status::OK, |unload| unload()) }
    }
}

/// A library in memory.
struct Mapped {
    library: libloading::Library,
    /// On Windows the copy can only be deleted after unloading.
    copy: Option<tempfile::TempDir>,
    in_place: bool,
    modified: Option<SystemTime>,
}

impl Mapped {
    fn new(path: &Path, modified: Option<SystemTime>) -> Result<Mapped, LoadError> {
        let bytes =
            std::fs::read(path).map_err(|source| LoadError::File { path: path.to_owned(), source })?;
        let refused = |reason| LoadError::NotALibrary { path: path.to_owned(), reason };
        if super::elf::is_cut(&bytes) {
            return Err(refused("the file is cut short".to_owned()));
        }
        for parent in private_folders() {
            if let Ok((folder, copy)) = private_copy(&parent, path, &bytes)
                // SAFETY: loading runs the library's initialisers: the user asked to run this extension's code.
                && let Ok(library) = unsafe { libloading::Library::new(&copy) }
            {
                let copy = if cfg!(unix) { None } else { Some(folder) };
                return Ok(Mapped { library, copy, in_place: false, modified });
            }
        }
        // SAFETY: as above. A relative name would be looked for along the system's path.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        match unsafe { libloading::Library::new(&path) } {
            Ok(library) => Ok(Mapped { library, copy: None, in_place: true, modified }),
            Err(error) => Err(refused(system_reason(&error, &path))),
        }
    }
}

/// Where private copies may be, best first.
fn private_folders() -> impl Iterator<Item = PathBuf> {
    let memory = cfg!(target_os = "linux").then(|| PathBuf::from("/dev/shm"));
    memory.into_iter().chain([std::env::temp_dir()])
}

/// Writes the copy that is loaded, in a folder of its own.
fn private_copy(parent: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::Builder::new().prefix("kd-").tempdir_in(parent)?;
    let copy = folder.path().join(path.file_name().unwrap_or(path.as_os_str()));
    std::fs::write(&copy, bytes)?;
    Ok((folder, copy))
}

/// Runs `body` on a thread that has ended, with its thread-local data, when this returns.
fn on_own_thread<T: Send>(body: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("extension".to_owned()).spawn_scoped(scope, body)?;
        thread.join().map_err(|_| std::io::Error::other("its start panicked"))
    })
}

/// Copies the names out of an extension: name, version, builder and summary, and the commands. `None` where its
/// table cannot be right.
///
/// # Safety
/// The block belongs to a mapped library.
unsafe fn copy_out(block: &abi::ExtensionV1) -> Option<([String; 4], Vec<CommandRow>)> {
    // SAFETY: the caller's promise; null and absurd values are looked for.
    let text = |text: RStr<'_>| unsafe { abi::text_of(text) }.map(String::from);
    // SAFETY: as above.
    let rows = unsafe { abi::entries_of(block.commands, MAX_COMMANDS) }?;
    let mut commands = Vec::new();
    for (row, index) in rows.iter().zip(0..) {
        // SAFETY: as above.
        let aliases = unsafe { abi::entries_of(row.aliases, MAX_COMMANDS) }?;
        let aliases: Option<Vec<String>> =
            aliases.iter().map(|alias| Some(text(*alias)?.to_lowercase())).collect();
        commands.push(CommandRow {
            index,
            name: text(row.name)?.to_lowercase(),
            aliases: aliases?,
            summary: text(row.summary)?,
            usage: text(row.usage)?,
            help: text(row.help)?,
            needs: row.needs,
        });
    }
    let texts = [text(block.name)?, text(block.version)?, text(block.built_by)?, text(block.summary)?];
    Some((texts, commands))
}

/// The system's words without the path of the private copy.
fn system_reason(error: &libloading::Error, copy: &Path) -> String {
    use std::error::Error as _;
    let text = error.source().map_or_else(|| error.to_string(), |source| source.to_string());
    let text = text.replace(&copy.display().to_string(), "");
    text.trim_start_matches([':', ' ']).trim().to_owned()
}
