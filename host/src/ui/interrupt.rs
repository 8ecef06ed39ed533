//! Ctrl+C. A press sets a flag that long work polls; a second press soon after tells that the first was not heard.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Two presses within this time are a second press.
pub const SECOND_PRESS: Duration = Duration::from_secs(2);

static FLAG: AtomicU32 = AtomicU32::new(0);
static SECOND: AtomicBool = AtomicBool::new(false);
/// Milliseconds since [`START`] of the last press, plus one; 0 before the first.
static LAST: AtomicU64 = AtomicU64::new(0);
static START: OnceLock<Instant> = OnceLock::new();

/// Takes Ctrl+C from the system, also where the parent left it ignored (jobs in the background). Call once, before the
/// first command.
///
/// # Errors
/// Why it cannot be taken; Ctrl+C then ends the program as usual.
pub fn install() -> Result<(), ctrlc::Error> {
    START.get_or_init(Instant::now);
    ctrlc::set_handler(|| press(START.get_or_init(Instant::now).elapsed()))
}

/// Not zero while an interrupt waits to be taken. Lives as long as the process.
pub fn interrupt_flag() -> &'static AtomicU32 {
    &FLAG
}

/// Asks whatever runs to stop, as Ctrl+C does.
pub fn request() {
    FLAG.store(1, Ordering::Relaxed);
}

/// Whether an interrupt came, and forgets it.
pub fn take_interrupt() -> bool {
    FLAG.swap(0, Ordering::Relaxed) != 0
}

/// Whether Ctrl+C was pressed twice within [`SECOND_PRESS`], and forgets it.
pub fn second_press() -> bool {
    SECOND.swap(false, Ordering::Relaxed)
}

fn press(now: Duration) {
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    let last = LAST.swap(now, Ordering::Relaxed);
    if last != 0 && u128::from(now.saturating_sub(last)) <= SECOND_PRESS.as_millis() {
        SECOND.store(true, Ordering::Relaxed);
    }
    request();
}

/// Held by tests that look at the flag, which all tests share.
#[cfg(test)]
pub(crate) static TESTS: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_presses() {
        let _alone = TESTS.lock();
        press(Duration::from_secs(10));
        assert!(take_interrupt() && !take_interrupt());
        assert!(!second_press());
        press(Duration::from_secs(11));
        assert!(second_press() && !second_press());
        press(Duration::from_secs(20));
        assert!(!second_press());
        take_interrupt();
    }
}
