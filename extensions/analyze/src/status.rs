//! Names and meanings of the exception codes that kernel crashes carry. Facts from ntstatus.h.

/// Name and meaning of a status code.
pub fn describe(code: u32) -> Option<(&'static str, &'static str)> {
    STATUS.binary_search_by_key(&code, |row| row.0).ok().and_then(|i| STATUS.get(i)).map(|row| (row.1, row.2))
}

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

const STATUS: &[(u32, &str, &str)] = &[
    (0x8000_0001, "STATUS_GUARD_PAGE_VIOLATION", "a guard page was touched"),
    (0x8000_0002, "STATUS_DATATYPE_MISALIGNMENT", "data is not aligned as it must be"),
    (0x8000_0003, "STATUS_BREAKPOINT", "a breakpoint was met"),
    (0x8000_0004, "STATUS_SINGLE_STEP", "a single step ended"),
    (0xc000_0001, "STATUS_UNSUCCESSFUL", "the operation failed"),
    (0xc000_0005, "STATUS_ACCESS_VIOLATION", "memory was accessed that is not there or not allowed"),
    (0xc000_0006, "STATUS_IN_PAGE_ERROR", "a page could not be read back from the disk"),
    (0xc000_0008, "STATUS_INVALID_HANDLE", "a handle is not valid"),
    (0xc000_000d, "STATUS_INVALID_PARAMETER", "a parameter is not valid"),
    (0xc000_000e, "STATUS_NO_SUCH_DEVICE", "the device does not exist"),
    (0xc000_0010, "STATUS_INVALID_DEVICE_REQUEST", "the device does not know the request"),
    (0xc000_0017, "STATUS_NO_MEMORY", "there is not enough memory"),
    (0xc000_001c, "STATUS_INVALID_SYSTEM_SERVICE", "the system service does not exist"),
    (0xc000_001d, "STATUS_ILLEGAL_INSTRUCTION", "the processor does not know the instruction"),
    (0xc000_0025, "STATUS_NONCONTINUABLE_EXCEPTION", "execution went on after an exception that forbids it"),
    (0xc000_0026, "STATUS_INVALID_DISPOSITION", "a handler gave an answer that is not valid"),
    (0xc000_0027, "STATUS_UNWIND", "an unwind is under way"),
    (0xc000_0028, "STATUS_BAD_STACK", "the stack is not valid"),
    (0xc000_0029, "STATUS_INVALID_UNWIND_TARGET", "the target of an unwind is not valid"),
    (0xc000_008c, "STATUS_ARRAY_BOUNDS_EXCEEDED", "an index is out of bounds"),
    (0xc000_008e, "STATUS_FLOAT_DIVIDE_BY_ZERO", "floating-point division by zero"),
    (0xc000_0094, "STATUS_INTEGER_DIVIDE_BY_ZERO", "integer division by zero"),
    (0xc000_0095, "STATUS_INTEGER_OVERFLOW", "integer overflow"),
    (0xc000_0096, "STATUS_PRIVILEGED_INSTRUCTION", "the instruction is not allowed at this privilege"),
    (0xc000_009a, "STATUS_INSUFFICIENT_RESOURCES", "a resource ran out"),
    (0xc000_009c, "STATUS_DEVICE_DATA_ERROR", "the device reported bad data: a bad block"),
    (0xc000_009d, "STATUS_DEVICE_NOT_CONNECTED", "the device is not connected"),
    (0xc000_00a3, "STATUS_DEVICE_NOT_READY", "the device is not ready"),
    (0xc000_00b5, "STATUS_IO_TIMEOUT", "the device did not answer in time"),
    (0xc000_00e9, "STATUS_UNEXPECTED_IO_ERROR", "an I/O error that was not expected"),
    (0xc000_00fd, "STATUS_STACK_OVERFLOW", "the stack ran out"),
    (0xc000_0102, "STATUS_FILE_CORRUPT_ERROR", "a file or folder is damaged"),
    (0xc000_012d, "STATUS_COMMITMENT_LIMIT", "there is no more memory to commit"),
    (0xc000_0135, "STATUS_DLL_NOT_FOUND", "a library was not found"),
    (0xc000_013a, "STATUS_CONTROL_C_EXIT", "ended by Ctrl+C"),
    (0xc000_0144, "STATUS_UNHANDLED_EXCEPTION", "an exception nobody handled"),
    (0xc000_0185, "STATUS_IO_DEVICE_ERROR", "the device reported an I/O error"),
    (0xc000_0194, "STATUS_POSSIBLE_DEADLOCK", "a possible deadlock"),
    (0xc000_0218, "STATUS_CANNOT_LOAD_REGISTRY_FILE", "a registry file could not be loaded"),
    (0xc000_021a, "STATUS_SYSTEM_PROCESS_TERMINATED", "a system process ended"),
    (0xc000_0221, "STATUS_IMAGE_CHECKSUM_MISMATCH", "an image does not match its check sum"),
    (0xc000_0374, "STATUS_HEAP_CORRUPTION", "a heap is damaged"),
    (0xc000_0409, "STATUS_STACK_BUFFER_OVERRUN", "code stopped itself on damage it found (fast fail)"),
    (0xc000_0420, "STATUS_ASSERTION_FAILURE", "an assertion failed"),
    (0xc000_0428, "STATUS_INVALID_IMAGE_HASH", "an image's signature could not be verified"),
    (0xc000_0602, "STATUS_FAIL_FAST_EXCEPTION", "code asked to be stopped at once"),
    (0xc015_000f, "STATUS_SXS_EARLY_DEACTIVATION", "an activation context was left too early"),
    (0xe06d_7363, "CPP_EH_EXCEPTION", "a C++ exception"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_found() {
        assert!(STATUS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(describe(0xc000_0005).map(|d| d.0), Some("STATUS_ACCESS_VIOLATION"));
        assert_eq!(describe(1), None);
    }
}
