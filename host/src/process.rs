//! Programs that a user starts from kd: through the system's shell, with their output line by line. The only file that
//! knows how systems differ in this.
//!
//! A program runs in a group of its own, so that Ctrl+C at the terminal comes to kd alone, which then ends the whole
//! group.

use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// How often Ctrl+C is looked at.
const TICK: Duration = Duration::from_millis(30);
/// Ticks that output may stay away after the program has ended: what it left running may hold the pipe for ever.
const PATIENCE: u32 = 5;
/// Bytes of one line; a longer one comes in parts.
const LONGEST: u64 = 1 << 16;

/// How a program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// By itself.
    With(ExitStatus),
    /// Because it was told to.
    Stopped,
}

/// A program that is to run.
pub struct Program {
    command: Command,
    /// What is written to the one pipe that takes output and errors, in the order in which the program writes.
    lines: PipeReader,
    input: Option<Vec<u8>>,
}

/// The system's shell with a command line, in a group of its own; without standard input, output and errors heard.
///
/// # Errors
/// There is no pipe.
pub fn shell(line: &str) -> io::Result<Program> {
    let mut command = platform::shell(line);
    let (lines, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    Ok(Program { command, lines, input: None })
}

/// The shell of the user, which takes over the terminal.
pub fn interactive_shell() -> Command {
    platform::interactive()
}

impl Program {
    /// What it reads.
    pub fn reads(&mut self, text: Vec<u8>) {
        self.command.stdin(Stdio::piped());
        self.input = Some(text);
    }

    /// What it reads is a file, what it writes goes to files or nowhere: for the caller to say.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Runs it to its end. `line` is given what it writes, `stop` is asked often.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(mut self, line: &mut dyn FnMut(&str), stop: &mut dyn FnMut() -> bool) -> io::Result<Ended> {
        let mut child = self.command.spawn()?;
        // The pipe ends when nobody has its other end any more: the command has one.
        drop(self.command);
        let (sender, lines) = sync_channel(256);
        thread::spawn(move || pass_on(self.lines, &sender));
        if let (Some(mut pipe), Some(input)) = (child.stdin.take(), self.input) {
            // A program that does not read all of it is no error.
            thread::spawn(move || drop(pipe.write_all(&input)));
        }
        let mut silent = 0;
        loop {
            if stop() {
                platform::end(child.id());
                let _ = child.kill();
                let _ = child.wait();
                return Ok(Ended::Stopped);
            }
            match lines.recv_timeout(TICK) {
                Ok(text) => {
                    silent = 0;
                    line(&text);
                }
                Err(error) => {
                    if let Some(status) = child.try_wait()? {
                        silent += 1;
                        if error == RecvTimeoutError::Disconnected || silent > PATIENCE {
                            return Ok(Ended::With(status));
                        }
                    } else if error == RecvTimeoutError::Disconnected {
                        thread::sleep(TICK);
                    }
                }
            }
        }
    }

    /// Starts it and forgets it; its number.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut self) -> io::Result<u32> {
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(self.command.spawn()?.id())
    }
}

fn pass_on(pipe: PipeReader, to: &SyncSender<String>) {
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    while reader.by_ref().take(LONGEST).read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&bytes);
        if to.send(text.trim_end_matches(['\r', '\n']).to_owned()).is_err() {
            return;
        }
        bytes.clear();
    }
}

#[cfg(not(windows))]
mod platform {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    pub fn shell(line: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(line).process_group(0);
        command
    }

    pub fn interactive() -> Command {
        Command::new(std::env::var_os("SHELL").unwrap_or("/bin/sh".into()))
    }

    /// Ends a process and all that it started.
    pub fn end(process: u32) {
        let group = format!("-{process}");
        let mut kill = Command::new("kill");
        kill.args(["-KILL", "--", &group]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = kill.status();
    }
}

#[cfg(windows)]
mod platform {
    use std::os::windows::process::CommandExt;
    use std::process::{Command, Stdio};

    /// `CREATE_NEW_PROCESS_GROUP`: Ctrl+C is not passed on.
    const NEW_GROUP: u32 = 0x200;

    pub fn shell(line: &str) -> Command {
        let mut command = interactive();
        // cmd takes the quotes off and the rest as it is.
        command.raw_arg(format!("/s /c \"{line}\"")).creation_flags(NEW_GROUP);
        command
    }

    pub fn interactive() -> Command {
        Command::new(std::env::var_os("ComSpec").unwrap_or("cmd.exe".into()))
    }

    /// Ends a process and all that it started.
    pub fn end(process: u32) {
        let mut kill = Command::new("taskkill");
        kill.args(["/T", "/F", "/PID", &process.to_string()]);
        let _ = kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn said(line: &str, input: &str) -> (Vec<String>, Ended) {
        let mut lines = Vec::new();
        let mut program = shell(line).unwrap();
        program.reads(input.into());
        let ended = program.run(&mut |line| lines.push(line.to_owned()), &mut || false).unwrap();
        (lines, ended)
    }

    #[test]
    fn output_and_errors_come_in_order() {
        let (lines, ended) = said("echo c; echo b >&2; cat; exit 3", "a\nno end of line");
        assert_eq!(lines, ["c", "b", "a", "no end of line"]);
        assert!(matches!(ended, Ended::With(status) if status.code() == Some(3)));
    }

    #[test]
    fn a_stop_ends_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let start = Instant::now();
        let line = format!("(sleep 2; touch '{}') & echo on; sleep 60", mark.display());
        let seen = std::cell::Cell::new(false);
        let ended = shell(&line).unwrap().run(&mut |_| seen.set(true), &mut || seen.get());
        assert_eq!(ended.unwrap(), Ended::Stopped);
        assert!(start.elapsed() < Duration::from_secs(2));
        thread::sleep(Duration::from_millis(2300).saturating_sub(start.elapsed()));
        assert!(!mark.exists(), "what it started ends with it");
    }

    #[test]
    fn what_is_left_running_is_not_waited_for() {
        let start = Instant::now();
        let (lines, _) = said("sleep 3 & echo done", "");
        assert_eq!(lines, ["done"]);
        assert!(start.elapsed() < Duration::from_secs(3));
    }
}
