//! Names, types, stacks, expressions and searches: `cargo bench -p kd-tests --bench symbols`.
//!
//! Of a real dump with its kernel's public symbols (3 MB, 40,000 names) where there is one, else of a story of the
//! laboratory. Goals: the first name of a kernel's symbol file within 30 ms, of a file of 100 MB within 300 ms.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test bench stops at the first surprise

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use kd::cli::{self, Environment, Request};
use kd::dump::{Dump, OpenOptions};
use kd::session::Session;
use kd::symbols::{ModuleState, SymbolPath, Symbols};
use kd::target::Target;
use kd::ui::{Capture, Ui, UiOptions};
use kd_sdk::address::Va;
use kd_sdk::output::Out;
use kd_tests::lab::pdb;
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

struct Files {
    folder: tempfile::TempDir,
    real: Option<(PathBuf, String)>,
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let world = World::build(Options::of("x64-19041", Story::CrashInDriver));
    writer::write(&world, Kind::Full, &folder.path().join("dump")).unwrap();
    world.write_symbols(&folder.path().join("store")).unwrap();
    let shared = kd_tests::shared();
    let real = shared.map(|shared| {
        (
            shared.join("dumps/real/x64-19041-7e.dmp"),
            format!("srv*{}", shared.join("symbols/symstore").display()),
        )
    });
    Files { folder, real: real.filter(|(dump, _)| dump.is_file()) }
});

fn main() {
    divan::main();
    // A static is never dropped: the files go here.
    let _ = std::fs::remove_dir_all(FILES.folder.path());
}

/// The dump of the laboratory and its symbol path.
fn made() -> (PathBuf, String) {
    let folder = FILES.folder.path();
    (folder.join("dump"), folder.join("store").display().to_string())
}

/// The real dump, else the laboratory's.
fn large() -> (PathBuf, String) {
    FILES.real.clone().unwrap_or_else(made)
}

fn target(dump: &std::path::Path) -> Target {
    Target::open(Dump::open(dump, &OpenOptions::default()).unwrap())
}

fn session((dump, path): (PathBuf, String)) -> Session {
    let arguments = ["-y".into(), path.into()];
    let Ok(Request::Run(options)) = cli::parse(arguments) else { panic!("the arguments are good") };
    let ui = Ui::with_streams(UiOptions::default(), false, Box::new(io::sink()), Box::new(io::sink()));
    let environment = Environment { no_bugcheck_analysis: true, ..Environment::default() };
    let mut session = Session::new(Arc::new(ui), &options, &environment);
    let dump = session.open_dump(&dump, None).unwrap();
    session.attach(dump);
    session
}

fn run(session: &mut Session, line: &str) -> String {
    let capture = Capture::new();
    session.run(line, &Out::new(&capture)).unwrap();
    capture.into_text()
}

/// Opening the kernel's symbol file itself, reading its names, and one of them.
#[divan::bench]
fn first_name_of_the_file(bencher: Bencher<'_, '_>) {
    let (dump, path) = large();
    let target = target(&dump);
    let nt = || target.modules().iter().position(|module| module.is_kernel).unwrap();
    let found = Symbols::new(SymbolPath::parse(&path));
    let ModuleState::Loaded { pdb, .. } = found.load(&target, nt()) else { panic!("no symbols") };
    bencher.bench_local(|| {
        let symbols = Symbols::default();
        symbols.load_file(&target, nt(), &pdb).unwrap();
        symbols.find(&target, "nt!KeBugCheckEx").unwrap()
    });
}

/// The same with a file of 100 MB: 250,000 names, the rest types; or a type of it. `KD_KEEP_PDB` keeps the file.
#[divan::bench(sample_count = 10, args = ["name", "type"])]
fn first_of_100_mb(bencher: Bencher<'_, '_>, what: &str) {
    let target = target(&made().0);
    let nt = target.modules().iter().position(|module| module.is_kernel).unwrap();
    let file = FILES.folder.path().join("large.pdb");
    if !file.is_file() {
        let world = World::build(Options::new("x64-19041"));
        let bytes = pdb::large(world.options.generation, world.image("nt"), 250_000, 42_000);
        assert!(bytes.len() >= 100_000_000, "{}", bytes.len());
        std::fs::write(&file, bytes).unwrap();
    }
    if let Some(keep) = std::env::var_os("KD_KEEP_PDB") {
        std::fs::copy(&file, keep).unwrap();
    }
    bencher.bench_local(|| {
        let symbols = Symbols::default();
        symbols.load_file(&target, nt, &file).unwrap();
        if what == "name" {
            let name = "nt!Large_777_of_the_names_that_a_program_of_this_size_has_in_all";
            symbols.find(&target, name).map(|va| va.0).unwrap()
        } else {
            let (types, id) = symbols.find_type(&target, "nt!_EPROCESS_777").unwrap();
            types.size(id)
        }
    });
}

/// Finding and opening the kernel's symbol file, reading its names, and one of them.
#[divan::bench]
fn first_name(bencher: Bencher<'_, '_>) {
    let (dump, path) = large();
    let target = target(&dump);
    let path = SymbolPath::parse(&path);
    bencher.bench_local(|| {
        let symbols = Symbols::new(path.clone());
        symbols.find(&target, "nt!KeBugCheckEx").unwrap()
    });
}

#[divan::bench]
fn first_type(bencher: Bencher<'_, '_>) {
    let (dump, path) = large();
    let target = target(&dump);
    let path = SymbolPath::parse(&path);
    bencher.bench_local(|| {
        let symbols = Symbols::new(path.clone());
        let (types, id) = symbols.find_type(&target, "nt!_EPROCESS").unwrap();
        types.size(id)
    });
}

/// `x nt!*` without showing anything.
#[divan::bench]
fn every_name(bencher: Bencher<'_, '_>) {
    let (dump, path) = large();
    let target = target(&dump);
    let symbols = Symbols::new(SymbolPath::parse(&path));
    let count = || {
        let mut count = 0usize;
        let each = symbols.each(&target, "nt!*", &mut |named| {
            black_box(named.name);
            count += 1;
            ControlFlow::Continue(())
        });
        each.unwrap();
        count
    };
    let all = count();
    bencher.counter(ItemsCount::new(all)).bench_local(count);
}

#[divan::bench]
fn name_of_an_address(bencher: Bencher<'_, '_>) {
    let (dump, path) = large();
    let target = target(&dump);
    let symbols = Symbols::new(SymbolPath::parse(&path));
    let at = symbols.find(&target, "nt!KeBugCheckEx").unwrap();
    let mut offset = 0;
    bencher.bench_local(|| {
        offset = (offset + 0x37) & 0xf_ffff;
        symbols.at(&target, at.add(offset))
    });
}

#[divan::bench]
fn dt_eprocess(bencher: Bencher<'_, '_>) {
    let mut session = session(large());
    bencher.bench_local(|| run(&mut session, "dt nt!_EPROCESS @$proc"));
}

/// Walking the stack of a crash, down to the program.
#[divan::bench]
fn unwind(bencher: Bencher<'_, '_>) {
    let session = session(made());
    let scope = session.scope(None).unwrap();
    let frames = scope.stack(256).unwrap().len();
    bencher.counter(ItemsCount::new(frames)).bench_local(|| scope.stack(256).unwrap());
}

#[divan::bench(args = ["0x1234 + 5 * (7 - 2)", "poi(nt!PsLoadedModuleList) + @rsp", "@@c++(sizeof(nt!_EPROCESS) + 1)"])]
fn evaluate(bencher: Bencher<'_, '_>, text: &str) {
    let session = session(made());
    let scope = session.scope(None).unwrap();
    bencher.bench_local(|| scope.evaluate(black_box(text)).unwrap());
}

/// Searching 256 MB of addresses from the kernel on for what is nowhere; the readable pages count.
#[divan::bench(sample_count = 10, args = ["-q", "-b", "-sa"])]
fn search(bencher: Bencher<'_, '_>, form: &str) {
    let mut session = session(made());
    let start = session.scope(None).unwrap().evaluate("nt").unwrap();
    let scope = session.scope(None).unwrap();
    let (mut at, mut pages) = (Va(start), 0u64);
    let end = start + (256 << 20);
    while let Some(next) = scope.view().unwrap().next_readable(at).filter(|next| next.0 < end) {
        pages += 1;
        at = Va((next.0 | 0xfff) + 1);
    }
    let (count, what) = match form {
        "-q" => (0x200_0000, "0123456789abcdef"),
        "-b" => (0x1000_0000, "91 92 93 94 95 96"),
        _ => (0x1000_0000, ""),
    };
    let line = format!("s -[l40]{} nt L?{count:x} {what}", form.trim_start_matches('-'));
    bencher.counter(BytesCount::new(pages << 12)).bench_local(|| run(&mut session, &line));
}
