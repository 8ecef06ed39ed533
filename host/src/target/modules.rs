//! Loaded and unloaded modules of the kernel, and the images of the process that ran at the crash.
//!
//! A small dump lists them itself. Elsewhere they are `KLDR_DATA_TABLE_ENTRY` records on `PsLoadedModuleList` and
//! `UNLOADED_DRIVERS` records behind `MmUnloadedDrivers`. Source of the layouts: public symbols; they have not changed
//! since Windows XP in the fields used here.

use std::collections::HashSet;

use kd_sdk::address::Va;

use super::bytes::{number_at, u16_at, u32_at};
use super::problem::TargetProblem;
use super::user::loader_modules;
use super::{Target, kd_fields as field};
use crate::dump::Driver;
use crate::memory::{ReadFault, View};

/// The most modules that a walk takes; Windows has some hundreds.
pub(super) const MOST_MODULES: usize = 10_000;
/// Entries in the table of unloaded drivers (`MI_UNLOADED_DRIVERS`).
const UNLOADED_ENTRIES: usize = 50;
/// The first build whose loader entries are known to have `TimeDateStamp`.
const FIRST_WITH_STAMP: u32 = 18362;
/// The most characters of a name.
const LONGEST_NAME: usize = 1024;

/// A loaded module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// KD's name for it: `nt` for the kernel, else the file name without extension, made an identifier.
    pub name: String,
    /// The file name: `ntoskrnl.exe`.
    pub image: String,
    /// The path as the kernel knows it, or the file name when that is all the dump has.
    pub path: String,
    /// The first address.
    pub base: Va,
    /// `SizeOfImage` in bytes.
    pub size: u64,
    /// `TimeDateStamp`: seconds since 1970 or, in reproducible builds, a hash.
    pub time_stamp: u32,
    /// `CheckSum` of the file.
    pub check_sum: u32,
    /// `EntryPoint`.
    pub entry_point: Va,
    /// The `KLDR_DATA_TABLE_ENTRY` in the target; `None` when the dump lists modules by itself.
    pub loader_entry: Option<Va>,
    /// True for the kernel.
    pub is_kernel: bool,
    /// Who lists it.
    pub origin: Origin,
}

/// Who lists a module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The kernel.
    Kernel,
    /// The loader of a process.
    Process,
    /// The user, who put it at an address.
    Given,
}

impl Module {
    /// The address after the last, saturated.
    pub fn end(&self) -> Va {
        Va(self.base.0.saturating_add(self.size))
    }

    /// True when the module holds `va`.
    pub fn contains(&self, va: Va) -> bool {
        va.0.checked_sub(self.base.0).is_some_and(|offset| offset < self.size)
    }
}

/// A driver that had been unloaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnloadedModule {
    /// The file name; in small dumps cut to 12 characters.
    pub name: String,
    /// The first address it had.
    pub start: Va,
    /// The address after its last.
    pub end: Va,
    /// When it was unloaded, a FILETIME; `None` where the dump does not say.
    pub time: Option<u64>,
}

/// Offsets in a `KLDR_DATA_TABLE_ENTRY`.
struct EntryShape {
    dll_base: usize,
    entry_point: usize,
    size_of_image: usize,
    full_dll_name: usize,
    base_dll_name: usize,
    check_sum: usize,
    /// `TimeDateStamp`, see [`FIRST_WITH_STAMP`].
    time_date_stamp: usize,
    size: usize,
}

const ENTRY_64: EntryShape = EntryShape {
    dll_base: 0x30,
    entry_point: 0x38,
    size_of_image: 0x40,
    full_dll_name: 0x48,
    base_dll_name: 0x58,
    check_sum: 0x78,
    time_date_stamp: 0x9c,
    size: 0xa0,
};
const ENTRY_32: EntryShape = EntryShape {
    dll_base: 0x18,
    entry_point: 0x1c,
    size_of_image: 0x20,
    full_dll_name: 0x24,
    base_dll_name: 0x2c,
    check_sum: 0x40,
    time_date_stamp: 0x58,
    size: 0x5c,
};

impl Target {
    pub(super) fn find_modules(&self) -> Vec<Module> {
        let mut modules = match self.dump.triage() {
            Some(triage) if !triage.drivers.is_empty() => triage.drivers.iter().map(from_driver).collect(),
            _ => self.walk_modules(),
        };
        modules.extend(self.crashed_process_modules());
        let kernel_base = self.kd_data().and_then(|data| data.va(field::KERN_BASE));
        let kernel = modules
            .iter()
            .position(|module| Some(module.base) == kernel_base)
            .or_else(|| modules.iter().position(|module| is_kernel_image(&module.image)));
        if let Some(kernel) = kernel.and_then(|index| modules.get_mut(index)) {
            kernel.is_kernel = true;
            kernel.name = "nt".to_owned();
        }
        // Of equal names the one that was loaded first keeps it.
        let mut names = HashSet::new();
        for module in &mut modules {
            if !module.is_kernel && (module.name == "nt" || !names.insert(module.name.to_ascii_lowercase())) {
                module.name = format!("{}_{:x}", module.name, module.base.0);
            }
        }
        modules.sort_by_key(|module| module.base);
        modules.dedup_by_key(|module| module.base);
        modules
    }

    fn walk_modules(&self) -> Vec<Module> {
        let head = self
            .kd_data()
            .and_then(|data| data.va(field::PS_LOADED_MODULE_LIST))
            .or(self.header().ps_loaded_module_list);
        let Some(head) = head else {
            if self.header().kind.has_physical_memory() {
                self.note(TargetProblem::NoModuleList);
            }
            return Vec::new();
        };
        let mut seen = HashSet::from([head]);
        let (mut modules, broken) = self.walk_links(head, 0, &mut seen);
        if let Some((at, fault)) = broken {
            // The other direction still reaches what stands behind the break.
            let pointer = self.pointer_size() as usize;
            let (rest, _) = self.walk_links(head, pointer, &mut seen);
            modules.extend(rest);
            self.note(TargetProblem::ModuleList { found: modules.len(), at, fault });
        }
        modules
    }

    /// The images of the process that ran at the crash, from the loader's list in its PEB; none where user memory was
    /// not captured.
    fn crashed_process_modules(&self) -> Vec<Module> {
        let walk = || {
            let process = self.crashed_process()?;
            let peb = process.add(self.kd_data()?.offset(field::OFFSET_EPROCESS_PEB)?);
            let peb = self.read_pointer(peb).ok().filter(|peb| !peb.is_null() && self.is_user(*peb))?;
            // A program can write anything into its own list: what is no list any more ends it.
            loader_modules(&self.view, peb, self.pointer_size() as usize).ok()
        };
        walk().map(|(modules, _)| modules).unwrap_or_default()
    }

    /// The process that ran on the processor that crashed.
    pub fn crashed_process(&self) -> Option<Va> {
        self.processors().get(self.current_processor() as usize)?.current_process
    }

    /// The process whose images are in [`Target::modules`]: at first the one that crashed.
    pub fn user_process(&self) -> Option<Va> {
        match &self.user {
            Some(user) => user.process,
            None => self.crashed_process(),
        }
    }

    /// True for an address that belongs to programs.
    pub fn is_user(&self, va: Va) -> bool {
        self.machine().is_user(va)
    }

    /// Follows the links at `link` (0 forwards, pointer size backwards) until the head comes again.
    fn walk_links(
        &self,
        head: Va,
        link: usize,
        seen: &mut HashSet<Va>,
    ) -> (Vec<Module>, Option<(Va, ReadFault)>) {
        let mut modules = Vec::new();
        let mut at = match self.read_pointer(head.add(link as u64)) {
            Ok(first) => first,
            Err(fault) => return (modules, Some((head, fault))),
        };
        while at != head {
            if modules.len() >= MOST_MODULES || !seen.insert(at) {
                // Meeting an entry of the walk in the other direction is the expected end.
                if link == 0 {
                    self.note(TargetProblem::ModuleListLoops { head });
                }
                break;
            }
            let next = match self.read_pointer(at.add(link as u64)) {
                Ok(next) => next,
                Err(fault) => return (modules, Some((at, fault))),
            };
            match self.read_module(at) {
                Ok(module) => modules.extend(module),
                Err(fault) => return (modules, Some((at, fault))),
            }
            at = next;
        }
        (modules, None)
    }

    /// `Ok(None)` for a record without an image.
    fn read_module(&self, at: Va) -> Result<Option<Module>, ReadFault> {
        let shape = if self.pointer_size() == 8 { &ENTRY_64 } else { &ENTRY_32 };
        let pointer = self.pointer_size() as usize;
        let mut record = vec![0; shape.size];
        let outcome = self.read(at, &mut record);
        if let Some(fault) = outcome.fault.filter(|_| outcome.done < shape.check_sum + 4) {
            return Err(fault);
        }
        let base = Va(number_at(&record, shape.dll_base, pointer).unwrap_or(0));
        let size = u64::from(u32_at(&record, shape.size_of_image).unwrap_or(0));
        if base.is_null() {
            return Ok(None);
        }
        let full = self.read_unicode_string(at.add(shape.full_dll_name as u64)).unwrap_or_default();
        let short = self.read_unicode_string(at.add(shape.base_dll_name as u64)).unwrap_or_default();
        let path = if full.is_empty() { short.clone() } else { full };
        let image = if short.is_empty() { file_name(&path).to_owned() } else { short };
        let (stamp, sum) = image_stamp(&self.view, base).unwrap_or_else(|| {
            let known = self.header().minor_version.is_some_and(|build| build >= FIRST_WITH_STAMP);
            let stamp = u32_at(&record, shape.time_date_stamp).filter(|_| known);
            (stamp.unwrap_or(0), u32_at(&record, shape.check_sum).unwrap_or(0))
        });
        Ok(Some(Module {
            name: short_name(&image),
            image,
            path,
            base,
            size,
            time_stamp: stamp,
            check_sum: sum,
            entry_point: Va(number_at(&record, shape.entry_point, pointer).unwrap_or(0)),
            loader_entry: Some(at),
            is_kernel: false,
            origin: Origin::Kernel,
        }))
    }

    /// The text of a `UNICODE_STRING`, with what cannot be decoded replaced.
    pub fn read_unicode_string(&self, at: Va) -> Result<String, ReadFault> {
        unicode_string(&self.view, at, self.pointer_size() as usize)
    }

    pub(super) fn find_unloaded(&self) -> Vec<UnloadedModule> {
        if let Some(triage) = self.dump.triage() {
            return triage
                .unloaded_drivers
                .iter()
                .map(|driver| UnloadedModule {
                    name: driver.name.clone(),
                    start: driver.start,
                    end: driver.end,
                    time: None,
                })
                .collect();
        }
        let Some(data) = self.kd_data() else { return Vec::new() };
        let (Some(variable), Some(last)) =
            (data.va(field::MM_UNLOADED_DRIVERS), data.va(field::MM_LAST_UNLOADED_DRIVER))
        else {
            return Vec::new();
        };
        let read = || -> Result<Vec<UnloadedModule>, (Va, ReadFault)> {
            let table = self.read_pointer(variable).map_err(|fault| (variable, fault))?;
            if table.is_null() {
                return Ok(Vec::new());
            }
            let last = self.read_u32(last).map_err(|fault| (last, fault))? as usize % UNLOADED_ENTRIES;
            let pointer = self.pointer_size() as usize;
            let size = if pointer == 8 { 0x28 } else { 0x18 };
            let mut bytes = vec![0; size * UNLOADED_ENTRIES];
            self.read(table, &mut bytes).complete().map_err(|fault| (table, fault))?;
            // The newest first, as KD lists them.
            let order =
                (0..UNLOADED_ENTRIES).map(|back| (last + UNLOADED_ENTRIES - 1 - back) % UNLOADED_ENTRIES);
            Ok(order
                .filter_map(|index| {
                    let record = bytes.get(index * size..(index + 1) * size)?;
                    let start = Va(number_at(record, pointer * 2, pointer)?);
                    let end = Va(number_at(record, pointer * 3, pointer)?);
                    if start.is_null() || end <= start {
                        return None;
                    }
                    let name = self.read_unicode_string(table.add((index * size) as u64)).unwrap_or_default();
                    Some(UnloadedModule { name, start, end, time: number_at(record, pointer * 4, 8) })
                })
                .collect())
        };
        read().unwrap_or_else(|(at, fault)| {
            self.note(TargetProblem::UnloadedDrivers { at, fault });
            Vec::new()
        })
    }
}

/// (`TimeDateStamp`, `CheckSum`) from the image's own header, which older loader entries do not repeat.
pub(super) fn image_stamp(view: &View, base: Va) -> Option<(u32, u32)> {
    let mut head = [0; 0x400];
    let done = view.read(base, &mut head).done;
    let head = head.get(..done)?;
    if !head.starts_with(b"MZ") {
        return None;
    }
    let pe = u32_at(head, 0x3c)? as usize;
    if u32_at(head, pe)? != u32::from_le_bytes(*b"PE\0\0") {
        return None;
    }
    Some((u32_at(head, pe.checked_add(8)?)?, u32_at(head, pe.checked_add(0x58)?)?))
}

/// The text of a `UNICODE_STRING` with a pointer of so many bytes.
pub(super) fn unicode_string(view: &View, at: Va, pointer: usize) -> Result<String, ReadFault> {
    let mut record = vec![0; pointer * 2];
    view.read(at, &mut record).complete()?;
    let length = usize::from(u16_at(&record, 0).unwrap_or(0)).min(LONGEST_NAME * 2);
    let buffer = Va(number_at(&record, pointer, pointer).unwrap_or(0));
    let mut bytes = vec![0; length & !1];
    view.read(buffer, &mut bytes).complete()?;
    Ok(utf16(&bytes))
}

fn from_driver(driver: &Driver) -> Module {
    let image = file_name(&driver.name).to_owned();
    Module {
        name: short_name(&image),
        image,
        path: driver.name.clone(),
        base: driver.base,
        size: u64::from(driver.size),
        time_stamp: driver.time_date_stamp,
        check_sum: driver.check_sum,
        entry_point: driver.entry_point,
        loader_entry: None,
        is_kernel: false,
        origin: Origin::Kernel,
    }
}

pub(super) fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).filter_map(|pair| u16_at(pair, 0)).take_while(|&unit| unit != 0);
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// The last component of a path.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit(['\\', '/']).next().unwrap_or(path)
}

fn is_kernel_image(image: &str) -> bool {
    ["ntoskrnl.exe", "ntkrnlmp.exe", "ntkrnlpa.exe", "ntkrpamp.exe"]
        .iter()
        .any(|name| image.eq_ignore_ascii_case(name))
}

/// KD's module name: the file name without its extension, other characters than letters, digits and `_` replaced.
pub fn short_name(image: &str) -> String {
    let stem = image.rsplit_once('.').map_or(image, |(stem, _)| stem);
    let stem = if stem.is_empty() { image } else { stem };
    stem.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers() {
        assert_eq!(short_name("Wdf01000.sys"), "Wdf01000");
        assert_eq!(short_name("Microsoft.Bluetooth.Legacy.sys"), "Microsoft_Bluetooth_Legacy");
        assert_eq!(short_name("some-driver.sys"), "some_driver");
        assert_eq!(short_name("plain"), "plain");
        assert_eq!(short_name(".sys"), "_sys");
        assert_eq!(file_name("\\SystemRoot\\system32\\hal.dll"), "hal.dll");
    }
}
