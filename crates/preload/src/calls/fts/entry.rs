//! An entry of a walk: its layout in C, and what it points to.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_ushort, c_void};
use std::mem::MaybeUninit;
use std::ptr;

use libc::{dev_t, ino_t, nlink_t, stat as Stat};

use super::super::path::{lstat, stat};

/// A file or a directory of a walk. Its name is behind it.
#[repr(C)]
pub struct Entry {
    pub(super) cycle: *mut Entry,
    pub(super) parent: *mut Entry,
    pub(super) link: *mut Entry,
    pub(super) number: c_long,
    pub(super) pointer: *mut c_void,
    pub(super) access_path: *mut c_char,
    pub(super) path: *mut c_char,
    pub(super) errno: c_int,
    pub(super) link_descriptor: c_int,
    pub(super) path_length: c_ushort,
    pub(super) name_length: c_ushort,
    pub(super) inode: ino_t,
    pub(super) device: dev_t,
    pub(super) links: nlink_t,
    pub(super) level: i16,
    pub(super) info: c_ushort,
    pub(super) flags: c_ushort,
    pub(super) instruction: c_ushort,
    pub(super) stat: *mut Stat,
    pub(super) name: [c_char; 0],
}

/// What an entry is.
pub(super) mod info {
    pub(in super::super) const DIRECTORY: u16 = 1;
    pub(in super::super) const CYCLE: u16 = 2;
    pub(in super::super) const OTHER: u16 = 3;
    pub(in super::super) const UNREADABLE: u16 = 4;
    pub(in super::super) const DOT: u16 = 5;
    pub(in super::super) const DIRECTORY_DONE: u16 = 6;
    pub(in super::super) const FILE: u16 = 8;
    pub(in super::super) const UNKNOWN: u16 = 10;
    pub(in super::super) const NOT_ASKED: u16 = 11;
    pub(in super::super) const LINK: u16 = 12;
    pub(in super::super) const DANGLING: u16 = 13;
}

/// What is to be done with an entry.
pub(super) const AGAIN: u16 = 1;
pub(super) const FOLLOW: u16 = 2;
pub(super) const NOTHING: u16 = 3;
pub(super) const SKIP: u16 = 4;

/// An entry, and what it points to.
pub(super) struct Node {
    /// With the name, from `calloc`.
    pub(super) entry: *mut Entry,
    pub(super) path: CString,
    pub(super) stat: Box<Stat>,
}

impl Node {
    pub(super) fn new(path: CString, name: &[u8], parent: *mut Entry, level: i16) -> Self {
        // SAFETY: an entry may be all zero, and there is room for the name and its end behind it.
        let (entry, stat) = unsafe {
            let entry = libc::calloc(1, size_of::<Entry>() + name.len() + 1).cast::<Entry>();
            assert!(!entry.is_null(), "no memory for an entry of a walk");
            ptr::copy_nonoverlapping(name.as_ptr(), (&raw mut (*entry).name).cast(), name.len());
            (entry, Box::new(std::mem::zeroed()))
        };
        let mut node = Node { entry, path, stat };
        let (text, length) = (node.path.as_ptr().cast_mut(), node.path.count_bytes() as u16);
        let stat = &raw mut *node.stat;
        let entry = node.get();
        entry.parent = parent;
        (entry.access_path, entry.path, entry.path_length) = (text, text, length);
        entry.name_length = name.len() as u16;
        entry.level = level;
        entry.instruction = NOTHING;
        entry.stat = stat;
        node
    }

    pub(super) fn get(&mut self) -> &mut Entry {
        // SAFETY: it is this node's, and as long; the program looks at it between calls.
        unsafe { &mut *self.entry }
    }

    /// A path that was given is the entry's name until the walk comes to it; then what is behind the last slash.
    pub(super) fn shorten_name(&mut self) {
        let path = self.path.to_bytes();
        if let Some(slash) = path.iter().rposition(|byte| *byte == b'/').filter(|_| path.len() > 1) {
            let name = path[slash + 1..].to_vec();
            let entry = self.get();
            entry.name_length = name.len() as u16;
            // SAFETY: there is room for a longer one, and the rest of it is zero from its end on.
            unsafe {
                let room = (&raw mut entry.name).cast::<u8>();
                ptr::copy_nonoverlapping(name.as_ptr(), room, name.len());
                *room.add(name.len()) = 0;
            }
        }
    }

    pub(super) fn level(&self) -> i16 {
        // SAFETY: as above.
        unsafe { (*self.entry).level }
    }

    /// Finds out what it is.
    pub(super) fn look(&mut self, follows: bool) {
        let ask = |look: unsafe extern "C-unwind" fn(*const c_char, *mut Stat) -> c_int| {
            let mut answer = MaybeUninit::uninit();
            // SAFETY: the path is a string, and the answer is written if there is one.
            unsafe { (look(self.path.as_ptr(), answer.as_mut_ptr()) == 0).then(|| answer.assume_init()) }
        };
        let there = if follows { ask(stat) } else { None };
        let Some(found) = there.or_else(|| ask(lstat)) else {
            // SAFETY: it points to the calling thread's own errno.
            let errno = unsafe { *libc::__errno_location() };
            let entry = self.get();
            (entry.info, entry.errno) = (info::UNKNOWN, errno);
            return;
        };
        *self.stat = found;
        let entry = self.get();
        (entry.inode, entry.device, entry.links) = (found.st_ino, found.st_dev, found.st_nlink);
        // SAFETY: the name is behind the entry.
        let name = unsafe { CStr::from_ptr((&raw const entry.name).cast()) };
        entry.info = match found.st_mode & libc::S_IFMT {
            libc::S_IFDIR if entry.level > 0 && [c".", c".."].contains(&name) => info::DOT,
            libc::S_IFDIR => {
                entry.cycle = above(entry);
                if entry.cycle.is_null() { info::DIRECTORY } else { info::CYCLE }
            }
            libc::S_IFLNK if follows => info::DANGLING,
            libc::S_IFLNK => info::LINK,
            libc::S_IFREG => info::FILE,
            _ => info::OTHER,
        };
    }
}

/// The directory above an entry that is the same one, or null.
fn above(entry: &Entry) -> *mut Entry {
    let mut parent = entry.parent;
    // SAFETY: the directories above an entry are there as long as it.
    while let Some(directory) = unsafe { parent.as_ref() }.filter(|directory| directory.level >= 0) {
        if (directory.device, directory.inode) == (entry.device, entry.inode) {
            return parent;
        }
        parent = directory.parent;
    }
    ptr::null_mut()
}

impl Drop for Node {
    fn drop(&mut self) {
        // SAFETY: it is from `calloc`, and this node's alone.
        unsafe { libc::free(self.entry.cast()) };
    }
}
