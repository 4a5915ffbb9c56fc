//! The rules of dma-bufs, which take a kernel that exports BARs as such.

use std::io::SeekFrom;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use machine::LayoutKind;
use machine::kconfig::{Kconfig, Symbol, Tristate};
use subsystem::rules::{iommufd, vfio};
use sys::{Result, Suite, Sys};
use uapi::Command;
use uapi::iommufd::*;
use uapi::vfio::*;

use crate::machine_of;
use crate::rules::Broken;
use crate::vfio_rules::Device;

const PAGE: u32 = 4096;
const GET: u32 = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;

/// Each call breaks one rule, the others it keeps.
pub(crate) fn broken() -> Vec<Broken> {
    let with = [Symbol::PciP2pdma, Symbol::DmaSharedBuffer].map(|symbol| (symbol, Tristate::Y));
    let kconfig = Kconfig::FULL.with(&with).expect("Kconfig allows it");
    let (machine, target) = machine_of(LayoutKind::Scattered, kconfig);
    let edu = Device::new(&machine, &target.devices[0]);
    let ports = Device::new(&machine, &target.devices[3]);
    let export = |device: &Device, region: u32, ranges: &[u32]| {
        let count = ranges.len() as u32 / 4;
        let head = [8 + 16 + 16 * count, GET, region, 0, 0, count];
        device.ioctl(VFIO_DEVICE_FEATURE, &[&head, ranges].concat())
    };
    let file = |fd: Result<u32>| {
        // SAFETY: the descriptor was made for this caller and belongs to nobody else.
        unsafe { OwnedFd::from_raw_fd(fd.expect("it is exported").cast_signed()) }
    };
    let one = file(export(&edu, 0, &[0, 0, PAGE, 0]));
    let two = file(export(&edu, 0, &[0, 0, PAGE, 0, 2 * PAGE, 0, PAGE, 0]));
    let adopted =
        machine.adopt(one.try_clone().expect("a descriptor"), Path::new("a dma-buf")).expect("ours");
    assert_eq!(machine.seek(&adopted, SeekFrom::End(0)).expect("its length"), u64::from(PAGE));
    // SAFETY: no command is known.
    let command = unsafe { machine.ioctl_raw(one.as_fd(), VFIO_DEVICE_RESET, std::ptr::null_mut()) };
    let map = |fd: &OwnedFd, length: u64, iova: u64| {
        let flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE;
        let fd = fd.as_raw_fd();
        let mut map = IommuIoasMapFile { flags, ioas_id: edu.ioas, fd, length, iova, ..Command::new() };
        // SAFETY: no memory of this process is mapped.
        unsafe { machine.ioctl_typed(&edu.iommufd, &mut map) }
    };
    edu.ioctl(VFIO_DEVICE_ATTACH_IOMMUFD_PT, &[12, 0, edu.ioas]).expect("the device can be attached");
    let (bounds, ranges) = (map(&one, 8192, 4096), map(&two, 4096, 4096));
    map(&one, 4096, 4096).expect("it can be mapped");
    edu.ioctl(VFIO_DEVICE_FEATURE, &[8, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY])
        .expect("low power can be entered");
    let mut physical =
        IommuIoasNoiommuGetPa { ioas_id: edu.ioas, iova: 4096, length: 4096, ..Command::new() };
    vec![
        (vfio::DMA_BUF_FIELDS, export(&edu, 0, &[])),
        (vfio::DMA_BUF_REGION, export(&edu, 7, &[0, 0, PAGE, 0])),
        (vfio::DMA_BUF_ALIGNMENT, export(&edu, 0, &[0x800, 0, PAGE, 0])),
        (vfio::DMA_BUF_IO, export(&ports, 2, &[0, 0, PAGE, 0])),
        (vfio::DMA_BUF_BOUNDS, export(&edu, 0, &[0, 1, PAGE, 0])),
        (vfio::DMA_BUF_IOCTL, command),
        (vfio::DMA_BUF_POSITION, machine.pread(&adopted, &mut [0; 4], 0).map(|_| 0)),
        (vfio::DMA_BUF_ACCESS, machine.read_stream(&adopted, &mut [0; 4]).map(|_| 0)),
        (vfio::DMA_BUF_SEEK, machine.seek(&adopted, SeekFrom::End(1)).map(|_| 0)),
        (iommufd::MAP_FILE_BOUNDS, bounds),
        (iommufd::MAP_FILE_RANGES, ranges),
        (iommufd::MAP_FILE_REVOKED, map(&one, 4096, 8192)),
        (iommufd::GET_PA_REVOKED, machine.ioctl(&edu.iommufd, &mut physical)),
    ]
}
