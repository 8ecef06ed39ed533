//! The target layer on real small dumps and against KD's own output, where those are at hand.

use std::path::Path;

use super::rows::{self, mask};
use super::*;
use crate::dump::OpenOptions;
use kd_sdk::nt::time;

fn open(shared: &Path, name: &str) -> Target {
    let path = shared.join("dumps/real").join(name);
    Target::open(Dump::open(&path, &OpenOptions::default()).unwrap())
}

/// What KD printed for a command, up to the next one.
fn section<'a>(text: &'a str, command: &str) -> Vec<&'a str> {
    let start = format!(">>> {command}");
    let lines = text.lines().skip_while(|line| *line != start).skip(1);
    lines.take_while(|line| !line.starts_with(">>> ")).collect()
}

/// (file, modules, unloaded, processors, crashing processor)
const ROWS: &[(&str, usize, usize, usize, u32)] = &[
    ("x64-9600-a0000001.dmp", 166, 9, 4, 1),
    ("x64-9600-50.dmp", 164, 10, 4, 2),
    ("x64-9600-7e.dmp", 179, 16, 4, 0),
    ("x64-19041-101.dmp", 207, 10, 16, 5),
    ("x64-19041-50.dmp", 206, 8, 16, 2),
    ("x64-19041-1e.dmp", 208, 21, 16, 2),
    ("x64-19041-a.dmp", 216, 11, 12, 4),
    ("x64-19041-133.dmp", 197, 38, 24, 4),
    ("x64-19041-50-nx.dmp", 192, 7, 12, 1),
    ("x64-17763-7e.dmp", 108, 3, 8, 6),
    ("arm64-22000-1c8.dmp", 245, 11, 8, 0),
    ("x64-19041-7e.dmp", 151, 4, 16, 0),
];

#[test]
fn every_dump_becomes_a_machine() {
    let Some(shared) = crate::shared("") else { return };
    for &(name, modules, unloaded, processors, current) in ROWS {
        let target = open(&shared, name);
        assert_eq!(target.modules().len(), modules, "{name}");
        assert_eq!(target.unloaded().len(), unloaded, "{name}");
        assert_eq!(target.processors().len(), processors, "{name}");
        assert_eq!(target.current_processor(), current, "{name}");
        let kernel = target.module_named("nt").unwrap();
        assert_eq!(Some(kernel.base), target.kernel_base(), "{name}");
        assert!(kernel.is_kernel && target.module_at(kernel.base.add(0x1000)) == Some(kernel));
        let processor = target.processors()[current as usize];
        assert!(processor.prcb.is_some(), "{name}: {:?}", target.problems());
        assert!(processor.current_thread.is_some() && processor.current_process.is_some(), "{name}");
        let found = target.registers(current).unwrap();
        assert!(target.module_at(found.registers.ip()).is_some(), "{name} {:?}", found.source);
        assert!(
            found.registers.get(if target.machine() == Machine::Arm64 { "ttbr0" } else { "cr3" }).is_some()
        );
        for processor in target.processors() {
            let _ = target.registers(processor.number);
        }
        println!("{name}: {} {:?} {:?}", target.version().windows_line(), processor, target.problems());
    }
}

#[test]
fn registers_read_as_kd_shows_them() {
    let Some(shared) = crate::shared("") else { return };
    for (name, commands) in [
        (
            "x64-19041-7e",
            &[("r", mask::DEFAULT), ("rF", mask::FLOAT), ("rX", mask::XMM), ("rM 0xff", 0xff)][..],
        ),
        ("arm64-22000-1c8", &[("r", mask::DEFAULT), ("rF", mask::FLOAT)][..]),
    ] {
        let text = std::fs::read_to_string(shared.join(format!("reference/kd-output/{name}.txt"))).unwrap();
        let target = open(&shared, &format!("{name}.dmp"));
        let registers = target.registers(target.current_processor()).unwrap().registers;
        for &(command, mask) in commands {
            let rows = rows::rows(&registers, mask);
            let ours: Vec<String> = rows.iter().map(rows::Row::text).collect();
            // The rest is the symbol and the instruction.
            let theirs: Vec<&str> =
                section(&text, command).into_iter().take_while(|line| !line.starts_with("nt+")).collect();
            assert_eq!(ours, theirs, "{name} {command}");
        }
        let exception = target.exception().unwrap();
        assert_eq!((exception.code, exception.flags, exception.address), (0x8000_0003, 1, registers.ip()));
    }
}

#[test]
fn the_saved_registers_come_before_the_headers() {
    let Some(shared) = crate::shared("") else { return };
    let target = open(&shared, "x64-19041-7e.dmp");
    let current = target.registers(target.current_processor()).unwrap();
    assert_eq!(current.registers.ip(), Va(0xffff_f804_7bdf_5a80));
    assert_eq!(current.registers.sp(), Va(0xffff_8504_2989_0ee8));
    assert!(matches!(current.source, RegisterSource::Prcb(_)));
    assert_eq!(target.header_registers().unwrap().ip(), Va(0xffff_f804_8b58_334c));
    let other = target.registers(3).unwrap();
    assert_eq!(other.registers.ip(), Va(0xffff_f804_7bd8_d14d));
    assert!(matches!(target.registers(16), Err(RegisterError::NoProcessor { number: 16, count: 16 })));
}

#[test]
fn banners_read_as_kd_prints_them() {
    let Some(shared) = crate::shared("") else { return };
    for name in ["x64-19041-7e", "arm64-22000-1c8"] {
        let text = std::fs::read_to_string(shared.join(format!("reference/kd-output/{name}.txt"))).unwrap();
        let version = open(&shared, &format!("{name}.dmp")).version();
        let ours = [
            version.windows_line(),
            version.product_line().unwrap(),
            format!("Built by: {}", version.build_lab.as_deref().unwrap()),
            "Machine Name:".to_owned(),
            version.base_line(),
            version.time_line(),
            version.up_time_line(),
        ];
        let theirs = section(&text, "vertarget");
        assert_eq!(ours.as_slice(), &theirs[..ours.len()]);
        assert!(text.contains(version::kind_line(DumpKind::Triage)));
    }
}

#[test]
fn module_lists_read_as_kd_prints_them() {
    let Some(shared) = crate::shared("") else { return };
    for name in ["x64-19041-7e", "arm64-22000-1c8"] {
        let text = std::fs::read_to_string(shared.join(format!("reference/kd-output/{name}.txt"))).unwrap();
        let target = open(&shared, &format!("{name}.dmp"));
        let listed = section(&text, "lm t n");
        let lines = listed.iter().filter(|line| line.starts_with("fffff80"));
        for (module, line) in target.modules().iter().zip(lines) {
            let stamp = time::time_stamp(module.time_stamp);
            let ours =
                format!("{} {}   {:<8} {:<12} {stamp}", module.base, module.end(), module.name, module.image);
            assert_eq!(&ours, line);
        }
    }
}

/// Damages headers and tables of real dumps: nothing may panic or hang.
#[test]
fn damaged_dumps_never_panic() {
    let Some(shared) = crate::shared("") else { return };
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for name in ["x64-17763-7e.dmp", "x64-9600-50.dmp", "arm64-22000-1c8.dmp"] {
        let bytes = std::fs::read(shared.join("dumps/real").join(name)).unwrap();
        for round in 0..24 {
            let mut damaged = bytes.clone();
            for _ in 0..=round {
                // Mostly the header and the tables before the blocks.
                let reach = if round % 3 == 0 { 0x2200 } else { bytes.len().min(0x20000) };
                let at = random(reach - 8);
                let value = [0, u64::MAX, 0x8000, random(usize::MAX) as u64][random(4)];
                let size = [1, 4, 8][random(3)];
                damaged[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &damaged).unwrap();
            let Ok(dump) = Dump::open(file.path(), &OpenOptions { no_mmap: true, ..Default::default() })
            else {
                continue;
            };
            let target = Target::open(dump);
            let _ =
                (target.modules(), target.unloaded(), target.version().windows_line(), target.exception());
            for processor in target.processors() {
                if let Ok(found) = target.registers(processor.number) {
                    rows::rows(&found.registers, mask::ALL);
                }
            }
            if let Some(registers) = target.header_registers() {
                rows::rows(&registers, mask::ALL);
            }
        }
    }
}
