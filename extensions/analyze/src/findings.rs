//! Who did it: evidence from a [`Crash`], the most telling first, and how far it may be trusted. Pure.
//!
//! The order of trust: an unloaded driver at the address that failed; an argument that is a place in a driver; the
//! faulting instruction; a driver that the arguments lead to; a driver whose code was interrupted; drivers on the
//! stack: in its frames, or where unwinding ends in words that are candidates only. Windows' own modules come last: they
//! are where faults show.

use crate::machine::Exception;
use crate::model::{Crash, From};
use crate::roles::{Nature, Role};
use crate::status;
use crate::weigh::Case;
use crate::windows::{Class, class};
use kd_sdk::address::Va;

/// How far a verdict may be trusted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Confidence {
    /// A hint.
    Low,
    /// More likely than not.
    Medium,
    /// The evidence is direct.
    High,
}

impl Confidence {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Confidence::Low => "low",
            Confidence::Medium => "medium",
            Confidence::High => "high",
        }
    }
}

/// What the fault was doing to the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Executing.
    Execute,
}

impl Access {
    /// KD's label for the address.
    pub fn label(self) -> &'static str {
        match self {
            Access::Read => "READ_ADDRESS",
            Access::Write => "WRITE_ADDRESS",
            Access::Execute => "EXECUTE_ADDRESS",
        }
    }

    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Execute => "execute",
        }
    }

    fn letter(self) -> char {
        match self {
            Access::Read => 'R',
            Access::Write => 'W',
            Access::Execute => 'X',
        }
    }
}

/// A module that is blamed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// Index of a loaded module.
    Loaded(usize),
    /// Index of an unloaded one.
    Unloaded(usize),
}

/// The module blamed, and the place in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Culprit {
    /// The module.
    pub who: Who,
    /// How sure.
    pub confidence: Confidence,
    /// The address that led there.
    pub at: Option<Va>,
    /// Why.
    pub reason: String,
}

/// What was concluded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// The faulting instruction and where it is known from.
    pub faulting_ip: Option<(Va, String)>,
    /// The address referenced and how.
    pub access: Option<(Access, Va)>,
    /// The module that most likely caused it.
    pub culprit: Option<Culprit>,
    /// One plain sentence that ends the analysis.
    pub verdict: String,
    /// Each piece of evidence, the most telling first.
    pub evidence: Vec<String>,
    /// Other modules seen on the stack that are not part of Windows: index and how often.
    pub others: Vec<(usize, usize)>,
    /// `0xD1_W_driver!Routine+10` or with `IMAGE_driver.sys`.
    pub bucket: String,
}

/// Concludes. `name` spells an address with its symbol or module.
pub fn conclude(crash: &Crash, name: &dyn Fn(Va) -> String) -> Findings {
    let mut case = Case::new(crash, name);
    let faulting_ip = faulting_ip(crash);
    let access = access(crash);
    case.weigh_instruction(faulting_ip.as_ref(), access);
    case.weigh_address(access);
    case.weigh_arguments();
    case.weigh_hung_processor();
    case.weigh_frames();
    case.weigh_callers();
    case.weigh_recursion();
    case.weigh_stack();
    let Case { mut leads, notes, nature, .. } = case;
    // Stable: of equal weights the first found stays first.
    leads.sort_by_key(|lead| std::cmp::Reverse(lead.weight));
    let mut evidence: Vec<String> = Vec::new();
    for text in leads.iter().map(|lead| &lead.culprit.reason).chain(&notes) {
        if !evidence.contains(text) {
            evidence.push(text.clone());
        }
    }
    let culprit = leads.into_iter().next().map(|lead| lead.culprit);
    let bucket = bucket(crash, culprit.as_ref(), access, name);
    let verdict = verdict(crash, nature, culprit.as_ref());
    let others = others(crash, culprit.as_ref());
    Findings { faulting_ip, access, culprit, verdict, evidence, others, bucket }
}

/// The faulting instruction: an argument, the exception, or the registers at the fault.
fn faulting_ip(crash: &Crash) -> Option<(Va, String)> {
    if let Some((index, value)) = crash.argument(Role::Ip).filter(|&(_, value)| value != 0) {
        return Some((Va(value), format!("Arg{}", index + 1)));
    }
    if let Some(raised) = crash.raised.as_ref().filter(|raised| !raised.exception.address.is_null()) {
        return Some((raised.exception.address, "the exception record".to_owned()));
    }
    let context = crash.trap_frame.as_ref().or(crash.context.as_ref())?;
    match context.from {
        From::Argument(index) => Some((context.registers.ip, format!("the record in Arg{}", index + 1))),
        _ => None,
    }
}

/// The address referenced, with what was done to it.
fn access(crash: &Crash) -> Option<(Access, Va)> {
    let address = crash.argument(Role::Address).map(|(_, value)| Va(value));
    if let Some(address) = address {
        let kind = if let Some((_, bits)) = crash.argument(Role::FaultAccess) {
            // 0x10 is the execute bit of the hardware's error code; 8 is Arm's, and 2 or 1 mean a write.
            match bits {
                bits if bits & 0x18 != 0 => Access::Execute,
                0 => Access::Read,
                _ => Access::Write,
            }
        } else if let Some((_, bits)) = crash.argument(Role::Access) {
            match bits {
                bits if bits & 0x1a != 0 => Access::Execute,
                bits if bits & 1 != 0 => Access::Write,
                _ => Access::Read,
            }
        } else if crash.bug_check.code() == 0xbe {
            Access::Write
        } else {
            Access::Read
        };
        return Some((kind, address));
    }
    if crash.bug_check.code() == 0xfc {
        return Some((Access::Execute, Va(crash.bug_check.parameters[0])));
    }
    let exception = &crash.raised.as_ref()?.exception;
    exception_access(exception)
}

/// What an access violation says about itself.
pub fn exception_access(exception: &Exception) -> Option<(Access, Va)> {
    if !matches!(exception.code, 0xc000_0005 | 0xc000_0006) {
        return None;
    }
    let (kind, address) = (exception.parameters.first()?, exception.parameters.get(1)?);
    let kind = match kind {
        0 => Access::Read,
        1 => Access::Write,
        8 => Access::Execute,
        _ => return None,
    };
    Some((kind, Va(*address)))
}

/// Modules on the stack, not part of Windows, beside the culprit.
fn others(crash: &Crash, culprit: Option<&Culprit>) -> Vec<(usize, usize)> {
    let blamed = culprit.map(|culprit| culprit.who);
    let mut found: Vec<(usize, usize)> = Vec::new();
    for slot in &crash.stack {
        let third = crash
            .modules
            .get(slot.module)
            .is_some_and(|m| !m.is_kernel && class(&m.image) == Class::ThirdParty);
        if slot.weak || !third || blamed == Some(Who::Loaded(slot.module)) {
            continue;
        }
        match found.iter_mut().find(|(module, _)| *module == slot.module) {
            Some((_, count)) => *count += 1,
            None => found.push((slot.module, 1)),
        }
    }
    found
}

/// The sentence at the end.
fn verdict(crash: &Crash, nature: Nature, culprit: Option<&Culprit>) -> String {
    if let Some(culprit) = culprit {
        let who = image(crash, culprit.who);
        let gone = if matches!(culprit.who, Who::Unloaded(_)) { " (unloaded)" } else { "" };
        return match culprit.confidence {
            Confidence::High => {
                format!("{who}{gone} is very likely the cause: the evidence points straight at it")
            }
            Confidence::Medium => format!("{who}{gone} is the most likely cause; see the evidence"),
            Confidence::Low => {
                format!("{who}{gone} is only where the trail ends; the cause may well be elsewhere")
            }
        };
    }
    match nature {
        Nature::Requested => "nothing failed here: the crash or dump was asked for".to_owned(),
        Nature::Hardware => "unknown: look at the hardware (processor, RAM, heat, overclocking); no driver stands out".to_owned(),
        Nature::Elsewhere => {
            "unknown: the processor or thread that hangs is another one; hardware and firmware \
                              are possible too"
                .to_owned()
        }
        Nature::ProcessEnded => "unknown: a user-mode process ended; look at why, and at the disk".to_owned(),
        Nature::Corruption => {
            "unknown: memory was damaged before this code met it (driver or RAM)".to_owned()
        }
        Nature::Direct if matches!(crash.context.as_ref().map(|context| context.from), Some(From::Processor(_))) => {
            "unknown: see where the processor that hangs was last seen; hardware and firmware are possible too"
                .to_owned()
        }
        Nature::Direct => "unknown: nothing in this dump points at a module".to_owned(),
    }
}

/// The file name of a blamed module.
pub fn image(crash: &Crash, who: Who) -> &str {
    match who {
        Who::Loaded(index) => crash.modules.get(index).map_or("?", |module| module.image.as_str()),
        Who::Unloaded(index) => crash.unloaded.get(index).map_or("?", |module| module.name.as_str()),
    }
}

/// A name under which crashes of the same kind fall together.
fn bucket(
    crash: &Crash,
    culprit: Option<&Culprit>,
    access: Option<(Access, Va)>,
    name: &dyn Fn(Va) -> String,
) -> String {
    let mut text = format!("0x{:X}", crash.bug_check.code());
    let status = crash.argument(Role::Status).map(|(_, value)| value as u32);
    if let Some(code) = status.or(crash.raised.as_ref().map(|raised| raised.exception.code)) {
        text.push('_');
        text.push_str(&status::bucket(code));
    }
    if let Some((kind, _)) = access {
        text.push('_');
        text.push(kind.letter());
    }
    match culprit {
        Some(culprit) => {
            let symbol = culprit.at.map(name).filter(|symbol| symbol.contains('!'));
            text.push('_');
            match symbol {
                Some(symbol) => text.push_str(&symbol),
                None => {
                    text.push_str("IMAGE_");
                    text.push_str(image(crash, culprit.who));
                }
            }
        }
        None => text.push_str("_UNKNOWN"),
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::machine::Registers;
    use crate::model::{Context, Led, Raised};
    use crate::stack::tests::module;
    use crate::stack::{Candidate, FoundFrame};
    use kd_sdk::target::{BugCheck, Machine, Module, UnloadedModule};

    const NT: u64 = 0xffff_f800_0000_0000;
    const BAD: u64 = 0xffff_f800_1000_0000;
    const NTFS: u64 = 0xffff_f800_2000_0000;
    const PPM: u64 = 0xffff_f800_3000_0000;
    const GONE: u64 = 0xffff_f800_4000_0000;

    pub fn crash(code: u32, parameters: [u64; 4]) -> Crash {
        let modules: Vec<Module> = [("nt", NT), ("bad", BAD), ("Ntfs", NTFS), ("amdppm", PPM)]
            .iter()
            .map(|&(name, base)| module(name, base, 0x10_0000))
            .collect();
        let name = "gone.sys".to_owned();
        Crash {
            machine: Machine::X64,
            pointer_size: 8,
            build: 19041,
            bug_check: BugCheck { raw_code: code, parameters },
            modules,
            unloaded: vec![UnloadedModule { start: Va(GONE), end: Va(GONE + 0x1000), unload_time: 0, name }],
            raised: None,
            context: None,
            trap_frame: None,
            irql: None,
            process: None,
            thread: None,
            walked: Vec::new(),
            stack_starts: Vec::new(),
            stack: Vec::new(),
            frames: Vec::new(),
            led: Vec::new(),
            texts: [const { None }; 4],
            missing: Vec::new(),
        }
    }

    fn on_stack(crash: &mut Crash, values: &[u64]) {
        for (index, &value) in values.iter().enumerate() {
            let module = crash.module_at(Va(value)).unwrap();
            crash.stack.push(Candidate {
                frame: None,
                at: Va(0x1000 + 8 * index as u64),
                value: Va(value),
                module,
                checked: false,
                weak: false,
            });
        }
    }

    fn blamed(crash: &Crash) -> (String, Option<Confidence>) {
        let name = |va: Va| match crash.module_at(va) {
            Some(index) => format!("{}+{:#x}", crash.modules[index].name, va.0 - crash.modules[index].base.0),
            None => va.to_string(),
        };
        let found = conclude(crash, &name);
        match found.culprit {
            Some(culprit) => (image(crash, culprit.who).to_owned(), Some(culprit.confidence)),
            None => (found.verdict, None),
        }
    }

    #[test]
    fn the_faulting_instruction_names_its_driver() {
        let crash = crash(0xd1, [0x10, 2, 0, BAD + 0x1234]);
        assert_eq!(blamed(&crash), ("bad.sys".to_owned(), Some(Confidence::High)));
        let found = conclude(&crash, &|va| va.to_string());
        assert_eq!(found.access, Some((Access::Read, Va(0x10))));
        assert_eq!(found.bucket, "0xD1_R_IMAGE_bad.sys");
        assert!(found.evidence.iter().any(|text| text.contains("null pointer")));
    }

    #[test]
    fn a_driver_of_windows_is_named_with_less_trust() {
        let mut crash = crash(0x1000_007e, [0xffff_ffff_c000_0005, PPM + 0x334c, 0, 0]);
        on_stack(&mut crash, &[NT + 0x5000, BAD + 0x5000]);
        assert_eq!(blamed(&crash), ("amdppm.sys".to_owned(), Some(Confidence::Medium)));
        assert_eq!(conclude(&crash, &|va| va.to_string()).others, [(1, 1)]);
    }

    #[test]
    fn behind_a_file_system_the_stack_is_searched() {
        let mut crash = crash(0x50, [0x1234_5678, 0, NTFS + 0x5000, 2]);
        assert_eq!(blamed(&crash), ("Ntfs.sys".to_owned(), Some(Confidence::Low)));
        on_stack(&mut crash, &[NT + 0x5000, NTFS + 0x6000, BAD + 0x5000]);
        assert_eq!(blamed(&crash), ("bad.sys".to_owned(), Some(Confidence::Medium)));
    }

    #[test]
    fn an_unloaded_driver_counts_most() {
        let mut crash = crash(0xce, [GONE + 0x10, 8, GONE + 0x10, 0]);
        on_stack(&mut crash, &[BAD + 0x5000]);
        assert_eq!(blamed(&crash), ("gone.sys".to_owned(), Some(Confidence::High)));
    }

    #[test]
    fn the_stack_is_not_blamed_for_hardware_people_and_damage() {
        for (code, word) in
            [(0x124, "hardware"), (0x1c8, "asked for"), (0x101, "another one"), (0xef, "process")]
        {
            let mut crash = crash(code, [0; 4]);
            on_stack(&mut crash, &[BAD + 0x5000]);
            let (verdict, confidence) = blamed(&crash);
            assert!(confidence.is_none() && verdict.contains(word), "{code:x}: {verdict}");
        }
        let mut crash = crash(0x19, [0x20, 0, 0, 0]);
        on_stack(&mut crash, &[BAD + 0x5000]);
        assert_eq!(blamed(&crash), ("bad.sys".to_owned(), Some(Confidence::Low)));
    }

    #[test]
    fn arguments_lead_to_drivers() {
        let crash_116 = crash(0x116, [1, BAD + 0x77, 0, 0]);
        assert_eq!(blamed(&crash_116), ("bad.sys".to_owned(), Some(Confidence::High)));
        let mut held = crash(0x9f, [3, 1, 2, 3]);
        held.led.push(Led {
            argument: 1,
            text: "Arg2 is a device object of bad.sys".to_owned(),
            module: Some(1),
        });
        assert_eq!(blamed(&held), ("bad.sys".to_owned(), Some(Confidence::Medium)));
        let verifier = crash(0xc4, [0x2000, BAD + 0x10, 0, 0]);
        assert_eq!(blamed(&verifier), ("bad.sys".to_owned(), Some(Confidence::High)));
    }

    #[test]
    fn who_stops_the_machine_with_its_own_code_is_named() {
        let mut crash = crash(0xa000_0001, [5, 0, 0, 0]);
        on_stack(&mut crash, &[BAD + 0x5001, NT + 0x5001]);
        let registers = Registers { ip: Va(NT + 0x100), sp: Va(0x1000), values: Vec::new() };
        crash.context = Some(Context { from: From::Header, at: None, is_trap_frame: false, registers });
        assert_eq!(blamed(&crash), ("bad.sys".to_owned(), Some(Confidence::High)));
    }

    #[test]
    fn a_call_that_went_astray_names_the_caller() {
        let mut crash = crash(0x50, [0xffff_e78f_9034_5f71, 0x11, 0xffff_e78f_9034_5f71, 2]);
        on_stack(&mut crash, &[BAD + 0x5001, NTFS + 0x5001]);
        let registers = Registers { ip: Va(0xffff_e78f_9034_5f71), sp: Va(0x1000), values: Vec::new() };
        crash.context =
            Some(Context { from: From::Stack, at: Some(Va(0x900)), is_trap_frame: false, registers });
        assert_eq!(blamed(&crash), ("bad.sys".to_owned(), Some(Confidence::High)));
    }

    #[test]
    fn an_illegal_instruction_in_windows_is_no_drivers_fault() {
        let mut crash = crash(0x1e, [0xffff_ffff_c000_001d, NT + 0x21_7980 % 0x10_0000, 0, 0]);
        on_stack(&mut crash, &[BAD + 0x5001]);
        let (verdict, confidence) = blamed(&crash);
        assert!(confidence.is_none() && verdict.contains("hardware"), "{verdict}");
    }

    #[test]
    fn interrupted_code_counts() {
        let mut crash = crash(0x133, [0, 0x501, 0x500, 0]);
        let registers = Registers { ip: Va(BAD + 0x99), sp: Va(0x2000), values: Vec::new() };
        crash.frames.push(FoundFrame { at: Va(0x1000), registers, linked: true });
        assert_eq!(blamed(&crash), ("bad.sys".to_owned(), Some(Confidence::Medium)));
    }

    #[test]
    fn an_exception_record_tells_instruction_and_access() {
        let mut crash = crash(0x7e, [0xffff_ffff_c000_0005, 0, 0x1000, 0x2000]);
        let exception = Exception {
            code: 0xc000_0005,
            flags: 0,
            address: Va(BAD + 8),
            parameters: vec![1, 0x8000_0000_0000_0000],
        };
        crash.raised = Some(Raised { from: From::Argument(2), at: Some(Va(0x1000)), exception });
        let registers = Registers { ip: Va(BAD + 8), sp: Va(0), values: Vec::new() };
        crash.context =
            Some(Context { from: From::Argument(3), at: Some(Va(0x2000)), is_trap_frame: false, registers });
        let found = conclude(&crash, &|va| va.to_string());
        assert_eq!(found.faulting_ip.map(|ip| ip.0), Some(Va(BAD + 8)));
        assert_eq!(found.access, Some((Access::Write, Va(0x8000_0000_0000_0000))));
        assert!(found.evidence.iter().any(|text| text.contains("not canonical")));
        assert_eq!(found.bucket, "0x7E_AV_W_IMAGE_bad.sys");
    }

    #[test]
    fn an_unknown_code_without_anything_is_said_plainly() {
        let crash = crash(0xa000_0001, [5, 0, 0, 0]);
        let (verdict, confidence) = blamed(&crash);
        assert!(confidence.is_none() && verdict.starts_with("unknown"), "{verdict}");
    }
}
