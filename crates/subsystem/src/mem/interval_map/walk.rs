//! Walking from one entry to the next, and to the next hole.

use super::{
    Entry,
    tree::{Path, Step, Tree},
};

/// The entries from one on, ascending.
pub(super) struct Walk<'a, V: Copy> {
    tree: &'a Tree<V>,
    path: Option<Path>,
}

impl<V: Copy> Tree<V> {
    /// The entry that contains `at`, and all behind it.
    pub(super) fn walk(&self, at: u64) -> Walk<'_, V> {
        let mut path = self.path(at);
        if let Some(Path { place, .. }) = &mut path {
            let before = place.position.saturating_sub(1);
            let last = self.leaf(place.leaf).and_then(|leaf| leaf.last(before));
            if last.is_some_and(|last| last >= at) {
                place.position = before;
            }
        }
        Walk { tree: self, path }
    }

    /// Leads a path on to the beginning of the next leaf.
    fn next_leaf(&self, path: &mut Path) -> Option<()> {
        let mut climbed = 0_usize;
        path.place.leaf = loop {
            let step = path.steps.pop()?;
            let position = step.position.saturating_add(1);
            if let Some(link) = self.branch(step.branch)?.child(position) {
                path.steps.push(Step { branch: step.branch, position });
                break link;
            }
            climbed = climbed.saturating_add(1);
        };
        for _ in 0..climbed {
            path.steps.push(Step { branch: path.place.leaf, position: 0 });
            path.place.leaf = self.branch(path.place.leaf)?.child(0)?;
        }
        path.place.position = 0;
        Some(())
    }

    /// The lowest hole of at least `length`, as far as it is not below `from`, as its first and last number.
    pub(super) fn hole(&mut self, from: u64, length: u64) -> Option<(u64, u64)> {
        let Some(root) = self.root else {
            return Some((from, u64::MAX));
        };
        let lowest = self.first(self.height, root)?;
        match lowest.checked_sub(from) {
            Some(before) if before >= length => Some((from, lowest.checked_sub(1)?)),
            _ => self.hole_in(self.height, root, u64::MAX, (from, length)),
        }
    }

    /// The same behind the entries of a node at a level; `end` is the highest number before the next node.
    fn hole_in(&mut self, level: usize, node: u32, end: u64, wanted: (u64, u64)) -> Option<(u64, u64)> {
        let (from, length) = wanted;
        let Some(below) = level.checked_sub(1) else {
            return self.leaf(node)?.hole(from, end, length);
        };
        let mut next = self.branch(node)?.search(from).saturating_sub(1);
        loop {
            let branch = self.branch(node)?;
            let position = branch.with_hole(next, length)?;
            let (child, end) = (branch.child(position)?, branch.end_of(position, end));
            if let Some(hole) = self.hole_in(below, child, end, wanted) {
                return Some(hole);
            }
            let widest = self.widest(below, child, end)?;
            self.branches.get_mut(node)?.item_mut(position)?.widest = widest;
            next = position.saturating_add(1);
        }
    }
}

impl<V: Copy> Iterator for Walk<'_, V> {
    type Item = Entry<V>;

    fn next(&mut self) -> Option<Entry<V>> {
        let path = self.path.as_mut()?;
        if path.place.position >= self.tree.leaf(path.place.leaf)?.len() {
            self.tree.next_leaf(path)?;
        }
        let entry = self.tree.leaf(path.place.leaf)?.entry(path.place.position);
        path.place.position = path.place.position.saturating_add(1);
        entry
    }
}
