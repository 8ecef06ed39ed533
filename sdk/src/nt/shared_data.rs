//! `KUSER_SHARED_DATA`: the page that the kernel shares with every program.
//!
//! The structure is documented, and what was ever in it has stayed where it is; later versions appended. Whether a
//! version has a field is asked of its types; without them, only what Windows XP had is told. Where the page is and the
//! clocks in it are [`super::clock`]'s.

use super::clock;
use super::string;
use crate::address::Va;
use crate::error::Result;
use crate::session::Session;

/// Bytes of the structure that are read.
const BYTES: usize = 0x400;

/// The page as far as its fields are known to be what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedData {
    /// Where it is.
    pub at: Va,
    /// Ticks since the start.
    pub tick_count: u64,
    /// A tick in milliseconds, times 2^24.
    pub tick_multiplier: u32,
    /// Time since the start in units of 100 ns.
    pub interrupt_time: u64,
    /// FILETIME, UTC.
    pub system_time: u64,
    /// From local time to UTC, in units of 100 ns.
    pub time_zone_bias: i64,
    /// Which of the time zone's times it is.
    pub time_zone_id: u32,
    /// Machine types of images that it runs: the lowest, the highest.
    pub image_numbers: (u16, u16),
    /// Windows' folder.
    pub system_root: String,
    /// Of the keys for encryption.
    pub crypto_exponent: u32,
    /// 1 workstation, 2 domain controller, 3 server.
    pub product_type: u32,
    /// Major and minor.
    pub version: (u32, u32),
    /// Build.
    pub build: Option<u32>,
    /// Bits of the product.
    pub suite_mask: u32,
    /// Bits: 1 a debugger was allowed at start, 2 one is there.
    pub debugger: u8,
    /// The session at the console.
    pub console_session: u32,
    /// Pages of memory.
    pub physical_pages: Option<u32>,
    /// Started in safe mode.
    pub safe_boot: bool,
    /// Processors that run.
    pub processors: Option<u32>,
    /// Starts since Windows was installed.
    pub boot_id: Option<u32>,
}

impl SharedData {
    /// Reads the page.
    ///
    /// # Errors
    /// Where it is not in the dump.
    pub fn read(session: &Session<'_>) -> Result<SharedData> {
        let at = clock::shared_data(session);
        let bytes = session.memory().bytes(at, BYTES)?;
        let types = session.types().find("nt!_KUSER_SHARED_DATA").ok();
        let has = |field: &str| types.as_ref().is_some_and(|of| of.has(field));
        Ok(SharedData::parse(at, &bytes, &has))
    }

    fn parse(at: Va, bytes: &[u8], has: &dyn Fn(&str) -> bool) -> SharedData {
        let number = |offset: usize, size: usize| {
            let field = bytes.get(offset..offset + size).unwrap_or_default();
            field.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte))
        };
        let word = |offset: usize| number(offset, 4) as u32;
        let later = |field: &str, offset: usize| has(field).then(|| word(offset));
        let root = string::from_utf16(bytes.get(0x30..0x238).unwrap_or_default());
        SharedData {
            at,
            tick_count: number(0x320, 8),
            tick_multiplier: word(0x4),
            interrupt_time: number(0x8, 8),
            system_time: number(0x14, 8),
            time_zone_bias: number(0x20, 8) as i64,
            time_zone_id: word(0x240),
            image_numbers: (number(0x2c, 2) as u16, number(0x2e, 2) as u16),
            system_root: string::one_line(root.split('\0').next().unwrap_or_default()),
            crypto_exponent: word(0x23c),
            product_type: word(0x264),
            version: (word(0x26c), word(0x270)),
            build: later("NtBuildNumber", 0x260),
            suite_mask: word(0x2d0),
            debugger: number(0x2d4, 1) as u8,
            console_session: word(0x2d8),
            physical_pages: later("NumberOfPhysicalPages", 0x2e8),
            safe_boot: number(0x2ec, 1) != 0,
            processors: later("ActiveProcessorCount", 0x3c0),
            boot_id: later("BootId", 0x2c4),
        }
    }

    /// Time since the start by its ticks, in units of 100 ns.
    pub fn up_time(&self) -> u64 {
        let milliseconds = (u128::from(self.tick_count) * u128::from(self.tick_multiplier)) >> 24;
        u64::try_from(milliseconds * 10_000).unwrap_or(u64::MAX)
    }

    /// The product's name in the terms of the SDK.
    pub fn product(&self) -> &'static str {
        match self.product_type {
            1 => "NtProductWinNt",
            2 => "NtProductLanManNt",
            3 => "NtProductServer",
            _ => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_time() {
        let mut bytes = vec![0; BYTES];
        bytes[4..8].copy_from_slice(&0x0fa0_0000u32.to_le_bytes());
        bytes[0x320..0x328].copy_from_slice(&64u64.to_le_bytes());
        bytes[0x30..0x34].copy_from_slice(b"C\0:\0");
        bytes[0x2c4] = 9;
        let page = SharedData::parse(Va(0), &bytes, &|field| field == "BootId");
        assert_eq!((page.up_time(), page.system_root.as_str()), (10_000_000, "C:"));
        assert_eq!((page.boot_id, page.build), (Some(9), None));
        // A page that ends early is zeros, not a panic.
        assert_eq!(SharedData::parse(Va(0), &bytes[..5], &|_| true).tick_count, 0);
    }
}
