//! Mapping and unmapping memory.

use std::ffi::{c_int, c_uint, c_void};
use std::ops::Range;

use libc::{off_t, size_t};
use machine::Fate;

use super::on_file;
use crate::call::Part;
use crate::family;
use crate::inside::{Inside, is_inside, shielded};
use crate::raw::{Answer, raw, reply, reply_int};
use crate::state::{self, State};

const PAGE: usize = 4096;

// <linux/mman.h>, from Linux 5.18 and 6.13 on
const MADV_DONTNEED_LOCKED: c_int = 24;
const MADV_GUARD_INSTALL: c_int = 102;

fn pages(address: usize, length: usize) -> Range<usize> {
    address..address.saturating_add(length.next_multiple_of(PAGE))
}

/// The machine whose devices have some of the program's memory at these addresses.
fn holder(addresses: &Range<usize>) -> Option<(&'static State, Range<u64>)> {
    let state = state::existing().filter(|_| !is_inside() && !addresses.is_empty())?;
    let _inside = Inside::enter();
    let range = addresses.start as u64..addresses.end as u64;
    family::has_pinned(state, &range).then_some((state, range))
}

/// The program is about to unmap or to empty memory: what devices have of it stays with them.
fn set_aside(addresses: &Range<usize>, fate: Fate) -> Result<(), c_int> {
    let Some((state, range)) = holder(addresses) else { return Ok(()) };
    let _inside = Inside::enter();
    match state.unmapping(range, fate) {
        Err(libc::ENOMEM) => Err(libc::ENOMEM),
        // A machine that is gone has none of it.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether addresses are such that the kernel takes them.
fn are_whole(address: usize, length: usize) -> bool {
    address.is_multiple_of(PAGE) && length > 0 && address.checked_add(length).is_some()
}

/// Whether there is anything mapped of the machine: otherwise there is nothing to look after.
fn traps() -> Option<&'static crate::traps::Traps> {
    state::existing().map(|state| &state.traps).filter(|traps| !is_inside() && !traps.is_empty())
}

/// Mapped registers are elsewhere, or gone, and with them perhaps the last hold on a file of the machine.
fn registers_went() {
    if let Some(state) = state::existing() {
        // A machine that is gone needs to know nothing.
        let _told = state.mapped(state.traps.regions()).and_then(|()| state.closed());
    }
}

/// Maps a file, which for one of the machine are registers: addresses without access, for which the trap answers.
unsafe fn map(
    address: *mut c_void,
    length: size_t,
    protection: c_int,
    flags: c_int,
    number: c_int,
    offset: off_t,
) -> Answer {
    let replaced = pages(address.expose_provenance(), length);
    if flags & libc::MAP_FIXED != 0 && holder(&replaced).is_some() {
        // Refused before anything that was there is replaced.
        let elsewhere = flags & !(libc::MAP_FIXED | libc::MAP_POPULATE);
        // SAFETY: new addresses, of which nobody knows.
        unsafe {
            let start = map(std::ptr::null_mut(), length, protection, elsewhere, number, offset)?;
            munmap(std::ptr::with_exposed_provenance_mut(start), length);
        }
        set_aside(&replaced, Fate::Unmapped)?;
    }
    let mapped = if flags & libc::MAP_ANONYMOUS == 0 {
        on_file(number, move |state, file| {
            let part = Part {
                offset: offset as u64,
                length: length as u64,
                writable: protection & libc::PROT_WRITE != 0,
                executable: protection & libc::PROT_EXEC != 0,
                shared: flags & libc::MAP_TYPE != libc::MAP_PRIVATE,
            };
            // Refused before anything that was there is replaced.
            let region = state.map(file.key, part)?;
            let place = flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE | libc::MAP_32BIT);
            let flags = libc::MAP_SHARED | libc::MAP_NORESERVE | place;
            // Addresses of the placeholder: the kernel counts the mapping as it counts descriptors.
            // SAFETY: what the program says to be replaced is replaced, by addresses that nobody can reach.
            let start = unsafe { raw!(SYS_mmap, address, length, libc::PROT_NONE, flags, number, offset) }?;
            state.traps.add(pages(start, length), region, protection);
            state.mapped(state.traps.regions())?;
            state.made(format_args!("mmap {offset:#x} of {}: {start:#x}", file.path.display()));
            Ok(start)
        })
    } else {
        None
    };
    mapped.unwrap_or_else(|| {
        // SAFETY: as the program has promised.
        let start = match unsafe { raw!(SYS_mmap, address, length, protection, flags, number, offset) } {
            Err(libc::ENOMEM) if lacks_huge_pages(flags) => {
                // SAFETY: as the program has promised.
                unsafe { like_huge_pages(address.addr(), length, protection, flags) }?
            }
            answer => answer?,
        };
        if flags & libc::MAP_FIXED != 0
            && let Some(traps) = traps()
        {
            let _inside = Inside::enter();
            if traps.remove(&pages(start, length)) {
                registers_went();
            }
        }
        Ok(start)
    })
}

/// Whether huge pages are asked for, under a machine: it has as many as there is memory.
fn lacks_huge_pages(flags: c_int) -> bool {
    let wanted = libc::MAP_HUGETLB | libc::MAP_ANONYMOUS;
    flags & wanted == wanted && !is_inside() && state::settings().is_some()
}

/// Memory with the length and the alignment of huge pages, which the host has not. An address is no more than a hint, unless the
/// flags say that it is fixed.
///
/// # Safety
///
/// As for `mmap(2)`.
unsafe fn like_huge_pages(address: usize, length: usize, protection: c_int, flags: c_int) -> Answer {
    let size = match flags >> libc::MAP_HUGE_SHIFT & libc::MAP_HUGE_MASK {
        0 => 1 << 21,
        bits => 1_usize << bits,
    };
    let length = length.next_multiple_of(size);
    let place = flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE);
    let flags = flags & (libc::MAP_TYPE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE) | libc::MAP_NORESERVE;
    if place != 0 {
        // SAFETY: what the program says to be replaced is replaced.
        return unsafe { raw!(SYS_mmap, address, length, protection, flags | place, -1, 0) };
    }
    let reserved = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: new addresses, of which the aligned part is mapped anew, and the rest given back.
    unsafe {
        let start = raw!(SYS_mmap, 0, length + size, libc::PROT_NONE, reserved, -1, 0)?;
        let aligned = start.next_multiple_of(size);
        raw!(SYS_munmap, start, aligned - start).ok();
        raw!(SYS_munmap, aligned + length, start + size - aligned).ok();
        raw!(SYS_mmap, aligned, length, protection, flags | libc::MAP_FIXED, -1, 0)
    }
}

/// `mmap(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn mmap(
    address: *mut c_void,
    length: size_t,
    protection: c_int,
    flags: c_int,
    number: c_int,
    offset: off_t,
) -> *mut c_void {
    // SAFETY: as the program has promised.
    let mapped = shielded(|| unsafe { map(address, length, protection, flags, number, offset) });
    std::ptr::with_exposed_provenance_mut(reply(mapped) as usize)
}

/// `mmap(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn mmap64(
    address: *mut c_void,
    length: size_t,
    protection: c_int,
    flags: c_int,
    number: c_int,
    offset: off_t,
) -> *mut c_void {
    // SAFETY: as the program has promised.
    unsafe { mmap(address, length, protection, flags, number, offset) }
}

/// `munmap(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn munmap(address: *mut c_void, length: size_t) -> c_int {
    reply_int(shielded(|| {
        let addresses = pages(address.expose_provenance(), length);
        if are_whole(addresses.start, length) {
            set_aside(&addresses, Fate::Unmapped)?;
        }
        // SAFETY: as the program has promised.
        let answer = unsafe { raw!(SYS_munmap, address, length) }?;
        if let Some(traps) = traps() {
            let _inside = Inside::enter();
            if traps.remove(&addresses) {
                registers_went();
            }
        }
        Ok(answer)
    }))
}

/// `mprotect(2)`: registers stay without access, whatever the program asks for.
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn mprotect(address: *mut c_void, length: size_t, protection: c_int) -> c_int {
    let registers = traps().is_some_and(|traps| {
        shielded(|| {
            let _inside = Inside::enter();
            traps.protect(&pages(address.expose_provenance(), length), protection)
        })
    });
    if registers {
        return 0;
    }
    // SAFETY: as the program has promised.
    reply_int(unsafe { raw!(SYS_mprotect, address, length, protection) })
}

/// `mremap(2)`: registers do not grow.
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn mremap(
    address: *mut c_void,
    length: size_t,
    wanted: size_t,
    flags: c_int,
    other: *mut c_void,
) -> *mut c_void {
    let answer = shielded(|| {
        let from = pages(address.expose_provenance(), length);
        let registers = traps().filter(|traps| traps.cover(&from));
        if registers.is_some() && wanted.next_multiple_of(PAGE) > from.len() {
            return Err(libc::EFAULT);
        }
        // SAFETY: as the program has promised.
        let move_it = || unsafe { raw!(SYS_mremap, address, length, wanted, flags, other) };
        let start = move_pinned(&from, wanted, (flags, other), move_it)?;
        if let Some(traps) = traps() {
            let _inside = Inside::enter();
            if traps.move_to(&from, &pages(start, wanted)) {
                registers_went();
            }
        }
        Ok(start)
    });
    std::ptr::with_exposed_provenance_mut(reply(answer) as usize)
}

/// Moves memory, with what devices have of it.
fn move_pinned(
    from: &Range<usize>,
    wanted: size_t,
    (flags, other): (c_int, *mut c_void),
    move_it: impl FnOnce() -> Answer,
) -> Answer {
    let kept = from.start..from.end.min(pages(from.start, wanted).end);
    if are_whole(from.start, wanted) {
        set_aside(&(kept.end..from.end), Fate::Unmapped)?;
        let target = pages(other.expose_provenance(), wanted);
        if flags & libc::MREMAP_FIXED != 0 && are_whole(target.start, wanted) {
            set_aside(&target, Fate::Unmapped)?;
        }
    }
    let Some((state, range)) = holder(&kept) else { return move_it() };
    let _inside = Inside::enter();
    family::follow(state, &range, || move_it().map(|start| start as u64)).map(|start| start as usize)
}

/// `madvise(2)`: of registers no advice is taken that is about the contents of memory.
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn madvise(address: *mut c_void, length: size_t, advice: c_int) -> c_int {
    reply_int(shielded(|| {
        let about_contents =
            [libc::MADV_DONTNEED, libc::MADV_FREE, libc::MADV_DOFORK, libc::MADV_COLD, libc::MADV_PAGEOUT];
        let range = pages(address.expose_provenance(), length);
        if about_contents.contains(&advice) && traps().is_some_and(|traps| traps.cover(&range)) {
            return Err(libc::EINVAL);
        }
        if are_whole(range.start, length) {
            // What devices have is not free.
            if advice == libc::MADV_FREE && holder(&range).is_some() {
                return Ok(0);
            }
            if [libc::MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_GUARD_INSTALL].contains(&advice) {
                set_aside(&range, Fate::Emptied)?;
            }
        }
        // SAFETY: as the program has promised.
        unsafe { raw!(SYS_madvise, address, length, advice) }
    }))
}

/// `mlock(2)`: registers are there anyway.
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn mlock(address: *const c_void, length: size_t) -> c_int {
    // SAFETY: as the program has promised.
    unsafe { mlock2(address, length, 0) }
}

/// `mlock2(2)`
///
/// # Safety
///
/// As for the function of libc.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn mlock2(address: *const c_void, length: size_t, flags: c_uint) -> c_int {
    if traps().is_some_and(|traps| traps.cover(&pages(address.expose_provenance(), length))) {
        return 0;
    }
    // SAFETY: as the program has promised.
    reply_int(unsafe { raw!(SYS_mlock2, address, length, flags) })
}
