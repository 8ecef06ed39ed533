//! `dx`: the value of a C++ expression, and what is inside it.
//!
//! The look is that of KD's `dx` on native objects: `NAME : VALUE [Type: TYPE]`, members below with their offsets.
//! KD's data model behind it (`Debugger.`, `@$curprocess`, queries, scripts, grids) is not here. Three structures that KD
//! has visualizers for show what they mean: counted strings, large integers.
//!
//! In JSON an object has `name`, `offset` and `bits` where it is a member, `value`, `type` and `members`.

use super::{Builtin, Call, Needs};
use crate::expr::{Home, TypedValue};
use crate::scope::Scope;
use crate::session::Session;
use crate::symbols::{Field, Kind, ModuleTypes, TypeId};
use crate::typed::{self, Memory, TextStyle, Type};
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};
use std::cell::Cell;
use std::sync::Arc;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[Builtin {
    names: &["dx"],
    usage: "[-rN] [-n] EXPRESSION",
    summary: "Show a C++ expression's value and its members",
    help: "EXPRESSION is one of C++, as for ??. -rN opens N levels of members (1; 0 none, at most 9), pointers too;\n\
           -n shows counted strings and large integers as the structures they are.\n\
           dx @$proc    dx -r2 ((nt!_ETHREAD*)@$thread)->Tcb.Header    dx (nt!_KWAIT_REASON)3\n\
           Of KD's dx this is the part about native objects. The data model (Debugger., @$cursession, @$curprocess,\n\
           queries, -g grids, scripts, visualizers of others) is not in kd.",
    needs: Needs::Target,
    run: display,
}];

/// Elements of an array that are shown.
const ELEMENTS: u64 = 100;
/// Lines of one command.
const LINES: usize = 1 << 16;
/// Characters of a text.
const TEXT: usize = 256;

fn display(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let (mut levels, mut plain) = (1, false);
    let mut text = call.args;
    while let Some((option, rest)) =
        text.strip_prefix('-').and_then(|rest| rest.split_once(char::is_whitespace))
    {
        match option.split_at_checked(1) {
            Some(("r", "")) => levels = 1,
            Some(("r", digits)) => {
                levels = digits
                    .parse()
                    .ok()
                    .filter(|levels| *levels <= 9)
                    .ok_or_else(|| Error::Usage("dx -rN opens 0 to 9 levels".to_owned()))?;
            }
            Some(("n", "")) => plain = true,
            // A negative number, a difference.
            Some((first, _)) if !first.starts_with(|c: char| c.is_ascii_alphabetic()) => break,
            _ => {
                return Err(Error::Unsupported(format!(
                    "dx takes -rN and -n; -{option} belongs to the data model, which is not in kd"
                )));
            }
        }
        text = rest.trim_start();
    }
    if text.is_empty() {
        return Err(Error::Usage("dx takes a C++ expression".to_owned()));
    }
    if ["Debugger", "@$cur", "@$debugger"].iter().any(|root| text.starts_with(root)) {
        return Err(Error::Unsupported(format!(
            "'{text}' is an object of the data model, which is not in kd; dx shows C++ expressions such as @$proc"
        )));
    }
    let scope = session.scope(call.processor)?;
    let evaluated = scope.evaluate_typed(text)?;
    for (name, value) in &evaluated.assigned {
        session.variables.set(name, *value);
    }
    let object =
        Objects { scope: &scope, plain, lines: Cell::new(0), interrupted: &|| session.interrupted() };
    out.record("object", |out| {
        out.name("name", text);
        object.show(out, " ".repeat(16).as_str(), &evaluated.value, levels, 0)
    })
}

struct Objects<'a> {
    scope: &'a Scope,
    /// Structures are shown as what they are.
    plain: bool,
    lines: Cell<usize>,
    interrupted: &'a dyn Fn() -> bool,
}

impl Objects<'_> {
    /// The rest of an object's line after its name, then its members.
    fn show(&self, out: &Out<'_>, after: &str, value: &TypedValue, levels: u32, depth: usize) -> Result<()> {
        if (self.interrupted)() {
            return Err(Error::Interrupted);
        }
        self.lines.set(self.lines.get() + 1);
        if self.lines.get() > LINES {
            return Err(Error::Other(format!("dx ends here: more than {LINES} lines")));
        }
        out.text(after);
        if let Some(text) = self.text(value) {
            out.text(" : ");
            out.name("value", &text);
        }
        let ty = spelled(&value.ty);
        out.field("type", Value::Text(&ty), &format!(" [Type: {ty}]"));
        out.end_line();
        match levels.checked_sub(1) {
            Some(levels) => self.members(out, value, levels, depth + 1),
            None => Ok(()),
        }
    }

    fn members(&self, out: &Out<'_>, value: &TypedValue, levels: u32, depth: usize) -> Result<()> {
        match (&value.ty, &value.home) {
            (Type::Named(types, id), Home::Memory { va, .. }) if value.ty.is_struct() => {
                self.fields(out, types, *id, *va, levels, depth)
            }
            (Type::Array(of, count), Home::Memory { va, .. }) => out.list("members", |out| {
                for index in 0..(*count).min(ELEMENTS) {
                    let at = va.add(index.wrapping_mul(of.size()));
                    let home = Home::Memory { va: at, bits: None };
                    let element = TypedValue { ty: (**of).clone(), home };
                    self.member(out, depth, &format!("[{index}]"), 16, &element, levels)?;
                }
                if *count > ELEMENTS {
                    out.line(&format!("{}[...]", "    ".repeat(depth)));
                }
                Ok(())
            }),
            (Type::Pointer(to, _), _) => {
                let Ok(at) = value.raw_in(self.scope) else { return Ok(()) };
                match &**to {
                    _ if at == 0 => Ok(()),
                    Type::Named(types, id) if to.is_struct() => {
                        self.fields(out, types, *id, Va(at), levels, depth)
                    }
                    // Nothing is known of what is there, or the text is in the pointer's own line.
                    Type::Named(types, id) if types.kind(*id) == Kind::Other => Ok(()),
                    Type::Scalar(scalar) if scalar.kind == Kind::Other || scalar.is_character() => Ok(()),
                    to => {
                        let home = Home::Memory { va: Va(at), bits: None };
                        let target = TypedValue { ty: to.clone(), home };
                        out.list("members", |out| self.member(out, depth, "", 0, &target, levels))
                    }
                }
            }
            _ => Ok(()),
        }
    }

    fn fields(
        &self,
        out: &Out<'_>,
        types: &Arc<ModuleTypes>,
        id: TypeId,
        va: Va,
        levels: u32,
        depth: usize,
    ) -> Result<()> {
        out.list("members", |out| {
            types.fields(id).iter().try_for_each(|field| {
                let bits = (field.kind == Kind::Bits).then_some((field.bit_position, field.bit_length));
                let home = Home::Memory { va: va.add(field.offset), bits };
                let value = TypedValue { ty: Type::of(types, field.id), home };
                out.record("", |out| {
                    out.text(&"    ".repeat(depth));
                    out.styled_field("offset", Value::Hex(field.offset), Style::Dim, &place(field));
                    out.text(" ");
                    out.field("name", Value::Text(&field.name), &format!("{:<16}", field.name));
                    self.show(out, "", &value, levels, depth)
                })
            })
        })
    }

    fn member(
        &self,
        out: &Out<'_>,
        depth: usize,
        name: &str,
        width: usize,
        value: &TypedValue,
        levels: u32,
    ) -> Result<()> {
        out.record("", |out| {
            out.text(&"    ".repeat(depth));
            out.field("name", Value::Text(name), &format!("{name:<width$}"));
            self.show(out, "", value, levels, depth)
        })
    }

    /// The value in words; `None` where only the members tell it.
    fn text(&self, value: &TypedValue) -> Option<String> {
        let text_at = |va, unit, limit| typed::text_at(va, unit, limit, TextStyle::Value, self.scope);
        match (&value.ty, &value.home) {
            (Type::Array(of, count), Home::Memory { va, .. }) => {
                let Type::Scalar(scalar) = &**of else { return None };
                let limit = usize::try_from(*count).unwrap_or(TEXT).min(TEXT);
                let text = scalar.is_character().then(|| text_at(*va, scalar.size, limit))?;
                Some(text.map_or_else(|| "??".to_owned(), |text| format!("\"{text}\"")))
            }
            (Type::Named(types, id), Home::Memory { va, .. }) if value.ty.is_struct() => {
                if self.plain {
                    None
                } else {
                    self.meaning(types, *id, *va)
                }
            }
            (Type::Scalar(scalar), Home::Memory { va, .. }) if *scalar == &typed::NO_TYPE => {
                Some(format!("{:#x}", va.0))
            }
            (ty, home) => {
                let number = match value.raw_in(self.scope) {
                    Ok(number) => number,
                    Err(error) => return Some(format!("?? ({error})")),
                };
                let bits = matches!(home, Home::Memory { bits: Some(_), .. });
                Some(match (ty, ty.arithmetic()) {
                    (Type::Named(types, id), Some(scalar)) => {
                        let signed = typed::signed(number, scalar.size);
                        let name = types.enum_name(*id, signed);
                        format!("{} ({signed})", name.as_deref().unwrap_or("<unknown>"))
                    }
                    (_, Some(scalar)) if scalar.name == "bool" || scalar.kind == Kind::Float => {
                        typed::scalar_text(scalar, number, &self.scope.look)
                    }
                    (_, Some(scalar)) if scalar.is_signed() && !bits => {
                        let signed = typed::signed(number, scalar.size);
                        let letter = u8::try_from(signed).ok().filter(|c| (b' '..=b'~').contains(c));
                        match letter.filter(|_| scalar.is_character()) {
                            Some(letter) => format!("{signed} '{}'", char::from(letter)),
                            None => signed.to_string(),
                        }
                    }
                    (Type::Pointer(to, _), _) => {
                        let shown = format!("{number:#x}");
                        match (&**to, number) {
                            (_, 0) => shown,
                            (Type::Scalar(scalar), _) if scalar.is_character() => {
                                match text_at(Va(number), scalar.size, TEXT) {
                                    Some(text) => format!("{shown} : \"{text}\""),
                                    None => shown,
                                }
                            }
                            (Type::Named(types, id), _) if types.kind(*id) == Kind::Other => {
                                match self.scope.name_of(Va(number)) {
                                    Some(name) => format!("{shown} : {name}"),
                                    None => shown,
                                }
                            }
                            _ => shown,
                        }
                    }
                    _ => format!("{number:#x}"),
                })
            }
        }
    }

    /// What the structures mean that KD has visualizers for.
    fn meaning(&self, types: &ModuleTypes, id: TypeId, va: Va) -> Option<String> {
        let number = |name: &str| {
            let field = types.field(id, name)?;
            typed::number_at(va.add(field.offset), field.size, self.scope).ok()
        };
        match types.name(id).as_str() {
            "_UNICODE_STRING" | "_STRING" => {
                let unit = if types.name(id) == "_STRING" { 1 } else { 2 };
                let (length, buffer) = (number("Length")?, Va(number("Buffer")?));
                if length == 0 || buffer.is_null() {
                    return Some("\"\"".to_owned());
                }
                let limit = usize::try_from(length / unit).unwrap_or(TEXT).min(TEXT);
                let memory: &dyn Memory = self.scope;
                let text = typed::text_at(buffer, unit, limit, TextStyle::Counted, memory)?;
                Some(format!("\"{text}\""))
            }
            "_LARGE_INTEGER" => Some(format!("{{{}}}", number("QuadPart")? as i64)),
            "_ULARGE_INTEGER" => Some(format!("{{{}}}", number("QuadPart")?)),
            _ => None,
        }
    }
}

/// `[+0x440]`, `[+0x460 ( 0: 0)]`.
fn place(field: &Field) -> String {
    match field.kind {
        Kind::Bits => {
            let last = field.bit_position + field.bit_length.saturating_sub(1);
            format!("[+0x{:03x} ({:2}:{last:2})]", field.offset, field.bit_position)
        }
        _ => format!("[+0x{:03x}]", field.offset),
    }
}

/// The name of a type as `dx` spells it: no `struct`, `__int64`.
fn spelled(ty: &Type) -> String {
    let name = ty.name();
    let name = ["struct ", "union "].iter().find_map(|word| name.strip_prefix(word)).unwrap_or(&name);
    match name.find("int64").filter(|at| !name.get(..*at).is_some_and(|before| before.ends_with('_'))) {
        Some(at) if at == 0 || name.get(..at).is_some_and(|before| before.ends_with(' ')) => {
            let (before, after) = name.split_at_checked(at).unwrap_or((name, ""));
            format!("{before}__{after}")
        }
        _ => name.to_owned(),
    }
}
