//! How things are shown, where a user chose: `.enable_unicode`, `.enable_long_status`, `.force_radix_output`, `.inline`,
//! `.asm`. A copy of it goes into every scope.

/// What a user chose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// Radix of the numbers below: 8, 10 or 16.
    pub radix: u32,
    /// Text of 16-bit numbers is shown as text.
    pub unicode: bool,
    /// `long` is shown in the radix, not in decimal.
    pub long_in_radix: bool,
    /// The other signed integers are.
    pub signed_in_radix: bool,
    /// Calls that the compiler put in line have frames.
    pub inline_frames: bool,
    /// How code is shown.
    pub assembly: Assembly,
}

/// `.asm`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Assembly {
    /// The bytes of instructions are left out.
    pub no_code_bytes: bool,
    /// The number of the source line stands before each instruction.
    pub source_line: bool,
    /// Kept: lines are never cut.
    pub ignore_output_width: bool,
    /// Kept.
    pub verbose: bool,
}

impl Default for Look {
    fn default() -> Look {
        Look {
            radix: 16,
            unicode: false,
            long_in_radix: false,
            signed_in_radix: false,
            inline_frames: true,
            assembly: Assembly::default(),
        }
    }
}

impl Look {
    /// A signed integer: in decimal with KD's mark, or in the radix where the user wants that.
    pub fn signed(&self, value: i64, size: u64, is_long: bool) -> String {
        let in_radix = if is_long { self.long_in_radix } else { self.signed_in_radix };
        // In another radix than ten there are no signs: a negative number is its bits.
        let bits = value as u64 & u64::MAX.checked_shr(64u32.saturating_sub(size as u32 * 8)).unwrap_or(0);
        match (in_radix, self.radix) {
            (true, 16) => format!("{bits:#x}"),
            (true, 8) => format!("0t{bits:o}"),
            _ => format!("0n{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_numbers() {
        let look = Look::default();
        assert_eq!(look.signed(-2, 4, false), "0n-2");
        let look = Look { signed_in_radix: true, ..look };
        assert_eq!(look.signed(-2, 4, false), "0xfffffffe");
        assert_eq!(look.signed(-2, 4, true), "0n-2", "long has a setting of its own");
        assert_eq!(look.signed(-1, 8, false), "0xffffffffffffffff");
        assert_eq!(Look { radix: 8, ..look }.signed(9, 2, false), "0t11");
        assert_eq!(Look { radix: 10, ..look }.signed(9, 2, false), "0n9");
    }
}
