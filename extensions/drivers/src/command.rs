//! `!drivers`: arguments and output.

use crate::date;
use crate::model::{self, Driver, NoHeaders, Sizes};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;
use kd_sdk::target::UnloadedModule;

/// Width of `Loader Entry`.
const ENTRY: usize = 12;

/// Which columns and blocks are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Flags {
    pages: bool,
    locked: bool,
    sections: bool,
    headers: bool,
}

impl Flags {
    fn from_bits(bits: u64) -> Result<Flags> {
        if bits & !7 != 0 {
            return Err(Error::Usage(format!("flags {bits:#x}: only bits 1, 2 and 4 have a meaning")));
        }
        let (one, two, four) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        Ok(Flags { pages: one || (two && !four), locked: two && !four, sections: four, headers: four && two })
    }
}

/// Runs the command.
pub fn drivers(session: &Session<'_>, args: &str) -> Result<()> {
    let args = args.trim();
    let bits = if args.is_empty() { 0 } else { session.evaluate(args)? };
    let flags = Flags::from_bits(bits)?;
    let out = session.out();
    if session.target().holds_no_memory() {
        return Err(Error::Unsupported(
            "the lists of loaded and unloaded drivers are not captured in this dump: it holds no memory"
                .to_owned(),
        ));
    }
    let list = model::read(session, flags.pages)?;
    out.styled(Style::Heading, "Loaded System Driver Summary");
    out.end_line();
    out.end_line();
    if list.is_empty() {
        out.line("No driver could be read from the list of loaded modules.");
    }
    let pointer_size = session.target().pointer_size();
    let page = Page { out, flags, pointer_size };
    page.header();
    out.list("drivers", |_| list.iter().for_each(|driver| page.driver(driver)));
    page.totals(&list);
    let unloaded: Vec<UnloadedModule> = session.target().unloaded_modules().collect();
    let mut found = model::suspicious(&list, pointer_size);
    if let Some(bug_check) = session.target().bug_check() {
        found.extend(model::calls_to_the_gone(&bug_check, &unloaded, &list, pointer_size));
    }
    page.suspicious(&found);
    page.unloaded(&unloaded, model::unloaded_absent(session).filter(|_| unloaded.is_empty()));
    Ok(())
}

/// Where and how it is printed.
struct Page<'a> {
    out: Out<'a>,
    flags: Flags,
    pointer_size: u32,
}

/// `1c8d40 (1827 kb)`.
fn size_text(mark: &str, bytes: u64) -> String {
    format!("{mark}{bytes:x} ({} kb)", bytes.div_ceil(1024))
}

impl Page<'_> {
    fn show(&self, va: Va) -> String {
        va.show(self.pointer_size).to_string()
    }

    fn header(&self) {
        let width = if self.pointer_size == 4 { 8 } else { 17 };
        let mut line = format!("{:width$}  {:>18}  {:>18}", "Base", "Code Size", "Data Size");
        if self.flags.pages {
            line.push_str(&format!("  {:>8}  {:>8}", "Resident", "Standby"));
        }
        if self.flags.locked {
            line.push_str(&format!("  {:>8}  {:width$}", "Locked", "Loader Entry", width = width.max(ENTRY)));
        }
        line.push_str(&format!("  {:26}  {}", "Driver Name", "Creation Time"));
        self.out.styled(Style::Heading, &line);
        self.out.end_line();
    }

    fn driver(&self, driver: &Driver) {
        self.out.record("", |out| {
            let module = &driver.module;
            out.styled_field("base", Value::Hex(module.base.0), Style::Address, &self.show(module.base));
            out.data("size", Value::Hex(module.size));
            let (code, data) = match driver.sizes() {
                Some(Sizes { code, data }) => {
                    ((Value::Hex(code), size_text("", code)), (Value::Hex(data), size_text("", data)))
                }
                None => ((Value::Null, size_text("~", module.size)), (Value::Null, "-".to_owned())),
            };
            out.field("code_size", code.0, &format!("  {:>18}", code.1));
            out.field("data_size", data.0, &format!("  {:>18}", data.1));
            out.data("headers", Value::Bool(driver.headers.is_ok()));
            if self.flags.pages {
                self.count("resident", driver.pages.map(|pages| pages.resident));
                self.count("standby", driver.pages.and_then(|pages| pages.standby));
            }
            if self.flags.locked {
                self.count("locked", driver.pages.and_then(|pages| pages.locked));
                let entry = module.loader_entry;
                let width = if self.pointer_size == 4 { ENTRY } else { 17 };
                let (value, text) = match entry.is_null() {
                    true => (Value::Null, "-".to_owned()),
                    false => (Value::Hex(entry.0), self.show(entry)),
                };
                out.field("loader_entry", value, &format!("  {text:width$}"));
            }
            out.data("name", Value::Text(&module.name));
            out.styled_field(
                "image",
                Value::Text(&module.image),
                Style::Symbol,
                &format!("  {:26}", module.image),
            );
            out.data("path", Value::Text(&module.path));
            out.data("time_stamp", Value::Hex(module.time_stamp.into()));
            let created = driver.stamp.file_time().map_or(Value::Null, Value::Time);
            out.field("created", created, &format!("  {}", driver.stamp.show()));
            out.end_line();
            if self.flags.sections {
                self.sections(driver);
            }
        });
    }

    /// A number of pages, `-` where it is not known.
    fn count(&self, key: &str, pages: Option<u64>) {
        let (value, text) = match pages {
            Some(pages) => (Value::UInt(pages), pages.to_string()),
            None => (Value::Null, "-".to_owned()),
        };
        self.out.field(key, value, &format!("  {text:>8}"));
    }

    fn sections(&self, driver: &Driver) {
        let out = self.out;
        let headers = match &driver.headers {
            Ok(headers) => headers,
            Err(NoHeaders::Absent(why)) => {
                out.line(&format!("    headers: {why}"));
                return;
            }
            Err(NoHeaders::Foreign) => {
                out.line("    headers: what stands at the base is no image header");
                return;
            }
        };
        if self.flags.headers {
            out.line(&format!(
                "    machine {:x}  image {:x}  entry {}  check sum {:x}  time stamp {:08X}",
                headers.machine,
                headers.size_of_image,
                self.show(driver.module.base.add(headers.entry_point.into())),
                headers.check_sum,
                headers.time_stamp
            ));
        }
        out.list("sections", |out| {
            for section in &headers.sections {
                out.record("", |out| {
                    out.field("name", Value::Text(&section.name), &format!("    {:8}", section.name));
                    let start = driver.module.base.add(section.start.into());
                    out.field("start", Value::Hex(start.0), &format!("  {}", self.show(start)));
                    out.field(
                        "size",
                        Value::Hex(section.size.into()),
                        &format!("  {:>18}", size_text("", section.size.into())),
                    );
                    let bits = section.characteristics;
                    let kind = if section.is_code() { "code" } else { "data" };
                    out.field("characteristics", Value::Hex(bits.into()), &format!("  {bits:08x} {kind}"));
                    out.end_line();
                });
            }
        });
        if !headers.complete {
            out.line("    the rest of the section table is not readable");
        }
    }

    fn totals(&self, list: &[Driver]) {
        let known: Vec<Sizes> = list.iter().filter_map(Driver::sizes).collect();
        let (code, data) = (known.iter().map(|s| s.code).sum(), known.iter().map(|s| s.data).sum());
        let rest = list.iter().filter(|driver| driver.sizes().is_none());
        let bare = rest.clone().fold(0u64, |sum, driver| sum.saturating_add(driver.module.size));
        let out = self.out;
        out.end_line();
        out.record("totals", |out| {
            out.text("TOTAL: ");
            out.field("drivers", Value::UInt(list.len() as u64), &format!("{} drivers", list.len()));
            out.field("code_size", Value::Hex(code), &format!(", code {}", size_text("", code)));
            out.field("data_size", Value::Hex(data), &format!(", data {}", size_text("", data)));
            let count = rest.count();
            let text = if count == 0 {
                String::new()
            } else {
                format!(", and {} in {count} images whose headers are not readable (~)", size_text("", bare))
            };
            out.field("size_without_headers", Value::Hex(bare), &text);
            out.end_line();
        });
        if self.flags.pages {
            let pages = || list.iter().filter_map(|driver| driver.pages);
            out.line(if pages().any(|pages| pages.standby.is_some()) {
                "Pages by the PFN database: Resident in use, Standby not in use and still in memory (modified ones \
                 too), Locked referenced more than once."
            } else if pages().next().is_some() {
                "Resident: pages with a translation. Standby, Locked: the PFN database is not readable (!drivers \
                 needs the kernel's symbols for it)."
            } else {
                "Resident, Standby, Locked: page tables and PFN database are not captured in this dump."
            });
        }
    }

    fn suspicious(&self, found: &[String]) {
        let out = self.out;
        if !found.is_empty() {
            out.end_line();
            out.styled(Style::Heading, "Look at these:");
            out.end_line();
        }
        out.list("suspicious", |out| {
            for text in found {
                out.styled_field("", Value::Text(text), Style::Bad, &format!("    {text}"));
                out.end_line();
            }
        });
    }

    fn unloaded(&self, list: &[UnloadedModule], absent: Option<String>) {
        let out = self.out;
        out.end_line();
        out.styled(Style::Heading, "Unloaded modules:");
        out.end_line();
        if list.is_empty() {
            out.line(&format!("    {}", absent.as_deref().unwrap_or("none recorded")));
        }
        out.list("unloaded", |out| {
            for module in list {
                out.record("", |out| {
                    out.field("start", Value::Hex(module.start.0), &self.show(module.start));
                    out.text(" ");
                    out.field("end", Value::Hex(module.end.0), &self.show(module.end));
                    out.field("name", Value::Text(&module.name), &format!("   {:16}", module.name));
                    match date::show_file_time(module.unload_time) {
                        Some(text) => {
                            out.field("unloaded", Value::Time(module.unload_time), &format!(" {text}"))
                        }
                        None => out.data("unloaded", Value::Null),
                    }
                    out.end_line();
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let flags = |bits| Flags::from_bits(bits).map(|f| (f.pages, f.locked, f.sections, f.headers));
        assert_eq!(flags(0), Ok((false, false, false, false)));
        assert_eq!(flags(1), Ok((true, false, false, false)));
        assert_eq!(flags(2), Ok((true, true, false, false)));
        assert_eq!(flags(4), Ok((false, false, true, false)));
        assert_eq!(flags(6), Ok((false, false, true, true)));
        assert!(flags(8).is_err());
    }

    #[test]
    fn sizes_read_as_kd_writes_them() {
        assert_eq!(size_text("", 0x1c8d40), "1c8d40 (1828 kb)");
        assert_eq!(size_text("~", 0), "~0 (0 kb)");
    }
}
