//! `!pool`, `!poolused`, `!poolfind`: who has allocated what from the kernel's pools.
//!
//! [`tags`] knows what tags are for, [`locate`] finds the block that holds an address, [`search`] walks all blocks,
//! [`pool`], [`used`] and [`find`] are the commands.

mod find;
mod locate;
mod pool;
mod search;
mod tags;
mod used;

use kd_sdk::prelude::*;

kd_command! {
    name: "pool",
    summary: "Show the pool block that holds an address, and its neighbours",
    usage: "ADDRESS [FLAGS]",
    run: pool::pool,
    help: include_str!("pool.txt"),
}

kd_command! {
    name: "poolused",
    summary: "Show how much of each pool every tag uses",
    usage: "[FLAGS [TAG]]",
    run: used::poolused,
    help: include_str!("poolused.txt"),
}

kd_command! {
    name: "poolfind",
    summary: "Find every pool block of a tag",
    usage: "TAG|0xVALUE [TYPE]",
    run: find::poolfind,
    help: include_str!("poolfind.txt"),
}

export_extension! { summary: "Pool allocations: !pool, !poolused, !poolfind" }
