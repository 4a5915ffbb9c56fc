//! Who works with the context that everybody shares.

use std::os::fd::{AsFd, AsRawFd};

use machine::File;
use sys::{Suite, Sys};
use uapi::vfio::{VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VfioDeviceDetachIommufdPt};
use uapi::{Command, Errno};

use crate::buffer::{Buffer, PAGE, Source};
use crate::calls::{Ioas, unless};
use crate::common::{bind_to, open};
use crate::edu::{Edu, Way};
use crate::random::Random;
use crate::stage::{CARELESS, CONTESTED, DRIVEN, Stage};
use crate::watch::Step;

/// A device that is taken away cannot be opened.
const GONE: [Errno; 3] = [Errno::ENOENT, Errno::ENODEV, Errno::ENXIO];

/// Without a device at the moment, or behind an IOMMU, there is no page table that could tell physical addresses.
const UNTOLD: [Errno; 3] = [Errno::EOPNOTSUPP, Errno::ENODEV, Errno::EINVAL];

/// IOVAs of an actor's own.
fn iovas(actor: u64) -> u64 {
    (0x10 + actor) << 32
}

/// Opens a device by its node and binds it to a context; not while it is away, or `busy`.
fn take(stage: &Stage, address: &str, context: &File, busy: &[Errno], step: &Step) -> Option<File> {
    step.now("opening a device");
    let device = unless(&GONE, open(&stage.machine, &stage.node(address)?))?;
    step.now("binding it to the context");
    unless(busy, bind_to(&stage.machine, &device, context.as_fd().as_raw_fd())).map(|_| device)
}

/// A driver that behaves: its device is told of memory that it may reach, and of none other.
pub(crate) fn drive(stage: &Stage, actor: u64, step: &Step, random: &mut Random) {
    let Some(device) = take(stage, DRIVEN[actor as usize], stage.context(), &[], step) else { return };
    let (buffer, iova) = (Buffer::new(stage, random), iovas(actor));
    let mut space = stage.space(random);
    step.now("attaching");
    space.attach(&device);
    step.now("mapping");
    space.map(iova, buffer.source());
    let mut edu = Edu::new(&stage.machine, &device);
    edu.set_bus_master(true);
    if let Some(index) = random.pick(&[None, Some(VFIO_PCI_INTX_IRQ_INDEX), Some(VFIO_PCI_MSI_IRQ_INDEX)]) {
        step.now("setting up an interrupt");
        edu.listen(index);
    }
    for _ in 0..random.below(8) {
        let pattern = [random.next() as u8; PAGE as usize];
        let [from, to] = [0, 1].map(|page| stage.device_address(space, iova + page * PAGE));
        buffer.write(0, &pattern);
        edu.start(Way::FromMemory, from);
        edu.finish(step);
        edu.start(Way::ToMemory, to);
        if random.one_in(2) {
            space = move_on((space, stage.space(random)), iova, &device, step);
        }
        edu.finish(step);
        stage.check_page(&buffer, 1, &pattern);
    }
    edu.set_bus_master(false);
    step.now("unmapping");
    space.unmap(iova);
    step.now("closing");
}

/// The device gets another IOAS that has the same memory at the same IOVA, while it works.
fn move_on<'a>((space, other): (Ioas<'a>, Ioas<'a>), iova: u64, device: &File, step: &Step) -> Ioas<'a> {
    if other.id == space.id {
        return space;
    }
    step.now("copying a mapping");
    space.copy_to(other, iova);
    step.now("replacing an IOAS");
    other.attach(device);
    step.now("unmapping what was copied");
    space.unmap(iova);
    other
}

/// Maps, copies, asks and unmaps, in the IOASes of the drivers.
pub(crate) fn remap(stage: &Stage, actor: u64, step: &Step, random: &mut Random) {
    let (buffer, iova) = (Buffer::new(stage, random), iovas(actor));
    let source = if random.one_in(3) { stage.shared_pages(random) } else { buffer.source() };
    let (from, to) = (stage.space(random), stage.space(random));
    step.now("mapping");
    from.map(iova, source);
    if from.id != to.id {
        step.now("copying a mapping");
        from.copy_to(to, iova);
    }
    step.now("asking for a physical address");
    if let Some(physical) = unless(&UNTOLD, from.physical(iova))
        && let Source::Memory { address } = source
    {
        assert_eq!(stage.machine.physical_address(address as usize).unwrap(), physical);
    }
    if from.id != to.id {
        step.now("unmapping the first");
        from.unmap(iova);
    }
    step.now("making an IOAS");
    let third = Ioas::new(&stage.machine, stage.context());
    to.copy_to(third, iova);
    step.now("unmapping");
    to.unmap(iova);
    step.now("destroying an IOAS");
    third.destroy();
}

/// A device that is attached here and there, and does nothing.
pub(crate) fn wander(stage: &Stage, step: &Step, random: &mut Random) {
    // Its group may be open.
    let Some(device) = take(stage, CONTESTED, stage.context(), &[Errno::EBUSY], step) else { return };
    for _ in 0..random.below(4) {
        step.now("attaching");
        stage.space(random).attach(&device);
        if random.one_in(2) {
            step.now("detaching");
            stage.machine.ioctl(&device, &mut VfioDeviceDetachIommufdPt::new()).unwrap();
        }
    }
    step.now("closing");
}

/// A driver that takes memory away while its device is at it, has it access memory that is not its own, and forgets to stop it.
/// It has a context of its own: without an IOMMU, its device could get at all memory of the others.
pub(crate) fn stray(stage: &Stage, actor: u64, step: &Step, random: &mut Random) {
    step.now("opening a context");
    let context = open(&stage.machine, "/dev/iommu").unwrap();
    let Some(device) = take(stage, CARELESS, &context, &[], step) else { return };
    let (buffer, iova) = (Buffer::new(stage, random), iovas(actor));
    let source = if random.one_in(3) { stage.shared_pages(random) } else { buffer.source() };
    let space = Ioas::new(&stage.machine, &context);
    step.now("mapping");
    space.map(iova, source);
    if !random.one_in(4) {
        step.now("attaching");
        space.attach(&device);
    }
    let edu = Edu::new(&stage.machine, &device);
    edu.set_bus_master(!random.one_in(4));
    let known = unless(&UNTOLD, space.physical(iova));
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
        return space.unmap(iova);
    }
    step.now("unmapping");
    space.unmap(iova);
    // What is under way is over, and what comes later is refused.
    let pattern = [random.next() as u8; PAGE as usize];
    (0..2).for_each(|page| buffer.write(page, &pattern));
    edu.finish(step);
    edu.start(Way::ToMemory, known.unwrap_or(iova));
    edu.finish(step);
    (0..2).for_each(|page| stage.check_page(&buffer, page, &pattern));
    step.now("giving memory back");
}
