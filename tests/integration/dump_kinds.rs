//! Every kind of dump that the laboratory writes, read back.

use kd_tests::lab::layout::{GENERATIONS, Machine};
use kd_tests::lab::world::{COMMENT, Options, SYSTEM_TIME, UP_TIME, World};
use kd_tests::lab::writer::{self, Kind, cabinet};
use kdmp_parser::gxa::{Gpa, Gva, Gxa};
use kdmp_parser::parse::KernelDumpParser;
use std::fs;

/// kdmp-parser reads these, of x64 systems.
const KDMP: [Kind; 6] = [
    Kind::Full,
    Kind::BitmapFull,
    Kind::BitmapKernel,
    Kind::RangeKernel,
    Kind::RangeKernelUser,
    Kind::RangeComplete,
];

#[test]
fn kdmp_parser_agrees() {
    let folder = tempfile::tempdir().unwrap();
    for generation in GENERATIONS.iter().filter(|g| g.machine == Machine::X64) {
        let world = World::build(Options::new(generation.name));
        for kind in KDMP {
            let path = folder.path().join("dump");
            writer::write(&world, kind, &path).unwrap();
            let dump =
                KernelDumpParser::new(&path).unwrap_or_else(|e| panic!("{} {kind:?}: {e}", generation.name));
            check_header(&world, kind, &dump);
            check_pages(&world, kind, &dump);
            check_modules(&world, &dump);
        }
    }
}

fn check_header(world: &World, kind: Kind, dump: &KernelDumpParser) {
    let h = dump.headers();
    assert_eq!(h.dump_type, kind as u32);
    assert_eq!((h.major_version, h.minor_version), (0xf, world.options.generation.build));
    assert_eq!(h.directory_table_base, world.user.root.0);
    assert_eq!(h.ps_loaded_module_list, world.nt("PsLoadedModuleList").0);
    assert_eq!(h.ps_active_process_head, world.nt("PsActiveProcessHead").0);
    assert_eq!(h.kd_debugger_data_block, world.nt("KdDebuggerDataBlock").0);
    assert_eq!(h.machine_image_type, 0x8664);
    assert_eq!(h.number_processors, world.options.processors);
    assert_eq!((h.bug_check_code, h.bug_check_code_parameters), (world.crash.code, world.crash.parameters));
    assert_eq!((h.system_time as u64, h.system_up_time as u64), (SYSTEM_TIME, UP_TIME));
    assert!(h.comment.starts_with(COMMENT.as_bytes()));
    assert_eq!(h.exception.exception_code, 0xc000_0005);
    assert_eq!(h.exception.exception_address, world.crash.exception_address);
    assert_eq!(h.exception.exception_information[..2], world.crash.exception_information);
    let context = dump.context_record();
    assert_eq!(context.rip, world.crash.registers["rip"]);
    assert_eq!(context.rsp, world.crash.registers["rsp"]);
    assert_eq!(context.rcx, world.crash.registers["rcx"]);
}

fn check_pages(world: &World, kind: Kind, dump: &KernelDumpParser) {
    let wanted: Vec<u64> = kind.frames(world).iter().flat_map(|r| r.base..r.base + r.count).collect();
    let found: Vec<u64> = dump.physmem().map(|(gpa, _)| gpa.pfn()).collect();
    assert_eq!(found, wanted, "{kind:?}");
    let reader = kdmp_parser::phys::Reader::new(dump);
    for pfn in wanted {
        let mut page = [0; 4096];
        reader.read_exact(Gpa::new(pfn << 12), &mut page).unwrap();
        let truth = world.memory.frame(kd_sdk::address::Pfn(pfn)).copied().unwrap_or([0; 4096]);
        assert_eq!(page, truth, "{kind:?}: frame {pfn:#x}");
    }
}

fn check_modules(world: &World, dump: &KernelDumpParser) {
    let mut found: Vec<_> =
        dump.kernel_modules().map(|(r, name)| (r.start.u64(), r.end.u64(), name)).collect();
    let mut wanted: Vec<_> =
        world.images.iter().map(|i| (i.base, i.base + u64::from(i.size), i.path.as_str())).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    let reader = kdmp_parser::virt::Reader::new(dump);
    let mut code = [0; 0x40];
    reader.read_exact(Gva::new(world.crash.exception_address), &mut code).unwrap();
    assert_eq!(code[..2], [0x8b, 0x01]);
}

#[test]
fn every_kind_is_written_for_every_generation() {
    let folder = tempfile::tempdir().unwrap();
    for world in super::lab::worlds() {
        for kind in Kind::ALL {
            let path = folder.path().join("dump");
            let narrow = world.options.generation.machine == Machine::X86;
            if narrow && kind as u32 >= 8 {
                assert!(writer::write(&world, kind, &path).is_err());
                continue;
            }
            writer::write(&world, kind, &path).unwrap();
            let bytes = fs::read(&path).unwrap();
            let (signature, at): (&[u8], _) =
                if narrow { (b"PAGEDUMP", 0xf88) } else { (b"PAGEDU64", 0xf98) };
            assert!(bytes.starts_with(signature));
            assert_eq!(bytes[at..at + 4], (kind as u32).to_le_bytes());
        }
    }
}

/// Windows makes no holes unless asked, so the files would be as large as they say there.
#[cfg(unix)]
#[test]
fn huge_dumps_are_holes() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let world = World::build(Options::new("x64-19041"));
    let path = folder.path().join("huge");
    writer::huge_sparse(&world, &path, 64).unwrap();
    let large = fs::metadata(&path).unwrap();
    writer::huge_full(&world, &path, 4).unwrap();
    let full = fs::metadata(&path).unwrap();
    for (file, gib) in [(large, 64u64), (full, 4)] {
        assert!(file.len().abs_diff(gib << 30) < 4 << 20, "{gib} GiB: {}", file.len());
        assert!(file.blocks() * 512 < 8 << 20, "{gib} GiB take {} bytes", file.blocks() * 512);
    }
}

#[test]
fn cabinets_open_with_the_cab_crate() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::build(Options::new("x64-19041"));
    let path = folder.path().join("dump");
    writer::write(&world, Kind::Triage, &path).unwrap();
    let dump = fs::read(&path).unwrap();
    let read = |path: &std::path::Path, name: &str| {
        let mut cabinet = cab::Cabinet::new(fs::File::open(path).unwrap()).unwrap();
        let mut bytes = Vec::new();
        std::io::copy(&mut cabinet.read_file(name).unwrap(), &mut bytes).unwrap();
        bytes
    };
    for compression in [cab::CompressionType::None, cab::CompressionType::MsZip] {
        let path = folder.path().join("stored.cab");
        cabinet::write(&path, compression, &[("readme.txt", b"not a dump"), ("MEMORY.DMP", &dump)]).unwrap();
        assert!(read(&path, "MEMORY.DMP") == dump, "{compression:?}");
    }
    let path = folder.path().join("lzx.cab");
    cabinet::write_lzx(&path, "MEMORY.DMP", &dump).unwrap();
    assert!(read(&path, "MEMORY.DMP") == dump, "LZX");
}
