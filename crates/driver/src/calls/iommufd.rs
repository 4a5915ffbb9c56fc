//! The calls on device nodes and on contexts of IOMMUFD.

use sys::{Memory, Sys};
use uapi::Command;
use uapi::iommufd::{
    IOMMU_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_WRITEABLE, IommuHwInfo, IommuIoasMap, IommuIoasNoiommuGetPa,
    IommuIoasUnmap,
};
use uapi::vfio::VfioDeviceBindIommufd;

use super::Calls;
use crate::translate::{self, Translator};
use crate::{Iova, PhysAddr};

impl<S: Sys> Calls<S> {
    /// Ties a device to an IOMMUFD context: the device's id there. `iommufd` is the descriptor's number.
    pub(crate) fn bind(&self, device: &S::File, iommufd: i32) -> sys::Result<u32> {
        let mut argument = VfioDeviceBindIommufd { iommufd, ..VfioDeviceBindIommufd::new() };
        // SAFETY: without the token flag the kernel does not look at the one address in the argument.
        let call = || unsafe { self.sys.ioctl_typed(device, &mut argument) }.map(|_| argument.out_devid);
        let words = |id: &u32| format!("device {id}");
        self.trace.record(VfioDeviceBindIommufd::NAME, || self.sys.path_of(device), call, words)
    }

    /// Asks which IOMMU a bound device has; EOPNOTSUPP if none.
    pub(crate) fn hardware(&self, iommufd: &S::File, device: u32) -> sys::Result<u32> {
        let mut argument = IommuHwInfo { dev_id: device, ..IommuHwInfo::new() };
        // SAFETY: a data length of zero leaves the kernel no room to write to at the address in the argument.
        let call = || unsafe { self.sys.ioctl_typed(iommufd, &mut argument) }.map(|_| argument.out_data_type);
        let words = |kind: &u32| format!("IOMMU type {kind}");
        self.trace.record(IommuHwInfo::NAME, || self.sys.path_of(iommufd), call, words)
    }

    /// Maps memory for devices to read and write, at an address that the kernel chooses.
    pub(crate) fn ioas_map(&self, iommufd: &S::File, ioas: u32, memory: &Memory) -> sys::Result<Iova> {
        let mut argument = IommuIoasMap {
            flags: IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
            ioas_id: ioas,
            user_va: memory.start().as_ptr() as u64,
            length: memory.length() as u64,
            ..IommuIoasMap::new()
        };
        let call = || {
            // SAFETY: the address and the length are those of a live `Memory`, to which no Rust reference ever exists, and
            // whose bytes this crate treats as shared with a device. The kernel pins the pages: they outlive an unmap.
            unsafe { self.sys.ioctl_typed(iommufd, &mut argument) }.map(|_| Iova::new(argument.iova))
        };
        let words = |iova: &Iova| format!("{} bytes at IOVA {iova}", memory.length());
        self.trace.record(IommuIoasMap::NAME, || self.sys.path_of(iommufd), call, words)
    }

    /// Takes the memory at an IOVA back from the devices.
    pub(crate) fn ioas_unmap(
        &self,
        iommufd: &S::File,
        ioas: u32,
        iova: Iova,
        length: u64,
    ) -> sys::Result<u64> {
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

    /// The same, asked of a translator.
    pub(crate) fn translated(
        &self,
        translator: &Translator,
        ioas: u32,
        iova: Iova,
        length: u64,
    ) -> sys::Result<(PhysAddr, u64)> {
        let call = || translator.physical(ioas, iova, length);
        let words = |(address, run): &(PhysAddr, u64)| format!("{run} bytes at {address}");
        self.trace.record(IommuIoasNoiommuGetPa::NAME, || translate::NAME.into(), call, words)
    }
}
