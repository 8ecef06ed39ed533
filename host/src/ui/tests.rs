//! The whole face: streams, log, broken pipe, the last message.

use super::*;
use std::sync::Arc;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(data)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Failing(io::ErrorKind);

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn ui(json: bool) -> (Ui, Shared, Shared) {
    let (out, err) = (Shared::default(), Shared::default());
    let options = UiOptions { json, ..UiOptions::default() };
    (Ui::with_streams(options, false, Box::new(out.clone()), Box::new(err.clone())), out, err)
}

fn head(line: &str) -> CommandHead<'_> {
    CommandHead { seq: 1, target: Some(0), line }
}

#[test]
fn text_flows_and_ends_its_line() {
    let (ui, out, err) = ui(false);
    ui.begin_command(&head("x"));
    ui.out().text("half");
    ui.out().verbose("hidden");
    ui.end_command(Status::Ok);
    ui.set_mask(ui.mask() | mask::VERBOSE, true);
    ui.out().verbose("seen");
    ui.fatal("cannot open \u{1b}a.dmp: not a dump");
    assert_eq!(out.text(), "half\nseen\n");
    assert_eq!(err.text(), "kd: cannot open .a.dmp: not a dump\n");
}

#[test]
fn json_is_one_line_a_command_and_one_at_the_end() {
    let (ui, out, err) = ui(true);
    ui.begin_command(&head("x"));
    ui.out().field("a", kd_sdk::output::Value::UInt(1), "1");
    ui.end_command(Status::Interrupted);
    ui.begin_command(&head("y"));
    ui.fatal("no more");
    drop(ui);
    let text = out.text();
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(lines[0]["status"], "interrupted");
    assert_eq!(lines[1]["command"], "y");
    assert_eq!((lines[2]["status"].as_str(), lines[2]["command"].as_str()), (Some("error"), Some("")));
    assert_eq!(err.text(), "kd: no more\n");
}

#[test]
fn the_log_is_plain_text_either_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kd.log");
    for json in [false, true] {
        let (ui, _, _) = ui(json);
        ui.open_log(&path, json).unwrap();
        assert_eq!(ui.log_path().as_deref(), Some(path.as_path()));
        ui.begin_command(&head("x"));
        ui.out().field("a", kd_sdk::output::Value::UInt(1), "one");
        ui.out().error("no");
        ui.end_command(Status::Failed);
        assert_eq!(ui.close_log(), Some(path.clone()));
        assert_eq!(ui.log_path(), None);
        ui.out().line("later");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\nerror: no\nkd> x\none\nerror: no\n");
    let (ui, _, _) = ui(false);
    assert!(ui.open_log(folder.path(), false).is_err());
}

#[test]
fn a_broken_pipe_is_quiet_and_other_failures_are_not() {
    let _alone = interrupt::TESTS.lock();
    for (kind, said) in [(io::ErrorKind::BrokenPipe, false), (io::ErrorKind::StorageFull, true)] {
        for json in [false, true] {
            let err = Shared::default();
            let options = UiOptions { json, ..UiOptions::default() };
            let ui = Ui::with_streams(options, false, Box::new(Failing(kind)), Box::new(err.clone()));
            ui.begin_command(&head("x"));
            ui.out().line("text");
            ui.out().line("more");
            ui.end_command(Status::Ok);
            assert!(ui.is_broken());
            assert!(interrupt::take_interrupt());
            drop(ui);
            assert_eq!(err.text().lines().count(), usize::from(said), "{}", err.text());
        }
    }
}
