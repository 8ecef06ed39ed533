//! Several targets and several processors: `||`, `~`, `.opendump`, `g`, `.detach`.

use super::{Builtin, Call, Needs};
use crate::session::Session;
use crate::target::version;
use kd_sdk::args::Args;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Value};
use std::path::PathBuf;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &["||"],
        usage: "[* | . | # | N] | Ns | s",
        summary: "List the open dumps, or make one current",
        help: "|| or ||* lists all, ||. the current one, ||# the one with the last event, ||N number N; ||Ns makes\n\
               number N current and ||s shows the current one. Numbers are not used again after .detach.",
        needs: Needs::Nothing,
        run: systems,
    },
    Builtin {
        names: &["|"],
        usage: "",
        summary: "List processes (user-mode targets only)",
        help: "A kernel dump has no list of debugged processes; !process 0 0 lists those of the system.",
        needs: Needs::Target,
        run: |_, _, _| {
            Err(Error::Unsupported("| lists user-mode debuggees; || lists the open dumps".to_owned()))
        },
    },
    Builtin {
        names: &["~"],
        usage: "[* | . | N] | Ns",
        summary: "List the processors, or make one current",
        help: "~Ns makes processor N current: r, d* and extensions then look at it. NCOMMAND (3r) looks at processor N\n\
               for one command.",
        needs: Needs::Target,
        run: processors,
    },
    Builtin {
        names: &[".opendump"],
        usage: "FILE | /c \"MEMBER\" [CABFILE]",
        summary: "Open another dump; g then loads it",
        help: "FILE may be a dump or a CAB. Of a CAB one dump is read: the first .kdmp, else the first .hdmp, .mdmp,\n\
               .dmp. /c names the member; without CABFILE the cabinet opened last is meant.",
        needs: Needs::Nothing,
        run: open_dump,
    },
    Builtin {
        names: &["g"],
        usage: "",
        summary: "Load what .opendump opened",
        help: "A dump does not run; g only finishes the loading of dumps that were opened with .opendump.",
        needs: Needs::Nothing,
        run: go,
    },
    Builtin {
        names: &[".detach"],
        usage: "",
        summary: "Close the current dump",
        help: "",
        needs: Needs::Target,
        run: detach,
    },
];

fn systems(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let args = call.args.trim();
    let current = session.current_target().map(|open| open.number);
    let number = |text: &str| -> Result<u32> {
        text.parse()
            .map_err(|_| Error::Usage(format!("'{text}' is not the number of a target; || lists them")))
    };
    let index_of = |session: &Session, wanted: u32| {
        session
            .targets()
            .iter()
            .position(|open| open.number == wanted)
            .ok_or_else(|| Error::NotFound(format!("no target {wanted}; || lists them")))
    };
    if let Some(digits) = args.strip_suffix(['s', 'S']).filter(|digits| !digits.is_empty()) {
        let index = index_of(session, number(digits)?)?;
        session.make_current(index);
        list(session, out, Some(number(digits)?));
        super::registers::show_instruction(session, out, None)?;
        return super::state::run_prompt_command(session, out);
    }
    match args {
        "" | "*" => list(session, out, None),
        "." | "#" | "s" | "S" => list(session, out, current),
        other => {
            let wanted = number(other)?;
            index_of(session, wanted)?;
            list(session, out, Some(wanted));
        }
    }
    Ok(())
}

fn list(session: &Session, out: &Out<'_>, only: Option<u32>) {
    let current = session.current_target().map(|open| open.number);
    if session.targets().is_empty() {
        out.line("No dump is open");
    }
    out.list("targets", |out| {
        for open in session.targets().iter().filter(|open| only.is_none_or(|only| open.number == only)) {
            out.record("", |out| {
                let is_current = current == Some(open.number);
                out.field("current", Value::Bool(is_current), if is_current { "." } else { " " });
                out.text("  ");
                out.field("number", Value::UInt(open.number.into()), &open.number.to_string());
                out.text(" ");
                out.name("kind", &version::system_kind(open.target.kind(), open.target.header().is_64_bit));
                out.text(": ");
                out.name("file", &open.target.dump().path().display().to_string());
                if let Some(member) = open.target.dump().archive_member() {
                    out.field("member", Value::Text(member), &format!(" ({member})"));
                }
                out.end_line();
            });
        }
    });
}

fn processors(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let args = call.args.trim();
    if let Some(number) = args.strip_suffix(['s', 'S']) {
        let number: u32 =
            number.trim().parse().map_err(|_| Error::Usage(format!("'{args}': write ~Ns, as in ~3s")))?;
        // Checks that the processor exists.
        session.scope(Some(number))?;
        session.set_processor(number);
        super::registers::show_instruction(session, out, None)?;
        return super::state::run_prompt_command(session, out);
    }
    let scope = session.scope(None)?;
    let target = scope.target()?;
    let only: Option<u32> = match args {
        "" | "*" => None,
        "." | "#" => Some(scope.processor),
        number => Some(number.parse().map_err(|_| {
            Error::Usage(format!("'~{number}': in a kernel dump ~ lists processors, ~Ns makes one current"))
        })?),
    };
    if let Some(number) = only {
        session.scope(Some(number))?;
    }
    let size = target.pointer_size();
    out.list("processors", |out| {
        for processor in target.processors() {
            if only.is_some_and(|only| only != processor.number) {
                continue;
            }
            out.record("", |out| {
                let current = processor.number == scope.processor;
                out.field("current", Value::Bool(current), if current { "." } else { " " });
                out.field(
                    "number",
                    Value::UInt(processor.number.into()),
                    &format!(" {:2}", processor.number),
                );
                let show = |key: &str, title: &str, va: Option<kd_sdk::address::Va>| match va {
                    Some(va) => {
                        out.text(&format!("  {title} "));
                        out.field(key, Value::Hex(va.0), &va.show(size).to_string());
                    }
                    None => out.data(key, Value::Null),
                };
                show("prcb", "Prcb", processor.prcb);
                show("thread", "Thread", processor.current_thread);
                show("process", "Process", processor.current_process);
                match target.registers(processor.number) {
                    Ok(found) => show("ip", "ip", Some(found.registers.ip())),
                    Err(error) => {
                        out.field("registers", Value::Null, &format!("  {}", crate::chained(&error)));
                    }
                }
                out.end_line();
            });
        }
    });
    Ok(())
}

fn open_dump(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let mut args = Args::new(call.args);
    let mut member = None;
    // A path may begin with `/c` too.
    let option = call.args.strip_prefix("/c");
    if let Some(text) = option.filter(|text| text.is_empty() || text.starts_with([' ', '\t', '"'])) {
        args = Args::new(text);
        member = Some(args.word().ok_or_else(|| {
            Error::Usage(".opendump /c \"MEMBER\" [CABFILE]: the member is missing".to_owned())
        })?);
    }
    let rest = args.rest().trim_matches('"');
    let path = match (rest, member) {
        ("", None) => return Err(Error::Usage(".opendump FILE: the file is missing".to_owned())),
        ("", Some(_)) => session
            .last_archive
            .clone()
            .ok_or_else(|| Error::Usage(".opendump /c: no cabinet was opened before; name one".to_owned()))?,
        (file, _) => PathBuf::from(file),
    };
    let dump = session.open_dump(&path, member).map_err(|error| Error::Other(error.to_string()))?;
    out.text("Opened '");
    out.name("file", &path.display().to_string());
    out.text("'");
    if let Some(member) = dump.archive_member() {
        out.field("member", Value::Text(member), &format!(" ({member})"));
    }
    out.end_line();
    out.line("Type g to load it.");
    session.pending.push(dump);
    Ok(())
}

fn go(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    if !call.args.is_empty() {
        return Err(Error::Unsupported("g takes no breakpoints on a dump: nothing runs".to_owned()));
    }
    let pending = std::mem::take(&mut session.pending);
    if pending.is_empty() {
        return Err(Error::Unsupported(
            "a dump does not run, and no dump opened with .opendump is waiting to be loaded".to_owned(),
        ));
    }
    for dump in pending {
        session.attach_into(dump, out);
        session.analyze_at_load(out);
    }
    super::state::run_prompt_command(session, out)
}

fn detach(session: &mut Session, out: &Out<'_>, _: &Call<'_>) -> Result<()> {
    if let Some(number) = session.detach() {
        out.text("Closed target ");
        out.field("closed", Value::UInt(number.into()), &number.to_string());
        out.end_line();
    }
    Ok(())
}
