//! `!drivers`: the loaded drivers with their code and data sizes and link dates, and what is odd about them.
//!
//! [`pe`] cuts section tables out of bytes, [`mod@pages`] counts pages by the PFN database, [`date`] spells and judges
//! time stamps, [`model`] reads and computes, [`command`] takes arguments and prints.

mod command;
mod date;
mod model;
mod pages;
mod pe;

use kd_sdk::prelude::*;

kd_command! {
    name: "drivers",
    summary: "List the loaded drivers with their sizes and link dates",
    usage: "[FLAGS]",
    run: command::drivers,
    help: include_str!("help.txt"),
}

export_extension! { summary: "Loaded drivers: !drivers" }
