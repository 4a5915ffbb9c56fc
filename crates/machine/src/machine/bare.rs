//! What a program needs that makes its system calls by itself: bare descriptors, and the tree as files.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use subsystem::{Function, MappedMemory, MappedRegion};
use sys::{Access, Error, Mapping, MmioError, Result, Suite, Width};
use uapi::Errno;

use super::calls::{Found, LOG, LOG_MODE};
use super::{Handle, Machine, registers};
use crate::bus::PciFunction;
use crate::file::{BareFile, FileKey, Files, Opened};
use crate::lock::lock;
use crate::log::{Place, Told};
use crate::model::Register;
use crate::process::{ProcessMemory, errno};
use crate::ram::Fate;
use crate::tree::Entry;
use crate::world;

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

/// What is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BareRegion {
    of: Mappable,
    /// As much of it as was asked for.
    length: u64,
    writable: bool,
}

/// What can be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Mappable {
    /// A part of a BAR.
    Bar {
        function: u32,
        bar: u8,
        /// Where it starts in the BAR.
        start: u64,
    },
    /// Memory of the subsystem's own: of an object of a context.
    Memory { context: u32, object: u32 },
}

impl Machine {
    /// Opens a node or an attribute. The descriptor is the program's, who may duplicate it, pass it on and close it without a
    /// word to the machine: the last one gone, the file is released with the next call.
    pub fn open_bare(&self, path: &Path, access: Access) -> Result<OwnedFd> {
        self.open_bare_handle(&Suite::look_up(self, path)?, access)
    }

    /// As [`Machine::open_bare`], of what was looked up before: its path may be gone by now.
    pub fn open_bare_handle(&self, handle: &Handle, access: Access) -> Result<OwnedFd> {
        let Handle { path, target } = handle;
        let opened = self.open_behind(target, path, access, Opened::Installed)?;
        self.shared.files().give_bare(opened.clone(), access, path).map_err(|errno| {
            if let Opened::Installed(file) = opened {
                self.shared.release(file);
            }
            Error::new("open", path.display(), errno)
        })
    }

    /// The open file of a placeholder. `None` if it is no file of this machine.
    #[must_use]
    pub fn bare_file(&self, key: FileKey) -> Option<BareFile> {
        Files::find(&self.shared, key, false).map(BareFile)
    }

    /// `pread(2)` of so many bytes, to an address of the program. EFAULT if nothing can be written there.
    ///
    /// # Safety
    ///
    /// What is at that address is the program's to be written to, as it has promised.
    pub unsafe fn bare_read(
        &self,
        file: &BareFile,
        (address, length): (u64, u64),
        offset: u64,
    ) -> Result<usize> {
        let mut bytes = vec![0; length as usize];
        let count = self.read_at(file.opened(), file.path(), &mut bytes, offset)?;
        // SAFETY: as the caller has promised.
        let own = unsafe { ProcessMemory::new() };
        let copied = self.memory(&own).write(address, &bytes[..count]);
        copied.map(|()| count).map_err(|errno| Error::new("read", file.path().display(), errno))
    }

    /// `pwrite(2)`
    pub fn bare_write(&self, file: &BareFile, bytes: &[u8], offset: u64) -> Result<usize> {
        self.write_at(file.opened(), file.path(), bytes, offset)
    }

    /// Whether a file is read and written without positions.
    #[must_use]
    pub fn is_stream(&self, file: &BareFile) -> bool {
        self.is_log(file) || self.stream_of(file.opened()).is_some()
    }

    /// Whether a file is the log, which is read record by record.
    #[must_use]
    pub fn is_log(&self, file: &BareFile) -> bool {
        matches!(file.opened().opened(), Opened::Log(_))
    }

    /// `lseek(2)` of the log: the record that is read next is the first (`SEEK_SET`), the first that was not cleared (`SEEK_DATA`), or the
    /// next to come (`SEEK_END`).
    pub fn seek_log(&self, file: &BareFile, offset: i64, whence: i32) -> Result<()> {
        let place = match whence {
            _ if offset != 0 => Err(Errno::ESPIPE),
            libc::SEEK_SET => Ok(Place::First),
            libc::SEEK_DATA => Ok(Place::Cleared),
            libc::SEEK_END => Ok(Place::End),
            _ => Err(Errno::EINVAL),
        };
        let place = place.map_err(|errno| Error::new("lseek", file.path().display(), errno))?;
        if let Opened::Log(next) = file.opened().opened() {
            *lock(next) = self.world().log().place(place);
        }
        self.shared.show_readable();
        Ok(())
    }

    /// `syslog(2)` but for waiting: EAGAIN if there is nothing to read yet.
    ///
    /// # Safety
    ///
    /// As for [`Machine::bare_read`].
    pub unsafe fn syslog(&self, action: i32, (address, length): (u64, u64)) -> Result<u64> {
        // SAFETY: as the caller has promised.
        let own = unsafe { ProcessMemory::new() };
        let told = self.world().log().call(action, length).and_then(|told| match told {
            Told::Text(text) => self.memory(&own).write(address, text.as_bytes()).map(|()| text.len() as u64),
            Told::Number(number) => Ok(number),
        });
        told.map_err(|errno| Error::new("syslog", action, errno))
    }

    /// `read(2)` of such a file, to an address of the program. What cannot be written there is read another time.
    ///
    /// # Safety
    ///
    /// As for [`Machine::bare_read`].
    pub unsafe fn bare_read_stream(&self, file: &BareFile, to: (u64, u64)) -> Result<usize> {
        if self.is_log(file) {
            // SAFETY: as the caller has promised.
            return unsafe { self.bare_read(file, to, 0) };
        }
        let refused = || Error::new("read", file.path().display(), Errno::EBADF);
        let id = self.stream_of(file.opened()).ok_or_else(refused)?;
        // SAFETY: as the caller has promised.
        let own = unsafe { ProcessMemory::new() };
        self.stream_read(id, file.path(), self.memory(&own), to)
    }

    /// `write(2)` to such a file.
    pub fn bare_write_stream(&self, file: &BareFile, bytes: &[u8]) -> Result<usize> {
        self.stream_write(file.opened(), file.path(), bytes)
    }

    /// `ioctl(2)` on the descriptor of this number.
    ///
    /// # Safety
    ///
    /// As for [`Sys::ioctl_raw`](sys::Sys::ioctl_raw).
    pub unsafe fn bare_ioctl(
        &self,
        file: &BareFile,
        number: i32,
        command: u32,
        argument: u64,
    ) -> Result<u32> {
        // SAFETY: as the caller has promised.
        unsafe { self.ioctl_on(Some(file.opened()), number, command, argument) }
    }

    /// Maps a part of a BAR, or memory of an iommufd context, without addresses: each access to them comes by [`Machine::register_read`] or
    /// [`Machine::register_write`].
    pub fn bare_map(&self, file: &BareFile, mapping: Mapping) -> Result<BareRegion> {
        let Mapping { length, writable, .. } = mapping;
        let of = match self.region(file.opened(), file.path(), mapping)? {
            Found::Bar(function, MappedRegion { index: bar, offset: start, .. }) => {
                Mappable::Bar { function: function.number().0, bar, start }
            }
            Found::Memory(MappedMemory { context, object }) => Mappable::Memory { context, object },
        };
        Ok(BareRegion { of, length: length as u64, writable })
    }

    /// Reads a register at an offset of a mapping; all ones behind its end.
    pub fn register_read(
        &self,
        region: &BareRegion,
        offset: u64,
        width: Width,
    ) -> std::result::Result<u64, MmioError> {
        if let Mappable::Memory { context, object } = region.of {
            return Ok(self.shared.memory_read(MappedMemory { context, object }, offset, width));
        }
        let register = self.register(region, offset, width)?;
        let value = register.map_or(u64::MAX, |(function, register)| function.read(register));
        self.shared.settle();
        Ok(value)
    }

    /// Writes a register.
    pub fn register_write(
        &self,
        region: &BareRegion,
        offset: u64,
        width: Width,
        value: u64,
    ) -> std::result::Result<(), MmioError> {
        if let Mappable::Memory { context, object } = region.of {
            self.shared.memory_write(MappedMemory { context, object }, offset, width, value);
            return Ok(());
        }
        if let Some((function, register)) = self.register(region, offset, width)? {
            function.write(register, value);
        }
        self.shared.settle();
        Ok(())
    }

    /// The register at an offset of a mapping; `None` behind the end of the BAR or of what was asked for.
    fn register(
        &self,
        region: &BareRegion,
        offset: u64,
        width: Width,
    ) -> std::result::Result<Option<(&PciFunction, Register)>, MmioError> {
        let revoked = MmioError::Revoked { offset: offset as usize };
        let Mappable::Bar { function, bar, start } = region.of else { return Err(revoked) };
        let function = self.world().bus().get(Function(function)).ok_or(revoked)?;
        if !function.mappings_enabled() {
            return Err(revoked);
        }
        let size = registers::size_of_bar(function, bar);
        let at = start.saturating_add(offset);
        let bytes = width.bytes() as u64;
        let inside = at.is_multiple_of(bytes)
            && offset.checked_add(bytes).is_some_and(|end| end <= region.length)
            && at < size;
        Ok(inside.then_some((&**function, Register { bar, offset: at, width })))
    }

    /// Says where the caller has mapped what, all of it: a mapping of memory for devices may be of a BAR, and what is mapped
    /// of a context stays.
    pub fn set_mapped(&self, mapped: &[(Range<u64>, BareRegion)]) {
        let bars = mapped.iter().filter_map(|(addresses, region)| {
            let Mappable::Bar { function, .. } = region.of else { return None };
            let function = Arc::clone(self.world().bus().get(Function(function))?);
            let bar = world::MappedRegion { end: addresses.end, function, writable: region.writable };
            Some((addresses.start, bar))
        });
        let memory = mapped.iter().filter_map(|(_, region)| match region.of {
            Mappable::Bar { .. } => None,
            Mappable::Memory { context, object } => Some(MappedMemory { context, object }),
        });
        let task = self.caller.elsewhere.as_ref().map(|_| self.caller.task);
        self.world().regions().set(task, bars.collect());
        self.shared.set_mapped(task, memory.collect());
    }

    /// Whether the program has descriptors or mappings of any file.
    #[must_use]
    pub fn has_bare_files(&self) -> bool {
        self.shared.release_closed();
        self.shared.files().are_installed()
    }

    /// Releases the files of which the program has closed the last descriptor. Each call does so first.
    pub fn release_closed(&self) {
        self.shared.release_closed();
    }

    /// The program is about to unmap memory that it has mapped itself, or to give its pages up: those that devices have stay with them,
    /// elsewhere in the address space, until they are unmapped for the last device. After that the program does it. What another
    /// process than this is about to unmap is copied.
    pub fn set_aside(&self, addresses: &Range<u64>, fate: Fate) -> Result<()> {
        self.world().domains().set_aside(self.caller.task, addresses, fate).map_err(|error| {
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
        self.world().domains().follow(self.caller.task, from, go)
    }

    /// Whether devices have memory that this process has mapped itself, at some of these addresses.
    #[must_use]
    pub fn has_pinned(&self, addresses: &Range<u64>) -> bool {
        self.world().ram().has_pinned(addresses)
    }

    /// What a path stands for, as far as `f` asks for it. Links on the way are followed, one at the end only if `follow`.
    pub fn look_up<R>(&self, path: &Path, follow: bool, f: impl FnOnce(TreeEntry<'_>) -> R) -> Result<R> {
        let found = self.find(path, follow, |entry| f(shown(entry)));
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
        Entry::Log => {
            let (major, minor) = LOG;
            TreeEntry::Node { mode: LOG_MODE, major, minor }
        }
        Entry::Node { mode, major, minor, .. } => {
            TreeEntry::Node { mode: *mode, major: *major, minor: *minor }
        }
    }
}
