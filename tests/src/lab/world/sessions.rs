//! Sessions: the session spaces, the processes in them, and the pool of each.
//!
//! Facts: `_MM_SESSION_SPACE`, `_MM_PAGED_POOL_INFO`, `_EX_HEAP_SESSION_STATE` in the layout tables. Every session has its
//! pool at the same addresses and sees only its own; here all pool is the console's, and that of the services is empty.

use super::pool::{PoolBlock, PoolKind};
use super::{SYSTEM_TIME, UP_TIME, World};
use kd_sdk::address::{PAGE_SIZE, Va};
use serde_json::json;

/// The session at the console.
const CONSOLE: u64 = 1;

impl World {
    /// Whether the symbols tell what a session has: since 11 24H2 no more than its number is known, and no pool.
    pub(super) fn sessions_told(&self) -> bool {
        self.options.generation.table().told("_MM_SESSION_SPACE") != Some(0)
    }

    /// Makes a session with its processes. What its pool amounts to is told by [`Self::close_sessions`].
    pub(super) fn session(&mut self, id: u64, members: &[Va]) {
        let generation = self.options.generation;
        let Some(links) = generation.find("_EPROCESS.SessionProcessLinks") else { return };
        let Some(space) = self.structure(b"Mmse", "_MM_SESSION_SPACE") else { return };
        for list in ["ProcessList", "ImageList", "WsListEntry"] {
            if let Some(head) = self.field(space, &format!("_MM_SESSION_SPACE.{list}")) {
                self.start_list(head);
            }
        }
        for &process in members {
            self.fill(process, "_EPROCESS", &[("Session", space.0), ("ProcessInSession", 1)]);
            let head = space.add(generation.at("_MM_SESSION_SPACE.ProcessList"));
            self.append(head, process.add(links));
        }
        let count = members.len() as u64;
        let pool = PoolKind::Session.base(generation.machine);
        // Since 11 24H2 the symbols do not tell it, and what is known to be in it still is this.
        let known = ["SessionId", "ReferenceCount"];
        let untold = generation.table().told("_MM_SESSION_SPACE") == Some(0);
        let told = |name: &str| {
            generation.find(&format!("_MM_SESSION_SPACE.{name}")).is_some()
                && (!untold || known.contains(&name))
        };
        let fields = [
            ("SessionId", id),
            ("ReferenceCount", count),
            ("ProcessReferenceToSession", count),
            ("ResidentProcessCount", count),
            ("GlobalVirtualAddress", space.0),
            ("u.Flags.Initialized", 1),
            ("u.Flags.PoolInitialized", 1),
            ("u.Flags.WsInitialized", 1),
            ("NonPagablePages", 0x20 + id),
            ("CommittedPages", 0x300 + 0x40 * id),
            ("PagedPoolStart", pool.0),
            ("PagedPoolEnd", pool.0 + (64 << 20) - 1),
            ("LocaleId", 0x409),
            ("CreateTime", SYSTEM_TIME - UP_TIME + 20_000_000 * (id + 1)),
            ("Vm.WorkingSetSize", 0x180 + id),
            ("Vm.Instance.WorkingSetSize", 0x180 + id),
        ];
        let fields: Vec<_> = fields.into_iter().filter(|field| told(field.0)).collect();
        self.fill(space, "_MM_SESSION_SPACE", &fields);
        if told("HeapState") {
            let state =
                self.structure(b"Mmse", "_EX_HEAP_SESSION_STATE").expect("who has heaps has their state");
            let heap = if id == CONSOLE {
                self.heap_of(PoolKind::Session)
            } else {
                self.empty_heap(PoolKind::Session)
            };
            let globals = self.nt("RtlpHpHeapGlobals").0;
            let fields = [("HeapManager.Globals", globals), ("PagedHeap", heap.0)];
            self.fill(state, "_EX_HEAP_SESSION_STATE", &fields);
            self.set(space, "_MM_SESSION_SPACE.HeapState", state.0);
        }
        let told: serde_json::Map<_, _> =
            fields.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        let processes: Vec<u64> = members.iter().map(|p| p.0).collect();
        self.fact("sessions", json!({ "id": id, "space": space.0, "processes": processes, "fields": told }));
    }

    /// Tells each session space what its pool amounts to.
    pub(super) fn close_sessions(&mut self) {
        if !self.sessions_told() {
            return;
        }
        let spaces = self.facts.get("sessions").and_then(|s| s.as_array()).cloned().unwrap_or_default();
        for (index, session) in spaces.iter().enumerate() {
            let Some(space) = session["space"].as_u64().map(Va) else { continue };
            let console = session["id"] == CONSOLE;
            let mine = |b: &&PoolBlock| console && b.kind == PoolKind::Session && b.tag != *b"Free";
            let blocks: Vec<PoolBlock> = self.pools.blocks.iter().filter(mine).copied().collect();
            let bytes: u64 = blocks.iter().filter(|b| !b.free).map(|b| b.size).sum();
            let area = &self.pools.areas[PoolKind::Session as usize];
            let (pages, big) = if console { (area.pages, area.big_pages) } else { (0, 0) };
            let fields = [
                ("PagedPoolInfo.PagedPoolCommit", pages),
                ("PagedPoolInfo.AllocatedPagedPool", pages),
                ("PagedPoolInfo.MaximumSize", (64 << 20) / PAGE_SIZE),
                ("PagedPoolBytes", bytes),
                ("PagedPoolAllocations", blocks.iter().filter(|b| !b.free).count() as u64),
                ("PagedPool.PoolType", 0x21),
                ("PagedPool.RunningAllocs", blocks.len() as u64),
                ("PagedPool.RunningDeAllocs", blocks.iter().filter(|b| b.free).count() as u64),
                ("PagedPool.TotalPages", pages - big),
                ("PagedPool.TotalBigPages", big),
                ("PagedPool.TotalBytes", bytes),
            ];
            self.fill(space, "_MM_SESSION_SPACE", &fields);
            let generation = self.options.generation;
            for (name, value) in fields {
                if generation.find(&format!("_MM_SESSION_SPACE.{name}")).is_some() {
                    self.facts["sessions"][index]["fields"][name] = value.into();
                }
            }
        }
    }
}
