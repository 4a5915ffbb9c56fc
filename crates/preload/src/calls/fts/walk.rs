//! A walk, from entry to entry.

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use libc::dev_t;

use super::super::listing::names_in;
use super::entry::{AGAIN, Entry, FOLLOW, NOTHING, Node, SKIP, info};
use super::set_errno;

/// What a program has of a walk.
#[repr(C)]
pub struct Fts {
    pub(super) current: *mut Entry,
    pub(super) child: *mut Entry,
    pub(super) array: *mut *mut Entry,
    pub(super) device: dev_t,
    pub(super) path: *mut c_char,
    pub(super) root: c_int,
    pub(super) path_length: c_int,
    pub(super) items: c_int,
    pub(super) compare: Option<Compare>,
    pub(super) options: c_int,
}

pub(super) type Compare = unsafe extern "C-unwind" fn(*const *const Entry, *const *const Entry) -> c_int;

/// Options.
const FOLLOW_GIVEN: c_int = 0x01;
const LOGICAL: c_int = 0x02;
const NO_STAT: c_int = 0x08;
const SEE_DOTS: c_int = 0x20;
const ONE_MOUNT: c_int = 0x40;
pub(super) const ALL_OPTIONS: c_int = 0xff;
const NAMES_ONLY: c_int = 0x100;

/// The entries of a directory, and which of them the walk is at.
struct Level {
    nodes: Vec<Node>,
    at: usize,
}

/// A walk. Programs have a pointer to its beginning.
#[repr(C)]
pub(super) struct Walk {
    fts: Fts,
    /// What is above the paths that were given.
    _top: Node,
    levels: Vec<Level>,
    /// Entries of the directory that the walk is at, which the program has asked for.
    children: Option<Vec<Node>>,
    begun: bool,
}

impl Walk {
    /// From some paths on.
    pub(super) fn begin(given: Vec<CString>, options: c_int, compare: Option<Compare>) -> Self {
        let top = Node::new(CString::default(), b"", ptr::null_mut(), -1);
        let follows = options & (FOLLOW_GIVEN | LOGICAL) != 0;
        let nodes = given.into_iter().map(|path| {
            let name = path.to_bytes().to_vec();
            let mut node = Node::new(path, &name, top.entry, 0);
            node.look(follows);
            node
        });
        let mut nodes: Vec<Node> = nodes.collect();
        // SAFETY: it may be all zero.
        let fts = Fts { compare, options, ..unsafe { std::mem::zeroed() } };
        let mut walk = Walk { fts, _top: top, levels: Vec::new(), children: None, begun: false };
        walk.arrange(&mut nodes);
        walk.fts.device = nodes.first().map_or(0, |node| node.stat.st_dev);
        walk.levels.push(Level { nodes, at: 0 });
        walk
    }

    /// The next entry, or null at the end.
    pub(super) fn read(&mut self) -> *mut Entry {
        let entry = self.go_on();
        if entry.is_none() {
            set_errno(0);
        }
        self.fts.current = entry.unwrap_or(ptr::null_mut());
        self.fts.current
    }

    /// The entries of the directory that the walk is at, or those that it begins with.
    pub(super) fn children(&mut self, options: c_int) -> *mut Entry {
        if options != 0 && options != NAMES_ONLY {
            set_errno(libc::EINVAL);
            return ptr::null_mut();
        }
        set_errno(0);
        if !self.begun {
            return self.current().map_or(ptr::null_mut(), |node| node.entry);
        }
        if self.current().is_none_or(|node| node.get().info != info::DIRECTORY) {
            return ptr::null_mut();
        }
        match self.list() {
            Ok(nodes) => self.children.insert(nodes).first().map_or(ptr::null_mut(), |node| node.entry),
            Err(errno) => {
                set_errno(errno);
                ptr::null_mut()
            }
        }
    }

    fn has(&self, option: c_int) -> bool {
        self.fts.options & option != 0
    }

    /// The entry that the walk is at.
    fn current(&mut self) -> Option<&mut Node> {
        let level = self.levels.last_mut()?;
        level.nodes.get_mut(level.at)
    }

    /// Puts entries in the order that the program wants, and links them.
    fn arrange(&self, nodes: &mut [Node]) {
        if let Some(compare) = self.fts.compare {
            nodes.sort_by(|one, other| {
                let (one, other) = (one.entry.cast_const(), other.entry.cast_const());
                // SAFETY: the program has passed a function for two pointers to entries.
                unsafe { compare(&raw const one, &raw const other) }.cmp(&0)
            });
        }
        for at in 1..nodes.len() {
            let next = nodes[at].entry;
            nodes[at - 1].get().link = next;
        }
    }

    /// The entries of the directory that the walk is at, or an errno.
    fn list(&mut self) -> Result<Vec<Node>, c_int> {
        let (logical, no_stat, dots) = (self.has(LOGICAL), self.has(NO_STAT), self.has(SEE_DOTS));
        let Some(directory) = self.current() else { return Ok(Vec::new()) };
        let (path, parent, level) = (directory.path.to_bytes(), directory.entry, directory.level());
        let separator: &[u8] = if path.ends_with(b"/") { b"" } else { b"/" };
        let names = names_in(&directory.path)?;
        let mut nodes: Vec<Node> = names
            .iter()
            .filter(|name| dots || ![c".", c".."].contains(&name.as_c_str()))
            .filter_map(|name| {
                let path = CString::new([path, separator, name.to_bytes()].concat()).ok()?;
                let mut node = Node::new(path, name.to_bytes(), parent, level + 1);
                node.look(logical);
                let entry = node.get();
                if no_stat && ![info::DIRECTORY, info::CYCLE, info::DOT].contains(&entry.info) {
                    entry.info = info::NOT_ASKED;
                }
                Some(node)
            })
            .collect();
        self.arrange(&mut nodes);
        Ok(nodes)
    }

    /// Goes to the next entry; `None` at the end.
    fn go_on(&mut self) -> Option<*mut Entry> {
        if !std::mem::replace(&mut self.begun, true) {
            return self.come_to_given();
        }
        let children = self.children.take();
        let (one_mount, device) = (self.has(ONE_MOUNT), self.fts.device);
        let node = self.current()?;
        let pointer = node.entry;
        let entry = node.get();
        let instruction = std::mem::replace(&mut entry.instruction, NOTHING);
        match (instruction, entry.info) {
            (AGAIN, _) => {
                node.look(false);
                return Some(pointer);
            }
            (FOLLOW, info::LINK | info::DANGLING) => {
                node.look(true);
                return Some(pointer);
            }
            (SKIP, info::DIRECTORY) => entry.info = info::DIRECTORY_DONE,
            (_, info::DIRECTORY) if one_mount && entry.device != device => entry.info = info::DIRECTORY_DONE,
            (_, info::DIRECTORY) => match children.map_or_else(|| self.list(), Ok) {
                Ok(nodes) if nodes.is_empty() => self.current()?.get().info = info::DIRECTORY_DONE,
                Ok(nodes) => {
                    let first = nodes.first().map(|node| node.entry);
                    self.levels.push(Level { nodes, at: 0 });
                    return first;
                }
                Err(errno) => {
                    let entry = self.current()?.get();
                    (entry.info, entry.errno) = (info::UNREADABLE, errno);
                }
            },
            _ => return self.go_beside(),
        }
        Some(pointer)
    }

    /// Goes to the next entry of the directory, or to its end.
    fn go_beside(&mut self) -> Option<*mut Entry> {
        self.levels.last_mut()?.at += 1;
        if self.levels.len() == 1 {
            return self.come_to_given();
        }
        while let Some(node) = self.current() {
            match node.get().instruction {
                SKIP => {}
                FOLLOW => {
                    node.look(true);
                    node.get().instruction = NOTHING;
                    return Some(node.entry);
                }
                _ => return Some(node.entry),
            }
            self.levels.last_mut()?.at += 1;
        }
        self.levels.pop();
        let directory = self.current()?;
        directory.get().info = info::DIRECTORY_DONE;
        Some(directory.entry)
    }

    /// Comes to one of the paths that were given, or to the end of the walk.
    fn come_to_given(&mut self) -> Option<*mut Entry> {
        let given = self.current()?;
        given.shorten_name();
        Some(given.entry)
    }
}
