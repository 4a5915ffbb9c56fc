//! Who works through a group and a container of its own.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use machine::File;
use sys::{PageSize, Result, Sys};
use uapi::vfio::*;
use uapi::{Command, Errno};

use crate::buffer::{Buffer, PAGE, Source};
use crate::calls::unless;
use crate::common::open;
use crate::edu::{Edu, Way};
use crate::random::Random;
use crate::stage::{CONTESTED, Stage};
use crate::watch::Step;

/// A group that is taken away, or whose device was opened by its node, is not to be had.
const AWAY: [Errno; 4] = [Errno::ENOENT, Errno::ENODEV, Errno::ENXIO, Errno::EBUSY];
/// When it is taken away it leaves its container.
const LEFT: [Errno; 4] = [Errno::ENOENT, Errno::ENODEV, Errno::EBUSY, Errno::EINVAL];
const IOVA: u64 = 0x30_0000_0000;

/// A driver that behaves, and moves a page through its device.
pub(crate) fn drive(stage: &Stage, step: &Step, random: &mut Random) {
    let machine = &stage.machine;
    step.now("opening a group");
    let Some(group) = stage.group(CONTESTED).and_then(|node| unless(&AWAY, open(machine, &node))) else {
        return;
    };
    let container = open(machine, "/dev/vfio/vfio").unwrap();
    step.now("joining a container");
    let mut descriptor = container.as_fd().as_raw_fd();
    // SAFETY: the command reads a descriptor at the address.
    let joined =
        unsafe { machine.ioctl_raw(group.as_fd(), VFIO_GROUP_SET_CONTAINER, (&raw mut descriptor).cast()) };
    if unless(&AWAY, joined).is_none() {
        return;
    }
    step.now("choosing an IOMMU");
    let kind = if stage.iommu { VFIO_TYPE1v2_IOMMU } else { VFIO_NOIOMMU_IOMMU };
    // SAFETY: the command takes a number.
    let chosen = unsafe {
        machine.ioctl_raw(container.as_fd(), VFIO_SET_IOMMU, std::ptr::without_provenance_mut(kind as usize))
    };
    if unless(&LEFT, chosen).is_none() {
        return;
    }
    step.now("getting a device of a group");
    let Some(device) = unless(&LEFT, device(stage, &group)) else { return };
    move_a_page(stage, &container, &device, step, random);
    step.now("closing");
    match random.below(3) {
        0 => drop((device, group, container)),
        1 => drop((container, group, device)),
        _ => drop((group, device, container)),
    }
}

fn device(stage: &Stage, group: &File) -> Result<File> {
    let name = CString::new(CONTESTED).unwrap();
    // SAFETY: the command reads a text that ends with a zero at the address.
    let fd = unsafe {
        stage.machine.ioctl_raw(group.as_fd(), VFIO_GROUP_GET_DEVICE_FD, name.as_ptr().cast_mut().cast())
    }?;
    // SAFETY: the call has made this descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) };
    stage.machine.adopt(fd, Path::new(CONTESTED))
}

fn move_a_page(stage: &Stage, container: &File, device: &File, step: &Step, random: &mut Random) {
    let machine = &stage.machine;
    let buffer = Buffer::ram(stage, PageSize::Huge2M);
    let Source::Memory { address } = buffer.source() else { unreachable!("it is RAM") };
    let mut start = IOVA;
    if stage.iommu {
        step.now("mapping in a container");
        let mut map = VfioIommuType1DmaMap {
            flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
            vaddr: address,
            iova: IOVA,
            size: 2 * PAGE,
            ..Command::new()
        };
        // SAFETY: the memory is reached as memory that devices share, through raw pointers.
        unsafe { machine.ioctl_typed(container, &mut map) }.unwrap();
    } else {
        start = pagemap(stage, address);
    }
    let edu = Edu::new(machine, device);
    edu.set_bus_master(true);
    for _ in 0..random.below(4) {
        let pattern = [random.next() as u8; PAGE as usize];
        buffer.write(0, &pattern);
        edu.start(Way::FromMemory, start);
        edu.finish(step);
        edu.start(Way::ToMemory, start + PAGE);
        edu.finish(step);
        stage.check_page(&buffer, 1, &pattern);
    }
    edu.set_bus_master(false);
    if stage.iommu && random.one_in(2) {
        step.now("unmapping in a container");
        let mut unmap = VfioIommuType1DmaUnmap { iova: IOVA, size: 2 * PAGE, ..Command::new() };
        // SAFETY: without its flag there is no bitmap.
        unsafe { machine.ioctl_typed(container, &mut unmap) }.unwrap();
        assert_eq!(unmap.size, 2 * PAGE);
    }
}

/// The physical address of two pages in a huge one: asked for each, for a device may reach only those.
fn pagemap(stage: &Stage, address: u64) -> u64 {
    const FRAME: u64 = (1 << 55) - 1;
    let pagemap = stage.machine.open(Path::new("/proc/self/pagemap"), sys::Access::Read).unwrap();
    let mut entries = [0; 16];
    assert_eq!(stage.machine.pread(&pagemap, &mut entries, address / PAGE * 8).unwrap(), 16);
    let [first, second] = [0, 8].map(|at| {
        let entry = entries[at..at + 8].try_into().expect("eight bytes");
        (u64::from_ne_bytes(entry) & FRAME) * PAGE
    });
    assert_eq!(first + PAGE, second);
    first
}
