//! The chain of loaded extensions: newest first, one of them the default (`.setdll`), searched for `!command`,
//! `!extension.command` and `!ext*.command`.

use super::loader::{CommandRow, LoadError, Loaded};
use super::path::{ExtensionPath, spoken_name};
use crate::pattern;
use std::path::Path;
use std::sync::Arc;

/// Loaded extensions and where to find more.
#[derive(Default)]
pub struct Chain {
    /// The search path.
    pub path: ExtensionPath,
    loaded: Vec<Arc<Loaded>>,
    /// Extensions that were unloaded although one of their commands may still run.
    pinned: Vec<Arc<Loaded>>,
    own_loaded: bool,
}

/// A `!` word taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandName<'a> {
    /// What stands before the last dot: a name, a pattern or a path.
    pub extension: Option<&'a str>,
    /// The command.
    pub command: &'a str,
}

impl<'a> CommandName<'a> {
    /// Takes `ext.cmd` apart (without the `!`).
    pub fn parse(word: &'a str) -> CommandName<'a> {
        match word.rsplit_once('.') {
            Some((extension, command)) if !extension.is_empty() => {
                CommandName { extension: Some(extension), command }
            }
            _ => CommandName { extension: None, command: word.trim_start_matches('.') },
        }
    }
}

/// Why a `!` word runs nothing.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// No extension has the command.
    #[error("no {what} has a command '{command}'{hint}")]
    NoCommand {
        /// `extension`, or the one that was named.
        what: String,
        /// The command.
        command: String,
        /// What to do next.
        hint: String,
    },
    /// The named extension is not there.
    #[error("no extension '{name}' is loaded or on the extension path ({searched})")]
    NoExtension {
        /// The name as given.
        name: String,
        /// Folders that were searched.
        searched: String,
    },
    /// The file is there but cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Chain {
    /// An empty chain with a search path.
    pub fn new(path: ExtensionPath) -> Chain {
        Chain { path, ..Chain::default() }
    }

    /// Loaded extensions, in the order they are searched.
    pub fn loaded(&self) -> &[Arc<Loaded>] {
        &self.loaded
    }

    /// Extensions that were unloaded but stay mapped: a command of theirs was abandoned.
    pub fn kept(&self) -> &[Arc<Loaded>] {
        &self.pinned
    }

    /// Loads the extensions in kd's own folders, once. What cannot be loaded is returned, and the rest goes on.
    pub fn load_own(&mut self) -> Vec<LoadError> {
        if std::mem::replace(&mut self.own_loaded, true) {
            return Vec::new();
        }
        let mut errors = Vec::new();
        for file in self.path.own_extensions() {
            if self.loaded.iter().any(|known| known.path == file) {
                continue;
            }
            match Loaded::open(&file) {
                // Behind what the user loaded, which stays in front.
                Ok(extension) => {
                    if !self.loaded.iter().any(|known| known.name == extension.name) {
                        self.loaded.push(Arc::new(extension));
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// Loads the one of kd's own extensions that is called as the command is, where nothing loaded answers to the
    /// command: `!analyze` need not wait for the others. True if the command is answered now.
    pub fn load_own_for(&mut self, command: &str) -> bool {
        if self.loaded.iter().any(|extension| extension.command(command).is_some()) {
            return true;
        }
        if self.own_loaded {
            return false;
        }
        let file = self.path.own_extensions().into_iter().find(|file| spoken_name(file) == command);
        // What is wrong with a file is said when all are loaded.
        let Some(Ok(extension)) = file.map(|file| Loaded::open(&file)) else { return false };
        let answers = extension.command(command).is_some();
        self.loaded.push(Arc::new(extension));
        answers
    }

    /// True once all of kd's own extensions were looked at.
    pub fn has_loaded_own(&self) -> bool {
        self.own_loaded
    }

    /// `.load`: the extension goes to the front; one of the same file is replaced.
    pub fn load(&mut self, name: &str) -> Result<Arc<Loaded>, ChainError> {
        let file = self
            .path
            .find(name)
            .ok_or_else(|| ChainError::NoExtension { name: name.to_owned(), searched: self.searched() })?;
        self.load_file(&file)
    }

    /// Loads a file; see [`Chain::load`].
    pub fn load_file(&mut self, file: &Path) -> Result<Arc<Loaded>, ChainError> {
        let extension = Arc::new(Loaded::open(file)?);
        let (old, rest) =
            std::mem::take(&mut self.loaded).into_iter().partition(|known| same_file(&known.path, file));
        self.loaded = rest;
        self.keep_stuck(old);
        self.loaded.insert(0, Arc::clone(&extension));
        Ok(extension)
    }

    /// `.unload`: `None` takes the front one, as KD does. Returns what was unloaded.
    pub fn unload(&mut self, name: Option<&str>) -> Option<Arc<Loaded>> {
        let index = match name {
            None if self.loaded.is_empty() => return None,
            None => 0,
            Some(name) => self.position(name)?,
        };
        let extension = self.loaded.remove(index);
        self.keep_stuck(vec![Arc::clone(&extension)]);
        Some(extension)
    }

    /// `.unloadall`.
    pub fn unload_all(&mut self) -> usize {
        let all = std::mem::take(&mut self.loaded);
        let count = all.len();
        self.keep_stuck(all);
        // They stay unloaded until asked for by name.
        self.own_loaded = true;
        count
    }

    fn keep_stuck(&mut self, unloaded: Vec<Arc<Loaded>>) {
        self.pinned.extend(unloaded.into_iter().filter(|extension| extension.is_stuck()));
    }

    /// `.setdll`: moves an extension to the front, loading it if need be.
    pub fn set_default(&mut self, name: &str) -> Result<Arc<Loaded>, ChainError> {
        match self.position(name) {
            Some(index) => {
                let extension = self.loaded.remove(index);
                self.loaded.insert(0, Arc::clone(&extension));
                Ok(extension)
            }
            None => self.load(name),
        }
    }

    /// Extensions that a name, pattern or path stands for.
    pub fn matching<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Arc<Loaded>> {
        self.loaded.iter().filter(move |extension| names(extension, name))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.loaded.iter().position(|extension| names(extension, name))
    }

    /// Every extension and row that answers to a command, in search order. Extensions named outright are loaded
    /// from the path if they are not loaded yet.
    pub fn find(&mut self, name: CommandName<'_>) -> Result<Vec<(Arc<Loaded>, CommandRow)>, ChainError> {
        let found = self.rows(name);
        if !found.is_empty() {
            return Ok(found);
        }
        let missing = |chain: &Chain| ChainError::NoCommand {
            what: name.extension.map_or("extension".to_owned(), |named| format!("extension '{named}'")),
            command: name.command.to_owned(),
            hint: chain.hint(name),
        };
        match name.extension {
            Some(extension) if self.position(extension).is_none() => {
                if pattern::is_pattern(extension) {
                    return Err(missing(self));
                }
                self.load(extension)?;
                let found = self.rows(name);
                if found.is_empty() { Err(missing(self)) } else { Ok(found) }
            }
            _ => Err(missing(self)),
        }
    }

    fn rows(&self, name: CommandName<'_>) -> Vec<(Arc<Loaded>, CommandRow)> {
        self.loaded
            .iter()
            .filter(|extension| name.extension.is_none_or(|wanted| names(extension, wanted)))
            .filter_map(|extension| {
                extension.command(name.command).map(|row| (Arc::clone(extension), row.clone()))
            })
            .collect()
    }

    /// Near misses, or where extensions come from.
    fn hint(&self, name: CommandName<'_>) -> String {
        let wanted = name.command.to_lowercase();
        let near =
            self.loaded.iter().flat_map(|extension| &extension.commands).map(|row| row.name.as_str()).find(
                |known| {
                    known.len() > 2
                        && wanted.len() > 2
                        && (known.starts_with(&wanted) || wanted.starts_with(*known))
                },
            );
        if let Some(other) = self.loaded.iter().find(|extension| extension.command(&wanted).is_some()) {
            return format!("; it is !{}.{wanted}", other.name);
        }
        match near {
            Some(known) => format!("; did you mean !{known}?"),
            None if self.loaded.is_empty() => {
                format!("; no extension is loaded, and none was found in {}", self.searched())
            }
            None => "; .chain lists what is loaded, .load FILE adds one".to_owned(),
        }
    }

    fn searched(&self) -> String {
        let folders: Vec<String> = self.path.folders().map(|folder| folder.display().to_string()).collect();
        folders.join("; ")
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// True if `wanted` (a name, a pattern, a file) stands for this extension. `kdext*` matches what Microsoft keeps in
/// `kdexts.dll` wherever it lives here, because every file is called `kdext_…`.
fn names(extension: &Loaded, wanted: &str) -> bool {
    if wanted.contains(['/', '\\']) {
        let file = Path::new(wanted);
        let stem = spoken_name(file);
        return same_file(&extension.path, file)
            || (stem == spoken_name(&extension.path) && extension.path.parent() == file.parent());
    }
    let stem = extension.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let stem = stem.strip_prefix(std::env::consts::DLL_PREFIX).unwrap_or(stem);
    let spoken = stem.strip_prefix("kdext_").unwrap_or(stem);
    [extension.name.as_str(), stem, spoken].iter().any(|name| pattern::matches(wanted, name))
        || wanted.eq_ignore_ascii_case(&extension.path.display().to_string())
        || Path::new(wanted).file_name() == extension.path.file_name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bang_words_are_taken_apart() {
        let parse = CommandName::parse;
        assert_eq!(parse("analyze"), CommandName { extension: None, command: "analyze" });
        assert_eq!(parse("kdext*.locks"), CommandName { extension: Some("kdext*"), command: "locks" });
        assert_eq!(parse("/a.b/libx.go"), CommandName { extension: Some("/a.b/libx"), command: "go" });
        assert_eq!(parse(".odd"), CommandName { extension: None, command: "odd" });
    }

    #[test]
    fn an_empty_chain_says_what_is_missing() {
        let mut chain = Chain::default();
        let error = chain.find(CommandName::parse("analyze")).map(|found| found.len()).unwrap_err();
        assert!(error.to_string().contains("'analyze'"), "{error}");
        let error = chain.find(CommandName::parse("vm.vm")).map(|found| found.len()).unwrap_err();
        assert!(matches!(error, ChainError::NoExtension { .. }));
    }
}
