//! The crash: the stack of the thread, call by call, and what the kernel saved about it.

use super::super::cpu::context;
use super::super::image::{CALL, Frame, arm64_frame, return_offset};
use super::super::layout::Machine;
use super::{StackFrame, World};
use kd_sdk::address::Va;

/// The calls that led to the crash, outermost first: image and function, with its frame.
static CHAIN: &[(&str, &str, Frame)] = &[
    ("nt", "KiSystemServiceCopyEnd", Frame::SystemCall),
    ("nt", "NtDeviceIoControlFile", Frame::Alloc(0x68)),
    ("nt", "IopXxxControlFile", Frame::Alloc(0x108)),
    ("nt", "IopSynchronousServiceTail", Frame::Alloc(0x98)),
    ("nt", "IofCallDriver", Frame::Alloc(0x38)),
    ("faultdrv.sys", "DispatchDeviceControl", Frame::Alloc(0x48)),
    ("faultdrv.sys", "ReadSensor", Frame::Alloc(0x28)),
    ("nt", "KiPageFault", Frame::Trap),
    ("nt", "KiBugCheckDispatch", Frame::Alloc(0x138)),
];

/// Freed pool that the driver still reads.
const FREED: u64 = 0xffff_ac0f_6661_3010;
const FREED_32: u64 = 0x9c66_3010;

impl World {
    pub(super) fn crash(&mut self) {
        let machine = self.options.generation.machine;
        let pointer = machine.pointer_size() as u64;
        let (mut sp, mut fp) = (self.stack.1.0, 0u64);
        let mut frames: Vec<StackFrame> = Vec::new();
        let mut at_fault = (0, 0, 0); // pc, sp, fp when the driver faulted

        for &(image, name, frame) in CHAIN {
            // Where the caller stands: its return address, or the instruction that faulted.
            let caller = frames.last().map_or(0, |f| f.pc);
            match (machine, frame) {
                (Machine::Arm64, _) => {
                    sp -= u64::from(arm64_frame(frame));
                    self.write_pointer(Va(sp), fp);
                    self.write_pointer(Va(sp + 8), caller);
                    fp = sp;
                }
                (_, Frame::Alloc(size)) => {
                    sp -= pointer;
                    self.write_pointer(Va(sp), caller);
                    if machine == Machine::X86 {
                        sp -= pointer;
                        self.write_pointer(Va(sp), fp);
                        fp = sp;
                    }
                    sp -= u64::from(size);
                }
                (_, Frame::Trap | Frame::SystemCall) => sp = self.trap_frame(frame, caller, sp, &mut fp),
            }
            let start = self.image(image).address_of(name);
            let offset = if name == "ReadSensor" { CALL } else { return_offset(machine) };
            let pc = start + u64::from(offset);
            if name == "ReadSensor" {
                at_fault = (pc, sp, fp);
            }
            let module = image.trim_end_matches(".sys");
            frames.push(StackFrame { pc, sp, symbol: format!("{module}!{name}+{offset:#x}") });
        }

        // The bug check itself, at its first instruction.
        let caller = frames.last().map_or(0, |f| f.pc);
        if machine != Machine::Arm64 {
            sp -= pointer;
            self.write_pointer(Va(sp), caller);
        }
        let bug_check = self.nt("KeBugCheckEx").0;
        frames.push(StackFrame { pc: bug_check, sp, symbol: "nt!KeBugCheckEx".into() });
        frames.reverse();

        let freed = if pointer == 8 { FREED } else { FREED_32 };
        let [pc_name, sp_name, fp_name] = machine.frame_registers();
        let argument = match machine {
            Machine::X86 => "ecx",
            Machine::X64 => "rcx",
            Machine::Arm64 => "x0",
        };
        let mut registers = machine.kernel_registers();
        registers.extend([
            (pc_name, at_fault.0),
            (sp_name, at_fault.1),
            (fp_name, at_fault.2),
            (argument, freed),
        ]);

        let mut saved = machine.kernel_registers();
        saved.extend([(pc_name, bug_check), (sp_name, sp), (fp_name, fp), (argument, 0xd1)]);
        if machine == Machine::Arm64 {
            saved.insert("lr", caller);
        }
        self.crash.code = 0xd1; // DRIVER_IRQL_NOT_LESS_OR_EQUAL
        self.crash.parameters = [freed, 2, 0, at_fault.0];
        self.crash.exception_address = at_fault.0;
        self.crash.exception_information = [0, freed];
        self.crash.registers = registers;
        self.crash.stack = frames;
        self.save_state(saved);
    }

    /// Writes the trap frame that a fault or system call leaves and returns its address, the new stack pointer.
    fn trap_frame(&mut self, frame: Frame, pc: u64, sp: u64, fp: &mut u64) -> u64 {
        let from_user = frame == Frame::SystemCall;
        if self.options.generation.machine == Machine::X86 {
            // The frame starts with what the debugger needs to step over it: frame pointer and program counter.
            let at = if from_user { sp - 0x8c } else { sp - 0x74 };
            let pc = if from_user { 0x77a1_70f4 } else { pc };
            for (offset, value) in [(0, *fp), (4, pc), (8, 0xbadb_0d00), (0x60, *fp), (0x64, 0), (0x68, pc)] {
                self.write_pointer(Va(at + offset), value);
            }
            let (code, stack) = if from_user { (0x1b, 0x23) } else { (0x8, 0x10) };
            self.write_pointer(Va(at + 0x6c), code);
            self.write_pointer(Va(at + 0x70), 0x1_0246);
            if from_user {
                self.write_pointer(Va(at + 0x74), 0x0012_f2a0);
                self.write_pointer(Va(at + 0x78), stack);
                self.set(self.thread, "_KTHREAD.TrapFrame", at);
            }
            *fp = at;
            return at;
        }
        let at = (sp & !0xf) - 0x190;
        let (pc, old_sp) = if from_user { (0x7ffb_1234_ce54, 0x12_f2a0) } else { (pc, sp) };
        let selectors = if from_user { (0x33, 0x2b) } else { (0x10, 0x18) };
        let values = [
            (0x158, *fp),
            (0x160, 0),
            (0x168, pc),
            (0x170, selectors.0),
            (0x178, 0x5_0246),
            (0x180, old_sp),
            (0x188, selectors.1),
        ];
        for (offset, value) in values {
            self.write_pointer(Va(at + offset), value);
        }
        if from_user {
            self.write(Va(at + 0x28), &[1]); // previous mode: user
            self.set(self.thread, "_KTHREAD.TrapFrame", at);
        } else {
            let freed = FREED;
            self.write(Va(at + 0x29), &[2]); // previous IRQL
            self.write_pointer(Va(at + 0x38), freed); // rcx
            self.write_pointer(Va(at + 0xd0), freed); // FaultAddress
        }
        *fp = at + 0x80;
        at
    }

    /// Writes what the kernel keeps of the crash: the bug check data and the first processor's registers.
    pub(super) fn save_state(&mut self, saved: super::Registers) {
        let generation = self.options.generation;
        let pointer = generation.machine.pointer_size() as u64;
        let mut at = self.nt("KiBugCheckData");
        let [p1, p2, p3, p4] = self.crash.parameters;
        for value in [u64::from(self.crash.code), p1, p2, p3, p4] {
            self.write_pointer(at, value);
            at = at.add(pointer);
        }
        let record = context(generation.machine, &saved);
        let (prcb, at) = (self.processors[0].prcb, self.processors[0].context);
        self.write(at, &record);
        let state = prcb.add(generation.at("_KPRCB.ProcessorState"));
        self.write(state.add(generation.at("_KPROCESSOR_STATE.ContextFrame")), &record);
        let special = state.add(generation.at("_KPROCESSOR_STATE.SpecialRegisters"));
        self.set(special, "_KSPECIAL_REGISTERS.Cr2", p1);
        self.set(special, "_KSPECIAL_REGISTERS.Cr3", self.user.root.0);
        self.set(special, "_KSPECIAL_REGISTERS.Cr8", 2);
        self.processors[0].registers = saved;
        self.set(self.thread, "_KTHREAD.KernelStack", self.crash.stack[0].sp);
    }
}
