//! The process that a machine is embedded in, as the caller of system calls: its memory, its descriptors, its address
//! space. The only module of the machine's front that holds unsafe code.

mod other;
mod pipe;

use std::cell::RefCell;
use std::ffi::c_void;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::mm::{self, MapFlags, ProtFlags};
use subsystem::UserMemory;
use sys::guarded;
use uapi::Errno;

pub(crate) use other::{OtherProcess, OtherThread};

/// No memory at all: for calls whose arguments point nowhere.
pub(crate) struct NoMemory;

impl UserMemory for NoMemory {
    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }
}

/// The memory of this process, by address. One that is not mapped, or not for this direction, is EFAULT.
pub(crate) struct ProcessMemory(());

impl ProcessMemory {
    /// # Safety
    ///
    /// Whoever uses it calls the subsystem with addresses that the program passed to an ioctl, and the program
    /// has promised that each is what the call expects there (`sys::Sys::ioctl_raw`).
    pub(crate) unsafe fn new() -> Self {
        ProcessMemory(())
    }
}

impl UserMemory for ProcessMemory {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        if guarded::recovers() {
            // SAFETY: it is recovered from.
            return unsafe { guarded::read(address, bytes) }.map_err(|_| Errno::EFAULT);
        }
        let (local, remote) = vectors(address, bytes.as_mut_ptr(), bytes.len());
        // SAFETY: the local buffer is a live, exclusive slice; the remote one is only read, and by the kernel, which
        // answers an error where it cannot.
        let count = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
        // SAFETY: as above.
        whole(count, bytes.len(), || unsafe { pipe::copy(remote.iov_base, local.iov_base, bytes.len()) })
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        if guarded::recovers() {
            // SAFETY: it is recovered from; that it may be written to is what the creator of this value has promised.
            return unsafe { guarded::write(address, bytes) }.map_err(|_| Errno::EFAULT);
        }
        let (local, remote) = vectors(address, bytes.as_ptr().cast_mut(), bytes.len());
        // SAFETY: the local buffer is only read; that the remote one may be written to is what the creator of
        // this value has promised, and where it cannot be the kernel answers an error.
        let count = unsafe { libc::process_vm_writev(libc::getpid(), &local, 1, &remote, 1, 0) };
        // SAFETY: as above.
        whole(count, bytes.len(), || unsafe { pipe::copy(local.iov_base, remote.iov_base, bytes.len()) })
    }
}

fn vectors(address: u64, bytes: *mut u8, length: usize) -> (libc::iovec, libc::iovec) {
    let local = libc::iovec { iov_base: bytes.cast(), iov_len: length };
    let remote =
        libc::iovec { iov_base: ptr::without_provenance_mut::<c_void>(address as usize), iov_len: length };
    (local, remote)
}

/// Whether all bytes were copied; `otherwise` copies them where the host has no such call, or forbids it.
fn whole(count: isize, length: usize, otherwise: impl FnOnce() -> bool) -> Result<(), Errno> {
    let copied = match usize::try_from(count) {
        Ok(count) => count == length,
        Err(_) => match rustix::io::Errno::from_io_error(&std::io::Error::last_os_error()) {
            Some(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => otherwise(),
            _ => false,
        },
    };
    if copied { Ok(()) } else { Err(Errno::EFAULT) }
}

/// The argument of a typed ioctl at its own address, and other memory around it. The argument is reached through its
/// reference, without a system call.
pub(crate) struct ArgumentMemory<'a> {
    start: u64,
    argument: RefCell<&'a mut [u8]>,
    others: &'a dyn UserMemory,
}

impl<'a> ArgumentMemory<'a> {
    pub(crate) fn new(argument: &'a mut [u8], others: &'a dyn UserMemory) -> Self {
        ArgumentMemory { start: argument.as_ptr().addr() as u64, argument: RefCell::new(argument), others }
    }

    /// Where the argument starts.
    pub(crate) fn address(&self) -> u64 {
        self.start
    }

    /// Cuts a range into the bytes before the argument, those in it, and those behind: three lengths, and where the
    /// middle starts in the argument.
    fn cut(&self, address: u64, length: usize) -> Cut {
        let inside = self.argument.borrow().len();
        let before = usize::try_from(self.start.saturating_sub(address)).unwrap_or(usize::MAX).min(length);
        let start = usize::try_from(address.saturating_sub(self.start)).unwrap_or(usize::MAX).min(inside);
        let within = (length - before).min(inside - start);
        Cut { before, start, within }
    }
}

struct Cut {
    before: usize,
    start: usize,
    within: usize,
}

impl UserMemory for ArgumentMemory<'_> {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let Cut { before, start, within } = self.cut(address, bytes.len());
        let (first, rest) = bytes.split_at_mut(before);
        let (middle, last) = rest.split_at_mut(within);
        if !first.is_empty() {
            self.others.read(address, first)?;
        }
        middle.copy_from_slice(&self.argument.borrow()[start..start + within]);
        if !last.is_empty() {
            self.others.read(address.wrapping_add((before + within) as u64), last)?;
        }
        Ok(())
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let Cut { before, start, within } = self.cut(address, bytes.len());
        let (first, rest) = bytes.split_at(before);
        let (middle, last) = rest.split_at(within);
        if !first.is_empty() {
            self.others.write(address, first)?;
        }
        self.argument.borrow_mut()[start..start + within].copy_from_slice(middle);
        if !last.is_empty() {
            self.others.write(address.wrapping_add((before + within) as u64), last)?;
        }
        Ok(())
    }
}

/// The thread that makes a call, as the kernel's log names it: `comm:pid`.
pub(crate) struct ThisThread;

impl fmt::Display for ThisThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = fs::read_to_string("/proc/thread-self/comm").unwrap_or_default();
        write!(f, "{}:{}", name.trim_end(), rustix::thread::gettid())
    }
}

/// A second descriptor of whatever file is open under a number. EBADF if none is.
pub(crate) fn duplicate(number: i32) -> Result<OwnedFd, Errno> {
    if number < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: the borrowed descriptor is used for this one call, which answers EBADF for a number that is not open.
    let file = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_dupfd_cloexec(file, 0).map_err(errno)
}

/// A descriptor that must be an eventfd, which the kernel's name for those tells.
pub(crate) fn eventfd(descriptor: OwnedFd) -> Result<OwnedFd, Errno> {
    let link = fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
    let is_one = link.is_ok_and(|link| link.as_os_str() == "anon_inode:[eventfd]");
    is_one.then_some(descriptor).ok_or(Errno::EINVAL)
}

/// An error number of the host as one of the machine.
pub(crate) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error()).unwrap_or(Errno::EIO)
}

/// Addresses that are taken and cannot be read or written: where a mapping of registers is.
#[derive(Debug)]
pub(crate) struct Reserved {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the address range belongs to this value alone and is never accessed; nothing about it is tied to a thread.
unsafe impl Send for Reserved {}
// SAFETY: as above.
unsafe impl Sync for Reserved {}

impl Reserved {
    /// Takes `length` bytes of address space, a multiple of the page size.
    pub(crate) fn new(length: usize) -> rustix::io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let start = unsafe { mm::mmap_anonymous(ptr::null_mut(), length, ProtFlags::empty(), flags)? };
        let start = NonNull::new(start.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Reserved { start, length })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The addresses, as calls have them.
    pub(crate) fn range(&self) -> Range<u64> {
        let start = self.start.as_ptr().expose_provenance() as u64;
        start..start + self.length as u64
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, is unmapped here only, and nothing refers to memory in it. The only
        // failure is running out of areas to split, which leaves it reserved.
        let _unmapped = unsafe { mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_reached_through_its_reference() {
        let mut bytes = [1, 2, 3, 4];
        let memory = ArgumentMemory::new(&mut bytes, &NoMemory);
        let mut two = [0; 2];
        memory.read(memory.address() + 1, &mut two).unwrap();
        assert_eq!(two, [2, 3]);
        memory.write(memory.address() + 2, &[9, 9]).unwrap();
        assert_eq!(bytes, [1, 2, 9, 9]);
    }

    #[test]
    fn around_an_argument_there_is_other_memory() {
        let mut bytes = [0u8; 12];
        let start = bytes.as_mut_ptr().expose_provenance() as u64;
        // SAFETY: the only address that is used is inside `bytes`.
        let process = unsafe { ProcessMemory::new() };
        process.write(start, &[7; 4]).unwrap();
        process.write(start + 8, &[8; 4]).unwrap();
        let (mut fives, mut sixes) = ([5; 4], [6; 4]);
        let bare = ArgumentMemory { start: start + 4, argument: RefCell::new(&mut fives), others: &process };
        let mut all = [0; 12];
        bare.read(start, &mut all).unwrap();
        assert_eq!(all, [7, 7, 7, 7, 5, 5, 5, 5, 8, 8, 8, 8]);
        let alone =
            ArgumentMemory { start: start + 4, argument: RefCell::new(&mut sixes), others: &NoMemory };
        assert_eq!(alone.read(start, &mut all), Err(Errno::EFAULT));
        assert_eq!(alone.write(start + 6, &[0; 4]), Err(Errno::EFAULT));
    }

    #[test]
    fn bad_addresses_are_faults() {
        // SAFETY: none of the addresses that are used is mapped for writing.
        let process = unsafe { ProcessMemory::new() };
        let mut bytes = [0; 8];
        assert_eq!(process.read(0, &mut bytes), Err(Errno::EFAULT));
        assert_eq!(process.read(u64::MAX - 3, &mut bytes), Err(Errno::EFAULT));
        assert_eq!(process.write("read-only".as_ptr().addr() as u64, &[0]), Err(Errno::EFAULT));
        let reserved = Reserved::new(4096).unwrap();
        assert_eq!(process.read(reserved.start().as_ptr().addr() as u64, &mut bytes), Err(Errno::EFAULT));
    }

    #[test]
    fn what_is_not_open_or_no_eventfd_is_refused() {
        assert_eq!(duplicate(-1).unwrap_err(), Errno::EBADF);
        assert_eq!(duplicate(1 << 20).unwrap_err(), Errno::EBADF);
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        assert!(eventfd(event).is_ok());
        assert_eq!(eventfd(tempfile::tempfile().unwrap().into()).unwrap_err(), Errno::EINVAL);
    }
}
