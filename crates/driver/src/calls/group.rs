//! The calls on groups and containers of VFIO (kernel document `driver-api/vfio.rst`).

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use sys::{Memory, Sys};
use uapi::vfio::{
    VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_GROUP_GET_DEVICE_FD, VFIO_GROUP_SET_CONTAINER,
    VFIO_SET_IOMMU, VfioIommuType1DmaMap, VfioIommuType1DmaUnmap,
};
use uapi::{Command, Errno};

use super::Calls;
use crate::{Iova, PciAddress};

impl<S: Sys> Calls<S> {
    /// Puts a group into a container.
    pub(crate) fn set_container(&self, group: &S::File, container: &S::File) -> sys::Result<()> {
        let mut descriptor: i32 = container.as_fd().as_raw_fd();
        let argument = std::ptr::from_mut(&mut descriptor).cast();
        let command = ("VFIO_GROUP_SET_CONTAINER", VFIO_GROUP_SET_CONTAINER);
        // SAFETY: the command reads a descriptor at the address that it is given.
        unsafe { self.ioctl_raw(group, command, argument, |_| "joined".to_owned()) }.map(drop)
    }

    /// Chooses what backs a container: one of the `VFIO_*_IOMMU`.
    pub(crate) fn set_iommu(&self, container: &S::File, backend: u32) -> sys::Result<()> {
        let argument = std::ptr::without_provenance_mut(backend as usize);
        let words = |_: &u32| format!("backend {backend}");
        // SAFETY: the command takes a plain number.
        unsafe { self.ioctl_raw(container, ("VFIO_SET_IOMMU", VFIO_SET_IOMMU), argument, words) }.map(drop)
    }

    /// The device file of a device in a group.
    pub(crate) fn group_device(&self, group: &S::File, address: PciAddress) -> sys::Result<S::File> {
        const NAME: &str = "VFIO_GROUP_GET_DEVICE_FD";
        let Ok(name) = CString::new(address.to_string()) else {
            unreachable!("a PCI address is made of digits, colons and a point");
        };
        let argument = name.as_ptr().cast_mut().cast();
        let words = |fd: &u32| format!("descriptor {fd}");
        // SAFETY: the command reads a text that ends with a zero at the address that it is given.
        let fd = unsafe { self.ioctl_raw(group, (NAME, VFIO_GROUP_GET_DEVICE_FD), argument, words) }?;
        let path = PathBuf::from(format!("device file of {address}"));
        let fd = i32::try_from(fd).map_err(|_| sys::Error::new(NAME, path.display(), Errno::EBADF))?;
        // SAFETY: the call has just made this descriptor, and nobody else knows of it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        self.sys.adopt(fd, &path)
    }

    /// Maps memory for the devices of a container to read and write.
    pub(crate) fn dma_map(&self, container: &S::File, iova: Iova, memory: &Memory) -> sys::Result<()> {
        let mut argument = VfioIommuType1DmaMap {
            flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
            vaddr: memory.start().as_ptr() as u64,
            iova: iova.get(),
            size: memory.length() as u64,
            ..VfioIommuType1DmaMap::new()
        };
        // SAFETY: the address and the length are those of a live `Memory`, to which no Rust reference ever exists, and
        // whose bytes this crate reads and writes as shared with a device. The kernel pins the pages, so that they stay
        // with the device even if the process unmaps them.
        let call = || unsafe { self.sys.ioctl_typed(container, &mut argument) }.map(drop);
        let words = |(): &()| format!("{} bytes at IOVA {iova}", memory.length());
        self.trace.record(VfioIommuType1DmaMap::NAME, || self.sys.path_of(container), call, words)
    }

    /// Takes the memory at an IOVA back from the devices.
    pub(crate) fn dma_unmap(&self, container: &S::File, iova: Iova, length: u64) -> sys::Result<u64> {
        let mut argument =
            VfioIommuType1DmaUnmap { iova: iova.get(), size: length, ..VfioIommuType1DmaUnmap::new() };
        // SAFETY: without the flag for the dirty bitmap the argument holds no address of the process.
        let call = || unsafe { self.sys.ioctl_typed(container, &mut argument) }.map(|_| argument.size);
        let words = |size: &u64| format!("{size} bytes");
        self.trace.record(VfioIommuType1DmaUnmap::NAME, || self.sys.path_of(container), call, words)
    }
}
