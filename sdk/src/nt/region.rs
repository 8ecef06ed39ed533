//! What the kernel assigned its half of the address space to.
//!
//! Since Windows 10 1607 `MiState.Vs.SystemVaRegions` holds a start and a size for each use, in the order of
//! `_MI_ASSIGNED_REGION_TYPES`. Since 1809 there is also a byte for each 512 GB, `SystemVaType`; it stands in for the
//! former where that is not filled.

use super::memory;
use crate::address::Va;
use crate::error::Result;
use crate::session::Session;

/// The most regions, or bytes of the table of types.
const MOST_REGIONS: u64 = 256;
/// Bits of an address that an entry of the table of types stands for, on 48-bit systems.
const TYPE_BITS: u32 = 39;

/// A stretch of kernel addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Region {
    /// First byte.
    pub start: Va,
    /// Byte after the last; null for the end of the address space.
    pub end: Va,
    /// What it is for, as the kernel's symbols say: `NonPagedPool`, `SystemCache`.
    pub name: String,
}

impl Region {
    /// True for an address in it.
    pub fn holds(&self, va: Va) -> bool {
        self.start <= va && (va < self.end || self.end.is_null())
    }
}

/// The regions in ascending order; none where the kernel keeps no such table, or it cannot be read.
pub fn regions(session: &Session<'_>) -> Vec<Region> {
    let mut found = assigned(session).unwrap_or_default();
    if found.is_empty() {
        found = by_type(session).unwrap_or_default();
    }
    found.sort_by_key(|region| region.start);
    found
}

fn assigned(session: &Session<'_>) -> Result<Vec<Region>> {
    let state = memory::kernel_type(session, "_MI_SYSTEM_INFORMATION")?;
    let field = state.require("Vs.SystemVaRegions")?;
    let of = memory::kernel_type(session, "_MI_SYSTEM_VA_ASSIGNMENT")?;
    let names = memory::kernel_type(session, "_MI_ASSIGNED_REGION_TYPES")?;
    let at = memory::needed(session, "MiState")?.add(field.offset);
    let mut found = Vec::new();
    for index in 0..u64::from(field.count).min(MOST_REGIONS) {
        let Some(name) = names.enum_name(index as i64) else { continue };
        let one = of.at(at.add(of.size().wrapping_mul(index)));
        let (start, size) = (one.pointer("BaseAddress")?, one.u64("NumberOfBytes")?);
        if size == 0 || !session.target().is_kernel(start) {
            continue;
        }
        let end = Va(start.0.checked_add(size).unwrap_or(0));
        found.push(Region { start, end, name: name.trim_start_matches("AssignedRegion").to_owned() });
    }
    Ok(found)
}

fn by_type(session: &Session<'_>) -> Result<Vec<Region>> {
    let state = memory::kernel_type(session, "_MI_SYSTEM_INFORMATION")?;
    let field = state.require("Vs.SystemVaType")?;
    let names = memory::kernel_type(session, "_MI_SYSTEM_VA_TYPE")?;
    let at = memory::needed(session, "MiState")?.add(field.offset);
    let types = session.memory().bytes(at, field.size.min(MOST_REGIONS) as usize)?;
    Ok(stretches(&types, |kind| names.enum_name(kind.into())))
}

/// The stretches of one type in a table that has a byte for each part of the kernel's half.
fn stretches(types: &[u8], name: impl Fn(u8) -> Option<String>) -> Vec<Region> {
    let mut found: Vec<Region> = Vec::new();
    for (&kind, index) in types.iter().zip(0u64..) {
        // Type 0 is for addresses that are not used.
        let Some(name) = name(kind).filter(|_| kind != 0) else { continue };
        let start = Va(0xffff_8000_0000_0000 + (index << TYPE_BITS));
        let end = Va(start.0.wrapping_add(1 << TYPE_BITS));
        let name = name.trim_start_matches("MiVa").to_owned();
        match found.last_mut() {
            Some(last) if last.end == start && last.name == name => last.end = end,
            _ => found.push(Region { start, end, name }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_neighbours_are_one_region() {
        let mut types = [0; 256];
        (types[2], types[3], types[4], types[255]) = (5, 5, 6, 5);
        let found = stretches(&types, |kind| match kind {
            5 => Some("MiVaNonPagedPool".to_owned()),
            6 => Some("MiVaPagedPool".to_owned()),
            _ => Some("MiVaUnused".to_owned()),
        });
        let told: Vec<_> = found.iter().map(|r| (r.start.0, r.end.0, r.name.as_str())).collect();
        assert_eq!(
            told,
            [
                (0xffff_8100_0000_0000, 0xffff_8200_0000_0000, "NonPagedPool"),
                (0xffff_8200_0000_0000, 0xffff_8280_0000_0000, "PagedPool"),
                (0xffff_ff80_0000_0000, 0, "NonPagedPool"),
            ]
        );
        assert!(found[2].holds(Va(u64::MAX)) && !found[2].holds(Va(0xffff_ff7f_ffff_ffff)));
    }
}
