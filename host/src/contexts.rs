//! Registers and address spaces that stand in the target's memory: context records, trap frames, threads that are not
//! running, processes. What `.cxr`, `.trap`, `.thread` and `.process` choose, and what extensions ask for without
//! choosing it.
//!
//! Offsets come from the kernel's types where they are at hand, else from the debugger data block or from what no
//! version of Windows has changed.

use crate::dump::Machine;
use crate::memory::{ReadFault, View};
use crate::scope::Scope;
use crate::target::{Registers, context::layout, kd_fields as field, unwind::trap};
use kd_sdk::address::{Pa, Va};
use kd_sdk::error::{Error, Result};

/// The answer where a record cannot be read, in KD's words and with the reason.
pub fn unreadable(what: &str, fault: &ReadFault) -> Error {
    Error::NotFound(format!("Unable to read {what}: {fault}"))
}

impl Scope {
    /// A number of at most 8 bytes.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read_number(&self, va: Va, size: usize) -> std::result::Result<u64, ReadFault> {
        let mut bytes = [0; 8];
        self.read(va, bytes.get_mut(..size).unwrap_or_default()).complete()?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The offset of a field of a structure of the kernel, where its types are at hand.
    pub fn kernel_offset(&self, structure: &str, path: &str) -> Option<u64> {
        let open = self.open.as_ref()?;
        let types = open.symbols.types(&open.target, "nt").ok()?;
        let id = types.find(structure)?;
        types.field(id, path).map(|field| field.offset)
    }

    /// The registers of the `CONTEXT` at an address, of the target's machine.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn record_registers(&self, at: Va) -> Result<Registers> {
        let machine = self.machine();
        let mut bytes = vec![0; layout(machine).context_size];
        self.read(at, &mut bytes).complete().map_err(|fault| unreadable("context", &fault))?;
        Registers::from_context(machine, &bytes)
            .ok_or_else(|| Error::Other("Unable to convert context to canonical form".to_owned()))
    }

    /// The registers of the `KTRAP_FRAME` at an address; those it does not hold are the current ones.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn trap_registers(&self, at: Va) -> Result<Registers> {
        let machine = self.target()?.machine();
        let base = self.registers().ok().filter(|base| base.machine() == machine);
        let base = base.unwrap_or_else(|| Registers::zeroed(machine));
        let read = |va: Va, into: &mut [u8]| self.read(va, into).fault.is_none();
        let offsets = |name: &str| self.kernel_offset("_KTRAP_FRAME", name);
        trap::registers(machine, &read, at, &base, &offsets).ok_or_else(|| {
            let mut probe = [0; 0x190];
            match self.read(at, &mut probe).fault {
                Some(fault) => unreadable("trap frame", &fault),
                None => Error::NotFound(format!("Unable to read trap frame at {at}")),
            }
        })
    }

    /// The registers a thread has: those of the processor it runs on, else those of the kernel's switch frame at the
    /// top of its stack; with a note where the offsets are not from types.
    ///
    /// # Errors
    /// Where its stack is not known or not readable.
    pub fn thread_registers(&self, at: Va) -> Result<(Registers, Option<&'static str>)> {
        let target = self.target()?;
        let running = target.processors().iter().find(|processor| processor.current_thread == Some(at));
        if let Some(found) = running.and_then(|processor| target.registers(processor.number).ok()) {
            return Ok((found.registers, None));
        }
        let machine = target.machine();
        let pointer = target.pointer_size() as usize;
        let typed = self.kernel_offset("_KTHREAD", "KernelStack");
        let known = target.kd_data().and_then(|data| data.offset(field::OFFSET_KTHREAD_KERNEL_STACK));
        // Debugger data blocks before Windows Server 2003 do not tell; all of those kernels are 32-bit.
        let built_in = (machine == Machine::X86).then_some(0x28);
        let offset_of_stack = typed.or(known).or(built_in).ok_or_else(|| {
            Error::Unsupported(
                "neither the kernel's types nor the debugger data block tell where a thread's stack is"
                    .to_owned(),
            )
        })?;
        let read = |va: Va| self.read_number(va, pointer);
        let stack = read(at.add(offset_of_stack)).map_err(|fault| unreadable("thread", &fault))?;
        let stack = Va(stack);
        let mut registers = Registers::zeroed(machine);
        let field_at = |name: &str, built_in: u64| {
            stack.add(self.kernel_offset("_KSWITCH_FRAME", name).unwrap_or(built_in))
        };
        let failed = |fault: ReadFault| unreadable("the thread's stack", &fault);
        match machine {
            Machine::X64 => {
                let size = 0x40;
                registers.set("rbp", read(field_at("Rbp", 0x30)).map_err(failed)?);
                registers.set("rip", read(field_at("Return", 0x38)).map_err(failed)?);
                registers.set("rsp", stack.add(size).0);
                registers.set("cs", 0x10);
                registers.set("ss", 0x18);
            }
            Machine::X86 => {
                registers.set("eip", read(field_at("RetAddr", 8)).map_err(failed)?);
                registers.set("ebp", read(stack.add(0xc)).map_err(failed)?);
                registers.set("esp", stack.add(0xc).0);
                registers.set("cs", 8);
                registers.set("ss", 0x10);
            }
            Machine::Arm64 => {
                // The switch frame is in the KTHREAD itself, in Windows 10 and 11 at 0x210.
                let place = |name: &str, built_in: u64| {
                    at.add(self.kernel_offset("_KTHREAD", &format!("SwitchFrame.{name}")).unwrap_or(built_in))
                };
                registers.set("sp", stack.0);
                let frame = (read(place("Fp", 0x220)), read(place("Return", 0x228)));
                if let (Ok(fp), Ok(ip)) = frame
                    && target.module_at(Va(ip)).is_some()
                {
                    registers.set("fp", fp);
                    registers.set("pc", ip);
                    registers.set("lr", ip);
                } else {
                    // The stack is known all the same: its frames can be looked for.
                    return Ok((
                        registers,
                        Some("Its switch frame was not found; its stack is searched for frames"),
                    ));
                }
            }
        }
        if target.module_at(registers.ip()).is_none() {
            // The stack is known all the same: its frames can be looked for.
            let names = layout(machine);
            registers.set(names.ip, 0);
            registers.set(names.sp, stack.0);
            return Ok((registers, Some("Its switch frame was not found; its stack is searched for frames")));
        }
        let note = typed.is_none().then_some(
            "Without the kernel's types: offsets from the debugger data block, the switch frame as in every known version",
        );
        Ok((registers, note))
    }

    /// The 32-bit registers of a thread of a 32-bit program on a 64-bit system, which its emulation keeps in the thread's
    /// own memory: behind slot 1 (`WOW64_TLS_CPURESERVED`) of the TEB, after two numbers of 16 bits.
    ///
    /// # Errors
    /// Where the thread has none, or its memory cannot be read.
    pub fn narrow_registers(&self, thread: Va) -> Result<Registers> {
        let none = |why: String| Error::NotFound(format!("{thread} is no thread of a 32-bit program: {why}"));
        if self.target()?.machine() == Machine::X86 {
            return Err(Error::Usage("this system is a 32-bit one".to_owned()));
        }
        let teb = self.kernel_offset("_KTHREAD", "Teb").ok_or_else(|| {
            Error::NoSymbols(
                "the kernel's types, which tell where a thread's TEB is, are not at hand".to_owned(),
            )
        })?;
        let pointer = |what: &str, at: Va| {
            let read = self.read_number(at, 8).map_err(|fault| unreadable(what, &fault))?;
            if read == 0 { Err(none(format!("it has no {what}"))) } else { Ok(Va(read)) }
        };
        let teb = pointer("TEB", thread.add(teb))?;
        // The slots have not moved since the first 64-bit Windows.
        let slots = self.kernel_offset("_TEB", "TlsSlots").unwrap_or(0x1480);
        let area = pointer("32-bit registers", teb.add(slots + 8))?;
        let machine = self.read_number(area.add(2), 2).map_err(|fault| unreadable("registers", &fault))?;
        if machine != 0x14c {
            return Err(none(format!("its emulated machine is {machine:#x}")));
        }
        let mut bytes = vec![0; layout(Machine::X86).context_size];
        self.read(area.add(4), &mut bytes).complete().map_err(|fault| unreadable("registers", &fault))?;
        Registers::from_context(Machine::X86, &bytes)
            .ok_or_else(|| Error::Other("Unable to convert context to canonical form".to_owned()))
    }

    /// The root of a process's page tables.
    ///
    /// # Errors
    /// Where the process cannot be read.
    pub fn root_of_process(&self, at: Va) -> Result<Pa> {
        let target = self.target()?;
        let pointer = target.pointer_size();
        // Older debugger data blocks do not tell; the field has not moved since Windows XP.
        let built_in = if pointer == 8 { 0x28 } else { 0x18 };
        let known =
            target.kd_data().and_then(|data| data.offset(field::OFFSET_EPROCESS_DIRECTORY_TABLE_BASE));
        let place =
            known.or_else(|| self.kernel_offset("_KPROCESS", "DirectoryTableBase")).unwrap_or(built_in);
        let root = self
            .read_number(at.add(place), pointer as usize)
            .map_err(|fault| unreadable("the process", &fault))?;
        // Low bits of the root are flags and the number of the address space.
        Ok(Pa(match target.machine() {
            Machine::X86 => root & !0x1f,
            _ => root & 0x000f_ffff_ffff_f000,
        }))
    }

    /// Memory through other page tables; unchanged in a dump without any.
    ///
    /// # Errors
    /// When no dump is open.
    pub fn space(&self, root: Pa) -> Result<View> {
        let view = self.target()?.view();
        Ok(match view.tables() {
            Some(tables) => view.with_tables(&tables.with_root(root)),
            None => view.clone(),
        })
    }
}
