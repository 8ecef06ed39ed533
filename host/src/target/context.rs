//! Register records: the `CONTEXT` and `KSPECIAL_REGISTERS` of each machine, as tables.
//!
//! Sources: winnt.h and the layouts in public symbols. The special registers of arm64 are `KSPECIAL_REGISTERS`
//! followed by `KARM64_ARCH_STATE`, as they stand in `KPROCESSOR_STATE`.

use crate::dump::Machine;

/// A stored register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// KD's name.
    pub name: &'static str,
    /// Bytes from the start of the record.
    pub offset: usize,
    /// Bytes: 1, 2, 4, 8, 10 or 16.
    pub size: usize,
}

const fn slot(name: &'static str, offset: usize, size: usize) -> Slot {
    Slot { name, offset, size }
}

/// Part of a stored register under a name of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// KD's name.
    pub name: &'static str,
    /// The stored register.
    pub of: &'static str,
    /// Its lowest bit.
    pub shift: u32,
    /// Its width in bits, at most 64.
    pub bits: u32,
}

const fn part(name: &'static str, of: &'static str, shift: u32, bits: u32) -> Part {
    Part { name, of, shift, bits }
}

/// All about the registers of a machine.
pub struct Layout {
    /// Bytes in a `CONTEXT`.
    pub context_size: usize,
    /// Where `ContextFlags` is.
    pub flags: usize,
    /// The registers in a `CONTEXT`.
    pub context: &'static [Slot],
    /// The special registers.
    pub special: &'static [Slot],
    /// Names for parts, and second names.
    pub parts: &'static [Part],
    /// The instruction pointer.
    pub ip: &'static str,
    /// The stack pointer.
    pub sp: &'static str,
    /// The frame pointer.
    pub fp: &'static str,
}

/// The registers of `machine`.
pub fn layout(machine: Machine) -> &'static Layout {
    match machine {
        Machine::X64 => &X64,
        Machine::X86 => &X86,
        Machine::Arm64 => &ARM64,
    }
}

static X64: Layout = Layout {
    context_size: 0x4d0,
    flags: 0x30,
    context: X64_CONTEXT,
    special: X64_SPECIAL,
    parts: X64_PARTS,
    ip: "rip",
    sp: "rsp",
    fp: "rbp",
};

static X86: Layout = Layout {
    context_size: 0x2cc,
    flags: 0,
    context: X86_CONTEXT,
    special: X86_SPECIAL,
    parts: X86_PARTS,
    ip: "eip",
    sp: "esp",
    fp: "ebp",
};

static ARM64: Layout = Layout {
    context_size: 0x390,
    flags: 0,
    context: ARM64_CONTEXT,
    special: ARM64_SPECIAL,
    parts: ARM64_PARTS,
    ip: "pc",
    sp: "sp",
    fp: "fp",
};

#[rustfmt::skip]
const X64_CONTEXT: &[Slot] = &[
    slot("mxcsr", 0x34, 4), slot("cs", 0x38, 2), slot("ds", 0x3a, 2), slot("es", 0x3c, 2),
    slot("fs", 0x3e, 2), slot("gs", 0x40, 2), slot("ss", 0x42, 2), slot("efl", 0x44, 4),
    slot("dr0", 0x48, 8), slot("dr1", 0x50, 8), slot("dr2", 0x58, 8), slot("dr3", 0x60, 8),
    slot("dr6", 0x68, 8), slot("dr7", 0x70, 8), slot("rax", 0x78, 8), slot("rcx", 0x80, 8),
    slot("rdx", 0x88, 8), slot("rbx", 0x90, 8), slot("rsp", 0x98, 8), slot("rbp", 0xa0, 8),
    slot("rsi", 0xa8, 8), slot("rdi", 0xb0, 8), slot("r8", 0xb8, 8), slot("r9", 0xc0, 8),
    slot("r10", 0xc8, 8), slot("r11", 0xd0, 8), slot("r12", 0xd8, 8), slot("r13", 0xe0, 8),
    slot("r14", 0xe8, 8), slot("r15", 0xf0, 8), slot("rip", 0xf8, 8), slot("fpcw", 0x100, 2),
    slot("fpsw", 0x102, 2), slot("fptw", 0x104, 1), slot("fopcode", 0x106, 2), slot("fpip", 0x108, 4),
    slot("fpipsel", 0x10c, 2), slot("fpdp", 0x110, 4), slot("fpdpsel", 0x114, 2), slot("st0", 0x120, 10),
    slot("st1", 0x130, 10), slot("st2", 0x140, 10), slot("st3", 0x150, 10), slot("st4", 0x160, 10),
    slot("st5", 0x170, 10), slot("st6", 0x180, 10), slot("st7", 0x190, 10), slot("xmm0", 0x1a0, 16),
    slot("xmm1", 0x1b0, 16), slot("xmm2", 0x1c0, 16), slot("xmm3", 0x1d0, 16), slot("xmm4", 0x1e0, 16),
    slot("xmm5", 0x1f0, 16), slot("xmm6", 0x200, 16), slot("xmm7", 0x210, 16), slot("xmm8", 0x220, 16),
    slot("xmm9", 0x230, 16), slot("xmm10", 0x240, 16), slot("xmm11", 0x250, 16), slot("xmm12", 0x260, 16),
    slot("xmm13", 0x270, 16), slot("xmm14", 0x280, 16), slot("xmm15", 0x290, 16),
];

#[rustfmt::skip]
const X64_SPECIAL: &[Slot] = &[
    slot("cr0", 0x0, 8), slot("cr2", 0x8, 8), slot("cr3", 0x10, 8), slot("cr4", 0x18, 8),
    slot("kdr0", 0x20, 8), slot("kdr1", 0x28, 8), slot("kdr2", 0x30, 8), slot("kdr3", 0x38, 8),
    slot("kdr6", 0x40, 8), slot("kdr7", 0x48, 8), slot("gdtl", 0x56, 2), slot("gdtr", 0x58, 8),
    slot("idtl", 0x66, 2), slot("idtr", 0x68, 8), slot("tr", 0x70, 2), slot("ldtr", 0x72, 2),
    slot("kmxcsr", 0x74, 4), slot("debugctl", 0x78, 8), slot("cr8", 0xa0, 8), slot("gsbase", 0xa8, 8),
    slot("kgsbase", 0xb0, 8), slot("star", 0xb8, 8), slot("lstar", 0xc0, 8), slot("cstar", 0xc8, 8),
    slot("fmask", 0xd0, 8), slot("xcr0", 0xd8, 8),
];

#[rustfmt::skip]
const X64_PARTS: &[Part] = &[
    part("eax", "rax", 0, 32), part("ebx", "rbx", 0, 32), part("ecx", "rcx", 0, 32),
    part("edx", "rdx", 0, 32), part("esi", "rsi", 0, 32), part("edi", "rdi", 0, 32),
    part("ebp", "rbp", 0, 32), part("esp", "rsp", 0, 32), part("eip", "rip", 0, 32),
    part("ax", "rax", 0, 16), part("al", "rax", 0, 8), part("ah", "rax", 8, 8), part("bx", "rbx", 0, 16),
    part("bl", "rbx", 0, 8), part("bh", "rbx", 8, 8), part("cx", "rcx", 0, 16), part("cl", "rcx", 0, 8),
    part("ch", "rcx", 8, 8), part("dx", "rdx", 0, 16), part("dl", "rdx", 0, 8), part("dh", "rdx", 8, 8),
    part("si", "rsi", 0, 16), part("di", "rdi", 0, 16), part("bp", "rbp", 0, 16), part("sp", "rsp", 0, 16),
    part("ip", "rip", 0, 16), part("fl", "efl", 0, 16), part("eflags", "efl", 0, 32),
    part("sil", "rsi", 0, 8), part("dil", "rdi", 0, 8), part("bpl", "rbp", 0, 8), part("spl", "rsp", 0, 8),
    part("r8d", "r8", 0, 32), part("r8w", "r8", 0, 16), part("r8b", "r8", 0, 8), part("r9d", "r9", 0, 32),
    part("r9w", "r9", 0, 16), part("r9b", "r9", 0, 8), part("r10d", "r10", 0, 32),
    part("r10w", "r10", 0, 16), part("r10b", "r10", 0, 8), part("r11d", "r11", 0, 32),
    part("r11w", "r11", 0, 16), part("r11b", "r11", 0, 8), part("r12d", "r12", 0, 32),
    part("r12w", "r12", 0, 16), part("r12b", "r12", 0, 8), part("r13d", "r13", 0, 32),
    part("r13w", "r13", 0, 16), part("r13b", "r13", 0, 8), part("r14d", "r14", 0, 32),
    part("r14w", "r14", 0, 16), part("r14b", "r14", 0, 8), part("r15d", "r15", 0, 32),
    part("r15w", "r15", 0, 16), part("r15b", "r15", 0, 8), part("iopl", "efl", 12, 2),
    part("of", "efl", 11, 1), part("df", "efl", 10, 1), part("if", "efl", 9, 1), part("tf", "efl", 8, 1),
    part("sf", "efl", 7, 1), part("zf", "efl", 6, 1), part("af", "efl", 4, 1), part("pf", "efl", 2, 1),
    part("cf", "efl", 0, 1), part("vip", "efl", 20, 1), part("vif", "efl", 19, 1),
    part("mm0", "st0", 0, 64), part("mm1", "st1", 0, 64), part("mm2", "st2", 0, 64),
    part("mm3", "st3", 0, 64), part("mm4", "st4", 0, 64), part("mm5", "st5", 0, 64),
    part("mm6", "st6", 0, 64), part("mm7", "st7", 0, 64), part("xmm0l", "xmm0", 0, 64),
    part("xmm1l", "xmm1", 0, 64), part("xmm2l", "xmm2", 0, 64), part("xmm3l", "xmm3", 0, 64),
    part("xmm4l", "xmm4", 0, 64), part("xmm5l", "xmm5", 0, 64), part("xmm6l", "xmm6", 0, 64),
    part("xmm7l", "xmm7", 0, 64), part("xmm8l", "xmm8", 0, 64), part("xmm9l", "xmm9", 0, 64),
    part("xmm10l", "xmm10", 0, 64), part("xmm11l", "xmm11", 0, 64), part("xmm12l", "xmm12", 0, 64),
    part("xmm13l", "xmm13", 0, 64), part("xmm14l", "xmm14", 0, 64), part("xmm15l", "xmm15", 0, 64),
    part("xmm0h", "xmm0", 64, 64), part("xmm1h", "xmm1", 64, 64), part("xmm2h", "xmm2", 64, 64),
    part("xmm3h", "xmm3", 64, 64), part("xmm4h", "xmm4", 64, 64), part("xmm5h", "xmm5", 64, 64),
    part("xmm6h", "xmm6", 64, 64), part("xmm7h", "xmm7", 64, 64), part("xmm8h", "xmm8", 64, 64),
    part("xmm9h", "xmm9", 64, 64), part("xmm10h", "xmm10", 64, 64), part("xmm11h", "xmm11", 64, 64),
    part("xmm12h", "xmm12", 64, 64), part("xmm13h", "xmm13", 64, 64), part("xmm14h", "xmm14", 64, 64),
    part("xmm15h", "xmm15", 64, 64),
];

#[rustfmt::skip]
const X86_CONTEXT: &[Slot] = &[
    slot("dr0", 0x4, 4), slot("dr1", 0x8, 4), slot("dr2", 0xc, 4), slot("dr3", 0x10, 4),
    slot("dr6", 0x14, 4), slot("dr7", 0x18, 4), slot("fpcw", 0x1c, 2), slot("fpsw", 0x20, 2),
    slot("fptw", 0x24, 2), slot("fpip", 0x28, 4), slot("fpipsel", 0x2c, 2), slot("fopcode", 0x2e, 2),
    slot("fpdp", 0x30, 4), slot("fpdpsel", 0x34, 2), slot("st0", 0x38, 10), slot("st1", 0x42, 10),
    slot("st2", 0x4c, 10), slot("st3", 0x56, 10), slot("st4", 0x60, 10), slot("st5", 0x6a, 10),
    slot("st6", 0x74, 10), slot("st7", 0x7e, 10), slot("gs", 0x8c, 2), slot("fs", 0x90, 2),
    slot("es", 0x94, 2), slot("ds", 0x98, 2), slot("cs", 0xbc, 2), slot("ss", 0xc8, 2),
    slot("edi", 0x9c, 4), slot("esi", 0xa0, 4), slot("ebx", 0xa4, 4), slot("edx", 0xa8, 4),
    slot("ecx", 0xac, 4), slot("eax", 0xb0, 4), slot("ebp", 0xb4, 4), slot("eip", 0xb8, 4),
    slot("efl", 0xc0, 4), slot("esp", 0xc4, 4), slot("mxcsr", 0xe4, 4), slot("xmm0", 0x16c, 16),
    slot("xmm1", 0x17c, 16), slot("xmm2", 0x18c, 16), slot("xmm3", 0x19c, 16), slot("xmm4", 0x1ac, 16),
    slot("xmm5", 0x1bc, 16), slot("xmm6", 0x1cc, 16), slot("xmm7", 0x1dc, 16),
];

#[rustfmt::skip]
const X86_SPECIAL: &[Slot] = &[
    slot("cr0", 0x0, 4), slot("cr2", 0x4, 4), slot("cr3", 0x8, 4), slot("cr4", 0xc, 4),
    slot("kdr0", 0x10, 4), slot("kdr1", 0x14, 4), slot("kdr2", 0x18, 4), slot("kdr3", 0x1c, 4),
    slot("kdr6", 0x20, 4), slot("kdr7", 0x24, 4), slot("gdtl", 0x2a, 2), slot("gdtr", 0x2c, 4),
    slot("idtl", 0x32, 2), slot("idtr", 0x34, 4), slot("tr", 0x38, 2), slot("ldtr", 0x3a, 2),
];

#[rustfmt::skip]
const X86_PARTS: &[Part] = &[
    part("ax", "eax", 0, 16), part("al", "eax", 0, 8), part("ah", "eax", 8, 8), part("bx", "ebx", 0, 16),
    part("bl", "ebx", 0, 8), part("bh", "ebx", 8, 8), part("cx", "ecx", 0, 16), part("cl", "ecx", 0, 8),
    part("ch", "ecx", 8, 8), part("dx", "edx", 0, 16), part("dl", "edx", 0, 8), part("dh", "edx", 8, 8),
    part("si", "esi", 0, 16), part("di", "edi", 0, 16), part("bp", "ebp", 0, 16), part("sp", "esp", 0, 16),
    part("ip", "eip", 0, 16), part("fl", "efl", 0, 16), part("eflags", "efl", 0, 32),
    part("iopl", "efl", 12, 2), part("of", "efl", 11, 1), part("df", "efl", 10, 1), part("if", "efl", 9, 1),
    part("tf", "efl", 8, 1), part("sf", "efl", 7, 1), part("zf", "efl", 6, 1), part("af", "efl", 4, 1),
    part("pf", "efl", 2, 1), part("cf", "efl", 0, 1), part("vip", "efl", 20, 1), part("vif", "efl", 19, 1),
    part("mm0", "st0", 0, 64), part("mm1", "st1", 0, 64), part("mm2", "st2", 0, 64),
    part("mm3", "st3", 0, 64), part("mm4", "st4", 0, 64), part("mm5", "st5", 0, 64),
    part("mm6", "st6", 0, 64), part("mm7", "st7", 0, 64), part("xmm0l", "xmm0", 0, 64),
    part("xmm1l", "xmm1", 0, 64), part("xmm2l", "xmm2", 0, 64), part("xmm3l", "xmm3", 0, 64),
    part("xmm4l", "xmm4", 0, 64), part("xmm5l", "xmm5", 0, 64), part("xmm6l", "xmm6", 0, 64),
    part("xmm7l", "xmm7", 0, 64), part("xmm0h", "xmm0", 64, 64), part("xmm1h", "xmm1", 64, 64),
    part("xmm2h", "xmm2", 64, 64), part("xmm3h", "xmm3", 64, 64), part("xmm4h", "xmm4", 64, 64),
    part("xmm5h", "xmm5", 64, 64), part("xmm6h", "xmm6", 64, 64), part("xmm7h", "xmm7", 64, 64),
];

#[rustfmt::skip]
const ARM64_CONTEXT: &[Slot] = &[
    slot("cpsr", 0x4, 4), slot("x0", 0x8, 8), slot("x1", 0x10, 8), slot("x2", 0x18, 8), slot("x3", 0x20, 8),
    slot("x4", 0x28, 8), slot("x5", 0x30, 8), slot("x6", 0x38, 8), slot("x7", 0x40, 8), slot("x8", 0x48, 8),
    slot("x9", 0x50, 8), slot("x10", 0x58, 8), slot("x11", 0x60, 8), slot("x12", 0x68, 8),
    slot("x13", 0x70, 8), slot("x14", 0x78, 8), slot("x15", 0x80, 8), slot("x16", 0x88, 8),
    slot("x17", 0x90, 8), slot("x18", 0x98, 8), slot("x19", 0xa0, 8), slot("x20", 0xa8, 8),
    slot("x21", 0xb0, 8), slot("x22", 0xb8, 8), slot("x23", 0xc0, 8), slot("x24", 0xc8, 8),
    slot("x25", 0xd0, 8), slot("x26", 0xd8, 8), slot("x27", 0xe0, 8), slot("x28", 0xe8, 8),
    slot("fp", 0xf0, 8), slot("lr", 0xf8, 8), slot("sp", 0x100, 8), slot("pc", 0x108, 8),
    slot("v0", 0x110, 16), slot("v1", 0x120, 16), slot("v2", 0x130, 16), slot("v3", 0x140, 16),
    slot("v4", 0x150, 16), slot("v5", 0x160, 16), slot("v6", 0x170, 16), slot("v7", 0x180, 16),
    slot("v8", 0x190, 16), slot("v9", 0x1a0, 16), slot("v10", 0x1b0, 16), slot("v11", 0x1c0, 16),
    slot("v12", 0x1d0, 16), slot("v13", 0x1e0, 16), slot("v14", 0x1f0, 16), slot("v15", 0x200, 16),
    slot("v16", 0x210, 16), slot("v17", 0x220, 16), slot("v18", 0x230, 16), slot("v19", 0x240, 16),
    slot("v20", 0x250, 16), slot("v21", 0x260, 16), slot("v22", 0x270, 16), slot("v23", 0x280, 16),
    slot("v24", 0x290, 16), slot("v25", 0x2a0, 16), slot("v26", 0x2b0, 16), slot("v27", 0x2c0, 16),
    slot("v28", 0x2d0, 16), slot("v29", 0x2e0, 16), slot("v30", 0x2f0, 16), slot("v31", 0x300, 16),
    slot("fpcr", 0x310, 4), slot("fpsr", 0x314, 4), slot("bcr0", 0x318, 4), slot("bcr1", 0x31c, 4),
    slot("bcr2", 0x320, 4), slot("bcr3", 0x324, 4), slot("bcr4", 0x328, 4), slot("bcr5", 0x32c, 4),
    slot("bcr6", 0x330, 4), slot("bcr7", 0x334, 4), slot("bvr0", 0x338, 8), slot("bvr1", 0x340, 8),
    slot("bvr2", 0x348, 8), slot("bvr3", 0x350, 8), slot("bvr4", 0x358, 8), slot("bvr5", 0x360, 8),
    slot("bvr6", 0x368, 8), slot("bvr7", 0x370, 8), slot("wcr0", 0x378, 4), slot("wcr1", 0x37c, 4),
    slot("wvr0", 0x380, 8), slot("wvr1", 0x388, 8),
];

#[rustfmt::skip]
const ARM64_SPECIAL: &[Slot] = &[
    slot("elr", 0x0, 8), slot("spsr", 0x8, 4), slot("tpidr_el0", 0x10, 8), slot("tpidrro_el0", 0x18, 8),
    slot("tpidr_el1", 0x20, 8), slot("kbvr0", 0x28, 8), slot("kbvr1", 0x30, 8), slot("kbvr2", 0x38, 8),
    slot("kbvr3", 0x40, 8), slot("kbvr4", 0x48, 8), slot("kbvr5", 0x50, 8), slot("kbvr6", 0x58, 8),
    slot("kbvr7", 0x60, 8), slot("kbcr0", 0x68, 4), slot("kbcr1", 0x6c, 4), slot("kbcr2", 0x70, 4),
    slot("kbcr3", 0x74, 4), slot("kbcr4", 0x78, 4), slot("kbcr5", 0x7c, 4), slot("kbcr6", 0x80, 4),
    slot("kbcr7", 0x84, 4), slot("kwvr0", 0x88, 8), slot("kwvr1", 0x90, 8), slot("kwcr0", 0x98, 4),
    slot("kwcr1", 0x9c, 4), slot("midr", 0xa0, 8), slot("sctlr", 0xa8, 8), slot("actlr", 0xb0, 8),
    slot("cpacr", 0xb8, 8), slot("tcr", 0xc0, 8), slot("ttbr0", 0xc8, 8), slot("ttbr1", 0xd0, 8),
    slot("esr", 0xd8, 8), slot("far", 0xe0, 8), slot("pmcr", 0xe8, 8), slot("pmcntenset", 0xf0, 8),
    slot("pmccntr", 0xf8, 8), slot("mair", 0x308, 8), slot("vbar", 0x310, 8),
];

#[rustfmt::skip]
const ARM64_PARTS: &[Part] = &[
    part("psr", "cpsr", 0, 32), part("n", "cpsr", 31, 1), part("z", "cpsr", 30, 1),
    part("c", "cpsr", 29, 1), part("v", "cpsr", 28, 1), part("x29", "fp", 0, 64), part("x30", "lr", 0, 64),
    part("wsp", "sp", 0, 32), part("w0", "x0", 0, 32), part("w1", "x1", 0, 32), part("w2", "x2", 0, 32),
    part("w3", "x3", 0, 32), part("w4", "x4", 0, 32), part("w5", "x5", 0, 32), part("w6", "x6", 0, 32),
    part("w7", "x7", 0, 32), part("w8", "x8", 0, 32), part("w9", "x9", 0, 32), part("w10", "x10", 0, 32),
    part("w11", "x11", 0, 32), part("w12", "x12", 0, 32), part("w13", "x13", 0, 32),
    part("w14", "x14", 0, 32), part("w15", "x15", 0, 32), part("w16", "x16", 0, 32),
    part("w17", "x17", 0, 32), part("w18", "x18", 0, 32), part("w19", "x19", 0, 32),
    part("w20", "x20", 0, 32), part("w21", "x21", 0, 32), part("w22", "x22", 0, 32),
    part("w23", "x23", 0, 32), part("w24", "x24", 0, 32), part("w25", "x25", 0, 32),
    part("w26", "x26", 0, 32), part("w27", "x27", 0, 32), part("w28", "x28", 0, 32),
    part("w29", "fp", 0, 32), part("w30", "lr", 0, 32), part("d0", "v0", 0, 64), part("s0", "v0", 0, 32),
    part("h0", "v0", 0, 16), part("b0", "v0", 0, 8), part("d1", "v1", 0, 64), part("s1", "v1", 0, 32),
    part("h1", "v1", 0, 16), part("b1", "v1", 0, 8), part("d2", "v2", 0, 64), part("s2", "v2", 0, 32),
    part("h2", "v2", 0, 16), part("b2", "v2", 0, 8), part("d3", "v3", 0, 64), part("s3", "v3", 0, 32),
    part("h3", "v3", 0, 16), part("b3", "v3", 0, 8), part("d4", "v4", 0, 64), part("s4", "v4", 0, 32),
    part("h4", "v4", 0, 16), part("b4", "v4", 0, 8), part("d5", "v5", 0, 64), part("s5", "v5", 0, 32),
    part("h5", "v5", 0, 16), part("b5", "v5", 0, 8), part("d6", "v6", 0, 64), part("s6", "v6", 0, 32),
    part("h6", "v6", 0, 16), part("b6", "v6", 0, 8), part("d7", "v7", 0, 64), part("s7", "v7", 0, 32),
    part("h7", "v7", 0, 16), part("b7", "v7", 0, 8), part("d8", "v8", 0, 64), part("s8", "v8", 0, 32),
    part("h8", "v8", 0, 16), part("b8", "v8", 0, 8), part("d9", "v9", 0, 64), part("s9", "v9", 0, 32),
    part("h9", "v9", 0, 16), part("b9", "v9", 0, 8), part("d10", "v10", 0, 64), part("s10", "v10", 0, 32),
    part("h10", "v10", 0, 16), part("b10", "v10", 0, 8), part("d11", "v11", 0, 64),
    part("s11", "v11", 0, 32), part("h11", "v11", 0, 16), part("b11", "v11", 0, 8),
    part("d12", "v12", 0, 64), part("s12", "v12", 0, 32), part("h12", "v12", 0, 16),
    part("b12", "v12", 0, 8), part("d13", "v13", 0, 64), part("s13", "v13", 0, 32),
    part("h13", "v13", 0, 16), part("b13", "v13", 0, 8), part("d14", "v14", 0, 64),
    part("s14", "v14", 0, 32), part("h14", "v14", 0, 16), part("b14", "v14", 0, 8),
    part("d15", "v15", 0, 64), part("s15", "v15", 0, 32), part("h15", "v15", 0, 16),
    part("b15", "v15", 0, 8), part("d16", "v16", 0, 64), part("s16", "v16", 0, 32),
    part("h16", "v16", 0, 16), part("b16", "v16", 0, 8), part("d17", "v17", 0, 64),
    part("s17", "v17", 0, 32), part("h17", "v17", 0, 16), part("b17", "v17", 0, 8),
    part("d18", "v18", 0, 64), part("s18", "v18", 0, 32), part("h18", "v18", 0, 16),
    part("b18", "v18", 0, 8), part("d19", "v19", 0, 64), part("s19", "v19", 0, 32),
    part("h19", "v19", 0, 16), part("b19", "v19", 0, 8), part("d20", "v20", 0, 64),
    part("s20", "v20", 0, 32), part("h20", "v20", 0, 16), part("b20", "v20", 0, 8),
    part("d21", "v21", 0, 64), part("s21", "v21", 0, 32), part("h21", "v21", 0, 16),
    part("b21", "v21", 0, 8), part("d22", "v22", 0, 64), part("s22", "v22", 0, 32),
    part("h22", "v22", 0, 16), part("b22", "v22", 0, 8), part("d23", "v23", 0, 64),
    part("s23", "v23", 0, 32), part("h23", "v23", 0, 16), part("b23", "v23", 0, 8),
    part("d24", "v24", 0, 64), part("s24", "v24", 0, 32), part("h24", "v24", 0, 16),
    part("b24", "v24", 0, 8), part("d25", "v25", 0, 64), part("s25", "v25", 0, 32),
    part("h25", "v25", 0, 16), part("b25", "v25", 0, 8), part("d26", "v26", 0, 64),
    part("s26", "v26", 0, 32), part("h26", "v26", 0, 16), part("b26", "v26", 0, 8),
    part("d27", "v27", 0, 64), part("s27", "v27", 0, 32), part("h27", "v27", 0, 16),
    part("b27", "v27", 0, 8), part("d28", "v28", 0, 64), part("s28", "v28", 0, 32),
    part("h28", "v28", 0, 16), part("b28", "v28", 0, 8), part("d29", "v29", 0, 64),
    part("s29", "v29", 0, 32), part("h29", "v29", 0, 16), part("b29", "v29", 0, 8),
    part("d30", "v30", 0, 64), part("s30", "v30", 0, 32), part("h30", "v30", 0, 16),
    part("b30", "v30", 0, 8), part("d31", "v31", 0, 64), part("s31", "v31", 0, 32),
    part("h31", "v31", 0, 16), part("b31", "v31", 0, 8),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sound() {
        for machine in [Machine::X64, Machine::X86, Machine::Arm64] {
            let layout = layout(machine);
            let mut end = 0;
            let mut slots = layout.context.to_vec();
            slots.sort_by_key(|slot| slot.offset);
            for slot in &slots {
                assert!(slot.offset >= end, "{machine} {}", slot.name);
                end = slot.offset + slot.size;
            }
            assert!(end <= layout.context_size);
            for part in layout.parts {
                let slot = slots.iter().find(|slot| slot.name == part.of).unwrap();
                assert!(part.shift + part.bits <= slot.size as u32 * 8, "{}", part.name);
                assert!(slots.iter().all(|slot| slot.name != part.name), "{}", part.name);
            }
        }
    }
}
