//! `lm`: loaded and unloaded modules.
//!
//! Options and columns are KD's (`lmvmnt`, `lm t n`, `lm1m`, `lmsm` …). Without an asked-for detail the last column
//! says what is known of a module's symbols; nothing is loaded just to print it.

use super::{Builtin, Call, Needs};
use crate::pattern;
use crate::scope::{OpenTarget, Scope};
use crate::session::Session;
use crate::symbols::{Matched, ModuleState};
use crate::target::{Module, Origin, UnloadedModule};
use kd_sdk::address::Va;
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::time;
use kd_sdk::output::{Out, Style, Value};

/// The rows of the table of commands.
pub const ROWS: &[Builtin] = &[Builtin {
    names: &["lm"],
    usage: "[t] [n] [v] [k] [u] [o] [l] [e] [c] [1m] [sm] [i] [f] [p] [D] [a ADDRESS] [m PATTERN] [M PATTERN]",
    summary: "List modules",
    help: "t time stamp, n image name, i image name, f path, p mapped path, c check sums, v everything,\n\
           k kernel modules, u those of the process (.reload /user: of another), o loaded ones only, l with symbols only,\n\
           e with symbol trouble only, 1m names only, sm sorted by name, a ADDRESS the module that holds it,\n\
           m PATTERN by name, M PATTERN by path. Options may be written together: lmvm nt, lm1m, lmtn.",
    needs: Needs::Target,
    run: list,
}];

/// What was asked for.
#[derive(Default, Debug, PartialEq, Eq)]
struct Options<'a> {
    time: bool,
    image: bool,
    path: bool,
    verbose: bool,
    check_sums: bool,
    names_only: bool,
    by_name: bool,
    user_only: bool,
    kernel_only: bool,
    loaded_only: bool,
    with_symbols: bool,
    trouble: bool,
    address: Option<&'a str>,
    name: Option<&'a str>,
    path_pattern: Option<&'a str>,
}

impl<'a> Options<'a> {
    fn parse(text: &'a str) -> Result<Options<'a>> {
        let mut options = Options::default();
        let mut rest = text.trim_start();
        while let Some(letter) = rest.chars().next() {
            let after = rest.get(letter.len_utf8()..).unwrap_or_default();
            match letter {
                't' => options.time = true,
                'n' | 'i' => options.image = true,
                'f' | 'p' => options.path = true,
                'v' => options.verbose = true,
                'c' => options.check_sums = true,
                'k' => options.kernel_only = true,
                'u' => options.user_only = true,
                'o' => options.loaded_only = true,
                'l' => options.with_symbols = true,
                'e' => options.trouble = true,
                // Marks links; there is nothing to click here.
                'D' => {}
                '1' | 's' if after.starts_with('m') => {
                    if letter == '1' {
                        options.names_only = true;
                    } else {
                        options.by_name = true;
                    }
                    rest = after.get(1..).unwrap_or_default().trim_start();
                    continue;
                }
                'a' => {
                    options.address = Some(after.trim()).filter(|text| !text.is_empty());
                    if options.address.is_none() {
                        return Err(Error::Usage("lm a ADDRESS: the address is missing".to_owned()));
                    }
                    return Ok(options);
                }
                'm' | 'M' => {
                    let pattern = after.trim_start();
                    let end = pattern.find(char::is_whitespace).unwrap_or(pattern.len());
                    let (word, tail) = pattern.split_at_checked(end).unwrap_or((pattern, ""));
                    if word.is_empty() {
                        return Err(Error::Usage(format!("lm {letter} PATTERN: the pattern is missing")));
                    }
                    if letter == 'm' {
                        options.name = Some(word);
                    } else {
                        options.path_pattern = Some(word);
                    }
                    rest = tail.trim_start();
                    continue;
                }
                other => {
                    return Err(Error::Usage(format!(
                        "lm has no option '{other}' (in 'lm {}')",
                        text.trim()
                    )));
                }
            }
            rest = after.trim_start();
        }
        Ok(options)
    }

    fn takes(&self, module: &Module) -> bool {
        self.name.is_none_or(|wanted| pattern::matches(wanted, &module.name))
            && self.path_pattern.is_none_or(|wanted| pattern::matches(wanted, &module.path))
    }

    /// Unloaded modules are listed where nothing narrows the list to loaded ones.
    fn takes_unloaded(&self, module: &UnloadedModule) -> bool {
        let stem = module.name.split('.').next().unwrap_or_default();
        self.name.is_none_or(|wanted| pattern::matches(wanted, stem))
            && self.path_pattern.is_none_or(|wanted| pattern::matches(wanted, &module.name))
    }
}

fn list(session: &mut Session, out: &Out<'_>, call: &Call<'_>) -> Result<()> {
    let options = Options::parse(call.args)?;
    let scope = session.scope(None)?;
    let open = scope.open()?;
    let at = options.address.map(|text| scope.evaluate(text)).transpose()?.map(Va);
    let mut shown: Vec<(usize, &Module)> = open
        .target
        .modules()
        .iter()
        .enumerate()
        .filter(|(index, module)| {
            (!options.user_only || module.origin == Origin::Process)
                && (!options.kernel_only || module.origin != Origin::Process)
                && options.takes(module)
                && at.is_none_or(|at| module.contains(at))
                && selected_by_symbols(open, *index, &options)
        })
        .collect();
    if options.by_name {
        shown.sort_by_key(|(_, module)| module.name.to_lowercase());
    }
    if options.names_only {
        out.list("modules", |out| {
            for (_, module) in &shown {
                out.name("", &module.name);
                out.end_line();
            }
        });
        let unloaded = unloaded(open, &options);
        if !unloaded.is_empty() {
            out.list("unloaded", |out| {
                for module in unloaded {
                    out.name("", &module.name);
                    out.end_line();
                }
            });
        }
        return Ok(());
    }
    let width = if scope.pointer_size() == 8 { 17 } else { 8 };
    out.styled(Style::Heading, &format!("{:width$} {:width$}   module name", "start", "end"));
    out.end_line();
    let listing = Listing { scope: &scope, open, options: &options };
    let mut result = Ok(());
    out.list("modules", |out| {
        for (index, module) in &shown {
            if session.interrupted() {
                result = Err(Error::Interrupted);
                return;
            }
            out.record("", |out| listing.module(out, *index, module));
        }
    });
    result?;
    let unloaded = unloaded(open, &options);
    if !unloaded.is_empty() {
        out.end_line();
        out.styled(Style::Heading, "Unloaded modules:");
        out.end_line();
        out.list("unloaded", |out| {
            for module in unloaded {
                out.record("", |out| listing.unloaded(out, module));
            }
        });
    }
    Ok(())
}

/// The unloaded modules that are asked for.
fn unloaded<'a>(open: &'a OpenTarget, options: &Options<'_>) -> Vec<&'a UnloadedModule> {
    let narrowed = options.loaded_only
        || options.user_only
        || options.with_symbols
        || options.trouble
        || options.address.is_some();
    open.target.unloaded().iter().filter(|module| !narrowed && options.takes_unloaded(module)).collect()
}

fn selected_by_symbols(open: &OpenTarget, index: usize, options: &Options<'_>) -> bool {
    if !options.with_symbols && !options.trouble {
        return true;
    }
    let state = open.symbols.state(&open.target, index);
    (options.with_symbols && matches!(state, ModuleState::Loaded { .. }))
        || (options.trouble
            && matches!(
                state,
                ModuleState::None { .. }
                    | ModuleState::Exports { .. }
                    | ModuleState::Loaded { matched: Matched::Nothing, .. }
            ))
}

struct Listing<'a> {
    scope: &'a Scope,
    open: &'a OpenTarget,
    options: &'a Options<'a>,
}

impl Listing<'_> {
    fn range(&self, out: &Out<'_>, start: Va, end: Va) {
        let size = self.scope.pointer_size();
        out.styled_field("start", Value::Hex(start.0), Style::Address, &start.show(size).to_string());
        out.text(" ");
        out.styled_field("end", Value::Hex(end.0), Style::Address, &end.show(size).to_string());
        out.text("   ");
    }

    fn module(&self, out: &Out<'_>, index: usize, module: &Module) {
        self.range(out, module.base, module.end());
        let state = self.open.symbols.state(&self.open.target, index);
        let (mark, text) = symbol_text(module, &state);
        out.data("size", Value::UInt(module.size));
        out.data("is_kernel", Value::Bool(module.is_kernel));
        out.data("is_user", Value::Bool(module.origin == Origin::Process));
        let detail = self.options.time || self.options.image || self.options.path || self.options.check_sums;
        let name = format!("{:<8}", module.name);
        out.styled_field("name", Value::Text(&module.name), Style::Symbol, &name);
        let image = if self.options.image && !self.options.verbose {
            format!(" {:<12}", module.image)
        } else {
            String::new()
        };
        out.field("image", Value::Text(&module.image), &image);
        let path = if self.options.path && !self.options.verbose {
            format!(" {}", module.path)
        } else {
            String::new()
        };
        out.field("path", Value::Text(&module.path), &path);
        let stamp = time::time_stamp(module.time_stamp);
        let shown =
            if self.options.time && !self.options.verbose { format!(" {stamp}") } else { String::new() };
        out.field("time_stamp", Value::Hex(module.time_stamp.into()), &shown);
        let sum = if self.options.check_sums && !self.options.verbose {
            format!(" CheckSum {:08X}", module.check_sum)
        } else {
            String::new()
        };
        out.field("check_sum", Value::Hex(module.check_sum.into()), &sum);
        let shown =
            if detail && !self.options.verbose { String::new() } else { format!(" {mark} {text:<22}") };
        out.field("symbols", Value::Text(text), shown.trim_end());
        if let ModuleState::Loaded { pdb, id, matched, .. } = &state {
            let pdb = pdb.display().to_string();
            out.field("pdb", Value::Text(&pdb), &if detail { String::new() } else { format!("  {pdb}") });
            out.data("pdb_id", Value::Text(&id.to_string()));
            out.data("pdb_matched", Value::Text(&matched.to_string()));
        }
        out.end_line();
        if self.options.verbose {
            self.verbose(out, module, &state, &stamp);
        }
    }

    fn verbose(&self, out: &Out<'_>, module: &Module, state: &ModuleState, stamp: &str) {
        out.line(&format!("    Loaded symbol image file: {}", module.image));
        out.line(&format!("    Image path: {}", module.path));
        out.line(&format!("    Image name: {}", module.image));
        out.line(&format!("    Timestamp:        {stamp}"));
        out.line(&format!("    CheckSum:         {:08X}", module.check_sum));
        out.line(&format!("    ImageSize:        {:08X}", module.size));
        match state {
            ModuleState::Loaded { id, matched, .. } => {
                out.line(&format!("    Symbols:          {id}, {matched}"));
            }
            ModuleState::None { reason } => out.line(&format!("    Symbols:          {reason}")),
            ModuleState::Exports { count, reason } => {
                out.line(&format!("    Symbols:          {count} exported names; {reason}"));
            }
            ModuleState::Deferred => {}
        }
    }

    fn unloaded(&self, out: &Out<'_>, module: &UnloadedModule) {
        self.range(out, module.start, module.end);
        out.styled_field("name", Value::Text(&module.name), Style::Symbol, &module.name);
        out.end_line();
        let details = self.options.time || self.options.verbose;
        if details {
            // What the kernel no longer knows, in KD's words, so that scripts find their lines.
            out.line(&format!("    Timestamp: {}", time::time_stamp(0)));
            out.line("    Checksum:  00000000");
            out.line(&format!("    ImageSize:  {:08X}", module.end.0.saturating_sub(module.start.0)));
        }
        if let Some(time) = module.time {
            let shown = if details {
                format!("    Unloaded:  {}\n", time::session_time(time))
            } else {
                String::new()
            };
            out.field("unload_time", Value::Time(time), &shown);
        }
    }
}

/// The mark and the words of the symbol column: `M` symbols of another build were taken, `#` they were found and not
/// taken, `T` no time stamp, `C` no check sum.
fn symbol_text(module: &Module, state: &ModuleState) -> (&'static str, &'static str) {
    let mark = match state {
        ModuleState::Loaded { matched: Matched::Nothing, .. } => "M",
        ModuleState::None { reason } | ModuleState::Exports { reason, .. } if reason.found_others() => "#",
        ModuleState::Deferred => " ",
        _ if module.time_stamp == 0 => "T",
        _ if module.check_sum == 0 => "C",
        _ => " ",
    };
    let text = match state {
        ModuleState::Deferred => "(deferred)",
        ModuleState::Loaded { private: true, .. } => "(private pdb symbols)",
        ModuleState::Loaded { .. } => "(pdb symbols)",
        ModuleState::Exports { .. } => "(export symbols)",
        ModuleState::None { .. } => "(no symbols)",
    };
    (mark, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_may_be_glued() {
        let options = Options::parse("vmnt").unwrap();
        assert!(options.verbose && options.name == Some("nt"));
        let options = Options::parse("t n").unwrap();
        assert!(options.time && options.image);
        let options = Options::parse("1m").unwrap();
        assert!(options.names_only && options.name.is_none());
        let options = Options::parse("sm").unwrap();
        assert!(options.by_name);
        let options = Options::parse("k v m a*b").unwrap();
        assert!(options.kernel_only && options.verbose && options.name == Some("a*b"));
        let options = Options::parse("a nt+10").unwrap();
        assert_eq!(options.address, Some("nt+10"));
        assert!(Options::parse("z").is_err());
        assert!(Options::parse("m").is_err());
    }
}
