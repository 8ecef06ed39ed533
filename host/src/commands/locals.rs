//! `dv`: the local variables of the function at the instruction pointer, where the symbol file tells them.

use super::{Builtin, Call, Needs};
use crate::pattern;
use crate::scope::Scope;
use crate::session::Session;
use crate::symbols::{Local, LocalPlace, ModuleState, ModuleTypes};
use crate::typed;
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[Builtin {
    names: &["dv"],
    usage: "[/i] [/t] [/v | /V] [/a | /n | /z] [PATTERN]",
    summary: "Display local variables and parameters",
    help: "Needs a private symbol file of the module that runs. /i says parameter or local, /t the type, /v where it\n\
           is, /V where it is counted from too; sorted by address (/a), name (/n) or size (/z).",
    needs: Needs::Target,
    run: display,
}];

#[derive(Default)]
struct Options<'a> {
    kind: bool,
    types: bool,
    addresses: bool,
    registers: bool,
    order: Option<char>,
    pattern: Option<&'a str>,
}

fn display(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let mut options = Options::default();
    for word in call.args.split_whitespace() {
        let Some(letters) = word.strip_prefix('/') else {
            options.pattern = Some(word);
            continue;
        };
        for letter in letters.chars() {
            match letter {
                'i' => options.kind = true,
                't' => options.types = true,
                'v' => options.addresses = true,
                'V' => (options.addresses, options.registers) = (true, true),
                'a' | 'n' | 'z' | 'A' | 'N' | 'Z' => options.order = Some(letter),
                'D' | 'f' => {}
                other => return Err(Error::Usage(format!("dv has no option /{other}; see .help dv"))),
            }
        }
    }
    let scope = session.scope(call.processor)?;
    let open = scope.open()?;
    let ip = scope.registers()?.ip();
    let needs_private = |name: &str, has: &str| {
        Error::NoSymbols(format!("dv: private symbols are required for locals; {name} at {ip} has {has}"))
    };
    let Some(index) = open.target.module_index_at(ip) else { return Err(needs_private("no module", "none")) };
    let name = open.target.modules().get(index).map_or("", |module| module.name.as_str());
    match open.symbols.load(&open.target, index) {
        ModuleState::Loaded { private: true, .. } => {}
        ModuleState::Loaded { .. } => return Err(needs_private(name, "public ones only")),
        _ => return Err(needs_private(name, "none")),
    }
    let error = |error: crate::symbols::SymbolError| Error::NoSymbols(error.to_string());
    let mut locals = open.symbols.locals_at(&open.target, ip).map_err(error)?;
    let types = open.symbols.types_of(&open.target, index).map_err(error)?;
    locals.retain(|local| options.pattern.is_none_or(|wanted| pattern::matches(wanted, &local.name)));
    match options.order {
        Some('n' | 'N') => locals.sort_by_key(|local| local.name.to_lowercase()),
        Some('z' | 'Z') => locals.sort_by_key(|local| types.size(local.type_id)),
        Some(_) => locals.sort_by_key(|local| address(&scope, local)),
        None => {}
    }
    if options.order.is_some_and(char::is_uppercase) {
        locals.reverse();
    }
    out.list("locals", |out| {
        for local in &locals {
            out.record("", |out| show(&scope, out, &types, local, &options));
        }
    });
    Ok(())
}

fn show(scope: &Scope, out: &Out<'_>, types: &ModuleTypes, local: &Local, options: &Options<'_>) {
    let kind = if local.parameter { "prv param" } else { "prv local" };
    out.field("kind", Value::Text(kind), &if options.kind { format!("{kind}  ") } else { String::new() });
    let va = address(scope, local);
    if options.addresses {
        let shown = match (va, local.place) {
            (Some(va), _) => va.show(scope.pointer_size()).to_string(),
            (None, LocalPlace::Register(number)) => {
                format!("@{:<16}", LocalPlace::register_name(number).unwrap_or("?"))
            }
            _ => "<unavailable>    ".to_owned(),
        };
        out.styled_field("address", va.map_or(Value::Null, |va| Value::Hex(va.0)), Style::Address, &shown);
        if let (true, LocalPlace::Relative { register, offset }) = (options.registers, local.place) {
            let name = LocalPlace::register_name(register).unwrap_or("?");
            let sign = if offset < 0 { '-' } else { '+' };
            out.text(&format!(" @{name}{sign}0x{:04x}", offset.unsigned_abs()));
        }
        out.text(" ");
    }
    let of = types.name(local.type_id);
    out.field("type", Value::Text(&of), &if options.types { format!("{of} ") } else { String::new() });
    let plain = !options.kind && !options.types && !options.addresses;
    let name = if plain { format!("{:>15}", local.name) } else { local.name.clone() };
    out.styled_field("name", Value::Text(&local.name), Style::Symbol, &name);
    out.text(" = ");
    let text = match (va, local.place) {
        (Some(va), _) => typed::field_text(types, &types.whole(local.type_id), va, scope).0,
        (None, LocalPlace::Register(number)) => {
            let value = LocalPlace::register_name(number).and_then(|name| scope.register(name));
            match value {
                Some(value) => InRegister { scope, value }.text(types, local),
                None => "<value unavailable>".to_owned(),
            }
        }
        _ => "<value unavailable>".to_owned(),
    };
    out.name("value", &text);
    out.end_line();
}

/// Where a variable is in memory now.
fn address(scope: &Scope, local: &Local) -> Option<Va> {
    match local.place {
        LocalPlace::Relative { register, offset } => {
            let base = scope.register(LocalPlace::register_name(register)?)?;
            Some(Va(base.wrapping_add_signed(offset)))
        }
        _ => None,
    }
}

/// A register as if it were memory at address 0; the rest of memory is the target's.
struct InRegister<'a> {
    scope: &'a Scope,
    value: u64,
}

impl InRegister<'_> {
    fn text(&self, types: &ModuleTypes, local: &Local) -> String {
        typed::field_text(types, &types.whole(local.type_id), Va(0), self).0
    }
}

impl typed::Memory for InRegister<'_> {
    fn read(&self, va: Va, into: &mut [u8]) -> std::result::Result<(), String> {
        let bytes = self.value.to_le_bytes();
        let at = usize::try_from(va.0).unwrap_or(usize::MAX);
        match bytes.get(at..).and_then(|bytes| bytes.get(..into.len())) {
            Some(from) => {
                into.copy_from_slice(from);
                Ok(())
            }
            None => typed::Memory::read(self.scope, va, into),
        }
    }

    fn name_of(&self, va: Va) -> Option<String> {
        typed::Memory::name_of(self.scope, va)
    }
}
