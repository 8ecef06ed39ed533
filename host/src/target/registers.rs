//! A processor's registers: a `CONTEXT` and, when the dump has them, the special registers beside it.
//!
//! What is stored where is [`super::context`]; how `r` shows it is [`super::rows`].

use kd_sdk::address::Va;

use super::bytes::{number_at, u32_at, u64_at, u128_at};
use super::context::{Layout, Slot, layout};
use crate::dump::Machine;

/// Debug registers, and where the kernel keeps those of the processor.
const DEBUG_REGISTERS: [(&str, &str); 6] =
    [("dr0", "kdr0"), ("dr1", "kdr1"), ("dr2", "kdr2"), ("dr3", "kdr3"), ("dr6", "kdr6"), ("dr7", "kdr7")];

/// Registers, with values as the dump has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registers {
    machine: Machine,
    context: Vec<u8>,
    special: Option<Vec<u8>>,
}

impl Registers {
    /// From the bytes of a `CONTEXT`; `None` when there are fewer than the machine's record has (x86 records without
    /// the extended registers, 0xcc bytes, are taken).
    pub fn from_context(machine: Machine, context: &[u8]) -> Option<Registers> {
        let layout = layout(machine);
        let least = if machine == Machine::X86 { 0xcc } else { layout.context_size };
        if context.len() < least {
            return None;
        }
        let mut context = context.get(..layout.context_size).unwrap_or(context).to_vec();
        context.resize(layout.context_size, 0);
        Some(Registers { machine, context, special: None })
    }

    /// With all registers zero.
    pub fn zeroed(machine: Machine) -> Registers {
        Registers { machine, context: vec![0; layout(machine).context_size], special: None }
    }

    /// The same with the bytes of `KSPECIAL_REGISTERS` (arm64: with `KARM64_ARCH_STATE` after it). As in KD, the
    /// debug registers are then those of the processor, which the kernel keeps there.
    pub fn with_special(mut self, special: Option<Vec<u8>>) -> Registers {
        self.special = special;
        for (own, kept) in DEBUG_REGISTERS {
            if let Some(value) = self.get(kept) {
                self.set(own, value);
            }
        }
        self
    }

    /// The machine they are of.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// The `CONTEXT`.
    pub fn context(&self) -> &[u8] {
        &self.context
    }

    /// The special registers, when the dump has them.
    pub fn special(&self) -> Option<&[u8]> {
        self.special.as_deref()
    }

    fn layout(&self) -> &'static Layout {
        layout(self.machine)
    }

    /// `ContextFlags`: which groups of registers are valid.
    pub fn context_flags(&self) -> u32 {
        u32_at(&self.context, self.layout().flags).unwrap_or(0)
    }

    /// The names that [`Registers::get_wide`] knows.
    pub fn names(machine: Machine) -> impl Iterator<Item = &'static str> {
        let layout = layout(machine);
        let slots = layout.context.iter().chain(layout.special).map(|slot| slot.name);
        slots.chain(layout.parts.iter().map(|part| part.name))
    }

    fn slot(&self, name: &str) -> Option<(&[u8], Slot)> {
        let find = |slots: &'static [Slot]| slots.iter().find(|slot| slot.name.eq_ignore_ascii_case(name));
        if let Some(slot) = find(self.layout().context) {
            return Some((&self.context, *slot));
        }
        let slot = find(self.layout().special)?;
        Some((self.special.as_deref()?, *slot))
    }

    /// The bytes a register is stored in.
    pub fn raw(&self, name: &str) -> Option<&[u8]> {
        let (record, slot) = self.slot(name)?;
        record.get(slot.offset..slot.offset.checked_add(slot.size)?)
    }

    /// A register, a part of one (`al`, `w3`, `zf`) or its second name, in any case, up to 128 bits wide. `None` for
    /// unknown names and for special registers that the dump does not have.
    pub fn get_wide(&self, name: &str) -> Option<u128> {
        if let Some((record, slot)) = self.slot(name) {
            return match slot.size {
                16 => u128_at(record, slot.offset),
                10 => {
                    let high = number_at(record, slot.offset.checked_add(8)?, 2)?;
                    Some(u128::from(high) << 64 | u128::from(u64_at(record, slot.offset)?))
                }
                size => number_at(record, slot.offset, size).map(u128::from),
            };
        }
        let part = self.layout().parts.iter().find(|part| part.name.eq_ignore_ascii_case(name))?;
        let value = self.get_wide(part.of)?;
        Some(value >> part.shift & ((1 << part.bits) - 1))
    }

    /// As [`Registers::get_wide`], for registers of at most 64 bits.
    pub fn get(&self, name: &str) -> Option<u64> {
        u64::try_from(self.get_wide(name)?).ok().filter(|_| {
            // A wide register is not a 64-bit one because its upper half happens to be zero.
            self.slot(name).is_none_or(|(_, slot)| slot.size <= 8)
        })
    }

    /// Changes a stored register of at most 64 bits in this copy; false when there is none of the name.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        let Some(slot) = self.layout().context.iter().find(|slot| slot.name.eq_ignore_ascii_case(name))
        else {
            let same = |part: &&super::context::Part| {
                part.name.eq_ignore_ascii_case(name) && part.shift == 0 && part.bits == 64
            };
            let alias = self.layout().parts.iter().find(same).map(|part| part.of);
            return alias.is_some_and(|of| self.set(of, value));
        };
        let end = slot.offset.saturating_add(slot.size);
        let bytes = value.to_le_bytes();
        match (self.context.get_mut(slot.offset..end), bytes.get(..slot.size)) {
            (Some(to), Some(from)) => {
                to.copy_from_slice(from);
                true
            }
            _ => false,
        }
    }

    /// The instruction pointer.
    pub fn ip(&self) -> Va {
        Va(self.get(self.layout().ip).unwrap_or(0))
    }

    /// The stack pointer.
    pub fn sp(&self) -> Va {
        Va(self.get(self.layout().sp).unwrap_or(0))
    }

    /// The frame pointer.
    pub fn fp(&self) -> Va {
        Va(self.get(self.layout().fp).unwrap_or(0))
    }

    /// The flags in KD's words: `nv up ei ng nz na po nc`, on arm64 `N--- EL1`.
    pub fn flags_text(&self) -> String {
        let bit = |name: &str| self.get(name).unwrap_or(0) != 0;
        if self.machine == Machine::Arm64 {
            let letters = [("n", 'N'), ("z", 'Z'), ("c", 'C'), ("v", 'V')];
            let mut text: String =
                letters.iter().map(|&(name, letter)| if bit(name) { letter } else { '-' }).collect();
            text.push_str(&format!(" EL{}", self.get("cpsr").unwrap_or(0) >> 2 & 3));
            return text;
        }
        // On x64 KD has the two parity words exchanged.
        let (even, odd) = if self.machine == Machine::X64 { ("po", "pe") } else { ("pe", "po") };
        let words = [
            ("of", "ov", "nv"),
            ("df", "dn", "up"),
            ("if", "ei", "di"),
            ("sf", "ng", "pl"),
            ("zf", "zr", "nz"),
            ("af", "ac", "na"),
            ("pf", even, odd),
            ("cf", "cy", "nc"),
        ];
        words.map(|(name, set, clear)| if bit(name) { set } else { clear }).join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_answer_by_every_name() {
        let mut registers = Registers::zeroed(Machine::X64);
        assert!(registers.set("RAX", 0x1122_3344_5566_7788));
        assert!(registers.set("efl", 0x40286));
        for (name, value) in [
            ("rax", 0x1122_3344_5566_7788),
            ("eax", 0x5566_7788),
            ("ax", 0x7788),
            ("al", 0x88),
            ("ah", 0x77),
            ("sf", 1),
            ("zf", 0),
            ("if", 1),
        ] {
            assert_eq!(registers.get(name), Some(value), "{name}");
        }
        assert_eq!(registers.get("cr3"), None);
        assert_eq!(registers.get("nonsense"), None);
        assert_eq!(registers.get("xmm0"), None);
        assert_eq!(registers.get_wide("xmm0"), Some(0));
        assert_eq!(registers.flags_text(), "nv up ei ng nz na po nc");
        assert!(!registers.set("cr3", 1));
        let registers = registers.with_special(Some(vec![7; 0xf0]));
        assert_eq!(registers.get("cr8"), Some(0x0707_0707_0707_0707));
    }

    #[test]
    fn arm64_names() {
        let mut registers = Registers::zeroed(Machine::Arm64);
        registers.set("x29", 5);
        registers.set("cpsr", 0x8000_0144);
        assert_eq!((registers.get("fp"), registers.get("w29"), registers.fp()), (Some(5), Some(5), Va(5)));
        assert_eq!(registers.flags_text(), "N--- EL1");
    }

    #[test]
    fn short_records_are_refused() {
        assert!(Registers::from_context(Machine::X64, &[0; 0x4cf]).is_none());
        assert!(Registers::from_context(Machine::X86, &[0; 0xcc]).is_some());
        assert!(Registers::from_context(Machine::Arm64, &[0; 3000]).is_some());
    }
}
