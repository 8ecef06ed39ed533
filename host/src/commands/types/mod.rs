//! `dt`: types, and memory seen through them.
//!
//! The look is KD's; where memory is missing, each field says which of the four reasons it is. Arguments are
//! `arguments`, lines are `tree`; how a value is written is [`crate::typed`]'s.

mod arguments;
#[cfg(test)]
mod tests;
mod tree;

use super::{Builtin, Call, Needs};
use crate::scope::Scope;
use crate::session::Session;
use crate::symbols::{Kind, ModuleTypes, Pattern, SymbolError, TypeId};
use crate::typed::{self, Memory};
use arguments::{Arguments, Naming};
use kd_sdk::address::{Pa, Va};
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use tree::{Asked, Tree};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[Builtin {
    names: &["dt"],
    usage: "[-abcdeioprstv] [MODULE!]TYPE [[-n|-y] FIELD ...] [ADDRESS] [-l FIELD]",
    summary: "Display a type, or memory as a type",
    help: "TYPE with a wildcard lists types and symbols: dt nt!_E*, dt -t -v nt!*OBJECT* (-v adds sizes).\n\
           FIELD may be a path (Tcb.ApcState.Process, Name[2]); dots at its end open so many levels and make it the\n\
           start of a name, as does -y; -n takes the next word for a field whatever it looks like.\n\
           ADDRESS is any expression: dt nt!_EPROCESS @$proc Pcb. ImageFileName\n\
           -rN opens N levels of structures and pointers, -b everything inside but no pointers, -v says more of types,\n\
           -aN puts array elements on lines of their own, -c all on one line, -i no indentation, -o no offsets,\n\
           -p ADDRESS is physical, -s SIZE only types of this size, -t types only, -d shows every match in full,\n\
           -l FIELD walks a list: dt nt!_EPROCESS -l ActiveProcessLinks.Flink -y Image @$proc",
    needs: Needs::Target,
    run: display,
}];

/// Elements of a list that are walked.
const LONGEST_LIST: usize = 1 << 16;

/// Physical memory for values; what pointers lead to is virtual as ever, but is not followed.
struct Physical<'a>(&'a Scope);

impl Memory for Physical<'_> {
    fn read(&self, va: Va, into: &mut [u8]) -> std::result::Result<(), String> {
        let target = self.0.target().map_err(|error| error.to_string())?;
        target.read_physical(Pa(va.0), into).map_err(|(_, why)| why.to_string())
    }

    fn name_of(&self, va: Va) -> Option<String> {
        self.0.name_of(va).map(|hit| hit.to_string())
    }
}

fn display(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let arguments = Arguments::parse(call.args)?;
    if arguments.help || arguments.name.is_empty() {
        let row = ROWS.first();
        out.line(&row.map_or_else(String::new, |row| format!("dt {}\n{}", row.usage, row.help)));
        return Ok(());
    }
    let scope = session.scope(call.processor)?;
    let interrupted = || session.interrupted();
    if arguments.enumerate || arguments.name.contains(['*', '?']) {
        return list(&scope, out, &arguments, &interrupted);
    }
    let open = scope.open()?;
    let (types, id, mut va) = match open.symbols.find_type(&open.target, arguments.name) {
        Ok((types, id)) => (types, id, None),
        Err(error) => variable(&scope, arguments.name, error)?,
    };
    if let Some(size) = arguments.size
        && scope.evaluate(size)? != types.size(id)
    {
        return Err(Error::NotFound(format!("{} has {:#x} bytes", arguments.name, types.size(id))));
    }
    let mut asked = Vec::new();
    let mut heading = None;
    for (naming, word) in &arguments.rest {
        let field = Asked::parse(word, *naming == Naming::Start);
        if *naming != Naming::Free || is_field(&types, id, word) {
            asked.push(field);
            continue;
        }
        match scope.evaluate(word) {
            Ok(value) => {
                va = Some(Va(value));
                heading = word.contains('!').then_some(*word);
            }
            Err(_) if word.starts_with(|c: char| c.is_alphabetic() || c == '_') => asked.push(field),
            Err(error) => return Err(error),
        }
    }
    let memory: &dyn Memory = if arguments.physical { &Physical(&scope) } else { &scope };
    let tree = Tree { out, types: &types, memory, arguments: &arguments, interrupted: &interrupted };
    out.data("type", Value::Text(&types.name(id)));
    out.data("size", Value::UInt(types.size(id)));
    if let Some(link) = arguments.link {
        let first =
            va.ok_or_else(|| Error::Usage("dt -l needs the address of the first element".to_owned()))?;
        return walk(&scope, &tree, id, first, link, &asked);
    }
    if let Some(va) = va {
        out.data("address", Value::Hex(va.0));
        heading.inspect(|heading| out.line(heading));
    }
    if arguments.verbose {
        out.line(&types.verbose_name(id));
    }
    show(&tree, id, va, &asked, arguments.name)
}

/// One structure, or some of its fields.
fn show(tree: &Tree<'_>, id: TypeId, va: Option<Va>, asked: &[Asked<'_>], name: &str) -> Result<()> {
    if asked.is_empty() {
        // What KD can say of the whole stands before the fields.
        if let Some(va) = va.filter(|_| tree.types.kind(id) == Kind::Struct) {
            let text = typed::field_text(tree.types, &tree.types.whole(id), va, tree.memory).0;
            if let Some(meaning) = text.strip_prefix(&tree.types.name(id)).filter(|rest| !rest.is_empty()) {
                tree.out.field("meaning", Value::Text(meaning.trim()), meaning);
                tree.out.end_line();
            }
        }
        return tree.show(id, va);
    }
    if tree.some(id, va, asked)? {
        return Ok(());
    }
    Err(Error::NotFound(format!("{name}: cannot find specified field members")))
}

/// True for a word that names a field of the type, and for the start of one where dots follow.
fn is_field(types: &ModuleTypes, id: TypeId, word: &str) -> bool {
    if word.contains('!') || word.starts_with(['@', '(']) {
        return false;
    }
    let bare = word.trim_end_matches('.');
    let first = bare.split(['.', '[']).next().unwrap_or(bare);
    if types.kind(id) == Kind::Enum {
        return types.enum_value(id, first).is_some();
    }
    let start = bare.len() < word.len();
    let begins = |name: &str| name.get(..first.len()).is_some_and(|head| head.eq_ignore_ascii_case(first));
    types.field(id, first).is_some()
        || (start && !first.is_empty() && types.fields(id).iter().any(|field| begins(&field.name)))
}

/// A variable by its name: its type and its address.
fn variable(scope: &Scope, name: &str, error: SymbolError) -> Result<(Arc<ModuleTypes>, TypeId, Option<Va>)> {
    let open = scope.open()?;
    let failed = || match &error {
        SymbolError::NoType { .. } => Error::NotFound(error.to_string()),
        _ => Error::NoSymbols(error.to_string()),
    };
    let Ok(va) = open.symbols.find(&open.target, name) else { return Err(failed()) };
    let near = open.symbols.near(&open.target, va);
    let typed = near
        .and_then(|near| near.exact.into_iter().find_map(|exact| Some((exact.hit.module, exact.type_id?))));
    match typed {
        Some((module, id)) => {
            let types = open
                .symbols
                .types_of(&open.target, module)
                .map_err(|error| Error::NoSymbols(error.to_string()))?;
            Ok((types, id, Some(va)))
        }
        None => Err(Error::NotFound(format!(
            "{name} is at {va}, and the symbols do not tell its type: dt TYPE {name}"
        ))),
    }
}

/// `dt nt!_E*`: the types and symbols that match.
fn list(
    scope: &Scope,
    out: &Out<'_>,
    arguments: &Arguments<'_>,
    interrupted: &dyn Fn() -> bool,
) -> Result<()> {
    let open = scope.open()?;
    let no_symbols = |error: SymbolError| Error::NoSymbols(error.to_string());
    let (module, wanted) = match arguments.name.split_once('!') {
        Some((module, wanted)) if !module.is_empty() => (Pattern::parse(module), wanted),
        _ => (Pattern::parse("nt"), arguments.name.trim_start_matches('!')),
    };
    let usage = |error: crate::symbols::PatternError| Error::Usage(error.to_string());
    let module = module.map_err(usage)?;
    let pattern = Pattern::parse(wanted).map_err(usage)?;
    let size = arguments.size.map(|size| scope.evaluate(size)).transpose()?;
    let literal = module.literal().is_some();
    let mut stopped = false;
    let mut any = false;
    out.list("types", |out| -> Result<()> {
        for (number, known) in open.target.modules().iter().enumerate() {
            let named = module.matches(&known.name) || (known.is_kernel && module.matches("nt"));
            if !named {
                continue;
            }
            let types = match open.symbols.types_of(&open.target, number) {
                Ok(types) => types,
                Err(error) if literal && !arguments.types_only => {
                    // Symbols without types may still have names.
                    log::debug!("{error}");
                    continue;
                }
                Err(error) if literal => return Err(no_symbols(error)),
                Err(_) => continue,
            };
            let mut found = Vec::new();
            types.each(&pattern, &mut |name, id| {
                if size.is_none_or(|size| size == types.size(id)) {
                    found.push((name.to_owned(), id));
                }
                ControlFlow::Continue(())
            });
            for (name, id) in found {
                if interrupted() {
                    stopped = true;
                    return Ok(());
                }
                any = true;
                out.record("", |out| {
                    let size = types.size(id);
                    let shown = if arguments.verbose { format!("{size:04x}") } else { String::new() };
                    out.field("size", Value::UInt(size), &format!("{shown:>8}  "));
                    out.data("module", Value::Text(&known.name));
                    let full = format!("{}!{name}", known.name);
                    out.styled_field("name", Value::Text(&name), Style::Symbol, &full);
                    out.end_line();
                    if !arguments.each {
                        return Ok(());
                    }
                    Tree { out, types: &types, memory: scope, arguments, interrupted }.show(id, None)
                })?;
            }
        }
        Ok(())
    })?;
    // Names of types begin with an underscore, those of symbols do not; a pattern would skip it in both.
    if !arguments.types_only && size.is_none() && !stopped && !wanted.starts_with('_') {
        let result = out.list("symbols", |out| {
            let full =
                if arguments.name.contains('!') { arguments.name.to_owned() } else { format!("nt!{wanted}") };
            open.symbols.each(&open.target, &full, &mut |named| {
                if interrupted() {
                    stopped = true;
                    return ControlFlow::Break(());
                }
                any = true;
                out.record("", |out| {
                    let va = named.address.show(scope.pointer_size()).to_string();
                    out.styled_field(
                        "address",
                        Value::Hex(named.address.0),
                        Style::Address,
                        &va.replace('`', ""),
                    );
                    let full = format!("  {}!{}", named.module_name, named.name);
                    out.styled_field("name", Value::Text(named.name), Style::Symbol, &full);
                    out.end_line();
                });
                ControlFlow::Continue(())
            })
        });
        result.map_err(no_symbols)?;
    }
    match (stopped, any) {
        (true, _) => Err(Error::Interrupted),
        (_, false) => Err(Error::NotFound(format!("no type or symbol matches {}", arguments.name))),
        _ => Ok(()),
    }
}

/// `dt TYPE -l FIELD ADDRESS`: every element of a list.
fn walk(
    scope: &Scope,
    tree: &Tree<'_>,
    id: TypeId,
    first: Va,
    link: &str,
    asked: &[Asked<'_>],
) -> Result<()> {
    let types = tree.types;
    let field = types
        .field(id, link)
        .filter(|field| field.kind == Kind::Pointer)
        .ok_or_else(|| Error::Usage(format!("{link} is not a pointer in {}", types.name(id))))?;
    // A pointer to the type itself leads to the next element; any other leads to the link inside it.
    let inside = if field.element == id {
        0
    } else {
        link.rsplit_once('.')
            .and_then(|(outer, _)| types.field(id, outer))
            .map_or(field.offset, |outer| outer.offset)
    };
    let outer = link.split('.').next().unwrap_or(link);
    let mut seen = HashSet::new();
    let mut at = first;
    tree.out.list("elements", |out| {
        loop {
            if (tree.interrupted)() {
                return Err(Error::Interrupted);
            }
            let shown = at.show(scope.pointer_size());
            out.record("", |out| -> Result<()> {
                out.field("address", Value::Hex(at.0), &format!("{link} at 0x{shown}"));
                out.end_line();
                out.line("---------------------------------------------");
                if asked.is_empty() {
                    tree.show(id, Some(at))?;
                } else {
                    let with_link = [&[Asked::parse(outer, false)], asked].concat();
                    tree.some(id, Some(at), &with_link)?;
                }
                out.end_line();
                Ok(())
            })?;
            seen.insert(at);
            let next = typed::number_at(at.add(field.offset), field.size, tree.memory).map_err(|why| {
                Error::Other(format!("the list breaks at {shown}: {link} cannot be read: {why}"))
            })?;
            if next == 0 {
                return Ok(());
            }
            let element = Va(next.wrapping_sub(inside));
            // The head of a list is a variable, not an element.
            let head = scope.name_of(Va(next)).filter(|hit| inside != 0 && hit.displacement == 0);
            if let Some(head) = head {
                out.line(&format!("The list ends at its head, {head}"));
                return Ok(());
            }
            if !seen.insert(element) {
                if element != first {
                    out.warning(&format!(
                        "the list runs in a circle that does not hold its start, from {element}"
                    ));
                }
                return Ok(());
            }
            if seen.len() > LONGEST_LIST {
                out.warning(&format!(
                    "the list has more than {LONGEST_LIST} elements; the rest is not shown"
                ));
                return Ok(());
            }
            at = element;
        }
    })
}
