//! What each parameter of a bug check is to the analysis: an instruction, an address, a record to read.
//! Facts from Microsoft's bug check reference, and from what the kernel passes where the reference says "reserved".

/// What a parameter is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Nothing the analysis follows.
    None,
    /// The instruction that faulted.
    Ip,
    /// The address it referenced.
    Address,
    /// Kind of access: 0 read, bit 0 write, bit 3 execute.
    Access,
    /// Kind of access as the page fault handler of 0x50 passes it.
    FaultAccess,
    /// The interrupt level.
    Irql,
    /// An exception code.
    Status,
    /// EXCEPTION_RECORD.
    ExceptionRecord,
    /// CONTEXT.
    Context,
    /// KTRAP_FRAME.
    TrapFrame,
    /// A routine whose module is responsible: a worker, a cancel routine, a place in the display driver.
    Code,
    /// DEVICE_OBJECT.
    Device,
    /// DRIVER_OBJECT.
    Driver,
    /// IRP.
    Irp,
    /// EPROCESS.
    Process,
    /// ANSI text in memory.
    AnsiText,
    /// KPRCB of a processor that hangs.
    Prcb,
    /// A module's name, text in memory (ANSI or UNICODE_STRING).
    DriverName,
}

use Role::{
    Access, Address, AnsiText, Code, Context, Device, Driver, DriverName, ExceptionRecord, FaultAccess, Ip,
    Irp, Irql, None as No, Prcb, Process, Status, TrapFrame,
};

/// Where the trouble comes from, by the nature of the code: it bounds how much a stack may be blamed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nature {
    /// The code on the stack is doing the wrong thing.
    Direct,
    /// Somebody damaged memory earlier; the stack shows who noticed.
    Corruption,
    /// The hardware reported it.
    Hardware,
    /// A person asked for it.
    Requested,
    /// Another processor, or another thread, is the one that hangs.
    Elsewhere,
    /// A user-mode process ended.
    ProcessEnded,
}

/// The roles of a code's parameters for these values.
pub fn roles(code: u32, values: [u64; 4]) -> [Role; 4] {
    match (code, values[0]) {
        (0x9f, 1 | 5 | 0x65) => [No, Device, No, No],
        (0x9f, 2) => [No, Device, Device, Driver],
        (0x9f, 3) => [No, Device, No, Irp],
        (0x9f, 0x500) => [No, No, Device, Device],
        (0xc7, 2 | 4 | 5) => [No, Code, No, No],
        (0x10d, 0xf) => [No, Code, No, No],
        (0xc2, 0x9b..=0x9d) => [No, No, No, Code],
        (0xc4 | 0x1c4, 0x2000..=0x2005) => [No, Code, No, No],
        (0xc4 | 0x1c4, 0x62) => [No, DriverName, No, No],
        (0xe6, 0x26) => [No, Device, No, No],
        // The object is a thread then.
        (0xef, _) if values[1] == 1 => [No; 4],
        (0xf4, 6) => [No, No, AnsiText, AnsiText],
        _ => ROLES
            .binary_search_by_key(&code, |row| row.0)
            .ok()
            .and_then(|i| ROLES.get(i))
            .map_or([No; 4], |r| r.1),
    }
}

/// What the code says about where to look.
pub fn nature(code: u32) -> Nature {
    match code {
        0xe2 | 0x161 | 0x1c8 | 0x21c8 | 0xdead_dead => Nature::Requested,
        0x2e | 0x80 | 0x9c | 0xb9 | 0x111 | 0x122 | 0x124 | 0x12b | 0x17e | 0x1cf | 0x2_0001 => {
            Nature::Hardware
        }
        0x101 | 0x102 | 0x1ca | 0x1db | 0x1df => Nature::Elsewhere,
        0xef | 0xf4 | 0x4c | 0xc000_021a => Nature::ProcessEnded,
        0x18 | 0x19 | 0x1a | 0x4e | 0xc5 | 0xd0 | 0x109 | 0x127 | 0x13a | 0x154 | 0x189 | 0x1c7 => {
            Nature::Corruption
        }
        _ => Nature::Direct,
    }
}

const ROLES: &[(u32, [Role; 4])] = &[
    (0x01, [Code, No, No, No]),
    (0x05, [Process, Process, No, No]),
    (0x0a, [Address, Irql, Access, Ip]),
    (0x1e, [Status, Ip, No, No]),
    (0x20, [No, No, Irql, No]),
    (0x23, [No, ExceptionRecord, Context, No]),
    (0x24, [No, ExceptionRecord, Context, No]),
    (0x26, [No, ExceptionRecord, Context, No]),
    (0x27, [No, ExceptionRecord, Context, No]),
    (0x2a, [Irp, No, No, No]),
    (0x2b, [TrapFrame, No, No, No]),
    (0x2e, [Address, No, No, Ip]),
    (0x30, [No, No, TrapFrame, No]),
    (0x35, [Irp, No, No, No]),
    (0x36, [Device, No, No, No]),
    (0x39, [Code, No, No, No]),
    (0x3b, [Status, Ip, Context, No]),
    (0x3d, [ExceptionRecord, Context, No, No]),
    (0x44, [Irp, No, No, No]),
    (0x48, [Irp, Code, No, No]),
    (0x4a, [Code, Irql, No, No]),
    (0x50, [Address, FaultAccess, Ip, No]),
    (0x7e, [Status, Ip, ExceptionRecord, Context]),
    (0x7f, [No, TrapFrame, No, Ip]),
    (0x8e, [Status, Ip, TrapFrame, No]),
    (0x92, [Code, No, No, No]),
    (0x96, [No, No, No, Code]),
    (0x9b, [No, ExceptionRecord, Context, No]),
    (0xbe, [Address, No, TrapFrame, No]),
    (0xc5, [Address, Irql, Access, Ip]),
    (0xc6, [Address, Access, No, No]),
    (0xcc, [Address, Access, Ip, No]),
    (0xcd, [Address, Access, Ip, No]),
    (0xce, [Address, Access, Ip, No]),
    (0xcf, [Address, Access, Ip, No]),
    (0xd0, [Address, Irql, Access, Ip]),
    (0xd1, [Address, Irql, Access, Ip]),
    (0xd3, [Address, Irql, Access, Ip]),
    (0xd4, [Address, Irql, Access, Ip]),
    (0xd5, [Address, Access, Ip, No]),
    (0xd6, [Address, Access, Ip, No]),
    (0xd8, [DriverName, No, No, No]),
    (0xdb, [Address, Irql, Access, Ip]),
    (0xdf, [Code, No, No, No]),
    (0xe1, [Code, Irql, No, No]),
    (0xe8, [No, Device, No, No]),
    (0xea, [No, No, DriverName, No]),
    (0xed, [Device, No, No, No]),
    (0xef, [Process, No, No, No]),
    (0xf2, [Code, No, No, No]),
    (0xf4, [No, Process, AnsiText, AnsiText]),
    (0xf9, [Device, Device, No, No]),
    (0xfc, [Ip, No, TrapFrame, No]),
    (0x101, [No, No, Prcb, No]),
    (0x102, [No, Prcb, No, No]),
    (0x108, [No, ExceptionRecord, Context, No]),
    (0x10f, [ExceptionRecord, Context, No, No]),
    (0x116, [No, Code, No, No]),
    (0x117, [No, Code, No, No]),
    (0x11b, [Irp, Code, No, No]),
    (0x11f, [No, No, Driver, No]),
    (0x121, [No, Irql, No, No]),
    (0x128, [Code, No, No, No]),
    (0x129, [Code, No, No, No]),
    (0x12c, [No, ExceptionRecord, Context, No]),
    (0x135, [Status, Context, Code, No]),
    (0x139, [No, TrapFrame, ExceptionRecord, No]),
    (0x141, [No, Code, No, No]),
    (0x142, [No, Code, No, No]),
    (0x149, [No, ExceptionRecord, Context, Ip]),
    (0x151, [Ip, TrapFrame, No, No]),
    (0x15b, [Code, No, No, No]),
    (0x179, [Irp, No, No, No]),
    (0x192, [No, No, Irql, No]),
    (0x19a, [Code, No, No, No]),
    (0x1aa, [No, No, Context, ExceptionRecord]),
    (0x1ab, [No, No, Context, No]),
    (0x1d6, [Code, No, No, No]),
    (0x1e9, [Device, No, No, No]),
    (0x1ea, [No, No, No, Ip]),
    (0x1f2, [Address, No, Ip, No]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_code_is_known() {
        assert!(ROLES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(ROLES.iter().all(|row| crate::catalogue::find(row.0).is_some()));
    }

    #[test]
    fn a_subtype_changes_the_roles() {
        assert_eq!(roles(0x9f, [3, 1, 2, 3])[3], Role::Irp);
        assert_eq!(roles(0x7e, [0; 4])[3], Role::Context);
    }
}
