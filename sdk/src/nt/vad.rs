//! Virtual address descriptors: the ranges of a process's user address space.
//!
//! Windows XP has a bare tree of `_MMVAD`, Vista and 7 an `_MM_AVL_TABLE`, later ones an `_RTL_AVL_TREE` whose nodes
//! begin an `_MMVAD_SHORT`. Page numbers have a high byte on 64-bit systems since Windows 8. What the protection's
//! five bits mean is the memory manager's: three of access, two of modifiers.

use super::kernel::Kernel;
use super::process::Process;
use super::section;
use crate::address::Va;
use crate::error::{Error, Result};
use std::collections::HashSet;

/// The most ranges of one process.
const MOST_RANGES: usize = 1 << 20;
/// The deepest tree that is followed: a balanced one of so many nodes is far shallower.
const DEEPEST: usize = 128;

const ACCESS: [&str; 8] = [
    "NO_ACCESS",
    "READONLY",
    "EXECUTE",
    "EXECUTE_READ",
    "READWRITE",
    "WRITECOPY",
    "EXECUTE_READWRITE",
    "EXECUTE_WRITECOPY",
];

/// What a range is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A view of a section.
    Mapped,
    /// A view of an image.
    Image,
    /// The process's own memory.
    Private,
    /// A device's memory.
    Physical,
    /// Physical pages that the program chooses (AWE).
    Awe,
    /// Private memory in large pages.
    LargePages,
    /// Another kind of the memory manager's, by its number.
    Other(u64),
}

impl Kind {
    /// As KD calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mapped => "Mapped",
            Kind::Image => "Mapped  Exe",
            Kind::Private => "Private",
            Kind::Physical => "Phys",
            Kind::Awe => "AWE",
            Kind::LargePages => "LargePag",
            Kind::Other(_) => "Other",
        }
    }
}

/// A range.
#[derive(Clone, Debug)]
pub struct Vad {
    /// The descriptor.
    pub at: Va,
    /// Steps from the root of the tree, which is 0.
    pub level: usize,
    /// First page.
    pub start: u64,
    /// Last page.
    pub end: u64,
    /// Pages it is charged for.
    pub commit: u64,
    /// What it is.
    pub kind: Kind,
    /// The memory manager's five bits.
    pub protection: u64,
    /// Committed when it was made.
    pub mem_commit: bool,
    /// The control area of a view; null otherwise.
    pub control_area: Va,
    /// Name of the file that is mapped; empty for none, or why it cannot be read.
    pub file: Result<String>,
}

/// `READWRITE`, `EXECUTE_WRITECOPY`, `READONLY_NOCACHE`.
pub fn protection_name(protection: u64) -> String {
    let access = ACCESS.get((protection & 7) as usize).copied().unwrap_or("?");
    let more = match protection >> 3 & 3 {
        1 => "_NOCACHE",
        2 => "_GUARD",
        3 if protection & 7 == 0 => "_DECOMMIT",
        3 => "_WRITECOMBINE",
        _ => "",
    };
    format!("{access}{more}")
}

/// Which structure a descriptor is, and where its parts are.
struct Shape {
    name: &'static str,
    core: &'static str,
    left: u64,
    right: u64,
}

fn shape(kernel: &Kernel<'_>) -> Result<Shape> {
    let vad = kernel.structure("_MMVAD")?;
    if vad.field("Core").is_some() {
        let node = kernel.structure("_RTL_BALANCED_NODE")?;
        return Ok(Shape {
            name: "_MMVAD",
            core: "Core.",
            left: node.offset("Left")?,
            right: node.offset("Right")?,
        });
    }
    Ok(Shape { name: "_MMVAD", core: "", left: vad.offset("LeftChild")?, right: vad.offset("RightChild")? })
}

/// The root of a process's tree; null where it has none.
///
/// # Errors
/// Where the kernel's symbols do not tell.
pub fn root(process: &Process<'_>) -> Result<Va> {
    let paths = ["VadRoot.BalancedRoot.RightChild", "VadRoot.Root", "VadRoot"];
    process.record.first(&paths).map(Va)
}

/// The descriptors under `root` by address, each given to `visit`.
///
/// # Errors
/// Where the tree cannot be one, has a loop, or the user interrupts. What was visited before is good.
pub fn each(kernel: &Kernel<'_>, root: Va, visit: &mut dyn FnMut(Vad) -> Result<()>) -> Result<()> {
    let shape = shape(kernel)?;
    let memory = kernel.session().memory();
    let mut seen = HashSet::new();
    let mut open: Vec<(Va, usize)> = Vec::new();
    let (mut down, mut level) = (root, 0);
    loop {
        while !down.is_null() {
            kernel.session().check_interrupt()?;
            if !seen.insert(down) {
                return Err(Error::Other(format!("the tree of VADs is a loop: {down} is reached twice")));
            }
            if seen.len() > MOST_RANGES || open.len() > DEEPEST {
                return Err(Error::Other(format!("the tree of VADs at {root} is larger than one can be")));
            }
            open.push((down, level));
            down = memory.pointer(down.add(shape.left))?;
            level += 1;
        }
        let Some((node, depth)) = open.pop() else { return Ok(()) };
        visit(read_as(kernel, &shape, node, depth)?)?;
        down = memory.pointer(node.add(shape.right))?;
        level = depth + 1;
    }
}

/// The descriptor at an address.
///
/// # Errors
/// Where it cannot be read.
pub fn read(kernel: &Kernel<'_>, at: Va) -> Result<Vad> {
    read_as(kernel, &shape(kernel)?, at, 0)
}

fn read_as(kernel: &Kernel<'_>, shape: &Shape, at: Va, level: usize) -> Result<Vad> {
    let record = kernel.read(shape.name, at)?;
    let core = |path: &str| record.u64(&format!("{}{path}", shape.core));
    let flag = |path: &str| core(&format!("u.VadFlags.{path}"));
    let high = |path: &str| core(path).unwrap_or(0) << 32;
    let (start, end) =
        (core("StartingVpn")? | high("StartingVpnHigh"), core("EndingVpn")? | high("EndingVpnHigh"));
    let commit = match core("u1.VadFlags1.CommitCharge") {
        // The bits above the 31 in the flags.
        Ok(low) => low | core("CommitChargeHigh").unwrap_or(0) << 31,
        // Windows 11 24H2 has a field of 32 bits, Windows XP and 7 had flags.
        Err(_) => core("CommitCharge")
            .map(|low| low | high("CommitChargeHigh"))
            .or_else(|_| flag("CommitCharge"))?,
    };
    let private = flag("PrivateMemory")? != 0;
    let of_private = |error| if private { core("u.PrivateVadFlags.MemCommit") } else { Err(error) };
    let mem_commit = core("u1.VadFlags1.MemCommit").or_else(|_| flag("MemCommit")).or_else(of_private);
    let mem_commit = mem_commit.unwrap_or(0) != 0;
    let kind = match flag("VadType") {
        Ok(0) if private => Kind::Private,
        Ok(0) => Kind::Mapped,
        Ok(1) => Kind::Physical,
        Ok(2) => Kind::Image,
        Ok(3) => Kind::Awe,
        Ok(4) => Kind::Private, // with a watch on writes
        Ok(5 | 7) => Kind::LargePages,
        Ok(other) => Kind::Other(other),
        // Windows XP has a bit for each.
        Err(_) if flag("ImageMap")? != 0 => Kind::Image,
        Err(_) if flag("PhysicalMapping")? != 0 => Kind::Physical,
        Err(_) if flag("UserPhysicalPages")? != 0 => Kind::Awe,
        Err(_) if private => Kind::Private,
        Err(_) => Kind::Mapped,
    };
    let protection = flag("Protection")?;
    let mut control_area = Va::NULL;
    let mut file = Ok(String::new());
    if matches!(kind, Kind::Mapped | Kind::Image) && !private {
        match control_area_of(kernel, &record) {
            Ok(area) => {
                control_area = area;
                file = file_name(kernel, area);
            }
            Err(error) => file = Err(error),
        }
    }
    Ok(Vad { at, level, start, end, commit, kind, protection, mem_commit, control_area, file })
}

fn control_area_of(kernel: &Kernel<'_>, record: &super::kernel::Record<'_>) -> Result<Va> {
    if record.has("ControlArea") {
        return record.pointer("ControlArea");
    }
    let subsection = record.pointer("Subsection")?;
    if subsection.is_null() {
        Ok(subsection)
    } else {
        kernel.read("_SUBSECTION", subsection)?.pointer("ControlArea")
    }
}

/// The name of the file behind a control area; empty where the page file is.
fn file_name(kernel: &Kernel<'_>, area: Va) -> Result<String> {
    if area.is_null() {
        return Ok(String::new());
    }
    let file = kernel.read("_CONTROL_AREA", area)?.fast_reference("FilePointer")?;
    section::file_name(kernel.session(), file).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protections_have_names() {
        let names = [
            (1, "READONLY"),
            (7, "EXECUTE_WRITECOPY"),
            (0x14, "READWRITE_GUARD"),
            (0x18, "NO_ACCESS_DECOMMIT"),
        ];
        for (protection, name) in names {
            assert_eq!(protection_name(protection), name);
        }
        assert_eq!(protection_name(0x1c), "READWRITE_WRITECOMBINE");
    }
}
