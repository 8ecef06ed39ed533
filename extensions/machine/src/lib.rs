//! Processors and address translation: `!pte`, `!pte2va`, `!vtop`, `!ptov`, `!address`; `!pcr`, `!prcb`, `!irql`, `!idt`,
//! `!qlocks`, `!cpuinfo`, `!cpuid`; `!kuser`, `!gflag`, `!sysinfo`, `!whattime`, `!filetime`.
//!
//! What is read is [`kd_sdk::nt`]'s: `pte`, `region`, `processor`, `shared_data`, `hardware`. Here it gets KD's layout:
//! [`tables`] and [`translate`] show page tables, [`address`] what an address lies in, [`processor`], [`cpu`] and
//! [`interrupts`] the processors, [`qlocks`] their queued spin locks, [`system`] the rest.

mod address;
mod cpu;
mod interrupts;
mod processor;
mod qlocks;
mod system;
mod tables;
mod translate;

use kd_sdk::prelude::*;

kd_command! {
    name: "pte",
    summary: "Show the page table entries of an address",
    usage: "VA | PTE | ADDRESS 1 | START END",
    run: tables::entries,
    help: include_str!("pte.txt"),
}

kd_command! {
    name: "pte2va",
    summary: "Show which address a page table entry is of",
    usage: "PTE",
    run: tables::pte2va,
    help: include_str!("pte.txt"),
}

kd_command! {
    name: "vtop",
    summary: "Translate a virtual address, step by step",
    usage: "[PFN|DIRBASE|0] VA",
    run: translate::vtop,
    help: include_str!("translate.txt"),
}

kd_command! {
    name: "ptov",
    summary: "Show every page that a process's page tables map",
    usage: "DIRBASE [START END]",
    run: translate::ptov,
    help: include_str!("translate.txt"),
}

kd_command! {
    name: "address",
    summary: "Show what a kernel address lies in",
    usage: "ADDRESS",
    run: address::address,
    help: include_str!("address.txt"),
}

kd_command! {
    name: "pcr",
    summary: "Show a processor's control region",
    usage: "[CPU]",
    run: processor::pcr,
    help: include_str!("processor.txt"),
}

kd_command! {
    name: "prcb",
    summary: "Show a processor's control block",
    usage: "[CPU]",
    run: processor::prcb,
    help: include_str!("processor.txt"),
}

kd_command! {
    name: "irql",
    summary: "Show at which interrupt level a processor ran before the machine stopped",
    usage: "[CPU]",
    run: processor::irql,
    help: include_str!("processor.txt"),
}

kd_command! {
    name: "cpuinfo",
    summary: "Show make, model and speed of the processors",
    usage: "[CPU]",
    run: cpu::cpuinfo,
    help: include_str!("cpu.txt"),
}

kd_command! {
    name: "cpuid",
    summary: "Show what the processors say of themselves",
    usage: "[CPU]",
    run: cpu::cpuid,
    help: include_str!("cpu.txt"),
}

kd_command! {
    name: "idt",
    summary: "Show the interrupt descriptors of the current processor and what they lead to",
    usage: "[-a] [VECTOR]",
    run: interrupts::idt,
    help: include_str!("idt.txt"),
}

kd_command! {
    name: "qlocks",
    summary: "Show who owns and who waits for the queued spin locks",
    usage: "",
    run: qlocks::qlocks,
    help: include_str!("qlocks.txt"),
}

kd_command! {
    name: "kuser",
    summary: "Show the page that all programs share: clocks, version, folder of Windows",
    usage: "",
    run: system::kuser,
    help: include_str!("system.txt"),
}

kd_command! {
    name: "gflag",
    summary: "Show the kernel's global flags",
    usage: "[-?]",
    run: system::gflag,
    help: include_str!("system.txt"),
}

kd_command! {
    name: "sysinfo",
    summary: "Show what the dump tells of the machine: board, firmware, processors",
    usage: "machineid | smbios | cpuinfo | cpuspeed",
    run: system::sysinfo,
    help: include_str!("system.txt"),
}

kd_command! {
    name: "whattime",
    summary: "Show a number of clock ticks as time",
    usage: "TICKS",
    run: system::whattime,
    help: include_str!("system.txt"),
}

kd_command! {
    name: "filetime",
    summary: "Show a FILETIME as date and time",
    usage: "TIME",
    run: system::filetime,
    help: include_str!("system.txt"),
    needs: 0,
}

export_extension! { summary: "Processors and address translation: !pte, !vtop, !pcr, !idt, !cpuinfo, …" }
