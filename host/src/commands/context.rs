//! What is looked at in place of the processor's own: `.cxr`, `.trap`, `.thread`, `.process`, `.context`, `.tss`,
//! `.frame`; and what belongs to it: `.exr`, `.ecxr`, `.effmach`.
//!
//! A chosen register context holds for `r`, `k`, `u` and expressions until it is reset, until `~` or until another
//! target. A processor prefix (`2k`) never sees it. Offsets come from the kernel's types where they are at hand, else
//! from the debugger data block or from what no version of Windows has changed; then the command says so.

use super::frames;
use super::registers::show_registers;
use super::stack::show_frame;
use super::{Builtin, Call, Needs, reload};
use crate::contexts::unreadable;
use crate::dump::Machine;
use crate::scope::Scope;
use crate::session::Session;
use crate::stack::{AddressSpace, ContextKind, ExplicitContext};
use crate::target::{Registers, kd_fields as field};
use kd_sdk::address::{Pa, Va};
use kd_sdk::error::{Error, Result};
use kd_sdk::output::{Out, Value};
use std::sync::Arc;

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[
    Builtin {
        names: &[".cxr"],
        usage: "[ADDRESS]",
        summary: "Look at the registers of a context record",
        help: "r, k, u and expressions then use it. Without an address the processor's own registers are back;\n\
               .cxr -1 takes the record in the dump's header.",
        needs: Needs::Target,
        run: context_record,
    },
    Builtin {
        names: &[".trap"],
        usage: "[ADDRESS]",
        summary: "Look at the registers of a trap frame",
        help: "As .cxr, for a KTRAP_FRAME; kv shows where they are.",
        needs: Needs::Target,
        run: trap_frame,
    },
    Builtin {
        names: &[".thread"],
        usage: "[/p] [/r] [/w] [ADDRESS]",
        summary: "Look at the registers and the stack of a thread",
        help: "As .cxr, for the registers that the kernel saved when it took the processor from an ETHREAD.\n\
               /p looks at the memory of its process too, /r finds the process's modules as well,\n\
               /w looks at the 32-bit registers of a 32-bit program's thread and makes x86 the machine. The current thread ($thread) stays what it is.",
        needs: Needs::Target,
        run: thread,
    },
    Builtin {
        names: &[".process"],
        usage: "[/p] [/r] [ADDRESS]",
        summary: "Look at the user memory of a process",
        help: "Memory commands then read through the page tables of the EPROCESS, and $proc is it. Without an address\n\
               the default process is back. /r finds the modules of the process, as .reload /user does; without it those\n\
               of another process are forgotten. /p, /P, /i are taken for KD's sake.",
        needs: Needs::Target,
        run: process,
    },
    Builtin {
        names: &[".context"],
        usage: "[DIRBASE]",
        summary: "Show or set the root of the page tables",
        help: "0 goes back to those of the dump's header.",
        needs: Needs::Target,
        run: page_directory,
    },
    Builtin {
        names: &[".tss"],
        usage: "[ADDRESS|SELECTOR]",
        summary: "Look at the registers of a task state segment (x86)",
        help: "",
        needs: Needs::Target,
        run: task,
    },
    Builtin {
        names: &[".frame"],
        usage: "[/r] [/c] [N | = BASE [N] | = BASE SP IP]",
        summary: "Show a frame of the stack and make it current",
        help: "N is the number that kn shows. dv then shows that frame's variables, $frame is its number, $ra where it\n\
               returns to. /r shows the registers that calls preserve, as they were in that frame; /c makes them those of\n\
               r, k and u. After = the stack is walked from other registers: BASE is the stack pointer, on x86 the\n\
               frame pointer.",
        needs: Needs::Target,
        run: frame,
    },
    Builtin {
        names: &[".f+", ".f-"],
        usage: "",
        summary: "Make the next frame of the stack current (.f+: the caller's), or the one before",
        help: "",
        needs: Needs::Target,
        run: shift_frame,
    },
    Builtin {
        names: &[".exptr"],
        usage: "ADDRESS",
        summary: "Show the exception record and the context that an EXCEPTION_POINTERS names",
        help: "As .exr and .cxr do with the two pointers at the address; the context's registers are chosen.",
        needs: Needs::Target,
        run: exception_pointers,
    },
    Builtin {
        names: &[".exr"],
        usage: "ADDRESS | -1",
        summary: "Show an exception record",
        help: "-1 is the one in the dump's header.",
        needs: Needs::Target,
        run: exception_record,
    },
    Builtin {
        names: &[".ecxr", ".excr"],
        usage: "",
        summary: "Look at the context of the exception (user-mode dumps only)",
        help: "",
        needs: Needs::Target,
        run: |_, _, _| {
            Err(Error::Unsupported(
                "Unable to get exception context: kernel dumps have none of that kind; .cxr takes a record's address, \
                 !analyze names it"
                    .to_owned(),
            ))
        },
    },
    Builtin {
        names: &[".effmach"],
        usage: "[. | # | x86 | amd64 | arm64]",
        summary: "Show the machine whose registers and code are looked at",
        help: "x86 on a 64-bit system: r, k and u show the 32-bit code of a 32-bit program, addresses have 32 bits. Its\n\
               registers are those that the emulation kept of the current thread; .thread /w chooses another's.\n\
               . and # go back to the machine of the target.",
        needs: Needs::Target,
        run: effective_machine,
    },
];

/// The address of an argument; `None` where there is none.
fn address(scope: &Scope, text: &str) -> Result<Option<Va>> {
    match text.trim() {
        "" => Ok(None),
        text => Ok(Some(Va(scope.evaluate(text)?)).filter(|va| !va.is_null())),
    }
}

/// Options in front of an argument: (those that were there, the rest).
fn options<'t>(text: &'t str, known: &[char]) -> Result<(Vec<char>, &'t str)> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while let Some(after) = rest.strip_prefix('/') {
        let Some(letter) = after.chars().next().filter(|letter| known.contains(letter)) else {
            return Err(Error::Usage(format!("unknown option at '{rest}'")));
        };
        found.push(letter);
        rest = after.get(letter.len_utf8()..).unwrap_or_default().trim_start();
    }
    Ok((found, rest))
}

/// Makes registers current and shows them.
fn choose(session: &mut Session, out: &Out<'_>, context: ExplicitContext) -> Result<()> {
    let registers = context.registers.clone();
    session.set_registers(Some(context));
    show_registers(&session.scope(None)?, &registers, out);
    Ok(())
}

/// Back to the processor's own registers.
fn reset(session: &mut Session, out: &Out<'_>) -> Result<()> {
    if session.contexts.registers.is_some() {
        session.set_registers(None);
        out.line("Resetting default scope");
    }
    Ok(())
}

fn context_record(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let Some(at) = address(&scope, call.args)? else { return reset(session, out) };
    let target = scope.target()?;
    let registers = if at.0 == u64::MAX {
        target
            .header_registers()
            .ok_or_else(|| Error::NotFound("the dump's header holds no context record".to_owned()))?
    } else {
        scope.record_registers(at)?
    };
    choose(session, out, ExplicitContext { registers, kind: ContextKind::Record, at })
}

fn trap_frame(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let Some(at) = address(&scope, call.args)? else { return reset(session, out) };
    let registers = scope.trap_registers(at)?;
    if scope.target()?.machine() == Machine::X64 {
        out.line("NOTE: The trap frame does not contain all registers.");
        out.line("Some register values may be zeroed or incorrect.");
    }
    choose(session, out, ExplicitContext { registers, kind: ContextKind::Trap, at })
}

fn thread(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let (flags, rest) = options(call.args, &['p', 'P', 'r', 'w'])?;
    let pointer = scope.target()?.pointer_size();
    if flags.contains(&'w') {
        // The registers are in the memory of the thread's process.
        let at = address(&scope, rest)?.or_else(|| scope.register("$thread").map(Va));
        let at = at.ok_or_else(|| Error::Usage(".thread /w ADDRESS".to_owned()))?;
        if flags.contains(&'p') {
            show_process_of(session, &scope, out, at, flags.contains(&'r'))?;
        }
        let registers = session.scope(None)?.narrow_registers(at)?;
        session.contexts.machine = Some(Machine::X86);
        session.set_registers(Some(ExplicitContext { registers, kind: ContextKind::Thread, at }));
        out.field("thread", Value::Hex(at.0), &format!("Implicit thread is now {}", at.show(pointer)));
        out.end_line();
        out.line("x86 context set");
        return Ok(());
    }
    session.contexts.machine = None;
    let scope = session.scope(call.processor)?;
    let Some(at) = address(&scope, rest)? else {
        session.set_registers(None);
        let current = scope.register("$thread").ok_or_else(|| {
            Error::NotFound(
                "Unable to get the current thread data: the dump does not tell which it is".to_owned(),
            )
        })?;
        out.field(
            "thread",
            Value::Hex(current),
            &format!("Implicit thread is now {}", Va(current).show(pointer)),
        );
        out.end_line();
        return Ok(());
    };
    let (registers, note) = scope.thread_registers(at)?;
    if flags.contains(&'p') {
        show_process_of(session, &scope, out, at, flags.contains(&'r'))?;
    }
    session.set_registers(Some(ExplicitContext { registers, kind: ContextKind::Thread, at }));
    out.field("thread", Value::Hex(at.0), &format!("Implicit thread is now {}", at.show(pointer)));
    out.end_line();
    if let Some(note) = note {
        out.line(note);
    }
    Ok(())
}

/// Makes the process of a thread current.
fn show_process_of(
    session: &mut Session,
    scope: &Scope,
    out: &Out<'_>,
    thread: Va,
    find: bool,
) -> Result<()> {
    let target = scope.target()?;
    let process = target
        .kd_data()
        .and_then(|data| data.offset(field::OFFSET_KTHREAD_APC_PROCESS))
        .and_then(|offset| scope.read_number(thread.add(offset), target.pointer_size() as usize).ok());
    match process.filter(|process| *process != 0) {
        Some(process) => {
            set_process(session, scope, out, Va(process))?;
            follow_process(session, out, find)
        }
        None => Ok(()),
    }
}

fn process(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(None)?;
    let (flags, rest) = options(call.args, &['p', 'P', 'r', 'i'])?;
    let pointer = scope.pointer_size();
    match address(&scope, rest)? {
        Some(at) => set_process(session, &scope, out, at)?,
        None => {
            session.contexts.space = None;
            let scope = session.scope(None)?;
            let current = scope.register("$proc").ok_or_else(|| {
                Error::NotFound(
                    "Unable to get the current process data: the dump does not tell which it is".to_owned(),
                )
            })?;
            out.field(
                "process",
                Value::Hex(current),
                &format!("Implicit process is now {}", Va(current).show(pointer)),
            );
            out.end_line();
        }
    }
    follow_process(session, out, flags.contains(&'r'))
}

/// The modules of processes follow the current one: `/r` finds them.
fn follow_process(session: &mut Session, out: &Out<'_>, find: bool) -> Result<()> {
    if find { reload::user_modules(session, out) } else { reload::leave_process(session) }
}

fn set_process(session: &mut Session, scope: &Scope, out: &Out<'_>, at: Va) -> Result<()> {
    let target = scope.target()?;
    let pointer = scope.pointer_size();
    let root = scope.root_of_process(at)?;
    let view = scope.space(root)?;
    session.contexts.space = Some(Arc::new(AddressSpace { view, root, process: Some(at) }));
    session.last_display = Default::default();
    out.field("process", Value::Hex(at.0), &format!("Implicit process is now {}", at.show(pointer)));
    out.end_line();
    if target.view().tables().is_none() {
        out.line("This dump has no page tables: memory stays what the dump holds of it");
    }
    Ok(())
}

fn page_directory(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(None)?;
    let target = scope.target()?;
    if !call.args.is_empty() {
        let root = scope.evaluate(call.args)?;
        session.contexts.space = match (root, target.view().tables()) {
            (0, _) => None,
            (root, Some(tables)) => {
                let view = target.view().with_tables(&tables.with_root(Pa(root)));
                Some(Arc::new(AddressSpace { view, root: Pa(root), process: None }))
            }
            (_, None) => {
                return Err(Error::Unsupported(format!(
                    "a {} dump has no page tables to look through",
                    target.kind()
                )));
            }
        };
        session.last_display = Default::default();
        return Ok(());
    }
    let root = session.contexts.space.as_ref().map_or(0, |space| space.root.0);
    out.field("directory_base", Value::Hex(root), &format!("User-mode page directory base is {root:x}"));
    out.end_line();
    Ok(())
}

fn task(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    /// Registers and their places in a 32-bit task state segment (Intel's manual, volume 3).
    const PLACES: &[(&str, u64)] = &[
        ("eip", 0x20),
        ("efl", 0x24),
        ("eax", 0x28),
        ("ecx", 0x2c),
        ("edx", 0x30),
        ("ebx", 0x34),
        ("esp", 0x38),
        ("ebp", 0x3c),
        ("esi", 0x40),
        ("edi", 0x44),
        ("es", 0x48),
        ("cs", 0x4c),
        ("ss", 0x50),
        ("ds", 0x54),
        ("fs", 0x58),
        ("gs", 0x5c),
    ];
    let scope = session.scope(call.processor)?;
    if scope.target()?.machine() != Machine::X86 {
        return Err(Error::Unsupported("only 32-bit Windows switches tasks".to_owned()));
    }
    let Some(mut at) = address(&scope, call.args)? else { return reset(session, out) };
    if at.0 < 0x1_0000 {
        at = segment_base(&scope, at.0)?;
    }
    let mut registers = scope.registers().unwrap_or_else(|_| Registers::zeroed(Machine::X86));
    for (name, place) in PLACES {
        let value = scope.read_number(at.add(*place), 4).map_err(|fault| unreadable("the task", &fault))?;
        registers.set(name, value);
    }
    choose(session, out, ExplicitContext { registers, kind: ContextKind::Task, at })
}

/// The base of a segment, by its descriptor in the table of the processor.
fn segment_base(scope: &Scope, selector: u64) -> Result<Va> {
    let table = scope.register("gdtr").ok_or_else(|| {
        Error::NotFound("the dump does not hold the processor's descriptor table".to_owned())
    })?;
    let descriptor = scope
        .read_number(Va(table).add(selector & !7), 8)
        .map_err(|fault| unreadable("the segment descriptor", &fault))?;
    Ok(Va(descriptor >> 16 & 0xff_ffff | descriptor >> 32 & 0xff00_0000))
}

fn shift_frame(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let current = session.contexts.frame;
    let wanted = if call.name == ".f+" { current.checked_add(1) } else { current.checked_sub(1) };
    let wanted = wanted.ok_or_else(|| Error::Usage("frame 0 is the first".to_owned()))?;
    frame(session, out, &Call { args: &format!("{wanted:#x}"), ..*call })
}

fn exception_pointers(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let at = Va(scope.evaluate(call.args)?);
    let record = scope.read_pointer(at)?;
    let context = scope.read_pointer(at.add(scope.target()?.pointer_size().into()))?;
    session.run_block(&format!(".exr {:#x}; .cxr {:#x}", record.0, context.0), out)
}

fn frame(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let (flags, rest) = options(call.args, &['r', 'c'])?;
    let current = session.contexts.frame;
    let (start, wanted) = match (rest, rest.strip_prefix('=')) {
        ("", _) => (scope.registers()?, current),
        (_, Some(values)) => from_values(&scope, values)?,
        (text, None) => (scope.registers()?, usize::try_from(scope.evaluate(text)?).unwrap_or(usize::MAX)),
    };
    // Calls in line have numbers too, so there are at least as many lines as frames.
    let frames = scope.stack_from(start, wanted.max(current).saturating_add(1), &|| false)?;
    let rows = frames::rows(&scope, &frames, session.settings.shows_lines());
    let number = if wanted < rows.len() { wanted } else { current };
    if number != wanted {
        out.line(&format!("Cannot find frame {wanted:#x}, previous scope unchanged"));
    }
    let Some(row) = rows.get(number) else { return Ok(()) };
    show_frame(&scope, out, number, row);
    let registers = row.frame.registers.clone();
    let (level, at) = (row.local().level, row.frame.sp);
    if flags.contains(&'c') {
        let chosen = ExplicitContext { registers: registers.clone(), kind: ContextKind::Frame, at };
        session.set_registers(Some(chosen));
        // Its own frame 0 from now on; of calls in line the one that was chosen.
        let depth = rows.iter().filter(|other| std::ptr::eq(other.frame, row.frame)).count();
        session.contexts.frame = depth.saturating_sub(1 + level);
    } else {
        session.contexts.frame = number;
    }
    session.contexts.local = Some(Arc::new(row.local()));
    if flags.contains(&'r') {
        show_registers(&scope, &registers, out);
    }
    Ok(())
}

/// `.frame = BASE [INCREMENT]`, `.frame = BASE SP IP`: the registers to begin with and the frame from there.
fn from_values(scope: &Scope, text: &str) -> Result<(Registers, usize)> {
    let mut registers = scope.registers()?;
    let names = crate::target::context::layout(registers.machine());
    let mut values = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() && values.len() < 4 {
        let (value, after) = scope.evaluate_first(rest)?;
        values.push(value);
        rest = after.trim_start();
    }
    // Without a frame pointer in every frame, the base is the stack pointer.
    let base = if registers.machine() == Machine::X86 { names.fp } else { names.sp };
    match values[..] {
        [at] | [at, _] => registers.set(base, at),
        [fp, sp, ip] => {
            registers.set(names.fp, fp);
            registers.set(names.sp, sp);
            registers.set(names.ip, ip)
        }
        _ => return Err(Error::Usage(".frame = BASE [INCREMENT] | = BASE SP IP".to_owned())),
    };
    let increment = match values[..] {
        [_, increment] => usize::try_from(increment).unwrap_or(usize::MAX),
        _ => 0,
    };
    Ok((registers, increment))
}

fn effective_machine(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    const NAMES: [(Machine, &[&str], &str); 3] = [
        (Machine::X86, &["x86", "i386"], "x86 compatible (x86)"),
        (Machine::X64, &["amd64", "x64"], "x64 (AMD64)"),
        (Machine::Arm64, &["arm64", "arm"], "ARM 64-bit (AArch64) (arm64)"),
    ];
    let own = session.scope(None)?.target()?.machine();
    let wanted = call.args.trim();
    let named = |wanted: &str| {
        NAMES.iter().find(|(_, names, _)| names.iter().any(|name| name.eq_ignore_ascii_case(wanted)))
    };
    session.contexts.machine = match (wanted, named(wanted)) {
        ("", _) => session.contexts.machine,
        ("." | "#", _) => None,
        (_, Some((machine, ..))) if *machine == own => None,
        // A 64-bit system runs 32-bit programs of x86.
        (_, Some((Machine::X86, ..))) => Some(Machine::X86),
        (_, Some((_, _, name))) => {
            return Err(Error::Usage(format!("this target is {own}; it runs no code of {name}")));
        }
        (_, None) => return Err(Error::Usage(format!("no machine is called '{wanted}'"))),
    };
    if !wanted.is_empty() {
        session.last_code = None;
        (session.contexts.frame, session.contexts.local) = (0, None);
    }
    let machine = session.contexts.machine.unwrap_or(own);
    if let Some((_, _, name)) = NAMES.iter().find(|(known, ..)| *known == machine) {
        out.field("machine", Value::Text(name), &format!("Effective machine: {name}"));
        out.end_line();
    }
    Ok(())
}

/// What KD calls exceptions.
const EXCEPTIONS: &[(u32, &str)] = &[
    (0x8000_0001, "Guard page violation"),
    (0x8000_0002, "Data misaligned"),
    (0x8000_0003, "Break instruction exception"),
    (0x8000_0004, "Single step exception"),
    (0xc000_0005, "Access violation"),
    (0xc000_0006, "In-page I/O error"),
    (0xc000_0008, "Invalid handle"),
    (0xc000_001d, "Illegal instruction"),
    (0xc000_0025, "Noncontinuable exception"),
    (0xc000_008c, "Array bounds exceeded"),
    (0xc000_008e, "Floating-point divide by zero"),
    (0xc000_0090, "Floating-point invalid operation"),
    (0xc000_0094, "Integer divide-by-zero"),
    (0xc000_0095, "Integer overflow"),
    (0xc000_0096, "Privileged instruction"),
    (0xc000_00fd, "Stack overflow"),
    (0xc000_0409, "Security check failure or stack buffer overrun"),
    (0xc000_0420, "Assertion failure"),
    (0xe06d_7363, "C++ EH exception"),
];

/// The parts of an exception record.
struct Record {
    code: u32,
    flags: u32,
    address: Va,
    parameters: Vec<u64>,
    count: u32,
}

fn exception_record(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let scope = session.scope(call.processor)?;
    let pointer = scope.pointer_size() as usize;
    let at = match call.args.trim() {
        "" => return Err(Error::Usage(".exr ADDRESS | -1".to_owned())),
        text => scope.evaluate(text)?,
    };
    let minus_one = at == u64::MAX || pointer == 4 && at == u64::from(u32::MAX);
    let record = if minus_one {
        let Some(found) = scope.target()?.exception() else {
            return Err(Error::NotFound("the dump's header holds no exception record".to_owned()));
        };
        Record {
            code: found.code,
            flags: found.flags,
            address: found.address,
            count: found.parameters.len() as u32,
            parameters: found.parameters.to_vec(),
        }
    } else {
        read_record(&scope, Va(at))?
    };
    let width = pointer * 2;
    let name = match scope.name_of(record.address) {
        Some(hit) if hit.displacement == 0 => format!(" ({hit})"),
        Some(hit) => {
            let displacement = hit.displacement;
            let name = crate::symbols::Hit { displacement: 0, ..hit };
            format!(" ({name}+0x{displacement:0width$x})")
        }
        None => String::new(),
    };
    let what = EXCEPTIONS.iter().find(|(code, _)| *code == record.code);
    let what = what.map_or(String::new(), |(_, name)| format!(" ({name})"));
    out.record("exception", |out| {
        let hex = |value: u64| format!("{value:0width$x}");
        let line = format!("ExceptionAddress: {}{name}", hex(record.address.0));
        out.field("address", Value::Hex(record.address.0), &line);
        out.end_line();
        out.field(
            "code",
            Value::Hex(record.code.into()),
            &format!("   ExceptionCode: {:08x}{what}", record.code),
        );
        out.end_line();
        out.field(
            "flags",
            Value::Hex(record.flags.into()),
            &format!("  ExceptionFlags: {:08x}", record.flags),
        );
        out.end_line();
        out.line(&format!("NumberParameters: {}", record.count));
        out.list("parameters", |out| {
            for (index, value) in record.parameters.iter().enumerate() {
                out.field("", Value::Hex(*value), &format!("   Parameter[{index}]: {}", hex(*value)));
                out.end_line();
            }
        });
        if let (0xc000_0005 | 0xc000_0006, &[kind, ref address @ ..]) =
            (record.code, record.parameters.as_slice())
            && let Some(address) = address.first()
        {
            match kind {
                0 => out.line(&format!("Attempt to read from address {}", hex(*address))),
                1 => out.line(&format!("Attempt to write to address {}", hex(*address))),
                8 => out.line(&format!("Attempt to execute non-executable address {}", hex(*address))),
                _ => {}
            }
        }
    });
    Ok(())
}

fn read_record(scope: &Scope, at: Va) -> Result<Record> {
    const MOST_PARAMETERS: u32 = 15;
    let pointer = scope.pointer_size() as usize;
    let number = |offset: usize, size: usize| {
        scope.read_number(at.add(offset as u64), size).map_err(|fault| unreadable("exception record", &fault))
    };
    let code = number(0, 4)? as u32;
    let flags = number(4, 4)? as u32;
    let address = Va(number(8 + pointer, pointer)?);
    let count = number(8 + pointer * 2, 4)? as u32;
    let first = if pointer == 8 { 0x20 } else { 0x14 };
    let parameters: Result<Vec<u64>> = (0..count.min(MOST_PARAMETERS) as usize)
        .map(|index| number(first + index * pointer, pointer))
        .collect();
    Ok(Record { code, flags, address, parameters: parameters?, count })
}
