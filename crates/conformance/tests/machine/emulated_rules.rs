//! The rules of emulated devices, which the suite has none of.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use machine::{File, Machine, MachineSpec};
use subsystem::rules::{iommufd, vfio};
use sys::{Access, Mapping, MemoryOptions, PageSize, Result, Sys};
use uapi::Command;
use uapi::iommufd::*;
use uapi::vfio::*;

use crate::rules::Broken;

const PAGE: u64 = 4096;

/// Registers of a copier, and a command.
const SOURCE: u64 = 0x08;
const LENGTH: u64 = 0x18;
const COMMAND: u64 = 0x1c;
const PIN: u32 = 2;

/// Each call breaks one rule, the others it keeps.
pub(crate) fn broken() -> Vec<Broken> {
    let text = "[[mediated]]\nuuid = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001'\nmodel = 'copier'";
    let machine = Machine::from_spec(text.parse::<MachineSpec>().expect("a machine file"));
    let machine = machine.expect("the machine can be built");
    let open = |path: &str| machine.open(Path::new(path), Access::ReadWrite).expect("a file to open");
    let (device, iommufd) = (open("/dev/vfio/devices/vfio0"), open("/dev/iommu"));
    let mut bind = VfioDeviceBindIommufd { iommufd: iommufd.as_fd().as_raw_fd(), ..Command::new() };
    // SAFETY: without a token the argument holds no address.
    unsafe { machine.ioctl_typed(&device, &mut bind) }.expect("the device can be bound");
    let mut ioas = IommuIoasAlloc::new();
    machine.ioctl(&iommufd, &mut ioas).expect("an IOAS");
    let pt_id = ioas.out_ioas_id;
    let flags = VFIO_DEVICE_ATTACH_PASID;
    let mut attach = VfioDeviceAttachIommufdPt { flags, pt_id, ..Command::new() };
    let mut detach = VfioDeviceDetachIommufdPt { flags: VFIO_DEVICE_DETACH_PASID, ..Command::new() };
    let mut irqs = [20, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, 0];
    // SAFETY: the argument is as long as it says, and holds no address.
    let irqs = unsafe { machine.ioctl_raw(device.as_fd(), VFIO_DEVICE_SET_IRQS, irqs.as_mut_ptr().cast()) };
    let mut broken = vec![
        (vfio::ATTACH_NO_PASIDS, machine.ioctl(&device, &mut attach)),
        (vfio::DETACH_NO_PASIDS, machine.ioctl(&device, &mut detach)),
        (vfio::SET_IRQS_EMULATED, irqs),
        (vfio::MAP_EMULATED, machine.map_region(&device, Mapping::registers(0, 4096)).map(|_| 0)),
    ];
    attach.flags = 0;
    machine.ioctl(&device, &mut attach).expect("it can be attached");
    broken.push((iommufd::CUT_PINNED, cut_pinned(&machine, (&device, &iommufd), pt_id)));
    broken
}

/// Unmaps one of two pages as type1 in its first version allows, of which the other one is pinned.
fn cut_pinned(machine: &Machine, (device, iommufd): (&File, &File), ioas_id: u32) -> Result<u32> {
    let mut compat = IommuVfioIoas { ioas_id, op: IOMMU_VFIO_IOAS_SET as u16, ..Command::new() };
    machine.ioctl(iommufd, &mut compat).expect("the IOAS for container ioctls");
    // SAFETY: the argument is a number.
    unsafe { machine.ioctl_raw(iommufd.as_fd(), VFIO_SET_IOMMU, std::ptr::without_provenance_mut(1)) }
        .expect("version 1");
    let options = MemoryOptions { length: 2 * PAGE as usize, page_size: PageSize::Base, highest: u64::MAX };
    let memory = machine.allocate(&options).expect("two pages");
    let mut map = VfioIommuType1DmaMap {
        flags: VFIO_DMA_MAP_FLAG_READ,
        vaddr: memory.start().as_ptr() as u64,
        iova: 0x10000,
        size: 2 * PAGE,
        ..Command::new()
    };
    // SAFETY: the memory is not used by the program while a device has it.
    unsafe { machine.ioctl_typed(iommufd, &mut map) }.expect("it can be mapped");
    for (register, value) in [(SOURCE, 0x10000), (LENGTH, PAGE as u32), (COMMAND, PIN)] {
        machine.pwrite(device, &value.to_le_bytes(), register).expect("a register");
    }
    let mut unmap = VfioIommuType1DmaUnmap { iova: 0x11000, size: PAGE, ..Command::new() };
    // SAFETY: without a bitmap the argument holds no address.
    unsafe { machine.ioctl_typed(iommufd, &mut unmap) }
}
