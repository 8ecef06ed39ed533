//! Values of types as KD's `dt` and `??` write them.
//!
//! The look: unsigned numbers in hexadecimal (64-bit ones beyond 32 bits with a grave accent), signed ones in
//! decimal after `0n`, characters after their number, bit fields in binary after `0y`, pointers with the name of what
//! they point to, well-known structures with their meaning.

use super::{Memory, Scalar, Type};
use crate::look::Look;
use crate::symbols::{Field, Kind, ModuleTypes, TypeId};
use crate::target::float;
use kd_sdk::address::Va;

/// Characters of a string that are shown.
const STRING: usize = 256;

/// A field of a structure, ready to be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldRow {
    /// Bytes from the start of the structure.
    pub offset: u64,
    /// Name.
    pub name: String,
    /// The value, as `dt` has it right of the colon.
    pub text: String,
    /// The value as a number, where it is one.
    pub number: Option<u64>,
    /// The type.
    pub id: TypeId,
}

impl FieldRow {
    /// The line, `   +0x000 Flink            : 0x…`.
    pub fn line(&self) -> String {
        format!("   +0x{:03x} {:<16} : {}", self.offset, self.name, self.text)
    }
}

/// The fields of the structure `id` at `va`, one level deep.
pub fn field_rows(types: &ModuleTypes, id: TypeId, va: Va, memory: &dyn Memory) -> Vec<FieldRow> {
    types
        .fields(id)
        .iter()
        .map(|field| {
            let (text, number) = field_text(types, field, va.add(field.offset), memory);
            FieldRow { offset: field.offset, name: field.name.to_string(), text, number, id: field.id }
        })
        .collect()
}

/// A field's value, given the address of the field itself; and the value as a number, where it is one.
pub fn field_text(types: &ModuleTypes, field: &Field, va: Va, memory: &dyn Memory) -> (String, Option<u64>) {
    let number = match field.kind {
        Kind::Struct => return (structure(types, field.id, va, memory), None),
        Kind::Array => return (array(types, field, va, memory), None),
        _ => number_at(va, field.size, memory),
    };
    let number = match number {
        Ok(number) => number,
        Err(why) => return (format!("?? ({why})"), None),
    };
    let (text, number) = match field.kind {
        Kind::Bits => {
            let value = bits(number, field.bit_position, field.bit_length);
            (bit_text(value, field.bit_length), value)
        }
        Kind::Pointer => (pointer(types, field, number, memory), number),
        Kind::Enum => (enumeration(types, field.id, number, field.size), number),
        _ => match super::scalar::of_pdb(types, field.id) {
            // Here, unlike in `??`, a character's number has no mark.
            Some(scalar) if scalar.is_signed() && scalar.is_character() => {
                (format!("{} {}", signed(number, scalar.size), character(number)), number)
            }
            Some(scalar) => (scalar_text(scalar, number, &memory.look()), number),
            None => (self::number(number), number),
        },
    };
    (text, Some(number))
}

/// `size` bytes (at most 8) as a number.
pub fn number_at(va: Va, size: u64, memory: &dyn Memory) -> Result<u64, String> {
    let mut bytes = [0; 8];
    let wanted = usize::try_from(size).ok().filter(|size| (1..=8).contains(size));
    let place =
        wanted.and_then(|size| bytes.get_mut(..size)).ok_or("this type cannot be read as a number")?;
    memory.read(va, place)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Some bits of a number.
pub fn bits(number: u64, position: u32, length: u32) -> u64 {
    let mask = 1u64.checked_shl(length).map_or(u64::MAX, |bit| bit - 1);
    number.checked_shr(position).unwrap_or(0) & mask
}

/// `0y101`, and from five bits on the number too.
fn bit_text(value: u64, length: u32) -> String {
    let width = length as usize;
    match length {
        0..5 => format!("0y{value:0width$b}"),
        _ => format!("0y{value:0width$b} ({})", hex(value)),
    }
}

/// `0`, `9`, `0x12`, `0x01d1c1a2`c9e4b4e0`.
fn number(value: u64) -> String {
    if value < 10 { value.to_string() } else { hex(value) }
}

/// `0`, `0x9`, `0x12`.
fn hex(value: u64) -> String {
    match value {
        0 => "0".to_owned(),
        _ if value >> 32 == 0 => format!("{value:#x}"),
        _ => format!("0x{}", Va(value)),
    }
}

/// A value of a built-in type, given its bits.
pub fn scalar_text(scalar: &Scalar, value: u64, look: &Look) -> String {
    match (scalar.kind, scalar.size) {
        (Kind::Float, 4) => float::general(f64::from(f32::from_bits(value as u32)), 9),
        (Kind::Float, _) => float::general(f64::from_bits(value), 17),
        _ if scalar.name == "bool" => if value == 0 { "false" } else { "true" }.to_owned(),
        (_, size) => {
            let shown = match (scalar.is_signed(), scalar.is_character()) {
                (true, _) => look.signed(signed(value, size), size, scalar.name == "long"),
                (false, true) => hex(value),
                (false, false) => number(value),
            };
            if scalar.is_character() { format!("{shown} {}", character(value)) } else { shown }
        }
    }
}

/// A value of a type that is a number, an enumeration or a pointer, given its bits, as `??` shows it after the type.
pub fn value_text(ty: &Type, value: u64, look: &Look) -> String {
    match (ty, ty.arithmetic()) {
        (Type::Named(types, id), Some(scalar)) => {
            let signed = signed(value, scalar.size);
            let name = types.enum_name(*id, signed);
            format!("{} (0n{signed})", name.as_deref().unwrap_or("<unknown>"))
        }
        (Type::Scalar(_), Some(scalar)) => scalar_text(scalar, value, look),
        (Type::Pointer(_, 4), _) => format!("0x{}", Va(value).show(4)),
        (Type::Pointer(..) | Type::Array(..), _) => format!("0x{}", Va(value)),
        _ => hex(value),
    }
}

/// Sign-extends a number of `size` bytes.
pub fn signed(value: u64, size: u64) -> i64 {
    let unused = 64u32.saturating_sub(u32::try_from(size.saturating_mul(8)).unwrap_or(64));
    (value as i64).checked_shl(unused).map_or(0, |value| value >> unused)
}

/// `'S'`, or `''` for what cannot be shown.
fn character(value: u64) -> String {
    let c = u32::try_from(value & 0xffff).ok().and_then(char::from_u32).filter(|c| (' '..='~').contains(c));
    format!("'{}'", c.map(String::from).unwrap_or_default())
}

/// How a text of the target is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextStyle {
    /// As `dt` and `??` show strings: it ends at the first control character, others than ASCII are `?`.
    Value,
    /// As `da` and `du` show memory: it ends at a NUL, what cannot be shown is `.`.
    Memory,
    /// As it is, line ends too; it ends at a NUL.
    Whole,
    /// Of known length: a NUL does not end it; what cannot be shown is `.`.
    Counted,
}

impl TextStyle {
    /// The character to show for a code; `None` where the text ends.
    fn character(self, code: u64, unit: u64) -> Option<char> {
        let (ends, unknown) = match self {
            TextStyle::Value => (code < 0x20, '?'),
            TextStyle::Memory => (code == 0, '.'),
            TextStyle::Whole => (code == 0, '?'),
            TextStyle::Counted => (false, '.'),
        };
        let line_end = self == TextStyle::Whole && matches!(code, 9 | 10 | 13);
        let c = u32::try_from(code).ok().and_then(char::from_u32).filter(|c| !c.is_control() || line_end);
        let c = c.filter(|_| unit == 2 || code < 0x7f).unwrap_or(unknown);
        (!ends).then_some(c)
    }
}

/// The text at `va`, at most `limit` characters of `unit` (1 or 2) bytes; `None` where nothing can be read.
pub fn text_at(va: Va, unit: u64, limit: usize, style: TextStyle, memory: &dyn Memory) -> Option<String> {
    let mut text = String::new();
    for index in 0..limit as u64 {
        let code = match number_at(va.add(index.wrapping_mul(unit)), unit, memory) {
            Ok(code) => code,
            Err(_) if index == 0 => return None,
            Err(_) => break,
        };
        match style.character(code, unit) {
            Some(c) => text.push(c),
            None => break,
        }
    }
    Some(text)
}

fn pointer(types: &ModuleTypes, field: &Field, value: u64, memory: &dyn Memory) -> String {
    if value == 0 {
        return "(null) ".to_owned();
    }
    let name = types.name(field.id);
    let to = name.split_once(' ').map_or("", |(_, to)| to);
    let shown = Va(value).show(field.size as u32);
    if to.starts_with(' ') {
        // A function.
        let target = memory.name_of(Va(value)).unwrap_or_default();
        return format!("0x{shown} {} {target}", to.trim_end()).trim_end().to_owned();
    }
    let unit = match to {
        "Char" | "UChar" => 1,
        "Wchar" => 2,
        "Uint2B" if memory.look().unicode => 2,
        _ => return format!("0x{shown} {to}"),
    };
    match text_at(Va(value), unit, STRING, TextStyle::Value, memory) {
        Some(text) => format!("0x{shown}  \"{text}\""),
        None => format!("0x{shown}  \"--- memory read error at address 0x{shown} ---\""),
    }
}

fn enumeration(types: &ModuleTypes, id: TypeId, value: u64, size: u64) -> String {
    let value = signed(value, size);
    match types.enum_name(id, value) {
        Some(name) => format!("{value} ( {name} )"),
        None => format!("{value} (No matching name)"),
    }
}

fn array(types: &ModuleTypes, field: &Field, va: Va, memory: &dyn Memory) -> String {
    let count = field.count;
    let element = types.name(field.element);
    let size = types.size(field.element);
    let unit = match element.as_str() {
        "Char" | "UChar" => 1,
        "Wchar" => 2,
        "Uint2B" if memory.look().unicode => 2,
        _ => 0,
    };
    if unit > 0 {
        let limit = usize::try_from(count).unwrap_or(STRING).min(STRING);
        return match text_at(va, unit, limit, TextStyle::Value, memory) {
            Some(text) => format!("[{count}]  \"{text}\""),
            None => format!("[{count}]  \"??\""),
        };
    }
    let kind = types.kind(field.element);
    if kind == Kind::Array {
        return format!("[{count}] {element}");
    }
    let first = Field {
        kind,
        size,
        id: field.element,
        element: types.element(field.element).unwrap_or(field.element),
        ..Field::default()
    };
    format!("[{count}] {}", field_text(types, &first, va, memory).0)
}

/// The name of a structure, and what it says where KD knows how to tell.
fn structure(types: &ModuleTypes, id: TypeId, va: Va, memory: &dyn Memory) -> String {
    let name = types.name(id);
    let pointer = types.pointer_size();
    let show = |value: u64| format!("0x{}", Va(value).show(pointer as u32));
    let at = |offset, size| number_at(va.add(offset), size, memory);
    let meaning = match name.as_str() {
        "_LIST_ENTRY" => match (at(0, pointer), at(pointer, pointer)) {
            (Ok(flink), Ok(blink)) => Some(format!("[ {} - {} ]", show(flink), show(blink))),
            _ => None,
        },
        "_SINGLE_LIST_ENTRY" => at(0, pointer).ok().map(|next| format!("[ {} ]", show(next))),
        "_LARGE_INTEGER" | "_ULARGE_INTEGER" => at(0, 8).ok().map(|value| format!("0x{}", Va(value))),
        "_UNICODE_STRING" | "_STRING" | "_ANSI_STRING" => {
            let unit = if name == "_UNICODE_STRING" { 2 } else { 1 };
            match (at(0, 2), at(pointer, pointer)) {
                (Ok(0), _) | (Ok(_), Ok(0)) => Some("\"\"".to_owned()),
                (Ok(length), Ok(buffer)) => {
                    let limit = usize::try_from(length / unit).unwrap_or(STRING).min(STRING);
                    let text = text_at(Va(buffer), unit, limit, TextStyle::Counted, memory);
                    Some(text.map_or_else(
                        || format!("\"--- memory read error at address {} ---\"", show(buffer)),
                        |text| format!("\"{text}\""),
                    ))
                }
                _ => None,
            }
        }
        _ => None,
    };
    match meaning {
        Some(meaning) => format!("{name} {meaning}"),
        None => name,
    }
}
