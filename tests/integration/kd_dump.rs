//! kd reads every kind of dump of every system as the laboratory made it.

use kd::dump::{Absent, Dump, DumpKind, OpenOptions};
use kd::memory::View;
use kd_sdk::address::{Pfn, Va};
use kd_tests::lab::image::Image;
use kd_tests::lab::layout::Machine;
use kd_tests::lab::memory::Owner;
use kd_tests::lab::world::{COMMENT, Options, SYSTEM_TIME, UP_TIME, World};
use kd_tests::lab::writer::{self, Kind, cabinet};
use std::path::Path;
use std::sync::Arc;

fn open(path: &Path) -> Arc<Dump> {
    Arc::new(Dump::open(path, &OpenOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

#[test]
fn every_kind_of_every_system() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    for world in super::lab::worlds() {
        for kind in Kind::ALL {
            if world.options.generation.machine == Machine::X86 && kind as u32 >= 8 {
                continue;
            }
            writer::write(&world, kind, &path).unwrap();
            let what = format!("{} {kind:?}", world.options.generation.name);
            let dump = open(&path);
            assert_eq!(dump.problems(), [], "{what}");
            check_header(&world, kind, &dump, &what);
            match kind {
                Kind::HeaderOnly => {}
                Kind::Triage => check_triage(&world, &dump, &what),
                _ => {
                    check_pages(&world, kind, &dump, &what);
                    check_probes(&world, kind, &dump, &what);
                }
            }
        }
    }
}

fn check_header(world: &World, kind: Kind, dump: &Dump, what: &str) {
    let h = dump.header();
    let wide = world.options.generation.machine != Machine::X86;
    // kd shows 32-bit kernel addresses sign-extended or not; compare what the target itself would.
    let same = |a: u64, b: u64| if wide { a == b } else { a as u32 == b as u32 };
    let va = |found: Option<Va>, wanted: Va| {
        assert!(same(found.unwrap().0, wanted.0), "{what}: {found:?} {wanted:?}")
    };
    assert_eq!(h.kind, DumpKind::from_number(kind as u32).unwrap(), "{what}");
    assert_eq!(h.minor_version, Some(world.options.generation.build), "{what}");
    assert_eq!(h.directory_table_base, Some(world.user.root), "{what}");
    va(h.ps_loaded_module_list, world.nt("PsLoadedModuleList"));
    va(h.ps_active_process_head, world.nt("PsActiveProcessHead"));
    va(h.kd_debugger_data_block, world.nt("KdDebuggerDataBlock"));
    assert_eq!(h.number_processors, Some(world.options.processors), "{what}");
    assert_eq!(h.machine.number(), u32::from(world.options.generation.machine.image_type()), "{what}");
    let bug_check = h.bug_check.as_ref().unwrap();
    assert_eq!(bug_check.code, world.crash.code, "{what}");
    for (found, wanted) in bug_check.parameters.into_iter().zip(world.crash.parameters) {
        assert!(same(found, wanted), "{what}: {found:#x} {wanted:#x}");
    }
    let exception = h.exception.as_ref().unwrap();
    assert_eq!(exception.code, 0xc000_0005, "{what}");
    assert!(same(exception.address.0, world.crash.exception_address), "{what}");
    assert_eq!((h.system_time, h.system_up_time), (Some(SYSTEM_TIME), Some(UP_TIME)), "{what}");
    assert_eq!(h.comment.as_deref(), Some(COMMENT), "{what}");
}

fn check_pages(world: &World, kind: Kind, dump: &Dump, what: &str) {
    let physical = dump.physical().unwrap();
    let found: Vec<u64> = physical.runs().flat_map(|r| r.first.0..r.first.0 + r.pages).collect();
    let wanted: Vec<u64> = kind.frames(world).iter().flat_map(|r| r.base..r.base + r.count).collect();
    assert_eq!(found, wanted, "{what}");
    assert_eq!(physical.page_count(), wanted.len() as u64, "{what}");
    for pfn in wanted {
        let truth = world.memory.frame(Pfn(pfn)).copied().unwrap_or([0; 4096]);
        assert!(*physical.page(Pfn(pfn)).unwrap() == truth, "{what}: frame {pfn:#x}");
    }
    if kind == Kind::BitmapFull {
        assert_eq!(dump.tagged_data().len(), 2, "{what}");
    }
}

fn check_probes(world: &World, kind: Kind, dump: &Arc<Dump>, what: &str) {
    let view = View::new(dump.clone());
    let swizzled = world.options.swizzle != 0; // without symbols kd cannot know the mask of page-file entries
    for probe in &world.probes {
        let mut bytes = [0; 64];
        let outcome = view.read(probe.va, &mut bytes);
        let found = outcome.fault.map(|f| f.why);
        let captured = probe.owner == Owner::Kernel || !kind.kernel_only();
        let readable = matches!(probe.state, "valid" | "transition") || !probe.text.is_empty();
        let wanted = match probe.state {
            _ if readable && captured => None,
            _ if readable => Some(Absent::NotCaptured),
            "not captured" if kind.whole_ram() => None,
            "not captured" => Some(Absent::NotCaptured),
            "not mapped" => Some(Absent::NotMapped),
            _ => Some(Absent::PagedOut),
        };
        let context = format!("{what}: {:#x} {} {:?}", probe.va.0, probe.state, outcome.fault);
        if probe.state == "demand zero" || swizzled && probe.state == "page file" {
            assert!(found.is_some(), "{context}");
            continue;
        }
        assert_eq!(found, wanted, "{context}");
        if probe.state == "page file" {
            let told = outcome.fault.map(|fault| fault.to_string()).unwrap_or_default();
            assert!(told.contains("in page file 2 at page 1234"), "{context}: {told}");
        }
        if found.is_none() {
            assert!(bytes.starts_with(probe.text.as_bytes()), "{context}");
        }
    }
    for image in &world.images {
        check_image(&view, image, what);
    }
}

fn check_image(view: &View, image: &Image, what: &str) {
    let mut header = vec![0; 0x400];
    view.read(Va(image.base), &mut header).complete().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(header == image.bytes[..0x400], "{what}: {}", image.name);
}

fn check_triage(world: &World, dump: &Arc<Dump>, what: &str) {
    let triage = dump.triage().unwrap();
    assert!(triage.valid, "{what}");
    let same = |a: u64, b: u64| if dump.header().is_64_bit { a == b } else { a as u32 == b as u32 };
    assert_eq!(triage.drivers.len(), world.images.len(), "{what}");
    for (driver, image) in triage.drivers.iter().zip(&world.images) {
        assert_eq!(driver.name, image.name, "{what}");
        assert!(same(driver.base.0, image.base), "{what}: {}", image.name);
        let found = (driver.size, driver.check_sum, driver.time_date_stamp);
        assert_eq!(found, (image.size, image.check_sum, image.time_date_stamp), "{what}: {}", image.name);
    }
    assert_eq!(triage.unloaded_drivers.len(), world.unloaded.len(), "{what}");
    for (driver, (name, start, end)) in triage.unloaded_drivers.iter().zip(&world.unloaded) {
        assert_eq!(driver.name, *name, "{what}");
        assert!(same(driver.start.0, *start) && same(driver.end.0, *end), "{what}: {name}");
    }
    let block = triage.debugger_data.unwrap();
    assert!(*dump.read_range(block).unwrap() == *world.debugger_data, "{what}");
    assert_eq!(dump.tagged_data().len(), 2, "{what}");
    assert_eq!(
        &*dump.tagged_bytes(&dump.tagged_data()[0]).unwrap(),
        b"secondary data of the faulting driver"
    );

    let view = View::new(dump.clone());
    let mut code = [0; 64];
    view.read(Va(world.crash.exception_address), &mut code).complete().unwrap();
    assert_eq!(code.to_vec(), world.read(Va(world.crash.exception_address), 64).unwrap(), "{what}");
    let (top, size) = (world.crash.stack[0].sp, 0x100);
    let mut stack = vec![0; size];
    view.read(Va(top), &mut stack).complete().unwrap();
    assert_eq!(stack, world.read(Va(top), size).unwrap(), "{what}");
}

#[test]
fn dumps_in_cabinets() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::build(Options::new("x64-19041"));
    let path = folder.path().join("dump");
    writer::write(&world, Kind::Triage, &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let cabinets = ["stored", "mszip", "lzx"].map(|name| folder.path().join(format!("{name}.cab")));
    let members: [(&str, &[u8]); 2] = [("readme.txt", b"not a dump"), ("MEMORY.DMP", &bytes)];
    cabinet::write(&cabinets[0], cab::CompressionType::None, &members).unwrap();
    cabinet::write(&cabinets[1], cab::CompressionType::MsZip, &members).unwrap();
    cabinet::write_lzx(&cabinets[2], "MEMORY.DMP", &bytes).unwrap();
    for path in cabinets {
        let dump = open(&path);
        assert_eq!(dump.archive_member(), Some("MEMORY.DMP"), "{}", path.display());
        check_header(&world, Kind::Triage, &dump, "in a cabinet");
        check_triage(&world, &dump, "in a cabinet");
    }
}
