//! The layout tables in `kernels/layouts`: whole structures of each generation, as its kernel's symbols have them.
//!
//! `kernels/layouts.py` writes the tables from real symbols and tells their form.

use std::collections::HashMap;

/// A field: where it is, what it is, and which bits of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// Offset from the start of the outermost structure.
    pub offset: u64,
    /// Type as the table writes it, without bits.
    pub kind: &'a str,
    /// First bit and number of bits, for a bit field.
    pub bits: Option<(u32, u32)>,
}

#[derive(Debug)]
struct Structure {
    size: u64,
    /// How much of it public symbols tell.
    told: u64,
    fields: HashMap<&'static str, Field<'static>>,
}

/// The structures of one generation.
#[derive(Debug)]
pub struct Table {
    structures: HashMap<&'static str, Structure>,
    pointer: u64,
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_else(|_| panic!("{text} is no number"))
}

impl Table {
    /// Reads a table's text.
    pub fn parse(text: &'static str, pointer: u64) -> Table {
        let mut structures = HashMap::new();
        let mut current = None;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (first, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            match (line.starts_with(' '), first) {
                (false, "enum") => current = None,
                (false, _) => {
                    let size = hex(words.next().expect("a size"));
                    let told = words.next().map_or(size, hex);
                    structures.insert(name, Structure { size, told, fields: HashMap::new() });
                    current = Some(name);
                }
                (true, _) => {
                    let Some(structure) = current.and_then(|name| structures.get_mut(name)) else { continue };
                    let at = line.find(name).expect("the name is there") + name.len();
                    let kind = line[at..].trim();
                    let bits = kind.split_once(':').and_then(|(_, bits)| bits.split_once('@'));
                    let bits = bits.map(|(count, first)| {
                        (first.parse().expect("a bit"), count.parse().expect("a count of bits"))
                    });
                    let kind = kind.split_once(':').map_or(kind, |k| k.0);
                    structure.fields.insert(name, Field { offset: hex(first), kind, bits });
                }
            }
        }
        Table { structures, pointer }
    }

    /// How much of a structure the symbols tell.
    pub fn told(&self, structure: &str) -> Option<u64> {
        self.structures.get(structure).map(|s| s.told)
    }

    /// Size of a structure.
    pub fn size(&self, structure: &str) -> Option<u64> {
        self.structures.get(structure).map(|s| s.size)
    }

    /// Whether symbols tell a field of the structure itself.
    pub fn tells(&self, structure: &str, field: &str) -> bool {
        let found = self.structures.get(structure);
        found.is_some_and(|s| s.fields.get(field).is_some_and(|field| field.offset < s.told))
    }

    /// A field by its path, as in `_MMPFN.u3.e1.PageLocation`; steps go into structures, with or without name.
    pub fn field(&self, path: &str) -> Option<Field<'_>> {
        let mut steps = path.split('.');
        let mut structure = steps.next()?;
        let mut offset = 0;
        let mut found = None;
        for step in steps {
            let field = self.structures.get(structure)?.fields.get(step)?;
            offset += field.offset;
            structure = field.kind.rsplit(']').next().unwrap_or(field.kind); // the first element of an array
            found = Some(Field { offset, ..*field });
        }
        found
    }

    /// How many bytes a type takes.
    pub fn width(&self, kind: &str) -> u64 {
        if let Some((count, element)) = kind.strip_prefix('[').and_then(|k| k.split_once(']')) {
            return count.parse::<u64>().expect("a count") * self.width(element);
        }
        match kind {
            "u8" | "i8" => 1,
            "u16" | "i16" | "wchar" => 2,
            "u32" | "i32" | "f32" => 4,
            "u64" | "i64" | "f64" => 8,
            "fn" => self.pointer,
            _ if kind.starts_with('*') => self.pointer,
            _ if kind.starts_with("enum ") => 4,
            _ => self.size(kind).unwrap_or(self.pointer),
        }
    }
}
