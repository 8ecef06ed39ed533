//! Writes systems as dumps of every kind, with their truth, for readers outside of this project.
//!
//! `cargo run -p kd-tests --bin make-lab -- FOLDER [GENERATION[:STORY]…]`: `GENERATION-KIND.dmp` in every kind, the
//! physical memory as it is in `GENERATION.raw`, and `GENERATION.json`: the truth, and the frames that each kind holds.
//! Of a story (`x64-19041:deadlock`; `huge` is one too) it writes `GENERATION-STORY.dmp`, all used memory or the kind
//! that a number tells (`x64-19041:deadlock:1`), with its truth and a symbol store in `symbols`. `--described N` before
//! all: the PFN database describes the first N frames only (`0x40000`; all, but a million of `huge`).

use kd_sdk::address::PAGE_SIZE;
use kd_tests::lab::layout::GENERATIONS;
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use serde_json::{Map, json};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    let mut described = None;
    if arguments.next_if(|a| a == "--described").is_some() {
        described = Some(frames(&arguments.next().unwrap_or_default())?);
    }
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "target/lab".into()));
    let mut names: Vec<String> = arguments.collect();
    if names.is_empty() {
        names = GENERATIONS.iter().map(|g| g.name.to_owned()).collect();
    }
    fs::create_dir_all(&folder)?;
    for name in names {
        if let Some((generation, story)) = name.split_once(':') {
            let (story, kind) = story.split_once(':').unwrap_or((story, "5"));
            tell(&folder, generation, story, kind, described)?;
            continue;
        }
        let world = World::build(Options::new(&name));
        let mut raw = File::create(folder.join(format!("{name}.raw")))?;
        for (pfn, frame) in world.memory.captured(false) {
            raw.seek(SeekFrom::Start(pfn.0 * PAGE_SIZE))?;
            raw.write_all(frame)?;
        }
        let end = world.memory.ram().last().map_or(0, |r| r.base + r.count);
        raw.set_len(end * PAGE_SIZE)?;

        let mut frames = Map::new();
        for kind in Kind::ALL {
            match writer::write(&world, kind, &folder.join(format!("{name}-{}.dmp", kind as u32))) {
                Err(e) if e.kind() == ErrorKind::Unsupported => continue,
                result => result?,
            }
            let runs: Vec<_> = kind.frames(&world).iter().map(|r| json!([r.base, r.count])).collect();
            frames.insert((kind as u32).to_string(), json!(runs));
        }
        let mut truth = world.truth();
        truth["frames"] = frames.into();
        fs::write(folder.join(format!("{name}.json")), serde_json::to_vec_pretty(&truth)?)?;
        println!("{name}: {} frames with contents", world.memory.captured(false).count());
    }
    Ok(())
}

/// A count of frames, decimal or hex.
fn frames(text: &str) -> io::Result<u64> {
    let count = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    count.map_err(|_| io::Error::other(format!("--described wants a number of frames, not {text:?}")))
}

/// Writes one story.
fn tell(folder: &Path, generation: &str, name: &str, kind: &str, described: Option<u64>) -> io::Result<()> {
    let kind = Kind::ALL.into_iter().find(|k| (*k as u32).to_string() == kind);
    let kind = kind.ok_or_else(|| io::Error::other("kinds are numbers from 1 to 10"))?;
    let found = Story::ALL.into_iter().chain([(Story::Huge, "huge")]).find(|s| s.1 == name);
    let story = found.ok_or_else(|| io::Error::other(format!("no story {name}")))?.0;
    let mut options = Options::of(generation, story);
    options.described = described.unwrap_or(options.described);
    let world = World::build(options);
    let path = folder.join(format!("{generation}-{name}"));
    writer::write(&world, kind, &path.with_extension("dmp"))?;
    fs::write(path.with_extension("json"), serde_json::to_vec_pretty(&world.truth())?)?;
    world.write_symbols(&folder.join("symbols"))?;
    println!("{generation}:{name}: {} frames with contents", world.memory.captured(false).count());
    Ok(())
}
