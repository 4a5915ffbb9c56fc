//! `syslog(2)`: the log is the machine's. Its records are read from `/dev/kmsg`, too.

use std::ffi::{c_char, c_int};

use libc::timespec;

use crate::bypass;
use crate::inside::{Inside, is_inside, shielded};
use crate::raw::{Answer, raw, reply_int, waiting};
use crate::state;

/// Those that take room for text: to read what is new, everything, and everything before it is cleared.
const READS: [c_int; 3] = [2, 3, 4];
/// How long it takes to look again, for who waits for what is new.
static MOMENT: timespec = timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// `klogctl(3)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn klogctl(action: c_int, to: *mut c_char, length: c_int) -> c_int {
    let answer = ask(action, to.cast(), length)
        // SAFETY: as the program has promised.
        .unwrap_or_else(|| unsafe { raw!(SYS_syslog, action, to, length) });
    reply_int(answer)
}

/// Asks the machine, if there is one.
fn ask(action: c_int, to: *mut u8, length: c_int) -> Option<Answer> {
    if is_inside() || state::settings().is_none() {
        return None;
    }
    if READS.contains(&action) && (to.is_null() || length <= 0) {
        return Some(if length == 0 && !to.is_null() { Ok(0) } else { Err(libc::EINVAL) });
    }
    loop {
        let told = shielded(|| {
            let _inside = Inside::enter();
            Some(state::get()?.syslog(action, to.expose_provenance() as u64, length as u64))
        })?;
        let pause = &raw const MOMENT;
        return Some(match told {
            Ok(told) => Ok(told as usize),
            // SAFETY: a time, and nowhere to write what is left of it.
            Err(libc::EAGAIN) => match unsafe { waiting!(SYS_nanosleep, pause, 0) } {
                Ok(_) if bypass::is_interrupted() => Err(libc::EINTR),
                Ok(_) => continue,
                interrupted => interrupted,
            },
            Err(errno) => Err(errno),
        });
    }
}
