//! `!analyze`: what the crash was, and which driver most likely caused it, with the evidence.
//!
//! Reading and judging are apart: [`model`] reads the dump into a [`model::Crash`], [`findings`] decides from that
//! alone by what [`weigh`] finds, [`mod@print`] and [`details`] say it. [`catalogue`] is the table of bug checks,
//! [`roles`] what their parameters are, [`windows`] which modules are Windows' own.

mod catalogue;
mod command;
mod details;
mod findings;
mod machine;
mod model;
mod objects;
mod print;
mod process;
mod roles;
mod stack;
mod status;
mod weigh;
mod windows;

use kd_sdk::prelude::*;

kd_command! {
    name: "analyze",
    summary: "Explain the crash and name the driver that most likely caused it",
    usage: "[-v[N]] [-f | -hang] | -show CODE [P1 [P2 [P3 [P4]]]]",
    run: command::analyze,
    help: include_str!("help.txt"),
    // `-show` explains a code without any dump.
    needs: 0,
}

export_extension! { summary: "Crash analysis: !analyze" }
