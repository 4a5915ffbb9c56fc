//! Insertion: into a leaf, and up as far as nodes split or summaries change.

use super::{
    Entry,
    node::{FANOUT, Gap, Member, Node, Summary},
    tree::{Nodes, Path, Stack, Step, Tree},
};

/// A full node gives members to a sibling with at least this much room; if there is none, it is split.
const ROOM: usize = FANOUT / 16;

/// What became of a node that a member was put into.
#[derive(Clone, Copy)]
enum Put {
    /// Its summary is what it was.
    Same,
    /// Its summary changed.
    Changed,
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
struct Newcomer<T, G> {
    position: usize,
    member: Member<T, G>,
    /// Whether the node is the last of its level.
    in_last: bool,
}

impl<V: Copy> Tree<V> {
    /// Adds an entry that overlaps none; `path` leads to its place. `None`: there is no room, and nothing has changed.
    #[inline]
    pub(super) fn insert(&mut self, path: Option<&mut Path>, entry: Entry<V>) -> Option<()> {
        let member = Member { first: entry.first, last: entry.last, item: entry.value, gap: () };
        let Some(path) = path else { return self.plant(member) };
        let leaf = self.leaves.get_mut(path.leaf)?;
        if leaf.is_full() {
            return self.insert_in_full(path, member);
        }
        self.len = self.len.saturating_add(1);
        if !leaf.insert(path.position, member) {
            return Some(());
        }
        let summary = leaf.summary()?;
        self.announce(&mut path.steps, summary)
    }

    /// The same where the leaf is full.
    #[cold]
    fn insert_in_full(&mut self, path: &mut Path, member: Member<V, ()>) -> Option<()> {
        if !self.is_reserved() {
            return None;
        }
        let in_last = path.behind.is_none();
        let newcomer = Newcomer { position: path.position, member, in_last };
        let siblings = siblings(&self.branches, &path.steps);
        let fresh = |leaves: &mut Nodes<_, _>| leaves.insert(Node::new(member));
        let put = put(&mut self.leaves, path.leaf, siblings, newcomer, fresh)?;
        self.len = self.len.saturating_add(1);
        self.tell(&mut path.steps, put, in_last)
    }

    /// The first entry of all.
    #[cold]
    fn plant(&mut self, member: Member<V, ()>) -> Option<()> {
        let mut leaf = Node::new(member);
        leaf.insert(0, member);
        self.root = Some(self.leaves.insert(leaf)?);
        self.len = 1;
        Some(())
    }

    /// Tells the branches above a leaf what became of it.
    fn tell(&mut self, steps: &mut Stack<Step>, mut put: Put, in_last: bool) -> Option<()> {
        for level in 0..self.height {
            if matches!(put, Put::Same) {
                return Some(());
            }
            put = self.tell_branch(level, steps, put, in_last)?;
        }
        match put {
            Put::Split(node) => self.rise(node),
            _ => Some(()),
        }
    }

    /// Tells the last branch of `steps` what became of its child at a level, and what became of the branch by that.
    fn tell_branch(&mut self, level: usize, steps: &mut Stack<Step>, put: Put, in_last: bool) -> Option<Put> {
        let step = steps.pop()?;
        let (branch, position) = (step.branch, step.position());
        let before = self.branch(branch)?.summary();
        self.refresh(level, branch, position)?;
        match put {
            Put::SharedBefore => self.refresh(level, branch, position.checked_sub(1)?)?,
            Put::SharedBehind => self.refresh(level, branch, position.checked_add(1)?)?,
            Put::Split(node) => {
                let member = self.as_member(level, node)?;
                let newcomer = Newcomer { position: position.checked_add(1)?, member, in_last };
                let siblings = siblings(&self.branches, steps);
                let put = self::put(&mut self.branches, branch, siblings, newcomer, |_| self.spares.pop())?;
                if !matches!(put, Put::Same) {
                    return Some(put);
                }
            }
            Put::Same | Put::Changed => {}
        }
        let same = self.branch(branch)?.summary() == before;
        Some(if same { Put::Same } else { Put::Changed })
    }

    /// The root was split: puts a new one on top.
    fn rise(&mut self, node: u32) -> Option<()> {
        let root = self.spares.pop()?;
        let halves = [self.as_member(self.height, self.root?)?, self.as_member(self.height, node)?];
        let branch = self.branches.get_mut(root)?;
        for (position, member) in halves.into_iter().enumerate() {
            branch.insert(position, member);
        }
        self.root = Some(root);
        self.height = self.height.checked_add(1)?;
        Some(())
    }

    /// A node as a member of a branch.
    fn as_member(&self, level: usize, node: u32) -> Option<Member<u32, u64>> {
        let Summary { first, last, gap } = self.summary(level, node)?;
        Some(Member { first, last, item: node, gap })
    }
}

/// The neighbours of the node that `steps` lead to.
fn siblings(branches: &Nodes<u32, u64>, steps: &Stack<Step>) -> Siblings {
    let parent = steps.last().and_then(|step| Some((step.position(), branches.get(step.branch)?)));
    let item = |position: Option<usize>| parent?.1.item(position?);
    let position = parent.map(|(position, _)| position);
    Siblings {
        before: item(position.and_then(|position| position.checked_sub(1))),
        behind: item(position.and_then(|position| position.checked_add(1))),
    }
}

/// Puts a member into a node, if need be with the help of a sibling or of a `fresh` node.
fn put<T: Copy, G: Gap>(
    nodes: &mut Nodes<T, G>,
    node: u32,
    siblings: Siblings,
    newcomer: Newcomer<T, G>,
    fresh: impl FnOnce(&mut Nodes<T, G>) -> Option<u32>,
) -> Option<Put> {
    let target = nodes.get_mut(node)?;
    if !target.is_full() {
        let changed = target.insert(newcomer.position, newcomer.member);
        return Some(if changed { Put::Changed } else { Put::Same });
    }
    let room = |node: Option<u32>| node.and_then(|node| nodes.get(node)).map_or(0, Node::room);
    let (before, behind) = (room(siblings.before), room(siblings.behind));
    let (left, right, put) = if before.max(behind) < ROOM {
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
fn put_into_pair<T: Copy, G: Gap>(
    left: &mut Node<T, G>,
    right: &mut Node<T, G>,
    put: Put,
    newcomer: Newcomer<T, G>,
) {
    let Newcomer { position, member, in_last } = newcomer;
    let position =
        if matches!(put, Put::SharedBefore) { position.saturating_add(left.len()) } else { position };
    let all = left.len().saturating_add(right.len());
    // Who inserts in ascending order leaves full nodes behind.
    let at_end = in_last && position == all && matches!(put, Put::Split(_));
    let count = if at_end { all } else { all / 2 };
    Node::balance(left, right, count);
    if position <= count && !left.is_full() {
        left.insert(position, member);
    } else {
        right.insert(position.saturating_sub(count), member);
    }
}
