//! Processes: `_EPROCESS`, the list of them, their session and image.
//!
//! Structures from the kernel's own symbols, Windows XP to 11. Threads are in [`super::thread`], handles in
//! [`super::handle`], address spaces in [`super::vad`].

use super::kernel::{Kernel, Record};
use super::salvage::{self, Salvaged};
use super::string;
use crate::address::Va;
use crate::error::{Error, Result};
use crate::memory::Memory;

/// Where KDDEBUGGER_DATA64 holds the address of `PsActiveProcessHead`.
const KD_ACTIVE_PROCESS_HEAD: u32 = 0x50;

/// Where a session has its number: at the same place since XP. Since 11 24H2 the public symbols do not tell any more,
/// where the structure is `_PSP_SESSION_SPACE`.
pub const SESSION_ID: u64 = 8;

/// The most processes of one system.
pub const MOST_PROCESSES: usize = 1 << 18;

/// A process.
#[derive(Clone)]
pub struct Process<'a> {
    /// The EPROCESS.
    pub at: Va,
    /// Its bytes.
    pub record: Record<'a>,
}

/// How a process stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Alive.
    Active,
    /// On its way out: it still has threads.
    Exiting,
    /// Over; somebody's handle or reference keeps the object.
    Terminated,
}

/// The processes in the order of the kernel's list, as far as it can be followed: addresses of their EPROCESS.
///
/// # Errors
/// Where the type or the head is unknown, or the head cannot be read.
pub fn processes(kernel: &Kernel<'_>) -> Result<Salvaged> {
    let links = kernel.structure("_EPROCESS")?.offset("ActiveProcessLinks")?;
    let told = kernel.session().target().info().ps_active_process_head;
    let head = match told {
        0 => super::variable(kernel.session(), "PsActiveProcessHead", Some(KD_ACTIVE_PROCESS_HEAD))?,
        head => kernel.address(head),
    };
    salvage::ring(kernel.session().memory(), head, links, |at| kernel.refuse(at, 3, "process"))
}

/// The process that runs on the current processor (whose page tables are used, where a thread is attached).
pub fn current(kernel: &Kernel<'_>) -> Result<Va> {
    let info = kernel.session().target().info();
    let chosen = kernel.session().evaluate("@$proc").ok().filter(|&process| process != 0);
    match chosen.unwrap_or(info.current_process) {
        0 => {
            let thread = super::thread::current(kernel)?;
            kernel.structure("_ETHREAD")?.at(thread).pointer("Tcb.ApcState.Process")
        }
        process => Ok(kernel.address(process)),
    }
}

impl<'a> Process<'a> {
    /// Reads the EPROCESS at an address.
    ///
    /// # Errors
    /// Where it cannot be read, or is no process object.
    pub fn read(kernel: &Kernel<'a>, at: Va) -> Result<Process<'a>> {
        let record = kernel.read("_EPROCESS", at)?;
        record.u64("Pcb.Header.Type")?;
        match kernel.refuse(at, 3, "process") {
            Some(why) => Err(Error::NotFound(why)),
            None => Ok(Process { at, record }),
        }
    }

    /// Process id.
    pub fn id(&self) -> Result<u64> {
        self.record.u64("UniqueProcessId")
    }

    /// Process id of the creator.
    pub fn parent(&self) -> Result<u64> {
        self.record.u64("InheritedFromUniqueProcessId")
    }

    /// Name of the image, as long as the kernel keeps it: 15 characters.
    pub fn name(&self) -> Result<String> {
        let name = self.record.text("ImageFileName")?;
        Ok(name.chars().take(15).collect())
    }

    /// Path of the image as the object manager names it.
    pub fn path(&self) -> Result<String> {
        let name = self.record.pointer("SeAuditProcessCreationInfo.ImageFileName")?;
        if name.is_null() {
            return Ok(String::new());
        }
        string::unicode(self.record.memory(), name).map(|path| string::one_line(&path))
    }

    /// The root of its page tables as the kernel holds it, low bits and all.
    pub fn directory_table_base(&self) -> Result<u64> {
        match self.record.u64("Pcb.DirectoryTableBase") {
            Err(Error::Other(_)) => self.record.u64("Pcb.DirectoryTableBase[0]"),
            other => other,
        }
    }

    /// Its address space.
    pub fn memory(&self, kernel: &Kernel<'a>) -> Result<Memory<'a>> {
        kernel.session().memory().of_process(self.at)
    }

    /// Its PEB; null for what has no user part.
    pub fn peb(&self) -> Result<Va> {
        self.record.pointer("Peb")
    }

    /// The PEB of a 32-bit program on a 64-bit system.
    pub fn wow64_peb(&self) -> Result<Option<Va>> {
        if self.record.has("WoW64Process") {
            let block = self.record.pointer("WoW64Process")?;
            // The first field of _EWOW64PROCESS is the PEB, in all builds that have the structure.
            return if block.is_null() { Ok(None) } else { self.record.memory().pointer(block).map(Some) };
        }
        if self.record.has("Wow64Process") {
            return Ok(Some(self.record.pointer("Wow64Process")?).filter(|peb| !peb.is_null()));
        }
        Ok(None)
    }

    /// Number of its session; `None` for processes outside of sessions.
    pub fn session_id(&self, kernel: &Kernel<'a>) -> Result<Option<u64>> {
        let session = self.record.pointer("Session")?;
        if session.is_null() {
            return Ok(None);
        }
        let offset = kernel.offset("_MM_SESSION_SPACE", "SessionId").unwrap_or(SESSION_ID);
        let number = session.add(offset);
        // Old systems map session space in its processes only.
        let read = kernel.session().memory().u32(number).or_else(|error| match self.memory(kernel) {
            Ok(space) => space.u32(number),
            Err(_) => Err(error),
        });
        read.map(|id| Some(id.into()))
    }

    /// Its handle table; null once it is gone.
    pub fn object_table(&self) -> Result<Va> {
        self.record.pointer("ObjectTable")
    }

    /// Its primary token.
    pub fn token(&self) -> Result<Va> {
        self.record.fast_reference("Token")
    }

    /// The job it is in; null if none.
    pub fn job(&self) -> Result<Va> {
        self.record.pointer("Job")
    }

    /// When it ended, FILETIME; 0 while it has not.
    pub fn exit_time(&self) -> u64 {
        self.record.u64("ExitTime.QuadPart").unwrap_or(0)
    }

    /// How it stands.
    pub fn state(&self) -> State {
        let bit = |path| self.record.u64(path).unwrap_or(0) != 0;
        // ProcessDelete: told to end. ProcessExiting: its last thread is at it.
        let (told, leaving) = (bit("ProcessDelete"), bit("ProcessExiting"));
        let over = self.exit_time() != 0 || leaving;
        if over && self.record.u64("ActiveThreads").is_ok_and(|threads| threads == 0) {
            State::Terminated
        } else if over || told {
            State::Exiting
        } else {
            State::Active
        }
    }
}
