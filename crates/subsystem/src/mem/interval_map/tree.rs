//! The nodes of the tree: where they are kept, and how they are reached.

use super::{
    Entry,
    node::{Member, Node, Summary},
};
use crate::{
    Alloc,
    mem::{OutOfMemory, slots::Slots},
};

/// How many levels of branches there are at most. More than 2^32 leaves can fill.
const LEVELS: usize = 8;

/// Entries: values with their intervals.
pub(super) type Leaf<V> = Node<V, ()>;

/// Numbers of nodes, with what is in them and the widest hole there.
pub(super) type Branch = Node<u32, u64>;
pub(super) type Nodes<T, G> = Slots<Node<T, G>, 16>;

/// A B+tree of intervals. A branch holds the [`Summary`] of each child, so that most questions are answered on one
/// way down, and a change goes up only as far as summaries change.
pub(super) struct Tree<V: Copy> {
    pub(super) leaves: Nodes<V, ()>,
    pub(super) branches: Nodes<u32, u64>,
    /// Branches without members, taken when others split.
    pub(super) spares: Stack<u32>,
    /// A leaf, if there are no levels of branches.
    pub(super) root: Option<u32>,
    /// How many levels of branches there are.
    pub(super) height: usize,
    pub(super) len: usize,
}

/// A few values, kept in place.
#[derive(Clone, Copy)]
pub(super) struct Stack<T> {
    values: [T; LEVELS],
    pub(super) len: usize,
}

impl<T: Copy> Stack<T> {
    const fn new(filler: T) -> Self {
        Self { values: [filler; LEVELS], len: 0 }
    }

    pub(super) fn push(&mut self, value: T) {
        if let Some(free) = self.values.get_mut(self.len) {
            *free = value;
            self.len = self.len.wrapping_add(1);
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        self.values.get(self.len).copied()
    }

    pub(super) fn last(&self) -> Option<T> {
        self.values.get(self.len.checked_sub(1)?).copied()
    }
}

/// A branch, and which of its children was entered.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) branch: u32,
    position: u32,
}

impl Step {
    pub(super) fn new(branch: u32, position: usize) -> Option<Self> {
        Some(Self { branch, position: u32::try_from(position).ok()? })
    }

    pub(super) fn position(self) -> usize {
        self.position as usize
    }
}

/// The way from the root to a leaf.
pub(super) struct Path {
    /// The root is the lowest of them.
    pub(super) steps: Stack<Step>,
    pub(super) leaf: u32,
    /// How many entries of the leaf begin at or before the number that was looked for.
    pub(super) position: usize,
    /// Where the next leaf begins, if there is one.
    pub(super) behind: Option<u64>,
}

impl<V: Copy> Tree<V> {
    pub(super) const fn new() -> Self {
        let spares = Stack::new(0);
        Self { leaves: Slots::new(), branches: Slots::new(), spares, root: None, height: 0, len: 0 }
    }

    /// How many bytes are held.
    pub(super) fn memory(&self) -> usize {
        self.leaves.memory().saturating_add(self.branches.memory())
    }

    #[inline]
    pub(super) fn leaf(&self, leaf: u32) -> Option<&Leaf<V>> {
        self.leaves.get(leaf)
    }

    #[inline]
    pub(super) fn branch(&self, branch: u32) -> Option<&Branch> {
        self.branches.get(branch)
    }

    /// The last entry that begins at or before `at`.
    pub(super) fn floor(&self, at: u64) -> Option<Entry<V>> {
        let mut node = self.root?;
        for _ in 0..self.height {
            let branch = self.branch(node)?;
            node = branch.item(branch.search(at).checked_sub(1)?)?;
        }
        let leaf = self.leaf(node)?;
        leaf.entry(leaf.search(at).checked_sub(1)?)
    }

    /// The way to the place where an interval that begins at `at` is or would be.
    #[inline]
    pub(super) fn descend(&self, at: u64) -> Option<Path> {
        let mut node = self.root?;
        let mut steps = Stack::new(Step { branch: 0, position: 0 });
        let mut behind = None;
        for _ in 0..self.height {
            let branch = self.branch(node)?;
            let position = branch.search(at).saturating_sub(1);
            steps.push(Step::new(node, position)?);
            behind = branch.first(position.wrapping_add(1)).or(behind);
            node = branch.item(position)?;
        }
        Some(Path { steps, leaf: node, position: self.leaf(node)?.search(at), behind })
    }

    /// Whether an entry has a number of `first` to `last`; `path` leads to `first`.
    pub(super) fn touches(&self, path: &Path, first: u64, last: u64) -> bool {
        let Some(leaf) = self.leaf(path.leaf) else { return false };
        let before = path.position.checked_sub(1).and_then(|before| leaf.last(before));
        before.is_some_and(|last| last >= first)
            || leaf.first(path.position).or(path.behind).is_some_and(|behind| behind <= last)
    }

    /// How many branches an insertion takes at most, now or after any removals.
    fn spares_needed(&self) -> usize {
        match self.root {
            Some(root) if self.height == 0 => self.leaf(root).is_some_and(Leaf::is_full).into(),
            Some(_) => self.height.saturating_add(1),
            None => 0,
        }
    }

    /// Makes room for one more entry.
    pub(super) fn reserve(&mut self, alloc: &impl Alloc) -> Result<(), OutOfMemory> {
        let needed = self.spares_needed();
        if needed > LEVELS {
            return Err(OutOfMemory);
        }
        while self.spares.len < needed {
            self.branches.reserve(alloc)?;
            let filler = Member { first: 0, last: 0, item: 0, gap: 0 };
            self.spares.push(self.branches.insert(Node::new(filler)).ok_or(OutOfMemory)?);
        }
        self.leaves.reserve(alloc)
    }

    /// Whether nodes may be split.
    pub(super) fn is_reserved(&self) -> bool {
        self.leaves.is_reserved() && self.spares.len >= self.spares_needed()
    }

    /// The summary of a node at a level; leaves are level 0.
    pub(super) fn summary(&self, level: usize, node: u32) -> Option<Summary> {
        if level == 0 { self.leaf(node)?.summary() } else { self.branch(node)?.summary() }
    }

    /// Tells a branch how its child at a position is now; `level` is that of the child.
    pub(super) fn refresh(&mut self, level: usize, branch: u32, position: usize) -> Option<()> {
        let node = self.branch(branch)?.item(position)?;
        let summary = self.summary(level, node)?;
        self.branches.get_mut(branch)?.update(position, summary);
        Some(())
    }

    /// Tells the branches of `steps` the new summary of the node that they lead to.
    pub(super) fn announce(&mut self, steps: &mut Stack<Step>, mut summary: Summary) -> Option<()> {
        while let Some(step) = steps.pop() {
            let branch = self.branches.get_mut(step.branch)?;
            if !branch.update(step.position(), summary) {
                break;
            }
            summary = branch.summary()?;
        }
        Some(())
    }
}
