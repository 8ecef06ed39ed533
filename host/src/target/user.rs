//! Modules of a process, from the loader's lists behind its PEB, and modules that a user puts at an address.
//!
//! Source of the layouts: winternl.h and public symbols; the fields used here have not moved since Windows XP. A
//! 32-bit program on a 64-bit system has two lists: that of the emulation's 64-bit modules and its own.

use std::collections::HashSet;
use std::sync::OnceLock;

use kd_sdk::address::Va;

use super::Target;
use super::bytes::{number_at, u32_at};
use super::modules::{MOST_MODULES, Module, Origin, file_name, image_stamp, short_name, unicode_string};
use crate::memory::{ReadFault, View};

/// Offsets behind a PEB.
struct Shape {
    /// `_PEB.Ldr`.
    loader: u64,
    /// `_PEB_LDR_DATA.InLoadOrderModuleList`.
    list: u64,
    dll_base: usize,
    size_of_image: usize,
    full_dll_name: usize,
    base_dll_name: usize,
    time_date_stamp: usize,
    /// Bytes of an entry that are read.
    size: usize,
}

const WIDE: Shape = Shape {
    loader: 0x18,
    list: 0x10,
    dll_base: 0x30,
    size_of_image: 0x40,
    full_dll_name: 0x48,
    base_dll_name: 0x58,
    time_date_stamp: 0x80,
    size: 0x84,
};
const NARROW: Shape = Shape {
    loader: 0xc,
    list: 0xc,
    dll_base: 0x18,
    size_of_image: 0x20,
    full_dll_name: 0x24,
    base_dll_name: 0x2c,
    time_date_stamp: 0x44,
    size: 0x48,
};

/// What the modules of a process are seen through.
#[derive(Clone, Debug)]
pub struct UserSpace {
    /// Memory through the process's page tables.
    pub view: View,
    /// The process.
    pub process: Option<Va>,
}

fn pointer_at(view: &View, at: Va, pointer: usize) -> Result<Va, ReadFault> {
    let mut bytes = [0; 8];
    view.read(at, bytes.get_mut(..pointer).unwrap_or_default()).complete()?;
    Ok(Va(u64::from_le_bytes(bytes)))
}

/// The modules of the loader's list behind a PEB with pointers of `pointer` bytes, seen through `view`; and where the
/// list could not be read further.
///
/// # Errors
/// When not even the list's head can be read.
pub fn loader_modules(
    view: &View,
    peb: Va,
    pointer: usize,
) -> Result<(Vec<Module>, Option<ReadFault>), ReadFault> {
    let shape = if pointer == 8 { &WIDE } else { &NARROW };
    let loader = pointer_at(view, peb.add(shape.loader), pointer)?;
    let head = loader.add(shape.list);
    let mut at = pointer_at(view, head, pointer)?;
    let mut seen = HashSet::from([head]);
    let mut modules = Vec::new();
    while seen.insert(at) && modules.len() < MOST_MODULES {
        match entry(view, at, pointer, shape) {
            Ok((module, next)) => {
                modules.extend(module);
                at = next;
            }
            Err(fault) => return Ok((modules, Some(fault))),
        }
    }
    Ok((modules, None))
}

/// A module of the list and the next entry.
fn entry(view: &View, at: Va, pointer: usize, shape: &Shape) -> Result<(Option<Module>, Va), ReadFault> {
    let mut record = vec![0; shape.size];
    view.read(at, &mut record).complete()?;
    let number = |offset: usize| number_at(&record, offset, pointer).unwrap_or(0);
    let next = Va(number(0));
    let base = Va(number(shape.dll_base));
    // What a program writes into its list must not stand for a module of the kernel.
    let is_user = if pointer == 8 { base.0 >> 47 == 0 } else { base.0 < 0xc000_0000 };
    if base.is_null() || !is_user {
        return Ok((None, next));
    }
    let text = |offset: usize| unicode_string(view, at.add(offset as u64), pointer).unwrap_or_default();
    let (full, short) = (text(shape.full_dll_name), text(shape.base_dll_name));
    let image = if short.is_empty() { file_name(&full).to_owned() } else { short };
    // Names may be paged out where the list is not; KD calls such an image by its address too.
    let image = if image.is_empty() { format!("image{:x}", base.0) } else { image };
    let size = u32_at(&record, shape.size_of_image).unwrap_or(0);
    let stamp = image_stamp(view, base);
    let (time_stamp, check_sum) =
        stamp.unwrap_or_else(|| (u32_at(&record, shape.time_date_stamp).unwrap_or(0), 0));
    let module = Module {
        name: short_name(&image),
        path: if full.is_empty() { image.clone() } else { full },
        image,
        base,
        size: size.into(),
        time_stamp,
        check_sum,
        entry_point: Va(number(shape.dll_base + pointer)),
        loader_entry: Some(at),
        is_kernel: false,
        origin: Origin::Process,
    };
    Ok((Some(module), next))
}

impl Target {
    /// This target with modules that a user put somewhere, and with those of a process other than the one that crashed,
    /// which are seen through `user`. Of equal names the kernel's keeps it, then the first.
    pub fn with_modules(&self, others: Vec<Module>, user: Option<UserSpace>) -> Target {
        let found = self.found_modules.get_or_init(|| self.find_modules());
        let mut modules = found.clone();
        modules.retain(|module| user.is_none() || module.origin != Origin::Process);
        let mut names: HashSet<String> =
            modules.iter().map(|module| module.name.to_ascii_lowercase()).collect();
        for mut module in others {
            if modules.iter().any(|known| known.base == module.base) {
                continue;
            }
            if !names.insert(module.name.to_ascii_lowercase()) {
                module.name = format!("{}_{:x}", module.name, module.base.0);
            }
            modules.push(module);
        }
        modules.sort_by_key(|module| module.base);
        Target {
            dump: self.dump.clone(),
            view: self.view.clone(),
            kd_data: self.kd_data.clone(),
            saved: self.saved,
            found_modules: OnceLock::from(found.clone()),
            modules: Some(modules),
            user,
            unloaded: self.unloaded.clone(),
            processors: self.processors.clone(),
            current_processor: self.current_processor.clone(),
            problems: std::sync::Mutex::new(self.problems()),
        }
    }

    /// What the modules of a process are seen through, where there are such modules.
    pub fn user_space(&self) -> Option<&UserSpace> {
        self.user.as_ref()
    }

    /// Reads an image in memory: one of a process through that process's page tables.
    pub fn read_image(&self, va: Va, buffer: &mut [u8]) -> bool {
        let is_user = || self.module_at(va).is_some_and(|module| module.origin == Origin::Process);
        let user = self.user.as_ref().filter(|_| is_user());
        user.map_or(&self.view, |user| &user.view).read(va, buffer).fault.is_none()
    }
}
