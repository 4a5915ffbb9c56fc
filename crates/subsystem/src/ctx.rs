//! The caller of a call.

use core::fmt::Display;

use uapi::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::host::{Backing, Host, Task};
use crate::vfio::FileId;

/// Capabilities of a caller: those that the subsystem asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// CAP_SYS_RAWIO
    pub sys_rawio: bool,
    /// CAP_IPC_LOCK
    pub ipc_lock: bool,
    /// CAP_SYS_RESOURCE
    pub sys_resource: bool,
}

/// Who makes a call, and what the call can reach of it. Passed with each call, never kept.
pub struct CallCtx<'a, H: Host> {
    /// The caller's memory, as the arguments of the call point to it.
    pub memory: &'a dyn UserMemory,
    /// The caller's descriptors.
    pub files: &'a dyn Descriptors<H>,
    /// The thread that makes the call, as lines of the kernel log name it: `comm:pid`.
    pub thread: &'a dyn Display,
    /// The process that memory is pinned in and accounted to.
    pub task: Task,
    /// Its capabilities in the initial user namespace.
    pub caps: Caps,
}

/// The memory of a caller. Addresses are the caller's own; one that cannot be read or written is EFAULT, and
/// nothing is promised about the bytes before it.
///
/// Implementations keep the bytes behind locks or raw pointers: both directions take `&self`.
pub trait UserMemory {
    /// Copies from the caller.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno>;
    /// Copies to the caller.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno>;
}

/// Typed access to a caller's memory.
pub trait UserMemoryExt {
    /// Reads a value.
    fn get<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, Errno>;
    /// Writes a value.
    fn put<T: IntoBytes + Immutable>(&self, address: u64, value: &T) -> Result<(), Errno>;
}

impl UserMemoryExt for dyn UserMemory + '_ {
    fn get<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read(address, value.as_mut_bytes())?;
        Ok(value)
    }

    fn put<T: IntoBytes + Immutable>(&self, address: u64, value: &T) -> Result<(), Errno> {
        self.write(address, value.as_bytes())
    }
}

impl dyn UserMemory + '_ {
    /// Whether all bytes from `from` to before `to` are zero. The first that cannot be read or is not zero decides.
    pub(crate) fn is_zero(&self, from: u64, to: u64) -> Result<bool, Errno> {
        // Aligned blocks, none of which spans two pages.
        const BLOCK: u64 = 256;
        let mut block = [0; BLOCK as usize];
        let mut at = from;
        while at < to {
            let next = (at | BLOCK.saturating_sub(1)).saturating_add(1).min(to);
            let bytes = block.get_mut(..next.saturating_sub(at) as usize).unwrap_or_default();
            self.read(at, bytes)?;
            if bytes.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            at = next;
        }
        Ok(true)
    }
}

/// Whether a file has a state that programs wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polling {
    /// It has one: `poll(2)` tells it, and `epoll(7)` takes the file.
    State {
        /// Whether it is always ready for writing; else it never is.
        writable: bool,
    },
    /// It has none: `poll(2)` finds it ready for everything, and `epoll(7)` refuses it with EPERM.
    None,
}

/// The descriptor table of a caller. A number that is not open is EBADF.
pub trait Descriptors<H: Host> {
    /// The file of this subsystem that a number stands for; `None` if it is some other file.
    fn ours(&self, fd: i32) -> Result<Option<FileId>, Errno>;
    /// The eventfd that a number stands for; EINVAL if it is some other file.
    fn event(&self, fd: i32) -> Result<H::Event, Errno>;
    /// The file behind a number, whatever it is, to be asked for memory later.
    fn backing(&self, fd: i32) -> Result<Backing, Errno>;
    /// Opens a descriptor (`O_RDWR`, `O_CLOEXEC`) of a file that the call has opened for the caller; it is the caller's to
    /// close, and the file is released with the last duplicate of it.
    ///
    /// `reply` tells the caller the number. If that is refused, so is this, and there is no descriptor. EMFILE if the caller
    /// can have no more of them; any other error counts as a lack of memory.
    fn install(
        &self,
        file: FileId,
        polling: Polling,
        reply: &mut dyn FnMut(i32) -> Result<(), Errno>,
    ) -> Result<(), Errno>;
}
