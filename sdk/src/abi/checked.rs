//! Looks at what the other side gave before it is used. An extension may be written in C: a text may be null, may
//! not be UTF-8, may claim to be longer than anything is.

use super::{RSlice, RStr};
use std::borrow::Cow;

/// No text or table of an extension is longer (in bytes, in entries).
const ABSURD: usize = isize::MAX as usize / 4096;

/// What a text says. A null pointer of length 0 is the empty text; bytes that are not UTF-8 become U+FFFD. `None`
/// where it cannot be a text: a null pointer with a length, or a length that no memory has.
///
/// # Safety
/// A pointer that is not null is valid for the given length during `'a`.
pub unsafe fn text_of<'a>(text: RStr<'a>) -> Option<Cow<'a, str>> {
    if text.is_empty() {
        return Some(Cow::Borrowed(""));
    }
    if text.as_ptr().is_null() || text.len() > ABSURD {
        return None;
    }
    // SAFETY: checked above and the caller's promise.
    let bytes = unsafe { core::slice::from_raw_parts(text.as_ptr(), text.len()) };
    Some(String::from_utf8_lossy(bytes))
}

/// The entries of a table; at most `limit`. `None` where it cannot be one.
///
/// # Safety
/// A pointer that is not null is valid for the given number of entries during `'a`.
pub unsafe fn entries_of<'a, T>(slice: RSlice<'a, T>, limit: usize) -> Option<&'a [T]> {
    if slice.is_empty() {
        return Some(&[]);
    }
    if slice.as_ptr().is_null() || !slice.as_ptr().is_aligned() || slice.len() > limit.min(ABSURD) {
        return None;
    }
    // SAFETY: checked above and the caller's promise.
    Some(unsafe { core::slice::from_raw_parts(slice.as_ptr(), slice.len()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<'a>(pointer: *const u8, length: usize) -> Option<Cow<'a, str>> {
        unsafe { text_of(RStr::from_raw_parts(pointer, length)) }
    }

    #[test]
    fn odd_texts() {
        assert_eq!(text(core::ptr::null(), 0).unwrap(), "");
        assert_eq!(text(core::ptr::null(), 1), None);
        assert_eq!(text(b"x".as_ptr(), usize::MAX), None);
        assert_eq!(text(b"a\xffb".as_ptr(), 3).unwrap(), "a\u{fffd}b");
    }

    #[test]
    fn odd_tables() {
        let numbers = [1_u32, 2, 3];
        let table = |pointer, length| unsafe { entries_of(RSlice::from_raw_parts(pointer, length), 3) };
        assert_eq!(table(numbers.as_ptr(), 3), Some(&numbers[..]));
        assert_eq!(table(numbers.as_ptr(), 4), None);
        assert_eq!(table(core::ptr::null(), 0), Some(&[][..]));
        assert_eq!(table(core::ptr::null(), 1), None);
        assert_eq!(table(numbers.as_ptr().wrapping_byte_add(1), 1), None);
    }
}
