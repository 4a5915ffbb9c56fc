//! What only the conformance suite asks of a system.

use std::io::SeekFrom;
use std::path::Path;

use uapi::Errno;

use crate::{Access, Mmio, Result, Sys};

/// Who a call is made as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creds {
    /// The capabilities held, by name (`CAP_SYS_RAWIO`…).
    pub capabilities: Vec<String>,
    /// `RLIMIT_MEMLOCK` in bytes; `None` for no limit.
    pub memlock: Option<u64>,
}

/// What the suite needs beyond [`Sys`], to look at a system from outside and to be somebody else.
///
/// A system that cannot do a thing answers an error, which the suite reports as "not applicable" with its text.
pub trait Suite: Sys {
    /// A path that was looked up and not opened (`O_PATH`).
    type Handle: Send + Sync + 'static;

    /// Looks a path up without opening it.
    fn look_up(&self, path: &Path) -> Result<Self::Handle>;

    /// Opens what was looked up, even where its path is gone by now.
    fn open_handle(&self, handle: &Self::Handle, access: Access) -> Result<Self::File>;

    /// The kernel's taint flags, `/proc/sys/kernel/tainted`.
    fn taint(&self) -> Result<u64>;

    /// A mark in the kernel's log.
    fn log_mark(&self) -> Result<u64>;

    /// The lines that were logged since the mark.
    fn log_since(&self, mark: u64) -> Result<Vec<String>>;

    /// Runs `f` with the system calls of this thread made with other credentials.
    fn as_caller<R>(&self, creds: &Creds, f: impl FnOnce(&Self) -> R) -> Result<R>;

    /// Runs `f` as another process would run it: its own identity, descriptors and address space. All that comes back
    /// of it is a number or an errno.
    fn second_process(
        &self,
        f: impl FnOnce(&Self) -> std::result::Result<u64, Errno>,
    ) -> Result<std::result::Result<u64, Errno>>;

    /// Runs `f` as another process that has every capability in a user namespace of its own, and none outside.
    fn in_user_namespace(
        &self,
        f: impl FnOnce(&Self) -> std::result::Result<u64, Errno>,
    ) -> Result<std::result::Result<u64, Errno>>;

    /// Pages that are pinned for devices on behalf of this process, `VmPin`, in KiB.
    fn vm_pin(&self) -> Result<u64>;

    /// The physical address of a page of this process, as `/proc/self/pagemap` tells it to the privileged.
    fn physical_address(&self, address: usize) -> Result<u64>;

    /// `read(2)` of a file without positions, such as a fault queue's. A machine keeps no positions: it reads a file that has
    /// them at its start.
    fn read_stream(&self, file: &Self::File, bytes: &mut [u8]) -> Result<usize>;

    /// `write(2)` to such a file.
    fn write_stream(&self, file: &Self::File, bytes: &[u8]) -> Result<usize>;

    /// `lseek(2)` on a file: the errno, or the position.
    fn seek(&self, file: &Self::File, to: SeekFrom) -> Result<u64>;

    /// `/proc/self/fdinfo` of a file.
    fn fdinfo(&self, file: &Self::File) -> Result<String>;

    /// Loads the first register of a mapping: `EFAULT` where that raises SIGBUS.
    fn touch(&self, registers: &Mmio) -> std::result::Result<(), Errno> {
        registers.try_read32(0).map(drop).map_err(|_| Errno::EFAULT)
    }

    /// `mmap` with any protection and flags, unmapped at once: the errno alone.
    fn try_map(&self, file: &Self::File, mapping: crate::Mapping) -> std::result::Result<(), Errno> {
        self.map_region(file, mapping).map(drop).map_err(|error| error.errno())
    }
}
