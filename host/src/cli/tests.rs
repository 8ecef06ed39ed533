//! Every row of the table, glue, slashes, errors, and the environment.

use super::environment::MAX_HISTORY;
use super::*;

fn request(args: &[&str]) -> Result<Request, UsageError> {
    parse(args.iter().map(OsString::from))
}

fn run(args: &[&str]) -> Options {
    match request(args) {
        Ok(Request::Run(options)) => *options,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn refused(args: &[&str]) -> String {
    match request(args) {
        Err(UsageError(text)) => {
            assert!(!text.is_empty() && !text.contains('\n'), "{text}");
            text
        }
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn clap_accepts_the_table() {
    command().debug_assert();
}

#[test]
fn every_row_parses() {
    for row in ROWS {
        let value = match row.name {
            "sflags" => "0x10",
            "ee" => "masm",
            "clines" | "t" => "2",
            _ => "some value",
        };
        let args = match row.argument {
            Argument::None => vec![format!("{}{}", row.dashes, row.name)],
            Argument::Next(_) => vec![format!("{}{}", row.dashes, row.name), value.to_owned()],
            Argument::Glued(_) => vec![format!("{}{}{value}", row.dashes, row.name)],
        };
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let answer = request(&args);
        match row.effect {
            Effect::Refused(why) => assert!(refused(&args).contains(why), "{args:?}"),
            Effect::Later(why) | Effect::Ignored(why) => {
                assert!(run(&args).notes.iter().any(|note| note.contains(why)), "{args:?}");
            }
            Effect::Now if matches!(row.name, "?" | "help" | "version") => {
                assert!(matches!(answer, Ok(Request::Print(_))), "{args:?}");
            }
            Effect::Now => {
                let options = run(&args);
                assert_ne!(options, Options { notes: vec![], ..run(&[]) }, "{args:?} changes nothing");
                assert!(options.notes.is_empty(), "{args:?}");
            }
        }
        if row.repeats {
            run(&[&args[..], &args[..]].concat());
        }
        if let Argument::Next(wanted) = row.argument
            && !matches!(row.effect, Effect::Refused(_))
        {
            assert!(refused(&args[..1]).contains(wanted));
        }
        assert!(help().contains(&row.spelling()));
    }
}

#[test]
fn no_spelling_is_taken_twice() {
    for (index, row) in ROWS.iter().enumerate() {
        let again = |other: &&Row| other.dashes == row.dashes && other.name.eq_ignore_ascii_case(row.name);
        assert!(ROWS.iter().skip(index + 1).find(again).is_none(), "{}", row.name);
    }
}

#[test]
fn a_usual_line() {
    let options = run(&[
        "-y",
        "srv*/cache",
        "-i",
        "/images",
        "-z",
        "/a.dmp",
        "-z",
        "b c.cab",
        "-v",
        "-c",
        "!analyze -v; q",
        "-loga",
        "kd.log",
        "-akdexts",
        "--json",
    ]);
    assert_eq!(options.dumps, [PathBuf::from("/a.dmp"), PathBuf::from("b c.cab")]);
    assert_eq!(options.symbols.as_deref(), Some("srv*/cache"));
    assert_eq!(options.images.as_deref(), Some("/images"));
    assert_eq!(options.commands, ["!analyze -v; q"]);
    assert_eq!(options.log, Some(LogFile { path: "kd.log".into(), append: true }));
    assert_eq!(options.default_extension.as_deref(), Some("kdexts"));
    assert!(options.verbose && options.json && !options.registers && options.notes.is_empty());
    assert_eq!(options.symbol_options, DEFAULT_SYMBOL_OPTIONS);
}

#[test]
fn flags_may_be_glued() {
    let options = run(&["-rnv", "-Z", "a.dmp", "-SV"]);
    assert!(options.registers && options.verbose);
    assert_eq!(options.symbol_options, DEFAULT_SYMBOL_OPTIONS & !4 | 0x8000_0000);
    assert!(refused(&["-rz", "a.dmp"]).contains("unknown option -rz"));
    assert!(refused(&["-vb"]).contains("live targets"));
}

#[test]
fn symbol_options_add_up() {
    let of = |args: &[&str]| run(args).symbol_options;
    assert_eq!(of(&["-sflags", "0x10", "-ses"]), 0x410);
    assert_eq!(of(&["-ses", "-sflags", "0X10"]), 0x410);
    assert_eq!(of(&["-sup"]), DEFAULT_SYMBOL_OPTIONS & !0x1_0000);
    assert_eq!(of(&["-lines", "-sicv"]), DEFAULT_SYMBOL_OPTIONS | 0x90);
    assert_eq!(of(&["-sflags", "1025"]), 0x401);
    assert!(refused(&["-sflags", "12h"]).contains("-sflags 12h: a number"));
    assert!(refused(&["-sflags", "0x123456789"]).contains("32 bits"));
}

#[test]
fn evaluators() {
    assert_eq!(run(&["-ee", "C++"]).evaluator, Some(Evaluator::Cpp));
    assert_eq!(refused(&["-ee", "perl"]), "-ee perl: the evaluators are masm and c++");
}

#[cfg(not(windows))]
#[test]
fn a_slash_is_a_dash_unless_it_is_a_path() {
    let options = run(&["/z", "/tmp/a.dmp", "/rnv", "/c", "/x", "/aext"]);
    assert_eq!(options.dumps, [PathBuf::from("/tmp/a.dmp")]);
    assert_eq!(options.commands, ["/x"]);
    assert_eq!(options.default_extension.as_deref(), Some("ext"));
    assert!(options.registers && options.verbose);
    assert!(matches!(request(&["/?"]), Ok(Request::Print(_))));
    assert!(refused(&["/some/memory.dmp"]).contains("type -z /some/memory.dmp"));
    assert!(refused(&["/a/memory.dmp"]).contains("type -z /a/memory.dmp"));
    assert!(refused(&["/nonsense"]).contains("type -z /nonsense"));
    assert!(refused(&["/k", "net:port=1"]).contains("live targets"));
}

#[test]
fn commands_stay_verbatim() {
    let text = ".echo \"a  b\" ; !process 0 0\n-v --json";
    assert_eq!(run(&["-c", text, "-c", "q"]).commands, [text, "q"]);
    assert_eq!(run(&["-c", ""]).commands, [""]);
    assert_eq!(run(&["-c", "-5+3"]).commands, ["-5+3"]);
}

#[test]
fn errors_say_what_to_do() {
    assert_eq!(refused(&["a.dmp"]), "\"a.dmp\" is not an option: to open a dump, type -z a.dmp");
    assert!(refused(&["-"]).contains("is not an option"));
    assert!(refused(&[""]).contains("is not an option"));
    assert!(refused(&["-c", "!process", "0"]).contains("quotes"));
    assert!(refused(&["-nonsense"]).contains("kd -? lists the options"));
    assert!(refused(&["-zmemory.dmp"]).contains("did you mean -z memory.dmp?"));
    assert!(refused(&["-json"]).contains("it is spelled --json"));
    assert!(refused(&["--z", "x"]).contains("it is spelled -z"));
    assert!(refused(&["--json=1"]).contains("--json=1"));
    assert!(refused(&["-Server", "npipe:x"]).contains("it is spelled -server"));
    assert!(refused(&["-a"]).contains("-aEXT"));
    assert_eq!(refused(&["-z"]), "-z wants FILE after it");
    assert_eq!(refused(&["-z", "-v"]), "-z wants FILE, but the option -v follows");
    assert_eq!(refused(&["-z", ""]), "-z is given an empty name");
    assert_eq!(refused(&["-logo", "a", "-logo", "b"]), "-logo is given twice");
    assert_eq!(refused(&["-logo", "a", "-loga", "b"]), "-logo and -loga are both given: there is one log");
    assert_eq!(refused(&["-t", "many"]), "-t many: a number is wanted");
    assert!(refused(&["-v", "-server", "x"]).contains("first option"));
    assert!(refused(&["-remote", "x"]).contains("no remote sessions"));
    assert!(refused(&["-kdnet"]).contains("live targets"));
}

#[test]
fn repeated_flags_are_one() {
    assert!(run(&["-v", "-v", "-vv"]).verbose);
}

#[test]
fn paths_add_up() {
    let environment = Environment::from(|name| match name {
        "_NT_SYMBOL_PATH" => Some("env;".into()),
        "_NT_ALT_SYMBOL_PATH" => Some("alt".into()),
        "_NT_EXECUTABLE_IMAGE_PATH" => Some("images".into()),
        _ => None,
    });
    let path = |args: &[&str]| run(args).symbol_path(&environment);
    assert_eq!(path(&[]), "alt;env");
    assert_eq!(path(&["-y", "a;b", "-y", "c"]), "a;b;c;alt;env");
    assert_eq!(path(&["-sins"]), "");
    assert_eq!(path(&["-sins", "-y", "a"]), "a");
    assert_eq!(run(&["-i", "x"]).image_path(&environment), "x;images");
    assert_eq!(run(&["-srcpath", "x"]).source_path(&environment), "x");
}

#[test]
fn the_environment_is_read() {
    let environment = Environment::from(|name| {
        let value = match name {
            "_NT_SOURCE_PATH" => "src",
            "_NT_DEBUGGER_EXTENSION_PATH" => "ext",
            "_NT_DEBUG_LOG_FILE_APPEND" => "kd.log",
            "_NT_EXPR_EVAL" => "C++",
            "_NT_DEBUG_HISTORY_SIZE" => "99999999",
            "_NT_DEBUG_OPTIONS" => "noextwarning NOVERSIONCHECK",
            "KDQUIET" | "DBGENG_NO_BUGCHECK_ANALYSIS" | "NO_COLOR" => "1",
            _ => return None,
        };
        Some(value.into())
    });
    let expected = Environment {
        symbols: None,
        images: None,
        sources: Some("src".into()),
        extensions: Some("ext".into()),
        log: Some(LogFile { path: "kd.log".into(), append: true }),
        evaluator: Some(Evaluator::Cpp),
        history_size: Some(MAX_HISTORY),
        no_extension_warning: true,
        no_version_check: true,
        quiet: true,
        no_bugcheck_analysis: true,
        no_color: true,
        notes: vec![],
    };
    assert_eq!(environment, expected);
    let strange = Environment::from(|name| match name {
        "_NT_EXPR_EVAL" => Some("perl".into()),
        "_NT_DEBUG_HISTORY_SIZE" => Some("many".into()),
        _ => None,
    });
    assert_eq!(strange.notes.len(), 2);
    assert_eq!(Environment::from(|_| None), Environment::default());
}

#[test]
fn version_is_one_line() {
    assert!(version().starts_with("kd ") && version().lines().count() == 1);
    assert_eq!(request(&["-version"]), Ok(Request::Print(version())));
    assert_eq!(request(&["-?", "-z", "x"]), Ok(Request::Print(help())));
}

#[cfg(unix)]
#[test]
fn file_names_need_not_be_unicode() {
    use std::os::unix::ffi::OsStringExt;
    let name = OsString::from_vec(b"a\xff.dmp".to_vec());
    let Ok(Request::Run(options)) = parse(["-z".into(), name.clone()]) else { panic!() };
    assert_eq!(options.dumps, [PathBuf::from(name.clone())]);
    assert!(matches!(parse(["-c".into(), name.clone()]), Err(UsageError(text)) if text.contains("Unicode")));
    assert!(parse([name]).is_err());
}
