//! The 32-bit half of a program on a 64-bit system: its own PEB, TEB, loader lists, stack and saved registers.
//!
//! Facts: what a 32-bit kernel of the same time calls `_PEB` is the 32-bit PEB; where the two TEBs and the saved context
//! (`WOW64_CPURESERVED`, TLS slot 1) are, from public descriptions. Its 32-bit images are those of the x86 generation.

use super::World;
use super::vads::{Backing, EXECUTE_WRITE_COPY, READ_WRITE, Range};
use crate::lab::cpu::{Registers, context};
use crate::lab::image;
use crate::lab::kernels;
use crate::lab::layout::{Generation, Machine};
use crate::lab::stack::{Call, Cpu, Place};
use kd_sdk::address::{PAGE_SIZE, Va};
use serde_json::json;

/// The 32-bit TEB lies behind the 64-bit one.
const TEB_DISTANCE: u64 = 0x2000;

impl World {
    /// Makes the crashing program a 32-bit one.
    pub(super) fn narrow(&mut self, program: Va) {
        let native = self.options.generation;
        if native.machine == Machine::X86 {
            return;
        }
        let narrow = Generation::named(if native.build < 10240 { "x86-7601" } else { "x86-19041" });
        let files = kernels::load(narrow).unwrap_or_else(|e| panic!("kernel of {}: {e}", narrow.name));
        let all = [
            ("ntdll.dll", "ntdll.pdb", 0x77a0_0000, r"C:\Windows\SysWOW64\ntdll.dll"),
            ("faultapp.exe", "faultapp.pdb", 0x0040_0000, r"C:\Program Files\Example\faultapp.exe"),
        ];
        let mut images = Vec::new();
        for (name, pdb, base, path) in all {
            let image = image::built(Machine::X86, base, name, path.into(), &files[name], files[pdb].clone());
            self.map_user(Va(base), u64::from(image.size));
            self.write(Va(base), &image.bytes);
            images.push(image);
        }
        // For a while the world is the 32-bit system that the program believes in.
        self.options.generation = narrow;
        let native_images = std::mem::replace(&mut self.user_images, images);
        let places = self.user_places();
        let told = self.lay_environment(r"C:\Program Files\Example\faultapp.exe", "/device 0", 1);
        self.map_user(Va(places.stack - 0x3000), 0x3000);
        let chain: [Call; 5] = [
            ("ntdll.dll", "RtlUserThreadStart", Place::Calls),
            ("faultapp.exe", "WinMainCRTStartup", Place::Calls),
            ("faultapp.exe", "AskDriver", Place::Calls),
            ("ntdll.dll", "NtDeviceIoControlFile", Place::Calls),
            ("ntdll.dll", "KiFastSystemCall", Place::System),
        ];
        let mut cpu = Cpu::new(places.stack - 0x40, 0x32);
        let stack = self.run(&mut cpu, &chain);
        self.options.generation = native;
        self.narrow_images = std::mem::replace(&mut self.user_images, native_images);

        let registers = self.narrow_thread(&cpu, places.peb, places.stack);
        let told_by = self.point_to_narrow(program, places.peb);
        let frames: Vec<_> =
            stack.iter().map(|f| json!({ "pc": f.pc, "sp": f.sp, "symbol": f.symbol })).collect();
        let text = json!({
            "process": program.0, "peb32": places.peb, "teb32": places.teb, "wow64_process": told_by,
            "thread": self.thread.0, "environment": told, "stack": frames, "registers": registers,
            "cpu_area": self.user_places().data + 0x3800,
        });
        self.facts.insert("wow64".into(), text);
    }

    /// The 32-bit TEB of the crashing thread, tied to the 64-bit one, and the registers it will go on with.
    fn narrow_thread(&mut self, cpu: &Cpu, peb: u64, stack: u64) -> Registers {
        let teb = Va(self.user_places().teb);
        let narrow = teb.add(TEB_DISTANCE);
        self.map_user(narrow, self.options.generation.at("_TEB32").min(PAGE_SIZE));
        let (process, id) = self.client_id(self.thread);
        let fields = [
            ("NtTib.ExceptionList", u64::from(u32::MAX)),
            ("NtTib.StackBase", stack),
            ("NtTib.StackLimit", stack - 0x3000),
            ("NtTib.Self", narrow.0),
            ("ProcessEnvironmentBlock", peb),
            ("ClientId.UniqueProcess", process),
            ("ClientId.UniqueThread", id),
            ("LastErrorValue", 5),
            ("WowTebOffset", TEB_DISTANCE.wrapping_neg()),
        ];
        self.fill(narrow, "_TEB32", &fields);
        self.fill(teb, "_TEB", &[("NtTib.ExceptionList", narrow.0), ("WowTebOffset", TEB_DISTANCE)]);
        // WOW64_CPURESERVED: flags, machine; then the context.
        let area = Va(self.user_places().data + 0x3800);
        self.write_pointer(teb.add(self.options.generation.at("_TEB.TlsSlots") + 8), area.0);
        self.write(area.add(2), &Machine::X86.image_type().to_le_bytes());
        let mut registers: Registers = [
            ("cs", 0x23),
            ("ss", 0x2b),
            ("ds", 0x2b),
            ("es", 0x2b),
            ("fs", 0x53),
            ("gs", 0x2b),
            ("efl", 0x246),
        ]
        .into();
        let numbered = [("ebx", 3), ("ebp", 5), ("esi", 6), ("edi", 7)];
        registers.extend(numbered.map(|(name, number)| (name, cpu.registers[number])));
        registers.extend([("eip", cpu.pc), ("esp", cpu.sp)]);
        self.write(area.add(4), &context(Machine::X86, &registers));
        registers
    }

    /// Where the process keeps it: the PEB itself, or a record with it.
    fn point_to_narrow(&mut self, program: Va, peb: u64) -> u64 {
        let generation = self.options.generation;
        if generation.find("_EPROCESS.WoW64Process").is_none() {
            self.set(program, "_EPROCESS.Wow64Process", peb);
            return peb;
        }
        let block = self.pool_block(b"Wow6", generation.at("_EWOW64PROCESS"));
        self.fill(
            block,
            "_EWOW64PROCESS",
            &[("Peb", peb), ("Machine", u64::from(Machine::X86.image_type()))],
        );
        self.set(program, "_EPROCESS.WoW64Process", block.0);
        block.0
    }

    /// What the 32-bit half has mapped.
    pub(super) fn narrow_ranges(&self) -> Vec<Range> {
        let private = |start, size, commit| Range {
            start,
            size,
            protection: READ_WRITE,
            commit,
            backing: Backing::Private,
        };
        let image = |image: &image::Image| {
            let path = image.path.trim_start_matches("C:");
            // The program's own file is mapped twice here; they are two sections.
            let path =
                if image.name == "faultapp.exe" { r"\Program Files\Example\faultapp32.exe" } else { path };
            Range {
                start: image.base,
                size: u64::from(image.size).next_multiple_of(PAGE_SIZE),
                protection: EXECUTE_WRITE_COPY,
                commit: 3,
                backing: Backing::Image(path.into()),
            }
        };
        let mut ranges: Vec<Range> = self.narrow_images.iter().map(image).collect();
        if !ranges.is_empty() {
            ranges.extend([private(0x0003_0000, 0x10_0000, 3), private(0x0015_0000, 0x1_0000, 5)]);
        }
        ranges
    }
}
