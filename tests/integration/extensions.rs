//! Extensions and the border to them, on the real program: loading, replacing, refusing, panicking, Ctrl+C, memory.
//! The libraries that misbehave are in `tests/extensions`.

use kd_sdk::abi;
use kd_tests::kd_exe;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A library beside the fresh kd.
fn library(name: &str) -> PathBuf {
    kd_exe().with_file_name(file_name(name))
}

fn file_name(name: &str) -> String {
    format!("{DLL_PREFIX}{name}{DLL_SUFFIX}")
}

fn sample() -> PathBuf {
    kd_tests::fixtures().join("sample.dmp")
}

/// A kd that nothing of this machine leads astray.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).arg("--no-color").stdin(Stdio::null());
    for variable in ["_NT_DEBUGGER_EXTENSION_PATH", "_NT_SYMBOL_PATH", "_NT_ALT_SYMBOL_PATH", "KDEXT_ODD"] {
        command.env_remove(variable);
    }
    command
}

/// Runs a line without a dump; both streams.
fn kd(line: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    text(command(kd_exe(), folder.path()).arg("-c").arg(format!("{line}; q")))
}

fn text(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.code().is_some(), "kd was killed: {}", output.status);
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn load(name: &str) -> String {
    format!(".load {}", library(name).display())
}

/// A kd that is talked to.
struct Talk {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    marks: u32,
}

impl Talk {
    fn start(mut command: Command) -> Talk {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Talk { child, input, output, marks: 0 }
    }

    /// Runs a line; what it says.
    fn say(&mut self, line: &str) -> String {
        self.send(line);
        self.hear()
    }

    fn send(&mut self, line: &str) {
        self.marks += 1;
        writeln!(self.input, "{line}\n.echo mark{}", self.marks).unwrap();
    }

    fn hear(&mut self) -> String {
        let (mut text, end) = (String::new(), format!("mark{}", self.marks));
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "kd ended after: {text}");
            if line.trim_end() == end {
                return text;
            }
            text.push_str(&line);
        }
    }

    fn quit(mut self) {
        writeln!(self.input, "q").unwrap();
        self.child.wait().unwrap();
    }
}

// ----- what cannot be loaded ---------------------------------------------------------------------------------------

#[test]
fn kd_goes_on_without_the_analyze_library() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(kd_exe().file_name().unwrap());
    std::fs::copy(kd_exe(), &program).unwrap();
    let drivers = file_name("kdext_drivers");
    std::fs::copy(library("kdext_drivers"), folder.path().join(&drivers)).unwrap();
    let run = || {
        text(
            command(&program, folder.path())
                .arg("-z")
                .arg(sample())
                .args(["-c", "!analyze; .chain; .echo on; q"]),
        )
    };
    let said = run();
    assert!(said.contains("No analysis at load: no extension has a command 'analyze'"), "{said}");
    assert!(said.contains("error: no extension has a command 'analyze'"), "{said}");
    assert!(said.contains("    drivers: image") && !said.contains("    analyze: image"), "{said}");
    assert!(said.contains("\non\n"), "{said}");
    // Back again, and it is there again.
    std::fs::copy(library("kdext_analyze"), folder.path().join(file_name("kdext_analyze"))).unwrap();
    assert!(run().contains("    analyze: image"));
    // Half copied: the others go on.
    let whole = std::fs::read(library("kdext_analyze")).unwrap();
    std::fs::write(folder.path().join(file_name("kdext_analyze")), &whole[..whole.len() / 20]).unwrap();
    let said = run();
    assert!(said.contains("warning: cannot load") && said.contains("    drivers: image"), "{said}");
    assert!(said.contains("\non\n"), "{said}");
}

#[test]
fn what_is_no_extension_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        file.display().to_string()
    };
    let whole = std::fs::read(library("testbed")).unwrap();
    let cases = [
        (write(&file_name("text"), b"no library"), "not a library that this system can load"),
        (write(&file_name("empty"), b""), "not a library that this system can load"),
        (write(&file_name("cut"), &whole[..whole.len() / 20]), "not a library that this system can load"),
        (write(&file_name("head"), &whole[..100]), "not a library that this system can load"),
        (folder.path().display().to_string(), "no extension '"),
        (folder.path().join("none").display().to_string(), "no extension '"),
        ("nowhere".to_owned(), "no extension 'nowhere' is loaded or on the extension path ("),
    ];
    for (file, wanted) in cases {
        let said = kd(&format!(".load {file}; .echo on"));
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains(wanted), "{file}: {said}");
        assert!(said.contains("\non\n"), "{file}: {said}");
    }
}

#[test]
fn a_library_without_the_entry_point_is_refused() {
    let Some(file) = compile_c("int kdext_other(void) { return 0; }", "plain") else { return };
    let said = kd(&format!(".load {}", file.1.display()));
    assert!(said.contains("a library, but no kd extension (it has no kdext_entry)"), "{said}");
}

#[test]
fn tables_that_do_not_fit_are_refused() {
    let (major, minor) = (abi::MAJOR, abi::MINOR);
    let (next, speaks) = (minor + 1, format!("this kd speaks {major}.{minor}"));
    let built = |version: String| {
        format!("odd was built for extension ABI {version}, {speaks}; rebuild it with the SDK of this kd")
    };
    let other_major = built(format!("{}.{minor}", major + 1));
    let other_minor = built(format!("{major}.{next}"));
    let newer = format!("odd needs extension ABI {major}.{next} or newer, {speaks}");
    let cases = [
        ("major", other_major.as_str()),
        ("minor", other_minor.as_str()),
        ("newer", newer.as_str()),
        ("layout", "block expressions.v1 differs ("),
        ("magic", "(it does not begin with KDEXT)"),
        ("null", "(the pointer is null or crooked)"),
        ("crooked", "(the pointer is null or crooked)"),
        ("small", "(it is smaller than its version says)"),
        ("norun", "(run is null, or a text or table is null or too long)"),
        ("nullname", "(run is null, or a text or table is null or too long)"),
        ("longname", "(run is null, or a text or table is null or too long)"),
        ("nullcommands", "(run is null, or a text or table is null or too long)"),
        ("manycommands", "(run is null, or a text or table is null or too long)"),
        ("crookedcommands", "(run is null, or a text or table is null or too long)"),
        ("noname", ""),
        ("nocommands", ""),
    ];
    for (odd, wanted) in cases {
        let folder = tempfile::tempdir().unwrap();
        let line = format!("{}; .echo on; q", load("odd"));
        let said = text(command(kd_exe(), folder.path()).env("KDEXT_ODD", odd).args(["-c", &line]));
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), usize::from(!wanted.is_empty()), "{odd}: {said}");
        assert!(
            errors.iter().all(|line| line.ends_with(wanted) || odd == "layout" && line.contains(wanted)),
            "{odd}: {said}"
        );
        assert!(said.contains("\non\n"), "{odd}: {said}");
    }
}

// ----- what commands may do ----------------------------------------------------------------------------------------

#[test]
fn odd_calls_of_the_host_do_no_harm() {
    let said = kd(&format!("{}; !raw; !help latin; !latin", load("odd")));
    assert!(said.contains("bytes \u{fffd}\u{fffd}\nfive\nguard word aaaaaaaa\n"), "{said}");
    // Null places, texts, buffers and contexts, a short struct, and the wrong thread, which is the last.
    assert!(said.contains("answers [-7, -7, -7, -7, -7, -7, -5, -5, -5, -7]"), "{said}");
    assert!(said.contains("caf\u{fffd}"), "{said}");
    assert!(
        said.contains("error: !latin failed: this kd or this dump does not have what it needs\n"),
        "{said}"
    );
}

#[test]
fn a_panic_costs_one_command() {
    let said = kd(&format!("{}; !boom; !bomb; !threadboom; !tversion", load("testbed")));
    let line = said.lines().find(|line| line.starts_with("error: !boom panicked: ")).expect(&said);
    assert!(line.contains("the len is 0 but the index is 3 at ") && line.contains("lib.rs:"), "{said}");
    assert!(said.contains("error: !bomb panicked: "), "{said}");
    assert!(said.contains("the thread panicked\nthis is tb-ver-1"), "{said}");
}

#[test]
fn commands_run_commands_down_to_a_bound() {
    let said = kd(&format!("{}; !nest; !texec .echo inner; !texec !tfail why; .echo on", load("testbed")));
    assert!(said.contains(": commands are nested more than 16 deep"), "{said}");
    assert!(said.contains("<inner>\nerror: it failed: why\non\n"), "{said}");
}

#[test]
fn a_command_may_unload_its_own_extension() {
    let said = kd(&format!("{}; !texec .unload testbed; !tversion; .echo on", load("testbed")));
    assert!(said.contains("<Unloading testbed extension>"), "{said}");
    assert!(said.contains("no extension has a command 'tversion'") && said.contains("\non\n"), "{said}");
}

#[test]
fn a_million_events_and_events_without_order() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("{}; !flood 1000000; !unbalanced; .echo on; q", load("testbed"));
    let output = command(kd_exe(), folder.path()).args(["--json", "-c", &line]).output().unwrap();
    let records: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let data = |command: &str| {
        let record = records.iter().find(|record| record["command"].as_str().unwrap().starts_with(command));
        &record.unwrap()["data"]
    };
    assert_eq!(data("!flood")["numbers"].as_array().unwrap().len(), 1_000_000);
    assert_eq!(data("!unbalanced")["open"][0]["left"], "open");
    assert_eq!(data(".echo")["text"], "on");
}

#[test]
fn extensions_that_ask_are_told_of_targets() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("{}; .opendump {}; g; !notes; .detach; !notes; q", load("odd"), sample().display());
    let said = text(command(kd_exe(), folder.path()).args(["-c", &line]));
    assert!(said.contains("notes 1\n"), "{said}");
    assert!(said.contains("notes 102\n"), "{said}");
}

// ----- the chain ---------------------------------------------------------------------------------------------------

/// Two testbeds that tell themselves apart, `one` and `two`, in a folder.
fn two_testbeds() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(file_name("one")), version("tb-ver-1")).unwrap();
    std::fs::write(folder.path().join(file_name("kdext_two")), version("tb-ver-2")).unwrap();
    folder
}

/// The testbed with another version in it.
fn version(new: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(library("testbed")).unwrap();
    let places: Vec<usize> =
        bytes.windows(8).enumerate().filter(|(_, text)| text == b"tb-ver-1").map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at..at + 8].copy_from_slice(new.as_bytes()));
    bytes
}

#[test]
fn the_extension_path_of_the_environment() {
    let folder = two_testbeds();
    let run = |line: &str| {
        text(
            command(kd_exe(), folder.path())
                .env("_NT_DEBUGGER_EXTENSION_PATH", folder.path())
                .args(["-c", line]),
        )
    };
    // By name, with and without `kdext_`, at `.load` and at the first use.
    assert!(run(".load one; !tversion; q").contains("this is tb-ver-1"));
    assert!(run("!two.tversion; q").contains("this is tb-ver-2"));
    assert!(run("!kdext_two.tversion; q").contains("this is tb-ver-2"));
    assert!(kd("!two.tversion").contains("no extension 'two' is loaded or on the extension path"));
    let said = kd(&format!(".extpath+ {}; !two.tversion", folder.path().display()));
    assert!(said.contains("this is tb-ver-2"), "{said}");
}

#[test]
fn the_newest_extension_answers_first() {
    let folder = two_testbeds();
    let file = |name: &str| folder.path().join(file_name(name)).display().to_string();
    let (one, two) = (file("one"), file("kdext_two"));
    let answer = |line: &str| {
        let said = kd(&format!(".load {one}; .load {two}; {line}"));
        let lines = said.lines().filter_map(|line| line.strip_prefix("this is tb-ver-"));
        lines.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(answer("!tversion"), "2");
    assert_eq!(answer("!one.tversion; !two.tversion"), "1 2");
    assert_eq!(answer("!on*.tversion; !kdext*.tversion; !TESTB*.TVERSION"), "1 2 2");
    assert_eq!(answer(".setdll one; !tversion"), "1");
    assert_eq!(answer(".unload; !tversion"), "1");
    assert_eq!(answer(&format!(".unload {two}; !tversion")), "1");
    assert_eq!(answer(&format!(".load {one}; !tversion")), "1");
    assert_eq!(answer(&format!("!{one}.tversion")), "1");
    assert_eq!(answer(".unloadall; !tversion"), "");
    let said = kd(&format!(".load {one}; .unloadall; .unload; .unload one; .chain; !one.tversion"));
    assert!(said.contains("extensions unloaded") && said.contains("(none loaded)"), "{said}");
    assert!(said.contains("error: no extension is loaded\n"), "{said}");
    assert!(said.contains("error: no extension 'one' is loaded; .chain lists what is\n"), "{said}");
    let said = kd(&format!(".load {one}; !x*.tversion; !decline"));
    assert!(said.contains("no extension 'x*' has a command 'tversion'; it is !testbed.tversion"), "{said}");
    assert!(said.contains("!decline: every extension passed this on"), "{said}");
}

#[test]
fn a_library_replaced_while_it_is_loaded() {
    let folder = two_testbeds();
    let file = folder.path().join(file_name("one"));
    let mut kd = Talk::start(command(kd_exe(), folder.path()));
    let load = format!(".load {}", file.display());
    kd.say(&load);
    assert!(kd.say("!tversion").contains("this is tb-ver-1"));
    // In place, which is the hard case, and twice.
    for new in ["tb-ver-3", "tb-ver-4"] {
        std::fs::write(&file, version(new)).unwrap();
        assert!(!kd.say("!tversion").contains(new));
        assert!(kd.say(".chain").contains("the file has changed since"));
        assert!(kd.say(".unload one").contains("Unloading testbed extension"));
        kd.say(&load);
        assert!(kd.say("!tversion").contains(&format!("this is {new}")));
        assert!(!kd.say(".chain").contains("the file has changed since"));
    }
    std::fs::remove_file(&file).unwrap();
    assert!(kd.say("!tversion").contains("this is tb-ver-4"));
    kd.quit();
}

// ----- memory and Ctrl+C -------------------------------------------------------------------------------------------

#[cfg(target_os = "linux")]
#[test]
fn three_hundred_cycles_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let cycle = format!("{}\n!tls\n!boom\n!tmaps\n.unload testbed\n", load("testbed"));
    let script = folder.path().join("script");
    std::fs::write(&script, cycle.repeat(300)).unwrap();
    let said = text(command(kd_exe(), folder.path()).arg("-cf").arg(&script).args(["-c", "q"]));
    let rows: Vec<Vec<u64>> = said
        .lines()
        .filter(|line| line.starts_with("maps "))
        .map(|line| line.split(' ').filter_map(|word| word.parse().ok()).collect())
        .collect();
    assert_eq!(rows.len(), 300, "{said}");
    let (early, late) = (&rows[30], &rows[299]);
    assert_eq!(early[1], late[1], "images of the library: {early:?} {late:?}");
    assert!(late[0] <= early[0] + 8, "mappings: {early:?} {late:?}");
    assert!(late[2] <= early[2] + 2048, "resident kB: {early:?} {late:?}");
}

#[cfg(unix)]
mod ctrl_c {
    use super::*;
    use std::time::{Duration, Instant};

    fn press(kd: &Talk) {
        let pid = kd.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    /// Waits until the command has said, by this file, that it runs.
    fn wait_for(file: &Path) {
        let start = Instant::now();
        while !file.exists() {
            assert!(start.elapsed() < Duration::from_secs(30), "the command did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn start(folder: &Path) -> Talk {
        let mut kd = Talk::start(command(kd_exe(), folder));
        kd.say(&load("testbed"));
        kd
    }

    #[test]
    fn a_polling_command_stops_with_what_it_has_said() {
        let folder = tempfile::tempdir().unwrap();
        let (mut kd, flag) = (start(folder.path()), folder.path().join("flag"));
        kd.send(&format!("!count {}", flag.display()));
        wait_for(&flag);
        press(&kd);
        let said = kd.hear();
        assert!(said.contains("counted 3\n") && said.contains("\nwarning: interrupted\n"), "{said}");
        assert!(!kd.say(".chain").contains("stuck"));
        // One press through a command that runs the command.
        std::fs::remove_file(&flag).unwrap();
        kd.send(&format!("!texec !count {}", flag.display()));
        wait_for(&flag);
        press(&kd);
        assert!(kd.hear().contains("warning: interrupted"));
        assert!(kd.say("!tversion").contains("this is tb-ver-1"));
        kd.quit();
    }

    #[test]
    fn a_deaf_command_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (mut kd, flag) = (start(folder.path()), folder.path().join("flag"));
        kd.send(&format!("!spin {}", flag.display()));
        wait_for(&flag);
        press(&kd);
        std::thread::sleep(Duration::from_millis(300));
        press(&kd);
        let said = kd.hear();
        assert!(said.contains("!spin did not stop and was left behind; testbed stays in memory"), "{said}");
        let said = kd.say(".chain");
        assert!(
            said.contains("testbed: image") && said.contains(", stuck: a command of it did not stop"),
            "{said}"
        );
        // Everything else goes on, this extension too.
        assert!(kd.say("!tversion").contains("this is tb-ver-1"));
        let said = kd.say(".unload testbed");
        assert!(said.contains("an abandoned command keeps its image in memory"), "{said}");
        assert!(kd.say(".chain").contains("testbed: unloaded, kept in memory"));
        // A fresh copy is not stuck.
        kd.say(&load("testbed"));
        assert!(kd.say("!tversion").contains("this is tb-ver-1"));
        assert!(!kd.say(".chain").contains(", stuck"));
        kd.quit();
    }
}

// ----- in this process ---------------------------------------------------------------------------------------------

mod when_the_host_panics {
    use super::*;
    use kd::extension::{loader::Loaded, worker};
    use kd::scope::Scope;
    use kd_sdk::output::Event;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    struct Broken;

    impl worker::Main for Broken {
        fn emit(&mut self, _: &Event<'_>) {
            panic!("a renderer panics");
        }
        fn progress(&mut self, _: u64, _: u64, _: &str) {}
        fn execute(&mut self, _: &str) -> (i32, String) {
            panic!("a command panics");
        }
        fn take_interrupt(&mut self) -> bool {
            false
        }
    }

    #[test]
    fn the_command_is_let_go_and_its_library_stays() {
        // Waits for an answer; floods the queue; ends at once.
        for (command, args) in [("texec", ".echo"), ("flood", "1000000"), ("tversion", "")] {
            kd_exe();
            let extension = Arc::new(Loaded::open(&library("testbed")).unwrap());
            let index = extension.command(command).unwrap().index;
            let scope = Scope::default();
            let work = worker::Work::Command(index, args.to_owned());
            let run = || worker::run(&extension, work, scope, &mut Broken);
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
            assert!(extension.is_stuck());
            let start = Instant::now();
            while Arc::strong_count(&extension) > 1 {
                assert!(start.elapsed() < Duration::from_secs(20), "!{command} still waits");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

// ----- C -----------------------------------------------------------------------------------------------------------

/// Compiles a C file into a library; `None`, with a loud line, where there is no compiler.
fn compile_c(source: &str, name: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    let sdk = kd_tests::fixtures().join("../../sdk");
    let folder = tempfile::tempdir().unwrap();
    let (input, library) = (folder.path().join(format!("{name}.c")), folder.path().join(file_name(name)));
    std::fs::write(&input, source).unwrap();
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let output = Command::new(&compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I"])
        .arg(sdk.join("include"))
        .arg("-o")
        .args([&library, &input])
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: no C compiler '{compiler}' on this machine: extensions in C are NOT tested");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some((folder, library))
}

#[test]
fn an_extension_in_c() {
    let source = std::fs::read_to_string(kd_tests::fixtures().join("../../sdk/examples/hello.c")).unwrap();
    let Some((folder, library)) = compile_c(&source, "kdext_chello") else { return };
    let line = format!(".load {}; !chello; .chain; .unload chello; q", library.display());
    let run = |more: &[&str]| {
        text(command(kd_exe(), folder.path()).args(more).arg("-z").arg(sample()).args(["-c", &line]))
    };
    let said = run(&[]);
    assert!(said.contains("Machine:   x64\nBug check: "), "{said}");
    let stack = said.lines().find_map(|line| line.strip_prefix("Stack:     ")).expect(&said);
    assert_eq!(stack.len(), 16 + 16 * 3, "{said}");
    assert!(
        said.contains(&format!(
            "chello: image 1.0, API {}.{}, built by a C compiler\n",
            abi::MAJOR,
            abi::MINOR
        )),
        "{said}"
    );
    assert!(said.contains("Unloading chello extension"), "{said}");
    let said = run(&["--json"]);
    let record = said.lines().find(|line| line.contains("\"command\":\"!chello\"")).expect(&said);
    let record: serde_json::Value = serde_json::from_str(record).unwrap();
    assert_eq!(record["data"]["machine"], "x64");
    assert!(record["data"]["sp"].as_str().unwrap().starts_with("0x"));
}
