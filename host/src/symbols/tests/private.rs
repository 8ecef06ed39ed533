//! What a private symbol file tells, asked of one that a compiler makes on the spot.

use super::super::pdb::PdbFile;
use super::super::*;
use crate::dump::Machine;
use std::fs;
use std::process::Command;

const SOURCE: &str = "\
typedef struct _POINT { long X; long Y; } POINT, *PPOINT;
typedef unsigned long ULONG;
POINT Origin = {1, 2};
static int Counter;
__attribute__((noinline)) int Add(PPOINT p, ULONG n) {
    int sum = p->X;
    for (ULONG i = 0; i < n; i++) {
        long step = p->Y * (long)i;
        sum += step;
        Counter++;
    }
    return sum;
}
static inline __attribute__((always_inline)) int Twice(volatile int *from) {
    int read = *from;
    return read * 2;
}
static inline __attribute__((always_inline)) int Outer(volatile int *source, int bias) {
    int twice = Twice(source);
    return twice + bias;
}
__attribute__((noinline)) int Calls(volatile int *place) {
    int sum = Outer(place, 7);
    return sum + *place;
}
int entry(void) { return Add(&Origin, 5) + Calls(&Counter); }
";

/// Compiles [`SOURCE`]; `None`, said aloud, where there is no compiler for Windows.
fn made(folder: &Path, optimise: &str) -> Option<PdbFile> {
    fs::write(folder.join("point.c"), SOURCE).unwrap();
    let first_of = |names: &[&str]| {
        names
            .iter()
            .find(|name| Command::new(name).arg("--version").output().is_ok())
            .map(|name| name.to_string())
    };
    let compiler = first_of(&["clang-19", "clang-18", "clang"]);
    let linker = first_of(&["lld-link-19", "lld-link-18", "lld-link"]);
    let (Some(compiler), Some(linker)) = (compiler, linker) else {
        println!("skipped: clang and lld-link are not installed");
        return None;
    };
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let target = "--target=x86_64-pc-windows-msvc";
    run(&compiler, &[target, "-g", "-gcodeview", optimise, "-c", "point.c", "-o", "point.obj"]);
    run(
        &linker,
        &[
            "/nodefaultlib",
            "/entry:entry",
            "/subsystem:native",
            "/debug",
            "/pdb:point.pdb",
            "/out:point.sys",
            "point.obj",
        ],
    );
    Some(PdbFile::open(&folder.join("point.pdb")).unwrap())
}

#[test]
fn lines_locals_and_typedefs_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let Some(pdb) = made(folder.path(), "-O0") else { return };
    assert!(pdb.is_private());
    let (index, types) = (pdb.index(Default::default()).unwrap(), pdb.types("point").unwrap());
    let add = index.find_entry("Add").unwrap();
    assert_eq!(add.kind, SymbolKind::GlobalFunction);
    let parameters = types.parameters(add.of.unwrap()).unwrap();
    let spelled: Vec<String> = parameters.iter().map(|id| types.c_spelling(*id)).collect();
    assert_eq!(spelled, ["_POINT*", "unsigned long"]);
    assert_eq!(index.find_entry("Counter").unwrap().kind, SymbolKind::StaticData);
    assert_eq!(types.name(index.find_entry("Origin").unwrap().of.unwrap()), "_POINT");

    let line = pdb.line(add.rva).unwrap().unwrap();
    assert!(line.file.ends_with("point.c"), "{line:?}");
    assert_eq!((line.line, line.displacement), (5, 0));
    // Every line of the function is met somewhere in it, in a file that exists.
    let end = index.find("entry").unwrap();
    let lines: Vec<u32> =
        (add.rva..end).filter_map(|rva| pdb.line(rva).unwrap()).map(|line| line.line).collect();
    for line in [5, 6, 7, 8, 9, 10, 12] {
        assert!(lines.contains(&line), "{line} of {lines:?}");
    }
    assert!(pdb.line(0).unwrap().is_none() && pdb.line(u32::MAX).unwrap().is_none());

    let names = |rva: u32| -> Vec<(String, bool, LocalPlace)> {
        let locals = pdb.locals(rva, 0).unwrap();
        locals.into_iter().map(|local| (local.name, local.parameter, local.place)).collect()
    };
    let at = |line: u32| {
        (add.rva..end).find(|rva| pdb.line(*rva).unwrap().is_some_and(|found| found.line == line)).unwrap()
    };
    let outer = names(at(6));
    assert_eq!(outer.iter().map(|local| local.0.as_str()).collect::<Vec<_>>(), ["p", "n", "sum"]);
    assert!(outer[0].1 && outer[1].1 && !outer[2].1);
    assert!(
        outer.iter().all(|local| matches!(local.2, LocalPlace::Relative { register: 335, .. })),
        "{outer:?}"
    );
    let inner = names(at(9));
    let inner: Vec<&str> = inner.iter().map(|local| local.0.as_str()).collect();
    assert_eq!(inner, ["p", "n", "sum", "i", "step"]);
    assert!(pdb.locals(0, 0).unwrap().is_empty());

    let typedefs = pdb.typedefs().unwrap();
    let of = |name: &str| typedefs.iter().find(|(known, _)| known == name).map(|(_, id)| types.name(*id));
    assert_eq!(of("ULONG").as_deref(), Some("Uint4B"));
    assert_eq!(of("POINT").as_deref(), Some("_POINT"));
    assert_eq!(of("PPOINT").as_deref(), Some("Ptr64 _POINT"));
}

#[test]
fn public_and_private_names_can_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let Some(pdb) = made(folder.path(), "-O0") else { return };
    let kind = |publics, others, name: &str| {
        let index = pdb.index(crate::symbols::pdb::Names { publics, others }).unwrap();
        index.find_entry(name).map(|entry| entry.kind)
    };
    assert_eq!(kind(true, true, "Add"), Some(SymbolKind::GlobalFunction));
    assert_eq!(kind(true, false, "Add"), Some(SymbolKind::PublicFunction));
    assert_eq!(kind(false, true, "Add"), Some(SymbolKind::GlobalFunction));
    // A static variable has no public symbol.
    assert_eq!(kind(true, false, "Counter"), None);
    assert_eq!(kind(false, true, "Counter"), Some(SymbolKind::StaticData));
}

#[test]
fn variables_in_registers_have_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let Some(pdb) = made(folder.path(), "-O2") else { return };
    let index = pdb.index(Default::default()).unwrap();
    let locals = pdb.locals(index.find("Add").unwrap(), 0).unwrap();
    let of = |name: &str| locals.iter().find(|local| local.name == name).map(|local| local.place);
    let register = |place| match place {
        Some(LocalPlace::Register(number)) => LocalPlace::register_name(number, Machine::X64),
        _ => None,
    };
    assert_eq!(register(of("p")), Some("rcx"), "{locals:?}");
}

#[test]
fn calls_in_line_are_told_the_innermost_first() {
    let folder = tempfile::tempdir().unwrap();
    for optimise in ["-O0", "-O2"] {
        let Some(pdb) = made(folder.path(), optimise) else { return };
        let index = pdb.index(Default::default()).unwrap();
        let (start, end) = (index.find("Calls").unwrap(), index.find("entry").unwrap());
        let chains: Vec<Vec<String>> = (start..end)
            .map(|rva| pdb.inlined(rva).unwrap().into_iter().map(|site| site.name).collect())
            .collect();
        assert!(chains.contains(&vec!["Twice".to_owned(), "Outer".to_owned()]), "{optimise}: {chains:?}");
        assert!(chains.contains(&Vec::new()), "{optimise}: {chains:?}");
        let inside = (start..end).find(|rva| pdb.inlined(*rva).unwrap().len() == 2).unwrap();
        let sites = pdb.inlined(inside).unwrap();
        let line = |number: usize| sites[number].line.as_ref().map(|line| line.line);
        assert!(matches!(line(0), Some(15 | 16)), "{sites:?}");
        // The call's own line in the functions around it.
        assert_eq!(line(1), Some(19), "{sites:?}");
        assert_eq!(pdb.line(inside).unwrap().unwrap().line, 23);
        if optimise != "-O0" {
            continue;
        }
        let names = |level: usize| -> Vec<String> {
            pdb.locals(inside, level).unwrap().into_iter().map(|local| local.name).collect()
        };
        assert!(names(0).contains(&"place".to_owned()) && !names(0).contains(&"read".to_owned()));
        assert!(names(1).contains(&"bias".to_owned()) && !names(1).contains(&"place".to_owned()));
        assert!(names(2).contains(&"read".to_owned()) && !names(2).contains(&"bias".to_owned()));
        assert_eq!(names(9), names(2));
    }
}
