//! The machine that crashed: version, bug check, modules, registers, processors.

use crate::abi::{self, RStr, status};
use crate::address::{Pa, Va};
use crate::error::Result;
use crate::session::Session;

pub use crate::abi::{ExceptionInfo, ProcessorInfo, registers, text};

/// The machine that crashed.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub(crate) session: &'a Session<'a>,
}

/// The processor architecture of the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machine {
    /// 32-bit x86.
    X86,
    /// 64-bit x86.
    X64,
    /// 64-bit Arm.
    Arm64,
}

/// A bug check: code and parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BugCheck {
    /// The code as the dump stores it.
    pub raw_code: u32,
    /// Parameters.
    pub parameters: [u64; 4],
}

impl BugCheck {
    /// The code without the mark that small dumps add (0x1000007E is 0x7E).
    pub fn code(&self) -> u32 {
        if self.raw_code & 0xf000_0000 == 0x1000_0000 { self.raw_code & 0x0fff_ffff } else { self.raw_code }
    }
}

/// A loaded module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// First byte.
    pub base: Va,
    /// Bytes.
    pub size: u64,
    /// Link time stamp of the image.
    pub time_stamp: u32,
    /// Image check sum.
    pub check_sum: u32,
    /// True for the kernel itself.
    pub is_kernel: bool,
    /// Short name, `nt`.
    pub name: String,
    /// File name, `ntoskrnl.exe`.
    pub image: String,
    /// Path as Windows stores it.
    pub path: String,
    /// Its KLDR_DATA_TABLE_ENTRY; null if unknown.
    pub loader_entry: Va,
}

/// An unloaded module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnloadedModule {
    /// First byte.
    pub start: Va,
    /// Byte after the last.
    pub end: Va,
    /// FILETIME; 0 if unknown.
    pub unload_time: u64,
    /// Name as Windows kept it.
    pub name: String,
}

impl<'a> Target<'a> {
    /// All the numbers.
    pub fn info(&self) -> &'a abi::TargetInfo {
        self.session.info()
    }

    /// True where a dump is open: for commands that need none for some of their forms.
    pub fn is_open(&self) -> bool {
        self.info().machine != 0
    }

    /// True for a dump that is nothing but its header.
    pub fn holds_no_memory(&self) -> bool {
        self.is_open() && self.info().present & 0x30 == 0
    }

    /// The architecture.
    pub fn machine(&self) -> Machine {
        match self.info().machine {
            0x14c => Machine::X86,
            0xaa64 => Machine::Arm64,
            _ => Machine::X64,
        }
    }

    /// 4 or 8.
    pub fn pointer_size(&self) -> u32 {
        if self.info().pointer_size == 4 { 4 } else { 8 }
    }

    /// True for an address in the kernel's half of memory.
    pub fn is_kernel(&self, va: Va) -> bool {
        if self.pointer_size() == 4 { va.0 >= 0x8000_0000 } else { va.0 >> 56 == 0xff }
    }

    /// An address as KD prints it for this target.
    pub fn show(&self, va: Va) -> String {
        va.show(self.pointer_size()).to_string()
    }

    /// The bug check, if there was one.
    pub fn bug_check(&self) -> Option<BugCheck> {
        let info = self.info();
        (info.present & 1 != 0).then_some(BugCheck { raw_code: info.bug_check, parameters: info.parameters })
    }

    /// A text about the target (see [`text`]).
    pub fn text(&self, id: u32) -> Option<String> {
        let mut answer = String::new();
        let code = self.session.calls.text(id, &mut answer);
        (code == status::OK).then_some(answer)
    }

    /// Loaded modules, ordered by base.
    pub fn modules(&self) -> impl Iterator<Item = Module> + use<'a> {
        let this = *self;
        (0..).map_while(move |index| this.module(index))
    }

    /// A loaded module by its index.
    pub fn module(&self, index: u64) -> Option<Module> {
        let empty = RStr::from_str("");
        let mut info = abi::ModuleInfo {
            base: 0,
            size: 0,
            time_stamp: 0,
            check_sum: 0,
            flags: 0,
            reserved: 0,
            name: empty,
            image: empty,
            path: empty,
            loader_entry: 0,
        };
        let code = self.session.calls.module(index, &mut info);
        (code == status::OK).then(|| Module {
            base: Va(info.base),
            size: info.size,
            time_stamp: info.time_stamp,
            check_sum: info.check_sum,
            is_kernel: info.flags & 1 != 0,
            name: info.name.to_string(),
            image: info.image.to_string(),
            path: info.path.to_string(),
            loader_entry: Va(info.loader_entry),
        })
    }

    /// The module that holds `va`.
    pub fn module_at(&self, va: Va) -> Option<Module> {
        let mut index = 0;
        let code = self.session.calls.module_at(va.0, &mut index);
        if code == status::OK { self.module(index) } else { None }
    }

    /// Unloaded modules, latest first where the dump says so.
    pub fn unloaded_modules(&self) -> impl Iterator<Item = UnloadedModule> + use<'a> {
        let this = *self;
        (0..).map_while(move |index| this.unloaded_module(index))
    }

    fn unloaded_module(&self, index: u64) -> Option<UnloadedModule> {
        let mut info = abi::UnloadedInfo { start: 0, end: 0, unload_time: 0, name: RStr::from_str("") };
        let code = self.session.calls.unloaded(index, &mut info);
        (code == status::OK).then(|| UnloadedModule {
            start: Va(info.start),
            end: Va(info.end),
            unload_time: info.unload_time,
            name: info.name.to_string(),
        })
    }

    /// A register of a set (see [`registers`]) by its name, `rip`, `x0`.
    pub fn register(&self, set: u32, name: &str) -> Result<u64> {
        let mut value = 0;
        let code = self.session.calls.register(set, name, &mut value);
        self.session.check(code)?;
        Ok(value)
    }

    /// The instruction pointer of a register set.
    pub fn instruction_pointer(&self, set: u32) -> Result<Va> {
        let name = match self.machine() {
            Machine::X86 => "eip",
            Machine::X64 => "rip",
            Machine::Arm64 => "pc",
        };
        self.register(set, name).map(Va)
    }

    /// The stack pointer of a register set.
    pub fn stack_pointer(&self, set: u32) -> Result<Va> {
        let name = match self.machine() {
            Machine::X86 => "esp",
            Machine::X64 => "rsp",
            Machine::Arm64 => "sp",
        };
        self.register(set, name).map(Va)
    }

    /// The exception record of the dump.
    pub fn exception(&self) -> Option<ExceptionInfo> {
        let mut exception = ExceptionInfo::default();
        let code = self.session.calls.exception(&mut exception);
        (code == status::OK).then_some(exception)
    }

    /// A processor by its number.
    pub fn processor(&self, number: u32) -> Option<ProcessorInfo> {
        let mut processor = ProcessorInfo::default();
        let code = self.session.calls.processor(number, &mut processor);
        (code == status::OK).then_some(processor)
    }

    /// An 8-byte field of KDDEBUGGER_DATA64 by its offset, decoded; `None` where the block has none or it is 0.
    pub fn kd_data(&self, offset: u32) -> Option<u64> {
        self.kd_data_field(offset, 8)
    }

    /// A 2-byte field of KDDEBUGGER_DATA64 (the `Offset…` and `Size…` fields); `None` where it is 0 or 0xffff.
    pub fn kd_data_offset(&self, offset: u32) -> Option<u64> {
        self.kd_data_field(offset, 2).filter(|&value| value != 0xffff)
    }

    fn kd_data_field(&self, offset: u32, size: u32) -> Option<u64> {
        let mut value = 0;
        let code = self.session.calls.kd_data(offset, size, &mut value);
        (code == status::OK && value != 0).then_some(value)
    }

    /// The directory table base of the header.
    pub fn directory_table_base(&self) -> Pa {
        Pa(self.info().directory_table_base)
    }

    /// Tagged secondary data: GUID in memory order, and the bytes (at most 1 MiB of each).
    pub fn tagged_data(&self) -> impl Iterator<Item = ([u8; 16], Vec<u8>)> + use<'a> {
        let this = *self;
        (0..).map_while(move |index| this.tagged(index).ok())
    }

    fn tagged(&self, index: u64) -> Result<([u8; 16], Vec<u8>)> {
        let (session, mut info) = (self.session, abi::TaggedInfo::default());
        session.check(session.calls.tagged(index, &mut info))?;
        let mut bytes = vec![0; usize::try_from(info.size.min(1 << 20)).unwrap_or(0)];
        let mut done = 0;
        session.check(session.calls.read_tagged(index, 0, &mut bytes, &mut done))?;
        bytes.truncate(usize::try_from(done).unwrap_or(0));
        Ok((info.tag, bytes))
    }
}
