//! Secondary data: blobs that drivers and Windows add to a dump, each under a GUID.
//!
//! A file header `DumpBlob`, then blobs: header, padding, data, padding. Layout as in Microsoft's published
//! `DUMP_BLOB_FILE_HEADER` and `DUMP_BLOB_HEADER`. Small dumps have it at `SizeOfDump`.

use super::bytes::u32_at;
use super::header::FileRange;
use super::mapped::MappedFile;

/// The most blobs that are listed.
const MOST_BLOBS: usize = 4096;

/// One blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaggedBlob {
    /// The GUID as it stands in the file (first three groups little-endian).
    pub guid: [u8; 16],
    /// File offset of the data.
    pub offset: u64,
    /// Bytes of data.
    pub size: u64,
}

/// Lists the blobs of the `DumpBlob` at `offset`; empty when there is none.
pub(crate) fn parse(file: &MappedFile, offset: u64) -> Vec<TaggedBlob> {
    let mut blobs = Vec::new();
    let Some(head) = file.get(offset, 16).filter(|head| head.starts_with(b"DumpBlob")) else { return blobs };
    let mut at = offset.saturating_add(u64::from(u32_at(&head, 8).unwrap_or(16)).max(16));
    while blobs.len() < MOST_BLOBS {
        let Some(head) = file.get(at, 32) else { break };
        let number = |at: usize| u64::from(u32_at(&head, at).unwrap_or(0));
        let (header_size, data_size, pre_pad, post_pad) = (number(0), number(20), number(24), number(28));
        if !(32..=0x1000).contains(&header_size) {
            break;
        }
        let data =
            FileRange { offset: at.saturating_add(header_size).saturating_add(pre_pad), size: data_size };
        if data.end() > file.size() {
            break;
        }
        let guid = head.get(4..20).and_then(|guid| guid.try_into().ok()).unwrap_or_default();
        blobs.push(TaggedBlob { guid, offset: data.offset, size: data.size });
        at = data.end().saturating_add(post_pad);
    }
    blobs
}
