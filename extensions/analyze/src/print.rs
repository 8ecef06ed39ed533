//! What `!analyze` says: the short form, `-show`, and the parts the verbose form shares. KD's labels for people,
//! one record for programs.

use crate::catalogue;
use crate::findings::{Findings, Who, image};
use crate::model::Crash;
use crate::windows::{Class, class};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;
use kd_sdk::target::BugCheck;

/// An address with its symbol, or module and offset, or bare.
pub fn place(session: &Session<'_>, crash: &Crash, va: Va) -> String {
    if let Some(name) = session.symbols().name(va) {
        return name;
    }
    match crash.module_at(va).and_then(|index| crash.modules.get(index)) {
        Some(module) => format!("{}+{:#x}", module.name, va.0.wrapping_sub(module.base.0)),
        None => va.show(crash.pointer_size).to_string(),
    }
}

/// The banner, 79 characters wide.
pub fn banner(out: &Out<'_>) {
    let stars = "*".repeat(79);
    let empty = format!("*{:77}*", "");
    for line in [&stars, &empty] {
        out.line(line);
    }
    out.styled(Style::Heading, &format!("*{:24}{:53}*", "", "Bugcheck Analysis"));
    out.end_line();
    for line in [&empty, &stars] {
        out.line(line);
    }
    out.end_line();
}

/// The name of a code, or what it is instead.
fn title(bug_check: BugCheck) -> String {
    let code = bug_check.code();
    match catalogue::name(bug_check.raw_code, code) {
        Some(name) => name.to_owned(),
        None if code == 0 => "No bug check".to_owned(),
        // Bit 29 marks the codes of others than Microsoft.
        None if bug_check.raw_code & 0x2000_0000 != 0 => "Vendor-defined bug check".to_owned(),
        None => "Unknown bug check".to_owned(),
    }
}

/// `bug_check` for programs.
fn bug_check_data(out: &Out<'_>, bug_check: BugCheck) {
    out.data("code", Value::Hex(bug_check.code().into()));
    out.data("raw_code", Value::Hex(bug_check.raw_code.into()));
    match catalogue::name(bug_check.raw_code, bug_check.code()) {
        Some(name) => out.data("name", Value::Text(name)),
        None => out.data("name", Value::Null),
    }
    out.list("parameters", |out| {
        for value in bug_check.parameters {
            out.data("", Value::Hex(value));
        }
    });
}

/// Name, description and arguments of a code.
pub fn heading(out: &Out<'_>, bug_check: BugCheck, given: usize, pointer_size: u32) {
    let code = bug_check.code();
    out.record("bug_check", |out| {
        out.styled(Style::Emphasis, &title(bug_check));
        out.line(&format!(" ({:x})", bug_check.raw_code));
        let description = catalogue::description(code);
        let hint = catalogue::find(code).map_or("", |entry| entry.hint);
        for line in &description {
            out.line(line);
        }
        if description.is_empty() && !hint.is_empty() {
            out.line(&format!("Usual reason: {hint}."));
        }
        match catalogue::find(code) {
            None if bug_check.raw_code & 0x2000_0000 != 0 => {
                out.line("The code is not Microsoft's: a driver's maker defined it, and its arguments.");
            }
            None if code != 0 => out.line("The code is not in the published list."),
            Some(entry) if entry.live => out.line("The code marks a live dump: the machine went on."),
            _ => {}
        }
        if bug_check.raw_code != code {
            out.line(&format!("A small dump marks the code {code:x} this way."));
        }
        bug_check_data(out, bug_check);
    });
    out.line("Arguments:");
    let given_values = bug_check.parameters.get(..given).unwrap_or(&bug_check.parameters);
    let texts = catalogue::arguments(code, given_values);
    out.list("arguments", |out| {
        for (index, (value, text)) in bug_check.parameters.into_iter().zip(&texts).enumerate() {
            out.record("", |out| {
                out.text(&format!("Arg{}: ", index + 1));
                if index < given {
                    let shown = Va(value).show(pointer_size).to_string().replace('`', "");
                    out.field("value", Value::Hex(value), &shown);
                    out.text(if text.is_empty() { "" } else { ", " });
                } else {
                    out.data("value", Value::Null);
                }
                match text.as_str() {
                    "" => out.data("meaning", Value::Null),
                    text => out.name("meaning", text),
                }
                out.end_line();
            });
        }
    });
}

/// `-show`: a code explained, crash or not.
pub fn explain(session: &Session<'_>, bug_check: BugCheck, given: usize) {
    let out = session.out();
    // Without a target there is no pointer size; parameters of a 64-bit machine need the room.
    let wide = bug_check.parameters.iter().any(|&value| value > u64::from(u32::MAX));
    let pointer_size = if wide { 8 } else { session.target().pointer_size() };
    heading(&out, bug_check, given, pointer_size);
    out.list("choices", |out| {
        for (index, (argument, value, meaning)) in catalogue::choices(bug_check.code(), given).enumerate() {
            if index == 0 {
                out.end_line();
                out.line("Values that choose the meaning:");
            }
            out.record("", |out| {
                out.field("argument", Value::UInt(argument as u64), &format!("  Arg{argument} = "));
                out.field("value", Value::Hex(value), &format!("{value:x}: "));
                out.name("meaning", meaning);
                out.end_line();
            });
        }
    });
}

/// The short form.
pub fn short(session: &Session<'_>, crash: &Crash, findings: &Findings) {
    let out = session.out();
    banner(&out);
    out.line("Use !analyze -v to get detailed debugging information.");
    out.end_line();
    out.record("bug_check", |out| {
        let [a, b, c, d] = crash.bug_check.parameters;
        out.line(&format!("BugCheck {:X}, {{{a:x}, {b:x}, {c:x}, {d:x}}}", crash.bug_check.raw_code));
        bug_check_data(out, crash.bug_check);
    });
    out.end_line();
    if let Some(culprit) = &findings.culprit {
        out.text("Probably caused by : ");
        out.styled(Style::Emphasis, image(crash, culprit.who));
        if let Some(at) = culprit.at {
            out.text(&format!(" ( {} )", place(session, crash, at)));
        }
        out.line(&format!("  [confidence: {}]", culprit.confidence.word()));
    } else {
        out.text("Probably caused by : ");
        out.line(&findings.verdict);
    }
    culprit_data(&out, crash, findings, false);
    out.data("bucket", Value::Text(&findings.bucket));
    out.end_line();
    followup(&out, crash, findings);
}

/// `Followup:` and the closing dashes.
pub fn followup(out: &Out<'_>, crash: &Crash, findings: &Findings) {
    let owner = match &findings.culprit {
        Some(culprit) => match culprit.who {
            Who::Loaded(index) => match crash.modules.get(index).map(|module| class(&module.image)) {
                Some(Class::ThirdParty) | None => "MachineOwner (not a module of Windows)",
                Some(_) => "MachineOwner (a module of Windows)",
            },
            Who::Unloaded(_) => "MachineOwner (an unloaded driver)",
        },
        None => "MachineOwner",
    };
    out.line(&format!("Followup:     {owner}"));
    out.line("---------");
    out.end_line();
}

/// The culprit for programs; with `say`, also for people.
pub fn culprit_data(out: &Out<'_>, crash: &Crash, findings: &Findings, say: bool) {
    out.record("culprit", |out| {
        match &findings.culprit {
            Some(culprit) => {
                let module = match culprit.who {
                    Who::Loaded(index) => crash.modules.get(index).map(|module| module.name.as_str()),
                    Who::Unloaded(_) => None,
                };
                out.data("module", module.map_or(Value::Null, Value::Text));
                out.data("image", Value::Text(image(crash, culprit.who)));
                out.data("unloaded", Value::Bool(matches!(culprit.who, Who::Unloaded(_))));
                out.data("address", culprit.at.map_or(Value::Null, |at| Value::Hex(at.0)));
                out.data("confidence", Value::Text(culprit.confidence.word()));
            }
            None => {
                for key in ["module", "image", "address", "confidence"] {
                    out.data(key, Value::Null);
                }
            }
        }
        out.data("verdict", Value::Text(&findings.verdict));
        if say {
            out.line("EVIDENCE:");
        }
        out.list("evidence", |out| {
            for text in &findings.evidence {
                out.field("", Value::Text(text), &if say { format!("  - {text}") } else { String::new() });
                if say {
                    out.end_line();
                }
            }
        });
        if say && findings.evidence.is_empty() {
            out.line("  none");
        }
        if say && !findings.others.is_empty() {
            out.line("Also on the stack, not part of Windows:");
        }
        out.list("others", |out| {
            for &(index, count) in findings.others.iter().take(12) {
                let Some(module) = crash.modules.get(index) else { continue };
                let shown = if say {
                    format!("  - {} ({count} place{})", module.image, if count == 1 { "" } else { "s" })
                } else {
                    String::new()
                };
                out.field("", Value::Text(&module.image), &shown);
                if say {
                    out.end_line();
                }
            }
        });
        out.text(if say { "\n" } else { "" });
        if say {
            if let Some(culprit) = &findings.culprit {
                out.line(&format!("CONFIDENCE:  {}", culprit.confidence.word()));
            }
            out.text("VERDICT:  ");
            out.styled(Style::Emphasis, &findings.verdict);
            out.end_line();
            out.end_line();
        }
    });
}

/// `KEY:  value` and a blank line.
pub fn key_value(out: &Out<'_>, key: &str, value: &str) {
    out.line(&format!("{key}:  {value}"));
    out.end_line();
}
