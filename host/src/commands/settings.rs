//! Settings that KD keeps: `rm` (what `r` shows), `ss` (suffixes of symbols), `so`, `sq`.

use super::{Builtin, Call, Needs, switches::prompt};
use crate::session::Session;
use crate::target::rows::mask;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &["rm"],
        usage: "[MASK | ?]",
        summary: "Show or set which registers r shows",
        help: "? lists the groups that a mask may have.",
        needs: Needs::Nothing,
        run: register_mask,
    },
    Builtin {
        names: &["ss"],
        usage: "[a | w | n]",
        summary: "Show or set the suffix that symbols are looked for with",
        help: "With a or w a name that is not found is looked for again with A or W behind it; n turns that off.",
        needs: Needs::Nothing,
        run: suffix,
    },
    Builtin {
        names: &["so"],
        usage: "[NOEXTWARNING] [NOVERSIONCHECK]",
        summary: "Show or set options of the kernel debugger",
        help: "Kept for KD's sake: what they silence is never said here.",
        needs: Needs::Nothing,
        run: debugger_options,
    },
    Builtin {
        names: &["sq", "sqe", "sqd"],
        usage: "",
        summary: "Turn quiet mode on or off",
        help: "sqe turns it on, sqd off, sq changes it. Kept for KD's sake: what it silences is never said here.",
        needs: Needs::Nothing,
        run: quiet,
    },
];

/// The bit of `so NOVERSIONCHECK`.
pub const NO_VERSION_CHECK: u32 = 2;

/// What the settings here are.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// `rm`.
    pub registers: u32,
    /// `sq`.
    pub quiet: bool,
    /// `so`.
    pub options: u32,
    /// `.prompt_allow`.
    pub prompt: u32,
    /// `.show_read_failures`, `.show_sym_failures`.
    pub failures: u32,
    /// `.echotimestamps`.
    pub time_stamps: bool,
    /// `.prefer_dml`.
    pub dml: bool,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept {
            registers: mask::DEFAULT,
            quiet: false,
            options: 0,
            prompt: prompt::ALL,
            failures: 0,
            time_stamps: false,
            dml: false,
        }
    }
}

/// The groups of registers, as KD names them.
const GROUPS: &[(u32, &str)] = &[
    (0x1, "Integer state (32-bit) or"),
    (0x2, "Integer state (64-bit), 64-bit takes precedence"),
    (0x4, "Floating-point state"),
    (0x8, "Segment registers"),
    (0x10, "MMX registers"),
    (0x20, "Debug registers and, in kernel, CR4"),
    (0x40, "SSE XMM registers"),
    (0x80, "Control state, for example CR0"),
    (0x100, "Descriptor and task state"),
    (0x200, "AVX YMM registers in floating point"),
    (0x400, "AVX YMM registers in integer"),
    (0x800, "SSE XMM registers in integer"),
];

fn register_mask(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let rows = |mask: u32| {
        for (bit, text) in GROUPS.iter().filter(|(bit, _)| mask & bit != 0) {
            out.line(&format!("{bit:8x} - {text}"));
        }
    };
    if call.args == "?" {
        rows(mask::ALL);
        return Ok(());
    }
    if !call.args.is_empty() {
        let value = session.scope(None)?.evaluate(call.args)?;
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        if value & !mask::ALL != 0 {
            out.line(&format!("Ignored invalid bits {:X}", value & !mask::ALL));
        }
        session.settings.kept.registers = value & mask::ALL;
        return Ok(());
    }
    let mask = session.settings.kept.registers;
    out.field("mask", Value::Hex(mask.into()), &format!("Register output mask is {mask:x}:"));
    out.end_line();
    rows(mask);
    Ok(())
}

fn suffix(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    session.variables.suffix = match call.args {
        "" => session.variables.suffix,
        "a" | "A" => Some('A'),
        "w" | "W" => Some('W'),
        "n" | "N" => None,
        other => return Err(Error::Usage(format!("ss takes a, w or n, not '{other}'"))),
    };
    let suffix = session.variables.suffix.unwrap_or('n');
    out.field("suffix", Value::Text(&suffix.to_string()), &format!("Symbol suffix is '{suffix}'"));
    out.end_line();
    Ok(())
}

fn debugger_options(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    const OPTIONS: &[(u32, &str)] = &[(1, "NOEXTWARNING"), (NO_VERSION_CHECK, "NOVERSIONCHECK")];
    let options = &mut session.settings.kept.options;
    for word in call.args.split_whitespace() {
        match OPTIONS.iter().find(|(_, name)| name.eq_ignore_ascii_case(word)) {
            Some((bit, _)) => *options ^= bit,
            None => {
                return Err(Error::Usage(format!("so takes NOEXTWARNING and NOVERSIONCHECK, not '{word}'")));
            }
        }
    }
    let names: Vec<&str> =
        OPTIONS.iter().filter(|(bit, _)| *options & bit != 0).map(|(_, name)| *name).collect();
    let names = if names.is_empty() { "<none>".to_owned() } else { names.join(" ") };
    out.field("options", Value::Text(&names), &format!("Kernel debugger options: {names}"));
    out.end_line();
    Ok(())
}

fn quiet(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let quiet = &mut session.settings.kept.quiet;
    *quiet = match call.name {
        "sqe" => true,
        "sqd" => false,
        _ => !*quiet,
    };
    let quiet = *quiet;
    out.field("quiet", Value::Bool(quiet), &format!("Quiet mode is {}", if quiet { "ON" } else { "OFF" }));
    out.end_line();
    Ok(())
}
