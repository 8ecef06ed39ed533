//! Processors and address translation on every generation in every kind of dump: page table entries of pages in every
//! state, translation in both directions, what addresses lie in; control regions and blocks, interrupt descriptors,
//! queued spin locks, the shared page, what the machine tells of itself.

use super::every_kind::{Case, every_kind, list, number};
use super::one_dump::Lab;
use kd_tests::lab::layout::Machine;
use kd_tests::lab::world::Story;
use kd_tests::lab::writer::Kind;
use serde_json::Value;

/// The moment of every crash of the laboratory.
const MOMENT: &str = "!filetime 0n133604148300000000";

fn story(index: usize) -> Story {
    [Story::Idle, Story::CrashInDriver, Story::Deadlock][index % 3]
}

/// The entry of an address in the window.
fn entry_of(truth: &Value, va: u64) -> u64 {
    let tables = &truth["page_tables"];
    let mask = if number(&truth["kernel_base"]) >> 32 == 0 { 0xffff_ffff } else { 0xffff_ffff_ffff };
    number(&tables["base"]) + (va & mask) / 0x1000 * number(&tables["entry_size"])
}

fn probes(truth: &Value) -> &[Value] {
    list(&truth["probes"])
}

fn va(probe: &Value) -> u64 {
    number(&probe["va"])
}

/// The address of a page that the processor maps, in the program.
fn mapped(truth: &Value) -> &Value {
    probes(truth).iter().find(|probe| probe["state"] == "valid").unwrap()
}

#[test]
fn entries_say_where_pages_are() {
    let commands = |truth: &Value| {
        let mut all = Vec::new();
        for probe in probes(truth) {
            let va = va(probe);
            all.push(format!("!pte {va:#x}"));
            all.push(format!("!vtop 0 {va:#x}"));
            all.push(format!("!pte2va {:#x}", entry_of(truth, va)));
        }
        let va = va(mapped(truth));
        let root = number(&truth["directory_table_base"]);
        all.push(format!("!pte {:#x}", entry_of(truth, va)));
        all.push(format!("!pte {:#x} 1", entry_of(truth, va)));
        all.push(format!("!pte {va:#x} {:#x}", va + 0x5fff));
        all.push(format!("!vtop {root:#x} {va:#x}"));
        all.push(format!("!ptov {root:#x} {va:#x} {:#x}", va + 0x5fff));
        all.push(format!("!ptov {:#x}", number(&truth["system_root"])));
        all
    };
    every_kind(story, commands, check_tables);
}

fn check_tables(case: &Case<'_>) {
    let (what, truth) = (&case.what, case.truth);
    if !case.has_kernel() {
        for probe in probes(truth) {
            let record = case.record(&format!("!pte {:#x}", va(probe)));
            assert_eq!(record["status"], "failed", "{what}: {record}");
            assert!(record.to_string().contains("holds no physical memory"), "{what}: {record}");
        }
        return;
    }
    for probe in probes(truth) {
        check_probe(case, probe);
    }
    let va = va(mapped(truth));
    let pte = entry_of(truth, va);
    // The address of the entry stands for the page.
    let (by_page, by_entry) = (case.data(&format!("!pte {va:#x}")), case.data(&format!("!pte {pte:#x}")));
    assert_eq!(by_page, by_entry, "{what}");
    // The laboratory's programs with PAE do not see their own tables, only the system's.
    let narrow = number(&truth["kernel_base"]) >> 32 == 0;
    if !narrow || truth["page_tables"]["entry_size"] == 4 {
        let literal = case.data(&format!("!pte {pte:#x} 1"));
        assert_eq!(
            literal["levels"][1]["entry"],
            by_page["levels"].as_array().unwrap().last().unwrap()["entry"],
            "{what}"
        );
    }
    let range = case.data(&format!("!pte {va:#x} {:#x}", va + 0x5fff));
    let pages: Vec<u64> = list(&range["pages"]).iter().map(|page| number(&page["va"])).collect();
    assert_eq!(pages, (0..6).map(|page| va + page * 0x1000).collect::<Vec<_>>(), "{what}");
    assert_eq!(range["pages"][0]["levels"], by_page["levels"], "{what}");
    // Only the page that is valid is mapped; the processor knows no other.
    let root = number(&truth["directory_table_base"]);
    let found = case.data(&format!("!ptov {root:#x} {va:#x} {:#x}", va + 0x5fff));
    assert_eq!((&found["pages"], list(&found["mappings"]).len()), (&1.into(), 1), "{what}: {found}");
    let physical = number(&mapped(truth)["physical"]);
    assert_eq!(number(&found["mappings"][0]["physical"]), physical, "{what}");
    assert_eq!(number(&case.data(&format!("!vtop {root:#x} {va:#x}"))["physical"]), physical, "{what}");
    check_map(case);
}

/// All that the system maps: every module's first page is among it.
fn check_map(case: &Case<'_>) {
    let (what, truth) = (&case.what, case.truth);
    let all = case.data(&format!("!ptov {:#x}", number(&truth["system_root"])));
    let holds = |va: u64| {
        list(&all["mappings"]).iter().any(|run| {
            let start = number(&run["va"]);
            (start..start + number(&run["pages"]) * number(&run["page_size"])).contains(&va)
        })
    };
    for module in list(&truth["modules"]) {
        assert!(holds(number(&module["base"])), "{what}: {module}");
    }
    assert!(
        probes(truth).iter().filter(|probe| probe["state"] != "not captured").all(|probe| !holds(va(probe))),
        "{what}"
    );
    let sum: u64 = list(&all["mappings"]).iter().map(|run| number(&run["pages"])).sum();
    assert_eq!(number(&all["pages"]), sum, "{what}");
}

fn check_probe(case: &Case<'_>, probe: &Value) {
    let truth = case.truth;
    let address = va(probe);
    let data = case.data(&format!("!pte {address:#x}"));
    let what = format!("{} {probe}: {data}", case.what);
    let levels = list(&data["levels"]);
    let last = levels.last().unwrap();
    let state = match probe["state"].as_str().unwrap() {
        "valid" | "not captured" => "page",
        "page file" => "page_file",
        "demand zero" => "demand_zero",
        "not mapped" => "zero",
        same => same,
    };
    assert_eq!(last["state"], state, "{what}");
    if state != "zero" {
        assert_eq!(last["level"], "PTE", "{what}");
        assert_eq!(number(&last["at"]), entry_of(truth, address), "{what}");
    }
    if !probe["physical"].is_null() {
        assert_eq!(number(&data["physical"]), number(&probe["physical"]), "{what}");
    }
    match state {
        "page" => {
            let letters = last["letters"].as_str().unwrap();
            let owner = if address >> 47 == 0 && address < 0x8000_0000_0000 && probe["state"] == "valid" {
                'U'
            } else {
                'K'
            };
            assert!(letters.len() == 11 && letters.ends_with('V') && letters.contains(owner), "{what}");
        }
        "page_file" => {
            assert_eq!(
                (&last["page_file"], number(&last["page_file_offset"])),
                (&2.into(), 0x1234),
                "{what}"
            );
            assert_eq!(last["protection"], 4, "{what}");
        }
        "prototype" => {
            assert_eq!(data["prototype"]["state"], "transition", "{what}");
            assert!(!data["physical"].is_null(), "{what}");
        }
        _ => {}
    }
    let translated = case.data(&format!("!vtop 0 {address:#x}"));
    assert_eq!(translated["physical"], data["physical"], "{what}: {translated}");
    assert_eq!(translated["why"].is_null(), !data["physical"].is_null(), "{what}: {translated}");
    let back = case.data(&format!("!pte2va {:#x}", entry_of(truth, address)));
    assert_eq!(number(&back["va"]), address & !0xfff, "{what}");
}

#[test]
fn addresses_lie_in_what_they_lie_in() {
    let commands = |truth: &Value| {
        let mut all = vec![
            format!("!address {:#x}", number(&truth["kernel_base"])),
            format!("!address {:#x}", number(&truth["stack"][0]["sp"])),
            format!("!address {:#x}", number(&truth["processors"][1]["prcb"])),
            format!("!address {:#x}", number(&truth["facts"]["shared_data"]["address"])),
            format!("!address {:#x}", entry_of(truth, number(&truth["kernel_base"]))),
            format!("!address {:#x}", va(mapped(truth))),
        ];
        all.extend(
            list(&truth["facts"]["va_types"]).iter().map(|one| format!("!address {:#x}", number(&one["va"]))),
        );
        all.extend(["!kuser", "!gflag", "!gflag -?", MOMENT, "!whattime 40"].map(str::to_owned));
        all
    };
    every_kind(story, commands, |case| {
        let (what, truth) = (&case.what, case.truth);
        let data = |va: u64| case.data(&format!("!address {va:#x}"));
        // These need nothing of the dump.
        assert_eq!(list(&case.data("!gflag -?")["known"]).len(), 32, "{what}");
        assert!(case.data(MOMENT)["time"].as_str().unwrap().starts_with("2024-05-17T10:20:30"), "{what}");
        assert_eq!(number(&case.data("!whattime 40")["span"]), 0x40 * 156_250, "{what}");
        if case.kind != Kind::HeaderOnly {
            let base = number(&truth["kernel_base"]);
            let module = data(base);
            assert_eq!(
                (&module["usage"], &module["module"]),
                (&"Module".into(), &"ntoskrnl.exe".into()),
                "{what}"
            );
            assert_eq!(number(&module["start"]), base, "{what}");
            // Small dumps of Windows XP do not tell which thread ran.
            if case.has_kernel() || case.generation.build > 2600 {
                let stack = data(number(&truth["stack"][0]["sp"]));
                assert_eq!(stack["usage"], "KernelStack", "{what}: {stack}");
                assert_eq!(number(&stack["thread"]), truth["thread"], "{what}: {stack}");
            }
        }
        if !case.has_kernel() {
            // A small dump may hold the shared page, a bare header cannot.
            let record = case.record("!kuser");
            match record["status"].as_str() {
                Some("ok") if case.kind == Kind::Triage => check_shared_data(case),
                Some("failed") => assert!(record.to_string().contains("not captured"), "{what}: {record}"),
                _ => panic!("{what}: {record}"),
            }
            return;
        }
        let region = data(number(&truth["processors"][1]["prcb"]));
        assert_eq!(
            (&region["usage"], &region["processor"]),
            (&"ProcessorControlRegion".into(), &1.into()),
            "{what}"
        );
        assert_eq!(number(&region["start"]), truth["facts"]["cpus"][1]["pcr"], "{what}");
        assert_eq!(
            data(number(&truth["facts"]["shared_data"]["address"]))["usage"],
            "SharedUserData",
            "{what}"
        );
        let tables = data(entry_of(truth, number(&truth["kernel_base"])));
        assert_eq!(tables["usage"], "PageTables", "{what}: {tables}");
        assert_eq!(number(&tables["start"]), truth["page_tables"]["base"], "{what}");
        for one in list(&truth["facts"]["va_types"]) {
            let found = data(number(&one["va"]));
            assert_eq!(found["va_type"], one["type"], "{what}: {found}");
            assert_eq!(number(&found["start"]), one["start"], "{what}: {found}");
        }
        check_shared_data(case);
        check_flags(case);
    });
}

fn check_shared_data(case: &Case<'_>) {
    let (what, wanted, found) = (&case.what, &case.truth["facts"]["shared_data"], case.data("!kuser"));
    for (key, fact) in [
        ("address", "address"),
        ("interrupt_time", "interrupt_time"),
        ("tick_count", "tick_count"),
        ("boot_id", "boot_id"),
        ("crypto_exponent", "crypto_exponent"),
        ("time_zone_id", "time_zone_id"),
        ("console_session", "console_session"),
        ("physical_pages", "physical_pages"),
    ] {
        match &wanted[fact] {
            Value::Null => assert!(found[key].is_null(), "{what} {key}: {found}"),
            value => assert_eq!(number(&found[key]), *value, "{what} {key}"),
        }
    }
    assert_eq!(
        (&found["system_root"], &found["product"]),
        (&r"C:\Windows".into(), &"NtProductWinNt".into()),
        "{what}"
    );
    assert!(found["system_time"].as_str().unwrap().starts_with("2024-05-17T10:20:30"), "{what}: {found}");
}

fn check_flags(case: &Case<'_>) {
    let what = &case.what;
    let flags = case.data("!gflag");
    assert_eq!(number(&flags["flags"]), case.truth["facts"]["global_flags"], "{what}");
    let names: Vec<_> = list(&flags["names"]).iter().map(|flag| number(&flag["bit"])).collect();
    assert_eq!(names, [0x400, 0x200_0000], "{what}");
}

#[test]
fn processors_tell_what_they_did() {
    let commands = |_: &Value| {
        let mut all: Vec<String> =
            (0..3).flat_map(|n| ["pcr", "prcb", "irql"].map(|c| format!("!{c} {n}"))).collect();
        let more = [
            "!cpuinfo",
            "!cpuid",
            "!cpuinfo 1",
            "!pcr 3",
            "!idt",
            "!idt -a",
            "!idt e",
            "!idt fff",
            "!qlocks",
        ];
        all.extend(more.map(str::to_owned));
        all.extend(["machineid", "smbios", "cpuinfo", "cpuspeed"].map(|what| format!("!sysinfo {what}")));
        all
    };
    every_kind(story, commands, |case| {
        let what = &case.what;
        let beyond = case.record("!pcr 3");
        assert!(
            beyond["status"] == "failed" && beyond.to_string().contains("no processor 3"),
            "{what}: {beyond}"
        );
        // A small dump holds one processor's block, the others nothing or everything.
        // Windows XP does not tell where in its small dumps that is.
        let small = case.kind == Kind::Triage && case.generation.build > 2600;
        let held = if case.has_kernel() { 3 } else { usize::from(small) };
        for index in 0..3 {
            check_processor(case, index, index < held);
        }
        check_makes(case, held);
        check_descriptors(case);
        check_locks(case, held);
        check_hardware(case);
    });
}

/// The symbols of 24H2 tell only the beginning of a processor's block.
fn tells_less(case: &Case<'_>) -> bool {
    !case.generation.tells("_KPRCB.TimerTable")
}

fn check_processor(case: &Case<'_>, index: usize, held: bool) {
    let what = format!("{} {index}", case.what);
    let (fact, truth) = (&case.truth["facts"]["cpus"][index], &case.truth["processors"][index]);
    let records = ["pcr", "prcb", "irql"].map(|command| case.record(&format!("!{command} {index}")));
    if !held {
        for record in records {
            let text = record.to_string();
            // Where the block is may be known without what is in it.
            let found = &record["data"]["prcb"];
            assert!(record["status"] == "failed" || number(found) == truth["prcb"], "{what}: {record}");
            assert!(text.contains("not captured") || text.contains("symbols"), "{what}: {record}");
        }
        return;
    }
    let same = |found: &Value, wanted: &Value, key: &str| match wanted {
        Value::Null => assert!(found.is_null(), "{what} {key}: {found}"),
        _ if found.is_null() && tells_less(case) => {}
        wanted => assert_eq!(number(found), *wanted, "{what} {key}"),
    };
    let [pcr, prcb, irql] = records;
    for record in [pcr, prcb] {
        assert_eq!(record["status"], "ok", "{what}: {record}");
        assert_eq!(number(&record["data"]["prcb"]), truth["prcb"], "{what}: {record}");
    }
    same(&pcr["data"]["pcr"], &fact["pcr"], "pcr");
    if case.has_kernel() {
        for key in ["major", "minor", "idr", "idt", "exception_list"] {
            same(&pcr["data"][key], &fact[key], key);
        }
        same(&pcr["data"]["irql"], &fact["current_irql"], "irql");
    } else {
        assert!(case.said(&format!("!pcr {index}")).contains("not captured"), "{what}: {pcr}");
    }
    for key in ["interrupt_count", "kernel_time", "user_time", "dpc_time", "interrupt_time"] {
        same(&prcb["data"][key], &fact[key], key);
    }
    let member = if fact["set_member"].is_null() { "group_set_member" } else { "set_member" };
    same(&prcb["data"]["set_member"], &fact[member], "set_member");
    same(&prcb["data"]["number"], &truth["number"], "number");
    assert_eq!(prcb["data"]["current_thread"], pcr["data"]["current_thread"], "{what}");
    if index == 0 && case.truth["thread"] != 0 {
        assert_eq!(number(&prcb["data"]["current_thread"]), case.truth["thread"], "{what}");
    }
    match (&fact["irql"], &fact["current_irql"]) {
        (Value::Null, Value::Null) => assert_eq!(irql["status"], "failed", "{what}: {irql}"),
        // Windows XP: the level of the moment, which stands in the region.
        (Value::Null, _) if !case.has_kernel() => assert_eq!(irql["status"], "failed", "{what}: {irql}"),
        // 24H2: where it was saved is told no more.
        _ if tells_less(case) && irql["status"] == "failed" => assert!(!case.has_kernel(), "{what}: {irql}"),
        _ if tells_less(case) => assert_eq!(irql["data"]["saved"], false, "{what}: {irql}"),
        (saved, current) => {
            let wanted = if saved.is_null() { current } else { saved };
            same(&irql["data"]["irql"], wanted, "irql");
            assert_eq!(irql["data"]["saved"], !saved.is_null(), "{what}");
            let name = if *wanted == 2 { "DISPATCH_LEVEL" } else { "LOW_LEVEL" };
            assert_eq!(irql["data"]["name"], name, "{what}");
        }
    }
}

fn check_makes(case: &Case<'_>, held: usize) {
    let what = &case.what;
    for command in ["!cpuinfo", "!cpuid"] {
        if held == 0 {
            assert_eq!(case.record(command)["status"], "failed", "{what}");
            continue;
        }
        let rows = list(&case.data(command)["processors"]);
        assert_eq!(rows.len(), held, "{what} {command}");
        for (row, fact) in rows.iter().zip(list(&case.truth["facts"]["cpus"])) {
            let arm = case.generation.machine == Machine::Arm64;
            let (vendor, family) = if arm { ("Q", 8) } else { ("GenuineIntel", 6) };
            let makes = (&row["vendor"], &row["mhz"], &row["family"]);
            assert_eq!(makes, (&vendor.into(), &2400.into(), &family.into()), "{what}");
            if arm {
                assert_eq!(row["model"], 0x805, "{what}");
            } else {
                assert_eq!((&row["model"], &row["stepping"]), (&0x3a.into(), &9.into()), "{what}");
            }
            if command == "!cpuinfo" && !fact["features"].is_null() && !row["features"].is_null() {
                assert_eq!(number(&row["features"]), fact["features"], "{what}");
                let same = fact["signature"].is_null() || number(&row["signature"]) == fact["signature"];
                assert!(same, "{what}: {row}");
            }
        }
    }
    assert_eq!(case.record("!cpuinfo 1")["status"], if held > 1 { "ok" } else { "failed" }, "{what}");
}

fn check_descriptors(case: &Case<'_>) {
    let what = &case.what;
    if case.generation.machine == Machine::Arm64 || !case.has_kernel() {
        let text = case.record("!idt").to_string();
        assert_eq!(case.record("!idt")["status"], "failed", "{what}: {text}");
        assert!(
            ["arm64 has no", "not captured", "symbols"].iter().any(|why| text.contains(why)),
            "{what}: {text}"
        );
        return;
    }
    let found = case.data("!idt");
    let fact = &case.truth["facts"]["cpus"][number(&found["processor"]) as usize];
    assert_eq!(number(&found["base"]), fact["idt"], "{what}");
    let (vectors, gates) = (list(&found["vectors"]), list(&fact["gates"]));
    assert_eq!(vectors.len(), gates.len(), "{what}: {found}");
    for (found, wanted) in vectors.iter().zip(gates) {
        assert_eq!(found["vector"], wanted["vector"], "{what}");
        assert_eq!(number(&found["handler"]), wanted["handler"], "{what}");
        let (objects, claims) = (list(&found["interrupts"]), list(&wanted["interrupts"]));
        if tells_less(case) && objects.is_empty() {
            continue;
        }
        assert_eq!(objects.len(), claims.len(), "{what}: {found}");
        for (object, claim) in objects.iter().zip(claims) {
            assert_eq!(number(&object["interrupt"]), claim["interrupt"], "{what}");
            assert_eq!(number(&object["context"]), claim["context"], "{what}");
            assert_eq!(object["symbol"], "faultdrv!TimerDpc", "{what}");
        }
        if claims.is_empty() {
            assert_eq!(found["symbol"], wanted["symbol"], "{what}");
        }
        if wanted["stack"].is_u64() {
            assert_eq!(number(&found["stack"]), wanted["stack"], "{what}");
        }
    }
    assert_eq!(list(&case.data("!idt -a")["vectors"]).len(), 256, "{what}");
    assert_eq!(case.data("!idt e")["vectors"][0], found["vectors"][0], "{what}");
    assert!(case.record("!idt fff").to_string().contains("no vector fff"), "{what}");
}

fn check_locks(case: &Case<'_>, held: usize) {
    let (what, wanted) = (&case.what, &case.truth["facts"]["queued_lock"]);
    let untold = held == 0 || tells_less(case);
    if wanted.is_null() || untold && case.record("!qlocks")["status"] == "failed" {
        return;
    }
    let found = case.data("!qlocks");
    for lock in list(&found["locks"]) {
        let contended = lock["index"] == wanted["index"];
        for (index, state) in list(&lock["states"]).iter().enumerate() {
            let expected = match (index < held, contended) {
                (false, _) => "?".into(),
                // The chain behind the owner leads to blocks that a small dump does not hold.
                (true, true) => wanted["states"][index].clone(),
                (true, false) => "".into(),
            };
            assert_eq!(*state, expected, "{what}: {lock}");
        }
        if contended && held > 0 {
            assert_eq!(
                (&lock["name"], number(&lock["lock"])),
                (&"IO   - Cancel".into(), number(&wanted["lock"])),
                "{what}"
            );
        }
    }
}

fn check_hardware(case: &Case<'_>) {
    let (what, wanted) = (&case.what, &case.truth["facts"]["hardware"]);
    let machine = case.record("!sysinfo machineid");
    if machine["status"] == "failed" {
        // Dumps without secondary data.
        assert!(!matches!(case.kind, Kind::Triage | Kind::BitmapFull), "{what}: {machine}");
        for form in ["machineid", "smbios", "cpuinfo", "cpuspeed"] {
            let text = case.record(&format!("!sysinfo {form}")).to_string();
            assert!(text.contains("not captured") || text.contains("symbols"), "{what} {form}: {text}");
        }
        return;
    }
    let machine = &machine["data"];
    for (key, fact) in [
        ("bios_vendor", "vendor"),
        ("bios_version", "version"),
        ("system_product_name", "product"),
        ("base_board_product", "board"),
        ("bios_major_release", "major"),
        ("bios_minor_release", "minor"),
        ("size", "size"),
    ] {
        assert_eq!(machine[key], wanted[fact], "{what} {key}");
    }
    assert_eq!(machine["smbios_version"], "3.1", "{what}");
    let structures = list(&case.data("!sysinfo smbios")["structures"]);
    let kinds: Vec<_> = structures.iter().map(|one| number(&one["type"])).collect();
    assert_eq!(kinds, [0, 1, 2, 17, 127], "{what}");
    assert_eq!(
        (&structures[3]["megabytes"], &structures[3]["speed"]),
        (&wanted["megabytes"], &wanted["speed"]),
        "{what}"
    );
    let values = list(&case.data("!sysinfo cpuinfo")["values"]);
    assert_eq!((&values[0]["name"], &values[0]["data"]), (&"~MHz".into(), &"2400".into()), "{what}");
    assert_eq!(values[1]["data"], wanted["brand"], "{what}");
    assert_eq!(case.data("!sysinfo cpuspeed")["name"], wanted["brand"], "{what}");
    if case.record("!cpuid")["status"] == "ok" {
        let found = case.data("!cpuid");
        assert_eq!(found["brand"], wanted["brand"], "{what}");
        assert_eq!(number(&found["leaves"][0]["eax"]), 0x306a9, "{what}");
        assert_eq!(
            (&found["leaves"][1]["second"], list(&found["leaves"]).len()),
            (&true.into(), 5),
            "{what}"
        );
    }
}

/// The same tables looked at through another process, and KD's layout.
#[test]
fn what_people_see() {
    let lab = Lab::new("x64-19041", Story::Idle);
    let process = |name: &str| {
        let found =
            list(&lab.world.truth()["processes"]).iter().find(|process| process["name"] == name).cloned();
        found.unwrap_or_else(|| panic!("no process {name}"))
    };
    let other = process("services.exe");
    let truth = lab.world.truth();
    let va = va(mapped(&truth));
    let set = format!(".process /p {:#x}", number(&other["eprocess"]));
    let run =
        lab.run(Kind::BitmapFull, &format!("!pte {va:#x}; {set}; !pte {va:#x}; !vtop 0 {va:#x}"), false);
    let lines: Vec<&str> = run.stdout.lines().skip_while(|line| !line.contains("VA 0000")).collect();
    assert!(lines[0].trim().starts_with(&format!("VA {va:016x}")), "{lines:?}");
    let columns = ["PXE at ", "PPE at ", "PDE at ", "PTE at "];
    assert!(
        columns.iter().enumerate().all(|(n, column)| lines[1].get(27 * n..).unwrap().starts_with(column)),
        "{lines:?}"
    );
    assert!(lines[2].starts_with("contains 0") && lines[3].starts_with("pfn "), "{lines:?}");
    assert!(lines[3].ends_with("V") && lines[3].contains("---DA--UWEV"), "{lines:?}");
    // The other process has nothing there.
    let second = lines.iter().skip(4).position(|line| line.contains(&format!("VA {va:016x}"))).unwrap() + 4;
    assert!(lines[second + 3].trim_end().ends_with("not valid"), "{lines:?}");
    assert!(run.stdout.contains("Amd64VtoP: PDPE not present: not mapped\n"), "{}", run.stdout);
    let root = number(&other["directory_table_base"]);
    assert!(
        run.stdout.contains(&format!("Amd64VtoP: Virt {va:016x}, pagedir {root:016x}\n")),
        "{}",
        run.stdout
    );
}

/// Both other schemes of x64 and x86: five levels, and the machine's own idea of 8-byte entries.
#[test]
fn every_scheme_is_walked() {
    use kd_tests::lab::world::{Options, World};
    use kd_tests::lab::writer;
    for (name, five_levels, pae, levels) in [
        ("x64-22000", true, true, ["PX5E", "PXE", "PPE", "PDE", "PTE"].as_slice()),
        ("x64-7601", false, true, ["PXE", "PPE", "PDE", "PTE"].as_slice()),
        ("x86-7601", false, true, ["PPE", "PDE", "PTE"].as_slice()),
        ("x86-7601", false, false, ["PDE", "PTE"].as_slice()),
    ] {
        let world = World::build(Options { five_levels, pae, ..Options::new(name) });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump");
        writer::write(&world, Kind::Full, &path).unwrap();
        let truth = world.truth();
        let probes = probes(&truth);
        let line: Vec<String> = probes.iter().map(|probe| format!("!pte {:#x}", va(probe))).collect();
        let run = super::program::kd([
            "--json",
            "-z",
            &super::program::arg(&path),
            "-c",
            &format!("{}; q", line.join("; ")),
        ])
        .run();
        for (probe, command) in probes.iter().zip(&line) {
            let record = run.records().into_iter().find(|record| record["command"] == *command).unwrap();
            let what = format!("{name} {five_levels} {pae} {probe}: {record}");
            let data = &record["data"];
            let found: Vec<_> =
                list(&data["levels"]).iter().map(|level| level["level"].as_str().unwrap()).collect();
            assert!(levels.starts_with(&found), "{what}");
            assert_eq!(found.len() == levels.len(), probe["state"] != "not mapped", "{what}");
            if !probe["physical"].is_null() {
                assert_eq!(number(&data["physical"]), number(&probe["physical"]), "{what}");
            }
        }
    }
}
