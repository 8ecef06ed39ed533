//! The container of a PDB: numbered streams in blocks of one size, and a directory that says where they are.

use super::super::bytes::Bytes;

/// Bytes of a block, and of a block of a large file.
const BLOCKS: [usize; 2] = [1024, 4096];
/// Bytes from which a file is large.
const LARGE: usize = 4 << 20;

/// Streams to be put in a file.
pub struct Container {
    streams: Vec<Vec<u8>>,
}

impl Container {
    /// `count` empty streams. Stream 0 is the directory of an older file, and stays empty.
    pub fn new(count: usize) -> Self {
        Container { streams: vec![Vec::new(); count] }
    }

    /// The bytes of a stream, to be filled.
    pub fn stream(&mut self, index: usize) -> &mut Vec<u8> {
        &mut self.streams[index]
    }

    /// The file: super block, free block maps, streams, directory, and the blocks that list the directory's blocks.
    pub fn finish(self) -> Vec<u8> {
        let total: usize = self.streams.iter().map(Vec::len).sum();
        let block = BLOCKS[usize::from(total >= LARGE)];
        let mut file = vec![0; 3 * block];
        let mut directory = Vec::new();
        directory.u32(self.streams.len() as u32);
        for stream in &self.streams {
            directory.u32(stream.len() as u32);
        }
        for stream in &self.streams {
            for number in append(&mut file, stream, block) {
                directory.u32(number);
            }
        }
        let mut map = Vec::new();
        for number in append(&mut file, &directory, block) {
            map.u32(number);
        }
        assert!(map.len() <= block, "the PDB is too large for one block of the directory's blocks");
        let map_at = append(&mut file, &map, block)[0];

        let blocks = (file.len() / block) as u32;
        file.put(0, b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0");
        for (i, value) in [block as u32, 1, blocks, directory.len() as u32, 0, map_at].into_iter().enumerate()
        {
            file.put_u32(32 + 4 * i, value);
        }
        // A set bit of the free block map is a free block. One map block tells of 8 blocks a byte; one is enough here.
        assert!(blocks as usize <= 8 * block, "the PDB is too large for one free block map");
        for index in 0..block * 8 {
            if index >= blocks as usize {
                file[block + index / 8] |= 1 << (index % 8);
            }
        }
        file
    }
}

/// Puts bytes at the end of the file and returns the blocks they fill, stepping over blocks kept for free block maps.
fn append(file: &mut Vec<u8>, bytes: &[u8], block: usize) -> Vec<u32> {
    let mut blocks = Vec::new();
    for chunk in bytes.chunks(block) {
        while matches!((file.len() / block) % block, 1 | 2) {
            file.resize(file.len() + block, 0);
        }
        blocks.push((file.len() / block) as u32);
        file.extend(chunk);
        file.align(block);
    }
    blocks
}
