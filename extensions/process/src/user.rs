//! What a process keeps in its user memory for the loader: the PEB, its modules, parameters and environment.

use crate::page::{Page, matches};
use kd_sdk::error::{Error, Result};
use kd_sdk::memory::Memory;
use kd_sdk::nt::kernel::Record;
use kd_sdk::nt::list::{self, Links};
use kd_sdk::nt::process::Process;
use kd_sdk::nt::string;
use kd_sdk::prelude::*;

/// The most modules of one process.
const MOST_MODULES: usize = 1 << 13;
/// The most characters of an environment.
const MOST_ENVIRONMENT: usize = 1 << 17;

/// A module of a program.
pub struct UserModule {
    /// First byte.
    pub base: u64,
    /// Link time stamp.
    pub time_stamp: u32,
    /// Path.
    pub path: String,
}

/// A PEB in its address space.
pub fn read_peb<'a>(page: &Page<'a>, memory: Memory<'a>, at: Va) -> Result<Record<'a>> {
    if at.is_null() {
        return Err(Error::NotFound(
            "this process has no PEB: it runs in the kernel only, or has ended".to_owned(),
        ));
    }
    page.kernel.read_in(memory, "_PEB", at)
}

/// The entries of the loader's list in order of loading.
fn loader_list<'a>(page: &Page<'a>, peb: &Record<'a>) -> Result<Links<'a>> {
    let data = peb.pointer("Ldr")?;
    if data.is_null() {
        return Err(Error::NotFound("the loader has not begun: Ldr is null".to_owned()));
    }
    let head = page.kernel.structure("_PEB_LDR_DATA")?.offset("InLoadOrderModuleList")?;
    let link = page.kernel.structure("_LDR_DATA_TABLE_ENTRY")?.offset("InLoadOrderLinks")?;
    Ok(list::ring(peb.memory(), data.add(head)).of(link).at_most(MOST_MODULES))
}

/// Visits the modules in order of loading.
pub fn each_module<'a>(
    page: &Page<'a>,
    peb: &Record<'a>,
    visit: &mut dyn FnMut(UserModule) -> Result<()>,
) -> Result<()> {
    for entry in loader_list(page, peb)? {
        let entry = page.kernel.read_in(peb.memory(), "_LDR_DATA_TABLE_ENTRY", entry?)?;
        let path = entry.unicode("FullDllName");
        visit(UserModule {
            base: entry.u64("DllBase")?,
            time_stamp: entry.u64("TimeDateStamp").unwrap_or(0) as u32,
            path: path.unwrap_or_else(|error| format!("<{error}>")),
        })?;
    }
    Ok(())
}

/// True if a process has a module of that name, which its image's name tells too.
///
/// # Errors
/// Where the loader's list is not in the dump.
pub fn has_module(page: &Page<'_>, process: &Process<'_>, wanted: &str) -> Result<bool> {
    let is = |path: &str| {
        let file = path.rsplit('\\').next().unwrap_or(path);
        let stem = file.rsplit_once('.').map_or(file, |parts| parts.0);
        matches(wanted, file) || matches(wanted, stem)
    };
    if process.name().is_ok_and(|name| is(&name)) {
        return Ok(true);
    }
    if process.peb()?.is_null() {
        return Ok(false);
    }
    let mut found = false;
    let peb = read_peb(page, process.memory(&page.kernel)?, process.peb()?)?;
    let walked = each_module(page, &peb, &mut |module| {
        found |= is(&module.path);
        Ok(())
    });
    if found { Ok(true) } else { walked.map(|()| false) }
}

/// The strings of an environment block.
pub fn environment(memory: Memory<'_>, at: Va) -> Result<Vec<String>> {
    let mut bytes = vec![0; 2 * MOST_ENVIRONMENT];
    let (done, fault) = memory.read_some(at, &mut bytes)?;
    bytes.truncate(done);
    match fault {
        Some(error) if done < 4 => Err(error),
        _ => {
            let units: Vec<_> = bytes.chunks_exact(2).collect();
            let strings = units.split(|unit| **unit == [0, 0]).take_while(|string| !string.is_empty());
            Ok(strings.map(|string| string::one_line(&string::from_utf16(&string.concat()))).collect())
        }
    }
}
