//! Runs the program as a user does: arguments and standard input in, status and both outputs out.
//!
//! The environment is empty, so that no symbol path, log file or colour setting of the machine reaches a test. A
//! program that does not end is killed and fails its test.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long one run may take; the slowest takes a few seconds, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// What a run left behind.
pub struct Run {
    /// The exit status; -1 if a signal ended it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// One run to be made.
pub struct Kd<'a> {
    args: Vec<String>,
    input: &'a str,
    folder: Option<&'a Path>,
    variables: Vec<(&'a str, String)>,
}

/// The program with these arguments, nothing to read and an empty environment.
pub fn kd<'a, T: Into<String>>(args: impl IntoIterator<Item = T>) -> Kd<'a> {
    Kd { args: args.into_iter().map(Into::into).collect(), input: "", folder: None, variables: Vec::new() }
}

/// A path as an argument.
pub fn arg(path: &Path) -> String {
    path.to_str().expect("paths of tests are Unicode").to_owned()
}

/// The dump that is part of the project.
pub fn sample() -> String {
    arg(&kd_tests::fixtures().join("sample.dmp"))
}

impl<'a> Kd<'a> {
    /// What it reads on standard input.
    pub fn input(mut self, input: &'a str) -> Self {
        self.input = input;
        self
    }

    /// Where it runs.
    pub fn in_folder(mut self, folder: &'a Path) -> Self {
        self.folder = Some(folder);
        self
    }

    /// A variable of its environment.
    pub fn variable(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    pub fn run(self) -> Run {
        let mut command = Command::new(kd_tests::kd_exe());
        command.args(&self.args).env_clear().envs(self.variables);
        // Windows cannot start a program without this one.
        command.envs(std::env::var_os("SystemRoot").map(|root| ("SystemRoot", root)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(folder) = self.folder {
            command.current_dir(folder);
        }
        let mut child = command.spawn().expect("kd starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let stdout = collect(child.stdout.take().expect("a pipe"));
        let stderr = collect(child.stderr.take().expect("a pipe"));
        // It may end without reading all of it.
        let _ = stdin.write_all(self.input.as_bytes());
        drop(stdin);
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("kd can be waited for") {
                break status;
            }
            if start.elapsed() > LIMIT {
                let _ = child.kill();
                panic!("kd {:?} did not end in {LIMIT:?}", self.args);
            }
            thread::sleep(Duration::from_millis(2));
        };
        let text = |thread: thread::JoinHandle<Vec<u8>>| {
            String::from_utf8(thread.join().expect("the pipe is read")).expect("kd writes UTF-8")
        };
        Run { status: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("the pipe is read");
        bytes
    })
}

impl Run {
    /// The records of a `--json` run: every line must be one.
    pub fn records(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.stdout.lines().map(parse).collect()
    }
}
