//! What a small dump keeps of a target: one processor with its thread, process and stack, the lists of drivers, and
//! the memory around what its registers point to.
//!
//! The memory that unwinding and symbols will ask for is known to those who have asked for it: the caller adds it.

use super::kd_fields::{self as field, Field};
use super::{KdData, Module, Origin, Registers, Target, context};
use crate::dump::{LoadedDriver, Machine, Memory, SmallDump};
use kd_sdk::address::{PAGE_SIZE, Va};

/// Bytes of blocks in all; the most that a small dump is allowed to grow to.
const MOST_BLOCKS: u64 = 8 << 20;
/// Bytes of a stack.
const MOST_STACK: u64 = 0x1_0000;
/// Bytes before and behind what a register points to.
const AROUND: u64 = 0x80;
/// Bytes of code before and behind the instruction pointer.
const AROUND_CODE: u64 = 0x100;
/// Bytes of a structure whose size the kernel does not tell.
const UNTOLD: u64 = 0x1000;
/// Bytes of a copied loader entry; the rest has no place in a small dump.
const LOADER_ENTRY: usize = 0x88;

/// Bytes in memory: the first, and how many.
pub type Range = (Va, u64);

impl Target {
    /// A small dump of a processor, with `more` memory in it.
    ///
    /// # Errors
    /// What the kernel does not tell, so that there would be nothing to look at.
    pub fn small_dump(&self, processor: u32, more: Vec<Range>) -> Result<SmallDump, String> {
        let data =
            self.kd_data().ok_or("the debugger data block cannot be read, which names everything else")?;
        let found = self.processors().get(processor as usize);
        let prcb = found.and_then(|found| found.prcb);
        let prcb = prcb.ok_or(format!("the control block of processor {processor} is not known"))?;
        let (thread, process) =
            found.map_or((None, None), |found| (found.current_thread, found.current_process));
        let structure = |va: Option<Va>, size: Field| {
            let bytes = va.zip(data.offset(size)).map(|(va, size)| self.take(va, size));
            bytes.unwrap_or_default()
        };
        let contexts = self.contexts(processor, prcb, data);
        let mut ranges = more;
        ranges.extend(self.known_ranges(prcb, data));
        // Kernels before Windows Server 2003 do not tell how large these are: then they are memory like any other.
        let sizes =
            [(Some(prcb), field::SIZE_PRCB), (process, field::SIZE_EPROCESS), (thread, field::SIZE_ETHREAD)];
        let untold = sizes.into_iter().filter(|(_, size)| data.offset(*size).is_none());
        ranges.extend(untold.filter_map(|(va, _)| Some((va?, UNTOLD))));
        for registers in &contexts {
            ranges.extend(around(registers));
        }
        let stack = self.kept_stack(thread, &contexts, data);
        for registers in &contexts {
            // An exception handler's stack, or that of deferred calls.
            if !holds(&stack, registers.sp()) {
                ranges.push((registers.sp(), 0x2000));
            }
        }
        let mut modules: Vec<&Module> = self
            .modules()
            .iter()
            .filter(|module| module.origin == Origin::Kernel && !self.is_user(module.base))
            .collect();
        modules.sort_by_key(|module| !module.is_kernel);
        let blocks = self.kept_blocks(ranges, &stack);
        Ok(SmallDump {
            debugger_data: data.bytes().to_vec(),
            prcb: structure(Some(prcb), field::SIZE_PRCB),
            process: structure(process, field::SIZE_EPROCESS),
            thread: structure(thread, field::SIZE_ETHREAD),
            stack,
            drivers: modules.into_iter().map(|module| self.kept_driver(module)).collect(),
            unloaded: self
                .unloaded()
                .iter()
                .map(|module| (module.name.clone(), module.start, module.end))
                .collect(),
            blocks,
        })
    }

    /// The registers that tell of a processor: what `r` shows, and for the one that crashed the header's.
    fn contexts(&self, processor: u32, prcb: Va, data: &KdData) -> Vec<Registers> {
        let own = self.registers(processor).ok().map(|found| found.registers);
        let header = self.header_registers().filter(|_| processor == self.current_processor());
        let saved = data.offset(field::OFFSET_PRCB_CONTEXT);
        let saved = saved.and_then(|at| self.read_pointer(prcb.add(at)).ok());
        let saved = saved.and_then(|at| self.read_context(at).ok());
        [own, header, saved].into_iter().flatten().filter(|found| !found.ip().is_null()).collect()
    }

    /// What every reader of a dump asks for.
    fn known_ranges(&self, prcb: Va, data: &KdData) -> Vec<Range> {
        let pointer = u64::from(self.pointer_size());
        let machine = self.machine();
        let mut ranges = vec![match machine {
            Machine::X86 => (Va(0xffdf_0000), PAGE_SIZE),
            _ => (Va(0xffff_f780_0000_0000), PAGE_SIZE),
        }];
        let sizes = [
            (field::KI_PROCESSOR_BLOCK, self.processors().len() as u64 * pointer),
            (field::KI_BUGCHECK_DATA, 5 * pointer),
            (field::PS_LOADED_MODULE_LIST, 2 * pointer),
            (field::PS_ACTIVE_PROCESS_HEAD, 2 * pointer),
            (field::NT_BUILD_LAB, 0x100),
            (field::CM_NT_CSD_VERSION, 4),
        ];
        ranges.extend(sizes.into_iter().filter_map(|(field, size)| Some((data.va(field)?, size))));
        let saved = data.offset(field::OFFSET_PRCB_CONTEXT);
        if let Some(at) = saved.and_then(|at| self.read_pointer(prcb.add(at)).ok()) {
            ranges.push((at, context::layout(machine).context_size as u64));
        }
        ranges
    }

    /// The stack of a thread from the lowest stack pointer that lies on it.
    fn kept_stack(&self, thread: Option<Va>, contexts: &[Registers], data: &KdData) -> Memory {
        let pointer_at = |field| self.read_pointer(thread?.add(data.offset(field)?)).ok();
        let top = pointer_at(field::OFFSET_KTHREAD_INITIAL_STACK);
        let limit = pointer_at(field::OFFSET_KTHREAD_STACK_LIMIT)
            .or(top.map(|top| Va(top.0.saturating_sub(MOST_STACK))));
        let on_it = |sp: &Va| top.zip(limit).is_some_and(|(top, limit)| limit <= *sp && *sp < top);
        let lowest = contexts.iter().map(Registers::sp).filter(on_it).min();
        match (lowest, top) {
            (Some(sp), Some(top)) => Memory { va: sp, bytes: self.take(sp, (top.0 - sp.0).min(MOST_STACK)) },
            _ => match contexts.first().map(Registers::sp) {
                Some(sp) => Memory { va: sp, bytes: self.take(sp, 0x4000) },
                None => Memory::default(),
            },
        }
    }

    fn kept_driver(&self, module: &Module) -> LoadedDriver {
        LoadedDriver {
            name: if module.path.is_empty() { module.image.clone() } else { module.path.clone() },
            entry: module.loader_entry.map(|at| self.take(at, LOADER_ENTRY as u64)).unwrap_or_default(),
            base: module.base,
            entry_point: module.entry_point,
            size: u32::try_from(module.size).unwrap_or(u32::MAX),
            check_sum: module.check_sum,
            time_date_stamp: module.time_stamp,
        }
    }

    /// As many bytes as can be read in a row.
    fn take(&self, va: Va, size: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(size.min(MOST_BLOCKS)).unwrap_or(0)];
        let done = self.read(va, &mut bytes).done;
        bytes.truncate(done);
        bytes
    }

    /// What of some ranges can be read, without doubles.
    fn kept_blocks(&self, mut ranges: Vec<Range>, stack: &Memory) -> Vec<Memory> {
        // Nobody expects the memory of programs in a small dump; what of the stack is kept stands there once.
        ranges.retain(|(va, size)| !self.is_user(*va) && !holds(stack, Va(va.0.saturating_add(*size))));
        ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (va, size) in ranges {
            let end = va.0.saturating_add(size);
            match joined.last_mut().filter(|(_, last)| va.0 <= last.saturating_add(0x10)) {
                Some((_, last)) => *last = end.max(*last),
                None => joined.push((va.0, end)),
            }
        }
        let mut blocks = Vec::new();
        let mut total = 0;
        for (mut at, end) in joined {
            while at < end && total < MOST_BLOCKS {
                let bytes = self.take(Va(at), end - at);
                total += bytes.len() as u64;
                let next = at.saturating_add(bytes.len() as u64);
                if !bytes.is_empty() {
                    blocks.push(Memory { va: Va(at), bytes });
                }
                // A page that is missing does not take the next one with it.
                let Some(page) = (next & !(PAGE_SIZE - 1)).checked_add(PAGE_SIZE) else { break };
                at = page;
            }
        }
        blocks
    }
}

/// What the registers point to, and the code that runs.
fn around(registers: &Registers) -> Vec<Range> {
    let machine = registers.machine();
    let place = |at: u64, reach: u64| (Va(at.saturating_sub(reach) & !0xf), reach * 2);
    let pointed = Registers::names(machine)
        .filter_map(|name| registers.get(name))
        .filter(|value| !machine.is_user(Va(*value)))
        .map(|value| place(value, AROUND));
    pointed.chain([place(registers.ip().0, AROUND_CODE)]).collect()
}

fn holds(memory: &Memory, va: Va) -> bool {
    va.0.checked_sub(memory.va.0).is_some_and(|at| at < memory.bytes.len() as u64)
}
