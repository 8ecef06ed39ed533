//! What is known of each driver, and what is odd about the list.

use crate::date::{self, Stamp};
use crate::pages::{self, Pages};
use crate::pe::{self, Headers, Image};
use kd_sdk::address::Va;
use kd_sdk::error::{Absent, Error, Result};
use kd_sdk::nt::{self, pfn::Database};
use kd_sdk::session::Session;
use kd_sdk::target::{BugCheck, Module, UnloadedModule};

/// Offset of `MmUnloadedDrivers` in KDDEBUGGER_DATA64.
const KD_UNLOADED_DRIVERS: u32 = 0x220;
/// Physical memory is present.
const PHYSICAL: u32 = 0x10;
/// Bytes at a base that hold the headers.
const HEADER_BYTES: usize = 0x1000;

/// Sizes by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Bytes of sections that hold code.
    pub code: u64,
    /// Bytes of the other sections.
    pub data: u64,
}

/// A driver.
#[derive(Clone, Debug)]
pub struct Driver {
    /// From the module list.
    pub module: Module,
    /// Its headers, or why there are none.
    pub headers: core::result::Result<Headers, NoHeaders>,
    /// Its link time stamp.
    pub stamp: Stamp,
    /// Its pages; `None` where they were not asked for or the dump holds no page tables.
    pub pages: Option<Pages>,
}

/// Why there are no headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoHeaders {
    /// The memory is absent.
    Absent(Absent),
    /// Something else stands there.
    Foreign,
}

impl Driver {
    /// Code and data sizes, where the section table is known.
    pub fn sizes(&self) -> Option<Sizes> {
        let headers = self.headers.as_ref().ok().filter(|headers| headers.complete)?;
        Some(sizes(headers))
    }
}

/// The sums of the sections.
pub fn sizes(headers: &Headers) -> Sizes {
    let sum = |code: bool| {
        headers.sections.iter().filter(|section| section.is_code() == code).map(|s| u64::from(s.size)).sum()
    };
    Sizes { code: sum(true), data: sum(false) }
}

/// Reads every driver; `pages` also counts their pages.
pub fn read(session: &Session<'_>, pages: bool) -> Result<Vec<Driver>> {
    let target = session.target();
    let physical = target.info().present & PHYSICAL != 0;
    let count = pages && physical;
    let database = if count { Database::open(session).ok() } else { None };
    let mut drivers = Vec::new();
    // Programs and their libraries are modules too.
    for module in target.modules().filter(|module| target.is_kernel(module.base)) {
        session.check_interrupt()?;
        let stamp = date::judge(module.time_stamp, target.info().system_time);
        let pages = match count {
            true => Some(pages::count(session, database.as_ref(), module.base, module.size)?),
            false => None,
        };
        drivers.push(Driver { headers: read_headers(session, module.base), stamp, pages, module });
    }
    drivers.sort_by_key(|driver| driver.module.base);
    Ok(drivers)
}

/// Why there is no list of unloaded drivers, where there is none; small dumps have one of their own.
pub fn unloaded_absent(session: &Session<'_>) -> Option<String> {
    if session.target().info().present & PHYSICAL == 0 {
        return None;
    }
    let table = nt::variable(session, "MmUnloadedDrivers", Some(KD_UNLOADED_DRIVERS));
    table.and_then(|at| session.memory().pointer(at)).err().map(|error| session.explain(&error))
}

fn read_headers(session: &Session<'_>, base: Va) -> core::result::Result<Headers, NoHeaders> {
    let mut bytes = vec![0; HEADER_BYTES];
    let (done, fault) = match session.memory().read_some(base, &mut bytes) {
        Ok(answer) => answer,
        Err(_) => return Err(NoHeaders::Absent(Absent::NotCaptured)),
    };
    let why = match fault {
        Some(Error::Unreadable { why, .. }) => why,
        _ => Absent::NotCaptured,
    };
    match pe::parse_headers(bytes.get(..done).unwrap_or(&[])) {
        Image::Headers(headers) => Ok(headers),
        Image::Cut => Err(NoHeaders::Absent(why)),
        Image::Foreign => Err(NoHeaders::Foreign),
    }
}

/// What a reader of the list should look at. `drivers` are ordered by base.
pub fn suspicious(drivers: &[Driver], pointer_size: u32) -> Vec<String> {
    let mut found = Vec::new();
    for pair in drivers.windows(2) {
        let [low, high] = pair else { continue };
        if low.module.base.0.saturating_add(low.module.size) > high.module.base.0 {
            found.push(format!(
                "{} and {} overlap at {}",
                low.module.image,
                high.module.image,
                high.module.base.show(pointer_size)
            ));
        }
    }
    for driver in drivers {
        let image = &driver.module.image;
        match &driver.headers {
            Err(NoHeaders::Foreign) => {
                found.push(format!("{image}: what stands at its base is no image header"))
            }
            Ok(headers)
                if headers.time_stamp != driver.module.time_stamp && driver.module.time_stamp != 0 =>
            {
                found.push(format!(
                    "{image}: its header says time stamp {:08X}, the module list {:08X}",
                    headers.time_stamp, driver.module.time_stamp
                ));
            }
            Ok(headers) if u64::from(headers.size_of_image) != driver.module.size => {
                found.push(format!(
                    "{image}: its header says {:x} bytes, the module list {:x}",
                    headers.size_of_image, driver.module.size
                ));
            }
            _ => {}
        }
        if unusual_folder(&driver.module.path) {
            found.push(format!("{image}: loaded from {}", driver.module.path));
        }
    }
    found
}

/// Bug check parameters that are addresses in drivers that were gone: code that was called, or data that was used,
/// after the driver was unloaded. `loaded` hold the addresses that are in use again.
pub fn calls_to_the_gone(
    bug_check: &BugCheck,
    unloaded: &[UnloadedModule],
    loaded: &[Driver],
    pointer_size: u32,
) -> Vec<String> {
    let mut found = Vec::new();
    for (index, &value) in bug_check.parameters.iter().enumerate() {
        let va = Va(if pointer_size == 4 { value & 0xffff_ffff } else { value });
        let within = |start: Va, size: u64| va.0.checked_sub(start.0).is_some_and(|offset| offset < size);
        if loaded.iter().any(|driver| within(driver.module.base, driver.module.size)) {
            continue;
        }
        let gone = unloaded.iter().find(|gone| within(gone.start, gone.end.0.saturating_sub(gone.start.0)));
        found.extend(gone.map(|gone| {
            format!(
                "{}: unloaded, and Arg{} of the bug check is in it: {}",
                gone.name,
                index + 1,
                va.show(pointer_size)
            )
        }));
    }
    found
}

/// True for drivers that were loaded from outside the Windows folder and the driver store.
pub fn unusual_folder(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    // A bare name comes from the boot loader, which keeps none.
    lower.contains('\\')
        && !lower.starts_with("\\systemroot\\")
        && !lower.contains(":\\windows\\system32\\")
        && !lower.contains(":\\windows\\syswow64\\")
        && !lower.contains("\\microsoft\\windows defender\\")
        && !lower.starts_with("\\windows\\system32\\")
        && !lower.contains(":\\winnt\\system32\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(name: &str, base: u64, size: u64, path: &str) -> Driver {
        Driver {
            module: Module {
                base: Va(base),
                size,
                time_stamp: 0x5928_45ec,
                check_sum: 0,
                is_kernel: false,
                name: name.to_owned(),
                image: format!("{name}.sys"),
                path: path.to_owned(),
                loader_entry: Va(0),
            },
            headers: Err(NoHeaders::Absent(Absent::NotCaptured)),
            stamp: Stamp::Date(0x5928_45ec),
            pages: None,
        }
    }

    #[test]
    fn sizes_are_the_sums_of_sections() {
        let Image::Headers(headers) = pe::parse_headers(&pe::tests::sample()) else { panic!("no headers") };
        assert_eq!(sizes(&headers), Sizes { code: 0x1800, data: 0x200 });
    }

    #[test]
    fn odd_things_are_named() {
        let list = [
            driver("a", 0x1000, 0x2000, "\\SystemRoot\\system32\\drivers\\a.sys"),
            driver("b", 0x2000, 0x1000, "\\??\\C:\\Users\\x\\b.sys"),
            driver("c", 0x3000, u64::MAX, "c.sys"),
        ];
        let found = suspicious(&list, 8);
        assert_eq!(
            found,
            ["a.sys and b.sys overlap at 00000000`00002000", "b.sys: loaded from \\??\\C:\\Users\\x\\b.sys"]
        );
        assert!(!unusual_folder("\\??\\C:\\windows\\system32\\drivers\\cbfs3.sys"));
    }

    #[test]
    fn a_call_to_what_is_gone_is_named() {
        let gone = |start, end| UnloadedModule {
            start: Va(start),
            end: Va(end),
            unload_time: 0,
            name: "old.sys".into(),
        };
        let unloaded = [gone(0x8000, 0x9000), gone(0x1000, 0x2000)];
        let loaded = [driver("a", 0x1000, 0x1000, "a.sys")];
        let bug_check = BugCheck { raw_code: 0xce, parameters: [0x8010, 0, 0x1010, 0x9000] };
        assert_eq!(
            calls_to_the_gone(&bug_check, &unloaded, &loaded, 8),
            ["old.sys: unloaded, and Arg1 of the bug check is in it: 00000000`00008010"]
        );
    }
}
