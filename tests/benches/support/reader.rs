//! An extension with one command, `!reads VA SIZE COUNT`: reads the same bytes again and again through the ABI.

use kd_sdk::address::Va;
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

kd_command! { name: "reads", summary: "Read memory", usage: "VA SIZE COUNT", run: reads, needs: 0 }

export_extension! { summary: "For benchmarks" }
