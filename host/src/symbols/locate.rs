//! Which PDB belongs to a module, and where it is.
//!
//! Three ways, from the surest to the last resort. The image in the target's memory names its PDB. Where that part
//! of memory was not captured (always so for the kernel of a small dump), the image file does, found in a store by
//! the module's time stamp and size. For the kernel alone, the dump header also tells the addresses of four
//! variables: a kernel PDB on this machine that has all of them at those places is the right one.

use super::error::{Search, SymbolError};
use super::expand::{expand, is_cabinet};
use super::images::{self, Images, extension};
use super::index::{Builder, Index};
use super::path::SymbolPath;
use super::pdb::{Names, PdbFile};
use super::store::{self, Found, Wanted};
use super::{Loaded, Module, ModuleSource, SymbolKind};
use crate::image::{self, DebugRecord, InMemory};
use kd_sdk::address::Va;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// How a PDB is known to belong to a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matched {
    /// The image in the target's memory names it.
    ImageInMemory,
    /// This image file, which has the module's time stamp and size, names it.
    ImageFile(PathBuf),
    /// It has the kernel's variables where the dump header says they are.
    HeaderAddresses,
    /// It belongs to another build, and the user wanted one all the same.
    Nothing,
}

impl std::fmt::Display for Matched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Matched::ImageInMemory => f.write_str("matched by the image in memory"),
            Matched::ImageFile(path) => write!(f, "matched by the image file {}", path.display()),
            Matched::Nothing => f.write_str("of another build: names and types may be wrong"),
            Matched::HeaderAddresses => f.write_str("matched by the addresses in the dump header"),
        }
    }
}

/// Names of the kernel's PDB over the versions.
const KERNEL_PDBS: &[&str] =
    &["ntkrnlmp.pdb", "ntoskrnl.pdb", "ntkrnlpa.pdb", "ntkrpamp.pdb", "ntkrla57.pdb"];

/// Kernel PDBs that are tried by address.
const CANDIDATES: usize = 256;

/// Where is looked, and what is taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// The symbol path.
    pub symbols: SymbolPath,
    /// The image path.
    pub images: SymbolPath,
    /// A PDB of another build is taken where the right one is not found.
    pub other_builds: bool,
}

impl Places {
    /// Where image files are looked for: the image path, then the symbol path.
    pub fn for_images(&self) -> SymbolPath {
        let mut path = self.images.clone();
        path.append(self.symbols.clone());
        path
    }
}

/// Finds a module's PDB.
pub(super) fn locate(
    places: &Places,
    images: &Images,
    source: &dyn ModuleSource,
    module: &Module<'_>,
) -> Result<Loaded, SymbolError> {
    let path = &places.symbols;
    let mut search = Search::default();
    let no_symbols = |search| SymbolError::NoSymbols { module: module.name.to_owned(), search };
    if path.is_empty() {
        search.wanted = "the symbol path is empty".to_owned();
        search.next = "set one with -y or .sympath, such as srv*FOLDER".to_owned();
        return Err(no_symbols(search));
    }
    let record = match from_memory(source, module) {
        Ok(record) => Some((record, Matched::ImageInMemory)),
        Err(why) => {
            search.look(format_args!("image of {} in the dump", module.name), why);
            from_image_file(places, images, module, &mut search)
        }
    };
    let Some((record, matched)) = record else {
        if module.is_kernel
            && let Some(loaded) = by_addresses(path, source, module, &mut search)
        {
            return Ok(loaded);
        }
        let name = image::file_name(module.image);
        search.wanted = match module.time_stamp {
            0 => format!("its PDB is not known, because {name} is not in the dump and has no time stamp"),
            stamp => format!(
                "its PDB is not known, because its image {name} {} was not found",
                image::image_key(stamp, module.size)
            ),
        };
        search.next = "add a store that holds the image or the PDB with -y or .sympath+".to_owned();
        return Err(no_symbols(search));
    };
    let key = record.id.to_string();
    let wanted = Wanted { name: &record.name, key: &key, extension: extension(module) };
    let mut others = false;
    let found = store::find(path, &wanted, &mut search, &mut |found| {
        let pdb = open(found).map_err(|error| error.to_string())?;
        if pdb.id() == record.id {
            Ok((found.path().to_owned(), pdb))
        } else {
            others = true;
            Err(format!("belongs to another build ({})", pdb.id()))
        }
    });
    search.others = others;
    match found {
        Some((file, pdb)) => Ok(loaded(file, pdb, matched)),
        None => {
            if places.other_builds
                && let Some((file, pdb)) = other_build(path, &record.name, &mut search)
            {
                return Ok(loaded(file, pdb, Matched::Nothing));
            }
            search.wanted = format!("{} {key} was not found", record.name);
            search.next = match path.server_names().next() {
                Some(server) => {
                    let server = server.trim_end_matches('/');
                    let name = &record.name;
                    format!("get {server}/{name}/{key}/{name} and put it into a store as {name}/{key}/{name}")
                }
                None => "add the store or folder that holds it with -y or .sympath+".to_owned(),
            };
            Err(no_symbols(search))
        }
    }
}

/// A file that the user says is the PDB.
pub(super) fn load_file(
    source: &dyn ModuleSource,
    module: &Module<'_>,
    path: &Path,
) -> Result<Loaded, SymbolError> {
    let pdb = open(&Found::File(path.to_owned()))?;
    let is_its_own = from_memory(source, module).is_ok_and(|record| record.id == pdb.id());
    Ok(loaded(path.to_owned(), pdb, if is_its_own { Matched::ImageInMemory } else { Matched::Nothing }))
}

/// Any PDB of this name.
fn other_build(path: &SymbolPath, name: &str, search: &mut Search) -> Option<(PathBuf, PdbFile)> {
    let found = store::all(path, name, search, CANDIDATES);
    found.into_iter().find_map(|found| Some((found.path().to_owned(), open(&found).ok()?)))
}

fn loaded(path: PathBuf, pdb: PdbFile, matched: Matched) -> Loaded {
    Loaded {
        path,
        id: pdb.id(),
        matched,
        pdb,
        names: Names::default(),
        index: OnceLock::new(),
        types: OnceLock::new(),
        typedefs: OnceLock::new(),
    }
}

fn open(found: &Found) -> Result<PdbFile, SymbolError> {
    match found {
        // Some tools keep the compressed file under the full name.
        Found::File(path) if is_cabinet(path) => match expand(path) {
            Ok(bytes) => PdbFile::from_bytes(path, bytes.into()),
            Err(error) => Err(SymbolError::Broken { path: path.clone(), why: error.to_string() }),
        },
        Found::File(path) => PdbFile::open(path),
        Found::Expanded { from, bytes } => PdbFile::from_bytes(from, Arc::clone(bytes)),
    }
}

/// The bytes of a module in the target's memory.
fn in_memory<'a>(
    source: &'a dyn ModuleSource,
    module: &'a Module<'_>,
) -> InMemory<impl Fn(u64, &mut [u8]) -> bool + 'a> {
    InMemory(|at: u64, into: &mut [u8]| {
        // What an image points to outside itself is not its own.
        let end = at.checked_add(into.len() as u64);
        end.is_some_and(|end| end <= module.size) && source.read(module.base.add(at), into)
    })
}

fn from_memory(source: &dyn ModuleSource, module: &Module<'_>) -> Result<DebugRecord, image::ImageError> {
    image::debug_record(&in_memory(source, module), None)
}

/// The names a module's image exports, for want of a PDB: from the image in memory, else from its file.
pub(super) fn exported(places: &Places, source: &dyn ModuleSource, module: &Module<'_>) -> Option<Index> {
    let memory = in_memory(source, module);
    let from_memory = || Some(image::exports(&memory, &image::Headers::parse(&memory).ok()?));
    let mut names = from_memory().unwrap_or_default();
    if names.is_empty() {
        let mut take = |file: image::ImageFile| Ok(image::exports(&file, file.headers()));
        // What a server has of it is in a cache by now.
        let path = places.for_images().unasked();
        names = images::find(&path, module, &mut Search::default(), &mut take).unwrap_or_default();
    }
    let mut index = Builder::default();
    for name in &names {
        index.plain(name.rva, name.name.as_bytes(), SymbolKind::Export, 0);
    }
    (!index.is_empty()).then(|| index.build())
}

fn from_image_file(
    places: &Places,
    images: &Images,
    module: &Module<'_>,
    search: &mut Search,
) -> Option<(DebugRecord, Matched)> {
    let file = match images.of(|| places.for_images(), module) {
        Ok(file) => file,
        Err(error) => {
            search.interrupted |= error.was_interrupted();
            for looked in error.looked() {
                search.look(&looked.place, &looked.found);
            }
            return None;
        }
    };
    match image::debug_record(&*file, None) {
        Ok(record) => Some((record, Matched::ImageFile(file.path().to_owned()))),
        Err(why) => {
            search.look(file.path().display(), why);
            None
        }
    }
}

/// The kernel by its variables' addresses.
fn by_addresses(
    path: &SymbolPath,
    source: &dyn ModuleSource,
    module: &Module<'_>,
    search: &mut Search,
) -> Option<Loaded> {
    let hints = source.kernel_hints();
    let known = [
        ("PsLoadedModuleList", hints.ps_loaded_module_list),
        ("PsActiveProcessHead", hints.ps_active_process_head),
        ("KdDebuggerDataBlock", hints.kd_debugger_data_block),
        ("MmPfnDatabase", hints.pfn_database),
    ];
    // A header may leave some out. One address that agrees could be chance; two are not.
    let known: Vec<(&str, Va)> = known.into_iter().filter(|(_, va)| module.holds(*va)).collect();
    if known.len() < 2 {
        search.look("the dump header", "gives too few addresses of kernel variables to know its PDB by them");
        return None;
    }
    for name in KERNEL_PDBS {
        for found in store::all(path, name, search, CANDIDATES) {
            let candidate =
                open(&found).map(|pdb| loaded(found.path().to_owned(), pdb, Matched::HeaderAddresses));
            let differs = candidate.as_ref().map_err(Clone::clone).and_then(|loaded| {
                let index = loaded.index()?;
                Ok(known.iter().find(|(name, va)| {
                    let rva = va.0.wrapping_sub(module.base.0);
                    index.find(name).map(u64::from) != Some(rva)
                }))
            });
            match (candidate, differs) {
                (Ok(loaded), Ok(None)) => return Some(loaded),
                (_, Ok(Some((name, _)))) => {
                    search.look(found.path().display(), format_args!("has {name} elsewhere"));
                }
                (_, Err(error)) | (Err(error), _) => search.look(found.path().display(), error),
            }
        }
    }
    None
}
