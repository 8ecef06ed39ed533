//! From a server into a cache: what comes is judged before it is kept, and kept whole or not at all.
//!
//! A server has a file as `NAME/KEY/NAME`, compressed as `NAME/KEY/NAM_`, or says in `NAME/KEY/file.ptr` where it is.
//! It is written to a file of its own beside the cache's folders and renamed when it is known to be the right one, so
//! that any number of programs may use one cache. Where the cache cannot be written the file stays in memory.

use super::error::Search;
use super::expand::{self, compressed_name};
use super::server::{ServerError, Servers};
use super::store::{self, Found, Wanted};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Asks a server for a file until `accept` takes it. `caches` run from the nearest to the one beside the server.
pub(super) fn download<T>(
    servers: &Servers,
    url: &str,
    caches: &[&Path],
    wanted: &Wanted<'_>,
    search: &mut Search,
    accept: &mut dyn FnMut(&Found) -> Result<T, String>,
) -> Option<T> {
    let Some((cache, nearer)) = caches.split_last() else {
        search.look(url, "not asked, there is no cache to put anything into");
        return None;
    };
    let base = format!("{}/{}/{}", url.trim_end_matches('/'), escaped(wanted.name), wanted.key);
    let short = compressed_name(wanted.name);
    for (name, form) in [(wanted.name, Form::Plain), (&short, Form::Compressed), ("file.ptr", Form::Pointer)]
    {
        let address = format!("{base}/{}", escaped(name));
        let mut landing = Landing { cache, file: None, failed: None };
        match servers.get(&address, wanted.name, &mut |bytes| landing.take(bytes)) {
            Ok(()) => {}
            Err(ServerError::NotThere) => continue,
            Err(error) => {
                search.interrupted |= error == ServerError::Interrupted;
                search.look(url, &error);
                return None;
            }
        }
        let Some(file) = landing.file else {
            search.look(&address, landing.failed.as_deref().unwrap_or("is empty"));
            return None;
        };
        return match landed(file, form, cache, wanted) {
            Ok(Landed::InCache(file)) => {
                // Judged where it lies, then once more in its place, because it is known by its path.
                if let Err(why) = accept(&Found::File(file.path().to_owned())) {
                    search.look(&address, format_args!("is not kept: {why}"));
                    return None;
                }
                let found = match put(file, cache, wanted) {
                    Ok(place) => Found::File(place),
                    Err((error, bytes)) => {
                        log::warn!("{address} was not kept in {}: {error}", cache.display());
                        Found::Expanded { from: PathBuf::from(&address), bytes: bytes.into() }
                    }
                };
                take(found, nearer, wanted, &address, search, accept)
            }
            Ok(Landed::Elsewhere(place)) => {
                take(Found::File(place), caches, wanted, &address, search, accept)
            }
            Err(why) => {
                search.look(&address, why);
                None
            }
        };
    }
    search.look(url, ServerError::NotThere);
    None
}

fn take<T>(
    found: Found,
    caches: &[&Path],
    wanted: &Wanted<'_>,
    address: &str,
    search: &mut Search,
    accept: &mut dyn FnMut(&Found) -> Result<T, String>,
) -> Option<T> {
    match accept(&found) {
        Ok(taken) => {
            for cache in caches {
                store::keep(cache, wanted, &found);
            }
            Some(taken)
        }
        Err(why) => {
            search.look(address, why);
            None
        }
    }
}

/// How a server has a file.
#[derive(Clone, Copy)]
enum Form {
    Plain,
    Compressed,
    Pointer,
}

/// A file while it comes. It is made when the first byte is here: nothing is left behind for what is not there.
struct Landing<'a> {
    cache: &'a Path,
    file: Option<NamedTempFile>,
    failed: Option<String>,
}

impl Landing<'_> {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            self.file = None;
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let made = fs::create_dir_all(self.cache).and_then(|()| store::new_file(self.cache));
                // A cache that cannot be written does not keep anybody from reading symbols.
                let made = made.or_else(|error| {
                    self.failed = Some(format!("{}: {error}", self.cache.display()));
                    NamedTempFile::new()
                });
                none.insert(made?)
            }
        };
        file.write_all(bytes)
    }
}

enum Landed {
    /// A file that waits for its name.
    InCache(NamedTempFile),
    /// A file that a pointer leads to.
    Elsewhere(PathBuf),
}

fn landed(file: NamedTempFile, form: Form, cache: &Path, wanted: &Wanted<'_>) -> Result<Landed, String> {
    match form {
        Form::Plain if !expand::is_cabinet(file.path()) => Ok(Landed::InCache(file)),
        Form::Plain | Form::Compressed => {
            let bytes =
                expand::expand(file.path()).map_err(|error| format!("cannot be expanded: {error}"))?;
            let whole = store::new_file(cache).or_else(|_| NamedTempFile::new());
            let mut whole = whole.map_err(|error| error.to_string())?;
            whole.write_all(&bytes).map_err(|error| format!("{} cannot be written: {error}", wanted.name))?;
            Ok(Landed::InCache(whole))
        }
        Form::Pointer => store::pointer_target(file.path()).map(Landed::Elsewhere),
    }
}

/// Gives a file its place in a cache; where that fails, its bytes.
fn put(file: NamedTempFile, cache: &Path, wanted: &Wanted<'_>) -> Result<PathBuf, (io::Error, Vec<u8>)> {
    let folder = store::key_folder(cache, wanted);
    let place = folder.join(wanted.name);
    let made = fs::create_dir_all(&folder);
    let kept = match made {
        Ok(()) => file.persist(&place).map_err(|error| (error.error, Some(error.file))),
        Err(error) => Err((error, Some(file))),
    };
    match kept {
        Ok(_) => {
            store::mark(cache);
            Ok(place)
        }
        // Another program was faster, and holds it open.
        Err(_) if place.is_file() => Ok(place),
        Err((error, file)) => {
            let bytes = file.and_then(|file| fs::read(file.path()).ok()).unwrap_or_default();
            Err((error, bytes))
        }
    }
}

/// A name as a part of an address.
fn escaped(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
