//! Job objects: their limits and the processes in them.
//!
//! Structures from the kernel's own symbols; names of limits from the SDK's documentation of job objects.

use super::kernel::{Kernel, Record};
use super::list::{self, Links};
use crate::address::Va;
use crate::error::Result;

/// The most processes of one job.
const MOST_PROCESSES: usize = 1 << 16;

#[rustfmt::skip]
/// `JOB_OBJECT_LIMIT_*` by bit.
const LIMITS: [&str; 23] = [
    "WORKINGSET", "PROCESS_TIME", "JOB_TIME", "ACTIVE_PROCESS", "AFFINITY", "PRIORITY_CLASS", "PRESERVE_JOB_TIME",
    "SCHEDULING_CLASS", "PROCESS_MEMORY", "JOB_MEMORY", "DIE_ON_UNHANDLED_EXCEPTION", "BREAKAWAY_OK",
    "SILENT_BREAKAWAY_OK", "KILL_ON_JOB_CLOSE", "SUBSET_AFFINITY", "JOB_MEMORY_LOW", "JOB_READ_BYTES",
    "JOB_WRITE_BYTES", "RATE_CONTROL", "CPU_RATE_CONTROL", "IO_RATE_CONTROL", "NET_RATE_CONTROL", "BREAKAWAY_GROUP",
];

/// A job.
pub struct Job<'a> {
    /// The `_EJOB`.
    pub at: Va,
    /// Its bytes.
    pub record: Record<'a>,
}

impl<'a> Job<'a> {
    /// Reads the job at an address.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(kernel: &Kernel<'a>, at: Va) -> Result<Job<'a>> {
        Ok(Job { at, record: kernel.read("_EJOB", at)? })
    }

    /// Its processes: addresses of their EPROCESS.
    ///
    /// # Errors
    /// Where the kernel's symbols lack the list.
    pub fn processes(&self, kernel: &Kernel<'a>) -> Result<Links<'a>> {
        let link = kernel.structure("_EPROCESS")?.offset("JobLinks")?;
        let head = self.record.address("ProcessListHead")?;
        Ok(list::ring(kernel.session().memory(), head).of(link).at_most(MOST_PROCESSES))
    }
}

/// The names of the limits that are set.
pub fn limit_names(limits: u64) -> Vec<&'static str> {
    LIMITS.iter().enumerate().filter(|(bit, _)| limits >> bit & 1 != 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_names() {
        assert_eq!(limit_names(0x2008), ["ACTIVE_PROCESS", "KILL_ON_JOB_CLOSE"]);
        assert!(limit_names(0).is_empty());
    }
}
