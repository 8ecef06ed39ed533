//! Whose frames are: those of large pages, and those that a program manages itself, on kernels before and after the PFN
//! database told of both in other ways.

use crate::every_kind::{list, number};
use crate::program::{arg, kd};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};

#[test]
fn large_pages_and_windows_have_their_owners() {
    let folder = tempfile::tempdir().unwrap();
    for generation in ["x64-7601", "x64-9600", "x64-22000", "x86-7601", "arm64-22000"] {
        let world = World::build(Options::of(generation, Story::Idle));
        let (path, store) = (folder.path().join(generation), folder.path().join("symbols").join(generation));
        world.write_symbols(&store).unwrap();
        writer::write(&world, Kind::BitmapFull, &path).unwrap();
        let run = kd(["--json", "-z", &arg(&path), "-y", &arg(&store), "-c", "!memusage; q"]).run();
        let records = run.records();
        let data = &records.iter().find(|record| record["command"] == "!memusage").unwrap()["data"];
        let rows: Vec<_> = list(&data["usage"]).iter().collect();
        let kb = |key: &str| rows.iter().map(|row| number(&row[key])).sum::<u64>();
        assert!(world.frames.iter().filter(|f| f.large).count() > 500, "{generation}");
        let tables = world.frames.iter().filter(|f| f.table).count() as u64;
        assert_eq!(kb("page_tables_kb") / 4, tables, "{generation}: {rows:?}");
        let windows = number(&world.truth()["facts"]["private_pages"]["windows"]);
        let managed = rows.iter().find(|row| row["kind"] == "awe").map_or(0, |row| number(&row["valid_kb"]));
        assert_eq!(managed / 4, windows, "{generation}: {rows:?}");
    }
}
