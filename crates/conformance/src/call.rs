//! Calls with arguments that no driver would pass: wrong sizes, bad addresses, unknown numbers.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use sys::{Result, Suite};
use uapi::Command;
use uapi::iommufd::{IOMMU_FAULT_QUEUE_ALLOC, IommuFaultAlloc};
use uapi::vfio::*;
use zerocopy::{FromBytes, IntoBytes};

/// A number that no descriptor has: it lies above every limit.
pub(crate) const CLOSED: i32 = i32::MAX;

/// `ioctl(2)` with bytes of the suite's own as the argument.
///
/// Rows differ in what they put into the bytes, and the systems under test check the bytes: that is the point of the
/// suite. What a correct system may do with them is bounded by two habits that every case keeps: addresses inside an
/// argument point to memory that the fixture holds until its files are closed, or to nothing that is mapped, and a size
/// inside an argument is no larger than the argument (larger ones are put at the end of a page, with nothing behind it).
pub(crate) fn ioctl_bytes<S: Suite>(sys: &S, file: &S::File, command: u32, bytes: &mut [u8]) -> Result<u32> {
    ioctl_at(sys, file, command, bytes.as_mut_ptr() as usize)
}

/// The same with the bytes of a structure.
pub(crate) fn ioctl_value<S: Suite, T: IntoBytes + FromBytes>(
    sys: &S,
    file: &S::File,
    command: u32,
    value: &mut T,
) -> Result<u32> {
    ioctl_bytes(sys, file, command, value.as_mut_bytes())
}

/// The same with any address, mapped or not, or a plain number.
pub(crate) fn ioctl_at<S: Suite>(sys: &S, file: &S::File, command: u32, argument: usize) -> Result<u32> {
    // SAFETY: by the two habits of `ioctl_bytes` the call reaches only memory that the suite owns and that no reference
    // is held to; an address that is not mapped is EFAULT.
    unsafe { sys.ioctl_raw(file.as_fd(), command, argument as *mut c_void) }
}

/// Makes a fault queue (`IOMMU_FAULT_QUEUE_ALLOC`); its id and its file.
pub(crate) fn fault_queue<S: Suite>(sys: &S, iommufd: &S::File) -> Result<(u32, S::File)> {
    let mut alloc = IommuFaultAlloc::new();
    ioctl_value(sys, iommufd, IOMMU_FAULT_QUEUE_ALLOC, &mut alloc)?;
    // SAFETY: the call answered with a descriptor that it has opened for its caller, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(alloc.out_fault_fd.cast_signed()) };
    Ok((alloc.out_fault_id, sys.adopt(fd, Path::new("fault queue"))?))
}

/// Exports the first page of a region as a dma-buf (`VFIO_DEVICE_FEATURE_DMA_BUF`).
pub(crate) fn export_dma_buf<S: Suite>(sys: &S, device: &S::File, region_index: u32) -> Result<OwnedFd> {
    export_dma_buf_with(sys, device, region_index, |_, _| ())
}

/// The same with one change.
pub(crate) fn export_dma_buf_with<S: Suite>(
    sys: &S,
    device: &S::File,
    region_index: u32,
    change: impl FnOnce(&mut VfioDeviceFeatureDmaBuf, &mut Vec<VfioRegionDmaRange>),
) -> Result<OwnedFd> {
    let open_flags = OFlags::RDWR.union(OFlags::CLOEXEC).bits();
    let mut dma_buf = VfioDeviceFeatureDmaBuf { region_index, open_flags, flags: 0, nr_ranges: 1 };
    let mut ranges = vec![VfioRegionDmaRange { offset: 0, length: 4096 }];
    change(&mut dma_buf, &mut ranges);
    let data = [dma_buf.as_bytes(), ranges.as_bytes()].concat();
    let feature = VfioDeviceFeature {
        argsz: (size_of::<VfioDeviceFeature>() + data.len()) as u32,
        flags: VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF,
    };
    let fd = ioctl_bytes(sys, device, VFIO_DEVICE_FEATURE, &mut [feature.as_bytes(), &data].concat())?;
    // SAFETY: the call answered with a descriptor that it has opened for its caller, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Makes the first page of a memfd that cannot shrink a dma-buf (`UDMABUF_CREATE` on `/dev/udmabuf`, `linux/udmabuf.h`).
pub(crate) fn udmabuf<S: Suite>(sys: &S, device: &S::File, memfd: &OwnedFd) -> Result<OwnedFd> {
    const UDMABUF_CREATE: u32 = 0x4018_7542;
    let [memfd, flags] = [memfd.as_raw_fd(), 0];
    let [offset, size] = [0u64, 4096];
    let mut create = [[memfd, flags].as_bytes(), [offset, size].as_bytes()].concat();
    let fd = ioctl_bytes(sys, device, UDMABUF_CREATE, &mut create)?;
    // SAFETY: the call answered with a descriptor that it has opened for its caller, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) })
}
