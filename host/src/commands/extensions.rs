//! Extensions: `.load`, `.unload`, `.unloadall`, `.loadby`, `.chain`, `.extpath`, `.setdll`, `.extmatch`, `!help`.

use super::{Builtin, Call, Needs};
use crate::extension::loader::{CommandRow, Loaded};
use crate::pattern;
use crate::session::Session;
use kd_sdk::args::Args;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};
use std::path::Path;
use std::sync::Arc;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &[".load"],
        usage: "NAME | FILE",
        summary: "Load an extension, in front of the others",
        help: "NAME is looked for along .extpath. A file that is loaded already is loaded anew.",
        needs: Needs::Nothing,
        run: load,
    },
    Builtin {
        names: &[".loadby"],
        usage: "NAME MODULE",
        summary: "Load an extension from the folder of a module of the target",
        help: "The module's path must exist on this machine.",
        needs: Needs::Target,
        run: load_by,
    },
    Builtin {
        names: &[".unload"],
        usage: "[NAME | FILE]",
        summary: "Unload an extension; without a name the first of the chain",
        help: "",
        needs: Needs::Nothing,
        run: unload,
    },
    Builtin {
        names: &[".unloadall"],
        usage: "",
        summary: "Unload every extension",
        help: "",
        needs: Needs::Nothing,
        run: unload_all,
    },
    Builtin {
        names: &[".chain"],
        usage: "",
        summary: "List the extensions in the order they are searched",
        help: "",
        needs: Needs::Nothing,
        run: |session, out, _| {
            session.load_own_extensions();
            show_chain(session, out);
            Ok(())
        },
    },
    Builtin {
        names: &[".extpath"],
        usage: "[+] [FOLDER; …]",
        summary: "Show, set or extend the extension search path",
        help: "kd's own folders always follow what is set here.",
        needs: Needs::Nothing,
        run: extension_path,
    },
    Builtin {
        names: &[".setdll"],
        usage: "NAME | FILE",
        summary: "Make an extension the first of the chain",
        help: "",
        needs: Needs::Nothing,
        run: set_default,
    },
    Builtin {
        names: &[".extmatch"],
        usage: "[/e EXTENSIONS] [/n] PATTERN",
        summary: "List the extension commands that match a pattern",
        help: "/e limits the extensions, /n shows names without the extension.",
        needs: Needs::Nothing,
        run: matching,
    },
];

fn wanted<'a>(call: &Call<'a>) -> Result<&'a str> {
    let name = call.args.trim_matches('"');
    if name.is_empty() {
        Err(Error::Usage(format!("{} NAME: the name is missing", call.name)))
    } else {
        Ok(name)
    }
}

fn load(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let name = wanted(call)?;
    session.load_own_extensions();
    let loaded = session.chain.load(name).map_err(|error| Error::Other(error.to_string()))?;
    say_loaded(out, &loaded);
    Ok(())
}

fn say_loaded(out: &Out<'_>, loaded: &Loaded) {
    out.verbose(&format!("{} commands from {}", loaded.commands.len(), loaded.path.display()));
    out.data("loaded", Value::Text(&loaded.name));
    out.data("file", Value::Text(&loaded.path.display().to_string()));
}

fn load_by(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let mut args = Args::new(call.args);
    let (Some(name), Some(module)) = (args.word(), args.word()) else {
        return Err(Error::Usage(".loadby NAME MODULE: two names are needed".to_owned()));
    };
    args.finish()?;
    let scope = session.scope(None)?;
    let target = scope.target()?;
    let module = target
        .modules()
        .iter()
        .find(|known| known.name.eq_ignore_ascii_case(module))
        .ok_or_else(|| Error::NotFound(format!("no module '{module}' in the target; lm lists them")))?;
    let folder = Path::new(&module.path).parent().filter(|folder| folder.is_dir()).ok_or_else(|| {
        Error::NotFound(format!(
            "{} is at {}, a folder that this machine does not have",
            module.name, module.path
        ))
    })?;
    let file = folder.join(name).display().to_string();
    let loaded = session.chain.load(&file).map_err(|error| Error::Other(error.to_string()))?;
    say_loaded(out, &loaded);
    Ok(())
}

fn unload(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    session.load_own_extensions();
    let name = Some(call.args.trim_matches('"')).filter(|name| !name.is_empty());
    match session.chain.unload(name) {
        Some(extension) => {
            out.text("Unloading ");
            out.name("unloaded", &extension.name);
            let kept =
                if extension.is_stuck() { " (an abandoned command keeps its image in memory)" } else { "" };
            out.line(&format!(" extension{kept}"));
            Ok(())
        }
        None => Err(Error::NotFound(match name {
            Some(name) => format!("no extension '{name}' is loaded; .chain lists what is"),
            None => "no extension is loaded".to_owned(),
        })),
    }
}

fn unload_all(session: &mut Session, out: &Out<'_>, _: &Call<'_>) -> Result<()> {
    let count = session.chain.unload_all();
    out.field("unloaded", Value::UInt(count as u64), &format!("{count} extensions unloaded"));
    out.end_line();
    Ok(())
}

/// The search path and the chain.
pub fn show_chain(session: &Session, out: &Out<'_>) {
    show_path(session, out);
    out.styled(Style::Heading, "Extension DLL chain:");
    out.end_line();
    if session.chain.loaded().is_empty() {
        out.line("    (none loaded)");
    }
    out.list("chain", |out| {
        for extension in session.chain.loaded() {
            out.record("", |out| {
                out.text("    ");
                out.styled_field("name", Value::Text(&extension.name), Style::Symbol, &extension.name);
                out.field(
                    "version",
                    Value::Text(&extension.version),
                    &format!(": image {}", extension.version),
                );
                let abi = format!("{}.{}", extension.abi.0, extension.abi.1);
                out.field("abi", Value::Text(&abi), &format!(", API {abi}"));
                out.field(
                    "built_by",
                    Value::Text(&extension.built_by),
                    &format!(", built by {}", extension.built_by),
                );
                out.field(
                    "layout_proved",
                    Value::Bool(extension.proved),
                    if extension.proved { ", layout proved" } else { "" },
                );
                let replaced = extension.replaced();
                out.field(
                    "replaced",
                    Value::Bool(replaced),
                    if replaced {
                        ", the file has changed since: .unload and .load get the new one"
                    } else {
                        ""
                    },
                );
                let stuck = extension.is_stuck();
                out.field(
                    "stuck",
                    Value::Bool(stuck),
                    if stuck { ", stuck: a command of it did not stop and may still run" } else { "" },
                );
                let in_place = extension.in_place;
                out.field(
                    "in_place",
                    Value::Bool(in_place),
                    if in_place { ", loaded in place: the file must not be overwritten" } else { "" },
                );
                out.end_line();
                let path = extension.path.display().to_string();
                out.field("path", Value::Text(&path), &format!("        [path: {path}]"));
                out.end_line();
                out.data("summary", Value::Text(&extension.summary));
                out.list("commands", |out| {
                    for row in &extension.commands {
                        out.data("", Value::Text(&row.name));
                    }
                });
            });
        }
    });
    show_kept(session, out);
}

/// Extensions whose image stays in memory although they are unloaded.
fn show_kept(session: &Session, out: &Out<'_>) {
    let kept = session.chain.kept();
    out.list("kept", |out| {
        for extension in kept {
            let text =
                format!("    {}: unloaded, kept in memory: a command of it did not stop", extension.name);
            out.field("", Value::Text(&extension.name), &text);
            out.end_line();
        }
    });
}

fn show_path(session: &Session, out: &Out<'_>) {
    out.styled(Style::Heading, "Extension DLL search Path:");
    out.end_line();
    out.text("    ");
    out.list("search_path", |out| {
        for (index, folder) in session.chain.path.folders().enumerate() {
            out.text(if index > 0 { ";" } else { "" });
            out.name("", &folder.display().to_string());
        }
    });
    out.end_line();
}

fn extension_path(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    match call.args.strip_prefix('+') {
        Some(more) => session.chain.path.append(more),
        None if call.args.is_empty() => {}
        None => session.chain.path.set(call.args),
    }
    show_path(session, out);
    Ok(())
}

fn set_default(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let name = wanted(call)?;
    session.load_own_extensions();
    let first = session.chain.set_default(name).map_err(|error| Error::NotFound(error.to_string()))?;
    out.data("first", Value::Text(&first.name));
    Ok(())
}

fn matching(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    session.load_own_extensions();
    let mut args = Args::new(call.args);
    let (mut extensions, mut bare) = ("*", false);
    while let Some(option) = args.option() {
        match option {
            "e" => extensions = args.word().unwrap_or("*"),
            "n" => bare = true,
            "D" => {}
            other => return Err(Error::Usage(format!(".extmatch has no option /{other}"))),
        }
    }
    let wanted = args.word().unwrap_or("*");
    args.finish()?;
    out.list("commands", |out| {
        for extension in session.chain.loaded() {
            if !pattern::matches(extensions, &extension.name) {
                continue;
            }
            for row in extension.commands.iter().filter(|row| pattern::matches(wanted, &row.name)) {
                let full = format!("!{}.{}", extension.name, row.name);
                let shown = if bare { format!("!{}", row.name) } else { full.clone() };
                out.field("", Value::Text(&full), &shown);
                out.end_line();
            }
        }
    });
    Ok(())
}

/// `![EXT.]help [COMMAND]`.
pub fn extension_help(session: &mut Session, name: Option<&str>, args: &str, out: &Out<'_>) -> Result<()> {
    let chain: Vec<Arc<Loaded>> = match name {
        Some(name) => {
            if session.chain.matching(name).next().is_none() {
                session.chain.load(name).map_err(|error| Error::NotFound(error.to_string()))?;
            }
            session.chain.matching(name).cloned().collect()
        }
        None => session.chain.loaded().to_vec(),
    };
    let command = args.trim_start_matches(['-', '/']).trim_start_matches('v').trim();
    let command = if args.starts_with(['-', '/']) { command } else { args.trim() };
    if command.is_empty() {
        out.list("extensions", |out| chain.iter().for_each(|extension| show_extension(out, extension)));
        return Ok(());
    }
    let command = command.trim_start_matches('!');
    match chain.iter().find_map(|extension| extension.command(command).map(|row| (extension, row))) {
        Some((extension, row)) => {
            out.record("help", |out| show_command(out, extension, row));
            Ok(())
        }
        None => Err(Error::NotFound(format!("no extension command '{command}'; !help lists them"))),
    }
}

fn show_extension(out: &Out<'_>, extension: &Loaded) {
    out.record("", |out| {
        out.styled_field("name", Value::Text(&extension.name), Style::Heading, &extension.name);
        out.field("summary", Value::Text(&extension.summary), &format!(": {}", extension.summary));
        out.end_line();
        out.list("commands", |out| {
            for row in &extension.commands {
                out.record("", |out| {
                    let start = format!("!{} {}", row.name, row.usage);
                    out.data("name", Value::Text(&row.name));
                    out.data("usage", Value::Text(&row.usage));
                    out.text(&format!("  {:<38} ", start.trim_end()));
                    out.name("summary", &row.summary);
                    out.end_line();
                });
            }
        });
    });
}

fn show_command(out: &Out<'_>, extension: &Loaded, row: &CommandRow) {
    out.data("extension", Value::Text(&extension.name));
    out.data("name", Value::Text(&row.name));
    out.data("usage", Value::Text(&row.usage));
    out.styled(Style::Heading, format!("!{}.{} {}", extension.name, row.name, row.usage).trim_end());
    out.end_line();
    out.name("summary", &row.summary);
    out.end_line();
    if !row.help.is_empty() {
        out.end_line();
        out.name("text", row.help.trim_end());
        out.end_line();
    }
}
