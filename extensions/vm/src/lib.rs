//! `!vm`: how much memory the system has, who uses it, and which limit is near.
//!
//! The counters are [`kd_sdk::nt::memory`]'s; [`summary`] puts them into rows and judges them, [`parts`] are the blocks
//! that flags ask for, [`command`] takes arguments and prints.

mod command;
mod parts;
mod summary;

use kd_sdk::prelude::*;

kd_command! {
    name: "vm",
    summary: "Show the memory counters: physical memory, page files, pools, commitment, processes",
    usage: "[FLAGS]",
    run: command::vm,
    help: include_str!("help.txt"),
}

export_extension! { summary: "Memory counters: !vm" }
