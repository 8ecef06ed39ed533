//! `!error`: what a code means.

use kd_sdk::nt::status;
use kd_sdk::prelude::*;

/// The bits of an HRESULT that wraps a Win32 error, and of one that wraps an NTSTATUS.
const HRESULT_WIN32: u32 = 0x8007_0000;
const HRESULT_NT: u32 = 0x1000_0000;

/// Runs the command.
pub fn error(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let Some(value) = args.word() else {
        return Err(Error::Usage("the VALUE to explain is missing".to_owned()));
    };
    let value = session.evaluate(value)?;
    // Results of 32 bits may stand sign-extended in registers of 64.
    if value >> 32 != 0 && value >> 32 != 0xffff_ffff {
        return Err(Error::Usage(format!("{value:#x} has more than 32 bits")));
    }
    let code = value as u32;
    let as_status = match args.word() {
        None => false,
        Some(flag) => session.evaluate(flag)? == 1,
    };
    let found = explain(code, as_status);
    let out = session.out();
    out.field("kind", Value::Text(found.kind), &format!("Error code: ({})", found.kind));
    out.field("code", Value::Hex(code.into()), &format!(" {code:#x} ({code})"));
    out.field("name", found.name.map_or(Value::Null, Value::Text), found.name.map_or("", |_| " "));
    if let Some(name) = found.name {
        out.text(name);
    }
    out.field(
        "text",
        found.text.map_or(Value::Null, Value::Text),
        &format!(" - {}", found.text.unwrap_or("not in kd's table")),
    );
    out.end_line();
    if found.kind == "Win32" {
        return Ok(());
    }
    // An HRESULT has one bit for it, a status two.
    let severity = match (found.kind, code >> 30) {
        ("HRESULT", 0 | 1) | (_, 0) => "success",
        (_, 1) => "information",
        ("HRESULT", _) | (_, 3..) => "error",
        _ => "warning",
    };
    out.field("severity", Value::Text(severity), &format!("    severity {severity}"));
    let facility = code >> 16 & 0xfff;
    out.field(
        "facility",
        Value::Hex(facility.into()),
        &format!(", facility {facility:x}, code {:x}", code & 0xffff),
    );
    out.end_line();
    Ok(())
}

/// What is known of a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    kind: &'static str,
    name: Option<&'static str>,
    text: Option<&'static str>,
}

fn explain(code: u32, as_status: bool) -> Known {
    let known = |kind, row: Option<(&'static str, &'static str)>| Known {
        kind,
        name: row.map(|row| row.0),
        text: row.map(|row| row.1),
    };
    if as_status {
        return known("NTSTATUS", status::describe(code));
    }
    if code & 0xffff_0000 == HRESULT_WIN32 {
        return known("HRESULT", win32(code & 0xffff));
    }
    if code >> 16 == 0 {
        return known("Win32", win32(code));
    }
    if let Some(event) = status::describe_event(code) {
        return known("event", Some(event));
    }
    match status::describe(code) {
        None if code & HRESULT_NT != 0 && code >> 28 == 0xd => {
            known("HRESULT", status::describe(code & !HRESULT_NT))
        }
        row => known("NTSTATUS", row),
    }
}

fn win32(code: u32) -> Option<(&'static str, &'static str)> {
    let index = WIN32.binary_search_by_key(&code, |row| row.0).ok()?;
    WIN32.get(index).map(|row| (row.1, row.2))
}

/// Win32 errors by the names of winerror.h; the words are our own.
#[rustfmt::skip]
const WIN32: &[(u32, &str, &str)] = &[
    (0, "ERROR_SUCCESS", "success"),
    (1, "ERROR_INVALID_FUNCTION", "the function is not valid"),
    (2, "ERROR_FILE_NOT_FOUND", "the file does not exist"),
    (3, "ERROR_PATH_NOT_FOUND", "the path does not exist"),
    (4, "ERROR_TOO_MANY_OPEN_FILES", "too many files are open"),
    (5, "ERROR_ACCESS_DENIED", "access was denied"),
    (6, "ERROR_INVALID_HANDLE", "the handle is not valid"),
    (8, "ERROR_NOT_ENOUGH_MEMORY", "there is not enough memory"),
    (13, "ERROR_INVALID_DATA", "the data are not valid"),
    (14, "ERROR_OUTOFMEMORY", "there is not enough memory"),
    (15, "ERROR_INVALID_DRIVE", "the drive does not exist"),
    (19, "ERROR_WRITE_PROTECT", "the medium is write-protected"),
    (21, "ERROR_NOT_READY", "the device is not ready"),
    (22, "ERROR_BAD_COMMAND", "the device does not know the command"),
    (23, "ERROR_CRC", "a check sum does not match"),
    (27, "ERROR_SECTOR_NOT_FOUND", "the sector was not found"),
    (29, "ERROR_WRITE_FAULT", "the device could not be written to"),
    (30, "ERROR_READ_FAULT", "the device could not be read"),
    (31, "ERROR_GEN_FAILURE", "a device of the system does not work"),
    (32, "ERROR_SHARING_VIOLATION", "another has the file open"),
    (33, "ERROR_LOCK_VIOLATION", "another has locked a part of the file"),
    (38, "ERROR_HANDLE_EOF", "the end of the file was reached"),
    (39, "ERROR_HANDLE_DISK_FULL", "the disk is full"),
    (50, "ERROR_NOT_SUPPORTED", "the request is not supported"),
    (53, "ERROR_BAD_NETPATH", "the network path was not found"),
    (55, "ERROR_DEV_NOT_EXIST", "the device no longer exists"),
    (64, "ERROR_NETNAME_DELETED", "the network name is gone"),
    (80, "ERROR_FILE_EXISTS", "the file exists"),
    (87, "ERROR_INVALID_PARAMETER", "a parameter is not valid"),
    (109, "ERROR_BROKEN_PIPE", "the pipe was ended"),
    (112, "ERROR_DISK_FULL", "the disk is full"),
    (121, "ERROR_SEM_TIMEOUT", "the time to wait ran out"),
    (122, "ERROR_INSUFFICIENT_BUFFER", "the buffer is too small"),
    (123, "ERROR_INVALID_NAME", "the name is not valid"),
    (126, "ERROR_MOD_NOT_FOUND", "the module was not found"),
    (127, "ERROR_PROC_NOT_FOUND", "the function was not found"),
    (170, "ERROR_BUSY", "it is in use"),
    (183, "ERROR_ALREADY_EXISTS", "it exists already"),
    (193, "ERROR_BAD_EXE_FORMAT", "it is no valid program"),
    (234, "ERROR_MORE_DATA", "there are more data"),
    (258, "WAIT_TIMEOUT", "the time to wait ran out"),
    (259, "ERROR_NO_MORE_ITEMS", "there are no more"),
    (433, "ERROR_NO_SUCH_DEVICE", "the device does not exist"),
    (487, "ERROR_INVALID_ADDRESS", "the address is not valid"),
    (995, "ERROR_OPERATION_ABORTED", "the request was cancelled"),
    (997, "ERROR_IO_PENDING", "the request is under way"),
    (998, "ERROR_NOACCESS", "memory was accessed that is not allowed"),
    (1005, "ERROR_UNRECOGNIZED_VOLUME", "no file system knows the volume"),
    (1053, "ERROR_SERVICE_REQUEST_TIMEOUT", "the service did not answer in time"),
    (1058, "ERROR_SERVICE_DISABLED", "the service cannot be started"),
    (1117, "ERROR_IO_DEVICE", "the device reported an I/O error"),
    (1167, "ERROR_DEVICE_NOT_CONNECTED", "the device is not connected"),
    (1168, "ERROR_NOT_FOUND", "it was not found"),
    (1223, "ERROR_CANCELLED", "the user cancelled it"),
    (1392, "ERROR_FILE_CORRUPT", "a file or folder is damaged"),
    (1450, "ERROR_NO_SYSTEM_RESOURCES", "the system's resources ran out"),
    (1453, "ERROR_WORKING_SET_QUOTA", "the quota does not allow it"),
    (1455, "ERROR_COMMITMENT_LIMIT", "the page file is too small"),
    (1460, "ERROR_TIMEOUT", "the time ran out"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_what_they_look_like() {
        assert!(WIN32.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let is = |code, as_status| {
            let known = explain(code, as_status);
            (known.kind, known.name)
        };
        assert_eq!(is(2, false), ("Win32", Some("ERROR_FILE_NOT_FOUND")));
        assert_eq!(is(0x103, true), ("NTSTATUS", Some("STATUS_PENDING")));
        assert_eq!(is(0xc000_0005, false), ("NTSTATUS", Some("STATUS_ACCESS_VIOLATION")));
        assert_eq!(is(0x8007_0005, false), ("HRESULT", Some("ERROR_ACCESS_DENIED")));
        assert_eq!(is(0xd000_0034, false), ("HRESULT", Some("STATUS_OBJECT_NAME_NOT_FOUND")));
        assert_eq!(is(0xc004_0007, false), ("event", Some("IO_ERR_BAD_BLOCK")));
        assert_eq!(is(0xc0de_0000, false), ("NTSTATUS", None));
    }
}
