//! The name that whoever has the machine of a family is found by.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open, unlink};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::time::{ClockId, clock_gettime};

/// How many may wait to be let in.
const BACKLOG: i32 = 128;

/// An abstract address of a socket: the kernel gives it to one socket at a time, and takes it back with that. It does so for each network
/// namespace by itself: who is in another one comes by a socket in the folder of the run.
#[derive(Clone, Debug)]
pub(super) struct Name {
    folder: PathBuf,
    name: String,
}

impl Name {
    /// One that no other family has. The folder of the run, in which the tree's is, is one of its own, whose name cannot be guessed.
    pub(super) fn new(tree: &Path) -> Self {
        let folder = tree.parent().unwrap_or(tree).to_path_buf();
        let of_run = folder.file_name().unwrap_or_default().display();
        // The number alone may be that of a program which this process was before.
        let now = clock_gettime(ClockId::Monotonic);
        let name = format!("{of_run}-{}-{}.{}", rustix::process::getpid(), now.tv_sec, now.tv_nsec);
        Name { folder, name }
    }

    fn abstract_address(&self) -> Result<SocketAddrUnix, Errno> {
        SocketAddrUnix::new_abstract_name(self.name.as_bytes())
    }

    /// Does something with the path in the folder, which is short for however long the folder's is.
    fn at_path<R>(&self, work: impl FnOnce(&str) -> Result<R, Errno>) -> Result<R, Errno> {
        let folder = open(&self.folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        work(&format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), self.name))
    }

    /// Takes it: the sockets that others come to. EADDRINUSE if somebody has it.
    pub(super) fn listen(&self) -> Result<Vec<OwnedFd>, Errno> {
        let listening = |address: SocketAddrUnix| {
            let socket = new_socket()?;
            bind(&socket, &address)?;
            listen(&socket, BACKLOG)?;
            Ok(socket)
        };
        let mut sockets = vec![listening(self.abstract_address()?)?];
        // Who had it before has left the file. Where there is no such folder (chroot), nobody comes from another namespace.
        sockets.extend(self.at_path(|path| {
            let _left = unlink(path);
            listening(SocketAddrUnix::new(path)?)
        }));
        Ok(sockets)
    }

    /// Comes to who has it. ECONNREFUSED if nobody has.
    pub(super) fn connect(&self) -> Result<OwnedFd, Errno> {
        let connected = |address: SocketAddrUnix| {
            let socket = new_socket()?;
            connect(&socket, &address)?;
            Ok(socket)
        };
        match connected(self.abstract_address()?) {
            // In this namespace.
            Err(Errno::CONNREFUSED) => {
                self.at_path(|path| connected(SocketAddrUnix::new(path)?)).map_err(|_| Errno::CONNREFUSED)
            }
            answer => answer,
        }
    }
}

fn new_socket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}
