//! An extension that reads through the ABI: `!reads VA SIZE COUNT` the same bytes again and again, `!physical` all of
//! the dump's physical memory, `!threads VA COUNT` twelve fields of a thread again and again.

use kd_sdk::address::{PAGE_SIZE, Va};
use kd_sdk::prelude::*;

fn reads(session: &Session<'_>, args: &str) -> Result<()> {
    let mut numbers = args.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let (va, mut buffer, count) = (Va(next()), vec![0; next() as usize], next());
    for _ in 0..count {
        session.memory().read(va, std::hint::black_box(&mut buffer))?;
    }
    Ok(())
}

fn physical(session: &Session<'_>, _: &str) -> Result<()> {
    let (memory, mut runs) = (session.memory(), Vec::new());
    memory.physical_runs(&mut |first, pages| {
        runs.push((first, pages));
        true
    })?;
    let mut buffer = vec![0; 1 << 20];
    for (first, pages) in runs {
        let (mut at, mut left) = (first.pa(), pages * PAGE_SIZE);
        while left > 0 {
            let count = left.min(buffer.len() as u64);
            memory.read_physical(at, std::hint::black_box(&mut buffer[..count as usize]))?;
            (at, left) = (at.add(count), left - count);
        }
    }
    Ok(())
}

/// What `!process 0 7` asks of each thread, or so.
const FIELDS: [&str; 12] = [
    "Cid.UniqueProcess",
    "Cid.UniqueThread",
    "Tcb.Teb",
    "Tcb.State",
    "Tcb.WaitReason",
    "Tcb.WaitTime",
    "Tcb.ContextSwitches",
    "Tcb.KernelTime",
    "Tcb.UserTime",
    "Tcb.Priority",
    "Tcb.InitialStack",
    "StartAddress",
];

fn threads(session: &Session<'_>, args: &str) -> Result<()> {
    let (va, count) = args.split_once(' ').unwrap_or((args, "1"));
    let (va, count): (u64, u64) = (va.parse().unwrap_or(0), count.parse().unwrap_or(0));
    for _ in 0..count {
        let ethread = session.types().find("nt!_ETHREAD")?;
        let read = ethread.at(Va(va)).snapshot()?;
        for field in FIELDS {
            std::hint::black_box(read.u64(field)?);
        }
    }
    Ok(())
}

kd_command! { name: "physical", summary: "Read all", usage: "", run: physical, needs: 0 }
kd_command! { name: "reads", summary: "Read memory", usage: "VA SIZE COUNT", run: reads, needs: 0 }

kd_command! { name: "threads", summary: "Read threads", usage: "VA COUNT", run: threads, needs: 0 }

export_extension! { summary: "For benchmarks" }
