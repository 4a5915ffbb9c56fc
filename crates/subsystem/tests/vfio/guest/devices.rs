//! vIOMMUs and virtual devices.

use super::*;
use crate::client::{assert_refused, state};

const SELFTEST: u32 = IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST;

impl Guest<'_> {
    /// Whether the entries of the cache of the device are these.
    fn caches(&self, cache: [u32; 4]) -> bool {
        (0_u32..).zip(cache).all(|(id, cache)| {
            self.test(IOMMU_TEST_OP_DEV_CHECK_CACHE, self.device, IommuTestCheckDevCache { id, cache })
                .is_ok()
        })
    }
}

fn entry(flags: u32, vdev_id: u32, cache_id: u32) -> IommuViommuInvalidateSelftest {
    IommuViommuInvalidateSelftest { flags, vdev_id, cache_id }
}

#[test]
fn what_a_viommu_is_made_from() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let other = guest.table(0).unwrap();
    let nested = guest.nested(guest.parent, 0).unwrap();
    let before = state(&vfio);
    let alloc = |argument: IommuViommuAlloc| guest.call(&mut { argument });
    let good = || guest.viommu_argument();
    assert_refused!(alloc(IommuViommuAlloc { flags: 1, ..good() }), EOPNOTSUPP, "viommu.fields");
    assert_refused!(alloc(IommuViommuAlloc { dev_id: 99, ..good() }), ENOENT, "viommu.device");
    assert_refused!(alloc(IommuViommuAlloc { type_: 1, ..good() }), EOPNOTSUPP, "viommu.unsupported");
    for hwpt_id in [99, guest.ioas, nested] {
        assert_refused!(alloc(IommuViommuAlloc { hwpt_id, ..good() }), ENOENT, "hwpt.unknown");
    }
    assert_refused!(alloc(IommuViommuAlloc { hwpt_id: other, ..good() }), EINVAL, "viommu.parent");
    let data = IommuViommuAlloc { data_len: 24, data_uptr: DATA, ..good() };
    assert_refused!(alloc(IommuViommuAlloc { data_len: 7, ..data }), EINVAL, "user-data.length");
    assert_refused!(alloc(IommuViommuAlloc { data_uptr: 0, ..data }), EFAULT, "user-data.unreadable");
    assert_eq!(state(&vfio), before);

    guest.data(&IommuViommuSelftest { in_data: 0xbeef, ..Default::default() });
    alloc(data).unwrap();
    let mut reply = [0; 8];
    guest.client.caller.read(DATA, &mut reply).unwrap();
    assert_eq!(reply, [0xef, 0xbe, 0, 0, 0xef, 0xbe, 0, 0]);
    guest.close(&[]);
}

#[test]
fn a_viommu_keeps_its_parent_and_is_kept_by_what_belongs_to_it() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.viommu().unwrap();
    assert_refused!(guest.destroy(guest.parent), EBUSY, "destroy.hwpt-in-use");
    let nested = guest.nested(viommu, 0).unwrap();
    let vdevice = guest.vdevice(viommu, guest.device, 9).unwrap();
    let (events, file) = guest.events(viommu, 1).unwrap();
    vfio.release(file);
    for id in [nested, vdevice, events] {
        assert_refused!(guest.destroy(viommu), EBUSY, "destroy.viommu-in-use");
        guest.destroy(id).unwrap();
    }
    guest.destroy(viommu).unwrap();
    guest.destroy(guest.parent).unwrap();
    guest.close(&[]);
}

#[test]
fn the_data_and_flags_of_a_nested_page_table_of_a_viommu() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.viommu().unwrap();
    let alloc = |argument: IommuHwptAlloc| guest.call(&mut { argument });
    let good = || guest.nested_argument(viommu, 0);
    assert_refused!(alloc(IommuHwptAlloc { flags: 1 << 31, ..good() }), EOPNOTSUPP, "hwpt-alloc.nested");
    let data = IommuHwptAlloc { data_type: 0, data_len: 0, ..good() };
    assert_refused!(alloc(data), EOPNOTSUPP, "hwpt-alloc.nested");
    assert_refused!(alloc(IommuHwptAlloc { data_type: 1, ..good() }), EOPNOTSUPP, "test.nested-data");
    guest.close(&[]);
}

#[test]
fn a_device_has_one_name_in_one_guest() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let [viommu, second] = [0; 2].map(|_| guest.viommu().unwrap());
    let (_, other) = guest.new_device(0);
    assert_refused!(guest.vdevice(guest.parent, guest.device, 1), ENOENT, "viommu.unknown");
    assert_refused!(guest.vdevice(viommu, guest.stdev, 1), ENOENT, "viommu.device");
    let vdevice = guest.vdevice(viommu, guest.device, 1).unwrap();
    assert_refused!(guest.vdevice(viommu, guest.device, 2), EEXIST, "vdevice.twice");
    assert_refused!(guest.vdevice(second, guest.device, 1), EEXIST, "vdevice.twice");
    assert_refused!(guest.vdevice(viommu, other, 1), EEXIST, "vdevice.name");
    guest.vdevice(second, other, 1).unwrap();
    guest.destroy(vdevice).unwrap();
    assert_eq!(guest.vdevice(viommu, guest.device, u64::MAX), Ok(vdevice), "the id is free again");
    guest.close(&[]);
}

#[test]
fn a_device_without_a_name_is_not_attached_to_a_page_table_of_a_viommu() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.viommu().unwrap();
    let nested = guest.nested(viommu, 0).unwrap();
    let before = state(&vfio);
    assert_refused!(guest.replace(nested), ENOENT, "attach.vdevice");
    assert_eq!(state(&vfio), before);
    guest.vdevice(viommu, guest.device, 1).unwrap();
    assert_eq!(guest.replace(nested), Ok(nested));
    guest.close(&[]);
}

#[test]
fn the_id_of_a_virtual_device_that_went_with_its_device_stays_taken() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.viommu().unwrap();
    let vdevice = guest.vdevice(viommu, guest.device, 1).unwrap();
    let (last, _) = guest.new_device(0);
    guest.destroy(guest.stdev).unwrap();
    assert_refused!(guest.destroy(vdevice), ENOENT, "destroy.unknown");
    let taken: Vec<u32> = (0..6).map(|_| guest.client.ioas(guest.iommufd)).collect();
    assert!(taken.contains(&guest.device) && !taken.contains(&vdevice), "{taken:?}");
    guest.destroy(viommu).expect("nothing uses it");
    guest.destroy(last).unwrap();
    guest.close(&[]);
}

#[test]
fn an_invalidation_of_a_viommu_is_about_devices_of_the_guest() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let viommu = guest.viommu().unwrap();
    guest.vdevice(viommu, guest.device, 0x99).unwrap();
    const OLD: u32 = IOMMU_TEST_DEV_CACHE_DEFAULT;
    assert!(guest.caches([OLD; 4]));
    let none: [IommuViommuInvalidateSelftest; 0] = [];
    assert_eq!(guest.invalidate(viommu, SELFTEST, &none), (Ok(()), 0));
    let (refused, _) = guest.invalidate(viommu, SELFTEST - 1, &none);
    assert_refused!(refused, EINVAL, "user-data.kind");

    let invalidate = |entries: &[IommuViommuInvalidateSelftest]| guest.invalidate(viommu, SELFTEST, entries);
    let (refused, done) = invalidate(&[entry(0, 0x99, 0), entry(2, 0x99, 1)]);
    assert_refused!(refused, EOPNOTSUPP, "test.invalidate-flags");
    assert_eq!((done, guest.caches([0, OLD, OLD, OLD])), (1, true));
    let (refused, done) = invalidate(&[entry(0, 0x99, 4)]);
    assert_refused!(refused, EINVAL, "test.invalidate-entry");
    assert_eq!(done, 0);
    let (refused, done) = invalidate(&[entry(0, 0x99, 1), entry(0, 9, 0)]);
    assert_refused!(refused, EINVAL, "test.invalidate-device");
    assert_eq!((done, guest.caches([0, 0, OLD, OLD])), (1, true));
    assert_eq!(invalidate(&[entry(1, 0x99, 0)]), (Ok(()), 1));
    assert!(guest.caches([0; 4]));

    // An entry may be longer than is known, if the rest is zero.
    let (refused, done) = guest.invalidate(viommu, SELFTEST, &[[0x99_u32, 0, 0, 1]]);
    assert_refused!(refused, E2BIG, "user-data.tail");
    assert_eq!(done, 0);
    assert_eq!(guest.invalidate(viommu, SELFTEST, &[[0_u32, 0x99, 0, 0]]), (Ok(()), 1));
    guest.close(&[]);
}

#[test]
fn a_device_that_is_behind_another_iommu_or_none_is_not_in_the_guest() {
    let vfio = kernel_with(&[TestFunction::express()]);
    let guest = Guest::new(&vfio);
    let viommu = guest.viommu().unwrap();
    let device = guest.client.open(0);
    let fd = guest.client.caller.install(Descriptor::Ours(guest.iommufd));
    let stranger = guest.client.bind(device, fd).unwrap();
    assert_refused!(guest.vdevice(viommu, stranger, 1), EINVAL, "viommu.other-iommu");
    let mut nested = IommuHwptAlloc { dev_id: stranger, ..guest.nested_argument(viommu, 0) };
    assert_refused!(guest.call(&mut nested), EINVAL, "viommu.other-iommu");
    let mut nested = IommuHwptAlloc { pt_id: guest.parent, ..nested };
    assert_refused!(guest.call(&mut nested), EOPNOTSUPP, "hwpt-alloc.nested");
    let mut argument = IommuViommuAlloc { dev_id: stranger, ..guest.viommu_argument() };
    assert_refused!(guest.call(&mut argument), EOPNOTSUPP, "viommu.unsupported");
    vfio.release(device);
}

#[test]
fn a_reply_that_cannot_be_written_leaves_nothing() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let before = state(&vfio);
    guest.data(&IommuViommuSelftest::default());
    let argument = IommuViommuAlloc { data_len: 24, data_uptr: DATA, ..guest.viommu_argument() };
    let task = guest.client.caller.task;
    guest.client.caller.write(ARGUMENT, argument.as_bytes()).unwrap();
    vfio.host().ram(|ram| ram.protect(task, ARGUMENT, false));
    let call = |command| vfio.ioctl(&guest.client.caller.ctx(), guest.iommufd, command, ARGUMENT);
    assert_refused!(call(IOMMU_VIOMMU_ALLOC), EFAULT, "user-data.unwritable");
    vfio.host().ram(|ram| ram.protect(task, ARGUMENT, true));
    let argument = IommuViommuAlloc { data_len: 0, ..argument };
    guest.client.caller.write(ARGUMENT, argument.as_bytes()).unwrap();
    vfio.host().ram(|ram| ram.protect(task, ARGUMENT, false));
    assert_refused!(call(IOMMU_VIOMMU_ALLOC), EFAULT, "iommufd.argument-unwritable");
    vfio.host().ram(|ram| ram.protect(task, ARGUMENT, true));
    assert_eq!(state(&vfio), before);
    guest.close(&[]);
}
