//! Processes, threads and what belongs to them: `!process`, `!thread`, `!ready`, `!running`, `!stacks`, `!handle`,
//! `!token`, `!peb`, `!teb`, `!vad`, `!job`, `!session`, `!sprocess`, `!irp`, `!for_each_process`, `!for_each_thread`.
//!
//! What is known of the kernel is in `kd_sdk::nt`. Here a command is a file: [`mod@process`], [`mod@thread`] and so on; [`page`]
//! is what they print with, [`select`] finds what an argument means, [`process_block`] and [`thread_block`] are the
//! lines that several of them share, [`trace`] the stacks.

mod each;
mod handle;
mod irp;
mod job;
mod page;
mod peb;
mod process;
mod process_block;
mod ready;
mod running;
mod select;
mod session;
mod stacks;
mod thread;
mod thread_block;
mod token;
mod trace;
mod user;
mod vad;

use kd_sdk::prelude::*;

kd_command! {
    name: "process",
    summary: "Show processes and their threads",
    usage: "[/s SESSION] [/m MODULE] [PROCESS [FLAGS [IMAGE]]]",
    run: process::process,
    help: include_str!("help/process.txt"),
}

kd_command! {
    name: "sprocess",
    summary: "Show the processes of a session",
    usage: "[SESSION [FLAGS [IMAGE]]]",
    run: process::of_session,
    help: "SESSION is a number in hex, -1 or none that of the current process; FLAGS (default 3) and IMAGE are those of\n!process. JSON as there.",
}

kd_command! {
    name: "thread",
    summary: "Show a thread: state, what it waits for, requests, times, stack",
    usage: "[-p] [-t] [ADDRESS [FLAGS]]",
    run: thread::thread,
    help: include_str!("help/thread.txt"),
}

kd_command! {
    name: "ready",
    summary: "List the threads that wait for a processor",
    usage: "[FLAGS]",
    run: ready::ready,
    help: include_str!("help/ready.txt"),
}

kd_command! {
    name: "running",
    summary: "Show what each processor runs",
    usage: "[-i] [-t]",
    run: running::running,
    help: include_str!("help/running.txt"),
}

kd_command! {
    name: "stacks",
    summary: "Show where every thread stands, a line each",
    usage: "[0|1|2 [FILTER]]",
    run: stacks::stacks,
    help: include_str!("help/stacks.txt"),
}

kd_command! {
    name: "handle",
    summary: "Show handles and their objects",
    usage: "[HANDLE [FLAGS [PROCESS [TYPE]]]]",
    run: handle::handle,
    help: include_str!("help/handle.txt"),
}

kd_command! {
    name: "token",
    summary: "Show an access token",
    usage: "[-n] [ADDRESS]",
    run: token::token,
    help: include_str!("help/token.txt"),
}

kd_command! {
    name: "peb",
    summary: "Show a process environment block: modules, command line, environment",
    usage: "[-p PROCESS] [ADDRESS]",
    run: peb::peb,
    help: include_str!("help/peb.txt"),
}

kd_command! {
    name: "teb",
    summary: "Show a thread environment block",
    usage: "[-p PROCESS] [ADDRESS]",
    run: peb::teb,
    help: include_str!("help/teb.txt"),
}

kd_command! {
    name: "vad",
    summary: "Show the ranges of a process's user address space",
    usage: "[ROOT | PROCESS | ADDRESS [0|1]]",
    run: vad::vad,
    help: include_str!("help/vad.txt"),
}

kd_command! {
    name: "job",
    summary: "Show a job object: accounting, limits, processes",
    usage: "[JOB | PROCESS [FLAGS]]",
    run: job::job,
    help: include_str!("help/job.txt"),
}

kd_command! {
    name: "session",
    summary: "List the sessions and how many processes each has",
    usage: "[-s SESSION]",
    run: session::session,
    help: include_str!("help/session.txt"),
}

kd_command! {
    name: "irp",
    summary: "Show an I/O request packet and its stack locations",
    usage: "ADDRESS [DETAIL]",
    run: irp::irp,
    help: include_str!("help/irp.txt"),
}

kd_command! {
    name: "for_each_process",
    summary: "Run commands for every process",
    usage: "[\"COMMANDS\"]",
    run: each::process,
    help: "@#Process in the commands stands for the address of the EPROCESS. Without commands: !process @#Process 0.\nA command that fails does not end the others.\n\nJSON: processes [{address, output, ok}]; without commands the records of !process.",
}

kd_command! {
    name: "for_each_thread",
    summary: "Run commands for every thread of every process",
    usage: "[\"COMMANDS\"]",
    run: each::thread,
    help: "@#Thread in the commands stands for the address of the ETHREAD. Without commands: !thread @#Thread 2.\nA command that fails does not end the others.\n\nJSON: threads [{address, output, ok}]; without commands the records of !thread.",
}

export_extension! { summary: "Processes and threads: !process, !thread, !handle and more" }
