//! The built kernels, judged by readers that are not ours.

use kd_tests::lab::image::{self, Image};
use kd_tests::lab::kernels;
use kd_tests::lab::layout::{GENERATIONS, Machine};
use object::pe::{ImageNtHeaders32, ImageNtHeaders64};
use object::read::pe::{ImageNtHeaders, PeFile};
use object::{Object, ObjectSection};
use pdb::{FallibleIterator, TypeData};
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

#[test]
fn built_images_are_whole() {
    fn check<P: ImageNtHeaders>(file: &[u8], image: &Image) {
        let pe = PeFile::<P>::parse(file).unwrap();
        let record = pe.pdb_info().unwrap().expect("a debug record");
        assert_eq!(record.path(), image.pdb.as_bytes());
        assert_eq!((record.guid(), record.age()), (image.guid, image.age));
        let names: Vec<_> = pe.sections().map(|s| s.name().unwrap().to_owned()).collect();
        assert_eq!(names, image.sections.iter().map(|s| s.name.clone()).collect::<Vec<_>>());
        assert!(pe.section_by_name(".rsrc").is_some());
    }
    for g in GENERATIONS {
        let files = kernels::load(g).unwrap();
        assert_eq!(files.len(), 12, "{}", g.name);
        for (name, file) in files.iter().filter(|f| !f.0.ends_with(".pdb")) {
            let symbols = files.iter().find(|f| {
                let stem = name.split('.').next().unwrap().to_lowercase();
                f.0.ends_with(".pdb")
                    && (f.0.starts_with(&stem) || stem == "ntoskrnl" && f.0.starts_with("ntkr"))
            });
            let symbols = symbols.unwrap().1.clone();
            let mut pdb = pdb::PDB::open(Cursor::new(&symbols[..])).unwrap();
            let age = pdb.debug_information().unwrap().age();
            let guid = pdb.pdb_information().unwrap().guid;
            let image = image::built(g.machine, g.kernel_base, name, String::new(), file, symbols.clone());
            assert_eq!(guid.to_bytes_le(), image.guid, "{} {name}", g.name);
            assert_eq!(age, Some(image.age));
            match g.machine {
                Machine::X86 => check::<ImageNtHeaders32>(file, &image),
                _ => check::<ImageNtHeaders64>(file, &image),
            }
            if name == "ntoskrnl.exe" {
                for wanted in ["KeBugCheckEx", "IofCallDriver", "KiSwapContext", "PsLoadedModuleList"] {
                    image.address_of(wanted);
                }
            }
        }
    }
}

/// Every structure of the layout table is in the kernel's PDB, with its size and its fields where the table says.
#[test]
fn types_of_built_kernels_are_those_of_the_tables() {
    for g in GENERATIONS {
        let files = kernels::load(g).unwrap();
        let file = files.iter().find(|f| f.0.starts_with("ntkr")).unwrap().1;
        let mut pdb = pdb::PDB::open(Cursor::new(&file[..])).unwrap();
        let types = pdb.type_information().unwrap();
        let mut finder = types.finder();
        let mut iter = types.iter();
        let mut seen = 0;
        while let Some(item) = iter.next().unwrap() {
            finder.update(&iter);
            let Ok(data) = item.parse() else { continue };
            let (name, size, fields) = match data {
                TypeData::Class(c) if !c.properties.forward_reference() => (c.name, c.size, c.fields),
                TypeData::Union(u) if !u.properties.forward_reference() => (u.name, u.size, Some(u.fields)),
                _ => continue,
            };
            let name = name.to_string();
            let Some(wanted) = g.table().told(&name) else { continue };
            assert_eq!(size, wanted, "{} {name}", g.name);
            seen += 1;
            let Some(Ok(TypeData::FieldList(list))) = fields.map(|f| finder.find(f).unwrap().parse()) else {
                continue;
            };
            for field in list.fields {
                let TypeData::Member(member) = field else { continue };
                let path = format!("{name}.{}", member.name);
                let wanted = g.table().field(&path).unwrap_or_else(|| panic!("{} {path}", g.name));
                assert_eq!(member.offset, wanted.offset, "{} {path}", g.name);
                if let Ok(TypeData::Bitfield(bits)) = finder.find(member.field_type).unwrap().parse() {
                    let found = Some((u32::from(bits.position), u32::from(bits.length)));
                    assert_eq!(found, wanted.bits, "{} {path}", g.name);
                }
            }
        }
        assert!(seen > 150, "{}: {seen}", g.name);
    }
}

/// Where the compiler is, the recipe gives the committed files again.
#[test]
fn recipe_gives_the_same_kernels() {
    let tools = ["clang-19", "lld-link-19", "llvm-rc-19"];
    let there = |tool: &&str| Command::new(tool).arg("--version").output().is_ok();
    if !tools.iter().all(|t| there(t) || Command::new(t).arg("/?").output().is_ok()) || !there(&"python3") {
        eprintln!("skipped: no clang 19 to build kernels with");
        return;
    }
    // One generation a machine: the recipe does the same for the others.
    let built = tempfile::tempdir().unwrap();
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/build.sh");
    let names = ["x86-7601", "x64-22000", "arm64-22000"];
    let status = Command::new("sh").arg(recipe).arg(built.path()).args(names).status().unwrap();
    assert!(status.success());
    for name in names {
        let g = kd_tests::lab::layout::Generation::named(name);
        let found = kernels::read_folder(&built.path().join(name)).unwrap();
        let wanted = kernels::load(g).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
        for (file, bytes) in found {
            assert!(bytes == wanted[&file], "{name}/{file} differs: build all and run make-kernels");
        }
    }
}
