//! What drivers of emulated devices reach of what is mapped in an IOAS: pages that they pin, and copies.

use subsystem::{Function, Transfer};
use uapi::Command;
use uapi::iommufd::*;

use crate::client::assert_refused;
use crate::dma_buf::{export, exporting};
use crate::emulated::{Attached, BUFFER, PAGE, READ, READ_WRITE, one, pinned, take_unmapped};
use crate::support::function::TestFunction;
use crate::support::host::Descriptor;

#[test]
fn its_driver_pins_pages_of_an_ioas() {
    let (vfio, function) = one();
    let attached = Attached::new(&vfio, function);
    attached.map(READ_WRITE, 0, 0x10000, 4).unwrap();
    attached.map(READ, 8, 0x14000, 2).unwrap();
    let pin = |iova, pages, write| vfio.pin_pages(function, iova, pages, write);
    assert_refused!(pin(0x10000, 0, false), EINVAL, "access.length");
    assert_refused!(pin(u64::MAX - 4095, 2, false), EOVERFLOW, "access.wraps");
    assert_refused!(pin(0, 1 << 60, false), EOVERFLOW, "access.wraps");
    assert_refused!(pin(0xf000, 2, false), ENOENT, "access.unmapped");
    assert_refused!(pin(0x15000, 2, false), ENOENT, "access.unmapped");
    assert_refused!(pin(0x13000, 2, true), EPERM, "access.rights");
    assert_eq!(pinned(&vfio), 0, "what was refused pins nothing");
    pin(0x13000, 2, false).unwrap();
    pin(0x13000, 1, true).unwrap();
    vfio.host().emulated(function, |device| {
        let pages: Vec<_> = device.pages.iter().map(|(iova, pages)| (*iova, pages.clone())).collect();
        let [third, eighth] = [3, 8].map(|page| attached.physical(page));
        assert_eq!(pages, [(0x13000, vec![third, third]), (0x14000, vec![eighth])]);
    });
    assert_eq!(pinned(&vfio), 2, "a page is pinned once");
    vfio.unpin_pages(function, 0x13000, 1);
    assert_eq!(pinned(&vfio), 2);
    vfio.unpin_pages(function, 0x13000, 1);
    vfio.unpin_pages(function, 0x14000, 1);
    assert_eq!(pinned(&vfio), 2, "what was pinned with one call is given back with one");
    vfio.unpin_pages(function, 0x13000, 2);
    assert_eq!(pinned(&vfio), 0);
    attached.client.detach(attached.device).unwrap();
    assert_refused!(pin(0x10000, 1, false), ENOENT, "access.detached");
    vfio.release(attached.device);
    assert_refused!(pin(0x10000, 1, false), EINVAL, "software-dma.closed");
    assert_refused!(vfio.transfer(function, 0, Transfer::Write(&[0])), EINVAL, "software-dma.closed");
    assert_refused!(vfio.pin_pages(Function(0), 0, 1, false), EINVAL, "software-dma.closed");
}

#[test]
fn pinned_pages_are_charged_once() {
    let (vfio, function) = one();
    let other = vfio.host().add_function(TestFunction::express());
    vfio.probe(other).unwrap();
    let mut attached = Attached::new(&vfio, function);
    attached.client.caller.caps.ipc_lock = false;
    vfio.host().ram(|ram| ram.process(attached.client.caller.task).limit = Some(4));
    attached.map(READ_WRITE, 0, 0x10000, 8).unwrap();
    assert_refused!(vfio.pin_pages(function, 0x10000, 5, false), ENOMEM, "pin.limit");
    vfio.pin_pages(function, 0x12000, 3, false).unwrap();
    vfio.pin_pages(function, 0x13000, 3, true).unwrap();
    let charged = || vfio.host().ram(|ram| ram.process(attached.client.caller.task).user);
    assert_eq!((charged(), pinned(&vfio)), (4, 4));
    // A page table has all eight pages pinned, and keeps those that the driver gives back.
    vfio.host().ram(|ram| ram.process(attached.client.caller.task).limit = None);
    let device = attached.client.open(other.0);
    let fd = attached.client.caller.install(Descriptor::Ours(attached.iommufd));
    attached.client.bind(device, fd).unwrap();
    attached.client.attach(device, attached.ioas).unwrap();
    assert_eq!((charged(), pinned(&vfio)), (8, 8));
    vfio.unpin_pages(function, 0x12000, 3);
    assert_eq!((charged(), pinned(&vfio)), (8, 8));
    attached.client.detach(device).unwrap();
    assert_eq!((charged(), pinned(&vfio)), (3, 3));
    vfio.unpin_pages(function, 0x13000, 3);
    assert_eq!((charged(), pinned(&vfio)), (0, 0));
}

#[test]
fn an_unmap_takes_back_what_is_pinned() {
    let (vfio, function) = one();
    let second = vfio.host().add_emulated();
    vfio.register_emulated(second).unwrap();
    let attached = Attached::new(&vfio, function);
    let device = attached.client.open(second.0);
    let fd = attached.client.caller.install(Descriptor::Ours(attached.iommufd));
    attached.client.bind(device, fd).unwrap();
    attached.client.attach(device, attached.ioas).unwrap();
    for area in 0..3 {
        attached.map(READ_WRITE, 4 * area, 0x10000 + 0x4000 * area, 4).unwrap();
    }
    vfio.pin_pages(function, 0x13000, 2, true).unwrap();
    vfio.pin_pages(function, 0x18000, 1, true).unwrap();
    vfio.pin_pages(second, 0x15000, 1, true).unwrap();
    assert_refused!(attached.unmap(0x10000, 0x1000), ENOENT, "unmap.partial");
    assert_eq!((take_unmapped(&vfio, function), pinned(&vfio)), (vec![], 4), "what is refused asks nobody");
    // The first area: the driver loses all of what it pinned with the one call.
    assert_eq!(attached.unmap(0x10000, 0x4000), Ok(0x4000));
    assert_eq!(take_unmapped(&vfio, function), [(0x10000, 0x13fff)]);
    assert_eq!(take_unmapped(&vfio, second), [(0x10000, 0x13fff)], "every driver is asked");
    assert_eq!(pinned(&vfio), 2);
    vfio.unpin_pages(function, 0x13000, 2);
    assert_eq!(pinned(&vfio), 2, "what was taken back is not given back as well");
    assert_eq!(attached.unmap(0, u64::MAX), Ok(0x8000));
    assert_eq!(take_unmapped(&vfio, second), [(0x14000, 0x17fff), (0x18000, 0x1bfff)]);
    assert_eq!(pinned(&vfio), 0);
    attached.map(READ_WRITE, 0, 0x10000, 1).unwrap();
    assert_eq!(attached.unmap(0x10000, 0x1000), Ok(0x1000));
    assert_eq!(take_unmapped(&vfio, second), [], "nothing of it was pinned");
}

#[test]
fn whoever_leaves_an_ioas_has_nothing_pinned() {
    let (vfio, function) = one();
    let before = vfio.usage();
    let attached = Attached::new(&vfio, function);
    attached.map(READ_WRITE, 0, 0x10000, 4).unwrap();
    let other = attached.client.ioas(attached.iommufd);
    let all = (0, u64::MAX);
    vfio.pin_pages(function, 0x10000, 4, true).unwrap();
    attached.client.attach(attached.device, attached.ioas).unwrap();
    assert_eq!((take_unmapped(&vfio, function), pinned(&vfio)), (vec![], 4), "it does not leave");
    attached.client.attach(attached.device, other).unwrap();
    assert_eq!((take_unmapped(&vfio, function), pinned(&vfio)), (vec![all], 0));
    assert_refused!(vfio.pin_pages(function, 0x10000, 1, true), ENOENT, "access.unmapped");
    attached.client.destroy(attached.iommufd, attached.ioas).unwrap();
    attached.client.detach(attached.device).unwrap();
    assert_eq!(take_unmapped(&vfio, function), [all]);

    attached.client.attach(attached.device, other).unwrap();
    attached.client.map(attached.iommufd, other, BUFFER, 0x10000, 4 * PAGE);
    vfio.pin_pages(function, 0x10000, 4, true).unwrap();
    vfio.release(attached.device);
    assert_eq!((take_unmapped(&vfio, function), pinned(&vfio)), (vec![all], 0));
    vfio.release(attached.iommufd);
    assert_eq!(vfio.usage(), before);
}

#[test]
fn its_driver_copies() {
    let (vfio, function) = one();
    let attached = Attached::new(&vfio, function);
    attached.map(READ_WRITE, 0, 0x10000, 2).unwrap();
    attached.map(READ, 7, 0x12000, 1).unwrap();
    let read = |iova, length| {
        let mut bytes = vec![0; length];
        vfio.transfer(function, iova, Transfer::Read(&mut bytes)).map(|()| bytes)
    };
    let write = |iova, bytes: &[u8]| vfio.transfer(function, iova, Transfer::Write(bytes));
    write(0x10ffd, b"across pages").unwrap();
    assert_eq!(read(0x10ffd, 12), Ok(b"across pages".to_vec()));
    let task = attached.client.caller.task;
    let mut bytes = [0; 12];
    vfio.host().ram(|ram| ram.read(task, BUFFER + 0xffd, &mut bytes)).unwrap();
    assert_eq!(&bytes, b"across pages");
    assert_refused!(write(0x11ffe, b"read-only"), EPERM, "access.rights");
    assert_eq!(read(0x11ffe, 4), Ok(vec![b'r', b'e', 0, 0]), "what came before the refusal was written");
    assert_refused!(read(0x12ffe, 4), ENOENT, "access.unmapped");
    assert_refused!(read(0x10000, 0), EINVAL, "access.length");
    assert_refused!(read(u64::MAX, 2), EOVERFLOW, "access.wraps");
    attached.map(READ_WRITE, 15, 0x20000, 2).unwrap();
    assert_refused!(read(0x20ffe, 4), EFAULT, "pin.fault");
    assert_eq!(pinned(&vfio), 0);
    attached.client.detach(attached.device).unwrap();
    assert_refused!(read(0x10000, 1), ENOENT, "access.detached");
}

#[test]
fn a_bar_is_no_memory() {
    let vfio = exporting(&[TestFunction::express()]);
    let (pci, function) = (Function(0), vfio.host().add_emulated());
    vfio.register_emulated(function).unwrap();
    let attached = Attached::new(&vfio, function);
    let fd = attached.client.caller.install(Descriptor::Ours(attached.iommufd));
    let device = attached.client.open(pci.0);
    attached.client.bind(device, fd).unwrap();
    attached.client.set_config(device, 4, 2, 2);
    let export = export(&attached.client, device, &[(0, PAGE)]);
    let flags = READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA;
    let mut map = IommuIoasMapFile {
        flags,
        ioas_id: attached.ioas,
        fd: export,
        length: PAGE,
        iova: 0x10000,
        ..Command::new()
    };
    attached.client.call(attached.iommufd, &mut map).unwrap();
    assert_refused!(vfio.pin_pages(function, 0x10000, 1, true), EINVAL, "access.bar");
    assert_refused!(vfio.transfer(function, 0x10000, Transfer::Write(&[1])), EINVAL, "access.bar");
}
