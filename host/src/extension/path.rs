//! Where extensions are looked for, and what their files are called on this system.
//!
//! Order as in KD: `_NT_DEBUGGER_EXTENSION_PATH`, then the debugger's own folders. `kdext_NAME` is spelled
//! `libkdext_NAME.so`, `kdext_NAME.dll` or `libkdext_NAME.dylib`; a name may also be given as a file.

use std::env::consts::{DLL_EXTENSION, DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};

/// The search path for extensions.
#[derive(Clone, Debug, Default)]
pub struct ExtensionPath {
    /// What the user set (`_NT_DEBUGGER_EXTENSION_PATH`, `.extpath`).
    user: Vec<PathBuf>,
    /// The debugger's own folders: all extensions in them are loaded without being asked for.
    own: Vec<PathBuf>,
}

impl ExtensionPath {
    /// The path from the environment's value and the place of the executable.
    pub fn new(environment: Option<&str>, executable: Option<&Path>) -> ExtensionPath {
        let mut path = ExtensionPath::default();
        if let Some(text) = environment {
            path.set(text);
        }
        if let Some(folder) = executable.and_then(Path::parent) {
            path.own.push(folder.to_owned());
            path.own.push(folder.join("extensions"));
            if let Some(prefix) = folder.parent().filter(|_| folder.ends_with("bin")) {
                path.own.push(prefix.join("lib").join("kd"));
            }
        }
        path
    }

    /// Replaces the user's part. `;` parts folders everywhere, `:` too where it is not part of a drive name.
    pub fn set(&mut self, text: &str) {
        self.user = split(text);
    }

    /// Appends to the user's part (`.extpath+`).
    pub fn append(&mut self, text: &str) {
        self.user.extend(split(text));
    }

    /// Every folder in the order it is searched.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.user.iter().chain(&self.own).map(PathBuf::as_path)
    }

    /// The file of the extension `name`: a path as it stands, or `NAME` along the path.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        if name.contains(['/', '\\']) {
            let given = PathBuf::from(name);
            let folder = given.parent().map(Path::to_owned).unwrap_or_default();
            let stem = given.file_name()?.to_str()?;
            return candidates(stem).into_iter().map(|file| folder.join(file)).find(|file| file.is_file());
        }
        let files = candidates(name);
        self.folders()
            .flat_map(|folder| files.iter().map(move |file| folder.join(file)))
            .find(|file| file.is_file())
    }

    /// The files of all extensions in the debugger's own folders, in a stable order.
    pub fn own_extensions(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for folder in &self.own {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            files.extend(entries.flatten().map(|entry| entry.path()).filter(|file| is_extension(file)));
        }
        files.sort();
        files
    }
}

/// True for file names like `libkdext_analyze.so`.
fn is_extension(file: &Path) -> bool {
    file.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
        name.strip_prefix(DLL_PREFIX)
            .is_some_and(|rest| rest.starts_with("kdext_") && rest.ends_with(DLL_SUFFIX))
    })
}

/// The name of an extension as it is spoken: the file's name without prefix, `kdext_` and suffix.
pub fn spoken_name(file: &Path) -> String {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let stem = stem.strip_prefix(DLL_PREFIX).unwrap_or(stem);
    stem.strip_prefix("kdext_").unwrap_or(stem).to_owned()
}

/// File names that `name` may stand for.
fn candidates(name: &str) -> Vec<String> {
    let has_suffix =
        Path::new(name).extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case(DLL_EXTENSION));
    if has_suffix {
        return vec![name.to_owned()];
    }
    let bare = name.strip_prefix("kdext_").unwrap_or(name);
    let mut names =
        vec![format!("{DLL_PREFIX}kdext_{bare}{DLL_SUFFIX}"), format!("{DLL_PREFIX}{name}{DLL_SUFFIX}")];
    if !DLL_PREFIX.is_empty() {
        names.push(format!("kdext_{bare}{DLL_SUFFIX}"));
        names.push(format!("{name}{DLL_SUFFIX}"));
    }
    names
}

fn split(text: &str) -> Vec<PathBuf> {
    text.split(';')
        .flat_map(|part| {
            let unix = cfg!(unix);
            part.split(move |c| unix && c == ':')
        })
        .map(|part| part.trim().trim_matches('"'))
        .filter(|part| !part.is_empty())
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_files() {
        assert_eq!(spoken_name(Path::new(&format!("/x/{DLL_PREFIX}kdext_analyze{DLL_SUFFIX}"))), "analyze");
        assert!(is_extension(Path::new(&format!("{DLL_PREFIX}kdext_vm{DLL_SUFFIX}"))));
        assert!(!is_extension(Path::new(&format!("{DLL_PREFIX}kd{DLL_SUFFIX}"))));
        assert!(candidates("kdext_vm").contains(&format!("{DLL_PREFIX}kdext_vm{DLL_SUFFIX}")));
    }

    #[test]
    fn the_path_is_searched_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(format!("{DLL_PREFIX}kdext_one{DLL_SUFFIX}"));
        std::fs::write(&file, b"x").unwrap();
        let mut path = ExtensionPath::default();
        assert_eq!(path.find("one"), None);
        path.append(&folder.path().display().to_string());
        assert_eq!(path.find("one"), Some(file.clone()));
        assert_eq!(path.find("kdext_one"), Some(file.clone()));
        assert_eq!(path.find(&file.display().to_string()), Some(file));
    }
}
