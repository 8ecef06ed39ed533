//! The type stream: structures of the layout table as CodeView records.

use super::super::bytes::Bytes;
use super::super::layout::{Machine, Structure};
use std::collections::HashMap;

const LF_POINTER: u16 = 0x1002;
const LF_FIELDLIST: u16 = 0x1203;
const LF_ARRAY: u16 = 0x1503;
const LF_STRUCTURE: u16 = 0x1505;
const LF_MEMBER: u16 = 0x150d;
const FORWARD_REFERENCE: u16 = 0x80;
const FIRST: u32 = 0x1000;

/// The stream with these structures.
pub fn stream(machine: Machine, structures: &[Structure]) -> Vec<u8> {
    let mut types = Types { machine, records: Vec::new(), count: 0, known: HashMap::new() };
    for structure in structures {
        types.define(structure);
    }
    let mut s = Vec::new();
    s.u32(20_040_203); // VC 8.0
    s.u32(56);
    for value in [FIRST, FIRST + types.count, types.records.len() as u32] {
        s.u32(value);
    }
    s.u16(0xffff); // no hash streams
    s.u16(0xffff);
    s.u32(4);
    s.u32(0x3ffff);
    s.resize(56, 0);
    s.extend(types.records);
    s
}

struct Types {
    machine: Machine,
    records: Vec<u8>,
    count: u32,
    known: HashMap<String, u32>,
}

impl Types {
    /// Adds a record and returns its index.
    fn add(&mut self, kind: u16, body: &[u8]) -> u32 {
        let mut record = kind.to_le_bytes().to_vec();
        record.extend(body);
        pad(&mut record, 2);
        self.records.u16(record.len() as u16);
        self.records.extend(record);
        self.count += 1;
        FIRST + self.count - 1
    }

    /// Adds a structure with its fields.
    fn define(&mut self, structure: &Structure) {
        let mut fields = Vec::new();
        for &(name, kind, offset) in &structure.fields {
            let index = self.resolve(kind);
            fields.u16(LF_MEMBER);
            fields.u16(3); // public
            fields.u32(index);
            number(&mut fields, offset);
            fields.extend(name.as_bytes());
            fields.push(0);
            pad(&mut fields, 0);
        }
        let fields = self.add(LF_FIELDLIST, &fields);
        let body = structure_body(structure.name, structure.fields.len() as u16, 0, fields, structure.size);
        let index = self.add(LF_STRUCTURE, &body);
        self.known.insert(structure.name.into(), index);
    }

    /// The index of a type as the layout table writes it. Structures not yet defined are referred to by name.
    fn resolve(&mut self, kind: &str) -> u32 {
        let wide = self.machine != Machine::X86;
        let simple = match kind {
            "u8" => 0x20,
            "u16" => 0x21,
            "u32" => 0x22,
            "u64" => 0x23,
            "uptr" if wide => 0x23,
            "uptr" => 0x22,
            "ptr" if wide => 0x603,
            "ptr" => 0x403,
            _ => 0,
        };
        if simple != 0 {
            return simple;
        }
        if let Some(&index) = self.known.get(kind) {
            return index;
        }
        let index = if let Some(target) = kind.strip_prefix("ptr ") {
            let target = self.resolve(target);
            let mut body = Vec::new();
            body.u32(target);
            body.u32(if wide { 0x1_000c } else { 0x800a }); // size and kind of pointer
            self.add(LF_POINTER, &body)
        } else if let Some((count, element)) = kind.strip_prefix('[').and_then(|k| k.split_once(']')) {
            assert_eq!(element, "u8", "arrays of bytes are the only ones so far");
            let element = self.resolve(element);
            let mut body = Vec::new();
            body.u32(element);
            body.u32(if wide { 0x23 } else { 0x22 });
            number(&mut body, count.parse().expect("a count"));
            body.push(0);
            self.add(LF_ARRAY, &body)
        } else {
            return self.add(LF_STRUCTURE, &structure_body(kind, 0, FORWARD_REFERENCE, 0, 0));
        };
        self.known.insert(kind.into(), index);
        index
    }
}

fn structure_body(name: &str, fields: u16, properties: u16, list: u32, size: u32) -> Vec<u8> {
    let mut body = Vec::new();
    body.u16(fields);
    body.u16(properties);
    body.u32(list);
    body.u32(0); // derived from
    body.u32(0); // shape of the virtual table
    number(&mut body, size);
    body.extend(name.as_bytes());
    body.push(0);
    body
}

/// A numeric leaf: the value itself below 0x8000, else a tag and the value.
fn number(bytes: &mut Vec<u8>, value: u32) {
    if value >= 0x8000 {
        bytes.u16(0x8004); // LF_ULONG
        bytes.u32(value);
    } else {
        bytes.u16(value as u16);
    }
}

/// Pads to four bytes, counting `extra` bytes before the buffer, with bytes that tell how many are left.
fn pad(bytes: &mut Vec<u8>, extra: usize) {
    let end = (bytes.len() + extra).next_multiple_of(4) - extra;
    while bytes.len() < end {
        bytes.push(0xf0 | (end - bytes.len()) as u8);
    }
}
