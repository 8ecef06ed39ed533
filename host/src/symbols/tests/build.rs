//! A small PDB made byte by byte: one section, a few names, a few types. The layouts are LLVM's description of MSF,
//! the debug information stream and CodeView.

const PAGE: usize = 512;

/// A PDB of 64-bit code with GUID 1..16, PDB age 3 and DBI age `age`.
///
/// Section 1 lies at RVA 0x1000. Names: `_Alpha` at +0x10, `Beta` at +0x20, the data `gamma` at +0x30.
/// Types: `_PAIR { long First; long Second:3; }`, `_OUTER { _PAIR Pairs[4]; union { char *Text; }; union { char *Text; } u; _OUTER *Next; }`,
/// `_COLOR { Red = -1, Blue = 70000 }`.
pub(super) fn pdb(age: u32) -> Vec<u8> {
    let mut information = Vec::new();
    words(&mut information, &[20_000_404, 0x5eed, 3]);
    information.extend(1..=16u8);
    words(&mut information, &[0, 0, 0, 0, 0]);
    msf(&[vec![], information, types(), debug(age), names(), section()])
}

fn words(into: &mut Vec<u8>, values: &[u32]) {
    for value in values {
        into.extend(value.to_le_bytes());
    }
}

fn halves(into: &mut Vec<u8>, values: &[u16]) {
    for value in values {
        into.extend(value.to_le_bytes());
    }
}

fn record(into: &mut Vec<u8>, leaf: u16, body: &[u8], pad: bool) {
    let mut bytes = leaf.to_le_bytes().to_vec();
    bytes.extend(body);
    while !(bytes.len() + 2).is_multiple_of(4) {
        let left = 4 - (bytes.len() + 2) % 4;
        bytes.push(if pad { 0xf0 + left as u8 } else { 0 });
    }
    halves(into, &[bytes.len() as u16]);
    into.extend(bytes);
}

fn names() -> Vec<u8> {
    let mut stream = Vec::new();
    for (leaf, flags, offset, name) in
        [(0x110e, 2, 0x10u32, "_Alpha\0"), (0x110e, 0, 0x20, "Beta\0"), (0x110d, 0x74, 0x30, "gamma\0")]
    {
        let mut body = Vec::new();
        words(&mut body, &[flags, offset]);
        halves(&mut body, &[1]);
        body.extend(name.as_bytes());
        record(&mut stream, leaf, &body, false);
    }
    stream
}

fn section() -> Vec<u8> {
    let mut header = b".text\0\0\0".to_vec();
    words(&mut header, &[0x1000, 0x1000, 0x1000, 0x400, 0, 0, 0, 0x6000_0020]);
    header
}

fn debug(age: u32) -> Vec<u8> {
    let mut stream = Vec::new();
    words(&mut stream, &[u32::MAX, 19_990_903, age]);
    halves(&mut stream, &[u16::MAX, 0, u16::MAX, 0, 4, 0]);
    words(&mut stream, &[0, 0, 0, 0, 0, 0, 22, 0]);
    halves(&mut stream, &[0, 0x8664, 0, 0]);
    for n in 0..11 {
        halves(&mut stream, &[if n == 5 { 5 } else { u16::MAX }]);
    }
    stream
}

/// A member of a field list, padded.
fn member(into: &mut Vec<u8>, leaf: u16, of: Option<u32>, number: &[u16], name: &str) {
    halves(into, &[leaf, 3]);
    into.extend(of.iter().flat_map(|of| of.to_le_bytes()));
    halves(into, number);
    into.extend(name.as_bytes());
    into.push(0);
    while !into.len().is_multiple_of(4) {
        into.push(0xf0 + (4 - into.len() % 4) as u8);
    }
}

fn udt(fields: u32, properties: u16, size: u16, name: &str, union: bool) -> Vec<u8> {
    let mut body = Vec::new();
    halves(&mut body, &[0, properties]);
    words(&mut body, &[fields]);
    if !union {
        words(&mut body, &[0, 0]);
    }
    halves(&mut body, &[size]);
    body.extend(name.as_bytes());
    body.push(0);
    body
}

fn types() -> Vec<u8> {
    let mut records = Vec::new();
    // A list of members starts after its leaf, so padding is counted from there: both are multiples of 4 apart.
    let list = |records: &mut Vec<u8>, members: &dyn Fn(&mut Vec<u8>)| {
        let mut body = vec![0, 0];
        members(&mut body);
        record(records, 0x1203, &body[2..], true);
    };
    // 1000: bits 0..3 of a long; 1001, 1002: _PAIR
    record(&mut records, 0x1205, &[0x12, 0, 0, 0, 3, 0], true);
    list(&mut records, &|m| {
        member(m, 0x150d, Some(0x12), &[0], "First");
        member(m, 0x150d, Some(0x1000), &[4], "Second");
    });
    record(&mut records, 0x1505, &udt(0x1001, 0, 8, "_PAIR", false), true);
    // 1003: _PAIR[4]; 1004, 1005: the unnamed union
    let mut array = Vec::new();
    words(&mut array, &[0x1002, 0x23]);
    halves(&mut array, &[32, 0]);
    record(&mut records, 0x1503, &array, true);
    list(&mut records, &|m| member(m, 0x150d, Some(0x0670), &[0], "Text"));
    record(&mut records, 0x1506, &udt(0x1004, 0, 8, "<unnamed-tag>", true), true);
    // 1006: _OUTER announced; 1007: pointer to it; 1008, 1009: _OUTER
    record(&mut records, 0x1505, &udt(0, 0x80, 0, "_OUTER", false), true);
    let mut pointer = Vec::new();
    words(&mut pointer, &[0x1006, 0x1000c]);
    record(&mut records, 0x1002, &pointer, true);
    list(&mut records, &|m| {
        member(m, 0x150d, Some(0x1003), &[0], "Pairs");
        member(m, 0x150d, Some(0x1005), &[32], "");
        member(m, 0x150d, Some(0x100c), &[32], "u");
        member(m, 0x150d, Some(0x1007), &[40], "Next");
    });
    record(&mut records, 0x1505, &udt(0x1008, 0, 48, "_OUTER", false), true);
    // 100a, 100b: _COLOR
    list(&mut records, &|m| {
        member(m, 0x1502, None, &[0x8001, 0xffff], "Red");
        member(m, 0x1502, None, &[0x8004, 0x1170, 1], "Blue");
    });
    let mut colour = Vec::new();
    halves(&mut colour, &[2, 0]);
    words(&mut colour, &[0x74, 0x100a]);
    colour.extend(b"_COLOR\0");
    record(&mut records, 0x1507, &colour, true);
    // 100c: a nested type without a name, announced; 100d: it
    record(&mut records, 0x1506, &udt(0, 0x80, 0, "_OUTER::<unnamed-type-u>", true), true);
    record(&mut records, 0x1506, &udt(0x1004, 0, 8, "_OUTER::<unnamed-type-u>", true), true);
    // 100e, 100f: an array of functions that return this array; no compiler writes it
    let mut looped = Vec::new();
    words(&mut looped, &[0x100f, 0x23]);
    halves(&mut looped, &[8, 0]);
    record(&mut records, 0x1503, &looped, true);
    let mut function = Vec::new();
    words(&mut function, &[0x100e, 0, 0]);
    record(&mut records, 0x1008, &function, true);

    let mut stream = Vec::new();
    words(&mut stream, &[20_040_203, 56, 0x1000, 0x1010, records.len() as u32]);
    halves(&mut stream, &[u16::MAX, u16::MAX]);
    words(&mut stream, &[4, 0x3ffff, 0, 0, 0, 0, 0, 0]);
    stream.extend(records);
    stream
}

/// Puts streams into a file of pages.
fn msf(streams: &[Vec<u8>]) -> Vec<u8> {
    let mut pages: Vec<Vec<u8>> = vec![vec![0; PAGE]; 8];
    let mut directory = Vec::new();
    words(&mut directory, &[streams.len() as u32]);
    words(&mut directory, &streams.iter().map(|s| s.len() as u32).collect::<Vec<_>>());
    let mut put = |bytes: &[u8]| -> Vec<u32> {
        bytes
            .chunks(PAGE)
            .map(|chunk| {
                let mut page = chunk.to_vec();
                page.resize(PAGE, 0);
                pages.push(page);
                pages.len() as u32 - 1
            })
            .collect()
    };
    for stream in streams {
        let numbers = put(stream);
        words(&mut directory, &numbers);
    }
    let numbers = put(&directory);
    let mut list = Vec::new();
    words(&mut list, &numbers);
    let map = put(&list);
    let mut header = b"Microsoft C/C++ MSF 7.00\r\n\x1a\x44\x53\0\0\0".to_vec();
    words(&mut header, &[PAGE as u32, 1, pages.len() as u32, directory.len() as u32, 0, map[0]]);
    pages[0][..header.len()].copy_from_slice(&header);
    pages.concat()
}
