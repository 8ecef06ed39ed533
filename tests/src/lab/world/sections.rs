//! Sections: control areas, segments, subsections, prototype entries, the files behind them, and the frames of all;
//! besides them, the frames of programs that are no longer in a working set.
//!
//! Facts: `_CONTROL_AREA`, `_SEGMENT`, `_SUBSECTION`, `_FILE_OBJECT`, `_SHARED_CACHE_MAP` in the layout tables; entries
//! that name a subsection from `_MMPTE_SUBSECTION`.

use super::pages::FrameState;
use super::pool::PoolKind;
use super::{Story, World};
use crate::lab::layout::Machine;
use crate::lab::memory::Owner;
use crate::lab::paging::{Leaf, READ_WRITE, Size};
use kd_sdk::address::{PAGE_SIZE, Pfn, Va};
use serde_json::json;

/// A section with its frames.
pub struct Section {
    /// Its `_CONTROL_AREA`.
    pub control_area: Va,
    /// Its `_SEGMENT`.
    pub segment: Va,
    /// Name of its file; none if a page file backs it.
    pub file: Option<&'static str>,
    /// An image.
    pub image: bool,
    /// Its `_SUBSECTION`s with their first prototype entry and number of entries.
    pub subsections: Vec<(Va, Va, u64)>,
    /// Where it is mapped: address and bytes.
    pub views: Vec<(Va, u64)>,
    /// Its frames by state, in the order of [`FrameState`].
    pub frames: [u64; 8],
}

/// A section before its pages are told.
pub(super) struct ControlArea {
    /// Its `_CONTROL_AREA`.
    pub at: Va,
    /// Its `_SEGMENT`.
    pub segment: Va,
    /// The first prototype entry.
    pub table: Va,
    /// The `_SECTION_OBJECT_POINTERS` of its file.
    pub pointers: Va,
    /// Its `_SUBSECTION`s with their first prototype entry and number of entries.
    pub subsections: Vec<(Va, Va, u64)>,
    /// What the prototype entries of pages say that were never read.
    pub entries: Vec<u64>,
}

/// What a section is made of, in pages. `None` as file: a page file backs it.
struct Recipe {
    file: Option<&'static str>,
    image: bool,
    active: u64,
    standby: u64,
    modified: u64,
    no_write: u64,
}

impl World {
    /// The entry of a page that a subsection describes.
    fn subsection_entry(&self, subsection: Va) -> u64 {
        let prototype = 0x400 | self.system.scheme.protection(READ_WRITE);
        match (self.system.scheme.entry_size(), self.options.generation.machine) {
            (4, _)
                if self.options.generation.place("_MMPTE_SUBSECTION.SubsectionAddressLow").1
                    == Some((1, 9)) =>
            {
                // Two parts of the address, without protection.
                subsection.0 & 0xffff_f800 | subsection.0 >> 1 & 0x3fe | 0x400
            }
            (4, _) => {
                // A distance in two parts; the highest bit says from where.
                let far = subsection.0 - self.read_pointer(self.nt("MmSubsectionBase")).0;
                1 << 31 | (far << 4) & 0x7fff_f800 | (far >> 2) & 0x1e | prototype
            }
            (_, Machine::X86) => self.system.hide(subsection.0 << 32 | prototype),
            _ => self.system.hide(subsection.0 << 16 | prototype),
        }
    }

    /// A program's entry that leads to a prototype entry.
    fn to_prototype(&self, entry: Va) -> Leaf {
        let narrow = self.system.scheme.entry_size() == 4;
        Leaf::Prototype(if narrow {
            Va(entry.0 - self.read_pointer(self.nt("MmProtopteBase")).0)
        } else {
            entry
        })
    }

    /// Fills memory with what a running system has in it besides its kernel: pages of files and of programs, mapped,
    /// on standby and modified; one large page; pages that a program manages itself.
    pub(super) fn fill_memory(&mut self) {
        let pressed = self.options.story == Story::MemoryPressure;
        if !pressed {
            self.large_page();
        }
        let left = self.frames_left();
        let (standby, modified) = if pressed { (48, left / 2) } else { (left / 4, left / 24) };
        let file = |name, image, share: u64| Recipe {
            file: Some(name),
            image,
            active: 12 + share * 2,
            standby: standby * share / 12,
            modified: if image { 0 } else { modified * share / 24 },
            no_write: 0,
        };
        let mut recipes = vec![
            file(r"\Windows\System32\shell32.dll", true, 3),
            file(r"\Windows\Fonts\segoeui.ttf", false, 1),
            file(r"\Users\tester\Documents\report.docx", false, 2),
            file(r"\Windows\System32\config\SOFTWARE", false, 3),
            Recipe { file: None, image: false, active: 9, standby: 5, modified: 7, no_write: 0 },
        ];
        recipes[1].no_write = 6;
        for (number, recipe) in recipes.into_iter().enumerate() {
            self.made_section(number as u64, &recipe);
        }
        self.private_pages(standby / 4, modified / 2);
        let listed: Vec<_> = self
            .sections
            .iter()
            .map(|s| {
                json!({
                    "control_area": s.control_area.0, "segment": s.segment.0, "file": s.file, "image": s.image,
                    "subsections": s.subsections.iter().map(|x| json!({ "subsection": x.0.0, "base": x.1.0, "entries": x.2 })).collect::<Vec<_>>(),
                    "views": s.views.iter().map(|v| json!({ "va": v.0.0, "size": v.1 })).collect::<Vec<_>>(),
                    "active": s.frames[FrameState::Active as usize], "standby": s.frames[FrameState::Standby as usize],
                    "modified": s.frames[FrameState::Modified as usize],
                    "modified_no_write": s.frames[FrameState::ModifiedNoWrite as usize],
                })
            })
            .collect();
        self.facts.insert("sections".into(), listed.into());
    }

    /// One large page of nonpaged memory; only its first frames have contents.
    fn large_page(&mut self) {
        let wide = self.options.generation.machine != Machine::X86;
        let at = Va(if wide { 0xffff_ac8f_4000_0000 } else { 0x9800_0000 });
        let frames = if self.system.scheme.entry_size() == 4 { 1024 } else { 512 };
        let first = self.memory.reserve(frames, frames);
        (0..4).for_each(|i| self.memory.commit(Pfn(first.0 + i), Owner::Kernel));
        self.system.map(&mut self.memory, at, first, Size::Large, Owner::Kernel);
        self.write(at, b"large page");
        self.facts.insert("large_page".into(), json!({ "va": at.0, "pfn": first.0, "frames": frames }));
    }

    fn made_section(&mut self, number: u64, recipe: &Recipe) {
        let place = self.sections.len();
        let Recipe { active, standby, modified, no_write, .. } = *recipe;
        let present = active + standby + modified + no_write;
        let entries = present + present / 8 + 3; // some pages were never read
        let parts: Vec<u64> = if recipe.image {
            vec![1, entries * 3 / 4, entries - 1 - entries * 3 / 4]
        } else {
            vec![entries]
        };

        let file = recipe.file.map(|name| self.file(name));
        let made = self.control_area(file, recipe.image, &parts);
        let ControlArea { at: area, segment, table, pointers, .. } = made;
        let width = self.system.scheme.entry_size();

        // Frames: active, standby, modified, not to be written, by turns over the entries.
        let first = self.memory.reserve(present, 1).0;
        let mut values = made.entries;
        let mut frames = [0; 8];
        let mut mapped = Vec::new();
        for (index, value) in (0..present).zip(&mut values) {
            let entry = table.add(index * width);
            let original = *value;
            let (state, priority) = match index {
                i if i < active => (FrameState::Active, 5),
                i if i < active + standby => {
                    (FrameState::Standby, [5, 5, 5, 2, 7, 1, 6, 3][index as usize % 8])
                }
                i if i < active + standby + modified => (FrameState::Modified, 5),
                _ => (FrameState::ModifiedNoWrite, 5),
            };
            let pfn = first + index;
            self.plan.prototypes.insert(pfn, (entry, original, Some(place)));
            frames[state as usize] += 1;
            *value = if state == FrameState::Active {
                mapped.push((pfn, entry));
                self.system.leaf(Leaf::Valid(Pfn(pfn)), Owner::Kernel)
            } else {
                self.plan.on.insert(pfn, (state, priority));
                self.system.leaf(Leaf::Transition(Pfn(pfn)), Owner::Kernel)
            };
        }
        self.write_entries(table, &values);
        let views = self.map_section(number, recipe, &mapped, table);

        let size = entries * PAGE_SIZE;
        let counts = [
            ("NumberOfPfnReferences", present),
            ("NumberOfMappedViews", views.len() as u64),
            ("NumberOfUserReferences", 1 + views.len() as u64),
        ];
        self.fill(area, "_CONTROL_AREA", &counts);
        if let Some(file) = file.filter(|_| !recipe.image) {
            self.cache_map(file, pointers, size, views.last().map_or(Va(0), |v| v.0));
        } else if file.is_none() {
            self.section_object(area, segment, size);
        }
        let (control_area, subsections) = (area, made.subsections);
        let Recipe { file, image, .. } = *recipe;
        self.sections.push(Section { control_area, segment, file, image, subsections, views, frames });
    }

    /// Makes what every section has: the control area with its subsections behind it, one for each of `parts`, the
    /// segment, room for the prototype entries. What the entries of pages that were never read say is left to write.
    pub(super) fn control_area(&mut self, file: Option<Va>, image: bool, parts: &[u64]) -> ControlArea {
        let generation = self.options.generation;
        let pages: u64 = parts.iter().sum();
        let each = generation.at("_SUBSECTION");
        let each = if image { each } else { generation.find("_MSUBSECTION").unwrap_or(each).max(each) };
        let area_size = generation.at("_CONTROL_AREA");
        let tag = if image { b"MmCi" } else { b"MmCa" };
        let area = self.pool_block(tag, area_size + parts.len() as u64 * each);
        let segment = self.pool_of(PoolKind::Paged, b"MmSt", generation.at("_SEGMENT"));
        let width = self.system.scheme.entry_size();
        let table = self.pool_of(PoolKind::Paged, b"MmSt", pages * width);
        let (mut subsections, mut entries) = (Vec::new(), Vec::new());
        for (index, &count) in parts.iter().enumerate() {
            let at = area.add(area_size + index as u64 * each);
            let before = entries.len() as u64;
            let base = table.add(before * width);
            let fields = [
                ("ControlArea", area.0),
                ("SubsectionBase", base.0),
                ("NextSubsection", if index + 1 < parts.len() { at.0 + each } else { 0 }),
                ("PtesInSubsection", count),
                ("StartingSector", before * 8),
                ("NumberOfFullSectors", count * 8),
                ("u.SubsectionFlags.Protection", if image { [1, 3, 5][index] } else { 4 }),
            ];
            self.fill(at, "_SUBSECTION", &fields);
            let entry = match file {
                Some(_) => self.subsection_entry(at),
                None => self.system.leaf(Leaf::DemandZero, Owner::User),
            };
            entries.extend((0..count).map(|_| entry));
            subsections.push((at, base, count));
        }

        let fast =
            generation.table().field("_CONTROL_AREA.FilePointer").is_some_and(|f| f.kind == "_EX_FAST_REF");
        let reference = if generation.machine == Machine::X86 { 7 } else { 15 };
        let fields = [
            ("Segment", segment.0),
            ("NumberOfSectionReferences", 1),
            ("NumberOfSubsections", parts.len() as u64),
            ("u2.e2.NumberOfSubsections", if generation.build < 9600 { 0 } else { parts.len() as u64 }),
            ("FilePointer", file.map_or(0, |f| f.0 | if fast { reference } else { 0 })),
            ("u.Flags.Image", u64::from(image)),
            ("u.Flags.File", u64::from(file.is_some())),
            ("u.Flags.Commit", u64::from(file.is_none())),
            ("u.Flags.Accessed", 1),
        ];
        self.fill(area, "_CONTROL_AREA", &fields);
        for list in ["ListHead", "DereferenceList"] {
            let Some(list) = self.field(area, &format!("_CONTROL_AREA.{list}")) else { continue };
            self.start_list(list);
        }
        let fields = [
            ("ControlArea", area.0),
            ("TotalNumberOfPtes", pages),
            ("NonExtendedPtes", pages),
            ("SizeOfSegment", pages * PAGE_SIZE),
            ("NumberOfCommittedPages", if file.is_none() { pages } else { 0 }),
            ("PrototypePte", table.0),
        ];
        self.fill(segment, "_SEGMENT", &fields);
        let pointers = self.pool_block(b"NtFs", generation.at("_SECTION_OBJECT_POINTERS"));
        if let Some(file) = file {
            self.set(file, "_FILE_OBJECT.SectionObjectPointer", pointers.0);
        }
        let kind = if image { "ImageSectionObject" } else { "DataSectionObject" };
        self.set(pointers, &format!("_SECTION_OBJECT_POINTERS.{kind}"), area.0);
        ControlArea { at: area, segment, table, pointers, subsections, entries }
    }

    /// Writes prototype entries.
    pub(super) fn write_entries(&mut self, table: Va, entries: &[u64]) {
        let width = self.system.scheme.entry_size() as usize;
        let bytes: Vec<u8> = entries.iter().flat_map(|e| e.to_le_bytes()[..width].to_owned()).collect();
        self.write(table, &bytes);
    }

    /// Maps the active pages of a section: images and page-file sections into the program, files into the cache too.
    fn map_section(
        &mut self,
        number: u64,
        recipe: &Recipe,
        mapped: &[(u64, Va)],
        table: Va,
    ) -> Vec<(Va, u64)> {
        let wide = self.options.generation.machine != Machine::X86;
        let user = Va(if wide { 0x7ffb_2000_0000 } else { 0x7100_0000 }).add(number * 0x40_0000);
        let cache = Va(if wide { 0xffff_f980_0100_0000 } else { 0xd000_0000 }).add(number * 0x40_0000);
        let width = self.system.scheme.entry_size();
        let size = mapped.len() as u64 * PAGE_SIZE;
        let mut views = vec![(user, size + 2 * PAGE_SIZE)];
        for (index, &(pfn, _)) in mapped.iter().enumerate() {
            let at = index as u64 * PAGE_SIZE;
            self.user.set(&mut self.memory, user.add(at), Leaf::Valid(Pfn(pfn)), Owner::User);
            if index < 3 {
                self.memory.commit(Pfn(pfn), Owner::User);
                let text = format!("page {index} of {}", recipe.file.unwrap_or("a section"));
                self.memory.write(Pfn(pfn).pa(), text.as_bytes());
            }
        }
        // The next pages of the view were not touched by this program: its entries lead to the prototypes.
        for index in 0..2 {
            let index = mapped.len() as u64 + index;
            let leaf = self.to_prototype(table.add(index * width));
            self.user.set(&mut self.memory, user.add(index * PAGE_SIZE), leaf, Owner::User);
        }
        if recipe.file.is_some() && !recipe.image {
            for (index, &(pfn, _)) in mapped.iter().enumerate() {
                let va = cache.add(index as u64 * PAGE_SIZE);
                self.system.set(&mut self.memory, va, Leaf::Valid(Pfn(pfn)), Owner::Kernel);
            }
            views.push((cache, size));
        } else if let Some(space) = self.spaces.first().copied() {
            // A second program has it too.
            for (index, &(pfn, _)) in mapped.iter().enumerate() {
                let va = user.add(index as u64 * PAGE_SIZE);
                space.set(&mut self.memory, va, Leaf::Valid(Pfn(pfn)), Owner::User);
            }
            views.push((user, size));
        }
        views
    }

    /// The cache manager's side of a file: one view.
    fn cache_map(&mut self, file: Va, pointers: Va, size: u64, view: Va) {
        let generation = self.options.generation;
        let map = self.pool_block(b"CcSc", generation.at("_SHARED_CACHE_MAP"));
        let block = self.pool_block(b"CcVa", generation.at("_VACB"));
        let reference = if generation.machine == Machine::X86 { 7 } else { 15 };
        for (field, value) in [
            ("NodeTypeCode", 0x2ff),
            ("NodeByteSize", generation.at("_SHARED_CACHE_MAP")),
            ("OpenCount", 1),
            ("FileSize", size),
            ("SectionSize", size.next_multiple_of(0x4_0000)),
            ("ValidDataLength", size),
            ("FileObject", file.0),
            ("FileObjectFastRef", file.0 | reference),
            ("InitialVacbs", block.0),
        ] {
            self.set(map, &format!("_SHARED_CACHE_MAP.{field}"), value);
        }
        let vacbs = map.add(generation.at("_SHARED_CACHE_MAP.InitialVacbs"));
        self.write_pointer(vacbs, block.0);
        self.set(map, "_SHARED_CACHE_MAP.Vacbs", vacbs.0);
        self.set(block, "_VACB.BaseAddress", view.0);
        self.set(block, "_VACB.SharedCacheMap", map.0);
        self.set(pointers, "_SECTION_OBJECT_POINTERS.SharedCacheMap", map.0);
    }

    /// The object that programs open to share memory.
    fn section_object(&mut self, area: Va, segment: Va, size: u64) {
        let structure = if self.options.generation.find("_SECTION.SizeOfSection").is_some() {
            "_SECTION"
        } else {
            "_SECTION_OBJECT"
        };
        let object = self.named_object(r"\BaseNamedObjects\SharedMemory", "Section", structure, 0);
        self.set(object, "_SECTION.u1.ControlArea", area.0);
        self.set(object, "_SECTION.SizeOfSection", size);
        self.set(object, "_SECTION_OBJECT.Segment", segment.0);
    }

    /// Pages of the program: on standby with a copy in the page file, modified, one being read, and windows that it
    /// manages itself.
    fn private_pages(&mut self, standby: u64, modified: u64) {
        let wide = self.options.generation.machine != Machine::X86;
        let base = Va(if wide { 0x0300_0000_0000 } else { 0x1000_0000 });
        let first = self.memory.reserve(standby + modified + 5, 1).0;
        for index in 0..standby + modified + 5 {
            let pfn = first + index;
            let state = match index {
                i if i < standby => FrameState::Standby,
                i if i < standby + modified => FrameState::Modified,
                i if i == standby + modified => FrameState::Transition,
                _ => FrameState::Active,
            };
            let leaf =
                if state == FrameState::Active { Leaf::Valid(Pfn(pfn)) } else { Leaf::Transition(Pfn(pfn)) };
            if state == FrameState::Active {
                self.plan.windows.insert(pfn);
            } else {
                self.plan.on.insert(pfn, (state, [5, 4, 3, 0][index as usize % 4]));
            }
            if state == FrameState::Standby {
                let copy = self.user.leaf(Leaf::PageFile { file: 0, page: 0x800 + index }, Owner::User);
                self.plan.copies.insert(pfn, copy);
            }
            self.user.set(&mut self.memory, base.add(index * PAGE_SIZE), leaf, Owner::User);
        }
        let text = json!({ "va": base.0, "standby": standby, "modified": modified, "transition": 1, "windows": 4, "first": first });
        self.facts.insert("private_pages".into(), text);
    }
}
