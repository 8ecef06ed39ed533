//! What a user does with the terminal: `.cls`, `.beep`, `.wtitle`, `.outmask`, `.echotime`.

use super::{Builtin, Call, Needs};
use crate::session::Session;
use crate::ui::{Control, mask};
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::time;
use kd_sdk::output::{Out, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &[".cls"],
        usage: "",
        summary: "Clear the screen",
        help: "Nothing happens where the output is no terminal.",
        needs: Needs::Nothing,
        run: |session, _, _| {
            session.ui().control(Control::Clear);
            Ok(())
        },
    },
    Builtin {
        names: &[".beep"],
        usage: "",
        summary: "Make the terminal beep",
        help: "Nothing happens where the output is no terminal.",
        needs: Needs::Nothing,
        run: |session, _, _| {
            session.ui().control(Control::Beep);
            Ok(())
        },
    },
    Builtin {
        names: &[".wtitle"],
        usage: "TITLE",
        summary: "Set the title of the terminal's window",
        help: "Nothing happens where the output is no terminal.",
        needs: Needs::Nothing,
        run: |session, _, call| {
            if call.args.is_empty() {
                return Err(Error::Usage(".wtitle needs a title".to_owned()));
            }
            session.ui().control(Control::Title(call.args));
            Ok(())
        },
    },
    Builtin {
        names: &[".outmask", ".outmask-"],
        usage: "[/l] [FLAGS] | /a | /d",
        summary: "Show or set which sorts of output are shown",
        help: "Flags are added, by .outmask- taken away: 1 what commands show, 2 errors, 4 warnings, 8 verbose messages, 10\n\
               the prompt. /a turns all on, /d sets the first state, 3f7. The others of KD's (20 registers at the prompt,\n\
               40 warnings of extensions, 80 and 100 the debuggee, 200 symbols) are kept. /l leaves the log as it is, which\n\
               otherwise changes too. JSON always holds what commands show.",
        needs: Needs::Nothing,
        run: out_mask,
    },
    Builtin {
        names: &[".echotime"],
        usage: "",
        summary: "Show the time it is now",
        help: "",
        needs: Needs::Nothing,
        run: show_time,
    },
];

fn out_mask(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let keep_log = call.args.strip_prefix("/l").filter(|rest| !rest.starts_with(char::is_alphanumeric));
    let args = keep_log.unwrap_or(call.args).trim();
    let old = session.ui().mask();
    let new = match args {
        "" => old,
        "/a" => u32::MAX,
        "/d" => mask::DEFAULT,
        flags => {
            let flags = session.scope(None)?.evaluate(flags)?;
            let flags = u32::try_from(flags)
                .map_err(|_| Error::Usage(format!("{flags:#x} has more than 32 bits")))?;
            if call.name.ends_with('-') { old & !flags } else { old | flags }
        }
    };
    session.ui().set_mask(new, keep_log.is_none());
    out.field("mask", Value::Hex(new.into()), &format!("Output mask is {new:x}"));
    out.end_line();
    Ok(())
}

fn show_time(session: &mut Session, out: &Out<'_>, _: &Call<'_>) -> Result<()> {
    let now = session.scope(None)?.register("$dbgtime").unwrap_or(0);
    out.text("Debugger (not debuggee) time: ");
    out.field("time", Value::Time(now), &time::session_time_in(now, 0));
    out.end_line();
    Ok(())
}
