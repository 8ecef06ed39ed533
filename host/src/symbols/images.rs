//! Image files: where a module's own file is found when the dump does not hold its bytes.
//!
//! Looked for by name, time stamp and size like any file of a store, first on the image path (`-i`, `.exepath`), then
//! on the symbol path. A file of another build is never taken. What was found serves all who ask: the search for a
//! PDB, the unwinder, the disassembler.

use super::error::{Search, SymbolError};
use super::expand::{LIMIT, expand, is_cabinet};
use super::path::SymbolPath;
use super::store::{self, Found, Wanted};
use super::{Module, key, lock};
use crate::image::{self, ImageFile};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

/// The kernel's image over the versions; in memory it is always called ntoskrnl.exe.
const KERNEL_IMAGES: &[&str] =
    &["ntoskrnl.exe", "ntkrnlmp.exe", "ntkrnlpa.exe", "ntkrpamp.exe", "ntkrla57.exe"];

type Slot = Arc<OnceLock<Result<Arc<ImageFile>, Arc<SymbolError>>>>;

/// The image files of one target's modules, each looked for when first asked about and kept.
#[derive(Default)]
pub(super) struct Images {
    slots: Mutex<HashMap<(u64, u64, u32), Slot>>,
}

impl Images {
    /// Modules whose file was not found are tried again.
    pub fn retry(&self) {
        lock(&self.slots).retain(|_, slot| matches!(slot.get(), Some(Ok(_))));
    }

    /// The image file of a module, on `path` if it was not yet looked for.
    pub fn of(
        &self,
        path: impl FnOnce() -> SymbolPath,
        module: &Module<'_>,
    ) -> Result<Arc<ImageFile>, Arc<SymbolError>> {
        let slot = Arc::clone(lock(&self.slots).entry(key(module)).or_default());
        let outcome = slot.get_or_init(|| {
            let mut search = Search::default();
            find(&path(), module, &mut search, &mut |file| Ok(Arc::new(file))).ok_or_else(|| {
                search.wanted = format!(
                    "its image {} {} was not found",
                    image::file_name(module.image),
                    image::image_key(module.time_stamp, module.size)
                );
                search.next = "add a folder or store that holds it with -i or .exepath+".to_owned();
                Arc::new(SymbolError::NoSymbols { module: module.name.to_owned(), search })
            })
        });
        if outcome.as_ref().is_err_and(|error| error.was_interrupted()) {
            lock(&self.slots).remove(&key(module));
        }
        outcome.clone()
    }
}

/// Goes along the path until `accept` takes an image file of this very build.
pub(super) fn find<T>(
    path: &SymbolPath,
    module: &Module<'_>,
    search: &mut Search,
    accept: &mut dyn FnMut(ImageFile) -> Result<T, String>,
) -> Option<T> {
    if module.time_stamp == 0 {
        return None;
    }
    let own = image::file_name(module.image);
    let others = if module.is_kernel { KERNEL_IMAGES } else { &[] };
    let names =
        [own].into_iter().chain(others.iter().copied().filter(|name| !name.eq_ignore_ascii_case(own)));
    let key = image::image_key(module.time_stamp, module.size);
    for name in names.filter(|name| image::is_plain_name(name)) {
        let wanted = Wanted { name, key: &key, extension: extension(module) };
        let found = store::find(path, &wanted, search, &mut |found| accept(open(found, module)?));
        if found.is_some() {
            return found;
        }
    }
    None
}

fn open(found: &Found, module: &Module<'_>) -> Result<ImageFile, String> {
    let bytes = match found {
        Found::Expanded { bytes, .. } => Arc::clone(bytes),
        // Some tools keep the compressed file under the full name.
        Found::File(file) if is_cabinet(file) => expand(file).map_err(|error| error.to_string())?.into(),
        Found::File(file) => read_bounded(file)?.into(),
    };
    let file = ImageFile::new(found.path(), bytes).map_err(|why| why.to_string())?;
    let (stamp, size) = (file.headers().time_stamp, file.headers().size);
    if (stamp, u64::from(size)) != (module.time_stamp, module.size) {
        return Err(image::ImageError::OtherBuild { stamp, size }.to_string());
    }
    Ok(file)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// The extension of a module's image: `sys`.
pub(super) fn extension<'a>(module: &Module<'a>) -> &'a str {
    match image::file_name(module.image).rsplit_once('.') {
        Some((_, extension)) if image::is_plain_name(extension) => extension,
        _ => "",
    }
}
