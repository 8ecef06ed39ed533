//! Processors: the control region (`_KPCR`) and block (`_KPRCB`) of each, and its interrupt descriptors.
//!
//! A small dump holds the block of the processor that crashed and not its region. Layout of descriptors: Intel's manual,
//! volume 3, chapter 6. Since Windows 8 the block names the interrupt objects of its vectors; before, the code that a
//! descriptor leads to stands in the object itself.

use super::kernel::{Kernel, Record};
use super::list;
use crate::address::Va;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::target::Machine;

/// Where KDDEBUGGER_DATA64 holds the offset of the block in the region.
const KD_CONTAINED_PRCB: u32 = 0x2e6;
/// Vectors of a processor.
const VECTORS: u64 = 256;
/// The most interrupt objects of one vector.
const MOST_OBJECTS: usize = 256;
/// `_KINTERRUPT.Type`.
const INTERRUPT_OBJECT: u64 = 22;
/// The first stack of interrupts in a task state segment of x64, less one: stacks have numbers from 1.
const INTERRUPT_STACKS: u64 = 0x1c;

/// A processor.
#[derive(Clone)]
pub struct Processor<'a> {
    kernel: Kernel<'a>,
    /// Its number.
    pub number: u32,
    /// Its `_KPRCB`.
    pub prcb: Va,
    /// Its `_KPCR`; `None` where nothing tells how far the block is from its start.
    pub pcr: Option<Va>,
}

/// A descriptor of the interrupt table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gate {
    /// Its vector.
    pub vector: u64,
    /// Where the processor goes on.
    pub handler: Va,
    /// The code segment there.
    pub selector: u16,
    /// Which of the stacks for interrupts it uses (x64); 0 for none.
    pub stack: u8,
    /// False for one that is not in use.
    pub present: bool,
}

/// An interrupt object: a driver's claim on a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Its `_KINTERRUPT`.
    pub at: Va,
    /// What it calls.
    pub routine: Va,
    /// With what.
    pub context: Va,
}

/// A processor's place in the numbers that a kernel has.
///
/// # Errors
/// For numbers that no processor has.
pub fn check(session: &Session<'_>, number: u64) -> Result<u32> {
    let count = session.target().info().processors.max(1);
    match u32::try_from(number) {
        Ok(number) if number < count => Ok(number),
        _ => Err(Error::Usage(format!("there is no processor {number:x}: the dump tells of {count}"))),
    }
}

impl Gate {
    /// From the bytes of a descriptor: 8 on x86, 16 on x64.
    pub fn parse(vector: u64, bytes: &[u8]) -> Option<Gate> {
        let low = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let high = match bytes.get(8..16) {
            Some(more) => u64::from_le_bytes(more.try_into().ok()?) << 32,
            None => 0,
        };
        Some(Gate {
            vector,
            handler: Va(low & 0xffff | low >> 32 & 0xffff_0000 | high),
            selector: (low >> 16) as u16,
            stack: if bytes.len() > 8 { (low >> 32 & 7) as u8 } else { 0 },
            present: low >> 47 & 1 != 0,
        })
    }
}

impl<'a> Processor<'a> {
    /// A processor by its number.
    ///
    /// # Errors
    /// Where there is none, or the dump does not tell where its block is.
    pub fn new(session: &'a Session<'a>, number: u32) -> Result<Processor<'a>> {
        check(session, number.into())?;
        let kernel = Kernel::new(session);
        let prcb = match session.target().processor(number) {
            Some(processor) if processor.prcb != 0 => kernel.address(processor.prcb),
            _ => {
                return Err(Error::NotFound(format!(
                    "the control block of processor {number} is not captured in this dump"
                )));
            }
        };
        let contained = || {
            let region = kernel.structure("_KPCR").ok()?;
            let inside = region.field("PrcbData").or_else(|| region.field("Prcb"))?;
            (inside.size > 8).then_some(inside.offset)
        };
        let distance = contained().or_else(|| session.target().kd_data_offset(KD_CONTAINED_PRCB));
        let pcr = distance.and_then(|distance| prcb.0.checked_sub(distance)).map(Va);
        Ok(Processor { kernel, number, prcb, pcr })
    }

    /// Its block.
    ///
    /// # Errors
    /// Without the kernel's types, or where it cannot be read.
    pub fn block(&self) -> Result<Record<'a>> {
        self.kernel.read("_KPRCB", self.prcb)
    }

    /// Its region.
    ///
    /// # Errors
    /// Without the kernel's types, or where it cannot be read.
    pub fn region(&self) -> Result<Record<'a>> {
        let at = self.pcr.ok_or_else(|| {
            Error::NoSymbols(
                "nothing tells how far a processor's block is from its control region".to_owned(),
            )
        })?;
        self.kernel.read("_KPCR", at)
    }

    /// Where its interrupt descriptors are, and the offset of the last byte.
    ///
    /// # Errors
    /// On arm64, which has none; where neither region nor block can be read.
    pub fn descriptor_table(&self) -> Result<(Va, u64)> {
        if self.kernel.session().target().machine() == Machine::Arm64 {
            return Err(Error::Unsupported("arm64 has no interrupt descriptor table".to_owned()));
        }
        let block = self.block();
        let special = |field: &str| {
            let block = block.as_ref().map_err(Clone::clone)?;
            block.u64(&format!("ProcessorState.SpecialRegisters.Idtr.{field}"))
        };
        let base = match self.region().and_then(|region| region.first(&["IdtBase", "IDT"])) {
            Ok(base) if base != 0 => base,
            told => match special("Base") {
                Ok(base) if base != 0 => base,
                other => {
                    let why = told.and(other).err();
                    return Err(why.unwrap_or_else(|| {
                        Error::NotFound(format!("processor {} tells no table", self.number))
                    }));
                }
            },
        };
        let all = VECTORS * self.gate_size() - 1;
        let limit = special("Limit").ok().filter(|limit| *limit != 0).unwrap_or(all);
        Ok((Va(base), limit.min(all)))
    }

    fn gate_size(&self) -> u64 {
        if self.kernel.pointer_size() == 4 { 8 } else { 16 }
    }

    /// Its interrupt descriptors as far as they can be read, and why there are no more.
    ///
    /// # Errors
    /// As for [`Processor::descriptor_table`].
    pub fn gates(&self) -> Result<(Vec<Gate>, Option<Error>)> {
        let (base, limit) = self.descriptor_table()?;
        let size = self.gate_size() as usize;
        let mut bytes = vec![0; (limit as usize + 1) / size * size];
        let (done, fault) = self.kernel.session().memory().read_some(base, &mut bytes)?;
        let whole = bytes.get(..done).unwrap_or_default().chunks_exact(size);
        let gates = whole.enumerate().filter_map(|(vector, bytes)| Gate::parse(vector as u64, bytes));
        Ok((gates.collect(), fault))
    }

    /// The top of the stack that a gate uses; `None` for one that uses none.
    ///
    /// # Errors
    /// Where the task state segment cannot be read.
    pub fn stack_of(&self, gate: &Gate) -> Result<Option<Va>> {
        if gate.stack == 0 {
            return Ok(None);
        }
        let segment = self.region()?.pointer("TssBase")?;
        let at = segment.add(INTERRUPT_STACKS + 8 * u64::from(gate.stack));
        self.kernel.session().memory().pointer(at).map(Some)
    }

    /// The interrupt objects behind a gate: none where the kernel itself handles the vector.
    ///
    /// # Errors
    /// Where a list of them is broken.
    pub fn interrupts(&self, gate: &Gate) -> Result<Vec<Interrupt>> {
        let Some(first) = self.interrupt_at(gate)? else { return Ok(Vec::new()) };
        let links = self.kernel.structure("_KINTERRUPT")?.offset("InterruptListEntry")?;
        let mut found = vec![self.interrupt(first)?];
        // One that shares its vector is in a ring without a head; alone, its links may be null.
        let memory = self.kernel.session().memory();
        if !memory.pointer(first.add(links))?.is_null() {
            for at in list::ring(memory, first.add(links)).of(links).at_most(MOST_OBJECTS) {
                found.push(self.interrupt(at?)?);
            }
        }
        Ok(found)
    }

    fn interrupt_at(&self, gate: &Gate) -> Result<Option<Va>> {
        let block = self.kernel.structure("_KPRCB")?;
        if let Some(objects) = block.field("InterruptObject") {
            let at = self.prcb.add(objects.offset + gate.vector * self.kernel.pointer_size());
            return Ok(Some(self.kernel.session().memory().pointer(at)?).filter(|at| !at.is_null()));
        }
        let object = self.kernel.structure("_KINTERRUPT")?;
        let Some(code) = object.field("DispatchCode") else { return Ok(None) };
        let at = Va(gate.handler.0.wrapping_sub(code.offset));
        let is_one = object.at(at).u64("Type").is_ok_and(|kind| kind == INTERRUPT_OBJECT)
            && object.at(at).u64("Size").is_ok_and(|size| size == object.size());
        Ok(is_one.then_some(at))
    }

    fn interrupt(&self, at: Va) -> Result<Interrupt> {
        let object = self.kernel.read("_KINTERRUPT", at)?;
        if object.u64("Type")? != INTERRUPT_OBJECT {
            let at = self.kernel.session().target().show(at);
            return Err(Error::Other(format!("{at} is no interrupt object")));
        }
        // Interrupts by messages go through a routine of the kernel's.
        let message = object.pointer("MessageServiceRoutine").unwrap_or(Va::NULL);
        let routine = object.pointer("ServiceRoutine")?;
        let own = self.kernel.session().target().module_at(routine).is_some_and(|module| module.is_kernel);
        Ok(Interrupt {
            at,
            routine: if own && !message.is_null() { message } else { routine },
            context: object.pointer("ServiceContext")?,
        })
    }
}

/// The name of an interrupt request level.
pub fn irql_name(machine: Machine, irql: u64) -> &'static str {
    match (machine, irql) {
        (_, 0) => "LOW_LEVEL",
        (_, 1) => "APC_LEVEL",
        (_, 2) => "DISPATCH_LEVEL",
        (Machine::X64, 13) | (Machine::Arm64, 13) | (Machine::X86, 28) => "CLOCK_LEVEL",
        (Machine::X64, 14) | (Machine::Arm64, 14) | (Machine::X86, 29) => "IPI_LEVEL",
        (Machine::X86, 27) => "PROFILE_LEVEL",
        (Machine::X86, 30) => "POWER_LEVEL",
        (Machine::X64, 15) | (Machine::Arm64, 15) | (Machine::X86, 31) => "HIGH_LEVEL",
        (Machine::X86, 3..=26) | (_, 3..=12) => "DEVICE_LEVEL",
        _ => "no level of this machine",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_of_32_and_64_bits() {
        // The page fault's gate of a real 64-bit system, and of Windows XP.
        let wide = [0x2566_8e00_0010_2e40u64, 0xffff_f807];
        let bytes: Vec<u8> = wide.iter().flat_map(|word| word.to_le_bytes()).collect();
        let gate = Gate::parse(0xe, &bytes).unwrap();
        assert_eq!((gate.handler, gate.selector), (Va(0xffff_f807_2566_2e40), 0x10));
        assert!(gate.present && gate.stack == 0);
        let narrow = 0x8054_8e00_0008_3360u64.to_le_bytes();
        let gate = Gate::parse(0, &narrow).unwrap();
        assert_eq!((gate.handler, gate.selector, gate.present), (Va(0x8054_3360), 8, true));
        assert!(Gate::parse(0, &narrow[..7]).is_none());
    }

    #[test]
    fn levels_have_the_names_of_their_machine() {
        assert_eq!(irql_name(Machine::X64, 15), "HIGH_LEVEL");
        assert_eq!(irql_name(Machine::X86, 15), "DEVICE_LEVEL");
        assert_eq!(irql_name(Machine::X86, 31), "HIGH_LEVEL");
        assert_eq!(irql_name(Machine::Arm64, 16), "no level of this machine");
    }
}
