//! The layer on real dumps, cabinets and damaged files, which lie beside the project. Their table is the README there.

use std::path::PathBuf;

use super::*;

/// The folder of dumps; prints why when it is absent.
pub(crate) fn dumps() -> Option<PathBuf> {
    crate::shared("dumps")
}

fn open(path: &Path) -> Result<Dump, String> {
    Dump::open(path, &OpenOptions::default()).map_err(|error| error.to_string())
}

/// FILETIME as `2017-11-13 07:39:51`.
fn utc(filetime: u64) -> String {
    let seconds = filetime / 10_000_000;
    let (days, rest) = ((seconds / 86_400) as i64 - 134_774, seconds % 86_400);
    // Civil date from days since 1970 (Howard Hinnant's algorithm).
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// One row of the README's table, made from the dump.
fn row(name: &str, dump: &Dump) -> String {
    let (header, triage) = (dump.header(), dump.triage().unwrap());
    let bug_check = header.bug_check.unwrap();
    let parameters: Vec<String> = bug_check.parameters.iter().map(|value| format!("{value:x}")).collect();
    let nt = &triage.drivers[0];
    format!(
        "| real/{name} | {} | {} | {:x}.{} | {} | {:x} ({}) | {} | drivers {}, unloaded {}, blocks {}, \
         opts {:#x}, SizeOfDump {}, TRGD {}; nt {:08X}{:x} |",
        dump.file_size(),
        dump.machine(),
        header.major_version.unwrap(),
        header.minor_version.unwrap(),
        header.number_processors.unwrap(),
        bug_check.code,
        parameters.join(", "),
        utc(header.system_time.unwrap()),
        triage.drivers.len(),
        triage.unloaded_drivers.len(),
        triage.data_blocks_count,
        triage.options,
        triage.size_of_dump,
        if triage.valid { "ok" } else { "missing" },
        nt.time_date_stamp,
        nt.size,
    )
}

#[test]
fn real_dumps_match_their_table() {
    let Some(dumps) = dumps() else { return };
    let readme = std::fs::read_to_string(dumps.join("README.md")).unwrap();
    let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| real/")).collect();
    assert!(!rows.is_empty());
    for expected in rows {
        let name = expected.trim_start_matches("| real/").split(' ').next().unwrap();
        for no_mmap in [false, true] {
            let options = OpenOptions { no_mmap, ..OpenOptions::default() };
            let dump = Dump::open(&dumps.join("real").join(name), &options).unwrap();
            assert_eq!(row(name, &dump), expected);
            assert_eq!(dump.problems(), [], "{name}");
            let triage = dump.triage().unwrap();
            assert!(triage.drivers.iter().all(|driver| !driver.name.is_empty()), "{name}");
            let unloaded = &triage.unloaded_drivers;
            assert!(
                unloaded.iter().all(|driver| driver.start < driver.end && !driver.name.is_empty()),
                "{name}"
            );
            let blocks = dump.virtual_blocks().unwrap();
            for block in blocks.source() {
                assert!(blocks.bytes(block.va, 1).is_ok(), "{name}: {block:x?}");
            }
            for part in [triage.prcb, triage.process, triage.thread, triage.call_stack, triage.debugger_data]
            {
                let part = part.expect(name);
                assert!(part.size > 0x100 && dump.read_range(part).is_some(), "{name}: {part:x?}");
            }
            let tag = dump.read_range(triage.debugger_data.unwrap()).unwrap();
            assert_eq!(&tag[0x10..0x14], b"KDBG", "{name}");
        }
    }
}

#[test]
fn secondary_data_of_real_dumps() {
    let Some(dumps) = dumps() else { return };
    let dump = open(&dumps.join("real/x64-19041-7e.dmp")).unwrap();
    assert!(!dump.tagged_data().is_empty());
    for blob in dump.tagged_data() {
        assert!(dump.tagged_bytes(blob).is_some());
    }
}

#[test]
fn corrupt_files_are_explained() {
    let Some(dumps) = dumps() else { return };
    let error = |name: &str| open(&dumps.join("corrupt").join(name)).err().unwrap();
    assert!(error("empty.dmp").contains("is empty"), "{}", error("empty.dmp"));
    let text = error("zeroed-signature.dmp");
    assert!(text.contains("signature") && text.contains("zero"), "{text}");
    let cut = open(&dumps.join("corrupt/truncated-blocks.dmp")).unwrap();
    assert!(cut.problems()[0].to_string().contains("blocks of memory"), "{:?}", cut.problems());
    let blocks = cut.virtual_blocks().unwrap();
    assert!(!blocks.broken().is_empty());
    assert_eq!(blocks.bytes(blocks.broken()[0].va, 1).unwrap_err(), Absent::Broken);
    // Cut in the triage data: the header is whole and must be usable.
    let cut = open(&dumps.join("corrupt/truncated-header.dmp")).unwrap();
    assert!(cut.header().bug_check.is_some());
    assert!(!cut.problems().is_empty());
    let full = open(&dumps.join("corrupt/full-cut-at-16k.dmp")).unwrap();
    assert!(full.problems()[0].to_string().contains("pages"), "{}", full.problems()[0]);
    for name in ["truncated-blocks.dmp", "truncated-header.dmp", "full-cut-at-16k.dmp"] {
        let dump = open(&dumps.join("corrupt").join(name)).unwrap();
        println!(
            "{name}: {}",
            dump.problems().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        );
        dump.layout();
    }
}

#[test]
fn user_mode_minidumps_are_named() {
    let Some(dumps) = dumps() else { return };
    for name in ["minidump-x86.dmp", "truncated.dmp"] {
        let text = open(&dumps.join("usermode").join(name)).err().unwrap();
        println!("{text}");
        assert!(text.contains("user-mode minidump"), "{text}");
        // The name of the file says x86; its system information says which machine it really is.
        assert_eq!(text.contains("MDMP, x64"), name == "minidump-x86.dmp", "{text}");
    }
}

#[test]
fn cabinets() {
    let Some(dumps) = dumps() else { return };
    let cab = dumps.join("cab");
    let same = open(&dumps.join("real/x64-9600-50.dmp")).unwrap();
    for name in ["one-dump.cab", "stored.cab", "two-dumps.cab"] {
        let dump = open(&cab.join(name)).unwrap();
        assert_eq!(dump.archive_member(), Some("111317-27812-01.dmp"), "{name}");
        assert_eq!(dump.path(), cab.join(name));
        assert!(dump.triage().unwrap().valid);
        assert_eq!(dump.kind(), same.kind());
    }
    let options = OpenOptions { member: Some("SECOND.DMP".into()), ..OpenOptions::default() };
    let dump = Dump::open(&cab.join("two-dumps.cab"), &options).unwrap();
    assert_eq!(dump.archive_member(), Some("second.dmp"));
    let options = OpenOptions { member: Some("third.dmp".into()), ..OpenOptions::default() };
    let text = Dump::open(&cab.join("two-dumps.cab"), &options).err().unwrap().to_string();
    assert!(text.contains("third.dmp") && text.contains("second.dmp"), "{text}");
    let options = OpenOptions { member: Some("readme.txt".into()), ..OpenOptions::default() };
    let text = Dump::open(&cab.join("two-dumps.cab"), &options).err().unwrap().to_string();
    assert!(text.contains("text file") && text.contains("readme.txt"), "{text}");
    let text = open(&cab.join("no-dump.cab")).err().unwrap();
    assert!(text.contains("holds no dump") && text.contains("readme.txt"), "{text}");
    let text = open(&cab.join("cut.cab")).err().unwrap();
    assert!(text.contains("cut at 0x4e20"), "{text}");
    let stop = |_: u64, _: u64| false;
    let options = OpenOptions { progress: Some(&stop), ..OpenOptions::default() };
    assert!(matches!(Dump::open(&cab.join("one-dump.cab"), &options), Err(DumpError::Interrupted)));
    let options = OpenOptions { member: Some("a".into()), ..OpenOptions::default() };
    let plain = Dump::open(&dumps.join("real/x64-9600-50.dmp"), &options);
    assert!(matches!(plain, Err(DumpError::NotAnArchive { .. })));
}
