//! Every offset and address of the published layouts, asked of the kernels' own symbols.

use super::super::pdb::PdbFile;
use super::{pdb_path, symstore};
use std::fs;

/// Builds of the table's columns, with their PDBs.
const BUILDS: &[(&str, &str)] = &[
    ("7601.24540", "339E74133576439CBCDF7E0229DA37731"),
    ("9600.21620", "169C65213E3E42DDBEB4E3AC66312B821"),
    ("19041.804", "5278AFF86C341677D7D7835C85B7B8441"),
    ("22000.318", "32C1A669D5FFEFD41091F636CFDB6E991"),
];

#[test]
fn all_published_offsets_agree() {
    let Some(store) = symstore() else { return };
    let table = store.join("../../reference/layouts.md");
    let Ok(table) = fs::read_to_string(&table) else {
        println!("skipped: {} is not there", table.display());
        return;
    };
    let builds: Vec<_> = BUILDS
        .iter()
        .map(|(build, key)| {
            let pdb = PdbFile::open(&pdb_path(&store, "ntkrnlmp.pdb", key)).unwrap();
            (*build, pdb.index(Default::default()).unwrap(), pdb.types("nt").unwrap())
        })
        .collect();
    let (mut section, mut columns, mut checked) = ("", Vec::new(), 0);
    let mut wrong = Vec::new();
    for line in table.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            (section, columns) = (title.split([' ', '(']).next().unwrap_or_default(), Vec::new());
            continue;
        }
        let Some(row) = line.strip_prefix("| ") else { continue };
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        if columns.is_empty() {
            columns = cells;
            continue;
        }
        for (build, index, types) in &builds {
            let Some(cell) = columns.iter().position(|column| column == build).and_then(|n| cells.get(n))
            else {
                continue;
            };
            let Some(expected) = cell.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok())
            else {
                continue;
            };
            let name = cells[0];
            let got = match (section, name) {
                ("Global", name) => index.find(name).map(u64::from),
                (section, "(size)") => types.find(section).map(|id| types.size(id)),
                (section, name) => {
                    types.find(section).and_then(|id| types.field(id, name)).map(|field| field.offset)
                }
            };
            checked += 1;
            if got != Some(expected) {
                wrong.push(format!("{build} {section} {name}: {expected:#x}, not {got:x?}"));
            }
        }
    }
    println!("{checked} values agree but {}", wrong.len());
    assert!(checked > 1000 && wrong.is_empty(), "{checked} checked, {wrong:#?}");
}
