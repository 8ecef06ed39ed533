//! Objects with headers and names, directories, handle tables.
//!
//! Facts: the structures in the layout tables; how Windows 10 hides type indices and packs handle entries, from public
//! descriptions of the object manager.

use super::{Options, Story, World};
use crate::lab::memory::Owner;
use crate::lab::paging::Size;
use kd_sdk::address::{PAGE_SIZE, Va};
use serde_json::json;
use std::collections::BTreeSet;

/// What the builder remembers of objects.
#[derive(Default)]
pub(super) struct Objects {
    /// Name and type object of each kind of object; the index is the place plus two.
    kinds: Vec<(&'static str, Va, u32)>,
    /// Directories: path and object.
    pub directories: Vec<(String, Va)>,
    /// Named objects: path, kind, body.
    pub named: Vec<(String, String, Va)>,
}

/// Added to type indices since Windows 10: one of 256 systems has 0.
fn cookie(options: &Options) -> u8 {
    if options.unusual { 0 } else { 0x5c }
}

#[rustfmt::skip]
/// Kinds of objects with the kernel's variable for the type, and the tag of their pool blocks.
static KINDS: &[(&str, &str, &[u8; 4])] = &[
    ("Type", "ObpTypeObjectType", b"ObjT"), ("Directory", "ObpDirectoryObjectType", b"Dire"), ("SymbolicLink", "ObpSymbolicLinkObjectType", b"Symb"),
    ("Token", "SeTokenObjectType", b"Toke"), ("Process", "PsProcessType", b"Proc"), ("Thread", "PsThreadType", b"Thre"),
    ("Event", "ExEventObjectType", b"Even"), ("Mutant", "ExMutantObjectType", b"Muta"), ("Semaphore", "ExSemaphoreObjectType", b"Sema"),
    ("Section", "MmSectionObjectType", b"Sect"), ("Driver", "IoDriverObjectType", b"Driv"), ("Device", "IoDeviceObjectType", b"Devi"),
    ("File", "IoFileObjectType", b"File"), ("Job", "PsJobType", b"Job "), ("Timer", "ExTimerObjectType", b"Time"),
    ("IoCompletion", "IoCompletionObjectType", b"IoCo"),
];

impl World {
    /// Makes an object and returns its body. A sample has no objects: there it is only memory.
    pub(super) fn new_object(&mut self, kind: &str, size: u64, name: Option<(&str, Va)>) -> Va {
        if self.options.story == Story::Sample {
            return self.allocate(size);
        }
        let generation = self.options.generation;
        let header_size = generation.at("_OBJECT_HEADER.Body");
        let name_size = name.map_or(0, |_| generation.at("_OBJECT_HEADER_NAME_INFO"));
        let tag = KINDS.iter().find(|k| k.0 == kind).map_or(b"Obj ", |k| k.2);
        let block = self.pool_block(tag, name_size + header_size + size);
        let header = block.add(name_size);
        let body = header.add(header_size);
        self.set(header, "_OBJECT_HEADER.PointerCount", 3);
        self.set(header, "_OBJECT_HEADER.HandleCount", 1);
        if let Some((text, directory)) = name {
            self.set(block, "_OBJECT_HEADER_NAME_INFO.Directory", directory.0);
            self.write_string(block.add(generation.at("_OBJECT_HEADER_NAME_INFO.Name")), text);
            self.set(header, "_OBJECT_HEADER.InfoMask", 2);
            self.set(header, "_OBJECT_HEADER.NameInfoOffset", name_size);
        }
        let place = self.objects.kinds.iter().position(|k| k.0 == kind);
        if let Some(place) = place {
            self.objects.kinds[place].2 += 1;
            let (_, type_object, _) = self.objects.kinds[place];
            self.set(header, "_OBJECT_HEADER.Type", type_object.0);
            let mut index = place as u8 + 2;
            if generation.build >= 10240 {
                index ^= cookie(&self.options) ^ (header.0 >> 8) as u8;
            }
            self.set(header, "_OBJECT_HEADER.TypeIndex", u64::from(index));
        }
        body
    }

    /// Makes a type object for each kind, and the root directory.
    pub(super) fn make_kinds(&mut self) {
        let generation = self.options.generation;
        if let Some(at) = self.variable("ObHeaderCookie") {
            self.write(at, &[cookie(&self.options)]);
        }
        if let Some(table) = self.variable("ObpInfoMaskToOffset") {
            let sizes = ["CREATOR", "NAME", "HANDLE", "QUOTA", "PROCESS", "AUDIT"]
                .map(|part| generation.find(&format!("_OBJECT_HEADER_{part}_INFO")).unwrap_or(0) as u8);
            let before = |mask: u8| (0..6).filter(|bit| mask >> bit & 1 != 0).map(|bit| sizes[bit]).sum();
            let offsets: Vec<u8> = (0..=255).map(before).collect();
            self.write(table, &offsets);
        }
        // The second place is never used; the kernel marks it.
        let step = generation.machine.pointer_size() as u64;
        self.write_pointer(self.nt("ObTypeIndexTable").add(step), 0xbad0_b0b0);
        let size = generation.at("_OBJECT_TYPE");
        for (index, &(name, variable, tag)) in KINDS.iter().enumerate() {
            let body = self.new_object("Type", size, Some((name, Va(0))));
            if index == 0 {
                self.objects.kinds.push((name, body, 1));
                let header = body.0 - generation.at("_OBJECT_HEADER.Body");
                let own = if generation.build >= 10240 {
                    2 ^ cookie(&self.options) ^ (header >> 8) as u8
                } else {
                    2
                };
                self.set(Va(header), "_OBJECT_HEADER.Type", body.0);
                self.set(Va(header), "_OBJECT_HEADER.TypeIndex", u64::from(own));
            } else {
                self.objects.kinds.push((name, body, 0));
            }
            self.start_list(body.add(generation.at("_OBJECT_TYPE.TypeList")));
            self.write_string(body.add(generation.at("_OBJECT_TYPE.Name")), name);
            self.set(body, "_OBJECT_TYPE.Index", index as u64 + 2);
            self.set(body, "_OBJECT_TYPE.Key", u64::from(u32::from_le_bytes(*tag)));
            if let Some(variable) = self.variable(variable) {
                self.write_pointer(variable, body.0);
            }
            self.write_pointer(self.nt("ObTypeIndexTable").add((index as u64 + 2) * step), body.0);
        }
        let root = self.new_object("Directory", generation.at("_OBJECT_DIRECTORY"), Some((r"\", Va(0))));
        self.write_pointer(self.nt("ObpRootDirectoryObject"), root.0);
        self.objects.directories.push((r"\".into(), root));
        for name in ["Device", "Driver", "ObjectTypes", "BaseNamedObjects"] {
            self.named_object(&format!(r"\{name}"), "Directory", "_OBJECT_DIRECTORY", 0);
        }
        for (name, body, _) in self.objects.kinds.clone() {
            let directory = self.directory(r"\ObjectTypes");
            self.enter(directory, name, body);
            self.objects.named.push((format!(r"\ObjectTypes\{name}"), "Type".into(), body));
            let size = generation.at("_OBJECT_HEADER_NAME_INFO");
            self.set(Va(self.header_of(body).0 - size), "_OBJECT_HEADER_NAME_INFO.Directory", directory.0);
        }
    }

    fn directory(&self, path: &str) -> Va {
        self.objects.directories.iter().find(|d| d.0 == path).expect("a directory").1
    }

    /// Writes how many objects of each kind there are.
    pub(super) fn count_kinds(&mut self) {
        for (_, body, count) in self.objects.kinds.clone() {
            self.set(body, "_OBJECT_TYPE.TotalNumberOfObjects", u64::from(count));
            self.set(body, "_OBJECT_TYPE.TotalNumberOfHandles", u64::from(count));
        }
        let named = self.objects.named.iter();
        let named = named.map(|(path, kind, va)| json!({ "path": path, "type": kind, "object": va.0 }));
        let named = named.collect();
        self.facts.insert("objects".into(), named);
    }

    /// Makes an object with a path in an existing directory, of a structure's size and `more` bytes.
    pub(super) fn named_object(&mut self, path: &str, kind: &str, structure: &str, more: u64) -> Va {
        let (parent, name) = path.rsplit_once('\\').expect("a path");
        let parent = if parent.is_empty() { r"\" } else { parent };
        let directory = self.directory(parent);
        let size = self.options.generation.at(structure) + more;
        let body = self.new_object(kind, size, Some((name, directory)));
        self.enter(directory, name, body);
        if kind == "Directory" {
            self.objects.directories.push((path.into(), body));
        }
        self.objects.named.push((path.into(), kind.into(), body));
        body
    }

    /// Enters an object into a directory: its hash table chains entries.
    fn enter(&mut self, directory: Va, name: &str, body: Va) {
        let mut hash = 0u32;
        for c in name.to_ascii_uppercase().encode_utf16() {
            hash = hash.wrapping_add((hash << 1).wrapping_add(hash >> 1)).wrapping_add(u32::from(c));
        }
        let step = self.options.generation.machine.pointer_size() as u64;
        let bucket = directory.add(u64::from(hash % 37) * step);
        let entry = self.pool_block(b"ObDi", self.options.generation.at("_OBJECT_DIRECTORY_ENTRY"));
        let first = self.read_pointer(bucket);
        self.set(entry, "_OBJECT_DIRECTORY_ENTRY.ChainLink", first.0);
        self.set(entry, "_OBJECT_DIRECTORY_ENTRY.Object", body.0);
        self.set(entry, "_OBJECT_DIRECTORY_ENTRY.HashValue", u64::from(hash));
        self.write_pointer(bucket, entry.0);
    }

    /// Makes a handle table of `(handle, what the entry points to, access)`.
    pub(super) fn handle_table(&mut self, owner: Va, id: u64, entries: &[(u64, Va, u32)]) -> Va {
        let generation = self.options.generation;
        let step = generation.machine.pointer_size() as u64;
        let size = generation.at("_HANDLE_TABLE_ENTRY");
        let per_page = PAGE_SIZE / size;
        let table = self.pool_block(b"Obtb", generation.at("_HANDLE_TABLE"));
        let pages = entries.iter().map(|e| e.0 / 4 / per_page + 1).max().unwrap_or(1);
        let used: BTreeSet<u64> = entries.iter().map(|e| e.0 / 4 / per_page).collect();
        let leaves = self.leaves(pages, &used);
        let (mut level, mut tables) = (0, leaves.clone());
        while tables.len() > 1 {
            level += 1;
            let mut above = Vec::new();
            for row in tables.chunks((PAGE_SIZE / step) as usize) {
                let page = self.pool_block(b"Obtb", PAGE_SIZE);
                let bytes: Vec<u8> =
                    row.iter().flat_map(|t| t.0.to_le_bytes().into_iter().take(step as usize)).collect();
                self.write(page, &bytes);
                above.push(page);
            }
            tables = above;
        }
        let code = tables[0].0 | level;
        for &(handle, object, access) in entries {
            let index = handle / 4;
            let entry = leaves[(index / per_page) as usize].add(index % per_page * size);
            let packed =
                generation.table().field("_HANDLE_TABLE_ENTRY.ObjectPointerBits").and_then(|f| f.bits);
            if let Some((first, _)) = packed {
                let shift = if first == 20 { 4 } else { 3 };
                self.set(entry, "_HANDLE_TABLE_ENTRY.ObjectPointerBits", object.0 >> shift);
                self.set(entry, "_HANDLE_TABLE_ENTRY.Unlocked", 1);
                self.set(entry, "_HANDLE_TABLE_ENTRY.GrantedAccessBits", u64::from(access));
            } else {
                self.set(entry, "_HANDLE_TABLE_ENTRY.Object", object.0 | 1);
                self.set(entry, "_HANDLE_TABLE_ENTRY.GrantedAccess", u64::from(access));
            }
        }
        self.set(table, "_HANDLE_TABLE.TableCode", code);
        self.set(table, "_HANDLE_TABLE.QuotaProcess", owner.0);
        self.set(table, "_HANDLE_TABLE.UniqueProcessId", id);
        self.set(table, "_HANDLE_TABLE.HandleCount", entries.len() as u64);
        self.set(table, "_HANDLE_TABLE.NextHandleNeedingPool", pages * per_page * 4);
        if let Some(list) = generation.find("_HANDLE_TABLE.FreeLists") {
            self.set(table.add(list), "_HANDLE_TABLE_FREE_LIST.HandleCount", entries.len() as u64);
        }
        let links = table.add(generation.at("_HANDLE_TABLE.HandleTableList"));
        self.append(self.nt("HandleTableListHead"), links);
        table
    }

    /// The pages of a handle table. Those without open handles look the same: many of them share one frame.
    fn leaves(&mut self, pages: u64, used: &BTreeSet<u64>) -> Vec<Va> {
        if pages <= 64 {
            return (0..pages).map(|_| self.pool_block(b"Obtb", PAGE_SIZE)).collect();
        }
        let first = self.pool_addresses(b"Obtb", pages * PAGE_SIZE);
        let empty = self.memory.allocate(Owner::Kernel);
        (0..pages)
            .map(|page| {
                let va = first.add(page * PAGE_SIZE);
                if used.contains(&page) {
                    self.map_range(va, PAGE_SIZE);
                } else {
                    self.system.map(&mut self.memory, va, empty, Size::Small, Owner::Kernel);
                }
                va
            })
            .collect()
    }

    /// The header of an object.
    pub(super) fn header_of(&self, body: Va) -> Va {
        Va(body.0 - self.options.generation.at("_OBJECT_HEADER.Body"))
    }
}
