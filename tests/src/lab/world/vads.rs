//! What a process has mapped: its tree of virtual address descriptors.
//!
//! Facts: `_MMVAD_SHORT` and `_MMVAD` in the layout tables (the first is the start of the second in every generation);
//! protections and kinds of descriptors from public descriptions of the memory manager. Trees are balanced: XP has a
//! splay tree without balances, 7 an AVL table whose first node is no descriptor, later ones an AVL tree.

use super::World;
use kd_sdk::address::{PAGE_SIZE, Va};
use serde_json::{Value, json};

/// What backs a range.
#[derive(Clone)]
pub(super) enum Backing {
    /// Memory of the process alone.
    Private,
    /// A program or library.
    Image(String),
    /// A file as data.
    Data(String),
}

/// A range of addresses.
pub(super) struct Range {
    pub start: u64,
    pub size: u64,
    pub protection: u64,
    /// Pages charged.
    pub commit: u64,
    pub backing: Backing,
}

/// Protection masks of page-table entries that are not valid.
pub(super) const READ_ONLY: u64 = 1;
pub(super) const READ_WRITE: u64 = 4;
pub(super) const EXECUTE_WRITE_COPY: u64 = 7;

impl World {
    /// Gives a process the descriptors of its ranges.
    pub(super) fn map_ranges(&mut self, process: Va, mut ranges: Vec<Range>) {
        let generation = self.options.generation;
        let Some(root_at) = self.field(process, "_EPROCESS.VadRoot") else { return };
        ranges.sort_by_key(|r| r.start);
        let nodes: Vec<Va> = ranges.iter().map(|range| self.descriptor(process, range)).collect();
        let table = generation.find("_EPROCESS.VadRoot.BalancedRoot").is_some();
        let above = if table { root_at } else { Va(0) };
        let mut levels = vec![0; nodes.len()];
        let (root, depth) = self.vad_tree(&nodes, above, 1, &mut levels);
        if table {
            self.set(root_at, "_MM_AVL_TABLE.BalancedRoot.u1.Parent", root_at.0);
            self.set(root_at, "_MM_AVL_TABLE.BalancedRoot.RightChild", root.0);
            self.set(root_at, "_MM_AVL_TABLE.DepthOfTree", depth);
            self.set(root_at, "_MM_AVL_TABLE.NumberGenericTableElements", nodes.len() as u64);
            self.set(root_at, "_MM_AVL_TABLE.NodeHint", root.0);
        } else {
            self.write_pointer(root_at, root.0);
            let count = nodes.len() as u64;
            self.fill(
                process,
                "_EPROCESS",
                &[("VadHint", root.0), ("VadCount", count), ("NumberOfVads", count)],
            );
        }
        let listed = ranges.iter().zip(&nodes).zip(&levels).map(|((range, node), level)| {
            let (kind, name) = match &range.backing {
                Backing::Private => ("private", Value::Null),
                Backing::Image(path) => ("image", path.as_str().into()),
                Backing::Data(path) => ("data", path.as_str().into()),
            };
            let section = name.as_str().and_then(|path| self.files.mapped(path));
            json!({
                "vad": node.0, "level": level, "start": range.start >> 12,
                "end": (range.start + range.size - 1) >> 12, "protection": range.protection, "commit": range.commit,
                "kind": kind, "file": name, "control_area": section.map(|s| s.control_area.0),
                "subsection": section.map(|s| s.subsection.0), "file_object": section.map(|s| s.file.0),
            })
        });
        let listed: Value = listed.collect();
        let text = json!({ "process": process.0, "root": root.0, "depth": depth, "vads": listed });
        self.fact("vads", text);
    }

    /// Makes one descriptor, in no tree yet.
    fn descriptor(&mut self, process: Va, range: &Range) -> Va {
        let (tag, structure) = match range.backing {
            Backing::Private => (b"VadS", "_MMVAD_SHORT"),
            _ => (b"Vad ", "_MMVAD"),
        };
        let vad = self.structure(tag, structure).expect("every generation has descriptors");
        let (start, end) = (range.start >> 12, (range.start + range.size - 1) >> 12);
        let private = matches!(range.backing, Backing::Private);
        let image = matches!(range.backing, Backing::Image(_));
        let fields = [
            ("StartingVpn", start),
            ("EndingVpn", end),
            ("StartingVpnHigh", start >> 32),
            ("EndingVpnHigh", end >> 32),
            ("u.VadFlags.Protection", range.protection),
            ("u.VadFlags.PrivateMemory", u64::from(private)),
            ("u.VadFlags.VadType", 2 * u64::from(image)),
            ("u.VadFlags.ImageMap", u64::from(image)),
            ("u.VadFlags.CommitCharge", range.commit),
            ("u.VadFlags.MemCommit", u64::from(private)),
            ("u1.VadFlags1.CommitCharge", range.commit),
            ("u1.VadFlags1.MemCommit", u64::from(private)),
            ("CommitCharge", range.commit),
            ("u.PrivateVadFlags.MemCommit", u64::from(private)),
        ];
        self.fill(vad, "_MMVAD_SHORT", &fields);
        let (Backing::Image(path) | Backing::Data(path)) = &range.backing else { return vad };
        let section = self.mapped_file(path, range.size / PAGE_SIZE, image);
        let last = section.prototypes.add((section.pages - 1) * self.system.scheme.entry_size());
        let fields = [
            ("Subsection", section.subsection.0),
            ("ControlArea", section.control_area.0),
            ("FirstPrototypePte", section.prototypes.0),
            ("LastContiguousPte", last.0),
            ("VadsProcess", process.0),
        ];
        self.fill(vad, "_MMVAD", &fields);
        if let Some(links) = self.field(vad, "_MMVAD.ViewLinks") {
            self.start_list(links);
        }
        vad
    }

    /// Hangs nodes, in ascending order, under a parent; returns their root and its height.
    fn vad_tree(&mut self, nodes: &[Va], parent: Va, level: u64, levels: &mut [u64]) -> (Va, u64) {
        if nodes.is_empty() {
            return (Va(0), 0);
        }
        let middle = nodes.len() / 2;
        let node = nodes[middle];
        levels[middle] = level;
        let (before, rest) = levels.split_at_mut(middle);
        let (left, left_height) = self.vad_tree(&nodes[..middle], node, level + 1, before);
        let (right, right_height) = self.vad_tree(&nodes[middle + 1..], node, level + 1, &mut rest[1..]);
        let balance = right_height.wrapping_sub(left_height) & 3;
        self.fill(node, "_MMVAD_SHORT", &[("LeftChild", left.0), ("RightChild", right.0)]);
        self.fill(node, "_MMVAD_SHORT.VadNode", &[("Left", left.0), ("Right", right.0)]);
        for path in ["_MMVAD_SHORT.VadNode.ParentValue", "_MMVAD_SHORT.u1.Parent"] {
            self.set(node, path, parent.0 | balance);
        }
        self.set(node, "_MMVAD_SHORT.Parent", parent.0);
        (node, 1 + left_height.max(right_height))
    }
}
