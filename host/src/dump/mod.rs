//! Dump files: their formats, without symbols and without printing.
//!
//! [`Dump::open`] recognises the file, unpacks it when it is a cabinet, parses its header and the tables of its kind,
//! and reads nothing else. Physical pages are reached through [`PhysicalMemory`], the virtual blocks of a small dump
//! through [`VirtualBlocks`]. What addresses mean is the business of the `memory` layer.

mod bitmap;
mod blocks;
mod bytes;
mod cabinet;
mod error;
mod foreign;
mod header;
mod kind;
mod mapped;
mod physical;
mod runs;
mod streams;
mod tagged;
mod triage;
mod write;
mod write_small;

#[cfg(test)]
mod real_tests;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use blocks::{Block, BlockKind, VirtualBlocks};
pub use cabinet::{Packed, pack};
pub use error::{DumpError, Problem};
pub use header::{BugCheck, ExceptionRecord, FileRange, Header, MemoryDescriptor, MemoryRun};
pub use kind::{DumpKind, Machine};
pub use mapped::MappedFile;
pub use physical::{Absent, PhysicalMemory, PhysicalRun};
pub use tagged::TaggedBlob;
pub use triage::{Driver, Triage, UnloadedDriver};
pub use write::{Change, Frames, Step, WriteError, write_bitmap};
pub use write_small::{LoadedDriver, Memory, SmallDump, write_small};

use header::HeaderError;

/// How to open a dump.
#[derive(Default, Clone)]
pub struct OpenOptions<'a> {
    /// The member of a cabinet to open; `None` takes the first dump by kind.
    pub member: Option<String>,
    /// Read with positioned reads instead of a memory map.
    pub no_mmap: bool,
    /// Called while a cabinet is unpacked with (bytes done, bytes in all); `false` stops with
    /// [`DumpError::Interrupted`].
    pub progress: Option<&'a dyn Fn(u64, u64) -> bool>,
}

/// One stream, block or table of the file, for `.dumpdebug`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LayoutEntry {
    /// What it is.
    pub name: String,
    /// Its file offset.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
    /// A remark: a count, a target address, "cut".
    pub note: String,
}

/// An open dump.
pub struct Dump {
    path: PathBuf,
    file: Arc<MappedFile>,
    header: Header,
    problems: Vec<Problem>,
    physical: Option<Box<dyn PhysicalMemory>>,
    blocks: Option<Arc<VirtualBlocks>>,
    triage: Option<Triage>,
    tagged: Vec<TaggedBlob>,
    member: Option<String>,
    streams: Vec<LayoutEntry>,
}

impl std::fmt::Debug for Dump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dump")
            .field("path", &self.path)
            .field("kind", &self.header.kind)
            .finish_non_exhaustive()
    }
}

impl Dump {
    /// Opens `path`. Errors are whole messages, see [`DumpError`].
    pub fn open(path: &Path, options: &OpenOptions<'_>) -> Result<Dump, DumpError> {
        let io = |error| DumpError::Io { path: path.to_owned(), error };
        let file = File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(DumpError::NotAFile { path: path.to_owned() });
        }
        let file = MappedFile::new(file, options.no_mmap).map_err(io)?;
        if file.size() == 0 {
            return Err(DumpError::Empty { path: path.to_owned() });
        }
        if file.get(0, 4).is_some_and(|magic| magic.as_ref() == b"MSCF") {
            let unpacked = cabinet::unpack(path, options.member.as_deref(), options.progress)?;
            let file = MappedFile::new(unpacked.file, options.no_mmap).map_err(io)?;
            return Dump::from_file(path, file, Some(unpacked.member));
        }
        if let Some(member) = &options.member {
            return Err(DumpError::NotAnArchive { path: path.to_owned(), member: member.clone() });
        }
        Dump::from_file(path, file, None)
    }

    fn from_file(opened: &Path, file: MappedFile, member: Option<String>) -> Result<Dump, DumpError> {
        let size = file.size();
        // In messages a member stands with its cabinet.
        let path = match &member {
            Some(member) => PathBuf::from(format!("\"{member}\" in {}", opened.display())),
            None => opened.to_owned(),
        };
        if size == 0 {
            return Err(DumpError::Empty { path });
        }
        let mut head = vec![0; usize::try_from(size.min(0x2000)).unwrap_or(0)];
        let held = file.read_at(0, &mut head);
        head.truncate(held);
        let header = match Header::parse(&head) {
            Ok(header) => header,
            Err(HeaderError::Signature) if head.starts_with(b"MDMP") => {
                let machine = foreign::minidump_machine(&file);
                return Err(DumpError::UserModeMinidump { path, machine });
            }
            Err(HeaderError::Signature) => {
                return Err(DumpError::NotADump { path, found: foreign::describe(&head) });
            }
            Err(HeaderError::Cut { needed }) => {
                return Err(DumpError::Cut { path, what: "the dump header", size, needed });
            }
            Err(HeaderError::Machine { number, offset }) => {
                return Err(DumpError::UnsupportedMachine { path, number, offset });
            }
            Err(HeaderError::Kind { number, offset }) => {
                return Err(DumpError::UnknownKind { path, number, offset });
            }
        };
        let mut dump = Dump {
            path: opened.to_owned(),
            file: Arc::new(file),
            header,
            problems: Vec::new(),
            physical: None,
            blocks: None,
            triage: None,
            tagged: Vec::new(),
            member,
            streams: Vec::new(),
        };
        match dump.header.kind {
            DumpKind::Triage => dump.open_triage(path)?,
            DumpKind::HeaderOnly => {}
            _ => dump.open_pages(path)?,
        }
        Ok(dump)
    }

    fn open_pages(&mut self, path: PathBuf) -> Result<(), DumpError> {
        let offset = self.header.size;
        let opened = streams::open_pages(&self.file, &self.header).map_err(|why| DumpError::Broken {
            path,
            what: "the table of pages",
            offset,
            why,
        })?;
        // Secondary data follows the pages; some writers leave a gap up to the announced end.
        self.tagged = tagged::parse(&self.file, opened.end);
        if self.tagged.is_empty()
            && let Some(end) = self.header.required_dump_space
        {
            self.tagged = tagged::parse(&self.file, end);
        }
        self.problems.extend(opened.problems);
        self.streams = opened.layout;
        self.physical = Some(Box::new(opened.pages));
        Ok(())
    }

    fn open_triage(&mut self, path: PathBuf) -> Result<(), DumpError> {
        let Some(parsed) = triage::parse(&self.file, &self.header) else {
            return Err(DumpError::Cut {
                path,
                what: "the triage header",
                size: self.file.size(),
                needed: self.header.size + if self.header.is_64_bit { 0x80 } else { 0x68 },
            });
        };
        self.tagged = tagged::parse(&self.file, parsed.triage.size_of_dump);
        self.blocks = Some(Arc::new(VirtualBlocks::new(self.file.clone(), parsed.blocks)));
        self.triage = Some(parsed.triage);
        self.problems.extend(parsed.problems);
        Ok(())
    }

    /// The path that was opened: for a dump in a cabinet, the cabinet.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The member's name, when the dump was taken out of a cabinet.
    pub fn archive_member(&self) -> Option<&str> {
        self.member.as_deref()
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The kind of dump.
    pub fn kind(&self) -> DumpKind {
        self.header.kind
    }

    /// The machine it comes from.
    pub fn machine(&self) -> Machine {
        self.header.machine
    }

    /// Bytes in the dump file (unpacked).
    pub fn file_size(&self) -> u64 {
        self.file.size()
    }

    /// What is wrong with the file although it opens.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The physical pages; `None` for small and header-only dumps.
    pub fn physical(&self) -> Option<&dyn PhysicalMemory> {
        self.physical.as_deref()
    }

    /// The blocks of virtual memory; small dumps only.
    pub fn virtual_blocks(&self) -> Option<&Arc<VirtualBlocks>> {
        self.blocks.as_ref()
    }

    /// The tables of a small dump.
    pub fn triage(&self) -> Option<&Triage> {
        self.triage.as_ref()
    }

    /// The blobs of secondary data.
    pub fn tagged_data(&self) -> &[TaggedBlob] {
        &self.tagged
    }

    /// The bytes of a blob.
    pub fn tagged_bytes(&self, blob: &TaggedBlob) -> Option<Cow<'_, [u8]>> {
        self.read_file(blob.offset, usize::try_from(blob.size).ok()?)
    }

    /// `len` bytes of the file; `None` unless it holds all of them.
    pub fn read_file(&self, offset: u64, len: usize) -> Option<Cow<'_, [u8]>> {
        self.file.get(offset, len)
    }

    /// The whole file, unpacked, as a stream.
    pub fn stream(&self) -> impl std::io::Read + '_ {
        Stream { dump: self, at: 0 }
    }

    /// The bytes of a range of the file; `None` unless it holds all of them.
    pub fn read_range(&self, range: FileRange) -> Option<Cow<'_, [u8]>> {
        self.file.get(range.offset, usize::try_from(range.size).ok()?)
    }

    /// Every table, stream and block of the file, by offset.
    pub fn layout(&self) -> Vec<LayoutEntry> {
        let header = &self.header;
        let mut layout = vec![LayoutEntry {
            name: "dump header".into(),
            offset: 0,
            size: header.size,
            note: format!("{}, type {:#x} ({})", header.machine, header.kind.number(), header.kind),
        }];
        if let Some(context) = header.context {
            layout.push(entry("context record", context, String::new()));
        }
        layout.extend(self.streams.iter().cloned());
        if let Some(triage) = &self.triage {
            triage::layout(triage, header, &mut layout);
        }
        for block in self.blocks.iter().flat_map(|blocks| blocks.source()) {
            if block.kind == BlockKind::Data {
                layout.push(entry(block.kind.name(), block.file, format!("at {}", block.va)));
            }
        }
        for blob in &self.tagged {
            let range = FileRange { offset: blob.offset, size: blob.size };
            layout.push(entry("tagged data", range, streams::guid(blob)));
        }
        for entry in &mut layout {
            if entry.offset.saturating_add(entry.size) > self.file.size() {
                entry.note.push_str(if entry.note.is_empty() { "cut" } else { ", cut" });
            }
        }
        layout.sort_by_key(|entry| entry.offset);
        layout
    }
}

/// A dump's file from the start to the end.
struct Stream<'a> {
    dump: &'a Dump,
    at: u64,
}

impl std::io::Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let done = self.dump.file.read_at(self.at, buffer);
        self.at += done as u64;
        Ok(done)
    }
}

fn entry(name: &str, range: FileRange, note: String) -> LayoutEntry {
    LayoutEntry { name: name.into(), offset: range.offset, size: range.size, note }
}
