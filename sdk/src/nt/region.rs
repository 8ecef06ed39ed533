//! What the kernel uses its half of the address space for: a type for each unit of addresses.
//!
//! Where addresses are assigned while the system runs, an array tells: `MiSystemVaType` on 32 bits since Vista, where the
//! unit is what a page directory entry maps, and `SystemVaType` in `MiState` since Windows 10, where on 64 bits it is
//! what a top-level entry maps. 64-bit systems before that assign addresses for good and have no array.

use super::memory;
use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::Session;

/// Where KDDEBUGGER_DATA64 holds the address of `MmSystemRangeStart`.
const KD_SYSTEM_RANGE_START: u32 = 0x1d0;
/// The first values of `_MI_SYSTEM_VA_TYPE`, the same in every version since Windows 7: for symbols without it.
const NAMES: [&str; 13] = [
    "Unused",
    "SessionSpace",
    "ProcessSpace",
    "BootLoaded",
    "PfnDatabase",
    "NonPagedPool",
    "PagedPool",
    "SpecialPoolPaged",
    "SystemCache",
    "SystemPtes",
    "Hal",
    "SessionGlobalSpace",
    "DriverImages",
];

/// What units of the kernel's addresses are for.
pub struct Regions {
    start: Va,
    unit: u64,
    types: Vec<u8>,
    /// Names of the types that occur.
    names: Vec<Option<String>>,
}

/// The name of a type.
pub fn name(session: &Session<'_>, kind: u64) -> Option<String> {
    match session.types().find("nt!_MI_SYSTEM_VA_TYPE") {
        Ok(of) => of.enum_name(kind as i64).map(|name| name.trim_start_matches("MiVa").to_owned()),
        Err(_) => NAMES.get(kind as usize).map(|name| (*name).to_owned()),
    }
}

impl Regions {
    /// Reads the array.
    ///
    /// # Errors
    /// Where this kernel has none, or it cannot be read.
    pub fn read(session: &Session<'_>) -> Result<Regions> {
        let narrow = session.target().pointer_size() == 4;
        let (start, unit) = if narrow {
            let start = super::pointer_variable(session, "MmSystemRangeStart", Some(KD_SYSTEM_RANGE_START))?;
            // An entry of 8 bytes maps half as much as one of 4.
            (start, 1u64 << if memory::kernel_type(session, "_MMPTE")?.size() == 8 { 21 } else { 22 })
        } else {
            (Va(0xffff_8000_0000_0000), 1 << 39)
        };
        let of = session.types().find("nt!_MI_SYSTEM_INFORMATION").ok();
        let count = if narrow { (1 << 32) - start.0 } else { start.0.wrapping_neg() } / unit;
        let (at, count) = match of.and_then(|of| of.field("Vs.SystemVaType")) {
            Some(field) => {
                let state = super::variable(session, "MiState", None)?;
                (state.add(field.offset), field.size.min(count))
            }
            None => (super::variable(session, "MiSystemVaType", None)?, count),
        };
        if count > 1024 {
            return Err(Error::Other(format!("the kernel's addresses cannot begin at {start}")));
        }
        let types = session.memory().bytes(at, count as usize)?;
        let most = types.iter().copied().max().unwrap_or(0);
        let named = |kind: u8| types.contains(&kind).then(|| name(session, kind.into())).flatten();
        let names = (0..=most).map(named).collect();
        Ok(Regions { start, unit, types, names })
    }

    /// The type of an address and its name; `None` for what is not used or has no name.
    pub fn at(&self, va: Va) -> Option<(u8, &str)> {
        let kind = *self.types.get(usize::try_from(va.0.checked_sub(self.start.0)? / self.unit).ok()?)?;
        self.name(kind).map(|name| (kind, name))
    }

    /// The name of a type that occurs; `None` for addresses that are not used.
    pub fn name(&self, kind: u8) -> Option<&str> {
        self.names.get(usize::from(kind)).filter(|_| kind != 0)?.as_deref()
    }

    /// The stretches of a type: first byte, and the byte after the last.
    pub fn stretches(&self, wanted: &str) -> Vec<(Va, Va)> {
        let mut found: Vec<(Va, Va)> = Vec::new();
        for (index, &kind) in (0..).zip(&self.types) {
            if self.name(kind) != Some(wanted) {
                continue;
            }
            let start = self.start.add(index * self.unit);
            // The last byte of all has none after it.
            let end = Va(start.0.checked_add(self.unit).unwrap_or(u64::MAX));
            match found.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => found.push((start, end)),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_joined() {
        let names = NAMES.map(|name| Some(name.to_owned())).to_vec();
        let types = vec![5, 5, 0, 6, 5, 200];
        let regions = Regions { start: Va(0x8000_0000), unit: 1 << 21, types, names };
        let nonpaged = regions.stretches("NonPagedPool");
        assert_eq!(nonpaged, [(Va(0x8000_0000), Va(0x8040_0000)), (Va(0x8080_0000), Va(0x80a0_0000))]);
        assert_eq!(regions.at(Va(0x8061_2345)), Some((6, "PagedPool")));
        assert_eq!(regions.at(Va(0x8041_2345)), None, "not used");
        assert_eq!(regions.at(Va(0x80a0_0000)), None, "a type without a name");
        assert_eq!((regions.at(Va(0x7fff_ffff)), regions.at(Va(0x8fff_ffff))), (None, None));
    }
}
