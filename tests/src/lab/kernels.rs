//! The kernels in `fixtures/kernels`: images and symbols that `kernels/build.sh` made, a cabinet a generation.

use super::layout::Generation;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The files of one generation by name, as in `ntoskrnl.exe` and `ntkrnlmp.pdb`.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The folder of the cabinets.
pub fn folder() -> std::path::PathBuf {
    crate::fixtures().join("kernels")
}

/// The files of a generation; unpacked once.
pub fn load(generation: &Generation) -> io::Result<Arc<Files>> {
    static LOADED: Mutex<BTreeMap<&str, Arc<Files>>> = Mutex::new(BTreeMap::new());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(files) = loaded.get(generation.name) {
        return Ok(Arc::clone(files));
    }
    let files = Arc::new(unpack(generation)?);
    loaded.insert(generation.name, Arc::clone(&files));
    Ok(files)
}

fn unpack(generation: &Generation) -> io::Result<Files> {
    let mut cabinet = cab::Cabinet::new(File::open(folder().join(format!("{}.cab", generation.name)))?)?;
    let names: Vec<String> =
        cabinet.folder_entries().flat_map(|f| f.file_entries()).map(|f| f.name().to_owned()).collect();
    let mut files = Files::new();
    for name in names {
        let mut bytes = Vec::new();
        cabinet.read_file(&name)?.read_to_end(&mut bytes)?;
        files.insert(name, bytes);
    }
    Ok(files)
}

/// Packs what `kernels/build.sh` left in `built`, a folder a generation, into the cabinets. The same bytes every time.
pub fn pack(built: &Path) -> io::Result<()> {
    fs::create_dir_all(folder())?;
    for generation in super::layout::GENERATIONS {
        let source = built.join(generation.name);
        if !source.is_dir() {
            continue;
        }
        let files = read_folder(&source)?;
        let members: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
        let path = folder().join(format!("{}.cab", generation.name));
        super::writer::cabinet::write(&path, cab::CompressionType::MsZip, &members)?;
        let mut bytes = fs::read(&path)?;
        forget_times(&mut bytes, members.len());
        fs::write(&path, bytes)?;
    }
    Ok(())
}

/// The files of a folder.
pub fn read_folder(folder: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(files)
}

/// Sets the time of every file in a cabinet to 1 January 2024.
fn forget_times(cabinet: &mut [u8], files: usize) {
    let mut at = u32::from_le_bytes([cabinet[16], cabinet[17], cabinet[18], cabinet[19]]) as usize;
    for _ in 0..files {
        cabinet[at + 10..at + 14].copy_from_slice(&[0x21, 0x58, 0, 0]);
        at += 16;
        at += cabinet[at..].iter().position(|&b| b == 0).map_or(0, |n| n + 1);
    }
}
