//! Insertion: into a leaf, and up as far as nodes split or summaries change.

use super::{
    Entry,
    node::{Child, FANOUT, Item, Member, Node, Part, Summary},
    tree::{Nodes, Path, Stack, Step, Tree},
};

/// A full node gives members to a sibling with at least this much room; if there is none, it is split.
const ROOM: usize = FANOUT / 8;

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
struct Newcomer<M: Member> {
    position: usize,
    part: Part<M>,
    /// Whether the node is the last of its level.
    in_last: bool,
}

impl<V: Copy> Tree<V> {
    /// Adds an entry that overlaps none; `path` leads to its place. `None`: there is no room, and nothing has changed.
    pub(super) fn insert(&mut self, path: Option<Path>, entry: Entry<V>) -> Option<()> {
        let member = Item { last: entry.last, value: entry.value };
        let part = Part { first: entry.first, link: (), member };
        let Some(mut path) = path else { return self.plant(part) };
        if self.leaf(path.leaf)?.is_full() && !self.is_reserved() {
            return None;
        }
        let in_last = path.behind.is_none();
        let newcomer = Newcomer { position: path.position, part, in_last };
        let siblings = siblings(&self.branches, &path.steps);
        let fresh = |leaves: &mut Nodes<_>| leaves.insert(Node::new(part));
        let put = put(&mut self.leaves, path.leaf, siblings, newcomer, fresh)?;
        self.len = self.len.saturating_add(1);
        self.tell(&mut path.steps, put, in_last)
    }

    /// The first entry of all.
    fn plant(&mut self, part: Part<Item<V>>) -> Option<()> {
        let mut leaf = Node::new(part);
        leaf.insert(0, part);
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
                let part = self.as_part(level, node)?;
                let newcomer = Newcomer { position: position.checked_add(1)?, part, in_last };
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
        let halves = [self.as_part(self.height, self.root?)?, self.as_part(self.height, node)?];
        let branch = self.branches.get_mut(root)?;
        for (position, part) in halves.into_iter().enumerate() {
            branch.insert(position, part);
        }
        self.root = Some(root);
        self.height = self.height.checked_add(1)?;
        Some(())
    }

    /// A node as part of a branch.
    fn as_part(&self, level: usize, node: u32) -> Option<Part<Child>> {
        let Summary { first, last, gap } = self.summary(level, node)?;
        Some(Part { first, link: node, member: Child { last, gap } })
    }
}

/// The neighbours of the node that `steps` lead to.
fn siblings(branches: &Nodes<Child>, steps: &Stack<Step>) -> Siblings {
    let parent = steps.last().and_then(|step| Some((step.position(), branches.get(step.branch)?)));
    let link = |position: Option<usize>| parent?.1.link(position?);
    let position = parent.map(|(position, _)| position);
    Siblings {
        before: link(position.and_then(|position| position.checked_sub(1))),
        behind: link(position.and_then(|position| position.checked_add(1))),
    }
}

/// Puts a member into a node, if need be with the help of a sibling or of a `fresh` node.
fn put<M: Member>(
    nodes: &mut Nodes<M>,
    node: u32,
    siblings: Siblings,
    newcomer: Newcomer<M>,
    fresh: impl FnOnce(&mut Nodes<M>) -> Option<u32>,
) -> Option<Put> {
    let target = nodes.get_mut(node)?;
    if !target.is_full() {
        let before = target.summary();
        target.insert(newcomer.position, newcomer.part);
        return Some(if target.summary() == before { Put::Same } else { Put::Changed });
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
fn put_into_pair<M: Member>(left: &mut Node<M>, right: &mut Node<M>, put: Put, newcomer: Newcomer<M>) {
    let Newcomer { position, part, in_last } = newcomer;
    let position =
        if matches!(put, Put::SharedBefore) { position.saturating_add(left.len()) } else { position };
    let all = left.len().saturating_add(right.len());
    // Who inserts in ascending order leaves full nodes behind.
    let at_end = in_last && position == all && matches!(put, Put::Split(_));
    let count = if at_end { all } else { all / 2 };
    Node::balance(left, right, count);
    if position <= count && !left.is_full() {
        left.insert(position, part);
    } else {
        right.insert(position.saturating_sub(count), part);
    }
}
