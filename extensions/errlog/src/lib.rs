//! `!errlog`: I/O errors that drivers had logged and that were not yet in the event log.
//!
//! [`kd_sdk::nt::error_log`] reads the entries, [`model`] finds the names that belong to them, [`command`] prints.

mod command;
mod model;

use kd_sdk::prelude::*;

kd_command! {
    name: "errlog",
    summary: "Show I/O errors that were logged and not yet in the event log",
    usage: "[ADDRESS]",
    run: command::errlog,
    help: include_str!("help.txt"),
}

export_extension! { summary: "Pending entries of the I/O error log: !errlog" }
