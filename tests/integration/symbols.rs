//! The symbols that the laboratory makes, read back by the `pdb` crate, and the committed fixtures.

use kd_tests::lab::layout::GENERATIONS;
use kd_tests::lab::pdb::pdb;
use kd_tests::lab::world::{Options, World};
use pdb::{FallibleIterator, PDB, SymbolData, TypeData};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

#[test]
fn the_pdb_crate_finds_what_the_image_has() {
    for generation in GENERATIONS {
        let world = World::build(Options::new(generation.name));
        for image in &world.images {
            let mut file = PDB::open(Cursor::new(pdb(generation, image))).unwrap();
            let info = file.pdb_information().unwrap();
            assert_eq!((info.guid.to_bytes_le(), info.age), (image.guid, image.age), "{}", generation.name);
            assert_eq!(file.debug_information().unwrap().age(), Some(image.age));

            let map = file.address_map().unwrap();
            let table = file.global_symbols().unwrap();
            let mut found = BTreeMap::new();
            let mut symbols = table.iter();
            while let Some(symbol) = symbols.next().unwrap() {
                if let Ok(SymbolData::Public(public)) = symbol.parse() {
                    let name = public.name.to_string().into_owned();
                    found.insert(public.offset.to_rva(&map).unwrap().0, (name, public.function));
                }
            }
            let prefix = if generation.machine.pointer_size() == 4 { "_" } else { "" };
            let wanted =
                image.symbols.iter().map(|s| (s.rva, (format!("{prefix}{}", s.name), s.is_function)));
            assert_eq!(found, wanted.collect(), "{} {}", generation.name, image.name);
        }
    }
}

#[test]
fn types_are_those_of_the_layout_table() {
    for generation in GENERATIONS {
        let world = World::build(Options::new(generation.name));
        let mut file = PDB::open(Cursor::new(pdb(generation, world.image("nt")))).unwrap();
        let information = file.type_information().unwrap();
        let mut finder = information.finder();
        let mut classes = HashMap::new();
        let mut types = information.iter();
        while let Some(item) = types.next().unwrap() {
            finder.update(&types);
            if let TypeData::Class(class) = item.parse().unwrap()
                && let Some(fields) = class.fields
            {
                classes.insert(class.name.to_string().into_owned(), (class.size, fields));
            }
        }
        for structure in generation.structures() {
            let (size, fields) = classes[structure.name];
            assert_eq!(size, u64::from(structure.size), "{} {}", generation.name, structure.name);
            let TypeData::FieldList(list) = finder.find(fields).unwrap().parse().unwrap() else {
                panic!("no fields")
            };
            let member = |field: &TypeData<'_>| match field {
                TypeData::Member(m) => (m.name.to_string().into_owned(), m.offset),
                other => panic!("{other:?}"),
            };
            let found: Vec<_> = list.fields.iter().map(member).collect();
            let wanted: Vec<_> = structure.fields.iter().map(|f| (f.0.to_owned(), u64::from(f.2))).collect();
            assert_eq!(found, wanted, "{} {}", generation.name, structure.name);
        }
    }
}

/// All files below a folder, by relative path.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, into);
            } else {
                into.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(folder, folder, &mut files);
    files
}

#[test]
fn fixtures_are_what_the_code_makes() {
    let folder = tempfile::tempdir().unwrap();
    kd_tests::make_fixtures(folder.path()).unwrap();
    let mut committed = tree(&kd_tests::fixtures());
    committed.retain(|path, _| path != Path::new("README.md") && !path.starts_with("kernels"));
    let made = tree(folder.path());
    assert_eq!(committed.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>());
    for (path, bytes) in made {
        // Not assert_eq: a difference would print the files.
        assert!(
            committed[&path] == bytes,
            "{} differs: run `cargo run -p kd-tests --bin make-fixtures`",
            path.display()
        );
    }
}
