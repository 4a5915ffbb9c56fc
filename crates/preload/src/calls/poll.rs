//! Waiting for descriptors. A device that works inside calls only gets its turn while the program waits.

use std::ffi::{c_int, c_long};
use std::mem::ManuallyDrop;
use std::slice;
use std::time::{Duration, Instant};

use libc::{epoll_event, fd_set, nfds_t, pollfd, sigset_t, timespec, timeval};

use super::on_file;
use crate::bypass;
use crate::inside::{Inside, is_inside, shielded};
use crate::raw::{Answer, raw, reply_int, waiting};
use crate::state;

/// The length of the kernel's set of signals.
const SIGNALS: usize = 8;

/// Makes a call that waits, piece by piece if a device needs its turn between; `None` is without end.
fn wait(timeout: Option<Duration>, ask: impl Fn(Option<Duration>) -> Answer + Copy) -> Answer {
    // What tells the time does not unwind.
    shielded(|| wait_in_pieces(timeout, ask))
}

fn wait_in_pieces(timeout: Option<Duration>, ask: impl Fn(Option<Duration>) -> Answer) -> Answer {
    // One that is too long to be counted is without end.
    let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let Some(slice) = turn() else { return ask(left) };
        let answer = ask(Some(left.map_or(slice, |left| left.min(slice))));
        if answer != Ok(0) || left == Some(Duration::ZERO) {
            return answer;
        }
        if bypass::is_interrupted() {
            return Err(libc::EINTR);
        }
    }
}

/// Devices get their turn. How long the program may sleep until the next one; `None` if there is no need.
pub(crate) fn turn() -> Option<Duration> {
    let state = state::existing().filter(|_| !is_inside())?;
    let _inside = Inside::enter();
    state.turn().ok().flatten()
}

fn as_timespec(duration: Duration) -> timespec {
    timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

fn milliseconds(timeout: c_int) -> Option<Duration> {
    u64::try_from(timeout).ok().map(Duration::from_millis)
}

/// The time that a program passes; an error if it is none.
fn time(seconds: i64, nanoseconds: i64) -> Result<Duration, c_int> {
    let nanoseconds = u32::try_from(nanoseconds).ok().filter(|part| *part < 1_000_000_000);
    let (Ok(seconds), Some(nanoseconds)) = (u64::try_from(seconds), nanoseconds) else {
        return Err(libc::EINVAL);
    };
    Ok(Duration::new(seconds, nanoseconds))
}

/// # Safety
///
/// There are so many entries, and `mask` is null or a set of signals.
unsafe fn poll_for(
    entries: *mut pollfd,
    count: nfds_t,
    timeout: Option<Duration>,
    mask: *const sigset_t,
) -> Answer {
    wait(timeout, |timeout| {
        let timeout = timeout.map(as_timespec);
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: as the caller has promised.
        unsafe { waiting!(SYS_ppoll, entries, count, timeout, mask, SIGNALS) }
    })
}

/// `poll(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn poll(entries: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    // SAFETY: as the program has promised.
    reply_int(unsafe { poll_for(entries, count, milliseconds(timeout), std::ptr::null()) })
}

/// `poll(2)`, checked
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __poll_chk(
    entries: *mut pollfd,
    count: nfds_t,
    timeout: c_int,
    _: usize,
) -> c_int {
    // SAFETY: as the program has promised.
    unsafe { poll(entries, count, timeout) }
}

/// `ppoll(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn ppoll(
    entries: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: as the program has promised.
    let timeout = unsafe { timeout.as_ref() }.map(|timeout| time(timeout.tv_sec, timeout.tv_nsec));
    reply_int(match timeout.transpose() {
        // SAFETY: as the program has promised.
        Ok(timeout) => unsafe { poll_for(entries, count, timeout, mask) },
        Err(errno) => Err(errno),
    })
}

/// `ppoll(2)`, checked
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __ppoll_chk(
    entries: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    _: usize,
) -> c_int {
    // SAFETY: as the program has promised.
    unsafe { ppoll(entries, count, timeout, mask) }
}

/// # Safety
///
/// The sets are null or have so many bits, and `mask` is null or a set of signals.
unsafe fn select_for(
    count: c_int,
    sets: [*mut fd_set; 3],
    timeout: Option<Duration>,
    mask: *const sigset_t,
) -> Answer {
    let words = usize::try_from(count).unwrap_or(0).div_ceil(64);
    // The kernel writes what is ready over what was asked for, nothing if the time is over.
    let asked = sets.map(|set| {
        // SAFETY: as the caller has promised.
        (!set.is_null()).then(|| unsafe { slice::from_raw_parts(set.cast::<u64>(), words) }.to_vec())
    });
    // Not dropped by a thread that is cancelled.
    let mut asked = ManuallyDrop::new(asked);
    let mask = [mask.expose_provenance(), SIGNALS];
    let answer = wait(timeout, |timeout| {
        for (set, asked) in sets.iter().zip(&*asked) {
            if let Some(asked) = asked {
                // SAFETY: as above.
                unsafe { std::ptr::copy_nonoverlapping(asked.as_ptr(), set.cast(), words) };
            }
        }
        // The kernel writes the time that is left there.
        let mut timeout = timeout.map(as_timespec);
        let timeout = timeout.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
        let [read, write, except] = sets;
        // SAFETY: as the caller has promised.
        unsafe { waiting!(SYS_pselect6, count, read, write, except, timeout, mask.as_ptr()) }
    });
    // SAFETY: it is not used again.
    unsafe { ManuallyDrop::drop(&mut asked) };
    answer
}

/// `select(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: as the program has promised.
    let asked = unsafe { timeout.as_ref() }.map(|timeout| {
        let (seconds, part) = (timeout.tv_usec / 1_000_000, timeout.tv_usec % 1_000_000);
        time(timeout.tv_sec.saturating_add(seconds), part * 1000)
    });
    let asked = match asked.transpose() {
        Ok(asked) => asked,
        Err(errno) => return reply_int(Err(errno)),
    };
    reply_int(shielded(|| {
        let begin = Instant::now();
        // SAFETY: as the program has promised.
        let answer = unsafe { select_for(count, [read, write, except], asked, std::ptr::null()) };
        if let Some(asked) = asked {
            let left = asked.saturating_sub(begin.elapsed());
            let left = timeval { tv_sec: left.as_secs() as i64, tv_usec: i64::from(left.subsec_micros()) };
            // SAFETY: as the program has promised; Linux tells what is left.
            unsafe { *timeout = left };
        }
        answer
    }))
}

/// `pselect(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: as the program has promised.
    let timeout = unsafe { timeout.as_ref() }.map(|timeout| time(timeout.tv_sec, timeout.tv_nsec));
    reply_int(match timeout.transpose() {
        // SAFETY: as the program has promised.
        Ok(timeout) => shielded(|| unsafe { select_for(count, [read, write, except], timeout, mask) }),
        Err(errno) => Err(errno),
    })
}

/// `epoll_pwait(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn epoll_pwait(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: c_int,
    mask: *const sigset_t,
) -> c_int {
    reply_int(wait(milliseconds(timeout), |timeout| {
        // Rounded up: a wait must not end early.
        let timeout = timeout.map_or(-1, |timeout| timeout.as_micros().div_ceil(1000) as c_long);
        // SAFETY: as the program has promised.
        unsafe { waiting!(SYS_epoll_pwait, epoll, events, count, timeout, mask, SIGNALS) }
    }))
}

/// `epoll_wait(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn epoll_wait(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: c_int,
) -> c_int {
    // SAFETY: as the program has promised.
    unsafe { epoll_pwait(epoll, events, count, timeout, std::ptr::null()) }
}

/// `epoll_ctl(2)`: VFIO's files cannot be waited for so.
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn epoll_ctl(
    epoll: c_int,
    operation: c_int,
    number: c_int,
    event: *mut epoll_event,
) -> c_int {
    // SAFETY: as the program has promised.
    let ask = || unsafe { raw!(SYS_epoll_ctl, epoll, operation, number, event) };
    let refused = on_file(number, |_, file| if file.path.is_absolute() { Err(libc::EPERM) } else { Ok(0) });
    reply_int(match refused {
        Some(Err(errno)) => Err(errno),
        _ => ask(),
    })
}
