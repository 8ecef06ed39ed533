//! Files that a symbol store keeps compressed: `ntoskrnl.ex_` and `ntkrnlmp.pd_` are cabinets with one file.

use cab::Cabinet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The largest file that is expanded into memory.
pub(super) const LIMIT: u64 = 1 << 30;

/// Bytes that are set aside for an expanded file at once.
const EXPECTED: u64 = 64 << 20;

/// True for a cabinet, whatever its name.
pub(super) fn is_cabinet(path: &Path) -> bool {
    let mut head = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && &head == b"MSCF"
}

/// Expands the first file of a cabinet.
pub(super) fn expand(path: &Path) -> io::Result<Vec<u8>> {
    let mut cabinet = Cabinet::new(File::open(path)?)?;
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let (name, size) = cabinet
        .folder_entries()
        .flat_map(|folder| folder.file_entries())
        .map(|file| (file.name().to_owned(), u64::from(file.uncompressed_size())))
        .next()
        .ok_or_else(|| invalid("it holds no file".to_owned()))?;
    if size > LIMIT {
        return Err(invalid(format!("it holds {size} bytes, more than {LIMIT}")));
    }
    // What a cabinet says of itself is taken at its word up to a size that real files have.
    let mut bytes = Vec::with_capacity(size.min(EXPECTED) as usize);
    cabinet.read_file(&name)?.take(size).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        return Err(invalid(format!("it ends after {} of {size} bytes", bytes.len())));
    }
    Ok(bytes)
}

/// `ntkrnlmp.pd_` for `ntkrnlmp.pdb`.
pub(super) fn compressed_name(name: &str) -> String {
    let mut short = name.to_owned();
    short.pop();
    short.push('_');
    short
}
