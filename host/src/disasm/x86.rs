//! x86 and x64, through `iced-x86` with its MASM formatter set to KD's look.

use iced_x86::{
    ConditionCode, Decoder, DecoderError, DecoderOptions, FlowControl, Formatter, Instruction as Decoded,
    MasmFormatter, MemorySizeOptions, Mnemonic, OpKind, Register, SymbolResolver, SymbolResult,
};
use kd_sdk::address::Va;

use super::{Condition, Flow, Instruction, MemoryForm, Resolve, named};
use crate::dump::Machine;

/// Decodes one instruction in the given mode, 32 or 64.
pub fn decode(bits: u32, va: Va, bytes: &[u8], resolve: Resolve<'_>) -> Option<Instruction> {
    let machine = if bits == 64 { Machine::X64 } else { Machine::X86 };
    let mut decoder = Decoder::with_ip(bits, bytes, va.0, DecoderOptions::NONE);
    if !decoder.can_decode() {
        return None;
    }
    let decoded = decoder.decode();
    if decoded.is_invalid() {
        if decoder.last_error() == DecoderError::NoMoreBytes {
            return None;
        }
        return Some(Instruction {
            va,
            bytes: bytes.get(..1)?.to_vec(),
            mnemonic: "???".to_owned(),
            operands: String::new(),
            flow: Flow::Stop,
            memory: None,
            condition: None,
            machine,
        });
    }
    let (mnemonic, operands) = text(&decoded, machine, resolve);
    Some(Instruction {
        va,
        bytes: bytes.get(..decoded.len())?.to_vec(),
        mnemonic,
        operands,
        flow: flow(&decoded),
        memory: memory(&decoded, machine),
        condition: condition(decoded.condition_code()),
        machine,
    })
}

/// Names for the formatter: of a branch target, of an address without registers, of an immediate. The formatter wants
/// to own its resolver, so they are looked up before it is made.
#[derive(Default)]
struct Names {
    branch: Option<String>,
    memory: Option<String>,
    immediate: Option<String>,
}

impl Names {
    fn look_up(decoded: &Decoded, machine: Machine, resolve: Resolve<'_>) -> Names {
        let mut names = Names::default();
        for operand in 0..decoded.op_count() {
            match decoded.op_kind(operand) {
                OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                    names.branch = Some(named(machine, Va(decoded.near_branch_target()), resolve));
                }
                OpKind::Memory if decoded.is_ip_rel_memory_operand() => {
                    names.memory = Some(named(machine, Va(decoded.ip_rel_memory_address()), resolve));
                }
                OpKind::Memory if is_plain_address(decoded) => {
                    let va = Va(decoded.memory_displacement64());
                    names.memory = resolve(va).map(|_| named(machine, va, resolve));
                }
                // KD names immediate addresses in 32-bit code.
                OpKind::Immediate32 if machine == Machine::X86 => {
                    let va = Va(u64::from(decoded.immediate32()));
                    names.immediate = resolve(va).map(|_| named(machine, va, resolve));
                }
                _ => {}
            }
        }
        names
    }
}

impl SymbolResolver for Names {
    fn symbol(
        &mut self,
        instruction: &Decoded,
        _operand: u32,
        operand: Option<u32>,
        address: u64,
        _address_size: u32,
    ) -> Option<SymbolResult<'_>> {
        let text = match instruction.op_kind(operand?) {
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => self.branch.as_deref(),
            OpKind::Memory => self.memory.as_deref(),
            OpKind::Immediate32 => self.immediate.as_deref(),
            _ => None,
        };
        text.map(|text| SymbolResult::with_str(address, text))
    }
}

/// True for a memory operand that names an address by itself, in the flat segment.
fn is_plain_address(decoded: &Decoded) -> bool {
    decoded.memory_base() == Register::None
        && decoded.memory_index() == Register::None
        && !matches!(decoded.memory_segment(), Register::FS | Register::GS)
}

/// (mnemonic, operands).
fn text(decoded: &Decoded, machine: Machine, resolve: Resolve<'_>) -> (String, String) {
    if let Some(text) = string_instruction(decoded, machine) {
        return text;
    }
    let names = Names::look_up(decoded, machine, resolve);
    let mut formatter = MasmFormatter::with_options(Some(Box::new(names)), None);
    let options = formatter.options_mut();
    options.set_show_branch_size(false);
    options.set_memory_size_options(MemorySizeOptions::Always);
    options.set_uppercase_hex(true);
    // KD writes all digits of an address without registers in 32-bit code: `fs:[00000124h]`.
    options
        .set_displacement_leading_zeros(machine == Machine::X86 && decoded.memory_base() == Register::None);
    let mut mnemonic = String::new();
    formatter.format_mnemonic(decoded, &mut mnemonic);
    let mut operands = String::new();
    formatter.format_all_operands(decoded, &mut operands);
    // KD's word for eight bytes that go through a vector register.
    let vector =
        |operand| decoded.op_kind(operand) == OpKind::Register && is_vector(decoded.op_register(operand));
    if (0..decoded.op_count()).any(vector) && !mnemonic.starts_with("cvtsi2") {
        operands = operands.replace("qword ptr", "mmword ptr");
    }
    (mnemonic, operands)
}

fn is_vector(register: Register) -> bool {
    register.is_xmm() || register.is_mm()
}

/// The string instructions, which KD writes with their memory operands: `rep stos qword ptr [rdi]`.
fn string_instruction(decoded: &Decoded, machine: Machine) -> Option<(String, String)> {
    use Mnemonic::*;
    // (name, size, writes [di], reads [si])
    let (name, size, to, from) = match decoded.mnemonic() {
        Movsb => ("movs", 1, true, true),
        Movsw => ("movs", 2, true, true),
        // The SSE instruction of the same name has registers.
        Movsd if decoded.op0_kind() != OpKind::Register && decoded.op1_kind() != OpKind::Register => {
            ("movs", 4, true, true)
        }
        Movsq => ("movs", 8, true, true),
        Stosb => ("stos", 1, true, false),
        Stosw => ("stos", 2, true, false),
        Stosd => ("stos", 4, true, false),
        Stosq => ("stos", 8, true, false),
        Lodsb => ("lods", 1, false, true),
        Lodsw => ("lods", 2, false, true),
        Lodsd => ("lods", 4, false, true),
        Lodsq => ("lods", 8, false, true),
        Scasb => ("scas", 1, true, false),
        Scasw => ("scas", 2, true, false),
        Scasd => ("scas", 4, true, false),
        Scasq => ("scas", 8, true, false),
        Cmpsb => ("cmps", 1, true, true),
        Cmpsw => ("cmps", 2, true, true),
        Cmpsd if decoded.op0_kind() != OpKind::Register => ("cmps", 4, true, true),
        Cmpsq => ("cmps", 8, true, true),
        _ => return None,
    };
    let compares = matches!(name, "cmps" | "scas");
    let prefix = match (decoded.has_rep_prefix(), decoded.has_repne_prefix()) {
        (true, _) if compares => "repe ",
        (true, _) => "rep ",
        (_, true) => "repne ",
        _ => "",
    };
    let word = match size {
        1 => "byte",
        2 => "word",
        4 => "dword",
        _ => "qword",
    };
    let (si, di) = if machine == Machine::X64 { ("[rsi]", "[rdi]") } else { ("[esi]", "es:[edi]") };
    let operand = |place: &str| format!("{word} ptr {place}");
    let operands = match (to, from) {
        (true, true) if compares => format!("{},{}", operand(si), operand(di)),
        (true, true) => format!("{},{}", operand(di), operand(si)),
        (true, false) => operand(di),
        _ => operand(si),
    };
    Some((format!("{prefix}{name}"), operands))
}

fn flow(decoded: &Decoded) -> Flow {
    let target = || Some(Va(decoded.near_branch_target())).filter(|va| !va.is_null());
    match decoded.flow_control() {
        FlowControl::UnconditionalBranch => Flow::Jump(target()),
        FlowControl::IndirectBranch => Flow::Jump(None),
        FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => {
            target().map_or(Flow::Next, Flow::Branch)
        }
        FlowControl::Return => Flow::Return,
        FlowControl::Call => Flow::Call(target()),
        FlowControl::IndirectCall => Flow::Call(None),
        FlowControl::Exception => Flow::Stop,
        FlowControl::Next | FlowControl::Interrupt => Flow::Next,
    }
}

/// The operand in memory, for instructions that access it.
fn memory(decoded: &Decoded, machine: Machine) -> Option<MemoryForm> {
    if matches!(decoded.mnemonic(), Mnemonic::Lea | Mnemonic::Nop) {
        return None;
    }
    let stringy = |base: &str, segment| MemoryForm {
        segment,
        base: Some(base.to_owned()),
        index: None,
        scale: 1,
        displacement: 0,
        size: decoded.memory_size().size(),
        is_target: false,
    };
    let kinds = (0..decoded.op_count()).map(|operand| decoded.op_kind(operand));
    for kind in kinds {
        match kind {
            OpKind::Memory => {}
            OpKind::MemoryESRDI => return Some(stringy("rdi", "es")),
            OpKind::MemoryESEDI => return Some(stringy("edi", "es")),
            OpKind::MemorySegRSI => return Some(stringy("rsi", "ds")),
            OpKind::MemorySegESI => return Some(stringy("esi", "ds")),
            _ => continue,
        }
        let relative = decoded.is_ip_rel_memory_operand();
        let name = |register: Register| {
            (register != Register::None && !relative).then(|| format!("{register:?}").to_ascii_lowercase())
        };
        let segment = match decoded.memory_segment() {
            Register::FS => "fs",
            Register::GS => "gs",
            Register::SS => "ss",
            Register::ES => "es",
            Register::CS => "cs",
            _ => "ds",
        };
        let displacement =
            if relative { decoded.ip_rel_memory_address() } else { decoded.memory_displacement64() };
        return Some(MemoryForm {
            segment,
            base: name(decoded.memory_base()),
            index: name(decoded.memory_index()),
            scale: decoded.memory_index_scale(),
            displacement: if machine == Machine::X86 { displacement & 0xffff_ffff } else { displacement },
            size: decoded.memory_size().size(),
            is_target: matches!(flow(decoded), Flow::Call(None) | Flow::Jump(None)),
        });
    }
    None
}

fn condition(code: ConditionCode) -> Option<Condition> {
    use Condition::*;
    Some(match code {
        ConditionCode::None => return None,
        ConditionCode::o => O,
        ConditionCode::no => Not(&O),
        ConditionCode::b => B,
        ConditionCode::ae => Not(&B),
        ConditionCode::e => E,
        ConditionCode::ne => Not(&E),
        ConditionCode::be => Be,
        ConditionCode::a => Not(&Be),
        ConditionCode::s => S,
        ConditionCode::ns => Not(&S),
        ConditionCode::p => P,
        ConditionCode::np => Not(&P),
        ConditionCode::l => L,
        ConditionCode::ge => Not(&L),
        ConditionCode::le => Le,
        ConditionCode::g => Not(&Le),
    })
}
