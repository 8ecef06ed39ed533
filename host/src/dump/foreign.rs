//! Files that are not kernel dumps: what they are, so that the message can say it and what to do.
//!
//! Signatures are those of the formats' specifications.

use super::bytes::{u16_at, u32_at};
use super::mapped::MappedFile;

/// Offset, first bytes, what it is and what to do.
const SIGNATURES: &[(usize, &[u8], &str)] = &[
    (0, b"MZ", "it is a PE image (program, library or driver); images go on the image path, not here"),
    (0, b"Microsoft C/C++ MSF 7.00", "it is a PDB (symbols); put its folder on the symbol path"),
    (0, b"Microsoft C/C++ program database", "it is an old PDB (symbols); put its folder on the symbol path"),
    (0, b"BSJB", "it is a portable PDB (.NET symbols); there is no dump in it"),
    (0, b"PK\x03\x04", "it is a ZIP archive; unpack it and open the dump inside"),
    (0, b"PK\x05\x06", "it is an empty ZIP archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "it is a 7z archive; unpack it and open the dump inside"),
    (0, b"Rar!", "it is a RAR archive; unpack it and open the dump inside"),
    (0, b"\x1f\x8b", "it is gzip-compressed; unpack it first"),
    (0, b"\xfd7zXZ", "it is xz-compressed; unpack it first"),
    (0, b"BZh", "it is bzip2-compressed; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "it is zstd-compressed; unpack it first"),
    (0, b"SZDD", "it is compressed by COMPRESS.EXE; expand it first"),
    (257, b"ustar", "it is a tar archive; unpack it and open the dump inside"),
    (0, b"\x7fELF", "it is an ELF file, an image or core of another system; kd reads Windows kernel dumps"),
    (0, b"\xcf\xfa\xed\xfe", "it is a Mach-O file; kd reads Windows kernel dumps"),
    (0, b"EMiL", "it is a LiME memory image of Linux; kd reads Windows kernel dumps"),
    (0, b"hibr", "it is a hibernation file, not a crash dump; kd does not read those"),
    (0, b"HIBR", "it is a hibernation file, not a crash dump; kd does not read those"),
    (0, b"wake", "it is a hibernation file that was already resumed; its memory is gone"),
    (0, b"WAKE", "it is a hibernation file that was already resumed; its memory is gone"),
    (0, b"RSTR", "it is a hibernation file that was being resumed, not a crash dump"),
    (0, b"HORM", "it is a hibernation file, not a crash dump"),
    (0, b"regf", "it is a registry hive"),
    (0, b"ElfFile", "it is an event log (.evtx)"),
    (0, b"conectix", "it is a virtual disk (VHD); the dump is a file inside it"),
    (0, b"vhdxfile", "it is a virtual disk (VHDX); the dump is a file inside it"),
    (0, b"KDMV", "it is a virtual disk (VMDK); the dump is a file inside it"),
    (0, b"QFI\xfb", "it is a virtual disk (QCOW2); the dump is a file inside it"),
    (0, b"\xd2\xbe\xd2\xbe", "it is a VMware saved state; convert it to a dump first"),
    (0, b"%PDF", "it is a PDF document"),
    (0, b"\x89PNG", "it is a PNG picture"),
];

/// What a file that has no dump signature is.
pub(crate) fn describe(head: &[u8]) -> String {
    for &(offset, magic, text) in SIGNATURES {
        if head.get(offset..).is_some_and(|rest| rest.starts_with(magic)) {
            return text.to_owned();
        }
    }
    if head.starts_with(b"PAGE") {
        let next = head.get(4..8).unwrap_or_default();
        return format!(
            "it begins with PAGE, but DUMP or DU64 should follow at offset 0x4 and \"{}\" does; \
             the dump is damaged or was never finished",
            next.escape_ascii()
        );
    }
    let zeros = head.iter().take_while(|&&byte| byte == 0).count();
    if zeros == head.len() {
        return format!(
            "its first 0x{zeros:x} bytes are zero; the dump was never finished, or the copy failed"
        );
    }
    if zeros >= 8 {
        return format!(
            "its signature at offset 0x0 is zero (data begins at 0x{zeros:x}); PAGEDU64 or PAGEDUMP should \
             stand there, the dump is damaged or was never finished"
        );
    }
    let text = head.iter().take(512).all(|&byte| byte >= 0x20 || matches!(byte, b'\t' | b'\r' | b'\n'));
    if text && std::str::from_utf8(head.get(..head.len().min(512)).unwrap_or_default()).is_ok() {
        return "it is a text file".to_owned();
    }
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return "it is a text file (UTF-16)".to_owned();
    }
    let first = head.get(..head.len().min(8)).unwrap_or_default();
    let hex: Vec<String> = first.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("it begins with {}; PAGEDU64 or PAGEDUMP should stand at offset 0x0", hex.join(" "))
}

/// The machine of a user-mode minidump, from its system information stream.
pub(crate) fn minidump_machine(file: &MappedFile) -> Option<&'static str> {
    const SYSTEM_INFO_STREAM: u32 = 7;
    let head = file.get(0, 16)?;
    let (count, directory) = (u32_at(&head, 8)?.min(1024), u64::from(u32_at(&head, 12)?));
    for index in 0..u64::from(count) {
        let entry = file.get(directory + index * 12, 12)?;
        if u32_at(&entry, 0)? == SYSTEM_INFO_STREAM {
            let stream = file.get(u64::from(u32_at(&entry, 8)?), 2)?;
            return Some(match u16_at(&stream, 0)? {
                0 => "x86",
                5 => "ARM32",
                6 => "IA64",
                9 => "x64",
                12 => "arm64",
                _ => "unknown machine",
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_files_are_named() {
        let named = |bytes: &[u8]| describe(bytes);
        assert!(named(b"MZ\x90\0").contains("PE image"));
        assert!(named(b"PK\x03\x04rest").contains("ZIP"));
        assert!(named(b"hello, this is text\r\n").contains("text file"));
        assert!(named(&[0; 64]).contains("zero"));
        assert!(named(b"PAGEXXXX").contains("XXXX"));
        assert!(named(b"\x01\x02\x03\xff").contains("01 02 03 ff"));
        assert!(named(b"").contains("zero"));
    }
}
