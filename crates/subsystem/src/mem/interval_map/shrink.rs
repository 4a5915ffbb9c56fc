//! Removal: from a leaf, and up as far as nodes merge or summaries change.

use super::{
    Entry,
    node::{FANOUT, Gap, Node},
    tree::{Nodes, Path, Step, Tree},
};

/// A node with fewer members is merged or balanced with a sibling.
const FEW: usize = FANOUT / 3;

impl<V: Copy> Tree<V> {
    /// Takes away the entry that begins at `first`.
    pub(super) fn remove(&mut self, first: u64) -> Option<Entry<V>> {
        let path = self.descend(first)?;
        let leaf = self.leaves.get_mut(path.leaf)?;
        let position = path.position.checked_sub(1)?;
        let entry = leaf.entry(position).filter(|entry| entry.first == first)?;
        let changed = leaf.remove(position);
        if leaf.len() < FEW || changed {
            self.mend(path);
        }
        self.len = self.len.saturating_sub(1);
        Some(entry)
    }

    /// Shortens the entry that begins at `first`.
    pub(super) fn set_last(&mut self, first: u64, last: u64) -> Option<()> {
        let path = self.descend(first)?;
        let leaf = self.leaves.get_mut(path.leaf)?;
        let position = path.position.checked_sub(1)?;
        if leaf.first(position) != Some(first) || !(first..leaf.last(position)?).contains(&last) {
            return None;
        }
        if leaf.set_last(position, last) {
            self.mend(path);
        }
        Some(())
    }

    /// After the leaf of a path lost an entry, or a part of one: mends the branches above it.
    #[cold]
    fn mend(&mut self, mut path: Path) {
        for level in 0..self.height {
            match path.steps.pop().map(|step| self.mend_branch(level, step)) {
                Some(Some(true)) => {}
                _ => return,
            }
        }
        while self.lower_root().is_some() {}
    }

    /// Mends a branch whose child, at a level, has changed. Whether the branch above it is to be mended as well.
    fn mend_branch(&mut self, level: usize, step: Step) -> Option<bool> {
        let (branch, position) = (step.branch, step.position());
        let before = self.branch(branch)?.summary();
        let child = self.branch(branch)?.item(position)?;
        if self.members(level, child) < FEW {
            self.join(level, step)?;
        } else {
            self.refresh(level, branch, position)?;
        }
        let branch = self.branch(branch)?;
        Some(branch.len() < FEW || branch.summary() != before)
    }

    /// How many members a node at a level has.
    fn members(&self, level: usize, node: u32) -> usize {
        let members =
            if level == 0 { self.leaf(node).map(Node::len) } else { self.branch(node).map(Node::len) };
        members.unwrap_or(0)
    }

    /// Brings a child with few members together with a sibling.
    fn join(&mut self, level: usize, step: Step) -> Option<()> {
        let (branch, position) = (step.branch, step.position());
        let children = self.branch(branch)?;
        let left =
            if position.saturating_add(1) < children.len() { position } else { position.saturating_sub(1) };
        let right = left.saturating_add(1);
        let Some(right_node) = children.item(right) else { return self.keep_or_drop(level, step) };
        let left_node = children.item(left)?;
        let merged = if level == 0 {
            merge(&mut self.leaves, left_node, right_node)?
        } else {
            merge(&mut self.branches, left_node, right_node)?
        };
        // What gave members comes first, so that the two never seem to overlap.
        if merged {
            self.branches.get_mut(branch)?.remove(right);
            self.refresh(level, branch, left)
        } else if left == position {
            self.refresh(level, branch, right)?;
            self.refresh(level, branch, left)
        } else {
            self.refresh(level, branch, left)?;
            self.refresh(level, branch, right)
        }
    }

    /// An only child stays as long as it has members.
    fn keep_or_drop(&mut self, level: usize, step: Step) -> Option<()> {
        let node = self.branch(step.branch)?.item(step.position())?;
        if self.members(level, node) > 0 {
            return self.refresh(level, step.branch, step.position());
        }
        self.branches.get_mut(step.branch)?.remove(step.position());
        self.free(level, node);
        Some(())
    }

    fn free(&mut self, level: usize, node: u32) {
        if level == 0 {
            self.leaves.remove(node);
        } else {
            self.branches.remove(node);
        }
    }

    /// Takes the root away if it is of no use any more.
    fn lower_root(&mut self) -> Option<()> {
        let root = self.root?;
        let members = self.members(self.height, root);
        if members > 1 || (members == 1 && self.height == 0) {
            return None;
        }
        if self.height == 0 {
            self.root = None;
            self.free(0, root);
            while let Some(spare) = self.spares.pop() {
                self.branches.remove(spare);
            }
            return None;
        }
        self.root = self.branch(root)?.item(0);
        self.free(self.height, root);
        self.height = self.height.saturating_sub(1);
        self.root.map(drop)
    }
}

/// Brings two neighbours together: in the left one if that can hold all, which is answered; else half and half.
fn merge<T: Copy, G: Gap>(nodes: &mut Nodes<T, G>, left_node: u32, right_node: u32) -> Option<bool> {
    let (left, right) = nodes.pair_mut(left_node, right_node)?;
    let all = left.len().saturating_add(right.len());
    let merged = all <= FANOUT;
    Node::balance(left, right, if merged { all } else { all / 2 });
    if merged {
        nodes.remove(right_node);
    }
    Some(merged)
}
