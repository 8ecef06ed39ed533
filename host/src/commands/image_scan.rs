//! `.imgscan` looks for headers of images in memory: also of those that no list of modules names.
//!
//! Without a range all memory of the kernel's half is looked at, a page that several addresses of one table share once
//! only: that bounds it by what is mapped. The constants behind `prot` and `type` are those that Microsoft's engine shows for every
//! page of a kernel dump. JSON: a list `images` of `{address, size, name, module}`; `module` is null where no list of modules
//! has the address.

use super::{Builtin, Call, Needs};
use crate::dump::PhysicalMemory;
use crate::image::{Headers, InMemory, export_name};
use crate::memory::{PageTables, View, each_page};
use crate::range;
use crate::scope::Scope;
use crate::session::Session;
use kd_sdk::address::{PAGE_SIZE, Va};
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};
use std::cell::Cell;
use std::sync::Arc;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[Builtin {
    names: &[".imgscan"],
    usage: "[/r RANGE] [/l] [/v]",
    summary: "Look for images in memory",
    help: "Every page that begins with MZ is shown; where the headers can be read also the size and the name that the\n\
           image gives itself. Without /r all memory of the kernel is looked at, which takes a while in large dumps;\n\
           Ctrl+C ends it. /l puts images that no list of modules has among the modules (lm, .reload), under\n\
           their own name or that of their address. /v says what is wrong with headers and which module it is.",
    needs: Needs::Target,
    run: scan,
}];

/// Images that are shown.
const MOST_IMAGES: usize = 1 << 16;

#[derive(Default)]
struct Options {
    range: Option<(Va, Va)>,
    load: bool,
    verbose: bool,
}

fn parse(scope: &Scope, args: &str) -> Result<Options> {
    let mut options = Options::default();
    let mut rest = args.trim();
    while !rest.is_empty() {
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = after.trim_start();
        match word {
            "/l" | "-l" => options.load = true,
            "/v" | "-v" => options.verbose = true,
            "/r" | "-r" => {
                // An option that follows is none of the expression's: ` /v` would divide.
                let end = [" /l", " /v", " -l", " -v"].iter().filter_map(|option| rest.find(option)).min();
                let (text, after) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, ""));
                // A range of images is large: its own limit is that of pages.
                let (range, more) = range::parse_first_unlimited(text, scope, 1)?;
                if !more.is_empty() || range.items == 0 {
                    return Err(Error::Usage(format!("bad range error at '{more}'")));
                }
                options.range = Some((range.start, range.start.add(range.items - 1)));
                rest = after.trim_start();
            }
            other => return Err(Error::Usage(format!(".imgscan takes /r RANGE, /l and /v, not '{other}'"))),
        }
    }
    Ok(options)
}

/// The kernel's half of the address space.
fn kernel_half(scope: &Scope) -> (Va, Va) {
    let tables = scope.view().and_then(View::tables).map(PageTables::kernel_half);
    // A small dump has blocks in place of tables.
    tables.unwrap_or(match scope.pointer_size() {
        4 => (Va(0x8000_0000), Va(u32::MAX.into())),
        _ => (Va(1 << 63), Va(u64::MAX)),
    })
}

fn scan(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let options = parse(&scope, call.args)?;
    let (first, last) = options.range.unwrap_or_else(|| kernel_half(&scope));
    let view = scope.view().ok_or_else(|| Error::Unsupported("no dump is open".to_owned()))?;
    let ui = Arc::clone(session.ui());
    let mut found = Vec::new();
    let result = out.list("images", |out| {
        let mut looked = 0;
        let total = view.physical().map_or(0, PhysicalMemory::page_count);
        let go_on = |looked: u64| {
            ui.progress(looked.min(total), total, "looking for images");
            !session.interrupted()
        };
        let mut visit = |page: Va, bytes: &[u8]| {
            if bytes.starts_with(b"MZ") && page >= first {
                found.push(show(&scope, out, page, options.verbose));
            }
            found.len() < MOST_IMAGES
        };
        let whole = match (view.tables(), view.physical()) {
            (Some(tables), Some(physical)) => {
                let looked = Cell::new(0);
                let mut visit = |page: Va, bytes: &[u8]| {
                    looked.set(looked.get() + 1);
                    visit(page, bytes)
                };
                each_page(tables, physical, (first, last), &mut visit, &mut || go_on(looked.get()))
            }
            // A small dump has blocks, and there are only so many of them.
            _ => {
                let mut at = Some(first);
                loop {
                    let next = at.and_then(|at| view.next_readable(at)).filter(|page| *page <= last);
                    let Some(page) = next else { break true };
                    let mut magic = [0; 2];
                    let done = view.read(page, &mut magic).done;
                    looked += 1;
                    if !go_on(looked) || !visit(page, magic.get(..done).unwrap_or_default()) {
                        break false;
                    }
                    // Images begin where pages begin, and so do the blocks that have their headers.
                    at = (page.0 & !(PAGE_SIZE - 1)).checked_add(PAGE_SIZE).map(Va);
                }
            }
        };
        if found.len() >= MOST_IMAGES {
            out.warning(&format!("{MOST_IMAGES} images are shown; there may be more"));
            return Ok(());
        }
        if whole { Ok(()) } else { Err(Error::Interrupted) }
    });
    ui.clear_progress();
    result?;
    if found.is_empty() {
        out.line(&format!(
            "No page between {first} and {last} begins with MZ{}",
            if scope.target()?.dump().physical().is_none() {
                "; a small dump holds few pages of images"
            } else {
                ""
            }
        ));
    }
    if options.load {
        for image in found.into_iter().filter(|image| !image.is_known) {
            let Some(headers) = image.headers else { continue };
            let name = image.name.unwrap_or_else(|| format!("image{:x}", image.base.0));
            super::reload::put_image(session, &name, image.base, &headers)?;
            out.line(&format!("Added {name} to the modules"));
        }
    }
    Ok(())
}

/// An image that was found.
struct Found {
    base: Va,
    headers: Option<Headers>,
    name: Option<String>,
    is_known: bool,
}

fn show(scope: &Scope, out: &Out<'_>, base: Va, verbose: bool) -> Found {
    let image = InMemory(|at, into: &mut [u8]| {
        base.0.checked_add(at).is_some_and(|va| scope.read(Va(va), into).fault.is_none())
    });
    let headers = Headers::parse(&image);
    let name = headers.as_ref().ok().and_then(|headers| export_name(&image, headers));
    let module =
        scope.target().ok().and_then(|target| target.module_at(base)).filter(|found| found.base == base);
    out.record("", |out| {
        out.text("MZ at ");
        let shown = base.show(scope.pointer_size()).to_string();
        out.styled_field("address", Value::Hex(base.0), Style::Address, &shown);
        out.text(", prot 00000004, type 00020000");
        match &headers {
            Ok(headers) => {
                out.field("size", Value::Hex(headers.size.into()), &format!(" - size {:x}", headers.size));
            }
            Err(_) => out.data("size", Value::Null),
        }
        out.end_line();
        match &name {
            Some(name) => {
                out.field("name", Value::Text(name), &format!("  Name: {name}"));
                out.end_line();
            }
            None => out.data("name", Value::Null),
        }
        match (&module, &headers) {
            (Some(module), _) => {
                let text = if verbose { format!("  Module: {}\n", module.name) } else { String::new() };
                out.field("module", Value::Text(&module.name), &text);
            }
            (None, _) => out.data("module", Value::Null),
        }
        if let (Err(error), true) = (&headers, verbose) {
            let why = error.to_string();
            out.field("why", Value::Text(&why), &format!("  {why}\n"));
        }
        // Worth a line of its own: what hides from the lists is what such a search is for.
        if module.is_none() && headers.is_ok() {
            out.styled(Style::Emphasis, "  In no list of modules");
            out.end_line();
        }
    });
    Found { base, headers: headers.ok(), name, is_known: module.is_some() }
}
