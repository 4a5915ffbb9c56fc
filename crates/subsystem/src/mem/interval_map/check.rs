//! What is true of a tree at all times.

use std::vec::Vec;

use super::{
    node::{Leaf, Node},
    tree::Tree,
};

/// What a node is found to be.
struct Seen {
    entries: usize,
    /// The highest number in it.
    last: u64,
    /// The width of the widest hole behind an entry, that behind the last one excepted.
    widest: u64,
}

impl<V: Copy> Tree<V> {
    /// Fails the test if something is not as it should be.
    pub(super) fn check(&self) {
        let (mut leaves, mut branches) = (0, self.spares.len);
        let entries = self
            .root
            .map_or(0, |root| self.check_node(self.height, root, (&mut leaves, &mut branches)).entries);
        assert_eq!(entries, self.len, "entries are counted");
        assert_eq!(leaves, self.leaves.len(), "no leaf is lost");
        assert_eq!(branches, self.branches.len(), "no branch is lost");
        if self.root.is_none() {
            assert_eq!((self.height, branches), (0, 0), "an empty tree has nothing");
        }
    }

    fn check_node(&self, level: usize, node: u32, counts: (&mut usize, &mut usize)) -> Seen {
        if level == 0 {
            *counts.0 += 1;
            return check_leaf(self.leaf(node).unwrap());
        }
        *counts.1 += 1;
        let branch = self.branch(node).unwrap();
        check_order(branch);
        let mut seen = Seen { entries: 0, last: 0, widest: 0 };
        for position in 0..branch.len() {
            let child = branch.item(position).unwrap();
            let below = self.check_node(level - 1, child.node, (&mut *counts.0, &mut *counts.1));
            assert_eq!(
                branch.first(position),
                self.first(level - 1, child.node),
                "a child begins where it does"
            );
            let behind = branch.first(position + 1).map_or(0, |next| next - below.last - 1);
            let widest = below.widest.max(behind);
            assert!(child.widest >= widest, "no hole is wider than its branch knows");
            if level > 1 {
                assert!(
                    child.widest >= self.branch(child.node).unwrap().widest(),
                    "bounds grow towards the root"
                );
            }
            seen = Seen {
                entries: seen.entries + below.entries,
                last: below.last,
                widest: seen.widest.max(widest),
            };
        }
        seen
    }
}

fn check_leaf<V: Copy>(leaf: &Leaf<V>) -> Seen {
    check_order(leaf);
    let entries: Vec<_> = (0..leaf.len()).map(|position| leaf.entry(position).unwrap()).collect();
    assert!(entries.iter().all(|entry| entry.first <= entry.last), "no entry ends before it begins");
    assert!(entries.is_sorted_by(|before, behind| before.last < behind.first), "entries are disjoint");
    let last = entries.last().unwrap().last;
    Seen { entries: entries.len(), last, widest: leaf.widest(last) }
}

fn check_order<T: Copy, const N: usize>(node: &Node<T, N>) {
    assert!(node.len() > 0, "no node is empty");
    for position in 0..node.len() {
        assert_eq!(node.search(node.first(position).unwrap()), position + 1, "a member is found");
    }
}
