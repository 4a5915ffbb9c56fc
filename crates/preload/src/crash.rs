//! A fault of this library itself: what it was doing is told, and the program ends. It does not go on with locks that nobody gives back.

use std::cell::Cell;
use std::ffi::c_int;
use std::fmt;
use std::ptr;
use std::thread;

use crate::call::Request;
use crate::report::Kind;
use crate::signals;
use crate::state;

thread_local! {
    // Without a destructor it is a plain thread-local variable, in signal handlers too.
    static CALL: Cell<*const Request<'static>> = const { Cell::new(ptr::null()) };
}

/// A call that is under way, until it is dropped.
pub(crate) struct UnderWay<'a> {
    request: &'a Request<'a>,
    before: *const Request<'static>,
}

impl<'a> UnderWay<'a> {
    pub(crate) fn new(request: &'a Request<'a>) -> Self {
        UnderWay { request, before: CALL.replace(ptr::from_ref(request).cast()) }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        CALL.set(self.before);
        if thread::panicking() {
            tell(format_args!("panicked in {}", self.request));
            signals::die(libc::SIGABRT);
        }
    }
}

/// An instruction of the library has raised a signal.
pub(crate) fn ended_by(signal: c_int, address: u64) {
    let call = CALL.get();
    // SAFETY: a call that is under way is alive.
    match unsafe { call.as_ref() } {
        Some(request) => tell(format_args!("raised signal {signal} at {address:#x} in {request}")),
        None => tell(format_args!("raised signal {signal} at {address:#x}")),
    }
    signals::die(signal);
}

fn tell(what: fmt::Arguments<'_>) {
    if let Some(settings) = state::settings() {
        let words = format_args!("the library {what}: a fault of ioasis, not of the program");
        settings.report.tell(Kind::Trouble, words);
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;

    use super::*;
    use crate::inside::Inside;

    /// What a child tells that does this, and the signal that ends it.
    fn told_by(work: impl FnOnce()) -> (String, c_int) {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        // SAFETY: the child makes no use of what other threads of this process hold.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let pipe = writer.as_raw_fd().to_string();
            for (name, value) in
                [("IOASIS_RUN_MACHINE", "none"), ("IOASIS_RUN_ROOT", "none"), ("IOASIS_RUN_REPORT", &pipe)]
            {
                // SAFETY: the child has this thread alone.
                unsafe { env::set_var(name, value) };
            }
            state::set_up();
            signals::take_over();
            let _inside = Inside::enter();
            work();
            std::process::exit(0);
        }
        drop(writer);
        let (mut text, mut status) = (String::new(), 0);
        reader.read_to_string(&mut text).expect("what it tells");
        // SAFETY: it is a child of this process.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFSIGNALED(status), "{text}");
        (text.lines().last().unwrap_or_default().to_owned(), libc::WTERMSIG(status))
    }

    #[test]
    fn a_fault_of_the_library_is_told_and_ends_the_program() {
        let request = Request::Open { path: b"/dev/iommu", read: true, write: true };
        let (text, signal) = told_by(|| {
            let _call = UnderWay::new(&request);
            // SAFETY: none; that is what is to be seen.
            unsafe { ptr::without_provenance::<u8>(0x10).read_volatile() };
        });
        assert_eq!(signal, libc::SIGSEGV);
        assert_eq!(
            text,
            "Tthe library raised signal 11 at 0x10 in open /dev/iommu: a fault of ioasis, not of the program"
        );
        let (text, signal) = told_by(|| {
            let _call = UnderWay::new(&request);
            std::panic::set_hook(Box::new(|_| {}));
            panic!("on purpose");
        });
        assert_eq!(signal, libc::SIGABRT);
        assert_eq!(text, "Tthe library panicked in open /dev/iommu: a fault of ioasis, not of the program");
    }
}
