//! Is an ELF library whole? The system's loader maps what the program headers promise and dies of SIGBUS where the
//! file ends before that, so a half-copied extension would take the host with it. (The loaders of Windows and macOS
//! look for themselves.) Layout: System V ABI, "Program Header".

/// True for an ELF file that ends before its loadable segments or its program headers do.
pub fn is_cut(file: &[u8]) -> bool {
    file.starts_with(b"\x7fELF") && !is_whole(file).unwrap_or(false)
}

/// `None` where a header itself is beyond the end.
fn is_whole(file: &[u8]) -> Option<bool> {
    let wide = *file.get(4)? == 2;
    let big = *file.get(5)? == 2;
    let number = |at: u64, size: usize| -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let bytes = file.get(at..at.checked_add(size)?)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
    };
    // e_phoff, e_phentsize, e_phnum; in an entry p_type 0, p_offset and p_filesz.
    let (table, entry_size, count) = match wide {
        true => (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?),
        false => (number(0x1c, 4)?, number(0x2a, 2)?, number(0x2c, 2)?),
    };
    for index in 0..count {
        let entry = table.checked_add(index.checked_mul(entry_size)?)?;
        let kind = number(entry, 4)?;
        let (offset, size) = match wide {
            true => (number(entry.checked_add(0x08)?, 8)?, number(entry.checked_add(0x20)?, 8)?),
            false => (number(entry.checked_add(0x04)?, 4)?, number(entry.checked_add(0x10)?, 4)?),
        };
        const PT_LOAD: u64 = 1;
        if kind == PT_LOAD && offset.checked_add(size)? > file.len() as u64 {
            return Some(false);
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64-bit file with one segment of `size` bytes at 0.
    fn file(size: u64) -> Vec<u8> {
        let mut file = vec![0; 0x80];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x20] = 0x40;
        file[0x36] = 0x38;
        file[0x38] = 1;
        file[0x40] = 1;
        file[0x60..0x68].copy_from_slice(&size.to_le_bytes());
        file
    }

    #[test]
    fn cut_files_are_found() {
        assert!(!is_cut(&file(0x80)));
        assert!(is_cut(&file(0x81)));
        assert!(is_cut(&file(u64::MAX)));
        assert!(is_cut(b"\x7fELF"));
        assert!(!is_cut(b"no library at all"));
        assert!((4..0x78).all(|end| is_cut(&file(0x80)[..end])));
    }
}
