//! The symbol search path: `;` between elements, each a folder, a store or a cache.
//!
//! Forms as in Microsoft's documentation: `DIR`, `srv*`, `srv*STORE`, `srv*CACHE*STORE`, `cache*DIR`,
//! `symsrv*symsrv.dll*CACHE*STORE`. An element `srv*…` lists places from the nearest to the farthest; a file
//! found far away is kept in those before it. `cache*` does this for everything to its right. Servers
//! (`https://…`) are kept in the path and told apart, so that they can be reported; asking them is not done here.

use std::fmt;
use std::path::{Path, PathBuf};

/// A parsed symbol path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SymbolPath {
    /// The elements from left to right.
    pub elements: Vec<Element>,
}

/// One element of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// As it was written.
    pub text: String,
    /// What it means.
    pub kind: ElementKind,
}

/// The meaning of an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElementKind {
    /// A plain folder.
    Folder(PathBuf),
    /// `srv*`: places from the nearest to the farthest; all but the last are caches.
    Stores(Vec<Place>),
    /// `cache*`: keeps what is found to the right of it.
    Cache(PathBuf),
}

/// A place of a `srv*` element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A symbol store on disk.
    Store(PathBuf),
    /// A server's address.
    Server(String),
}

impl SymbolPath {
    /// Reads a path. Nothing in it is an error: an unknown text is a folder that may not exist.
    pub fn parse(text: &str) -> SymbolPath {
        SymbolPath { elements: text.split(';').filter_map(Element::parse).collect() }
    }

    /// True for a path with nothing in it.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Adds the elements of `more` at the end, as `.sympath+` does.
    pub fn append(&mut self, more: SymbolPath) {
        self.elements.extend(more.elements);
    }

    /// What the reader should know about this path; said once, when it is set.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let servers: Vec<&str> = self.servers().collect();
        if !servers.is_empty() {
            notes.push(format!(
                "symbol servers are not asked in this version ({}); only what is already in a store on this machine is used",
                servers.join(", ")
            ));
        }
        for element in &self.elements {
            match &element.kind {
                ElementKind::Folder(folder) if !folder.is_dir() => {
                    notes.push(format!("{} in the symbol path is not a folder", folder.display()));
                }
                ElementKind::Stores(places) if places.is_empty() => notes.push(
                    "srv* in the symbol path names no store, and there is no cache* before it".to_owned(),
                ),
                _ => {}
            }
        }
        notes
    }

    /// The servers named anywhere in the path.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.elements
            .iter()
            .filter_map(|element| match &element.kind {
                ElementKind::Stores(places) => Some(places),
                _ => None,
            })
            .flatten()
            .filter_map(|place| match place {
                Place::Server(url) => Some(url.as_str()),
                Place::Store(_) => None,
            })
    }
}

impl fmt::Display for SymbolPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, element) in self.elements.iter().enumerate() {
            if i > 0 {
                f.write_str(";")?;
            }
            f.write_str(&element.text)?;
        }
        Ok(())
    }
}

impl Element {
    fn parse(text: &str) -> Option<Element> {
        let text = text.trim();
        let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text).trim();
        if text.is_empty() {
            return None;
        }
        let mut parts = text.split('*').map(str::trim);
        let head = parts.next().unwrap_or_default().to_ascii_lowercase();
        let starred = text.contains('*');
        let kind = match head.as_str() {
            "srv" if starred => ElementKind::Stores(places(parts)),
            // The second part names the program that asks; there is only one here.
            "symsrv" if starred => ElementKind::Stores(places(parts.skip(1))),
            "cache" if starred => match parts.find(|part| !part.is_empty()) {
                Some(folder) => ElementKind::Cache(folder.into()),
                None => ElementKind::Cache(default_store()),
            },
            _ if is_server(text) => ElementKind::Stores(vec![Place::Server(text.to_owned())]),
            _ => ElementKind::Folder(text.into()),
        };
        Some(Element { text: text.to_owned(), kind })
    }
}

fn places<'a>(parts: impl Iterator<Item = &'a str>) -> Vec<Place> {
    let parts: Vec<&str> = parts.collect();
    let last = parts.len().saturating_sub(1);
    parts
        .into_iter()
        .enumerate()
        .filter_map(|(i, part)| match part {
            // An empty part between two stars is the default store; an empty end is nothing.
            "" if i < last => Some(Place::Store(default_store())),
            "" => None,
            url if is_server(url) => Some(Place::Server(url.to_owned())),
            folder => Some(Place::Store(Path::new(folder).to_owned())),
        })
        .collect()
}

fn is_server(text: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme)))
}

/// Where symbols are kept when the path names no place.
fn default_store() -> PathBuf {
    let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
        std::env::var_os("LOCALAPPDATA")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
    });
    home.unwrap_or_else(std::env::temp_dir).join("kd").join("symbols")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<ElementKind> {
        SymbolPath::parse(text).elements.into_iter().map(|e| e.kind).collect()
    }

    fn store(path: &str) -> Place {
        Place::Store(path.into())
    }

    #[test]
    fn folders_stores_and_caches() {
        assert_eq!(
            kinds("/a; srv*/b ;srv*c:\\cache*\\\\host\\share;cache*/d;SRV*/x*https://host/sym"),
            [
                ElementKind::Folder("/a".into()),
                ElementKind::Stores(vec![store("/b")]),
                ElementKind::Stores(vec![store("c:\\cache"), store("\\\\host\\share")]),
                ElementKind::Cache("/d".into()),
                ElementKind::Stores(vec![store("/x"), Place::Server("https://host/sym".into())]),
            ]
        );
        assert_eq!(kinds("symsrv*symsrv.dll*/x*/y"), [ElementKind::Stores(vec![store("/x"), store("/y")])]);
        assert_eq!(kinds("srv*"), [ElementKind::Stores(vec![])]);
        assert_eq!(kinds(" ; ;"), []);
    }

    #[test]
    fn a_path_prints_as_it_was_written() {
        let text = "/a;srv*/b*https://host/sym;cache*/d";
        assert_eq!(SymbolPath::parse(text).to_string(), text);
    }

    #[test]
    fn servers_are_reported_once() {
        let path = SymbolPath::parse("srv*/tmp*https://one/;srv*https://two/");
        let notes = path.notes();
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("https://one/, https://two/"), "{notes:?}");
    }
}
