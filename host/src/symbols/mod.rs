//! Names for addresses, addresses for names, and the types of a target's modules.
//!
//! One [`Symbols`] stands beside each target. It asks the target through [`ModuleSource`] (`source`) and nothing else,
//! finds a module's PDB when that module is first asked about, and keeps what it found. What it tells is in `answer`.
//! One file an idea: the search path
//! is `path`, files in stores and folders are `store`, which PDB belongs to a module is `locate` (with `crate::image` for
//! the identity written into an image), image files are `images`, the library that reads PDB files stands behind `pdb`, names are `index`
//! and `decorate`, types are `types` over `type_table`, `records` and `simple`, KD's wildcards are `crate::pattern`.
//! Servers are asked by `server`, and what they send is kept by `download`. Source lines,
//! locals and typedefs come from `pdb` too, and are read whenever they are asked for.

mod answer;
mod decorate;
mod download;
mod error;
mod expand;
mod fpo;
mod images;
mod index;
mod locate;
mod path;
mod pdb;
mod records;
mod server;
mod simple;
mod source;
mod store;
mod type_table;
mod types;

#[cfg(test)]
mod tests;

pub use crate::image::PdbId;
pub use crate::pattern::{Pattern, PatternError};
pub use answer::{Exact, Hit, Inlined, Local, LocalPlace, ModuleState, Named, Near, SourceLine, SymbolKind};
pub use error::{Looked, Search, SymbolError};
use images::Images;
pub use locate::Matched;
use locate::Places;
pub use path::{Element, ElementKind, Place, SymbolPath};
pub use server::{Patience, Servers, Watch};
pub use source::{KernelHints, Module, ModuleSource};
pub use types::{EnumValue, Field, Kind, ModuleTypes, TypeId};

use crate::image::{self, ImageFile};
use crate::target::unwind::frame_data::FrameData;
use kd_sdk::address::Va;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A module's symbols, found.
struct Loaded {
    path: PathBuf,
    id: PdbId,
    matched: Matched,
    pdb: pdb::PdbFile,
    names: pdb::Names,
    index: OnceLock<Result<index::Index, SymbolError>>,
    types: OnceLock<Result<Arc<ModuleTypes>, SymbolError>>,
    typedefs: OnceLock<Vec<(String, TypeId)>>,
}

impl Loaded {
    fn index(&self) -> Result<&index::Index, SymbolError> {
        self.index.get_or_init(|| self.pdb.index(self.names)).as_ref().map_err(Clone::clone)
    }
}

/// A module without a PDB.
struct NoPdb {
    reason: Arc<SymbolError>,
    /// What its image exports.
    exports: Option<index::Index>,
}

type Outcome = Result<Loaded, NoPdb>;
type Slot = Arc<OnceLock<Outcome>>;

/// Symbol options that change what is found; the numbers are dbghelp's.
pub mod option {
    /// Names are found in any case.
    pub const CASE_INSENSITIVE: u32 = 0x1;
    /// Symbols of another build are taken.
    pub const LOAD_ANYTHING: u32 = 0x40;
    /// A name without its module loads no symbols.
    pub const NO_UNQUALIFIED_LOADS: u32 = 0x100;
    /// Symbols of another build are never taken.
    pub const EXACT_SYMBOLS: u32 = 0x400;
    /// Private symbols are left out when a file is loaded.
    pub const PUBLICS_ONLY: u32 = 0x4000;
    /// Public symbols are left out when a file is loaded.
    pub const NO_PUBLICS: u32 = 0x8000;
}

/// The symbols of one target.
pub struct Symbols {
    places: Mutex<Places>,
    voice: Mutex<Option<Arc<dyn Watch>>>,
    images: Images,
    /// By base, size and time stamp: an index may change its meaning, an image does not.
    slots: Mutex<HashMap<(u64, u64, u32), Slot>>,
    /// See [`option`].
    options: AtomicU32,
}

impl Default for Symbols {
    fn default() -> Symbols {
        let options = AtomicU32::new(option::CASE_INSENSITIVE);
        Symbols {
            places: Mutex::default(),
            voice: Mutex::default(),
            images: Images::default(),
            slots: Mutex::default(),
            options,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Symbols {
    /// Symbols that will be looked for on `path`; nothing is opened yet.
    pub fn new(path: SymbolPath) -> Symbols {
        Symbols { places: Mutex::new(Places { symbols: path, ..Places::default() }), ..Symbols::default() }
    }

    /// The search path.
    pub fn path(&self) -> SymbolPath {
        lock(&self.places).symbols.clone()
    }

    /// Sets where image files are looked for before the search path is.
    pub fn set_image_path(&self, path: SymbolPath) {
        lock(&self.places).images = path;
        self.retry();
    }

    /// Sets the options of [`option`]. Those about public symbols hold for what is loaded from now on.
    pub fn set_options(&self, options: u32) {
        self.options.store(options, Ordering::Relaxed);
        let anything = options & (option::LOAD_ANYTHING | option::EXACT_SYMBOLS) == option::LOAD_ANYTHING;
        self.accept_other_builds(anything);
    }

    fn has(&self, bit: u32) -> bool {
        self.options.load(Ordering::Relaxed) & bit != 0
    }

    /// Whether a PDB of another build is taken where the right one is not found.
    pub fn accept_other_builds(&self, accept: bool) {
        lock(&self.places).other_builds = accept;
    }

    /// Whether a PDB of another build is taken.
    pub fn other_builds(&self) -> bool {
        lock(&self.places).other_builds
    }

    /// Whether files are fetched from servers although they are in a cache.
    pub fn fetch_anew(&self, anew: bool) {
        if let Some(servers) = lock(&self.places).symbols.servers() {
            servers.fetch_anew(anew);
        }
    }

    /// Who is told every place that is looked at; nobody at first.
    pub fn set_voice(&self, voice: Option<Arc<dyn Watch>>) {
        *lock(&self.voice) = voice;
    }

    /// Modules without symbols or without an image file are tried again.
    fn retry(&self) {
        self.images.retry();
        lock(&self.slots).retain(|_, slot| matches!(slot.get(), Some(Ok(_))));
    }

    /// Sets the search path. As in KD this reloads nothing; modules that had no symbols are tried again.
    pub fn set_path(&self, path: SymbolPath) {
        lock(&self.places).symbols = path;
        self.retry();
    }

    /// Forgets a module's symbols, or every module's.
    pub fn unload(&self, source: &dyn ModuleSource, module: Option<usize>) {
        match module.map(|index| source.module(index)) {
            Some(Some(module)) => {
                lock(&self.slots).remove(&key(&module));
            }
            Some(None) => {}
            None => lock(&self.slots).clear(),
        }
    }

    /// What is known of a module's symbols, without looking for them.
    pub fn state(&self, source: &dyn ModuleSource, module: usize) -> ModuleState {
        let slot = source.module(module).and_then(|module| lock(&self.slots).get(&key(&module)).cloned());
        match slot.as_ref().and_then(|slot| slot.get()) {
            None => ModuleState::Deferred,
            Some(outcome) => state_of(outcome),
        }
    }

    /// Looks for a module's symbols if nobody has yet.
    pub fn load(&self, source: &dyn ModuleSource, module: usize) -> ModuleState {
        match source.module(module) {
            Some(module) => {
                let slot = self.slot(source, &module);
                slot.get().map_or(ModuleState::Deferred, state_of)
            }
            None => ModuleState::None {
                reason: Arc::new(SymbolError::NoModule { name: format!("number {module}") }),
            },
        }
    }

    /// Takes a file as a module's PDB, whatever build it is of.
    ///
    /// # Errors
    /// When it is no PDB.
    pub fn load_file(
        &self,
        source: &dyn ModuleSource,
        module: usize,
        file: &Path,
    ) -> Result<(), SymbolError> {
        let none = || SymbolError::NoModule { name: format!("number {module}") };
        let module = source.module(module).ok_or_else(none)?;
        let slot = Slot::default();
        let _ = slot.set(Ok(locate::load_file(source, &module, file)?));
        lock(&self.slots).insert(key(&module), slot);
        Ok(())
    }

    /// The image file of a module, for what the dump does not hold of it.
    ///
    /// # Errors
    /// What was looked for, and where.
    pub fn image(
        &self,
        source: &dyn ModuleSource,
        module: usize,
    ) -> Result<Arc<ImageFile>, Arc<SymbolError>> {
        let none = || Arc::new(SymbolError::NoModule { name: format!("number {module}") });
        let module = source.module(module).ok_or_else(none)?;
        self.images.of(|| lock(&self.places).for_images(), &module)
    }

    /// What stands at an address; `None` where no module holds it. Loads that module's symbols.
    pub fn at(&self, source: &dyn ModuleSource, va: Va) -> Option<Hit> {
        let number = source.module_at(va)?;
        let module = source.module(number)?;
        let rva = va.0.wrapping_sub(module.base.0);
        let slot = self.slot(source, &module);
        let found = index_of(&slot).and_then(|index| index.at_or_before(u32::try_from(rva).ok()?));
        Some(match found {
            Some(entry) => entry.hit(number, &module, rva),
            None => bare(number, &module, rva),
        })
    }

    /// What the symbols of 32-bit code say about the frame of the function at an address.
    pub fn frame_data(&self, source: &dyn ModuleSource, va: Va) -> Option<FrameData> {
        let module = source.module(source.module_at(va)?)?;
        let rva = u32::try_from(va.0.wrapping_sub(module.base.0)).ok()?;
        match self.slot(source, &module).get() {
            Some(Ok(loaded)) => loaded.pdb.frame_data(rva),
            _ => None,
        }
    }

    /// What stands at an address and around it.
    pub fn near(&self, source: &dyn ModuleSource, va: Va) -> Option<Near> {
        let at = self.at(source, va)?;
        let module = source.module(at.module)?;
        let rva = va.0.wrapping_sub(module.base.0);
        let slot = self.slot(source, &module);
        let (mut next, mut exact) = (None, Vec::new());
        if let (Some(index), Ok(rva)) = (index_of(&slot), u32::try_from(rva)) {
            let hit = |entry: index::Entry<'_>| entry.hit(at.module, &module, u64::from(entry.rva));
            next = index.after(rva).map(hit);
            let told =
                |entry: index::Entry<'_>| Exact { hit: hit(entry), kind: entry.kind, type_id: entry.of };
            exact = index.exactly(rva).map(told).collect();
        }
        Some(Near { at, next, exact })
    }

    /// The source line of the code at an address; `None` where the symbols tell of none.
    pub fn line_at(&self, source: &dyn ModuleSource, va: Va) -> Option<SourceLine> {
        let module = source.module(source.module_at(va)?)?;
        let rva = u32::try_from(va.0.wrapping_sub(module.base.0)).ok()?;
        let slot = self.slot(source, &module);
        let loaded = slot.get()?.as_ref().ok().filter(|loaded| loaded.pdb.is_private())?;
        loaded.pdb.line(rva).ok()?
    }

    /// The first code of a source line, or of the next line of the file that has some: in one module, or in the first
    /// whose loaded symbols tell of it. `file` is the end of a path; case and the kind of slash do not matter.
    ///
    /// # Errors
    /// There is no such module, or it has no symbols.
    pub fn code_of(
        &self,
        source: &dyn ModuleSource,
        module: Option<&str>,
        file: &str,
        line: u32,
    ) -> Result<Option<Va>, SymbolError> {
        let numbers = match module {
            Some(name) => vec![module_named(source, name)?],
            None => self.search_order(source),
        };
        for module in numbers.into_iter().filter_map(|number| source.module(number)) {
            let slot = self.slot(source, &module);
            let Some(Ok(loaded)) = slot.get() else { continue };
            if loaded.pdb.is_private()
                && let Some(rva) = loaded.pdb.code_of(file, line)?
            {
                return Ok(Some(module.base.add(rva.into())));
            }
        }
        Ok(None)
    }

    /// The calls that the compiler put in line at an address, the innermost first.
    pub fn inlined_at(&self, source: &dyn ModuleSource, va: Va) -> Vec<Inlined> {
        let found = || {
            let number = source.module_at(va)?;
            let module = source.module(number)?;
            let rva = u32::try_from(va.0.wrapping_sub(module.base.0)).ok()?;
            let slot = self.slot(source, &module);
            let loaded = slot.get()?.as_ref().ok().filter(|loaded| loaded.pdb.is_private())?;
            let sites = loaded.pdb.inlined(rva).ok()?;
            let types = || self.types_of(source, number).ok();
            let inlined = |site: pdb::InlineSite| {
                let class = site.class.and_then(|class| Some(types()?.name(class)));
                let name = class.map_or(site.name.clone(), |class| format!("{class}::{}", site.name));
                let name = format!("{}!{name}", module.name);
                Inlined { name, displacement: site.displacement, line: site.line }
            };
            Some(sites.into_iter().map(inlined).collect())
        };
        found().unwrap_or_default()
    }

    /// The variables in scope at an address: those of the function, or of the call in line that is `level` calls inside
    /// it, of the innermost where there are fewer. None where the symbols tell of none.
    pub fn locals_at(
        &self,
        source: &dyn ModuleSource,
        va: Va,
        level: usize,
    ) -> Result<Vec<Local>, SymbolError> {
        let module = source.module_at(va).and_then(|number| source.module(number));
        let Some(module) = module else { return Ok(Vec::new()) };
        let Ok(rva) = u32::try_from(va.0.wrapping_sub(module.base.0)) else { return Ok(Vec::new()) };
        let slot = self.slot(source, &module);
        match slot.get() {
            Some(Ok(loaded)) => loaded.pdb.locals(rva, level),
            Some(Err(none)) => Err((*none.reason).clone()),
            None => Ok(Vec::new()),
        }
    }

    /// The type of a typedef of a module.
    fn typedef(&self, source: &dyn ModuleSource, number: usize, name: &str) -> Option<TypeId> {
        let module = source.module(number)?;
        let slot = self.slot(source, &module);
        let loaded = slot.get()?.as_ref().ok()?;
        let all = loaded.typedefs.get_or_init(|| loaded.pdb.typedefs().unwrap_or_default());
        let at = all.partition_point(|(known, _)| known.as_str() < name);
        all.get(at).filter(|(known, _)| known == name).map(|(_, id)| *id)
    }

    /// The address of `module!name`, of a module, or of a bare name: the kernel is asked first, then every module
    /// whose symbols are loaded.
    pub fn find(&self, source: &dyn ModuleSource, name: &str) -> Result<Va, SymbolError> {
        if let Some((module, symbol)) = split(name) {
            let number = module_named(source, module)?;
            return match self.find_in(source, number, symbol)? {
                Some(va) => Ok(va),
                None => Err(SymbolError::NotFound { module: module.to_owned(), name: symbol.to_owned() }),
            };
        }
        let symbol = name.trim_start_matches('!');
        let mut kernel_error = None;
        for number in self.search_order(source) {
            match self.find_in(source, number, symbol) {
                Ok(Some(va)) => return Ok(va),
                Ok(None) => {}
                Err(error) => kernel_error = kernel_error.or(Some(error)),
            }
        }
        if let Ok(number) = module_named(source, name)
            && let Some(module) = source.module(number)
        {
            return Ok(module.base);
        }
        Err(kernel_error.unwrap_or_else(|| SymbolError::NotFoundAnywhere { name: symbol.to_owned() }))
    }

    /// Gives every symbol that matches `module!pattern` to the visitor, module by module in order of names, until it
    /// breaks. Both sides may hold wildcards. Modules without symbols are an error only where just one was named.
    pub fn each(
        &self,
        source: &dyn ModuleSource,
        pattern: &str,
        visit: &mut dyn FnMut(Named<'_>) -> ControlFlow<()>,
    ) -> Result<(), SymbolError> {
        let (numbers, symbol, exact) = self.named_by(source, pattern)?;
        let symbol = Pattern::parse(symbol)?;
        for number in numbers {
            let Some(module) = source.module(number) else { continue };
            let slot = self.slot(source, &module);
            let index = match slot.get() {
                Some(Ok(loaded)) => loaded.index(),
                Some(Err(none)) => none.exports.as_ref().ok_or_else(|| (*none.reason).clone()),
                None => continue,
            };
            let index = match index {
                Ok(index) => index,
                Err(error) if exact => return Err(error),
                Err(_) => continue,
            };
            let flow = index.each(&symbol, &mut |entry| {
                visit(Named {
                    module: number,
                    module_name: module.name,
                    name: entry.name,
                    address: module.base.add(u64::from(entry.rva)),
                    kind: entry.kind,
                    type_id: entry.of,
                })
            });
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The types of a module, by the module's name.
    pub fn types(&self, source: &dyn ModuleSource, module: &str) -> Result<Arc<ModuleTypes>, SymbolError> {
        self.types_of(source, module_named(source, module)?)
    }

    /// The types of a module, by its index.
    pub fn types_of(
        &self,
        source: &dyn ModuleSource,
        module: usize,
    ) -> Result<Arc<ModuleTypes>, SymbolError> {
        let module = source
            .module(module)
            .ok_or_else(|| SymbolError::NoModule { name: format!("number {module}") })?;
        let slot = self.slot(source, &module);
        match slot.get() {
            Some(Ok(loaded)) => loaded
                .types
                .get_or_init(|| loaded.pdb.types(module.name).map(Arc::new))
                .as_ref()
                .map(Arc::clone)
                .map_err(Clone::clone),
            Some(Err(none)) => Err((*none.reason).clone()),
            None => Err(SymbolError::NoModule { name: module.name.to_owned() }),
        }
    }

    /// A type by name: `nt!_EPROCESS`, or a bare name looked for in the kernel and then in every module whose
    /// symbols are loaded.
    pub fn find_type(
        &self,
        source: &dyn ModuleSource,
        name: &str,
    ) -> Result<(Arc<ModuleTypes>, TypeId), SymbolError> {
        if let Some((module, name)) = split(name) {
            let number = module_named(source, module)?;
            let types = self.types_of(source, number)?;
            let id = types.find(name).or_else(|| self.typedef(source, number, name));
            return match id {
                Some(id) => Ok((types, id)),
                None => Err(SymbolError::NoType { module: module.to_owned(), name: name.to_owned() }),
            };
        }
        let name = name.trim_start_matches('!');
        let mut first = None;
        for number in self.search_order(source) {
            match self.types_of(source, number) {
                Ok(types) => {
                    if let Some(id) = types.find(name).or_else(|| self.typedef(source, number, name)) {
                        return Ok((types, id));
                    }
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| SymbolError::NoType {
            module: "any loaded module".to_owned(),
            name: name.to_owned(),
        }))
    }

    /// The index of a module by its name or its image's name, without case.
    pub fn module_named(&self, source: &dyn ModuleSource, name: &str) -> Result<usize, SymbolError> {
        module_named(source, name)
    }

    fn find_in(
        &self,
        source: &dyn ModuleSource,
        number: usize,
        symbol: &str,
    ) -> Result<Option<Va>, SymbolError> {
        let Some(module) = source.module(number) else { return Ok(None) };
        let slot = self.slot(source, &module);
        let any_case = self.has(option::CASE_INSENSITIVE);
        let find = |index: &index::Index| {
            let entry = index.find_entry(symbol).filter(|entry| any_case || entry.name == symbol)?;
            Some(module.base.add(u64::from(entry.rva)))
        };
        match slot.get() {
            Some(Ok(loaded)) => Ok(find(loaded.index()?)),
            Some(Err(none)) => match none.exports.as_ref().and_then(find) {
                Some(va) => Ok(Some(va)),
                None => Err((*none.reason).clone()),
            },
            None => Ok(None),
        }
    }

    /// The kernel, then the modules with loaded symbols; the kernel too only if it has some where names without a module
    /// are to load nothing.
    fn search_order(&self, source: &dyn ModuleSource) -> Vec<usize> {
        let all = || (0..source.modules()).filter_map(|n| Some((n, source.module(n)?)));
        let loads = !self.has(option::NO_UNQUALIFIED_LOADS);
        let is_loaded = |n| !matches!(self.state(source, n), ModuleState::Deferred);
        let kernel = all().filter(|(n, module)| module.is_kernel && (loads || is_loaded(*n))).map(|(n, _)| n);
        let others = all()
            .filter(|(n, module)| {
                let state = self.state(source, *n);
                !module.is_kernel && matches!(state, ModuleState::Loaded { .. } | ModuleState::Exports { .. })
            })
            .map(|(n, _)| n);
        kernel.chain(others).collect()
    }

    /// The modules of a pattern, the pattern of the symbol, and whether just one module was named outright.
    fn named_by<'p>(
        &self,
        source: &dyn ModuleSource,
        pattern: &'p str,
    ) -> Result<(Vec<usize>, &'p str, bool), SymbolError> {
        let Some((module, symbol)) = split(pattern) else {
            return Ok((self.search_order(source), pattern.trim_start_matches('!'), false));
        };
        let parsed = Pattern::parse(module)?;
        if parsed.literal().is_some() {
            return Ok((vec![module_named(source, module)?], symbol, true));
        }
        let numbers = (0..source.modules())
            .filter(|n| source.module(*n).is_some_and(|module| parsed.matches(module.name)))
            .collect();
        Ok((numbers, symbol, false))
    }

    /// The module's slot, filled.
    fn slot(&self, source: &dyn ModuleSource, module: &Module<'_>) -> Slot {
        let slot = Arc::clone(lock(&self.slots).entry(key(module)).or_default());
        slot.get_or_init(|| {
            let places = lock(&self.places).clone();
            let mut outcome = locate::locate(&places, &self.images, source, module).map_err(|error| NoPdb {
                exports: locate::exported(&places, source, module),
                reason: Arc::new(error),
            });
            let (publics, others) = (!self.has(option::NO_PUBLICS), !self.has(option::PUBLICS_ONLY));
            if let (Ok(loaded), false) = (&mut outcome, publics && others) {
                loaded.names = pdb::Names { publics, others };
                loaded.index = OnceLock::new();
            }
            self.speak(module, &outcome);
            outcome
        });
        if let Some(Err(none)) = slot.get()
            && none.reason.was_interrupted()
        {
            lock(&self.slots).remove(&key(module));
        }
        slot
    }

    /// Tells whoever wants to know what was looked at.
    fn speak(&self, module: &Module<'_>, outcome: &Outcome) {
        let Some(voice) = lock(&self.voice).clone() else { return };
        match outcome {
            Ok(loaded) => {
                let path = loaded.path.display();
                voice.say(&format!("{}: symbols from {path}, {}", module.name, loaded.matched));
            }
            Err(none) => {
                for looked in none.reason.looked() {
                    voice.say(&format!("{}: {looked}", module.name));
                }
                voice.say(&format!("{}: {}", module.name, none.reason));
            }
        }
    }
}

fn key(module: &Module<'_>) -> (u64, u64, u32) {
    (module.base.0, module.size, module.time_stamp)
}

fn index_of(slot: &Slot) -> Option<&index::Index> {
    match slot.get()? {
        Ok(loaded) => loaded.index().ok(),
        Err(none) => none.exports.as_ref(),
    }
}

fn state_of(outcome: &Outcome) -> ModuleState {
    match outcome {
        Ok(loaded) => ModuleState::Loaded {
            pdb: loaded.path.clone(),
            id: loaded.id,
            matched: loaded.matched.clone(),
            private: loaded.pdb.is_private(),
        },
        Err(NoPdb { exports: Some(exports), reason }) => {
            ModuleState::Exports { count: exports.len(), reason: Arc::clone(reason) }
        }
        Err(none) => ModuleState::None { reason: Arc::clone(&none.reason) },
    }
}

/// The module itself, where it has no symbol to offer.
fn bare(number: usize, module: &Module<'_>, rva: u64) -> Hit {
    Hit {
        module: number,
        module_name: module.name.to_owned(),
        name: String::new(),
        address: module.base,
        displacement: rva,
    }
}

/// `module!symbol`; `None` for a bare name and for `!symbol`.
fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once('!').filter(|(module, _)| !module.is_empty())
}

fn module_named(source: &dyn ModuleSource, name: &str) -> Result<usize, SymbolError> {
    let by = |matches: &dyn Fn(&Module<'_>) -> bool| {
        (0..source.modules()).find(|n| source.module(*n).is_some_and(|module| matches(&module)))
    };
    by(&|module| module.name.eq_ignore_ascii_case(name))
        .or_else(|| by(&|module| module.is_kernel && name.eq_ignore_ascii_case("nt")))
        .or_else(|| {
            by(&|module| {
                let file = image::file_name(module.image);
                let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or(file);
                file.eq_ignore_ascii_case(name) || stem.eq_ignore_ascii_case(name)
            })
        })
        .ok_or_else(|| SymbolError::NoModule { name: name.to_owned() })
}
