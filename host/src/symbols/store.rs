//! Finding a file on the symbol path: in stores by name and key, in plain folders by name.
//!
//! A store is `STORE/NAME/KEY/NAME`, or with a third tier `STORE/na/NAME/KEY/NAME` (the first two letters of the
//! name). The file may be compressed (`NAME` with `_` for its last letter) or elsewhere (`file.ptr`). In a folder
//! three places are tried: `symbols/EXT/NAME`, `EXT/NAME` and `NAME`; a folder laid out as a store is taken as one
//! too. Names are compared without case, because stores are copied between systems. What a file holds is not
//! judged here but by the caller, place by place, until one is accepted.

use super::download::download;
use super::error::Search;
use super::expand::{compressed_name, expand};
use super::path::{ElementKind, Place, SymbolPath, default_store};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is looked for.
pub(super) struct Wanted<'a> {
    /// File name; must be plain (see `image::is_plain_name`).
    pub name: &'a str,
    /// Its folder in a store.
    pub key: &'a str,
    /// The extension of the image, for the subfolders of plain folders: `sys`.
    pub extension: &'a str,
}

/// A file that was found.
pub(super) enum Found {
    /// As it is.
    File(PathBuf),
    /// Expanded from the compressed file `from`.
    Expanded { from: PathBuf, bytes: Arc<Vec<u8>> },
}

impl Found {
    /// The file on disk.
    pub(super) fn path(&self) -> &Path {
        match self {
            Found::File(path) => path,
            Found::Expanded { from, .. } => from,
        }
    }
}

/// Names in one folder that are compared; a store has one for each file name it holds.
const NAMES: usize = 1 << 20;

/// Goes along the path until `accept` takes a file; what it refuses, and why, goes into `search`.
pub(super) fn find<T>(
    path: &SymbolPath,
    wanted: &Wanted<'_>,
    search: &mut Search,
    accept: &mut dyn FnMut(&Found) -> Result<T, String>,
) -> Option<T> {
    let mut caches: Vec<&Path> = Vec::new();
    for element in &path.elements {
        match &element.kind {
            ElementKind::Folder(folder) => {
                if let Some(taken) = in_folder(folder, wanted, search, accept) {
                    return Some(taken);
                }
            }
            ElementKind::Cache(folder) => {
                caches.push(folder);
                if let Some(taken) = in_store(folder, &[], wanted, search, accept) {
                    return Some(taken);
                }
            }
            ElementKind::Stores(places) => {
                let mut nearer = caches.clone();
                let own = default_store();
                let is_server = |place: &Place| matches!(place, Place::Server(_));
                let anew =
                    path.servers().is_some_and(|servers| servers.anew()) && places.iter().any(is_server);
                for place in places {
                    match place {
                        Place::Server(url) => {
                            if nearer.is_empty() {
                                if !anew && let Some(taken) = in_store(&own, &[], wanted, search, accept) {
                                    return Some(taken);
                                }
                                nearer.push(&own);
                            }
                            let Some(servers) = path.servers() else {
                                search.look(url, "not asked");
                                continue;
                            };
                            if search.interrupted {
                                continue;
                            }
                            if let Some(taken) = download(servers, url, &nearer, wanted, search, accept) {
                                return Some(taken);
                            }
                        }
                        Place::Store(store) if anew => nearer.push(store),
                        Place::Store(store) => {
                            if let Some(taken) = in_store(store, &nearer, wanted, search, accept) {
                                return Some(taken);
                            }
                            nearer.push(store);
                        }
                    }
                }
            }
        }
    }
    None
}

fn in_store<T>(
    store: &Path,
    caches: &[&Path],
    wanted: &Wanted<'_>,
    search: &mut Search,
    accept: &mut dyn FnMut(&Found) -> Result<T, String>,
) -> Option<T> {
    if !store.is_dir() {
        search.look(store.display(), "no such folder");
        return None;
    }
    let mut any = false;
    for folder in key_folders(store, wanted) {
        for found in in_key_folder(&folder, wanted.name, search) {
            any = true;
            match accept(&found) {
                Ok(taken) => {
                    for cache in caches {
                        keep(cache, wanted, &found);
                    }
                    return Some(taken);
                }
                Err(why) => search.look(found.path().display(), why),
            }
        }
    }
    if !any {
        search.look(store.display(), format_args!("holds no {}/{}", wanted.name, wanted.key));
    }
    None
}

fn in_folder<T>(
    folder: &Path,
    wanted: &Wanted<'_>,
    search: &mut Search,
    accept: &mut dyn FnMut(&Found) -> Result<T, String>,
) -> Option<T> {
    if !folder.is_dir() {
        search.look(folder.display(), "no such folder");
        return None;
    }
    let extension = child(folder, wanted.extension);
    let symbols = child(folder, "symbols").and_then(|symbols| child(&symbols, wanted.extension));
    let here = [symbols, extension, Some(folder.to_owned())];
    let places = here.into_iter().flatten().chain(key_folders(folder, wanted));
    let mut any = false;
    for place in places {
        for found in in_key_folder(&place, wanted.name, search) {
            any = true;
            match accept(&found) {
                Ok(taken) => return Some(taken),
                Err(why) => search.look(found.path().display(), why),
            }
        }
    }
    if !any {
        search.look(folder.display(), format_args!("holds no {}", wanted.name));
    }
    None
}

/// `NAME/KEY` and `na/NAME/KEY`, those that exist.
fn key_folders(store: &Path, wanted: &Wanted<'_>) -> impl Iterator<Item = PathBuf> {
    name_folders(store, wanted.name).filter_map(|folder| child(&folder, wanted.key))
}

fn name_folders(store: &Path, name: &str) -> impl Iterator<Item = PathBuf> {
    let letters: String = name.chars().take(2).collect();
    let third = child(store, &letters).and_then(|folder| child(&folder, name));
    [child(store, name), third].into_iter().flatten()
}

/// The file, its compressed form, and where its pointer leads.
fn in_key_folder(folder: &Path, name: &str, search: &mut Search) -> Vec<Found> {
    let mut found = Vec::new();
    if let Some(file) = child(folder, name).filter(|file| file.is_file()) {
        found.push(Found::File(file));
    }
    if let Some(file) = child(folder, &compressed_name(name)).filter(|file| file.is_file()) {
        match expand(&file) {
            Ok(bytes) => found.push(Found::Expanded { from: file, bytes: bytes.into() }),
            Err(error) => search.look(file.display(), format_args!("cannot be expanded: {error}")),
        }
    }
    if let Some(pointer) = child(folder, "file.ptr").filter(|file| file.is_file()) {
        match pointer_target(&pointer) {
            Ok(file) => found.push(Found::File(file)),
            Err(why) => search.look(pointer.display(), why),
        }
    }
    found
}

/// `file.ptr` holds `PATH:` and a path, or `MSG:` and a reason.
pub(super) fn pointer_target(pointer: &Path) -> Result<PathBuf, String> {
    let mut text = Vec::new();
    let file = fs::File::open(pointer).map_err(|error| error.to_string())?;
    file.take(4096).read_to_end(&mut text).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&text);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    if let Some(message) = text.strip_prefix("MSG:") {
        return Err(format!("says {}", message.trim()));
    }
    let target = PathBuf::from(text.strip_prefix("PATH:").unwrap_or(text).trim());
    if target.is_file() {
        Ok(target)
    } else {
        Err(format!("leads to {}, which is not there", target.display()))
    }
}

/// Every file of this name in every store and folder of the path, whatever its key; at most `limit`.
pub(super) fn all(path: &SymbolPath, name: &str, search: &mut Search, limit: usize) -> Vec<Found> {
    let mut found = Vec::new();
    let folders = path.elements.iter().flat_map(|element| match &element.kind {
        ElementKind::Folder(folder) | ElementKind::Cache(folder) => vec![folder.as_path()],
        ElementKind::Stores(places) => places
            .iter()
            .filter_map(|place| match place {
                Place::Store(store) => Some(store.as_path()),
                Place::Server(_) => None,
            })
            .collect(),
    });
    for store in folders {
        if let Some(file) = child(store, name).filter(|file| file.is_file()) {
            found.push(Found::File(file));
        }
        for folder in name_folders(store, name) {
            let Ok(keys) = fs::read_dir(&folder) else { continue };
            let mut keys: Vec<PathBuf> = keys.take(limit).flatten().map(|entry| entry.path()).collect();
            keys.sort();
            for key in keys.iter().filter(|key| key.is_dir()) {
                found.extend(in_key_folder(key, name, search));
                if found.len() >= limit {
                    return found;
                }
            }
        }
    }
    found
}

/// A name in a folder, without case where the exact one is not there.
fn child(folder: &Path, name: &str) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    let exact = folder.join(name);
    if exact.symlink_metadata().is_ok() {
        return Some(exact);
    }
    let same = |entry: &fs::DirEntry| entry.file_name().eq_ignore_ascii_case(OsStr::new(name));
    fs::read_dir(folder).ok()?.take(NAMES).flatten().find(same).map(|entry| entry.path())
}

/// Puts a file into a cache. Failing is no error: the file is at hand either way.
pub(super) fn keep(cache: &Path, wanted: &Wanted<'_>, found: &Found) {
    let folder = key_folder(cache, wanted);
    let place = folder.join(wanted.name);
    if place.exists() {
        return;
    }
    let kept = fs::create_dir_all(&folder).and_then(|()| {
        let mut file = new_file(&folder)?;
        match found {
            Found::File(from) => std::io::copy(&mut fs::File::open(from)?, &mut file).map(drop)?,
            Found::Expanded { bytes, .. } => std::io::Write::write_all(&mut file, bytes)?,
        }
        file.persist(&place).map_err(|error| error.error)?;
        mark(cache);
        Ok(())
    });
    if let Err(error) = kept {
        log::warn!("{} was not kept in the symbol cache: {error}", place.display());
    }
}

/// Where a cache keeps a file. A cache of three tiers says so with `index2.txt`.
pub(super) fn key_folder(cache: &Path, wanted: &Wanted<'_>) -> PathBuf {
    let mut folder = cache.to_owned();
    if cache.join("index2.txt").is_file() {
        folder.push(wanted.name.chars().take(2).collect::<String>());
    }
    folder.push(wanted.name);
    folder.push(wanted.key);
    folder
}

/// Other debuggers know a store by this file.
pub(super) fn mark(cache: &Path) {
    let _ = fs::OpenOptions::new().create_new(true).write(true).open(cache.join("pingme.txt"));
}

/// A new file that gets its name later; others may read it, as far as the system lets new files be read.
pub(super) fn new_file(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.prefix("kd-").suffix(".part").tempfile_in(folder)
}
