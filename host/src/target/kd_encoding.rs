//! The encoding of `KDDEBUGGER_DATA64` in memory, used since Windows 8 when the kernel debugger was not enabled.
//!
//! Each 64-bit word goes through exclusive or with `KiWaitNever`, a rotation by the low byte of the same, exclusive or
//! with the address of `KdpDataBlockEncoded`, a byte swap, and exclusive or with `KiWaitAlways`. With symbols the
//! three values are known ([`decode`]). Without them they are not needed: every step is linear over bits, so the
//! exclusive or of two encoded words depends only on the rotation. Two words whose plain values the dump header tells
//! (the heads of the module and process lists) give the rotation away, and one plain word decodes all others
//! ([`solve`]).

use super::bytes::{u32_at, u64_at};
use super::kd_data::OWNER_TAG;

/// Decodes with the values of the symbols. `kdp_data_block_encoded` is the address of the variable. A rest of less
/// than eight bytes is dropped.
pub fn decode(bytes: &[u8], wait_never: u64, wait_always: u64, kdp_data_block_encoded: u64) -> Vec<u8> {
    let address = kdp_data_block_encoded | 0xffff_0000_0000_0000;
    let rotation = (wait_never & 0x3f) as u32;
    words(bytes)
        .flat_map(|word| {
            let word = (word ^ wait_never).rotate_left(rotation) ^ address;
            (word.swap_bytes() ^ wait_always).to_le_bytes()
        })
        .collect()
}

/// Decodes without symbols, from at least two words whose plain values are known: (offset, value). `None` unless one
/// rotation explains all known words and the tag `KDBG` comes out.
pub fn solve(bytes: &[u8], known: &[(usize, u64)]) -> Option<Vec<u8>> {
    let pairs: Vec<(u64, u64)> =
        known.iter().filter_map(|&(offset, plain)| Some((u64_at(bytes, offset)?, plain))).collect();
    let (&(encoded, plain), others) = pairs.split_first()?;
    if others.is_empty() {
        return None;
    }
    (0..64).find_map(|rotation| {
        let plain_of = |word: u64| (word ^ encoded).rotate_left(rotation).swap_bytes() ^ plain;
        if others.iter().any(|&(encoded, plain)| plain_of(encoded) != plain) {
            return None;
        }
        let decoded: Vec<u8> = words(bytes).flat_map(|word| plain_of(word).to_le_bytes()).collect();
        (u32_at(&decoded, 0x10) == Some(OWNER_TAG)).then_some(decoded)
    })
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks_exact(8).filter_map(|chunk| u64_at(chunk, 0))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub const NEVER: u64 = 0x00d5_1f82_6a39_c1b7;
    const ALWAYS: u64 = 0x9e37_79b9_7f4a_7c15;
    const ENCODED_AT: u64 = 0xffff_f804_7c65_0ba0;
    const MODULES: u64 = 0xffff_f804_7c62_a390;
    const PROCESSES: u64 = 0xffff_f804_7c61_e200;

    fn plain() -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..0x380u32).map(|i| (i * 7) as u8).collect();
        bytes[0x10..0x14].copy_from_slice(b"KDBG");
        bytes[0x14..0x18].copy_from_slice(&0x380u32.to_le_bytes());
        bytes[0x48..0x50].copy_from_slice(&MODULES.to_le_bytes());
        bytes[0x50..0x58].copy_from_slice(&PROCESSES.to_le_bytes());
        bytes
    }

    pub fn encode(bytes: &[u8], never: u64) -> Vec<u8> {
        words(bytes)
            .flat_map(|word| {
                let word = (word ^ ALWAYS).swap_bytes() ^ ENCODED_AT;
                (word.rotate_right((never & 0x3f) as u32) ^ never).to_le_bytes()
            })
            .collect()
    }

    #[test]
    fn a_block_decodes_with_the_keys() {
        let encoded = encode(&plain(), NEVER);
        assert_ne!(encoded, plain());
        assert_eq!(decode(&encoded, NEVER, ALWAYS, ENCODED_AT), plain());
        // The address is used sign-extended whatever the caller has.
        assert_eq!(decode(&encoded, NEVER, ALWAYS, ENCODED_AT & 0xffff_ffff_ffff), plain());
    }

    #[test]
    fn a_block_decodes_without_keys() {
        for low in 0..=255 {
            let encoded = encode(&plain(), NEVER & !0xff | low);
            assert_eq!(solve(&encoded, &[(0x48, MODULES), (0x50, PROCESSES)]), Some(plain()));
        }
    }

    #[test]
    fn rubbish_is_not_decoded() {
        assert_eq!(solve(&[], &[(0x48, MODULES), (0x50, PROCESSES)]), None);
        assert_eq!(solve(&plain(), &[(0x48, MODULES)]), None);
        let encoded = encode(&plain(), NEVER);
        assert_eq!(solve(&encoded, &[(0x48, MODULES), (0x50, MODULES)]), None);
        assert_eq!(solve(&encoded, &[(0x48, MODULES), (usize::MAX, 0)]), None);
    }
}
