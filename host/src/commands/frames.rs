//! The lines of a stack: each frame as it was unwound, before it the calls that the compiler put in line there.
//!
//! `k` shows them and `.frame` counts them alike. What their symbols tell (lines, parameters) is asked for the
//! instruction of the call, not for the one after it.

use super::locals;
use crate::scope::Scope;
use crate::stack::LocalFrame;
use crate::symbols::{Hit, Local, ModuleTypes, SourceLine};
use crate::target::unwind::Frame;
use kd_sdk::address::Va;
use std::sync::Arc;

/// A line of a stack.
pub struct Row<'f> {
    /// The frame it belongs to.
    pub frame: &'f Frame,
    /// How many calls in line it stands inside of the frame's own function.
    pub level: usize,
    /// `nt!KeBugCheckEx`, `amdppm`, a bare number.
    pub name: String,
    /// Bytes from there.
    pub displacement: u64,
    /// The source line, where lines are wanted and known.
    pub line: Option<SourceLine>,
}

/// A parameter as `kp` shows it.
pub struct Parameter {
    /// `unsigned long channel`.
    pub declared: String,
    /// `0x7`, or that it cannot be had.
    pub value: String,
}

/// The lines of frames, innermost first; `lines`: with source lines.
pub fn rows<'f>(scope: &Scope, frames: &'f [Frame], lines: bool) -> Vec<Row<'f>> {
    frames.iter().flat_map(|frame| rows_of(scope, frame, lines)).collect()
}

fn rows_of<'f>(scope: &Scope, frame: &'f Frame, lines: bool) -> Vec<Row<'f>> {
    let at = running(frame);
    let past = frame.ip.0.wrapping_sub(at.0);
    let mut rows = Vec::new();
    let inlined = scope
        .open
        .as_ref()
        .filter(|_| scope.look.inline_frames)
        .map(|open| open.symbols.inlined_at(&open.target, at))
        .unwrap_or_default();
    let depth = inlined.len();
    for (index, call) in inlined.into_iter().enumerate() {
        let line = call.line.filter(|_| lines);
        let displacement = call.displacement + past;
        rows.push(Row { frame, level: depth - index, name: call.name, displacement, line });
    }
    let (name, displacement) = named(scope, frame.ip);
    let line = scope.open.as_ref().filter(|_| lines);
    let line = line.and_then(|open| open.symbols.line_at(&open.target, at));
    rows.push(Row { frame, level: 0, name, displacement, line });
    rows
}

/// The instruction that was running: of a caller the call, which ends before its return address.
fn running(frame: &Frame) -> Va {
    if frame.exact || frame.ip.is_null() { frame.ip } else { Va(frame.ip.0 - 1) }
}

/// The place of code as `k` names it: a symbol, else the bare number.
fn named(scope: &Scope, va: Va) -> (String, u64) {
    match scope.name_of(va) {
        Some(hit) => (Hit { displacement: 0, ..hit.clone() }.to_string(), hit.displacement),
        None if va.0 > u64::from(u32::MAX) => (format!("0x{va}"), 0),
        None => (format!("{:#x}", va.0), 0),
    }
}

/// [`named`] in one piece.
pub fn site(scope: &Scope, va: Va) -> String {
    let (name, displacement) = named(scope, va);
    with_displacement(&name, displacement)
}

/// `nt!KeBugCheckEx+0x20`.
pub fn with_displacement(name: &str, displacement: u64) -> String {
    if displacement == 0 { name.to_owned() } else { format!("{name}+{displacement:#x}") }
}

impl Row<'_> {
    /// What variables are looked up in when this line is the current frame.
    pub fn local(&self) -> LocalFrame {
        let Frame { ref registers, exact, arguments, .. } = *self.frame;
        let at = running(self.frame);
        LocalFrame { registers: registers.clone(), at, level: self.level, exact, arguments: Some(arguments) }
    }

    /// Its parameters; `None` where the symbols do not tell whether it has any.
    pub fn parameters(&self, scope: &Scope) -> Option<Vec<Parameter>> {
        let local = self.local();
        let (found, types) = variables(scope, &local)?;
        let shown = |parameter: &Local| Parameter {
            declared: format!("{} {}", types.c_spelling(parameter.type_id), parameter.name),
            value: locals::value(scope, &local, &types, parameter),
        };
        Some(found.iter().filter(|found| found.parameter).map(shown).collect())
    }
}

/// The variables of a frame, where a private symbol file tells them.
fn variables(scope: &Scope, local: &LocalFrame) -> Option<(Vec<Local>, Arc<ModuleTypes>)> {
    let open = scope.open.as_ref()?;
    let module = open.target.module_index_at(local.at)?;
    if !matches!(
        open.symbols.load(&open.target, module),
        crate::symbols::ModuleState::Loaded { private: true, .. }
    ) {
        return None;
    }
    let found = open.symbols.locals_at(&open.target, local.at, local.level).ok()?;
    Some((found, open.symbols.types_of(&open.target, module).ok()?))
}
