//! Capabilities that the program takes out of effect: on the machine too it has them no longer, whether the host gives them to it
//! or the machine file.

use std::ffi::c_int;
use std::sync::atomic::Ordering;

use crate::inside::{Inside, is_inside};
use crate::raw::{raw, reply_int};
use crate::state;

/// `_LINUX_CAPABILITY_VERSION_3`: sets of two words.
const VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`
#[repr(C)]
pub struct Header {
    version: u32,
    pid: c_int,
}

/// `struct __user_cap_data_struct`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `capset(2)`
///
/// # Safety
///
/// As for the call itself.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn capset(header: *mut Header, sets: *const Sets) -> c_int {
    let before = effective();
    // SAFETY: as the caller has promised.
    let answer = unsafe { raw!(SYS_capset, header, sets) };
    let after = effective();
    if before != after {
        change(after & !before, before & !after);
    }
    reply_int(answer)
}

/// `unshare(2)`: who makes a user namespace has capabilities in that alone, and the machine is not of it.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn unshare(flags: c_int) -> c_int {
    // SAFETY: nothing is passed but a number.
    let answer = unsafe { raw!(SYS_unshare, flags) };
    if answer.is_ok() && flags & libc::CLONE_NEWUSER != 0 {
        // Before the namespace has its users, no machine can be made: it is told when there is one.
        state::IN_NAMESPACE.store(true, Ordering::Relaxed);
        if state::existing().is_some() {
            change(0, u64::MAX);
        }
    }
    reply_int(answer)
}

/// Tells the machine of capabilities that come into effect, and of others that go out of it.
fn change(raised: u64, dropped: u64) {
    if !is_inside()
        && let Some(state) = state::get()
    {
        let _inside = Inside::enter();
        // A machine that is gone asks for none.
        let _told = state.capabilities(raised, dropped);
    }
}

/// Those of this thread that are in effect, by their bits.
fn effective() -> u64 {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: there is room for both words of each set.
    let told = unsafe { raw!(SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    if told.is_err() { 0 } else { u64::from(sets[1].effective) << 32 | u64::from(sets[0].effective) }
}
