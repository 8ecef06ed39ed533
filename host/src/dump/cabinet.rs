//! Cabinets: finds the dump in a CAB and unpacks it to a temporary file, which is deleted when it is closed.
//!
//! A cabinet is recognised by its content (`MSCF`), not by its name. Without a member name the first member with the
//! most telling extension is taken, in the order of Microsoft's `OpenDumpFile`: `.kdmp`, `.hdmp`, `.mdmp`, `.dmp`.
//! Everything else in the cabinet is ignored and never unpacked. The `cab` crate is named only here. It decodes a
//! folder from its start for each file it opens, so the one member is read once, in order; a member can at most be
//! 4 GiB, because its size is 32 bits.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use cab::{Cabinet, CabinetBuilder, CompressionType};

use super::error::DumpError;

/// Extensions of dumps, the most preferred first.
const EXTENSIONS: [&str; 4] = [".kdmp", ".hdmp", ".mdmp", ".dmp"];

/// Bytes between two calls of the progress callback.
const STEP: usize = 1 << 20;

/// The most member names a message lists.
const MOST_NAMES: usize = 12;

/// The most bytes that go into a cabinet: 65,535 blocks of 32 KiB are all that a folder has.
const MOST_PACKED: u64 = 0x7fff_8000;

/// A file that is to go into a cabinet.
pub struct Packed<'a> {
    /// Its name there.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Where they come from.
    pub from: Box<dyn Read + 'a>,
}

/// Packs files into a cabinet, compressed.
///
/// # Errors
/// They are too many bytes for one, or the system says no; of kind `Interrupted` if `progress` said false.
pub fn pack(
    to: impl Write + Seek,
    members: Vec<Packed<'_>>,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> io::Result<()> {
    let total: u64 = members.iter().map(|member| member.size).sum();
    if total > MOST_PACKED {
        let text = format!("{total:#x} bytes are more than a cabinet holds ({MOST_PACKED:#x})");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    let mut builder = CabinetBuilder::new();
    let folder = builder.add_folder(CompressionType::MsZip);
    for member in &members {
        folder.add_file(member.name.as_str());
    }
    let mut writer = builder.build(to)?;
    let mut members = members.into_iter();
    let mut done = 0;
    let mut piece = vec![0; STEP];
    while let Some(mut file) = writer.next_file()? {
        let Some(mut member) = members.next() else { break };
        loop {
            if !progress(done, total) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = member.from.read(&mut piece)?;
            if count == 0 {
                break;
            }
            file.write_all(piece.get(..count).unwrap_or_default())?;
            done += count as u64;
        }
    }
    writer.finish().map(drop)
}

/// A member, unpacked.
pub(crate) struct Unpacked {
    /// The name stored in the cabinet.
    pub(crate) member: String,
    /// An unnamed temporary file, at its start.
    pub(crate) file: File,
}

struct Member {
    name: String,
    size: u64,
    compression: CompressionType,
}

/// Unpacks a dump of the cabinet at `path`.
///
/// The `cab` crate trusts the sizes in the table of blocks: one that contradicts itself makes it panic. The panic is
/// caught here and becomes an error; nothing of the reader outlives it.
pub(crate) fn unpack(
    path: &Path,
    wanted: Option<&str>,
    progress: Option<&dyn Fn(u64, u64) -> bool>,
) -> Result<Unpacked, DumpError> {
    catch_unwind(AssertUnwindSafe(|| unpack_member(path, wanted, progress))).unwrap_or_else(|_| {
        Err(DumpError::Cabinet {
            path: path.to_owned(),
            why: "the cabinet is damaged: its table of data blocks contradicts itself; copy it again".into(),
        })
    })
}

fn unpack_member(
    path: &Path,
    wanted: Option<&str>,
    progress: Option<&dyn Fn(u64, u64) -> bool>,
) -> Result<Unpacked, DumpError> {
    let fail = |why: String| DumpError::Cabinet { path: path.to_owned(), why };
    let mut file = File::open(path).map_err(|error| DumpError::Io { path: path.to_owned(), error })?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    refuse_parts(&mut file).map_err(fail)?;
    file.seek(SeekFrom::Start(0)).map_err(|error| DumpError::Io { path: path.to_owned(), error })?;

    let mut cabinet = Cabinet::new(BufReader::with_capacity(1 << 16, file)).map_err(|error| {
        fail(match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                format!("the cabinet is cut at 0x{size:x}, inside its directory; copy it again")
            }
            _ => format!("the cabinet's directory is damaged: {error}"),
        })
    })?;
    let mut members = Vec::new();
    for folder in cabinet.folder_entries() {
        for file in folder.file_entries() {
            members.push(Member {
                name: file.name().to_owned(),
                size: u64::from(file.uncompressed_size()),
                compression: folder.compression_type(),
            });
        }
    }
    let member = choose(&members, wanted).map_err(fail)?;
    if let CompressionType::Quantum(..) = member.compression {
        return Err(fail(format!(
            "\"{}\" is compressed with Quantum, which kd does not read; unpack the cabinet and open the dump",
            member.name
        )));
    }

    let temporary = |error: io::Error| {
        fail(format!(
            "cannot unpack \"{}\" (0x{:x} bytes) to {}: {error}",
            member.name,
            member.size,
            std::env::temp_dir().display()
        ))
    };
    let reader = cabinet
        .read_file(&member.name)
        .map_err(|error| fail(format!("\"{}\" cannot be unpacked: {error}", member.name)))?;
    let mut reader = reader.take(member.size);
    let mut output = tempfile::tempfile().map_err(temporary)?;
    let mut buffer = vec![0; 1 << 16];
    let (mut done, mut reported) = (0u64, 0u64);
    let go_on = |done| progress.is_none_or(|progress| progress(done, member.size));
    if !go_on(0) {
        return Err(DumpError::Interrupted);
    }
    loop {
        let (count, cause) = match reader.read(&mut buffer) {
            Ok(count) => (count, None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => (0, Some(error)),
        };
        if count == 0 {
            if done < member.size {
                return Err(fail(incomplete(member, done, size, cause)));
            }
            break;
        }
        output.write_all(buffer.get(..count).unwrap_or_default()).map_err(temporary)?;
        done += count as u64;
        if done - reported >= STEP as u64 {
            reported = done;
            if !go_on(done) {
                return Err(DumpError::Interrupted);
            }
        }
    }
    if !go_on(done) {
        return Err(DumpError::Interrupted);
    }
    output.flush().and_then(|()| output.seek(SeekFrom::Start(0))).map_err(temporary)?;
    Ok(Unpacked { member: member.name.clone(), file: output })
}

fn incomplete(member: &Member, done: u64, size: u64, cause: Option<io::Error>) -> String {
    let name = &member.name;
    match cause {
        Some(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            format!("\"{name}\" is damaged after 0x{done:x} of 0x{:x} bytes: {error}", member.size)
        }
        _ => format!(
            "the cabinet is cut at 0x{size:x}: \"{name}\" ends after 0x{done:x} of 0x{:x} bytes; copy it again",
            member.size
        ),
    }
}

/// Cabinets that continue in other files are recognised by the flags of the header.
fn refuse_parts(file: &mut File) -> Result<(), String> {
    let mut head = [0u8; 36];
    if file.read_exact(&mut head).is_err() {
        return Err("the cabinet is cut inside its header; copy it again".into());
    }
    let flags = u16::from_le_bytes([head[30], head[31]]);
    if flags & 3 != 0 {
        let part = u16::from_le_bytes([head[34], head[35]]);
        return Err(format!(
            "this is part {} of a multi-part cabinet; unpack the set with another program and open the dump",
            u32::from(part) + 1
        ));
    }
    Ok(())
}

/// The last part of a stored name.
fn base_name(name: &str) -> &str {
    name.rsplit(['\\', '/']).next().unwrap_or(name)
}

fn choose<'a>(members: &'a [Member], wanted: Option<&str>) -> Result<&'a Member, String> {
    if let Some(wanted) = wanted {
        return members
            .iter()
            .find(|member| member.name == wanted)
            .or_else(|| members.iter().find(|member| member.name.eq_ignore_ascii_case(wanted)))
            .or_else(|| members.iter().find(|member| base_name(&member.name).eq_ignore_ascii_case(wanted)))
            .ok_or_else(|| format!("the cabinet has no member \"{wanted}\"; it holds {}", names(members)));
    }
    EXTENSIONS
        .iter()
        .find_map(|extension| {
            members.iter().find(|member| member.name.to_ascii_lowercase().ends_with(extension))
        })
        .ok_or_else(|| {
            format!(
                "the cabinet holds no dump (a member ending in {}); it holds {}; \
                 a dump with another ending can be opened by its name",
                EXTENSIONS.join(", "),
                names(members)
            )
        })
}

fn names(members: &[Member]) -> String {
    if members.is_empty() {
        return "nothing".into();
    }
    let mut list: Vec<String> =
        members.iter().take(MOST_NAMES).map(|member| format!("\"{}\"", member.name)).collect();
    if members.len() > MOST_NAMES {
        list.push(format!("and {} more", members.len() - MOST_NAMES));
    }
    list.join(", ")
}
