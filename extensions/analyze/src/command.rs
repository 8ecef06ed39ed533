//! `!analyze`'s arguments.

use crate::findings::conclude;
use crate::{catalogue, details, model, print};
use kd_sdk::prelude::*;
use kd_sdk::target::BugCheck;

/// What was asked for.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Request {
    verbose: bool,
    force: bool,
    hang: bool,
    show: bool,
}

/// Reads the options; what follows `-show` stays in `args`.
fn parse(args: &mut Args<'_>) -> Result<Request> {
    let mut request = Request::default();
    while let Some(option) = args.option() {
        match option.to_ascii_lowercase().as_str() {
            "f" => request.force = true,
            "hang" => request.hang = true,
            "show" => {
                request.show = true;
                break;
            }
            "xml" | "xmi" | "xcs" | "xmf" => {
                return Err(Error::Unsupported(format!(
                    "!analyze -{option}: there is no XML here; start kd with --json for the same record"
                )));
            }
            "c" | "load" | "unload" => {
                return Err(Error::Unsupported(format!(
                    "!analyze -{option}: a dump cannot go on, so known issues cannot be continued"
                )));
            }
            level if is_verbosity(level) => {
                request.verbose = true;
                // `-v 3` is written as two words by some.
                if level == "v" && args.peek().is_some_and(|word| word.bytes().all(|b| b.is_ascii_digit())) {
                    args.word();
                }
            }
            _ => return Err(Error::Usage(format!("unknown option '-{option}'; try !help analyze"))),
        }
    }
    if !request.show {
        args.finish()?;
    }
    Ok(request)
}

/// `v`, `vv`, `v0` … `v99`.
fn is_verbosity(option: &str) -> bool {
    option == "vv"
        || option
            .strip_prefix('v')
            .is_some_and(|level| level.len() <= 2 && level.bytes().all(|b| b.is_ascii_digit()))
}

/// Runs the command.
pub fn analyze(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let request = parse(&mut args)?;
    if request.show {
        return show(session, args);
    }
    if !session.target().is_open() {
        return Err(Error::Unsupported(
            "no dump is open: .opendump FILE, then g; -show CODE needs none".to_owned(),
        ));
    }
    let out = session.out();
    let bug_check = match session.target().bug_check().filter(|bug_check| bug_check.raw_code != 0) {
        Some(bug_check) => bug_check,
        None if request.force => BugCheck { raw_code: 0, parameters: [0; 4] },
        None => {
            out.data("bug_check", Value::Null);
            out.line("This dump records no bug check: nothing crashed. Use !analyze -f to look at its registers all the same.");
            return Ok(());
        }
    };
    if request.hang {
        out.warning(
            "!analyze -hang: locks and the DPC queue are not walked by this version; what follows is the crash itself. \
             See !locks and !process for who waits for whom",
        );
    }
    let crash = model::read(session, bug_check);
    let name = |va: Va| print::place(session, &crash, va);
    let findings = conclude(&crash, &name);
    if request.verbose {
        details::verbose(session, &crash, &findings);
    } else {
        print::short(session, &crash, &findings);
    }
    Ok(())
}

/// `-show CODE [P1 [P2 [P3 [P4]]]]`.
fn show(session: &Session<'_>, mut args: Args<'_>) -> Result<()> {
    let Some(word) = args.word() else {
        return Err(Error::Usage("-show needs a bug check code".to_owned()));
    };
    let raw_code = match catalogue::by_name(word) {
        Some(code) => code,
        None => match parse_code(word) {
            Some(code) => code,
            None => u32::try_from(session.evaluate(word)?).map_err(|_| {
                Error::Usage(format!("'{word}' is more than the 32 bits of a bug check code"))
            })?,
        },
    };
    let (mut parameters, mut given) = ([0; 4], 0);
    for place in &mut parameters {
        if let Some(word) = args.word() {
            given += 1;
            *place = match parse_number(word) {
                Some(value) => value,
                None => session.evaluate(word)?,
            };
        }
    }
    args.finish()?;
    print::explain(session, BugCheck { raw_code, parameters }, given);
    Ok(())
}

/// A code as people write it: `7e`, `0x7e`, `1000007E`, `0n126`, `126h`.
fn parse_code(word: &str) -> Option<u32> {
    parse_number(word).and_then(|value| {
        // A sign-extended code is the same code.
        u32::try_from(value).ok().or_else(|| (value >> 32 == 0xffff_ffff).then_some(value as u32))
    })
}

/// A hexadecimal number, with or without prefix and back quote; `0n` for decimal.
fn parse_number(word: &str) -> Option<u64> {
    let lower = word.to_ascii_lowercase().replace('`', "");
    if let Some(decimal) = lower.strip_prefix("0n") {
        return decimal.parse().ok();
    }
    let digits = lower.strip_prefix("0x").unwrap_or(&lower);
    u64::from_str_radix(digits.strip_suffix('h').unwrap_or(digits), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let request = |text| parse(&mut Args::new(text));
        assert_eq!(request(""), Ok(Request::default()));
        for text in ["-v", "-v3", "-v99", "-vv", "-v 5", "/v"] {
            assert_eq!(request(text), Ok(Request { verbose: true, ..Default::default() }), "{text}");
        }
        assert_eq!(request("-show 7e").map(|r| r.show), Ok(true));
        assert!(matches!(request("-xml"), Err(Error::Unsupported(text)) if text.contains("--json")));
        assert!(request("-q").is_err());
        assert!(request("-v123").is_err());
        assert!(request("-v junk").is_err());
    }

    #[test]
    fn codes() {
        for word in ["7e", "0x7e", "0X7E", "7Eh", "0n126"] {
            assert_eq!(parse_code(word), Some(0x7e), "{word}");
        }
        assert_eq!(parse_code("1000007E"), Some(0x1000_007e));
        assert_eq!(parse_code("ffffffff`c0000005"), Some(0xc000_0005));
        assert_eq!(parse_code("1`00000000"), None);
        assert_eq!(parse_code("nonsense"), None);
    }
}
