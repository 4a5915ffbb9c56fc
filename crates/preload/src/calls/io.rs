//! Reading and writing.

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};
use std::slice;

use libc::{iovec, off_t, size_t, ssize_t};

use super::{File, on_file};
use crate::bypass;
use crate::raw::{Answer, raw, reply, waiting};
use crate::state::State;

/// So much is done at most by one call: about a megabyte, a multiple of what queues hold.
const MOST: usize = 40 << 15;

/// Where the log is read record by record.
pub(super) const LOG: &str = "/dev/kmsg";

/// A piece of the program's memory, and the direction.
#[derive(Clone, Copy)]
enum Piece {
    /// To be filled.
    Read(*mut u8, usize),
    /// To be taken.
    Write(*const u8, usize),
}

impl Piece {
    fn length(self) -> usize {
        match self {
            Piece::Read(_, length) | Piece::Write(_, length) => length,
        }
    }

    /// Does it at an offset of a file, or where that is read next.
    fn at(self, state: &State, file: &File, offset: Option<u64>) -> Answer {
        // What goes through here is a register, a line, or a piece of configuration space; more may be asked for.
        let length = self.length().min(MOST);
        let count = match self {
            Piece::Read(to, _) => {
                state.read(file.key, offset, to.expose_provenance() as u64, length as u64)?
            }
            Piece::Write(from, _) => {
                let mut bytes = vec![0; length];
                copy_in(from, &mut bytes).ok_or_else(|| {
                    let error = sys::Error::new("write", file.path.display(), uapi::Errno::EFAULT);
                    state.refused(&error);
                    libc::EFAULT
                })?;
                state.write(file.key, offset, &bytes)?
            }
        };
        Ok(count as usize)
    }
}

/// Copies from the program's memory; `None` if it may not be read there.
fn copy_in(from: *const u8, bytes: &mut [u8]) -> Option<()> {
    let local = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote = iovec { iov_base: from.cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the local memory is a live slice, and the kernel refuses what cannot be read.
    let copied =
        unsafe { raw!(SYS_process_vm_readv, own_pid(), &raw const local, 1, &raw const remote, 1, 0) };
    (copied == Ok(bytes.len())).then_some(())
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Does a piece at an offset, or where the file is read next. The log is waited for, unless the program does not want that.
fn transfer(number: c_int, piece: Piece, offset: Option<u64>) -> Option<Answer> {
    loop {
        let is_log = Cell::new(false);
        let done = on_file(number, |state, file| {
            is_log.set(file.path.as_os_str() == LOG);
            piece.at(state, &file, offset)
        })?;
        if !is_log.get() || done != Err(libc::EAGAIN) || !blocks(number) {
            return Some(done);
        }
        let mut polled = libc::pollfd { fd: number, events: libc::POLLIN, revents: 0 };
        let timeout = bypass::slice().unwrap_or(-1);
        // SAFETY: one entry, which is alive.
        let polled = unsafe { waiting!(SYS_poll, &raw mut polled, 1, timeout) };
        match polled {
            Ok(0) if bypass::is_interrupted() => return Some(Err(libc::EINTR)),
            Err(errno) => return Some(Err(errno)),
            Ok(_) => {}
        }
    }
}

/// Whether who reads a descriptor waits.
fn blocks(number: c_int) -> bool {
    // SAFETY: nothing but numbers is passed.
    unsafe { raw!(SYS_fcntl, number, libc::F_GETFL) }
        .is_ok_and(|flags| flags as c_int & libc::O_NONBLOCK == 0)
}

/// Does one piece after the other until one is short.
fn transfer_all(
    number: c_int,
    vectors: &[iovec],
    offset: Option<u64>,
    piece: impl Fn(&iovec) -> Piece,
) -> Option<Answer> {
    let mut done = 0;
    for vector in vectors {
        let at = offset.map(|offset| offset + done as u64);
        match transfer(number, piece(vector), at)? {
            Ok(count) => {
                done += count;
                if count < vector.iov_len {
                    break;
                }
            }
            Err(errno) if done == 0 => return Some(Err(errno)),
            Err(_) => break,
        }
    }
    Some(Ok(done))
}

macro_rules! transfers {
    ($($(#[$doc:meta])* $name:ident($number:ident, $memory:ident: $type:ty, $length:ident: $lengths:ty $(, $more:ident: $mores:ty)*)
        => $piece:expr, $offset:expr, $call:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// As for the function of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($number: c_int, $memory: $type, $length: $lengths $(, $more: $mores)*) -> ssize_t {
            let answer = transfer($number, $piece, $offset)
                // SAFETY: as the program has promised.
                .unwrap_or_else(|| unsafe { waiting!($call, $number, $memory, $length $(, $more)*) });
            reply(answer) as ssize_t
        }
    )*};
}

transfers! {
    /// `read(2)`
    read(number, memory: *mut c_void, length: size_t) => Piece::Read(memory.cast(), length), None, SYS_read;
    /// `write(2)`
    write(number, memory: *const c_void, length: size_t) => Piece::Write(memory.cast(), length), None, SYS_write;
    /// `pread(2)`
    pread(number, memory: *mut c_void, length: size_t, offset: off_t)
        => Piece::Read(memory.cast(), length), Some(offset as u64), SYS_pread64;
    /// `pread(2)`
    pread64(number, memory: *mut c_void, length: size_t, offset: off_t)
        => Piece::Read(memory.cast(), length), Some(offset as u64), SYS_pread64;
    /// `pwrite(2)`
    pwrite(number, memory: *const c_void, length: size_t, offset: off_t)
        => Piece::Write(memory.cast(), length), Some(offset as u64), SYS_pwrite64;
    /// `pwrite(2)`
    pwrite64(number, memory: *const c_void, length: size_t, offset: off_t)
        => Piece::Write(memory.cast(), length), Some(offset as u64), SYS_pwrite64;
}

/// `read(2)`, checked
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __read_chk(
    number: c_int,
    memory: *mut c_void,
    length: size_t,
    _: size_t,
) -> ssize_t {
    // SAFETY: as the program has promised.
    unsafe { read(number, memory, length) }
}

/// `pread(2)`, checked
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __pread_chk(
    number: c_int,
    memory: *mut c_void,
    length: size_t,
    offset: off_t,
    _: size_t,
) -> ssize_t {
    // SAFETY: as the program has promised.
    unsafe { pread64(number, memory, length, offset) }
}

/// `pread(2)`, checked
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __pread64_chk(
    number: c_int,
    memory: *mut c_void,
    length: size_t,
    offset: off_t,
    _: size_t,
) -> ssize_t {
    // SAFETY: as the program has promised.
    unsafe { pread64(number, memory, length, offset) }
}

/// Does all pieces of a vector; `None` if the file is the host's, or there are none.
///
/// # Safety
///
/// There are so many, or it is null.
unsafe fn vectors_at(
    number: c_int,
    (vectors, count): (*const iovec, c_int),
    offset: Option<u64>,
    piece: impl Fn(&iovec) -> Piece,
) -> Option<Answer> {
    let pieces = match usize::try_from(count) {
        // SAFETY: as the caller has promised.
        Ok(count) if !vectors.is_null() => unsafe { slice::from_raw_parts(vectors, count) },
        _ => &[],
    };
    transfer_all(number, pieces, offset, piece).filter(|_| !pieces.is_empty())
}

macro_rules! vectored {
    ($($(#[$doc:meta])* $name:ident($number:ident, $vectors:ident, $count:ident $(, $more:ident: $mores:ty)*)
        => $piece:expr, $offset:expr, $call:ident($($argument:expr),*);)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// As for the function of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($number: c_int, $vectors: *const iovec, $count: c_int $(, $more: $mores)*) -> ssize_t {
            // SAFETY: as the program has promised.
            let answer = unsafe { vectors_at($number, ($vectors, $count), $offset, $piece) }
                // SAFETY: as the program has promised.
                .unwrap_or_else(|| unsafe { waiting!($call, $($argument),*) });
            reply(answer) as ssize_t
        }
    )*};
}

fn to_fill(vector: &iovec) -> Piece {
    Piece::Read(vector.iov_base.cast(), vector.iov_len)
}

fn to_take(vector: &iovec) -> Piece {
    Piece::Write(vector.iov_base.cast(), vector.iov_len)
}

// The kernel takes an offset in two halves, of which the second is not used with 64 bits.
vectored! {
    /// `readv(2)`
    readv(number, vectors, count) => to_fill, None, SYS_readv(number, vectors, count);
    /// `writev(2)`
    writev(number, vectors, count) => to_take, None, SYS_writev(number, vectors, count);
    /// `preadv(2)`
    preadv(number, vectors, count, offset: off_t)
        => to_fill, Some(offset as u64), SYS_preadv(number, vectors, count, offset, 0);
    /// `preadv(2)`
    preadv64(number, vectors, count, offset: off_t)
        => to_fill, Some(offset as u64), SYS_preadv(number, vectors, count, offset, 0);
    /// `pwritev(2)`
    pwritev(number, vectors, count, offset: off_t)
        => to_take, Some(offset as u64), SYS_pwritev(number, vectors, count, offset, 0);
    /// `pwritev(2)`
    pwritev64(number, vectors, count, offset: off_t)
        => to_take, Some(offset as u64), SYS_pwritev(number, vectors, count, offset, 0);
}

/// Offset -1 is where the file is read next.
fn next_or(offset: off_t) -> Option<u64> {
    u64::try_from(offset).ok()
}

/// Flags that a file of the machine does not know, as files without asynchronous reads and writes do not.
fn knows(number: c_int, flags: c_int) -> bool {
    const HIGH_PRIORITY: c_int = 1;
    flags & !HIGH_PRIORITY == 0 || on_file(number, |_, _| Ok(())).is_none()
}

macro_rules! flagged {
    ($($(#[$doc:meta])* $name:ident, $piece:expr, $call:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// As for the function of libc.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(
            number: c_int,
            vectors: *const iovec,
            count: c_int,
            offset: off_t,
            flags: c_int,
        ) -> ssize_t {
            if !knows(number, flags) {
                return reply(Err(libc::EOPNOTSUPP)) as ssize_t;
            }
            // SAFETY: as the program has promised.
            let answer = unsafe { vectors_at(number, (vectors, count), next_or(offset), $piece) }
                // SAFETY: as the program has promised.
                .unwrap_or_else(|| unsafe { waiting!($call, number, vectors, count, offset, 0, flags) });
            reply(answer) as ssize_t
        }
    )*};
}

flagged! {
    /// `preadv2(2)`
    preadv2, to_fill, SYS_preadv2;
    /// `preadv2(2)`
    preadv64v2, to_fill, SYS_preadv2;
    /// `pwritev2(2)`
    pwritev2, to_take, SYS_pwritev2;
    /// `pwritev2(2)`
    pwritev64v2, to_take, SYS_pwritev2;
}

/// Moves where an attribute is read next.
fn seek(number: c_int, offset: off_t, whence: c_int) -> Answer {
    let sought = on_file(number, |state, file| state.seek_to(file.key, offset, whence).map(|to| to as usize));
    // SAFETY: nothing but numbers is passed.
    sought.unwrap_or_else(|| unsafe { raw!(SYS_lseek, number, offset, whence) })
}

/// `lseek(2)`
#[unsafe(no_mangle)]
pub extern "C-unwind" fn lseek(number: c_int, offset: off_t, whence: c_int) -> c_long {
    reply(seek(number, offset, whence))
}

/// `lseek(2)`
#[unsafe(no_mangle)]
pub extern "C-unwind" fn lseek64(number: c_int, offset: off_t, whence: c_int) -> c_long {
    reply(seek(number, offset, whence))
}
