//! CAB files around dumps: stored, MSZIP, and LZX made of literals only.
//!
//! No free tool writes LZX, but a stream without matches needs little: one verbatim block a frame, fixed code lengths.
//! Facts: Microsoft's cabinet and LZX documents ([MS-CAB], [MS-PATCH]).

use super::super::bytes::Bytes;
use cab::{CabinetBuilder, CompressionType};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes a cabinet of files, stored or MSZIP.
pub fn write(path: &Path, compression: CompressionType, members: &[(&str, &[u8])]) -> io::Result<()> {
    let mut builder = CabinetBuilder::new();
    let folder = builder.add_folder(compression);
    for (name, _) in members {
        folder.add_file(*name);
    }
    let mut writer = builder.build(File::create(path)?)?;
    let mut contents = members.iter();
    while let Some(mut file) = writer.next_file()? {
        if let Some((_, bytes)) = contents.next() {
            file.write_all(bytes)?;
        }
    }
    writer.finish().map(drop)
}

/// Writes a cabinet of one file in LZX with a 32 KiB window.
pub fn write_lzx(path: &Path, name: &str, contents: &[u8]) -> io::Result<()> {
    let frames: Vec<_> = contents.chunks(0x8000).collect();
    let blocks = lzx_literals(&frames);
    let mut data = Vec::new();
    for (block, frame) in blocks.iter().zip(&frames) {
        data.u32(0); // no checksum
        data.u16(block.len() as u16);
        data.u16(frame.len() as u16);
        data.extend(block);
    }
    let files_at = 36 + 8;
    let data_at = files_at + 16 + name.len() + 1;
    let mut c = b"MSCF\0\0\0\0".to_vec();
    for value in [(data_at + data.len()) as u32, 0, files_at as u32, 0] {
        c.u32(value);
    }
    for value in [0x0103, 1, 1, 0, 0, 0] {
        c.u16(value); // version 1.3, one folder, one file, no flags
    }
    c.u32(data_at as u32);
    c.u16(frames.len() as u16);
    c.u16(15 << 8 | 3); // LZX, 2^15 bytes of window
    c.u32(contents.len() as u32);
    c.u32(0);
    for value in [0, 0x58b1, 0x528f, 0x20] {
        c.u16(value); // folder 0, 17 May 2024 10:20:30, archive
    }
    c.extend(name.as_bytes());
    c.push(0);
    c.extend(data);
    fs::write(path, c)
}

/// LZX bits: most significant first, in little-endian 16-bit words.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    word: u32,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for i in (0..count).rev() {
            self.word = self.word << 1 | (value >> i & 1);
            self.used += 1;
            if self.used == 16 {
                self.bytes.u16(self.word as u16);
                (self.word, self.used) = (0, 0);
            }
        }
    }

    /// Takes the finished bytes, padding to a whole word.
    fn take(&mut self) -> Vec<u8> {
        while self.used != 0 {
            self.put(0, 1);
        }
        std::mem::take(&mut self.bytes)
    }
}

/// One verbatim block a frame. The main tree's 256 literals have 8-bit codes that equal the bytes.
fn lzx_literals(frames: &[&[u8]]) -> Vec<Vec<u8>> {
    const POSITION_SLOTS: u32 = 30; // of a 32 KiB window
    let mut bits = Bits::default();
    let mut blocks = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        if index == 0 {
            bits.put(0, 1); // no translation of x86 calls
        }
        bits.put(1, 3); // verbatim
        bits.put(frame.len() as u32, 24);
        // Code lengths are sent as differences from those of the block before, modulo 17; a pretree encodes them.
        // First block: from 0 to 8 for literals is symbol 9; later blocks repeat, symbol 0.
        let literal = if index == 0 { 9 } else { 0 };
        lengths(&mut bits, literal, 256);
        lengths(&mut bits, 0, POSITION_SLOTS * 8);
        lengths(&mut bits, 0, 249);
        for &byte in *frame {
            bits.put(u32::from(byte), 8);
        }
        blocks.push(bits.take());
    }
    blocks
}

/// A pretree of two one-bit codes, for `symbol` and another, then `symbol` for each of `count` elements.
fn lengths(bits: &mut Bits, symbol: u32, count: u32) {
    let other = if symbol == 0 { 1 } else { 0 };
    for s in 0..20 {
        bits.put(u32::from(s == symbol || s == other), 4);
    }
    for _ in 0..count {
        bits.put(u32::from(symbol > other), 1);
    }
}
