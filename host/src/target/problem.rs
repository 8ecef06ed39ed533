//! What the target layer could not find out although the dump opens. A problem never stops a session.

use kd_sdk::address::Va;
use thiserror::Error;

use super::kd_data::KdDataError;
use crate::memory::ReadFault;

/// Something that is missing or does not fit.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum TargetProblem {
    /// There is no debugger data block.
    #[error("{}", chain(.0))]
    KdData(KdDataError),
    /// The list of modules ends early.
    #[error("the list of loaded modules breaks after {found} modules: no entry at {at}: {}", .fault.why)]
    ModuleList {
        /// Modules found before and after the break.
        found: usize,
        /// The entry that cannot be read.
        at: Va,
        /// Why.
        fault: ReadFault,
    },
    /// The list of modules runs into itself or does not end.
    #[error("the list of loaded modules is damaged: it does not come back to its head {head}")]
    ModuleListLoops {
        /// `PsLoadedModuleList`.
        head: Va,
    },
    /// Nothing says where the list of modules is.
    #[error("the dump does not say where the list of loaded modules is")]
    NoModuleList,
    /// The table of unloaded drivers cannot be read.
    #[error("the table of unloaded drivers at {at} cannot be read: {}", .fault.why)]
    UnloadedDrivers {
        /// Where it is.
        at: Va,
        /// Why it cannot be read.
        fault: ReadFault,
    },
    /// The table of processors cannot be read: only one processor is known.
    #[error("the table of processors (KiProcessorBlock) at {at} cannot be read: {}", .fault.why)]
    Processors {
        /// Where it is.
        at: Va,
        /// Why it cannot be read.
        fault: ReadFault,
    },
    /// The saved KPRCB of a small dump could not be given its address.
    #[error("the address of the saved KPRCB is not known: the current thread and process are")]
    PrcbAddress,
    /// A processor count that no Windows has.
    #[error("the header counts {count} processors; {taken} are taken")]
    ProcessorCount {
        /// As stored.
        count: u32,
        /// What is used instead.
        taken: u32,
    },
}

fn chain(error: &KdDataError) -> String {
    match error {
        KdDataError::Unreadable { source, .. } => format!("{error}: {}", source.why),
        _ => error.to_string(),
    }
}
