//! What is known of each driver, and what is odd about the list.

use crate::date::{self, Stamp};
use crate::pe::{self, Headers, Image};
use kd_sdk::address::{PAGE_SIZE, Va};
use kd_sdk::error::{Absent, Error, Result};
use kd_sdk::session::Session;
use kd_sdk::target::Module;

/// Bytes at a base that hold the headers.
const HEADER_BYTES: usize = 0x1000;

/// Pages that are asked about for one image at most: 256 MiB.
const MOST_PAGES: u64 = 0x1_0000;

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
    /// Pages with a translation; `None` where the dump holds no page tables.
    pub resident: Option<u64>,
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

/// Reads every driver; `pages` also counts the resident ones.
pub fn read(session: &Session<'_>, pages: bool) -> Result<Vec<Driver>> {
    let target = session.target();
    let physical = target.info().present & 0x10 != 0;
    let mut drivers = Vec::new();
    for module in target.modules() {
        session.check_interrupt()?;
        let stamp = date::judge(module.time_stamp, target.info().system_time);
        let resident = if pages && physical { Some(count_pages(session, &module)?) } else { None };
        drivers.push(Driver { headers: read_headers(session, module.base), stamp, resident, module });
    }
    drivers.sort_by_key(|driver| driver.module.base);
    Ok(drivers)
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

fn count_pages(session: &Session<'_>, module: &Module) -> Result<u64> {
    let memory = session.memory();
    let pages = module.size.div_ceil(PAGE_SIZE).min(MOST_PAGES);
    let mut resident = 0;
    for page in 0..pages {
        if page % 0x100 == 0 {
            session.check_interrupt()?;
        }
        resident += u64::from(memory.translate(module.base.add(page * PAGE_SIZE)).is_ok());
    }
    Ok(resident)
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
            _ => {}
        }
        if unusual_folder(&driver.module.path) {
            found.push(format!("{image}: loaded from {}", driver.module.path));
        }
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
            resident: None,
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
}
