//! stub

/// The identity of a PDB.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PdbId {
    /// The GUID's 16 bytes as they are stored.
    pub guid: [u8; 16],
    /// The age.
    pub age: u32,
}

/// The part of a path after its last `\` or `/`.
pub fn file_name(path: &str) -> &str {
    path.rsplit(['\\', '/']).next().unwrap_or(path)
}
