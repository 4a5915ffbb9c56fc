//! The nodes of the tree: where they are kept, and how they are reached.

use super::{
    Entry,
    node::{Branch, Child, Leaf, Node},
};
use crate::{
    Alloc,
    mem::{OutOfMemory, slots::Slots},
};

/// How many levels of branches there are at most. More than 2^32 leaves can fill.
const LEVELS: usize = 8;

pub(super) type Leaves<V> = Slots<Leaf<V>, 16>;
pub(super) type Branches = Slots<Branch, 16>;

/// A B+tree of intervals.
///
/// A branch knows exactly where each child begins, and has an upper bound for the holes behind its entries. A hole
/// belongs to the entry before it, wherever the next entry is; behind the last entry of all, it ends with the numbers.
///
/// Insertion makes holes smaller and leaves the bounds as they are. What makes a hole wider raises the bounds above it.
/// A search that was led astray by a bound corrects it; so it takes at most the time that insertion saved.
pub(super) struct Tree<V: Copy> {
    pub(super) leaves: Leaves<V>,
    pub(super) branches: Branches,
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
    pub(super) position: usize,
}

/// Where an entry is or would be.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) leaf: u32,
    /// How many entries of the leaf begin at or before the number that was looked for.
    pub(super) position: usize,
    /// The highest number before the next leaf; `u64::MAX` if there is none.
    pub(super) end: u64,
    /// The bound for the holes behind the entries of the leaf; `u64::MAX` if there is no branch to have one.
    pub(super) widest: u64,
}

/// The way from the root to a place.
pub(super) struct Path {
    /// The root is the lowest of them.
    pub(super) steps: Stack<Step>,
    pub(super) place: Place,
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
            node = branch.child(branch.search(at).checked_sub(1)?)?;
        }
        let leaf = self.leaf(node)?;
        leaf.entry(leaf.search(at).checked_sub(1)?)
    }

    /// The place of an interval that begins at `at`, telling each branch that was entered, and at which position.
    #[inline]
    fn descend(&self, at: u64, mut entered: impl FnMut(u32, usize)) -> Option<Place> {
        let mut place = Place { leaf: self.root?, position: 0, end: u64::MAX, widest: u64::MAX };
        for _ in 0..self.height {
            let branch = self.branch(place.leaf)?;
            let position = branch.search(at).saturating_sub(1);
            entered(place.leaf, position);
            let child = branch.item(position)?;
            place.end = branch.end_of(position, place.end);
            (place.leaf, place.widest) = (child.node, child.widest);
        }
        place.position = self.leaf(place.leaf)?.search(at);
        Some(place)
    }

    /// The place of an interval that begins at `at`.
    #[inline]
    pub(super) fn place(&self, at: u64) -> Option<Place> {
        self.descend(at, |_, _| ())
    }

    /// The way to the place of an interval that begins at `at`.
    pub(super) fn path(&self, at: u64) -> Option<Path> {
        let mut steps = Stack::new(Step { branch: 0, position: 0 });
        let place = self.descend(at, |branch, position| steps.push(Step { branch, position }))?;
        Some(Path { steps, place })
    }

    /// Whether an entry has a number of `first` to `last`; the place is that of `first`.
    #[inline]
    pub(super) fn touches(&self, place: Place, first: u64, last: u64) -> bool {
        let Some(leaf) = self.leaf(place.leaf) else {
            return false;
        };
        let before = place.position.checked_sub(1).and_then(|before| leaf.last(before));
        before.is_some_and(|before| before >= first)
            || last > leaf.first(place.position).map_or(place.end, |behind| behind.wrapping_sub(1))
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
            let branch = Node::new(Child { node: 0, widest: 0 });
            self.spares.push(self.branches.insert(branch).ok_or(OutOfMemory)?);
        }
        self.leaves.reserve(alloc)
    }

    /// Whether nodes may be split.
    pub(super) fn is_reserved(&self) -> bool {
        self.leaves.is_reserved() && self.spares.len >= self.spares_needed()
    }

    /// Where a node at a level begins; leaves are level 0.
    pub(super) fn first(&self, level: usize, node: u32) -> Option<u64> {
        if level == 0 { self.leaf(node)?.first(0) } else { self.branch(node)?.first(0) }
    }

    /// No hole behind an entry of a node at a level is wider; `end` is the highest number before the next node.
    pub(super) fn widest(&self, level: usize, node: u32, end: u64) -> Option<u64> {
        Some(if level == 0 { self.leaf(node)?.widest(end) } else { self.branch(node)?.widest() })
    }

    /// Tells a branch where its child at a position begins; `level` is that of the child.
    pub(super) fn refresh(&mut self, level: usize, branch: u32, position: usize) -> Option<()> {
        let first = self.first(level, self.branch(branch)?.child(position)?)?;
        self.branches.get_mut(branch)?.set_first(position, first);
        Some(())
    }

    /// Raises the bounds above the hole behind the entry before a place in a leaf; the place is that of `at`.
    #[inline]
    pub(super) fn raise(&mut self, place: Place, at: u64) -> Option<()> {
        let width = self.leaf(place.leaf)?.hole_behind(place.position.checked_sub(1)?, place.end);
        if width > place.widest { self.raise_to(width, at) } else { Some(()) }
    }

    /// Raises the bounds above the place of `at`.
    #[cold]
    fn raise_to(&mut self, width: u64, at: u64) -> Option<()> {
        let mut path = self.path(at)?;
        while let Some(step) = path.steps.pop() {
            let child = self.branches.get_mut(step.branch)?.item_mut(step.position)?;
            if child.widest >= width {
                break;
            }
            child.widest = width;
        }
        Some(())
    }
}
