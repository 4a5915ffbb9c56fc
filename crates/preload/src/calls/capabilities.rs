//! Capabilities: a process has those that the machine file gives, beside the host's. What it takes out of effect is so on the machine,
//! too, whoever gave it.

use std::ffi::{c_int, c_long};
use std::sync::atomic::{AtomicU64, Ordering};

use libc::uid_t;
use sys::guarded;

use super::next::next;
use crate::inside::{Inside, is_inside, shielded};
use crate::raw::{self, Answer, raw, reply_int};
use crate::state;
use crate::state::OUT_OF_EFFECT;

/// `_LINUX_CAPABILITY_VERSION_3`: sets of two words.
const VERSION_3: u32 = 0x2008_0522;

/// Those that the process has given up for good.
static GIVEN_UP: AtomicU64 = AtomicU64::new(0);

/// `struct __user_cap_header_struct`
#[repr(C)]
pub struct Header {
    version: u32,
    pid: c_int,
}

/// `struct __user_cap_data_struct`, of which there is one for each word.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// What of the machine file's capabilities the process has still.
fn given() -> u64 {
    state::capabilities() & !GIVEN_UP.load(Ordering::Relaxed)
}

/// Two words as a set.
fn joined(sets: &[Sets; 2], word: impl Fn(&Sets) -> u32) -> u64 {
    u64::from(word(&sets[1])) << 32 | u64::from(word(&sets[0]))
}

/// Takes what is the program's to read; `None` if it is not there.
fn taken<const N: usize>(address: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: a fault is recovered from, or is what the program has promised not to happen.
    unsafe { guarded::read(address, &mut bytes) }.is_ok().then_some(bytes)
}

/// `capget(2)`
///
/// # Safety
///
/// As for the call itself.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn capget(header: *mut Header, sets: *mut Sets) -> c_int {
    // SAFETY: as the caller has promised.
    let answer = unsafe { raw!(SYS_capget, header, sets) };
    if answer.is_ok() && !sets.is_null() && !is_inside() && state::settings().is_some() {
        let given = given();
        let in_effect = given & !OUT_OF_EFFECT.load(Ordering::Relaxed);
        // SAFETY: the kernel has read the one, and written to two of the others in this version.
        unsafe {
            let own = [0, gettid(), std::process::id() as c_int].contains(&(*header).pid);
            if own && (*header).version == VERSION_3 {
                for (word, shift) in [(0, 0), (1, 32)] {
                    (*sets.add(word)).permitted |= (given >> shift) as u32;
                    (*sets.add(word)).effective |= (in_effect >> shift) as u32;
                }
            }
        }
    }
    reply_int(answer)
}

fn gettid() -> c_int {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// `capset(2)`
///
/// # Safety
///
/// As for the call itself.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn capset(header: *mut Header, sets: *const Sets) -> c_int {
    // SAFETY: as the caller has promised.
    reply_int(
        asked(header, sets)
            .map_or_else(|| unsafe { raw!(SYS_capset, header, sets) }, |sets| set(header, sets)),
    )
}

/// What is asked for, if it concerns the machine.
fn asked(header: *const Header, sets: *const Sets) -> Option<[Sets; 2]> {
    if is_inside() || state::settings().is_none() {
        return None;
    }
    let version: [u8; 4] = taken(header.expose_provenance() as u64)?;
    let bytes: [u8; 24] = taken(sets.expose_provenance() as u64)?;
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let sets =
        [0, 12].map(|at| Sets { effective: word(at), permitted: word(at + 4), inheritable: word(at + 8) });
    (u32::from_ne_bytes(version) == VERSION_3).then_some(sets)
}

fn set(header: *mut Header, wanted: [Sets; 2]) -> Answer {
    let (effective, permitted) = (joined(&wanted, |set| set.effective), joined(&wanted, |set| set.permitted));
    // The kernel knows nothing of what the machine file alone gives.
    let alone = given() & !of_host().permitted;
    if alone & effective & !permitted != 0 {
        return Err(libc::EPERM);
    }
    let mut of_host = wanted;
    for (sets, alone) in of_host.iter_mut().zip([alone as u32, (alone >> 32) as u32]) {
        sets.effective &= !alone;
        sets.permitted &= !alone;
        sets.inheritable &= !alone;
    }
    // SAFETY: the program's header, and two sets.
    let answer = unsafe { raw!(SYS_capset, header, of_host.as_ptr()) }?;
    GIVEN_UP.fetch_or(!permitted, Ordering::Relaxed);
    take_effect(effective);
    Ok(answer)
}

/// `unshare(2)`: who makes a user namespace has capabilities in that alone, and the machine is not of it.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn unshare(flags: c_int) -> c_int {
    // SAFETY: nothing is passed but a number.
    let answer = unsafe { raw!(SYS_unshare, flags) };
    if answer.is_ok() && flags & libc::CLONE_NEWUSER != 0 {
        GIVEN_UP.store(u64::MAX, Ordering::Relaxed);
        take_effect(0);
    }
    reply_int(answer)
}

macro_rules! users {
    ($($(#[$doc:meta])* $name:ident($($argument:ident),*), $path:literal;)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $name($($argument: uid_t),*) -> c_int {
            following(|| next!($path, fn($(users!(@type $argument)),*) -> c_int, ($($argument),*), -1))
        }
    )*};
    (@type $argument:ident) => { uid_t };
}

users! {
    /// `setuid(2)`: who is root no more loses what the host gave to root.
    setuid(user), c"setuid";
    /// `seteuid(2)`, likewise
    seteuid(user), c"seteuid";
    /// `setreuid(2)`, likewise
    setreuid(user, effective), c"setreuid";
    /// `setresuid(2)`, likewise
    setresuid(user, effective, saved), c"setresuid";
}

/// The same by number: of the calling thread alone.
///
/// # Safety
///
/// As for the call itself.
pub(super) unsafe fn user_by_number(number: c_long, arguments: [usize; 6]) -> Answer {
    // SAFETY: as the caller has promised.
    following(|| unsafe { raw::call(number, arguments) })
}

/// Makes a call. What the host takes from the process by it the machine takes, too, and what it gives back the process has again.
fn following<R>(call: impl FnOnce() -> R) -> R {
    // Of the machine file's some may be none of the host's: they go with the last of those, and come with the first.
    let gone = |before: u64, after: u64| match (before, after) {
        (1.., 0) => u64::MAX,
        _ => before & !after,
    };
    let before = of_host();
    let answer = call();
    let after = of_host();
    if before != after && !is_inside() && state::settings().is_some() {
        GIVEN_UP.fetch_or(gone(before.permitted, after.permitted), Ordering::Relaxed);
        let in_effect = !OUT_OF_EFFECT.load(Ordering::Relaxed);
        let (taken, given) =
            (gone(before.effective, after.effective), gone(after.effective, before.effective));
        take_effect(in_effect & !taken | given);
    }
    answer
}

/// These are in effect, and no others. A machine that is not there yet is told when it is: before a user namespace has its users, none
/// can be made.
fn take_effect(effective: u64) {
    let before = !OUT_OF_EFFECT.swap(!effective, Ordering::Relaxed);
    if before != effective
        && let Some(state) = state::existing().filter(|_| !is_inside())
    {
        shielded(|| {
            let _inside = Inside::enter();
            // A machine that is gone asks for none.
            let _told = state.capabilities(effective, !effective);
        });
    }
}

/// The capabilities that the host gives a thread, by their bits.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Host {
    effective: u64,
    permitted: u64,
}

/// Those of this thread.
fn of_host() -> Host {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: there is room for both words of each set.
    let told = unsafe { raw!(SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    if told.is_err() {
        return Host { effective: 0, permitted: 0 };
    }
    Host { effective: joined(&sets, |set| set.effective), permitted: joined(&sets, |set| set.permitted) }
}
