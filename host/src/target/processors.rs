//! Processors: their control blocks, what ran on them, and their registers.
//!
//! The addresses of the `KPRCB`s are in `KiProcessorBlock`; offsets in them come from the debugger data block. A small
//! dump holds a copy of the crashing processor's KPRCB without its address: it is found in `KiProcessorBlock` when
//! that is captured, else from the list heads in the KPRCB, which point to themselves while a list is empty.

use std::collections::HashMap;

use kd_sdk::address::Va;

use super::bytes::number_at;
use super::context::layout;
use super::problem::TargetProblem;
use super::{KdData, Registers, Target, kd_fields as field};
use crate::dump::{Block, BlockKind, Dump, FileRange, Machine};
use crate::memory::{ReadFault, View};

/// The most processors of any Windows.
const MOST_PROCESSORS: u32 = 2048;
/// Bytes of the special registers that are read: arm64 has 0x318, x64 0xf0, x86 0x54.
const MOST_SPECIAL: u64 = 0x400;
/// List heads that must agree on the address of a KPRCB.
const LEAST_VOTES: usize = 8;

/// A processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Processor {
    /// Its number, as in `~3s`.
    pub number: u32,
    /// Its `KPRCB`, when the dump tells.
    pub prcb: Option<Va>,
    /// `CurrentThread`: the `KTHREAD` it ran; `None` when its `KPRCB` is not readable.
    pub current_thread: Option<Va>,
    /// The process of that thread, when it is readable.
    pub current_process: Option<Va>,
}

/// Where registers came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegisterSource {
    /// The record that `KPRCB.Context` points to: what the kernel saved when it stopped.
    Prcb(Va),
    /// `KPRCB.ProcessorState`.
    ProcessorState(Va),
    /// `ContextRecord` in the dump's header.
    Header,
}

/// The registers of a processor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessorRegisters {
    /// The registers.
    pub registers: Registers,
    /// Where they came from.
    pub source: RegisterSource,
}

/// Why a processor's registers are not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RegisterError {
    /// There is no processor of this number.
    #[error("there is no processor {number}; the dump has {count}")]
    NoProcessor {
        /// The number.
        number: u32,
        /// Count of processors.
        count: u32,
    },
    /// The dump does not tell where the processor's control block is.
    #[error("the control block of processor {number} is not captured in this dump")]
    NoPrcb {
        /// The number.
        number: u32,
    },
    /// The debugger data block, which holds the offsets, is missing.
    #[error("no KD data block, so the saved registers of processor {number} cannot be found")]
    NoKdData {
        /// The number.
        number: u32,
    },
    /// The debugger data block is too short to tell.
    #[error("the KD data block does not tell where the registers of processor {number} were saved")]
    NotTold {
        /// The number.
        number: u32,
    },
    /// The record is not readable.
    #[error("the registers of processor {number} cannot be read")]
    Unreadable {
        /// The number.
        number: u32,
        /// Where and why.
        #[source]
        source: ReadFault,
    },
}

/// The copies in a small dump, with the addresses they have in the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Saved {
    /// The number in the saved KPRCB.
    pub number: Option<u32>,
    pub prcb: Option<Va>,
    pub thread: Option<Va>,
    pub process: Option<Va>,
}

impl Saved {
    /// Finds the addresses; none of a dump that is not small.
    pub fn find(dump: &Dump, view: &View, data: Option<&KdData>) -> Saved {
        let (Some(triage), Some(data)) = (dump.triage(), data) else { return Saved::default() };
        let Some(range) = triage.prcb else { return Saved::default() };
        let pointer = dump.machine().pointer_size() as usize;
        let size = data.offset(field::SIZE_PRCB).map_or(range.size, |size| size.min(range.size));
        let Some(bytes) = dump.read_range(FileRange { size, ..range }) else { return Saved::default() };
        let at = |field| usize::try_from(data.offset(field)?).ok();
        let number = at(field::OFFSET_PRCB_NUMBER)
            .and_then(|offset| number_at(&bytes, offset, number_size(dump.machine(), offset)))
            .map(|number| number as u32)
            .filter(|&number| number < MOST_PROCESSORS);
        let kernel = |value: u64| if pointer == 8 { value >> 47 == 0x1_ffff } else { value >= 0x8000_0000 };
        let thread = at(field::OFFSET_PRCB_CURRENT_THREAD)
            .and_then(|offset| number_at(&bytes, offset, pointer))
            .filter(|&thread| kernel(thread))
            .map(Va);
        let copy = |range: Option<FileRange>| range.and_then(|range| dump.read_range(range));
        let process = match (copy(triage.thread), at(field::OFFSET_KTHREAD_APC_PROCESS)) {
            (Some(thread), Some(offset)) => number_at(&thread, offset, pointer),
            (Some(thread), None) => {
                copy(triage.process).and_then(|process| unwaited(&process, &thread, pointer))
            }
            (None, _) => None,
        };
        let process = process.filter(|&process| kernel(process)).map(Va);
        let listed = number.and_then(|number| {
            let entry = data.va(field::KI_PROCESSOR_BLOCK)?.add(u64::from(number) * pointer as u64);
            let mut value = [0; 8];
            view.read(entry, value.get_mut(..pointer)?).complete().ok()?;
            Some(Va(u64::from_le_bytes(value))).filter(|va| !va.is_null())
        });
        let prcb = listed.or_else(|| self_address(&bytes, pointer));
        Saved { number, prcb, thread, process }
    }

    /// The copies as blocks of memory.
    pub fn blocks(&self, dump: &Dump, data: Option<&KdData>) -> Vec<Block> {
        let Some(triage) = dump.triage() else { return Vec::new() };
        let kinds = [
            (self.prcb, triage.prcb, field::SIZE_PRCB, BlockKind::Prcb),
            (self.thread, triage.thread, field::SIZE_ETHREAD, BlockKind::Thread),
            (self.process, triage.process, field::SIZE_EPROCESS, BlockKind::Process),
        ];
        kinds
            .into_iter()
            .filter_map(|(va, range, size, kind)| {
                let (va, range) = (va?, range?);
                let size =
                    data.and_then(|data| data.offset(size)).map_or(range.size, |size| size.min(range.size));
                Some(Block { va, file: FileRange { size, ..range }, kind })
            })
            .collect()
    }
}

/// Bytes of `KPRCB.Number`: a byte before Windows 7 on x86 (offset 0x10) and on x64 (offset 4), else four.
fn number_size(machine: Machine, offset: usize) -> usize {
    match machine {
        Machine::X86 if offset == 0x10 => 1,
        Machine::X64 if offset < 0x20 => 1,
        _ => 4,
    }
}

/// The address of a process by its copy, where the debugger data tell no offsets (Windows XP): nobody waits for it, so
/// the list in its dispatcher header (`ntddk.h`) leads to itself; and its thread has a pointer to it.
fn unwaited(process: &[u8], thread: &[u8], pointer: usize) -> Option<u64> {
    let next = number_at(process, 8, pointer)?;
    let at = next.checked_sub(8).filter(|_| number_at(process, 8 + pointer, pointer) == Some(next))?;
    let mut words = (0..thread.len()).step_by(pointer).map_while(|offset| number_at(thread, offset, pointer));
    words.any(|word| word == at).then_some(at)
}

/// The address that most of the empty list heads in `bytes` imply.
fn self_address(bytes: &[u8], pointer: usize) -> Option<Va> {
    let mut votes: HashMap<u64, usize> = HashMap::new();
    for offset in (0..bytes.len()).step_by(pointer) {
        let (Some(flink), Some(blink)) =
            (number_at(bytes, offset, pointer), number_at(bytes, offset + pointer, pointer))
        else {
            break;
        };
        if flink == blink && flink > 0xffff {
            *votes.entry(flink.wrapping_sub(offset as u64)).or_default() += 1;
        }
    }
    let (address, count) = votes.into_iter().max_by_key(|&(address, count)| (count, address))?;
    (count >= LEAST_VOTES).then_some(Va(address))
}

impl Target {
    pub(super) fn find_processors(&self) -> Vec<Processor> {
        let count = self.header().number_processors.unwrap_or(1);
        let taken = count.clamp(1, MOST_PROCESSORS);
        if taken != count {
            self.note(TargetProblem::ProcessorCount { count, taken });
        }
        let mut processors: Vec<Processor> = (0..taken)
            .map(|number| Processor { number, prcb: None, current_thread: None, current_process: None })
            .collect();
        if let Some(data) = self.kd_data()
            && let Some(block) = data.va(field::KI_PROCESSOR_BLOCK)
        {
            for processor in &mut processors {
                let entry = block.add(u64::from(processor.number) * u64::from(self.pointer_size()));
                match self.read_pointer(entry) {
                    Ok(prcb) => processor.prcb = Some(prcb).filter(|prcb| !prcb.is_null()),
                    Err(fault) => {
                        // Small dumps of older Windows hold one processor by design.
                        if self.dump.triage().is_none() {
                            self.note(TargetProblem::Processors { at: entry, fault });
                        }
                        break;
                    }
                }
            }
        }
        if let Some(number) = self.saved.number
            && let Some(processor) = processors.get_mut(number as usize)
        {
            processor.prcb = processor.prcb.or(self.saved.prcb);
            processor.current_thread = self.saved.thread;
            processor.current_process = self.saved.process;
            if processor.prcb.is_none() {
                self.note(TargetProblem::PrcbAddress);
            }
        }
        let Some(data) = self.kd_data() else { return processors };
        for processor in &mut processors {
            let Some(prcb) = processor.prcb else { continue };
            if processor.current_thread.is_none() {
                processor.current_thread = data
                    .offset(field::OFFSET_PRCB_CURRENT_THREAD)
                    .and_then(|offset| self.read_pointer(prcb.add(offset)).ok())
                    .filter(|thread| !thread.is_null());
            }
            if processor.current_process.is_none() {
                processor.current_process = processor
                    .current_thread
                    .zip(data.offset(field::OFFSET_KTHREAD_APC_PROCESS))
                    .and_then(|(thread, offset)| self.read_pointer(thread.add(offset)).ok())
                    .filter(|process| !process.is_null());
            }
        }
        processors
    }

    /// The processor that crashed: the one whose KPRCB a small dump holds, else the one whose saved registers are
    /// those of the header, else the one whose stack the header's stack pointer is on, else 0.
    pub(super) fn find_current_processor(&self) -> u32 {
        let processors = self.processors();
        if let Some(number) = self.saved.number.filter(|&number| (number as usize) < processors.len()) {
            return number;
        }
        let Some(header) = self.header_context() else { return 0 };
        let same = |registers: Registers| registers.ip() == header.ip() && registers.sp() == header.sp();
        let saved = processors.iter().find(|processor| {
            let contexts = [self.prcb_context(processor.number), self.processor_state(processor.number)];
            contexts.into_iter().flatten().any(|found| same(found.registers))
        });
        let on_stack = || processors.iter().find(|processor| self.stack_holds(processor, header.sp()));
        saved.or_else(on_stack).map_or(0, |processor| processor.number)
    }

    /// True when `sp` lies on the kernel stack of the processor's current thread.
    fn stack_holds(&self, processor: &Processor, sp: Va) -> bool {
        let limits = || {
            let data = self.kd_data()?;
            let thread = processor.current_thread?;
            let top =
                self.read_pointer(thread.add(data.offset(field::OFFSET_KTHREAD_INITIAL_STACK)?)).ok()?;
            let limit = data
                .offset(field::OFFSET_KTHREAD_STACK_LIMIT)
                .and_then(|offset| self.read_pointer(thread.add(offset)).ok())
                .unwrap_or(Va(top.0.saturating_sub(0x3000)));
            Some((limit, top))
        };
        limits().is_some_and(|(limit, top)| limit <= sp && sp <= top)
    }

    /// The registers KD's `r` shows for a processor: the record the kernel saved when it stopped, else (for the
    /// crashing processor) the header's, else the processor state.
    pub fn registers(&self, number: u32) -> Result<ProcessorRegisters, RegisterError> {
        let count = self.processors().len() as u32;
        if number >= count {
            return Err(RegisterError::NoProcessor { number, count });
        }
        let saved = self.prcb_context(number);
        // A processor that never stopped for the dump has an empty record.
        if let Ok(found) = &saved
            && !found.registers.ip().is_null()
        {
            return saved;
        }
        if number == self.current_processor()
            && let Some(registers) = self.header_registers()
        {
            return Ok(ProcessorRegisters { registers, source: RegisterSource::Header });
        }
        let state = self.processor_state(number);
        match (&state, saved) {
            (Ok(found), _) if !found.registers.ip().is_null() => state,
            (_, Ok(saved)) => Ok(saved),
            _ => state,
        }
    }

    /// The registers in the dump's header: those of the exception, for crashes by an exception.
    pub fn header_registers(&self) -> Option<Registers> {
        let registers = self.header_context()?;
        let prcb =
            self.processors().get(self.current_processor() as usize).and_then(|processor| processor.prcb);
        Some(registers.with_special(self.special_registers(prcb)))
    }

    fn header_context(&self) -> Option<Registers> {
        let bytes = self.dump.read_range(self.header().context?)?;
        let registers = Registers::from_context(self.header().machine, &bytes)?;
        // A header that was never filled has zeros or the filler text.
        let filler = u32::from_le_bytes(*b"PAGE");
        (!registers.ip().is_null() && registers.context_flags() != filler).then_some(registers)
    }

    fn prcb_of(&self, number: u32) -> Result<(Va, &KdData), RegisterError> {
        let processor = self.processors().get(number as usize);
        let prcb = processor.and_then(|processor| processor.prcb).ok_or(RegisterError::NoPrcb { number })?;
        Ok((prcb, self.kd_data().ok_or(RegisterError::NoKdData { number })?))
    }

    /// The record that `KPRCB.Context` points to (Windows 7 and later).
    fn prcb_context(&self, number: u32) -> Result<ProcessorRegisters, RegisterError> {
        let (prcb, data) = self.prcb_of(number)?;
        let offset = data.offset(field::OFFSET_PRCB_CONTEXT).ok_or(RegisterError::NotTold { number })?;
        let unreadable = |source| RegisterError::Unreadable { number, source };
        let at = self.read_pointer(prcb.add(offset)).map_err(unreadable)?;
        let registers = self.read_context(at).map_err(unreadable)?;
        let registers = registers.with_special(self.special_registers(Some(prcb)));
        Ok(ProcessorRegisters { registers, source: RegisterSource::Prcb(at) })
    }

    /// `KPRCB.ProcessorState.ContextFrame`.
    fn processor_state(&self, number: u32) -> Result<ProcessorRegisters, RegisterError> {
        let (prcb, data) = self.prcb_of(number)?;
        let offset =
            data.offset(field::OFFSET_PRCB_PROC_STATE_CONTEXT).ok_or(RegisterError::NotTold { number })?;
        let at = prcb.add(offset);
        let registers =
            self.read_context(at).map_err(|source| RegisterError::Unreadable { number, source })?;
        let registers = registers.with_special(self.special_registers(Some(prcb)));
        Ok(ProcessorRegisters { registers, source: RegisterSource::ProcessorState(at) })
    }

    /// Reads a `CONTEXT` of the target's machine; all of it must be readable.
    pub fn read_context(&self, at: Va) -> Result<Registers, ReadFault> {
        let machine = self.header().machine;
        let mut bytes = vec![0; layout(machine).context_size];
        self.read(at, &mut bytes).complete()?;
        Ok(Registers::from_context(machine, &bytes).unwrap_or_else(|| Registers::zeroed(machine)))
    }

    /// The special registers in a KPRCB's processor state.
    fn special_registers(&self, prcb: Option<Va>) -> Option<Vec<u8>> {
        let data = self.kd_data()?;
        let offset = data.offset(field::OFFSET_PRCB_PROC_STATE_SPECIAL_REG)?;
        // They stand before the CONTEXT, or after it on x86.
        let size = data
            .offset(field::OFFSET_PRCB_PROC_STATE_CONTEXT)
            .and_then(|context| context.checked_sub(offset))
            .unwrap_or(0x54)
            .min(MOST_SPECIAL);
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        self.read(prcb?.add(offset), &mut bytes).complete().ok()?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_list_heads_give_the_address() {
        const BASE: u64 = 0xffff_f804_782d_4180;
        let mut bytes = vec![0; 0x400];
        for index in 0..8usize {
            let offset = 0x100 + index * 0x20;
            let head = (BASE + offset as u64).to_le_bytes();
            bytes[offset..offset + 8].copy_from_slice(&head);
            bytes[offset + 8..offset + 16].copy_from_slice(&head);
        }
        assert_eq!(self_address(&bytes, 8), Some(Va(BASE)));
        assert_eq!(self_address(&bytes[..0x1c0], 8), None);
        assert_eq!(self_address(&[], 8), None);
    }
}
