//! The laboratory itself: what it builds holds together, judged by readers that are not ours.

use kd_sdk::address::Va;
use kd_tests::lab::image::Image;
use kd_tests::lab::layout::GENERATIONS;
use kd_tests::lab::world::{Options, World};
use object::pe::{ImageNtHeaders32, ImageNtHeaders64};
use object::read::pe::{ImageNtHeaders, PeFile};
use object::read::{Export, ExportTarget};
use object::{Object, ObjectSection};

/// Every system we know how to build, with every scheme of paging.
pub fn worlds() -> impl Iterator<Item = World> {
    let all = GENERATIONS.iter().map(|g| Options::new(g.name));
    let five_levels = Options { five_levels: true, ..Options::new("x64-22000") };
    let no_pae = Options { pae: false, ..Options::new("x86-7601") };
    let hardened =
        Options { swizzle: 0x2000_0000_0000, encoded: true, processors: 4, ..Options::new("x64-19041") };
    all.chain([five_levels, no_pae, hardened]).map(World::build)
}

#[test]
fn both_sources_of_layouts_agree() {
    // The list has no column of 26100's own.
    for g in GENERATIONS.iter().filter(|g| g.build != 26100) {
        for path in kd_tests::lab::layout::Generation::listed_paths() {
            if let (Some(listed), Some(found)) = (g.listed(&path), g.find(&path)) {
                assert_eq!(listed, found, "{} {path}", g.name);
            }
        }
    }
}

#[test]
fn modules_are_listed_in_load_order() {
    for world in worlds() {
        let g = world.options.generation;
        let head = world.nt("PsLoadedModuleList");
        let mut bases = Vec::new();
        let mut entry = world.read_pointer(head);
        while entry != head {
            bases.push(world.read_pointer(entry.add(g.at("_KLDR_DATA_TABLE_ENTRY.DllBase"))).0);
            entry = world.read_pointer(entry);
        }
        assert_eq!(bases, world.images.iter().map(|i| i.base).collect::<Vec<_>>(), "{}", g.name);
    }
}

#[test]
fn images_are_valid_to_another_reader() {
    fn check<P: ImageNtHeaders>(image: &Image) {
        let pe = PeFile::<P>::parse(&*image.bytes).expect("a PE file");
        assert_eq!(pe.relative_address_base(), image.base);
        let record = pe.pdb_info().unwrap().expect("a debug record");
        assert_eq!(record.path(), image.pdb.as_bytes());
        assert_eq!((record.guid(), record.age()), (image.guid, image.age));
        if image.name == "ntoskrnl.exe" {
            let export = |e: Export<'_>| match e.target() {
                ExportTarget::Address { address } => (e.name().into_name().unwrap().to_vec(), address),
                other => panic!("{other:?}"),
            };
            let mut found: Vec<_> = pe.exports().unwrap().map(Result::unwrap).map(export).collect();
            let functions = image.symbols.iter().filter(|s| s.is_function);
            let mut wanted: Vec<_> =
                functions.map(|s| (s.name.clone().into_bytes(), image.base + u64::from(s.rva))).collect();
            found.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(found, wanted);
        }
        let names: Vec<_> = pe.sections().map(|s| s.name().unwrap().to_owned()).collect();
        assert_eq!(names, image.sections.iter().map(|s| s.name.clone()).collect::<Vec<_>>());
    }
    for world in worlds() {
        for image in &world.images {
            match world.options.generation.machine.pointer_size() {
                4 => check::<ImageNtHeaders32>(image),
                _ => check::<ImageNtHeaders64>(image),
            }
        }
    }
}

#[test]
fn probes_translate_as_their_state_says() {
    for world in worlds() {
        for probe in &world.probes {
            let found = world.read(probe.va, 64).map(|bytes| bytes.starts_with(probe.text.as_bytes()));
            let expected = match probe.state {
                "valid" | "transition" | "not captured" => Some(true),
                _ => None,
            };
            assert_eq!(
                found, expected,
                "{} {:#x} {}",
                world.options.generation.name, probe.va.0, probe.state
            );
        }
    }
}

#[test]
fn page_tables_see_themselves() {
    for world in worlds().filter(|w| !w.options.five_levels) {
        let g = world.options.generation;
        let size = world.system.scheme.entry_size();
        let va = Va(g.kernel_base);
        let inside = if g.machine.pointer_size() == 4 { va.0 & 0xffff_ffff } else { va.0 & 0xffff_ffff_ffff };
        let entry = Va(g.pte_base + (inside >> 12) * size);
        let seen = world.system.translate(&world.memory, entry).expect("the entry is mapped");
        let value = world.memory.read_uint(seen, size as usize);
        let page = world.system.translate(&world.memory, va).expect("the kernel is mapped");
        assert_eq!(value & 0x000f_ffff_ffff_f000, page.0, "{}", g.name);
    }
}

#[test]
fn truth_is_told() {
    let truth = World::build(Options::new("x64-19041")).truth();
    assert_eq!(truth["modules"][0]["name"], "ntoskrnl.exe");
    assert_eq!(truth["bug_check"]["code"], 0xd1);
    assert_eq!(truth["stack"][0]["symbol"], "nt!KeBugCheckEx");
}

/// Undoes what `kdbg::encode` does, from the public description of it.
#[test]
fn hidden_debugger_data_can_be_found_again() {
    let world = World::build(Options { encoded: true, ..Options::new("x64-19041") });
    let value = |name: &str| u64::from_le_bytes(world.read(world.nt(name), 8).unwrap().try_into().unwrap());
    let (never, always, flag) =
        (value("KiWaitNever"), value("KiWaitAlways"), world.nt("KdpDataBlockEncoded"));
    let hidden = world.read(world.nt("KdDebuggerDataBlock"), 0x380).unwrap();
    assert_ne!(hidden, world.debugger_data);
    let plain = hidden.as_chunks::<8>().0.iter().flat_map(|word| {
        let word = (u64::from_le_bytes(*word) ^ never).rotate_left(never as u32 & 63);
        ((word ^ flag.0).swap_bytes() ^ always).to_le_bytes()
    });
    assert_eq!(plain.collect::<Vec<_>>(), world.debugger_data);
}

/// The return addresses of the crash stand where the sizes of the frames say.
#[test]
fn the_stack_of_the_crash_is_whole() {
    for world in worlds() {
        let stack = &world.crash.stack;
        assert_eq!(stack.len(), 10);
        let top = Va(stack[0].sp);
        let size = (world.stack.1.0 - top.0) as usize;
        let words = world.read(top, size).unwrap();
        let width = world.options.generation.machine.pointer_size();
        // From the innermost out, every caller's address is further up the stack. Arm64 holds the first in `lr`.
        let in_register = world.processors[0].registers.get("lr").is_some_and(|lr| *lr == stack[1].pc);
        let mut at = 0;
        for frame in &stack[1 + usize::from(in_register)..] {
            let wanted = &frame.pc.to_le_bytes()[..width];
            let found = words[at..].chunks_exact(width).position(|w| w == wanted);
            let found =
                found.unwrap_or_else(|| panic!("{}: {}", world.options.generation.name, frame.symbol));
            at += found * width;
            assert!(top.0 + at as u64 <= frame.sp, "{}: {}", world.options.generation.name, frame.symbol);
        }
    }
}
