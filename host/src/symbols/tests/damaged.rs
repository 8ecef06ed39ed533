//! Symbol files that lie: whatever the bytes are, the answer is an error or a name, never a panic or a hang.

use super::super::pdb::PdbFile;
use super::super::*;
use super::build;
use proptest::prelude::*;

/// Asks a file everything that can be asked.
fn ask_everything(bytes: Vec<u8>) {
    let Ok(pdb) = PdbFile::from_bytes(Path::new("damaged.pdb"), bytes.into()) else { return };
    if let Ok(index) = pdb.index(Default::default()) {
        index.find("Alpha");
        index.at_or_before(0x1015);
        let _ = index.each(&Pattern::parse("*a*").unwrap(), &mut |_| ControlFlow::Continue(()));
    }
    if let Ok(types) = pdb.types("m") {
        types.each(&Pattern::parse("*").unwrap(), &mut |_, id| {
            types.field(id, "Pairs[2].First");
            for field in types.fields(id).iter() {
                types.name(field.id);
                types.field(field.element, "Text");
            }
            types.enum_values(id);
            ControlFlow::Continue(())
        });
        for id in 0x1000..0x1014 {
            types.name(TypeId(id));
            types.verbose_name(TypeId(id));
            types.parameters(TypeId(id));
            types.fields(TypeId(id));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_errors(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut bytes = build::pdb(1);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        ask_everything(bytes);
    }

    #[test]
    fn damaged_words_are_errors(changes in prop::collection::vec((0usize..4096, prop::sample::select(vec![0u32, 1, 0xffff, 0x1000, 0x1008, 0x7fff_ffff, u32::MAX, 0x1203_000a, 0x80ff_ffff])), 1..6)) {
        let mut bytes = build::pdb(1);
        for (at, value) in changes {
            // The streams begin with the ninth page; the header stays whole in half of the cases.
            let at = 4096 + at;
            if let Some(place) = bytes.get_mut(at..at + 4) {
                place.copy_from_slice(&value.to_le_bytes());
            }
        }
        ask_everything(bytes);
    }

    #[test]
    fn cut_files_are_errors(length in 0usize..8192) {
        let mut bytes = build::pdb(1);
        bytes.truncate(length);
        ask_everything(bytes);
    }

    #[test]
    fn any_bytes_are_errors(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut file = build::pdb(1);
        file[64..64 + bytes.len()].copy_from_slice(&bytes);
        ask_everything(file);
        let _ = image::debug_record(&image::InFile(&bytes), None);
    }

    #[test]
    fn any_text_is_a_name_a_path_and_a_pattern(text in "\\PC{0,40}", other in "[?@_A-Za-z0-9$*+#\\[\\]\\\\-]{0,24}") {
        for text in [&text, &other] {
            decorate::undecorate(text);
            let path = SymbolPath::parse(text);
            prop_assert_eq!(SymbolPath::parse(&path.to_string()), path);
            if let Ok(pattern) = Pattern::parse(text) {
                pattern.matches(&other);
            }
        }
    }
}

#[test]
fn a_damaged_kernel_is_an_error() {
    let Some(store) = super::symstore() else { return };
    let path = super::pdb_path(&store, "ntkrnlpa.pdb", "30B5FB31AE7E4ACAABA750AA241FF3311");
    let whole = std::fs::read(path).unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    for _ in 0..4 {
        let mut bytes = whole.clone();
        for _ in 0..2000 {
            let at = random() % bytes.len();
            bytes[at] = random() as u8;
        }
        ask_everything(bytes);
    }
}

#[test]
fn one_instance_serves_many_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Symbols>();
    shared::<ModuleTypes>();
    shared::<SymbolError>();
}

#[test]
fn the_small_pdb_is_whole() {
    let pdb = PdbFile::from_bytes(Path::new("small.pdb"), build::pdb(1).into()).unwrap();
    assert_eq!(pdb.id().age, 1);
    assert_eq!(PdbFile::from_bytes(Path::new("x"), build::pdb(0).into()).unwrap().id().age, 3);
    let index = pdb.index(Default::default()).unwrap();
    assert_eq!(index.find("alpha"), Some(0x1010));
    assert_eq!(index.at_or_before(0x102f).unwrap().name, "Beta");
    assert_eq!(index.find("gamma"), Some(0x1030));
    let types = pdb.types("m").unwrap();
    let outer = types.find("_OUTER").unwrap();
    assert_eq!(types.size(outer), 48);
    let pairs = types.field(outer, "Pairs").unwrap();
    assert_eq!((pairs.size, pairs.count, types.name(pairs.id)), (32, 4, "[4] _PAIR".to_owned()));
    let second = types.field(outer, "Pairs[2].Second").unwrap();
    assert_eq!((second.offset, second.size, second.bit_length), (20, 4, 3));
    let text = types.field(outer, "Text").unwrap();
    assert_eq!((text.offset, types.name(text.id)), (32, "Ptr64 Char".to_owned()));
    let nested = types.field(outer, "u.Text").unwrap();
    assert_eq!((nested.offset, nested.kind), (32, Kind::Pointer));
    let u = types.field(outer, "u").unwrap();
    assert_eq!((u.size, types.name(u.id), types.is_union(u.id)), (8, "<unnamed-type-u>".to_owned(), true));
    let next = types.field(outer, "Next").unwrap();
    assert_eq!((next.offset, next.element, types.name(next.id)), (40, outer, "Ptr64 _OUTER".to_owned()));
    assert!(types.name(TypeId(0x100e)).starts_with("[0] [0] ") && types.size(TypeId(0x100e)) == 8);
    let colour = types.find("_COLOR").unwrap();
    assert_eq!(types.enum_value(colour, "red"), Some(-1));
    assert_eq!(types.enum_name(colour, 70000).as_deref(), Some("Blue"));
    assert_eq!(types.kind(colour), Kind::Enum);
}
