//! Short ways to write structures: several fields at once, variables that not every kernel has, facts.

use super::World;
use kd_sdk::address::{Pa, Va};
use serde_json::{Value, json};

impl World {
    /// Writes fields of one structure; what this generation does not have is not written.
    pub(super) fn fill(&mut self, base: Va, structure: &str, fields: &[(&str, u64)]) {
        for (field, value) in fields {
            self.set(base, &format!("{structure}.{field}"), *value);
        }
    }

    /// The address of a field, if this generation has it.
    pub(super) fn field(&self, base: Va, path: &str) -> Option<Va> {
        self.options.generation.find(path).map(|offset| base.add(offset))
    }

    /// A zeroed pool block for a structure, if this generation has it.
    pub(super) fn structure(&mut self, tag: &[u8; 4], name: &str) -> Option<Va> {
        self.options.generation.find(name).map(|size| self.pool_block(tag, size))
    }

    /// Reads an integer, pointer or bit field.
    pub(super) fn get(&self, base: Va, path: &str) -> Option<u64> {
        let generation = self.options.generation;
        let at = self.field(base, path)?;
        let (width, bits) = generation.place(path);
        let width = width.min(8);
        let mut value = [0; 8];
        value[..width].copy_from_slice(&self.read(at, width)?);
        let value = u64::from_le_bytes(value);
        Some(bits.map_or(value, |(first, count)| value >> first & (u64::MAX >> (64 - count))))
    }

    /// Where a counted pointer (`_EX_FAST_REF`) leads.
    pub(super) fn unref(&self, base: Va, path: &str) -> Option<Va> {
        let low = self.options.generation.machine.pointer_size() as u64 * 2 - 1;
        let value = self.get(base, path)? & !low;
        (value != 0).then_some(Va(value))
    }

    /// Takes an entry out of its list.
    pub(super) fn unlink(&mut self, entry: Va) {
        let blink = self.options.generation.at("_LIST_ENTRY.Blink");
        let (next, previous) = (self.read_pointer(entry), self.read_pointer(entry.add(blink)));
        self.write_pointer(previous, next.0);
        self.write_pointer(next.add(blink), previous.0);
    }

    /// Makes a list empty if nobody did.
    pub(super) fn need_list(&mut self, head: Va) {
        if self.read_pointer(head).0 == 0 {
            self.start_list(head);
        }
    }

    /// Adds to a list of facts.
    pub(super) fn fact(&mut self, subject: &str, value: Value) {
        let list = self.facts.entry(subject).or_insert_with(|| json!([]));
        list.as_array_mut().expect("a list of facts").push(value);
    }

    /// Acts in the address space of another process: user addresses are there.
    pub(super) fn inside<T>(&mut self, root: Pa, act: impl FnOnce(&mut World) -> T) -> T {
        let place = self.spaces.iter().position(|s| s.root == root);
        if let Some(at) = place {
            std::mem::swap(&mut self.user, &mut self.spaces[at]);
        }
        let result = act(self);
        if let Some(at) = place {
            std::mem::swap(&mut self.user, &mut self.spaces[at]);
        }
        result
    }

    /// The page tables of a process.
    pub(super) fn root_of(&self, process: Va) -> Pa {
        let found = self.processes.iter().find(|p| p.eprocess == process).expect("a process");
        found.directory_table_base
    }

    /// Process and thread id of a thread.
    pub(super) fn client_id(&self, thread: Va) -> (u64, u64) {
        let id = |field| self.get(thread, &format!("_ETHREAD.Cid.{field}")).unwrap_or(0);
        (id("UniqueProcess"), id("UniqueThread"))
    }
}
