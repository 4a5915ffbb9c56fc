//! Removal: from a leaf, and up as far as nodes merge or begin elsewhere.

use super::{
    Entry,
    node::{Branch, Leaf, Node},
    tree::{Stack, Step, Tree},
};
use crate::mem::slots::Slots;

impl<V: Copy> Tree<V> {
    /// Takes away the entry that begins at `first`.
    pub(super) fn remove(&mut self, first: u64) -> Option<Entry<V>> {
        let mut place = self.place(first)?;
        let leaf = self.leaves.get_mut(place.leaf)?;
        place.position = place.position.checked_sub(1)?;
        let entry = leaf.entry(place.position).filter(|entry| entry.first == first)?;
        if place.position == 0 || leaf.len() <= Leaf::<V>::FEW {
            self.remove_with_care(first);
        } else {
            leaf.remove(place.position);
            self.raise(place, first);
        }
        self.len = self.len.saturating_sub(1);
        Some(entry)
    }

    /// The same where the leaf will have few entries, or begin elsewhere.
    #[cold]
    fn remove_with_care(&mut self, first: u64) -> Option<()> {
        let path = self.path(first)?;
        self.leaves.get_mut(path.place.leaf)?.remove(path.place.position.checked_sub(1)?);
        self.mend(path.steps);
        // The entry before the hole may be in another leaf.
        self.raise(self.place(first)?, first)
    }

    /// Shortens the entry that begins at `first`.
    pub(super) fn set_last(&mut self, first: u64, last: u64) -> Option<()> {
        let place = self.place(first)?;
        let leaf = self.leaves.get_mut(place.leaf)?;
        let position = place.position.checked_sub(1)?;
        if leaf.first(position) != Some(first) || !(first..leaf.last(position)?).contains(&last) {
            return None;
        }
        leaf.item_mut(position)?.last = last;
        self.raise(place, first);
        Some(())
    }

    /// After the leaf that `steps` lead to lost an entry: mends the branches above it.
    fn mend(&mut self, mut steps: Stack<Step>) {
        for level in 0..self.height {
            match steps.pop().map(|step| self.mend_branch(level, step)) {
                Some(Some(true)) => {}
                _ => return,
            }
        }
        while self.lower_root().is_some() {}
    }

    /// Mends a branch whose child, at a level, has changed. Whether the branch above it is to be mended as well.
    fn mend_branch(&mut self, level: usize, step: Step) -> Option<bool> {
        let (branch, position) = (step.branch, step.position);
        let child = self.branch(branch)?.child(position)?;
        if self.members(level, child) < if level == 0 { Leaf::<V>::FEW } else { Branch::FEW } {
            self.join(level, step)?;
        } else {
            self.refresh(level, branch, position)?;
        }
        Some(position == 0 || self.branch(branch)?.len() < Branch::FEW)
    }

    /// How many members a node at a level has.
    fn members(&self, level: usize, node: u32) -> usize {
        let members =
            if level == 0 { self.leaf(node).map(Node::len) } else { self.branch(node).map(Node::len) };
        members.unwrap_or(0)
    }

    /// Brings a child with few members together with a sibling.
    fn join(&mut self, level: usize, step: Step) -> Option<()> {
        let (branch, position) = (step.branch, step.position);
        let children = self.branch(branch)?;
        let left =
            if position.saturating_add(1) < children.len() { position } else { position.saturating_sub(1) };
        let right = left.saturating_add(1);
        let Some(right_node) = children.child(right) else {
            return self.keep_or_drop(level, step);
        };
        let left_node = children.child(left)?;
        let merged = if level == 0 {
            merge(&mut self.leaves, left_node, right_node)?
        } else {
            merge(&mut self.branches, left_node, right_node)?
        };
        if !merged {
            return self.share(level, branch, left);
        }
        let children = self.branches.get_mut(branch)?;
        let widest = children.item(right)?.widest;
        children.remove(right);
        let child = children.item_mut(left)?;
        child.widest = child.widest.max(widest);
        self.refresh(level, branch, left)
    }

    /// An only child stays as long as it has members.
    fn keep_or_drop(&mut self, level: usize, step: Step) -> Option<()> {
        let node = self.branch(step.branch)?.child(step.position)?;
        if self.members(level, node) > 0 {
            return self.refresh(level, step.branch, step.position);
        }
        self.branches.get_mut(step.branch)?.remove(step.position);
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
        self.root = self.branch(root)?.child(0);
        self.free(self.height, root);
        self.height = self.height.saturating_sub(1);
        self.root.map(drop)
    }
}

/// Brings two neighbours together: in the left one if that can hold all, which is answered; else half and half.
fn merge<T: Copy, const N: usize>(
    nodes: &mut Slots<Node<T, N>, 16>,
    left_node: u32,
    right_node: u32,
) -> Option<bool> {
    let (left, right) = nodes.pair_mut(left_node, right_node)?;
    let all = left.len().saturating_add(right.len());
    let merged = all <= N;
    Node::balance(left, right, if merged { all } else { all / 2 });
    if merged {
        nodes.remove(right_node);
    }
    Some(merged)
}
