//! `!object`, `!drvobj`, `!devobj` and `!devstack`: names, contents, devices, routines; [`super::kdexts`] asks them in every
//! kind of dump.

use super::every_kind::{Case, list, number};
use super::one_dump::Lab;
use kd_tests::lab::world::Story;
use kd_tests::lab::writer::Kind;
use serde_json::{Value, json};

/// Types whose named objects are looked for.
const TYPES: [&str; 5] = ["Driver", "Device", "Directory", "Event", "SymbolicLink"];

fn directories(truth: &Value) -> Vec<String> {
    let all = list(&truth["facts"]["objects"]).iter();
    let named = all.filter(|o| o["type"] == "Directory").map(|o| o["path"].as_str().unwrap().to_owned());
    [r"\".to_owned()].into_iter().chain(named).collect()
}

fn process(truth: &Value) -> String {
    format!("!object {:#x}", number(&truth["processes"][1]["eprocess"]))
}

/// Every device: by its name, its path and its address.
fn device_commands(device: &Value) -> [String; 3] {
    let path = device["path"].as_str().unwrap();
    let name = path.rsplit('\\').next().unwrap();
    [
        format!("!devobj {name}"),
        format!("!devobj {path}"),
        format!("!devobj {:#x}", number(&device["device"])),
    ]
}

fn driver(truth: &Value) -> String {
    format!("!drvobj {:#x} 2", number(&truth["facts"]["driver"]["driver"]))
}

pub fn commands(truth: &Value) -> Vec<String> {
    let mut all: Vec<String> = directories(truth).iter().map(|path| format!("!object {path}")).collect();
    all.extend(TYPES.map(|kind| format!("!object 0 {kind}")));
    all.extend([r"!object \GLOBAL??\C: 29", r"!object \Driver\faultdrv 31"].map(String::from));
    all.push(process(truth));
    all.extend(["!drvobj faultdrv 7", "!drvobj Ntfs", "!drvobj PnpManager"].map(String::from));
    all.push(driver(truth));
    all.extend(list(&truth["facts"]["devices"]).iter().flat_map(device_commands));
    all.extend(["!devstack Sensor0", "!devstack Sensor1"].map(String::from));
    all
}

pub fn check(case: &Case<'_>) {
    for path in directories(case.truth) {
        contents(case, &path);
    }
    for kind in TYPES {
        of_type(case, kind);
    }
    single_objects(case);
    drivers(case);
    for device in list(&case.truth["facts"]["devices"]) {
        for command in device_commands(device) {
            compare_device(case.data(&command), device, &format!("{} {command}", case.what));
        }
    }
    stacks(case);
}

/// What a directory holds, and that it is one.
fn contents(case: &Case<'_>, path: &str) {
    let (data, what) = (case.data(&format!("!object {path}")), format!("{} {path}", case.what));
    assert_eq!((&data["type"], &data["path"]), (&"Directory".into(), &path.into()), "{what}: {data}");
    assert_eq!((&data["handle_count"], &data["pointer_count"]), (&1.into(), &3.into()), "{what}");
    let before = if path == r"\" { path.to_owned() } else { format!(r"{path}\") };
    let inside = |o: &&Value| {
        o["path"].as_str().unwrap().strip_prefix(&before).is_some_and(|rest| !rest.contains('\\'))
    };
    let mut wanted: Vec<Value> = list(&case.truth["facts"]["objects"])
        .iter()
        .filter(inside)
        .map(|o| json!([number(&o["object"]), o["type"], o["path"].as_str().unwrap()[before.len()..]]))
        .collect();
    let mut found: Vec<Value> =
        list(&data["contents"]).iter().map(|o| json!([number(&o["object"]), o["type"], o["name"]])).collect();
    wanted.sort_by_key(|o| o[0].as_u64());
    found.sort_by_key(|o| o[0].as_u64());
    assert_eq!(found, wanted, "{what}");
    assert_eq!(list(&data["problems"]).len(), 0, "{what}");
}

fn of_type(case: &Case<'_>, kind: &str) {
    let data = case.data(&format!("!object 0 {kind}"));
    let pairs = |objects: &[Value]| {
        let mut pairs: Vec<(u64, String)> =
            objects.iter().map(|o| (number(&o["object"]), o["path"].as_str().unwrap().to_owned())).collect();
        pairs.sort_unstable();
        pairs
    };
    let mut wanted = list(&case.truth["facts"]["objects"]).to_vec();
    wanted.retain(|o| o["type"] == kind);
    assert_eq!(pairs(list(&data["objects"])), pairs(&wanted), "{} {kind}", case.what);
}

fn single_objects(case: &Case<'_>) {
    let (facts, what) = (&case.truth["facts"], &case.what);
    let link = case.data(r"!object \GLOBAL??\C: 29");
    assert_eq!(
        (&link["type"], &link["target"]),
        (&"SymbolicLink".into(), &facts["file_system"]["target"]),
        "{what}"
    );
    assert_eq!(number(&link["object"]), facts["file_system"]["link"], "{what}");
    let driver = case.data(r"!object \Driver\faultdrv 31");
    assert_eq!(number(&driver["object"]), facts["driver"]["driver"], "{what}");
    assert_eq!((&driver["type"], &driver["path"]), (&"Driver".into(), &r"\Driver\faultdrv".into()), "{what}");
    let header = case.generation.at("_OBJECT_HEADER.Body");
    assert_eq!(number(&driver["header"]) + header, facts["driver"]["driver"], "{what}");
    let process = case.data(&process(case.truth));
    assert_eq!((&process["type"], &process["name"]), (&"Process".into(), &Value::Null), "{what}");
}

/// A driver with two devices, the second on top of the first; others without routines.
fn drivers(case: &Case<'_>) {
    let (facts, what) = (&case.truth["facts"], &case.what);
    let details = &facts["driver_details"];
    let data = case.data("!drvobj faultdrv 7");
    assert_eq!(number(&data["driver"]), facts["driver"]["driver"], "{what}");
    assert_eq!((&data["name"], &data["image"]), (&details["name"], &"faultdrv.sys".into()), "{what}");
    let module = list(&case.truth["modules"]).iter().find(|m| m["name"] == "faultdrv.sys").unwrap();
    assert_eq!(
        (number(&data["start"]), number(&data["size"])),
        (number(&module["base"]), number(&module["size"])),
        "{what}"
    );
    let devices = list(&data["devices"]);
    let wanted = list(&details["stack"]);
    assert_eq!(devices.len(), wanted.len(), "{what}");
    for (found, wanted) in devices.iter().zip(wanted) {
        let truth = list(&facts["devices"]).iter().find(|d| d["device"] == wanted["device"]).unwrap();
        compare_device(found, truth, what);
    }
    let routines = list(&data["routines"]);
    assert_eq!(routines.len(), 4 + 28, "{what}");
    let routine = |name: &str| &routines.iter().find(|r| r["name"] == name).unwrap()["address"];
    for (name, key) in [("DriverEntry:", "init"), ("DriverStartIo:", "start_io"), ("DriverUnload:", "unload")]
    {
        assert_eq!(number(routine(name)), details[key], "{what}: {name}");
    }
    for (index, found) in routines[4..].iter().enumerate() {
        let wanted = match index {
            3 => "faultdrv!DispatchRead",
            14 => "faultdrv!DispatchDeviceControl",
            _ => "nt!IofCallDriver",
        };
        assert_eq!(found["symbol"], wanted, "{what}: {found}");
    }
    assert_eq!(list(&data["suspicious"]).len(), 0, "{what}: {data}");
    assert_eq!(case.data(&driver(case.truth))["routines"], data["routines"], "{what}");
    let file_system = case.data("!drvobj Ntfs");
    assert_eq!(
        (number(&file_system["driver"]), &file_system["image"]),
        (number(&facts["file_system"]["driver"]), &"Ntfs.sys".into()),
        "{what}"
    );
    assert_eq!(number(&file_system["devices"][0]["device"]), facts["file_system"]["device"], "{what}");
    assert!(file_system["devices"][0]["name"].is_null(), "{what}: {file_system}");
    assert!(case.data("!drvobj PnpManager")["image"].is_null(), "{what}");
}

fn compare_device(found: &Value, truth: &Value, what: &str) {
    assert_eq!(found["name"], truth["path"].as_str().unwrap().rsplit('\\').next().unwrap(), "{what}");
    for key in ["driver_name", "references", "queue_busy"] {
        assert_eq!(found[key], truth[key], "{what} {key}: {found}");
    }
    for key in ["device", "driver", "type", "flags", "characteristics"] {
        assert_eq!(number(&found[key]), truth[key], "{what} {key}: {found}");
    }
    let pointers =
        ["current_irp", "vpb", "security_descriptor", "extension", "object_extension", "device_node"];
    for key in [&pointers[..], &["attached_device", "attached_to"]].concat() {
        let found = if found[key].is_null() { 0 } else { number(&found[key]) };
        assert_eq!(found, truth[key], "{what} {key}");
    }
    // Without an extension it has no flags.
    match found.get("extension_flags") {
        Some(flags) => assert_eq!(number(flags), truth["extension_flags"], "{what}: {found}"),
        None => assert_eq!(truth["object_extension"], 0, "{what}: {found}"),
    }
    let names = |key: &str| -> Vec<&str> { list(&found[key]).iter().map(|n| n.as_str().unwrap()).collect() };
    let wanted = match number(&truth["flags"]) {
        0x44 => ["DO_BUFFERED_IO", "DO_DEVICE_HAS_NAME"].to_vec(),
        0x2044 => ["DO_BUFFERED_IO", "DO_DEVICE_HAS_NAME", "DO_POWER_PAGABLE"].to_vec(),
        _ => ["DO_DIRECT_IO", "DO_DEVICE_HAS_NAME", "DO_BUS_ENUMERATED_DEVICE"].to_vec(),
    };
    assert_eq!(names("flag_names"), wanted, "{what}: {found}");
    let ours = truth["driver_name"] == r"\Driver\faultdrv";
    let wanted: &[&str] =
        if ours { &["FILE_AUTOGENERATED_DEVICE_NAME", "FILE_DEVICE_SECURE_OPEN"] } else { &[] };
    assert_eq!(names("characteristic_names"), wanted, "{what}: {found}");
}

/// Both devices from either, topmost first, and the device node of the lowest.
fn stacks(case: &Case<'_>) {
    let (facts, what) = (&case.truth["facts"], &case.what);
    let details = &facts["driver_details"];
    for (command, asked) in [("!devstack Sensor0", [false, true]), ("!devstack Sensor1", [true, false])] {
        let data = case.data(command);
        let devices = list(&data["devices"]);
        let wanted = list(&details["stack"]);
        assert_eq!(devices.len(), wanted.len(), "{what}");
        for ((found, wanted), asked) in devices.iter().zip(wanted).zip(asked) {
            let truth = list(&facts["devices"]).iter().find(|d| d["device"] == wanted["device"]).unwrap();
            for key in ["device", "driver", "extension"] {
                assert_eq!(number(&found[key]), truth[key], "{what} {command}: {found}");
            }
            assert_eq!(
                (&found["driver_name"], &found["asked"]),
                (&truth["driver_name"], &asked.into()),
                "{what}"
            );
        }
        let node = &data["device_node"];
        assert_eq!(
            (number(&node["node"]), &node["instance"]),
            (number(&details["node"]), &details["instance"]),
            "{what}"
        );
        assert_eq!((&node["service"], list(&data["problems"]).len()), (&details["service"], 0), "{what}");
    }
}

/// A name that does not exist, one that cannot be looked up, and an address where something else stands.
#[test]
fn what_is_no_driver_is_said() {
    let lab = Lab::new("x86-7601", Story::CrashInDriver);
    let commands =
        r"!drvobj nodriver; !drvobj faultdrv; !drvobj \Device\Sensor0; !devobj 0x1000; !devstack nt";
    let run = lab.run(Kind::BitmapKernel, commands, false);
    for text in [
        "no driver is called nodriver, and couldn't resolve error at 'nodriver'",
        r"no driver is called \Device\Sensor0",
        "not mapped",
        "no device object stands there: type 5a4d; no device is called nt",
    ] {
        assert!(run.stdout.contains(text), "{text}:\n{}", run.stdout);
    }
    let run = lab.run(Kind::Triage, commands, false);
    let lookup = "names of drivers cannot be looked up: cannot read";
    assert_eq!(run.stdout.matches(lookup).count(), 3, "{}", run.stdout);
    assert!(!run.stdout.contains("is called"), "{}", run.stdout);
}
