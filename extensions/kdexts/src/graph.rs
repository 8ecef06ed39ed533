//! Who waits for whom: circles, and those at the heads of queues. Knows nothing of Windows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Heads of queues whose queues are counted: those with the most at their heels.
const MOST_HEADS: usize = 256;

/// What was found in a graph of `(waiter, owner)` pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Circles; each is indices of edges, from waiter to owner, back to the first waiter.
    pub circles: Vec<Circle>,
    /// Owners that wait for nobody, with how many wait behind them, most first.
    pub heads: Vec<(u64, usize)>,
}

/// A circle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circle {
    /// Indices of its edges in order.
    pub edges: Vec<usize>,
    /// Who is not in it and waits for somebody in it, directly or not.
    pub behind: Vec<u64>,
}

/// Looks for circles. A waiter goes on when all the owners it waits for let go, so every circle is a deadlock.
pub fn search(edges: &[(u64, u64)]) -> Found {
    let mut out: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    let mut into: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, &(waiter, owner)) in edges.iter().enumerate() {
        out.entry(waiter).or_default().push(index);
        into.entry(owner).or_default().push(index);
    }
    let stuck = stuck(edges, &out, &into);
    let mut found = Found::default();
    let mut done: HashSet<u64> = HashSet::new();
    for &start in &stuck {
        // Each has a way on to another that is stuck, so the walk comes back to itself or to a walk before it.
        let (mut path, mut place, mut at) = (Vec::new(), HashMap::new(), start);
        while done.insert(at) {
            place.insert(at, path.len());
            let next = out.get(&at).and_then(|list| list.iter().find(|&&e| stuck.contains(&edges[e].1)));
            let Some(&edge) = next else { break };
            path.push(edge);
            at = edges[edge].1;
        }
        if let Some(&first) = place.get(&at) {
            let circle = path.split_off(first);
            let members: HashSet<u64> = circle.iter().map(|&e| edges[e].0).collect();
            let behind = behind(edges, &into, &members);
            found.circles.push(Circle { edges: circle, behind });
        }
    }
    let mut heads: Vec<(usize, u64)> = into
        .iter()
        .filter(|(owner, _)| !out.contains_key(owner))
        .map(|(&owner, list)| (list.len(), owner))
        .collect();
    heads.sort_by_key(|&(count, owner)| (core::cmp::Reverse(count), owner));
    heads.truncate(MOST_HEADS);
    for (_, owner) in heads {
        found.heads.push((owner, behind(edges, &into, &HashSet::from([owner])).len()));
    }
    found.heads.sort_by_key(|&(owner, count)| (core::cmp::Reverse(count), owner));
    found
}

/// Those that are in a circle or wait for one: what is left when those who can go on have gone.
fn stuck(
    edges: &[(u64, u64)],
    out: &BTreeMap<u64, Vec<usize>>,
    into: &HashMap<u64, Vec<usize>>,
) -> BTreeSet<u64> {
    let mut open: HashMap<u64, usize> = out.iter().map(|(&node, list)| (node, list.len())).collect();
    let mut gone: Vec<u64> = into.keys().copied().filter(|node| !out.contains_key(node)).collect();
    while let Some(node) = gone.pop() {
        for &edge in into.get(&node).into_iter().flatten() {
            let waiter = edges[edge].0;
            if let Some(left) = open.get_mut(&waiter) {
                *left -= 1;
                if *left == 0 {
                    gone.push(waiter);
                }
            }
        }
    }
    open.into_iter().filter(|&(_, left)| left > 0).map(|(node, _)| node).collect()
}

/// Everybody who waits for one of `members`, directly or not, without the members.
fn behind(edges: &[(u64, u64)], into: &HashMap<u64, Vec<usize>>, members: &HashSet<u64>) -> Vec<u64> {
    let mut seen = members.clone();
    let mut open: Vec<u64> = members.iter().copied().collect();
    let mut found = Vec::new();
    while let Some(node) = open.pop() {
        for &edge in into.get(&node).into_iter().flatten() {
            let waiter = edges[edge].0;
            if seen.insert(waiter) {
                found.push(waiter);
                open.push(waiter);
            }
        }
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(edges: &[(u64, u64)]) -> Vec<Vec<u64>> {
        search(edges).circles.iter().map(|c| c.edges.iter().map(|&e| edges[e].0).collect()).collect()
    }

    #[test]
    fn circles_are_found_once() {
        assert_eq!(circles(&[]), Vec::<Vec<u64>>::new());
        assert_eq!(circles(&[(1, 2), (2, 3)]), Vec::<Vec<u64>>::new());
        assert_eq!(circles(&[(1, 2), (2, 1), (3, 1)]), [[1, 2]]);
        assert_eq!(circles(&[(9, 1), (1, 2), (2, 3), (3, 1)]), [[1, 2, 3]]);
        assert_eq!(circles(&[(7, 7)]), [[7]]);
        assert_eq!(circles(&[(1, 2), (2, 1), (5, 6), (6, 5)]), [[1, 2], [5, 6]]);
        // One way out does not help where all ways are needed.
        assert_eq!(circles(&[(1, 9), (1, 2), (2, 1)]), [[1, 2]]);
    }

    #[test]
    fn queues_have_heads() {
        let found = search(&[(1, 2), (2, 3), (4, 3), (5, 6)]);
        assert_eq!(found.heads, [(3, 3), (6, 1)]);
        let found = search(&[(1, 2), (2, 1), (3, 1), (4, 3)]);
        assert_eq!(found.heads, []);
        assert_eq!(found.circles[0].behind, [3, 4]);
    }

    #[test]
    fn a_long_chain_is_no_deep_recursion() {
        let mut edges: Vec<(u64, u64)> = (0..20_000).map(|n| (n, n + 1)).collect();
        assert_eq!(search(&edges).heads, [(20_000, 20_000)]);
        edges.push((20_000, 0));
        assert_eq!(search(&edges).circles[0].edges.len(), 20_001);
    }
}
