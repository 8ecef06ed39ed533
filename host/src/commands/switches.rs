//! Settings that are on or off, and others of the display: `.enable_unicode`, `.enable_long_status`,
//! `.force_radix_output`, `.inline`, `.asm`, `.prompt_allow`; and those that are kept for KD's sake, with nothing here
//! that they would change.

use super::{Builtin, Call, Needs};
use crate::look::Assembly;
use crate::session::{Session, Settings};
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    row(
        &[".enable_unicode"],
        "[0 | 1]",
        "Show 16-bit numbers in arrays and behind pointers as text",
        "For dt, dv and ??: arrays of, and pointers to, unsigned short.",
        switch,
    ),
    row(
        &[".enable_long_status"],
        "[0 | 1]",
        "Show values of type long in the radix of n",
        "In decimal otherwise.",
        switch,
    ),
    row(
        &[".force_radix_output"],
        "[0 | 1]",
        "Show signed integers in the radix of n",
        "In decimal otherwise. long has a setting of its own, .enable_long_status.",
        switch,
    ),
    row(
        &[".inline"],
        "[0 | 1]",
        "Show frames of calls that the compiler put in line",
        "They are shown at first.",
        switch,
    ),
    row(
        &[".echotimestamps"],
        "[0 | 1]",
        "Show or change whether events have time stamps",
        "Kept for KD's sake: a dump has one event. Alone it changes the setting, as in KD.",
        switch,
    ),
    row(
        &[".prefer_dml"],
        "[0 | 1]",
        "Show or set whether commands show links",
        "Kept for KD's sake: links are shown where there are some.",
        switch,
    ),
    row(
        &[".asm", ".asm-"],
        "[-][OPTION ...]",
        "Show or set how code is shown",
        "no_code_bytes leaves out the bytes of instructions; source_line puts the number of the source line before each\n\
         instruction, where private symbols tell it. ignore_output_width (lines are never cut here) and verbose are\n\
         kept for KD's sake. .asm- OPTION takes an option away.",
        assembly,
    ),
    row(
        &[".prompt_allow"],
        "[{+|-}ITEM ...]",
        "Show or set what is shown when another processor or dump is looked at",
        "Items: sym (the symbol), dis (the instruction), ea (its operand's value), reg (registers), src (the source line).\n\
         ~Ns and ||Ns show the symbol and the instruction, with its operand's value, as far as they are allowed; the\n\
         other two are kept for KD's sake.",
        prompt_allow,
    ),
    row(
        &[".show_read_failures"],
        "[/v | /V]",
        "Show or set whether reads that fail are told",
        "Kept for KD's sake: every command here tells what it could not read.",
        failures,
    ),
    row(
        &[".show_sym_failures"],
        "[/s | /S] [/t | /T]",
        "Show or set whether symbols and types that are not found are told",
        "Kept for KD's sake: every command here tells what it did not find; !sym noisy tells where was looked.",
        failures,
    ),
    row(
        &[".noversion"],
        "",
        "Load extensions without a look at their version",
        "Kept for KD's sake: kd's extensions carry the version of their interface, which cannot be done without.",
        |session, out, _| {
            session.settings.kept.options |= super::settings::NO_VERSION_CHECK;
            out.line("Extension DLL system version checking disabled");
            Ok(())
        },
    ),
];

type Run = fn(&mut Session, &Out<'_>, &Call<'_>) -> Result<()>;

const fn row(
    names: &'static [&'static str],
    usage: &'static str,
    summary: &'static str,
    help: &'static str,
    run: Run,
) -> Builtin {
    Builtin { names, usage, summary, help, needs: Needs::Nothing, run }
}

/// A setting that is on or off.
struct Switch {
    command: &'static str,
    place: fn(&mut Settings) -> &mut bool,
    /// What it is when it is on, and when it is off.
    texts: [&'static str; 2],
    /// Without an argument it changes.
    toggles: bool,
}

const fn a_switch(
    command: &'static str,
    place: fn(&mut Settings) -> &mut bool,
    texts: [&'static str; 2],
) -> Switch {
    Switch { command, place, texts, toggles: false }
}

const SWITCHES: &[Switch] = &[
    a_switch(
        ".enable_unicode",
        |settings| &mut settings.look.unicode,
        ["16-bit numbers are shown as text", "16-bit numbers are shown as numbers"],
    ),
    a_switch(
        ".enable_long_status",
        |settings| &mut settings.look.long_in_radix,
        ["long is shown in the radix", "long is shown in decimal"],
    ),
    a_switch(
        ".force_radix_output",
        |settings| &mut settings.look.signed_in_radix,
        ["Signed integers are shown in the radix", "Signed integers are shown in decimal"],
    ),
    a_switch(
        ".inline",
        |settings| &mut settings.look.inline_frames,
        ["Inline function frames are shown", "Inline function frames are not shown"],
    ),
    Switch {
        toggles: true,
        ..a_switch(
            ".echotimestamps",
            |settings| &mut settings.kept.time_stamps,
            ["Event timestamps are now enabled", "Event timestamps are now disabled"],
        )
    },
    a_switch(
        ".prefer_dml",
        |settings| &mut settings.kept.dml,
        ["DML versions of commands on by default", "DML versions of commands off by default"],
    ),
];

fn switch(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let found = SWITCHES.iter().find(|switch| switch.command == call.name);
    let switch = found.ok_or_else(|| Error::NotFound(format!("no setting '{}'", call.name)))?;
    let place = (switch.place)(&mut session.settings);
    *place = match call.args {
        "" => *place != switch.toggles,
        "0" => false,
        "1" => true,
        other => return Err(Error::Usage(format!("{} takes 0 or 1, not '{other}'", call.name))),
    };
    let [on, off] = switch.texts;
    out.field("on", Value::Bool(*place), if *place { on } else { off });
    out.end_line();
    Ok(())
}

type AssemblyPlace = fn(&mut Assembly) -> &mut bool;

/// The options of `.asm`.
const ASSEMBLY: &[(&str, AssemblyPlace)] = &[
    ("ignore_output_width", |look| &mut look.ignore_output_width),
    ("no_code_bytes", |look| &mut look.no_code_bytes),
    ("source_line", |look| &mut look.source_line),
    ("verbose", |look| &mut look.verbose),
];

fn assembly(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    // `.asm- OPTION`, `.asm -OPTION`.
    let mut changed = session.settings.look.assembly;
    for word in call.args.split_whitespace() {
        let (name, on) = match word.strip_prefix('-') {
            Some(name) => (name, false),
            None => (word, call.name == ".asm"),
        };
        let option = ASSEMBLY.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let (_, place) = option.ok_or_else(|| {
            let names: Vec<&str> = ASSEMBLY.iter().map(|(name, _)| *name).collect();
            Error::Usage(format!(".asm has no option '{name}'; its options are {}", names.join(", ")))
        })?;
        *place(&mut changed) = on;
    }
    session.settings.look.assembly = changed;
    let set: Vec<&str> =
        ASSEMBLY.iter().filter(|(_, place)| *place(&mut changed)).map(|(name, _)| *name).collect();
    let text = if set.is_empty() { "<none>".to_owned() } else { set.join(" ") };
    out.field("options", Value::Text(&text), &format!("Assembly options: {text}"));
    out.end_line();
    Ok(())
}

/// Bits of what is shown when another processor or dump is looked at, with KD's names.
pub mod prompt {
    /// The symbol.
    pub const SYMBOL: u32 = 1;
    /// The instruction.
    pub const INSTRUCTION: u32 = 2;
    /// The value of its operand.
    pub const OPERAND: u32 = 4;
    /// All, as at first.
    pub const ALL: u32 = 0x1f;
}

const ITEMS: &[(u32, &str, &str)] = &[
    (prompt::SYMBOL, "sym", "Symbol for current instruction"),
    (prompt::INSTRUCTION, "dis", "Disassembly of current instruction"),
    (prompt::OPERAND, "ea", "Effective address for current instruction"),
    (8, "reg", "Register state"),
    (16, "src", "Source info for current instruction"),
];

fn prompt_allow(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let mut allowed = session.settings.kept.prompt;
    for word in call.args.split_whitespace() {
        let wrong =
            || Error::Usage(format!("'{word}': .prompt_allow takes +ITEM or -ITEM of dis ea reg src sym"));
        let (sign, name) = word.split_at_checked(1).ok_or_else(wrong)?;
        let (bit, ..) = ITEMS.iter().find(|(_, item, _)| *item == name).ok_or_else(wrong)?;
        match sign {
            "+" => allowed |= bit,
            "-" => allowed &= !bit,
            _ => return Err(wrong()),
        }
    }
    session.settings.kept.prompt = allowed;
    let rows = |key: &str, wanted: bool| {
        out.list(key, |out| {
            let mut rows = ITEMS.iter().filter(|(bit, ..)| (allowed & bit != 0) == wanted).peekable();
            if rows.peek().is_none() {
                out.line("  None");
            }
            for (_, name, what) in rows {
                out.field("", Value::Text(name), &format!("{name:>6} - {what}"));
                out.end_line();
            }
        });
    };
    out.line("Allow the following information to be displayed at the prompt:");
    out.line("(Other settings can affect whether the information is actually displayed)");
    rows("allowed", true);
    out.line("Do not allow the following information to be displayed at the prompt:");
    rows("not_allowed", false);
    Ok(())
}

/// `/v` turns something on, `/V` off.
fn failures(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    const FAILURES: &[(&str, char, u32, &str)] = &[
        (".show_read_failures", 'v', 1, "Reads that fail"),
        (".show_sym_failures", 's', 2, "Symbols that are not found"),
        (".show_sym_failures", 't', 4, "Types that are not found"),
    ];
    let own = || FAILURES.iter().filter(|(command, ..)| *command == call.name);
    let shown = &mut session.settings.kept.failures;
    for word in call.args.split_whitespace() {
        let letter =
            word.strip_prefix(['/', '-']).and_then(|word| word.chars().next().filter(|_| word.len() == 1));
        let wrong = || Error::Usage(format!("{} has no option {word}", call.name));
        let letter = letter.ok_or_else(wrong)?;
        let (_, on, bit, _) = own().find(|(_, on, ..)| on.eq_ignore_ascii_case(&letter)).ok_or_else(wrong)?;
        *shown = if letter == *on { *shown | bit } else { *shown & !bit };
    }
    let shown = *shown;
    for (_, letter, bit, what) in own() {
        let on = shown & bit != 0;
        let text = format!("{what} are {}", if on { "told" } else { "told where a command needs them" });
        out.field(&letter.to_string(), Value::Bool(on), &text);
        out.end_line();
    }
    Ok(())
}
