//! The system calls of a machine.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use subsystem::{FileId, Mapped, MappedMemory, MappedRegion, NodeKind, Ready, UserMemory};
use sys::{
    Access, Error, FileKind, Mapping, Memory, MemoryOptions, Mmio, Readiness, Result, Stat, Sys, Tailed,
};
use uapi::iommufd::{
    IOMMU_IOAS_COPY, IOMMU_IOAS_MAP, IOMMU_IOAS_MAP_FILE, IOMMU_IOAS_NOIOMMU_GET_PA, IOMMU_IOAS_UNMAP,
    IOMMU_OPTION,
};
use uapi::vfio::{VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA};
use uapi::{Command, Errno, SelfContained};

use super::{Machine, live, refused, registers};
use crate::bus::PciFunction;
use crate::file::{File, FileKey, Files, Open, Opened};
use crate::lock::lock;
use crate::log;
use crate::process::{self, ArgumentMemory, NoMemory, ProcessMemory, Reserved};
use crate::ram::FRAME;
use crate::tree::Entry;

/// What there is to open at a path.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// An attribute, with the mode that says how it may be opened.
    File { mode: u32, opened: Opened },
    /// A node of the subsystem.
    Node(NodeKind),
    /// The log.
    Log,
}

/// The numbers of `/dev/kmsg`, and its permissions.
pub(super) const LOG: (u32, u32) = (1, 11);
pub(super) const LOG_MODE: u32 = 0o644;

impl Sys for Machine {
    type File = File;

    fn name(&self) -> String {
        "embedded machine".to_string()
    }

    fn open(&self, path: &Path, access: Access) -> Result<File> {
        self.open_target(&self.look_up_target(path)?, path, access)
    }

    fn path_of(&self, file: &File) -> PathBuf {
        file.path().to_path_buf()
    }

    fn try_clone(&self, file: &File) -> Result<File> {
        file.try_clone()
    }

    fn adopt(&self, fd: OwnedFd, path: &Path) -> Result<File> {
        let failed = |errno| Error::new("adopt", path.display(), errno);
        let key = FileKey::of(&fd).map_err(|error| failed(process::errno(error)))?;
        let open = Files::find(&self.shared, key, true).ok_or_else(|| failed(Errno::EBADF))?;
        Ok(File::with_descriptor(fd, open, path))
    }

    fn stat(&self, path: &Path) -> Result<Stat> {
        self.look_up_entry("stat", path, false, |entry| {
            let (kind, mode, size) = match entry {
                Entry::Directory(_) => (FileKind::Directory, 0o755, 0),
                Entry::Link(target) => (FileKind::Link, 0o777, target.as_os_str().len() as u64),
                Entry::Text { mode, .. } | Entry::Live { mode, .. } => (FileKind::Regular, *mode, FRAME),
                Entry::Node { mode, major, minor, .. } => {
                    (FileKind::CharDevice { major: *major, minor: *minor }, *mode, 0)
                }
                Entry::Log => {
                    let (major, minor) = LOG;
                    (FileKind::CharDevice { major, minor }, LOG_MODE, 0)
                }
            };
            Ok(Stat { kind, mode, size })
        })
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf> {
        self.look_up_entry("readlink", path, false, |entry| match entry {
            Entry::Link(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        })
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<String>> {
        self.look_up_entry("readdir", path, true, |entry| match entry {
            Entry::Directory(below) => Ok(below.keys().cloned().collect()),
            _ => Err(Errno::ENOTDIR),
        })
    }

    fn pread(&self, file: &File, bytes: &mut [u8], offset: u64) -> Result<usize> {
        self.read_at(file.opened(), file.path(), bytes, offset)
    }

    fn pwrite(&self, file: &File, bytes: &[u8], offset: u64) -> Result<usize> {
        self.write_at(file.opened(), file.path(), bytes, offset)
    }

    fn poll(&self, file: &File) -> Result<Readiness> {
        let mut ready = Readiness::IN | Readiness::OUT;
        if let Some(id) = node(file.opened()) {
            let Ready { read, write } = self.shared.subsystem.poll(id);
            ready.set(Readiness::IN, read);
            ready.set(Readiness::OUT, write);
        }
        Ok(ready)
    }

    fn ioctl<T: SelfContained>(&self, file: &File, argument: &mut T) -> Result<u32> {
        let memory = ArgumentMemory::new(argument.as_mut_bytes(), &NoMemory);
        self.ioctl_at(T::NAME, file, T::OPCODE, &memory)
    }

    fn ioctl_tailed<T: SelfContained>(&self, file: &File, argument: &mut Tailed<T>) -> Result<u32> {
        let memory = ArgumentMemory::new(argument.bytes_mut(), &NoMemory);
        self.ioctl_at(T::NAME, file, T::OPCODE, &memory)
    }

    unsafe fn ioctl_typed<T: Command>(&self, file: &File, argument: &mut T) -> Result<u32> {
        // SAFETY: the caller has promised that each address in the argument is what the call expects there.
        let process = unsafe { ProcessMemory::new() };
        let memory = ArgumentMemory::new(argument.as_mut_bytes(), &process);
        self.ioctl_at(T::NAME, file, T::OPCODE, &memory)
    }

    unsafe fn ioctl_raw(&self, fd: BorrowedFd<'_>, command: u32, argument: *mut c_void) -> Result<u32> {
        let open = FileKey::of(fd).map(|key| Files::find(&self.shared, key, false)).map_err(|error| {
            Error::new(
                "ioctl",
                format_args!("descriptor {}, command {command:#x}", fd.as_raw_fd()),
                process::errno(error),
            )
        })?;
        // SAFETY: as the caller has promised.
        unsafe { self.ioctl_on(open.as_deref(), fd.as_raw_fd(), command, argument.addr() as u64) }
    }

    fn map_region(&self, file: &File, mapping: Mapping) -> Result<Mmio> {
        let found = self.region(file.opened(), file.path(), mapping)?;
        let Mapping { length, writable, .. } = mapping;
        let addresses = Reserved::new(length.next_multiple_of(FRAME as usize))
            .map_err(|error| Error::new("mmap", file.path().display(), process::errno(error)))?;
        let file = file.try_clone()?;
        Ok(match found {
            Found::Bar(function, region) => {
                registers::map(Arc::clone(function), region, (length, writable), addresses, file)
            }
            Found::Memory(memory) => registers::map_memory(memory, length, addresses, file),
        })
    }

    fn allocate(&self, options: &MemoryOptions) -> Result<Memory> {
        self.world().ram().allocate(options)
    }

    fn wait(&self, fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<Vec<bool>> {
        // A timeout too long to be counted is one without end.
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let slice = self.take_turns();
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            match self.poll_once(fds, (left, slice)) {
                Ok(ready) if ready.contains(&true) || left == Some(Duration::ZERO) => return Ok(ready),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    let object = format_args!("{} descriptors", fds.len());
                    return Err(Error::new("poll", object, process::errno(error)));
                }
            }
        }
    }
}

impl Machine {
    /// Reads an open file.
    pub(super) fn read_at(&self, open: &Open, path: &Path, bytes: &mut [u8], offset: u64) -> Result<usize> {
        let failed = |errno| Error::new("pread", path.display(), errno);
        if !open.readable() {
            return Err(failed(Errno::EBADF));
        }
        match open.opened() {
            Opened::Node(id) | Opened::Installed(id) => self
                .call(&NoMemory, |subsystem, ctx| subsystem.read(ctx, *id, offset, bytes))
                .map_err(|refusal| refused("pread", path.display(), refusal)),
            Opened::Text(text) => Ok(live::copy(text.as_bytes(), bytes, offset)),
            Opened::Log(next) => {
                let read = self.world().log().read(&mut lock(next), bytes).map_err(failed);
                self.shared.show_readable();
                read
            }
            Opened::Live(live) => self.live_read(*live, bytes, offset).map_err(failed),
        }
    }

    /// Writes to an open file.
    pub(super) fn write_at(&self, open: &Open, path: &Path, bytes: &[u8], offset: u64) -> Result<usize> {
        let failed = |errno| Error::new("pwrite", path.display(), errno);
        if !open.writable() {
            return Err(failed(Errno::EBADF));
        }
        match open.opened() {
            Opened::Node(id) | Opened::Installed(id) => self
                .call(&NoMemory, |subsystem, ctx| subsystem.write(ctx, *id, offset, bytes))
                .map_err(|refusal| refused("pwrite", path.display(), refusal)),
            Opened::Text(_) => Err(failed(Errno::EIO)),
            Opened::Log(_) => {
                self.world().log().write(bytes).map_err(failed)?;
                self.shared.show_readable();
                Ok(bytes.len())
            }
            Opened::Live(live) => {
                let written = self.live_write(*live, bytes, offset).map_err(failed);
                self.shared.settle();
                self.shared.show_readable();
                written
            }
        }
    }

    /// Makes an ioctl on an open file, `None` if it is no file of the machine.
    ///
    /// # Safety
    ///
    /// As for [`Sys::ioctl_raw`].
    pub(super) unsafe fn ioctl_on(
        &self,
        open: Option<&Open>,
        number: i32,
        command: u32,
        argument: u64,
    ) -> Result<u32> {
        let path = open.and_then(Open::path);
        let object = || match path {
            Some(path) => format!("{} (descriptor {number}), command {command:#x}", path.display()),
            None => format!("descriptor {number}, command {command:#x}"),
        };
        let file = open.and_then(node).ok_or_else(|| Error::new("ioctl", object(), Errno::ENOTTY))?;
        // SAFETY: the caller has promised it, for the argument itself too.
        let own = unsafe { ProcessMemory::new() };
        if !is_of_memory(command) {
            self.shared.release_closed();
        }
        self.call(self.memory(&own), |subsystem, ctx| subsystem.ioctl(ctx, file, command, argument))
            .map_err(|refusal| refused("ioctl", object(), refusal))
    }

    /// The memory of the caller, who is in this process, whose memory is `own`, or in another one.
    pub(super) fn memory<'a>(&'a self, own: &'a ProcessMemory) -> &'a dyn UserMemory {
        match &self.caller.elsewhere {
            None => own,
            Some(elsewhere) => &*elsewhere.process,
        }
    }

    /// What a mapping is of.
    pub(super) fn region(&self, open: &Open, path: &Path, mapping: Mapping) -> Result<Found<'_>> {
        let failed = |errno| Error::new("mmap", path.display(), errno);
        let Mapping { offset, length, writable, executable, shared } = mapping;
        let pages = length.checked_next_multiple_of(FRAME as usize).filter(|&pages| pages != 0);
        let pages = pages.ok_or_else(|| failed(Errno::EINVAL))?;
        if !offset.is_multiple_of(FRAME) {
            return Err(failed(Errno::EINVAL));
        }
        if !open.readable() || shared && writable && !open.writable() {
            return Err(failed(Errno::EACCES));
        }
        let id = node(open).ok_or_else(|| failed(Errno::ENODEV))?;
        // Linux shares no mapping of a file that may not be written to.
        let shared = shared && open.writable();
        let mapped = self
            .call(&NoMemory, |subsystem, ctx| {
                let length = pages as u64;
                subsystem.map(ctx, id, subsystem::MapRequest { offset, length, shared, writable, executable })
            })
            .map_err(|refusal| refused("mmap", path.display(), refusal))?;
        match mapped {
            Mapped::Region(region) => {
                let function = self.world().bus().get(region.function);
                Ok(Found::Bar(function.ok_or_else(|| failed(Errno::ENODEV))?, region))
            }
            Mapped::Memory(memory) => Ok(Found::Memory(memory)),
        }
    }

    /// Asks `f` about what a path stands for. Links on the way are followed, one at its end only if `follow`.
    pub(super) fn find<R>(
        &self,
        path: &Path,
        follow: bool,
        f: impl FnOnce(&Entry) -> R,
    ) -> std::result::Result<R, Errno> {
        match self.file_of_a_process(path) {
            Some(live) => Ok(f(&Entry::Live { mode: 0o444, live })),
            None => self.world().tree().look_up(path, follow, f),
        }
    }

    /// What a path stands for, as far as `f` asks for it.
    fn look_up_entry<R>(
        &self,
        call: &'static str,
        path: &Path,
        follow: bool,
        f: impl FnOnce(&Entry) -> std::result::Result<R, Errno>,
    ) -> Result<R> {
        let found = self.find(path, follow, f).and_then(|answer| answer);
        found.map_err(|errno| Error::new(call, path.display(), errno))
    }

    /// What there is to open at a path.
    pub(super) fn look_up_target(&self, path: &Path) -> Result<Target> {
        self.look_up_entry("open", path, true, |entry| match entry {
            Entry::Text { mode, text } => {
                Ok(Target::File { mode: *mode, opened: Opened::Text(text.as_str().into()) })
            }
            Entry::Live { mode, live } => Ok(Target::File { mode: *mode, opened: Opened::Live(*live) }),
            Entry::Node { kind, .. } => Ok(Target::Node(*kind)),
            Entry::Log => Ok(Target::Log),
            Entry::Directory(_) => Err(Errno::EISDIR),
            Entry::Link(_) => Err(Errno::ELOOP),
        })
    }

    /// Opens what was looked up.
    pub(super) fn open_target(&self, target: &Target, path: &Path, access: Access) -> Result<File> {
        File::open(&self.shared, path, access, || self.open_behind(target, path, access, Opened::Node))
    }

    /// Opens what was looked up, without a descriptor; `node` says what a file of the subsystem is opened as.
    pub(super) fn open_behind(
        &self,
        target: &Target,
        path: &Path,
        access: Access,
        node: impl FnOnce(FileId) -> Opened,
    ) -> Result<Opened> {
        let (read, write) = (access != Access::Write, access != Access::Read);
        match target {
            Target::File { mode, .. } if read && mode & 0o400 == 0 || write && mode & 0o200 == 0 => {
                Err(Error::new("open", path.display(), Errno::EACCES))
            }
            Target::File { opened, .. } => Ok(opened.clone()),
            Target::Log => Ok(Opened::Log(Arc::new(Mutex::new(self.world().log().place(log::Place::First))))),
            Target::Node(kind) => self
                .call(&NoMemory, |subsystem, ctx| {
                    subsystem.open(ctx, *kind, subsystem::Access { read, write })
                })
                .map(node)
                .map_err(|refusal| refused("open", path.display(), refusal)),
        }
    }

    fn ioctl_at(
        &self,
        call: &'static str,
        file: &File,
        command: u32,
        memory: &ArgumentMemory<'_>,
    ) -> Result<u32> {
        let path = file.path().display();
        let id = node(file.opened()).ok_or_else(|| Error::new(call, &path, Errno::ENOTTY))?;
        let argument = memory.address();
        self.shared.release_closed();
        self.call(memory as &dyn UserMemory, |subsystem, ctx| subsystem.ioctl(ctx, id, command, argument))
            .map_err(|refusal| refused(call, path, refusal))
    }

    /// Polls once, for at most `left`, and not for long at a time while devices run inline: not at all while they have `work`.
    fn poll_once(
        &self,
        fds: &[BorrowedFd<'_>],
        (left, slice): (Option<Duration>, Option<Duration>),
    ) -> rustix::io::Result<Vec<bool>> {
        if fds.is_empty() && left == Some(Duration::ZERO) {
            // The caller polls a device: where its thread waits for a processor, it is to get this one.
            std::thread::yield_now();
            return Ok(Vec::new());
        }
        let watched = self.world().watched_events();
        let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        polled.extend(watched.iter().map(|event| PollFd::new(event, PollFlags::IN)));
        let shorter = slice.into_iter().chain(left).min();
        let timeout = shorter.and_then(|slice| Timespec::try_from(slice).ok());
        poll(&mut polled, timeout.as_ref())?;
        Ok(polled[..fds.len()].iter().map(|fd| fd.revents().intersects(PollFlags::IN)).collect())
    }
}

/// What a mapping is of.
pub(super) enum Found<'a> {
    Bar(&'a Arc<PciFunction>, MappedRegion),
    Memory(MappedMemory),
}

/// The file of the subsystem behind an open file; `None` for an attribute.
pub(super) fn node(open: &Open) -> Option<FileId> {
    match open.opened() {
        Opened::Node(file) | Opened::Installed(file) => Some(*file),
        Opened::Text(_) | Opened::Live(_) | Opened::Log(_) => None,
    }
}

impl Machine {
    /// `read(2)` of a file without positions, or at the start of another one.
    pub(super) fn stream_read(
        &self,
        id: FileId,
        path: &Path,
        memory: &dyn UserMemory,
        (address, length): (u64, u64),
    ) -> Result<usize> {
        self.shared.release_closed();
        self.call(memory, |subsystem, ctx| subsystem.read_stream(ctx, id, address, length))
            .map_err(|refusal| refused("read", path.display(), refusal))
    }

    /// `write(2)` to a file without positions, or at the start of another one.
    pub(super) fn stream_write(&self, open: &Open, path: &Path, bytes: &[u8]) -> Result<usize> {
        let Some(id) = node(open) else { return self.write_at(open, path, bytes, 0) };
        self.shared.release_closed();
        self.call(&NoMemory, |subsystem, ctx| subsystem.write_stream(ctx, id, bytes))
            .map_err(|refusal| refused("write", path.display(), refusal))
    }

    /// The file of the subsystem behind an open one that has no positions.
    pub(super) fn stream_of(&self, open: &Open) -> Option<FileId> {
        node(open).filter(|file| self.shared.subsystem.is_stream(*file))
    }

    /// The file of the subsystem behind an open file.
    pub(super) fn node_of(&self, file: &File) -> Option<FileId> {
        node(file.opened())
    }
}

/// Whether a command is about the memory of a context or a container, which is the same whatever devices are open. Programs make many of
/// these: nobody looks before whether a file was closed unseen.
fn is_of_memory(command: u32) -> bool {
    matches!(
        command,
        IOMMU_IOAS_COPY
            | IOMMU_IOAS_MAP
            | IOMMU_IOAS_MAP_FILE
            | IOMMU_IOAS_NOIOMMU_GET_PA
            | IOMMU_IOAS_UNMAP
            | IOMMU_OPTION
            | VFIO_IOMMU_MAP_DMA
            | VFIO_IOMMU_UNMAP_DMA
    )
}
