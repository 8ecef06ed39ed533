//! `?`, `??`, `.formats`, `.printf`, `.expr`: the values of expressions, and what they look like.

use super::{Builtin, Call, Needs};
use crate::expr::{Evaluator, Home, TypedValue};
use crate::scope::Scope;
use crate::session::Session;
use crate::target::float;
use crate::typed::{self, TextStyle, Type};
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::time;
use kd_sdk::output::{Out, Style, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &["??"],
        usage: "EXPRESSION",
        summary: "Evaluate a C++ expression and show its value and type",
        help: "Numbers are decimal unless they begin with 0x or 0; registers need @. Casts, ->, ., [], sizeof, names of\n\
               enumerations and the macros #FIELD_OFFSET(T,F) #CONTAINING_RECORD(P,T,F) #RTL_FIELD_SIZE(T,F)\n\
               #RTL_NUMBER_OF(A) #RTL_CONTAINS_FIELD(P,SIZE,F) #RTL_SIZEOF_THROUGH_FIELD(T,F) work as in C.\n\
               @@masm(…) holds a MASM expression. $t0 to $t19 can be set: ?? @$t0 = 5",
        needs: Needs::Nothing,
        run: evaluate_typed,
    },
    Builtin {
        names: &[".formats"],
        usage: "EXPRESSION",
        summary: "Show a number in every way it could be meant",
        help: "",
        needs: Needs::Nothing,
        run: formats,
    },
    Builtin {
        names: &[".printf"],
        usage: "\"FORMAT\" [, EXPRESSION …]",
        summary: "Show numbers and texts of the target in a format like printf's",
        help: "%d %i %u %x %X %o %c %e %f %g as in C, 32 bits wide unless I64 or ll stands before the letter; %p a pointer\n\
               of the target; %N a pointer; %ma %mu the text at an address; %msa %msu a counted string structure;\n\
               %y a symbol; %ly the same (there are no source lines).",
        needs: Needs::Nothing,
        run: printf,
    },
    Builtin {
        names: &[".expr"],
        usage: "[/q] [/s masm|c++]",
        summary: "Show or choose the evaluator of expressions",
        help: "",
        needs: Needs::Nothing,
        run: choose,
    },
];

/// `? EXPR`: `Evaluate expression: DEC = HEX`.
pub fn evaluate(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let value = scope.evaluate_wide(call.args)?;
    session.variables.exp = value;
    out.text("Evaluate expression: ");
    out.field("decimal", Value::Int(value as i64), &(value as i64).to_string());
    // A 32-bit target shows 32 bits of any value whose upper half says nothing.
    let short = scope.pointer_size() == 4 && (value >> 32 == 0 || value >> 31 == 0x1_ffff_ffff);
    out.text(" = ");
    out.field("hex", Value::Hex(value), &Va(value).show(if short { 4 } else { 8 }).to_string());
    out.end_line();
    Ok(())
}

fn evaluate_typed(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    if call.args.is_empty() {
        return Err(Error::Usage("?? takes a C++ expression".to_owned()));
    }
    let evaluated = scope.evaluate_typed(call.args)?;
    for (name, value) in &evaluated.assigned {
        session.variables.set(name, *value);
    }
    if let Ok(number) = evaluated.number(&scope) {
        session.variables.exp = number;
    }
    out.record("value", |out| show(&scope, &evaluated.value, out))
}

/// Shows a typed value as `??` does: the type and the value, then what a structure or an array holds.
fn show(scope: &Scope, value: &TypedValue, out: &Out<'_>) -> Result<()> {
    let name = value.ty.name();
    let pointer_size = scope.pointer_size();
    let address = |va: Va| format!("0x{}", va.show(pointer_size));
    let field = |text: &str, number: u64| {
        out.name("type", &name);
        out.text(" ");
        out.field("value", Value::Hex(number), text);
        out.end_line();
    };
    match (&value.ty, &value.home) {
        (Type::Scalar(scalar), Home::Memory { va, .. }) if *scalar == &typed::NO_TYPE => {
            field(
                &format!("{} (no type is known; & takes the address, a cast gives a type)", address(*va)),
                va.0,
            );
        }
        (Type::Array(of, _), Home::Memory { va, .. }) => {
            field(&address(*va), va.0);
            let first = TypedValue { ty: (**of).clone(), home: Home::Memory { va: *va, bits: None } };
            element(scope, &first, out);
        }
        (ty, Home::Memory { va, .. }) if ty.is_struct() => {
            out.name("type", &name);
            out.end_line();
            out.data("address", Value::Hex(va.0));
            fields(scope, ty, *va, out);
        }
        (Type::Pointer(to, _), _) => {
            let at = Va(raw(scope, value)?);
            field(&address(at), at.0);
            if to.is_struct() && !at.is_null() {
                fields(scope, to, at, out);
            } else if let Type::Scalar(scalar) = &**to
                && scalar.is_character()
                && let Some(text) = typed::text_at(at, scalar.size, 256, TextStyle::Value, scope)
            {
                out.text(" ");
                out.field("text", Value::Text(&text), &format!("\"{text}\""));
                out.end_line();
            }
        }
        (ty, home) => {
            let number = raw(scope, value)?;
            match (bits_of(home), ty.arithmetic()) {
                (Some(length), Some(scalar)) if !scalar.is_signed() => {
                    let digits = length as usize;
                    field(&format!("0y{number:0digits$b} (0x{number:x})"), number);
                }
                _ => field(&typed::value_text(ty, number, &scope.look), number),
            }
        }
    }
    Ok(())
}

fn bits_of(home: &Home) -> Option<u32> {
    match home {
        Home::Memory { bits: Some((_, length)), .. } => Some(*length),
        _ => None,
    }
}

fn raw(scope: &Scope, value: &TypedValue) -> Result<u64> {
    value.raw_in(scope).map_err(|error| Error::Usage(error.to_string()))
}

/// The first element of an array, in a line of its own.
fn element(scope: &Scope, value: &TypedValue, out: &Out<'_>) {
    let text = match (&value.ty, &value.home) {
        (ty, Home::Memory { va, .. }) if ty.is_struct() => return fields(scope, ty, *va, out),
        (Type::Array(..), _) => return,
        (ty, _) => match value.raw_in(scope) {
            Err(error) => format!("?? ({error})"),
            Ok(number) => typed::value_text(ty, number, &scope.look),
        },
    };
    out.field("first", Value::Text(&text), &text);
    out.end_line();
}

fn fields(scope: &Scope, ty: &Type, va: Va, out: &Out<'_>) {
    let Type::Named(types, id) = ty else { return };
    out.list("fields", |out| {
        for row in typed::field_rows(types, *id, va, scope) {
            out.record("", |out| {
                out.text("   ");
                let offset = format!("+0x{:03x}", row.offset);
                out.styled_field("offset", Value::Hex(row.offset), Style::Dim, &offset);
                out.text(" ");
                out.field("name", Value::Text(&row.name), &format!("{:<16}", row.name));
                out.text(" : ");
                let number = row.number.map_or(Value::Text(&row.text), Value::Hex);
                out.field("value", number, &row.text);
                out.end_line();
            });
        }
    });
}

fn formats(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let value = scope.evaluate_wide(call.args)?;
    let wide = scope.pointer_size() == 8 || !(value >> 32 == 0 || value >> 31 == 0x1_ffff_ffff);
    let bytes = value.to_be_bytes();
    let bytes = if wide { &bytes[..] } else { bytes.get(4..).unwrap_or_default() };
    let binary: Vec<String> = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let chars: String =
        bytes.iter().map(|byte| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '.' }).collect();
    let low = value as u32;
    let octal = if wide { format!("{value:022o}") } else { format!("{low:011o}") };
    let decimal = if wide { value as i64 } else { i64::from(low as i32) };
    let time = match u32::try_from(value) {
        Ok(0x8000_0000..) | Err(_) if !wide => "***** Invalid".to_owned(),
        Ok(stamp @ ..0x8000_0000) => date(stamp),
        _ if value >> 63 != 0 => "***** Invalid FILETIME".to_owned(),
        _ => time::session_time(value),
    };
    let single = |bits: u32| float::general(f64::from(f32::from_bits(bits)), 6);
    out.line("Evaluate expression:");
    let row = |label: &str, key: &str, field: Value<'_>, shown: &str| {
        out.text(&format!("  {label:<9}"));
        out.field(key, field, shown);
        out.end_line();
    };
    row("Hex:", "hex", Value::Hex(value), &Va(value).show(if wide { 8 } else { 4 }).to_string());
    row("Decimal:", "decimal", Value::Int(decimal), &decimal.to_string());
    row("Octal:", "octal", Value::Text(&octal), &octal);
    row("Binary:", "binary", Value::Text(&binary.join(" ")), &binary.join(" "));
    row("Chars:", "chars", Value::Text(&chars), &chars);
    row("Time:", "time", Value::Text(&time), &time);
    let floats = format!("low {} high {}", single(low), single((value >> 32) as u32));
    row("Float:", "float", Value::Text(&floats), &floats);
    let double = float::general(f64::from_bits(value), 6);
    row("Double:", "double", Value::Text(&double), &double);
    Ok(())
}

/// Seconds since 1970 as the C library writes them.
fn date(stamp: u32) -> String {
    time::Civil::from_file_time(time::file_time_of_stamp(stamp)).to_string()
}

fn choose(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let mut words = call.args.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "/q" => {
                for known in [Evaluator::Masm, Evaluator::Cpp] {
                    out.line(&format!("{:<4} - {}", known.name(), known.title()));
                }
            }
            "/s" => {
                let name = words.next().unwrap_or_default();
                session.variables.evaluator = Evaluator::named(name)
                    .ok_or_else(|| Error::Usage(format!("there is no evaluator '{name}': masm or c++")))?;
            }
            other => return Err(Error::Usage(format!(".expr takes /q and /s, not '{other}'"))),
        }
    }
    let current = session.variables.evaluator;
    out.text("Current expression evaluator: ");
    out.name("evaluator", current.name());
    out.line(&format!(" - {}", current.title()));
    Ok(())
}

fn printf(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let mut args = call.args;
    while let Some(rest) = args.strip_prefix('/') {
        // Colours and links are the renderer's.
        args = rest.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start());
    }
    let text = super::printf::format(args, &scope)?;
    out.field("text", Value::Text(&text), &text);
    Ok(())
}
