//! stub
use super::{ModuleTypes, SymbolError, index::Index};
pub(super) struct PdbFile {}
impl PdbFile {
    pub(super) fn index(&self) -> Result<Index, SymbolError> { Ok(Index {}) }
    pub(super) fn types(&self, _module: &str) -> Result<ModuleTypes, SymbolError> { Ok(ModuleTypes {}) }
}
