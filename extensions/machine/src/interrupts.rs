//! `!idt`: interrupt descriptors and what they lead to.

use kd_sdk::args::Args;
use kd_sdk::nt::processor::{Gate, Interrupt, Processor};
use kd_sdk::prelude::*;

/// What the kernel puts where nobody asked for a vector.
const UNUSED: [&str; 4] =
    ["KiUnexpectedInterrupt", "KxUnexpectedInterrupt", "KiStartUnexpectedRange", "KiIsrThunk"];

/// Runs the command.
pub fn idt(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let mut all = false;
    while let Some(option) = args.option() {
        match option {
            "a" => all = true,
            other => return Err(Error::Usage(format!("unknown option -{other}: !idt [-a] [VECTOR]"))),
        }
    }
    let vector = args.word().map(|text| session.evaluate(text)).transpose()?;
    args.finish()?;
    let processor = Processor::new(session, session.target().info().current_processor)?;
    let (base, _) = processor.descriptor_table()?;
    let (gates, fault) = processor.gates()?;
    let out = session.out();
    if gates.is_empty() {
        let fault = fault.unwrap_or_else(|| Error::NotFound("it is empty".to_owned()));
        return Err(Error::Other(format!(
            "the descriptor table of processor {} at {}: {fault}",
            processor.number,
            session.target().show(base)
        )));
    }
    out.data("processor", Value::UInt(processor.number.into()));
    out.text("Dumping IDT: ");
    out.field("base", Value::Hex(base.0), &digits(session, base));
    out.end_line();
    out.end_line();
    let mut shown = 0;
    out.list("vectors", |out| {
        for gate in gates.iter().filter(|gate| vector.is_none_or(|wanted| wanted == gate.vector)) {
            session.check_interrupt()?;
            let objects = match processor.interrupts(gate) {
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                objects => objects,
            };
            let name = session.symbols().name(gate.handler);
            let idle = matches!(&objects, Ok(objects) if objects.is_empty());
            let unused = name.as_ref().is_none_or(|name| {
                let own = name.split_once('!').map_or("", |parts| parts.1);
                UNUSED.iter().any(|unused| own.starts_with(unused))
            });
            if !all && vector.is_none() && (!gate.present || idle && unused) {
                continue;
            }
            shown += 1;
            out.record("", |out| row(session, out, &processor, gate, name.as_deref(), &objects));
        }
        Ok(())
    })?;
    if let Some(wanted) = vector.filter(|_| shown == 0) {
        return Err(Error::Usage(format!("there is no vector {wanted:x}: the table has {:x}", gates.len())));
    }
    if let Some(fault) = fault {
        out.warning(&format!("the table ends here: {fault}"));
    }
    Ok(())
}

fn digits(session: &Session<'_>, va: Va) -> String {
    if session.target().pointer_size() == 4 { format!("{:08x}", va.0) } else { format!("{:016x}", va.0) }
}

fn row(
    session: &Session<'_>,
    out: &Out<'_>,
    processor: &Processor<'_>,
    gate: &Gate,
    name: Option<&str>,
    objects: &Result<Vec<Interrupt>>,
) {
    out.field("vector", Value::UInt(gate.vector), &format!("{:02x}:", gate.vector));
    if !gate.present {
        out.data("present", Value::Bool(false));
        out.line(" not in use");
        return;
    }
    out.field("handler", Value::Hex(gate.handler.0), &format!(" {}", digits(session, gate.handler)));
    out.data("selector", Value::Hex(gate.selector.into()));
    out.data("symbol", name.map_or(Value::Null, Value::Text));
    let first = objects.as_ref().ok().filter(|objects| !objects.is_empty());
    if first.is_none()
        && let Some(name) = name
    {
        out.text(&format!(" {name}"));
    }
    match processor.stack_of(gate) {
        Ok(Some(stack)) => {
            out.field("stack", Value::Hex(stack.0), &format!(" Stack = 0x{}", digits(session, stack)))
        }
        Ok(None) => {}
        Err(_) => out.text(&format!(" Stack = number {}", gate.stack)),
    }
    match objects {
        Ok(objects) => out.list("interrupts", |out| {
            for (index, object) in objects.iter().enumerate() {
                let indent =
                    if index == 0 { " ".to_owned() } else { " ".repeat(5 + digits(session, Va(0)).len()) };
                let routine = session.symbols().name(object.routine);
                out.record("", |out| {
                    let shown = routine.clone().unwrap_or_else(|| digits(session, object.routine));
                    out.data("routine", Value::Hex(object.routine.0));
                    out.field(
                        "symbol",
                        routine.as_deref().map_or(Value::Null, Value::Text),
                        &format!("{indent}{shown}"),
                    );
                    let shown = format!(" (KINTERRUPT {})", digits(session, object.at));
                    out.field("interrupt", Value::Hex(object.at.0), &shown);
                    out.data("context", Value::Hex(object.context.0));
                });
                if index + 1 < objects.len() {
                    out.end_line();
                }
            }
        }),
        Err(error) => out.field("problem", Value::Text(&error.to_string()), &format!(" ({error})")),
    }
    out.end_line();
}
