//! Texts of the kernel: `UNICODE_STRING`, `STRING`, and characters without a length.

use crate::address::Va;
use crate::error::{Error, Result};
use crate::memory::Memory;

/// The text of the `UNICODE_STRING` at `va`.
///
/// # Errors
/// Where it cannot be read, or cannot be one: an odd length, one that its buffer has no room for.
pub fn unicode(memory: Memory<'_>, va: Va) -> Result<String> {
    let (length, buffer) = header(memory, va, "UNICODE_STRING")?;
    if length & 1 != 0 {
        return Err(Error::Other(format!("no UNICODE_STRING at {va}: its length {length:#x} is odd")));
    }
    utf16(memory, buffer, length.into())
}

/// The text of the `STRING` (`ANSI_STRING`) at `va`; bytes above 0x7f are taken for Latin-1.
///
/// # Errors
/// As for [`unicode`].
pub fn ansi(memory: Memory<'_>, va: Va) -> Result<String> {
    let (length, buffer) = header(memory, va, "STRING")?;
    let bytes = memory.bytes(buffer, length.into())?;
    Ok(bytes.into_iter().map(char::from).collect())
}

/// Length and buffer of a counted text.
fn header(memory: Memory<'_>, va: Va, what: &str) -> Result<(u16, Va)> {
    let pointer = memory.session.target().pointer_size();
    let head = memory.bytes(va, 2 * pointer as usize)?;
    let word = |at: usize| head.get(at..at + 2).map_or(0, |word| u16::from_le_bytes([word[0], word[1]]));
    let (length, room) = (word(0), word(2));
    let mut buffer = [0; 8];
    for (to, from) in buffer.iter_mut().zip(head.get(pointer as usize..).unwrap_or_default()) {
        *to = *from;
    }
    let buffer = Va(u64::from_le_bytes(buffer));
    if length > room {
        return Err(Error::Other(format!(
            "no {what} at {va}: its length {length:#x} is more than its buffer's {room:#x}"
        )));
    }
    if length != 0 && buffer.is_null() {
        return Err(Error::Other(format!("no {what} at {va}: {length:#x} bytes without a buffer")));
    }
    Ok((length, buffer))
}

/// `bytes` bytes of UTF-16 at `va`; what is none becomes U+FFFD.
///
/// # Errors
/// Where not all of it can be read.
pub fn utf16(memory: Memory<'_>, va: Va, bytes: usize) -> Result<String> {
    if bytes == 0 {
        return Ok(String::new());
    }
    Ok(from_utf16(&memory.bytes(va, bytes)?))
}

/// UTF-16 up to a NUL, to `most` bytes, or to where memory cannot be read.
///
/// # Errors
/// Where not even the first unit can be read.
pub fn utf16_to_nul(memory: Memory<'_>, va: Va, most: usize) -> Result<String> {
    let mut bytes = vec![0; most.min(0x1_0000) & !1];
    let (done, fault) = memory.read_some(va, &mut bytes)?;
    bytes.truncate(done & !1);
    match fault {
        Some(error) if bytes.is_empty() => Err(error),
        _ => {
            let end = bytes.chunks_exact(2).position(|unit| unit == [0, 0]).map_or(bytes.len(), |at| at * 2);
            Ok(from_utf16(bytes.get(..end).unwrap_or_default()))
        }
    }
}

/// Text of little-endian UTF-16.
pub fn from_utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// The same in one line: control characters become `.`.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '.' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::fake::Fake;

    fn unicode_at(head: &[u64], text: &[u8]) -> core::result::Result<String, String> {
        let fake = Fake::default().words(0x1000, head).bytes(0x2000, text);
        fake.run(|session| unicode(session.memory(), Va(0x1000)).map_err(|error| error.to_string()))
    }

    #[test]
    fn counted_texts_are_not_believed() {
        assert_eq!(unicode_at(&[0x0006_0004, 0x2000], b"A\0B\0"), Ok("AB".to_owned()));
        assert_eq!(unicode_at(&[0, 0], b""), Ok(String::new()));
        assert!(unicode_at(&[0x0006_0003, 0x2000], b"A\0B\0").unwrap_err().contains("is odd"));
        assert!(unicode_at(&[0x0002_0004, 0x2000], b"A\0B\0").unwrap_err().contains("its buffer's 0x2"));
        assert!(unicode_at(&[0x0004_0004, 0], b"").unwrap_err().contains("without a buffer"));
        assert_eq!(
            unicode_at(&[0x0004_0004, 0x2000], b"A\0").unwrap_err(),
            "cannot read 00000000`00002002: paged out"
        );
    }

    #[test]
    fn text_ends_at_a_nul_or_where_memory_does() {
        let fake = Fake::default().bytes(0x2000, b"A\0B\0\0\0C\0");
        let text = |at, most| fake.run(|session| utf16_to_nul(session.memory(), Va(at), most).ok());
        assert_eq!(text(0x2000, 100).as_deref(), Some("AB"));
        assert_eq!(text(0x2000, 3).as_deref(), Some("A"));
        assert_eq!(text(0x2006, 100).as_deref(), Some("C"));
        assert_eq!(text(0x3000, 100), None);
    }

    #[test]
    fn utf16_is_not_believed() {
        assert_eq!(from_utf16(&[0x41, 0, 0x34, 0xd8, 0x1e, 0xdd, 0, 0xd8, 7]), "A\u{1d11e}\u{fffd}");
        assert_eq!(one_line("a\r\nb\0"), "a..b.");
    }
}
