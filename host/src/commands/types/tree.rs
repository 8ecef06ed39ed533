//! The lines of `dt`: the fields of a structure, opened as deep as asked for.

use super::arguments::Arguments;
use crate::symbols::{Field, Kind, ModuleTypes, TypeId};
use crate::typed::{self, Memory};
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};

/// Structures in structures in structures: where it ends.
const DEEPEST: u32 = 32;
/// Columns of a name, where no names were asked for.
const WIDTH: usize = 16;
/// Elements of one array on lines of their own.
const ELEMENTS: u64 = 4096;

/// Shows types and values.
pub struct Tree<'a> {
    /// Where lines go.
    pub out: &'a Out<'a>,
    /// The types.
    pub types: &'a ModuleTypes,
    /// The values' memory.
    pub memory: &'a dyn Memory,
    /// What was asked for.
    pub arguments: &'a Arguments<'a>,
    /// True once Ctrl+C was pressed.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// A field that was asked for: `Cid.`, `Name[2].Flink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The first name, with its subscripts apart.
    name: &'a str,
    subscripts: &'a str,
    /// True where the name is only the start of one.
    start: bool,
    /// What follows the first dot.
    rest: Option<&'a str>,
    /// Dots at the end: levels to open.
    levels: u32,
    /// Characters of the text, which is how wide KD makes the column.
    width: usize,
}

impl<'a> Asked<'a> {
    /// Reads a field's path.
    pub fn parse(text: &'a str, start: bool) -> Asked<'a> {
        let path = text.trim_end_matches('.');
        let levels = u32::try_from(text.len() - path.len()).unwrap_or(0);
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let open = first.find('[').unwrap_or(first.len());
        let (name, subscripts) = first.split_at_checked(open).unwrap_or((first, ""));
        let start = start || levels > 0;
        Asked { name, subscripts, start, rest, levels, width: text.len() }
    }

    fn takes(&self, name: &str) -> bool {
        let length = self.name.len();
        let head = if self.start { name.get(..length) } else { Some(name) };
        head.is_some_and(|head| head.eq_ignore_ascii_case(self.name))
    }

    /// What is asked of the field itself.
    fn inner(&self) -> Option<Asked<'a>> {
        let rest = self.rest?;
        Some(Asked { levels: self.levels, width: self.width, ..Asked::parse(rest, false) })
    }
}

/// Where a line stands.
#[derive(Clone, Copy)]
struct Place {
    /// The address of the structure; `None` for a layout.
    base: Option<Va>,
    /// How deep the line is indented.
    level: u32,
    /// Levels left to open.
    open: u32,
    /// Columns of a name.
    width: usize,
}

impl Tree<'_> {
    /// Every field of a structure, or the names of an enumeration; `None` for the layout alone.
    pub fn show(&self, id: TypeId, base: Option<Va>) -> Result<()> {
        let open = if self.arguments.blocks { DEEPEST } else { self.arguments.levels.min(DEEPEST) };
        let place = Place { base, level: 0, open, width: WIDTH };
        match self.types.kind(id) {
            Kind::Enum if base.is_none() => self.enumeration(id),
            Kind::Struct => {
                let result = self.out.list("fields", |_| self.fields(id, place));
                self.end_compact();
                result
            }
            _ => {
                let field = self.types.whole(id);
                let text = match base {
                    Some(va) => typed::field_text(self.types, &field, va, self.memory).0,
                    None => self.type_text(&field),
                };
                self.out.name("value", &text);
                self.out.end_line();
                Ok(())
            }
        }
    }

    /// The fields that were asked for, in the structure's order. Whether any was found.
    pub fn some(&self, id: TypeId, base: Option<Va>, asked: &[Asked<'_>]) -> Result<bool> {
        let width = asked.iter().map(|asked| asked.width).max().unwrap_or(0);
        if self.types.kind(id) == Kind::Enum {
            return Ok(self.enumeration_names(id, asked));
        }
        let place = Place { base, level: 0, open: self.arguments.levels.min(DEEPEST), width };
        let found = self.out.list("fields", |_| self.selected(id, place, asked));
        self.end_compact();
        found
    }

    fn end_compact(&self) {
        if self.arguments.compact {
            self.out.end_line();
        }
    }

    fn selected(&self, id: TypeId, place: Place, asked: &[Asked<'_>]) -> Result<bool> {
        let fields = self.types.fields(id);
        let mut any = false;
        let mut missing: Vec<&Asked<'_>> = asked.iter().collect();
        for field in fields.iter() {
            for asked in asked.iter().filter(|asked| asked.takes(&field.name)) {
                missing.retain(|other| *other != asked);
                any |= self.one(id, field, place, asked)?;
            }
        }
        // Members of unnamed members count as the structure's own.
        for asked in missing {
            if let Some(field) = self.types.field(id, asked.name) {
                any |= self.one(id, &field, place, asked)?;
            }
        }
        Ok(any)
    }

    /// One field that was asked for, and what was asked of it.
    fn one(&self, id: TypeId, field: &Field, place: Place, asked: &Asked<'_>) -> Result<bool> {
        let subscripted = if asked.subscripts.is_empty() {
            None
        } else {
            match self.types.field(id, &format!("{}{}", field.name, asked.subscripts)) {
                Some(element) => Some(element),
                None => return Ok(false),
            }
        };
        let field = match subscripted {
            Some(element) => Field { name: format!("{}{}", field.name, asked.subscripts).into(), ..element },
            None => field.clone(),
        };
        let inner = asked.inner();
        if inner.is_none() && asked.levels == 0 {
            return self.field(&field, place).map(|()| true);
        }
        let (to, base) = match field.kind {
            Kind::Pointer => (field.element, self.pointer(&field, place.base)),
            Kind::Array => (field.element, place.base.map(|base| base.add(field.offset))),
            _ => (field.id, place.base.map(|base| base.add(field.offset))),
        };
        let text = if field.kind == Kind::Struct { String::new() } else { self.text(&field, place.base) };
        self.open_record(&field, place, &text, || {
            if place.base.is_some() && base.is_none() {
                return Ok(true);
            }
            let place = Place { base, level: place.level + 1, ..place };
            self.out.list("fields", |_| match inner {
                Some(inner) => self.selected(to, place, &[inner]),
                None => {
                    self.fields(to, Place { open: asked.levels.saturating_sub(1).min(DEEPEST), ..place })?;
                    Ok(true)
                }
            })
        })
    }

    /// The address in a pointer field; `None` where it is null, cannot be read, or there are no values.
    fn pointer(&self, field: &Field, base: Option<Va>) -> Option<Va> {
        let number = typed::number_at(base?.add(field.offset), field.size, self.memory).ok()?;
        (number != 0).then_some(Va(number))
    }

    fn fields(&self, id: TypeId, place: Place) -> Result<()> {
        for field in self.types.fields(id).iter() {
            self.field(field, place)?;
        }
        Ok(())
    }

    /// One field and what it opens.
    fn field(&self, field: &Field, place: Place) -> Result<()> {
        if (self.interrupted)() {
            return Err(Error::Interrupted);
        }
        let text = self.text(field, place.base);
        let elements = self.arguments.elements.filter(|_| field.kind == Kind::Array && place.base.is_some());
        let shown = match elements {
            Some(_) => format!("[{}] ", field.count),
            None => text,
        };
        self.open_record(field, place, &shown, || {
            let below = place.base.map(|base| base.add(field.offset));
            if let (Some(limit), Some(below)) = (elements, below) {
                return self.elements(field, below, place, limit);
            }
            let Some(open) = place.open.checked_sub(1) else { return Ok(()) };
            let inside = Place { base: below, level: place.level + 1, open, width: WIDTH };
            let structure = |id| self.types.kind(id) == Kind::Struct;
            match field.kind {
                Kind::Struct => self.out.list("fields", |_| self.fields(field.id, inside)),
                Kind::Array if structure(field.element) => {
                    self.out.list("fields", |_| self.fields(field.element, inside))
                }
                Kind::Pointer if structure(field.element) && !self.arguments.blocks => {
                    let base = self.pointer(field, place.base);
                    if place.base.is_some() && base.is_none() {
                        return Ok(());
                    }
                    self.out.list("fields", |_| self.fields(field.element, Place { base, ..inside }))
                }
                _ => Ok(()),
            }
        })
    }

    /// The elements of an array, each on a line.
    fn elements(&self, field: &Field, va: Va, place: Place, limit: u64) -> Result<()> {
        let size = self.types.size(field.element).max(1);
        let element = self.types.whole(field.element);
        let count = field.count.min(limit).min(ELEMENTS);
        self.out.list("elements", |out| {
            for n in 0..count {
                if (self.interrupted)() {
                    return Err(Error::Interrupted);
                }
                let at = va.add(n.wrapping_mul(size));
                let text = typed::field_text(self.types, &element, at, self.memory).0;
                out.record("", |out| -> Result<()> {
                    out.text(&self.indent(place.level + 1));
                    out.text(" ");
                    out.field("index", Value::UInt(n), &format!("[{n:02}] "));
                    out.name("value", &text);
                    out.end_line();
                    match place.open.checked_sub(1) {
                        Some(open) if element.kind == Kind::Struct => {
                            let inside = Place { base: Some(at), level: place.level + 2, open, width: WIDTH };
                            out.list("fields", |_| self.fields(field.element, inside))
                        }
                        _ => Ok(()),
                    }
                })?;
            }
            Ok(())
        })
    }

    fn indent(&self, level: u32) -> String {
        if self.arguments.flat { "   ".to_owned() } else { "   ".repeat(level as usize) }
    }

    /// A field's line, and under it whatever `below` shows.
    fn open_record<T>(&self, field: &Field, place: Place, text: &str, below: impl FnOnce() -> T) -> T {
        self.out.record("", |out| {
            if self.arguments.compact {
                out.text(if place.level == 0 { "  " } else { " " });
            } else {
                out.text(&self.indent(place.level + 1));
            }
            let offset =
                if self.arguments.no_offsets { String::new() } else { format!("+0x{:03x} ", field.offset) };
            out.field("offset", Value::Hex(field.offset), &offset);
            let name = format!("{:<width$}", field.name, width = place.width);
            out.field("name", Value::Text(&field.name), &name);
            out.text(" : ");
            if field.kind == Kind::Bits {
                out.data("bit_position", Value::UInt(field.bit_position.into()));
                out.data("bit_length", Value::UInt(field.bit_length.into()));
            }
            match place.base {
                Some(base) => {
                    out.data("type", Value::Text(&self.types.name(field.id)));
                    out.name("value", text);
                    if let Some(number) = self.number(field, base) {
                        out.data("number", number);
                    }
                }
                None => {
                    out.data("size", Value::UInt(field.size));
                    out.styled_field("type", Value::Text(text), Style::Normal, text);
                }
            }
            if !self.arguments.compact {
                out.end_line();
            }
            below()
        })
    }

    /// What stands right of the colon.
    fn text(&self, field: &Field, base: Option<Va>) -> String {
        match base {
            Some(base) => typed::field_text(self.types, field, base.add(field.offset), self.memory).0,
            None => self.type_text(field),
        }
    }

    /// A number for programs, where the field is one.
    fn number(&self, field: &Field, base: Va) -> Option<Value<'static>> {
        let (Kind::Uint | Kind::Int | Kind::Enum | Kind::Pointer | Kind::Bits) = field.kind else {
            return None;
        };
        let raw = typed::number_at(base.add(field.offset), field.size, self.memory).ok()?;
        Some(match field.kind {
            Kind::Bits => Value::UInt(typed::bits(raw, field.bit_position, field.bit_length)),
            Kind::Int | Kind::Enum => Value::Int(typed::signed(raw, field.size)),
            Kind::Pointer => Value::Hex(raw),
            _ => Value::UInt(raw),
        })
    }

    fn type_text(&self, field: &Field) -> String {
        if self.arguments.verbose { self.types.verbose_name(field.id) } else { self.types.name(field.id) }
    }

    fn enumeration(&self, id: TypeId) -> Result<()> {
        self.enumeration_names(id, &[]);
        Ok(())
    }

    fn enumeration_names(&self, id: TypeId, asked: &[Asked<'_>]) -> bool {
        let mut any = false;
        self.out.list("values", |out| {
            for value in self.types.enum_values(id).iter() {
                if !asked.is_empty() && !asked.iter().any(|asked| asked.takes(&value.name)) {
                    continue;
                }
                any = true;
                out.record("", |out| {
                    out.text("   ");
                    out.name("name", &value.name);
                    out.field("value", Value::Int(value.value), &format!(" = 0n{}", value.value));
                    out.end_line();
                });
            }
        });
        any
    }
}
