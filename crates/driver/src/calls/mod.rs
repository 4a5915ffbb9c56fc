//! The calls that a driver makes, each one recorded where a trace is kept.
#![expect(unsafe_code, reason = "some calls take addresses; each says why they are what the call expects")]

mod group;
mod iommufd;

use std::ffi::c_void;
use std::os::fd::AsFd;
use std::path::Path;

use sys::{Access, Mapping, Memory, MemoryOptions, Mmio, Sys, Tailed};
use uapi::SelfContained;
use uapi::vfio::VFIO_DEVICE_RESET;

use crate::trace::Trace;

/// A system and a trace of what is asked of it.
#[derive(Clone)]
pub(crate) struct Calls<S> {
    pub(crate) sys: S,
    pub(crate) trace: Trace,
}

impl<S: Sys> Calls<S> {
    pub(crate) fn new(sys: &S, trace: bool) -> Self {
        Calls { sys: sys.clone(), trace: Trace::new(trace) }
    }

    pub(crate) fn open(&self, path: &Path, access: Access) -> sys::Result<S::File> {
        let open = || self.sys.open(path, access);
        self.trace.record("open", || path.to_path_buf(), open, |_| "opened".to_owned())
    }

    /// An ioctl that touches its argument only; `words` tells what it answered.
    pub(crate) fn ioctl<T: SelfContained>(
        &self,
        file: &S::File,
        mut argument: T,
        words: impl FnOnce(&T) -> String,
    ) -> sys::Result<T> {
        let call = || self.sys.ioctl(file, &mut argument).map(|_| argument);
        self.trace.record(T::NAME, || self.sys.path_of(file), call, words)
    }

    /// The same with data behind the argument.
    pub(crate) fn ioctl_tailed<T: SelfContained>(
        &self,
        file: &S::File,
        argument: &mut Tailed<T>,
        words: impl FnOnce() -> String,
    ) -> sys::Result<u32> {
        let call = || self.sys.ioctl_tailed(file, argument);
        self.trace.record(T::NAME, || self.sys.path_of(file), call, |_| words())
    }

    /// An ioctl that no type describes.
    ///
    /// # Safety
    ///
    /// `argument` is what the command takes on this file: a number, or the address of what it reads.
    unsafe fn ioctl_raw(
        &self,
        file: &S::File,
        (name, command): (&'static str, u32),
        argument: *mut c_void,
        words: impl FnOnce(&u32) -> String,
    ) -> sys::Result<u32> {
        let call = || {
            // SAFETY: the caller's promise.
            unsafe { self.sys.ioctl_raw(file.as_fd(), command, argument) }.map_err(|refusal| {
                let named = sys::Error::new(name, self.sys.path_of(file).display(), refusal.errno());
                match refusal.rule() {
                    Some(rule) => named.with_rule(rule),
                    None => named,
                }
            })
        };
        self.trace.record(name, || self.sys.path_of(file), call, words)
    }

    /// Writes to a file of the device.
    pub(crate) fn write(&self, file: &S::File, bytes: &[u8], at: u64, words: &str) -> sys::Result<usize> {
        let call = || self.sys.pwrite(file, bytes, at);
        self.trace.record("pwrite", || self.sys.path_of(file), call, |_| words.to_owned())
    }

    /// Writes an attribute of sysfs.
    pub(crate) fn set(&self, path: &Path, value: &str) -> sys::Result<()> {
        let call = || self.sys.write(path, value.as_bytes());
        self.trace.record("write", || path.to_path_buf(), call, |()| value.to_owned())
    }

    /// Maps registers.
    pub(crate) fn map_region(&self, file: &S::File, mapping: Mapping) -> sys::Result<Mmio> {
        let call = || self.sys.map_region(file, mapping);
        let words = |mmio: &Mmio| format!("{} bytes", mmio.length());
        self.trace.record("mmap", || self.sys.path_of(file), call, words)
    }

    pub(crate) fn allocate(&self, options: &MemoryOptions) -> sys::Result<Memory> {
        let call = || self.sys.allocate(options);
        let words = |memory: &Memory| format!("{} bytes", memory.length());
        self.trace.record("mmap", || "memory".into(), call, words)
    }

    /// Resets a function.
    pub(crate) fn reset(&self, device: &S::File) -> sys::Result<()> {
        let command = ("VFIO_DEVICE_RESET", VFIO_DEVICE_RESET);
        // SAFETY: the command takes no argument.
        unsafe { self.ioctl_raw(device, command, std::ptr::null_mut(), |_| "reset".to_owned()) }.map(drop)
    }
}
