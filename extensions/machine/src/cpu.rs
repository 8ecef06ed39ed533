//! `!cpuinfo`, `!cpuid`: make, model and speed.

use super::processor;
use kd_sdk::nt::hardware;
use kd_sdk::nt::processor::Processor;
use kd_sdk::prelude::*;
use kd_sdk::target::Machine;

/// Where KDDEBUGGER_DATA64 holds offsets in the control block.
const KD_MHZ: u32 = 0x2b6;
const KD_CPU_TYPE: u32 = 0x2b8;
const KD_VENDOR: u32 = 0x2ba;
/// What Windows calls the family of every 64-bit Arm processor.
const ARM_FAMILY: u64 = 8;
/// Characters of the maker's name.
const VENDOR: usize = 13;

/// What a control block tells of its processor.
struct Cpu {
    family: u64,
    model: u64,
    stepping: u64,
    vendor: String,
    mhz: u64,
    signature: Option<u64>,
    features: Option<u64>,
}

impl Cpu {
    fn read(session: &Session<'_>, number: u32) -> Result<Cpu> {
        let at = Processor::new(session, number)?;
        let types = session.types().find("nt!_KPRCB").ok();
        let memory = session.memory();
        let place = |field: &str, told: u32| {
            let named = types.as_ref().and_then(|of| of.field(field)).map(|field| field.offset);
            let offset = named.or_else(|| session.target().kd_data_offset(told));
            offset.map(|offset| at.prcb.add(offset)).ok_or_else(|| {
                Error::NoSymbols(format!("neither symbols nor the debugger data block tell where {field} is"))
            })
        };
        let number = |field: &str| types.as_ref().filter(|of| of.has(field))?.at(at.prcb).u64(field).ok();
        let arm = session.target().machine() == Machine::Arm64;
        let (kind, vendor, letters) = if arm {
            ("ProcessorModel", "ProcessorVendorString", 2)
        } else {
            ("CpuType", "VendorString", VENDOR)
        };
        let kind = place(kind, KD_CPU_TYPE)?;
        let (family, model, stepping) = if arm {
            (ARM_FAMILY, memory.u16(kind)?.into(), memory.u16(kind.add(2))?.into())
        } else {
            // Type, an unused byte, stepping and model stand together in every version.
            (memory.u8(kind)?.into(), memory.u8(kind.add(3))?.into(), memory.u8(kind.add(2))?.into())
        };
        let vendor = memory.ansi(place(vendor, KD_VENDOR)?, letters)?;
        Ok(Cpu {
            family,
            model,
            stepping,
            vendor: vendor.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '.' }).collect(),
            mhz: memory.u32(place("MHz", KD_MHZ)?)?.into(),
            signature: number("UpdateSignature.QuadPart").or_else(|| number("UpdateSignature")),
            features: number("FeatureBits"),
        })
    }

    fn show(&self, out: &Out<'_>, number: u32) {
        out.field("processor", Value::UInt(number.into()), &format!("{number:2} "));
        out.field("family", Value::UInt(self.family), &format!("{:2}", self.family));
        out.field("model", Value::UInt(self.model), &format!(",{}", self.model));
        out.field("stepping", Value::UInt(self.stepping), &format!(",{} ", self.stepping));
        out.field("vendor", Value::Text(&self.vendor), &format!("{:<12} ", self.vendor));
        out.field("mhz", Value::UInt(self.mhz), &format!("{:4}", self.mhz));
    }
}

/// The processors that are asked for.
fn chosen(session: &Session<'_>, args: &str) -> Result<core::ops::Range<u32>> {
    if args.trim().is_empty() {
        return Ok(0..session.target().info().processors.max(1));
    }
    let number = processor::number(session, args, 0)?;
    Ok(number..number + 1)
}

/// A line for each processor; those that the dump does not hold are counted.
fn each(session: &Session<'_>, args: &str, heading: &str, show: &dyn Fn(&Out<'_>, &Cpu)) -> Result<()> {
    let out = session.out();
    let all = chosen(session, args)?;
    let (mut shown, mut absent) = (0, None::<(u32, Error)>);
    out.list("processors", |out| {
        for number in all.clone() {
            session.check_interrupt()?;
            match Cpu::read(session, number) {
                Ok(cpu) => {
                    if shown == 0 {
                        out.line(heading);
                    }
                    shown += 1;
                    out.record("", |out| {
                        cpu.show(out, number);
                        show(out, &cpu);
                        out.end_line();
                    });
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => absent = absent.take().map(|(n, error)| (n + 1, error)).or(Some((1, error))),
            }
        }
        Ok(())
    })?;
    match absent {
        Some((_, error)) if shown == 0 => Err(error),
        Some((count, error)) => {
            out.warning(&format!("{count} of {} processors are not shown: {error}", all.len()));
            Ok(())
        }
        None => Ok(()),
    }
}

/// Runs `!cpuinfo`.
pub fn cpuinfo(session: &Session<'_>, args: &str) -> Result<()> {
    let heading = "CP  F/M/S Manufacturer  MHz PRCB Signature    MSR 8B Signature Features";
    each(session, args, heading, &|out, cpu| {
        let hex = |value: Option<u64>| value.map_or(Value::Null, Value::Hex);
        let signature = cpu.signature.map_or_else(String::new, |value| format!("{value:016x}"));
        let features = cpu.features.map_or_else(String::new, |value| format!("{value:08x}"));
        out.field("signature", hex(cpu.signature), &format!(" {signature:<16}"));
        let blank = if features.is_empty() { 0 } else { 19 };
        out.field("features", hex(cpu.features), &format!("{:blank$}{features}", ""));
    })
}

/// Runs `!cpuid`.
pub fn cpuid(session: &Session<'_>, args: &str) -> Result<()> {
    each(session, args, "CP  F/M/S  Manufacturer  MHz", &|_, _| {})?;
    let out = session.out();
    let leaves = match hardware::cpuid(session) {
        Ok(leaves) => leaves,
        Err(error) => {
            out.line(&error.to_string());
            return Ok(());
        }
    };
    if let Some(brand) = hardware::brand(&leaves) {
        out.end_line();
        out.name("brand", &brand);
        out.end_line();
    }
    out.end_line();
    out.line("Leaf      eax       ebx       ecx       edx");
    out.list("leaves", |out| {
        for leaf in &leaves {
            let [first, second] = leaf.answers;
            // The second where it is another.
            let answers = [Some(first), Some(second).filter(|second| *second != first && *second != [0; 4])];
            for (index, answer) in answers.into_iter().flatten().enumerate() {
                out.record("", |out| {
                    out.field("leaf", Value::Hex(leaf.leaf.into()), &format!("{:08x}", leaf.leaf));
                    for (register, value) in ["eax", "ebx", "ecx", "edx"].into_iter().zip(answer) {
                        out.field(register, Value::Hex(value.into()), &format!("  {value:08x}"));
                    }
                    let (msr, again) = (leaf.register, index > 0);
                    out.field("msr", Value::Bool(msr), if msr { "  model specific register" } else { "" });
                    out.field("second", Value::Bool(again), if again { "  second answer" } else { "" });
                    out.end_line();
                });
            }
        }
    });
    Ok(())
}
