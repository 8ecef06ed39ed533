//! `FPO_DATA`: the older frame data of 32-bit PDBs, sizes without a program.
//!
//! Source: winnt.h, and for where the stream is the public description of PDB files (the optional debug header at the
//! end of the debug information stream). Read here because the library takes some of its bits for others.

use crate::target::unwind::frame_data::{FrameData, FrameKind};

/// Bytes of a row.
const ROW: usize = 16;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u32::from_le_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u16::from_le_bytes)
}

/// The number of the FPO stream, from the bytes of the debug information stream.
pub(super) fn stream_number(debug_information: &[u8]) -> Option<u16> {
    // Sizes of the parts, in the order in which they follow the 64 bytes of the header; the optional header is last.
    let parts = [24, 28, 32, 36, 40, 52].map(|at| u32_at(debug_information, at) as usize);
    let start = parts.iter().try_fold(64usize, |sum, size| sum.checked_add(*size))?;
    let size = u32_at(debug_information, 48);
    (size >= 2).then(|| u16_at(debug_information, start)).filter(|number| *number != 0 && *number != u16::MAX)
}

/// The row of the function that holds an address of the rows' own counting.
pub(super) fn find(rows: &[u8], address: u32) -> Option<FrameData> {
    let row = |index: usize| rows.get(index * ROW..(index + 1) * ROW);
    let (mut low, mut high) = (0, rows.len() / ROW);
    while low < high {
        let middle = low + (high - low) / 2;
        if u32_at(row(middle)?, 0) <= address {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let row = row(low.checked_sub(1)?)?;
    let offset = address.checked_sub(u32_at(row, 0))?;
    if offset >= u32_at(row, 4) {
        return None;
    }
    let attributes = u16_at(row, 14);
    Some(FrameData {
        offset,
        prologue: u32::from(attributes & 0xff),
        is_start: true,
        locals: u32_at(row, 8).saturating_mul(4),
        parameters: u32::from(u16_at(row, 12)) * 4,
        saved: u32::from(attributes >> 8 & 7) * 4,
        uses_base_pointer: attributes >> 12 & 1 != 0,
        program: None,
        kind: match attributes >> 14 {
            0 => FrameKind::Fpo,
            1 => FrameKind::Trap,
            2 => FrameKind::Tss,
            _ => FrameKind::NonFpo,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_address() {
        let mut rows = Vec::new();
        for (start, size, locals, parameters, attributes) in
            [(0x1000u32, 0x20u32, 3u32, 2u16, 0x0306u16), (0x1040, 0x10, 0, 1, 0x1100 | 3 << 14)]
        {
            rows.extend(start.to_le_bytes());
            rows.extend(size.to_le_bytes());
            rows.extend(locals.to_le_bytes());
            rows.extend(parameters.to_le_bytes());
            rows.extend(attributes.to_le_bytes());
        }
        let found = find(&rows, 0x1010).unwrap();
        assert_eq!((found.offset, found.prologue, found.locals), (0x10, 6, 12));
        assert_eq!((found.parameters, found.saved, found.kind), (8, 12, FrameKind::Fpo));
        assert!(!found.uses_base_pointer);
        let found = find(&rows, 0x1040).unwrap();
        assert!(found.uses_base_pointer && found.kind == FrameKind::NonFpo);
        assert_eq!(find(&rows, 0x1020), None);
        assert_eq!(find(&rows, 0), None);
        assert_eq!(find(&[], 5), None);
        assert_eq!(stream_number(&[]), None);
    }
}
