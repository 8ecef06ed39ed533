//! The program of a story: its images, stack, PEB and TEB in user memory.

use super::{Story, World};
use crate::lab::image::Image;
use crate::lab::layout::Machine;
use crate::lab::memory::Owner;
use crate::lab::paging::{Leaf, Scheme, Size};
use crate::lab::stack::{Call, Place};
use kd_sdk::address::{PAGE_SIZE, Va};
use serde_json::{Value, json};

impl World {
    /// Maps fresh user pages of the crashing program over a range.
    pub(super) fn map_user(&mut self, va: Va, size: u64) {
        let mut page = va.page();
        while page.0 < va.0 + size {
            let frame = self.memory.allocate(Owner::User);
            self.user.map(&mut self.memory, page, frame, Size::Small, Owner::User);
            page = page.add(PAGE_SIZE);
        }
    }

    /// The frames of the program down to the system call.
    pub(super) fn program(&self) -> Vec<Call> {
        let mut chain = vec![
            ("ntdll.dll", "RtlUserThreadStart", Place::Calls),
            ("faultapp.exe", "WinMainCRTStartup", Place::Calls),
            ("faultapp.exe", "AskDriver", Place::Calls),
        ];
        if self.options.generation.machine == Machine::X86 {
            chain.push(("ntdll.dll", "NtDeviceIoControlFile", Place::Calls));
            chain.push(("ntdll.dll", "KiFastSystemCall", Place::System));
        } else {
            chain.push(("ntdll.dll", "NtDeviceIoControlFile", Place::System));
        }
        chain.push(("nt", self.entry(), Place::Calls));
        chain
    }

    /// Where a chain's user stack begins; mapped if the chain has user frames.
    pub(super) fn user_sp(&mut self, chain: &[Call]) -> u64 {
        let top = self.user_places().stack;
        if chain[0].0 == "ntdll.dll" {
            self.map_user(Va(top - 0x2000), 0x2000);
        }
        top - 0x40
    }

    /// Where every program has its parts. Beside a 32-bit half, all lies below 4 GiB.
    pub(super) fn user_places(&self) -> Places {
        let is_x86 = self.options.generation.machine == Machine::X86;
        let narrow_system = matches!(self.system.scheme, Scheme::X86 | Scheme::X86Pae);
        let (peb, teb, step, data, stack) = match (is_x86, self.options.story == Story::Wow64) {
            (true, _) if narrow_system => (0x7ffd_f000, 0x7ffd_a000, -0x1000, 0x0015_0000, 0x0013_0000),
            (true, _) => (0x7efd_e000, 0x7efd_d000, -0x3000, 0x0015_0000, 0x0013_0000),
            (_, true) => (0x7efd_f000, 0x7efd_b000, -0x3000, 0x0030_0000, 0x0028_0000),
            _ => (0x7_3450_0000, 0x7_3450_8000, 0x2000, 0x01f0_1000_0000, 0x7_3480_0000),
        };
        Places { peb, teb, step, data, stack }
    }

    /// The end of a thread's stack of 1 MiB, by its number in the program.
    pub(super) fn stack_top(&self, number: u64) -> u64 {
        let others =
            if self.options.generation.machine == Machine::X86 { 0x0300_0000 } else { 0x7_3480_0000 };
        if number == 0 { self.user_places().stack } else { others + 0x10_0000 * number }
    }

    /// Shows the crashing program's copy of the system's library to the process whose address space is in use.
    pub(super) fn share_library(&mut self) {
        let (base, size) = (self.user_images[0].base, u64::from(self.user_images[0].size));
        let root = self.root_of(self.process(PROGRAM));
        let source = self.spaces.iter().find(|s| s.root == root).copied().unwrap_or(self.user);
        for page in (base..base + size).step_by(PAGE_SIZE as usize) {
            if let Some(pa) = source.translate(&self.memory, Va(page)) {
                self.user.set(&mut self.memory, Va(page), Leaf::Valid(pa.pfn()), Owner::User);
            }
        }
    }

    /// Gives the process whose address space is in use its PEB.
    pub(super) fn environment(&mut self, process: Va, image: &str, arguments: &str, session: u64) {
        let mut told = self.lay_environment(image, arguments, session);
        self.set(process, "_EPROCESS.Peb", self.user_places().peb);
        told["process"] = process.0.into();
        self.fact("environments", told);
    }

    /// Makes PEB, loader data and parameters of the program whose address space is in use.
    pub(super) fn lay_environment(&mut self, image: &str, arguments: &str, session: u64) -> Value {
        let generation = self.options.generation;
        let places = self.user_places();
        let (peb, data) = (Va(places.peb), Va(places.data));
        self.map_user(peb, generation.at("_PEB").next_multiple_of(PAGE_SIZE));
        self.map_user(data, 0x4000);
        let mut modules: Vec<Module> = self.user_images.iter().rev().map(Module::of).collect();
        image.rsplit('\\').next().expect("a name").clone_into(&mut modules[0].name);
        image.clone_into(&mut modules[0].path);
        let (loader, parameters) = (data, data.add(0x100));
        let fields = [
            ("ImageBaseAddress", modules[0].base),
            ("Ldr", loader.0),
            ("ProcessParameters", parameters.0),
            ("ProcessHeap", places.data + 0x40_0000),
            ("NumberOfProcessors", u64::from(self.options.processors)),
            ("OSMajorVersion", u64::from(generation.version.0)),
            ("OSMinorVersion", u64::from(generation.version.1)),
            ("OSBuildNumber", u64::from(generation.build)),
            ("ImageSubsystem", 2),
            ("ImageSubsystemMajorVersion", 6),
            ("SessionId", session),
        ];
        self.fill(peb, "_PEB", &fields);

        let mut text = data.add(0x1000);
        let block = data.add(0x3000);
        let folder = format!(r"{}\", image.rsplit_once('\\').map_or("", |p| p.0));
        let command = format!("\"{image}\"{}{arguments}", if arguments.is_empty() { "" } else { " " });
        let title = modules[0].name.clone();
        let strings = [
            ("ImagePathName", image),
            ("CommandLine", command.as_str()),
            ("CurrentDirectory.DosPath", folder.as_str()),
            ("DllPath", r"C:\Windows\System32;C:\Windows"),
            ("WindowTitle", title.as_str()),
            ("DesktopInfo", r"WinSta0\Default"),
        ];
        for (field, string) in strings {
            let at = parameters.add(generation.at(&format!("_RTL_USER_PROCESS_PARAMETERS.{field}")));
            self.user_string(&mut text, at, string);
        }
        let length = generation.at("_RTL_USER_PROCESS_PARAMETERS");
        let variables = ["COMPUTERNAME=LABORATORY", "OS=Windows_NT", "USERNAME=tester", "EMPTY="];
        // Strings one after the other, an empty one ends it.
        let characters = crate::lab::bytes::utf16(&(variables.join("\0") + "\0\0"));
        self.write(block, &characters);
        let fields = [
            ("MaximumLength", length),
            ("Length", length),
            ("Flags", 0x6001), // normalised
            ("CurrentDirectory.Handle", 0x44),
            ("Environment", block.0),
            ("EnvironmentSize", characters.len() as u64),
        ];
        self.fill(parameters, "_RTL_USER_PROCESS_PARAMETERS", &fields);
        let entry = Va(text.0.next_multiple_of(0x100));
        self.list_user_modules(loader, entry, data.add(0x2800), &modules);
        let listed = modules.iter().map(Module::truth).collect::<Vec<_>>();
        json!({ "peb": peb.0, "ldr": loader.0, "parameters": parameters.0, "image": image,
                "command_line": command, "current_directory": folder, "modules": listed, "environment": variables,
                "dll_path": strings[3].1, "window_title": title, "session": session })
    }

    fn user_string(&mut self, text: &mut Va, place: Va, string: &str) {
        let characters = crate::lab::bytes::utf16(string);
        self.write(*text, &characters);
        let length = characters.len() as u64;
        let fields = [("Length", length), ("MaximumLength", length + 2), ("Buffer", text.0)];
        self.fill(place, "_UNICODE_STRING", &fields);
        *text = text.add((length + 2).next_multiple_of(8));
    }

    /// Lists modules in the three orders; the program itself is not initialised by the loader.
    fn list_user_modules(&mut self, loader: Va, mut entry: Va, mut text: Va, modules: &[Module]) {
        let generation = self.options.generation;
        let orders = ["InLoadOrder", "InMemoryOrder", "InInitializationOrder"];
        for order in orders {
            self.start_list(loader.add(generation.at(&format!("_PEB_LDR_DATA.{order}ModuleList"))));
        }
        let size = generation.at("_PEB_LDR_DATA");
        self.fill(loader, "_PEB_LDR_DATA", &[("Length", size), ("Initialized", 1)]);
        for (place, module) in modules.iter().enumerate() {
            let fields = [
                ("DllBase", module.base),
                ("EntryPoint", module.base + module.entry_point),
                ("SizeOfImage", module.size),
                ("TimeDateStamp", module.stamp),
                ("Flags", if place == 0 { 0x4000 } else { 0x4004 }),
                ("LoadCount", 0xffff),
                ("ObsoleteLoadCount", 0xffff),
            ];
            self.fill(entry, "_LDR_DATA_TABLE_ENTRY", &fields);
            for (field, string) in [("FullDllName", &module.path), ("BaseDllName", &module.name)] {
                let at = entry.add(generation.at(&format!("_LDR_DATA_TABLE_ENTRY.{field}")));
                self.user_string(&mut text, at, string);
            }
            for order in orders {
                let link = entry.add(generation.at(&format!("_LDR_DATA_TABLE_ENTRY.{order}Links")));
                if place == 0 && order == "InInitializationOrder" {
                    self.start_list(link);
                    continue;
                }
                self.append(loader.add(generation.at(&format!("_PEB_LDR_DATA.{order}ModuleList"))), link);
            }
            entry = entry.add(0x180);
        }
    }

    /// Makes the TEB of a thread of the process whose address space is in use; the first has number 0.
    pub(super) fn teb(&mut self, thread: Va, number: u64) {
        let generation = self.options.generation;
        let places = self.user_places();
        let size = generation.at("_TEB").next_multiple_of(PAGE_SIZE);
        let teb = Va(places.teb.wrapping_add_signed(places.step * number as i64));
        self.map_user(teb, size);
        self.set(thread, "_KTHREAD.Teb", teb.0);
        let top = self.stack_top(number);
        let fields = [("StackBase", top), ("StackLimit", top - 0x3000), ("Self", teb.0)];
        self.fill(teb, "_TEB.NtTib", &fields);
        if generation.machine == Machine::X86 {
            self.set(teb, "_TEB.NtTib.ExceptionList", u64::from(u32::MAX));
        }
        let (process, id) = self.client_id(thread);
        let fields = [
            ("ProcessEnvironmentBlock", places.peb),
            ("ClientId.UniqueProcess", process),
            ("ClientId.UniqueThread", id),
            ("LastErrorValue", 2 + number),
            ("LastStatusValue", 0xc000_0034),
        ];
        self.fill(teb, "_TEB", &fields);
        self.fact(
            "tebs",
            json!({ "thread": thread.0, "teb": teb.0, "stack_base": top, "stack_limit": top - 0x3000,
                "last_error": 2 + number, "last_status": 0xc000_0034u32, "process": process, "id": id }),
        );
    }

    /// PEB and TEB of the crashing program.
    pub(super) fn program_environment(&mut self, process: Va, thread: Va) {
        self.environment(process, r"C:\Program Files\Example\faultapp.exe", "/device 0", 1);
        self.teb(thread, 0);
        let mut told = self.facts["environments"][0].clone();
        told["teb"] = self.facts["tebs"][0]["teb"].clone();
        self.facts.insert("program".into(), told);
    }
}

/// Addresses in a program: PEB, first TEB, loader data and parameters, end of the first stack.
pub(super) struct Places {
    pub peb: u64,
    pub teb: u64,
    /// From one TEB to the next.
    pub step: i64,
    pub data: u64,
    pub stack: u64,
}

/// What a loader's list tells of a module.
struct Module {
    base: u64,
    size: u64,
    entry_point: u64,
    stamp: u64,
    name: String,
    path: String,
}

impl Module {
    fn of(image: &Image) -> Module {
        Module {
            base: image.base,
            size: u64::from(image.size),
            entry_point: u64::from(image.entry_point),
            stamp: u64::from(image.time_date_stamp),
            name: image.name.clone(),
            path: image.path.clone(),
        }
    }

    fn truth(&self) -> Value {
        json!({ "base": self.base, "size": self.size, "name": self.name, "path": self.path, "stamp": self.stamp })
    }
}

/// The id of the crashing program.
pub(super) const PROGRAM: u64 = 0x1a8c;
