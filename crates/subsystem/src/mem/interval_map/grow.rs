//! Insertion: into a leaf, and up as far as nodes are split.

use super::{
    Entry,
    node::{Child, Held, Node},
    tree::{Branches, Leaves, Path, Place, Stack, Step, Tree},
};
use crate::mem::slots::Slots;

/// What became of a node that a member was put into.
#[derive(Clone, Copy)]
enum Put {
    /// It had room.
    Fits,
    /// Members moved between the node and the one before it.
    SharedBefore,
    /// Members moved between the node and the one behind it.
    SharedBehind,
    /// Members moved to a new node behind it.
    Split(u32),
}

/// A node's neighbours under the same branch.
#[derive(Clone, Copy, Default)]
struct Siblings {
    before: Option<u32>,
    behind: Option<u32>,
}

/// A member that is to be put into a node.
struct Newcomer<T> {
    position: usize,
    first: u64,
    item: T,
    /// Whether the node is the last of its level.
    in_last: bool,
}

impl<V: Copy> Tree<V> {
    /// Adds an entry that overlaps none at its place. `None`: there is no room, and nothing has changed.
    #[inline]
    pub(super) fn insert(&mut self, place: Option<Place>, entry: Entry<V>) -> Option<()> {
        let Some(place) = place else {
            return self.plant(entry);
        };
        let leaf = self.leaves.get_mut(place.leaf)?;
        if leaf.is_full() || place.position == 0 {
            return self.insert_with_care(entry);
        }
        leaf.insert(place.position, entry.first, Held::from(entry));
        self.len = self.len.saturating_add(1);
        Some(())
    }

    /// The same where the leaf is full, or the entry will be the first of all.
    #[cold]
    fn insert_with_care(&mut self, entry: Entry<V>) -> Option<()> {
        let path = self.path(entry.first)?;
        let Place { leaf, position, end, .. } = path.place;
        if self.leaf(leaf)?.is_full() && !self.is_reserved() {
            return None;
        }
        if position == 0 {
            self.begin_with(&path, entry)?;
        }
        let newcomer =
            Newcomer { position, first: entry.first, item: Held::from(entry), in_last: end == u64::MAX };
        let siblings = siblings(&self.branches, &path.steps);
        let fresh = |leaves: &mut Leaves<V>| leaves.insert(Node::new(Held::from(entry)));
        let put = put(&mut self.leaves, leaf, siblings, newcomer, fresh)?;
        self.len = self.len.saturating_add(1);
        self.tell(path, put)
    }

    /// The first entry in an empty tree.
    #[cold]
    fn plant(&mut self, entry: Entry<V>) -> Option<()> {
        let mut leaf = Node::new(Held::from(entry));
        leaf.insert(0, entry.first, Held::from(entry));
        self.root = Some(self.leaves.insert(leaf)?);
        self.len = 1;
        Some(())
    }

    /// Has the branches of a path begin with an entry that will be the first of all.
    fn begin_with(&mut self, path: &Path, entry: Entry<V>) -> Option<()> {
        let hole = self.leaf(path.place.leaf)?.first(0)?.checked_sub(entry.last)?.checked_sub(1)?;
        let mut steps = path.steps;
        while let Some(step) = steps.pop() {
            let branch = self.branches.get_mut(step.branch)?;
            branch.set_first(0, entry.first);
            let child = branch.item_mut(0)?;
            child.widest = child.widest.max(hole);
        }
        Some(())
    }

    /// Tells the branches of a path what became of its leaf.
    fn tell(&mut self, mut path: Path, mut put: Put) -> Option<()> {
        for level in 0..self.height {
            let step = path.steps.pop()?;
            put = match put {
                Put::Fits => return Some(()),
                Put::SharedBefore => return self.share(level, step.branch, step.position.checked_sub(1)?),
                Put::SharedBehind => return self.share(level, step.branch, step.position),
                Put::Split(node) => self.adopt(level, &path, step, node)?,
            };
        }
        match put {
            Put::Split(node) => self.rise(node),
            _ => Some(()),
        }
    }

    /// Tells a branch that members moved between its child at a position and the next one.
    pub(super) fn share(&mut self, level: usize, branch: u32, position: usize) -> Option<()> {
        let next = position.checked_add(1)?;
        self.refresh(level, branch, position)?;
        self.refresh(level, branch, next)?;
        let branch = self.branches.get_mut(branch)?;
        let widest = branch.item(position)?.widest.max(branch.item(next)?.widest);
        branch.item_mut(position)?.widest = widest;
        branch.item_mut(next)?.widest = widest;
        Some(())
    }

    /// Puts a node into a branch, behind the child that it was split from; `path` leads to the branch.
    fn adopt(&mut self, level: usize, path: &Path, step: Step, node: u32) -> Option<Put> {
        let first = self.first(level, node)?;
        let item = Child { node, widest: self.widest(level, node, path.place.end)? };
        let split = self.branch(step.branch)?.child(step.position)?;
        let widest = self.widest(level, split, first.checked_sub(1)?)?;
        self.branches.get_mut(step.branch)?.item_mut(step.position)?.widest = widest;
        let position = step.position.checked_add(1)?;
        let newcomer = Newcomer { position, first, item, in_last: path.place.end == u64::MAX };
        let siblings = siblings(&self.branches, &path.steps);
        put(&mut self.branches, step.branch, siblings, newcomer, |_| self.spares.pop())
    }

    /// The root was split: puts a new one on top.
    fn rise(&mut self, node: u32) -> Option<()> {
        let (old, new) = (self.root?, self.spares.pop()?);
        let level = self.height;
        let (first, cut) = (self.first(level, old)?, self.first(level, node)?);
        let left = Child { node: old, widest: self.widest(level, old, cut.checked_sub(1)?)? };
        let right = Child { node, widest: self.widest(level, node, u64::MAX)? };
        let root = self.branches.get_mut(new)?;
        root.insert(0, first, left);
        root.insert(1, cut, right);
        self.root = Some(new);
        self.height = level.checked_add(1)?;
        Some(())
    }
}

/// The neighbours of the node that `steps` lead to.
fn siblings(branches: &Branches, steps: &Stack<Step>) -> Siblings {
    let parent = steps.last().and_then(|step| Some((step.position, branches.get(step.branch)?)));
    let Some((position, branch)) = parent else {
        return Siblings::default();
    };
    Siblings {
        before: position.checked_sub(1).and_then(|before| branch.child(before)),
        behind: position.checked_add(1).and_then(|behind| branch.child(behind)),
    }
}

/// Puts a member into a node, if need be with the help of a sibling or of a `fresh` node.
fn put<T: Copy, const N: usize>(
    nodes: &mut Slots<Node<T, N>, 16>,
    node: u32,
    siblings: Siblings,
    newcomer: Newcomer<T>,
    fresh: impl FnOnce(&mut Slots<Node<T, N>, 16>) -> Option<u32>,
) -> Option<Put> {
    let target = nodes.get_mut(node)?;
    if !target.is_full() {
        target.insert(newcomer.position, newcomer.first, newcomer.item);
        return Some(Put::Fits);
    }
    let room = |node: Option<u32>| node.and_then(|node| nodes.get(node)).map_or(0, Node::room);
    let (before, behind) = (room(siblings.before), room(siblings.behind));
    let (left, right, put) = if before.max(behind) < Node::<T, N>::ROOM {
        let new = fresh(nodes)?;
        (node, new, Put::Split(new))
    } else if before > behind {
        (siblings.before?, node, Put::SharedBefore)
    } else {
        (node, siblings.behind?, Put::SharedBehind)
    };
    let (left, right) = nodes.pair_mut(left, right)?;
    put_into_pair(left, right, put, newcomer);
    Some(put)
}

/// Puts a member into one of two neighbours, sharing what they have between them.
fn put_into_pair<T: Copy, const N: usize>(
    left: &mut Node<T, N>,
    right: &mut Node<T, N>,
    put: Put,
    newcomer: Newcomer<T>,
) {
    let Newcomer { position, first, item, in_last } = newcomer;
    let position =
        if matches!(put, Put::SharedBefore) { position.saturating_add(left.len()) } else { position };
    let all = left.len().saturating_add(right.len());
    // Who inserts in ascending order leaves full nodes behind.
    let at_end = in_last && position == all && matches!(put, Put::Split(_));
    let count = if at_end { all } else { all / 2 };
    Node::balance(left, right, count);
    if position <= count && !left.is_full() {
        left.insert(position, first, item);
    } else {
        right.insert(position.saturating_sub(count), first, item);
    }
}
