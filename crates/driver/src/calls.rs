//! The calls that a driver makes, each one recorded where a trace is kept.
#![expect(unsafe_code, reason = "some calls take addresses; each says why they are what the call expects")]

use std::os::fd::AsFd;
use std::path::Path;

use sys::{Access, Mapping, Memory, MemoryOptions, Mmio, Sys, Tailed};
use uapi::iommufd::{
    IOMMU_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_WRITEABLE, IommuHwInfo, IommuIoasMap, IommuIoasNoiommuGetPa,
    IommuIoasUnmap,
};
use uapi::vfio::{VFIO_DEVICE_RESET, VfioDeviceBindIommufd};
use uapi::{Command, SelfContained};

use crate::trace::Trace;
use crate::{Iova, PhysAddr};

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

    pub(crate) fn open(&self, path: &Path) -> sys::Result<S::File> {
        let open = || self.sys.open(path, Access::ReadWrite);
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

    /// Writes to the device file.
    pub(crate) fn write(&self, file: &S::File, bytes: &[u8], at: u64, words: &str) -> sys::Result<usize> {
        let call = || self.sys.pwrite(file, bytes, at);
        self.trace.record("pwrite", || self.sys.path_of(file), call, |_| words.to_owned())
    }

    /// Ties a device to an IOMMUFD context: the device's id there. `iommufd` is the descriptor's number.
    pub(crate) fn bind(&self, device: &S::File, iommufd: i32) -> sys::Result<u32> {
        let mut argument = VfioDeviceBindIommufd { iommufd, ..VfioDeviceBindIommufd::new() };
        // SAFETY: without the token flag the kernel does not look at the one address in the argument.
        let call = || unsafe { self.sys.ioctl_typed(device, &mut argument) }.map(|_| argument.out_devid);
        self.trace.record(
            VfioDeviceBindIommufd::NAME,
            || self.sys.path_of(device),
            call,
            |id| format!("device {id}"),
        )
    }

    /// Asks which IOMMU a bound device has; EOPNOTSUPP if none.
    pub(crate) fn hardware(&self, iommufd: &S::File, device: u32) -> sys::Result<u32> {
        let mut argument = IommuHwInfo { dev_id: device, ..IommuHwInfo::new() };
        // SAFETY: a data length of zero leaves the kernel no room to write to at the address in the argument.
        let call = || unsafe { self.sys.ioctl_typed(iommufd, &mut argument) }.map(|_| argument.out_data_type);
        self.trace.record(
            IommuHwInfo::NAME,
            || self.sys.path_of(iommufd),
            call,
            |kind| format!("IOMMU type {kind}"),
        )
    }

    /// Maps registers.
    pub(crate) fn map_region(&self, device: &S::File, mapping: Mapping) -> sys::Result<Mmio> {
        let call = || self.sys.map_region(device, mapping);
        self.trace.record(
            "mmap",
            || self.sys.path_of(device),
            call,
            |mmio| format!("{} bytes", mmio.length()),
        )
    }

    pub(crate) fn allocate(&self, options: &MemoryOptions) -> sys::Result<Memory> {
        let call = || self.sys.allocate(options);
        let words = |memory: &Memory| format!("{} bytes", memory.length());
        self.trace.record("mmap", || "memory".into(), call, words)
    }

    /// Maps memory for devices to read and write.
    pub(crate) fn map(&self, iommufd: &S::File, ioas: u32, memory: &Memory) -> sys::Result<Iova> {
        let mut argument = IommuIoasMap {
            flags: IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
            ioas_id: ioas,
            user_va: memory.start().as_ptr() as u64,
            length: memory.length() as u64,
            ..IommuIoasMap::new()
        };
        // SAFETY: the address and the length are those of a live `Memory`, to which no Rust reference ever exists, and
        // whose bytes this crate reads and writes as shared with a device. The kernel pins the pages, so that they stay
        // with the device even if the process unmaps them.
        let call =
            || unsafe { self.sys.ioctl_typed(iommufd, &mut argument) }.map(|_| Iova::new(argument.iova));
        let words = |iova: &Iova| format!("{} bytes at IOVA {iova}", memory.length());
        self.trace.record(IommuIoasMap::NAME, || self.sys.path_of(iommufd), call, words)
    }

    /// Takes the memory at an IOVA back from the devices.
    pub(crate) fn unmap(&self, iommufd: &S::File, ioas: u32, iova: Iova, length: u64) -> sys::Result<u64> {
        let argument = IommuIoasUnmap { ioas_id: ioas, iova: iova.get(), length, ..IommuIoasUnmap::new() };
        self.ioctl(iommufd, argument, |done| format!("{} bytes", done.length)).map(|done| done.length)
    }

    /// The physical address of an IOVA, and for how many bytes it goes on without a break, `length` at most.
    pub(crate) fn physical(
        &self,
        iommufd: &S::File,
        ioas: u32,
        iova: Iova,
        length: u64,
    ) -> sys::Result<(PhysAddr, u64)> {
        let argument =
            IommuIoasNoiommuGetPa { ioas_id: ioas, iova: iova.get(), length, ..IommuIoasNoiommuGetPa::new() };
        let words = |done: &IommuIoasNoiommuGetPa| format!("{} bytes at {:#x}", done.length, done.out_phys);
        self.ioctl(iommufd, argument, words).map(|done| (PhysAddr::new(done.out_phys), done.length))
    }

    /// Resets a function.
    pub(crate) fn reset(&self, device: &S::File) -> sys::Result<u32> {
        let call = || {
            // SAFETY: the command takes no argument.
            unsafe { self.sys.ioctl_raw(device.as_fd(), VFIO_DEVICE_RESET, std::ptr::null_mut()) }.map_err(
                |refusal| {
                    let named = sys::Error::new(
                        "VFIO_DEVICE_RESET",
                        self.sys.path_of(device).display(),
                        refusal.errno(),
                    );
                    refusal.rule().map_or(named.clone(), |rule| named.with_rule(rule))
                },
            )
        };
        self.trace.record("VFIO_DEVICE_RESET", || self.sys.path_of(device), call, |_| "reset".to_owned())
    }
}
