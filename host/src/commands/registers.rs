//! `r`, `rM`, `rF`, `rX`: registers of the current processor, and the instruction they stand at.

use super::{Builtin, Call, Needs, switches::prompt};
use crate::disasm;
use crate::dump::Machine;
use crate::scope::Scope;
use crate::session::Session;
use crate::target::Registers;
use crate::target::rows::{self, mask};
use crate::typed::Type;
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Style, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[Builtin {
    names: &["r", "rM", "rF", "rX"],
    usage: "[MASK] [REGISTER [, REGISTER …]] | $tN = EXPRESSION | ? $tN = C++ EXPRESSION",
    summary: "Show registers",
    help: "r shows the integer registers (rm: which), rF floating point, rX the XMM registers, rM MASK the groups of MASK:\n\
           1, 2 integer; 4 floating point; 8 segments; 10 MMX; 20 debug; 40 XMM; 80 control; 100 descriptors;\n\
           800 XMM as integers. r rax,rcx shows those registers. r $t0 = EXPRESSION sets a pseudo-register;\n\
           r? $t0 = C++ EXPRESSION gives it the type too, for ?? and dx. Never on a dump: $ea2, $previp, $relip, $callret,\n\
           $extin, $bpN, $exr_chance. Which registers a dump holds: those that Windows\n\
           saved when it stopped (KPRCB), else those of the header; .dumpdebug tells what is there.",
    needs: Needs::Target,
    run: registers,
}];

fn registers(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let registers = scope.registers()?;
    let mut args = call.args;
    let groups = match call.name {
        "rF" => mask::FLOAT,
        "rX" => mask::XMM,
        "rM" => {
            let (value, rest) = scope.evaluate_first(args)?;
            args = rest;
            let value = u32::try_from(value).unwrap_or(u32::MAX);
            if value & !mask::ALL != 0 {
                out.line(&format!("Ignored invalid bits {:X}", value & !mask::ALL));
            }
            value & mask::ALL
        }
        _ => session.settings.kept.registers,
    };
    if let Some(args) = args.strip_prefix('?') {
        return set_typed(session, &scope, args);
    }
    if args.contains('=') && sets_variables(session, args)? {
        return Ok(());
    }
    if scope.contexts.registers.is_some() && args.is_empty() {
        out.line("Last set context:");
    }
    if !args.is_empty() {
        return named(&registers, out, &scope, args);
    }
    show(&registers, groups, out);
    instruction(&scope, &registers, out, prompt::ALL);
    Ok(())
}

/// What `r` shows, for registers from elsewhere.
pub fn show_registers(scope: &Scope, registers: &Registers, out: &Out<'_>) {
    show(registers, mask::DEFAULT, out);
    instruction(scope, registers, out, prompt::ALL);
}

/// The registers of some groups.
fn show(registers: &Registers, groups: u32, out: &Out<'_>) {
    out.record("registers", |out| {
        for row in rows::rows(registers, groups) {
            for cell in &row.cells {
                match cell.value {
                    Some(value) => match u64::try_from(value) {
                        Ok(value) => out.field(&cell.name, Value::Hex(value), &cell.text),
                        Err(_) => out.field(&cell.name, Value::Text(&format!("{value:#x}")), &cell.text),
                    },
                    None if cell.name.is_empty() => out.text(&cell.text),
                    None => out.field(&cell.name, Value::Text(cell.text.trim()), &cell.text),
                }
            }
            out.end_line();
        }
    });
}

/// `r? $t0 = EXPR`: the value of a C++ expression and its type, which `??` and `dx` see from then on.
fn set_typed(session: &mut Session, scope: &Scope, args: &str) -> Result<()> {
    let usage = || Error::Usage("r? $t0 = C++ EXPRESSION gives $t0 to $t19 a value with a type".to_owned());
    let (name, text) = args.split_once('=').ok_or_else(usage)?;
    let name = name.trim().trim_start_matches('@').to_ascii_lowercase();
    let evaluated = scope.evaluate_typed(text.trim_start())?;
    let number = evaluated.number(scope).map_err(|error| {
        Error::Usage(format!("{error}; a register holds a number or a pointer: take the address with &"))
    })?;
    // What an array becomes wherever it is a value.
    let ty = match evaluated.value.ty {
        Type::Array(of, _) => Type::Pointer(of, scope.pointer_size().into()),
        ty => ty,
    };
    if !session.variables.set_type(&name, Some(ty)) {
        return Err(usage());
    }
    session.variables.set(&name, number);
    Ok(())
}

/// `r $t0 = EXPR`, several after commas, and `r $.u0 = TEXT`. False where the first operand is no user's register.
fn sets_variables(session: &mut Session, args: &str) -> Result<bool> {
    let mut rest = args.trim();
    let mut any = false;
    if let Some((number, text)) = rest.strip_prefix("$.u").and_then(|rest| rest.split_once('=')) {
        let number = number.trim().parse().unwrap_or(usize::MAX);
        let set = session.aliases.set_fixed(number, text.trim());
        return if set { Ok(true) } else { Err(Error::Usage("fixed aliases are $.u0 to $.u9".to_owned())) };
    }
    while let Some((name, value)) = rest.split_once('=') {
        let name = name.trim().trim_start_matches('@').to_ascii_lowercase();
        if session.variables.get(&name).is_none() {
            break;
        }
        any = true;
        let (number, after) = session.scope(None)?.evaluate_first(value.trim_start())?;
        session.variables.set(&name, number);
        session.variables.set_type(&name, None);
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    if any && !rest.is_empty() {
        return Err(Error::Usage(format!("extra character error in '{rest}'")));
    }
    Ok(any)
}

/// `r rax, rcx`, `r @$ip`.
fn named(registers: &Registers, out: &Out<'_>, scope: &Scope, names: &str) -> Result<()> {
    if names.contains('=') {
        return Err(Error::Unsupported("registers of a dump cannot be changed".to_owned()));
    }
    let mut line = Vec::new();
    for name in names.split([',', ' ']).map(str::trim).filter(|name| !name.is_empty()) {
        let name = name.strip_prefix('@').unwrap_or(name).to_ascii_lowercase();
        let width = registers.raw(&name).map_or(scope.pointer_size() as usize, <[u8]>::len) * 2;
        if let Some(value) = registers.get_wide(&name) {
            line.push((name, Some(value), format!("{value:0width$x}")));
        } else if let Some(value) = scope.register(&name) {
            line.push((name, Some(value.into()), format!("{value:0width$x}")));
        } else if Registers::names(registers.machine()).any(|known| known.eq_ignore_ascii_case(&name)) {
            line.push((name, None, "not in this dump".to_owned()));
        } else {
            return Err(Error::NotFound(format!("bad register error at '{name}'")));
        }
    }
    out.record("registers", |out| {
        for (index, (name, value, shown)) in line.iter().enumerate() {
            out.text(if index > 0 { " " } else { "" });
            out.text(&format!("{name}="));
            match value {
                Some(value) => match u64::try_from(*value) {
                    Ok(value) => out.field(name, Value::Hex(value), shown),
                    Err(_) => out.field(name, Value::Text(&format!("{value:#x}")), shown),
                },
                None => out.field(name, Value::Null, shown),
            }
        }
    });
    out.end_line();
    Ok(())
}

/// True for a register of any machine.
pub fn is_register_name(name: &str) -> bool {
    [Machine::X86, Machine::X64, Machine::Arm64]
        .into_iter()
        .any(|machine| Registers::names(machine).any(|known| known.eq_ignore_ascii_case(name)))
}

/// The symbol line and the instruction at the current processor's instruction pointer.
pub fn show_instruction(session: &Session, out: &Out<'_>, processor: Option<u32>) -> Result<()> {
    let scope = session.scope(processor)?;
    match scope.registers() {
        Ok(registers) => {
            let allowed = session.settings.kept.prompt;
            instruction(&scope, &registers, out, allowed);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The instruction that comes next, of it what `.prompt_allow` allows; `r` shows all.
fn instruction(scope: &Scope, registers: &Registers, out: &Out<'_>, allowed: u32) {
    let ip = registers.ip();
    out.record("instruction", |out| {
        out.data("address", Value::Hex(ip.0));
        if let Some(symbol) = scope.name_of(ip).filter(|_| allowed & prompt::SYMBOL != 0) {
            let symbol = symbol.to_string();
            out.styled_field("symbol", Value::Text(&symbol), Style::Symbol, &symbol);
            out.line(":");
        }
        if allowed & prompt::INSTRUCTION == 0 {
            return;
        }
        let mut bytes = [0; disasm::LONGEST];
        let outcome = scope.read_code(ip, &mut bytes);
        let code = bytes.get(..outcome.done).unwrap_or_default();
        let resolve = |va: Va| scope.name_of(va).map(|hit| hit.to_string());
        match disasm::decode(registers.machine(), ip, code, &resolve) {
            Some(instruction) => {
                let read = |va: Va, buffer: &mut [u8]| scope.read(va, buffer).fault.is_none();
                let tail = instruction.tail(registers, &read, &resolve);
                let line = instruction.line_of(!scope.look.assembly.no_code_bytes);
                out.field("text", Value::Text(&instruction.text()), &line);
                if let Some(operand) = &tail.operand {
                    out.data("operand_address", Value::Hex(operand.va.0));
                }
                if allowed & prompt::OPERAND != 0 {
                    out.text(&tail.text);
                }
            }
            None => {
                let why = outcome.fault.map_or("cut".to_owned(), |fault| fault.why.to_string());
                let line = format!("{} ({why})", disasm::unreadable_line(registers.machine(), ip));
                out.field("missing", Value::Text(&why), &line);
            }
        }
        out.end_line();
    });
}
