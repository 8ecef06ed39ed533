//! Physical memory: a machine's RAM as runs of frames, of which only the written ones are kept.

use kd_sdk::address::{PAGE_SIZE, Pa, Pfn};
use std::collections::BTreeMap;

const PAGE: usize = PAGE_SIZE as usize;

/// Who a frame belongs to. Kernel dumps leave user frames out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// Kernel code, data, page tables.
    Kernel,
    /// Memory of a user process.
    User,
}

/// A stretch of frames: the first and how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// The first frame.
    pub base: u64,
    /// How many frames follow, the first included.
    pub count: u64,
}

struct Frame {
    owner: Owner,
    bytes: Box<[u8; PAGE]>,
}

/// The RAM of a machine. Frames are handed out upwards; those never written read as zeros.
pub struct PhysicalMemory {
    ram: Vec<Run>,
    frames: BTreeMap<u64, Frame>,
    next: u64,
}

impl PhysicalMemory {
    /// RAM made of `runs`, in ascending order; frame 0 must not be among them.
    pub fn new(runs: &[Run]) -> Self {
        assert!(
            runs.iter().all(|r| r.base > 0) && runs.windows(2).all(|w| w[0].base + w[0].count < w[1].base)
        );
        PhysicalMemory { ram: runs.to_vec(), frames: BTreeMap::new(), next: runs[0].base }
    }

    /// The runs of RAM, as the firmware reported them.
    pub fn ram(&self) -> &[Run] {
        &self.ram
    }

    /// The lowest frame that may still be free.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes the next free frame, filled with zeros.
    pub fn allocate(&mut self, owner: Owner) -> Pfn {
        let pfn = self.reserve(1, 1);
        self.commit(pfn, owner);
        pfn
    }

    /// Takes `count` free frames in a row, the first a multiple of `align`, without giving them contents.
    ///
    /// Such frames exist in RAM but are not captured by dumps that hold only used memory, until [`Self::commit`].
    pub fn reserve(&mut self, count: u64, align: u64) -> Pfn {
        for run in &self.ram {
            let first = self.next.max(run.base).next_multiple_of(align);
            if first + count <= run.base + run.count {
                self.next = first + count;
                return Pfn(first);
            }
        }
        panic!("the machine has no {count} free frames left");
    }

    /// Gives a reserved frame contents (zeros), so that dumps capture it.
    pub fn commit(&mut self, pfn: Pfn, owner: Owner) {
        assert!(
            self.ram.iter().any(|r| (r.base..r.base + r.count).contains(&pfn.0)),
            "frame {:#x} is not RAM",
            pfn.0
        );
        self.frames.entry(pfn.0).or_insert_with(|| Frame { owner, bytes: Box::new([0; PAGE]) });
    }

    /// Takes back a frame's contents: it is free again, but not handed out.
    pub fn release(&mut self, pfn: Pfn) {
        self.frames.remove(&pfn.0);
    }

    /// The contents of a frame, if it has any.
    pub fn frame(&self, pfn: Pfn) -> Option<&[u8; PAGE]> {
        self.frames.get(&pfn.0).map(|f| &*f.bytes)
    }

    /// The frames of a run that have contents, in ascending order.
    pub fn frames(&self, run: Run) -> impl Iterator<Item = (Pfn, &[u8; PAGE])> {
        self.frames.range(run.base..run.base + run.count).map(|(&pfn, f)| (Pfn(pfn), &*f.bytes))
    }

    /// The frames with contents, in ascending order; without user memory if `kernel_only`.
    pub fn captured(&self, kernel_only: bool) -> impl Iterator<Item = (Pfn, &[u8; PAGE])> {
        let wanted = move |f: &Frame| !kernel_only || f.owner == Owner::Kernel;
        self.frames.iter().filter(move |(_, f)| wanted(f)).map(|(&pfn, f)| (Pfn(pfn), &*f.bytes))
    }

    /// Writes bytes at a physical address. They must lie in one frame, which must have contents.
    pub fn write(&mut self, pa: Pa, bytes: &[u8]) {
        let frame = self
            .frames
            .get_mut(&pa.pfn().0)
            .unwrap_or_else(|| panic!("frame of {:#x} has no contents", pa.0));
        let at = pa.page_offset() as usize;
        frame.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Reads an integer of `size` bytes (at most 8) at a physical address; zero where there are no contents.
    pub fn read_uint(&self, pa: Pa, size: usize) -> u64 {
        let at = pa.page_offset() as usize;
        let mut value = [0; 8];
        if let Some(frame) = self.frame(pa.pfn()) {
            value[..size].copy_from_slice(&frame[at..at + size]);
        }
        u64::from_le_bytes(value)
    }
}
