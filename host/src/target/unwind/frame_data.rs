//! x86 frame data of a PDB: what the compiler said about the frames of functions without a frame pointer.
//!
//! Two forms: `FPO_DATA` with sizes alone, and `FRAMEDATA` with a program in postfix notation such as
//! `$T0 .raSearch = $eip $T0 ^ = $esp $T0 4 + =`. Sources: winnt.h and the description in Microsoft's PDB sources.

use super::{CodeView, pointer_at};
use crate::target::Registers;
use kd_sdk::address::Va;
use std::collections::HashMap;

/// Words of a program that are taken.
const MOST_WORDS: usize = 256;

/// The frame of a function.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FrameData {
    /// Bytes from the function's start to the address that was asked about.
    pub offset: u32,
    /// Bytes of its prologue.
    pub prologue: u32,
    /// False for a row of its own that begins inside a function: it describes every instruction it holds.
    pub is_start: bool,
    /// Bytes of its local variables.
    pub locals: u32,
    /// Bytes of its parameters, which it takes from the stack when it returns.
    pub parameters: u32,
    /// Bytes of registers it saved.
    pub saved: u32,
    /// True where `ebp` is used for something else than the frame (and saved).
    pub uses_base_pointer: bool,
    /// The program, in the newer form.
    pub program: Option<String>,
    /// What `kv` shows: the old form's trap and task gates.
    pub kind: FrameKind,
}

/// What sort of frame it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FrameKind {
    /// Frame pointer omitted.
    #[default]
    Fpo,
    /// Entered by a trap.
    Trap,
    /// A task state segment.
    Tss,
    /// With a frame pointer.
    NonFpo,
}

/// The registers of the caller: (`eip`, `esp`, `ebp`, where the arguments are).
pub fn undo(code: &dyn CodeView, registers: &Registers, data: &FrameData) -> Option<(Va, Va, Va, Va)> {
    let [esp, ebp] = [registers.sp().0 as u32, registers.fp().0 as u32];
    let read = |at: u32| pointer_at(code, Va(at.into())).ok().map(|value| value.0 as u32);
    // Where the return address is, by the sizes alone.
    let search = esp.wrapping_add(data.locals).wrapping_add(data.saved);
    if let Some(program) = &data.program {
        let values = run(program, registers, search, data, &read)?;
        let value = |name: &str| values.get(name).copied();
        let (ip, sp) = (value("$eip")?, value("$esp")?);
        let fp = value("$ebp").unwrap_or(ebp);
        return Some((Va(ip.into()), Va(sp.into()), Va(fp.into()), Va(sp.into())));
    }
    match data.kind {
        FrameKind::Fpo if data.offset >= data.prologue => {
            let ip = read(search)?;
            // A function that uses ebp pushes it last of what it saves.
            let fp = if data.uses_base_pointer { read(esp.wrapping_add(data.locals))? } else { ebp };
            let sp = search.wrapping_add(4).wrapping_add(data.parameters);
            Some((Va(ip.into()), Va(sp.into()), Va(fp.into()), Va(search.wrapping_add(4).into())))
        }
        _ => None,
    }
}

/// Runs a program; the variables at its end.
fn run(
    program: &str,
    registers: &Registers,
    search: u32,
    data: &FrameData,
    read: &dyn Fn(u32) -> Option<u32>,
) -> Option<HashMap<String, u32>> {
    let mut values: HashMap<String, u32> = HashMap::new();
    for name in ["eip", "esp", "ebp", "ebx", "esi", "edi", "eax", "ecx", "edx"] {
        values.insert(format!("${name}"), registers.get(name)? as u32);
    }
    values.insert(".raSearch".into(), search);
    values.insert(".raSearchStart".into(), search);
    values.insert(".cbLocals".into(), data.locals);
    values.insert(".cbParams".into(), data.parameters);
    values.insert(".cbSavedRegs".into(), data.saved);
    let mut stack: Vec<String> = Vec::new();
    let number = |word: &str, values: &HashMap<String, u32>| -> Option<u32> {
        values.get(word).copied().or_else(|| {
            let value: i64 = word.parse().ok()?;
            Some(value as u32)
        })
    };
    for word in program.split_whitespace().take(MOST_WORDS) {
        let mut pop = |values: &HashMap<String, u32>| stack.pop().and_then(|word| number(&word, values));
        let result = match word {
            "+" | "-" | "*" | "/" | "%" | "@" => {
                let (right, left) = (pop(&values)?, pop(&values)?);
                match word {
                    "+" => left.wrapping_add(right),
                    "-" => left.wrapping_sub(right),
                    "*" => left.wrapping_mul(right),
                    "/" => left.checked_div(right)?,
                    "%" => left.checked_rem(right)?,
                    // Rounds down to a multiple.
                    _ => left.checked_rem(right).map(|rest| left.wrapping_sub(rest))?,
                }
            }
            "^" => read(pop(&values)?)?,
            "=" => {
                let value = pop(&values)?;
                values.insert(stack.pop()?, value);
                continue;
            }
            word => {
                stack.push(word.to_owned());
                continue;
            }
        };
        stack.push(i64::from(result).to_string());
    }
    Some(values)
}
