//! `KDDEBUGGER_DATA64`: where the kernel says what its variables and offsets are, without symbols.
//!
//! A small dump holds a plain copy. In other dumps the block stands in memory and since Windows 8 may be encoded; see
//! [`super::kd_encoding`]. The tag is checked in every case. 32-bit kernels use the same block with addresses
//! sign-extended to 64 bits; they come out zero-extended here.

use kd_sdk::address::Va;
use thiserror::Error;

use super::bytes::{number_at, u32_at};
use super::kd_encoding;
use super::kd_fields::{self as field, Field};
use crate::dump::{Header, Triage};
use crate::memory::{ReadFault, View};

/// `KDBG`, the tag at offset 0x10 of a plain block.
pub const OWNER_TAG: u32 = u32::from_le_bytes(*b"KDBG");

/// The largest block that is read; those of known Windows have 0x208 to 0x3a8 bytes.
const LARGEST: usize = 0x800;
/// The bytes that a block has at least: up to `NtBuildLab`.
const SMALLEST: usize = 0x208;

/// What blocks of 32-bit systems up to Windows XP are too short to tell. It lies in the first part of the KPRCB, which HALs
/// are built against: `ntddk.h` promises that it stays as it is.
const ARCHITECTED: [(Field, u64); 4] = [
    (field::OFFSET_PRCB_CURRENT_THREAD, 0x4),
    (field::OFFSET_PRCB_NUMBER, 0x10),
    (field::OFFSET_PRCB_PROC_STATE_CONTEXT, 0x1c),
    (field::OFFSET_PRCB_PROC_STATE_SPECIAL_REG, 0x1c + 0x2cc),
];

/// Where a block was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KdDataSource {
    /// The copy in a small dump.
    Triage,
    /// Memory, as it is.
    Memory,
    /// Memory, where it was encoded.
    Decoded,
}

/// Why there is no block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum KdDataError {
    /// The header does not say where it is.
    #[error("the dump does not say where the KD data block is")]
    NoAddress,
    /// It cannot be read.
    #[error("the KD data block at {va} cannot be read")]
    Unreadable {
        /// Where it should be.
        va: Va,
        /// Why not.
        #[source]
        source: ReadFault,
    },
    /// It is neither plain nor can it be decoded from what the header knows.
    #[error("the KD data block at {va} is encoded and could not be decoded (tag {tag:08x})")]
    Encoded {
        /// Where it is.
        va: Va,
        /// What stands in place of the tag `KDBG`.
        tag: u32,
    },
    /// Its size makes no sense.
    #[error("the KD data block has an impossible size {size:#x}")]
    Size {
        /// `Size` as stored.
        size: u32,
    },
}

/// The debugger data block of the target's kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KdData {
    bytes: Vec<u8>,
    va: Option<Va>,
    source: KdDataSource,
    pointer_size: u32,
}

impl KdData {
    /// Finds the block: the copy of a small dump first, then memory at the address in the header.
    pub fn read(view: &View, header: &Header, triage: Option<&Triage>) -> Result<KdData, KdDataError> {
        let va = header.kd_debugger_data_block;
        if let Some(range) = triage.and_then(|triage| triage.debugger_data)
            && let Some(bytes) = view.dump().read_range(range)
            && let Ok(data) =
                KdData::parse(bytes.to_vec(), va, KdDataSource::Triage, header.machine.pointer_size())
        {
            return Ok(data);
        }
        let va = va.ok_or(KdDataError::NoAddress)?;
        let mut bytes = vec![0; LARGEST];
        let outcome = view.read(va, &mut bytes);
        bytes.truncate(outcome.done);
        if let Some(source) = outcome.fault.filter(|_| outcome.done < SMALLEST) {
            return Err(KdDataError::Unreadable { va, source });
        }
        let tag = u32_at(&bytes, 0x10).unwrap_or(0);
        let pointer_size = header.machine.pointer_size();
        if tag == OWNER_TAG {
            return KdData::parse(bytes, Some(va), KdDataSource::Memory, pointer_size);
        }
        let decoded =
            kd_encoding::solve(&bytes, &known_words(header)).ok_or(KdDataError::Encoded { va, tag })?;
        KdData::parse(decoded, Some(va), KdDataSource::Decoded, pointer_size)
    }

    /// Takes a plain block; the tag and the size are checked.
    pub fn parse(
        mut bytes: Vec<u8>,
        va: Option<Va>,
        source: KdDataSource,
        pointer_size: u32,
    ) -> Result<KdData, KdDataError> {
        let tag = u32_at(&bytes, 0x10).unwrap_or(0);
        if tag != OWNER_TAG {
            return Err(KdDataError::Encoded { va: va.unwrap_or_default(), tag });
        }
        let size = u32_at(&bytes, 0x14).unwrap_or(0);
        if !(SMALLEST..=LARGEST).contains(&(size as usize)) {
            return Err(KdDataError::Size { size });
        }
        bytes.truncate(size as usize);
        Ok(KdData { bytes, va, source, pointer_size })
    }

    /// The value of a field; `None` when this version of the block does not have it. Addresses of 32-bit targets are
    /// zero-extended.
    pub fn get(&self, field: Field) -> Option<u64> {
        let value = number_at(&self.bytes, field.offset, field.size)?;
        Some(if self.pointer_size == 4 { value & 0xffff_ffff } else { value })
    }

    /// An address; `None` when absent or null.
    pub fn va(&self, field: Field) -> Option<Va> {
        self.get(field).filter(|&value| value != 0).map(Va)
    }

    /// An offset into a structure, or the size of one; `None` when absent, zero or all ones (not known to the kernel).
    pub fn offset(&self, field: Field) -> Option<u64> {
        match self.get(field) {
            Some(value) => (value != 0 && (field.size != 2 || value != 0xffff)).then_some(value),
            None if self.pointer_size == 4 => {
                ARCHITECTED.iter().find(|known| known.0.offset == field.offset).map(|known| known.1)
            }
            None => None,
        }
    }

    /// The field with this name, in any case.
    pub fn by_name(&self, name: &str) -> Option<u64> {
        field::find(name).and_then(|field| self.get(field))
    }

    /// Every field that this block has, with its value.
    pub fn fields(&self) -> impl Iterator<Item = (Field, u64)> + '_ {
        field::FIELDS.iter().filter_map(|&field| Some((field, self.get(field)?)))
    }

    /// The plain bytes, as long as `Size` says (or as the dump holds).
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the block is in the target, when known.
    pub fn address(&self) -> Option<Va> {
        self.va
    }

    /// Where the block was found.
    pub fn source(&self) -> KdDataSource {
        self.source
    }
}

/// What the header says about the words of the block: (offset, value). `PfnDataBase` is no help: small dumps have the
/// address of `MmPfnDatabase` there as the block does, others have its value.
fn known_words(header: &Header) -> Vec<(usize, u64)> {
    [
        (field::PS_LOADED_MODULE_LIST, header.ps_loaded_module_list),
        (field::PS_ACTIVE_PROCESS_HEAD, header.ps_active_process_head),
    ]
    .into_iter()
    .filter_map(|(field, va)| {
        let value = va?.0;
        // The kernel keeps the addresses of a 32-bit target sign-extended.
        let value = if header.is_64_bit { value } else { value as u32 as i32 as i64 as u64 };
        (value != 0).then_some((field.offset, value))
    })
    .collect()
}
