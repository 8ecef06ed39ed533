//! The layer as a whole: on real kernels' symbols where they are at hand, and on damaged ones.

mod build;
mod damaged;
mod dumps;
mod layouts;
mod places;
mod private;
#[cfg(feature = "symsrv")]
mod server;

use super::pdb::PdbFile;
use super::*;
use std::time::Instant;

/// The store for tests; `None`, said aloud, where it is absent.
fn symstore() -> Option<PathBuf> {
    crate::shared("symbols/symstore")
}

fn pdb_path(store: &Path, name: &str, key: &str) -> PathBuf {
    store.join(name).join(key).join(name)
}

const NT: Va = Va(0xfffff804_7ba00000);
const KERNEL_804: &str = "5278AFF86C341677D7D7835C85B7B8441";
const KERNEL_2023: &str = "89284D0CA6ACC8274B9A44BD5AF9290B1";

/// A target with one kernel and one driver; `memory` is the kernel's image as far as it was captured.
struct OneKernel {
    time_stamp: u32,
    hints: KernelHints,
    memory: Vec<u8>,
}

impl OneKernel {
    fn new(time_stamp: u32) -> OneKernel {
        OneKernel { time_stamp, hints: KernelHints::default(), memory: Vec::new() }
    }
}

impl ModuleSource for OneKernel {
    fn modules(&self) -> usize {
        2
    }

    fn module(&self, index: usize) -> Option<Module<'_>> {
        match index {
            0 => Some(Module {
                base: NT,
                size: 0x1046000,
                name: "nt",
                image: "ntoskrnl.exe",
                time_stamp: self.time_stamp,
                is_kernel: true,
            }),
            1 => Some(Module {
                base: Va(0xfffff804_8b580000),
                size: 0x3b000,
                name: "amdppm",
                image: "\\SystemRoot\\System32\\drivers\\amdppm.sys",
                time_stamp: 0xe5ff1f0a,
                is_kernel: false,
            }),
            _ => None,
        }
    }

    fn read(&self, va: Va, into: &mut [u8]) -> bool {
        let at = va.0.wrapping_sub(NT.0) as usize;
        match at.checked_add(into.len()).and_then(|end| self.memory.get(at..end)) {
            Some(from) => {
                into.copy_from_slice(from);
                true
            }
            None => false,
        }
    }

    fn kernel_hints(&self) -> KernelHints {
        self.hints
    }
}

fn symbols(store: &Path) -> Symbols {
    Symbols::new(SymbolPath::parse(&format!("srv*{}", store.display())))
}

#[test]
fn the_kernel_of_a_small_dump_is_found_through_its_image() {
    let Some(store) = symstore() else { return };
    let source = OneKernel::new(0x0d8333e6);
    let symbols = symbols(&store);
    assert!(matches!(symbols.state(&source, 0), ModuleState::Deferred));
    let started = Instant::now();
    assert_eq!(symbols.find(&source, "nt!PsActiveProcessHead").unwrap(), Va(0xfffff804_7c61e200));
    println!("first name of a kernel: {:?}", started.elapsed());
    let ModuleState::Loaded { id, matched, .. } = symbols.state(&source, 0) else { panic!("not loaded") };
    assert_eq!(id.to_string(), KERNEL_804);
    assert!(matches!(&matched, Matched::ImageFile(path) if path.ends_with("ntoskrnl.ex_")), "{matched:?}");

    // As KD prints them.
    for (va, shown) in [
        (0xfffff804_7bdf5a80, "nt!KeBugCheckEx"),
        (0xfffff804_7bdf5aa0, "nt!KeBugCheckEx+0x20"),
        (0xfffff804_7be0f4e1, "nt! ?? ::FNODOBFM::`string'+0x1611"),
        (0xfffff804_7bdcc052, "nt!C_specific_handler+0xa2"),
        (0xfffff804_7bad5d08, "nt!setjmpexused+0xd038"),
        (0xfffff804_7bd17e25, "nt!PspSystemThreadStartup+0x55"),
        (0xfffff804_7bdfe942, "nt!RtlpExecuteHandlerForException+0x12"),
        (0xfffff804_7c64f0c0, "nt!MiState+0x2980"),
        (0xfffff804_7bc11c8f, "nt!MiAddWorkingSetEntries+0x3ff"),
        (0xfffff804_7ba00000, "nt"),
        (0xfffff804_8b58334c, "amdppm+0x334c"),
    ] {
        assert_eq!(symbols.at(&source, Va(va)).unwrap().to_string(), shown);
    }
    assert!(symbols.at(&source, Va(0x1000)).is_none());
    let near = symbols.near(&source, Va(0xfffff804_7bdf5a80)).unwrap();
    assert_eq!(near.next.unwrap().address, Va(0xfffff804_7bdf5bb0));
    assert_eq!(near.exact.len(), 1);

    let mut names = Vec::new();
    let mut visit = |named: Named<'_>| {
        names.push(format!("{} {}!{}", named.address, named.module_name, named.name));
        ControlFlow::Continue(())
    };
    symbols.each(&source, "NT!psloaded*", &mut visit).unwrap();
    assert_eq!(
        names,
        [
            "fffff804`7c62a390 nt!PsLoadedModuleList",
            "fffff804`7c62a320 nt!PsLoadedModuleResource",
            "fffff804`7c7231c0 nt!PsLoadedModuleSpinLock",
        ]
    );

    assert_eq!(symbols.find(&source, "nt").unwrap(), NT);
    assert_eq!(symbols.find(&source, "ntoskrnl").unwrap(), NT);
    assert_eq!(symbols.find(&source, "KeBugCheckEx").unwrap(), Va(0xfffff804_7bdf5a80));
    assert!(matches!(symbols.find(&source, "nt!NoSuch"), Err(SymbolError::NotFound { .. })));
    assert!(matches!(symbols.find(&source, "nope!x"), Err(SymbolError::NoModule { .. })));
    let error = symbols.find(&source, "amdppm!x").unwrap_err().to_string();
    assert!(error.contains("amdppm.sys E5FF1F0A3b000 was not found"), "{error}");
}

#[test]
fn the_types_of_a_kernel_are_as_kd_shows_them() {
    let Some(store) = symstore() else { return };
    let source = OneKernel::new(0x0d8333e6);
    let symbols = symbols(&store);
    let started = Instant::now();
    let types = symbols.types(&source, "nt").unwrap();
    let process = types.find("_EPROCESS").unwrap();
    let field = |path: &str| types.field(process, path).unwrap();
    assert_eq!(field("UniqueProcessId").offset, 0x440);
    println!("first field of a kernel: {:?}", started.elapsed());
    assert_eq!(types.size(process), 0xa40);
    assert_eq!(field("ActiveProcessLinks").offset, 0x448);
    let image = field("ImageFileName");
    assert_eq!((image.offset, image.size, image.count, image.kind), (0x5a8, 15, 15, Kind::Array));
    assert_eq!(types.name(image.id), "[15] UChar");
    assert_eq!(field("imagefilename[2]").offset, 0x5aa);
    assert_eq!(field("ActiveProcessLinks.Blink").offset, 0x450);
    assert_eq!(field("Pcb.DirectoryTableBase").offset, 0x28);
    assert!(types.field(process, "NoSuch").is_none() && types.field(process, "UniqueProcessId[1]").is_none());
    assert_eq!(types.find("EPROCESS"), Some(process));
    assert_eq!(types.find("struct _eprocess"), Some(process));
    assert_eq!(types.find("_NOPE"), None);

    let thread = types.find("_ETHREAD").unwrap();
    assert_eq!(types.field(thread, "Cid.UniqueThread").unwrap().offset, 0x480);
    assert_eq!(types.field(thread, "Tcb.ApcState.Process").unwrap().offset, 0x98 + 0x20);

    let apc = types.find("_KAPC_STATE").unwrap();
    let shown: Vec<String> = types
        .fields(apc)
        .iter()
        .take(3)
        .map(|f| format!("+0x{:03x} {} : {}", f.offset, f.name, types.name(f.id)))
        .collect();
    assert_eq!(
        shown,
        [
            "+0x000 ApcListHead : [2] _LIST_ENTRY",
            "+0x020 Process : Ptr64 _KPROCESS",
            "+0x028 InProgressFlags : UChar"
        ]
    );
    let kprocess = types.find("_KPROCESS").unwrap();
    let policy = types.field(kprocess, "PpmPolicy").unwrap();
    assert_eq!((policy.offset, policy.bit_position, policy.bit_length, policy.size), (0x278, 7, 3, 4));
    assert_eq!(types.name(policy.id), "Pos 7, 3 Bits");
    assert_eq!(types.name(types.field(kprocess, "AutoAlignment").unwrap().id), "Pos 0, 1 Bit");
    assert_eq!(types.name(types.field(kprocess, "SecureState").unwrap().id), "<unnamed-tag>");
    let pte = types.find("_MMPTE").unwrap();
    assert_eq!(types.field(pte, "u.Hard.PageFrameNumber").unwrap().bit_position, 12);
    let string = types.find("_UNICODE_STRING").unwrap();
    assert_eq!(types.name(types.field(string, "Buffer").unwrap().id), "Ptr64 Wchar");

    let reason = types.find("_KWAIT_REASON").unwrap();
    assert_eq!(types.enum_values(reason).len(), 41);
    assert_eq!(types.enum_name(reason, 15).as_deref(), Some("WrQueue"));
    assert_eq!(types.enum_value(reason, "maximumwaitreason"), Some(40));

    let (_, id) = symbols.find_type(&source, "nt!_KPROCESS").unwrap();
    assert_eq!(id, kprocess);
    assert!(symbols.find_type(&source, "_KPROCESS").is_ok());
    assert!(matches!(symbols.find_type(&source, "nt!_X"), Err(SymbolError::NoType { .. })));
}

#[test]
fn the_kernel_is_found_by_its_image_in_memory() {
    let Some(store) = symstore() else { return };
    let id = PdbFile::open(&pdb_path(&store, "ntkrnlmp.pdb", KERNEL_804)).unwrap().id();
    let mut source = OneKernel::new(1);
    source.memory = crate::image::debug::tests::image("D:\\x\\ntkrnlmp.pdb", id, 1, 0x1046000);
    let symbols = symbols(&store);
    let ModuleState::Loaded { matched, .. } = symbols.load(&source, 0) else { panic!("not loaded") };
    assert_eq!(matched, Matched::ImageInMemory);
}

#[test]
fn the_kernel_is_found_by_the_addresses_in_the_header() {
    let Some(store) = symstore() else { return };
    let pdb = PdbFile::open(&pdb_path(&store, "ntkrnlmp.pdb", KERNEL_2023))
        .unwrap()
        .index(Default::default())
        .unwrap();
    let va = |name| NT.add(u64::from(pdb.find(name).unwrap()));
    let mut source = OneKernel::new(0x1234);
    source.hints = KernelHints {
        ps_loaded_module_list: va("PsLoadedModuleList"),
        ps_active_process_head: va("PsActiveProcessHead"),
        kd_debugger_data_block: va("KdDebuggerDataBlock"),
        pfn_database: va("MmPfnDatabase"),
    };
    let symbols_ = symbols(&store);
    let started = Instant::now();
    let ModuleState::Loaded { matched, id, .. } = symbols_.load(&source, 0) else { panic!("not loaded") };
    println!("kernel by addresses among the store: {:?}", started.elapsed());
    assert_eq!((matched, id.to_string()), (Matched::HeaderAddresses, KERNEL_2023.to_owned()));

    source.hints.pfn_database = va("PsActiveProcessHead");
    let ModuleState::None { reason } = symbols(&store).load(&source, 0) else { panic!("found") };
    assert!(reason.in_full().contains("has MmPfnDatabase elsewhere"), "{reason}");
}

#[test]
fn every_pdb_of_the_store_can_be_read() {
    let Some(store) = symstore() else { return };
    let path = SymbolPath::parse(&store.to_string_lossy());
    let mut count = 0;
    for name in ["ntkrnlmp.pdb", "ntkrnlpa.pdb"] {
        for found in store::all(&path, name, &mut Search::default(), 100) {
            let started = Instant::now();
            let pdb = PdbFile::open(found.path()).unwrap();
            let opened = started.elapsed();
            assert!(found.path().to_string_lossy().contains(&pdb.id().to_string()), "{}", pdb.id());
            let index = pdb.index(Default::default()).unwrap();
            let indexed = started.elapsed();
            assert!(index.find("PsActiveProcessHead").is_some());
            let named = started.elapsed();
            let types = pdb.types("nt").unwrap();
            let process = types.find("_EPROCESS").unwrap();
            assert!(types.field(process, "ImageFileName").is_some());
            println!(
                "{} {}: open {opened:?}, {} names {:?}, first name {:?}, first field {:?}",
                name,
                pdb.id(),
                index.len(),
                indexed - opened,
                named - indexed,
                started.elapsed() - named
            );
            // Every type can be printed.
            types.each(&Pattern::parse("*").unwrap(), &mut |_, id| {
                for field in types.fields(id).iter() {
                    assert!(!types.name(field.id).contains("unknown"), "{field:?}");
                }
                types.enum_values(id);
                ControlFlow::Continue(())
            });
            count += 1;
        }
    }
    assert_eq!(count, 6);
}

#[test]
fn an_old_32_bit_kernel_has_its_layout() {
    let Some(store) = symstore() else { return };
    let pdb = PdbFile::open(&pdb_path(&store, "ntkrnlpa.pdb", "30B5FB31AE7E4ACAABA750AA241FF3311")).unwrap();
    assert_eq!(pdb.id().age, 1);
    let index = pdb.index(Default::default()).unwrap();
    for name in
        ["KeBugCheckEx", "PsActiveProcessHead", "PsLoadedModuleList", "KdDebuggerDataBlock", "MmPfnDatabase"]
    {
        assert!(index.find(name).is_some(), "{name}");
    }
    let types = pdb.types("nt").unwrap();
    assert_eq!(types.pointer_size(), 4);
    let process = types.find("_EPROCESS").unwrap();
    assert_eq!(types.size(process), 0x260);
    for (path, offset) in [("UniqueProcessId", 0x84), ("ActiveProcessLinks", 0x88), ("ImageFileName", 0x174)]
    {
        assert_eq!(types.field(process, path).unwrap().offset, offset, "{path}");
    }
    let driver = types.find("_DRIVER_OBJECT").unwrap();
    assert_eq!(types.name(types.field(driver, "DriverUnload").unwrap().id), "Ptr32     void ");
}

#[test]
fn an_empty_path_and_missing_stores_say_so() {
    let source = OneKernel::new(7);
    let error = Symbols::default().find(&source, "nt!x").unwrap_err().to_string();
    assert!(error.contains("the symbol path is empty"), "{error}");
    let symbols = Symbols::new(SymbolPath::parse("srv*/no/such/place*https://msdl.example/download"));
    let error = symbols.find(&source, "nt!x").unwrap_err().in_full();
    assert!(error.contains("/no/such/place: no such folder"), "{error}");
    assert!(error.contains("https://msdl.example/download: not asked"), "{error}");
    assert!(error.contains("get https://msdl.example/download/") || !error.contains("get "), "{error}");
}

/// The genuine 32-bit kernel has the older frame data: whatever a function's row says must be inside the function.
#[test]
fn frame_data_of_a_32_bit_kernel() {
    let Some(store) = symstore() else { return };
    let path = pdb_path(&store, "ntkrnlpa.pdb", "30B5FB31AE7E4ACAABA750AA241FF3311");
    let file = PdbFile::open(&path).unwrap();
    let index = file.index(Default::default()).unwrap();
    let mut found = 0;
    for name in [
        "KeBugCheckEx",
        "IofCallDriver",
        "KeSetEvent",
        "ExAllocatePoolWithTag",
        "KiTrap0E",
        "KeWaitForSingleObject",
    ] {
        let rva = index.find(name).unwrap();
        let Some(data) = file.frame_data(rva) else { continue };
        assert_eq!(data.offset, 0, "{name}");
        assert!(data.parameters <= 0x28 && data.saved <= 16, "{name}: {data:?}");
        found += 1;
        println!("{name}: {data:?}");
    }
    assert!(found >= 4, "{found}");
    let bug_check = file.frame_data(index.find("KeBugCheckEx").unwrap()).unwrap();
    assert_eq!(bug_check.parameters, 20);
}
