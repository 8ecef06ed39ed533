//! The program of a story: its images, stack, PEB and TEB in user memory.

use super::World;
use crate::lab::layout::Machine;
use crate::lab::memory::Owner;
use crate::lab::paging::Size;
use crate::lab::stack::{Call, Place};
use kd_sdk::address::{PAGE_SIZE, Va};
use serde_json::json;

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
        let wide = self.options.generation.machine != Machine::X86;
        let top = if wide { 0x7_3480_0000 } else { 0x0013_0000 };
        if chain[0].0 == "ntdll.dll" {
            self.map_user(Va(top - 0x2000), 0x2000);
        }
        top - 0x40
    }

    /// Makes PEB, loader data, parameters and TEB of the program's thread.
    pub(super) fn environment(&mut self, process: Va, thread: Va) {
        let generation = self.options.generation;
        let wide = generation.machine != Machine::X86;
        let peb = Va(if wide { 0x7_3450_0000 } else { 0x7ffd_f000 });
        let teb = Va(if wide { 0x7_3450_8000 } else { 0x7ffd_a000 });
        let data = Va(if wide { 0x01f0_1000_0000 } else { 0x0015_0000 });
        let room = generation.at("_PEB").next_multiple_of(PAGE_SIZE);
        self.map_user(peb, room);
        self.map_user(teb, generation.at("_TEB").next_multiple_of(PAGE_SIZE));
        self.map_user(data, 0x4000);
        self.set(process, "_EPROCESS.Peb", peb.0);
        self.set(thread, "_KTHREAD.Teb", teb.0);
        self.set(teb, "_TEB.ProcessEnvironmentBlock", peb.0);
        self.set(teb, "_TEB.NtTib.Self", teb.0);
        let base = self.user_images.last().map_or(0, |i| i.base);
        self.set(peb, "_PEB.ImageBaseAddress", base);
        let (loader, parameters) = (data, data.add(0x100));
        self.set(peb, "_PEB.Ldr", loader.0);
        self.set(peb, "_PEB.ProcessParameters", parameters.0);

        let mut at = data.add(0x1000);
        let mut string = |world: &mut World, place: Va, text: &str| {
            let characters = crate::lab::bytes::utf16(text);
            world.write(at, &characters);
            world.set(place, "_UNICODE_STRING.Length", characters.len() as u64);
            world.set(place, "_UNICODE_STRING.MaximumLength", characters.len() as u64 + 2);
            world.set(place, "_UNICODE_STRING.Buffer", at.0);
            at = at.add((characters.len() as u64 + 2).next_multiple_of(8));
            Va(at.0)
        };
        let at_field = |base: Va, path: &str| base.add(generation.at(path));
        let image = r"C:\Program Files\Example\faultapp.exe";
        let command = format!("\"{image}\" /device 0");
        string(self, at_field(parameters, "_RTL_USER_PROCESS_PARAMETERS.ImagePathName"), image);
        let end = string(self, at_field(parameters, "_RTL_USER_PROCESS_PARAMETERS.CommandLine"), &command);

        let heads = ["InLoadOrderModuleList", "InMemoryOrderModuleList", "InInitializationOrderModuleList"];
        let links = ["InLoadOrderLinks", "InMemoryOrderLinks", "InInitializationOrderLinks"];
        for head in heads {
            self.start_list(at_field(loader, &format!("_PEB_LDR_DATA.{head}")));
        }
        self.set(loader, "_PEB_LDR_DATA.Initialized", 1);
        let modules: Vec<(u64, u32, u32, u32, String, String)> = self
            .user_images
            .iter()
            .rev()
            .map(|i| (i.base, i.size, i.entry_point, i.time_date_stamp, i.name.clone(), i.path.clone()))
            .collect();
        let mut entry = Va(end.0.next_multiple_of(0x100));
        let mut strings = data.add(0x2800);
        for (base, size, entry_point, stamp, name, path) in &modules {
            for (field, value) in [
                ("DllBase", *base),
                ("EntryPoint", base + u64::from(*entry_point)),
                ("SizeOfImage", u64::from(*size)),
                ("TimeDateStamp", u64::from(*stamp)),
            ] {
                self.set(entry, &format!("_LDR_DATA_TABLE_ENTRY.{field}"), value);
            }
            for (field, text) in [("FullDllName", path), ("BaseDllName", name)] {
                let characters = crate::lab::bytes::utf16(text);
                self.write(strings, &characters);
                let place = at_field(entry, &format!("_LDR_DATA_TABLE_ENTRY.{field}"));
                self.set(place, "_UNICODE_STRING.Length", characters.len() as u64);
                self.set(place, "_UNICODE_STRING.MaximumLength", characters.len() as u64 + 2);
                self.set(place, "_UNICODE_STRING.Buffer", strings.0);
                strings = strings.add((characters.len() as u64 + 2).next_multiple_of(8));
            }
            for (head, link) in heads.iter().zip(links) {
                let Some(link) = generation.find(&format!("_LDR_DATA_TABLE_ENTRY.{link}")) else { continue };
                self.append(at_field(loader, &format!("_PEB_LDR_DATA.{head}")), entry.add(link));
            }
            entry = entry.add(0x180);
        }
        // The environment: strings one after the other, an empty one ends it.
        let block = data.add(0x3000);
        let text = "COMPUTERNAME=LABORATORY\0OS=Windows_NT\0USERNAME=tester\0\0";
        self.write(block, &crate::lab::bytes::utf16(text));
        self.set(parameters, "_RTL_USER_PROCESS_PARAMETERS.Environment", block.0);
        let listed = modules.iter().map(|m| json!({ "base": m.0, "size": m.1, "name": m.4, "path": m.5 }));
        let listed = listed.collect::<Vec<_>>();
        self.facts.insert(
            "program".into(),
            json!({ "peb": peb.0, "teb": teb.0, "image": image, "command_line": command, "modules": listed,
                "environment": ["COMPUTERNAME=LABORATORY", "OS=Windows_NT", "USERNAME=tester"] }),
        );
    }
}
