//! Blocks of virtual memory, which is all the memory a small dump has.
//!
//! Blocks of a file may overlap and stand in any order; here they are kept as disjoint ranges in ascending order,
//! so that a lookup is one binary search. What lies behind the end of the file is remembered as broken.

use std::borrow::Cow;
use std::sync::Arc;

use kd_sdk::address::Va;

use super::header::FileRange;
use super::mapped::MappedFile;
use super::physical::Absent;

/// What a block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum BlockKind {
    /// An entry of the table of data blocks.
    Data,
    /// The stack of the current thread, from `TopOfStack`.
    CallStack,
    /// `KDDEBUGGER_DATA64`.
    DebuggerData,
    /// The page that `DataPageAddress` names.
    DataPage,
    /// The saved `KPRCB`.
    Prcb,
    /// The saved `EPROCESS`.
    Process,
    /// The saved `ETHREAD`.
    Thread,
}

impl BlockKind {
    /// A short plain name.
    pub fn name(self) -> &'static str {
        match self {
            BlockKind::Data => "data block",
            BlockKind::CallStack => "call stack",
            BlockKind::DebuggerData => "debugger data",
            BlockKind::DataPage => "data page",
            BlockKind::Prcb => "processor control block",
            BlockKind::Process => "process",
            BlockKind::Thread => "thread",
        }
    }
}

/// A range of virtual memory and where the file holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// The first address.
    pub va: Va,
    /// The bytes in the file.
    pub file: FileRange,
    /// What it is.
    pub kind: BlockKind,
}

impl Block {
    /// The address after the last byte, saturated.
    pub fn end(&self) -> u64 {
        self.va.0.saturating_add(self.file.size)
    }
}

/// All blocks of a dump: disjoint, ascending.
#[derive(Clone, Debug)]
pub struct VirtualBlocks {
    file: Arc<MappedFile>,
    source: Vec<Block>,
    blocks: Vec<Block>,
    broken: Vec<Block>,
}

impl VirtualBlocks {
    /// Orders `source`, cuts overlaps (the block that starts first wins) and sets apart what the file lost.
    pub(crate) fn new(file: Arc<MappedFile>, source: Vec<Block>) -> VirtualBlocks {
        let mut present = Vec::with_capacity(source.len());
        let mut broken = Vec::new();
        for block in &source {
            let held = file.size().saturating_sub(block.file.offset).min(block.file.size);
            if held > 0 {
                present.push(Block { file: FileRange { size: held, ..block.file }, ..*block });
            }
            if held < block.file.size {
                let file = FileRange {
                    offset: block.file.offset.saturating_add(held),
                    size: block.file.size - held,
                };
                if let Some(va) = block.va.0.checked_add(held) {
                    broken.push(Block { va: Va(va), file, kind: block.kind });
                }
            }
        }
        VirtualBlocks { file, source, blocks: disjoint(present), broken: disjoint(broken) }
    }

    /// These blocks and more, for ranges whose address only the layers above can tell.
    pub fn with(&self, more: impl IntoIterator<Item = Block>) -> VirtualBlocks {
        let mut source = self.source.clone();
        source.extend(more);
        VirtualBlocks::new(self.file.clone(), source)
    }

    /// The blocks as the file lists them: unsorted, with overlaps and cut ones.
    pub fn source(&self) -> &[Block] {
        &self.source
    }

    /// The readable ranges: disjoint, ascending.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The ranges that the file should hold and does not: disjoint, ascending.
    pub fn broken(&self) -> &[Block] {
        &self.broken
    }

    /// The readable range that holds `va`.
    pub fn find(&self, va: Va) -> Option<&Block> {
        find(&self.blocks, va)
    }

    /// The bytes from `va` to the end of its range, at most `max`.
    pub fn bytes(&self, va: Va, max: usize) -> Result<Cow<'_, [u8]>, Absent> {
        let Some(block) = self.find(va) else {
            let broken = find(&self.broken, va).is_some();
            return Err(if broken { Absent::Broken } else { Absent::NotCaptured });
        };
        let skip = va.0.saturating_sub(block.va.0);
        let left = usize::try_from(block.file.size.saturating_sub(skip)).unwrap_or(usize::MAX);
        self.file.get(block.file.offset.saturating_add(skip), left.min(max)).ok_or(Absent::Broken)
    }

    /// The lowest readable address at or above `va`.
    pub fn next_readable(&self, va: Va) -> Option<Va> {
        if self.find(va).is_some() {
            return Some(va);
        }
        let next = self.blocks.partition_point(|block| block.va <= va);
        self.blocks.get(next).map(|block| block.va)
    }
}

fn find(blocks: &[Block], va: Va) -> Option<&Block> {
    let after = blocks.partition_point(|block| block.va <= va);
    let block = blocks.get(after.checked_sub(1)?)?;
    (va.0 - block.va.0 < block.file.size).then_some(block)
}

fn disjoint(mut blocks: Vec<Block>) -> Vec<Block> {
    blocks.retain(|block| block.file.size > 0);
    // Among blocks with one start the longest comes first and covers the others.
    blocks.sort_by_key(|block| (block.va, std::cmp::Reverse(block.file.size)));
    let mut end = 0u64;
    let mut result: Vec<Block> = Vec::with_capacity(blocks.len());
    for mut block in blocks {
        let skip = end.saturating_sub(block.va.0);
        if skip >= block.file.size {
            continue;
        }
        block.va = block.va.add(skip);
        block.file.offset = block.file.offset.saturating_add(skip);
        block.file.size -= skip;
        // A block cannot wrap around the end of the address space.
        let room = u64::MAX - block.va.0;
        block.file.size = block.file.size.min(room.saturating_add(1));
        end = block.end();
        result.push(block);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(size: usize) -> Arc<MappedFile> {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
        file.write_all(&bytes).unwrap();
        Arc::new(MappedFile::new(file, false).unwrap())
    }

    fn block(va: u64, offset: u64, size: u64) -> Block {
        Block { va: Va(va), file: FileRange { offset, size }, kind: BlockKind::Data }
    }

    #[test]
    fn overlaps_are_cut_and_the_cut_is_broken() {
        let blocks = VirtualBlocks::new(
            file(0x100),
            vec![block(0x2000, 0x80, 0x100), block(0x1000, 0, 0x20), block(0x1010, 0x40, 0x20)],
        );
        assert_eq!(blocks.blocks().len(), 3);
        assert_eq!(blocks.bytes(Va(0x1010), 1).unwrap().as_ref(), [0x10]);
        assert_eq!(blocks.bytes(Va(0x1020), 100).unwrap().as_ref(), (0x50..0x60).collect::<Vec<u8>>());
        assert_eq!(blocks.bytes(Va(0x1030), 1).unwrap_err(), Absent::NotCaptured);
        assert_eq!(blocks.bytes(Va(0x207f), 9).unwrap().as_ref(), [0xff]);
        assert_eq!(blocks.bytes(Va(0x2080), 9).unwrap_err(), Absent::Broken);
        assert_eq!(blocks.next_readable(Va(0)), Some(Va(0x1000)));
        assert_eq!(blocks.next_readable(Va(0x1030)), Some(Va(0x2000)));
        assert_eq!(blocks.next_readable(Va(0x2080)), None);
    }

    #[test]
    fn a_block_at_the_end_of_the_address_space_does_not_wrap() {
        let blocks = VirtualBlocks::new(file(0x100), vec![block(u64::MAX - 3, 0, 0x100), block(0, 0, 1)]);
        assert_eq!(blocks.bytes(Va(u64::MAX), 9).unwrap().as_ref(), [3]);
        assert_eq!(blocks.bytes(Va(0), 9).unwrap().as_ref(), [0]);
    }
}
