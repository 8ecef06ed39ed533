//! The I/O error log: packets that drivers gave to `IoWriteErrorLogEntry` and that were not yet in the event log.
//!
//! `nt!IopErrorLogListHead` rings the entries. What stands before the public `IO_ERROR_LOG_PACKET` is in no symbols
//! and has not changed since NT: type 0xb and size (16 bits each), the link, device and driver object, the time.
//! Insertion strings are UTF-16 texts that end with a NUL, one after the other.

use super::salvage::{self, Salvaged};
use super::string;
use crate::address::Va;
use crate::error::Result;
use crate::session::Session;

/// Offset of the list's head in KDDEBUGGER_DATA64.
const KD_ERROR_LOG: u32 = 0x90;
/// The type of an entry.
const TYPE: u16 = 0xb;
/// Bytes that are believed of an entry; Windows makes none of more than 0x110.
const MOST_BYTES: u16 = 0x1000;
/// Bytes of a packet before its dump data.
const PACKET: usize = 0x28;

/// An entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Device object; null where a driver spoke for itself.
    pub device: Va,
    /// Driver object.
    pub driver: Va,
    /// When it was logged, a FILETIME.
    pub time: u64,
    /// `IRP_MJ_…` of the request.
    pub major_function: u8,
    /// Times the request was tried again.
    pub retry_count: u8,
    /// Category for the event log.
    pub category: u16,
    /// What is logged: the event's id in the low half, facility and severity above.
    pub error_code: u32,
    /// Which place in the driver.
    pub unique_error: u32,
    /// `NTSTATUS` of the request.
    pub final_status: u32,
    /// Number of the request, as the driver counts.
    pub sequence: u32,
    /// I/O control code, for device control requests.
    pub io_control: u32,
    /// Where on the device.
    pub device_offset: u64,
    /// The driver's own words.
    pub dump_data: Vec<u32>,
    /// Insertion strings.
    pub strings: Vec<String>,
    /// What does not fit together.
    pub problems: Vec<String>,
}

/// Offsets of an entry, by the size of pointers.
struct Layout {
    link: usize,
    device: usize,
    driver: usize,
    time: usize,
    packet: usize,
}

fn layout(pointer_size: u32) -> Layout {
    match pointer_size {
        4 => Layout { link: 4, device: 0xc, driver: 0x10, time: 0x18, packet: 0x20 },
        _ => Layout { link: 8, device: 0x18, driver: 0x20, time: 0x28, packet: 0x30 },
    }
}

/// Where the head of the list stands.
///
/// # Errors
/// Where neither the kernel's symbols nor the debugger data block tell.
pub fn head(session: &Session<'_>) -> Result<Va> {
    super::variable(session, "IopErrorLogListHead", Some(KD_ERROR_LOG))
}

/// The entries, oldest first.
///
/// # Errors
/// Where the list's head is not known or not readable.
pub fn entries(session: &Session<'_>) -> Result<Salvaged> {
    let memory = session.memory();
    let refuse = |entry: Va| match memory.u16(entry) {
        Ok(TYPE) => None,
        Ok(other) => {
            Some(format!("the list leads to {entry}, where no entry stands: type {other:x}, not {TYPE:x}"))
        }
        Err(error) => Some(format!("the list leads to {entry}: {error}")),
    };
    let link = layout(session.target().pointer_size()).link as u64;
    salvage::ring(memory, head(session)?, link, refuse)
}

/// The entry at `at`.
///
/// # Errors
/// Where its fixed part cannot be read; what else is wrong is among its problems.
pub fn read(session: &Session<'_>, at: Va) -> Result<Entry> {
    let memory = session.memory();
    let pointer_size = session.target().pointer_size();
    let fixed = layout(pointer_size).packet + PACKET;
    let size = memory.u16(at.add(2))?;
    let mut bytes = vec![0; usize::from(size.min(MOST_BYTES)).max(fixed)];
    let (done, fault) = memory.read_some(at, &mut bytes)?;
    match fault {
        Some(error) if done < fixed => return Err(error),
        _ => bytes.truncate(done),
    }
    let mut entry = parse(&bytes, pointer_size);
    if usize::from(size) < fixed || size > MOST_BYTES {
        entry.problems.insert(0, format!("size {size:x} cannot be"));
    }
    entry.problems.extend(fault.map(|error| error.to_string()));
    Ok(entry)
}

/// Takes an entry apart. What the bytes do not hold is zero.
fn parse(bytes: &[u8], pointer_size: u32) -> Entry {
    let layout = layout(pointer_size);
    let packet = bytes.get(layout.packet..).unwrap_or_default();
    let number = |bytes: &[u8], at: usize, size: usize| {
        let part = bytes.get(at..at.saturating_add(size)).unwrap_or_default();
        part.iter().rev().fold(0, |number: u64, &byte| number << 8 | u64::from(byte))
    };
    let long = |at: usize| number(packet, at, 4) as u32;
    let pointer = |at: usize| Va(number(bytes, at, pointer_size as usize));
    let mut entry = Entry {
        device: pointer(layout.device),
        driver: pointer(layout.driver),
        time: number(bytes, layout.time, 8),
        major_function: number(packet, 0, 1) as u8,
        retry_count: number(packet, 1, 1) as u8,
        category: number(packet, 8, 2) as u16,
        error_code: long(0xc),
        unique_error: long(0x10),
        final_status: long(0x14),
        sequence: long(0x18),
        io_control: long(0x1c),
        device_offset: number(packet, 0x20, 8),
        ..Entry::default()
    };
    let size = number(packet, 2, 2) as usize;
    let data = packet.get(PACKET..).unwrap_or_default();
    let held = data.get(..size).unwrap_or(data);
    entry.dump_data = held.chunks_exact(4).map(|word| number(word, 0, 4) as u32).collect();
    if held.len() < size {
        entry.problems.push(format!("{size:x} bytes of dump data are announced, {:x} are there", held.len()));
    }
    let (count, offset) = (number(packet, 4, 2) as usize, number(packet, 6, 2) as usize);
    let mut rest = if count == 0 { &[][..] } else { packet.get(offset..).unwrap_or_default() };
    while entry.strings.len() < count {
        let Some(end) = rest.chunks_exact(2).position(|unit| unit == [0, 0]) else { break };
        let (text, after) = rest.split_at(end * 2);
        entry.strings.push(string::from_utf16(text));
        rest = after.get(2..).unwrap_or_default();
    }
    if entry.strings.len() < count {
        entry.problems.push(format!("{count} strings are announced, {} are there", entry.strings.len()));
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut bytes = vec![0; 0x30 + 0x30 + 12];
        bytes[..4].copy_from_slice(&[0xb, 0, 0x6c, 0]);
        bytes[0x18..0x20].copy_from_slice(&0xffff_8001_0000_1000u64.to_le_bytes());
        bytes[0x28..0x30].copy_from_slice(&7u64.to_le_bytes());
        bytes[0x30..0x3a].copy_from_slice(&[3, 2, 8, 0, 2, 0, 0x30, 0, 1, 0]);
        bytes[0x3c..0x40].copy_from_slice(&0xc004_0007u32.to_le_bytes());
        bytes[0x58..0x60].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
        bytes[0x60..0x6c].copy_from_slice(&[b'a', 0, 0, 0, b'b', 0, b'c', 0, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn an_entry_is_taken_apart() {
        let entry = parse(&sample(), 8);
        assert_eq!((entry.device, entry.time), (Va(0xffff_8001_0000_1000), 7));
        assert_eq!((entry.major_function, entry.retry_count, entry.category), (3, 2, 1));
        assert_eq!(entry.error_code, 0xc004_0007);
        assert_eq!(entry.dump_data, [1, 2]);
        assert_eq!(entry.strings, ["a", "bc"]);
        assert!(entry.problems.is_empty());
    }

    #[test]
    fn no_length_is_believed() {
        let whole = sample();
        for end in 0..whole.len() {
            parse(&whole[..end], 8);
            parse(&whole[..end], 4);
        }
        let mut wild = whole.clone();
        wild[0x32..0x38].copy_from_slice(&[0xff; 6]);
        let entry = parse(&wild, 8);
        assert_eq!((entry.dump_data.len(), entry.strings.len(), entry.problems.len()), (5, 0, 2));
    }
}
