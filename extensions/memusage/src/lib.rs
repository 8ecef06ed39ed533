//! `!memusage`, `!pfn`, `!ca`, `!search`: what every frame of physical memory is used for.
//!
//! [`usage`] scans the PFN database once and counts, [`owners`] finds whose a frame is, [`command`] prints the tables of
//! `!memusage`, [`frame`] is `!pfn`, [`area`] is `!ca`, [`search`] is `!search`.

mod area;
mod command;
mod frame;
mod owners;
mod search;
mod usage;

use kd_sdk::prelude::*;

kd_command! {
    name: "memusage",
    summary: "Show what physical memory is used for: states of frames, files, processes",
    usage: "[FLAGS]",
    run: command::memusage,
    help: include_str!("help.txt"),
}

kd_command! {
    name: "pfn",
    summary: "Show the PFN database's entry of a frame",
    usage: "PFN",
    run: frame::pfn,
    help: include_str!("pfn.txt"),
}

kd_command! {
    name: "ca",
    summary: "Show a control area: the memory of a file or a section",
    usage: "[ADDRESS|0|-1] [FLAGS]",
    run: area::ca,
    help: include_str!("ca.txt"),
}

kd_command! {
    name: "search",
    summary: "Find a number in physical memory",
    usage: "[-s] [-p] DATA [DELTA [STARTPFN [ENDPFN]]]",
    run: search::search,
    help: include_str!("search.txt"),
    needs: kd_sdk::abi::needs::TARGET | kd_sdk::abi::needs::PHYSICAL,
}

export_extension! { summary: "Use of physical memory: !memusage, !pfn, !ca, !search" }
