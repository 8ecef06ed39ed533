//! Names and meanings of `NTSTATUS` values and of the events that drivers log. Names and numbers are those of
//! ntstatus.h and ntiologc.h, the words are our own.

/// Name and meaning of a status, or of an exception code that kernel crashes carry.
pub fn describe(code: u32) -> Option<(&'static str, &'static str)> {
    row(STATUS, code)
}

/// Name and meaning of an event of the I/O system (`IO_ERR_…`), by the code that a driver logs.
pub fn describe_event(code: u32) -> Option<(&'static str, &'static str)> {
    row(EVENTS, code & 0xffff).filter(|_| code >> 16 & 0xfff == FACILITY_IO)
}

/// The facility of events that are not a driver's own.
const FACILITY_IO: u32 = 4;

type Row = (u32, &'static str, &'static str);

fn row(table: &'static [Row], code: u32) -> Option<(&'static str, &'static str)> {
    let index = table.binary_search_by_key(&code, |row| row.0).ok()?;
    table.get(index).map(|row| (row.1, row.2))
}

#[rustfmt::skip]
const EVENTS: &[Row] = &[
    (0x01, "IO_ERR_RETRY_SUCCEEDED", "a request succeeded when it was tried again"),
    (0x02, "IO_ERR_INSUFFICIENT_RESOURCES", "the driver got no memory or other resource it needs"),
    (0x03, "IO_ERR_CONFIGURATION_ERROR", "the device or its driver is not set up correctly"),
    (0x04, "IO_ERR_DRIVER_ERROR", "the driver met an error of its own"),
    (0x05, "IO_ERR_PARITY", "parity error on the device"),
    (0x06, "IO_ERR_SEEK_ERROR", "the device could not find the place on the medium"),
    (0x07, "IO_ERR_BAD_BLOCK", "the device has a bad block"),
    (0x08, "IO_ERR_OVERRUN_ERROR", "data came faster than they were taken"),
    (0x09, "IO_ERR_TIMEOUT", "the device did not answer in time"),
    (0x0a, "IO_ERR_SEQUENCE", "the device answered out of turn"),
    (0x0b, "IO_ERR_CONTROLLER_ERROR", "the controller reported an error"),
    (0x0c, "IO_ERR_INTERNAL_ERROR", "the driver met an error in its own data"),
    (0x0d, "IO_ERR_INCORRECT_IRQL", "the interrupt level in the settings is not the device's"),
    (0x0e, "IO_ERR_INVALID_IOBASE", "the base address in the settings is not the device's"),
    (0x0f, "IO_ERR_NOT_READY", "the device is not ready"),
    (0x10, "IO_ERR_INVALID_REQUEST", "the request is not valid for the device"),
    (0x11, "IO_ERR_VERSION", "driver or device have the wrong version"),
    (0x12, "IO_ERR_LAYERED_FAILURE", "a driver below failed"),
    (0x13, "IO_ERR_RESET", "the device or its bus was reset"),
    (0x14, "IO_ERR_PROTOCOL", "what the device sent breaks the protocol"),
    (0x15, "IO_ERR_MEMORY_CONFLICT_DETECTED", "another device uses the same memory"),
    (0x16, "IO_ERR_PORT_CONFLICT_DETECTED", "another device uses the same ports"),
    (0x17, "IO_ERR_DMA_CONFLICT_DETECTED", "another device uses the same DMA channel"),
    (0x18, "IO_ERR_IRQ_CONFLICT_DETECTED", "another device uses the same interrupt"),
    (0x19, "IO_ERR_BAD_FIRMWARE", "the firmware describes the machine wrongly"),
    (0x1a, "IO_WRN_BAD_FIRMWARE", "the firmware describes the machine wrongly, without harm yet"),
    (0x1b, "IO_ERR_DMA_RESOURCE_CONFLICT", "the driver could not claim its DMA channel"),
    (0x1c, "IO_ERR_INTERRUPT_RESOURCE_CONFLICT", "the driver could not claim its interrupt"),
    (0x1d, "IO_ERR_MEMORY_RESOURCE_CONFLICT", "the driver could not claim its memory"),
    (0x1e, "IO_ERR_PORT_RESOURCE_CONFLICT", "the driver could not claim its ports"),
    (0x1f, "IO_BAD_BLOCK_WITH_NAME", "a file lies on a bad block"),
    (0x20, "IO_WRITE_CACHE_ENABLED", "the disk's write cache is on"),
    (0x21, "IO_RECOVERED_VIA_ECC", "data were repaired by their check bits"),
    (0x22, "IO_WRITE_CACHE_DISABLED", "the disk's write cache was turned off"),
    (0x24, "IO_FILE_QUOTA_THRESHOLD", "a user is near the limit of disk space"),
    (0x25, "IO_FILE_QUOTA_LIMIT", "a user reached the limit of disk space"),
    (0x26, "IO_FILE_QUOTA_STARTED", "disk space of users is being counted"),
    (0x27, "IO_FILE_QUOTA_SUCCEEDED", "disk space of users was counted"),
    (0x28, "IO_FILE_QUOTA_FAILED", "disk space of users could not be counted"),
    (0x29, "IO_FILE_SYSTEM_CORRUPT", "the file system on the disk is damaged: chkdsk"),
    (0x2a, "IO_FILE_QUOTA_CORRUPT", "the record of users' disk space is damaged"),
    (0x2b, "IO_SYSTEM_SLEEP_FAILED", "a driver did not let the machine sleep"),
    (0x2c, "IO_DUMP_POINTER_FAILURE", "the place for a crash dump could not be found"),
    (0x2d, "IO_DUMP_DRIVER_LOAD_FAILURE", "the drivers that write crash dumps could not be loaded"),
    (0x2e, "IO_DUMP_INITIALIZATION_FAILURE", "writing of crash dumps could not be prepared"),
    (0x2f, "IO_DUMP_DUMPFILE_CONFLICT", "the dump file is in use for something else"),
    (0x30, "IO_DUMP_DIRECT_CONFIG_FAILED", "the dump file of its own could not be set up"),
    (0x31, "IO_DUMP_PAGE_CONFIG_FAILED", "the page file could not be set up for crash dumps"),
    (0x32, "IO_LOST_DELAYED_WRITE", "data in the cache could not be written and are lost"),
    (0x33, "IO_WARNING_PAGING_FAILURE", "a page could not be read or written"),
    (0x34, "IO_WRN_FAILURE_PREDICTED", "the disk says that it will fail soon: back up now"),
    (0x35, "IO_WARNING_INTERRUPT_STILL_PENDING", "the device's interrupt stays on"),
    (0x36, "IO_DRIVER_CANCEL_TIMEOUT", "a driver did not finish a cancelled request in time"),
    (0x37, "IO_FILE_SYSTEM_CORRUPT_WITH_NAME", "the file system of a volume is damaged: chkdsk"),
    (0x38, "IO_WARNING_ALLOCATION_FAILED", "memory ran short and work had to be put off"),
    (0x39, "IO_WARNING_LOG_FLUSH_FAILED", "the transaction log of a volume could not be written"),
    (0x3a, "IO_WARNING_DUPLICATE_SIGNATURE", "two disks have the same signature"),
    (0x3b, "IO_WARNING_DUPLICATE_PATH", "a disk is reached by two ways, without software for that"),
    (0x6c, "IO_ERR_THREAD_STUCK_IN_DEVICE_DRIVER", "a thread is stuck in a driver"),
    (0x75, "IO_ERR_PORT_TIMEOUT", "a port did not answer in time"),
    (0x76, "IO_WARNING_BUS_RESET", "the bus was reset"),
    (0x81, "IO_WARNING_RESET", "the device was reset"),
];

#[rustfmt::skip]
const STATUS: &[Row] = &[
    (0x0000_0000, "STATUS_SUCCESS", "success"),
    (0x0000_0080, "STATUS_ABANDONED", "the owner of the mutant ended without releasing it"),
    (0x0000_0102, "STATUS_TIMEOUT", "the time ran out"),
    (0x0000_0103, "STATUS_PENDING", "the operation is under way"),
    (0x8000_0001, "STATUS_GUARD_PAGE_VIOLATION", "a guard page was touched"),
    (0x8000_0002, "STATUS_DATATYPE_MISALIGNMENT", "data is not aligned as it must be"),
    (0x8000_0003, "STATUS_BREAKPOINT", "a breakpoint was met"),
    (0x8000_0004, "STATUS_SINGLE_STEP", "a single step ended"),
    (0x8000_0005, "STATUS_BUFFER_OVERFLOW", "the buffer was too small for all data"),
    (0x8000_000e, "STATUS_DEVICE_PAPER_EMPTY", "the printer has no paper"),
    (0x8000_000f, "STATUS_DEVICE_POWERED_OFF", "the device is switched off"),
    (0x8000_0010, "STATUS_DEVICE_OFF_LINE", "the device is off line"),
    (0x8000_0011, "STATUS_DEVICE_BUSY", "the device is busy"),
    (0x8000_0016, "STATUS_VERIFY_REQUIRED", "the medium may have been changed"),
    (0xc000_0001, "STATUS_UNSUCCESSFUL", "the operation failed"),
    (0xc000_0002, "STATUS_NOT_IMPLEMENTED", "that is not implemented"),
    (0xc000_0004, "STATUS_INFO_LENGTH_MISMATCH", "a length does not fit"),
    (0xc000_0005, "STATUS_ACCESS_VIOLATION", "memory was accessed that is not there or not allowed"),
    (0xc000_0006, "STATUS_IN_PAGE_ERROR", "a page could not be read back from the disk"),
    (0xc000_0008, "STATUS_INVALID_HANDLE", "a handle is not valid"),
    (0xc000_000d, "STATUS_INVALID_PARAMETER", "a parameter is not valid"),
    (0xc000_000e, "STATUS_NO_SUCH_DEVICE", "the device does not exist"),
    (0xc000_000f, "STATUS_NO_SUCH_FILE", "the file does not exist"),
    (0xc000_0010, "STATUS_INVALID_DEVICE_REQUEST", "the device does not know the request"),
    (0xc000_0011, "STATUS_END_OF_FILE", "the end of the file was reached"),
    (0xc000_0012, "STATUS_WRONG_VOLUME", "another medium is in the drive"),
    (0xc000_0013, "STATUS_NO_MEDIA_IN_DEVICE", "there is no medium in the drive"),
    (0xc000_0014, "STATUS_UNRECOGNIZED_MEDIA", "the medium has no format that is known"),
    (0xc000_0015, "STATUS_NONEXISTENT_SECTOR", "the sector does not exist"),
    (0xc000_0017, "STATUS_NO_MEMORY", "there is not enough memory"),
    (0xc000_001c, "STATUS_INVALID_SYSTEM_SERVICE", "the system service does not exist"),
    (0xc000_001d, "STATUS_ILLEGAL_INSTRUCTION", "the processor does not know the instruction"),
    (0xc000_0022, "STATUS_ACCESS_DENIED", "access was denied"),
    (0xc000_0023, "STATUS_BUFFER_TOO_SMALL", "the buffer is too small"),
    (0xc000_0025, "STATUS_NONCONTINUABLE_EXCEPTION", "execution went on after an exception that forbids it"),
    (0xc000_0026, "STATUS_INVALID_DISPOSITION", "a handler gave an answer that is not valid"),
    (0xc000_0027, "STATUS_UNWIND", "an unwind is under way"),
    (0xc000_0028, "STATUS_BAD_STACK", "the stack is not valid"),
    (0xc000_0029, "STATUS_INVALID_UNWIND_TARGET", "the target of an unwind is not valid"),
    (0xc000_0034, "STATUS_OBJECT_NAME_NOT_FOUND", "no object has that name"),
    (0xc000_0035, "STATUS_OBJECT_NAME_COLLISION", "the name is taken"),
    (0xc000_003a, "STATUS_OBJECT_PATH_NOT_FOUND", "a folder on the path does not exist"),
    (0xc000_003c, "STATUS_DATA_OVERRUN", "data came faster than they were taken"),
    (0xc000_003e, "STATUS_DATA_ERROR", "the data are damaged"),
    (0xc000_003f, "STATUS_CRC_ERROR", "a check sum does not match"),
    (0xc000_0043, "STATUS_SHARING_VIOLATION", "another has the file open"),
    (0xc000_007f, "STATUS_DISK_FULL", "the disk is full"),
    (0xc000_008c, "STATUS_ARRAY_BOUNDS_EXCEEDED", "an index is out of bounds"),
    (0xc000_008e, "STATUS_FLOAT_DIVIDE_BY_ZERO", "floating-point division by zero"),
    (0xc000_0094, "STATUS_INTEGER_DIVIDE_BY_ZERO", "integer division by zero"),
    (0xc000_0095, "STATUS_INTEGER_OVERFLOW", "integer overflow"),
    (0xc000_0096, "STATUS_PRIVILEGED_INSTRUCTION", "the instruction is not allowed at this privilege"),
    (0xc000_009a, "STATUS_INSUFFICIENT_RESOURCES", "a resource ran out"),
    (0xc000_009c, "STATUS_DEVICE_DATA_ERROR", "the device reported bad data: a bad block"),
    (0xc000_009d, "STATUS_DEVICE_NOT_CONNECTED", "the device is not connected"),
    (0xc000_00a2, "STATUS_MEDIA_WRITE_PROTECTED", "the medium is write-protected"),
    (0xc000_00a3, "STATUS_DEVICE_NOT_READY", "the device is not ready"),
    (0xc000_00b5, "STATUS_IO_TIMEOUT", "the device did not answer in time"),
    (0xc000_00bb, "STATUS_NOT_SUPPORTED", "the request is not supported"),
    (0xc000_00c0, "STATUS_DEVICE_DOES_NOT_EXIST", "the device does not exist"),
    (0xc000_00e5, "STATUS_INTERNAL_ERROR", "an internal error"),
    (0xc000_00e9, "STATUS_UNEXPECTED_IO_ERROR", "an I/O error that was not expected"),
    (0xc000_00fd, "STATUS_STACK_OVERFLOW", "the stack ran out"),
    (0xc000_0102, "STATUS_FILE_CORRUPT_ERROR", "a file or folder is damaged"),
    (0xc000_010a, "STATUS_PROCESS_IS_TERMINATING", "the process is ending"),
    (0xc000_0120, "STATUS_CANCELLED", "the request was cancelled"),
    (0xc000_0128, "STATUS_FILE_CLOSED", "the file is closed"),
    (0xc000_012d, "STATUS_COMMITMENT_LIMIT", "there is no more memory to commit"),
    (0xc000_0135, "STATUS_DLL_NOT_FOUND", "a library was not found"),
    (0xc000_013a, "STATUS_CONTROL_C_EXIT", "ended by Ctrl+C"),
    (0xc000_0144, "STATUS_UNHANDLED_EXCEPTION", "an exception nobody handled"),
    (0xc000_0148, "STATUS_INVALID_LEVEL", "the level is not valid"),
    (0xc000_014f, "STATUS_UNRECOGNIZED_VOLUME", "no file system knows the volume"),
    (0xc000_0178, "STATUS_NO_MEDIA", "there is no medium"),
    (0xc000_0184, "STATUS_INVALID_DEVICE_STATE", "the device is in no state for that"),
    (0xc000_0185, "STATUS_IO_DEVICE_ERROR", "the device reported an I/O error"),
    (0xc000_0186, "STATUS_DEVICE_PROTOCOL_ERROR", "what the device sent breaks the protocol"),
    (0xc000_0194, "STATUS_POSSIBLE_DEADLOCK", "a possible deadlock"),
    (0xc000_0218, "STATUS_CANNOT_LOAD_REGISTRY_FILE", "a registry file could not be loaded"),
    (0xc000_021a, "STATUS_SYSTEM_PROCESS_TERMINATED", "a system process ended"),
    (0xc000_0221, "STATUS_IMAGE_CHECKSUM_MISMATCH", "an image does not match its check sum"),
    (0xc000_0225, "STATUS_NOT_FOUND", "it was not found"),
    (0xc000_026e, "STATUS_VOLUME_DISMOUNTED", "the volume was taken away"),
    (0xc000_02b6, "STATUS_DEVICE_REMOVED", "the device was taken away"),
    (0xc000_0374, "STATUS_HEAP_CORRUPTION", "a heap is damaged"),
    (0xc000_0409, "STATUS_STACK_BUFFER_OVERRUN", "code stopped itself on damage it found (fast fail)"),
    (0xc000_0420, "STATUS_ASSERTION_FAILURE", "an assertion failed"),
    (0xc000_0428, "STATUS_INVALID_IMAGE_HASH", "an image's signature could not be verified"),
    (0xc000_0483, "STATUS_DEVICE_HARDWARE_ERROR", "the hardware of the device failed"),
    (0xc000_0602, "STATUS_FAIL_FAST_EXCEPTION", "code asked to be stopped at once"),
    (0xc015_000f, "STATUS_SXS_EARLY_DEACTIVATION", "an activation context was left too early"),
    (0xe06d_7363, "CPP_EH_EXCEPTION", "a C++ exception"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_found() {
        for table in [STATUS, EVENTS] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
        assert_eq!(describe(0xc000_0005).map(|d| d.0), Some("STATUS_ACCESS_VIOLATION"));
        assert_eq!(describe(1), None);
        assert_eq!(describe_event(0xc004_0007).map(|d| d.0), Some("IO_ERR_BAD_BLOCK"));
        assert_eq!(describe_event(0xc000_0007), None);
    }
}
