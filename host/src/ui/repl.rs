//! Where commands come from: a line editor with history and completion on a terminal, plain lines otherwise. The only
//! file that names rustyline.

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::{FileHistory, History};
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use std::io::{self, BufRead, Read};
use std::path::PathBuf;

/// What the user answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A line, without its end.
    Line(String),
    /// No more lines.
    Eof,
    /// Ctrl+C at the prompt.
    Interrupted,
}

/// The line an empty line stands for: the last one that was not empty.
#[derive(Debug, Default)]
pub struct Repeat {
    last: String,
}

impl Repeat {
    /// Nothing to repeat yet.
    pub fn new() -> Repeat {
        Repeat::default()
    }

    /// The line to run for what was typed; none if there is nothing to repeat.
    pub fn resolve(&mut self, typed: &str) -> Option<String> {
        if !typed.trim().is_empty() {
            self.last = typed.to_owned();
        }
        (!self.last.is_empty()).then(|| self.last.clone())
    }
}

/// Bytes of one line; a longer one is cut.
const MAX_LINE: u64 = 1 << 20;

/// Reads lines.
pub struct Reader {
    size: usize,
    /// Taken while a line is edited.
    history: Option<FileHistory>,
    file: Option<PathBuf>,
}

impl Reader {
    /// A reader whose history keeps `size` lines.
    pub fn new(size: usize) -> Reader {
        Reader { size, history: None, file: None }
    }

    /// A line from stdin as it is.
    pub fn read(&mut self) -> Input {
        let mut bytes = Vec::new();
        let mut stdin = io::stdin().lock();
        match stdin.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => Input::Eof,
            Ok(_) => {
                if !bytes.ends_with(b"\n") {
                    // Too long, or the last line: what follows is not a line of its own.
                    let _ = stdin.skip_until(b'\n');
                }
                Input::Line(plain_line(&bytes))
            }
        }
    }

    /// A line from the editor.
    pub fn edit(&mut self, prompt: &str, complete: &dyn Fn(&str, usize) -> Vec<String>) -> Input {
        let config = match Config::builder().max_history_size(self.size) {
            Ok(builder) => builder,
            Err(_) => Config::builder(),
        }
        .completion_type(CompletionType::List)
        .auto_add_history(false)
        .build();
        let history = self.take_history(&config);
        let Ok(mut editor) = Editor::with_history(config.clone(), history) else { return self.read() };
        editor.set_helper(Some(Names { complete }));
        let input = match editor.readline(prompt) {
            Ok(line) => {
                let added = !line.trim().is_empty() && editor.add_history_entry(&line).unwrap_or(false);
                if let (true, Some(file)) = (added, &self.file) {
                    // A history that cannot be kept is no reason to stop.
                    let _ = editor.append_history(file);
                }
                Input::Line(line)
            }
            Err(ReadlineError::Interrupted) => Input::Interrupted,
            Err(_) => Input::Eof,
        };
        self.history = Some(std::mem::replace(editor.history_mut(), FileHistory::with_config(&config)));
        input
    }

    fn take_history(&mut self, config: &Config) -> FileHistory {
        if let Some(history) = self.history.take() {
            return history;
        }
        let mut history = FileHistory::with_config(config);
        self.file = history_file();
        if let Some(file) = &self.file {
            if let Some(folder) = file.parent() {
                let _ = std::fs::create_dir_all(folder);
            }
            let _ = history.load(file);
        }
        history
    }
}

/// The text of a line: without its end and a byte order mark; what is not UTF-8 is replaced.
fn plain_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    text.strip_prefix('\u{feff}').unwrap_or(text).to_owned()
}

/// Where the history is kept: the state folder of the platform.
fn history_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = if cfg!(windows) {
        folder("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        folder("HOME")?.join("Library/Application Support")
    } else {
        folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?
    };
    Some(state.join("kd").join("history"))
}

/// Completes names.
struct Names<'a> {
    complete: &'a dyn Fn(&str, usize) -> Vec<String>,
}

impl Completer for Names<'_> {
    type Candidate = Pair;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, names) = completions(line, cursor, self.complete);
        Ok((start, names.into_iter().map(|name| Pair { display: name.clone(), replacement: name }).collect()))
    }
}

impl Hinter for Names<'_> {
    type Hint = String;
}
impl Highlighter for Names<'_> {}
impl Validator for Names<'_> {}
impl Helper for Names<'_> {}

/// Where the word at the cursor starts, and the names that fit it, sorted.
pub fn completions(
    line: &str,
    cursor: usize,
    complete: &dyn Fn(&str, usize) -> Vec<String>,
) -> (usize, Vec<String>) {
    let before = line.get(..cursor).unwrap_or(line);
    let start = before
        .rfind(|c: char| c.is_whitespace() || matches!(c, ';' | '{' | '}' | '"' | '(' | ')' | ','))
        .map_or(0, |at| at + 1);
    let word = before.get(start..).unwrap_or_default();
    if word.is_empty() {
        return (start, Vec::new());
    }
    let mut names = complete(line, cursor);
    names.retain(|name| fits(word.as_bytes(), name.as_bytes()));
    names.sort_unstable();
    names.dedup();
    (start, names)
}

/// Whether a name begins as `word` does; case does not count, `*` and `?` stand for any characters.
fn fits(word: &[u8], name: &[u8]) -> bool {
    // Greedy with one point to go back to: time is the product of the lengths at worst.
    let (mut at, mut in_name) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (word.get(at), name.get(in_name)) {
            (None, _) => return true,
            (Some(b'*'), _) => {
                star = Some((at, in_name));
                at += 1;
                continue;
            }
            (Some(w), Some(n)) if *w == b'?' || w.eq_ignore_ascii_case(n) => {
                at += 1;
                in_name += 1;
                continue;
            }
            _ => {}
        }
        match star {
            Some((star_at, start)) if start < name.len() => {
                star = Some((star_at, start + 1));
                at = star_at + 1;
                in_name = start + 1;
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_line_repeats() {
        let mut repeat = Repeat::new();
        assert_eq!(repeat.resolve(""), None);
        assert_eq!(repeat.resolve(" lm  ").as_deref(), Some(" lm  "));
        assert_eq!(repeat.resolve("  ").as_deref(), Some(" lm  "));
        assert_eq!(repeat.resolve("*").as_deref(), Some("*"));
        assert_eq!(repeat.resolve("").as_deref(), Some("*"));
    }

    #[test]
    fn lines_lose_their_ends() {
        assert_eq!(plain_line(b"\xef\xbb\xbflm\r\n"), "lm");
        assert_eq!(plain_line(b"a\xff"), "a\u{fffd}");
        assert_eq!(plain_line(b"\n"), "");
    }

    #[test]
    fn names_complete() {
        let all = |_: &str, _: usize| {
            [".reload", ".reboot", "!process", "!kdexts.process", "lm", ".Echo"].map(String::from).to_vec()
        };
        let found = |line: &str| completions(line, line.len(), &all);
        assert_eq!(found(".re"), (0, vec![".reboot".into(), ".reload".into()]));
        assert_eq!(found("lm; .E"), (4, vec![".Echo".into()]));
        assert_eq!(found("!*proc"), (0, vec!["!kdexts.process".into(), "!process".into()]));
        assert_eq!(found("!PR"), (0, vec!["!process".into()]));
        assert_eq!(found("lm "), (3, vec![]));
        assert_eq!(found("!?rocess"), (0, vec!["!process".into()]));
        assert_eq!(found("zzz*"), (0, vec![]));
        assert_eq!(completions("ü!p", 1, &all), (0, vec![]));
    }
}
