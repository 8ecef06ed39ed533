//! `!locks`: executive resources, who has them, who waits, and who waits in a circle.
//!
//! [`kd_sdk::nt::lock`] reads them; [`mod@locks`] is the command, [`graph`] finds circles among those that wait,
//! [`deadlock`] collects what waits for what and prints the circles.

mod deadlock;
mod graph;
mod locks;

use kd_sdk::abi::needs;
use kd_sdk::prelude::*;

kd_command! {
    name: "locks",
    summary: "Show executive resources with their owners and waiters, and find deadlocks",
    usage: "[-v] [-p] [-d] [-deadlock] [ADDRESS]",
    run: locks::locks,
    help: include_str!("locks.txt"),
    needs: needs::TARGET | needs::KERNEL_TYPES,
}

export_extension! { summary: "Kernel objects: !locks" }
