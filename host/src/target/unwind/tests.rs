//! Unwinding as a whole: of code made here, and of bytes that are not unwind data at all.

use super::arm64_codes::{self, Op};
use super::tables::{ModuleBytes, Tables, find_entry};
use super::*;
use crate::image::{Directory, ImageBytes};
use proptest::prelude::*;
use std::collections::BTreeMap;

const BASE: u64 = 0xffff_f800_1000_0000;
const STACK: u64 = 0xffff_9000_0000_1000;

/// A machine with one module and one stack, any part of which may be missing.
struct Machine1 {
    machine: Machine,
    image: Vec<u8>,
    memory: BTreeMap<u64, Vec<u8>>,
}

impl CodeView for Machine1 {
    fn machine(&self) -> Machine {
        self.machine
    }

    fn read(&self, va: Va, into: &mut [u8]) -> bool {
        let Some((start, bytes)) = self.memory.range(..=va.0).next_back() else { return false };
        let Some(from) = bytes.get((va.0 - start) as usize..).and_then(|rest| rest.get(..into.len())) else {
            return false;
        };
        into.copy_from_slice(from);
        true
    }

    fn module_at(&self, va: Va) -> Option<ModuleRange> {
        let size = self.image.len() as u64;
        (va.0.wrapping_sub(BASE) < size).then_some(ModuleRange { base: Va(BASE), size, index: 0 })
    }

    fn read_image(&self, _: &ModuleRange, rva: u32, into: &mut [u8]) -> Option<Origin> {
        let from = self.image.get(rva as usize..)?.get(..into.len())?;
        into.copy_from_slice(from);
        Some(Origin::Dump)
    }
}

/// Headers with one code section over everything and a function table at 0x800.
fn image(machine: u16, table: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 0x4000];
    let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
    put(0, b"MZ");
    put(0x3c, &0x40u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x44, &machine.to_le_bytes());
    put(0x46, &1u16.to_le_bytes());
    put(0x54, &0xf0u16.to_le_bytes());
    put(0x58, &0x20bu16.to_le_bytes());
    put(0x58 + 56, &0x4000u32.to_le_bytes());
    put(0x58 + 108, &16u32.to_le_bytes());
    put(0x58 + 112 + 24, &0x800u32.to_le_bytes());
    put(0x58 + 112 + 28, &(table.len() as u32).to_le_bytes());
    for (at, value) in [(8, 0x3c00u32), (12, 0x400), (16, 0x3c00), (20, 0x400), (36, 0x6000_0020)] {
        put(0x148 + at, &value.to_le_bytes());
    }
    put(0x800, table);
    put(0x900, data);
    bytes
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn x64(info: &[u8], stack: &[u64]) -> Machine1 {
    let table: Vec<u8> =
        [0x1000u32, 0x1100, 0x900, 0x1100, 0x1200, 0x980].iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut data = info.to_vec();
    data.resize(0x80, 0);
    // The second function has no codes.
    data.extend([1, 0, 0, 0]);
    let image = image(0x8664, &table, &data);
    Machine1 { machine: Machine::X64, image, memory: [(STACK, words(stack))].into() }
}

fn registers(machine: Machine, values: &[(&str, u64)]) -> Registers {
    let mut registers = Registers::zeroed(machine);
    for (name, value) in values {
        assert!(registers.set(name, *value), "{name}");
    }
    registers
}

/// push rbx; sub rsp, 20h: the caller from every point of the prologue and of the epilogue.
#[test]
fn x64_prologue_body_and_epilogue_agree() {
    // 1: push rbx (2 bytes), 2: sub rsp,20h (4 bytes); codes in reverse.
    let info = [1, 6, 2, 0, 6, 0x32, 2, 0x30];
    let stack = [0; 4].into_iter().chain([0x1111, BASE + 0x1150, 0, 0]).collect::<Vec<_>>();
    let mut world = x64(&info, &stack);
    let code = [0x40, 0x53, 0x48, 0x83, 0xec, 0x20, 0x90, 0x90, 0x48, 0x83, 0xc4, 0x20, 0x5b, 0xc3];
    world.image[0x1000..0x1000 + code.len()].copy_from_slice(&code);
    let body = STACK;
    for (offset, sp, rbx) in [
        (0u64, body + 0x28, 0x1111),
        (2, body + 0x20, 0),
        (6, body, 0),
        (7, body, 0),
        (8, body, 0),
        (12, body + 0x20, 0),
        (13, body + 0x28, 0x1111),
    ] {
        let start = registers(Machine::X64, &[("rip", BASE + 0x1000 + offset), ("rsp", sp), ("rbx", rbx)]);
        let frames = walk(&world, start, 2);
        assert_eq!(frames.len(), 2, "at {offset}");
        assert_eq!((frames[1].ip.0, frames[1].sp.0), (BASE + 0x1150, body + 0x30), "at {offset}");
        assert_eq!(frames[1].registers.get("rbx"), Some(0x1111), "at {offset}");
        assert_eq!(frames[1].source, FrameSource::Unwind(Origin::Dump), "at {offset}");
    }
}

/// push rbp; sub rsp, 40h; lea rbp, [rsp+20h]; a dynamic allocation later, a register saved in the frame.
#[test]
fn x64_frame_register_and_saved_registers() {
    let info = [1, 12, 5, 0x25, 12, 0x64, 6, 0, 9, 0x03, 5, 0x72, 1, 0x50, 0, 0];
    // frame base at STACK+0x100: saved rsi at +0x30, rbp at +0x40, return address at +0x48.
    let mut stack = vec![0u64; 64];
    stack[(0x130) / 8] = 0x51;
    stack[(0x140) / 8] = 0xb9;
    stack[(0x148) / 8] = BASE + 0x1110;
    let world = x64(&info, &stack);
    let start = registers(Machine::X64, &[("rip", BASE + 0x1080), ("rsp", STACK), ("rbp", STACK + 0x120)]);
    let frames = walk(&world, start, 2);
    let caller = &frames[1];
    assert_eq!((caller.ip.0, caller.sp.0), (BASE + 0x1110, STACK + 0x150));
    assert_eq!((caller.registers.get("rsi"), caller.registers.get("rbp")), (Some(0x51), Some(0xb9)));
}

/// A fragment that continues another function, a machine frame with an error code, and a function without an entry.
#[test]
fn x64_chains_machine_frames_and_leaves() {
    // The fragment saves nothing itself; its parent allocates 0x20.
    let mut info = vec![0x21, 0, 0, 0];
    info.extend([0x1000u32, 0x1100, 0x910].iter().flat_map(|v| v.to_le_bytes()));
    info.extend([1, 4, 1, 0, 4, 0x32, 0, 0]);
    let mut stack = vec![0u64; 16];
    stack[4] = BASE + 0x1110;
    let world = x64(&info, &stack);
    let start = registers(Machine::X64, &[("rip", BASE + 0x1050), ("rsp", STACK)]);
    assert_eq!(walk(&world, start, 2)[1].sp.0, STACK + 0x28);

    let info = [1, 4, 2, 0, 4, 0x12, 0, 0x1a];
    let stack = [0, 0, 0xe, BASE + 0x1140, 0x10, 0x246, STACK + 0x60, 0x18, 0, 0, 0, 0, 0];
    let world = x64(&info, &stack);
    let start = registers(Machine::X64, &[("rip", BASE + 0x1050), ("rsp", STACK)]);
    let frames = walk(&world, start, 3);
    assert_eq!((frames[1].ip.0, frames[1].sp.0), (BASE + 0x1140, STACK + 0x60));
    assert_eq!((frames[1].source, frames[1].exact), (FrameSource::Trap, true));

    let world = x64(&[1, 0, 0, 0], &[BASE + 0x1110, 0]);
    let start = registers(Machine::X64, &[("rip", BASE + 0x1300), ("rsp", STACK)]);
    let frames = walk(&world, start, 2);
    assert_eq!((frames[1].ip.0, frames[1].source), (BASE + 0x1110, FrameSource::Leaf));
}

#[test]
fn without_unwind_data_the_stack_is_searched() {
    let mut world =
        x64(&[1, 0, 0, 0], &[7, BASE + 0x10, BASE + 0x1205, BASE + 0x1105, 0, BASE + 0x1205, 0, 0]);
    // No function table; the first is no code, the second not where calls put addresses, before the third is no call.
    world.image[0x58 + 112 + 24..0x58 + 112 + 32].fill(0);
    world.image[0x1200] = 0xe8;
    let start = registers(Machine::X64, &[("rip", BASE + 0x1300), ("rsp", STACK)]);
    let frames = walk(&world, start, 8);
    assert_eq!(frames.len(), 2);
    assert_eq!((frames[1].ip.0, frames[1].source), (BASE + 0x1205, FrameSource::Scan));
    assert_eq!(frames[0].missing, Some(Missing::Table));
    assert!(!frames[1].source.is_certain());
}

/// The packed examples of Microsoft's document, and what undoing them gives.
#[test]
fn arm64_packed_words() {
    let bytes = NoBytes;
    // RegI 2, CR 3, a frame of 0x30: stp x29,lr,[sp,#-0x20]! after stp x19,x20,[sp,#-0x10]!
    let word = 1 | 16 << 2 | 2 << 16 | 3 << 21 | 3 << 23;
    let unwind = arm64_codes::read(&bytes, word).unwrap();
    assert_eq!(unwind.length, 64);
    assert_eq!(
        unwind.prologue,
        [
            Op::SetFp,
            Op::Save { first: 29, second: Some(30), offset: 0, before: 0x20 },
            Op::Save { first: 19, second: Some(20), offset: 0, before: 0x10 },
            Op::End
        ]
    );
    assert_eq!(unwind.epilogues[0].0, 64 - 12);
    // RegI 3, CR 1: the third register shares its store with lr.
    let word = 1 | 16 << 2 | 3 << 16 | 1 << 21 | 4 << 23;
    let unwind = arm64_codes::read(&bytes, word).unwrap();
    assert_eq!(
        unwind.prologue,
        [
            Op::Allocate(0x20),
            Op::Save { first: 21, second: Some(30), offset: 16, before: 0 },
            Op::Save { first: 19, second: Some(20), offset: 0, before: 0x20 },
            Op::End
        ]
    );
    assert!(arm64_codes::read(&bytes, 3).is_err());
}

struct NoBytes;

impl ImageBytes for NoBytes {
    fn read(&self, _: u32, _: &mut [u8]) -> bool {
        false
    }
}

/// A full record with an epilogue scope: every point of the function leads to the same caller.
#[test]
fn arm64_full_records() {
    // stp x19,x20,[sp,#-0x20]!; stp fp,lr,[sp,#0x10]; mov fp,sp(+0x10 as add); body; the mirror; ret
    let head: u32 = 16 | 1 << 22 | 2 << 27;
    let scope: u32 = 8 | 4 << 22;
    let mut data = Vec::new();
    data.extend(head.to_le_bytes());
    data.extend(scope.to_le_bytes());
    // prologue codes: add_fp 2*8, save_fplr 0x10, save_regp_x x19 0x20, end(1) → 2+1+2+1 = 6; epilogue at 4.
    data.extend([0x42, 0xcc, 0x03, 0xe4, 0x42, 0xcc, 0x03, 0xe4]);
    let table: Vec<u8> = [0x1000u32, 0x900].iter().flat_map(|v| v.to_le_bytes()).collect();
    let world = Machine1 {
        machine: Machine::Arm64,
        image: image(0xaa64, &table, &data),
        memory: [(STACK, words(&[0x19, 0x20, 0x2929, BASE + 0x1040, 0, 0]))].into(),
    };
    let outer = STACK + 0x20;
    for (offset, sp, done) in [
        (0u64, outer, true),
        (4, STACK, true),
        (8, STACK, false),
        (0x10, STACK, false),
        (0x20, STACK, false),
        (0x24, STACK, true),
        (0x28, outer, true),
    ] {
        let mut start = registers(Machine::Arm64, &[("pc", BASE + 0x1000 + offset), ("sp", sp)]);
        start.set("lr", if done { BASE + 0x1040 } else { 0 });
        start.set("fp", if done { 0x2929 } else { 0 });
        let frames = walk(&world, start, 2);
        assert_eq!((frames[1].ip.0, frames[1].sp.0), (BASE + 0x1040, outer), "at {offset:#x}");
        assert_eq!(frames[1].registers.get("fp"), Some(0x2929), "at {offset:#x}");
    }
}

/// A function without a frame pointer, by both forms of frame data, and by neither: the chain of `ebp` skips its caller.
#[test]
fn x86_frame_data() {
    use super::frame_data::FrameData;
    struct Code(Option<FrameData>);
    const BASE: u64 = 0x8040_0000;
    const STACK: u64 = 0x9a00_1000;
    impl CodeView for Code {
        fn machine(&self) -> Machine {
            Machine::X86
        }
        fn read(&self, va: Va, into: &mut [u8]) -> bool {
            // locals 8, saved esi and ebp, return address, two parameters; then an ebp frame.
            let words: [u32; 12] =
                [1, 2, 0x51, 0x9a00_1028, 0x8040_0100, 7, 8, 0, 0, 0, 0x9a00_1100, 0x8040_0200];
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let from = va.0.checked_sub(STACK).and_then(|at| bytes.get(at as usize..)?.get(..into.len()));
            from.is_some_and(|from| {
                into.copy_from_slice(from);
                true
            })
        }
        fn module_at(&self, va: Va) -> Option<ModuleRange> {
            (va.0 & !0xffff == BASE).then_some(ModuleRange { base: Va(BASE), size: 0x1_0000, index: 0 })
        }
        fn read_image(&self, _: &ModuleRange, _: u32, _: &mut [u8]) -> Option<Origin> {
            None
        }
        fn frame_data(&self, va: Va) -> Option<FrameData> {
            self.0.clone().filter(|_| va.0 < BASE + 0xf0)
        }
    }
    let sizes =
        FrameData { offset: 0x20, prologue: 9, locals: 8, parameters: 8, saved: 8, ..FrameData::default() };
    let program = "$T0 .raSearch = $eip $T0 ^ = $esp $T0 4 + = $ebp $T0 4 - ^ =";
    let start = || registers(Machine::X86, &[("eip", BASE + 0x20), ("esp", STACK), ("ebp", 0x9a00_1028)]);
    let with_program = FrameData { program: Some(program.to_owned()), ..sizes.clone() };
    for (data, sp) in [(sizes, STACK + 0x1c), (with_program, STACK + 0x14)] {
        let frames = walk(&Code(Some(data)), start(), 3);
        assert_eq!((frames[1].ip.0, frames[1].sp.0), (BASE + 0x100, sp));
        assert_eq!(frames[1].source, FrameSource::FrameData);
        assert_eq!((frames[1].return_address.0, frames[2].source), (BASE + 0x200, FrameSource::FramePointer));
    }
    assert_eq!(walk(&Code(None), start(), 3)[1].ip.0, BASE + 0x200);
}

#[test]
fn a_stack_that_leads_to_itself_ends() {
    let table: Vec<u8> = [0x1000u32, 0x1100, 0x900].iter().flat_map(|v| v.to_le_bytes()).collect();
    // lea rsp, [rbp]; pop nothing: the same frame again and again.
    let image = image(0x8664, &table, &[1, 0, 1, 0x05, 0, 0x03, 0, 0]);
    let world = Machine1 {
        machine: Machine::X64,
        image,
        memory: [(STACK, words(&[BASE + 0x1010, BASE + 0x1020, 0]))].into(),
    };
    let start = registers(Machine::X64, &[("rip", BASE + 0x1010), ("rsp", STACK), ("rbp", STACK)]);
    assert!(walk(&world, start, MOST_FRAMES).len() < 64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_x64_data_end(info in prop::collection::vec(any::<u8>(), 4..0x400), stack in prop::collection::vec(any::<u16>(), 0..200), at in 0u64..0x200) {
        let stack: Vec<u64> = stack.iter().map(|v| if v & 1 == 0 { BASE + u64::from(v & 0x3fff) } else { STACK + u64::from(v & 0x7ff) }).collect();
        let table: Vec<u8> = [0x1000u32, 0x1100, 0x900, 0x1100, 0x1200, 0x900].iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut data = info;
        data[0] = data[0] & 0xf8 | 1;
        let world = Machine1 { machine: Machine::X64, image: image(0x8664, &table, &data), memory: [(STACK, words(&stack))].into() };
        let start = registers(Machine::X64, &[("rip", BASE + 0x1000 + at), ("rsp", STACK), ("rbp", STACK + 0x80)]);
        prop_assert!(walk(&world, start, 500).len() <= 500);
    }

    #[test]
    fn any_arm64_data_end(word in any::<u32>(), data in prop::collection::vec(any::<u8>(), 16..0x400), at in 0u64..0x100) {
        for word in [word, 0x900] {
            let table: Vec<u8> = [0x1000u32, word].iter().flat_map(|v| v.to_le_bytes()).collect();
            let stack: Vec<u64> = (0..200).map(|n| if n % 3 == 0 { BASE + 0x1000 + n * 4 } else { STACK + n * 8 }).collect();
            let world = Machine1 { machine: Machine::Arm64, image: image(0xaa64, &table, &data), memory: [(STACK, words(&stack))].into() };
            let start = registers(Machine::Arm64, &[("pc", BASE + 0x1000 + at * 4), ("sp", STACK), ("fp", STACK + 0x10), ("lr", BASE + 0x1008)]);
            prop_assert!(walk(&world, start, 500).len() <= 500);
        }
    }

    #[test]
    fn any_program_ends(program in "([$.]?[a-zA-Z0-9]{1,8} |[-+*/%@^=] ){0,80}", locals in any::<u32>()) {
        let data = frame_data::FrameData { program: Some(program), locals, ..Default::default() };
        let world = Machine1 { machine: Machine::X86, image: Vec::new(), memory: BTreeMap::new() };
        let _ = frame_data::undo(&world, &Registers::zeroed(Machine::X86), &data);
    }

    #[test]
    fn any_table_is_searched(table in prop::collection::vec(any::<u8>(), 0..0x100), size in any::<u32>(), rva in any::<u32>()) {
        let world = Machine1 { machine: Machine::X64, image: image(0x8664, &table, &[]), memory: BTreeMap::new() };
        let module = world.module_at(Va(BASE)).unwrap();
        let bytes = ModuleBytes::new(&world, module);
        let _ = find_entry::<12>(&bytes, Directory { rva: 0x800, size }, rva);
        let _ = Tables::default().table(&world, &module);
        let _ = super::x64::find_function(&bytes, Directory { rva: 0x800, size }, rva);
        let _ = crate::image::exports(&bytes, &crate::image::Headers::parse(&bytes).unwrap());
    }
}
