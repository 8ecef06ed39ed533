//! Balanced trees of the kernel, in order: AVL trees of every Windows (`_RTL_AVL_TREE`, `_MM_AVL_TABLE`, the bare root
//! that Windows XP has) and red-black trees (`_RTL_RB_TREE`, plain or encoded).
//!
//! A walk yields each node once, and ends with an error where a node cannot be read, cannot be one, was reached twice,
//! or where there are more than a tree can have. In an encoded red-black tree the root is XORed with the address of
//! the tree and each child with the address of its parent.

use super::list::wild;
use crate::abi::kind;
use crate::address::Va;
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::types::At;
use std::collections::HashSet;

/// The most nodes of one tree, unless [`Nodes::at_most`] says otherwise.
pub const MOST_NODES: usize = 1 << 20;

/// Where a node has its children.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Offset of the pointer to the left child.
    pub left: u64,
    /// Offset of the pointer to the right child.
    pub right: u64,
    /// Children are XORed with the address of their parent.
    pub encoded: bool,
}

/// A walk over a tree, from the leftmost node to the rightmost.
pub struct Nodes<'a> {
    memory: Memory<'a>,
    root: Va,
    shape: Shape,
    /// Offset of the node in what it links.
    field: u64,
    most: usize,
    seen: HashSet<Va>,
    /// Nodes whose left side has been walked, with their right children.
    open: Vec<(Va, Va)>,
    /// The subtree to walk next.
    down: Va,
    failed: bool,
}

/// The nodes under `root`, which may be null.
pub fn nodes<'a>(memory: Memory<'a>, root: Va, shape: Shape) -> Nodes<'a> {
    Nodes {
        memory,
        root,
        shape,
        field: 0,
        most: MOST_NODES,
        seen: HashSet::new(),
        open: Vec::new(),
        down: root,
        failed: false,
    }
}

/// The nodes of an AVL tree: the field `path` of a structure, an `_RTL_AVL_TREE`, an `_MM_AVL_TABLE`, or the pointer to
/// the root that Windows XP has for VADs.
///
/// # Errors
/// Where the field is none of these, or its root cannot be read.
pub fn avl<'a>(at: &At<'_, 'a>, path: &str) -> Result<Nodes<'a>> {
    let children = |of: &str, left: &str, right: &str| -> Result<Shape> {
        let node = at.memory().session.types().find(of)?;
        Ok(Shape { left: node.offset(left)?, right: node.offset(right)?, encoded: false })
    };
    let table = format!("{path}.BalancedRoot");
    let root = format!("{path}.Root");
    let (root, shape) = if at.of.field(&table).is_some() {
        // The table's own node: its right child is the root, and the other nodes have the same shape.
        let (node, left, right) =
            (at.of.offset(&table)?, format!("{table}.LeftChild"), format!("{table}.RightChild"));
        let shape =
            Shape { left: at.of.offset(&left)? - node, right: at.of.offset(&right)? - node, encoded: false };
        (at.pointer(&right)?, shape)
    } else if at.of.field(&root).is_some() {
        (at.pointer(&root)?, children("nt!_RTL_BALANCED_NODE", "Left", "Right")?)
    } else if at.of.field(path).is_some_and(|field| field.kind == kind::POINTER) {
        (at.pointer(path)?, children("nt!_MMVAD", "LeftChild", "RightChild")?)
    } else {
        return Err(Error::NoSymbols(format!("{}.{path} is not an AVL tree", at.of.name())));
    };
    Ok(nodes(at.memory(), root, shape))
}

/// The nodes of a red-black tree: the field `path` of a structure, an `_RTL_RB_TREE`.
///
/// # Errors
/// Where the field is none, or its root cannot be read.
pub fn red_black<'a>(at: &At<'_, 'a>, path: &str) -> Result<Nodes<'a>> {
    let node = at.memory().session.types().find("nt!_RTL_BALANCED_NODE")?;
    let tree = at.address(path)?;
    let mut root = at.pointer(&format!("{path}.Root"))?;
    let encoded = match at.of.field(&format!("{path}.Encoded")) {
        Some(_) => at.u64(&format!("{path}.Encoded"))? != 0,
        None => false,
    };
    if encoded && !root.is_null() {
        root = Va(root.0 ^ tree.0);
    }
    Ok(nodes(at.memory(), root, Shape { left: node.offset("Left")?, right: node.offset("Right")?, encoded }))
}

impl Nodes<'_> {
    /// Yields the structures: `offset` is that of the node in them.
    #[must_use]
    pub fn of(self, offset: u64) -> Self {
        Nodes { field: offset, ..self }
    }

    /// Refuses trees with more nodes.
    #[must_use]
    pub fn at_most(self, most: usize) -> Self {
        Nodes { most, ..self }
    }

    /// Down the left side of a subtree.
    fn descend(&mut self) -> Result<()> {
        while !self.down.is_null() {
            self.memory.session.check_interrupt()?;
            let (node, root) = (self.down, self.root);
            if let Some(fault) = wild(&self.memory, root, node) {
                return Err(Error::Other(format!("the tree at {root} goes wild: a node at {node}, {fault}")));
            }
            if !self.seen.insert(node) {
                return Err(Error::Other(format!("the tree at {root} is a loop: {node} is reached twice")));
            }
            if self.seen.len() > self.most {
                return Err(Error::Other(format!("the tree at {root} has more than {} nodes", self.most)));
            }
            let child = |offset: u64| -> Result<Va> {
                let child = self.memory.pointer(node.add(offset))?;
                let plain = !self.shape.encoded || child.is_null();
                Ok(if plain { child } else { Va(child.0 ^ node.0) })
            };
            let (left, right) = (child(self.shape.left)?, child(self.shape.right)?);
            self.open.push((node, right));
            self.down = left;
        }
        Ok(())
    }
}

impl Iterator for Nodes<'_> {
    type Item = Result<Va>;

    fn next(&mut self) -> Option<Result<Va>> {
        if self.failed {
            return None;
        }
        if let Err(error) = self.descend() {
            self.failed = true;
            return Some(Err(error));
        }
        let (node, right) = self.open.pop()?;
        self.down = right;
        Some(Ok(Va(node.0.wrapping_sub(self.field))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::fake::Fake;

    const BASE: u64 = 0xffff_9000_0000_0000;
    const PLAIN: Shape = Shape { left: 0, right: 8, encoded: false };

    fn node(index: u64) -> u64 {
        if index == 0 { 0 } else { BASE + index * 0x20 }
    }

    /// Nodes by number, 0 for none: (node, left, right).
    fn tree(nodes: &[(u64, u64, u64)], encoded: bool) -> Fake {
        nodes.iter().fold(Fake::default(), |fake, &(at, left, right)| {
            let child = |index| if encoded && index != 0 { node(index) ^ node(at) } else { node(index) };
            fake.words(node(at), &[child(left), child(right)])
        })
    }

    fn walk(fake: &Fake, shape: Shape, most: usize) -> (Vec<u64>, String) {
        fake.run(|session| {
            let (mut found, mut error) = (Vec::new(), String::new());
            for node in nodes(session.memory(), Va(node(4)), shape).at_most(most) {
                match node {
                    Ok(va) => found.push((va.0 - BASE) / 0x20),
                    Err(refused) => error.push_str(&refused.to_string()),
                }
            }
            (found, error)
        })
    }

    const SEVEN: &[(u64, u64, u64)] =
        &[(4, 2, 6), (2, 1, 3), (6, 5, 7), (1, 0, 0), (3, 0, 0), (5, 0, 0), (7, 0, 0)];

    #[test]
    fn nodes_come_in_order() {
        let all: Vec<u64> = (1..8).collect();
        assert_eq!(walk(&tree(SEVEN, false), PLAIN, 7), (all.clone(), String::new()));
        assert_eq!(walk(&tree(SEVEN, true), Shape { encoded: true, ..PLAIN }, 7), (all, String::new()));
    }

    #[test]
    fn what_cannot_be_a_tree_is_refused() {
        let (found, error) = walk(&tree(&[(4, 2, 0), (2, 1, 4), (1, 0, 0)], false), PLAIN, 100);
        assert_eq!(found, [1, 2]);
        assert!(error.ends_with("is a loop: ffff9000`00000080 is reached twice"), "{error}");
        let (found, error) = walk(&tree(&[(4, 4, 4)], false), PLAIN, 100);
        assert!(found.is_empty() && error.contains("is a loop"), "{error}");
        let (_, error) = walk(&tree(SEVEN, false), PLAIN, 6);
        assert!(error.ends_with("has more than 6 nodes"), "{error}");
        let (_, error) = walk(&tree(SEVEN, true), PLAIN, 100);
        assert!(error.contains("goes wild"), "{error}");
        let (found, error) = walk(&tree(&[(4, 0, 6)], false), PLAIN, 100);
        assert_eq!((found, error.as_str()), (vec![4], "cannot read ffff9000`000000c0: paged out"));
    }

    #[test]
    fn a_tree_that_is_a_long_list_needs_no_deep_stack() {
        let nodes: Vec<(u64, u64, u64)> = (4..3000).map(|index| (index, index + 1, 0)).collect();
        let (found, _) = walk(&tree(&nodes, false), PLAIN, 5000);
        assert!(found.is_empty());
    }
}
