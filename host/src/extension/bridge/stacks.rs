//! The stack service: frames and registers of any context, without choosing it.

#![allow(unsafe_code)]

use super::*;
use crate::commands::frames::{Row, rows, with_displacement};
use crate::commands::stack::{Look, show_frames};
use crate::target::Registers;
use crate::target::context::layout;
use crate::target::unwind::{Frame, FrameSource, Origin};
use kd_sdk::output::{Out, Sink};

table!(STACKS, StackService, StackV1 { walk, show, register });

/// A context that an extension names: its registers, and the scope to read their stack in.
///
/// # Safety
/// `from` is null or valid for a read.
unsafe fn context_of(
    bridge: &Bridge,
    from: *const abi::ContextRef,
) -> Result<(Cow<'_, Scope>, Registers), Failure> {
    if from.is_null() || !from.is_aligned() {
        return Err(invalid());
    }
    // SAFETY: checked above and the caller's promise.
    let from = unsafe { from.read() };
    let scope = bridge.scope_in(from.space)?;
    let target = &bridge.open()?.target;
    let registers = match from.kind {
        abi::context::CURRENT => scope.registers()?,
        abi::context::PROCESSOR => {
            let number = u32::try_from(from.at).map_err(|_| not_found("no such processor"))?;
            target.registers(number).map_err(|error| not_found(crate::chained(&error)))?.registers
        }
        abi::context::HEADER => {
            target.header_registers().ok_or_else(|| not_found("the dump's header holds no context record"))?
        }
        abi::context::RECORD => scope.record_registers(Va(from.at))?,
        abi::context::TRAP => scope.trap_registers(Va(from.at))?,
        abi::context::THREAD => scope.thread_registers(Va(from.at))?.0,
        abi::context::VALUES => {
            let machine = target.machine();
            let mut registers = scope.registers().unwrap_or_else(|_| Registers::zeroed(machine));
            let names = layout(registers.machine());
            for (name, value) in [(names.ip, from.ip), (names.sp, from.sp), (names.fp, from.fp)] {
                registers.set(name, value);
            }
            registers
        }
        _ => return Err(invalid()),
    };
    Ok((scope, registers))
}

fn frames(bridge: &Bridge, scope: &Scope, start: Registers, most: u32) -> Result<Vec<Frame>, Failure> {
    let frames = scope.stack_from(start, most as usize, &|| bridge.interrupted())?;
    if bridge.interrupted() { Err(Failure(status::INTERRUPTED, String::new())) } else { Ok(frames) }
}

unsafe extern "C" fn walk(ctx: Ctx, from: *const abi::ContextRef, most: u32, sink: abi::FrameSink) -> i32 {
    // SAFETY: pointers as the ABI demands them of an extension; the sink is its own.
    unsafe {
        guard(ctx, |bridge| {
            let (scope, start) = context_of(bridge, from)?;
            let frames = frames(bridge, &scope, start, most)?;
            for row in rows(&scope, &frames, false).iter().take(most as usize) {
                let site = with_displacement(&row.name, row.displacement);
                let missing = row.frame.missing.map(|missing| missing.to_string()).unwrap_or_default();
                let info = frame_info(&scope, row, &site, &missing);
                if (sink.visit)(sink.ctx, &info) != 0 {
                    break;
                }
            }
            Ok(())
        })
    }
}

fn frame_info<'t>(scope: &Scope, row: &Row<'_>, site: &'t str, missing: &'t str) -> abi::FrameInfo<'t> {
    let (frame, inline) = (row.frame, row.level > 0);
    let flags = [(frame.exact, abi::frame_flag::EXACT), (inline, abi::frame_flag::INLINE)];
    let pointer = u64::from(scope.pointer_size());
    let (mut arguments, mut arguments_read) = ([0; 4], 0);
    for (index, place) in arguments.iter_mut().enumerate().filter(|_| !inline) {
        let at = frame.arguments.add(index as u64 * pointer);
        if let Ok(value) = scope.read_number(at, pointer as usize) {
            *place = value;
            arguments_read |= 1 << index;
        }
    }
    abi::FrameInfo {
        ip: frame.ip.0,
        sp: frame.sp.0,
        fp: frame.fp.0,
        return_address: frame.return_address.0,
        trap_frame: frame.trap_frame.map_or(0, |va| va.0),
        arguments,
        arguments_read,
        source: match frame.source {
            FrameSource::Context => abi::frame_source::CONTEXT,
            FrameSource::Unwind(Origin::Dump) => abi::frame_source::UNWIND,
            FrameSource::Unwind(Origin::ImageFile) => abi::frame_source::UNWIND_IMAGE_FILE,
            FrameSource::FrameData => abi::frame_source::FRAME_DATA,
            FrameSource::FramePointer => abi::frame_source::FRAME_POINTER,
            FrameSource::Leaf => abi::frame_source::LEAF,
            FrameSource::Trap => abi::frame_source::TRAP,
            FrameSource::Scan => abi::frame_source::SCAN,
        },
        flags: flags.iter().filter(|(is, _)| *is).map(|(_, bit)| bit).sum(),
        reserved: 0,
        site: RStr::from_str(site),
        missing: RStr::from_str(missing),
    }
}

/// The command's own output, as kd's commands write it.
struct OwnOutput<'a>(&'a Bridge);

impl Sink for OwnOutput<'_> {
    fn emit(&self, event: &Event<'_>) {
        self.0.shared.emit(event);
    }
}

unsafe extern "C" fn show(ctx: Ctx, from: *const abi::ContextRef, most: u32, look: u32, indent: u32) -> i32 {
    /// No line begins further right.
    const MOST_BLANKS: u32 = 64;
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let (scope, start) = context_of(bridge, from)?;
            let frames = frames(bridge, &scope, start, most)?;
            let has = |bit: u32| look & bit != 0;
            let look = Look {
                arguments: has(abi::look::ARGUMENTS | abi::look::VERBOSE),
                verbose: has(abi::look::VERBOSE),
                names_only: has(abi::look::NAMES_ONLY),
                numbers: has(abi::look::NUMBERS),
                distances: has(abi::look::DISTANCES),
                ..Look::default()
            };
            let sink = OwnOutput(bridge);
            Out::new(&sink).indented(indent.min(MOST_BLANKS) as usize, |out| {
                show_frames(&scope, out, look, &frames, false, most as usize);
            });
            Ok(())
        })
    }
}

unsafe extern "C" fn register(
    ctx: Ctx,
    from: *const abi::ContextRef,
    name: RStr<'_>,
    value: *mut u64,
) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let name = said(name)?;
            let (_, registers) = context_of(bridge, from)?;
            let found =
                registers.get(&name).ok_or_else(|| not_found(format!("no register '{name}' here")))?;
            put(value, found)
        })
    }
}
