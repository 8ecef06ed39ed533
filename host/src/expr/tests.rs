//! The suite of expressions, and that no text brings an evaluator down.

use super::*;
use crate::dump::{Dump, OpenOptions};
use crate::scope::{OpenTarget, Scope};
use crate::symbols::{SymbolPath, Symbols};
use crate::target::Target;
use crate::typed;
use proptest::prelude::*;
use std::time::Instant;

const SUITE: &str = include_str!("suite.txt");

struct Fake {
    evaluator: Evaluator,
    bits: u32,
    radix: u32,
}

impl Fake {
    fn byte(&self, va: u64) -> Option<u8> {
        let image: &[(u64, u8)] =
            &[(0, 0x4d), (1, 0x5a), (0x3c, 0x80), (0x80, 0x50), (0x81, 0x45), (0xa8, 0x34), (0xa9, 0x12)];
        match va {
            0x1000..0x1100 => Some(va as u8),
            0x2000..0x2007 => b"kernel\0".get(va as usize - 0x2000).copied(),
            0x3000..0x3100 => {
                Some(image.iter().find(|(at, _)| *at == va - 0x3000).map_or(0, |(_, byte)| *byte))
            }
            0x4000..0x4004 => 0x8000_1000u32.to_le_bytes().get(va as usize - 0x4000).copied(),
            _ => None,
        }
    }
}

impl Context for Fake {
    fn register(&self, name: &str) -> Option<u64> {
        Some(match (self.bits, name) {
            (64, "rip" | "$ip") => 0xfffff804_7bdf5a80,
            (64, "rsp") | (32, "esp") => 0x1000,
            (64, "rax") => 5,
            (64, "ah") => 0x77,
            (32, "eip" | "$ip") => 0x8001_0000,
            (32, "eax") => 0x8000_0000,
            (_, "$t0") => 0x8000_0000,
            (_, "$t1") => 0,
            (_, "$exp") => 7,
            _ => return None,
        })
    }
    fn symbol(&self, name: &str) -> Option<u64> {
        Some(match (self.bits, name) {
            (64, "nt") => 0xfffff804_7ba00000,
            (64, "nt!Foo" | "Foo") => 0xfffff804_7ba01000,
            (64, "nt!beef") => 1,
            (64, "cafe") => 2,
            (64, "A::b") => 3,
            (32, "nt") => 0x8040_0000,
            _ => return None,
        })
    }
    fn read(&self, va: Va, size: u32) -> Result<u64, String> {
        (0..u64::from(size)).rev().try_fold(0, |value, n| {
            let byte = self.byte(va.0.wrapping_add(n)).ok_or("not mapped")?;
            Ok(value << 8 | u64::from(byte))
        })
    }
    fn pointer_size(&self) -> u32 {
        self.bits / 8
    }
    fn radix(&self) -> u32 {
        self.radix
    }
    fn source_line(&self, module: Option<&str>, file: &str, line: u32) -> Result<u64, String> {
        match (module, file) {
            (None | Some("nt"), "file.c") => Ok(0xfffff804_7ba01000 + u64::from(line)),
            _ => Err("not here".to_owned()),
        }
    }
    fn evaluator(&self) -> Evaluator {
        self.evaluator
    }
}

/// The answer in the suite's spelling.
fn answer(text: &str, context: &dyn Context, evaluator: Evaluator) -> Result<String, ExprError> {
    match evaluator {
        Evaluator::Masm => evaluate(text, context).map(|value| format!("{value:x}")),
        Evaluator::Cpp => {
            let value = evaluate_typed(text, context)?.value;
            let raw = value.raw_in(context)?;
            Ok(format!("{} {}", value.ty.name(), typed::value_text(&value.ty, raw, &Default::default())))
        }
    }
}

/// Lines of one kind of section with their number.
fn lines(kernel: bool) -> Vec<(usize, Vec<&'static str>, &'static str, &'static str)> {
    let mut section = Vec::new();
    let mut found = Vec::new();
    for (number, line) in SUITE.lines().enumerate() {
        if let Some(head) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'))
            && !line.contains("=>")
        {
            section = head.split(' ').collect();
        } else if let Some((text, expected)) = line.split_once(" => ")
            && !line.starts_with("# ")
            && (section == ["kernel"]) == kernel
        {
            found.push((number + 1, section.clone(), text, expected));
        }
    }
    found
}

fn wrong(number: usize, text: &str, expected: &str, got: Result<String, ExprError>) -> Option<String> {
    let right = match (&got, expected.strip_prefix("! ")) {
        (Ok(value), None) => value == expected,
        (Err(error), Some(part)) => error.to_string().contains(part),
        _ => false,
    };
    (!right).then(|| format!("line {number}: {text}: expected {expected}, got {got:?}"))
}

#[test]
fn every_expression_of_the_suite_has_its_value() {
    let lines = lines(false);
    assert!(lines.len() > 300, "{}", lines.len());
    let failures: Vec<String> = lines
        .iter()
        .filter_map(|(number, section, text, expected)| {
            let evaluator = Evaluator::named(section[0]).unwrap();
            let fake =
                Fake { evaluator, bits: section[1].parse().unwrap(), radix: section[2].parse().unwrap() };
            wrong(*number, text, expected, answer(text, &fake, evaluator))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn expressions_over_a_real_dump_have_their_values() {
    let Some(dump) = crate::shared("dumps/real/x64-19041-7e.dmp") else { return };
    let Some(store) = crate::shared("symbols/symstore") else { return };
    let target = Target::open(Dump::open(&dump, &OpenOptions::default()).unwrap());
    let path = format!("srv*{}", store.display());
    let symbols = std::sync::Arc::new(Symbols::new(SymbolPath::parse(&path)));
    let processor = target.current_processor();
    let open = Some(std::sync::Arc::new(OpenTarget { number: 0, target, symbols }));
    let scope = Scope { open, processor, radix: 16, ..Scope::default() };
    let failures: Vec<String> = lines(true)
        .iter()
        .filter_map(|(number, _, text, expected)| {
            wrong(*number, text, expected, answer(text, &scope, Evaluator::Cpp))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn deep_and_long_texts_end_quickly() {
    let started = Instant::now();
    for evaluator in [Evaluator::Masm, Evaluator::Cpp] {
        let fake = Fake { evaluator, bits: 64, radix: 16 };
        for piece in [
            "(", "-", "[", "@@(", "1+(", "poi(", "not ", "!", "*", "&", "sizeof ", "(int)", "1?", "@@masm(",
            "1=",
        ] {
            let text = piece.repeat(20_000);
            assert!(evaluate(&text, &fake).is_err(), "{piece}");
        }
        // Nesting is bounded, length is not.
        assert_eq!(evaluate(&format!("1{}", "+1".repeat(50_000)), &fake), Ok(50_001));
        assert_eq!(evaluate(&format!("{}1{}", "(".repeat(40), ")".repeat(40)), &fake), Ok(1));
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,60}") {
        for evaluator in [Evaluator::Masm, Evaluator::Cpp] {
            for bits in [32, 64] {
                let _ = evaluate(&text, &Fake { evaluator, bits, radix: 16 });
                let _ = evaluate_first(&text, &Fake { evaluator, bits, radix: 10 });
            }
        }
    }

    #[test]
    fn no_soup_of_tokens_panics(words in proptest::collection::vec(proptest::sample::select(vec![
        "(", ")", "[", "]", "+", "-", "*", "/", "%", "<<", ">>", "&&", "||", "!", "~", "?", ":", ",", "=", "+=", "++",
        "->", ".", "@", "@@(", "@@masm(", "$t0", "@$t0", "@rsp", "nt!Foo", "0x10", "1.5", "'a'", "sizeof", "(int)",
        "(char*)", "poi", "by", "not", "mod", "$spat(", "\"a\"", "`", "#FIELD_OFFSET(", "ffffffff", "é", "(short)",
    ]), 0..14)) {
        for joint in ["", " "] {
            let text = words.join(joint);
            for evaluator in [Evaluator::Masm, Evaluator::Cpp] {
                let _ = evaluate(&text, &Fake { evaluator, bits: 64, radix: 16 });
            }
        }
    }

    #[test]
    fn sums_are_wrapping(a: u64, b: u64) {
        let fake = Fake { evaluator: Evaluator::Masm, bits: 64, radix: 16 };
        prop_assert_eq!(evaluate(&format!("0x{}`{:08x} + 0x{:x}`{:08x}", format_args!("{:x}", a >> 32), a as u32, b >> 32, b as u32), &fake), Ok(a.wrapping_add(b)));
    }
}
