//! `!kuser`, `!gflag`, `!sysinfo`, `!whattime`, `!filetime`.

use kd_sdk::args::Args;
use kd_sdk::nt::clock::Clock;
use kd_sdk::nt::hardware::{self, Smbios};
use kd_sdk::nt::kernel::Kernel;
use kd_sdk::nt::shared_data::SharedData;
use kd_sdk::nt::{self, time};
use kd_sdk::prelude::*;

/// Runs `!kuser`.
pub fn kuser(session: &Session<'_>, args: &str) -> Result<()> {
    Args::new(args).finish()?;
    let page = SharedData::read(session)?;
    let out = session.out();
    let line = |key: &str, value: Value<'_>, shown: &str| {
        out.field(key, value, shown);
        out.end_line();
    };
    let at = session.target().show(page.at);
    line("address", Value::Hex(page.at.0), &format!("_KUSER_SHARED_DATA at {at}"));
    out.data("tick_multiplier", Value::Hex(page.tick_multiplier.into()));
    let up = page.up_time();
    let ticks = format!("{:x} * {:016x} {}", page.tick_multiplier, page.tick_count, time::waited(up));
    line("tick_count", Value::UInt(page.tick_count), &format!("TickCount:    {ticks}"));
    out.data("up_time", Value::UInt(up));
    let interrupt = time::up_time(page.interrupt_time);
    line("interrupt_time", Value::UInt(page.interrupt_time), &format!("InterruptTime: {interrupt}"));
    let now = time::session_time(page.system_time);
    line("system_time", Value::Time(page.system_time), &format!("SystemTime: {now}"));
    let minutes = page.time_zone_bias / 600_000_000;
    line("time_zone_bias", Value::Int(page.time_zone_bias), &format!("TimeZone Bias: {minutes} minutes"));
    let zone = u64::from(page.time_zone_id);
    line("time_zone_id", Value::UInt(zone), &format!("TimeZone Id: {zone}"));
    let (low, high) = page.image_numbers;
    out.data("image_number_low", Value::Hex(low.into()));
    line("image_number_high", Value::Hex(high.into()), &format!("ImageNumber Range: [{low:x} .. {high:x}]"));
    let exponent = u64::from(page.crypto_exponent);
    line("crypto_exponent", Value::UInt(exponent), &format!("Crypto Exponent: {exponent}"));
    line("system_root", Value::Text(&page.system_root), &format!("SystemRoot: '{}'", page.system_root));
    let (major, minor) = page.version;
    let build = page.build.map_or_else(String::new, |build| format!(".{build}"));
    let version = format!("{major}.{minor}{build}");
    line("version", Value::Text(&version), &format!("Version: {version}"));
    line("product", Value::Text(page.product()), &format!("Product: {}", page.product()));
    let suite = u64::from(page.suite_mask);
    line("suite_mask", Value::Hex(suite), &format!("SuiteMask: {suite:x}"));
    let debugger = match page.debugger & 3 {
        0 => "not enabled",
        3 => "enabled, present",
        _ => "enabled, not present",
    };
    line("debugger", Value::UInt(page.debugger.into()), &format!("Debugger: {debugger}"));
    let console = u64::from(page.console_session);
    line("console_session", Value::UInt(console), &format!("Console Session: {console}"));
    line(
        "safe_boot",
        Value::Bool(page.safe_boot),
        if page.safe_boot { "Safe mode: yes" } else { "Safe mode: no" },
    );
    let counts = [
        ("physical_pages", "Physical Pages", page.physical_pages),
        ("processors", "Active Processors", page.processors),
        ("boot_id", "Boot Id", page.boot_id),
    ];
    for (key, label, count) in counts {
        if let Some(count) = count {
            line(key, Value::UInt(count.into()), &format!("{label}: {count}"));
        }
    }
    Ok(())
}

/// The flags of `NtGlobalFlag`: bit, short name, meaning.
const FLAGS: [(u32, &str, &str); 32] = [
    (0x0000_0001, "soe", "stop on exceptions"),
    (0x0000_0002, "sls", "show what the loader does"),
    (0x0000_0004, "dic", "debug the first command"),
    (0x0000_0008, "shg", "stop where a window hangs"),
    (0x0000_0010, "htc", "heaps: check ends of blocks"),
    (0x0000_0020, "hfc", "heaps: check blocks that are freed"),
    (0x0000_0040, "hpc", "heaps: check parameters"),
    (0x0000_0080, "hvc", "heaps: validate at every call"),
    (0x0000_0100, "vrf", "application verifier (before Windows XP: pool, check ends of blocks)"),
    (
        0x0000_0200,
        "ptm",
        "watch silent exits of processes (before Windows 7: pool, check blocks that are freed)",
    ),
    (0x0000_0400, "ptg", "pool: count by tags"),
    (0x0000_0800, "htg", "heaps: tags"),
    (0x0000_1000, "ust", "keep stack traces of programs"),
    (0x0000_2000, "kst", "keep stack traces of the kernel"),
    (0x0000_4000, "otl", "keep a list of objects of each type"),
    (0x0000_8000, "htd", "heaps: tags of DLLs"),
    (0x0001_0000, "dse", "stacks do not grow"),
    (0x0002_0000, "d32", "debug the Win32 subsystem"),
    (0x0004_0000, "ksl", "load the kernel's symbols into the kernel debugger"),
    (0x0008_0000, "dps", "kernel stacks stay in memory"),
    (0x0010_0000, "scb", "break at errors that are critical for the system"),
    (0x0020_0000, "dhc", "heaps: do not join freed blocks"),
    (0x0040_0000, "ece", "raise exceptions at closing of wrong handles"),
    (0x0080_0000, "eel", "log exceptions"),
    (0x0100_0000, "eot", "tag handles of objects by their type early"),
    (0x0200_0000, "hpa", "heaps: a page for every block"),
    (0x0400_0000, "dwl", "debug Winlogon"),
    (0x0800_0000, "ddp", "the kernel prints nothing to the debugger"),
    (0x1000_0000, "cse", "make events of critical sections early"),
    (
        0x2000_0000,
        "sue",
        "stop on exceptions that nobody handles (before Windows Vista: load DLLs from the top)",
    ),
    (0x4000_0000, "bhd", "watch for wrong handles"),
    (0x8000_0000, "dpd", "do not verify protected DLLs"),
];

/// Runs `!gflag`.
pub fn gflag(session: &Session<'_>, args: &str) -> Result<()> {
    let out = session.out();
    let row = |out: &Out<'_>, (bit, name, meaning): (u32, &str, &str)| {
        out.record("", |out| {
            out.data("bit", Value::Hex(bit.into()));
            out.name("name", &format!("    {name}"));
            out.field("meaning", Value::Text(meaning), &format!(" - {meaning}"));
            out.end_line();
        });
    };
    match args.trim() {
        "" => {}
        "-?" => {
            out.list("known", |out| FLAGS.iter().for_each(|flag| row(out, *flag)));
            return Ok(());
        }
        _ => return Err(Error::Usage("the flags of a dump cannot be changed: !gflag [-?]".to_owned())),
    }
    let flags = session.memory().u32(nt::variable(session, "NtGlobalFlag", None)?)?;
    out.field("flags", Value::Hex(flags.into()), &format!("Current NtGlobalFlag contents: 0x{flags:08x}"));
    out.end_line();
    out.list("names", |out| {
        FLAGS.iter().filter(|(bit, ..)| flags & bit != 0).for_each(|flag| row(out, *flag));
    });
    Ok(())
}

/// Runs `!sysinfo`.
pub fn sysinfo(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let what = args.word().unwrap_or("");
    args.finish()?;
    match what {
        "machineid" => machine_id(session),
        "smbios" => smbios(session),
        "cpuinfo" => cpu_values(session),
        "cpuspeed" => cpu_speed(session),
        _ => Err(Error::Usage("!sysinfo machineid | smbios | cpuinfo | cpuspeed".to_owned())),
    }
}

/// What identifies a machine: name, kind of structure, where in it, a number or a text.
const MACHINE: [(&str, &str, u8, usize, bool); 13] = [
    ("BiosMajorRelease", "bios_major_release", 0, 0x14, false),
    ("BiosMinorRelease", "bios_minor_release", 0, 0x15, false),
    ("BiosVendor", "bios_vendor", 0, 4, true),
    ("BiosVersion", "bios_version", 0, 5, true),
    ("BiosReleaseDate", "bios_release_date", 0, 8, true),
    ("SystemManufacturer", "system_manufacturer", 1, 4, true),
    ("SystemProductName", "system_product_name", 1, 5, true),
    ("SystemVersion", "system_version", 1, 6, true),
    ("SystemSKU", "system_sku", 1, 0x19, true),
    ("SystemFamily", "system_family", 1, 0x1a, true),
    ("BaseBoardManufacturer", "base_board_manufacturer", 2, 4, true),
    ("BaseBoardProduct", "base_board_product", 2, 5, true),
    ("BaseBoardVersion", "base_board_version", 2, 6, true),
];

fn machine_id(session: &Session<'_>) -> Result<()> {
    let tables = Smbios::read(session)?;
    let out = session.out();
    head(&out, "Machine ID Information [From Smbios ", &tables, ", Size=", "]");
    for (name, key, kind, at, text) in MACHINE {
        let Some(structure) = tables.first(kind) else { continue };
        if text {
            if let Some(value) = structure.text(at) {
                out.field(key, Value::Text(value), &format!("{name} = {value}"));
                out.end_line();
            }
        } else if let Some(value) = structure.byte(at) {
            out.field(key, Value::UInt(value.into()), &format!("{name} = {value}"));
            out.end_line();
        }
    }
    Ok(())
}

fn head(out: &Out<'_>, before: &str, tables: &Smbios, size: &str, after: &str) {
    let (major, minor) = tables.version;
    let version = format!("{major}.{minor}");
    out.text(before);
    out.field("smbios_version", Value::Text(&version), &version);
    out.field("dmi_version", Value::UInt(tables.dmi.into()), &format!(", DMIVersion {}", tables.dmi));
    out.field("size", Value::UInt(tables.size as u64), &format!("{size}{}", tables.size));
    out.line(after);
}

/// Names of the kinds of structures.
fn kind_name(kind: u8) -> &'static str {
    match kind {
        0 => "BIOS Information",
        1 => "System Information",
        2 => "BaseBoard Information",
        3 => "System Enclosure",
        4 => "Processor Information",
        7 => "Cache Information",
        8 => "Port Connector",
        9 => "System Slot",
        10 => "Onboard Devices",
        11 => "OEM Strings",
        12 => "System Configuration Options",
        13 => "BIOS Language",
        16 => "Physical Memory Array",
        17 => "Memory Device",
        19 => "Memory Array Mapped Address",
        20 => "Memory Device Mapped Address",
        22 => "Portable Battery",
        32 => "System Boot",
        127 => "End of Table",
        128.. => "of the maker's",
        _ => "Other",
    }
}

fn smbios(session: &Session<'_>) -> Result<()> {
    let tables = Smbios::read(session)?;
    let out = session.out();
    head(&out, "[SMBIOS Data Tables v", &tables, ", Table Size - ", " bytes]");
    out.list("structures", |out| {
        for structure in &tables.structures {
            session.check_interrupt()?;
            out.record("", |out| {
                let (kind, length) = (structure.kind, structure.bytes.len());
                let name = kind_name(kind);
                out.field("name", Value::Text(name), &format!("[{name}"));
                out.field("type", Value::UInt(kind.into()), &format!(" (Type {kind})"));
                out.field("length", Value::UInt(length as u64), &format!(" - Length {length}"));
                out.field(
                    "handle",
                    Value::Hex(structure.handle.into()),
                    &format!(" - Handle {:04x}h]", structure.handle),
                );
                out.end_line();
                if kind == 17 {
                    memory_device(out, structure);
                }
                out.list("texts", |out| {
                    for text in structure.texts.iter().filter(|text| !text.trim().is_empty()) {
                        out.field("", Value::Text(text), &format!("  {text}"));
                        out.end_line();
                    }
                });
            });
        }
        Ok(())
    })
}

/// Size and speed of a module of memory.
fn memory_device(out: &Out<'_>, structure: &hardware::Structure) {
    let megabytes = match structure.word(0xc) {
        // The size of large ones stands elsewhere.
        Some(0x7fff) => structure
            .word(0x1c)
            .zip(structure.word(0x1e))
            .map(|(low, high)| u64::from(low) | u64::from(high) << 16),
        Some(size) if size & 0x8000 == 0 => Some(size.into()),
        _ => None,
    };
    if let Some(megabytes) = megabytes {
        let shown = if megabytes == 0 {
            "  Size: none is installed".to_owned()
        } else {
            format!("  Size: {megabytes} MB")
        };
        out.field("megabytes", Value::UInt(megabytes), &shown);
        out.end_line();
    }
    if let Some(speed) = structure.word(0x15).filter(|speed| *speed != 0) {
        out.field("speed", Value::UInt(speed.into()), &format!("  Speed: {speed} MT/s"));
        out.end_line();
    }
}

fn cpu_values(session: &Session<'_>) -> Result<()> {
    let values = hardware::processor_values(session)?;
    let out = session.out();
    out.line("[CPU Information]");
    out.list("values", |out| {
        for value in &values {
            out.record("", |out| {
                let shown = value.show();
                out.name("name", &value.name);
                out.field("type", Value::Text(value.kind_name()), &format!(" = {}", value.kind_name()));
                out.field("data", Value::Text(&shown), &format!(" {shown}"));
                out.end_line();
            });
        }
    });
    Ok(())
}

fn cpu_speed(session: &Session<'_>) -> Result<()> {
    let out = session.out();
    let mut wrong = None;
    let mut known = false;
    let mut line = |key: &str, label: &str, text: Option<String>| {
        if let Some(text) = text {
            out.field(key, Value::Text(&text), &format!("{label:<15}\"{text}\""));
            out.end_line();
            known = true;
        }
    };
    let name = match hardware::processor_values(session) {
        Ok(values) => {
            let find = |name: &str| {
                values.iter().find(|value| value.name == name).map(hardware::RegistryValue::show)
            };
            line("speed", "CurrentSpeed:", find("~MHz").map(|speed| format!("{speed} MHz")));
            find("ProcessorNameString")
        }
        Err(error) => {
            wrong = Some(error);
            None
        }
    };
    let brand = || hardware::cpuid(session).ok().and_then(|leaves| hardware::brand(&leaves));
    line("name", "CPUID:", name.map(|name| name.trim().to_owned()).or_else(brand));
    if let Ok(tables) = Smbios::read(session)
        && let Some(processor) = tables.first(4)
    {
        let speed =
            |at: usize| processor.word(at).filter(|speed| *speed != 0).map(|speed| format!("{speed} MHz"));
        line("maximum", "MaxSpeed:", speed(0x14));
        line("start", "StartSpeed:", speed(0x16));
    }
    match wrong {
        Some(error) if !known => Err(error),
        _ => Ok(()),
    }
}

fn argument(session: &Session<'_>, args: &str, what: &str) -> Result<u64> {
    if args.trim().is_empty() {
        return Err(Error::Usage(format!("{what} is needed")));
    }
    session.evaluate(args)
}

/// Runs `!whattime`.
pub fn whattime(session: &Session<'_>, args: &str) -> Result<()> {
    let ticks = argument(session, args, "a number of ticks")?;
    let clock = Clock::read(&Kernel::new(session));
    let span = clock.span(ticks);
    let out = session.out();
    out.field("ticks", Value::UInt(ticks), &format!("{ticks} Ticks in Standard Time: "));
    out.field("span", Value::UInt(span), &format!("{}s", time::elapsed(span)));
    out.end_line();
    out.data("measured", Value::Bool(clock.measured));
    if !clock.measured {
        out.warning("the dump does not tell how long a tick is: 15.625 ms are assumed");
    }
    Ok(())
}

/// Runs `!filetime`.
pub fn filetime(session: &Session<'_>, args: &str) -> Result<()> {
    let value = argument(session, args, "a FILETIME, 100 ns since 1601,")?;
    let at = time::Civil::from_file_time(value);
    let out = session.out();
    let date = format!(
        "{:2}/{:2}/{:04} {:02}:{:02}:{:02}.{:03}",
        at.month, at.day, at.year, at.hour, at.minute, at.second, at.millisecond
    );
    out.field("time", Value::Time(value), &format!("{date} (UTC)"));
    out.end_line();
    Ok(())
}
