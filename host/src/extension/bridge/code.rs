//! The service for code: instructions as `u` and `ub` show them.

#![allow(unsafe_code)]

use super::*;
use crate::commands::code::{Reader, before};
use crate::disasm::{Flow, Instruction};
use crate::stack::CodeBytes;
use crate::target::unwind::Origin;

table!(CODE, CodeService, CodeV1 { forward, backward });

/// The most instructions of one call.
const MOST: u32 = 1 << 16;

/// Gives an instruction to the sink: whether it wants more.
///
/// # Safety
/// The sink is the extension's, valid during the call that brought it.
unsafe fn give(sink: abi::InstructionSink, found: &Instruction, origin: Origin) -> bool {
    let (flow, to) = match found.flow {
        Flow::Next => (abi::flow::NEXT, None),
        Flow::Jump(to) => (abi::flow::JUMP, to),
        Flow::Branch(to) => (abi::flow::BRANCH, Some(to)),
        Flow::Call(to) => (abi::flow::CALL, to),
        Flow::Return => (abi::flow::RETURN, None),
        Flow::Stop => (abi::flow::STOP, None),
    };
    let (text, line) = (found.text(), found.line());
    let info = abi::InstructionInfo {
        address: found.va.0,
        length: found.bytes.len() as u32,
        flow,
        to: to.map_or(0, |to| to.0),
        flags: u32::from(origin == Origin::ImageFile),
        reserved: 0,
        text: RStr::from_str(&text),
        line: RStr::from_str(&line),
    };
    // SAFETY: the caller's promise.
    unsafe { (sink.visit)(sink.ctx, &info) == 0 }
}

/// Says that code could not be read.
///
/// # Safety
/// `fault` is null or valid for a write.
unsafe fn missing(bridge: &Bridge, fault: *mut abi::ReadFault, va: Va, code: CodeBytes) -> Outcome {
    match code.fault {
        // SAFETY: the caller's promise.
        Some(found) => unsafe { memory::faulted(bridge, fault, 0, found.at.0, found.why) },
        None => Err(not_found(format!("no instruction at {va}"))),
    }
}

unsafe extern "C" fn forward(
    ctx: Ctx,
    space: u64,
    va: u64,
    most: u32,
    sink: abi::InstructionSink,
    fault: *mut abi::ReadFault,
) -> i32 {
    // SAFETY: pointers as the ABI demands them of an extension; the sink is its own.
    unsafe {
        guard(ctx, |bridge| {
            let scope = bridge.scope_in(space)?;
            let reader = Reader::new(&scope)?;
            let mut at = Va(va);
            for count in 0..most.min(MOST) {
                if bridge.interrupted() {
                    return Err(Failure(status::INTERRUPTED, String::new()));
                }
                match reader.decode(at) {
                    Ok(found) => {
                        at = found.next();
                        if !give(sink, &found, reader.take_origin()) {
                            break;
                        }
                    }
                    Err(code) if count == 0 => return missing(bridge, fault, at, code),
                    Err(_) => break,
                }
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn backward(
    ctx: Ctx,
    space: u64,
    va: u64,
    most: u32,
    sink: abi::InstructionSink,
    fault: *mut abi::ReadFault,
) -> i32 {
    /// More would be searched for a long time.
    const MOST_BACK: u32 = 1 << 12;
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let scope = bridge.scope_in(space)?;
            let reader = Reader::new(&scope)?;
            match before(&reader, Va(va), most.min(MOST_BACK).into()) {
                Ok(found) => {
                    let origin = reader.take_origin();
                    found.iter().all(|instruction| give(sink, instruction, origin));
                    Ok(())
                }
                Err((at, code)) => missing(bridge, fault, at, code),
            }
        })
    }
}
