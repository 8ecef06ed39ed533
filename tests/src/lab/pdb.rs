//! Symbols for an image of the laboratory: a small PDB.
//!
//! Facts: LLVM's description of the PDB format and Microsoft's `microsoft-pdb`. Written: the container (MSF 7.0), the
//! info stream, types and ids, one module without symbols, section contributions and headers, publics. Not written:
//! globals with types, procedures, lines; the tables that would find types by hash.

mod msf;
mod types;

use super::bytes::Bytes;
use super::image::{Image, Symbol, section_header};
use super::layout::{Generation, Machine, Structure};
use msf::Container;

/// Stream numbers. The first five are fixed by the format.
const INFO: usize = 1;
const TYPES: usize = 2;
const DEBUG: usize = 3;
const IDS: usize = 4;
const GLOBALS: u16 = 5;
const PUBLICS: u16 = 6;
const RECORDS: u16 = 7;
const SECTIONS: u16 = 8;

/// The PDB of an image, with the structures of its generation if it is the kernel.
pub fn pdb(generation: &Generation, image: &Image) -> Vec<u8> {
    let structures = if image.name == "ntoskrnl.exe" { generation.structures() } else { Vec::new() };
    written(generation, image, &image.symbols, &structures)
}

/// A PDB as large programs have them: `names` more functions `Large_N`, and every structure `copies` times more.
pub fn large(generation: &Generation, image: &Image, names: u32, copies: usize) -> Vec<u8> {
    let base = generation.structures();
    let mut structures = generation.structures();
    for copy in 0..copies {
        structures.extend(base.iter().map(|known| Structure {
            // The table's names live as long as the program, and so do these.
            name: Box::leak(format!("{}_{copy}", known.name).into_boxed_str()),
            size: known.size,
            fields: known.fields.clone(),
        }));
    }
    let code = &image.sections[0];
    let more = (0..names).map(|n| Symbol {
        name: format!("Large_{n}_of_the_names_that_a_program_of_this_size_has_in_all"),
        rva: code.rva + n.wrapping_mul(0x9e37) % code.size,
        is_function: true,
    });
    let symbols: Vec<Symbol> = more.collect();
    written(generation, image, &symbols, &structures)
}

fn written(generation: &Generation, image: &Image, symbols: &[Symbol], structures: &[Structure]) -> Vec<u8> {
    let (records, publics) = publics(image, symbols);
    let mut container = Container::new(9);
    container.stream(INFO).extend(info(image));
    container.stream(TYPES).extend(types::stream(generation.machine, structures));
    container.stream(IDS).extend(types::stream(generation.machine, &[]));
    container.stream(DEBUG).extend(debug(generation.machine, image));
    container.stream(GLOBALS.into()).extend(hash_table(&[]));
    container.stream(PUBLICS.into()).extend(publics);
    container.stream(RECORDS.into()).extend(records);
    container.stream(SECTIONS.into()).extend(image.sections.iter().flat_map(section_header));
    container.finish()
}

/// Who this PDB belongs to.
fn info(image: &Image) -> Vec<u8> {
    let mut s = Vec::new();
    s.u32(20_000_404); // VC 7.0
    s.u32(image.time_date_stamp);
    s.u32(image.age);
    s.extend(image.guid);
    for value in [0, 0, 1, 0, 0, 0] {
        s.u32(value); // no named streams: no text, a hash table of capacity one without entries, no more names
    }
    s.u32(20_140_508); // VC 14.0: there is an id stream
    s
}

/// The debug stream: header, the module, its contributions, the section map, source files, optional streams.
fn debug(machine: Machine, image: &Image) -> Vec<u8> {
    let contribution = |index: usize| {
        let section = &image.sections[index];
        let mut c = Vec::new();
        c.u16(index as u16 + 1);
        c.u16(0);
        c.u32(0);
        c.u32(section.size);
        c.u32(section.characteristics);
        c.u16(0); // module
        c.u16(0);
        c.u32(0);
        c.u32(0);
        c
    };
    let mut module = vec![0; 4];
    module.extend(contribution(0));
    module.u16(0);
    module.u16(0xffff); // no stream
    module.resize(module.len() + 12, 0); // sizes of symbols and lines
    module.u16(0); // source files
    module.u16(0);
    module.resize(module.len() + 12, 0);
    module.extend(b"* Linker *\0\0");
    module.align(4);

    let mut contributions = Vec::new();
    contributions.u32(0xeffe_0000 + 19_970_605);
    contributions.extend((0..image.sections.len()).flat_map(contribution));

    let mut map = Vec::new();
    let entries = image.sections.len() as u16 + 1;
    map.u16(entries);
    map.u16(entries);
    for index in 0..entries {
        let section = image.sections.get(usize::from(index));
        map.u16(if section.is_some() { 0x10d } else { 0x208 }); // read, execute, 32-bit, selector; or absolute
        map.u16(0);
        map.u16(0);
        map.u16(index + 1);
        map.u32(0xffff_ffff); // no names
        map.u32(0);
        map.u32(section.map_or(u32::MAX, |s| s.size));
    }

    let mut sources = Vec::new();
    for value in [1, 0, 0, 0] {
        sources.u16(value); // one module, no files: its first index and count are zero
    }

    let mut names = Vec::new(); // a string table that holds the empty string
    for value in [0xeffe_effe, 1, 4, 0, 1, 0, 0] {
        names.u32(value);
    }

    let mut optional = Vec::new();
    for slot in 0..11 {
        optional.u16(if slot == 5 { SECTIONS } else { 0xffff });
    }

    let mut s = Vec::new();
    s.u32(u32::MAX);
    s.u32(19_990_903); // VC 7.0
    s.u32(image.age);
    for value in [GLOBALS, 0x8e0e, PUBLICS, 0, RECORDS, 0] {
        s.u16(value); // with linker 14.14 and no mspdb build
    }
    for part in [&module, &contributions, &map, &sources] {
        s.u32(part.len() as u32);
    }
    for value in [0, 0, optional.len() as u32, names.len() as u32] {
        s.u32(value); // type servers, MFC, optional streams, edit and continue
    }
    s.u16(0);
    s.u16(machine.image_type());
    s.u32(0);
    for part in [module, contributions, map, sources, names, optional] {
        s.extend(part);
    }
    s
}

/// The symbol records, and the stream that finds them by name and by address.
fn publics(image: &Image, symbols: &[Symbol]) -> (Vec<u8>, Vec<u8>) {
    let mut records = Vec::new();
    let mut names = Vec::new();
    let mut addresses = Vec::new();
    for symbol in symbols {
        let section = image.sections.iter().rposition(|s| s.rva <= symbol.rva).expect("in a section");
        // 32-bit C names have an underscore in front.
        let name =
            if image.exception_table.0 == 0 { format!("_{}", symbol.name) } else { symbol.name.clone() };
        let offset = records.len() as u32;
        let mut record = Vec::new();
        record.u16(0x110e); // S_PUB32
        record.u32(if symbol.is_function { 2 } else { 0 });
        record.u32(symbol.rva - image.sections[section].rva);
        record.u16(section as u16 + 1);
        record.extend(name.as_bytes());
        record.push(0);
        record.resize((record.len() + 2).next_multiple_of(4) - 2, 0);
        records.u16(record.len() as u16);
        records.extend(record);
        names.push((name, offset));
        addresses.push((symbol.rva, offset));
    }
    addresses.sort_unstable();
    let table = hash_table(&names);
    let mut s = Vec::new();
    s.u32(table.len() as u32);
    s.u32(addresses.len() as u32 * 4);
    s.resize(s.len() + 20, 0); // no thunks
    s.extend(table);
    for (_, offset) in addresses {
        s.u32(offset);
    }
    (records, s)
}

/// The hash table that public and global symbols share: 4096 buckets of record offsets.
fn hash_table(names: &[(String, u32)]) -> Vec<u8> {
    const BUCKETS: usize = 4096;
    let mut buckets = vec![Vec::new(); BUCKETS];
    for (name, offset) in names {
        buckets[hash(name.as_bytes()) as usize % BUCKETS].push((name.to_lowercase(), *offset));
    }
    let mut entries = Vec::new();
    let mut present = vec![0u8; BUCKETS / 8 + 4];
    let mut starts = Vec::new();
    for (index, bucket) in buckets.iter_mut().enumerate().filter(|b| !b.1.is_empty()) {
        bucket.sort();
        present[index / 8] |= 1 << (index % 8);
        starts.u32(entries.len() as u32 / 8 * 12); // in units of the loader's own records
        for (_, offset) in bucket {
            entries.u32(*offset + 1);
            entries.u32(1);
        }
    }
    let mut s = Vec::new();
    s.u32(u32::MAX);
    s.u32(0xeffe_0000 + 19_990_810);
    s.u32(entries.len() as u32);
    s.u32(if names.is_empty() { 0 } else { (present.len() + starts.len()) as u32 });
    s.extend(entries);
    if !names.is_empty() {
        s.extend(present);
        s.extend(starts);
    }
    s
}

/// The first of the format's string hashes.
fn hash(name: &[u8]) -> u32 {
    let (words, rest) = name.as_chunks::<4>();
    let mut h = words.iter().fold(0, |h, w| h ^ u32::from_le_bytes(*w));
    let (halves, last) = rest.as_chunks::<2>();
    h = halves.iter().fold(h, |h, w| h ^ u32::from(u16::from_le_bytes(*w)));
    h = last.iter().fold(h, |h, b| h ^ u32::from(*b));
    h |= 0x2020_2020;
    h ^= h >> 11;
    h ^ (h >> 16)
}
