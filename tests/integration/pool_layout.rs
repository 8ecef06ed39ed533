//! Every block of every segment heap: what kernels do with pages, withheld slots, big chunks and blocks kept for reuse.

use crate::every_kind::{list, number};
use crate::program::{arg, kd};
use kd_tests::lab::world::{Options, PoolPlace, Story, World};
use kd_tests::lab::writer::{self, Kind};
use std::collections::BTreeMap;

/// Both ways of hiding segments and slots, and both widths.
const GENERATIONS: [&str; 3] = ["x64-19041", "x64-26100", "x86-19041"];
/// Pools by the number that `!poolfind` takes.
const POOLS: [(&str, u64); 3] = [("nonpaged", 0), ("paged", 1), ("session", 4)];

#[test]
fn exactly_the_blocks_in_use_are_found() {
    let folder = tempfile::tempdir().unwrap();
    for generation in GENERATIONS {
        let world = World::build(Options::of(generation, Story::Idle));
        let blocks = &world.pools.blocks;
        let has = |place: fn(PoolPlace) -> bool| blocks.iter().any(|block| place(block.place));
        assert!(has(|p| p == PoolPlace::Chunk) && has(|p| matches!(p, PoolPlace::Slot(..))), "{generation}");
        assert!(
            blocks.iter().any(|block| block.place == PoolPlace::Chunk && block.start.page_offset() == 0),
            "{generation}: a chunk before a page"
        );
        assert!(
            blocks.iter().any(|block| block.place == PoolPlace::Big && block.size % 0x1000 != 0),
            "{generation}: a chunk without a header"
        );
        let (path, store) = (folder.path().join(generation), folder.path().join("symbols").join(generation));
        world.write_symbols(&store).unwrap();
        writer::write(&world, Kind::BitmapKernel, &path).unwrap();
        let commands: Vec<String> = POOLS.iter().map(|(_, pool)| format!("!poolfind * {pool}")).collect();
        let line = format!("{}; q", commands.join("; "));
        let records = kd(["--json", "-z", &arg(&path), "-y", &arg(&store), "-c", &line]).run().records();
        for ((pool, _), command) in POOLS.iter().zip(&commands) {
            // The table of 26100 does not tell a process's session.
            if generation == "x64-26100" && *pool == "session" {
                continue;
            }
            let data = &records.iter().find(|record| record["command"] == command.as_str()).unwrap()["data"];
            assert_eq!(number(&data["corrupt_count"]), 0, "{generation} {pool}: {}", data["corrupt"]);
            let refused: Vec<_> = list(&data["refused"]).iter().collect();
            assert!(refused.is_empty(), "{generation} {pool}: {refused:?}");
            let used = list(&data["blocks"]).iter().filter(|block| block["allocated"] == true);
            let mut found = BTreeMap::new();
            for block in used {
                let before = found.insert(number(&block["address"]), block);
                assert!(before.is_none(), "{generation} {pool}: {block} comes twice");
            }
            let wanted = blocks.iter().filter(|block| block.kind.name() == *pool && !block.free);
            for block in wanted {
                let what = format!("{generation} {pool}: {block:x?}");
                let met = found.remove(&block.start.0).unwrap_or_else(|| panic!("{what} is not found"));
                assert_eq!(met["tag"], String::from_utf8_lossy(&block.tag).as_ref(), "{what}");
                // What is too small for a free chunk belongs to the chunk before it.
                let more = number(&met["size"]).wrapping_sub(block.size);
                assert!(more < 0x30, "{what}: {met}");
                if block.place != PoolPlace::Big {
                    let last = block.start.0 + block.size - 1;
                    assert_eq!(block.start.0 >> 12, last >> 12, "{what} crosses a page");
                }
            }
            assert!(found.is_empty(), "{generation} {pool}: not in use: {found:?}");
        }
    }
}
