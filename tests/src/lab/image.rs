//! Images of drivers as the loader leaves them in memory: headers, code, unwind data, a debug record.
//!
//! Facts: the PE format and the x64 and ARM64 exception-handling documents of Microsoft. Every function made here has
//! one shape: prologue, one call (or the faulting load) at [`CALL`], epilogue.

mod built;
mod code;

pub use built::built;
pub use code::{arm64_frame, return_offset};

use super::bytes::Bytes;
use super::layout::Machine;
use code::{code, unwind_data};

/// Offset in every function of its call, or of the load that faults.
pub const CALL: u32 = 16;

/// Bytes between the starts of functions.
pub const FUNCTION_SIZE: u32 = 0x40;

/// What a function does to the stack pointer before its call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    /// Takes this many bytes; with the return address the stack stays aligned.
    Alloc(u32),
    /// Entered by a fault: the processor pushed a machine frame and an error code, the function makes a trap frame.
    Trap,
    /// Entered by a system call: as [`Frame::Trap`], without an error code.
    SystemCall,
}

/// A function to be made.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Its frame.
    pub frame: Frame,
    /// Whether it loads from its first argument instead of calling.
    pub faults: bool,
}

/// A variable to be made in the `.data` section.
pub type Variable = (&'static str, u32);

/// What an image is made from.
pub struct Recipe<'a> {
    /// File name, as in `ntoskrnl.exe`.
    pub name: &'a str,
    /// Full path, as the loader's list has it.
    pub path: String,
    /// File name of its symbols.
    pub pdb: &'a str,
    /// The code, laid out in this order.
    pub functions: &'a [Function],
    /// The variables, laid out in this order, 16-byte aligned.
    pub variables: &'a [Variable],
    /// `TimeDateStamp` of the headers.
    pub time_date_stamp: u32,
    /// Whether every function is exported by name.
    pub exports: bool,
}

/// A section of an image.
#[derive(Clone, Debug)]
pub struct Section {
    /// Name, at most eight characters.
    pub name: String,
    /// Where it starts in the image.
    pub rva: u32,
    /// Its size, a multiple of the page size.
    pub size: u32,
    /// `IMAGE_SCN_*`.
    pub characteristics: u32,
}

/// A name in an image.
#[derive(Clone, Debug)]
pub struct Symbol {
    /// The name, undecorated.
    pub name: String,
    /// Where it is in the image.
    pub rva: u32,
    /// Code, not data.
    pub is_function: bool,
}

/// An image in memory.
pub struct Image {
    /// File name, as in `ntoskrnl.exe`.
    pub name: String,
    /// Full path, as the loader's list has it.
    pub path: String,
    /// File name of its symbols.
    pub pdb: String,
    /// Identity of its symbols, as the bytes stand in the file.
    pub guid: [u8; 16],
    /// Age of its symbols.
    pub age: u32,
    /// Where it is loaded.
    pub base: u64,
    /// `SizeOfImage`.
    pub size: u32,
    /// `TimeDateStamp` of the headers.
    pub time_date_stamp: u32,
    /// `CheckSum` of the headers.
    pub check_sum: u32,
    /// RVA of the entry point.
    pub entry_point: u32,
    /// RVA and size of the function table; zero on x86.
    pub exception_table: (u32, u32),
    /// The sections.
    pub sections: Vec<Section>,
    /// The names.
    pub symbols: Vec<Symbol>,
    /// The contents as mapped, `size` bytes.
    pub bytes: Vec<u8>,
    /// Its symbols as a compiler made them; `None` where [`super::pdb`] makes them.
    pub symbols_file: Option<Vec<u8>>,
}

impl Image {
    /// The address of a name; panics if the image has none.
    pub fn address_of(&self, name: &str) -> u64 {
        let found = self.symbols.iter().find(|s| s.name == name);
        self.base + u64::from(found.unwrap_or_else(|| panic!("{} has no {name}", self.name)).rva)
    }

    /// The GUID and age as symbol stores write them.
    pub fn symbol_key(&self) -> String {
        let g = &self.guid;
        let tail: String = g[8..].iter().map(|b| format!("{b:02X}")).collect();
        let [a, b, c] = [
            u32::from_le_bytes([g[0], g[1], g[2], g[3]]),
            u32::from(u16::from_le_bytes([g[4], g[5]])),
            u32::from(u16::from_le_bytes([g[6], g[7]])),
        ];
        format!("{a:08X}{b:04X}{c:04X}{tail}{:X}", self.age)
    }

    /// Makes an image for `base`.
    pub fn new(machine: Machine, base: u64, recipe: &Recipe<'_>) -> Image {
        let mut symbols = Vec::new();
        let mut text = Vec::new();
        let mut unwind = Vec::new();
        let mut functions = Vec::new(); // rva, offset of unwind data or packed word
        for function in recipe.functions {
            let rva = 0x1000 + text.len() as u32;
            symbols.push(Symbol { name: function.name.into(), rva, is_function: true });
            functions.push((rva, unwind_data(machine, function.frame, &mut unwind)));
            text.extend(code(machine, function));
        }
        let padding = if machine == Machine::Arm64 { 0 } else { 0xcc };
        text.resize(text.len().next_multiple_of(0x1000).max(0x1000), padding);

        let rdata_rva = 0x1000 + text.len() as u32;
        let guid = guid_of(&format!("{} {machine:?} {:x}", recipe.pdb, recipe.time_date_stamp));
        let mut rdata = vec![0; 28];
        rdata.extend(b"RSDS");
        rdata.extend(guid);
        rdata.u32(1);
        rdata.extend(recipe.pdb.as_bytes());
        rdata.push(0);
        let record_size = rdata.len() as u32 - 28;
        rdata.put_u32(4, recipe.time_date_stamp);
        rdata.put_u32(12, 2); // IMAGE_DEBUG_TYPE_CODEVIEW
        rdata.put_u32(16, record_size);
        rdata.put_u32(20, rdata_rva + 28);
        rdata.put_u32(24, rdata_rva + 28);
        rdata.align(16);
        let unwind_rva = rdata_rva + rdata.len() as u32;
        rdata.extend(unwind);
        rdata.align(16);
        let exports_rva = rdata_rva + rdata.len() as u32;
        let exports = if recipe.exports { exports(recipe.name, exports_rva, &symbols) } else { Vec::new() };
        let export_table = if recipe.exports { (exports_rva, exports.len() as u32) } else { (0, 0) };
        rdata.extend(exports);
        rdata.align(0x1000);

        let data_rva = rdata_rva + rdata.len() as u32;
        let mut data = Vec::new();
        for &(name, size) in recipe.variables {
            symbols.push(Symbol { name: name.into(), rva: data_rva + data.len() as u32, is_function: false });
            data.resize((data.len() + size as usize).next_multiple_of(16), 0);
        }
        data.resize(data.len().next_multiple_of(0x1000).max(0x1000), 0);

        let pdata_rva = data_rva + data.len() as u32;
        let mut pdata = Vec::new();
        for (rva, info) in functions {
            match machine {
                Machine::X86 => {}
                Machine::X64 => {
                    pdata.u32(rva);
                    pdata.u32(rva + FUNCTION_SIZE);
                    pdata.u32(unwind_rva + info);
                }
                Machine::Arm64 => {
                    pdata.u32(rva);
                    pdata.u32(info);
                }
            }
        }
        let exception_table = if pdata.is_empty() { (0, 0) } else { (pdata_rva, pdata.len() as u32) };
        pdata.align(0x1000);

        let mut sections = Vec::new();
        let mut bytes = vec![0; 0x1000];
        let parts = [
            (".text", text, 0x6800_0020),
            (".rdata", rdata, 0x4800_0040),
            (".data", data, 0xc800_0040),
            (".pdata", pdata, 0x4800_0040),
        ];
        for (name, contents, characteristics) in parts.into_iter().filter(|p| !p.1.is_empty()) {
            let size = contents.len() as u32;
            let name = name.to_owned();
            sections.push(Section { name, rva: bytes.len() as u32, size, characteristics });
            bytes.extend(contents);
        }
        let mut image = Image {
            name: recipe.name.into(),
            path: recipe.path.clone(),
            pdb: recipe.pdb.into(),
            guid,
            age: 1,
            base,
            size: bytes.len() as u32,
            time_date_stamp: recipe.time_date_stamp,
            check_sum: u32::from_le_bytes([guid[0], guid[1], 1, 0]),
            entry_point: 0x1000,
            exception_table,
            sections,
            symbols,
            bytes,
            symbols_file: None,
        };
        image.write_headers(machine, export_table, (rdata_rva, 28));
        image
    }

    fn write_headers(&mut self, machine: Machine, exports: (u32, u32), debug: (u32, u32)) {
        let wide = machine != Machine::X86;
        let mut h = vec![0; 0x80];
        h.put(0, b"MZ");
        h.put_u32(0x3c, 0x80);
        h.extend(b"PE\0\0");
        h.u16(machine.image_type());
        h.u16(self.sections.len() as u16);
        h.u32(self.time_date_stamp);
        h.u32(0);
        h.u32(0);
        h.u16(if wide { 0xf0 } else { 0xe0 });
        h.u16(if wide { 0x22 } else { 0x102 });
        let optional = h.len();
        h.u16(if wide { 0x20b } else { 0x10b });
        h.u16(0x140e); // linker 14.20
        h.u32(self.sections[0].size);
        h.u32(self.size - 0x1000 - self.sections[0].size);
        h.u32(0);
        h.u32(self.entry_point);
        h.u32(self.sections[0].rva);
        if wide {
            h.u64(self.base);
        } else {
            h.u32(self.sections[1].rva);
            h.u32(self.base as u32);
        }
        for value in [0x1000, 0x200, 10, 10, 10, 0, self.size, 0x400, self.check_sum] {
            h.u32(value); // alignments, versions, SizeOfImage, SizeOfHeaders, CheckSum
        }
        h.u16(1); // native
        h.u16(0x4160);
        for value in [0x40000u64, 0x1000, 0x100000, 0x1000] {
            if wide { h.u64(value) } else { h.u32(value as u32) }
        }
        h.u32(0);
        h.u32(16);
        let directories = h.len();
        h.resize(directories + 128, 0);
        for (index, (rva, size)) in [(0, exports), (3, self.exception_table), (6, debug)] {
            h.put_u32(directories + index * 8, rva);
            h.put_u32(directories + index * 8 + 4, size);
        }
        assert_eq!(h.len() - optional, if wide { 0xf0 } else { 0xe0 });
        for section in &self.sections {
            h.extend(section_header(section));
        }
        self.bytes.put(0, &h);
    }
}

/// An `IMAGE_SECTION_HEADER` for a section that is laid out in the file as in memory.
pub fn section_header(section: &Section) -> Vec<u8> {
    let mut header = section.name.as_bytes().to_vec();
    header.resize(8, 0);
    for value in [section.size, section.rva, section.size, section.rva, 0, 0, 0, section.characteristics] {
        header.u32(value);
    }
    header
}

/// An export directory at `rva` that names every symbol, in ascending order as the loader wants.
fn exports(name: &str, rva: u32, symbols: &[Symbol]) -> Vec<u8> {
    let mut names: Vec<_> =
        symbols.iter().enumerate().map(|(index, s)| (s.name.as_str(), index as u16)).collect();
    names.sort_unstable();
    let count = symbols.len() as u32;
    let [functions, pointers, ordinals] = [40, 40 + 4 * count, 40 + 8 * count];
    let mut d = Vec::new();
    for value in [
        0,
        0,
        0,
        ordinals + 2 * count + rva,
        1,
        count,
        count,
        functions + rva,
        pointers + rva,
        ordinals + rva,
    ] {
        d.u32(value);
    }
    symbols.iter().for_each(|s| d.u32(s.rva));
    d.resize(ordinals as usize, 0);
    names.iter().for_each(|n| d.u16(n.1));
    d.extend(name.as_bytes());
    d.push(0);
    for (index, (name, _)) in names.iter().enumerate() {
        let at = rva + d.len() as u32;
        d.put_u32(pointers as usize + 4 * index, at);
        d.extend(name.as_bytes());
        d.push(0);
    }
    d
}

/// A GUID that depends on nothing but `text` (FNV-1a, twice).
fn guid_of(text: &str) -> [u8; 16] {
    let hash = |seed: u64| text.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let [a, b] = [hash(0xcbf2_9ce4_8422_2325), hash(0x8422_2325_cbf2_9ce4)];
    (u128::from(a) << 64 | u128::from(b)).to_le_bytes()
}
