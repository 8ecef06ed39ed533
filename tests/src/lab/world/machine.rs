//! What processors and the machine tell of themselves: counters, levels, interrupt descriptors, queued spin locks, the
//! notes of the address space, the secondary data of Windows.
//!
//! Facts: `_KPCR`, `_KPRCB`, `_KINTERRUPT` in the layout tables; descriptors in Intel's manual; secondary data as real
//! dumps hold them. What a generation does not have is null in the facts.

use super::{SYSTEM_TIME, UP_TIME, World};
use crate::lab::bytes::{Bytes, utf16};
use crate::lab::layout::Machine;
use kd_sdk::address::{PAGE_SIZE, Va};
use serde_json::{Value, json};

/// Tags of Windows' secondary data as they stand in files: SMBIOS, cpuid, values of the registry.
const SMBIOS: [u8; 16] =
    [0x8f, 0, 0x5c, 0xbc, 0x3a, 0x1e, 0xd7, 0x44, 0x98, 0x8d, 0x86, 0xf6, 0x88, 0x4c, 0x67, 0x58];
const CPUID: [u8; 16] =
    [0x6f, 0xc0, 0x3d, 0xd0, 0x8e, 0xd8, 0xc5, 0x44, 0xba, 0x2a, 0xfa, 0xe0, 0x35, 0x17, 0x2d, 0x19];
const REGISTRY: [u8; 16] =
    [0x89, 0xc3, 0x7a, 0x6c, 0x13, 0x43, 0xdc, 0x47, 0x9f, 0x34, 0xa8, 0x80, 0x0a, 0x0f, 0xb5, 0x6c];
/// Vectors with interrupt objects, and how many of them.
const CLAIMED: [(u64, usize); 2] = [(0x52, 2), (0x61, 1)];
/// The lock that processor 0 owns while the others wait, the last one first.
const CONTENDED: u64 = 7;

impl World {
    /// Fills in what processors count and where they go on interrupts.
    pub(super) fn fit_machine(&mut self) {
        let mut told = Vec::new();
        for index in 0..self.processors.len() {
            let processor = self.fit_processor(index);
            told.push(processor);
        }
        self.facts.insert("cpus".into(), told.into());
        self.contend();
        self.tell_shared_data();
        self.tell_hardware();
    }

    /// Writes a field, and tells what was written: null where there is none.
    fn put(&mut self, base: Va, path: &str, value: u64) -> Value {
        if self.options.generation.find(path).is_none() {
            return Value::Null;
        }
        self.set(base, path, value);
        value.into()
    }

    fn fit_processor(&mut self, index: usize) -> Value {
        let generation = self.options.generation;
        let prcb = self.processors[index].prcb;
        let pcr = Va(prcb.0 - generation.prcb().0);
        let number = index as u64;
        let mut facts = serde_json::Map::new();
        facts.insert("pcr".into(), pcr.0.into());
        let irql = if index == 0 { 2 } else { 0 };
        for (name, path, value) in [
            ("irql", "_KPRCB.DebuggerSavedIRQL", irql),
            ("interrupt_count", "_KPRCB.InterruptCount", 0x1_0000 + number),
            ("kernel_time", "_KPRCB.KernelTime", 0x5ef4 + number),
            ("user_time", "_KPRCB.UserTime", 0x385 + number),
            ("dpc_time", "_KPRCB.DpcTime", 0x28 + number),
            ("interrupt_time", "_KPRCB.InterruptTime", 0x3f + number),
            ("set_member", "_KPRCB.SetMember", 1 << number),
            ("group_set_member", "_KPRCB.GroupSetMember", 1 << number),
            ("step", "_KPRCB.CpuStep", 0x3a09),
            ("features", "_KPRCB.FeatureBits", 0x2389_3fff),
            ("signature", "_KPRCB.UpdateSignature", 0x1b_0000_0000),
        ] {
            let value = self.put(prcb, path, value);
            facts.insert(name.into(), value);
        }
        for (name, path, value) in [
            ("major", "_KPCR.MajorVersion", 1),
            ("minor", "_KPCR.MinorVersion", 1),
            ("current_irql", "_KPCR.Irql", irql),
            ("idr", "_KPCR.IDR", 0xffff_ffff),
            ("exception_list", "_KPCR.NtTib.ExceptionList", 0xffff_ffff),
        ] {
            if name == "exception_list" && generation.machine != Machine::X86 {
                continue;
            }
            let value = self.put(pcr, path, value);
            facts.insert(name.into(), value);
        }
        if generation.machine != Machine::Arm64 {
            let (table, gates) = self.write_descriptors(index, pcr, prcb);
            facts.insert("idt".into(), table.0.into());
            facts.insert("gates".into(), gates);
        }
        facts.into()
    }

    /// The interrupt descriptors of a processor, and what is true of them.
    fn write_descriptors(&mut self, index: usize, pcr: Va, prcb: Va) -> (Va, Value) {
        let generation = self.options.generation;
        let wide = generation.machine == Machine::X64;
        let first = if wide { generation.kernel_base + 0xa0_0000 } else { 0x8a80_0000 };
        let table = Va(first + index as u64 * 2 * PAGE_SIZE);
        let segment = table.add(PAGE_SIZE);
        self.map_range(table, 2 * PAGE_SIZE);
        self.set(pcr, if wide { "_KPCR.IdtBase" } else { "_KPCR.IDT" }, table.0);
        self.set(pcr, if wide { "_KPCR.TssBase" } else { "_KPCR.TSS" }, segment.0);
        let limit = if wide { 0xfff } else { 0x7ff };
        self.set(prcb, "_KPRCB.ProcessorState.SpecialRegisters.Idtr.Limit", limit);
        self.set(prcb, "_KPRCB.ProcessorState.SpecialRegisters.Idtr.Base", table.0);
        // The first of the stacks for interrupts.
        let stack = segment.add(0xf00);
        if wide {
            self.write(segment.add(0x24), &stack.0.to_le_bytes());
        }
        let names = if wide { ["KiPageFault", "KiDpcInterrupt"] } else { ["KiTrap0E", "KiDpcInterrupt"] };
        let mut gates = Vec::new();
        for (vector, name) in [(0xe, names[0]), (0x2f, names[1])] {
            let handler = self.nt(name);
            let uses = wide && vector == 0x2f;
            self.write_gate(table, vector, handler, u8::from(uses));
            let stack = if uses { json!(stack.0) } else { Value::Null };
            gates.push(json!({ "vector": vector, "handler": handler.0, "symbol": format!("nt!{name}"), "stack": stack }));
        }
        for (vector, count) in CLAIMED {
            let objects = self.interrupt_objects(vector, count);
            let code = generation.find("_KINTERRUPT.DispatchCode");
            let handler = match (generation.find("_KPRCB.InterruptObject"), code) {
                (Some(array), _) => {
                    let width = generation.machine.pointer_size() as u64;
                    self.write_pointer(prcb.add(array + vector * width), objects[0].0.0);
                    self.nt("KiDpcInterrupt")
                }
                (None, Some(code)) => objects[0].0.add(code),
                (None, None) => continue,
            };
            self.write_gate(table, vector, handler, 0);
            let objects =
                objects.into_iter().map(|(at, context)| json!({ "interrupt": at.0, "context": context }));
            gates.push(
                json!({ "vector": vector, "handler": handler.0, "interrupts": objects.collect::<Value>() }),
            );
        }
        (table, gates.into())
    }

    fn write_gate(&mut self, table: Va, vector: u64, handler: Va, stack: u8) {
        let wide = self.options.generation.machine == Machine::X64;
        let code: u64 = if wide { 0x10 } else { 0x8 };
        let low = handler.0 & 0xffff
            | code << 16
            | u64::from(stack) << 32
            | 0x8e << 40
            | (handler.0 >> 16 & 0xffff) << 48;
        let mut bytes = low.to_le_bytes().to_vec();
        if wide {
            bytes.u64(handler.0 >> 32);
        }
        self.write(table.add(vector * bytes.len() as u64), &bytes);
    }

    /// Interrupt objects that share a vector, each with its context.
    fn interrupt_objects(&mut self, vector: u64, count: usize) -> Vec<(Va, u64)> {
        let generation = self.options.generation;
        let size = generation.at("_KINTERRUPT");
        let routine = self.image("faultdrv.sys").address_of("TimerDpc");
        let mut found: Vec<(Va, u64)> = Vec::new();
        for index in 0..count {
            let at = self.pool_block(b"Intr", size);
            let context = 0x1000 + vector * 0x10 + index as u64;
            let fields = [
                ("Type", 22),
                ("Size", size),
                ("ServiceRoutine", routine),
                ("ServiceContext", context),
                ("Vector", vector),
                ("Connected", 1),
            ];
            self.fill(at, "_KINTERRUPT", &fields);
            let links = at.add(generation.at("_KINTERRUPT.InterruptListEntry"));
            match found.first() {
                None => self.start_list(links),
                Some(&(first, _)) => {
                    self.append(first.add(generation.at("_KINTERRUPT.InterruptListEntry")), links)
                }
            }
            found.push((at, context));
        }
        found
    }

    /// A queued spin lock with an owner and two who wait.
    fn contend(&mut self) {
        let generation = self.options.generation;
        let (Some(queue), Some(size)) =
            (generation.find("_KPRCB.LockQueue"), generation.find("_KSPIN_LOCK_QUEUE"))
        else {
            return;
        };
        let lock = self.pool_block(b"Lock", 0x10);
        let places: Vec<Va> = self.processors.iter().map(|p| p.prcb.add(queue)).collect();
        for place in &places {
            for index in 0..16 {
                self.set(place.add(index * size), "_KSPIN_LOCK_QUEUE.Lock", lock.0 + 0x100 * index);
            }
        }
        let entries: Vec<Va> = places.iter().map(|place| place.add(CONTENDED * size)).collect();
        let mut states = vec!["O".to_owned()];
        for (index, &entry) in entries.iter().enumerate() {
            let word = lock.0 + 0x100 * CONTENDED + if index == 0 { 2 } else { 1 };
            self.set(entry, "_KSPIN_LOCK_QUEUE.Lock", word);
            // The owner leads to the last processor, that to the one before it.
            let next = match index {
                0 => entries.last(),
                1 => None,
                index => entries.get(index - 1),
            };
            let next = next.filter(|next| **next != entry).map_or(0, |next| next.0);
            self.set(entry, "_KSPIN_LOCK_QUEUE.Next", next);
            if index > 0 {
                states.push((entries.len() - index).to_string());
            }
        }
        let fact = json!({ "index": CONTENDED, "lock": lock.0 + 0x100 * CONTENDED, "states": states });
        self.facts.insert("queued_lock".into(), fact);
    }

    fn tell_shared_data(&mut self) {
        let page = self.options.generation.shared_user_data();
        let fields = [
            ("boot_id", "BootId", 17),
            ("crypto_exponent", "CryptoExponent", 0x1_0001),
            ("time_zone_id", "TimeZoneId", 2),
            ("console_session", "ActiveConsoleId", 1),
            ("physical_pages", "NumberOfPhysicalPages", 0x409e),
        ];
        let mut facts = json!({
            "address": page.0, "system_time": SYSTEM_TIME, "interrupt_time": UP_TIME, "tick_count": UP_TIME / 156_250,
        });
        for (name, field, value) in fields {
            facts[name] = self.put(page, &format!("_KUSER_SHARED_DATA.{field}"), value);
        }
        self.facts.insert("shared_data".into(), facts);
        let flags: u32 = 0x0200_0400;
        let at = self.nt("NtGlobalFlag");
        self.write(at, &flags.to_le_bytes());
        self.facts.insert("global_flags".into(), flags.into());
    }

    /// The secondary data that Windows adds to its dumps.
    fn tell_hardware(&mut self) {
        let mut smbios = vec![0, 3, 1, 0x31, 0, 0, 0, 0];
        let start = smbios.len();
        let mut structure = |kind: u8, handle: u8, body: &[u8], texts: &[&str]| {
            smbios.extend([kind, body.len() as u8 + 4, handle, 0]);
            smbios.extend(body);
            texts.iter().for_each(|text| smbios.extend([text.as_bytes(), b"\0"].concat()));
            smbios.extend(if texts.is_empty() { &[0, 0][..] } else { &[0] });
        };
        let mut firmware = [0; 20];
        (firmware[0], firmware[1], firmware[4], firmware[16], firmware[17]) = (1, 2, 3, 5, 17);
        structure(0, 0, &firmware, &["Example Firmware", "1.02", "05/17/2024"]);
        let mut system = [0; 23];
        (system[0], system[1], system[21]) = (1, 2, 3);
        structure(1, 1, &system, &["Example Computers", "Laboratory 3000", "SKU-7"]);
        structure(2, 2, &[1, 2, 0, 0], &["Example Boards", "Board 5"]);
        let mut module = [0; 36];
        (module[8], module[9], module[17], module[18]) = (0, 0x40, 0x80, 0x0c);
        structure(17, 3, &module, &[]);
        structure(127, 4, &[], &[]);
        let size = smbios.len() - start;
        smbios[4..8].copy_from_slice(&(size as u32).to_le_bytes());

        let mut cpuid = Vec::new();
        let mut leaf = |leaf: u32, answers: [[u32; 4]; 2]| {
            cpuid.u32(0);
            cpuid.u32(leaf);
            answers.iter().flatten().for_each(|word| cpuid.u32(*word));
        };
        leaf(
            1,
            [[0x306a9, 0x10_0800, 0x7fba_e3bf, 0xbfeb_fbff], [0x306a9, 0x210_0800, 0x7fba_e3bf, 0xbfeb_fbff]],
        );
        for (index, text) in [b"Processor of the", b" laboratory\0\0\0\0\0", &[0; 16]].into_iter().enumerate()
        {
            let words = [0, 4, 8, 12]
                .map(|at| u32::from_le_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]]));
            leaf(0x8000_0002 + index as u32, [words, words]);
        }

        let mut registry = Vec::new();
        let mut value = |name: &str, kind: u32, data: &[u8]| {
            let name = utf16(&format!("{name}\0"));
            registry.u32(name.len() as u32);
            registry.extend(name);
            registry.u32(kind);
            registry.u32(data.len() as u32);
            registry.extend(data);
        };
        value("~MHz", 4, &2400u32.to_le_bytes());
        value("ProcessorNameString", 1, &utf16("Processor of the laboratory\0"));
        self.secondary = vec![(SMBIOS, smbios), (CPUID, cpuid), (REGISTRY, registry)];
        self.facts.insert(
            "hardware".into(),
            json!({
                "size": size, "vendor": "Example Firmware", "version": "1.02", "product": "Laboratory 3000",
                "board": "Board 5", "major": 5, "minor": 17, "brand": "Processor of the laboratory", "megabytes": 0x4000,
                "speed": 0xc80,
            }),
        );
    }
}
