//! Lines of code against KD's own, and against bytes from a generator.

use super::*;
use crate::target::Registers;

/// Names as KD had them for the two dumps: offsets from the kernel.
fn offset_from(base: u64, size: u64) -> impl Fn(Va) -> Option<String> {
    move |va| {
        let offset = va.0.checked_sub(base).filter(|offset| *offset < size)?;
        Some(if offset == 0 { "nt".to_owned() } else { format!("nt+{offset:#x}") })
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

#[test]
fn every_line_reads_as_kd_prints_it() {
    let Some(shared) = crate::shared("") else { return };
    let files = [
        ("x64-19041-7e", Machine::X64, 0xffff_f804_7ba0_0000, 0x104_6000),
        ("arm64-22000-1c8", Machine::Arm64, 0xffff_f803_f2e0_0000, 0x103_e000),
    ];
    for (name, machine, base, size) in files {
        let text = std::fs::read_to_string(shared.join(format!("reference/kd-output/{name}.txt"))).unwrap();
        let mut lines = 0;
        for line in text.lines() {
            // An address, an even count of hex digits, and more.
            let mut words = line.split_whitespace();
            let (Some(address), Some(hex), Some(third)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let Ok(va) = u64::from_str_radix(&address.replace('`', ""), 16) else { continue };
            let Some(mut bytes) = bytes_of(hex).filter(|_| address.len() == 17 && hex.len() % 2 == 0) else {
                continue;
            };
            // Words of memory, stacks and module lists look alike.
            if !line[17..].starts_with(' ') || line[18..].starts_with(' ') || !third.is_ascii() {
                continue;
            }
            let mnemonic = third.chars().all(|c| c.is_ascii_lowercase());
            if !mnemonic || bytes_of(third).is_some() || hex.contains('`') || matches!(third, "nt" | "nt+") {
                continue;
            }
            if machine == Machine::Arm64 {
                bytes.reverse();
            }
            let ours = decode(machine, Va(va), &bytes, &offset_from(base, size)).unwrap().line();
            let theirs = line.find(" ss:0018:").or(line.find(" ds:002b:")).map_or(line, |end| &line[..end]);
            assert_eq!(ours, theirs);
            lines += 1;
        }
        println!("{name}: {lines} lines");
        assert!(lines > 7, "{name}");
    }
}

fn x64(hex: &str) -> String {
    decode(Machine::X64, Va(0xffff_f800_0000_1000), &bytes_of(hex).unwrap(), &|_| None).unwrap().text()
}

fn x86(hex: &str) -> String {
    decode(Machine::X86, Va(0x8050_1000), &bytes_of(hex).unwrap(), &|_| None).unwrap().text()
}

#[test]
fn kds_spelling_of_x64() {
    for (hex, text) in [
        ("c3", "ret"),
        ("f348ab", "rep stos qword ptr [rdi]"),
        ("f3a4", "rep movs byte ptr [rdi],byte ptr [rsi]"),
        ("f2ae", "repne scas byte ptr [rdi]"),
        ("f3a6", "repe cmps byte ptr [rsi],byte ptr [rdi]"),
        ("f20f1005f8ffffff", "movsd   xmm0,mmword ptr [fffff800`00001000]"),
        ("e8fbffffff", "call    fffff800`00001000"),
        ("ebfe", "jmp     fffff800`00001000"),
        ("4883e4f0", "and     rsp,0FFFFFFFFFFFFFFF0h"),
        ("48c7c0ffffffff", "mov     rax,0FFFFFFFFFFFFFFFFh"),
        ("65488b042588010000", "mov     rax,qword ptr gs:[188h]"),
        ("0f01f8", "swapgs"),
        ("48cf", "iretq"),
        ("0f0b", "ud2"),
        ("488b45f8", "mov     rax,qword ptr [rbp-8]"),
        ("488b04c8", "mov     rax,qword ptr [rax+rcx*8]"),
        ("48b81400000080f7ffff", "mov     rax,0FFFFF78000000014h"),
        ("0fb600", "movzx   eax,byte ptr [rax]"),
        ("ff15f6000000", "call    qword ptr [fffff800`000010fc]"),
        ("060000000000000000", "???"),
    ] {
        assert_eq!(x64(hex), text, "{hex}");
    }
}

#[test]
fn kds_spelling_of_x86() {
    for (hex, text) in [
        ("8bff", "mov     edi,edi"),
        ("64a124010000", "mov     eax,dword ptr fs:[00000124h]"),
        ("8b4508", "mov     eax,dword ptr [ebp+8]"),
        ("f3ab", "rep stos dword ptr es:[edi]"),
        ("c20800", "ret     8"),
        ("6a00", "push    0"),
    ] {
        assert_eq!(x86(hex), text, "{hex}");
    }
    let line = decode(Machine::X86, Va(0x8050_1000), &[0x8b, 0xff], &|_| None).unwrap().line();
    assert_eq!(line, "80501000 8bff            mov     edi,edi");
}

#[test]
fn kds_spelling_of_arm64() {
    let arm64 = |word: u32| {
        decode(Machine::Arm64, Va(0xffff_f800_0000_1000), &word.to_le_bytes(), &|_| None).unwrap()
    };
    for (word, text, flow) in [
        (0xd65f03c0, "ret", Flow::Return),
        (0xa9be7bfd, "stp         fp,lr,[sp,#-0x20]!", Flow::Next),
        (0x910003fd, "mov         fp,sp", Flow::Next),
        (0xd503201f, "nop", Flow::Next),
        (0x54000040, "beq         fffff800`00001008", Flow::Branch(Va(0xffff_f800_0000_1008))),
        (0x17ffffff, "b           fffff800`00000ffc", Flow::Jump(Some(Va(0xffff_f800_0000_0ffc)))),
        (0xd63f0100, "blr         x8", Flow::Call(None)),
        (0xd61f0100, "br          x8", Flow::Jump(None)),
        (0xf9400400, "ldr         x0,[x0,#8]", Flow::Next),
        (0x37180048, "tbnz        w8,#3,fffff800`00001008", Flow::Branch(Va(0xffff_f800_0000_1008))),
        (0x52803408, "mov         w8,#0x1A0", Flow::Next),
        (0, "udf         #0", Flow::Stop),
    ] {
        let instruction = arm64(word);
        assert_eq!((instruction.text().as_str(), instruction.flow), (text, flow), "{word:08x}");
    }
}

#[test]
fn tails_read_as_kd_prints_them() {
    let mut registers = Registers::zeroed(Machine::X64);
    for (name, value) in [
        ("rsp", 0xffff_8504_2989_0ee8),
        ("ss", 0x18),
        ("ds", 0x2b),
        ("r8", 0xffff_9b00_0336_0008),
        ("r9", 0x44),
    ] {
        assert!(registers.set(name, value));
    }
    let read = |va: Va, buffer: &mut [u8]| {
        buffer.fill(0);
        buffer[0] = 0x7e;
        va == Va(0xffff_8504_2989_0ef0)
    };
    let tail = |hex: &str| {
        let instruction = decode(Machine::X64, Va(0x1000), &bytes_of(hex).unwrap(), &|_| None).unwrap();
        instruction.tail(&registers, &read, &|_| None).text
    };
    assert_eq!(tail("48894c2408"), " ss:0018:ffff8504`29890ef0=000000000000007e");
    assert_eq!(tail("43891401"), " ds:002b:ffff9b00`0336004c=????????");
    assert_eq!(tail("ff542408"), " ss:0018:ffff8504`29890ef0={00000000`0000007e}");
    assert_eq!(tail("7501"), " [br=1]");
    assert_eq!(tail("7401"), " [br=0]");
    assert_eq!(tail("488d442408"), "");
    assert_eq!(tail("90"), "");
}

#[test]
fn code_that_cannot_be_read() {
    let line = unreadable_line(Machine::Arm64, Va(0xffff_f803_f32d_dff4));
    assert_eq!(line, "fffff803`f32ddff4 ?? ???");
    let line = unreadable_line(Machine::X64, Va(0xffff_f804_7bdf_5a80));
    assert_eq!(line, "fffff804`7bdf5a80 ??              ???");
}

#[test]
fn cut_instructions_are_refused() {
    for bytes in [&[][..], &[0x48], &[0x0f], &[0xe8, 0, 0]] {
        assert!(decode(Machine::X64, Va(0), bytes, &|_| None).is_none());
    }
    assert!(decode(Machine::Arm64, Va(0), &[0, 0, 0], &|_| None).is_none());
}

/// The decoder of arm64 is written with the thought that some words cannot be: try every upper half.
#[test]
fn any_arm64_word_decodes() {
    let rounds = std::env::var("KD_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2u32);
    let mut low = 0x9e37_79b9u32;
    for high in 0..=0xffffu32 {
        for _ in 0..rounds {
            low = low.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let word = high << 16 | low >> 16;
            assert!(decode(Machine::Arm64, Va(0x1000), &word.to_le_bytes(), &|_| None).is_some());
        }
    }
}

/// The decoders are foreign code: no word may bring them down.
#[test]
fn any_bytes_decode() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let rounds = std::env::var("KD_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(30_000);
    for _ in 0..rounds {
        let mut bytes = [0; 16];
        for half in bytes.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            half.copy_from_slice(&state.to_le_bytes());
        }
        for machine in [Machine::X64, Machine::X86, Machine::Arm64] {
            if let Some(instruction) = decode(machine, Va(state), &bytes, &|_| None) {
                instruction.line();
                instruction.tail(&Registers::zeroed(machine), &|_, _| false, &|_| None);
            }
        }
    }
}
