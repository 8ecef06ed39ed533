//! Secondary data: tagged blobs that drivers add to a dump after its primary data.

use super::super::bytes::Bytes;
use super::super::world::World;

/// Tag of the blob that every system of the laboratory carries, as its bytes stand in the file.
pub const TAG: [u8; 16] = *b"kd laboratory 01";
/// Contents of that blob.
pub const DATA: &[u8] = b"secondary data of the faulting driver";

/// The blobs of a system, for a file whose primary data ends at `end`.
pub(super) fn blobs(world: &World, end: u64) -> Vec<u8> {
    let mut blobs = b"DumpBlob".to_vec();
    blobs.u32(0x10);
    blobs.u32(0xf000_0000 | world.options.generation.build);
    let own = [(TAG, DATA), ([0x5a; 16], &[1, 2, 3, 4, 5][..])];
    let windows = world.secondary.iter().map(|(tag, data)| (*tag, data.as_slice()));
    for (tag, data) in own.into_iter().chain(windows) {
        blobs.u32(0x20);
        blobs.extend(tag);
        blobs.u32(data.len() as u32);
        blobs.u32(0); // padding before the data
        blobs.u32((data.len().next_multiple_of(8) - data.len()) as u32);
        blobs.extend(data);
        blobs.align(8);
    }
    debug_assert_eq!(end % 8, 0);
    blobs
}
