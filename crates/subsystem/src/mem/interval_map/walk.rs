//! Walking from one entry to the next, and to the next hole.

use super::{
    Entry,
    node::Found,
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
        let mut path = self.descend(at);
        if let Some(path) = &mut path {
            let before = path.position.saturating_sub(1);
            let last = self.leaf(path.leaf).and_then(|leaf| leaf.last(before));
            if last.is_some_and(|last| last >= at) {
                path.position = before;
            }
        }
        Walk { tree: self, path }
    }

    /// Leads a path on to the beginning of the next leaf.
    fn next_leaf(&self, path: &mut Path) -> Option<()> {
        let mut climbed = 0_usize;
        path.leaf = loop {
            let step = path.steps.pop()?;
            let position = step.position().saturating_add(1);
            if let Some(link) = self.branch(step.branch)?.item(position) {
                path.steps.push(Step::new(step.branch, position)?);
                break link;
            }
            climbed = climbed.saturating_add(1);
        };
        for _ in 0..climbed {
            path.steps.push(Step::new(path.leaf, 0)?);
            path.leaf = self.branch(path.leaf)?.item(0)?;
        }
        path.position = 0;
        Some(())
    }

    /// The lowest hole of at least `length` that is behind the entry that begins at `at` and before another entry.
    pub(super) fn hole_behind(&self, at: u64, length: u64) -> Option<(u64, u64)> {
        let mut path = self.descend(at)?;
        let leaf = self.leaf(path.leaf)?;
        if let Some(Found::Before(next)) = leaf.hole_behind(path.position.checked_sub(1)?, length) {
            return leaf.hole(next);
        }
        for level in 1..=self.height {
            let step = path.steps.pop()?;
            let branch = self.branch(step.branch)?;
            match branch.hole_behind(step.position(), length) {
                Some(Found::Before(next)) => return branch.hole(next),
                Some(Found::Within(child)) => {
                    return self.hole_within(level.checked_sub(1)?, branch.item(child)?, length);
                }
                None => {}
            }
        }
        None
    }

    /// The lowest hole of at least `length` in a node that has one, at a level.
    fn hole_within(&self, level: usize, mut node: u32, length: u64) -> Option<(u64, u64)> {
        for _ in 0..level {
            let branch = self.branch(node)?;
            match branch.hole_from(0, length)? {
                Found::Before(next) => return branch.hole(next),
                Found::Within(child) => node = branch.item(child)?,
            }
        }
        let leaf = self.leaf(node)?;
        match leaf.hole_from(0, length)? {
            Found::Before(next) => leaf.hole(next),
            Found::Within(_) => None,
        }
    }
}

impl<V: Copy> Iterator for Walk<'_, V> {
    type Item = Entry<V>;

    fn next(&mut self) -> Option<Entry<V>> {
        let path = self.path.as_mut()?;
        if path.position >= self.tree.leaf(path.leaf)?.len() {
            self.tree.next_leaf(path)?;
        }
        let entry = self.tree.leaf(path.leaf)?.entry(path.position);
        path.position = path.position.saturating_add(1);
        entry
    }
}
