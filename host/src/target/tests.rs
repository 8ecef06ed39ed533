//! The target layer on kernels made here: full dumps of x64 and x86 with a few structures in them.

use std::io::Write;

use super::rows::mask;
use super::*;
use crate::dump::OpenOptions;
use crate::target::kd_fields as field;

/// Where the kernel's memory is: one large page over the physical pages from zero.
const X64_BASE: u64 = 0xffff_f800_0000_0000;
const X86_BASE: u64 = 0x8000_0000;

/// Physical addresses of things.
const KD_DATA: u64 = 0x10000;
const LIST_HEAD: u64 = 0x11000;
const ENTRIES: u64 = 0x12000;
const NAMES: u64 = 0x14000;
const PROCESSOR_BLOCK: u64 = 0x15000;
const LAB: u64 = 0x16000;
const CSD: u64 = 0x16100;
const UNLOADED: u64 = 0x17000;
const PRCBS: [u64; 2] = [0x18180, 0x1c180];
const CONTEXTS: [u64; 2] = [0x20000, 0x21000];
const THREADS: [u64; 2] = [0x22000, 0x22800];
const PROCESS: u64 = 0x23000;
const PAGES: u64 = 0x30;

struct Kernel {
    wide: bool,
    memory: Vec<u8>,
    names: u64,
}

impl Kernel {
    fn new(wide: bool) -> Kernel {
        let mut kernel = Kernel { wide, memory: vec![0; (PAGES * 0x1000) as usize], names: NAMES };
        if wide {
            kernel.number(0x1000 + (X64_BASE >> 39 & 511) * 8, 0x2003, 8);
            kernel.number(0x2000, 0x3003, 8);
            kernel.number(0x3000, 0x83 | 0x60, 8);
        } else {
            kernel.number(0x1000 + (X86_BASE >> 22) * 4, 0x83 | 0x60, 4);
        }
        kernel
    }

    fn pointer(&self) -> u64 {
        if self.wide { 8 } else { 4 }
    }

    fn va(&self, pa: u64) -> u64 {
        pa + if self.wide { X64_BASE } else { X86_BASE }
    }

    fn bytes(&mut self, at: u64, bytes: &[u8]) {
        self.memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn number(&mut self, at: u64, value: u64, size: usize) {
        self.bytes(at, &value.to_le_bytes()[..size]);
    }

    fn link(&mut self, at: u64, pa: u64) {
        let (va, size) = (self.va(pa), self.pointer() as usize);
        self.number(at, va, size);
    }

    /// A field of the debugger data block.
    fn field(&mut self, field: Field, value: u64) {
        // Addresses are sign-extended there.
        let value = if self.wide || field.size != 8 { value } else { value as u32 as i32 as i64 as u64 };
        self.number(KD_DATA + field.offset as u64, value, field.size);
    }

    fn address(&mut self, field: Field, pa: u64) {
        let va = self.va(pa);
        self.field(field, va);
    }

    fn unicode_string(&mut self, at: u64, text: &str) {
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        self.number(at, units.len() as u64, 2);
        self.number(at + 2, units.len() as u64, 2);
        let (names, pointer) = (self.names, self.pointer());
        self.link(at + pointer, names);
        self.bytes(names, &units);
        self.names += units.len() as u64 + 2;
    }

    /// Loader entries 0x200 apart, linked both ways.
    fn modules(&mut self, names: &[&str]) {
        let pointer = self.pointer();
        let places: Vec<u64> = std::iter::once(LIST_HEAD)
            .chain((0..names.len() as u64).map(|index| ENTRIES + index * 0x200))
            .collect();
        for (index, &place) in places.iter().enumerate() {
            self.link(place, places[(index + 1) % places.len()]);
            self.link(place + pointer, places[(index + places.len() - 1) % places.len()]);
        }
        let [base, size, full, short, sum, stamp] = if self.wide {
            [0x30, 0x40, 0x48, 0x58, 0x78, 0x9c]
        } else {
            [0x18, 0x20, 0x24, 0x2c, 0x40, 0x58]
        };
        for (index, (name, place)) in names.iter().zip(&places[1..]).enumerate() {
            // From high to low addresses: the list is not sorted.
            let va = self.va(0x80_0000 - index as u64 * 0x10_0000);
            self.number(place + base, va, pointer as usize);
            self.number(place + size, 0x8000, 4);
            self.number(place + sum, 0x1234, 4);
            self.number(place + stamp, 0x5f00_0000, 4);
            self.unicode_string(place + full, &format!("\\SystemRoot\\{name}"));
            self.unicode_string(place + short, name);
        }
    }

    fn furnish(&mut self) {
        self.modules(&["ntkrnlmp.exe", "hal.dll", "some-driver.sys", "HAL.sys"]);
        self.bytes(KD_DATA + 0x10, b"KDBG");
        self.number(KD_DATA + 0x14, 0x340, 4);
        let kernel = self.va(0x80_0000);
        self.field(field::KERN_BASE, kernel);
        for (field, pa) in [
            (field::PS_LOADED_MODULE_LIST, LIST_HEAD),
            (field::PS_ACTIVE_PROCESS_HEAD, 0x11100),
            (field::MM_PFN_DATABASE, 0x11200),
            (field::NT_BUILD_LAB, LAB),
            (field::CM_NT_CSD_VERSION, CSD),
            (field::KI_PROCESSOR_BLOCK, PROCESSOR_BLOCK),
            (field::MM_UNLOADED_DRIVERS, UNLOADED),
            (field::MM_LAST_UNLOADED_DRIVER, UNLOADED + 8),
        ] {
            self.address(field, pa);
        }
        self.bytes(LAB, b"7601.24540.fre.win7sp1_ldr.190808-0600\0");
        self.number(CSD, 0x100, 4);
        let pointer = self.pointer() as usize;
        for (field, value) in [
            (field::OFFSET_PRCB_CURRENT_THREAD, 8),
            (field::OFFSET_PRCB_NUMBER, 0x24),
            (field::OFFSET_PRCB_PROC_STATE_SPECIAL_REG, if self.wide { 0x40 } else { 0x2ec }),
            (field::OFFSET_PRCB_PROC_STATE_CONTEXT, if self.wide { 0x120 } else { 0x20 }),
            (field::OFFSET_PRCB_CONTEXT, 0x800),
            (field::OFFSET_KTHREAD_APC_PROCESS, 0x70),
        ] {
            self.field(field, value);
        }
        let record = context::layout(if self.wide { Machine::X64 } else { Machine::X86 });
        let ip = record.context.iter().find(|slot| slot.name == record.ip).unwrap().offset as u64;
        let sp = record.context.iter().find(|slot| slot.name == record.sp).unwrap().offset as u64;
        for number in 0..2 {
            self.link(PROCESSOR_BLOCK + (number * pointer) as u64, PRCBS[number]);
            self.link(PRCBS[number] + 8, THREADS[number]);
            self.number(PRCBS[number] + 0x24, number as u64, 4);
            self.link(PRCBS[number] + 0x800, CONTEXTS[number]);
            self.link(CONTEXTS[number] + ip, 0x80_1000 + number as u64);
            self.link(CONTEXTS[number] + sp, 0x24000 + number as u64 * 0x1000);
            let special = PRCBS[number] + if self.wide { 0x40 } else { 0x2ec };
            self.number(special, 0x8001_0031, pointer);
            self.link(THREADS[number] + 0x70, PROCESS);
        }
        // Two unloaded drivers, the newer in slot 0 after the table wrapped around.
        let table = UNLOADED + 0x100;
        self.link(UNLOADED, table);
        self.number(UNLOADED + 8, 51, 4);
        let size = if self.wide { 0x28 } else { 0x18 };
        for (slot, name) in [(0, "newer.sys"), (49, "older.sys")] {
            let record = table + slot * size;
            self.unicode_string(record, name);
            let start = self.va(0x90_0000);
            self.number(record + 2 * pointer as u64, start, pointer);
            self.number(record + 3 * pointer as u64, start + 0x4000, pointer);
            self.number(record + 4 * pointer as u64, 0x01d0_0000_0000_0000 + slot, 8);
        }
    }

    /// A full dump; the header's registers are those of processor 1.
    fn open(&self) -> Target {
        let mut head = b"PAGE".repeat(if self.wide { 0x800 } else { 0x400 });
        let mut put = |at: usize, value: u64, size: usize| {
            head[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        };
        let places: [usize; 12] = if self.wide {
            [0x10, 0x18, 0x20, 0x28, 0x30, 0x34, 0x80, 0x88, 0x98, 0x348, 0xf98, 0xfa0]
        } else {
            [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x60, 0x64, 0x6c, 0x320, 0xf88, 0xfa0]
        };
        let pointer = self.pointer() as usize;
        put(4, u64::from(u32::from_le_bytes(if self.wide { *b"DU64" } else { *b"DUMP" })), 4);
        put(8, 0xf, 4);
        put(12, 19041, 4);
        for (place, pa) in [(1, 0x11200), (2, LIST_HEAD), (3, 0x11100), (6, KD_DATA)] {
            put(places[place], self.va(pa), pointer);
        }
        put(places[0], 0x1000, pointer);
        put(places[4], if self.wide { 0x8664 } else { 0x14c }, 4);
        put(places[5], 2, 4);
        put(places[7], 1, 4);
        put(places[7] + pointer, PAGES, pointer);
        put(places[8], 0, pointer);
        put(places[8] + pointer, PAGES, pointer);
        put(places[10], 1, 4);
        put(places[11], head_size(self.wide) + PAGES * 0x1000, 8);
        if !self.wide {
            head[0x5c] = 0;
        }
        let size = context::layout(if self.wide { Machine::X64 } else { Machine::X86 }).context_size;
        let context = CONTEXTS[1] as usize;
        head[places[9]..places[9] + size].copy_from_slice(&self.memory[context..context + size]);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&head).unwrap();
        file.write_all(&self.memory).unwrap();
        Target::open(Dump::open(file.path(), &OpenOptions { no_mmap: true, ..Default::default() }).unwrap())
    }
}

fn head_size(wide: bool) -> u64 {
    if wide { 0x2000 } else { 0x1000 }
}

fn check(kernel: &Kernel, source: KdDataSource) {
    let target = kernel.open();
    let data = target.kd_data().unwrap_or_else(|| panic!("{:?}", target.problems()));
    assert_eq!(data.source(), source);
    assert_eq!(data.va(field::KERN_BASE), Some(Va(kernel.va(0x80_0000))));
    assert_eq!(data.by_name("offsetprcbcontext"), Some(0x800));
    assert_eq!(data.get(field::PTE_BASE), None);

    let names: Vec<&str> = target.modules().iter().map(|module| module.name.as_str()).collect();
    // Sorted by address; of two equal names the one loaded later gets its address.
    let second = format!("HAL_{:x}", kernel.va(0x50_0000));
    assert_eq!(names, [second.as_str(), "some_driver", "hal", "nt"]);
    let nt = target.module_named("ntkrnlmp.exe").unwrap();
    assert!(nt.is_kernel && nt.path == "\\SystemRoot\\ntkrnlmp.exe" && nt.check_sum == 0x1234);
    assert_eq!((nt.time_stamp, nt.size), (0x5f00_0000, 0x8000));
    assert_eq!(target.module_at(Va(nt.end().0)), None);

    let unloaded: Vec<_> = target.unloaded().iter().map(|module| module.name.as_str()).collect();
    assert_eq!(unloaded, ["newer.sys", "older.sys"]);
    assert_eq!(target.unloaded()[1].time, Some(0x01d0_0000_0000_0000 + 49));

    assert_eq!(target.current_processor(), 1);
    for processor in target.processors() {
        let number = processor.number as usize;
        assert_eq!(processor.prcb, Some(Va(kernel.va(PRCBS[number]))));
        assert_eq!(processor.current_thread, Some(Va(kernel.va(THREADS[number]))));
        assert_eq!(processor.current_process, Some(Va(kernel.va(PROCESS))));
        let found = target.registers(processor.number).unwrap();
        assert_eq!(found.registers.ip(), Va(kernel.va(0x80_1000) + number as u64));
        assert_eq!(found.source, RegisterSource::Prcb(Va(kernel.va(CONTEXTS[number]))));
        assert_eq!(found.registers.get("cr0"), Some(0x8001_0031));
        assert!(!rows::rows(&found.registers, mask::ALL).is_empty());
    }
    let version = target.version();
    assert_eq!(version.service_pack, 1);
    assert_eq!(version.build_lab.as_deref(), Some("7601.24540.fre.win7sp1_ldr.190808-0600"));
    assert_eq!(target.problems(), []);
}

#[test]
fn a_full_dump_of_x64() {
    let mut kernel = Kernel::new(true);
    kernel.furnish();
    check(&kernel, KdDataSource::Memory);
}

#[test]
fn a_full_dump_of_x86() {
    let mut kernel = Kernel::new(false);
    kernel.furnish();
    check(&kernel, KdDataSource::Memory);
}

#[test]
fn an_encoded_data_block_is_decoded_without_symbols() {
    for wide in [true, false] {
        let mut kernel = Kernel::new(wide);
        kernel.furnish();
        let block = KD_DATA as usize..KD_DATA as usize + 0x340;
        let encoded = kd_encoding::tests::encode(&kernel.memory[block], kd_encoding::tests::NEVER);
        kernel.bytes(KD_DATA, &encoded);
        check(&kernel, KdDataSource::Decoded);
    }
}

#[test]
fn a_dump_without_a_data_block_still_lists_modules() {
    let mut kernel = Kernel::new(true);
    kernel.furnish();
    kernel.bytes(KD_DATA, &[0x55; 0x400]);
    let target = kernel.open();
    assert!(target.kd_data().is_none());
    assert_eq!(target.modules().len(), 4);
    assert_eq!(target.kernel_base(), Some(Va(kernel.va(0x80_0000))));
    // The header's registers are all there is.
    assert_eq!(target.current_processor(), 0);
    assert_eq!(target.registers(0).unwrap().source, RegisterSource::Header);
    assert!(matches!(target.registers(1), Err(RegisterError::NoPrcb { number: 1 })));
    assert!(matches!(
        target.problems()[..],
        [TargetProblem::KdData(KdDataError::Encoded { tag: 0x5555_5555, .. })]
    ));
}

#[test]
fn a_broken_list_is_read_from_both_ends() {
    let mut kernel = Kernel::new(true);
    kernel.furnish();
    // The second entry points into memory that the dump does not have.
    kernel.link(ENTRIES + 0x200, 0x10_0000);
    let target = kernel.open();
    assert_eq!(target.modules().len(), 4);
    assert!(
        matches!(target.problems()[..], [TargetProblem::ModuleList { found: 4, .. }]),
        "{:?}",
        target.problems()
    );
}

#[test]
fn a_list_that_runs_into_itself_ends() {
    let mut kernel = Kernel::new(true);
    kernel.furnish();
    kernel.link(ENTRIES + 0x400, ENTRIES);
    let target = kernel.open();
    assert_eq!(target.modules().len(), 3);
    assert!(matches!(target.problems()[..], [TargetProblem::ModuleListLoops { .. }]));
}

#[test]
fn a_processor_count_from_nowhere_is_bounded() {
    let mut kernel = Kernel::new(true);
    kernel.furnish();
    assert_eq!(kernel.open().processors().len(), 2);
    assert!(matches!(kernel.open().registers(u32::MAX), Err(RegisterError::NoProcessor { .. })));
}

#[test]
fn a_target_may_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Target>();
}
