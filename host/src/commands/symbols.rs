//! `x`, `ln`: names by pattern, names around an address.

use super::{Builtin, Call, Needs};
use crate::scope::{OpenTarget, Scope};
use crate::session::Session;
use crate::symbols::{ModuleState, SymbolError, SymbolKind, TypeId};
use crate::typed;
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};
use std::ops::ControlFlow;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &["x"],
        usage: "[/0 | /1 | /2] [/a | /n | /z] [/f] [/d] [/v] [/t] [/q] [/s SIZE] MODULE!PATTERN",
        summary: "List the symbols that match a pattern",
        help: "/0 addresses only, /1 names only, /2 both and nothing more; sorted by name (/n), by address (/a) or by\n\
               size (/z), backwards in capitals; /f functions only, /d data only, /v what kind of symbol, /t its type,\n\
               /s SIZE only data of this size, /q names in quotes. Both parts may hold wildcards: * any text, ? one\n\
               character, [a-f] one of these, # none or more of the one before, + one or more.",
        needs: Needs::Target,
        run: examine,
    },
    Builtin {
        names: &["ln"],
        usage: "[ADDRESS]",
        summary: "Name what stands at an address and next to it",
        help: "Without ADDRESS: at the instruction pointer. With .lines the source line comes first.",
        needs: Needs::Target,
        run: list_nearest,
    },
];

/// How the lines are sorted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Name,
    Address,
    Size,
}

struct Options<'a> {
    addresses: bool,
    names: bool,
    more: bool,
    order: Order,
    backwards: bool,
    functions_only: bool,
    data_only: bool,
    verbose: bool,
    types: bool,
    quoted: bool,
    size: Option<&'a str>,
    pattern: &'a str,
}

impl<'a> Options<'a> {
    fn parse(text: &'a str) -> Result<Options<'a>> {
        let mut options = Options {
            addresses: true,
            names: true,
            more: true,
            order: Order::Name,
            backwards: false,
            functions_only: false,
            data_only: false,
            verbose: false,
            types: false,
            quoted: false,
            size: None,
            pattern: "",
        };
        let mut rest = text.trim();
        while let Some(after) = rest.strip_prefix('/') {
            let end = after.find(char::is_whitespace).unwrap_or(after.len());
            let (letters, tail) = after.split_at_checked(end).unwrap_or((after, ""));
            rest = tail.trim_start();
            for letter in letters.chars() {
                match letter {
                    '0' => (options.names, options.more) = (false, false),
                    '1' => (options.addresses, options.more) = (false, false),
                    '2' => options.more = false,
                    'a' | 'A' => (options.order, options.backwards) = (Order::Address, letter == 'A'),
                    'n' | 'N' => (options.order, options.backwards) = (Order::Name, letter == 'N'),
                    'z' | 'Z' => (options.order, options.backwards) = (Order::Size, letter == 'Z'),
                    'f' => options.functions_only = true,
                    'd' => options.data_only = true,
                    'v' => options.verbose = true,
                    't' => options.types = true,
                    'q' => options.quoted = true,
                    // Links, and a blank before `(`: there is nothing to do here.
                    'D' | 'p' => {}
                    's' => {
                        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                        let (size, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
                        options.size = Some(size);
                        rest = tail.trim_start();
                    }
                    other => return Err(Error::Usage(format!("x has no option /{other}; see .help x"))),
                }
            }
        }
        // Options may stand behind the pattern too.
        match rest.find(" /") {
            Some(at) => {
                let (pattern, behind) = rest.split_at_checked(at).unwrap_or((rest, ""));
                let behind = Options::parse(behind)?;
                Ok(Options { pattern: pattern.trim(), ..behind })
            }
            None => {
                options.pattern = rest;
                Ok(options)
            }
        }
    }
}

/// A line of `x`.
struct Line {
    address: Va,
    module: usize,
    module_name: String,
    name: String,
    kind: SymbolKind,
    type_id: Option<TypeId>,
    size: u64,
}

fn examine(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let options = Options::parse(call.args)?;
    let scope = session.scope(call.processor)?;
    let open = scope.open()?;
    if options.pattern.is_empty() || options.pattern == "*" {
        return Err(Error::Unsupported(
            "x without module! lists local variables, which need a private symbol file and a frame; for all of a \
             module: x MODULE!*"
                .to_owned(),
        ));
    }
    let size = options.size.map(|size| scope.evaluate(size)).transpose()?;
    let mut lines = Vec::new();
    let mut stopped = false;
    let found = open.symbols.each(&open.target, options.pattern, &mut |named| {
        if lines.len() % 1024 == 0 && session.interrupted() {
            stopped = true;
            return ControlFlow::Break(());
        }
        let code = named.kind.is_code();
        if (options.functions_only && !code) || (options.data_only && code) {
            return ControlFlow::Continue(());
        }
        lines.push(Line {
            address: named.address,
            module: named.module,
            module_name: named.module_name.to_owned(),
            name: named.name.to_owned(),
            kind: named.kind,
            type_id: named.type_id,
            size: 0,
        });
        ControlFlow::Continue(())
    });
    found.map_err(error_of)?;
    if stopped {
        return Err(Error::Interrupted);
    }
    if size.is_some() || options.order == Order::Size || options.verbose {
        for line in &mut lines {
            line.size = size_of(open, line);
        }
        lines.retain(|line| size.is_none_or(|size| size == line.size));
    }
    match options.order {
        // They come by name, module after module.
        Order::Name => {}
        Order::Address => lines.sort_by_key(|line| line.address),
        Order::Size => lines.sort_by_key(|line| line.size),
    }
    if options.backwards {
        lines.reverse();
    }
    let mut result = Ok(());
    out.list("symbols", |out| {
        for line in &lines {
            if session.interrupted() {
                result = Err(Error::Interrupted);
                return;
            }
            out.record("", |out| show(&scope, open, out, line, &options));
        }
    });
    result
}

fn show(scope: &Scope, open: &OpenTarget, out: &Out<'_>, line: &Line, options: &Options<'_>) {
    if options.verbose {
        out.field("kind", Value::Text(kind_text(line.kind)), &format!("{:<11} ", kind_text(line.kind)));
    } else {
        out.data("kind", Value::Text(kind_text(line.kind)));
    }
    let address = line.address.show(scope.pointer_size()).to_string();
    let shown = if options.addresses { address.as_str() } else { "" };
    out.styled_field("address", Value::Hex(line.address.0), Style::Address, shown);
    if options.verbose && line.size > 0 {
        out.field("size", Value::UInt(line.size), &format!(" {:4x}", line.size));
    } else if options.verbose {
        out.text("     ");
    }
    if options.addresses && options.names {
        out.text(" ");
    }
    let full = format!("{}!{}", line.module_name, line.name);
    let shown = match (options.names, options.quoted) {
        (false, _) => String::new(),
        (true, true) => format!("@!\"{full}\""),
        (true, false) => full.clone(),
    };
    out.styled_field("name", Value::Text(&full), Style::Symbol, &shown);
    if options.more {
        let text = what(scope, open, line, options.types);
        out.field("what", Value::Text(text.trim()), &text);
    }
    out.end_line();
}

/// What KD writes after the name: parameters, a value, or that it knows neither.
fn what(scope: &Scope, open: &OpenTarget, line: &Line, with_type: bool) -> String {
    let types =
        line.type_id.and_then(|id| Some((open.symbols.types_of(&open.target, line.module).ok()?, id)));
    let Some((types, id)) = types else {
        return if line.kind.is_code() { " (<no parameter info>)" } else { " = <no type information>" }
            .to_owned();
    };
    if let Some(parameters) = types.parameters(id) {
        let list: Vec<String> = parameters.iter().map(|id| types.c_spelling(*id)).collect();
        return if list.is_empty() { " (void)".to_owned() } else { format!(" ({})", list.join(", ")) };
    }
    let value = typed::field_text(&types, &types.whole(id), line.address, scope).0;
    let name = if with_type { format!(" {}", types.name(id)) } else { String::new() };
    format!("{name} = {value}")
}

fn size_of(open: &OpenTarget, line: &Line) -> u64 {
    let types =
        line.type_id.and_then(|id| Some((open.symbols.types_of(&open.target, line.module).ok()?, id)));
    types.map_or(0, |(types, id)| types.size(id))
}

fn kind_text(kind: SymbolKind) -> &'static str {
    match kind {
        SymbolKind::PublicData => "pub global",
        SymbolKind::PublicFunction => "pub func",
        SymbolKind::GlobalData => "prv global",
        SymbolKind::StaticData => "prv static",
        SymbolKind::GlobalFunction | SymbolKind::StaticFunction => "prv func",
        SymbolKind::Export => "export",
    }
}

/// Symbols that are not there are another error than a pattern that is none.
pub(super) fn error_of(error: SymbolError) -> Error {
    match error {
        SymbolError::Pattern(_) => Error::Usage(error.to_string()),
        SymbolError::NoModule { .. }
        | SymbolError::NotFound { .. }
        | SymbolError::NotFoundAnywhere { .. } => Error::NotFound(error.to_string()),
        _ => Error::NoSymbols(error.to_string()),
    }
}

fn list_nearest(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let open = scope.open()?;
    let text = call.args.trim_start_matches("/D").trim();
    let va = match text {
        "" => scope.registers()?.ip(),
        text => Va(scope.evaluate(text)?),
    };
    out.data("address", Value::Hex(va.0));
    let Some(near) = open.symbols.near(&open.target, va) else {
        return Err(Error::NotFound(format!("no module holds {va}")));
    };
    let size = scope.pointer_size();
    if let Some(line) = open.symbols.line_at(&open.target, va).filter(|_| session.settings.shows_lines()) {
        out.record("source", |out| {
            out.data("file", Value::Text(&line.file));
            out.data("line", Value::UInt(line.line.into()));
            out.line(&format!("{}({})+0x{:x}", line.file, line.line, line.displacement));
        });
    }
    let show = |key: &str, address: Va, name: &str| {
        out.record(key, |out| {
            let shown = format!("({})", address.show(size));
            out.styled_field("address", Value::Hex(address.0), Style::Address, &shown);
            out.text("   ");
            out.styled_field("name", Value::Text(name), Style::Symbol, name);
        });
    };
    show("at", near.at.address, &near.at.to_string());
    if let Some(next) = &near.next {
        out.text("   |  ");
        show("next", next.address, &next.to_string());
    }
    out.end_line();
    if near.at.name.is_empty()
        && let ModuleState::None { reason } = open.symbols.state(&open.target, near.at.module)
    {
        out.warning(&reason.to_string());
    }
    if !near.exact.is_empty() {
        out.line("Exact matches:");
        out.list("exact", |out| {
            for exact in &near.exact {
                let line = Line {
                    address: exact.hit.address,
                    module: exact.hit.module,
                    module_name: exact.hit.module_name.clone(),
                    name: exact.hit.name.clone(),
                    kind: exact.kind,
                    type_id: exact.type_id,
                    size: 0,
                };
                let name = exact.hit.to_string();
                out.record("", |out| {
                    out.text("    ");
                    out.styled_field("name", Value::Text(&name), Style::Symbol, &name);
                    let text = what(&scope, open, &line, false);
                    out.field("what", Value::Text(text.trim()), &text);
                    out.end_line();
                });
            }
        });
    }
    Ok(())
}
