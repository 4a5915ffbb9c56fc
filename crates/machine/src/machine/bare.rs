//! What a program needs that makes its system calls by itself: bare descriptors, and the tree as files.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use sys::{Access, Error, Mapping, Mmio, Result};

use super::Machine;
use crate::file::{File, Opened};
use crate::process::errno;
use crate::ram::Fate;
use crate::tree::Entry;

/// What a path of a machine stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeEntry<'a> {
    /// A directory.
    Directory,
    /// A link, to an absolute path or one that is relative to its directory.
    Link(&'a Path),
    /// A file whose text stays the same, with its permissions.
    Text(u32, &'a str),
    /// A file whose content is made when it is read, or that does something when it is written.
    Attribute(u32),
    /// A character device.
    Node {
        /// Permissions.
        mode: u32,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

impl Machine {
    /// Opens a node or an attribute. The descriptor is the program's, who may duplicate it, pass it on and close it without a
    /// word to the machine: the last one gone, the file is released with the next call.
    pub fn open_bare(&self, path: &Path, access: Access) -> Result<OwnedFd> {
        let opened = self.open_behind(&self.look_up_target(path)?, path, access, Opened::Installed)?;
        self.shared.files().give_bare(opened.clone(), access, path).map_err(|errno| {
            if let Opened::Installed(file) = opened {
                self.shared.release(file);
            }
            Error::new("open", path.display(), errno)
        })
    }

    /// The path that a bare descriptor was opened at. `None` if it is no file of this machine.
    #[must_use]
    pub fn bare_path(&self, descriptor: impl AsFd) -> Option<Arc<Path>> {
        self.shared.files().path_of(descriptor)
    }

    /// Releases the files of which the program has closed the last descriptor. Each call does so first.
    pub fn release_closed(&self) {
        self.shared.release_closed();
    }

    /// Maps registers at addresses that the program has reserved: [`Sys::map_region`](sys::Sys::map_region), with whole pages of
    /// the program's own choice. They stay reserved when the mapping is dropped.
    pub fn map_region_at(&self, file: &File, mapping: Mapping, addresses: Range<u64>) -> Result<Mmio> {
        self.map_registers(file, mapping, Some(addresses))
    }

    /// The program is about to unmap memory that it has mapped itself, or to give its pages up: those that devices have stay with them,
    /// elsewhere in the address space, until they are unmapped for the last device. After that the program does it.
    pub fn set_aside(&self, addresses: &Range<u64>, fate: Fate) -> Result<()> {
        self.world().domains().set_aside(addresses, fate).map_err(|error| {
            let what = format!("pinned memory in {:#x}..{:#x}", addresses.start, addresses.end);
            Error::new("set aside", what, errno(error))
        })
    }

    /// The program moves memory that it has mapped itself: `go` does that, and answers where it is then. Devices have it there.
    pub fn follow<E>(
        &self,
        from: &Range<u64>,
        go: impl FnOnce() -> std::result::Result<u64, E>,
    ) -> std::result::Result<u64, E> {
        self.world().domains().follow(from, go)
    }

    /// Whether devices have memory that the program has mapped itself, at some of these addresses.
    #[must_use]
    pub fn has_pinned(&self, addresses: &Range<u64>) -> bool {
        self.world().ram().has_pinned(addresses)
    }

    /// What a path stands for, as far as `f` asks for it. Links on the way are followed, one at the end only if `follow`.
    pub fn look_up<R>(&self, path: &Path, follow: bool, f: impl FnOnce(TreeEntry<'_>) -> R) -> Result<R> {
        let found = self.world().tree().look_up(path, follow, |entry| f(shown(entry)));
        found.map_err(|errno| Error::new("stat", path.display(), errno))
    }

    /// Shows every entry of the tree with its path, directories before what is in them.
    pub fn walk_tree(&self, visit: &mut dyn FnMut(&Path, TreeEntry<'_>)) {
        self.world().tree().walk(&mut |path, entry| visit(path, shown(entry)));
    }

    /// How often the tree has changed so far.
    #[must_use]
    pub fn tree_changes(&self) -> u64 {
        self.world().tree().changes()
    }
}

fn shown(entry: &Entry) -> TreeEntry<'_> {
    match entry {
        Entry::Directory(_) => TreeEntry::Directory,
        Entry::Link(target) => TreeEntry::Link(target),
        Entry::Text { mode, text } => TreeEntry::Text(*mode, text),
        Entry::Live { mode, .. } => TreeEntry::Attribute(*mode),
        Entry::Node { mode, major, minor, .. } => {
            TreeEntry::Node { mode: *mode, major: *major, minor: *minor }
        }
    }
}
