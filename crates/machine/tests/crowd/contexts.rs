//! Who works with the context that everybody shares.

use std::os::fd::AsRawFd;

use machine::File;
use sys::{Suite, Sys};
use uapi::iommufd::{IommuDestroy, IommuIoasAlloc};
use uapi::vfio::VfioDeviceDetachIommufdPt;
use uapi::{Command, Errno};

use crate::buffer::{Buffer, PAGE, Source};
use crate::calls::unless;
use crate::common::{bind_to, open};
use crate::edu::{Edu, Way};
use crate::random::Random;
use crate::stage::{CARELESS, CONTESTED, DRIVEN, Stage};
use crate::watch::Step;

/// A device that is taken away cannot be opened.
const GONE: [Errno; 3] = [Errno::ENOENT, Errno::ENODEV, Errno::ENXIO];

/// IOVAs of an actor's own.
fn iovas(actor: u64) -> u64 {
    (0x10 + actor) << 32
}

/// Opens a device by its node and binds it to the context; not while it is away, or `busy`.
fn take(stage: &Stage, address: &str, busy: &[Errno], step: &Step) -> Option<File> {
    step.now("opening a device");
    let device = unless(&GONE, open(&stage.machine, &stage.node(address)?))?;
    step.now("binding it to the context");
    unless(busy, bind_to(&stage.machine, &device, stage.context_fd())).map(|_| device)
}

/// A driver that behaves: its device is told of memory that it may reach, and of none other.
pub(crate) fn drive(stage: &Stage, actor: u64, step: &Step, random: &mut Random) {
    let Some(device) = take(stage, DRIVEN[actor as usize], &[], step) else { return };
    let (buffer, iova) = (Buffer::new(stage, random), iovas(actor));
    let mut space = random.pick(&stage.spaces);
    step.now("attaching");
    stage.attach(&device, space);
    step.now("mapping");
    stage.map(space, iova, buffer.source(), 2).unwrap();
    let edu = Edu::new(&stage.machine, &device);
    edu.set_bus_master(true);
    for _ in 0..random.below(8) {
        let pattern = [random.next() as u8; PAGE as usize];
        let [from, to] = [0, 1].map(|page| stage.device_address(space, iova + page * PAGE));
        buffer.write(0, &pattern);
        edu.start(Way::FromMemory, from);
        edu.finish(step);
        edu.start(Way::ToMemory, to);
        if random.one_in(2) {
            space = move_on(stage, (space, iova), &device, step, random);
        }
        edu.finish(step);
        assert_eq!(buffer.read(1), pattern);
    }
    edu.set_bus_master(false);
    step.now("unmapping");
    stage.unmap(space, iova, 2);
    step.now("closing");
}

/// The device gets another IOAS that has the same memory at the same IOVA, while it works.
fn move_on(stage: &Stage, (space, iova): (u32, u64), device: &File, step: &Step, random: &mut Random) -> u32 {
    let other = random.pick(&stage.spaces);
    if other == space {
        return space;
    }
    step.now("copying a mapping");
    stage.copy(space, other, iova, 2).unwrap();
    step.now("replacing an IOAS");
    stage.attach(device, other);
    step.now("unmapping what was copied");
    stage.unmap(space, iova, 2);
    other
}

/// Maps, copies, asks and unmaps, in the IOASes of the drivers.
pub(crate) fn remap(stage: &Stage, actor: u64, step: &Step, random: &mut Random) {
    let buffer = Buffer::new(stage, random);
    // Some of it is memory that others have pinned too.
    let source = match random.below(3) {
        0 => Source::File { fd: stage.file().as_raw_fd(), start: random.below(3) * PAGE },
        _ => buffer.source(),
    };
    let (from, to, iova) = (random.pick(&stage.spaces), random.pick(&stage.spaces), iovas(actor));
    step.now("mapping");
    stage.map(from, iova, source, 2).unwrap();
    if from != to {
        step.now("copying a mapping");
        stage.copy(from, to, iova, 2).unwrap();
    }
    step.now("asking for a physical address");
    // Without a device at this moment, or behind an IOMMU, there is no page table to ask.
    if let Some(physical) =
        unless(&[Errno::EOPNOTSUPP, Errno::ENODEV, Errno::EINVAL], stage.physical(from, iova))
        && let Source::Memory { address } = source
    {
        assert_eq!(stage.machine.physical_address(address as usize).unwrap(), physical);
    }
    if from != to {
        step.now("unmapping the first");
        stage.unmap(from, iova, 2);
    }
    step.now("making an IOAS");
    let mut ioas = IommuIoasAlloc::new();
    stage.machine.ioctl(stage.context(), &mut ioas).unwrap();
    stage.copy(to, ioas.out_ioas_id, iova, 2).unwrap();
    step.now("unmapping");
    stage.unmap(to, iova, 2);
    step.now("destroying an IOAS");
    let mut destroy = IommuDestroy { id: ioas.out_ioas_id, ..Command::new() };
    stage.machine.ioctl(stage.context(), &mut destroy).unwrap();
}

/// A device that is attached here and there, and does nothing.
pub(crate) fn wander(stage: &Stage, step: &Step, random: &mut Random) {
    // Its group may be open.
    let Some(device) = take(stage, CONTESTED, &[Errno::EBUSY], step) else { return };
    for _ in 0..random.below(4) {
        step.now("attaching");
        stage.attach(&device, random.pick(&stage.spaces));
        if random.one_in(2) {
            step.now("detaching");
            stage.machine.ioctl(&device, &mut VfioDeviceDetachIommufdPt::new()).unwrap();
        }
    }
    step.now("closing");
}

/// A driver that takes memory away while its device is at it, has it access memory that is not its own, and forgets to stop it.
pub(crate) fn stray(stage: &Stage, actor: u64, step: &Step, random: &mut Random) {
    let Some(device) = take(stage, CARELESS, &[], step) else { return };
    let (buffer, iova) = (Buffer::new(stage, random), iovas(actor));
    let space = random.pick(&stage.spaces);
    step.now("mapping");
    stage.map(space, iova, buffer.source(), 2).unwrap();
    if !random.one_in(4) {
        step.now("attaching");
        stage.attach(&device, space);
    }
    let edu = Edu::new(&stage.machine, &device);
    edu.set_bus_master(!random.one_in(4));
    let known = unless(&[Errno::EOPNOTSUPP, Errno::ENODEV, Errno::EINVAL], stage.physical(space, iova));
    for _ in 0..random.below(8) {
        let address = match random.below(4) {
            0 => random.next(),
            1 => iova + 2 * PAGE,
            _ => known.unwrap_or(iova),
        };
        edu.start(random.pick(&[Way::FromMemory, Way::ToMemory]), address);
        if random.one_in(4) {
            edu.finish(step);
        }
    }
    if random.one_in(4) {
        step.now("closing first");
        drop(edu);
        drop(device);
    }
    step.now("unmapping");
    stage.unmap(space, iova, 2);
    step.now("giving memory back");
}
