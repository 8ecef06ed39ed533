//! Typed addresses: a virtual address, a physical address and a page frame number never mix by accident.
//!
//! Addresses of 32-bit targets are kept zero-extended. [`Va`] prints the way KD prints a 64-bit address,
//! `fffff804`7ba00000`; use [`Va::show`] where the target's pointer size is known.

use core::fmt;

/// Bytes in a small page on every machine kd reads (x86, x64, arm64 with the 4 KiB granule).
pub const PAGE_SIZE: u64 = 0x1000;

/// A virtual address in the target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Va(pub u64);

/// A physical address in the target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Pa(pub u64);

/// A page frame number: a physical address divided by the page size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Pfn(pub u64);

impl Va {
    /// The null address.
    pub const NULL: Va = Va(0);

    /// True for address zero.
    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    /// This address plus `bytes`, wrapping at the end of the address space.
    #[allow(clippy::should_implement_trait)]
    pub fn add(self, bytes: u64) -> Va {
        Va(self.0.wrapping_add(bytes))
    }

    /// The address of the page that holds this address.
    pub fn page(self) -> Va {
        Va(self.0 & !(PAGE_SIZE - 1))
    }

    /// The offset inside the page.
    pub fn page_offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }

    /// KD's spelling for a target with pointers of `pointer_size` bytes: `81234567` or `fffff804`7ba00000`.
    pub fn show(self, pointer_size: u32) -> ShowVa {
        ShowVa { va: self, pointer_size }
    }
}

impl Pa {
    /// The frame that holds this address.
    pub fn pfn(self) -> Pfn {
        Pfn(self.0 / PAGE_SIZE)
    }

    /// The offset inside the frame.
    pub fn page_offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }

    /// This address plus `bytes`, wrapping.
    #[allow(clippy::should_implement_trait)]
    pub fn add(self, bytes: u64) -> Pa {
        Pa(self.0.wrapping_add(bytes))
    }
}

impl Pfn {
    /// The address of the frame's first byte.
    pub fn pa(self) -> Pa {
        Pa(self.0.wrapping_mul(PAGE_SIZE))
    }
}

/// A virtual address with the pointer size it is to be printed for. See [`Va::show`].
#[derive(Clone, Copy)]
pub struct ShowVa {
    va: Va,
    pointer_size: u32,
}

impl fmt::Display for ShowVa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer_size == 4 { write!(f, "{:08x}", self.va.0 as u32) } else { self.va.fmt(f) }
    }
}

impl fmt::Display for Va {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}`{:08x}", self.0 >> 32, self.0 as u32)
    }
}

impl fmt::Debug for Va {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Va({self})")
    }
}

impl fmt::Display for Pa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for Pa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pa({self})")
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pfn({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_kd_prints_them() {
        assert_eq!(Va(0xfffff804_7ba00000).to_string(), "fffff804`7ba00000");
        assert_eq!(Va(0x80501234).show(4).to_string(), "80501234");
        assert_eq!(Va(0x7e).show(8).to_string(), "00000000`0000007e");
    }

    #[test]
    fn pages_and_frames() {
        assert_eq!(Pa(0x1234_5678).pfn(), Pfn(0x12345));
        assert_eq!(Pfn(0x12345).pa(), Pa(0x1234_5000));
        assert_eq!(Va(0xfff).add(1).page(), Va(0x1000));
        assert_eq!(Va(u64::MAX).add(1), Va::NULL);
    }
}
