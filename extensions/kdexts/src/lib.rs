//! The kernel's objects: `!locks` (executive resources and deadlocks), `!object`, `!drvobj`, `!devobj`, `!devstack`,
//! `!timer`, `!dpcs`, `!error`.
//!
//! What is known of the kernel is in [`kd_sdk::nt`]; here are arguments and output, a command or a family a file.
//! [`graph`] finds circles among those that wait, [`deadlock`] collects what waits for what and prints them.

mod deadlock;
mod device;
mod driver;
mod error;
mod graph;
mod io;
mod locks;
mod object;
mod timer;

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

kd_command! {
    name: "object",
    summary: "Show an object of the kernel: type, counts, name, contents",
    usage: "ADDRESS [FLAGS] | \\PATH [FLAGS] | 0 TYPENAME",
    run: object::object,
    help: include_str!("object.txt"),
    needs: needs::TARGET | needs::KERNEL_TYPES,
}

kd_command! {
    name: "drvobj",
    summary: "Show a driver: devices, dispatch routines",
    usage: "ADDRESS|NAME [FLAGS]",
    run: driver::drvobj,
    help: include_str!("io.txt"),
    needs: needs::TARGET | needs::KERNEL_TYPES,
}

kd_command! {
    name: "devobj",
    summary: "Show a device",
    usage: "ADDRESS|NAME",
    run: device::devobj,
    help: include_str!("io.txt"),
    needs: needs::TARGET | needs::KERNEL_TYPES,
}

kd_command! {
    name: "devstack",
    summary: "Show the stack of devices that a device is in",
    usage: "ADDRESS|NAME",
    run: device::devstack,
    help: include_str!("io.txt"),
    needs: needs::TARGET | needs::KERNEL_TYPES,
}

kd_command! {
    name: "error",
    summary: "Explain a status or an error code",
    usage: "VALUE [1]",
    run: error::error,
    help: include_str!("error.txt"),
    needs: 0,
}

kd_command! {
    name: "timer",
    summary: "Show the timers that were set",
    usage: "",
    run: timer::timer,
    help: include_str!("timer.txt"),
    needs: needs::TARGET | needs::KERNEL_TYPES,
}

kd_command! {
    name: "dpcs",
    summary: "Show the deferred procedure calls that waited to run",
    usage: "[CPU]",
    run: timer::dpcs,
    help: include_str!("timer.txt"),
    needs: needs::TARGET | needs::KERNEL_TYPES,
}

export_extension! { summary: "The kernel's objects: locks, named objects, drivers, devices, timers, codes" }
