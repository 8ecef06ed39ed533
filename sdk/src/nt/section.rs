//! Sections: control areas with their segments and subsections, and the files behind them.
//!
//! A frame of a file tells its subsection in what its entry will be (`_MMPTE_SUBSECTION`). 32-bit systems without PAE
//! pack that address into one entry: as a distance from `MmSubsectionBase` (Windows XP), or in two parts (Windows 7).
//! Kernels that guard against L1TF set bits of the entry, which have to go first.

use super::memory;
use super::{fast_ref, string};
use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::types::Type;

/// The most subsections of one control area.
pub const MOST_SUBSECTIONS: usize = 1 << 16;
/// Where KDDEBUGGER_DATA64 holds the address of `MmSubsectionBase`.
const KD_SUBSECTION_BASE: u32 = 0xd8;
const KD_NON_PAGED_POOL_END: u32 = 0x118;
/// The bit of an entry that says prototype or subsection.
const PROTOTYPE: u64 = 0x400;

/// How entries name subsections.
enum Packed {
    /// All of the address: its first bit, its bits.
    Whole(u32, u32),
    /// Two parts of the address: Windows 7 without PAE.
    Parts,
    /// A distance in two parts, from either of two places: Windows XP without PAE.
    Distance { base: Va, end: Va },
}

/// Reads sections; keep one for a command.
pub struct Sections<'a> {
    session: &'a Session<'a>,
    area: Type<'a>,
    subsection: Type<'a>,
    packed: Packed,
    /// Bits set against L1TF, and the bit of an entry that says they are its own.
    hidden: (u64, u64),
}

/// A control area.
#[derive(Clone, Debug)]
pub struct ControlArea {
    /// Its address.
    pub at: Va,
    /// Its `_SEGMENT`.
    pub segment: Va,
    /// Its `_FILE_OBJECT`; null where page files back it.
    pub file: Va,
    /// Section objects.
    pub section_references: u64,
    /// Frames and transfers.
    pub pfn_references: u64,
    /// Views.
    pub mapped_views: u64,
    /// Views and sections of programs.
    pub user_references: u64,
    /// Writes under way.
    pub modified_writes: u64,
    /// Views of the cache.
    pub system_views: u64,
    /// Flushes under way.
    pub flushes: u64,
    /// Who waits for it to go.
    pub waiting: Va,
    /// Its flags as a number.
    pub flags: u64,
    /// The names of the flags that are set.
    pub flag_names: Vec<String>,
}

impl ControlArea {
    /// True where the flag is set.
    pub fn is(&self, flag: &str) -> bool {
        self.flag_names.iter().any(|name| name == flag)
    }
}

/// A subsection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subsection {
    /// Its address.
    pub at: Va,
    /// The control area it belongs to.
    pub area: Va,
    /// Its first prototype entry.
    pub base: Va,
    /// Prototype entries.
    pub entries: u64,
    /// First sector in the file.
    pub start: u64,
    /// Sectors.
    pub sectors: u64,
    /// Protection as the memory manager codes it.
    pub protection: u64,
    /// The next one; null for the last.
    pub next: Va,
}

/// The name of a `_FILE_OBJECT`; `None` for null, which control areas have where page files back them.
///
/// # Errors
/// Where it cannot be read.
pub fn file_name(session: &Session<'_>, file: Va) -> Result<Option<String>> {
    if file.is_null() {
        return Ok(None);
    }
    let of = memory::kernel_type(session, "_FILE_OBJECT")?;
    let name = string::unicode(session.memory(), of.at(file).address("FileName")?)?;
    Ok(Some(string::one_line(&name)))
}

impl<'a> Sections<'a> {
    /// Finds out how this kernel's sections are made.
    ///
    /// # Errors
    /// Without the kernel's types.
    pub fn new(session: &'a Session<'a>) -> Result<Sections<'a>> {
        let entry = memory::kernel_type(session, "_MMPTE_SUBSECTION")?;
        let packed = match (entry.field("SubsectionAddress"), entry.field("SubsectionAddressLow")) {
            (Some(whole), _) => Packed::Whole(whole.bit_position, whole.bit_length),
            (None, Some(low)) if low.bit_length > 4 => Packed::Parts,
            (None, Some(_)) => {
                let read = |name, offset| super::pointer_variable(session, name, Some(offset));
                Packed::Distance {
                    base: read("MmSubsectionBase", KD_SUBSECTION_BASE)?,
                    end: read("MmNonPagedPoolEnd", KD_NON_PAGED_POOL_END).unwrap_or(Va::NULL),
                }
            }
            (None, None) => {
                return Err(Error::NoSymbols("_MMPTE_SUBSECTION has no field SubsectionAddress".to_owned()));
            }
        };
        let area = memory::kernel_type(session, "_CONTROL_AREA")?;
        let subsection = memory::kernel_type(session, "_SUBSECTION")?;
        let hidden = entry
            .field("SwizzleBit")
            .filter(|bit| bit.bit_position < 64)
            .map_or((0, 0), |bit| (memory::invalid_pte_mask(session), 1 << bit.bit_position));
        Ok(Sections { session, area, subsection, packed, hidden })
    }

    /// The subsection that an entry which is not valid names; `None` for entries that name none.
    pub fn subsection_of(&self, entry: u64) -> Option<Va> {
        if entry & 1 != 0 || entry & PROTOTYPE == 0 {
            return None;
        }
        let (mask, own) = self.hidden;
        let entry = if entry & own == 0 { entry & !mask } else { entry };
        let va = match self.packed {
            Packed::Whole(position, length) => {
                let unused = 64 - length.clamp(1, 64);
                let value = entry.checked_shr(position)? << unused;
                // 48 bits of an address of 64: the highest is the sign.
                if length > 32 { (value as i64 >> unused) as u64 } else { value >> unused }
            }
            Packed::Parts => entry & 0xffff_f800 | (entry & 0x3fe) << 1,
            Packed::Distance { base, end } => {
                let far = entry >> 11 & 0xf_ffff;
                let far = far << 7 | (entry >> 1 & 0xf) << 3;
                if entry & 0x8000_0000 != 0 { base.0.wrapping_add(far) } else { end.0.wrapping_sub(far) }
            }
        };
        let mask = if self.session.target().pointer_size() == 4 { 0xffff_ffff } else { u64::MAX };
        let va = Va(va & mask);
        self.session.target().is_kernel(va).then_some(va)
    }

    /// The control area of a subsection, checked: it must look like one.
    ///
    /// # Errors
    /// Where it cannot be read or cannot be one.
    pub fn area_of(&self, subsection: Va) -> Result<Va> {
        let area = self.subsection.at(subsection).pointer("ControlArea")?;
        if !self.session.target().is_kernel(area) {
            return Err(Error::Other(format!(
                "the subsection at {subsection} leads to a control area at {area}"
            )));
        }
        Ok(area)
    }

    /// A control area.
    ///
    /// # Errors
    /// Where it cannot be read, or its segment does not lead back to it.
    pub fn area(&self, at: Va) -> Result<ControlArea> {
        let target = self.session.target();
        let read = self.area.at(at).snapshot()?;
        let segment = read.pointer("Segment")?;
        if !target.is_kernel(segment) {
            return Err(Error::NotFound(format!(
                "{} is no control area: its segment is {}",
                target.show(at),
                target.show(segment)
            )));
        }
        let first = |paths: &[&str]| self.area.any(paths).and_then(|path| read.u64(path).ok()).unwrap_or(0);
        let flags = read.u64("u.LongFlags")?;
        let mut flag_names = Vec::new();
        if let Ok(of) = self.session.types().find("nt!_MMSECTION_FLAGS") {
            for (name, field) in of.fields()? {
                if field.bit_length == 1 && flags >> field.bit_position & 1 != 0 {
                    flag_names.push(name);
                }
            }
        }
        let file = first(&["FilePointer.Value", "FilePointer.Object", "FilePointer"]);
        Ok(ControlArea {
            at,
            segment,
            file: fast_ref(file, target.pointer_size()),
            section_references: read.u64("NumberOfSectionReferences")?,
            pfn_references: read.u64("NumberOfPfnReferences")?,
            mapped_views: read.u64("NumberOfMappedViews")?,
            user_references: read.u64("NumberOfUserReferences")?,
            modified_writes: first(&["ModifiedWriteCount"]),
            system_views: first(&["NumberOfSystemCacheViews", "u2.e2.NumberOfSystemCacheViews"]),
            flushes: first(&["FlushInProgressCount", "u2.e2.FlushInProgressCount"]),
            waiting: Va(first(&["WaitingForDeletion", "WaitList"])),
            flags,
            flag_names,
        })
    }

    /// The name of a control area's file; `None` where page files back it.
    ///
    /// # Errors
    /// Where it has one that cannot be read.
    pub fn file_name(&self, area: &ControlArea) -> Result<Option<String>> {
        file_name(self.session, area.file)
    }

    /// The address of the buffer that a file's name is in; null where not even that can be read.
    pub fn file_name_buffer(&self, area: &ControlArea) -> Va {
        let of = memory::kernel_type(self.session, "_FILE_OBJECT");
        of.and_then(|of| of.at(area.file).pointer("FileName.Buffer")).unwrap_or(Va::NULL)
    }

    /// The first subsection of a control area: it stands right behind it.
    ///
    /// # Errors
    /// Where it is not there: areas of images that sessions share have a longer head.
    pub fn first_subsection(&self, area: &ControlArea) -> Result<Va> {
        let large = self.session.types().find("nt!_LARGE_CONTROL_AREA").ok();
        let sizes = [Some(self.area.size()), large.map(|of| of.size())];
        for size in sizes.into_iter().flatten() {
            let at = area.at.add(size);
            if self.area_of(at).is_ok_and(|found| found == area.at) {
                return Ok(at);
            }
        }
        Err(Error::NotFound(format!("no subsection stands behind the control area at {}", area.at)))
    }

    /// A subsection.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn subsection(&self, at: Va) -> Result<Subsection> {
        let read = self.subsection.at(at).snapshot()?;
        Ok(Subsection {
            at,
            area: read.pointer("ControlArea")?,
            base: read.pointer("SubsectionBase")?,
            entries: read.u64("PtesInSubsection")?,
            start: read.u64("StartingSector")?,
            sectors: read.u64("NumberOfFullSectors")?,
            protection: read.get("u.SubsectionFlags.Protection")?.unwrap_or(0),
            next: read.pointer("NextSubsection")?,
        })
    }

    /// All subsections of a control area, and why there are no more if the chain was cut short.
    ///
    /// # Errors
    /// Ctrl+C.
    pub fn subsections(&self, area: &ControlArea) -> Result<(Vec<Subsection>, Option<Error>)> {
        let (mut found, mut seen) = (Vec::new(), std::collections::HashSet::new());
        let mut at = match self.first_subsection(area) {
            Ok(at) => at,
            Err(error) => return Ok((found, Some(error))),
        };
        while !at.is_null() {
            self.session.check_interrupt()?;
            if !seen.insert(at) || found.len() >= MOST_SUBSECTIONS {
                let error =
                    format!("the subsections of {} do not end: {at} comes again or is one too many", area.at);
                return Ok((found, Some(Error::Other(error))));
            }
            match self.subsection(at) {
                Ok(one) if one.area == area.at => {
                    at = one.next;
                    found.push(one);
                }
                Ok(one) => {
                    let error = format!("the subsection at {at} belongs to the control area at {}", one.area);
                    return Ok((found, Some(Error::Other(error))));
                }
                Err(error) => return Ok((found, Some(error))),
            }
        }
        Ok((found, None))
    }
}
