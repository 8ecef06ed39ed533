//! Interrupted anywhere: every function of the built images is run instruction by instruction, along every branch, and
//! at each of them the unwinder must give back what the function was entered with. Prologues, epilogues, frames with
//! and without pointer, dynamic ones, parts, signed return addresses: whatever the images hold.
//!
//! The runner knows what instructions do to the stack and to registers that calls preserve, nothing of unwind data.

use super::stories::session;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use kd::target::Registers;
use kd::target::unwind::frame_data::FrameData;
use kd::target::unwind::{self, CodeView, ModuleRange, Origin};
use kd_sdk::address::Va;
use kd_tests::lab::image::Image;
use kd_tests::lab::layout::{GENERATIONS, Generation, Machine};
use kd_tests::lab::world::{Options, Story, World};
use kd_tests::lab::writer::{self, Kind};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of the stack that a function may use.
const ROOM: u64 = 0x9_0000;
/// What a function takes from its frame at run time, in place of a size that the runner does not know.
const DYNAMIC: u64 = 0x60;
/// Labels inside functions.
const INSIDE: [&str; 4] =
    ["KiSystemServiceUser", "KiSystemServiceCopyEnd", "KiSystemServicePostCall", "KiFastSystemCallRet"];
/// Entered by a trap, and whether the processor of x64 pushes an error code.
const TRAPS: [(&str, bool); 4] =
    [("KiPageFault", true), ("KiDpcInterrupt", false), ("KiSystemCall64", false), ("KiKernelFault", false)];

/// The machine of the runner: registers by the processor's numbers (31 is the stack pointer of arm64), `None` for what
/// it does not know; and a stack of its own.
#[derive(Clone)]
struct Cpu {
    machine: Machine,
    registers: [Option<u64>; 32],
    stack: Vec<u8>,
    base: u64,
}

impl Cpu {
    fn sp_number(&self) -> usize {
        if self.machine == Machine::Arm64 { 31 } else { 4 }
    }

    fn sp(&self) -> u64 {
        self.registers[self.sp_number()].unwrap_or(0)
    }

    fn move_sp(&mut self, distance: i64) {
        self.registers[self.sp_number()] = Some(self.sp().wrapping_add_signed(distance));
    }

    fn size(&self) -> u64 {
        self.machine.pointer_size() as u64
    }

    fn place(&self, at: u64, size: u64) -> Option<std::ops::Range<usize>> {
        let start = at.checked_sub(self.base)? as usize;
        (start + size as usize <= self.stack.len()).then_some(start..start + size as usize)
    }

    fn write(&mut self, at: u64, value: Option<u64>) {
        let size = self.size();
        if let Some(place) = self.place(at, size) {
            let bytes = value.unwrap_or(0xdead_dead).to_le_bytes();
            self.stack[place].copy_from_slice(&bytes[..size as usize]);
        }
    }

    fn read(&self, at: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        let size = self.size();
        bytes[..size as usize].copy_from_slice(&self.stack[self.place(at, size)?]);
        Some(u64::from_le_bytes(bytes))
    }

    fn push(&mut self, value: Option<u64>) {
        self.move_sp(-(self.size() as i64));
        self.write(self.sp(), value);
    }

    fn pop(&mut self) -> Option<u64> {
        let value = self.read(self.sp());
        self.move_sp(self.size() as i64);
        value
    }
}

/// Where control goes from an instruction.
#[derive(Default)]
struct Next {
    to: Vec<u64>,
}

/// What x86 functions that `address` leads to take from the stack when they return.
fn taken_by(image: &Image, address: u64) -> Option<u64> {
    let rva = address.checked_sub(image.base)? as usize;
    let code = image.bytes.get(rva..)?;
    let all = Decoder::with_ip(32, code, address, DecoderOptions::NONE).into_iter().take(400);
    let end = all.into_iter().find(|i| i.flow_control() == FlowControl::Return)?;
    Some(if end.op_count() == 1 { end.immediate(0) } else { 0 })
}

fn number(register: Register) -> Option<usize> {
    (register.is_gpr64() || register.is_gpr32()).then(|| register.number())
}

/// Does one instruction of x86 or x64.
fn run_intel(cpu: &mut Cpu, image: &Image, i: &Instruction, following: Option<&Instruction>) -> Next {
    let go_on = Next { to: vec![i.next_ip()] };
    let memory = |cpu: &Cpu| -> Option<u64> {
        let base = number(i.memory_base())?;
        if i.memory_index() != Register::None || !matches!(base, 4 | 5) {
            return None;
        }
        let mask = if cpu.machine == Machine::X86 { 0xffff_ffff } else { u64::MAX };
        Some(cpu.registers[base]?.wrapping_add(i.memory_displacement64()) & mask)
    };
    match i.flow_control() {
        FlowControl::Return | FlowControl::Interrupt | FlowControl::Exception => return Next::default(),
        FlowControl::UnconditionalBranch => return Next { to: vec![i.near_branch_target()] },
        FlowControl::ConditionalBranch => return Next { to: vec![i.next_ip(), i.near_branch_target()] },
        FlowControl::IndirectBranch => return Next::default(),
        FlowControl::Call | FlowControl::IndirectCall => {
            if cpu.machine == Machine::X86 {
                let direct = (i.flow_control() == FlowControl::Call)
                    .then(|| taken_by(image, i.near_branch_target()))
                    .flatten();
                // Of a call through a pointer, the compiler tells by making the room anew.
                let again = following
                    .filter(|f| f.mnemonic() == Mnemonic::Sub && f.op0_register() == Register::ESP)
                    .map(|f| f.immediate(1));
                cpu.move_sp(direct.or(again).unwrap_or(0) as i64);
            }
            for volatile in
                if cpu.machine == Machine::X86 { &[0, 1, 2][..] } else { &[0, 1, 2, 8, 9, 10, 11] }
            {
                cpu.registers[*volatile] = None;
            }
            return go_on;
        }
        _ => {}
    }
    let op0 =
        (i.op_count() > 0 && i.op0_kind() == OpKind::Register).then(|| number(i.op0_register())).flatten();
    let op1 =
        (i.op_count() > 1 && i.op1_kind() == OpKind::Register).then(|| number(i.op1_register())).flatten();
    match i.mnemonic() {
        Mnemonic::Push => {
            let value = if i.op0_kind() == OpKind::Register {
                op0.and_then(|r| cpu.registers[r])
            } else {
                i.try_immediate(0).ok()
            };
            cpu.push(value);
        }
        Mnemonic::Pop => {
            let value = cpu.pop();
            if let Some(register) = op0 {
                cpu.registers[register] = value;
            }
        }
        Mnemonic::Leave => {
            cpu.registers[4] = cpu.registers[5];
            cpu.registers[5] = cpu.pop();
        }
        Mnemonic::Sub | Mnemonic::Add | Mnemonic::And if op0 == Some(4) => {
            match (i.mnemonic(), i.try_immediate(1)) {
                (Mnemonic::Sub, Ok(size)) => cpu.move_sp(-(size as i64)),
                (Mnemonic::Add, Ok(size)) => cpu.move_sp(size as i64),
                (Mnemonic::And, Ok(mask)) => cpu.registers[4] = Some(cpu.sp() & mask),
                _ => cpu.move_sp(-(DYNAMIC as i64)),
            }
        }
        Mnemonic::Lea if op0.is_some() => cpu.registers[op0.unwrap_or(0)] = memory(cpu),
        Mnemonic::Mov if op0 == Some(4) && op1.is_none() => return Next::default(), // another stack
        Mnemonic::Mov if op0 == Some(4) => match cpu.registers[op1.unwrap_or(0)] {
            Some(value) => cpu.registers[4] = Some(value),
            None => cpu.move_sp(-(DYNAMIC as i64)),
        },
        Mnemonic::Mov if op0.is_some() && op1.is_some() => {
            cpu.registers[op0.unwrap_or(0)] = cpu.registers[op1.unwrap_or(0)];
        }
        Mnemonic::Mov if i.op0_kind() == OpKind::Memory => {
            let wide = i.memory_size().size() as u64 == cpu.size();
            if let Some(at) = memory(cpu).filter(|_| wide) {
                let value = op1.and_then(|r| cpu.registers[r]);
                cpu.write(at, value);
            }
        }
        Mnemonic::Mov if op0.is_some() && i.op1_kind() == OpKind::Memory => {
            cpu.registers[op0.unwrap_or(0)] = memory(cpu).and_then(|at| cpu.read(at));
        }
        Mnemonic::Cmp | Mnemonic::Test => {}
        _ => {
            if i.op_count() > 0 && i.op0_kind() == OpKind::Register {
                let full = i.op0_register().full_register();
                if full.is_gpr() {
                    cpu.registers[full.number()] = None;
                }
            }
        }
    }
    go_on
}

/// What signing changes in a return address: anything but bit 55.
const SIGNATURE: u64 = 0x2a15 << 48;

/// Does one instruction of arm64.
fn run_arm(cpu: &mut Cpu, at: u64, word: u32) -> Next {
    let go_on = Next { to: vec![at + 4] };
    let [rd, rn, rt2] = [0, 5, 10].map(|low| (word >> low & 31) as usize);
    let branch = |low: u32, bits: u32| {
        at.wrapping_add_signed((i64::from(word >> low) << (64 - bits) >> (64 - bits)) * 4)
    };
    match word {
        _ if word & 0xfc00_0000 == 0x1400_0000 => return Next { to: vec![branch(0, 26)] },
        _ if word & 0xfc00_0000 == 0x9400_0000 || word & 0xffff_fc1f == 0xd63f_0000 => {
            (0..18).for_each(|n| cpu.registers[n] = None);
            cpu.registers[30] = Some(at + 4);
            return go_on;
        }
        _ if word & 0xff00_0010 == 0x5400_0000 || word & 0x7e00_0000 == 0x3400_0000 => {
            return Next { to: vec![at + 4, branch(5, 19)] };
        }
        _ if word & 0x7e00_0000 == 0x3600_0000 => return Next { to: vec![at + 4, branch(5, 14)] },
        _ if word & 0xfe00_0000 == 0xd600_0000 || word & 0xffe0_0000 == 0xd420_0000 => {
            return Next::default();
        }
        0xd503_237f | 0xd503_23ff => {
            cpu.registers[30] = cpu.registers[30].map(|lr| lr ^ SIGNATURE);
            return go_on;
        }
        _ => {}
    }
    // Loads and stores of pairs and single registers.
    let pair = word & 0x3a00_0000 == 0x2800_0000;
    let single = word & 0x3a00_0000 == 0x3800_0000;
    if pair || single {
        let vector = word & 1 << 26 != 0;
        let load = word & 1 << 22 != 0;
        let full = if pair { word >> 30 == 2 || vector && word >> 30 == 1 } else { word >> 30 == 3 };
        let (distance, moves, after) = if pair {
            let scale = if vector { 4 << (word >> 30) } else { 8 };
            let distance = i64::from((word as i32) << 10 >> 25) * scale;
            (distance, word & 1 << 23 != 0, word >> 23 & 3 == 1)
        } else if word & 1 << 24 != 0 {
            (i64::from(word >> 10 & 0xfff) * 8, false, false)
        } else {
            (i64::from((word as i32) << 11 >> 23), word & 1 << 10 != 0, word >> 10 & 3 == 1)
        };
        // Of pairs: 1 after, 2 plain, 3 before.
        let moves = moves && !(pair && word >> 23 & 3 == 2);
        let base = cpu.registers[rn];
        let place = base.map(|b| if after { b } else { b.wrapping_add_signed(distance) });
        let registers: &[usize] = if pair { &[rd, rt2] } else { &[rd] };
        if full && !vector && matches!(rn, 29 | 31) {
            for (index, &register) in registers.iter().enumerate() {
                let at = place.map(|p| p + 8 * index as u64);
                match (load, at) {
                    (true, at) => cpu.registers[register] = at.and_then(|at| cpu.read(at)),
                    (false, Some(at)) => cpu.write(at, cpu.registers[register].filter(|_| register != 31)),
                    (false, None) => {}
                }
            }
        } else if load && !vector {
            registers.iter().for_each(|&r| cpu.registers[r] = None);
        }
        if moves {
            cpu.registers[rn] = base.map(|b| b.wrapping_add_signed(distance));
        }
        return go_on;
    }
    let immediate = |word: u32| u64::from(word >> 10 & 0xfff) << (12 * (word >> 22 & 1));
    match word {
        _ if word & 0xff80_0000 == 0x9100_0000 => {
            // Out of a register that is not known: room of a size that is not known, or another stack.
            let value = cpu.registers[rn].map(|n| n.wrapping_add(immediate(word)));
            if rd == 31 && value.is_none() {
                if rn > 8 {
                    return Next::default();
                }
                cpu.move_sp(-(DYNAMIC as i64));
            } else {
                cpu.registers[rd] = value;
            }
        }
        _ if word & 0xff80_0000 == 0xd100_0000 => {
            cpu.registers[rd] = cpu.registers[rn].map(|n| n.wrapping_sub(immediate(word)));
        }
        _ if word & 0xffe0_ffff == 0xcb20_63ff || word & 0xffe0_e3ff == 0xcb20_63ff => {
            cpu.move_sp(-(DYNAMIC as i64))
        }
        _ if word & 0xffe0_ffe0 == 0xaa00_03e0 => {
            cpu.registers[rd] = cpu.registers[(word >> 16 & 31) as usize].filter(|_| word >> 16 & 31 != 31);
        }
        // Compares and hints write no register.
        _ if rd == 31 => {}
        _ if word & 0xffff_f01f == 0xd503_201f => {}
        _ => cpu.registers[rd] = None,
    }
    go_on
}

/// The dump's code with the runner's stack in front of its memory.
struct Running<'a> {
    inner: &'a dyn CodeView,
    cpu: &'a Cpu,
}

impl CodeView for Running<'_> {
    fn machine(&self) -> kd::dump::Machine {
        self.inner.machine()
    }
    fn read(&self, va: Va, into: &mut [u8]) -> bool {
        match self.cpu.place(va.0, into.len() as u64) {
            Some(place) => {
                into.copy_from_slice(&self.cpu.stack[place]);
                true
            }
            None => self.inner.read(va, into),
        }
    }
    fn module_at(&self, va: Va) -> Option<ModuleRange> {
        self.inner.module_at(va)
    }
    fn read_image(&self, module: &ModuleRange, rva: u32, into: &mut [u8]) -> Option<Origin> {
        self.inner.read_image(module, rva, into)
    }
    fn frame_data(&self, va: Va) -> Option<FrameData> {
        self.inner.frame_data(va)
    }
    fn function_start(&self, va: Va) -> Option<Va> {
        self.inner.function_start(va)
    }
}

/// Registers that calls preserve: names and the processor's numbers.
fn preserved(machine: Machine) -> Vec<(String, usize)> {
    let named = |list: &[(&str, usize)]| list.iter().map(|&(name, n)| (name.to_owned(), n)).collect();
    match machine {
        Machine::X64 => named(&[
            ("rbx", 3),
            ("rbp", 5),
            ("rsi", 6),
            ("rdi", 7),
            ("r12", 12),
            ("r13", 13),
            ("r14", 14),
            ("r15", 15),
        ]),
        Machine::X86 => named(&[("ebp", 5)]),
        Machine::Arm64 => (19..29).map(|n| (format!("x{n}"), n)).chain([("fp".to_owned(), 29)]).collect(),
    }
}

fn registers(cpu: &Cpu, ip: u64) -> Registers {
    let machine = match cpu.machine {
        Machine::X64 => kd::dump::Machine::X64,
        Machine::X86 => kd::dump::Machine::X86,
        Machine::Arm64 => kd::dump::Machine::Arm64,
    };
    let mut registers = Registers::zeroed(machine);
    let names: Vec<(String, usize)> = match cpu.machine {
        Machine::X64 => ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"]
            .iter()
            .enumerate()
            .map(|(n, name)| ((*name).to_owned(), n))
            .chain((8..16).map(|n| (format!("r{n}"), n)))
            .chain([("rip".to_owned(), 99)])
            .collect(),
        Machine::X86 => ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"]
            .iter()
            .enumerate()
            .map(|(n, name)| ((*name).to_owned(), n))
            .chain([("eip".to_owned(), 99)])
            .collect(),
        Machine::Arm64 => (0..29)
            .map(|n| (format!("x{n}"), n))
            .chain([
                ("fp".to_owned(), 29),
                ("lr".to_owned(), 30),
                ("sp".to_owned(), 31),
                ("pc".to_owned(), 99),
            ])
            .collect(),
    };
    for (name, n) in names {
        let value = if n == 99 { Some(ip) } else { cpu.registers[n] };
        assert!(registers.set(&name, value.unwrap_or(0xdead_0000 + n as u64)), "{name}");
    }
    registers
}

/// How a function is entered, and what must be found again.
struct Entry {
    cpu: Cpu,
    ip: u64,
    sp: u64,
}

fn entry(g: &Generation, name: &str, back: u64) -> Entry {
    let machine = g.machine;
    let base = if machine == Machine::X86 { 0x9f00_0000 } else { 0xffff_fb88_7f00_0000 };
    let mut cpu = Cpu { machine, registers: [None; 32], stack: vec![0xee; ROOM as usize + 0x1000], base };
    let top = base + ROOM;
    for n in 0..32 {
        cpu.registers[n] = Some(0xb000 + n as u64 * 0x10);
    }
    let sp = cpu.sp_number();
    cpu.registers[sp] = Some(top);
    // The frame pointer is that of a caller.
    let fp = if machine == Machine::Arm64 { 29 } else { 5 };
    cpu.registers[fp] = Some(top + 0x40);
    let trap = TRAPS.iter().find(|t| t.0 == name).filter(|_| machine != Machine::X86);
    let trap = trap.or((machine == Machine::Arm64 && name == "KiSystemService").then_some(&TRAPS[1]));
    let caller_sp = match (machine, trap) {
        (Machine::X64, Some(&(_, error_code))) => {
            for value in [0x18, top, 0x246, 0x10, back] {
                cpu.push(Some(value));
            }
            if error_code {
                cpu.push(Some(2));
            }
            top
        }
        (Machine::Arm64, Some(_)) => {
            cpu.move_sp(-0x150);
            let at = cpu.sp();
            for (offset, value) in
                [(0x98, Some(top)), (0x138, Some(0)), (0x140, cpu.registers[29]), (0x148, Some(back))]
            {
                cpu.write(at + offset, value);
            }
            top
        }
        (Machine::Arm64, None) => {
            cpu.registers[30] = Some(back);
            top
        }
        _ => {
            cpu.push(Some(back));
            top
        }
    };
    Entry { cpu, ip: back, sp: caller_sp }
}

/// Runs one function; the places that were compared, and what was wrong.
fn run(
    g: &Generation,
    code: &dyn CodeView,
    image: &Image,
    name: &str,
    range: (u64, u64),
    back: u64,
) -> (usize, Vec<String>) {
    let entry = entry(g, name, back);
    let taken = if g.machine == Machine::X86 { taken_by(image, range.0).unwrap_or(0) } else { 0 };
    let mut work = vec![(range.0, entry.cpu.clone())];
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    while let Some((ip, mut cpu)) = work.pop() {
        if !(range.0..range.1).contains(&ip) || !seen.insert(ip) {
            continue;
        }
        let bytes = &image.bytes[(ip - image.base) as usize..];
        let frames = unwind::walk(&Running { inner: code, cpu: &cpu }, registers(&cpu, ip), 2);
        let told = match frames.get(1) {
            None => Some(format!("no caller: {:?}", frames[0].missing)),
            // Returning, functions of x86 take their arguments along; frame data tell that, frame pointers do not.
            Some(f) if f.ip.0 != entry.ip || f.sp.0 != entry.sp && f.sp.0 != entry.sp + taken => {
                Some(format!("{} {} {:?}, not {:#x} {:#x}", f.ip, f.sp, f.source, entry.ip, entry.sp))
            }
            Some(f) => preserved(g.machine).into_iter().find_map(|(register, n)| {
                let (found, wanted) = (f.registers.get(&register), entry.cpu.registers[n]);
                (found != wanted)
                    .then(|| format!("{register} is {found:x?}, not {wanted:x?} ({:?})", f.source))
            }),
        };
        if let Some(told) = told {
            wrong.push(format!("{} {name}+{:#x}: {told}", g.name, ip - range.0));
        }
        let next = if g.machine == Machine::Arm64 {
            run_arm(&mut cpu, ip, u32::from_le_bytes(bytes[..4].try_into().unwrap()))
        } else {
            let bits = if g.machine == Machine::X64 { 64 } else { 32 };
            let mut decoder = Decoder::with_ip(bits, bytes, ip, DecoderOptions::NONE);
            let now = decoder.decode();
            run_intel(&mut cpu, image, &now, Some(&decoder.decode()))
        };
        for to in next.to {
            work.push((to, cpu.clone()));
        }
    }
    (seen.len(), wrong)
}

#[test]
fn functions_are_unwound_from_every_instruction() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    let mut wrong = Vec::new();
    let mut compared = BTreeMap::new();
    for g in GENERATIONS.iter().filter(|g| ["x86-7601", "x64-22000", "arm64-22000"].contains(&g.name)) {
        let world = World::build(Options::of(g.name, Story::CrashInDriver));
        writer::write(&world, Kind::Full, &path).unwrap();
        let store = folder.path().join(g.name);
        world.write_symbols(&store).unwrap();
        let session = session(&path, &store);
        // Somewhere behind a call.
        let idle = world.threads[0].stack.last().unwrap().pc;
        let scope = session.scope(None).unwrap();
        for image in world.images.iter().chain(&world.user_images) {
            let user = image.base < g.system_start().0;
            let back = if user { world.crash.stack.last().unwrap().pc } else { idle };
            for section in image.sections.iter().filter(|s| [".text", "PAGE"].contains(&s.name.as_str())) {
                let mut symbols: Vec<_> = image
                    .symbols
                    .iter()
                    .filter(|s| (section.rva..section.rva + section.size).contains(&s.rva))
                    .filter(|s| !INSIDE.contains(&s.name.as_str()))
                    .collect();
                symbols.sort_by_key(|s| s.rva);
                for (index, symbol) in symbols.iter().enumerate() {
                    let end = symbols.get(index + 1).map_or(section.rva + section.size, |s| s.rva);
                    let range = (image.base + u64::from(symbol.rva), image.base + u64::from(end));
                    // Trap handlers of x86 make their frame by hand; `__chkstk` exchanges stack pointers.
                    let by_hand = ["KiTrap0E", "KiDpcInterrupt", "KiFastCallEntry", "_chkstk", "__chkstk"];
                    if g.machine == Machine::X86 && by_hand.contains(&symbol.name.as_str())
                        || end == symbol.rva
                    {
                        continue;
                    }
                    let (places, told) =
                        scope.with_code(|code| run(g, code, image, &symbol.name, range, back)).unwrap();
                    *compared.entry(g.name).or_insert(0) += places;
                    wrong.extend(told);
                }
            }
        }
    }
    println!("instructions compared: {compared:?}");
    assert!(compared.len() == 3 && compared.values().all(|&n| n > 1000), "{compared:?}");
    assert!(wrong.is_empty(), "{} of {compared:?}:\n{}", wrong.len(), wrong.join("\n"));
}
