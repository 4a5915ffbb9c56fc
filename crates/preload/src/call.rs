//! The calls on a machine, as data: the process that has the machine makes them, its own and those of the processes that share it.

use std::collections::HashMap;
use std::ffi::{OsStr, c_int};
use std::fmt;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use machine::{BareFile, BareRegion, Fate, FileKey, Handle, Machine, TreeEntry};
use serde::{Deserialize, Serialize};
use sys::{Access, Mapping, Suite, Width};

use crate::crash;
use crate::state::State;

/// A call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request<'a> {
    /// What a path leads to.
    LookUp { path: &'a [u8], follow: bool },
    /// A directory or a file of the tree.
    Open { path: &'a [u8], read: bool, write: bool },
    /// A path is looked at and not opened: this file stands for what is there, even when its path is gone.
    Hold { file: FileKey, path: &'a [u8] },
    /// What a file stands for is opened once more.
    Reopen { file: FileKey, read: bool, write: bool },
    /// The path that a file was opened at.
    PathOf(FileKey),
    /// An ioctl on the descriptor of this number.
    Ioctl { file: FileKey, number: c_int, command: u32, argument: u64 },
    /// Reads at an offset, or where the file is read next, to an address of the program.
    Read { file: FileKey, offset: Option<u64>, address: u64, length: u64 },
    /// Writes likewise.
    Write { file: FileKey, offset: Option<u64>, bytes: &'a [u8] },
    /// Moves where an attribute is read next.
    Seek { file: FileKey, offset: i64, whence: c_int },
    /// `syslog(2)`
    Syslog { action: c_int, address: u64, length: u64 },
    /// Maps a BAR.
    Map { file: FileKey, part: Part },
    /// Where the process has mapped BARs.
    Mapped(Vec<(Range<u64>, BareRegion)>),
    /// A load from a mapped register of so many bytes.
    Load { region: BareRegion, offset: u64, bytes: u8 },
    /// A store to one.
    Store { region: BareRegion, offset: u64, bytes: u8, value: u64 },
    /// Devices that work inside calls get their turn.
    Turn,
    /// Files whose last descriptor is closed are released.
    Closed,
    /// Capabilities that come into effect for the process, and those that go out of it, by their bits.
    Capabilities { raised: u64, dropped: u64 },
    /// The process is about to unmap or to empty memory that devices may have.
    Unmapping { range: Range<u64>, fate: Fate },
}

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::LookUp { path, .. } => write!(f, "a look at {}", as_path(path).display()),
            Request::Open { path, .. } => write!(f, "open {}", as_path(path).display()),
            Request::PathOf(_) => f.write_str("a look at a descriptor"),
            Request::Hold { path, .. } => write!(f, "a look at {}", as_path(path).display()),
            Request::Reopen { .. } => f.write_str("open of a descriptor"),
            Request::Syslog { action, .. } => write!(f, "syslog {action}"),
            Request::Ioctl { number, command, .. } => write!(f, "ioctl {command:#x} on descriptor {number}"),
            Request::Read { .. } => f.write_str("read"),
            Request::Write { .. } => f.write_str("write"),
            Request::Seek { .. } => f.write_str("lseek"),
            Request::Map { .. } | Request::Mapped(_) | Request::Unmapping { .. } => {
                f.write_str("mmap or munmap")
            }
            Request::Load { offset, .. } => write!(f, "a load from the register at {offset:#x}"),
            Request::Store { offset, .. } => write!(f, "a store to the register at {offset:#x}"),
            Request::Turn => f.write_str("a wait"),
            Request::Closed => f.write_str("close"),
            Request::Capabilities { .. } => f.write_str("capset"),
        }
    }
}

/// [`Mapping`], as it is passed on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) writable: bool,
    pub(crate) executable: bool,
    pub(crate) shared: bool,
}

/// What a path of the machine stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// A directory, a link, or a file whose text stays the same: the folder has it.
    Shown,
    Attribute,
    Node {
        mode: u32,
        major: u32,
        minor: u32,
    },
}

/// The answer of a call that was not refused.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Value(u64),
    Bytes(Vec<u8>),
    Entry(Entry),
    Region(BareRegion),
    /// How long a wait may be until the next turn of devices that work inside calls, if there are such.
    Turn(Option<Duration>),
    /// A descriptor, which is passed beside.
    #[serde(skip)]
    Descriptor(OwnedFd),
}

/// An errno, or [`NOT_OURS`].
pub(crate) type Refused = c_int;
/// There is no such file of the machine.
pub(crate) const NOT_OURS: Refused = -1;

impl State {
    /// Makes a call of a process on the machine as that process has it.
    pub(crate) fn make(&self, machine: &Machine, request: &Request<'_>) -> Result<Answer, Refused> {
        let _under_way = crash::UnderWay::new(request);
        let refused = |error: sys::Error| {
            self.refused(&error);
            error.errno().raw()
        };
        let file = |key: FileKey| machine.bare_file(key).ok_or(NOT_OURS);
        Ok(match *request {
            Request::LookUp { path, follow } => {
                let entry = machine.look_up(as_path(path), follow, |entry| match entry {
                    TreeEntry::Directory | TreeEntry::Link(_) | TreeEntry::Text(..) => Entry::Shown,
                    TreeEntry::Attribute(_) => Entry::Attribute,
                    TreeEntry::Node { mode, major, minor } => Entry::Node { mode, major, minor },
                });
                Answer::Entry(entry.map_err(|error| error.errno().raw())?)
            }
            Request::Open { path, read, write } => {
                Answer::Descriptor(machine.open_bare(as_path(path), access(read, write)).map_err(refused)?)
            }
            Request::Hold { file, path } => {
                let handle = Suite::look_up(machine, as_path(path)).map_err(refused)?;
                self.handles().insert(file, handle);
                Answer::Done
            }
            Request::Reopen { file: key, read, write } => {
                let held = self.handles().get(&key).cloned();
                let opened = match held {
                    Some(handle) => machine.open_bare_handle(&handle, access(read, write)),
                    None => {
                        let file = file(key)?;
                        if !file.path().is_absolute() {
                            return Err(libc::ENXIO);
                        }
                        machine.open_bare(file.path(), access(read, write))
                    }
                };
                Answer::Descriptor(opened.map_err(refused)?)
            }
            Request::PathOf(key) => Answer::Bytes(file(key)?.path().as_os_str().as_bytes().to_vec()),
            Request::Ioctl { file: key, number, command, argument } => {
                // SAFETY: the program has promised what the command expects; an address that it may not use is refused.
                let value = unsafe { machine.bare_ioctl(&file(key)?, number, command, argument) };
                Answer::Value(u64::from(value.map_err(refused)?))
            }
            Request::Read { file: key, offset, address, length } => {
                let (file, to) = (file(key)?, (address, length));
                let count = if offset.is_none() && machine.is_stream(&file) {
                    // SAFETY: the program has passed the memory to be written to; what cannot be is refused.
                    unsafe { machine.bare_read_stream(&file, to) }.map_err(refused)?
                } else {
                    // SAFETY: likewise.
                    self.at(key, offset, |at| unsafe { machine.bare_read(&file, to, at) }.map_err(refused))?
                };
                Answer::Value(count as u64)
            }
            Request::Write { file: key, offset, bytes } => {
                let file = file(key)?;
                let count = if offset.is_none() && machine.is_stream(&file) {
                    machine.bare_write_stream(&file, bytes).map_err(refused)?
                } else {
                    self.at(key, offset, |at| machine.bare_write(&file, bytes, at).map_err(refused))?
                };
                Answer::Value(count as u64)
            }
            Request::Seek { file: key, offset, whence } => {
                let file = file(key)?;
                if machine.is_log(&file) {
                    machine.seek_log(&file, offset, whence).map_err(refused)?;
                    return Ok(Answer::Value(0));
                }
                Answer::Value(self.seek((key, &file), offset, whence)?)
            }
            Request::Syslog { action, address, length } => {
                // SAFETY: the program has passed the memory to be written to; what cannot be is refused.
                let told = unsafe { machine.syslog(action, (address, length)) };
                Answer::Value(told.map_err(|error| error.errno().raw())?)
            }
            Request::Map { file: key, part } => {
                let Part { offset, length, writable, executable, shared } = part;
                let mapping = Mapping { offset, length: length as usize, writable, executable, shared };
                Answer::Region(machine.bare_map(&file(key)?, mapping).map_err(refused)?)
            }
            Request::Mapped(ref mapped) => {
                machine.set_mapped(mapped);
                Answer::Done
            }
            Request::Load { region, offset, bytes } => {
                let value = machine.register_read(&region, offset, width(bytes)?);
                Answer::Value(value.map_err(|_| libc::EIO)?)
            }
            Request::Store { region, offset, bytes, value } => {
                machine.register_write(&region, offset, width(bytes)?, value).map_err(|_| libc::EIO)?;
                Answer::Done
            }
            Request::Turn => Answer::Turn(machine.take_turns()),
            Request::Closed => {
                machine.release_closed();
                Answer::Done
            }
            Request::Capabilities { raised, dropped } => {
                machine.change_capabilities(raised, dropped);
                Answer::Done
            }
            Request::Unmapping { ref range, fate } => {
                machine.set_aside(range, fate).map_err(|error| {
                    self.refused(&error);
                    libc::ENOMEM
                })?;
                Answer::Done
            }
        })
    }

    /// What is held open by a look at it alone.
    fn handles(&self) -> MutexGuard<'_, HashMap<FileKey, Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads or writes at an offset, or where the file is read next, which is further on then.
    fn at(
        &self,
        file: FileKey,
        offset: Option<u64>,
        work: impl FnOnce(u64) -> Result<usize, Refused>,
    ) -> Result<usize, Refused> {
        if let Some(offset) = offset {
            return work(offset);
        }
        let positions = || self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        let at = positions().get(&file).copied().unwrap_or(0);
        let count = work(at)?;
        positions().insert(file, at + count as u64);
        Ok(count)
    }

    /// Moves where an attribute is read next; a node has no such place.
    fn seek(&self, (key, file): (FileKey, &BareFile), offset: i64, whence: c_int) -> Result<u64, Refused> {
        let is_node = file.path().starts_with("/dev") || !file.path().is_absolute();
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        let now = positions.get(&key).copied().unwrap_or(0).cast_signed();
        let base = match whence {
            _ if is_node => return Err(libc::ESPIPE),
            libc::SEEK_SET => 0,
            libc::SEEK_CUR => now,
            _ => return Err(libc::EINVAL),
        };
        let to = base.checked_add(offset).and_then(|to| u64::try_from(to).ok()).ok_or(libc::EINVAL)?;
        positions.insert(key, to);
        Ok(to)
    }
}

fn access(read: bool, write: bool) -> Access {
    match (read, write) {
        (_, false) => Access::Read,
        (false, true) => Access::Write,
        (true, true) => Access::ReadWrite,
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn width(bytes: u8) -> Result<Width, Refused> {
    match bytes {
        1 => Ok(Width::U8),
        2 => Ok(Width::U16),
        4 => Ok(Width::U32),
        8 => Ok(Width::U64),
        _ => Err(libc::EINVAL),
    }
}

/// The calls, as the functions of libc make them. An answer of another kind than the call's comes from no machine.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) -> $result:ty = $request:expr, $pattern:pat => $value:expr;)*) => {
        impl State {$(
            $(#[$doc])*
            pub(crate) fn $name(&self, $($argument: $type),*) -> Result<$result, Refused> {
                match self.ask(&$request)? {
                    $pattern => Ok($value),
                    _ => Err(libc::EIO),
                }
            }
        )*}
    };
}

calls! {
    /// What a path leads to.
    look_up(path: &Path, follow: bool) -> Entry
        = Request::LookUp { path: path.as_os_str().as_bytes(), follow }, Answer::Entry(entry) => entry;
    /// Opens a path, for reading or writing or both.
    open(path: &Path, read: bool, write: bool) -> OwnedFd
        = Request::Open { path: path.as_os_str().as_bytes(), read, write }, Answer::Descriptor(file) => file;
    /// A file stands for what a path leads to.
    hold(file: FileKey, path: &Path) -> ()
        = Request::Hold { file, path: path.as_os_str().as_bytes() }, Answer::Done => ();
    /// Opens what a file stands for once more.
    reopen(file: FileKey, read: bool, write: bool) -> OwnedFd
        = Request::Reopen { file, read, write }, Answer::Descriptor(file) => file;
    /// The path that a file was opened at.
    path_of(file: FileKey) -> Vec<u8> = Request::PathOf(file), Answer::Bytes(path) => path;
    /// Makes an ioctl on the descriptor of a number.
    ioctl(file: FileKey, number: c_int, command: u32, argument: u64) -> u64
        = Request::Ioctl { file, number, command, argument }, Answer::Value(value) => value;
    /// Reads at an offset, or where the file is read next, to an address of the program.
    read(file: FileKey, offset: Option<u64>, address: u64, length: u64) -> u64
        = Request::Read { file, offset, address, length }, Answer::Value(count) => count;
    /// Writes likewise.
    write(file: FileKey, offset: Option<u64>, bytes: &[u8]) -> u64
        = Request::Write { file, offset, bytes }, Answer::Value(count) => count;
    /// Moves where an attribute is read next.
    seek_to(file: FileKey, offset: i64, whence: c_int) -> u64
        = Request::Seek { file, offset, whence }, Answer::Value(to) => to;
    /// `syslog(2)`
    syslog(action: c_int, address: u64, length: u64) -> u64
        = Request::Syslog { action, address, length }, Answer::Value(value) => value;
    /// Maps a BAR.
    map(file: FileKey, part: Part) -> BareRegion
        = Request::Map { file, part }, Answer::Region(region) => region;
    /// Says where this process has mapped BARs.
    mapped(all: Vec<(Range<u64>, BareRegion)>) -> () = Request::Mapped(all), Answer::Done => ();
    /// Loads from a mapped register.
    load(region: BareRegion, offset: u64, width: Width) -> u64
        = Request::Load { region, offset, bytes: width.bytes() as u8 }, Answer::Value(value) => value;
    /// Stores to one.
    store(region: BareRegion, offset: u64, width: Width, value: u64) -> ()
        = Request::Store { region, offset, bytes: width.bytes() as u8, value }, Answer::Done => ();
    /// Gives devices that work inside calls their turn.
    turn() -> Option<Duration> = Request::Turn, Answer::Turn(slice) => slice;
    /// Has files released whose last descriptor is closed.
    closed() -> () = Request::Closed, Answer::Done => ();
    /// Says which capabilities come into effect for this process, and which go.
    capabilities(raised: u64, dropped: u64) -> () = Request::Capabilities { raised, dropped }, Answer::Done => ();
    /// Has memory kept that devices have and this process unmaps or empties.
    unmapping(range: Range<u64>, fate: Fate) -> () = Request::Unmapping { range, fate }, Answer::Done => ();
}
