//! Little-endian bytes: appending, patching at an offset, UTF-16.

/// Writes into a byte buffer; appends at the end or patches at an offset. All integers are little-endian.
pub trait Bytes {
    /// Appends a `u16`.
    fn u16(&mut self, value: u16);
    /// Appends a `u32`.
    fn u32(&mut self, value: u32);
    /// Appends a `u64`.
    fn u64(&mut self, value: u64);
    /// Appends zeros until the length is a multiple of `to`.
    fn align(&mut self, to: usize);
    /// Overwrites the bytes at `offset`, growing the buffer with zeros if needed.
    fn put(&mut self, offset: usize, bytes: &[u8]);
    /// Overwrites a `u16` at `offset`.
    fn put_u16(&mut self, offset: usize, value: u16) {
        self.put(offset, &value.to_le_bytes());
    }
    /// Overwrites a `u32` at `offset`.
    fn put_u32(&mut self, offset: usize, value: u32) {
        self.put(offset, &value.to_le_bytes());
    }
    /// Overwrites a `u64` at `offset`.
    fn put_u64(&mut self, offset: usize, value: u64) {
        self.put(offset, &value.to_le_bytes());
    }
}

impl Bytes for Vec<u8> {
    fn u16(&mut self, value: u16) {
        self.extend(value.to_le_bytes());
    }
    fn u32(&mut self, value: u32) {
        self.extend(value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.extend(value.to_le_bytes());
    }
    fn align(&mut self, to: usize) {
        self.resize(self.len().next_multiple_of(to), 0);
    }
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        if self.len() < offset + bytes.len() {
            self.resize(offset + bytes.len(), 0);
        }
        self[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

/// UTF-16, little-endian, without a terminator.
pub fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}
