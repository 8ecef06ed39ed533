//! Stores and folders of every layout, made in a temporary folder.

use super::super::*;
use super::{OneKernel, build};
use std::fs;

pub(super) const KEY: &str = "0403020106050807090A0B0C0D0E0F101";

/// A kernel in memory that names `Small.pdb`.
pub(super) fn source() -> OneKernel {
    let guid = std::array::from_fn(|n| n as u8 + 1);
    let mut source = OneKernel::new(1);
    source.memory =
        crate::image::debug::tests::image("c:\\b\\Small.pdb", PdbId { guid, age: 1 }, 1, 0x1046000);
    source
}

fn put(root: &Path, place: &str, bytes: &[u8]) {
    let file = root.join(place);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
}

pub(super) fn cabinet(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut builder = cab::CabinetBuilder::new();
    builder.add_folder(cab::CompressionType::MsZip).add_file(name);
    let mut writer = builder.build(std::io::Cursor::new(Vec::new())).unwrap();
    while let Some(mut file) = writer.next_file().unwrap() {
        std::io::Write::write_all(&mut file, bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Where the PDB was found, under `root`.
fn found(root: &Path, path: &str) -> Result<String, String> {
    let path = path.replace('@', &root.to_string_lossy());
    match Symbols::new(SymbolPath::parse(&path)).load(&source(), 0) {
        ModuleState::Loaded { pdb, .. } => {
            Ok(pdb.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/"))
        }
        ModuleState::None { reason } => Err(reason.in_full()),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn every_layout_is_found() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let pdb = build::pdb(1);
    let two = format!("two/small.PDB/{}/small.pdb", KEY.to_lowercase());
    let three = format!("three/sm/small.pdb/{KEY}/small.pdb");
    let packed = format!("packed/Small.pdb/{KEY}/Small.pd_");
    put(root, &two, &pdb);
    put(root, &three, &pdb);
    put(root, &packed, &cabinet("Small.pdb", &pdb));
    put(root, "flat/small.pdb", &pdb);
    put(root, "deep/Symbols/EXE/small.pdb", &pdb);
    put(root, "deep2/exe/small.pdb", &pdb);
    let elsewhere = root.join("flat/small.pdb");
    let pointer = format!("PATH:{}\r\n", elsewhere.display());
    put(root, &format!("pointer/Small.pdb/{KEY}/file.ptr"), pointer.as_bytes());

    assert_eq!(found(root, "srv*@/two"), Ok(two.clone()));
    assert_eq!(found(root, "@/two"), Ok(two.clone()));
    assert_eq!(found(root, "srv*@/none*@/three"), Ok(three));
    assert_eq!(found(root, "srv*@/packed"), Ok(packed.clone()));
    assert_eq!(found(root, "srv*@/pointer"), Ok("flat/small.pdb".to_owned()));
    assert_eq!(found(root, "@/flat"), Ok("flat/small.pdb".to_owned()));
    assert_eq!(found(root, "@/deep"), Ok("deep/Symbols/EXE/small.pdb".to_owned()));
    assert_eq!(found(root, "@/absent;@/deep2"), Ok("deep2/exe/small.pdb".to_owned()));

    // Compressed under its full name.
    put(root, "odd/small.pdb", &cabinet("Small.pdb", &pdb));
    assert_eq!(found(root, "@/odd"), Ok("odd/small.pdb".to_owned()));

    // What was found far away is kept near, and is found there next time.
    assert_eq!(found(root, "srv*@/near*@/packed"), Ok(packed));
    assert_eq!(found(root, "srv*@/near"), Ok(format!("near/Small.pdb/{KEY}/Small.pdb")));
    assert_eq!(found(root, "cache*@/near2;srv*@/two"), Ok(two));
    assert_eq!(found(root, "@/near2"), Ok(format!("near2/Small.pdb/{KEY}/Small.pdb")));
}

#[test]
fn a_pdb_of_another_build_is_refused_with_its_identity() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    put(root, "flat/small.pdb", &build::pdb(2));
    put(root, &format!("store/small.pdb/{KEY}/small.pdb"), b"<html>");
    put(root, &format!("store/small.pdb/{KEY}/file.ptr"), b"MSG: not kept");
    let why = found(root, "@/flat;srv*@/store").unwrap_err();
    assert!(why.contains("belongs to another build (0403020106050807090A0B0C0D0E0F102)"), "{why}");
    assert!(why.contains("it is a web page"), "{why}");
    assert!(why.contains("says not kept"), "{why}");
    assert!(why.contains(&format!("Small.pdb {KEY} was not found")), "{why}");
    let why = found(root, "srv*@/none*https://host/sym/").unwrap_err();
    assert!(why.contains(&format!("get https://host/sym/Small.pdb/{KEY}/Small.pdb")), "{why}");
}

#[test]
fn exports_stand_in_for_a_pdb_that_is_not_there() {
    let mut source = source();
    let mut put = |at: usize, words: &[u32]| {
        for (n, word) in words.iter().enumerate() {
            source.memory[at + 4 * n..][..4].copy_from_slice(&word.to_le_bytes());
        }
    };
    // Headers: the export directory. The directory: one function, one name.
    put(0x58 + 112, &[0x280, 0x100]);
    put(0x280 + 20, &[1, 1, 0x2b0, 0x2b4, 0x2b8]);
    put(0x2b0, &[0x1234, 0x2c0, 0]);
    source.memory[0x2c0..][..12].copy_from_slice(b"KeBugCheckEx");
    let symbols = Symbols::new(SymbolPath::parse("/no/such/place"));
    assert!(matches!(symbols.load(&source, 0), ModuleState::Exports { count: 1, .. }));
    let base = source.module(0).unwrap().base;
    assert_eq!(symbols.find(&source, "nt!kebugcheckex").unwrap(), base.add(0x1234));
    assert_eq!(symbols.at(&source, base.add(0x1244)).unwrap().to_string(), "nt!KeBugCheckEx+0x10");
    // What exports cannot tell says why there is nothing better.
    let error = symbols.find(&source, "nt!Other").unwrap_err().to_string();
    assert!(error.contains("Small.pdb"), "{error}");
    assert!(symbols.types(&source, "nt").is_err());
    let mut kinds = Vec::new();
    symbols
        .each(&source, "nt!*", &mut |named| {
            kinds.push(named.kind);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(kinds, [SymbolKind::Export]);
}
