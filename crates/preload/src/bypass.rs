//! System calls that the program makes by itself, past libc: Rust on rustix, assembly.
//!
//! The kernel is asked to send SIGSYS for them instead (Syscall User Dispatch, Linux 5.11), and the handler makes the call as libc's
//! function of that name would come to it. Only code of the program's own file is meant: one range of addresses can be exempt, and
//! what the dynamic loader puts to one side of that file is: libc, and ourselves. A program without the instruction is left alone,
//! and so is one in Go. A new thread begins without it, and the child of a fork too; a program that is started decides anew.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::slice;
use std::sync::OnceLock;

use libc::{dl_phdr_info, siginfo_t, ucontext_t};

use crate::calls::numbered;
use crate::raw::{Answer, raw};
use crate::report::Kind;
use crate::signals::{self, pass_on};
use crate::state;

// <linux/prctl.h>
const PR_SET_SYSCALL_USER_DISPATCH: c_int = 59;
const PR_SYS_DISPATCH_ON: c_int = 1;
/// The code of a SIGSYS of this origin.
const SYS_USER_DISPATCH: c_int = 2;

/// `syscall`
const INSTRUCTION: [u8; 2] = [0x0f, 0x05];

/// What the linker of Go puts into the data of a program, whose stacks are too small for the frame of a signal.
const GO: &[u8] = b"\xff Go buildinf:";

/// The addresses whose calls pass, if others are caught.
static EXEMPT: OnceLock<Range<usize>> = OnceLock::new();

/// Catches the calls of the program, if it makes any.
pub(crate) fn set_up() {
    let Some(settings) = state::settings() else { return };
    let Some(image) = Image::of_program().filter(|image| image.makes_calls && !image.is_go) else { return };
    let own = set_up as fn() as usize;
    // A range may begin with the lowest address, or end with the highest.
    let exempt =
        if own > image.addresses.end { image.addresses.end..usize::MAX } else { 0..image.addresses.start };
    // SAFETY: what is registered is a function of ours, which stays.
    let _registered = unsafe { libc::pthread_atfork(None, None, Some(after_fork)) };
    signals::put_before(&[libc::SIGSYS], handle, 0, 0);
    if let Err(errno) = catch(&exempt) {
        let error = std::io::Error::from_raw_os_error(errno);
        if settings.report.explains {
            settings.report.tell(
                Kind::Call,
                format_args!("system calls of the program's own are not seen: Syscall User Dispatch (Linux 5.11): {error}"),
            );
        }
        return;
    }
    let _first = EXEMPT.set(exempt);
}

/// Whether calls of the program are caught.
pub(crate) fn catches() -> bool {
    EXEMPT.get().is_some()
}

/// Catches the calls of the calling thread, if the program is one that makes them.
pub(crate) fn catch_calls() {
    if let Some(exempt) = EXEMPT.get() {
        // As it has worked for the first thread.
        let _caught = catch(exempt);
    }
}

extern "C" fn after_fork() {
    catch_calls();
}

fn catch(exempt: &Range<usize>) -> Answer {
    // SAFETY: the handler is there. Without a byte that switches it, it is always on.
    unsafe {
        raw!(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, exempt.start, exempt.len(), 0_usize)
    }
}

/// The program's own file, as it is mapped.
struct Image {
    addresses: Range<usize>,
    /// Whether its code has the bytes of the instruction. That they are part of another instruction costs little.
    makes_calls: bool,
    is_go: bool,
}

impl Image {
    fn of_program() -> Option<Image> {
        let mut image: Option<Image> = None;
        // SAFETY: the function is one for this, and gets what it expects.
        unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut image).cast()) };
        image
    }
}

/// Looks at the first object, which is the program.
unsafe extern "C" fn first(object: *mut dl_phdr_info, _: usize, image: *mut c_void) -> c_int {
    // SAFETY: the loader passes an object, and `of_program` the image.
    let (object, image) = unsafe { (&*object, &mut *image.cast::<Option<Image>>()) };
    // SAFETY: so many headers are there.
    let headers = unsafe { slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD) {
        let start = (object.dlpi_addr + header.p_vaddr) as usize;
        let end = start + header.p_memsz as usize;
        let image = image.get_or_insert(Image { addresses: start..end, makes_calls: false, is_go: false });
        image.addresses = image.addresses.start.min(start)..image.addresses.end.max(end);
        // What the program may write to is what it was: none of its code has run.
        if header.p_flags & libc::PF_R != 0 {
            // SAFETY: the loader has mapped these bytes, and nobody writes to them meanwhile.
            let bytes = unsafe {
                slice::from_raw_parts(
                    std::ptr::with_exposed_provenance::<u8>(start),
                    header.p_filesz as usize,
                )
            };
            if header.p_flags & libc::PF_X != 0 {
                image.makes_calls |= contains(bytes, &INSTRUCTION);
            } else if header.p_flags & libc::PF_W != 0 {
                image.is_go |= contains(bytes, GO);
            }
        }
    }
    1
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The program has made a system call by itself.
unsafe extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes both to a handler of this form.
    let (info, context) = unsafe { (&mut *info, &mut *context.cast::<ucontext_t>()) };
    if info.si_code != SYS_USER_DISPATCH {
        return pass_on(signal, info, context, None);
    }
    let register = |number: c_int| context.uc_mcontext.gregs[number as usize] as usize;
    let number = register(libc::REG_RAX) as i64;
    let arguments = [libc::REG_RDI, libc::REG_RSI, libc::REG_RDX, libc::REG_R10, libc::REG_R8, libc::REG_R9]
        .map(register);
    let answer = match number {
        // SAFETY: the program ends a handler of its own.
        libc::SYS_rt_sigreturn => unsafe { signals::return_from(register(libc::REG_RSP)) },
        libc::SYS_fork | libc::SYS_vfork => fork(libc::SIGCHLD as usize, [0; 3]),
        libc::SYS_clone => {
            let [flags, stack, others @ .., _] = arguments;
            if stack == 0 { fork(flags, others) } else { refuse("clone with a stack") }
        }
        // Programs fall back to what was there before it.
        libc::SYS_clone3 => Err(libc::ENOSYS),
        // SAFETY: as the program has promised to the kernel.
        _ => unsafe { numbered::call(number, arguments) },
    };
    if answer.is_ok() {
        keep(number, context);
    }
    context.uc_mcontext.gregs[libc::REG_RAX as usize] = match answer {
        Ok(value) => value as i64,
        Err(errno) => -i64::from(errno),
    };
}

/// What a call has changed, and the return from the signal would set back.
fn keep(number: i64, context: &mut ucontext_t) {
    let (mask, stack) = (&raw mut context.uc_sigmask, &raw mut context.uc_stack);
    // SAFETY: the kernel writes what it has, to where it reads it from at the return.
    let _read = unsafe {
        match number {
            libc::SYS_rt_sigprocmask => raw!(SYS_rt_sigprocmask, 0, 0_usize, mask, size_of::<u64>()),
            libc::SYS_sigaltstack => raw!(SYS_sigaltstack, 0_usize, stack),
            _ => Ok(0),
        }
    };
}

/// Makes a child that goes on from here too, with memory of its own: what the child of a `vfork` may do, it may.
fn fork(flags: usize, others: [usize; 3]) -> Answer {
    let flags = flags & !(libc::CLONE_VM as usize);
    let [parent, child, storage] = others;
    // SAFETY: without memory in common, each returns by a stack of its own.
    let answer = unsafe { raw!(SYS_clone, flags, 0_usize, parent, child, storage) };
    if answer == Ok(0) {
        catch_calls();
    }
    answer
}

/// A call that cannot be made for the program.
fn refuse(what: &str) -> Answer {
    if let Some(settings) = state::settings() {
        settings
            .report
            .tell(Kind::Trouble, format_args!("{what}, by the program itself, cannot be followed"));
    }
    Err(libc::ENOSYS)
}
