//! One dump of a story, for tests that look at what a command shows.

use super::program::{Run, arg, kd};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use serde_json::Value;
use std::path::Path;

/// A dump of a story with its symbols, and what is true of it.
pub struct Lab {
    folder: tempfile::TempDir,
    pub world: World,
    pub facts: Value,
}

impl Lab {
    pub fn new(generation: &str, story: Story) -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let world = World::build(Options::of(generation, story));
        world.write_symbols(&folder.path().join("symbols")).unwrap();
        let facts = world.truth()["facts"].clone();
        Lab { folder, world, facts }
    }

    /// Runs commands on a dump of one kind; with `json` one record each.
    pub fn run(&self, kind: Kind, commands: &str, json: bool) -> Run {
        self.run_with(kind, &self.folder.path().join("symbols"), commands, json)
    }

    /// The same without symbols.
    pub fn run_bare(&self, kind: Kind, commands: &str) -> Run {
        self.run_with(kind, Path::new("/nowhere"), commands, false)
    }

    fn run_with(&self, kind: Kind, symbols: &Path, commands: &str, json: bool) -> Run {
        let path = self.folder.path().join("dump");
        writer::write(&self.world, kind, &path).unwrap();
        let mut arguments = vec!["-y".to_owned(), arg(symbols), "-z".into(), arg(&path)];
        arguments.extend(["-c".into(), format!("{commands}; q")]);
        arguments.insert(0, if json { "--json" } else { "--no-color" }.into());
        kd(arguments).run()
    }

    /// The record of one command.
    pub fn answer(&self, kind: Kind, command: &str) -> Value {
        let records = self.run(kind, command, true).records();
        let found = records.into_iter().find(|r| r["command"] == command);
        found.unwrap_or_else(|| panic!("no record of {command}"))
    }
}

/// What a command shows, from its first line on, with a letter in place of each address and without thread ids: the same
/// however the laboratory grows.
pub fn shown(text: &str, first: &str) -> String {
    let mut known: Vec<String> = Vec::new();
    let mut shown = String::new();
    for line in text.lines().skip_while(|line| !line.starts_with(first)) {
        let mut rest = line.trim_end();
        while let Some(start) = rest.find("ffff") {
            let (before, from) = rest.split_at(start);
            let end = from.find(|c: char| !c.is_ascii_hexdigit() && c != '`').unwrap_or(from.len());
            let address = from[..end].replace('`', "");
            let index = known.iter().position(|a| *a == address).unwrap_or_else(|| {
                known.push(address);
                known.len() - 1
            });
            shown += &format!("{before}{}", char::from(b'A' + index as u8));
            rest = &from[end..];
        }
        shown += &format!("{rest}\n");
    }
    let words = shown.split("Cid 0004.").enumerate().map(|(index, part)| match index {
        0 => part.to_owned(),
        _ => format!("Cid 0004.N{}", part.trim_start_matches(|c: char| c.is_ascii_hexdigit())),
    });
    words.collect()
}
