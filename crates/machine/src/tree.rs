//! The files of a machine: `/dev`, `/sys` and the little of `/proc` that a driver looks at.
//!
//! The tree knows names, links, modes and fixed texts. What a file does when it is read or written is decided by who asks
//! for it: [`Live`] says which one it is.
#![forbid(unsafe_code)]

mod iommu;
mod pci;
mod site;
mod vfio;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use subsystem::{Function, Kconfig, NodeKind};
use uapi::Errno;

use crate::bus::Topology;
use crate::spec::CdevName;

pub(crate) use site::Site;

/// How many links are followed in one path, as in Linux.
const LINKS: u32 = 40;

/// What a name in a directory stands for.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Directory(BTreeMap<String, Entry>),
    /// To an absolute path, or one relative to the directory that the link is in.
    Link(PathBuf),
    /// A file with a text that stays the same.
    Text {
        mode: u32,
        text: String,
    },
    /// A file whose content is made when it is asked for.
    Live {
        mode: u32,
        live: Live,
    },
    /// `/dev/kmsg`
    Log,
    /// A character device.
    Node {
        mode: u32,
        major: u32,
        minor: u32,
        kind: NodeKind,
    },
}

/// The files whose content changes, or that do something when they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Live {
    /// `/sys/module/vfio/parameters/enable_unsafe_noiommu_mode`
    UnsafeNoiommuMode,
    /// `/sys/module/iommufd/parameters/allow_unsafe_interrupts`
    UnsafeInterrupts,
    /// `/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts`
    Type1UnsafeInterrupts,
    /// `/sys/module/vfio_iommu_type1/parameters/dma_entry_limit`
    DmaEntryLimit,
    /// `/proc/sys/kernel/tainted`
    Tainted,
    /// `/proc/self/pagemap`
    Pagemap,
    /// `/proc/self/fail-nth`
    FailNth,
    /// `/proc/PID/status`; `None`: of the caller.
    Status(Option<u32>),
    /// `/proc/self/fdinfo/N`
    Fdinfo(i32),
    /// `/proc/devices`
    Devices,
    /// `/proc/interrupts`
    Interrupts,
    /// `/sys/kernel/debug/failslab/ignore-gfp-wait`
    FailslabIgnoresWaiting,
    /// `config` of a PCI device
    Config(Function),
    /// `driver_override` of a PCI device
    DriverOverride(Function),
    /// `sriov_numvfs` of a PCI device
    EnabledVfs(Function),
    /// `/sys/module/vfio_pci/parameters/enable_sriov`
    EnableSriov,
    /// `remove` of a PCI device
    Remove(Function),
    /// `bind` of a driver
    Bind(DriverId),
    /// `unbind` of a driver
    Unbind(DriverId),
    /// `/sys/bus/pci/drivers_probe`
    Probe,
    /// `/sys/bus/pci/rescan`
    Rescan,
}

/// A driver, by its number among those of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DriverId(pub(crate) usize);

impl Entry {
    fn directory() -> Self {
        Entry::Directory(BTreeMap::new())
    }

    /// A readable text, with the line end that attributes have.
    fn text(line: impl std::fmt::Display) -> Self {
        Entry::Text { mode: 0o444, text: format!("{line}\n") }
    }

    fn link(target: impl Into<PathBuf>) -> Self {
        Entry::Link(target.into())
    }
}

/// The files of a machine.
#[derive(Debug)]
pub(crate) struct Tree {
    kconfig: Kconfig,
    cdev_name: CdevName,
    topology: Topology,
    root: RwLock<Entry>,
    changes: AtomicU64,
}

impl Tree {
    /// The files that are there before any device, of a kernel that is built so and has these drivers, by number.
    pub(crate) fn new(
        kconfig: Kconfig,
        cdev_name: CdevName,
        topology: Topology,
        drivers: &[String],
    ) -> Result<Self, Errno> {
        let (root, changes) = (RwLock::new(Entry::directory()), AtomicU64::new(0));
        let tree = Tree { kconfig, cdev_name, topology, root, changes };
        tree.add_vfio()?;
        tree.add_pci(drivers)?;
        Ok(tree)
    }

    /// Adds an entry, and the directories above it that are missing. `EEXIST` if its name is taken. The path is absolute,
    /// without links and dots.
    pub(crate) fn add(&self, path: &str, entry: Entry) -> Result<(), Errno> {
        let mut root = self.root.write().unwrap_or_else(PoisonError::into_inner);
        let mut here = &mut *root;
        for name in names(path) {
            let Entry::Directory(below) = here else { return Err(Errno::ENOTDIR) };
            here = below.entry(name.to_string()).or_insert_with(Entry::directory);
        }
        // An empty directory is what a missing entry has just become.
        match here {
            Entry::Directory(below) if below.is_empty() => *here = entry,
            _ => return Err(Errno::EEXIST),
        }
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Takes an entry away, with everything below it. Nothing happens if there is none.
    pub(crate) fn remove(&self, path: &str) {
        let mut root = self.root.write().unwrap_or_else(PoisonError::into_inner);
        let Some((above, last)) = path.rsplit_once('/') else { return };
        let mut here = &mut *root;
        for name in names(above) {
            match here {
                Entry::Directory(below) => match below.get_mut(name) {
                    Some(entry) => here = entry,
                    None => return,
                },
                _ => return,
            }
        }
        if let Entry::Directory(below) = here {
            below.remove(last);
        }
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// How often the tree has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Shows each entry with its path, directories before what is in them.
    pub(crate) fn walk(&self, visit: &mut dyn FnMut(&Path, &Entry)) {
        fn below(path: &mut PathBuf, entry: &Entry, visit: &mut dyn FnMut(&Path, &Entry)) {
            visit(path, entry);
            if let Entry::Directory(entries) = entry {
                for (name, entry) in entries {
                    path.push(name);
                    below(path, entry, visit);
                    path.pop();
                }
            }
        }
        below(&mut PathBuf::from("/"), &self.root.read().unwrap_or_else(PoisonError::into_inner), visit);
    }

    /// Asks `f` about what a path stands for. Links on the way are followed, one at its end only if `follow`.
    pub(crate) fn look_up<R>(
        &self,
        path: &Path,
        follow: bool,
        f: impl FnOnce(&Entry) -> R,
    ) -> Result<R, Errno> {
        let root = self.root.read().unwrap_or_else(PoisonError::into_inner);
        let mut walk = Walk { root: &root, above: Vec::new(), here: &root, left: VecDeque::new() };
        let mut links = 0;
        walk.push(&of_the_process(path))?;
        while let Some(name) = walk.left.pop_front() {
            if name == ".." {
                // Above the root there is the root.
                walk.here = walk.above.pop().unwrap_or(&root);
                continue;
            }
            let Entry::Directory(below) = walk.here else { return Err(Errno::ENOTDIR) };
            match below.get(&name).ok_or(Errno::ENOENT)? {
                Entry::Link(target) if follow || !walk.left.is_empty() => {
                    links += 1;
                    if links > LINKS {
                        return Err(Errno::ELOOP);
                    }
                    walk.push(target)?;
                }
                entry => {
                    walk.above.push(walk.here);
                    walk.here = entry;
                }
            }
        }
        Ok(f(walk.here))
    }
}

/// The same path with the process for a thread of it: what the tree has of one it has of the other.
fn of_the_process(path: &Path) -> Cow<'_, Path> {
    let below = path.strip_prefix("/proc/self/task").ok();
    let mut names = below.map(Path::components).into_iter().flatten();
    match names.next() {
        Some(Component::Normal(thread)) if thread.as_encoded_bytes().iter().all(u8::is_ascii_digit) => {
            Cow::Owned(Path::new("/proc/self").join(names.collect::<PathBuf>()))
        }
        _ => Cow::Borrowed(path),
    }
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

/// A path that is being looked up.
struct Walk<'a> {
    root: &'a Entry,
    /// The directories from the root to `here`, without it.
    above: Vec<&'a Entry>,
    here: &'a Entry,
    /// The names that are still to be followed.
    left: VecDeque<String>,
}

impl Walk<'_> {
    /// Puts the names of a path before those that are left. An absolute one starts at the root again.
    fn push(&mut self, path: &Path) -> Result<(), Errno> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::RootDir => {
                    self.above.clear();
                    self.here = self.root;
                }
                Component::Normal(name) => names.push(name.to_str().ok_or(Errno::ENOENT)?.to_string()),
                Component::ParentDir => names.push("..".to_string()),
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        for name in names.into_iter().rev() {
            self.left.push_front(name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let root = RwLock::new(Entry::directory());
        let (kconfig, cdev_name, topology) = (Kconfig::FULL, CdevName::default(), Topology::default());
        let tree = Tree { kconfig, cdev_name, topology, root, changes: AtomicU64::new(0) };
        tree.add("/sys/devices/a/vendor", Entry::text("0x1b36")).unwrap();
        tree.add("/sys/bus/a", Entry::link("../devices/a")).unwrap();
        tree.add("/sys/loop", Entry::link("/sys/loop")).unwrap();
        tree
    }

    fn text(tree: &Tree, path: &str) -> Result<String, Errno> {
        tree.look_up(Path::new(path), true, |entry| match entry {
            Entry::Text { text, .. } => text.clone(),
            entry => panic!("{entry:?}"),
        })
    }

    #[test]
    fn links_and_dots_are_followed() {
        let tree = tree();
        assert_eq!(text(&tree, "/sys/devices/a/vendor").unwrap(), "0x1b36\n");
        assert_eq!(text(&tree, "/sys/bus/a/vendor").unwrap(), "0x1b36\n");
        assert_eq!(text(&tree, "/sys/bus/a/../a/./vendor").unwrap(), "0x1b36\n");
        assert_eq!(text(&tree, "/../sys/devices/a/vendor").unwrap(), "0x1b36\n");
    }

    #[test]
    fn refusals_are_those_of_a_kernel() {
        let tree = tree();
        assert_eq!(text(&tree, "/sys/nothing"), Err(Errno::ENOENT));
        assert_eq!(text(&tree, "/sys/devices/a/vendor/x"), Err(Errno::ENOTDIR));
        assert_eq!(text(&tree, "/sys/loop"), Err(Errno::ELOOP));
        assert_eq!(tree.add("/sys/bus/a", Entry::text("")), Err(Errno::EEXIST));
    }

    #[test]
    fn the_last_link_is_followed_only_on_request() {
        let tree = tree();
        let is_link = |entry: &Entry| matches!(entry, Entry::Link(_));
        assert_eq!(tree.look_up(Path::new("/sys/bus/a"), false, is_link), Ok(true));
        assert_eq!(tree.look_up(Path::new("/sys/bus/a"), true, is_link), Ok(false));
    }

    #[test]
    fn what_is_removed_takes_its_subtree_along() {
        let tree = tree();
        tree.remove("/sys/devices/a");
        tree.remove("/sys/devices/a");
        assert_eq!(text(&tree, "/sys/bus/a/vendor"), Err(Errno::ENOENT));
    }
}
