//! What belongs to processes: tokens, ranges, handles, environments, the job; and requests.

use super::super::every_kind::{Case, list, number};
use super::{facts, find, hex, process_names, teb};
use serde_json::Value;

pub fn requests(case: &Case<'_>) {
    let what = &case.what;
    assert!(!facts(case, "irps").is_empty(), "{what}");
    for irp in facts(case, "irps") {
        let shown = case.data(&format!("!irp {} 1", hex(&irp["irp"])));
        assert_eq!(number(&shown["address"]), irp["irp"], "{what}");
        assert_eq!(shown["stacks"], irp["stack_count"], "{what}: {irp}");
        assert_eq!(shown["current"], irp["current"], "{what}: {irp}");
        assert_eq!(shown["cancelled"], irp["cancelled"], "{what}: {irp}");
        assert_eq!(shown["pending_returned"], irp["completed"] == false, "{what}: {irp}");
        for key in ["thread", "cancel_routine", "user_buffer", "status"] {
            assert_eq!(number(&shown[key]), irp[key], "{what}: {key} {irp}");
        }
        let mdl = if irp["mdl"] == 0 { None } else { irp["mdl"].as_u64() };
        assert_eq!(shown["mdl"].as_str().map(|_| number(&shown["mdl"])), mdl, "{what}: {irp}");
        let locations = list(&shown["locations"]);
        assert_eq!(locations.len(), list(&irp["stack"]).len(), "{what}: {irp}");
        for (number_, (location, fact)) in (1u64..).zip(locations.iter().zip(list(&irp["stack"]))) {
            for key in ["major", "minor", "control", "device", "file", "completion", "context"] {
                assert_eq!(number(&location[key]), fact[key], "{what}: {key} {irp}");
            }
            assert_eq!(location["number"], number_, "{what}: {irp}");
            assert_eq!(location["current"], irp["current"] == number_, "{what}: {irp}");
            assert_eq!(location["driver"], r"\Driver\faultdrv", "{what}: {irp}");
            assert_eq!(number(&list(&location["arguments"])[0]), fact["parameters"][0], "{what}: {irp}");
            if fact["major"] == 14 {
                assert_eq!(number(&location["control_code"]), fact["parameters"][1], "{what}: {irp}");
            }
        }
    }
}

pub fn tokens(case: &Case<'_>) {
    for token in facts(case, "tokens") {
        check_token(case, case.data(&format!("!token {}", hex(&token["token"]))), token);
    }
    // Of the current process.
    let own = find(case, "tokens", "process", super::program(case.truth));
    check_token(case, case.data("!token"), own);
}

fn check_token(case: &Case<'_>, shown: &Value, token: &Value) {
    let what = &case.what;
    assert_eq!(number(&shown["address"]), token["token"], "{what}");
    assert_eq!(shown["user"], token["user"], "{what}: {token}");
    assert_eq!(shown["primary_group"], token["primary_group"], "{what}: {token}");
    assert_eq!(shown["session"], token["session"], "{what}: {token}");
    assert_eq!(shown["source"], token["source"].as_str().unwrap().trim_end(), "{what}: {token}");
    for (key, fact) in
        [("authentication_id", "authentication_id"), ("token_id", "id"), ("modified_id", "modified_id")]
    {
        assert_eq!(number(&shown[key]), token[fact], "{what}: {key} {token}");
    }
    let primary = token["type"] == 1;
    assert_eq!(shown["token_type"], if primary { "Primary" } else { "Impersonation" }, "{what}: {token}");
    let levels = ["Anonymous", "Identification", "Impersonation", "Delegation"];
    assert_eq!(shown["impersonation_level"], levels[number(&token["level"]) as usize], "{what}: {token}");
    let groups = |list: &[Value]| -> Vec<(String, u64)> {
        let one = |group: &Value| (group["sid"].as_str().unwrap().to_owned(), number(&group["attributes"]));
        list.iter().map(one).collect()
    };
    assert_eq!(groups(list(&shown["groups"])), groups(list(&token["groups"])), "{what}");
    let privileges = |list: &[Value]| -> Vec<(u64, bool, bool)> {
        let flag = |value: &Value| value.as_bool().unwrap();
        list.iter().map(|p| (number(&p["number"]), flag(&p["enabled"]), flag(&p["default"]))).collect()
    };
    assert_eq!(privileges(list(&shown["privileges"])), privileges(list(&token["privileges"])), "{what}");
}

pub fn vads(case: &Case<'_>) {
    let what = &case.what;
    if facts(case, "vads").is_empty() {
        assert!(case.generation.find("_EPROCESS.VadRoot").is_none(), "{what}");
        return;
    }
    for fact in facts(case, "vads") {
        let process = number(&fact["process"]);
        // A process that ended has lost them.
        if facts(case, "vads").iter().rev().find(|fact| fact["process"] == process) != Some(fact) {
            continue;
        }
        let data = case.data(&format!("!vad {}", hex(&fact["process"])));
        let (shown, wanted) = (list(&data["vads"]), list(&fact["vads"]));
        assert_eq!(shown.len(), wanted.len(), "{what}: {data}");
        assert_eq!(
            (&data["complete"], &data["totals"]["vads"]),
            (&true.into(), &wanted.len().into()),
            "{what}"
        );
        // KD counts the root as level 0.
        assert_eq!(data["totals"]["maximum_depth"], number(&fact["depth"]).saturating_sub(1), "{what}");
        let pages = |private: bool| -> u64 {
            let of_kind = wanted.iter().filter(|vad| (vad["kind"] == "private") == private);
            of_kind.map(|vad| number(&vad["commit"])).sum()
        };
        assert_eq!(data["totals"]["private_commit"], pages(true), "{what}");
        assert_eq!(data["totals"]["shared_commit"], pages(false), "{what}");
        for (vad, wanted) in shown.iter().zip(wanted) {
            check_vad(vad, wanted, what);
            assert_eq!(vad["level"], number(&wanted["level"]) - 1, "{what}: {wanted}");
        }
    }
    let own = find(case, "vads", "process", super::program(case.truth));
    let image = super::image_range(own).unwrap();
    for form in super::detail_forms(image) {
        let shown = case.data(&form);
        check_vad(shown, image, what);
        assert_eq!(number(&shown["control_area"]), image["control_area"], "{what}");
        let reload = shown["reload"].as_str().unwrap();
        let wanted = format!("={:x},", number(&image["start"]) << 12);
        assert!(
            reload.contains(&wanted) && reload.starts_with(".reload /f faultapp.exe"),
            "{what}: {reload}"
        );
    }
}

fn check_vad(vad: &Value, wanted: &Value, what: &str) {
    assert_eq!(number(&vad["address"]), wanted["vad"], "{what}");
    assert_eq!(number(&vad["start"]), number(&wanted["start"]) << 12, "{what}: {wanted}");
    assert_eq!(number(&vad["end"]), number(&wanted["end"]) << 12 | 0xfff, "{what}: {wanted}");
    assert_eq!(vad["commit"], wanted["commit"], "{what}: {wanted}");
    assert_eq!(vad["file"], wanted["file"], "{what}: {wanted} {vad}");
    let kind = if wanted["kind"] == "data" { "mapped" } else { wanted["kind"].as_str().unwrap() };
    assert_eq!(vad["kind"], kind, "{what}: {wanted}");
    let protection = kd_sdk::nt::vad::protection_name(number(&wanted["protection"]));
    assert_eq!(vad["protection"], protection.as_str(), "{what}: {wanted}");
}

fn brief(handles: &Value) -> Vec<(u64, u64, u64)> {
    let one =
        |handle: &Value| (number(&handle["handle"]), number(&handle["object"]), number(&handle["access"]));
    list(handles).iter().map(one).collect()
}

pub fn handles(case: &Case<'_>) {
    let what = &case.what;
    let names = process_names(case);
    for fact in facts(case, "handles") {
        let shown = case.data(&format!("!handle 0 3 {}", hex(&fact["process"])));
        let table = &list(&shown["tables"])[0];
        assert_eq!(number(&table["process"]["address"]), fact["process"], "{what}");
        assert_eq!(number(&table["table"]), fact["table"], "{what}");
        assert_eq!(table["count"], fact["count"], "{what}: {}", fact["id"]);
        assert_eq!(brief(&table["handles"]), brief(&fact["handles"]), "{what}");
        for handle in list(&table["handles"]) {
            check_object(case, handle, &names);
        }
    }
    // One handle, those of a type, those of everybody, and the table of ids.
    let fact = find(case, "handles", "process", super::program(case.truth));
    let one = &list(&case.data("!handle 8 3")["tables"])[0]["handles"];
    assert_eq!(brief(one), brief(&fact["handles"])[1..2], "{what}");
    let process = hex(&fact["process"]);
    let typed = &list(&case.data(&format!("!handle 0 3 {process} Process"))["tables"])[0];
    let wanted: Vec<_> = brief(&fact["handles"]).into_iter().filter(|h| names.contains_key(&h.1)).collect();
    assert_eq!((brief(&typed["handles"]), &typed["shown"]), (wanted.clone(), &wanted.len().into()), "{what}");
    let everybody = list(&case.data("!handle 0 1 0")["tables"]);
    let found: Vec<_> = everybody.iter().map(|table| number(&table["process"]["address"])).collect();
    assert_eq!(found, super::ids(&case.truth["processes"], "eprocess"), "{what}");
    for table in everybody {
        let fact = find(case, "handles", "process", number(&table["process"]["address"]));
        assert_eq!(brief(&table["handles"]), brief(&fact["handles"]), "{what}");
    }
    let ids = &list(&case.data("!handle 0 21")["tables"])[0]["handles"];
    let mut found: Vec<_> = brief(ids).into_iter().map(|h| (h.0, h.1)).collect();
    let of = |key: &str, at: &str| -> Vec<(u64, u64)> {
        let entries = list(&case.truth[key]).iter().map(|one| (number(&one["id"]), number(&one[at])));
        entries.filter(|one| one.0 != 0).collect()
    };
    let mut wanted = [of("processes", "eprocess"), of("threads", "ethread")].concat();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{what}");
}

/// The object behind a handle: its type, and what says which one it is.
fn check_object(case: &Case<'_>, handle: &Value, names: &std::collections::BTreeMap<u64, String>) {
    let what = &case.what;
    let at = number(&handle["object"]);
    if let Some(name) = names.get(&at) {
        assert_eq!((&handle["type"], &handle["name"]), (&"Process".into(), &name.as_str().into()), "{what}");
    }
    let fact = find(case, "objects", "object", at);
    if let Some(kind) = fact["type"].as_str() {
        assert_eq!(handle["type"], kind, "{what}: {fact}");
    }
    if let Some(path) = fact["path"].as_str() {
        assert_eq!(handle["name"], path, "{what}: {handle}");
    }
}

pub fn environments(case: &Case<'_>) {
    let what = &case.what;
    assert!(!facts(case, "environments").is_empty() && !facts(case, "tebs").is_empty(), "{what}");
    for fact in facts(case, "environments") {
        let command = format!("!peb -p {}", hex(&fact["process"]));
        if case.has_user() {
            check_peb(case, case.data(&command), fact)
        } else {
            super::absent(case, &command)
        }
    }
    for fact in facts(case, "tebs") {
        let command = teb(fact);
        if case.has_user() {
            check_teb(case, case.data(&command), fact)
        } else {
            super::absent(case, &command)
        }
    }
    if !case.has_user() {
        super::absent(case, "!peb");
        return super::absent(case, "!teb");
    }
    check_peb(case, case.data("!peb"), find(case, "environments", "process", super::program(case.truth)));
    check_teb(case, case.data("!teb"), find(case, "tebs", "thread", number(&case.truth["thread"])));
}

fn check_peb(case: &Case<'_>, shown: &Value, fact: &Value) {
    let what = &case.what;
    for (key, told) in [("address", "peb"), ("loader", "ldr"), ("process_parameters", "parameters")] {
        assert_eq!(number(&shown[key]), fact[told], "{what}: {key}");
    }
    for key in ["command_line", "current_directory", "dll_path", "window_title"] {
        assert_eq!(shown[key], fact[key], "{what}");
    }
    assert_eq!(shown["image_file"], fact["image"], "{what}");
    let modules = |modules: &[Value], stamp: &str| -> Vec<(u64, String, u64)> {
        let one = |m: &Value| (number(&m["base"]), m["path"].as_str().unwrap().to_owned(), number(&m[stamp]));
        modules.iter().map(one).collect()
    };
    let wanted = modules(list(&fact["modules"]), "stamp");
    assert_eq!(modules(list(&shown["modules"]), "time_stamp"), wanted, "{what}");
    assert_eq!(number(&shown["image_base"]), wanted[0].0, "{what}");
    let (found, wanted) = (list(&shown["environment"]), list(&fact["environment"]));
    assert_eq!(found, wanted, "{what}");
}

fn check_teb(case: &Case<'_>, shown: &Value, fact: &Value) {
    let what = &case.what;
    for (key, told) in [
        ("address", "teb"),
        ("self", "teb"),
        ("stack_base", "stack_base"),
        ("stack_limit", "stack_limit"),
        ("process_id", "process"),
        ("thread_id", "id"),
        ("last_error", "last_error"),
        ("last_status", "last_status"),
    ] {
        assert_eq!(number(&shown[key]), fact[told], "{what}: {key} {fact}");
    }
}

pub fn job(case: &Case<'_>) {
    let what = &case.what;
    let job = &case.truth["facts"]["job"];
    for command in [format!("!job {}", hex(&job["job"])), "!job 910".into()] {
        let shown = case.data(&command);
        assert_eq!(number(&shown["address"]), job["job"], "{what}");
        assert_eq!(super::ids(&shown["processes"], "address"), super::ids_of(&job["processes"]), "{what}");
        for (key, field) in [
            ("limit_flags", "LimitFlags"),
            ("total_processes", "TotalProcesses"),
            ("active_processes", "ActiveProcesses"),
            ("terminated_processes", "TotalTerminatedProcesses"),
            ("active_process_limit", "ActiveProcessLimit"),
            ("job_memory_limit", "JobMemoryLimit"),
            ("peak_job_memory", "PeakJobMemoryUsed"),
            ("peak_process_memory", "PeakProcessMemoryUsed"),
            ("current_job_memory", "CurrentJobMemoryUsed"),
        ] {
            match case.generation.find(&format!("_EJOB.{field}")) {
                Some(_) => assert_eq!(number(&shown[key]), job["fields"][field], "{what}: {key}"),
                None => assert!(shown.get(key).is_none_or(Value::is_null), "{what}: {key}"),
            }
        }
        for (key, field) in [("total_user_time", "TotalUserTime"), ("total_kernel_time", "TotalKernelTime")] {
            let seconds = number(&job["fields"][field]) as f64 / 1e7;
            assert!((shown[key].as_f64().unwrap() - seconds).abs() < 1e-6, "{what}: {key}");
        }
    }
    // The current process is in none.
    let record = case.record("!job");
    assert_eq!(record["status"], "ok", "{what}");
    assert!(record["text"].as_str().unwrap_or_default().contains("is in no job"), "{what}: {record}");
}
