//! What exception codes mean for a verdict; their names are the SDK's.

pub use kd_sdk::nt::status::describe;

/// True for an exception that the code itself raised on purpose or a debugger put there.
pub fn is_breakpoint(code: u32) -> bool {
    matches!(code, 0x8000_0003 | 0x8000_0004)
}

/// Short form for failure buckets.
pub fn bucket(code: u32) -> String {
    match code {
        0xc000_0005 => "AV".to_owned(),
        0x8000_0003 => "BREAKPOINT".to_owned(),
        other => format!("{other:x}"),
    }
}
