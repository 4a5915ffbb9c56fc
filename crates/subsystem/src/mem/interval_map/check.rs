//! What is true of a tree at all times.

use super::{
    node::{Gap, Node, Summary},
    tree::Tree,
};

impl<V: Copy> Tree<V> {
    /// Fails the test if something is not as it should be.
    pub(super) fn check(&self) {
        let (mut leaves, mut branches) = (0, self.spares.len);
        let entries = self.root.map_or(0, |root| {
            let (_, entries) = self.check_node(self.height, root, (&mut leaves, &mut branches));
            entries
        });
        assert_eq!(entries, self.len, "entries are counted");
        assert_eq!(leaves, self.leaves.len(), "no leaf is lost");
        assert_eq!(branches, self.branches.len(), "no branch is lost");
        if self.root.is_none() {
            assert_eq!((self.height, branches), (0, 0), "an empty tree has nothing");
        }
    }

    /// The summary of a node as it should be, and how many entries are in it.
    fn check_node(&self, level: usize, node: u32, counts: (&mut usize, &mut usize)) -> (Summary, usize) {
        if level == 0 {
            *counts.0 += 1;
            let leaf = self.leaf(node).unwrap();
            return (check_members(leaf), leaf.len());
        }
        *counts.1 += 1;
        let branch = self.branch(node).unwrap();
        let mut entries = 0;
        for position in 0..branch.len() {
            let (summary, below) =
                self.check_node(level - 1, branch.item(position).unwrap(), (&mut *counts.0, &mut *counts.1));
            let (first, last) = (branch.first(position).unwrap(), branch.last(position).unwrap());
            let known = Summary { first, last, gap: branch.gap(position) };
            assert_eq!(known, summary, "a branch knows its children");
            entries += below;
        }
        (check_members(branch), entries)
    }
}

fn check_members<T: Copy, G: Gap>(node: &Node<T, G>) -> Summary {
    let bounds = |position| (node.first(position).unwrap(), node.last(position).unwrap());
    let mut gap = node.gap(0);
    for position in 1..node.len() {
        let ((_, before), (first, last)) = (bounds(position - 1), bounds(position));
        assert!(before < first && first <= last, "members are in order");
        gap = gap.max(first - before - 1).max(node.gap(position));
        assert_eq!(node.search(first), position + 1, "a member is found");
    }
    let summary = Summary { first: bounds(0).0, last: bounds(node.len() - 1).1, gap };
    assert_eq!(node.summary(), Some(summary), "a node knows itself");
    assert_eq!(node.widest, node.widest_of(0..node.len()), "the widest holes are counted");
    summary
}
