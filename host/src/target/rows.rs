//! Registers as the rows that KD's `r` prints, cell by cell.
//!
//! Joined, the texts of a row's cells are KD's line to the letter. Which registers stand in which row is a table of
//! names for each machine. The instruction line below the registers belongs to the disassembler.

use super::bytes::u32_at;
use super::float;
use super::registers::Registers;
use crate::dump::Machine;

/// Groups of registers, the bits of `rM`.
pub mod mask {
    /// The integer registers, by their 32-bit names where the machine has them.
    pub const INTEGER_32: u32 = 1;
    /// The integer registers.
    pub const INTEGER: u32 = 2;
    /// Floating point.
    pub const FLOAT: u32 = 4;
    /// Segments and flags.
    pub const SEGMENTS: u32 = 8;
    /// MMX.
    pub const MMX: u32 = 0x10;
    /// Debug registers, and `cr4`.
    pub const DEBUG: u32 = 0x20;
    /// SSE, as single-precision numbers.
    pub const XMM: u32 = 0x40;
    /// Control registers.
    pub const CONTROL: u32 = 0x80;
    /// Descriptor tables and task registers.
    pub const DESCRIPTORS: u32 = 0x100;
    /// SSE, as integers.
    pub const XMM_INTEGER: u32 = 0x800;
    /// What `r` shows by itself.
    pub const DEFAULT: u32 = INTEGER_32 | INTEGER | SEGMENTS;
    /// Every group there is.
    pub const ALL: u32 =
        INTEGER_32 | INTEGER | FLOAT | SEGMENTS | MMX | DEBUG | XMM | CONTROL | DESCRIPTORS | XMM_INTEGER;
}

/// A cell: one register, or words about one.
#[derive(Clone, PartialEq, Debug)]
pub struct Cell {
    /// The register's name; `flags` for the words of the flags.
    pub name: String,
    /// The value; `None` for words, for floating point as text alone, and for registers the dump does not have.
    pub value: Option<u128>,
    /// KD's text, with the blanks around it.
    pub text: String,
}

/// One line.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Row {
    /// From left to right.
    pub cells: Vec<Cell>,
}

impl Row {
    /// The line as KD prints it, without its end.
    pub fn text(&self) -> String {
        self.cells.iter().map(|cell| cell.text.as_str()).collect()
    }
}

/// The rows of the groups in `mask`, in KD's order.
pub fn rows(registers: &Registers, mask: u32) -> Vec<Row> {
    let builder = Builder { registers, rows: Vec::new() };
    match registers.machine() {
        Machine::X64 => builder.x64(mask),
        Machine::X86 => builder.x86(mask),
        Machine::Arm64 => builder.arm64(mask),
    }
}

type Names = &'static [&'static [&'static str]];

const X64_INTEGER: Names = &[
    &["rax", "rbx", "rcx"],
    &["rdx", "rsi", "rdi"],
    &["rip", "rsp", "rbp"],
    &["r8", "r9", "r10"],
    &["r11", "r12", "r13"],
    &["r14", "r15"],
];
const X86_INTEGER: Names = &[&["eax", "ebx", "ecx", "edx", "esi", "edi"], &["eip", "esp", "ebp"]];
const SEGMENTS: &[&str] = &["cs", "ss", "ds", "es", "fs", "gs"];
const CONTROL_64: Names = &[&["cr0", "cr2", "cr3"], &["cr8"]];
const CONTROL_32: Names = &[&["cr0", "cr2", "cr3"]];
const DEBUG: Names = &[&["dr0", "dr1", "dr2"], &["dr3", "dr6", "dr7", "cr4"]];
const KERNEL_DEBUG: Names = &[&["kdr0", "kdr1", "kdr2"], &["kdr3", "kdr6", "kdr7"]];

struct Builder<'a> {
    registers: &'a Registers,
    rows: Vec<Row>,
}

impl Builder<'_> {
    fn push(&mut self, cells: Vec<Cell>) {
        self.rows.push(Row { cells });
    }

    /// `name=value` with the name right-aligned, in `digits` hex digits, after `gap` unless it is the row's first.
    fn cell(&self, row: &[Cell], gap: &str, name: &str, name_width: usize, digits: usize) -> Cell {
        let value = self.registers.get_wide(name);
        let gap = if row.is_empty() { "" } else { gap };
        let text = match value {
            Some(value) => format!("{gap}{name:>name_width$}={value:0digits$x}"),
            None => format!("{gap}{name:>name_width$}={:?<digits$}", ""),
        };
        Cell { name: name.to_owned(), value, text }
    }

    fn line(&self, names: &[&str], gap: &str, name_width: usize, digits: usize) -> Vec<Cell> {
        let mut row = Vec::new();
        for name in names {
            row.push(self.cell(&row, gap, name, name_width, digits));
        }
        row
    }

    fn lines(&mut self, names: Names, gap: &str, name_width: usize, digits: usize) {
        for names in names {
            let row = self.line(names, gap, name_width, digits);
            self.push(row);
        }
    }

    fn x64(mut self, mask: u32) -> Vec<Row> {
        if mask & (mask::INTEGER | mask::INTEGER_32) != 0 {
            self.lines(X64_INTEGER, " ", 3, 16);
            let row = self.flags("");
            self.push(row);
        }
        self.segments(mask);
        if mask & mask::FLOAT != 0 {
            let mut row = Vec::new();
            for (name, digits) in [("fpcw", 4), ("fpsw", 4), ("fptw", 4)] {
                row.push(self.upper(&row, "    ", name, digits));
            }
            self.push(row);
            self.stack();
        }
        self.vectors(mask, 16);
        if mask & mask::CONTROL != 0 {
            self.lines(CONTROL_64, " ", 0, 16);
        }
        if mask & mask::DEBUG != 0 {
            self.lines(DEBUG, " ", 0, 16);
            self.lines(KERNEL_DEBUG, " ", 0, 16);
        }
        self.descriptors(mask, 16);
        self.rows
    }

    fn x86(mut self, mask: u32) -> Vec<Row> {
        if mask & (mask::INTEGER | mask::INTEGER_32) != 0 {
            self.lines(X86_INTEGER, " ", 3, 8);
            let flags = self.flags(" ");
            if let Some(row) = self.rows.last_mut() {
                row.cells.extend(flags);
            }
        }
        self.segments(mask);
        if mask & mask::FLOAT != 0 {
            self.x87();
            self.stack();
        }
        self.vectors(mask, 8);
        if mask & mask::CONTROL != 0 {
            self.lines(CONTROL_32, " ", 0, 8);
        }
        if mask & mask::DEBUG != 0 {
            self.lines(DEBUG, " ", 0, 8);
            self.lines(KERNEL_DEBUG, " ", 0, 8);
        }
        self.descriptors(mask, 8);
        self.rows
    }

    /// `iopl=0         nv up ei ng nz na po nc`.
    fn flags(&self, gap: &str) -> Vec<Cell> {
        let iopl = self.registers.get("iopl").unwrap_or(0);
        let word = |name| if self.registers.get(name) == Some(1) { name } else { "   " };
        let text = format!("{} {} {}", word("vip"), word("vif"), self.registers.flags_text());
        vec![
            Cell { name: "iopl".into(), value: Some(iopl.into()), text: format!("{gap}iopl={iopl:x} ") },
            Cell { name: "flags".into(), value: None, text },
        ]
    }

    fn segments(&mut self, mask: u32) {
        if mask & mask::SEGMENTS != 0 {
            let mut row = self.line(SEGMENTS, "  ", 0, 4);
            row.push(self.cell(&row, "             ", "efl", 0, 8));
            self.push(row);
        }
    }

    fn upper(&self, row: &[Cell], gap: &str, name: &str, digits: usize) -> Cell {
        let value = self.registers.get_wide(name);
        let gap = if row.is_empty() { "" } else { gap };
        let text = format!("{gap}{name}={:0digits$X}", value.unwrap_or(0));
        Cell { name: name.to_owned(), value, text }
    }

    /// The x87 control rows of 32-bit targets, with words for rounding, precision, masks and exceptions.
    fn x87(&mut self) {
        let get = |name| self.registers.get(name).unwrap_or(0);
        let (control, status) = (get("fpcw"), get("fpsw"));
        let pick = |words: [&'static str; 4], at: u64| words.get((at & 3) as usize).copied().unwrap_or("");
        let letters = |word: u64, all: &str, clear: char| -> String {
            // From bit 5 (precision) down to bit 0 (invalid).
            let bits = (0..all.len() as u32).rev();
            all.chars()
                .zip(bits)
                .map(|(letter, bit)| if word >> bit & 1 == 1 { letter } else { clear })
                .collect()
        };
        let rounding = pick(["rn", "rd", "ru", "rc"], control >> 10);
        let precision = pick(["24", "??", "53", "64"], control >> 8);
        let control_text =
            format!("fpcw={control:04X}: {rounding} {precision} {}  ", letters(control, "puozdi", '-'));
        let conditions =
            format!("{}{}{}{}", status >> 14 & 1, status >> 10 & 1, status >> 9 & 1, status >> 8 & 1);
        let exceptions = format!(
            "{}{}{}",
            if status >> 15 & 1 == 1 { 'b' } else { '-' },
            letters(status >> 6, "s", '-'),
            letters(status, "puozdi", '-')
        );
        let status_text =
            format!("fpsw={status:04X}: top={} cc={conditions} {exceptions}  ", status >> 11 & 7);
        let cell = |name: &str, text| Cell { name: name.into(), value: self.registers.get_wide(name), text };
        let first = vec![
            cell("fpcw", control_text),
            cell("fpsw", status_text),
            cell("fptw", format!("fptw={:04X}", get("fptw"))),
        ];
        let second = vec![
            cell("fopcode", format!("fopcode={:04X}  ", get("fopcode"))),
            cell("fpip", format!("fpip={:04x}:{:08x}  ", get("fpipsel"), get("fpip"))),
            cell("fpdp", format!("fpdp={:04x}:{:08x}", get("fpdpsel"), get("fpdp"))),
        ];
        self.push(first);
        self.push(second);
    }

    /// `st0` to `st7`, two in a row.
    fn stack(&mut self) {
        for pair in [0, 2, 4, 6] {
            let row = [pair, pair + 1].map(|number| {
                let name = format!("st{number}");
                let text = float::extended(self.registers.raw(&name).unwrap_or_default());
                let gap = if number == pair { "" } else { "  " };
                Cell { value: self.registers.get_wide(&name), text: format!("{gap}{name}={text}"), name }
            });
            self.push(row.to_vec());
        }
    }

    fn vectors(&mut self, mask: u32, count: usize) {
        if mask & mask::MMX != 0 {
            for pair in [0, 2, 4, 6] {
                let (left, right) = (format!("mm{pair}"), format!("mm{}", pair + 1));
                let row = self.line(&[&left, &right], "  ", 0, 16);
                self.push(row);
            }
        }
        for number in 0..count {
            let name = format!("xmm{number}");
            let raw = self.registers.raw(&name).unwrap_or_default();
            let value = self.registers.get_wide(&name);
            if mask & mask::XMM != 0 {
                let lanes = [12, 8, 4, 0]
                    .map(|at| float::general(f64::from(f32::from_bits(u32_at(raw, at).unwrap_or(0))), 6));
                let text = format!("{name}={}", lanes.join(" "));
                self.push(vec![Cell { name: name.clone(), value, text }]);
            }
            if mask & mask::XMM_INTEGER != 0 {
                let value = value.unwrap_or(0);
                let text = format!("{name}={:016x} {:016x}", (value >> 64) as u64, value as u64);
                self.push(vec![Cell { name, value: Some(value), text }]);
            }
        }
    }

    fn descriptors(&mut self, mask: u32, digits: usize) {
        if mask & mask::DESCRIPTORS != 0 {
            let mut row = Vec::new();
            let columns =
                [("gdtr", "", digits), ("gdtl", "   ", 4), ("idtr", " ", digits), ("idtl", "   ", 4)];
            for (name, gap, digits) in columns {
                row.push(self.cell(&row, gap, name, 0, digits));
            }
            row.push(self.cell(&row, " ", "tr", 0, 4));
            row.push(self.cell(&row, "  ", "ldtr", 0, 4));
            self.push(row);
        }
    }

    fn arm64(mut self, mask: u32) -> Vec<Row> {
        if mask & (mask::INTEGER | mask::INTEGER_32) != 0 {
            let general: Vec<String> = (0..29).map(|number| format!("x{number}")).collect();
            let names: Vec<&str> = general.iter().map(String::as_str).chain(["fp", "lr", "sp"]).collect();
            for names in names.chunks(4) {
                let row = self.line(names, "  ", 3, 16);
                self.push(row);
            }
            let mut row = vec![self.cell(&[], "", "pc", 3, 16)];
            row.push(self.cell(&row, "  ", "psr", 0, 8));
            let text = format!(" {}", self.registers.flags_text());
            row.push(Cell { name: "flags".into(), value: None, text });
            self.push(row);
        }
        if mask & mask::FLOAT != 0 {
            self.push(Vec::new());
            for pair in (0..32).step_by(2) {
                let row = [pair, pair + 1].map(|number| {
                    let name = format!("d{number}");
                    let value = self.registers.get_wide(&name);
                    let number = float::general(f64::from_bits(value.unwrap_or(0) as u64), 12);
                    let gap = if name == format!("d{pair}") { "" } else { "  " };
                    Cell { value, text: format!("{gap}{name:>3}={number:>22}"), name }
                });
                self.push(row.to_vec());
            }
        }
        if mask & (mask::XMM | mask::XMM_INTEGER) != 0 {
            for number in 0..32 {
                let name = format!("v{number}");
                let value = self.registers.get_wide(&name);
                let bits = value.unwrap_or(0);
                let text = format!("{name:>3}={:016x} {:016x}", (bits >> 64) as u64, bits as u64);
                self.push(vec![Cell { name, value, text }]);
            }
        }
        if mask & mask::CONTROL != 0 && self.registers.special().is_some() {
            self.lines(
                &[&["ttbr0", "ttbr1"], &["tcr", "sctlr"], &["esr", "far"], &["elr", "vbar"]],
                "  ",
                5,
                16,
            );
        }
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registers: &Registers, mask: u32) -> String {
        rows(registers, mask).iter().map(Row::text).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn x86_rows() {
        let mut registers = Registers::zeroed(Machine::X86);
        for (name, value) in [
            ("eax", 1),
            ("eip", 0x8052_b5ec),
            ("efl", 0x202),
            ("cs", 8),
            ("ss", 0x10),
            ("ds", 0x23),
            ("es", 0x23),
            ("fs", 0x30),
            ("fpcw", 0x27f),
            ("fptw", 0xffff),
        ] {
            assert!(registers.set(name, value), "{name}");
        }
        assert_eq!(
            text(&registers, mask::DEFAULT),
            "eax=00000001 ebx=00000000 ecx=00000000 edx=00000000 esi=00000000 edi=00000000\n\
             eip=8052b5ec esp=00000000 ebp=00000000 iopl=0         nv up ei pl nz na po nc\n\
             cs=0008  ss=0010  ds=0023  es=0023  fs=0030  gs=0000             efl=00000202"
        );
        assert!(text(&registers, mask::FLOAT).starts_with(
            "fpcw=027F: rn 53 puozdi  fpsw=0000: top=0 cc=0000 --------  fptw=FFFF\n\
             fopcode=0000  fpip=0000:00000000  fpdp=0000:00000000\n\
             st0= 0.000000000000000000000e+0000  st1= 0.000000000000000000000e+0000\n"
        ));
        assert!(text(&registers, mask::CONTROL).starts_with("cr0=???????? cr2=????????"));
    }

    #[test]
    fn no_mask_panics() {
        for machine in [Machine::X64, Machine::X86, Machine::Arm64] {
            for bit in 0..32 {
                rows(&Registers::zeroed(machine), 1 << bit);
            }
        }
    }
}
