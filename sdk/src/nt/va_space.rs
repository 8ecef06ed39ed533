//! What the kernel uses its half of the address space for, as it notes itself.
//!
//! Since Windows 10 1607 `SystemVaRegions` holds a start and a size for each use, in the order of
//! `_MI_ASSIGNED_REGION_TYPES`. Before that, and where it says nothing, an array holds a type for each unit of addresses:
//! `MiSystemVaType` on 32 bits since Vista, where the unit is what an entry of a page directory maps, and `SystemVaType`
//! since Windows 10, where on 64 bits it is what an entry of the topmost of four levels maps. The notes since Windows 10
//! are in `MiState.Vs` or behind `MiVisibleState`.

use super::memory;
use super::pte;
use crate::address::{PAGE_SIZE, Va};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::types::Type;

/// Where KDDEBUGGER_DATA64 holds the address of `MmSystemRangeStart`.
const KD_SYSTEM_RANGE_START: u32 = 0x1d0;
/// The most assigned stretches, and units of an array of types.
const MOST: u64 = 1024;
/// The name of what is not used.
pub const UNUSED: &str = "Unused";
/// The first values of `_MI_SYSTEM_VA_TYPE`, the same in every version since Windows 7: for symbols without it.
const NAMES: [&str; 13] = [
    UNUSED,
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

/// Kernel addresses with one use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// First byte.
    pub start: Va,
    /// Last byte.
    pub last: Va,
    /// What they are for, as the kernel's symbols say: `NonPagedPool`, `SystemCache`, [`UNUSED`].
    pub name: String,
}

impl Stretch {
    /// True for an address in it.
    pub fn holds(&self, va: Va) -> bool {
        self.start <= va && va <= self.last
    }
}

/// The stretches in ascending order; none where the kernel keeps no notes, or they cannot be read.
pub fn stretches(session: &Session<'_>) -> Vec<Stretch> {
    let mut found = assigned(session).unwrap_or_default();
    let by_type = by_type(session).unwrap_or_default();
    let told = found.len();
    let apart = |stretch: &Stretch, found: &[Stretch]| {
        found.iter().all(|f| f.last < stretch.start || stretch.last < f.start)
    };
    for stretch in by_type {
        if apart(&stretch, &found[..told]) {
            found.push(stretch);
        }
    }
    found.sort_by_key(|stretch| stretch.start);
    found
}

/// The name of a type of addresses.
pub fn type_name(session: &Session<'_>, kind: u64) -> Option<String> {
    match memory::kernel_type(session, "_MI_SYSTEM_VA_TYPE") {
        Ok(of) => of.enum_name(kind as i64).map(|name| name.trim_start_matches("MiVa").to_owned()),
        Err(_) => NAMES.get(kind as usize).map(|name| (*name).to_owned()),
    }
}

/// The structure of the notes since Windows 10, and where it is.
fn visible_state<'a>(session: &'a Session<'a>) -> Option<(Type<'a>, Va)> {
    let of = memory::kernel_type(session, "_MI_VISIBLE_STATE").ok()?;
    let inside = || {
        let system = memory::kernel_type(session, "_MI_SYSTEM_INFORMATION").ok()?;
        Some(super::variable(session, "MiState", None).ok()?.add(system.field("Vs")?.offset))
    };
    let behind = || session.memory().pointer(super::variable(session, "MiVisibleState", None).ok()?).ok();
    let at = inside().or_else(behind).filter(|at| session.target().is_kernel(*at))?;
    Some((of, at))
}

fn assigned(session: &Session<'_>) -> Option<Vec<Stretch>> {
    let (of, state) = visible_state(session)?;
    let field = of.field("SystemVaRegions")?;
    let one = memory::kernel_type(session, "_MI_SYSTEM_VA_ASSIGNMENT").ok()?;
    let names = memory::kernel_type(session, "_MI_ASSIGNED_REGION_TYPES").ok()?;
    let read = |index: u64| {
        let name = names.enum_name(index as i64)?;
        let read = one.at(state.add(field.offset + index * one.size())).snapshot().ok()?;
        let (start, size) = (read.pointer("BaseAddress").ok()?, read.u64("NumberOfBytes").ok()?);
        let last = Va(start.0.saturating_add(size.checked_sub(1)?));
        let name = name.trim_start_matches("AssignedRegion").to_owned();
        session.target().is_kernel(start).then_some(Stretch { start, last, name })
    };
    Some((0..u64::from(field.count).min(MOST)).filter_map(read).collect())
}

fn by_type(session: &Session<'_>) -> Result<Vec<Stretch>> {
    let scheme = pte::scheme(session);
    let (start, unit) = if session.target().pointer_size() == 4 {
        let start = super::pointer_variable(session, "MmSystemRangeStart", Some(KD_SYSTEM_RANGE_START))?;
        (start, PAGE_SIZE * PAGE_SIZE / scheme.entry_size())
    } else {
        if scheme.address_bits() > 48 {
            return Err(Error::Other(
                "what units an array of five-level systems counts is not known".to_owned(),
            ));
        }
        (Va(u64::MAX << 47), 1 << 39)
    };
    let end = if session.target().pointer_size() == 4 { 1 << 32 } else { 0 };
    let count = u64::wrapping_sub(end, start.0) / unit;
    let state = visible_state(session);
    let noted = state.as_ref().and_then(|(of, state)| Some((of.field("SystemVaType")?, *state)));
    let (at, count) = match noted {
        Some((field, state)) => (state.add(field.offset), count.min(u64::from(field.count))),
        None => (super::variable(session, "MiSystemVaType", None)?, count),
    };
    if count > MOST {
        return Err(Error::Other(format!("the kernel's addresses cannot begin at {start}")));
    }
    let types = session.memory().bytes(at, count as usize)?;
    Ok(joined(start, unit, &types, |kind| type_name(session, kind.into())))
}

/// Stretches of one type, out of a type for each unit.
fn joined(start: Va, unit: u64, types: &[u8], name: impl Fn(u8) -> Option<String>) -> Vec<Stretch> {
    let mut found: Vec<Stretch> = Vec::new();
    for (&kind, index) in types.iter().zip(0u64..) {
        let Some(name) = name(kind) else { continue };
        let start = start.add(index * unit);
        let last = Va(start.0 + (unit - 1));
        match found.last_mut() {
            Some(before) if before.last.0 + 1 == start.0 && before.name == name => before.last = last,
            _ => found.push(Stretch { start, last, name }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_one_type_are_one_stretch() {
        let mut types = [200; 256];
        (types[2], types[3], types[4], types[5], types[255]) = (5, 5, 6, 0, 5);
        let name = |kind: u8| NAMES.get(usize::from(kind)).map(|&name| name.to_owned());
        let found = joined(Va(u64::MAX << 47), 1 << 39, &types, name);
        let told: Vec<_> = found.iter().map(|s| (s.start.0, s.last.0, s.name.as_str())).collect();
        assert_eq!(
            told,
            [
                (0xffff_8100_0000_0000, 0xffff_81ff_ffff_ffff, "NonPagedPool"),
                (0xffff_8200_0000_0000, 0xffff_827f_ffff_ffff, "PagedPool"),
                (0xffff_8280_0000_0000, 0xffff_82ff_ffff_ffff, "Unused"),
                (0xffff_ff80_0000_0000, u64::MAX, "NonPagedPool"),
            ]
        );
        assert!(found[3].holds(Va(u64::MAX)) && !found[3].holds(Va(0xffff_ff7f_ffff_ffff)));
    }
}
