//! Images that a compiler made, loaded as the kernel's loader does: sections at their places, addresses moved.
//!
//! Facts: the PE format. Names come from the public symbols of the image's PDB.

use super::{Image, Section, Symbol};
use crate::lab::bytes::Bytes;
use crate::lab::layout::Machine;
use pdb::FallibleIterator;
use std::io::Cursor;

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Loads a file at `base`. `symbols` is its PDB.
pub fn built(machine: Machine, base: u64, name: &str, path: String, file: &[u8], symbols: Vec<u8>) -> Image {
    let pe = u32_at(file, 0x3c) as usize;
    let optional = pe + 24;
    let wide = machine != Machine::X86;
    let size = u32_at(file, optional + 0x38);
    let mut bytes = vec![0; size as usize];
    let headers = u32_at(file, optional + 0x3c) as usize;
    bytes[..headers].copy_from_slice(&file[..headers]);

    let mut sections = Vec::new();
    let table = optional + u16_at(file, pe + 20);
    for header in file[table..].chunks(40).take(u16_at(file, pe + 6)) {
        let [virtual_size, rva, raw_size, raw] = [8, 12, 16, 20].map(|at| u32_at(header, at));
        let take = raw_size.min(virtual_size) as usize;
        bytes[rva as usize..][..take].copy_from_slice(&file[raw as usize..][..take]);
        let name = String::from_utf8_lossy(&header[..8]).trim_end_matches('\0').to_owned();
        let size = virtual_size.next_multiple_of(0x1000);
        sections.push(Section { name, rva, size, characteristics: u32_at(header, 36) });
    }

    let directory = |index: usize| {
        let at = optional + if wide { 0x70 } else { 0x60 } + index * 8;
        (u32_at(file, at), u32_at(file, at + 4))
    };
    let (base_at, width) = if wide { (optional + 0x18, 8) } else { (optional + 0x1c, 4) };
    let mut preferred = [0; 8];
    preferred[..width].copy_from_slice(&file[base_at..base_at + width]);
    relocate(&mut bytes, directory(5), base.wrapping_sub(u64::from_le_bytes(preferred)));
    bytes.put(base_at, &base.to_le_bytes()[..width]);

    let debug = directory(6).0 as usize;
    let record = u32_at(&bytes, debug + 20) as usize;
    assert_eq!(&bytes[record..record + 4], b"RSDS");
    let mut guid = [0; 16];
    guid.copy_from_slice(&bytes[record + 4..record + 20]);
    let age = u32_at(&bytes, record + 20);
    let pdb = bytes[record + 24..].split(|&b| b == 0).next().unwrap_or(&[]);
    let pdb = String::from_utf8_lossy(pdb).into_owned();

    Image {
        name: name.into(),
        path,
        pdb,
        guid,
        age,
        base,
        size,
        time_date_stamp: u32_at(file, pe + 8),
        check_sum: u32_at(file, optional + 0x40),
        entry_point: u32_at(file, optional + 0x10),
        exception_table: if wide { directory(3) } else { (0, 0) },
        sections,
        symbols: publics(&symbols, machine),
        bytes,
        symbols_file: Some(symbols),
    }
}

/// Adds `distance` to every address that the relocation directory names.
fn relocate(bytes: &mut [u8], (rva, size): (u32, u32), distance: u64) {
    let mut at = rva as usize;
    while at < (rva + size) as usize {
        let (page, block) = (u32_at(bytes, at) as usize, u32_at(bytes, at + 4) as usize);
        for entry in (at + 8..at + block).step_by(2) {
            let (kind, offset) = (u16_at(bytes, entry) >> 12, u16_at(bytes, entry) & 0xfff);
            let width = match kind {
                0 => continue,
                3 => 4,
                10 => 8,
                _ => panic!("relocation of kind {kind}"),
            };
            let mut value = [0; 8];
            value[..width].copy_from_slice(&bytes[page + offset..][..width]);
            let moved = u64::from_le_bytes(value).wrapping_add(distance).to_le_bytes();
            bytes[page + offset..][..width].copy_from_slice(&moved[..width]);
        }
        at += block;
    }
}

/// The public symbols, without the decoration of 32-bit names, by address.
fn publics(file: &[u8], machine: Machine) -> Vec<Symbol> {
    let mut pdb = pdb::PDB::open(Cursor::new(file)).expect("a PDB");
    let map = pdb.address_map().expect("an address map");
    let table = pdb.global_symbols().expect("global symbols");
    let mut found = Vec::new();
    let mut symbols = table.iter();
    while let Some(symbol) = symbols.next().expect("a symbol") {
        let Ok(pdb::SymbolData::Public(public)) = symbol.parse() else { continue };
        let Some(rva) = public.offset.to_rva(&map) else { continue };
        let mut name = public.name.to_string().into_owned();
        if machine == Machine::X86 {
            let plain = name.strip_prefix(['_', '@']).unwrap_or(&name);
            name = plain.rsplit_once('@').map_or(plain, |p| p.0).to_owned();
        }
        found.push(Symbol { name, rva: rva.0, is_function: public.function || public.code });
    }
    found.sort_by(|a, b| (a.rva, &a.name).cmp(&(b.rva, &b.name)));
    found
}
