//! Weighing: each piece of evidence, what it points at and how much that counts. Pure.
//!
//! The weights order the evidence; where they come from is said in [`crate::findings`].

use crate::findings::{Access, Confidence, Culprit, Who};
use crate::model::{Crash, From};
use crate::roles::{Nature, Role, nature};
use crate::stack::{Candidate, caller};
use crate::windows::{Class, class};
use kd_sdk::address::Va;
use kd_sdk::target::Machine;

/// STATUS_ILLEGAL_INSTRUCTION.
const ILLEGAL_INSTRUCTION: u32 = 0xc000_001d;

/// A piece of evidence that points at a module; heavier ones win.
pub struct Lead {
    /// The heaviest wins.
    pub weight: u8,
    /// What it points at.
    pub culprit: Culprit,
}

/// The case as it is built up.
pub struct Case<'c> {
    crash: &'c Crash,
    name: &'c dyn Fn(Va) -> String,
    /// What kind of trouble it is.
    pub nature: Nature,
    /// Evidence that points at a module.
    pub leads: Vec<Lead>,
    /// Evidence that points at none.
    pub notes: Vec<String>,
}

impl<'c> Case<'c> {
    /// An empty case. `name` spells an address with its symbol or module.
    pub fn new(crash: &'c Crash, name: &'c dyn Fn(Va) -> String) -> Case<'c> {
        let hung = crash.context.as_ref().is_some_and(|context| matches!(context.from, From::Processor(_)));
        let nature = match nature(crash.bug_check.code()) {
            // The stack of the processor that hangs is in the dump: that one may be blamed.
            Nature::Elsewhere if hung => Nature::Direct,
            nature => nature,
        };
        Case { crash, name, nature, leads: Vec::new(), notes: Vec::new() }
    }

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

    /// The faulting instruction.
    pub fn weigh_instruction(&mut self, ip: Option<&(Va, String)>, access: Option<(Access, Va)>) {
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
        let raised = self.crash.raised.as_ref().map(|raised| raised.exception.code);
        let stated = self.crash.argument(Role::Status).map(|(_, value)| value as u32);
        if self.class(module) != Class::ThirdParty && raised.or(stated) == Some(ILLEGAL_INSTRUCTION) {
            self.nature = Nature::Hardware;
            self.notes.push(says(""));
            self.notes.push(format!(
                "{image} holds no illegal instructions: the code in memory was changed, or the processor or RAM \
                 failed (overclocking, heat, faulty memory), or something jumped into the middle of an instruction"
            ));
            return;
        }
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
        if access.is_some_and(|(kind, va)| kind != Access::Execute && va == ip) {
            self.notes.push("the instruction's own address could not be read".to_owned());
        }
    }

    /// The address it referenced.
    pub fn weigh_address(&mut self, access: Option<(Access, Va)>) {
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
        let narrow = self.crash.pointer_size == 4;
        let wraps = if narrow { va.0 >= 0xffff_f000 } else { va.0 >= 0xffff_ffff_ffff_0000 };
        if va.0 == u64::MAX && self.crash.machine == Machine::X64 {
            self.notes.push(format!(
                "the address to {word} is all ones: the processor gives none for a general protection fault, so the \
                 pointer was not canonical, or the memory behind it cannot be reached that way"
            ));
        } else if small || wraps {
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
    pub fn weigh_arguments(&mut self) {
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
        if role == Role::Process {
            self.notes.push(format!("Arg{} is the process {text}", index + 1));
            return;
        }
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

    /// Where the processor that hangs was last seen.
    pub fn weigh_hung_processor(&mut self) {
        let Some(context) = self.crash.context.as_ref() else { return };
        let From::Processor(_) = context.from else { return };
        let ip = context.registers.ip;
        let text = format!("the processor that hangs was last seen at {}", (self.name)(ip));
        match self.crash.module_at(ip) {
            Some(module) if self.class(module) >= Class::Inbox => {
                let third = self.class(module) == Class::ThirdParty;
                let (weight, confidence) =
                    if third { (75, Confidence::Medium) } else { (40, Confidence::Low) };
                self.blame(weight, confidence, Who::Loaded(module), Some(ip), text);
            }
            _ => self.notes.push(text),
        }
    }

    /// Code that was interrupted by what crashed.
    pub fn weigh_frames(&mut self) {
        if self.nature != Nature::Direct {
            return;
        }
        let known = self.crash.trap_frame.as_ref().and_then(|frame| frame.at);
        for frame in self.crash.frames.iter().take(8).filter(|frame| Some(frame.at) != known) {
            let ip = frame.registers.ip;
            let Some(module) = self.crash.module_at(ip) else { continue };
            let (at, image, place) = (self.show(frame.at), self.image(module).to_owned(), (self.name)(ip));
            let text = format!("a trap frame ({at}) says that {image} was interrupted at {place}");
            match self.class(module) {
                Class::ThirdParty => {
                    self.blame(55, Confidence::Medium, Who::Loaded(module), Some(ip), text);
                }
                _ if known.is_none() && frame.linked => self.notes.push(text),
                _ => {}
            }
        }
    }

    /// What the innermost caller says, or the word right at the stack pointer: who called the code that stopped or
    /// faulted.
    pub fn weigh_callers(&mut self) {
        let Some(context) = self.crash.context.as_ref() else { return };
        let Some(first) = self.crash.stack.first().cloned() else { return };
        let unwound = first.frame.is_some() && first.frame == caller(&self.crash.walked);
        if !unwound && (first.at != context.registers.sp || first.weak) {
            return;
        }
        let (module, class) = (first.module, self.class(first.module));
        let (place, image) = ((self.name)(first.value), self.image(module).to_owned());
        let who = Who::Loaded(module);
        let ip = context.registers.ip;
        let vendor = self.crash.bug_check.raw_code & 0x2000_0000 != 0;
        if vendor && class == Class::ThirdParty && !matches!(context.from, From::Argument(_)) {
            let text = format!("{image} stopped the machine itself, with a code of its own, from {place}");
            self.blame(96, Confidence::High, who, Some(first.value), text);
        } else if self.crash.module_at(ip).is_none() && self.nature == Nature::Direct {
            let text = format!("the call that went astray was made by {image} at {place}");
            let (weight, confidence) = match class {
                Class::ThirdParty => (86, Confidence::High),
                Class::Inbox => (68, Confidence::Medium),
                Class::Framework => (35, Confidence::Low),
                Class::Core => (12, Confidence::Low),
            };
            self.blame(weight, confidence, who, Some(first.value), text);
        } else if !unwound && class > Class::Core && matches!(context.from, From::Argument(_) | From::Stack) {
            self.notes
                .push(format!("the word at the stack pointer would be a return to {place}, in {image}"));
        }
        self.weigh_recursion();
    }

    /// The same return address again and again.
    pub fn weigh_recursion(&mut self) {
        let stack = &self.crash.stack;
        let count = |value: Va| stack.iter().filter(|slot| slot.value == value).count();
        let most =
            stack.iter().take(64).filter(|slot| !slot.weak).map(|slot| (count(slot.value), slot.value)).max();
        if let Some((times, value)) = most.filter(|&(times, _)| times >= 8) {
            let place = (self.name)(value);
            self.notes.push(format!(
                "{place} stands on the stack {times} times: it went round in a circle, such as a fault in the \
                 handling of faults"
            ));
        }
    }

    /// The first module of each class on the stack.
    pub fn weigh_stack(&mut self) {
        if matches!(
            self.nature,
            Nature::Hardware | Nature::Requested | Nature::Elsewhere | Nature::ProcessEnded
        ) {
            return;
        }
        let strong = |slot: &&Candidate| !slot.weak;
        let foreign = |slot: &Candidate| !slot.weak && self.class(slot.module) == Class::ThirdParty;
        let frames = self.crash.stack.iter().filter(|slot| slot.frame.is_some()).count();
        let words = self.crash.stack.iter().filter(strong).count() - frames;
        if self.crash.stack_starts.is_empty() && frames == 0 {
            self.notes.push("the stack is not captured, so nothing on it could be weighed".to_owned());
        } else if !self.crash.stack.iter().any(foreign) {
            let what = match (frames, words) {
                (0, words) => format!("{words} candidates"),
                (frames, 0) => format!("{frames} frames"),
                (frames, words) => format!("{frames} frames and {words} candidates"),
            };
            self.notes.push(format!("none of the {what} on the stack is outside Windows"));
        }
        for wanted in [Class::ThirdParty, Class::Inbox, Class::Framework] {
            let stack = &self.crash.stack;
            let fits = |slot: &Candidate| !slot.weak && self.class(slot.module) == wanted;
            let Some(depth) = stack.iter().position(fits) else { continue };
            let Some(slot) = stack.get(depth).cloned() else { continue };
            let near = depth < 10;
            let rank = match slot {
                Candidate { frame: Some(number), .. } => format!("frame {number}"),
                Candidate { checked: true, .. } => {
                    format!("candidate {} (follows a call)", depth + 1 - frames)
                }
                _ => format!("candidate {} (not checked against its code)", depth + 1 - frames),
            };
            let image = self.image(slot.module).to_owned();
            let place = (self.name)(slot.value);
            let text = match wanted {
                Class::ThirdParty => format!(
                    "the first module on the stack that is not part of Windows is {image}: {place}, {rank}"
                ),
                _ => format!("{image} is on the stack: {place}, {rank}"),
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
