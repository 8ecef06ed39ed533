//! A small Windows system at the moment of its crash: a driver of ours read freed memory at raised IRQL.
//!
//! [`World::build`] reads top-down as the order in which things come to be. What a reader should find in the system
//! is in [`World::truth`]; where to find it is in the fields. Layouts come from [`super::layout`] only.

mod counters;
mod crash;
mod drivers;
mod errors;
mod fields;
mod files;
mod heap;
mod machine;
mod narrow;
mod objects;
mod pages;
mod parts;
mod pool;
mod regions;
mod requests;
mod scheduler;
mod sections;
mod security;
mod sessions;
mod society;
mod stories;
mod story;
mod told;
mod truth;
mod user;
mod vads;
mod waits;

pub use pages::{Frame, FrameState};
pub use parts::physical_memory_descriptor;
pub use pool::{PoolBlock, PoolCount, PoolKind, PoolPlace, Pools};
pub use sections::Section;
pub use story::Story;

use super::cpu::Registers;
use super::image::Image;
use super::kdbg;
use super::layout::{Generation, Machine};
use super::memory::{Owner, PhysicalMemory, Run};
use super::paging::{AddressSpace, Scheme, Size};
use kd_sdk::address::{PAGE_SIZE, Pa, Va};

/// 17 May 2024, 10:20:30 UTC: the crash, as `FILETIME`.
pub const SYSTEM_TIME: u64 = 133_604_148_300_000_000;
/// 3 h 25 min 45.678 s since boot, in units of 100 ns.
pub const UP_TIME: u64 = 123_456_780_000;
/// What the header's comment says.
pub const COMMENT: &str = "made by the kd laboratory";

/// What to build.
#[derive(Clone, Copy)]
pub struct Options {
    /// The release of Windows.
    pub generation: &'static Generation,
    /// Number of processors, at most 32.
    pub processors: u32,
    /// Five-level paging (x64).
    pub five_levels: bool,
    /// Physical address extension (x86).
    pub pae: bool,
    /// Hide the debugger data block, as a system booted without debugger does.
    pub encoded: bool,
    /// What happened to the system.
    pub story: Story,
    /// Processes and threads besides those of the story.
    pub crowd: (u64, u64),
    /// Frame bits inverted in entries that are not valid; zero before the L1TF mitigation.
    pub swizzle: u64,
    /// Bytes of pool that only make a system large.
    pub pool_bytes: u64,
    /// How many frames the PFN database describes at most.
    pub described: u64,
    /// What few systems have: a fast resource, a threaded deferred call, type indices that are hidden with 0.
    pub unusual: bool,
}

impl Options {
    /// Two processors and the usual paging of a generation, nothing hidden.
    pub fn new(generation: &str) -> Options {
        Options {
            generation: Generation::named(generation),
            processors: 2,
            five_levels: false,
            pae: true,
            encoded: false,
            story: Story::Sample,
            crowd: (0, 0),
            swizzle: 0,
            pool_bytes: 0,
            described: u64::MAX,
            unusual: false,
        }
    }

    /// A story on built kernels.
    pub fn of(generation: &str, story: Story) -> Options {
        let crowd = if story == Story::Huge { (2_000, 30_000) } else { (0, 0) };
        let plain = Options::new(generation);
        // As wide as the entries that the generation's symbols describe.
        let pae = plain.generation.at("_MMPTE") == 8;
        let hides = plain.generation.machine == Machine::X64 && plain.generation.build >= 19041;
        let swizzle = if hides { 1 << 45 } else { 0 };
        let (described, pool_bytes) = if story == Story::Huge { (1 << 20, 64 << 20) } else { (u64::MAX, 0) };
        Options { story, crowd, processors: 3, pae, swizzle, described, pool_bytes, ..plain }
    }

    fn scheme(&self) -> Scheme {
        match (self.generation.machine, self.five_levels, self.pae) {
            (Machine::X86, _, true) => Scheme::X86Pae,
            (Machine::X86, _, false) => Scheme::X86,
            (Machine::X64, true, _) => Scheme::X64Level5,
            (Machine::X64, false, _) => Scheme::X64,
            (Machine::Arm64, ..) => Scheme::Arm64,
        }
    }
}

/// One processor.
pub struct Processor {
    /// Its number.
    pub number: u32,
    /// Its `KPRCB`.
    pub prcb: Va,
    /// The context the kernel saved for it, where `KPRCB.Context` points.
    pub context: Va,
    /// The registers in that context.
    pub registers: Registers,
}

/// One process.
pub struct Process {
    /// Its `EPROCESS`.
    pub eprocess: Va,
    /// `UniqueProcessId`.
    pub id: u64,
    /// `ImageFileName`.
    pub name: String,
    /// Root of its page tables.
    pub directory_table_base: Pa,
}

/// One frame of a thread's stack.
#[derive(Clone, Debug)]
pub struct StackFrame {
    /// Program counter; for callers, the return address.
    pub pc: u64,
    /// Stack pointer in that frame.
    pub sp: u64,
    /// `module!name+0xoffset`.
    pub symbol: String,
}

/// One thread of a story.
pub struct Thread {
    /// Its `ETHREAD`.
    pub ethread: Va,
    /// `Cid.UniqueProcess`.
    pub process: u64,
    /// `Cid.UniqueThread`.
    pub id: u64,
    /// `KTHREAD.State`: 2 runs, 5 waits.
    pub state: u8,
    /// Its stack, innermost frame first. Frames with user addresses lie in user memory.
    pub stack: Vec<StackFrame>,
    /// The object it waits for.
    pub waits_for: Option<Va>,
}

/// What the system found wrong, in the terms of the dump header.
#[derive(Default)]
pub struct Crash {
    /// The bug check code.
    pub code: u32,
    /// Its parameters.
    pub parameters: [u64; 4],
    /// Address of the instruction that faulted.
    pub exception_address: u64,
    /// Read (0) or write (1), and the address.
    pub exception_information: [u64; 2],
    /// Registers at the fault: the header's context record.
    pub registers: Registers,
    /// The stack of the crashing thread from `KeBugCheckEx` down.
    pub stack: Vec<StackFrame>,
}

/// What a virtual address of the crashing process should answer.
pub struct Probe {
    /// The address.
    pub va: Va,
    /// One of `valid`, `transition`, `page file`, `demand zero`, `prototype`, `not mapped`, `not captured`.
    pub state: &'static str,
    /// What the memory begins with, where it can be read.
    pub text: &'static str,
    /// Whose memory it is.
    pub owner: Owner,
}

/// The system.
pub struct World {
    /// What it was built from.
    pub options: Options,
    /// Its RAM.
    pub memory: PhysicalMemory,
    /// The address space of the System process.
    pub system: AddressSpace,
    /// The address space of the process that crashed it.
    pub user: AddressSpace,
    /// Kernel, HAL and drivers, in load order.
    pub images: Vec<Image>,
    /// Name, start and end of drivers no longer loaded, the last unloaded last.
    pub unloaded: Vec<(&'static str, u64, u64)>,
    /// All processors.
    pub processors: Vec<Processor>,
    /// The processes, System first.
    pub processes: Vec<Process>,
    /// The threads of a story.
    pub threads: Vec<Thread>,
    /// What else is true of a story, by subject, for [`World::truth`].
    pub facts: serde_json::Map<String, serde_json::Value>,
    /// `ETHREAD` of the thread that crashed.
    pub thread: Va,
    /// Lowest and highest address of its kernel stack.
    pub stack: (Va, Va),
    /// The crash itself.
    pub crash: Crash,
    /// Addresses to try.
    pub probes: Vec<Probe>,
    /// The debugger data block, plain even where memory holds it encoded.
    pub debugger_data: Vec<u8>,
    /// Secondary data of Windows: tags as they stand in files, and the data.
    pub secondary: Vec<([u8; 16], Vec<u8>)>,
    pool: Va,
    /// Every block of pool, and what the trackers tell.
    pub pools: Pools,
    /// Sections with their frames.
    pub sections: Vec<Section>,
    /// The frames that are neither free nor zeroed, in ascending order.
    pub frames: Vec<Frame>,
    plan: pages::Plan,
    objects: objects::Objects,
    files: files::Files,
    spaces: Vec<AddressSpace>,
    /// Images of the program and of the system's user half.
    pub user_images: Vec<Image>,
    /// Images of the program's 32-bit half.
    pub narrow_images: Vec<Image>,
    /// Lowest and highest address of each thread's kernel stack, as in `threads`.
    stack_limits: Vec<(Va, Va)>,
    /// An event that nobody signals.
    event: Va,
}

impl World {
    /// Builds the system.
    pub fn build(options: Options) -> World {
        let generation = options.generation;
        let frames = match options.story {
            Story::Sample => 0x800,
            Story::Huge => (64 << 30) / PAGE_SIZE,
            _ => 0x4000,
        };
        let mut memory =
            PhysicalMemory::new(&[Run { base: 1, count: 0x9e }, Run { base: 0x100, count: frames }]);
        let mut system = AddressSpace::new(options.scheme(), &mut memory);
        let mut user = AddressSpace::new(options.scheme(), &mut memory);
        system.swizzle = options.swizzle;
        user.swizzle = options.swizzle;
        if options.story != Story::Sample {
            let file = generation.place("_MMPTE_SOFTWARE.PageFileLow").1.map_or(0, |bits| bits.0);
            (system.file_bit, user.file_bit) = (file, file);
        }
        let mut world = World {
            options,
            memory,
            system,
            user,
            images: Vec::new(),
            unloaded: Vec::new(),
            processors: Vec::new(),
            processes: Vec::new(),
            threads: Vec::new(),
            facts: serde_json::Map::new(),
            objects: objects::Objects::default(),
            pools: Pools::default(),
            sections: Vec::new(),
            frames: Vec::new(),
            plan: pages::Plan::default(),
            files: files::Files::default(),
            spaces: Vec::new(),
            user_images: Vec::new(),
            narrow_images: Vec::new(),
            stack_limits: Vec::new(),
            event: Va(0),
            thread: Va(0),
            stack: (Va(0), Va(0)),
            crash: Crash::default(),
            probes: Vec::new(),
            debugger_data: Vec::new(),
            secondary: Vec::new(),
            pool: Va(if generation.machine == Machine::X86 { 0x8900_0000 } else { 0xffff_ac0f_1240_0000 }),
        };
        if options.story != Story::Sample {
            world.tell();
            return world;
        }
        world.load_images();
        world.fill_kernel_variables();
        world.list_modules();
        world.start_processors();
        world.start_processes();
        world.share_user_data();
        world.crash();
        world.lay_probes();
        world.write_debugger_data();
        world.close_tables();
        world
    }

    /// Makes the page tables see themselves and gives every process the kernel's half.
    fn close_tables(&mut self) {
        let generation = self.options.generation;
        let World { memory, system, user, spaces, .. } = self;
        if !matches!(system.scheme, Scheme::X64Level5) {
            system.map_self(memory, Va(generation.pte_base));
        }
        user.share_kernel(memory, system);
        if !matches!(user.scheme, Scheme::X64Level5 | Scheme::X86Pae) {
            user.map_self(memory, Va(generation.pte_base));
        }
        for space in spaces {
            space.share_kernel(memory, system);
            if !matches!(space.scheme, Scheme::X64Level5 | Scheme::X86Pae) {
                space.map_self(memory, Va(generation.pte_base));
            }
        }
    }

    /// The image of this name; `nt` is the kernel.
    pub fn image(&self, name: &str) -> &Image {
        let mut all = self.images.iter().chain(&self.user_images);
        let found = all.find(|i| i.name == name || (name == "nt" && i.name == "ntoskrnl.exe"));
        found.unwrap_or_else(|| panic!("no image {name}"))
    }

    /// Writes the symbols of all images into a folder, laid out as a symbol store.
    pub fn write_symbols(&self, folder: &std::path::Path) -> std::io::Result<()> {
        for image in self.images.iter().chain(&self.user_images).chain(&self.narrow_images) {
            let store = folder.join(&image.pdb).join(image.symbol_key());
            std::fs::create_dir_all(&store)?;
            let symbols = image.symbols_file.clone();
            let symbols = symbols.unwrap_or_else(|| super::pdb::pdb(self.options.generation, image));
            std::fs::write(store.join(&image.pdb), symbols)?;
        }
        Ok(())
    }

    /// The address of a kernel variable or function.
    pub fn nt(&self, name: &str) -> Va {
        self.variable(name).unwrap_or_else(|| panic!("the kernel has no {name}"))
    }

    /// Reads memory as the crashing process sees it; zeros for frames that were never captured.
    pub fn read(&self, va: Va, size: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let at = va.add(bytes.len() as u64);
            let pa =
                self.user.translate(&self.memory, at).or_else(|| self.system.translate(&self.memory, at))?;
            let take = (size - bytes.len()).min((PAGE_SIZE - pa.page_offset()) as usize);
            let start = pa.page_offset() as usize;
            match self.memory.frame(pa.pfn()) {
                Some(frame) => bytes.extend(&frame[start..start + take]),
                None => bytes.resize(bytes.len() + take, 0),
            }
        }
        Some(bytes)
    }

    /// Reads a pointer of the system's size.
    pub fn read_pointer(&self, va: Va) -> Va {
        let mut wide = [0; 8];
        let size = self.options.generation.machine.pointer_size();
        wide[..size]
            .copy_from_slice(&self.read(va, size).unwrap_or_else(|| panic!("{:#x} is not mapped", va.0)));
        Va(u64::from_le_bytes(wide))
    }

    /// Writes memory of the system or of the crashing process, which must be mapped.
    pub(super) fn write(&mut self, va: Va, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = va.add(done as u64);
            let pa =
                self.system.translate(&self.memory, at).or_else(|| self.user.translate(&self.memory, at));
            let pa = pa.unwrap_or_else(|| panic!("{:#x} is not mapped", at.0));
            let take = (bytes.len() - done).min((PAGE_SIZE - pa.page_offset()) as usize);
            self.memory.write(pa, &bytes[done..done + take]);
            done += take;
        }
    }

    /// Writes a pointer of the system's size.
    pub(super) fn write_pointer(&mut self, va: Va, value: u64) {
        self.write(va, &value.to_le_bytes()[..self.options.generation.machine.pointer_size()]);
    }

    /// Writes an integer, pointer or bit field, if this generation has it; larger fields get zeros behind the value.
    pub(in crate::lab) fn set(&mut self, base: Va, path: &str, value: u64) {
        let generation = self.options.generation;
        let Some(offset) = generation.find(path) else { return };
        let (width, bits) = generation.place(path);
        let mut bytes = [0; 8];
        let width = width.min(8);
        let mut value = value;
        if let Some((first, count)) = bits {
            let at = base.add(offset);
            let old = self.read(at, width).unwrap_or_else(|| panic!("{:#x} is not mapped", at.0));
            bytes[..width].copy_from_slice(&old);
            let mask = (u64::MAX >> (64 - count)) << first;
            value = u64::from_le_bytes(bytes) & !mask | (value << first) & mask;
        }
        self.write(base.add(offset), &value.to_le_bytes()[..width]);
    }

    /// Maps fresh kernel pages over a range.
    fn map_range(&mut self, va: Va, size: u64) {
        let mut page = va.page();
        while page.0 < va.0 + size {
            let frame = self.memory.allocate(Owner::Kernel);
            self.system.map(&mut self.memory, page, frame, Size::Small, Owner::Kernel);
            page = page.add(PAGE_SIZE);
        }
    }

    /// Takes zeroed pool memory, 16-byte aligned.
    fn allocate(&mut self, size: u64) -> Va {
        if self.options.story != Story::Sample {
            return self.pool_block(b"Lab ", size);
        }
        let start = self.pool;
        self.pool = Va((start.0 + size).next_multiple_of(16));
        let mapped = Va(start.0.next_multiple_of(PAGE_SIZE));
        if self.pool.0 > mapped.0 {
            self.map_range(mapped, self.pool.0 - mapped.0);
        }
        start
    }

    /// Makes a list head point to itself.
    fn start_list(&mut self, head: Va) {
        self.write_pointer(head, head.0);
        self.write_pointer(head.add(self.options.generation.at("_LIST_ENTRY.Blink")), head.0);
    }

    /// Puts an entry at the end of a list.
    fn append(&mut self, head: Va, entry: Va) {
        let blink = self.options.generation.at("_LIST_ENTRY.Blink");
        let last = self.read_pointer(head.add(blink));
        self.write_pointer(last, entry.0);
        self.write_pointer(entry, head.0);
        self.write_pointer(entry.add(blink), last.0);
        self.write_pointer(head.add(blink), entry.0);
    }

    /// Fills a `UNICODE_STRING`; its characters go to the pool.
    fn write_string(&mut self, at: Va, text: &str) {
        let characters = super::bytes::utf16(text);
        let buffer = self.allocate(characters.len() as u64 + 2);
        self.write(buffer, &characters);
        self.set(at, "_UNICODE_STRING.Length", characters.len() as u64);
        self.set(at, "_UNICODE_STRING.MaximumLength", characters.len() as u64 + 2);
        self.set(at, "_UNICODE_STRING.Buffer", buffer.0);
    }

    fn write_debugger_data(&mut self) {
        let pae = self.system.scheme.entry_size() == 8;
        self.debugger_data = kdbg::plain(self.options.generation, pae, |name| self.nt(name).0);
        let image = self.image("nt");
        let old = kdbg::OLD_POINTERS
            .iter()
            .filter(|p| self.options.generation.build < 19041 && image.symbols.iter().any(|s| s.name == p.1));
        let old: Vec<(usize, u64)> = old.map(|p| (p.0, image.address_of(p.1))).collect();
        for (at, va) in old {
            let wide = self.options.generation.machine != Machine::X86;
            let va = if wide { va } else { i64::from(va as i32) as u64 };
            self.debugger_data[at..at + 8].copy_from_slice(&va.to_le_bytes());
        }
        let mut block = self.debugger_data.clone();
        if self.options.encoded {
            let (never, always) = (0x8642_0975_31fe_dcba, 0x0f1e_2d3c_4b5a_6978);
            let flag = self.nt("KdpDataBlockEncoded");
            kdbg::encode(&mut block, never, always, flag.0);
            self.write(self.nt("KiWaitNever"), &u64::to_le_bytes(never));
            self.write(self.nt("KiWaitAlways"), &u64::to_le_bytes(always));
            self.write(flag, &[1]);
        }
        self.write(self.nt("KdDebuggerDataBlock"), &block);
        let head = self.nt("KdpDebuggerDataListHead");
        self.write_pointer(head, self.nt("KdDebuggerDataBlock").0);
        let blink = self.options.generation.at("_LIST_ENTRY.Blink");
        self.write_pointer(head.add(blink), self.nt("KdDebuggerDataBlock").0);
    }
}
