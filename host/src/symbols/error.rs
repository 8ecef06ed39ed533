//! What can go wrong between a name and its address, told so that the reader knows what to do next.
//!
//! Every variant says what was wanted; the ones about missing files carry the whole search, place by place.

use crate::pattern::PatternError;
use std::fmt;
use std::path::PathBuf;

/// An error of the symbols layer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SymbolError {
    /// No module of the target has this name.
    #[error("no module is called {name}")]
    NoModule {
        /// The name that was asked for.
        name: String,
    },
    /// The module is there, its symbols are not.
    #[error("no symbols for {module}: {search}")]
    NoSymbols {
        /// Module name, `nt`.
        module: String,
        /// What was looked for, where, and what was found there.
        search: Search,
    },
    /// The module's symbols are loaded and do not hold this name.
    #[error("{module} has no symbol {name}")]
    NotFound {
        /// Module name.
        module: String,
        /// Symbol name.
        name: String,
    },
    /// A name without `module!` that is neither in the kernel nor in a module with loaded symbols.
    #[error("no symbol {name} in the kernel or in any module whose symbols are loaded; write module!{name}")]
    NotFoundAnywhere {
        /// Symbol name.
        name: String,
    },
    /// The module's symbols are loaded and do not hold this type.
    #[error("{module} has no type {name}")]
    NoType {
        /// Module name.
        module: String,
        /// Type name.
        name: String,
    },
    /// The module's symbols hold no types at all (public symbols of most drivers).
    #[error("the symbols of {module} hold no types: {}", path.display())]
    NoTypes {
        /// Module name.
        module: String,
        /// The symbol file.
        path: PathBuf,
    },
    /// A symbol file that cannot be read as one.
    #[error("{} is not a usable symbol file: {why}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A pattern that is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// A search for a module's symbols that found nothing: what, where, why, and what to do next.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// What was wanted: `ntkrnlmp.pdb 5278AFF86C341677D7D7835C85B7B8441`, or why that is not known.
    pub wanted: String,
    /// Every place that was looked at, with what was found there.
    pub looked: Vec<Looked>,
    /// What the reader can do.
    pub next: String,
    /// True where the user stopped it.
    pub interrupted: bool,
    /// True where a file of another build was found.
    pub others: bool,
}

/// One place of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// A file, a folder or a server.
    pub place: String,
    /// `not there`, `its GUID is …`, `not asked …`.
    pub found: String,
}

impl fmt::Display for Search {
    /// In one line what was wanted and what to do next; the places are in [`Search::looked`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.wanted)?;
        if !self.next.is_empty() {
            write!(f, "; {}", self.next)?;
        }
        Ok(())
    }
}

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.found)
    }
}

impl SymbolError {
    /// Every place that was looked at, for a reader who asks for more (`!sym noisy`).
    pub fn looked(&self) -> &[Looked] {
        match self {
            SymbolError::NoSymbols { search, .. } => &search.looked,
            _ => &[],
        }
    }

    /// True where symbols of another build were found.
    pub fn found_others(&self) -> bool {
        matches!(self, SymbolError::NoSymbols { search, .. } if search.others)
    }

    /// True where the user stopped the search: what was stopped is not what failed.
    pub(super) fn was_interrupted(&self) -> bool {
        matches!(self, SymbolError::NoSymbols { search, .. } if search.interrupted)
    }

    /// The error, and under it every place that was looked at.
    #[cfg(test)]
    pub(super) fn in_full(&self) -> String {
        let places: String = self.looked().iter().map(|looked| format!("\n  {looked}")).collect();
        format!("{self}{places}")
    }
}

impl Search {
    /// Notes a place.
    pub(super) fn look(&mut self, place: impl fmt::Display, found: impl fmt::Display) {
        // A hostile store could have any number of entries; the report has an end.
        if self.looked.len() < 64 {
            self.looked.push(Looked { place: place.to_string(), found: found.to_string() });
        }
    }
}
