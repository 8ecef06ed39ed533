//! stub
use super::{Loaded, Module, ModuleSource, SymbolError, SymbolPath};
/// How.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matched {
    /// By the image's debug record, read from the target's memory.
    ImageInMemory,
    /// By the debug record of the image file that has the module's time stamp and size.
    ImageFile(std::path::PathBuf),
    /// By the addresses in the dump header.
    HeaderAddresses,
}
pub(super) fn locate(_p: &SymbolPath, _s: &dyn ModuleSource, m: &Module<'_>) -> Result<Loaded, SymbolError> {
    Err(SymbolError::NoModule { name: m.name.to_owned() })
}
