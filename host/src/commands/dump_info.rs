//! What the dump says about the crash and the machine: the banner at load, `.bugcheck`, `vertarget`, `.time`,
//! `.lastevent`, `.dumpdebug`, `.enumtag`, `.ignore_missing_pages`.

use super::{Builtin, Call, Needs};
use crate::dump::Header;
use crate::scope::OpenTarget;
use crate::session::Session;
use crate::target::{Target, version};
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::time;
use kd_sdk::output::{Out, Style, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &[".bugcheck"],
        usage: "",
        summary: "Show the bug check code and its parameters",
        help: "!analyze -show CODE explains a code.",
        needs: Needs::Target,
        run: bug_check,
    },
    Builtin {
        names: &["vertarget"],
        usage: "",
        summary: "Show the version of the target",
        help: "",
        needs: Needs::Target,
        run: |session, out, _| {
            let scope = session.scope(None)?;
            show_version(scope.open()?, out);
            Ok(())
        },
    },
    Builtin {
        names: &[".time"],
        usage: "[-h HOURS]",
        summary: "Show when the machine stopped and how long it had run",
        help: "-h HOURS shows the time in a zone that many hours from UTC; a negative number stands in parentheses.",
        needs: Needs::Target,
        run: show_time,
    },
    Builtin {
        names: &[".lastevent", ".eventlog"],
        usage: "",
        summary: "Show the event the dump was written for",
        help: "",
        needs: Needs::Target,
        run: last_event,
    },
    Builtin {
        names: &[".dumpdebug"],
        usage: "",
        summary: "Show what the dump file holds: every field, stream and block",
        help: "Fields that were never written (they hold the filler PAGE) are left out.",
        needs: Needs::Target,
        run: dump_debug,
    },
    Builtin {
        names: &[".enumtag"],
        usage: "",
        summary: "Show the tagged secondary data of the dump",
        help: "Data that drivers and Windows add to a dump, each under a GUID.",
        needs: Needs::Target,
        run: enum_tag,
    },
    Builtin {
        names: &[".ignore_missing_pages"],
        usage: "[0 | 1]",
        summary: "Show or set whether missing pages are mentioned",
        help: "",
        needs: Needs::Nothing,
        run: ignore_missing_pages,
    },
];

/// The banner at load, in KD's order.
pub fn print_banner(session: &Session, open: &OpenTarget, out: &Out<'_>) {
    let target = &open.target;
    let dump = target.dump();
    out.end_line();
    out.text("Loading Dump File [");
    out.name("file", &dump.path().display().to_string());
    out.line("]");
    if let Some(member) = dump.archive_member() {
        out.text("Dump read from the cabinet's member ");
        out.name("member", member);
        out.end_line();
    }
    out.data("target", Value::UInt(open.number.into()));
    out.data("machine", Value::Text(target.machine().name()));
    out.data("dump_kind", Value::Text(dump.kind().name()));
    out.name("kind", version::kind_line(target.kind()));
    out.end_line();
    if let Some(comment) = dump.header().comment.as_deref().filter(|text| !text.is_empty()) {
        out.text("Comment: '");
        out.name("comment", comment);
        out.line("'");
    }
    out.end_line();
    path_line(out, "Symbol search path is: ", "symbol_path", &session.settings.symbol_path);
    path_line(out, "Executable search path is: ", "image_path", &session.settings.image_path);
    show_version(open, out);
    out.line("Loading Kernel Symbols");
    // The kernel itself is loaded before KD starts to count.
    let user = target.modules().iter().filter(|module| target.is_user(module.base)).count();
    out.data("modules", Value::UInt((target.modules().len() - user) as u64));
    dots(out, (target.modules().len() - user).saturating_sub(1));
    out.line("Loading User Symbols");
    if user > 0 {
        out.data("user_modules", Value::UInt(user as u64));
        dots(out, user);
    }
    out.line("Loading unloaded module list");
    out.data("unloaded_modules", Value::UInt(target.unloaded().len() as u64));
    dots(out, target.unloaded().len());
    let problems: Vec<String> = dump.problems().iter().map(ToString::to_string).collect();
    for problem in problems.into_iter().chain(target.problems().iter().map(ToString::to_string)) {
        out.warning(&problem);
    }
    if let Some(check) = target.header().bug_check.as_ref() {
        out.record("bug_check", |out| {
            out.data("code", Value::Hex(check.code.into()));
            out.list("parameters", |out| {
                check.parameters.iter().for_each(|value| out.data("", Value::Hex(*value)));
            });
        });
    }
    out.end_line();
}

/// KD's `BugCheck CODE, {P1, P2, P3, P4}`, for where no analysis prints it.
pub fn show_bug_check_line(open: &OpenTarget, out: &Out<'_>) {
    if let Some(check) = &open.target.header().bug_check {
        let parameters: Vec<String> = check.parameters.iter().map(|value| format!("{value:x}")).collect();
        out.line(&format!("BugCheck {:X}, {{{}}}", check.code, parameters.join(", ")));
        out.end_line();
    }
}

fn path_line(out: &Out<'_>, title: &str, key: &str, path: &str) {
    out.text(title);
    out.name(key, path);
    out.end_line();
}

/// KD prints a dot for each module, 63 in the first line, 64 in the others.
pub(super) fn dots(out: &Out<'_>, count: usize) {
    let mut left = count;
    let mut room = 63;
    while left > 0 {
        let line = left.min(room);
        out.line(&".".repeat(line));
        left -= line;
        room = 64;
    }
}

/// The version block: of the banner, of `vertarget`, of `version`.
pub fn show_version(open: &OpenTarget, out: &Out<'_>) {
    let target = &open.target;
    let size = target.pointer_size();
    let header = target.header();
    let facts = target.version();
    out.name("version", &facts.windows_line());
    out.end_line();
    out.data("build", header.minor_version.map_or(Value::Null, |build| Value::UInt(build.into())));
    out.data("processors", Value::UInt(facts.processors.into()));
    if let Some(product) = facts.product_line() {
        let name = product.trim_start_matches("Product: ");
        out.field("product", Value::Text(name), &product);
        out.end_line();
    }
    if let Some(lab) = facts.build_lab {
        out.text("Built by: ");
        out.name("build_lab", &lab);
        out.end_line();
    }
    out.line("Machine Name:");
    let shown =
        |va: Option<Va>| va.map_or_else(|| "not available".to_owned(), |va| format!("0x{}", va.show(size)));
    let value = |va: Option<Va>| va.map_or(Value::Null, |va| Value::Hex(va.0));
    let base = facts.kernel_base;
    out.text("Kernel base = ");
    out.field("kernel_base", value(base), &shown(base));
    out.text(" PsLoadedModuleList = ");
    let list = facts.ps_loaded_module_list;
    out.field("ps_loaded_module_list", value(list), &shown(list));
    out.end_line();
    show_times(target, out, 0);
}

fn show_times(target: &Target, out: &Out<'_>, zone: i8) {
    let header = target.dump().header();
    out.text("Debug session time: ");
    match header.system_time {
        Some(time) => out.field("time", Value::Time(time), &time::session_time_in(time, zone)),
        None => out.field("time", Value::Null, "not available"),
    }
    out.end_line();
    out.text("System Uptime: ");
    match header.system_up_time {
        Some(up) => out.field("uptime", Value::Duration(up), &time::up_time(up)),
        None => out.field("uptime", Value::Null, "not available"),
    }
    out.end_line();
}

fn show_time(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let zone = match call.args.strip_prefix(['-', '/']).and_then(|rest| rest.strip_prefix('h')) {
        Some(hours) => {
            let text = hours.trim().trim_matches(['(', ')']);
            let hours = text.parse().ok().filter(|hours| (-24..=24).contains(hours));
            hours.ok_or_else(|| Error::Usage(format!("'{text}' is not a number of hours from UTC")))?
        }
        None if call.args.is_empty() => 0,
        None => return Err(Error::Usage(format!("unexpected argument '{}'; .time [-h HOURS]", call.args))),
    };
    let scope = session.scope(None)?;
    show_times(scope.target()?, out, zone);
    Ok(())
}

fn bug_check(session: &mut Session, out: &Out<'_>, _: &Call<'_>) -> Result<()> {
    let scope = session.scope(None)?;
    let target = scope.target()?;
    let Some(check) = target.header().bug_check.as_ref() else {
        out.line("This dump holds no bug check: it was not written by a crash.");
        return Ok(());
    };
    out.text("Bugcheck code ");
    out.field("code", Value::Hex(check.code.into()), &format!("{:08X}", check.code));
    out.end_line();
    out.text("Arguments");
    out.list("parameters", |out| {
        for &value in &check.parameters {
            out.text(" ");
            out.field("", Value::Hex(value), &Va(value).show(target.pointer_size()).to_string());
        }
    });
    out.end_line();
    Ok(())
}

fn last_event(session: &mut Session, out: &Out<'_>, _: &Call<'_>) -> Result<()> {
    let scope = session.scope(None)?;
    let target = scope.target()?;
    out.text("Last event: ");
    match (target.header().bug_check.as_ref(), target.exception()) {
        (Some(check), _) => {
            out.field("bug_check", Value::Hex(check.code.into()), &format!("Bug check {:X}", check.code));
        }
        (None, Some(exception)) => {
            let text = format!("Exception {:08x} at {}", exception.code, exception.address);
            out.field("exception", Value::Hex(exception.code.into()), &text);
        }
        (None, None) => out.text("none recorded"),
    }
    out.end_line();
    Ok(())
}

fn dump_debug(session: &mut Session, out: &Out<'_>, _: &Call<'_>) -> Result<()> {
    let scope = session.scope(None)?;
    let target = scope.target()?;
    let dump = target.dump();
    let bits = if dump.header().is_64_bit { 64 } else { 32 };
    out.line(&format!("----- {bits} bit Kernel {} Dump Analysis", title(dump.kind().name())));
    out.end_line();
    out.data("bits", Value::UInt(bits));
    out.data("kind", Value::Text(dump.kind().name()));
    out.data("file_size", Value::UInt(dump.file_size()));
    out.line(&format!("DUMP_HEADER{bits}:"));
    out.record("header", |out| {
        for (name, number) in header_fields(dump.header()) {
            let text = match number {
                Number::Word(value) => format!("{value:08x}"),
                Number::Long(value) => Va(value).to_string(),
            };
            let (Number::Word(value) | Number::Long(value)) = number;
            out.text(&format!("{name:<19} "));
            out.field(&name, Value::Hex(value), &text);
            out.end_line();
        }
    });
    out.end_line();
    out.line("Contents of the file (offset, bytes, what):");
    let mut result = Ok(());
    out.list("contents", |out| {
        for entry in dump.layout() {
            if session.interrupted() {
                result = Err(Error::Interrupted);
                return;
            }
            out.record("", |out| {
                out.text("  ");
                out.field("offset", Value::Hex(entry.offset), &format!("{:08x}", entry.offset));
                out.field("size", Value::UInt(entry.size), &format!(" {:8x}  ", entry.size));
                out.name("name", &entry.name);
                if !entry.note.is_empty() {
                    out.field("note", Value::Text(&entry.note), &format!("  {}", entry.note));
                }
                out.end_line();
            });
        }
    });
    for problem in dump.problems() {
        out.warning(&problem.to_string());
    }
    result
}

enum Number {
    Word(u64),
    Long(u64),
}

/// The fields of the header that were written, by KD's names.
fn header_fields(header: &Header) -> Vec<(String, Number)> {
    let wide = header.is_64_bit;
    let word = |value: Option<u32>| value.map(|value| Number::Word(value.into()));
    let long = |value: u64| if wide { Number::Long(value) } else { Number::Word(value) };
    let va = |value: Option<Va>| value.map(|value| long(value.0));
    let check = header.bug_check.as_ref();
    let parameter =
        |index: usize| check.and_then(|check| check.parameters.get(index)).map(|&value| long(value));
    [
        ("MajorVersion", word(header.major_version)),
        ("MinorVersion", word(header.minor_version)),
        ("KdSecondaryVersion", word(header.kd_secondary_version.map(u32::from))),
        ("DirectoryTableBase", header.directory_table_base.map(|pa| long(pa.0))),
        ("PfnDataBase", va(header.pfn_database)),
        ("PsLoadedModuleList", va(header.ps_loaded_module_list)),
        ("PsActiveProcessHead", va(header.ps_active_process_head)),
        ("MachineImageType", Some(Number::Word(header.machine.number().into()))),
        ("NumberProcessors", word(header.number_processors)),
        ("BugCheckCode", word(check.map(|check| check.code))),
        ("BugCheckParameter1", parameter(0)),
        ("BugCheckParameter2", parameter(1)),
        ("BugCheckParameter3", parameter(2)),
        ("BugCheckParameter4", parameter(3)),
        ("PaeEnabled", header.pae_enabled.map(|on| Number::Word(on.into()))),
        ("KdDebuggerDataBlock", va(header.kd_debugger_data_block)),
        ("DumpType", Some(Number::Word(header.kind.number().into()))),
        ("RequiredDumpSpace", header.required_dump_space.map(Number::Long)),
        ("SystemTime", header.system_time.map(Number::Long)),
        ("SystemUpTime", header.system_up_time.map(Number::Long)),
        ("SecondaryDataState", word(header.secondary_data_state)),
        ("ProductType", word(header.product_type)),
        ("SuiteMask", word(header.suite_mask)),
        ("WriterStatus", word(header.writer_status)),
        ("MiniDumpFields", word(header.mini_dump_fields)),
        ("Attributes", word(header.attributes)),
        ("BootId", word(header.boot_id)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

fn title(name: &str) -> String {
    let name = if name == "small" { "mini" } else { name };
    name.split(' ')
        .map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map(|first| first.to_uppercase().chain(letters).collect::<String>())
                .unwrap_or_default()
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn enum_tag(session: &mut Session, out: &Out<'_>, _: &Call<'_>) -> Result<()> {
    let scope = session.scope(None)?;
    let dump = scope.target()?.dump();
    if dump.tagged_data().is_empty() {
        out.line("This dump holds no tagged data.");
    }
    out.list("tags", |out| {
        for blob in dump.tagged_data() {
            out.record("", |out| {
                let guid = guid_text(&blob.guid);
                out.styled_field("guid", Value::Text(&guid), Style::Emphasis, &format!("{{{guid}}}"));
                out.field("size", Value::UInt(blob.size), &format!(" - 0x{:x} bytes", blob.size));
                out.end_line();
                let bytes = dump.tagged_bytes(blob).unwrap_or_default();
                let hex: String = bytes.iter().take(1 << 16).map(|byte| format!("{byte:02x}")).collect();
                out.data("bytes", Value::Text(&hex));
                if bytes.len() > 1 << 16 {
                    out.data("bytes_cut", Value::Bool(true));
                }
                // KD shows the first bytes only.
                for line in bytes.get(..bytes.len().min(0x80)).unwrap_or_default().chunks(16) {
                    let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02X}")).collect();
                    let text: String = line.iter().map(|&byte| printable(byte)).collect();
                    out.line(&format!("  {:<47}  {text}", hex.join(" ")));
                }
                if bytes.len() > 0x80 {
                    out.line("  …");
                }
            });
        }
    });
    Ok(())
}

fn printable(byte: u8) -> char {
    if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' }
}

/// A GUID in memory order as it is written.
fn guid_text(guid: &[u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *guid;
    let (one, two, three) =
        (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([e, f]), u16::from_le_bytes([g, h]));
    let [i, j, tail @ ..] = rest;
    let tail: String = tail.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{one:08X}-{two:04X}-{three:04X}-{i:02X}{j:02X}-{tail}")
}

fn ignore_missing_pages(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    match call.args {
        "" => {}
        "0" => session.settings.ignore_missing_pages = false,
        "1" => session.settings.ignore_missing_pages = true,
        other => {
            return Err(Error::Usage(format!(".ignore_missing_pages takes 0 or 1, not '{other}'")));
        }
    }
    let on = session.settings.ignore_missing_pages;
    let text = if on { "Missing pages are not mentioned" } else { "Missing pages are mentioned" };
    out.field("ignore_missing_pages", Value::Bool(on), text);
    out.end_line();
    Ok(())
}
