//! Threads: `_ETHREAD` and the `_KTHREAD` in it, and the lists that hold them.
//!
//! Structures from the kernel's own symbols, Windows XP to 11. What a thread waits for is in [`super::wait`].

use super::kernel::{Kernel, Record};
use super::process::Process;
use super::salvage::{self, Salvaged};
use crate::address::Va;
use crate::error::{Error, Result};

/// `_KTHREAD.State`, in all versions.
const STATES: [&str; 10] = [
    "Initialized",
    "Ready",
    "Running",
    "Standby",
    "Terminated",
    "Waiting",
    "Transition",
    "DeferredReady",
    "GateWait",
    "WaitingForProcessInSwap",
];

/// `_KWAIT_REASON`, for kernels whose symbols lack it; it has only been appended to.
#[rustfmt::skip]
const WAIT_REASONS: [&str; 43] = [
    "Executive", "FreePage", "PageIn", "PoolAllocation", "DelayExecution", "Suspended", "UserRequest",
    "WrExecutive", "WrFreePage", "WrPageIn", "WrPoolAllocation", "WrDelayExecution", "WrSuspended", "WrUserRequest",
    "WrEventPair", "WrQueue", "WrLpcReceive", "WrLpcReply", "WrVirtualMemory", "WrPageOut", "WrRendezvous",
    "WrKeyedEvent", "WrTerminated", "WrProcessInSwap", "WrCpuRateControl", "WrCalloutStack", "WrKernel", "WrResource",
    "WrPushLock", "WrMutex", "WrQuantumEnd", "WrDispatchInt", "WrPreempted", "WrYieldExecution", "WrFastMutex",
    "WrGuardedMutex", "WrRundown", "WrAlertByThreadId", "WrDeferredPreempt", "WrPhysicalFault", "WrIoRing",
    "WrMdlCache", "WrRcu",
];

/// The state of a thread that waits for a processor.
pub const READY: u64 = 1;
/// The state of a thread that runs.
pub const RUNNING: u64 = 2;
/// The state of a thread that waits.
pub const WAITING: u64 = 5;

/// A thread.
#[derive(Clone)]
pub struct Thread<'a> {
    /// The ETHREAD.
    pub at: Va,
    /// Its bytes.
    pub record: Record<'a>,
}

/// What a thread does in the name of somebody else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Impersonation {
    /// The token.
    pub token: Va,
    /// `SECURITY_IMPERSONATION_LEVEL`.
    pub level: u64,
}

/// The threads of a process in the order of its list, as far as it can be followed: addresses of their ETHREAD.
///
/// # Errors
/// Where the kernel's symbols lack the list, or its head cannot be read.
pub fn threads(kernel: &Kernel<'_>, process: &Process<'_>) -> Result<Salvaged> {
    let ethread = kernel.structure("_ETHREAD")?;
    let (head, link) = if process.record.has("ThreadListHead") && ethread.field("ThreadListEntry").is_some() {
        (process.record.address("ThreadListHead")?, ethread.offset("ThreadListEntry")?)
    } else {
        (process.record.address("Pcb.ThreadListHead")?, ethread.offset("Tcb.ThreadListEntry")?)
    };
    salvage::ring(kernel.session().memory(), head, link, |at| kernel.refuse(at, 6, "thread"))
}

/// The thread that runs on the current processor.
pub fn current(kernel: &Kernel<'_>) -> Result<Va> {
    let session = kernel.session();
    let told = session.evaluate("@$thread").ok().filter(|&thread| thread != 0);
    match told.unwrap_or(session.target().info().current_thread) {
        0 => of_processor(kernel, session.target().info().current_processor),
        thread => Ok(kernel.address(thread)),
    }
}

/// The thread that runs on a processor, by the kernel's types: the debugger data block of Windows XP does not tell it.
///
/// # Errors
/// Where the processor's KPRCB cannot be found or read.
pub fn of_processor(kernel: &Kernel<'_>, number: u32) -> Result<Va> {
    let session = kernel.session();
    let prcb_type = kernel.structure("_KPRCB")?;
    let untold = |_| Error::NotFound("the dump does not tell the current thread".to_owned());
    let prcb = match session.target().processor(number) {
        Some(processor) if processor.prcb != 0 => kernel.address(processor.prcb),
        _ => {
            let block = super::variable(session, "KiProcessorBlock", None).map_err(untold)?;
            session.memory().pointer(block.add(u64::from(number) * kernel.pointer_size()))?
        }
    };
    prcb_type.at(prcb).pointer("CurrentThread")
}

impl<'a> Thread<'a> {
    /// Reads the ETHREAD at an address.
    ///
    /// # Errors
    /// Where it cannot be read, or is no thread object.
    pub fn read(kernel: &Kernel<'a>, at: Va) -> Result<Thread<'a>> {
        let record = kernel.read("_ETHREAD", at)?;
        record.u64("Tcb.Header.Type")?;
        match kernel.refuse(at, 6, "thread") {
            Some(why) => Err(Error::NotFound(why)),
            None => Ok(Thread { at, record }),
        }
    }

    /// Process id and thread id.
    pub fn ids(&self) -> Result<(u64, u64)> {
        Ok((self.record.u64("Cid.UniqueProcess")?, self.record.u64("Cid.UniqueThread")?))
    }

    /// `_KTHREAD.State`.
    pub fn state(&self) -> Result<u64> {
        self.record.u64("Tcb.State")
    }

    /// The processor that it runs on, or ran on last.
    pub fn processor(&self) -> Result<u64> {
        self.record.first(&["Tcb.NextProcessorNumber", "Tcb.NextProcessor"])
    }

    /// The process that owns it.
    pub fn process(&self) -> Result<Va> {
        match self.record.first(&["Tcb.Process", "ThreadsProcess"]) {
            Ok(process) => Ok(Va(process)),
            // Before Vista it is only in the state for its own address space.
            Err(_) => self.attached(),
        }
    }

    /// The process whose address space it uses.
    pub fn attached(&self) -> Result<Va> {
        self.record.pointer("Tcb.ApcState.Process")
    }

    /// Name of its reason to wait; a number where the symbols have no name.
    pub fn wait_reason(&self, kernel: &Kernel<'a>) -> Result<String> {
        let reason = self.record.u64("Tcb.WaitReason")?;
        let known = || usize::try_from(reason).ok().and_then(|reason| WAIT_REASONS.get(reason));
        let name =
            kernel.enum_name("_KWAIT_REASON", reason).or_else(|| known().map(|name| (*name).to_owned()));
        Ok(name.unwrap_or_else(|| format!("{reason:#x}")))
    }

    /// Whether a user APC can end its wait.
    pub fn alertable(&self) -> Option<bool> {
        self.record.u64("Tcb.Alertable").ok().map(|alertable| alertable != 0)
    }

    /// Whether its kernel stack is in memory; `None` where this build does not tell.
    pub fn stack_resident(&self) -> Option<bool> {
        self.record.u64("Tcb.KernelStackResident").ok().map(|resident| resident != 0)
    }

    /// In whose name it acts.
    pub fn impersonation(&self) -> Result<Option<Impersonation>> {
        let record = &self.record;
        if record.u64("ActiveImpersonationInfo")? == 0 {
            return Ok(None);
        }
        if record.has("ClientSecurity") {
            let data = record.u64("ClientSecurity.ImpersonationData")?;
            return Ok(Some(Impersonation { token: Va(data & !7), level: data & 3 }));
        }
        // Windows XP: the token and its level in a block of their own, with two flags between them.
        let block = record.pointer("ImpersonationInfo")?;
        if block.is_null() {
            return Ok(None);
        }
        let memory = record.memory();
        let level = u64::from(memory.session.target().pointer_size()) + 4;
        Ok(Some(Impersonation { token: memory.pointer(block)?, level: memory.u32(block.add(level))?.into() }))
    }

    /// True once it has been told to end.
    pub fn terminated(&self) -> bool {
        self.record.u64("Terminated").unwrap_or(0) != 0
    }

    /// What it is called, where its program gave it a name.
    pub fn name(&self) -> Option<String> {
        let name = self.record.pointer("ThreadName").ok().filter(|name| !name.is_null())?;
        super::string::unicode(self.record.memory(), name).ok().map(|name| super::string::one_line(&name))
    }
}

/// The name of a `_KTHREAD.State`.
pub fn state_name(state: u64) -> String {
    let known = usize::try_from(state).ok().and_then(|state| STATES.get(state));
    known.map_or_else(|| format!("state {state:#x}"), |name| (*name).to_owned())
}
