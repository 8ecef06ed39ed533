//! The services for output and control.

#![allow(unsafe_code)]

use super::*;

pub(super) static OUTPUT: abi::OutputService = abi::OutputService {
    size: size_of::<abi::OutputService>() as u32,
    reserved: 0,
    v1: abi::OutputV1 { begin, end, text: show_text, field: show_field, link, message },
};

/// Sends the event that `make` gives.
///
/// # Safety
/// As for [`guard`].
unsafe fn send(ctx: Ctx, make: impl FnOnce(&Bridge) -> Outcome) {
    // SAFETY: the caller's promise.
    unsafe { guard(ctx, make) };
}

unsafe extern "C" fn begin(ctx: Ctx, shape: u32, key: RStr<'_>) {
    let shape = if shape == abi::shape::LIST { Shape::List } else { Shape::Record };
    // SAFETY: `ctx` comes from the table, the text from the extension.
    unsafe { send(ctx, |bridge| bridge.emit(&Event::Begin { shape, key: &said(key)? })) }
}

unsafe extern "C" fn end(ctx: Ctx) {
    // SAFETY: as above.
    unsafe { send(ctx, |bridge| bridge.emit(&Event::End)) }
}

unsafe extern "C" fn show_text(ctx: Ctx, style: u32, text: RStr<'_>) {
    let style = Style::from_abi(style);
    // SAFETY: as above.
    unsafe { send(ctx, |bridge| bridge.emit(&Event::Text { style, text: &said(text)? })) }
}

unsafe extern "C" fn show_field(
    ctx: Ctx,
    key: RStr<'_>,
    value: *const abi::FieldValue<'_>,
    style: u32,
    shown: RStr<'_>,
) {
    // SAFETY: as above; the value is checked before it is read.
    unsafe {
        send(ctx, |bridge| {
            if !value.is_aligned() {
                return Err(invalid());
            }
            let value = value.as_ref().ok_or_else(invalid)?;
            // Only a text has a text: in C the rest may be left as it is.
            let text = if value.tag == abi::value::TEXT { said(value.text)? } else { Cow::Borrowed("") };
            bridge.emit(&Event::Field {
                key: &said(key)?,
                value: Value::from_abi(value.tag, value.number, &text),
                style: Style::from_abi(style),
                shown: &said(shown)?,
            })
        });
    }
}

unsafe extern "C" fn link(ctx: Ctx, text: RStr<'_>, command: RStr<'_>) {
    // SAFETY: as above.
    unsafe { send(ctx, |bridge| bridge.emit(&Event::Link { text: &said(text)?, command: &said(command)? })) }
}

unsafe extern "C" fn message(ctx: Ctx, severity: u32, text: RStr<'_>) {
    let severity = match severity {
        abi::severity::VERBOSE => Severity::Verbose,
        abi::severity::WARNING => Severity::Warning,
        _ => Severity::Error,
    };
    // SAFETY: as above.
    unsafe { send(ctx, |bridge| bridge.emit(&Event::Message { severity, text: &said(text)? })) }
}

table!(CONTROL, ControlService, ControlV1 { progress, execute });

unsafe extern "C" fn progress(ctx: Ctx, done: u64, total: u64, label: RStr<'_>) {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            bridge.shared.progress(done, total, &said(label)?);
            Ok(())
        });
    }
}

unsafe extern "C" fn execute(ctx: Ctx, line: RStr<'_>, sink: abi::TextSink) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let (code, text) = bridge.shared.execute(&said(line)?);
            tell(sink, &text);
            // What went wrong is the last thing a command says.
            let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("the command failed");
            let last = last.strip_prefix("error: ").unwrap_or(last);
            if code == status::OK { Ok(()) } else { Err(Failure(code, last.to_owned())) }
        })
    }
}
