//! The wall around the library that reads PDB files: the only one that names the crate `pdb` (`lines` and
//! `inlines` are parts of it).
//!
//! The library finds streams, identity, sections, OMAP and symbol records; names and types go into our own
//! [`Index`] and [`ModuleTypes`]. A symbol file may be hostile: every call into the library is made under one
//! `catch_unwind`, and a stream can never be asked to be larger than the file.

mod inlines;
mod lines;

pub(super) use inlines::InlineSite;

use super::SymbolKind;
use super::error::SymbolError;
use super::fpo;
use super::image::PdbId;
use super::index::{Builder, Index};
use super::type_table::TypeTable;
use super::types::ModuleTypes;
use crate::target::unwind::frame_data::{FrameData, FrameKind};
use ::pdb::{FallibleIterator, PDB, Source, SourceSlice, SourceView, StreamIndex, SymbolData};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The type stream's number in every PDB.
const TYPE_STREAM: StreamIndex = StreamIndex(2);
/// The debug information stream's number in every PDB.
const DEBUG_STREAM: StreamIndex = StreamIndex(3);

/// An open PDB.
pub(super) struct PdbFile {
    path: PathBuf,
    id: PdbId,
    /// `None` where the file does not name its machine, as old ones do not.
    pointer_size: Option<u64>,
    private: bool,
    reader: Mutex<PDB<'static, Pages>>,
    /// The older frame data, as they are.
    frames: OnceLock<Option<Vec<u8>>>,
    /// Calls in line that were asked for, by RVA.
    inlines: Mutex<HashMap<u32, Vec<inlines::InlineSite>>>,
}

/// Which names are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    /// Public symbols.
    pub publics: bool,
    /// Functions and variables with more than a name.
    pub others: bool,
}

impl Default for Names {
    fn default() -> Names {
        Names { publics: true, others: true }
    }
}

/// The bytes of a stream.
pub(super) struct StreamBytes(Box<dyn Deref<Target = [u8]> + Send + Sync>);

impl Deref for StreamBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl PdbFile {
    /// Opens a PDB and reads its identity, nothing more.
    pub(super) fn open(path: &Path) -> Result<PdbFile, SymbolError> {
        let broken = |error: io::Error| SymbolError::Broken { path: path.to_owned(), why: error.to_string() };
        let file = File::open(path).map_err(broken)?;
        let length = file.metadata().map_err(broken)?.len();
        let mut head = Vec::new();
        (&file).take(32).read_to_end(&mut head).map_err(broken)?;
        if let Some(why) = foreign(&head) {
            return Err(SymbolError::Broken { path: path.to_owned(), why: why.to_owned() });
        }
        PdbFile::from_pages(path, Pages { length, from: Backing::File(file) })
    }

    /// A PDB in memory; `path` is what it is called in messages.
    pub(super) fn from_bytes(path: &Path, bytes: Arc<Vec<u8>>) -> Result<PdbFile, SymbolError> {
        if let Some(why) = foreign(&bytes) {
            return Err(SymbolError::Broken { path: path.to_owned(), why: why.to_owned() });
        }
        PdbFile::from_pages(path, Pages { length: bytes.len() as u64, from: Backing::Bytes(bytes) })
    }

    fn from_pages(path: &Path, pages: Pages) -> Result<PdbFile, SymbolError> {
        guarded(path, || {
            let mut reader = PDB::open(pages)?;
            let information = reader.pdb_information()?;
            let (guid, first_age) = (information.guid.to_bytes_le(), information.age);
            // The age an image carries is the one the linker wrote into the debug information stream; tools that
            // touch the file later count up only the other one.
            let (age, pointer_size, private) = match reader.debug_information() {
                Ok(debug) => {
                    use ::pdb::MachineType::{Amd64, Arm, Arm64, ArmNT, X86};
                    let pointer_size = match debug.machine_type() {
                        Ok(X86 | Arm | ArmNT) => Some(4),
                        Ok(Amd64 | Arm64) => Some(8),
                        _ => None,
                    };
                    let private = !debug.is_stripped() && has_private_part(&mut reader, &debug)?;
                    (debug.age().unwrap_or(first_age), pointer_size, private)
                }
                Err(_) => (first_age, None, false),
            };
            Ok(PdbFile {
                path: path.to_owned(),
                id: PdbId { guid, age },
                pointer_size,
                private,
                reader: Mutex::new(reader),
                frames: OnceLock::new(),
                inlines: Mutex::default(),
            })
        })
    }

    /// What the file is called in messages.
    fn path(&self) -> &Path {
        &self.path
    }

    /// GUID, and the age that images carry.
    pub(super) fn id(&self) -> PdbId {
        self.id
    }

    /// True where the file was not stripped of what only its builders should see: locals, lines, types.
    pub(super) fn is_private(&self) -> bool {
        self.private
    }

    /// Reads the names that have an address.
    pub(super) fn index(&self, wanted: Names) -> Result<Index, SymbolError> {
        guarded(&self.path, || {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let addresses = reader.address_map()?;
            let mut names = Builder::default();
            // Some linkers do not mark functions; where they lie says it too.
            const EXECUTE: u32 = 0x2000_0000;
            let code: Vec<bool> = reader
                .sections()
                .ok()
                .flatten()
                .unwrap_or_default()
                .iter()
                .map(|section| section.characteristics.0 & EXECUTE != 0)
                .collect();
            let globals = reader.global_symbols()?;
            let mut symbols = globals.iter();
            // A damaged record ends the list; what stands before it is still true.
            while let Ok(Some(symbol)) = symbols.next() {
                collect(&symbol, &addresses, &code, wanted, &mut names);
            }
            // Private PDBs name static functions and variables only in the modules' own streams.
            if wanted.others
                && let Ok(debug) = reader.debug_information()
                && let Ok(mut modules) = debug.modules()
            {
                while let Ok(Some(module)) = modules.next() {
                    let Ok(Some(information)) = reader.module_info(&module) else { continue };
                    let Ok(mut symbols) = information.symbols() else { continue };
                    while let Ok(Some(symbol)) = symbols.next() {
                        collect(&symbol, &addresses, &code, wanted, &mut names);
                    }
                }
            }
            if names.is_empty() {
                return Err(::pdb::Error::GlobalSymbolsNotFound);
            }
            Ok(names.build())
        })
    }

    /// What the file says about the frame of the function at an RVA; only 32-bit code has such data.
    pub(super) fn frame_data(&self, rva: u32) -> Option<FrameData> {
        if self.pointer_size == Some(8) {
            return None;
        }
        let find = || {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let addresses = reader.address_map()?;
            let Some(internal) = ::pdb::Rva(rva).to_internal_rva(&addresses) else { return Ok(None) };
            if let Some(found) = frame_program(&mut reader, internal)? {
                return Ok(Some(found));
            }
            let rows = self.frames.get_or_init(|| old_frames(&mut reader).ok().flatten());
            Ok(rows.as_ref().and_then(|rows| fpo::find(rows, internal.0)))
        };
        guarded(&self.path, find).ok().flatten()
    }

    /// The module's types; `module` is its name for messages.
    pub(super) fn types(&self, module: &str) -> Result<ModuleTypes, SymbolError> {
        let stream = guarded(&self.path, || {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            match reader.raw_stream(TYPE_STREAM) {
                Err(::pdb::Error::StreamNotFound(_)) => Ok(None),
                other => other,
            }
        })?;
        let none = || SymbolError::NoTypes { module: module.to_owned(), path: self.path.clone() };
        let stream = StreamBytes(Box::new(stream.ok_or_else(none)?));
        let table = TypeTable::new(stream, self.pointer_size)
            .map_err(|why| SymbolError::Broken { path: self.path.clone(), why })?;
        if table.is_empty() { Err(none()) } else { Ok(ModuleTypes::new(table)) }
    }
}

/// True where an object file left symbols of its own; the linker's do not count.
fn has_private_part(
    reader: &mut PDB<'static, Pages>,
    debug: &::pdb::DebugInformation<'static>,
) -> ::pdb::Result<bool> {
    let mut modules = debug.modules()?;
    while let Some(module) = modules.next()? {
        if module.module_name() != "* Linker *" && reader.module_info(&module)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The frame data with a program.
fn frame_program(
    reader: &mut PDB<'static, Pages>,
    at: ::pdb::PdbInternalRva,
) -> ::pdb::Result<Option<FrameData>> {
    let table = reader.frame_table()?;
    let mut rows = table.iter_at_rva(at);
    let mut found = None;
    while let Some(row) = rows.next()? {
        let Some(offset) = at.0.checked_sub(row.code_start.0) else { break };
        // Blocks inside a function have rows of their own: the last one that holds the address is the nearest.
        if let (Some(program), true) = (row.program, offset < row.code_size) {
            found = Some((offset, row, program));
        }
    }
    let Some((offset, row, program)) = found else { return Ok(None) };
    let strings = reader.string_table()?;
    Ok(Some(FrameData {
        offset,
        prologue: row.prolog_size.into(),
        is_start: row.is_function_start,
        locals: row.locals_size,
        parameters: row.params_size,
        saved: row.saved_regs_size.into(),
        uses_base_pointer: row.uses_base_pointer,
        program: Some(program.to_string_lossy(&strings)?.into_owned()),
        kind: FrameKind::Fpo,
    }))
}

/// The rows of the older form.
fn old_frames(reader: &mut PDB<'static, Pages>) -> ::pdb::Result<Option<Vec<u8>>> {
    let Some(information) = reader.raw_stream(DEBUG_STREAM)? else { return Ok(None) };
    let Some(number) = fpo::stream_number(&information) else { return Ok(None) };
    Ok(reader.raw_stream(StreamIndex(number))?.map(|rows| rows.to_vec()))
}

/// What a file is that is no PDB of the known form.
fn foreign(head: &[u8]) -> Option<&'static str> {
    const FORMS: &[(&[u8], &str)] = &[
        (b"Microsoft MSFZ Container", "it is a compressed PDB (MSFZ), which is not read in this version"),
        (b"BSJB", "it is a portable PDB of .NET code, which has no symbols of the kernel kind"),
        (b"MZ", "it is an image, not a PDB"),
        (b"<", "it is a web page, probably a server's error in place of the file"),
        (b"version https://git-lfs", "it is a placeholder of Git LFS, not the file itself"),
    ];
    if head.is_empty() {
        return Some("it is empty");
    }
    FORMS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, why)| *why)
}

/// Takes a symbol's name if it is of a kind that has an address.
fn collect(
    symbol: &::pdb::Symbol<'_>,
    addresses: &::pdb::AddressMap<'_>,
    code: &[bool],
    wanted: Names,
    names: &mut Builder,
) {
    // S_PUB32, S_GDATA32/S_LDATA32 and S_GPROC32/S_LPROC32 with their older and newer forms; parsing the others
    // would cost most of the time.
    const KINDS: [u16; 20] = [
        0x110e, 0x110c, 0x110d, 0x110f, 0x1110, 0x1146, 0x1147, 0x1155, 0x1156, 0x1172, 0x1173, 0x1174,
        0x1175, 0x1009, 0x1007, 0x1008, 0x100a, 0x100b, 0x0203, 0x1012,
    ];
    let kind = symbol.raw_kind();
    let is_public = matches!(kind, 0x110e | 0x1009 | 0x0203);
    if !KINDS.contains(&kind) || !(if is_public { wanted.publics } else { wanted.others }) {
        return;
    }
    match symbol.parse() {
        Ok(SymbolData::Public(public)) => {
            if let Some(rva) = public.offset.to_rva(addresses) {
                let section = usize::from(public.offset.section).checked_sub(1);
                let in_code = section.and_then(|n| code.get(n)).copied().unwrap_or(false);
                let code = public.function || public.code || in_code;
                names.public(rva.0, public.name.as_bytes(), code);
            }
        }
        Ok(SymbolData::Data(data)) => {
            if let Some(rva) = data.offset.to_rva(addresses) {
                let kind = if data.global { SymbolKind::GlobalData } else { SymbolKind::StaticData };
                names.plain(rva.0, data.name.as_bytes(), kind, data.type_index.0);
            }
        }
        Ok(SymbolData::Procedure(procedure)) => {
            if let Some(rva) = procedure.offset.to_rva(addresses) {
                let global = procedure.global;
                let kind = if global { SymbolKind::GlobalFunction } else { SymbolKind::StaticFunction };
                // The newer records name their type in another stream.
                let of =
                    if (0x1146..=0x1156).contains(&symbol.raw_kind()) { 0 } else { procedure.type_index.0 };
                names.plain(rva.0, procedure.name.as_bytes(), kind, of);
            }
        }
        _ => {}
    }
}

/// Runs calls into the library; a panic inside it becomes an error like any other.
fn guarded<T>(path: &Path, work: impl FnOnce() -> ::pdb::Result<T>) -> Result<T, SymbolError> {
    let why = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its structure makes no sense".to_owned(),
    };
    Err(SymbolError::Broken { path: path.to_owned(), why })
}

/// Where the library reads from.
struct Pages {
    length: u64,
    from: Backing,
}

enum Backing {
    File(File),
    Bytes(Arc<Vec<u8>>),
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages({} bytes)", self.length)
    }
}

#[derive(Debug)]
struct View(Vec<u8>);

impl SourceView<'_> for View {
    fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl Source<'static> for Pages {
    fn view(&mut self, slices: &[SourceSlice]) -> io::Result<Box<dyn SourceView<'static> + Send + Sync>> {
        let total = slices.iter().try_fold(0u64, |sum, slice| sum.checked_add(slice.size as u64));
        // No page belongs to a stream twice, so no stream is larger than the file.
        let total = total
            .filter(|total| *total <= self.length)
            .and_then(|total| usize::try_from(total).ok())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut bytes = vec![0; total];
        let mut rest = bytes.as_mut_slice();
        let mut slices = slices.iter().copied().peekable();
        while let Some(mut run) = slices.next() {
            while let Some(next) =
                slices.next_if(|next| run.offset.checked_add(run.size as u64) == Some(next.offset))
            {
                run.size = run.size.saturating_add(next.size);
            }
            let (place, after) = rest.split_at_mut_checked(run.size).ok_or(io::ErrorKind::UnexpectedEof)?;
            rest = after;
            match &mut self.from {
                Backing::File(file) => {
                    file.seek(SeekFrom::Start(run.offset))?;
                    file.read_exact(place)?;
                }
                Backing::Bytes(all) => {
                    let start = usize::try_from(run.offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
                    let from = start.checked_add(run.size).and_then(|end| all.get(start..end));
                    place.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                }
            }
        }
        Ok(Box::new(View(bytes)))
    }
}
