//! The symbol search path: `;` between elements, each a folder, a store or a cache.
//!
//! Forms as in Microsoft's documentation: `DIR`, `srv*`, `srv*STORE`, `srv*CACHE*STORE`, `cache*DIR`,
//! `symsrv*symsrv.dll*CACHE*STORE`. An element `srv*…` lists places from the nearest to the farthest; a file
//! found far away is kept in those before it. `cache*` does this for everything to its right. A server without any
//! place before it has the default store there. What a path tells of a user and a password is dropped at once.

use super::server::Servers;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A parsed symbol path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SymbolPath {
    /// The elements from left to right.
    pub elements: Vec<Element>,
    asker: Asker,
}

/// Who asks the servers of a path; no part of what the path says.
#[derive(Clone, Default)]
struct Asker(Option<Arc<Servers>>);

impl PartialEq for Asker {
    fn eq(&self, _: &Asker) -> bool {
        true
    }
}

impl Eq for Asker {}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "servers are asked" } else { "servers are not asked" })
    }
}

/// One element of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// As it was written.
    pub text: String,
    /// What it means.
    pub kind: ElementKind,
    /// True where it named a user; the text here does not.
    told_secrets: bool,
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
        SymbolPath { elements: text.split(';').filter_map(Element::parse).collect(), asker: Asker::default() }
    }

    /// The same path, with someone who asks its servers. Without, they are passed over.
    pub fn asking(mut self, servers: &Arc<Servers>) -> SymbolPath {
        self.asker = Asker(Some(Arc::clone(servers)));
        self
    }

    /// The same path, with nobody who asks its servers.
    pub(super) fn unasked(&self) -> SymbolPath {
        SymbolPath { elements: self.elements.clone(), asker: Asker::default() }
    }

    /// Who asks the servers.
    pub(super) fn servers(&self) -> Option<&Servers> {
        self.asker.0.as_deref()
    }

    /// The path with everything said that it leaves out.
    pub fn expanded(&self) -> String {
        let elements: Vec<String> = self
            .elements
            .iter()
            .map(|element| match &element.kind {
                ElementKind::Folder(folder) => folder.display().to_string(),
                ElementKind::Cache(folder) => format!("cache*{}", folder.display()),
                ElementKind::Stores(places) => {
                    let mut text = "SRV".to_owned();
                    if matches!(places.first(), None | Some(Place::Server(_))) {
                        text.push_str(&format!("*{}", default_store().display()));
                    }
                    for place in places {
                        match place {
                            Place::Store(store) => text.push_str(&format!("*{}", store.display())),
                            Place::Server(url) => text.push_str(&format!("*{url}")),
                        }
                    }
                    text
                }
            })
            .collect();
        elements.join(";")
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
        if !cfg!(feature = "symsrv") && self.server_names().next().is_some() {
            let servers: Vec<&str> = self.server_names().collect();
            notes.push(format!("this kd is built without network; not asked: {}", servers.join(", ")));
        }
        for element in &self.elements {
            if element.told_secrets {
                notes.push(format!(
                    "user and password are not taken from a path ({}); set KD_SYMBOL_USER and KD_SYMBOL_PASSWORD",
                    element.text
                ));
            }
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
    pub fn server_names(&self) -> impl Iterator<Item = &str> {
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
        let (text, told_secrets) = without_secrets(text);
        let text = text.as_str();
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
        Some(Element { text: text.to_owned(), kind, told_secrets })
    }
}

/// `https://user:password@host/` without the user.
fn without_secrets(text: &str) -> (String, bool) {
    let mut clean = String::new();
    let mut told = false;
    for (n, part) in text.split('*').enumerate() {
        if n > 0 {
            clean.push('*');
        }
        let authority = part.find("://").map(|at| at + 3).filter(|_| is_server(part.trim()));
        let end =
            authority.map(|at| part.get(at..).and_then(|rest| rest.find('/')).map_or(part.len(), |n| at + n));
        let user = authority.zip(end).and_then(|(at, end)| Some((at, at + part.get(at..end)?.rfind('@')?)));
        match user {
            Some((at, sign)) => {
                told = true;
                clean.push_str(part.get(..at).unwrap_or_default());
                clean.push_str(part.get(sign + 1..).unwrap_or_default());
            }
            None => clean.push_str(part),
        }
    }
    (clean, told)
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
pub(super) fn default_store() -> PathBuf {
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
    fn secrets_do_not_stay_in_a_path() {
        let path = SymbolPath::parse("srv*/tmp*https://me:pass@word@one/x@y");
        assert_eq!(path.to_string(), "srv*/tmp*https://one/x@y");
        assert_eq!(path.server_names().collect::<Vec<_>>(), ["https://one/x@y"]);
        assert!(path.notes().iter().any(|note| note.contains("KD_SYMBOL_USER")));
        assert!(!format!("{path:?}").contains("word"));
    }
}
