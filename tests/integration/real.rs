//! Real dumps: what kd says about each equals the table of facts that lies beside them.
//!
//! The table is read from its README, so that a new dump is tested by adding its row.

use super::program::{arg, kd};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// A row of the table, as it is written there.
struct Row {
    file: String,
    machine: String,
    version: String,
    processors: u64,
    /// The bug check code, then its parameters.
    bug_check: Vec<u64>,
    /// `2021-02-21 01:38:22`
    time: String,
    drivers: usize,
    unloaded: usize,
    blocks: usize,
    /// Time stamp and size of the kernel image, as symbol stores write them.
    kernel_key: String,
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim(), 16).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// The rows that describe a file: those that begin with a path to a dump.
fn rows(readme: &str) -> Vec<Row> {
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
    readme
        .lines()
        .map(cells)
        .filter(|cells| cells[0].ends_with(".dmp"))
        .map(|cells| Row::parse(&cells))
        .collect()
}

impl Row {
    fn parse(cells: &[String]) -> Row {
        let [file, _size, machine, version, processors, bug_check, time, contents] = cells else {
            panic!("the table has other columns: {cells:?}");
        };
        let number = |name: &str| {
            let words: Vec<_> = contents.split([' ', ',']).collect();
            let at =
                words.iter().position(|word| *word == name).unwrap_or_else(|| panic!("{file}: no {name}"));
            words[at + 1].parse().unwrap()
        };
        Row {
            file: file.clone(),
            machine: machine.clone(),
            version: version.clone(),
            processors: processors.parse().unwrap(),
            bug_check: bug_check.trim_end_matches(')').split(['(', ',']).map(hex).collect(),
            time: time.clone(),
            drivers: number("drivers"),
            unloaded: number("unloaded"),
            blocks: number("blocks"),
            kernel_key: contents.rsplit(' ').next().unwrap().to_ascii_lowercase(),
        }
    }

    fn check(&self, folder: &Path) {
        let dump = arg(&folder.join(&self.file));
        let commands = [".bugcheck", "vertarget", "lm", "r", ".dumpdebug", "!analyze -v", "!drivers"];
        let run = kd(["--json", "-z", &dump, "-c", &(commands.join("; ") + "; q")]).run();
        let file = &self.file;
        assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{file}");
        let records = run.records();
        assert_eq!(records.len(), commands.len() + 2, "{file}");
        for record in &records {
            assert_eq!((&record["v"], &record["status"]), (&1.into(), &"ok".into()), "{file}: {record}");
            assert_eq!(record["messages"], Value::Array(Vec::new()), "{file}");
        }
        let data: HashMap<_, _> =
            records.iter().map(|r| (r["command"].as_str().unwrap().to_owned(), &r["data"])).collect();
        let banner = &records[0]["data"];
        let build: u64 = self.version.trim_start_matches("f.").parse().unwrap();

        for bug_check in [&banner["bug_check"], data[".bugcheck"]] {
            assert_eq!(numbers(&bug_check["code"], &bug_check["parameters"]), self.bug_check, "{file}");
        }
        let analyzed = &data["!analyze -v"]["bug_check"];
        assert_eq!(numbers(&analyzed["raw_code"], &analyzed["parameters"]), self.bug_check, "{file}");
        assert_eq!(banner["machine"], *self.machine, "{file}");
        assert_eq!(
            (&banner["modules"], &banner["unloaded_modules"]),
            (&self.drivers.into(), &self.unloaded.into())
        );
        for version in [banner, data["vertarget"]] {
            assert_eq!(version["processors"], self.processors, "{file}");
            assert_eq!(version["build"], build, "{file}");
            let time = version["time"].as_str().unwrap();
            assert_eq!(time.replace('T', " ").split('.').next(), Some(&*self.time), "{file}");
            assert!(time.ends_with('Z'), "{file}: {time}");
        }
        assert_eq!(list(data["lm"], "modules").len(), self.drivers, "{file}");
        assert_eq!(list(data["lm"], "unloaded").len(), self.unloaded, "{file}");
        assert_eq!(list(data["!drivers"], "drivers").len(), self.drivers, "{file}");
        let kernel = list(data["lm"], "modules").iter().find(|module| module["name"] == "nt").unwrap();
        let key = format!("{:08x}{:x}", number(&kernel["time_stamp"]), kernel["size"].as_u64().unwrap());
        assert_eq!(key, self.kernel_key, "{file}");
        let contents = list(data[".dumpdebug"], "contents");
        let blocks = contents.iter().filter(|part| part["name"] == "data block").count();
        assert_eq!(blocks, self.blocks, "{file}");
        assert_eq!(data[".dumpdebug"]["file_size"], std::fs::metadata(&dump).unwrap().len(), "{file}");
        self.check_registers(data["r"]);
    }

    fn check_registers(&self, r: &Value) {
        let registers = &r["registers"];
        let wanted: &[(&str, u64)] = match self.file.as_str() {
            "real/x64-19041-7e.dmp" => &[("rip", 0xffff_f804_7bdf_5a80), ("rsp", 0xffff_8504_2989_0ee8)],
            "real/arm64-22000-1c8.dmp" => &[("pc", 0xffff_f803_f32d_e014), ("sp", 0xffff_e00e_0e4b_c4a0)],
            _ => &[],
        };
        for (name, value) in wanted {
            assert_eq!(number(&registers[name]), *value, "{}: {name}", self.file);
        }
        let pc = if self.machine == "arm64" { "pc" } else { "rip" };
        assert_eq!(registers[pc], r["instruction"]["address"], "{}", self.file);
        assert!(number(&registers[pc]) >= 0xffff_8000_0000_0000, "{}: {}", self.file, registers[pc]);
    }
}

fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is not an address or a code"));
    hex(text.strip_prefix("0x").unwrap())
}

fn numbers(code: &Value, parameters: &Value) -> Vec<u64> {
    std::iter::once(code).chain(parameters.as_array().unwrap()).map(number).collect()
}

fn list<'a>(data: &'a Value, key: &str) -> &'a [Value] {
    data[key].as_array().map_or(&[], |list| list)
}

#[test]
fn every_real_dump_is_what_its_row_says() {
    let Some(shared) = kd_tests::shared() else { return };
    let folder = shared.join("dumps");
    let rows = rows(&std::fs::read_to_string(folder.join("README.md")).unwrap());
    assert!(rows.len() >= 12, "{} rows", rows.len());
    for row in &rows {
        row.check(&folder);
    }
    // No dump without a row.
    let mut files: Vec<_> = std::fs::read_dir(folder.join("real"))
        .unwrap()
        .map(|entry| format!("real/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    files.sort_unstable();
    let mut known: Vec<_> = rows.iter().map(|row| row.file.clone()).collect();
    known.sort_unstable();
    assert_eq!(files, known);
}
