//! arm64, through `yaxpeax-arm`, rewritten to KD's look: `fp` and `lr`, no blanks after commas, upper-case hex digits,
//! decimal digits below ten, `beq` for `b.eq`, names for targets.

use std::fmt::Write;

use kd_sdk::address::Va;
use yaxpeax_arch::{Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::InstDecoder;

use super::{Flow, Instruction, Resolve, named};
use crate::dump::Machine;

/// Decodes one instruction of four bytes.
pub fn decode(va: Va, bytes: &[u8], resolve: Resolve<'_>) -> Option<Instruction> {
    let bytes: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    let word = u32::from_le_bytes(bytes);
    let mut instruction = Instruction {
        va,
        bytes: bytes.to_vec(),
        mnemonic: "???".to_owned(),
        operands: String::new(),
        flow: Flow::Stop,
        memory: None,
        condition: None,
        machine: Machine::Arm64,
    };
    let Ok(decoded) = InstDecoder::default().decode(&mut U8Reader::new(&bytes)) else {
        return Some(instruction);
    };
    let text = decoded.to_string();
    let (mnemonic, operands) = text.split_once(' ').unwrap_or((&text, ""));
    instruction.mnemonic = match mnemonic.strip_prefix("b.") {
        Some(condition) => format!("b{condition}"),
        None => mnemonic.to_owned(),
    };
    // The offset of adrp counts from the page of the instruction.
    let origin = if mnemonic == "adrp" { va.page() } else { va };
    instruction.operands = rewrite(operands, origin, resolve);
    // The decoder leaves out an extension without a shift where it is that of a 32-bit register.
    if word & 0xffe0_0000 & !0x6000_0000 == 0x8b20_0000 && word >> 10 & 0x3f == 0b01_0000 {
        instruction.operands.push_str(",uxtw");
    }
    instruction.flow = flow(word, va);
    Some(instruction)
}

/// Operands in KD's look.
fn rewrite(operands: &str, origin: Va, resolve: Resolve<'_>) -> String {
    let mut result = String::with_capacity(operands.len());
    let mut rest = operands;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        if let Some((offset, after)) = pc_offset(rest) {
            result.push_str(&named(Machine::Arm64, origin.add(offset as u64), resolve));
            rest = after;
        } else if word > 0 {
            let (name, after) = rest.split_at_checked(word).unwrap_or((rest, ""));
            match (name, name.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16))) {
                ("x29", _) => result.push_str("fp"),
                ("x30", _) => result.push_str("lr"),
                (_, Some(Ok(number))) if number < 10 => {
                    let _ = write!(result, "{number}");
                }
                (_, Some(Ok(number))) => {
                    let _ = write!(result, "0x{number:X}");
                }
                _ => result.push_str(name),
            }
            rest = after;
        } else {
            result.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or("");
            if first == ',' {
                rest = rest.trim_start();
            }
        }
    }
    result
}

/// `$+0x1234` at the start of a text: (the offset, what follows).
fn pc_offset(text: &str) -> Option<(i64, &str)> {
    let (sign, digits) = match text.strip_prefix("$+0x") {
        Some(digits) => (1, digits),
        None => (-1, text.strip_prefix("$-0x")?),
    };
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    let (digits, after) = digits.split_at_checked(end)?;
    Some((i64::from_str_radix(digits, 16).ok()?.wrapping_mul(sign), after))
}

/// From the encodings of the Arm architecture manual, "Branches, exception generating and system instructions".
fn flow(word: u32, va: Va) -> Flow {
    let target = |low: u32, bits: u32| {
        let field = i64::from(word >> low) << (64 - bits) >> (64 - bits);
        va.add((field * 4) as u64)
    };
    match word {
        _ if word & 0xfc00_0000 == 0x1400_0000 => Flow::Jump(Some(target(0, 26))),
        _ if word & 0xfc00_0000 == 0x9400_0000 => Flow::Call(Some(target(0, 26))),
        // b.cond, and bc.cond of Armv8.8.
        _ if word & 0xff00_0000 == 0x5400_0000 => Flow::Branch(target(5, 19)),
        // cbz and cbnz, tbz and tbnz.
        _ if word & 0x7e00_0000 == 0x3400_0000 => Flow::Branch(target(5, 19)),
        _ if word & 0x7e00_0000 == 0x3600_0000 => Flow::Branch(target(5, 14)),
        // br, blr, ret, eret; with pointer authentication, bits 10, 11 and 24 vary.
        _ if word & 0xfe00_0000 == 0xd600_0000 => match word >> 21 & 0xf {
            0 | 8 => Flow::Jump(None),
            1 | 9 => Flow::Call(None),
            _ => Flow::Return,
        },
        _ if word >> 16 == 0 => Flow::Stop,
        _ => Flow::Next,
    }
}
