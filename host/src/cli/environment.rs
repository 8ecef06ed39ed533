//! The variables of the environment that Microsoft's debuggers know, and `NO_COLOR`.

use super::{Evaluator, LogFile, evaluator, join};
use std::ffi::OsString;
use std::path::Path;

/// What the environment asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Environment {
    /// `_NT_ALT_SYMBOL_PATH`, then `_NT_SYMBOL_PATH`.
    pub symbols: Option<String>,
    /// `_NT_EXECUTABLE_IMAGE_PATH`.
    pub images: Option<String>,
    /// `_NT_SOURCE_PATH`.
    pub sources: Option<String>,
    /// `_NT_DEBUGGER_EXTENSION_PATH`.
    pub extensions: Option<String>,
    /// `_NT_DEBUG_LOG_FILE_OPEN`, or `_NT_DEBUG_LOG_FILE_APPEND`. The command line's log comes first.
    pub log: Option<LogFile>,
    /// `_NT_EXPR_EVAL`. The command line's evaluator comes first.
    pub evaluator: Option<Evaluator>,
    /// `_NT_DEBUG_HISTORY_SIZE`: lines.
    pub history_size: Option<usize>,
    /// `_NT_DEBUG_OPTIONS` holds NOEXTWARNING: no warning for unknown extension commands.
    pub no_extension_warning: bool,
    /// `_NT_DEBUG_OPTIONS` holds NOVERSIONCHECK: extensions of any version are taken.
    pub no_version_check: bool,
    /// `KDQUIET` is set: no messages for loaded extensions.
    pub quiet: bool,
    /// `DBGENG_NO_BUGCHECK_ANALYSIS` is set: no analysis when a dump is opened.
    pub no_bugcheck_analysis: bool,
    /// `NO_COLOR` is set and not empty.
    pub no_color: bool,
    /// What the user must know about variables that make no sense.
    pub notes: Vec<String>,
}

/// The most lines a history may keep.
pub(super) const MAX_HISTORY: usize = 100_000;

impl Environment {
    /// The variables of this process.
    pub fn from_env() -> Environment {
        Environment::from(|name| std::env::var_os(name))
    }

    /// Variables from anywhere.
    pub fn from(get: impl Fn(&str) -> Option<OsString>) -> Environment {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let mut notes = Vec::new();
        let mut text = |name: &str| match set(name)?.into_string() {
            Ok(text) => Some(text),
            Err(_) => {
                notes.push(format!("{name} is ignored: not valid Unicode"));
                None
            }
        };
        let symbols = [text("_NT_ALT_SYMBOL_PATH"), text("_NT_SYMBOL_PATH")];
        let symbols = join(symbols.iter().flatten());
        let images = text("_NT_EXECUTABLE_IMAGE_PATH");
        let sources = text("_NT_SOURCE_PATH");
        let extensions = text("_NT_DEBUGGER_EXTENSION_PATH");
        let (evaluator_text, history_text) = (text("_NT_EXPR_EVAL"), text("_NT_DEBUG_HISTORY_SIZE"));
        let debug_options = text("_NT_DEBUG_OPTIONS").unwrap_or_default();
        let has = |word: &str| {
            debug_options
                .split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '|'))
                .any(|w| w.eq_ignore_ascii_case(word))
        };
        let log = |name: &str, append| set(name).map(|path| LogFile { path: path.into(), append });
        let evaluator = evaluator_text.as_deref().and_then(evaluator);
        if let (Some(text), None) = (&evaluator_text, evaluator) {
            notes.push(format!("_NT_EXPR_EVAL is ignored: {text} is neither masm nor c++"));
        }
        let history_size = history_text.as_deref().and_then(|text| text.trim().parse::<usize>().ok());
        if let (Some(text), None) = (&history_text, history_size) {
            notes.push(format!("_NT_DEBUG_HISTORY_SIZE is ignored: {text} is not a number"));
        }
        if set("INIT").is_some_and(|folder| Path::new(&folder).join("tools.ini").is_file()) {
            notes.push("tools.ini in the folder that INIT names is not read by this version".to_owned());
        }
        if set("DBGHELP_HOMEDIR").is_some() {
            notes.push(
                "DBGHELP_HOMEDIR has no effect: kd does not use dbghelp; the symbol path names its caches"
                    .to_owned(),
            );
        }
        Environment {
            symbols: (!symbols.is_empty()).then_some(symbols),
            images,
            sources,
            extensions,
            log: log("_NT_DEBUG_LOG_FILE_OPEN", false).or_else(|| log("_NT_DEBUG_LOG_FILE_APPEND", true)),
            evaluator,
            history_size: history_size.map(|size| size.min(MAX_HISTORY)),
            no_extension_warning: has("NOEXTWARNING"),
            no_version_check: has("NOVERSIONCHECK"),
            quiet: get("KDQUIET").is_some(),
            no_bugcheck_analysis: get("DBGENG_NO_BUGCHECK_ANALYSIS").is_some(),
            no_color: set("NO_COLOR").is_some(),
            notes,
        }
    }
}
