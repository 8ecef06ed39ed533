//! arm64 unwind codes: full `.xdata` records and packed `.pdata` words, both turned into the same operations.
//!
//! Source: Microsoft's document on arm64 exception handling. A function's operations stand in the order that undoes
//! its prologue, one for each of its instructions.

use super::Missing;
use super::tables::number;
use crate::image::ImageBytes;

/// The most bytes of codes a record has: 255 words.
const MOST_WORDS: u32 = 255;
/// The most epilogue scopes that are looked at.
const MOST_SCOPES: u32 = 4096;

/// What one instruction of a prologue did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Lowered the stack pointer.
    Allocate(u64),
    /// Saved `count` registers from number `first` at an offset of the stack pointer, after lowering the stack pointer
    /// by `before`.
    Save {
        /// Number of the first register: x19 is 19, fp is 29, lr is 30.
        first: u8,
        /// Number of the second register, if it is a pair.
        second: Option<u8>,
        /// Bytes from the stack pointer.
        offset: u64,
        /// Bytes the stack pointer was lowered by, in the same instruction.
        before: u64,
    },
    /// Saved floating-point registers, which are not followed, with the same lowering.
    SaveFloat {
        /// Bytes the stack pointer was lowered by.
        before: u64,
    },
    /// `mov fp, sp`.
    SetFp,
    /// `add fp, sp, N`.
    AddFp(u64),
    /// Nothing that matters.
    Nop,
    /// Signed the return address.
    SignLr,
    /// The next pair follows the last saved one, 16 bytes on.
    SaveNext,
    /// The kernel made a trap frame.
    TrapFrame,
    /// The processor's registers were pushed: stack pointer, instruction pointer.
    MachineFrame,
    /// A whole `CONTEXT` was pushed.
    Context,
    /// The call that led here is not to be shown as one.
    ClearUnwoundToCall,
    /// The end of the codes.
    End,
    /// The end of the codes of a fragment: what follows belongs to the part that set up the frame.
    EndOfFragment,
}

/// The unwind data of a function.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unwind {
    /// Bytes in the function.
    pub length: u32,
    /// The operations of the prologue, to be undone in this order.
    pub prologue: Vec<Op>,
    /// The epilogues: (first byte, operations in the order of their instructions).
    pub epilogues: Vec<(u32, Vec<Op>)>,
    /// False for a fragment that has no prologue of its own.
    pub has_prologue: bool,
}

/// The unwind data behind an entry of the function table.
///
/// # Errors
/// [`Missing::Data`] where they cannot be read, [`Missing::Bad`] where they make no sense.
pub fn read(bytes: &dyn ImageBytes, word: u32) -> Result<Unwind, Missing> {
    match word & 3 {
        0 => full(bytes, word),
        1 => Ok(packed(word, true)),
        2 => Ok(packed(word, false)),
        _ => Err(Missing::Bad("a reserved form of the function table")),
    }
}

fn full(bytes: &dyn ImageBytes, at: u32) -> Result<Unwind, Missing> {
    let word = |at: u32| {
        let mut bytes4 = [0; 4];
        bytes.read(at, &mut bytes4).then(|| u32::from_le_bytes(bytes4)).ok_or(Missing::Data)
    };
    let head = word(at)?;
    if head >> 18 & 3 != 0 {
        return Err(Missing::Bad("unknown version"));
    }
    let single = head >> 21 & 1 != 0;
    let (mut count, mut words) = (head >> 22 & 0x1f, head >> 27);
    let mut next = at.saturating_add(4);
    if count == 0 && words == 0 {
        let extended = word(next)?;
        (count, words) = (extended & 0xffff, (extended >> 16 & 0xff).min(MOST_WORDS));
        next = next.saturating_add(4);
    }
    let scopes_at = next;
    if !single {
        next = next.saturating_add(count.saturating_mul(4));
    }
    let mut codes = vec![0; words as usize * 4];
    if !bytes.read(next, &mut codes) {
        return Err(Missing::Data);
    }
    let length = (head & 0x3_ffff) * 4;
    let prologue = operations(&codes, 0)?;
    let mut epilogues = Vec::new();
    if single {
        // One epilogue, at the end of the function; the count is the index of its first code.
        let ops = operations(&codes, count as usize)?;
        let size = epilogue_size(&ops);
        epilogues.push((length.saturating_sub(size), ops));
    } else {
        for n in 0..count.min(MOST_SCOPES) {
            let scope = word(scopes_at.saturating_add(n * 4))?;
            epilogues.push(((scope & 0x3_ffff) * 4, operations(&codes, (scope >> 22) as usize)?));
        }
    }
    Ok(Unwind { length, prologue, epilogues, has_prologue: true })
}

/// True where an operation has an instruction of its own. What lies on the stack before a function begins has none.
pub fn is_instruction(op: Op) -> bool {
    !matches!(op, Op::TrapFrame | Op::MachineFrame | Op::Context | Op::ClearUnwoundToCall)
}

/// The instructions of a sequence of operations.
pub fn instructions(ops: &[Op]) -> u32 {
    let all = ops.iter().take_while(|op| !matches!(op, Op::End | Op::EndOfFragment));
    all.filter(|op| is_instruction(**op)).count() as u32
}

/// Bytes of the instructions of an epilogue, with the return at its end.
pub fn epilogue_size(ops: &[Op]) -> u32 {
    (instructions(ops) + 1) * 4
}

/// The operations from a byte of the codes up to the end code.
fn operations(codes: &[u8], start: usize) -> Result<Vec<Op>, Missing> {
    let mut ops = Vec::new();
    let mut at = start;
    loop {
        let Some(first) = codes.get(at).copied() else {
            // Codes without an end are those of a record that fills its words exactly.
            ops.push(Op::End);
            return Ok(ops);
        };
        let size = code_size(first);
        let Some(code) = codes.get(at..at + size) else { return Err(Missing::Bad("its codes are cut")) };
        let op = operation(code)?;
        ops.push(op);
        if op == Op::End {
            return Ok(ops);
        }
        at += size;
    }
}

fn code_size(first: u8) -> usize {
    match first {
        0..=0xbf => 1,
        0xc0..=0xdf => 2,
        0xe0 => 4,
        0xe2 => 2,
        0xe7 => 3,
        0xf8 => 2,
        0xf9 => 3,
        0xfa => 4,
        0xfb => 5,
        _ => 1,
    }
}

fn operation(code: &[u8]) -> Result<Op, Missing> {
    let all = code.iter().fold(0u32, |all, byte| all << 8 | u32::from(*byte));
    let first = code.first().copied().unwrap_or(0xe4);
    let bits = |low: u32, count: u32| u64::from(all >> low & ((1 << count) - 1));
    let pair = |first: u64, offset, before| {
        let first = first as u8;
        Op::Save { first, second: Some(first.wrapping_add(1)), offset, before }
    };
    let one = |first: u64, offset, before| Op::Save { first: first as u8, second: None, offset, before };
    Ok(match first {
        0x00..=0x1f => Op::Allocate(bits(0, 5) * 16),
        0x20..=0x3f => pair(19, 0, bits(0, 5) * 8),
        0x40..=0x7f => pair(29, bits(0, 6) * 8, 0),
        0x80..=0xbf => pair(29, 0, bits(0, 6) * 8 + 8),
        0xc0..=0xc7 => Op::Allocate(bits(0, 11) * 16),
        0xc8..=0xcb => pair(19 + bits(6, 4), bits(0, 6) * 8, 0),
        0xcc..=0xcf => pair(19 + bits(6, 4), 0, bits(0, 6) * 8 + 8),
        0xd0..=0xd3 => one(19 + bits(6, 4), bits(0, 6) * 8, 0),
        0xd4..=0xd5 => one(19 + bits(5, 4), 0, bits(0, 5) * 8 + 8),
        0xd6..=0xd7 => Op::Save {
            first: (19 + 2 * bits(6, 3)) as u8,
            second: Some(30),
            offset: bits(0, 6) * 8,
            before: 0,
        },
        0xd8..=0xd9 => Op::SaveFloat { before: 0 },
        0xda..=0xdb => Op::SaveFloat { before: bits(0, 6) * 8 + 8 },
        0xdc..=0xdd => Op::SaveFloat { before: 0 },
        0xde => Op::SaveFloat { before: bits(0, 5) * 8 + 8 },
        // Space for scalable vectors, whose size only the processor knows.
        0xdf => return Err(Missing::Bad("a frame of scalable vectors")),
        0xe0 => Op::Allocate(bits(0, 24) * 16),
        0xe1 => Op::SetFp,
        0xe2 => Op::AddFp(bits(0, 8) * 8),
        0xe3 => Op::Nop,
        0xe4 => Op::End,
        0xe5 => Op::EndOfFragment,
        0xe6 => Op::SaveNext,
        0xe7 => any_register(all)?,
        0xe8 => Op::TrapFrame,
        0xe9 => Op::MachineFrame,
        0xea | 0xeb => Op::Context,
        0xec => Op::ClearUnwoundToCall,
        0xfc => Op::SignLr,
        _ => return Err(Missing::Bad("unknown code")),
    })
}

/// `save_any_reg`: bit 14 pair, 13 pre-indexed, 12–8 register, 7–6 kind, 5–0 offset.
fn any_register(all: u32) -> Result<Op, Missing> {
    let (is_pair, pre, register) = (all >> 14 & 1 != 0, all >> 13 & 1 != 0, (all >> 8 & 0x1f) as u8);
    let (kind, number) = (all >> 6 & 3, u64::from(all & 0x3f));
    let scale = if is_pair || pre || kind == 2 { 16 } else { 8 };
    let (offset, before) = if pre { (0, (number + 1) * scale) } else { (number * scale, 0) };
    match kind {
        0 => Ok(Op::Save {
            first: register,
            second: is_pair.then_some(register.wrapping_add(1)),
            offset,
            before,
        }),
        1 | 2 => Ok(Op::SaveFloat { before }),
        _ => Err(Missing::Bad("unknown code")),
    }
}

/// A packed word: the whole frame in 32 bits.
fn packed(word: u32, has_prologue: bool) -> Unwind {
    let bits = |low: u32, count: u32| word >> low & ((1 << count) - 1);
    let length = bits(2, 11) * 4;
    let (floats, integers, homes, link) = (bits(13, 3), bits(16, 4), bits(20, 1) != 0, bits(21, 2));
    let frame = u64::from(bits(23, 9)) * 16;
    let integer_bytes = u64::from(integers) * 8 + if link == 1 { 8 } else { 0 };
    let float_bytes = if floats > 0 { u64::from(floats) * 8 + 8 } else { 0 };
    let saved = (integer_bytes + float_bytes + if homes { 64 } else { 0 }).next_multiple_of(16);
    let local = frame.saturating_sub(saved);

    // The prologue in its own order; the first store lowers the stack pointer by the whole area.
    let mut ops = Vec::new();
    let mut before = saved;
    let mut take = || std::mem::take(&mut before);
    if link == 2 {
        ops.push(Op::SignLr);
    }
    let mut n = 0;
    while n < integers {
        let offset = u64::from(n) * 8;
        let second = match (n + 1 < integers, link == 1) {
            (true, _) => Some(19 + n as u8 + 1),
            // An odd last register shares its store with the link register.
            (false, true) => Some(30),
            (false, false) => None,
        };
        ops.push(Op::Save { first: 19 + n as u8, second, offset, before: take() });
        n += 2;
    }
    if link == 1 && integers.is_multiple_of(2) {
        ops.push(Op::Save { first: 30, second: None, offset: u64::from(integers) * 8, before: take() });
    }
    if floats > 0 {
        for _ in 0..(floats + 1).div_ceil(2) {
            ops.push(Op::SaveFloat { before: take() });
        }
    }
    if homes {
        for _ in 0..4 {
            match take() {
                0 => ops.push(Op::Nop),
                size => ops.push(Op::Allocate(size)),
            }
        }
    }
    let chained = link >= 2;
    if chained && local <= 512 {
        ops.push(Op::Save { first: 29, second: Some(30), offset: 0, before: local });
        ops.push(Op::SetFp);
    } else if local > 0 {
        let first = local.min(4080);
        ops.push(Op::Allocate(first));
        if local > first {
            ops.push(Op::Allocate(local - first));
        }
        if chained {
            ops.push(Op::Save { first: 29, second: Some(30), offset: 0, before: 0 });
            ops.push(Op::SetFp);
        }
    }
    ops.reverse();
    // The epilogue is the mirror image, without what needs no undoing.
    let mut epilogue: Vec<Op> = ops.iter().copied().filter(|op| !matches!(op, Op::SetFp | Op::Nop)).collect();
    epilogue.push(Op::End);
    ops.push(Op::End);
    let size = epilogue_size(&epilogue);
    Unwind { length, prologue: ops, epilogues: vec![(length.saturating_sub(size), epilogue)], has_prologue }
}

/// An entry of the function table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its first RVA.
    pub begin: u32,
    /// Packed data, or the RVA of the record.
    pub word: u32,
}

impl Function {
    /// From the eight bytes of an entry.
    pub fn parse(entry: &[u8; 8]) -> Function {
        Function { begin: number(entry, 0), word: number(entry, 4) }
    }
}
