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
    let text = match (found.name, found.text) {
        (_, Some(text)) => format!(" - {text}"),
        (Some(_), None) => String::new(),
        (None, None) => " - not in kd's table".to_owned(),
    };
    out.field("text", found.text.map_or(Value::Null, Value::Text), &text);
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

type Row = Option<(&'static str, &'static str)>;

fn explain(code: u32, as_status: bool) -> Known {
    let known = |kind, row: Row, names: Names, code| Known {
        kind,
        name: row.map(|row| row.0).or_else(|| names.find(code)),
        text: row.map(|row| row.1),
    };
    let nt = |kind, code| known(kind, status::describe(code), Names::Status, code);
    let win32 = |kind, code| known(kind, win32(code), Names::Win32, code);
    if as_status {
        return nt("NTSTATUS", code);
    }
    if code & 0xffff_0000 == HRESULT_WIN32 {
        return win32("HRESULT", code & 0xffff);
    }
    if code >> 16 == 0 {
        return win32("Win32", code);
    }
    if let Some(event) = status::describe_event(code) {
        return known("event", Some(event), Names::Status, code);
    }
    let as_status = nt("NTSTATUS", code);
    let wraps = || Some(nt("HRESULT", code & !HRESULT_NT)).filter(|_| code & HRESULT_NT != 0);
    let as_result = || Some(known("HRESULT", None, Names::Result, code));
    let others = [Some(as_status), wraps(), as_result()];
    others.into_iter().flatten().find(|known| known.name.is_some()).unwrap_or(as_status)
}

fn win32(code: u32) -> Row {
    let index = WIN32.binary_search_by_key(&code, |row| row.0).ok()?;
    WIN32.get(index).map(|row| (row.1, row.2))
}

/// Names of all codes of a kind, one a line behind its number, as the metadata of the Windows API have them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Names {
    Status,
    Win32,
    Result,
}

impl Names {
    fn table(self) -> &'static str {
        match self {
            Names::Status => include_str!("codes/ntstatus.txt"),
            Names::Win32 => include_str!("codes/win32.txt"),
            Names::Result => include_str!("codes/hresult.txt"),
        }
    }

    fn rows(self) -> impl Iterator<Item = (u32, &'static str)> {
        let row = |line: &'static str| {
            let (code, name) = line.split_once(' ')?;
            Some((u32::from_str_radix(code, 16).ok()?, name))
        };
        self.table().lines().filter_map(row)
    }

    fn find(self, code: u32) -> Option<&'static str> {
        self.rows().find(|row| row.0 == code).map(|row| row.1)
    }
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
        assert_eq!(is(0x8000_4005, false), ("HRESULT", Some("E_FAIL")));
        assert_eq!(is(0xd000_0225, false), ("HRESULT", Some("STATUS_NOT_FOUND")));
    }

    #[test]
    fn tables_are_whole_and_agree() {
        for (names, count) in [(Names::Status, 3000), (Names::Win32, 3000), (Names::Result, 3400)] {
            let rows: Vec<_> = names.rows().collect();
            assert!(rows.len() == names.table().lines().count() && rows.len() > count, "{names:?}");
            assert!(rows.windows(2).all(|pair| pair[0].0 < pair[1].0), "{names:?}");
        }
        for (code, name, _) in WIN32 {
            assert_eq!(Names::Win32.find(*code), Some(*name), "{code}");
        }
        for (code, name) in Names::Status.rows() {
            if let Some((other, _)) = status::describe(code) {
                assert_eq!(name, other, "{code:x}");
            }
        }
    }

    /// As the protocol documents list them ([MS-ERREF]), read from an independent implementation of those protocols.
    #[test]
    fn names_are_those_of_the_protocol_documents() {
        #[rustfmt::skip]
        const LISTED: &[(Names, u32, &str)] = &[
            (Names::Status, 0xc0, "STATUS_USER_APC"), (Names::Status, 0x4000_0012, "STATUS_EVENT_DONE"),
            (Names::Status, 0x401e_0351, "STATUS_GRAPHICS_PATH_CONTENT_GEOMETRY_TRANSFORMATION_NOT_PINNED"),
            (Names::Status, 0x8019_0042, "STATUS_TRANSACTION_SCOPE_CALLBACKS_NOT_SET"),
            (Names::Status, 0xc000_003a, "STATUS_OBJECT_PATH_NOT_FOUND"),
            (Names::Status, 0xc000_0077, "STATUS_INVALID_ACL"), (Names::Status, 0xc000_00b5, "STATUS_IO_TIMEOUT"),
            (Names::Status, 0xc000_00f2, "STATUS_INVALID_PARAMETER_4"),
            (Names::Status, 0xc000_0137, "STATUS_IO_PRIVILEGE_FAILED"),
            (Names::Status, 0xc000_0177, "STATUS_EOM_OVERFLOW"),
            (Names::Status, 0xc000_0211, "STATUS_TRANSACTION_NO_RELEASE"),
            (Names::Status, 0xc000_0254, "STATUS_IP_ADDRESS_CONFLICT1"),
            (Names::Status, 0xc000_029c, "STATUS_VOLUME_NOT_UPGRADED"),
            (Names::Status, 0xc000_02e0, "STATUS_SAM_NEED_BOOTKEY_FLOPPY"),
            (Names::Status, 0xc000_035f, "STATUS_NOT_SAFE_MODE_DRIVER"),
            (Names::Status, 0xc000_041b, "STATUS_DS_FLAT_NAME_EXISTS_IN_FOREST"),
            (Names::Status, 0xc000_0716, "STATUS_INVALID_IDN_NORMALIZATION"),
            (Names::Status, 0xc002_000f, "RPC_NT_NO_PROTSEQS_REGISTERED"),
            (Names::Status, 0xc002_0050, "RPC_NT_CALL_CANCELLED"),
            (Names::Status, 0xc00a_0013, "STATUS_CTX_LICENSE_NOT_AVAILABLE"),
            (Names::Status, 0xc014_0007, "STATUS_ACPI_INVALID_SUPERNAME"),
            (Names::Status, 0xc019_0003, "STATUS_TRANSACTION_NOT_ACTIVE"),
            (Names::Status, 0xc019_0057, "STATUS_TRANSACTION_RESPONSE_NOT_ENLISTED"),
            (Names::Status, 0xc01c_0007, "STATUS_FLT_NOT_INITIALIZED"),
            (Names::Status, 0xc01e_0200, "STATUS_GRAPHICS_GPU_EXCEPTION_ON_DEVICE"),
            (Names::Status, 0xc01e_0341, "STATUS_GRAPHICS_NO_DISPLAY_MODE_MANAGEMENT_SUPPORT"),
            (Names::Status, 0xc01e_051b, "STATUS_GRAPHICS_OPM_SESSION_TYPE_CHANGE_IN_PROGRESS"),
            (Names::Status, 0xc021_001f, "STATUS_FVE_BAD_METADATA_POINTER"),
            (Names::Status, 0xc022_0034, "STATUS_FWP_PROVIDER_CONTEXT_MISMATCH"),
            (Names::Status, 0xc036_0009, "STATUS_IPSEC_THROTTLE_DROP"), (Names::Win32, 0x7, "ERROR_ARENA_TRASHED"),
            (Names::Win32, 0x88, "ERROR_NOT_JOINED"), (Names::Win32, 0x12f, "ERROR_DELETE_PENDING"),
            (Names::Win32, 0x248, "ERROR_FLOPPY_VOLUME"), (Names::Win32, 0x2b3, "ERROR_DBG_TERMINATE_THREAD"),
            (Names::Win32, 0x314, "ERROR_LOST_WRITEBEHIND_DATA_NETWORK_DISCONNECTED"),
            (Names::Win32, 0x45b, "ERROR_SHUTDOWN_IN_PROGRESS"), (Names::Win32, 0x4db, "ERROR_SERVICE_NOT_FOUND"),
            (Names::Win32, 0x543, "ERROR_CANT_OPEN_ANONYMOUS"), (Names::Win32, 0x5a4, "ERROR_INVALID_THREAD_ID"),
            (Names::Win32, 0x6ac, "RPC_S_NO_ENDPOINT_FOUND"),
            (Names::Win32, 0x710, "ERROR_NOLOGON_WORKSTATION_TRUST_ACCOUNT"),
            (Names::Win32, 0xbbb, "ERROR_SPL_NO_STARTDOC"), (Names::Win32, 0x10eb, "ERROR_CLEANER_SLOT_SET"),
            (Names::Win32, 0x13c7, "ERROR_CLUSTER_NETWORK_ALREADY_ONLINE"),
            (Names::Win32, 0x1748, "ERROR_CLUSTER_RESOURCE_LOCKED_STATUS"),
            (Names::Win32, 0x1a36, "ERROR_CRM_PROTOCOL_ALREADY_EXISTS"),
            (Names::Win32, 0x1b7b, "ERROR_CTX_GRAPHICS_INVALID"), (Names::Win32, 0x203b, "ERROR_DS_LOCAL_ERROR"),
            (Names::Win32, 0x20c2, "ERROR_DS_EXISTS_IN_MAY_HAVE"), (Names::Win32, 0x2123, "ERROR_DS_EPOCH_MISMATCH"),
            (Names::Win32, 0x2184, "ERROR_DS_NO_OBJECT_MOVE_IN_SCHEMA_NC"),
            (Names::Win32, 0x239e, "DNS_ERROR_NOT_ALLOWED_ON_ZSK"),
            (Names::Win32, 0x26ae, "DNS_ERROR_DP_ALREADY_EXISTS"),
            (Names::Win32, 0x32c9, "ERROR_IPSEC_QM_POLICY_NOT_FOUND"),
            (Names::Win32, 0x3630, "ERROR_IPSEC_IKE_INVALID_HASH_SIZE"),
            (Names::Win32, 0x36da, "ERROR_SXS_XML_E_UNEXPECTED_WHITESPACE"),
            (Names::Win32, 0x3ab5, "ERROR_EVT_UNRESOLVED_VALUE_INSERT"),
            (Names::Win32, 0x3d09, "ERROR_RESILIENCY_FILE_CORRUPT"), (Names::Result, 0x40000, "OLE_S_USEREG"),
            (Names::Result, 0x8002_000e, "DISP_E_BADPARAMCOUNT"),
            (Names::Result, 0x8004_1314, "SCHED_E_UNSUPPORTED_ACCOUNT_OPTION"),
            (Names::Result, 0x8009_0354, "SEC_E_PKINIT_CLIENT_FAILURE"),
            (Names::Result, 0x800b_0004, "TRUST_E_SUBJECT_NOT_TRUSTED"),
            (Names::Result, 0x8011_042e, "COMADMIN_E_COMP_MOVE_BAD_DEST"),
            (Names::Result, 0x8028_0400, "TPM_E_COMMAND_BLOCKED"),
            (Names::Result, 0xc026_1003, "ERROR_MONITOR_INVALID_DESCRIPTOR_CHECKSUM"),
        ];
        for &(names, code, name) in LISTED {
            assert_eq!(names.find(code), Some(name), "{code:x}");
        }
    }
}
