//! Reading the target's memory.

use crate::abi::{self, status};
use crate::address::{Pa, Pfn, Va};
use crate::error::{Absent, Error, Result};
use crate::session::Session;

/// An address space of the target.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) space: u64,
}

impl<'a> Memory<'a> {
    /// The address space with this directory table base.
    pub fn space(self, directory_table_base: Pa) -> Memory<'a> {
        Memory { space: directory_table_base.0, ..self }
    }

    /// The address space of a process, by its EPROCESS.
    ///
    /// # Errors
    /// Where the process cannot be read.
    pub fn of_process(self, process: Va) -> Result<Memory<'a>> {
        let mut space = 0;
        self.session.check(self.session.calls.space_of_process(process.0, &mut space))?;
        Ok(Memory { space, ..self })
    }

    /// Fills `buffer` from `va`, all of it or an error.
    pub fn read(&self, va: Va, buffer: &mut [u8]) -> Result<()> {
        let (done, fault) = self.read_some(va, buffer)?;
        match fault {
            Some(error) if done < buffer.len() => Err(error),
            _ => Ok(()),
        }
    }

    /// Fills `buffer` from `va` as far as it is readable: bytes read, and why it stopped if it did.
    pub fn read_some(&self, va: Va, buffer: &mut [u8]) -> Result<(usize, Option<Error>)> {
        let mut fault = abi::ReadFault::default();
        let code = self.session.calls.read_virtual(self.space, va.0, buffer, &mut fault);
        self.outcome(code, &fault, buffer.len())
    }

    /// Fills `buffer` from physical memory, all of it or an error.
    pub fn read_physical(&self, pa: Pa, buffer: &mut [u8]) -> Result<()> {
        let mut fault = abi::ReadFault::default();
        let code = self.session.calls.read_physical(pa.0, buffer, &mut fault);
        match self.outcome(code, &fault, buffer.len())? {
            (_, Some(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Calls `visit` with the runs of frames that the dump holds, in ascending order: the first, and how many. It
    /// says whether to go on.
    ///
    /// Runs can be large: read them with [`Memory::read_physical`] in pieces of a megabyte or so.
    ///
    /// # Errors
    /// Where the dump has no physical memory.
    pub fn physical_runs(&self, visit: &mut dyn FnMut(Pfn, u64) -> bool) -> Result<()> {
        self.session.check(self.session.calls.physical_runs(&mut |first, pages| visit(Pfn(first), pages)))
    }

    fn outcome(&self, code: i32, fault: &abi::ReadFault, len: usize) -> Result<(usize, Option<Error>)> {
        match code {
            status::OK => Ok((len, None)),
            status::UNREADABLE => {
                let error = Error::Unreadable { at: Va(fault.at), why: Absent::from_abi(fault.why) };
                Ok((usize::try_from(fault.done).unwrap_or(len).min(len), Some(error)))
            }
            other => Err(self.session.failure(other)),
        }
    }

    /// The physical address behind `va`.
    pub fn translate(&self, va: Va) -> Result<Pa> {
        let (mut pa, mut fault) = (0, abi::ReadFault::default());
        let code = self.session.calls.translate(self.space, va.0, &mut pa, &mut fault);
        match code {
            status::OK => Ok(Pa(pa)),
            status::UNREADABLE => Err(Error::Unreadable { at: va, why: Absent::from_abi(fault.why) }),
            other => Err(self.session.failure(other)),
        }
    }

    /// The first readable address at or after `va`.
    pub fn next_readable(&self, va: Va) -> Option<Va> {
        let mut found = 0;
        let code = self.session.calls.next_readable(self.space, va.0, &mut found);
        (code == status::OK).then_some(Va(found))
    }

    /// Bytes at `va`, at most 16 MiB.
    pub fn bytes(&self, va: Va, len: usize) -> Result<Vec<u8>> {
        if len > 1 << 24 {
            return Err(Error::Other(format!("{len} bytes at {va} are more than one read gives")));
        }
        let mut bytes = vec![0; len];
        self.read(va, &mut bytes)?;
        Ok(bytes)
    }

    fn array<const N: usize>(&self, va: Va) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(va, &mut bytes)?;
        Ok(bytes)
    }

    /// A byte.
    pub fn u8(&self, va: Va) -> Result<u8> {
        Ok(self.array::<1>(va)?[0])
    }

    /// Two bytes.
    pub fn u16(&self, va: Va) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(va)?))
    }

    /// Four bytes.
    pub fn u32(&self, va: Va) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(va)?))
    }

    /// Eight bytes.
    pub fn u64(&self, va: Va) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(va)?))
    }

    /// A pointer of the target's size.
    pub fn pointer(&self, va: Va) -> Result<Va> {
        match self.session.target().pointer_size() {
            4 => Ok(Va(self.u32(va)?.into())),
            _ => Ok(Va(self.u64(va)?)),
        }
    }

    /// Text up to a NUL or `max` bytes.
    pub fn ansi(&self, va: Va, max: usize) -> Result<String> {
        let bytes = self.bytes(va, max.min(0x1_0000))?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        Ok(bytes.iter().take(end).map(|&byte| char::from(byte)).collect())
    }
}
