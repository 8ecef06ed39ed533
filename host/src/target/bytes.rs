//! Little-endian numbers out of byte slices; `None` where the slice ends.

/// The unsigned number of `size` bytes (at most 8) at `offset`.
pub fn number_at(bytes: &[u8], offset: usize, size: usize) -> Option<u64> {
    let from = bytes.get(offset..offset.checked_add(size)?)?;
    let mut whole = [0u8; 8];
    whole.get_mut(..size)?.copy_from_slice(from);
    Some(u64::from_le_bytes(whole))
}

/// The 16-bit number at `offset`.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    number_at(bytes, offset, 2).map(|value| value as u16)
}

/// The 32-bit number at `offset`.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    number_at(bytes, offset, 4).map(|value| value as u32)
}

/// The 64-bit number at `offset`.
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    number_at(bytes, offset, 8)
}

/// The 128-bit number at `offset`.
pub fn u128_at(bytes: &[u8], offset: usize) -> Option<u128> {
    let low = u64_at(bytes, offset)?;
    let high = u64_at(bytes, offset.checked_add(8)?)?;
    Some(u128::from(high) << 64 | u128::from(low))
}
