//! Names, types, stacks, expressions and searches: `cargo bench -p kd-tests --bench symbols`.
//!
//! Of a real dump with its public symbols (11 MB, as large as a kernel's are) where there is one, else of a story of the
//! laboratory. Goals: the first name of a kernel's symbol file within 30 ms.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test bench stops at the first surprise

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use kd::cli::{self, Environment, Request};
use kd::dump::{Dump, OpenOptions};
use kd::session::Session;
use kd::symbols::{SymbolPath, Symbols};
use kd::target::Target;
use kd::ui::{Capture, Ui, UiOptions};
use kd_sdk::output::Out;
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

/// Searching the kernel's address space for a pointer that is nowhere.
#[divan::bench(sample_count = 10)]
fn search(bencher: Bencher<'_, '_>) {
    let mut session = session(made());
    let bytes = 0x1000_0000u64;
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| run(&mut session, "s -q nt L?2000000 0123456789abcdef"));
}
