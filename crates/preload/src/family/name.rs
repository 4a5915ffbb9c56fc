//! The name that whoever has the machine of a family is found by.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::time::{ClockId, clock_gettime};

/// How many may wait to be let in.
const BACKLOG: i32 = 128;

/// An abstract address of a socket: the kernel gives it to one socket at a time, and takes it back with that.
#[derive(Clone, Debug)]
pub(super) struct Name(Vec<u8>);

impl Name {
    /// One that no other family has. The folder of the run is one of its own, whose name cannot be guessed.
    pub(super) fn new(folder: &Path) -> Self {
        let folder = folder.file_name().unwrap_or_default().as_bytes();
        // The number alone may be that of a program which this process was before.
        let now = clock_gettime(ClockId::Monotonic);
        let own = format!("-{}-{}.{}", rustix::process::getpid(), now.tv_sec, now.tv_nsec);
        Name([folder, own.as_bytes()].concat())
    }

    fn address(&self) -> Result<SocketAddrUnix, Errno> {
        SocketAddrUnix::new_abstract_name(&self.0)
    }

    /// Takes it. EADDRINUSE if somebody has it.
    pub(super) fn listen(&self) -> Result<OwnedFd, Errno> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &self.address()?)?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    }

    /// Comes to who has it. ECONNREFUSED if nobody has.
    pub(super) fn connect(&self) -> Result<OwnedFd, Errno> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &self.address()?)?;
        Ok(socket)
    }
}
