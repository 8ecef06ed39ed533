//! The time of the dump, in the kernel's own units: `KUSER_SHARED_DATA` and `KeMaximumIncrement`.
//!
//! The shared page has been at the same address on all versions of each machine, and the fields that are read here at
//! the same offsets. Where it is not in the dump, the dump's header tells the times.

use super::kernel::Kernel;
use crate::address::Va;
use crate::session::Session;
use crate::target::Machine;

/// Where the shared page holds the system time (FILETIME) and the tick count; both are `KSYSTEM_TIME`.
const SYSTEM_TIME: u64 = 0x14;
const TICK_COUNT: u64 = 0x320;
/// Where KDDEBUGGER_DATA64 holds the address of `KeTimeIncrement`.
const KD_TIME_INCREMENT: u32 = 0x78;
/// 100 ns units between two ticks on nearly every machine.
const USUAL_INCREMENT: u64 = 156_250;

/// The clocks when the dump was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// FILETIME; 0 if unknown.
    pub now: u64,
    /// Ticks since the start; `None` where nothing tells.
    pub ticks: Option<u64>,
    /// Units of 100 ns in a tick.
    pub increment: u64,
    /// False where the increment is the usual one, not the machine's.
    pub measured: bool,
}

/// Where the kernel sees `KUSER_SHARED_DATA`, the page that all programs share.
pub fn shared_data(session: &Session<'_>) -> Va {
    match session.target().machine() {
        Machine::X86 => Va(0xffdf_0000),
        Machine::X64 | Machine::Arm64 => Va(0xffff_f780_0000_0000),
    }
}

impl Clock {
    /// Reads the clocks.
    pub fn read(kernel: &Kernel<'_>) -> Clock {
        let (session, info) = (kernel.session(), kernel.session().target().info());
        let memory = session.memory();
        let page = shared_data(session);
        let places = [
            super::variable(session, "KeMaximumIncrement", None).ok(),
            super::told(session, KD_TIME_INCREMENT),
        ];
        let told = places.into_iter().flatten().find_map(|va| memory.u32(va).ok());
        // An interrupt every tenth of a millisecond to every tenth of a second.
        let told = told.map(u64::from).filter(|increment| (1_000..=1_000_000).contains(increment));
        let increment = told.unwrap_or(USUAL_INCREMENT);
        let up = (info.present & 4 != 0).then_some(info.up_time / increment);
        let ticks = memory.u64(page.add(TICK_COUNT)).ok().filter(|&ticks| ticks != 0).or(up);
        let now = memory.u64(page.add(SYSTEM_TIME)).ok().filter(|&now| now != 0).unwrap_or(info.system_time);
        Clock { now, ticks, increment, measured: told.is_some() }
    }

    /// Ticks in units of 100 ns.
    pub fn span(&self, ticks: u64) -> u64 {
        ticks.saturating_mul(self.increment)
    }

    /// Ticks from one that the kernel keeps in 32 bits until now.
    pub fn ticks_since(&self, tick: u64) -> Option<u64> {
        self.ticks.map(|now| u64::from((now as u32).wrapping_sub(tick as u32)))
    }

    /// Time from a moment until now; `None` where there is none, or it lies in the future.
    pub fn since(&self, moment: u64) -> Option<u64> {
        self.now.checked_sub(moment).filter(|_| moment != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_wrap_and_times_do_not() {
        let clock = Clock { now: 1000, ticks: Some(0x1_0000_0005), increment: 156_250, measured: true };
        assert_eq!(clock.ticks_since(0xffff_fffe), Some(7));
        assert_eq!(clock.span(2), 312_500);
        assert_eq!((clock.since(0), clock.since(400), clock.since(1001)), (None, Some(600), None));
    }
}
