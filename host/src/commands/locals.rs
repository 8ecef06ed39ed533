//! `dv`: the local variables of the current frame, where the symbol file tells them.

use super::{Builtin, Call, Needs};
use crate::pattern;
use crate::scope::Scope;
use crate::session::Session;
use crate::stack::LocalFrame;
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
    help: "Those of the frame that .frame chose, at first of the innermost, also of a call that was put in line.\n\
           Needs a private symbol file of the module that runs. /i says parameter or local, /t the type, /v where it\n\
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
    let frame = scope.local_frame()?;
    let ip = frame.at;
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
    let mut locals = open.symbols.locals_at(&open.target, ip, frame.level).map_err(error)?;
    let types = open.symbols.types_of(&open.target, index).map_err(error)?;
    locals.retain(|local| options.pattern.is_none_or(|wanted| pattern::matches(wanted, &local.name)));
    match options.order {
        Some('n' | 'N') => locals.sort_by_key(|local| local.name.to_lowercase()),
        Some('z' | 'Z') => locals.sort_by_key(|local| types.size(local.type_id)),
        Some(_) => locals.sort_by_key(|local| address(&frame, local)),
        None => {}
    }
    if options.order.is_some_and(char::is_uppercase) {
        locals.reverse();
    }
    out.list("locals", |out| {
        for local in &locals {
            out.record("", |out| show(&scope, out, &frame, &types, local, &options));
        }
    });
    Ok(())
}

fn show(
    scope: &Scope,
    out: &Out<'_>,
    frame: &LocalFrame,
    types: &ModuleTypes,
    local: &Local,
    options: &Options<'_>,
) {
    let kind = if local.parameter { "prv param" } else { "prv local" };
    out.field("kind", Value::Text(kind), &if options.kind { format!("{kind}  ") } else { String::new() });
    let va = address(frame, local);
    if options.addresses {
        let shown = match (va, local.place) {
            (Some(va), _) => va.show(scope.pointer_size()).to_string(),
            (None, LocalPlace::Register(number)) => {
                format!("@{:<16}", register_name(frame, number).unwrap_or("?"))
            }
            _ => "<unavailable>    ".to_owned(),
        };
        out.styled_field("address", va.map_or(Value::Null, |va| Value::Hex(va.0)), Style::Address, &shown);
        if let (true, LocalPlace::Relative { register, offset }) = (options.registers, local.place) {
            let name = register_name(frame, register).unwrap_or("?");
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
    let text = value(scope, frame, types, local);
    out.name("value", &text);
    out.end_line();
}

/// A variable's value as text.
pub(super) fn value(scope: &Scope, frame: &LocalFrame, types: &ModuleTypes, local: &Local) -> String {
    let in_register = |number: u16| {
        let name = register_name(frame, number)?;
        if !frame.exact && is_volatile(name) { None } else { frame.registers.get(name) }
    };
    match (address(frame, local), local.place) {
        (Some(va), _) => typed::field_text(types, &types.whole(local.type_id), va, scope).0,
        (None, LocalPlace::Register(number)) => match in_register(number) {
            Some(value) => InRegister { scope, value }.text(types, local),
            None => "<value unavailable>".to_owned(),
        },
        _ => "<value unavailable>".to_owned(),
    }
}

/// True for a register that a call may change.
fn is_volatile(name: &str) -> bool {
    match name.strip_prefix('x').and_then(|number| number.parse::<u32>().ok()) {
        Some(number) => number < 19,
        None => matches!(name, "rax" | "rcx" | "rdx" | "r8" | "r9" | "r10" | "r11" | "eax" | "ecx" | "edx"),
    }
}

fn register_name(frame: &LocalFrame, number: u16) -> Option<&'static str> {
    match number {
        LocalPlace::VIRTUAL_FRAME => Some("$frame"),
        number => LocalPlace::register_name(number, frame.registers.machine()),
    }
}

/// Where a variable is in memory now.
fn address(frame: &LocalFrame, local: &Local) -> Option<Va> {
    let LocalPlace::Relative { register, offset } = local.place else { return None };
    let name = register_name(frame, register)?;
    let base = match register {
        // The return address stands right before the arguments.
        LocalPlace::VIRTUAL_FRAME => frame.arguments?.0.wrapping_sub(4),
        _ => frame.registers.get(name).filter(|_| frame.exact || !is_volatile(name))?,
    };
    let va = base.wrapping_add_signed(offset);
    // 32-bit addresses come zero-extended.
    Some(Va(if frame.registers.machine().pointer_size() == 4 { va & 0xffff_ffff } else { va }))
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

    fn look(&self) -> crate::look::Look {
        self.scope.look
    }

    fn name_of(&self, va: Va) -> Option<String> {
        typed::Memory::name_of(self.scope, va)
    }
}
