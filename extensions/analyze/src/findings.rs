//! Who did it: evidence from a [`Crash`], the most telling first, and how far it may be trusted. Pure.
//!
//! The order of trust: an unloaded driver at the address that failed; an argument that is a place in a driver; the
//! faulting instruction; a driver that the arguments lead to; a driver whose code was interrupted; drivers on the
//! stack, which without unwind data are candidates only. Windows' own modules come last: they are where faults show.

use crate::machine::Exception;
use crate::model::{Crash, From};
use crate::roles::{Nature, Role, nature};
use crate::status;
use crate::windows::{Class, class};
use kd_sdk::address::Va;
use kd_sdk::target::Machine;

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

/// A piece of evidence that points at a module; heavier ones win.
struct Lead {
    weight: u8,
    culprit: Culprit,
}

/// Concludes. `name` spells an address with its symbol or module.
pub fn conclude(crash: &Crash, name: &dyn Fn(Va) -> String) -> Findings {
    let mut case =
        Case { crash, name, nature: nature(crash.bug_check.code()), leads: Vec::new(), notes: Vec::new() };
    let faulting_ip = faulting_ip(crash);
    let access = access(crash);
    case.weigh_instruction(faulting_ip.as_ref(), access);
    case.weigh_address(access);
    case.weigh_arguments();
    case.weigh_frames();
    case.weigh_stack();
    let Case { mut leads, notes, .. } = case;
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
    let verdict = verdict(crash, culprit.as_ref());
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

struct Case<'c> {
    crash: &'c Crash,
    name: &'c dyn Fn(Va) -> String,
    nature: Nature,
    leads: Vec<Lead>,
    notes: Vec<String>,
}

impl Case<'_> {
    fn class(&self, module: usize) -> Class {
        self.crash.modules.get(module).map_or(Class::ThirdParty, |module| {
            if module.is_kernel { Class::Core } else { class(&module.image) }
        })
    }

    fn image(&self, module: usize) -> &str {
        self.crash.modules.get(module).map_or("?", |module| module.image.as_str())
    }

    fn show(&self, va: Va) -> String {
        va.show(self.crash.pointer_size).to_string()
    }

    fn blame(&mut self, weight: u8, confidence: Confidence, who: Who, at: Option<Va>, reason: String) {
        self.leads.push(Lead { weight, culprit: Culprit { who, confidence, at, reason } });
    }

    /// The unloaded driver that once was at an address.
    fn unloaded_at(&self, va: Va) -> Option<usize> {
        self.crash.unloaded.iter().position(|module| module.start <= va && va < module.end)
    }

    fn weigh_instruction(&mut self, ip: Option<&(Va, String)>, access: Option<(Access, Va)>) {
        let Some((ip, source)) = ip else { return };
        let ip = *ip;
        let Some(module) = self.crash.module_at(ip) else {
            if let Some(index) = self.unloaded_at(ip) {
                let who = self.crash.unloaded.get(index).map_or("?", |module| module.name.as_str());
                let text = format!(
                    "the faulting instruction {} ({source}) lies where {who} was before it was unloaded",
                    self.show(ip)
                );
                self.blame(100, Confidence::High, Who::Unloaded(index), Some(ip), text);
            } else {
                let text = format!(
                    "the faulting instruction {} ({source}) is in no module: a call or jump went astray",
                    self.show(ip)
                );
                self.notes.push(text);
            }
            return;
        };
        let (image, place) = (self.image(module).to_owned(), (self.name)(ip));
        let says = |rest: &str| format!("the faulting instruction {place} ({source}) is in {image}{rest}");
        match self.class(module) {
            Class::ThirdParty => {
                let text = says(", which is not part of Windows");
                self.blame(88, Confidence::High, Who::Loaded(module), Some(ip), text);
            }
            Class::Inbox => {
                let text = says(", a driver of Windows");
                self.blame(70, Confidence::Medium, Who::Loaded(module), Some(ip), text);
            }
            Class::Framework => {
                let text = says(", which runs on behalf of other drivers; their data may be what broke it");
                self.blame(30, Confidence::Low, Who::Loaded(module), Some(ip), text);
            }
            Class::Core => {
                let text = says(": the kernel is where the fault showed, rarely the cause");
                self.blame(10, Confidence::Low, Who::Loaded(module), Some(ip), text);
            }
        }
        let raised = self.crash.raised.as_ref().map(|raised| raised.exception.code);
        let stated = self.crash.argument(Role::Status).map(|(_, value)| value as u32);
        if self.class(module) != Class::ThirdParty && raised.or(stated) == Some(0xc000_001d) {
            self.notes.push(format!(
                "{image} holds no illegal instructions: the code in memory was changed, or the processor or RAM \
                 failed (overclocking, heat, faulty memory), or something jumped into the middle of an instruction"
            ));
        }
        if access.is_some_and(|(kind, va)| kind != Access::Execute && va == ip) {
            self.notes.push("the instruction's own address could not be read".to_owned());
        }
    }

    fn weigh_address(&mut self, access: Option<(Access, Va)>) {
        let Some((kind, va)) = access else { return };
        let (shown, word) = (self.show(va), kind.word());
        if let Some(index) = self.unloaded_at(va) {
            let who = self.crash.unloaded.get(index).map_or("?", |module| module.name.as_str());
            let text =
                format!("the address referenced, {shown}, lies where {who} was before it was unloaded");
            let strong = matches!(self.crash.bug_check.code(), 0xce | 0xd4 | 0x50 | 0xa | 0xd1 | 0x7e | 0x1e);
            let (weight, confidence) = if strong { (95, Confidence::High) } else { (65, Confidence::Medium) };
            self.blame(weight, confidence, Who::Unloaded(index), Some(va), text);
        }
        let small = va.0 < 0x1_0000;
        let wraps =
            if self.crash.pointer_size == 4 { va.0 >= 0xffff_f000 } else { va.0 >= 0xffff_ffff_ffff_0000 };
        if small || wraps {
            self.notes.push(format!(
                "the address to {word}, {shown}, is next to zero: a null pointer, or a small number used as one"
            ));
        } else if self.crash.machine == Machine::X64 && !matches!(va.0 >> 47, 0 | 0x1_ffff) {
            self.notes.push(format!(
                "the address to {word}, {shown}, is not canonical: the pointer holds something else, or is damaged"
            ));
        } else if let Some(module) = self.crash.module_at(va) {
            let text = format!("the address to {word} is in {}: {}", self.image(module), (self.name)(va));
            self.notes.push(text);
        }
    }

    /// Arguments that are places in modules, and drivers they lead to.
    fn weigh_arguments(&mut self) {
        for led in &self.crash.led {
            match led.module {
                Some(module) if self.class(module) >= Class::Inbox => {
                    let third = self.class(module) == Class::ThirdParty;
                    let confidence = if third { Confidence::Medium } else { Confidence::Low };
                    let weight = if third { 80 } else { 40 };
                    self.blame(weight, confidence, Who::Loaded(module), None, led.text.clone());
                }
                _ => self.notes.push(led.text.clone()),
            }
        }
        let roles = self.crash.roles();
        for (index, (&value, role)) in self.crash.bug_check.parameters.iter().zip(roles).enumerate() {
            let va = Va(value);
            if let Some(text) = self.crash.texts.get(index).and_then(Option::as_ref) {
                self.weigh_text(index, role, text);
            }
            if !matches!(role, Role::Code | Role::None) {
                continue;
            }
            let Some(module) = self.crash.module_at(va) else {
                if let Some(unloaded) = self.unloaded_at(va).filter(|_| role == Role::Code) {
                    let text = format!("Arg{} is a place in a driver that was unloaded", index + 1);
                    self.blame(97, Confidence::High, Who::Unloaded(unloaded), Some(va), text);
                }
                continue;
            };
            let class = self.class(module);
            let text = format!("Arg{} is a place in {}: {}", index + 1, self.image(module), (self.name)(va));
            match (role, class) {
                (Role::Code, Class::ThirdParty) => {
                    self.blame(90, Confidence::High, Who::Loaded(module), Some(va), text);
                }
                (Role::Code, Class::Inbox) => {
                    self.blame(72, Confidence::Medium, Who::Loaded(module), Some(va), text);
                }
                (Role::None, Class::ThirdParty) => {
                    self.blame(60, Confidence::Medium, Who::Loaded(module), Some(va), text);
                }
                (Role::Code, _) => self.notes.push(text),
                _ => {}
            }
        }
    }

    fn weigh_text(&mut self, index: usize, role: Role, text: &str) {
        if role != Role::DriverName {
            self.notes.push(format!("Arg{} points at the text \"{text}\"", index + 1));
            return;
        }
        let file = text.rsplit('\\').next().unwrap_or(text);
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        let named = self.crash.modules.iter().position(|module| {
            module.image.eq_ignore_ascii_case(file) || module.name.eq_ignore_ascii_case(stem)
        });
        let says = format!("Arg{} names the driver {text}", index + 1);
        match named {
            Some(module) => self.blame(85, Confidence::High, Who::Loaded(module), None, says),
            None => self.notes.push(says),
        }
    }

    /// Code that was interrupted by what crashed.
    fn weigh_frames(&mut self) {
        if self.nature != Nature::Direct {
            return;
        }
        for frame in self.crash.frames.iter().take(8) {
            let ip = frame.registers.ip;
            let Some(module) = self.crash.module_at(ip) else { continue };
            if self.class(module) == Class::ThirdParty {
                let text = format!(
                    "a trap frame on the stack ({}) says that {} was interrupted in {}",
                    self.show(frame.at),
                    self.image(module),
                    (self.name)(ip)
                );
                self.blame(55, Confidence::Medium, Who::Loaded(module), Some(ip), text);
            }
        }
    }

    /// The first module of each class on the stack.
    fn weigh_stack(&mut self) {
        if matches!(
            self.nature,
            Nature::Hardware | Nature::Requested | Nature::Elsewhere | Nature::ProcessEnded
        ) {
            return;
        }
        for wanted in [Class::ThirdParty, Class::Inbox, Class::Framework] {
            let stack = &self.crash.stack;
            let Some(depth) = stack.iter().position(|slot| self.class(slot.module) == wanted) else {
                continue;
            };
            let Some(slot) = stack.get(depth).cloned() else { continue };
            let near = depth < 10;
            let checked = if slot.checked { "follows a call" } else { "not checked against its code" };
            let image = self.image(slot.module).to_owned();
            let place = (self.name)(slot.value);
            let text = match wanted {
                Class::ThirdParty => format!(
                    "the first module on the stack that is not part of Windows is {image}: {place}, \
                     candidate {} ({checked})",
                    depth + 1
                ),
                _ => format!("{image} is on the stack: {place}, candidate {} ({checked})", depth + 1),
            };
            let (weight, confidence) = match wanted {
                Class::ThirdParty if self.nature == Nature::Corruption => (45, Confidence::Low),
                Class::ThirdParty if near || slot.checked => (50, Confidence::Medium),
                Class::ThirdParty => (45, Confidence::Low),
                Class::Inbox => (25, Confidence::Low),
                _ => (20, Confidence::Low),
            };
            self.blame(weight, confidence, Who::Loaded(slot.module), Some(slot.value), text);
        }
    }
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
        if !third || blamed == Some(Who::Loaded(slot.module)) {
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
fn verdict(crash: &Crash, culprit: Option<&Culprit>) -> String {
    let code = crash.bug_check.code();
    if let Some(culprit) = culprit {
        let who = image(crash, culprit.who);
        let gone = if matches!(culprit.who, Who::Unloaded(_)) { " (unloaded)" } else { "" };
        return match culprit.confidence {
            Confidence::High => format!("{who}{gone} caused it: the evidence is direct"),
            Confidence::Medium => format!("{who}{gone} is the most likely cause; see the evidence"),
            Confidence::Low => {
                format!("{who}{gone} is only where the trail ends; the cause may well be elsewhere")
            }
        };
    }
    match nature(code) {
        Nature::Requested => "nothing failed here: the crash or dump was asked for".to_owned(),
        Nature::Hardware => "unknown: the hardware reported it, no driver stands out".to_owned(),
        Nature::Elsewhere => {
            "unknown: the processor or thread that hangs is another one; hardware and firmware \
                              are possible too"
                .to_owned()
        }
        Nature::ProcessEnded => "unknown: a user-mode process ended; look at why, and at the disk".to_owned(),
        Nature::Corruption => {
            "unknown: memory was damaged before this code met it (driver or RAM)".to_owned()
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
